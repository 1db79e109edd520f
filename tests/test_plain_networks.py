"""Networks of TensorFlow's own cells and wrappers, with the graph of their training.

All operations are explained, the graph confirms every cell, and runs give TensorFlow's values.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Shell, notes
from writers import TensorFlow, as_in_1_x, new_session, set_variables, tensorflow

BATCH, STEPS, INPUTS, UNITS = 3, 4, 2, 5

Array = Any
Made = tuple[Any, dict[Any, Any]]  # the outputs, and other fed values


def saved(
    folder: Path, build: Callable[[TensorFlow, Any], Made], train: str, *, steps: int = STEPS
) -> tuple[str, Array, Array]:
    """Save a network and its training; return its prefix, some data, and TensorFlow's outputs.

    Only the last outputs are trained, as for classifying sequences.
    """
    tf, prefix = tensorflow(), str(folder / "model.ckpt")
    random = np.random.default_rng(1)
    data = random.uniform(-1, 1, (BATCH, steps, INPUTS)).astype("f4")
    with as_in_1_x(tf):
        x = tf.placeholder(tf.float32, data.shape, name="x")
        outputs, fed = build(tf, x)
        last = outputs[-1] if isinstance(outputs, list) else outputs[:, -1]
        loss = tf.reduce_mean(last**2)
        if train == "adam":
            tf.train.AdamOptimizer().minimize(loss)
        else:
            optimizer = tf.train.RMSPropOptimizer(1e-3, momentum=0.9)
            gradients, variables = zip(*optimizer.compute_gradients(loss), strict=True)
            clipped, _ = tf.clip_by_global_norm(gradients, 1.0)
            optimizer.apply_gradients(zip(clipped, variables, strict=True))
        with new_session(tf) as session:
            every = tf.trainable_variables()
            set_variables(
                session, {one: random.uniform(-0.8, 0.8, one.shape.as_list()) for one in every}
            )
            found = session.run(outputs, {x: data, **fed})
            tf.train.Saver().save(session, prefix)
    return prefix, data, np.stack(found, 1) if isinstance(outputs, list) else found


def cells(tf: TensorFlow, layers: int, drop: dict[str, Any] | None = None, **options: Any) -> Any:
    """Return a stack of cells, or the one."""
    make = tf.nn.rnn_cell
    found = []
    for layer in range(layers):
        cell = make.LSTMCell(UNITS, **options)
        width = INPUTS if layer == 0 else options.get("num_proj") or UNITS
        shape = {"input_size": tf.TensorShape([width])} if "dtype" in (drop or {}) else {}
        found.append(make.DropoutWrapper(cell, **drop, **shape) if drop else cell)
    return found[0] if layers == 1 else make.MultiRNNCell(found)


def network(loop: str, layers: int, **options: Any) -> Callable[[TensorFlow, Any], Made]:
    def build(tf: TensorFlow, x: Any) -> Made:
        cell = cells(tf, layers, **options)
        if loop == "static":
            return list(tf.nn.static_rnn(cell, tf.unstack(x, axis=1), dtype=tf.float32)[0]), {}
        return tf.nn.dynamic_rnn(cell, x, dtype=tf.float32)[0], {}

    return build


def dropped(loop: str, layers: int, *kept: str, **more: Any) -> Callable[[TensorFlow, Any], Made]:
    """Return a network with dropout at a fed rate; here everything is kept."""

    def build(tf: TensorFlow, x: Any) -> Made:
        share = tf.placeholder(tf.float32, [], name="keep_prob")
        drop = {f"{name}_keep_prob": share for name in kept}
        drop |= {"dtype": tf.float32} if more else {}
        made, _ = network(loop, layers, drop=drop | more, use_peepholes=True)(tf, x)
        return made, {share: 1.0}

    return build


def of_both_directions(loop: str, layers: int, **options: Any) -> Callable[[TensorFlow, Any], Made]:
    def build(tf: TensorFlow, x: Any) -> Made:
        both = [cells(tf, layers, **options) for _ in range(2)]
        if loop == "static":
            steps = tf.unstack(x, axis=1)
            made, *_ = tf.nn.static_bidirectional_rnn(*both, steps, dtype=tf.float32)
            return list(made), {}
        made, _ = tf.nn.bidirectional_dynamic_rnn(*both, x, dtype=tf.float32)
        return tf.concat(made, 2), {}

    return build


def layers_of_both_directions(tf: TensorFlow, x: Any) -> Made:
    """Return layers that each read both directions of the layer before."""
    made = tf.unstack(x, axis=1)
    for layer in range(2):
        with tf.variable_scope(f"stack_bidirectional_rnn/cell_{layer}"):
            both = [cells(tf, 1, num_proj=3, use_peepholes=True) for _ in range(2)]
            made, *_ = tf.nn.static_bidirectional_rnn(*both, made, dtype=tf.float32)
    return list(made), {}


PROJECTED = {"use_peepholes": True, "num_proj": 3}
Kind = Callable[[str, int], Callable[[TensorFlow, Any], Made]]
KINDS: dict[str, Kind] = {
    "peepholes": partial(network, use_peepholes=True),
    "projection": partial(network, num_proj=3),
    "both": partial(network, **PROJECTED),
    "cell_clip": partial(network, use_peepholes=True, cell_clip=0.7),
    "proj_clip": partial(network, proj_clip=0.4, cell_clip=0.9, **PROJECTED),
    "dropout": lambda loop, layers: dropped(loop, layers, "input", "output"),
    "dropout of states": lambda loop, layers: dropped(loop, layers, "state"),
    "one dropout for all steps": lambda loop, layers: dropped(
        loop, layers, "input", "state", "output", variational_recurrent=True
    ),
    "both directions": partial(of_both_directions, **PROJECTED),
}


@pytest.mark.covering(2)
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("loop", ["static", "dynamic"])
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_explained_confirmed_and_gives_the_values_of_tensorflow(
    tmp_path: Path, shell: Shell, kind: str, loop: str, layers: int
) -> None:
    check(tmp_path, shell, KINDS[kind](loop, layers), "adam" if layers == 3 else "rmsprop")


@pytest.mark.parametrize(
    "build",
    [
        *(network(loop, 1, state_is_tuple=False) for loop in ("static", "dynamic")),
        layers_of_both_directions,
    ],
    ids=["static flat", "dynamic flat", "layers of both directions"],
)
def test_flat_states_and_layers_that_read_both_directions(
    tmp_path: Path, shell: Shell, build: Callable[[TensorFlow, Any], Made]
) -> None:
    check(tmp_path, shell, build, "rmsprop")


def check(folder: Path, shell: Shell, build: Callable[[TensorFlow, Any], Made], train: str) -> None:
    """Check that all of a network is explained, confirmed, and run as by TensorFlow."""
    prefix, data, expected = saved(folder, build, train)
    np.save(folder / "x.npy", data)
    found = shell.json("inspect", prefix, "--verify")["cells"]
    assert found
    assert [cell["unexplained"] for cell in found] == [[]] * len(found)
    assert [cell["confirmed"] for cell in found] == [True] * len(found)
    for engine in ("auto", "graph"):
        target = folder / f"{engine}.npz"
        done = shell("run", prefix, folder / "x.npy", "--engine", engine, "-o", target, code=0)
        assert not any("slower" in note for note in notes(done))
        np.testing.assert_allclose(np.load(target)["outputs"], expected, atol=2e-6)


@pytest.mark.parametrize("layers", [1, 3])
def test_a_graph_of_one_step(tmp_path: Path, shell: Shell, layers: int) -> None:
    """As for generating a sequence step by step."""
    build = network("static", layers, **PROJECTED)
    prefix, data, expected = saved(tmp_path, build, "adam", steps=1)
    np.save(tmp_path / "x.npy", data)
    assert shell("run", prefix, tmp_path / "x.npy", "-o", tmp_path / "y.npz").code == 0
    np.testing.assert_allclose(np.load(tmp_path / "y.npz")["outputs"], expected, atol=2e-6)


def test_a_residual_of_the_last_cell_is_its_output(tmp_path: Path, shell: Shell) -> None:
    """Although the graph does not concatenate the outputs."""

    def build(tf: TensorFlow, x: Any) -> Made:
        make = tf.nn.rnn_cell
        cell = make.MultiRNNCell([make.LSTMCell(UNITS), make.ResidualWrapper(make.LSTMCell(UNITS))])
        return list(tf.nn.static_rnn(cell, tf.unstack(x, axis=1), dtype=tf.float32)[0]), {}

    prefix, data, expected = saved(tmp_path, build, "adam")
    np.save(tmp_path / "x.npy", data)
    assert shell("run", prefix, tmp_path / "x.npy", "-o", tmp_path / "y.npz").code == 0
    np.testing.assert_allclose(np.load(tmp_path / "y.npz")["outputs"], expected, atol=2e-6)


@pytest.mark.covering(1)
@pytest.mark.parametrize("loop", ["static", "dynamic"])
@pytest.mark.parametrize("layers", [1, 2])
def test_steps_of_a_backward_cell_are_in_input_order(
    tmp_path: Path, shell: Shell, loop: str, layers: int
) -> None:
    """In any engine; outputs that are only m have that order too."""
    prefix, data, _ = saved(tmp_path, of_both_directions(loop, layers), "adam")
    np.save(tmp_path / "x.npy", data)
    made = {}
    for engine in ("numpy", "graph"):
        target = tmp_path / f"{engine}.npz"
        flags = ("--engine", engine, "--outputs", "m", "--all-states", "-o", target)
        assert shell("run", prefix, tmp_path / "x.npy", *flags).code == 0
        made[engine] = np.load(target)
    names = [name for name in made["numpy"].files if name != "lstmstate"]
    assert len([name for name in names if name.endswith("m_steps")]) == 2 * layers
    for name in names:
        np.testing.assert_allclose(made["graph"][name], made["numpy"][name], atol=2e-6)
    last = [name for name in names if name.endswith("m_steps")][layers - 1 :: layers]
    joined = np.concatenate([made["graph"][name] for name in last], 2)
    np.testing.assert_array_equal(made["graph"]["outputs"], joined)


def test_steps_of_a_backward_cell_end_with_their_sequence(tmp_path: Path, shell: Shell) -> None:
    def build(tf: TensorFlow, x: Any) -> Made:
        lengths = tf.placeholder(tf.int32, [None], name="lengths")
        both = [tf.nn.rnn_cell.LSTMCell(UNITS) for _ in range(2)]
        made, _ = tf.nn.bidirectional_dynamic_rnn(
            *both, x, dtype=tf.float32, sequence_length=lengths
        )
        return tf.concat(made, 2), {lengths: [STEPS] * BATCH}

    prefix, data, _ = saved(tmp_path, build, "adam")
    np.save(tmp_path / "x.npy", data)
    np.save(tmp_path / "lengths.npy", np.array([STEPS, 2, 1]))
    made = []
    for engine in ("numpy", "graph"):
        target = tmp_path / f"{engine}.npz"
        flags = ("--engine", engine, "--lengths", tmp_path / "lengths.npy", "--all-states")
        assert shell("run", prefix, tmp_path / "x.npy", *flags, "-o", target).code == 0
        made.append(np.load(target))
    for name in made[0].files:
        if name != "lstmstate":
            np.testing.assert_allclose(made[1][name], made[0][name], atol=2e-6)
