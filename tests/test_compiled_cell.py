"""Compiled steps: against the reference step and NumPy, for every kind of vectors."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from networks import Array, alone, cell, sequences

from lstmstate.engines import canonical_network, compiled_cell, load, numpy_engine
from lstmstate.engines.canonical_network import CanonicalCell
from lstmstate.engines.compiled_cell import CompiledCell
from lstmstate.engines.numpy_cell import NumpyCell
from lstmstate.engines.numpy_engine import run_padded
from lstmstate.engines.numpy_functions import function
from lstmstate.engines.reference_step import step

if compiled_cell.extension() is None:
    pytest.skip("the compiled steps are not built", allow_module_level=True)

VECTORS = range(len(compiled_cell.extension().vectors()))
ACTIVATIONS = tuple(compiled_cell._CODES)
ODD = ("tanh", "softsign", "identity", "leaky_relu")  # they keep the sign of zero
TOLERANCES = {"float32": 1e-6, "float64": 1e-14}
CELLS: dict[str, dict[str, Any]] = {
    "plain": {},
    "peepholes": {"peepholes": "ifo"},
    "some peepholes": {"peepholes": "fo"},
    "projected": {"proj": 3, "proj_clip": 0.1},
    "clipped": {"cell_clip": 0.2, "forget_bias": -0.5},
    "negative clips": {"cell_clip": -0.1, "proj": 3, "proj_clip": -0.2},
    "all of them": {"peepholes": "ifo", "proj": 5, "proj_clip": 0.1, "cell_clip": 0.3},
    "coupled": {"gates": "jfo"},
    "coupled peepholes": {"gates": "jfo", "peepholes": "fo", "cell_clip": 0.3},
}


@pytest.fixture(params=VECTORS, ids=[name for name, _ in compiled_cell.extension().vectors()])
def vectors(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def run(one: CompiledCell | NumpyCell, x: Array, c: Array, m: Array, keep: str = "") -> list[Array]:
    """Return the outputs, c and m after all steps, and the kept values."""
    outputs = np.empty((*x.shape[:2], one.cell.widths.m), x.dtype)
    wide = {letter: one.cell.widths.m if letter == "m" else one.cell.widths.c for letter in keep}
    kept = {letter: np.empty((*x.shape[:2], wide[letter]), x.dtype) for letter in keep}
    state = one.run(x, c, m, outputs, kept)
    return [outputs, *state, *kept.values()]


def run_reference(one: CanonicalCell, x: Array, c: Array, m: Array) -> list[Array]:
    """Return the outputs, c and m in float64."""
    one, x, c, m = one.in_float64(), x.astype("f8"), c.astype("f8"), m.astype("f8")
    outputs = []
    for row in x:
        c, m = step(one, row, c, m)
        outputs.append(m)
    return [np.stack(outputs), c, m]


def drawn(one: CanonicalCell, steps: int, batch: int) -> tuple[Array, Array, Array]:
    x, ((c, m),) = sequences(np.random.default_rng(3), alone(one), steps, batch)
    return x, c, m


@pytest.mark.parametrize("units", [1, 7, 16, 33])
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("kind", CELLS)
def test_compiled_steps_are_those_of_the_reference(
    vectors: int, kind: str, dtype: str, units: int
) -> None:
    one = cell(np.random.default_rng(0), 4, units, dtype=dtype, **CELLS[kind])
    for batch in (1, 2, 7):
        data = drawn(one, 5, batch)
        for ours, expected in zip(
            run(CompiledCell(one, vectors), *data), run_reference(one, *data), strict=True
        ):
            np.testing.assert_allclose(ours, expected, rtol=0, atol=TOLERANCES[dtype])


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_compiled_activations_are_those_of_the_table(vectors: int, name: str, dtype: str) -> None:
    for places in (
        {"activation": name},
        {"recurrent_activation": name, "candidate": "relu"},
    ):
        one = cell(np.random.default_rng(1), 3, 9, dtype=dtype, peepholes="ifo", **places)
        data = drawn(one, 3, 2)
        for ours, expected in zip(
            run(CompiledCell(one, vectors), *data), run_reference(one, *data), strict=True
        ):
            np.testing.assert_allclose(ours, expected, rtol=0, atol=3 * TOLERANCES[dtype])


def open_gates(dtype: str, candidate: str) -> CanonicalCell:
    """Return a cell of one unit with c' = candidate(x)."""
    one = cell(np.random.default_rng(0), 1, 1, dtype=dtype, candidate=candidate, activation="tanh")
    wide = {"kernel": [[0, 1, 0, 0]], "recurrent": [[0, 0, 0, 0]], "bias": [1e3, 0, -1e3, 1e3]}
    return one._replace(forget_bias=0.0, **{k: np.array(v, dtype) for k, v in wide.items()})


@pytest.mark.parametrize(("dtype", "error"), [("float32", 1.5e-7), ("float64", 3e-16)])
@pytest.mark.parametrize("name", ["tanh", "sigmoid"])
def test_tanh_and_sigmoid_are_exact_to_the_last_digits(
    vectors: int, name: str, dtype: str, error: float
) -> None:
    x = np.concatenate([np.linspace(-30, 30, 20_001), np.geomspace(1e-30, 1e3, 999)])
    x = np.concatenate([x, -x]).astype(dtype)
    one = CompiledCell(open_gates(dtype, name), vectors)
    zeros = np.zeros((len(x), 1), dtype)
    _, c, _ = run(one, x[None, :, None], zeros, zeros)
    expected = x.astype(np.longdouble)
    with np.errstate(over="ignore"):
        expected = np.tanh(expected) if name == "tanh" else 1 / (1 + np.exp(-expected))
    assert np.abs(c[:, 0] - expected).max() <= error


@pytest.mark.parametrize("is_standard", [False, True])
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_nan_inf_and_signed_zeros_are_those_of_numpy(
    vectors: int, name: str, dtype: str, is_standard: bool
) -> None:
    values = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e30, -1e30], dtype)
    expected = values.copy()
    with np.errstate(all="ignore"):
        function(name)(expected, expected)
    one = open_gates(dtype, name)._replace(activation="tanh" if is_standard else "identity")
    nothing = np.array([[0, -0.0, 0, 0]], dtype)  # which leaves a zero of the bias as it is
    found = []
    for value in values:
        bias = np.array([0, value, 0, 0], dtype)
        ready = CompiledCell(one._replace(kernel=nothing, recurrent=nothing, bias=bias), vectors)
        found.append(run(ready, *(np.zeros(s, dtype) for s in ((1, 1, 1), (1, 1), (1, 1))), "j")[3])
    j = np.ravel(found)
    np.testing.assert_allclose(j, expected, rtol=3e-7, atol=0)
    if name in ODD:
        assert np.array_equal(np.signbit(j[3:5]), [False, True])


def cut(one: CompiledCell, data: tuple[Array, Array, Array], size: int) -> list[Array]:
    """Run some rows of a batch at a time, and some steps at a time."""
    x, c, m = data
    parts = []
    for first in range(0, x.shape[1], size):
        rows = slice(first, first + size)
        state, outputs = (c[rows], m[rows]), []
        for start in range(0, len(x), size):
            made, *state = run(one, x[start : start + size, rows], *state)
            outputs.append(made)
        parts.append([np.concatenate(outputs), *state])
    return [np.concatenate([p[k] for p in parts], axis=int(k == 0)) for k in range(3)]


@settings(deadline=None, max_examples=15)
@given(
    some.integers(1, 9), some.integers(1, 9), some.integers(1, 40), some.integers(1, 4),
    some.sampled_from(sorted(CELLS)),
)  # fmt: skip
def test_the_bytes_do_not_depend_on_how_the_work_is_cut(
    batch: int, steps: int, units: int, size: int, kind: str
) -> None:
    one = CompiledCell(cell(np.random.default_rng(2), 3, units, **CELLS[kind]))
    data = drawn(one.cell, steps, batch)
    whole = run(one, *data)
    for ours, expected in zip(cut(one, data, size), whole, strict=True):
        assert ours.tobytes() == expected.tobytes()
    for ours, expected in zip(run(one, *data, "ijfocm"), whole, strict=False):  # kept or not
        assert ours.tobytes() == expected.tobytes()


@pytest.mark.parametrize("batch", [1, 3, 40])  # threads share units, or rows
@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("small", [False, True])  # chunks of few steps, and several calls
def test_the_bytes_do_not_depend_on_the_number_of_threads(
    monkeypatch: pytest.MonkeyPatch, kind: str, batch: int, small: bool
) -> None:
    if small:
        monkeypatch.setattr(compiled_cell, "_CHUNK_BYTES", 1)
        monkeypatch.setattr(canonical_network, "_ROWS_AT_ONCE", 3)
        monkeypatch.setattr(compiled_cell, "_CALL", 8 * 280 * 73 * batch)
    one = CompiledCell(cell(np.random.default_rng(2), 3, 70, **CELLS[kind]))
    data = drawn(one.cell, 20, batch)
    found = []
    for count in (1, 2, 3, 8):
        monkeypatch.setattr(compiled_cell, "_threads", lambda *_, count=count: count)
        found.append([array.tobytes() for array in run(one, *data, "ijfoc")])
    assert found[1:] == found[:1] * 3


def test_threads_are_started_for_much_work_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(compiled_cell, "_quota", lambda: 99)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(4), raising=False)
    products = {20 * 80: 1, 128 * 512: 1, 8 * 128 * 512: 4, 1 << 30: 4}
    assert {size: compiled_cell._threads(size, 1000) for size in products} == products
    assert compiled_cell._threads(8 * 128 * 512, 1) == 1
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(99), raising=False)
    assert compiled_cell._threads(1 << 30, 1) == 8


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("batch", [1, 7, 16])
def test_weights_that_are_larger_than_the_caches(vectors: int, batch: int, dtype: str) -> None:
    """Their products are summed a part of the depth at a time."""
    options = {"peepholes": "ifo", "proj": 530, "cell_clip": 0.3}
    one = cell(np.random.default_rng(2), 300, 540, dtype=dtype, **options)
    assert one.projection is not None
    small = one.kernel / 16, one.recurrent / 16, one.projection / 16  # as sums of so many have them
    one = one._replace(**dict(zip(("kernel", "recurrent", "projection"), small, strict=True)))
    data = drawn(one, 3, batch)
    ran = run(CompiledCell(one, vectors), *data)
    for ours, expected in zip(ran, run_reference(one, *data), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=0, atol=4 * TOLERANCES[dtype])
    alone_in_batch = run(CompiledCell(one, vectors), *(array[..., :1, :] for array in data))
    for ours, expected in zip(alone_in_batch, ran, strict=True):
        assert ours.tobytes() == np.ascontiguousarray(expected[..., :1, :]).tobytes()


WITHOUT_THREADS = """
import resource, sys
import numpy as np
sys.path.insert(0, sys.argv[1])
from networks import cell
from lstmstate.engines import compiled_cell
one = compiled_cell.CompiledCell(cell(np.random.default_rng(2), 3, 70))
x, c, m = np.ones((5, 3, 3), "f4"), np.zeros((3, 70), "f4"), np.zeros((3, 70), "f4")
found = []
for count in (1, 4):
    compiled_cell._threads = lambda *_: count
    if count > 1:
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (6 << 20), -1))  # a stack has 8 MiB
    one.run(x, c, m, outputs := np.zeros((5, 3, 70), "f4"), {})
    found.append(outputs.tobytes())
assert found[0] == found[1] and any(found[0])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are those of Linux")
def test_threads_that_cannot_be_started_are_done_without() -> None:
    tests = str(Path(__file__).parent)
    subprocess.run([sys.executable, "-c", WITHOUT_THREADS, tests], check=True, timeout=60)


def test_a_large_batch_is_run_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    one = CompiledCell(cell(np.random.default_rng(2), 3, 5))
    x, c, m = drawn(one.cell, 4, 7)
    whole = run_padded(one, x, c, m, None, "jm")
    monkeypatch.setattr(compiled_cell, "_GATES", 2 * 4 * one._padded)
    assert one.most_rows == 2
    outputs, state, kept = run_padded(one, x, c, m, None, "jm")
    for ours, expected in zip(
        (outputs, *state, *kept.values()), (whole[0], *whole[1], *whole[2].values()), strict=True
    ):
        assert ours.tobytes() == expected.tobytes()


@pytest.mark.parametrize("kind", CELLS)
def test_kept_gates_are_those_of_numpy(vectors: int, kind: str) -> None:
    one = cell(np.random.default_rng(4), 3, 19, **CELLS[kind])
    data = drawn(one, 6, 3)
    for ours, expected in zip(
        run(CompiledCell(one, vectors), *data, "ijfocm"),
        run(NumpyCell(one), *data, "ijfocm"),
        strict=True,
    ):
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-6)


@pytest.fixture
def unset() -> Iterator[None]:
    compiled_cell.extension.cache_clear()
    yield
    compiled_cell.extension.cache_clear()


def test_a_variable_of_the_environment_switches_them_off(
    monkeypatch: pytest.MonkeyPatch, unset: None
) -> None:
    one = cell(np.random.default_rng(0), 3, 4)
    assert isinstance(numpy_engine.prepare(one), CompiledCell)
    compiled_cell.extension.cache_clear()
    monkeypatch.setenv(compiled_cell.SWITCH, "0")
    assert isinstance(numpy_engine.prepare(one), NumpyCell)


@pytest.mark.parametrize(
    "options", [{"dtype": "float16"}, {"norms": "ijfoc"}, {"indy": True}, {"activation": "erf"}]
)
def test_numpy_runs_the_cells_that_they_do_not_take(options: dict[str, Any]) -> None:
    one = cell(np.random.default_rng(0), 3, 4, **options)
    assert isinstance(numpy_engine.prepare(one), NumpyCell)
    x, states = sequences(np.random.default_rng(0), alone(one), 2, 2)
    assert np.isfinite(load("numpy", alone(one)).run(x, states).outputs).all()


@pytest.mark.parametrize("name", ["outputs", "kept"])
def test_arrays_of_another_dtype_are_refused(name: str) -> None:
    one = CompiledCell(cell(np.random.default_rng(0), 3, 4))
    x, c, m = drawn(one.cell, 2, 2)
    outputs, kept = np.empty((2, 2, 4), x.dtype), {"c": np.empty((2, 2, 4), x.dtype)}
    with pytest.raises(ValueError, match="expected arrays of float32"):
        if name == "outputs":
            one.run(x, c, m, outputs.astype("f8"), kept)
        else:
            one.run(x, c, m, outputs, {"c": np.empty((2, 4, 2), x.dtype).swapaxes(1, 2)})


def test_outputs_have_the_dtype_of_the_cell() -> None:
    for dtype, other in (("float32", "float64"), ("float64", "float32")):
        one = cell(np.random.default_rng(0), 3, 4, dtype=dtype)
        x, c, m = drawn(one, 3, 2)
        expected = run_padded(NumpyCell(one), x, c, m, None, "c")
        outputs, _, kept = run_padded(CompiledCell(one), x.astype(other), c, m, None, "c")
        assert outputs.dtype == kept["c"].dtype == dtype
        np.testing.assert_allclose(outputs, expected[0], rtol=0, atol=1e-6)


def test_the_input_of_few_steps_is_multiplied_at_once_if_a_step_is_large() -> None:
    assert canonical_network.steps_at_once(4 * 65536 * 4, 1, 1 << 18) == 8
    assert canonical_network.steps_at_once(4 << 28, 1, 1 << 18) == 1


def test_a_limit_of_processors_is_one_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(99), raising=False)
    for asked, expected in (("3", 3), ("", 8), ("many", 8), ("4,2", 8)):
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
        assert compiled_cell._threads(1 << 30, 9) == expected
    monkeypatch.setattr(compiled_cell, "_quota", lambda: 2)
    assert compiled_cell._threads(1 << 30, 9) == 2


def test_a_plan_of_another_build_is_refused() -> None:
    with pytest.raises(ValueError, match="of another build"):
        compiled_cell.extension().run(0, 0, b"short")


def test_inputs_of_another_dtype_are_converted() -> None:
    one = CompiledCell(cell(np.random.default_rng(2), 3, 5))
    x, c, m = drawn(one.cell, 4, 2)
    outputs = np.empty((4, 2, 5), "f4")
    state = one.run(x.astype("f8"), c.astype("f8"), m.astype("f8"), outputs, {})
    for ours, expected in zip((outputs, *state), run(one, x, c, m), strict=True):
        assert ours.tobytes() == expected.tobytes()
