"""The text format of protocol buffers, and graphs written in it."""

from __future__ import annotations

import functools
import math
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import const, node, number, shape_proto, tensor, text
from commands import Shell, checkpoint, error, notes, numbers
from writers import INPUTS, as_in_1_x, dynamic, inputs, only, save, shown, tensorflow

from lstmstate import limits
from lstmstate.checkpoint import text_format
from lstmstate.checkpoint.graph import read_graph_def, read_meta, read_saved_model
from lstmstate.checkpoint.locate import locate
from lstmstate.errors import CorruptError, NotFoundError, UnsupportedError
from lstmstate.model.checkpoint import LSTMCheckpoint, open_checkpoint

# Fields that are not read from a graph, and are removed from the message.
LEFT_OUT = {
    "NodeDef": ("device", "experimental_debug_info", "experimental_type"),
    "FunctionDef": ("attr", "arg_attr", "resource_arg_unique_id", "control_ret"),
    "OpDef": ("attr", "is_stateful", "description", "summary", "control_output"),
    "ArgDef": ("type_attr", "number_attr", "type_list_attr", "description", "handle_data"),
    "VersionDef": ("min_consumer", "bad_consumers"),
    "Dim": ("name",),
    "MetaInfoDef": ("stripped_op_list", "tensorflow_git_version", "stripped_default_attrs"),
    "CollectionDef": ("node_list",),
    "MetaGraphDef": ("saver_def", "signature_def", "object_graph_def"),
}


def protobuf(message: str) -> Any:
    """Return an empty message of TensorFlow's."""
    tensorflow()
    from tensorflow.core.framework import attr_value_pb2, graph_pb2, node_def_pb2, tensor_pb2
    from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

    homes = (attr_value_pb2, graph_pb2, node_def_pb2, tensor_pb2, meta_graph_pb2, saved_model_pb2)
    return next(getattr(home, message)() for home in homes if hasattr(home, message))


def ours(written: str | bytes, message: str) -> Any:
    """Return the message that this program reads from a text."""
    text = written.encode() if isinstance(written, str) else written
    return type(protobuf(message)).FromString(text_format.to_wire(text, message))


def theirs(written: str, message: str) -> Any:
    """Return the message that protobuf reads from a text."""
    from google.protobuf import text_format as theirs

    return theirs.Parse(written, protobuf(message))


def stripped(message: Any) -> Any:
    """Remove the unread fields from a message and its submessages."""
    for name in LEFT_OUT.get(message.DESCRIPTOR.name, ()):
        if name in message.DESCRIPTOR.fields_by_name:
            message.ClearField(name)
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        inside = [value] if hasattr(value, "ListFields") else list(value)
        if field.message_type.GetOptions().map_entry:
            inside = list(value.values()) if field.message_type.fields[1].message_type else []
        for inner in inside:
            stripped(inner)
    return message


# ---- whole graphs


@functools.cache
def written_by_tensorflow(functional: bool) -> tuple[str, str]:
    """Return a graph, and its MetaGraphDef, as TensorFlow writes them as text."""
    from google.protobuf import text_format as theirs

    tf = tensorflow()
    with as_in_1_x(tf, functional):
        dynamic(tf, tf.nn.rnn_cell.LSTMCell(4, num_proj=3, use_peepholes=True, cell_clip=0.5))
        with tf.device("/cpu:0"):
            tf.constant([[float("nan"), float("inf"), -1e-30]], tf.float64, name="numbers")
            tf.constant(['"', "'", "\\", "\n", "café"], name="texts")
            tf.constant([True, False, True], name="answers")
            tf.constant([1.5, 2.5], tf.float16, name="halves")
        graph = tf.get_default_graph().as_graph_def()
        meta = tf.train.export_meta_graph()
    return theirs.MessageToString(graph), theirs.MessageToString(meta)


@pytest.mark.parametrize("functional", [False, True])
def test_a_graph_of_tensorflow_is_the_same_in_both_forms(functional: bool) -> None:
    graph, meta = written_by_tensorflow(functional)
    assert str(ours(graph, "GraphDef")) == str(stripped(theirs(graph, "GraphDef")))
    read = ours(meta, "MetaGraphDef")
    assert str(read) == str(stripped(theirs(meta, "MetaGraphDef")))
    assert read.meta_info_def.tensorflow_version == tensorflow().VERSION
    assert "trainable_variables" in read.collection_def
    assert bool(read.graph_def.library.function) == functional


@pytest.mark.parametrize(
    "layout", ["as_one_line", "use_short_repeated_primitives", "pointy_brackets"]
)
def test_a_graph_is_the_same_in_every_print_style(layout: str) -> None:
    from google.protobuf import text_format as printer

    graph, _ = written_by_tensorflow(False)
    message = theirs(graph, "GraphDef")
    printed = printer.MessageToString(message, **{layout: True})
    assert printed != graph
    assert str(ours(printed, "GraphDef")) == str(stripped(message))


# ---- the grammar


@pytest.mark.parametrize(
    "written",
    [
        'name: "a" op: "b"',
        "name: 'a';op:'b',input:\"c\"",
        'name:"a"# the first\n#the second\n op # between\n: # and\n"b"',
        '''name: "a" 'b'"c"\n  # a comment\n 'd' op: "" ''',
        'input: "a" input: "b"',
        'input: ["a", "b" \'c\'] op: "x"',
        'input: []',
        'attr { key: "k" value { i: 1 } }',
        'attr: { key: "k" value: { i: 1 } }',
        'attr < key: "k" value < i: 1 > >',
        'attr: [{ key: "k" value { i: 1 } }, < key: "j" value < b: true > >]',
        'attr { key: "k" value { list { i: [1, -2, 0x10, 017] f: 1.5 s: "x" b: [true, f] } } }',
        'attr { key: "k" value { func { name: "g" attr { key: "n" value { type: DT_HALF } } } } }',
        'attr { key: "k" value { shape { dim { size: -1 } dim { size: 3 } } } }',
        'attr { key: "k" value { shape { unknown_rank: true } } }',
        'attr { key: "k" value { placeholder: "p" } }',
        "",
        "  \n# nothing\n",
    ],
)  # fmt: skip
def test_every_form_that_a_text_can_have(written: str) -> None:
    expected = theirs(written, "NodeDef")
    for value in expected.attr.values():
        value.ClearField("placeholder")
    assert ours(written, "NodeDef") == expected


@pytest.mark.parametrize(
    "escaped",
    [r"\a\b\f\n\r\t\v", r"\\\'\"\?", r"\0\7\12\012\377", r"\x1\x41\XfF", r"\u00e9\U0001F600",
     r"\101B\x41B", "caf\u00e9", r"ends in a backslash \\", r"\\\" and a quote"],
)  # fmt: skip
@pytest.mark.parametrize("quote", ['"', "'"])
def test_escapes(escaped: str, quote: str) -> None:
    # protobuf's reader in Python rejects \X and \?, which are in the format.
    plain = escaped.replace(r"\X", r"\x").replace(r"\?", "?")
    expected = theirs(f"tensor_content: {quote}{plain}{quote}", "TensorProto")
    found = ours(f"tensor_content: {quote}{escaped}{quote}", "TensorProto")
    assert found.tensor_content == expected.tensor_content != b""


def test_every_byte_is_kept_in_a_string() -> None:
    from google.protobuf import text_format as printer

    message = protobuf("TensorProto")
    message.tensor_content = bytes(range(256)) * 2 + b'\\"\\\\"'
    printed = printer.MessageToString(message)
    assert ours(printed, "TensorProto").tensor_content == message.tensor_content


@pytest.mark.parametrize(
    "written",
    ["0", "1", "-1", "1.5", "-.5", "1.", "1e10", "1E-3", "2.5e+2f", "3f", "3F", "inf", "-inf",
     "Infinity", "1e300", "-1e300", "0.1", "1.17549435e-38", "1e-45", "0.0", "-0.0"],
)  # fmt: skip
@pytest.mark.parametrize("field", ["float_val", "double_val"])
def test_real_numbers(written: str, field: str) -> None:
    expected = getattr(theirs(f"{field}: {written}", "TensorProto"), field)
    found = getattr(ours(f"{field}: {written}", "TensorProto"), field)
    assert struct.pack("<d", *found) == struct.pack("<d", *expected)


def test_nan_and_infinity_are_numbers() -> None:
    for written in ("nan", "NaN", "-nan"):
        (found,) = ours(f"float_val: {written}", "TensorProto").float_val
        assert math.isnan(found)


WHOLE = ["0", "-1", "0x7fffffff", "-0x10", "0777", str(-(1 << 63)), str((1 << 63) - 1)]
ANSWERS = ["true", "false", "True", "False", "t", "f", "1", "0"]


@pytest.mark.parametrize(
    "written",
    [*(f"i: {number}" for number in WHOLE), *(f"b: {answer}" for answer in ANSWERS)],
)
def test_whole_numbers_and_answers(written: str) -> None:
    assert ours(written, "AttrValue") == theirs(written, "AttrValue")


def test_a_number_may_have_a_separate_sign_or_none() -> None:
    assert ours("i: - 5", "AttrValue").i == -5
    assert ours("f: -\n5", "AttrValue").f == ours("f: - 5.", "AttrValue").f == -5
    assert list(ours(f"uint64_val: {(1 << 64) - 1}", "TensorProto").uint64_val) == [(1 << 64) - 1]


def test_types_by_name_and_by_number() -> None:
    tensorflow()
    from tensorflow.core.framework import types_pb2

    for code in (*range(1, 24), *range(101, 124)):
        name = types_pb2.DataType.Name(code)
        assert ours(f"type: {name}", "AttrValue").type == code
        assert ours(f"type: {code}", "AttrValue").type == code
    assert text_format.to_wire(b"type: DT_OF_TOMORROW", "AttrValue") == b"\x30\x00"  # no type


@pytest.mark.parametrize(
    "unknown",
    ['device: "x"', "device: ['a', 'b']", "deep { deeper < deepest: [1, -inf, DT_X] > }",
     "list: [{a: 1}, {}]", "[type.googleapis.com/a.B-c] { x: 1 }", "[my.extension]: 3", "x: -nan"],
)  # fmt: skip
def test_unread_fields_are_skipped(unknown: str) -> None:
    assert ours(f'name: "a" {unknown} op: "b"', "NodeDef") == ours('name: "a" op: "b"', "NodeDef")


# ---- refusals


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ('name "a"', "expected a colon, got a string of 1 bytes"),
        ("name: a", "expected a quoted string, got a"),
        ("name: 3", "expected a quoted string, got 3"),
        ("name {}", "expected a value"),
        ('attr: "a"', "expected a message, got a string"),
        ('attr { key: "a"', "ends where the name of a field was expected: it is cut short"),
        ("attr {", "cut short"),
        ("attr", "cut short"),
        ("name:", "cut short"),
        ("input: [", "cut short"),
        ('input: ["a" ', "cut short"),
        ('name: "a', "a string does not end"),
        ('name: "a\n"', "a string does not end"),
        ('name: "a\\"', "a string does not end"),
        ('name: "a\\\n"', "a string does not end"),
        ("}", "expected the name of a field, got }"),
        ("attr { >", "expected the name of a field, got >"),
        ("attr < }", "expected the name of a field, got }"),
        ('"a"', "expected the name of a field, got a string"),
        ("3: 4", "expected the name of a field, got 3"),
        ('input: ["a" op', "expected a comma or ], got op"),
        ('input: [["a"]]', "expected a value"),
        ("[a.b", "the name of an extension does not end"),
        ("name: \x01", "a character outside the format"),
        ("name: +1", "a character outside the format"),
        ('attr { value { i: 1 } key: "k" }', "does not begin with its key"),
        ("attr { value { i: 1 } }", "does not begin with its key"),
    ],
)  # fmt: skip
def test_syntax_errors_are_refused_with_their_line(written: str, words: str) -> None:
    with pytest.raises(CorruptError) as caught:
        text_format.to_wire(b"\n\n" + written.encode(), "NodeDef")
    assert words in str(caught.value)
    assert str(caught.value).startswith(("line 3: ", "line 4: "))


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("i", ["1.5", "x", '"1"', "08", "0xg", str(1 << 64), str(-(1 << 63) - 1), "1e3", "-inf"]),
        ("f", ["x", '"1"', "0x10", "010", "1e", "1.2.3", "1ff", "--1", "-x", "."]),
        ("b", ["2", "yes", '"true"', "-1"]),
        ("type", ["FLOAT", '"DT_FLOAT"', "1.5"]),
    ],
)
def test_values_of_another_kind_are_refused(field: str, values: list[str]) -> None:
    for value in values:
        with pytest.raises(CorruptError, match="line 1: "):
            text_format.to_wire(f"{field}: {value}".encode(), "AttrValue")


def nested(depth: int) -> bytes:
    """A message with others inside one another."""
    return b"a {" * depth + b"}" * depth


def test_nested_messages_have_a_limit() -> None:
    assert text_format.to_wire(nested(limits.MAX_TEXT_DEPTH), "NodeDef") == b""
    with pytest.raises(CorruptError, match="more than 100 messages inside one another"):
        text_format.to_wire(nested(limits.MAX_TEXT_DEPTH + 1), "NodeDef")


# Megabytes each: work that grows faster than the text would not finish here.
MANY = 3_000_000


@pytest.mark.parametrize(
    "written",
    [
        b"{" * MANY,
        b"node {" * (MANY // 6),
        b'node { attr { key: "k" value { func {' * (MANY // 37),
        b'node { name: "' + b"a" * MANY,
        b'node { name: "' + b"\\x" * (MANY // 2),
        b'node { name: "' + b"\\\\" * (MANY // 2),
        b"version: " + b"1" * MANY,
        b"version: -" + b" " * MANY + b"}",
        b"version: 1e" + b"+" * MANY,
        b"version: ." + b"." * MANY,
        b" " * MANY + b"\x01",
        b"#" * MANY + b"\n}",
        b"a" * MANY,
        b"[" * MANY,
        b"[" + b"a." * (MANY // 2),
        b"-" * MANY,
        b"'" * MANY,
        b"x: [" * (MANY // 4),
    ],
    ids=lambda written: written[:20].decode(),
)
def test_hostile_texts_are_refused(written: bytes) -> None:
    with pytest.raises(CorruptError):
        text_format.to_wire(written, "GraphDef")


def test_the_first_field_shows_the_message() -> None:
    first = {
        b"node {": "GraphDef",
        b"\n\n# comment { node\n  node{": "GraphDef",
        b"versions {": "GraphDef",
        b"meta_info_def <": "MetaGraphDef",
        b"graph_def : {": "MetaGraphDef",
        b"saved_model_schema_version: 1": "SavedModel",
        b"version https://git-lfs.github.com/spec/v1": None,
        b"node": None,
        b"loss: 3": None,
        b'model_checkpoint_path: "m"': None,
        b"": None,
    }
    assert {start: text_format.message_of(start) for start in first} == first


# ---- graphs written as text next to a checkpoint: which is read, and when


OF_FOLDER = "this is the graph of the folder, for the checkpoint has no .meta of its own"
OPTIONS = {"forget_bias": 0.3, "cell_clip": 0.7, "activation": "relu", "state_is_tuple": True}


def estimator(folder: Path, *, meta: bool = False, units: int = 5) -> str:
    """Save a cell with its own options, and the graph of the folder as text."""

    def build(tf: object) -> None:
        activation, x = tensorflow().nn.relu, inputs(tensorflow())
        cell = tensorflow().nn.rnn_cell.LSTMCell(
            units, forget_bias=0.3, cell_clip=0.7, activation=activation
        )
        dynamic(tensorflow(), cell, x)
        tensorflow().train.write_graph(
            tensorflow().get_default_graph(), str(folder), "graph.pbtxt", as_text=True
        )

    return save(folder, build, graph=meta)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint and graph.pbtxt, as written by an Estimator."""
    folder = tmp_path_factory.mktemp("estimator")
    estimator(folder)
    return folder


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    """A copy of it, to change."""
    return Path(shutil.copytree(written, tmp_path / "model"))


def options(ckpt: LSTMCheckpoint) -> dict[str, object]:
    """Return the options of the only cell that the graph shows."""
    return shown(only(ckpt), *OPTIONS)


def add_state(prefix: Path) -> None:
    """Add a state of two rows to the checkpoint."""
    with open_checkpoint(str(prefix)) as ckpt:
        values = {name: variable.read() for name, variable in ckpt.variables.items()}
    checkpoint(prefix, {**values, "saved_state": numbers(2, 10)})


def test_a_rewritten_checkpoint_keeps_the_graph_of_the_folder(
    shell: Shell, folder: Path, tmp_path: Path
) -> None:
    """As a `.meta` in text, which TensorFlow and this package read."""
    from tensorflow.python.framework import meta_graph

    add_state(folder / "model.ckpt")
    target = tmp_path / "new.ckpt"
    done = shell("convert", folder, "--to-tuple", "-o", target, code=0)
    assert "options of the cells are lost" not in done.err
    ckpt = open_checkpoint(str(target))
    assert options(ckpt) == OPTIONS
    assert ckpt.notes == ()
    nodes = read_graph_def(str(folder / "graph.pbtxt")).nodes
    meta = meta_graph.read_meta_graph_file(f"{target}.meta")
    assert {one.name for one in meta.graph_def.node} == {*nodes}
    np.save(tmp_path / "x.npy", np.ones((2, 4, INPUTS), "f4"))
    for place, path in (("a", folder), ("b", target)):
        shell("run", path, tmp_path / "x.npy", "-o", tmp_path / f"{place}.npz", "-q", code=0)
    assert shell("diff", "--exact", tmp_path / "a.npz", tmp_path / "b.npz").code == 0


def test_the_graph_of_another_model_is_not_kept(shell: Shell, folder: Path, tmp_path: Path) -> None:
    add_state(folder / "model.ckpt")
    other = tmp_path / "other"
    estimator(other, units=6)
    shutil.copy(other / "graph.pbtxt", folder)
    done = shell("convert", folder, "--to-tuple", "-o", tmp_path / "new.ckpt", code=0)
    assert "the options of the cells are lost" in notes(done)[-1]
    assert not (tmp_path / "new.ckpt.meta").exists()


# ---- next to a checkpoint


def test_the_graph_of_the_folder_is_read_without_a_meta_file(folder: Path) -> None:
    ckpt = open_checkpoint(str(folder / "model.ckpt"))
    assert options(ckpt) == OPTIONS
    assert ckpt.notes == (f"{folder / 'graph.pbtxt'}: {OF_FOLDER}",)
    assert ckpt.graph_damage is None


def test_the_meta_file_of_the_checkpoint_is_preferred(tmp_path: Path) -> None:
    prefix = estimator(tmp_path, meta=True)
    (tmp_path / "graph.pbtxt").write_text("not read", encoding="utf-8")
    ckpt = open_checkpoint(prefix)
    assert ckpt.files.location.graph == f"{prefix}.meta"
    assert options(ckpt) == OPTIONS
    assert ckpt.notes == ()


def test_the_json_has_the_path_of_the_graph(shell: Shell, folder: Path) -> None:
    document = shell.json("inspect", folder)
    assert document["meta"] == str(folder / "graph.pbtxt")
    assert document["graph_damage"] is None
    assert document["cells"][0]["forget_bias"] == {"value": 0.3, "source": "graph"}
    assert notes(shell("inspect", folder)) == [f"{folder / 'graph.pbtxt'}: {OF_FOLDER}"]


def test_a_binary_graph_of_the_folder_is_read_too(folder: Path) -> None:
    from google.protobuf import text_format
    from tensorflow.core.framework.graph_pb2 import GraphDef

    path = folder / "graph.pbtxt"
    graph = text_format.Parse(path.read_text(encoding="utf-8"), GraphDef())
    path.write_bytes(graph.SerializeToString())
    assert options(open_checkpoint(str(folder))) == OPTIONS


def test_the_graph_of_another_model_is_not_read(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    estimator(other, units=6)
    shutil.copy(other / "graph.pbtxt", folder)
    ckpt = open_checkpoint(str(folder))
    assert only(ckpt).options["forget_bias"].source == "default"
    assert ckpt.notes[1:] == (
        f"{folder / 'graph.pbtxt'}: rnn/lstm_cell/bias is [24] there, and [20] in the "
        "checkpoint: it is the graph of another model; going on without the graph",
    )


# ---- as the path argument


@pytest.mark.parametrize("name", ["graph.pbtxt", "train.pbtxt"])
def test_a_graph_leads_to_the_one_checkpoint_next_to_it(folder: Path, name: str) -> None:
    path = folder / name
    (folder / "graph.pbtxt").rename(path)
    ckpt = open_checkpoint(str(path))
    assert ckpt.prefix == str(folder / "model.ckpt")
    assert ckpt.files.location.graph == str(path)
    assert options(ckpt) == OPTIONS


def test_a_graph_next_to_none_or_several_checkpoints_leads_to_none(
    shell: Shell, folder: Path
) -> None:
    path = folder / "graph.pbtxt"
    for end in ("index", "data-00000-of-00001"):
        shutil.copy(folder / f"model.ckpt.{end}", folder / f"other.ckpt.{end}")
    for _ in range(2):
        done = shell("inspect", path, code=3)
        assert error(done) == (
            f"{path}: expected a state or a TensorFlow checkpoint, got a graph as text; "
            "pass the checkpoint next to it"
        )
        for part in folder.glob("*.ckpt.*"):
            part.unlink()


def test_a_meta_file_as_text_leads_to_no_other_checkpoint(folder: Path) -> None:
    shutil.copy(folder / "graph.pbtxt", folder / "gone.meta")
    with pytest.raises(NotFoundError, match="only the graph is here"):
        locate(str(folder / "gone.meta"))


# ---- other files with a graph


def test_a_meta_file_as_text_equals_a_binary_one(tmp_path: Path) -> None:
    from google.protobuf import text_format
    from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef

    path = Path(f"{estimator(tmp_path, meta=True)}.meta")
    expected = read_meta(str(path))
    printed = text_format.MessageToString(MetaGraphDef.FromString(path.read_bytes()))
    path.write_text(printed, encoding="utf-8")
    read = read_meta(str(path))
    assert read.tensorflow_version == expected.tensorflow_version == tensorflow().VERSION
    assert read.producer == expected.producer > 0
    assert read.trainable == expected.trainable == {"rnn/lstm_cell/kernel", "rnn/lstm_cell/bias"}
    assert {name: (n.op, n.inputs) for name, n in read.nodes.items()} == {
        name: (n.op, n.inputs) for name, n in expected.nodes.items()
    }
    assert options(open_checkpoint(str(tmp_path))) == OPTIONS


def test_a_saved_model_as_text(tmp_path: Path, samples: Path) -> None:
    from google.protobuf import text_format
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    model = Path(shutil.copytree(samples / "saved_model", tmp_path / "model"))
    expected = open_checkpoint(str(model))
    binary = model / "saved_model.pb"
    message = SavedModel.FromString(binary.read_bytes())
    text_form = text_format.MessageToString(message)
    (model / "saved_model.pbtxt").write_text(text_form, encoding="utf-8")
    found = {name: cell.options for name, cell in expected.cells.items()}
    binary.unlink()
    ckpt = open_checkpoint(str(model))
    assert ckpt.files.location.graph == str(model / "saved_model.pbtxt")
    assert {name: cell.options for name, cell in ckpt.cells.items()} == found
    assert ckpt.tensorflow_version == expected.tensorflow_version
    assert ckpt.notes == ()


def test_functions_in_a_text_are_inlined(tmp_path: Path) -> None:
    def build(tf: object) -> None:
        dynamic(tensorflow(), tensorflow().nn.rnn_cell.LSTMCell(4, forget_bias=0.25))
        tensorflow().train.write_graph(
            tensorflow().get_default_graph(), str(tmp_path), "graph.pbtxt", as_text=True
        )

    save(tmp_path, build, graph=False, functional=True)
    assert "library {" in (tmp_path / "graph.pbtxt").read_text(encoding="utf-8")
    assert shown(only(open_checkpoint(str(tmp_path))), "forget_bias") == {"forget_bias": 0.25}


# ---- damage


def test_a_truncated_text_graph_is_not_read(folder: Path) -> None:
    """Truncated anywhere: at the end of a node it looks complete, except for the versions."""
    path = folder / "graph.pbtxt"
    whole = path.read_text(encoding="utf-8")
    lines = whole.splitlines(keepends=True)
    ends = [n for n, line in enumerate(lines, 1) if line == "}\n"]
    assert len(ends) > 50
    for count in (*ends[:-1], *range(1, len(lines) - 4, 97)):
        path.write_text("".join(lines[:count]), encoding="utf-8")
        with pytest.raises(CorruptError, match="cut short"):
            read_graph_def(str(path))
    ckpt = open_checkpoint(str(folder))
    assert only(ckpt).options["forget_bias"].source == "default"
    assert ckpt.graph_damage is not None
    assert ckpt.notes[-1].endswith("going on without the graph")
    path.write_text(whole, encoding="utf-8")
    assert options(open_checkpoint(str(folder))) == OPTIONS


@pytest.mark.parametrize(
    ("content", "kind", "words"),
    [
        (b"", CorruptError, "the graph file is empty"),
        (b"node {" * 1_000_000, CorruptError, "line 1: it has more than 100 messages"),
        (b'node { name: "a', CorruptError, "line 1: a string does not end"),
        (b"versions { producer: 9 }", UnsupportedError, "it has no graph"),
        (b"version https://git-lfs.github.com/spec/v1\n", UnsupportedError, "git lfs pull"),
        (b"node {" + b"#" * (65 << 20), UnsupportedError, "is larger than 67108864"),
    ],
)
def test_files_without_a_graph_are_refused(
    tmp_path: Path, content: bytes, kind: type[Exception], words: str
) -> None:
    path = tmp_path / "graph.pbtxt"
    path.write_bytes(content)
    for read in (read_graph_def, read_meta, read_saved_model):
        with pytest.raises(kind, match=words):
            read(str(path))


@pytest.mark.parametrize("content", [b"loss: 3\n", b"{" * 10_000_000])
def test_another_text_is_not_a_graph(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "graph.pbtxt"
    path.write_bytes(content)
    with pytest.raises(CorruptError, match="expected a graph in the graph file, got another text"):
        read_graph_def(str(path))
    for read in (read_meta, read_saved_model):
        with pytest.raises(CorruptError, match="the graph file is damaged"):
            read(str(path))


def test_the_first_field_shows_the_message_of_a_text(tmp_path: Path) -> None:
    """Under any file name, since graphs are exported under many."""
    path = tmp_path / "m.meta"
    graph = 'node { name: "a" op: "NoOp" } versions { producer: 24 }'
    forms = {
        graph: 24,
        f"graph_def {{ {graph} }}": 24,
        f"saved_model_schema_version: 1 meta_graphs {{ graph_def {{ {graph} }} }}": 24,
        graph.replace("versions { producer: 24 }", "version: 4"): 0,
    }
    for form, producer in forms.items():
        path.write_text(form, encoding="utf-8")
        read = read_meta(str(path))
        assert (list(read.nodes), read.producer) == (["a"], producer)


def test_a_binary_graph_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "graph.pbtxt"
    weight = node("v", "VariableV2", shape=text(7, shape_proto((3,))))
    nodes = weight + const("c", tensor(1, (), text(5, bytes(4))))
    path.write_bytes(nodes)
    with pytest.raises(CorruptError, match="it has no versions"):
        read_graph_def(str(path))
    path.write_bytes(nodes + text(4, number(1, 24)))
    assert read_graph_def(str(path)).nodes["v"].shape() == (3,)
