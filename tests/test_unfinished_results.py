"""Results that are complete or absent after any interruption."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import PROJECT
from results import (
    KINDS,
    META,
    fill,
    planned,
    read,
    results_of,
    same,
    writing,
)

from lstmstate import LstmstateError
from lstmstate.files.atomic import Outputs
from lstmstate.state.formats.array_writer import open_writer
from lstmstate.state.formats.registry import BY_KEY
from lstmstate.state.metadata import Metadata


class Stop(BaseException):
    """Not an Exception, like KeyboardInterrupt."""


@pytest.mark.parametrize("error", [Stop, LstmstateError, OSError, ValueError])
@pytest.mark.parametrize("kind", [*KINDS, "npy"])
@pytest.mark.parametrize("rows", [0, 1, 4])
def test_an_error_between_two_parts_leaves_no_file(
    tmp_path: Path, kind: str, error: type[BaseException], rows: int
) -> None:
    """It reaches the caller unchanged, since it is not a write error."""
    arrays = results_of(3, 7)
    if kind == "npy":
        arrays = {"outputs": arrays["outputs"]}
    with (
        pytest.raises(error, match="^of the cell$"),
        writing(tmp_path / "a", kind, arrays) as results,
    ):
        for name, (array, _) in arrays.items():
            if rows and name in ("outputs", "steps/c"):
                results.write(name, 0, array[:, :rows])
        raise error("of the cell")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("kind", KINDS)
def test_incomplete_results_do_not_appear(tmp_path: Path, kind: str) -> None:
    arrays = results_of(3, 7)
    with (
        pytest.raises(AssertionError, match=r"not all there: \['outputs', 'c', 'm'\]"),
        writing(tmp_path / "a", kind, arrays) as results,
    ):
        results.write("outputs", 0, arrays["outputs"][0][:, :6])
        fill(results, {"steps/c": arrays["steps/c"]}, 2)
    assert os.listdir(tmp_path) == []


def test_rows_out_of_order_or_of_another_shape_are_an_error(tmp_path: Path) -> None:
    arrays = results_of(3, 7)
    outputs = arrays["outputs"][0]
    for name, start, array in [
        ("outputs", 1, outputs[:, 1:]),
        ("outputs", 0, outputs[:2]),
        ("outputs", 0, np.concatenate([outputs, outputs], 1)),
        ("outputs", 0, outputs.astype("f8")),
        ("c", 0, arrays["c"][0]),
    ]:
        with pytest.raises(AssertionError), writing(tmp_path / "a", "npz", arrays) as results:
            results.write(name, start, array)
    assert os.listdir(tmp_path) == []


def test_files_that_cannot_contain_the_results_are_refused(tmp_path: Path) -> None:
    arrays = results_of(1, 3)
    with (
        pytest.raises(LstmstateError, match=r"a\.npy: an .npy file holds one array, and these"),
        writing(tmp_path / "a.npy", "npy", arrays),
    ):
        pass
    for kind in ("csv", "pkl", "ckpt"):
        with (
            pytest.raises(LstmstateError, match="has no place for the arrays of a run; write an"),
            writing(tmp_path / "a", kind, arrays),
        ):
            pass
    many = Metadata("tuple", META.cells * 2000, True)
    with (
        pytest.raises(LstmstateError, match=r"a\.h5: an HDF5 file has no room for the names"),
        Outputs() as outputs,
        open_writer(outputs, str(tmp_path / "a.h5"), BY_KEY["h5"], planned(arrays), many),
    ):
        pass
    assert os.listdir(tmp_path) == []


TO_STDOUT = """
import sys
import numpy as np
from lstmstate.files.atomic import Outputs
from lstmstate.state.formats.array_writer import PlannedArray, open_writer
from lstmstate.state.formats.registry import BY_KEY
array = np.arange(24.0).reshape(2, 6, 2)
plans = [PlannedArray("outputs", array.shape, array.dtype, 1)]
with Outputs() as outputs:
    with open_writer(outputs, "-", BY_KEY[sys.argv[1]], plans, None) as found:
        for start in range(0, 6, 2):
            found.write("outputs", start, array[:, start : start + 2])
"""


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_results_are_written_to_stdout(tmp_path: Path, kind: str) -> None:
    with (tmp_path / f"a.{kind}").open("wb") as stdout:
        subprocess.run(
            [sys.executable, "-c", TO_STDOUT, kind],
            stdout=stdout,
            env=os.environ | {"TMPDIR": str(tmp_path)},
            cwd=PROJECT,
            check=True,
        )
    expected = np.arange(24.0).reshape(2, 6, 2)
    same(read(tmp_path / f"a.{kind}"), {"outputs": (expected, 1)})
    assert os.listdir(tmp_path) == [f"a.{kind}"]
