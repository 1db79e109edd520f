"""The NumPy engine: products, threads, and other dtypes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import writers
from commands import (
    LSTMSTATE,
    PROJECT,
    SAMPLES,
    Array,
    Shell,
    checkpoint,
    lstm_cell,
    notes,
    numbers,
    saved,
)
from networks import alone, cell, sequences
from writers import BATCH, INPUTS, STEPS, TensorFlow, only, opened, shown

import lstmstate
from lstmstate.cells import Option
from lstmstate.checkpoint.graph_node import Node
from lstmstate.engines import (
    blas_threads,
    canonical_network,
    compiled_cell,
    load,
    numpy_cell,
    numpy_engine,
)
from lstmstate.engines.canonical_network import CanonicalCell, Network
from lstmstate.engines.compiled_cell import CompiledCell
from lstmstate.engines.numpy_cell import NumpyCell
from lstmstate.engines.numpy_engine import NumpyRunner
from lstmstate.model.checkpoint import open_checkpoint
from lstmstate.recurrence.variable_values import GraphVariables

_UNITS, _WIDTH, _STEPS = 24, 5, 40


def _cell(dtype: str = "float32") -> CanonicalCell:
    random = np.random.default_rng(3)

    def weights(*shape: int) -> np.ndarray:
        return random.uniform(-0.4, 0.4, shape).astype(dtype)

    return CanonicalCell(
        name="cell", family="LSTMCell", gates="ijfo", kernel=weights(_WIDTH, 4 * _UNITS),
        recurrent=weights(_UNITS, 4 * _UNITS), bias=weights(4 * _UNITS), peepholes={}, norms={},
        norm_epsilon=0.0, projection=None, forget_bias=1.0, cell_clip=None, proj_clip=None,
        activation="tanh", candidate="tanh", recurrent_activation="sigmoid",
    )  # fmt: skip


def _run(batch: int, dtype: str = "float32") -> np.ndarray:
    cell = NumpyCell(_cell(dtype))
    x = np.random.default_rng(4).uniform(-1, 1, (_STEPS, batch, _WIDTH)).astype(dtype)
    zeros = np.zeros((batch, _UNITS), dtype)
    outputs = np.empty((_STEPS, batch, _UNITS), dtype)
    cell.run(x, zeros, zeros, outputs, {})
    return outputs


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("batch", [1, 2, 7])
def test_a_sequence_in_parts_gives_the_same_values(
    monkeypatch: pytest.MonkeyPatch, dtype: str, batch: int
) -> None:
    expected = _run(batch, dtype)
    monkeypatch.setattr(numpy_cell, "_CACHED_BYTES", 1)
    monkeypatch.setattr(canonical_network, "_ROWS_AT_ONCE", 16)
    tolerance = {"float64": 1e-12, "float32": 1e-5, "float16": 1e-2}[dtype]
    np.testing.assert_allclose(_run(batch, dtype), expected, atol=tolerance)


def test_the_thread_count_is_set_from_any_thread() -> None:
    """threadpoolctl 3.8 lets one thread alone set it, the first that did."""
    libraries = blas_threads.libraries()
    seen: list[int] = []

    def work() -> None:
        with blas_threads.one_thread():
            seen.extend(library["num_threads"] for library in libraries.info())

    libraries.limit(limits=2)
    try:
        work()
        with ThreadPoolExecutor(2) as pool:
            for done in [pool.submit(work), pool.submit(work)]:
                done.result()
        work()
        assert {*seen} == {1}
        assert {library["num_threads"] for library in libraries.info()} == {2}
    finally:
        libraries.limit(limits=1)


def test_the_thread_count_is_restored() -> None:
    def threads() -> set[int]:
        return {library["num_threads"] for library in blas_threads.libraries().info()}

    with blas_threads.libraries().limit(limits=2):
        with blas_threads.one_thread():
            assert threads() == {1}
            with blas_threads.one_thread():
                assert threads() == {1}
            assert threads() == {1}
        assert threads() == {2}
        with pytest.raises(KeyError), blas_threads.one_thread():
            raise KeyError
        assert threads() == {2}


def test_runs_with_a_library_that_has_no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = _run(3)
    none = blas_threads.libraries().select(prefix="none of them")
    assert none.info() == []
    monkeypatch.setattr(blas_threads, "libraries", lambda: none)
    np.testing.assert_allclose(_run(3), expected, atol=1e-5)


def test_kernels_of_other_processors_give_the_same_values(tmp_path: Path) -> None:
    """Kernels of this processor, with small products if it has them, and of any x86-64, without."""
    x, y = saved(tmp_path / "x.npy", numbers(7, 40, 3)), tmp_path / "y.npy"
    name = "OPENBLAS_CORETYPE"
    own = {key: value for key, value in os.environ.items() if key != name}

    def run(environment: dict[str, str]) -> Array:
        command = [*LSTMSTATE, "run", "-q", str(SAMPLES / "peephole_flat"), str(x), "--force"]
        subprocess.run([*command, "-o", str(y)], env=environment, cwd=PROJECT, check=True)
        found: Array = np.load(y)
        return found

    np.testing.assert_allclose(run(own), run(own | {name: "Prescott"}), atol=1e-6)


@pytest.mark.parametrize("given", [None, "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"])
def test_numpy_starts_with_one_thread_by_default(given: str | None) -> None:
    script = (
        "import os; from lstmstate.engines.blas_threads import begin_with_one_thread as begin;"
        "begin();"
        "print(os.environ.get('OPENBLAS_NUM_THREADS'))"
    )
    names = ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    if given:
        environment[given] = "3"
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    expected = {None: "1", "OPENBLAS_NUM_THREADS": "3", "OMP_NUM_THREADS": "None"}[given]
    assert done.stdout.strip() == expected


# ---- cells run from several threads, and by a forked child process


THREADS, RUNS = 4, 20


@pytest.mark.parametrize("sample", ["sunspots", "peephole_flat", "bidirectional"])
def test_threads_that_run_one_cell_do_not_disturb_one_another(sample: str) -> None:
    network = lstmstate.open_checkpoint(SAMPLES / sample).network()
    width = network.load().network.first.input_size
    inputs = [numbers(3, 200, width, seed=seed) for seed in range(THREADS)]
    expected = [network.run(x)[0] for x in inputs]

    def run(number: int) -> list[Array]:
        return [network.run(inputs[number])[0] for _ in range(RUNS)]

    with ThreadPoolExecutor(THREADS) as pool:
        for wanted, found in zip(expected, pool.map(run, range(THREADS)), strict=True):
            assert all(np.array_equal(one, wanted) for one in found)


def test_results_do_not_change_with_the_next_run() -> None:
    network = lstmstate.open_checkpoint(SAMPLES / "sunspots").network()
    outputs, state = network.run(numbers(2, 5, 1))
    kept, flat = outputs.copy(), state.flat()
    network.run(numbers(2, 5, 1, seed=1))
    assert np.array_equal(outputs, kept)
    assert np.array_equal(state.flat(), flat)


def threads() -> set[int]:
    """The thread counts of the libraries that compute NumPy's products."""
    return {library["num_threads"] for library in blas_threads.libraries().info()}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_forked_during_a_run_has_its_threads() -> None:
    with blas_threads.libraries().limit(limits=2):
        with blas_threads.one_thread():
            child = os.fork()
            if child == 0:
                own = threads()
                with blas_threads.one_thread():
                    pass
                os._exit(0 if own == {2} == threads() else 1)
            _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert threads() == {2}


@pytest.mark.parametrize("kind", [NumpyCell, CompiledCell])
def test_a_batch_that_is_too_wide_for_the_buffers_is_run_in_parts(
    monkeypatch: pytest.MonkeyPatch, kind: type[NumpyCell | CompiledCell]
) -> None:
    if kind is NumpyCell:
        monkeypatch.setattr(compiled_cell, "can_run", lambda _: False)
    network = lstmstate.open_checkpoint(SAMPLES / "peephole_flat").network()
    x = numbers(7, 11, 3)
    whole, state = network.run(x)
    monkeypatch.setattr(kind, "most_rows", property(lambda _: 3))
    parts, last = network.run(x)
    np.testing.assert_allclose(parts, whole, atol=1e-6)
    np.testing.assert_allclose(last.flat(), state.flat(), atol=1e-6)


# ---- cells in float64, and confirmation of a cell from weights that are laid out once


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
    prepare = numpy_engine.prepare

    def counted(one: CanonicalCell) -> Any:
        laid.append(one.name)
        return prepare(one)

    read: Counter[str] = Counter()
    value = GraphVariables.__call__

    def reading(self: GraphVariables, node: Node) -> Any:
        read[node.name] += 1
        return value(self, node)

    network = open_checkpoint("sample_checkpoints/sunspots").network()
    (own,) = network.graph_networks()  # shapes are read with weights, too
    assert own is not None
    monkeypatch.setattr(numpy_engine, "prepare", counted)
    monkeypatch.setattr(GraphVariables, "__call__", reading)
    loaded = network.load()
    assert loaded.confirmed
    assert isinstance(loaded.network, Network)
    assert sorted(laid) == sorted(one.name for one in loaded.network.cells)
    assert set(read.values()) == {1}, read


# ---- cells of bfloat16, whose options are read from the graph and which run in float32


def build(tf: TensorFlow, **options: float) -> None:
    """Step a cell of bfloat16 over a fed sequence."""
    x = tf.placeholder(tf.bfloat16, [BATCH, STEPS, INPUTS])
    cell = tf.nn.rnn_cell.LSTMCell(4, dtype=tf.bfloat16, **options)
    tf.nn.dynamic_rnn(cell, x, dtype=tf.bfloat16)


@pytest.mark.parametrize(
    ("forget_bias", "stored"), [(1.0, 1.0), (0.0, 0.0), (0.3, 0.30078125), (-7.25, -7.25)]
)
def test_the_forget_bias_is_the_constant_in_the_graph(forget_bias: float, stored: float) -> None:
    """0.3 is not a bfloat16: the graph adds the nearest one, and so does a run."""
    cell = only(opened(lambda tf: build(tf, forget_bias=forget_bias)))
    assert (cell.dtype, cell.forget_bias) == ("bfloat16", Option(stored, "graph"))


def test_clips_are_constants_in_the_graph() -> None:
    cell = only(opened(lambda tf: build(tf, cell_clip=0.8, num_proj=2, proj_clip=0.5)))
    assert shown(cell, "cell_clip", "proj_clip") == {"cell_clip": 0.80078125, "proj_clip": 0.5}


def test_a_note_reports_that_rounding_differs_from_tensorflow(shell: Shell, tmp_path: Path) -> None:
    prefix = writers.save(tmp_path, build)
    np.save(tmp_path / "x.npy", numbers(2, 5, INPUTS))
    done = shell("run", prefix, tmp_path / "x.npy")
    note = "rnn/lstm_cell: it is bfloat16, which is run as float32: TensorFlow rounds every step"
    assert (done.code, note in notes(done)) == (0, True)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*defaults are used.*:UserWarning")
def test_a_child_forked_after_a_run_computes_the_same(tmp_path: Path) -> None:
    """The products are large enough for the threads of BLAS, and for one that computes ahead."""
    large = lstm_cell("rnn/basic_lstm_cell", 256, 64)
    # Small weights: large ones would make a difference in rounding grow from step to step.
    path = checkpoint(tmp_path / "m", {name: value / 32 for name, value in large.items()})
    network = lstmstate.open_checkpoint(path).network()
    x = numbers(64, 20, 64)
    wanted = network.run(x, assume_defaults=True)[0]
    child = os.fork()
    if child == 0:
        signal.alarm(60)  # a lock that a thread of the parent holds is never released
        found = network.run(x, assume_defaults=True)[0]
        os._exit(0 if np.allclose(found, wanted, atol=1e-5) else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert np.allclose(network.run(x, assume_defaults=True)[0], wanted, atol=1e-5)
