"""Which layout the arrays of a file are in, and how wide its cells are.

What a user says goes first, then what the file says of itself, then a checkpoint, then the names
and shapes of the arrays. What stays open is refused: swapped halves raise no error anywhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from lstmstate import limits
from lstmstate.cells.model import StateWidths
from lstmstate.errors import (
    AmbiguousError,
    CorruptError,
    LstmstateError,
    UnsupportedError,
    located,
    printable,
)
from lstmstate.state import naming
from lstmstate.state.layouts import LAYOUTS, Layout, structure_of
from lstmstate.state.metadata import Metadata
from lstmstate.state.model import CellShape, State, Structure
from lstmstate.state.stored import Item, StateFile, StoredArray

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.generic]

_TUTORIAL = "[L, 2, batch, units], c first"
_NUMBERS = "fciub"  # kinds of NumPy dtypes that hold numbers
_FLAGS = "say the widths: --units and --proj, --cells, or --checkpoint"


class Cells(NamedTuple):
    """The cells that a state may belong to, from flags, a checkpoint or the file itself."""

    shapes: tuple[CellShape, ...]
    is_stack: bool

    @classmethod
    def of_widths(cls, widths: Sequence[StateWidths]) -> Cells:
        """Return nameless cells; one of them is no stack."""
        return cls(tuple(CellShape("", width) for width in widths), len(widths) > 1)

    def __str__(self) -> str:
        return ",".join(map(str, self.shapes))


class Wanted(NamedTuple):
    """What is known of a state before its file is looked into.

    Attributes:
        layout: its layout.
        each: the widths of each of its cells; the state itself tells how many there are.
        cells: the cells that it could belong to, of which one has to fit.
        source: where the cells come from, for messages.
        is_ordered: whether the arrays are those of the layout in its order, whatever their names.
    """

    layout: str | None = None
    each: StateWidths | None = None
    cells: tuple[Cells, ...] = ()
    source: str = "--cells"
    is_ordered: bool = False

    @property
    def knows_widths(self) -> bool:
        """Whether anything is known of the widths."""
        return self.each is not None or bool(self.cells)


class Reading(NamedTuple):
    """A state in a file: its layout, what it consists of, and the arrays that hold it.

    Attributes:
        is_halved: whether nothing told the widths of a flat state, which was cut in half.
    """

    file: StateFile
    layout: Layout
    structure: Structure
    arrays: tuple[StoredArray, ...]
    notes: tuple[str, ...] = ()
    is_halved: bool = False

    def parts(self, axis: int, start: int, stop: int) -> State:
        """Return the rows [start, stop) of one leading axis; without any, the whole state."""
        structure = self.structure
        at = self.layout.axis_of(axis, structure)
        with located(self.file.path):
            arrays = [
                array.read(at, start, stop) if structure.lead else array.whole()
                for array in self.arrays
            ]
        widths = [cell.widths for cell in structure.cells]
        return structure.state(self.layout.pairs(arrays, widths, structure.is_stack))

    def whole(self) -> State:
        """Return all of it."""
        return self.parts(0, 0, self.structure.lead[0] if self.structure.lead else 1)


class _Guess(NamedTuple):
    """A way to read some arrays, which their shapes and what is known of the cells may refuse."""

    layout: str
    arrays: tuple[StoredArray, ...]
    is_stack: bool
    names: tuple[str, ...] = ()
    note: str | None = None


def read_state(file: StateFile, wanted: Wanted = Wanted()) -> Reading:  # noqa: B008 - a constant
    """Return how the state in a file is to be read; no value is read for that.

    Raises:
        AmbiguousError: there is more than one way; the message names the flags that settle it.
        CorruptError: the file contradicts itself.
        LstmstateError: there is no state in it, or not the one that is wanted.
    """
    with located(file.path):
        if file.metadata is not None:
            return _as_told(file, file.metadata, wanted)
        readings, problems = [], []
        for guess in _guesses(file, wanted):
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


def _as_told(file: StateFile, told: Metadata, wanted: Wanted) -> Reading:
    """Read a state as its own file says; what the user says must not contradict it."""
    if told.part:
        raise LstmstateError(
            f"this is only the {told.part} of a cell",
            advice="put the two together first: lstmstate concat C M -o FLAT",
        )
    if told.layout not in LAYOUTS:
        raise CorruptError(f"it says that its layout is {printable(told.layout)!r}, and none is")
    if wanted.layout not in (None, told.layout):
        raise LstmstateError(
            f"it says that its layout is {told.layout!r}, and --from says {wanted.layout!r}",
            advice="leave --from out, or pick the array: FILE:NAME",
        )
    names = LAYOUTS[told.layout].array_names(told.cells, is_stack=told.is_stack)
    by_name = {array.name: array for array in file.arrays}
    if all(name in by_name for name in names):
        arrays = [by_name[name] for name in names]
    elif file.ordered and _could_be(names, file.arrays):
        arrays = list(file.arrays)  # files without these names have their order
    else:
        missing = next(name for name in names if name not in by_name)
        raise CorruptError(f"it says that it holds {printable(missing)!r}, which is not there")
    guess = _Guess(told.layout, tuple(arrays), told.is_stack)
    cells = Cells(told.cells, told.is_stack)
    try:
        found = _reading(file, guess, Wanted(cells=(cells,)))
    except LstmstateError as error:
        raise CorruptError(f"what it says of itself is not so: {error.problem}") from None
    _refuse_other_widths(found.structure, wanted)
    if wanted.cells and _reading(file, guess, wanted).structure.widths != found.structure.widths:
        told_widths = ", ".join(f"c {c} m {m}" for c, m in found.structure.widths)
        raise LstmstateError(f"it says of itself {told_widths}, and {wanted.source} other widths")
    return found


def _could_be(names: Sequence[str], arrays: Sequence[StoredArray]) -> bool:
    """Whether arrays could be those of these names, in their order: none says that it is not."""
    if len(names) != len(arrays):
        return False
    roles = [
        (naming.role_of(name), naming.role_of(array.name))
        for name, array in zip(names, arrays, strict=True)
    ]
    return all(
        told is None or (wanted is not None and told[1] == wanted[1]) for wanted, told in roles
    )


def _guesses(file: StateFile, wanted: Wanted) -> Iterator[_Guess]:
    """Yield the ways in which the arrays of a file can be read, by their names and shapes."""
    arrays = file.arrays
    if wanted.is_ordered and wanted.layout is not None:
        yield _Guess(wanted.layout, tuple(arrays), len(arrays) > 2)
        return
    found = naming.named(arrays)
    torch = naming.by_scope(found, ("h_n", "c_n"))
    pairs = naming.by_scope(found, ("c", "m"))
    states = [name for name in found if name.role == "state"]
    _refuse_several(pairs, states, torch, wanted)
    if torch:
        (halves,) = torch.values()
        _refuse_half(halves, ("h_n", "c_n"))
        yield _Guess("torch", (halves["h_n"], halves["c_n"]), halves["h_n"].shape[-3:-2] != (1,))
    elif pairs and wanted.layout in (None, "tuple", "keras", "torch"):
        yield _of_pairs(pairs, wanted.layout or "tuple")
    elif len(states) > 1:
        scopes = naming.in_order(name.scope for name in states)
        of_scope = {name.scope: name.array for name in states}
        yield _Guess("stacked", tuple(of_scope[s] for s in scopes), True, tuple(scopes))
    elif states or len(arrays) == 1:
        yield from _of_one(states[0].array if states else arrays[0], wanted)
    elif arrays and wanted.layout in ("tuple", "keras", "torch"):
        order = naming.in_order(array.name for array in arrays)
        by_name = {array.name: array for array in arrays}
        first = by_name[order[0]].shape
        is_stack = first[-3:-2] != (1,) if wanted.layout == "torch" else len(arrays) > 2
        yield _Guess(wanted.layout, tuple(by_name[name] for name in order), is_stack)
    elif arrays:
        raise AmbiguousError(
            f"nothing tells what its {len(arrays)} arrays are ({_names(arrays)})",
            advice="pick one: FILE:NAME, or say --from tuple (c first), keras (h first) or torch",
        )


def _refuse_several(
    pairs: Mapping[str, object],
    states: Sequence[naming.Named],
    torch: Mapping[str, object],
    wanted: Wanted,
) -> None:
    """Refuse a file with more than one state in it."""
    kinds = [
        words
        for words, there in (
            ("c and m", bool(pairs)),
            ("h_n and c_n", bool(torch)),
            (f"{printable(states[0].array.name)!r}" if states else "", bool(states)),
        )
        if there
    ]
    if len(torch) > 1 or (len(kinds) > 1 and wanted.layout is None):
        what = " and ".join(kinds) if len(kinds) > 1 else f"{len(torch)} pairs of h_n and c_n"
        raise AmbiguousError(f"it holds {what}", advice="pick one: FILE:NAME, or say --from")


def _refuse_half(halves: Mapping[str, StoredArray], roles: tuple[str, str]) -> None:
    """Refuse the one half of a state without the other."""
    for there, missing in (roles, roles[::-1]):
        if missing not in halves:
            raise LstmstateError(
                f"there is {there} and no {missing} beside it",
                tensor=halves[there].name,
                advice="put the two together with: lstmstate concat C M -o FLAT",
            )


def _of_pairs(pairs: dict[str, dict[str, StoredArray]], layout: str) -> _Guess:
    """Read c and m by their names, whatever their order."""
    for halves in pairs.values():
        _refuse_half(halves, ("c", "m"))
    first = next(iter(pairs.values()))
    if layout == "tuple" and list(pairs) == ["0"] and len(first["c"].shape) == 3:
        raise AmbiguousError(
            "h_0 and c_0 of three axes may be PyTorch's [layers, batch, …] or a state per step",
            advice="say --from torch or --from keras",
        )
    order = ("c", "m") if layout == "tuple" else ("m", "c")
    arrays = tuple(halves[role] for halves in pairs.values() for role in order)
    if layout == "torch":
        return _Guess(layout, arrays, first["m"].shape[-3:-2] != (1,))
    scopes = tuple("" if scope.isdigit() else scope for scope in pairs)
    return _Guess(layout, arrays, len(pairs) > 1, scopes)


def _of_one(array: StoredArray, wanted: Wanted) -> Iterator[_Guess]:
    """Yield the layouts that one array can be in, all of them where one is asked for.

    Where nothing is known, an array that could hold c and m on an axis of two could hold them
    side by side as well; only [L, 2, batch, units], which tutorials save, speaks for itself.
    """
    shape, asked = array.shape, wanted.layout
    if asked in ("tuple", "keras", "torch"):
        yield from _of_items(array, asked)
        return
    rank = len(shape)
    single = all(len(cells.shapes) == 1 for cells in wanted.cells) and bool(wanted.cells)
    pair_before = rank >= 3 and shape[-3] == 2  # [.., 2, batch, units]
    pair_behind = rank >= 3 and shape[-2] == 2  # [.., 2, units]
    tutorial = rank >= 4 and pair_before and not pair_behind
    if asked == "layered" or (asked is None and pair_before):
        if rank >= 4:
            note = None if asked else f"{list(shape)} is read as layered: {_TUTORIAL}"
            yield _Guess("layered", (array,), not single, note=note)
        else:
            yield _Guess("layered", (array,), False)
            if asked is not None:
                yield _Guess("layered", (array,), True)
            else:
                yield from _of_items(array, "keras")
    if asked == "stacked" or (asked is None and pair_behind):
        yield _Guess("stacked", (array,), False)
    if asked == "flat" or (asked is None and (wanted.knows_widths or not tutorial)):
        yield _Guess("flat", (array,), False)  # the cells that fit tell whether it is a stack's


def _of_items(array: StoredArray, layout: str) -> Iterator[_Guess]:
    """Read one array as the list of arrays that it was saved from: [h, c], [[h, c], [h, c]]."""
    shape = array.shape
    if len(shape) == 4 and layout != "torch":
        if shape[0] > limits.MAX_CELLS:
            raise UnsupportedError(f"a stack of {shape[0]} cells is more than are read")
        cells = [Item(f"{array.name}[{k}]", array, k) for k in range(shape[0])]
        if shape[1] == 2:
            halves = tuple(Item(f"{c.name}[{half}]", c, half) for c in cells for half in (0, 1))
            yield _Guess(layout, halves, True)
    elif len(shape) >= 2 and shape[0] == 2:
        items = tuple(Item(f"{array.name}[{half}]", array, half) for half in (0, 1))
        yield _Guess(layout, items, layout == "torch" and shape[1:2] != (1,))


def _reading(file: StateFile, guess: _Guess, wanted: Wanted) -> Reading:
    """Hold a guess against the shapes of the arrays and what is known of the cells."""
    import numpy as np

    layout = LAYOUTS[guess.layout]
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
        raise CorruptError(f"it has a shape that no array has ({error})") from None
    notes = [guess.note] if guess.note else []
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
                f"nothing tells the widths of this flat state: it is cut in half, c {c} and m {m}"
            )
        if guess.names:
            shapes = zip(guess.names, structure.cells, strict=True)
            structure = structure._replace(cells=tuple(CellShape(n, s.widths) for n, s in shapes))
    else:
        structure = _fitting(layout, shown, guess, wanted)
    return Reading(file, layout, structure, guess.arrays, tuple(notes), is_halved)


def _refuse_other_widths(structure: Structure, wanted: Wanted) -> None:
    for number, cell in enumerate(structure.cells):
        if wanted.each and cell.widths != wanted.each:
            raise LstmstateError(
                f"c is {cell.widths.c} wide and m {cell.widths.m}, and --units and --proj say "
                f"{wanted.each.c} and {wanted.each.m}",
                tensor=cell.name or (f"cell {number}" if len(structure.cells) > 1 else None),
            )


def _fitting(layout: Layout, shown: Sequence[Array], guess: _Guess, wanted: Wanted) -> Structure:
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
    told = "; ".join(map(str, wanted.cells))
    if found:
        raise AmbiguousError(f"several of the cells ({told}) of {wanted.source} fit", advice=_FLAGS)
    if len(problems) == 1 and isinstance(problems[0], LstmstateError):
        problem = problems[0]
        raise LstmstateError(f"{problem.problem} (by {wanted.source})", tensor=problem.tensor)
    shapes = ", ".join(str(list(array.shape)) for array in shown)
    raise LstmstateError(f"a state of {shapes} fits none of the cells ({told}) of {wanted.source}")


def _refuse_ambiguous(readings: Iterable[Reading]) -> None:
    found = list(readings)
    layouts = list(dict.fromkeys(reading.layout.name for reading in found))
    shape = list(found[0].arrays[0].shape)
    ways = " or ".join(f"--from {name} ({LAYOUTS[name].words})" for name in layouts)
    if len(layouts) == 1:
        ways = "--cells, which tells how many there are"
    raise AmbiguousError(f"{shape} can be read in more than one way", advice=f"say {ways}")


def _nothing(file: StateFile, wanted: Wanted) -> LstmstateError:
    asked = f" in the layout {wanted.layout!r}" if wanted.layout else ""
    return LstmstateError(f"there is no state{asked} in it; its arrays are: {_names(file.arrays)}")


def _names(arrays: Sequence[StoredArray]) -> str:
    shown = [f"{printable(array.name) or 'one'} {list(array.shape)}" for array in arrays[:6]]
    more = len(arrays) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "") if shown else "none"
