"""Options of commands, and options of cells that no file records."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import writers
from commands import Array, Shell, checkpoint, error, lstm_cell, notes, numbers, saved
from writers import INPUTS, STEPS, TensorFlow

from lstmstate import engines, open_checkpoint
from lstmstate.cells.activations import ACTIVATIONS
from lstmstate.cells.cell import Option, Source
from lstmstate.cells.family import Family
from lstmstate.cells.options_from_files import options_from_files
from lstmstate.checkpoint.dtypes import NUMPY_FLOATS
from lstmstate.cli import options
from lstmstate.cli.click_adapter import cli
from lstmstate.engines.numpy_functions import FUNCTIONS
from lstmstate.engines.run_options import RUN_OPTIONS
from lstmstate.errors import UnknownOptionError
from lstmstate.exports.targets import BY_KEY
from lstmstate.state.formats.registry import KINDS
from lstmstate.state.layouts import LAYOUTS

I, H = 3, 4  # noqa: E741 - inputs and units
END = "/.ATTRIBUTES/VARIABLE_VALUE"
WORDS = (
    "hard_sigmoid in Keras up to 2.2 and tf.keras of TensorFlow 1.x, sigmoid in Keras 2.3 and "
    "tf.keras of TensorFlow 2"
)
UNRECORDED = "the files do not record its recurrent_activation"


def keras(scope: str, end: str = "", inputs: int = I) -> dict[str, Array]:
    """Return the variables of a Keras LSTM."""
    leaves = {"kernel": (inputs, 4 * H), "recurrent_kernel": (H, 4 * H), "bias": (4 * H,)}
    return {
        f"{scope}/{leaf}{end}": 2 * numbers(*shape, seed=seed)
        for seed, (leaf, shape) in enumerate(leaves.items())
    }


@pytest.fixture
def lstm(tmp_path: Path) -> str:
    """A Keras LSTM without a graph."""
    return checkpoint(tmp_path / "x.ckpt", keras("lstm_1"))


@pytest.fixture
def x(tmp_path: Path) -> Path:
    return saved(tmp_path / "x.npy", numbers(2, 5, I, seed=9))


def sigmoid(z: Array) -> Array:
    return 1 / (1 + np.exp(-z))


def hard_sigmoid(z: Array) -> Array:
    return np.clip(0.2 * z + 0.5, 0, 1)


def plain_outputs(squash: Any, rows: Array) -> Array:
    """Return the outputs of the LSTM of Keras with these variables, in float64."""
    kernel, recurrent, bias = (v.astype("f8") for v in keras("lstm_1").values())
    c = m = np.zeros((len(rows), H))
    outputs = []
    for row in rows.swapaxes(0, 1).astype("f8"):
        i, f, j, o = np.split(row @ kernel + m @ recurrent + bias, 4, 1)
        c = squash(f) * c + squash(i) * np.tanh(j)
        m = squash(o) * np.tanh(c)
        outputs.append(m)
    return np.stack(outputs, 1)


# ---- no single default


def test_an_option_without_a_single_default_is_refused_in_one_line(
    shell: Shell, lstm: str, x: Path
) -> None:
    for flags in ([], ["--activation", "tanh"], ["--strict"], ["-q"]):
        done = shell("run", lstm, x, *flags, code=3)
        assert done.out == ""
        assert error(done) == (
            f"{lstm}: lstm_1: {UNRECORDED} ({WORDS}); "
            "give --recurrent-activation, or --assume-defaults"
        )


@pytest.mark.parametrize(("name", "squash"), [("sigmoid", sigmoid), ("hard_sigmoid", hard_sigmoid)])
def test_it_runs_with_the_value_the_user_passes(
    name: str, squash: Any, shell: Shell, lstm: str, x: Path
) -> None:
    target = x.with_name("y.npz")
    done = shell("run", lstm, x, "--recurrent-activation", name, "-o", target, code=0)
    assert "recurrent_activation" not in done.err
    found = np.load(target)["outputs"]
    assert np.abs(found - plain_outputs(squash, np.load(x))).max() <= 1e-6


def test_a_default_that_is_accepted_is_named_in_a_note(shell: Shell, lstm: str, x: Path) -> None:
    target = x.with_name("y.npz")
    done = shell("run", lstm, x, "--assume-defaults", "-o", target, code=0)
    assert f"lstm_1: {UNRECORDED}, and hard_sigmoid is assumed ({WORDS})" in notes(done)
    found = np.load(target)["outputs"]
    assert np.abs(found - plain_outputs(hard_sigmoid, np.load(x))).max() <= 1e-6
    (cell,) = shell.json("run", lstm, x, "--assume-defaults")["cells"]
    assert cell["recurrent_activation"] == {"value": "hard_sigmoid", "source": "default"}
    assert "gates hard_sigmoid*" in shell("run", lstm, x, "--assume-defaults").out


@pytest.mark.parametrize(
    ("scope", "end", "value"),
    [
        ("lstm", "", "hard_sigmoid"),
        ("lstm/lstm_cell", "", "sigmoid"),  # scopes of TensorFlow 2
        ("layer_with_weights-0/cell", END, "sigmoid"),  # or save_format="tf" of 1.15
    ],
)
def test_the_default_belongs_to_the_release_that_the_names_show(
    scope: str, end: str, value: str, shell: Shell, x: Path
) -> None:
    path = checkpoint(x.with_name("y.ckpt"), keras(scope, end))
    assert shell("run", path, x).code == 3
    done = shell("run", path, x, "--assume-defaults")
    assert any(f"and {value} is assumed" in note for note in notes(done))


def test_peepholes_of_keras_have_no_single_default_either(shell: Shell, x: Path) -> None:
    """tfa.rnn.PeepholeLSTMCell has the variables of tf.keras.experimental's, and sigmoid gates."""
    gates = ("input", "forget", "output")
    diagonals = {f"rnn/{gate}_gate_peephole_weights": numbers(H) for gate in gates}
    path = checkpoint(x.with_name("y.ckpt"), keras("rnn") | diagonals)
    done = shell("run", path, x)
    words = "hard_sigmoid in tf.keras.experimental, sigmoid in TensorFlow Addons"
    assert (done.code, f"rnn: {UNRECORDED} ({words}); give" in error(done)) == (3, True)


def test_one_flag_applies_to_all_cells_of_a_stack(shell: Shell, x: Path) -> None:
    scopes = [f"rnn/cell/cells/{number}" for number in range(2)]
    values = keras(scopes[0]) | keras(scopes[1], inputs=H)
    path = checkpoint(x.with_name("y.ckpt"), values)
    assert error(shell("run", path, x, code=3)).startswith(f"{path}: {scopes[0]}: {UNRECORDED}")
    assert shell("run", path, x, "--recurrent-activation", "sigmoid").code == 0


@pytest.mark.parametrize("command", ["run", "verify"])
def test_accepting_and_forbidding_defaults_together_is_a_usage_error(
    command: str, shell: Shell, lstm: str, x: Path
) -> None:
    done = shell(command, lstm, x, "--strict", "--assume-defaults", code=2)
    assert done.out == ""
    assert "pass --strict or --assume-defaults, not both" in done.err


@pytest.mark.parametrize("with_input", [True, False])
def test_verify_refuses_it_too(with_input: bool, shell: Shell, lstm: str, x: Path) -> None:
    done = shell("verify", lstm, *([x] if with_input else []), code=3)
    assert done.out == ""
    assert f"lstm_1: {UNRECORDED}" in error(done)
    assert error(done).endswith("give --recurrent-activation, or --assume-defaults")


def test_verify_takes_a_default_that_is_accepted(shell: Shell, lstm: str) -> None:
    pytest.importorskip("tensorflow")
    done = shell("verify", lstm, "--assume-defaults", code=0)
    assert any("and hard_sigmoid is assumed" in note for note in notes(done))


# ---- the same in Python


def test_python_errors_name_parameters(lstm: str, x: Path) -> None:
    network = open_checkpoint(lstm).network()
    with pytest.raises(UnknownOptionError) as caught:
        network.run(np.load(x))
    assert str(caught.value) == (
        f"{lstm}: lstm_1: {UNRECORDED} ({WORDS}); give "
        "`recurrent_activation=...`, or `assume_defaults=True`"
    )
    with pytest.warns(UserWarning, match="and hard_sigmoid is assumed"):
        outputs, _ = network.run(np.load(x), activation="tanh", assume_defaults=True)
    assert np.abs(outputs - plain_outputs(hard_sigmoid, np.load(x))).max() <= 1e-6
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network.run(np.load(x), recurrent_activation="sigmoid", activation="tanh")


# ---- a single default


def test_a_single_default_is_used_with_a_note(shell: Shell, x: Path) -> None:
    path = checkpoint(x.with_name("y.ckpt"), lstm_cell("rnn/basic_lstm_cell"))
    for flags in ([], ["--assume-defaults"]):
        done = shell("run", path, x, *flags, code=0)
        assert "defaults are used: forget_bias 1, activation tanh" in done.err
    assert shell("run", path, x, "--strict").code == 3


@pytest.mark.parametrize(("inputs", "is_noted"), [(3, False), (4, True)])
def test_without_a_graph_a_residual_around_a_cell_of_equal_widths_is_unknown(
    shell: Shell, tmp_path: Path, inputs: int, is_noted: bool
) -> None:
    """A ResidualWrapper makes no variable and adds x to m, which needs equal widths."""
    path = checkpoint(tmp_path / "z.ckpt", lstm_cell("rnn/basic_lstm_cell", 4, inputs))
    file = saved(tmp_path / "z.npy", numbers(2, 5, inputs))
    done = shell("run", path, file, code=0)
    assert ("a residual goes around it" in done.err) == is_noted
    flags = "--forget-bias 1 --cell-clip none --activation tanh".split()
    strict = shell("run", path, file, *flags, "--strict", code=3 if is_noted else 0)
    assert strict.err.endswith("none is assumed; leave --strict out\n" if is_noted else strict.err)


def test_without_a_graph_the_layers_between_cells_are_unknown(shell: Shell, tmp_path: Path) -> None:
    """A wrapper that applies an activation makes no variable, for any widths."""
    scopes = [f"rnn/multi_rnn_cell/cell_{at}/basic_lstm_cell" for at in range(2)]
    cells = lstm_cell(scopes[0], 4, 3) | lstm_cell(scopes[1], 2, 4)
    path = checkpoint(tmp_path / "z.ckpt", cells)
    done = shell("run", path, saved(tmp_path / "z.npy", numbers(2, 5, 3)))
    note = "the files do not record whether an activation goes around it, and none is assumed"
    assert f"{scopes[0]}, {scopes[1]}: {note}" in done.err


# ---- graph features without an option


def test_an_option_read_from_the_graph_is_never_a_default(shell: Shell, tmp_path: Path) -> None:
    """The graph's own step is run; as a class it is run only if the user passes the option."""

    def build(tf: TensorFlow) -> None:
        squash = lambda z: tf.sigmoid(2.0 * z)  # noqa: E731
        layer = tf.keras.layers.LSTM(H, recurrent_activation=squash, return_sequences=True)
        layer(tf.placeholder(tf.float32, [2, STEPS, INPUTS]))

    prefix = writers.save(tmp_path, build)
    path = saved(tmp_path / "x.npy", numbers(2, STEPS, INPUTS))
    assert "the graph's own step is run" in shell("run", prefix, path).err
    for flags in ([], ["--assume-defaults"]):
        done = shell("run", prefix, path, "--engine", "numpy", *flags, code=3)
        assert UNRECORDED in done.err
        assert error(done).endswith("; give --recurrent-activation")


# ---- options of all commands: their help texts, and names that match the tables


CONTEXT = click.Context(cli)
COMMANDS = {name: cli.get_command(CONTEXT, name) for name in cli.list_commands(CONTEXT)}


def test_names_in_the_help_match_their_tables() -> None:
    assert set(options.ENGINE_NAMES) == {"auto", "graph", *engines.ENGINES}
    assert tuple(options.ACTIVATION_NAMES) == ACTIVATIONS == tuple(FUNCTIONS)
    assert tuple(options.LAYOUT_NAMES) == tuple(LAYOUTS)
    assert tuple(BY_KEY) == options.TARGET_NAMES
    assert tuple(options.KIND_NAMES) == tuple(kind.key for kind in KINDS if kind.writer)
    (dtype,) = (one for one in COMMANDS["convert"].params if one.name == "dtype")
    assert tuple(dtype.to_info_dict()["type"]["choices"]) == NUMPY_FLOATS


@pytest.mark.parametrize("name", ["run", "verify"])
def test_every_option_of_a_cell_has_a_flag(name: str) -> None:
    command = COMMANDS[name]
    assert command is not None
    assert set(RUN_OPTIONS) <= {parameter.name for parameter in command.params}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_help_and_every_command_an_example(shell: Shell, name: str) -> None:
    command = COMMANDS[name]
    assert command is not None
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, option.name
            assert option.help.endswith((".", "]")), option.help
    done = shell(name, "--help", code=0)
    assert done.err == ""
    assert f"\n  lstmstate {name} " in done.out.split("Examples:")[1].replace("\n    ", "\n  ")
    assert max(map(len, done.out.splitlines())) <= 100


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("flag", ["--nope", "--engine=jax"])
def test_a_mistyped_option_is_reported(shell: Shell, name: str, flag: str) -> None:
    done = shell(name, flag, code=2)
    assert done.out == ""
    assert error(done).endswith(f"; see lstmstate {name} --help")


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["--forget-bias", "x"], "'x' is not a number"),
        (["--forget-bias", "nan"], "'nan' is not a number"),
        (["--cell-clip", "-1"], "'-1' is not a bound: pass a number, or none"),
        (["--proj-clip", "inf"], "'inf' is not a bound"),
        (["--activation", "gelu"], "it cannot be 'gelu'; did you mean elu or selu or relu?"),
        (
            ["--engine", "torch"],
            "it cannot be 'torch'; pass one of auto, numpy, graph, tensorflow",
        ),
        (["--cell", "a", "--stack", "b"], "pass --cell or --stack, not both"),
        (["--state", "a", "--zero-state"], "pass --state or --zero-state, not both"),
        (["-o", "y.npz", "--out-dir", "y"], "-o is for one input"),
        (["b.npy", "-o", "y.npz"], "-o is for one input; pass --out-dir for several"),
        (["-o", "-", "--json"], "all use stdout"),
        (["-o", "-", "--state-out", "-"], "all use stdout"),
        (["--state-out", "-", "--json"], "all use stdout"),
        (["-", "-"], "stdin can be read once"),
        (["--lengths", "-", "--state", "-"], "stdin can be read once"),
        (["b.npy", "--state-out", "s.npz"], "--state-out with several inputs needs --carry-state"),
        (["--trace"], "pass -o or --out-dir"),
        (["--all-states"], "pass -o or --out-dir"),
        (["--compress"], "pass -o or --out-dir"),
        (["--format", "h5"], "pass -o or --out-dir"),
        (["--from", "flat"], "--from is the layout of --state"),
        (["--state-layout", "flat"], "--state-layout is the layout of --state-out"),
    ],
)
def test_conflicting_flags_of_run(shell: Shell, flags: list[str], problem: str) -> None:
    done = shell("run", "model.ckpt", "a.npy", *flags, code=2)
    assert done.out == ""
    assert problem in done.err


@pytest.mark.parametrize(
    ("name", "row", "shown", "unread", "settled"),
    [
        ("forget_bias", "default", "graph", False, "graph"),
        ("forget_bias", "default", None, False, "default"),
        ("forget_bias", "default", "unknown", False, "unknown"),  # fed: no default replaces it
        ("forget_bias", "family", "graph", True, "unknown"),
        ("cell_clip", "family", "graph", False, "graph"),
        ("cell_clip", "family", "unknown", False, "family"),
        ("cell_clip", "family", None, True, "unknown"),
        ("recurrent_activation", "family", "graph", False, "graph"),
        ("recurrent_activation", "family", "unknown", False, "family"),
        ("recurrent_activation", "unknown", "graph", False, "graph"),
    ],
)
def test_the_strongest_evidence_settles_an_option(
    name: str, row: Source, shown: Source | None, unread: bool, settled: Source
) -> None:
    values: dict[Source, Option] = {
        source: Option(None if source == "unknown" else value, source)
        for source, value in (("default", 1.0), ("family", 2.0), ("graph", 3.0), ("unknown", None))
    }
    family = Family("", (), {}, options={name: values[row]})
    graph = {} if shown is None else {name: values[shown]}
    found = options_from_files(family, graph, [name] if unread else [])
    assert found[name] == values[settled]
