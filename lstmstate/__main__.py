"""Entry point of `lstmstate` and `python -m lstmstate`."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
from contextlib import suppress

_PROGRAMS = ("lstmstate", "lstmstate.exe", "__main__.py")
_codes: list[int] = []  # the exit code, once the command has ended


def main() -> None:
    """Run the command line; Ctrl-C while it is loaded ends the process at once."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # and not ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Garbage collection takes a tenth of a short process, and finds nothing.
    gc.disable()
    from lstmstate.cli import main as run

    code = run()
    gc.freeze()  # no collection at exit either
    if os.path.basename(sys.argv[0]) in _PROGRAMS:  # no other program continues
        _codes.append(code)
    sys.exit(code)


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
