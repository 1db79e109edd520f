"""The variables of tf.keras.layers.LSTM, under the names that TensorFlow 1.x gives them.

Its gates are in the order i, f, c (our j), o, it has one bias, and adds nothing at run time.
Source: python/keras/layers/{recurrent,wrappers}.py (1.15).
"""

from __future__ import annotations

from collections.abc import Mapping

from lstmstate.engines.canonical_network import Array, CanonicalCell, Network
from lstmstate.errors import UnsupportedError
from lstmstate.exports.cell_calls import calls, state_scopes
from lstmstate.exports.gate_weights import join_gates
from lstmstate.exports.tensorflow_checkpoint import function

_PROGRAM = """\
import numpy as np
import tensorflow as tf  # 2; in 1.x: tf.enable_eager_execution()

weights = tf.train.load_checkpoint({prefix!r})
after = {{}}


def run(name, scope, y, reverse=False, **functions):
    parts = [weights.get_tensor(name + leaf) for leaf in {leaves}]
    lstm = tf.keras.layers.LSTM(
        parts[1].shape[0], return_sequences=True, return_state=True, go_backwards=reverse,
        dtype=y.dtype.name, **functions,
    )
    lstm.build(y.shape)
    lstm.set_weights(parts)
    last = [tf.constant(state[scope + "h"]), tf.constant(state[scope + "c"])]
    y, after[scope + "h"], after[scope + "c"] = lstm(tf.constant(y), initial_state=last)
    return y.numpy()[:, ::-1] if reverse else y.numpy()


{calls}\
state = after
"""
_LEAVES = ("kernel", "recurrent_kernel", "bias")


def arrays(network: Network) -> Mapping[str, Array]:
    """Return the variables: `lstm/kernel` `[I, 4U]`, `lstm/recurrent_kernel`, `lstm/bias`, …"""
    found: dict[str, Array] = {}
    for name, cell in zip(cell_names(network), network.cells, strict=True):
        joined = join_gates(cell, "ifjo")
        values = (joined.kernel, joined.recurrent, joined.bias)
        found |= {f"{name}/{leaf}": array for leaf, array in zip(_LEAVES, values, strict=True)}
    return found


def source(network: Network, path: str) -> str:
    """Return the program that runs them."""
    scopes = zip(cell_names(network), state_scopes(network), strict=True)
    return _PROGRAM.format(
        prefix=path.removesuffix(".index"),
        leaves=_LEAVES,
        calls=calls(
            network,
            [f"'{name}/', {scope!r}" for name, scope in scopes],
            ends=[_functions(cell) for cell in network.cells],
        ),
    )


def cell_names(network: Network) -> list[str]:
    """Return the scope of each cell: `lstm`, `lstm_1`, …

    Raises:
        UnsupportedError: a direction has several cells.
    """
    found: list[str] = []
    layers = wrappers = 0
    for stage in network.stages:
        if len(stage) == 1:
            found += [_numbered("lstm", layers + above) for above in range(len(stage[0]))]
            layers += len(stage[0])
            continue
        if any(len(chain) > 1 for chain in stage):
            raise UnsupportedError(
                "Keras joins the two directions after each layer, and this network after all",
                tensor=network.first.name,
                advice="export the stack of each direction by itself: `stack='NAME'`",
            )
        outer, inner = _numbered("bidirectional", wrappers), _numbered("lstm", layers)
        found += [f"{outer}/{side}_{inner}" for side in ("forward", "backward")]
        layers, wrappers = layers + 1, wrappers + 1
    return found


def _numbered(name: str, number: int) -> str:
    """Return the name of a layer: Keras numbers those of a class, from the second on."""
    return f"{name}_{number}" if number else name


def _functions(cell: CanonicalCell) -> str:
    """Return the arguments for activations that are not those of Keras 3."""
    found = ""
    if cell.recurrent_activation != "sigmoid":
        found += f", recurrent_activation={function(cell.recurrent_activation)}"
    if cell.activation != "tanh":
        found += f", activation={function(cell.activation)}"
    return found
