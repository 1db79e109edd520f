"""Cells of contrib written in TensorFlow's operations, called in the order of 1.15.0.

TensorFlow has no such classes any more, but its kernels, with their rounding. The equations are
those of contrib/rnn/python/ops/rnn_cell.py, contrib/layers/python/layers/layers.py (layer_norm)
and lite/experimental/examples/lstm/rnn_cell.py.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from oracle import BATCH, INPUTS, STEPS, Case, assert_alike, noise
from writers import RNNCell, Tensor, TensorFlow

UNITS, FORGET_BIAS = 5, 0.5

Get = Callable[..., Tensor]  # makes a variable: its name, its shape
Step = Callable[[TensorFlow, Get, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def norm(tf: TensorFlow, get: Get, x: Tensor, scope: str) -> Tensor:
    gamma, beta = get(f"{scope}/gamma", UNITS), get(f"{scope}/beta", UNITS)
    mean, variance = tf.nn.moments(x, [1], keep_dims=True)
    epsilon = 1e-3 if x.dtype == tf.float16 else 1e-12
    return tf.nn.batch_normalization(x, mean, variance, beta, gamma, epsilon)


def layer_norm(tf: TensorFlow, get: Get, x: Tensor, c: Tensor, m: Tensor) -> tuple[Tensor, Tensor]:
    z = tf.matmul(tf.concat([x, m], 1), get("kernel", INPUTS + UNITS, 4 * UNITS))
    scopes = ("input", "transform", "forget", "output")
    parts = zip(tf.split(z, 4, 1), scopes, strict=True)
    i, j, f, o = (norm(tf, get, part, scope) for part, scope in parts)
    c = c * tf.sigmoid(f + FORGET_BIAS) + tf.sigmoid(i) * tf.tanh(j)
    c = norm(tf, get, c, "state")
    return c, tf.tanh(c) * tf.sigmoid(o)


def coupled(
    tf: TensorFlow, get: Get, x: Tensor, c: Tensor, m: Tensor, *, is_normed: bool = False
) -> tuple[Tensor, Tensor]:
    z = tf.matmul(tf.concat([x, m], 1), get("W_0", INPUTS + UNITS, 3 * UNITS))
    bias = get("B", 3 * UNITS)  # with norms it is created and not added
    j, f, o = tf.split(z if is_normed else tf.nn.bias_add(z, bias), 3, 1)
    if is_normed:
        j, f, o = (
            norm(tf, get, part, scope)
            for part, scope in ((j, "transform"), (f, "forget"), (o, "output"))
        )
    f = tf.sigmoid(f + FORGET_BIAS + get("W_F_diag", UNITS) * c)
    c = f * c + (1 - f) * tf.tanh(j)
    if is_normed:
        c = norm(tf, get, c, "state")
    return c, tf.sigmoid(o + get("W_O_diag", UNITS) * c) * tf.tanh(c)


def indy(tf: TensorFlow, get: Get, x: Tensor, c: Tensor, m: Tensor) -> tuple[Tensor, Tensor]:
    z = tf.matmul(x, get("kernel_w", INPUTS, 4 * UNITS))
    z += tf.tile(m, [1, 4]) * get("kernel_u", 1, 4 * UNITS)
    i, j, f, o = tf.split(tf.nn.bias_add(z, get("bias", 4 * UNITS)), 4, 1)
    c = c * tf.sigmoid(f + tf.constant(FORGET_BIAS, f.dtype)) + tf.sigmoid(i) * tf.tanh(j)
    return c, tf.tanh(c) * tf.sigmoid(o)


def tflite(tf: TensorFlow, get: Get, x: Tensor, c: Tensor, m: Tensor) -> tuple[Tensor, Tensor]:
    both = tf.concat([x, m], 1)

    def gate(name: str) -> Tensor:
        parts = [
            get(f"input_to_{name}_w", UNITS, INPUTS), get(f"cell_to_{name}_w", UNITS, UNITS)
        ]  # fmt: skip
        z = tf.matmul(both, tf.concat(parts, 1), transpose_b=True)
        return tf.nn.bias_add(z, get(f"{name}_bias", UNITS))

    i, f, o, j = gate("input"), gate("forget"), gate("output"), gate("cell")
    c = tf.sigmoid(f + get("w_f_diag", UNITS) * c) * c + (
        tf.sigmoid(i + get("w_i_diag", UNITS) * c) * tf.tanh(j)
    )
    return c, tf.sigmoid(o + get("w_o_diag", UNITS) * c) * tf.tanh(c)


def cell_of(tf: TensorFlow, scope: str, step: Step, dtype: Any) -> RNNCell:
    class Written(tf.nn.rnn_cell.RNNCell):  # type: ignore[misc, name-defined]
        state_size = tf.nn.rnn_cell.LSTMStateTuple(UNITS, UNITS)
        output_size = UNITS

        @tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
        def call(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
            c, m = step(tf, lambda name, *shape: tf.get_variable(name, shape, dtype), x, *state)
            return m, tf.nn.rnn_cell.LSTMStateTuple(c, m)

    return Written(name=scope, dtype=dtype)


def stepped(scope: str, step: Step, dtype: str, tf: TensorFlow, place: str) -> Case:
    x = noise(place, (BATCH, STEPS, INPUTS), dtype, 2.0)
    kind = tf.as_dtype(dtype)
    outputs, last = tf.nn.dynamic_rnn(cell_of(tf, scope, step, kind), tf.constant(x), dtype=kind)
    return Case(place, x, outputs, [last])


CELLS: list[tuple[str, Step]] = [
    ("layer_norm_basic_lstm_cell", layer_norm),
    ("coupled_input_forget_gate_lstm_cell", coupled),
    ("coupled_input_forget_gate_lstm_cell", partial(coupled, is_normed=True)),
    ("indy_lstm_cell", indy),
    ("tf_lite_lstm_cell", tflite),
]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_cells_of_contrib_agree(tmp_path: Path, dtype: str) -> None:
    assert_alike(tmp_path, [partial(stepped, *cell, dtype) for cell in [*CELLS, *CELLS]])
