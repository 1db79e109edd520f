"""States of a checkpoint: choice of one, names of converted variables, output of inspect."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import Shell
from conftest import SAMPLES
from test_bundle_writer import assert_restored_alike
from test_rewritten_checkpoints import (
    STACK,
    Named,
    cell_values,
    converted,
    cut,
    cut_of,
    listed,
    refused,
    value,
)
from test_values_against_tensorflow import BATCH, assert_equal, noise, save_v2
from writers import Build, Shape, TensorFlow, dynamic, inputs, save

from lstmstate import load_state, open_checkpoint
from lstmstate.cli import execute as run

Captured = pytest.CaptureFixture[str]


# ---- choice of a state


def encoder_and_decoder(tf: TensorFlow) -> None:
    """Build two networks whose flat states are both 8 wide: c 6 and m 2, c 4 and m 4."""
    cells = {"encoder": {"num_units": 6, "num_proj": 2}, "decoder": {"num_units": 4}}
    for scope, options in cells.items():
        with tf.variable_scope(scope):
            initial = tf.random_normal_initializer()
            kept = tf.get_variable("saved_state", [BATCH, 8], trainable=False, initializer=initial)
            cell = tf.nn.rnn_cell.LSTMCell(**options, state_is_tuple=False)
            dynamic(tf, cell, inputs(tf, batch=BATCH), initial_state=kept)


WIDTHS = {"encoder/saved_state": (6, 2), "decoder/saved_state": (4, 4)}


def test_states_of_one_shape_are_refused_with_the_choices(tmp_path: Path, capsys: Captured) -> None:
    old = save(tmp_path, encoder_and_decoder, graph=False)
    message = refused(capsys, old, tmp_path / "new.ckpt", "--to-tuple")
    assert "2 states are saved in it" in message
    for name in WIDTHS:
        assert f"--variable {name}" in message
    message = refused(capsys, old, tmp_path / "new.ckpt", "--to-tuple", "--variable", "saved_state")
    assert "there is no such variable" in message


@pytest.mark.parametrize("chosen", [*([name] for name in WIDTHS), list(WIDTHS), []])
def test_the_chosen_state_is_split_as_the_graph_shows(tmp_path: Path, chosen: list[str]) -> None:
    """By default a new checkpoint has all states, and the graph shows their cells."""
    old = save(tmp_path, encoder_and_decoder)
    flags = [word for name in chosen for word in ("--variable", name)]
    chosen = chosen or list(WIDTHS)
    new = converted(old, tmp_path / "new.ckpt", "--to-tuple", *flags)
    halves = [f"{name}/{half}" for name in chosen for half in "cm"]
    assert listed(new) == (listed(old) - set(chosen)) | set(halves)
    for name in chosen:
        found = [value(new, f"{name}/{half}") for half in "cm"]
        assert_equal(found, cut(value(old, name), [WIDTHS[name]]))
    for name in listed(old) - set(chosen):
        assert_equal([value(new, name)], [value(old, name)])


@pytest.mark.parametrize("name", WIDTHS)
def test_without_a_graph_widths_of_similar_states_must_be_passed(
    tmp_path: Path, capsys: Captured, name: str
) -> None:
    """A wrong split would raise no error."""
    old = save(tmp_path, encoder_and_decoder, graph=False)
    chosen = ["--to-tuple", "--variable", name]
    message = refused(capsys, old, tmp_path / "new.ckpt", *chosen)
    assert "several of the cells" in message and "--units and --proj" in message
    c, m = WIDTHS[name]
    by_units = ["--units", str(c), "--proj", str(m)]
    by_cell = ["--checkpoint", old, "--cell", name.partition("/")[0]]
    for number, flags in enumerate((by_units, by_cell)):
        new = converted(old, tmp_path / f"new_{number}.ckpt", *chosen, *flags)
        found = [value(new, f"{name}/{half}") for half in "cm"]
        assert_equal(found, cut(value(old, name), [(c, m)]))


def test_a_state_of_any_name_can_be_chosen(tmp_path: Path, capsys: Captured) -> None:
    values = cell_values("rnn/lstm_cell", 6, 4) | {"x": noise("x", (BATCH, 10), "f4")}
    old = save_v2(tmp_path / "old", values)
    assert "--variable" in refused(capsys, old, tmp_path / "new.ckpt", "--to-tuple")
    new = converted(old, tmp_path / "new.ckpt", "--to-tuple", "--variable", "x")
    assert_equal([value(new, "x/c"), value(new, "x/m")], cut(values["x"], [(6, 4)]))


def test_a_name_already_in_use_is_refused(tmp_path: Path, capsys: Captured) -> None:
    values = cell_values("rnn/lstm_cell", 4) | {"saved_state": noise("s", (BATCH, 8), "f4")}
    old = save_v2(tmp_path / "old", values | {"saved_state/c": np.int64(3)})
    message = refused(capsys, old, tmp_path / "new.ckpt", "--to-tuple")
    assert "saved_state/c" in message and "a variable has this name already" in message


def layers_of_two_directions(tf: TensorFlow) -> None:
    """Build four networks, each from a c and an m; layer and direction are in their names."""
    x = inputs(tf, batch=BATCH)
    for way in ("forward", "backward"):
        for layer in range(2):
            with tf.variable_scope(f"{way}_{layer}"):
                first = [
                    tf.get_variable(
                        f"{way}_{half}_{layer}",
                        [BATCH, 4],
                        initializer=tf.random_normal_initializer(),
                    )
                    for half in "ch"
                ]
                state = tf.nn.rnn_cell.LSTMStateTuple(*first)
                dynamic(tf, tf.nn.rnn_cell.LSTMCell(4), x, initial_state=state)


def test_states_of_all_cells_round_trip_through_a_new_checkpoint(tmp_path: Path) -> None:
    old = save(tmp_path, layers_of_two_directions)
    flat = converted(old, tmp_path / "flat" / "new.ckpt", "--to-flat")
    states = open_checkpoint(flat).states.values()
    assert sorted((s.layout, s.cell) for s in states) == [
        ("flat", f"{way}_{layer}/rnn/lstm_cell")
        for way in ("backward", "forward")
        for layer in (0, 1)
    ]
    back = converted(flat, tmp_path / "back" / "new.ckpt", "--to-tuple")
    of_cell = {(s.cell, s.layout): s.variable for s in open_checkpoint(back).states.values()}
    for state in open_checkpoint(old).states.values():
        found = of_cell[state.cell, state.layout]
        assert_equal([value(back, found)], [value(old, state.variable)])


def layers_with_a_loop_each(tf: TensorFlow) -> None:
    """Build two directions of two layers; each layer is a separate loop with a residual."""
    x = inputs(tf, 4, batch=BATCH)
    for way in ("forward", "backward"):
        y = x if way == "forward" else tf.reverse(x, [1])
        for layer in range(2):
            with tf.variable_scope(f"{way}_{layer}"):
                initial = tf.random_normal_initializer()
                first = [
                    tf.get_variable(f"{way}_{half}_{layer}", [BATCH, 4], initializer=initial)
                    for half in "ch"
                ]
                state = tf.nn.rnn_cell.LSTMStateTuple(*first)
                made, _ = dynamic(tf, tf.nn.rnn_cell.LSTMCell(4), y, initial_state=state)
                y = made + y


def flats_of_each_layer(tf: TensorFlow) -> None:
    """Build a stack whose state is a tuple of flat states, of unequal widths."""
    make, initial = tf.nn.rnn_cell, tf.random_normal_initializer()
    widths = {"lower": (6, 2), "upper": (3, 3)}
    kept = tuple(
        tf.get_variable(name, [BATCH, c + m], trainable=False, initializer=initial)
        for name, (c, m) in widths.items()
    )
    cells = [
        make.LSTMCell(c, num_proj=m if m < c else None, state_is_tuple=False)
        for c, m in widths.values()
    ]
    dynamic(tf, make.MultiRNNCell(cells), inputs(tf, batch=BATCH), initial_state=kept)


@pytest.mark.parametrize(
    ("build", "names"),
    [
        (
            layers_with_a_loop_each,
            [
                f"{way}_{layer}/{way}_{half}_{layer}"
                for way in ("forward", "backward")
                for layer in (0, 1)
                for half in "ch"
            ],
        ),
        (flats_of_each_layer, ["lower", "upper"]),
    ],
)
def test_the_states_of_a_network_are_one_state_in_its_order(
    tmp_path: Path, build: Build, names: list[str]
) -> None:
    old = save(tmp_path, build)
    target = tmp_path / "state.npy"
    assert run(["convert", old, "--to-flat", "-o", str(target)]) == 0
    assert_equal([np.load(target)], [np.concatenate([value(old, name) for name in names], 1)])
    cells = load_state(old).cells
    ckpt = open_checkpoint(old)
    assert [cell.cell for cell in cells] == [cell.name for cell in ckpt.network().route.cells]


def test_two_networks_have_a_state_each(tmp_path: Path, capsys: Captured) -> None:
    old = save(tmp_path, layers_of_two_directions)
    message = refused(capsys, old, tmp_path / "state.npz", "--to-tuple")
    assert "4 states are saved in it" in message
    offered = [words.strip(", \n") for words in message.split("--variable ")[1:]]
    assert sorted(offered) == [*open_checkpoint(old).states]


# ---- cells that names do not identify


def alike(tf: TensorFlow, layers: int = 1) -> None:
    """Build two networks of the same widths, each from its own flat state."""
    make = tf.nn.rnn_cell
    for scope in ("encoder", "decoder"):
        with tf.variable_scope(scope):
            initial = tf.random_normal_initializer()
            shape = [BATCH, 8 * layers]
            kept = tf.get_variable("saved_state", shape, trainable=False, initializer=initial)
            cells = [make.LSTMCell(4, state_is_tuple=False) for _ in range(layers)]
            cell = cells[0] if layers == 1 else make.MultiRNNCell(cells, state_is_tuple=False)
            dynamic(tf, cell, inputs(tf, batch=BATCH), initial_state=kept)


def flat_of_each_layer(tf: TensorFlow) -> None:
    """Build a stack whose state is a tuple of flat states."""
    make, initial = tf.nn.rnn_cell, tf.random_normal_initializer()
    kept = tuple(
        tf.get_variable(f"layer_{k}/state", [BATCH, 8], trainable=False, initializer=initial)
        for k in range(2)
    )
    cells = [make.LSTMCell(4, state_is_tuple=False) for _ in kept]
    dynamic(tf, make.MultiRNNCell(cells), inputs(tf, batch=BATCH), initial_state=kept)


@pytest.mark.parametrize(
    ("build", "chosen"),
    [
        (alike, ["encoder/saved_state", "decoder/saved_state"]),
        (flat_of_each_layer, ["layer_0/state", "layer_1/state"]),
    ],
)
def test_states_of_similar_cells_keep_their_names(
    tmp_path: Path, capsys: Captured, build: Build, chosen: list[str]
) -> None:
    """Only the graph showed their cells; each keeps the scope of its c and m."""
    old = save(tmp_path, build)
    flags = [word for name in chosen for word in ("--variable", name)]
    new = converted(old, tmp_path / "new.ckpt", "--to-tuple", *flags)
    for name in chosen:
        found = [value(new, f"{name}/{half}") for half in "cm"]
        assert_equal(found, cut(value(old, name), [(4, 4)]))
    message = refused(capsys, new, tmp_path / "back.ckpt", "--to-flat")
    assert all(f"--variable {name}" in message for name in chosen)
    back = converted(new, tmp_path / "back.ckpt", "--to-flat", *flags)
    assert_restored_alike(back, old)


def stacks_alike(tf: TensorFlow) -> None:
    """Build two stacks of the same widths."""
    alike(tf, layers=2)


def test_the_graph_shows_which_stack_a_flat_state_belongs_to(tmp_path: Path) -> None:
    old, chosen = save(tmp_path, stacks_alike), "decoder/saved_state"
    assert {state.variable: state.stack for state in open_checkpoint(old).states.values()} == {
        f"{scope}/saved_state": f"{scope}/{STACK}" for scope in ("encoder", "decoder")
    }
    new = converted(old, tmp_path / "new.ckpt", "--to-tuple", "--variable", chosen)
    halves = [
        f"{chosen}/decoder/{STACK}/cell_{k}/lstm_cell/{half}" for k in range(2) for half in "cm"
    ]
    assert listed(new) == (listed(old) - {chosen}) | set(halves)
    assert_equal([value(new, name) for name in halves], cut(value(old, chosen), [(4, 4)] * 2))
    back = converted(new, tmp_path / "back.ckpt", "--to-flat", "--variable", chosen)
    assert_restored_alike(back, old)


@pytest.mark.parametrize(
    "others",
    [
        {"rnn/gru_cell/gates/kernel": (7, 8), "rnn/gru_cell/gates/bias": (8,)},
        {"kernel": (7, 16), "bias": (16,), "out/w": (4, 2)},  # a cell in no scope at all
    ],
)
@pytest.mark.parametrize("state", [["saved_state"], ["saved_state/c", "saved_state/m"]])
def test_without_known_cells_nothing_is_lost(
    tmp_path: Path, others: dict[str, Shape], state: list[str]
) -> None:
    """Such a checkpoint is rewritten with all its content."""
    values = {name: noise(name, shape, "f4") for name, shape in others.items()}
    values |= {name: noise(name, (BATCH, 8 // len(state)), "f4") for name in state}
    old = save_v2(tmp_path / "old", values)
    target = tmp_path / "new.ckpt"
    to = "--to-tuple" if len(state) == 1 else "--to-flat"
    assert run(["convert", old, to, "-o", str(target)]) == 0
    assert listed(str(target)) >= set(others)
    for name in others:
        assert_equal([value(str(target), name)], [values[name]])


# ---- halves named one by one


def pair_of_any_name(folder: Path, width: int = 4, units: int = 4) -> tuple[str, Named]:
    """Write a cell and two variables with meaningless names."""
    values = cell_values("rnn/lstm_cell", units)
    values |= {name: noise(name, (BATCH, width), "f4") for name in ("x/one", "x/two")}
    return save_v2(folder / "old", values), values


def test_any_two_variables_can_be_c_and_m(tmp_path: Path) -> None:
    old, values = pair_of_any_name(tmp_path)
    flags = ["--variable", "x/two", "--variable", "x/one"]
    new = converted(old, tmp_path / "new.ckpt", "--to-flat", *flags)
    assert listed(new) == (set(values) - {"x/one", "x/two"}) | {"x/state"}
    flat = np.concatenate([values["x/two"], values["x/one"]], axis=1)
    assert_equal([value(new, "x/state")], [flat])


def test_four_variables_are_c_and_m_of_two_cells(tmp_path: Path) -> None:
    scopes = [f"{STACK}/cell_{k}/lstm_cell" for k in range(2)]
    values = {key: one for scope in scopes for key, one in cell_values(scope, 3).items()}
    names = ["a", "b", "d", "e"]
    values |= {name: noise(name, (BATCH, 3), "f4") for name in names}
    old = save_v2(tmp_path / "old", values)
    flags = [word for name in names for word in ("--variable", name)]
    new = converted(old, tmp_path / "new.ckpt", "--to-flat", *flags)
    flat = np.concatenate([values[name] for name in names], axis=1)
    assert_equal([value(new, "state")], [flat])


def test_two_named_flat_states_are_two_states(tmp_path: Path) -> None:
    old, values = pair_of_any_name(tmp_path, width=8)
    flags = ["--variable", "x/one", "--variable", "x/two"]
    new = converted(old, tmp_path / "new.ckpt", "--to-tuple", *flags)
    for name in ("x/one", "x/two"):
        found = [value(new, f"{name}/{half}") for half in "cm"]
        assert_equal(found, cut(values[name], [(4, 4)]))


def test_two_states_or_two_halves_are_refused(tmp_path: Path, capsys: Captured) -> None:
    values = cell_values("a/lstm_cell", 4) | cell_values("b/lstm_cell", 8)
    values |= {name: noise(name, (BATCH, 8), "f4") for name in ("one", "two")}
    old = save_v2(tmp_path / "old", values)
    flags = ["--to-tuple", "--variable", "one", "--variable", "two"]
    message = refused(capsys, old, tmp_path / "new.ckpt", *flags)
    assert "the variables can be c and m, or whole states" in message
    new = converted(old, tmp_path / "new.ckpt", *flags, "--from", "tuple")
    assert {"one", "two"} <= listed(new)


def test_known_halves_are_in_order(tmp_path: Path, capsys: Captured) -> None:
    old = str(SAMPLES / "peephole_tuple/model.ckpt")
    flags = ["--variable", "c_state", "--variable", "m_state"]
    new = converted(old, tmp_path / "new.ckpt", "--to-flat", *flags)
    theirs = str(SAMPLES / "peephole_flat/model.ckpt")
    assert_equal([value(new, "state")], [value(theirs, "saved_state")])
    swapped = ["--variable", "m_state", "--variable", "c_state"]
    message = refused(capsys, old, tmp_path / "other.ckpt", "--to-flat", *swapped)
    assert "m_state: expected c, got m" in message


# ---- new names


@pytest.mark.parametrize("sample", ["v1_format", "peephole_tuple", "partitioned"])
def test_a_state_that_is_already_a_tuple_keeps_its_names(
    tmp_path: Path, capsys: Captured, sample: str
) -> None:
    """Code that restores the checkpoint needs them."""
    new = converted(SAMPLES / sample, tmp_path / "new.ckpt", "--to-tuple")
    assert "other names" not in capsys.readouterr().err
    assert {"c_state", "m_state"} <= listed(new)
    prefix = open_checkpoint(SAMPLES / sample).prefix
    assert listed(new) == set(open_checkpoint(prefix).variables)


def test_new_names_are_reported(tmp_path: Path, capsys: Captured) -> None:
    target = tmp_path / "new.ckpt"
    command = ["convert", str(SAMPLES / "peephole_flat"), "--to-tuple", "-o", str(target)]
    assert run([*command, "--json"]) == 0
    out, err = capsys.readouterr()
    message = "the state has other names now: saved_state/c, saved_state/m (was saved_state)"
    assert message in err
    (state,) = json.loads(out)["states"]
    assert state["variables"] == ["saved_state/c", "saved_state/m"]
    assert message in state["notes"]


def test_a_tuple_in_two_variables_becomes_a_flat_state_of_the_same_cell(tmp_path: Path) -> None:
    new = converted(SAMPLES / "peephole_tuple", tmp_path / "new.ckpt", "--to-flat")
    theirs = str(SAMPLES / "peephole_flat/model.ckpt")
    assert_equal([value(new, "state")], [value(theirs, "saved_state")])
    assert listed(new) - {"state"} == listed(theirs) - {"saved_state"}


def test_a_checkpoint_file_that_lists_other_checkpoints_is_not_changed(tmp_path: Path) -> None:
    shutil.copytree(SAMPLES / "peephole_flat", tmp_path / "run")
    before = (tmp_path / "run/checkpoint").read_bytes()
    new = converted(tmp_path / "run", tmp_path / "run/new.ckpt", "--to-tuple")
    assert (tmp_path / "run/checkpoint").read_bytes() == before
    assert value(new, "saved_state/c").shape == (4, 8)


# ---- reports on a converted checkpoint


@pytest.mark.parametrize("count", [2, 12])
def test_inspect_names_the_cells_of_a_converted_state(
    tmp_path: Path, shell: Shell, count: int
) -> None:
    """Cells of equal widths; the tenth sorts before the second."""
    scopes = [f"{STACK}/cell_{k}/lstm_cell" for k in range(count)]
    values = {key: one for scope in scopes for key, one in cell_values(scope, 3).items()}
    values["saved_state"] = noise("s", (BATCH, 6 * count), "f4")
    old = save_v2(tmp_path / "old", values)
    new = converted(old, tmp_path / "new.ckpt", "--to-tuple")
    found = shell.json("inspect", new)
    listing = {state["variable"]: (state["layout"], state["cell"]) for state in found["states"]}
    assert listing == {
        f"saved_state/{scope}/{half}": (half, scope) for scope in scopes for half in "cm"
    }
    roles = {one["name"]: (one["role"], one["cell"]) for one in found["variables"]}
    assert {name: roles[name] for name in listing} == {
        name: ("state", cell) for name, (_, cell) in listing.items()
    }
    for scope, c, m in zip(scopes, *[iter(cut_of(values, [(3, 3)] * count))] * 2, strict=True):
        assert_equal([value(new, f"saved_state/{scope}/{half}") for half in "cm"], [c, m])
    assert_restored_alike(converted(new, tmp_path / "back.ckpt", "--to-flat"), old)


def test_inspect_names_the_cell_of_a_state_with_a_projection(tmp_path: Path, shell: Shell) -> None:
    new = converted(SAMPLES / "peephole_flat", tmp_path / "new.ckpt", "--to-tuple")
    states = shell.json("inspect", new)["states"]
    assert {state["variable"]: (state["layout"], state["cell"]) for state in states} == {
        "saved_state/c": ("c", "rnn/lstm_cell"),
        "saved_state/m": ("m", "rnn/lstm_cell"),
    }
    assert run(["convert", new, "--to-tuple", "-o", str(tmp_path / "same.ckpt")]) == 0
    assert_restored_alike(str(tmp_path / "same.ckpt"), new)
