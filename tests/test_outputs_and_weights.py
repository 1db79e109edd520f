"""Outputs of a run and weights of a network, which are never read as a state."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np
import pytest
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
from lstmstate.cli import execute as run

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
    assert (found["kind"], found["state"]["told_by"]) == ("state", "file")
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
