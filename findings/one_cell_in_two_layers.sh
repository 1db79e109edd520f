#!/usr/bin/env bash
# MultiRNNCell of one cell object, twice, saves one kernel and carries two states.
#
# `MultiRNNCell([cell] * 2)` looks like two layers. The object makes its variables once, in the scope
# of the first layer, and the second layer steps with the same weights, silently: the checkpoint has
# cell_0 alone, and the network still takes and gives two pairs of c and m. A reader that counts
# layers by variables runs one layer of two. Published checkpoints of TensorFlow 1.x have this.
#
# Seen with tf_keras 2.21.0 on TensorFlow 2.21.0, Python 3.11:
#
#     variables: rnn/multi_rnn_cell/cell_0/basic_lstm_cell/bias rnn/multi_rnn_cell/cell_0/basic_lstm_cell/kernel
#     states: 2 pairs, alike False
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tensorflow==2.21.0 tf_keras==2.21.0
cat > "$folder/show.py" <<'PYTHON'
import tempfile

import numpy as np
import tensorflow.compat.v1 as tf

with tf.Graph().as_default(), tf.Session() as session:
    cell = tf.nn.rnn_cell.BasicLSTMCell(4)
    x = tf.constant(np.random.default_rng(0).standard_normal((2, 3, 4)), tf.float32)
    _, last = tf.nn.dynamic_rnn(tf.nn.rnn_cell.MultiRNNCell([cell] * 2), x, dtype=tf.float32)
    session.run(tf.global_variables_initializer())
    prefix = tf.train.Saver().save(session, tempfile.mkdtemp() + "/model.ckpt")
    names = sorted(name for name, _ in tf.train.list_variables(prefix))
    first, second = session.run(last)
print("variables:", *names)
print(f"states: {len(last)} pairs, alike {np.allclose(first, second)}")
PYTHON
found=$(TF_CPP_MIN_LOG_LEVEL=3 TF_USE_LEGACY_KERAS=1 \
  "$folder/venv/bin/python" "$folder/show.py" 2> /dev/null)
echo "$found"
scope=rnn/multi_rnn_cell/cell_0/basic_lstm_cell
[ "$found" = "variables: $scope/bias $scope/kernel
states: 2 pairs, alike False" ] || { echo "this has changed"; exit 1; }
