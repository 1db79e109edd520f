"""The harness of tests/robustness, in short: it reads its seeds, and finds what it has to find."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent / "robustness"))

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


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or shutil.which("cc") is None, reason="needs Linux and cc"
)
def test_some_faults_lose_no_output() -> None:
    command = [sys.executable, str(FAULTS), "--every", "90"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.splitlines()[-1].split()[0]) > 15, done.stdout
