"""Files that are read once, and by several threads."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
from builders import BundleBuilder, V1Builder, table
from commands import Array, checkpoint, numbers, saved

from lstmstate.cells.cell import StateWidths
from lstmstate.checkpoint import Checkpoint
from lstmstate.checkpoint.sstable import Table
from lstmstate.cli import execute
from lstmstate.files.atomic import Outputs
from lstmstate.files.reader import ByteSource
from lstmstate.operations.convert import write_state
from lstmstate.operations.load import open_path, states_in
from lstmstate.state import state_stream
from lstmstate.state.candidates import Cells, Wanted
from lstmstate.state.formats.input_path import open_arrays
from lstmstate.state.formats.numpy_reader import NpyArray
from lstmstate.state.formats.registry import BY_KEY
from lstmstate.state.layouts import LAYOUTS
from lstmstate.state.state_stream import StateStream

CELLS, UNITS, ROWS = 5, 8, 30
FLAT = 2 * UNITS * CELLS


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A flat state of several cells."""
    return saved(tmp_path / "flat.npy", numbers(ROWS, FLAT))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, int]]:
    """The reads of npy files: axis, start and stop of each. A part is a few rows."""
    monkeypatch.setattr(state_stream, "PART_BYTES", 7 * FLAT * 4)
    found = []
    plain = NpyArray.read

    def counting(self: NpyArray, axis: int, start: int, stop: int) -> Array:
        found.append((axis, start, stop))
        return plain(self, axis, start, stop)

    monkeypatch.setattr(NpyArray, "read", counting)
    return found


def write(source: Path, target: Path, layout: str, kind: str) -> list[int]:
    """Convert a flat state of cells of equal widths; return the reported bytes."""
    reported: list[int] = []
    cells = Cells.of_widths([StateWidths(UNITS, UNITS)] * CELLS)
    (found,) = states_in(open_path(str(source)), Wanted(cells=(cells,)))
    with Outputs() as outputs:
        stream = StateStream(found, LAYOUTS[layout], on_part=reported.append)
        write_state(stream, outputs, str(target), BY_KEY[kind])
    return reported


# Files with a state of several cells and a batch: an npy has one array, a table rows and columns.
FORMATS = [
    (layout, kind) for layout in LAYOUTS if layout != "thinc" for kind in ("npz", "h5", "ckpt")
]
FORMATS += [(layout, "npy") for layout in ("flat", "layered")]
FORMATS += [(layout, "csv") for layout in ("flat", "tuple", "keras")]


@pytest.mark.parametrize(("layout", "kind"), FORMATS)
def test_every_row_is_read_once(
    tmp_path: Path, source: Path, reads: list[tuple[int, int, int]], layout: str, kind: str
) -> None:
    reported = write(source, tmp_path / f"out.{kind}", layout, kind)
    assert reads == [(0, at, min(at + 7, ROWS)) for at in range(0, ROWS, 7)]
    assert sum(reported) == ROWS * FLAT * 4


@pytest.mark.parametrize("layout", ["tuple", "layered", "torch", "stacked"])
def test_the_values_are_in_their_places(
    tmp_path: Path, source: Path, reads: list[tuple[int, int, int]], layout: str
) -> None:
    write(source, tmp_path / "out.npz", layout, "npz")
    cut = np.load(source).reshape(ROWS, CELLS, 2, UNITS)
    assert len(reads) > 1
    with np.load(tmp_path / "out.npz") as found:
        if layout == "layered":
            np.testing.assert_array_equal(found["state"], cut.transpose(1, 2, 0, 3), strict=True)
        elif layout == "torch":
            np.testing.assert_array_equal(found["h_n"], cut[:, :, 1].swapaxes(0, 1), strict=True)
            np.testing.assert_array_equal(found["c_n"], cut[:, :, 0].swapaxes(0, 1), strict=True)
        for cell in range(CELLS if layout in ("tuple", "stacked") else 0):
            if layout == "stacked":
                np.testing.assert_array_equal(found[f"cell_{cell}/state"], cut[:, cell])
            else:
                np.testing.assert_array_equal(found[f"cell_{cell}/c"], cut[:, cell, 0])
                np.testing.assert_array_equal(found[f"cell_{cell}/m"], cut[:, cell, 1])


def test_a_state_rewritten_in_parts_is_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_stream, "PART_BYTES", 64)
    values = {f"net/cell_{k}/lstm_cell/kernel": numbers(8, 16, seed=k) for k in range(2)}
    values |= {f"net/cell_{k}/lstm_cell/bias": numbers(16, seed=9) for k in range(2)}
    state = numbers(6, 16, seed=3)
    old = checkpoint(tmp_path / "old", values | {"net/saved_state": state})
    target = tmp_path / "new.ckpt"
    assert execute(["convert", "-q", old, "--to", "layered", "-o", str(target)]) == 0
    back = tmp_path / "back.npy"
    assert execute(["convert", "-q", str(target), "--to-flat", "-o", str(back)]) == 0
    np.testing.assert_array_equal(np.load(back), state)


def test_buffered_parts_are_next_to_the_target_and_are_removed(
    tmp_path: Path, source: Path, reads: list[tuple[int, int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = []
    plain = tempfile.TemporaryFile

    def opening(*arguments: object, **options: object) -> object:
        folders.append(options.get("dir"))
        return plain(*arguments, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(tempfile, "TemporaryFile", opening)
    folder = tmp_path / "out"
    folder.mkdir()
    write(source, folder / "out.npz", "tuple", "npz")
    assert folders == [str(folder)]
    assert [path.name for path in folder.iterdir()] == ["out.npz"]
    assert reads


# ---- one open checkpoint, read from several threads at once


THREADS, ROUNDS, VARIABLES = 8, 5, 24


@pytest.fixture
def eager_switches() -> Iterator[None]:
    """Let Python switch threads as often as possible."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize("has_pread", [True, False])
@pytest.mark.usefixtures("eager_switches")
def test_threads_read_the_variables_of_one_v1_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_pread: bool
) -> None:
    if not has_pread:
        monkeypatch.delattr(os, "pread", raising=False)
        monkeypatch.delattr(os, "preadv", raising=False)
    builder = V1Builder()
    values = {f"v{number}": np.arange(300.0) + number for number in range(VARIABLES)}
    for name, value in values.items():
        builder.add(name, value)
    checkpoint = Checkpoint(builder.write(tmp_path / "model.ckpt"))

    def read(first: int) -> None:
        names = [f"v{(first + step) % VARIABLES}" for step in range(VARIABLES)]
        for name in names * ROUNDS:
            np.testing.assert_array_equal(checkpoint.variables[name].read(), values[name])

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(read, range(0, VARIABLES, VARIABLES // THREADS)))


def test_a_read_does_not_move_the_position_that_descriptors_share(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(100)))
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.lseek(descriptor, 7, os.SEEK_SET)
        with ByteSource(str(path), descriptor) as source:
            buffer = bytearray(5)
            source.read_into(memoryview(buffer), 40)
            assert source.read(20, 3, "some bytes") == bytes([20, 21, 22])
        assert bytes(buffer) == bytes(range(40, 45))
        assert os.lseek(descriptor, 0, os.SEEK_CUR) == 7
    finally:
        os.close(descriptor)


def test_a_value_is_found_although_another_thread_reads_another_block(tmp_path: Path) -> None:
    class Shared(Table):
        """A table whose last read block was always another, read by another thread."""

        @property
        def _kept(self) -> tuple[int, dict[bytes, bytes]]:  # type: ignore[override]
            return 99, {}

        @_kept.setter
        def _kept(self, value: tuple[int, dict[bytes, bytes]]) -> None:
            pass

    path = tmp_path / "table"
    path.write_bytes(table([(b"a", b"1"), (b"b", b"2")]))
    with ByteSource(str(path)) as source:
        assert Shared(source).get(b"b") == b"2"


@pytest.mark.usefixtures("eager_switches")
def test_threads_read_the_variables_of_one_v2_checkpoint(tmp_path: Path) -> None:
    builder = BundleBuilder()
    values = {f"v{number}": np.arange(300.0) + number for number in range(VARIABLES)}
    for name, value in values.items():
        builder.add_slices(name, value, [[(0, 100)], [(100, 200)]])
    variables = Checkpoint(builder.write(tmp_path / "m")).variables

    def read(seed: int) -> bool:
        order = np.random.default_rng(seed).permutation(list(values))
        return all(np.array_equal(variables[name].read(), values[name]) for name in order)

    with ThreadPoolExecutor(THREADS) as pool:
        assert all(pool.map(read, range(THREADS * ROUNDS)))


@pytest.mark.parametrize("kind", ["npy", "h5"])
@pytest.mark.usefixtures("eager_switches")
def test_threads_read_the_rows_of_one_state_file(tmp_path: Path, kind: str) -> None:
    rows = np.arange(4000.0).reshape(500, 8)
    if kind == "npy":
        np.save(tmp_path / "a.npy", rows)
    else:
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file.create_dataset("a", data=rows, chunks=(16, 8), compression="gzip")
    source = ByteSource(str(tmp_path / f"a.{kind}"))
    (array,) = open_arrays(source, BY_KEY[kind]).arrays

    def read(seed: int) -> bool:
        starts = np.random.default_rng(seed).integers(0, 490, 50)
        return all(np.array_equal(array.read(0, at, at + 10), rows[at : at + 10]) for at in starts)

    with ThreadPoolExecutor(THREADS) as pool:
        assert all(pool.map(read, range(THREADS * ROUNDS)))
