"""A Python file that runs with NumPy alone, and the weights of each gate in an npz next to it."""

from __future__ import annotations

from lstmstate.engines.canonical_network import Network
from lstmstate.exports.gate_arrays import arrays
from lstmstate.exports.numpy_code import functions, imports

__all__ = ["arrays", "script", "source"]

_SCRIPT = '''\
"""LSTM cells in NumPy. Their weights are in the .npz file next to this one, gate by gate.

x is [batch, time, {inputs}]. From Python: `outputs, state = run(x)`, and again `run(x, state)`.
"""

{imports}import sys
from pathlib import Path

import numpy as np

with np.load(Path(__file__).with_suffix(".npz")) as file:
    weights = dict(file)


{functions}

if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(f"usage: python {{sys.argv[0]}} x.npy outputs.npz [state.npz]")
    path, to, *before = sys.argv[1:]
    y, after = run(np.load(path), np.load(before[0]) if before else None)
    np.savez(to, outputs=y, **after)
'''
_PROGRAM = """\
import runpy

run = runpy.run_path({path!r})["run"]
outputs, state = run(x, state)
"""


def script(network: Network) -> str:
    """Return a module with the function `run`, which is a program, too.

    The weights are those of the target gates, in an npz of its name.
    """
    text = functions(network)
    return _SCRIPT.format(
        imports=imports(text),
        inputs=network.first.input_size,
        functions=text,
    )


def source(_network: Network, path: str) -> str:
    """Return the program that runs it."""
    return _PROGRAM.format(path=path)
