"""`lstmstate convert`, `split` and `concat` on the command line."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from commands import (
    FIRST,
    PROJECT,
    SAMPLES,
    SECOND,
    SUNSPOTS,
    Shell,
    archive,
    error,
    notes,
    numbers,
    saved,
)

from lstmstate.cli import execute as run

HALVED = "the widths of this flat state are unknown: it is cut in half, c 4 and m 4"


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """A flat state without metadata, [3, 8]."""
    return saved(tmp_path / "last.npy", numbers(3, 8))


# ---- paths of outputs


@pytest.mark.parametrize(
    ("to", "name"),
    [
        ("tuple", "last.tuple.npz"),
        ("flat", "last.flat.npy"),
        ("stacked", "last.stacked.npy"),
        ("layered", "last.layered.npy"),
        ("keras", "last.keras.npz"),
        ("torch", "last.torch.npz"),
    ],
)
def test_an_output_without_a_name_is_next_to_the_source_and_printed(
    shell: Shell, flat: Path, to: str, name: str
) -> None:
    done = shell("convert", "-q", flat, "--to", to)
    target = flat.with_name(name)
    assert (done.code, done.out, done.err) == (0, f"{target}\n", "")
    assert sorted(os.listdir(flat.parent)) == sorted([flat.name, name])
    assert shell("diff", "-q", "--exact", flat, target).code == 0


@pytest.mark.parametrize("kind", ["npz", "h5", "csv"])
def test_the_old_layout_and_suffix_are_dropped_from_the_name(
    shell: Shell, flat: Path, kind: str
) -> None:
    source = flat.with_name(f"a.b.tuple.{kind}")
    assert shell("convert", flat, "--to-tuple", "-o", source).code == 0
    done = shell("convert", source, "--to-flat")
    assert done == (0, f"{flat.with_name('a.b.flat.npy')}\n", "")
    np.testing.assert_array_equal(np.load(done.out[:-1]), np.load(flat))


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("run", "run/model.ckpt-360.flat.npy"),
        ("run/", "run/model.ckpt-360.flat.npy"),
        ("run/model.ckpt-360", "run/model.ckpt-360.flat.npy"),
        ("run/model.ckpt-360.index", "run/model.ckpt-360.flat.npy"),
    ],
)
def test_the_state_of_a_checkpoint_is_written_next_to_it(
    shell: Shell, tmp_path: Path, given: str, name: str
) -> None:
    shutil.copytree(SUNSPOTS, tmp_path / "run")
    done = shell("convert", f"{tmp_path}/{given}", "--to-flat", code=0)
    assert done.out == f"{tmp_path / name}\n"
    assert np.load(tmp_path / name).shape == (1, 72)


def test_the_state_of_the_current_folder_gets_a_visible_name(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(SUNSPOTS, tmp_path / "run")
    monkeypatch.chdir(tmp_path / "run")
    assert not os.path.basename(shell("convert", ".", "--to-flat", code=0).out).startswith(".")


@pytest.mark.parametrize(("to", "kind"), [("tuple", "h5"), ("flat", "npz"), ("flat", "csv")])
def test_a_generated_name_has_the_requested_suffix(
    shell: Shell, flat: Path, to: str, kind: str
) -> None:
    done = shell("convert", "-q", flat, "--to", to, "--format", kind)
    assert done == (0, f"{flat.with_name(f'last.{to}.{kind}')}\n", "")


def test_the_output_of_an_array_in_a_file_is_next_to_the_file(shell: Shell, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "deep.h5", "w") as file:
        file["a/b/c"], file["a/b/m"] = numbers(2, 3), numbers(2, 3, seed=1)
    done = shell("convert", f"{tmp_path}/deep.h5:/a/b", "--to-flat", code=0)
    assert os.path.dirname(done.out) == str(tmp_path)


def test_several_sources_are_written_to_a_folder(shell: Shell, tmp_path: Path) -> None:
    sources = [saved(tmp_path / f"{k}.npy", numbers(2, 8, seed=k)) for k in range(3)]
    done = shell("convert", "-q", *sources, "--to-tuple", "--out-dir", tmp_path / "new" / "out")
    targets = [tmp_path / "new" / "out" / f"{k}.tuple.npz" for k in range(3)]
    assert (done.code, done.out.splitlines()) == (0, [str(target) for target in targets])
    for source, target in zip(sources, targets, strict=True):
        assert shell("diff", "--exact", source, target).code == 0


def test_one_source_that_fails_does_not_stop_the_others(shell: Shell, tmp_path: Path) -> None:
    good = [saved(tmp_path / f"{k}.npy", numbers(2, 8)) for k in "ac"]
    bad = saved(tmp_path / "b.npy", numbers(2, 7))
    done = shell(
        "convert", good[0], bad, good[1], "--to-tuple", "--out-dir", tmp_path / "out", code=4
    )
    assert [os.path.basename(line) for line in done.out.splitlines()] == [
        "a.tuple.npz",
        "c.tuple.npz",
    ]
    assert error(done).startswith(f"{bad}: a flat state 7 wide has no two equal halves")
    assert sorted(os.listdir(tmp_path / "out")) == ["a.tuple.npz", "c.tuple.npz"]


def test_two_sources_never_share_one_output(shell: Shell, tmp_path: Path, flat: Path) -> None:
    other = flat.with_suffix(".h5")
    saved(tmp_path / "other.npy", numbers(3, 8, seed=9))
    assert shell("convert", tmp_path / "other.npy", "--to-flat", "-o", other).code == 0
    done = shell("convert", "-q", flat, other, "--to-tuple", "--force")
    assert done.code in (2, 4)
    assert len(set(done.out.splitlines())) == len(done.out.splitlines())


def test_a_file_where_the_folder_should_be_is_named(shell: Shell, flat: Path) -> None:
    assert str(flat) in error(shell("convert", flat, "--to-tuple", "--out-dir", flat, code=3))


# ---- file types


@pytest.mark.parametrize("format_", [[], ["--format", "npz"]])
def test_compressed_archives_are_smaller_and_equal(
    shell: Shell, tmp_path: Path, format_: list[str]
) -> None:
    source = saved(tmp_path / "zeros.npy", np.zeros((100, 64), "f4"))
    plain, small = tmp_path / "plain.npz", tmp_path / "small.npz"
    assert shell("convert", source, "--to-tuple", "-o", plain, *format_).code == 0
    assert shell("convert", source, "--to-tuple", "-o", small, "--compress", *format_).code == 0
    assert small.stat().st_size < plain.stat().st_size / 10
    methods = {info.compress_type for info in zipfile.ZipFile(small).infolist()}
    assert methods == {zipfile.ZIP_DEFLATED}
    assert shell("diff", "--exact", plain, small).code == 0


def test_an_explicit_format_overrides_the_suffix(shell: Shell, flat: Path) -> None:
    target = flat.with_name("state.of-today")
    assert shell("convert", flat, "--to-tuple", "-o", target).code == 3
    done = shell("convert", "-q", flat, "--to-tuple", "-o", target, "--format", "h5")
    assert done == (0, f"{target}\n", "")
    with h5py.File(target) as file:
        assert sorted(file) == ["c", "m"]


# ---- values and notes on them


def test_bits_that_another_precision_loses_are_counted(shell: Shell, tmp_path: Path) -> None:
    values = np.array([[1 / 3, 0.5, 1e-9, -0.0], [0.25, 1e6, np.nan, np.inf]], "f8")
    source = saved(tmp_path / "wide.npy", values)
    done = shell("convert", source, "--to-flat", "--dtype", "float16", "-o", tmp_path / "a.npy")
    # A third is rounded, a billionth becomes zero and a million infinite.
    assert "3 values are not the same in float16" in notes(done)
    found = np.load(tmp_path / "a.npy")
    assert found.dtype == np.float16
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(found, values.astype("f2"))
    done = shell("convert", tmp_path / "a.npy", "--to-flat", "--dtype", "float64")
    assert not any("not the same" in note for note in notes(done))
    assert np.load(done.out[:-1]).dtype == np.float64


def test_a_complex_state_is_not_cut_to_its_real_part(shell: Shell, tmp_path: Path) -> None:
    source = saved(tmp_path / "c.npy", numbers(2, 8) + np.complex64(1j))
    done = shell("convert", source, "--to-tuple", "--dtype", "float32", code=3)
    assert "complex64" in error(done)


def test_a_dtype_unknown_to_numpy_is_not_cast(shell: Shell, tmp_path: Path) -> None:
    source = saved(tmp_path / "bfloat16.npy", np.zeros((2, 8), "V2"))
    assert "V2" in error(shell("convert", "-q", source, "--to-tuple", "--dtype", "float32", code=3))
    assert os.listdir(tmp_path) == ["bfloat16.npy"]


def test_swapped_halves_are_reported_and_refused_if_strict(shell: Shell, flat: Path) -> None:
    values = np.load(flat)
    values[1, 5] = 2.5
    np.save(flat, values)
    start = "c and m look swapped: m reaches from "
    done = shell("convert", flat, "--to-tuple", code=0)
    assert [note for note in notes(done) if note.startswith(start)]
    done = shell(
        "convert", "-q", flat, "--to-tuple", "--strict", "-o", flat.with_name("x.npz"), code=3
    )
    assert done.out == ""
    assert error(done).startswith(f"{flat}: {start}")
    assert not flat.with_name("x.npz").exists()
    values[0, 1] = -3  # c is out of range too
    np.save(flat, values)
    assert shell("convert", flat, "--to-tuple", "--strict", "--force").code == 0


def test_nan_is_converted_and_reported(shell: Shell, tmp_path: Path, flat: Path) -> None:
    values = np.load(flat)
    values[0, 0], values[1, 1], values[2, 7] = np.nan, np.inf, -np.inf
    np.save(flat, values)
    done = shell("convert", flat, "--to-tuple")
    assert notes(done) == [HALVED, "c holds NaN and Inf", "m holds Inf"]
    with np.load(done.out[:-1]) as found:
        assert found["c"].tobytes() + found["m"].tobytes() == (
            values[:, :4].tobytes() + values[:, 4:].tobytes()
        )
    assert shell("convert", "-q", flat, "--to-tuple", "--force").err == ""


# ---- JSON


def test_json_describes_the_conversion(shell: Shell, flat: Path) -> None:
    target = str(flat.with_name("last.tuple.npz"))
    array = {"shape": [3, 4], "dtype": "float32"}
    assert shell.json("convert", flat, "--to-tuple") == {
        "schema": "lstmstate.convert/1",
        "kind": "converted",
        "source": str(flat),
        "output": target,
        "states": [
            {
                "from": "flat",
                "to": "tuple",
                "variable": None,
                "variables": [],
                "cells": [{"name": "", "c": 4, "m": 4}],
                "stack": False,
                "lead": [3],
                "dtype": "float32",
                "arrays": [{"name": "c", **array}, {"name": "m", **array}],
                "notes": [HALVED],
            }
        ],
    }


def test_json_of_several_sources_is_one_document(shell: Shell, flat: Path) -> None:
    gone = flat.with_name("gone.npy")
    found = shell.json(
        "convert", flat, gone, "--to-tuple", "--out-dir", flat.with_name("out"), code=4
    )
    assert (found["schema"], found["kind"]) == ("lstmstate.convert/1", "batch")
    assert [one["source"] for one in found["results"]] == [str(flat)]
    assert [one["path"] for one in found["failed"]] == [str(gone)]
    assert json.dumps(found, allow_nan=False)


# ---- errors


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["FLAT"],
        ["FLAT", "--to", "sideways"],
        ["FLAT", "--to-tuple", "--to-flat"],
        ["FLAT", "--to-tuple", "--to", "keras"],
        ["FLAT", "--to", "keras", "--to", "torch"],
        ["FLAT", "FLAT", "--to-flat", "-o", "x.npy"],
        ["FLAT", "--to-flat", "-o", "x.npy", "--out-dir", "x"],
        ["-", "--to-flat"],
        ["-", "--to-flat", "--out-dir", "x"],
        ["FLAT", "--to-flat", "--units", "0"],
        ["FLAT", "--to-flat", "--proj", "4"],
        ["FLAT", "--to-flat", "--units", "4", "--cells", "4"],
        ["FLAT", "--to-flat", "--units", "4", "--checkpoint", "x"],
        ["FLAT", "--to-flat", "--cell", "x"],
        ["FLAT", "--to-flat", "--checkpoint", "x", "--cell", "x", "--stack", "x"],
        ["FLAT", "--to-flat", "--cells", "4:2:1"],
        ["FLAT", "--to-flat", "--cells", ",".join(["1"] * 10_001)],
        *(["FLAT", "--to-flat", flag, f"{1 << 41}"] for flag in ("--units", "--cells")),
        ["FLAT", "--to-flat", "--dtype", "int8"],
        ["FLAT", "--to-flat", "--format", "doc"],
    ],
)
def test_a_usage_error_exits_with_2_and_writes_nothing(
    shell: Shell, flat: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(flat.parent)
    done = shell("convert", *[str(flat) if a == "FLAT" else a for a in arguments], code=2)
    assert done.out == ""
    assert "; see lstmstate convert --" in error(done)
    assert os.listdir(flat.parent) == [flat.name]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["GONE", "--to-flat"], "there is no checkpoint or file of this name"),
        (["README", "--to-flat"], "expected a state or a TensorFlow checkpoint"),
        (["FLAT", "--to-flat", "--units", "3"], "it is 8 wide, and c 3 + m 3 are 6"),
        (["FLAT", "--to-flat", "-o", "NOWHERE/x.npy"], "NOWHERE/x.npy: it cannot be written"),
        (
            ["FLAT", "--to-tuple", "-o", "x.npy"],
            "an .npy file holds one array, and these are 2; write an .npz or .h5",
        ),
        (["FLAT", "--to-flat", "-o", "x"], "expected a name with the ending of a kind of file"),
        (["FLAT", "--to-flat", "--variable", "x"], "--variable is for checkpoints"),
        (["FLAT:x", "--to-flat"], "its one array has no name; pass the file alone"),
        (["STATELESS", "--to-flat"], "no state is saved in its variables"),
    ],
)
def test_an_unusable_file_exits_with_3_and_one_line(
    shell: Shell,
    flat: Path,
    arguments: list[str],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(flat.parent)
    paths = {"README": PROJECT / "README.md", "STATELESS": SAMPLES / "bidirectional"}
    done = shell(
        "convert",
        "-q",
        *[a.replace("FLAT", flat.name) if a not in paths else paths[a] for a in arguments],
        code=3,
    )
    assert done.out == ""
    assert words in error(done)
    assert os.listdir(flat.parent) == [flat.name]


def test_an_interrupt_exits_with_130_and_leaves_no_file(
    flat: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lstmstate.state.formats.array_writer.ArrayWriter.write", interrupt)
    assert run(["convert", str(flat), "--to-flat"]) == 130
    assert os.listdir(flat.parent) == [flat.name]


@pytest.mark.parametrize(
    ("command", "endings"),
    [
        ("convert FLAT --to-flat -o x.dat", ".npy, .npz, .h5, .safetensors, .pt, .csv or .ckpt"),
        ("split FLAT -o x.dat y.npy", ".npy"),
        ("concat FLAT FLAT -o x.dat", ".npy, .npz, .h5, .safetensors, .pt, .csv or .ckpt"),
        ("run CKPT X -o x.dat", ".npy, .npz, .h5, .safetensors or .pt"),
        ("run CKPT X --state-out x.dat", ".npy, .npz, .h5, .safetensors, .pt, .csv or .ckpt"),
    ],
)
def test_a_bad_ending_of_an_output_is_one_error_in_every_command(
    shell: Shell, tmp_path: Path, command: str, endings: str
) -> None:
    x = saved(tmp_path / "x.npy", numbers(4, 3))
    flat = saved(tmp_path / "flat.npy", numbers(4, 6))
    places = {"FLAT": flat, "X": x, "CKPT": SAMPLES / "peephole_tuple"}
    done = shell(*(places.get(word, word) for word in command.split()), "-q")
    problem = "x.dat: expected a name with the ending of a kind of file"
    assert (done.code, error(done)) == (3, f"{problem}; end the name in {endings}")


# ---- `lstmstate split` and `concat`: one flat state into two files, and back


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


# ---- split


def test_a_flat_state_is_halved_with_a_note(shell: Shell, folder: Path) -> None:
    flat = saved(folder / "flat.npy", numbers(3, 8))
    done = shell("split", flat, "-o", "c.npy", "m.npy", code=0)
    assert done.out == "c.npy\nm.npy\n"
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
    split = shell(
        "split", "flat.npy", "--units", "8", "--proj", "5", "-o", "c.npy", "m.npy", code=0
    )
    assert notes(split) == []
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
    done = shell("split", "-q", *arguments, code=code)
    assert done.out == ""
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
    done = shell("split", flat, "-o", "c.npy", "m.npy", "--strict", "-q", code=3)
    assert os.listdir(folder) == ["flat.npy"]
    assert "c and m look swapped" in error(done)
    done = shell("split", flat, "-o", "c.npy", "m.npy", code=0)
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
    done = shell("concat", "m.npy", "c.npy", "-o", "back.npy", "--force", code=3)
    assert not os.path.exists("back.npy")
    assert error(done) == ("m.npy: expected c, got m; the order is c, m, c, m, …")
    assert "expected m, got c" in error(shell("concat", "c.npy", "c.npy", "-o", "back.npy", code=3))


def test_halves_of_different_cells_are_refused(shell: Shell, folder: Path) -> None:
    """c of the first cell next to the narrower m of the second does not form a state."""
    saved(folder / "flat.npy", numbers(2, 12))
    pairs = ["-o", "c0.npy", "m0.npy", "-o", "c1.npy", "m1.npy"]
    assert shell("split", "flat.npy", "--cells", "4,2", *pairs).code == 0
    shell("concat", "c0.npy", "m1.npy", "-o", "back.npy", code=3)
    assert not os.path.exists("back.npy")


def test_unlabelled_files_are_used_in_order(shell: Shell, folder: Path) -> None:
    halves = {"a": numbers(2, 5), "b": numbers(2, 3, seed=1)}
    for name, values in halves.items():
        saved(folder / f"{name}.npy", values)
    assert shell("concat", "a.npy", "b.npy", "-o", "flat.npy", code=0).err == ""
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
        shell(
            "concat", f"{source}:{first}", f"{source}:{second}", "-o", "flat.npy", "--force", code=0
        )
        np.testing.assert_array_equal(np.load("flat.npy"), np.hstack([c, m]))
    done = shell("concat", "state.npz", "state.npz", "-o", "x.npy", code=3)
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
    done = shell("concat", "-q", *arguments, code=code)
    assert done.out == ""
    assert words in done.err
    assert {name: Path(name).read_bytes() for name in os.listdir(folder)} == before


def test_the_table_of_layouts(shell: Shell) -> None:
    rows = shell.json("convert", "--list")["layouts"]
    assert {row["name"]: (row["arrays"], row["h_first"]) for row in rows}["torch"] == (
        ["h_n", "c_n"],
        True,
    )
    lines = shell("convert", "--list", code=0).out.splitlines()
    assert lines[0].split() == ["layout", "first", "form", "program"]
    assert len(lines) == len(rows) + 1
    assert "pass the state: SRC" in shell("convert", "--to-flat", code=2).err
