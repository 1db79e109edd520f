"""Killed conversions, which leave the old file or the new one, and never a part."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import LSTMSTATE, PROJECT
from interruptions import calls, interrupted

ROWS, WIDTH = 20_000, 100  # 8 MB of float32, several parts
MOMENTS = 15


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A flat state of 8 MB."""
    path = tmp_path_factory.mktemp("large") / "flat.npy"
    values = np.random.default_rng(0).random((1000, WIDTH), np.float32)
    np.save(path, np.tile(values, (ROWS // 1000, 1)))
    return path


def temporaries(target: Path) -> list[str]:
    """Return the temporary files next to a target."""
    return [name for name in os.listdir(target.parent) if name.endswith(".tmp")]


def same_as(path: Path, expected: bytes) -> bool:
    """Whether a file has these bytes."""
    return path.stat().st_size == len(expected) and path.read_bytes() == expected


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_killed_at_any_moment_the_target_is_old_or_new(
    tmp_path: Path, large: Path, number: signal.Signals
) -> None:
    target = tmp_path / "state.npz"
    command = ["convert", "-q", large, "--to-tuple", "--force", "-o", target]
    with interrupted(number, *command) as run:
        last = calls(run)
        new, old = target.read_bytes(), b"old" * 1000
        chance = random.Random(int(number))
        count = MOMENTS if number in (signal.SIGINT, signal.SIGKILL) else MOMENTS // 3
        for moment in (1, *(chance.randint(1, last) for _ in range(count - 1))):
            target.write_bytes(old)
            done = run(moment)
            assert same_as(target, old) or same_as(target, new)
            if number == signal.SIGKILL:
                for name in temporaries(target):
                    (tmp_path / name).unlink()
            if same_as(target, old):
                code = -number if number == signal.SIGKILL else 128 + number
                assert (done.returncode, done.stderr.strip()) == (code, b"")
            assert os.listdir(tmp_path) == ["state.npz"]
            assert moment > 1 or same_as(target, old)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_loading_prints_no_traceback(
    tmp_path: Path, number: signal.Signals
) -> None:
    """The first tenth of a second is spent on imports, when Ctrl-C may come, too."""
    fake = f"import os\nos.kill(os.getpid(), {int(number)})\n"
    (tmp_path / "click.py").write_text(fake)
    done = subprocess.run(
        [*LSTMSTATE, "convert"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        cwd=PROJECT,
        check=False,
    )
    assert done.returncode in (128 + number, -number)
    assert done.stderr.strip() == b""


def test_ignored_hangups_do_not_end_a_conversion(tmp_path: Path, large: Path) -> None:
    """For example under nohup."""
    target = tmp_path / "state.npz"
    command = ["convert", "-q", large, "--to-tuple", "-o", target]
    with interrupted(signal.SIGHUP, *command, ignored=True) as run:
        assert run(1) == (0, b"")
    assert target.is_file()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no limit on the size of a file")
@pytest.mark.parametrize("ending", ["npz", "h5", "h5 --compress", "ckpt"])
def test_a_full_disk_is_reported_and_leaves_the_old_file(ending: str, tmp_path: Path) -> None:
    """The HDF5 library crashes the process on a failed write, so failures are hidden from it."""
    kind, *compress = ending.split()
    source, target = tmp_path / "flat.npy", tmp_path / f"state.{kind}"
    np.save(source, np.random.default_rng(0).uniform(-1, 1, (4000, 64)))
    target.write_bytes(b"the old one")
    command = [*LSTMSTATE, "convert", "-q", source, "--to-tuple", "--force", "-o", target]
    limited = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)); "
        "from lstmstate.cli import execute as run; sys.exit(run(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", limited, *map(str, command[len(LSTMSTATE) :]), *compress],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        check=False,
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert "cannot be written" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert target.read_bytes() == b"the old one"
    assert temporaries(target) == []
