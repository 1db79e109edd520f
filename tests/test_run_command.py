"""`lstmstate run` on the command line: one checkpoint, and a batch."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import h5py
import numpy as np
import pytest
from commands import (
    FIRST,
    LSTMSTATE,
    PROJECT,
    SAMPLES,
    SECOND,
    SUNSPOTS,
    Array,
    Shell,
    archive,
    checkpoint,
    error,
    errors,
    lstm_cell,
    notes,
    numbers,
    piped,
    saved,
)
from graphs import evaluated
from results import read

import lstmstate
from lstmstate import LSTMState
from lstmstate.operations import run

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


@pytest.mark.parametrize("ending", ["npy", "pt", "safetensors"])
def test_a_kind_of_file_that_is_never_compressed_is_refused(
    shell: Shell, batch: Path, ending: str
) -> None:
    target = batch.with_name(f"y.{ending}")
    done = shell("run", PEEPHOLE, batch, "--compress", "-o", target, code=3)
    assert error(done).endswith(f"{target}: only .npz and .h5 are compressed")
    assert not target.exists()


def test_the_last_state_is_compressed_like_the_outputs(shell: Shell, batch: Path) -> None:
    target, state = batch.with_name("y.npz"), batch.with_name("state.npz")
    shell("run", PEEPHOLE, batch, "--compress", "-o", target, "--state-out", state, code=0)
    for path in (target, state):
        assert {member.compress_type for member in ZipFile(path).infolist()} == {ZIP_DEFLATED}


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


# ---- several inputs of one run: a file for each, in order, also after one fails


TUPLE = SAMPLES / "peephole_tuple"


@pytest.fixture
def three(tmp_path: Path) -> list[Path]:
    """Three sequences of the peephole cell, of 5, 6 and 7 steps."""
    return [saved(tmp_path / f"{k}.npy", numbers(5 + k, 3, seed=k)) for k in range(3)]


# ---- paths of outputs


def test_each_input_has_its_file_progress_line_and_zero_state(
    shell: Shell, three: list[Path]
) -> None:
    folder = three[0].parent / "new" / "out"
    done = shell("run", TUPLE, *three, "--out-dir", folder)
    targets = [folder / f"{k}.npz" for k in range(3)]
    assert (done.code, done.out.splitlines()) == (0, [str(target) for target in targets])
    start, *progress = notes(done)
    assert start.startswith("the graph starts from a state of its own (c_state, m_state)")
    for number, (path, line) in enumerate(zip(three, progress, strict=True), 1):
        assert line.startswith(f"{number} of 3: {path}: {number + 4} steps")
    cell = lstmstate.open_checkpoint(TUPLE).network()
    for path, target in zip(three, targets, strict=True):
        outputs, state = cell.run(np.load(path))
        assert np.array_equal(read(target)["outputs"], outputs)
        assert np.array_equal(read(target)["c"], state.c)
        alone = path.with_name("alone.npz")
        assert shell("run", TUPLE, path, "-o", alone, "--force").code == 0
        assert alone.read_bytes() == target.read_bytes()


def test_arrays_columns_and_suffixes_are_part_of_the_names(shell: Shell, tmp_path: Path) -> None:
    x = numbers(4, 1).astype("f8")
    (tmp_path / "t.tsv").write_text("a\tb\n1\t2\n3\t4\n")
    archive(tmp_path / "z.npz", x=x, y=x)
    with h5py.File(tmp_path / "h.h5", "w") as file:
        file["deep/er"] = x
    (tmp_path / "last.flat.csv").write_text("1\n2\n")
    inputs = ["t.tsv:b", "z.npz:x", "z.npz:y", "h.h5:/deep/er", "last.flat.csv"]
    for kind in ("h5", "npy"):
        options = ["--out-dir", tmp_path / kind, "--format", kind]
        done = shell("run", "-q", SUNSPOTS, *(tmp_path / name for name in inputs), *options, code=0)
        assert done.err == ""
        names = ["t.b", "z.x", "z.y", "h.deep_er", "last"]
        assert done.out.splitlines() == [str(tmp_path / kind / f"{n}.{kind}") for n in names]


def test_one_input_and_stdin_may_be_written_to_a_folder(shell: Shell, three: list[Path]) -> None:
    folder = three[0].parent / "out"
    assert shell("run", TUPLE, three[0], "--out-dir", folder).code == 0
    done = piped("run", "-q", TUPLE, "-", three[1], "--out-dir", folder, stdin=three[0])
    assert (done.returncode, done.stderr) == (0, b"")
    assert sorted(os.listdir(folder)) == ["0.npz", "1.npz", "stdin.npz"]
    assert (folder / "0.npz").read_bytes() == (folder / "stdin.npz").read_bytes()


def test_two_inputs_with_one_output_are_refused_before_writing(
    shell: Shell, three: list[Path]
) -> None:
    (three[0].parent / "b").mkdir()
    other = saved(three[0].parent / "b" / "0.npy", numbers(3, 3))
    folder = three[0].parent / "out"
    done = shell("run", "-q", TUPLE, *three, other, "--out-dir", folder, code=2)
    assert not folder.exists()
    assert f"{three[0]} and {other} would have one output, {folder / '0.npz'}" in done.err


def test_without_a_folder_each_input_has_a_table(shell: Shell, three: list[Path]) -> None:
    done = shell("run", "-q", TUPLE, *three, code=0)
    assert done.err == ""
    assert done.out.count("Outputs, and the state after the last step") == 3
    assert done.out.split("\n\n")[0].startswith(str(three[0]))
    assert f"\n\n{three[1]}\n" in done.out


def test_one_document_describes_all_inputs(shell: Shell, three: list[Path]) -> None:
    bad = saved(three[0].parent / "bad.npy", numbers(4, 2))
    inputs = [three[0], bad, three[1]]
    document = shell.json("run", TUPLE, *inputs, code=4)
    assert (document["schema"], document["kind"]) == ("lstmstate.run/1", "batch")
    assert [one["input"] for one in document["results"]] == [str(three[0]), str(three[1])]
    (failed,) = document["failed"]
    assert failed["path"] == str(bad)
    assert failed["error"].startswith(f"{bad}: its shape is [4, 2], and rnn/lstm_cell takes ")


def test_a_closed_pipe_does_not_stop_the_runs(three: list[Path]) -> None:
    folder = three[0].parent / "out"
    paths = " ".join(map(str, three))
    script = f"{' '.join(LSTMSTATE)} run -q {PEEPHOLE} {paths} --out-dir {folder} | true"
    done = subprocess.run(["sh", "-c", script], capture_output=True, cwd=PROJECT, check=True)
    assert done.stderr == b""
    assert sorted(os.listdir(folder)) == ["0.npz", "1.npz", "2.npz"]


# ---- the state for each


@pytest.mark.parametrize("carry", [False, True])
def test_a_state_passes_to_the_next_input_only_if_carried(
    shell: Shell, three: list[Path], carry: bool
) -> None:
    first = archive(three[0].parent / "first.npz", c=numbers(1, 8), m=numbers(1, 5) / 4)
    folder = three[0].parent / "out"
    options = ["--carry-state"] if carry else []
    document = shell.json("run", TUPLE, *three, "--state", first, "--out-dir", folder, *options)
    sources = [one["initial_state"]["source"] for one in document["results"]]
    assert sources == (["file", "carried", "carried"] if carry else ["file"] * 3)
    cell = lstmstate.open_checkpoint(TUPLE).network()
    begin = state = lstmstate.load_state(first)
    for k, path in enumerate(three):
        outputs, state = cell.run(np.load(path), state if carry else begin)
        assert np.array_equal(read(folder / f"{k}.npz")["outputs"], outputs)
        assert np.array_equal(read(folder / f"{k}.npz")["m"], state.m)


def test_carried_parts_of_a_sequence_equal_the_whole(shell: Shell, tmp_path: Path) -> None:
    x = numbers(2, 20, 1)
    parts = [saved(tmp_path / f"{k}.npy", x[:, a:b]) for k, (a, b) in enumerate(((0, 9), (9, 20)))]
    whole, last = tmp_path / "whole.npz", tmp_path / "last.npz"
    assert shell("run", SUNSPOTS, saved(tmp_path / "x.npy", x), "-o", whole).code == 0
    done = shell("run", "-q", SUNSPOTS, *parts, "--carry-state", "--state-out", last, code=0)
    assert done.err == ""
    found, expected = read(last), read(whole)
    assert np.allclose(found[f"{FIRST}/c"], expected[f"{FIRST}/c"], rtol=0, atol=1e-6)
    done = shell("run", SUNSPOTS, *parts, "--state-out", last, code=2)
    assert "--state-out with several inputs needs --carry-state" in done.err


# ---- failures


def test_a_failing_input_is_named_and_the_others_continue(shell: Shell, three: list[Path]) -> None:
    folder = three[0].parent
    x = numbers(2, 6, 3)
    x[1, 4, 2] = np.nan
    text = folder / "text.csv"
    text.write_text("1,2,3\n4,x,6\n")
    bad = [folder / "gone.npy", saved(folder / "nan.npy", x), text, folder / "cut.npy"]
    bad[3].write_bytes(three[0].read_bytes()[:-3])
    done = shell("run", TUPLE, three[0], *bad, three[1], "--out-dir", folder / "out", code=4)
    messages = errors(done)
    assert [line.split(": ")[0] for line in messages] == [str(path) for path in bad]
    assert messages[0] == f"{bad[0]}: there is no such file; check the path"
    assert "there is NaN at step 4, batch row 1, column 2" in messages[1]
    assert sorted(os.listdir(folder / "out")) == ["0.npz", "1.npz"]
    assert [line[:6] for line in notes(done)[1:]] == ["1 of 6", "6 of 6"]


def test_all_may_fail(shell: Shell, three: list[Path]) -> None:
    done = shell("run", SUNSPOTS, *three, "--out-dir", three[0].parent / "out")
    assert (done.code, done.out, len(errors(done))) == (4, "", 3)
    assert os.listdir(three[0].parent / "out") == []


def test_existing_outputs_are_kept_and_the_others_written(shell: Shell, three: list[Path]) -> None:
    folder = three[0].parent / "out"
    folder.mkdir()
    (folder / "1.npz").write_bytes(b"old")
    done = shell("run", TUPLE, *three, "--out-dir", folder, code=4)
    assert (folder / "1.npz").read_bytes() == b"old"
    assert errors(done) == [
        f"{folder / '1.npz'}: this file exists already; pass --force to replace it"
    ]
    assert shell("run", TUPLE, *three, "--out-dir", folder, "--force").code == 0
    assert len(read(folder / "1.npz")) == 3


def test_inputs_in_the_output_folder_are_not_overwritten(shell: Shell, tmp_path: Path) -> None:
    inputs = [archive(tmp_path / f"{k}.npz", x=numbers(4, 3)) for k in range(2)]
    before = [path.read_bytes() for path in inputs]
    done = shell("run", TUPLE, *inputs, "--out-dir", tmp_path, "--force", code=4)
    assert len(errors(done)) == 2
    assert "this is the input, which is never written over" in done.err
    assert [path.read_bytes() for path in inputs] == before


def test_a_carried_state_of_another_batch_size_names_the_input(
    shell: Shell, three: list[Path]
) -> None:
    """The input that would have continued from its last state is not run."""
    four = saved(three[0].parent / "four.npy", numbers(4, 6, 3))
    two = saved(three[0].parent / "two.npy", numbers(2, 6, 3))
    folder = three[0].parent / "out"
    done = shell("run", TUPLE, four, two, four, "--carry-state", code=4)
    messages = errors(done)
    assert messages == [
        f"{two}: rnn/lstm_cell: the state is that of a batch of 4, and the input has a batch of "
        "2; give a state of this batch, or of one for all of it",
        f"{four}: not run: the input before it failed",
    ]
    last = folder / "last.npz"
    options = ["--carry-state", "--out-dir", folder, "--state-out", last]
    assert shell("run", TUPLE, four, three[0], two, *options).code == 4
    assert os.listdir(folder) == ["four.npz"]


def test_lengths_that_fit_one_input_and_not_the_other(shell: Shell, tmp_path: Path) -> None:
    good = archive(tmp_path / "good.npz", x=numbers(2, 6, 3), len=np.array([6, 2]))
    bad = archive(tmp_path / "bad.npz", x=numbers(2, 6, 3), len=np.array([7, 2]))
    inputs = [f"{good}:x", f"{bad}:x"]
    done = shell("run", TUPLE, *inputs, "--lengths", "len", "--out-dir", tmp_path / "out", code=4)
    assert os.listdir(tmp_path / "out") == ["good.x.npz"]
    assert errors(done)[0].startswith(f"{bad}: len: the length of batch row 0")


def test_an_input_too_large_for_the_memory_does_not_stop_the_others(
    shell: Shell, three: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = run.run_input

    def short(
        loaded: object, given: run.Sequences, *arguments: object, **how: object
    ) -> run.RunResult:
        if given.steps == 6:
            raise MemoryError
        return real(loaded, given, *arguments, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(run, "run_input", short)
    folder = three[0].parent / "out"
    done = shell("run", TUPLE, *three, "--out-dir", folder, code=4)
    assert sorted(os.listdir(folder)) == ["0.npz", "2.npz"]
    assert errors(done) == [f"{three[1]}: there is not enough memory for this"]
    assert shell("run", TUPLE, three[1], "-o", folder / "1.npz").code == 3


def test_the_model_is_read_once_and_before_any_input(
    shell: Shell, three: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = []
    real = lstmstate.Variable.read
    monkeypatch.setattr(
        lstmstate.Variable, "read", lambda self: (names.append(self.name), real(self))[1]
    )
    assert shell("run", TUPLE, *three).code == 0
    # Kernel, bias, projection, three peepholes; the graph starts from c_state and m_state, small
    # variables, which are also classified as states.
    weights = [name for name in names if name not in ("c_state", "m_state")]
    assert len(weights) == len(set(weights)) == 6
    gone = [three[0].parent / "gone.npy"] * 2
    done = shell("run", SAMPLES / "nothing", *gone, code=3)
    assert len(errors(done)) == 1
    assert "gone" not in done.err


@pytest.mark.covering(1)
@pytest.mark.parametrize("ending", ["npz", "h5", "npy"])
@pytest.mark.parametrize("flags", [[], ["--time-major"], ["--lengths", "len"]])
def test_parts_along_time_give_the_same_file(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, flags: list[str]
) -> None:
    x, lengths = numbers(3, 50, 1), np.array([50, 0, 17])
    x = x.swapaxes(0, 1) if flags == ["--time-major"] else x
    source = archive(tmp_path / "x.npz", x=np.ascontiguousarray(x), len=lengths)
    more = ["--all-states"] if ending != "npy" else []
    targets = [tmp_path / f"{k}.{ending}" for k in range(2)]
    for target, at_once in zip(targets, (1 << 23, 1 << 12), strict=True):
        monkeypatch.setattr(run, "_AT_ONCE_BYTES", at_once)
        shell("run", SUNSPOTS, f"{source}:x", *flags, *more, "-o", target, code=0)
    found, expected = map(read, targets)
    assert list(found) == list(expected)
    for name, array in found.items():
        assert np.allclose(array, expected[name], rtol=0, atol=1e-6), name


@pytest.mark.parametrize("command", ["run --engine graph", "verify --against graph"])
def test_an_input_of_more_steps_than_the_graph_is_named(
    shell: Shell, three: list[Path], command: str
) -> None:
    def build(tf: Any) -> tuple[list[Any], dict[Any, Any]]:
        x, cell = tf.placeholder(tf.float32, [1, 6, 3], "x"), tf.nn.rnn_cell.LSTMCell(4)
        outputs, _ = tf.nn.static_rnn(cell, tf.unstack(x, axis=1), dtype=tf.float32)
        return outputs, {x: numbers(1, 6, 3)}

    prefix, _ = evaluated(three[0].parent, build)
    name, *flags = command.split()
    done = shell(name, prefix, *three, *flags)
    problem = "x: expected steps 6, which the graph is built for, got"
    assert errors(done) == [f"{three[0]}: {problem} 5", f"{three[2]}: {problem} 7"]
