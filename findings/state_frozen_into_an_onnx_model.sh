#!/usr/bin/env bash
# tf2onnx writes the state that a stateful LSTM has at the time into the model, as a constant.
#
# A stateful Keras layer keeps h and c in variables from one call to the next. One would expect its
# conversion to start from zeros, to make the states inputs and outputs, or to be refused. tf2onnx
# freezes them together with the weights: the ONNX model has no state to set or to carry, and every
# run begins where the layer was when it was converted. Converted after one batch, the first run
# repeats the second call of Keras, and so does each later run; converted after reset_states(), it
# is the first call each time. No message mentions it.
#
# Seen with tf2onnx 1.17.0, onnx 1.23.2, onnxruntime 1.32.0, tf_keras 2.21.0 on TensorFlow 2.21.0,
# Python 3.11:
#
#     tf2onnx 1.17.0, onnx 1.23.2, onnxruntime 1.32.0, tf_keras 2.21.0, tensorflow 2.21.0
#     converted before any call: runs equal the calls 1, 1 of Keras
#     converted after 1 call: runs equal the calls 2, 2 of Keras
#     converted after reset_states: runs equal the calls 1, 1 of Keras
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tensorflow==2.21.0 tf_keras==2.21.0 tf2onnx==1.17.0 \
  onnx==1.23.2 onnxruntime==1.32.0
cat > "$folder/show.py" <<'PYTHON'
from importlib.metadata import version

import numpy as np
import onnxruntime
import tf2onnx
import tf_keras

x = np.random.default_rng(0).standard_normal((2, 4, 3)).astype(np.float32)
tf_keras.utils.set_random_seed(0)
model = tf_keras.Sequential(
    [tf_keras.Input(batch_shape=x.shape), tf_keras.layers.LSTM(5, stateful=True)]
)


def two_runs():
    made, _ = tf2onnx.convert.from_keras(model, opset=15)
    session = onnxruntime.InferenceSession(made.SerializeToString())
    (name,) = (given.name for given in session.get_inputs())
    return [session.run(None, {name: x})[0] for _ in range(2)]


runs = {"before any call": two_runs()}
calls = [model(x).numpy()]
runs["after 1 call"] = two_runs()
calls += [model(x).numpy() for _ in range(2)]
model.reset_states()
runs["after reset_states"] = two_runs()
programs = ("tf2onnx", "onnx", "onnxruntime", "tf_keras", "tensorflow")
print(*(f"{name} {version(name)}" for name in programs), sep=", ")
for time, found in runs.items():
    equal = [
        str(number)
        for one in found
        for number, call in enumerate(calls, 1)
        if np.allclose(one, call, atol=1e-6)
    ]
    print(f"converted {time}: runs equal the calls {', '.join(equal)} of Keras")
PYTHON
found=$(TF_CPP_MIN_LOG_LEVEL=3 TF_USE_LEGACY_KERAS=1 \
  "$folder/venv/bin/python" "$folder/show.py" 2> /dev/null)
echo "$found"
[ "$found" = "tf2onnx 1.17.0, onnx 1.23.2, onnxruntime 1.32.0, tf_keras 2.21.0, tensorflow 2.21.0
converted before any call: runs equal the calls 1, 1 of Keras
converted after 1 call: runs equal the calls 2, 2 of Keras
converted after reset_states: runs equal the calls 1, 1 of Keras" ] || { echo "this has changed"; exit 1; }
