"""The programs that weights are exported for: one table."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from lstmstate.arguments import refuse_unknown
from lstmstate.cells.activations import ACTIVATIONS
from lstmstate.engines.canonical_network import Array, Network
from lstmstate.engines.run_options import RUN_OPTIONS
from lstmstate.exports.expressible import Expressible, missing_parts, refuse_missing_parts
from lstmstate.exports.model_files import ModelFiles
from lstmstate.named_tuple import NamedTuple

Content = Mapping[str, Array] | bytes | ModelFiles
ARRAYS = ("npz", "h5", "safetensors", "pt")  # the kinds of files for arrays by name
CHECKPOINT = "ckpt"  # a V2 checkpoint, whose tensors are the arrays
_AS_VARIABLES = "export its variables: `to='arrays'`"
SCRIPT = "py"  # a Python file, and the arrays in an npz next to it


class ExportTarget(NamedTuple):
    """A program that weights are exported for.

    Attributes:
        key: its name on the command line.
        program: its class or format, for tables and messages.
        module: in `lstmstate.exports`, or an object in one; "" for variables as they are. Its
            `arrays(network)` returns the weights by name, its `source(network, path)` a Python
            program that runs them. The program takes `x` `[batch, time, input]` and `state`, arrays
            by the names of its layout, all of NumPy, and leaves `outputs` and the `state` after
            them. If the file is a model, `model(network, path)` returns its bytes, or these and a
            file of weights, and there is no `arrays`; if it is a Python file, `script(network)`
            returns its text.
        has: the cells that it can express.
        state: the layout of its state.
        names: how it names the weights, for tables.
        adds_to_f: what it adds to the forget gate at run time; None if it adds the forget_bias.
        kinds: the kinds of files, the first by default.
        is_model: whether the file is a model, in the program's own format.
        advice: how to get it, if that is more than to install a package.
        options: those of cells that its checkpoint records next to the weights; then
            `cell_names(network)` returns the names of the cells in it.
        takes_lengths: whether it ends sequences of unlike lengths by itself, as dynamic_rnn does.
    """

    key: str
    program: str
    module: str
    has: Expressible
    state: str
    names: str
    adds_to_f: float | None = 0.0
    kinds: tuple[str, ...] = ARRAYS
    is_model: bool = False
    advice: str = ""
    options: tuple[str, ...] = ()
    takes_lengths: bool = False

    def arrays(self, network: Network) -> Mapping[str, Array]:
        """Return the weights by name."""
        found: Mapping[str, Array] = self._module.arrays(network)
        return found

    def content(self, network: Network, path: str) -> Content:
        """Return the weights by name, or a model, for a file of this name."""
        if not self.is_model:
            return self.arrays(network)
        found: bytes | ModelFiles = self._module.model(network, path)
        return found

    def cell_names(self, network: Network) -> list[str]:
        """Return the names of the cells in its checkpoint."""
        found: list[str] = self._module.cell_names(network)
        return found

    def source(self, network: Network, path: str) -> str:
        """Return the program that runs them."""
        found: str = self._module.source(network, path)
        return found

    def script(self, network: Network) -> str:
        """Return the text of the Python file, if it is one."""
        found: str = self._module.script(network)
        return found

    @property
    def _module(self) -> Any:
        module, _, part = self.module.partition(".")
        found = import_module(f"lstmstate.exports.{module}")
        return getattr(found, part) if part else found


_ALL = ("float16", "float32", "float64")
# The activations of Keras 3 and tf_keras with the same numbers: hard_sigmoid is two functions.
_KERAS = (
    *("tanh", "sigmoid", "identity", "relu", "relu6", "leaky_relu", "elu", "selu"),
    *("softplus", "softsign"),
)
_EVERYTHING = Expressible(
    _ALL,
    ACTIVATIONS,
    ACTIVATIONS,
    splits_activations=True,
    peepholes=True,
    narrow_projection=True,
    wide_projection=True,
    clips=True,
    layer_norm=True,
)
_TF_CELL = Expressible(
    _ALL,
    ACTIVATIONS,
    peepholes=True,
    narrow_projection=True,
    wide_projection=True,
    clips=True,
)
_OTHER_FUNCTIONS = Expressible(_ALL, ACTIVATIONS, ACTIVATIONS)

VARIABLES = ExportTarget(
    "arrays",
    "variables as they are",
    "",
    _EVERYTHING,
    "tuple",
    "their own names",
    kinds=("npz", "h5", "npy", "safetensors", "pt"),
)
TARGETS = (
    VARIABLES,
    ExportTarget(
        "gates",
        "arrays of each gate",
        "gate_arrays",
        _EVERYTHING,
        "tuple",
        "CELL/i/kernel, CELL/i/recurrent, CELL/i/bias, …",
    ),
    ExportTarget(
        "numpy",
        "NumPy alone",
        "numpy_script",
        _EVERYTHING,
        "tuple",
        "those of gates, in the npz next to it",
        kinds=(SCRIPT,),
        takes_lengths=True,
    ),
    ExportTarget(
        "torch",
        "torch.nn.LSTM",
        "torch_lstm",
        Expressible(_ALL, narrow_projection=True),
        "torch",
        "weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0, weight_hr_l0",
    ),
    ExportTarget(
        "keras",
        "Keras 3",
        "keras_model",
        Expressible(_ALL[1:], _KERAS, (*_KERAS, "keras3_hard_sigmoid")),
        "keras",
        "layers/lstm/cell/vars/0, layers/lstm/cell/vars/1, layers/lstm/cell/vars/2",
        kinds=("keras", "weights.h5"),
        is_model=True,
        advice="pip install keras and tensorflow, or torch or jax and set KERAS_BACKEND to it",
    ),
    ExportTarget(
        "tf_keras",
        "tf_keras",
        "tf_keras_model",
        Expressible(_ALL[1:], _KERAS, (*_KERAS, "hard_sigmoid")),
        "keras",
        "lstm/lstm_cell/kernel:0, lstm/lstm_cell/recurrent_kernel:0, lstm/lstm_cell/bias:0",
        kinds=("h5",),
        is_model=True,
    ),
    ExportTarget(
        "torch-cell",
        "torch.nn.LSTMCell",
        "torch_cell",
        Expressible(_ALL),
        "keras",
        "weight_ih, weight_hh, bias_ih, bias_hh",
    ),
    ExportTarget(
        "flax",
        "flax.linen.LSTMCell",
        "flax_cells.LINEN",
        _OTHER_FUNCTIONS,
        "flax",
        "cell_0/ii/kernel, cell_0/hi/kernel, cell_0/hi/bias, cell_0/if/kernel, …",
    ),
    ExportTarget(
        "flax-nnx",
        "flax.nnx.LSTMCell",
        "flax_cells.NNX",
        _OTHER_FUNCTIONS,
        "flax",
        "cell_0/ii/kernel, cell_0/hi/kernel, cell_0/hi/bias, cell_0/if_/kernel, …",
    ),
    ExportTarget(
        "flax-nnx-optimized",
        "flax.nnx.OptimizedLSTMCell",
        "flax_cells.NNX_OPTIMIZED",
        _OTHER_FUNCTIONS,
        "flax",
        "cell_0/dense_i/kernel, cell_0/dense_h/kernel, cell_0/dense_h/bias",
    ),
    ExportTarget(
        "haiku",
        "haiku.LSTM",
        "haiku_lstm",
        Expressible(_ALL),
        "haiku",
        "lstm/linear/w, lstm/linear/b, lstm_1/linear/w, …",
        adds_to_f=1.0,
    ),
    ExportTarget(
        "equinox",
        "equinox.nn.LSTMCell",
        "equinox_cell",
        Expressible(_ALL),
        "equinox",
        "cell_0/weight_ih, cell_0/weight_hh, cell_0/bias",
    ),
    ExportTarget(
        "tensorflow",
        "LSTMCell, TensorFlow 1.2 to 1.15",
        "tensorflow_checkpoint.TENSORFLOW_1_2",
        _TF_CELL,
        "tuple",
        "rnn/lstm_cell/kernel, rnn/multi_rnn_cell/cell_0/lstm_cell/kernel, …",
        adds_to_f=None,
        kinds=(CHECKPOINT,),
        options=RUN_OPTIONS,
    ),
    ExportTarget(
        "tensorflow-1.0",
        "LSTMCell, TensorFlow 1.0 and 1.1",
        "tensorflow_checkpoint.TENSORFLOW_1_0",
        _TF_CELL,
        "tuple",
        "rnn/lstm_cell/weights, rnn/multi_rnn_cell/cell_0/lstm_cell/weights, …",
        adds_to_f=None,
        kinds=(CHECKPOINT,),
        options=RUN_OPTIONS,
    ),
    ExportTarget(
        "tensorflow-0.12",
        "LSTMCell, TensorFlow 0.12",
        "tensorflow_checkpoint.TENSORFLOW_0_12",
        _TF_CELL,
        "tuple",
        "RNN/LSTMCell/W_0, RNN/MultiRNNCell/Cell0/LSTMCell/W_0, …",
        adds_to_f=None,
        kinds=(CHECKPOINT,),
        options=RUN_OPTIONS,
    ),
    ExportTarget(
        "tensorflow-keras",
        "tf.keras LSTM, TensorFlow 1",
        "tf_keras_checkpoint",
        _OTHER_FUNCTIONS,
        "keras",
        "lstm/kernel, lstm/recurrent_kernel, lstm/bias, bidirectional/forward_lstm_1/kernel, …",
        kinds=(CHECKPOINT,),
        options=("activation", "recurrent_activation"),
    ),
    ExportTarget(
        "onnx",
        "ONNX",
        "onnx_model",
        _EVERYTHING._replace(coupled_gates=True, untyped=[("float64", "erf")]),  # onnxruntime's
        "tuple",
        "x, lengths, c_0, m_0, c_1, m_1, … → outputs, final_c_0, final_m_0, …",
        kinds=("onnx",),
        is_model=True,
        takes_lengths=True,
    ),
)
BY_KEY = {row.key: row for row in TARGETS}


def refuse_cells(network: Network, target: ExportTarget) -> None:
    """Raise an UnsupportedError with the targets that can express all cells, if one cannot."""
    able = [
        row.key
        for row in TARGETS
        if row is not VARIABLES and not any(missing_parts(cell, row.has) for cell in network.cells)
    ]
    advice = f"pass `to=...` with one that can: {', '.join(able)}" if able else _AS_VARIABLES
    refuse_missing_parts(network, target.has, target.program, advice)


def target_of(key: str) -> ExportTarget:
    """Return the target of a name.

    Raises:
        ArgumentError: there is none.
    """
    refuse_unknown("target", key, BY_KEY)
    return BY_KEY[key]
