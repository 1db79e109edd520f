"""The parameters of Flax's LSTM cells, by their paths.

Linen's LSTMCell and OptimizedLSTMCell have the same parameters, a kernel for each gate; so has
nnx.LSTMCell, but for the name `if_`. nnx.OptimizedLSTMCell joins the gates in the order i, f, g
(our j), o. All have one bias, of the recurrent part, and take their state as (c, h).
Sources: flax/linen/recurrent.py, flax/nnx/nn/recurrent.py (0.12).
"""

from __future__ import annotations

from collections.abc import Mapping

from lstmstate.engines.canonical_network import Array, CanonicalCell, Network
from lstmstate.exports.cell_calls import calls, numbered_scopes, state_scopes
from lstmstate.exports.gate_weights import gate_weights, join_gates
from lstmstate.exports.jax_parts import FUNCTIONS, settings
from lstmstate.exports.weight_files import reading
from lstmstate.named_tuple import NamedTuple

_LINEN = """\
    cell = nn.{name}(len(params[{recurrent!r}]["kernel"]), **functions)
    rnn = nn.RNN(cell, return_carry=True, reverse=reverse, keep_order=True)
    carry = state[scope + "c"], state[scope + "h"]
    carry, y = rnn.apply({{"params": {{"cell": params}}}}, y, initial_carry=carry)
"""
_NNX = """\
    inputs, units = y.shape[-1], len(params[{recurrent!r}]["kernel"])
    cell = nnx.{name}(inputs, units, rngs=nnx.Rngs(0), **functions)
    nnx.update(cell, params)
    rnn = nnx.RNN(cell, return_carry=True, reverse=reverse, keep_order=True)
    carry = state[scope + "c"], state[scope + "h"]
    carry, y = rnn(y, initial_carry=tuple(map(jax.numpy.asarray, carry)))
"""
_PROGRAM = """\
import jax
import numpy as np
from flax import {library}
from flax.traverse_util import unflatten_dict

{settings}{reading}
params = unflatten_dict(weights, sep="/")
after = {{}}


def run(params, scope, y, reverse=False, **functions):
{body}\
    after[scope + "c"], after[scope + "h"] = carry
    return y


{calls}\
state = after
"""


class FlaxCell(NamedTuple):
    """A class of cells.

    Attributes:
        name: the class.
        library: the module that has it.
        body: the lines that run it.
        recurrent: the parameter whose kernel has a row for each unit.
        paths: the paths of a gate's two kernels; None if the gates are joined.
    """

    name: str
    library: str
    body: str
    recurrent: str = "hi"
    paths: Mapping[str, tuple[str, str]] | None = None

    def arrays(self, network: Network) -> Mapping[str, Array]:
        """Return the parameters by path: `ii/kernel` `[I, H]`, `hi/kernel` `[H, H]`, …"""
        found: dict[str, Array] = {}
        for scope, cell in zip(numbered_scopes(network), network.cells, strict=True):
            found |= {f"{scope}{path}": array for path, array in self._parameters(cell).items()}
        return found

    def source(self, network: Network, path: str) -> str:
        """Return the program that runs them."""
        scopes = state_scopes(network)
        keys = [f"[{scope[:-1]!r}]" if scope else "" for scope in numbered_scopes(network)]
        return _PROGRAM.format(
            library=self.library,
            settings=settings(network),
            reading=reading(path),
            body=self.body.format(name=self.name, recurrent=self.recurrent),
            calls=calls(
                network,
                [f"params{key}, {scope!r}" for key, scope in zip(keys, scopes, strict=True)],
                ends=[_functions(cell) for cell in network.cells],
            ),
        )

    def _parameters(self, cell: CanonicalCell) -> dict[str, Array]:
        if self.paths is None:
            joined = join_gates(cell, "ifjo")
            return {
                "dense_i/kernel": joined.kernel,
                "dense_h/kernel": joined.recurrent,
                "dense_h/bias": joined.bias,
            }
        found = {}
        gates = gate_weights(cell)
        for gate, (of_input, of_state) in self.paths.items():
            found[f"{of_input}/kernel"] = gates[gate].kernel
            found[f"{of_state}/kernel"] = gates[gate].recurrent
            found[f"{of_state}/bias"] = gates[gate].bias
        return found


def _functions(cell: CanonicalCell) -> str:
    """Return the arguments for activations that are not the class's own."""
    found = ""
    if cell.recurrent_activation != "sigmoid":
        found += f", gate_fn={FUNCTIONS[cell.recurrent_activation]}"
    if cell.activation != "tanh":
        found += f", activation_fn={FUNCTIONS[cell.activation]}"
    return found


_GATES = {"i": ("ii", "hi"), "f": ("if", "hf"), "j": ("ig", "hg"), "o": ("io", "ho")}
LINEN = FlaxCell("OptimizedLSTMCell", "linen as nn", _LINEN, paths=_GATES)
NNX = FlaxCell("LSTMCell", "nnx", _NNX, paths=_GATES | {"f": ("if_", "hf")})
NNX_OPTIMIZED = FlaxCell("OptimizedLSTMCell", "nnx", _NNX, "dense_h")
