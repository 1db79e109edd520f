"""Two states, the arrays of two files, or two checkpoints, compared."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from lstmstate.cells.cell import Cell
from lstmstate.model.checkpoint import LSTMCheckpoint
from lstmstate.model.saved_states import Source
from lstmstate.records import NamedTuple
from lstmstate.state.formats.chunked import StoredArray
from lstmstate.state.infer_layout import Reading
from lstmstate.state.state import Structure
from lstmstate.state.stream import spans_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.generic]


_PART = 1 << 18  # elements that are compared at a time


class Tolerance(NamedTuple):
    """Values a and b are the same where |a - b| <= atol + rtol * |b|; NaN is the same as NaN.

    With `exact`, every bit must be the same: the dtype, the sign of zero, the payload of a NaN.
    """

    rtol: float = 1e-5
    atol: float = 1e-8
    exact: bool = False


class Difference(NamedTuple):
    """How one tensor compares.

    Attributes:
        verdict: "same", "values", "shape", "dtype", "only in A" or "only in B".
        words: what is different, where it is not a matter of values.
        differing: how many elements differ by more than the tolerance.
        max_abs: the largest |a - b|; None where there is nothing to subtract.
        max_rel: the largest |a - b| / max(|a|, |b|).
        at: the index of the largest absolute difference.
    """

    name: str
    verdict: str
    shape: tuple[int, ...] = ()
    words: str = ""
    differing: int = 0
    max_abs: float | None = None
    max_rel: float | None = None
    at: tuple[int, ...] | None = None


class Gauge:
    """Takes two arrays part by part and keeps the largest differences."""

    def __init__(self, name: str, shape: tuple[int, ...], tolerance: Tolerance) -> None:
        self._found = Difference(name, "same", shape)
        self._tolerance = tolerance

    def add(self, a: Array, b: Array, offset: tuple[int, ...]) -> None:
        """Compare two parts of one shape; `offset` is the index of their first element."""
        import numpy as np

        flat_a, flat_b = a.reshape(-1), b.reshape(-1)
        # What is worked out of a part takes many times its memory.
        for at in range(0, a.size, _PART):
            gap, place = self._compared(flat_a[at : at + _PART], flat_b[at : at + _PART])
            if place is not None and (self._found.max_abs is None or gap > self._found.max_abs):
                index = np.unravel_index(at + place, a.shape)
                where = tuple(int(k) + o for k, o in zip(index, offset, strict=True))
                self._found = self._found._replace(max_abs=gap, at=where if gap else None)

    def _compared(self, a: Array, b: Array) -> tuple[float, int | None]:
        """Count what differs in flat parts; return the largest gap and where it is."""
        import numpy as np

        if a.dtype.hasobject or b.dtype.hasobject:
            self._count(np.asarray(a != b), 0.0)
            return 0.0, None
        with np.errstate(all="ignore"):
            wide_a, wide_b = _wide(a), _wide(b)
            gap = np.abs(np.subtract(wide_a, wide_b))
            both_nan = np.isnan(wide_a) & np.isnan(wide_b)
            # NaN against a number is as far off as can be.
            gap = np.where((wide_a == wide_b) | both_nan, 0.0, np.where(np.isnan(gap), np.inf, gap))
            if self._tolerance.exact:
                differs = (_bits(a) != _bits(b)).any(axis=-1)
            else:
                limit = self._tolerance.atol + self._tolerance.rtol * np.abs(wide_b)
                differs = ~(gap <= np.where(np.isfinite(limit), limit, 0.0))
            largest = np.maximum(np.abs(wide_a), np.abs(wide_b))
            relative = np.where(gap == 0, 0.0, np.where(np.isfinite(gap), gap / largest, np.inf))
        self._count(differs, float(np.max(relative)))
        place = int(np.argmax(gap))
        return float(gap[place]), place

    def _count(self, differs: NDArray[np.bool_], relative: float) -> None:
        import numpy as np

        found = self._found
        number = int(np.count_nonzero(differs))
        self._found = found._replace(
            differing=found.differing + number,
            verdict="values" if number else found.verdict,
            max_rel=max(relative, found.max_rel or 0.0),
        )

    def result(self) -> Difference:
        """Return what was found."""
        return self._found


def _wide(array: Array) -> Array:
    """Return values that can be subtracted: integers of 64 bits need more than a float64 has."""
    import numpy as np

    kinds = {"c": np.complex128, "f": np.float64}
    wide: Array = array.astype(kinds.get(array.dtype.kind, np.longdouble))
    return wide


def _bits(array: Array) -> Array:
    import numpy as np

    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).reshape(-1, array.dtype.itemsize)


def compare_states(
    a: Source, b: Source, tolerance: Tolerance, told: Callable[[int], object]
) -> Iterator[Difference]:
    """Yield how c and m of each cell compare, whatever layouts the two states are in.

    Cells are held against one another by name where both states have the same names, else in
    their order.
    """
    one, other = a.reading.structure, b.reading.structure
    order = _order_of(one, other)
    other = other._replace(cells=tuple(other.cells[number] for number in order))
    names = [
        cell.name or other_cell.name or (f"cell_{k}" if one.is_stack else "")
        for k, (cell, other_cell) in enumerate(zip(one.cells, other.cells, strict=False))
    ]
    for side, cells in (("A", one.cells), ("B", other.cells)):
        for number, cell in list(enumerate(cells))[len(names) :]:
            yield Difference(cell.name or f"cell_{number}", f"only in {side}")
    gauges: list[Gauge | None] = []
    for name, cell, other_cell in zip(names, one.cells, other.cells, strict=False):
        for half in ("c", "m"):
            label = f"{name}/{half}".lstrip("/")
            shape = (*one.lead, getattr(cell.widths, half))
            other_shape = (*other.lead, getattr(other_cell.widths, half))
            if shape != other_shape:
                words = _width_words(shape, other_shape, half)
                yield Difference(label, "shape", shape, words)
                gauges.append(None)
            elif tolerance.exact and one.dtype != other.dtype:
                yield Difference(label, "dtype", shape, f"{one.dtype} against {other.dtype}")
                gauges.append(None)
            else:
                gauges.append(Gauge(label, shape, tolerance))
    if one.lead == other.lead and any(gauges):
        _run(a.reading, b.reading, order, gauges, told)
    yield from (gauge.result() for gauge in gauges if gauge is not None)


def _order_of(one: Structure, other: Structure) -> list[int]:
    """Return the numbers of the other state's cells in the order of the first one's."""
    names, others = ([cell.name for cell in state.cells] for state in (one, other))
    if len(set(names)) == len(names) and sorted(names) == sorted(others):
        return [others.index(name) for name in names]
    return list(range(len(others)))


def _run(
    a: Reading,
    b: Reading,
    order: list[int],
    gauges: list[Gauge | None],
    told: Callable[[int], object],
) -> None:
    axis, spans = spans_of(a.structure)
    for start, stop in spans:
        mine = _halves(a, axis, start, stop)
        theirs = _halves(b, axis, start, stop)
        theirs = [half for number in order for half in theirs[2 * number : 2 * number + 2]]
        for gauge, x, y in zip(gauges, mine, theirs, strict=False):
            if gauge is not None:
                offset = [0] * x.ndim
                if a.structure.lead:
                    offset[axis] = start
                gauge.add(x, y, tuple(offset))
        told(sum(half.nbytes for half in mine))


def _halves(reading: Reading, axis: int, start: int, stop: int) -> list[Array]:
    return [half for cell in reading.parts(axis, start, stop).cells for half in cell]


def _width_words(shape: tuple[int, ...], other: tuple[int, ...], half: str) -> str:
    if shape[:-1] == other[:-1]:
        what = "units" if half == "c" else "width of m"
        return f"{what} {shape[-1]} against {other[-1]}"
    return f"{list(shape)} against {list(other)}"


def compare_checkpoints(
    a: LSTMCheckpoint, b: LSTMCheckpoint, tolerance: Tolerance, told: Callable[[int], object]
) -> Iterator[Difference]:
    """Yield how the variables of two checkpoints compare, name by name."""
    for name in sorted({*a.variables, *b.variables}):
        one, other = a.variables.get(name), b.variables.get(name)
        if one is None or other is None:
            present = one or other
            assert present is not None
            yield Difference(name, "only in A" if one else "only in B", present.shape)
        elif one.shape != other.shape:
            yield Difference(name, "shape", one.shape, shape_words(a, b, name))
        elif (one.dtype == "string") != (other.dtype == "string") or (
            tolerance.exact and one.dtype != other.dtype
        ):
            yield Difference(name, "dtype", one.shape, f"{one.dtype} against {other.dtype}")
        else:
            gauge = Gauge(name, one.shape, tolerance)
            gauge.add(one.read(), other.read(), (0,) * len(one.shape))
            told(one.nbytes or 0)
            yield gauge.result()


def compare_arrays(
    a: Sequence[StoredArray],
    b: Sequence[StoredArray],
    tolerance: Tolerance,
    told: Callable[[int], object],
) -> Iterator[Difference]:
    """Yield how the arrays of two files compare, name by name; one on each side needs none."""
    mine, theirs = ({array.name: array for array in arrays} for arrays in (a, b))
    if len(mine) == len(theirs) == 1:
        theirs = dict(zip(mine, theirs.values(), strict=True))
    for name in dict.fromkeys((*mine, *theirs)):
        one, other = mine.get(name), theirs.get(name)
        label = name or "array"
        if one is None or other is None:
            yield Difference(label, "only in A" if one else "only in B", (one or b[0]).shape)
        elif one.shape != other.shape:
            words = f"{list(one.shape)} against {list(other.shape)}"
            yield Difference(label, "shape", one.shape, words)
        elif "V" in (one.dtype.kind, other.dtype.kind) or (
            tolerance.exact and one.dtype != other.dtype
        ):
            yield Difference(label, "dtype", one.shape, f"{one.dtype} against {other.dtype}")
        else:
            gauge = Gauge(label, one.shape, tolerance)
            step = max(_PART // max(math.prod(one.shape[1:]), 1), 1)
            for start in range(0, one.shape[0], step):
                stop = min(start + step, one.shape[0])
                part = one.read(0, start, stop)
                gauge.add(part, other.read(0, start, stop), (start, *[0] * (part.ndim - 1)))
                told(part.nbytes)
            yield gauge.result()


def shape_words(a: LSTMCheckpoint, b: LSTMCheckpoint, name: str) -> str:
    """Return how two shapes differ, in the words of an LSTM where they belong to one."""
    shapes = f"{list(a.variables[name].shape)} against {list(b.variables[name].shape)}"
    cells = [ckpt.cells.get(ckpt.role(name)[1] or "") for ckpt in (a, b)]
    if cells[0] is None or cells[1] is None:
        return shapes
    one, other = _widths(cells[0]), _widths(cells[1])
    told = [f"{key} {value}" for key, value in one.items()]
    keys = [*one, *(key for key in other if key not in one)]
    others = [f"{key} {other.get(key, 'none')}" for key in keys if other.get(key) != one.get(key)]
    return f"{', '.join(told)} against {', '.join(others)}" if others else shapes


def _widths(cell: Cell) -> dict[str, object]:
    found = {"input": cell.input_size, "units": cell.num_units, "projection": cell.num_proj}
    return {key: value for key, value in found.items() if value is not None}


def same(differences: list[Difference]) -> bool:
    """Whether nothing differs."""
    return all(found.verdict == "same" for found in differences)
