"""Networks with random weights, made without a checkpoint, and comparisons of their engines."""

from __future__ import annotations

from typing import Any

import numpy as np

from lstmstate.engines import load
from lstmstate.engines.canonical_network import (
    CanonicalCell,
    Network,
    Norm,
    Pair,
    RunOutputs,
    no_states,
)

Array = Any
Rng = np.random.Generator


def cell(
    rng: Rng,
    inputs: int,
    units: int,
    proj: int | None = None,
    *,
    dtype: str = "float32",
    gates: str = "ijfo",
    peepholes: str = "",
    indy: bool = False,
    norms: str = "",
    **options: Any,
) -> CanonicalCell:
    """Return a cell with random weights; `peepholes` and `norms` list their gates."""

    def drawn(*shape: int) -> Array:
        return rng.uniform(-0.5, 0.5, shape).astype(dtype)

    columns, width = len(gates) * units, proj or units
    fields: dict[str, Any] = {
        "name": "rnn/lstm_cell",
        "family": "LSTMCell",
        "gates": gates,
        "kernel": drawn(inputs, columns),
        "recurrent": drawn(columns) if indy else drawn(width, columns),
        "bias": drawn(columns),
        "peepholes": {gate: drawn(units) for gate in peepholes},
        "norms": {gate: Norm(drawn(units), drawn(units)) for gate in norms},
        "norm_epsilon": 1e-12,
        "projection": drawn(units, proj) if proj else None,
        "forget_bias": 1.0,
        "cell_clip": None,
        "proj_clip": None,
        "activation": "tanh",
        "candidate": options.get("activation", "tanh"),
        "recurrent_activation": "sigmoid",
    }
    return CanonicalCell(**fields | options)


def alone(one: CanonicalCell) -> Network:
    """Return a network of one cell."""
    return Network((((one,),),))


def sequences(rng: Rng, network: Network, steps: int, batch: int) -> tuple[Array, list[Pair]]:
    """Return random inputs, and random states to start from."""
    x = rng.uniform(-1, 1, (steps, batch, network.first.input_size)).astype(network.dtype)
    states = [
        (drawn_like(rng, c, 0.5), drawn_like(rng, m, 0.5)) for c, m in no_states(network, batch)
    ]
    return x, states


def drawn_like(rng: Rng, array: Array, bound: float) -> Array:
    """Return random values in the shape and type of an array."""
    return rng.uniform(-bound, bound, array.shape).astype(array.dtype)


def assert_same(ours: RunOutputs, theirs: RunOutputs, tolerance: float) -> None:
    """Compare two results completely: shapes, types and values."""
    pairs = [("outputs", ours.outputs, theirs.outputs)]
    for number, states in enumerate(zip(ours.states, theirs.states, strict=True)):
        named = zip("cm", *states, strict=True)
        pairs += [(f"{letter} {number}", one, other) for letter, one, other in named]
    for number, (one, other) in enumerate(zip(ours.kept, theirs.kept, strict=True)):
        assert one.keys() == other.keys()
        pairs += [(f"{letter} of steps {number}", one[letter], other[letter]) for letter in one]
    for name, one, other in pairs:
        assert (one.shape, one.dtype) == (other.shape, other.dtype), name
        np.testing.assert_allclose(other, one, rtol=tolerance, atol=tolerance, err_msg=name)


def assert_agrees(
    engine: str,
    network: Network,
    rng: Rng,
    *,
    steps: int = 50,
    batch: int = 2,
    lengths: list[int] | None = None,
    keep: str = "",
    tolerance: float = 2e-6,
) -> None:
    """Compare an engine with the NumPy engine, over random data from a random state."""
    x, states = sequences(rng, network, steps, batch)
    valid = None if lengths is None else np.array(lengths)
    ours, theirs = (load(name, network).run(x, states, valid, keep) for name in ("numpy", engine))
    assert_same(ours, theirs, tolerance)


def random_network(rng: Rng, draw_cell: Any) -> Network:
    """Return one to three stages of one or two chains of one or two cells.

    draw_cell: takes rng, the input width and the number of units.
    """
    stages, width = [], int(rng.integers(1, 6))
    for _ in range(rng.integers(1, 4)):
        chains = []
        for _ in range(rng.integers(1, 3)):
            chain: list[CanonicalCell] = []
            for _ in range(rng.integers(1, 3)):
                into = chain[-1].widths.m if chain else width
                chain.append(draw_cell(rng, into, int(rng.integers(1, 7))))
            chains.append(tuple(chain))
        stages.append(tuple(chains))
        width = sum(chain[-1].widths.m for chain in chains)
    return Network(tuple(stages))


def stacked(rng: Rng, layers: int, directions: int = 1, **options: Any) -> Network:
    """Return layers of 5 units for 4 columns; of two directions, joined after each layer."""
    stages, width = [], 4
    for _ in range(layers):
        made = [cell(rng, width, 5, **options) for _ in range(directions)]
        stages.append(tuple((one,) for one in made))
        width = sum(one.widths.m for one in made)
    if directions == 1:
        return Network(((tuple(stage[0][0] for stage in stages),),))
    return Network(tuple(stages))


def stacked_apart(rng: Rng, layers: int, **options: Any) -> Network:
    """Return a stack in each direction, joined at the end."""
    return Network((tuple(stacked(rng, layers, **options).cells for _ in range(2)),))
