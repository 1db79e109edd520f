"""A Python file that runs with NumPy alone, and the weights of each gate in an npz next to it."""

from __future__ import annotations

from lstmstate.engines.canonical_network import Network
from lstmstate.exports.gate_arrays import arrays
from lstmstate.exports.numpy_program import script

__all__ = ["arrays", "script", "source"]

_PROGRAM = """\
import runpy

run = runpy.run_path({path!r})["run"]
outputs, state = run(x, state)
"""


def source(_network: Network, path: str) -> str:
    """Return the program that runs it."""
    return _PROGRAM.format(path=path)
