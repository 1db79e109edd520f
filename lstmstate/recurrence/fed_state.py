"""A state as the graph takes it: cut out of the one placeholder that it is fed through."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from lstmstate.checkpoint.node import Node
from lstmstate.errors import LstmstateError
from lstmstate.graph.loops import Tensor
from lstmstate.graph.plan import Environment, compile_plan
from lstmstate.records import NamedTuple
from lstmstate.recurrence.model import GraphNetwork
from lstmstate.recurrence.probe import Fed, fed_tensors
from lstmstate.recurrence.states import take

Array = Any
Halves = dict[tuple[str, str], Array]


class FedState(NamedTuple):
    """What a graph begins cells with where one array is fed.

    Attributes:
        placeholder: what takes the array.
        halves: c and m by the name of the cell and the letter, in the order in which they lie.
    """

    placeholder: str
    halves: Mapping[tuple[str, str], Array]


def fed_state(
    network: GraphNetwork,
    names: Collection[str],
    variable: Callable[[Node], Any],
    feeds: Mapping[Tensor, Any],
    whole: Array,
) -> FedState | None:
    """Return what the graph makes of an array that is fed as the state of some cells.

    None where no placeholder takes it whole, or the graph does more than to cut it.

    Args:
        variable: returns the value of a variable's node.
        feeds: values for placeholders other than x and the state.
    """
    ports = {
        (cell.name, half): port
        for cell in network.cells
        if cell.name in names
        for half, port in zip("cm", (cell.c, cell.m), strict=True)
    }
    fed = fed_tensors(network.scope)
    sources = [port.source for port in ports.values()]
    others = {*feeds, *network.input.tensors}
    with suppress(LstmstateError):
        plan = compile_plan(network.scope, sources, {*fed, *others}, Environment(variable))
        known = {
            tensor: feeds[tensor] if tensor in feeds else fed[tensor].value()
            for tensor in plan.feeds
            if tensor in feeds or tensor in fed
        }

        def halves(tensor: Tensor, value: Array) -> Halves:
            found = plan.bind().run(known | {tensor: value.astype(known[tensor].dtype)})
            return {
                key: take(np.asarray(one), port.entry)
                for (key, port), one in zip(ports.items(), found, strict=True)
            }

        for tensor in plan.feeds.keys() - others:
            for shape in _shapes(fed[tensor], whole.shape):
                own = halves(tensor, whole.reshape(shape))
                if _is_cut(whole, own):
                    places = halves(tensor, np.arange(whole.size).reshape(shape) / whole.size)
                    order = sorted(own, key=lambda key: float(places[key].min()))
                    return FedState(tensor.node, {key: own[key] for key in order})
    return None


def _shapes(fed: Fed, given: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Yield the shapes in which a placeholder takes an array, which may leave out the batch."""
    alone = ((*given[:at], 1, *given[at:]) for at in range(len(given) + 1))
    for shape in (given, *alone):
        sizes = fed.sizes
        if sizes is not None and len(sizes) == len(shape):
            pairs = zip(sizes, shape, strict=True)
            if all(size in (None, one) or one == 1 for size, one in pairs):
                yield shape


def _is_cut(whole: Array, halves: Halves) -> bool:
    """Whether the halves have each element of an array once."""
    parts = np.concatenate([half.ravel() for half in halves.values()])
    elements = np.sort(whole.ravel().astype(parts.dtype))
    return np.array_equal(np.sort(parts), elements, equal_nan=True)
