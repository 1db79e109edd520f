"""Cells of bfloat16, whose options are read from the graph and which run in float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import writers
from commands import Shell, notes, numbers
from writers import BATCH, INPUTS, STEPS, TensorFlow, only, opened, shown

from lstmstate.cells import Option


def build(tf: TensorFlow, **options: float) -> None:
    """Step a cell of bfloat16 over a fed sequence."""
    x = tf.placeholder(tf.bfloat16, [BATCH, STEPS, INPUTS])
    cell = tf.nn.rnn_cell.LSTMCell(4, dtype=tf.bfloat16, **options)
    tf.nn.dynamic_rnn(cell, x, dtype=tf.bfloat16)


@pytest.mark.parametrize(
    ("forget_bias", "stored"), [(1.0, 1.0), (0.0, 0.0), (0.3, 0.30078125), (-7.25, -7.25)]
)
def test_the_forget_bias_is_the_constant_in_the_graph(forget_bias: float, stored: float) -> None:
    """0.3 is not a bfloat16: the graph adds the nearest one, and so does a run."""
    cell = only(opened(lambda tf: build(tf, forget_bias=forget_bias)))
    assert (cell.dtype, cell.forget_bias) == ("bfloat16", Option(stored, "graph"))


def test_clips_are_constants_in_the_graph() -> None:
    cell = only(opened(lambda tf: build(tf, cell_clip=0.8, num_proj=2, proj_clip=0.5)))
    assert shown(cell, "cell_clip", "proj_clip") == {"cell_clip": 0.80078125, "proj_clip": 0.5}


def test_a_note_reports_that_rounding_differs_from_tensorflow(shell: Shell, tmp_path: Path) -> None:
    prefix = writers.save(tmp_path, build)
    np.save(tmp_path / "x.npy", numbers(2, 5, INPUTS))
    done = shell("run", prefix, tmp_path / "x.npy")
    note = "rnn/lstm_cell: it is bfloat16, which is run as float32: TensorFlow rounds every step"
    assert (done.code, note in notes(done)) == (0, True)
