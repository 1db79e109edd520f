"""Frozen graphs: constants read as variables, and runs of their cells."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import (
    BFLOAT16,
    DOUBLE,
    FLOAT,
    HALF,
    INT32,
    const,
    fixed32,
    node,
    number,
    shape_proto,
    tensor,
    text,
    varint,
)
from commands import Shell, error, notes, numbers, saved
from writers import (
    Tensor,
    TensorFlow,
    as_in_1_x,
    dynamic,
    hand_made,
    inputs,
    only,
    shown,
    static,
    tensorflow,
)

from lstmstate import limits
from lstmstate.errors import CorruptError, LstmstateError, UnsupportedError
from lstmstate.model.checkpoint import open_checkpoint

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
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            # Biases start at zero, which would hide mistakes.
            for variable in tf.global_variables():
                variable.load(numbers(*variable.shape, seed=len(variable.name)), session)
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
