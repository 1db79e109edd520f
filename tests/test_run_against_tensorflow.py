"""Cells that TensorFlow steps, and the same cells of this package."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from oracle import BATCH, INPUTS, STEPS, Case, assert_alike, differences, noise, renamed
from writers import RNNCell, Tensor, TensorFlow, activation, as_in_1_x, new_session, tensorflow

from lstmstate.cells.activations import ACTIVATIONS
from lstmstate.engines.numpy_functions import function

Drawn = dict[str, Any]
Factors = Mapping[str, Sequence[Any]]

# ---- names of older releases

_MIDDLE = {"kernel": "weights", "bias": "biases"}
_OLD = {
    "rnn/multi_rnn_cell/cell_": "RNN/MultiRNNCell/Cell",
    "rnn/": "RNN/",
    "basic_lstm_cell/kernel": "BasicLSTMCell/Linear/Matrix",
    "basic_lstm_cell/bias": "BasicLSTMCell/Linear/Bias",
    "basic_lstm_cell": "BasicLSTMCell",
    "lstm_cell": "LSTMCell",
    "projection/kernel/part_": "W_P_",
    "projection/kernel": "W_P_0",
    "kernel/part_": "W_",
    "kernel": "W_0",
    "bias": "B",
    "w_f_diag": "W_F_diag",
    "w_i_diag": "W_I_diag",
    "w_o_diag": "W_O_diag",
}
WORDS: dict[str, dict[str, str]] = {
    "1.2": {}, "1.0": _MIDDLE, "0.12": _OLD, "0.9": _OLD, "0.6": _OLD,
}  # fmt: skip

# ---- cases from the product of all options

COMMON: Factors = {
    "activation": ["tanh", "relu", "sigmoid", "identity"],
    "forget_bias": [1.0, 0.0, -0.5],
    "is_tuple": [True, False],
    "dtype": ["float16", "float32", "float64"],
    "static": [False, True],
    "lengths": [False, True],
    "start": [False, True],
    "names": list(WORDS),
}
FACTORS: dict[str, Factors] = {
    "BasicLSTMCell": COMMON,
    "LSTMCell": {
        **COMMON,
        "peepholes": [False, True],
        "proj": [None, 4],
        "cell_clip": [None, 0.3],
        "proj_clip": [None, 0.1],
        "shards": [None, 3],
    },
}


def pairs(row: Drawn) -> set[Any]:
    """Return all pairs of choices in a case."""
    return set(itertools.combinations(sorted((name, str(v)) for name, v in row.items()), 2))


def drawn(kind: str, rng: random.Random) -> Drawn:
    return {name: rng.choice(choices) for name, choices in FACTORS[kind].items()}


def all_pairs(kind: str) -> list[Drawn]:
    """Return cases that combine every choice with every other."""
    rng = random.Random(kind)
    missing = set().union(*(pairs(drawn(kind, rng)) for _ in range(500)))
    found = []
    while missing:
        best = max((drawn(kind, rng) for _ in range(60)), key=lambda row: len(pairs(row) & missing))
        missing -= pairs(best)
        found.append(best)
    return [{"kind": kind, **row} for row in found]


CASES = [*all_pairs("LSTMCell"), *all_pairs("BasicLSTMCell")]
CHUNK = 10
FEW_STEPS = 4  # for a cell that is copied for each of them


def partitioner(names: str) -> Any:
    """Split matrices by columns as in 0.6; later releases of LSTMCell split them by rows."""
    if names != "0.6":
        return None
    return lambda shape, dtype: [1, 2] if shape.ndims == 2 else [1]


def arguments(row: Drawn) -> Drawn:
    """Return the arguments of the constructor of a cell."""
    found = {"forget_bias": row["forget_bias"], "state_is_tuple": row["is_tuple"]}
    if row["kind"] == "LSTMCell":
        found |= {
            "use_peepholes": row["peepholes"],
            "cell_clip": row["cell_clip"],
            "num_proj": row["proj"],
            "proj_clip": row["proj_clip"],
        }
        if row["names"] != "0.6":
            found |= {"num_unit_shards": row["shards"], "num_proj_shards": row["shards"]}
    return found


def cell_of(tf: TensorFlow, row: Drawn, units: int) -> RNNCell:
    named = {"relu": tf.nn.relu, "identity": tf.identity, "sigmoid": tf.sigmoid, "tanh": tf.tanh}
    return getattr(tf.nn.rnn_cell, row["kind"])(
        units,
        activation=named[row["activation"]],
        dtype=tf.as_dtype(row["dtype"]),
        **arguments(row),
    )


def halves(tf: TensorFlow, state: Any, units: int) -> tuple[Tensor, Tensor]:
    """Return c and m of a state that is a tuple or flat."""
    return state if isinstance(state, tuple) else (state[:, :units], state[:, units:])


def stepped(row: Drawn, tf: TensorFlow, place: str) -> Case:
    """Step a cell with the choices in a row."""
    units, dtype = 6, row["dtype"]
    width = row.get("proj") or units
    steps = row.get("steps", FEW_STEPS if row["static"] else STEPS)
    x = noise(f"{place} {row}", (BATCH, steps, INPUTS), dtype, 2.0)
    lengths = np.array([steps, 0, steps // 2 + 1]) if row["lengths"] else None
    start = None
    if row["start"]:
        start = [(noise(f"c {row}", (BATCH, units), dtype), noise("m", (BATCH, width), dtype))]
    with tf.variable_scope(tf.get_variable_scope(), partitioner=partitioner(row["names"])):
        cell = cell_of(tf, row, units)
        first: Any = None
        if start and row["is_tuple"]:
            first = tf.nn.rnn_cell.LSTMStateTuple(*map(tf.constant, start[0]))
        elif start:
            first = tf.constant(np.concatenate(start[0], 1))
        given = {"initial_state": first, "sequence_length": lengths, "dtype": tf.as_dtype(dtype)}
        if row["static"]:
            outputs, last = tf.nn.static_rnn(cell, tf.unstack(tf.constant(x), axis=1), **given)
            outputs = tf.stack(outputs, 1)
        else:
            outputs, last = tf.nn.dynamic_rnn(cell, tf.constant(x), **given)
    is_bounded = row["activation"] in ("tanh", "sigmoid")
    return Case(
        place, x, outputs, [halves(tf, last, units)], start, lengths,
        words=WORDS[row["names"]], scale=0.5 if is_bounded else 0.35,
    )  # fmt: skip


@pytest.mark.parametrize("first", range(0, len(CASES), CHUNK))
def test_core_cells_with_all_pairs_of_options_agree(tmp_path: Path, first: int) -> None:
    builds = [partial(stepped, row) for row in CASES[first : first + CHUNK]]
    assert_alike(tmp_path, builds, v1=first // CHUNK % 2 == 1)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_cell_copied_for_each_of_fifty_steps_agrees(tmp_path: Path, dtype: str) -> None:
    row = drawn("LSTMCell", random.Random(1)) | {"kind": "LSTMCell", "dtype": dtype}
    row |= {"static": True, "steps": STEPS, "lengths": False}
    assert_alike(tmp_path, [partial(stepped, row)])


def test_float16_is_rounded_where_tensorflow_rounds(tmp_path: Path) -> None:
    """Most cells agree to the bit over fifty steps; in others the order of a sum breaks a tie."""
    rows = [{**row, "dtype": "float16", "static": False} for row in CASES[:10]]
    found = differences(tmp_path, [partial(stepped, row) for row in rows])
    assert sum(ratio == 0 for ratio in found.values()) >= len(rows) // 2, found


# ---- layers and directions

# Different cells that feed one another: their widths, and the arguments of their classes.
UNLIKE: list[tuple[str, int, Drawn]] = [
    ("LSTMCell", 6, {"num_proj": 4, "use_peepholes": True, "proj_clip": 0.3}),
    ("BasicLSTMCell", 5, {"forget_bias": 0.0}),
    ("LSTMCell", 3, {"cell_clip": 0.4, "forget_bias": -0.5}),
]


def stack_of(tf: TensorFlow, dtype: str, is_tuple: bool = True) -> RNNCell:
    cells = [
        getattr(tf.nn.rnn_cell, kind)(
            units, state_is_tuple=is_tuple, dtype=tf.as_dtype(dtype), **given
        )
        for kind, units, given in UNLIKE
    ]
    return tf.nn.rnn_cell.MultiRNNCell(cells, state_is_tuple=is_tuple)


def in_stack(scope: str) -> list[str]:
    words = {"LSTMCell": "lstm_cell", "BasicLSTMCell": "basic_lstm_cell"}
    return [f"{scope}/multi_rnn_cell/cell_{k}/{words[kind]}" for k, (kind, *_) in enumerate(UNLIKE)]


def parted(state: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return c and m of every cell from a flat state of the different cells."""
    found, at = [], 0
    for _, c, given in UNLIKE:
        m = given.get("num_proj", c)
        found.append((state[:, at : at + c], state[:, at + c : at + c + m]))
        at += c + m
    return found


def stack(
    dtype: str, is_tuple: bool, words: str, lengths: bool, tf: TensorFlow, place: str
) -> Case:
    x = noise(place, (BATCH, STEPS, INPUTS), dtype, 2.0)
    given: Drawn = {"sequence_length": np.array([0, STEPS, 21])} if lengths else {}
    cell = stack_of(tf, dtype, is_tuple)
    outputs, last = tf.nn.dynamic_rnn(cell, tf.constant(x), dtype=tf.as_dtype(dtype), **given)
    stages = [[[renamed(name, WORDS[words])]] for name in in_stack("rnn")]
    last = list(last) if is_tuple else parted(last)
    length = given.get("sequence_length")
    return Case(place, x, outputs, last, None, length, stages, WORDS[words], scale=0.4)


@pytest.mark.parametrize("v1", [False, True])
def test_stacks_of_unlike_cells_agree(tmp_path: Path, v1: bool) -> None:
    rows = [
        ("float32", True, "1.2", False), ("float64", False, "1.2", True),
        ("float16", True, "1.0", True), ("float64", True, "0.12", False),
        ("float32", False, "0.9", True),
    ]  # fmt: skip
    assert_alike(tmp_path, [partial(stack, *row) for row in rows[v1::2]], v1=v1)


def pair(tf: TensorFlow, x: Tensor, dtype: str, cells: Sequence[RNNCell], lengths: Any) -> Any:
    return tf.nn.bidirectional_dynamic_rnn(
        *cells, x, sequence_length=lengths, dtype=tf.as_dtype(dtype)
    )


def two_directions(dtype: str, lengths: bool, start: bool, tf: TensorFlow, place: str) -> Case:
    """A forward and a backward cell of unequal widths."""
    x = noise(place, (BATCH, STEPS, INPUTS), dtype, 2.0)
    length = np.array([33, 0, STEPS]) if lengths else None
    kinds = [(6, {"use_peepholes": True, "num_proj": 2}), (4, {"cell_clip": 0.3})]
    cells = [
        tf.nn.rnn_cell.LSTMCell(units, dtype=tf.as_dtype(dtype), **given) for units, given in kinds
    ]
    given: Drawn = {}
    states = None
    if start:
        widths = [(6, 2), (4, 4)]
        states = [
            tuple(noise(f"{place}{w}{k}", (BATCH, w), dtype) for k, w in enumerate(pair))
            for pair in widths
        ]
        tuples = [tf.nn.rnn_cell.LSTMStateTuple(*map(tf.constant, pair)) for pair in states]
        given = {"initial_state_fw": tuples[0], "initial_state_bw": tuples[1]}
    outputs, last = tf.nn.bidirectional_dynamic_rnn(
        *cells, tf.constant(x), sequence_length=length, dtype=tf.as_dtype(dtype), **given
    )
    stages = [[["/fw/lstm_cell"], ["/bw/lstm_cell"]]]
    return Case(place, x, tf.concat(outputs, 2), list(last), states, length, stages)


def two_stacks(dtype: str, lengths: bool, tf: TensorFlow, place: str) -> Case:
    """A whole stack in each direction."""
    x = noise(place, (BATCH, STEPS, INPUTS), dtype, 2.0)
    length = np.array([1, STEPS, 30]) if lengths else None
    cells = [stack_of(tf, dtype) for _ in "fb"]
    outputs, last = pair(tf, tf.constant(x), dtype, cells, length)
    stages = [[in_stack(side) for side in ("fw", "bw")]]
    states = [state for side in last for state in side]
    return Case(place, x, tf.concat(outputs, 2), states, None, length, stages)


def stack_of_pairs(dtype: str, lengths: bool, tf: TensorFlow, place: str) -> Case:
    """As in `stack_bidirectional_dynamic_rnn`: each layer reads both directions below it."""
    x = noise(place, (BATCH, STEPS, INPUTS), dtype, 2.0)
    length = np.array([STEPS, 2, 0]) if lengths else None
    y, states, stages = tf.constant(x), [], []
    for layer, units in enumerate((4, 3)):
        scope = f"stack_bidirectional_rnn/cell_{layer}"
        with tf.variable_scope(scope):
            cells = [tf.nn.rnn_cell.BasicLSTMCell(units, dtype=tf.as_dtype(dtype)) for _ in "fb"]
            outputs, last = pair(tf, y, dtype, cells, length)
        y = tf.concat(outputs, 2)
        states += list(last)
        inner = f"{scope}/bidirectional_rnn"
        stages.append([[f"{inner}/{side}/basic_lstm_cell"] for side in ("fw", "bw")])
    return Case(place, x, y, states, None, length, stages)


def test_both_directions_agree(tmp_path: Path) -> None:
    rows = [
        ("float32", False, True), ("float64", True, False), ("float16", True, True),
        ("float32", True, True),
    ]  # fmt: skip
    assert_alike(tmp_path, [partial(two_directions, *row) for row in rows])


@pytest.mark.parametrize("build", [two_stacks, stack_of_pairs])
def test_layers_in_both_directions_agree(tmp_path: Path, build: Any) -> None:
    rows = [("float32", True), ("float64", False), ("float16", True)]
    assert_alike(tmp_path, [partial(build, *row) for row in rows])


# ---- cells of contrib written in TensorFlow's operations, called in the order of 1.15.0
# TensorFlow has no such classes any more, but its kernels, with their rounding. The equations are
# those of contrib/rnn/python/ops/rnn_cell.py, contrib/layers/python/layers/layers.py (layer_norm)
# and lite/experimental/examples/lstm/rnn_cell.py.


UNITS, FORGET_BIAS = 5, 0.5

Get = Callable[..., Tensor]  # makes a variable: its name, its shape
Step = Callable[[TensorFlow, Get, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def norm(tf: TensorFlow, get: Get, x: Tensor, scope: str) -> Tensor:
    gamma, beta = get(f"{scope}/gamma", UNITS), get(f"{scope}/beta", UNITS)
    mean, variance = tf.nn.moments(x, [1], keep_dims=True)
    epsilon = 1e-3 if x.dtype == tf.float16 else 1e-12
    return tf.nn.batch_normalization(x, mean, variance, beta, gamma, epsilon)


def layer_norm(tf: TensorFlow, get: Get, x: Tensor, c: Tensor, m: Tensor) -> tuple[Tensor, Tensor]:
    z = tf.matmul(tf.concat([x, m], 1), get("kernel", INPUTS + UNITS, 4 * UNITS))
    scopes = ("input", "transform", "forget", "output")
    parts = zip(tf.split(z, 4, 1), scopes, strict=True)
    i, j, f, o = (norm(tf, get, part, scope) for part, scope in parts)
    c = c * tf.sigmoid(f + FORGET_BIAS) + tf.sigmoid(i) * tf.tanh(j)
    c = norm(tf, get, c, "state")
    return c, tf.tanh(c) * tf.sigmoid(o)


def coupled(
    tf: TensorFlow, get: Get, x: Tensor, c: Tensor, m: Tensor, *, is_normed: bool = False
) -> tuple[Tensor, Tensor]:
    z = tf.matmul(tf.concat([x, m], 1), get("W_0", INPUTS + UNITS, 3 * UNITS))
    bias = get("B", 3 * UNITS)  # with norms it is created and not added
    j, f, o = tf.split(z if is_normed else tf.nn.bias_add(z, bias), 3, 1)
    if is_normed:
        j, f, o = (
            norm(tf, get, part, scope)
            for part, scope in ((j, "transform"), (f, "forget"), (o, "output"))
        )
    f = tf.sigmoid(f + FORGET_BIAS + get("W_F_diag", UNITS) * c)
    c = f * c + (1 - f) * tf.tanh(j)
    if is_normed:
        c = norm(tf, get, c, "state")
    return c, tf.sigmoid(o + get("W_O_diag", UNITS) * c) * tf.tanh(c)


def indy(tf: TensorFlow, get: Get, x: Tensor, c: Tensor, m: Tensor) -> tuple[Tensor, Tensor]:
    z = tf.matmul(x, get("kernel_w", INPUTS, 4 * UNITS))
    z += tf.tile(m, [1, 4]) * get("kernel_u", 1, 4 * UNITS)
    i, j, f, o = tf.split(tf.nn.bias_add(z, get("bias", 4 * UNITS)), 4, 1)
    c = c * tf.sigmoid(f + tf.constant(FORGET_BIAS, f.dtype)) + tf.sigmoid(i) * tf.tanh(j)
    return c, tf.tanh(c) * tf.sigmoid(o)


def tflite(tf: TensorFlow, get: Get, x: Tensor, c: Tensor, m: Tensor) -> tuple[Tensor, Tensor]:
    both = tf.concat([x, m], 1)

    def gate(name: str) -> Tensor:
        parts = [
            get(f"input_to_{name}_w", UNITS, INPUTS), get(f"cell_to_{name}_w", UNITS, UNITS)
        ]  # fmt: skip
        z = tf.matmul(both, tf.concat(parts, 1), transpose_b=True)
        return tf.nn.bias_add(z, get(f"{name}_bias", UNITS))

    i, f, o, j = gate("input"), gate("forget"), gate("output"), gate("cell")
    c = tf.sigmoid(f + get("w_f_diag", UNITS) * c) * c + (
        tf.sigmoid(i + get("w_i_diag", UNITS) * c) * tf.tanh(j)
    )
    return c, tf.sigmoid(o + get("w_o_diag", UNITS) * c) * tf.tanh(c)


def contrib_cell(tf: TensorFlow, scope: str, step: Step, dtype: Any) -> RNNCell:
    class Written(tf.nn.rnn_cell.RNNCell):  # type: ignore[misc, name-defined]
        state_size = tf.nn.rnn_cell.LSTMStateTuple(UNITS, UNITS)
        output_size = UNITS

        @tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
        def call(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
            c, m = step(tf, lambda name, *shape: tf.get_variable(name, shape, dtype), x, *state)
            return m, tf.nn.rnn_cell.LSTMStateTuple(c, m)

    return Written(name=scope, dtype=dtype)


def contrib_stepped(scope: str, step: Step, dtype: str, tf: TensorFlow, place: str) -> Case:
    x = noise(place, (BATCH, STEPS, INPUTS), dtype, 2.0)
    kind = tf.as_dtype(dtype)
    outputs, last = tf.nn.dynamic_rnn(
        contrib_cell(tf, scope, step, kind), tf.constant(x), dtype=kind
    )
    return Case(place, x, outputs, [last])


CELLS: list[tuple[str, Step]] = [
    ("layer_norm_basic_lstm_cell", layer_norm),
    ("coupled_input_forget_gate_lstm_cell", coupled),
    ("coupled_input_forget_gate_lstm_cell", partial(coupled, is_normed=True)),
    ("indy_lstm_cell", indy),
    ("tf_lite_lstm_cell", tflite),
]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_cells_of_contrib_agree(tmp_path: Path, dtype: str) -> None:
    assert_alike(tmp_path, [partial(contrib_stepped, *cell, dtype) for cell in [*CELLS, *CELLS]])


# ---- block operations, Keras layers and user-written cells, stepped by TensorFlow and the engine


# ---- activations

# The number of float16 values that TensorFlow's kernels map to another value than ours.
UNEQUAL_HALVES = {"tanh": 2, "softplus": 1, "sin": 2}
NOT_BY_NAME = ("identity", "hard_sigmoid", "keras3_hard_sigmoid", "erf")


@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name not in NOT_BY_NAME])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_activations_agree_on_every_float16_number(name: str, dtype: str) -> None:
    tf = tensorflow()
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    x = every[np.isfinite(every)].astype(dtype)
    with as_in_1_x(tf), new_session(tf) as session, np.errstate(all="ignore"):
        theirs = session.run(activation(tf, name)(tf.constant(x)))
        ours = x.copy()
        function(name, dtype == "float16")(ours, ours)
    if dtype == "float16":
        assert np.count_nonzero(ours != theirs) <= UNEQUAL_HALVES.get(name, 0)
    else:
        eps = float(np.finfo(dtype).eps)  # below 1 some kernels are only that exact
        np.testing.assert_allclose(ours, theirs, rtol=4 * eps, atol=eps)


# ---- block operations


def weights_of_block(tf: TensorFlow, dtype: str, peepholes: bool) -> dict[str, Tensor]:
    """Make the variables of LSTMBlockCell and LSTMBlockFusedCell in 1.2 and later."""
    kind = tf.as_dtype(dtype)
    with tf.variable_scope("rnn/lstm_cell"):
        found = {"w": tf.get_variable("kernel", [INPUTS + UNITS, 4 * UNITS], kind)}
        found["b"] = tf.get_variable("bias", [4 * UNITS], kind)
        for gate in "ifo":
            found[f"wc{gate}"] = (
                tf.get_variable(f"w_{gate}_diag", [UNITS], kind)
                if peepholes
                else tf.zeros([UNITS], kind)
            )
    return found


def block(
    op: str, dtype: str, peepholes: bool, clip: float, bias: float, tf: TensorFlow, place: str
) -> Case:
    """One operation per step, or one for all steps (time first)."""
    x = noise(place, (BATCH, STEPS, INPUTS), dtype, 2.0)
    start = [(noise("c", (BATCH, UNITS), dtype), noise("m", (BATCH, UNITS), dtype))]
    given = weights_of_block(tf, dtype, peepholes) | {"use_peephole": peepholes, "cell_clip": clip}
    if op != "BlockLSTMV2":  # which has no such attribute
        given["forget_bias"] = bias
    c, m = map(tf.constant, start[0])
    outputs = []
    if op == "LSTMBlockCell":
        for step in tf.unstack(tf.constant(x), axis=1):
            _, c, _, _, _, _, m = tf.raw_ops.LSTMBlockCell(x=step, cs_prev=c, h_prev=m, **given)
            outputs.append(m)
        return Case(place, x, tf.stack(outputs, 1), [(c, m)], start)
    by_time = tf.constant(x.swapaxes(0, 1))
    length = tf.constant(STEPS, tf.int64)
    made = getattr(tf.raw_ops, op)(seq_len_max=length, x=by_time, cs_prev=c, h_prev=m, **given)
    return Case(place, x, tf.transpose(made.h, [1, 0, 2]), [(made.cs[-1], made.h[-1])], start)


OPS = ["LSTMBlockCell", "BlockLSTM", "BlockLSTMV2"]


@pytest.mark.covering(1)
@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_block_operations_agree(tmp_path: Path, op: str, dtype: str) -> None:
    """A clip of zero or less means no clip."""
    rows = [(False, -1.0, 1.0), (True, 0.3, 0.0), (True, 0.0, -0.5), (False, 0.4, 1.5)]
    assert_alike(tmp_path, [partial(block, op, dtype, *row) for row in rows])


# ---- Keras


def keras(dtype: str, options: dict[str, Any], classic: bool, tf: TensorFlow, place: str) -> Case:
    """An LSTM layer; classic: the class of 1.x, whose gates are hard sigmoids by default."""
    x = noise(place, (BATCH, STEPS, INPUTS), dtype, 2.0)
    start = [(noise("c", (BATCH, UNITS), dtype), noise("m", (BATCH, UNITS), dtype))]
    layers = tf.keras.layers if classic else tf.compat.v2.keras.layers
    layer = layers.LSTM(
        UNITS,
        return_sequences=True,
        return_state=True,
        dtype=dtype,
        name=f"{place}/lstm",
        **options,
    )
    c, m = map(tf.constant, start[0])
    outputs, m, c = layer(tf.constant(x), initial_state=[m, c])
    return Case(place, x, outputs, [(c, m)], start)


KERAS: list[tuple[str, dict[str, Any], bool]] = [
    ("float32", {}, True),
    ("float32", {}, False),
    ("float16", {}, True),
    ("float16", {}, False),
    ("float64", {"use_bias": False}, True),
    ("float64", {"recurrent_activation": "sigmoid", "use_bias": False}, True),
    ("float64", {"recurrent_activation": "hard_sigmoid", "activation": "relu"}, False),
    ("float32", {"recurrent_activation": "sigmoid", "unroll": True}, True),
    ("float32", {"implementation": 1}, True),
    ("float64", {"implementation": 2, "recurrent_activation": "hard_sigmoid"}, True),
]


def test_keras_layers_agree(tmp_path: Path) -> None:
    assert_alike(tmp_path, [partial(keras, *row) for row in KERAS])


# ---- user-written cells


def hand_made(
    order: str, m_first: bool, bias: float, dtype: str, tf: TensorFlow, place: str
) -> Case:
    """Gates split from one product in the user's own order."""
    x = noise(place, (BATCH, STEPS, INPUTS), dtype, 2.0)
    kind = tf.as_dtype(dtype)
    with tf.variable_scope("rnn/my_cell"):
        kernel = tf.get_variable("kernel", [INPUTS + UNITS, 4 * UNITS], kind)
        biases = tf.get_variable("bias", [4 * UNITS], kind)
    c = m = tf.zeros([BATCH, UNITS], kind)
    outputs = []
    for step in tf.unstack(tf.constant(x), axis=1):
        joined = tf.concat([m, step] if m_first else [step, m], 1)
        z = tf.nn.bias_add(tf.matmul(joined, kernel), biases)
        gate = dict(zip(order, tf.split(z, 4, 1), strict=True))
        kept = c * tf.sigmoid(gate["f"] + bias)
        c = kept + tf.sigmoid(gate["i"]) * tf.tanh(gate["j"])
        m = tf.tanh(c) * tf.sigmoid(gate["o"])
        outputs.append(m)
    return Case(place, x, tf.stack(outputs, 1), [(c, m)])


def test_cells_with_gates_in_other_orders_agree(tmp_path: Path) -> None:
    rows = [
        ("ijfo", False, 1.0, "float32"),
        ("fioj", False, 0.0, "float64"),
        ("ofij", False, 1.0, "float16"),
        ("jifo", False, 0.5, "float64"),
    ]
    assert_alike(tmp_path, [partial(hand_made, *row) for row in rows])


def test_kernels_with_the_rows_of_m_first_agree(tmp_path: Path) -> None:
    rows = [("ijfo", True, 1.0, "float32"), ("ifoj", True, 0.0, "float64")]
    assert_alike(tmp_path, [partial(hand_made, *row) for row in rows])
