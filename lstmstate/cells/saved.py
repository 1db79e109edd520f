"""States that were saved in variables: by the graph where it tells, else by width and name."""

from __future__ import annotations

import re
from collections.abc import Iterable

from lstmstate.cells import names
from lstmstate.cells.model import Cell, SavedState, Stack
from lstmstate.cells.recognise import GraphView, Recognition, Stored

# Last parts of names that speak of a state, or of one half of it; other words beside them
# ("hidden_layer", "weights_hidden", "cell_bias") speak of something else.
_BEFORE = r"(?:(?:lstm|rnn|init|initial|last|final|saved|keep|kept|prev|previous|current|zero)_?)*"
_STATE = re.compile(_BEFORE + r"(?:states?|carry)(?:_?\d+)?")
_HALVES = (
    ("c", re.compile(_BEFORE + r"(?:c|cell)(?:_?states?)?(?:_?\d+)?")),
    ("m", re.compile(_BEFORE + r"(?:m|h|hidden)(?:_?states?)?(?:_?\d+)?")),
)


def saved_states(
    found: Recognition, stacks: list[Stack], variables: Iterable[Stored]
) -> list[SavedState]:
    """Return the variables that hold a state of one of the cells.

    A state is never trainable in the sense of a weight, is no slot and no part of a cell, has
    a batch before its width, and fits a cell or a stack. Where the graph shows that a cell
    starts from a variable, that is told; else the name has to speak of a state.
    """
    view = found.graph
    by_graph = _by_graph(view, found.cells) if view is not None else {}
    states = []
    for variable in variables:
        if variable.name in found.slots or variable.name in found.roles:
            continue
        if not variable.dtype.startswith(("float", "bfloat", "complex")):
            continue
        state = by_graph.get(variable.name) or _by_name(variable, found.cells, stacks, view)
        if state is not None:
            states.append(_with_stack(state, variable, found.cells, stacks))
    return states


def _by_graph(view: GraphView, cells: list[Cell]) -> dict[str, SavedState]:
    """Return the variables from which the first steps of cells take their state."""
    states: dict[str, SavedState] = {}
    for cell in cells:
        wired = view.cell_of(cell.variables)
        if wired is None:
            continue
        nodes = [(layout, node) for first in wired.firsts for layout, node in zip("cm", first, strict=True)]
        for layout, node in nodes:
            origin = view.origin(node)
            if origin is None:
                continue
            variable, cut = origin
            known = states.get(variable.name)
            if known is not None and known.layout != layout:
                layout, cut = "flat", True
            shared = known is not None and known.cell != cell.name
            states[variable.name] = SavedState(
                variable.name,
                "flat" if cut else layout,
                variable.shape,
                None if shared else cell.name,
                source="graph",
            )
    return states


def _by_name(
    variable: Stored, cells: list[Cell], stacks: list[Stack], view: GraphView | None
) -> SavedState | None:
    """Return a state that only its name and width speak for."""
    last = names.last(variable.path).lower()
    half = next((layout for layout, pattern in _HALVES if pattern.fullmatch(last)), None)
    if half is None and not _STATE.fullmatch(last):
        return None
    if len(variable.shape) < 2 or (view is not None and view.is_trainable(variable)):
        return None
    width = variable.shape[-1]
    fits = {
        layout: [cell for cell in cells if cell.state and wide(cell) == width]
        for layout, wide in (
            ("flat", lambda cell: cell.state.flat),
            ("c", lambda cell: cell.state.c),
            ("m", lambda cell: cell.state.m),
        )
    }
    whole = [stack for stack in stacks if stack.flat == width]
    if half and fits[half] and not (fits["flat"] or whole):
        return _state(variable, half, fits[half])
    if whole or fits["flat"]:
        return _state(variable, "flat", [] if whole else fits["flat"])
    if len(variable.shape) >= 3 and variable.shape[-3] == 2 and (fits["c"] or fits["m"]):
        return _state(variable, "layered", fits["c"] or fits["m"])
    if len(variable.shape) >= 3 and variable.shape[-2] == 2 and (fits["c"] or fits["m"]):
        return _state(variable, "stacked", fits["c"] or fits["m"])
    return _state(variable, "unknown", fits["c"] or fits["m"]) if fits["c"] or fits["m"] else None


def _state(variable: Stored, layout: str, cells: list[Cell]) -> SavedState:
    """Return a state, with its cell where only one fits, or one shares its scope."""
    near = [cell for cell in cells if names.parent(variable.path) in (cell.name, names.parent(cell.name))]
    fitting = near if len(near) == 1 else cells
    cell = fitting[0].name if len(fitting) == 1 else None
    return SavedState(variable.name, layout, variable.shape, cell)


def _with_stack(
    state: SavedState, variable: Stored, cells: list[Cell], stacks: list[Stack]
) -> SavedState:
    """Name the stack whose flat state a variable is, where only one has that width."""
    if state.layout != "flat" or not variable.shape:
        return state
    width = variable.shape[-1]
    one = next((cell for cell in cells if cell.name == state.cell), None)
    if one is not None and one.state and one.state.flat == width:
        return state
    whole = [stack for stack in stacks if stack.flat == width]
    named = whole[0].name if len(whole) == 1 else None
    return SavedState(state.variable, "flat", state.shape, None, named, state.source)
