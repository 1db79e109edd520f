"""Laws of every other engine, compared with the NumPy engine."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from networks import Rng, alone, assert_agrees, cell, sequences

from lstmstate import engines
from lstmstate.engines.canonical_network import Network
from lstmstate.errors import MissingExtraError

ONNX, TENSORFLOW = "onnxruntime", "tensorflow"
every_engine = pytest.mark.parametrize("engine", [ONNX, TENSORFLOW])


@pytest.mark.parametrize(
    ("engine", "keep", "lengths"),
    [
        *[
            (ONNX, "m", lengths)
            for lengths in ([9, 9, 9], [4, 0, 9], [0, 0, 0], [1, 7, 2], [0, 5, 0])
        ],
        *[(TENSORFLOW, "", [9, 9, 9]), (TENSORFLOW, "c", [4, 0, 9])],
        *[(TENSORFLOW, "m", [4, 0, 9]), (TENSORFLOW, "cm", [0, 0, 0])],
    ],
)
def test_sequences_of_unequal_lengths_agree(
    rng: Rng, engine: str, keep: str, lengths: list[int]
) -> None:
    proj = None if engine == ONNX else 3
    below = (cell(rng, 3, 4), cell(rng, 4, 5, proj)), (cell(rng, 3, 6), cell(rng, 6, 2))
    network = Network((below, ((cell(rng, (proj or 5) + 2, 3),),)))
    assert_agrees(engine, network, rng, steps=9, batch=3, lengths=lengths, keep=keep)


@every_engine
def test_consecutive_parts_equal_the_whole(rng: Rng, engine: str) -> None:
    peepholes = "ifo" if engine == ONNX else ""
    network = Network((((cell(rng, 3, 4), cell(rng, 4, 5, peepholes=peepholes)),),))
    x, states = sequences(rng, network, 12, 2)
    runner = engines.load(engine, network)
    whole = runner.run(x, states, keep="m")
    made = []
    for start, stop in [(0, 5), (5, 6), (6, 12)]:
        ran = runner.run(x[start:stop], states)
        made.append(ran.outputs)
        states = ran.states
    np.testing.assert_array_equal(np.concatenate(made), whole.outputs)
    np.testing.assert_array_equal(whole.kept[1]["m"], whole.outputs)
    for pair, last in zip(states, whole.states, strict=True):
        np.testing.assert_array_equal(pair, last)


@every_engine
def test_the_comparison_can_fail(rng: Rng, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With other gates in the model, and with TensorFlow's bias for f."""
    one = cell(rng, 3, 4)
    if engine == ONNX:
        monkeypatch.setattr("lstmstate.engines.onnx_graph._GATES", "ifoj")
        with pytest.raises(AssertionError, match="outputs"):
            assert_agrees(engine, alone(one), rng)
        return
    x, states = sequences(rng, alone(one), 5, 1)
    ours = engines.load("numpy", alone(one)).run(x, states)
    theirs = engines.load(engine, alone(one._replace(forget_bias=1.001))).run(x, states)
    assert np.abs(ours.outputs - theirs.outputs).max() > 2e-5


@pytest.mark.parametrize(
    ("engine", "package", "extra"),
    [
        *[(ONNX, package, "onnx") for package in ("onnx", "onnxruntime")],
        *[(TENSORFLOW, package, "tensorflow") for package in ("tensorflow", "tf_keras")],
    ],
)
def test_a_missing_package_is_named(
    rng: Rng, monkeypatch: pytest.MonkeyPatch, engine: str, package: str, extra: str
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(engines, "find_spec", lambda name: None if name == package else find(name))
    with pytest.raises(MissingExtraError) as caught:
        engines.load(engine, alone(cell(rng, 3, 4)))
    assert str(caught.value) == (
        f"the engine {engine} needs {package}, not installed here; pip install 'lstmstate[{extra}]'"
    )
