"""Options in a tensor next to the weights: written where the graph is not, read, and bounded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import SAMPLES, Shell, checkpoint, lstm_cell, notes, numbers, saved
from writers import as_in_1_x, dynamic, new_session, tensorflow

import lstmstate
from lstmstate import limits
from lstmstate.checkpoint import Checkpoint
from lstmstate.model.recorded_options import NAME, line, parse

CELL = {
    "forget_bias": 0.0,
    "cell_clip": 0.5,
    "proj_clip": None,
    "activation": "relu",
    "recurrent_activation": "sigmoid",
    "peepholes": True,
    "residual": False,
}
ERAS = ("tensorflow", "tensorflow-1.0", "tensorflow-0.12")


def runs(shell: Shell, folder: Path, *paths: object, width: int) -> list[dict[str, Any]]:
    """Return the arrays of a run of each checkpoint on the same x, in which nothing is assumed."""
    x = saved(folder / "x.npy", 3 * numbers(2, 9, width))
    found = []
    for path in paths:
        flags = ("--strict", "--zero-state", "--force")
        assert shell("run", "-q", path, x, "-o", folder / "y.npz", *flags).code == 0
        with np.load(folder / "y.npz") as arrays:
            found.append({name: arrays[name] for name in arrays if name != "lstmstate"})
    return found


def assert_alike(found: list[dict[str, Any]]) -> None:
    """Compare runs to the bit."""
    first, *others = found
    for other in others:
        for mine, theirs in zip(first.values(), other.values(), strict=True):
            assert mine.tobytes() == theirs.tobytes()


def recording(path: Path, value: bytes, **options: Any) -> str:
    """Write a checkpoint of a cell whose options are some bytes."""
    return checkpoint(path, lstm_cell(**options) | {NAME: np.array(value, object)})


# ---- written


@pytest.mark.covering(1)
@pytest.mark.parametrize("to", ERAS)
@pytest.mark.parametrize(
    ("sample", "width"), [("peephole_flat", 3), ("sunspots", 1), ("bidirectional", 3)]
)
def test_an_export_runs_without_questions(
    shell: Shell, tmp_path: Path, sample: str, width: int, to: str
) -> None:
    """Forget biases, clips, peepholes, and no residual: all that names and shapes do not show."""
    new = tmp_path / "new.ckpt"
    assert shell("export", "-q", SAMPLES / sample, "--to", to, "-o", new).code == 0
    assert_alike(runs(shell, tmp_path, SAMPLES / sample, new, width=width))
    # A second export from there is the same.
    again = tmp_path / "again.ckpt"
    assert shell("export", "-q", new, "--to", "tensorflow", "-o", again).code == 0
    assert_alike(runs(shell, tmp_path, SAMPLES / sample, again, width=width))


def test_what_is_assumed_is_not_recorded(shell: Shell, tmp_path: Path) -> None:
    source, new = checkpoint(tmp_path / "old.ckpt", lstm_cell()), tmp_path / "new.ckpt"
    flags = ("--cell-clip", "0.5", "--assume-defaults")
    assert shell("export", "-q", source, "--to", "tensorflow", "-o", new, *flags).code == 0
    recorded = json.loads(lstmstate.open_checkpoint(new).variables[NAME].read().item())
    assert recorded["cells"]["rnn/lstm_cell"] == {
        "cell_clip": 0.5,
        "proj_clip": None,
        "recurrent_activation": "sigmoid",
        "peepholes": False,
    }
    x = saved(tmp_path / "x.npy", numbers(2, 9, 3))
    assert (
        "defaults are used: forget_bias 1, activation tanh"
        in notes(shell("run", new, x, "-o", tmp_path / "y.npz", code=0))[0]
    )


def test_gates_of_keras_are_recorded(shell: Shell, tmp_path: Path) -> None:
    """Releases differ in their recurrent_activation: a run without it would ask."""
    weights = {"kernel": (3, 16), "recurrent_kernel": (4, 16), "bias": (16,)}
    values = {f"lstm/{name}": numbers(*shape) for name, shape in weights.items()}
    source, new = checkpoint(tmp_path / "old.ckpt", values), tmp_path / "new.ckpt"
    flags = ("--recurrent-activation", "hard_sigmoid", "--activation", "tanh")
    export = ("export", "-q", source, "--to", "tensorflow-keras", "-o", new)
    assert shell(*export, *flags).code == 0
    x = saved(tmp_path / "x.npy", numbers(2, 9, 3))
    for path, some in ((source, flags), (new, ())):
        out = tmp_path / f"{Path(path).stem}.npz"
        assert shell("run", "-q", path, x, *some, "-o", out, code=0).code == 0
    with np.load(tmp_path / "old.npz") as old, np.load(tmp_path / "new.npz") as found:
        np.testing.assert_array_equal(found["outputs"], old["outputs"])


def test_a_graph_that_cannot_be_copied_leaves_its_options(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new, back = tmp_path / "new.ckpt", tmp_path / "back.ckpt"
    monkeypatch.setattr(Checkpoint, "meta_graph", lambda _: None)
    done = shell("convert", SAMPLES / "peephole_flat", "--to-tuple", "-o", new, code=0)
    assert "of it, only the options of the cells are recorded" in notes(done)[-1]
    assert not Path(f"{new}.meta").exists()
    shown = lstmstate.open_checkpoint(new).cells["rnn/lstm_cell"].options
    assert shown["forget_bias"] == (0.5, "checkpoint")
    assert shell("convert", "-q", new, "--to-flat", "-o", back).code == 0
    x = saved(tmp_path / "x.npy", 3 * numbers(2, 9, 3))
    found = []
    for path in (SAMPLES / "peephole_flat", new, back):
        assert shell("run", "-q", path, x, "-o", tmp_path / "y.npz", "--force").code == 0
        found.append(np.load(tmp_path / "y.npz")["outputs"])
    assert found[0].tobytes() == found[1].tobytes() == found[2].tobytes()


def test_tensorflow_restores_the_weights_next_to_it(shell: Shell, tmp_path: Path) -> None:
    new = tmp_path / "new.ckpt"
    source = SAMPLES / "block_cell"
    assert shell("export", "-q", source, "--to", "tensorflow", "-o", new, code=0)
    tf = tensorflow()
    assert NAME in dict(tf.train.list_variables(str(new)))
    with as_in_1_x(tf), new_session(tf) as session:
        width = lstmstate.open_checkpoint(new).cells["rnn/lstm_cell"].input_size
        units = lstmstate.open_checkpoint(new).cells["rnn/lstm_cell"].num_units
        dynamic(tf, tf.nn.rnn_cell.LSTMCell(units), tf.placeholder(tf.float32, [1, 2, width]))
        tf.train.Saver().restore(session, str(new))
        assert len(tf.global_variables()) == 2


# ---- read


def test_the_options_are_shown_as_recorded(shell: Shell, tmp_path: Path) -> None:
    path = recording(tmp_path / "model.ckpt", line({"rnn/lstm_cell": CELL}).encode())
    done = shell("inspect", path, "--variables", code=0)
    assert "0^       0.5^          -  relu^" in done.out
    assert "  ^ recorded in the checkpoint, in lstmstate/options" in done.out
    document = shell.json("inspect", path)
    assert document["cells"][0]["cell_clip"] == {"value": 0.5, "source": "checkpoint"}
    assert document["cells"][0]["recurrent_activation"]["source"] == "family"
    (row,) = (one for one in document["variables"] if one["name"] == NAME)
    assert (row["role"], row["dtype"]) == ("options", "string")
    assert "These are the options of cells" in shell("inspect", f"{path}:{NAME}", code=0).out
    x = saved(tmp_path / "x.npy", numbers(2, 9, 3))
    done = shell("run", path, x, "--strict", "--cell-clip", "none", "-o", tmp_path / "y.npz")
    assert notes(done) == [
        "rnn/lstm_cell: --cell-clip none is used, and the checkpoint has 0.5",
    ]
    assert shell("check", path, "--forget-bias", "0").code == 0
    assert shell("check", path, "--forget-bias", "1").code == 1


def test_the_graph_comes_before_them(tmp_path: Path) -> None:
    source = lstmstate.open_checkpoint(SAMPLES / "peephole_flat")
    values = {name: variable.read() for name, variable in source.variables.items()}
    values[NAME] = np.array(line({"rnn/lstm_cell": CELL}).encode(), object)
    path = checkpoint(tmp_path / "model.ckpt", values)
    shutil.copy(SAMPLES / "peephole_flat" / "model.ckpt.meta", f"{path}.meta")
    found = lstmstate.open_checkpoint(path).cells["rnn/lstm_cell"]
    assert found.options == source.cells["rnn/lstm_cell"].options


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'{"version": 1, "cells": []}',
        b'{"version": 1, "cells": {"rnn/lstm_cell": 3}}',
        b'{"version": 1, "cells": {"rnn/lstm_cell": {"forget_bias": "0"}}}',
        b'{"version": 1, "cells": {"rnn/lstm_cell": {"forget_bias": null}}}',
        b'{"version": 1, "cells": {"rnn/lstm_cell": {"forget_bias": NaN}}}',
        b'{"version": 1, "cells": {"rnn/lstm_cell": {"forget_bias": 1e999}}}',
        b'{"version": 1, "cells": {"rnn/lstm_cell": {"forget_bias": true}}}',
        b'{"version": 1, "cells": {"rnn/lstm_cell": {"cell_clip": -1}}}',
        b'{"version": 1, "cells": {"rnn/lstm_cell": {"cell_clip": 1%s}}}' % (b"0" * 5000),
        b'{"version": 1, "cells": {"rnn/lstm_cell": {"activation": "exec"}}}',
        b'{"version": 1, "cells": {"rnn/lstm_cell": {"activation": ["tanh"]}}}',
        b'{"version": 1, "cells": {"rnn/lstm_cell": {"peepholes": 1}}}',
        b'{"version": 1, "cells": {"rnn/lstm_cell": {"residual": true}}}',
        b'{"version": 1, "cells": {"rnn/lstm_cell": {"other": 1}}}',
        b'{"version": 2, "cells": {"rnn/lstm_cell": {}}}',
        b'{"version": true, "cells": {"rnn/lstm_cell": {}}}',
    ],
    ids=lambda value: value[-40:].decode("latin-1"),
)
def test_options_of_a_stranger_are_left_out_with_a_note(
    shell: Shell, tmp_path: Path, value: bytes
) -> None:
    path = recording(tmp_path / "model.ckpt", value)
    done = shell("inspect", path, code=0)
    (note,) = notes(done)
    assert note.startswith(f"{path}: {NAME}: ") and note.endswith("going on without these options")
    assert len(note) < 300
    assert lstmstate.open_checkpoint(path).cells["rnn/lstm_cell"].forget_bias == (1.0, "default")


def test_options_are_bounded(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = recording(tmp_path / "model.ckpt", line({"rnn/lstm_cell": CELL}).encode())
    monkeypatch.setattr(limits, "MAX_OPTIONS_BYTES", 100)
    assert "and 100 are read; going on without these options" in notes(shell("inspect", path))[0]


def test_a_variable_of_this_name_that_is_no_text(shell: Shell, tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "model.ckpt", lstm_cell() | {NAME: numbers(3)})
    assert notes(shell("inspect", path, code=0)) == []
    (row,) = (one for one in shell.json("inspect", path)["variables"] if one["name"] == NAME)
    assert row["role"] == "other"


def test_a_line_is_read_as_it_was_written() -> None:
    found = parse(line({"é/\n": CELL}).encode())
    assert found == {"é/\n": {name: (value, "checkpoint") for name, value in CELL.items()}}
