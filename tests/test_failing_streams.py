"""stdout and stderr that are full or closed, or that nobody reads any more.

They never change what a command does, and only stdout changes its exit code, where it is full or
closed: then the answer is lost.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import groupby, product
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from commands import LOAD_ALL, LSTMSTATE, PROJECT, SAMPLES, in_folder, numbers, saved
from covering import covering

CELL = str(SAMPLES / "peephole_flat")
# Each run of a command is a copy of this process.
_SCRIPT = """
import io, json, os, sys
from lstmstate.__main__ import main

def attach(number, state, path):
    if state == "closed":
        os.close(number)
        return
    reader, found = os.pipe() if state == "gone" else (None, None)
    if state == "gone":
        os.close(reader)
    elif state == "full":
        found = os.open("/dev/full", os.O_WRONLY)
    else:
        found = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(found, number)
    os.close(found)

def opened(number, buffered):
    try:
        os.fstat(number)
    except OSError:
        return None
    if buffered:
        return open(number, "w", closefd=False, errors=("strict", "backslashreplace")[number - 1])
    return io.TextIOWrapper(open(number, "wb", 0, closefd=False), write_through=True)

while line := sys.stdin.readline():
    arguments, states, paths, buffered = json.loads(line)
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number in (1, 2):
            attach(number, states[number - 1], paths[number - 1])
        sys.stdout, sys.stderr = opened(1, buffered), opened(2, buffered)
        sys.__stdout__, sys.__stderr__ = sys.stdout, sys.stderr
        sys.argv[:] = ["lstmstate", *arguments]
        main()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
# For each command and exit code, its arguments; ALL.npy is not there, and files go to OUT.
RUNS = {
    "inspect 0": "CELL",
    "inspect --json 0": "CELL flat.npy",
    "inspect 2": "CELL --cells",
    "inspect 3": "ALL.npy",
    "inspect 4": "CELL ALL.npy",
    "inspect --json 4": "flat.npy ALL.npy",
    "convert 0": "flat.npy --to-tuple -o OUT/y.npz",
    "convert -o - 0": "flat.npy --to-tuple",
    "convert 2": "flat.npy",
    "convert 3": "flat.npy --to-tuple --units 3 -o OUT/y.npz",
    "convert 4": "ALL.npy flat.npy other.npy --to-tuple --out-dir OUT",
    "convert --json 4": "ALL.npy flat.npy other.npy --to-tuple --out-dir OUT",
    "split 0": "flat.npy -o OUT/c.npy OUT/m.npy",
    "split --json 0": "flat.npy -o OUT/c.npy OUT/m.npy",
    "split 2": "flat.npy",
    "split 3": "ALL.npy -o OUT/c.npy OUT/m.npy",
    "concat 0": "c.npy m.npy -o OUT/flat.npy",
    "concat -o - 0": "c.npy m.npy",
    "concat 2": "c.npy -o OUT/flat.npy",
    "concat 3": "c.npy ALL.npy -o OUT/flat.npy",
    "run 0": "CELL x.npy",
    "run -o - 0": "CELL x.npy --state-out OUT/state.npz",
    "run --state-out - 0": "CELL x.npy -o OUT/y.npy --state-layout flat",
    "run 2": "CELL",
    "run 3": "CELL ALL.npy",
    "run 4": "CELL ALL.npy x.npy --out-dir OUT",
    "verify 0": "CELL --against graph --seed 1",
    "verify 1": "CELL x.npy --against graph --tolerance 0",
    "verify 2": "CELL --against nobody",
    "verify 3": "ALL.npy",
    "verify --json 4": "CELL x.npy ALL.npy --against graph",
    "diff 0": "flat.npy flat.npy",
    "diff 1": "flat.npy other.npy",
    "diff 2": "flat.npy",
    "diff 3": "flat.npy ALL.npy",
    "check 0": "flat.npy --units 4",
    "check --json 0": "flat.npy --units 4",
    "check 1": "flat.npy --units 3",
    "check 2": "flat.npy",
    "check 3": "ALL.npy --units 4",
    "check 4": "flat.npy ALL.npy --units 3",
    "--help 0": "",
    "--version 0": "",
    "check --help 0": "",
    " 2": "",
    "nothing 2": "",
    "--nothing 2": "",
}
STATES = ("full", "closed", "gone")


class Ended(NamedTuple):
    """The result of a command: its exit code, its streams and the files that it wrote."""

    code: int
    out: bytes
    err: bytes
    files: dict[str, bytes | None]


Run = Callable[..., Ended]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A function that runs a command with some states of its streams."""
    folder = tmp_path_factory.mktemp("streams")
    flat = numbers(3, 8)
    for name, values in [
        *(("flat", flat), ("other", -flat), ("c", flat[:, :4]), ("m", flat[:, 4:])),
        ("x", numbers(4, 5, 3)),
    ]:
        saved(folder / f"{name}.npy", values)
    command = [sys.executable, "-c", LOAD_ALL + _SCRIPT]
    paths = [str(folder / name) for name in ("stdout", "stderr")]
    number = 0
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=folder, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def run(name: str, *states: str, buffered: bool = True) -> Ended:
            nonlocal number
            number += 1
            out = folder / f"out{number}"
            out.mkdir()
            words = [*name.split()[:-1], *RUNS[name].split()]
            given = [word.replace("OUT", out.name).replace("CELL", CELL) for word in words]
            for path in paths:
                Path(path).write_bytes(b"")
            stdin.write(json.dumps([given, states, paths, buffered]) + "\n")
            stdin.flush()
            code = int(stdout.readline())
            read = [Path(path).read_bytes().replace(out.name.encode(), b"OUT") for path in paths]
            return Ended(code, *read, in_folder(out))

        yield run
        stdin.close()


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_streams_that_fail(run: Run, stream: str, request: pytest.FixtureRequest) -> None:
    problems = []
    every = list(product(RUNS, STATES, (True, False)))
    chosen = range(len(every)) if request.config.getoption("full") else covering(every, 2)
    for name, some in groupby((every[at] for at in chosen), key=itemgetter(0)):
        whole = run(name, "file", "file")
        assert whole.code == int(name.rpartition(" ")[2]), (name, whole.err)
        for _, state, buffered in some:
            states = (state, "file") if stream == "stdout" else ("file", state)
            is_lost = stream == "stdout" and bool(whole.out) and state != "gone"
            done = run(name, *states, buffered=buffered)
            expected = whole._replace(code=3) if is_lost else whole
            if stream == "stdout":
                lines = done.err.splitlines(keepends=True)
                last = b"lstmstate: error: stdout: it cannot be written ("
                if is_lost and lines and lines[-1].startswith(last):
                    lines.pop()
                expected = expected._replace(out=b"")
                done = done._replace(err=b"".join(lines))
            else:
                expected = expected._replace(err=b"")
            if done != expected:
                problems.append((name, state, buffered, done[:3], expected[:3]))
                if done.files != expected.files:
                    problems.append(("files", list(done.files), list(expected.files)))
    assert not problems, "\n".join(map(str, problems))


# ---- more than a pipe takes at once


@pytest.fixture(params=["", "1"], ids=["buffered", "unbuffered"])
def environment(request: pytest.FixtureRequest) -> dict[str, str]:
    """Variables of a process; most images of containers set this one."""
    return os.environ | {"PYTHONUNBUFFERED": request.param}


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A flat state of 800 kB."""
    return saved(tmp_path_factory.mktemp("large") / "flat.npy", numbers(2000, 100))


CONVERT = [*LSTMSTATE, "convert", "-q", "--to-tuple", "-o", "-"]


def test_a_disk_that_is_too_small_for_stdout(
    tmp_path: Path, large: Path, environment: dict[str, str]
) -> None:
    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (900_000, resource.RLIM_INFINITY))

    with (tmp_path / "stdout").open("wb") as stdout:
        stdout.write(bytes(500_000))
        stdout.flush()
        done = subprocess.run(
            [*CONVERT, large],
            stdout=stdout,
            stderr=subprocess.PIPE,
            env=environment,
            preexec_fn=limit,
            cwd=PROJECT,
            check=False,
        )
    assert done.returncode == 3
    assert done.stderr == b"lstmstate: error: stdout: it cannot be written (File too large)\n"


@pytest.mark.parametrize("by", ["command", "library"])
def test_a_pipe_that_does_not_wait_gets_everything(
    tmp_path: Path, large: Path, environment: dict[str, str], by: str
) -> None:
    script = (
        "import sys, lstmstate as l; l.convert(sys.argv[1], '-', layout='tuple', cells=[(9, 91)])"
    )
    command = [*CONVERT, large] if by == "command" else [sys.executable, "-c", script, large]
    reader, writer = os.pipe()
    os.set_blocking(writer, by == "library")
    with subprocess.Popen(command, stdout=writer, env=environment, cwd=PROJECT) as process:
        os.close(writer)
        with open(reader, "rb") as file:
            found = file.read()
    assert process.returncode == 0
    (tmp_path / "y.npz").write_bytes(found)
    with np.load(tmp_path / "y.npz") as arrays:
        assert sum(arrays[name].nbytes for name in ("state", "c", "m") if name in arrays) == 800_000


def test_files_are_there_though_the_reader_of_stdout_goes(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    data, state = saved(tmp_path / "x.npy", numbers(40_000, 3)), tmp_path / "state.npz"
    command = f"{' '.join(LSTMSTATE)} run -q {CELL} {data} -o - --state-out {state} | head -c 9"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        capture_output=True,
        env=environment,
        cwd=PROJECT,
        check=False,
    )
    assert (done.returncode, len(done.stdout), done.stderr) == (0, 9, b"")
    assert state.is_file()


def test_no_file_gets_the_number_of_a_closed_stream(tmp_path: Path, large: Path) -> None:
    """What a library prints would land in an output."""
    out = tmp_path / "out"
    script = (
        "import os\n"
        "from lstmstate.cli import main\n"
        "main()\n"
        f"with open({str(out)!r}, 'w') as file:\n"
        "    print(*(os.readlink(f'/proc/self/fd/{n}') for n in range(3)), file=file)"
    )
    line = 'exec "$0" -c "$1" inspect -q "$2" <&- >&- 2>&-'
    subprocess.run(["sh", "-c", line, sys.executable, script, large], cwd=PROJECT, check=False)
    assert out.read_text().split() == ["/dev/null"] * 3
