"""The states that lie in the variables of a checkpoint, and the cells that they can belong to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from lstmstate.cells import state_names
from lstmstate.cells.model import Cell, SavedState, Stack
from lstmstate.errors import LstmstateError
from lstmstate.opened import LSTMCheckpoint
from lstmstate.state.guesses import Cells
from lstmstate.state.model import CellShape


class Group(NamedTuple):
    """Variables that hold one state together.

    Attributes:
        name: what to call the state, such as the name of the flat variable.
        layout: as in `layouts.LAYOUTS`; None where nothing tells.
        variables: their names, in the order of the layout.
        cells: the cells whose state it can be.
    """

    name: str
    layout: str | None
    variables: tuple[str, ...]
    cells: tuple[Cells, ...]


def cells_of(
    ckpt: LSTMCheckpoint, cell: str | None = None, stack: str | None = None
) -> tuple[Cells, ...]:
    """Return the cells and stacks of a checkpoint as owners of states, or the one that is named.

    Raises:
        LstmstateError: there is none of this name, or its widths are not known.
    """
    if cell is not None:
        found = _one(ckpt.cell(cell))
        if found is None:
            raise LstmstateError("its state has no known widths", path=ckpt.prefix, tensor=cell)
        return (found,)
    if stack is not None:
        found = _all(*ckpt.stacks_called(stack))
        if found is None:
            raise LstmstateError("its state has no known widths", path=ckpt.prefix, tensor=stack)
        return (found,)
    every = [*map(_all, ckpt.stacks), *map(_one, ckpt.cells.values())]
    return tuple(dict.fromkeys(cells for cells in every if cells is not None))


def _one(cell: Cell) -> Cells | None:
    return Cells((CellShape(cell.name, cell.state),), False) if cell.state else None


def _all(*stacks: Stack) -> Cells | None:
    """Return the cells of a stack, or of a pair; a stack of one has the state of its cell."""
    cells = [_one(cell) for stack in stacks for layer in stack.layers for cell in layer]
    shapes = tuple(cell.shapes[0] for cell in cells if cell is not None)
    return Cells(shapes, len(shapes) > 1) if len(shapes) == len(cells) else None


class _Pair(NamedTuple):
    """A c and an m that belong together: `base` is what their names share but for the cell's."""

    base: str
    owner: str | None
    c: str
    m: str


def groups(ckpt: LSTMCheckpoint) -> list[Group]:
    """Return the states that lie in the variables of a checkpoint.

    c and m belong together where their names differ in nothing but that.
    """
    every = cells_of(ckpt)
    found = []
    for state in _states(ckpt):
        if state.layout not in state_names.HALVES:
            layout = None if state.layout == "unknown" else state.layout
            owners = _owners(ckpt, state, every)
            found.append(Group(state.variable, layout, (state.variable,), owners))
    torch: dict[str, list[str]] = {}
    for state in _states(ckpt):
        half = state_names.parse(ckpt.variables[state.variable].path)
        if half is not None and state.layout in ("h_n", "c_n"):
            torch.setdefault(half.stem.strip("/_") or "state", []).append(state.variable)
    # Their names, and not their order, show which is which when they are read.
    found += [Group(base, None, tuple(names), every) for base, names in torch.items()]
    pairs = list(_pairs(ckpt))
    for stack in ckpt.stacks:
        owners_of = [cell.name for layer in stack.layers for cell in layer]
        cells = _all(stack)
        for base in dict.fromkeys(pair.base for pair in pairs):
            of_base = {pair.owner: pair for pair in pairs if pair.base == base}
            if cells and all(owner in of_base for owner in owners_of):
                parts = [of_base[owner] for owner in owners_of]
                pairs = [pair for pair in pairs if pair not in parts]
                names = tuple(name for pair in parts for name in (pair.c, pair.m))
                found.append(Group(base or "state", "tuple", names, (cells,)))
    taken = {group.name for group in found}
    for pair in pairs:
        one = _one(ckpt.cells[pair.owner]) if pair.owner in ckpt.cells else None
        base = pair.base or "state"
        alone = base not in taken and sum((other.base or "state") == base for other in pairs) == 1
        name = base if alone else f"{base}/{pair.owner or pair.c}"
        found.append(Group(name, "tuple", (pair.c, pair.m), (one,) if one else every))
    return found


def _pairs(ckpt: LSTMCheckpoint) -> Iterator[_Pair]:
    """Yield the halves that belong together, by their names, or else by the graph alone."""
    named: dict[tuple[str | None, str], dict[str, list[str]]] = {}
    wired: dict[str | None, dict[str, list[str]]] = {}
    for state in _states(ckpt):
        if state.layout in ("c", "m"):
            half = state_names.parse(ckpt.variables[state.variable].path)
            halves = (
                named.setdefault((state.cell, half.stem), {})
                if half is not None and half.role == state.layout
                else wired.setdefault(state.cell, {})
            )
            halves.setdefault(state.layout, []).append(state.variable)
    for (owner, stem), halves in named.items():
        if sorted(map(len, halves.values())) == [1, 1]:
            base = stem.strip("/_")
            if owner and f"/{base}".endswith(f"/{owner}"):
                base = base.removesuffix(owner).strip("/_")
            yield _Pair(base, owner, halves["c"][0], halves["m"][0])
    for owner, halves in wired.items():
        if owner is not None and sorted(map(len, halves.values())) == [1, 1]:
            yield _Pair("", owner, halves["c"][0], halves["m"][0])


def _states(ckpt: LSTMCheckpoint) -> list[SavedState]:
    """Return the states that its cells take; where no cell is known, what is called a state."""
    if ckpt.cells:
        return ckpt.states
    found = []
    for variable in ckpt.variables.values():
        if len(variable.shape) >= 2 and variable.dtype.startswith(("float", "bfloat", "complex")):
            named = state_names.parse(variable.path)
            if named is not None and named.is_plain:
                layout = "unknown" if named.role == "state" else named.role
                found.append(SavedState(variable.name, layout, variable.shape))
    return found


def _owners(ckpt: LSTMCheckpoint, state: SavedState, every: tuple[Cells, ...]) -> tuple[Cells, ...]:
    """Return the cells whose state a variable is, all where nothing tells."""
    if state.cell is not None:
        found = _one(ckpt.cells[state.cell])
    else:
        found = next((_all(s) for s in ckpt.stacks if s.name == state.stack), None)
    return (found,) if found else every
