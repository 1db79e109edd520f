"""Untrusted checkpoints, states, lengths and names; and tables for any terminal width."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import numpy as np
import pytest
from builders import FLOAT, BundleBuilder
from commands import (
    LSTMSTATE,
    PROJECT,
    SAMPLES,
    SUNSPOTS,
    Shell,
    archive,
    checkpoint,
    error,
    lstm_cell,
    notes,
    numbers,
    saved,
)
from test_run_results import peak, sparse

CELL, BOTH = SAMPLES / "peephole_tuple", SAMPLES / "bidirectional"
MIB = 1 << 20


@pytest.fixture
def x(tmp_path: Path) -> Path:
    """A sequence of width 3."""
    return saved(tmp_path / "x.npy", numbers(5, 3))


# ---- NaN and infinity


@pytest.mark.parametrize("leaf", ["kernel", "bias"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_weights_are_noted(
    shell: Shell, tmp_path: Path, x: Path, leaf: str, value: float
) -> None:
    variables = lstm_cell()
    variables[f"rnn/lstm_cell/{leaf}"].flat[0] = value
    ckpt = checkpoint(tmp_path / "x.ckpt", variables)
    document = shell.json("run", ckpt, x)
    done = shell("run", ckpt, x, "-o", tmp_path / "y.npz", code=0)
    assert "rnn/lstm_cell has NaN or Inf in its weights" in notes(done)
    if np.isnan(value):
        assert f"{x}: rnn/lstm_cell: c holds NaN after the last step" in notes(done)
        assert document["outputs"]["not_finite"] > 0
        assert "NaN or Inf" in shell("run", ckpt, x).out


def test_a_nan_state_is_refused_unless_allowed(shell: Shell, tmp_path: Path, x: Path) -> None:
    for number, (value, words) in enumerate(((np.inf, "Inf"), (np.nan, "NaN"), (1e300, "Inf"))):
        c = np.zeros((1, 8))
        c[0, 3] = value
        state = archive(tmp_path / f"{number}.npz", c=c, m=np.zeros((1, 5)))
        done = shell("run", CELL, x, "--state", state, code=3)
        assert done.out == ""
        assert error(done) == (
            f"{state}: rnn/lstm_cell: c holds {words}, in float32; correct the state, "
            "or pass --allow-nan"
        )
        assert shell("run", CELL, x, "--state", state, "--allow-nan").code == 0


def test_nan_inputs_are_refused_unless_allowed(shell: Shell, tmp_path: Path) -> None:
    x = numbers(2, 5, 3)
    x[0, 2, 1] = np.nan
    path = saved(tmp_path / "x.npy", x)
    done = shell("run", CELL, path)
    assert error(done) == (
        f"{path}: there is NaN at step 2, batch row 0, column 1 (counted from 0); "
        "correct the data, or pass --allow-nan"
    )
    done = shell("run", CELL, path, "--allow-nan", code=0)
    assert f"{path}: rnn/lstm_cell: c holds NaN after the last step" in notes(done)
    assert (
        shell("run", CELL, path, "--lengths", saved(tmp_path / "n.npy", np.array([2, 5]))).code == 0
    )


# ---- declared sizes without data


def test_a_huge_declared_kernel_takes_no_memory(tmp_path: Path, x: Path) -> None:
    bundle = BundleBuilder()
    units = 1 << 20
    for name, shape in (("kernel", (units + 3, 4 * units)), ("bias", (4 * units,))):
        place = {"offset": 0, "size": 4 * int(np.prod(shape, dtype=object)), "crc": 0}
        bundle.entry(f"rnn/lstm_cell/{name}", dtype=FLOAT, shape=shape, **place)
    ckpt = bundle.write(tmp_path / "x.ckpt")
    done = subprocess.run(
        [*LSTMSTATE, "run", "-q", ckpt, str(x)],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (3, "", 1)
    assert "rnn/lstm_cell/" in done.stderr
    assert "fault" not in done.stderr
    if Path("/proc/self/status").exists():
        assert peak("run", "-q", ckpt, x, code=3) < 150 * MIB


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux reports the peak")
@pytest.mark.parametrize("name", ["y.npz", "y.h5", "y.npy"])
def test_memory_does_not_grow_with_the_steps(tmp_path: Path, name: str) -> None:
    """The input alone is twice the memory limit of the process."""
    wide = 32_768  # few steps, so that it is quick
    ckpt = checkpoint(tmp_path / "x.ckpt", lstm_cell(units=1, inputs=wide))
    x = sparse(tmp_path / "x.npy", (2_560, wide))
    all_states = ["--all-states"] if name != "y.npy" else []
    took = peak("run", "-q", ckpt, x, *all_states, "-o", tmp_path / name)
    assert took < x.stat().st_size / 2
    x.unlink()


@pytest.mark.parametrize(
    ("lengths", "problem"),
    [
        (np.array([5, 6]), "batch row 1"),
        (np.array([-1, 2]), "batch row 0"),
        (np.array([2**63, 1], "u8"), "batch row 0"),
        (np.array([np.nan, 1.0]), "batch row 0"),
        (np.array([1.5, 1.0]), "batch row 0"),
        (np.array([1]), "its shape is [1], and the input holds 2 sequences"),
        (np.array([["a"], ["b"]]), "lengths are"),
        (np.array([1, None]), ""),
        (np.zeros((2, 0), int), "its shape is [2, 0]"),
    ],
)
def test_invalid_lengths_are_reported(
    shell: Shell, tmp_path: Path, lengths: np.ndarray, problem: str
) -> None:
    path = tmp_path / "n.npy"
    np.save(path, lengths, allow_pickle=True)
    x = saved(tmp_path / "x.npy", numbers(2, 5, 3))
    done = shell("run", BOTH, x, "--lengths", path, "-o", tmp_path / "y.npz", code=3)
    assert done.out == ""
    assert error(done).startswith(f"{path}: ")
    assert problem in error(done)
    assert not (tmp_path / "y.npz").exists()


def test_a_truncated_file_of_each_kind_is_one_error_line(
    shell: Shell, tmp_path: Path, x: Path
) -> None:
    """Of the checkpoint, the state and the lengths."""
    lengths, state = saved(tmp_path / "n.npy", np.array([5])), tmp_path / "s.npz"
    assert shell("run", "-q", CELL, x, "--state-out", state).code == 0
    flags = ["--lengths", lengths, "--state", state]
    assert shell("run", "-q", CELL, x, *flags).code == 0
    for path in (lengths, state, x):
        whole = path.read_bytes()
        for size in (0, 1, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:size])
            done = shell("run", "-q", CELL, x, *flags, code=3)
            assert done.out == ""
            assert error(done).startswith(f"{path}: ")
        path.write_bytes(whole)


# ---- names


HOSTILE = "evil\x1b[31m\n[bold]x[/bold]\u202e"


def test_untrusted_names_cannot_control_a_terminal(shell: Shell, tmp_path: Path) -> None:
    name = f"{HOSTILE}/lstm_cell"
    ckpt = checkpoint(tmp_path / "x.ckpt", lstm_cell(name) | lstm_cell("b/lstm_cell"))
    x = saved(tmp_path / f"{HOSTILE.replace('/', '')}.npy", numbers(5, 3))
    shown = "evil\\x1b[31m\\n[bold]x[/bold]\\u202e/lstm_cell"
    for done in (
        shell("run", ckpt, x),
        shell("run", ckpt, x, "--cell", name),
        shell("run", ckpt, x, "--cell", name, "--strict"),
        shell("run", ckpt, x, "--cell", "c"),
        shell("verify", ckpt, x, "--cell", "c"),
    ):
        assert shown in done.out + done.err
        assert not {"\x1b", "\u202e"} & set(done.out + done.err)
    target = tmp_path / "y.npz"
    assert shell("run", ckpt, x, "--cell", name, "--trace", "-o", target).code == 0
    assert np.load(target).files[:3] == ["outputs", "c_steps", "m_steps"]
    document = shell.json("run", ckpt, x, "--cell", name)
    assert document["network"] == name


@pytest.mark.parametrize("around", ["../[b]\x07", "outputs"])
def test_names_that_no_file_can_have_become_numbers(
    shell: Shell, tmp_path: Path, around: str
) -> None:
    """And names below the outputs, which are an array."""
    scope = f"{around}/multi_rnn_cell/cell_{{}}/lstm_cell"
    cells = lstm_cell(scope.format(0), 4, 3) | lstm_cell(scope.format(1), 2, 4)
    ckpt = checkpoint(tmp_path / "x.ckpt", cells)
    x = saved(tmp_path / "x.npy", numbers(5, 3))
    for ending in ("npz", "h5"):
        target = tmp_path / f"y.{ending}"
        assert shell("run", "-q", ckpt, x, "--all-states", "-o", target).code == 0
        done = shell(
            "run", "-q", ckpt, x, "--state", target, "--state-out", tmp_path / f"s.{ending}", code=0
        )
        assert done.err == ""
    with np.load(tmp_path / "y.npz") as found:
        assert [name for name in found.files if name.endswith("/c")] == ["cell_0/c", "cell_1/c"]


# ---- terminals


def screen(width: int, *arguments: str | Path) -> list[str]:
    """Return the lines that a command prints on a terminal of this width."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k != "COLUMNS"}
    process = subprocess.Popen(
        [sys.executable, "-m", "lstmstate", *map(str, arguments)],
        stdout=slave,
        stderr=subprocess.DEVNULL,
        cwd=PROJECT,
        env=environment | {"TERM": "xterm"},
    )
    os.close(slave)
    written = b""
    try:
        while data := os.read(master, 1 << 16):
            written += data
    except OSError:  # the other end is closed
        pass
    os.close(master)
    assert process.wait() == 0
    text = re.sub(r"\x1b\[[0-9;]*m", "", written.decode())
    return text.replace("\r\n", "\n").splitlines()


@pytest.mark.parametrize("width", [80, 120, 200])
def test_tables_are_no_wider_than_the_terminal(tmp_path: Path, width: int) -> None:
    scope = "a_long_name/of_the_model/bidirectional_rnn/{}/multi_rnn_cell/cell_{}/lstm_cell"
    cells = {}
    for side in ("fw", "bw"):
        cells |= lstm_cell(scope.format(side, 0), 4, 3) | lstm_cell(scope.format(side, 1), 2, 4)
    ckpt = checkpoint(tmp_path / "x.ckpt", cells)
    x = saved(tmp_path / "x.npy", numbers(5, 3))
    lines = screen(width, "run", ckpt, x)
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    for part in ("bidirectional_rnn/fw/", "bidirectional_rnn/bw/", "cell_0/", "cell_1/"):
        assert text.count(part) == 2
    assert sum("[1, 4]" in line for line in lines) == 4
    assert any("outputs" in line and "[5, 4]" in line for line in lines)


def test_the_sunspots_fit_a_terminal_of_80_columns_in_whole_rows() -> None:
    years = f"{SAMPLES}/sunspots/sunspots.csv:input"
    lines = screen(80, "run", SUNSPOTS, years)
    assert max(map(len, lines)) <= 80
    (row,) = [line for line in lines if "outputs" in line and "[309, 12]" in line]
    assert len(row.split()) == 7
