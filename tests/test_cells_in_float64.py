"""Cells in float64, and confirmation of a cell from weights that are laid out once."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from networks import alone, cell, sequences

from lstmstate.checkpoint.graph_node import Node
from lstmstate.engines import load
from lstmstate.engines.network import Arithmetic, Network
from lstmstate.engines.numpy_engine import NumpyCell, NumpyRunner
from lstmstate.model.checkpoint import open_checkpoint
from lstmstate.recurrence.variable_values import GraphVariables

KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "large biases": {"forget_bias": 1.1},
    "peepholes, projected": {"peepholes": "ifo", "proj": 3, "proj_clip": 0.4, "cell_clip": 0.9},
    "hard sigmoid": {"recurrent_activation": "hard_sigmoid"},
    "norms": {"norms": "ijfoc"},
    "coupled": {"gates": "jfo"},
    "one m a unit": {"indy": True},
    "float16": {"dtype": "float16"},
    "float64": {"dtype": "float64"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_float64_cell_equals_a_cell_of_float64_weights(kind: str) -> None:
    random = np.random.default_rng(5)
    one = cell(random, 4, 5, **KINDS[kind])
    if "biases" in kind:
        one = one._replace(bias=one.bias * 1000)
    ready = load("numpy", alone(one))
    assert isinstance(ready, NumpyRunner)
    network = alone(one.in_float64())
    x, states = sequences(random, network, 6, 3)
    narrow = [(c.astype(one.dtype), m.astype(one.dtype)) for c, m in states]
    before = ready.run(x.astype(one.dtype), narrow)
    ours, theirs = ready.in_float64().run(x, states), load("numpy", network).run(x, states)
    assert ours.outputs.dtype == np.float64
    np.testing.assert_allclose(ours.outputs, theirs.outputs, rtol=0, atol=1e-14)
    for half, other in zip(ours.states[0], theirs.states[0], strict=True):
        np.testing.assert_allclose(half, other, rtol=0, atol=1e-14)
    after = ready.run(x.astype(one.dtype), narrow)
    assert np.array_equal(before.outputs, after.outputs)  # the cell itself is unchanged


def test_confirmation_reads_and_lays_out_each_weight_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    laid: list[str] = []
    prepare = NumpyCell.__init__

    def counted(self: NumpyCell, one: Arithmetic) -> None:
        laid.append(one.name)
        prepare(self, one)

    read: Counter[str] = Counter()
    value = GraphVariables.__call__

    def reading(self: GraphVariables, node: Node) -> Any:
        read[node.name] += 1
        return value(self, node)

    network = open_checkpoint("sample_checkpoints/sunspots").network()
    (own,) = network.graph_networks()  # shapes are read with weights, too
    assert own is not None
    monkeypatch.setattr(NumpyCell, "__init__", counted)
    monkeypatch.setattr(GraphVariables, "__call__", reading)
    loaded = network.load()
    assert loaded.confirmed
    assert isinstance(loaded.network, Network)
    assert sorted(laid) == sorted(one.name for one in loaded.network.cells)
    assert set(read.values()) == {1}, read
