"""Stacks of cells, from their scopes: layers in order, pairs of directions, and their execution."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from lstmstate.cells import variable_names as names
from lstmstate.cells.cell import Cell, Stack
from lstmstate.errors import UnsupportedError, printable
from lstmstate.named_tuple import NamedTuple

_FEWEST = 2  # cells, so that one can feed another


def stacks(
    cells: Iterable[Cell],
    paths: Iterable[str] = (),
    between: Iterable[str] = (),
    feeders: Callable[[Mapping[str, Cell]], Mapping[str, str]] | None = None,
) -> list[Stack]:
    """Return the stacks that some cells form; a cell knows its layer there.

    Args:
        paths: those of all variables.
        between: those of variables that belong to no cell and to no optimizer.
        feeders: returns for some cells which of the others feeds each, as the graph shows it.

    A numbered place (`multi_rnn_cell/cell_0`, `MultiRNNCell/Cell0`, `StackRNN/Layer0`,
    `stack_bidirectional_rnn/cell_0`) makes a layer. Directions inside the places make
    layers of two cells; directions around them make two stacks that run apart, since
    TensorFlow never lets one feed the other. A pair without numbers is a stack of one layer.
    Cells outside of all these are a stack if the graph has each feed the next.
    """
    cells = list(cells)
    if not cells:
        return []
    shown: dict[str, str] = {}  # pattern of a pair → its name
    members: dict[str, list[tuple[Cell, ...]]] = {}
    found_places = _Places(cells, _states_of_others(paths))
    pairs: dict[str, list[Cell]] = {}
    for cell in cells:
        paired = names.pair(cell.name)
        if cell.layer is None and paired:
            shown[paired[0]] = paired[1]
            pairs.setdefault(paired[0], []).append(cell)
    members = found_places.stacks() | {name: [_sort(some)] for name, some in pairs.items()}
    outside = _by_layer(between)
    sides = {names.direction(name): name for name in members if name not in shown}
    found = []
    for name, layers in sorted(members.items(), key=lambda stack: names.order(stack[0])):
        if name in shown and len({cell.direction for cell in layers[0]}) < 2:
            continue  # one direction alone is a cell, not a stack
        around = None if name in shown else names.direction(name)
        other = around and sides.get(
            (around[0], "backward" if around[1] == "forward" else "forward")
        )
        is_whole = name in shown or name in found_places.whole
        found.append(
            Stack(
                name=shown.get(name, name),
                layers=tuple(layers) if name in shown or not is_whole else _number_layers(layers),
                flat=_flat(layers) if is_whole else None,
                direction=around[1] if around else None,
                paired_with=other or None,
                is_whole=is_whole,
                between=tuple(outside.get(name, ())),
            )
        )
    inside = {cell.name for stack in found for layer in stack.layers for cell in layer}
    loose = {cell.name: cell for cell in cells if cell.name not in inside}
    if feeders is None or len(loose) < _FEWEST:
        return found
    taken = {stack.name for stack in found}
    others = _fed_stacks(loose, feeders(loose))
    return found + [stack for stack in others if stack.name not in taken]


def _fed_stacks(cells: Mapping[str, Cell], fed: Mapping[str, str]) -> Iterator[Stack]:
    """Yield the stacks of cells that each feed the next, and no other."""
    after: dict[str, list[str]] = {}
    for name, before in fed.items():
        if name in cells and before in cells:
            after.setdefault(before, []).append(name)
    firsts = [name for name in cells if name in after and fed.get(name) not in cells]
    for first in firsts:
        chain = [first]
        while len(after.get(chain[-1], ())) == 1:
            chain += after[chain[-1]]
        if len(chain) > 1:
            layers = tuple((cells[name],) for name in chain)
            shared = names.common_scope([f"{name}/" for name in chain])
            yield Stack(shared or first, layers, _flat(layers))


def pair_directions(stacks: Sequence[Stack]) -> list[tuple[Stack, ...]]:
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


def find_by_name(name: str, stacks: Sequence[Stack]) -> list[tuple[Stack, ...]]:
    """Return the stacks, and pairs of them, that a user may mean by a name.

    A whole name means that stack alone. Else any whole parts of a name do; parts that both
    directions of a pair have mean the pair, parts that one of them has mean that direction.
    """
    groups = pair_directions(stacks)
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


def _number_layers(layers: Iterable[tuple[Cell, ...]]) -> tuple[tuple[Cell, ...], ...]:
    """Return the layers of a whole stack; their cells know which they are."""
    return tuple(
        tuple(cell._replace(layer=number) for cell in layer) for number, layer in enumerate(layers)
    )


def _sort(cells: Iterable[Cell]) -> tuple[Cell, ...]:
    return tuple(sorted(cells, key=lambda cell: (cell.direction == "backward", cell.name)))


class _Places:
    """Numbered places of cells, and the stacks that they make.

    A user may call a cell cell_1 too, and put a MultiRNNCell into another: among the places that
    a cell may have, the outermost counts whose stack is whole then: each of its layers is a cell,
    a pair of directions, or a stack.

    Attributes:
        whole: the scopes of the whole stacks.
    """

    def __init__(self, cells: Iterable[Cell], others: dict[str, set[int]]) -> None:
        self._of = {cell.name: names.places(cell.name) for cell in cells if cell.layer is not None}
        self._cells: dict[str, dict[int, list[Cell]]] = {}  # stack → place → cells
        for cell in cells:
            for place in self._of.get(cell.name, ()):
                self._cells.setdefault(place.stack, {}).setdefault(place.number, []).append(cell)
        self._others = others
        self._known: dict[str, list[tuple[Cell, ...]] | None] = {}
        self.whole: set[str] = set()

    def stacks(self) -> dict[str, list[tuple[Cell, ...]]]:
        """Return the layers of each stack, by its scope."""
        found: dict[str, list[tuple[Cell, ...]]] = {}
        loose: dict[str, dict[int, list[Cell]]] = {}
        taken: set[str] = set()
        by_name = {
            cell.name: cell
            for places in self._cells.values()
            for some in places.values()
            for cell in some
        }
        for name, places in self._of.items():
            if name in taken:
                continue
            top = next(
                (p.stack for p in places if self._layers(p.stack) and not self._is_around(p.stack)),
                None,
            )
            if top is None:
                own = [place for place in places if place.below] or places
                loose.setdefault(own[-1].stack, {}).setdefault(own[-1].number, []).append(
                    by_name[name]
                )
                continue
            found[top] = self._layers(top) or []
            self.whole.add(top)
            taken |= {cell.name for layer in found[top] for cell in layer}
        for stack, members in loose.items():
            if stack not in found:
                found[stack] = [_sort(members[number]) for number in sorted(members)]
        return found

    def _is_around(self, stack: str) -> bool:
        """Whether a stack has one layer, which is a stack of its own."""
        layers = self._layers(stack) or []
        return len(self._cells[stack]) == 1 and self._inner(stack, layers[0]) is not None

    def _layers(self, stack: str) -> list[tuple[Cell, ...]] | None:
        """Return the layers of a stack from its first to its last; None if it is not whole."""
        if stack not in self._known:
            self._known[stack] = self._find_layers(stack)
        return self._known[stack]

    def _find_layers(self, stack: str) -> list[tuple[Cell, ...]] | None:
        members = self._cells[stack]
        if sorted(self._others.get(stack, set()) | set(members)) != list(range(len(members))):
            return None
        layers: list[tuple[Cell, ...]] = []
        for number in range(len(members)):
            cells = _sort(members[number])
            inner = self._inner(stack, cells)
            if inner is not None:
                within = self._layers(inner)
                if within is None or sum(map(len, within)) != len(cells):
                    return None
                layers += within
            elif any(self._goes_on(stack, cell) for cell in cells):
                return None
            elif len(cells) == 1 or [c.direction for c in cells] == ["forward", "backward"]:
                layers.append(cells)
            else:
                return None
        return layers

    def _inner(self, stack: str, cells: tuple[Cell, ...]) -> str | None:
        """Return the stack that is a layer itself: its scope is directly below the place."""
        found = set()
        for cell in cells:
            behind = iter(self._of[cell.name])
            depth = next(place.below for place in behind if place.stack == stack)
            found.add(next((p.stack for p in behind if depth - p.below == 2), None))
        inner = found.pop() if len(found) == 1 else None
        return inner if inner is not None and names.is_cell_scope(names.last(inner)) else None

    def _goes_on(self, stack: str, cell: Cell) -> bool:
        """Whether a cell has a further place below, other than by its own name."""
        behind = [
            place
            for place in self._of[cell.name]
            if place.stack.startswith(f"{stack}/" if stack else "")
        ]
        return any(place.below for place in behind if place.stack != stack)


def _by_layer(paths: Iterable[str]) -> dict[str, list[str]]:
    """Return the variables in the layers of stacks, by stack and in its order."""
    found: dict[str, list[tuple[int, str]]] = {}
    for path in paths:
        for stack, place in names.layers(path):
            found.setdefault(stack, []).append((place, path))
    return {
        stack: [path for _, path in sorted(some, key=lambda one: one[0])]
        for stack, some in found.items()
    }


def _states_of_others(paths: Iterable[str]) -> dict[str, set[int]]:
    """Return for each stack the places that have variables; -1 for one with more state.

    A layer may be a cell of another kind, or hold a stack, or attend: each has its own state.
    """
    found: dict[str, set[int]] = {}
    for path in paths:
        attends = "ttention" in path and any(map(names.is_attention, path.split("/")))
        for stack, place in names.layers(path):
            found.setdefault(stack, set()).add(-1 if attends else place)
    return found


def _flat(layers: Iterable[tuple[Cell, ...]]) -> int | None:
    """Return the width of the flat state of all cells, None if there is none, or it is unknown."""
    if any(len(layer) > 1 or layer[0].native_layout == "keras" for layer in layers):
        return None
    widths = [cell.state for layer in layers for cell in layer]
    return None if None in widths else sum(width.flat for width in widths if width is not None)


# ---- the order of execution


class Route(NamedTuple):
    """Cells in the order of the data through them.

    Attributes:
        stages: each takes the outputs of the one before. A stage is a chain of cells that feed one
            another, or a forward and a backward chain over the same input.
        is_stack: whether it was asked for, or found, as a stack.
    """

    name: str
    stages: tuple[tuple[tuple[Cell, ...], ...], ...]
    is_stack: bool

    @property
    def cells(self) -> tuple[Cell, ...]:
        """All cells: stage by stage, the forward chain before the backward one."""
        return tuple(cell for stage in self.stages for chain in stage for cell in chain)

    @property
    def choice(self) -> str:
        """The parameter that picks it, for messages."""
        return f"`{'stack' if self.is_stack else 'cell'}='{printable(self.name) or '/'}'`"


def of_cell(cell: Cell) -> Route:
    """Return the way through one cell."""
    return Route(cell.name, (((cell,),),), False)


def of_stack(stack: Stack, other: Stack | None = None) -> Route:
    """Return the way through a stack.

    Args:
        other: the stack that runs over the same input the other way, if there is one.

    Raises:
        UnsupportedError: a layer of it is not an LSTM cell, or does not fit the one before.
    """
    if other is not None:
        both = tuple(_chain(one) for one in (stack, other))
        route = Route(name_of((stack, other)), (both,), True)
    elif any(len(layer) > 1 for layer in stack.layers):
        route = Route(stack.name, tuple(_pair(stack, layer) for layer in stack.layers), True)
    else:
        route = Route(stack.name, ((_chain(stack),),), True)
    for one in (stack, other):
        if one is not None and not one.is_whole:
            raise _not_run_whole(
                "a layer of this stack is not an LSTM cell, or has a state of its own next to it",
                one.name,
            )
        if one is not None and one.between:
            outside = printable(one.between[0])
            raise _not_run_whole(
                f"its layers have variables outside their cells: {outside}", one.name
            )
    refuse_gaps(route)
    return route


def routes(cells: Iterable[Cell], stacks: Sequence[Stack]) -> list[Route]:
    """Return every stack that can be run, pairs of stacks as one, and the cells in none."""
    found = [way for group in pair_directions(stacks) for way in _ways(*group)]
    inside = {cell.name for stack in stacks for layer in stack.layers for cell in layer}
    return found + [of_cell(cell) for cell in cells if cell.name not in inside]


def in_order(cells: Iterable[Cell], stacks: Sequence[Stack]) -> list[Cell]:
    """Return cells in the order of every list and every state.

    Cells of a network follow one another as its route has them: the forward layers and then the
    backward ones of a bidirectional_dynamic_rnn, layer by layer of a
    stack_bidirectional_dynamic_rnn. Networks are in the order of their names.
    """
    by_name = sorted(cells, key=lambda cell: names.order(cell.name))
    ways = sorted(routes(by_name, stacks), key=lambda route: names.order(route.cells[0].name))
    found = {cell.name: cell for route in ways for cell in route.cells}
    return list((found | {cell.name: cell for cell in by_name}).values())


def _ways(stack: Stack, other: Stack | None = None) -> list[Route]:
    """Return the way through a stack, or those through the parts of it that can be run."""
    try:
        return [of_stack(stack, other)]
    except UnsupportedError:
        if other is not None:
            return [*_ways(stack), *_ways(other)]
        return [of_cell(cell) for layer in stack.layers for cell in layer]


def _chain(stack: Stack) -> tuple[Cell, ...]:
    return tuple(layer[0] for layer in stack.layers)


def _pair(stack: Stack, layer: tuple[Cell, ...]) -> tuple[tuple[Cell, ...], ...]:
    if [cell.direction for cell in layer] != ["forward", "backward"]:
        raise _not_run_whole("its layers are not a forward and a backward cell each", stack.name)
    return tuple((cell,) for cell in layer)


def _not_run_whole(problem: str, name: str, cells: str = "its cells") -> UnsupportedError:
    return UnsupportedError(problem, tensor=name, advice=f"run {cells} one by one: `cell='NAME'`")


def refuse_gaps(route: Route) -> None:
    """Refuse a cell that does not fit the outputs of the one before."""
    given: int | None = None
    before = ""
    for stage in route.stages:
        taken = [chain[0].input_size for chain in stage]
        if given is None and len({*taken} - {None}) > 1:
            raise UnsupportedError(
                f"its directions take inputs of {taken[0]} and of {taken[1]} columns, and run "
                "over the same ones",
                tensor=route.name,
                advice="run them one by one: `cell='NAME'`, or `stack='NAME'`",
            )
        for chain in stage:
            inside, name = given, before
            for cell in chain:
                if name and cell.extra.get("takes_sum"):
                    problem = f"the graph adds to the output of {printable(name)} before this cell"
                    more = "a residual connection, or a layer"
                    raise _not_run_whole(f"{problem}: {more}", cell.name, "the cells")
                if None not in (inside, cell.input_size) and inside != cell.input_size:
                    raise _not_run_whole(
                        f"expected {inside} inputs, as {printable(name)} outputs, and it takes "
                        f"{cell.input_size}: a layer between them is missing",
                        cell.name,
                        "the cells",
                    )
                inside, name = (cell.state.m if cell.state else None), cell.name
        ends = [chain[-1] for chain in stage]
        widths = [end.state.m if end.state else 0 for end in ends]
        given = sum(widths) if all(widths) else None
        before = " and ".join(end.name for end in ends)
