"""Graphs of TensorFlow up to 1.0, without the shapes of placeholders of unknown size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from writers import new_session, tensorflow

import lstmstate

Array = Any
BATCH, STEPS, INPUTS, UNITS = 3, 5, 4, 6


def cell(tf: Any, x: Any, c: Any, m: Any) -> tuple[Any, Any]:
    kernel = tf.get_variable("kernel", [INPUTS + UNITS, 4 * UNITS])
    bias = tf.get_variable("bias", [4 * UNITS])
    i, j, f, o = tf.split(tf.matmul(tf.concat([x, m], 1), kernel) + bias, 4, 1)
    c = c * tf.sigmoid(f + 1.0) + tf.sigmoid(i) * tf.tanh(j)
    return c, tf.tanh(c) * tf.sigmoid(o)


def steps_of(tf: Any, every: Any, zeros: Any) -> tuple[Any, Any, Any]:
    c = m = zeros
    made = []
    with tf.variable_scope("rnn/basic_lstm_cell", reuse=tf.AUTO_REUSE):
        for x in every:
            c, m = cell(tf, x, c, m)
            made.append(m)
    return tf.stack(made), c, m


def in_a_loop(tf: Any, x: Any) -> tuple[Any, Any, Any]:
    turned = tf.transpose(x, [1, 0, 2])
    zeros = tf.zeros([tf.shape(x)[0], UNITS])

    def step(both: Any, x: Any) -> tuple[Any, Any]:
        with tf.variable_scope("rnn/basic_lstm_cell", reuse=tf.AUTO_REUSE):
            return cell(tf, x, *both)

    every_c, every_m = tf.scan(step, turned, (zeros, zeros))
    return every_m, every_c[-1], every_m[-1]


def unstacked(tf: Any, x: Any) -> tuple[Any, Any, Any]:
    every = tf.split(tf.transpose(x, [1, 0, 2]), STEPS, 0)
    rows = [tf.squeeze(one, [0]) for one in every]
    return steps_of(tf, rows, tf.zeros([tf.shape(x)[0], UNITS]))


def behind_a_layer(tf: Any, x: Any) -> tuple[Any, Any, Any]:
    """The rows of all steps go through a layer together, and are split again."""
    rows = tf.reshape(tf.transpose(x, [1, 0, 2]), [-1, INPUTS])
    rows = tf.nn.relu(tf.matmul(rows, tf.get_variable("layer", [INPUTS, INPUTS])))
    every = tf.split(rows, STEPS, 0)
    return steps_of(tf, every, tf.zeros([tf.shape(x)[0], UNITS]))


def of_ids(tf: Any, ids: Any) -> tuple[Any, Any, Any]:
    table = tf.get_variable("table", [9, INPUTS])
    parts = tf.split(tf.nn.embedding_lookup(table, ids), STEPS, 1)
    rows = [tf.squeeze(one, [1]) for one in parts]
    return steps_of(tf, rows, tf.zeros([tf.shape(ids)[0], UNITS]))


def saved(folder: Path, build: Any) -> tuple[str, Array, list[Array]]:
    """Return a checkpoint with a graph like those of 0.12, x, and TensorFlow's results."""
    tf = tensorflow()
    random = np.random.default_rng(3)
    is_ids = build is of_ids
    x = random.standard_normal((BATCH, STEPS, INPUTS)).astype("f4")
    with tf.Graph().as_default() as graph, new_session(tf, graph) as session:
        shape = [None, STEPS] if is_ids else [None, None if build is in_a_loop else STEPS, INPUTS]
        fed = tf.placeholder(tf.int32 if is_ids else tf.float32, shape, "x")
        found = build(tf, fed)
        for variable in tf.global_variables():
            value = random.standard_normal(variable.shape.as_list()) * 0.5
            session.run(variable.assign(value.astype("f4")))
        given = random.integers(0, 9, (BATCH, STEPS)) if is_ids else x
        expected = session.run(found, {fed: given})
        if is_ids:
            (table,) = (v for v in tf.global_variables() if v.op.name == "table")
            x = session.run(table)[given]
        prefix = tf.train.Saver().save(session, str(folder / "model.ckpt"))
    meta = tf.MetaGraphDef()
    path = Path(f"{prefix}.meta")
    meta.ParseFromString(path.read_bytes())
    meta.graph_def.versions.producer = 17
    meta.meta_info_def.tensorflow_version = "0.12.1"
    for node in meta.graph_def.node:
        if node.op == "Placeholder":
            node.attr["shape"].shape.Clear()
            node.attr["shape"].shape.SetInParent()
            del node.attr["_output_shapes"]
    path.write_bytes(meta.SerializeToString())
    return prefix, x, expected


@pytest.mark.filterwarnings("ignore:.*own step is run", "ignore:.*x is ", "ignore:.*x is fed")
@pytest.mark.parametrize("build", [in_a_loop, unstacked, behind_a_layer, of_ids])
def test_shapes_are_inferred_from_the_readers_of_a_placeholder(tmp_path: Path, build: Any) -> None:
    prefix, x, expected = saved(tmp_path, build)
    ckpt = lstmstate.open_checkpoint(prefix)
    outputs, state = ckpt.network().run(x)
    found = [outputs.swapaxes(0, 1), *state]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-6)
    assert ckpt.network().load().confirmed is not (build is behind_a_layer)
