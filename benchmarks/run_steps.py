"""Our engine or a peer in a waiting process, for the steady state of `run_speed.py`.

    python run_steps.py PEER FOLDER...      # folders of run_models.py

Prints "ready"; then for every line "FOLDER ROUNDS" on stdin runs the whole sequence of that folder
ROUNDS times, and prints the seconds of each round; "FOLDER save PATH" saves the outputs,
`[time, batch, units]`. Between lines it sleeps, so that its threads do not disturb others.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable

import numpy as np

Run = Callable[[], np.ndarray]
_BEFORE_ROUNDS = 1  # warm up threads and caches, and are not reported


def _units(folder: str) -> int:
    with open(f"{folder}/shape.json") as file:
        return int(json.load(file)[-1])


def numpy_engine(folder: str, x: np.ndarray) -> Run:
    """Our engine: compiled steps, or NumPy."""
    import lstmstate
    from lstmstate.model.network_loader import RunOptions

    loaded = lstmstate.open_checkpoint(f"{folder}/model").network().load(RunOptions("numpy"))
    states = loaded.states_of(None, x.shape[1])
    return lambda: loaded.runner.run(x, states).outputs


def onnxruntime(folder: str, x: np.ndarray) -> Run:
    """onnxruntime by itself."""
    import onnxruntime as ort

    session = ort.InferenceSession(f"{folder}/model.onnx")
    return lambda: session.run(None, {"X": x})[0][:, 0]


def torch(folder: str, x: np.ndarray) -> Run:
    """torch.nn.LSTM."""
    import torch as pytorch

    lstm = pytorch.nn.LSTM(x.shape[-1], _units(folder))
    lstm.load_state_dict(pytorch.load(f"{folder}/weights.pt"))
    inputs = pytorch.from_numpy(x)

    def run() -> np.ndarray:
        with pytorch.no_grad():
            return lstm(inputs)[0].numpy()

    return run


def dynamic_rnn(folder: str, x: np.ndarray) -> Run:
    """TensorFlow's LSTMCell under dynamic_rnn, in a session."""
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    import tensorflow.compat.v1 as tf

    tf.disable_v2_behavior()
    graph = tf.Graph()
    with graph.as_default():
        inputs = tf.placeholder(tf.float32, x.shape)
        cell = tf.nn.rnn_cell.LSTMCell(_units(folder))
        outputs, _ = tf.nn.dynamic_rnn(cell, inputs, dtype=tf.float32, time_major=True)
        session = tf.Session(graph=graph)
        tf.train.Saver().restore(session, f"{folder}/model")
    run: Run = session.make_callable(outputs, [inputs])
    return lambda: run(x)


def recurrent_product(folder: str, x: np.ndarray) -> Run:
    """The least work of a step in NumPy: recurrent weights times the last output."""
    units = _units(folder)
    random = np.random.default_rng(0)
    weights = random.uniform(-1, 1, (4 * units, units)).astype(np.float32)
    m = random.uniform(-1, 1, (units, x.shape[1])).astype(np.float32)
    z = np.empty((4 * units, x.shape[1]), np.float32)

    def run() -> np.ndarray:
        for _ in range(len(x)):
            np.dot(weights, m, z)
        return z

    return run


PEERS = {
    peer.__name__: peer
    for peer in (
        numpy_engine, onnxruntime, torch, dynamic_rnn, recurrent_product
    )
}  # fmt: skip


def main() -> None:
    """Prepare everything, then answer."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # output of libraries is not an answer
    runs = {}
    for folder in sys.argv[2:]:
        x = np.ascontiguousarray(np.load(f"{folder}/x.npy").swapaxes(0, 1))
        runs[folder] = PEERS[sys.argv[1]](folder, x)
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        folder, what, *path = line.split()
        run = runs[folder]
        if path:
            np.save(path[0], run())
            print("saved", file=answers, flush=True)
            continue
        seconds = []
        for number in range(_BEFORE_ROUNDS + int(what)):
            start = time.perf_counter()
            run()
            if number >= _BEFORE_ROUNDS:
                seconds.append(time.perf_counter() - start)
        print(json.dumps(seconds), file=answers, flush=True)


if __name__ == "__main__":
    main()
