"""Comparison of two states, of the arrays of two files, or of two checkpoints."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from lstmstate.arguments import TOLERANCE, name_nearest, refuse_others
from lstmstate.cells.cell import Cell
from lstmstate.errors import CorruptError, LstmstateError, first_of
from lstmstate.model.checkpoint import LSTMCheckpoint
from lstmstate.model.saved_states import open_wanted
from lstmstate.named_tuple import NamedTuple
from lstmstate.operations.load import Opened, open_path, states_in
from lstmstate.state.candidates import Cells, Wanted
from lstmstate.state.formats.stored_array import StoredArray
from lstmstate.state.infer_layout import StoredState
from lstmstate.state.layouts import Structure
from lstmstate.state.state_stream import Advance, ignore, spans_of

if TYPE_CHECKING:
    from lstmstate.state.state import Array, DType


_PART = 1 << 18  # elements that are compared at a time


class Tolerance(NamedTuple):
    """Values a and b are the same if |a - b| <= atol + rtol * |b|; NaN is the same as NaN.

    With `exact`, every bit must be the same: the dtype, the sign of zero, the payload of a NaN.
    """

    rtol: float = 1e-5
    atol: float = 1e-8
    exact: bool = False


class Difference(NamedTuple):
    """The difference of one tensor.

    Attributes:
        verdict: "same", "values", "shape", "dtype", "only in A" or "only in B".
        words: the difference, if it is not one of values.
        differing: the number of elements that differ by more than the tolerance.
        max_abs: the largest |a - b|; None if there is nothing to subtract.
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


class Comparison(NamedTuple):
    """Two inputs, compared; true if no tensor differs.

    Attributes:
        kind: "states", "checkpoints", or "arrays" of two files without a state.
        differences: one for each tensor, those that are the same included.
        notes: choices that were made in reading the two.
    """

    kind: str
    differences: tuple[Difference, ...]
    notes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.is_same

    @property
    def is_same(self) -> bool:
        """Whether no tensor differs."""
        return same(self.differences)


class Pair(NamedTuple):
    """Two inputs, ready to be compared.

    Attributes:
        nbytes: the bytes of the first one.
        differences: yields them; calls its argument with the bytes of each part it has compared.
    """

    kind: str
    notes: tuple[str, ...]
    nbytes: int
    differences: Callable[[Advance], Iterator[Difference]]


@name_nearest
def compare(
    a: str | os.PathLike[str],
    b: str | os.PathLike[str],
    *,
    rtol: float = 1e-5,
    atol: float = 1e-8,
    exact: bool = False,
    layout: str | None = None,
    cells: Sequence[tuple[int, int]] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    header: bool | None = None,
    checksums: bool = True,
) -> Comparison:
    """Compare two states, two checkpoints, or the arrays of two files.

    Args:
        a, b: paths; values are the same if `|a - b| <= atol + rtol * |b|`.
        exact: whether every bit must be the same.
        layout, cells, checkpoint, header: as for `load_state`.
    """
    refuse_others({"rtol": rtol, "atol": atol}, dict.fromkeys(("rtol", "atol"), TOLERANCE))
    with (
        open_path(os.fspath(a), checksums=checksums, header=header) as first,
        open_path(os.fspath(b), checksums=checksums, header=header) as second,
        open_wanted(layout, cells, checkpoint, checksums=checksums) as wanted,
    ):
        pair = pair_up(first, second, wanted, Tolerance(rtol, atol, exact))
        differences = tuple(pair.differences(ignore))
    return Comparison(pair.kind, differences, (*first.notes, *second.notes, *pair.notes))


def pair_up(a: Opened, b: Opened, wanted: Wanted, tolerance: Tolerance) -> Pair:
    """Return two inputs, ready to be compared."""
    if a.is_model and b.is_model and a.ckpt is not None and b.ckpt is not None:
        both = (a.ckpt, b.ckpt)
        return Pair(
            "checkpoints",
            (),
            a.nbytes,
            lambda advance: compare_checkpoints(*both, tolerance, advance),
        )
    found = _states((a, b), wanted)
    if isinstance(found, LstmstateError):
        if wanted.layout or wanted.knows_widths or a.file is None or b.file is None:
            raise found
        line = f"neither has a state that can be read ({found.problem}): the arrays are compared"
        arrays = (a.file.arrays, b.file.arrays)
        return Pair(
            "arrays",
            (line,),
            sum(array.nbytes for array in arrays[0]),
            lambda advance: compare_arrays(*arrays, tolerance, advance),
        )
    rests = [_rest(*pair) for pair in zip((a, b), found, strict=True)]
    notes = [
        note
        for state, rest, other in zip(found, rests, rests[::-1], strict=True)
        for note in (*state.notes, *_left_out(state, [*rest.keys() - other]))
    ]
    mine, theirs = ([rest[name] for name in rests[0] if name in rests[1]] for rest in rests)

    def differences(advance: Advance) -> Iterator[Difference]:
        yield from compare_states(*found, tolerance, advance)
        yield from compare_arrays(mine, theirs, tolerance, advance)

    return Pair("states", tuple(notes), found[0].structure.nbytes, differences)


def _rest(opened: Opened, state: StoredState) -> dict[str, StoredArray]:
    """Return the arrays of a file outside its state, such as the outputs of a run."""
    rest = state.other_arrays
    is_own = opened.ckpt is None and len(rest) < len(state.file.arrays)
    return {array.name: array for array in rest} if is_own else {}


def _left_out(state: StoredState, rest: Sequence[str]) -> list[str]:
    """Return a line with the arrays of a file that are not compared."""
    if not rest:
        return []
    names = first_of(sorted(rest), 3)
    return [f"{state.file.path}: only the state is compared, and not {names}"]


def _states(
    opened: Sequence[Opened], wanted: Wanted
) -> tuple[StoredState, StoredState] | LstmstateError:
    """Return two states, or an error if neither is one; one may show the widths of the other."""
    found = [_state(one, wanted) for one in opened]
    for number, one in enumerate(opened):
        mine, other = found[number], found[1 - number]
        if isinstance(other, LstmstateError) or other.is_halved:
            continue
        if isinstance(mine, LstmstateError) or mine.is_halved:
            cells = (Cells(other.structure.cells, other.structure.is_stack),)
            with suppress(LstmstateError):
                from_other = wanted._replace(each=None, cells=cells, source=other.file.path)
                found[number] = states_in(one, from_other)[0]
    errors = [one for one in found if isinstance(one, LstmstateError)]
    if len(errors) == 2 and not any(isinstance(error, CorruptError) for error in errors):
        return errors[0]
    if errors:
        raise errors[0]
    first, second = (one for one in found if not isinstance(one, LstmstateError))
    return first, second


def _state(opened: Opened, wanted: Wanted) -> StoredState | LstmstateError:
    """Read one of the two states; the layout may be that of the other one only."""
    errors = []
    for layout in dict.fromkeys((wanted.layout, None)):
        try:
            return states_in(opened, wanted._replace(layout=layout))[0]
        except LstmstateError as error:
            errors.append(error)
    return errors[0]


class Gauge:
    """The largest differences of two arrays that are compared part by part."""

    def __init__(self, name: str, shape: tuple[int, ...], tolerance: Tolerance) -> None:
        self._found = Difference(name, "same", shape)
        self._tolerance = tolerance

    def add(self, a: Array, b: Array, offset: tuple[int, ...]) -> None:
        """Compare two parts of one shape; `offset` is the index of their first element."""
        import numpy as np

        flat_a, flat_b = a.reshape(-1), b.reshape(-1)
        # The comparison of a part takes many times its memory.
        for at in range(0, a.size, _PART):
            gap, place = self._compared(flat_a[at : at + _PART], flat_b[at : at + _PART])
            if place is not None and (self._found.max_abs is None or gap > self._found.max_abs):
                where = None
                if gap:
                    index = np.unravel_index(at + place, a.shape)
                    where = tuple(int(k) + o for k, o in zip(index, offset, strict=True))
                    where = where[: len(self._found.shape)]  # an array without axes has no index
                self._found = self._found._replace(max_abs=gap, at=where)

    def _compared(self, a: Array, b: Array) -> tuple[float, int | None]:
        """Count what differs in flat parts; return the largest gap and where it is."""
        import numpy as np

        if _is_text(a.dtype) or _is_text(b.dtype):
            self._count(int(np.count_nonzero(np.asarray(a != b))), 0.0)
            return 0.0, None
        if a.dtype == b.dtype and a.tobytes() == b.tobytes():  # the rest takes many times as long
            self._count(0, 0.0)
            return 0.0, 0
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
        self._count(int(np.count_nonzero(differs)), float(np.max(relative)))
        place = int(np.argmax(gap))
        return float(gap[place]), place

    def _count(self, number: int, relative: float) -> None:
        found = self._found
        self._found = found._replace(
            differing=found.differing + number,
            verdict="values" if number else found.verdict,
            max_rel=max(relative, found.max_rel or 0.0),
        )

    def result(self) -> Difference:
        """Return the difference."""
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
    a: StoredState, b: StoredState, tolerance: Tolerance, advance: Advance
) -> Iterator[Difference]:
    """Yield the differences of c and m of each cell of two states, in any layouts.

    Cells are paired by name if both states have the same names, else in their order.
    """
    one, other = a.structure, b.structure
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
        _run(a, b, order, gauges, advance)
    yield from (gauge.result() for gauge in gauges if gauge is not None)


def _order_of(one: Structure, other: Structure) -> list[int]:
    """Return the numbers of the other state's cells in the order of the first one's."""
    names, others = ([cell.name for cell in state.cells] for state in (one, other))
    if len(set(names)) == len(names) and sorted(names) == sorted(others):
        return [others.index(name) for name in names]
    return list(range(len(others)))


def _run(
    a: StoredState,
    b: StoredState,
    order: list[int],
    gauges: list[Gauge | None],
    advance: Advance,
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
        advance(sum(half.nbytes for half in mine))


def _halves(state: StoredState, axis: int, start: int, stop: int) -> list[Array]:
    return [half for pair in state.pairs(axis, start, stop) for half in pair]


def _width_words(shape: tuple[int, ...], other: tuple[int, ...], half: str) -> str:
    if shape[:-1] == other[:-1]:
        what = "units" if half == "c" else "width of m"
        return f"{what} {shape[-1]} against {other[-1]}"
    return f"{list(shape)} against {list(other)}"


def compare_checkpoints(
    a: LSTMCheckpoint, b: LSTMCheckpoint, tolerance: Tolerance, advance: Advance
) -> Iterator[Difference]:
    """Yield the differences of the variables of two checkpoints, name by name."""
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
            advance(one.nbytes or 0)
            yield gauge.result()


def compare_arrays(
    a: Sequence[StoredArray],
    b: Sequence[StoredArray],
    tolerance: Tolerance,
    advance: Advance,
) -> Iterator[Difference]:
    """Yield the differences of the arrays of two files by name; two single arrays need none."""
    mine, theirs = ({array.name: array for array in arrays} for arrays in (a, b))
    if len(mine) == len(theirs) == 1:
        theirs = dict(zip(mine, theirs.values(), strict=True))
    for name in dict.fromkeys((*mine, *theirs)):
        one, other = mine.get(name), theirs.get(name)
        label = name or "array"
        if one is None or other is None:
            side = "A" if one is not None else "B"
            yield Difference(label, f"only in {side}", (one or theirs[name]).shape)
        elif one.shape != other.shape:
            words = f"{list(one.shape)} against {list(other.shape)}"
            yield Difference(label, "shape", one.shape, words)
        elif (
            "V" in (one.dtype.kind, other.dtype.kind)
            or _is_text(one.dtype) != _is_text(other.dtype)
            or (tolerance.exact and one.dtype != other.dtype)
        ):
            yield Difference(label, "dtype", one.shape, f"{one.dtype} against {other.dtype}")
        else:
            gauge = Gauge(label, one.shape, tolerance)
            step = max(_PART // max(math.prod(one.shape[1:]), 1), 1)
            for start in range(0, one.rows, step):
                stop = min(start + step, one.rows)
                part = one.read(0, start, stop)
                gauge.add(part, other.read(0, start, stop), (start, *[0] * (part.ndim - 1)))
                advance(part.nbytes)
            yield gauge.result()


def _is_text(dtype: DType) -> bool:
    """Return whether values can only be the same or not: text, dates and objects."""
    return dtype.kind in "OSUmM"


def shape_words(a: LSTMCheckpoint, b: LSTMCheckpoint, name: str) -> str:
    """Return the difference of two shapes, in the words of an LSTM if they belong to one."""
    shapes = f"{list(a.variables[name].shape)} against {list(b.variables[name].shape)}"
    cells = [ckpt.cells.get(ckpt.role(name)[1] or "") for ckpt in (a, b)]
    if cells[0] is None or cells[1] is None:
        return shapes
    one, other = _widths(cells[0].info), _widths(cells[1].info)
    known = [f"{key} {value}" for key, value in one.items()]
    keys = [*one, *(key for key in other if key not in one)]
    others = [f"{key} {other.get(key, 'none')}" for key in keys if other.get(key) != one.get(key)]
    return f"{', '.join(known)} against {', '.join(others)}" if others else shapes


def _widths(cell: Cell) -> dict[str, object]:
    found = {"input": cell.input_size, "units": cell.num_units, "projection": cell.num_proj}
    return {key: value for key, value in found.items() if value is not None}


def same(differences: Sequence[Difference]) -> bool:
    """Whether nothing differs."""
    return all(found.verdict == "same" for found in differences)
