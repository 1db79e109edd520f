"""Sums that resemble a new c, in graphs made to be slow or misleading."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import const, fixed32, node, number, tensor, text
from builders import shape_proto as sizes
from test_hostile_graphs import KERAS, opened
from writers import only, shown

from lstmstate.cells import Option


def step() -> list[bytes]:
    """A step of a Keras cell in separate nodes, as bytes."""
    axis = const("axis", tensor(3, [], number(7, 1)))
    cut = [node(f"k{g}", "Identity", [f"parts:{g}"]) for g in range(4)]
    products = [node(f"p{g}", "MatMul", ["x", f"k{g}"]) for g in range(4)]
    return [
        node("lstm/kernel", "VariableV2", shape=text(7, sizes([3, 8]))),
        node("lstm/recurrent_kernel", "VariableV2", shape=text(7, sizes([2, 8]))),
        *(node(name, "Placeholder") for name in ("x", "c")),
        axis,
        node("parts", "Split", ["axis", "lstm/kernel"], num_split=number(3, 4)),
        *cut,
        *products,
        *(node(f"s{g}", "Sigmoid", [f"p{g}"]) for g in (0, 1, 3)),
        node("s2", "Relu", ["p2"]),
        node("kept", "Mul", ["s1", "c"]),
        node("new", "Mul", ["s0", "s2"]),
        node("c_new", "Add", ["kept", "new"]),
        node("act", "Relu", ["c_new"]),
        node("m", "Mul", ["s3", "act"]),
    ]


def test_the_ordinary_graph_of_separate_products_is_read(tmp_path: Path) -> None:
    ckpt = opened(tmp_path, *step(), shapes=KERAS)
    assert shown(only(ckpt), "activation", "recurrent_activation") == {
        "activation": "relu",
        "recurrent_activation": "sigmoid",
    }
    assert ckpt.notes == ()


ONE = const("one", tensor(1, [], fixed32(5, 0x3F800000)))
TANGLES = {
    "gates that are made of themselves": [
        node("s1", "Sigmoid", ["q"]),
        node("q", "Add", ["q", "r"]),
        node("r", "Identity", ["r"]),
    ],
    "a clip that is made of itself": [
        node("s1", "Maximum", ["q", "one"]),
        node("q", "Minimum", ["s1", "one"]),
    ],
    "a sum of itself": [node("kept", "Mul", ["c_new", "c_new"])],
    "a new c that goes nowhere near": [node("act", "Relu", ["act"])],
    "inputs that are not there": [node("s1", "Sigmoid"), node("kept", "Mul", ["s1"])],
    "a Split of nothing": [node("parts", "Split", ["axis"], num_split=number(3, 4))],
}


@pytest.mark.parametrize("nodes", TANGLES.values(), ids=TANGLES.keys())
def test_a_tangled_step_leaves_options_unknown(tmp_path: Path, nodes: list[bytes]) -> None:
    """The last of two nodes with one name counts, so these replace the plain ones."""
    cell = only(opened(tmp_path, *step(), ONE, *nodes, shapes=KERAS))
    assert cell.options["activation"] == Option(None, "unknown")


def test_thousands_of_sums_over_the_same_gates(tmp_path: Path) -> None:
    many = 3000
    wide = [
        node(f"z{g}", "Add", [f"p{g}", "z0" if g else "p0"]) for g in range(4)
    ]  # each gate a sum of sums
    sums = [
        part
        for k in range(many)
        for part in (
            node(f"a{k}", "Mul", ["s1", "c_new"]),
            node(f"b{k}", "Mul", ["s0", "s2"]),
            node(f"d{k}", "Add", [f"a{k}", f"b{k}"]),
        )
    ]
    ckpt = opened(tmp_path, *step(), *wide, *sums, shapes=KERAS)
    cell = only(ckpt)
    assert cell.options["activation"].value in (None, "relu")
    assert all("too tangled" in note for note in ckpt.notes)
