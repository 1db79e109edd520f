"""Sequence files, and helpers that read them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import settings
from states import Array

from lstmstate import LstmstateError
from lstmstate.operations.sequences import Sequences, open_sequences

steady = settings(derandomize=True, deadline=None)
FLOAT, DOUBLE = np.dtype("float32"), np.dtype("float64")
NAME = "rnn/lstm_cell"


def opened(path: Path | str, width: int | None = 3, **how: Any) -> Sequences:
    """Open sequences for a cell of some input width."""
    arguments: dict[str, Any] = {"dtype": FLOAT, "expected": f"{NAME} takes [batch, time, {width}]"}
    return open_sequences(str(path), width=width, **(arguments | how))


def refused(path: Path | str, words: str, width: int | None = 3, **how: Any) -> str:
    """Check that a file is refused when it is opened or read; return the message."""
    with pytest.raises(LstmstateError) as raised:
        whole(opened(path, width, **how))
    message = str(raised.value)
    assert words in message, message
    assert "\n" not in message
    return message


def whole(found: Sequences, parts: int | None = None) -> Array:
    """Return all steps, read in parts of a given size."""
    cuts = range(0, found.steps, parts or found.steps)
    chunks = [found.chunk(at, min(at + cuts.step, found.steps)) for at in cuts]
    assert {chunk.shape[1:] for chunk in chunks} == {(found.batch, found.width)}
    return np.concatenate(chunks)


def random_steps(steps: int, batch: int = 1, width: int = 3, dtype: Any = FLOAT) -> Array:
    """Return random numbers `[steps, batch, width]`."""
    found: Array = np.random.default_rng(steps).normal(0, 9, (steps, batch, width)).astype(dtype)
    return found


def write_npz(path: Path, array: Array, **how: Any) -> str:
    (np.savez_compressed if how else np.savez)(path, x=array)
    return str(path)


def write_h5(path: Path, array: Array, **how: Any) -> str:
    with h5py.File(path, "w") as file:
        file.create_dataset("a/x", data=array, **how)
    return str(path)


def write_npy(path: Path, array: Array) -> str:
    np.save(path, array)
    return str(path)


def write_csv(path: Path, array: Array) -> str:
    np.savetxt(path, array, delimiter="\t" if path.suffix == ".tsv" else ",", fmt="%.17g")
    return str(path)


WRITERS: dict[str, tuple[str, Callable[[Path, Array], str]]] = {
    "npy": ("x.npy", write_npy),
    "npy, Fortran's order": ("x.npy", lambda path, a: write_npy(path, np.asfortranarray(a))),
    "npy, big-endian": ("x.npy", lambda path, a: write_npy(path, a.astype(">f4"))),
    "npz": ("x.npz", write_npz),
    "npz, compressed": ("x.npz", lambda path, a: write_npz(path, a, compress=True)),
    "npz, picked": ("x.npz", lambda path, a: f"{write_npz(path, a)}:x"),
    "h5": ("x.h5", write_h5),
    "h5, compressed": (
        "x.h5",
        lambda path, a: write_h5(
            path, a, chunks=tuple(min(2, size) for size in a.shape), compression="gzip"
        ),
    ),
    "h5, picked": ("x.hdf5", lambda path, a: f"{write_h5(path, a)}:/a/x"),
    "csv": ("x.csv", write_csv),
    "tsv": ("x.tsv", write_csv),
    "text without a suffix": ("x.dat", write_csv),
}


def text(path: Path, content: str | bytes) -> str:
    """Write a file with any content."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)
