"""HDF5 files that make the library loop, or read past the end of a chunk."""

from __future__ import annotations

import resource
import subprocess
import sys
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from work import few_lines

from lstmstate import LSTMState, limits, load_state, save_state
from lstmstate.errors import LstmstateError
from lstmstate.files.reader import ByteSource
from lstmstate.state.formats import hdf5_reader, hdf5_writer
from lstmstate.state.formats.array_writer import Destination, PlannedArray

VALUES = np.random.default_rng(0).random((300, 8))


def state_file(path: Path, **how: object) -> Path:
    """Write c and m with h5py, with some filters."""
    with h5py.File(path, "w") as file:
        for name in "cm":
            file.create_dataset(name, data=VALUES, **how)
    return path


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"chunks": (7, 3)},
        {"chunks": (300, 8), "compression": "gzip"},
        {"chunks": (64, 8), "compression": "gzip", "shuffle": True},
        {"chunks": (64, 5), "shuffle": True},
    ],
    ids=str,
)
def test_chunks_are_assembled_as_h5py_does(tmp_path: Path, how: dict[str, object]) -> None:
    found = load_state(state_file(tmp_path / "a.h5", **how))
    assert isinstance(found, LSTMState)
    assert found.c.tobytes() == found.m.tobytes() == VALUES.tobytes()


def test_unwritten_chunks_have_the_fill_value(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name in "cm":
            found = file.create_dataset(name, (6, 4), "f4", chunks=(2, 4), fillvalue=0.5)
            found[2:4] = 1
    state = load_state(tmp_path / "a.h5")
    assert isinstance(state, LSTMState)
    assert state.c[:, 0].tolist() == [0.5, 0.5, 1, 1, 0.5, 0.5]


@pytest.mark.parametrize("how", [{"compression": "lzf"}, {"fletcher32": True}], ids=str)
def test_other_filters_are_refused(tmp_path: Path, how: dict[str, object]) -> None:
    with pytest.raises(LstmstateError, match="packed in a way that is not read"):
        load_state(state_file(tmp_path / "a.h5", chunks=(64, 8), **how))


@pytest.mark.parametrize("data", [zlib.compress(b"\0"), b"\0" * 20], ids=["short", "junk"])
def test_a_chunk_that_unpacks_to_less_than_it_should_is_refused(
    tmp_path: Path, data: bytes
) -> None:
    """The library itself would read past the end."""
    path = state_file(tmp_path / "a.h5", chunks=(300, 8), compression="gzip")
    with h5py.File(path, "r+") as file:
        file["c"].id.write_direct_chunk((0, 0), data)
    with pytest.raises(LstmstateError, match=r"a chunk of it has|cannot be read"):
        load_state(path)


def test_a_chunk_larger_than_its_array_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name in "cm":
            how = {"maxshape": (None, 8), "chunks": (1 << 20, 64), "compression": "gzip"}
            file.create_dataset(name, (4, 8), "f8", **{**how, "chunks": (1 << 21, 8)})
    with pytest.raises(LstmstateError, match="larger than all of it"):
        load_state(tmp_path / "a.h5")


def test_a_damaged_heap_is_not_walked(tmp_path: Path) -> None:
    """Texts of variable length are in a heap; a heap with a cycle is endless."""
    path = tmp_path / "a.h5"
    save_state(LSTMState(np.zeros((4, 8)), np.zeros((4, 5))), path, layout="flat")
    with h5py.File(path, "r+") as file:
        del file.attrs["lstmstate"]
        file.attrs["lstmstate"] = "a text of any length"
    data = bytearray(path.read_bytes())
    at = data.index(b"GCOL") + 24
    data[at : at + 8] = (2**64 - 16).to_bytes(8, "little")
    path.write_bytes(data)
    command = [sys.executable, "-m", "lstmstate", "inspect", "-q", str(path)]
    # It computes for a moment, or for ever: the system then stops it, even when busy.
    seconds = (100, 100)
    done = subprocess.run(
        command,
        capture_output=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, seconds),
        check=False,
    )
    assert done.returncode in (0, 3)


def open_objects(file: h5py.File) -> int:
    kinds = h5py.h5f.OBJ_GROUP | h5py.h5f.OBJ_DATASET
    return int(h5py.h5f.get_obj_count(file.id, kinds))


def test_few_objects_are_open_while_a_file_is_walked(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for number in range(50):
            file[f"{number}/a/c"] = VALUES
    source = ByteSource(str(tmp_path / "a.h5"))
    with h5py.File(tmp_path / "a.h5") as file:
        found = {array.name: open_objects(file) for array in hdf5_reader._walk(file, source)}
    assert sorted(found) == sorted(f"{number}/a/c" for number in range(50))
    assert max(found.values()) < 5


@pytest.mark.parametrize("compress", [False, True])
def test_few_objects_are_open_while_a_file_is_written(tmp_path: Path, *, compress: bool) -> None:
    path = tmp_path / "a.h5"
    path.touch()
    shapes: dict[str, tuple[tuple[int, ...], int | None]] = {
        **{f"{number}/w": ((4, 8), 0) for number in range(50)},
        "none": ((0, 3), 0),
        "never": ((0, 3), 0),
        "scalar": ((), None),
        "é": ((2, 0), None),
    }
    plans = [
        PlannedArray(name, shape, np.dtype("f8"), axis) for name, (shape, axis) in shapes.items()
    ]
    writer = hdf5_writer.Hdf5Writer(Destination(str(path), str(path), plans, None, compress))
    most = 0
    for plan in plans:
        values = VALUES.ravel()[: int(np.prod(plan.shape))].reshape(plan.shape)
        parts = [values[:3], values[3:]] if plan.rows > 1 else [values] * (plan.name != "never")
        for number, part in enumerate(parts):
            writer.write(plan.name, 3 * number, part)
            most = max(most, open_objects(writer._file))
    writer.finish()
    assert most < 4
    with h5py.File(path) as file:
        assert {name: file[name].shape for name in shapes} == {
            name: shape for name, (shape, _) in shapes.items()
        }
        assert np.array_equal(file["7/w"], VALUES.ravel()[:32].reshape(4, 8))
        assert (file["7/w"].compression == "gzip") == compress


def test_a_name_with_a_slash_leads_to_no_other_file(tmp_path: Path) -> None:
    """The library would follow `a`, a link to another file, on its way to `a/x`."""
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_layout(h5py.h5d.COMPACT)  # its values are not read by position
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        space, kind = h5py.h5s.create_simple((1, 4)), h5py.h5t.NATIVE_DOUBLE
        found = h5py.h5d.create(file.id, b"x", kind, space, plan)
        found.write(h5py.h5s.ALL, h5py.h5s.ALL, VALUES[:1, :4].copy())
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["a"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/")
        file["a!x"] = file["c"] = file["m"] = np.zeros((1, 4))
    path.write_bytes(path.read_bytes().replace(b"a!x", b"a/x"))
    with pytest.raises(LstmstateError, match="a name in it has a slash"):
        load_state(path)


def test_groups_nested_too_deeply_are_neither_written_nor_read(tmp_path: Path) -> None:
    name = "a/" * limits.MAX_GROUPS + "c"
    path = tmp_path / "a.h5"
    path.touch()

    def write(*names: str) -> None:
        plans = [PlannedArray(name, (1, 4), np.dtype("f8")) for name in names]
        writer = hdf5_writer.Hdf5Writer(Destination(str(path), str(path), plans, None))
        for plan in plans:
            writer.write(plan.name, 0, VALUES[:1, :4].copy())
        writer.finish()

    with few_lines(50 * limits.MAX_GROUPS), pytest.raises(LstmstateError, match="1,000 groups"):
        write("a/" + name)
    write(name, name[:-1] + "m")
    assert isinstance(load_state(path), LSTMState)
    with h5py.File(path, "w") as file:
        file["a/" + name] = VALUES
    with pytest.raises(LstmstateError, match="1,000 groups"):
        load_state(path)
