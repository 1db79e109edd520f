"""The weights of each gate apart, for people who write the step themselves."""

from __future__ import annotations

from collections.abc import Mapping

from lstmstate.engines.gate_weights import gate_weights
from lstmstate.engines.network import Array, Network


def arrays(network: Network) -> Mapping[str, Array]:
    """Return the weights by name: `CELL/i/kernel` `[I, H]`, `CELL/i/recurrent` `[R, H]`, …

    The forget_bias is in `CELL/f/bias`.
    """
    found: dict[str, Array] = {}
    for cell in network.cells:
        scope = f"{cell.name}/" if cell.name else ""
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
    raise NotImplementedError  # that of the target numpy
