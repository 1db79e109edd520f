"""A state on its way into files: in parts, so that memory does not grow with it.

A part is some rows of one leading axis. The source gives a part of c and m of all cells; the
target's layout makes of it the same rows of its arrays. The source is read once: values that a file
takes in another order wait in a nameless file.
"""

from __future__ import annotations

import math
import os
import weakref
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING

from lstmstate.errors import LstmstateError, printable
from lstmstate.state.formats.array_writer import PlannedArray, put_rows
from lstmstate.state.layouts import Layout, to_arrays
from lstmstate.state.state import LSTMState, StackState, State, Structure
from lstmstate.state.swapped_halves import find_swapped
from lstmstate.value_stats import ValueStats, stats_of

if TYPE_CHECKING:
    import numpy as np

    from lstmstate.state.infer_layout import Reading
    from lstmstate.state.state import Array

PART_BYTES = 2 << 20  # larger parts leave the processor's caches, smaller ones cost calls

# Rows [start, stop) of a leading axis (its number among them) of a state.
Parts = Callable[[int, int, int], State]


class Watch:
    """A state that is read in parts, and the statistics of the parts.

    Args:
        reading: the state.
        dtype: the dtype to cast it to, None for its own.

    Attributes:
        ranges: the statistics of c and m of each cell, for the parts that were read.
        changed: how many values are not exact in the new dtype.
    """

    def __init__(self, reading: Reading, dtype: np.dtype[np.generic] | None = None) -> None:
        if dtype is not None and reading.structure.dtype.kind == "c" and dtype.kind != "c":
            raise LstmstateError(
                f"it is {reading.structure.dtype}, and {dtype} would keep the real part alone",
                path=reading.file.path,
                advice="leave `dtype=...` out",
            )
        self.reading = reading
        self.structure = reading.structure
        self._dtype = dtype if dtype is not None and dtype != self.structure.dtype else None
        if self._dtype is not None:
            self.structure = self.structure._replace(dtype=self._dtype)
        self.ranges = [(ValueStats(), ValueStats()) for _ in self.structure.cells]
        self.changed = 0
        self._seen = 0

    def parts(self, axis: int, start: int, stop: int) -> State:
        """Return some rows; new ones enter the statistics."""
        state = self.reading.parts(axis, start, stop)
        new = stop > self._seen
        self._seen = max(self._seen, stop)
        cells = [self._count(number, cell, new=new) for number, cell in enumerate(state.cells)]
        return StackState(cells) if self.structure.is_stack else cells[0]

    def _count(self, number: int, cell: LSTMState, *, new: bool) -> LSTMState:
        if new:
            c, m = self.ranges[number]
            new_c, new_m = (stats_of(half, moments=False) for half in (cell.c, cell.m))
            self.ranges[number] = c.joined(new_c), m.joined(new_m)
        if self._dtype is None:
            return cell
        halves = [self._cast(half, count=new) for half in cell]
        return LSTMState(halves[0], halves[1], cell.cell)

    def _cast(self, half: Array, *, count: bool) -> Array:
        import numpy as np

        with np.errstate(all="ignore"):
            cast: Array = half.astype(self._dtype)
            if count:
                back = cast.astype(half.dtype)
                same = (back == half) | (np.isnan(back) & np.isnan(half))
                self.changed += same.size - int(np.count_nonzero(same))
        return cast

    def swapped(self) -> list[str]:
        """Return a line for each cell whose halves look swapped."""
        return list(find_swapped(self.structure.cells, self.ranges))

    def notes(self) -> list[str]:
        """Return lines on values that are not finite or not exact."""
        lines = [
            f"{_called(cell.name)}{half} holds {' and '.join(words)}"
            for cell, ranges in zip(self.structure.cells, self.ranges, strict=True)
            for half, found in zip("cm", ranges, strict=True)
            if (words := found.words)
        ]
        if self.changed:
            lines.append(f"{self.changed:,} values are not the same in {self._dtype}")
        return lines


def _called(name: str) -> str:
    return f"{printable(name)}: " if name else ""


class Flow:
    """A state that can be asked for in any layout, part by part.

    Args:
        structure: its cells and shapes.
        parts: returns the rows [start, stop) of one leading axis.
        layout: the layout of the arrays to come.
        on_part: is called with the number of bytes of each part.
        folder: where values may wait in a nameless file; None for the system's own.

    Attributes:
        plans: the arrays to come.
        spans: the rows of each part.
    """

    def __init__(
        self,
        structure: Structure,
        parts: Parts,
        layout: Layout,
        on_part: Callable[[int], object] = lambda nbytes: None,  # noqa: ARG005
        folder: str | None = None,
    ) -> None:
        self.structure = structure
        self.layout = layout
        self._parts = parts
        self._on_part = on_part
        self._lead_axis, self.spans = spans_of(structure)
        self._folder = folder
        self._waiting: IO[bytes] | None = None  # all arrays one after another, in C order
        self.plans = self._plan()

    @property
    def nbytes(self) -> int:
        """The bytes of all its arrays."""
        return sum(plan.nbytes for plan in self.plans)

    def _plan(self) -> list[PlannedArray]:
        """Lay out a state of no rows: the functions that make the arrays show their shapes."""
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
        axis = self.layout.axis_of(self._lead_axis, self.structure) if lead else None
        plans = []
        for name, array in to_arrays(self.layout, empty).items():
            shape = list(array.shape)
            if axis is not None:
                shape[axis] = self.structure.lead[self._lead_axis]
            plans.append(PlannedArray(name, tuple(shape), array.dtype, axis))
        return plans

    def together(self) -> Iterator[tuple[int, int, list[Array]]]:
        """Yield (start, stop, the rows [start, stop) of every planned array), once through."""
        for start, stop in self.spans:
            state = self._parts(self._lead_axis, start, stop)
            arrays = list(to_arrays(self.layout, state).values())
            yield start, stop, arrays
            self._on_part(sum(array.nbytes for array in arrays))

    def in_order(self, number: int) -> Iterator[Array]:
        """Yield one planned array from its first element to its last, in C order.

        Pieces have any shape. The arrays can be asked for in any order, each of them once.
        """
        import numpy as np

        if len(self.plans) == 1 and (len(self.spans) == 1 or not self.plans[0].axis):
            for _, _, (array,) in self.together():
                yield array
            return
        if self._waiting is None:
            self._waiting = self._gathered()
        plan = self.plans[number]
        offset = sum(before.nbytes for before in self.plans[:number])
        size = max(PART_BYTES // plan.dtype.itemsize, 1) * plan.dtype.itemsize
        for start in range(0, plan.nbytes, size):
            self._waiting.seek(offset + start)
            data = self._waiting.read(min(size, plan.nbytes - start))
            yield np.frombuffer(data, plan.dtype)

    def _gathered(self) -> IO[bytes]:
        """Write all arrays into a nameless file, or into memory where they are small."""
        import io
        import tempfile

        file: IO[bytes] = io.BytesIO()
        if self.nbytes > PART_BYTES:
            file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - closed with the flow
        weakref.finalize(self, file.close)
        for start, _, arrays in self.together():
            offset = 0
            for plan, array in zip(self.plans, arrays, strict=True):
                put_rows(file, offset, plan, start, array)
                offset += plan.nbytes
        return file


def folder_of(target: str) -> str | None:
    """Return the folder of a target, None for stdout."""
    return None if target == "-" else os.path.dirname(os.path.realpath(target))


def spans_of(structure: Structure) -> tuple[int, list[tuple[int, int]]]:
    """Return the leading axis along which to cut, and the rows of each part.

    It is the first one with rows that are small enough: a state of [2, 1000000] rows is cut
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
