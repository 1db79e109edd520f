"""A cell as ONNX's LSTM operator.

Source: the LSTM operator in onnx/docs/Operators.md. Its gates are in the order i, o, f, c (our j),
its peepholes i, o, f, and the o peephole sees the new c, as in TensorFlow's cells. Its `clip` is on
the gates and not on c.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lstmstate.cells.activations import BY_NAME
from lstmstate.engines.canonical_network import Array, CanonicalCell
from lstmstate.errors import printable
from lstmstate.exports.expressible import Expressible
from lstmstate.exports.gate_weights import gate_weights

if TYPE_CHECKING:
    import onnx

_GATES, _PEEPHOLES = "iofj", "iof"
DIRECTIONS = ("forward", "reverse")  # of a stage's chains
_ONNX_FUNCTIONS = tuple(name for name, row in BY_NAME.items() if row.onnx is not None)
OPERATOR = Expressible(
    activations=_ONNX_FUNCTIONS, gates=_ONNX_FUNCTIONS, splits_activations=True, peepholes=True
)


def lstm_node(
    cell: CanonicalCell, number: int, direction: str, inputs: Sequence[str], outputs: Sequence[str]
) -> tuple[onnx.NodeProto, dict[str, list[Array]]]:
    """Return a cell that `OPERATOR` expresses as an LSTM operator, and its weights by name.

    Weights are in parts that follow on one another, without the first axis, of one direction.

    Args:
        number: in the names of the weights, unlike for each cell.
        inputs: the names of X, sequence_lens, initial_h and initial_c.
        outputs: the names of Y, Y_h and Y_c.
    """
    from onnx import helper

    x, lengths, *states = inputs
    weights = {f"{name}_{number}": parts for name, parts in _weights(cell).items()}
    kernel, recurrent, bias, *peepholes = weights
    names = (cell.recurrent_activation, cell.candidate, cell.activation)
    activations = [BY_NAME[name] for name in names]
    # In turn for the activations that have one, and no others.
    numbers: dict[str, Any] = {
        "activation_alpha": [n for one in activations for n in one.onnx_numbers[:1]],
        "activation_beta": [n for one in activations for n in one.onnx_numbers[1:]],
    }
    node = helper.make_node(
        "LSTM",
        [x, kernel, recurrent, bias, lengths, *states, *peepholes],
        outputs,
        name=f"lstm_{number}",
        doc_string=printable(cell.name),
        activations=[one.onnx for one in activations],
        direction=direction,
        hidden_size=cell.widths.c,
        **{name: values for name, values in numbers.items() if values},
    )
    return node, weights


def _weights(cell: CanonicalCell) -> dict[str, list[Array]]:
    """Return the parts of W `[4H, I]`, R `[4H, H]`, B `[8H]` and P `[3H]` of a cell, as views."""
    units = cell.widths.c
    by_gate = gate_weights(cell)
    zeros = np.zeros(units, np.float32)
    found = {
        "W": [by_gate[gate].kernel.T for gate in _GATES],
        "R": [by_gate[gate].recurrent.T for gate in _GATES],
        # The second half is another bias, of the recurrent part.
        "B": [*(by_gate[gate].bias for gate in _GATES), *[zeros] * 4],
    }
    if cell.peepholes:
        peepholes = [by_gate[gate].peephole for gate in _PEEPHOLES]
        found["P"] = [zeros if one is None else one for one in peepholes]
    return found
