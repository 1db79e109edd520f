"""Commands that get a signal at a counted moment: at some call since an output was begun."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from commands import PROJECT

_SCRIPT = """
import atexit, os, sys
number, moment = map(int, sys.argv[1:3])
del sys.argv[1:3]
calls = 0

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
    number: signal.Signals,
    moment: int,
    *arguments: str | Path,
    before: Callable[[], object] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run a command that sends itself a signal at a call; one that ends earlier prints its calls.

    Args:
        moment: which call and which return it is, of those since the first output was begun.
        before: is called in the process before the command begins.
    """
    return subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(int(number)), str(moment), *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd=PROJECT,
        preexec_fn=before,
        check=False,
    )


def calls(*arguments: str | Path) -> int:
    """Run a command to its end; return how many calls and returns there are."""
    done = interrupted(signal.SIGTERM, NEVER, *arguments)
    assert done.returncode == 0
    return int(done.stderr)
