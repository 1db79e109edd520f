#!/usr/bin/env bash
# A cell_clip of 0 or -1 switches clipping off in one LSTM of TensorFlow, and freezes c in another.
#
# LSTMBlockCell and BlockLSTM take any cell_clip that is not above 0 as "no clip", and contrib's
# wrappers pass -1 for it. LSTMCell switches clipping off by None alone: with 0 every c is 0, and
# with -1 every c is 1, since the lower bound, +1, is applied after the upper one, -1. Neither raises
# an error. Both read one checkpoint, so the same setting copied from one cell to the other, or to
# a converter, gives a network that runs and whose c is a constant.
#
# Seen with tf_keras 2.21.0 on TensorFlow 2.21.0, Python 3.11, for c of one step:
#
#     tensorflow 2.21.0, tf_keras 2.21.0
#     cell_clip 0.2: LSTMCell clipped, LSTMBlockCell clipped
#     cell_clip 0: LSTMCell all 0, LSTMBlockCell not clipped
#     cell_clip -1: LSTMCell all 1, LSTMBlockCell not clipped
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tensorflow==2.21.0 tf_keras==2.21.0
cat > "$folder/show.py" <<'PYTHON'
from importlib.metadata import version

import numpy as np
import tensorflow.compat.v1 as tf

random = np.random.default_rng(0)
x, c, h = (random.standard_normal((2, 3)).astype(np.float32) for _ in range(3))
kernel = random.standard_normal((6, 12)).astype(np.float32)


def cell(clip):
    with tf.Graph().as_default(), tf.Session() as session:
        weights = tf.constant_initializer(kernel)
        layer = tf.nn.rnn_cell.LSTMCell(3, cell_clip=clip, initializer=weights)
        _, state = layer(tf.constant(x), (tf.constant(c), tf.constant(h)))
        session.run(tf.global_variables_initializer())
        return session.run(state[0])


def block(clip):
    with tf.Graph().as_default(), tf.Session() as session:
        peepholes = dict.fromkeys(("wci", "wcf", "wco"), np.zeros(3, np.float32))
        weights = {"w": kernel, "b": np.zeros(12, np.float32), **peepholes}
        step = tf.raw_ops.LSTMBlockCell(x=x, cs_prev=c, h_prev=h, cell_clip=clip, **weights)
        return session.run(step.cs)


free = cell(None)
programs = ("tensorflow", "tf_keras")
print(*(f"{name} {version(name)}" for name in programs), sep=", ")
for clip in (0.2, 0, -1):
    words = []
    for run in (cell, block):
        found = run(clip)
        if np.allclose(found, free):
            words.append("not clipped")
        elif np.ptp(found) == 0:
            words.append(f"all {abs(found.flat[0]):g}")
        elif np.allclose(found, np.clip(free, -clip, clip)):
            words.append("clipped")
    print(f"cell_clip {clip}: LSTMCell {words[0]}, LSTMBlockCell {words[1]}")
PYTHON
found=$(TF_CPP_MIN_LOG_LEVEL=3 TF_USE_LEGACY_KERAS=1 \
  "$folder/venv/bin/python" "$folder/show.py" 2> /dev/null)
echo "$found"
[ "$found" = "tensorflow 2.21.0, tf_keras 2.21.0
cell_clip 0.2: LSTMCell clipped, LSTMBlockCell clipped
cell_clip 0: LSTMCell all 0, LSTMBlockCell not clipped
cell_clip -1: LSTMCell all 1, LSTMBlockCell not clipped" ] || { echo "this has changed"; exit 1; }
