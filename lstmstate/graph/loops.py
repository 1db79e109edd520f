"""Loops of a graph.

A loop is a frame of Enter, Merge, Switch, NextIteration and Exit, or a While with functions for its
body and its condition.
"""

from __future__ import annotations

from collections.abc import Mapping

from lstmstate.checkpoint.graph_node import Node
from lstmstate.checkpoint.inlining import FunctionBody
from lstmstate.checkpoint.op_sets import ENTERS, EXITS, MERGES, NEXTS, SWITCHES
from lstmstate.graph.tensors import Tensor, data_inputs, input_at, node_at, past
from lstmstate.named_tuple import NamedTuple

_PASSES_UNCHANGED = frozenset({"Identity", "RefIdentity"})


class LoopVariable(NamedTuple):
    """A value that a loop carries from step to step.

    Attributes:
        source: the tensor for the initial value, outside of the loop.
        read: the tensor that the body reads.
        tested: the tensor that the condition reads.
        next: the tensor for the next step.
    """

    source: Tensor
    read: Tensor
    tested: Tensor
    next: Tensor


class Loop(NamedTuple):
    """A loop.

    Attributes:
        name: the name of the frame, or of the While node.
        condition: the tensor that is true while there is another step.
        constants: the Enters for values from outside that no step changes.
        exits: the number of the loop variable for each Exit.
        body, test: the functions of a While.
    """

    name: str
    variables: tuple[LoopVariable, ...]
    condition: Tensor
    constants: frozenset[str] = frozenset()
    exits: Mapping[str, int] = {}
    body: FunctionBody | None = None
    test: FunctionBody | None = None

    def initial(self, number: int) -> Tensor:
        """Return the tensor to feed for the initial value of a variable."""
        return Tensor(self.name, number, "initial")

    def history(self, number: int) -> Tensor:
        """Return the tensor to fetch for the values of a variable after every step."""
        return Tensor(self.name, number, "history")

    def final(self, number: int) -> Tensor | None:
        """Return the tensor to fetch for the last value of a variable."""
        if self.body is not None:
            return Tensor(self.name, number)
        return next((Tensor(name) for name, at in self.exits.items() if at == number), None)


def frames(nodes: Mapping[str, Node]) -> list[Loop]:
    """Return the loops of frames in a graph, in the order of their first Enters."""
    enters: dict[str, list[Node]] = {}
    merged: dict[str, Node] = {}
    switched: dict[str, Node] = {}
    left: dict[str, str] = {}
    for node in nodes.values():
        if node.op in ENTERS and node.frame:
            enters.setdefault(node.frame, []).append(node)
        elif node.op in MERGES:
            for tensor in data_inputs(node):
                merged[tensor.node] = node
        elif node.op in SWITCHES:
            if input_at(nodes, node, 1).op == "LoopCond":
                switched[data_inputs(node)[0].node] = node
        elif node.op in EXITS:
            for tensor in data_inputs(node)[:1]:
                left[tensor.node] = node.name
    found = (
        _make_loop(name, members, nodes, merged, switched, left) for name, members in enters.items()
    )
    return [loop for loop in found if loop is not None]


def _make_loop(
    name: str,
    members: list[Node],
    nodes: Mapping[str, Node],
    merged: Mapping[str, Node],
    switched: Mapping[str, Node],
    left: Mapping[str, str],
) -> Loop | None:
    variables: list[LoopVariable] = []
    exits: dict[str, int] = {}
    constants = set()
    condition = None
    for enter in members:
        merge = merged.get(enter.name)
        switch = switched.get(merge.name) if merge is not None else None
        source = data_inputs(enter)[:1]
        if merge is None or switch is None or not source:
            constants.add(enter.name)
            continue
        before = (node_at(nodes, tensor) for tensor in data_inputs(merge))
        given = [one for node in before if node.op in NEXTS for one in data_inputs(node)[:1]]
        if not given:
            return None
        if switch.name in left:
            exits[left[switch.name]] = len(variables)
        condition = data_inputs(switch)[1]
        variables.append(
            LoopVariable(source[0], Tensor(switch.name, 1), Tensor(merge.name), given[0])
        )
    if condition is None:
        return None
    return Loop(name, tuple(variables), condition, frozenset(constants), exits)


def while_loop(node: Node, functions: Mapping[str, FunctionBody]) -> Loop | None:
    """Return the loop of a While, None if its functions are missing or do not fit."""
    body = functions.get(node.function("body") or "")
    test = functions.get(node.function("cond") or "")
    given = data_inputs(node)
    if body is None or test is None or not test.returns:
        return None
    if not len(given) == len(body.arguments) == len(body.returns) == len(test.arguments):
        return None
    variables = tuple(
        LoopVariable(source, Tensor(read), Tensor(tested), Tensor.of(after))
        for source, read, tested, after in zip(
            given, body.arguments, test.arguments, body.returns, strict=True
        )
    )
    return Loop(node.name, variables, Tensor.of(test.returns[0]), body=body, test=test)


def is_unchanged(loop: Loop, number: int, nodes: Mapping[str, Node]) -> bool:
    """Whether no step changes a loop variable."""
    variable = loop.variables[number]
    return past(nodes, variable.next, _PASSES_UNCHANGED) == variable.read
