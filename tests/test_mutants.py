"""Graphs with one changed operation, which give their own values or are refused."""

from __future__ import annotations

import itertools
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from mutants import Mutant, mutants
from writers import INPUTS, Build, TensorFlow, inputs, save, static

from lstmstate.cells import Cell
from lstmstate.cells.cell import SavedState
from lstmstate.cells.from_graph.alike_steps import StepKinds
from lstmstate.errors import LstmstateError
from lstmstate.model.checkpoint import LSTMCheckpoint, open_checkpoint

SAMPLES = (
    "sunspots",
    "peephole_tuple",
    "peephole_flat",
    "bidirectional",
    "partitioned",
    "saved_model",
)


@pytest.fixture
def every(request: pytest.FixtureRequest) -> int:
    """One in so many changes is tried; with --full all of them, which takes some minutes."""
    return 1 if request.config.getoption("full") else 24


def mutated(path: str, mutant: Mutant) -> LSTMCheckpoint:
    """Return a checkpoint whose graph has a change in it."""
    ckpt = open_checkpoint(path)
    assert ckpt.graph is not None
    for node in mutant.nodes:
        ckpt.graph.nodes[node.name] = node
    return ckpt


def outcome(ckpt: LSTMCheckpoint) -> str:
    """Return the outcome for a checkpoint: refused, the graph's own step, or confirmed cells.

    Raises:
        AssertionError: confirmed cells give other values than the graph.
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
def test_a_changed_operation_is_never_confirmed_with_the_old_values(
    sample: str, every: int
) -> None:
    graph = open_checkpoint(f"sample_checkpoints/{sample}").graph
    assert graph is not None
    seen: Counter[str] = Counter()
    wrong = []
    for mutant in itertools.islice(mutants(graph), 0, None, every):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                seen[outcome(mutated(f"sample_checkpoints/{sample}", mutant))] += 1
        except AssertionError as error:
            wrong.append(f"{mutant.what}: {error}")
    assert not wrong, "\n".join(wrong)
    assert seen["graph"] > seen["refused"], seen
    print(dict(seen))  # the counts, with pytest -s


def test_an_unchanged_graph_confirms_its_cells() -> None:
    for sample in SAMPLES:
        assert outcome(open_checkpoint(f"sample_checkpoints/{sample}")) == "confirmed", sample


# ---- steps without a loop, many of them equal


def plain(tf: TensorFlow) -> None:
    x = inputs(tf, INPUTS, 4, 6)
    outputs, _ = static(tf, tf.nn.rnn_cell.BasicLSTMCell(4), x)
    tf.train.AdamOptimizer().minimize(tf.reduce_sum(tf.stack(outputs)))


def of_two_layers(tf: TensorFlow) -> None:
    """Peepholes, clips, projections, dropout, and a flat state."""
    options = {"use_peepholes": True, "cell_clip": 3.0, "num_proj": 3, "proj_clip": 2.0}
    cells = [tf.nn.rnn_cell.LSTMCell(4, **options, state_is_tuple=False) for _ in range(2)]
    cells[1] = tf.nn.rnn_cell.DropoutWrapper(cells[1], input_keep_prob=0.5)
    static(tf, tf.nn.rnn_cell.MultiRNNCell(cells, state_is_tuple=False), inputs(tf, INPUTS, 4, 6))


def of_keras(tf: TensorFlow) -> None:
    import tf_keras

    with tf.variable_scope("lstm_cell"):
        tf_keras.layers.LSTM(4, unroll=True)(inputs(tf, INPUTS, 4, 6))


@pytest.mark.parametrize("build", [plain, of_two_layers, of_keras])
def test_a_change_in_any_of_many_steps_is_detected(
    build: Build, every: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if build is of_two_layers:
        every *= 3 if every > 1 else 1  # it has many more operations
    for module in ("unexplained_operations", "find_cells"):  # six steps are many
        monkeypatch.setattr(f"lstmstate.cells.from_graph.{module}.FEW", 3)
    path = save(tmp_path, build)
    unchanged = open_checkpoint(path)
    assert unchanged.graph is not None
    some = list(itertools.islice(mutants(unchanged.graph), 0, None, every))
    found = [cells(mutated(path, mutant)) for mutant in some]
    monkeypatch.setattr(StepKinds, "find", lambda *_: None)
    differing = 0
    for mutant, each in zip(some, found, strict=True):
        assert each == cells(mutated(path, mutant)), mutant.what
        differing += each != cells(unchanged)
    assert differing > len(some) // 4


def cells(ckpt: LSTMCheckpoint) -> tuple[list[Cell], list[SavedState], tuple[str, ...]]:
    """Return everything that is found about the cells of a checkpoint."""
    found = [cell.info for cell in ckpt.cells.values()]
    return found, list(ckpt.states.values()), ckpt.notes
