"""The script that makes the sample checkpoints, with TensorFlow's own legacy cells.

    python make.py [FOLDER]

FOLDER is the folder of this script by default. It needs tensorflow 2.21, tf_keras 2.21 and
statsmodels, and takes about half a minute. Two runs give the same bytes: random numbers are seeded,
sums are computed on one thread and without kernels chosen by processor, and no time or path is
written. Other releases of TensorFlow may write other bytes.

One function makes one sample; SAMPLES, at the end, lists them. README.md describes each of them.
"""

# mypy: disable-error-code="import-untyped"
from __future__ import annotations

import argparse
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

# TensorFlow reads these when it is imported: the legacy cells are in tf_keras, not in Keras 3.
os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# oneDNN chooses its kernels by processor, and they round differently; the second switch is for
# the matrix products that TensorFlow passes to oneDNN even without the first.
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
os.environ["TENSORFLOW_USE_CUSTOM_CONTRACTION_KERNEL"] = "0"

import tensorflow as tf
from statsmodels.datasets import sunspots
from tensorflow.core.protobuf import control_flow_pb2, saved_model_pb2

tf1 = tf.compat.v1
rnn_cell = tf1.nn.rnn_cell

# TensorFlow has no type stubs: these names are for the reader.
Cell: TypeAlias = Any
MetaGraph: TypeAlias = Any
Session: TypeAlias = Any
State: TypeAlias = Any  # an LSTMStateTuple, or one flat tensor
Variable: TypeAlias = Any
Floats: TypeAlias = npt.NDArray[np.float32]

SEED = 1700
BATCH = 4
STEPS = 6


@contextmanager
def new_session() -> Iterator[Session]:
    """Open a session on a new graph, on one thread, so that sums keep their order."""
    one_thread = tf1.ConfigProto(
        intra_op_parallelism_threads=1, inter_op_parallelism_threads=1, use_per_session_threads=True
    )
    with tf1.Graph().as_default():
        tf1.set_random_seed(SEED)
        with tf1.Session(config=one_thread) as session:
            yield session


def noise(shape: list[int], half_width: float = 1.0, seed: int = SEED) -> Floats:
    """Return seeded numbers, uniform over [-half_width, half_width)."""
    random = np.random.default_rng(seed)
    return random.uniform(-half_width, half_width, shape).astype(np.float32)


def fill_weights(session: Session) -> None:
    """Give weights seeded numbers, and everything else its initial value.

    Biases get numbers too: TensorFlow's initial zeros would hide a bias in the wrong gate.
    """
    session.run(tf1.global_variables_initializer())
    for seed, variable in enumerate(tf1.trainable_variables()):
        variable.load(noise(variable.shape.as_list(), half_width=0.6, seed=seed), session)


def settle_order(graph: MetaGraph) -> None:
    """Rewrite the descriptions of while loops, whose maps have another order in every run.

    They are messages stored as bytes in a message, out of reach of a deterministic serializer.
    """
    if "while_context" in graph.collection_def:
        contexts = graph.collection_def["while_context"].bytes_list.value
        for k, context in enumerate(contexts):
            message = control_flow_pb2.WhileContextDef.FromString(context)
            contexts[k] = message.SerializeToString(deterministic=True)


def save(
    session: Session,
    prefix: Path,
    *,
    names: Mapping[str, Variable] | None = None,
    version: int = tf1.train.SaverDef.V2,
    global_step: int | None = None,
) -> None:
    """Write a checkpoint, the `checkpoint` file that points to it, and its graph as `.meta`.

    names: name in the checkpoint -> variable; all variables under their own names if None. With
    names of an older TensorFlow no graph is written, since it would have the current names.
    """
    saver = tf1.train.Saver(names, write_version=version)
    saver.save(session, str(prefix), global_step, write_meta_graph=False, write_state=False)
    written = prefix.name if global_step is None else f"{prefix.name}-{global_step}"
    if names is None:
        graph = saver.export_meta_graph(clear_devices=True)
        settle_order(graph)
        prefix.with_name(f"{written}.meta").write_bytes(graph.SerializeToString(deterministic=True))
    # The Saver itself would write the time of saving and the absolute path.
    tf1.train.update_checkpoint_state(str(prefix.parent.resolve()), written)


def state_variable(name: str, width: int, batch: int = BATCH) -> Variable:
    """Make the variable that keeps a state in the checkpoint, zero at first."""
    shape, zeros = [batch, width], tf1.zeros_initializer()
    return tf1.get_variable(name, shape, trainable=False, initializer=zeros)


def tuple_variables(num_units: int, num_proj: int | None = None) -> State:
    """Make the variables `c_state` and `m_state`, as the LSTMStateTuple of one cell."""
    c_state = state_variable("c_state", num_units)
    return rnn_cell.LSTMStateTuple(c_state, state_variable("m_state", num_proj or num_units))


def run_and_keep(session: Session, cell: Cell, input_size: int, state: State) -> None:
    """Step the cell over noise from its zero state, and keep the last state in the variables."""
    inputs = tf1.placeholder(tf.float32, [BATCH, None, input_size], name="inputs")
    _, last = tf1.nn.dynamic_rnn(cell, inputs, initial_state=state)
    pairs = zip(tf.nest.flatten(state), tf.nest.flatten(last), strict=True)
    keep = tf.group(*[variable.assign(value) for variable, value in pairs], name="keep_state")
    fill_weights(session)
    session.run(keep, {inputs: noise([BATCH, STEPS, input_size], half_width=3.0)})


# ---- sunspots: trained on real data --------------------------------------------------------------

SUNSPOT_UNITS = (24, 12)
SEGMENT = 43
TRAINING_YEARS = 6 * SEGMENT  # 1700-1957 as inputs; the years from 1959 on are only predicted
EPOCHS = 60
LEARNING_RATE = 0.01


def write_series(path: Path) -> Floats:
    """Write the yearly sunspot numbers as CSV; return the cell's inputs, [years]."""
    table: npt.NDArray[np.float64] = sunspots.load_pandas().data.to_numpy()
    # The network reads hundreds of sunspots: numbers near 1 suit tanh and sigmoid.
    rows = [f"{year:.0f},{number:.1f},{number / 100:.3f}\n" for year, number in table]
    path.write_text("year,sunspots,input\n" + "".join(rows), encoding="utf-8", newline="\n")
    return (table[:, 1] / 100).astype(np.float32)


class SunspotModel:
    """Two layers that read one year and predict the next; their state is one flat variable."""

    def __init__(self) -> None:
        """Build the graph, training included."""
        layers = [rnn_cell.BasicLSTMCell(n, state_is_tuple=False) for n in SUNSPOT_UNITS]
        cell = rnn_cell.MultiRNNCell(layers, state_is_tuple=False)
        self.state = state_variable("saved_state", cell.state_size, batch=1)
        self.inputs = tf1.placeholder(tf.float32, [1, None, 1], name="inputs")
        self.targets = tf1.placeholder(tf.float32, [1, None, 1], name="targets")
        self.step = tf1.train.get_or_create_global_step()
        outputs, last = tf1.nn.dynamic_rnn(cell, self.inputs, initial_state=self.state)
        kernel = tf1.get_variable("readout/kernel", [SUNSPOT_UNITS[-1], 1])
        bias = tf1.get_variable("readout/bias", [1], initializer=tf1.zeros_initializer())
        self.predictions = tf.add(tf.tensordot(outputs, kernel, 1), bias, name="predictions")
        loss = tf.reduce_mean(tf.square(self.predictions - self.targets), name="loss")
        train = tf1.train.AdamOptimizer(LEARNING_RATE).minimize(loss, self.step)
        # The gradients still read the old state, so it must not be overwritten before them.
        with tf.control_dependencies([train]):
            self.train_and_keep = self.state.assign(last, name="train_and_keep")
        self.keep = self.state.assign(last, name="keep_state")

    def fit(self, session: Session, series: Floats) -> None:
        """Train on segments in time order, each from the last state of the one before."""
        for _ in range(EPOCHS):
            session.run(self.state.initializer)
            for start in range(0, TRAINING_YEARS, SEGMENT):
                years = series[None, start : start + SEGMENT + 1, None]
                feeds = {self.inputs: years[:, :-1], self.targets: years[:, 1:]}
                session.run(self.train_and_keep, feeds)

    def read(self, session: Session, series: Floats) -> Floats:
        """Read the series from the zero state, keep the last state and return the predictions."""
        session.run(self.state.initializer)
        fetched = session.run([self.predictions, self.keep], {self.inputs: series[None, :, None]})
        predictions: Floats = fetched[0][0, :, 0]
        return predictions


def report_fit(series: Floats, predictions: Floats) -> None:
    """Print the errors in sunspots of the model and of repeating this year's number."""
    for years, first, end in (
        ("1701-1958, trained on", 0, TRAINING_YEARS),
        ("1959-2008, never seen in training", TRAINING_YEARS, len(series) - 1),
    ):
        truth = series[first + 1 : end + 1]
        errors = [guess[first:end] - truth for guess in (predictions, series)]
        model, persistence = (100 * np.sqrt(np.mean(error**2)) for error in errors)
        print(f"sunspots {years}: RMSE {model:.1f}, persistence {persistence:.1f}")


def make_sunspots(folder: Path) -> None:
    """Train on real data; save the state after the last year, the start of a forecast."""
    series = write_series(folder / "sunspots.csv")
    with new_session() as session:
        model = SunspotModel()
        session.run(tf1.global_variables_initializer())
        model.fit(session, series)
        report_fit(series, model.read(session, series))
        save(session, folder / "model.ckpt", global_step=int(session.run(model.step)))


# ---- cells and options ---------------------------------------------------------------------------


def make_peepholes(folder: Path, *, state_is_tuple: bool) -> None:
    """Save a cell with every option of LSTMCell, each away from its default.

    The weights and the state are the same, whether the state is kept as two variables or as one.
    """
    with new_session() as session:
        options = {"use_peepholes": True, "cell_clip": 0.75, "proj_clip": 0.25, "forget_bias": 0.5}
        cell = rnn_cell.LSTMCell(8, num_proj=5, state_is_tuple=state_is_tuple, **options)
        state = tuple_variables(8, 5) if state_is_tuple else state_variable("saved_state", 8 + 5)
        run_and_keep(session, cell, 3, state)
        save(session, folder / "model.ckpt")


def make_bidirectional(folder: Path) -> None:
    """Save a forward and a backward cell, of unequal width so that they cannot be confused."""
    with new_session() as session:
        inputs = tf1.placeholder(tf.float32, [None, None, 3], name="inputs")
        lengths = tf1.placeholder(tf.int32, [None], name="lengths")
        cells = [rnn_cell.LSTMCell(units) for units in (8, 6)]
        tf1.nn.bidirectional_dynamic_rnn(*cells, inputs, lengths, dtype=tf.float32)
        fill_weights(session)
        save(session, folder / "model.ckpt")


def make_block_cell(folder: Path) -> None:
    """Save what tf.contrib.rnn.LSTMBlockCell(use_peephole=True) wrote from 1.2 on.

    The class is gone, so that its variables are made by hand; its op is still there. The forget
    bias and the clip are nowhere but in the attributes of the op.
    """
    shapes = {"kernel": [3 + 8, 4 * 8], "bias": [4 * 8]}
    shapes |= {f"w_{gate}_diag": [8] for gate in "ifo"}
    with new_session() as session:
        inputs = tf1.placeholder(tf.float32, [STEPS, BATCH, 3], name="inputs")
        c, m = first = tuple_variables(8)
        with tf1.variable_scope("rnn/lstm_cell"):
            weights = {name: tf1.get_variable(name, shape) for name, shape in shapes.items()}
            kernel, bias, w_i, w_f, w_o = weights.values()
            step = partial(tf.raw_ops.LSTMBlockCell, w=kernel, b=bias, wci=w_i, wcf=w_f, wco=w_o)
            options = {"forget_bias": 0.5, "cell_clip": 0.75, "use_peephole": True}
            for x in tf.unstack(inputs):
                _, c, _, _, _, _, m = step(x=x, cs_prev=c, h_prev=m, **options)
        keep = tf.group(first.c.assign(c), first.h.assign(m), name="keep_state")
        fill_weights(session)
        session.run(keep, {inputs: noise([STEPS, BATCH, 3], half_width=3.0)})
        save(session, folder / "model.ckpt")


# ---- file formats --------------------------------------------------------------------------------


def make_v1_format(folder: Path) -> None:
    """Save in the format that was the default before 0.12: one table file."""
    with new_session() as session:
        tf1.train.get_or_create_global_step()
        run_and_keep(session, rnn_cell.BasicLSTMCell(8), 3, tuple_variables(8))
        save(session, folder / "model.ckpt", version=tf1.train.SaverDef.V1)


def make_partitioned(folder: Path) -> None:
    """Save a kernel in three slices and a projection in two; 11 rows do not divide by three."""
    with new_session() as session:
        cell = rnn_cell.LSTMCell(8, num_proj=5, num_unit_shards=3, num_proj_shards=2)
        run_and_keep(session, cell, 6, tuple_variables(8, 5))
        save(session, folder / "model.ckpt")


def make_saved_model(folder: Path) -> None:
    """Save a cell whose state goes in and out, as TensorFlow 1.x exported it for serving."""
    # The builder makes the folder itself and refuses one that is there.
    folder.rmdir()
    with new_session() as session:
        inputs = tf1.placeholder(tf.float32, [None, None, 3], name="inputs")
        c, m = (tf1.placeholder(tf.float32, [None, 8], name=name) for name in ("c_in", "m_in"))
        cell, state = rnn_cell.BasicLSTMCell(8, forget_bias=0.5), rnn_cell.LSTMStateTuple(c, m)
        outputs, last = tf1.nn.dynamic_rnn(cell, inputs, initial_state=state)
        fill_weights(session)
        tf1.saved_model.simple_save(
            session,
            str(folder),
            inputs={"inputs": inputs, "c": c, "m": m},
            outputs={"outputs": outputs, "c": last.c, "m": last.h},
        )
    model_file = folder / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(model_file.read_bytes())
    settle_order(model.meta_graphs[0])
    model_file.write_bytes(model.SerializeToString(deterministic=True))


# ---- names of older releases ---------------------------------------------------------------------

NAMES_0_12 = {
    "rnn/multi_rnn_cell/cell_": "RNN/MultiRNNCell/Cell",
    "lstm_cell": "LSTMCell",
    "projection/kernel/part_": "W_P_",
    "kernel/part_": "W_",
    "kernel": "W_0",
    "bias": "B",
    "w_f_diag": "W_F_diag",
    "w_i_diag": "W_I_diag",
    "w_o_diag": "W_O_diag",
}
NAMES_1_0 = {"kernel": "weights", "bias": "biases"}


def make_old_names(folder: Path, *, words: Mapping[str, str], shards: int | None) -> None:
    """Save two layers with parts of their names replaced by those of an older release.

    shards: the number of variables for the lower layer's kernel, and for its projection. Like 0.7
    to 0.12, the partitioner splits by rows, the first parts a row longer if they do not divide.
    There each part was a separate variable, and is saved as one here, not as a slice.
    """
    shards_of_both = {"num_unit_shards": shards, "num_proj_shards": shards}
    lower = rnn_cell.LSTMCell(8, use_peepholes=True, num_proj=5, **shards_of_both)
    cell = rnn_cell.MultiRNNCell([lower, rnn_cell.LSTMCell(6)])
    with new_session() as session:
        inputs = tf1.placeholder(tf.float32, [None, None, 5], name="inputs")
        tf1.nn.dynamic_rnn(cell, inputs, dtype=tf.float32)
        fill_weights(session)
        names = {variable.op.name: variable for variable in tf1.global_variables()}
        for new, old in words.items():
            names = {name.replace(new, old): variable for name, variable in names.items()}
        save(session, folder / "model.ckpt", names=names)


SAMPLES: dict[str, Callable[[Path], None]] = {
    "sunspots": make_sunspots,
    "peephole_tuple": partial(make_peepholes, state_is_tuple=True),
    "peephole_flat": partial(make_peepholes, state_is_tuple=False),
    "bidirectional": make_bidirectional,
    "block_cell": make_block_cell,
    "v1_format": make_v1_format,
    "partitioned": make_partitioned,
    "saved_model": make_saved_model,
    "tf_0_12_names": partial(make_old_names, words=NAMES_0_12, shards=3),
    "tf_1_0_names": partial(make_old_names, words=NAMES_1_0, shards=None),
}


def make_all(folder: Path) -> None:
    """Make every sample, each in a folder of its name inside `folder`.

    Needs its own process: it turns off TensorFlow 2's behaviour permanently, and a TensorFlow
    imported before this module does not read the switches above.
    """
    tf1.logging.set_verbosity(tf1.logging.ERROR)
    # Graphs as in 1.x: while loops of Enter and Exit nodes, variables that are references.
    tf1.disable_v2_behavior()
    with warnings.catch_warnings():
        # Every legacy cell warns that it is deprecated.
        warnings.simplefilter("ignore", UserWarning)
        for name, make in SAMPLES.items():
            sample = folder / name
            shutil.rmtree(sample, ignore_errors=True)
            sample.mkdir(parents=True)
            make(sample)


def main() -> None:
    """Make the samples in the folder given on the command line."""
    parser = argparse.ArgumentParser(description="Make the sample checkpoints.")
    parser.add_argument("folder", type=Path, nargs="?", default=Path(__file__).parent)
    make_all(parser.parse_args().folder)


if __name__ == "__main__":
    main()
