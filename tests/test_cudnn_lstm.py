"""Layers of cuDNN, and weights and outputs of cells."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import writers
from commands import (
    SAMPLES,
    SECOND,
    SUNSPOTS,
    Array,
    Shell,
    archive,
    checkpoint,
    error,
    lstm_cell,
    numbers,
    saved,
)
from conftest import SHARED

import lstmstate
from lstmstate import open_checkpoint
from lstmstate.cells import Option
from lstmstate.cells.cell import Cell
from lstmstate.cli import execute as run
from lstmstate.errors import UnsupportedError
from lstmstate.model.network_loader import RunOptions

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


def cudnn_ran(folder: Path, variables: dict[str, Array], x: Array) -> tuple[Array, Any]:
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
    outputs, state = cudnn_ran(tmp_path, variables, x)
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
    assert np.abs(cudnn_ran(tmp_path, variables, x)[0] - np.array(layer(x))).max() <= 1e-6


def test_a_keras_lstm_with_the_same_weights_gives_other_values(tmp_path: Path) -> None:
    """Only the length of the bias differs."""
    variables = weights("lstm")
    variables["lstm/bias"] = variables["lstm/bias"][: 4 * H]
    path = checkpoint(tmp_path / "lstm.ckpt", variables)
    network = open_checkpoint(path).network()
    outputs, _ = network.run(sequence(), recurrent_activation="sigmoid", activation="tanh")
    assert np.abs(outputs - cudnn_ran(tmp_path, weights("lstm"), sequence())[0]).max() > 0.05


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
        network.load(RunOptions("numpy"))
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


# ---- outputs of a run and weights of a network, which are never read as a state


OUTPUTS = "these are outputs of a run, not a state; lstmstate run writes the state"
WEIGHTS = "not a state; a state is the c and m of a cell"


def datasets(
    path: Path, arrays: Mapping[str, Array], attributes: Mapping[str, str] | None = None
) -> Path:
    """Write an HDF5 file of some arrays, with attributes of its root group."""
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array)
        file.attrs.update(attributes or {})
    return path


def refused_as_a_state(shell: Shell, path: Path | str, words: str) -> None:
    """Check that every command with a state as its input refuses a path and writes nothing."""
    target = Path(str(path).partition(":")[0]).parent / "refused"
    out = [f"{target}.npz"]
    for arguments in (
        ["convert", path, "--to-tuple", "-o", *out],
        ["convert", path, "--to-tuple", "--units", "2", "-o", *out],
        ["convert", path, "--to-flat", "--from", "tuple", "-o", *out],
        ["split", path, "-o", f"{target}.c.npy", f"{target}.m.npy"],
        ["concat", path, path, "-o", *out],
        ["diff", path, f"{SUNSPOTS}:saved_state"],
        ["check", path, "--finite"],
        ["check", path, "--units", "2"],
        ["run", "-q", SUNSPOTS, saved(target.with_suffix(".npy"), numbers(3, 1)), "--state", path],
    ):
        done = shell(*arguments, code=3)
        assert done.out == ""
        assert words in error(done), arguments
    assert [file.name for file in target.parent.glob("refused*")] == ["refused.npy"]
    with pytest.raises(lstmstate.LstmstateError, match="not a state"):
        lstmstate.load_state(str(path))


# ---- outputs of a run


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of out.npy, out.npz and out.h5, each of the same run over 20 steps."""
    folder = tmp_path_factory.mktemp("results")
    x = saved(folder / "x.npy", numbers(20, 1))
    for name in ("out.npy", "out.npz", "out.h5"):
        trace = [] if name == "out.npy" else ["--trace"]
        assert run(["run", "-q", SUNSPOTS, str(x), *trace, "-o", str(folder / name)]) == 0
    return folder


@pytest.fixture
def results(ran: Path, tmp_path: Path) -> Path:
    """A folder of such files that a test may change."""
    return Path(shutil.copytree(ran, tmp_path / "results"))


@pytest.mark.parametrize(
    "place", ["out.npy", "out.npz:outputs", "out.h5:outputs", f"out.npz:{SECOND}/i_steps"]
)
def test_outputs_of_a_run_are_not_a_state(shell: Shell, results: Path, place: str) -> None:
    refused_as_a_state(shell, results / place, OUTPUTS)
    found = shell.json("inspect", results / place)
    assert (found["kind"], found["state"]) == ("outputs", None)
    assert [array["readings"] for array in found["arrays"]] == [[]]
    assert found["problem"].startswith(OUTPUTS)
    shown = shell("inspect", results / place).out
    assert f"T{OUTPUTS[1:]}" in shown
    assert "could be" not in shown


def test_outputs_of_a_run_are_ordinary_arrays(shell: Shell, results: Path) -> None:
    outputs = np.load(results / "out.npy")
    assert (outputs.shape, outputs.dtype) == ((20, 12), np.dtype("f4"))
    with np.load(results / "out.npz") as found:
        assert np.array_equal(found["outputs"], outputs)
    values = lstm_cell(units=4, inputs=12)
    next_one = checkpoint(results / "next.ckpt", values)
    for name in ("out.npy", "out.h5:outputs"):
        shell("run", "-q", next_one, results / name, "-o", results / "y.npz", "--force", code=0)


def test_the_state_of_a_run_is_read_from_its_file(shell: Shell, results: Path) -> None:
    found = shell.json("inspect", results / "out.npz")
    assert (found["kind"], found["state"]["layout_source"]) == ("state", "file")
    readings = {array["name"]: array["readings"] for array in found["arrays"]}
    assert [name for name, reading in readings.items() if reading] == [
        f"rnn/multi_rnn_cell/cell_{k}/basic_lstm_cell/{half}" for k in (0, 1) for half in "cm"
    ]
    for name in ("out.npz", "out.h5"):
        shell("convert", results / name, "--to-flat", "-o", results / f"{name}.flat.npy", code=0)
    assert shell("diff", "--exact", results / "out.npz", results / "out.h5.flat.npy").code == 0


@pytest.mark.parametrize("name", ["out.npz", "out.h5"])
def test_c_and_m_of_every_step_are_halves(shell: Shell, results: Path, name: str) -> None:
    c, m = (f"{results / name}:{SECOND}/{half}_steps" for half in "cm")
    done = shell("convert", c, "--to-flat", "-o", results / "no.npy", code=3)
    assert "this is only the c of a cell" in error(done)
    assert "expected c, got m" in error(shell("concat", m, c, "-o", results / "no.npy", code=3))
    assert shell("concat", c, m, "-o", results / "steps.npy").code == 0
    with np.load(results / "out.npz") as found:
        expected = np.hstack([found[f"{SECOND}/c_steps"], found[f"{SECOND}/m_steps"]])
    assert np.array_equal(np.load(results / "steps.npy"), expected)


def test_steps_of_a_single_cell_are_named_without_a_scope(shell: Shell, tmp_path: Path) -> None:
    x = saved(tmp_path / "x.npy", numbers(2, 5, 3))
    out = tmp_path / "out.npz"
    shell("run", "-q", SAMPLES / "peephole_flat", x, "--all-states", "-o", out, code=0)
    shell("concat", f"{out}:c_steps", f"{out}:m_steps", "-o", tmp_path / "steps.npy", code=0)
    assert lstmstate.load_state(tmp_path / "steps.npy").widths == (8, 5)
    refused_as_a_state(shell, f"{out}:outputs", OUTPUTS)


# ---- weights


KERAS_2 = {
    f"lstm_1/lstm_1/{name}:0": numbers(4, 8) for name in ("kernel", "recurrent_kernel", "bias")
}
ADAM = {
    f"optimizer_weights/Adam/lstm_1/{name}/{slot}:0": numbers(4, 8)
    for name in ("kernel", "recurrent_kernel", "bias")
    for slot in "mv"
}
KERAS_3 = {f"layers/lstm/cell/vars/{k}": numbers(2, 8) for k in range(3)}
BILM = {
    f"RNN_0/RNN/MultiRNNCell/Cell0/LSTMCell/{name}": numbers(2, 8) for name in ("W_0", "B", "W_P_0")
}
KINDS = [
    (KERAS_2, {"keras_version": "2.2.4"}, "the weights of a Keras model", "kernel:0"),
    ({"x/param_0": numbers(2, 8)}, {"layer_names": "x"}, "the weights of a Keras model", "param_0"),
    (KERAS_2 | ADAM, {"model_config": "{}"}, "the weights of a Keras model", "kernel/m:0"),
    (KERAS_2 | ADAM, {}, "the weights of a recurrent layer of Keras", "bias/m:0"),
    (KERAS_3, {}, "the weights of a Keras model", "vars/1"),
    (BILM, {}, "the weights of an LSTMCell of TensorFlow 0.5 to 0.12, as biLM (ELMo)", "W_0"),
    ({"wx": numbers(3, 8), "wh": numbers(2, 8), "b": numbers(8)}, {}, "OpenAI baselines", "wh"),
    ({f"lstm.weight_{k}_l0": numbers(8, 2) for k in ("ih", "hh")}, {}, "a PyTorch layer", "hh_l0"),
    ({"kernel": numbers(3, 8)}, {}, "a layer of TensorFlow or Keras", "kernel"),
]  # fmt: skip


@pytest.mark.parametrize(("arrays", "attributes", "words", "picked"), KINDS)
def test_weights_are_not_a_state(
    shell: Shell,
    tmp_path: Path,
    arrays: dict[str, Array],
    attributes: dict[str, str],
    words: str,
    picked: str,
) -> None:
    path = datasets(tmp_path / "x.h5", arrays, attributes)
    (name,) = [name for name in arrays if name.endswith(picked)][:1]
    for place in (path, f"{path}:{name}", f"{path}:{name.partition('/')[0]}"):
        refused_as_a_state(shell, place, words)
    found = shell.json("inspect", path)
    assert (found["kind"], found["state"]) == ("weights", None)
    assert words in found["problem"]
    assert {tuple(array["readings"]) for array in found["arrays"]} == {()}
    assert words in shell("inspect", path).out
    if not attributes:
        refused_as_a_state(shell, archive(tmp_path / "x.npz", **arrays), words)


@pytest.mark.filterwarnings("ignore")  # of Keras
def test_files_of_keras_2_and_3(shell: Shell, tmp_path: Path) -> None:
    keras = pytest.importorskip("keras")
    tf_keras = pytest.importorskip("tf_keras")
    for library in (keras, tf_keras):
        model = library.Sequential(
            [library.layers.Input((5, 3), 2), library.layers.LSTM(2, stateful=True),
             library.layers.Dense(1)]
        )  # fmt: skip
        model.compile("adam", "mse")
        model.optimizer.build(model.trainable_variables)  # slots, as written by training
        model.save(tmp_path / f"{library.__name__}.h5")
        model.save_weights(tmp_path / f"{library.__name__}.weights.h5")
    files = sorted(tmp_path.glob("*.h5"))
    assert len(files) == 4
    for path in files:
        refused_as_a_state(shell, path, "the weights of a Keras")
        names = [array["name"] for array in shell.json("inspect", path)["arrays"]]
        assert len(names) > 5
        for name in names:
            done = shell(
                "convert", f"{path}:{name}", "--to-tuple", "-o", tmp_path / "no.npz", code=3
            )
            assert "the weights of a Keras" in error(done)


@pytest.mark.parametrize(
    "name",
    [
        "faults/keras_hdf5_weights/model.h5",
        "faults/keras_hdf5_weights/weights.h5",
        "faults/keras_hdf5_adam/model.h5",
        "faults/elmo_hdf5/lm_weights.hdf5",
        "ecosystem/tfk-lstm/model.h5",
        "ecosystem/tfk-lstm/w.h5",
        "ecosystem/keras224-cudnnlstm/w.h5",
    ],
)
def test_weights_saved_by_other_programs(shell: Shell, tmp_path: Path, name: str) -> None:
    if not (SHARED / name).exists():
        pytest.skip("the file is not here")
    path = tmp_path / Path(name).name
    shutil.copyfile(SHARED / name, path)
    refused_as_a_state(shell, path, WEIGHTS)


# ---- states next to weights


def test_a_state_next_to_weights_is_read(shell: Shell, tmp_path: Path) -> None:
    arrays = {"cell/kernel": numbers(3, 8), "cell/bias": numbers(8), "cell/c": numbers(4, 2),
              "cell/m": numbers(4, 2, seed=1)}  # fmt: skip
    path = datasets(tmp_path / "x.h5", arrays, {"backend": "tensorflow", "title": "kernel"})
    state = lstmstate.load_state(path)
    assert isinstance(state, lstmstate.LSTMState)
    assert np.array_equal(state.c, arrays["cell/c"])
    assert np.array_equal(state.m, arrays["cell/m"])
    refused_as_a_state(shell, f"{path}:cell/kernel", WEIGHTS)
    readings = {a["name"]: a["readings"] for a in shell.json("inspect", path)["arrays"]}
    assert readings == {"cell/bias": [], "cell/kernel": [], "cell/c": ["c"], "cell/m": ["m"]}


def test_an_array_of_another_name_next_to_weights_can_be_chosen(
    shell: Shell, tmp_path: Path
) -> None:
    path = archive(tmp_path / "x.npz", kernel=numbers(3, 8), bias=numbers(8), rows=numbers(4, 6))
    done = shell("convert", path, "--to-tuple", code=3)
    assert "expected c and m, got 3 arrays of other names" in error(done)
    shell("convert", f"{path}:rows", "--to-tuple", "-o", tmp_path / "y.npz", code=0)
    refused_as_a_state(shell, f"{path}:bias", WEIGHTS)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("rnn/lstm_cell/kernel", "the weights of rnn/lstm_cell"),
        ("rnn/lstm_cell/bias", "the weights of rnn/lstm_cell"),
        ("rnn/lstm_cell/kernel/Adam", "slots of an optimizer"),
    ],
)
def test_variables_of_a_cell_and_its_optimizer_are_not_a_state(
    shell: Shell, tmp_path: Path, name: str, words: str
) -> None:
    values = lstm_cell(units=2) | {"rnn/lstm_cell/kernel/Adam": numbers(5, 8)}
    # With a cell of 4 units in it too, 8 columns are a flat state.
    path = checkpoint(tmp_path / "x.ckpt", values | lstm_cell("other/lstm_cell", units=4))
    for arguments in ([f"{path}:{name}"], [path, "--variable", name]):
        done = shell("convert", *arguments, "--to-tuple", "-o", tmp_path / "y.npz", code=3)
        assert error(done).startswith(f"{path}:{name}: these are {words}, {WEIGHTS}")
    done = shell("concat", f"{path}:{name}", f"{path}:{name}", "-o", tmp_path / "y.npz", code=3)
    assert f"these are {words}, {WEIGHTS}" in error(done)
    found = shell.json("inspect", f"{path}:{name}")
    assert (found["kind"], found["state"]) == ("weights", None)


# ---- paths of checkpoints


def test_a_file_that_is_not_a_checkpoint_is_named_by_its_content(
    shell: Shell, tmp_path: Path, results: Path
) -> None:
    weights = {"lstm/lstm/kernel:0": numbers(3, 8), "lstm/lstm/recurrent_kernel:0": numbers(2, 8)}
    model = datasets(tmp_path / "keras.h5", weights, {"keras_version": "2.3.1"})
    (tmp_path / "cut.h5").write_bytes(model.read_bytes()[:600])
    state = tmp_path / "state.npz"
    assert shell("convert", "-q", SUNSPOTS, "--to-tuple", "-o", state).code == 0
    prefix = "give the checkpoint: its prefix, any file of it, or its folder"
    keras = "tf.train.Checkpoint(model=model).save(PREFIX)"
    for path, found, advice in (
        (model, "the weights of a Keras model (an HDF5 file)", keras),
        (tmp_path / "cut.h5", "an HDF5 file", prefix),
        (results / "out.npy", "outputs of a run (a NumPy array)", prefix),
        (state, "a state (an archive of NumPy arrays)", prefix),
        (saved(tmp_path / "y.npy", numbers(2, 8)), "an array [2, 8] (a NumPy array)", prefix),
        (
            archive(tmp_path / "y.npz", c=numbers(2, 4), m=numbers(2, 4)),
            "2 arrays (an archive of NumPy arrays)",
            prefix,
        ),
    ):
        for arguments in (
            ["run", path, results / "x.npy"],
            ["verify", path],
            ["convert", state, "--to-flat", "--checkpoint", path],
        ):
            done = shell(*arguments, code=3)
            words = error(done)
            assert words.startswith(f"{path}: expected a TensorFlow checkpoint, got {found}; "), (
                words
            )
            assert words.endswith(advice)
    with pytest.raises(lstmstate.LstmstateError, match="got the weights of a Keras model"):
        lstmstate.open_checkpoint(model)
