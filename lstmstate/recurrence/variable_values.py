"""Values of a graph's variables, found by the checkpoint keys of its save and restore ops."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from lstmstate.checkpoint.graph import VARIABLE_OPS, Graph
from lstmstate.checkpoint.graph_node import Node
from lstmstate.checkpoint.variables import Variable
from lstmstate.errors import NotFoundError
from lstmstate.graph.loops import Tensor, data_inputs
from lstmstate.records import NamedTuple

# The numbers of the inputs for keys, slices and the first value in the operations of a Saver.
_SAVES = {"SaveV2": (1, 2, 3), "SaveSlices": (1, 2, 3), "Save": (1, None, 2)}
_RESTORES = {"RestoreV2": (1, 2), "RestoreSlice": (1, 2), "Restore": (1, None)}
_ASSIGNS = frozenset({"Assign", "AssignVariableOp"})
_SLICE = re.compile(r"(\d+(?: \d+)*) ((?:-|\d+,\d+)(?::(?:-|\d+,\d+))*)")


class _Key(NamedTuple):
    """The key of a variable, and its slice if it is a shard of a partitioned variable."""

    name: str
    extents: str


class GraphVariables:
    """The values of the nodes of variables, read on demand.

    The key of a variable is that of its restore operation, else that of its save operation, else
    its own name.

    Args:
        variables: the variables of the checkpoint.
        read: returns the value of one of them by its name.
    """

    def __init__(
        self, graph: Graph, variables: Mapping[str, Variable], read: Callable[[str], Any]
    ) -> None:
        self._graph = graph
        self._read = read
        self._variables = variables
        self._by_path = {variable.path: variable for variable in variables.values()}
        self._by_path |= {v.full_name: v for v in variables.values() if v.full_name}
        self._keys = {**_find_saved_keys(graph), **_find_restored_keys(graph)}

    def key(self, node: Node) -> str | None:
        """Return the name of the checkpoint variable for a node, None if there is none."""
        found = self._find_stored(node)
        return None if found is None else found[0].name

    def _find_stored(self, node: Node) -> tuple[Variable, str] | None:
        key = self._keys.get(node.name)
        names = [key.name] if key is not None else []
        names += [node.name, node.string("shared_name") or node.name]
        for name in names:
            variable = self._variables.get(name) or self._by_path.get(name.removesuffix(":0"))
            if variable is not None:
                return variable, key.extents if key is not None and name == key.name else ""
        return None

    def __call__(self, node: Node) -> Any:
        """Return the value of a variable's node.

        Raises:
            NotFoundError: the checkpoint has no such variable.
        """
        found = self._find_stored(node)
        if found is None:
            raise NotFoundError(
                "the graph reads this variable, and the checkpoint has none of this name",
                tensor=node.name,
            )
        variable, extents = found
        value = self._read(variable.name)
        parts = _SLICE.fullmatch(extents.strip())
        if parts is None:
            return value
        cuts = []
        for part in parts[2].split(":"):
            start, _, length = part.partition(",")
            whole = part == "-"
            cuts.append(slice(None) if whole else slice(int(start), int(start) + int(length)))
        return value[tuple(cuts)]


def _read_strings(graph: Graph, node: Node, position: int | None) -> list[str]:
    """Return the strings of a constant input of a node."""
    given = data_inputs(node)
    made = graph.nodes.get(given[position].node) if position is not None else None
    return made.strings() if made is not None and made.op == "Const" else []


def _find_saved_keys(graph: Graph) -> dict[str, _Key]:
    """Return the keys of the graph's save operations, by the nodes of their variables."""
    found: dict[str, _Key] = {}
    for node in graph.nodes.values():
        if node.op not in _SAVES:
            continue
        names, slices, first = _SAVES[node.op]
        keys, extents = _read_strings(graph, node, names), _read_strings(graph, node, slices)
        for at, tensor in enumerate(data_inputs(node)[first:]):
            variable = _find_variable(graph, tensor)
            if variable is not None and at < len(keys):
                found.setdefault(variable, _Key(keys[at], extents[at] if at < len(extents) else ""))
    return found


def _find_restored_keys(graph: Graph) -> dict[str, _Key]:
    """Return the keys of the graph's restore operations, by the nodes of their variables."""
    found: dict[str, _Key] = {}
    for node in graph.nodes.values():
        given = data_inputs(node) if node.op in _ASSIGNS else []
        if len(given) != 2:
            continue
        made = given[1]
        for _ in range(4):
            source = graph.nodes.get(made.node)
            if source is None or source.op not in ("Identity", "Reshape"):
                break
            made = data_inputs(source)[0]
        source = graph.nodes.get(made.node)
        if source is not None and source.op in _RESTORES:
            names, slices = _RESTORES[source.op]
            keys, extents = (
                _read_strings(graph, source, names),
                _read_strings(graph, source, slices),
            )
            if made.port < len(keys):
                extent = extents[made.port] if made.port < len(extents) else ""
                found.setdefault(given[0].node, _Key(keys[made.port], extent))
    return found


def _find_variable(graph: Graph, tensor: Tensor) -> str | None:
    """Return the name of the variable's node for a tensor with its value."""
    for _ in range(6):
        node = graph.nodes.get(tensor.node)
        if node is None or node.op in VARIABLE_OPS:
            return None if node is None else node.name
        given = data_inputs(node)
        if not given:
            return None
        tensor = given[0]
    return None
