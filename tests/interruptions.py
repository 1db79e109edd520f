"""Commands that get a signal at a counted moment: at some call since an output was begun."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from commands import PROJECT

_SCRIPT = """
import atexit, os, signal, sys
number, moment, ignored = map(int, sys.argv[1:4])
del sys.argv[1:4]
calls = 0
if ignored:
    signal.signal(number, signal.SIG_IGN)

def count(frame, event, argument):
    global calls
    calls += 1
    if calls == moment:
        os.kill(os.getpid(), number)

def begin(event, arguments):
    if event == "open" and str(arguments[0]).endswith(".tmp"):
        sys.setprofile(count)

def end():
    sys.setprofile(None)
    if calls < moment:
        print(calls, file=sys.stderr)

sys.addaudithook(begin)
atexit.register(end)
from lstmstate.__main__ import main
main()
"""
NEVER = 1 << 60


def interrupted(
    number: signal.Signals, moment: int, *arguments: str | Path, ignored: bool = False
) -> subprocess.CompletedProcess[bytes]:
    """Run a command that sends itself a signal at a call; one that ends earlier prints its calls.

    Args:
        moment: the number of the call or return, counted since the first output was begun.
        ignored: whether the process ignores the signal when the command begins.
    """
    how = map(str, (int(number), moment, int(ignored)))
    return subprocess.run(
        [sys.executable, "-c", _SCRIPT, *how, *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd=PROJECT,
        check=False,
    )


def calls(*arguments: str | Path) -> int:
    """Run a command to its end; return how many calls and returns there are."""
    done = interrupted(signal.SIGTERM, NEVER, *arguments)
    assert done.returncode == 0
    return int(done.stderr)
