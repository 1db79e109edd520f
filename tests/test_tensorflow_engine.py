"""The TensorFlow engine: its cells compared with the NumPy engine and with its operations."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import (
    Array,
    Rng,
    alone,
    assert_agrees,
    assert_same,
    cell,
    random_network,
    sequences,
)
from writers import tensorflow

from lstmstate import engines
from lstmstate.cells.activations import ACTIVATIONS
from lstmstate.cells.families import BY_NAME
from lstmstate.engines import tensorflow_cells, tensorflow_engine
from lstmstate.engines.canonical_network import CanonicalCell, Network
from lstmstate.engines.numpy_functions import function
from lstmstate.errors import LstmstateError, MissingExtraError, UnsupportedError

ENGINE = "tensorflow"
CLASSES = {
    family.name: tensorflow_cells.CLASSES[family.tensorflow]
    for family in BY_NAME.values()
    if family.tensorflow is not None
}
BLOCKS = ("LSTMBlockCell", "CudnnCompatibleLSTMCell", "LSTMBlockFusedCell", "BlockLSTMV2")
TOLERANCES = {"float16": 4e-3, "float32": 2e-6, "float64": 1e-13}


def of_family(rng: Rng, family: str, inputs: int, units: int, **given: Any) -> CanonicalCell:
    """Return a cell with all options of its family."""
    full: dict[str, dict[str, Any]] = {
        "BasicLSTMCell": {"forget_bias": 0.5, "activation": "relu"},
        "LSTMCell": {
            "proj": units + 1,
            "peepholes": "ifo",
            "cell_clip": 0.6,
            "proj_clip": 0.3,
            "forget_bias": 1.5,
            "activation": "softsign",
        },
        "Keras LSTM": {
            "forget_bias": 0.0,
            "activation": "elu",
            "recurrent_activation": "hard_sigmoid",
        },
        "BlockLSTMV2": {"forget_bias": 0.0, "peepholes": "ifo", "cell_clip": 0.4},
    }
    takes = CLASSES[family].takes
    most = {"forget_bias": 0.5, "peepholes": "ifo", "cell_clip": 0.4}
    least = {"forget_bias": 0.0, "peepholes": "", "cell_clip": None}
    options = full.get(family, {key: (most if key in takes else least)[key] for key in most})
    return cell(rng, inputs, units, family=family, **options | given)


def any_cell(rng: Rng, inputs: int, units: int) -> CanonicalCell:
    """Return a cell of any family, with all its options or none."""
    family = str(rng.choice(list(CLASSES)))
    if rng.random() < 0.5:
        return of_family(rng, family, inputs, units)
    has_one = "forget_bias" in CLASSES[family].takes
    return cell(rng, inputs, units, family=family, forget_bias=1.0 if has_one else 0.0)


# ---- comparison with the NumPy engine


@pytest.mark.parametrize(
    ("family", "dtype"),
    [(family, dtype) for family, row in CLASSES.items() for dtype in row.dtypes],
)
def test_every_family_agrees(rng: Rng, family: str, dtype: str) -> None:
    network = alone(of_family(rng, family, 3, 5, dtype=dtype))
    assert_agrees(ENGINE, network, rng, tolerance=TOLERANCES[dtype], keep="cm")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"peepholes": "ifo"},
        {"peepholes": "o"},
        {"cell_clip": 0.2},
        {"cell_clip": 0.2, "peepholes": "ifo"},
        {"proj": 2},
        {"proj": 2, "proj_clip": 0.1},
        {"proj": 7, "cell_clip": 0.5},
        {"proj_clip": 0.01},
        {"forget_bias": -1.0},
    ],
    ids=str,
)
def test_options_of_lstm_cell_agree(rng: Rng, options: dict[str, Any]) -> None:
    assert_agrees(ENGINE, alone(cell(rng, 3, 5, **options)), rng, batch=1)


@pytest.mark.covering(1)
@pytest.mark.parametrize("clip", [None, 6.0])
@pytest.mark.parametrize("family", BLOCKS)
def test_states_beyond_the_default_of_an_operation_agree(
    rng: Rng, family: str, clip: float | None
) -> None:
    """By default, LSTMBlockCell and BlockLSTM clip c at 3."""
    network = alone(of_family(rng, family, 3, 4, cell_clip=clip))
    x, [(c, m)] = sequences(rng, network, 3, 2)
    ours, theirs = (
        engines.load(name, network).run(x, [(20 * c, m)], keep="c") for name in ("numpy", ENGINE)
    )
    assert np.abs(ours.kept[0]["c"][0]).max() > 3
    assert_same(ours, theirs, 2e-6)


@pytest.mark.parametrize("seed", range(4))
def test_any_network_agrees(seed: int) -> None:
    rng = np.random.default_rng(seed)
    network = random_network(rng, any_cell)
    lengths = [int(n) for n in rng.integers(0, 13, 3)] if seed % 2 else None
    keep = "cm" if seed % 4 > 1 else ""
    assert_agrees(ENGINE, network, rng, steps=12, batch=3, lengths=lengths, keep=keep)


@pytest.mark.parametrize(
    ("keep", "lengths"),
    [("", [9, 9, 9]), ("c", [4, 0, 9]), ("m", [4, 0, 9]), ("cm", [0, 0, 0])],
)
def test_sequences_of_unequal_lengths_agree(rng: Rng, keep: str, lengths: list[int]) -> None:
    below = (cell(rng, 3, 4), cell(rng, 4, 5, 3)), (cell(rng, 3, 6), cell(rng, 6, 2))
    network = Network((below, ((cell(rng, 5, 3),),)))
    assert_agrees(ENGINE, network, rng, steps=9, batch=3, lengths=lengths, keep=keep)


def test_consecutive_parts_equal_the_whole(rng: Rng) -> None:
    network = Network((((cell(rng, 3, 4), cell(rng, 4, 5)),),))
    x, states = sequences(rng, network, 12, 2)
    runner = engines.load(ENGINE, network)
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


def test_the_comparison_can_fail(rng: Rng) -> None:
    """With another bias for f."""
    one = cell(rng, 3, 4)
    x, states = sequences(rng, alone(one), 5, 1)
    ours = engines.load("numpy", alone(one)).run(x, states)
    theirs = engines.load(ENGINE, alone(one._replace(forget_bias=1.001))).run(x, states)
    assert np.abs(ours.outputs - theirs.outputs).max() > 2e-5


# ---- comparison with TensorFlow's operations, without this engine


def test_peepholes_and_clips_match_the_equations(rng: Rng) -> None:
    """LSTMCell.call of 1.15.0 written again, with every variable named."""
    tf = tensorflow()
    one = cell(rng, 3, 4, 2, peepholes="ifo", cell_clip=0.5, proj_clip=0.2, dtype="float64")
    assert one.projection is not None
    x, [(c, m)] = sequences(rng, alone(one), 6, 2)
    ran = engines.load(ENGINE, alone(one)).run(x, [(c, m)])
    w = one.peepholes
    for step, y in zip(x, ran.outputs, strict=True):
        gates = step @ one.kernel + m @ one.recurrent + one.bias
        i, j, f, o = tf.split(gates, 4, axis=1)
        c = tf.sigmoid(f + 1 + w["f"] * c) * c + tf.sigmoid(i + w["i"] * c) * tf.tanh(j)
        c = tf.clip_by_value(c, -0.5, 0.5)
        m = tf.matmul(tf.sigmoid(o + w["o"] * c) * tf.tanh(c), one.projection)
        m = tf.clip_by_value(m, -0.2, 0.2)
        np.testing.assert_allclose(y, m, atol=1e-14)


@pytest.mark.parametrize("op", ["BlockLSTM", "BlockLSTMV2"])
def test_single_steps_equal_the_operation_over_all_steps(rng: Rng, op: str) -> None:
    tf = tensorflow()
    family = "LSTMBlockFusedCell" if op == "BlockLSTM" else op
    one = of_family(rng, family, 3, 4)
    x, [(c, m)] = sequences(rng, alone(one), 7, 2)
    ran = engines.load(ENGINE, alone(one)).run(x, [(c, m)], keep="c")

    def laid(columns: Array) -> Array:
        i, j, f, o = np.split(columns, 4, -1)
        return np.concatenate([i, j, f, o] if op == "BlockLSTM" else [i, f, j, o], -1)

    options: dict[str, Any] = {"forget_bias": 0.5} if op == "BlockLSTM" else {}
    done = getattr(tf.raw_ops, op)(
        seq_len_max=7,
        x=x,
        cs_prev=c,
        h_prev=m,
        w=laid(np.concatenate([one.kernel, one.recurrent])),
        b=laid(one.bias),
        **{f"wc{gate}": one.peepholes[gate] for gate in "ifo"},
        use_peephole=True,
        cell_clip=0.4,
        **options,
    )
    np.testing.assert_array_equal(ran.outputs, done.h)
    np.testing.assert_array_equal(ran.kept[0]["c"], done.cs)


def test_a_keras_cell_equals_the_keras_layer(rng: Rng) -> None:
    tf = tensorflow()
    import tf_keras

    one = of_family(rng, "Keras LSTM", 3, 4)
    x, [(c, m)] = sequences(rng, alone(one), 7, 2)
    ran = engines.load(ENGINE, alone(one)).run(x, [(c, m)])
    layer = tf_keras.layers.LSTM(
        4, "elu", recurrent_activation="hard_sigmoid", return_sequences=True, return_state=True
    )
    layer.build((None, None, 3))

    def laid(columns: Array) -> Array:
        i, j, f, o = np.split(columns, 4, -1)
        return np.concatenate([i, f, j, o], -1)

    layer.set_weights([laid(one.kernel), laid(one.recurrent), laid(one.bias)])
    initial = [tf.constant(m), tf.constant(c)]
    y, last_m, last_c = layer(tf.constant(x.transpose(1, 0, 2)), initial_state=initial)
    np.testing.assert_allclose(ran.outputs.transpose(1, 0, 2), y, atol=1e-6)
    np.testing.assert_allclose(ran.states[0], [last_c, last_m], atol=1e-6)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_match_the_numpy_engine(name: str) -> None:
    tf = tensorflow()
    import tf_keras

    kit = tensorflow_cells.TensorFlow(tf, tf_keras, None)
    x = np.linspace(-9, 9, 181)
    mine = np.empty_like(x)
    function(name)(x, mine)
    np.testing.assert_allclose(kit.function(name)(tf.constant(x)), mine, rtol=1e-12, atol=1e-12)


# ---- refusals


@pytest.mark.parametrize(
    ("family", "options", "words"),
    [
        ("BasicLSTMCell", {"peepholes": "ifo", "proj": 2}, "peepholes, projection"),
        ("BasicLSTMCell", {"cell_clip": 1.0}, "cell_clip"),
        ("LSTMCell", {"recurrent_activation": "hard_sigmoid"}, "recurrent_activation"),
        ("LSTMCell", {"activation": "relu", "candidate": "tanh"}, "activation of j"),
        ("LSTMCell", {"norms": "ijfo"}, "layer norm"),
        ("LSTMCell", {"gates": "jfo"}, "coupled gates"),
        ("LSTMCell", {"indy": True}, "recurrent weights of one m each"),
        ("LSTMBlockCell", {"dtype": "float64", "activation": "relu"}, "activation, float64"),
        ("BlockLSTMV2", {"forget_bias": 1.0}, "forget_bias"),
        ("Keras LSTM", {"forget_bias": 1.0, "peepholes": "o"}, "peepholes, forget_bias"),
    ],
)
def test_options_that_a_class_does_not_have_are_named(
    rng: Rng, family: str, options: Any, words: str
) -> None:
    with pytest.raises(UnsupportedError) as caught:
        engines.load(ENGINE, alone(cell(rng, 3, 4, family=family, **options)))
    assert str(caught.value).startswith(f"rnn/lstm_cell: TensorFlow's {family} has no {words}")
    assert caught.value.advice == "use `engine='numpy'`"


@pytest.mark.parametrize("family", ["GLSTMCell", "IndyLSTMCell", "PeepholeLSTMCell"])
def test_families_removed_from_tensorflow_are_named(rng: Rng, family: str) -> None:
    with pytest.raises(
        UnsupportedError, match=f"TensorFlow 2 has no {family}; use `engine='numpy'`"
    ):
        engines.load(ENGINE, alone(cell(rng, 3, 4, family=family)))


def test_gates_of_every_step_are_refused(rng: Rng) -> None:
    network = alone(cell(rng, 3, 4))
    with pytest.raises(
        UnsupportedError, match="do not return i and f of every step; use `engine='numpy'`"
    ):
        engines.load(ENGINE, network).run(*sequences(rng, network, 4, 1), keep="cif")


@pytest.mark.parametrize("package", ["tensorflow", "tf_keras"])
def test_a_missing_package_is_named(
    rng: Rng, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(engines, "find_spec", lambda name: None if name == package else find(name))
    with pytest.raises(MissingExtraError) as caught:
        engines.load(ENGINE, alone(cell(rng, 3, 4)))
    assert str(caught.value) == (
        f"the engine tensorflow needs {package}, not installed here; "
        "pip install 'lstmstate[tensorflow]'"
    )


def test_a_broken_installation_gives_no_traceback(
    rng: Rng, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tf_keras", None)
    with pytest.raises(LstmstateError, match="TensorFlow cannot be imported: .*force-reinstall"):
        tensorflow_engine.load(alone(cell(rng, 3, 4)))


# ---- the process

ENTER = """
import os, sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from networks import alone, cell, sequences
from lstmstate import engines
rng = np.random.default_rng(0)
network = alone(cell(rng, 3, 4))
"""
RUN = """
ran = engines.load("tensorflow", network).run(*sequences(rng, network, 4, 2))
assert ran.outputs.shape == (4, 2, 4)
"""


def in_a_process(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script without the set-up of TensorFlow in these tests."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
    return subprocess.run(
        [sys.executable, "-c", script, str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        check=True,
        env=clean | environment,
    )


def test_tensorflow_is_silent() -> None:
    done = in_a_process(ENTER + RUN + "print('keras' in sys.modules)")
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_an_imported_tensorflow_is_not_changed() -> None:
    """It uses Keras 3, has a logger and is eager; all of this is kept."""
    before = "import tensorflow as tf\nkeras = tf.keras.__version__\n"
    after = """
assert (tf.keras.__version__, keras[0]) == (keras, "3")
assert tf.executing_eagerly() and "TF_USE_LEGACY_KERAS" not in os.environ
assert float(tf.keras.layers.Dense(1, kernel_initializer="ones")(tf.ones((1, 2)))[0, 0]) == 2
tf.get_logger().warning("still heard")
"""
    done = in_a_process(before + ENTER + RUN + after)
    assert done.stderr.endswith("still heard\n")
    assert "deprecated" not in done.stderr


def test_stderr_is_restored_if_the_import_fails(
    rng: Rng, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tf_keras", None)
    with pytest.raises(LstmstateError):
        tensorflow_engine._import_tensorflow()
    os.write(2, b"heard\n")
    assert capfd.readouterr().err == "heard\n"
