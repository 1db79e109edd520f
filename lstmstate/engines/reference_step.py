"""The step of an LSTM cell in plain equations, which the tests compare every engine with.

It is for reading, and slow: no command runs it. `x`, `c` and `m` are the input, the cell state and
the output of the step before, one row for each sequence of the batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lstmstate.engines.canonical_network import split_gates
from lstmstate.engines.numpy_functions import function

if TYPE_CHECKING:
    from lstmstate.engines.canonical_network import Array, CanonicalCell, Norm, Pair


def step(cell: CanonicalCell, x: Array, c: Array, m: Array) -> Pair:
    """Return the new c and m of a cell.

    Sources: the `call` of `LSTMCell`, `CoupledInputForgetGateLSTMCell`, `LayerNormLSTMCell` and
    `IndyLSTMCell` in TensorFlow 1.15.0.

    Args:
        x: `[batch, input_size]`.
        c, m: `[batch, H]` and `[batch, R]`.

    Example:
        >>> import lstmstate, numpy as np
        >>> found = lstmstate.open_checkpoint("sample_checkpoints/peephole_flat").network().load()
        >>> c, m = step(found.network.cells[0], np.ones((1, 3)), np.zeros((1, 8)), np.zeros((1, 5)))
        >>> c.shape, m.shape
        ((1, 8), (1, 5))
    """
    import numpy as np

    w = {gate: cell.peepholes.get(gate, 0) for gate in "ifo"}
    by_unit = cell.recurrent.ndim == 1
    gates = x @ cell.kernel + (np.tile(m, len(cell.gates)) * cell.recurrent if by_unit
                               else m @ cell.recurrent) + cell.bias  # fmt: skip
    parts = split_gates(gates, cell.gates)
    z = {gate: _normalise(cell, gate, part) for gate, part in parts.items()}

    f = _apply(cell.recurrent_activation, z["f"] + cell.forget_bias + w["f"] * c)
    i = _apply(cell.recurrent_activation, z["i"] + w["i"] * c) if "i" in z else 1 - f
    c = _clip(_normalise(cell, "c", i * _apply(cell.candidate, z["j"]) + f * c), cell.cell_clip)
    o = _apply(cell.recurrent_activation, z["o"] + w["o"] * c)
    m = o * _apply(cell.activation, c)
    if cell.projection is not None:
        m = _clip(m @ cell.projection, cell.proj_clip)
    return c, m


def _apply(name: str, values: Array) -> Array:
    import numpy as np

    found = np.array(values)
    with np.errstate(over="ignore"):  # in the exponential of a sigmoid, which is 0 then
        function(name)(found, found)
    return found


def _normalise(cell: CanonicalCell, gate: str, values: Array) -> Array:
    """Return values after the layer norm that a gate, or the new c, has."""
    norm: Norm | None = cell.norms.get(gate)
    if norm is None:
        return values
    apart: Array = values - values.mean(1, keepdims=True)
    variance = (apart**2).mean(1, keepdims=True) + cell.norm_epsilon
    normed: Array = apart / variance**0.5 * norm.gamma + norm.beta
    return normed


def _clip(values: Array, bound: float | None) -> Array:
    return values if bound is None else values.clip(-bound, bound)
