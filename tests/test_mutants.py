"""A graph of which one operation was changed gives its own numbers, or is refused."""

from __future__ import annotations

import itertools
import os
import warnings
from collections import Counter

import numpy as np
import pytest
from mutants import Mutant, mutants

from lstmstate.errors import LstmstateError
from lstmstate.opened import LSTMCheckpoint, open_checkpoint

SAMPLES = (
    "sunspots",
    "peephole_tuple",
    "peephole_flat",
    "bidirectional",
    "partitioned",
    "saved_model",
)
# All of them take some minutes: LSTMSTATE_MUTANTS=1 tries them; the tests take every so many.
EVERY = 1 if os.environ.get("LSTMSTATE_MUTANTS") else 12


def mutated(sample: str, mutant: Mutant) -> LSTMCheckpoint:
    """Return a sample whose graph has a change in it."""
    ckpt = open_checkpoint(f"sample_checkpoints/{sample}")
    assert ckpt.graph is not None
    for node in mutant.nodes:
        ckpt.graph.nodes[node.name] = node
    return ckpt


def outcome(ckpt: LSTMCheckpoint) -> str:
    """Return what became of a checkpoint: refused, the graph's own step, or confirmed cells.

    Raises:
        AssertionError: confirmed cells give other numbers than the graph.
    """
    try:
        network = ckpt.network()
        loaded = network.load()
    except LstmstateError:
        return "refused"
    if loaded.engine == "graph":
        return "graph"
    assert loaded.confirmed, "cells run that the graph does not confirm"
    assert ckpt.model is not None
    (own,) = network.graph_networks()
    runner = ckpt.model.runner(own, exact=True)
    random = np.random.default_rng(7)
    given = own.input
    steps, batch = given.sizes[given.time_axis] or 4, given.sizes[1 - given.time_axis] or 5
    for scale in (1.0, 20.0):
        x = random.standard_normal((steps, batch, given.width)) * scale
        widths = {cell.name: cell.widths for cell in own.cells}
        states = {
            name: (
                random.standard_normal((batch, c)) * scale,
                random.uniform(-1, 1, (batch, m)),
            )
            for name, (c, m) in widths.items()
        }
        theirs = runner.run(x, [states[cell.name] for cell in own.cells])
        kind = loaded.network.dtype
        ours = loaded.runner.run(
            x.astype(kind),
            [
                (states[cell.name][0].astype(kind), states[cell.name][1].astype(kind))
                for cell in loaded.network.cells
            ],
        )
        np.testing.assert_allclose(ours.outputs, theirs.outputs, rtol=2e-3, atol=2e-3)
    return "confirmed"


@pytest.mark.parametrize("sample", SAMPLES)
def test_a_changed_operation_is_never_confirmed_with_the_old_numbers(sample: str) -> None:
    graph = open_checkpoint(f"sample_checkpoints/{sample}").graph
    assert graph is not None
    seen: Counter[str] = Counter()
    wrong = []
    for mutant in itertools.islice(mutants(graph), 0, None, EVERY):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                seen[outcome(mutated(sample, mutant))] += 1
        except AssertionError as error:
            wrong.append(f"{mutant.what}: {error}")
    assert not wrong, "\n".join(wrong)
    assert seen["graph"] > seen["refused"], seen
    print(dict(seen))  # the figures, with pytest -s


def test_an_unchanged_graph_confirms_its_cells() -> None:
    for sample in SAMPLES:
        assert outcome(open_checkpoint(f"sample_checkpoints/{sample}")) == "confirmed", sample
