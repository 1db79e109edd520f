"""The weights of each gate apart, for people who write the step themselves."""

from __future__ import annotations

from collections.abc import Mapping

from lstmstate.engines.canonical_network import Array, Network
from lstmstate.exports.cell_calls import named_scopes
from lstmstate.exports.gate_weights import gate_weights
from lstmstate.exports.numpy_code import functions, imports
from lstmstate.exports.weight_files import reading


def arrays(network: Network) -> Mapping[str, Array]:
    """Return the weights by name: `CELL/i/kernel` `[I, H]`, `CELL/i/recurrent` `[R, H]`, …

    The forget_bias is in `CELL/f/bias`.
    """
    found: dict[str, Array] = {}
    for scope, cell in zip(named_scopes(network), network.cells, strict=True):
        for gate, weights in gate_weights(cell).items():
            found |= {
                f"{scope}{gate}/{part}": array
                for part, array in weights._asdict().items()
                if array is not None
            }
        if "c" in cell.norms:
            found[f"{scope}c/gamma"], found[f"{scope}c/bias"] = cell.norms["c"]
        if cell.projection is not None:
            found[f"{scope}projection"] = cell.projection
    return found


def source(network: Network, path: str) -> str:
    """Return the program that runs them."""
    text = functions(network)
    head = f"{imports(text)}import numpy as np\n\n{reading(path)}\n\n"
    return f"{head}{text}\n\noutputs, state = run(x, state)\n"
