"""`lstmstate check`: each assertion, when it passes and when it fails."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import (
    FIRST,
    SAMPLES,
    SECOND,
    SUNSPOTS,
    Shell,
    archive,
    checkpoint,
    error,
    lstm_cell,
    notes,
    numbers,
    saved,
)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state of c [4, 8] and m [4, 5]."""
    return archive(tmp_path / "state.npz", c=numbers(4, 8), m=numbers(4, 5, seed=1) * 0.5)


PASSING = [
    ("peephole_flat", ["--units", "8"]),
    ("peephole_flat", ["--proj", "5"]),
    ("block_cell", ["--proj", "0"]),
    ("peephole_flat", ["--input-size", "3"]),
    ("sunspots", ["--cells", "2"]),
    ("sunspots", ["--cells", "24,12"]),
    ("sunspots", ["--cell", "cell_0", "--cells", "24:24"]),
    ("peephole_flat", ["--cells", "8:5", "--units", "8"]),
    ("sunspots", ["--layout", "flat"]),
    ("peephole_tuple", ["--layout", "tuple"]),
    ("bidirectional", ["--layout", "tuple"]),
    ("sunspots", ["--finite"]),
    ("sunspots", ["--max-abs-m", "1"]),
    ("sunspots", ["--has", "saved_state", "--has", f"{FIRST}/kernel"]),
    ("sunspots", ["--family", "BasicLSTMCell"]),
    ("tf_0_12_names", ["--family", "LSTMBlockCell"]),
    ("peephole_flat", ["--forget-bias", "0.5"]),
    ("sunspots", ["--era", "1.2+"]),
    ("tf_1_0_names", ["--era", "1.0-1.1"]),
    ("tf_0_12_names", ["--era", "0.5-0.12"]),
    ("sunspots", ["--cell", "cell_0", "--units", "24", "--cells", "1"]),
    ("saved_model", ["--units", "8", "--finite"]),
    ("v1_format", ["--units", "8", "--proj", "0", "--layout", "tuple", "--max-abs-m", "1"]),
]
FAILING = [
    ("sunspots", ["--units", "24"], [f"--units 24: {SECOND}: units is 12, not 24"]),
    ("peephole_flat", ["--proj", "4"], ["--proj 4: rnn/lstm_cell: the projection is 5, not 4"]),
    ("peephole_flat", ["--proj", "0"], ["--proj 0: rnn/lstm_cell: the projection is 5, not none"]),
    ("block_cell", ["--proj", "3"], ["--proj 3: rnn/lstm_cell: the projection is none, not 3"]),
    (
        "sunspots",
        ["--input-size", "2"],
        [f"--input-size 2: {FIRST}: input size is 1, not 2",
         f"--input-size 2: {SECOND}: input size is 24, not 2"],
    ),
    ("sunspots", ["--cells", "3"], ["--cells 3: it has 2 cells (24,12), not 3"]),
    ("sunspots", ["--cells", "12,24"], ["--cells 12,24: it has 2 cells (24,12), not 12,24"]),
    ("sunspots", ["--cells", "24,12,3"], ["--cells 24,12,3: it has 2 cells (24,12), not 24,12,3"]),
    ("peephole_flat", ["--cells", "8:8"], ["--cells 8:8: it has 1 cell (8:5), not 8:8"]),
    ("sunspots", ["--layout", "tuple"],
     ["--layout tuple: saved_state: the layout is flat, not tuple"]),
    ("bidirectional", ["--layout", "flat", "--cell", "fw"],
     ["--layout flat: bidirectional_rnn/fw/lstm_cell: the layout that it takes is tuple, "
      "not flat"]),
    ("peephole_flat", ["--max-abs-m", "0.125"],
     ["--max-abs-m 0.125: rnn/lstm_cell/m reaches 0.25, more than 0.125"]),
    ("sunspots", ["--has", "nothing/like/it"],
     ["nothing/like/it is not there, nor anything like it"]),
    ("sunspots", ["--family", "GRUCell"],
     [f"--family GRUCell: {cell}: family is BasicLSTMCell, not GRUCell"
      for cell in (FIRST, SECOND)]),
    ("peephole_flat", ["--forget-bias", "1"],
     ["--forget-bias 1: rnn/lstm_cell: forget_bias is 0.5 (graph), not 1"]),
    ("peephole_flat", ["--era", "1.0-1.1"],
     ["--era 1.0-1.1: rnn/lstm_cell: its names are of 1.2+, not 1.0-1.1"]),
]  # fmt: skip


# ---- checkpoints


@pytest.mark.parametrize(("sample", "asserted"), PASSING)
def test_assertions_that_pass_on_a_checkpoint(
    shell: Shell, sample: str, asserted: list[str]
) -> None:
    done = shell("check", SAMPLES / sample, *asserted, code=0)
    assert done.out == ""
    assert notes(done)[-1].startswith(f"{SAMPLES / sample}: ")
    assert notes(done)[-1].endswith(" passed")
    assert shell("check", "-q", SAMPLES / sample, *asserted).err == ""


@pytest.mark.parametrize(("sample", "asserted", "problems"), FAILING)
def test_assertions_that_fail_on_a_checkpoint(
    shell: Shell, sample: str, asserted: list[str], problems: list[str]
) -> None:
    done = shell("check", "-q", SAMPLES / sample, *asserted, code=1)
    assert done.err == ""
    assert done.out.splitlines() == [f"{SAMPLES / sample}: {problem}" for problem in problems]


def test_every_failure_is_printed_and_no_success(shell: Shell) -> None:
    asserted = ["--units", "24", "--cells", "2", "--era", "1.2+", "--max-abs-m", "0.001"]
    done = shell("check", SUNSPOTS, *asserted, code=1)
    assertions = [line.split(": ")[1] for line in done.out.splitlines()]
    assert assertions == ["--units 24", "--max-abs-m 0.001", "--max-abs-m 0.001"]


@pytest.mark.parametrize(
    ("sample", "requested", "called"),
    [
        ("tf_1_0_names", "LSTM/kernel", None),
        ("sunspots", f"{FIRST}/weights", f"{FIRST}/kernel, TensorFlow 1.2+ naming"),
        ("sunspots", f"{SECOND}/biases", f"{SECOND}/bias, TensorFlow 1.2+ naming"),
        ("v1_format", "rnn/basic_lstm_cell/weights", "rnn/basic_lstm_cell/kernel, TensorFlow 1.2+"),
        ("v1_format", "RNN/BasicLSTMCell/Linear/Matrix", "rnn/basic_lstm_cell/kernel, TensorFlow"),
    ],
)
def test_a_missing_name_is_answered_with_the_name_in_this_file(
    shell: Shell, sample: str, requested: str, called: str | None
) -> None:
    done = shell("check", "-q", SAMPLES / sample, "--has", requested, code=1)
    assert done.out.count("\n") == 1
    assert done.out.startswith(f"{SAMPLES / sample}: {requested} is not there")
    if called is not None:
        assert f"; this file has {called}" in done.out


def test_current_names_are_found_in_an_old_checkpoint(shell: Shell) -> None:
    """A common case: the code asks for kernel, and a checkpoint of 1.0 has weights."""
    old = SAMPLES / "tf_1_0_names"
    names = [one["name"] for one in shell.json("inspect", old)["variables"]]
    (weights,) = [name for name in names if name.endswith("cell_0/lstm_cell/weights")]
    requested = weights.replace("/weights", "/kernel")
    done = shell("check", "-q", old, "--has", requested, code=1)
    assert done.out == (
        f"{old}: {requested} is not there; this file has {weights}, TensorFlow 1.0-1.1 naming\n"
    )


def test_values_that_are_not_finite(shell: Shell, tmp_path: Path) -> None:
    values = lstm_cell() | {"step": np.array(3), "rnn/other": np.array([1.0, np.inf])}
    values["rnn/lstm_cell/bias"][3] = np.nan
    path = checkpoint(tmp_path / "x", values)
    done = shell("check", "-q", path, "--finite", code=1)
    assert sorted(done.out.splitlines()) == [
        f"{path}: --finite: rnn/lstm_cell/bias holds NaN",
        f"{path}: --finite: rnn/other holds Inf",
    ]


def test_assertions_on_cells_fail_where_there_are_none(shell: Shell, tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "x", {"dense/kernel": numbers(3, 4)})
    for asserted in (["--units", "8"], ["--family", "LSTMCell"], ["--era", "1.2+"]):
        done = shell("check", "-q", path, *asserted, code=1)
        assert done.out == f"{path}: {' '.join(asserted)}: no graph, and no known variable names\n"
    assert shell("check", "-q", path, "--cells", "0", "--has", "dense/kernel").code == 0
    done = shell("check", "-q", path, "--max-abs-m", "1", code=1)
    assert done.out == f"{path}: --max-abs-m 1: there is no state in it\n"


def test_unrecorded_options_are_unknown_unless_defaults_are_assumed(shell: Shell) -> None:
    bare = (SAMPLES / "tf_1_0_names", "--forget-bias")
    done = shell("check", "-q", *bare, "1", code=1)
    assert done.err == ""
    assert done.out.endswith("forget_bias is unknown: TensorFlow's default would be 1\n")
    done = shell("check", *bare, "1", "--assume-defaults", code=0)
    assert done.out == ""
    assert any("forget_bias is the documented default" in note for note in notes(done))
    done = shell("check", "-q", *bare, "0", "--assume-defaults", code=1)
    assert "forget_bias is 1 (default), not 0" in done.out
    for flags in ([], ["--assume-defaults"]):
        done = shell("check", SAMPLES / "peephole_flat", "--forget-bias", "0.5", *flags, code=0)
        assert "default" not in done.err


def test_damage_is_an_error_and_not_a_failed_assertion(shell: Shell, tmp_path: Path) -> None:
    shutil.copytree(SAMPLES / "block_cell", tmp_path / "run")
    data = next((tmp_path / "run").glob("*.data-*"))
    data.write_bytes(data.read_bytes()[:-1] + b"\xff")
    done = shell("check", "-q", tmp_path / "run", "--finite", code=3)
    assert done.out == ""
    assert "checksum" in error(done)
    assert shell("check", "-q", tmp_path / "run", "--units", "8").code == 0  # reads no values
    done = shell("check", tmp_path / "run", "--units", "8", "--no-checksums")
    assert any("not verified" in note for note in notes(done))


# ---- states


@pytest.mark.parametrize(
    ("asserted", "problem"),
    [
        (["--units", "8"], None),
        (["--units", "8", "--proj", "5"], None),
        (["--proj", "5"], None),
        (["--cells", "1"], None),
        (["--layout", "tuple"], None),
        (["--finite"], None),
        (["--max-abs-m", "0.5"], None),
        (["--has", "c", "--has", "m"], None),
        (["--units", "7"], "--units 7: units is 8, not 7"),
        (["--proj", "0"], "--proj 0: the projection is 5, not none"),
        (["--cells", "2"], "--cells 2: it has 1 cell (8:5), not 2"),
        (["--cells", "8:5"], None),
        (["--layout", "flat"], "--layout flat: the layout is tuple, not flat"),
        (["--max-abs-m", "0.25"], "--max-abs-m 0.25: m reaches 0.4"),
        (["--has", "h"], "h is not there; this file has c, m"),
        (["--input-size", "3"], "--input-size 3: a state does not show the input size"),
        (["--family", "LSTMCell"], "--family LSTMCell: a state does not show the family"),
        (["--forget-bias", "1"], "--forget-bias 1: a state does not show the forget_bias"),
        (["--era", "1.2+"], "--era 1.2+: a state does not show the era"),
    ],
)
def test_assertions_on_a_state(
    shell: Shell, state: Path, asserted: list[str], problem: str | None
) -> None:
    done = shell("check", "-q", state, *asserted, code=0 if problem is None else 1)
    assert done.err == ""
    if problem is None:
        assert done.out == ""
    else:
        assert done.out.startswith(f"{state}: {problem}")
        assert done.out.count("\n") == 1


@pytest.mark.parametrize(
    ("width", "asserted", "code"),
    [
        (13, ["--units", "8", "--proj", "5"], 0),
        (13, ["--units", "8"], 1),
        (13, ["--units", "8", "--proj", "4"], 1),
        (16, ["--units", "8"], 0),
        (16, ["--units", "8", "--proj", "0"], 0),
        (16, ["--units", "8", "--cells", "1"], 0),
        (16, ["--units", "4", "--cells", "2"], 0),
        (16, ["--units", "10", "--proj", "6"], 0),
        (16, ["--units", "9"], 1),
        (16, ["--units", "4", "--cells", "3"], 1),
        (14, ["--cells", "4,3"], 0),
        (14, ["--cells", "3,4"], 0),
        (13, ["--cells", "8:5"], 0),
        (13, ["--cells", "8:5", "--units", "8"], 0),
        (14, ["--cells", "4,4"], 1),
    ],
)
def test_asserted_widths_split_a_flat_state(
    shell: Shell, tmp_path: Path, width: int, asserted: list[str], code: int
) -> None:
    flat = saved(tmp_path / "flat.npy", numbers(2, width))
    assert shell("check", "-q", flat, *asserted).code == code
    assert shell("check", "-q", flat, *asserted, "--layout", "flat").code == code


@pytest.mark.parametrize("cells", ["x", "24,", "4:2:1", "-1", "0,4", "1.5"])
def test_cells_that_are_neither_a_number_nor_widths_are_refused(shell: Shell, cells: str) -> None:
    done = shell("check", SUNSPOTS, "--cells", cells, code=2)
    assert done.out == ""
    assert f"{cells!r} is not a number of cells, such as 2, nor a list of the widths" in error(done)


def test_the_widths_of_a_stack_are_asserted_in_the_order_of_its_layers(
    shell: Shell, tmp_path: Path
) -> None:
    scopes = [f"rnn/multi_rnn_cell/cell_{k}/lstm_cell" for k in range(11)]
    values = {}
    for k, scope in enumerate(scopes):
        values |= lstm_cell(scope, units=4 + k, inputs=3 + k)
    path = checkpoint(tmp_path / "x", values)
    widths = ",".join(str(4 + k) for k in range(11))
    assert shell("check", "-q", path, "--cells", widths).code == 0
    done = shell("check", "-q", path, "--cells", "4,5")
    assert done.out == f"{path}: --cells 4,5: it has 11 cells ({widths}), not 4,5\n"


def test_c_and_m_of_a_flat_state_are_checked_separately(shell: Shell, tmp_path: Path) -> None:
    c, m = np.full((2, 4), 3.0), np.full((2, 4), 0.5)
    m[1, 2] = -0.75
    good, swapped = np.hstack([c, m]), np.hstack([m, c])
    assert shell("check", saved(tmp_path / "a.npy", good), "--max-abs-m", "1").code == 0
    assert shell("check", tmp_path / "a.npy", "--max-abs-m", "0.75").code == 0
    assert shell("check", tmp_path / "a.npy", "--max-abs-m", "0.625").code == 1  # below zero
    done = shell("check", saved(tmp_path / "b.npy", swapped), "--max-abs-m", "1", code=1)
    assert done.out == f"{tmp_path / 'b.npy'}: --max-abs-m 1: m reaches 3, more than 1\n"


def test_a_state_that_is_not_finite(shell: Shell, tmp_path: Path) -> None:
    c, m = numbers(2, 4), numbers(2, 4)
    c[0, 0], m[1, 3] = np.nan, -np.inf
    path = archive(tmp_path / "x.npz", c=c, m=m)
    done = shell("check", "-q", path, "--finite", "--max-abs-m", "1", code=1)
    assert done.out.splitlines() == [
        f"{path}: --finite: c holds NaN",
        f"{path}: --finite: m holds Inf",
        f"{path}: --max-abs-m 1: m reaches Inf, more than 1",
    ]


def test_a_stack_is_checked_cell_by_cell(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    assert shell("convert", SUNSPOTS, "--to-tuple", "-o", path).code == 0
    assert shell("check", path, "--cells", "2", "--has", f"{FIRST}/c").code == 0
    done = shell("check", "-q", path, "--units", "24", code=1)
    assert done.out == f"{path}: --units 24: {SECOND}: units is 12, not 24\n"


def test_an_unknown_layout_can_be_passed(shell: Shell, tmp_path: Path) -> None:
    path = saved(tmp_path / "pair.npy", numbers(2, 4, 8))
    assert shell("check", path, "--units", "8").code == 3
    assert shell("check", path, "--units", "8", "--from", "keras").code == 0


# ---- several paths, JSON, errors


def test_json_of_one_path(shell: Shell) -> None:
    found = shell.json("check", SUNSPOTS, "--units", "24", "--finite", "--cells", "2", code=1)
    assert (found["schema"], found["kind"]) == ("lstmstate.check/1", "checked")
    assert (found["path"], found["holds"]) == (SUNSPOTS, False)
    assert {one["assertion"]: one["holds"] for one in found["assertions"]} == {
        "--units 24": False,
        "--cells 2": True,
        "--finite": True,
    }
    (failed,) = [one for one in found["assertions"] if not one["holds"]]
    assert failed["problems"] == [f"--units 24: {SECOND}: units is 12, not 24"]
    assert shell.json("check", SUNSPOTS, "--finite")["holds"] is True


def test_several_paths(shell: Shell) -> None:
    good, bad = str(SAMPLES / "block_cell"), str(SAMPLES / "sunspots")
    assert shell("check", "-q", good, good, "--units", "8").code == 0
    assert len(shell("check", "-q", good, bad, "--units", "8", code=1).out.splitlines()) == 2
    done = shell("check", "-q", "/gone", bad, good, "--units", "8", code=4)
    assert len(done.out.splitlines()) == 2
    assert error(done).startswith("/gone: ")
    found = shell.json("check", "/gone", bad, good, "--units", "8", code=4)
    assert (found["kind"], found["holds"]) == ("batch", False)
    assert [one["holds"] for one in found["results"]] == [False, True]
    assert [one["path"] for one in found["failed"]] == ["/gone"]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        [SUNSPOTS],
        ["--finite"],
        [SUNSPOTS, "--units", "0"],
        [SUNSPOTS, "--units", "many"],
        [SUNSPOTS, "--layout", "sideways"],
        [SUNSPOTS, "--era", "2.0"],
        [SUNSPOTS, "--max-abs-m", "-1"],
        [SUNSPOTS, "--max-abs-m", "nan"],
    ],
)
def test_a_usage_error_exits_with_2(shell: Shell, arguments: list[str]) -> None:
    assert shell("check", *arguments, code=2).out == ""


def test_unusable_input_exits_with_3(shell: Shell, tmp_path: Path) -> None:
    half = tmp_path / "c.npy"
    flat = saved(tmp_path / "flat.npy", numbers(2, 8))
    assert shell("split", flat, "-o", half, tmp_path / "m.npy").code == 0
    for path, words in {
        "/gone": "there is no checkpoint or file of this name",
        str(half): "this is only the c of a cell",
        str(SAMPLES / "README.md"): "expected a state or a TensorFlow checkpoint, got a text file",
    }.items():
        done = shell("check", "-q", path, "--finite", code=3)
        assert done.out == ""
        assert error(done).startswith(f"{path}: {words}")
    assert shell("check", "-q", SUNSPOTS, "--units", "24", "--cell", "nope", code=3).out == ""
