"""Graph files next to a checkpoint: nodes, attributes, constants, edges, saved names."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path

import numpy as np
import pytest
from builders import (
    BFLOAT16,
    BOOL,
    DOUBLE,
    FLOAT,
    HALF,
    INT32,
    INT64,
    STRING,
    UINT8,
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
    shape_proto,
    tensor,
    text,
    varint,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmstate.checkpoint.graph import Graph, read_meta, read_saved_model
from lstmstate.checkpoint.graph_node import Constant
from lstmstate.errors import CorruptError, LstmstateError, NotFoundError, UnsupportedError

steady = settings(derandomize=True, deadline=None, max_examples=200)


# ---- graphs in a few lines


def graph(*nodes: bytes, producer: int = 0, info: bytes = b"", rest: bytes = b"") -> Graph:
    """A graph from a MetaGraphDef."""
    return Graph(meta_graph(*nodes, producer=producer, info=info, rest=rest))


def constant(dtype: int, shape: tuple[int, ...], values: bytes) -> Constant | None:
    """The constant that is read from a TensorProto."""
    return graph(const("c", tensor(dtype, shape, values))).nodes["c"].constant()


# ---- nodes and attributes


def test_nodes_have_a_name_an_operation_and_inputs() -> None:
    read = graph(node("a/b", "MatMul", ("x", "y:1", "^z")), node("x", "Placeholder"))
    assert list(read.nodes) == ["a/b", "x"]
    assert (read.nodes["a/b"].op, read.nodes["a/b"].inputs) == ("MatMul", ["x", "y:1", "^z"])
    assert read.nodes["x"].inputs == []


def test_fields_of_a_node_may_come_in_any_order() -> None:
    attribute = text(5, text(1, "N") + text(2, number(3, 4)))
    late = text(1, text(2, "Op") + attribute + text(3, "x") + text(1, "late"))
    last = late.replace(b"late", b"last")
    other = node("other", "Op", N=number(3, 4))
    read = graph(late, other, last, node("x", "Op")).nodes
    assert list(read) == ["late", "other", "last", "x"]
    assert [(one.op, one.inputs) for one in read.values()] == [
        *(("Op", ["x"]), ("Op", []), ("Op", ["x"]), ("Op", []))
    ]
    assert [one.number("N") for one in read.values()] == [4, 4, 4, None]


def test_nodes_with_equal_attributes_are_distinct() -> None:
    read = graph(node("a", "Op", N=number(3, 4)), node("b", "Op", N=number(3, 4))).nodes
    assert read["a"].without("N").number("N") is None
    assert [one.number("N") for one in read.values()] == [4, 4]
    same = [const(name, tensor(FLOAT, (), fixed32(5, 0x40000000))) for name in ("c", "d")]
    read = graph(*same, node("e", "Op", value=b"")).nodes
    assert read["c"].constant() == read["d"].constant() == Constant((), (2.0,))
    assert read["e"].constant() is None


@pytest.mark.parametrize("end", [1, 2, 3])
def test_a_truncated_node_is_not_read(end: int) -> None:
    """After any other nodes: one without attributes ends like the truncated one."""
    whole = text(1, "a") + text(2, "Op") + text(3, "abc")
    with pytest.raises(CorruptError, match="a node of the graph runs over its end"):
        graph(text(1, whole), text(1, whole[:-end]))


def test_attributes_are_read_by_kind() -> None:
    read = graph(
        node(
            "n",
            "Op",
            number=number(3, -5),
            true=number(5, 1),
            false=number(5, 0),
            real=fixed32(4, 0x3F4CCCCD),
            string=text(2, "same"),
            shape=text(7, shape_proto((3, 4))),
        )
    ).nodes["n"]
    assert read.number("number") == -5
    assert read.number("true") == 1
    assert read.number("false") == 0
    assert read.real("real") == 0.8
    assert read.string("string") == "same"
    assert read.shape() == (3, 4)


def test_attributes_that_are_not_set_are_none() -> None:
    read = graph(node("n", "LSTMBlockCell")).nodes["n"]
    assert read.number("use_peephole") is None
    assert read.real("forget_bias") is None
    assert read.string("data_format") is None
    assert read.shape() is None
    assert read.constant() is None
    assert read.constant_shape() is None
    assert read.strings() == []


def test_an_attribute_whose_name_starts_like_another_is_distinct() -> None:
    read = graph(node("n", "Op", shapes=text(7, shape_proto((9,))), shape_=number(3, 1)))
    assert read.nodes["n"].shape() is None


def test_the_last_value_of_an_attribute_counts() -> None:
    twice = b"".join(text(5, text(1, "k") + text(2, number(3, value))) for value in (1, 2))
    assert Graph(text(2, text(1, text(1, "n") + text(2, "Op") + twice))).nodes["n"].number("k") == 2


@pytest.mark.parametrize(
    ("proto", "shape"),
    [
        (b"", ()),
        (shape_proto((2, 0)), (2, 0)),
        (text(2, number(1, -1)) + text(2, number(1, 7)), (None, 7)),
        (number(3, 1), None),
    ],
    ids=["scalar", "empty", "open size", "open rank"],
)
def test_shapes_of_placeholders_may_be_unknown(proto: bytes, shape: tuple[int, ...] | None) -> None:
    read = graph(node("n", "Placeholder", shape=text(7, proto)))
    assert read.nodes["n"].shape() == shape


# ---- constants


@pytest.mark.parametrize(
    ("dtype", "shape", "values", "expected"),
    [
        (FLOAT, (), text(4, struct.pack("<f", 1.5)), (1.5,)),  # tensor_content
        (FLOAT, (2,), text(4, struct.pack("<2f", 1.5, -2)), (1.5, -2)),
        (FLOAT, (2,), text(5, struct.pack("<2f", 1.5, -2)), (1.5, -2)),  # packed
        (FLOAT, (2,), fixed32(5, 0x3FC00000) + fixed32(5, 0xC0000000), (1.5, -2)),  # not packed
        (DOUBLE, (), text(6, struct.pack("<d", 0.1)), (0.1,)),
        (DOUBLE, (), fixed64(6, 0x3FF8000000000000), (1.5,)),
        (HALF, (2,), text(13, varint(0x3C00) + varint(0xC000)), (1, -2)),
        (HALF, (), number(13, 0x3800), (0.5,)),
        (HALF, (), text(4, struct.pack("<e", 0.5)), (0.5,)),
        (BFLOAT16, (), number(13, 0x3F80), (1,)),
        (BFLOAT16, (2,), text(13, varint(0x3F4D) + varint(0xC000)), (0.80078125, -2)),
        (BFLOAT16, (3,), text(4, struct.pack("<2H", 0x3F80, 0xBF00)), (1, -0.5, -0.5)),
        (INT32, (2,), text(7, varint(3) + varint(-4)), (3, -4)),
        (INT32, (2,), number(7, 3) + number(7, -4), (3, -4)),
        (INT32, (2,), text(4, struct.pack("<2i", 3, -4)), (3, -4)),
        (INT64, (), number(10, -(1 << 63)), (-(1 << 63),)),
        (INT64, (2,), text(4, struct.pack("<2q", 1 << 40, -1)), (1 << 40, -1)),
        (UINT8, (2,), text(4, b"\x01\xff"), (1, 255)),
        (BOOL, (2,), text(11, b"\x01\x00"), (1, 0)),
        (BOOL, (), text(4, b"\x01"), (1,)),
        (FLOAT, (2, 2), text(5, struct.pack("<f", 3)), (3, 3, 3, 3)),  # repetitions left out
        (INT32, (4,), text(7, varint(1) + varint(2)), (1, 2, 2, 2)),
        (FLOAT, (2,), text(4, struct.pack("<f", 3)), (3, 3)),
        (FLOAT, (), fixed32(5, 0x7F800000), (float("inf"),)),
    ],
)
def test_constants_of_every_kind(
    dtype: int, shape: tuple[int, ...], values: bytes, expected: tuple[float, ...]
) -> None:
    read = constant(dtype, shape, values)
    assert read == Constant(shape, expected)
    assert read.scalar == (expected[0] if len(expected) == 1 else None)


def test_single_precision_is_shown_as_it_was_written() -> None:
    for value in (0.8, 0.1, 1e-5, 3.4028235e38, 1 / 3, -0.0, 16777217.0):
        read = constant(FLOAT, (), text(4, struct.pack("<f", value)))
        assert read is not None
        assert struct.pack("<f", read.values[0]) == struct.pack("<f", value)
        assert len(repr(read.values[0])) <= len(repr(float(np.float32(value))))
    assert constant(FLOAT, (), text(4, struct.pack("<f", 0.8))) == Constant((), (0.8,))


def test_a_constant_that_is_not_a_number_is_read() -> None:
    read = constant(FLOAT, (), fixed32(5, 0x7FC00000))
    assert read is not None
    assert np.isnan(read.values[0])


@pytest.mark.parametrize(
    ("dtype", "zero"), [(FLOAT, 0.0), (HALF, 0.0), (BFLOAT16, 0.0), (INT32, 0), (BOOL, 0)]
)
def test_a_constant_without_values_is_zero(dtype: int, zero: float) -> None:
    assert constant(dtype, (2,), b"") == Constant((2,), (zero, zero))


@pytest.mark.parametrize(
    ("dtype", "shape", "values"),
    [
        (FLOAT, (65,), text(5, struct.pack("<f", 3))),  # more numbers than an option has
        (FLOAT, (0,), b""),
        (STRING, (), text(8, "text")),
        (BFLOAT16, (), text(4, b"\x80")),
        (FLOAT, (1 << 62, 1 << 62), text(5, struct.pack("<f", 3))),
        (99, (), b""),
    ],
)
def test_constants_that_are_not_options_are_ignored(
    dtype: int, shape: tuple[int, ...], values: bytes
) -> None:
    assert constant(dtype, shape, values) is None


def test_the_shape_of_a_large_constant_is_known() -> None:
    read = graph(const("c", tensor(FLOAT, (512, 1024), b""))).nodes["c"]
    assert read.constant() is None
    assert read.constant_shape() == (512, 1024)


def test_strings_of_a_constant_are_read() -> None:
    assert graph(names_const("c", "a/b", "", "é")).nodes["c"].strings() == ["a/b", "", "é"]


# ---- edges


def test_edges_connect_an_output_to_an_input() -> None:
    read = graph(
        node("x", "Split"),
        node("a", "Mul", ("x:1", "x")),
        node("b", "Relu", ("^x", "x:3")),
    )
    both = frozenset({"Mul", "Relu"})
    uses = [(edge.node.name, edge.position, edge.port) for edge in read.edges("x", both)]
    assert uses == [("a", 0, 1), ("a", 1, 0), ("b", 1, 3)]
    assert [edge.node.name for edge in read.edges("x", frozenset({"Relu"}))] == ["b"]
    assert read.edges("a", both) == []
    assert read.edges("nowhere", both) == []


def test_the_source_of_an_input_is_a_node_and_a_port() -> None:
    read = graph(node("scope/x", "Split"))
    assert read.source("scope/x:2") == (read.nodes["scope/x"], 2)
    assert read.source("scope/x") == (read.nodes["scope/x"], 0)
    assert read.source("gone:1") == (None, 1)
    assert read.source(":1") == (None, 0)


def test_a_graph_of_6000_nodes_is_walked() -> None:
    chain = [node("n0", "Const")] + [node(f"n{k}", "Add", (f"n{k - 1}",)) for k in range(1, 6000)]
    read = graph(*chain)
    seen, name = 0, "n0"
    while uses := read.edges(name, frozenset({"Add"})):
        name = uses[0].node.name
        seen += 1
    assert (len(read.nodes), seen, name) == (6000, 5999, "n5999")


# ---- names under which variables are saved


@pytest.mark.parametrize(
    ("op", "extra"), [("SaveV2", ("slices",)), ("SaveSlices", ("slices",)), ("Save", ())]
)
def test_a_saver_lists_the_names_it_saves(op: str, extra: tuple[str, ...]) -> None:
    read = graph(
        names_const("names", "old/kernel", "old/bias"),
        node("slices", "Const"),
        node("kernel", "VariableV2"),
        node("bias", "VariableV2"),
        node("save", op, ("prefix", "names", *extra, "kernel", "bias", "^control")),
    )
    saved = [(key, value.name) for key, value in read.saved_names()]
    assert saved == [("old/kernel", "kernel"), ("old/bias", "bias")]


def test_saved_values_missing_from_the_graph_are_ignored() -> None:
    read = graph(
        names_const("names", "a", "b", "c"),
        node("b", "VariableV2"),
        node("save", "SaveV2", ("prefix", "names", "slices", "gone", "b")),
        node("nameless", "SaveV2", ("prefix", "b", "slices", "b")),
        node("short", "SaveV2", ("prefix",)),
        node("empty", "SaveV2"),
    )
    assert [(key, value.name) for key, value in read.saved_names()] == [("b", "b")]


# ---- properties of the whole graph


@pytest.mark.parametrize(
    ("producer", "release"),
    [
        (0, None), (1, "0.5-0.6"), (8, "0.7"), (9, "0.8-0.9"), (11, "0.10"), (12, "0.10"),
        (15, "0.11"), (17, "0.12"), (18, None), (21, None), (24, None), (134, None),
    ],
)  # fmt: skip
def test_graphs_before_0_12_are_dated_by_their_producer(producer: int, release: str | None) -> None:
    read = graph(node("x", "Const"), producer=producer)
    assert (read.producer, read.tensorflow_version) == (producer, release)


def test_a_graph_that_names_its_release_is_believed() -> None:
    assert graph(producer=24, info=text(5, "1.5.0")).tensorflow_version == "1.5.0"
    assert graph(producer=17, info=text(5, "0.12.1")).tensorflow_version == "0.12.1"


def test_trainable_variables_are_those_of_the_collection() -> None:
    def collection(name: str, *variables: str) -> bytes:
        listed = b"".join(text(1, text(1, variable)) for variable in variables)
        return text(4, text(1, name) + text(2, text(2, listed)))

    rest = collection("variables", "a:0", "b:0", "c:0") + collection("trainable_variables", "a:0")
    assert graph(rest=rest).trainable == {"a"}
    assert graph(rest=collection("trainable_variables")).trainable == frozenset()
    assert graph(rest=collection("variables", "a:0")).trainable is None


def test_bodies_of_uncalled_functions_are_left_out() -> None:
    read = Graph(graph_with_functions(node("n", "Const"), function("f", node("m", "Add"))))
    assert list(read.nodes) == ["n"]


def test_function_bodies_are_inlined_at_each_call() -> None:
    body = function("f", node("sum", "Add", ["x", "y", "other:z:1", "^x"]), arguments=["x", "y"])
    read = Graph(graph_with_functions(call("start", "f", "a:1", "b"), body))
    _, x, y, total = read.nodes.values()
    assert (x.op, x.inputs, x.frame) == ("Enter", ["a:1"], "start")
    assert (y.op, y.inputs, y.frame) == ("Enter", ["b"], "start")
    scope = x.name.removesuffix("/x")
    assert (total.name, total.op) == (f"{scope}/sum", "Add")
    assert total.inputs == [x.name, y.name, f"{scope}/other:1", f"^{x.name}"]


# ---- files


def test_a_meta_file_and_a_saved_model_contain_the_same_graph(tmp_path: Path) -> None:
    data = meta_graph(node("x", "Const"), info=text(5, "1.15.0"))
    (tmp_path / "m.meta").write_bytes(data)
    (tmp_path / "saved_model.pb").write_bytes(number(1, 1) + text(2, data) + text(2, b""))
    for read in (
        read_meta(str(tmp_path / "m.meta")),
        read_saved_model(str(tmp_path / "saved_model.pb")),
    ):
        assert (list(read.nodes), read.tensorflow_version) == (["x"], "1.15.0")


def test_a_saved_model_without_a_graph_is_refused(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(number(1, 1))
    with pytest.raises(UnsupportedError, match="has no graph"):
        read_saved_model(str(tmp_path / "saved_model.pb"))


def test_a_missing_graph_is_reported_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError) as caught:
        read_meta(str(tmp_path / "m.meta"))
    assert caught.value.path == str(tmp_path / "m.meta")


# ---- any bytes


def visit(read: Graph) -> None:
    """Call every method of a graph."""
    list(read.saved_names())
    for name, found in read.nodes.items():
        read.edges(name, frozenset({found.op}))
        readers = (found.number, found.real, found.string)
        for ask in (found.shape, found.constant, found.constant_shape, found.strings):
            with contextlib.suppress(LstmstateError):
                ask()
        for ask_of in readers:
            with contextlib.suppress(LstmstateError):
                ask_of("T")


fields = st.lists(
    st.one_of(
        st.builds(number, st.integers(1, 17), st.integers(0, (1 << 64) - 1)),
        st.builds(text, st.integers(1, 17), st.binary(max_size=12)),
        st.builds(fixed32, st.integers(1, 17), st.integers(0, (1 << 32) - 1)),
        st.builds(fixed64, st.integers(1, 17), st.integers(0, (1 << 64) - 1)),
    ),
    max_size=4,
).map(b"".join)
numeric = st.sampled_from([FLOAT, DOUBLE, INT32, UINT8, INT64, BOOL, HALF])


@steady
@given(st.one_of(st.binary(max_size=80), fields, fields.map(lambda data: text(2, text(1, data)))))
def test_any_bytes_are_a_graph_or_refused(data: bytes) -> None:
    with contextlib.suppress(LstmstateError):
        visit(Graph(data))


@steady
@given(fields)
def test_any_attribute_is_read_or_refused(value: bytes) -> None:
    visit(graph(node("n", "Const", T=value, value=value, shape=value)))


@steady
@given(numeric, st.lists(st.integers(0, 3), max_size=2), fields)
def test_any_constant_is_read_or_refused(dtype: int, shape: list[int], values: bytes) -> None:
    visit(graph(const("c", tensor(dtype, tuple(shape), values))))
