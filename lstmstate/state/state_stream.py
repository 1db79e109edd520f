"""A state on its way into files: in parts, so that memory does not grow with it.

A part is some rows of one leading axis. The source gives a part of c and m of all cells; the
target's layout makes of it the same rows of its arrays. The source is read once: values that a file
takes in another order wait in a nameless file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from lstmstate.cells.state_names import role_of
from lstmstate.errors import LstmstateError, printable
from lstmstate.files import STDOUT
from lstmstate.state.formats.array_writer import ArrayWriter, PlannedArray, Spool
from lstmstate.state.layouts import Layout, Structure, to_arrays
from lstmstate.state.metadata import Metadata
from lstmstate.state.state import State
from lstmstate.state.swapped_halves import find_swapped, place
from lstmstate.value_stats import ValueStats, stats_of

if TYPE_CHECKING:
    from lstmstate.state.infer_layout import StoredState
    from lstmstate.state.state import Array, DType

PART_BYTES = 2 << 20  # larger parts leave the processor's caches, smaller ones cost calls

Advance = Callable[[int], object]  # is called with the bytes of each part that has been read


def ignore(nbytes: int) -> None:
    """Take no notice of progress."""


class StateStream:
    """A state that is read in parts, once, and can be asked for in any layout.

    Args:
        state: the state.
        layout: the layout of the arrays to come, None for that of the state.
        dtype: the dtype to cast it to, None for its own.
        on_part: is called with the number of bytes of each part.

    Attributes:
        structure: its cells and shapes, in the dtype to come.
        spans: the rows of each part.
        ranges: the statistics of c and m of each cell, for the parts that were read.
        target: the file to come; values may wait for their turn next to it.
        variables: the names of its arrays in a checkpoint that was written anew.
        graph_notes: lines for the user on the graph of this checkpoint.
    """

    variables: tuple[str, ...] = ()
    graph_notes: tuple[str, ...] = ()
    target: str = STDOUT

    def __init__(
        self,
        state: StoredState,
        layout: Layout | None = None,
        dtype: DType | None = None,
        on_part: Advance = ignore,
    ) -> None:
        own = state.structure.dtype
        if dtype is not None and own.kind == "c" and dtype.kind != "c":
            raise LstmstateError(
                f"it is {own}, and {dtype} would keep the real part alone",
                path=state.file.path,
                advice="leave `dtype=...` out",
            )
        self.state = state
        self.layout = layout or state.layout
        self.structure = state.structure._replace(dtype=dtype or own)
        self._lead_axis, self.spans = spans_of(self.structure)
        self.ranges = [(ValueStats(), ValueStats()) for _ in self.structure.cells]
        self._asked = dtype
        self._changed = 0  # values that are not exact in the new dtype
        self.on_part = on_part
        self._spool: Spool | None = None

    @cached_property
    def plans(self) -> list[PlannedArray]:
        """The arrays to come.

        A state of no rows is laid out: the functions that make the arrays show their shapes.
        """
        import numpy as np

        dtype, lead = self.structure.dtype, list(self.structure.lead)
        axis = self.layout.axis_of(self._lead_axis, self.structure) if lead else None
        if lead:
            lead[self._lead_axis] = 0
        halves = [
            (np.empty((*lead, w.c), dtype), np.empty((*lead, w.m), dtype))
            for w in (cell.widths for cell in self.structure.cells)
        ]
        plans = []
        for name, array in to_arrays(self.layout, self.structure.state(halves)).items():
            shape = list(array.shape)
            if axis is not None:
                shape[axis] = self.structure.lead[self._lead_axis]
            plans.append(PlannedArray(name, tuple(shape), array.dtype, axis))
        return plans

    @property
    def metadata(self) -> Metadata:
        """What travels with its arrays."""
        file = self.state.file
        was = self.state.wider_than or (file.metadata.dtype if file.metadata else None)
        return Metadata(
            self.layout.name,
            self.structure.cells,
            self.structure.is_stack,
            dtype=was if self._asked is None and was == "bfloat16" else None,
            source=os.path.basename(file.path) or None,
        )

    @property
    def swapped(self) -> list[str]:
        """A line for each cell whose c and m look swapped."""
        return find_swapped(self.structure.cells, self.ranges)

    @property
    def notes(self) -> list[str]:
        """Lines for the user on the state, its names, and its values."""
        lines = [*self.state.notes]
        was = self.state.file.variables
        if self.variables not in ((), was):
            old, new = (", ".join(map(printable, names)) for names in (was, self.variables))
            lines.append(f"the state has other names now: {new} (was {old})")
        lines += self.swapped or self._order_notes()
        lines += self._projection_notes()
        for cell, ranges in zip(self.structure.cells, self.ranges, strict=True):
            lines += [
                f"{place(cell.name)}{half} holds {' and '.join(words)}"
                for half, found in zip("cm", ranges, strict=True)
                if (words := found.words)
            ]
        if self._changed:
            lines.append(f"{self._changed:,} values are not the same in {self._asked}")
        return [*lines, *self.graph_notes]

    def _order_notes(self) -> list[str]:
        """Return a line if nothing but the layout shows which half is c.

        A flat state has one order in every program, torch gives its pairs in one, and a user names
        variables and the two files of concat in one.
        """
        state, layout, file = self.state, self.state.layout, self.state.file
        roles = (role_of(array.name) for array in state.arrays)
        is_shown = any(role is not None and role[1] != "state" for role in roles)
        is_of_torch = file.kind == "pt" and layout.h_first
        is_given = file.metadata is not None or file.kind in ("ckpt", "")
        if is_shown or layout.is_flat or is_given or is_of_torch:
            return []
        halves = [half for ranges in self.ranges for half in ranges]
        are_alike = all(half.low == half.high == halves[0].low for half in halves)
        if are_alike or not all(half.within_one for half in halves):
            return []
        other = layout.reversed
        end = f", and {other.name} is the other one" if other else ""
        return [
            f"the values fit either order of c and h: they are read as {layout.name} "
            f"({layout.words}){end}"
        ]

    def _projection_notes(self) -> list[str]:
        """Return a line if the program of the layout to come has no such state."""
        widths = [cell.widths for cell in self.structure.cells if len(set(cell.widths)) > 1]
        if not widths or self.layout.projects or self.layout is self.state.layout:
            return []
        c, m = widths[0]
        return [
            f"the layout {self.layout.name!r} is that of LSTMs without a projection "
            f"({self.layout.program}), and here are c {c} and h {m}"
        ]

    def read_all(self) -> None:
        """Read all parts, for the ranges alone."""
        for start, stop in self.spans:
            self.part(start, stop)

    def whole(self) -> State:
        """Return all of it at once."""
        return self.part(0, self.spans[-1][1])

    def part(self, start: int, stop: int) -> State:
        """Return some rows in the dtype to come; they enter the statistics."""
        pairs = self.state.pairs(self._lead_axis, start, stop)
        for number, pair in enumerate(pairs):
            new_c, new_m = (stats_of(half, moments=False) for half in pair)
            c, m = self.ranges[number]
            self.ranges[number] = c.joined(new_c), m.joined(new_m)
        if self.structure.dtype != self.state.structure.dtype:
            pairs = [(self._cast(c), self._cast(m)) for c, m in pairs]
        return self.structure.state(pairs)

    def _cast(self, half: Array) -> Array:
        import numpy as np

        with np.errstate(all="ignore"):
            cast: Array = half.astype(self.structure.dtype)
            back = cast.astype(half.dtype)
            same = (back == half) | (np.isnan(back) & np.isnan(half))
            self._changed += same.size - int(np.count_nonzero(same))
        return cast

    def together(self) -> Iterator[tuple[int, list[Array]]]:
        """Yield (start, the rows from start on of every planned array), once through."""
        for start, stop in self.spans:
            arrays = list(to_arrays(self.layout, self.part(start, stop)).values())
            yield start, arrays
            self.on_part(sum(array.nbytes for array in arrays))

    def write(self, writers: Sequence[ArrayWriter]) -> None:
        """Write all parts, each of its arrays with a writer."""
        for start, arrays in self.together():
            for writer, plan, array in zip(writers, self.plans, arrays, strict=True):
                writer.write(plan.name, start, array)

    def in_order(self, number: int) -> Iterator[Array]:
        """Yield one planned array from its first element to its last, in C order.

        Pieces have any shape. The arrays can be asked for in any order, each of them once.
        """
        import numpy as np

        if len(self.plans) == 1 and (len(self.spans) == 1 or not self.plans[0].axis):
            for _, (array,) in self.together():
                yield array
            return
        if self._spool is None:
            self._spool = Spool(self.plans, self.target, in_memory=PART_BYTES)
            for start, arrays in self.together():
                for other, array in enumerate(arrays):
                    self._spool.put(other, start, array)
        for piece in self._spool.pieces(number):
            yield np.frombuffer(piece, self.plans[number].dtype)


def spans_of(structure: Structure) -> tuple[int, list[tuple[int, int]]]:
    """Return the leading axis along which to cut, and the rows of each part.

    It is the first one with rows that are small enough: a state of [2, 1000000] rows is cut
    along its second axis.
    """
    lead = structure.lead
    if not lead:
        return 0, [(0, 1)]
    if not structure.nbytes:
        return 0, [(0, lead[0])]
    rows = [structure.nbytes // max(size, 1) for size in lead]  # bytes of one row of each axis
    fitting = (axis for axis, row in enumerate(rows) if row <= PART_BYTES)
    axis = next(fitting, min(range(len(lead)), key=rows.__getitem__))
    step = max(PART_BYTES // max(rows[axis], 1), 1)
    return axis, [(at, min(at + step, lead[axis])) for at in range(0, lead[axis], step)] or [(0, 0)]
