"""The values of the initial states that a graph computes itself."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import numpy as np

from lstmstate.checkpoint.graph_node import Node
from lstmstate.errors import LstmstateError, UnsupportedError, printable
from lstmstate.graph.evaluate import Environment, compile_plan
from lstmstate.graph.operations import Precision
from lstmstate.graph.tensors import Tensor, data_inputs
from lstmstate.named_tuple import NamedTuple
from lstmstate.recurrence.data_path import front_of, origins
from lstmstate.recurrence.find_states import take
from lstmstate.recurrence.graph_network import GraphNetwork, Port
from lstmstate.recurrence.probe import Fed, fed_tensors

Array = Any
_STEPS = 2  # steps of x, if the graph does not fix them


class InitialStates(NamedTuple):
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


def evaluate_initial_states(
    network: GraphNetwork,
    names: Collection[str],
    variable: Callable[[Node], Any],
    feeds: Mapping[Tensor, Any],
    batch: int | None = None,
    steps: int | None = None,
) -> InitialStates:
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
        return InitialStates(None, way.variables, UnsupportedError(problem))
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
            found.append(take_entries(plan.run(values), made))
    except LstmstateError as error:
        return InitialStates(None, way.variables, error)
    if not all(map(_are_equal, *found)):
        sources = ", ".join(sorted({printable(node.name) for node in way.sources})[:3])
        words = f"it is computed from {sources}" if sources else "it is random"
        return InitialStates(None, way.variables, UnsupportedError(words))
    of_port = dict(zip(made, found[0], strict=True))
    zeros = {port: np.zeros((1, *port.spatial, port.width), port.dtype) for port in ports}
    halves = zeros | {port: _shorten(value) for port, value in of_port.items()}
    pairs = {cell.name: (halves[cell.c], halves[cell.m]) for cell in cells}
    is_of_sizes = bool(sizes) and not (has_batch and has_steps)
    return InitialStates(pairs, way.variables, is_of_sizes=is_of_sizes)


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


def take_entries(values: Iterable[Any], ports: Iterable[Port]) -> list[Array]:
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
