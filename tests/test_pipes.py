"""States through pipes: stdin and stdout of every command that uses them."""

from __future__ import annotations

import io
import os
import pty
import subprocess
from pathlib import Path

import numpy as np
import pytest
from commands import LSTMSTATE, PROJECT, archive, numbers, piped, saved


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """A flat state without metadata, [3, 8]."""
    return saved(tmp_path / "last.npy", numbers(3, 8))


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
    assert b"an HDF5 file cannot be written to stdout; pass a file: -o FILE" in done.stderr


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
        b"redirect stdout, or pass a file: -o FILE\n"
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
