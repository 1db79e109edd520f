#!/usr/bin/env bash
# The loop of a Keras LSTM without return_sequences keeps no outputs but the last.
#
# One would expect its loop to write the output of step t as element t of a list, and the layer to
# take the last. It makes a list of one element, and every step overwrites that: a SavedModel has
# the outputs of all steps only where return_sequences is true, and a reader of the loop's list
# gets a sequence of one step.
#
# Seen with tf_keras 2.21.0 on TensorFlow 2.21.0, Python 3.11:
#
#     return_sequences True: list of as many elements as steps, written at the number of the step
#     return_sequences False: list of 1 element, written at 0
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tensorflow==2.21.0 tf_keras==2.21.0
cat > "$folder/show.py" <<'PYTHON'
import tensorflow as tf
import tf_keras

for is_whole in (True, False):
    # hard_sigmoid keeps Keras from the kernel of a GPU, which is a function of its own.
    layer = tf_keras.layers.LSTM(3, return_sequences=is_whole, recurrent_activation="hard_sigmoid")

    @tf.function(input_signature=[tf.TensorSpec([2, 5, 4])])
    def step(x, layer=layer):
        return layer(x)

    graph = step.get_concrete_function().graph
    (loop,) = (op for op in graph.get_operations() if op.type in ("While", "StatelessWhile"))
    (made,) = (one.op for one in loop.inputs if one.op.type == "TensorListReserve")
    size = tf.get_static_value(made.inputs[1])
    size = "as many elements as steps" if size is None else f"{int(size)} element"
    body = graph._get_function(loop.get_attr("body").name).graph
    (write,) = (op for op in body.get_operations() if op.type == "TensorListSetItem")
    constant = tf.get_static_value(write.inputs[1])
    place = "the number of the step" if constant is None else int(constant)
    print(f"return_sequences {is_whole}: list of {size}, written at {place}")
PYTHON
found=$(TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" "$folder/show.py" 2> /dev/null)
echo "$found"
[ "$found" = "return_sequences True: list of as many elements as steps, written at the number of the step
return_sequences False: list of 1 element, written at 0" ] || { echo "this has changed"; exit 1; }
