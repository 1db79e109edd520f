"""CuDNNLSTM of Keras: kernels in cuDNN's order, and a bias of 8H.

Compared with tf_keras' own conversion of its weights into an LSTM layer (no CPU runs the
operation of the class), and against its equations with the kernels read element by element.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import writers
from commands import Array, Shell, checkpoint, numbers
from conftest import SHARED

from lstmstate import open_checkpoint
from lstmstate.cells import Option
from lstmstate.cells.cell import Cell
from lstmstate.errors import UnsupportedError

I, H, BATCH, STEPS = 3, 5, 2, 6  # noqa: E741 - the letters of the facts
ECOSYSTEM = SHARED / "ecosystem" / "keras224-cudnnlstm"


def weights(scope: str = "cu_dnnlstm", inputs: int = I, units: int = H) -> dict[str, Array]:
    """Return the variables of a layer."""
    shapes = {"kernel": (inputs, 4 * units), "recurrent_kernel": (units, 4 * units)}
    shapes |= {"bias": (8 * units,)}  # type: ignore[dict-item]
    return {
        f"{scope}/{leaf}": numbers(*shape, seed=seed) / 4
        for seed, (leaf, shape) in enumerate(shapes.items())
    }


def sequence(inputs: int = I) -> Array:
    return numbers(BATCH, STEPS, inputs, seed=9)


def ran(folder: Path, variables: dict[str, Array], x: Array) -> tuple[Array, Any]:
    """Run the only cell of a checkpoint, with all options passed."""
    network = open_checkpoint(checkpoint(folder / "x.ckpt", variables)).network()
    return network.run(x)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def plain_run(variables: dict[str, Array], x: Array) -> tuple[Array, Array, Array]:
    """Step with the weights at cuDNN's positions, in float64.

    The weight from input a to unit k of a gate is number `k * I + a` of the gate's block of the
    kernel in memory, gate after gate: i, f, c, o; the one from unit b to unit k is in row k.
    """
    kernel, recurrent, bias = (value.astype("f8") for value in variables.values())
    inputs, units = kernel.shape[0], recurrent.shape[0]
    gates = []
    for gate in range(4):
        columns = slice(gate * units, (gate + 1) * units)
        memory = [float(value) for row in kernel[:, columns] for value in row]
        of_x = np.array([[memory[k * inputs + a] for k in range(units)] for a in range(inputs)])
        of_m = np.array([[recurrent[k, columns][b] for k in range(units)] for b in range(units)])
        gates.append((of_x, of_m, bias[columns] + bias[4 * units :][columns]))
    c = m = np.zeros((len(x), units))
    outputs = []
    for at in x.swapaxes(0, 1).astype("f8"):
        i, f, j, o = (at @ of_x + m @ of_m + b for of_x, of_m, b in gates)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(j)
        m = sigmoid(o) * np.tanh(c)
        outputs.append(m)
    return np.stack(outputs, 1), c, m


@pytest.mark.parametrize(("inputs", "units"), [(3, 5), (5, 3), (4, 4), (1, 2), (7, 1)])
def test_the_kernels_are_read_as_cudnn_reads_them(tmp_path: Path, inputs: int, units: int) -> None:
    variables, x = weights(inputs=inputs, units=units), sequence(inputs)
    outputs, state = ran(tmp_path, variables, x)
    for ours, theirs in zip((outputs, *state), plain_run(variables, x), strict=True):
        assert np.abs(ours - theirs).max() <= 1e-6


def test_a_run_equals_a_keras_lstm_with_the_converted_weights(
    tmp_path: Path,
) -> None:
    tf_keras = pytest.importorskip("tf_keras")
    convert = pytest.importorskip("tf_keras.src.saving.legacy.hdf5_format")._convert_rnn_weights
    layer = tf_keras.layers.LSTM(H, return_sequences=True, recurrent_activation="sigmoid")
    variables, x = weights(), sequence()
    layer(x)  # creates its variables
    layer.set_weights(convert(layer, list(variables.values())))
    assert np.abs(ran(tmp_path, variables, x)[0] - np.array(layer(x))).max() <= 1e-6


def test_a_keras_lstm_with_the_same_weights_gives_other_values(tmp_path: Path) -> None:
    """Only the length of the bias differs."""
    variables = weights("lstm")
    variables["lstm/bias"] = variables["lstm/bias"][: 4 * H]
    path = checkpoint(tmp_path / "lstm.ckpt", variables)
    network = open_checkpoint(path).network()
    outputs, _ = network.run(sequence(), recurrent_activation="sigmoid", activation="tanh")
    assert np.abs(outputs - ran(tmp_path, weights("lstm"), sequence())[0]).max() > 0.05


@pytest.mark.parametrize(
    "scope", ["cu_dnnlstm", "cu_dnnlstm_3", "model/my_layer", "bidirectional/forward_cu_dnnlstm"]
)
def test_it_has_its_own_family_and_no_options(scope: str) -> None:
    shapes = {name: value.shape for name, value in weights(scope).items()}
    (cell,) = writers.cells(shapes).values()
    assert (cell.name, cell.family, cell.gate_order) == (scope, "CuDNNLSTM", "ifjo")
    assert (cell.input_size, cell.num_units, cell.native_layout) == (I, H, "keras")
    expected = {"activation": "tanh", "recurrent_activation": "sigmoid", "forget_bias": 0.0}
    expected |= {"cell_clip": None, "proj_clip": None, "state_is_tuple": True}  # type: ignore[dict-item]
    assert {name: cell.options[name] for name in expected} == {
        name: Option(value, "family") for name, value in expected.items()
    }


def cell_of(shapes: dict[str, Any]) -> Cell:
    (cell,) = writers.cells(shapes).values()
    return cell


def test_other_cudnn_cells_are_not_mistaken_for_it() -> None:
    """CudnnCompatibleLSTMCell has one kernel; an LSTM of Keras a bias of 4H, or none."""
    scope = "cudnn_lstm/rnn/multi_rnn_cell/cell_0/cudnn_compatible_lstm_cell"
    compatible = {f"{scope}/kernel": (I + H, 4 * H), f"{scope}/bias": (4 * H,)}
    assert cell_of(compatible).family == "CudnnCompatibleLSTMCell"
    kernels = {"cu_dnnlstm/kernel": (I, 4 * H), "cu_dnnlstm/recurrent_kernel": (H, 4 * H)}
    assert cell_of(kernels).family == "Keras LSTM"
    assert cell_of(kernels | {"cu_dnnlstm/bias": (4 * H,)}).family == "Keras LSTM"


def test_a_run_without_a_graph_needs_no_flag(shell: Shell, tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "x.ckpt", weights())
    np.save(tmp_path / "x.npy", sequence())
    assert "CuDNNLSTM" in shell("run", "--strict", path, tmp_path / "x.npy", code=0).out


# ---- the graph of a layer: one operation, which takes all weights as one vector


def with_graph(folder: Path, op: str, edit: Callable[[Any], None] | None = None) -> str:
    """Write the variables of a layer, and the graph of Keras with this cuDNN operation."""
    prefix = checkpoint(folder / "model.ckpt", weights())
    tf = writers.tensorflow()
    with writers.as_in_1_x(tf):  # no CPU runs such a graph
        x = tf.placeholder(tf.float32, [None, STEPS, I])
        tf.keras.layers.CuDNNLSTM(H, return_sequences=True)(x)
        tf.train.Saver().export_meta_graph(f"{prefix}.meta")

    def changed(meta: Any) -> None:
        (cell,) = (node for node in meta.graph_def.node if node.op == "CudnnRNNV3")
        cell.op = op
        if op != "CudnnRNNV3":  # which also takes the lengths of the sequences
            del cell.input[4:]
        if edit:
            (vector,) = (node for node in meta.graph_def.node if node.name == cell.input[3])
            edit(vector.input)

    writers.edit_graph(prefix, changed)
    return prefix


def swapped(kernels: Any) -> None:
    """Pass the kernels of i and f to cuDNN in the other order."""
    kernels[0], kernels[1] = kernels[1], kernels[0]


OPS = ["CudnnRNN", "CudnnRNNV2", "CudnnRNNV3"]


@pytest.mark.parametrize("op", OPS)
def test_the_graph_confirms_the_cell(op: str, tmp_path: Path) -> None:
    network = open_checkpoint(with_graph(tmp_path, op)).network()
    loaded = network.load()
    assert (loaded.engine, loaded.confirmed) == ("numpy", True)
    for engine in ("numpy", "graph"):
        outputs, state = network.run(sequence(), engine=engine)
        for one, other in zip((outputs, *state), plain_run(weights(), sequence()), strict=True):
            assert np.abs(one - other).max() <= 1e-6


@pytest.mark.filterwarnings("ignore:.*the graph's own step is run")
def test_a_graph_that_passes_weights_differently_is_run_as_written(tmp_path: Path) -> None:
    network = open_checkpoint(with_graph(tmp_path, "CudnnRNN", swapped)).network()
    with pytest.raises(UnsupportedError, match="the graph contradicts this cell"):
        network.load("numpy")
    assert network.load().engine == "graph"
    values = weights()
    kernel = values["cu_dnnlstm/kernel"]
    kernel[:, : 2 * H] = np.concatenate([kernel[:, H : 2 * H], kernel[:, :H]], 1)
    outputs, state = network.run(sequence())
    for one, other in zip((outputs, *state), plain_run(values, sequence()), strict=True):
        assert np.abs(one - other).max() <= 1e-6


@pytest.mark.skipif(not ECOSYSTEM.is_dir(), reason="the cases of libraries are not available")
@pytest.mark.parametrize("graph", [True, False])
def test_a_layer_saved_by_keras(tmp_path: Path, graph: bool) -> None:
    """Keras 2.2.4 on TensorFlow 1.15.5; the values come from its own conversion to LSTM."""
    for path in ECOSYSTEM.glob("model.ckpt*"):
        if graph or path.suffix != ".meta":
            shutil.copy(path, tmp_path)
    ckpt = open_checkpoint(tmp_path / "model.ckpt")
    assert (ckpt.graph is not None) == graph
    with np.load(ECOSYSTEM / "state.npz") as start, np.load(ECOSYSTEM / "expected.npz") as expected:
        from lstmstate.state.state import LSTMState

        network = ckpt.network()
        outputs, state = network.run(
            np.load(ECOSYSTEM / "x.npy"), LSTMState(start["c"], start["m"])
        )
        found = {"outputs": outputs, "c": state.c, "m": state.m}  # type: ignore[union-attr]
        assert {name: float(np.abs(found[name] - expected[name]).max()) for name in found} == {
            name: pytest.approx(0, abs=3e-6) for name in found
        }
