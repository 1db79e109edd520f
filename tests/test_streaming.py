"""Streaming of large states, in memory that does not grow with them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import google_crc32c
import h5py
import numpy as np
import pytest
from builders import FLOAT, BundleBuilder
from commands import PROJECT, lstm_cell, numbers

from lstmstate.state.formats.array_writer import header_bytes

MIB = 1 << 20
LARGE = 208 * MIB  # twice the memory limit of a process
MOST = 100 * MIB
WIDTH = 512

# The peak of one process alone: the figure of wait4 for a child includes its parent's pages.
MEASURED = """
import sys
from lstmstate.cli import execute as run
code = run(sys.argv[1:])
status = open("/proc/self/status").read().split()
print(int(status[status.index("VmHWM:") + 1]) * 1024, file=sys.stderr)
sys.exit(code)
"""


def peak(*arguments: str | Path, code: int = 0) -> int:
    """Run a command in its own process; return its peak memory in bytes."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return int(done.stderr.splitlines()[-1])


def sparse(path: Path, shape: tuple[int, ...]) -> Path:
    """Write an npy of zeros that takes no disk space."""
    header = header_bytes(shape, np.dtype("f4"), None)
    path.write_bytes(header)
    os.truncate(path, len(header) + 4 * int(np.prod(shape)))
    return path


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A flat state of many rows."""
    return sparse(tmp_path / "flat.npy", (LARGE // 4 // WIDTH, WIDTH))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux reports the peak")
class TestMemory:
    """The peak memory of a process."""

    def test_the_measurement_detects_an_array_in_memory(self, large: Path) -> None:
        script = f"import numpy; numpy.load({str(large)!r}).sum()\n{MEASURED}"
        done = subprocess.run(
            [sys.executable, "-c", script, "--version"],
            capture_output=True,
            text=True,
            cwd=PROJECT,
            check=True,
        )
        assert int(done.stderr) > LARGE > MOST

    @pytest.mark.parametrize("name", ["out.npz", "out.h5", "out.ckpt"])
    def test_convert(self, large: Path, name: str) -> None:
        target = large.with_name(name)
        assert peak("convert", "-q", large, "--to-tuple", "-o", target) < MOST
        file = large.with_name("out.ckpt.data-00000-of-00001") if name == "out.ckpt" else target
        assert LARGE <= file.stat().st_size < LARGE + MIB
        large.unlink()
        file.unlink()

    def test_split_and_concat(self, large: Path) -> None:
        halves = large.with_name("c.npy"), large.with_name("m.npy")
        assert peak("split", "-q", large, "-o", *halves) < MOST
        large.unlink()
        assert peak("concat", *halves, "-o", large) < MOST
        assert large.stat().st_size > LARGE
        for file in (*halves, large):
            file.unlink()

    def test_another_precision_and_compression(self, large: Path) -> None:
        target = large.with_name("out.npz")
        options = ["--dtype", "float16", "--compress"]
        assert peak("convert", "-q", large, "--to", "torch", *options, "-o", target) < MOST
        assert target.stat().st_size < MIB

    def test_hdf5_input(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "state.h5", "w") as file:
            for name in "cm":
                file.create_dataset(name, (LARGE // 4 // WIDTH, WIDTH // 2), "f4")
        target = tmp_path / "flat.npy"
        assert peak("convert", "-q", tmp_path / "state.h5", "--to-flat", "-o", target) < MOST
        assert target.stat().st_size > LARGE
        target.unlink()

    def test_along_the_axis_that_is_long(self, tmp_path: Path) -> None:
        """Two steps of a large batch: a single row of the first axis is half of the file."""
        source = sparse(tmp_path / "steps.npy", (2, LARGE // 8 // WIDTH, WIDTH))
        target = tmp_path / "out.h5"
        command = ["convert", "-q", source, "--from", "flat", "--to", "keras", "-o", target]
        assert peak(*command) < MOST
        assert target.stat().st_size > LARGE
        target.unlink()

    def test_diff(self, tmp_path: Path) -> None:
        """The two files together exceed the memory limit of a process."""
        a, b = (sparse(tmp_path / f"{k}.npy", (LARGE // 8 // WIDTH, WIDTH)) for k in "ab")
        with b.open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"\x40")
        assert peak("diff", "-q", a, b, code=1) < MOST

    def test_check(self, large: Path) -> None:
        assert peak("check", large, "--finite", "--max-abs-m", "1") < MOST

    def test_a_state_in_a_checkpoint_with_a_large_tensor(self, tmp_path: Path) -> None:
        """Tensors that are only copied are never loaded."""
        bundle = BundleBuilder()
        for name, value in (lstm_cell() | {"saved_state": numbers(2, 8)}).items():
            bundle.add(name, value)
        crc, zeros = 0, bytes(16 * MIB)
        for _ in range(LARGE // len(zeros)):
            crc = google_crc32c.extend(crc, zeros)
        offset = len(bundle.data[0])
        crc = ((crc >> 15 | crc << 17) + 0xA282EAD8) % (1 << 32)
        place = {"offset": offset, "size": LARGE, "crc": crc}
        bundle.entry("embedding", dtype=FLOAT, shape=(LARGE // 4 // WIDTH, WIDTH), **place)
        bundle.write(tmp_path / "in.ckpt")
        os.truncate(tmp_path / "in.ckpt.data-00000-of-00001", offset + LARGE)
        target = tmp_path / "out.ckpt"
        assert peak("convert", "-q", tmp_path / "in.ckpt", "--to-tuple", "-o", target) < MOST
        data = tmp_path / "out.ckpt.data-00000-of-00001"
        assert data.stat().st_size == offset + LARGE
        data.unlink()
