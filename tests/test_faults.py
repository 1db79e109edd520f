"""Bugs in the program, reported as such and never as damaged files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Shell, archive, error, numbers, saved

from lstmstate.errors import CorruptError, is_fault
from lstmstate.files.reader import ByteSource
from lstmstate.operations.load import open_path
from lstmstate.state.formats.number_table import TextTable


def raising(kind: str, module: str = "lstmstate.state.some") -> Callable[..., Any]:
    """Return a function of a module that raises an exception."""
    namespace: dict[str, Any] = {"__name__": module}
    exec(f"def function(*_, **__):\n    raise {kind}('x')", namespace)
    function: Callable[..., Any] = namespace["function"]
    return function


def a_table(path: Path) -> object:
    """Read two columns of a table of numbers."""
    path.write_text("a,b\n1,2\n3,4\n")
    with ByteSource(str(path)) as source:
        return TextTable(source, header=None, most=100).read([0, 1])


def an_hdf5(path: Path) -> object:
    """Open an HDF5 file of one array."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        file["state"] = numbers(2, 8)
    return open_path(str(path))


# A function that reads a valid file, and one that it calls.
READERS: list[tuple[str, Callable[[Path], object], str]] = [
    (
        "a.npy",
        lambda path: open_path(str(saved(path, numbers(2, 8)))),
        "state.formats.numpy_reader.read_header",
    ),
    (
        "a.npz",
        lambda path: open_path(str(archive(path, state=numbers(2, 8)))),
        "state.formats.numpy_reader._array",
    ),
    ("a.h5", an_hdf5, "state.formats.hdf5_reader._walk"),
    ("a.csv", a_table, "state.formats.number_table.TextTable._whole"),
]


@pytest.mark.parametrize("kind", ["AttributeError", "NameError", "AssertionError", "TypeError"])
@pytest.mark.parametrize(("name", "read", "function"), READERS)
def test_a_bug_in_a_reader_is_not_hidden(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    read: Callable[[Path], object],
    function: str,
    kind: str,
) -> None:
    read(tmp_path / name)
    monkeypatch.setattr(f"lstmstate.{function}", raising(kind))
    with pytest.raises(Exception, match="x") as caught:
        read(tmp_path / name)
    assert type(caught.value).__name__ == kind


@pytest.mark.parametrize(
    ("kind", "module"),
    [("ValueError", "lstmstate.state.formats.numpy_reader"), ("TypeError", "numpy.lib.format")],
)
@pytest.mark.parametrize(("name", "read", "function"), READERS)
def test_errors_that_data_can_cause_are_damage_and_keep_their_cause(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    read: Callable[[Path], object],
    function: str,
    kind: str,
    module: str,
) -> None:
    monkeypatch.setattr(f"lstmstate.{function}", raising(kind, module))
    with pytest.raises(CorruptError) as caught:
        read(tmp_path / name)
    assert type(caught.value.__cause__).__name__ == kind


def test_the_command_line_names_the_bug_and_debug_prints_the_traceback(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path / "flat.npy", numbers(2, 8))
    monkeypatch.setattr("lstmstate.state.formats.numpy_reader.limits", object())
    done = shell("inspect", path)
    assert done.code == 3
    assert error(done).startswith("internal error (AttributeError: ")
    assert "MAX_NPY_HEADER_BYTES" in shell("inspect", path, "--debug").err


def test_debug_shows_the_cause_of_damage(shell: Shell, tmp_path: Path) -> None:
    path = saved(tmp_path / "flat.npy", numbers(2, 8))
    data = path.read_bytes()
    path.write_bytes(data.replace(b"'descr': '<f4'", b"'descr': '<z4'"))
    done = shell("inspect", path, "--debug")
    assert done.code == 3
    assert "numpy/lib" in done.err.replace("\\", "/")
    assert "this is not a NumPy array that can be read" in done.err


def test_only_errors_in_this_package_are_its_bugs() -> None:
    def found(function: Callable[..., Any]) -> BaseException:
        with pytest.raises(Exception) as caught:
            function()
        return caught.value

    assert is_fault(found(raising("NameError")))
    assert not is_fault(found(raising("ValueError")))
    assert not is_fault(found(raising("NameError", "h5py.h5d")))
    assert not is_fault(found(lambda: np.dtype([1])))
    assert not is_fault(NameError("never raised"))
