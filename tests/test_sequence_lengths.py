"""Lengths of the sequences in a batch, from a file or next to the input."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from commands import SUNSPOTS
from sequences import (
    text,
    write_npy,
)
from states import Array

from lstmstate import LstmstateError
from lstmstate.operations.sequences import open_lengths

LENGTHS = np.array([3, 0, 5])


@pytest.mark.parametrize("dtype", ["i1", "<u8", ">i4", "f2", "f8"])
@pytest.mark.parametrize("shape", [(3,), (3, 1), (1, 3)])
def test_lengths_are_integers_of_any_dtype(
    tmp_path: Path, dtype: str, shape: tuple[int, ...]
) -> None:
    path = write_npy(tmp_path / "n.npy", LENGTHS.astype(dtype).reshape(shape))
    found = open_lengths(path, path, 3, 5)
    assert found.dtype == np.int64
    assert found.tolist() == [3, 0, 5]


@pytest.mark.parametrize("content", ["3\n0\n5\n", "3,0,5\n", "lengths\n3\n0\n5\n", "3.0 0 5"])
def test_lengths_are_read_from_a_table(tmp_path: Path, content: str) -> None:
    x = write_npy(tmp_path / "x.npy", np.ones((3, 5, 3)))
    assert open_lengths(text(tmp_path / "n.csv", content), x, 3, 5).tolist() == [3, 0, 5]


@pytest.mark.parametrize("kind", ["npz", "h5"])
def test_lengths_are_next_to_the_input_or_in_another_file(tmp_path: Path, kind: str) -> None:
    for name, lengths in (("x", LENGTHS), ("y", LENGTHS[::-1])):
        arrays = {"data": np.ones((3, 5, 3)), "a/n": lengths}
        if kind == "npz":
            np.savez(tmp_path / f"{name}.npz", **arrays)  # type: ignore[arg-type]
            continue
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            for key, array in arrays.items():
                file[key] = array
    path = f"{tmp_path}/x.{kind}:data"
    assert open_lengths("a/n", path, 3, 5).tolist() == [3, 0, 5]
    assert open_lengths("/a/n", path, 3, 5).tolist() == [3, 0, 5]
    assert open_lengths(f"{tmp_path}/y.{kind}:a/n", path, 3, 5).tolist() == [5, 0, 3]
    with pytest.raises(LstmstateError) as raised:
        open_lengths("b", path, 3, 5)
    assert str(raised.value) == (
        "b: there is no such file of lengths, and no such array next to the input; "
        f"there are: {'data, a/n' if kind == 'npz' else 'a/n, data'}"
    )


@pytest.mark.parametrize(
    ("lengths", "words"),
    [
        (np.array([1, 2]), "its shape is [2], and the input holds 3 sequences; give one length"),
        (np.ones((3, 2)), "its shape is [3, 2]"),
        (np.array(3), "its shape is []"),
        (np.array([1, 6, 7]), "the length of batch row 1 (counted from 0) is 6, and must be a"),
        (np.array([1, 2, -1]), "batch row 2 (counted from 0) is -1"),
        (np.array([1, 2.5, 2]), "is 2.5, and must be a whole number from 0 to 5, the steps of"),
        (np.array([1, np.nan, 2]), "is nan"),
        (np.array([np.inf, 1, 2]), "is inf"),
        (np.array([2**64 - 1, 1, 2], np.uint64), "is 18446744073709551615"),
        (np.array([True, False, True]), "it holds bool, and lengths are whole numbers"),
        (np.array(["1", "2", "3"]), "lengths are whole numbers"),
        (np.array([1j, 2, 3]), "lengths are whole numbers"),
    ],
)
def test_invalid_lengths_are_reported(tmp_path: Path, lengths: Array, words: str) -> None:
    x = write_npy(tmp_path / "x.npy", np.ones((3, 5, 3)))
    path = write_npy(tmp_path / "n.npy", lengths)
    with pytest.raises(LstmstateError) as raised:
        open_lengths(path, x, 3, 5)
    assert str(raised.value).startswith(f"{path}: ")
    assert words in str(raised.value)


def test_missing_lengths_are_reported(tmp_path: Path) -> None:
    x = write_npy(tmp_path / "x.npy", np.ones((3, 5, 3)))
    with pytest.raises(LstmstateError, match="lengths: there is no such file of lengths"):
        open_lengths("lengths", x, 3, 5)
    with pytest.raises(LstmstateError, match="the lengths cannot be, too"):
        open_lengths("-", "-", 3, 5)
    with pytest.raises(LstmstateError, match="TensorFlow checkpoint"):
        open_lengths(SUNSPOTS, x, 3, 5)
