#!/usr/bin/env bash
# Keras 3 declares a wrong width for a Bidirectional whose two layers have unlike numbers of units.
#
# TensorFlow 1 joins a forward and a backward cell of any widths, and Bidirectional takes a
# `backward_layer` of its own, so an old network with 4 and 2 units seems to go over as it is. The
# numbers are right: 6 columns. But the declared shape is twice the width of the forward layer, 8, and
# the next layer of a functional model is built for it: the model can be made, gets weights of the
# wrong shape, and fails at its first call. One would expect the sum of both widths, as
# `merge_mode="concat"` computes it.
#
# Seen with Keras 3.15.1 on JAX 0.10.2, NumPy 2.4.6, Python 3.11:
#
#     declared 8, computed 6, kernel of the next layer (8, 1)
#     the model: ValueError
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet numpy==2.4.6 jax==0.10.2 keras==3.15.1
cat > "$folder/show.py" <<'PYTHON'
import keras
import numpy as np

forward = keras.layers.LSTM(4, return_sequences=True)
backward = keras.layers.LSTM(2, return_sequences=True, go_backwards=True)
both, last = keras.layers.Bidirectional(forward, backward_layer=backward), keras.layers.Dense(1)
x, numbers = keras.Input((5, 3)), np.ones((1, 5, 3), np.float32)
y = both(x)
model = keras.Model(x, last(y))
computed = np.asarray(both(numbers)).shape[-1]
print(f"declared {y.shape[-1]}, computed {computed}, kernel of the next layer {last.kernel.shape}")
try:
    model(numbers)
    print("the model: runs")
except ValueError:
    print("the model: ValueError")
PYTHON
found=$(KERAS_BACKEND=jax "$folder/venv/bin/python" "$folder/show.py")
echo "$found"
[ "$found" = "declared 8, computed 6, kernel of the next layer (8, 1)
the model: ValueError" ] || { echo "this has changed"; exit 1; }
