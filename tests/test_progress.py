"""Progress on a terminal's stderr: soon, in steps, with the time left; nothing anywhere else."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import time
from collections.abc import Iterator
from contextlib import redirect_stderr
from pathlib import Path

import numpy as np
import pytest
from commands import LSTMSTATE, PROJECT, SUNSPOTS, saved

from lstmstate.cli.report.console import Meter


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


@pytest.mark.parametrize("command", ["run", "verify"])
def test_commands_count_the_steps_of_their_input(
    terminal: Terminal, tmp_path: Path, command: str
) -> None:
    x = saved(tmp_path / "x.npy", np.zeros((400_000, 1), np.float32))
    arguments = [*LSTMSTATE, command, SUNSPOTS, str(x)]
    arguments += ["--against", "graph"] if command == "verify" else []
    with subprocess.Popen(
        arguments, stdout=subprocess.DEVNULL, stderr=terminal.file, cwd=PROJECT
    ) as process:
        shown = terminal.read("/400,000 steps", 60)
        process.kill()
    assert "/400,000 steps" in shown
