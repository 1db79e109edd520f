"""Sample checkpoints: the script reproduces their bytes, and they match their descriptions."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

import lstmstate

SAMPLES = Path(__file__).resolve().parent.parent / "sample_checkpoints"


def content(folder: Path) -> dict[str, bytes]:
    """Return the files of the samples in a folder, by relative path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.parent != folder and "__pycache__" not in path.parts
    }


def test_the_script_reproduces_the_samples(tmp_path: Path) -> None:
    made_by = lstmstate.open_checkpoint(SAMPLES / "sunspots").tensorflow_version
    if version("tensorflow") != made_by:
        pytest.skip(f"another TensorFlow than {made_by}, which made them, rounds in its own way")
    script = str(SAMPLES / "make.py")
    subprocess.run([sys.executable, script, str(tmp_path)], check=True, capture_output=True)
    made, kept = content(tmp_path), content(SAMPLES)
    assert made.keys() == kept.keys()
    assert [name for name in kept if made[name] != kept[name]] == []


def test_they_are_smaller_than_three_megabytes() -> None:
    assert sum(map(len, content(SAMPLES).values())) < 3_000_000


@pytest.mark.parametrize("folder", [path.name for path in SAMPLES.iterdir() if path.is_dir()])
def test_each_has_a_cell_and_a_row_in_the_readme(folder: str) -> None:
    assert lstmstate.open_checkpoint(SAMPLES / folder).cells
    assert f"`{folder}/`" in (SAMPLES / "README.md").read_text(encoding="utf-8")


def test_the_flat_and_the_tuple_state_are_equal() -> None:
    flat = lstmstate.open_checkpoint(SAMPLES / "peephole_flat").variables
    pair = lstmstate.open_checkpoint(SAMPLES / "peephole_tuple").variables
    joined = np.concatenate([pair["c_state"].read(), pair["m_state"].read()], axis=1)
    assert flat["saved_state"].read().tobytes() == joined.tobytes()
