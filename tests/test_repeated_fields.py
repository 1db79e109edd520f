"""Fields that a message has twice, read as protobuf's own runtime reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from builders import (
    FLOAT,
    BundleBuilder,
    V1Builder,
    fixed32,
    masked,
    number,
    shape_proto,
    slice_key,
    slice_proto,
    tensor_values,
    text,
)

from lstmstate.checkpoint import Checkpoint
from lstmstate.checkpoint import protobuf as wire
from lstmstate.checkpoint.graph import Graph
from lstmstate.checkpoint.graph_node import Node
from lstmstate.errors import CorruptError

ABOVE = 1 << 32  # what lies above 32 bits


def entry_of(tmp_path: Path, entry: bytes) -> Checkpoint:
    """A checkpoint of eight values with any entry."""
    builder = BundleBuilder()
    builder.add("w", np.arange(8, dtype=np.float32))
    builder.entries[b"w"] = entry
    return Checkpoint(builder.write(tmp_path / "m"))


def crc(values: int = 8) -> bytes:
    return fixed32(6, masked(np.arange(values, dtype=np.float32).tobytes()))


def test_two_shapes_of_an_entry_are_one(tmp_path: Path) -> None:
    shapes = text(2, shape_proto([1])) + text(2, shape_proto([8]))
    found = entry_of(tmp_path, number(1, FLOAT) + shapes + number(5, 32) + crc()).variables["w"]
    assert found.shape == (1, 8)
    assert found.read().tolist() == [[*range(8)]]


def test_the_numbers_of_dtypes_and_data_files_have_32_bits(tmp_path: Path) -> None:
    shape = text(2, shape_proto([8]))
    entry = number(1, FLOAT + ABOVE) + shape + number(3, ABOVE) + number(5, 32) + crc()
    assert entry_of(tmp_path, entry).variables["w"].read().tolist() == [*range(8)]


def test_a_data_file_with_a_number_below_zero_is_refused(tmp_path: Path) -> None:
    entry = number(1, FLOAT) + text(2, shape_proto([8])) + number(3, -1) + number(5, 32) + crc()
    with pytest.raises(CorruptError, match="data file -1 of 1"):
        entry_of(tmp_path, entry)


def test_two_values_of_a_slice_of_v1_are_one(tmp_path: Path) -> None:
    builder = V1Builder()
    builder.list("w", FLOAT, [4])
    halves = (tensor_values(np.arange(start, start + 2, dtype=np.float32)) for start in (0, 2))
    slice_ = text(1, "w") + text(2, slice_proto([(0, -1)]))
    builder.entries[slice_key("w", [(0, -1)])] = text(
        2, slice_ + b"".join(text(3, half) for half in halves)
    )
    assert Checkpoint(builder.write(tmp_path / "m")).variables["w"].read().tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (number(3, 1) + number(6, 2), {6: [2]}),
        (number(3, 1) + number(3, 2), {3: [1, 2]}),
        (number(3, 1) + number(12, 2), {3: [1]}),  # a member that is not known
        (text(7, shape_proto([1])) + number(3, 1) + text(7, shape_proto([8])),
         {7: [shape_proto([8])]}),
    ],
    ids=["another member", "the same", "unknown", "not in a row"],
)  # fmt: skip
def test_the_last_member_of_an_attribute_counts(
    value: bytes, read: dict[int, list[object]]
) -> None:
    node = Node("n", "Op", [], [text(1, "a") + text(2, value)])
    assert node._attributes.value("a") == read


def test_two_shapes_of_an_attribute_are_one() -> None:
    value = text(7, shape_proto([1])) + text(7, shape_proto([8]))
    assert Node("n", "Op", [], [text(1, "shape") + text(2, value)]).shape() == (1, 8)


def test_graphs_and_their_libraries_are_merged() -> None:
    nodes = [text(1, text(1, name) + text(2, "NoOp")) for name in "ab"]
    bodies = [
        text(2, text(1, text(1, text(1, name)) + text(3, text(1, "n") + text(2, "NoOp"))))
        for name in ("f", "g")
    ]
    calls = [
        text(1, text(1, f"call {name}") + text(2, "PartitionedCall")
             + text(5, text(1, "f") + text(2, text(10, text(1, name)))))
        for name in ("f", "g")
    ]  # fmt: skip
    first = nodes[0] + calls[1] + bodies[0] + text(4, number(1, 27))
    second = nodes[1] + calls[0] + bodies[1] + text(4, number(2, 1))
    graph = Graph(text(1, text(5, "1.15.0")) + text(1, b"") + text(2, first) + text(2, second))
    assert {"a", "b", "\0000/n", "\0001/n"} <= graph.nodes.keys()
    assert (graph.producer, graph.tensorflow_version) == (27, "1.15.0")


def test_a_number_in_the_place_of_a_message_is_refused() -> None:
    with pytest.raises(CorruptError, match="text was expected"):
        wire.merge([b"", 1])
