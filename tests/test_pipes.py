"""Standard streams: pipes and progress."""

from __future__ import annotations

import io
import os
import pty
import signal
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import redirect_stderr
from pathlib import Path

import numpy as np
import pytest
from commands import LSTMSTATE, PROJECT, SAMPLES, SUNSPOTS, archive, numbers, piped, saved

from lstmstate.cli.report.console import Meter


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """A flat state without metadata, [3, 8]."""
    return saved(tmp_path / "last.npy", numbers(3, 8))


@pytest.mark.covering(1)
@pytest.mark.parametrize("by", ["pipe", "file"])
@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_from_stdin_to_stdout(tmp_path: Path, kind: str, by: str) -> None:
    """The bytes on stdin show their format; stdout is npy or npz depending on the layout."""
    array = numbers(3, 8)
    source = tmp_path / f"source.{kind}"
    np.save(source, array) if kind == "npy" else np.savez(source, c=array[:, :4], m=array[:, 4:])
    stdin = source if by == "file" else source.read_bytes()
    into = piped("convert", "-q", "--to-tuple", "-", "-o", "-", stdin=stdin)
    assert (into.returncode, into.stderr) == (0, b"")
    with np.load(io.BytesIO(into.stdout)) as found:
        np.testing.assert_array_equal(found["c"], array[:, :4])
        np.testing.assert_array_equal(found["m"], array[:, 4:])
    back = piped("convert", "-q", "--to-flat", "-", "-o", "-", stdin=into.stdout)
    assert (back.returncode, back.stderr) == (0, b"")
    np.testing.assert_array_equal(np.load(io.BytesIO(back.stdout)), array)


def test_the_format_of_stdout_can_be_chosen(flat: Path) -> None:
    done = piped("convert", "-q", flat, "--to-flat", "-o", "-", "--format", "npz")
    assert np.load(io.BytesIO(done.stdout))["state"].shape == (3, 8)
    done = piped("convert", "-q", flat, "--to-tuple", "-o", "-", "--format", "npy")
    assert (done.returncode, done.stdout) == (3, b"")
    done = piped("convert", "-q", flat, "--to-tuple", "-o", "-", "--format", "h5")
    assert (done.returncode, done.stdout) == (3, b"")
    assert b"an HDF5 file cannot be written to stdout; pass the path of a file" in done.stderr


def test_json_never_mixes_with_binary_on_stdout(flat: Path) -> None:
    plain = piped("convert", "-q", flat, "--to-tuple", "-o", "-")
    done = piped("convert", "-q", flat, "--to-tuple", "-o", "-", "--json")
    assert done.returncode == 2 or done.stdout == plain.stdout


def test_binary_is_never_written_to_a_terminal(flat: Path) -> None:
    master, slave = pty.openpty()
    command = [*LSTMSTATE, "convert", "-q", str(flat), "--to-tuple", "-o", "-"]
    done = subprocess.run(command, stdout=slave, stderr=subprocess.PIPE, cwd=PROJECT, check=False)
    os.write(slave, b"|")
    assert os.read(master, 100) == b"|"
    os.close(master)
    os.close(slave)
    assert done.returncode == 3
    assert done.stderr == (
        b"lstmstate: error: stdout: binary data is not written to a terminal; "
        b"redirect stdout, or pass the path of a file\n"
    )


def test_empty_stdin(flat: Path) -> None:
    done = piped("convert", "--to-tuple", "-", "-o", "-")
    assert (done.returncode, done.stdout) == (3, b"")
    assert done.stderr.count(b"\n") == 1


def test_a_closed_pipe_is_not_an_error(tmp_path: Path) -> None:
    source = saved(tmp_path / "large.npy", np.zeros((4000, 512), "f4"))
    command = f"{' '.join(LSTMSTATE)} convert -q {source} --to-tuple -o - | head -c 10"
    done = subprocess.run(["sh", "-c", command], capture_output=True, cwd=PROJECT, check=True)
    assert (len(done.stdout), done.stderr) == (10, b"")


# ---- the other commands


@pytest.mark.parametrize("by", ["pipe", "file"])
def test_check_reads_stdin(tmp_path: Path, by: str) -> None:
    """Also if only the asserted widths show how it is split."""
    source = saved(tmp_path / "odd.npy", numbers(4, 13))
    stdin = source if by == "file" else source.read_bytes()
    done = piped("check", "-q", "-", "--units", "8", "--proj", "5", "--finite", stdin=stdin)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    done = piped("check", "-q", "-", "--units", "8", "--proj", "4", stdin=stdin)
    assert done.returncode == 1
    assert b"it is 13 wide, and c 8 + m 4 are 12" in done.stdout


@pytest.mark.parametrize("by", ["pipe", "file"])
def test_diff_reads_stdin(tmp_path: Path, by: str) -> None:
    """Also if only the other file shows how it is split."""
    both = numbers(4, 13)
    source = saved(tmp_path / "odd.npy", both)
    pair = archive(tmp_path / "pair.npz", c=both[:, :8], m=both[:, 8:])
    stdin = source if by == "file" else source.read_bytes()
    for arguments in (("-", pair), (pair, "-")):
        done = piped("diff", "-q", "--exact", *arguments, stdin=stdin)
        assert (done.returncode, done.stderr) == (0, b""), done.stdout


def test_split_reads_stdin(flat: Path) -> None:
    c, m = flat.with_name("c.npy"), flat.with_name("m.npy")
    done = piped("split", "-q", "-", "-o", c, m, stdin=flat.read_bytes())
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{c}\n{m}\n".encode(), b"")
    np.testing.assert_array_equal(np.hstack([np.load(c), np.load(m)]), np.load(flat))


def test_concat_reads_stdin_and_writes_stdout(tmp_path: Path) -> None:
    c, m = numbers(3, 5), numbers(3, 2, seed=1)
    half = saved(tmp_path / "m.npy", m)
    saved(tmp_path / "c.npy", c)
    stdin = (tmp_path / "c.npy").read_bytes()
    done = piped("concat", "-q", "-", half, "-o", "-", stdin=stdin)
    assert (done.returncode, done.stderr) == (0, b"")
    np.testing.assert_array_equal(np.load(io.BytesIO(done.stdout)), np.hstack([c, m]))


def test_a_pipe_of_four_commands(flat: Path) -> None:
    """Metadata passes through the pipe, so that no flags are needed."""
    lstmstate = " ".join(LSTMSTATE)
    script = (
        f"{lstmstate} convert -q --to-tuple --cells 3:1,2 - -o - < {flat}"
        f" | {lstmstate} convert -q --to keras - -o - | {lstmstate} convert -q --to-flat - -o -"
        f" | {lstmstate} check - --cells 2 --layout flat --max-abs-m 1"
    )
    done = subprocess.run(["sh", "-c", script], capture_output=True, cwd=PROJECT, check=False)
    assert (done.returncode, done.stdout) == (0, b"")
    assert done.stderr == b"lstmstate: note: -: 3 of 3 passed\n"


# ---- progress on a terminal's stderr: soon, in steps, with the time left; nothing anywhere else


class Terminal:
    """A terminal whose other end the test reads."""

    def __init__(self) -> None:
        self.master, slave = pty.openpty()
        os.set_blocking(self.master, False)
        self.file = os.fdopen(slave, "w", encoding="utf-8")

    def read(self, until: str, seconds: float) -> str:
        """Return what is printed, up to a text or for some seconds."""
        text = b""
        end = time.monotonic() + seconds
        while time.monotonic() < end and until.encode() not in text:
            try:
                text += os.read(self.master, 65536)
            except BlockingIOError:
                time.sleep(0.02)
        return text.decode(errors="replace")


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    found = Terminal()
    yield found
    found.file.close()
    os.close(found.master)


def test_progress_is_shown_soon_though_the_first_part_takes_long(terminal: Terminal) -> None:
    started = time.monotonic()
    with redirect_stderr(terminal.file), Meter("running", 400_000, "steps", quiet=False):
        shown = terminal.read("400,000 steps", 5)
    assert "running" in shown
    assert "0/400,000 steps" in shown
    assert time.monotonic() - started < 20  # 0.3 s and an import, on a machine without load
    assert Meter.PATIENCE <= 0.5


def test_steps_are_counted_and_the_time_left_is_shown(terminal: Terminal) -> None:
    with redirect_stderr(terminal.file), Meter("running", 1000, "steps", quiet=False) as meter:
        terminal.read("0/1,000 steps", 5)
        for _ in range(8):
            meter.add(100)
            time.sleep(0.1)
        shown = terminal.read("00:0", 5)
    assert "/1,000 steps" in shown
    assert "MB" not in shown


def test_a_total_that_is_not_known_is_not_shown(terminal: Terminal) -> None:
    with redirect_stderr(terminal.file), Meter("reading", None, "cells", quiet=False) as meter:
        assert list(meter.over("ab")) == ["a", "b"]
        assert "2 cells" in terminal.read("2 cells", 5)


def test_short_work_shows_nothing(terminal: Terminal) -> None:
    with redirect_stderr(terminal.file), Meter("running", 10, "steps", quiet=False) as meter:
        meter.add(10)
    assert terminal.read("x", 0.2) == ""


def test_nothing_is_shown_if_quiet(terminal: Terminal) -> None:
    with redirect_stderr(terminal.file), Meter("running", 10, "steps", quiet=True):
        assert terminal.read("x", Meter.PATIENCE + 0.5) == ""


@pytest.mark.parametrize("file", [io.StringIO(), None])
def test_nothing_is_shown_without_a_terminal(file: io.StringIO | None) -> None:
    with redirect_stderr(file), Meter("running", 10, "steps", quiet=False) as meter:
        time.sleep(Meter.PATIENCE + 0.5)
        meter.add(10)
    assert file is None or file.getvalue() == ""


def long_input(path: Path, width: int) -> Path:
    """Write an x of zeros, which takes seconds to run and no room on the disk."""
    with path.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (40_000_000, width)}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + 40_000_000 * width * 4)
    return path


@pytest.mark.parametrize("command", ["run", "verify"])
def test_commands_count_the_steps_of_their_input(
    terminal: Terminal, tmp_path: Path, command: str
) -> None:
    x = long_input(tmp_path / "x.npy", 1)
    arguments = [*LSTMSTATE, command, SUNSPOTS, str(x)]
    arguments += ["--against", "graph"] if command == "verify" else []
    with subprocess.Popen(
        arguments, stdout=subprocess.DEVNULL, stderr=terminal.file, cwd=PROJECT
    ) as process:
        shown = terminal.read("/40,000,000 steps", 60)
        process.kill()
    assert "/40,000,000 steps" in shown


@pytest.mark.parametrize("waits", [False, True])
def test_a_signal_shows_the_cursor_again(
    terminal: Terminal, tmp_path: Path, *, waits: bool
) -> None:
    """If the terminal takes it; one that was stopped by Ctrl-S does not stop the end."""
    data = long_input(tmp_path / "x.npy", 3)
    command = [*LSTMSTATE, "run", SAMPLES / "peephole_flat", data, "-o", tmp_path / "y.npz"]
    with subprocess.Popen(command, stderr=terminal.file, cwd=PROJECT) as process:
        assert "\x1b[?25l" in terminal.read("40,000,000 steps", 60)
        if waits:
            termios.tcflow(terminal.file.fileno(), termios.TCOOFF)
            time.sleep(0.5)  # until the next report waits
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        finally:
            process.kill()
    assert process.returncode == 143
    assert waits or terminal.read("\x1b[?25h", 5).endswith("\x1b[?25h")
    assert os.listdir(tmp_path) == ["x.npy"]
