"""Variables without files, and graphs of TensorFlow 1.x, for the tests of cell recognition.

A graph is built by a function that takes `tensorflow.compat.v1`, with TensorFlow's legacy cells:

    def one_layer(tf):
        dynamic(tf, tf.nn.rnn_cell.LSTMCell(4))

    cell = opened(one_layer).cells["rnn/lstm_cell"]

The first graph imports TensorFlow, so that tests of names and shapes run without it.
"""

from __future__ import annotations

import functools
import os
import random
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from lstmstate.cells import Cell
from lstmstate.cells.detect import Recognition
from lstmstate.checkpoint.dtypes import BY_NUMBER
from lstmstate.checkpoint.variables import Spec, Variable
from lstmstate.model.checkpoint import LSTMCheckpoint, open_checkpoint

# TensorFlow has no type stubs: these names are for the reader.
TensorFlow = Any  # tensorflow.compat.v1
Tensor = Any
RNNCell = Any
MetaGraph = Any

Shape = tuple[int, ...]
Build = Callable[[TensorFlow], object]
Names = Callable[[list[Any]], Mapping[str, Any]]
Edit = Callable[[MetaGraph], object]

INPUTS, BATCH, STEPS = 3, 2, 2
_DTYPES = {dtype.name: dtype for dtype in BY_NUMBER.values()}


# ---- variables without files


class _NoFile:
    """A reader for variables without values: recognition must not read any."""

    data_files: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.specs: dict[str, Spec] = {}

    def read(self, name: str, spec: Spec, extents: object) -> NoReturn:
        raise AssertionError(f"the value of {name} was read")


def variables(shapes: Mapping[str, Shape], dtype: str = "float32") -> list[Variable]:
    """Return variables that have only names and shapes."""
    return [
        Variable(name, Spec(_DTYPES[dtype], shape), _NoFile(), "nowhere")
        for name, shape in shapes.items()
    ]


def recognised(shapes: Mapping[str, Shape], dtype: str = "float32") -> Recognition:
    """Return the cells recognised among some variables without a graph."""
    return Recognition({one.name: one for one in variables(shapes, dtype)}, None)


def cells(shapes: Mapping[str, Shape], dtype: str = "float32") -> dict[str, Cell]:
    """Return the cells among some variables without a graph, by name."""
    return {cell.name: cell for cell in recognised(shapes, dtype).cells}


def below(scope: str, leaves: Mapping[str, Shape]) -> dict[str, Shape]:
    """Return the shapes of some variables of a scope, under their full names."""
    return {f"{scope}/{leaf}" if scope else leaf: shape for leaf, shape in leaves.items()}


def lstm(scope: str, inputs: int = 3, units: int = 4, proj: int | None = None) -> dict[str, Shape]:
    """Return the variables of an LSTMCell of 1.2 or later in a scope."""
    leaves = {"kernel": (inputs + (proj or units), 4 * units), "bias": (4 * units,)}
    return below(scope, leaves | ({"projection/kernel": (units, proj)} if proj else {}))


def dense(
    scope: str, rows: int, columns: int, leaves: tuple[str, str] = ("kernel", "bias")
) -> dict[str, Shape]:
    """Return a matrix and a bias that fits it, as in many layers."""
    return below(scope, {leaves[0]: (rows, columns), leaves[1]: (columns,)})


# ---- graphs of TensorFlow 1.x


@functools.cache
def tensorflow() -> TensorFlow:
    """Return `tensorflow.compat.v1`, whose cells come from tf_keras (see conftest.py)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import tensorflow as tf
    tf.get_logger().setLevel("ERROR")
    return tf.compat.v1


@contextmanager
def as_in_1_x(tf: TensorFlow, functional: bool = False) -> Iterator[None]:
    """Build while loops and variables as in TensorFlow 1.x, and restore the settings afterwards.

    functional: build them as in 2.x, whose loops call functions.
    """
    loops, resources = tf.control_flow_v2_enabled(), tf.resource_variables_enabled()
    if functional:
        tf.enable_control_flow_v2()
        tf.enable_resource_variables()
    else:
        tf.disable_control_flow_v2()
        tf.disable_resource_variables()
    try:
        with warnings.catch_warnings(), tf.Graph().as_default():
            warnings.simplefilter("ignore")  # every legacy cell warns that it is deprecated
            tf.set_random_seed(1700)
            yield
    finally:
        (tf.enable_control_flow_v2 if loops else tf.disable_control_flow_v2)()
        (tf.enable_resource_variables if resources else tf.disable_resource_variables)()


def new_session(tf: TensorFlow, graph: Any = None, *, cpus: int = 1) -> Any:
    """Return a session that computes a graph as written, which takes less time to begin.

    The optimizer fuses and moves operations differently in graphs of flat states than in those of
    tuples, and then the last bits of their results differ within TensorFlow itself.
    """
    config = tf.ConfigProto(
        intra_op_parallelism_threads=1,
        inter_op_parallelism_threads=1,
        device_count={"CPU": cpus},
    )
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    return tf.Session(graph=graph, config=config)


def set_variables(session: Any, values: Mapping[Any, Any]) -> None:
    """Give variables their values, or else their initial ones, all at once."""
    tf = tensorflow()
    fed = {variable.initializer.inputs[1]: value for variable, value in values.items()}
    session.run(tf.global_variables_initializer(), fed)


def save(
    folder: str | os.PathLike[str],
    build: Build,
    *,
    names: Names | None = None,
    edit: Edit | None = None,
    graph: bool = True,
    version: int | None = None,
    functional: bool = False,
) -> str:
    """Build a graph, save its variables and itself, and return the checkpoint's prefix.

    Args:
        build: makes the graph; its argument is `tensorflow.compat.v1`.
        names: takes the variables and returns those to save, by the names to save them under.
        edit: changes the MetaGraphDef before it is written.
        graph: whether to write a `.meta` file.
        version: of the file format; TensorFlow's default if None.
        functional: whether loops call functions, as in graphs of 2.x.
    """
    tf = tensorflow()
    prefix = str(Path(folder) / "model.ckpt")
    with as_in_1_x(tf, functional):
        build(tf)
        chosen = names(tf.global_variables()) if names else tf.global_variables()
        saver = tf.train.Saver(chosen, write_version=version or tf.train.SaverDef.V2)
        with new_session(tf) as session:
            session.run(tf.global_variables_initializer())
            saver.save(session, prefix, write_meta_graph=False)
        if graph:
            saver.export_meta_graph(f"{prefix}.meta")
    if edit:
        edit_graph(prefix, edit)
    return prefix


def edit_graph(prefix: str, edit: Edit) -> None:
    """Change the graph of a checkpoint: the argument of `edit` is its MetaGraphDef."""
    from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef

    path = Path(f"{prefix}.meta")
    meta = MetaGraphDef.FromString(path.read_bytes())
    edit(meta)
    path.write_bytes(meta.SerializeToString())


@functools.cache
def opened(
    build: Build,
    *,
    names: Names | None = None,
    edit: Edit | None = None,
    graph: bool = True,
    functional: bool = False,
) -> LSTMCheckpoint:
    """Return the cells found in the checkpoint of a graph; the same graph is built only once.

    The files are deleted by then: the result does not depend on values.
    """
    with tempfile.TemporaryDirectory() as folder:
        options = {"names": names, "edit": edit, "graph": graph, "functional": functional}
        ckpt = open_checkpoint(save(folder, build, **options))  # type: ignore[arg-type]
        assert (ckpt.graph is not None) == graph, ckpt.notes
    return ckpt


def rename_nodes(meta: MetaGraph, seed: int) -> None:
    """Give every node except the variables another name, in another alphabetical order."""
    graph = meta.graph_def
    numbers = random.Random(seed).sample(range(10 * len(graph.node)), len(graph.node))
    names = {
        node.name: node.name if "Variable" in node.op or "VarHandle" in node.op else f"n{number}"
        for node, number in zip(graph.node, numbers, strict=True)
    }
    for node in graph.node:
        node.name = names[node.name]
        for at, tensor in enumerate(node.input):
            start = "^" if tensor.startswith("^") else ""
            name, colon, port = tensor.removeprefix("^").partition(":")
            node.input[at] = f"{start}{names[name]}{colon}{port}"


def saved_as_objects(build: Build) -> LSTMCheckpoint:
    """Return the cells in an object-based checkpoint; `build` returns its objects by name."""
    tf = tensorflow()
    with tempfile.TemporaryDirectory() as folder, as_in_1_x(tf):
        checkpoint = tf.train.Checkpoint(**build(tf))  # type: ignore[arg-type]
        with new_session(tf) as session:
            session.run(tf.global_variables_initializer())
            ckpt = open_checkpoint(checkpoint.save(str(Path(folder) / "ckpt"), session=session))
        assert ckpt.cells is not None
    return ckpt


def only(ckpt: LSTMCheckpoint) -> Cell:
    """Return the one cell of a checkpoint."""
    (cell,) = ckpt.cells.values()
    return cell


def shown(cell: Cell, *options: str) -> dict[str, object]:
    """Return the values of some options that the graph shows; others are an error."""
    for option in options:
        assert cell.options[option].source == "graph", (option, cell.options[option])
    return {option: cell.options[option].value for option in options}


# ---- parts of graphs


def inputs(
    tf: TensorFlow, width: int = INPUTS, batch: int | None = None, steps: int | None = None
) -> Tensor:
    """Return a fed sequence `[batch, steps, width]`."""
    return tf.placeholder(tf.float32, [batch, steps, width], name="inputs")


def dynamic(tf: TensorFlow, cell: RNNCell, x: Tensor = None, **arguments: Any) -> tuple[Any, Any]:
    """Return (outputs, last state) of a cell in a loop over a sequence."""
    if "initial_state" not in arguments:
        arguments.setdefault("dtype", tf.float32)
    return tf.nn.dynamic_rnn(cell, inputs(tf) if x is None else x, **arguments)


def static(tf: TensorFlow, cell: RNNCell, x: Tensor = None, **arguments: Any) -> tuple[Any, Any]:
    """Return (outputs, last state) of a cell copied for every step of a sequence."""
    if "initial_state" not in arguments:
        arguments.setdefault("dtype", tf.float32)
    x = inputs(tf, batch=BATCH, steps=STEPS) if x is None else x
    return tf.nn.static_rnn(cell, tf.unstack(x, axis=1), **arguments)


def activation(tf: TensorFlow, name: str) -> Any:
    """Return one of TensorFlow's functions by its name."""
    return getattr(tf.nn, name, None) or getattr(tf, name)


def hand_made(
    tf: TensorFlow,
    order: str = "ijfo",
    *,
    scope: str = "",
    weights: tuple[str, str] = ("kernel", "bias"),
    units: int = 4,
    forget_bias: Any = 1.0,
) -> tuple[Tensor, Tensor]:
    """Step a user-written LSTM over two steps of a fed sequence; return (c, m)."""
    sequence = tf.unstack(inputs(tf, batch=BATCH, steps=STEPS), axis=1)
    with tf.variable_scope(scope) if scope else tf.variable_scope(tf.get_variable_scope()):
        kernel = tf.get_variable(weights[0], [INPUTS + units, 4 * units])
        bias = tf.get_variable(weights[1], [4 * units])
    c = m = tf.zeros([BATCH, units])
    for x in sequence:
        z = tf.nn.bias_add(tf.matmul(tf.concat([x, m], 1), kernel), bias)
        gate = dict(zip(order, tf.split(z, 4, 1), strict=True))
        c = c * tf.sigmoid(gate["f"] + forget_bias) + tf.sigmoid(gate["i"]) * tf.tanh(gate["j"])
        m = tf.tanh(c) * tf.sigmoid(gate["o"])
    return c, m


def block(tf: TensorFlow, op: str = "LSTMBlockCell", units: int = 4, **attributes: Any) -> None:
    """Step a cell that is one operation, under the names of LSTMCell."""
    with tf.variable_scope("rnn/lstm_cell"):
        weights = {"w": tf.get_variable("kernel", [INPUTS + units, 4 * units])}
        weights["b"] = tf.get_variable("bias", [4 * units])
        for name, gate in (("wci", "i"), ("wcf", "f"), ("wco", "o")):
            if attributes.get("use_peephole"):
                weights[name] = tf.get_variable(f"w_{gate}_diag", [units])
            else:
                weights[name] = tf.zeros([units])
    state = {"cs_prev": tf.zeros([BATCH, units]), "h_prev": tf.zeros([BATCH, units])}
    if op == "LSTMBlockCell":
        x = tf.placeholder(tf.float32, [BATCH, INPUTS])
        tf.raw_ops.LSTMBlockCell(x=x, **state, **weights, **attributes)
    else:
        x = tf.placeholder(tf.float32, [STEPS, BATCH, INPUTS])
        length = tf.constant(STEPS, tf.int64)
        getattr(tf.raw_ops, op)(seq_len_max=length, x=x, **state, **weights, **attributes)


def lookalike(tf: TensorFlow, gates: int) -> RNNCell:
    """Make a cell with a kernel `[I + H, gates·H]` and one state, without an output gate.

    With four gates it has the kernel of an LSTM, and mixes its input with its candidate; with
    three that of a coupled one.
    """

    class Lookalike(tf.nn.rnn_cell.RNNCell):  # type: ignore[misc, name-defined]
        state_size = output_size = INPUTS

        def call(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            width = gates * INPUTS
            kernel = tf.get_variable("kernel", [2 * INPUTS, width])
            bias = tf.get_variable("bias", [width])
            z = tf.nn.bias_add(tf.matmul(tf.concat([x, h], 1), kernel), bias)
            new, *rest = tf.split(z, gates, 1)
            keep, keep_x = tf.sigmoid(rest[0] + 1.0), tf.sigmoid(rest[1] + 1.0)
            h = keep * h + (1 - keep) * tf.tanh(new)
            made = tf.nn.relu(rest[2]) if gates == 4 else 0.0
            return keep_x * x + (1 - keep_x) * made, h

    return Lookalike()
