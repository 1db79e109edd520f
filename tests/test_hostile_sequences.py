"""Damaged and malicious inputs: an error or the right answer, and little memory."""

from __future__ import annotations

import os
import random
import tempfile
import warnings
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sequences import (
    FLOAT,
    WRITERS,
    opened,
    random_steps,
    refused,
    steady,
    text,
    whole,
    write_h5,
    write_npy,
)
from states import Array, npy

from lstmstate import LstmstateError


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
