"""Gates that are products, slices or parts of larger operations, and steps in parts."""

from __future__ import annotations

import itertools
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import writers
from commands import Array, Shell, checkpoint, numbers
from writers import (
    BATCH,
    INPUTS,
    STEPS,
    RNNCell,
    Tensor,
    TensorFlow,
    dynamic,
    inputs,
    only,
    opened,
    shown,
    static,
)

from lstmstate import CorruptError, LstmstateError, UnsupportedError
from lstmstate.cells import Cell, Option
from lstmstate.cells.cell import MIXED
from lstmstate.model.checkpoint import open_checkpoint

UNITS = 4
LOOPS = {"dynamic": dynamic, "static": static}
GATES = ("input", "forget", "cell", "output")
NOTHING_CLIPPED: dict[str, float | None] = {"cell_clip": None, "proj_clip": None}


# ---- TFLiteLSTMCell: a transposed matrix for each gate


def lite_cell(
    tf: TensorFlow,
    *,
    num_proj: int | None = None,
    use_peepholes: bool = False,
    cell_clip: float | None = None,
    proj_clip: float | None = None,
    activation: str = "tanh",
    state_is_tuple: bool = True,
) -> RNNCell:
    """Make a cell of the equations of TFLiteLSTMCell (1.13 to 1.15), under its names."""
    width = num_proj or UNITS
    act = writers.activation(tf, activation)

    class TFLiteLSTMCell(tf.nn.rnn_cell.RNNCell):  # type: ignore[misc]
        state_size = (
            tf.nn.rnn_cell.LSTMStateTuple(UNITS, width) if state_is_tuple else UNITS + width
        )
        output_size = width

        def call(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
            if state_is_tuple:
                c, m = state
            else:
                c = tf.slice(state, [0, 0], [-1, UNITS])
                m = tf.slice(state, [0, UNITS], [-1, width])
            # The class marks inputs and outputs for the converter, with Identity.
            x, c, m = (tf.identity(value) for value in (x, c, m))
            joined, z = tf.concat([x, m], 1), {}
            for gate in GATES:
                w = tf.get_variable(f"input_to_{gate}_w", [UNITS, INPUTS])
                u = tf.get_variable(f"cell_to_{gate}_w", [UNITS, width])
                both = tf.concat([tf.identity(w), tf.identity(u)], axis=1)
                product = tf.matmul(joined, both, transpose_b=True)
                z[gate] = tf.nn.bias_add(product, tf.get_variable(f"{gate}_bias", [UNITS]))
            diagonal = {
                gate: tf.get_variable(f"w_{gate}_diag", [UNITS]) if use_peepholes else None
                for gate in "ifo"
            }

            def squashed(gate: str, peeping: Tensor) -> Tensor:
                looks = diagonal[gate[0]]
                return tf.sigmoid(z[gate] if looks is None else z[gate] + looks * peeping)

            c = squashed("forget", c) * c + squashed("input", c) * act(z["cell"])
            if cell_clip is not None:
                c = tf.clip_by_value(c, -cell_clip, cell_clip)
            m = squashed("output", c) * act(c)
            if num_proj:
                projection = tf.get_variable("projection/kernel", [num_proj, UNITS])
                m = tf.matmul(m, tf.transpose(projection))
                if proj_clip is not None:
                    m = tf.clip_by_value(m, -proj_clip, proj_clip)
            c, m = tf.identity(c), tf.identity(m)
            new = tf.nn.rnn_cell.LSTMStateTuple(c, m) if state_is_tuple else tf.concat([c, m], 1)
            return m, new

    return TFLiteLSTMCell(name="tf_lite_lstm_cell")


def lite(loop: str = "dynamic", **options: Any) -> Cell:
    return only(writers.opened(lambda tf: LOOPS[loop](tf, lite_cell(tf, **options))))


@pytest.mark.parametrize(
    ("loop", "name"),
    [
        ("dynamic", "tanh"),
        ("static", "relu"),
        ("dynamic", "sigmoid"),
        ("static", "identity"),
        ("dynamic", "elu"),
        ("static", "softsign"),
    ],
)
def test_the_activation_of_a_cell_with_a_matrix_for_each_gate(loop: str, name: str) -> None:
    cell = lite(loop, activation=name)
    assert cell.family == "TFLiteLSTMCell"
    assert shown(cell, "activation", "cell_clip") == {"activation": name, "cell_clip": None}
    assert cell.options["recurrent_activation"] == Option("sigmoid", "family")
    assert cell.forget_bias.value == 0.0


@pytest.mark.parametrize(
    ("loop", "cell_clip", "proj_clip", "peepholes"),
    [
        ("dynamic", 0.4, 0.1, True),
        ("static", 0.4, 0.1, True),
        ("dynamic", 0.4, None, False),
        ("static", None, 0.1, True),
        ("dynamic", None, None, False),
    ],
)
def test_the_clips_of_a_cell_with_a_matrix_for_each_gate(
    loop: str, cell_clip: float | None, proj_clip: float | None, peepholes: bool
) -> None:
    clips = {"cell_clip": cell_clip, "proj_clip": proj_clip}
    cell = lite(loop, activation="relu", num_proj=2, use_peepholes=peepholes, **clips)
    assert shown(cell, *clips, "activation") == {**clips, "activation": "relu"}
    assert (cell.num_proj, cell.peepholes) == (2, peepholes)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("is_tuple", [True, False])
def test_the_state_of_a_cell_with_a_matrix_for_each_gate(loop: str, is_tuple: bool) -> None:
    cell = lite(loop, state_is_tuple=is_tuple, num_proj=2)
    assert shown(cell, "state_is_tuple") == {"state_is_tuple": is_tuple}


def test_a_cell_with_two_activations_has_an_unknown_one() -> None:
    """c has another activation than the new input: one name would be wrong for one of them."""
    names = itertools.cycle(["tanh", "relu"])

    def both(tf: TensorFlow) -> Any:
        return writers.activation(tf, next(names))

    cell = keras(parts_of_weights, split, both, named("hard_sigmoid"))
    assert cell.options["activation"] == Option(None, "unknown")
    assert shown(cell, "recurrent_activation") == {"recurrent_activation": "hard_sigmoid"}


def test_an_initial_state_from_a_product_is_not_a_gate() -> None:
    """An encoder often supplies the initial state, without activation, as the new input here."""

    def build(tf: TensorFlow) -> None:
        seen = tf.placeholder(tf.float32, [BATCH, 3])
        first = [tf.matmul(seen, tf.get_variable(f"w{k}", [3, UNITS])) for k in (0, 1)]
        cell = lite_cell(tf, cell_clip=0.4, activation="identity")
        static(tf, cell, initial_state=tf.nn.rnn_cell.LSTMStateTuple(*first))

    cell = only(writers.opened(build))
    assert shown(cell, "cell_clip", "activation") == {"cell_clip": 0.4, "activation": "identity"}


@pytest.mark.parametrize("loop", LOOPS)
def test_gradients_of_separate_products_change_nothing(loop: str) -> None:
    def build(tf: TensorFlow) -> None:
        outputs, _ = LOOPS[loop](tf, lite_cell(tf, cell_clip=0.4, activation="relu"))
        tf.train.AdamOptimizer(0.1).minimize(tf.reduce_sum(outputs[-1]))

    cell = only(writers.opened(build))
    assert shown(cell, "cell_clip", "activation") == {"cell_clip": 0.4, "activation": "relu"}


def test_names_of_nodes_do_not_matter(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "cell_clip": 0.4,
        "proj_clip": 0.1,
        "activation": "relu",
        "state_is_tuple": False,
    }

    def build(tf: TensorFlow) -> None:
        dynamic(tf, lite_cell(tf, num_proj=2, use_peepholes=True, **options))

    prefix = writers.save(tmp_path, build)
    for seed in range(3):
        writers.edit_graph(prefix, partial(writers.rename_nodes, seed=seed))
        assert shown(only(open_checkpoint(prefix)), *options) == options


# ---- Keras LSTM: slices of two kernels, or of their product


def sliced(tf: TensorFlow, whole: Tensor, at: int) -> Tensor:
    """Return the columns of a gate, as tf.keras 1.2 to 1.12 took them."""
    return whole[:, UNITS * at : UNITS * (at + 1)]


def split(tf: TensorFlow, whole: Tensor, at: int) -> Tensor:
    """Return the columns of a gate, as tf.keras did from 1.13 on."""
    return tf.split(whole, 4, 1)[at]


def parts_of_weights(
    tf: TensorFlow, x: Tensor, m: Tensor, kernel: Tensor, recurrent: Tensor, cut: Any
) -> list[Tensor]:
    """Return the inputs of the gates in implementation 1."""
    return [
        tf.matmul(x, cut(tf, kernel, at)) + tf.matmul(m, cut(tf, recurrent, at)) for at in range(4)
    ]


def parts_of_the_recurrent_kernel(
    tf: TensorFlow, x: Tensor, m: Tensor, kernel: Tensor, recurrent: Tensor, cut: Any
) -> list[Tensor]:
    """Return the same for implementation 0: all inputs were multiplied before the loop."""
    done = tf.placeholder(tf.float32, [BATCH, 4 * UNITS])
    one = tf.constant(1.0)  # the mask of a dropout that does not exist
    return [cut(tf, done, at) + tf.matmul(m * one, cut(tf, recurrent, at)) for at in range(4)]


def parts_of_a_product(
    tf: TensorFlow, x: Tensor, m: Tensor, kernel: Tensor, recurrent: Tensor, cut: Any
) -> list[Tensor]:
    """Return the same for implementation 2."""
    z = tf.matmul(x, kernel) + tf.matmul(m, recurrent)
    return [cut(tf, z, at) for at in range(4)]


PARTS = (parts_of_weights, parts_of_the_recurrent_kernel, parts_of_a_product)


def keras(parts: Any, cut: Any, act: Any, recurrent_act: Any, forget_bias: float = 0.0) -> Cell:
    """Step a user-written cell with the equations of tf.keras' LSTM over a few steps."""

    def build(tf: TensorFlow) -> None:
        kernel = tf.get_variable("lstm/kernel", [INPUTS, 4 * UNITS])
        recurrent = tf.get_variable("lstm/recurrent_kernel", [UNITS, 4 * UNITS])
        c = m = tf.zeros([BATCH, UNITS])
        for x in tf.unstack(writers.inputs(tf, batch=BATCH, steps=STEPS), axis=1):
            i, f, j, o = parts(tf, x, m, kernel, recurrent, cut)
            if forget_bias:
                f = f + forget_bias
            squash = recurrent_act(tf)
            c = squash(f) * c + squash(i) * act(tf)(j)
            m = squash(o) * act(tf)(c)

    return only(writers.opened(build))


def named(name: str) -> Any:
    return lambda tf: tf.identity if name == "identity" else getattr(tf.keras.activations, name)


@pytest.mark.parametrize(
    ("parts", "cut", "function", "recurrent"),
    [
        *[(parts, cut, "tanh", "hard_sigmoid") for parts in PARTS for cut in (sliced, split)],
        (parts_of_weights, sliced, "tanh", "sigmoid"),
        (parts_of_the_recurrent_kernel, split, "hard_sigmoid", "hard_sigmoid"),
        (parts_of_a_product, sliced, "hard_sigmoid", "sigmoid"),
        (parts_of_weights, split, "relu", "tanh"),
        (parts_of_the_recurrent_kernel, sliced, "identity", "identity"),
        (parts_of_a_product, split, "softplus", "relu"),
    ],
)
def test_keras_gates_are_slices_of_products(
    parts: Any, cut: Any, function: str, recurrent: str
) -> None:
    cell = keras(parts, cut, named(function), named(recurrent))
    expected = {"activation": function, "recurrent_activation": recurrent, **NOTHING_CLIPPED}
    assert shown(cell, *expected) == expected
    assert (cell.family, cell.gate_order, cell.notes) == ("Keras LSTM", "ifjo", ())
    assert cell.forget_bias.value == 0.0


def test_a_constant_added_to_the_forget_gate_is_reported() -> None:
    cell = keras(parts_of_weights, split, named("tanh"), named("hard_sigmoid"), forget_bias=0.3)
    assert cell.forget_bias == Option(0.3, "graph")


def test_activations_that_no_class_mixes_are_unknown() -> None:
    """The gates have different activations: none is reported, and no default either."""
    names = itertools.cycle(["relu", "sigmoid", "elu"])

    def mixed(tf: TensorFlow) -> Any:
        def squash(x: Tensor) -> Tensor:
            return named(next(names))(tf)(x)

        return squash

    cell = keras(parts_of_weights, split, named("tanh"), mixed)
    assert cell.options["recurrent_activation"] == Option(None, "unknown")


def test_a_step_without_an_output_is_not_a_cell() -> None:
    """Without o * act(c) a sum of gated products could be anything."""

    def build(tf: TensorFlow) -> None:
        kernel = tf.get_variable("lstm/kernel", [INPUTS, 4 * UNITS])
        recurrent = tf.get_variable("lstm/recurrent_kernel", [UNITS, 4 * UNITS])
        x = tf.placeholder(tf.float32, [BATCH, INPUTS])
        m = tf.placeholder(tf.float32, [BATCH, UNITS])
        i, f, j, _ = parts_of_weights(tf, x, m, kernel, recurrent, split)
        tf.tanh(tf.sigmoid(f) * m + tf.sigmoid(i) * tf.tanh(j))

    cell = only(writers.opened(build))
    assert cell.options["activation"] == Option(None, "unknown")
    assert cell.options["recurrent_activation"] == Option(None, "unknown")


# ---- the order of rows in the kernel


@pytest.mark.parametrize("m_first", [False, True])
def test_the_order_of_rows_in_the_kernel(m_first: bool) -> None:
    def build(tf: TensorFlow) -> None:
        kernel, bias = (
            tf.get_variable("kernel", [INPUTS + UNITS, 4 * UNITS]),
            tf.get_variable("bias", [4 * UNITS]),
        )
        c = m = tf.zeros([BATCH, UNITS])
        for x in tf.unstack(writers.inputs(tf, batch=BATCH, steps=STEPS), axis=1):
            joined = tf.concat([m, x] if m_first else [x, m], 1)
            i, j, f, o = tf.split(tf.nn.bias_add(tf.matmul(joined, kernel), bias), 4, 1)
            c = c * tf.sigmoid(f + 1.0) + tf.sigmoid(i) * tf.tanh(j)
            m = tf.tanh(c) * tf.sigmoid(o)

    cell = only(writers.opened(build))
    assert cell.extra == ({"m_first": True} if m_first else {})
    assert bool(cell.notes) == m_first


# ---- cells with a missing or unexpected part, which are not run as another cell


I, H = 3, 4  # noqa: E741 - the letters of the facts


def norms(scope: str, gates: str = "input transform forget output state") -> dict[str, Array]:
    """Return the variables of layer norms."""
    return {
        f"{scope}/{gate}/{part}": numbers(H).astype("f4")
        for gate in gates.split()
        for part in ("gamma", "beta")
    }


def core(scope: str, **more: Array) -> dict[str, Array]:
    """Return the variables of a cell with one kernel, and further ones."""
    leaves = {"kernel": numbers(I + H, 4 * H), "bias": numbers(4 * H), **more}
    return {f"{scope}/{leaf}": value.astype("f4") for leaf, value in leaves.items()}


WEIGHT_NORM, LAYER_NORM = "rnn/wn_lstm_cell/wn_lstm_cell", "rnn/layer_norm_lstm_cell"
DIAGONALS = {f"w_{gate}_diag": numbers(H) for gate in "ifo"}
WHOLE: dict[str, dict[str, Array]] = {
    "peepholes": core("rnn/lstm_cell", **DIAGONALS),
    "norms": core(LAYER_NORM) | norms(LAYER_NORM),
    "weight norm": core(WEIGHT_NORM, norm_0=numbers(4 * H), norm_1=numbers(4 * H)),
    "mask": core("rnn/masked_lstm_cell", mask=numbers(I + H, 4 * H)),
}
MISSING = [
    ("peepholes", "w_i_diag"),
    ("norms", "forget/gamma"),
    ("norms", "state/beta"),
    ("weight norm", "norm_1"),
]


def run(folder: Path, variables: dict[str, Array], *flags: str) -> Any:
    """Run the only cell of a checkpoint with `--strict` and all options passed."""
    options = {"forget_bias": 1.0, "cell_clip": None, "activation": "tanh"}
    network = open_checkpoint(checkpoint(folder / "x.ckpt", variables)).network()
    return network.run(numbers(2, 5, I), **options)


@pytest.mark.parametrize("kind", WHOLE)
def test_cells_that_are_whole_are_run(kind: str, tmp_path: Path) -> None:
    assert run(tmp_path, WHOLE[kind])[0].shape == (2, 5, H)


@pytest.mark.parametrize(("kind", "leaf"), MISSING)
def test_a_missing_part_is_an_error_or_a_note(kind: str, leaf: str, tmp_path: Path) -> None:
    variables = {name: v for name, v in WHOLE[kind].items() if not name.endswith(leaf)}
    assert len(variables) == len(WHOLE[kind]) - 1
    if kind == "weight norm":  # its class has a form without norms
        with pytest.warns(UserWarning, match=r"that were not recognised: norm_0"):
            run(tmp_path, variables)
    else:
        with pytest.raises(CorruptError, match=f"it has no {leaf}"):
            run(tmp_path, variables)


@pytest.mark.parametrize(
    ("kind", "leaf", "value"),
    [
        ("peepholes", "w_f_diag", numbers(H).astype("c8")),
        ("peepholes", "bias", numbers(4 * H).astype("c8")),
        ("peepholes", "bias", numbers(4 * H).astype("i4")),
        ("norms", "forget/gamma", numbers(H).astype("c8")),
        ("weight norm", "norm_0", numbers(4 * H).astype("i8")),
        ("mask", "mask", numbers(I + H, 4 * H).astype("c8")),
    ],
)
def test_parts_without_real_numbers_are_refused(
    kind: str, leaf: str, value: Array, tmp_path: Path
) -> None:
    (name,) = (name for name in WHOLE[kind] if name.endswith(leaf))
    with pytest.raises(LstmstateError):
        run(tmp_path, WHOLE[kind] | {name: value})


def test_groups_too_large_for_memory_are_refused(tmp_path: Path) -> None:
    """One small kernel shared by all groups declares a matrix of many gigabytes."""
    groups = 20_000
    bias = {f"rnn/glstm_cell/bias_{gate}": np.zeros(groups, "f4") for gate in "ijfo"}
    variables = {"rnn/glstm_cell/group0/kernel": np.zeros((2, 4), "f4"), **bias}
    network = open_checkpoint(checkpoint(tmp_path / "x.ckpt", variables)).network()
    with pytest.raises(UnsupportedError, match="groups are run as one matrix"):
        network.load()


# ---- wrappers and clips


def _clipped(tf: TensorFlow, low: float, high: float) -> None:
    """Step a user-written cell that clips c as no class of TensorFlow does."""
    with tf.variable_scope("rnn/lstm_cell"):
        kernel = tf.get_variable("kernel", [INPUTS + H, 4 * H])
        bias = tf.get_variable("bias", [4 * H])
    c = m = tf.zeros([BATCH, H])
    for x in tf.unstack(inputs(tf, batch=BATCH, steps=2), axis=1):
        z = tf.nn.bias_add(tf.matmul(tf.concat([x, m], 1), kernel), bias)
        i, j, f, o = tf.split(z, 4, 1)
        c = c * tf.sigmoid(f + 1.0) + tf.sigmoid(i) * tf.tanh(j)
        c = tf.maximum(tf.minimum(c, high), low)
        m = tf.tanh(c) * tf.sigmoid(o)


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ((-0.5, 0.5), Option(0.5, "graph")),
        ((-5.0, 0.25), Option()),
        ((-1.0, 3.0), Option()),
        ((1.0, -1.0), Option()),
    ],
)
def test_a_clip_inside_a_cell_is_reported(bounds: tuple[float, float], expected: Option) -> None:
    found = only(opened(lambda tf: _clipped(tf, *bounds)))
    assert found.options["cell_clip"] == expected


def _zoneout(tf: TensorFlow, written: str) -> None:
    """Wrap a cell so that a part of its old state is kept."""

    inner = tf.nn.rnn_cell.LSTMCell(H)

    class Zoneout(tf.nn.rnn_cell.RNNCell):  # type: ignore[misc, name-defined]
        state_size, output_size = inner.state_size, H

        def call(self, x: Any, state: Any) -> Any:
            output, (c, m) = inner(x, state)
            if written == "shares":
                c, m = 0.9 * c + 0.1 * state.c, 0.9 * m + 0.1 * state.h
            else:
                c, m = 0.9 * (c - state.c) + state.c, 0.9 * (m - state.h) + state.h
            return output, tf.nn.rnn_cell.LSTMStateTuple(c, m)

    dynamic(tf, Zoneout())


@pytest.mark.parametrize("written", ["shares", "difference"])
def test_zoneout_is_reported(written: str, shell: Shell, tmp_path: Path) -> None:
    cell = only(opened(lambda tf: _zoneout(tf, written)))
    assert MIXED in cell.notes
    prefix = writers.save(tmp_path, lambda tf: _zoneout(tf, written))
    np.save(tmp_path / "x.npy", numbers(2, 5, INPUTS))
    document = shell.json("run", prefix, tmp_path / "x.npy")
    assert (document["engine"], document["confirmed"]) == ("graph", None)
    assert shell("run", "--engine", "numpy", prefix, tmp_path / "x.npy").code == 3


def test_an_unchanged_state_is_not_zoneout() -> None:
    cells = opened(lambda tf: dynamic(tf, tf.nn.rnn_cell.LSTMCell(H, use_peepholes=True))).cells
    assert [cell.notes for cell in cells.values()] == [()]
