"""The weights of a cell gate by gate, with everything in them that is a constant of the gate."""

from __future__ import annotations

import numpy as np

from lstmstate.engines.canonical_network import GATES, Array, CanonicalCell, split_gates
from lstmstate.named_tuple import NamedTuple


class GateWeights(NamedTuple):
    """The weights of one gate.

        z = x @ kernel + m @ recurrent + bias + peephole * c
        z = gamma * norm(x @ kernel + m @ recurrent) + bias + peephole * c    with a layer norm

    Attributes:
        kernel: `[I, H]`.
        recurrent: `[R, H]`.
        bias: `[H]`.
        peephole: `[H]`, None without one.
        gamma: `[H]`, None without a layer norm.
    """

    kernel: Array
    recurrent: Array
    bias: Array
    peephole: Array | None = None
    gamma: Array | None = None


def gate_weights(cell: CanonicalCell, added: float = 0.0) -> dict[str, GateWeights]:
    """Return the weights of the gates i, j, f and o.

    The forget_bias is in the bias of f. If i is 1 - f, it has the weights of f with the other sign:
    1 - s(z) is s(-z) for the functions that `Activation.is_symmetric` names. Recurrent weights of
    units that see their own m alone become a diagonal matrix.

    Args:
        added: what the program that runs them adds to f by itself.
    """
    recurrent = cell.recurrent
    kernels = split_gates(cell.kernel, cell.gates)
    recurrents = split_gates(recurrent, cell.gates)
    biases = split_gates(cell.bias, cell.gates)
    found: dict[str, GateWeights] = {}
    for gate in cell.gates:
        norm = cell.norms.get(gate)
        bias = biases[gate] if norm is None else norm.beta
        found[gate] = GateWeights(
            kernels[gate],
            np.diag(recurrents[gate]) if recurrent.ndim == 1 else recurrents[gate],
            bias + cell.dtype.type(cell.forget_bias - added) if gate == "f" else bias,
            cell.peepholes.get(gate),
            None if norm is None else norm.gamma,
        )
    if "i" not in found:
        kernel, own, bias, peephole, gamma = found["f"]
        sign = -1 if gamma is None else 1  # a norm leaves the sign to gamma
        found["i"] = GateWeights(
            sign * kernel,
            sign * own,
            -bias - cell.dtype.type(added),
            None if peephole is None else -peephole,
            None if gamma is None else -gamma,
        )
    return {gate: found[gate] for gate in GATES}


def join_gates(cell: CanonicalCell, order: str, added: float = 0.0) -> GateWeights:
    """Return the kernel `[I, 4·H]`, recurrent `[R, 4·H]` and bias `[4·H]` of all gates.

    Args:
        order: the gates in the order of the columns, such as "ijfo".
        added: what the program that runs them adds to f by itself.
    """
    gates = gate_weights(cell, added)
    bias = np.concatenate([gates[gate].bias for gate in order])
    if order == cell.gates and cell.recurrent.ndim == 2:  # as they are: large, and not copied
        return GateWeights(cell.kernel, cell.recurrent, bias)
    kernel, recurrent = (
        np.concatenate([gates[gate][at] for gate in order], axis=-1) for at in (0, 1)
    )
    return GateWeights(kernel, recurrent, bias)
