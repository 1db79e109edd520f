"""Two states, or two checkpoints, held against one another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from lstmstate.cells.model import Cell
from lstmstate.opened import LSTMCheckpoint
from lstmstate.sources import Source
from lstmstate.state.flow import spans_of
from lstmstate.state.model import LSTMState, StackState
from lstmstate.state.reading import Reading

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.generic]


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


class _Gauge:
    """Takes two arrays part by part and keeps the largest differences."""

    def __init__(self, name: str, shape: tuple[int, ...], tolerance: Tolerance) -> None:
        self._found = Difference(name, "same", shape)
        self._tolerance = tolerance

    def add(self, a: Array, b: Array, offset: tuple[int, ...]) -> None:
        """Compare two parts of one shape; `offset` is the index of their first element."""
        import numpy as np

        if not a.size:
            return
        if a.dtype.hasobject or b.dtype.hasobject:
            self._count(np.asarray(a != b))
            return
        wide_a, wide_b = _wide(a), _wide(b)
        with np.errstate(all="ignore"):
            gap = np.abs(np.subtract(wide_a, wide_b))
            both_nan = np.isnan(wide_a) & np.isnan(wide_b)
            gap = np.where((wide_a == wide_b) | both_nan, 0.0, np.nan_to_num(gap, nan=np.inf))
            if self._tolerance.exact:
                differs = _bits(a) != _bits(b)
                differs = differs.reshape(*a.shape, -1).any(axis=-1)
            else:
                limit = self._tolerance.atol + self._tolerance.rtol * np.abs(wide_b)
                differs = ~(gap <= np.where(np.isfinite(limit), limit, 0.0))
            largest = np.maximum(np.abs(wide_a), np.abs(wide_b))
            relative = np.where(gap == 0, 0.0, np.where(np.isfinite(gap), gap / largest, np.inf))
        self._count(differs)
        place = np.unravel_index(int(np.argmax(gap)), gap.shape)
        self._keep(float(gap[place]), float(np.max(relative)), place, offset)

    def _count(self, differs: NDArray[np.bool_]) -> None:
        import numpy as np

        number = int(np.count_nonzero(differs))
        verdict = "values" if number else self._found.verdict
        self._found = self._found._replace(
            differing=self._found.differing + number, verdict=verdict
        )

    def _keep(
        self, gap: float, relative: float, place: tuple[object, ...], offset: tuple[int, ...]
    ) -> None:
        found = self._found
        if found.max_abs is None or gap > found.max_abs:
            at = tuple(int(k) + o for k, o in zip(place, offset, strict=True))  # type: ignore[call-overload]
            found = found._replace(max_abs=gap, at=at if gap else None)
        self._found = found._replace(max_rel=max(relative, found.max_rel or 0.0))

    def result(self) -> Difference:
        """Return what was found."""
        return self._found


def _wide(array: Array) -> Array:
    """Return values that can be subtracted without a loss that matters."""
    import numpy as np

    wide: Array = array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)
    return wide


def _bits(array: Array) -> Array:
    import numpy as np

    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).reshape(-1, array.dtype.itemsize)


def compare_states(
    a: Source, b: Source, tolerance: Tolerance, told: Callable[[int], object]
) -> Iterator[Difference]:
    """Yield how c and m of each cell compare, whatever layouts the two states are in.

    Cells are held against one another in their order; their names may differ.
    """
    one, other = a.reading.structure, b.reading.structure
    names = [
        cell.name or other_cell.name or (f"cell_{k}" if one.is_stack else "")
        for k, (cell, other_cell) in enumerate(zip(one.cells, other.cells, strict=False))
    ]
    for side, cells in (("A", one.cells), ("B", other.cells)):
        for number, cell in list(enumerate(cells))[len(names) :]:
            yield Difference(cell.name or f"cell_{number}", f"only in {side}")
    gauges: list[_Gauge | None] = []
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
                gauges.append(_Gauge(label, shape, tolerance))
    if one.lead == other.lead and any(gauges):
        _run(a.reading, b.reading, gauges, told)
    yield from (gauge.result() for gauge in gauges if gauge is not None)


def _run(
    a: Reading, b: Reading, gauges: list[_Gauge | None], told: Callable[[int], object]
) -> None:
    axis, spans = spans_of(a.structure)
    for start, stop in spans:
        halves = [_halves(reading, axis, start, stop) for reading in (a, b)]
        for gauge, x, y in zip(gauges, *halves, strict=False):
            if gauge is not None:
                offset = [0] * x.ndim
                if a.structure.lead:
                    offset[axis] = start
                gauge.add(x, y, tuple(offset))
        told(sum(half.nbytes for half in halves[0]))


def _halves(reading: Reading, axis: int, start: int, stop: int) -> list[Array]:
    state = reading.parts(axis, start, stop)
    cells: tuple[LSTMState, ...] = state.cells if isinstance(state, StackState) else (state,)
    return [half for cell in cells for half in cell]


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
            gauge = _Gauge(name, one.shape, tolerance)
            gauge.add(one.read(), other.read(), (0,) * len(one.shape))
            told(one.nbytes or 0)
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


def largest(differences: list[Difference]) -> float:
    """Return the largest absolute difference of all."""
    return max((found.max_abs or 0.0 for found in differences), default=0.0)
