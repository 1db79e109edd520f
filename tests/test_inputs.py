"""Inputs that another process changes, and outputs with the path of a file that was read."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from commands import SAMPLES, Shell, archive, error, in_folder, numbers, saved

import lstmstate
from lstmstate import LstmstateError
from lstmstate.files import reader
from lstmstate.state.formats import input_path

Change = Callable[[Path], None]


def overwrite(path: Path) -> None:
    """Write other bytes into a file, which keeps its size."""
    with path.open("r+b") as file:
        data = file.read()
        file.seek(0)
        file.write(data[:200] + data[200:][::-1])


def append(path: Path) -> None:
    """Make a file longer."""
    with path.open("ab") as file:
        file.write(b"1")


def replace(path: Path) -> None:
    """Put another file of the same size and time in its place."""
    times = path.stat()
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    other.replace(path)


def states(folder: Path) -> dict[str, Path]:
    """Write a state in each kind of file."""
    rows = numbers(600, 64)
    paths = {"npy": saved(folder / "a.npy", rows), "npz": archive(folder / "a.npz", state=rows)}
    np.savetxt(folder / "a.csv", rows, delimiter=",")
    paths["csv"] = folder / "a.csv"
    for kind in ("h5", "pkl"):
        paths[kind] = folder / f"a.{kind}"
    lstmstate.convert(paths["npy"], paths["h5"], layout="flat", cells=[(32, 32)])
    paths["pkl"].write_bytes(rows.dumps())
    return paths


def changing(
    monkeypatch: pytest.MonkeyPatch, path: Path, change: Change, after: int
) -> Callable[[], int]:
    """Have a file changed after some reads; return the function that counts its reads."""
    count = 0
    time.sleep(0.02)  # the clock of a file system may tick as slowly

    def wrap(name: str) -> None:
        read = getattr(reader, name)

        def counted(*arguments: object) -> object:
            nonlocal count
            count += 1
            if count == after + 1:
                change(path)
            return read(*arguments)

        monkeypatch.setattr(reader, name, counted)

    wrap("_read_at")
    wrap("_read_into")
    return lambda: count


@pytest.mark.covering(1)
@pytest.mark.parametrize("change", [overwrite, append, replace])
@pytest.mark.parametrize("kind", ["npy", "npz", "h5", "csv", "pkl"])
def test_a_state_that_changes_while_it_is_read(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, change: Change
) -> None:
    path, target = states(tmp_path)[kind], tmp_path / "y.npz"
    command = ["convert", "-q", path, "--to-tuple", "--units", "32", "-o", target]
    reads = changing(monkeypatch, path, change, 1 << 60)
    assert shell(*command).code == 0
    monkeypatch.undo()
    target.unlink()
    first, last = path.read_bytes(), reads()
    for after in sorted({1, last // 2, last - 1}):
        path.write_bytes(first)
        changing(monkeypatch, path, change, after)
        done = shell(*command)
        monkeypatch.undo()
        assert (done.code, target.exists()) == (3, False), after
        assert error(done).startswith(f"{path}: "), after
        assert "it changed while it was read; try again when nothing writes to it" in error(done)


def test_an_input_of_run_that_changes(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path / "x.npy", numbers(500, 3))
    reads = changing(monkeypatch, path, overwrite, 1 << 60)
    command = ["run", "-q", SAMPLES / "peephole_tuple", path, "-o", tmp_path / "y.npz"]
    assert shell(*command).code == 0
    monkeypatch.undo()
    changing(monkeypatch, path, overwrite, reads() - 1)
    done = shell(*command, "--force")
    assert (done.code, error(done).partition(";")[0]) == (
        3,
        f"{path}: it changed while it was read",
    )


def test_a_data_file_that_changes_between_two_values(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is opened for each; without checksums nothing else would show it."""
    shutil.copytree(SAMPLES / "peephole_tuple", tmp_path / "run")
    data = tmp_path / "run" / "model.ckpt.data-00000-of-00001"
    target = tmp_path / "y.npz"
    command = ["convert", "-q", "--no-checksums", tmp_path / "run", "--to-flat", "-o", target]
    assert shell(*command).code == 0
    target.unlink()
    opened = reader.ByteSource.__init__
    count = 0

    def open_(self: reader.ByteSource, path: str, *given: object, **named: object) -> None:
        nonlocal count
        count += path == str(data)
        if count == 3 and path == str(data):
            replace(data)
        opened(self, path, *given, **named)  # type: ignore[arg-type]

    time.sleep(0.02)
    monkeypatch.setattr(reader.ByteSource, "__init__", open_)
    done = shell(*command)
    assert count >= 3
    assert (done.code, target.exists()) == (3, False)
    assert "it changed while it was read" in error(done)


def test_the_file_that_names_the_checkpoint_is_not_overwritten(
    shell: Shell, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(SAMPLES / "peephole_tuple", folder)
    before = in_folder(folder)
    target = ["--format", "npz", "-o", folder / "checkpoint"]
    done = shell("convert", "-q", folder, "--to-flat", "--force", *target)
    assert (done.code, in_folder(folder)) == (3, before)
    assert "this is the input, which is never written over" in error(done)


def test_files_that_were_only_looked_at_are_replaced(shell: Shell, tmp_path: Path) -> None:
    """To count the checkpoints of a folder, its other files are opened too."""
    folder = tmp_path / "run"
    shutil.copytree(SAMPLES / "peephole_tuple", folder)
    target = saved(folder / "y.npz", numbers(2, 3))
    assert shell("convert", folder, "--to-flat", "--force", "-o", target).code == 0


def test_a_later_input_is_not_overwritten(shell: Shell, tmp_path: Path) -> None:
    """By the output of the one before, in the same call."""
    first = saved(tmp_path / "a.npy", numbers(3, 8))
    second = archive(tmp_path / "a.tuple.npz", c=numbers(3, 4), m=numbers(3, 4))
    before = second.read_bytes()
    done = shell("convert", "-q", first, second, "--to-tuple", "--force", "--out-dir", tmp_path)
    assert (done.code, second.read_bytes()) == (2, before)
    done = shell("convert", "-q", first, second, "--to-tuple", "--force")
    assert (done.code, second.read_bytes()) == (4, before)


def test_python_may_write_what_it_read_before(tmp_path: Path) -> None:
    """Only one call to the library has inputs and outputs that exclude one another."""
    path = archive(tmp_path / "a.npz", c=numbers(3, 4), m=numbers(3, 4))
    state = lstmstate.load_state(path)
    lstmstate.save_state(state, path, force=True)
    with pytest.raises(LstmstateError, match="never written over"):
        lstmstate.convert(path, path, layout="flat", force=True)


@pytest.mark.parametrize("command", ["run", "convert"])
def test_the_inputs_of_a_batch_are_looked_at_once_though_all_outputs_exist(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    located: list[str] = []
    plain = input_path.locate
    monkeypatch.setattr(input_path, "locate", lambda path: located.append(path) or plain(path))
    inputs = [saved(tmp_path / f"{number}.npy", numbers(4, 1)) for number in range(8)]
    words = ["run", SAMPLES / "sunspots"]
    if command == "convert":
        inputs = [saved(path, numbers(4, 16)) for path in inputs]
        words = ["convert", "--to-tuple"]
    for _ in range(2):
        located.clear()
        done = shell(*words, *inputs, "--out-dir", tmp_path / "out", "--force")
        assert done.code == 0, done.stderr
    assert len(located) <= 2 * len(inputs)
