"""The scripts in examples/, run by the shell that they are written for."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import (
    FIRST,
    LSTMSTATE,
    PROJECT,
    SAMPLES,
    SUNSPOTS,
    archive,
    checkpoint,
    lstm_cell,
    numbers,
)

SCRIPT = PROJECT / "examples" / "ci_states.sh"


def job(
    folder: Path, *arguments: str | Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the job in a folder, with its temporary files below it."""
    (folder / "tmp").mkdir(exist_ok=True)
    where = {"LSTMSTATE": " ".join(LSTMSTATE), "TMPDIR": str(folder / "tmp")}
    paths = [str(PROJECT), os.environ.get("PYTHONPATH", "")]
    where["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    done = subprocess.run(
        ["sh", str(SCRIPT), *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | where | environment,
        check=False,
    )
    assert os.listdir(folder / "tmp") == [], "something was left behind"
    return done


def test_a_good_checkpoint(tmp_path: Path) -> None:
    done = job(tmp_path, SUNSPOTS)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "state.npz"
    assert "4 arrays, 4 the same (to the bit)" in done.stdout
    with np.load(tmp_path / "state.npz") as found:
        assert found[f"{FIRST}/c"].shape == (1, 24)
    assert sorted(os.listdir(tmp_path)) == ["state.npz", "tmp"]
    done = job(tmp_path, SUNSPOTS, "new.npz", LAST_STATE="state.npz")
    assert (done.returncode, "has not changed" in done.stderr) == (0, True)


def test_a_state_that_has_changed_and_names_with_blanks(tmp_path: Path) -> None:
    there = tmp_path / "the run; of * today"
    shutil.copytree(SAMPLES / "peephole_flat", there)
    archive(tmp_path / "last state.npz", c=numbers(4, 8), m=numbers(4, 5))
    options = {"LAST_STATE": "last state.npz", "EXPECT": "--layout flat --units 8"}
    done = job(tmp_path, there, "my state.npz", **options)
    assert (done.returncode, "has changed since" in done.stderr) == (0, True), done.stderr
    assert (tmp_path / "my state.npz").is_file()
    done = job(tmp_path, there, "new.npz", LAST_STATE="gone.npz")
    assert (done.returncode, "cannot be compared: gone.npz" in done.stderr) == (3, True)


def test_a_failed_assertion_exits_with_1(tmp_path: Path) -> None:
    done = job(tmp_path, SUNSPOTS, EXPECT="--cells 3")
    assert done.returncode == 1
    assert "--cells 3: it has 2 cells (24,12), not 3" in done.stdout
    assert "failed with exit code 1: " in done.stderr
    assert not (tmp_path / "state.npz").exists()


def test_values_that_are_not_finite_exit_with_1(tmp_path: Path) -> None:
    state = numbers(2, 8)
    state[0, 0] = np.nan
    path = checkpoint(tmp_path / "x.ckpt", lstm_cell() | {"saved_state": state})
    done = job(tmp_path, path)
    assert done.returncode == 1
    assert "saved_state holds NaN" in done.stdout
    assert not (tmp_path / "state.npz").exists()


@pytest.mark.parametrize("broken", ["gone", "cut", "damaged", "stateless", "exists", "no room"])
def test_a_file_that_cannot_be_used(tmp_path: Path, broken: str) -> None:
    source, options = tmp_path / "run", {}
    shutil.copytree(SUNSPOTS, source)
    data = source / "model.ckpt-360.data-00000-of-00001"
    index = source / "model.ckpt-360.index"
    if broken == "gone":
        shutil.rmtree(source)
    elif broken == "cut":
        index.write_bytes(index.read_bytes()[:-10])
    elif broken == "damaged":
        data.write_bytes(data.read_bytes()[:-1] + b"\xff")
    elif broken == "stateless":
        source, options = SAMPLES / "bidirectional", {"EXPECT": "--finite"}
    elif broken == "exists":
        (tmp_path / "state.npz").write_bytes(b"old")
    else:
        options = {"TMPDIR": "/nowhere"}
    done = job(tmp_path, source, **options)
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    if broken == "exists":
        assert (tmp_path / "state.npz").read_bytes() == b"old"
    else:
        assert not (tmp_path / "state.npz").exists()


@pytest.mark.parametrize("arguments", [[], ["a", "b", "c"]])
def test_a_wrong_call(tmp_path: Path, arguments: list[str]) -> None:
    done = job(tmp_path, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "usage: sh ci_states.sh CHECKPOINT [STATE]\n"


@pytest.mark.skipif(not shutil.which("dash"), reason="there is no dash")
def test_the_script_is_portable_sh() -> None:
    """Dash knows only POSIX syntax; `-n` parses the whole script."""
    subprocess.run(["dash", "-n", str(SCRIPT)], check=True)
    text = SCRIPT.read_text(encoding="utf-8")
    assert text.startswith("#!/bin/sh\n")
    for bashism in ("[[", "function ", "local ", "$'", "<(", "pipefail", "&>"):
        assert bashism not in text
    assert SCRIPT.stat().st_mode & stat.S_IXUSR


def test_the_sunspot_forecast_matches_its_readme() -> None:
    """Errors on training data, on unseen data and with the last value, and the next forecast."""
    done = subprocess.run(
        [sys.executable, str(PROJECT / "examples" / "sunspots.py")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    figures = [re.findall(r"\d+\.\d", line) for line in done.stdout.splitlines()]
    assert figures[:3] == [["10.4", "22.5"], ["13.5", "30.3"], ["23.1"]]
    assert "the saved one: " in done.stdout
    readme = (SAMPLES / "README.md").read_text(encoding="utf-8")
    for number in ("10.4 | 22.5 |", "13.5 | 30.3 |", "23.1 sunspots"):
        assert number in readme
