"""Initial states that a graph takes from variables: slices, tiles, lookups, masks, conditions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Shell, error, notes
from conftest import SHARED
from writers import (
    TensorFlow,
    as_in_1_x,
    dynamic,
    hand_made,
    inputs,
    new_session,
    opened,
    save,
    static,
    tensorflow,
)

from lstmstate import LSTMCheckpoint, UnsupportedError, open_checkpoint
from lstmstate.cells import Option, SavedState

UNITS, BATCH, STEPS, INPUTS = 4, 3, 5, 2
CELL = "rnn/lstm_cell"

Array = Any
Feed = Callable[[TensorFlow, Any], Any]  # (tf, x) → c and m


def kept(tf: TensorFlow, name: str, *shape: int, **more: Any) -> Any:
    return tf.get_variable(
        name, shape, initializer=tf.random_uniform_initializer(-0.9, 0.9), **more
    )


def rows(tf: TensorFlow, x: Any) -> Any:
    return tf.shape(x)[0]


def under_a_condition(tf: TensorFlow, v: Any, x: Any) -> Any:
    begins = tf.placeholder_with_default(False, [])
    return tf.cond(begins, lambda: tf.zeros([BATCH, UNITS]), lambda: tf.identity(v))


# How each of two variables is fed, one for each half, its shape, and the batch that remains.
WAYS: dict[str, tuple[Any, tuple[int, ...], int | None]] = {
    "sliced": (lambda tf, v, x: v[: rows(tf, x), :], (BATCH, UNITS), None),
    "sliced by an operation": (
        lambda tf, v, x: tf.slice(v, [0, 0], [rows(tf, x), UNITS]), (BATCH, UNITS), None
    ),
    "tiled": (lambda tf, v, x: tf.tile(v, [rows(tf, x), 1]), (1, UNITS), None),
    "a tiled vector": (
        lambda tf, v, x: tf.tile(tf.expand_dims(v, 0), tf.stack([rows(tf, x), 1])), (UNITS,), None
    ),
    "reshaped and tiled": (
        lambda tf, v, x: tf.tile(tf.reshape(v, [1, UNITS]), [rows(tf, x), 1]), (UNITS,), None
    ),
    "broadcast": (lambda tf, v, x: tf.broadcast_to(v, [rows(tf, x), UNITS]), (1, UNITS), None),
    "times ones": (lambda tf, v, x: tf.matmul(tf.ones([rows(tf, x), 1]), v), (1, UNITS), None),
    "added to zeros": (lambda tf, v, x: tf.zeros([rows(tf, x), UNITS]) + v, (1, UNITS), None),
    "chosen": (
        lambda tf, v, x: tf.where(tf.fill([BATCH], False), tf.zeros([BATCH, UNITS]), v),
        (BATCH, UNITS), BATCH,
    ),
    "chosen by where_v2": (
        lambda tf, v, x: tf.where_v2(tf.fill([BATCH, 1], True), v, 0.0), (BATCH, UNITS), BATCH
    ),
    "under a condition": (under_a_condition, (BATCH, UNITS), BATCH),
    "masked": (
        lambda tf, v, x: v * (
            1 - tf.placeholder_with_default(np.zeros([BATCH, 1], "f4"), [BATCH, 1])
        ),
        (BATCH, UNITS), BATCH,
    ),
    "gathered": (lambda tf, v, x: tf.gather(v, tf.range(rows(tf, x))), (BATCH, UNITS), None),
    "gathered of many": (lambda tf, v, x: tf.gather(v, [4, 0, 2]), (6, UNITS), None),
    "squeezed": (lambda tf, v, x: tf.squeeze(v, [0]), (1, BATCH, UNITS), BATCH),
    "reshaped": (lambda tf, v, x: tf.reshape(v, [-1, UNITS]), (1, BATCH, UNITS), BATCH),
    "a reshaped vector": (lambda tf, v, x: tf.reshape(v, [-1, UNITS]), (BATCH * UNITS,), BATCH),
}  # fmt: skip


def by_slice(tf: TensorFlow, v: Any) -> Any:
    halves = [tf.slice(v, [k, 0, 0], [1, -1, -1]) for k in (0, 1)]
    return [tf.reshape(half, [BATCH, UNITS]) for half in halves]


def columns_of_the_batch(tf: TensorFlow, v: Any) -> Any:
    return tf.split(tf.tile(v, [tf.placeholder_with_default(BATCH, []), 1]), 2, 1)


# How c and m are sliced from one variable for both, its shape, and the layout that it is.
PAIR, INNER, FLAT = (2, BATCH, UNITS), (BATCH, 2, UNITS), (BATCH, 2 * UNITS)
BOTH: dict[str, tuple[Any, tuple[int, ...], str]] = {
    "by_index": (lambda tf, v: (v[0], v[1]), PAIR, "layered"),
    "by_index_h_first": (lambda tf, v: (v[1], v[0]), PAIR, "keras"),
    "unstacked": (lambda tf, v: tf.unstack(v), PAIR, "layered"),
    "by_gather": (lambda tf, v: (tf.gather(v, 0), tf.gather(v, 1)), PAIR, "layered"),
    "by_split": (
        lambda tf, v: [tf.squeeze(half, [0]) for half in tf.split(v, 2)], PAIR, "layered"
    ),
    "by_slice": (by_slice, PAIR, "layered"),
    "by_inner_index": (lambda tf, v: (v[:, 0], v[:, 1, :]), INNER, "stacked"),
    "by_inner_index_h_first": (lambda tf, v: (v[:, 1], v[:, 0]), INNER, "unknown"),
    "by_last_index": (
        lambda tf, v: tf.unstack(tf.transpose(v, [2, 0, 1])), (BATCH, UNITS, 2), "unknown"
    ),
    "by_columns": (lambda tf, v: (v[:, :UNITS], v[:, UNITS:]), FLAT, "flat"),
    "by_columns_of_sizes": (lambda tf, v: tf.split(v, [UNITS, -1], -1), FLAT, "flat"),
    "by_columns_h_first": (lambda tf, v: (v[..., UNITS:], v[..., :UNITS]), FLAT, "unknown"),
    "columns_of_the_batch": (columns_of_the_batch, (1, 2 * UNITS), "flat"),
}  # fmt: skip


def network(
    tf: TensorFlow, feed: Feed, *, batch: int | None = None, steps: int | None = STEPS
) -> tuple[Any, Any]:
    """Run a cell from values of variables that are fed; return the data and the last state."""
    x = inputs(tf, INPUTS, batch, steps)
    c, m = feed(tf, x)
    for half in (c, m):
        half.set_shape([batch, UNITS])
    first = tf.nn.rnn_cell.LSTMStateTuple(c, m)
    return x, dynamic(tf, tf.nn.rnn_cell.LSTMCell(UNITS), x, initial_state=first)[1]


def of_two(way: str) -> Feed:
    feed, shape, _ = WAYS[way]

    def build(tf: TensorFlow, x: Any) -> Any:
        return [feed(tf, kept(tf, name, *shape), x) for name in ("one", "two")]

    return build


def of_one(way: str) -> Feed:
    feed, shape, _ = BOTH[way]
    return lambda tf, x: feed(tf, kept(tf, "kept", *shape))


def saved(folder: Path, feed: Feed, **options: Any) -> tuple[str, Array, Array]:
    """Save a network; return its prefix, some data and the last state in TensorFlow."""
    tf, prefix = tensorflow(), str(folder / "model.ckpt")
    data = np.random.default_rng(3).uniform(-1, 1, (BATCH, STEPS, INPUTS)).astype("f4")
    with as_in_1_x(tf, options.get("functional", False)):
        x, last = network(tf, feed, steps=options.get("steps", STEPS))
        saver = tf.train.Saver(tf.global_variables())
        with new_session(tf) as session:
            session.run(tf.global_variables_initializer())
            found = session.run(last, {x: data})
            saver.save(session, prefix)
    return prefix, data, found


def assert_runs_to(
    expected: Any, tmp_path: Path, shell: Shell, prefix: str, *flags: str | Path
) -> None:
    """Run from the initial state of the graph, or another, over `x.npy`."""
    out, flags = tmp_path / "y.npz", flags or ("--state", prefix)
    done = shell("run", prefix, tmp_path / "x.npy", "-o", out, "--force", *flags, code=0)
    assert not [line for line in notes(done) if "zeros" in line]
    found = np.load(out)
    for name, value in zip("cm", expected, strict=True):
        np.testing.assert_allclose(found[name], value, atol=2e-6)


@pytest.mark.parametrize("way", WAYS)
def test_c_and_m_are_found_and_run_from_in_every_form(
    tmp_path: Path, shell: Shell, way: str
) -> None:
    _, shape, batch = WAYS[way]
    prefix, data, expected = saved(tmp_path, of_two(way))
    ckpt = open_checkpoint(prefix)
    rows = BATCH if way == "a reshaped vector" else None
    common = {"source": "graph", "is_start": True, "picks_rows": "gathered" in way, "rows": rows}
    assert list(ckpt.states.values()) == [
        SavedState("one", "c", shape, CELL, **common),
        SavedState("two", "m", shape, CELL, **common),
    ]
    assert ckpt.cells[CELL].options["batch_size"] == Option(batch, "graph")
    np.save(tmp_path / "x.npy", data)
    assert_runs_to(expected, tmp_path, shell, prefix)


@pytest.mark.parametrize("way", [*BOTH][::4])
def test_both_halves_in_one_variable_of_a_graph_of_functions(way: str) -> None:
    _, shape, layout = BOTH[way]
    ckpt = opened(lambda tf: network(tf, of_one(way)), functional=True)
    assert list(ckpt.states.values()) == [
        SavedState("kept", layout, shape, CELL, None, "graph", True)
    ]


@pytest.mark.parametrize("way", BOTH)
def test_both_halves_are_found_and_converted_in_the_order_of_the_graph(
    tmp_path: Path, shell: Shell, way: str
) -> None:
    """By its shape alone a variable with h first would be read with c first."""
    _, shape, layout = BOTH[way]
    prefix, data, expected = saved(tmp_path, of_one(way))
    assert list(open_checkpoint(prefix).states.values()) == [
        SavedState("kept", layout, shape, CELL, None, "graph", True)
    ]
    np.save(tmp_path / "x.npy", data)
    done = shell("convert", prefix, "--to-tuple", "-o", tmp_path / "s.npz", code=0)
    is_other = way in ("by_inner_index_h_first", "by_columns_h_first")
    words = "the graph's kept takes m|c, and it is read in that order"
    assert (words in notes(done)) == is_other
    assert_runs_to(expected, tmp_path, shell, prefix, "--state", tmp_path / "s.npz")
    if way in ("by_index_h_first", "by_inner_index", "by_columns"):
        assert_runs_to(expected, tmp_path, shell, prefix)


def test_a_variable_with_more_than_a_state_is_refused(tmp_path: Path, shell: Shell) -> None:
    def build(tf: TensorFlow, x: Any) -> Any:
        whole = kept(tf, "kept", BATCH, 3 * UNITS)
        return whole[:, :UNITS], whole[:, 2 * UNITS :]

    prefix, *_ = saved(tmp_path, build)
    done = shell("convert", prefix, "--to-tuple", "-o", tmp_path / "y.npz", code=3)
    assert "kept: the graph takes c and m out of it in a way that no layout has" in error(done)


def halves_in_vectors(tf: TensorFlow, x: Any) -> Any:
    return [tf.reshape(kept(tf, f"last_{h}", BATCH * UNITS), [BATCH, UNITS]) for h in "ch"]


def rows_in_a_vector(tf: TensorFlow, x: Any) -> Any:
    whole = kept(tf, "last_state", BATCH * 2 * UNITS)
    return tf.split(tf.reshape(whole, [BATCH, 2 * UNITS]), 2, 1)


@pytest.mark.parametrize(
    ("feed", "flags"),
    [
        (halves_in_vectors, ("--variable", "last_c", "--variable", "last_h")),
        (rows_in_a_vector, ("--variable", "last_state")),
    ],
)
def test_rows_one_after_another_in_a_vector(
    tmp_path: Path, shell: Shell, feed: Feed, flags: tuple[str, ...]
) -> None:
    """The graph shows the length of a row; without it a vector is refused."""
    prefix, data, expected = saved(tmp_path, feed)
    np.save(tmp_path / "x.npy", data)
    layout = "flat" if feed is rows_in_a_vector else "tuple"
    for way in ("--to-tuple", "--to-flat"):
        assert shell("convert", prefix, way, "--force", "-o", tmp_path / "s.npz").code == 0
        assert_runs_to(expected, tmp_path, shell, prefix, "--state", tmp_path / "s.npz")
    new = tmp_path / "new.ckpt"
    assert shell("convert", prefix, f"--to-{layout}", "-o", new).code == 0
    assert shell("diff", "--exact", prefix, new).code == 0
    Path(f"{prefix}.meta").unlink()
    done = shell(
        "convert", prefix, "--to-tuple", *flags, "--force", "-o", tmp_path / "s.npz", code=3
    )
    width = 2 * UNITS if layout == "flat" else UNITS
    assert error(done).endswith(
        f"; if its {BATCH} rows of {width} follow one another, save it as [{BATCH}, {width}]"
    )


def test_one_variable_for_a_stack(tmp_path: Path) -> None:
    """[L, 2, batch, units], the pattern of a tutorial; and with h first."""

    def build(tf: TensorFlow, order: tuple[int, int]) -> None:
        make, kept_ = tf.nn.rnn_cell, kept(tf, "kept", 2, 2, BATCH, UNITS)
        first = tuple(
            make.LSTMStateTuple(*(layer[k] for k in order)) for layer in tf.unstack(kept_)
        )
        stack = make.MultiRNNCell([make.LSTMCell(UNITS), make.LSTMCell(UNITS)])
        dynamic(tf, stack, inputs(tf, INPUTS, BATCH), initial_state=first)

    for order, layout in (((0, 1), "layered"), ((1, 0), "keras")):
        (state,) = opened(lambda tf, order=order: build(tf, order)).states.values()
        assert (state.layout, state.cell, state.stack) == (layout, None, "rnn/multi_rnn_cell")


@pytest.mark.parametrize("way", ["by_columns", "by_index_h_first"])
def test_a_run_of_a_stack_from_a_variable_for_each_cell(
    tmp_path: Path, shell: Shell, way: str
) -> None:
    feed, shape, _ = BOTH[way]
    tf, prefix = tensorflow(), str(tmp_path / "model.ckpt")
    data = np.random.default_rng(3).uniform(-1, 1, (BATCH, STEPS, INPUTS)).astype("f4")
    with as_in_1_x(tf):
        make, x = tf.nn.rnn_cell, inputs(tf, INPUTS, BATCH, STEPS)
        first = tuple(
            make.LSTMStateTuple(*feed(tf, kept(tf, name, *shape))) for name in ("low", "high")
        )
        stack = make.MultiRNNCell([make.LSTMCell(UNITS), make.LSTMCell(UNITS)])
        _, last = dynamic(tf, stack, x, initial_state=first)
        saver = tf.train.Saver(tf.global_variables())
        with new_session(tf) as session:
            session.run(tf.global_variables_initializer())
            expected = session.run(last, {x: data})
            saver.save(session, prefix)
    np.save(tmp_path / "x.npy", data)
    shell("run", prefix, tmp_path / "x.npy", "--state", prefix, "-o", tmp_path / "y.npz", code=0)
    found = np.load(tmp_path / "y.npz")
    for k, (c, m) in enumerate(expected):
        scope = f"rnn/multi_rnn_cell/cell_{k}/lstm_cell"
        np.testing.assert_allclose(found[f"{scope}/c"], c, atol=2e-6)
        np.testing.assert_allclose(found[f"{scope}/m"], m, atol=2e-6)


# ---- computed states


def squashed(tf: TensorFlow, x: Any, name: str) -> Any:
    return tf.tile(tf.tanh(kept(tf, name, 1, UNITS)), [rows(tf, x), 1])


def of_other_data(tf: TensorFlow, x: Any, name: str) -> Any:
    fed = tf.placeholder(tf.float32, [BATCH, 2], f"{name}_fed")
    return tf.matmul(fed, kept(tf, name, 2, UNITS))


def each(way: Callable[[TensorFlow, Any, str], Any]) -> Feed:
    return lambda tf, x: [way(tf, x, name) for name in ("one", "two")]


def computed(folder: Path, way: Callable[[TensorFlow, Any, str], Any]) -> LSTMCheckpoint:
    """Open a checkpoint whose graph is not run by TensorFlow."""
    return open_checkpoint(save(folder, lambda tf: network(tf, each(way))))


@pytest.mark.parametrize(
    ("way", "variables"),
    [
        (
            lambda tf, x, n: tf.matmul(kept(tf, n, BATCH, 2), kept(tf, f"{n}_w", 2, UNITS)),
            "(one, one_w, two, two_w)",
        ),
        (squashed, "(one, two)"),
        (lambda tf, x, n: kept(tf, n, 8, UNITS)[: rows(tf, x)], "(one, two)"),
        (lambda tf, x, n: tf.reshape(kept(tf, n, BATCH * UNITS), [BATCH, UNITS]), "(one, two)"),
        (
            lambda tf, x, n: tf.tile(
                kept(tf, n, 1, UNITS), [tf.placeholder_with_default(BATCH, []), 1]
            ),
            "(one, two)",
        ),
        (lambda tf, x, n: tf.fill([rows(tf, x), UNITS], 0.5 if n == "one" else -0.25), None),
    ],
)
def test_a_state_that_the_graph_computes_is_noted_and_run_from(
    tmp_path: Path, shell: Shell, way: Any, variables: str | None
) -> None:
    prefix, data, expected = saved(tmp_path, each(way))
    np.save(tmp_path / "x.npy", data)
    words = " ".join(filter(None, ["the graph starts from a state of its own", variables]))
    done = shell("run", prefix, tmp_path / "x.npy")
    assert [
        n for n in notes(done) if n.startswith(f"{words}, and this run from zeros; pass --state")
    ]
    assert_runs_to(expected, tmp_path, shell, prefix)
    assert words in error(shell("run", prefix, tmp_path / "x.npy", "--strict", code=3))
    assert shell("run", prefix, tmp_path / "x.npy", "--strict", "--zero-state").code == 0


def test_python_warns_of_a_computed_state_and_returns_it(tmp_path: Path) -> None:
    prefix, data, (c, m) = saved(tmp_path, each(squashed))
    network = open_checkpoint(prefix).network()
    with pytest.warns(UserWarning, match="a state of its own .*; `initial_state` returns it"):
        network.run(data)
    _, state = network.run(data, network.initial_state(BATCH))
    np.testing.assert_allclose(state.c, c, atol=2e-6)
    np.testing.assert_allclose(state.m, m, atol=2e-6)


@pytest.mark.parametrize(
    ("way", "reason"),
    [
        (
            lambda tf, x, n: tf.matmul(x[:, 0], kept(tf, n, INPUTS, UNITS)),
            "it is computed from inputs",
        ),
        (of_other_data, "it is computed from one_fed, two_fed"),
        (
            lambda tf, x, n: (
                some(tf, x)
                * 0.1
                * tf.cast(tf.size(tf.placeholder(tf.float32, [None], f"{n}_fed")), tf.float32)
            ),
            "it is computed from the size of one_fed, two_fed",
        ),
        (lambda tf, x, n: tf.random_normal([rows(tf, x), UNITS]), "it is random"),
    ],
)
def test_a_state_from_data_or_random_numbers_is_unknown(
    tmp_path: Path, way: Any, reason: str
) -> None:
    ckpt = computed(tmp_path, way)
    words = f"this run from zeros; that state is unknown: {reason}"
    with pytest.warns(UserWarning, match=words):
        ckpt.network().run(np.ones((BATCH, STEPS, INPUTS)))
    with pytest.raises(
        UnsupportedError, match=f"the initial state in the graph is unknown: {reason}"
    ):
        ckpt.network().initial_state(BATCH)


def test_fed_values_are_part_of_the_computed_state(tmp_path: Path) -> None:
    network_ = computed(tmp_path, of_other_data).network()
    feeds = {f"{name}_fed": np.ones((BATCH, 2)) for name in ("one", "two")}
    state = network_.initial_state(BATCH, feeds)
    assert state.c.shape == (BATCH, UNITS)
    assert state.c.any()


def test_a_state_whose_variable_was_renamed_is_noted(tmp_path: Path, shell: Shell) -> None:
    prefix, data, expected = saved(tmp_path, of_one("by_columns"))
    np.save(tmp_path / "x.npy", data)
    renamed = tmp_path / "renamed.ckpt"
    assert shell("convert", prefix, "--to-tuple", "-o", renamed).code == 0
    done = shell("run", renamed, tmp_path / "x.npy")
    words = "a state of its own (kept), and this run from zeros; that state is unknown: kept: "
    assert any(words in line for line in notes(done))
    assert_runs_to(expected, tmp_path, shell, str(renamed))


@pytest.mark.parametrize(
    "way",
    [
        lambda tf, x, name: tf.placeholder(tf.float32, [None, UNITS]),
        lambda tf, x, name: tf.zeros_like(x[:, 0, :1]) * tf.ones([1, UNITS]),
        lambda tf, x, name: tf.placeholder_with_default(tf.zeros([rows(tf, x), UNITS]), None),
        lambda tf, x, name: tf.zeros([tf.placeholder(tf.int32, []), UNITS]),
    ],
)
def test_zero_and_fed_states_are_not_noted(tmp_path: Path, way: Any) -> None:
    network_ = computed(tmp_path, way).network()
    assert network_.own_start() is None
    assert not network_.initial_state(BATCH).c.any()


def test_a_state_from_the_iterator_of_the_data_is_fed(tmp_path: Path) -> None:
    def build(tf: TensorFlow) -> None:
        shapes = [(BATCH, UNITS), (BATCH, UNITS), (BATCH, STEPS, INPUTS)]
        data = tf.data.Dataset.from_tensors(tuple(np.ones(shape, "f4") for shape in shapes))
        c, m, x = tf.data.make_initializable_iterator(data).get_next()
        first = tf.nn.rnn_cell.LSTMStateTuple(c, m)
        dynamic(tf, tf.nn.rnn_cell.LSTMCell(UNITS), x, initial_state=first)

    assert open_checkpoint(save(tmp_path, build)).network().own_start() is None


# ---- states computed from the sizes of x


def some(tf: TensorFlow, x: Any) -> Any:
    return tf.ones([rows(tf, x), UNITS])


def grown(tf: TensorFlow, size: Any, least: int) -> Any:
    """Return a number that is 0 up to some size, without a branch."""
    return tf.nn.relu(tf.cast(size, tf.float32) - least)


OF_SIZES: dict[str, Callable[[TensorFlow, Any, str], Any]] = {
    "steps": lambda tf, x, name: some(tf, x) * 0.1 * tf.cast(tf.shape(x)[1], tf.float32),
    "filled": lambda tf, x, name: tf.fill([rows(tf, x), UNITS], grown(tf, tf.shape(x)[1], 3)),
    "size": lambda tf, x, name: some(tf, x) * grown(tf, tf.size(x), 20),
    "batch": lambda tf, x, name: some(tf, x) * grown(tf, rows(tf, x), 2),
    "row": lambda tf, x, name: some(tf, x) * grown(tf, tf.range(rows(tf, x)), 1)[:, None],
    "branch": lambda tf, x, name: tf.cond(
        tf.shape(x)[1] > 4, lambda: some(tf, x), lambda: 0 * some(tf, x)
    ),
    "branches": lambda tf, x, name: tf.cond(
        tf.shape(x)[1] > 4,
        lambda: tf.cond(rows(tf, x) > 2, lambda: some(tf, x), lambda: 0 * some(tf, x)),
        lambda: 0 * some(tf, x),
    ),
    "choice": lambda tf, x, name: tf.where(
        tf.fill([rows(tf, x), UNITS], tf.shape(x)[1] > 4), some(tf, x), 0 * some(tf, x)
    ),
    "learnt": lambda tf, x, name: tf.tile(
        kept(tf, name, 2, UNITS)[tf.cast(tf.shape(x)[1] > 4, tf.int32)][None], [rows(tf, x), 1]
    ),
}


@pytest.mark.covering(1)
@pytest.mark.parametrize("name", OF_SIZES)
@pytest.mark.parametrize("functional", [False, True])
def test_a_state_sized_by_x_uses_the_current_x(
    tmp_path: Path, shell: Shell, name: str, functional: bool
) -> None:
    """Most of these are zeros for the sizes that are tried with a graph."""
    feed = each(OF_SIZES[name])
    prefix, data, expected = saved(tmp_path, feed, functional=functional, steps=None)
    np.save(tmp_path / "x.npy", data)
    done = shell("run", prefix, tmp_path / "x.npy")
    assert any("a state of its own" in line for line in notes(done)), done.err
    assert shell("run", prefix, tmp_path / "x.npy", "--strict").code == 3
    assert_runs_to(expected, tmp_path, shell, prefix)
    network_ = open_checkpoint(prefix).network()
    with pytest.raises(UnsupportedError, match="from the size of x"):
        network_.initial_state(BATCH)
    _, state = network_.run(data, network_.initial_state(BATCH, steps=STEPS))
    np.testing.assert_allclose(state.c, expected[0], atol=2e-6)


def test_a_state_that_is_zeros_for_this_x_is_not_noted(tmp_path: Path, shell: Shell) -> None:
    def build(tf: TensorFlow) -> None:
        x = inputs(tf, INPUTS)
        first = tf.nn.rnn_cell.LSTMStateTuple(*each(OF_SIZES["branch"])(tf, x))
        dynamic(tf, tf.nn.rnn_cell.LSTMCell(UNITS), x, initial_state=first)

    prefix = save(tmp_path, build)
    for steps, is_noted in ((4, False), (5, True)):
        np.save(tmp_path / "x.npy", np.ones((BATCH, steps, INPUTS), "f4"))
        done = shell("run", prefix, tmp_path / "x.npy")
        assert any("a state of its own" in line for line in notes(done)) == is_noted


# ---- states that are not stored


@pytest.mark.parametrize(
    "change",
    [lambda tf, v: 0.5 * v, lambda tf, v: tf.reshape(tf.transpose(v), [BATCH, UNITS])],
)
def test_a_transformed_variable_has_no_layout_and_a_run_starts_from_its_result(
    tmp_path: Path, shell: Shell, change: Any
) -> None:
    def feed(tf: TensorFlow, x: Any) -> Any:
        return [change(tf, kept(tf, name, BATCH, UNITS)) for name in ("one", "two")]

    prefix, data, expected = saved(tmp_path, feed)
    states = open_checkpoint(prefix).states.values()
    assert [(s.variable, s.layout, s.is_start) for s in states] == [
        ("one", "unknown", True),
        ("two", "unknown", True),
    ]
    np.save(tmp_path / "x.npy", data)
    done = shell("run", prefix, tmp_path / "x.npy")
    assert any("starts from a state of its own (one, two)" in line for line in notes(done))
    assert_runs_to(expected, tmp_path, shell, prefix)
    assert shell("convert", prefix, "--to-flat", "-o", tmp_path / "z.npz").code == 3


def test_a_learnt_factor_is_not_a_mask() -> None:
    def feed(tf: TensorFlow, x: Any) -> Any:
        return [kept(tf, n, 1, UNITS) * tf.tanh(x[:, 0, :1]) for n in ("one", "two")]

    assert opened(lambda tf: network(tf, feed)).states == {}


def test_two_variables_under_a_condition_are_not_a_state() -> None:
    def feed(tf: TensorFlow, x: Any) -> Any:
        first = tf.placeholder_with_default(False, [])
        return [
            tf.cond(
                first,
                lambda name=name: tf.identity(kept(tf, f"{name}_a", BATCH, UNITS)),
                lambda name=name: tf.identity(kept(tf, f"{name}_b", BATCH, UNITS)),
            )
            for name in ("one", "two")
        ]

    assert opened(lambda tf: network(tf, feed)).states == {}


def test_an_encoder_and_its_decoder_have_separate_initial_states() -> None:
    def build(tf: TensorFlow) -> None:
        make = tf.nn.rnn_cell
        first = make.LSTMStateTuple(kept(tf, "one", BATCH, UNITS), kept(tf, "two", BATCH, UNITS))
        x = inputs(tf, INPUTS, BATCH)
        with tf.variable_scope("encoder"):
            _, last = dynamic(tf, make.LSTMCell(UNITS), x, initial_state=first)
        with tf.variable_scope("decoder"):
            dynamic(tf, make.LSTMCell(UNITS), x, initial_state=last)

    for functional in (False, True):
        ckpt = opened(build, functional=functional)
        assert [(s.layout, s.cell) for s in ckpt.states.values()] == [
            ("c", "encoder/rnn/lstm_cell"),
            ("m", "encoder/rnn/lstm_cell"),
        ]
        cells = ckpt.cells.values()
        assert [cell.options["batch_size"] for cell in cells] == [Option(BATCH, "graph")] * 2


# ---- is the state a tuple


def one_step(tf: TensorFlow, change: Any) -> None:
    """Step a user-written cell whose flat state is fed and split in half."""
    x, state = tf.placeholder(tf.float32, [3, 2]), tf.placeholder(tf.float32, [3, 2 * UNITS])
    c, m = (change(tf, half) for half in tf.split(state, 2, 1))
    wx, wm = kept(tf, "wx", 2, 4 * UNITS), kept(tf, "wm", UNITS, 4 * UNITS)
    i, f, o, j = tf.split(tf.matmul(x, wx) + tf.matmul(m, wm) + kept(tf, "b", 4 * UNITS), 4, 1)
    c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(j)
    tf.concat([c, tf.sigmoid(o) * tf.tanh(c)], 1)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda tf, half: half, Option(False, "graph")),
        (lambda tf, half: half * tf.placeholder(tf.float32, [3, 1]), Option(False, "graph")),
        (
            lambda tf, half: tf.where_v2(tf.placeholder(tf.bool, [3, 1]), half, 0.0),
            Option(False, "graph"),
        ),
        (lambda tf, half: half * tf.tanh(half), Option(None, "unknown")),
    ],
)
def test_the_state_is_known_to_be_a_tuple_if_the_graph_shows_it(
    change: Any, expected: Option
) -> None:
    (cell,) = opened(lambda tf: one_step(tf, change)).cells.values()
    assert cell.options["state_is_tuple"] == expected


def test_the_state_of_an_unrolled_loop_is_a_tuple() -> None:
    def build(tf: TensorFlow) -> None:
        static(tf, tf.nn.rnn_cell.LSTMCell(UNITS))
        hand_made(tf, scope="own")

    for cell in opened(build).cells.values():
        assert cell.options["state_is_tuple"] == Option(True, "graph")


# ---- notes of run


def test_run_reports_that_the_graph_starts_from_another_state(tmp_path: Path, shell: Shell) -> None:
    prefix, data, _ = saved(tmp_path, of_two("tiled"))
    np.save(tmp_path / "x.npy", data)
    words = (
        "the graph starts from a state of its own (one, two), and this run from zeros; pass --st"
    )
    for flags, count in (((), 1), (("--zero-state",), 0), (("--state", prefix), 0)):
        done = shell("run", prefix, tmp_path / "x.npy", *flags, code=0)
        assert sum(line.startswith(words) for line in notes(done)) == count
    document = shell.json("inspect", prefix)
    assert [(s["variable"], s["initial"]) for s in document["states"]] == [
        ("one", True),
        ("two", True),
    ]


# ---- published cases

FAULTS = SHARED / "faults"
needs_cases = pytest.mark.skipif(not FAULTS.is_dir(), reason="the cases are not available")


@needs_cases
@pytest.mark.parametrize(
    ("case", "variables", "batch"),
    [
        ("state_rows_of_the_batch", ["state_c", "state_m"], None),
        ("state_learned_and_tiled", ["initial_cell_state", "initial_output_state"], None),
        ("state_zero_where_an_episode_begins", ["state_c", "state_m"], 3),
        ("state_zero_where_an_episode_begins/times_a_mask", ["state_c", "state_m"], 3),
    ],
)
def test_states_of_graphs_of_1_15(case: str, variables: list[str], batch: int | None) -> None:
    ckpt = open_checkpoint(FAULTS / case)
    found = [(s.variable, s.layout, s.cell, s.is_start) for s in ckpt.states.values()]
    assert found == [(variables[0], "c", CELL, True), (variables[1], "m", CELL, True)]
    assert ckpt.cells[CELL].options["batch_size"] == Option(batch, "graph")


@needs_cases
def test_a_flat_state_times_a_mask() -> None:
    (cell,) = open_checkpoint(FAULTS / "flat_state_masked").cells.values()
    assert cell.options["state_is_tuple"] == Option(False, "graph")
    assert cell.options["batch_size"] == Option(3, "graph")


@pytest.mark.parametrize("proj", [None, 2])
@pytest.mark.parametrize("loop", [dynamic, static])
def test_groups_of_units_start_from_one_m(
    tmp_path: Path, shell: Shell, loop: Callable[..., Any], proj: int | None
) -> None:
    """As contrib's GLSTMCell: each group reads its part of x and of m."""
    tf, width = tensorflow(), proj or UNITS

    def step(x: Any, c: Any, m: Any) -> Any:
        products = []
        for group in range(2):
            with tf.variable_scope(f"group{group}"):
                read = [
                    tf.slice(of, [0, group * size], [BATCH, size])
                    for of, size in ((x, INPUTS // 2), (m, width // 2))
                ]
                kernel = kept(tf, "kernel", (INPUTS + width) // 2, 2 * UNITS)
                products.append(tf.split(tf.matmul(tf.concat(read, 1), kernel), 4, 1))
        i, j, f, o = (
            tf.nn.bias_add(tf.concat(parts, 1), kept(tf, f"bias_{gate}", UNITS))
            for gate, *parts in zip("ijfo", *products, strict=True)
        )
        c = tf.sigmoid(f + 1.0) * c + tf.sigmoid(i) * tf.tanh(j)
        m = tf.sigmoid(o) * tf.tanh(c)
        if proj is not None:
            with tf.variable_scope("projection"):
                m = tf.matmul(m, kept(tf, "kernel", UNITS, proj))
        return c, m

    class GLSTMCell(tf.nn.rnn_cell.RNNCell):  # type: ignore[misc, name-defined]
        state_size = tf.nn.rnn_cell.LSTMStateTuple(UNITS, width)
        output_size = width

        def call(self, x: Any, state: Any) -> Any:
            c, m = step(x, *state)
            return m, tf.nn.rnn_cell.LSTMStateTuple(c, m)

    with as_in_1_x(tf), tf.Session() as session:
        first = tf.nn.rnn_cell.LSTMStateTuple(
            kept(tf, "one", BATCH, UNITS), kept(tf, "two", BATCH, width)
        )
        loop(tf, GLSTMCell(), inputs(tf, INPUTS, BATCH, STEPS), initial_state=first)
        session.run(tf.global_variables_initializer())
        values = session.run(list(first))
        prefix = tf.train.Saver().save(session, str(tmp_path / "model.ckpt"))
    states = open_checkpoint(prefix).states
    assert {name: state.layout for name, state in states.items()} == {"one": "c", "two": "m"}
    shell("convert", prefix, "--to-tuple", "-o", tmp_path / "s.npz", code=0)
    with np.load(tmp_path / "s.npz") as found:
        assert all(
            np.array_equal(found[half], value) for half, value in zip("cm", values, strict=True)
        )
