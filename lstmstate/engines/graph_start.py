"""Changes of an initial state by other fed values, such as a reset at the end of an episode.

Between its placeholders for states and the first step, a graph may set the states of episodes
that have ended to zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from lstmstate.checkpoint.graph import VARIABLE_OPS
from lstmstate.errors import UnsupportedError
from lstmstate.graph.evaluate import Environment, Scope, compile_plan, is_source
from lstmstate.graph.loops import Tensor, data_inputs
from lstmstate.recurrence.graph_network import Port
from lstmstate.recurrence.probe import Fed
from lstmstate.recurrence.states import PRODUCTS

if TYPE_CHECKING:
    from lstmstate.engines.network import Array

_READS = frozenset({"ReadVariableOp"})
_NEAR = 60  # nodes between the input for a state and the first step


def change_initial_state(
    scope: Scope,
    port: Port,
    state: Array,
    fed: Mapping[Tensor, Any],
    sources: Mapping[Tensor, Fed],
    environment: Environment,
) -> Array:
    """Return an initial state after the graph's changes before the first step.

    Args:
        fed: the values that a user feeds.
        sources: the inputs of the graph.

    Raises:
        UnsupportedError: the input for the state is unknown.
    """
    holders = _find_holders(scope, port.source)
    if fed.keys().isdisjoint(holders):
        return state
    others = [tensor for tensor in holders if tensor not in fed]
    fits = {tensor: _find_sizes(scope, sources, tensor)[1:] == (port.width,) for tensor in others}
    own = [tensor for tensor in others if fits[tensor]]
    if not others:
        return state  # the graph computes its own initial state, and the passed state replaces it
    given = dict(fed)
    if len(own) == 1 and not port.entry:
        given[own[0]] = state
        made = _evaluate(scope, port.source, given, environment)
        return np.broadcast_to(made, state.shape).astype(state.dtype)
    if len(others) == 1 and others[0] in sources:
        whole = sources[others[0]].value((len(state),))
        given[others[0]] = np.arange(1, whole.size + 1, dtype=whole.dtype).reshape(whole.shape)
        numbers = _evaluate(scope, port.source, given, environment)
        is_whole = np.unique(numbers).size == numbers.size
        if is_whole and np.isin(numbers, given[others[0]]).all():  # the state is only cut out
            return state
    raise UnsupportedError(
        "the graph changes the state that it is fed before the first step", tensor=port.source.node
    )


def _evaluate(
    scope: Scope, wanted: Tensor, given: Mapping[Tensor, Any], environment: Environment
) -> Array:
    plan = compile_plan(scope, [wanted], given.keys(), environment)
    return np.asarray(plan.bind().run({tensor: given[tensor] for tensor in plan.feeds})[0])


def _find_holders(scope: Scope, source: Tensor) -> list[Tensor]:
    """Return the inputs and variables of a state, with no product between them."""
    queue, seen = [source], {source}
    found = []
    while queue and len(seen) < _NEAR:
        tensor = queue.pop()
        node = scope.nodes.get(tensor.node)
        if node is None or node.op in PRODUCTS or node.op == "Shape":
            continue
        given = data_inputs(node)
        is_read = node.op in _READS
        if is_source(node) or node.op in VARIABLE_OPS or is_read:
            found.append(tensor)
            continue
        queue += [one for one in given if one not in seen]
        seen.update(given)
    return found


def _find_sizes(
    scope: Scope, sources: Mapping[Tensor, Fed], tensor: Tensor
) -> tuple[int | None, ...]:
    """Return the static shape of an input or a variable."""
    node = scope.nodes[tensor.node]
    if node.op in _READS:
        node = scope.nodes.get(data_inputs(node)[0].node, node)
    sizes = sources[tensor].sizes if tensor in sources else node.shape()
    return sizes or ()
