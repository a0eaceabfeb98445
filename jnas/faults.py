"""What goes wrong outside of jnas: how a full disk or a full memory is recognised and told."""

import errno
import os
import re
import sys
from collections.abc import Iterator

EXIT_DISK = 74  # EX_IOERR of sysexits.h

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)
_CODE = re.compile(r"os_error_code='(\d+)'")  # how TensorStore writes an errno into its message


def warn(text: str) -> None:
    """Says something in one line on standard error, clear of a line of progress."""
    start = "\r\x1b[K" if sys.stderr.isatty() else ""
    print(f"{start}jnas: {' '.join(text.split())}", file=sys.stderr, flush=True)


def disk_error(error: BaseException) -> OSError | None:
    """The error of the disk behind an exception, such as a full one; None where there is none."""
    for e in _behind(error):
        if isinstance(e, OSError) and e.errno in _DISK:
            return e
        for code in map(int, _CODE.findall(str(e))):
            if code in _DISK:
                return OSError(code, os.strerror(code))
    return None


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that the memory of a device or of the host is used up."""
    of_xla = type(error).__name__ == "JaxRuntimeError" and "RESOURCE_EXHAUSTED" in str(error)
    return of_xla or isinstance(error, MemoryError)


def _behind(error: BaseException | None) -> Iterator[BaseException]:
    """An exception, those that it groups, and those that it comes from."""
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            for inner in error.exceptions:
                yield from _behind(inner)
        error = error.__cause__ or error.__context__
