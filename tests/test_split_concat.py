"""`lstmstate split` and `concat`: one flat state into two files, and back."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from commands import (
    FIRST,
    SECOND,
    SUNSPOTS,
    Shell,
    archive,
    error,
    notes,
    numbers,
    saved,
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


# ---- split


def test_a_flat_state_is_halved_with_a_note(shell: Shell, folder: Path) -> None:
    flat = saved(folder / "flat.npy", numbers(3, 8))
    done = shell("split", flat, "-o", "c.npy", "m.npy")
    assert (done.code, done.out) == (0, "c.npy\nm.npy\n")
    assert notes(done) == [
        "the widths of this flat state are unknown: it is cut in half, c 4 and m 4"
    ]
    np.testing.assert_array_equal(np.load("c.npy"), np.load(flat)[:, :4])
    np.testing.assert_array_equal(np.load("m.npy"), np.load(flat)[:, 4:])
    assert shell("split", "-q", flat, "-o", "c.npy", "m.npy", "--force").err == ""


@pytest.mark.parametrize("lead", [(), (1,), (3,), (5, 3), (0,), (2, 0)])
@pytest.mark.parametrize("dtype", ["float16", "float64", "complex64", "int32"])
def test_split_and_concat_round_trip_to_the_bit(
    shell: Shell, folder: Path, lead: tuple[int, ...], dtype: str
) -> None:
    flat = np.ascontiguousarray(numbers(*lead, 13, dtype="float64") * 100).astype(dtype)
    saved(folder / "flat.npy", flat)
    split = shell("split", "flat.npy", "--units", "8", "--proj", "5", "-o", "c.npy", "m.npy")
    assert (split.code, notes(split)) == (0, [])
    assert np.load("m.npy").shape == (*lead, 5)
    done = shell("concat", "c.npy", "m.npy", "-o", "back.npy")
    assert (done.code, done.out, done.err) == (0, "back.npy\n", "")
    assert np.load("back.npy").dtype == flat.dtype
    assert np.load("back.npy").tobytes() == flat.tobytes()
    # The widths are recorded, so the next conversion needs no flags.
    assert shell("split", "back.npy", "-o", "c2.npy", "m2.npy").code == 0
    for half in "cm":
        assert np.load(f"{half}2.npy").tobytes() == np.load(f"{half}.npy").tobytes()


def test_a_stack_has_two_files_for_each_cell(shell: Shell, folder: Path) -> None:
    flat = saved(folder / "flat.npy", numbers(2, 11))
    pairs = ["-o", "c0.npy", "m0.npy", "-o", "c1.npy", "m1.npy"]
    assert shell("split", flat, "--cells", "4:3,2", *pairs).code == 0
    found = [np.load(name) for name in ("c0.npy", "m0.npy", "c1.npy", "m1.npy")]
    assert [half.shape[1] for half in found] == [4, 3, 2, 2]
    np.testing.assert_array_equal(np.hstack(found), np.load(flat))
    halves = [name for name in pairs if name != "-o"]
    assert shell("concat", *halves, "-o", "back.npy").code == 0
    assert np.load("back.npy").tobytes() == np.load(flat).tobytes()
    assert shell("check", "back.npy", "--cells", "2", "--layout", "flat").code == 0


def test_the_state_of_a_checkpoint_can_be_split(shell: Shell, folder: Path) -> None:
    pairs = ["-o", "c0.npy", "m0.npy", "-o", "c1.npy", "m1.npy"]
    assert shell("split", SUNSPOTS, *pairs).code == 0
    assert [np.load(n).shape for n in ("c0.npy", "m1.npy")] == [(1, 24), (1, 12)]
    halves = ["c0.npy", "m0.npy", "c1.npy", "m1.npy"]
    assert shell("concat", *halves, "-o", "back.npy").code == 0
    assert shell("diff", "--exact", "back.npy", f"{SUNSPOTS}:saved_state").code == 0
    cells = shell.json("convert", "back.npy", "--to-tuple")["states"][0]["cells"]
    assert [cell["name"] for cell in cells] == [FIRST, SECOND]


@pytest.mark.parametrize("kind", ["npz", "h5"])
def test_any_file_of_a_state_can_be_split(shell: Shell, folder: Path, kind: str) -> None:
    pair = archive(folder / "pair.npz", c=numbers(2, 3), m=numbers(2, 4, seed=1))
    assert shell("convert", pair, "--to", "keras", "-o", f"state.{kind}").code == 0
    assert shell("split", f"state.{kind}", "-o", "c.npy", "m.npy").code == 0
    with np.load(pair) as expected:
        np.testing.assert_array_equal(np.load("c.npy"), expected["c"])
        np.testing.assert_array_equal(np.load("m.npy"), expected["m"])


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["flat.npy"], 2, "Missing option"),
        (["flat.npy", "-o", "c.npy"], 2, "requires 2 arguments"),
        (["-o", "c.npy", "m.npy"], 2, "Missing argument"),
        (["flat.npy", "-o", "c.npy", "m.npy", "-o", "d.npy", "n.npy"], 3, "4 files"),
        (["flat.npy", "--cells", "2,2", "-o", "c.npy", "m.npy"], 3, "pass two files for each cell"),
        (["flat.npy", "-o", "c.npz", "m.npy"], 3, "split writes .npy files"),
        (["flat.npy", "-o", "c.npy", "c.npy"], 3, "two outputs have the same name"),
        (["flat.npy", "-o", "c.npy", "./c.npy"], 3, "two outputs have the same name"),
        (["flat.npy", "-o", "c.npy", "flat.npy", "--force"], 3, "this is the input"),
        (["odd.npy", "-o", "c.npy", "m.npy"], 3, "--units and --proj, --cells, or --checkpoint"),
        (["flat.npy", "--units", "5", "-o", "c.npy", "m.npy"], 3, "c 5 + m 5 are 10"),
        (["gone.npy", "-o", "c.npy", "m.npy"], 3, "gone.npy"),
    ],
)
def test_a_failed_split_leaves_no_file(
    shell: Shell, folder: Path, arguments: list[str], code: int, words: str
) -> None:
    saved(folder / "flat.npy", numbers(2, 8))
    saved(folder / "odd.npy", numbers(2, 7))
    done = shell("split", "-q", *arguments)
    assert (done.code, done.out) == (code, "")
    assert words in done.err
    assert sorted(os.listdir(folder)) == ["flat.npy", "odd.npy"]


def test_one_cell_is_reported_in_the_singular(shell: Shell, folder: Path) -> None:
    saved(folder / "flat.npy", numbers(2, 8))
    pairs = ["-o", "c.npy", "m.npy", "-o", "d.npy", "n.npy"]
    assert "the state has 1 cell and there are 4 files" in error(
        shell("split", "-q", "flat.npy", *pairs)
    )


def test_strict_refuses_halves_that_look_swapped(shell: Shell, folder: Path) -> None:
    c, m = numbers(2, 4) * 5, numbers(2, 4, seed=1)
    flat = saved(folder / "flat.npy", np.hstack([m, c]))
    done = shell("split", flat, "-o", "c.npy", "m.npy", "--strict", "-q")
    assert (done.code, os.listdir(folder)) == (3, ["flat.npy"])
    assert "c and m look swapped" in error(done)
    done = shell("split", flat, "-o", "c.npy", "m.npy")
    assert done.code == 0
    assert any(note.startswith("c and m look swapped") for note in notes(done))


def test_json_names_both_files(shell: Shell, folder: Path) -> None:
    flat = saved(folder / "flat.npy", numbers(2, 8))
    found = shell.json("split", flat, "-o", "c.npy", "m.npy")
    assert (found["source"], found["output"]) == (str(flat), ["c.npy", "m.npy"])
    (state,) = found["states"]
    assert (state["from"], state["to"]) == ("flat", "tuple")
    assert [array["shape"] for array in state["arrays"]] == [[2, 4], [2, 4]]


# ---- concat


def test_labelled_halves_are_refused_in_the_wrong_order(shell: Shell, folder: Path) -> None:
    saved(folder / "flat.npy", numbers(2, 8))
    assert shell("split", "flat.npy", "-o", "c.npy", "m.npy").code == 0
    done = shell("concat", "m.npy", "c.npy", "-o", "back.npy", "--force")
    assert (done.code, os.path.exists("back.npy")) == (3, False)
    assert error(done) == ("m.npy: expected c, got m; the order is c, m, c, m, …")
    done = shell("concat", "c.npy", "c.npy", "-o", "back.npy")
    assert done.code == 3
    assert "expected m, got c" in error(done)


def test_halves_of_different_cells_are_refused(shell: Shell, folder: Path) -> None:
    """c of the first cell next to the narrower m of the second does not form a state."""
    saved(folder / "flat.npy", numbers(2, 12))
    pairs = ["-o", "c0.npy", "m0.npy", "-o", "c1.npy", "m1.npy"]
    assert shell("split", "flat.npy", "--cells", "4,2", *pairs).code == 0
    done = shell("concat", "c0.npy", "m1.npy", "-o", "back.npy")
    assert (done.code, os.path.exists("back.npy")) == (3, False)


def test_unlabelled_files_are_used_in_order(shell: Shell, folder: Path) -> None:
    halves = {"a": numbers(2, 5), "b": numbers(2, 3, seed=1)}
    for name, values in halves.items():
        saved(folder / f"{name}.npy", values)
    done = shell("concat", "a.npy", "b.npy", "-o", "flat.npy")
    assert (done.code, done.err) == (0, "")
    np.testing.assert_array_equal(np.load("flat.npy"), np.hstack([halves["a"], halves["b"]]))
    found = shell.json("convert", "flat.npy", "--to-tuple")["states"][0]
    assert found["cells"] == [{"name": "", "c": 5, "m": 3}]


def test_halves_inside_files(shell: Shell, folder: Path) -> None:
    c, m = numbers(2, 5), numbers(2, 3, seed=1)
    with h5py.File("state.h5", "w") as file:
        file["cell_0/c"], file["cell_0/m"] = c, m
    archive(folder / "state.npz", cell=c, hidden=m, other=c)
    for source, first, second in (
        ("state.h5", "/cell_0/c", "/cell_0/m"),
        ("state.npz", "cell", "hidden"),
    ):
        done = shell(
            "concat", f"{source}:{first}", f"{source}:{second}", "-o", "flat.npy", "--force"
        )
        assert done.code == 0
        np.testing.assert_array_equal(np.load("flat.npy"), np.hstack([c, m]))
    done = shell("concat", "state.npz", "state.npz", "-o", "x.npy")
    assert done.code == 3
    assert (
        "state.npz: expected one array, got 3; pick one, FILE:NAME: cell, hidden, other"
        in error(done)
    )


def test_outputs_of_other_file_types(shell: Shell, folder: Path) -> None:
    c, m = saved(folder / "c.npy", np.zeros((50, 40))), saved(folder / "m.npy", np.zeros((50, 40)))
    assert shell("concat", c, m, "-o", "flat.h5").code == 0
    assert shell("concat", c, m, "-o", "flat.npz").code == 0
    assert shell("concat", c, m, "-o", "small.npz", "--compress").code == 0
    assert shell("diff", "--exact", "flat.h5", "small.npz").code == 0
    assert os.path.getsize("small.npz") < os.path.getsize("flat.npz") / 10


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "Missing argument"),
        (["c.npy", "m.npy"], 2, "Missing option '-o'"),
        (["c.npy", "-o", "x.npy"], 2, "expected pairs of files, C M"),
        (["c.npy", "m.npy", "c.npy", "-o", "x.npy"], 2, "got 3 files"),
        (["c.npy", "other.npy", "-o", "x.npy"], 3, "[2, 4] and m [3, 4]"),
        (["c.npy", "wide.npy", "-o", "x.npy"], 3, "float64"),
        (["c.npy", "m.npy", "--units", "3", "-o", "x.npy"], 3, "--units"),
        (["c.npy", "m.npy", "-o", "m.npy", "--force"], 3, "this is the input"),
        (["c.npy", "m.npy", "-o", "c.npy", "--force"], 3, "this is the input"),
        (["c.npy", "m.npy", "-o", "x"], 3, "expected a name with the ending of a kind of file"),
        (["c.npy", "gone.npy", "-o", "x.npy"], 3, "gone.npy"),
    ],
)
def test_a_failed_concat_leaves_no_file(
    shell: Shell, folder: Path, arguments: list[str], code: int, words: str
) -> None:
    files = {"c": numbers(2, 4), "m": numbers(2, 4), "other": numbers(3, 4)}
    for name, values in (files | {"wide": numbers(2, 4, dtype="float64")}).items():
        saved(folder / f"{name}.npy", values)
    before = {name: Path(name).read_bytes() for name in os.listdir(folder)}
    done = shell("concat", "-q", *arguments)
    assert (done.code, done.out) == (code, "")
    assert words in done.err
    assert {name: Path(name).read_bytes() for name in os.listdir(folder)} == before
