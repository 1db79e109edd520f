"""`lstmstate run` on the command line: inputs, outputs, states, notes, errors and exit codes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from commands import (
    FIRST,
    SAMPLES,
    SECOND,
    SUNSPOTS,
    Array,
    Shell,
    archive,
    checkpoint,
    error,
    lstm_cell,
    notes,
    numbers,
    saved,
)
from results import read

import lstmstate
from lstmstate import LSTMState

PEEPHOLE, BOTH = SAMPLES / "peephole_tuple", SAMPLES / "bidirectional"
CELL = "rnn/lstm_cell"


@pytest.fixture
def batch(tmp_path: Path) -> Path:
    """A batch of four sequences of nine steps, of width 3."""
    return saved(tmp_path / "x.npy", numbers(4, 9, 3))


def expected(ckpt: str | Path, x: Array, state: Any = None, **how: Any) -> dict[str, Array]:
    """Return the expected content of a file of results, from the Python API."""
    outputs, after = lstmstate.open_checkpoint(ckpt).network().run(x, state, **how)
    if isinstance(after, LSTMState):
        return {"outputs": outputs, "c": after.c, "m": after.m}
    halves = {
        f"{cell.cell}/{half}": v for cell in after for half, v in zip("cm", cell, strict=True)
    }
    return {"outputs": outputs} | halves


def same(found: dict[str, Array], other: dict[str, Array], atol: float = 1e-6) -> bool:
    """Whether results have the same arrays, up to rounding."""
    assert set(found) == set(other)
    for name, array in found.items():
        assert array.shape == other[name].shape, name
        assert array.dtype == other[name].dtype, name
    return all(np.allclose(found[name], other[name], rtol=0, atol=atol) for name in found)


# ---- outputs


@pytest.mark.parametrize("kind", ["npz", "h5"])
@pytest.mark.parametrize("ckpt", [PEEPHOLE, BOTH], ids=["cell", "stack"])
def test_outputs_and_the_last_state_are_in_one_file(
    shell: Shell, batch: Path, ckpt: Path, kind: str
) -> None:
    target = batch.with_name(f"y.{kind}")
    assert shell("run", "-q", ckpt, batch, "-o", target) == (0, f"{target}\n", "")
    assert same(read(target), expected(ckpt, np.load(batch)))


def test_that_file_is_a_state_to_continue_from_and_to_convert(shell: Shell, tmp_path: Path) -> None:
    x = numbers(12, 1)
    parts = [saved(tmp_path / f"{k}.npy", part) for k, part in enumerate((x[:7], x[7:]))]
    for ending in ("npz", "h5"):
        targets = [tmp_path / f"{k}.{ending}" for k in range(2)]
        assert shell("run", SUNSPOTS, parts[0], "--all-states", "-o", targets[0]).code == 0
        done = shell(
            "run", "-q", SUNSPOTS, parts[1], "--state", targets[0], "-o", targets[1], code=0
        )
        assert done.err == ""
        whole = expected(SUNSPOTS, x)
        found = read(targets[1])
        assert same(found, whole | {"outputs": whole["outputs"][7:]})
        flat = tmp_path / f"flat.{ending}.npy"
        assert shell("convert", "-q", targets[1], "--to-flat", "-o", flat).code == 0
        columns = [found[f"{cell}/{half}"] for cell in (FIRST, SECOND) for half in "cm"]
        np.testing.assert_array_equal(np.load(flat), np.hstack(columns))
    described = shell.json("inspect", targets[1])["state"]
    assert [cell["name"] for cell in described["cells"]] == [FIRST, SECOND]


def test_an_npy_has_the_outputs_only_with_a_note(shell: Shell, batch: Path) -> None:
    target, state = batch.with_name("y.npy"), batch.with_name("state.npz")
    done = shell("run", PEEPHOLE, batch, "-o", target)
    assert f"{target} has the outputs only; --state-out writes the state" in notes(done)
    whole = expected(PEEPHOLE, np.load(batch))
    np.testing.assert_allclose(np.load(target), whole["outputs"], atol=1e-6)
    done = shell("run", PEEPHOLE, batch, "-o", target, "--state-out", state, "--force")
    assert "outputs only" not in done.err
    assert same({"outputs": np.load(target)} | read(state), whole)
    done = shell("run", PEEPHOLE, batch, "--trace", "-o", target, "--force", code=3)
    assert "an .npy has the outputs only" in error(done)
    assert shell("run", PEEPHOLE, batch, "--compress", "-o", target, "--force").code == 3


@pytest.mark.parametrize("layout", ["tuple", "flat", "layered", "keras", "torch", "stacked"])
def test_the_last_state_in_any_layout_is_an_initial_state(
    shell: Shell, tmp_path: Path, layout: str
) -> None:
    ckpt = checkpoint(tmp_path / "x.ckpt", lstm_cell())
    x = saved(tmp_path / "x.npy", numbers(2, 5, 3))
    kinds = {"flat": ("npy", "csv"), "tuple": ("csv",), "keras": ("csv",)}
    for ending in ("npz", "h5", *kinds.get(layout, ())):
        state = tmp_path / f"{layout}.{ending}"
        done = shell("run", "-q", ckpt, x, "--state-out", state, "--state-layout", layout, code=0)
        assert done.err == ""
        target = tmp_path / f"{layout}.{ending}.npz"
        done = shell("run", "-q", ckpt, x, "--state", state, "-o", target, code=0)
        assert done.err == ""
        with pytest.warns(UserWarning, match="defaults are used"):
            after = lstmstate.open_checkpoint(ckpt).network().run(np.load(x))[1]
            assert same(read(target), expected(ckpt, np.load(x), after))


def test_a_state_saved_in_a_checkpoint_is_an_initial_state(shell: Shell, tmp_path: Path) -> None:
    """`saved_state` is the state after the last year, from zeros."""
    years = SAMPLES / "sunspots" / "sunspots.csv"
    shell("run", "-q", SUNSPOTS, f"{years}:input", "--state-out", tmp_path / "last.npz", code=0)
    assert shell("diff", tmp_path / "last.npz", SUNSPOTS, "--atol", "1e-6").code == 0
    x = saved(tmp_path / "x.npy", numbers(5, 1))
    targets = [tmp_path / f"{k}.npz" for k in range(3)]
    for target, state in zip(targets, (SUNSPOTS, f"{SUNSPOTS}:saved_state", None), strict=True):
        options = ["--state", state] if state else ["--zero-state"]
        assert shell("run", "-q", SUNSPOTS, x, *options, "-o", target).code == 0
    assert targets[0].read_bytes() == targets[1].read_bytes()
    assert not same(read(targets[0]), read(targets[2]), 1e-3)


@pytest.mark.parametrize("single", [True, False])
def test_states_and_gates_of_every_step(shell: Shell, tmp_path: Path, single: bool) -> None:
    x = numbers(2, 6, 3)
    path = saved(tmp_path / "x.npy", x[0] if single else x)
    target = tmp_path / "y.npz"
    assert shell("run", PEEPHOLE, path, "--trace", "--forget-bias", "0.5", "-o", target).code == 0
    found = read(target)
    assert list(found) == ["outputs", *(f"{k}_steps" for k in "cmijfo"), "c", "m"]
    lead = (6,) if single else (2, 6)
    for name, width in (("c", 8), ("m", 5), *((gate, 8) for gate in "ijfo")):
        assert found[f"{name}_steps"].shape == (*lead, width)
    np.testing.assert_array_equal(found["m_steps"], found["outputs"])
    np.testing.assert_array_equal(
        found["c_steps"][..., -1, :], found["c"][0] if single else found["c"]
    )
    before = np.zeros((*lead, 8), "f4")
    before[..., 1:, :] = found["c_steps"][..., :-1, :]
    new = found["f_steps"] * before + found["i_steps"] * found["j_steps"]
    np.testing.assert_allclose(np.clip(new, -0.75, 0.75), found["c_steps"], atol=1e-6)
    assert shell("run", PEEPHOLE, path, "--all-states", "-o", target, "--force").code == 0
    assert list(read(target)) == ["outputs", "c_steps", "m_steps", "c", "m"]
    assert shell("run", BOTH, path, "--all-states", "-o", target, "--force").code == 0
    names = [f"bidirectional_rnn/{side}/lstm_cell/{k}_steps" for side in ("fw", "bw") for k in "cm"]
    assert list(read(target))[1:5] == names


def test_the_same_input_gives_the_same_bytes(shell: Shell, batch: Path) -> None:
    for ending in ("npz", "h5", "npy"):
        targets = [batch.with_name(f"{k}.{ending}") for k in range(2)]
        for target in targets:
            assert shell("run", PEEPHOLE, batch, "-o", target).code == 0
        assert targets[0].read_bytes() == targets[1].read_bytes()


# ---- inputs


def test_any_file_of_sequences_is_an_input(shell: Shell, tmp_path: Path) -> None:
    x = numbers(6, 3).astype("f8").round(3)
    (tmp_path / "x.csv").write_text("a,b,c,d\n" + "".join(f"9,{a},{b},{c}\n" for a, b, c in x))
    (tmp_path / "x.tsv").write_text("".join(f"{a}\t{b}\t{c}\n" for a, b, c in x))
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["deep/x"], file["y"] = x, x
    saved(tmp_path / "x.npy", x)
    archive(tmp_path / "x.npz", x=x, y=x)
    for number, name in enumerate(("x.npy", "x.npz:x", "x.h5:/deep/x", "x.csv:b,c,d", "x.tsv")):
        target = tmp_path / f"{number}.npz"
        assert shell("run", PEEPHOLE, tmp_path / name, "-o", target).code == 0, name
        assert same(read(target), expected(PEEPHOLE, x)), name


def test_time_major_changes_the_axes_of_all_that_has_steps(shell: Shell, batch: Path) -> None:
    x = np.load(batch)
    turned = saved(batch.with_name("t.npy"), np.ascontiguousarray(x.swapaxes(0, 1)))
    plain, other = batch.with_name("plain.npz"), batch.with_name("other.npz")
    assert shell("run", PEEPHOLE, batch, "--all-states", "-o", plain).code == 0
    assert shell("run", PEEPHOLE, turned, "--time-major", "--all-states", "-o", other).code == 0
    back = {k: v.swapaxes(0, 1) if v.ndim == 3 else v for k, v in read(other).items()}
    assert same(back, read(plain), 0)


@pytest.mark.parametrize("ckpt", [PEEPHOLE, BOTH], ids=["cell", "both ways"])
def test_lengths_from_a_file_or_an_array_next_to_the_input(
    shell: Shell, batch: Path, ckpt: Path
) -> None:
    lengths = np.array([9, 1, 0, 5])
    both = archive(batch.with_name("both.npz"), x=np.load(batch), len=lengths)
    alone = saved(batch.with_name("len.npy"), lengths)
    want = expected(ckpt, np.load(batch), lengths=lengths)
    for number, (x, given) in enumerate(((batch, alone), (f"{both}:x", "len"))):
        target = batch.with_name(f"{number}.npz")
        assert shell("run", "-q", ckpt, x, "--lengths", given, "-o", target).code == 0
        assert same(read(target), want)
    document = shell.json("run", ckpt, batch, "--lengths", alone)
    assert (document["steps"], document["valid_steps"]) == (9, 15)
    assert (
        "4 sequences of 9 steps, 15 of them valid,"
        in shell("run", ckpt, batch, "--lengths", alone).out
    )


# ---- notes, tables and JSON


def test_the_document_has_shapes_statistics_time_and_option_sources(
    shell: Shell, batch: Path
) -> None:
    document = shell.json("run", PEEPHOLE, batch, "--cell-clip", "none", "--engine", "numpy")
    assert document["schema"] == "lstmstate.run/1"
    assert (document["network"], document["engine"], document["input"]) == (
        CELL,
        "numpy",
        str(batch),
    )
    assert (document["batch"], document["steps"], document["valid_steps"]) == (4, 9, 36)
    (cell,) = document["cells"]
    assert cell["forget_bias"] == {"value": 0.5, "source": "graph"}
    assert cell["cell_clip"] == {"value": None, "source": "option"}
    whole = expected(PEEPHOLE, np.load(batch), cell_clip=None)
    outputs, (state,) = document["outputs"], document["state"]
    assert (outputs["shape"], outputs["dtype"], outputs["not_finite"]) == ([4, 9, 5], "float32", 0)
    for entry, values in ((outputs, "outputs"), (state["c"], "c"), (state["m"], "m")):
        assert entry["shape"] == list(whole[values].shape)
        for name in ("min", "max", "mean", "std"):
            assert entry[name] == pytest.approx(getattr(whole[values], name)(), abs=1e-6)
    assert state["cell"] == CELL
    assert document["seconds"] > 0
    assert document["steps_per_second"] > 0
    assert (document["output"], document["state_output"]) == (None, None)
    assert document["initial_state"] == {"source": "zero", "path": None}


def test_the_document_lists_the_outputs(shell: Shell, batch: Path) -> None:
    target, last = batch.with_name("y.h5"), batch.with_name("last.npz")
    document = shell.json("run", PEEPHOLE, batch, "-o", target, "--state-out", last)
    assert (document["output"], document["state_output"]) == (str(target), str(last))
    document = shell.json("run", PEEPHOLE, batch, "--state", last)
    assert document["initial_state"] == {"source": "file", "path": str(last)}


def test_without_an_output_tables_are_printed(shell: Shell, batch: Path) -> None:
    done = shell("run", PEEPHOLE, batch)
    lines = done.out.splitlines()
    assert (done.code, lines[0]) == (0, str(batch))
    assert lines[1] == f"4 sequences of 9 steps through 1 cell of {PEEPHOLE}/model.ckpt"
    assert "  1  rnn/lstm_cell  LSTMCell          0.5       0.75       0.25  tanh" in lines
    assert [line.split()[:5] for line in lines[-3:]] == [
        ["outputs", "[4,", "9,", "5]", "-0.25"],
        ["1", "c", "[4,", "8]", "-0.75"],
        ["1", "m", "[4,", "5]", lines[-1].split()[4]],
    ]


def test_unknown_options_are_noted_and_are_errors_if_strict(shell: Shell, batch: Path) -> None:
    bare = checkpoint(batch.with_name("bare.ckpt"), lstm_cell("rnn/basic_lstm_cell"))
    note = (
        "rnn/basic_lstm_cell: the files do not record all of its options, and defaults are used: "
        "forget_bias 1, activation tanh"
    )
    done = shell("run", bare, batch, code=0)
    assert note in notes(done)
    assert "  * not in the files; the documented default" in done.out
    done = shell("run", bare, batch, "--strict", code=3)
    assert done.out == ""
    assert error(done).startswith(f"{note}; pass the options, or leave")
    done = shell(
        "run", bare, batch, "--strict", "--forget-bias", "0", "--activation", "tanh", code=0
    )
    assert "default" not in done.out
    assert (
        "widths of this flat state are unknown" not in shell("run", PEEPHOLE, batch, "--strict").err
    )


def test_a_flag_that_contradicts_the_graph_is_used_with_a_note(shell: Shell, batch: Path) -> None:
    done = shell("run", PEEPHOLE, batch, "--forget-bias", "1", "--proj-clip", "none")
    assert notes(done)[:2] == [
        f"{CELL}: --forget-bias 1 is used, and the graph has 0.5",
        f"{CELL}: --proj-clip none is used, and the graph has 0.25",
    ]
    assert "says" not in shell("run", PEEPHOLE, batch, "--forget-bias", "0.5").err


def test_quiet_prints_only_the_answer(shell: Shell, batch: Path) -> None:
    target = batch.with_name("y.npy")
    done = shell("run", "-q", PEEPHOLE, batch, "--forget-bias", "3", "--no-checksums", "-o", target)
    assert done == (0, f"{target}\n", "")


# ---- choice of cells


def test_an_ambiguous_choice_lists_the_cells(shell: Shell, tmp_path: Path) -> None:
    several = lstm_cell("decoder/lstm_cell") | lstm_cell("encoder/lstm_cell")
    ckpt = checkpoint(tmp_path / "x.ckpt", several)
    x = saved(tmp_path / "x.npy", numbers(5, 3))
    done = shell("run", ckpt, x, code=3)
    assert done.out == ""
    assert error(done) == (
        f"{ckpt}: 2 cells or stacks can be run; choose one: --cell decoder/lstm_cell, "
        "--cell encoder/lstm_cell"
    )
    assert shell.json("run", ckpt, x, "--cell", "decoder")["network"] == "decoder/lstm_cell"
    assert shell("run", ckpt, x, "--cell", "lstm_cell").code == 3
    assert shell("run", ckpt, x, "--stack", "decoder").code == 3
    document = shell.json("run", BOTH, x, "--cell", "bw")
    assert document["outputs"]["shape"] == [5, 6]


def test_a_cell_in_the_root_scope_can_be_chosen(shell: Shell, tmp_path: Path) -> None:
    variables = {"kernel": numbers(6, 16), "bias": numbers(16), "projection/kernel": numbers(4, 3)}
    ckpt = checkpoint(tmp_path / "x.ckpt", variables)
    x = saved(tmp_path / "x.npy", numbers(5, 3))
    for options in ([], ["--cell", "/"], ["--cell", ""]):
        target = tmp_path / f"{len(options)}{options[-1:] == ['/']}.h5"
        assert shell("run", "-q", ckpt, x, *options, "-o", target).code == 0
        assert sorted(read(target)) == ["c", "m", "outputs"]
    assert "(root scope)" in shell("run", ckpt, x).out


def test_a_checkpoint_copied_without_its_graph_uses_defaults(shell: Shell, tmp_path: Path) -> None:
    shutil.copytree(PEEPHOLE, tmp_path / "run")
    (tmp_path / "run" / "model.ckpt.meta").unlink()
    x = saved(tmp_path / "x.npy", numbers(5, 3))
    plain = shell.json("run", tmp_path / "run", x)["cells"][0]
    assert plain["forget_bias"] == {"value": 1.0, "source": "default"}
    assert json.dumps(plain["cell_clip"]) == '{"value": null, "source": "default"}'


def test_strict_refuses_assumed_options_and_not_passed_ones(shell: Shell, batch: Path) -> None:
    done = shell("run", PEEPHOLE, batch, "--strict", "--forget-bias", "1", "--zero-state", code=0)
    assert f"{CELL}: --forget-bias 1 is used, and the graph has 0.5" in notes(done)


def test_the_state_of_another_cell_is_noted(shell: Shell, tmp_path: Path) -> None:
    """As an encoder passes it to a decoder."""
    ckpt = checkpoint(
        tmp_path / "x.ckpt", lstm_cell("encoder/a_lstm") | lstm_cell("decoder/b_lstm")
    )
    x, state = saved(tmp_path / "x.npy", numbers(5, 3)), tmp_path / "state.npz"
    assert shell("run", ckpt, x, "--cell", "encoder", "-o", state).code == 0
    done = shell("run", ckpt, x, "--cell", "decoder", "--state", state)
    note = f"{state}: the state is that of encoder/a_lstm, and is used for decoder/b_lstm"
    assert (done.code, note in notes(done)) == (0, True)
    assert "is used for" not in shell("run", ckpt, x, "--cell", "encoder", "--state", state).err
