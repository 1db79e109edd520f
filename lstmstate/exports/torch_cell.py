"""The state_dict of torch.nn.LSTMCell, which has the parts of one layer of torch.nn.LSTM.

Source: torch/nn/modules/rnn.py (2.13).
"""

from __future__ import annotations

from collections.abc import Mapping

from lstmstate.engines.canonical_network import Array, Network
from lstmstate.exports.layers import only_cell
from lstmstate.exports.torch_lstm import state_dict
from lstmstate.exports.weight_files import reading

_PROGRAM = """\
import numpy as np
import torch

{reading}
cell = torch.nn.LSTMCell({inputs}, {units}, dtype=torch.{dtype})
cell.load_state_dict({{name: torch.from_numpy(array) for name, array in weights.items()}})
outputs = []
with torch.no_grad():
    h, c = (torch.from_numpy(state[name]) for name in ("h", "c"))
    for one in torch.from_numpy(x).unbind(1):
        h, c = cell(one, (h, c))
        outputs.append(h)
outputs = torch.stack(outputs, 1)
state = {{"h": h, "c": c}}
"""


def arrays(network: Network) -> Mapping[str, Array]:
    """Return the state_dict: the bias is in `bias_ih`, and `bias_hh` is zero."""
    return state_dict(only_cell(network, "torch.nn.LSTMCell"), "")


def source(network: Network, path: str) -> str:
    """Return the program that runs it."""
    cell = only_cell(network, "torch.nn.LSTMCell")
    return _PROGRAM.format(
        reading=reading(path, "torch"),
        inputs=cell.input_size,
        units=cell.widths.c,
        dtype=cell.dtype,
    )
