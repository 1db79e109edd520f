"""Networks as ONNX models, checked by onnx and run by onnxruntime."""

from __future__ import annotations

import errno
import itertools
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exported import difference, export
from networks import Rng, alone, cell, random_network, sequences

from lstmstate import engines
from lstmstate.cells.activations import ACTIVATIONS, ROWS
from lstmstate.engines.canonical_network import CanonicalCell, Network, Pair
from lstmstate.errors import LstmstateError, MissingExtraError, UnsupportedError
from lstmstate.exports import onnx_model, onnx_operator
from lstmstate.files.inputs import gather, version_of

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

Array = Any
CELLS: list[dict[str, Any]] = [
    {},
    {"peepholes": "ifo"},
    {"proj": 3},
    {"proj": 9, "proj_clip": 0.1},
    {"proj": 5, "peepholes": "ifo", "cell_clip": 0.3, "proj_clip": 0.2},
    {"cell_clip": 0.2},
    {"cell_clip": -0.1},
    {"norms": "ijfoc", "norm_epsilon": 1e-3},
    {"norms": "ijfo", "proj": 3, "cell_clip": 0.5},
    {"gates": "jfo"},
    {"gates": "jfo", "peepholes": "fo", "proj": 4},
    {"gates": "jfo", "recurrent_activation": "relu6"},
    {"gates": "jfo", "norms": "jfoc"},
    {"indy": True},
    {"indy": True, "gates": "jfo", "cell_clip": 0.3},
    {"forget_bias": -1.0, "activation": "relu", "candidate": "softsign"},
    {"candidate": "hard_sigmoid", "activation": "leaky_relu", "recurrent_activation": "softsign"},
]
# Without effect on any step; no LSTM operator has a clip of c, so that the cell is a Scan.
SCANNED = {"cell_clip": 1e6}
SYMMETRIC = [row.name for row in ROWS if row.is_symmetric]


def session(network: Network) -> Any:
    """Return a session of the exported network; it reports errors only."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(onnx_model.model(network, "m.onnx"), options)


def operators(network: Network) -> list[str]:
    """Return what each cell of the exported network is: an LSTM, or a Scan."""
    nodes = onnx.load_from_string(onnx_model.model(network, "m.onnx")).graph.node
    return [node.op_type for node in nodes if node.op_type in ("LSTM", "Scan")]


def fed(x: Array, states: list[Pair], lengths: list[int] | None = None) -> dict[str, Array]:
    """Return inputs by their names in the model; x `[steps, batch, I]`."""
    feeds = {"x": np.ascontiguousarray(x.swapaxes(0, 1))}
    for number, (c, m) in enumerate(states):
        feeds |= {f"c_{number}": c, f"m_{number}": m}
    return feeds if lengths is None else feeds | {"lengths": np.array(lengths)}


def assert_runs(
    network: Network,
    rng: Rng,
    *,
    steps: int = 12,
    batch: int = 3,
    lengths: list[int] | None = None,
    tolerance: float = 2e-6,
) -> None:
    """Compare all outputs of the model with the NumPy engine, from a random state."""
    x, states = sequences(rng, network, steps, batch)
    valid = None if lengths is None else np.clip(lengths, 0, steps)
    ran = engines.load("numpy", network).run(x, states, valid)
    found = session(network).run(None, fed(x, states, lengths))
    wanted = [ran.outputs.swapaxes(0, 1), *(half for pair in ran.states for half in pair)]
    for ours, theirs in zip(wanted, found, strict=True):
        assert (theirs.shape, theirs.dtype) == (ours.shape, ours.dtype)
        np.testing.assert_allclose(theirs, ours, rtol=tolerance, atol=tolerance)


def any_cell(rng: Rng, inputs: int, units: int) -> CanonicalCell:
    options = CELLS[rng.integers(len(CELLS))] | {"forget_bias": float(rng.choice([-1, 0, 1, 2]))}
    return cell(rng, inputs, units, **options)


# ---- values


@pytest.mark.parametrize("seed", range(20))
def test_networks_of_any_cells_run(seed: int) -> None:
    rng = np.random.default_rng(seed)
    batch = int(rng.choice([1, 2, 5]))
    lengths = [int(n) for n in rng.integers(0, 14, batch)] if seed % 2 else None
    assert_runs(random_network(rng, any_cell), rng, batch=batch, lengths=lengths)


@pytest.mark.parametrize("options", CELLS)
def test_cells_run_from_their_file(tmp_path: Path, rng: Rng, options: dict[str, Any]) -> None:
    assert difference(alone(cell(rng, 4, 6, **options)), "onnx", tmp_path / "lstm.onnx") < 2e-6


@pytest.mark.parametrize("options", CELLS)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-14), ("float16", 4e-3)])
def test_cells_of_other_types_run(
    rng: Rng, options: dict[str, Any], dtype: str, tolerance: float
) -> None:
    one = cell(rng, 4, 6, **options, dtype=dtype)
    assert_runs(alone(one), rng, lengths=[12, 0, 5], tolerance=tolerance)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("place", ["recurrent_activation", "candidate", "activation"])
@pytest.mark.parametrize(
    "options", [{}, SCANNED, {"dtype": "float64"}], ids=["as it is", "Scan", "float64"]
)
def test_every_activation_runs_in_every_place(
    tmp_path: Path, rng: Rng, place: str, name: str, options: dict[str, Any]
) -> None:
    given: dict[str, Any] = {"candidate": "tanh", "activation": "tanh"} | {place: name}
    # Gates without bounds make a state that explodes: few steps.
    network = alone(cell(rng, 3, 5, forget_bias=0.0, **options, **given))
    dtype = network.dtype
    if (name, dtype) == ("erf", "float64"):
        with pytest.raises(UnsupportedError, match="it has erf of float64"):
            export(network, "onnx", tmp_path / "lstm.onnx")
    else:
        assert_runs(network, rng, steps=3, tolerance=2e-6 if dtype == "float32" else 1e-14)
        assert_runs(network, rng, steps=3, batch=1)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("size", [1e-4, 1.0, 30.0, 500.0])
@pytest.mark.parametrize("options", [{}, SCANNED], ids=["as it is", "Scan"])
def test_activations_agree_far_from_zero(
    rng: Rng, name: str, size: float, options: dict[str, Any]
) -> None:
    """Where exp overflows, too; i and f are 1/2 there."""
    kernel = np.zeros((40, 4, 40), np.float32)
    kernel[:, 1] = np.eye(40)
    one = cell(rng, 40, 40, candidate=name, forget_bias=0.0, **options)._replace(
        kernel=kernel.reshape(40, 160),
        recurrent=np.zeros((40, 160), np.float32),
        bias=np.zeros(160, np.float32),
    )
    x = np.linspace(-size, size, 40, dtype=np.float32).reshape(1, 1, 40)
    states = [(np.zeros((1, 40), np.float32), np.zeros((1, 40), np.float32))]
    ran = engines.load("numpy", alone(one)).run(x, states)
    c = session(alone(one)).run(["final_c_0"], fed(x, states))[0]
    np.testing.assert_allclose(c, ran.states[0][0], rtol=1e-6, atol=1e-6)


def test_alpha_and_beta_go_to_their_own_activations(rng: Rng) -> None:
    """LeakyRelu and Elu take only alpha: they must not take the beta of the next one."""
    takers = ["leaky_relu", "hard_sigmoid", "elu", "keras3_hard_sigmoid", "identity", "tanh"]
    for gates, candidate, activation in itertools.product(takers[1::2], takers, takers):
        given = {"candidate": candidate, "activation": activation, "recurrent_activation": gates}
        assert_runs(alone(cell(rng, 2, 3, **given)), rng, steps=5)


@pytest.mark.parametrize("peepholes", ["", "i", "f", "o", "ifo"])
@pytest.mark.parametrize("batch", [1, 4])
def test_peepholes_agree(rng: Rng, batch: int, peepholes: str) -> None:
    assert_runs(alone(cell(rng, 3, 8, peepholes=peepholes)), rng, batch=batch)


@pytest.mark.parametrize("gates", SYMMETRIC)
@pytest.mark.parametrize("peepholes", ["", "fo"])
def test_coupled_gates_agree(rng: Rng, gates: str, peepholes: str) -> None:
    one = cell(rng, 3, 8, gates="jfo", peepholes=peepholes, recurrent_activation=gates)
    assert_runs(alone(one), rng)


def test_the_comparison_can_fail(rng: Rng, monkeypatch: pytest.MonkeyPatch) -> None:
    """With other gates in the operator."""
    monkeypatch.setattr(onnx_operator, "_GATES", "ifoj")
    with pytest.raises(AssertionError, match="Not equal"):
        assert_runs(alone(cell(rng, 3, 4)), rng)


@pytest.mark.parametrize(
    ("options", "operator"),
    [
        *[({"activation": row.name}, "LSTM" if row.onnx else "Scan") for row in ROWS],
        *[({"recurrent_activation": row.name}, "LSTM" if row.onnx else "Scan") for row in ROWS],
        ({"peepholes": "o"}, "LSTM"),
        ({"indy": True}, "LSTM"),
        ({"gates": "jfo"}, "LSTM"),
        ({"proj_clip": 0.01}, "LSTM"),  # without a projection it has no effect
        ({"gates": "jfo", "recurrent_activation": "tanh"}, "Scan"),
        ({"dtype": "float64"}, "Scan"),
        ({"dtype": "float16"}, "Scan"),
        ({"proj": 2}, "Scan"),
        ({"cell_clip": 3.0}, "Scan"),
        ({"norms": "ijfoc"}, "Scan"),
    ],
    ids=str,
)
def test_a_cell_is_an_lstm_operator_where_that_is_exact(
    rng: Rng, options: dict[str, Any], operator: str
) -> None:
    assert operators(alone(cell(rng, 3, 4, **options))) == [operator]


def test_softplus_of_onnxruntime_is_still_wrong() -> None:
    """From 89 on it is infinite, so the operator has none. Once this fails, it can have it."""
    weights = {"w": np.zeros((1, 4, 1)), "r": np.zeros((1, 4, 1)), "b": np.full((1, 8), 50.0)}
    node = onnx.helper.make_node(
        "LSTM",
        ["x", *weights],
        ["", "", "c"],
        hidden_size=1,
        activations=["Sigmoid", "Softplus", "Tanh"],
    )
    graph = onnx.helper.make_graph(
        [node],
        "softplus",
        [onnx.helper.make_tensor_value_info("x", 1, (1, 1, 1))],
        [onnx.helper.make_tensor_value_info("c", 1, (1, 1, 1))],
        [onnx.numpy_helper.from_array(a.astype(np.float32), k) for k, a in weights.items()],
    )
    opset = onnx.helper.make_opsetid("", 22)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10)
    made = onnxruntime.InferenceSession(model.SerializeToString())
    assert np.isinf(made.run(None, {"x": np.zeros((1, 1, 1), np.float32)})[0]).all()


def test_nan_stays_nan_without_the_lstm_operator(rng: Rng) -> None:
    """The operator of onnxruntime gives ordinary numbers: weights with NaN do not use it."""
    broken, peeping = cell(rng, 3, 4), cell(rng, 3, 4, peepholes="o")
    broken.bias[2] = peeping.peepholes["o"][1] = np.nan
    for one in (broken, peeping, cell(rng, 3, 4, cell_clip=1.0, activation="relu6")):
        x, states = sequences(rng, alone(one), 5, 1)
        x[2:, 0, 1] = np.nan
        ran = engines.load("numpy", alone(one)).run(x, states)
        found = session(alone(one)).run(None, fed(x, states))
        np.testing.assert_allclose(found[0], ran.outputs.swapaxes(0, 1), atol=2e-6)
        np.testing.assert_allclose(found[1], ran.states[0][0], atol=2e-6)


def test_further_columns_are_ignored_where_cells_ignore_them(rng: Rng) -> None:
    first = cell(rng, 3, 4, takes_wider=True)
    for options in ({}, {"cell_clip": 0.3}):
        second = cell(rng, 2, 4, takes_wider=True, **options)
        network = Network((((first, second),),))
        x, states = sequences(rng, network, 5, 2)
        wide = np.concatenate([x, np.full_like(x, np.nan)], axis=2)
        ran = engines.load("numpy", network).run(x, states)
        found = session(network).run(None, fed(wide, states))
        np.testing.assert_allclose(found[0], ran.outputs.swapaxes(0, 1), atol=2e-6)


# ---- lengths


@pytest.mark.parametrize("options", [{}, {"cell_clip": 0.3}, {"proj": 3}, {"dtype": "float64"}])
@pytest.mark.parametrize("lengths", [[6, 3, 1], [0, 2, 6], [0, 0, 0], [99, 5, 2**40], [-1, 2, 3]])
def test_sequences_of_unequal_lengths_run(
    rng: Rng, options: dict[str, Any], lengths: list[int]
) -> None:
    chains = tuple(
        (
            cell(rng, 3, 4, **options),
            cell(
                rng,
                3 if "proj" in options else 4,
                5,
                **(options | ({"proj": 2} if "proj" in options else {})),
            ),
        )
        for _ in range(2)
    )
    assert_runs(Network((chains,)), rng, steps=6, lengths=lengths)


def test_one_length_is_that_of_all_sequences(rng: Rng) -> None:
    network = alone(cell(rng, 3, 4))
    x, states = sequences(rng, network, 6, 3)
    made = session(network)
    one, all_of_them = (made.run(None, fed(x, states, n)) for n in ([4], [4, 4, 4]))
    for a, b in zip(one, all_of_them, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("options", [{}, {"cell_clip": 0.3}])
def test_a_wrong_batch_is_an_error(rng: Rng, options: dict[str, Any]) -> None:
    network = alone(cell(rng, 3, 4, **options))
    made = session(network)
    (x, states), (fewer, alone_one) = (sequences(rng, network, 6, n) for n in (3, 1))
    for wrong in (
        fed(x, alone_one),
        fed(fewer, states),
        fed(x, states, [1, 2]),
        fed(fewer, alone_one, [1, 2]),
        fed(x[:, :0], [(c[:0], m[:0]) for c, m in states]),
    ):
        with pytest.raises(Exception, match="ONNXRuntimeError"):
            made.run(None, wrong)


# ---- models


def test_a_model_is_read_by_its_names_alone(rng: Rng) -> None:
    stage = ((cell(rng, 3, 4),), (cell(rng, 3, 5, 2),))
    made = session(Network((stage, ((cell(rng, 6, 3),),))))
    widths = {"c_0": 4, "m_0": 4, "c_1": 5, "m_1": 2, "c_2": 3, "m_2": 3}
    inputs = {one.name: one.shape for one in made.get_inputs()}
    assert inputs == {
        "x": ["batch", "time", 3],
        **{name: ["batch", width] for name, width in widths.items()},
    }
    assert {one.name: one.shape for one in made.get_outputs()} == {
        "outputs": ["batch", "time", 3],
        **{f"final_{name}": ["batch", width] for name, width in widths.items()},
    }
    (lengths,) = made.get_overridable_initializers()  # an input that may be left out
    assert (lengths.name, lengths.type, lengths.shape) == ("lengths", "tensor(int64)", ["batch"])


def test_a_model_is_valid_reproducible_and_names_its_cells(rng: Rng) -> None:
    name = "rnn/\x1b[31mcell"
    for options, operator in (({}, "LSTM"), ({"cell_clip": 1.0}, "Scan")):
        network = alone(cell(rng, 3, 4, name=name, **options))
        written = onnx_model.model(network, "m.onnx")
        assert written == onnx_model.model(network, "m.onnx")
        found = onnx.load_from_string(written)
        onnx.checker.check_model(found, full_check=True)
        assert (found.ir_version, found.opset_import[0].version) == (10, 22)
        steps = [node for node in found.graph.node if node.op_type in ("LSTM", "Scan")]
        assert [node.op_type for node in steps] == [operator]
        assert steps[0].doc_string == "rnn/\\x1b[31mcell"
        assert not any(a.name == "clip" for node in steps for a in node.attribute)


@pytest.mark.parametrize("options", [{}, {"cell_clip": 0.3, "proj": 5}, {"dtype": "float64"}])
def test_weights_of_a_large_model_are_in_a_file_next_to_it(
    tmp_path: Path, rng: Rng, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    network = alone(cell(rng, 4, 16, **options))
    alone_in_its_file = onnx_model.model(network, "m.onnx")
    monkeypatch.setattr(onnx_model, "_IN_MODEL_BYTES", 1000)
    path, data = tmp_path / "m.onnx", tmp_path / "m.onnx.data"
    made = export(network, "onnx", path)
    assert sorted(one.name for one in tmp_path.iterdir()) == [
        *("m.onnx", "m.onnx.README.md", "m.onnx.data")
    ]
    onnx.checker.check_model(str(path), full_check=True)
    large = [
        {one.key: one.value for one in tensor.external_data}
        for tensor in onnx.load(path, load_external_data=False).graph.initializer
        if tensor.data_location == onnx.TensorProto.EXTERNAL
    ]
    assert [one["location"] for one in large] == ["m.onnx.data"] * len(large)
    assert all(int(one["offset"]) % 4096 == 0 and int(one["length"]) >= 1024 for one in large)
    end = int(large[-1]["offset"]) + int(large[-1]["length"])
    assert data.stat().st_size == end
    onnx.load_external_data_for_model(whole := onnx.load(path), str(tmp_path))
    inside = onnx.load_from_string(alone_in_its_file)
    for ours, theirs in zip(whole.graph.initializer, inside.graph.initializer, strict=True):
        array, wanted = map(onnx.numpy_helper.to_array, (ours, theirs))
        np.testing.assert_array_equal(array, wanted)
    assert made.check() < 2e-6
    assert "`m.onnx.data`" in (tmp_path / "m.onnx.README.md").read_text()


def test_both_files_of_a_model_are_published_or_none(
    tmp_path: Path, rng: Rng, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_model, "_IN_MODEL_BYTES", 0)
    (tmp_path / "m.onnx.data").write_bytes(b"old")
    with pytest.raises(LstmstateError, match=r"m\.onnx\.data: this file exists already"):
        export(alone(cell(rng, 4, 16)), "onnx", tmp_path / "m.onnx")
    assert [one.name for one in tmp_path.iterdir()] == ["m.onnx.data"]


PAIR = ["m.onnx", "m.onnx.README.md", "m.onnx.data"]


@pytest.fixture
def large(tmp_path: Path, rng: Rng) -> Path:
    """A model with its weights in a file next to it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_model, "_IN_MODEL_BYTES", 0)
        export(alone(cell(rng, 4, 16)), "onnx", tmp_path / "m.onnx")
    assert sorted(one.name for one in tmp_path.iterdir()) == PAIR
    return tmp_path / "m.onnx"


def test_the_weights_of_a_model_that_is_replaced_go_with_it(large: Path, rng: Rng) -> None:
    assert export(alone(cell(rng, 4, 6)), "onnx", large, force=True).check() < 2e-6
    assert sorted(one.name for one in large.parent.iterdir()) == PAIR[:2]


def by_others(large: Path) -> None:
    model = onnx.load(large, load_external_data=False)
    model.producer_name = "another program"
    large.write_bytes(model.SerializeToString())


def without_a_place_for_them(large: Path) -> None:
    model = onnx.load(large)
    large.write_bytes(model.SerializeToString())


def damaged(large: Path) -> None:
    large.write_bytes(b"\x0a\xff")


@pytest.mark.parametrize("change", [by_others, without_a_place_for_them, damaged, Path.unlink])
def test_a_file_that_the_replaced_model_does_not_own_is_kept(
    large: Path, rng: Rng, change: Callable[[Path], None]
) -> None:
    change(large)
    before = large.with_name("m.onnx.data").read_bytes()
    export(alone(cell(rng, 4, 6)), "onnx", large, force=True)
    assert large.with_name("m.onnx.data").read_bytes() == before


def test_weights_that_are_a_link_leave_the_file_behind_it(large: Path, rng: Rng) -> None:
    data, real = large.with_name("m.onnx.data"), large.with_name("real")
    data.rename(real)
    data.symlink_to("real")
    export(alone(cell(rng, 4, 6)), "onnx", large, force=True)
    assert real.exists() and not data.is_symlink()


def test_an_input_is_kept_where_it_would_go_with_a_model(large: Path, rng: Rng) -> None:
    before = {one.name: one.read_bytes() for one in large.parent.iterdir()}
    with gather() as inputs, pytest.raises(LstmstateError, match="this is the input"):
        data = large.with_name("m.onnx.data")
        inputs.add(str(data), version_of(data.stat()))
        export(alone(cell(rng, 4, 6)), "onnx", large, force=True)
    assert {one.name: one.read_bytes() for one in large.parent.iterdir()} == before


@pytest.mark.parametrize("failing", range(6))
def test_a_model_that_cannot_be_replaced_keeps_its_weights(
    large: Path, rng: Rng, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    before = {one.name: one.read_bytes() for one in large.parent.iterdir()}
    replace, calls = os.replace, itertools.count()

    def fail_once(*paths: str) -> None:
        if next(calls) == failing:
            raise OSError(errno.EIO, "it fails")
        replace(*paths)

    monkeypatch.setattr(os, "replace", fail_once)
    if failing < 5:  # three old files, and two new ones
        with pytest.raises(LstmstateError, match="it fails"):
            export(alone(cell(rng, 4, 6)), "onnx", large, force=True)
        assert {one.name: one.read_bytes() for one in large.parent.iterdir()} == before
    else:
        export(alone(cell(rng, 4, 6)), "onnx", large, force=True)
        assert next(calls) == 5


@pytest.mark.parametrize("name", ["a..b.onnx", "a\\b.onnx", "\udcff.onnx"])
def test_names_that_no_model_can_refer_to_are_refused(
    tmp_path: Path, rng: Rng, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(onnx_model, "_IN_MODEL_BYTES", 0)
    with pytest.raises(UnsupportedError, match="cannot refer to its weights; give the output"):
        export(alone(cell(rng, 4, 16)), "onnx", tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_large_model_is_checked_without_temporary_files_that_a_signal_would_leave(
    tmp_path: Path, rng: Rng, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_model, "_IN_MODEL_BYTES", 0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    network = alone(cell(rng, 4, 16))
    export(network, "onnx", tmp_path / "m.onnx")
    monkeypatch.setattr(onnx_model, "_OPSET", 6)  # without Scan and with another LSTM
    with pytest.raises(onnx.checker.ValidationError):
        onnx_model.model(network, "n.onnx")


def test_a_missing_package_is_named(rng: Rng, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtraError, match="pip install"):
        onnx_model.model(alone(cell(rng, 3, 4)), "m.onnx")


def test_a_model_is_made_without_onnxruntime(rng: Rng, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert operators(alone(cell(rng, 3, 4))) == ["LSTM"]


def test_files_of_other_kinds_are_refused(tmp_path: Path, rng: Rng) -> None:
    for name in ("lstm.npz", "lstm", "lstm.onnx.csv"):
        with pytest.raises(LstmstateError, match=r"a file for ONNX; end the name in \.onnx"):
            export(alone(cell(rng, 3, 4)), "onnx", tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_the_program_takes_states_by_the_names_of_cells(tmp_path: Path, rng: Rng) -> None:
    cells = [cell(rng, 3, 4, name=f"rnn/'{number}") for number in range(2)]
    cells[1] = cells[1]._replace(kernel=np.zeros((4, 16), np.float32))
    made = export(Network(((tuple(cells),),)), "onnx", tmp_path / "lstm.onnx")
    assert """'c_1': "rnn/'1/c",""" in (tmp_path / "lstm.onnx.README.md").read_text()
    assert made.check() < 2e-6
