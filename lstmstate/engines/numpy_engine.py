"""The engine that is there always: every family, in NumPy."""

from __future__ import annotations

from lstmstate.engines.layers import LayeredRunner
from lstmstate.engines.network import Network, Runner
from lstmstate.engines.numpy_cell import NumpyCell


def check(network: Network) -> None:
    """Refuse nothing: every network that there is can be run."""


def load(network: Network) -> Runner:
    """Return a network that is ready to run."""
    return LayeredRunner(network, NumpyCell)
