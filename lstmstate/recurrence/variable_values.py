"""Values of a graph's variables, found by the checkpoint keys of its save and restore ops."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from lstmstate.checkpoint.graph import Graph
from lstmstate.checkpoint.graph_node import Node
from lstmstate.checkpoint.op_sets import ASSIGNS
from lstmstate.checkpoint.variables import Variable
from lstmstate.errors import NotFoundError
from lstmstate.graph.tensors import data_inputs, input_at, node_at, past
from lstmstate.named_tuple import NamedTuple

# The numbers of the inputs for keys and slices.
_RESTORES = {"RestoreV2": (1, 2), "RestoreSlice": (1, 2), "Restore": (1, None)}
_PASSES_RESTORED = frozenset({"Identity", "Reshape"})  # between a restored value and its variable
_SLICE = re.compile(r"(\d+(?: \d+)*) ((?:-|\d+,\d+)(?::(?:-|\d+,\d+))*)")


class _Key(NamedTuple):
    """The key of a variable, and its slice if it is a shard of a partitioned variable."""

    name: str
    extents: str = ""


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


def _find_saved_keys(graph: Graph) -> dict[str, _Key]:
    """Return the keys of the graph's save operations, by the nodes of their variables."""
    found: dict[str, _Key] = {}
    for key, extents, node in graph.saved_slices():
        variable = graph.variable_behind(node)
        if variable is not None:
            found.setdefault(variable.name, _Key(key, extents))
    return found


def _find_restored_keys(graph: Graph) -> dict[str, _Key]:
    """Return the keys of the graph's restore operations, by the nodes of their variables."""
    found: dict[str, _Key] = {}
    for node in graph.nodes.values():
        given = data_inputs(node) if node.op in ASSIGNS else []
        if len(given) == 2:
            made = past(graph.nodes, given[1], _PASSES_RESTORED)
            source = node_at(graph.nodes, made)
            if source.op in _RESTORES:
                keys, extents = (
                    input_at(graph.nodes, source, at).strings()[made.port : made.port + 1]
                    if at is not None
                    else []
                    for at in _RESTORES[source.op]
                )
                for key in keys:
                    found.setdefault(given[0].node, _Key(key, *extents))
    return found
