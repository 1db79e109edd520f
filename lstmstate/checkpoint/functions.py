"""The bodies of functions, laid into the graph where they are called.

Graphs of 1.13 on may hold loops as functions (control flow "v2"), and those of 2.x do: the cell
then stands in the body of a While. Each body is laid in once, at its first call, under a
number; its arguments become nodes that hand on what the caller gives, the way `Enter`
does in loops of 1.x. Message: core/framework/function.proto (v1.15.0).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

from lstmstate.checkpoint import wire
from lstmstate.checkpoint.node import Node, parse_node

INLINED = "\0"  # what the names of nodes out of functions begin with

# The attributes that name a function, and how many inputs come before its arguments.
_CALLS = {"body": 0, "then_branch": 1, "else_branch": 1, "f": 0}


Returns = dict[str, list[list[str]]]
Arguments = dict[str, tuple[str, int]]


def inlined(
    library: bytes, nodes: dict[str, Node], returns: Returns, taken: Arguments
) -> Iterator[Node]:
    """Yield the nodes of all functions that the graph calls, directly or through others.

    Args:
        library: a FunctionDefLibrary {1 repeated FunctionDef}.
        nodes: the nodes of the graph itself.
        returns: receives for each caller what the functions laid in there return, as tensors.
        taken: receives for each node that is an argument its caller, and which argument it is.
    """
    bodies = wire.all_bytes(wire.message(library).get(1))
    # What is laid in stands under a number: a long name would be there once for every node.
    functions = dict(_function(body, f"{INLINED}{number}") for number, body in enumerate(bodies))
    queue = deque(nodes.values())
    while queue:
        caller = queue.popleft()
        for attribute, before in _CALLS.items() if functions else ():
            function = functions.pop(caller.function(attribute) or "", None)
            if function is not None:
                given = [tensor for tensor in caller.inputs if not tensor.startswith("^")]
                returns.setdefault(caller.name, []).append(function.outputs)
                for at, argument in enumerate(function.arguments):
                    taken[argument] = caller.name, at
                for node in function.build(caller.name, given[before:]):
                    queue.append(node)
                    yield node


class _Function(NamedTuple):
    """The body of a function, to be laid in.

    Attributes:
        arguments: the nodes that are its arguments.
        outputs: the tensors that it returns.
    """

    build: Callable[[str, list[str]], Iterator[Node]]
    arguments: list[str]
    outputs: list[str]


def _function(data: bytes, scope: str) -> tuple[str, _Function]:
    """Read a FunctionDef: 1 signature, 3 node_def, 4 ret {1 output_arg, 2 tensor}.

    A signature is {1 name, 2 repeated input_arg {1 name}, 3 repeated output_arg {1 name}}.
    """
    found = wire.message(data)
    signature = wire.message(wire.last_bytes(found.get(1)))
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

    def build(frame: str, given: list[str]) -> Iterator[Node]:
        for argument, tensor in zip(arguments, given, strict=False):
            yield Node(f"{scope}/{argument}", "Enter", [tensor], [], frame)
        for body in wire.all_bytes(found.get(3)):
            node = parse_node(body)
            inputs = [_input(scope, tensor) for tensor in node.inputs]
            yield Node(f"{scope}/{node.name}", node.op, inputs, node.attributes)

    outputs = [_input(scope, returned.get(result, "")) for result in results]
    return name, _Function(build, [f"{scope}/{one}" for one in arguments], outputs)


def _input(scope: str, tensor: str) -> str:
    """Return an input of a body's node as the graph writes it: "node:output:2" is "node:2"."""
    node, *port = tensor.removeprefix("^").split(":")
    control = "^" if tensor.startswith("^") else ""
    return f"{control}{scope}/{node}" + (f":{port[-1]}" if port else "")
