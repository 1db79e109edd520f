"""Options of a cell, read from its graph and independent of node names."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
import writers
from commands import Shell
from hypothesis import given, settings
from hypothesis import strategies as st
from writers import (
    BATCH,
    INPUTS,
    STEPS,
    MetaGraph,
    TensorFlow,
    dynamic,
    inputs,
    only,
    opened,
    shown,
    static,
)

from lstmstate.cells import Cell, Option
from lstmstate.cells.cell import UNKNOWN
from lstmstate.cells.families import FAMILIES
from lstmstate.model.checkpoint import LSTMCheckpoint, open_checkpoint

CELLS = ("BasicLSTMCell", "LSTMCell")
LOOPS = {"dynamic": dynamic, "static": static}


def built(
    cell: str = "LSTMCell", loop: str = "dynamic", units: int = 4, **options: Any
) -> LSTMCheckpoint:
    """Return the only cell that is found for a class of TensorFlow with some options."""

    def build(tf: TensorFlow) -> None:
        if "activation" in options:
            options["activation"] = writers.activation(tf, options["activation"])
        LOOPS[loop](tf, getattr(tf.nn.rnn_cell, cell)(units, **options))

    return opened(build)


# ---- one option at a time


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("layer", [True, False])
def test_a_clip_of_the_cell_output_is_not_a_cell_option(layer: bool, steps: int) -> None:
    """A dense layer after a cell is not its projection."""

    def build(tf: TensorFlow) -> None:
        outputs, _ = static(tf, tf.nn.rnn_cell.LSTMCell(4))
        for step in outputs[-steps:]:
            value = tf.matmul(step, tf.ones([4, 2])) if layer else step
            tf.clip_by_value(value, -5.0, 5.0)

    found = only(opened(build))
    assert shown(found, "cell_clip", "proj_clip") == {"cell_clip": None, "proj_clip": None}
    assert found.notes == ()


@pytest.mark.parametrize(
    "function",
    [lambda x: x * x, lambda x: x / (1 + abs(x)), lambda x: 0.5 * x],
    ids=["square", "softsign", "half"],
)
def test_an_unknown_activation_is_not_mistaken_for_another(function: Any) -> None:
    found = only(opened(lambda tf: dynamic(tf, tf.nn.rnn_cell.LSTMCell(4, activation=function))))
    assert found.options["activation"] == Option(None, "unknown")
    assert shown(found, "forget_bias") == {"forget_bias": 1.0}


@pytest.mark.covering(2)
@pytest.mark.parametrize(("cell", "layers"), [("BasicLSTMCell", 2), ("LSTMCell", 1)])
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("is_tuple", [True, False])
def test_state_is_tuple(cell: str, loop: str, is_tuple: bool, layers: int) -> None:
    def build(tf: TensorFlow) -> None:
        make = getattr(tf.nn.rnn_cell, cell)
        some = [make(4, state_is_tuple=is_tuple) for _ in range(layers)]
        one = tf.nn.rnn_cell.MultiRNNCell(some, state_is_tuple=is_tuple) if layers > 1 else some[0]
        LOOPS[loop](tf, one)

    found = opened(build).cells.values()
    assert len(found) == layers
    for one in found:
        assert shown(one, "state_is_tuple") == {"state_is_tuple": is_tuple}


@pytest.mark.covering(1)
@pytest.mark.parametrize("batch", [BATCH, None])
@pytest.mark.parametrize("first", ["none", "zeros", "fed"])
def test_the_batch_of_the_initial_state(batch: int | None, first: str) -> None:
    def build(tf: TensorFlow) -> None:
        one, x = tf.nn.rnn_cell.LSTMCell(4), inputs(tf, batch=batch)
        fed = tf.nn.rnn_cell.LSTMStateTuple(*(tf.placeholder(tf.float32, [batch, 4]) for _ in "cm"))
        zeros = one.zero_state(batch or tf.shape(x)[0], tf.float32)
        states = {"none": {}, "zeros": {"initial_state": zeros}, "fed": {"initial_state": fed}}
        dynamic(tf, one, x, **states[first])

    ckpt = opened(build)
    assert shown(only(ckpt), "batch_size") == {"batch_size": batch}
    assert ckpt.states == {}


def test_a_reversed_sequence_keeps_its_axes() -> None:
    """Keras reverses the result again, for go_backwards."""

    def build(tf: TensorFlow) -> None:
        x = tf.reverse(tf.transpose(tf.placeholder(tf.float32, [BATCH, 5, 3]), [1, 0, 2]), [0])
        dynamic(tf, tf.nn.rnn_cell.LSTMCell(4), x, time_major=True)

    assert shown(only(opened(build)), "time_major") == {"time_major": False}


@pytest.mark.parametrize("time_major", [True, False])
@pytest.mark.parametrize("lengths", [True, False])
def test_which_axis_is_time(time_major: bool, lengths: bool) -> None:
    def build(tf: TensorFlow) -> None:
        x = tf.placeholder(tf.float32, [5, BATCH, 3] if time_major else [BATCH, 5, 3])
        more = {"sequence_length": tf.placeholder(tf.int32, [BATCH])} if lengths else {}
        dynamic(tf, tf.nn.rnn_cell.LSTMCell(4), x, time_major=time_major, **more)

    found = only(opened(build))
    assert shown(found, "time_major", "batch_size") == {
        "time_major": time_major,
        "batch_size": BATCH,
    }
    assert shown(found, "cell_clip") == {"cell_clip": None}  # the bounds of the loop are not a clip


def test_an_unrolled_cell_has_no_time_axis() -> None:
    assert only(built(loop="static")).options["time_major"] == Option(None, "unknown")


# ---- wrappers and loops


def residual(tf: TensorFlow) -> Any:
    return tf.nn.rnn_cell.ResidualWrapper(tf.nn.rnn_cell.LSTMCell(3, forget_bias=0.3))


def dropout(tf: TensorFlow) -> Any:
    keep = tf.placeholder_with_default(0.5, [])
    every = {"input_keep_prob": keep, "output_keep_prob": keep, "state_keep_prob": keep}
    return tf.nn.rnn_cell.DropoutWrapper(tf.nn.rnn_cell.LSTMCell(3, forget_bias=0.3), **every)


@pytest.mark.parametrize("wrapper", [residual, dropout])
@pytest.mark.parametrize("loop", LOOPS)
def test_a_wrapper_changes_nothing_of_the_cell(wrapper: Any, loop: str) -> None:
    found = only(opened(lambda tf: LOOPS[loop](tf, wrapper(tf))))
    options = shown(found, "forget_bias", "activation", "cell_clip", "state_is_tuple")
    assert list(options.values()) == [0.3, "tanh", None, True]


@pytest.mark.parametrize(
    ("loop", "optimizer"), [("dynamic", "AdamOptimizer"), ("static", "MomentumOptimizer")]
)
def test_gradients_and_slots_change_nothing_of_the_cell(loop: str, optimizer: str) -> None:
    def train(tf: TensorFlow) -> None:
        cell = tf.nn.rnn_cell.LSTMCell(4, forget_bias=0.3, cell_clip=0.5, num_proj=2, proj_clip=0.2)
        outputs, _ = LOOPS[loop](tf, cell)
        more = {"momentum": 0.9} if "Momentum" in optimizer else {}
        loss = tf.reduce_sum(outputs[-1])
        clipped = [
            (tf.clip_by_value(gradient, -7.0, 7.0), variable)
            for gradient, variable in getattr(tf.train, optimizer)(0.1, **more).compute_gradients(
                loss
            )
        ]
        getattr(tf.train, optimizer)(0.1, **more).apply_gradients(clipped)

    ckpt = opened(train)
    options = shown(only(ckpt), "forget_bias", "cell_clip", "proj_clip", "activation")
    assert list(options.values()) == [0.3, 0.5, 0.2, "tanh"]
    slots = [name for name in ckpt.variables if ckpt.role(name)[0] == "slot"]
    assert len(slots) == 3 * (2 if optimizer == "AdamOptimizer" else 1)


def test_a_user_written_loop_is_read_like_dynamic_rnn() -> None:
    def build(tf: TensorFlow) -> None:
        x = inputs(tf, batch=BATCH, steps=5)
        cell = tf.nn.rnn_cell.LSTMCell(4, forget_bias=0.3, cell_clip=0.5, state_is_tuple=False)

        def step(at: Any, state: Any) -> Any:
            return at + 1, cell(x[:, at], state)[1]

        tf.while_loop(lambda at, _: at < 5, step, (0, cell.zero_state(BATCH, tf.float32)))

    options = shown(only(opened(build)), "forget_bias", "cell_clip", "state_is_tuple", "batch_size")
    assert list(options.values()) == [0.3, 0.5, False, BATCH]


def resource(tf: TensorFlow) -> Any:
    return tf.variable_scope("resource", use_resource=True)


def parts(tf: TensorFlow) -> Any:
    return tf.variable_scope("parts", partitioner=tf.fixed_size_partitioner(3))


def noise(tf: TensorFlow) -> Any:
    def noisy(getter: Any, name: str, **arguments: Any) -> Any:
        variable = getter(name, **arguments)
        return variable + tf.random_normal(variable.shape) if "kernel" in name else variable

    return tf.variable_scope("noise", custom_getter=noisy)


@pytest.mark.covering(1)
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("scope", [resource, parts, noise])
def test_the_way_variables_are_created_does_not_matter(scope: Any, loop: str) -> None:
    options = {"forget_bias": 0.3, "cell_clip": 0.5, "proj_clip": 0.2}

    def build(tf: TensorFlow) -> None:
        with scope(tf):
            LOOPS[loop](tf, tf.nn.rnn_cell.LSTMCell(4, num_proj=2, **options))

    found = only(opened(build))
    assert shown(found, *options) == options
    assert (found.input_size, found.num_units, found.num_proj) == (3, 4, 2)
    assert found.variables["kernel"] == (f"{scope.__name__}/rnn/lstm_cell/kernel",)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_other_dtypes_are_read_as_float32(loop: str, dtype: str) -> None:
    def build(tf: TensorFlow) -> None:
        x = tf.placeholder(dtype, [BATCH, 2, 3])
        cell = tf.nn.rnn_cell.LSTMCell(4, forget_bias=0.3, cell_clip=0.1)
        LOOPS[loop](tf, cell, x, dtype=tf.as_dtype(dtype))

    found = only(opened(build))
    assert found.dtype == dtype
    assert shown(found, "forget_bias", "cell_clip") == {"forget_bias": 0.3, "cell_clip": 0.1}


# ---- options that a graph does not show


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("learnt", [True, False])
def test_a_fed_or_learnt_forget_bias_is_unknown(loop: str, learnt: bool) -> None:
    def build(tf: TensorFlow) -> None:
        bias = tf.get_variable("learnt", []) if learnt else tf.placeholder(tf.float32, [])
        LOOPS[loop](tf, tf.nn.rnn_cell.LSTMCell(4, forget_bias=bias))

    assert only(opened(build)).forget_bias == Option(None, "unknown")


def used_twice(first: float | None, second: float | None) -> Cell:
    """Return a cell that a graph uses twice; None is a forget bias that is fed."""

    def build(tf: TensorFlow) -> None:
        for use in (first, second):
            bias = tf.placeholder(tf.float32, []) if use is None else use
            with tf.variable_scope("model", reuse=tf.AUTO_REUSE):
                dynamic(tf, tf.nn.rnn_cell.LSTMCell(4, forget_bias=bias))

    return only(opened(build))


@pytest.mark.parametrize("biases", [(0.3, 2.5), (None, 0.3), (0.3, None)])
def test_a_cell_used_with_two_forget_biases_has_an_unknown_one(
    biases: tuple[float | None, float | None],
) -> None:
    cell = used_twice(*biases)
    assert cell.forget_bias.value is None
    assert any("forget_bias" in note for note in cell.notes)
    assert shown(cell, "cell_clip", "activation") == {"cell_clip": None, "activation": "tanh"}


def test_a_cell_used_twice_in_one_way_shows_its_options() -> None:
    cell = used_twice(0.3, 0.3)
    assert cell.notes == ()
    assert shown(cell, "forget_bias", "cell_clip") == {"forget_bias": 0.3, "cell_clip": None}


def test_without_a_graph_options_are_marked_as_defaults() -> None:
    def build(tf: TensorFlow) -> None:
        dynamic(tf, tf.nn.rnn_cell.LSTMCell(4, forget_bias=0.3, cell_clip=0.5))

    found = only(opened(build, graph=False))
    assert found.forget_bias == Option(1.0, "default")
    assert found.options["cell_clip"] == Option(None, "unknown")
    assert found.options["activation"] == Option(None, "unknown")


# ---- random options


numbers = st.integers(1, 400).map(lambda hundredths: hundredths / 100)


@settings(derandomize=True, deadline=None, max_examples=20)
@given(
    cell=st.sampled_from(["BasicLSTMCell", "LSTMCell", "LSTMCell"]),
    loop=st.sampled_from(["dynamic", "functional", "static"]),
    units=st.integers(1, 6),
    forget_bias=st.just(0.0) | numbers,
    state_is_tuple=st.booleans(),
    function=st.sampled_from(["tanh", "relu", "sigmoid", "identity"]),
    more=st.fixed_dictionaries(
        {
            "num_proj": st.none() | st.integers(1, 5),
            "cell_clip": st.none() | numbers,
            "proj_clip": st.none() | numbers,
            "use_peepholes": st.booleans(),
        }
    ),
    seed=st.integers(0, 1000),
)
def test_options_of_a_cell_are_read_back_from_its_graph(
    cell: str, loop: str, units: int, function: str, more: Any, seed: int, **given_options: Any
) -> None:
    def build(tf: TensorFlow) -> None:
        options = given_options | {"activation": writers.activation(tf, function)}
        options |= more if cell == "LSTMCell" else {}
        LOOPS.get(loop, dynamic)(tf, getattr(tf.nn.rnn_cell, cell)(units, **options))

    expected = more if cell == "LSTMCell" else dict.fromkeys(more)
    expected = expected | given_options | {"activation": function}
    if not expected["num_proj"]:
        expected["proj_clip"] = None  # which has no effect without a projection
    widths = {"num_proj": expected.pop("num_proj"), "peepholes": expected.pop("use_peepholes")}
    widths |= {"input_size": 3, "num_units": units, "family": cell, "gate_order": "ijfo"}
    with tempfile.TemporaryDirectory() as folder:
        prefix = writers.save(folder, build, functional=loop == "functional")
        both = [only(open_checkpoint(prefix))]
        writers.edit_graph(prefix, lambda meta: writers.rename_nodes(meta, seed))
        both += [only(open_checkpoint(prefix))]
    for found in both:
        assert shown(found, *expected) == expected
        assert {name: getattr(found, name) or None for name in widths} == {
            name: value or None for name, value in widths.items()
        }


# ---- cells that are one operation


@pytest.mark.parametrize("op", ["LSTMBlockCell", "BlockLSTM"])
@pytest.mark.parametrize(
    ("forget_bias", "cell_clip", "clip"),
    [(0.0, -1.0, None), (0.35, 0.0, None), (1.0, 0.5, 0.5), (0.35, 3.0, 3.0)],
)
def test_a_block_cells_attributes(
    op: str, forget_bias: float, cell_clip: float, clip: float | None
) -> None:
    attributes = {"forget_bias": forget_bias, "cell_clip": cell_clip, "use_peephole": True}
    found = only(opened(lambda tf: writers.block(tf, op, **attributes)))
    assert found.family == ("LSTMBlockCell" if op == "LSTMBlockCell" else "LSTMBlockFusedCell")
    options = shown(found, "forget_bias", "cell_clip")
    assert options == {"forget_bias": forget_bias, "cell_clip": clip}
    assert (found.peepholes, found.gate_order) == (True, "ijfo")
    assert shown(found, "batch_size") == {"batch_size": BATCH}


@pytest.mark.parametrize("op", ["LSTMBlockCell", "BlockLSTM"])
def test_an_attribute_that_is_left_out_has_the_operations_default(op: str) -> None:
    """A graph may be saved without its defaults: 3.0 then is a clip, which classes do not show."""

    def strip(meta: MetaGraph) -> None:
        for node in meta.graph_def.node:
            if node.op == op:
                for name in ("forget_bias", "cell_clip", "use_peephole"):
                    del node.attr[name]

    found = only(opened(lambda tf: writers.block(tf, op), edit=strip))
    options = shown(found, "forget_bias", "cell_clip")
    assert options == {"forget_bias": 1.0, "cell_clip": 3.0}
    assert found.peepholes is False


def test_unused_peephole_variables_are_not_peepholes() -> None:
    def build(tf: TensorFlow) -> None:
        writers.block(tf, use_peephole=True)

    def switch_off(meta: MetaGraph) -> None:
        (node,) = (node for node in meta.graph_def.node if node.op == "LSTMBlockCell")
        node.attr["use_peephole"].b = False

    assert only(opened(build)).peepholes is True
    assert only(opened(build, edit=switch_off)).peepholes is False


def test_the_v2_block_operation_has_another_gate_order_and_no_forget_bias() -> None:
    found = only(opened(lambda tf: writers.block(tf, "BlockLSTMV2", cell_clip=0.0)))
    assert (found.family, found.gate_order) == ("BlockLSTMV2", "ifjo")
    assert (found.forget_bias.value, shown(found, "cell_clip")) == (0.0, {"cell_clip": None})


# ---- activations of gates: read from the graph for Keras, fixed by the class for all others


UNITS = 4
NAMES = "tanh relu sigmoid linear elu softplus softsign selu hard_sigmoid".split()
SINGLE = ("family", "default")
HARD, SOFT = "hard_sigmoid", "sigmoid"


def layer(tf: TensorFlow, kind: str, **options: Any) -> Any:
    """Return a tf_keras layer: a class of 1.x or of 2.x, or a cell in an RNN."""
    import tf_keras

    if kind == "cell":
        return tf_keras.layers.RNN(tf_keras.layers.LSTMCell(UNITS, **options))
    return (tf.keras if kind == "1.x" else tf_keras).layers.LSTM(UNITS, **options)


def keras(kind: str, *, functional: bool = False, **options: Any) -> LSTMCheckpoint:
    """Return the only cell that is found for a layer over a fed sequence."""

    def build(tf: TensorFlow) -> None:
        x = tf.placeholder(tf.float32, [BATCH, STEPS, INPUTS])
        layer(tf, kind, **options)(x)

    return opened(build, functional=functional)


def check(cell: Cell, activation: str, recurrent: str) -> None:
    """Check that the graph shows both functions, and that no part of them is read as a clip."""
    names = {"linear": "identity"}
    expected = {
        "activation": names.get(activation, activation),
        "recurrent_activation": names.get(recurrent, recurrent),
        "cell_clip": None,
        "proj_clip": None,
    }
    assert shown(cell, *expected) == expected
    assert (cell.family, cell.forget_bias.value) == ("Keras LSTM", 0.0)


# ---- the graph of a Keras layer


@pytest.mark.parametrize("number", range(len(NAMES)))
def test_both_activations_of_a_keras_layer(number: int) -> None:
    """Each function is used once for c and m, and once for the gates."""
    activation, recurrent = NAMES[number], NAMES[number - 1]
    check(only(keras("2.x", activation=activation, recurrent_activation=recurrent)),
          activation, recurrent)  # fmt: skip


@pytest.mark.parametrize("kind", ["1.x", "2.x"])
@pytest.mark.parametrize("implementation", [1, 2])
def test_both_implementations_of_a_keras_layer(kind: str, implementation: int) -> None:
    options = {"activation": "elu", "recurrent_activation": "hard_sigmoid"}
    check(only(keras(kind, implementation=implementation, **options)), *options.values())


# All pairs of a kind, its options, the form of its loops and the activation of its gates.
KERAS_LOOPS: list[tuple[str, dict[str, Any], bool, str]] = [
    ("1.x", {}, True, SOFT),
    ("1.x", {"use_bias": False}, False, HARD),
    ("1.x", {"dropout": 0.3, "recurrent_dropout": 0.2}, False, SOFT),
    ("2.x", {}, False, HARD),
    ("2.x", {"use_bias": False}, True, SOFT),
    ("2.x", {"dropout": 0.3, "recurrent_dropout": 0.2}, True, HARD),
    ("cell", {}, False, SOFT),
    ("cell", {"use_bias": False}, True, HARD),
    ("cell", {"dropout": 0.3, "recurrent_dropout": 0.2}, True, SOFT),
]


@pytest.mark.parametrize(("kind", "options", "functional", "recurrent"), KERAS_LOOPS)
def test_loops_and_functions_of_keras(
    kind: str, options: dict[str, Any], functional: bool, recurrent: str
) -> None:
    """With 2.x loops the step is in a function that another function calls."""
    found = keras(kind, functional=functional, recurrent_activation=recurrent, **options)
    check(only(found), "tanh", recurrent)


@pytest.mark.parametrize("implementation", [1, 2])
def test_an_unrolled_keras_layer(implementation: int) -> None:
    found = keras(
        "2.x",
        implementation=implementation,
        activation="linear",
        recurrent_activation="hard_sigmoid",
        unroll=True,
    )
    check(only(found), "linear", "hard_sigmoid")


def test_layers_and_directions_have_their_own_activations() -> None:
    def build(tf: TensorFlow) -> None:
        import tf_keras

        x = tf.placeholder(tf.float32, [BATCH, STEPS, INPUTS])
        both = layer(
            tf, "2.x", recurrent_activation="relu", activation="softsign", return_sequences=True
        )
        x = tf_keras.layers.Bidirectional(both)(x)
        layer(tf, "1.x")(x)

    cells = opened(build).cells.values()
    found = [tuple(shown(cell, "activation", "recurrent_activation").values()) for cell in cells]
    assert sorted(found) == [("softsign", "relu"), ("softsign", "relu"), ("tanh", "hard_sigmoid")]


def test_a_saved_model_of_keras(tmp_path: Path) -> None:
    """The step of a default layer is a function with two implementations, one of them for cuDNN."""
    import tf_keras

    writers.tensorflow()
    model = tf_keras.Sequential([tf_keras.layers.Input([STEPS, INPUTS])])
    own: dict[str, Any] = {"activation": "elu", "recurrent_activation": "hard_sigmoid"}
    model.add(tf_keras.layers.LSTM(UNITS, return_sequences=True, **own))
    model.add(tf_keras.layers.LSTM(UNITS))
    model.save(tmp_path / "model", save_format="tf", include_optimizer=False)
    first, second = open_checkpoint(tmp_path / "model").cells.values()
    check(first, "elu", "hard_sigmoid")
    check(second, "tanh", "sigmoid")


# ---- activations in small operations


def hand_made(act: Any, squash: Any, *, family: str = "lstm") -> Cell:
    """Step an LSTM over two steps with these activations, under the names of Keras."""

    def build(tf: TensorFlow) -> None:
        kernel = tf.get_variable(f"{family}/kernel", [INPUTS, 4 * UNITS])
        recurrent = tf.get_variable(f"{family}/recurrent_kernel", [UNITS, 4 * UNITS])
        c = m = tf.zeros([BATCH, UNITS])
        for x in tf.unstack(writers.inputs(tf, batch=BATCH, steps=STEPS), axis=1):
            z = tf.matmul(x, kernel) + tf.matmul(m, recurrent)
            i, f, j, o = tf.split(z, 4, 1)
            c = squash(tf, f) * c + squash(tf, i) * act(tf, j)
            m = squash(tf, o) * act(tf, c)

    return only(opened(build))


def tanh(tf: TensorFlow, x: Any) -> Any:
    return tf.tanh(x)


FUNCTIONS = {
    "keras3_hard_sigmoid": [
        lambda tf, x: tf.nn.relu6(x + 3.0) / 6.0,
        lambda tf, x: tf.nn.relu6(3.0 + x) * (1 / 6),
    ],
    "hard_sigmoid": [
        lambda tf, x: tf.clip_by_value(0.2 * x + 0.5, 0.0, 1.0),
        lambda tf, x: tf.clip_by_value(0.5 + x * 0.2, 0.0, 1.0),
        lambda tf, x: tf.raw_ops.ClipByValue(
            t=0.2 * x + 0.5, clip_value_min=0.0, clip_value_max=1.0
        ),
    ],
    # tf.nn.leaky_relu up to 1.10, and the operation.
    "leaky_relu": [lambda tf, x: tf.maximum(0.2 * x, x), lambda tf, x: tf.nn.leaky_relu(x)],
    # tf.keras up to 1.9.
    "selu": [
        lambda tf, x: (
            1.0507009873554805 * tf.where(x > 0.0, tf.nn.elu(x), 1.6732632423543772 * tf.nn.elu(x))
        ),
    ],
}
FORMS = [(name, form) for name, forms in FUNCTIONS.items() for form in forms]


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_an_activation_written_in_small_operations(name: str, form: Any) -> None:
    check(hand_made(tanh, form), "tanh", name)
    check(hand_made(form, form), name, name)


UNNAMED = [
    lambda tf, x: tf.clip_by_value(0.25 * x + 0.5, 0.0, 1.0),
    lambda tf, x: tf.clip_by_value(0.2 * x + 0.5, 0.0, 0.9),
    lambda tf, x: tf.clip_by_value(0.2 * x + 0.5 * x, 0.0, 1.0),
    lambda tf, x: tf.nn.relu6(x + 3.0) / 5.0,
    lambda tf, x: tf.nn.leaky_relu(x, 0.3),
    lambda tf, x: x * x,
    lambda tf, x: 1 / (1 + tf.exp(-x)),
]


@pytest.mark.parametrize("form", UNNAMED)
def test_an_unknown_activation_is_neither_another_nor_the_default(form: Any) -> None:
    found = hand_made(tanh, form)
    assert found.options["recurrent_activation"] == Option(None, "unknown")


@pytest.mark.parametrize("cell", ["BasicLSTMCell", "LSTMCell"])
@pytest.mark.parametrize("clip", [None, 0.5])
def test_the_clip_of_a_hard_sigmoid_is_not_a_cell_clip(cell: str, clip: float | None) -> None:
    """An activation of Keras in a core cell: its bounds 0 and 1 are part of it."""

    def build(tf: TensorFlow) -> None:
        more = {"cell_clip": clip} if cell == "LSTMCell" else {}
        act = tf.keras.activations.hard_sigmoid
        dynamic(tf, getattr(tf.nn.rnn_cell, cell)(UNITS, activation=act, forget_bias=0.3, **more))

    found = only(opened(build))
    expected = {"activation": "hard_sigmoid", "forget_bias": 0.3}
    expected["cell_clip"] = clip if cell == "LSTMCell" else None
    assert shown(found, *expected) == expected
    assert found.family == cell


def test_a_cell_used_in_two_ways_has_an_unknown_activation() -> None:
    def build(tf: TensorFlow) -> None:
        kernel = tf.get_variable("lstm/kernel", [INPUTS, 4 * UNITS])
        recurrent = tf.get_variable("lstm/recurrent_kernel", [UNITS, 4 * UNITS])
        hard = tf.keras.activations.hard_sigmoid
        for squash in (tf.sigmoid, hard):
            x = tf.placeholder(tf.float32, [BATCH, INPUTS])
            c = m = tf.zeros([BATCH, UNITS])
            i, f, j, o = tf.split(tf.matmul(x, kernel) + tf.matmul(m, recurrent), 4, 1)
            c = squash(f) * c + squash(i) * tf.tanh(j)
            m = squash(o) * tf.tanh(c)

    found = only(opened(build))
    assert found.options["recurrent_activation"].value is None
    assert any("recurrent_activation" in note for note in found.notes)
    assert shown(found, "activation") == {"activation": "tanh"}


# ---- cells without a graph


def stored(scope: str, *, version: str | None = None, bias: int = 4 * UNITS) -> Cell:
    """Return a cell of Keras with variables only."""

    def build(tf: TensorFlow) -> None:
        tf.get_variable(f"{scope}/kernel", [INPUTS, 4 * UNITS])
        tf.get_variable(f"{scope}/recurrent_kernel", [UNITS, 4 * UNITS])
        tf.get_variable(f"{scope}/bias", [bias])

    def edit(meta: MetaGraph) -> None:
        meta.meta_info_def.tensorflow_version = version

    with tempfile.TemporaryDirectory() as folder:
        written = edit if version else None
        return only(open_checkpoint(writers.save(folder, build, graph=bool(version), edit=written)))


@pytest.mark.parametrize(
    ("scope", "version", "expected"),
    [
        ("lstm", None, HARD),
        ("model/lstm_1", None, HARD),
        ("lstm/lstm_cell", None, SOFT),  # names of 2.x: a cell has a scope in its layer
        ("model/lstm_1/lstm_cell_3", None, SOFT),
        ("lstm", "1.4.0", HARD),
        ("lstm", "1.15.0", HARD),
        ("lstm/lstm_cell", "1.15.0", HARD),  # the graph overrides the names
        ("lstm", "2.0.0", SOFT),
        ("lstm/lstm_cell", "2.21.0", SOFT),
        ("lstm", "0.12.1", HARD),
        ("lstm", "unknown", HARD),
    ],
)
def test_without_a_step_in_a_graph_it_is_unknown(
    scope: str, version: str | None, expected: str
) -> None:
    """Keras 2.3 on TensorFlow 1.15 has sigmoid, compat.v1 layers on TensorFlow 2 hard_sigmoid."""
    cell = stored(scope, version=version)
    assert cell.options["recurrent_activation"] == UNKNOWN
    assert cell.documented["recurrent_activation"].value == expected


def test_an_object_based_checkpoint_is_probably_of_2() -> None:
    def build(tf: TensorFlow) -> dict[str, Any]:
        cell = layer(tf, "cell").cell
        cell.build([None, INPUTS])
        return {"model": cell}

    cell = only(writers.saved_as_objects(build))
    assert cell.options["recurrent_activation"] == UNKNOWN  # save_format="tf" of 1.15 is the same
    assert cell.documented["recurrent_activation"].value == SOFT


@pytest.mark.parametrize("version", [None, "1.15.0", "2.0.0"])
def test_a_cell_of_cudnn_has_no_choice(version: str | None) -> None:
    found = stored("cu_dnnlstm", version=version, bias=8 * UNITS)
    assert found.family == "CuDNNLSTM"
    assert found.options["recurrent_activation"] == Option("sigmoid", "family")
    assert found.options["activation"] == Option("tanh", "family")


@pytest.mark.parametrize("graph", [True, False])
@pytest.mark.parametrize("cell", ["BasicLSTMCell", "LSTMCell"])
def test_core_cells_have_no_choice(cell: str, graph: bool) -> None:
    found = opened(
        lambda tf: dynamic(tf, getattr(tf.nn.rnn_cell, cell)(UNITS)),
        graph=graph,
    )
    assert only(found).options["recurrent_activation"] == Option("sigmoid", "family")


@pytest.mark.parametrize("op", ["LSTMBlockCell", "BlockLSTM", "BlockLSTMV2"])
def test_block_cells_have_no_choice(op: str) -> None:
    found = only(opened(lambda tf: writers.block(tf, op)))
    assert found.options["recurrent_activation"] == Option("sigmoid", "family")


def test_a_cell_of_two_kernels_without_keras_names_follows_its_graph() -> None:
    """Only a graph shows that such matrices are a cell; no class's default is assumed for it."""

    def build(tf: TensorFlow) -> None:
        w = tf.get_variable("w", [INPUTS, 4 * UNITS])
        u = tf.get_variable("u", [UNITS, 4 * UNITS])
        bias = tf.get_variable("b", [4 * UNITS])
        c = m = tf.zeros([BATCH, UNITS])
        for x in tf.unstack(writers.inputs(tf, batch=BATCH, steps=STEPS), axis=1):
            z = tf.nn.bias_add(tf.matmul(x, w) + tf.matmul(m, u), bias)
            i, f, j, o = tf.split(z, 4, 1)
            c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(j)
            m = tf.sigmoid(o) * tf.tanh(c)

    found = only(opened(build))
    assert found.family == "LSTM"
    assert found.options["recurrent_activation"].value == "sigmoid"
    assert found.options["recurrent_activation"].source in ("graph", "family")


def test_options_of_a_core_cell_follow_its_graph() -> None:
    def build(tf: TensorFlow) -> None:
        kernel = tf.get_variable("rnn/lstm_cell/kernel", [INPUTS + UNITS, 4 * UNITS])
        bias = tf.get_variable("rnn/lstm_cell/bias", [4 * UNITS])
        squash = tf.keras.activations.hard_sigmoid
        c = m = tf.zeros([BATCH, UNITS])
        x = tf.placeholder(tf.float32, [BATCH, INPUTS])
        z = tf.nn.bias_add(tf.matmul(tf.concat([x, m], 1), kernel), bias)
        i, j, f, o = tf.split(z, 4, 1)
        c = squash(f + 1.0) * c + squash(i) * tf.tanh(j)
        m = squash(o) * tf.tanh(c)

    found = only(opened(build))
    assert shown(found, "recurrent_activation", "forget_bias") == {
        "recurrent_activation": "hard_sigmoid",
        "forget_bias": 1.0,
    }


# ---- reports


def saved(folder: Path, recurrent: str, *, graph: bool = True) -> str:
    def build(tf: TensorFlow) -> None:
        x = tf.placeholder(tf.float32, [BATCH, STEPS, INPUTS])
        layer(tf, "1.x", recurrent_activation=recurrent)(x)

    return writers.save(folder, build, graph=graph)


@pytest.mark.parametrize(
    ("recurrent", "graph", "expected"),
    [
        ("hard_sigmoid", True, ["hard_sigmoid"]),
        ("relu", True, ["relu"]),
        ("sigmoid", True, []),
        ("hard_sigmoid", False, ["? (hard_sigmoid in Keras up to 2.2 and tf.keras of TensorFlow"]),
    ],
)
def test_the_table_shows_activations_other_than_sigmoid(
    shell: Shell, tmp_path: Path, recurrent: str, graph: bool, expected: list[str]
) -> None:
    done = shell("inspect", saved(tmp_path, recurrent, graph=graph))
    start = "  recurrent_activation of 1: "
    lines = [line for line in done.out.splitlines() if "recurrent_activation" in line]
    assert len(lines) == len(expected)
    assert all(line.startswith(start + word) for line, word in zip(lines, expected, strict=True))


@pytest.mark.parametrize(("graph", "expected"), [(True, ("sigmoid", "graph")), (False, UNKNOWN)])
def test_the_json_has_its_value_and_source(
    shell: Shell, tmp_path: Path, graph: bool, expected: tuple[str | None, str]
) -> None:
    (cell,) = shell.json("inspect", saved(tmp_path, "sigmoid", graph=graph))["cells"]
    assert cell["recurrent_activation"] == dict(zip(("value", "source"), expected, strict=True))


def test_every_option_of_every_class_has_a_source() -> None:
    """A new row of the table must list it."""
    for family in FAMILIES:
        sources = ["unknown"] if "recurrent_activation" in family.documented else SINGLE
        assert family.option("recurrent_activation").source in sources
