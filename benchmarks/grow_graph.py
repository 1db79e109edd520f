"""Larger graphs, as of more steps and layers: the nodes of a checkpoint's graph many times."""

from __future__ import annotations

from lstmstate.checkpoint import protobuf as wire


def grow(meta_graph: bytes, nbytes: int) -> bytes:
    """Return a MetaGraphDef of at least `nbytes`, with copies of all nodes under new names.

    Copies keep their edges among one another, so that each copy has the cells of the first.
    """
    others, graph_rest, nodes = [], [], []
    for number, _, value in wire.fields(meta_graph):
        assert isinstance(value, bytes)
        if number != 2:
            others.append(_field(number, value))
            continue
        for inner, kind, part in wire.fields(value):
            if inner == 1 and isinstance(part, bytes):
                nodes.append(part)
            elif kind == wire.LENGTH_DELIMITED and isinstance(part, bytes):
                graph_rest.append(_field(inner, part))
    copies = [_field(1, node) for node in nodes]
    number = 0
    while sum(map(len, copies)) + sum(map(len, others)) < nbytes:
        number += 1
        copies += [_field(1, _renamed(node, f"copy_{number}/")) for node in nodes]
    return b"".join([*others, _field(2, b"".join([*copies, *graph_rest]))])


def _renamed(node: bytes, prefix: str) -> bytes:
    """Return a node with a prefix before its name and before the names of its inputs."""
    parts = []
    for number, _, value in wire.fields(node):
        assert isinstance(value, bytes)
        name = value.removeprefix(b"^")
        if number in (1, 3):
            parts.append(_field(number, value[: len(value) - len(name)] + prefix.encode() + name))
        else:
            parts.append(_field(number, value))
    return b"".join(parts)


def _field(number: int, value: bytes) -> bytes:
    """Return a length-delimited field."""
    return _varint(number << 3 | wire.LENGTH_DELIMITED) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
