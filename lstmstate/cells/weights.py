"""Weights of cells as arrays: shards joined on the axis of their era."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from lstmstate.cells.cell import Cell

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def weight(
    cell: Cell, role: str, read: Callable[[str], NDArray[np.generic]]
) -> NDArray[np.generic]:
    """Return the tensor of a role, whole; `read` returns a variable's value.

    Kernels are joined on `Cell.shard_axis`. Shards of a projection `[H, P]` that have all H rows
    were cut by columns (0.5 and 0.6), others by rows.
    """
    values = [read(name) for name in cell.variables[role]]
    if len(values) == 1:
        return values[0]
    import numpy as np

    axis = 0
    if role == "kernel":
        axis = cell.shard_axis or 0
    elif role == "projection" and all(len(value) == cell.num_units for value in values):
        axis = 1
    return np.concatenate(values, axis=axis)
