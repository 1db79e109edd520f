"""Weights as checkpoints under the names of TensorFlow's eras, read by TensorFlow and by us."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exported import difference, export
from networks import alone, cell, sequences, stacked, stacked_apart

from lstmstate import engines, open_checkpoint
from lstmstate.engines.canonical_network import Network
from lstmstate.errors import UnsupportedError

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*the files do not record"),
    pytest.mark.filterwarnings("ignore:.*is deprecated"),
]
ERAS = ["tensorflow", "tensorflow-1.0", "tensorflow-0.12"]
EVERYTHING: dict[str, Any] = {
    "proj": 3,
    "peepholes": "ifo",
    "cell_clip": 0.4,
    "proj_clip": 0.2,
    "activation": "relu",
    "forget_bias": -1.0,
}
OPTIONS = ("cell_clip", "proj_clip", "activation", "forget_bias", "recurrent_activation")


def networks(rng: Any, **options: Any) -> dict[str, Network]:
    """Return networks of each kind that TensorFlow has names for."""
    return {
        "cell": stacked(rng, 1, **options),
        "stack": stacked(rng, 3, **options),
        "both": stacked(rng, 1, 2, **options),
        "stack of both": stacked(rng, 2, 2, **options),
        "both of stacks": stacked_apart(rng, 2, **options),
    }


KINDS = list(networks(np.random.default_rng(0)))


@pytest.mark.parametrize("to", ERAS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{}, EVERYTHING], ids=["plain", "everything"])
def test_networks_are_recognised_with_the_same_numbers(
    tmp_path: Path, rng: Any, to: str, kind: str, options: dict[str, Any]
) -> None:
    network = networks(rng, **options)[kind]
    export(network, to, tmp_path / "m.ckpt")
    x, states = sequences(rng, network, steps=6, batch=2)
    ran = engines.load("numpy", network).run(x, states)
    given = {name: value for name, value in options.items() if name in OPTIONS}
    with open_checkpoint(tmp_path / "m.ckpt") as ckpt:
        found, after = ckpt.network().run(
            x.swapaxes(0, 1),
            states if len(states) > 1 else states[0],
            assume_defaults=True,
            **given,
        )
    np.testing.assert_array_equal(found.swapaxes(0, 1), ran.outputs)
    for (c, m), own in zip(ran.states, after.cells, strict=True):
        np.testing.assert_array_equal(own.c, c)
        np.testing.assert_array_equal(own.m, m)


def test_layers_of_keras_are_recognised_with_the_same_numbers(tmp_path: Path, rng: Any) -> None:
    network = stacked(rng, 2, recurrent_activation="hard_sigmoid", forget_bias=0.5)
    export(network, "tensorflow-keras", tmp_path / "m.ckpt")
    with open_checkpoint(tmp_path / "m.ckpt") as ckpt:
        assert list(ckpt.cells) == ["lstm", "lstm_1"]
        for name, one in zip(ckpt.cells, network.cells, strict=True):
            x, states = sequences(rng, alone(one), steps=6, batch=2)
            ran = engines.load("numpy", alone(one)).run(x, states)
            found, after = ckpt.network(cell=name).run(
                x.swapaxes(0, 1), states[0], recurrent_activation="hard_sigmoid"
            )
            assert ckpt.cells[name].family == "Keras LSTM"
            np.testing.assert_allclose(found.swapaxes(0, 1), ran.outputs, atol=2e-7)
            np.testing.assert_allclose(after.c, ran.states[0][0], atol=2e-7)


@pytest.mark.parametrize(
    ("to", "kind", "scope"),
    [
        ("tensorflow", "cell", "rnn/lstm_cell"),
        ("tensorflow", "stack", "rnn/multi_rnn_cell/cell_2/lstm_cell"),
        ("tensorflow", "both", "bidirectional_rnn/bw/lstm_cell"),
        (
            "tensorflow",
            "stack of both",
            "stack_bidirectional_rnn/cell_1/bidirectional_rnn/bw/lstm_cell",
        ),
        ("tensorflow", "both of stacks", "bidirectional_rnn/bw/multi_rnn_cell/cell_1/lstm_cell"),
        ("tensorflow-0.12", "cell", "RNN/LSTMCell"),
        ("tensorflow-0.12", "stack", "RNN/MultiRNNCell/Cell2/LSTMCell"),
        ("tensorflow-0.12", "both", "BiRNN/BW/LSTMCell"),
        ("tensorflow-0.12", "stack of both", "StackRNN/Layer1/BiRNN/BW/LSTMCell"),
        ("tensorflow-keras", "cell", "lstm"),
        ("tensorflow-keras", "stack", "lstm_2"),
        ("tensorflow-keras", "both", "bidirectional/backward_lstm"),
        ("tensorflow-keras", "stack of both", "bidirectional_1/backward_lstm_1"),
    ],
)
def test_scopes_are_those_of_the_release(
    tmp_path: Path, rng: Any, to: str, kind: str, scope: str
) -> None:
    found = export(networks(rng)[kind], to, tmp_path / "m.ckpt")
    assert any(name.startswith(f"{scope}/") for name in list(found.content)[-3:])


@pytest.mark.parametrize(
    ("to", "leaves"),
    [
        ("tensorflow", "kernel bias w_f_diag w_i_diag w_o_diag projection/kernel"),
        ("tensorflow-1.0", "weights biases w_f_diag w_i_diag w_o_diag projection/weights"),
        ("tensorflow-0.12", "W_0 B W_F_diag W_I_diag W_O_diag W_P_0"),
    ],
)
def test_variables_are_those_of_the_release(tmp_path: Path, rng: Any, to: str, leaves: str) -> None:
    one = cell(rng, 4, 5, 3, peepholes="fo", forget_bias=0.25)
    found = export(alone(one), to, tmp_path / "m.ckpt")
    scope = "RNN/LSTMCell" if to == "tensorflow-0.12" else "rnn/lstm_cell"
    assert list(found.content) == [f"{scope}/{leaf}" for leaf in leaves.split()]
    kernel, bias, w_f, w_i, w_o, projection = found.content.values()
    np.testing.assert_array_equal(kernel, np.concatenate([one.kernel, one.recurrent]))
    np.testing.assert_array_equal(bias, one.bias)
    np.testing.assert_array_equal(w_f, one.peepholes["f"])
    np.testing.assert_array_equal(w_i, np.zeros(5))
    np.testing.assert_array_equal(w_o, one.peepholes["o"])
    np.testing.assert_array_equal(projection, one.projection)
    assert "forget_bias 0.25 of `rnn/lstm_cell` is not in its weights" in found.describe()


@pytest.mark.parametrize(
    ("to", "options"),
    [
        ("tensorflow", {"proj": 5}),
        ("tensorflow", {"gates": "jfo", "peepholes": "fo", "forget_bias": 0.5}),
        ("tensorflow", {"indy": True, "activation": "keras3_hard_sigmoid"}),
        ("tensorflow", {"dtype": "float64", **EVERYTHING}),
        ("tensorflow-1.0", EVERYTHING),
        ("tensorflow-0.12", EVERYTHING),
        ("tensorflow-keras", {"forget_bias": -1.0, "recurrent_activation": "hard_sigmoid"}),
        ("tensorflow-keras", {"dtype": "float64", "activation": "softsign"}),
    ],
    ids=repr,
)
def test_cells_run_in_tensorflow(
    tmp_path: Path, rng: Any, to: str, options: dict[str, Any]
) -> None:
    run_in_tensorflow(alone(cell(rng, 4, 5, **options)), to, tmp_path)


@pytest.mark.covering(1)
@pytest.mark.parametrize("to", ["tensorflow", "tensorflow-0.12", "tensorflow-keras"])
@pytest.mark.parametrize("kind", KINDS[1:])
def test_networks_run_in_tensorflow(tmp_path: Path, rng: Any, to: str, kind: str) -> None:
    if (to, kind) != ("tensorflow-keras", "both of stacks"):
        run_in_tensorflow(networks(rng)[kind], to, tmp_path)


def run_in_tensorflow(network: Network, to: str, folder: Path) -> None:
    """Compare a network in TensorFlow, by the program of its README, with ours."""
    pytest.importorskip("tensorflow")
    pytest.importorskip("tf_keras")
    assert difference(network, to, folder / "m.ckpt") < 2e-6


@pytest.mark.parametrize(
    ("to", "options", "words"),
    [
        ("tensorflow", {"norms": "ijfoc"}, "layer norm"),
        ("tensorflow", {"recurrent_activation": "hard_sigmoid"}, "recurrent activation"),
        ("tensorflow", {"candidate": "relu"}, "two activations"),
        ("tensorflow-keras", {"peepholes": "ifo"}, "peepholes"),
        ("tensorflow-keras", {"proj": 3}, "projection"),
        ("tensorflow-keras", {"cell_clip": 1.0}, "cell_clip"),
    ],
)
def test_cells_that_a_class_does_not_have_are_refused(
    tmp_path: Path, rng: Any, to: str, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(UnsupportedError, match=words):
        export(alone(cell(rng, 4, 5, **options)), to, tmp_path / "m.ckpt")


def test_networks_without_names_are_refused(tmp_path: Path, rng: Any) -> None:
    mixed = Network((*stacked(rng, 1, 2).stages, ((cell(rng, 10, 5),),)))
    with pytest.raises(UnsupportedError, match="one direction after those of two"):
        export(mixed, "tensorflow", tmp_path / "m.ckpt")
    with pytest.raises(UnsupportedError, match="Keras joins the two directions after each layer"):
        export(stacked_apart(rng, 2), "tensorflow-keras", tmp_path / "m.ckpt")


def test_other_files_are_refused(tmp_path: Path, rng: Any) -> None:
    with pytest.raises(UnsupportedError, match=r"end the name in \.ckpt"):
        export(alone(cell(rng, 4, 5)), "tensorflow", tmp_path / "w.npz")
    assert not list(tmp_path.iterdir())
