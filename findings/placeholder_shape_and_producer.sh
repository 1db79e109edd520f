#!/usr/bin/env bash
# A placeholder whose shape is [] is a scalar or of any shape, by the version of its graph.
#
# TensorFlow up to 1.0 wrote the shape of a placeholder only where all of it was fixed: one of
# [None, 28] is written as [], just like a scalar. TensorFlow still reads it by
# GraphDef.versions.producer: up to 21 the shape [] is unknown, from 22 on it is a scalar. A reader
# that takes the bytes alone takes every open placeholder of those years for a scalar.
#
# Seen with TensorFlow 2.21.0 on Python 3.11:
#
#     producer 21: <unknown>, takes 2 x 28 numbers
#     producer 22: (), refuses 2 x 28 numbers
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tensorflow==2.21.0
cat > "$folder/show.py" <<'PYTHON'
import numpy as np
import tensorflow.compat.v1 as tf

for producer in (21, 22):
    definition = tf.GraphDef()
    definition.versions.producer = producer
    node = definition.node.add(name="x", op="Placeholder")
    node.attr["dtype"].type = tf.float32.as_datatype_enum
    node.attr["shape"].shape.SetInParent()
    with tf.Graph().as_default(), tf.Session() as session:
        (x,) = tf.import_graph_def(definition, return_elements=["x:0"], name="")
        try:
            session.run(tf.identity(x), {x: np.zeros((2, 28))})
            answer = "takes"
        except ValueError:
            answer = "refuses"
    print(f"producer {producer}: {x.shape}, {answer} 2 x 28 numbers")
PYTHON
found=$(TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" "$folder/show.py" 2> /dev/null)
echo "$found"
[ "$found" = "producer 21: <unknown>, takes 2 x 28 numbers
producer 22: (), refuses 2 x 28 numbers" ] || { echo "this has changed"; exit 1; }
