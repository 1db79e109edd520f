"""Damaged state files: an error or the right answer, no other exception, and little memory."""

from __future__ import annotations

import pickle
import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from states import cells_of, state_of
from work import little_memory

from lstmstate import LstmstateError, load_state, save_state
from lstmstate.errors import CorruptError
from lstmstate.state.state import State

pytestmark = pytest.mark.filterwarnings("ignore:.*(cut in half|is read as layered):UserWarning")

MEGABYTES = 20  # for files of less than 10 KB
FLIPS = 150  # of each file
CHECKED = ("npz", "ckpt")  # every value has a checksum

STATE = state_of([(3, 3), (3, 3)], names="rnn/cell_{}".format, finite=True, seed=3)


def bits(state: State) -> list[Any]:
    return [(half.dtype, half.shape, half.tobytes()) for cell in cells_of(state) for half in cell]


class Specimen:
    """A valid state file: the path to open, and the files that can be damaged."""

    def __init__(self, folder: Path, kind: str, layout: str) -> None:
        self.kind = kind
        self.path = folder / f"state.{kind}"
        self.layout = layout if kind == "pkl" else None  # which plain tuples do not record
        if kind == "pkl":
            self.path.write_bytes(pickle.dumps([(cell.c, cell.m) for cell in cells_of(STATE)]))
        else:
            save_state(STATE, self.path, layout=layout)
        found = sorted(folder.iterdir())
        self.files = [file for file in found if file.name != "checkpoint"]

    def outcome(self) -> str:
        """Return "right", "wrong" or "refused"; any other exception fails the test."""
        try:
            found = load_state(self.path, layout=self.layout)
        except LstmstateError as error:
            assert str(error)
            return "refused"
        return "right" if bits(found) == bits(STATE) else "wrong"


SPECIMENS = [
    *[("npy", "flat"), ("npy", "layered"), ("npz", "tuple"), ("npz", "flat"), ("h5", "tuple")],
    *[("pkl", "tuple"), ("csv", "flat"), ("ckpt", "flat")],
]


@pytest.fixture
def specimen(tmp_path: Path, request: pytest.FixtureRequest) -> Specimen:
    return Specimen(tmp_path, *request.param)


everything = pytest.mark.parametrize("specimen", SPECIMENS, indirect=True, ids=" ".join)


@everything
def test_an_undamaged_file_is_read(specimen: Specimen) -> None:
    assert specimen.outcome() == "right"


@everything
def test_a_file_that_is_cut_short_anywhere(specimen: Specimen) -> None:
    found = set()
    with little_memory(MEGABYTES):
        for file in specimen.files:
            whole = file.read_bytes()
            step = 11 if specimen.kind == "h5" else 1  # mostly zeros, and slow to open
            for size in range(0, len(whole), step):
                file.write_bytes(whole[:size])
                found.add(specimen.outcome())
            file.write_bytes(whole)
    assert "refused" in found
    assert "wrong" not in found or specimen.kind in ("csv", "pkl")
    if specimen.kind not in ("csv", "pkl", "h5"):
        assert found == {"refused"}


@everything
def test_a_bit_flipped_anywhere(specimen: Specimen) -> None:
    chance = random.Random(f"{specimen.path.name}")
    found = set()
    with little_memory(MEGABYTES):
        for file in specimen.files:
            whole = file.read_bytes()
            for _ in range(FLIPS):
                damaged = bytearray(whole)
                damaged[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
                file.write_bytes(damaged)
                found.add(specimen.outcome())
            file.write_bytes(whole)
    assert "refused" in found
    assert specimen.kind not in CHECKED or "wrong" not in found


@everything
def test_a_lost_run_of_bytes(specimen: Specimen) -> None:
    """As when a copy omits a block of a disk, or a tool changes line endings."""
    chance = random.Random(f"{specimen.path.name}")
    with little_memory(MEGABYTES):
        for file in specimen.files:
            whole = file.read_bytes()
            for _ in range(FLIPS // 6):
                start = chance.randrange(len(whole))
                damaged = whole[:start] + whole[start + chance.randrange(1, 64) :]
                file.write_bytes(damaged)
                outcome = specimen.outcome()
                assert outcome != "wrong" or specimen.kind not in CHECKED
            file.write_bytes(whole)


@pytest.mark.parametrize("specimen", [("npz", "flat")], indirect=True, ids=" ".join)
def test_a_bit_flipped_in_the_directory_of_an_archive(specimen: Specimen) -> None:
    """No checksum covers it; the lost member may be the one with the widths."""
    whole = specimen.path.read_bytes()
    found = set()
    for at in range(whole.index(b"PK\x01\x02"), len(whole)):
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[at] ^= 1 << bit
            specimen.path.write_bytes(damaged)
            found.add(specimen.outcome())
    assert found == {"right", "refused"}


METHODS = {
    "stored": zipfile.ZIP_STORED,
    "deflated": zipfile.ZIP_DEFLATED,
}


@pytest.mark.parametrize("method", METHODS)
def test_damage_far_behind_the_header_of_a_member(tmp_path: Path, method: str) -> None:
    """Members of more than one block in any method, so that they can be opened."""
    values = np.random.default_rng(0).random((40_000, 4))
    path = tmp_path / "state.npz"
    with zipfile.ZipFile(path, "w", METHODS[method]) as archive:
        for name in "cm":
            with archive.open(f"{name}.npy", "w") as member:
                np.save(member, values)
    assert load_state(path).batch_shape == (40_000,)
    whole = path.read_bytes()
    for part in (0.3, 0.45, 0.9):
        start = int(len(whole) * part)
        path.write_bytes(whole[:start] + bytes(500) + whole[start + 500 :])
        with pytest.raises(CorruptError):
            load_state(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_members_that_numpy_never_writes_are_not_unpacked(tmp_path: Path, method: int) -> None:
    path = tmp_path / "state.npz"
    with zipfile.ZipFile(path, "w", method) as archive, archive.open("c.npy", "w") as member:
        np.save(member, np.ones((2, 3)))
    with pytest.raises(LstmstateError, match="packed in a way that NumPy does not write"):
        load_state(path)


@pytest.mark.parametrize("rows", [2, 2000])
def test_damaged_values_are_reported_with_file_and_array(tmp_path: Path, rows: int) -> None:
    """Whether it is found when the file is opened, or when the values are read."""
    path = tmp_path / "state.npz"
    np.savez(path, c=np.ones((rows, 3)), m=np.ones((rows, 3)))
    data = bytearray(path.read_bytes())
    data[data.index(b"m.npy") - 40] ^= 1  # among the last values of c
    path.write_bytes(data)
    with pytest.raises(CorruptError) as raised:
        load_state(path)
    assert str(raised.value).startswith(f"{path}: c: ")


def test_a_member_declared_longer_than_the_file(tmp_path: Path) -> None:
    """Three gigabytes, both stored and declared: less than a zip bomb."""
    path = tmp_path / "state.npz"
    np.savez(path, state=np.zeros((2, 8), "f4"))
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\x01\x02")
    huge = (3 << 30).to_bytes(4, "little")
    data[at + 20 : at + 28] = huge * 2
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (100000000, 8), }"
    start = data.index(b"{'descr'")
    data[start : start + len(header)] = header
    path.write_bytes(data)
    with little_memory(MEGABYTES), pytest.raises(LstmstateError):
        load_state(path)
