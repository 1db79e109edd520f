"""`lstmstate diff`: comparison of states in any layouts, and of checkpoints."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import (
    FIRST,
    SAMPLES,
    SUNSPOTS,
    Array,
    Shell,
    archive,
    checkpoint,
    error,
    flip,
    lstm_cell,
    notes,
    numbers,
    saved,
)
from work import little_memory


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def pair(path: Path, *, row: int = 0, column: int = 0, by: float = 0.0) -> Path:
    """Write c [4, 3] and m [4, 3], with one element of m moved."""
    m = numbers(4, 3, seed=1, dtype="float64")
    m[row, column] += by
    return archive(path, c=numbers(4, 3, dtype="float64"), m=m)


# ---- states


@pytest.mark.parametrize(
    ("one", "kind"),
    [
        (layout, kind)
        for kind in ("npz", "h5", "csv", "ckpt")
        for layout in ("tuple", "flat", "stacked", "layered", "keras", "torch")
        if kind != "csv" or layout in ("tuple", "flat", "keras")  # it has only rows and columns
    ],
)
def test_one_state_is_equal_across_layouts_and_file_types(
    shell: Shell, folder: Path, one: str, kind: str
) -> None:
    a = pair(folder / "a.npz")
    assert shell("convert", a, "--to", one, "-o", f"b.{kind}").code == 0
    done = shell("diff", "--exact", a, f"b.{kind}", code=0)
    assert done.err == ""
    assert done.out == f"{a}  against  b.{kind}\n2 arrays, 2 the same (to the bit)\n"


def test_a_stack_is_equal_across_layouts(shell: Shell, folder: Path) -> None:
    assert shell("convert", SUNSPOTS, "--to", "keras", "-o", "a.h5").code == 0
    assert shell("convert", SUNSPOTS, "--to-flat", "-o", "b.npy").code == 0
    done = shell("diff", "--exact", "a.h5", "b.npy", code=0)
    assert done.out.splitlines()[1] == "4 arrays, 4 the same (to the bit)"
    assert shell("diff", "--exact", "a.h5", f"{SUNSPOTS}:saved_state").code == 0
    assert shell("diff", "--exact", SUNSPOTS, "a.h5").code == 0


def test_the_largest_difference_and_its_index(shell: Shell, folder: Path) -> None:
    a, b = pair(folder / "a.npz"), pair(folder / "b.npz", row=2, column=1, by=0.25)
    done = shell("diff", a, b, code=1)
    assert done.err == ""
    with np.load(a) as before, np.load(b) as after:
        value, other = before["m"][2, 1], after["m"][2, 1]
    relative = 0.25 / max(abs(value), abs(other))
    assert done.out.splitlines() == [
        f"{a}  against  {b}",
        "2 arrays, 1 the same (rtol 1e-05, atol 1e-08)",
        "",
        "  tensor  shape   what differs  elements  max abs  max rel  at",
        f"  m       [4, 3]  values               1     0.25  {f'{relative:.4g}':>7}  [2, 1]",
    ]
    found = shell.json("diff", a, b, code=1)
    assert (found["schema"], found["kind"], found["same"]) == ("lstmstate.diff/1", "states", False)
    assert found["tolerance"] == {"rtol": 1e-5, "atol": 1e-8, "exact": False}
    c, m = found["tensors"]
    assert (c["name"], c["verdict"], c["differing"], c["max_abs"]) == ("c", "same", 0, 0.0)
    assert (m["name"], m["verdict"], m["differing"], m["at"]) == ("m", "values", 1, [2, 1])
    assert m["max_abs"] == pytest.approx(0.25)
    assert m["max_rel"] == pytest.approx(relative)


def test_the_index_is_right_in_a_state_read_in_parts(shell: Shell, folder: Path) -> None:
    """A state of many megabytes is read in parts, along the longest axis."""
    for lead in ((700_000,), (3, 300_000)):
        flat = np.zeros((*lead, 2), "f4")
        saved(folder / "a.npy", flat)
        place = (*(size - 2 for size in lead), 0)
        flat[place] = 3
        saved(folder / "b.npy", flat)
        found = shell.json("diff", "a.npy", "b.npy", code=1)["tensors"]
        assert [one["at"] for one in found] == [list(place), None]
        assert [one["differing"] for one in found] == [1, 0]


@pytest.mark.parametrize(
    ("by", "arguments", "code"),
    [
        (1e-9, [], 0),
        (1e-3, [], 1),
        (1e-3, ["--atol", "0.01"], 0),
        (1e-3, ["--rtol", "0.5"], 0),
        (1e-9, ["--atol", "0", "--rtol", "0"], 1),
        (1e-9, ["--exact"], 1),
        (1e-3, ["--exact", "--atol", "1"], 1),
        (0.0, ["--exact", "--atol", "0", "--rtol", "0"], 0),
    ],
)
def test_tolerance(shell: Shell, folder: Path, by: float, arguments: list[str], code: int) -> None:
    a, b = pair(folder / "a.npz"), pair(folder / "b.npz", by=by)
    assert shell("diff", a, b, *arguments).code == code


@pytest.mark.parametrize(
    ("one", "other", "within", "exactly"),
    [
        (0x7FC00000, 0x7FC00001, 0, 1),  # NaNs with two payloads
        (0x7FC00000, 0x7FC00000, 0, 0),
        (0x00000000, 0x80000000, 0, 1),  # 0 and -0
        (0x7F800000, 0x7F800000, 0, 0),  # Inf
        (0x7F800000, 0xFF800000, 1, 1),  # Inf and -Inf
        (0x7F800000, 0x7F7FFFFF, 1, 1),  # Inf and the largest number
        (0x7FC00000, 0x3F800000, 1, 1),  # NaN and 1
        (0x7FC00000, 0x7F800000, 1, 1),  # NaN and Inf
    ],
)
def test_nan_equals_nan_and_minus_zero_equals_zero(
    shell: Shell, folder: Path, one: int, other: int, within: int, exactly: int
) -> None:
    for name, bits in (("a", one), ("b", other)):
        saved(folder / f"{name}.npy", np.array([[bits, 0, 0, 0]], "u4").view("f4"))
    for a, b in (("a.npy", "b.npy"), ("b.npy", "a.npy")):
        assert shell("diff", "-q", a, b).code == within
        assert shell("diff", "-q", a, b, "--atol", "1e30", "--rtol", "0").code == within
        assert shell("diff", "-q", a, b, "--exact").code == exactly
    found = shell.json("diff", "a.npy", "b.npy", code=within)
    assert json.dumps(found, allow_nan=False)


def test_dtypes_count_only_in_an_exact_comparison(shell: Shell, folder: Path) -> None:
    values = np.array([[0.5, 0.25, 1, 0]])
    saved(folder / "a.npy", values.astype("f4"))
    saved(folder / "b.npy", values)
    assert shell("diff", "a.npy", "b.npy").code == 0
    done = shell("diff", "--exact", "-q", "a.npy", "b.npy", code=1)
    assert "dtype: float32 against float64" in done.out
    tensors = shell.json("diff", "--exact", "a.npy", "b.npy", code=1)["tensors"]
    assert [one["verdict"] for one in tensors] == ["dtype", "dtype"]


def test_large_integers_are_distinguished(shell: Shell, folder: Path) -> None:
    """Beyond 2**53 two integers can be one float64."""
    saved(folder / "a.npy", np.array([[1 << 60, 1]]))
    saved(folder / "b.npy", np.array([[(1 << 60) + 1, 1]]))
    assert shell("diff", "--exact", "a.npy", "b.npy").code == 1
    assert shell("diff", "--atol", "0", "--rtol", "0", "a.npy", "b.npy").code == 1


def test_differing_widths_and_shapes_are_described(shell: Shell, folder: Path) -> None:
    archive(folder / "a.npz", c=numbers(2, 8), m=numbers(2, 5))
    archive(folder / "b.npz", c=numbers(2, 6), m=numbers(2, 5))
    archive(folder / "c.npz", c=numbers(3, 8), m=numbers(3, 5))
    done = shell("diff", "a.npz", "b.npz", code=1)
    assert "units 8 against 6" in done.out
    assert "2 arrays, 1 the same" in done.out
    done = shell("diff", "a.npz", "c.npz", code=1)
    assert done.out.count("shape: ") == 2
    assert "[2, 8] against [3, 8]" in done.out


def test_a_cell_that_only_one_state_has(shell: Shell, folder: Path) -> None:
    saved(folder / "flat.npy", numbers(2, 12))
    assert shell("convert", "flat.npy", "--to-tuple", "--cells", "2,2,2", "-o", "a.npz").code == 0
    saved(folder / "flat.npy", numbers(2, 12)[:, :8])
    assert shell("convert", "flat.npy", "--to-tuple", "--cells", "2,2", "-o", "b.npz").code == 0
    for a, b, side in (("a.npz", "b.npz", "A"), ("b.npz", "a.npz", "B")):
        tensors = shell.json("diff", a, b, code=1)["tensors"]
        verdicts = {one["name"]: one["verdict"] for one in tensors}
        assert verdicts.pop("cell_2") == f"only in {side}"
        assert set(verdicts.values()) == {"same"}


def test_one_file_supplies_the_widths_of_the_other(shell: Shell, folder: Path) -> None:
    both = numbers(2, 14)
    saved(folder / "flat.npy", both)
    archive(folder / "state.npz", c=both[:, :8], m=both[:, 8:])
    for a, b in (("flat.npy", "state.npz"), ("state.npz", "flat.npy")):
        done = shell("diff", "--exact", a, b, code=0)
        assert notes(done) == []
    done = shell("diff", "flat.npy", "flat.npy", code=0)
    assert notes(done)[0].startswith("the widths of this flat state are unknown")
    assert shell("diff", "-q", "flat.npy", "flat.npy").err == ""
    assert shell("diff", "flat.npy", "flat.npy", "--units", "8", "--proj", "6").err == ""


# ---- checkpoints


def test_a_checkpoint_and_itself(shell: Shell) -> None:
    done = shell("diff", "--exact", SUNSPOTS, f"{SUNSPOTS}/model.ckpt-360.index", code=0)
    assert "22 tensors, 22 the same (to the bit)" in done.out
    assert notes(done) == []  # the folder has one checkpoint
    found = shell.json("diff", SUNSPOTS, SUNSPOTS)
    assert (found["kind"], found["same"], len(found["tensors"])) == ("checkpoints", True, 22)


def test_kernel_shapes_are_described_as_units_and_inputs(shell: Shell, folder: Path) -> None:
    a = checkpoint(folder / "a", lstm_cell(units=4, inputs=3))
    b = checkpoint(folder / "b", lstm_cell(units=5, inputs=3))
    assert "shape: input 3, units 4 against units 5" in shell("diff", a, b, code=1).out
    done = shell("diff", SAMPLES / "partitioned", SAMPLES / "peephole_flat", "-q")
    assert "shape: input 6, units 8, projection 5 against input 3" in done.out


def test_variables_of_one_checkpoint_only_and_values_that_differ(
    shell: Shell, folder: Path
) -> None:
    values = lstm_cell() | {
        "only_a": np.ones(3),
        "step": np.array(7),
        "names": np.array([b"x"], "O"),
    }
    a = checkpoint(folder / "a", values)
    del values["only_a"]
    kernel = values["rnn/lstm_cell/kernel"].copy()
    kernel[6, 15] += 1
    values |= {"only_b": np.zeros((2, 2)), "rnn/lstm_cell/kernel": kernel}
    values |= {"step": np.array(9), "names": np.array([b"y"], "O")}
    b = checkpoint(folder / "b", values)
    tensors = shell.json("diff", a, b, code=1)["tensors"]
    found = {one["name"]: one for one in tensors}
    assert {name: one["verdict"] for name, one in found.items()} == {
        "names": "values",
        "only_a": "only in A",
        "only_b": "only in B",
        "rnn/lstm_cell/bias": "same",
        "rnn/lstm_cell/kernel": "values",
        "step": "values",
    }
    assert found["rnn/lstm_cell/kernel"]["at"] == [6, 15]
    assert (found["step"]["max_abs"], found["step"]["at"]) == (2.0, [])
    assert found["names"]["differing"] == 1
    assert found["only_b"]["shape"] == [2, 2]
    lines = [line.split() for line in shell("diff", a, b).out.splitlines()[4:]]
    assert ["only_a", "[3]", "only", "in", "A"] in lines
    assert ["only_b", "[2,", "2]", "only", "in", "B"] in lines


def test_dtypes_and_shapes_of_other_variables(shell: Shell, folder: Path) -> None:
    a = checkpoint(
        folder / "a", {"x": np.ones(3, "f4"), "y": np.ones(3), "s": np.array([b"1"], "O")}
    )
    b = checkpoint(folder / "b", {"x": np.ones(3, "f8"), "y": np.ones(4), "s": np.array([1])})
    done = shell("diff", a, b, code=1)
    assert "3 tensors, 1 the same" in done.out
    assert "shape: [3] against [4]" in done.out
    assert "dtype: string against int64" in done.out
    assert "dtype: float32 against float64" in shell("diff", "--exact", a, b).out


def test_damage_in_one_checkpoint_is_an_error_and_not_a_difference(
    shell: Shell, folder: Path
) -> None:
    a = checkpoint(folder / "a", lstm_cell())
    b = checkpoint(folder / "b", lstm_cell())
    flip(b, 3)  # the exponent of the first float
    done = shell("diff", a, b, code=3)
    assert done.out == ""
    assert error(done).startswith(f"{b}.data-00000-of-00001: rnn/lstm_cell/")
    done = shell("diff", a, b, "--no-checksums", code=1)
    assert any("not verified" in note for note in notes(done))


def test_a_state_against_the_one_saved_in_a_checkpoint(shell: Shell, folder: Path) -> None:
    source = SAMPLES / "peephole_flat"
    assert shell("convert", source, "--to-tuple", "-o", "state.npz").code == 0
    assert shell("diff", "--exact", "state.npz", source).code == 0
    assert shell("diff", "--exact", "state.npz", SAMPLES / "peephole_tuple").code == 0
    done = shell("diff", "state.npz", SUNSPOTS, code=1)
    assert f"{FIRST}" in done.out or "rnn/lstm_cell" in done.out


# ---- errors


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["a.npz"],
        ["a.npz", "a.npz", "a.npz"],
        ["a.npz", "a.npz", "--rtol", "-1"],
        ["a.npz", "a.npz", "--atol", "small"],
        ["a.npz", "a.npz", "--atol", "nan"],
        ["a.npz", "a.npz", "--rtol", "inf"],
        ["a.npz", "a.npz", "--proj", "3"],
        ["a.npz", "a.npz", "--cell", "x"],
    ],
)
def test_a_usage_error_exits_with_2(shell: Shell, folder: Path, arguments: list[str]) -> None:
    pair(folder / "a.npz")
    assert shell("diff", *arguments, code=2).out == ""


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("other", ["gone.npz", "text.txt", "odd.npy", SAMPLES / "bidirectional"])
def test_an_unusable_file_is_an_error_and_not_a_difference(
    shell: Shell, folder: Path, other: str, swapped: bool
) -> None:
    pair(folder / "a.npz")
    (folder / "text.txt").write_text("words\n")
    saved(folder / "odd.npy", numbers(2, 7))
    paths = [other, "a.npz"] if swapped else ["a.npz", other]
    done = shell("diff", "-q", *paths, code=3)
    assert done.out == ""
    assert str(other) in error(done)


def test_infinite_differences_are_valid_json(shell: Shell, folder: Path) -> None:
    saved(folder / "a.npy", np.array([[np.inf, 1, 0, 0]]))
    saved(folder / "b.npy", np.array([[0, 1, 0, 0.0]]))
    found = shell.json("diff", "a.npy", "b.npy", code=1)["tensors"][0]
    assert (found["max_abs"], found["max_rel"], found["at"]) == ("inf", "inf", [0, 0])
    assert not math.isfinite(float(found["max_abs"]))


# ---- arrays that are not a state


def results(path: Path, change: float = 0, **more: Array) -> Path:
    """Write the result of a run: outputs, c and m."""
    outputs = numbers(3, 5, 3)  # no state has three columns
    outputs[2, 4, 1] += change
    return archive(path, outputs=outputs, c=numbers(3, 4, seed=1), m=numbers(3, 4, seed=2), **more)


def test_the_outputs_of_two_runs_are_compared_with_their_states(
    shell: Shell, tmp_path: Path
) -> None:
    a, b = results(tmp_path / "a.npz"), results(tmp_path / "b.npz", 0.5)
    assert shell("diff", a, a).out.splitlines()[1] == (
        "3 arrays, 3 the same (rtol 1e-05, atol 1e-08)"
    )
    found = shell.json("diff", a, b, code=1)
    assert found["kind"] == "states"
    assert {one["name"]: one["verdict"] for one in found["tensors"]} == {
        "c": "same",
        "m": "same",
        "outputs": "values",
    }
    (other,) = (one for one in found["tensors"] if one["name"] == "outputs")
    assert (other["differing"], other["at"]) == (1, [2, 4, 1])
    assert other["max_abs"] == pytest.approx(0.5)


def test_an_array_that_only_one_has_is_named(shell: Shell, tmp_path: Path) -> None:
    a, b = results(tmp_path / "a.npz"), results(tmp_path / "b.npz", c_steps=numbers(3, 5, 4))
    done = shell("diff", a, b, code=0)
    assert notes(done) == [f"{b}: only the state is compared, and not c_steps"]


@pytest.mark.parametrize(
    ("a", "b"), [("a.npz:outputs", "a.npz:outputs"), ("a.npz:outputs", "o.npy")]
)
@pytest.mark.parametrize("change", [0, 0.5])
def test_arrays_without_a_state_are_compared_by_name(
    shell: Shell, tmp_path: Path, a: str, b: str, change: float
) -> None:
    results(tmp_path / "a.npz")
    with np.load(results(tmp_path / "b.npz", change)) as whole:
        saved(tmp_path / "o.npy", whole["outputs"])
    if b == "a.npz:outputs":
        b = "b.npz:outputs"
    done = shell("diff", tmp_path / a, tmp_path / b, code=bool(change))
    assert done.out.splitlines()[1].startswith(f"1 array, {int(not change)} the same")
    (note,) = notes(done)
    assert note.startswith("neither has a state that can be read (")
    assert shell.json("diff", tmp_path / a, tmp_path / b, code=bool(change))["kind"] == "arrays"


def test_large_arrays_are_compared_in_parts(shell: Shell, tmp_path: Path) -> None:
    whole = np.ones((400_000, 3), "f4")
    a = saved(tmp_path / "a.npy", whole)
    whole[399_999, 2] = 2
    b = saved(tmp_path / "b.npy", whole)
    with little_memory(24):
        found = shell.json("diff", a, b, code=1)
    assert found["tensors"][0]["at"] == [399_999, 2]


def test_a_state_and_a_file_without_one_are_refused(shell: Shell, tmp_path: Path) -> None:
    a, other = results(tmp_path / "a.npz"), saved(tmp_path / "o.npy", numbers(3, 5))
    assert shell("diff", a, other).code == 3
    assert shell("diff", other, other).code == 0
    assert shell("diff", other, other, "--units", "2").code == 3


@pytest.mark.parametrize(
    ("one", "other", "code"),
    [
        (["a", "b"], ["a", "b"], 0),
        (["a", "b"], ["a", "bb"], 1),
        (["a", "b"], [b"a", b"b"], 1),
        (["a", "b", "c"], [1.0, 2.0, 3.0], 1),
        ([1.0, 2.0, 3.0], ["1.0", "2.0", "3.0"], 1),
        (np.array([1, 2], "M8[D]"), np.array([1, 2], "M8[D]"), 0),
        (np.array([1, 2], "m8[s]"), np.array([1, 3], "m8[s]"), 1),
    ],
)
def test_arrays_of_text_and_dates_are_the_same_or_not(
    shell: Shell, tmp_path: Path, one: Any, other: Any, code: int
) -> None:
    paths = [saved(tmp_path / "a.npy", np.array(one)), saved(tmp_path / "b.npy", np.array(other))]
    assert shell("diff", "-q", *paths, code=code).err == ""


def test_an_array_that_only_the_second_file_has_is_listed_with_its_own_shape(
    shell: Shell, folder: Path
) -> None:
    one = archive(folder / "a.npz", x=numbers(2, 3))
    other = archive(folder / "b.npz", x=numbers(2, 3), y=numbers(5, 4))
    tensors = shell.json("diff", one, other, code=1)["tensors"]
    found = {tensor["name"]: (tensor["verdict"], tensor["shape"]) for tensor in tensors}
    assert found == {"x": ("same", [2, 3]), "y": ("only in B", [5, 4])}
