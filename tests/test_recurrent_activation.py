"""Activations of gates: read from the graph for Keras, fixed by the class for all others."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
import writers
from commands import Shell
from writers import BATCH, INPUTS, STEPS, MetaGraph, TensorFlow, dynamic, only, opened, shown

from lstmstate.cells import Cell, Option
from lstmstate.cells.cell import UNKNOWN
from lstmstate.cells.families import FAMILIES
from lstmstate.model.checkpoint import LSTMCheckpoint, open_checkpoint

UNITS = 4
NAMES = "tanh relu sigmoid linear elu softplus softsign selu hard_sigmoid".split()
SINGLE = ("family", "default")
HARD, SOFT = "hard_sigmoid", "sigmoid"


def layer(tf: TensorFlow, kind: str, **options: Any) -> Any:
    """Return a tf_keras layer: a class of 1.x or of 2.x, or a cell in an RNN."""
    import tf_keras

    if kind == "cell":
        return tf_keras.layers.RNN(tf_keras.layers.LSTMCell(UNITS, **options))
    return (tf.keras if kind == "1.x" else tf_keras).layers.LSTM(UNITS, **options)


def keras(kind: str, *, functional: bool = False, **options: Any) -> LSTMCheckpoint:
    """Return the only cell that is found for a layer over a fed sequence."""

    def build(tf: TensorFlow) -> None:
        x = tf.placeholder(tf.float32, [BATCH, STEPS, INPUTS])
        layer(tf, kind, **options)(x)

    return opened(build, functional=functional)


def check(cell: Cell, activation: str, recurrent: str) -> None:
    """Check that the graph shows both functions, and that no part of them is read as a clip."""
    names = {"linear": "identity"}
    expected = {
        "activation": names.get(activation, activation),
        "recurrent_activation": names.get(recurrent, recurrent),
        "cell_clip": None,
        "proj_clip": None,
    }
    assert shown(cell, *expected) == expected
    assert (cell.family, cell.forget_bias.value) == ("Keras LSTM", 0.0)


# ---- the graph of a Keras layer


@pytest.mark.parametrize("number", range(len(NAMES)))
def test_both_activations_of_a_keras_layer(number: int) -> None:
    """Each function is used once for c and m, and once for the gates."""
    activation, recurrent = NAMES[number], NAMES[number - 1]
    check(only(keras("2.x", activation=activation, recurrent_activation=recurrent)),
          activation, recurrent)  # fmt: skip


@pytest.mark.parametrize("kind", ["1.x", "2.x"])
@pytest.mark.parametrize("implementation", [1, 2])
def test_both_implementations_of_a_keras_layer(kind: str, implementation: int) -> None:
    options = {"activation": "elu", "recurrent_activation": "hard_sigmoid"}
    check(only(keras(kind, implementation=implementation, **options)), *options.values())


# All pairs of a kind, its options, the form of its loops and the activation of its gates.
LOOPS: list[tuple[str, dict[str, Any], bool, str]] = [
    ("1.x", {}, True, SOFT),
    ("1.x", {"use_bias": False}, False, HARD),
    ("1.x", {"dropout": 0.3, "recurrent_dropout": 0.2}, False, SOFT),
    ("2.x", {}, False, HARD),
    ("2.x", {"use_bias": False}, True, SOFT),
    ("2.x", {"dropout": 0.3, "recurrent_dropout": 0.2}, True, HARD),
    ("cell", {}, False, SOFT),
    ("cell", {"use_bias": False}, True, HARD),
    ("cell", {"dropout": 0.3, "recurrent_dropout": 0.2}, True, SOFT),
]


@pytest.mark.parametrize(("kind", "options", "functional", "recurrent"), LOOPS)
def test_loops_and_functions_of_keras(
    kind: str, options: dict[str, Any], functional: bool, recurrent: str
) -> None:
    """With 2.x loops the step is in a function that another function calls."""
    found = keras(kind, functional=functional, recurrent_activation=recurrent, **options)
    check(only(found), "tanh", recurrent)


@pytest.mark.parametrize("implementation", [1, 2])
def test_an_unrolled_keras_layer(implementation: int) -> None:
    found = keras(
        "2.x",
        implementation=implementation,
        activation="linear",
        recurrent_activation="hard_sigmoid",
        unroll=True,
    )
    check(only(found), "linear", "hard_sigmoid")


def test_layers_and_directions_have_their_own_activations() -> None:
    def build(tf: TensorFlow) -> None:
        import tf_keras

        x = tf.placeholder(tf.float32, [BATCH, STEPS, INPUTS])
        both = layer(
            tf, "2.x", recurrent_activation="relu", activation="softsign", return_sequences=True
        )
        x = tf_keras.layers.Bidirectional(both)(x)
        layer(tf, "1.x")(x)

    cells = opened(build).cells.values()
    found = [tuple(shown(cell, "activation", "recurrent_activation").values()) for cell in cells]
    assert sorted(found) == [("softsign", "relu"), ("softsign", "relu"), ("tanh", "hard_sigmoid")]


def test_a_saved_model_of_keras(tmp_path: Path) -> None:
    """The step of a default layer is a function with two implementations, one of them for cuDNN."""
    import tf_keras

    writers.tensorflow()
    model = tf_keras.Sequential([tf_keras.layers.Input([STEPS, INPUTS])])
    own: dict[str, Any] = {"activation": "elu", "recurrent_activation": "hard_sigmoid"}
    model.add(tf_keras.layers.LSTM(UNITS, return_sequences=True, **own))
    model.add(tf_keras.layers.LSTM(UNITS))
    model.save(tmp_path / "model", save_format="tf", include_optimizer=False)
    first, second = open_checkpoint(tmp_path / "model").cells.values()
    check(first, "elu", "hard_sigmoid")
    check(second, "tanh", "sigmoid")


# ---- activations in small operations


def hand_made(act: Any, squash: Any, *, family: str = "lstm") -> Cell:
    """Step an LSTM over two steps with these activations, under the names of Keras."""

    def build(tf: TensorFlow) -> None:
        kernel = tf.get_variable(f"{family}/kernel", [INPUTS, 4 * UNITS])
        recurrent = tf.get_variable(f"{family}/recurrent_kernel", [UNITS, 4 * UNITS])
        c = m = tf.zeros([BATCH, UNITS])
        for x in tf.unstack(writers.inputs(tf, batch=BATCH, steps=STEPS), axis=1):
            z = tf.matmul(x, kernel) + tf.matmul(m, recurrent)
            i, f, j, o = tf.split(z, 4, 1)
            c = squash(tf, f) * c + squash(tf, i) * act(tf, j)
            m = squash(tf, o) * act(tf, c)

    return only(opened(build))


def tanh(tf: TensorFlow, x: Any) -> Any:
    return tf.tanh(x)


FUNCTIONS = {
    "keras3_hard_sigmoid": [
        lambda tf, x: tf.nn.relu6(x + 3.0) / 6.0,
        lambda tf, x: tf.nn.relu6(3.0 + x) * (1 / 6),
    ],
    "hard_sigmoid": [
        lambda tf, x: tf.clip_by_value(0.2 * x + 0.5, 0.0, 1.0),
        lambda tf, x: tf.clip_by_value(0.5 + x * 0.2, 0.0, 1.0),
        lambda tf, x: tf.raw_ops.ClipByValue(
            t=0.2 * x + 0.5, clip_value_min=0.0, clip_value_max=1.0
        ),
    ],
    # tf.nn.leaky_relu up to 1.10, and the operation.
    "leaky_relu": [lambda tf, x: tf.maximum(0.2 * x, x), lambda tf, x: tf.nn.leaky_relu(x)],
    # tf.keras up to 1.9.
    "selu": [
        lambda tf, x: (
            1.0507009873554805 * tf.where(x > 0.0, tf.nn.elu(x), 1.6732632423543772 * tf.nn.elu(x))
        ),
    ],
}
FORMS = [(name, form) for name, forms in FUNCTIONS.items() for form in forms]


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_an_activation_written_in_small_operations(name: str, form: Any) -> None:
    check(hand_made(tanh, form), "tanh", name)
    check(hand_made(form, form), name, name)


UNNAMED = [
    lambda tf, x: tf.clip_by_value(0.25 * x + 0.5, 0.0, 1.0),
    lambda tf, x: tf.clip_by_value(0.2 * x + 0.5, 0.0, 0.9),
    lambda tf, x: tf.clip_by_value(0.2 * x + 0.5 * x, 0.0, 1.0),
    lambda tf, x: tf.nn.relu6(x + 3.0) / 5.0,
    lambda tf, x: tf.nn.leaky_relu(x, 0.3),
    lambda tf, x: x * x,
    lambda tf, x: 1 / (1 + tf.exp(-x)),
]


@pytest.mark.parametrize("form", UNNAMED)
def test_an_unknown_activation_is_neither_another_nor_the_default(form: Any) -> None:
    found = hand_made(tanh, form)
    assert found.options["recurrent_activation"] == Option(None, "unknown")


@pytest.mark.parametrize("cell", ["BasicLSTMCell", "LSTMCell"])
@pytest.mark.parametrize("clip", [None, 0.5])
def test_the_clip_of_a_hard_sigmoid_is_not_a_cell_clip(cell: str, clip: float | None) -> None:
    """An activation of Keras in a core cell: its bounds 0 and 1 are part of it."""

    def build(tf: TensorFlow) -> None:
        more = {"cell_clip": clip} if cell == "LSTMCell" else {}
        act = tf.keras.activations.hard_sigmoid
        dynamic(tf, getattr(tf.nn.rnn_cell, cell)(UNITS, activation=act, forget_bias=0.3, **more))

    found = only(opened(build))
    expected = {"activation": "hard_sigmoid", "forget_bias": 0.3}
    expected["cell_clip"] = clip if cell == "LSTMCell" else None
    assert shown(found, *expected) == expected
    assert found.family == cell


def test_a_cell_used_in_two_ways_has_an_unknown_activation() -> None:
    def build(tf: TensorFlow) -> None:
        kernel = tf.get_variable("lstm/kernel", [INPUTS, 4 * UNITS])
        recurrent = tf.get_variable("lstm/recurrent_kernel", [UNITS, 4 * UNITS])
        hard = tf.keras.activations.hard_sigmoid
        for squash in (tf.sigmoid, hard):
            x = tf.placeholder(tf.float32, [BATCH, INPUTS])
            c = m = tf.zeros([BATCH, UNITS])
            i, f, j, o = tf.split(tf.matmul(x, kernel) + tf.matmul(m, recurrent), 4, 1)
            c = squash(f) * c + squash(i) * tf.tanh(j)
            m = squash(o) * tf.tanh(c)

    found = only(opened(build))
    assert found.options["recurrent_activation"].value is None
    assert any("recurrent_activation" in note for note in found.notes)
    assert shown(found, "activation") == {"activation": "tanh"}


# ---- cells without a graph


def stored(scope: str, *, version: str | None = None, bias: int = 4 * UNITS) -> Cell:
    """Return a cell of Keras with variables only."""

    def build(tf: TensorFlow) -> None:
        tf.get_variable(f"{scope}/kernel", [INPUTS, 4 * UNITS])
        tf.get_variable(f"{scope}/recurrent_kernel", [UNITS, 4 * UNITS])
        tf.get_variable(f"{scope}/bias", [bias])

    def edit(meta: MetaGraph) -> None:
        meta.meta_info_def.tensorflow_version = version

    with tempfile.TemporaryDirectory() as folder:
        written = edit if version else None
        return only(open_checkpoint(writers.save(folder, build, graph=bool(version), edit=written)))


@pytest.mark.parametrize(
    ("scope", "version", "expected"),
    [
        ("lstm", None, HARD),
        ("model/lstm_1", None, HARD),
        ("lstm/lstm_cell", None, SOFT),  # names of 2.x: a cell has a scope in its layer
        ("model/lstm_1/lstm_cell_3", None, SOFT),
        ("lstm", "1.4.0", HARD),
        ("lstm", "1.15.0", HARD),
        ("lstm/lstm_cell", "1.15.0", HARD),  # the graph overrides the names
        ("lstm", "2.0.0", SOFT),
        ("lstm/lstm_cell", "2.21.0", SOFT),
        ("lstm", "0.12.1", HARD),
        ("lstm", "unknown", HARD),
    ],
)
def test_without_a_step_in_a_graph_it_is_unknown(
    scope: str, version: str | None, expected: str
) -> None:
    """Keras 2.3 on TensorFlow 1.15 has sigmoid, compat.v1 layers on TensorFlow 2 hard_sigmoid."""
    cell = stored(scope, version=version)
    assert cell.options["recurrent_activation"] == UNKNOWN
    assert cell.documented["recurrent_activation"].value == expected


def test_an_object_based_checkpoint_is_probably_of_2() -> None:
    def build(tf: TensorFlow) -> dict[str, Any]:
        cell = layer(tf, "cell").cell
        cell.build([None, INPUTS])
        return {"model": cell}

    cell = only(writers.saved_as_objects(build))
    assert cell.options["recurrent_activation"] == UNKNOWN  # save_format="tf" of 1.15 is the same
    assert cell.documented["recurrent_activation"].value == SOFT


@pytest.mark.parametrize("version", [None, "1.15.0", "2.0.0"])
def test_a_cell_of_cudnn_has_no_choice(version: str | None) -> None:
    found = stored("cu_dnnlstm", version=version, bias=8 * UNITS)
    assert found.family == "CuDNNLSTM"
    assert found.options["recurrent_activation"] == Option("sigmoid", "family")
    assert found.options["activation"] == Option("tanh", "family")


@pytest.mark.parametrize("graph", [True, False])
@pytest.mark.parametrize("cell", ["BasicLSTMCell", "LSTMCell"])
def test_core_cells_have_no_choice(cell: str, graph: bool) -> None:
    found = opened(
        lambda tf: dynamic(tf, getattr(tf.nn.rnn_cell, cell)(UNITS)),
        graph=graph,
    )
    assert only(found).options["recurrent_activation"] == Option("sigmoid", "family")


@pytest.mark.parametrize("op", ["LSTMBlockCell", "BlockLSTM", "BlockLSTMV2"])
def test_block_cells_have_no_choice(op: str) -> None:
    found = only(opened(lambda tf: writers.block(tf, op)))
    assert found.options["recurrent_activation"] == Option("sigmoid", "family")


def test_a_cell_of_two_kernels_without_keras_names_follows_its_graph() -> None:
    """Only a graph shows that such matrices are a cell; no class's default is assumed for it."""

    def build(tf: TensorFlow) -> None:
        w = tf.get_variable("w", [INPUTS, 4 * UNITS])
        u = tf.get_variable("u", [UNITS, 4 * UNITS])
        bias = tf.get_variable("b", [4 * UNITS])
        c = m = tf.zeros([BATCH, UNITS])
        for x in tf.unstack(writers.inputs(tf, batch=BATCH, steps=STEPS), axis=1):
            z = tf.nn.bias_add(tf.matmul(x, w) + tf.matmul(m, u), bias)
            i, f, j, o = tf.split(z, 4, 1)
            c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(j)
            m = tf.sigmoid(o) * tf.tanh(c)

    found = only(opened(build))
    assert found.family == "LSTM"
    assert found.options["recurrent_activation"].value == "sigmoid"
    assert found.options["recurrent_activation"].source in ("graph", "family")


def test_options_of_a_core_cell_follow_its_graph() -> None:
    def build(tf: TensorFlow) -> None:
        kernel = tf.get_variable("rnn/lstm_cell/kernel", [INPUTS + UNITS, 4 * UNITS])
        bias = tf.get_variable("rnn/lstm_cell/bias", [4 * UNITS])
        squash = tf.keras.activations.hard_sigmoid
        c = m = tf.zeros([BATCH, UNITS])
        x = tf.placeholder(tf.float32, [BATCH, INPUTS])
        z = tf.nn.bias_add(tf.matmul(tf.concat([x, m], 1), kernel), bias)
        i, j, f, o = tf.split(z, 4, 1)
        c = squash(f + 1.0) * c + squash(i) * tf.tanh(j)
        m = squash(o) * tf.tanh(c)

    found = only(opened(build))
    assert shown(found, "recurrent_activation", "forget_bias") == {
        "recurrent_activation": "hard_sigmoid",
        "forget_bias": 1.0,
    }


# ---- reports


def saved(folder: Path, recurrent: str, *, graph: bool = True) -> str:
    def build(tf: TensorFlow) -> None:
        x = tf.placeholder(tf.float32, [BATCH, STEPS, INPUTS])
        layer(tf, "1.x", recurrent_activation=recurrent)(x)

    return writers.save(folder, build, graph=graph)


@pytest.mark.parametrize(
    ("recurrent", "graph", "expected"),
    [
        ("hard_sigmoid", True, ["hard_sigmoid"]),
        ("relu", True, ["relu"]),
        ("sigmoid", True, []),
        ("hard_sigmoid", False, ["? (hard_sigmoid in Keras up to 2.2 and tf.keras of TensorFlow"]),
    ],
)
def test_the_table_shows_activations_other_than_sigmoid(
    shell: Shell, tmp_path: Path, recurrent: str, graph: bool, expected: list[str]
) -> None:
    done = shell("inspect", saved(tmp_path, recurrent, graph=graph))
    start = "  recurrent_activation of 1: "
    lines = [line for line in done.out.splitlines() if "recurrent_activation" in line]
    assert len(lines) == len(expected)
    assert all(line.startswith(start + word) for line, word in zip(lines, expected, strict=True))


@pytest.mark.parametrize(("graph", "expected"), [(True, ("sigmoid", "graph")), (False, UNKNOWN)])
def test_the_json_has_its_value_and_source(
    shell: Shell, tmp_path: Path, graph: bool, expected: tuple[str | None, str]
) -> None:
    (cell,) = shell.json("inspect", saved(tmp_path, "sigmoid", graph=graph))["cells"]
    assert cell["recurrent_activation"] == dict(zip(("value", "source"), expected, strict=True))


def test_every_option_of_every_class_has_a_source() -> None:
    """A new row of the table must list it."""
    for family in FAMILIES:
        sources = ["unknown"] if "recurrent_activation" in family.documented else SINGLE
        assert family.option("recurrent_activation").source in sources
