"""The functions that squash gates and states: single operations, and patterns of several.

Keras wrote some of its functions out in small operations. Each is a pattern here, and a new
one is a new row. Sources: tf.keras' backend (hard_sigmoid, elu and selu of 1.4 to 1.15), Keras 3
(backend/tensorflow/nn.py), tf.nn.leaky_relu (1.4 to 1.10).
"""

from __future__ import annotations

import math

from lstmstate import limits
from lstmstate.checkpoint import graph_walk as walk
from lstmstate.checkpoint.graph import Graph
from lstmstate.checkpoint.graph_node import Node
from lstmstate.records import NamedTuple

Value = tuple[Node, int]  # a node, and which of its outputs

_HANDING = frozenset({"Identity", "Cast", "StopGradient"})
_LEAK = 0.2  # the alpha of LeakyRelu, in the op's registration and in tf.nn.leaky_relu
_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805


class Squash(NamedTuple):
    """A function that a value went through.

    Attributes:
        function: its name; None where it is a function that has no name here.
        inner: the value before it.
    """

    function: str | None
    inner: Value


class _Op(NamedTuple):
    """An operation of a pattern; an argument is another, a constant, or None for the value."""

    ops: frozenset[str]
    arguments: tuple[_Part, ...]


_Part = _Op | float | None


def _op(ops: str, *arguments: _Part) -> _Op:
    return _Op(frozenset(ops.split()), arguments)


def _clipped(value: _Op, low: float, high: float) -> tuple[_Op, ...]:
    """Return the forms of tf.clip_by_value: two operations, or one from 1.8 on."""
    return (
        _op("Maximum", _op("Minimum", value, high), low),
        _op("ClipByValue", value, low, high),
    )


_ADD, _SELECT = "Add AddV2", "Select SelectV2"
_COMMUTING = frozenset({"Mul", "Add", "AddV2", "Maximum", "Minimum"})
_ABOVE_3 = _op("Relu6", _op(_ADD, None, 3.0))
_ELU = _op("Elu", None)
_PATTERNS: tuple[tuple[str, _Op], ...] = (
    *(
        ("hard_sigmoid", clipped)
        for clipped in _clipped(_op(_ADD, _op("Mul", None, 0.2), 0.5), 0.0, 1.0)
    ),
    ("keras3_hard_sigmoid", _op("RealDiv", _ABOVE_3, 6.0)),
    ("keras3_hard_sigmoid", _op("Mul", _ABOVE_3, 1 / 6)),
    ("leaky_relu", _op("Maximum", _op("Mul", None, _LEAK), None)),
    (
        "selu",
        _op(
            "Mul",
            _op(_SELECT, _op("Greater", None, 0.0), _ELU, _op("Mul", _ELU, _SELU_ALPHA)),
            _SELU_SCALE,
        ),
    ),
)


def squash(graph: Graph, value: Value) -> Squash | None:
    """Return the function that made a value; None where it is none of those that are known."""
    node, _ = handed(graph, value)
    if node.op in walk.ACTIVATIONS:
        inner = operand(graph, node, 0)
        return None if inner is None else Squash(_name(node), inner)
    for function, pattern in _PATTERNS:
        if node.op in pattern.ops:
            values: list[Value] = []
            if _fits(graph, (node, 0), pattern, values):
                same = {(inner.name, port) for inner, port in values}
                return Squash(function, values[0]) if len(same) == 1 else None
    return None


def operand(graph: Graph, node: Node, position: int) -> Value | None:
    """Return an input of a node, with the output that it is; None where there is none."""
    inputs = walk.data_inputs(node)
    given, port = graph.source(inputs[position]) if position < len(inputs) else (None, 0)
    return None if given is None else (given, port)


def handed(graph: Graph, value: Value) -> Value:
    """Go back over what only hands on a value within a step; loops are not left."""
    for _ in range(limits.MAX_WALK):
        before = operand(graph, value[0], 0) if value[0].op in _HANDING else None
        if before is None:
            break
        graph.spend()
        value = before
    return value


def _name(node: Node) -> str | None:
    """Return the name of an operation; LeakyRelu with another slope than its own has none."""
    slope = node.real("alpha") if node.op == "LeakyRelu" else None
    return walk.ACTIVATIONS[node.op] if slope in (None, _LEAK) else None


def _fits(graph: Graph, value: Value, pattern: _Part, values: list[Value]) -> bool:
    """Whether a value is what the pattern says; add what stands for its value to `values`."""
    graph.spend()
    if isinstance(pattern, float):
        number = walk.scalar(graph, value[0])
        # Half precision keeps three digits of a constant.
        return number is not None and math.isclose(number, pattern, rel_tol=1e-3)
    value = handed(graph, value)
    if pattern is None:
        values.append(value)
        return True
    if value[0].op not in pattern.ops:
        return False
    operands = [operand(graph, value[0], at) for at in range(len(pattern.arguments))]
    orders = (operands, operands[::-1]) if value[0].op in _COMMUTING else (operands,)
    for order in orders:
        known = len(values)
        if all(
            given is not None and _fits(graph, given, argument, values)
            for given, argument in zip(order, pattern.arguments, strict=True)
        ):
            return True
        del values[known:]
    return False
