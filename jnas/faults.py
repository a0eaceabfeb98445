"""What goes wrong outside of jnas: how a full disk or a full memory is recognised and told."""

import contextlib
import errno
import logging
import os
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

EXIT_DISK = 74  # EX_IOERR of sysexits.h

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)
_ENDING = (  # what threads of a save run into that are left over when the process ends
    "Event loop is closed",
    "cannot schedule new futures after shutdown",
    "cannot schedule new futures after interpreter shutdown",
)
_CODE = re.compile(r"os_error_code='(\d+)'")  # how TensorStore writes an errno into its message


def warn(text: str) -> None:
    """Says something in one line on standard error, clear of a line of progress."""
    start = "\r\x1b[K" if sys.stderr.isatty() else ""
    with contextlib.suppress(OSError):  # standard error may be a file on the full disk
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


@contextlib.contextmanager
def plain_disk_errors(path: Path) -> Iterator[None]:
    """Turns whatever a library makes of an error of the disk into one `OSError` with `path`."""
    try:
        yield
    except Exception as e:
        found = disk_error(e)
        if found is None:
            raise
        raise OSError(found.errno, found.strerror, str(path)) from e


@contextlib.contextmanager
def said_once() -> Iterator[None]:
    """Keeps a library from printing errors of the disk that it raises as well.

    Orbax logs them and lets them end its threads; when they have ended a save, TensorStore finds
    the event loop that it reports to closed, and other threads of Orbax that the process ends.
    """

    def told(error: BaseException | None) -> bool:
        ending = isinstance(error, RuntimeError) and str(error) in _ENDING
        return error is not None and (ending or disk_error(error) is not None)

    def keep(record: logging.LogRecord) -> bool:
        return not (record.exc_info and told(record.exc_info[1]))

    def of_thread(args: threading.ExceptHookArgs) -> None:
        if not told(args.exc_value):
            hooks[0](args)

    def of_callback(args: "sys.UnraisableHookArgs") -> None:
        if not told(args.exc_value):
            hooks[1](args)

    hooks, log = (threading.excepthook, sys.unraisablehook), logging.getLogger("absl")
    threading.excepthook, sys.unraisablehook = of_thread, of_callback
    log.addFilter(keep)
    failed = False
    try:
        yield
    except Exception as e:
        failed = disk_error(e) is not None
        raise
    finally:
        if not failed:  # else threads of the save may still be ending
            threading.excepthook, sys.unraisablehook = hooks
            log.removeFilter(keep)


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
