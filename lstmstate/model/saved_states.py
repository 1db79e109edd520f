"""Saved states in the variables of a checkpoint, with the cells that they can belong to."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, cast

from lstmstate.cells import state_names
from lstmstate.cells.cell import Cell, SavedState, Stack, StateWidths
from lstmstate.cells.variable_names import use_of
from lstmstate.errors import ArgumentError, LstmstateError
from lstmstate.model.checkpoint import LSTMCheckpoint, open_checkpoint
from lstmstate.records import NamedTuple
from lstmstate.state.candidates import Cells, Wanted
from lstmstate.state.layouts import LAYOUTS
from lstmstate.state.state import CellShape

if TYPE_CHECKING:
    from lstmstate.recurrence.fed_state import FedOrder

_NUMBER = re.compile(r"_*\d+")
_HALVES = ("c", "m")


class Group(NamedTuple):
    """The variables of one state.

    Attributes:
        name: the name of the state, such as that of the flat variable.
        layout: as in `layouts.LAYOUTS`; None if it is unknown.
        variables: their names, in the order of the layout.
        cells: the cells whose state it can be.
        problem: why it cannot be read, unless its layout is given.
        note: a remark for the user.
    """

    name: str
    layout: str | None
    variables: tuple[str, ...]
    cells: tuple[Cells, ...]
    problem: str | None = None
    note: str | None = None


def cells_of(
    ckpt: LSTMCheckpoint, cell: str | None = None, stack: str | None = None
) -> tuple[Cells, ...]:
    """Return the cells and stacks of a checkpoint as owners of states, or the one that is named.

    Raises:
        LstmstateError: there is none of this name, or its widths are not known.
    """
    if cell is not None:
        found = _one(ckpt.cell(cell).info)
        if found is None:
            raise LstmstateError("its state has no known widths", path=ckpt.prefix, tensor=cell)
        return (found,)
    if stack is not None:
        found = _all(cell for one in ckpt.find_stacks(stack) for cell in _cells(one))
        if found is None:
            raise LstmstateError("its state has no known widths", path=ckpt.prefix, tensor=stack)
        return (found,)
    cells = [cell.info for cell in ckpt.cells.values()]
    every = [*map(_all, networks(ckpt)), *map(_one, cells), *map(_all, map(_uses, cells))]
    return tuple(dict.fromkeys(cells for cells in every if cells is not None))


def wanted_by(
    ckpt: LSTMCheckpoint, layout: str | None, cell: str | None = None, stack: str | None = None
) -> Wanted:
    """Return the states that the cells of a checkpoint take, or those that are named.

    Raises:
        LstmstateError: there is none of this name, or its widths are not known.
    """

    def orders(shape: tuple[int, ...]) -> list[FedOrder]:
        return orders_of(ckpt, shape, cell=cell, stack=stack)

    return Wanted(layout, None, cells_of(ckpt, cell, stack), ckpt.prefix, orders=orders)


def wanted_from(
    layout: str | None,
    cells: Sequence[tuple[int, int]] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    *,
    checksums: bool = True,
) -> Wanted:
    """Return the request for a state: its layout, and its cells by widths, or by a checkpoint.

    Raises:
        ArgumentError: there is no such layout.
    """
    if layout is not None and layout not in LAYOUTS:
        raise ArgumentError(f"there is no layout {layout!r}", advice=f"give {', '.join(LAYOUTS)}")
    if cells is not None:
        widths = [StateWidths(*pair) for pair in cells]
        return Wanted(layout, None, (Cells.of_widths(widths),))
    if checkpoint is not None:
        return wanted_by(open_checkpoint(checkpoint, checksums=checksums), layout)
    return Wanted(layout)


def orders_of(
    ckpt: LSTMCheckpoint,
    shape: tuple[int, ...],
    *,
    cell: str | None = None,
    stack: str | None = None,
    stored: str | None = None,
) -> list[FedOrder]:
    """Return the ways of the graph to take states of cells out of an array of a shape.

    Args:
        stored: the name of the variable with the array as its value, if there is one.
    """
    with suppress(LstmstateError):  # what cannot be run shows no order
        is_named = cell is not None or stack is not None
        found = [ckpt.network(cell=cell, stack=stack)] if is_named else ckpt.graph_networks()
        return [order for network in found for order in network.fed_orders(shape, stored=stored)]
    return []


def networks(ckpt: LSTMCheckpoint) -> list[tuple[Cell, ...]]:
    """Return the cells of each stack, and of both directions if they are two stacks."""
    found = [tuple(route.cells) for route in ckpt.routes if route.is_stack]
    every = [*found, *(_cells(stack.info) for stack in ckpt.stacks.values())]
    return list({tuple(cell.name for cell in cells): cells for cells in every}.values())


def _cells(stack: Stack) -> tuple[Cell, ...]:
    return tuple(cell for layer in stack.layers for cell in layer)


def _uses(cell: Cell) -> tuple[Cell, ...]:
    """Return a cell as each of the layers that the graph steps it as."""
    states = cell.extra.get("uses", 1)
    return tuple(cell._replace(name=use_of(cell.name, use)) for use in range(cast("int", states)))


def _one(cell: Cell) -> Cells | None:
    return Cells((CellShape(cell.name, cell.state),), False) if cell.state else None


def _all(network: Iterable[Cell]) -> Cells | None:
    """Return the cells of a network; a stack of one has the state of its cell."""
    cells = [_one(cell) for cell in network]
    shapes = tuple(cell.shapes[0] for cell in cells if cell is not None)
    return Cells(shapes, len(shapes) > 1) if len(shapes) == len(cells) else None


def cells_by_names(ckpt: LSTMCheckpoint, names: Iterable[str | None]) -> Cells | None:
    """Return the cells of some names as a network; None if one has no name, or no widths."""
    found = [ckpt.cells.get(name or "/") for name in names]
    return _all(cell.info for cell in found if cell is not None) if all(found) else None


class _Pair(NamedTuple):
    """A c and an m that belong together: `base` is what their names share but for the cell's."""

    base: str
    owner: str | None
    c: str
    m: str


def groups(ckpt: LSTMCheckpoint) -> list[Group]:
    """Return the states in the variables of a checkpoint.

    c and m belong together if their names differ in nothing else.
    """
    every = cells_of(ckpt)
    found = []
    for state in _states(ckpt):
        if state.layout not in state_names.HALVES:
            layout = None if state.layout == "unknown" else state.layout
            owners = _owners(ckpt, state, every)
            problem = _NO_LAYOUT if layout is None and state.source == "graph" else None
            found.append(Group(state.variable, layout, (state.variable,), owners, problem))
    torch: dict[str, list[str]] = {}
    for state in _states(ckpt):
        half = state_names.parse(ckpt.variables[state.variable].path)
        if half is not None and state.layout in ("h_n", "c_n"):
            torch.setdefault(half.stem.strip("/_") or "state", []).append(state.variable)
    # Their names, and not their order, show which is which when they are read.
    found += [Group(base, None, tuple(names), every) for base, names in torch.items()]
    pairs = list(_pairs(ckpt))
    for network in networks(ckpt):
        cells = _all(network)
        while cells and (parts := _whole([cell.name for cell in network], pairs)):
            pairs = [pair for pair in pairs if pair not in parts]
            names = tuple(name for pair in parts for name in (pair.c, pair.m))
            found.append(Group(_shared([pair.base for pair in parts]), "tuple", names, (cells,)))
    found += _apart(ckpt, pairs, {group.name for group in found})
    picked = {state.variable for state in ckpt.states.values() if state.picks_rows}
    return [g._replace(note=_PICKED) if picked & {*g.variables} else g for g in found]


def of_one_network(
    ckpt: LSTMCheckpoint, found: Sequence[Group], wanted: Sequence[Cells]
) -> list[Group]:
    """Return the states of the cells of one network, in its order: one of all, or one of each.

    Nothing where it is open which they are.

    Args:
        found: the states of the checkpoint; all are to be used unless cells are wanted.
        wanted: the cells, if they are known.
    """
    is_known = len(wanted) == 1
    if is_known:
        found = list({group.variables: group for group in (*halves(ckpt), *found)}.values())
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
    shown: list[Iterable[Cell]] = [*networks(ckpt)]
    with suppress(LstmstateError):
        shown += [network.route.cells for network in ckpt.graph_networks()]
    yield from (cells for cells in map(_all, shown) if cells is not None)


def halves(ckpt: LSTMCheckpoint) -> list[Group]:
    """Return the states of single cells in two variables, in a stack, too."""
    return _apart(ckpt, list(_pairs(ckpt)), set())


_PICKED = "the graph takes rows of it by indices; here they are all, in the order of the variable"
_NO_LAYOUT = "the graph takes c and m out of it in a way that no layout has"


def _apart(ckpt: LSTMCheckpoint, pairs: Sequence[_Pair], taken: set[str]) -> list[Group]:
    every = cells_of(ckpt)
    found = []
    for pair in pairs:
        one = _one(ckpt.cells[pair.owner].info) if pair.owner in ckpt.cells else None
        base = pair.base or "state"
        alone = base not in taken and sum((other.base or "state") == base for other in pairs) == 1
        name = base if alone else f"{base}/{pair.owner or pair.c}"
        found.append(Group(name, "tuple", (pair.c, pair.m), (one,) if one else every))
    return found


def _whole(owners: Sequence[str], pairs: Sequence[_Pair]) -> list[_Pair]:
    """Return pairs of one kind, one of each owner: of one name, or of names that only number."""
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


def _pairs(ckpt: LSTMCheckpoint) -> Iterator[_Pair]:
    """Yield the halves that belong together, by their names, or else by the graph alone."""
    named: dict[tuple[str | None, str], list[SavedState]] = {}
    wired: dict[tuple[str | None, bool], list[SavedState]] = {}
    for state in _states(ckpt):
        if state.layout in _HALVES:
            half = state_names.parse(ckpt.variables[state.variable].path)
            if half is not None and half.role == state.layout:
                named.setdefault((state.cell, half.stem), []).append(state)
            else:
                wired.setdefault((state.cell, state.is_start), []).append(state)
    for (owner, stem), states in named.items():
        found = {state.layout: state.variable for state in states}
        if len(found) == len(states) == 2:
            base = stem.strip("/_")
            if owner and f"/{base}".endswith(f"/{owner}"):
                base = base.removesuffix(owner).strip("/_")
            yield _Pair(base, owner, found["c"], found["m"])
        else:
            for state in states:
                wired.setdefault((owner, state.is_start), []).append(state)
    for (owner, _), states in wired.items():
        found = {state.layout: state.variable for state in states}
        if owner is not None and len(found) == len(states) == 2:
            yield _Pair("", owner, found["c"], found["m"])


def _states(ckpt: LSTMCheckpoint) -> list[SavedState]:
    """Return the states of its cells; without a known cell, variables with names of states."""
    if ckpt.cells:
        return list(ckpt.states.values())
    found = []
    for variable in ckpt.variables.values():
        if len(variable.shape) >= 2 and variable.dtype.startswith(("float", "bfloat", "complex")):
            named = state_names.parse(variable.path)
            if named is not None and named.is_plain:
                layout = "unknown" if named.role == "state" else named.role
                found.append(SavedState(variable.name, layout, variable.shape))
    return found


def _owners(ckpt: LSTMCheckpoint, state: SavedState, every: tuple[Cells, ...]) -> tuple[Cells, ...]:
    """Return the cells whose state a variable is, all if it is unknown."""
    if state.cell is not None:
        found = _one(ckpt.cells[state.cell].info)
    else:
        stack = ckpt.stacks.get(state.stack or "")
        found = _all(_cells(stack.info)) if stack is not None else None
    return (found,) if found else every
