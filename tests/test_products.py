"""Matrix products of a step: split or whole, prefetched or in turn, on one thread."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import LSTMSTATE, PROJECT, SAMPLES, Array, numbers, saved

from lstmstate.engines import blas_threads, matrix_products
from lstmstate.engines.network import Arithmetic
from lstmstate.engines.numpy_engine import NumpyCell

_UNITS, _WIDTH, _STEPS = 24, 5, 40


def _cell(dtype: str = "float32") -> Arithmetic:
    random = np.random.default_rng(3)

    def weights(*shape: int) -> np.ndarray:
        return random.uniform(-0.4, 0.4, shape).astype(dtype)

    return Arithmetic(
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


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few steps at once, so that a sequence has several parts."""
    monkeypatch.setattr("lstmstate.engines.numpy_engine._CHUNK_BYTES", 1)
    monkeypatch.setattr("lstmstate.engines.numpy_engine._CHUNK_COLUMNS", 16)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("batch", [1, 2, 7])
@pytest.mark.parametrize("small", [1, 2000, 10_000, 1_000_000])
@pytest.mark.parametrize("threads", ["", "ahead", "of the batch"])
def test_split_products_equal_whole_ones(
    monkeypatch: pytest.MonkeyPatch, small_steps: None, dtype: str, batch: int, small: int,
    threads: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(blas_threads, "has_small_products", lambda: False)
    expected = _run(batch, dtype)
    monkeypatch.setattr(blas_threads, "has_small_products", lambda: True)
    monkeypatch.setattr(matrix_products, "_SMALL", small)
    if threads:
        monkeypatch.setattr(matrix_products, "_WORTH_A_THREAD", 0)
    if threads == "of the batch":
        monkeypatch.setattr(matrix_products, "_PART_PRODUCT", 1)
        monkeypatch.setattr(matrix_products, "_PART_ROWS", 2)
    tolerance = {"float64": 1e-12, "float32": 1e-5, "float16": 1e-2}[dtype]
    np.testing.assert_allclose(_run(batch, dtype), expected, atol=tolerance)


def test_weights_are_split_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blas_threads, "has_small_products", lambda: True)
    weights = np.zeros((4096, 1024), np.float32)
    cut = matrix_products.cut(weights, 16)
    assert cut is not None and cut.shape == (128, 32, 1024)
    assert matrix_products.cut(np.zeros((80, 20)), 8).shape == (1, 80, 20)
    assert matrix_products.cut(weights, 1) is None
    assert matrix_products.cut(weights, 1024) is None  # pieces of less than four rows
    assert matrix_products.cut(np.zeros((4 * 1009, 1009)), 16) is not None  # four rows at a time
    monkeypatch.setattr(blas_threads, "has_small_products", lambda: False)
    assert matrix_products.cut(weights, 16) is None


@pytest.mark.parametrize("has_small_products", [False, True])
@pytest.mark.parametrize("batch", [1, 2])
def test_an_error_in_the_prefetch_thread_is_raised(
    monkeypatch: pytest.MonkeyPatch, batch: int, has_small_products: bool
) -> None:
    monkeypatch.setattr(blas_threads, "has_small_products", lambda: has_small_products)
    monkeypatch.setattr(matrix_products, "_WORTH_A_THREAD", 0)
    part = matrix_products.InputPart(np.zeros((8, 3), np.float32), 2, batch, 4)
    found = part.of([np.zeros((4, batch, 2)), np.zeros((4, batch, 9))])
    assert next(found).shape == (4, 8, batch)
    with pytest.raises(ValueError, match="could not broadcast"):
        next(found)


def test_a_batch_is_shared_among_threads() -> None:
    most = 10_000
    assert list(matrix_products.shares(31, 1 << 20, most)) == [[slice(0, 31)]]
    assert list(matrix_products.shares(64, 1000, most)) == [[slice(0, 64)]]
    assert list(matrix_products.shares(35, 1 << 20, most)) == [[slice(0, 17), slice(17, 35)]]
    assert [len(rows) for rows in matrix_products.shares(most + 1, 1 << 20, most)] == [8, 1]


def test_an_error_in_any_thread_is_raised_when_all_have_ended() -> None:
    ended = []

    def fail() -> None:
        raise KeyError("one")

    def go_on() -> None:
        ended.append(1)

    for jobs in ([fail, go_on], [go_on, fail], [go_on, fail, go_on]):
        with pytest.raises(KeyError):
            matrix_products.run_together(jobs)
    assert len(ended) == 4
    assert matrix_products.run_together([lambda: 1, lambda: 2, lambda: 3]) == [1, 2, 3]


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
