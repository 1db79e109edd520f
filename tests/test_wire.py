"""Protocol buffers' wire format: valid and invalid messages, and malicious graphs."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from builders import (
    FLOAT,
    HALF,
    INT32,
    BundleBuilder,
    call,
    const,
    fixed32,
    fixed64,
    function,
    graph_with_functions,
    meta_graph,
    names_const,
    node,
    number,
    tensor,
    text,
    varint,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from work import little_memory

from lstmstate.checkpoint import Checkpoint
from lstmstate.checkpoint import protobuf as wire
from lstmstate.checkpoint.graph import Graph
from lstmstate.errors import CorruptError, LstmstateError

steady = settings(derandomize=True, deadline=None, max_examples=200)


# ---- varints


@pytest.mark.parametrize(
    ("stored", "value"),
    [
        ("ac 02", 300),
        ("ff ff ff ff ff ff ff ff ff 01", (1 << 64) - 1),
        ("81 80 00", 1),  # padded with groups of zeros
    ],
)
def test_a_varint_has_up_to_64_bits(stored: str, value: int) -> None:
    data = bytes.fromhex(stored)
    assert wire.varint(data, 0) == (value, len(data))


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        ("", "does not end"),
        ("80", "does not end"),
        ("ff ff", "does not end"),
        ("80 80 80 80 80 80 80 80 80 80 00", "does not end"),  # eleven bytes
        ("ff ff ff ff ff ff ff ff ff 02", "larger than 64 bits"),
    ],
)
def test_a_varint_that_is_cut_or_too_long_is_refused(stored: str, words: str) -> None:
    with pytest.raises(CorruptError, match=words):
        wire.varint(bytes.fromhex(stored), 0)
    with pytest.raises(CorruptError):
        wire.varint(b"\x01", 5)


@steady
@given(st.integers(0, (1 << 64) - 1), st.binary(max_size=4), st.binary(max_size=4))
def test_numbers_are_read_at_their_offset(value: int, before: bytes, behind: bytes) -> None:
    stored = varint(value)
    read = wire.varint(before + stored + behind, len(before))
    assert read == (value, len(before) + len(stored))


@pytest.mark.parametrize("value", [0, 1, -1, (1 << 63) - 1, -(1 << 63)])
def test_numbers_below_zero_are_twos_complement(value: int) -> None:
    stored, _ = wire.varint(varint(value), 0)
    assert wire.signed(stored) == value


# ---- fields


def test_fields_come_in_the_order_of_the_message() -> None:
    data = bytes.fromhex("08 01  1a 02 08 01  15 01 00 00 00  21 02 00 00 00 00 00 00 00  08 05")
    assert list(wire.fields(data)) == [
        (1, wire.VARINT, 1),
        (3, wire.LENGTH_DELIMITED, b"\x08\x01"),
        (2, wire.FIXED32, 1),
        (4, wire.FIXED64, 2),
        (1, wire.VARINT, 5),
    ]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x08", "does not end"),  # a key without its number
        (b"\x80", "does not end"),  # half a key
        (b"\x0a\x05abc", "field 1 runs 2 bytes over the end"),
        (b"\x0a" + varint((1 << 64) - 1) + b"abc", "over the end"),
        (b"\x0a", "does not end"),  # a text without its length
        (b"\x0d\x01\x02\x03", "field 1 runs over the end"),
        (b"\x09\x01\x02\x03\x04\x05\x06\x07", "field 1 runs over the end"),
        (b"\x00\x01", "number 0"),
        (b"\x0e\x01", "wire type 6"),
        (b"\x0f\x01", "wire type 7"),
        (b"\x0b\x08\x01\x0c", "wire type 3"),  # a group, which TensorFlow's messages do not have
    ],
)
def test_invalid_messages_are_refused(data: bytes, words: str) -> None:
    with pytest.raises(CorruptError, match=words):
        list(wire.fields(data))


def test_every_message_that_is_cut_within_a_field_is_refused() -> None:
    parts = [number(1, 300), text(2, b"abc"), fixed32(3, 1), fixed64(4, 1)]
    whole = b"".join(parts)
    ends = {sum(map(len, parts[:count])) for count in range(len(parts) + 1)}
    for length in range(len(whole)):
        if length in ends:
            list(wire.fields(whole[:length]))
        else:
            with pytest.raises(CorruptError):
                list(wire.fields(whole[:length]))


@steady
@given(st.binary(max_size=64))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        found = list(wire.fields(data))
    except LstmstateError:
        return
    for _, wire_type, value in found:
        assert isinstance(value, bytes) == (wire_type == wire.LENGTH_DELIMITED)


FIELDS = st.integers(1, (1 << 29) - 1)


@steady
@given(
    st.lists(
        st.one_of(
            st.tuples(FIELDS, st.integers(0, (1 << 64) - 1)),
            st.tuples(FIELDS, st.binary(max_size=200)),
        )
    )
)
def test_written_messages_are_read_back(expected: list[tuple[int, int | bytes]]) -> None:
    data = b"".join(
        text(field, value) if isinstance(value, bytes) else number(field, value)
        for field, value in expected
    )
    assert [(field, value) for field, _, value in wire.fields(data)] == expected


# ---- values of a message


def test_the_last_of_a_single_field_counts_and_repeated_ones_keep_their_order() -> None:
    found = wire.message(number(1, 4) + text(2, b"b") + number(1, 5) + text(2, b"a"))
    assert wire.last_int(found.get(1)) == 5
    assert wire.last_bytes(found.get(2)) == b"a"
    assert wire.all_bytes(found.get(2)) == [b"b", b"a"]
    for read in (wire.last_bytes, wire.all_bytes):
        with pytest.raises(CorruptError, match="text was expected"):
            read(found.get(1))
    with pytest.raises(CorruptError, match="number was expected"):
        wire.last_int(found.get(2))


def test_absent_fields_have_their_default() -> None:
    assert wire.last_int(None) == 0
    assert wire.last_int(None, 7) == 7
    assert wire.last_bytes(None) == b""
    assert wire.all_bytes(None) == []


def test_names_that_are_not_utf8_are_kept() -> None:
    name = wire.text(b"caf\xe9")
    assert name.encode("utf-8", "surrogateescape") == b"caf\xe9"


def test_a_float_is_read_from_its_bits() -> None:
    assert wire.float32(0x3F800000) == 1.0
    assert wire.float32(0xBF000000) == -0.5


# ---- malicious graphs


def const_graph(dtype: int, shape: list[int], values: bytes) -> Graph:
    """A graph of one constant."""
    return Graph(meta_graph(const("c", tensor(dtype, shape, values))))


@pytest.mark.parametrize(
    ("dtype", "values", "expected"),
    [
        (FLOAT, fixed64(5, 1 << 40), 0.0),  # protobuf ignores a field of another type
        (FLOAT, number(5, 1 << 40), 0.0),
        (HALF, number(13, 1 << 16), 0.0),  # TensorFlow reads the low 16 bits
        (HALF, number(13, -1), math.nan),
        (FLOAT, text(5, b"abc"), None),
    ],
)
def test_constants_with_too_many_bits(dtype: int, values: bytes, expected: float | None) -> None:
    found = const_graph(dtype, [], values).nodes["c"].constant()
    if expected is None:
        assert found is None
    else:
        assert found is not None
        np.testing.assert_equal(found.values, (expected,))


@pytest.mark.parametrize(("dtype", "values"), [(INT32, text(7, b"\x80")), (FLOAT, number(4, 1))])
def test_invalid_constants_are_refused(dtype: int, values: bytes) -> None:
    with pytest.raises(CorruptError):
        const_graph(dtype, [], values).nodes["c"].constant()


def test_a_float_attribute_with_too_many_bits_is_refused() -> None:
    found = Graph(meta_graph(node("n", "Op", forget_bias=number(4, 1 << 40)))).nodes["n"]
    with pytest.raises(CorruptError, match="more than 32 bits"):
        found.real("forget_bias")


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        (FLOAT, text(4, bytes(1 << 20))),
        (FLOAT, text(5, bytes(1 << 20))),
        (INT32, text(7, bytes(1 << 20))),
    ],
    ids=["content", "floats", "ints"],
)
def test_a_constant_longer_than_its_shape_takes_no_memory(dtype: int, values: bytes) -> None:
    found = const_graph(dtype, [], values).nodes["c"]
    with little_memory(8), contextlib.suppress(LstmstateError):  # 262,144 floats would be more
        found.constant()


@pytest.mark.parametrize("port", ["9" * 5000, "٣", "-1", "²", "1" * 20])
def test_an_input_with_an_invalid_port_has_no_source(port: str) -> None:
    assert Graph(meta_graph(node("a", "Unpack"))).source(f"a:{port}") == (None, 0)
    with pytest.raises(CorruptError, match="which is not in the graph"):
        Graph(meta_graph(node("a", "Unpack"), node("b", "Neg", [f"a:{port}"])))


def test_graphs_that_loop_are_read(tmp_path: Path) -> None:
    read = Graph(
        meta_graph(
            node("a", "Enter", ["b", "a"]),
            node("b", "NextIteration", ["a"]),
            node("save", "SaveV2", ["save", "save", "save", "save"]),
        )
    )
    assert [user.name for user, _ in read.uses["a"]] == ["a", "b"]
    assert list(read.saved_names()) == []


def test_operations_that_run_code_are_only_names() -> None:
    operations = ["PyFunc", "EagerPyFunc", "LoadLibrary", "ReadFile", "WriteFile"]
    read = Graph(meta_graph(*(node(op, op, token=text(2, "pyfunc_0")) for op in operations)))
    assert [found.op for found in read.nodes.values()] == operations
    assert read.nodes["PyFunc"].string("token") == "pyfunc_0"


def test_deeply_nested_messages_are_harmless(tmp_path: Path) -> None:
    deep = b""
    for _ in range(5_000):
        deep = text(1, deep)
    (tmp_path / "m.meta").write_bytes(text(2, deep))
    path = BundleBuilder().write(tmp_path / "m")
    assert len(getattr(Checkpoint(path).graph, "nodes", {})) <= 1
    with pytest.raises(LstmstateError):
        (tmp_path / "deep").write_bytes(deep)
        Checkpoint(str(tmp_path / "deep"))


def test_saved_names_are_not_reread_for_every_saver(monkeypatch: pytest.MonkeyPatch) -> None:
    savers = [node(f"save{k}", "SaveV2", ["names"] * 4) for k in range(200)]
    data = meta_graph(names_const("names", *(f"variable_{k}" for k in range(2000))), *savers)
    parsed = []
    plain = wire.fields

    def counting(message: bytes, budget: object = None) -> Iterator[tuple[int, int, wire.Value]]:
        parsed.append(len(message))
        return plain(message)

    read = Graph(data)
    monkeypatch.setattr(wire, "fields", counting)
    assert len(list(read.saved_names())) == 200
    assert sum(parsed) < 20 * len(data)


# ---- malicious functions


@pytest.mark.parametrize(
    "functions",
    [
        [function("f", call("again", "f"))],
        [function("f", call("to_g", "g")), function("g", call("to_f", "f"))],
        [function("f", call("nowhere", "gone"))],
    ],
    ids=["itself", "in a circle", "not there"],
)
def test_recursive_functions_are_inlined_once(functions: list[bytes]) -> None:
    read = Graph(graph_with_functions(call("start", "f"), *functions))
    assert len(read.nodes) == 1 + len(functions)


def test_functions_that_double_at_every_level_are_bounded() -> None:
    levels = [
        function(f"f{k}", call("one", f"f{k + 1}"), call("two", f"f{k + 1}")) for k in range(60)
    ]
    assert len(Graph(graph_with_functions(call("start", "f0"), *levels)).nodes) == 1 + 2 * 60


def test_a_long_function_name_does_not_multiply() -> None:
    long, short = "f" * 20_000, node("n", "Op")
    with little_memory(32), contextlib.suppress(LstmstateError):
        Graph(graph_with_functions(call("start", long), function(long, *[short] * 5_000)))


def test_calls_with_a_wrong_number_of_arguments_are_harmless() -> None:
    def of_call(*inputs: str) -> Graph:
        total = node("n", "Add", ["x", "y:z:0", "^w"])
        body = function("f", node("w", "Const"), total, arguments=("x", "y"))
        return Graph(graph_with_functions(node("a", "Const") + call("start", "f", *inputs), body))

    read = of_call("a", "a", "a", "^a")
    assert [found.op for found in read.nodes.values()][-1] == "Add"
    read.edges("start", frozenset({"Add"}))
    with pytest.raises(CorruptError, match="it takes x, which is not in the graph"):
        of_call()
