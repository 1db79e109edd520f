"""The execution order of the cells of a checkpoint: cells alone, and stacks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lstmstate.cells import variable_names as names
from lstmstate.cells.cell import Cell, Stack
from lstmstate.cells.stacks import name_of, pair_directions
from lstmstate.errors import UnsupportedError, printable
from lstmstate.records import NamedTuple


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
            raise UnsupportedError(
                "a layer of this stack is not an LSTM cell, or has a state of its own next to it",
                tensor=one.name,
                advice="run its cells one by one: `cell='NAME'`",
            )
        if one is not None and one.between:
            raise UnsupportedError(
                f"its layers have variables outside their cells: {printable(one.between[0])}",
                tensor=one.name,
                advice="run its cells one by one: `cell='NAME'`",
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
        raise UnsupportedError(
            "its layers are not a forward and a backward cell each",
            tensor=stack.name,
            advice="run its cells one by one: `cell='NAME'`",
        )
    return tuple((cell,) for cell in layer)


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
                    raise UnsupportedError(
                        f"the graph adds to the output of {printable(name)} before this cell: a "
                        "residual connection, or a layer",
                        tensor=cell.name,
                        advice="run the cells one by one: `cell='NAME'`",
                    )
                if None not in (inside, cell.input_size) and inside != cell.input_size:
                    raise UnsupportedError(
                        f"expected {inside} inputs, as {printable(name)} outputs, and it takes "
                        f"{cell.input_size}: a layer between them is missing",
                        tensor=cell.name,
                        advice="run the cells one by one: `cell='NAME'`",
                    )
                inside, name = (cell.state.m if cell.state else None), cell.name
        ends = [chain[-1] for chain in stage]
        widths = [end.state.m if end.state else 0 for end in ends]
        given = sum(widths) if all(widths) else None
        before = " and ".join(end.name for end in ends)
