"""The bodies of functions, laid into the graph where they are called.

Graphs of 1.13 on may hold loops as functions (control flow "v2"), and those of 2.x do: the cell
is then in the body of a While. Each body is laid in once, at its first call, under a
number; its arguments become nodes that pass on the inputs of the caller, as `Enter`
does in loops of 1.x. Message: core/framework/function.proto (v1.15.0).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence

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

_Fields = dict[int, list[wire.Value]]
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
    # The scope of a body is a number: a long name would be repeated for every node.
    functions = {
        _signature(wire.message(data))[0]: (data, f"{INLINED}{number}")
        for number, data in enumerate(_definitions(library))
    }
    queue = deque(nodes.values())
    while queue:
        caller = queue.popleft()
        for attribute, before in _CALLS.items() if functions else ():
            data, scope = functions.pop(caller.function(attribute) or "", (None, ""))
            if data is not None:
                given = [tensor for tensor in caller.inputs if not tensor.startswith("^")]
                body = read_function(data)
                built = _lay_in(body, scope, caller.name, given[before:])
                outputs = [f"{scope}/{tensor}" for tensor in body.returns]
                returns.setdefault(caller.name, []).append(outputs)
                for at, argument in enumerate(body.arguments):
                    taken[f"{scope}/{argument}"] = caller.name, at
                queue.extend(built)
                yield from built


def _lay_in(body: FunctionBody, scope: str, frame: str, given: Sequence[str]) -> list[Node]:
    """Return the nodes of a function for a call, under a scope."""

    def within(tensor: str) -> str:
        control = "^" if tensor.startswith("^") else ""
        return f"{control}{scope}/{tensor.removeprefix('^')}"

    return [
        *(
            Node(f"{scope}/{argument}", "Enter", [value], [], frame)
            for argument, value in zip(body.arguments, given, strict=False)
        ),
        *(
            Node(f"{scope}/{node.name}", node.op, [*map(within, node.inputs)], node.attributes)
            for node in body.nodes.values()
        ),
    ]


class FunctionBody(NamedTuple):
    """A function of a graph.

    Attributes:
        arguments: the names of its arguments, in order.
        returns: the tensors of its body that it returns, in order.
        nodes: its operations by name, with inputs written "node:port" as in a graph.
    """

    arguments: tuple[str, ...]
    returns: tuple[str, ...]
    nodes: Mapping[str, Node]


def read_functions(library: bytes) -> dict[str, FunctionBody]:
    """Return the functions of a library by name."""
    every = _definitions(library)
    return {_signature(wire.message(data))[0]: read_function(data) for data in every}


def read_function(data: bytes) -> FunctionBody:
    """Read a FunctionDef: 1 signature, 3 repeated node_def, 4 map ret."""
    fields = wire.message(data)
    _, arguments, results = _signature(fields)
    nodes = {node.name: node for node in map(NodeReader().node, wire.all_bytes(fields.get(3)))}
    kinds = {name: node.op for name, node in nodes.items()}
    pairs = [wire.message(entry) for entry in wire.all_bytes(fields.get(4))]
    returned = {_text(pair, 1): _text(pair, 2) for pair in pairs}
    return FunctionBody(
        arguments,
        tuple(as_in_graph(returned.get(result, ""), kinds) for result in results),
        {
            name: Node(name, node.op, [as_in_graph(t, kinds) for t in node.inputs], node.attributes)
            for name, node in nodes.items()
        },
    )


def _definitions(library: bytes) -> list[bytes]:
    """Return the functions of a FunctionDefLibrary {1 repeated FunctionDef}."""
    return wire.all_bytes(wire.message(library).get(1)) if library else []


def _signature(fields: _Fields) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Return the name of a function, and the names of its arguments and results.

    Message: {1 name, 2 repeated input_arg {1 name}, 3 repeated output_arg {1 name}}.
    """
    signature = wire.message(wire.merge(fields.get(1)))
    arguments, results = (
        tuple(_text(wire.message(one), 1) for one in wire.all_bytes(signature.get(field)))
        for field in (2, 3)
    )
    return _text(signature, 1), arguments, results


def _text(fields: _Fields, number: int) -> str:
    return wire.text(wire.last_bytes(fields.get(number)))


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
