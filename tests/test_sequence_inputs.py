"""Sequences in files: equal for every file type and division into parts, or refused."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
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
    whole,
    write_csv,
    write_h5,
    write_npy,
)
from states import Array
from work import MIB, little_memory

from lstmstate import LstmstateError


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
