"""Block operations, Keras layers and user-written cells, stepped by TensorFlow and the engine."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from oracle import BATCH, INPUTS, STEPS, Case, assert_alike, noise
from writers import Tensor, TensorFlow, activation, as_in_1_x, tensorflow

from lstmstate.cells.activations import ACTIVATIONS
from lstmstate.engines.numpy_functions import function

UNITS = 5

# ---- activations

# The number of float16 values that TensorFlow's kernels map to another value than ours.
UNEQUAL_HALVES = {"tanh": 2, "softplus": 1, "sin": 2}
NOT_BY_NAME = ("identity", "hard_sigmoid", "keras3_hard_sigmoid", "erf")


@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name not in NOT_BY_NAME])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_activations_agree_on_every_float16_number(name: str, dtype: str) -> None:
    tf = tensorflow()
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    x = every[np.isfinite(every)].astype(dtype)
    with as_in_1_x(tf), tf.Session() as session, np.errstate(all="ignore"):
        theirs = session.run(activation(tf, name)(tf.constant(x)))
        ours = x.copy()
        function(name, dtype == "float16")(ours, ours)
    if dtype == "float16":
        assert np.count_nonzero(ours != theirs) <= UNEQUAL_HALVES.get(name, 0)
    else:
        eps = float(np.finfo(dtype).eps)  # below 1 some kernels are only that exact
        np.testing.assert_allclose(ours, theirs, rtol=4 * eps, atol=eps)


# ---- block operations


def weights_of_block(tf: TensorFlow, dtype: str, peepholes: bool) -> dict[str, Tensor]:
    """Make the variables of LSTMBlockCell and LSTMBlockFusedCell in 1.2 and later."""
    kind = tf.as_dtype(dtype)
    with tf.variable_scope("rnn/lstm_cell"):
        found = {"w": tf.get_variable("kernel", [INPUTS + UNITS, 4 * UNITS], kind)}
        found["b"] = tf.get_variable("bias", [4 * UNITS], kind)
        for gate in "ifo":
            found[f"wc{gate}"] = (
                tf.get_variable(f"w_{gate}_diag", [UNITS], kind)
                if peepholes
                else tf.zeros([UNITS], kind)
            )
    return found


def block(
    op: str, dtype: str, peepholes: bool, clip: float, bias: float, tf: TensorFlow, place: str
) -> Case:
    """One operation per step, or one for all steps (time first)."""
    x = noise(place, (BATCH, STEPS, INPUTS), dtype, 2.0)
    start = [(noise("c", (BATCH, UNITS), dtype), noise("m", (BATCH, UNITS), dtype))]
    given = weights_of_block(tf, dtype, peepholes) | {"use_peephole": peepholes, "cell_clip": clip}
    if op != "BlockLSTMV2":  # which has no such attribute
        given["forget_bias"] = bias
    c, m = map(tf.constant, start[0])
    outputs = []
    if op == "LSTMBlockCell":
        for step in tf.unstack(tf.constant(x), axis=1):
            _, c, _, _, _, _, m = tf.raw_ops.LSTMBlockCell(x=step, cs_prev=c, h_prev=m, **given)
            outputs.append(m)
        return Case(place, x, tf.stack(outputs, 1), [(c, m)], start)
    by_time = tf.constant(x.swapaxes(0, 1))
    length = tf.constant(STEPS, tf.int64)
    made = getattr(tf.raw_ops, op)(seq_len_max=length, x=by_time, cs_prev=c, h_prev=m, **given)
    return Case(place, x, tf.transpose(made.h, [1, 0, 2]), [(made.cs[-1], made.h[-1])], start)


OPS = ["LSTMBlockCell", "BlockLSTM", "BlockLSTMV2"]


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_block_operations_agree(tmp_path: Path, op: str, dtype: str) -> None:
    """A clip of zero or less means no clip."""
    rows = [(False, -1.0, 1.0), (True, 0.3, 0.0), (True, 0.0, -0.5), (False, 0.4, 1.5)]
    assert_alike(tmp_path, [partial(block, op, dtype, *row) for row in rows])


# ---- Keras


def keras(dtype: str, options: dict[str, Any], classic: bool, tf: TensorFlow, place: str) -> Case:
    """An LSTM layer; classic: the class of 1.x, whose gates are hard sigmoids by default."""
    x = noise(place, (BATCH, STEPS, INPUTS), dtype, 2.0)
    start = [(noise("c", (BATCH, UNITS), dtype), noise("m", (BATCH, UNITS), dtype))]
    layers = tf.keras.layers if classic else tf.compat.v2.keras.layers
    layer = layers.LSTM(
        UNITS,
        return_sequences=True,
        return_state=True,
        dtype=dtype,
        name=f"{place}/lstm",
        **options,
    )
    c, m = map(tf.constant, start[0])
    outputs, m, c = layer(tf.constant(x), initial_state=[m, c])
    return Case(place, x, outputs, [(c, m)], start)


KERAS: list[tuple[str, dict[str, Any], bool]] = [
    ("float32", {}, True),
    ("float32", {}, False),
    ("float16", {}, True),
    ("float16", {}, False),
    ("float64", {"use_bias": False}, True),
    ("float64", {"recurrent_activation": "sigmoid", "use_bias": False}, True),
    ("float64", {"recurrent_activation": "hard_sigmoid", "activation": "relu"}, False),
    ("float32", {"recurrent_activation": "sigmoid", "unroll": True}, True),
    ("float32", {"implementation": 1}, True),
    ("float64", {"implementation": 2, "recurrent_activation": "hard_sigmoid"}, True),
]


def test_keras_layers_agree(tmp_path: Path) -> None:
    assert_alike(tmp_path, [partial(keras, *row) for row in KERAS])


# ---- user-written cells


def hand_made(
    order: str, m_first: bool, bias: float, dtype: str, tf: TensorFlow, place: str
) -> Case:
    """Gates split from one product in the user's own order."""
    x = noise(place, (BATCH, STEPS, INPUTS), dtype, 2.0)
    kind = tf.as_dtype(dtype)
    with tf.variable_scope("rnn/my_cell"):
        kernel = tf.get_variable("kernel", [INPUTS + UNITS, 4 * UNITS], kind)
        biases = tf.get_variable("bias", [4 * UNITS], kind)
    c = m = tf.zeros([BATCH, UNITS], kind)
    outputs = []
    for step in tf.unstack(tf.constant(x), axis=1):
        joined = tf.concat([m, step] if m_first else [step, m], 1)
        z = tf.nn.bias_add(tf.matmul(joined, kernel), biases)
        gate = dict(zip(order, tf.split(z, 4, 1), strict=True))
        kept = c * tf.sigmoid(gate["f"] + bias)
        c = kept + tf.sigmoid(gate["i"]) * tf.tanh(gate["j"])
        m = tf.tanh(c) * tf.sigmoid(gate["o"])
        outputs.append(m)
    return Case(place, x, tf.stack(outputs, 1), [(c, m)])


def test_cells_with_gates_in_other_orders_agree(tmp_path: Path) -> None:
    rows = [
        ("ijfo", False, 1.0, "float32"),
        ("fioj", False, 0.0, "float64"),
        ("ofij", False, 1.0, "float16"),
        ("jifo", False, 0.5, "float64"),
    ]
    assert_alike(tmp_path, [partial(hand_made, *row) for row in rows])


def test_kernels_with_the_rows_of_m_first_agree(tmp_path: Path) -> None:
    rows = [("ijfo", True, 1.0, "float32"), ("ifoj", True, 0.0, "float64")]
    assert_alike(tmp_path, [partial(hand_made, *row) for row in rows])
