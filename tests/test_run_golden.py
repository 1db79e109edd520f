"""Results of the released classes of TensorFlow 0.5 to 1.15, reproduced without flags."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from conftest import SHARED
from writers import cells

from lstmstate.cells import Cell
from lstmstate.cells.cell import Value
from lstmstate.engines import load
from lstmstate.engines.canonical_network import Network
from lstmstate.engines.canonical_weights import Read, canonical_cell
from lstmstate.engines.run_options import Settled, settle_run_options
from lstmstate.errors import UnsupportedError
from lstmstate.model.checkpoint import open_checkpoint

Array = Any

CASES = sorted(path.parent for path in (SHARED / "golden").glob("*/case.json"))
NOT_RUN = ("NASCell", "PhasedLSTMCell", "TimeFreqLSTMCell")
# Keras 3 has no graph, and its files do not distinguish its gates from those of tf_keras.
UNTOLD = "Keras3LSTM__hard_sigmoid"
# The names of kept arrays in a case, and our names.
KEPT = {
    "c_steps": "c",
    "m_steps": "m",
    **{
        f"{op}_{theirs}": ours
        for op in ("cell", "block")
        for theirs, ours in zip(("i", "f", "o", "ci", "cs", "h"), "ifojcm", strict=True)
    },
}


class Ran(NamedTuple):
    """The results of a cell, sequence by sequence `[batch, time, …]`."""

    outputs: Array
    c: Array
    m: Array
    kept: Mapping[str, Array]


def run(
    cell: Cell, read: Read, given: Mapping[str, Value], x: Array, c: Array, m: Array
) -> tuple[Ran, Settled]:
    """Run a cell over x `[batch, time, inputs]` and keep everything."""
    settled = settle_run_options(cell, given)
    one = canonical_cell(cell, read, settled.values)
    assert x.shape[2] == one.input_size or one.takes_wider
    by_step = np.ascontiguousarray(x.swapaxes(0, 1)[..., : one.input_size])
    ran = load("numpy", Network((((one,),),))).run(by_step, [(c, m)], None, "cmijfo")
    kept = {letter: steps.swapaxes(0, 1) for letter, steps in ran.kept[0].items()}
    return Ran(ran.outputs.swapaxes(0, 1), *ran.states[0], kept), settled


def named(cases: Any) -> Any:
    """Parametrize a test with the cases, skipped if there are none."""
    reason = "the golden answers are not available"
    cases = cases or [pytest.param(None, marks=pytest.mark.skip(reason=reason))]
    return pytest.mark.parametrize("folder", cases, ids=lambda folder: getattr(folder, "name", ""))


def golden(folder: Path, given: Mapping[str, Value]) -> tuple[dict[str, float], Settled]:
    """Return the error of each array in a case, and the options."""
    ckpt = open_checkpoint(folder / "model.ckpt")
    (cell,) = ckpt.cells.values()
    assert cell.state is not None
    with np.load(folder / "state.npz") as state, np.load(folder / "expected.npz") as expected:
        start, theirs = parted(state, cell.state.c), parted(expected, cell.state.c)
    x = np.load(folder / "x.npy")
    read: Read = lambda name: ckpt.variables[name].read()  # noqa: E731
    ran, settled = run(cell, read, given, x, start["c"], start["m"])
    ours = {"outputs": ran.outputs, "c": ran.c, "m": ran.m}
    ours |= {name: ran.kept[letter] for name, letter in KEPT.items() if name in theirs}
    assert {array.dtype for array in ours.values()} == {np.dtype(np.float32)}
    return {
        name: float(np.abs(array - theirs[name]).max()) for name, array in ours.items()
    }, settled


def parted(arrays: Mapping[str, Array], units: int) -> dict[str, Array]:
    """Return arrays with c and m, also if they are in one."""
    found = dict(arrays)
    if "state" in found:
        found |= {"c": found["state"][:, :units], "m": found["state"][:, units:]}
    return found


def tolerance(folder: Path) -> float:
    """Layer norm over four units enlarges rounding."""
    return 5e-6 if folder.name.endswith("layer_norm") and "no_" not in folder.name else 2e-6


RUN = [case for case in CASES if not case.name.startswith(NOT_RUN) and case.name != UNTOLD]


@named(RUN)
def test_a_released_class_is_reproduced_without_flags(folder: Path) -> None:
    found, settled = golden(folder, {})
    assert {name: far for name, far in found.items() if not far <= tolerance(folder)} == {}
    assert len(found) > 3 or "tf0p" in folder.name
    assert "recurrent_activation" not in settled.assumed or "Keras" not in settled.cell.family


@named([case for case in CASES if case.name == UNTOLD])
def test_a_hard_sigmoid_of_keras_3_is_reproduced_with_a_flag(folder: Path) -> None:
    found, settled = golden(folder, {"recurrent_activation": "keras3_hard_sigmoid"})
    assert max(found.values()) <= 2e-6
    assert "recurrent_activation" not in settled.assumed


@named([case for case in CASES if case.name == UNTOLD])
def test_an_unrecorded_hard_sigmoid_is_assumed_if_accepted(folder: Path) -> None:
    found, settled = golden(folder, {"assume_defaults": True})
    assert max(found.values()) > 1e-3
    assert "recurrent_activation" in settled.assumed
    (cell,) = open_checkpoint(folder / "model.ckpt").cells.values()
    assert list(settle_run_options(cell, {}).unknown) == ["recurrent_activation"]


@named([case for case in CASES if case.name.startswith(NOT_RUN)])
def test_cells_with_other_equations_are_refused(folder: Path) -> None:
    ckpt = open_checkpoint(folder / "model.ckpt")
    (cell,) = ckpt.cells.values()
    with pytest.raises(UnsupportedError, match=rf"a {cell.family} is not run: it"):
        canonical_cell(
            cell, lambda name: ckpt.variables[name].read(), settle_run_options(cell, {}).values
        )


# ---- values of three cases, which do not need the golden folder

# Cells of 4 units over 4 steps of 2 sequences of 3 inputs; `given` are the options that no
# variable shows.
ANSWERS = json.loads((Path(__file__).parent / "golden_answers.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", ANSWERS, ids=lambda case: case["family"])
def test_golden_answers_of_a_released_class(case: dict[str, Any]) -> None:
    stored = {f"{case['scope']}/{leaf}": floats(v) for leaf, v in case["variables"].items()}
    cell = cells({name: value.shape for name, value in stored.items()})[case["scope"]]
    assert cell.family == case["family"]
    start = (floats(case[name]) for name in ("x", "c", "m"))
    ran, settled = run(cell, stored.__getitem__, case["given"], *start)
    assert settled.assumed == {}
    far = 5e-6 if cell.layer_norm else 2e-6
    outputs = floats(case["outputs"])
    assert np.abs(ran.outputs - outputs).max() <= far
    assert np.abs(ran.m - outputs[:, -1]).max() <= far
    assert np.abs(ran.c - floats(case["last_c"])).max() <= far


def floats(values: Any) -> Array:
    return np.array(values, np.float32)
