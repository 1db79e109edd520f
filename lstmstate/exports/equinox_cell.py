"""The leaves of eqx.nn.LSTMCell.

Its gates are in the order i, f, g (our j), o, its matrices `[4U, inputs]`; it has one bias.
Source: equinox/nn/_rnn.py (0.13).
"""

from __future__ import annotations

from collections.abc import Mapping

from lstmstate.engines.canonical_network import Array, Network
from lstmstate.exports.cell_calls import calls, numbered_scopes, state_scopes
from lstmstate.exports.gate_weights import join_gates
from lstmstate.exports.jax_parts import settings
from lstmstate.exports.weight_files import reading

_PROGRAM = """\
import equinox as eqx
import jax
import numpy as np

{settings}{reading}
after = {{}}


def run(name, scope, y, reverse=False):
    leaves = [jax.numpy.asarray(weights[name + leaf]) for leaf in {leaves}]
    units, inputs = leaves[1].shape[1], leaves[0].shape[1]
    cell = eqx.nn.LSTMCell(inputs, units, key=jax.random.key(0))
    cell = eqx.tree_at(lambda c: (c.weight_ih, c.weight_hh, c.bias), cell, leaves)

    def step(last, x):
        last = jax.vmap(cell)(x, last)
        return last, last[0]

    last = state[scope + "h"], state[scope + "c"]
    last, y = jax.lax.scan(step, last, y.swapaxes(0, 1), reverse=reverse)
    after[scope + "h"], after[scope + "c"] = last
    return y.swapaxes(0, 1)


{calls}\
state = after
"""
_LEAVES = ("weight_ih", "weight_hh", "bias")


def arrays(network: Network) -> Mapping[str, Array]:
    """Return the leaves: `weight_ih` `[4U, I]`, `weight_hh` `[4U, U]`, `bias` `[4U]`."""
    found: dict[str, Array] = {}
    for scope, cell in zip(numbered_scopes(network), network.cells, strict=True):
        joined = join_gates(cell, "ifjo")
        values = (joined.kernel.T, joined.recurrent.T, joined.bias)
        found |= {f"{scope}{leaf}": array for leaf, array in zip(_LEAVES, values, strict=True)}
    return found


def source(network: Network, path: str) -> str:
    """Return the program that runs them."""
    scopes = zip(numbered_scopes(network), state_scopes(network), strict=True)
    return _PROGRAM.format(
        settings=settings(network),
        reading=reading(path),
        leaves=_LEAVES,
        calls=calls(network, [f"{name!r}, {scope!r}" for name, scope in scopes]),
    )
