"""Dropout in a graph: a scaled value times a random mask; at inference, the value itself."""

from __future__ import annotations

import math
from collections.abc import Mapping

from lstmstate.checkpoint.graph_node import Node
from lstmstate.checkpoint.op_sets import ENTERS, IDENTITIES, RANDOM, SUMMING
from lstmstate.graph.tensors import Tensor, behind, data_inputs, node_at, past

_PASSES_MASKS = ENTERS | IDENTITIES
_SCALING = _PASSES_MASKS | SUMMING | {"Mul", "Sub"}
_NEAR = 12  # nodes between a mask and its random number


def before_dropout(nodes: Mapping[str, Node], node: Node) -> Tensor | None:
    """Return the value that dropout is applied to, None if a node is not dropout.

    tf.nn.dropout is x / keep * floor(keep + u) up to 1.12, x * (1 / (1 - rate)) * (u >= rate)
    from 1.13, and a selection of the scaled value or zero in 2.x.
    """
    given = data_inputs(node)
    if node.op == "Mul" and len(given) == 2:
        for mask, scaled in (given, given[::-1]):
            share = _find_share(nodes, mask)
            if share is not None:
                return _unscale(nodes, scaled, *share)
    if node.op == "SelectV2" and len(given) == 3 and _read_number(nodes, given[2]) == 0:
        share = _find_share(nodes, given[0])
        if share is not None:
            return _unscale(nodes, given[1], *share)
    return None


def _find_share(nodes: Mapping[str, Node], mask: Tensor) -> tuple[Tensor, bool] | None:
    """Return the probability of a dropout mask, and whether it is the rate (else keep_prob)."""
    made = _source(nodes, mask)
    if made.op == "GreaterEqual":
        number, rate = data_inputs(made)
        return (rate, True) if _is_random(nodes, number) else None
    if made.op != "Floor":
        return None
    total = _source(nodes, data_inputs(made)[0])
    if total.op not in SUMMING:
        return None
    first, second = data_inputs(total)
    for number, keep in ((first, second), (second, first)):
        if _is_random(nodes, number) and not _is_random(nodes, keep):
            return keep, False
    return None


def _unscale(
    nodes: Mapping[str, Node], scaled: Tensor, share: Tensor, is_rate: bool
) -> Tensor | None:
    """Return the value before scaling by 1 / keep_prob, None if it is not scaled so."""
    made = _source(nodes, scaled)
    if len(data_inputs(made)) != 2:
        return None
    value, factor = data_inputs(made)
    if made.op in ("RealDiv", "Div") and _is_kept(nodes, factor, share, is_rate):
        return value
    if made.op != "Mul":
        return None
    inverse = _source(nodes, factor)
    if inverse.op == "RealDiv" and _read_number(nodes, data_inputs(inverse)[0]) == 1:
        return value if _is_kept(nodes, data_inputs(inverse)[1], share, is_rate) else None
    number, known = _read_number(nodes, factor), _read_number(nodes, share)
    if number is None or known is None:
        return None
    keep = 1 - known if is_rate else known
    return value if math.isclose(number * keep, 1, rel_tol=1e-5) else None


def _is_kept(nodes: Mapping[str, Node], tensor: Tensor, share: Tensor, is_rate: bool) -> bool:
    """Whether a tensor is the probability to keep an element."""
    if not is_rate and _skip(nodes, tensor) == _skip(nodes, share):
        return True
    made = _source(nodes, tensor)
    if is_rate and made.op == "Sub":
        one, rate = data_inputs(made)
        return _read_number(nodes, one) == 1 and _skip(nodes, rate) == _skip(nodes, share)
    number, known = _read_number(nodes, tensor), _read_number(nodes, share)
    if number is None or known is None:
        return False
    return math.isclose(number, 1 - known if is_rate else known, rel_tol=1e-5)


def _is_random(nodes: Mapping[str, Node], tensor: Tensor) -> bool:
    """Whether a tensor is a random number, perhaps scaled to its range."""
    way = behind(nodes, [tensor], lambda node: node.op in _SCALING, _NEAR)
    return any(node.op.startswith(RANDOM) for _, node in way)


def _skip(nodes: Mapping[str, Node], tensor: Tensor) -> Tensor:
    return past(nodes, tensor, _PASSES_MASKS)


def _source(nodes: Mapping[str, Node], tensor: Tensor) -> Node:
    return node_at(nodes, _skip(nodes, tensor))


def _read_number(nodes: Mapping[str, Node], tensor: Tensor) -> float | None:
    constant = _source(nodes, tensor).constant()
    return None if constant is None else constant.scalar
