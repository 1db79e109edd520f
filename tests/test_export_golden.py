"""ONNX models of released classes, run by onnxruntime, against what TensorFlow computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_run_golden import CASES, UNTOLD, named, parted, tolerance

import lstmstate
from lstmstate.errors import UnsupportedError

pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

# Only the graph has their step, or their graph is not the step of their class.
REFUSED = {
    "NASCell": "its eight blocks are not the gates of an LSTM",
    "PhasedLSTMCell": "the graph needs a value for time",
    "TimeFreqLSTMCell": "it runs over frequencies within each step",
}
# Their graphs have single steps of the cell, too, which cannot be compared.
AS_RECOGNISED = ("KerasLSTM__", "PeepholeLSTMCell__")


def exported(folder: Path, path: Path) -> Any:
    """Return the session of the model of a case."""
    given: dict[str, Any] = {}
    if folder.name == UNTOLD:
        given = {"recurrent_activation": "keras3_hard_sigmoid"}
    if folder.name.startswith(AS_RECOGNISED):
        with pytest.raises(UnsupportedError, match="as they were recognised, `engine='numpy'`"):
            lstmstate.export(folder / "model.ckpt", path, to="onnx")
        given = {"engine": "numpy"}
    lstmstate.export(folder / "model.ckpt", path, to="onnx", **given)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options)


@named([case for case in CASES if not case.name.startswith(tuple(REFUSED))])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_released_class_is_reproduced_by_onnxruntime(folder: Path, tmp_path: Path) -> None:
    session = exported(folder, tmp_path / "m.onnx")
    (units,) = {one.shape[1] for one in session.get_inputs() if one.name == "c_0"}
    with np.load(folder / "state.npz") as state, np.load(folder / "expected.npz") as expected:
        start, theirs = parted(state, units), parted(expected, units)
    feeds = {"x": np.load(folder / "x.npy"), "c_0": start["c"], "m_0": start["m"]}
    outputs, c, m = session.run(None, feeds)
    for ours, wanted in ((outputs, theirs["outputs"]), (c, theirs["c"]), (m, theirs["m"])):
        assert ours.shape == wanted.shape
        assert np.abs(ours - wanted).max() <= tolerance(folder)


@named([case for case in CASES if case.name.startswith(tuple(REFUSED))])
def test_a_class_with_another_step_is_refused(folder: Path, tmp_path: Path) -> None:
    words = next(words for name, words in REFUSED.items() if folder.name.startswith(name))
    with pytest.raises(UnsupportedError, match=words):
        exported(folder, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())
