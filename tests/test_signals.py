"""Signals end a command wherever they come: with their exit code, at once, and without a trace."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryFile

import pytest
from commands import PROJECT, SAMPLES, numbers, saved

# Each run is a copy of a process that has loaded nothing; the signal comes at some call, counted
# from the start of the command on.
_SCRIPT = """
import os, signal, sys
from lstmstate.__main__ import main
calls = 0
for number in (signal.SIGINT, signal.SIGHUP):  # a job in the background ignores these
    signal.signal(number, signal.SIG_DFL)

def count(frame, event, argument):
    global calls
    calls += 1
    if calls == moment:
        os.kill(os.getpid(), number)

while line := sys.stdin.readline():
    number, moment, *arguments = line.split()
    number, moment = int(number), int(moment)
    child = os.fork()
    if not child:
        for descriptor in (0, 1):
            os.dup2(os.open(os.devnull, os.O_RDWR), descriptor)
        sys.argv[:] = ["lstmstate", *arguments]
        sys.setprofile(count)
        try:
            main()
        finally:
            sys.setprofile(None)
            os.write(2, b"%d\\n" % calls if calls < moment else b"")
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
# A command that calls a function when it opens an input.
_AT_OPEN = """
import os, signal, sys, weakref
from lstmstate.__main__ import main

class Sender:
    def __del__(self):
        send()

def send():
    os.kill(os.getpid(), number)
    for _ in range(10):
        pass

def in_weak_reference():
    found = Sender()
    Sender.__del__ = lambda self: None
    weakref.finalize(found, send)

def in_long_call():
    import hashlib, threading
    threading.Timer(0.2, send).start()
    hashlib.pbkdf2_hmac("sha256", b"", b"", 30_000_000)

def hook(event, arguments):
    if event == "open" and arguments[0] == sys.argv[-1] and not done:
        done.append(event)
        function()

done = []
number = int(sys.argv.pop(1))
signal.signal(number, signal.SIG_DFL)
function = {"in a destructor": Sender, "in a weak reference": in_weak_reference,
            "in a long call": in_long_call}[sys.argv.pop(1)]
sys.argv[0] = "lstmstate"
sys.addaudithook(hook)
main()
"""
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
FIRST, NEVER = 200, 1 << 60  # the first calls are those that install the handlers
COMMANDS = {
    "inspect": "{cell} {flat}",
    "convert": "{flat} --to-tuple -o {folder}/y.h5 --compress",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_signal_ends_a_command_at_any_moment(tmp_path: Path, command: str) -> None:
    """Also while modules are loaded."""
    flat = saved(tmp_path / "flat.npy", numbers(3, 8))
    words = COMMANDS[command].format(flat=flat, cell=SAMPLES / "peephole_flat", folder=tmp_path)
    with (
        TemporaryFile() as stderr,
        subprocess.Popen(
            [sys.executable, "-c", _SCRIPT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            cwd=PROJECT,
        ) as process,
    ):
        assert process.stdin is not None and process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def run(number: int, moment: int) -> int:
            stdin.write(f"{number} {moment} {command} -q {words}\n".encode())
            stdin.flush()
            return int(stdout.readline())

        assert run(signal.SIGTERM, NEVER) == 0
        stderr.seek(0)
        last = int(stderr.read())
        chance = random.Random(command)
        for number in SIGNALS:
            for moment in (FIRST, *(chance.randint(FIRST, last * 9 // 10) for _ in range(4))):
                for name in tmp_path.glob("y.*"):
                    name.unlink()
                assert run(number, moment) == 128 + number, moment
                assert os.listdir(tmp_path) == ["flat.npy"], moment
        stdin.close()
        stderr.seek(0)
        assert stderr.read() == b"%d\n" % last


@pytest.mark.parametrize(
    ("where", "number"),
    [
        *(("in a destructor", number) for number in SIGNALS),
        *(("in a weak reference", number) for number in SIGNALS),
        ("in a long call", signal.SIGTERM),
    ],
)
def test_a_signal_is_not_lost_in_a_callback(
    tmp_path: Path, where: str, number: signal.Signals
) -> None:
    path = saved(tmp_path / "flat.npy", numbers(3, 8))
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", _AT_OPEN, str(int(number)), where, "inspect", str(path)],
        capture_output=True,
        cwd=PROJECT,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, b"", b"")
    assert where != "in a long call" or time.monotonic() - start < 10
