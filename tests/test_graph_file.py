"""Graph files next to a checkpoint, and graphs alone: whole, damaged and frozen."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
from builders import number as number_field
from commands import Shell, checkpoint, error, lstm_cell, notes, numbers, saved
from hypothesis import given, settings
from hypothesis import strategies as st
from writers import (
    Tensor,
    TensorFlow,
    as_in_1_x,
    dynamic,
    hand_made,
    inputs,
    new_session,
    only,
    save,
    set_variables,
    shown,
    static,
    tensorflow,
)

from lstmstate import limits
from lstmstate.checkpoint.graph import Graph, read_meta, read_saved_model
from lstmstate.checkpoint.graph_node import Constant
from lstmstate.errors import CorruptError, LstmstateError, NotFoundError, UnsupportedError
from lstmstate.model.checkpoint import open_checkpoint

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
    others = [node(name, "Placeholder") for name in ("x", "y", "z")]
    read = graph(node("a/b", "MatMul", ("x", "y:1", "^z")), *others)
    assert list(read.nodes) == ["a/b", "x", "y", "z"]
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
        node("x", "Unpack"),
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
    read = graph(node("scope/x", "Unpack"))
    assert read.source("scope/x:2") == (read.nodes["scope/x"], 2)
    assert read.source("scope/x") == (read.nodes["scope/x"], 0)
    assert read.source("gone:1") == (None, 1)
    assert read.source(":1") == (None, 0)


def test_a_graph_of_6000_nodes_is_walked() -> None:
    chain = [node("n0", "Const")] + [node(f"n{k}", "Neg", (f"n{k - 1}",)) for k in range(1, 6000)]
    read = graph(*chain)
    seen, name = 0, "n0"
    while uses := read.edges(name, frozenset({"Neg"})):
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
        node("prefix", "Const"),
        node("control", "NoOp"),
    )
    saved = [(key, value.name) for key, value in read.saved_names()]
    assert saved == [("old/kernel", "kernel"), ("old/bias", "bias")]


def test_savers_without_names_or_values_are_ignored() -> None:
    read = graph(
        names_const("names", "a", "b", "c"),
        *(node(name, "VariableV2") for name in ("b", "prefix", "slices")),
        node("save", "SaveV2", ("prefix", "names", "slices", "prefix", "b")),
        node("nameless", "SaveV2", ("prefix", "b", "slices", "b")),
        node("short", "SaveV2", ("prefix",)),
        node("empty", "SaveV2"),
    )
    saved = [(key, value.name) for key, value in read.saved_names()]
    assert saved == [("a", "prefix"), ("b", "b")]


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
    read = Graph(graph_with_functions(node("n", "Const"), function("f", node("m", "Neg"))))
    assert list(read.nodes) == ["n"]


def test_function_bodies_are_inlined_at_each_call() -> None:
    added = node("sum", "Add", ["x", "y", "other:z:1", "^x"])
    body = function("f", node("other", "Const"), added, arguments=["x", "y"])
    main = node("a", "Const") + node("b", "Const") + call("start", "f", "a:1", "b")
    read = Graph(graph_with_functions(main, body))
    _, _, _, x, y, _, total = read.nodes.values()
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


# ---- truncated, empty or overwritten graph files: a graph is read completely or not at all


NODES = (
    const("c", tensor(1, (), text(5, bytes(4)))),
    node("v", "VariableV2", shape=text(7, shape_proto((3,)))),
    node("read", "Identity", ("v",)),
)
INFO = text(5, "1.15.0")
REST = text(4, text(1, "trainable_variables") + text(2, text(2, text(1, text(1, "v:0")))))
META = meta_graph(*NODES, producer=134, info=INFO, rest=REST * 3)
GRAPH_ENDS = len(META) - 3 * len(REST)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The prefix of a checkpoint with its graph; the cell has a forget_bias of 0.3."""
    folder = tmp_path_factory.mktemp("model")
    return save(folder, lambda tf: dynamic(tf, tf.nn.rnn_cell.LSTMCell(4, forget_bias=0.3)))


@pytest.fixture
def meta(written: str) -> Path:
    """Its `.meta` file."""
    return Path(f"{written}.meta")


def graph_ends(content: bytes) -> int:
    """Return where the GraphDef of a MetaGraphDef ends, by protobuf's own reader."""
    from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef

    whole = MetaGraphDef.FromString(content)
    start = MetaGraphDef(meta_info_def=whole.meta_info_def, graph_def=whole.graph_def)
    return start.ByteSize()


# ---- complete or not read


@pytest.mark.parametrize("kind", ["meta", "saved_model"])
def test_a_cut_at_any_byte_leaves_the_whole_graph_or_none(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "graph"
    read, before = read_meta, b""
    if kind == "saved_model":
        read, before = read_saved_model, number_field(1, 1) + text(2, META)[: -len(META)]
    content = before + META
    # Before the graph field nothing shows that there was more.
    without = 2 if before else len(text(1, INFO))
    for size in range(1, len(content)):
        path.write_bytes(content[:size])
        if size == without:
            with pytest.raises(UnsupportedError, match="it has no graph"):
                read(str(path))
        elif size < len(before) + GRAPH_ENDS:
            with pytest.raises(CorruptError, match="the graph file is cut short"):
                read(str(path))
        else:
            graph = read(str(path))
            assert list(graph.nodes) == ["c", "v", "read"]
            assert (graph.producer, graph.tensorflow_version) == (134, "1.15.0")
            at_end = size in (len(content) - len(REST) * k for k in (1, 2, 3))
            assert (graph.damage is None) == (kind == "meta" and at_end)
    path.write_bytes(content)
    whole = read(str(path))
    assert (whole.damage, whole.trainable) == (None, {"v"})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the graph file is empty"),
        (META[:-10], "the graph file is cut short (at least 10 bytes are missing)"),
        (META[: GRAPH_ENDS - 20], "the graph file is cut short (at least 20 bytes are missing)"),
        (META[:1], "the graph file is cut short"),
        (bytes(len(META)), "the graph file is damaged (a field has number 0)"),
        (META[:9] + bytes(len(META) - 9), "the graph file is damaged (a field has number 0)"),
        (b"\x12\xff\xff\xff\xff\xff\xff\xff\x7f" + META, "the graph file is damaged (field 2 runs"),
        (b"\x0f" + META, "the graph file is damaged (field 1 has wire type 7"),
    ],
)
def test_the_damage_is_reported_in_one_line(tmp_path: Path, content: bytes, words: str) -> None:
    prefix = checkpoint(tmp_path / "model", lstm_cell())
    path = tmp_path / "model.meta"
    path.write_bytes(content)
    ckpt = open_checkpoint(prefix)
    assert ckpt.graph_damage is not None
    assert ckpt.graph_damage.startswith(words)
    line = ckpt.notes[-1]
    assert line.startswith(f"{path}: {words}")
    assert "\n" not in line
    used = len(content) > GRAPH_ENDS and ckpt.graph is not None
    assert line.endswith("the graph in it is whole, and is read") == used
    assert line.endswith("going on without the graph") != used


def test_a_whole_graph_after_a_truncated_one_is_not_used(tmp_path: Path) -> None:
    """protobuf merges two GraphDefs: the rest of a truncated one could belong to the first."""
    path = tmp_path / "m.meta"
    path.write_bytes(META[:GRAPH_ENDS] + text(2, NODES[0])[:-1])
    with pytest.raises(CorruptError, match="cut short"):
        read_meta(str(path))


# ---- reports


def test_options_come_from_a_whole_graph(shell: Shell, written: str, meta: Path) -> None:
    whole = meta.read_bytes()
    meta.write_bytes(whole[:-100])
    words = "the graph file is cut short (at least 100 bytes are missing)"
    document = shell.json("inspect", written)
    done = shell("inspect", written)
    meta.write_bytes(whole)
    assert document["graph_damage"] == words
    assert document["cells"][0]["forget_bias"] == {"value": 0.3, "source": "graph"}
    assert notes(done) == [f"{meta}: {words}; the graph in it is whole, and is read"]
    head = done.out.splitlines()[1]
    assert "; graph damaged; " in head
    assert "written by TensorFlow" in head


@pytest.mark.parametrize("missing", [1, 1000, -1])
def test_options_never_come_from_a_truncated_graph(
    shell: Shell, written: str, meta: Path, missing: int
) -> None:
    whole = meta.read_bytes()
    size = graph_ends(whole) - missing if missing > 0 else 0
    meta.write_bytes(whole[:size])
    document = shell.json("inspect", written)
    done = shell("inspect", written)
    meta.write_bytes(whole)
    number = "1 byte is" if missing == 1 else f"{missing} bytes are"
    words = f"cut short (at least {number} missing)" if size else "empty"
    assert document["graph_damage"] == f"the graph file is {words}"
    (cell,) = document["cells"]
    assert cell["forget_bias"] == {"value": 1.0, "source": "default"}
    assert cell["activation"] == {"value": None, "source": "unknown"}
    assert notes(done) == [f"{meta}: the graph file is {words}; going on without the graph"]
    assert (
        done.out.splitlines()[1]
        == "TensorFlow V2 checkpoint; graph damaged; variable names of TensorFlow 1.2+"
    )


def test_a_whole_graph_is_not_reported_as_damaged(shell: Shell, written: str) -> None:
    assert shell.json("inspect", written)["graph_damage"] is None
    assert "damaged" not in shell("inspect", written).out
    assert shown(only(open_checkpoint(written)), "forget_bias") == {"forget_bias": 0.3}


# ---- frozen graphs: constants read as variables, and runs of their cells


Build = Callable[[TensorFlow], Tensor]
X = numbers(2, 2, 3, seed=7)  # [batch, steps, inputs]


def freeze(path: Path, build: Build, strip: bool = False) -> Any:
    """Write a frozen graph; return TensorFlow's results for it.

    build: makes a graph with the placeholder `inputs`, and returns its result.
    strip: whether to remove the operations that only pass on a value.
    """
    tf = tensorflow()
    with as_in_1_x(tf):
        result = build(tf)
        graph = tf.get_default_graph()
        with new_session(tf) as session:
            # Biases start at zero, which would hide mistakes.
            every = tf.global_variables()
            set_variables(session, {one: numbers(*one.shape, seed=len(one.name)) for one in every})
            frozen = tf.graph_util.convert_variables_to_constants(
                session, graph.as_graph_def(), [result.op.name]
            )
            expected = session.run(result, {"inputs:0": X})
    if strip:
        frozen = tf.graph_util.remove_training_nodes(frozen, [result.op.name])
    assert not any("Variable" in node.op for node in frozen.node)
    path.write_bytes(frozen.SerializeToString())
    return expected


def write(path: Path, *nodes: bytes) -> str:
    """Write a GraphDef of some nodes."""
    path.write_bytes(b"".join(nodes))
    return str(path)


# ---- cells


def plain(tf: TensorFlow) -> Tensor:
    return dynamic(tf, tf.nn.rnn_cell.BasicLSTMCell(4, forget_bias=0.3))[0]


def projected(tf: TensorFlow) -> Tensor:
    cell = tf.nn.rnn_cell.LSTMCell(
        5, use_peepholes=True, num_proj=4, cell_clip=0.4, proj_clip=0.2, forget_bias=0.5
    )
    return dynamic(tf, cell)[0]


def of_one_unit(tf: TensorFlow) -> Tensor:
    return dynamic(tf, tf.nn.rnn_cell.LSTMCell(1, use_peepholes=True, num_proj=1))[0]


def unrolled(tf: TensorFlow) -> Tensor:
    outputs, _ = static(tf, tf.nn.rnn_cell.LSTMCell(4, activation=tf.nn.relu))
    return tf.stack(outputs, 1, name="outputs")


def stacked(tf: TensorFlow) -> Tensor:
    cells = [tf.nn.rnn_cell.LSTMCell(units) for units in (4, 5)]
    return dynamic(tf, tf.nn.rnn_cell.MultiRNNCell(cells))[0]


def both_ways(tf: TensorFlow) -> Tensor:
    cells = [tf.nn.rnn_cell.LSTMCell(units) for units in (4, 5)]
    outputs, _ = tf.nn.bidirectional_dynamic_rnn(*cells, inputs(tf), dtype=tf.float32)
    return tf.concat(outputs, 2)


@pytest.mark.covering(1)
@pytest.mark.parametrize("strip", [False, True])
@pytest.mark.parametrize("build", [plain, projected, of_one_unit, unrolled, stacked, both_ways])
def test_a_network_gives_the_values_of_tensorflow(
    tmp_path: Path, build: Build, strip: bool
) -> None:
    expected = freeze(tmp_path / "frozen.pb", build, strip)
    ckpt = open_checkpoint(tmp_path / "frozen.pb")
    assert bool(ckpt.notes) == strip  # such a graph is described by a node
    outputs, _ = ckpt.network().run(X)
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=2e-6)
    assert np.abs(expected).max() > 0.005


def test_options_come_from_the_graph(tmp_path: Path) -> None:
    freeze(tmp_path / "frozen.pb", projected)
    cell = only(open_checkpoint(tmp_path / "frozen.pb"))
    assert (cell.family, cell.num_units, cell.num_proj, cell.peepholes) == ("LSTMCell", 5, 4, True)
    found = shown(cell, "forget_bias", "cell_clip", "proj_clip", "activation")
    assert found == {
        "forget_bias": 0.5, "cell_clip": 0.4, "proj_clip": 0.2, "activation": "tanh"
    }  # fmt: skip


@pytest.mark.parametrize("bias", [[0.3] * 4, [0.3, 0.4, 0.5, 0.6], [0.3]])
def test_a_forget_bias_of_several_numbers_is_not_dropped(tmp_path: Path, bias: list[float]) -> None:
    """A constant with an axis is a variable here, and a learnt value is not an option of a cell."""
    freeze(tmp_path / "frozen.pb", lambda tf: hand_made(tf, forget_bias=tf.constant(bias))[1])
    cell = only(open_checkpoint(tmp_path / "frozen.pb"))
    assert cell.forget_bias == (None, "unknown")


def test_run_and_inspect_take_a_frozen_graph(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "frozen.pb"
    expected = freeze(path, plain)
    document = shell.json("inspect", path)
    assert (document["format"], document["prefix"]) == ("frozen_graph", str(path))
    assert (document["meta"], document["data_files"]) == (str(path), [str(path)])
    assert document["graph_damage"] is None
    kernel = "rnn/basic_lstm_cell/kernel"
    assert document["cells"][0]["variables"] == {"kernel": kernel, "bias": kernel[:-6] + "bias"}
    assert document["variables"][0] == {
        "name": kernel, "shape": [7, 16], "dtype": "float32", "bytes": 448, "role": "kernel",
        "cell": "rnn/basic_lstm_cell",
    }  # fmt: skip
    done = shell("inspect", path, "--verify", code=0)
    assert "TensorFlow frozen graph; " in done.out
    assert "2 of 2 values are undamaged" in done.out
    assert shell("run", path, saved(tmp_path / "x.npy", X), "-o", tmp_path / "y.npz").code == 0
    np.testing.assert_allclose(np.load(tmp_path / "y.npz")["outputs"], expected, rtol=0, atol=2e-6)
    assert shell("check", path, "--units", "4", "--forget-bias", "0.3", "--finite").code == 0
    # Its folder leads to it if there is no other.
    assert shell.json("inspect", tmp_path)["prefix"] == str(path)
    freeze(tmp_path / "other.pb", plain)
    assert "there are 2 checkpoints in this folder: frozen.pb, other.pb" in error(
        shell("inspect", tmp_path)
    )


# ---- values


@pytest.mark.parametrize(
    ("dtype", "values", "expected"),
    [
        (FLOAT, text(4, struct.pack("<3f", 1.5, -2, 3)), [1.5, -2, 3]),  # tensor_content
        (FLOAT, text(5, struct.pack("<3f", 1.5, -2, 3)), [1.5, -2, 3]),  # packed
        (FLOAT, b"".join(fixed32(5, n << 23) for n in (127, 128, 129)), [1, 2, 4]),
        (FLOAT, text(5, struct.pack("<2f", 1.5, -2)), [1.5, -2, -2]),  # repetitions left out
        (FLOAT, text(4, struct.pack("<f", 3)), [3, 3, 3]),
        (FLOAT, b"", [0, 0, 0]),
        (DOUBLE, text(6, struct.pack("<3d", 0.1, 0.2, 0.3)), [0.1, 0.2, 0.3]),
        (DOUBLE, text(6, struct.pack("<d", 0.1)), [0.1, 0.1, 0.1]),
        (HALF, text(13, varint(0x3C00) + varint(0xC000)), [1, -2, -2]),
        (HALF, number(13, 0x3800), [0.5, 0.5, 0.5]),
        (HALF, text(4, struct.pack("<3e", 1, 2, 3)), [1, 2, 3]),
        (BFLOAT16, text(13, varint(0x3F80) + varint(0xC000)), [1, -2, -2]),
        (BFLOAT16, text(4, struct.pack("<3H", 0x3F80, 0xC000, 0x4040)), [1, -2, 3]),
    ],
)
def test_values_are_read_in_every_form(
    tmp_path: Path, dtype: int, values: bytes, expected: list[float]
) -> None:
    path = write(tmp_path / "f.pb", const("w", tensor(dtype, (3,), values)))
    assert open_checkpoint(path).variables["w"].read().tolist() == expected


def test_real_constants_with_an_axis_are_its_variables(tmp_path: Path) -> None:
    one = text(5, struct.pack("<f", 1))
    path = write(
        tmp_path / "f.pb",
        const("a/matrix", tensor(FLOAT, (2, 3), one)),
        const("scalar", tensor(FLOAT, (), one)),
        const("one", tensor(FLOAT, (1,), one)),
        const("whole", tensor(INT32, (2,), number(7, 1))),
        const("empty", tensor(FLOAT, (2, 0), b"")),
        node("x", "Placeholder"),
        node("y", "MatMul", ("x", "a/matrix")),
    )
    ckpt = open_checkpoint(path)
    assert {n: v.shape for n, v in ckpt.variables.items()} == {"a/matrix": (2, 3), "one": (1,)}
    assert ckpt.graph is not None
    assert {n.name: n.op for n in ckpt.graph.nodes.values()} == {
        "a/matrix": "VariableV2", "scalar": "Const", "one": "VariableV2", "whole": "Const",
        "empty": "Const", "x": "Placeholder", "y": "MatMul",
    }  # fmt: skip
    assert ckpt.graph.nodes["a/matrix"].shape() == (2, 3)
    assert [user.name for user, _ in ckpt.graph.uses["a/matrix"]] == ["y"]


@pytest.mark.parametrize(
    ("shape", "values", "kind", "words"),
    [
        ((2,), text(4, bytes(12)), CorruptError, "3 values are stored for the shape"),
        ((2,), text(4, bytes(7)), CorruptError, "7 bytes are stored for values of 4"),
        ((2,), text(5, bytes(7)), CorruptError, "7 bytes are stored for values of 4"),
        ((1 << 40,), text(5, bytes(4)), UnsupportedError, "too many"),
        ((1 << 31, 1 << 31), b"", UnsupportedError, "too many"),
    ],
)
def test_values_that_do_not_fit_their_shape_are_refused(
    tmp_path: Path, shape: tuple[int, ...], values: bytes, kind: type[Exception], words: str
) -> None:
    good = const("good", tensor(FLOAT, (2,), text(4, bytes(8))))
    path = write(tmp_path / "f.pb", const("bad", tensor(FLOAT, shape, values)), good)
    ckpt = open_checkpoint(path)
    with pytest.raises(kind, match=words) as caught:
        ckpt.variables["bad"].read()
    assert str(caught.value).startswith(f"{path}: bad: ")
    assert ckpt.variables["good"].read().tolist() == [0, 0]


def test_repeated_values_have_a_bound(tmp_path: Path) -> None:
    size = limits.MAX_REPEATED_BYTES // 4
    one = text(5, struct.pack("<f", 1))
    path = write(tmp_path / "f.pb", const("w", tensor(FLOAT, (size + 1,), one)))
    with pytest.raises(UnsupportedError):
        open_checkpoint(path).variables["w"].read()


# ---- files


def test_a_cut_at_any_byte_leaves_no_graph_or_a_note(tmp_path: Path) -> None:
    path = tmp_path / "frozen.pb"
    freeze(path, plain)
    content = path.read_bytes()
    for size in (*range(1, len(content), 101), *boundaries(content)):
        path.write_bytes(content[:size])
        try:
            ckpt = open_checkpoint(path)
        except LstmstateError:
            continue
        # The loop itself is complete, and the nodes after it may be missing.
        assert "nothing shows that it is whole" in ckpt.notes[0]
        assert shown(only(ckpt), "forget_bias") == {"forget_bias": 0.3}
    path.write_bytes(content[:-1])
    with pytest.raises(CorruptError, match=r"cut short \(at least 1 byte is missing"):
        open_checkpoint(path)


def boundaries(content: bytes) -> list[int]:
    """Return the ends of all nodes in a GraphDef except the last."""
    from tensorflow.core.framework.graph_pb2 import GraphDef

    graph, ends, size = GraphDef.FromString(content), [], 0
    for one in graph.node:
        size += GraphDef(node=[one]).ByteSize()
        ends.append(size)
    return ends[:-1]


def test_a_subgraph_names_its_missing_nodes(
    tmp_path: Path,
) -> None:
    weight = const("w", tensor(FLOAT, (2,), b""))
    path = write(tmp_path / "f.pb", weight, node("m", "Merge", ("w", "next:1")))
    with pytest.raises(CorruptError, match="m: it takes next:1, which is not in the graph"):
        open_checkpoint(path)
    path = write(tmp_path / "f.pb", weight, node("m", "NoOp", ("^gone",)))
    with pytest.raises(CorruptError, match=r"it takes \^gone"):
        open_checkpoint(path)


def test_a_graph_whose_variables_are_not_frozen_is_refused(shell: Shell, tmp_path: Path) -> None:
    variable = node("v", "VariableV2", shape=text(7, shape_proto((2,))))
    path = write(tmp_path / "graph.pb", variable)
    done = shell("inspect", path, code=3)
    assert error(done) == (
        f"{path}: this graph has no constants that could be weights; pass the checkpoint that "
        "belongs to it"
    )
    some = write(tmp_path / "some.pb", variable, const("w", tensor(FLOAT, (2,), b"")))
    assert notes(shell("inspect", some)) == [
        f"{some}: it has neither versions nor a library at its end: nothing shows that it is whole",
        f"{some}: 1 variable of it not frozen: the values are not here",
    ]


def test_a_frozen_graph_becomes_a_checkpoint(shell: Shell, tmp_path: Path) -> None:
    """Values are copied as for a V1 file: the states are converted."""
    state = text(4, numbers(2, 8).tobytes())
    path = write(tmp_path / "f.pb", const("saved_state", tensor(FLOAT, (2, 8), state)))
    target = tmp_path / "state.npz"
    source = f"{path}:saved_state"
    assert shell("convert", source, "--to-tuple", "--units", "4", "-o", target).code == 0
    assert np.array_equal(np.load(target)["c"], numbers(2, 8)[:, :4])


def test_a_frozen_graph_keeps_its_options_in_a_new_checkpoint(shell: Shell, tmp_path: Path) -> None:
    """Its constants are variables again in the new `.meta`, which TensorFlow imports."""

    def build(tf: TensorFlow) -> Tensor:
        start = tf.get_variable("saved_state", [2, 8])
        cell = tf.nn.rnn_cell.LSTMCell(
            5, True, 0.5, num_proj=3, proj_clip=0.4, forget_bias=0.0, state_is_tuple=False
        )
        cell = tf.nn.rnn_cell.ResidualWrapper(cell)
        return dynamic(tf, cell, inputs(tf, 3, batch=2), initial_state=tf.identity(start))[0]

    source, target = tmp_path / "frozen.pb", tmp_path / "new.ckpt"
    freeze(source, build)
    assert shell("convert", "-q", source, "--to-tuple", "-o", target).code == 0
    x = saved(tmp_path / "x.npy", X[:2])
    for path, ckpt in ((tmp_path / "a.npz", source), (tmp_path / "b.npz", target)):
        assert shell("run", "-q", ckpt, x, "-o", path).code == 0
    with np.load(tmp_path / "a.npz") as a, np.load(tmp_path / "b.npz") as b:
        assert np.array_equal(a["outputs"], b["outputs"])
    old, new = open_checkpoint(str(source)), open_checkpoint(str(target))
    assert only(new).options == only(old).options
    assert only(new).confirm().agrees == only(old).confirm().agrees
    tf = tensorflow()
    with as_in_1_x(tf), new_session(tf) as session:
        tf.train.import_meta_graph(f"{target}.meta")
        nodes = tf.get_default_graph().as_graph_def().node
        variables = [node.name for node in nodes if node.op == "VariableV2"]
        assert sorted(variables) == sorted(old.variables)
        assert session.graph.get_tensor_by_name("rnn/lstm_cell/kernel:0").shape == [6, 20]
