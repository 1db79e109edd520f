"""Files with one LSTM for the benchmarks of `run`: checkpoint, torch, ONNX and input.

    python run_models.py FOLDER BATCH STEPS INPUT UNITS

They are:

    model.*       a checkpoint with its graph, of TensorFlow's own LSTMCell under dynamic_rnn
    x.npy         the sequences, [batch, time, input], float32
    weights.pt    the same weights as the state_dict of torch.nn.LSTM
    model.onnx    the same weights as ONNX's LSTM
    shape.json    [batch, steps, input, units]
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

# TensorFlow reads these when it is imported.
os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

FORGET_BIAS = 1.0
SEED = 7


class Weights(NamedTuple):
    """kernel `[input + units, 4 * units]` and bias, gates in TensorFlow's order, i, j, f, o."""

    kernel: np.ndarray
    bias: np.ndarray

    def gates(self, order: str) -> tuple[np.ndarray, np.ndarray]:
        """Return `[4 * units, input + units]` and bias with forget_bias, in some gate order."""
        kernels = dict(zip("ijfo", np.split(self.kernel, 4, axis=1), strict=True))
        biases = dict(zip("ijfo", np.split(self.bias, 4), strict=True))
        biases["f"] = biases["f"] + np.float32(FORGET_BIAS)
        kernel = np.concatenate([kernels[gate].T for gate in order])
        return kernel, np.concatenate([biases[gate] for gate in order])


def save_checkpoint(path: str, x: np.ndarray, units: int) -> Weights:
    """Save a checkpoint and its `.meta`; return its weights."""
    import tensorflow.compat.v1 as tf

    tf.disable_v2_behavior()
    random = np.random.default_rng(SEED)
    placeholder = tf.placeholder(tf.float32, [None, None, x.shape[-1]])
    cell = tf.nn.rnn_cell.LSTMCell(units, forget_bias=FORGET_BIAS)
    tf.nn.dynamic_rnn(cell, placeholder, dtype=tf.float32)
    with tf.Session() as session:
        values = []
        for variable in tf.trainable_variables():
            bound = units**-0.5
            values.append(random.uniform(-bound, bound, variable.shape).astype(np.float32))
            variable.load(values[-1], session)
        tf.train.Saver().save(session, path)
    return Weights(*values)


def save_torch(path: str, weights: Weights, width: int) -> None:
    """Save the state_dict of torch.nn.LSTM."""
    import torch

    kernel, bias = weights.gates("ifjo")
    state = {
        "weight_ih_l0": kernel[:, :width],
        "weight_hh_l0": kernel[:, width:],
        "bias_ih_l0": bias,
        "bias_hh_l0": np.zeros_like(bias),
    }
    torch.save({k: torch.from_numpy(v.copy()) for k, v in state.items()}, path)


def save_onnx(path: str, weights: Weights, width: int) -> None:
    """Save a model with one LSTM, over `[time, batch, input]`."""
    import onnx
    from onnx import helper

    kernel, bias = weights.gates("iofj")
    units = len(bias) // 4
    values = {
        "W": kernel[None, :, :width],
        "R": kernel[None, :, width:],
        "B": np.concatenate([bias, np.zeros_like(bias)])[None],
    }
    kept = [onnx.numpy_helper.from_array(v.copy(), k) for k, v in values.items()]

    def info(name: str, shape: list[Any]) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)

    graph = helper.make_graph(
        [helper.make_node("LSTM", ["X", "W", "R", "B"], ["Y", "Y_h", "Y_c"], hidden_size=units)],
        "lstm",
        [info("X", ["time", "batch", width])],
        [
            info("Y", ["time", 1, "batch", units]),
            info("Y_h", [1, "batch", units]),
            info("Y_c", [1, "batch", units]),
        ],
        kept,
    )
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def main() -> None:
    """Write all files."""
    folder = Path(sys.argv[1])
    batch, steps, width, units = map(int, sys.argv[2:6])
    x = np.random.default_rng(SEED + 1).uniform(-1, 1, (batch, steps, width)).astype(np.float32)
    np.save(folder / "x.npy", x)
    (folder / "shape.json").write_text(json.dumps([batch, steps, width, units]))
    weights = save_checkpoint(str(folder / "model"), x, units)
    save_torch(str(folder / "weights.pt"), weights, width)
    save_onnx(str(folder / "model.onnx"), weights, width)


if __name__ == "__main__":
    main()
