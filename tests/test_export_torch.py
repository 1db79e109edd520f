"""Weights as state_dicts of torch.nn.LSTM, run by torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exported import difference, export
from networks import alone, cell, stacked

from lstmstate.engines.canonical_network import Network
from lstmstate.errors import UnsupportedError

pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported")


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("proj", [None, 3])
@pytest.mark.parametrize("forget_bias", [-1.0, 0.0, 1.0, 2.0])
def test_layers_run_in_torch(
    tmp_path: Path, rng: Any, layers: int, directions: int, proj: int | None, forget_bias: float
) -> None:
    sizes = [4] + [directions * (proj or 5)] * (layers - 1)
    made = [
        [cell(rng, size, 5, proj, forget_bias=forget_bias) for _ in range(directions)]
        for size in sizes
    ]
    if directions == 1:
        network = Network(((tuple(layer[0] for layer in made),),))
    else:
        network = Network(tuple(tuple((one,) for one in layer) for layer in made))
    assert difference(network, "torch", tmp_path / "w.npz") < 2e-6


def test_stacks_after_stacks_run_in_torch(tmp_path: Path, rng: Any) -> None:
    stacks = [(cell(rng, 3, 4), cell(rng, 4, 4)), (cell(rng, 4, 4),)]
    network = Network(tuple((stack,) for stack in stacks))
    assert difference(network, "torch", tmp_path / "w.npz") < 2e-6


@pytest.mark.parametrize("options", [{"gates": "jfo"}, {"indy": True}, {"dtype": "float64"}])
def test_cells_of_other_families_run_in_torch(
    tmp_path: Path, rng: Any, options: dict[str, Any]
) -> None:
    assert difference(alone(cell(rng, 3, 4, **options)), "torch", tmp_path / "w.npz") < 2e-6


def test_columns_that_a_cell_ignores_have_weights_of_zero(tmp_path: Path, rng: Any) -> None:
    chain = (cell(rng, 3, 5), cell(rng, 2, 5, takes_wider=True))
    network = Network(((chain,),))
    assert difference(network, "torch", tmp_path / "w.npz") < 2e-6


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"peepholes": "ifo"}, "peepholes"),
        ({"cell_clip": 1.0}, "cell_clip"),
        ({"proj": 4}, "a projection to num_units or more"),
        ({"activation": "relu"}, "activation relu"),
        ({"norms": "ijfoc"}, "layer norm"),
    ],
)
def test_cells_that_torch_does_not_have_are_refused(
    tmp_path: Path, rng: Any, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(UnsupportedError, match=words):
        export(alone(cell(rng, 3, 4, **options)), "torch", tmp_path / "w.npz")


def test_stacks_in_two_directions_are_refused(tmp_path: Path, rng: Any) -> None:
    chains = tuple((cell(rng, 3, 4), cell(rng, 4, 4)) for _ in range(2))
    with pytest.raises(UnsupportedError, match="joins the two directions after each layer"):
        export(Network((chains,)), "torch", tmp_path / "w.npz")


def test_unlike_widths_are_refused(tmp_path: Path, rng: Any) -> None:
    sides = Network((((cell(rng, 3, 4),), (cell(rng, 3, 5),)),))
    words = "the two directions of a layer have one width of c and of m, and these have 4:4 and 5:5"
    with pytest.raises(UnsupportedError, match=words):
        export(sides, "torch", tmp_path / "w.npz")
    with pytest.raises(UnsupportedError, match="all layers have one width .* 5:2 and 4:4"):
        export(Network((((cell(rng, 3, 5, 2), cell(rng, 2, 4)),),)), "torch", tmp_path / "w.npz")


def test_files_are_those_of_the_arrays(tmp_path: Path, rng: Any) -> None:
    export(alone(cell(rng, 3, 4)), "torch", tmp_path / "w.npz")
    with np.load(tmp_path / "w.npz") as found:
        assert {name: found[name].shape for name in found} == {
            "weight_ih_l0": (16, 3),
            "weight_hh_l0": (16, 4),
            "bias_ih_l0": (16,),
            "bias_hh_l0": (16,),
        }


@pytest.mark.parametrize("forget_bias", [-1.0, 0.0, 1.0, 2.0])
@pytest.mark.parametrize("options", [{}, {"gates": "jfo"}, {"indy": True}, {"dtype": "float64"}])
def test_one_cell_runs_in_torch(
    tmp_path: Path, rng: Any, forget_bias: float, options: dict[str, Any]
) -> None:
    network = alone(cell(rng, 4, 5, forget_bias=forget_bias, **options))
    assert difference(network, "torch-cell", tmp_path / "w.npz") < 2e-6


def test_names_of_one_cell_are_those_of_torch(tmp_path: Path, rng: Any) -> None:
    found = export(alone(cell(rng, 3, 4)), "torch-cell", tmp_path / "w.npz").content
    assert list(found) == ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]


@pytest.mark.parametrize("to", ["torch", "torch-cell"])
def test_the_program_imports_torch_once(tmp_path: Path, rng: Any, to: str) -> None:
    made = export(alone(cell(rng, 3, 4)), to, tmp_path / "w.pt")
    assert made.describe().count("import torch") == 1
    assert made.check() < 2e-6


@pytest.mark.parametrize("to", ["torch", "torch-cell"])
def test_weights_in_hdf5_run_in_torch(tmp_path: Path, rng: Any, to: str) -> None:
    pytest.importorskip("h5py")
    assert difference(alone(cell(rng, 3, 4)), to, tmp_path / "w.h5") < 2e-6


def test_a_cell_of_torch_has_no_projection_and_no_layers(tmp_path: Path, rng: Any) -> None:
    with pytest.raises(UnsupportedError, match="it has projection"):
        export(alone(cell(rng, 3, 4, 2)), "torch-cell", tmp_path / "w.npz")
    with pytest.raises(UnsupportedError, match="is one cell, and these are 2"):
        export(stacked(rng, 2), "torch-cell", tmp_path / "w.npz")
