"""Sequence files: formats, choices, lengths, tables, damage and attacks."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
import tempfile
import warnings
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from commands import PROJECT, SUNSPOTS
from hypothesis import given, settings
from hypothesis import strategies as st
from sequences import (
    DOUBLE,
    FLOAT,
    WRITERS,
    opened,
    random_steps,
    refused,
    steady,
    text,
    whole,
    write_csv,
    write_h5,
    write_npy,
)
from states import Array, npy
from work import MIB, little_memory

from lstmstate import LstmstateError, limits
from lstmstate.operations.sequences import open_lengths


@pytest.mark.parametrize("kind", ["npz", "h5"])
def test_one_of_several_arrays_must_be_chosen(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"x.{kind}"
    arrays = {"x": np.ones((4, 3)), "y": np.zeros((5, 2))}
    if kind == "npz":
        np.savez(path, **arrays)  # type: ignore[arg-type]
    else:
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                file[name] = array
    assert refused(path, "") == (
        f"{path}: it holds 2 arrays, and rnn/lstm_cell takes [batch, time, 3]; "
        "pick one, FILE:NAME: x [4, 3], y [5, 2]"
    )
    assert opened(f"{path}:x").steps == 4
    refused(f"{path}:y", "y: its shape is [5, 2]")
    refused(f"{path}:z", "z: there is no such array; there are: x, y")


def test_an_npy_has_no_names(tmp_path: Path) -> None:
    path = write_npy(tmp_path / "x.npy", np.ones((4, 3)))
    refused(f"{path}:x", "x: its one array has no name; pass the file alone")


def test_metadata_of_results_is_not_an_array(tmp_path: Path) -> None:
    metadata = '{"layout": "flat", "cells": [{"name": "", "c": 1, "m": 2}], "stack": false}'
    np.savez(tmp_path / "x.npz", x=np.ones((4, 3)), lstmstate=np.array(metadata))
    assert opened(tmp_path / "x.npz").steps == 4
    np.savez(tmp_path / "y.npz", lstmstate=np.array(metadata))
    refused(tmp_path / "y.npz", "")


@pytest.mark.parametrize("given_path", ["", "/checkpoint", "/model.ckpt-360.index"])
def test_a_checkpoint_is_reported_as_one(given_path: str) -> None:
    assert refused(f"{SUNSPOTS}{given_path}", "") == (
        f"{SUNSPOTS}{given_path}: expected sequences, got a TensorFlow checkpoint; "
        "rnn/lstm_cell takes [batch, time, 3], in .npy, .npz, .h5, .safetensors, .pt or .csv"
    )
    refused(f"{SUNSPOTS}/model.ckpt-360", "got a TensorFlow checkpoint")
    refused(f"{SUNSPOTS}/model.ckpt-360.data-00000-of-00001", "got a TensorFlow checkpoint")


def test_files_of_other_kinds_are_refused(tmp_path: Path) -> None:
    refused(tmp_path / "x.npy", "there is no such file")
    (tmp_path / "x.npy").mkdir()
    refused(tmp_path / "x.npy", "this is a folder")
    os.mkfifo(tmp_path / "y.npy")
    refused(tmp_path / "y.npy", "this is not a regular file")
    for content, words in {
        b"": "expected sequences, got an empty file",
        b"\x1f\x8b\x08": "expected sequences, got a gzip archive; unpack it first",
        b"\x07\x01\x02": "a file of unknown kind",
        b"version https://git-lfs.github.com/spec/v1\n": "git lfs pull",
        b'{"x": [1, 2]}': "a JSON text",
    }.items():
        (tmp_path / "z.npy").write_bytes(content)
        refused(tmp_path / "z.npy", words)


def test_sequences_are_read_from_stdin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = random_steps(5)[:, 0]
    for kind in ("npy", "npz", "csv"):
        name, write = WRITERS[kind]
        path = write(tmp_path / name, expected)
        read, written = os.pipe()
        os.write(written, Path(path).read_bytes())
        os.close(written)
        for source in (path, read):
            with open(source) as stdin, monkeypatch.context() as patch:
                patch.setattr(sys, "stdin", stdin)
                found = opened("-")
            assert found.path == "-"
            assert np.array_equal(whole(found, 2)[:, 0], expected)


def test_unusable_stdin_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def given_stdin(path: str, words: str) -> None:
        with Path(path).open() as stdin, monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", stdin)
            refused("-", words)

    given_stdin(write_h5(tmp_path / "x.h5", np.ones((4, 3))), "stdin: an HDF5 file cannot be read")
    given_stdin(write_npy(tmp_path / "x.npy", np.ones((4, 2))), "stdin: its shape is [4, 2]")
    np.savez(tmp_path / "x.npz", x=np.ones((4, 3)), y=np.ones(2))
    given_stdin(str(tmp_path / "x.npz"), "save one of them alone: x [4, 3], y [2]")


# ---- cost


def test_importing_the_module_imports_nothing_heavy() -> None:
    script = "import sys, lstmstate.operations.sequences; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=PROJECT, check=True
    )
    assert not {"numpy", "h5py", "zipfile", "csv"} & set(done.stdout.split())


# ---- sequences in files: equal for every file type and division into parts, or refused


@pytest.mark.parametrize("kind", WRITERS)
def test_parts_of_any_file_type_give_the_same_sequences(kind: str) -> None:
    name, write = WRITERS[kind]
    axes = [1, 2] if write is write_csv or "text" in kind else [1, 2, 3]

    @settings(steady, max_examples=40)
    @given(
        st.integers(1, 9),
        st.integers(1, 4),
        st.integers(1, 4),
        st.sampled_from(axes),
        st.booleans(),
        st.integers(1, 10),
        st.sampled_from([FLOAT, DOUBLE, np.dtype("float16")]),
    )
    def check(
        steps: int, batch: int, width: int, rank: int, time_major: bool, parts: int, dtype: Any
    ) -> None:
        batch, width = batch if rank == 3 else 1, width if rank > 1 else 1
        expected = random_steps(steps, batch, width)
        stored = expected if time_major else expected.swapaxes(0, 1)
        if rank < 3:
            stored = expected[:, 0] if rank == 2 else expected[:, 0, 0]
        with tempfile.TemporaryDirectory() as folder:
            path = write(Path(folder) / name, stored)
            found = opened(path, width, time_major=time_major, dtype=dtype)
            assert (found.batch, found.steps, found.width) == (batch, steps, width)
            assert (found.is_single, found.path) == (rank < 3, path)
            read = whole(found, parts)
        assert read.dtype == dtype
        assert np.array_equal(read, expected.astype(dtype))

    check()


@settings(steady, max_examples=60)
@given(st.data())
def test_parts_may_be_read_in_any_order(data: st.DataObject) -> None:
    expected = random_steps(12, 2)
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("npy", "npz", "h5, compressed"):
            name, write = WRITERS[kind]
            found = opened(write(Path(folder) / name, expected), time_major=True)
            for _ in range(4):
                start = data.draw(st.integers(0, 11))
                stop = data.draw(st.integers(start + 1, 12))
                assert np.array_equal(found.chunk(start, stop), expected[start:stop])


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        *itertools.product(("npy", "npz", "h5"), ("?", "i1", "u2", "<i8", ">i4", "f2", "f8")),
        *(("npy", "longdouble"), ("npz", "longdouble")),  # HDF5 has no portable one
    ],
)
def test_real_numbers_of_every_dtype_are_cast(tmp_path: Path, kind: str, dtype: str) -> None:
    name, write = WRITERS[kind]
    given_values = np.arange(12).reshape(4, 3).astype(dtype)
    found = opened(write(tmp_path / name, given_values))
    assert found.chunk(1, 3)[:, 0].tolist() == given_values[1:3].astype(FLOAT).tolist()
    assert found.chunk(1, 3).dtype == FLOAT


def test_rows_of_an_npy_of_the_same_dtype_are_read_without_a_copy(tmp_path: Path) -> None:
    found = opened(write_npy(tmp_path / "x.npy", random_steps(50_000)[:, 0]))
    with little_memory(1.5 * 40_000 * 12 / MIB):  # the rest is the check for finite values
        part = found.chunk(10, 40_010)
    assert part.nbytes == 40_000 * 12


@pytest.mark.parametrize("kind", ["npy", "h5", "npz"])
def test_memory_does_not_grow_with_the_steps(tmp_path: Path, kind: str) -> None:
    name, write = WRITERS[kind]
    stored = np.ones((100_000, 3)) if kind == "npz" else np.ones((2, 50_000, 3))
    found = opened(write(tmp_path / name, stored))
    with little_memory(stored.nbytes / MIB / 10):
        for at in range(0, found.steps, 500):
            found.chunk(at, at + 500)


# ---- axes and widths


def test_a_vector_is_a_sequence_of_width_1_only(tmp_path: Path) -> None:
    path = write_npy(tmp_path / "x.npy", np.arange(3.0))
    assert opened(path, 1).chunk(0, 3).tolist() == [[[0]], [[1]], [[2]]]
    assert opened(path, None).width == 1
    message = refused(path, "its shape is [3], and rnn/lstm_cell takes [batch, time, 3]")
    assert message.endswith(
        "give [time, 3], one sequence, or [batch, time, 3], or pass `time_major=True` with "
        "[time, batch, 3]"
    )


@pytest.mark.parametrize("shape", [(), (2, 2, 2, 3)])
def test_other_axes_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = write_npy(tmp_path / "x.npy", np.ones(shape))
    message = refused(path, f"its shape is {list(shape)}, and rnn/lstm_cell takes")
    assert "`time_major=True` with [time, batch, 3]" in message


@pytest.mark.parametrize("own", [2, 4])
def test_another_width_is_refused(tmp_path: Path, own: int) -> None:
    path = write_npy(tmp_path / "x.npy", np.ones((7, 5, own)))
    few = "few" if own < 3 else "many"
    assert refused(path, "") == (
        f"{path}: its shape is [7, 5, {own}], and rnn/lstm_cell takes [batch, time, 3]; "
        f"its last axis has too {few} columns: {own}, and not 3; give those that the "
        "cell was trained on"
    )


def test_columns_beyond_the_needed_ones_are_dropped_on_request(tmp_path: Path) -> None:
    stored = random_steps(6, 1, 5)[:, 0]
    stored[2, 4] = np.nan
    path = write_npy(tmp_path / "x.npy", stored)
    found = opened(path, at_least=True)
    assert found.width == 3
    assert np.array_equal(whole(found, 4)[:, 0], stored[:, :3])
    refused(path, "too many columns: 5, and not 3")
    refused(path, "too few columns: 5, and not 6", 6, at_least=True)
    assert opened(path, None).width == 5


def test_a_transposed_input_is_reported(tmp_path: Path) -> None:
    path = write_npy(tmp_path / "x.npy", np.ones((3, 100)))
    assert "axis 0 has that size: transpose the array" in refused(path, "")
    path = write_npy(tmp_path / "y.npy", np.ones((8, 3, 100)))
    assert "axis 1 has that size: transpose the array" in refused(path, "")


@pytest.mark.parametrize("shape", [(0, 3), (2, 0, 3), (0, 5, 3), (0,)])
def test_an_empty_input_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    width = shape[-1] if len(shape) > 1 else 1
    refused(write_npy(tmp_path / "x.npy", np.ones(shape)), "there are no s", width)


def test_an_input_without_columns_is_refused(tmp_path: Path) -> None:
    refused(write_npy(tmp_path / "x.npy", np.ones((4, 0))), "it has no columns", None)


def test_many_sequences_of_one_step_are_noted(tmp_path: Path) -> None:
    path = write_npy(tmp_path / "x.npy", np.ones((40, 1, 3)))
    (note,) = opened(path).notes
    assert (
        "40 sequences of one step each; if it is one sequence of 40 steps, pass `time_major" in note
    )
    assert opened(path, time_major=True).notes == ()
    assert opened(write_npy(tmp_path / "y.npy", np.ones((1, 1, 3)))).notes == ()


# ---- values that are not numbers


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        (np.ones((4, 3), "complex64"), "it holds complex numbers, not real numbers"),
        (np.full((4, 3), "a"), "it holds text"),
        (np.full((4, 3), b"a"), "it holds text"),
        (np.full((4, 3), np.datetime64("2020-01-01")), "it holds datetime64[D], not real numbers"),
        (np.zeros((4, 3), [("a", "f4")]), "not real numbers"),
    ],
)
@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_values_that_are_not_real_numbers_are_refused(
    tmp_path: Path, kind: str, stored: Array, words: str
) -> None:
    name, write = WRITERS[kind]
    message = refused(write(tmp_path / name, stored), words)
    assert message.endswith("rnn/lstm_cell takes [batch, time, 3]")


def test_texts_in_an_h5_are_refused(tmp_path: Path) -> None:
    refused(write_h5(tmp_path / "x.h5", np.full((4, 3), b"a", object)), "text or objects")


def test_pickles_are_never_read(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.full((4, 3), None), allow_pickle=True)
    refused(tmp_path / "x.npy", "it holds a pickle, which is never read")
    np.savez(tmp_path / "x.npz", x=np.full((4, 3), None))
    refused(tmp_path / "x.npz", "it holds a pickle, which is never read")
    np.full((4, 3), None).dump(str(tmp_path / "x.pkl"))
    refused(tmp_path / "x.pkl", "expected sequences, got a Python pickle")


# ---- NaN and values out of range


@pytest.mark.parametrize("parts", [1, 2, 5, 9])
@pytest.mark.parametrize("time_major", [False, True])
def test_the_first_nan_is_reported_for_any_parts(
    tmp_path: Path, parts: int, time_major: bool
) -> None:
    stored = random_steps(9, 2)
    stored[4, 1, 2] = stored[6, 0, 0] = np.nan
    path = write_npy(tmp_path / "x.npy", stored if time_major else stored.swapaxes(0, 1))
    found = opened(path, time_major=time_major)
    with pytest.raises(LstmstateError) as raised:
        whole(found, parts)
    assert str(raised.value) == (
        f"{path}: there is NaN at step 4, batch row 1, column 2 (counted from 0); "
        "correct the data, or pass `allow_nan=True`"
    )
    assert np.isnan(whole(opened(path, allow_nan=True, time_major=time_major), parts)).sum() == 2


@pytest.mark.parametrize(
    ("value", "dtype", "words"),
    [
        (np.nan, FLOAT, "there is NaN"),
        (-np.inf, FLOAT, "there is Inf"),
        (1e300, FLOAT, "1e+300 is beyond the range of float32"),
        (-7e4, np.dtype("float16"), "-70000.0 is beyond the range of float16"),
    ],
)
@pytest.mark.parametrize("kind", ["npy", "csv", "h5"])
def test_non_finite_values_are_reported(
    tmp_path: Path, kind: str, value: float, dtype: Any, words: str
) -> None:
    name, write = WRITERS[kind]
    stored = np.zeros((5, 3))
    stored[3, 1] = value
    path = write(tmp_path / name, stored)
    refused(path, f"{words} at step 3, column 1 (counted from 0)", dtype=dtype)
    assert not np.isfinite(whole(opened(path, dtype=dtype, allow_nan=True))).all()
    if np.isfinite(value):
        assert whole(opened(path, dtype=DOUBLE))[3, 0, 1] == value


def test_integers_out_of_range_are_reported(tmp_path: Path) -> None:
    path = write_npy(tmp_path / "x.npy", np.array([[1, 70_000, 1]]))
    refused(path, "70000 is beyond the range of float16", dtype=np.dtype("float16"))


@settings(steady, max_examples=60)
@given(st.lists(st.integers(0, 6), min_size=3, max_size=3), st.integers(1, 6), st.data())
def test_nan_is_an_error_except_in_the_padding(
    lengths: list[int], parts: int, data: st.DataObject
) -> None:
    valid = np.array(lengths)
    stored = np.zeros((6, 3, 2))
    stored[np.arange(6)[:, None] >= valid] = np.nan
    with tempfile.TemporaryDirectory() as folder:
        path = write_npy(Path(folder) / "x.npy", stored.swapaxes(0, 1))
        spans = [(at, min(at + parts, 6)) for at in range(0, 6, parts)]
        chunks = [opened(path, 2).chunk(*span, valid) for span in spans]
        assert np.array_equal(np.concatenate(chunks), stored, equal_nan=True)
        if not valid.any():
            return
        row = data.draw(st.sampled_from(np.flatnonzero(valid).tolist()))
        step = data.draw(st.integers(0, lengths[row] - 1))
        stored[step, row, 1] = np.nan
        found = opened(write_npy(Path(folder) / "x.npy", stored.swapaxes(0, 1)), 2)
        with pytest.raises(LstmstateError, match=f"step {step}, batch row {row}, column 1"):
            for span in spans:
                found.chunk(*span, valid)


# ---- lengths of the sequences in a batch, from a file or next to the input


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


# ---- tables of numbers as text, as people write them, and errors in them


@pytest.mark.parametrize(
    "content",
    [
        "1,2,3\n4,5,6\n",
        "1,2,3\r\n4,5,6\r\n",
        "1,2,3\r4,5,6",
        "\ufeff1,2,3\n4,5,6\n\n\n",
        "a,b,c\n1,2,3\n4,5,6",
        '"a","b, or c","d"\n"1",2,3\n4,5,"6"\n',
        "# first\n# a b c\n\n1,2,3\n4,5,6\n",
        "#\n x , y , z \n 1 , 2 , 3 \n4,5,6\n",
        "1\t2\t3\n4\t5\t6\n",
        "1;2;3\n4;5;6\n",
        "1 2  3\n  4 5 6\n",
        "1e0,+2.,3.0E+00\n4,5,06\n",
        "größe,b,c\n1,2,3\n4,5,6\n".encode("latin-1"),
    ],
)
@pytest.mark.parametrize("name", ["x.csv", "x.TSV"])
def test_tables_are_read_as_people_write_them(
    tmp_path: Path, name: str, content: str | bytes
) -> None:
    found = opened(text(tmp_path / name, content))
    assert whole(found)[:, 0].tolist() == [[1, 2, 3], [4, 5, 6]]


def test_columns_are_chosen_by_name(tmp_path: Path) -> None:
    path = text(tmp_path / "x.csv", 'day,x,"y, z",x x\nmon,1,2,3\n"tue, too",4,5,6\n')
    for place, expected in {
        "x": [[1], [4]],
        "x x,x": [[3, 1], [6, 4]],
        "y, z": [[2], [5]],
        " x , x x ": [[1, 3], [4, 6]],
    }.items():
        found = opened(f"{path}:{place}", len(expected[0]))
        assert whole(found)[:, 0].tolist() == expected
    words = "row 1 (line 2 of the file) holds 'mon', which is not a number, in column 1 (day)"
    refused(path, f"{words}; pick the columns of numbers: FILE:a,b")
    refused(f"{path}:x,w", "w: there is no such column; there are: day, x, y, z, x x")
    refused(f"{path}:day", "holds 'mon'", 1)
    refused(f"{path}:x", "its shape is [2, 1], and rnn/lstm_cell takes [batch, time, 3]")


def test_columns_that_are_too_many_are_named(tmp_path: Path) -> None:
    path = text(tmp_path / "x.csv", "t,x,y,z\n0,1,2,3\n")
    refused(path, "pick columns by their names, FILE:a,b: t, x, y, z")


def test_ambiguous_columns_are_refused(tmp_path: Path) -> None:
    path = text(tmp_path / "x.csv", "x,x,y\n1,2,3\n")
    refused(f"{path}:x", "2 columns have this name", 1)
    path = text(tmp_path / "y.csv", "1,2,3\n")
    refused(f"{path}:x", "its columns have no names; pick them by their numbers from 0", 1)
    refused(f"{path}:3", "its columns have no names", 1)
    assert whole(opened(f"{path}:2,0", 2))[:, 0].tolist() == [[3, 1]]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("1,2,3\n4,5\n", "row 2 (line 2 of the file) has 2 fields, and the first line 3"),
        ("a,b,c\n1,2\n4,5\n", "row 1 (line 2 of the file) has 2 fields, and the first line 3"),
        ("#\n1,2,3\n4,,6\n", "row 2 (line 3 of the file) has an empty field, in column 2"),
        (
            "1,2,3\n4,5,x\n",
            "row 2 (line 2 of the file) holds 'x', which is not a number, in column 3",
        ),
        ("t,1,2\n4,5,6\n", "its first row, t,1,2, may be a header or data"),
        (",0.5,1\n0,5,6\n", "row 1 (line 1 of the file) has an empty field, in column 1"),
        ("1,2,3\n#4,5,6\n", "holds '#4'"),
        ("1,2,3\n4,5,6,\n", "has 4 fields"),
        ("1,2,3\n\n4,5,6\n", "line 2 is empty; remove it, or put numbers there"),
        ("1,2,3\n1+2j,2,3\n", "holds '1+2j'"),
        ("1,2,3\n1_0,2,3\n", "holds '1_0'"),
        ("1,2,3\n0x10,2,3\n", "holds '0x10'"),
        ("1,2,3\n__import__('os'),2,3\n", "holds \"__import__('os')\""),
        ("1,2,3\n\u0661,2,3\n", "which is not a number"),
        ('1,2,3\n"4,5,6\n', "fields"),
        ("1,2,3\n\x1b[31m,5,6\n", "x1b"),
        ("1,5;2,5;3,5\n", "holds '5;2'"),
        ("a,b,c\n", "there are no steps in it: its shape is [0, 3]"),
        ("\n\n", ""),
        ("# a\n", ""),
        ("1,2,3\n".encode("utf-16"), "expected a text in UTF-8"),
    ],
)
def test_errors_in_a_table_name_the_row(tmp_path: Path, content: str | bytes, words: str) -> None:
    refused(text(tmp_path / "x.csv", content), words)


def test_rows_with_missing_fields_are_reported_if_columns_are_chosen(tmp_path: Path) -> None:
    path = text(tmp_path / "x.csv", "a,b,c\n1,2,3\n4,5\n")
    refused(f"{path}:a,b", "row 2 (line 3 of the file) has 2 fields", 2)


def test_a_table_over_the_limit_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = text(tmp_path / "x.csv", "1,2,3\n" * 10)
    monkeypatch.setattr(limits, "MAX_TABLE_BYTES", 59)
    refused(path, "a table of 60 bytes is not read as text; save it as an .npy")


# ---- damaged and malicious inputs: an error or the right answer, and little memory


def outcome(path: str) -> Array | None:
    """Return the content of a file, None if it is refused; anything else fails the test."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return whole(opened(path, None), 2)
    except LstmstateError as error:
        assert "\n" not in str(error)
        return None


DAMAGED = ["npy", "npz", "npz, compressed", "h5", "h5, compressed", "csv"]


@pytest.mark.memory(20)
@pytest.mark.parametrize("kind", DAMAGED)
def test_a_file_that_is_cut_short_anywhere(tmp_path: Path, kind: str) -> None:
    name, write = WRITERS[kind]
    expected = random_steps(6)
    path = Path(write(tmp_path / name, expected[:, 0]))
    content = path.read_bytes()
    for size in range(0, len(content), 11 if "h5" in kind else 1):
        path.write_bytes(content[:size])
        found = outcome(str(path))
        if kind != "csv":
            assert found is None or ("h5" in kind and np.array_equal(found, expected))


@pytest.mark.memory(20)
@pytest.mark.parametrize("kind", DAMAGED)
def test_bits_flipped_anywhere(tmp_path: Path, kind: str) -> None:
    chance = random.Random(kind)
    name, write = WRITERS[kind]
    expected = random_steps(6)
    path = Path(write(tmp_path / name, expected[:, 0]))
    content = path.read_bytes()
    refusals = 0
    for _ in range(300):
        damaged = bytearray(content)
        for _ in range(chance.choice([1, 1, 8])):
            damaged[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        found = outcome(str(path))
        refusals += found is None
        assert "npz" not in kind or found is None or np.array_equal(found, expected)
    assert refusals


@steady
@given(st.text("0123456789.,;\t \n\r#\"'-+eEnaif_\0\u00e9", max_size=60))
def test_a_table_is_refused_or_read_as_numbers(content: str) -> None:
    """The numbers are those that Python reads from the fields; no field is omitted silently."""
    with tempfile.TemporaryDirectory() as folder:
        found = outcome(text(Path(folder) / "x.csv", content))
    if found is None or '"' in content:
        return
    text_lines = content.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    lines = [line for line in text_lines if line.strip()]
    while lines[0].lstrip().startswith("#"):
        del lines[0]
    mark = next((mark for mark in "\t,;" if mark in lines[0]), None)
    rows = lines[len(lines) - len(found) :]
    assert len(lines) - len(rows) in (0, 1)
    expected = [[float(field) for field in row.split(mark)] for row in rows]
    assert np.array_equal(found[:, 0], np.array(expected, FLOAT))


def test_links_in_an_h5_are_not_followed(tmp_path: Path) -> None:
    secret = write_h5(tmp_path / "secret.h5", np.ones((4, 3)))
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"] = h5py.ExternalLink(secret, "/a/x")
        file["y"] = h5py.SoftLink("/z")
    refused(tmp_path / "x.h5", "there is no array in it")
    refused(f"{tmp_path}/x.h5:x", "there is no such array")


def test_external_values_of_an_h5_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"\0" * 48)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", (4, 3), "f4", external=[(str(tmp_path / "secret"), 0, 48)])
    refused(tmp_path / "x.h5", "are in another file, which is not read")
    secret = write_h5(tmp_path / "secret.h5", np.ones((4, 3)))
    with h5py.File(tmp_path / "y.h5", "w") as file:
        layout = h5py.VirtualLayout((4, 3), "f4")
        layout[:] = h5py.VirtualSource(secret, "a/x", (4, 3))
        file.create_virtual_dataset("x", layout)
    refused(tmp_path / "y.h5", "are in another file, which is not read")


@pytest.mark.memory(20)
@pytest.mark.parametrize("shape", [(1 << 40, 3), (1 << 32, 1 << 32, 3), (2, (1 << 61) + 1, 3)])
def test_shapes_beyond_the_file_take_no_memory(tmp_path: Path, shape: tuple[int, ...]) -> None:
    refused(npy(tmp_path / "x.npy", {"shape": shape}, b"\0" * 64), "cut short")
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.write(tmp_path / "x.npy", "x.npy")
    refused(tmp_path / "x.npz", "cut short")


def test_a_file_that_shrinks_between_two_parts_is_an_error(tmp_path: Path) -> None:
    path = write_npy(tmp_path / "x.npy", random_steps(100)[:, 0])
    found = opened(path)
    found.chunk(0, 50)
    os.truncate(path, 500)
    with pytest.raises(LstmstateError, match="the file shrank"):
        found.chunk(50, 100)
