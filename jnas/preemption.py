"""Preemption: SIGTERM ends a run at once, though never in the middle of a save."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator

EXIT_SIGTERM = 128 + signal.SIGTERM
PATIENCE = 20.0  # seconds that a running save gets; schedulers kill after 30

saving = threading.Lock()  # held while a checkpoint is written


@contextlib.contextmanager
def leave_on_sigterm() -> Iterator[None]:
    """Within it, SIGTERM says one line and ends the process with exit code 143.

    The last checkpoint is on disk already, so nothing is waited for but a save that is running. A
    thread does it: the main thread may be inside a compiled program for long, where Python calls
    no signal handler. A handler that somebody else has set stays, and so does the one of an outer
    `leave_on_sigterm`.
    """
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    receive, send = os.pipe()
    os.set_blocking(send, False)
    watcher = threading.Thread(target=_watch, args=(receive,), daemon=True)
    watcher.start()
    others = signal.set_wakeup_fd(send, warn_on_full_buffer=False)
    if others != -1:  # an event loop's; a thread that the handler starts has to do
        signal.set_wakeup_fd(others)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=_leave, daemon=True).start())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if others == -1:
            signal.set_wakeup_fd(-1)
        os.close(send)
        watcher.join()
        os.close(receive)


def _watch(pipe: int) -> None:
    """Reads the numbers of the signals that arrive, until the pipe is closed."""
    while numbers := os.read(pipe, 64):
        if signal.SIGTERM in numbers:
            _leave()


def _leave() -> None:
    whole = saving.acquire(timeout=PATIENCE)
    end = "the same command goes on from here"
    if not whole:
        end = f"a save took longer than {PATIENCE:.0f} s, so it goes on from the one before"
    start = "\r\x1b[K" if sys.stderr.isatty() else ""
    with contextlib.suppress(OSError):
        os.write(2, f"{start}jnas: stopped by SIGTERM; {end}\n".encode())
    os._exit(EXIT_SIGTERM)
