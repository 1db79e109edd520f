"""Entry point of `lstmstate` and `python -m lstmstate`, and the end of the process."""

from __future__ import annotations

import sys

if __name__ == "__main__" and not getattr(sys.flags, "safe_path", sys.flags.isolated):
    # With `python -m` the first place to import from is the current folder, maybe a stranger's.
    sys.path.pop(0)

import atexit
import gc
import os
import signal
from contextlib import suppress
from types import FrameType

_PROGRAMS = ("lstmstate", "lstmstate.exe", "__main__.py")
_codes: list[int] = []  # the exit code, once the command has ended
_PATIENCE = 0.5  # seconds that a signal waits for a library to return


def main() -> None:
    """Run the command line; a signal ends the process, also while it is loaded."""
    _end_at_signals()
    # Garbage collection takes a tenth of a short process, and finds nothing.
    gc.disable()
    from lstmstate.cli import main as run

    code = run()
    gc.freeze()  # no collection at exit either
    if os.path.basename(sys.argv[0]) in _PROGRAMS:  # no other program continues
        _codes.append(code)
    sys.exit(code)


def _end_at_signals() -> None:
    """End the process at Ctrl-C, the end of a CI job and that of a terminal, unless ignored."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number and signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _end_at_signal)
    if os.name == "posix":
        from _thread import start_new_thread

        with suppress(OSError, RuntimeError):  # no more files or threads are allowed
            reader, writer = os.pipe()
            os.set_blocking(writer, False)
            signal.set_wakeup_fd(writer)
            start_new_thread(_watch, (reader,))


def _end_at_signal(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    """End the process here: an exception would be lost where a library or `__del__` calls back."""
    try:
        for module, function in (
            ("lstmstate.files.atomic", "remove_left"),
            ("lstmstate.cli.report.console", "clear_progress"),
        ):
            getattr(sys.modules.get(module), function, int)()
    finally:
        os._exit(128 + number)


def _watch(reader: int) -> None:
    """End the process at a signal during a long call of a library, after which Python sees it."""
    from time import sleep

    while number := os.read(reader, 1)[0]:
        sleep(_PATIENCE)
        # Files that are renamed now have another handler; the signal ends the process after that.
        if signal.getsignal(number) is _end_at_signal:
            _end_at_signal(number, None)


def _end() -> None:
    """End the process without unloading modules, which takes a twentieth of it."""
    for code in _codes:
        for stream in (sys.stdout, sys.stderr):
            with suppress(AttributeError, OSError, ValueError):  # it is None, or closed
                stream.flush()
        os._exit(code)


# The function registered first is called last. With functions registered before, such as those of a
# debugger or of a coverage measurement, all are called, and the process ends as usual.
if getattr(atexit, "_ncallbacks", lambda: 1)() == 0:
    atexit.register(_end)

if __name__ == "__main__":
    main()
