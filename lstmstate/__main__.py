"""Where the command line begins: `lstmstate` and `python -m lstmstate`."""

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
    """Run the command line; Ctrl-C ends the process at once while it is still being loaded."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # and not ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    # A short process makes no cycles worth collecting; looking for them takes a tenth of it.
    gc.disable()
    from lstmstate.cli import main as run

    code = run()
    gc.freeze()  # nor are they looked for at the end
    if os.path.basename(sys.argv[0]) in _PROGRAMS:  # no other program goes on after it
        _codes.append(code)
    sys.exit(code)


def _end() -> None:
    """End the process without taking apart all that was loaded, which takes a twentieth of it."""
    for code in _codes:
        for stream in (sys.stdout, sys.stderr):
            with suppress(AttributeError, OSError, ValueError):  # it is None, or closed
                stream.flush()
        os._exit(code)


# The first that is registered is called last. If others were there before, as those of a debugger
# or of a measurement of coverage, all are called, and the process ends as Python ends it.
if getattr(atexit, "_ncallbacks", lambda: 1)() == 0:
    atexit.register(_end)

if __name__ == "__main__":
    main()
