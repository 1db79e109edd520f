"""Every engine compared with the reference step, on cells of the samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import lstmstate
from lstmstate.engines import ENGINES
from lstmstate.engines.canonical_network import CanonicalCell
from lstmstate.engines.reference_step import step
from lstmstate.model.network_loader import RunOptions

SAMPLES = Path(__file__).parent.parent / "sample_checkpoints"
COMPARED = ("numpy", "graph", "tensorflow")
TOLERANCE = 2e-6  # in float32; the reference step is in float64


def run_reference(cell: CanonicalCell, x: np.ndarray, c: np.ndarray, m: np.ndarray) -> list:
    """Return the outputs, and the last c and m."""
    outputs, cell = [], cell.in_float64()
    for row in x.astype("f8").swapaxes(0, 1):
        c, m = step(cell, row, c, m)
        outputs.append(m)
    return [np.stack(outputs, 1), c, m]


@pytest.mark.parametrize("sample", ["peephole_flat", "peephole_tuple", "block_cell", "v1_format"])
@pytest.mark.parametrize("engine", COMPARED)
def test_an_engine_computes_the_reference_step(engine: str, sample: str) -> None:
    if engine == "tensorflow":
        pytest.importorskip(engine)
    rng = np.random.default_rng(7)
    with lstmstate.open_checkpoint(SAMPLES / sample) as ckpt:
        (found,) = ckpt.cells.values()
        (cell,) = found.load(RunOptions("numpy")).network.cells
        batch = 4  # as in the graphs
        x = rng.uniform(-1, 1, (batch, 6, cell.input_size)).astype("f4")
        c, m = (rng.uniform(-1, 1, (batch, width)).astype("f4") for width in cell.widths)
        outputs, last = found.run(x, (c, m), engine=engine)
    for ours, expected in zip((outputs, *last), run_reference(cell, x, c, m), strict=True):
        assert np.abs(ours - expected).max() <= TOLERANCE


def test_all_engines_are_compared() -> None:
    assert {*COMPARED} == {*ENGINES, "graph"}
