"""Initial states of a graph itself, and the order of c and m in one array that it cuts."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import product
from typing import Any

import numpy as np

from lstmstate.checkpoint.graph_node import Node
from lstmstate.errors import LstmstateError, UnsupportedError, printable
from lstmstate.graph.evaluate import Environment, compile_plan
from lstmstate.graph.operations import Precision
from lstmstate.graph.walk import Tensor, data_inputs
from lstmstate.named_tuple import NamedTuple
from lstmstate.recurrence.data_path import front_of, origins
from lstmstate.recurrence.find_states import take
from lstmstate.recurrence.graph_network import GraphNetwork, Port
from lstmstate.recurrence.probe import Fed, Sizes, fed_tensors

Array = Any
_STEPS = 2  # steps of x, if the graph does not fix them
Shape = tuple[int, ...]
Run = Callable[[Array], list[Array]]
_BASE = 128  # smaller integers are exact in every float type, also after division by it


class Start(NamedTuple):
    """The initial states of some cells of a graph.

    Attributes:
        pairs: c and m of each cell by its name, zeros if they are fed; a single row is for any
            batch. None if they are unknown.
        variables: the nodes of the variables that they are computed from.
        problem: the reason why they are unknown.
        is_of_sizes: whether they depend on the size of the batch or the number of steps, and
            these were not passed.
    """

    pairs: Mapping[str, tuple[Array, Array]] | None
    variables: tuple[str, ...]
    problem: LstmstateError | None = None
    is_of_sizes: bool = False

    @property
    def is_zero(self) -> bool:
        """Whether it is surely zeros, or fed."""
        if self.pairs is None or self.is_of_sizes:
            return False
        return not any(half.any() for pair in self.pairs.values() for half in pair)


def start(
    network: GraphNetwork,
    names: Collection[str],
    variable: Callable[[Node], Any],
    feeds: Mapping[Tensor, Any],
    batch: int | None = None,
    steps: int | None = None,
) -> Start:
    """Return the graph's own initial states for the cells of some names.

    They are evaluated twice, with different data and random numbers: a state that differs depends
    on these, and is unknown.

    Args:
        variable: returns the value of a variable's node.
        feeds: values for placeholders other than x and the state.
        batch: the number of rows of x; by default as many as the graph fixes, or two.
        steps: the number of steps of x; by default as many as the graph fixes, or two.
    """
    nodes, given, fed = network.scope.nodes, network.input, fed_tensors(network.scope)
    cells = [cell for cell in network.cells if cell.name in names]
    ports = [port for cell in cells for port in cell.ports]
    # A cell that begins with the state of another one needs no state if both are run.
    handed = network.handed if len(cells) == len(network.cells) else {}
    own = [port for cell in cells if cell.name not in handed for port in cell.ports]
    way = origins(nodes, [port.source for port in own], {})
    data = {node.name for node in origins(nodes, given.tensors, {}).sources}
    data |= {tensor.node for tensor in given.tensors}
    states = {tensor for tensor, one in fed.items() if one.is_state} - {*given.tensors, *feeds}
    made = [port for port in own if not _is_fed(nodes, port.source, states, data)]
    has_batch = batch is not None or given.batch is not None
    has_steps = any(one is not None for one in (steps, network.steps, given.steps))
    sizes = origins(nodes, [port.source for port in made], {}).sizes
    sized = origins(nodes, [one for name in sizes for one in data_inputs(nodes[name])], {}).sources
    unknown = {node.name for node in sized} - data - {tensor.node for tensor in feeds}
    if unknown:
        names = ", ".join(map(printable, sorted(unknown)[:3]))
        problem = f"it is computed from the size of {names}"
        return Start(None, way.variables, UnsupportedError(problem))
    rows = batch or given.batch or 2
    found: list[list[Array]] = []
    try:
        for draw in (0, 1):
            precision = Precision(second=network.scope.is_of_2, draw=(0.5, 0.25)[draw])
            plan = compile_plan(
                network.scope,
                [port.source for port in made],
                {*fed, *feeds, *given.tensors},
                Environment(variable, precision),
            )
            known = given.fed(_make_up_sequence(network, rows, steps, draw)) | dict(feeds)
            others = plan.feeds.keys() - known.keys()
            values = known | {one: _make_up_value(fed[one], rows, draw) for one in others}
            found.append(_take_entries(plan.run(values), made))
    except LstmstateError as error:
        return Start(None, way.variables, error)
    if not all(map(_are_equal, *found)):
        sources = ", ".join(sorted({printable(node.name) for node in way.sources})[:3])
        words = f"it is computed from {sources}" if sources else "it is random"
        return Start(None, way.variables, UnsupportedError(words))
    of_port = dict(zip(made, found[0], strict=True))
    zeros = {port: np.zeros((1, *port.spatial, port.width), port.dtype) for port in ports}
    halves = zeros | {port: _shorten(value) for port, value in of_port.items()}
    pairs = {cell.name: (halves[cell.c], halves[cell.m]) for cell in cells}
    return Start(pairs, way.variables, is_of_sizes=bool(sizes) and not (has_batch and has_steps))


def _is_fed(
    nodes: Mapping[str, Node],
    source: Tensor,
    states: Collection[Tensor],
    data: Collection[str],
) -> bool:
    """Whether a state comes from an input for states, and from no variable.

    Args:
        states: the inputs that can take states.
        data: the nodes at which x enters the graph.
    """
    if front_of(nodes, source).tensor in states:
        return True
    way = origins(nodes, [source], {})
    fed = (Tensor(node.name) for node in way.sources if node.name not in data)
    return not way.variables and any(tensor in states for tensor in fed)


def _take_entries(values: Iterable[Any], ports: Iterable[Port]) -> list[Array]:
    """Return the states of some ports, taken from the values of their sources."""
    return [take(np.asarray(one), port.entry) for one, port in zip(values, ports, strict=True)]


def _are_equal(first: Array, second: Array) -> bool:
    """Whether two values are equal in the rows that both have."""
    rows = min(len(first), len(second))
    return np.array_equal(first[:rows], second[:rows], equal_nan=True)


def _shorten(value: Array) -> Array:
    """Return one row if all rows are equal."""
    return value[:1] if (value == value[:1]).all() else value


def _make_up_sequence(network: GraphNetwork, rows: int, steps: int | None, draw: int) -> Array:
    """Return values for x, time first."""
    given = network.input
    steps, rows = given.steps or network.steps or steps or _STEPS, given.batch or rows
    return _draw((steps, rows, *given.spatial, given.width), draw).astype(given.dtype)


def _make_up_value(fed: Fed, rows: int, draw: int) -> Array:
    """Return one of two values for an input; a single integer may be the size of the batch."""
    value = fed.value(open_size=rows)
    if value.dtype.kind in "iu":
        return value - draw if value.shape else value * rows + draw
    if value.dtype.kind == "f":
        return _draw(value.shape, draw).astype(value.dtype) if value.shape else value / (1 + draw)
    return value ^ bool(draw)


def _draw(shape: tuple[int, ...], draw: int) -> Array:
    return np.random.default_rng(draw).standard_normal(shape)


class FedOrder(NamedTuple):
    """The places of the initial states of some cells in one array.

    Attributes:
        taker: the placeholder, variable or tensor for the array.
        cells: the names of the cells, in the order of the network.
        places: the flat indices of the elements of each half, by cell name and "c" or "m", in the
            order of the halves in the array.
        lead: the number of axes before those that the graph takes.
    """

    taker: str
    cells: tuple[str, ...]
    places: Mapping[tuple[str, str], Array]
    lead: int

    def __str__(self) -> str:
        numbers = {
            name: f"_{at}" if len(self.cells) > 1 else "" for at, name in enumerate(self.cells)
        }
        order = "|".join(half + numbers[name] for name, half in self.places)
        return f"the graph's {printable(self.taker)} takes {order}"

    def half(self, whole: Array, key: tuple[str, str]) -> Array:
        """Return c or m of one cell, taken from an array."""
        places, lead = self.places[key], whole.shape[: self.lead]
        return whole.reshape(*lead, -1)[..., places.ravel()].reshape(*lead, *places.shape)


def fed_order(
    network: GraphNetwork,
    names: Collection[str],
    variable: Callable[[Node], Any],
    feeds: Mapping[Tensor, Any],
    shape: Shape,
    is_taker: Callable[[str], bool],
) -> FedOrder | None:
    """Return the order of the states of some cells in an array of a shape.

    None if the graph takes no such array, or does more than cutting it.

    Args:
        variable: returns the value of a variable's node.
        feeds: values for placeholders other than x and the state.
        is_taker: returns whether a node of this name may take the array.

    Raises:
        LstmstateError: the graph computes the initial state with operations that are not evaluated.
    """
    cells = tuple(cell.name for cell in network.cells if cell.name in names)
    ports = {
        (cell.name, half): port
        for cell in network.cells
        if cell.name in names
        for half, port in zip("cm", (cell.c, cell.m), strict=True)
    }
    for taker, sizes, run in _find_takers(network, list(ports.values()), variable, feeds):
        for lead, own in _find_shapes(sizes, shape) if is_taker(taker) else ():
            with suppress(LstmstateError, ValueError, IndexError):
                found = _find_places(run, own)
                widths = [port.width for port in ports.values()]
                if found is None or [one.shape[-1] for one in found] != widths:
                    continue
                if len(own) > len(shape) - lead and 1 not in shape:  # it has no batch
                    found = [one[0] for one in found]
                of = dict(zip(ports, found, strict=True))
                order = sorted(of, key=lambda key: int(of[key].min()))
                return FedOrder(taker, cells, {key: of[key] for key in order}, lead)
    return None


def _find_takers(
    network: GraphNetwork,
    ports: list[Port],
    variable: Callable[[Node], Any],
    feeds: Mapping[Tensor, Any],
) -> Iterator[tuple[str, Sizes | None, Run]]:
    """Yield each node that may take the whole state: its name, its shape, a function to cut it."""
    scope, sources = network.scope, [port.source for port in ports]
    fed: dict[Tensor, Fed] = fed_tensors(scope)
    others = {*feeds, *network.input.tensors}

    def run(value: Callable[[Node], Any], more: Mapping[Tensor, Any]) -> list[Array]:
        plan = compile_plan(scope, sources, {*fed, *others, *more}, Environment(value))
        known = {
            tensor: more[tensor] if tensor in more else feeds.get(tensor, fed[tensor].value())
            for tensor in plan.feeds
        }
        return _take_entries(plan.run(known), ports)

    def as_fed(tensor: Tensor) -> Run:
        kind = fed[tensor].dtype if tensor in fed else ports[0].dtype
        return lambda whole: run(variable, {tensor: whole.astype(kind)})

    def as_variable(name: str) -> Run:
        def value(node: Node, whole: Array) -> Array:
            return whole.astype("f4") if node.name == name else variable(node)

        return lambda whole: run(lambda node: value(node, whole), {})

    plan = compile_plan(scope, sources, {*fed, *others}, Environment(variable))
    for tensor in plan.feeds.keys() - others:
        yield tensor.node, fed[tensor].sizes, as_fed(tensor)
    for name in origins(scope.nodes, sources, {}).variables:
        with suppress(LstmstateError):
            yield name, np.shape(variable(scope.nodes[name])), as_variable(name)
    if len({*sources}) == 1:
        yield sources[0].node, None, as_fed(sources[0])


def _find_shapes(sizes: Sizes | None, given: Shape) -> Iterator[tuple[int, Shape]]:
    """Yield the possible shapes of an array in the graph, with the number of leading axes.

    The array may lack the axis of the batch, and may have leading axes, such as one of steps.
    """
    for lead, at in product(range(len(given)), (None, *range(len(given)))):
        shape = given[lead:]
        if at is not None:
            shape = (*shape[:at], 1, *shape[at:])
        if sizes is None:
            yield lead, shape
        elif len(sizes) == len(shape):
            pairs = zip(sizes, shape, strict=True)
            if all(size in (None, one) or one == 1 for size, one in pairs):
                yield lead, shape


def _find_places(run: Run, shape: Shape) -> list[Array] | None:
    """Return the flat indices of the elements of each half; None if the array is not just cut.

    The array is filled with the digits of its indices, one pass for each digit.
    """
    size = math.prod(shape)
    numbers = np.arange(size).reshape(shape)
    found: list[Array] = []
    scale = 1
    while scale == 1 or scale < size:
        digits = [half * _BASE for half in run(numbers // scale % _BASE / _BASE)]
        if not all(np.array_equal(digit, np.rint(digit)) for digit in digits):
            return None
        whole = [digit.astype(np.int64) * scale for digit in digits]
        found = [a + b for a, b in zip(found, whole, strict=True)] if found else whole
        scale *= _BASE
    every = np.sort(np.concatenate([half.ravel() for half in found]))
    return found if np.array_equal(every, np.arange(size)) else None
