"""Statistics of a cell's tensors, gate by gate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from lstmstate.cells.cell import Cell
from lstmstate.cells.weights import weight
from lstmstate.records import NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BY_COLUMNS = ("kernel", "recurrent_kernel", "bias", "mask", "norm_0", "norm_1")


class Stats(NamedTuple):
    """The figures of one part of a tensor; min, max, mean and std are of its finite elements.

    Attributes:
        role: the tensor.
        gate: the gate whose columns these are; None for a tensor that is not cut into gates.
        size: the number of elements; zeros, nan and inf count some of them.
    """

    role: str
    gate: str | None
    size: int
    min: float | None
    max: float | None
    mean: float | None
    std: float | None
    zeros: int
    nan: int
    inf: int


def cell_stats(cell: Cell, read: Callable[[str], NDArray[np.generic]]) -> Iterator[Stats]:
    """Yield the figures of each of a cell's tensors; `read` returns a variable's value."""
    for role in cell.variables:
        value = weight(cell, role, read)
        for gate, part in _gates(cell, role, value):
            yield _figures(role, gate, part)


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


def _figures(role: str, gate: str | None, part: NDArray[np.generic]) -> Stats:
    import numpy as np

    wide = part.astype(np.complex128 if np.iscomplexobj(part) else np.float64)
    finite = np.abs(wide[np.isfinite(wide)]) if np.iscomplexobj(wide) else wide[np.isfinite(wide)]
    with np.errstate(all="ignore"):
        figures = [finite.min(), finite.max(), finite.mean(), finite.std()] if finite.size else []
    low, high, mean, std = (float(f) if np.isfinite(f) else None for f in figures or [np.nan] * 4)
    return Stats(
        role,
        gate,
        part.size,
        low,
        high,
        mean,
        std,
        int(np.count_nonzero(wide == 0)),
        int(np.count_nonzero(np.isnan(wide))),
        int(np.count_nonzero(np.isinf(wide))),
    )
