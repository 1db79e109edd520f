"""States of stateful Keras layers in every kind of file: h is m, and comes first."""

from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Shell, error
from conftest import SHARED
from writers import as_in_1_x, new_session, tensorflow

from lstmstate import load_state, open_checkpoint

BATCH, STEPS, INPUTS, UNITS = 4, 3, 2, 5

Array = Any


@cache
def data() -> Array:
    return np.random.default_rng(0).uniform(-1, 1, (BATCH, STEPS, INPUTS)).astype("f4")


def model_of(keras: Any, layers: int) -> Any:
    """Return a model of stateful layers of Keras after some steps."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lstm = [
            keras.layers.LSTM(UNITS, stateful=True, return_sequences=True, name=f"mem_{k}")
            for k in range(layers)
        ]
        x = keras.layers.Input(batch_shape=(BATCH, STEPS, INPUTS))
        y = x
        for layer in lstm:
            y = layer(y)
        model = keras.Model(x, y)
        model(data())
    return model


def halves(model: Any) -> list[tuple[Array, Array]]:
    """Return c and m of each layer."""
    stateful = [layer for layer in model.layers if getattr(layer, "stateful", False)]
    return [(layer.states[1].numpy(), layer.states[0].numpy()) for layer in stateful]


def keras_2() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("tf_keras")


def keras_3() -> Any:
    return pytest.importorskip("keras", minversion="3")


def saved_model(folder: Path, layers: int) -> tuple[str, Any]:
    model = model_of(keras_2(), layers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save(folder / "model", save_format="tf", include_optimizer=False)
    return str(folder / "model"), halves(model)


def checkpoint_of_3(folder: Path, layers: int) -> tuple[str, Any]:
    import tensorflow as tf

    model = model_of(keras_3(), layers)
    return tf.train.Checkpoint(model=model).save(str(folder / "ckpt")), halves(model)


def export_of_3(folder: Path, layers: int) -> tuple[str, Any]:
    model = model_of(keras_3(), layers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.export(str(folder / "model"), verbose=False)
    return str(folder / "model"), halves(model)


def saver(folder: Path, layers: int) -> tuple[str, Any]:
    """Save the variables of a graph, like programs of 1.x."""
    tf, prefix = tensorflow(), str(folder / "model.ckpt")
    keras = keras_2()
    with as_in_1_x(tf, functional=True):
        x = tf.placeholder(tf.float32, [BATCH, STEPS, INPUTS])
        y, made = x, []
        for k in range(layers):
            made.append(
                keras.layers.LSTM(UNITS, stateful=True, return_sequences=True, name=f"m{k}")
            )
            y = made[-1](y)
        updates = [update for layer in made for update in layer.updates]
        kept = tf.train.Saver(tf.global_variables())
        with new_session(tf) as session:
            session.run(tf.global_variables_initializer())
            session.run([y, updates], {x: data()})
            found = session.run([(layer.states[1], layer.states[0]) for layer in made])
            kept.save(session, prefix)
    return prefix, found


FILES = [saved_model, checkpoint_of_3, export_of_3, saver]


@pytest.mark.parametrize(
    ("write", "layers"), [*[(write, 2) for write in FILES], (checkpoint_of_3, 1), (saver, 1)]
)
def test_c_and_m_are_not_swapped(tmp_path: Path, write: Any, layers: int) -> None:
    path, expected = write(tmp_path, layers)
    ckpt = open_checkpoint(path)
    found = {(s.cell, s.layout): ckpt.variables[s.variable].read() for s in ckpt.states.values()}
    assert len(found) == len(ckpt.states) == 2 * layers
    assert len(ckpt.cells) == layers
    for cell, (c, m) in zip(ckpt.cells, expected, strict=True):
        assert not np.array_equal(c, m)
        assert np.array_equal(found[cell, "c"], c)
        assert np.array_equal(found[cell, "m"], m)
    if layers == 1:
        assert np.array_equal(load_state(path).c, expected[0][0])
    if ckpt.model is not None:  # both layers, one after the other, in functions or not
        loaded = ckpt.network().load()
        assert loaded.confirmed
        assert [cell.name for cell in loaded.network.cells] == list(ckpt.cells)


def test_the_names_that_inspect_prints_select_the_halves(tmp_path: Path, shell: Shell) -> None:
    path, expected = checkpoint_of_3(tmp_path, 2)
    printed = shell("inspect", path, "--variables").out
    names = [word for word in printed.split() if word[-9:-1] == "/states/"]
    assert [name[-2:] for name in names] == ["/0", "/1"] * 2
    h, c = names[2:]
    target = tmp_path / "y.npz"
    shell("convert", path, "--to-tuple", "--variable", c, "--variable", h, "-o", target, code=0)
    found = np.load(target)
    assert np.array_equal(found["c"], expected[1][0]) and np.array_equal(found["m"], expected[1][1])
    swapped = ["--variable", h, "--variable", c]
    done = shell("convert", path, "--to-tuple", *swapped, "-o", target, "--force", code=3)
    assert "expected c, got m" in error(done)
    done = shell("concat", f"{path}:{h}", f"{path}:{c}", "-o", tmp_path / "flat.npy", code=3)
    assert "expected c, got m" in error(done)
    shell("concat", f"{path}:{c}", f"{path}:{h}", "-o", tmp_path / "flat.npy", code=0)
    assert np.array_equal(np.load(tmp_path / "flat.npy"), np.concatenate(expected[1], 1))


@pytest.mark.parametrize("write", [saved_model, export_of_3, saver])
def test_the_states_of_all_layers_are_one_state(tmp_path: Path, shell: Shell, write: Any) -> None:
    """The graph shows their order."""
    path, expected = write(tmp_path, 2)
    target = tmp_path / "y.npz"
    assert shell("convert", path, "--to-tuple", "-o", target).code == 0
    found, cells = load_state(target), list(open_checkpoint(path).cells)
    assert [cell.cell for cell in found.cells] == cells
    for cell, (c, m) in zip(found.cells, expected, strict=True):
        assert np.array_equal(cell.c, c) and np.array_equal(cell.m, m)
    files = [tmp_path / f"{half}{k}.npy" for k in (0, 1) for half in "cm"]
    outputs = [word for k in (0, 1) for word in ("-o", *files[2 * k : 2 * k + 2])]
    assert shell("split", path, *outputs).code == 0
    assert shell("concat", *files, "-o", tmp_path / "flat.npy").code == 0
    flat = np.concatenate([half for pair in expected for half in pair], 1)
    assert np.array_equal(np.load(tmp_path / "flat.npy"), flat)


def test_layers_of_unknown_order_are_named(tmp_path: Path, shell: Shell) -> None:
    """The names in the error are those that inspect prints, and select the states."""
    path, expected = checkpoint_of_3(tmp_path, 2)
    target = tmp_path / "y.npz"
    done = shell("convert", path, "--to-tuple", "-o", target, code=3)
    choices = [choice.split() for choice in error(done).partition("choose: ")[2].split(", ")]
    printed = shell("inspect", path).out.split()
    assert len(choices) == 2
    for flags, (c, m) in zip(choices, expected, strict=True):
        assert flags[::2] == ["--variable"] * 2 and {*flags[1::2]} <= {*printed}
        assert shell("convert", path, "--to-tuple", *flags, "--force", "-o", target).code == 0
        found = load_state(target)
        assert np.array_equal(found.c, c) and np.array_equal(found.m, m)
        assert np.array_equal(load_state(path, variable=flags[1::2]).c, c)
        pair = ("-o", tmp_path / "c.npy", tmp_path / "m.npy")
        assert shell("split", path, *flags, "--force", *pair).code == 0
        assert np.array_equal(np.load(pair[1]), c) and np.array_equal(np.load(pair[2]), m)
    flags = [word for choice in choices for word in choice]
    assert shell("convert", path, "--to-flat", *flags, "-o", tmp_path / "flat.npy").code == 0
    flat = np.concatenate([half for pair in expected for half in pair], 1)
    assert np.array_equal(np.load(tmp_path / "flat.npy"), flat)
    shell("diff", path + ":" + choices[0][1], path + ":" + choices[1][1], code=1)


def test_halves_of_two_cells_are_not_a_state(tmp_path: Path, shell: Shell) -> None:
    path, _ = saver(tmp_path, 2)
    flags = ("--variable", "m0/Variable_1", "--variable", "m1/Variable")
    done = shell("convert", path, "--to-tuple", *flags, "-o", tmp_path / "y.npz", code=3)
    assert "expected c and m of one cell, got c of m0/lstm_cell and m of m1/lstm_cell" in error(
        done
    )


def test_a_name_shared_by_two_variables_is_refused(tmp_path: Path, shell: Shell) -> None:
    path, _ = checkpoint_of_3(tmp_path, 1)
    (full,) = {
        one.full_name
        for one in open_checkpoint(path).variables.values()
        if one.full_name and "rnn_state" in one.full_name
    }
    done = shell(
        "convert", path, "--to-tuple", "--variable", full, "-o", tmp_path / "y.npz", code=3
    )
    assert "several variables have this name; they are: " in error(done)
    assert "states/0" in done.err and "states/1" in done.err


@pytest.mark.skipif(not SHARED.is_dir(), reason="the cases are not available")
def test_a_stateful_layer_of_1_15() -> None:
    folder = SHARED / "oddgraphs/keras_stateful"
    expected = np.load(folder / "state.npz")
    c, m = load_state(folder / "model.ckpt")
    assert np.array_equal(c, expected["c"]) and np.array_equal(m, expected["m"])
