"""Weights of cells as arrays: shards joined on the axis of their era, statistics gate by gate."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from lstmstate.cells.cell import Cell
from lstmstate.named_tuple import NamedTuple
from lstmstate.type_names import TYPE_CHECKING
from lstmstate.value_stats import ValueStats, stats_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BY_COLUMNS = ("kernel", "recurrent_kernel", "bias", "mask", "norm_0", "norm_1")


class GateStats(NamedTuple):
    """Statistics of one part of a tensor.

    Attributes:
        role: the tensor.
        gate: the gate whose columns these are; None for a tensor without gates.
    """

    role: str
    gate: str | None
    values: ValueStats


def cell_stats(cell: Cell, read: Callable[[str], NDArray[np.generic]]) -> Iterator[GateStats]:
    """Yield the statistics of each of a cell's tensors; `read` returns a variable's value."""
    for role in cell.variables:
        value = weight(cell, role, read)
        for gate, part in _gates(cell, role, value):
            yield GateStats(role, gate, stats_of(part))


def _gates(
    cell: Cell, role: str, value: NDArray[np.generic]
) -> Iterator[tuple[str | None, NDArray[np.generic]]]:
    """Yield (gate, its columns); cuDNN's bias holds two sets, GLSTM's kernels one a group."""
    order = cell.gate_order
    units = cell.num_units or 0
    groups = cell.extra.get("number_of_groups")
    width = units // groups if isinstance(groups, int) and role == "kernel" else units
    fits = value.size and value.ndim > 0 and width and value.shape[-1] % (len(order) * width) == 0
    if role not in _BY_COLUMNS or not order.isalpha() or not fits:
        yield None, value
        return
    sets = value.reshape(*value.shape[:-1], -1, len(order), width)
    for number, gate in enumerate(order):
        yield gate, sets[..., number, :]


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
