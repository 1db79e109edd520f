"""Commands that get a signal at a chosen call after their first output is opened."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import NamedTuple

from commands import LOAD_ALL, PROJECT

# Each run of the command is a copy of this process.
_SCRIPT = """
import atexit, os, signal, sys
from lstmstate.__main__ import main
number, ignored = map(int, sys.argv[1:3])
del sys.argv[1:3]
calls = 0
if ignored or number == signal.SIGHUP:  # which nohup leaves ignored
    signal.signal(number, signal.SIG_IGN if ignored else signal.SIG_DFL)

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

while line := sys.stdin.readline():
    moment = int(line)
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.addaudithook(begin)
        atexit.register(end)
        main()
        sys.exit()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
NEVER = 1 << 60


class Ended(NamedTuple):
    """The result of a command; one that ended before its signal printed its calls."""

    returncode: int
    stderr: bytes


@contextmanager
def interrupted(
    number: signal.Signals, *arguments: str | Path, ignored: bool = False
) -> Iterator[Callable[[int], Ended]]:
    """Yield a function that runs a command which sends itself a signal at a moment.

    The moment is the number of the call or return, counted from the opening of the first output.

    Args:
        ignored: whether the process ignores the signal when the command starts.
    """
    command = [
        sys.executable,
        "-c",
        LOAD_ALL + _SCRIPT,
        *map(str, (int(number), int(ignored), *arguments)),
    ]
    with (
        TemporaryFile() as stderr,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, cwd=PROJECT
        ) as process,
    ):
        assert process.stdin is not None and process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def run(moment: int) -> Ended:
            stderr.seek(0)
            stderr.truncate()
            stdin.write(b"%d\n" % moment)
            stdin.flush()
            code = int(stdout.readline())
            stderr.seek(0)
            return Ended(code, stderr.read())

        yield run
        stdin.close()


def calls(run: Callable[[int], Ended]) -> int:
    """Run a command to its end; return the number of calls and returns."""
    done = run(NEVER)
    assert done.returncode == 0
    return int(done.stderr)
