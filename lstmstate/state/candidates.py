"""Candidate layouts of the arrays in a file, by their names and shapes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from lstmstate import limits
from lstmstate.arguments import is_whole
from lstmstate.cells import variable_names
from lstmstate.cells.cell import CellShape, StateWidths
from lstmstate.cells.state_names import role_of
from lstmstate.errors import (
    AmbiguousError,
    ArgumentError,
    LstmstateError,
    UnsupportedError,
    first_of,
    printable,
)
from lstmstate.named_tuple import NamedTuple
from lstmstate.state.formats.stored_array import Item, StateFile, StoredArray
from lstmstate.state.layouts import LAYOUTS, Layout, by_cell

if TYPE_CHECKING:
    from lstmstate.recurrence.fed_order import FedOrder

_TUTORIAL = "[L, 2, batch, units], c first"


class Cells(NamedTuple):
    """The cells that a state may belong to, from flags, a checkpoint or the file itself."""

    shapes: tuple[CellShape, ...]
    is_stack: bool

    @classmethod
    def of_widths(cls, widths: Sequence[StateWidths]) -> Cells:
        """Return cells without names; a single one is not a stack."""
        return cls(tuple(CellShape("", width) for width in widths), len(widths) > 1)

    @classmethod
    def of_pairs(cls, cells: Sequence[tuple[int, int]]) -> Cells:
        """Return cells of the widths (c, m) that a caller passes; refuse anything else."""
        pairs = [pair if isinstance(pair, tuple | list) else () for pair in cells]
        are_pairs = all(len(p) == 2 and all(is_whole(n, 1) for n in p) for p in pairs)
        if are_pairs and len(pairs) > limits.MAX_CELLS:
            raise ArgumentError(
                f"cells cannot be {len(pairs)}: at most {limits.MAX_CELLS} are read"
            )
        if not pairs or not are_pairs or max(map(max, pairs)) > limits.MAX_WIDTH:
            raise ArgumentError(
                f"cells cannot be {cells!r:.40}",
                advice="pass (c, m) of each cell, such as [(128, 64), (128, 128)]",
            )
        return cls.of_widths([StateWidths(*map(int, pair)) for pair in pairs])

    def __str__(self) -> str:
        return ",".join(map(str, self.shapes))


class Wanted(NamedTuple):
    """Known properties of a state before its file is read.

    Attributes:
        layout: its layout.
        each: the widths of each of its cells, whose number follows from the state.
        cells: the cells that it could belong to; one of them has to fit.
        source: where the cells come from, for messages.
        is_ordered: whether the arrays have the order of the layout, under any names.
        orders: returns how the graph of the cells takes their state out of one array of a shape.
        can_choose: whether the caller can choose among the cells of that graph.
    """

    layout: str | None = None
    each: StateWidths | None = None
    cells: tuple[Cells, ...] = ()
    source: str = "the argument cells"
    is_ordered: bool = False
    orders: Callable[[tuple[int, ...]], Sequence[FedOrder]] | None = None
    can_choose: bool = False

    @property
    def knows_widths(self) -> bool:
        """Whether the widths are known."""
        return self.each is not None or bool(self.cells)


class NamedArray(NamedTuple):
    """An array with a name of a state, or of a half of one.

    Attributes:
        scope: the part of the name before the role: the name of the cell, or "".
        role: "c", "m", "h_n", "c_n" or "state".
    """

    scope: str
    role: str
    array: StoredArray


class Guess(NamedTuple):
    """A layout that some arrays may be in; their shapes or the cells may rule it out."""

    layout: str
    arrays: tuple[StoredArray, ...]
    is_stack: bool
    names: tuple[str, ...] = ()
    note: str | None = None


def guesses(file: StateFile, wanted: Wanted) -> Iterator[Guess]:
    """Yield the layouts that the arrays of a file may be in, by their names and shapes."""
    arrays = file.arrays
    if wanted.is_ordered and wanted.layout is not None:
        yield Guess(wanted.layout, tuple(arrays), len(arrays) > 2)
        return
    asked = LAYOUTS[wanted.layout] if wanted.layout is not None else None
    found = select_named(arrays)
    torch = by_scope(found, ("h_n", "c_n"))
    pairs = by_scope(found, ("c", "m"))
    states = [name for name in found if name.role == "state"]
    _refuse_several(pairs, states, torch, wanted)
    if torch:
        (halves,) = torch.values()
        _refuse_half(halves, ("h_n", "c_n"))
        yield Guess("torch", (halves["h_n"], halves["c_n"]), _has_layers(halves["h_n"].shape))
    elif pairs and (asked is None or asked.in_halves):
        yield _of_pairs(pairs, asked or LAYOUTS["tuple"])
    elif len(states) > 1:
        of_scope = by_scope(states, ("state",))
        stacked = tuple(of_scope[scope]["state"] for scope in of_scope)
        name = "tensorforce" if wanted.layout == "tensorforce" else "stacked"
        yield Guess(name, stacked, True, tuple(of_scope))
    elif states or len(arrays) == 1:
        yield from _of_one(states[0].array if states else arrays[0], wanted)
    elif arrays and asked is not None and asked.in_halves:
        order = in_order(array.name for array in arrays)
        by_name = {array.name: array for array in arrays}
        is_stack = len(arrays) > 2 or (asked.in_layers and _has_layers(by_name[order[0]].shape))
        yield Guess(asked.name, tuple(by_name[name] for name in order), is_stack)
    elif file.kind == "pt" and [array.name for array in arrays] == ["0", "1"]:
        yield _of_torch_pair(arrays)
    elif arrays:
        raise AmbiguousError(
            f"expected c and m, got {len(arrays)} arrays of other names ({names_of(arrays)})",
            advice="pick one: FILE:NAME, or pass `layout='tuple'` (c first), "
            "`layout='keras'` (h first) or `layout='torch'`",
        )


def _has_layers(shape: tuple[int, ...]) -> bool:
    """Whether the axis of layers before a batch has more than one."""
    return shape[-3:-2] != (1,)


def _of_torch_pair(arrays: Sequence[StoredArray]) -> Guess:
    """Read the pair that a module of torch returns, which is (h, c) for all that it has."""
    shapes = [array.shape for array in arrays]
    rank = len(shapes[0])
    note = f"a pair of tensors of {rank} axes is read as what torch.nn.{{}} returns: h first"
    if rank == 3:
        is_stack = _has_layers(shapes[0])
        return Guess("torch", tuple(arrays), is_stack, note=note.format("LSTM"))
    if rank == 2 and shapes[0][0] == 1:
        return Guess("keras", tuple(arrays), False, note=note.format("LSTMCell"))
    raise AmbiguousError(
        f"a pair of tensors of the shapes {list(shapes[0])} and {list(shapes[1])} may be of "
        "layers or of sequences",
        advice="pass `layout='torch'` (of torch.nn.LSTM), `layout='keras'` (h first, of "
        "torch.nn.LSTMCell) or `layout='tuple'` (c first)",
    )


def _refuse_several(
    pairs: Mapping[str, object],
    states: Sequence[NamedArray],
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
        raise AmbiguousError(
            f"expected one state, got {what}", advice="pick one: FILE:NAME, or pass `layout=...`"
        )


def _refuse_half(halves: Mapping[str, StoredArray], roles: tuple[str, str]) -> None:
    """Refuse the one half of a state without the other."""
    for there, missing in (roles, roles[::-1]):
        if missing not in halves:
            raise LstmstateError(
                f"expected {there} and {missing}, got {there} alone",
                tensor=halves[there].name,
                advice="put the two together with: lstmstate concat C M",
            )


def _of_pairs(pairs: dict[str, dict[str, StoredArray]], layout: Layout) -> Guess:
    """Read c and m by their names, in any order."""
    for halves in pairs.values():
        _refuse_half(halves, ("c", "m"))
    first = next(iter(pairs.values()))
    if layout.name == "tuple" and list(pairs) == ["0"] and len(first["c"].shape) == 3:
        raise AmbiguousError(
            "h_0 and c_0 of three axes may be PyTorch's [layers, batch, …] or a state per step",
            advice="pass `layout='torch'` or `layout='keras'`",
        )
    order = ("m", "c") if layout.h_first else ("c", "m")
    arrays = tuple(halves[role] for halves in pairs.values() for role in order)
    if layout.in_layers:
        return Guess(layout.name, arrays, len(pairs) > 1 or _has_layers(first["m"].shape))
    # The names show the order of the cells, also where the layout has another one.
    name = layout.name if layout.naming is by_cell else "keras" if layout.h_first else "tuple"
    scopes = tuple("" if scope.isdigit() else scope for scope in pairs)
    return Guess(name, arrays, len(pairs) > 1, scopes)


def _of_one(array: StoredArray, wanted: Wanted) -> Iterator[Guess]:
    """Yield the layouts that one array can be in, or every form of the requested one.

    If nothing else is known, an array that could hold c and m on an axis of two could hold them
    side by side as well; only [L, 2, batch, units], which tutorials save, is certain.
    """
    shape, asked = array.shape, wanted.layout
    if asked is not None and LAYOUTS[asked].in_halves:
        yield from _of_items(array, LAYOUTS[asked])
        return
    if asked == "thinc":
        yield Guess(asked, (array,), shape[1:3] != (1, 1))
    rank = len(shape)
    single = all(len(cells.shapes) == 1 for cells in wanted.cells) and bool(wanted.cells)
    pair_before = rank >= 3 and shape[-3] == 2  # [.., 2, batch, units]
    pair_behind = rank >= 3 and shape[-2] == 2  # [.., 2, units]
    tutorial = rank >= 4 and pair_before and not pair_behind
    if asked in ("layered", "hc") or (asked is None and pair_before):
        name = asked or "layered"
        if rank >= 4:
            note = None if asked else f"{list(shape)} is read as layered: {_TUTORIAL}"
            yield Guess(name, (array,), not single, note=note)
        else:
            yield Guess(name, (array,), False)
            if asked is not None:
                yield Guess(name, (array,), True)
            else:
                yield from _of_items(array, LAYOUTS["keras"])
    if asked in ("stacked", "tensorforce") or (asked is None and pair_behind):
        yield Guess(asked or "stacked", (array,), False)
    if asked in ("flat", "baselines") or (asked is None and (wanted.knows_widths or not tutorial)):
        yield Guess("flat", (array,), False)  # whether it is that of a stack follows from the cells


def _of_items(array: StoredArray, layout: Layout) -> Iterator[Guess]:
    """Read one array as the list of arrays that it was saved from: [h, c], [[h, c], [h, c]]."""
    shape = array.shape
    if len(shape) == 4 and not layout.in_layers:
        if shape[0] > limits.MAX_CELLS:
            raise UnsupportedError(f"a stack of {shape[0]} cells is more than are read")
        cells = [Item(f"{array.name}[{k}]", array, k) for k in range(shape[0])]
        if shape[1] == 2:
            halves = tuple(Item(f"{c.name}[{half}]", c, half) for c in cells for half in (0, 1))
            yield Guess(layout.name, halves, True)
    elif len(shape) >= 2 and shape[0] == 2:
        items = tuple(Item(f"{array.name}[{half}]", array, half) for half in (0, 1))
        yield Guess(layout.name, items, layout.in_layers and shape[1:2] != (1,))


def names_of(arrays: Sequence[StoredArray]) -> str:
    """Return the names and shapes of some arrays, for messages."""
    return first_of([f"{array.name or 'one'} {list(array.shape)}" for array in arrays], 6) or "none"


def select_named(arrays: Iterable[StoredArray]) -> list[NamedArray]:
    """Return the arrays with names of states or of their halves."""
    return [NamedArray(*role, array) for array in arrays if (role := role_of(array.name))]


def by_scope(
    found: Sequence[NamedArray], roles: Collection[str]
) -> dict[str, dict[str, StoredArray]]:
    """Return the arrays of some roles by scope, in the order of the scopes."""
    scopes: dict[str, dict[str, StoredArray]] = {}
    for scope, role, array in found:
        if role in roles:
            known = scopes.setdefault(scope, {}).setdefault(role, array)
            if known is not array:
                raise AmbiguousError(
                    f"both {printable(known.name)!r} and {printable(array.name)!r} are names of "
                    f"its {role}",
                    advice="pick one: FILE:NAME, with split and concat",
                )
    return {scope: scopes[scope] for scope in in_order(scopes)}


def in_order(scopes: Iterable[str]) -> list[str]:
    """Return scopes in the order of the numbers in them if all have one; else as they are.

    >>> in_order(["cell_10", "cell_2"]), in_order(["encoder", "decoder"])
    (['cell_2', 'cell_10'], ['encoder', 'decoder'])
    """
    found = list(scopes)
    numbered = all(any(character.isdigit() for character in scope) for scope in found)
    return sorted(found, key=variable_names.order) if numbered else found
