"""Cells run from several threads, and by a forked child process."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from commands import SAMPLES, Array, numbers

import lstmstate
from lstmstate.engines import blas_threads

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


def test_a_batch_that_is_too_wide_for_the_buffers_is_run_in_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = lstmstate.open_checkpoint(SAMPLES / "peephole_flat").network()
    x = numbers(7, 11, 3)
    whole, state = network.run(x)
    monkeypatch.setattr("lstmstate.engines.numpy_engine._ROOM_NUMBERS", 8 * 3)
    parts, last = network.run(x)
    np.testing.assert_allclose(parts, whole, atol=1e-6)
    np.testing.assert_allclose(last.flat(), state.flat(), atol=1e-6)
