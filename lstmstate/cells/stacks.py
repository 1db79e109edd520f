"""Cells into stacks: layers in order, directions paired, from the scopes that they stand in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lstmstate.cells import names
from lstmstate.cells.model import Cell, Stack


def stacks(
    cells: Iterable[Cell], paths: Iterable[str] = (), between: Iterable[str] = ()
) -> list[Stack]:
    """Return the stacks that some cells form.

    Args:
        paths: those of all variables.
        between: those of variables that belong to no cell and to no optimizer.

    A numbered place (`multi_rnn_cell/cell_0`, `MultiRNNCell/Cell0`, `StackRNN/Layer0`,
    `stack_bidirectional_rnn/cell_0`) makes a layer. Directions that lie inside the places make
    layers of two cells; directions that lie around them make two stacks that run apart, since
    TensorFlow never lets one feed the other. A pair without numbers is a stack of one layer.
    """
    shown: dict[str, str] = {}  # what to call a pair, which is kept under its pattern
    places: dict[str, dict[int, list[Cell]]] = {}
    for cell in cells:
        numbered = names.layer(cell.name) if cell.layer is not None else None
        paired = names.pair(cell.name)
        if numbered:
            places.setdefault(numbered[0], {}).setdefault(numbered[1], []).append(cell)
        elif paired:
            shown[paired[0]] = paired[1]
            places.setdefault(paired[0], {}).setdefault(0, []).append(cell)
    others = _states_of_others(paths)
    strangers = _by_layer(between)
    sides = {names.direction(name): name for name in places if name not in shown}
    found = []
    for name, members in sorted(places.items(), key=lambda place: names.order(place[0])):
        layers = tuple(
            tuple(
                sorted(members[number], key=lambda cell: (cell.direction == "backward", cell.name))
            )
            for number in sorted(members)
        )
        if layers[0][0].layer is None and len({cell.direction for cell in layers[0]}) < 2:
            continue  # one direction alone is a cell, not a stack
        around = None if name in shown else names.direction(name)
        other = around and sides.get(
            (around[0], "backward" if around[1] == "forward" else "forward")
        )
        places_of_all = others.get(name, set()) | set(members)
        is_whole = sorted(places_of_all) == list(range(len(members)))
        found.append(
            Stack(
                name=shown.get(name, name),
                layers=layers,
                flat=_flat(layers) if is_whole else None,
                direction=around[1] if around else None,
                paired_with=other or None,
                is_whole=is_whole,
                between=tuple(
                    path for place in sorted(members) for path in strangers.get((name, place), ())
                ),
            )
        )
    return found


def together(stacks: Sequence[Stack]) -> list[tuple[Stack, ...]]:
    """Return each stack alone, and the forward and the backward stack of a pair as one."""
    by_name = {stack.name: stack for stack in stacks}
    found: list[tuple[Stack, ...]] = []
    for stack in stacks:
        other = by_name.get(stack.paired_with or "")
        if other is None or stack.direction == "forward":
            found.append((stack,) if other is None else (stack, other))
    return found


def name_of(stacks: Sequence[Stack]) -> str:
    """Return the name of a stack, or the one that the two directions of a pair share."""
    paired = names.pair(stacks[0].name) if len(stacks) > 1 else None
    return paired[1] if paired else stacks[0].name


def called(name: str, stacks: Sequence[Stack]) -> list[tuple[Stack, ...]]:
    """Return the stacks, and pairs of them, that a user may mean by a name.

    A whole name means that stack alone. Else any whole parts of a name do; parts that both
    directions of a pair have mean the pair, parts that one of them has mean that direction.
    """
    groups = together(stacks)
    exact = [group for group in groups if name_of(group) == name]
    exact = exact or [(stack,) for stack in stacks if stack.name == name]
    if exact:
        return exact
    part = f"/{name.strip('/')}/"
    found = []
    for group in groups:
        inside = tuple(stack for stack in group if part in f"/{stack.name}/")
        if inside or part in f"/{name_of(group)}/":
            found.append(inside or group)
    return found


def _by_layer(paths: Iterable[str]) -> dict[tuple[str, int], list[str]]:
    """Return the variables that stand in the layers of stacks, by stack and place."""
    found: dict[tuple[str, int], list[str]] = {}
    for path in paths:
        for layer in names.layers(path):
            found.setdefault(layer, []).append(path)
    return found


def _states_of_others(paths: Iterable[str]) -> dict[str, set[int]]:
    """Return for each stack the places that variables stand in; -1 for one with more state.

    A layer may be a cell of another kind, or hold a stack, or attend: each has its own state.
    """
    found: dict[str, set[int]] = {}
    for path in paths:
        attends = "ttention" in path and any(map(names.is_attention, path.split("/")))
        for stack, place in names.layers(path):
            found.setdefault(stack, set()).add(-1 if attends else place)
    return found


def _flat(layers: tuple[tuple[Cell, ...], ...]) -> int | None:
    """Return the width of the flat state of all cells, None where there is none, or unknown."""
    if any(len(layer) > 1 or layer[0].native_layout == "keras" for layer in layers):
        return None
    widths = [cell.state for layer in layers for cell in layer]
    return None if None in widths else sum(width.flat for width in widths if width is not None)
