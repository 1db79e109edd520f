#!/usr/bin/env bash
# A sequence of length 0 keeps its initial state, or loses it, and its last output is not its h.
#
# One would expect a row without steps to return the state it began with, everywhere, and the last
# output of an LSTM to equal h. dynamic_rnn, Keras (by a mask) and Sonnet 2 return the initial c and
# h, but an output of 0: code that takes the last output for h loses that state. onnxruntime returns
# 0 for the states as well. The steps behind the end of a longer row divide them differently: outputs
# there are 0 in dynamic_rnn and onnxruntime, and repeat the last valid output in Keras and in
# Sonnet 2, while users of Sonnet 1 unrolled by dynamic_rnn.
#
# Seen with tf_keras 2.21.0 and dm-sonnet 2.0.2 on TensorFlow 2.21.0, onnxruntime 1.32.0, onnx 1.23.2,
# Python 3.11:
#
#     tensorflow 2.21.0, tf_keras 2.21.0, dm-sonnet 2.0.2, onnxruntime 1.32.0
#     dynamic_rnn: empty row: output 0, state initial; behind the end: 0
#     Keras: empty row: output 0, state initial; behind the end: the last output
#     Sonnet: empty row: output 0, state initial; behind the end: the last output
#     onnxruntime: empty row: output 0, state 0; behind the end: 0
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tensorflow==2.21.0 tf_keras==2.21.0 dm-sonnet==2.0.2 \
  onnx==1.23.2 onnxruntime==1.32.0
cat > "$folder/show.py" <<'PYTHON'
from importlib.metadata import version

import numpy as np
import onnxruntime
import sonnet
import tensorflow as tf
import tf_keras
from onnx import TensorProto, helper, numpy_helper

STEPS, ROWS, INPUTS, UNITS = 4, 2, 3, 5
LENGTHS = np.array([2, 0], np.int32)
random = np.random.default_rng(0)


def numbers(*shape):
    return random.standard_normal(shape).astype(np.float32)


x, h, c = numbers(STEPS, ROWS, INPUTS), numbers(ROWS, UNITS), numbers(ROWS, UNITS)


def run_tensorflow():
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        result = v1.nn.dynamic_rnn(
            v1.nn.rnn_cell.LSTMCell(UNITS),
            tf.constant(x),
            initial_state=v1.nn.rnn_cell.LSTMStateTuple(tf.constant(c), tf.constant(h)),
            sequence_length=LENGTHS,
            time_major=True,
        )
        session.run(v1.global_variables_initializer())
        outputs, state = session.run(result)
    return outputs, state.h, state.c


def run_keras():
    layer = tf_keras.layers.LSTM(UNITS, return_sequences=True, return_state=True)
    state, mask = [tf.constant(h), tf.constant(c)], tf.sequence_mask(LENGTHS, STEPS)
    outputs, *last = layer(tf.constant(x.swapaxes(0, 1)), initial_state=state, mask=mask)
    return outputs.numpy().swapaxes(0, 1), *(one.numpy() for one in last)


def run_sonnet():
    state = sonnet.LSTMState(hidden=tf.constant(h), cell=tf.constant(c))
    outputs, last = sonnet.dynamic_unroll(
        sonnet.LSTM(UNITS), tf.constant(x), state, sequence_length=tf.constant(LENGTHS)
    )
    return np.asarray(outputs), np.asarray(last.hidden), np.asarray(last.cell)


def run_onnxruntime():
    arrays = {
        "W": numbers(1, 4 * UNITS, INPUTS),
        "R": numbers(1, 4 * UNITS, UNITS),
        "lengths": LENGTHS,
        "h": h[None],
        "c": c[None],
    }
    names = ["x", "W", "R", "", "lengths", "h", "c"]
    graph = helper.make_graph(
        [helper.make_node("LSTM", names, ["Y", "Y_h", "Y_c"], hidden_size=UNITS)],
        "lstm",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("Y", "Y_h", "Y_c")],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    session = onnxruntime.InferenceSession(made.SerializeToString())
    return [one.squeeze(-3) for one in session.run(None, {"x": x})]


programs = ("tensorflow", "tf_keras", "dm-sonnet", "onnxruntime")
print(*(f"{name} {version(name)}" for name in programs), sep=", ")
for name, run in (
    ("dynamic_rnn", run_tensorflow),
    ("Keras", run_keras),
    ("Sonnet", run_sonnet),
    ("onnxruntime", run_onnxruntime),
):
    outputs, last_h, last_c = run()
    output = "0" if not outputs[:, 1].any() else "other"
    if np.array_equal(last_h[1], h[1]) and np.array_equal(last_c[1], c[1]):
        state = "initial"
    else:
        state = "other" if last_h[1].any() or last_c[1].any() else "0"
    behind = outputs[2:, 0]
    if not behind.any():
        end = "0"
    else:
        end = "the last output" if np.array_equal(behind, outputs[[1, 1], 0]) else "other"
    print(f"{name}: empty row: output {output}, state {state}; behind the end: {end}")
PYTHON
found=$(TF_CPP_MIN_LOG_LEVEL=3 TF_USE_LEGACY_KERAS=1 \
  "$folder/venv/bin/python" "$folder/show.py" 2> /dev/null)
echo "$found"
[ "$found" = "tensorflow 2.21.0, tf_keras 2.21.0, dm-sonnet 2.0.2, onnxruntime 1.32.0
dynamic_rnn: empty row: output 0, state initial; behind the end: 0
Keras: empty row: output 0, state initial; behind the end: the last output
Sonnet: empty row: output 0, state initial; behind the end: the last output
onnxruntime: empty row: output 0, state 0; behind the end: 0" ] || { echo "this has changed"; exit 1; }
