"""Graphs written as text next to a checkpoint: which is read, and when."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from builders import const, node, number, shape_proto, tensor, text
from commands import Shell, error, notes
from writers import dynamic, inputs, only, save, shown, tensorflow

from lstmstate.checkpoint.graph import read_graph_def, read_meta, read_saved_model
from lstmstate.checkpoint.locate import locate
from lstmstate.errors import CorruptError, NotFoundError, UnsupportedError
from lstmstate.model.checkpoint import LSTMCheckpoint, open_checkpoint

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
        for checkpoint in folder.glob("*.ckpt.*"):
            checkpoint.unlink()


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
