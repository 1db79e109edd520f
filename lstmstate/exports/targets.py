"""The programs that weights are exported for: one table."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from lstmstate.cells.activations import ACTIVATIONS
from lstmstate.engines.expressible import Expressible
from lstmstate.engines.network import Array, Network
from lstmstate.errors import ArgumentError
from lstmstate.named_tuple import NamedTuple

Content = Mapping[str, Array] | bytes
ARRAYS = ("npz", "h5")  # the kinds of files for arrays by name


class Target(NamedTuple):
    """A program that weights are exported for.

    Attributes:
        key: its name on the command line.
        program: its class or format, for tables and messages.
        module: in `lstmstate.exports`, "" for variables as they are. Its `arrays(network)` returns
            the weights by name, its `source(network, path)` a Python program that runs them. The
            program takes `x` `[batch, time, input]` and `state`, arrays by the names of its layout,
            all of NumPy, and leaves `outputs` and the `state` after them. If the file is a model,
            `model(network, path)` returns its bytes, and there is no `arrays`.
        has: the cells that it can express.
        state: the layout of its state.
        names: how it names the weights, for tables.
        adds_to_f: what it adds to the forget gate at run time.
        kinds: the kinds of files, the first by default.
        is_model: whether the file is a model, in the program's own format.
        takes_lengths: whether it ends sequences of unlike lengths by itself, as dynamic_rnn does.
    """

    key: str
    program: str
    module: str
    has: Expressible
    state: str
    names: str
    adds_to_f: float = 0.0
    kinds: tuple[str, ...] = ARRAYS
    is_model: bool = False
    takes_lengths: bool = False

    def arrays(self, network: Network) -> Mapping[str, Array]:
        """Return the weights by name."""
        found: Mapping[str, Array] = self._module.arrays(network)
        return found

    def content(self, network: Network, path: str) -> Content:
        """Return the weights by name, or the bytes of a model, for a file of this name."""
        if not self.is_model:
            return self.arrays(network)
        found: bytes = self._module.model(network, path)
        return found

    def source(self, network: Network, path: str) -> str:
        """Return the program that runs them."""
        found: str = self._module.source(network, path)
        return found

    @property
    def _module(self) -> Any:
        return import_module(f"lstmstate.exports.{self.module}")


_ALL = ("float16", "float32", "float64")
# The activations of Keras 3 and tf_keras with the same numbers: hard_sigmoid is two functions.
_KERAS = (
    *("tanh", "sigmoid", "identity", "relu", "relu6", "leaky_relu", "elu", "selu"),
    *("softplus", "softsign"),
)
_EVERYTHING = Expressible(_ALL, ACTIVATIONS, ACTIVATIONS, *[True] * 6)

VARIABLES = Target(
    "arrays",
    "variables as they are",
    "",
    _EVERYTHING,
    "tuple",
    "their own names",
    kinds=("npz", "h5", "npy"),
)
TARGETS = (
    VARIABLES,
    Target(
        "gates",
        "arrays of each gate",
        "gate_arrays",
        _EVERYTHING,
        "tuple",
        "CELL/i/kernel, CELL/i/recurrent, CELL/i/bias, …",
    ),
    Target(
        "torch",
        "torch.nn.LSTM",
        "torch_lstm",
        Expressible(_ALL, narrow_projection=True),
        "torch",
        "weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0, weight_hr_l0",
    ),
    Target(
        "keras",
        "Keras 3",
        "keras_model",
        Expressible(_ALL[1:], _KERAS, (*_KERAS, "keras3_hard_sigmoid")),
        "keras",
        "layers/lstm/cell/vars/0, layers/lstm/cell/vars/1, layers/lstm/cell/vars/2",
        kinds=("keras", "weights.h5"),
        is_model=True,
    ),
    Target(
        "tf_keras",
        "tf_keras",
        "tf_keras_model",
        Expressible(_ALL[1:], _KERAS, (*_KERAS, "hard_sigmoid")),
        "keras",
        "lstm/lstm_cell/kernel:0, lstm/lstm_cell/recurrent_kernel:0, lstm/lstm_cell/bias:0",
        kinds=("h5",),
        is_model=True,
    ),
    Target(
        "onnx",
        "ONNX",
        "onnx_model",
        _EVERYTHING._replace(coupled_gates=True),
        "tuple",
        "x, lengths, c_0, m_0, c_1, m_1, … → outputs, final_c_0, final_m_0, …",
        kinds=("onnx",),
        is_model=True,
        takes_lengths=True,
    ),
)
BY_KEY = {row.key: row for row in TARGETS}


def target_of(key: str) -> Target:
    """Return the target of a name.

    Raises:
        ArgumentError: there is none.
    """
    if key not in BY_KEY:
        raise ArgumentError(
            f"there is no target {key!r:.40}", advice=f"pass one of {', '.join(BY_KEY)}"
        )
    return BY_KEY[key]
