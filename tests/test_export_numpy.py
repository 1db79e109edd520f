"""Weights of each gate, and Python files that run them with NumPy alone."""

from __future__ import annotations

import ast
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exported import difference, export
from networks import alone, cell, random_network, sequences, stacked, stacked_apart

from lstmstate import engines
from lstmstate.cells.activations import ACTIVATIONS
from lstmstate.engines.canonical_network import Network
from lstmstate.engines.numpy_functions import function
from lstmstate.errors import UnsupportedError

EVERYTHING: dict[str, Any] = {
    "proj": 3,
    "peepholes": "ifo",
    "norms": "ijfoc",
    "cell_clip": 0.4,
    "proj_clip": 0.2,
    "activation": "relu",
    "recurrent_activation": "hard_sigmoid",
    "forget_bias": -1.0,
}
PARTS: list[dict[str, Any]] = [
    {},
    {"forget_bias": 2.0},
    {"peepholes": "ifo"},
    {"peepholes": "o"},
    {"proj": 3, "proj_clip": 0.2},
    {"proj": 7},
    {"cell_clip": 0.3},
    {"norms": "ijfo"},
    {"norms": "ijfoc", "peepholes": "ifo"},
    {"gates": "jfo", "peepholes": "fo"},
    {"gates": "jfo", "norms": "jfoc", "forget_bias": 0.5},
    {"indy": True},
    {"candidate": "relu"},
    {"dtype": "float64"},
    EVERYTHING,
]


def drawn(rng: Any, inputs: int, units: int) -> Any:
    """Return a cell with some of the parts."""
    return cell(rng, inputs, units, **{**PARTS[rng.integers(len(PARTS))], "dtype": "float32"})


@pytest.fixture(params=["gates", "numpy"])
def to(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def path_of(folder: Path, to: str) -> Path:
    return folder / ("w.py" if to == "numpy" else "w.npz")


@pytest.mark.parametrize("options", PARTS, ids=repr)
def test_cells_run(tmp_path: Path, rng: Any, to: str, options: dict[str, Any]) -> None:
    network = alone(cell(rng, 4, 5, **options))
    assert difference(network, to, path_of(tmp_path, to)) < 2e-6


def test_cells_in_float16_run(tmp_path: Path, rng: Any, to: str) -> None:
    network = alone(cell(rng, 4, 5, dtype="float16"))
    assert difference(network, to, path_of(tmp_path, to)) < 5e-3  # rounded at other places


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("options", [{}, EVERYTHING], ids=["plain", "everything"])
def test_stacks_run(
    tmp_path: Path, rng: Any, to: str, layers: int, directions: int, options: dict[str, Any]
) -> None:
    network = stacked(rng, layers, directions, **options)
    assert difference(network, to, path_of(tmp_path, to)) < 2e-6


def test_stacks_that_are_joined_at_the_end_run(tmp_path: Path, rng: Any, to: str) -> None:
    assert difference(stacked_apart(rng, 2), to, path_of(tmp_path, to)) < 2e-6


@pytest.mark.parametrize("number", range(12))
def test_networks_of_unlike_cells_run(tmp_path: Path, rng: Any, number: int) -> None:
    network = random_network(np.random.default_rng(number), drawn)
    path = tmp_path / "w.py"
    export(network, "numpy", path)
    x, states = sequences(rng, network, steps=6, batch=3)
    lengths = np.array([6, 0, 3])
    ran = engines.load("numpy", network).run(x, states, lengths)
    names = [f"cell_{k}/" for k in range(len(states))] if len(states) > 1 else [""]
    halves = [
        {f"{name}{letter}": half for name, pair in zip(names, pairs, strict=True)
         for letter, half in zip("cm", pair, strict=True)}
        for pairs in (states, ran.states)
    ]  # fmt: skip
    outputs, after = runpy.run_path(str(path))["run"](x.swapaxes(0, 1), halves[0], lengths)
    np.testing.assert_allclose(outputs.swapaxes(0, 1), ran.outputs, atol=2e-6)
    assert after.keys() == halves[1].keys()
    for name, half in halves[1].items():
        np.testing.assert_allclose(after[name], half, atol=2e-6, err_msg=name)


def test_columns_that_a_cell_ignores_are_ignored(tmp_path: Path, rng: Any) -> None:
    network = alone(cell(rng, 4, 5, takes_wider=True))
    export(network, "numpy", tmp_path / "w.py")
    run = runpy.run_path(str(tmp_path / "w.py"))["run"]
    x = rng.uniform(-1, 1, (2, 3, 6))
    np.testing.assert_array_equal(run(x)[0], run(x[..., :4])[0])
    with pytest.raises(ValueError, match="expected x"):
        run(x[..., :3])


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_functions_are_the_same(tmp_path: Path, rng: Any, name: str) -> None:
    export(alone(cell(rng, 4, 5, activation=name)), "numpy", tmp_path / "w.py")
    names = runpy.run_path(str(tmp_path / "w.py"))
    z = np.linspace(-9, 9, 101, dtype=np.float32)
    expected = np.empty_like(z)
    function(name)(z, expected)
    found = names[name](z) if name in names else getattr(np, name)(z)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize(
    "network",
    [
        lambda rng: stacked(rng, 12),
        lambda rng: stacked(rng, 12, 2),
        lambda rng: stacked(rng, 3, 2, **EVERYTHING),
    ],
)
def test_files_have_fewer_than_80_lines(tmp_path: Path, rng: Any, network: Any) -> None:
    export(network(rng), "numpy", tmp_path / "w.py")
    assert len((tmp_path / "w.py").read_text().splitlines()) < 80


def test_files_import_numpy_alone(tmp_path: Path, rng: Any) -> None:
    export(alone(cell(rng, 4, 5, activation="erf")), "numpy", tmp_path / "w.py")
    tree = ast.parse((tmp_path / "w.py").read_text())
    imports = {ast.unparse(node) for node in tree.body if isinstance(node, ast.Import)}
    assert imports == {"import math", "import sys", "import numpy as np"}


def test_files_have_only_the_parts_of_their_cells(tmp_path: Path, rng: Any) -> None:
    export(alone(cell(rng, 4, 5)), "numpy", tmp_path / "w.py")
    text = (tmp_path / "w.py").read_text()
    for part in ("peephole", "projection", "clip", "norm", "backward", "reverse", "math"):
        assert part not in text
    assert "    c = i * j + f * c\n" in text


def test_files_are_programs(tmp_path: Path, rng: Any) -> None:
    network = alone(cell(rng, 4, 5, 3))
    export(network, "numpy", tmp_path / "my lstm.py")
    x, states = sequences(rng, network, steps=6, batch=2)
    np.save(tmp_path / "x.npy", x.swapaxes(0, 1))
    np.savez(tmp_path / "state.npz", c=states[0][0], m=states[0][1])
    for before in ([], ["state.npz"]):
        program = [sys.executable, "-I", "my lstm.py", "x.npy", "y.npz", *before]
        subprocess.run(program, cwd=tmp_path, check=True)
        zeros = [(np.zeros_like(c), np.zeros_like(m)) for c, m in states]
        ran = engines.load("numpy", network).run(x, states if before else zeros)
        with np.load(tmp_path / "y.npz") as found:
            assert set(found) == {"outputs", "c", "m"}
            np.testing.assert_allclose(found["outputs"].swapaxes(0, 1), ran.outputs, atol=2e-6)
            np.testing.assert_allclose(found["c"], ran.states[0][0], atol=2e-6)


def test_a_state_of_other_names_is_refused(tmp_path: Path, rng: Any) -> None:
    export(alone(cell(rng, 4, 5)), "numpy", tmp_path / "w.py")
    run = runpy.run_path(str(tmp_path / "w.py"))["run"]
    x, half = np.zeros((2, 3, 4)), np.zeros((2, 5))
    with pytest.raises(KeyError, match="m"):
        run(x, {"c": half, "h": half})


def test_names_of_strangers_are_text(tmp_path: Path, rng: Any) -> None:
    name = 'a"""\n\'+print(1)#'
    cells = tuple(cell(rng, 4, 4, name=f"{name}{k}") for k in range(2))
    assert difference(Network(((cells,),)), "numpy", tmp_path / "w.py") < 2e-6


def test_another_ending_is_refused(tmp_path: Path, rng: Any) -> None:
    for name in ("w.npz", "w.txt", "w"):
        with pytest.raises(Exception, match=r"\.py"):
            export(alone(cell(rng, 4, 5)), "numpy", tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_weights_are_those_of_each_gate(tmp_path: Path, rng: Any) -> None:
    one = cell(rng, 4, 5, 3, peepholes="ifo", forget_bias=2.0)
    export(alone(one), "numpy", tmp_path / "w.py")
    with np.load(tmp_path / "w.npz") as found:
        shapes = {name.removeprefix("rnn/lstm_cell/"): found[name].shape for name in found}
        np.testing.assert_array_equal(
            found["rnn/lstm_cell/f/bias"], one.bias[10:15] + np.float32(2)
        )
    assert shapes == {
        **{f"{gate}/kernel": (4, 5) for gate in "ijfo"},
        **{f"{gate}/recurrent": (3, 5) for gate in "ijfo"},
        **{f"{gate}/bias": (5,) for gate in "ijfo"},
        **{f"{gate}/peephole": (5,) for gate in "ifo"},
        "projection": (5, 3),
    }


def test_gates_that_are_one_minus_another_need_a_symmetric_function(
    tmp_path: Path, rng: Any
) -> None:
    one = cell(rng, 4, 5, gates="jfo", recurrent_activation="relu")
    with pytest.raises(UnsupportedError, match="i = 1 - f with the activation relu"):
        export(alone(one), "numpy", tmp_path / "w.py")


def test_gates_in_hdf5_run(tmp_path: Path, rng: Any) -> None:
    pytest.importorskip("h5py")
    assert difference(stacked(rng, 2), "gates", tmp_path / "w.h5") < 2e-6


def test_a_program_without_its_arguments_prints_its_usage(tmp_path: Path, rng: Any) -> None:
    export(alone(cell(rng, 4, 5)), "numpy", tmp_path / "lstm.py")
    for words in ([], ["x.npy"], ["x.npy", "y.npz", "s.npz", "more"]):
        program = [sys.executable, "lstm.py", *words]
        done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.stderr == "usage: python lstm.py x.npy outputs.npz [state.npz]\n"
        assert done.returncode == 1


@pytest.mark.parametrize("to", ["gates", "numpy"])
def test_functions_of_the_standard_library_are_imported(tmp_path: Path, rng: Any, to: str) -> None:
    path = tmp_path / ("w.py" if to == "numpy" else "w.npz")
    assert difference(alone(cell(rng, 4, 5, activation="erf")), to, path) < 2e-6
