"""TensorFlow's fused BlockLSTM: CKPT INPUT UNITS OUT."""

import sys

import numpy as np
import tensorflow as tf

ckpt = tf.train.load_checkpoint(sys.argv[1])
x = np.load(sys.argv[2]).swapaxes(0, 1)
units = int(sys.argv[3])
zeros, none = tf.zeros([x.shape[1], units]), tf.zeros([units])
made = tf.raw_ops.BlockLSTM(
    seq_len_max=len(x),
    x=x,
    cs_prev=zeros,
    h_prev=zeros,
    w=ckpt.get_tensor("rnn/lstm_cell/kernel"),
    wci=none,
    wcf=none,
    wco=none,
    b=ckpt.get_tensor("rnn/lstm_cell/bias"),
    forget_bias=1.0,
    cell_clip=-1.0,
)
np.save(sys.argv[4], np.ascontiguousarray(made.h.numpy().swapaxes(0, 1)))
