"""Weights as parameters of Flax, Haiku and Equinox, run by these libraries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exported import difference, export
from networks import alone, cell, stacked, stacked_apart

from lstmstate.cells.activations import ACTIVATIONS
from lstmstate.engines.canonical_network import Network
from lstmstate.engines.numpy_functions import function
from lstmstate.errors import UnsupportedError
from lstmstate.exports.jax_parts import FUNCTIONS

LIBRARIES = {
    "flax": "flax",
    "flax-nnx": "flax",
    "flax-nnx-optimized": "flax",
    "haiku": "haiku",
    "equinox": "equinox",
}


@pytest.fixture(params=LIBRARIES)
def to(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(LIBRARIES[request.param])
    return str(request.param)


@pytest.fixture(autouse=True, scope="module")
def _compile_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Compile fast, and once for cells of the same shapes: it takes most of the time."""
    jax = pytest.importorskip("jax")
    jax.config.update("jax_disable_most_optimizations", True)
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("jax")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


@pytest.mark.parametrize(
    "options",
    [
        {"forget_bias": -1.0},
        {"forget_bias": 2.0, "gates": "jfo"},
        {"forget_bias": 0.0, "indy": True},
        {"forget_bias": 1.0, "dtype": "float64"},
    ],
    ids=repr,
)
def test_cells_run(tmp_path: Path, rng: Any, to: str, options: dict[str, Any]) -> None:
    assert difference(alone(cell(rng, 4, 5, **options)), to, tmp_path / "w.npz") < 2e-6


def test_cells_in_float16_run(tmp_path: Path, rng: Any, to: str) -> None:
    network = alone(cell(rng, 4, 5, dtype="float16"))
    assert difference(network, to, tmp_path / "w.npz") < 5e-3  # each library rounds by itself


def test_stacks_of_both_directions_run(tmp_path: Path, rng: Any, to: str) -> None:
    assert difference(stacked(rng, 2, 2, forget_bias=0.5), to, tmp_path / "w.npz") < 2e-6


def test_stacks_that_are_joined_at_the_end_run(tmp_path: Path, rng: Any, to: str) -> None:
    assert difference(stacked_apart(rng, 2), to, tmp_path / "w.npz") < 2e-6


def test_stacks_of_unlike_cells_in_hdf5_run(tmp_path: Path, rng: Any, to: str) -> None:
    pytest.importorskip("h5py")
    cells = (cell(rng, 4, 5), cell(rng, 5, 3))
    assert difference(Network(((cells,),)), to, tmp_path / "w.h5") < 2e-6


@pytest.mark.parametrize("to", ["flax", "flax-nnx", "flax-nnx-optimized"])
def test_activations_run_in_flax(tmp_path: Path, rng: Any, to: str) -> None:
    pytest.importorskip("flax")
    one = cell(rng, 2, 3, activation="softsign", recurrent_activation="hard_sigmoid")
    assert difference(alone(one), to, tmp_path / "w.npz") < 2e-6


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_functions_of_jax_are_the_same(name: str) -> None:
    jax = pytest.importorskip("jax")
    z = np.linspace(-9, 9, 101, dtype=np.float32)
    expected = np.empty_like(z)
    function(name)(z, expected)
    found = eval(FUNCTIONS[name], {"jax": jax})(z)
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"peepholes": "ifo"}, "peepholes"),
        ({"proj": 3}, "projection"),
        ({"cell_clip": 1.0}, "cell_clip"),
        ({"norms": "ijfoc"}, "layer norm"),
        ({"candidate": "relu"}, "two activations, relu and tanh"),
    ],
)
@pytest.mark.parametrize("to", LIBRARIES)
def test_cells_with_other_parts_are_refused(
    tmp_path: Path, rng: Any, to: str, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(UnsupportedError, match=words):
        export(alone(cell(rng, 4, 5, **options)), to, tmp_path / "w.npz")


@pytest.mark.parametrize("to", ["haiku", "equinox"])
@pytest.mark.parametrize("option", ["activation", "recurrent_activation"])
def test_other_activations_are_refused(tmp_path: Path, rng: Any, to: str, option: str) -> None:
    with pytest.raises(UnsupportedError, match="activation relu"):
        export(alone(cell(rng, 4, 5, **{option: "relu"})), to, tmp_path / "w.npz")


@pytest.mark.parametrize(
    ("to", "shapes"),
    [
        ("flax", {"ii/kernel": (4, 5), "if/kernel": (4, 5), "hf/kernel": (5, 5), "hf/bias": (5,)}),
        ("flax-nnx", {"ig/kernel": (4, 5), "if_/kernel": (4, 5), "hf/bias": (5,)}),
        (
            "flax-nnx-optimized",
            {"dense_i/kernel": (4, 20), "dense_h/kernel": (5, 20), "dense_h/bias": (20,)},
        ),
        ("haiku", {"lstm/linear/w": (9, 20), "lstm/linear/b": (20,)}),
        ("equinox", {"weight_ih": (20, 4), "weight_hh": (20, 5), "bias": (20,)}),
    ],
)
def test_names_are_the_paths_of_the_library(
    tmp_path: Path, rng: Any, to: str, shapes: dict[str, tuple[int, ...]]
) -> None:
    found = export(alone(cell(rng, 4, 5)), to, tmp_path / "w.npz").content
    assert {name: found[name].shape for name in shapes} == shapes
    above = export(stacked(rng, 2), to, tmp_path / "stack.npz").content
    of_stack = {
        name.replace("lstm/", "lstm_1/") if to == "haiku" else f"cell_1/{name}" for name in shapes
    }
    assert of_stack <= above.keys()


def test_haiku_adds_one_to_the_forget_gate(tmp_path: Path, rng: Any) -> None:
    one = cell(rng, 4, 5, forget_bias=1.0)
    found = export(alone(one), "haiku", tmp_path / "w.npz")
    np.testing.assert_array_equal(found.content["lstm/linear/b"], one.bias)
    assert "The forget_bias 1 of `rnn/lstm_cell` is not in its weights" in found.describe()
    other = export(alone(one._replace(forget_bias=0.25)), "haiku", tmp_path / "other.npz")
    assert other.content["lstm/linear/b"][10] == np.float32(one.bias[10] + np.float32(-0.75))
    assert "in the bias of its forget gate as -0.75, since the class adds 1." in other.describe()


@pytest.mark.parametrize(
    ("to", "names"),
    [
        ("flax", ["c", "h"]),
        ("flax-nnx", ["c", "h"]),
        ("flax-nnx-optimized", ["c", "h"]),
        ("haiku", ["hidden", "cell"]),
        ("equinox", ["h", "c"]),
    ],
)
def test_states_have_the_layout_of_the_library(
    tmp_path: Path, rng: Any, to: str, names: list[str]
) -> None:
    text = export(alone(cell(rng, 4, 5)), to, tmp_path / "w.npz").describe()
    assert f"the layout `{to.partition('-')[0]}`" in text
    zeros = text.partition("state = {\n")[2].partition("}")[0]
    assert [line.split("'")[1] for line in zeros.splitlines()] == names
    assert all(f'state[scope + "{name}"]' in text for name in names)
