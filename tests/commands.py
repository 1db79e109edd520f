"""A shell for the commands, and small states and checkpoints."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from builders import BundleBuilder
from numpy.typing import NDArray
from schemas import problems

from lstmstate.cli import execute as run

PROJECT = Path(__file__).resolve().parent.parent
SAMPLES = PROJECT / "sample_checkpoints"
SUNSPOTS = str(SAMPLES / "sunspots")
LSTMSTATE = [sys.executable, "-m", "lstmstate"]
# The start of a script whose copies run commands: all modules are loaded once.
LOAD_ALL = """
import importlib, pkgutil
import click, h5py, numpy.random, threadpoolctl, lstmstate
for module in pkgutil.walk_packages(lstmstate.__path__, "lstmstate."):
    importlib.import_module(module.name)
"""
FIRST, SECOND = (f"rnn/multi_rnn_cell/cell_{k}/basic_lstm_cell" for k in (0, 1))

Array = NDArray[Any]
Captured = pytest.CaptureFixture[str]


class Done(NamedTuple):
    """The result of a command."""

    code: int
    out: str
    err: str


class Shell:
    """Runs the commands in this process."""

    def __init__(self, capsys: Captured) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str | Path, code: int | None = None) -> Done:
        """Run a command; return its exit code, which is checked if given, and its output."""
        self._capsys.readouterr()
        found = run([str(argument) for argument in arguments])
        out, err = self._capsys.readouterr()
        assert code in (None, found), err
        return Done(found, out, err)

    def json(self, *arguments: str | Path, code: int = 0) -> Any:
        """Run a command with --json; return its document, which must match its schema."""
        document = json.loads(self(*arguments, "--json", code=code).out)
        assert problems(document) == []
        return document


def piped(*arguments: str | Path, stdin: bytes | Path = b"") -> subprocess.CompletedProcess[bytes]:
    """Run a command in its own process; stdin is a pipe, or a file if it is a path."""
    command = [*LSTMSTATE, *map(str, arguments)]
    if isinstance(stdin, bytes):
        return subprocess.run(command, input=stdin, capture_output=True, cwd=PROJECT, check=False)
    with stdin.open("rb") as file:
        return subprocess.run(command, stdin=file, capture_output=True, cwd=PROJECT, check=False)


def numbers(*shape: int, seed: int = 0, dtype: str = "float32") -> Array:
    """Return numbers within -1 and 1, as for m; they are not symmetric, so that c and m differ."""
    found: Array = np.random.default_rng(seed).uniform(-1, 1, shape).astype(dtype)
    return found


def saved(path: Path, array: Array) -> Path:
    """Write an npy file."""
    np.save(path, array)
    return path


def archive(path: Path, **arrays: Array) -> Path:
    """Write an npz file."""
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def checkpoint(prefix: Path, values: Mapping[str, Array]) -> str:
    """Write a V2 checkpoint of some variables; return its prefix."""
    bundle = BundleBuilder()
    for name, value in values.items():
        bundle.add(name, np.asarray(value))
    return bundle.write(prefix)


def lstm_cell(
    name: str = "rnn/lstm_cell", units: int = 4, inputs: int = 3, seed: int = 0
) -> dict[str, Array]:
    """Return the variables of a cell without a projection."""
    return {
        f"{name}/kernel": numbers(inputs + units, 4 * units, seed=seed),
        f"{name}/bias": numbers(4 * units, seed=seed + 1),
    }


def notes(done: Done) -> list[str]:
    """Return the notes on stderr."""
    start = "lstmstate: note: "
    return [line[len(start) :] for line in done.err.splitlines() if line.startswith(start)]


def error(done: Done) -> str:
    """Return the only line on stderr that is not a note."""
    others = [line for line in done.err.splitlines() if not line.startswith("lstmstate: note: ")]
    assert len(others) == 1, done.err
    assert others[0].startswith("lstmstate: error: ")
    return others[0].removeprefix("lstmstate: error: ")


def errors(done: Done) -> list[str]:
    """Return the errors on stderr."""
    start = "lstmstate: error: "
    return [line[len(start) :] for line in done.err.splitlines() if line.startswith(start)]


def flip(path: str | Path, *at: int) -> None:
    """Flip a bit of some bytes of a file, or of the data file of a checkpoint's prefix."""
    data = Path(path) if Path(path).is_file() else Path(f"{path}.data-00000-of-00001")
    content = bytearray(data.read_bytes())
    for place in at:
        content[place] ^= 1
    data.write_bytes(content)


def in_folder(path: Path) -> dict[str, bytes | None]:
    """Return the files below a folder by name, including hidden ones."""
    return {
        str(file.relative_to(path)): file.read_bytes() if file.is_file() else None
        for file in path.rglob("*")
    }
