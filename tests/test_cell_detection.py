"""Detection of cells by operations and shapes, and layers that only resemble a cell."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from writers import (
    BATCH,
    Shape,
    TensorFlow,
    below,
    dense,
    dynamic,
    hand_made,
    inputs,
    lookalike,
    lstm,
    only,
    opened,
    recognised,
    static,
)

from lstmstate.cells import Option, shapes
from lstmstate.cells.from_graph.find_cells import find_graph_cells
from lstmstate.cells.shapes import CellWidths, Shapes

# ---- other layers, by names and shapes alone: their sizes would fit four gates

OLD, MIDDLE, NEW = ("Linear/Matrix", "Linear/Bias"), ("weights", "biases"), ("kernel", "bias")
NO_LSTM: dict[str, dict[str, Shape]] = {
    "GRUCell": dense("rnn/gru_cell/gates", 11, 16) | dense("rnn/gru_cell/candidate", 11, 8),
    "GRUCell of 1.0": dense("rnn/gru_cell/gates", 11, 16, MIDDLE)
    | dense("rnn/gru_cell/candidate", 11, 8, MIDDLE),
    "GRUCell of 0.12": dense("RNN/GRUCell/Gates", 11, 16, OLD)
    | dense("RNN/GRUCell/Candidate", 11, 8, OLD),
    "GRUBlockCell": dense("rnn/gru_block_cell", 11, 16, ("w_ru", "b_ru"))
    | dense("rnn/gru_block_cell", 11, 8, ("w_c", "b_c")),
    "UGRNNCell": dense("rnn/ugrnn_cell", 11, 16),
    "IntersectionRNNCell": dense("rnn/intersection_rnn_cell", 8, 16)
    | dense("rnn/intersection_rnn_cell/in_projection", 6, 4),
    "BasicRNNCell": dense("rnn/basic_rnn_cell", 19, 16),
    "BasicRNNCell of 1.0": dense("rnn/basic_rnn_cell", 19, 16, MIDDLE),
    "BasicRNNCell of 0.12": dense("RNN/BasicRNNCell", 19, 16, OLD),
    "SRUCell": below("rnn/sru_cell", {"kernel": (5, 16), "bias": (8,)}),
    "MinimalRNNCell": dense("rnn/minimal_rnn_cell", 19, 16),
    "Keras GRU": dense("gru", 3, 48) | {"gru/recurrent_kernel": (16, 48)},
    "Keras SimpleRNN": dense("simple_rnn", 3, 16) | {"simple_rnn/recurrent_kernel": (16, 16)},
    "convolutions": below("conv2d", {"kernel": (3, 3, 7, 16), "bias": (16,)})
    | below("conv1d_1", {"kernel": (5, 7, 16), "bias": (16,)})
    | below("conv1", {"weights": (3, 3, 7, 16), "biases": (16,)}),
    "batch norm": below("bn", dict.fromkeys(("gamma", "beta", "moving_mean"), (16,))),
    "attention of a decoder": dense("attention_decoder", 20, 16)
    | dense("attention_decoder/Attention_0", 32, 16)
    | dense("attention_decoder/AttnOutputProjection", 20, 16)
    | below("attention_decoder", {"AttnW_0": (1, 1, 16, 16), "AttnV_0": (16,)}),
    "attention of a decoder of 0.12": dense("attention_decoder", 20, 16, OLD)
    | dense("attention_decoder/Attention_0", 32, 16, OLD)
    | dense("attention_decoder/AttnOutputProjection", 20, 16, OLD),
}


@pytest.mark.parametrize("kind", NO_LSTM)
@pytest.mark.parametrize("around", ["", "lstm/", "my_lstm_model/rnn/multi_rnn_cell/cell_0/"])
def test_other_layers_are_not_cells_in_a_scope_called_lstm(kind: str, around: str) -> None:
    found = recognised({around + name: shape for name, shape in NO_LSTM[kind].items()})
    assert found.cells == []
    assert found.candidates == []


@pytest.mark.parametrize(
    ("mixing", "inner", "leaves"),
    [
        (OLD, "LSTMCell", ("W_0", "B")),
        (MIDDLE, "lstm_cell", MIDDLE),
        (NEW, "lstm_cell", NEW),
    ],
)
def test_an_attention_wrapper_is_not_a_cell_but_contains_one(
    mixing: tuple[str, str], inner: str, leaves: tuple[str, str]
) -> None:
    """Its own matrix `[I + A, I]` is next to the cell's, and fits four gates if 4 divides I."""
    words = ("attention_cell_wrapper", "attention", "attn_output_projection")
    if mixing == OLD:
        words = ("AttentionCellWrapper", "Attention", "AttnOutputProjection")
    scope, query, output = f"rnn/{words[0]}", *words[1:]
    own = dense(scope, 21, 16, mixing) | dense(f"{scope}/{output}", 20, 16, mixing)
    own |= dense(f"{scope}/{query}", 8, 5, mixing)
    found = recognised(own | dense(f"{scope}/{inner}", 20, 16, leaves))
    assert [one.name for one in found.cells] == [f"{scope}/{inner}"]
    assert [(one.input_size, one.num_units) for one in found.cells] == [(16, 4)]
    assert found.candidates == []


@pytest.mark.parametrize("wrapper", ["output_projection_wrapper", "input_projection_wrapper"])
@pytest.mark.parametrize("inner", ["output_projection_wrapper/lstm_cell", "lstm_cell"])
def test_a_projection_wrapper_is_not_a_cell(wrapper: str, inner: str) -> None:
    found = recognised(dense(f"rnn/{wrapper}", 20, 16) | lstm(f"rnn/{inner}"))
    assert [one.name for one in found.cells] == [f"rnn/{inner}"]
    assert found.candidates == []


@pytest.mark.parametrize(
    "scope", ["dense", "dense_1", "fully_connected", "fc1", "logits", "mlp/h0"]
)
def test_a_dense_layer_of_four_times_n_outputs_is_not_a_cell(scope: str) -> None:
    assert recognised(dense(scope, 20, 16)).cells == []
    assert recognised(dense(scope, 20, 16) | dense("next", 16, 10)).cells == []


def test_the_next_layer_distinguishes_a_cell_from_a_dense_layer() -> None:
    """A cell of 4 units is followed by 4 rows, a dense layer of 16 outputs by 16."""
    unclear, after_dense = dense("hidden2", 20, 16), dense("next", 16, 10)
    after_cell = dense("next", 4, 10)
    assert [cell.name for cell in recognised(unclear | after_cell).cells] == ["hidden2"]
    assert recognised(unclear | after_dense).cells == []
    assert recognised(unclear | after_dense).candidates == []
    assert recognised(unclear).cells == []
    assert recognised(unclear).candidates == ["hidden2"]


SLOTS = ["Adam", "Adam_1", "RMSProp", "Momentum", "ExponentialMovingAverage"]


@pytest.mark.parametrize("around", ["", "train_op/", "OptimizeLoss/", "a/b/"])
@pytest.mark.parametrize("slot", SLOTS)
def test_optimizer_slots_of_a_kernel_are_not_cells(around: str, slot: str) -> None:
    slots = {f"{around}{name}/{slot}": shape for name, shape in lstm("rnn/lstm_cell").items()}
    found = recognised(lstm("rnn/lstm_cell") | slots)
    assert [one.name for one in found.cells] == ["rnn/lstm_cell"]
    assert found.slots == frozenset(slots)
    assert found.candidates == []


def test_averages_are_the_weights_if_nothing_else_was_saved() -> None:
    saved = {f"{name}/ExponentialMovingAverage": s for name, s in lstm("rnn/lstm_cell").items()}
    (cell,) = recognised(saved).cells
    assert (cell.name, cell.family, cell.num_units) == ("rnn/lstm_cell", "LSTMCell", 4)
    assert cell.variables["kernel"] == ("rnn/lstm_cell/kernel/ExponentialMovingAverage",)
    moments = {f"{name}/Adam": shape for name, shape in lstm("rnn/lstm_cell").items()}
    assert recognised(moments).cells == []


# ---- cells, by names and shapes alone


@pytest.mark.parametrize(
    "scope",
    [
        "",
        "decoder_LSTM_1",
        "rnn/hidden2",
        "my_rnn/x",
        "bidirectional_rnn/fw/a",
        "lstm",
        "LSTM_Cell",
    ],
)
def test_a_cell_needs_no_class_name(scope: str) -> None:
    """In the root scope only the next layer identifies it."""
    ckpt = recognised(lstm(scope, proj=2) | {"out/weights_out": (2, 9), "out/w": (4, 9)})
    (cell,) = ckpt.cells
    assert (cell.name, cell.family) == (scope, "LSTMCell")
    assert (cell.input_size, cell.num_units, cell.num_proj) == (3, 4, 2)
    assert cell.forget_bias == Option(1.0, "default")


def test_names_of_tensors_are_read_as_names_of_variables() -> None:
    """Some wrote checkpoints with the names of tensors, which end in ":0"."""
    found = recognised({f"{name}:0": shape for name, shape in lstm("rnn/lstm_cell").items()})
    (cell,) = found.cells
    assert cell.name == "rnn/lstm_cell"
    assert cell.variables == {
        "kernel": ("rnn/lstm_cell/kernel:0",),
        "bias": ("rnn/lstm_cell/bias:0",),
    }


@pytest.mark.parametrize("extra", [("w_i_diag", "w_f_diag", "w_o_diag"), ("projection",), ()])
def test_peepholes_and_projections_identify_a_cell_in_any_scope(extra: tuple[str, ...]) -> None:
    """No other layer has them next to a kernel of that shape."""
    shapes = lstm("a", proj=2 if extra == ("projection",) else None)
    shapes |= {f"a/{role}": (4,) for role in extra if role.startswith("w_")}
    found = recognised(shapes)
    assert [cell.name for cell in found.cells] == (["a"] if extra else [])
    assert found.candidates == ([] if extra else ["a"])


@pytest.mark.parametrize(("part", "axis"), [((4, 16), 0), ((7, 8), 1)])
def test_the_parts_of_a_partitioned_kernel_saved_separately(part: Shape, axis: int) -> None:
    rest = (3, 16) if axis == 0 else part
    parts = {"kernel/part_0": part, "kernel/part_1": rest, "bias": (16,)}
    (cell,) = recognised(below("rnn/lstm_cell", parts)).cells
    assert (cell.input_size, cell.num_units, cell.shard_axis) == (3, 4, axis)


def test_keras_numbers_the_cells_that_share_a_scope() -> None:
    kernels = {"kernel": (3, 16), "recurrent_kernel": (4, 16), "bias": (16,)}
    more = {"kernel_1": (4, 20), "recurrent_kernel_1": (5, 20), "bias_1": (20,)}
    found = recognised(below("rnn", kernels | more)).cells
    assert [(cell.family, cell.num_units) for cell in found] == [
        ("Keras LSTM", 4),
        ("Keras LSTM", 5),
    ]
    assert len({cell.name for cell in found}) == 2


# ---- other layers, in the graph of a recurrent network


OTHERS = {
    "GRUCell": lambda tf: tf.nn.rnn_cell.GRUCell(8),
    "BasicRNNCell": lambda tf: tf.nn.rnn_cell.BasicRNNCell(16),
    "three gates": lambda tf: lookalike(tf, 3),
    "four gates": lambda tf: lookalike(tf, 4),
}


@pytest.mark.covering(1)
@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("loop", [dynamic, static])
def test_other_recurrent_cells_are_not_lstms_in_a_scope_called_lstm(other: str, loop: Any) -> None:
    def build(tf: TensorFlow) -> None:
        with tf.variable_scope("lstm"):
            loop(tf, OTHERS[other](tf))

    ckpt = opened(build)
    assert ckpt.cells == {}
    assert ckpt.candidates == []


@pytest.mark.parametrize("gates", ["jfo", "ijfo"])
def test_gates_of_the_input_alone_are_not_an_lstm(gates: str) -> None:
    """Simple and quasi-recurrent units have such a c, but m is not an input of their product."""

    def build(tf: TensorFlow) -> None:
        width = 4 * len(gates)
        kernel, bias = tf.get_variable("kernel", [9, width]), tf.get_variable("bias", [width])
        c = tf.zeros([BATCH, 4])
        for x in tf.unstack(inputs(tf, 9, BATCH, 2), axis=1):
            z = tf.split(tf.nn.bias_add(tf.matmul(x, kernel), bias), len(gates), 1)
            gate = dict(zip(gates, map(tf.sigmoid, z), strict=True))
            c = gate["f"] * c + gate.get("i", 1 - gate["f"]) * tf.tanh(z[gates.index("j")])
            tf.multiply(gate["o"], tf.tanh(c))

    assert opened(build).cells == {}


@pytest.mark.parametrize("scope", ["lstm", "rnn/lstm_cell", "hidden2", "multi_rnn_cell/cell_0/a"])
def test_a_graph_shows_that_a_dense_layer_is_not_a_cell(scope: str) -> None:
    def build(tf: TensorFlow) -> None:
        x = tf.placeholder(tf.float32, [BATCH, 20])
        with tf.variable_scope(scope):
            kernel, bias = tf.get_variable("kernel", [20, 16]), tf.get_variable("bias", [16])
        tf.nn.relu(tf.nn.bias_add(tf.matmul(x, kernel), bias))

    ckpt = opened(build)
    assert ckpt.cells == {}
    assert ckpt.candidates == []


def test_averages_and_slots_in_a_graph_are_not_cells() -> None:
    def build(tf: TensorFlow) -> None:
        outputs, _ = dynamic(tf, tf.nn.rnn_cell.LSTMCell(4))
        with tf.variable_scope("train_op"):
            tf.train.AdamOptimizer().minimize(tf.reduce_sum(outputs))
        tf.train.ExponentialMovingAverage(0.9).apply(tf.trainable_variables())

    ckpt = opened(build)
    assert list(ckpt.cells) == ["rnn/lstm_cell"]
    assert ckpt.role("train_op/rnn/lstm_cell/kernel/Adam") == ("slot", None)
    assert ckpt.role("rnn/lstm_cell/kernel/ExponentialMovingAverage") == ("slot", None)


# ---- cells, by the operations of the graph


@pytest.mark.covering(1)
@pytest.mark.parametrize("name", ["hidden2", "decoder_LSTM_1", "gru", "dense", "my_gates"])
@pytest.mark.parametrize("loop", [dynamic, static])
def test_a_cell_may_have_any_name(name: str, loop: Any) -> None:
    cell = only(opened(lambda tf: loop(tf, tf.nn.rnn_cell.LSTMCell(4, name=name, num_proj=2))))
    assert (cell.name, cell.family, cell.era) == (f"rnn/{name}", "LSTMCell", "1.2+")
    assert (cell.input_size, cell.num_units, cell.num_proj) == (3, 4, 2)
    assert cell.forget_bias == Option(1.0, "graph")


@pytest.mark.parametrize(
    ("order", "weights"),
    [
        ("ijfo", ("w", "b")),
        ("ifjo", ("kernel", "bias")),
        ("ifoj", ("w", "b")),
        ("iofj", ("my/W", "my/offset")),
        ("fijo", ("kernel", "bias")),
        ("ojfi", ("w", "b")),
    ],
)
def test_a_user_written_cell(order: str, weights: tuple[str, str]) -> None:
    cell = only(opened(lambda tf: hand_made(tf, order, scope="mine", weights=weights)))
    assert cell.gate_order == order
    assert cell.forget_bias == Option(1.0, "graph")
    assert cell.variables == {"kernel": (f"mine/{weights[0]}",), "bias": (f"mine/{weights[1]}",)}
    assert (cell.input_size, cell.num_units) == (3, 4)


def test_a_forget_bias_that_is_a_sum_or_differs_from_unit_to_unit() -> None:
    """One number is reported if the biases of all units are equal; it is never read as zero."""

    def forget_bias_of(*numbers: Any) -> Option:
        return only(
            opened(lambda tf: hand_made(tf, forget_bias=sum(map(tf.constant, numbers))))
        ).forget_bias

    assert forget_bias_of(0.25, 0.5) == Option(0.75, "graph")
    assert forget_bias_of([1.0] * 4) in (Option(1.0, "graph"), Option(None, "unknown"))
    assert forget_bias_of([0.0, 1.0, 2.0, 3.0]).value is None


def test_a_cell_in_the_root_scope() -> None:
    cell = only(opened(hand_made))
    assert (cell.name, cell.family, cell.era) == ("", "LSTMCell", "1.2+")
    assert cell.variables == {"kernel": ("kernel",), "bias": ("bias",)}


def test_two_cells_that_a_user_wrote_in_one_scope_are_two() -> None:
    def build(tf: TensorFlow) -> None:
        hand_made(tf, scope="net", weights=("w_encoder", "b_encoder"), units=4)
        hand_made(tf, scope="net", weights=("w_decoder", "b_decoder"), units=5)

    ckpt = opened(build)
    found = {cell.variables["kernel"]: cell.num_units for cell in ckpt.cells.values()}
    assert found == {("net/w_encoder",): 4, ("net/w_decoder",): 5}


def test_a_user_written_cell_with_two_matrices() -> None:
    def build(tf: TensorFlow) -> None:
        x = tf.placeholder(tf.float32, [BATCH, 3])
        c = h = tf.zeros([BATCH, 4])
        wx, wh = tf.get_variable("wx", [3, 16]), tf.get_variable("wh", [4, 16])
        b = tf.get_variable("b", [16])
        for _ in range(2):
            i, f, o, u = tf.split(tf.matmul(x, wx) + tf.matmul(h, wh) + b, 4, 1)
            c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(u)
            h = tf.sigmoid(o) * tf.tanh(c)

    cell = only(opened(build))
    assert (cell.gate_order, cell.input_size, cell.num_units) == ("ifoj", 3, 4)
    assert cell.variables == {"kernel": ("wx",), "recurrent_kernel": ("wh",), "bias": ("b",)}
    assert cell.forget_bias == Option(0.0, "graph")


def test_a_cell_inside_a_user_written_cell() -> None:
    def build(tf: TensorFlow) -> None:
        class Attentive(tf.nn.rnn_cell.RNNCell):  # type: ignore[misc, name-defined]
            inner = tf.nn.rnn_cell.LSTMCell(4, forget_bias=0.3)
            state_size, output_size = inner.state_size, 16

            def call(self, x: Any, state: Any) -> tuple[Any, Any]:
                with tf.variable_scope("LSTMAttentionCell"):
                    m, state = self.inner(x, state)
                    return tf.layers.dense(m, 16), state

        dynamic(tf, Attentive())

    cell = only(opened(build))
    assert cell.name.endswith("LSTMAttentionCell/lstm_cell")
    assert cell.forget_bias == Option(0.3, "graph")


@pytest.mark.parametrize(
    ("kernel", "bias"),
    [
        ("ema/rnn/lstm_cell/kernel", "ema/rnn/lstm_cell/bias"),
        ("rnn/lstm_cell/kernel:0", "rnn/lstm_cell/bias:0"),
        ("first/w", "second/b"),
        ("w", "b"),
        ("dense/kernel", "dense/bias"),
    ],
)
def test_a_saver_may_rename_variables(kernel: str, bias: str) -> None:
    """The checkpoint has those names, the graph its own: the save operation connects them."""
    names = {"rnn/lstm_cell/kernel": kernel, "rnn/lstm_cell/bias": bias}
    ckpt = opened(
        lambda tf: dynamic(tf, tf.nn.rnn_cell.LSTMCell(4, forget_bias=0.3)),
        names=lambda variables: {names[variable.op.name]: variable for variable in variables},
    )
    cell = only(ckpt)
    assert cell.forget_bias == Option(0.3, "graph")
    assert cell.variables == {"kernel": (kernel,), "bias": (bias,)}


def test_a_cell_without_a_saved_bias_is_still_a_cell() -> None:
    ckpt = opened(
        lambda tf: dynamic(tf, tf.nn.rnn_cell.LSTMCell(4, name="x", forget_bias=0.3)),
        names=lambda variables: {v.op.name: v for v in variables if "kernel" in v.op.name},
    )
    cell = only(ckpt)
    assert cell.variables == {"kernel": ("rnn/x/kernel",)}
    assert cell.forget_bias == Option(0.3, "graph")


def test_a_matrix_used_by_a_gradient_is_not_a_projection() -> None:
    def build(tf: TensorFlow) -> None:
        outputs, _ = static(tf, tf.nn.rnn_cell.LSTMCell(4, num_proj=3))
        tf.gradients(tf.add_n(outputs), tf.trainable_variables())

    graph = opened(build).graph
    assert graph is not None
    (cell,) = find_graph_cells(graph)
    made = [graph.nodes[name] for name in cell.outputs]
    assert [node.op for node in made] == ["Mul", "MatMul"] * 2
    assert not any(node.name.startswith("gradients") for node in made)


# ---- widths of a cell from the shapes of its variables, and shapes that are not a cell


FEW = settings(derandomize=True, deadline=None, max_examples=60)
sizes = st.integers(1, 40)


def one(**roles: Shape) -> Shapes:
    """Return the shapes of a cell whose variables are not sharded."""
    return {role: (shape,) for role, shape in roles.items()}


def cut(size: int, points: list[int]) -> list[int]:
    """Return the lengths of the parts of an axis cut at some points, none of them zero."""
    places = [0, *sorted({point % size for point in points} - {0}), size]
    return [after - before for before, after in pairwise(places)]


# ---- one matrix for all gates


@FEW
@given(inputs=sizes, units=sizes, proj=st.none() | sizes)
def test_a_kernel_shows_all_widths(inputs: int, units: int, proj: int | None) -> None:
    cell = one(kernel=(inputs + (proj or units), 4 * units), bias=(4 * units,))
    if proj:
        cell["projection"] = ((units, proj),)
    assert shapes.fused(cell) == CellWidths(inputs, units, proj)


@FEW
@given(inputs=sizes, units=sizes, points=st.lists(st.integers(1, 500), min_size=1, max_size=12))
def test_shards_are_joined_on_the_axis_that_gives_a_kernel(
    inputs: int, units: int, points: list[int]
) -> None:
    rows, columns = inputs + units, 4 * units
    bias = ((columns,),)
    by_rows = tuple((part, columns) for part in cut(rows, points))
    by_columns = tuple((rows, part) for part in cut(columns, points))
    for kernel, axis in ((by_rows, 0), (by_columns, 1)):
        found = shapes.fused({"kernel": kernel, "bias": bias})
        assert found == CellWidths(inputs, units, None, axis if len(kernel) > 1 else None)


@pytest.mark.parametrize(
    ("projection", "proj"),
    [
        (((4, 2),), 2),
        (((2, 2), (2, 2)), 2),  # rows, from 0.7 on
        (((4, 2), (4, 1)), 3),  # columns, 0.5 and 0.6
        (((2, 3), (1, 3), (1, 3)), 3),
    ],
)
def test_a_projection_may_be_in_shards_too(projection: tuple[Shape, ...], proj: int) -> None:
    cell = {"kernel": ((3 + proj, 16),), "bias": ((16,),), "projection": projection}
    assert shapes.fused(cell) == CellWidths(3, 4, proj)


@pytest.mark.parametrize(
    "cell",
    [
        one(kernel=(7, 18), bias=(18,)),  # four gates do not fit
        one(kernel=(7, 16), bias=(12,)),
        one(kernel=(7, 16), bias=(1, 16)),
        one(kernel=(7, 16), bias=()),
        one(kernel=(4, 16), bias=(16,)),  # no row is left for an input
        one(kernel=(3, 16), bias=(16,)),
        one(kernel=(7, 0), bias=(0,)),
        one(kernel=(0, 16), bias=(16,)),
        one(kernel=(16,), bias=(16,)),
        one(kernel=(7, 4, 4), bias=(16,)),
        one(kernel=(7, 16), bias=(16,), w_f_diag=(3,)),
        one(kernel=(7, 16), bias=(16,), w_f_diag=(4, 1)),
        one(kernel=(7, 16), bias=(16,), projection=(3, 2)),
        one(kernel=(7, 16), bias=(16,), projection=(4,)),
        one(kernel=(7, 16), bias=(16,), projection=(4, 7)),  # it would feed back all rows
        one(kernel=(7, 16), bias=(16,), projection=(4, 0)),
        {"kernel": ((4, 16), (3, 12)), "bias": ((16,),)},
        {"kernel": ((7, 8), (6, 8)), "bias": ((16,),)},
        {"kernel": ((7, 16), (7,)), "bias": ((16,),)},
        {"kernel": ((7, 16),), "bias": ((16,),), "projection": ((2, 2), (1, 2))},
    ],
)
def test_shapes_that_do_not_fit_are_not_a_cell(cell: Shapes) -> None:
    assert shapes.fused(cell) is None


FUSED, KERAS = one(kernel=(7, 16), bias=(16,)), one(kernel=(3, 16), recurrent_kernel=(4, 16))
NORMS, NAS = one(kernel=(7, 16)), one(kernel=(3, 32), recurrent_kernel=(4, 32))
NARROW = one(input_to_cell_w=(4, 3), cell_to_cell_w=(4, 2))
WIDE = one(kernel=(3, 32), recurrent_kernel=(2, 32), projection=(4, 2))


@pytest.mark.parametrize(
    ("family", "cell", "widths"),
    [
        (shapes.fused, one(kernel=(7, 16)), CellWidths(3, 4)),  # without a bias
        (shapes.coupled, one(kernel=(7, 12), bias=(12,)), CellWidths(3, 4)),  # three gates
        (shapes.coupled, FUSED, None),
        (
            shapes.time_freq,
            one(kernel=(11, 16), bias=(16,)),
            CellWidths(3, 4),
        ),  # feeds two states back
        (shapes.time_freq, one(kernel=(8, 16), bias=(16,)), None),
        (shapes.layer_norm, NORMS | {"input/gamma": ((4,),)}, CellWidths(3, 4)),
        (shapes.layer_norm, NORMS | {"state/beta": ((16,),)}, None),
        (shapes.masked, FUSED | one(mask=(7, 16)), CellWidths(3, 4)),
        (shapes.masked, FUSED | one(mask=(16, 7)), None),
        (shapes.weight_norm, FUSED | one(norm_0=(16,), norm_1=(16,)), CellWidths(3, 4)),
        (shapes.weight_norm, FUSED | one(norm_0=(16,), norm_1=(4,)), None),
        (shapes.keras, KERAS, CellWidths(3, 4)),
        (shapes.keras, KERAS | one(bias=(16,)), CellWidths(3, 4)),
        (shapes.keras, KERAS | one(bias=(32,)), None),
        (shapes.keras_cudnn, KERAS | one(bias=(32,)), CellWidths(3, 4)),  # a bias for each kernel
        (shapes.keras_cudnn, KERAS | one(bias=(16,)), None),
        (shapes.nas, NAS, CellWidths(3, 4)),  # eight blocks
        (shapes.nas, WIDE, CellWidths(3, 4, 2)),
        (shapes.nas, NAS | one(bias=(16,)), None),
        (shapes.indy, FUSED | one(kernel=(3, 16), recurrent_kernel=(1, 16)), CellWidths(3, 4)),
        (shapes.indy, FUSED | one(kernel=(3, 16), recurrent_kernel=(4, 16)), None),
        (shapes.tflite, one(input_to_cell_w=(4, 3), cell_to_cell_w=(4, 4)), CellWidths(3, 4)),
        (shapes.tflite, NARROW, None),
        (shapes.tflite, NARROW | one(projection=(2, 4)), CellWidths(3, 4, 2)),
        (shapes.tflite, NARROW | one(projection=(4, 2)), None),
        (shapes.convolution, FUSED, None),
        (shapes.opaque, one(opaque_kernel=(160,)), CellWidths(None, None)),  # only its length
        (shapes.opaque, one(opaque_kernel=(16, 10)), None),
    ],
)
def test_each_family_has_its_own_shapes(
    family: Any, cell: Shapes, widths: CellWidths | None
) -> None:
    assert family(cell) == widths


# ---- separate input and recurrent matrices


@pytest.mark.parametrize(
    "cell",
    [
        one(kernel=(3, 12), recurrent_kernel=(4, 12), bias=(12,)),  # a GRU's three gates
        one(kernel=(3, 4), recurrent_kernel=(4, 4), bias=(4,)),  # a SimpleRNN of four units
        one(kernel=(3, 16), recurrent_kernel=(4, 12)),
        one(kernel=(3, 16), recurrent_kernel=(3, 16)),
        one(kernel=(3, 16), recurrent_kernel=(4, 16), bias=(48,)),
        one(kernel=(3, 16, 1), recurrent_kernel=(4, 16)),
        one(kernel=(3, 0), recurrent_kernel=(0, 0)),
    ],
)
def test_two_kernels_of_other_layers_are_not_an_lstm(cell: Shapes) -> None:
    assert shapes.keras(cell) is None


@pytest.mark.parametrize(
    ("mask_gates", "peepholes"), [((7, 8), False), ((11, 8), True), ((9, 8), None)]
)
def test_a_phased_cell_appends_its_peepholes_to_its_kernel(
    mask_gates: Shape, peepholes: bool | None
) -> None:
    found = shapes.phased(one(new_input=(7, 4), period=(4,), mask_gates=mask_gates))
    assert found == (None if peepholes is None else CellWidths(3, 4, peepholes=peepholes))


# ---- several kernels


BIASES = one(bias_i=(4,), bias_j=(4,), bias_f=(4,), bias_o=(4,))


@pytest.mark.parametrize(
    ("kernels", "widths"),
    [
        (((5, 8), (5, 8)), CellWidths(6, 4, groups=2)),  # I = 6: (6 + 4) / 2 rows
        (((7, 16),), CellWidths(3, 4, groups=1)),
        (((2, 4),) * 4, CellWidths(4, 4, groups=4)),
        (((4, 8),), CellWidths(None, 4, groups=2)),  # one kernel for both groups, 1.4 to 1.6
        (((4, 8), (5, 8)), None),
        (((4, 8), (4, 8), (4, 8)), None),
        (((2, 8), (2, 8)), None),  # no row is left for an input
    ],
)
def test_groups_share_the_units(kernels: tuple[Shape, ...], widths: CellWidths | None) -> None:
    assert shapes.grouped({"kernel": kernels, **BIASES}) == widths


def test_groups_with_a_projection_feed_back_its_output() -> None:
    cell = {"kernel": ((3, 8), (3, 8)), "projection": ((4, 2),), **BIASES}
    assert shapes.grouped(cell) == CellWidths(4, 4, 2, groups=2)


@pytest.mark.parametrize(
    ("kernel", "units"),
    [
        ((13, 16), 4),  # four gates: 5 + 2*4 rows; three do not divide 16
        ((13, 15), 5),  # three gates: the coupled kind
        ((40, 12), None),  # four gates of 3, or three of 4
        ((7, 12), 3),  # three gates of 4 would leave no row
    ],
)
def test_a_grid_shows_its_units_if_one_number_of_gates_fits(
    kernel: Shape, units: int | None
) -> None:
    found = shapes.grid(one(kernel=kernel, bias=kernel[1:]))
    assert found is not None
    assert (found.input_size, found.num_units) == (None, units)


# ---- convolutions, and cuDNN's buffer


@pytest.mark.parametrize("window", [(3,), (3, 5), (2, 3, 5)])
def test_a_convolutional_cell_counts_channels(window: Shape) -> None:
    assert shapes.convolution(one(kernel=(*window, 7, 16), bias=(16,))) == CellWidths(3, 4)
    assert shapes.convolution(one(kernel=(*window, 7, 16))) == CellWidths(3, 4)
    assert shapes.convolution(one(kernel=(*window, 7, 16), bias=(4,))) is None
    assert shapes.convolution(one(kernel=(*window, 4, 16))) is None
    keras = one(kernel=(*window, 3, 16), recurrent_kernel=(*window, 4, 16))
    assert shapes.keras_convolution(keras) == CellWidths(3, 4)
    other = one(kernel=(*window, 3, 16), recurrent_kernel=(*window, 3, 16))
    assert shapes.keras_convolution(other) is None
