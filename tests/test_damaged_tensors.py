"""Checkpoints with several damaged values, each named in an error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from builders import BundleBuilder, V1Builder
from commands import Shell, archive, checkpoint, error, errors, flip, lstm_cell, numbers, saved

import lstmstate
from lstmstate.errors import GatheredError, LstmstateError, each, raise_all

NAMES = ("a", "b", "c", "d")
DAMAGED = "its checksum does not match: the data file is damaged, or of another checkpoint"


@pytest.fixture
def damaged(tmp_path: Path) -> str:
    """The prefix of a checkpoint of four tensors; a, b and c are damaged."""
    prefix = checkpoint(tmp_path / "model", {name: numbers(4) for name in NAMES})
    flip(prefix, 0, 17, 47)
    return prefix


def lines(prefix: str) -> list[str]:
    """Return the error of each damaged tensor."""
    return [f"{prefix}.data-00000-of-00001: {name}: {DAMAGED}" for name in "abc"]


def test_check_finite_names_each(shell: Shell, damaged: str) -> None:
    done = shell("check", damaged, "--finite", code=3)
    assert done.out == ""
    assert errors(done) == lines(damaged)


def test_check_finite_names_a_damaged_counter_too(shell: Shell, tmp_path: Path) -> None:
    """A value that is not floating-point cannot be NaN; it can be damaged."""
    prefix = checkpoint(tmp_path / "model", {"a": numbers(4), "step": np.arange(3)})
    flip(prefix, -1)
    done = shell("check", prefix, "--finite", code=3)
    assert errors(done) == [f"{prefix}.data-00000-of-00001: step: {DAMAGED}"]


def test_check_finite_of_several_files_names_each(
    shell: Shell, damaged: str, tmp_path: Path
) -> None:
    whole = checkpoint(tmp_path / "whole", {"a": numbers(4)})
    document = shell.json("check", damaged, whole, "--finite", code=4)
    assert document["failed"] == [{"path": damaged, "error": line} for line in lines(damaged)]
    assert [result["path"] for result in document["results"]] == [whole]


def test_inspect_verify_names_each_after_the_report(shell: Shell, damaged: str) -> None:
    done = shell("inspect", damaged, "--verify", code=3)
    assert done.out.splitlines()[-1] == "1 of 4 values are undamaged; damaged: a, b, c"
    assert errors(done) == lines(damaged)


def test_inspect_verify_in_json(shell: Shell, damaged: str, tmp_path: Path) -> None:
    expected = [{"variable": n, "error": e} for n, e in zip("abc", lines(damaged), strict=True)]
    document = shell.json("inspect", damaged, "--verify", code=3)
    assert document["damaged"] == expected
    assert [variable["name"] for variable in document["variables"]] == list(NAMES)
    whole = checkpoint(tmp_path / "whole", {"a": numbers(4)})
    both = shell.json("inspect", damaged, whole, "--verify", code=4)
    assert [result["damaged"] for result in both["results"]] == [expected, []]
    assert both["failed"] == [{"path": damaged, "error": line} for line in lines(damaged)]


def test_a_state_is_loaded_without_checksums_if_that_is_asked(damaged: str) -> None:
    with pytest.raises(LstmstateError, match="checksum does not match"):
        lstmstate.load_state(damaged, layout="tuple", variable=["a", "b"])
    state = lstmstate.load_state(damaged, layout="tuple", variable=["a", "b"], checksums=False)
    assert state.batch_shape == () and state.flat().shape == (8,)


def test_inspect_reads_no_value_without_being_asked(shell: Shell, damaged: str) -> None:
    assert shell.json("inspect", damaged)["damaged"] is None
    assert "values are undamaged" not in shell("inspect", damaged).out


def test_a_whole_checkpoint_is_verified(shell: Shell, samples: Path) -> None:
    done = shell("inspect", samples / "sunspots", "--verify", code=0)
    assert done.out.splitlines()[-1] == "22 of 22 values are undamaged"
    assert shell.json("inspect", samples / "sunspots", "--verify")["damaged"] == []


def test_statistics_of_damaged_values_are_left_out(shell: Shell, tmp_path: Path) -> None:
    values = {"rnn/lstm_cell/kernel": numbers(7, 16), "rnn/lstm_cell/bias": numbers(16)}
    prefix = checkpoint(tmp_path / "model", values)
    assert "stats" in shell.json("inspect", prefix, "--verify", "--stats")["cells"][0]
    flip(prefix, 0)
    document = shell.json("inspect", prefix, "--verify", "--stats", code=3)
    assert "stats" not in document["cells"][0]
    assert len(document["damaged"]) == 1


def test_values_of_a_missing_data_file_are_each_named(shell: Shell, tmp_path: Path) -> None:
    bundle = BundleBuilder(shards=2)
    for shard, name in enumerate(NAMES):
        bundle.add(name, numbers(4), shard=shard % 2)
    prefix = bundle.write(tmp_path / "model")
    Path(f"{prefix}.data-00001-of-00002").unlink()
    document = shell.json("inspect", prefix, "--verify", code=3)
    assert [one["variable"] for one in document["damaged"]] == ["b", "d"]


@pytest.mark.parametrize("command", ["inspect --verify", "check --finite"])
def test_a_missing_data_file_is_one_error(shell: Shell, tmp_path: Path, command: str) -> None:
    prefix = checkpoint(tmp_path / "model", {name: numbers(4) for name in "abcde"})
    Path(f"{prefix}.data-00000-of-00001").unlink()
    name, flag = command.split()
    (line,) = errors(shell(name, prefix, flag))
    problem = "5 values (a, b, c and 2 more): the data file is missing: only names, shapes"
    assert line.startswith(f"{prefix}.data-00000-of-00001: {problem}")


def test_unsupported_values_are_not_damage(shell: Shell, tmp_path: Path) -> None:
    bundle = BundleBuilder()
    bundle.add("a", numbers(4))
    bundle.entry("handle", dtype=20, shape=(), size=0)
    bundle.entry("gone", dtype=1, shape=(2,), offset=1000, size=8)
    prefix = bundle.write(tmp_path / "model")
    document = shell.json("inspect", "-q", prefix, "--verify", code=3)
    assert [one["variable"] for one in document["damaged"]] == ["gone"]


def test_damaged_values_of_a_v1_file(shell: Shell, tmp_path: Path) -> None:
    builder = V1Builder()
    for name in NAMES:
        builder.add(name, numbers(64))
    path = Path(builder.write(tmp_path / "old", block_size=64))
    content, values = path.read_bytes(), builder.entries.items()
    flip(path, *(content.index(value) + 40 for key, value in values if key[1:2] in b"bc"))
    document = shell.json("inspect", path, "--verify", code=3)
    assert [one["variable"] for one in document["damaged"]] == ["b", "c"]
    assert len(errors(shell("check", path, "--finite"))) == 2


def test_a_damaged_state_file_is_refused(shell: Shell, tmp_path: Path) -> None:
    path = archive(tmp_path / "state.npz", c=numbers(2, 4096), m=numbers(2, 4096, seed=1))
    assert shell("inspect", path, "--verify").code == 0
    flip(path, path.read_bytes().index(numbers(2, 4096).tobytes()))
    assert "c: the archive is damaged" in error(shell("inspect", path, "--verify", code=3))


def test_a_state_in_a_separate_checkpoint(shell: Shell, tmp_path: Path) -> None:
    path = archive(tmp_path / "state.npz", c=numbers(2, 4), m=numbers(2, 4, seed=1))
    prefix = tmp_path / "state.ckpt"
    assert shell("convert", path, "--to-tuple", "-o", prefix).code == 0
    content = Path(f"{prefix}.data-00000-of-00001").read_bytes()
    halves = numbers(2, 4), numbers(2, 4, seed=1)
    flip(prefix, *(content.index(half.tobytes()) for half in halves))
    done = shell("check", prefix, "--finite", code=3)
    assert [line.split(": ")[1] for line in errors(done)] == ["c", "m"]


@pytest.mark.parametrize("command", ["run", "concat"])
def test_no_checksums_applies_to_the_files_of_a_state(
    shell: Shell, tmp_path: Path, command: str
) -> None:
    """The state is in another checkpoint than the cells, or its halves are in one."""
    cells = checkpoint(tmp_path / "cells.ckpt", lstm_cell())
    prefix = checkpoint(tmp_path / "state.ckpt", {"c": numbers(2, 4), "m": numbers(2, 4, seed=1)})
    flip(prefix, 0)
    x = saved(tmp_path / "x.npy", numbers(2, 5, 3))
    words = {
        "run": ["run", cells, x, "--state", prefix, "-o", tmp_path / "out.npz"],
        "concat": ["concat", f"{prefix}:c", f"{prefix}:m", "-o", tmp_path / "flat.npy"],
    }[command]
    assert DAMAGED in error(shell(*words, code=3))
    shell(*words, "--no-checksums", code=0)


def test_verifying_needs_checksums(shell: Shell, damaged: str) -> None:
    assert "not both" in shell("inspect", damaged, "--verify", "--no-checksums", code=2).err


def test_one_damaged_value_raises_its_own_error(shell: Shell, tmp_path: Path) -> None:
    prefix = checkpoint(tmp_path / "model", {"a": numbers(4), "b": np.full(4, np.nan)})
    data = Path(f"{prefix}.data-00000-of-00001")
    data.write_bytes(b"\0" + data.read_bytes()[1:])
    assert error(shell("check", "-q", prefix, "--finite", code=3)) == lines(prefix)[0]


def test_several_errors_are_raised_as_one() -> None:
    first, second = (LstmstateError("gone", path="m", tensor=name) for name in "ab")
    raise_all([])
    with pytest.raises(LstmstateError) as one:
        raise_all([first])
    assert one.value is first
    assert each(first) == (first,)
    with pytest.raises(GatheredError) as both:
        raise_all([first, second])
    assert each(both.value) == (first, second)
    assert str(both.value) == "m: 2 values cannot be read: a, b"
