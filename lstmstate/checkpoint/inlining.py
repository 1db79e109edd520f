"""The bodies of functions, laid into the graph where they are called.

Graphs of 1.13 on may hold loops as functions (control flow "v2"), and those of 2.x do: the cell
is then in the body of a While. Each body is laid in once, at its first call, under a
number; its arguments become nodes that pass on the inputs of the caller, as `Enter`
does in loops of 1.x. Message: core/framework/function.proto (v1.15.0).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping

from lstmstate.checkpoint import protobuf as wire
from lstmstate.checkpoint.fused_ops import BLOCK_OPS, BLOCK_OUTPUTS
from lstmstate.checkpoint.graph_node import Node, NodeReader
from lstmstate.named_tuple import NamedTuple

INLINED = "\0"  # the prefix of the names of nodes from functions

# The attributes that name a function, and how many inputs come before its arguments.
_CALLS = {"body": 0, "then_branch": 1, "else_branch": 1, "f": 0}

# Outputs of operations that have several with names of their own, as functions refer to them.
_OUTPUTS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"),
        ("y", "batch_mean", "batch_variance", "reserve_space_1", "reserve_space_2"),
    ),
    **dict.fromkeys(BLOCK_OPS, BLOCK_OUTPUTS),
    "TensorArrayV3": ("handle", "flow"),
    "TensorArrayConcatV3": ("value", "lengths"),
    "TensorListPopBack": ("output_handle", "tensor"),
    "Switch": ("output_false", "output_true"),
    "Merge": ("output", "value_index"),
    "SoftmaxCrossEntropyWithLogits": ("loss", "backprop"),
    "Unique": ("y", "idx"),
    "TopKV2": ("values", "indices"),
}

Returns = dict[str, list[list[str]]]
Arguments = dict[str, tuple[str, int]]


def inline_functions(
    library: bytes, nodes: dict[str, Node], returns: Returns, taken: Arguments
) -> Iterator[Node]:
    """Yield the nodes of all functions that the graph calls, directly or through others.

    Args:
        library: a FunctionDefLibrary {1 repeated FunctionDef}.
        nodes: the nodes of the graph itself.
        returns: receives for each caller the tensors that the functions laid in there return.
        taken: receives for each node that is an argument its caller, and which argument it is.
    """
    bodies = wire.all_bytes(wire.message(library).get(1))
    # The scope of a body is a number: a long name would be repeated for every node.
    functions = dict(_function(body, f"{INLINED}{number}") for number, body in enumerate(bodies))
    queue = deque(nodes.values())
    while queue:
        caller = queue.popleft()
        for attribute, before in _CALLS.items() if functions else ():
            function = functions.pop(caller.function(attribute) or "", None)
            if function is not None:
                given = [tensor for tensor in caller.inputs if not tensor.startswith("^")]
                built, outputs = function.build(caller.name, given[before:])
                returns.setdefault(caller.name, []).append(outputs)
                for at, argument in enumerate(function.arguments):
                    taken[argument] = caller.name, at
                queue.extend(built)
                yield from built


class _Function(NamedTuple):
    """The body of a function, to be laid in.

    Attributes:
        scope: the prefix of the names of its nodes.
        arguments: the nodes that are its arguments.
        returned: the tensors that it returns, as it writes them.
        bodies: its NodeDefs.
    """

    scope: str
    arguments: list[str]
    returned: list[str]
    bodies: list[bytes]

    def build(self, frame: str, given: list[str]) -> tuple[list[Node], list[str]]:
        """Return the nodes for a call, and the tensors that they return."""
        parsed = [*map(NodeReader().node, self.bodies)]
        kinds = {node.name: node.op for node in parsed}

        def tensor(text: str) -> str:
            control = "^" if text.startswith("^") else ""
            return f"{control}{self.scope}/{as_in_graph(text.removeprefix('^'), kinds)}"

        nodes = [
            Node(argument, "Enter", [value], [], frame)
            for argument, value in zip(self.arguments, given, strict=False)
        ]
        nodes += [
            Node(f"{self.scope}/{node.name}", node.op, [*map(tensor, node.inputs)], node.attributes)
            for node in parsed
        ]
        return nodes, [*map(tensor, self.returned)]


def _function(data: bytes, scope: str) -> tuple[str, _Function]:
    """Read a FunctionDef: 1 signature, 3 node_def, 4 ret {1 output_arg, 2 tensor}.

    A signature is {1 name, 2 repeated input_arg {1 name}, 3 repeated output_arg {1 name}}.
    """
    found = wire.message(data)
    signature = wire.message(wire.merge(found.get(1)))
    name = wire.text(wire.last_bytes(signature.get(1)))
    arguments, results = (
        [
            wire.text(wire.last_bytes(wire.message(argument).get(1)))
            for argument in wire.all_bytes(signature.get(field))
        ]
        for field in (2, 3)
    )
    entries = [wire.message(entry) for entry in wire.all_bytes(found.get(4))]
    returned = {
        wire.text(wire.last_bytes(entry.get(1))): wire.text(wire.last_bytes(entry.get(2)))
        for entry in entries
    }
    texts = [returned.get(result, "") for result in results]
    return name, _Function(
        scope, [f"{scope}/{one}" for one in arguments], texts, wire.all_bytes(found.get(3))
    )


def as_in_graph(tensor: str, kinds: Mapping[str, str]) -> str:
    """Return a tensor as a graph writes it: "node:output:2" of a function's body is "node:2".

    Args:
        kinds: the operations of the body's nodes by name.

    >>> as_in_graph("cell:h:0", {"cell": "LSTMBlockCell"})
    'cell:6'
    """
    node, *rest = tensor.split(":")
    if len(rest) != 2:
        return tensor
    output, index = rest
    names = _OUTPUTS.get(kinds.get(node, ""), ())
    first = names.index(output) if output in names else 0
    return f"{node}:{first + (int(index) if index.isdecimal() else 0)}"
