"""The parent of one process of a cluster: it turns how that process ends into one clear line.

Where a process is lost, JAX's runtime ends the others from native code, which no handler of theirs
can catch: with a signal and a page of its own log. So each works in a child of a small parent that
never joins the cluster, keeps that log back, and says what has happened.
"""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from typing import IO

from jnas.cluster import ADVICE, LOST, TOGETHER

CHILD = "JNAS_SUPERVISED"

_NATIVE = re.compile(r"[EFW]\d{4} \d\d:\d\d:\d\d\.\d+ |\*\*\* Check failure")
_CHATTER = "[Gloo] Rank "
_ENDED = "JAX distributed service detected fatal errors"


def supervise(args: Sequence[str]) -> int:
    """Runs `jnas` with these arguments in a child, and returns its exit code.

    Signals to end go on to the child, and a child whose parent is gone ends too.

    Returns:
      The child's code, `LOST` where another process was lost or never came, and 128 + the number
      of a signal that ended it.
    """
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-m", "jnas", *args],
        env={**os.environ, CHILD: "1"},
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as child:
        assert child.stdout is not None and child.stderr is not None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda n, frame: child.send_signal(n))
        held: list[str] = []
        talk = threading.Thread(target=_pass_on, args=(child.stdout, sys.stdout, []))
        talk.start()
        advised = _pass_on(child.stderr, sys.stderr, held)
        talk.join()
        code, log = child.wait(), "".join(held)
    if code == -signal.SIGABRT and _ENDED in log:
        if advised:
            return LOST
        if "RegisterTask" in log:
            what = f"not all processes came to the coordinator within {TOGETHER} s"
        else:
            what = f"another process was lost; {ADVICE}"
        print(f"jnas: {what}", file=sys.stderr)
        return LOST
    if code not in (0, LOST):
        sys.stderr.write(log)
    return code if code >= 0 else 128 - code


def _pass_on(lines: Iterable[str], out: IO[str], held: list[str]) -> bool:
    """Copies lines, but holds the native log back: from its first line up to the next of ours.

    Returns:
      Whether one of ours said that a process was lost.
    """
    native = advised = False
    for line in lines:
        if line.startswith(_CHATTER):
            continue
        ours = line.startswith("jnas: ")
        advised |= ours and ADVICE in line
        native = not ours and (native or bool(_NATIVE.match(line)))
        if native:
            held.append(line)
        else:
            out.write(line)
            out.flush()
    return advised


def is_child() -> bool:
    """Whether this process runs under a supervisor."""
    return CHILD in os.environ


def end_with_parent() -> None:
    """Ends this process as soon as its supervisor is gone."""

    def wait() -> None:
        while os.read(0, 1024):
            pass
        os._exit(LOST)

    threading.Thread(target=wait, daemon=True).start()
