"""Options of a cell, read from its graph and independent of node names."""

from __future__ import annotations

import tempfile
from typing import Any

import pytest
import writers
from hypothesis import given, settings
from hypothesis import strategies as st
from writers import BATCH, MetaGraph, TensorFlow, dynamic, inputs, only, opened, shown, static

from lstmstate.cells import Cell, Option
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


@settings(derandomize=True, deadline=None, max_examples=30)
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
