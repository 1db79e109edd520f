"""The parameters of Haiku's hk.LSTM, by module and name.

Its gates are in the order i, g (our j), f, o, one matrix `[I + U, 4U]` has the rows of the input
first, and 1 is added to f at run time: everything as in TensorFlow 1, but for the order h, c.
Source: haiku/_src/recurrent.py (0.0.17).
"""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import indent

import numpy as np

from lstmstate.engines.canonical_network import Array, Network
from lstmstate.exports.cell_calls import calls, state_scopes
from lstmstate.exports.gate_weights import join_gates
from lstmstate.exports.jax_parts import settings
from lstmstate.exports.weight_files import reading

ADDED = 1.0
_PROGRAM = """\
import haiku as hk
import jax
import numpy as np

{settings}{reading}
params = {{}}
for name, array in weights.items():
    module, _, leaf = name.rpartition("/")
    params.setdefault(module, {{}})[leaf] = array


@hk.transform
def network(x):
    after = {{}}

    def run(units, scope, y, reverse=False):
        last = hk.LSTMState(state[scope + "hidden"], state[scope + "cell"])
        y, last = hk.dynamic_unroll(hk.LSTM(units), y, last, time_major=False, reverse=reverse)
        after[scope + "hidden"], after[scope + "cell"] = last
        return y

{calls}\
    return outputs, after


outputs, state = network.apply(params, None, x)
"""


def arrays(network: Network) -> Mapping[str, Array]:
    """Return the parameters: `lstm/linear/w` `[I + U, 4U]`, `lstm/linear/b`, `lstm_1/linear/w`, …

    Haiku numbers modules as they are made; those of a DeepRNN are made first.
    """
    found: dict[str, Array] = {}
    for number, cell in enumerate(network.cells):
        joined = join_gates(cell, "ijfo", ADDED)
        module = f"lstm_{number}" if number else "lstm"
        found[f"{module}/linear/w"] = np.concatenate([joined.kernel, joined.recurrent])
        found[f"{module}/linear/b"] = joined.bias
    return found


def source(network: Network, path: str) -> str:
    """Return the program that runs them."""
    arguments = [
        f"{cell.widths.c}, {scope!r}"
        for scope, cell in zip(state_scopes(network), network.cells, strict=True)
    ]
    return _PROGRAM.format(
        settings=settings(network),
        reading=reading(path),
        calls=indent(calls(network, arguments, join="jax.numpy"), "    "),
    )
