"""The harness of tests/robustness, in short: it reads its seeds, and finds what it has to find."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent / "robustness"))

import differential
import faults
import mutate
import targets
from mutations import mutate_bytes, mutate_message, parse_fields

from lstmstate.errors import LstmstateError

FAULTS = Path(__file__).parent / "robustness" / "faults.py"
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.mark.parametrize("name", targets.TARGETS)
def test_a_reader_takes_its_seeds_and_no_mutant_breaks_it(tmp_path: Path, name: str) -> None:
    target, chance = targets.TARGETS[name], random.Random(name)
    for number, seed in enumerate(target.seeds()):
        for kind in ("seed", *["mutant"] * 3):
            folder = tmp_path / f"{number}"
            folder.mkdir()
            if kind == "seed":
                target.read(seed, folder)
            else:
                with suppress(LstmstateError):
                    target.read(mutate_bytes(seed, chance), folder)
            shutil.rmtree(folder)


@pytest.mark.parametrize("kind", mutate.KINDS)
def test_mutants_break_no_command(kind: str) -> None:
    for number in range(3):
        assert mutate.try_mutant(kind, number) == []


# What reads its files in this process: no library that may abort.
IN_PROCESS = [pair for pair in differential.PAIRS.values() if pair.kind in ("npz", "pkl", "csv")]


@pytest.mark.parametrize("pair", IN_PROCESS, ids=[pair.kind for pair in IN_PROCESS])
def test_a_mutant_has_the_values_that_its_library_reads(
    tmp_path: Path, pair: differential.Pair
) -> None:
    counts = Counter[str]()
    for number in range(20):
        path = mutate.KINDS[pair.kind](tmp_path, random.Random(f"{pair.kind} {number}"))
        ours = differential.read(pair.ours, path, LstmstateError)
        theirs = differential.read(pair.theirs, path, Exception)
        assert differential.compare(ours, theirs, counts) == []
    assert counts["parts equal"] > 0


def test_other_values_are_found() -> None:
    one, counts = np.ones(3, "f4"), Counter[str]()
    for other in (one * 2, one.astype("f8"), one[:2]):
        assert differential.compare({"a": one}, {"a": other, "b": one}, counts) == ["a"]
    assert differential.compare({"a": one}, {"a": one.astype(">f4")}, counts) == []
    assert differential.compare({"a": ("Add", ["x"])}, {"a": ("Add", ["y"])}, counts) == ["a"]


def test_a_command_that_breaks_its_promises_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    np.save(tmp_path / "s.npy", np.zeros((2, 8), "f4"))
    words = ["inspect", str(tmp_path / "s.npy")]
    assert mutate.judge(words, tmp_path) is None
    monkeypatch.setattr("lstmstate.cli._run_command", fail)
    assert "internal error" in (mutate.judge(words, tmp_path) or "")


def test_a_message_is_parsed_and_mutated_in_one_field() -> None:
    data = targets.OBJECTS
    fields = parse_fields(data)
    assert fields is not None
    assert [number for number, _, _ in fields] == [1, 1]
    assert parse_fields(b"\xff") is None
    mutants = {mutate_message(data, random.Random(seed)) for seed in range(50)}
    assert len(mutants) >= 40


def _judged(
    tmp_path: Path, files: dict[str, bytes], code: int, fault: faults.Fault, *options: str
) -> list[str]:
    case = faults.Case.__new__(faults.Case)
    case.words, case.out = ["run", *options], tmp_path / "out"
    case.before = {"data": b"old data", "index": b"old index"}
    case.after = {"data": b"new data", "index": b"new index", "stdout": b"printed"}
    case.out.mkdir()
    for name, content in {"stdout": b"printed", **files}.items():
        (case.out / name).write_bytes(content)
    return case.judge(faults.Result(code, 9, "write"), fault)


OLD_DATA, OLD_INDEX = {"data": b"old data"}, {"index": b"old index"}
NEW = {"data": b"new data", "index": b"new index"}


@pytest.mark.parametrize(
    ("found", "code", "files"),
    [
        ([], 0, NEW),
        ([], 3, OLD_DATA | OLD_INDEX),
        (["torn"], 3, OLD_DATA | OLD_INDEX | {"stdout": b"other"}),
        (["torn", "lost", "mixed"], 3, OLD_DATA | {"index": b"new"}),
        (["lost"], 3, OLD_DATA),
        (["mixed", "lost"], 3, NEW | OLD_DATA),
        (["left"], 3, OLD_DATA | OLD_INDEX | {".a.tmp": b""}),
        (["wrong code"], 1, NEW),
        (["wrong code"], 0, OLD_DATA | OLD_INDEX),
        (["wrong code"], 0, NEW | {"stdout": b"print"}),
    ],
)
def test_an_output_that_is_not_whole_after_a_fault_is_found(
    tmp_path: Path, found: list[str], code: int, files: dict[str, bytes]
) -> None:
    assert sorted(_judged(tmp_path, files, code, faults.FAULTS[0])) == sorted(found)


@pytest.mark.parametrize(
    ("found", "files"),
    [
        ([], NEW),
        ([], OLD_DATA | {".a.tmp": b"old index"}),
        ([], {"data": b"new data", ".a.tmp": b"new index"}),
        (["lost"], OLD_DATA),
        (["mixed"], NEW | OLD_DATA | {".a.tmp": b"new data"}),
        (["torn", "mixed"], OLD_DATA | {"index": b"", ".a.tmp": b"old index"}),
    ],
)
def test_a_kill_may_leave_whole_files_of_one_age_only(
    tmp_path: Path, found: list[str], files: dict[str, bytes]
) -> None:
    assert _judged(tmp_path, files, faults.KILLED, faults.AT_A_MOMENT) == found


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or shutil.which("cc") is None, reason="needs Linux and cc"
)
def test_some_faults_lose_no_output() -> None:
    command = [sys.executable, str(FAULTS), "--every", "800", "--moments", "1"]
    command += ["--in-turn"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.splitlines()[-1].split()[0]) > 15, done.stdout
