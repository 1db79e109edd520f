"""A network as one ONNX graph: its cells as LSTM operators, their states as inputs and outputs.

    x [steps, batch, I], h0_0, c0_0, ...  ->  y [steps, batch, width], h_0, c_0, ...

Source: the LSTM operator in onnx/docs/Operators.md. Its gates are in the order i, o, f, c (our j),
its peepholes i, o, f, and the o peephole sees the new c, as in TensorFlow's cells. Cells that it
cannot express are refused: its `clip`, for example, is on the gates and not on c.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lstmstate.cells.activations import BY_NAME
from lstmstate.engines.canonical_network import Array, CanonicalCell, Network, Stage
from lstmstate.engines.expressible import Expressible, refuse_missing_parts
from lstmstate.engines.gate_weights import gate_weights
from lstmstate.errors import UnsupportedError, printable

if TYPE_CHECKING:
    import onnx

# onnxruntime 1.17 and all later ones load both.
_OPSET, _IR_VERSION = 14, 7
_GATES, _PEEPHOLES = "iofj", "iof"
DIRECTIONS = ("forward", "reverse")  # of a stage's chains
_ONNX_FUNCTIONS = tuple(name for name, row in BY_NAME.items() if row.onnx is not None)
OPERATOR = Expressible(
    activations=_ONNX_FUNCTIONS, gates=_ONNX_FUNCTIONS, splits_activations=True, peepholes=True
)
_MODEL_BYTES = (1 << 31) - 1  # protobuf: a message has less than 2 GiB


def build_model(
    network: Network, *, lengths: bool = False, steps: Sequence[str] = ("y",)
) -> onnx.ModelProto:
    """Return a network as an ONNX model of float32.

    Inputs: x `[steps, batch, I]`, then h0_k and c0_k `[1, batch, H]` of each cell k, numbered as
    in `network.cells`. Outputs: those of `steps`, then h_k and c_k.

    Args:
        lengths: whether there is an input `lengths` `[batch]`, int32, after x: how many of the
            steps each sequence has. Past its end outputs are zero. No length may be zero:
            onnxruntime makes the state zero there.
        steps: the outputs of every step: "y" `[steps, batch, width]` of the network, and
            "m_k" `[steps, 1, batch, H]`, the m of cell k.

    Raises:
        UnsupportedError: ONNX cannot express a cell.
    """
    from onnx import helper

    check(network)
    parts = _Parts(network, lengths, steps)
    return helper.make_model(
        helper.make_graph(parts.nodes, "lstm", parts.inputs, parts.outputs, parts.weights),
        producer_name="lstmstate",
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
    )


def check(network: Network) -> None:
    """Raise UnsupportedError if ONNX's LSTM cannot express a cell, with all that it lacks."""
    refuse_missing_parts(network, OPERATOR, "ONNX's LSTM")
    nbytes = sum(_nbytes(cell) for cell in network.cells)
    if nbytes > _MODEL_BYTES:
        raise UnsupportedError(
            f"its weights are {nbytes:,} bytes in ONNX, and a model has less than 2 GiB",
            tensor=network.first.name,
        )


def _nbytes(cell: CanonicalCell) -> int:
    """Return how many bytes the weights have in ONNX: recurrent parts are never diagonal."""
    units = cell.widths.c
    return 4 * units * (4 * (cell.input_size + units + 2) + 3)


class _Parts:
    """The parts of a graph."""

    def __init__(self, network: Network, lengths: bool, steps: Sequence[str]) -> None:
        from onnx import TensorProto, numpy_helper

        cells = network.cells
        self.nodes: list[onnx.NodeProto] = []
        self.weights = [numpy_helper.from_array(np.array([1]), "axis")]
        self.inputs = [_info("x", "steps", "batch", network.first.input_size)]
        if lengths:
            self.inputs.append(_info("lengths", "batch", dtype=TensorProto.INT32))
        self._lengths = "lengths" if lengths else ""  # an empty name: an input left out
        self._count = 0
        x = "x"
        for number, stage in enumerate(network.stages, 1):
            ends = self._stage(x, stage)
            if number < len(network.stages):
                x = self._join(ends, f"x_{number}")
            elif "y" in steps:
                self._join(ends, "y")
        known = {f"m_{k}": ("steps", 1, "batch", cell.widths.m) for k, cell in enumerate(cells)}
        y = ("steps", "batch", network.output_shape[-1])
        self.outputs = [_info(name, *known.get(name, y)) for name in steps]
        for number, cell in enumerate(cells):
            shape = (1, "batch", cell.widths.c)
            self.inputs += [_info(f"h0_{number}", *shape), _info(f"c0_{number}", *shape)]
            self.outputs += [_info(f"h_{number}", *shape), _info(f"c_{number}", *shape)]

    def _stage(self, x: str, stage: Stage) -> list[str]:
        """Add the chains of a stage; return the name of what each puts out."""
        ends = []
        for direction, chain in zip(DIRECTIONS, stage, strict=False):
            made = [self._cell(x, chain[0], direction)]
            for cell in chain[1:]:
                made.append(self._cell(self._squeeze(made[-1]), cell, direction))
            ends.append(made[-1])
        return ends

    def _cell(self, x: str, cell: CanonicalCell, direction: str) -> str:
        """Add a cell; return the name of its outputs `[steps, 1, batch, H]`."""
        from onnx import numpy_helper

        number = self._count
        self._count += 1
        states = [f"h0_{number}", f"c0_{number}"]
        outputs = [f"m_{number}", f"h_{number}", f"c_{number}"]
        node, weights = lstm_node(cell, number, direction, [x, self._lengths, *states], outputs)
        self.nodes.append(node)
        for name, rows in weights.items():
            self.weights.append(numpy_helper.from_array(np.concatenate(rows)[None], name))
        return outputs[0]

    def _squeeze(self, m: str, name: str = "") -> str:
        """Add a Squeeze of the axis of directions; return the name of its output."""
        from onnx import helper

        name = name or f"flat_{m}"
        self.nodes.append(helper.make_node("Squeeze", [m, "axis"], [name]))
        return name

    def _join(self, ends: list[str], name: str) -> str:
        """Add the join of the outputs of a stage's chains; return its name."""
        from onnx import helper

        if len(ends) == 1:
            return self._squeeze(ends[0], name)
        self.nodes.append(
            helper.make_node("Concat", [self._squeeze(m) for m in ends], [name], axis=2)
        )
        return name


def lstm_node(
    cell: CanonicalCell, number: int, direction: str, inputs: Sequence[str], outputs: Sequence[str]
) -> tuple[onnx.NodeProto, dict[str, list[Array]]]:
    """Return a cell that `OPERATOR` expresses as an LSTM operator, and its weights by name.

    Weights are in parts that follow on one another, without the first axis, of one direction.

    Args:
        number: in the names of the weights, unlike for each cell.
        inputs: the names of X, sequence_lens, initial_h and initial_c, empty for one left out.
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


def _info(name: str, *shape: Any, dtype: int = 1) -> onnx.ValueInfoProto:
    """Return the declaration of an input or output; 1 is ONNX's number of float32."""
    from onnx import helper

    return helper.make_tensor_value_info(name, dtype, shape)


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
