"""Where the command line begins: `lstmstate` and `python -m lstmstate`."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
from contextlib import suppress

_codes: list[int] = []  # the exit code, once the command has ended


def main() -> None:
    """Run the command line; Ctrl-C ends the process at once while it is still being loaded."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # and not ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    # A short process makes no cycles worth collecting; looking for them takes a tenth of it.
    gc.disable()
    from lstmstate.cli import main as run

    _codes.append(run())
    sys.exit(_codes[0])


def _end() -> None:
    """End the process without taking apart all that was loaded, which takes a twentieth of it."""
    for code in _codes:
        for stream in (sys.stdout, sys.stderr):
            with suppress(AttributeError, OSError, ValueError):  # it is None, or closed
                stream.flush()
        os._exit(code)


atexit.register(_end)  # what is registered first is called last

if __name__ == "__main__":
    main()
