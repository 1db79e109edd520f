"""The object graph of an object-based checkpoint: the graph name of each key.

Source: TensorFlow core/protobuf/trackable_object_graph.proto and
python/training/tracking/graph_view.py (v1.15.0).
"""

from __future__ import annotations

from lstmstate import limits
from lstmstate.checkpoint import protobuf as wire
from lstmstate.files.budget import Budget

OBJECT_GRAPH_KEY = "_CHECKPOINTABLE_OBJECT_GRAPH"
_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
_SLOT = "/.OPTIMIZER_SLOT/"


def full_names(object_graph: bytes) -> dict[str, str]:
    """Return {key: name in the graph}, for every attribute with one.

    A TrackableObjectGraph is {1 nodes {2 attributes {1 name, 2 full_name, 3 key}}}.
    """
    names = {}
    budget = Budget(len(object_graph))
    for node in wire.all_bytes(wire.message(object_graph, budget).get(1)):
        attributes = wire.all_bytes(wire.message(node, budget).get(2))
        budget.spend(limits.OBJECTS, 1 + len(attributes))
        for attribute in attributes:
            found = wire.message(attribute)
            full_name = wire.text(wire.last_bytes(found.get(2)))
            if full_name:
                names[wire.text(wire.last_bytes(found.get(3)))] = full_name
    return names


def object_path(key: str) -> str | None:
    """Return the path of the object that a key belongs to, None for keys of other kinds.

    In a key "/" inside a name is written ".S" and "." is written "..".

    >>> object_path("cell/projection.Skernel/.ATTRIBUTES/VARIABLE_VALUE")
    'cell/projection/kernel'
    """
    if not key.endswith(_VALUE) or _SLOT in key:
        return None
    path = key[: -len(_VALUE)]
    return "..".join(part.replace(".S", "/") for part in path.split("..")).replace("..", ".")


def is_slot(key: str) -> bool:
    """Whether the key is that of a variable that an optimizer keeps for another."""
    return _SLOT in key
