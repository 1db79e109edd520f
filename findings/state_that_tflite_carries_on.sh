#!/usr/bin/env bash
# A Keras LSTM that is not stateful carries its state on in TensorFlow Lite, if it has a bias.
#
# The converter turns an LSTM of tf_keras into one fused operation, whose h and c are variables of
# the interpreter: the next invoke() begins where the last one ended, until reset_all_variables().
# One would expect that of stateful=True alone. And it depends on what has nothing to do with
# state: without a bias, with an activation of relu, or if the final states are returned, the same
# layer becomes a loop that begins from zeros each time. The backward half of a Bidirectional layer
# continues from the start of the sequence before.
#
# Seen with tf_keras 2.21.0 on TensorFlow 2.21.0, Python 3.11, for one input given twice:
#
#     tensorflow 2.21.0, tf_keras 2.21.0
#     as it is: the first answer equals Keras, the second differs
#     use_bias=False: the first answer equals Keras, the second equals Keras
#     activation='relu': the first answer equals Keras, the second equals Keras
#     return_state=True: the first answer equals Keras, the second equals Keras
#     Bidirectional: the first answer equals Keras, the second differs
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tensorflow==2.21.0 tf_keras==2.21.0
cat > "$folder/show.py" <<'PYTHON'
from importlib.metadata import version

import numpy as np
import tensorflow as tf
import tf_keras

x = np.random.default_rng(0).standard_normal((2, 4, 3)).astype(np.float32)
LSTM = tf_keras.layers.LSTM
programs = ("tensorflow", "tf_keras")
print(*(f"{name} {version(name)}" for name in programs), sep=", ")
for words, layer in (
    ("as it is", LSTM(5)),
    ("use_bias=False", LSTM(5, use_bias=False)),
    ("activation='relu'", LSTM(5, activation="relu")),
    ("return_state=True", LSTM(5, return_state=True)),
    ("Bidirectional", tf_keras.layers.Bidirectional(LSTM(5))),
):
    given = tf_keras.Input(batch_shape=x.shape)
    model = tf_keras.Model(given, layer(given))
    expected = [np.asarray(one) for one in tf.nest.flatten(model(x))]
    made = tf.lite.TFLiteConverter.from_keras_model(model).convert()
    interpreter = tf.lite.Interpreter(model_content=made)
    interpreter.allocate_tensors()
    answers = []
    for _ in range(2):
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
        interpreter.invoke()
        found = [interpreter.get_tensor(one["index"]) for one in interpreter.get_output_details()]
        # The order of several outputs is the converter's.
        equal = all(any(np.allclose(a, b, atol=1e-5) for b in found) for a in expected)
        answers.append("equals Keras" if equal else "differs")
    print(f"{words}: the first answer {answers[0]}, the second {answers[1]}")
PYTHON
found=$(TF_CPP_MIN_LOG_LEVEL=3 TF_USE_LEGACY_KERAS=1 \
  "$folder/venv/bin/python" "$folder/show.py" 2> /dev/null)
echo "$found"
[ "$found" = "tensorflow 2.21.0, tf_keras 2.21.0
as it is: the first answer equals Keras, the second differs
use_bias=False: the first answer equals Keras, the second equals Keras
activation='relu': the first answer equals Keras, the second equals Keras
return_state=True: the first answer equals Keras, the second equals Keras
Bidirectional: the first answer equals Keras, the second differs" ] || { echo "this has changed"; exit 1; }
