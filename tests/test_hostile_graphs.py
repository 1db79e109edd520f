"""Graphs made to be slow or misleading: read in bounded work, or ignored with a note."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from builders import BundleBuilder, const, fixed32, meta_graph, node, number, tensor, text
from builders import shape_proto as sizes
from commands import checkpoint
from work import few_lines, graph_lines
from writers import only, shown

import lstmstate
from lstmstate.cells import Option
from lstmstate.cells.from_graph.alike_steps import Places, StepKind
from lstmstate.cells.from_graph.gates import read_split_step
from lstmstate.cells.from_graph.graph_cell import GraphCell, GraphStep
from lstmstate.cells.from_graph.step_walk import StepWalk
from lstmstate.checkpoint.graph import Graph
from lstmstate.checkpoint.graph_node import Node
from lstmstate.model.checkpoint import LSTMCheckpoint, open_checkpoint
from lstmstate.recurrence.find_networks import last_ones
from lstmstate.recurrence.graph_network import Recurrence

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
    """A thousand gates in one sum, which is an input of a thousand others."""
    many = 1000
    nodes = [
        *(node(f"g{k}", "Split", ["axis", "sum"], num_split=number(3, 4)) for k in range(many)),
        node("all", "ConcatV2", [f"g{k}" for k in range(many)]),
        node("one_sigmoid", "Sigmoid", ["all"]),
        *(node(f"p{k}", "Mul", ["one_sigmoid", f"g{k}:1"]) for k in range(many)),
    ]
    ckpt = opened(tmp_path, *step(), *nodes)
    assert any("too tangled" in note for note in ckpt.notes)
    assert forget_bias(ckpt) == Option(1.0, "default")


@pytest.mark.parametrize("inputs", [["sum"], ["sum", "^x"], []])
@pytest.mark.parametrize("op", ["Mul", "Add", "BiasAdd", "MatMul", "Select", "ClipByValue"])
def test_an_operation_without_its_inputs_loses_only_the_graph(
    tmp_path: Path, op: str, inputs: list[str]
) -> None:
    nodes = [*step(), node("more", op, inputs), node("gates", "Split", ["axis", "more"])]
    ckpt = opened(tmp_path, *nodes)
    assert any("inputs of more" in note and "without the graph" in note for note in ckpt.notes)
    assert forget_bias(ckpt) == Option(1.0, "default")


@pytest.mark.parametrize("missing", ["nobody", "nobody:1", "^nobody"])
def test_an_input_that_no_operation_gives_loses_only_the_graph(
    tmp_path: Path, missing: str
) -> None:
    nodes = [*step(), node("more", "Mul", ["sum", "sum", missing])]
    ckpt = opened(tmp_path, *nodes)
    assert any(f"it takes {missing}" in note and "without the graph" in note for note in ckpt.notes)
    assert forget_bias(ckpt) == Option(1.0, "default")


def test_damage_inside_an_attribute_loses_only_the_graph(tmp_path: Path) -> None:
    broken = node("q", "Split", ["axis", "sum"], num_split=b"\x18")
    ckpt = opened(tmp_path, *step(), broken)
    assert any("m.meta" in note and "without the graph" in note for note in ckpt.notes)


# ---- sums that resemble a new c, in graphs made to be slow or misleading


def keras_step() -> list[bytes]:
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
    ckpt = opened(tmp_path, *keras_step(), shapes=KERAS)
    assert shown(only(ckpt), "activation", "recurrent_activation") == {
        "activation": "relu",
        "recurrent_activation": "sigmoid",
    }
    assert ckpt.notes == ()


ONE_NODE = const("one", tensor(1, [], fixed32(5, 0x3F800000)))
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
    cell = only(opened(tmp_path, *keras_step(), ONE_NODE, *nodes, shapes=KERAS))
    assert cell.options["activation"] == Option(None, "unknown")


def test_thousands_of_sums_over_the_same_gates(tmp_path: Path) -> None:
    many = 1000
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
    ckpt = opened(tmp_path, *keras_step(), *wide, *sums, shapes=KERAS)
    cell = only(ckpt)
    assert cell.options["activation"].value in (None, "relu")
    assert all("too tangled" in note for note in ckpt.notes)


# ---- very large graphs: the work grows no faster than the graph


INPUTS, UNITS = 3, 2
# Twice the graph takes twice the lines, plus the work done once for any graph.
MOST_GROWTH = 2.2


def placeholder(name: str, *shape: int) -> bytes:
    return node(name, "Placeholder", dtype=number(6, FLOAT), shape=text(7, sizes(shape)))


def shared() -> list[bytes]:
    """The weights and constants of all steps."""
    return [
        node(KERNEL, "VariableV2", shape=text(7, sizes([INPUTS + UNITS, 4 * UNITS]))),
        node(BIAS, "VariableV2", shape=text(7, sizes([4 * UNITS]))),
        const("axis", tensor(INT32, [], number(7, 1))),
    ]


def step_at(at: str, x: str, c: str, m: str) -> list[bytes]:
    """One step of a cell, followed by operations that are never run, such as gradients."""
    return [
        node(f"{at}/xm", "ConcatV2", [x, m, "axis"]),
        node(f"{at}/product", "MatMul", [f"{at}/xm", KERNEL]),
        node(f"{at}/sum", "BiasAdd", [f"{at}/product", BIAS]),
        node(f"{at}/gates", "Split", ["axis", f"{at}/sum"], num_split=number(3, 4)),
        const(f"{at}/one", tensor(FLOAT, [], fixed32(5, 0x3F800000))),
        node(f"{at}/f", "Add", [f"{at}/gates:2", f"{at}/one"]),
        node(f"{at}/sigmoid_f", "Sigmoid", [f"{at}/f"]),
        node(f"{at}/kept", "Mul", [c, f"{at}/sigmoid_f"]),
        node(f"{at}/sigmoid_i", "Sigmoid", [f"{at}/gates"]),
        node(f"{at}/tanh_j", "Tanh", [f"{at}/gates:1"]),
        node(f"{at}/new", "Mul", [f"{at}/sigmoid_i", f"{at}/tanh_j"]),
        node(f"{at}/c", "Add", [f"{at}/kept", f"{at}/new"]),
        node(f"{at}/tanh_c", "Tanh", [f"{at}/c"]),
        node(f"{at}/sigmoid_o", "Sigmoid", [f"{at}/gates:3"]),
        node(f"{at}/m", "Mul", [f"{at}/tanh_c", f"{at}/sigmoid_o"]),
        *(
            node(f"{at}/gradient_{name}", op, [f"{at}/{name}", f"{at}/{name}"])
            for name, op in (("sigmoid_o", "SigmoidGrad"), ("tanh_c", "TanhGrad"), ("m", "Mul"))
        ),
    ]


def unrolled(steps: int) -> list[bytes]:
    """One cell over many steps, whose outputs are read by one operation."""
    nodes = [*shared(), placeholder("x", -1, steps, INPUTS)]
    nodes += [placeholder(name, -1, UNITS) for name in ("c", "m")]
    nodes += [node("xs", "Unpack", ["x"], num=number(3, steps), axis=number(3, 1))]
    c, m = "c", "m"
    for at in range(steps):
        nodes += step_at(f"step_{at}", f"xs:{at}", c, m)
        c, m = f"step_{at}/c", f"step_{at}/m"
    outputs = [f"step_{at}/m" for at in range(steps)]
    return [*nodes, node("outputs", "Pack", outputs, axis=number(3, 1))]


def summed(steps: int) -> list[bytes]:
    """One cell over many steps, with a sum of its outputs and the gradient."""
    outputs = [f"step_{at}/m" for at in range(steps)]
    products = [f"product_{at}" for at in range(steps)]
    return [
        *unrolled(steps),
        node("sum", "AddN", outputs),
        *(
            node(product, "MatMul", [m, "sum"], transpose_a=number(5, 1))
            for product, m in zip(products, outputs, strict=True)
        ),
        node("gradient", "AddN", products),
    ]


def mixed(steps: int) -> list[bytes]:
    """One cell over many steps with zoneout on c."""
    nodes = [*unrolled(1), node("xs", "Unpack", ["x"], num=number(3, steps), axis=number(3, 1))]
    nodes += [const("new", tensor(FLOAT, [], fixed32(5, 0x3F000000)))]
    c, m = "step_0/c", "step_0/m"
    for at in range(1, steps):
        nodes += step_at(f"step_{at}", f"xs:{at}", c, m)
        nodes += [
            node(f"step_{at}/old", "Mul", [c, "new"]),
            node(f"step_{at}/half", "Mul", [f"step_{at}/c", "new"]),
            node(f"step_{at}/mixed", "Add", [f"step_{at}/half", f"step_{at}/old"]),
        ]
        c, m = f"step_{at}/mixed", f"step_{at}/m"
    return nodes


def apart(uses: int) -> list[bytes]:
    """One cell in many places, each a separate step, all from the same state."""
    nodes = [*shared(), *(placeholder(name, -1, UNITS) for name in ("c", "m"))]
    for at in range(uses):
        nodes += [placeholder(f"x_{at}", -1, 1, INPUTS)]
        nodes += [node(f"xs_{at}", "Unpack", [f"x_{at}"], num=number(3, 1), axis=number(3, 1))]
        nodes += step_at(f"step_{at}", f"xs_{at}", "c", "m")
    return nodes


def behind(count: int) -> list[bytes]:
    """One step, and a long chain of operations after it."""
    nodes = [*unrolled(1), node("chain_0", "Tanh", ["step_0/m"])]
    return nodes + [node(f"chain_{at}", "Tanh", [f"chain_{at - 1}"]) for at in range(1, count)]


def fan(count: int) -> list[bytes]:
    """One step, whose weights, gates and states are read by very many operations."""
    taken = (KERNEL, "step_0/gates:2", "step_0/c", "step_0/m")
    users = [
        node(f"user_{at}", "HistogramSummary", [taken[at % len(taken)]]) for at in range(count)
    ]
    return [*unrolled(1), *users]


def written(folder: Path, nodes: list[bytes]) -> str:
    random = np.random.default_rng(1)
    bundle = BundleBuilder()
    bundle.add(KERNEL, random.standard_normal((INPUTS + UNITS, 4 * UNITS)).astype(np.float32))
    bundle.add(BIAS, random.standard_normal(4 * UNITS).astype(np.float32))
    path = bundle.write(folder / "m")
    Path(f"{path}.meta").write_bytes(meta_graph(*nodes, producer=100))
    return path


def recognised(ckpt: LSTMCheckpoint) -> None:
    assert [cell.num_units for cell in ckpt.cells.values()] == [UNITS]
    assert ckpt.states == {}


def with_networks(ckpt: LSTMCheckpoint) -> None:
    recognised(ckpt)
    assert ckpt.model is not None
    assert ckpt.model.networks, ckpt.model.refused


def confirmed(ckpt: LSTMCheckpoint) -> None:
    assert ckpt.network().load().confirmed


@pytest.mark.parametrize(
    ("graph", "few", "work"),
    [
        (unrolled, 40, recognised),
        (summed, 120, recognised),
        (mixed, 40, recognised),
        (unrolled, 40, with_networks),
        (unrolled, 20, confirmed),
        (apart, 30, recognised),
        (apart, 20, with_networks),
        (behind, 1500, with_networks),
        (fan, 1500, with_networks),
    ],
)
def test_twice_the_graph_takes_twice_the_work(
    graph: Callable[[int], list[bytes]],
    few: int,
    work: Callable[[LSTMCheckpoint], None],
    tmp_path: Path,
) -> None:
    def lines(size: int) -> int:
        (folder := tmp_path / str(size)).mkdir()
        path = written(folder, graph(size))
        with few_lines() as found:
            work(lstmstate.open_checkpoint(path))
        return found.count

    lines(few // 2)  # computed once for all graphs
    assert lines(2 * few) < MOST_GROWTH * lines(few)


@pytest.mark.parametrize("graph", [unrolled, summed, mixed, apart])
def test_equal_steps_are_read_once(
    graph: Callable[[int], list[bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first steps and the last differ from those between them."""
    read: list[str] = []

    def found(graph: Graph, split: Node) -> GraphCell | None:
        read.append(split.name)
        return read_split_step(graph, split)

    def explained(walk: StepWalk, step_at: GraphStep) -> None:
        read.append(step_at.c_new.name)
        walked(walk, step_at)

    walked = StepWalk.through
    monkeypatch.setattr("lstmstate.cells.from_graph.find_cells.read_split_step", found)
    monkeypatch.setattr(StepWalk, "through", explained)
    recognised(lstmstate.open_checkpoint(written(tmp_path, graph(60))))
    assert 2 <= len(read) <= 8, read


def test_distinct_steps_are_compared_in_bounded_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = unrolled(80)
    for at in range(80):  # each goes through one activation more than the one before
        before = [f"step_{at}/gates:1", *(f"step_{at}/more_{more}" for more in range(at))]
        nodes += [
            node(f"step_{at}/more_{more}", "Identity", [name]) for more, name in enumerate(before)
        ]
        nodes += [node(f"step_{at}/tanh_j", "Tanh", [f"step_{at}/more_{at}"])]
    monkeypatch.setattr("lstmstate.cells.from_graph.alike_steps._PATIENCE", 100)
    tried: list[str] = []

    def at(kind: StepKind[object], graph: Graph, start: Node) -> Places | None:
        tried.append(start.name)
        return compared(kind, graph, start)

    compared = StepKind.at
    monkeypatch.setattr(StepKind, "at", at)
    recognised(lstmstate.open_checkpoint(written(tmp_path, nodes)))
    assert 100 < len(tried) < 1000


def test_a_cell_of_many_steps_gives_the_values_of_its_graph(tmp_path: Path) -> None:
    network = lstmstate.open_checkpoint(written(tmp_path, unrolled(90))).network()
    x = np.random.default_rng(0).standard_normal((4, 90, INPUTS))
    ours, _ = network.run(x)
    theirs, _ = network.run(x, engine="graph")
    assert network.load().confirmed
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_work_on_a_long_fixed_sequence_is_not_quadratic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch size is unknown next to many steps: no array has as many rows as steps."""
    monkeypatch.setattr("lstmstate.recurrence.probe._LARGEST", 4 * 60 * INPUTS)
    ckpt = lstmstate.open_checkpoint(written(tmp_path, unrolled(60)))
    assert ckpt.model is not None
    assert [one.steps for one in ckpt.model.networks] == [60], ckpt.model.refused


def recurrences(layers: int) -> Iterator[Recurrence]:
    """Layers of two directions, each reading both directions of the layer before."""
    for at in range(2 * layers):
        before = frozenset({at - at % 2 - 2, at - at % 2 - 1}) if at > 1 else frozenset()
        yield Recurrence._make([None] * len(Recurrence._fields))._replace(  # type: ignore[arg-type]
            before=before, fronts=()
        )


def test_layers_of_two_directions_are_ordered_once(tmp_path: Path) -> None:
    from lstmstate.recurrence.find_networks import _find_levels

    every = list(recurrences(60))
    with few_lines(10_000):
        levels = _find_levels(every, [118, 119])
    assert [levels[at] for at in (0, 1, 117, 118)] == [59, 59, 1, 0]


def test_the_last_recurrences_are_found_without_comparing_all_of_them() -> None:
    from lstmstate.graph.tensors import Tensor
    from lstmstate.recurrence.data_path import Front

    def every(count: int) -> list[Recurrence]:
        (one,) = list(recurrences(1))[:1]
        fronts = [Front(Tensor(f"x_{at // 2}"), False, bool(at % 2)) for at in range(count)]
        return [one._replace(fronts=(front,)) for front in fronts]

    assert last_ones(every(4)) == [(0, 1), (2, 3)]
    with few_lines() as few:
        last_ones(every(200))
    with few_lines() as many:
        last_ones(every(400))
    assert many.count < MOST_GROWTH * few.count
