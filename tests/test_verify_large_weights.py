"""Bounds in verify on the difference of two evaluations from float64, for weights of any size."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import numpy as np
import pytest

from lstmstate.model.checkpoint import LSTMCheckpoint, open_checkpoint
from lstmstate.operations import verify
from lstmstate.operations.verify import Trial, over_random_data

JUDGES = [
    "graph",
    pytest.param(
        "tensorflow",
        marks=pytest.mark.skipif(not find_spec("tensorflow"), reason="TensorFlow is missing"),
    ),
]


def scaled(factor: float, monkeypatch: pytest.MonkeyPatch) -> LSTMCheckpoint:
    """Return a sample whose weights are scaled by a factor."""
    ckpt = open_checkpoint("sample_checkpoints/sunspots")
    read = ckpt._read
    monkeypatch.setattr(ckpt, "_read", lambda name: read(name) * np.float32(factor))
    return ckpt


def trials(ckpt: LSTMCheckpoint, reference: str) -> Iterator[Trial]:
    return over_random_data([ckpt.network()], "auto", {}, None, 0, reference)


@pytest.mark.parametrize("reference", JUDGES)
@pytest.mark.parametrize("factor", [1, 30, 1000])
def test_healthy_weights_of_any_size_agree(
    factor: float, reference: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for trial in trials(scaled(factor, monkeypatch), reference):
        assert trial.refused is None
        assert trial.agrees, trial.differences


@pytest.mark.parametrize("factor", [1, 30])
def test_a_differing_weight_of_any_size_is_found(
    factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = verify.in_float64

    def spoiled(network: object) -> object:
        found = exact(network)  # type: ignore[arg-type]
        found.first.kernel[0, 0] *= 1.0001
        return found

    monkeypatch.setattr(verify, "in_float64", spoiled)
    assert not all(trial.agrees for trial in trials(scaled(factor, monkeypatch), "graph"))
