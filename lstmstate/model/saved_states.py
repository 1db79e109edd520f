"""States saved in the variables of a checkpoint: grouped, selected by name, and read."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, cast

from lstmstate.arguments import refuse_unknown
from lstmstate.cells import state_names
from lstmstate.cells.cell import Cell, CellShape, SavedState, Stack
from lstmstate.cells.state_names import StateName
from lstmstate.cells.variable_names import use_of
from lstmstate.errors import AmbiguousError, ArgumentError, LstmstateError, NotFoundError, printable
from lstmstate.model.checkpoint import LSTMCheckpoint, open_checkpoint
from lstmstate.named_tuple import NamedTuple
from lstmstate.state import other_contents
from lstmstate.state.candidates import Cells, Wanted
from lstmstate.state.formats.checkpoint_arrays import tensors
from lstmstate.state.formats.input_path import select
from lstmstate.state.formats.stored_array import Foreign, StateFile
from lstmstate.state.infer_layout import HalfOfCell, StoredState, read_state
from lstmstate.state.layouts import LAYOUTS
from lstmstate.state.metadata import HALVES, Metadata

if TYPE_CHECKING:
    from lstmstate.recurrence.fed_order import FedOrder

_NUMBER = re.compile(r"_*\d+")
_ORDER = "the order is C M C M …, a variable each"
_PICKED = "the graph takes rows of it by indices; here they are all, in the order of the variable"
_NO_LAYOUT = "the graph takes c and m out of it in a way that no layout has"


class Group(NamedTuple):
    """The variables of one state.

    Attributes:
        name: the name of the state, such as that of the flat variable.
        layout: as in `layouts.LAYOUTS`; None if unknown.
        variables: their names, in the order of the layout.
        cells: the cells whose state it can be.
        problem: why it cannot be read unless its layout is passed.
        note: a line for the user.
    """

    name: str
    layout: str | None
    variables: tuple[str, ...]
    cells: tuple[Cells, ...]
    problem: str | None = None
    note: str | None = None


# ---- cells that a state can belong to


def cells_of(
    ckpt: LSTMCheckpoint, cell: str | None = None, stack: str | None = None
) -> tuple[Cells, ...]:
    """Return every cell and stack of a checkpoint, or the one of a name."""
    if cell is not None or stack is not None:
        if cell is not None:
            found = _together([ckpt.cell(cell).info])
        else:
            found = _together(one for part in ckpt.find_stacks(stack or "") for one in _cells(part))
        if found is None:
            problem = "the widths of its state are unknown"
            raise LstmstateError(problem, path=ckpt.prefix, tensor=cell or stack)
        return (found,)
    cells = [cell.info for cell in ckpt.cells.values()]
    alone = map(_together, [*([cell] for cell in cells), *map(_uses, cells)])
    return tuple(dict.fromkeys([*_networks(ckpt), *filter(None, alone)]))


def refuse_layout(layout: str | None) -> None:
    """Raise an ArgumentError if there is no layout of this name."""
    if layout is not None:
        refuse_unknown("layout", layout, LAYOUTS)


def wanted_from(
    layout: str | None,
    cells: Sequence[tuple[int, int]] | None = None,
    checkpoint: LSTMCheckpoint | None = None,
    *,
    each: tuple[int, int] | None = None,
    cell: str | None = None,
    stack: str | None = None,
) -> Wanted:
    """Return the request for a state: its layout, and the widths of its cells, if they are known.

    Args:
        cells: the widths (c, m) of each cell.
        checkpoint: a checkpoint with these cells, and with orders of their states in its graph.
        each: the widths of every cell, whose number follows from the state.
        cell, stack: the only ones of the checkpoint.
    """
    refuse_layout(layout)
    if each is not None:
        (alone,) = Cells.of_pairs([each]).shapes
        return Wanted(layout, alone.widths)
    if cells is not None:
        return Wanted(layout, None, (Cells.of_pairs(cells),))
    if checkpoint is None:
        return Wanted(layout)
    orders = partial(_orders_of, checkpoint, cell=cell, stack=stack)
    found = cells_of(checkpoint, cell, stack)
    return Wanted(layout, None, found, checkpoint.prefix, orders=orders)


@contextmanager
def open_wanted(
    layout: str | None,
    cells: Sequence[tuple[int, int]] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    *,
    checksums: bool = True,
) -> Iterator[Wanted]:
    """Yield what `wanted_from` returns for the path of a checkpoint, open until the block ends."""
    refuse_layout(layout)
    if cells is not None and checkpoint is not None:
        raise ArgumentError("both `cells` and `checkpoint` are given", advice="pass one of them")
    if checkpoint is None:
        yield wanted_from(layout, cells)
    else:
        with open_checkpoint(checkpoint, checksums=checksums) as ckpt:
            yield wanted_from(layout, None, ckpt)


def _orders_of(
    ckpt: LSTMCheckpoint,
    shape: tuple[int, ...],
    *,
    cell: str | None = None,
    stack: str | None = None,
    stored: str | None = None,
) -> list[FedOrder]:
    """Return the ways of the graph to take states of cells out of an array of a shape.

    Args:
        stored: the name of the variable whose value the array is, if it is one.

    Raises:
        LstmstateError: a network of the graph cannot be evaluated.
    """
    if ckpt.model is None:
        return []
    if cell is not None or stack is not None:
        found = [ckpt.network(cell=cell, stack=stack)]
    else:
        found = ckpt.graph_networks() or [ckpt.network(cell=name) for name in ckpt.cells]
    return [order for network in found for order in network.fed_orders(shape, stored=stored)]


def _networks(ckpt: LSTMCheckpoint) -> list[Cells]:
    """Return the cells of each stack, and of both directions if they are two stacks."""
    found = [route.cells for route in ckpt.routes if route.is_stack]
    found += [_cells(stack.info) for stack in ckpt.stacks.values()]
    return list(dict.fromkeys(filter(None, map(_together, found))))


def _cells(stack: Stack) -> tuple[Cell, ...]:
    return tuple(cell for layer in stack.layers for cell in layer)


def _uses(cell: Cell) -> tuple[Cell, ...]:
    """Return a cell as each of the layers that the graph steps it as."""
    states = cell.extra.get("uses", 1)
    return tuple(cell._replace(name=use_of(cell.name, use)) for use in range(cast("int", states)))


def _together(network: Iterable[Cell]) -> Cells | None:
    """Return the cells of a network, None if the state of one of them is unknown.

    A stack of one has the state of its cell.
    """
    cells = list(network)
    shapes = tuple(CellShape(cell.name, cell.state) for cell in cells if cell.state)
    return Cells(shapes, len(shapes) > 1) if len(shapes) == len(cells) else None


# ---- variables grouped into states


class _Pair(NamedTuple):
    """c and m of one cell: `base` is the part that their names share without that of the cell."""

    base: str
    owner: str | None
    c: str
    m: str


def groups(ckpt: LSTMCheckpoint) -> list[Group]:
    """Return the states that are saved in the variables of a checkpoint.

    c and m belong together if their names differ in nothing else.
    """
    every = cells_of(ckpt)
    states = _states(ckpt)
    found = []
    torch: dict[str, list[str]] = {}
    for state, name in states:
        if state.layout not in state_names.HALVES:
            layout = None if state.layout == "unknown" else state.layout
            owners = _owners(ckpt, state, every)
            problem = _NO_LAYOUT if layout is None and state.source == "graph" else None
            found.append(Group(state.variable, layout, (state.variable,), owners, problem))
        elif name is not None and state.layout in ("h_n", "c_n"):
            torch.setdefault(name.stem.strip("/_") or "state", []).append(state.variable)
    # Their names, and not their order, show which is which when they are read.
    found += [Group(base, None, tuple(names), every) for base, names in torch.items()]
    pairs = list(_pairs(states))
    for cells in _networks(ckpt):
        while parts := _whole([shape.name for shape in cells.shapes], pairs):
            pairs = [pair for pair in pairs if pair not in parts]
            names = tuple(name for pair in parts for name in (pair.c, pair.m))
            found.append(Group(_shared([pair.base for pair in parts]), "tuple", names, (cells,)))
    found += _of_single_cells(ckpt, pairs, every, {group.name for group in found})
    picked = {state.variable for state in ckpt.states.values() if state.picks_rows}
    return [g._replace(note=_PICKED) if picked & {*g.variables} else g for g in found]


def _halves(ckpt: LSTMCheckpoint) -> list[Group]:
    """Return the states of single cells in two variables, also those of the cells of a stack."""
    return _of_single_cells(ckpt, list(_pairs(_states(ckpt))), cells_of(ckpt), set())


def _of_single_cells(
    ckpt: LSTMCheckpoint, pairs: Sequence[_Pair], every: tuple[Cells, ...], taken: set[str]
) -> list[Group]:
    found = []
    for pair in pairs:
        one = _together([ckpt.cells[pair.owner].info]) if pair.owner in ckpt.cells else None
        base = pair.base or "state"
        alone = base not in taken and sum((other.base or "state") == base for other in pairs) == 1
        name = base if alone else f"{base}/{pair.owner or pair.c}"
        found.append(Group(name, "tuple", (pair.c, pair.m), (one,) if one else every))
    return found


def _whole(owners: Sequence[str], pairs: Sequence[_Pair]) -> list[_Pair]:
    """Return one pair for each owner, with equal names, or names that differ in a number."""
    for key in (lambda base: base, lambda base: _NUMBER.sub("", base)):
        for kind in dict.fromkeys(key(pair.base) for pair in pairs):
            of_kind = [pair for pair in pairs if key(pair.base) == kind]
            by_owner = {pair.owner: pair for pair in of_kind}
            once = all(sum(pair.owner == owner for pair in of_kind) == 1 for owner in owners)
            if once and len(owners) > 1:
                return [by_owner[owner] for owner in owners]
    return []


def _shared(bases: Sequence[str]) -> str:
    """Return the name of a state whose parts have these names."""
    alike = len(set(bases)) == 1
    return (bases[0] if alike else _NUMBER.sub("", bases[0]).strip("_/")) or "state"


def _pairs(states: Sequence[tuple[SavedState, StateName | None]]) -> Iterator[_Pair]:
    """Yield the halves that belong together, by their names, or else by the graph alone."""
    named: dict[tuple[str | None, str], list[SavedState]] = {}
    wired: dict[tuple[str | None, bool], list[SavedState]] = {}
    for state, half in states:
        if state.layout in HALVES:
            if half is not None and half.role == state.layout:
                named.setdefault((state.cell, half.stem), []).append(state)
            else:
                wired.setdefault((state.cell, state.is_start), []).append(state)
    for (owner, stem), both in named.items():
        found = {state.layout: state.variable for state in both}
        if len(found) == len(both) == 2:
            base = stem.strip("/_")
            if owner and f"/{base}".endswith(f"/{owner}"):
                base = base.removesuffix(owner).strip("/_")
            yield _Pair(base, owner, found["c"], found["m"])
        else:
            for state in both:
                wired.setdefault((owner, state.is_start), []).append(state)
    for (owner, _), both in wired.items():
        found = {state.layout: state.variable for state in both}
        if owner is not None and len(found) == len(both) == 2:
            yield _Pair("", owner, found["c"], found["m"])


def _states(ckpt: LSTMCheckpoint) -> list[tuple[SavedState, StateName | None]]:
    """Return the states of its cells, or without cells the variables that are named as states.

    Each comes with what its name shows.
    """
    if ckpt.cells:
        paths = ((state, ckpt.variables[state.variable].path) for state in ckpt.states.values())
        return [(state, state_names.parse(path)) for state, path in paths]
    found: list[tuple[SavedState, StateName | None]] = []
    for variable in ckpt.variables.values():
        if len(variable.shape) >= 2 and variable.is_inexact:
            named = state_names.parse(variable.path)
            if named is not None and named.is_plain:
                layout = "unknown" if named.role == "state" else named.role
                found.append((SavedState(variable.name, layout, variable.shape), named))
    return found


def _owners(ckpt: LSTMCheckpoint, state: SavedState, every: tuple[Cells, ...]) -> tuple[Cells, ...]:
    """Return the cells whose state a variable is, all if they are unknown."""
    if state.cell is not None:
        found = _together([ckpt.cells[state.cell].info])
    else:
        stack = ckpt.stacks.get(state.stack or "")
        found = _together(_cells(stack.info)) if stack is not None else None
    return (found,) if found else every


# ---- the requested states


def states_of(
    ckpt: LSTMCheckpoint,
    wanted: Wanted,
    place: str | None = None,
    variables: Sequence[str] | None = None,
    *,
    every: bool = False,
) -> list[StoredState]:
    """Return the requested states of a checkpoint.

    The states of all cells of one network are one state.

    Args:
        place: the name of a state or a variable.
        variables: more of them; None if a user cannot pass any.
        every: whether all states are wanted if none is named, and each is known to be that of
            another cell or stack.
    """
    names = [*(variables or ()), *([place] if place else [])]
    found = groups(ckpt)
    if names:
        return [_read(ckpt, group, wanted) for group in _select(ckpt, found, names, wanted)]
    owners = {group.cells for group in found if len(group.cells) == 1}
    if every and found and len(owners) == len(found):
        return [_read(ckpt, group, wanted) for group in found]
    parts = [] if every else _of_one_network(ckpt, found, wanted.cells)
    if len(parts) > 1:
        alone = wanted._replace(cells=())
        return [_join(ckpt, [_read(ckpt, part, alone) for part in parts])]
    found = parts or found
    if len(found) != 1:
        raise _not_one(ckpt, found, can_name=variables is not None)
    return [_read(ckpt, found[0], wanted, path=ckpt.prefix)]


def all_states(ckpt: LSTMCheckpoint) -> list[StoredState]:
    """Return every state that is saved in a checkpoint."""
    return [_read(ckpt, group, Wanted()) for group in groups(ckpt)]


def arrays_called(ckpt: LSTMCheckpoint, place: str) -> tuple[StateFile, Wanted]:
    """Return the variables of a state, or a variable, and the cells that it may belong to."""
    return _arrays(ckpt, _select(ckpt, groups(ckpt), [place], Wanted())[0], Wanted())


def variables_as_arrays(ckpt: LSTMCheckpoint, place: str | None) -> StateFile:
    """Return all variables, or the one of a name with its cell and half, c or m, if known."""
    file = tensors(ckpt.prefix, ckpt.variables.values(), ckpt.states.values())
    if not place:
        return file
    with suppress(NotFoundError):
        place = ckpt.variable(place)
    found = select(file, place)
    found = found._replace(foreign=_foreign(ckpt, [array.name for array in found.arrays]))
    state = ckpt.states.get(place)
    cell = ckpt.cells.get(state.cell or "") if state is not None else None
    if state is None or state.layout not in HALVES or cell is None or cell.state is None:
        return found
    shape = CellShape(cell.name, cell.state)
    return found._replace(metadata=Metadata("tuple", (shape,), False, part=state.layout))


def _of_one_network(
    ckpt: LSTMCheckpoint, found: Sequence[Group], wanted: Sequence[Cells]
) -> list[Group]:
    """Return the states of the cells of one network, in its order: one of all, or one of each.

    Nothing if they are ambiguous.

    Args:
        found: the states of the checkpoint; all are to be used unless cells are wanted.
        wanted: the cells, if they are known.
    """
    is_known = len(wanted) == 1
    if is_known:
        found = list({group.variables: group for group in (*_halves(ckpt), *found)}.values())
        whole = [group for group in found if group.cells == wanted]
        if whole:
            return whole if len(whole) == 1 else []
    of_cell: dict[str, list[Group]] = {}
    for group in found:
        if len(group.cells) == 1 and not group.cells[0].is_stack:
            of_cell.setdefault(group.cells[0].shapes[0].name, []).append(group)
    starts = {state.variable for state in ckpt.states.values() if state.is_start}
    for cells in wanted if is_known else _orders(ckpt) if len(found) > 1 else ():
        parts = [of_cell.get(shape.name, []) for shape in cells.shapes]
        alike = {name in starts for some in parts for group in some for name in group.variables}
        is_one_each = all(len(some) == 1 for some in parts) and len(alike) == 1
        if is_one_each and (is_known or len(parts) == len(found)):
            return [group for some in parts for group in some]
    return []


def _orders(ckpt: LSTMCheckpoint) -> Iterator[Cells]:
    """Yield the cells of each network that the names show, or the graph, in its order."""
    yield from _networks(ckpt)
    with suppress(LstmstateError):
        shown = (network.route.cells for network in ckpt.graph_networks())
        yield from filter(None, map(_together, shown))


def _not_one(ckpt: LSTMCheckpoint, found: Sequence[Group], *, can_name: bool) -> LstmstateError:
    """Return the error for a checkpoint with no state, or with several."""
    if not found:
        pair = "`variable='C'` `variable='M'`"
        named = f"name one with `variable=...`, or its halves with {pair}; or "
        return NotFoundError(
            "no state is saved in its variables",
            path=ckpt.prefix,
            advice=f"{named if can_name else ''}convert a state file with `checkpoint=...`",
        )
    names = [[printable(variable) for variable in group.variables] for group in found]
    choices = [" ".join(f"`variable='{variable}'`" for variable in some) for some in names]
    return AmbiguousError(
        f"{len(found)} states are saved in it",
        path=ckpt.prefix,
        advice=f"choose: {', '.join(choices)}"
        if can_name
        else f"pick one, CKPT:NAME: {', '.join(some[0] for some in names)}",
    )


def _select(
    ckpt: LSTMCheckpoint, found: Sequence[Group], names: Sequence[str], wanted: Wanted
) -> list[Group]:
    """Return the states of these names, or in the variables of these names.

    Variables that are not states by themselves are c and m, c and m, … of one state.
    """
    by_name = {group.name: group for group in (*_halves(ckpt), *found)}
    variables = [name if name in by_name else ckpt.variable(name) for name in names]
    inside = [
        by_name.get(name) or next((group for group in found if name in group.variables), None)
        for name in variables
    ]
    whole = list(dict.fromkeys(group for group in inside if group is not None))
    every = cells_of(ckpt)
    alone = [Group(name, None, (name,), every) for name in variables]
    if len(variables) == 1:
        return whole or alone
    states = {
        state.variable: state for state in ckpt.states.values() if state.variable not in by_name
    }
    known = [states[name].layout if name in states else None for name in variables]
    if len(whole) == len(variables) and not {"c", "m"} & {*known}:
        return whole
    owners = [states[name].cell if name in states else None for name in variables]
    for number, (name, there) in enumerate(zip(variables, known, strict=True)):
        half = "cm"[number % 2]
        if name in by_name or there in {"c", "m"} - {half}:
            raise LstmstateError(
                f"expected {half}, got {there or 'a whole state'}",
                path=ckpt.prefix,
                tensor=name,
                advice=_ORDER,
            )
    for c, m in zip(owners[::2], owners[1::2], strict=False):
        if c is not None and m is not None and c != m:
            raise LstmstateError(
                f"expected c and m of one cell, got c of {printable(c)} and m of {printable(m)}",
                path=ckpt.prefix,
                advice=_ORDER,
            )
    together = next((group for group in whole if group.variables == tuple(variables)), None)
    if together is not None:
        return [together]
    scopes = {name.rpartition("/")[0] for name in variables}
    base = f"{scopes.pop()}/state".lstrip("/") if len(scopes) == 1 else "state"
    named = [ckpt.cells.get(name or "/") for name in owners[::2]]
    cells = _together(cell.info for cell in named if cell is not None) if all(named) else None
    pair = Group(base, "tuple", tuple(variables), (cells,) if cells else every)
    if {*known} <= {"c", "m"}:
        return [pair]
    fits = [_fits(ckpt, group, wanted) for group in (pair, *alone)]
    if all(fits) and wanted.layout is None:
        raise AmbiguousError(
            "the variables can be c and m, or whole states",
            path=ckpt.prefix,
            advice="pass `layout=...`",
        )
    return alone if all(fits[1:]) and not fits[0] else [pair]


def _fits(ckpt: LSTMCheckpoint, group: Group, wanted: Wanted) -> bool:
    """Whether some variables can be a state of these cells, by their shapes."""
    try:
        read_state(*_arrays(ckpt, group, wanted))
    except AmbiguousError:
        return True
    except LstmstateError:
        return False
    return True


# ---- reading


def _read(
    ckpt: LSTMCheckpoint, group: Group, wanted: Wanted, path: str | None = None
) -> StoredState:
    """Return a state in variables.

    Args:
        path: its name in messages, by default with the name of the state.
    """
    file, here = _arrays(ckpt, group, wanted)
    if group.problem is not None and wanted.layout is None:
        (variable,) = group.variables
        orders: Sequence[FedOrder] = ()
        with suppress(LstmstateError):
            orders = _orders_of(ckpt, file.arrays[0].shape, stored=variable)
        if not orders:
            raise LstmstateError(
                group.problem,
                path=ckpt.prefix,
                tensor=group.name,
                advice="pass its layout: `layout=...`",
            )
        here = here._replace(orders=lambda shape: orders, can_choose=False)  # noqa: ARG005
    return read_state(file._replace(path=path or file.path), here)


def _join(ckpt: LSTMCheckpoint, states: Sequence[StoredState]) -> StoredState:
    """Return the states of single cells as that of a stack."""
    cells = Cells(tuple(cell for one in states for cell in one.structure.cells), True)
    halves = [HalfOfCell(one, half) for one in states for half in (0, 1)]
    notes = tuple(dict.fromkeys(note for one in states for note in one.notes))
    wanted = Wanted("tuple", None, (cells,), ckpt.prefix, is_ordered=True)
    return read_state(StateFile(ckpt.prefix, halves, notes=notes), wanted)


def _arrays(ckpt: LSTMCheckpoint, group: Group, wanted: Wanted) -> tuple[StateFile, Wanted]:
    """Return the variables of a saved state, and the widths and layout known for it."""
    variables = [ckpt.variables[name] for name in group.variables]
    here = wanted._replace(
        layout=wanted.layout or group.layout,
        cells=wanted.cells or (() if wanted.each else group.cells),
        source=wanted.source if wanted.cells else ckpt.prefix,
        is_ordered=group.layout is not None and len(group.variables) > 1,
        orders=None,
    )
    foreign = _foreign(ckpt, group.variables)
    file = tensors(f"{ckpt.prefix}:{group.name}", variables, ckpt.states.values())
    notes = (*file.notes, group.note) if group.note else file.notes
    file = file._replace(name=group.name, variables=group.variables)
    return file._replace(foreign=foreign, notes=notes), here


_NO_WEIGHTS = {"slot": other_contents.SLOTS, "options": other_contents.OPTIONS}


def _foreign(ckpt: LSTMCheckpoint, variables: Iterable[str]) -> Foreign | None:
    """Return the kind of the first variable that is a weight of a cell or a slot."""
    for role, cell in map(ckpt.role, variables):
        if role in _NO_WEIGHTS:
            return _NO_WEIGHTS[role]
        if role not in ("state", "other"):
            return other_contents.weights(printable(cell) if cell else "a cell")
    return None
