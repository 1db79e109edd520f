"""Truncated, empty or overwritten graph files: a graph is read completely or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import const, meta_graph, node, shape_proto, tensor, text
from builders import number as number_field
from commands import Shell, checkpoint, lstm_cell, notes
from writers import dynamic, only, save, shown

from lstmstate.checkpoint.graph import read_meta, read_saved_model
from lstmstate.errors import CorruptError, UnsupportedError
from lstmstate.model.checkpoint import open_checkpoint

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
