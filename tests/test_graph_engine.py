"""User-written cells, wrappers, and layers around cells: runs that follow the graph."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from commands import Shell
from writers import as_in_1_x, new_session, tensorflow

import lstmstate
from lstmstate import LSTMState, UnsupportedError
from lstmstate.model.network_loader import RunOptions

Array = Any
Step = Callable[..., tuple[Any, Any, Any]]
BATCH, STEPS, INPUTS, UNITS = 3, 5, 4, 6


def user_cell(tf: Any, step: Step) -> Any:
    """Return a cell with TensorFlow's variables whose gates are combined by `step`."""

    class Cell(tf.nn.rnn_cell.RNNCell):  # type: ignore[misc, name-defined]
        state_size = tf.nn.rnn_cell.LSTMStateTuple(UNITS, UNITS)
        output_size = UNITS

        def call(self, x: Any, state: Any) -> Any:
            kernel = tf.get_variable("kernel", [int(x.shape[-1]) + UNITS, 4 * UNITS])
            bias = tf.get_variable("bias", [4 * UNITS])
            z = tf.nn.bias_add(tf.matmul(tf.concat([x, state.h], 1), kernel), bias)
            output, c, m = step(tf, x, state.c, state.h, tf.split(z, 4, 1))
            return output, tf.nn.rnn_cell.LSTMStateTuple(c, m)

    return Cell(name="lstm_cell")


def plain(tf: Any, x: Any, c: Any, m: Any, z: Any) -> tuple[Any, Any, Any]:
    i, j, f, o = z
    c = tf.sigmoid(f + 1.0) * c + tf.sigmoid(i) * tf.tanh(j)
    m = tf.sigmoid(o) * tf.tanh(c)
    return m, c, m


def scaled(tf: Any, x: Any, c: Any, m: Any, z: Any) -> tuple[Any, Any, Any]:
    _, c, _ = plain(tf, x, c, m, z)
    m = tf.sigmoid(z[3]) * tf.tanh(0.9 * c)
    return m, 0.9 * c, m


def far_clip(tf: Any, x: Any, c: Any, m: Any, z: Any) -> tuple[Any, Any, Any]:
    """A clip of the carried c that only large values reach."""
    m, c, _ = plain(tf, x, c, m, z)
    return m, tf.minimum(tf.maximum(c, -500.0), 500.0), m


def zoneout(tf: Any, x: Any, c: Any, m: Any, z: Any) -> tuple[Any, Any, Any]:
    _, new_c, new_m = plain(tf, x, c, m, z)
    c, m = 0.1 * c + 0.9 * new_c, 0.2 * m + 0.8 * new_m
    return m, c, m


def skips(tf: Any, x: Any, c: Any, m: Any, z: Any) -> tuple[Any, Any, Any]:
    _, new_c, new_m = plain(tf, x, c, m, z)
    keep = tf.tile(x[:, :1] < 0.0, [1, UNITS])
    c, m = tf.where(keep, c, new_c), tf.where(keep, m, new_m)
    return m, c, m


class Saved(NamedTuple):
    """A checkpoint, data for it, and TensorFlow's outputs, c and m."""

    prefix: str
    x: Array
    state: LSTMState
    expected: list[Array]

    def network(self) -> Any:
        return lstmstate.open_checkpoint(self.prefix).network()

    def assert_loaded_run(self, layers: int = 1, **how: Any) -> Any:
        """Check that the loaded network gives TensorFlow's values, and return it."""
        loaded = self.network().load(RunOptions(**how))
        zeros = np.zeros_like(self.state.c)
        start = [(self.state.c, self.state.m), *[(zeros, zeros)] * (layers - 1)]
        ran = loaded.runner.run(self.x.swapaxes(0, 1), start)
        assert_close([ran.outputs.swapaxes(0, 1), *chain(*ran.states)], self.expected)
        return loaded

    def assert_run(self, network: Any = None, **how: Any) -> None:
        """Check that a run gives TensorFlow's values."""
        outputs, last = (network or self.network()).run(self.x, self.state, **how)
        assert_close([outputs, *last], self.expected)


def assert_close(found: Iterable[Array], expected: Iterable[Array]) -> None:
    for one, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, wanted, atol=2e-6)


def saved(
    tmp_path: Path, build: Callable[[Any, Any, Any], tuple[Any, Any]], width: int = INPUTS
) -> Saved:
    """Save a graph with random weights, and run it in TensorFlow."""
    tf = tensorflow()
    random = np.random.default_rng(1)
    x = random.standard_normal((BATCH, STEPS, width)).astype("f4")
    c, m = (random.uniform(-1, 1, (BATCH, UNITS)).astype("f4") for _ in range(2))
    with tf.Graph().as_default() as graph, new_session(tf, graph) as session:
        fed = tf.placeholder(tf.float32, [None, None, width], "x")
        halves = [tf.placeholder(tf.float32, [None, UNITS], name) for name in ("c0", "m0")]
        outputs, last = build(tf, fed, tf.nn.rnn_cell.LSTMStateTuple(*halves))
        for variable in tf.global_variables():
            value = random.standard_normal(variable.shape.as_list()) * 0.5
            session.run(variable.assign(value.astype("f4")))
        expected = session.run([outputs, *last], {fed: x, halves[0]: c, halves[1]: m})
        prefix = tf.train.Saver().save(session, str(tmp_path / "model.ckpt"))
    return Saved(prefix, x, LSTMState(c, m), expected)


def in_loop(step: Step) -> Callable[[Any, Any, Any], tuple[Any, Any]]:
    return lambda tf, x, state: tf.nn.dynamic_rnn(user_cell(tf, step), x, initial_state=state)


@pytest.mark.parametrize(
    ("step", "engine"),
    [
        (plain, "numpy"),
        (scaled, "graph"),
        (far_clip, "graph"),
        (zoneout, "graph"),
        (skips, "graph"),
    ],
)
def test_a_user_written_cell_is_confirmed_or_run_from_the_graph(
    step: Step, engine: str, tmp_path: Path
) -> None:
    found = saved(tmp_path, in_loop(step))
    loaded = found.assert_loaded_run()
    assert (loaded.engine, loaded.confirmed) == (engine, True if engine == "numpy" else None)
    start = [(found.state.c, found.state.m)]
    ran = loaded.runner.run(found.x.swapaxes(0, 1), start, keep="cm")
    np.testing.assert_array_equal(ran.kept[0]["c"][-1], ran.states[0][0])


def test_a_cell_contradicted_by_the_graph_is_not_run_by_another_engine(tmp_path: Path) -> None:
    network = saved(tmp_path, in_loop(scaled)).network()
    for engine in ("numpy", "tensorflow"):
        with pytest.raises(UnsupportedError, match="contradicts"):
            network.load(RunOptions(engine))


def test_sequences_of_unequal_lengths_give_the_values_of_each_alone(tmp_path: Path) -> None:
    prefix, x, state, _ = saved(tmp_path, in_loop(zoneout))
    loaded = lstmstate.open_checkpoint(prefix).network().load()
    lengths = np.array([5, 2, 0])
    ran = loaded.runner.run(x.swapaxes(0, 1), [(state.c, state.m)], lengths, "m")
    for row, length in enumerate(lengths[:2]):
        alone = loaded.runner.run(
            x[row : row + 1, :length].swapaxes(0, 1),
            [(state.c[row : row + 1], state.m[row : row + 1])],
        )
        np.testing.assert_allclose(ran.states[0][0][row], alone.states[0][0][0], atol=1e-6)
        np.testing.assert_allclose(ran.outputs[:length, row], alone.outputs[:, 0], atol=1e-6)
        assert not ran.outputs[length:, row].any()
    np.testing.assert_array_equal(ran.states[0][0][2], state.c[2])


def test_an_output_other_than_m_must_be_chosen(tmp_path: Path) -> None:
    def step(tf: Any, x: Any, c: Any, m: Any, z: Any) -> tuple[Any, Any, Any]:
        _, c, m = plain(tf, x, c, m, z)
        return tf.nn.relu(m) + 1.0, c, m

    found = saved(tmp_path, in_loop(step))
    network = found.network()
    with pytest.raises(UnsupportedError, match="not its m"):
        network.load()
    with pytest.warns(UserWarning, match="own step is run"):
        found.assert_run(network, outputs="graph")
    of_m = network.load(RunOptions(outputs="m"))
    assert (of_m.engine, of_m.confirmed) == ("numpy", True)


def with_default(tf: Any, c: Any) -> Any:
    return tf.placeholder_with_default(c, [None, UNITS])


@pytest.mark.parametrize(
    "change",
    [
        lambda tf, x, c: c * 0.5,
        lambda tf, x, c: c + 0.1,
        lambda tf, x, c: c - tf.cast(tf.shape(x)[0], tf.float32),
        lambda tf, x, c: tf.cond(tf.shape(x)[1] > 9, lambda: c * 2.0, lambda: c),
        lambda tf, x, c: c * tf.placeholder_with_default([[1.0]], [None, 1]),
        lambda tf, x, c: c * tf.placeholder(tf.float32, [None, 1]),
        lambda tf, x, c: c[::-1],
        lambda tf, x, c: c[:, ::-1],
        lambda tf, x, c: 0.5 * with_default(tf, c),
        lambda tf, x, c: c + tf.placeholder(tf.float32, [None, UNITS]),
        lambda tf, x, c: c + tf.get_variable("learnt", [UNITS]),
        lambda tf, x, c: (tf.placeholder(tf.float32, [2, 2, None, UNITS]) + 0.1)[0, 0],
        lambda tf, x, c: tf.placeholder(tf.float32, [2, 2, None, UNITS])[0, 0, ::-1],
        lambda tf, x, c: (0.5 * tf.placeholder(tf.float32, [None, 4 * UNITS]))[:, :UNITS],
    ],
)
def test_a_fed_state_that_the_graph_changes_is_refused(change: Any, tmp_path: Path) -> None:
    def build(tf: Any, x: Any, state: Any) -> tuple[Any, Any]:
        half = state._replace(c=change(tf, x, state.c))
        tf.nn.dynamic_rnn(user_cell(tf, plain), x, initial_state=half)
        return tf.zeros([]), [tf.zeros([])]

    with pytest.raises(UnsupportedError, match="changes the state"):
        saved(tmp_path, build).network().load()


def by_steps(tf: Any, x: Any) -> Any:
    """One for the few steps of a trial."""
    return tf.maximum(1.0, tf.cast(tf.shape(x)[1], tf.float32) / 4.0)


def by_rows(tf: Any, x: Any) -> Any:
    """One for the many rows of a trial."""
    return tf.minimum(1.0, tf.cast(tf.shape(x)[0], tf.float32) / 6.0)


@pytest.mark.covering(1)
@pytest.mark.parametrize("factor", [by_steps, by_rows])
@pytest.mark.parametrize("place", ["before", "on m", "on x, unrolled"])
def test_a_graph_that_computes_with_sizes_uses_the_sizes_of_x(
    factor: Any, place: str, tmp_path: Path
) -> None:
    def build(tf: Any, x: Any, state: Any) -> tuple[Any, Any]:
        by = factor(tf, x)

        def step(tf: Any, x: Any, c: Any, m: Any, z: Any) -> tuple[Any, Any, Any]:
            _, c, m = plain(tf, x, c, m, z)
            m = m * by
            return m, c, m

        if place == "before":
            cell = user_cell(tf, plain)
            return tf.nn.dynamic_rnn(cell, x * by, initial_state=state)
        if place == "on m":
            return in_loop(step)(tf, x, state)
        each = [value * by for value in tf.unstack(x, STEPS, 1)]
        outputs, last = tf.nn.static_rnn(user_cell(tf, plain), each, initial_state=state)
        return tf.stack(outputs, 1), last

    found = saved(tmp_path, build)
    network = found.network()
    assert network.load().engine == "graph"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found.assert_run(network)
    with pytest.raises(UnsupportedError, match="cannot be run with lengths|expected steps"):
        network.run(found.x, found.state, lengths=[STEPS, 2, 1])


def saved_loop(tmp_path: Path, cell: Callable[[Any], Any], make_x: Callable[[Any], Any]) -> Any:
    """Save a loop over an input computed from a placeholder x; return its prefix and a runner."""
    tf = tensorflow()
    graph = tf.Graph()
    with graph.as_default(), new_session(tf, graph) as session:
        tf.set_random_seed(7)  # weights whose sums do not cancel for large inputs
        given, x = make_x(tf)
        outputs, state = tf.nn.dynamic_rnn(cell(tf), x, dtype=tf.float32)
        session.run(tf.global_variables_initializer())
        prefix = tf.train.Saver().save(session, str(tmp_path / "model.ckpt"))

        def run(values: Any) -> list[Any]:
            with new_session(tf, graph) as again:
                tf.train.Saver().restore(again, prefix)
                found: list[Any] = again.run([outputs, *state], {given: values})
            return found

    return prefix, run


@pytest.mark.parametrize("dtype", ["uint8", "int32", "bool", "float16"])
@pytest.mark.filterwarnings("ignore:.*(is deprecated|x is fed at x).*:UserWarning")
def test_x_of_another_dtype_gives_states_in_the_dtype_of_the_weights(
    tmp_path: Path, dtype: str
) -> None:
    def make_x(tf: Any) -> tuple[Any, Any]:
        given = tf.placeholder(dtype, [None, None, INPUTS], "x")
        return given, tf.cast(given, tf.float32) / 3.0 - 0.25

    prefix, run = saved_loop(tmp_path, lambda tf: tf.nn.rnn_cell.BasicLSTMCell(UNITS), make_x)
    network = lstmstate.open_checkpoint(prefix).network()
    x = np.random.default_rng(0).integers(0, 2, (BATCH, STEPS, INPUTS))
    outputs, state = network.run(x, engine="graph")
    assert outputs.dtype == state.c.dtype == np.float32
    assert_close((outputs, *state), run(x.astype(dtype)))
    if dtype != "float16":
        with pytest.raises(UnsupportedError, match=f"takes x as {dtype}, and these values do not"):
            network.run(x + 0.5, engine="graph")


@pytest.mark.parametrize("changed", [0, 1], ids=["the output", "c"])
def test_a_step_that_differs_only_for_some_inputs_is_not_confirmed(
    tmp_path: Path, changed: int
) -> None:
    """Inputs near -999 are not in the trial data."""

    def cell(tf: Any) -> Any:
        def step(tf: Any, x: Any, c: Any, m: Any, z: Any) -> tuple[Any, Any, Any]:
            found = list(plain(tf, x, c, m, z))
            share = tf.minimum(tf.abs(x[:, :1] + 999.0), 1.0)
            found[changed] = share * found[changed] + (1 - share) * c
            return found[0], found[1], found[2]

        return user_cell(tf, step)

    def make_x(tf: Any) -> tuple[Any, Any]:
        x = tf.placeholder(tf.float32, [None, None, INPUTS], "x")
        return x, x

    prefix, run = saved_loop(tmp_path, cell, make_x)
    network = lstmstate.open_checkpoint(prefix).network()
    how = {"outputs": None if changed else "graph"}
    loaded = network.load(RunOptions(**how))
    assert (loaded.engine, loaded.confirmed) == ("graph", None)
    reason = "operations? not explained" if changed else "its outputs are not m itself"
    x = np.full((BATCH, STEPS, INPUTS), -999.0, np.float32)
    with pytest.warns(UserWarning, match=reason):
        outputs, state = network.run(x, **how)
    assert_close((outputs, *state), run(x))


def test_another_placeholder_is_fed_or_named(tmp_path: Path) -> None:
    def build(tf: Any, x: Any, state: Any) -> Any:
        rate = tf.placeholder_with_default(1.0, [], "rate")
        gain = tf.placeholder(tf.float32, [], "gain")

        def step(tf: Any, x: Any, c: Any, m: Any, z: Any) -> tuple[Any, Any, Any]:
            return plain(tf, x, c * rate * gain, m, z)

        return tf.nn.dynamic_rnn(user_cell(tf, step), x, initial_state=state)

    tf = tensorflow()
    with tf.Graph().as_default() as graph, new_session(tf, graph) as session:
        x = tf.placeholder(tf.float32, [None, None, INPUTS], "x")
        zeros = tf.zeros([BATCH, UNITS])
        build(tf, x, tf.nn.rnn_cell.LSTMStateTuple(zeros, zeros))
        session.run(tf.global_variables_initializer())
        prefix = tf.train.Saver().save(session, str(tmp_path / "model.ckpt"))
    network = lstmstate.open_checkpoint(prefix).network()
    problem = r"needs a value for gain \(float32, \[\]\), which is read by rnn/\S+ \(Mul\);"
    with pytest.raises(UnsupportedError, match=problem):
        network.load()
    for gain in (1.0, 0.5):  # a product with 1 is an operation that no cell has, too
        assert network.load(RunOptions(feeds={"gain": gain})).engine == "graph"
    with pytest.raises(lstmstate.LstmstateError, match="no such placeholder"):
        network.load(RunOptions(feeds={"nothing": 1.0}))


@pytest.mark.parametrize(
    ("lengths", "engine"),
    [
        (lambda tf, x: tf.fill([tf.shape(x)[0]], 4), "graph"),
        (lambda tf, x: tf.constant([4] * BATCH), "graph"),
        (lambda tf, x: tf.placeholder(tf.int32, [None], "lengths"), "numpy"),
    ],
)
def test_lengths_set_by_the_graph_are_used(
    lengths: Callable[[Any, Any], Any], engine: str, tmp_path: Path
) -> None:
    """A trial has fewer than four steps: only the graph shows where it ends."""

    def build(tf: Any, x: Any, state: Any) -> tuple[Any, Any]:
        cell, given = user_cell(tf, plain), lengths(tf, x)
        outputs, last = tf.nn.dynamic_rnn(cell, x, sequence_length=given, initial_state=state)
        if given.op.type == "Placeholder":
            return tf.zeros([]), last._replace(c=tf.zeros([]), h=tf.zeros([]))
        return outputs, last

    found = saved(tmp_path, build)
    loaded = found.assert_loaded_run() if engine == "graph" else found.network().load()
    assert loaded.engine == engine


def test_a_second_sequence_has_the_sizes_of_the_first(tmp_path: Path) -> None:
    """PhasedLSTMCell takes the time of each step in this way."""
    times = np.random.default_rng(5).uniform(0, 1, (BATCH, STEPS, 1)).astype("f4")

    def build(tf: Any, x: Any, state: Any) -> tuple[Any, Any]:
        cell = user_cell(tf, plain)

        class Timed(tf.nn.rnn_cell.RNNCell):  # type: ignore[misc, name-defined]
            state_size, output_size = cell.state_size, cell.output_size

            def __call__(self, given: Any, state: Any, scope: Any = None) -> Any:
                value, time = given
                m, last = cell(value, state)
                return m, last._replace(c=last.c * (1.0 - time))

        fed = tf.placeholder_with_default(times, [None, None, 1], "times")
        return tf.nn.dynamic_rnn(Timed(), (x, fed), initial_state=state)

    assert saved(tmp_path, build).assert_loaded_run(feeds={"times": times}).engine == "graph"


def unrolled(
    step: Step, count: int = STEPS, give: Callable[[Any, int, Array, Array], Any] | None = None
) -> Callable[[Any, Any, Any], tuple[Any, Any]]:
    """Repeat a cell without a loop; `give(tf, number, m, x)` returns the output of each step."""

    def build(tf: Any, x: Any, state: Any) -> tuple[Any, Any]:
        cell = user_cell(tf, step)
        packed = []
        with tf.variable_scope("rnn"):
            for number in range(count):
                output, state = cell(x[:, number], state)
                packed.append(output if give is None else give(tf, number, output, x[:, number]))
        return tf.stack(packed, 1), state

    return build


@pytest.mark.parametrize(
    ("give", "width"),
    [
        (lambda tf, number, m, x: tf.concat([m, x], 1), UNITS + INPUTS),
        (lambda tf, number, m, x: m * (2.0 if number == STEPS - 1 else 1.0), UNITS),
        (lambda tf, number, m, x: tf.tanh(tf.concat([m, m], 1)), 2 * UNITS),
    ],
)
def test_the_packed_steps_of_an_unrolled_graph_are_its_output(
    give: Any, width: int, tmp_path: Path
) -> None:
    found = saved(tmp_path, unrolled(plain, give=give))
    with pytest.warns(UserWarning, match="own step is run"):
        found.assert_run()
    assert found.expected[0].shape == (BATCH, STEPS, width)


@pytest.mark.parametrize("step", [plain, far_clip])
def test_a_single_step_without_a_loop_runs_a_sequence_of_one(step: Step, tmp_path: Path) -> None:
    found = saved(tmp_path, unrolled(step, count=1))
    found._replace(x=found.x[:, :1]).assert_loaded_run()


Read = Callable[[Any, Any], Callable[[Any], Any]]  # (tf, x) → the number of a step → its input


def looped(
    read: Read,
    change: Callable[[Any, Any, Any, Any], Any] = lambda tf, number, c, m: (c, m),
    step: Step = plain,
    *,
    less: int = 0,
) -> Callable[[Any, Any, Any], tuple[Any, Any]]:
    """Step a cell in a loop that reads its input, and changes the states, by the step number.

    Args:
        less: the number of last steps that it omits.
    """

    def build(tf: Any, x: Any, state: Any) -> tuple[Any, Any]:
        cell = user_cell(tf, step)
        steps = tf.shape(x)[1] - less
        made = tf.TensorArray(tf.float32, steps + less)
        element = read(tf, x)

        def body(number: Any, c: Any, m: Any, made: Any) -> Any:
            one = element(number)
            one.set_shape([None, INPUTS])
            c, m = change(tf, number, c, m)
            output, state = cell(one, tf.nn.rnn_cell.LSTMStateTuple(c, m))
            return number + 1, state.c, state.h, made.write(number, output)

        with tf.variable_scope("rnn"):
            _, c, m, made = tf.while_loop(
                lambda number, *_: number < steps, body, [0, state.c, state.h, made]
            )
        return tf.transpose(made.stack(), [1, 0, 2]), tf.nn.rnn_cell.LSTMStateTuple(c, m)

    return build


def by_step(tf: Any, x: Any) -> Any:
    return tf.transpose(x, [1, 0, 2])


def out_of_an_array(tf: Any, x: Any) -> Callable[[Any], Any]:
    given = tf.TensorArray(tf.float32, tf.shape(x)[1]).unstack(by_step(tf, x))
    return given.read


def reset_late(tf: Any, number: Any, c: Any, m: Any) -> Any:
    keep = tf.cast(tf.not_equal(number, STEPS - 1), tf.float32)
    return c * keep, m * keep


def test_a_step_that_reads_the_step_number_is_never_confirmed(tmp_path: Path) -> None:
    found = saved(tmp_path, looped(out_of_an_array, reset_late))
    with pytest.raises(UnsupportedError, match="reads the number of the step"):
        found.network().load(RunOptions("numpy"))
    with pytest.warns(UserWarning, match="reads the number of the step"):
        found.assert_run()


@pytest.mark.parametrize("lengths", [[5, 2, 1], None])
def test_lengths_that_the_graph_computes_are_used(lengths: Any, tmp_path: Path) -> None:
    def build(tf: Any, x: Any, state: Any) -> tuple[Any, Any]:
        ends = lengths or tf.reduce_sum(tf.cast(tf.reduce_any(x > 0.0, 2), tf.int32), 1)
        return tf.nn.dynamic_rnn(user_cell(tf, plain), x, sequence_length=ends, initial_state=state)

    saved(tmp_path, build).assert_loaded_run()


def test_dropout_omitted_by_a_confirmed_cell_is_noted(tmp_path: Path) -> None:
    def build(tf: Any, x: Any, state: Any) -> tuple[Any, Any]:
        dropped = tf.nn.dropout(x, keep_prob=0.5)
        return tf.nn.dynamic_rnn(user_cell(tf, plain), dropped, initial_state=state)

    loaded = saved(tmp_path, build).network().load()
    assert (loaded.confirmed, loaded.notes) == (True, ("dropout is left out",))


def from_the_end(tf: Any, x: Any) -> Callable[[Any], Any]:
    steps = tf.shape(x)[1]
    return lambda number: x[:, steps - 1 - number]


CUTS: dict[str, Read] = {
    "a column": lambda tf, x: lambda number: x[:, number],
    "a row": lambda tf, x: by_step(tf, x).__getitem__,
    "gathered": lambda tf, x: partial(tf.gather, by_step(tf, x)),
    "from the end": from_the_end,
    "a slice": lambda tf, x: (
        lambda number: tf.squeeze(tf.slice(x, tf.stack([0, number, 0]), [-1, 1, -1]), 1)
    ),
}


@pytest.mark.covering(1)
@pytest.mark.parametrize("functional", [False, True])
@pytest.mark.parametrize("cut", CUTS)
def test_a_loop_may_slice_each_step_from_the_sequence(
    cut: str, functional: bool, tmp_path: Path
) -> None:
    with as_in_1_x(tensorflow(), functional):
        found = saved(tmp_path, looped(CUTS[cut]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found.assert_run()


@pytest.mark.parametrize(
    "cut",
    [
        lambda tf, x: lambda number: x[:, tf.maximum(number - 1, 0)],
        lambda tf, x: lambda number: x[:, 0] * tf.cast(number, tf.float32),
    ],
)
def test_a_loop_that_slices_anything_else_is_not_confirmed(cut: Any, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="not confirm"):
        saved(tmp_path, looped(cut)).network().load()


def test_a_cell_that_is_used_for_two_layers_has_two_states(tmp_path: Path) -> None:
    def build(tf: Any, x: Any, state: Any) -> tuple[Any, Any]:
        cell = user_cell(tf, plain)
        zeros = tf.zeros_like(state.c)
        second = tf.nn.rnn_cell.LSTMStateTuple(zeros, zeros)
        both = tf.nn.rnn_cell.MultiRNNCell([cell, cell])
        outputs, last = tf.nn.dynamic_rnn(both, x, initial_state=(state, second))
        return outputs, [*last[0], *last[1]]

    found = saved(tmp_path, build, UNITS)
    cells = found.assert_loaded_run(layers=2).network.cells
    names = [cell.name.removeprefix("rnn/multi_rnn_cell/") for cell in cells]
    assert names == ["cell_0/lstm_cell", "cell_0/lstm_cell#2"]
    ckpt = lstmstate.open_checkpoint(found.prefix)
    assert any("as 2 layers" in note for note in ckpt.cells[cells[0].name].notes)
    np.save(tmp_path / "flat.npy", np.arange(2.0 * 4 * UNITS).reshape(2, -1))
    flat = lstmstate.load_state(tmp_path / "flat.npy", checkpoint=found.prefix)
    assert [cell.cell for cell in flat.cells] == [cell.name for cell in cells]


@pytest.mark.parametrize("whole", [(slice(None), slice(None, None, -1)), None])
def test_a_sequence_is_reversed_by_a_slice_or_by_an_operation(whole: Any, tmp_path: Path) -> None:
    def build(tf: Any, x: Any, state: Any) -> tuple[Any, Any]:
        def turned(values: Any) -> Any:
            return tf.reverse(values, [1]) if whole is None else values[whole]

        outputs, last = tf.nn.dynamic_rnn(user_cell(tf, plain), turned(x), initial_state=state)
        return turned(outputs), last

    prefix, x, state, expected = saved(tmp_path, build)
    loaded = lstmstate.open_checkpoint(prefix).network().load(RunOptions("graph"))
    assert loaded.network.is_bidirectional
    ran = loaded.runner.run(x.swapaxes(0, 1), [(state.c, state.m)], keep="c")
    np.testing.assert_allclose(ran.outputs.swapaxes(0, 1), expected[0], atol=2e-6)
    np.testing.assert_array_equal(ran.kept[0]["c"][0], ran.states[0][0])


def test_options_are_refused_if_the_graph_itself_is_run(shell: Shell, tmp_path: Path) -> None:
    prefix, x, *_ = saved(tmp_path, in_loop(scaled))
    np.save(tmp_path / "x.npy", x)
    for engine in ("auto", "graph"):
        flags = ("--engine", engine, "--forget-bias", "2")
        done = shell("run", prefix, tmp_path / "x.npy", *flags, code=3)
        assert "the graph's own step takes no --forget-bias" in done.err
    assert shell("run", prefix, tmp_path / "x.npy", "--assume-defaults").code == 0


def test_verify_fails_if_the_graph_contradicts_a_cell(shell: Shell, tmp_path: Path) -> None:
    """For all weights of TensorFlow's own cells."""
    prefix = saved(tmp_path, in_loop(scaled)).prefix
    document = shell.json("verify", prefix, "--against", "tensorflow", code=1)
    assert not document["agrees"]
    assert all("c of rnn/lstm_cell" in trial["contradiction"] for trial in document["trials"])
    assert all(one["agrees"] for trial in document["trials"] for one in trial["differences"])
    done = shell("verify", prefix, "--against", "tensorflow")
    assert done.out.splitlines()[1] == "2 runs against TensorFlow, 2 within 1e-09"
    assert "The graph contradicts this cell: its own step differs in c of rnn/lstm_cell" in done.out


def of_a_late_step(change: Callable[[Any, Any], Any]) -> Callable[[Any, Any, Any], Any]:
    """Change only a step later than those of a trial."""

    def build(tf: Any, x: Any, state: Any) -> tuple[Any, Any]:
        early = tf.cond(tf.shape(x)[1] < STEPS, lambda: x, lambda: change(tf, x))
        early.set_shape([None, None, INPUTS])
        return tf.nn.dynamic_rnn(user_cell(tf, plain), early, initial_state=state)

    return build


def dense(tf: Any, x: Any) -> Any:
    return tf.tanh(tf.einsum("bti,ij->btj", x, tf.get_variable("dense/kernel", [INPUTS, INPUTS])))


def before_loop(change: Callable[[Any, Any], Any]) -> Callable[[Any, Any, Any], tuple[Any, Any]]:
    return lambda tf, x, state: tf.nn.dynamic_rnn(
        user_cell(tf, plain), change(tf, x), initial_state=state
    )


@pytest.mark.parametrize(
    "build",
    [
        before_loop(dense),
        before_loop(lambda tf, x: tf.reverse(x, [2])),  # features, not steps
        of_a_late_step(
            lambda tf, x: x + tf.constant([[[0.0]], [[0.0]], [[0.0]], [[0.5]], [[0.0]]])[:, 0]
        ),
        of_a_late_step(lambda tf, x: x * tf.cast(tf.range(STEPS) < 4, tf.float32)[:, tf.newaxis]),
    ],
)
def test_operations_before_the_loop_are_run_for_every_step(build: Any, tmp_path: Path) -> None:
    loaded = saved(tmp_path, build).assert_loaded_run()
    assert (loaded.engine, loaded.network.is_bidirectional) == ("graph", False)


def test_independent_directions_are_listed_one_after_another(tmp_path: Path) -> None:
    """Two forward layers, then the two backward ones: the order of a bidirectional_dynamic_rnn."""

    def build(tf: Any, x: Any, state: Any) -> tuple[Any, Any]:
        made = []
        for direction in "ab":
            value = tf.reverse(x, [1]) if direction == "b" else x
            for layer in "01":
                with tf.variable_scope(f"{direction}{layer}"):
                    value, last = tf.nn.dynamic_rnn(
                        user_cell(tf, plain), value, initial_state=state
                    )
            made.append(tf.reverse(value, [1]) if direction == "b" else value)
        return tf.concat(made, 2), last

    network = saved(tmp_path, build).network()
    names = [f"{place}/rnn/lstm_cell" for place in ("a0", "a1", "b0", "b1")]
    assert [cell.name for cell in network.route.cells] == names
    assert [[len(chain) for chain in stage] for stage in network.route.stages] == [[2, 2]]
    assert network.load().confirmed


@pytest.mark.parametrize(
    ("build", "problem"),
    [
        (before_loop(lambda tf, x: tf.cumsum(x, 1)), "not run in parts"),
        (before_loop(lambda tf, x: tf.concat([x[:, 1:], x[:, :1]], 1)), "not run in parts"),
        (looped(out_of_an_array, reset_late), "number of the step"),
        (in_loop(zoneout), None),
    ],
)
def test_a_graph_is_run_in_parts_only_if_the_result_is_the_same(
    build: Any, problem: str | None, tmp_path: Path
) -> None:
    prefix, x, state, expected = saved(tmp_path, build)
    network = lstmstate.open_checkpoint(prefix).network()
    parts = [x[:, :2], x[:, 2:]]
    if problem is not None:
        for run in (lambda: network.run_chunks(parts, state), lambda: network.step(x[:, 0], state)):
            with warnings.catch_warnings(), pytest.raises(UnsupportedError, match=problem):
                warnings.simplefilter("ignore")
                run()
        return
    with pytest.warns(UserWarning, match="own step is run"):
        ran = list(network.run_chunks(parts, state))
    outputs = np.concatenate([part for part, _ in ran], 1)
    np.testing.assert_allclose(outputs, expected[0], atol=2e-6)


def test_c_of_every_layer_may_come_before_m_of_every_layer(tmp_path: Path) -> None:
    def build(tf: Any, x: Any, state: Any) -> tuple[Any, Any]:
        cells = [user_cell(tf, plain), user_cell(tf, plain)]
        steps = tf.shape(x)[1]
        given = tf.TensorArray(tf.float32, steps).unstack(tf.transpose(x, [1, 0, 2]))
        made = tf.TensorArray(tf.float32, steps)

        def body(number: Any, c: Any, c_2: Any, m: Any, m_2: Any, made: Any) -> Any:
            below = given.read(number)
            below.set_shape([None, INPUTS])
            after = []
            for layer, both in enumerate([(c, m), (c_2, m_2)]):
                with tf.variable_scope(f"layer_{layer}"):
                    below, last = cells[layer](below, tf.nn.rnn_cell.LSTMStateTuple(*both))
                after.append(last)
            return (
                number + 1,
                *(last.c for last in after),
                *(last.h for last in after),
                made.write(number, below),
            )

        zeros = [tf.zeros_like(state.c, name=name) for name in ("c_2", "m_2")]
        carried = [0, state.c, zeros[0], state.h, zeros[1], made]
        _, c, c_2, m, m_2, made = tf.while_loop(lambda number, *_: number < steps, body, carried)
        return tf.transpose(made.stack(), [1, 0, 2]), [c, m, c_2, m_2]

    assert saved(tmp_path, build).assert_loaded_run(layers=2).confirmed


@pytest.mark.filterwarnings("ignore:.*x is the loop's input add:UserWarning")
def test_a_cell_of_a_network_is_confirmed_by_its_own_loop(tmp_path: Path) -> None:
    """A sum with the input between layers is not part of a stack; its cells can be run alone."""

    def build(tf: Any, x: Any, state: Any) -> tuple[Any, Any]:
        cell = tf.nn.rnn_cell.LSTMCell
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            low, _ = tf.nn.dynamic_rnn(cell(INPUTS), x, dtype=tf.float32, scope="low")
            back, _ = tf.nn.dynamic_rnn(
                cell(INPUTS), tf.reverse(low, [1]), dtype=tf.float32, scope="back"
            )
            above = low + tf.reverse(back, [1])
            return tf.nn.dynamic_rnn(cell(UNITS), above, initial_state=state, scope="high")

    prefix, x, state, _ = saved(tmp_path, build)
    ckpt = lstmstate.open_checkpoint(prefix)
    for name in ("low", "back", "high"):
        network = ckpt.network(cell=name)
        loaded = network.load()
        assert (loaded.engine, loaded.confirmed) == ("numpy", True)
        if name == "back":  # alone it starts at the beginning of a sequence
            with pytest.raises(UnsupportedError, match="from the end of a sequence"):
                network.load(RunOptions("graph"))
            continue
        given = state if name == "high" else None
        (one, _), (other, _) = (network.run(x, given, engine=e) for e in ("numpy", "graph"))
        np.testing.assert_allclose(one, other, atol=2e-6)


def by_gate(tf: Any, x: Any, c: Any, m: Any) -> tuple[Any, Any]:
    """A cell of no known family: a matrix for each gate, and a candidate without activation."""
    gates = [
        tf.matmul(x, tf.get_variable(f"x_{gate}", [int(x.shape[-1]), UNITS]))
        + tf.matmul(m, tf.get_variable(f"m_{gate}", [UNITS, UNITS]))
        for gate in "ijfo"
    ]
    i, j, f, o = gates
    c = 0.1 * c + 0.9 * (tf.sigmoid(f) * c + tf.sigmoid(i) * tf.nn.elu(j))
    return c, tf.sigmoid(o) * c


def unrolled_by_hand(
    begin: Callable[[Any, Any], tuple[Any, Any]], order: Callable[[int], int] = lambda step: step
) -> Callable[[Any, Any, Any], tuple[Any, Any]]:
    def build(tf: Any, x: Any, state: Any) -> tuple[Any, Any]:
        c, m = begin(tf, state)
        outputs = [x] * STEPS
        for step in range(STEPS):
            with tf.variable_scope("net", reuse=tf.AUTO_REUSE):
                c, m = by_gate(tf, x[:, order(step)], c, m)
            outputs[order(step)] = m
        return tf.stack(outputs, 1), (c, m)

    return build


@pytest.mark.parametrize("order", [lambda step: step, lambda step: STEPS - 1 - step])
def test_repeated_steps_of_a_graph_are_found(order: Any, tmp_path: Path) -> None:
    build = unrolled_by_hand(lambda tf, state: (state.c, state.h), order)
    loaded = saved(tmp_path, build).assert_loaded_run()
    assert (loaded.engine, loaded.network.is_bidirectional) == ("graph", order(0) != 0)


def test_unrolled_layers_whose_states_are_one_array_are_a_stack(tmp_path: Path) -> None:
    def build(tf: Any, x: Any, state: Any) -> tuple[Any, Any]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            cells = [tf.nn.rnn_cell.BasicLSTMCell(UNITS, state_is_tuple=False) for _ in range(2)]
        stack = tf.nn.rnn_cell.MultiRNNCell(cells, state_is_tuple=False)
        zeros = tf.zeros_like(state.c)
        begin = tf.concat([*state, zeros, zeros], 1)
        outputs, last = tf.nn.static_rnn(stack, tf.unstack(x, STEPS, 1), begin)
        return tf.stack(outputs, 1), tf.split(last, 4, 1)

    assert saved(tmp_path, build).assert_loaded_run(layers=2).confirmed


def test_c_and_m_that_start_as_one_tensor_are_fed_separately(tmp_path: Path) -> None:
    def both(tf: Any, state: Any) -> tuple[Any, Any]:
        zeros = tf.zeros([BATCH, UNITS])
        return zeros, zeros

    network = saved(tmp_path, unrolled_by_hand(both)).network()
    other = tmp_path / "other"
    other.mkdir()
    build = unrolled_by_hand(lambda tf, state: (state.c, state.h))
    with pytest.warns(UserWarning, match="own step is run"):
        saved(other, build).assert_run(network)  # the same weights


def test_two_directions_without_a_loop_are_one_network(tmp_path: Path) -> None:
    def build(tf: Any, x: Any, state: Any) -> tuple[Any, Any]:
        cells = [user_cell(tf, plain), user_cell(tf, plain)]
        zeros = tf.zeros_like(state.c, name="c_bw"), tf.zeros_like(state.c, name="m_bw")
        backward = tf.nn.rnn_cell.LSTMStateTuple(*zeros)
        outputs, forward, backward = tf.nn.static_bidirectional_rnn(
            *cells, tf.unstack(x, STEPS, 1), state, backward
        )
        return tf.stack(outputs, 1), [*forward, *backward]

    assert saved(tmp_path, build).assert_loaded_run(layers=2).confirmed


@pytest.mark.parametrize("sizes", [(None, None), (1, 1)])
def test_cells_used_in_two_different_ways_are_not_run(
    sizes: tuple[int | None, int | None], tmp_path: Path
) -> None:
    def build(tf: Any, x: Any, state: Any) -> tuple[Any, Any]:
        other = tf.placeholder(tf.float32, [*sizes, INPUTS], "other")
        begin = tf.nn.rnn_cell.LSTMStateTuple(*(tf.zeros([tf.shape(other)[0], UNITS]),) * 2)
        cell = user_cell(tf, zoneout)
        tf.nn.dynamic_rnn(cell, 2.0 * other, initial_state=begin)
        return tf.nn.dynamic_rnn(cell, x, initial_state=state)

    with pytest.raises(UnsupportedError, match="more than once .*other.* not alike"):
        saved(tmp_path, build).network().load(RunOptions("graph"))


def test_a_cell_that_the_graph_shows_to_be_another_is_not_advised(tmp_path: Path) -> None:
    def build(tf: Any, x: Any, state: Any) -> tuple[Any, Any]:
        class Simple(tf.nn.rnn_cell.RNNCell):  # type: ignore[misc, name-defined]
            state_size = output_size = UNITS

            def __call__(self, x: Any, m: Any, scope: Any = None) -> tuple[Any, Any]:
                with tf.variable_scope("lstm_cell"):
                    kernel = tf.get_variable("kernel", [INPUTS + UNITS, 4 * UNITS])
                    bias = tf.get_variable("bias", [4 * UNITS])
                z = tf.nn.bias_add(tf.matmul(tf.concat([x, m], 1), kernel), bias)
                one, two, three, four = tf.split(z, 4, 1)
                m = tf.tanh(one) * tf.sigmoid(two) + tf.tanh(three) * tf.sigmoid(four)
                return m, m

        outputs, last = tf.nn.dynamic_rnn(Simple(), x, initial_state=state.h)
        return outputs, tf.nn.rnn_cell.LSTMStateTuple(last, last)

    prefix, *_ = saved(tmp_path, build)
    with pytest.raises(UnsupportedError, match="does not confirm this cell") as caught:
        lstmstate.open_checkpoint(prefix).network().load()
    assert caught.value.advice is None


def test_a_loop_that_takes_more_steps_than_its_input_has_is_refused(tmp_path: Path) -> None:
    twice = before_loop(lambda tf, x: tf.concat([x, x], 1))
    with pytest.raises(UnsupportedError, match="expected .* steps from the graph, got"):
        saved(tmp_path, twice).network().load(RunOptions("graph"))


def test_a_loop_that_ends_before_its_input_is_not_confirmed(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        saved(tmp_path, looped(CUTS["a column"], less=1)).assert_run()


@pytest.mark.parametrize(
    ("reads", "again"),
    [([0, 1, 2, 3, 4], [3]), ([0, 2, 4], []), ([0, 0, 1, 1, 2, 2], [])],
    ids=["begun anew", "skipped", "twice a step"],
)
def test_steps_that_skip_part_of_the_sequence_are_not_confirmed(
    reads: list[int], again: list[int], tmp_path: Path
) -> None:
    def build(tf: Any, x: Any, state: Any) -> tuple[Any, Any]:
        cell = user_cell(tf, plain)
        begin, outputs = state, []
        with tf.variable_scope("rnn"):
            for at in reads:
                output, state = cell(x[:, at], begin if at in again else state)
                outputs.append(output)
        return tf.stack(outputs, 1), state

    prefix, x, *_ = saved(tmp_path, build)
    with warnings.catch_warnings(), pytest.raises(UnsupportedError):
        warnings.simplefilter("ignore")
        lstmstate.open_checkpoint(prefix).network().run(x)


def sentinel(tf: Any, x: Any, c: Any, m: Any, z: Any) -> tuple[Any, Any, Any]:
    """A state that restarts at one value of x, which no trial contains."""
    keep = tf.cast(tf.not_equal(x[:, :1], 7.0), tf.float32)
    return plain(tf, x, c * keep, m, z)


def blanked(tf: Any, x: Any, c: Any, m: Any, z: Any) -> tuple[Any, Any, Any]:
    m, c, _ = plain(tf, x, c, m, z)
    return m * tf.cast(x[:, :1] < 50.0, tf.float32), c, m


@pytest.mark.parametrize("step", [sentinel, blanked])
@pytest.mark.parametrize("loop", [True, False])
def test_a_step_that_compares_values_is_never_confirmed(
    step: Step, loop: bool, tmp_path: Path
) -> None:
    def unrolled(tf: Any, x: Any, state: Any) -> tuple[Any, Any]:
        outputs, last = tf.nn.static_rnn(
            user_cell(tf, step), tf.unstack(x, STEPS, axis=1), initial_state=state
        )
        return tf.stack(outputs, 1), last

    network = saved(tmp_path, in_loop(step) if loop else unrolled).network()
    with pytest.raises(UnsupportedError, match=r"compares? or rounds? values|differ"):
        network.load(RunOptions("numpy"))


def test_lengths_are_fed_if_the_graph_ends_sequences_itself(shell: Shell, tmp_path: Path) -> None:
    """The second layer continues from the last state of the first."""
    tf = tensorflow()
    x = np.random.default_rng(4).standard_normal((BATCH, STEPS, INPUTS)).astype("f4")
    lengths = np.array([5, 2, 1], "i4")
    with tf.Graph().as_default() as graph, new_session(tf, graph) as session:
        fed = tf.placeholder(tf.float32, [None, None, INPUTS], "x")
        given = tf.placeholder(tf.int32, [None], "lengths")
        value, states = fed, []
        for layer, ends in (("a", given), ("b", None)):
            with tf.variable_scope(layer):
                value, last = tf.nn.dynamic_rnn(
                    user_cell(tf, plain), value, sequence_length=ends, dtype=tf.float32
                )
            states += last
        session.run(tf.global_variables_initializer())
        expected = session.run([value, *states], {fed: x, given: lengths})
        prefix = tf.train.Saver().save(session, str(tmp_path / "model.ckpt"))
    files = {"x": tmp_path / "x.npy", "lengths": tmp_path / "lengths.npy"}
    np.save(files["x"], x)
    np.save(files["lengths"], lengths)
    network = lstmstate.open_checkpoint(prefix).network()
    assert network.load().confirmed
    words = "ends sequences of unlike lengths in its own way"
    given = ("run", prefix, files["x"], "--lengths", files["lengths"])
    assert words in shell(*given, "--engine", "numpy", code=3).err
    assert words in shell(*given).err
    exported = shell("export", prefix, "--to", "onnx", "-o", tmp_path / "lstm.onnx", code=3)
    assert words in exported.err
    for engine in ("auto", "graph"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outputs, state = network.run(x, lengths=lengths, engine=engine)
        assert_close([outputs, *(half for cell in state for half in cell)], expected)


@pytest.mark.parametrize("is_own", [True, False])
def test_a_fused_cell_with_its_own_lengths_is_refused(is_own: bool, tmp_path: Path) -> None:
    tf = tensorflow()
    with tf.Graph().as_default() as graph, new_session(tf, graph) as session:
        x = tf.placeholder(tf.float32, [None, BATCH, INPUTS], "x")
        kernel = tf.get_variable("lstm_fused_cell/kernel", [INPUTS + UNITS, 4 * UNITS])
        bias = tf.get_variable("lstm_fused_cell/bias", [4 * UNITS])
        steps = tf.shape(x, out_type=tf.int64)[0]
        zeros, none = tf.zeros([BATCH, UNITS]), tf.zeros([UNITS])
        tf.raw_ops.BlockLSTM(
            seq_len_max=tf.minimum(steps, 5) if is_own else steps,
            x=x, cs_prev=zeros, h_prev=zeros, w=kernel, wci=none, wcf=none, wco=none, b=bias,
        )  # fmt: skip
        session.run(tf.global_variables_initializer())
        prefix = tf.train.Saver().save(session, str(tmp_path / "model.ckpt"))
    network = lstmstate.open_checkpoint(prefix).network()
    if is_own:
        with pytest.raises(UnsupportedError, match="nor the maximum of fed lengths"):
            network.load()
    else:
        assert network.load().confirmed


@pytest.mark.parametrize(
    ("place", "is_read"),
    [
        (lambda tf, number: number, True),
        (lambda tf, number: tf.minimum(number, 3), False),
        (lambda tf, number: number % 4, False),
    ],
)
def test_a_sequence_read_in_part_is_run_as_the_graph_reads_it(
    place: Any, is_read: bool, tmp_path: Path
) -> None:
    def read(tf: Any, x: Any) -> Callable[[Any], Any]:
        element = out_of_an_array(tf, x)
        return lambda number: element(place(tf, number))

    loaded = saved(tmp_path, looped(read)).assert_loaded_run()
    assert loaded.engine == ("numpy" if is_read else "graph")
