#!/usr/bin/env bash
# An element of a TensorArray that was never written is an error, or zeros, by what was written.
#
# dynamic_rnn ends its loop with the longest sequence of a batch, and stacks its outputs all the same:
# the steps behind have no element. In a loop of 1.x the array takes the shape of whatever is written
# first; from then on elements that were not written are zeros of it. Where nothing was written,
# reading is an error. Who reads such arrays without TensorFlow has to know of both.
#
# Seen with TensorFlow 2.21.0 on Python 3.11:
#
#     nothing written: InvalidArgumentError
#     element 0 of 3 written: [[1. 2.] [0. 0.] [0. 0.]]
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tensorflow==2.21.0
cat > "$folder/show.py" <<'PYTHON'
import tensorflow.compat.v1 as tf

tf.disable_control_flow_v2()
for words, value in (("nothing written", None), ("element 0 of 3 written", [1.0, 2.0])):
    with tf.Graph().as_default(), tf.Session() as session:
        array = tf.TensorArray(tf.float32, 3)
        if value is not None:
            array = array.write(0, tf.placeholder_with_default(value, [None]))
        try:
            found = str(session.run(array.stack())).replace("\n", "")
        except tf.errors.OpError as error:
            found = type(error).__name__
    print(f"{words}: {found}")
PYTHON
found=$(TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" "$folder/show.py" 2> /dev/null)
echo "$found"
[ "$found" = "nothing written: InvalidArgumentError
element 0 of 3 written: [[1. 2.] [0. 0.] [0. 0.]]" ] || { echo "this has changed"; exit 1; }
