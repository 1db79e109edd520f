"""Layout of a state file: from flags, its metadata, the names of its arrays, or their shapes.

The arguments of the user count first, then the metadata of the file, then a checkpoint, then the
names and shapes of the arrays. Ambiguous arrays are refused: swapped halves raise no error later.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from lstmstate.cells.cell import CellShape, StateWidths
from lstmstate.cells.state_names import role_of
from lstmstate.errors import (
    AmbiguousError,
    CorruptError,
    LstmstateError,
    first_of,
    located,
    printable,
)
from lstmstate.named_tuple import NamedTuple
from lstmstate.state.bind_names import PartlyNamedError, are_counted, bind
from lstmstate.state.candidates import Cells, Guess, Wanted, guesses, names_of, select_named
from lstmstate.state.formats.stored_array import ArrayInMemory, Lazy, StateFile, StoredArray
from lstmstate.state.layouts import (
    LAYOUTS,
    PASS_WIDTHS,
    Layout,
    Pairs,
    Structure,
    refuse_separate_directions,
    structure_of,
)
from lstmstate.state.metadata import Metadata
from lstmstate.state.state import State

if TYPE_CHECKING:
    from lstmstate.recurrence.fed_order import FedOrder
    from lstmstate.state.state import Array

_NUMBERS = "fciub"  # kinds of NumPy dtypes that hold numbers
_SHOWN = 6


class StoredState(NamedTuple):
    """A state in a file: its layout, its structure, and its arrays.

    Attributes:
        is_halved: whether the widths of a flat state are unknown, and it was cut in half.
    """

    file: StateFile
    layout: Layout
    structure: Structure
    arrays: tuple[StoredArray, ...]
    notes: tuple[str, ...] = ()
    is_halved: bool = False

    def pairs(self, axis: int, start: int, stop: int) -> Pairs:
        """Return rows of one leading axis of (c, m) of each cell; without any, all of them."""
        structure = self.structure
        at = self.layout.axis_of(axis, structure)
        with located(self.file.path):
            arrays = [
                array.read(at, start, stop) if structure.lead else array.whole()
                for array in self.arrays
            ]
        return self.layout.pairs(arrays, structure.widths, structure.is_stack)

    @property
    def wider_than(self) -> str | None:
        """The dtype that its values had before they were made wider, if all had one."""
        found = {array.wider_than for array in self.arrays}
        return found.pop() if len(found) == 1 else None

    @property
    def other_arrays(self) -> list[StoredArray]:
        """The other arrays of its file, such as the outputs of a run."""
        own = {id(array) for array in self.arrays}
        return [array for array in self.file.arrays if id(array) not in own]

    def whole(self) -> State:
        """Return all of it."""
        pairs = self.pairs(0, 0, self.structure.lead[0] if self.structure.lead else 1)
        return self.structure.state(pairs)


class HalfOfCell(StoredArray):
    """The c (0) or the m (1) of a single cell in any layout, as an array of its own."""

    def __init__(self, state: StoredState, half: int) -> None:
        structure, (cell,) = state.structure, state.structure.cells
        super().__init__(cell.name, (*structure.lead, cell.widths[half]), structure.dtype)
        self.wider_than = state.wider_than
        self._state = state
        self._half = half

    def read(self, axis: int, start: int, stop: int) -> Array:
        """Return the rows."""
        (pair,) = self._state.pairs(axis, start, stop)
        return pair[self._half]


def read_state(file: StateFile, wanted: Wanted = Wanted()) -> StoredState:  # noqa: B008 - a constant
    """Return how the state in a file is to be read; no value is read for that."""
    with located(file.path):
        if file.foreign is not None:
            raise file.foreign.error()
        if file.metadata is not None:
            return _by_metadata(file, file.metadata, wanted)
        whole = _unnamed(file) if wanted.orders else None
        if whole is None or wanted.orders is None:
            return _guessed(file, wanted)
        try:
            orders = wanted.orders(whole.shape)
        except LstmstateError as error:
            found = _guessed(file, wanted)
            note = (
                f"the order of the graph that takes it is unknown ({error.problem}); it is read "
                f"as {found.layout.name} ({found.layout.words})"
            )
            return found if wanted.layout else found._replace(notes=(*found.notes, note))
        return _as_the_graph(file, wanted, whole, orders) if orders else _guessed(file, wanted)


def _guessed(file: StateFile, wanted: Wanted) -> StoredState:
    """Read a state by the names and shapes of its arrays."""
    readings, problems = [], []
    for guess in guesses(file, wanted):
        try:
            readings.append(_reading(file, guess, wanted))
        except AmbiguousError:
            raise
        except LstmstateError as error:
            problems.append(error)
    if not readings:
        raise problems[0] if problems else _nothing(file, wanted)
    if len(readings) > 1:
        _refuse_ambiguous(readings)
    return readings[0]


def _unnamed(file: StateFile) -> StoredArray | None:
    """Return the one array of a file, or its one whole state, whose order no name shows."""
    states = [one.array for one in select_named(file.arrays) if one.role == "state"]
    found = states if len(file.arrays) > 1 else file.arrays
    return found[0] if len(found) == 1 and found[0].dtype.kind in _NUMBERS else None


def _as_the_graph(
    file: StateFile, wanted: Wanted, whole: StoredArray, orders: Sequence[FedOrder]
) -> StoredState:
    """Read one array in the order of the graph that takes it.

    A layout that a user gives counts first, and that of its shape where it is the same.
    """
    import numpy as np

    numbers = np.arange(math.prod(whole.shape)).reshape(whole.shape)
    places = [{key: one.half(numbers, key).tolist() for key in one.places} for one in orders]
    order, own = orders[0], places[0]
    other = next((one for one, its in zip(orders, places, strict=True) if its != own), None)
    if other is not None:
        choice = "pass `cell=...` or `stack=...`; or " if wanted.can_choose else "pass "
        advice = f"{choice}`layout=...` if that is its order"
        raise AmbiguousError(f"{order}, and {other}", advice=advice)
    known = (tuple(shape.name for shape in cells.shapes) for cells in wanted.cells)
    names = next((one for one in known if sorted(one) == sorted(order.cells)), order.cells)
    keys = [(name, half) for name in names for half in "cm"]
    try:
        plain = _guessed(file, wanted)
        numbered = _guessed(
            file._replace(arrays=[ArrayInMemory(whole.name, numbers)]), wanted
        ).whole()
    except LstmstateError:
        if wanted.layout:
            raise
    else:
        is_same = [half.tolist() for cell in numbered.cells for half in cell] == [
            *map(own.get, keys)
        ]
        note = f"{order}, and it is read as {plain.layout.name} ({plain.layout.words})"
        if is_same or wanted.layout:
            return plain if is_same else plain._replace(notes=(*plain.notes, note))
    shapes = {key: np.shape(own[key]) for key in keys}
    widths = [StateWidths(shapes[name, "c"][-1], shapes[name, "m"][-1]) for name in names]
    cells = tuple(map(CellShape, names, widths))

    def half(key: tuple[str, str]) -> Array:
        found: Array = order.half(whole.whole(), key)
        return found

    arrays = [Lazy("/".join(k), shapes[k], whole.dtype, partial(half, k)) for k in keys]
    notes = (*file.notes, f"{order}, and it is read in that order")
    picked = Wanted("tuple", None, (Cells(cells, len(cells) > 1),), is_ordered=True)
    return _guessed(file._replace(arrays=arrays, notes=notes), picked)


def _by_metadata(file: StateFile, own: Metadata, wanted: Wanted) -> StoredState:
    """Read a state by the metadata of its file; the user's arguments must not contradict it."""
    if own.part:
        raise LstmstateError(
            f"this is only the {own.part} of a cell",
            advice="put the two together first: lstmstate concat C M",
        )
    if own.layout not in LAYOUTS:
        raise CorruptError(f"its metadata has an unknown layout, {printable(own.layout)!r}")
    if wanted.layout not in (None, own.layout):
        raise LstmstateError(
            f"expected {wanted.layout!r} by `layout=...`, got the layout {own.layout!r}",
            advice="leave `layout=...` out, or pick the array: FILE:NAME",
        )
    names = LAYOUTS[own.layout].array_names(own.cells, is_stack=own.is_stack)
    by_name = {array.name: array for array in file.arrays}
    if all(name in by_name for name in names):
        arrays = [by_name[name] for name in names]
    elif file.ordered and _could_be(names, file.arrays):
        arrays = list(file.arrays)  # files without these names have their order
    else:
        missing = next(name for name in names if name not in by_name)
        raise CorruptError(f"the array {printable(missing)!r} of its metadata is missing")
    guess = Guess(own.layout, tuple(arrays), own.is_stack)
    cells = Cells(own.cells, own.is_stack)
    try:
        found = _reading(file, guess, Wanted(cells=(cells,)))
    except LstmstateError as error:
        raise CorruptError(f"its metadata does not match its arrays: {error.problem}") from error
    _refuse_other_widths(found.structure, wanted)
    if wanted.cells and _reading(file, guess, wanted).structure.widths != found.structure.widths:
        own_widths = ", ".join(f"c {c} m {m}" for c, m in found.structure.widths)
        raise LstmstateError(
            f"its metadata has the widths {own_widths}, and {wanted.source} others"
        )
    return found


def _could_be(names: Sequence[str], arrays: Sequence[StoredArray]) -> bool:
    """Whether arrays could be those of these names, in their order: no name contradicts that."""
    if len(names) != len(arrays):
        return False
    roles = [
        (role_of(name), role_of(array.name)) for name, array in zip(names, arrays, strict=True)
    ]
    return all(own is None or (wanted is not None and own[1] == wanted[1]) for wanted, own in roles)


def _reading(file: StateFile, guess: Guess, wanted: Wanted) -> StoredState:
    """Check a guess against the shapes of the arrays and the known cells."""
    import numpy as np

    layout = LAYOUTS[guess.layout]
    if guess.names and wanted.cells:
        guess, wanted = _bound(guess, wanted)
    for array in guess.arrays:
        if array.dtype.kind not in _NUMBERS:
            raise LstmstateError(
                f"it holds {array.dtype}, not numbers that NumPy has",
                tensor=array.name or None,
                advice="save it as float32" if array.dtype.kind == "V" else None,
            )
    try:
        # Arrays of these shapes that take no memory: all that is done with them are views.
        shown = [np.broadcast_to(np.empty((), a.dtype), a.shape) for a in guess.arrays]
    except ValueError as error:  # sizes that no array can have
        raise CorruptError(f"it has a shape that no array has ({error})") from error
    notes = [*file.notes, *([guess.note] if guess.note else [])]
    is_halved = False
    if not wanted.cells:
        cells = None
        if wanted.each and guess.layout == "flat":
            cells = [CellShape("", wanted.each)]
        structure = structure_of(layout, shown, cells, is_stack=guess.is_stack)
        _refuse_other_widths(structure, wanted)
        is_halved = guess.layout == "flat" and cells is None
        if is_halved:
            c, m = structure.cells[0].widths
            notes.append(
                f"the widths of this flat state are unknown: it is cut in half, c {c} and m {m}"
            )
        if guess.names:
            shapes = zip(guess.names, structure.cells, strict=True)
            structure = structure._replace(cells=tuple(CellShape(n, s.widths) for n, s in shapes))
    else:
        if layout.pairs_directions and file.metadata is None:
            wanted = wanted._replace(cells=_without_separate_directions(wanted, layout))
        structure = _fitting(layout, shown, guess, wanted)
    return StoredState(file, layout, structure, guess.arrays, tuple(notes), is_halved)


def _bound(guess: Guess, wanted: Wanted) -> tuple[Guess, Wanted]:
    """Return a guess with its arrays in the order of the cells that their names name.

    Where the names are those of other cells the order of the file counts.
    """
    ways: dict[Cells, list[int] | None] = {}
    problems: list[AmbiguousError] = []
    for cells in wanted.cells:
        if len(cells.shapes) == len(guess.names):
            try:
                ways[cells] = bind(guess.names, [shape.name for shape in cells.shapes])
            except AmbiguousError as error:
                problems.append(error)
    named = {cells: order for cells, order in ways.items() if order is not None}
    partly = [error for error in problems if isinstance(error, PartlyNamedError)]
    if not named and (partly or (problems and not ways)):
        raise (partly or problems)[0]
    own = sorted(guess.names)
    exact = [cells for cells in named if sorted(shape.name for shape in cells.shapes) == own]
    chosen = exact or list(named)
    if len({tuple(named[cells] or ()) for cells in chosen}) > 1:
        raise AmbiguousError(f"its names are those of several of the cells of {wanted.source}")
    if not chosen:
        others = [cells for cells in wanted.cells if cells in ways or not ways]
        wanted = wanted._replace(cells=tuple(others))
        return _in_its_order(guess, wanted), wanted
    order = named[chosen[0]] or []
    per_cell = len(guess.arrays) // len(guess.names)
    arrays = tuple(guess.arrays[at * per_cell + k] for at in order for k in range(per_cell))
    return guess._replace(arrays=arrays), wanted._replace(cells=tuple(chosen))


def _in_its_order(guess: Guess, wanted: Wanted) -> Guess:
    """Return a guess with a note where its arrays are named after no cell."""
    if len(guess.names) < 2 or not all(guess.names) or are_counted(guess.names):
        return guess
    names = first_of(guess.names, _SHOWN)
    note = (
        f"its names are those of no cells of {wanted.source}: they are taken in the order {names}"
    )
    return guess._replace(note=note)


def _without_separate_directions(wanted: Wanted, layout: Layout) -> tuple[Cells, ...]:
    """Return the cells that can be those of a network such as torch.nn.LSTM."""
    problem: LstmstateError | None = None
    found = []
    for cells in wanted.cells:
        try:
            refuse_separate_directions([shape.name for shape in cells.shapes], layout)
            found.append(cells)
        except LstmstateError as error:
            problem = error
    if problem is not None and not found:
        raise problem
    return tuple(found)


def _refuse_other_widths(structure: Structure, wanted: Wanted) -> None:
    for number, cell in enumerate(structure.cells):
        if wanted.each and cell.widths != wanted.each:
            raise LstmstateError(
                f"c is {cell.widths.c} wide and m {cell.widths.m}, and `units=...` and "
                f"`proj=...` are {wanted.each.c} and {wanted.each.m}",
                tensor=cell.name or (f"cell {number}" if len(structure.cells) > 1 else None),
            )


def _fitting(layout: Layout, shown: Sequence[Array], guess: Guess, wanted: Wanted) -> Structure:
    """Return the structure of the cells that fit; alike cells of other names have none."""
    found: dict[tuple[tuple[StateWidths, ...], bool], Structure] = {}
    problems = []
    for cells in wanted.cells:
        try:
            is_stack = cells.is_stack if layout.name == "flat" else guess.is_stack
            structure = structure_of(layout, shown, cells.shapes, is_stack=is_stack)
        except (LstmstateError, ValueError) as error:
            problems.append(error)
            continue
        key = tuple(cell.widths for cell in structure.cells), structure.is_stack
        known = found.setdefault(key, structure)
        if known.cells != structure.cells:
            found[key] = structure._replace(
                cells=tuple(CellShape("", cell.widths) for cell in structure.cells)
            )
    if len(found) == 1:
        return next(iter(found.values()))
    known_cells = "; ".join(map(str, wanted.cells))
    if found:
        raise AmbiguousError(
            f"several of the cells ({known_cells}) of {wanted.source} fit", advice=PASS_WIDTHS
        )
    if len(problems) == 1 and isinstance(problems[0], LstmstateError):
        problem = problems[0]
        raise LstmstateError(
            f"{problem.problem} (by {wanted.source})",
            tensor=problem.tensor,
            advice=problem.advice,
        )
    shapes = ", ".join(str(list(array.shape)) for array in shown)
    raise LstmstateError(
        f"a state of {shapes} fits none of the cells ({known_cells}) of {wanted.source}"
    )


def _refuse_ambiguous(readings: Iterable[StoredState]) -> None:
    found = list(readings)
    layouts = list(dict.fromkeys(reading.layout.name for reading in found))
    shape = list(found[0].arrays[0].shape)
    ways = " or ".join(f"`layout='{name}'` ({LAYOUTS[name].words})" for name in layouts)
    if len(layouts) == 1:
        ways = "`cells=WIDTHS`, for their number"
    raise AmbiguousError(f"{shape} can be read in more than one way", advice=f"pass {ways}")


def _nothing(file: StateFile, wanted: Wanted) -> LstmstateError:
    asked = f" in the layout {wanted.layout!r}" if wanted.layout else ""
    return LstmstateError(
        f"there is no state{asked} in it; its arrays are: {names_of(file.arrays)}"
    )
