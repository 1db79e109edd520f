"""Cells with a missing or unexpected part, which are not run as another cell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import writers
from commands import Array, Shell, checkpoint, numbers
from writers import BATCH, INPUTS, TensorFlow, dynamic, inputs, only, opened

from lstmstate import CorruptError, LstmstateError, UnsupportedError, open_checkpoint
from lstmstate.cells import Option
from lstmstate.cells.cell import MIXED

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
