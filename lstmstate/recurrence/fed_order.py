"""The order of c and m in one array, fed or stored, that a graph cuts into its initial state."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from itertools import product
from typing import Any

import numpy as np

from lstmstate.checkpoint.graph_node import Node
from lstmstate.errors import LstmstateError, printable
from lstmstate.graph.evaluate import Environment, compile_plan
from lstmstate.graph.tensors import Tensor
from lstmstate.named_tuple import NamedTuple
from lstmstate.recurrence.data_path import origins
from lstmstate.recurrence.graph_network import GraphNetwork, Port
from lstmstate.recurrence.initial_state_values import take_entries
from lstmstate.recurrence.probe import Fed, Sizes, fed_tensors

Array = Any
Shape = tuple[int, ...]
Run = Callable[[Array], list[Array]]
_BASE = 128  # smaller integers are exact in every float type, also after division by it


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


def find_fed_order(
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
        return take_entries(plan.run(known), ports)

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
