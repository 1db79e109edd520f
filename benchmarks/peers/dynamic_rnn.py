"""TensorFlow's LSTMCell under dynamic_rnn: CKPT INPUT UNITS OUT."""

import os
import sys

os.environ["TF_USE_LEGACY_KERAS"] = "1"

import numpy as np
import tensorflow.compat.v1 as tf

tf.disable_v2_behavior()
x = np.load(sys.argv[2])
inputs = tf.placeholder(tf.float32, x.shape)
cell = tf.nn.rnn_cell.LSTMCell(int(sys.argv[3]))
outputs, state = tf.nn.dynamic_rnn(cell, inputs, dtype=tf.float32)
with tf.Session() as session:
    tf.train.Saver().restore(session, sys.argv[1])
    y, (c, m) = session.run([outputs, state], {inputs: x})
np.save(sys.argv[4], y)
