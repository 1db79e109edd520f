"""Several inputs of one run: a file for each, in order, also after one fails."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from commands import (
    FIRST,
    LSTMSTATE,
    PROJECT,
    SAMPLES,
    SUNSPOTS,
    Array,
    Shell,
    archive,
    notes,
    numbers,
    piped,
    saved,
)
from graphs import evaluated

import lstmstate
from lstmstate.operations import run

PEEPHOLE = SAMPLES / "peephole_tuple"


@pytest.fixture
def three(tmp_path: Path) -> list[Path]:
    """Three sequences of the peephole cell, of 5, 6 and 7 steps."""
    return [saved(tmp_path / f"{k}.npy", numbers(5 + k, 3, seed=k)) for k in range(3)]


def errors(err: str) -> list[str]:
    """Return the errors on stderr."""
    start = "lstmstate: error: "
    return [line[len(start) :] for line in err.splitlines() if line.startswith(start)]


def results(path: Path) -> dict[str, Array]:
    """Return the arrays of a file of results."""
    found: dict[str, Array] = {}
    if path.suffix == ".npy":
        found = {"outputs": np.load(path)}
    elif path.suffix == ".npz":
        with np.load(path) as file:
            found = {name: file[name] for name in file.files if name != "lstmstate"}
    else:
        with h5py.File(path) as file:
            file.visititems(
                lambda name, at: found.update({name: at[()]}) if hasattr(at, "shape") else None
            )
    return found


# ---- paths of outputs


def test_each_input_has_its_file_progress_line_and_zero_state(
    shell: Shell, three: list[Path]
) -> None:
    folder = three[0].parent / "new" / "out"
    done = shell("run", PEEPHOLE, *three, "--out-dir", folder)
    targets = [folder / f"{k}.npz" for k in range(3)]
    assert (done.code, done.out.splitlines()) == (0, [str(target) for target in targets])
    start, *progress = notes(done)
    assert start.startswith("the graph starts from a state of its own (c_state, m_state)")
    for number, (path, line) in enumerate(zip(three, progress, strict=True), 1):
        assert line.startswith(f"{number} of 3: {path}: {number + 4} steps")
    cell = lstmstate.open_checkpoint(PEEPHOLE).network()
    for path, target in zip(three, targets, strict=True):
        outputs, state = cell.run(np.load(path))
        assert np.array_equal(results(target)["outputs"], outputs)
        assert np.array_equal(results(target)["c"], state.c)
        alone = path.with_name("alone.npz")
        assert shell("run", PEEPHOLE, path, "-o", alone, "--force").code == 0
        assert alone.read_bytes() == target.read_bytes()


def test_arrays_columns_and_suffixes_are_part_of_the_names(shell: Shell, tmp_path: Path) -> None:
    x = numbers(4, 1).astype("f8")
    (tmp_path / "t.tsv").write_text("a\tb\n1\t2\n3\t4\n")
    archive(tmp_path / "z.npz", x=x, y=x)
    with h5py.File(tmp_path / "h.h5", "w") as file:
        file["deep/er"] = x
    (tmp_path / "last.flat.csv").write_text("1\n2\n")
    inputs = ["t.tsv:b", "z.npz:x", "z.npz:y", "h.h5:/deep/er", "last.flat.csv"]
    for kind in ("h5", "npy"):
        options = ["--out-dir", tmp_path / kind, "--format", kind]
        done = shell("run", "-q", SUNSPOTS, *(tmp_path / name for name in inputs), *options)
        assert (done.code, done.err) == (0, "")
        names = ["t.b", "z.x", "z.y", "h.deep_er", "last"]
        assert done.out.splitlines() == [str(tmp_path / kind / f"{n}.{kind}") for n in names]


def test_one_input_and_stdin_may_be_written_to_a_folder(shell: Shell, three: list[Path]) -> None:
    folder = three[0].parent / "out"
    assert shell("run", PEEPHOLE, three[0], "--out-dir", folder).code == 0
    done = piped("run", "-q", PEEPHOLE, "-", three[1], "--out-dir", folder, stdin=three[0])
    assert (done.returncode, done.stderr) == (0, b"")
    assert sorted(os.listdir(folder)) == ["0.npz", "1.npz", "stdin.npz"]
    assert (folder / "0.npz").read_bytes() == (folder / "stdin.npz").read_bytes()


def test_two_inputs_with_one_output_are_refused_before_writing(
    shell: Shell, three: list[Path]
) -> None:
    (three[0].parent / "b").mkdir()
    other = saved(three[0].parent / "b" / "0.npy", numbers(3, 3))
    folder = three[0].parent / "out"
    done = shell("run", "-q", PEEPHOLE, *three, other, "--out-dir", folder)
    assert (done.code, folder.exists()) == (2, False)
    assert f"{three[0]} and {other} would have one output, {folder / '0.npz'}" in done.err


def test_without_a_folder_each_input_has_a_table(shell: Shell, three: list[Path]) -> None:
    done = shell("run", "-q", PEEPHOLE, *three)
    assert (done.code, done.err) == (0, "")
    assert done.out.count("Outputs, and the state after the last step") == 3
    assert done.out.split("\n\n")[0].startswith(str(three[0]))
    assert f"\n\n{three[1]}\n" in done.out


def test_one_document_describes_all_inputs(shell: Shell, three: list[Path]) -> None:
    bad = saved(three[0].parent / "bad.npy", numbers(4, 2))
    inputs = [three[0], bad, three[1]]
    document = shell.json("run", PEEPHOLE, *inputs, code=4)
    assert (document["schema"], document["kind"]) == ("lstmstate.run/1", "batch")
    assert [one["input"] for one in document["results"]] == [str(three[0]), str(three[1])]
    (failed,) = document["failed"]
    assert failed["path"] == str(bad)
    assert failed["error"].startswith(f"{bad}: its shape is [4, 2], and rnn/lstm_cell takes ")


def test_a_closed_pipe_does_not_stop_the_runs(three: list[Path]) -> None:
    folder = three[0].parent / "out"
    paths = " ".join(map(str, three))
    script = f"{' '.join(LSTMSTATE)} run -q {PEEPHOLE} {paths} --out-dir {folder} | true"
    done = subprocess.run(["sh", "-c", script], capture_output=True, cwd=PROJECT, check=True)
    assert done.stderr == b""
    assert sorted(os.listdir(folder)) == ["0.npz", "1.npz", "2.npz"]


# ---- the state for each


@pytest.mark.parametrize("carry", [False, True])
def test_a_state_passes_to_the_next_input_only_if_carried(
    shell: Shell, three: list[Path], carry: bool
) -> None:
    first = archive(three[0].parent / "first.npz", c=numbers(1, 8), m=numbers(1, 5) / 4)
    folder = three[0].parent / "out"
    options = ["--carry-state"] if carry else []
    document = shell.json("run", PEEPHOLE, *three, "--state", first, "--out-dir", folder, *options)
    sources = [one["initial_state"]["source"] for one in document["results"]]
    assert sources == (["file", "carried", "carried"] if carry else ["file"] * 3)
    cell = lstmstate.open_checkpoint(PEEPHOLE).network()
    begin = state = lstmstate.load_state(first)
    for k, path in enumerate(three):
        outputs, state = cell.run(np.load(path), state if carry else begin)
        assert np.array_equal(results(folder / f"{k}.npz")["outputs"], outputs)
        assert np.array_equal(results(folder / f"{k}.npz")["m"], state.m)


def test_carried_parts_of_a_sequence_equal_the_whole(shell: Shell, tmp_path: Path) -> None:
    x = numbers(2, 20, 1)
    parts = [saved(tmp_path / f"{k}.npy", x[:, a:b]) for k, (a, b) in enumerate(((0, 9), (9, 20)))]
    whole, last = tmp_path / "whole.npz", tmp_path / "last.npz"
    assert shell("run", SUNSPOTS, saved(tmp_path / "x.npy", x), "-o", whole).code == 0
    done = shell("run", "-q", SUNSPOTS, *parts, "--carry-state", "--state-out", last)
    assert (done.code, done.err) == (0, "")
    found, expected = results(last), results(whole)
    assert np.allclose(found[f"{FIRST}/c"], expected[f"{FIRST}/c"], rtol=0, atol=1e-6)
    done = shell("run", SUNSPOTS, *parts, "--state-out", last)
    assert (done.code, "--state-out with several inputs needs --carry-state" in done.err) == (
        2,
        True,
    )


# ---- failures


def test_a_failing_input_is_named_and_the_others_continue(shell: Shell, three: list[Path]) -> None:
    folder = three[0].parent
    x = numbers(2, 6, 3)
    x[1, 4, 2] = np.nan
    text = folder / "text.csv"
    text.write_text("1,2,3\n4,x,6\n")
    bad = [folder / "gone.npy", saved(folder / "nan.npy", x), text, folder / "cut.npy"]
    bad[3].write_bytes(three[0].read_bytes()[:-3])
    done = shell("run", PEEPHOLE, three[0], *bad, three[1], "--out-dir", folder / "out")
    assert done.code == 4
    messages = errors(done.err)
    assert [line.split(": ")[0] for line in messages] == [str(path) for path in bad]
    assert messages[0] == f"{bad[0]}: there is no such file; check the path"
    assert "there is NaN at step 4, batch row 1, column 2" in messages[1]
    assert sorted(os.listdir(folder / "out")) == ["0.npz", "1.npz"]
    assert [line[:6] for line in notes(done)[1:]] == ["1 of 6", "6 of 6"]


def test_all_may_fail(shell: Shell, three: list[Path]) -> None:
    done = shell("run", SUNSPOTS, *three, "--out-dir", three[0].parent / "out")
    assert (done.code, done.out, len(errors(done.err))) == (4, "", 3)
    assert os.listdir(three[0].parent / "out") == []


def test_existing_outputs_are_kept_and_the_others_written(shell: Shell, three: list[Path]) -> None:
    folder = three[0].parent / "out"
    folder.mkdir()
    (folder / "1.npz").write_bytes(b"old")
    done = shell("run", PEEPHOLE, *three, "--out-dir", folder)
    assert (done.code, (folder / "1.npz").read_bytes()) == (4, b"old")
    assert errors(done.err) == [
        f"{folder / '1.npz'}: this file exists already; pass --force to replace it"
    ]
    assert shell("run", PEEPHOLE, *three, "--out-dir", folder, "--force").code == 0
    assert len(results(folder / "1.npz")) == 3


def test_inputs_in_the_output_folder_are_not_overwritten(shell: Shell, tmp_path: Path) -> None:
    inputs = [archive(tmp_path / f"{k}.npz", x=numbers(4, 3)) for k in range(2)]
    before = [path.read_bytes() for path in inputs]
    done = shell("run", PEEPHOLE, *inputs, "--out-dir", tmp_path, "--force")
    assert (done.code, len(errors(done.err))) == (4, 2)
    assert "this is the input, which is never written over" in done.err
    assert [path.read_bytes() for path in inputs] == before


def test_a_carried_state_of_another_batch_size_names_the_input(
    shell: Shell, three: list[Path]
) -> None:
    """The input that would have continued from its last state is not run."""
    four = saved(three[0].parent / "four.npy", numbers(4, 6, 3))
    two = saved(three[0].parent / "two.npy", numbers(2, 6, 3))
    folder = three[0].parent / "out"
    done = shell("run", PEEPHOLE, four, two, four, "--carry-state")
    assert done.code == 4
    messages = errors(done.err)
    assert messages == [
        f"{two}: rnn/lstm_cell: the state is that of a batch of 4, and the input has a batch of "
        "2; give a state of this batch, or of one for all of it",
        f"{four}: not run: the input before it failed",
    ]
    last = folder / "last.npz"
    options = ["--carry-state", "--out-dir", folder, "--state-out", last]
    assert shell("run", PEEPHOLE, four, three[0], two, *options).code == 4
    assert os.listdir(folder) == ["four.npz"]


def test_lengths_that_fit_one_input_and_not_the_other(shell: Shell, tmp_path: Path) -> None:
    good = archive(tmp_path / "good.npz", x=numbers(2, 6, 3), len=np.array([6, 2]))
    bad = archive(tmp_path / "bad.npz", x=numbers(2, 6, 3), len=np.array([7, 2]))
    inputs = [f"{good}:x", f"{bad}:x"]
    done = shell("run", PEEPHOLE, *inputs, "--lengths", "len", "--out-dir", tmp_path / "out")
    assert (done.code, os.listdir(tmp_path / "out")) == (4, ["good.x.npz"])
    assert errors(done.err)[0].startswith(f"{bad}: len: the length of batch row 0")


def test_an_input_too_large_for_the_memory_does_not_stop_the_others(
    shell: Shell, three: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = run.run_input

    def short(
        loaded: object, given: run.Sequences, *arguments: object, **how: object
    ) -> run.RunResult:
        if given.steps == 6:
            raise MemoryError
        return real(loaded, given, *arguments, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(run, "run_input", short)
    folder = three[0].parent / "out"
    done = shell("run", PEEPHOLE, *three, "--out-dir", folder)
    assert (done.code, sorted(os.listdir(folder))) == (4, ["0.npz", "2.npz"])
    assert errors(done.err) == [f"{three[1]}: there is not enough memory for this"]
    assert shell("run", PEEPHOLE, three[1], "-o", folder / "1.npz").code == 3


def test_the_model_is_read_once_and_before_any_input(
    shell: Shell, three: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    real = lstmstate.Variable.read
    monkeypatch.setattr(
        lstmstate.Variable, "read", lambda self: (read.append(self.name), real(self))[1]
    )
    assert shell("run", PEEPHOLE, *three).code == 0
    # Kernel, bias, projection, three peepholes; the graph starts from c_state and m_state, small
    # variables, which are also classified as states.
    weights = [name for name in read if name not in ("c_state", "m_state")]
    assert len(weights) == len(set(weights)) == 6
    gone = [three[0].parent / "gone.npy"] * 2
    done = shell("run", SAMPLES / "nothing", *gone)
    assert (done.code, len(errors(done.err))) == (3, 1)
    assert "gone" not in done.err


@pytest.mark.parametrize("ending", ["npz", "h5", "npy"])
@pytest.mark.parametrize("flags", [[], ["--time-major"], ["--lengths", "len"]])
def test_parts_along_time_give_the_same_file(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, flags: list[str]
) -> None:
    x, lengths = numbers(3, 50, 1), np.array([50, 0, 17])
    x = x.swapaxes(0, 1) if flags == ["--time-major"] else x
    source = archive(tmp_path / "x.npz", x=np.ascontiguousarray(x), len=lengths)
    more = ["--all-states"] if ending != "npy" else []
    targets = [tmp_path / f"{k}.{ending}" for k in range(2)]
    for target, at_once in zip(targets, (1 << 23, 1 << 12), strict=True):
        monkeypatch.setattr(run, "_AT_ONCE_BYTES", at_once)
        done = shell("run", SUNSPOTS, f"{source}:x", *flags, *more, "-o", target)
        assert done.code == 0
    found, expected = map(results, targets)
    assert list(found) == list(expected)
    for name, array in found.items():
        assert np.allclose(array, expected[name], rtol=0, atol=1e-6), name


@pytest.mark.parametrize("command", ["run --engine graph", "verify --against graph"])
def test_an_input_of_more_steps_than_the_graph_is_named(
    shell: Shell, three: list[Path], command: str
) -> None:
    def build(tf: Any) -> tuple[list[Any], dict[Any, Any]]:
        x, cell = tf.placeholder(tf.float32, [1, 6, 3], "x"), tf.nn.rnn_cell.LSTMCell(4)
        outputs, _ = tf.nn.static_rnn(cell, tf.unstack(x, axis=1), dtype=tf.float32)
        return outputs, {x: numbers(1, 6, 3)}

    prefix, _ = evaluated(three[0].parent, build)
    name, *flags = command.split()
    done = shell(name, prefix, *three, *flags)
    problem = "x: expected steps 6, which the graph is built for, got"
    assert errors(done.err) == [f"{three[0]}: {problem} 5", f"{three[2]}: {problem} 7"]
