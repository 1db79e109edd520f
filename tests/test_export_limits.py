"""Exports that would be far larger than their checkpoint, and names that no file can have."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from builders import BundleBuilder
from commands import Shell, checkpoint, error, in_folder, numbers
from exported import export
from networks import alone, cell
from work import MIB, little_memory

import lstmstate
from lstmstate import limits
from lstmstate.errors import UnsupportedError
from lstmstate.exports import onnx_model
from lstmstate.state.formats import array_writer
from lstmstate.state.formats.array_writer import parts_of


def test_a_diagonal_is_not_made_a_huge_matrix(tmp_path: Path, rng: Any) -> None:
    with pytest.raises(UnsupportedError, match="would be matrices of 277,155,904 bytes"):
        export(alone(cell(rng, 1, 4162, indy=True)), "gates", tmp_path / "g.npz")
    assert in_folder(tmp_path) == {}


@pytest.mark.parametrize("ending", ["npz", "h5"])
def test_names_with_a_zero_are_refused(shell: Shell, tmp_path: Path, ending: str) -> None:
    builder = BundleBuilder()
    builder.add("a\0x", numbers(2))
    path, target = builder.write(tmp_path / "m"), tmp_path / f"all.{ending}"
    done = shell("export", path, "--to", "arrays", "-o", target, code=3)
    assert "no file of arrays can have this name" in error(done)
    assert not target.exists()


def test_the_name_of_the_metadata_is_refused(shell: Shell, tmp_path: Path) -> None:
    path = checkpoint(str(tmp_path / "m.ckpt"), {"__metadata__": numbers(2)})
    target = tmp_path / "all.safetensors"
    done = shell("export", path, "--to", "arrays", "-o", target, code=3)
    assert "no tensor of this name" in error(done)


def test_names_are_no_markup_in_a_readme(tmp_path: Path, rng: Any) -> None:
    name = "<b>`rnn`</b>\n# heading"
    made = export(alone(cell(rng, 3, 4, name=name)), "gates", tmp_path / "g.npz")
    heading = made.describe().splitlines()[0]
    assert heading.startswith("# `<b>'rnn'</b>") and heading.endswith("` for arrays of each gate")


@pytest.mark.parametrize(
    ("ending", "rate", "most"),
    [
        ("npz", limits.MEMBERS, 6),
        ("h5", limits.OBJECTS_OF_HDF5, 5),
        ("pt", limits.MEMBERS, 6),
        ("pt", limits.TORCH_PICKLE, 400),
        ("safetensors", limits.MEMBERS, 2),
        ("safetensors", limits.SAFETENSORS_HEADER, 160),
    ],
)
def test_no_file_is_written_that_would_not_be_read(
    shell: Shell,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ending: str,
    rate: limits.Rate,
    most: int,
) -> None:
    path = checkpoint(str(tmp_path / "m.ckpt"), {f"{k}/w": numbers(2) for k in range(3)})
    target = tmp_path / f"all.{ending}"
    monkeypatch.setattr(rate, "most", most)
    done = shell("export", path, "--to", "arrays", "-o", target, code=3)
    assert f"expected at most {most} {rate.unit} in such a file, got" in error(done)
    assert not target.exists()
    shell("export", path, "--to", "arrays", "--variable", "[01]/w", "-o", target)
    shell("inspect", target)


@pytest.mark.parametrize(
    ("names", "ending", "problem"),
    [
        (["a", "a.npy"], "npz", "a: NumPy cannot distinguish this array and a.npy in an .npz"),
        (["a", "a/b"], "h5", "a/b: an HDF5 file has no place below the array a"),
        (["a/b/c/d", "a/b"], "h5", "a/b/c/d: an HDF5 file has no place below the array a/b"),
        (["a/b", "a//b"], "h5", "a/b: an HDF5 file has one place for this array and a//b"),
        (["./"], "h5", "./: an HDF5 file has no array of this name"),
        (["a/./b"], "h5", "a/./b: an HDF5 file has no array of this name"),
    ],
)
def test_names_that_are_one_in_a_file_are_refused(
    shell: Shell, tmp_path: Path, names: list[str], ending: str, problem: str
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    path = checkpoint(str(source / "m.ckpt"), {name: numbers(2) for name in names})
    done = shell("export", path, "--to", "arrays", "-o", tmp_path / f"all.{ending}", code=3)
    assert problem.partition(": ")[2] in error(done)
    assert "; write an ." in error(done)
    assert list(tmp_path.iterdir()) == [source]
    for other in ("safetensors", "pt"):
        shell("export", path, "--to", "arrays", "-o", tmp_path / f"all.{other}", code=0)


def test_a_name_with_brackets_is_that_name(shell: Shell, tmp_path: Path) -> None:
    values = {"w[ab]": numbers(2), "wa": numbers(3), "wb": numbers(4)}
    path, target = checkpoint(str(tmp_path / "m.ckpt"), values), tmp_path / "all.npz"
    for pattern, found in (
        ("w[ab]", ["w[ab]"]),
        ("?[ab]", ["wa", "wb"]),
        ("w[[]*", ["w[ab]"]),
        ("w*", sorted(values)),
    ):
        words = ["--to", "arrays", "--variable", pattern, "-o", target, "--force"]
        assert shell.json("export", path, *words)["variables"] == found


def test_a_fed_array_is_in_a_readme_by_its_shape(tmp_path: Path, rng: Any) -> None:
    made = export(alone(cell(rng, 3, 4)), "gates", tmp_path / "g.npz")
    text = made._replace(feeds={"done": numbers(2, 3)}).describe()
    assert "- The graph was read with `done, an array [2, 3]`." in text


def test_a_check_allows_for_rounding_that_cells_amplify(tmp_path: Path, rng: Any) -> None:
    calm = cell(rng, 8, 8)
    wild = calm._replace(recurrent=60 * calm.recurrent, kernel=60 * calm.kernel)
    assert export(alone(calm), "gates", tmp_path / "calm.npz").allows(2e-6)
    assert not export(alone(calm), "gates", tmp_path / "again.npz").allows(5e-6)
    made = export(alone(wild), "gates", tmp_path / "wild.npz")
    seed = next(seed for seed in range(100) if made.check(seed) > 2e-6)
    assert made.allows(made.check(seed), seed)
    assert not made.allows(1e-3) and not made.allows(float("inf"))


def test_a_check_of_float16_allows_for_no_more_than_its_digits(tmp_path: Path, rng: Any) -> None:
    calm = cell(rng, 8, 8)
    wild = calm._replace(recurrent=60 * calm.recurrent, kernel=60 * calm.kernel)
    half = wild._replace(
        **{name: getattr(wild, name).astype("f2") for name in ("kernel", "recurrent", "bias")}
    )
    made = export(alone(half), "gates", tmp_path / "half.npz")
    assert made.network.dtype == "f2"
    assert made.allows(3e-3) and not made.allows(5e-3)


@pytest.mark.parametrize("ending", ["npz", "h5", "pt", "safetensors"])
def test_the_longest_names_are_written_and_read(shell: Shell, tmp_path: Path, ending: str) -> None:
    name = "n" * (limits.MAX_NAME_BYTES - 1)
    path = checkpoint(str(tmp_path / "m.ckpt"), {name: numbers(2, 3), name[:-5]: numbers(2, 3)})
    target = tmp_path / f"all.{ending}"
    done = shell("export", path, "--to", "arrays", "-o", target, code=3 if ending == "npz" else 0)
    if ending == "npz":
        assert "its name is too long for an .npz; write an .h5 or .safetensors" in error(done)
        shell("export", path, "--to", "arrays", "--variable", name[:-5], "-o", target, code=0)
    assert name[:-5] in shell("inspect", target).out


@pytest.mark.parametrize("shape", [(1, 1), (65, 130), (200, 3), (3, 200), (0, 5), (64, 64)])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_arrays_are_written_in_order(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], dtype: str
) -> None:
    monkeypatch.setattr(array_writer, "_COPIED", 3000)
    array = numbers(*shape).astype(dtype)
    for one in (array, array.T, array[::2], array.T[:, ::-1], array[::-1].T):
        assert b"".join(part.tobytes() for _, part in parts_of(one)) == one.tobytes()


@pytest.mark.parametrize(
    ("to", "name", "most"),
    [
        ("tensorflow", "w.ckpt", 2.2),
        ("torch", "w.safetensors", 2.2),
        ("torch", "w.pt", 2.2),
        ("gates", "w.npz", 1.2),
        ("gates", "w.h5", 1.2),
        ("numpy", "w.py", 1.2),
        ("onnx", "w.onnx", 1.2),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_export_makes_one_copy_of_the_weights_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str, name: str, most: float
) -> None:
    """Together with those that are read; they are written in parts."""
    if to == "onnx":
        pytest.importorskip("onnx")
        monkeypatch.setattr(onnx_model, "_IN_MODEL_BYTES", 0)
    units = 1024
    weights = {
        "rnn/lstm_cell/kernel": numbers(2 * units, 4 * units),
        "rnn/lstm_cell/bias": numbers(4 * units),
    }
    path = checkpoint(tmp_path / "m.ckpt", weights)
    export_to = partial(lstmstate.export, path, to=to)
    export_to(tmp_path / f"first.{name}")  # what is imported is not counted
    nbytes = sum(one.nbytes for one in weights.values())
    with little_memory(most * nbytes / MIB):
        export_to(tmp_path / name)
