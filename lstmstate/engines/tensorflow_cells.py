"""TensorFlow's own cells: the classes and operations that compute a family, and their options.

Sources: tf_keras (layers/rnn/legacy_cells.py, layers/rnn/lstm.py) and TensorFlow's operations
LSTMBlockCell, BlockLSTM and BlockLSTMV2 (core/ops/rnn_ops.cc), which contrib's LSTMBlockCell,
CudnnCompatibleLSTMCell and LSTMBlockFusedCell of 1.x called.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any

import numpy as np

from lstmstate.cells.activations import BY_NAME
from lstmstate.cells.families import row_of
from lstmstate.checkpoint.dtypes import NUMPY_FLOATS
from lstmstate.engines.canonical_network import Array, CanonicalCell, split_gates
from lstmstate.errors import UnsupportedError
from lstmstate.named_tuple import NamedTuple

# TensorFlow has no type stubs: these names are for the reader.
Tensor = Any
RNNCell = Any
INSTEAD = "use `engine='numpy'`"


class TensorFlow(NamedTuple):
    """The modules of TensorFlow: `tensorflow`, `tf_keras`, and the legacy cells in it."""

    tf: Any
    tf_keras: Any
    rnn_cell: Any

    def function(self, name: str) -> Callable[[Tensor], Tensor]:
        """Return the function of an activation."""
        found: Callable[[Tensor], Tensor] = attrgetter(BY_NAME[name].tensorflow)(self)
        return found

    def keras3_hard_sigmoid(self, x: Tensor) -> Tensor:
        """Compute what tf_keras has no function for: Keras 3, src/backend/tensorflow/nn.py."""
        return self.tf.nn.relu6(x + 3) / 6


class Built(NamedTuple):
    """A cell in the graph.

    Attributes:
        cell: as dynamic_rnn takes it.
        variables: returns its variables, once it is built.
        values: their values, in the same order.
    """

    cell: RNNCell
    variables: Callable[[], list[Any]]
    values: list[Array]


class CellClass(NamedTuple):
    """A class or operation of TensorFlow that computes families.

    Attributes:
        takes: the options that it has, among those in `_used`.
    """

    make: Callable[[TensorFlow, CanonicalCell], Built]
    takes: frozenset[str]
    dtypes: tuple[str, ...] = NUMPY_FLOATS


def check(cell: CanonicalCell) -> None:
    """Raise UnsupportedError if TensorFlow has no such cell, or not with its options."""
    row = CLASSES.get(row_of(cell.family).tensorflow or "")
    if row is None:
        raise UnsupportedError(
            f"TensorFlow 2 has no {cell.family}", tensor=cell.name, advice=INSTEAD
        )
    lacks = [option for option in _used(cell) if option not in row.takes]
    if cell.dtype not in row.dtypes:
        lacks.append(str(cell.dtype))
    if lacks:
        raise UnsupportedError(
            f"TensorFlow's {cell.family} has no {', '.join(lacks)}",
            tensor=cell.name,
            advice=INSTEAD,
        )


def make(kit: TensorFlow, cell: CanonicalCell) -> Built:
    """Return TensorFlow's own cell, in the graph that is being built."""
    return CLASSES[row_of(cell.family).tensorflow or ""].make(kit, cell)


def _used(cell: CanonicalCell) -> list[str]:
    """Return the options and parts that a cell has next to its kernels and its bias."""
    is_projected = cell.projection is not None
    used = {
        "peepholes": bool(cell.peepholes),
        "forget_bias": cell.forget_bias != 0,
        "cell_clip": cell.cell_clip is not None,
        "projection": is_projected,
        "proj_clip": is_projected and cell.proj_clip is not None,
        "activation": cell.activation != "tanh",
        "recurrent_activation": cell.recurrent_activation != "sigmoid",
        # No class has these.
        "activation of j that is not that of c": cell.candidate != cell.activation,
        "layer norm": bool(cell.norms),
        "coupled gates": "i" not in cell.gates,
        "recurrent weights of one m each": cell.recurrent.ndim == 1,
    }
    return [name for name, is_used in used.items() if is_used]


def _all_rows(cell: CanonicalCell) -> Array:
    return np.concatenate([cell.kernel, cell.recurrent])


def _peepholes(cell: CanonicalCell, order: str) -> list[Array]:
    """Return the peepholes of some gates, zeros for gates without."""
    zeros = np.zeros(cell.widths.c, cell.dtype)
    return [cell.peepholes.get(gate, zeros) for gate in order]


# ---- classes


def _basic(kit: TensorFlow, cell: CanonicalCell) -> Built:
    made = kit.rnn_cell.BasicLSTMCell(
        cell.widths.c,
        forget_bias=cell.forget_bias,
        activation=kit.function(cell.activation),
        dtype=cell.dtype,
    )
    return Built(made, lambda: made.weights, [_all_rows(cell), cell.bias])


def _lstm(kit: TensorFlow, cell: CanonicalCell) -> Built:
    is_projected = cell.projection is not None
    made = kit.rnn_cell.LSTMCell(
        cell.widths.c,
        use_peepholes=bool(cell.peepholes),
        cell_clip=cell.cell_clip,
        num_proj=cell.widths.m if is_projected else None,
        proj_clip=cell.proj_clip,
        forget_bias=cell.forget_bias,
        activation=kit.function(cell.activation),
        dtype=cell.dtype,
    )
    values = [_all_rows(cell), cell.bias]
    if cell.peepholes:
        values += _peepholes(cell, "fio")
    if cell.projection is not None:
        values.append(cell.projection)
    return Built(made, lambda: made.weights, values)


def _keras(kit: TensorFlow, cell: CanonicalCell) -> Built:
    layer = kit.tf_keras.layers.LSTMCell(
        cell.widths.c,
        activation=kit.function(cell.activation),
        recurrent_activation=kit.function(cell.recurrent_activation),
        dtype=cell.dtype.name,
    )
    layer.build([None, cell.input_size])

    def step(x: Tensor, c: Tensor, m: Tensor) -> tuple[Tensor, Tensor]:
        _, (new_m, new_c) = layer(x, [m, c])  # Keras has m first
        return new_c, new_m

    values = [_reorder(cell, part, "ifjo") for part in (cell.kernel, cell.recurrent, cell.bias)]
    return Built(_Stepped(kit, cell, step), lambda: layer.weights, values)


def _reorder(cell: CanonicalCell, columns: Array, order: str) -> Array:
    gates = split_gates(columns, cell.gates)
    return np.concatenate([gates[gate] for gate in order], axis=-1)


class _Stepped:
    """A cell for dynamic_rnn and MultiRNNCell, around a function of x, c and m."""

    def __init__(self, kit: TensorFlow, cell: CanonicalCell, step: Callable[..., Any]) -> None:
        self._tuple, self._step = kit.rnn_cell.LSTMStateTuple, step
        self.state_size = self._tuple(*cell.widths)
        self.output_size = cell.widths.m

    def zero_state(self, batch_size: Tensor, dtype: Any) -> Any:
        """Exist, and not be called: a state is always passed."""
        raise NotImplementedError

    def __call__(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        c, m = self._step(x, *state)
        return m, self._tuple(c, m)


# ---- operations


def _block(name: str) -> Callable[[TensorFlow, CanonicalCell], Built]:
    """Return a function that makes cells of an operation; those over sequences get one step."""
    takes_sequences = name != "LSTMBlockCell"

    def make_cell(kit: TensorFlow, cell: CanonicalCell) -> Built:
        tf = kit.tf
        order = row_of(cell.family).gate_order
        operation = getattr(tf.raw_ops, name)
        values = [
            _reorder(cell, _all_rows(cell), order),
            _reorder(cell, cell.bias, order),
            *_peepholes(cell, "ifo"),
        ]
        variables = [tf.compat.v1.Variable(tf.zeros(v.shape, v.dtype)) for v in values]
        options = {
            "use_peephole": bool(cell.peepholes),
            "cell_clip": -1.0 if cell.cell_clip is None else cell.cell_clip,  # -1 is none
        }
        if name != "BlockLSTMV2":
            options["forget_bias"] = cell.forget_bias
        if takes_sequences:
            options["seq_len_max"] = tf.constant(1, tf.int64)

        def step(x: Tensor, c: Tensor, m: Tensor) -> tuple[Tensor, Tensor]:
            w, b, wci, wcf, wco = variables
            weights = {"w": w, "b": b, "wci": wci, "wcf": wcf, "wco": wco}
            inputs = {role: tf.convert_to_tensor(value) for role, value in weights.items()}
            x = x[None] if takes_sequences else x
            ran = operation(x=x, cs_prev=c, h_prev=m, **inputs, **options)
            return (ran.cs[0], ran.h[0]) if takes_sequences else (ran.cs, ran.h)

        return Built(_Stepped(kit, cell, step), lambda: variables, values)

    return make_cell


_OF_BLOCKS = frozenset({"peepholes", "forget_bias", "cell_clip"})
_HALF_AND_SINGLE = ("float16", "float32")
CLASSES = {
    "BasicLSTMCell": CellClass(_basic, frozenset({"forget_bias", "activation"})),
    "LSTMCell": CellClass(
        _lstm,
        frozenset({"peepholes", "forget_bias", "cell_clip", "projection", "proj_clip"})
        | {"activation"},
    ),
    "LSTMBlockCell": CellClass(_block("LSTMBlockCell"), _OF_BLOCKS, _HALF_AND_SINGLE),
    "BlockLSTM": CellClass(_block("BlockLSTM"), _OF_BLOCKS, _HALF_AND_SINGLE),
    "BlockLSTMV2": CellClass(
        _block("BlockLSTMV2"), frozenset({"peepholes", "cell_clip"}), _HALF_AND_SINGLE
    ),
    "Keras LSTM": CellClass(_keras, frozenset({"activation", "recurrent_activation"})),
}
