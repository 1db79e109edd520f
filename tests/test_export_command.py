"""`lstmstate export`: files, READMEs, refusals, and variables as arrays."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from builders import BFLOAT16, BundleBuilder
from commands import SAMPLES, SUNSPOTS, Shell, checkpoint, error, in_folder, notes, numbers, piped
from exported import export
from networks import alone, cell
from writers import as_in_1_x, tensorflow

import lstmstate
from lstmstate.exports.targets import TARGETS
from lstmstate.operations.export import Export

PEEPHOLES = SAMPLES / "peephole_flat"
V1 = SAMPLES / "v1_format"
KERNEL = "rnn/lstm_cell/kernel"


def test_gates_are_written_with_a_readme(shell: Shell, tmp_path: Path) -> None:
    done = shell("export", PEEPHOLES, "--to", "gates", "-o", tmp_path / "g.npz", code=0)
    assert done.out.split() == [str(tmp_path / "g.npz"), str(tmp_path / "g.npz.README.md")]
    with np.load(tmp_path / "g.npz") as found, lstmstate.open_checkpoint(PEEPHOLES) as ckpt:
        cell = ckpt.cells["rnn/lstm_cell"]
        kernel, bias = (
            np.asarray(ckpt.variables[cell.variables[r][0]]) for r in ("kernel", "bias")
        )
        assert np.array_equal(found["rnn/lstm_cell/j/kernel"], kernel[:3, 8:16])
        assert np.array_equal(found["rnn/lstm_cell/o/recurrent"], kernel[3:, 24:])
        assert np.array_equal(found["rnn/lstm_cell/f/bias"], bias[16:24] + np.float32(0.5))
        assert found["rnn/lstm_cell/projection"].shape == (8, 5)
    text = (tmp_path / "g.npz.README.md").read_text()
    assert "The forget_bias 0.5 of `rnn/lstm_cell` is in the bias of its forget gate." in text


def test_a_saved_state_goes_in_as_the_readme_shows(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shell("export", V1, "--to", "gates", "-o", "g.npz", code=0)
    text = Path("g.npz.README.md").read_text()
    command, line = re.findall(r"`(lstmstate.convert.*?|state = dict.*?)`", text)
    exec(command.replace("STATE", str(V1)), {"lstmstate": lstmstate})
    program = re.sub(r"state = \{\n.*?^\}", line, text, flags=re.DOTALL | re.MULTILINE)
    program = program.partition("```python\n")[2].partition("```")[0]
    names: dict[str, Any] = {}
    exec(program.replace("zeros((1, 10, 3)", "ones((4, 10, 3)"), names)
    with lstmstate.open_checkpoint(V1) as ckpt:
        ran = ckpt.network().run(np.ones((4, 10, 3), np.float32), lstmstate.load_state(V1))
    np.testing.assert_allclose(names["outputs"], ran[0], atol=2e-6)
    np.testing.assert_allclose(names["state"]["c"], ran[1].c, atol=2e-6)


def test_cells_that_a_program_does_not_have_leave_no_file(shell: Shell, tmp_path: Path) -> None:
    done = shell("export", PEEPHOLES, "--to", "torch", "-o", tmp_path / "w.npz", code=3)
    assert "torch.nn.LSTM cannot express this LSTMCell: it has peepholes" in error(done)
    assert in_folder(tmp_path) == {}


@pytest.mark.parametrize(
    ("target", "options", "ways"),
    [
        (
            "torch",
            {"peepholes": "if"},
            "gates, numpy, tensorflow, tensorflow-1.0, tensorflow-0.12, onnx",
        ),
        ("haiku", {"norms": "ijfoc"}, "gates, numpy, onnx"),
        (
            "keras",
            {"recurrent_activation": "hard_sigmoid"},
            "gates, numpy, tf_keras, flax, flax-nnx, flax-nnx-optimized, tensorflow-keras, onnx",
        ),
        ("gates", {"gates": "jfo", "recurrent_activation": "relu"}, "onnx"),
        (
            "onnx",
            {"activation": "erf", "dtype": "float64"},
            "gates, numpy, flax, flax-nnx, flax-nnx-optimized, tensorflow, tensorflow-1.0, "
            "tensorflow-0.12, tensorflow-keras",
        ),
    ],
)
def test_the_targets_that_can_express_a_cell_are_named(
    tmp_path: Path, target: str, options: dict[str, Any], ways: str
) -> None:
    network = alone(cell(np.random.default_rng(0), 3, 4, **options))
    with pytest.raises(lstmstate.UnsupportedError) as raised:
        export(network, target, tmp_path / "w")
    assert str(raised.value).endswith(f"; pass `to=...` with one that can: {ways}")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--to", "torch", "-o", "w.npz"], "pass the checkpoint"),
        ([SUNSPOTS, "-o", "w.npz"], "pass the program"),
        ([SUNSPOTS, "--to", "torch"], "pass the file"),
        ([SUNSPOTS, "--to", "torch", "-o", "w", "--slice", "1"], "are for --to arrays"),
        ([SUNSPOTS, "--to", "arrays", "-o", "w", "--cell", "x"], "pass --variable"),
        ([SUNSPOTS, "--to", "arrays", "-o", "w", "--slice", "a"], "not a part of an array"),
    ],
)
def test_wrong_command_lines_are_refused(shell: Shell, words: list[str], problem: str) -> None:
    assert problem in error(shell("export", *words, code=2))


def test_a_target_that_does_not_exist_is_named(shell: Shell, tmp_path: Path) -> None:
    done = shell("export", SUNSPOTS, "--to", "caffe", "-o", tmp_path / "w.npz", code=2)
    assert "it cannot be 'caffe'; pass one of arrays, gates" in error(done)


def test_the_table_has_a_row_for_each_target(shell: Shell) -> None:
    lines = shell("export", "--list", code=0).out.splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == [row.key for row in TARGETS]
    found = shell.json("export", "--list")["targets"]
    assert [one["name"] for one in found] == [row.key for row in TARGETS]


def test_all_variables_are_exported_under_their_names(shell: Shell, tmp_path: Path) -> None:
    target = tmp_path / "all.h5"
    document = shell.json("export", PEEPHOLES, "--to", "arrays", "-o", target)
    with lstmstate.open_checkpoint(PEEPHOLES) as ckpt, h5py.File(target) as found:
        assert document["variables"] == list(ckpt.variables)
        for name, variable in ckpt.variables.items():
            assert np.array_equal(found[name][()], np.asarray(variable))


@pytest.mark.parametrize(
    ("part", "expected"),
    [("0", np.s_[0]), (":2,1:", np.s_[:2, 1:]), ("-1,::2", np.s_[-1, ::2]), (":", np.s_[:])],
)
def test_parts_of_variables_are_exported(
    shell: Shell, tmp_path: Path, part: str, expected: Any
) -> None:
    target = tmp_path / "k.npy"
    words = ["--to", "arrays", "--variable", "*cell/kernel", f"--slice={part}", "-o", target]
    shell("export", PEEPHOLES, *words, code=0)
    with lstmstate.open_checkpoint(PEEPHOLES) as ckpt:
        assert np.array_equal(np.load(target), ckpt.variables[KERNEL][expected])


def test_values_are_printed(shell: Shell) -> None:
    place = f"{PEEPHOLES}:{KERNEL}"
    with lstmstate.open_checkpoint(PEEPHOLES) as ckpt:
        part = ckpt.variables[KERNEL][1, :2]
    assert shell.json("inspect", place, "--slice", "1,:2")["values"] == part.tolist()
    assert str(part) in shell("inspect", place, "--slice", "1,:2", code=0).out
    assert "values" not in shell.json("inspect", place)


def test_values_of_a_scalar_and_of_one_half_of_a_pair_are_printed(shell: Shell) -> None:
    found = shell.json("inspect", f"{V1}:global_step", "--slice", ":")
    assert found["values"] == 0
    with lstmstate.open_checkpoint(V1) as ckpt:
        m = ckpt.variables["m_state"][:1]
    assert shell.json("inspect", f"{V1}:m_state", "--slice", "0:1")["values"] == m.tolist()


@pytest.mark.parametrize("words", [["inspect"], ["export", "--to", "arrays", "-o", "k.npz"]])
def test_parts_that_are_not_there_are_refused(shell: Shell, words: list[str]) -> None:
    place = f"{PEEPHOLES}:{KERNEL}" if words == ["inspect"] else str(PEEPHOLES)
    assert "this part is not in an array" in error(shell(*words, place, "--slice", "99", code=3))


def test_variables_that_do_not_exist_are_named(shell: Shell, tmp_path: Path) -> None:
    words = ["--to", "arrays", "--variable", "rnn/lstm_cell/kernal", "-o", tmp_path / "k.npz"]
    assert "kernel" in error(shell("export", PEEPHOLES, *words, code=3))


def test_large_rows_and_empty_arrays_are_whole(shell: Shell, tmp_path: Path) -> None:
    values = {
        "wide": numbers(2, 400_000),
        "long": numbers(70_000, 5),
        "empty": numbers(0, 4),
        "none": numbers(3, 0),
        "scalar": numbers(),
    }
    path = checkpoint(str(tmp_path / "m.ckpt"), values)
    shell("export", path, "--to", "arrays", "-o", tmp_path / "all.npz", code=0)
    with np.load(tmp_path / "all.npz") as found:
        assert set(found) == set(values)
        for name, array in values.items():
            assert np.array_equal(found[name], array) and found[name].dtype == array.dtype


def test_text_is_left_out_with_a_note(shell: Shell, tmp_path: Path) -> None:
    source, target = tmp_path / "s.ckpt", tmp_path / "all.npz"
    shell("convert", PEEPHOLES, "--to-tuple", "--variable", "saved_state", "-o", tmp_path / "s.npz")
    shell("convert", tmp_path / "s.npz", "--to-tuple", "-o", source, code=0)
    done = shell("export", source, "--to", "arrays", "-o", target, code=0)
    assert notes(done) == ["text is left out: 1 variable"]


@pytest.mark.parametrize("ending", ["safetensors", "pt", "npz"])
def test_bfloat16_is_kept_or_named(shell: Shell, tmp_path: Path, ending: str) -> None:
    builder = BundleBuilder()
    patterns = np.arange(6, dtype="<u2").reshape(2, 3)
    builder.add("v", patterns, dtype=BFLOAT16)
    path = builder.write(tmp_path / "m")
    target = tmp_path / f"v.{ending}"
    done = shell("export", path, "--to", "arrays", "-o", target, code=0)
    note = "bfloat16 is written as float32: 1 variable"
    assert notes(done) == ([] if ending != "npz" else [note])
    found = shell.json("inspect", f"{target}:v", "--slice", ":")
    assert np.array_equal(found["values"], (patterns.astype("u4") << 16).view("f4"))


def test_cells_that_the_graph_contradicts_are_refused(shell: Shell, tmp_path: Path) -> None:
    words = [SUNSPOTS, "--cell", "cell_0/basic_lstm_cell", "--to", "gates", "--forget-bias", "3"]
    done = shell("export", *words, "-o", tmp_path / "a.npz", code=3)
    assert "the graph contradicts this cell" in error(done)
    assert "--engine" not in error(done)
    assert in_folder(tmp_path) == {}


def test_engines_other_than_numpy_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="engine"):
        lstmstate.export(SUNSPOTS, tmp_path / "b.npz", to="gates", engine="graph")
    assert in_folder(tmp_path) == {}


def test_the_program_of_a_readme_runs_as_it_is(shell: Shell, tmp_path: Path) -> None:
    shell("export", PEEPHOLES, "--to", "gates", "-o", tmp_path / "g.npz", "--check", code=0)
    text = (tmp_path / "g.npz.README.md").read_text()
    program = text.partition("```python\n")[2].partition("```")[0]
    done = subprocess.run(
        [sys.executable, "-c", f"{program}print(outputs.shape, sorted(state))"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "(1, 10, 5) ['c', 'm']\n"


def test_variables_are_exported_from_python(tmp_path: Path) -> None:
    lstmstate.export(PEEPHOLES, tmp_path / "k.npy", to="arrays", variable=KERNEL)
    with lstmstate.open_checkpoint(PEEPHOLES) as ckpt:
        assert np.array_equal(np.load(tmp_path / "k.npy"), ckpt.variables[KERNEL][:])
    with pytest.raises(ValueError, match="`variable` is for"):
        lstmstate.export(PEEPHOLES, tmp_path / "g.npz", to="gates", variable=KERNEL)


def test_a_target_with_a_mistake_is_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="did you mean torch"):
        lstmstate.export(PEEPHOLES, tmp_path / "g.npz", to="torc")


def test_assumed_options_are_in_the_readme(shell: Shell, tmp_path: Path) -> None:
    source = SAMPLES / "tf_1_0_names"
    shell("export", source, "--to", "gates", "-o", tmp_path / "g.npz", "--assume-defaults", code=0)
    assert "- Assumed: " in (tmp_path / "g.npz.README.md").read_text()


@pytest.mark.parametrize("words", [["--compress", "-o", "g.npz"], ["-o", "-"]])
def test_flags_that_do_not_go_with_cells_are_refused(shell: Shell, words: list[str]) -> None:
    shell("export", PEEPHOLES, "--to", "gates", *words, code=2)


def test_arrays_go_to_stdout_alone(tmp_path: Path) -> None:
    done = piped("export", PEEPHOLES, "--to", "arrays", "--variable", KERNEL, "-o", "-")
    (tmp_path / "k.npz").write_bytes(done.stdout)
    with np.load(tmp_path / "k.npz") as found:
        assert found[KERNEL].shape == (8, 32)
    assert done.stdout.endswith(bytes(2))  # the end of an archive without a comment


def test_the_result_of_an_export_has_its_files_and_its_check(tmp_path: Path) -> None:
    done = lstmstate.export(PEEPHOLES, tmp_path / "lstm.py", to="numpy", check=True)
    names = ("lstm.py", "lstm.npz", "lstm.py.README.md")
    assert done.paths == tuple(str(tmp_path / name) for name in names)
    assert done.folded == (
        "The forget_bias 0.5 of `rnn/lstm_cell` is in the bias of its forget gate",
    )
    assert done.agrees and done.largest_difference is not None and done.largest_difference < 2e-6
    unchecked = lstmstate.export(PEEPHOLES, tmp_path / "g.npz", to="gates")
    assert (unchecked.largest_difference, unchecked.agrees) == (None, None)


def between(tf: Any, *, reads_more: bool) -> list[Any]:
    """Two cells with a layer between them, which reads another placeholder, too."""
    x = tf.placeholder(tf.float32, [None, None, 3], "x")
    y = tf.nn.dynamic_rnn(tf.nn.rnn_cell.LSTMCell(4), x, dtype=tf.float32, scope="a")[0]
    parts = [y, tf.placeholder(tf.float32, [None, None, 2], "y")] if reads_more else [y]
    joined = tf.concat([*parts, tf.nn.relu(y)], 2)
    return [tf.nn.dynamic_rnn(tf.nn.rnn_cell.LSTMCell(5), joined, dtype=tf.float32, scope="b")[0]]


@pytest.mark.parametrize("reads_more", [False, True])
def test_cells_that_are_exported_one_by_one_are_named(
    shell: Shell, tmp_path: Path, *, reads_more: bool
) -> None:
    tf = tensorflow()
    with as_in_1_x(tf), tf.Session() as session:
        between(tf, reads_more=reads_more)
        session.run(tf.global_variables_initializer())
        prefix = tf.train.Saver().save(session, str(tmp_path / "model.ckpt"))
    words = ["--to", "gates", "-o", tmp_path / "g.npz"]
    done = shell("export", prefix, *words, code=3)
    ways = "export one of its cells: --cell a/lstm_cell or --cell b/lstm_cell"
    assert error(done).endswith(f"; {ways}")
    assert error(done).count(";") == 1
    for name in ("a", "b"):
        shell("export", prefix, "--cell", f"{name}/lstm_cell", *words, "--force", code=0)


def test_the_document_has_the_verdict_of_a_check(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [PEEPHOLES, "--to", "numpy", "-o", tmp_path / "lstm.py", "--force"]
    assert shell.json("export", *words)["agrees"] is None
    assert shell.json("export", *words, "--check")["agrees"] is True
    monkeypatch.setattr(Export, "check", lambda _: 1.0)
    assert shell.json("export", *words, "--check", code=1)["agrees"] is False


@pytest.mark.parametrize("part", [np.s_[0, :5], 1, np.s_[::2], (np.int64(1),)])
def test_parts_of_variables_are_exported_from_python(tmp_path: Path, part: Any) -> None:
    target = tmp_path / "k.npy"
    done = lstmstate.export(PEEPHOLES, target, to="arrays", variable=KERNEL, slices=part)
    assert done.paths == (str(target),)
    with lstmstate.open_checkpoint(PEEPHOLES) as ckpt:
        assert np.array_equal(np.load(target), ckpt.variables[KERNEL][:][part])


@pytest.mark.parametrize(
    ("to", "given", "words"),
    [
        ("arrays", {"check": True}, "`check` is not for `to='arrays'`"),
        ("arrays", {"forget_bias": 1.0}, "`forget_bias` is not for `to='arrays'`"),
        ("arrays", {"cell": "a"}, "`cell` is not for `to='arrays'`"),
        ("gates", {"slices": 0}, "`slices` is for `to='arrays'`"),
        ("gates", {"compress": True}, "`compress` is for `to='arrays'`"),
        ("arrays", {"slices": "0,:5"}, "slices cannot be '0,:5'"),
        ("gates", {"check": "yes"}, "check cannot be 'yes'"),
    ],
)
def test_parameters_that_do_not_go_together_are_refused(
    tmp_path: Path, to: str, given: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        lstmstate.export(PEEPHOLES, tmp_path / "w.npz", to=to, **given)
    assert in_folder(tmp_path) == {}


def test_every_file_is_printed(shell: Shell, tmp_path: Path) -> None:
    done = shell("export", PEEPHOLES, "--to", "numpy", "-o", tmp_path / "lstm.py", code=0)
    names = ("lstm.py", "lstm.npz", "lstm.py.README.md")
    assert done.out.split() == [str(tmp_path / name) for name in names]
    found = shell.json("export", PEEPHOLES, "--to", "gates", "-o", tmp_path / "g.npz")
    assert found["files"] == [str(tmp_path / name) for name in ("g.npz", "g.npz.README.md")]
    assert len(found["folded"]) == 1


def test_options_of_cells_are_not_for_variables(shell: Shell, tmp_path: Path) -> None:
    for words in (["--forget-bias", "1"], ["--feed", "a=1"]):
        done = shell(
            *("export", PEEPHOLES, "--to", "arrays", "-o", tmp_path / "a.npz", *words), code=2
        )
        assert "no option of a cell changes them" in error(done)


def test_a_package_that_is_missing_is_named_before_anything_is_written(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "keras", None)
    words = ["--to", "keras", "-o", tmp_path / "m.keras", "--check", "--assume-defaults", "-q"]
    done = shell("export", SUNSPOTS, *words, code=3)
    assert "keras is not installed here; pip install keras" in error(done)
    assert "KERAS_BACKEND" in error(done)
    assert in_folder(tmp_path) == {}


def test_a_data_file_that_is_missing_is_named(shell: Shell, tmp_path: Path) -> None:
    path = checkpoint(str(tmp_path / "m.ckpt"), {"a": numbers(2)})
    data = Path(f"{path}.data-00000-of-00001")
    data.unlink()
    done = shell("export", path, "--to", "arrays", "-o", tmp_path / "a.npz", code=3)
    assert f"{data.name}: the data file is missing" in error(done)
    assert [one.name for one in tmp_path.iterdir()] == ["m.ckpt.index"]
