"""States saved in variables, found by the graph, or else by width and name."""

from __future__ import annotations

import re
from collections.abc import Iterable

from lstmstate.cells import state_names
from lstmstate.cells import variable_names as names
from lstmstate.cells.cell import Cell, SavedState, Stack
from lstmstate.cells.detect import Recognition
from lstmstate.cells.from_graph.match_variables import GraphView, VariableFacts
from lstmstate.cells.from_graph.state_variables import find_kept_states

Fits = dict[str, dict[int | None, list[Cell]]]  # layout → width → the cells with such a state


def find_saved_states(found: Recognition, view: GraphView | None) -> list[SavedState]:
    """Return the variables that hold a state of one of the cells.

    A state is not a trainable variable, not a slot and not part of a cell, has a batch before its
    width, and fits a cell or a stack. The graph counts if it shows that a cell starts from a
    variable, or is assigned to one; else the name has to be that of a state.
    """
    if not found.cells:
        return []
    fits: Fits = {"flat": {}, "c": {}, "m": {}}
    for cell in found.cells:
        for layout, cells in fits.items():
            if cell.state is not None:
                cells.setdefault(getattr(cell.state, layout), []).append(cell)
    states = []
    stacks = found.stacks
    by_place = _of_keras(found.variables, found.cells)
    by_graph = find_kept_states(view, found.cells, stacks, found.roles) if view is not None else {}
    for variable in found.variables:
        if variable.name in found.slots or variable.name in found.roles:
            continue
        if not variable.is_inexact:
            continue
        state = by_graph.get(variable.name) or by_place.get(variable.name)
        if state is None:
            state = _with_stack(_by_name(variable, fits, stacks, view), found.cells, stacks)
        if state is not None:
            states.append(state)
    return states


_OF_LAYER = r"(?P<layer>.+?)(?:/keras_api)?/states/(?P<number>\d+)"


def _of_keras(variables: Iterable[VariableFacts], cells: list[Cell]) -> dict[str, SavedState]:
    """Return the states of stateful layers of Keras, which lists them as h and c: 0 and 1.

    Source: `LSTMCell.get_initial_state` of Keras 2 and 3.
    """
    of_layer: dict[str, dict[int, VariableFacts]] = {}
    for variable in variables:
        has_place = "/states/" in variable.path
        if has_place and (place := re.fullmatch(_OF_LAYER, variable.path)):
            of_layer.setdefault(place["layer"], {})[int(place["number"])] = variable
    states: dict[str, SavedState] = {}
    for layer, both in of_layer.items():
        scopes = {layer, *(names.parent(one.full_name or "") for one in both.values())} - {""}
        owners = [
            cell
            for cell in cells
            if cell.native_layout == "keras" and scopes & {cell.name, names.parent(cell.name)}
        ]
        state = owners[0].state if len(owners) == 1 else None
        if state is None or sorted(both) != [0, 1]:
            continue
        if (both[0].shape[-1:], both[1].shape[-1:]) == ((state.m,), (state.c,)):
            states |= {
                both[number].name: SavedState(
                    both[number].name, half, both[number].shape, owners[0].name
                )
                for number, half in enumerate(("m", "c"))
            }
    return states


def _by_name(
    variable: VariableFacts, fits: Fits, stacks: list[Stack], view: GraphView | None
) -> SavedState | None:
    """Return a state by its name and width alone."""
    width = variable.shape[-1] if len(variable.shape) > 1 else None
    found = {layout: fits[layout].get(width, []) for layout in fits}
    whole = [stack for stack in stacks if width is not None and stack.flat == width]
    if not whole and not any(found.values()):
        return None  # nearly all, and names take longer
    named = state_names.parse(variable.path)
    if named is None or not named.is_plain or (view is not None and view.is_trainable(variable)):
        return None
    half = state_names.HALVES.get(named.role)
    if half and found[half]:
        return _state(variable, named.role, found[half])
    if whole or found["flat"]:
        return _state(variable, "flat", [] if whole else found["flat"])
    either = found["c"] or found["m"]
    pairs = {-3: "layered", -2: "stacked"}  # the axis of c and m
    layouts = [
        layout
        for axis, layout in pairs.items()
        if len(variable.shape) >= 3 and variable.shape[axis] == 2
    ]
    layout = layouts[0] if len(layouts) == 1 else "unknown"
    return _state(variable, layout, either) if either else None


def _state(variable: VariableFacts, layout: str, cells: list[Cell]) -> SavedState:
    """Return a state, with its cell if only one fits, or one shares its scope or is in its name.

    `convert` puts the state of a cell under the cell's name: `saved_state/rnn/lstm_cell/c`.
    """
    scope = names.parent(variable.path).removesuffix("/state")
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
    state: SavedState | None, cells: list[Cell], stacks: list[Stack]
) -> SavedState | None:
    """Return a state with the stack that it is the flat state of, if only one has its width."""
    if state is None or state.layout != "flat":
        return state
    width = state.shape[-1]
    one = next((cell for cell in cells if cell.name == state.cell), None)
    if one is not None and one.state and one.state.flat == width:
        return state
    whole = [stack for stack in stacks if stack.flat == width]
    return state._replace(cell=None, stack=whole[0].name if len(whole) == 1 else None)
