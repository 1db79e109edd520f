"""The onnxruntime engine compared with the NumPy engine, and its ONNX models."""

from __future__ import annotations

import itertools
import subprocess
import sys
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from networks import Rng, alone, assert_agrees, assert_same, cell, random_network, sequences

from lstmstate import engines
from lstmstate.cells.activations import ACTIVATIONS, ROWS
from lstmstate.engines import onnxruntime_engine
from lstmstate.engines.canonical_network import CanonicalCell, Network
from lstmstate.engines.onnx_graph import build_model
from lstmstate.errors import UnsupportedError

KNOWN = tuple(row.name for row in ROWS if row.onnx is not None)
SYMMETRIC = [row.name for row in ROWS if row.is_symmetric]
ENGINE = "onnxruntime"


def any_cell(rng: Rng, inputs: int, units: int) -> CanonicalCell:
    """Return a cell that ONNX can express, with random options."""
    is_coupled = rng.random() < 0.3
    return cell(
        rng,
        inputs,
        units,
        gates="jfo" if is_coupled else "ijfo",
        peepholes=str(rng.choice(["", "fo" if is_coupled else "ifo", "o"])),
        indy=bool(rng.random() < 0.2),
        forget_bias=float(rng.choice([0.0, 1.0, 2.5])),
        activation=str(rng.choice(["tanh", "sigmoid", "softsign", "leaky_relu"])),
        candidate=str(rng.choice(["tanh", "hard_sigmoid"])),
        recurrent_activation=str(rng.choice(SYMMETRIC)),
    )


# ---- values


@pytest.mark.parametrize("seed", range(30))
def test_any_network_agrees_and_its_model_is_valid(seed: int) -> None:
    rng = np.random.default_rng(seed)
    batch = int(rng.choice([1, 2, 5]))
    lengths = [int(n) for n in rng.integers(0, 31, batch)] if seed % 2 else None
    network = random_network(rng, any_cell)
    onnx.checker.check_model(build_model(network, lengths=lengths is not None), full_check=True)
    keep = "m" if seed % 3 else ""
    assert_agrees(ENGINE, network, rng, steps=30, batch=batch, lengths=lengths, keep=keep)


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("place", ["recurrent_activation", "candidate", "activation"])
def test_every_activation_in_every_place_agrees(rng: Rng, place: str, name: str) -> None:
    given: dict[str, Any] = {"candidate": "tanh", "activation": "tanh"} | {place: name}
    # Gates without bounds make a state that explodes: few steps, small weights.
    one = cell(rng, 3, 5, forget_bias=0.0, **given)
    is_wild = place == "recurrent_activation"
    assert_agrees(ENGINE, alone(one), rng, steps=3 if is_wild else 20, batch=3)
    assert_agrees(ENGINE, alone(one), rng, steps=3 if is_wild else 20, batch=1)


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("size", [1e-4, 1.0, 30.0, 200.0])
def test_activations_agree_far_from_zero(rng: Rng, name: str, size: float) -> None:
    """Near and far from zero, where exp overflows; i and f are 1/2 there."""
    one = cell(rng, 40, 40, recurrent_activation="sigmoid", candidate=name, forget_bias=0.0)
    kernel = np.zeros((40, 4, 40), np.float32)
    kernel[:, 1] = np.eye(40)
    zero = np.zeros(160, np.float32)
    one = one._replace(
        kernel=kernel.reshape(40, 160), recurrent=np.zeros((40, 160), np.float32), bias=zero
    )
    network = alone(one)
    x = np.linspace(-size, size, 40, dtype=np.float32).reshape(1, 1, 40)
    states = [(np.zeros((1, 40), np.float32), np.zeros((1, 40), np.float32))]
    ours, theirs = (engines.load(e, network).run(x, states) for e in ("numpy", ENGINE))
    assert_same(ours, theirs, 1e-6)


def test_alpha_and_beta_are_passed_to_their_activations(rng: Rng) -> None:
    """LeakyRelu and Elu take only alpha: they must not take the beta of the next one."""
    takers = ["leaky_relu", "hard_sigmoid", "elu", "keras3_hard_sigmoid", "identity", "tanh"]
    for squash, candidate, activation in itertools.product(takers[1::2], takers, takers):
        one = cell(
            rng, 2, 3, recurrent_activation=squash, candidate=candidate, activation=activation
        )
        assert_agrees(ENGINE, alone(one), rng, steps=5)


@pytest.mark.parametrize("peepholes", ["", "i", "f", "o", "ifo"])
@pytest.mark.parametrize("batch", [1, 4])
def test_peepholes_agree(rng: Rng, batch: int, peepholes: str) -> None:
    assert_agrees(ENGINE, alone(cell(rng, 3, 8, peepholes=peepholes)), rng, batch=batch)


@pytest.mark.parametrize("squash", SYMMETRIC)
@pytest.mark.parametrize("peepholes", ["", "fo"])
def test_coupled_gates_agree(rng: Rng, squash: str, peepholes: str) -> None:
    one = cell(rng, 3, 8, gates="jfo", peepholes=peepholes, recurrent_activation=squash)
    assert_agrees(ENGINE, alone(one), rng)


@pytest.mark.parametrize("batch", [1, 3])
def test_large_and_small_outputs_are_equal(
    rng: Rng, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    """Large ones are written in place, from inputs in any memory order."""
    network = Network((((cell(rng, 3, 4),), (cell(rng, 3, 4),)),))
    x, states = sequences(rng, network, 8, 2 * batch)
    apart = [(c[::2], m[::2]) for c, m in states]
    lengths = np.array([8, 3, 1][:batch])
    runner = engines.load(ENGINE, network)
    small = [runner.run(x[:, ::2], apart, valid, "m") for valid in (None, lengths)]
    monkeypatch.setattr(onnxruntime_engine, "_SMALL_OUTPUTS", 0)
    large = [runner.run(x[:, ::2], apart, valid, "m") for valid in (None, lengths)]
    for one, other in zip(small, large, strict=True):
        assert_same(one, other, 0)


def test_arguments_are_not_changed(rng: Rng) -> None:
    network = alone(cell(rng, 3, 4))
    x, states = sequences(rng, network, 6, 2)
    arrays = [x, *states[0]]
    before = [array.copy() for array in arrays]
    for array in arrays:
        array.setflags(write=False)
    for lengths in (None, np.array([0, 4])):
        ran = engines.load(ENGINE, network).run(x, states, lengths)
        ran.outputs[...] = 9
        ran.states[0][0][...] = 9
    for array, old in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, old)


# ---- models


def test_a_model_is_read_by_its_names_alone(rng: Rng) -> None:
    """The interface of an export: inputs, outputs and their shapes, without the engine."""
    network = Network((((cell(rng, 3, 4),), (cell(rng, 3, 5),)), ((cell(rng, 9, 2),),)))
    model = build_model(network, lengths=True, steps=("y", "m_1"))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    interface = {one.name: one.shape for one in [*session.get_inputs(), *session.get_outputs()]}
    of_cells = {
        f"{part}_{k}": [1, "batch", units]
        for k, units in enumerate([4, 5, 2])
        for part in ("h0", "c0", "h", "c")
    }
    assert interface == of_cells | {
        "x": ["steps", "batch", 3],
        "lengths": ["batch"],
        "y": ["steps", "batch", 2],
        "m_1": ["steps", 1, "batch", 5],
    }
    x, states = sequences(rng, network, 6, 2)
    feeds = {"x": x, "lengths": np.array([6, 2], np.int32)}
    for number, (c, m) in enumerate(states):
        feeds |= {f"h0_{number}": m[None], f"c0_{number}": c[None]}
    y, m_1, c_2 = session.run(["y", "m_1", "c_2"], feeds)
    ran = engines.load("numpy", network).run(x, states, np.array([6, 2]))
    np.testing.assert_allclose(y, ran.outputs, atol=1e-6)
    np.testing.assert_allclose(c_2[0], ran.states[2][0], atol=1e-6)
    assert m_1.shape == (6, 1, 2, 5)


def test_a_model_is_reproducible_and_of_an_old_version(rng: Rng) -> None:
    network = alone(cell(rng, 3, 4, name="rnn/\x1b[31mcell"))
    model = build_model(network)
    assert model.SerializeToString() == build_model(network).SerializeToString()
    # What onnxruntime 1.17 reads: IR 9, opset 20.
    assert (model.ir_version, model.opset_import[0].version) == (7, 14)
    assert model.graph.node[0].doc_string == "rnn/\\x1b[31mcell"
    onnx.shape_inference.infer_shapes(model, strict_mode=True)


def test_building_a_model_needs_no_onnxruntime() -> None:
    script = """
import sys
sys.modules["onnxruntime"] = None
sys.path.insert(0, sys.argv[1])
import numpy as np
from networks import alone, cell
from lstmstate.engines.onnx_graph import build_model
print(build_model(alone(cell(np.random.default_rng(0), 2, 3))).graph.node[0].op_type)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(__file__).rpartition("/")[0]],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "LSTM\n"


# ---- refusals


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dtype": "float64"}, "dtype float64"),
        ({"dtype": "float16"}, "dtype float16"),
        ({"proj": 2}, "projection"),
        ({"proj": 2, "proj_clip": 1.0, "cell_clip": 3.0}, "projection, proj_clip, cell_clip"),
        ({"norms": "ijfoc"}, "layer norm"),
        ({"activation": "selu"}, "activation selu"),
        (
            {"recurrent_activation": "erf", "candidate": "sin"},
            "activation sin, recurrent activation erf",
        ),
        (
            {"gates": "jfo", "recurrent_activation": "tanh"},
            "i = 1 - f with the activation tanh",
        ),
    ],
)
def test_options_that_onnx_cannot_express_are_named(rng: Rng, options: Any, words: str) -> None:
    network = Network((((cell(rng, 3, 4), cell(rng, 4, 4, **options, name="rnn/second")),),))
    with pytest.raises(UnsupportedError) as caught:
        engines.load(ENGINE, network)
    assert str(caught.value) == (
        f"rnn/second: ONNX's LSTM cannot express this LSTMCell: it has {words}; "
        "use `engine='numpy'`"
    )
    with pytest.raises(UnsupportedError) as caught:
        build_model(network)
    assert caught.value.advice is None


def test_clips_without_effect_are_accepted(rng: Rng) -> None:
    assert_agrees(ENGINE, alone(cell(rng, 3, 4, proj_clip=0.01)), rng, steps=5)


def test_softplus_of_onnxruntime_is_still_wrong(rng: Rng) -> None:
    """The reason for the refusal: from 89 on it is infinite. Once this fails, it can be allowed."""
    helper = onnx.helper
    weights = {"w": np.zeros((1, 4, 1)), "r": np.zeros((1, 4, 1)), "b": np.full((1, 8), 50.0)}
    node = helper.make_node(
        "LSTM",
        ["x", *weights],
        ["", "", "c"],
        hidden_size=1,
        activations=["Sigmoid", "Softplus", "Tanh"],
    )
    graph = helper.make_graph(
        [node],
        "softplus",
        [helper.make_tensor_value_info("x", 1, (1, 1, 1))],
        [helper.make_tensor_value_info("c", 1, (1, 1, 1))],
        [onnx.numpy_helper.from_array(a.astype(np.float32), k) for k, a in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=7)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    assert np.isinf(session.run(None, {"x": np.zeros((1, 1, 1), np.float32)})[0]).all()


def test_every_activation_is_known_or_refused(rng: Rng) -> None:
    for name in set(ACTIVATIONS) - set(KNOWN):
        with pytest.raises(UnsupportedError, match=f"activation {name}"):
            build_model(alone(cell(rng, 3, 4, activation=name)))
    assert set(KNOWN) < set(ACTIVATIONS)


@pytest.mark.parametrize("keep", ["c", "mi", "ijfo"])
def test_arrays_that_onnxruntime_does_not_return_are_refused(rng: Rng, keep: str) -> None:
    network = alone(cell(rng, 3, 4))
    with pytest.raises(UnsupportedError, match="of every step; use `engine=.numpy.`"):
        engines.load(ENGINE, network).run(*sequences(rng, network, 4, 1), keep=keep)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_non_finite_values_are_refused(rng: Rng, value: float) -> None:
    """onnxruntime would turn it into ordinary numbers without any sign of an error."""
    one = cell(rng, 3, 4, peepholes="o")
    x, [(c, m)] = sequences(rng, alone(one), 5, 2)
    runner = engines.load(ENGINE, alone(one))
    x[4, 1, 2] = value
    with pytest.raises(
        UnsupportedError, match="the input has NaN or Inf, .*; use `engine=.numpy.`"
    ):
        runner.run(x, [(c, m)])
    lengths = np.array([5, 4])  # there it is padding
    ours = engines.load("numpy", alone(one)).run(x, [(c, m)], lengths)
    assert_same(ours, runner.run(x, [(c, m)], lengths), 2e-6)
    with pytest.raises(UnsupportedError, match="the input"):
        runner.run(x, [(c, m)], np.array([4, 5]))
    with pytest.raises(UnsupportedError, match="a state has NaN or Inf"):
        runner.run(x[:4], [(c, np.full_like(m, value))])
    one.peepholes["o"][1] = value
    with pytest.raises(UnsupportedError, match="rnn/lstm_cell: a weight .*; use `engine=.numpy.`"):
        engines.load(ENGINE, alone(one))


def test_finite_values_whose_sum_is_not_are_run(rng: Rng) -> None:
    network = alone(cell(rng, 3, 4))
    x, states = sequences(rng, network, 3, 2)
    x[:] = 2e38
    assert np.isfinite(engines.load(ENGINE, network).run(x, states).outputs).all()


def test_a_model_of_2_gib_is_refused_before_it_is_built(rng: Rng) -> None:
    """A diagonal of 12,000 units is 192 KB, and its matrices are 2.3 GB."""
    one = cell(rng, 1, 12_000, indy=True)
    with pytest.raises(UnsupportedError, match=r"2,304,\d{3},\d{3} bytes in ONNX"):
        build_model(alone(one))
