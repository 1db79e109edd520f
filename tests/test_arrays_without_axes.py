"""Single numbers next to a state, such as the step of training."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from commands import Shell, error, numbers, saved


def with_step(path: Path, step: int) -> Path:
    """Write a state, and the number of a step."""
    arrays = {"state": numbers(2, 8), "step": np.int64(step)}
    if path.suffix == ".npz":
        np.savez_compressed(path, **arrays)
        return path
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
        file.create_dataset("never_written", (), "f4")
    return path


@pytest.mark.parametrize("ending", ["npz", "h5"])
def test_single_numbers_are_compared(shell: Shell, tmp_path: Path, ending: str) -> None:
    one = with_step(tmp_path / f"a.{ending}", 7)
    for step, code in ((7, 0), (8, 1)):
        other = with_step(tmp_path / f"b.{ending}", step)
        tensors = shell.json("diff", one, other, code=code)["tensors"]
        (found,) = [tensor for tensor in tensors if tensor["name"] == "step"]
        assert (found["verdict"], found["shape"]) == ("values" if code else "same", [])
        assert found["max_abs"] == step - 7
        assert found["at"] in ([], None)


@pytest.mark.parametrize("value", [np.float32(1), np.asfortranarray(np.float32(1)), np.array("a")])
def test_a_file_of_a_single_value_is_compared(shell: Shell, tmp_path: Path, value: object) -> None:
    path = saved(tmp_path / "a.npy", np.asarray(value))
    assert shell("diff", path, path).code == 0


def test_a_single_number_is_no_flat_state(shell: Shell, tmp_path: Path) -> None:
    done = shell("convert", saved(tmp_path / "a.npy", np.asarray(np.float32(1))), "--to-tuple")
    assert done.code == 3
    assert "expected a flat state [..., c + m], got a single number" in error(done)
