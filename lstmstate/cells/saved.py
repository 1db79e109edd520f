"""States that were saved in variables: by the graph where it tells, else by width and name."""

from __future__ import annotations

from collections.abc import Iterable

from lstmstate.cells import names, state_names
from lstmstate.cells.graph_view import GraphView, Stored
from lstmstate.cells.model import Cell, SavedState, Stack
from lstmstate.cells.recognise import Recognition

Fits = dict[str, dict[int, list[Cell]]]  # layout → width → the cells with such a state


def saved_states(
    found: Recognition, stacks: list[Stack], variables: Iterable[Stored]
) -> list[SavedState]:
    """Return the variables that hold a state of one of the cells.

    A state is never trainable in the sense of a weight, is no slot and no part of a cell, has
    a batch before its width, and fits a cell or a stack. Where the graph shows that a cell
    starts from a variable, that is told; else the name has to speak of a state.
    """
    view = found.graph
    by_graph, owners = _by_graph(view, found.cells) if view is not None else ({}, {})
    fits: Fits = {"flat": {}, "c": {}, "m": {}}
    for cell in found.cells:
        for layout, cells in fits.items():
            if cell.state is not None:
                cells.setdefault(getattr(cell.state, layout), []).append(cell)
    states = []
    for variable in variables:
        if variable.name in found.slots or variable.name in found.roles:
            continue
        if not variable.dtype.startswith(("float", "bfloat", "complex")):
            continue
        state = by_graph.get(variable.name) or _by_name(variable, fits, stacks, view)
        if state is not None:
            known = owners.get(variable.name, set())
            states.append(_with_stack(state, variable, found.cells, stacks, known))
    return states


def _by_graph(
    view: GraphView, cells: list[Cell]
) -> tuple[dict[str, SavedState], dict[str, set[str]]]:
    """Return the variables from which the first steps of cells take their state, and which do."""
    uses: dict[str, set[tuple[str, str]]] = {}  # variable → (layout, cell) of each use
    found: dict[str, Stored] = {}
    for cell in cells:
        wired = view.cell_of(cell.variables)
        for first in wired.firsts if wired else ():
            for half, node in zip("cm", first, strict=True):
                origin = view.origin(node)
                if origin is not None:
                    variable, cut = origin
                    found[variable.name] = variable
                    uses.setdefault(variable.name, set()).add(("flat" if cut else half, cell.name))
    states = {}
    for name, used in uses.items():
        layouts = {layout for layout, _ in used}
        owners = {owner for _, owner in used}
        states[name] = SavedState(
            name,
            # One variable for both halves is a start, such as zeros, and no flat state.
            "flat" if "flat" in layouts else layouts.pop() if len(layouts) == 1 else "unknown",
            found[name].shape,
            owners.pop() if len(owners) == 1 else None,
            source="graph",
        )
    return states, {name: {owner for _, owner in used} for name, used in uses.items()}


def _by_name(
    variable: Stored, fits: Fits, stacks: list[Stack], view: GraphView | None
) -> SavedState | None:
    """Return a state that only its name and width speak for."""
    named = state_names.parse(variable.path)
    if named is None or not named.is_plain:
        return None
    half = state_names.HALVES.get(named.role)
    if len(variable.shape) < 2 or (view is not None and view.is_trainable(variable)):
        return None
    width = variable.shape[-1]
    found = {layout: fits[layout].get(width, []) for layout in fits}
    whole = [stack for stack in stacks if stack.flat == width]
    if half and found[half]:
        return _state(variable, named.role, found[half])
    if whole or found["flat"]:
        return _state(variable, "flat", [] if whole else found["flat"])
    either = found["c"] or found["m"]
    pairs = {-3: "layered", -2: "stacked"}  # the axis on which c and m lie side by side
    layouts = [
        layout
        for axis, layout in pairs.items()
        if len(variable.shape) >= 3 and variable.shape[axis] == 2
    ]
    told = layouts[0] if len(layouts) == 1 else "unknown"
    return _state(variable, told, either) if either else None


def _state(variable: Stored, layout: str, cells: list[Cell]) -> SavedState:
    """Return a state, with its cell where only one fits, or one shares its scope or gives it.

    `convert` puts the state of a cell under the cell's name: `saved_state/rnn/lstm_cell/c`.
    """
    scope = names.parent(variable.path)
    near = [
        cell
        for cell in cells
        if scope in (cell.name, names.parent(cell.name))
        or (cell.name and scope.endswith(f"/{cell.name}"))
    ]
    fitting = near if len(near) == 1 else cells
    cell = fitting[0].name if len(fitting) == 1 else None
    return SavedState(variable.name, layout, variable.shape, cell)


def _with_stack(
    state: SavedState, variable: Stored, cells: list[Cell], stacks: list[Stack], owners: set[str]
) -> SavedState:
    """Name the stack whose flat state a variable is: its cells are seen to start from it, or
    only one stack has that width.
    """
    if state.layout != "flat" or not variable.shape:
        return state
    width = variable.shape[-1]
    one = next((cell for cell in cells if cell.name == state.cell), None)
    if one is not None and one.state and one.state.flat == width:
        return state
    whole = [
        stack
        for stack in stacks
        if stack.flat == width and owners <= {cell.name for layer in stack.layers for cell in layer}
    ]
    named = whole[0].name if len(whole) == 1 else None
    return SavedState(state.variable, "flat", state.shape, None, named, state.source)
