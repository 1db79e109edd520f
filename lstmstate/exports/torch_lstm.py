"""The state_dict of torch.nn.LSTM.

Its gates are in the order i, f, g (our j), o, its matrices `[4U, inputs]`, and it adds two biases.
Source: torch/nn/modules/rnn.py (2.13).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lstmstate.engines.canonical_network import Array, CanonicalCell, Network
from lstmstate.exports.gate_weights import join_gates
from lstmstate.exports.layers import Layer, layers_of, refuse_unlike_widths
from lstmstate.exports.weight_files import reading

_GATES = "ifjo"
_DIRECTIONS = ("", "_reverse")


def arrays(network: Network) -> Mapping[str, Array]:
    """Return the state_dict: the bias is in `bias_ih_l0`, and `bias_hh_l0` is zero."""
    found: dict[str, Array] = {}
    for number, layer in enumerate(_layers(network)):
        for direction, cell in zip(_DIRECTIONS, layer, strict=False):
            found |= state_dict(cell, f"_l{number}{direction}")
    return found


def state_dict(cell: CanonicalCell, end: str) -> dict[str, Array]:
    """Return the parameters of one cell, whose names have an ending."""
    joined = join_gates(cell, _GATES)
    found = {
        f"weight_ih{end}": joined.kernel.T,
        f"weight_hh{end}": joined.recurrent.T,
        f"bias_ih{end}": joined.bias,
        f"bias_hh{end}": np.zeros_like(joined.bias),
    }
    if cell.projection is not None:
        found[f"weight_hr{end}"] = cell.projection.T
    return found


def source(network: Network, path: str) -> str:
    """Return the program that runs it."""
    layers = _layers(network)
    first = layers[0][0]
    units, width = first.widths
    options = [f"{first.input_size}, {units}", f"num_layers={len(layers)}"]
    options += ["bidirectional=True"] * (len(layers[0]) > 1)
    options += [f"proj_size={width}"] * (first.projection is not None)
    options += [f"batch_first=True, dtype=torch.{first.dtype}"]
    return f"""\
import numpy as np
import torch

{reading(path, "torch")}
lstm = torch.nn.LSTM({", ".join(options)})
lstm.load_state_dict({{name: torch.from_numpy(array) for name, array in weights.items()}})
with torch.no_grad():
    h_n, c_n = (torch.from_numpy(state[name]) for name in ("h_n", "c_n"))
    outputs, (h_n, c_n) = lstm(torch.from_numpy(x), (h_n, c_n))
state = {{"h_n": h_n, "c_n": c_n}}
"""


def _layers(network: Network) -> list[Layer]:
    layers = layers_of(network, "torch.nn.LSTM")
    refuse_unlike_widths(layers, "torch.nn.LSTM")
    return layers
