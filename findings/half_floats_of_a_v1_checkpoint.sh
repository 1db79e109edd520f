#!/usr/bin/env bash
# TensorFlow restores float16 from a checkpoint of format V1, and its own checkpoint reader cannot.
#
# The reader behind `tf.train.load_variable`, `load_checkpoint` and every script that converts
# weights lists such a variable with the right shape and dtype, and then raises "Data type not
# supported" for its numbers; complex64, complex128 and uint16 do the same. Saver.restore reads them
# from the same file, and in format V2 both do. One would take the reader for the lower layer of the
# two and the file for damaged. An LSTM in half precision of TensorFlow 1.x has to be restored into a
# graph once, and saved as V2.
#
# Seen with TensorFlow 2.21.0 on Python 3.11, for the float16 variable [0.5, -2.0]:
#
#     tensorflow 2.21.0
#     V1: listed as float16 [2], restored [0.5, -2.0], read UnimplementedError
#     V2: listed as float16 [2], restored [0.5, -2.0], read [0.5, -2.0]
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tensorflow==2.21.0
cat > "$folder/show.py" <<'PYTHON'
import tempfile
from importlib.metadata import version

import tensorflow.compat.v1 as tf

print(f"tensorflow {version('tensorflow')}")
for form in (1, 2):
    with tf.Graph().as_default(), tf.Session() as session:
        variable = tf.get_variable("c", initializer=tf.constant([0.5, -2.0], tf.float16))
        saver = tf.train.Saver(write_version=form)
        session.run(variable.initializer)
        prefix = saver.save(session, tempfile.mkdtemp() + "/model.ckpt")
        session.run(variable.assign([0, 0]))
        saver.restore(session, prefix)
        restored = session.run(variable).tolist()
    reader = tf.train.load_checkpoint(prefix)
    dtype = reader.get_variable_to_dtype_map()["c"].name
    shape = reader.get_variable_to_shape_map()["c"]
    try:
        read = reader.get_tensor("c").tolist()
    except tf.errors.OpError as error:
        read = type(error).__name__
    print(f"V{form}: listed as {dtype} {shape}, restored {restored}, read {read}")
PYTHON
found=$(TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" "$folder/show.py" 2> /dev/null)
echo "$found"
[ "$found" = "tensorflow 2.21.0
V1: listed as float16 [2], restored [0.5, -2.0], read UnimplementedError
V2: listed as float16 [2], restored [0.5, -2.0], read [0.5, -2.0]" ] || { echo "this has changed"; exit 1; }
