"""Where the command line begins: `lstmstate` and `python -m lstmstate`."""

from __future__ import annotations

import gc
import signal
import sys


def main() -> None:
    """Run the command line; Ctrl-C ends the process at once while it is still being loaded."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # and not ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    # A short process makes no cycles worth collecting; looking for them takes a tenth of it.
    gc.disable()
    from lstmstate.cli import main as run

    code = run()
    gc.freeze()  # nor are they looked for at the end
    sys.exit(code)


if __name__ == "__main__":
    main()
