"""Recurrences of no known family, stacks that only the graph shows, and cells of odd shapes."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any

import pytest
import writers
from commands import Shell
from writers import BATCH, INPUTS, STEPS, TensorFlow, cells, dynamic, inputs, lstm, opened

from lstmstate.cells import Stack
from lstmstate.cells.detect import two_kernels
from lstmstate.model.checkpoint import LSTMCheckpoint

UNITS = 4

# ---- recurrences


def gates_apart(tf: TensorFlow, x: Any, state: Any) -> tuple[Any, Any]:
    """A step with separate matrices and biases for each gate, as users write it."""

    def gate(name: str) -> Any:
        wx, wm = (
            tf.get_variable(f"x{name}", [INPUTS, UNITS]),
            tf.get_variable(f"m{name}", [UNITS] * 2),
        )
        return tf.matmul(x, wx) + tf.matmul(state.h, wm) + tf.get_variable(f"b{name}", [UNITS])

    c = tf.sigmoid(gate("f")) * state.c + tf.sigmoid(gate("i")) * tf.tanh(gate("j"))
    return c, tf.sigmoid(gate("o")) * tf.tanh(c)


def user_cell(tf: TensorFlow, step: Any = gates_apart) -> Any:
    class Cell(tf.nn.rnn_cell.RNNCell):  # type: ignore[misc, name-defined]
        state_size = tf.nn.rnn_cell.LSTMStateTuple(UNITS, UNITS)
        output_size = UNITS

        def call(self, x: Any, state: Any) -> Any:
            c, m = step(tf, x, state)
            return m, tf.nn.rnn_cell.LSTMStateTuple(c, m)

    return Cell(name="mine")


def gru(tf: TensorFlow) -> Any:
    return tf.nn.rnn_cell.GRUCell(UNITS)


def saved(folder: Path, build: Any) -> str:
    return writers.save(folder, build)


def test_a_cell_that_a_user_wrote_is_listed_with_its_state(shell: Shell, tmp_path: Path) -> None:
    path = saved(tmp_path, lambda tf: dynamic(tf, user_cell(tf)))
    document = shell.json("inspect", path)
    assert document["cells"] == []
    assert document["recurrences"] == ["rnn/while/while_context"]
    (found,) = document["unrecognised"]["cells"]
    assert found == {
        "name": "rnn/mine",
        "state": {"c": 4, "m": 4, "flat": 8},
        "flat_columns": {"c": [0, 4], "m": [4, 8]},
    }
    lines = shell("inspect", "-q", path).out.splitlines()
    assert "1 recurrence not recognised as an LSTM, which `run --engine graph` runs" in lines
    assert lines[-1].split() == "rnn/mine c [B, 4], m [B, 4] [B, 8] c 0:4 m 4:8".split()


def test_a_recurrence_next_to_a_known_cell_is_counted(shell: Shell, tmp_path: Path) -> None:
    def build(tf: TensorFlow) -> None:
        x = inputs(tf)
        dynamic(tf, tf.nn.rnn_cell.LSTMCell(UNITS), x, scope="known")
        dynamic(tf, gru(tf), x, scope="other")

    path = saved(tmp_path, build)
    document = shell.json("inspect", path)
    assert [cell["name"] for cell in document["cells"]] == ["known/lstm_cell"]
    assert (document["recurrences"], document["unrecognised"]) == (
        ["other/while/while_context"],
        None,
    )
    line = "1 recurrence not recognised as an LSTM: other/while/while_context"
    assert line in shell("inspect", "-q", path).out.splitlines()


def test_the_number_of_cells_is_unknown_if_a_recurrence_may_be_one(
    shell: Shell, tmp_path: Path
) -> None:
    def build(tf: TensorFlow) -> None:
        x = inputs(tf)
        dynamic(tf, tf.nn.rnn_cell.LSTMCell(UNITS), x, scope="known")
        dynamic(tf, gru(tf), x, scope="other")

    both = saved(tmp_path / "both", build)
    alone = saved(tmp_path / "alone", lambda tf: dynamic(tf, user_cell(tf)))
    unknown = "how many cells it has is unknown: 1 recurrence not recognised as an LSTM"
    for path, number, problem in (
        (both, 1, unknown),
        (alone, 0, unknown),
        (alone, 1, "it has 0 cells, not 1"),
    ):
        done = shell("check", "-q", path, "--cells", str(number), code=1)
        assert done.out == f"{path}: --cells {number}: {problem}\n"
    assert shell("check", "-q", both, "--cells", "1", "--cell", "known/lstm_cell").code == 0


@pytest.mark.parametrize("loop", [dynamic, writers.static])
def test_another_recurrence_does_not_prove_that_there_is_no_cell(loop: Any) -> None:
    ckpt = opened(lambda tf: loop(tf, gru(tf)))
    assert (ckpt.cells, ckpt.has_no_cell) == ({}, False)
    assert "not recognised as" in ckpt.no_cells


def weights_used_twice(tf: TensorFlow) -> Any:
    kernel = tf.get_variable("kernel", [INPUTS, UNITS])
    return [tf.matmul(x, kernel) for x in tf.unstack(inputs(tf, batch=BATCH, steps=STEPS), axis=1)]


def mapped(tf: TensorFlow) -> Any:
    kernel = tf.get_variable("kernel", [INPUTS, UNITS])
    return tf.map_fn(lambda x: tf.matmul(x, kernel), inputs(tf))


@pytest.mark.parametrize("build", [weights_used_twice, mapped])
def test_loops_without_a_state_are_not_recurrences(
    build: Any, shell: Shell, tmp_path: Path
) -> None:
    assert opened(build).no_cells == "there is no LSTM cell in it"
    out = shell("inspect", "-q", saved(tmp_path, build)).out
    assert out.splitlines()[-1] == "No LSTM cell in it."


def test_the_loop_of_a_gradient_is_not_a_recurrence(tmp_path: Path) -> None:
    def build(tf: TensorFlow) -> None:
        outputs, _ = dynamic(tf, tf.nn.rnn_cell.LSTMCell(UNITS))
        tf.train.AdamOptimizer().minimize(tf.reduce_sum(outputs))

    assert opened(build).recurrences == ()


# ---- stacks


def stacks(ckpt: LSTMCheckpoint) -> list[tuple[str, list[str]]]:
    def names(stack: Stack) -> list[str]:
        return [cell.name for layer in stack.layers for cell in layer]

    return [(stack.name, names(stack)) for stack in ckpt.stacks.values()]


def lstm_cell(tf: TensorFlow, units: int = UNITS) -> Any:
    return tf.nn.rnn_cell.LSTMCell(units)


def layers(between: Any = None, functional: bool = False) -> LSTMCheckpoint:
    """Return two layers in separate loops, with or without an operation between them."""

    def build(tf: TensorFlow) -> None:
        x, _ = dynamic(tf, lstm_cell(tf), scope="net/first")
        x = x if between is None else between(tf, x)
        dynamic(tf, lstm_cell(tf, 5), x, scope="net/second")

    return opened(build, functional=functional)


@pytest.mark.parametrize("functional", [False, True])
def test_layers_in_separate_loops_are_a_stack(functional: bool) -> None:
    ckpt = layers(functional=functional)
    assert stacks(ckpt) == [("net", ["net/first/lstm_cell", "net/second/lstm_cell"])]
    assert ckpt.network().route.name == "net"
    assert next(iter(ckpt.stacks.values())).flat == 18


@pytest.mark.parametrize(
    "between",
    [
        lambda tf, x: tf.nn.relu(x),
        lambda tf, x: x + 1.0,
        lambda tf, x: tf.reverse(x, [1]),
        lambda tf, x: tf.concat([x, x], 2),
    ],
)
def test_layers_with_an_operation_between_them_are_not_a_stack(between: Any) -> None:
    assert stacks(layers(between)) == []


def test_layers_without_loops_are_a_stack() -> None:
    def build(tf: TensorFlow) -> None:
        steps = tf.unstack(inputs(tf, batch=BATCH, steps=STEPS), axis=1)
        steps, _ = tf.nn.static_rnn(lstm_cell(tf), steps, dtype=tf.float32, scope="a")
        tf.nn.static_rnn(lstm_cell(tf), steps, dtype=tf.float32, scope="b")

    assert stacks(opened(build)) == [("a/lstm_cell", ["a/lstm_cell", "b/lstm_cell"])]


def test_unnumbered_cells_of_one_loop_are_a_stack() -> None:
    """As in Sonnet's DeepRNN."""

    def build(tf: TensorFlow) -> None:
        class Deep(tf.nn.rnn_cell.RNNCell):  # type: ignore[misc, name-defined]
            parts = [lstm_cell(tf), lstm_cell(tf, 6)]  # noqa: RUF012
            state_size = tuple(part.state_size for part in parts)
            output_size = 6

            def call(self, x: Any, state: Any) -> Any:
                made = []
                for name, part, old in zip("ba", self.parts, state, strict=True):
                    with tf.variable_scope(name):
                        x, new = part(x, old)
                    made.append(new)
                return x, tuple(made)

        dynamic(tf, Deep(name="deep"))

    (found,) = stacks(opened(build))
    assert [name.split("/")[-2] for name in found[1]] == ["b", "a"]


def test_a_layer_that_feeds_two_others_is_in_no_stack() -> None:
    def build(tf: TensorFlow) -> None:
        x, _ = dynamic(tf, lstm_cell(tf), scope="first")
        for name in ("left", "right"):
            dynamic(tf, lstm_cell(tf), x, scope=name)

    assert stacks(opened(build)) == []


# ---- odd shapes

GOOD = lstm("good/lstm_cell")
ODD = {
    "a scalar in the place of lingvo's kernel": {"lstm/wm/var": (), "lstm/b/var": (0,)},
    "a kernel of one axis": {"rnn/lstm_cell/kernel": (28,), "rnn/lstm_cell/bias": (16,)},
    "a bias without numbers": {"rnn/lstm_cell/kernel": (7, 16), "rnn/lstm_cell/bias": ()},
    "a kernel of no columns": {"rnn/lstm_cell/kernel": (7, 0), "rnn/lstm_cell/bias": (0,)},
    "an empty peephole": {**lstm("rnn/lstm_cell"), "rnn/lstm_cell/w_i_diag": ()},
}


@pytest.mark.parametrize("case", ODD)
def test_a_cell_of_odd_shapes_does_not_hide_the_others(case: str) -> None:
    assert "good/lstm_cell" in cells(GOOD | ODD[case])


def test_two_kernels_are_not_a_cell_unless_both_are_matrices() -> None:
    whole, odd = (
        writers.variables({name: shape})[0] for name, shape in (("a", (3, 16)), ("b", ()))
    )
    assert two_kernels([(whole,), (odd,)], ()) == {}
    assert two_kernels([(odd,), (whole,)], ()) == {}


def test_unusual_shapes_do_not_stop_recognition() -> None:
    """Variables of all families, with missing, swapped, added or resized axes."""
    draw = random.Random(0)
    families = [
        writers.below("x", dict(zip(leaves, shapes, strict=True)))
        for leaves, shapes in (
            (("wm/var", "b/var", "ln_scale/var"), ((7, 16), (32,), (16,))),
            (("kernel", "recurrent_kernel", "bias"), ((3, 16), (4, 16), (32,))),
            (
                ("w_gates", "b_gates", "w_i_diag", "w_f_diag", "w_o_diag"),
                ((7, 16), (16,), (4,), (4,), (4,)),
            ),
            (("wx", "wh", "b", "gx", "bx"), ((3, 16), (4, 16), (16,), (16,), (16,))),
            (
                ("kernel_0", "kernel_1", "bias_i", "bias_j", "bias_f", "bias_o"),
                ((5, 8), (5, 8), (4,), (4,), (4,), (4,)),
            ),
            (("W_0", "W_1", "B", "W_P_0"), ((4, 16), (4, 16), (16,), (4, 2))),
        )
    ]
    for shapes in itertools.chain.from_iterable([families] * 60):
        for scope in ("lstm", "rnn/lstm_cell", "rnn/glstm_cell", "net/lstm1"):
            odd = {name.replace("x", scope, 1): _odd(draw, shape) for name, shape in shapes.items()}
            assert "good/lstm_cell" in cells(GOOD | odd)


def _odd(draw: random.Random, shape: tuple[int, ...]) -> tuple[int, ...]:
    changes = (
        shape,
        (),
        shape[1:],
        shape[::-1],
        (*shape, draw.choice((0, 1, 4))),
        tuple(draw.choice((0, 1, size, 10**6)) for size in shape),
    )
    return draw.choice(changes)
