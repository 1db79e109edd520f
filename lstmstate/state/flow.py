"""A state on its way into files: in parts, so that memory does not grow with it.

A part is some rows of one leading axis. The source gives a part of c and m of all cells; the
target's layout makes of it the same rows of its arrays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from lstmstate.state.layouts import Layout, to_arrays
from lstmstate.state.model import State, Structure

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.generic]

PART_BYTES = 2 << 20  # larger parts leave the processor's caches, smaller ones cost calls

# Rows [start, stop) of a leading axis (its number among them) of a state.
Parts = Callable[[int, int, int], State]


class Planned(NamedTuple):
    """An array that is to be written; `axis` is the one along which its parts come."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    axis: int


class Flow:
    """A state that can be asked for in any layout, part by part.

    Args:
        structure: what it consists of.
        parts: returns the rows [start, stop) of one leading axis.
        layout: the layout of the arrays to come.
        told: is called with the number of bytes of each part that went by.

    Attributes:
        plans: the arrays to come.
        spans: the rows of each part.
    """

    def __init__(
        self,
        structure: Structure,
        parts: Parts,
        layout: Layout,
        told: Callable[[int], object] = lambda nbytes: None,  # noqa: ARG005
    ) -> None:
        self.structure = structure
        self.layout = layout
        self._parts = parts
        self._told = told
        self._lead_axis, self.spans = spans_of(structure)
        self._kept: tuple[tuple[int, int], list[Array]] | None = None
        self.plans = self._plan()

    @property
    def nbytes(self) -> int:
        """The bytes of all its arrays."""
        return sum(math.prod(plan.shape) * plan.dtype.itemsize for plan in self.plans)

    def _plan(self) -> list[Planned]:
        """Lay out a state of no rows: the functions that make the arrays tell their shapes."""
        import numpy as np

        lead = list(self.structure.lead)
        if lead:
            lead[self._lead_axis] = 0
        empty = self.structure.state(
            [
                (
                    np.empty((*lead, w.c), self.structure.dtype),
                    np.empty((*lead, w.m), self.structure.dtype),
                )
                for _, w in self.structure.cells
            ]
        )
        axis = self.layout.axis_of(self._lead_axis, self.structure) if lead else 0
        plans = []
        for name, array in to_arrays(self.layout, empty).items():
            shape = list(array.shape)
            if lead:
                shape[axis] = self.structure.lead[self._lead_axis]
            plans.append(Planned(name, tuple(shape), array.dtype, axis))
        return plans

    def together(self) -> Iterator[tuple[int, int, list[Array]]]:
        """Yield (start, stop, the rows [start, stop) of every planned array), once through."""
        for start, stop in self.spans:
            arrays = self._part(start, stop)
            yield start, stop, arrays
            self._told(sum(array.nbytes for array in arrays))

    def in_order(self, number: int) -> Iterator[Array]:
        """Yield one planned array from its first element to its last, in C order."""
        import numpy as np

        plan = self.plans[number]
        before = plan.shape[: plan.axis] if self.structure.lead else ()
        for place in np.ndindex(before):
            for span in self.spans:
                piece = self._part(*span)[number][place]
                yield piece
                self._told(piece.nbytes)

    def _part(self, start: int, stop: int) -> list[Array]:
        """Return the rows [start, stop) of every planned array; the last ones are kept."""
        if self._kept is None or self._kept[0] != (start, stop):
            state = self._parts(self._lead_axis, start, stop)
            self._kept = (start, stop), list(to_arrays(self.layout, state).values())
        return self._kept[1]


def spans_of(structure: Structure) -> tuple[int, list[tuple[int, int]]]:
    """Return the leading axis along which to cut, and the rows of each part.

    It is the first one of which a row is small enough: a state of [2, 1000000] rows is cut
    along its second axis.
    """
    lead = structure.lead
    if not lead:
        return 0, [(0, 1)]
    whole = sum(cell.widths.flat for cell in structure.cells) * structure.dtype.itemsize
    whole *= math.prod(lead)
    if not whole:
        return 0, [(0, lead[0])]
    rows = [whole // max(size, 1) for size in lead]  # bytes of one row of each axis
    fitting = (axis for axis, row in enumerate(rows) if row <= PART_BYTES)
    axis = next(fitting, min(range(len(lead)), key=rows.__getitem__))
    step = max(PART_BYTES // max(rows[axis], 1), 1)
    return axis, [(at, min(at + step, lead[axis])) for at in range(0, lead[axis], step)] or [(0, 0)]
