"""Weights as models of Keras 3 and tf_keras, run by these."""

from __future__ import annotations

import json
import os
import zipfile
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from exported import difference, export
from networks import alone, cell

from lstmstate.engines.canonical_network import CanonicalCell, Network
from lstmstate.errors import UnsupportedError
from lstmstate.exports.targets import target_of

_BACKENDS = [name for name in ("tensorflow", "torch", "jax") if find_spec(name)]
os.environ.setdefault("KERAS_BACKEND", (*_BACKENDS, "tensorflow")[0])

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy"),  # torch
    pytest.mark.filterwarnings("ignore:.*requested dtype float64"),  # jax
]
FILES = [("keras", "m.keras"), ("keras", "m.weights.h5"), ("tf_keras", "m.h5")]
COMMON = (
    *("tanh", "sigmoid", "identity", "relu", "relu6", "leaky_relu", "elu", "selu"),
    *("softplus", "softsign"),
)


def layers(rng: Any, widths: list[int], directions: int, **options: Any) -> Network:
    """Return a layer of each width, each in one direction or both."""
    stages, size = [], 4
    for width in widths:
        stages.append(tuple((cell(rng, size, width, **options),) for _ in range(directions)))
        size = directions * width
    return Network(tuple(stages))


def assert_runs(to: str, path: Path, network: Network) -> None:
    """Compare a model in its own library with our engine."""
    pytest.importorskip(to)
    assert difference(network, to, path) < 2e-6


@pytest.mark.covering(2)
@pytest.mark.parametrize(("to", "name"), FILES)
@pytest.mark.parametrize(("widths", "forget_bias"), [([5], -1.0), ([5, 3], 1.0), ([2, 6, 3], 2.0)])
@pytest.mark.parametrize("directions", [1, 2])
def test_layers_run_in_keras(
    tmp_path: Path,
    rng: Any,
    to: str,
    name: str,
    widths: list[int],
    directions: int,
    forget_bias: float,
) -> None:
    network = layers(rng, widths, directions, forget_bias=forget_bias)
    assert_runs(to, tmp_path / name, network)


@pytest.mark.parametrize(("to", "name"), FILES)
def test_stacks_of_one_direction_run_after_both(
    tmp_path: Path, rng: Any, to: str, name: str
) -> None:
    both = layers(rng, [3], 2).stages[0]
    stack = (cell(rng, 6, 5), cell(rng, 5, 2))
    assert_runs(to, tmp_path / name, Network((both, (stack,))))


@pytest.mark.parametrize("name", ["m.keras", "m.weights.h5"])
def test_stacks_in_two_directions_run_in_keras(tmp_path: Path, rng: Any, name: str) -> None:
    def chain() -> tuple[CanonicalCell, ...]:
        return (cell(rng, 4, 5), cell(rng, 5, 3), cell(rng, 3, 2, activation="relu"))

    network = Network(((chain(), chain()), ((cell(rng, 4, 3),),)))
    assert_runs("keras", tmp_path / name, network)


@pytest.mark.covering(1)
@pytest.mark.parametrize(("to", "name"), FILES[::2])
@pytest.mark.parametrize("function", COMMON)
def test_activations_run_in_keras(
    tmp_path: Path, rng: Any, to: str, name: str, function: str
) -> None:
    # With both in one cell some states would grow without end.
    assert_runs(to, tmp_path / f"state.{name}", alone(cell(rng, 3, 4, activation=function)))
    gates = cell(rng, 3, 4, recurrent_activation=function, forget_bias=0.0)
    assert_runs(to, tmp_path / f"gates.{name}", alone(gates))


@pytest.mark.parametrize(
    ("to", "name", "own", "other"),
    [
        (*FILES[0], "keras3_hard_sigmoid", "hard_sigmoid"),
        (*FILES[2], "hard_sigmoid", "keras3_hard_sigmoid"),
    ],
)
def test_hard_sigmoid_is_that_of_the_library(
    tmp_path: Path, rng: Any, to: str, name: str, own: str, other: str
) -> None:
    with pytest.raises(UnsupportedError, match=f"recurrent activation {other}"):
        export(alone(cell(rng, 3, 4, recurrent_activation=other)), to, tmp_path / name)
    large = cell(rng, 3, 4, recurrent_activation=own)
    assert_runs(to, tmp_path / name, alone(large._replace(kernel=8 * large.kernel)))


@pytest.mark.covering(1)
@pytest.mark.parametrize(("to", "name"), FILES)
@pytest.mark.parametrize(
    "options", [{"gates": "jfo"}, {"indy": True}, {"dtype": "float64", "forget_bias": 0.0}]
)
def test_cells_of_other_families_run_in_keras(
    tmp_path: Path, rng: Any, to: str, name: str, options: dict[str, Any]
) -> None:
    assert_runs(to, tmp_path / name, alone(cell(rng, 3, 4, **options)))


@pytest.mark.parametrize("to", ["keras", "tf_keras"])
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"peepholes": "ifo"}, "peepholes"),
        ({"cell_clip": 1.0}, "cell_clip"),
        ({"proj": 2}, "projection"),
        ({"activation": "erf"}, "activation erf"),
        ({"candidate": "relu"}, "two activations, relu and tanh"),
        ({"norms": "ijfoc"}, "layer norm"),
        ({"dtype": "float16"}, "dtype float16"),
    ],
)
def test_cells_that_keras_does_not_have_are_refused(
    tmp_path: Path, rng: Any, to: str, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(UnsupportedError, match=words):
        export(alone(cell(rng, 3, 4, **options)), to, tmp_path / f"m.{target_of(to).kinds[0]}")


@pytest.mark.parametrize(("to", "name"), FILES)
def test_directions_of_unlike_widths_are_refused(
    tmp_path: Path, rng: Any, to: str, name: str
) -> None:
    network = Network((((cell(rng, 3, 4),), (cell(rng, 3, 5),)),))
    with pytest.raises(UnsupportedError, match=r"the same widths, and these have \[4\] and \[5\]"):
        export(network, to, tmp_path / name)


def test_stacks_in_two_directions_are_refused_for_tf_keras(tmp_path: Path, rng: Any) -> None:
    chains = tuple((cell(rng, 3, 4), cell(rng, 4, 4)) for _ in range(2))
    with pytest.raises(UnsupportedError, match="tf_keras joins the two directions after each"):
        export(Network((chains,)), "tf_keras", tmp_path / "m.h5")


@pytest.mark.parametrize(
    ("to", "name"), [("keras", "m.h5"), ("keras", "m.npz"), ("tf_keras", "m.keras")]
)
def test_other_endings_are_refused(tmp_path: Path, rng: Any, to: str, name: str) -> None:
    endings = {"keras": ".keras or .weights.h5", "tf_keras": ".h5"}
    with pytest.raises(UnsupportedError, match=f"end the name in {endings[to]}$"):
        export(alone(cell(rng, 3, 4)), to, tmp_path / name)


@pytest.mark.parametrize(("to", "name"), FILES)
def test_the_same_network_makes_the_same_bytes(
    tmp_path: Path, rng: Any, to: str, name: str
) -> None:
    network = layers(rng, [5, 3], 2)
    for folder in "ab":
        (tmp_path / folder).mkdir()
        export(network, to, tmp_path / folder / name)
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_keras_file_is_an_archive_of_config_and_weights(tmp_path: Path, rng: Any) -> None:
    network = layers(rng, [5, 3], 1)
    export(network, "keras", tmp_path / "m.keras")
    with zipfile.ZipFile(tmp_path / "m.keras") as archive:
        members = [(info.filename, info.compress_type, info.date_time) for info in archive.filelist]
        epoch = (1980, 1, 1, 0, 0, 0)
        names = ("metadata.json", "config.json", "model.weights.h5")
        assert members == [(name, zipfile.ZIP_STORED, epoch) for name in names]
        config = json.loads(archive.read("config.json"))["config"]
        with h5py.File(BytesIO(archive.read("model.weights.h5"))) as weights:
            kernel = weights["layers/lstm_1/cell/vars/0"][()]
            bias = weights["layers/lstm_1/cell/vars/2"][()]
    assert config["input_layers"] == [[name, 0, 0] for name in ("x", "h_0", "c_0", "h_1", "c_1")]
    one = network.cells[1]
    i, j, f, o = np.split(one.kernel, 4, axis=1)
    np.testing.assert_array_equal(kernel, np.concatenate([i, f, j, o], axis=1))
    np.testing.assert_array_equal(bias[3:6], one.bias[6:9] + np.float32(1))


def test_long_stacks_have_configs_beyond_an_attribute(tmp_path: Path, rng: Any) -> None:
    export(layers(rng, [1] * 100, 1), "tf_keras", tmp_path / "m.h5")
    with h5py.File(tmp_path / "m.h5") as file:
        assert len(file.attrs["model_config"]) > 1 << 16
        assert len(file["model_weights"].attrs["layer_names"]) == 100


@pytest.mark.parametrize("name", ["m.keras", "m.weights.h5"])
def test_the_readme_names_the_variable_of_the_backend(tmp_path: Path, rng: Any, name: str) -> None:
    text = export(alone(cell(rng, 4, 5)), "keras", tmp_path / name).describe()
    assert "import keras  # on TensorFlow, unless the environment has KERAS_BACKEND=torch" in text
