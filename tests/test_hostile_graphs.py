"""Graphs made to be slow or misleading: read in bounded work, or ignored with a note."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from builders import const, fixed32, meta_graph, node, number, tensor, text
from builders import shape_proto as sizes
from commands import checkpoint
from work import few_lines, graph_lines

from lstmstate.cells import Option
from lstmstate.model.checkpoint import LSTMCheckpoint, open_checkpoint

FLOAT, INT32 = 1, 3
KERNEL, BIAS = "rnn/lstm_cell/kernel", "rnn/lstm_cell/bias"
FUSED = {KERNEL: (5, 8), BIAS: (8,)}
KERAS = {"lstm/kernel": (3, 8), "lstm/recurrent_kernel": (2, 8)}
ONE = tensor(FLOAT, [], fixed32(5, 0x3F800000))


def variable(name: str, shape: list[int]) -> bytes:
    return node(name, "VariableV2", shape=text(7, sizes(shape)))


def step(forget: str = "one", c: str = "c") -> list[bytes]:
    """One step of a cell; `forget` is added to the forget gate, `c` is the old c."""
    return [
        variable(KERNEL, [5, 8]),
        variable(BIAS, [8]),
        *(node(name, "Placeholder") for name in ("x", "c", "m")),
        const("axis", tensor(INT32, [], number(7, 1))),
        const("one", ONE),
        node("xm", "ConcatV2", ["x", "m", "axis"]),
        node("product", "MatMul", ["xm", KERNEL]),
        node("sum", "BiasAdd", ["product", BIAS]),
        node("gates", "Split", ["axis", "sum"], num_split=number(3, 4)),
        node("f", "Add", ["gates:2", forget]),
        node("sigmoid_f", "Sigmoid", ["f"]),
        node("kept", "Mul", [c, "sigmoid_f"]),
        node("sigmoid_i", "Sigmoid", ["gates"]),
        node("tanh_j", "Tanh", ["gates:1"]),
        node("new", "Mul", ["sigmoid_i", "tanh_j"]),
        node("c_new", "Add", ["kept", "new"]),
        node("tanh_c", "Tanh", ["c_new"]),
        node("sigmoid_o", "Sigmoid", ["gates:3"]),
        node("m_new", "Mul", ["tanh_c", "sigmoid_o"]),
    ]


def opened(
    folder: Path, *nodes: bytes, shapes: Mapping[str, tuple[int, ...]] = FUSED
) -> LSTMCheckpoint:
    """Write a checkpoint of one cell with this graph; open it in bounded work."""
    path = checkpoint(folder / "m", {name: np.zeros(s, "f4") for name, s in shapes.items()})
    Path(f"{path}.meta").write_bytes(meta_graph(*nodes))
    with few_lines(graph_lines(len(nodes))):
        ckpt = open_checkpoint(path)
        assert [cell.num_units for cell in ckpt.cells.values()] == [2]
    return ckpt


def forget_bias(ckpt: LSTMCheckpoint) -> Option:
    (cell,) = ckpt.cells.values()
    return cell.forget_bias


def test_the_ordinary_graph_is_read(tmp_path: Path) -> None:
    assert forget_bias(opened(tmp_path, *step())) == Option(1.0, "graph")


LOOPS = {
    "of one": [node("q", "Add", ["q", "one"])],
    "of two": [node("q", "Add", ["r", "one"]), node("r", "Add", ["q", "one"])],
    "that doubles": [
        node("q", "Add", ["q0", "q0"]),
        *(node(f"q{k}", "Add", [f"q{k + 1}"] * 2) for k in range(60)),
        const("q60", ONE),
    ],
}


@pytest.mark.parametrize("nodes", LOOPS.values(), ids=LOOPS.keys())
def test_cyclic_sums_leave_the_forget_bias_unknown(tmp_path: Path, nodes: list[bytes]) -> None:
    assert forget_bias(opened(tmp_path, *step("q"), *nodes)) == Option(None, "unknown")


@pytest.mark.parametrize("bits", [0x7FC00000, 0x7F800000], ids=["NaN", "Inf"])
def test_nan_is_not_a_forget_bias(tmp_path: Path, bits: int) -> None:
    odd = const("q", tensor(FLOAT, [], fixed32(5, bits)))
    assert forget_bias(opened(tmp_path, *step("q"), odd)) == Option(None, "unknown")


@pytest.mark.parametrize("op", ["Pack", "ExpandDims", "Identity", "Concat"])
def test_a_shape_computed_from_itself(tmp_path: Path, op: str) -> None:
    nodes = [node("zeros", "Fill", ["dims"]), node("dims", op, ["dims", "dims", "dims"])]
    ckpt = opened(tmp_path, *step(c="zeros"), *nodes)
    (cell,) = ckpt.cells.values()
    assert cell.options["batch_size"].value is None


def test_a_tangled_graph_is_ignored_with_a_note(tmp_path: Path) -> None:
    """Thousands of gates in one sum, which is an input of thousands of others."""
    many = 2000
    nodes = [
        *(node(f"g{k}", "Split", ["axis", "sum"], num_split=number(3, 4)) for k in range(many)),
        node("all", "ConcatV2", [f"g{k}" for k in range(many)]),
        node("one_sigmoid", "Sigmoid", ["all"]),
        *(node(f"p{k}", "Mul", ["one_sigmoid", f"g{k}:1"]) for k in range(many)),
    ]
    ckpt = opened(tmp_path, *step(), *nodes)
    assert any("too tangled" in note for note in ckpt.notes)
    assert forget_bias(ckpt) == Option(1.0, "default")


def test_damage_inside_an_attribute_loses_only_the_graph(tmp_path: Path) -> None:
    broken = node("q", "Split", ["axis", "sum"], num_split=b"\x18")
    ckpt = opened(tmp_path, *step(), broken)
    assert any("m.meta" in note and "without the graph" in note for note in ckpt.notes)
