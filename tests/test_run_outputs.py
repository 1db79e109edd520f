"""Outputs of a run: its inputs kept, the last state, pipes."""

from __future__ import annotations

import io
import os
import pty
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from commands import (
    LSTMSTATE,
    PROJECT,
    SAMPLES,
    Shell,
    archive,
    error,
    in_folder,
    numbers,
    piped,
    saved,
)

CELL = SAMPLES / "peephole_tuple"
OLD = b"what was there before"


@pytest.fixture
def batch(tmp_path: Path) -> Path:
    """A batch in its own folder."""
    return saved(tmp_path / "x.npy", numbers(2, 5, 3))


# ---- existing files and inputs


@pytest.mark.covering(2)
@pytest.mark.parametrize("force", [[], ["--force"]])
@pytest.mark.parametrize("flag", ["-o", "--state-out"])
@pytest.mark.parametrize("what", ["input", "state", "lengths", "index", "data", "meta", "columns"])
def test_no_input_is_overwritten(
    shell: Shell, batch: Path, what: str, flag: str, force: list[str]
) -> None:
    folder = batch.parent
    shutil.copytree(CELL, folder / "run")
    state = archive(folder / "state.npz", c=numbers(1, 8), m=numbers(1, 5))
    lengths = archive(folder / "lengths.npz", n=np.array([5, 2]))
    table = folder / "x.csv"
    table.write_text("a,b,c\n1,2,3\n")
    target = {
        "input": batch,
        "state": state,
        "lengths": lengths,
        "columns": table,
        "index": folder / "run" / "model.ckpt.index",
        "data": folder / "run" / "model.ckpt.data-00000-of-00001",
        "meta": folder / "run" / "model.ckpt.meta",
    }[what]
    given = [f"{table}:a,b,c"] if what == "columns" else [batch, "--lengths", f"{lengths}:n"]
    link = folder / "link.npz"
    link.symlink_to(target)
    before = in_folder(folder)
    for name in (target, link):
        kind = ["--format", "npz"] if flag == "-o" else []
        layout = ["--state-layout", "flat"] if flag == "--state-out" else []
        done = shell(
            "run",
            "-q",
            folder / "run",
            *given,
            "--state",
            state,
            flag,
            name,
            *kind,
            *layout,
            *force,
            code=3,
        )
        if flag == "-o" or name == link or what in ("input", "state", "lengths"):
            assert "this is the input, which is never written over" in error(done)
        assert in_folder(folder) == before


def test_an_unwritable_last_state_is_reported_before_the_run(shell: Shell, batch: Path) -> None:
    folder = batch.parent
    there = folder / "there.npz"
    there.write_bytes(OLD)
    gone = folder / "gone.npy"  # otherwise the input would be read first
    for name, options, problem in (
        (there, [], "this file exists already"),
        (
            folder / "a.npy",
            [],
            "an .npy has one; pass --state-layout flat",
        ),
        (folder / "a.npy", ["--state-layout", "tuple"], "an .npy file holds one"),
        (folder / "a.npz", ["--state-layout", "stacked"], "needs c and m as wide"),
        (folder / "a.txt", [], "expected a name with the ending of a kind of file"),
        (folder / "no" / "a.npz", [], "it cannot be written"),
        (folder / "a.csv", ["--state-layout", "keras"], None),
    ):
        done = shell("run", "-q", CELL, gone, "--state-out", name, *options, code=3)
        assert done.out == ""
        words = error(done)
        assert words.startswith(f"{gone}: " if problem is None else f"{name}: "), words
        assert (problem or "there is no such file") in words
    assert sorted(os.listdir(folder)) == ["there.npz", "x.npy"]


def test_outputs_and_the_last_state_appear_together_or_not_at_all(
    shell: Shell, batch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, state = batch.with_name("y.npz"), batch.with_name("s.npz")
    done = shell("run", "-q", CELL, batch, "-o", target, "--state-out", target, code=3)
    assert "two outputs have the same name" in error(done)
    x = np.load(batch)
    x[1, 4, 0] = np.inf  # the last step
    saved(batch, x)
    done = shell("run", "-q", CELL, batch, "-o", target, "--state-out", state, code=3)
    assert "there is Inf at step 4" in error(done)
    assert os.listdir(batch.parent) == ["x.npy"]


@pytest.mark.parametrize("name", ["y.txt", "y", "y.pkl", "y.ckpt", "y.csv"])
def test_a_file_without_results_is_reported(shell: Shell, batch: Path, name: str) -> None:
    done = shell("run", "-q", CELL, batch, "-o", batch.with_name(name), code=3)
    assert done.out == ""
    assert ".npz" in error(done)
    assert "ckpt, or" not in error(done)
    assert os.listdir(batch.parent) == ["x.npy"]


# ---- pipes


def test_from_stdin_to_stdout(shell: Shell, batch: Path) -> None:
    target = batch.with_name("y.npz")
    assert shell("run", CELL, batch, "-o", target).code == 0
    for stdin in (batch, batch.read_bytes()):
        done = piped("run", "-q", CELL, "-", "-o", "-", stdin=stdin)
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout == target.read_bytes()
    done = piped("run", CELL, "-", "-o", "-", "--format", "npy", stdin=batch)
    assert np.load(io.BytesIO(done.stdout)).shape == (2, 5, 5)
    assert b"note: an .npy has the outputs only; --state-out" in done.stderr
    done = piped("run", "-q", CELL, "-", "-o", "-", "--format", "h5", stdin=batch)
    assert (done.returncode, done.stdout) == (3, b"")


def test_stdout_gets_only_the_last_state(batch: Path) -> None:
    """Neither tables nor the path of the outputs are mixed into it."""
    for more in ([], ["-o", batch.with_name("y.npz")]):
        done = piped("run", "-q", CELL, batch, "--state-out", "-", *more)
        assert (done.returncode, done.stderr) == (0, b"")
        with np.load(io.BytesIO(done.stdout)) as found:
            assert [found[half].shape for half in "cm"] == [(2, 8), (2, 5)]


def test_a_state_from_stdin(batch: Path) -> None:
    first = piped("run", "-q", CELL, batch, "-o", "-").stdout
    done = piped("run", "-q", CELL, batch, "--state", "-", "-o", "-", stdin=first)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout != first


def test_a_pipe_of_two_runs_and_a_check(batch: Path) -> None:
    lstmstate = " ".join(LSTMSTATE)
    script = (
        f"{lstmstate} run -q {CELL} {batch} -o - | {lstmstate} run -q {CELL} {batch} --state - -o -"
        f" | {lstmstate} check -q - --units 8 --proj 5 --layout tuple --finite --max-abs-m 0.25"
    )
    done = subprocess.run(["sh", "-c", script], capture_output=True, cwd=PROJECT, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize("what", ["-o -", "--json", ""])
def test_a_closed_pipe_is_not_an_error(tmp_path: Path, what: str) -> None:
    x = saved(tmp_path / "x.npy", numbers(40, 500, 3))
    script = f"{' '.join(LSTMSTATE)} run -q {CELL} {x} {what} | head -c 10"
    done = subprocess.run(["sh", "-c", script], capture_output=True, cwd=PROJECT, check=True)
    assert (len(done.stdout), done.stderr) == (10, b"")
    assert os.listdir(tmp_path) == ["x.npy"]


def test_binary_is_never_written_to_a_terminal(batch: Path) -> None:
    for flag in ("-o", "--state-out"):
        master, slave = pty.openpty()
        command = [*LSTMSTATE, "run", "-q", str(CELL), str(batch), flag, "-"]
        done = subprocess.run(
            command, stdout=slave, stderr=subprocess.PIPE, cwd=PROJECT, check=False
        )
        os.write(slave, b"|")
        assert os.read(master, 100) == b"|"
        os.close(master)
        os.close(slave)
        assert done.returncode == 3
        assert b"binary data is not written to a terminal" in done.stderr
