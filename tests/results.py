"""Arrays, files and readers for the results of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from hypothesis import settings
from states import Array

from lstmstate.cells.cell import CellShape, StateWidths
from lstmstate.files.atomic import Outputs
from lstmstate.state.formats.array_writer import ArrayWriter, PlannedArray, open_writer
from lstmstate.state.formats.registry import BY_KEY
from lstmstate.state.metadata import Metadata

steady = settings(derandomize=True, deadline=None)
META = Metadata("tuple", (CellShape("rnn/lstm_cell", StateWidths(4, 2)),), False, source="a.ckpt")
KINDS = ["npz", "npz, compressed", "h5", "h5, compressed"]

Arrays = Mapping[str, tuple[Array, int | None]]  # and the axes along which they grow


def planned(arrays: Arrays) -> list[PlannedArray]:
    """Return the plans of some arrays."""
    return [
        PlannedArray(name, array.shape, array.dtype, axis) for name, (array, axis) in arrays.items()
    ]


@contextmanager
def writing(target: Path | str, kind: str, arrays: Arrays, **how: Any) -> Iterator[ArrayWriter]:
    """Open the file of some arrays; it exists after the block."""
    key, _, compressed = kind.partition(", ")
    with (
        Outputs(**how) as outputs,
        open_writer(
            outputs, str(target), BY_KEY[key], planned(arrays), META, compress=bool(compressed)
        ) as results,
    ):
        yield results


def spans(steps: int, parts: int) -> list[tuple[int, int]]:
    """Return the spans for a number of steps."""
    return [(at, min(at + parts, steps)) for at in range(0, steps, parts)]


def fill(results: ArrayWriter, arrays: Arrays, parts: int, *, late: bool = True) -> None:
    """Write all arrays, growing ones in spans; complete ones at the end or before."""
    growing = {name: found for name, found in arrays.items() if found[1] is not None}
    if not late:
        fill(results, {name: arrays[name] for name in arrays if name not in growing}, parts)
    steps = max((array.shape[axis or 0] for array, axis in growing.values()), default=0)
    for start, stop in spans(steps, parts):
        for name, (array, axis) in growing.items():
            rows = array[(slice(None),) * (axis or 0) + (slice(start, stop),)].copy()
            results.write(name, start, rows)
            rows[...] = 77  # the caller may reuse the memory
    for name, (array, axis) in arrays.items() if late else ():
        if axis is None:
            results.write(name, 0, array)


def written(target: Path, kind: str, arrays: Arrays, parts: int = 3, **how: Any) -> Path:
    """Write arrays into a file; return its path."""
    with writing(target, kind, arrays) as results:
        fill(results, arrays, parts, **how)
    return target


def read(path: Path) -> dict[str, Array]:
    """Return the arrays of a file, as NumPy and h5py read them."""
    if path.suffix == ".npy":
        return {"outputs": np.load(path)}
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as found:
            return {name: found[name] for name in found.files if name != "lstmstate"}
    arrays: dict[str, Array] = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, found: (
                arrays.__setitem__(name, found[...]) if isinstance(found, h5py.Dataset) else None
            )
        )
    return arrays


def same(found: Mapping[str, Array], arrays: Arrays) -> None:
    """Check that two sets of arrays are equal to the bit."""
    assert set(found) == set(arrays)
    for name, (array, _) in arrays.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()


def random_array(*shape: int, dtype: str = "float32") -> Array:
    """Return random numbers that differ for each shape."""
    found: Array = np.random.default_rng(shape).normal(size=shape).astype(dtype)
    return found


def results_of(batch: int | None, steps: int, *, time_major: bool = False) -> dict[str, Any]:
    """Return outputs, c of every step, and the last state, as a run does."""
    lead = () if batch is None else (batch,)
    axis = 0 if batch is None or time_major else 1
    shape = (*lead, steps) if axis else (steps, *lead)
    return {
        "outputs": (random_array(*shape, 2), axis),
        "steps/c": (random_array(*shape, 4), axis),
        "c": (random_array(batch or 1, 4), None),
        "m": (random_array(batch or 1, 2), None),
    }
