"""Outputs are whole or not there: what exists is kept, and a failure leaves nothing behind."""

from __future__ import annotations

import errno
import os
import random
import resource
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pytest
from commands import LOAD_ALL, LSTMSTATE, PROJECT, SAMPLES, Shell, error, in_folder, numbers, saved
from interruptions import calls, interrupted

from lstmstate.errors import LstmstateError
from lstmstate.files.atomic import Outputs

CELL = SAMPLES / "peephole_tuple"
OLD = b"the old file"
DATA = ".data-00000-of-00001"
# A command, and the ending of its output.
WRITES = [
    *(("convert", ending) for ending in ("npz", "h5", "npy", "csv", "ckpt")),
    *(("run", ending) for ending in ("npz", "h5", "npy")),
]


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """A flat state in its own folder."""
    return saved(tmp_path / "flat.npy", numbers(3, 8))


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A flat state of 8 MB, which is converted in several parts."""
    values = np.random.default_rng(0).random((1000, 100), np.float32)
    return saved(tmp_path_factory.mktemp("large") / "flat.npy", np.tile(values, (20, 1)))


def writing(
    command: str, ending: str, folder: Path, rows: int = 3, steps: int = 5
) -> tuple[list[object], Path]:
    """Return a command that writes an output into a folder, and the file that it writes."""
    target = folder / f"y.{ending}"
    if command == "run":
        x = saved(folder / "x.npy", numbers(2, steps, 3))
        return ["run", "-q", CELL, x, "-o", target], target
    source = saved(folder / "flat.npy", numbers(rows, 100))
    to = "--to-flat" if ending == "npy" else "--to-tuple"
    file = folder / "y.ckpt.index" if ending == "ckpt" else target
    return ["convert", "-q", source, to, "-o", target], file


def mode(path: Path) -> int:
    """Return the permissions of a file."""
    return stat.S_IMODE(path.stat().st_mode)


def temporaries(folder: Path) -> list[str]:
    """Return the temporary files in a folder."""
    return [name for name in os.listdir(folder) if name.endswith(".tmp")]


# ---- existing outputs


@pytest.mark.parametrize(("command", "ending"), WRITES)
def test_an_existing_output_is_replaced_only_with_force(
    shell: Shell, tmp_path: Path, command: str, ending: str
) -> None:
    arguments, file = writing(command, ending, tmp_path)
    file.write_bytes(OLD)
    before = in_folder(tmp_path)
    done = shell(*arguments, code=3)
    assert done.out == ""
    assert error(done) == f"{file}: this file exists already; pass --force to replace it"
    assert in_folder(tmp_path) == before
    assert shell(*arguments, "--force").code == 0
    assert file.read_bytes() != OLD
    assert temporaries(tmp_path) == []


def test_one_existing_output_of_two_prevents_both(shell: Shell, flat: Path) -> None:
    flat.with_name("m.npy").write_bytes(OLD)
    before = in_folder(flat.parent)
    targets = flat.with_name("c.npy"), flat.with_name("m.npy")
    assert shell("split", flat, "-o", *targets).code == 3
    assert in_folder(flat.parent) == before
    assert shell("split", flat, "-o", *targets, "--force").code == 0
    assert np.load(targets[1]).shape == (3, 4)


def test_an_output_created_meanwhile_is_kept(shell: Shell, flat: Path) -> None:
    """Another process may have been faster; then neither of two outputs appears."""
    first, second = str(flat.with_name("c.npy")), flat.with_name("m.npy")
    with pytest.raises(Exception, match="another process created this file"), Outputs() as outputs:
        for target in (first, str(second)):
            Path(outputs.new(target)).write_bytes(b"new")
        second.write_bytes(OLD)
    assert in_folder(flat.parent) == {"flat.npy": flat.read_bytes(), "m.npy": OLD}


@pytest.mark.parametrize("force", [[], ["--force"]])
@pytest.mark.parametrize("by", ["name", "spelling", "symlink", "hard link", "folder", "place"])
def test_the_input_is_never_overwritten(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str, force: list[str]
) -> None:
    (tmp_path / "in").mkdir()
    source = tmp_path / "in" / "state.npz"
    np.savez(source, **{"a/c": numbers(2, 3), "a/m": numbers(2, 3)})
    monkeypatch.chdir(tmp_path)
    given, target = str(source), tmp_path / "out.npz"
    if by == "name":
        target = source
    elif by == "spelling":
        target = Path("in/../in/./state.npz")
    elif by == "symlink":
        target.symlink_to(source)
    elif by == "hard link":
        target.hardlink_to(source)
    elif by == "folder":
        (tmp_path / "other").symlink_to(tmp_path / "in")
        target = tmp_path / "other" / "state.npz"
    else:
        given, target = f"{source}:a", source
    before = in_folder(tmp_path)
    done = shell("convert", "-q", given, "--to-tuple", "-o", target, *force, code=3)
    assert error(done) == (
        f"{target}: this is the input, which is never written over; give the output another name"
    )
    assert in_folder(tmp_path) == before


FILES = ["", "/", "/checkpoint", *(f"/model.ckpt-360{e}" for e in ("", ".index", ".meta", DATA))]
HALVES = [
    f"/{file}:{half}_state" for file in ("", "checkpoint", "model.ckpt.meta") for half in "cm"
]


@pytest.mark.parametrize(
    ("sample", "sources", "target"),
    [
        *(("sunspots", [given], f"360{ending}") for given in FILES for ending in (".index", DATA)),
        *(
            ("peephole_tuple", HALVES[at : at + 2], f"model.ckpt{ending}")
            for at in (0, 2, 4)
            for ending in (".index", DATA)
        ),
        ("sunspots", [""], "360"),
    ],
)
def test_no_file_of_a_checkpoint_is_overwritten_under_any_path(
    shell: Shell, tmp_path: Path, sample: str, sources: list[str], target: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(SAMPLES / sample, run)
    before = in_folder(tmp_path)
    given = [f"{run}{source}".replace("//", "/").replace("/:", ":") for source in sources]
    target = str(run / target.replace("360", "model.ckpt-360"))
    command = ["concat", *given] if len(sources) > 1 else ["convert", *given]
    if target.endswith("360"):
        command += ["--to-tuple"]
    else:
        command += ["--format", "npy", *(["--to-flat"] if len(sources) == 1 else [])]
    done = shell(*command, "-q", "--force", "-o", target)
    assert in_folder(tmp_path) == before
    assert done.code == 3
    assert "this is the input" in error(done)
    if len(sources) > 1:
        assert shell("concat", *given, "-o", tmp_path / "flat.npy").code == 0


# ---- permissions and special files


def test_a_new_file_has_the_permissions_of_any_new_file(shell: Shell, flat: Path) -> None:
    for mask in (0o022, 0o077, 0o002):
        target = flat.with_name(f"{mask}.npz")
        before = os.umask(mask)
        try:
            assert shell("convert", flat, "--to-tuple", "-o", target).code == 0
        finally:
            os.umask(before)
        assert mode(target) == 0o666 & ~mask


@pytest.mark.parametrize("permissions", [0o600, 0o640, 0o444, 0o666])
def test_a_replaced_file_keeps_its_permissions(shell: Shell, flat: Path, permissions: int) -> None:
    target = flat.with_name("x.npz")
    target.write_bytes(OLD)
    target.chmod(permissions)
    assert shell("convert", flat, "--to-tuple", "-o", target, "--force").code == 0
    assert mode(target) == permissions
    assert target.read_bytes() != OLD


def test_unfinished_output_is_private(flat: Path) -> None:
    target = flat.with_name("x.npz")
    target.write_bytes(OLD)
    target.chmod(0o600)
    with Outputs(force=True) as outputs:
        assert mode(Path(outputs.new(str(target)))) == 0o600
    with Outputs() as outputs:
        written = Path(outputs.new("-"))
        assert mode(written) == 0o600
        written.write_bytes(b"")


def test_the_target_of_a_symlink_is_replaced_and_the_link_kept(shell: Shell, flat: Path) -> None:
    (flat.parent / "far").mkdir()
    target, link = flat.parent / "far" / "x.npz", flat.with_name("link.npz")
    target.write_bytes(OLD)
    link.symlink_to("far/x.npz")
    assert shell("convert", flat, "--to-tuple", "-o", link).code == 3
    assert target.read_bytes() == OLD
    assert shell("convert", flat, "--to-tuple", "-o", link, "--force").code == 0
    assert link.is_symlink()
    with np.load(target) as found:
        assert found["c"].shape == (3, 4)
    assert os.listdir(target.parent) == ["x.npz"]


def test_a_dangling_symlink_is_an_existing_output(shell: Shell, flat: Path) -> None:
    link = flat.with_name("link.npz")
    link.symlink_to("later.npz")
    assert shell("convert", flat, "--to-tuple", "-o", link).code == 3
    assert shell("convert", flat, "--to-tuple", "-o", link, "--force").code == 0
    assert link.is_symlink()
    assert flat.with_name("later.npz").is_file()


def test_nothing_appears_where_the_folder_of_an_output_was(tmp_path: Path) -> None:
    """It is renamed, and a link is put in its place, while the output is written."""
    folder, renamed, other = (tmp_path / name for name in ("out", "renamed", "other"))
    folder.mkdir()
    other.mkdir()
    problem = "out/x.npy: it cannot be written"
    with pytest.raises(LstmstateError, match=problem), Outputs() as outputs:
        Path(outputs.new(str(folder / "x.npy"))).write_bytes(b"whole")
        folder.rename(renamed)
        folder.symlink_to(other)
    assert os.listdir(other) == []
    assert [name for name in os.listdir(renamed) if not name.endswith(".tmp")] == []


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_a_folder_is_not_an_output(shell: Shell, flat: Path, force: list[str]) -> None:
    folder = flat.with_name("x.npz")
    folder.mkdir()
    done = shell("convert", "-q", flat, "--to-tuple", "-o", folder, *force, code=3)
    words = "no output can be written there; pass the path of a file"
    assert error(done) == f"{folder}: this is a folder: {words}"
    fifo = flat.with_name("y.npz")
    os.mkfifo(fifo)
    done = shell("convert", "-q", flat, "--to-tuple", "-o", fifo, *force, code=3)
    assert "not a regular file" in error(done)
    assert sorted(os.listdir(flat.parent)) == ["flat.npy", "x.npz", "y.npz"]


@pytest.fixture
def for_anyone() -> Iterator[Path]:
    """A folder that any user can reach, with a state in it."""
    folder = Path(mkdtemp())
    saved(folder / "flat.npy", numbers(3, 8)).chmod(0o644)
    yield folder
    folder.chmod(0o777)
    shutil.rmtree(folder)


def test_a_folder_that_may_not_be_written_in(shell: Shell, for_anyone: Path) -> None:
    source, target = for_anyone / "flat.npy", for_anyone / "x.npz"
    assert shell("convert", source, "--to-tuple", "-o", target).code == 0
    target.unlink()
    for_anyone.chmod(0o555)
    me = os.geteuid()
    if me == 0:
        os.seteuid(65534)  # root may write everywhere
    try:
        done = shell("convert", "-q", source, "--to-tuple", "-o", target)
    finally:
        os.seteuid(me)
    assert done.code == 3
    assert error(done) == f"{target}: it cannot be written (Permission denied)"
    assert os.listdir(for_anyone) == ["flat.npy"]


# ---- failing system calls


@pytest.mark.parametrize(("command", "ending"), WRITES)
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failing_system_call_leaves_the_old_file(
    shell: Shell,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    ending: str,
    call: str,
) -> None:
    arguments, file = writing(command, ending, tmp_path)
    file.write_bytes(OLD)
    before = in_folder(tmp_path)

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, fail)
    done = shell(*arguments, "--force")
    monkeypatch.undo()
    assert (done.code, done.out) == (3, "")
    assert error(done).startswith(f"{tmp_path}/y.{ending}")
    assert error(done).endswith(": it cannot be written (No space left on device)")
    assert ".tmp" not in error(done)
    assert in_folder(tmp_path) == before


# A command ends, or fails, at one of its calls that rename files; each run is a copy of a process.
RENAMING = """
import os, sys
from lstmstate.cli import execute
mode, *arguments = sys.argv[1:]

def ending(rename):
    def renamed(*names):
        global calls
        calls += 1
        if calls == last and mode == "error" or 0 < last <= calls and mode == "errors":
            raise OSError(5, "Input/output error")
        if calls == last and mode == "killed before":
            os._exit(9)
        rename(*names)
        if calls == last and mode == "killed after":
            os._exit(9)
    return renamed

os.replace, os.link = ending(os.replace), ending(os.link)
while line := sys.stdin.readline():
    calls, last, child = 0, int(line), os.fork()
    if not child:
        for descriptor in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
        os._exit(execute(arguments))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@contextmanager
def renaming(mode: str, *arguments: object) -> Iterator[Callable[[int], int]]:
    """Yield a function that runs a command, which ends at a call that renames a file, from 1 on."""
    command = [sys.executable, "-c", LOAD_ALL + RENAMING, mode, *map(str, arguments)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=PROJECT
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def run(last: int) -> int:
            stdin.write(f"{last}\n")
            stdin.flush()
            return int(stdout.readline())

        yield run
        stdin.close()


def of_two_files(folder: Path, name: str) -> tuple[list[object], tuple[str, ...]]:
    """Return a command that writes two files or more anew, and the files."""
    source = saved(folder / "flat.npy", numbers(3, 8))
    if name == "split":
        targets = ("c.npy", "m.npy")
        return ["split", "-q", source, "-o", *(folder / one for one in targets)], targets
    shutil.copytree(CELL, folder / "in")
    files = ("y.ckpt.index", f"y.ckpt{DATA}", "y.ckpt.meta")
    return ["convert", "-q", folder / "in", "--to-flat", "-o", folder / "y.ckpt"], files


@pytest.mark.parametrize("name", ["split", "ckpt"])
def test_a_rename_that_fails_leaves_all_old_files(tmp_path: Path, name: str) -> None:
    command, files = of_two_files(tmp_path, name)
    for file in files:
        (tmp_path / file).write_bytes(OLD)
    before = in_folder(tmp_path)
    count = 0
    with renaming("error", *command, "--force") as run:
        while run(count + 1) == 3:
            assert in_folder(tmp_path) == before
            count += 1
    assert count == 2 * len(files)


@pytest.mark.parametrize("mode", ["killed before", "killed after", "errors"])
@pytest.mark.parametrize("name", ["split", "ckpt"])
def test_a_kill_leaves_no_old_file_with_a_new_one(tmp_path: Path, name: str, mode: str) -> None:
    command, files = of_two_files(tmp_path, name)
    paths = [tmp_path / file for file in files]
    with renaming(mode, *command, "--force") as run:
        assert run(0) == 0
        new = [path.read_bytes() for path in paths]
        count, code = 0, 9
        while code:
            count += 1
            for path in paths:
                path.write_bytes(OLD)
            code = run(count)
            assert code in (0, 3 if mode == "errors" else 9)
            found = [path.read_bytes() for path in paths if path.exists()]
            assert OLD not in found or set(found) == {OLD}, count
            if name == "ckpt" and paths[0].exists():  # the index makes them a checkpoint
                assert found in ([OLD] * len(files), new)
    assert (code, count) == (0, 2 * len(files) + 1)


def limited(nbytes: int) -> None:
    """Limit the size of all files of this process, like a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, nbytes))


@pytest.mark.parametrize(
    ("command", "ending", "flags"),
    [
        *((*one, []) for one in WRITES),
        *((command, "h5", ["--compress"]) for command in ("convert", "run")),
        *(("run", ending, ["--time-major"]) for ending in ("npz", "h5", "npy")),
        ("run", "npz", ["--compress"]),
    ],
)
def test_a_disk_that_is_full_leaves_the_old_file(
    tmp_path: Path, command: str, ending: str, flags: list[str]
) -> None:
    """The HDF5 library crashes the process on a failed write, so failures are hidden from it."""
    arguments, file = writing(command, ending, tmp_path, rows=1000, steps=9000)
    file.write_bytes(OLD)
    before = in_folder(tmp_path)
    done = subprocess.run(
        [*LSTMSTATE, *map(str, arguments), "--force", *flags],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        preexec_fn=lambda: limited(100_000),
        check=False,
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith(f"lstmstate: error: {tmp_path}/y.{ending}")
    assert ": it cannot be written (" in done.stderr
    assert in_folder(tmp_path) == before


def test_stdout_that_is_full_is_an_error(flat: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "lstmstate", "convert", "-q", flat, "--to-tuple", "-o", "-"],
            stdout=full,
            stderr=subprocess.PIPE,
            cwd=PROJECT,
            check=False,
        )
    assert done.returncode == 3
    assert done.stderr == (
        b"lstmstate: error: stdout: it cannot be written (No space left on device)\n"
    )


def test_stdout_leaves_no_temporary_file(flat: Path, tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    for ending in ("-o -", "--units 3 -o -", "-o - | head -c 10"):
        line = f"{sys.executable} -m lstmstate convert -q {flat} --to-tuple {ending} > /dev/null"
        subprocess.run(
            ["sh", "-c", line],
            env=os.environ | {"TMPDIR": str(tmp_path / "tmp")},
            stderr=subprocess.DEVNULL,
            cwd=PROJECT,
            check=False,
        )
        assert os.listdir(tmp_path / "tmp") == []


# ---- interruptions


@pytest.mark.parametrize(
    ("command", "number", "count"),
    [
        *(("convert", number, 8) for number in (signal.SIGINT, signal.SIGKILL)),
        *(("convert", number, 4) for number in (signal.SIGTERM, signal.SIGHUP)),
        *(("run", number, 4) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)),
    ],
)
def test_killed_at_any_moment_the_target_is_old_or_new(
    tmp_path: Path, large: Path, command: str, number: signal.Signals, count: int
) -> None:
    arguments, target = writing(command, "npz", tmp_path, steps=2000)
    if command == "convert":
        arguments[2] = large
    with interrupted(number, *arguments, "--force") as run:
        last = calls(run)
        new, files = target.read_bytes(), sorted(os.listdir(tmp_path))
        chance = random.Random(int(number))
        for moment in (1, *(chance.randint(1, last) for _ in range(count - 1))):
            target.write_bytes(OLD)
            done = run(moment)
            is_old = target.read_bytes() == OLD
            assert is_old or target.read_bytes() == new
            if number == signal.SIGKILL:
                for name in temporaries(tmp_path):
                    (tmp_path / name).unlink()
            if is_old:
                code = -number if number == signal.SIGKILL else 128 + number
                assert (done.returncode, done.stderr.strip()) == (code, b"")
            assert sorted(os.listdir(tmp_path)) == files
            assert moment > 1 or is_old


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
