"""Variables that store a state, identified by the graph, or else by width and name."""

from __future__ import annotations

from typing import Any

import pytest
import writers
from writers import BATCH, Shape, TensorFlow, dynamic, inputs, lstm, opened, static

from lstmstate.cells import SavedState
from lstmstate.cells.find_saved_states import find_saved_states
from lstmstate.model.checkpoint import LSTMCheckpoint

LOOPS = {"dynamic": dynamic, "functional": dynamic, "static": static}


def kept(tf: TensorFlow, name: str, width: int, **arguments: Any) -> Any:
    """Make a variable that stores one half of a state, or a flat one, between runs."""
    arguments = {"trainable": False, "initializer": tf.zeros_initializer()} | arguments
    return tf.get_variable(name, [BATCH, width], **arguments)


def pair(tf: TensorFlow, c: str, m: str, units: int = 4, proj: int | None = None) -> Any:
    """Make the variables of a state that is a tuple."""
    return tf.nn.rnn_cell.LSTMStateTuple(kept(tf, c, units), kept(tf, m, proj or units))


def layouts(ckpt: LSTMCheckpoint) -> dict[str, tuple[str, str | None]]:
    """Return the layout and the cell of each saved state."""
    return {state.variable: (state.layout, state.cell) for state in ckpt.states.values()}


# ---- identified by the graph


@pytest.mark.covering(1)
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("names", [("c_state", "m_state"), ("h", "c"), ("a", "b"), ("m", "cell")])
def test_the_graph_identifies_halves_of_any_name(loop: str, names: tuple[str, str]) -> None:
    """Swapped halves of one width raise no error: names are not enough."""

    def build(tf: TensorFlow) -> None:
        x = inputs(tf, batch=BATCH, steps=2)
        LOOPS[loop](tf, tf.nn.rnn_cell.LSTMCell(4), x, initial_state=pair(tf, *names))

    ckpt = opened(build, functional=loop == "functional")
    c, m = names
    assert layouts(ckpt) == {c: ("c", "rnn/lstm_cell"), m: ("m", "rnn/lstm_cell")}
    assert {state.source for state in ckpt.states.values()} == {"graph"}
    assert ckpt.role(c) == ("state", "rnn/lstm_cell")


@pytest.mark.covering(2)
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("cell", ["BasicLSTMCell", "LSTMCell"])
@pytest.mark.parametrize("name", ["saved_state", "x"])
def test_the_graph_identifies_a_flat_state(loop: str, cell: str, name: str) -> None:
    def build(tf: TensorFlow) -> None:
        made = getattr(tf.nn.rnn_cell, cell)(4, state_is_tuple=False)
        x = inputs(tf, batch=BATCH, steps=2)
        LOOPS[loop](tf, made, x, initial_state=kept(tf, name, 8))

    (state,) = opened(build, functional=loop == "functional").states.values()
    scope = "rnn/basic_lstm_cell" if cell == "BasicLSTMCell" else "rnn/lstm_cell"
    assert state == SavedState(name, "flat", (BATCH, 8), scope, None, "graph", is_start=True)


def test_the_flat_state_of_a_cell_with_a_projection() -> None:
    def build(tf: TensorFlow) -> None:
        cell = tf.nn.rnn_cell.LSTMCell(6, num_proj=2, state_is_tuple=False)
        dynamic(tf, cell, inputs(tf, batch=BATCH), initial_state=kept(tf, "x", 8))

    assert layouts(opened(build)) == {"x": ("flat", "rnn/lstm_cell")}


def by_split(tf: TensorFlow, state: Any) -> Any:
    return tf.split(state, [4, 4, 5, 5], 1)


def by_slices(tf: TensorFlow, state: Any) -> Any:
    return state[:, :4], state[:, 4:8], state[:, 8:13], state[:, 13:]


@pytest.mark.parametrize("cut", [None, by_split, by_slices])
def test_the_flat_state_of_a_stack_belongs_to_the_stack(cut: Any) -> None:
    """Its parts are slices of one variable: by MultiRNNCell and then by its cells, or by hand."""

    def build(tf: TensorFlow) -> None:
        make, state = tf.nn.rnn_cell, kept(tf, "x", 18)
        cells = [make.LSTMCell(units, state_is_tuple=cut is not None) for units in (4, 5)]
        if cut is not None:
            c0, m0, c1, m1 = cut(tf, state)
            state = (make.LSTMStateTuple(c0, m0), make.LSTMStateTuple(c1, m1))
        stack = make.MultiRNNCell(cells, state_is_tuple=cut is not None)
        dynamic(tf, stack, inputs(tf, batch=BATCH), initial_state=state)

    (state,) = opened(build).states.values()
    assert (state.variable, state.layout, state.source) == ("x", "flat", "graph")
    assert (state.cell, state.stack) == (None, "rnn/multi_rnn_cell")


def test_each_layer_has_its_own_halves() -> None:
    def build(tf: TensorFlow) -> None:
        make = tf.nn.rnn_cell
        states = tuple(pair(tf, f"c{k}", f"h{k}", 4) for k in (0, 1))
        stack = make.MultiRNNCell([make.LSTMCell(4), make.LSTMCell(4)])
        dynamic(tf, stack, inputs(tf, batch=BATCH), initial_state=states)

    cells = [f"rnn/multi_rnn_cell/cell_{k}/lstm_cell" for k in (0, 1)]
    assert layouts(opened(build)) == {
        "c0": ("c", cells[0]),
        "h0": ("m", cells[0]),
        "c1": ("c", cells[1]),
        "h1": ("m", cells[1]),
    }


def test_a_first_state_that_is_learnt_is_a_state_too() -> None:
    def build(tf: TensorFlow) -> None:
        halves = [kept(tf, name, 4, trainable=True) for name in ("learnt_c", "learnt_h")]
        first = tf.nn.rnn_cell.LSTMStateTuple(*halves)
        dynamic(tf, tf.nn.rnn_cell.LSTMCell(4), inputs(tf, batch=BATCH), initial_state=first)

    found = layouts(opened(build))
    assert found == {"learnt_c": ("c", "rnn/lstm_cell"), "learnt_h": ("m", "rnn/lstm_cell")}


@pytest.mark.parametrize("m_first", [False, True])
def test_m_may_be_before_or_after_the_input(m_first: bool) -> None:
    """TensorFlow's cells put the input first; a user-written cell may do otherwise."""

    def build(tf: TensorFlow) -> None:
        c, m = kept(tf, "one", 4), kept(tf, "two", 4)
        kernel, bias = tf.get_variable("kernel", [7, 16]), tf.get_variable("bias", [16])
        for x in tf.unstack(inputs(tf, batch=BATCH, steps=2), axis=1):
            z = tf.matmul(tf.concat([m, x] if m_first else [x, m], 1), kernel) + bias
            i, j, f, o = tf.split(z, 4, 1)
            c = c * tf.sigmoid(f) + tf.sigmoid(i) * tf.tanh(j)
            m = tf.tanh(c) * tf.sigmoid(o)

    ckpt = opened(build)
    assert layouts(ckpt) == {"one": ("c", ""), "two": ("m", "")}
    # The rows of its kernel are then in an order that no class has.
    assert bool(ckpt.cells[""].notes) == m_first


def test_one_variable_used_for_both_halves_is_not_a_flat_state() -> None:
    """It is as wide as each half; a flat state would be as wide as both."""

    def build(tf: TensorFlow) -> None:
        zeros = kept(tf, "zeros", 4)
        first = tf.nn.rnn_cell.LSTMStateTuple(zeros, zeros)
        dynamic(tf, tf.nn.rnn_cell.LSTMCell(4), inputs(tf, batch=BATCH), initial_state=first)

    for state in opened(build).states.values():
        assert state.layout != "flat"


@pytest.mark.parametrize("saved", [False, True])
def test_a_local_state_is_listed_if_it_was_saved(saved: bool) -> None:
    """A local variable is in the graph, and is not saved unless requested."""

    def build(tf: TensorFlow) -> None:
        local = {"collections": [tf.GraphKeys.LOCAL_VARIABLES]}
        halves = [kept(tf, name, 4, **local) for name in ("c_state", "m_state")]
        first = tf.nn.rnn_cell.LSTMStateTuple(*halves)
        dynamic(tf, tf.nn.rnn_cell.LSTMCell(4), inputs(tf, batch=BATCH), initial_state=first)
        for variable in halves if saved else ():
            tf.add_to_collection(tf.GraphKeys.GLOBAL_VARIABLES, variable)

    cell = "rnn/lstm_cell"
    expected = {"c_state": ("c", cell), "m_state": ("m", cell)} if saved else {}
    assert layouts(opened(build)) == expected


def test_a_saver_may_rename_a_state() -> None:
    def build(tf: TensorFlow) -> None:
        state = pair(tf, "c_state", "m_state")
        dynamic(tf, tf.nn.rnn_cell.LSTMCell(4), inputs(tf, batch=BATCH), initial_state=state)

    swapped = {"c_state": "m_state", "m_state": "c_state"}
    ckpt = opened(build, names=lambda some: {swapped.get(v.op.name, v.op.name): v for v in some})
    assert layouts(ckpt) == {
        "m_state": ("c", "rnn/lstm_cell"),
        "c_state": ("m", "rnn/lstm_cell"),
    }


# ---- identified by width and name, without a graph


def named(shapes: dict[str, Shape], dtype: str = "float32") -> dict[str, SavedState]:
    """Return the states among some variables, by name, without a graph."""
    states = find_saved_states(writers.recognised(shapes, dtype), None)
    assert {state.source for state in states} <= {"name"}
    return {state.variable: state for state in states}


@pytest.mark.parametrize(
    ("name", "shape", "layout"),
    [
        ("c_state", (2, 6), "c"),
        ("m_state", (2, 3), "m"),
        ("rnn/c", (2, 6), "c"),
        ("rnn/h", (2, 3), "m"),
        ("cell_state", (2, 6), "c"),
        ("hidden_state", (2, 3), "m"),
        ("hidden", (2, 3), "m"),
        ("prev_c", (2, 6), "c"),
        ("lstm_h", (2, 3), "m"),
        ("C_State", (2, 6), "c"),
        ("c_state_1", (2, 6), "c"),
        ("state", (2, 9), "flat"),
        ("saved_state", (2, 9), "flat"),
        ("rnn_state", (5, 2, 9), "flat"),
        ("last_states", (2, 9), "flat"),
        ("initial_state_0", (2, 9), "flat"),
    ],
)
def test_a_variable_named_like_a_state_that_fits_is_one(
    name: str, shape: Shape, layout: str
) -> None:
    states = named(lstm("rnn/lstm_cell", 5, 6, proj=3) | {name: shape})
    assert states == {name: SavedState(name, layout, shape, "rnn/lstm_cell")}


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((2, 8), "flat"),
        ((5, 2, 4), "stacked"),
        ((7, 5, 2, 4), "stacked"),
        ((2, 3, 4), "layered"),
        ((1, 2, 3, 4), "layered"),
        ((2, 2, 4), "unknown"),  # c and m of two rows, or two rows of c and m
    ],
)
def test_the_shape_shows_how_c_and_m_are_joined(shape: Shape, layout: str) -> None:
    states = named(lstm("rnn/lstm_cell") | {"state": shape})
    assert states == {"state": SavedState("state", layout, shape, "rnn/lstm_cell")}


def test_the_flat_state_of_a_whole_stack_is_found_by_its_width() -> None:
    cells = lstm("rnn/multi_rnn_cell/cell_0/lstm_cell", 3, 4)
    cells |= lstm("rnn/multi_rnn_cell/cell_1/lstm_cell", 4, 6)
    states = named(cells | {"state": (2, 20), "a/state": (2, 12)})
    assert (states["state"].stack, states["state"].cell) == ("rnn/multi_rnn_cell", None)
    assert states["a/state"].cell == "rnn/multi_rnn_cell/cell_1/lstm_cell"


def test_a_state_that_fits_two_cells_belongs_to_the_one_in_its_scope() -> None:
    cells = lstm("encoder/lstm_cell") | lstm("decoder/lstm_cell")
    states = named(cells | {"state": (2, 8), "decoder/state": (2, 8)})
    assert (states["state"].layout, states["state"].cell) == ("flat", None)
    assert states["decoder/state"].cell == "decoder/lstm_cell"


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("weights_hidden", (2, 4)),
        ("hidden_layer/bias", (2, 4)),
        ("hidden_layer/kernel", (8, 4)),
        ("hidden_weights", (2, 4)),
        ("biases_hidden", (2, 4)),
        ("cell_bias", (2, 4)),
        ("embedding", (100, 4)),
        ("embedding/embeddings", (100, 8)),
        ("state_dense/kernel", (8, 8)),
        ("global_step", (2, 4)),
        ("statement", (2, 8)),
        ("c2h_weights", (2, 4)),
        ("state", (2, 7)),  # not the width of any layout
        ("state", (8,)),  # no batch
        ("c_state", (4,)),
        ("h", ()),
    ],
)
def test_a_variable_of_another_name_or_width_is_not_a_state(name: str, shape: Shape) -> None:
    assert named(lstm("rnn/lstm_cell") | {name: shape}) == {}


def test_slots_of_a_variable_are_not_a_state() -> None:
    shapes = {"state": (2, 8), "state/ExponentialMovingAverage": (2, 8)}
    shapes |= {"w": (2, 8), "w/state": (2, 8)}  # slot: it has the shape of the variable above it
    assert set(named(lstm("rnn/lstm_cell") | shapes)) == {"state"}


def test_integers_and_variables_without_cells_are_not_states() -> None:
    assert named({"state": (2, 8)} | lstm("rnn/lstm_cell"), dtype="int32") == {}
    assert named({"state": (2, 8), "c_state": (2, 4)}) == {}


def test_a_trained_weight_is_not_a_state_by_its_name_alone() -> None:
    def build(tf: TensorFlow) -> None:
        outputs, _ = dynamic(tf, tf.nn.rnn_cell.LSTMCell(4))
        with tf.variable_scope("out"):
            tf.tensordot(outputs, tf.get_variable("hidden", [4, 8]), 1)
            tf.get_variable("state", [2, 8], trainable=False)

    assert layouts(opened(build)) == {"out/state": ("flat", "rnn/lstm_cell")}
