"""`lstmstate state`: zeros and initial states of networks, in every layout and kind of file."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import SAMPLES, SUNSPOTS, Shell, checkpoint, error, lstm_cell, numbers
from states import same

from lstmstate import load_state, open_checkpoint
from lstmstate.state.layouts import LAYOUTS, to_arrays


@pytest.mark.parametrize("layout", ["tuple", "flat", "keras", "onnx", "tfjs"])
def test_zeros_of_a_stack(shell: Shell, tmp_path: Path, layout: str) -> None:
    target = tmp_path / "s.npz"
    done = shell(
        *("state", SUNSPOTS, "--zeros", "--batch", "3", "--to", layout, "-o", target), code=0
    )
    assert done.out.splitlines() == [str(target)]
    with open_checkpoint(SUNSPOTS) as ckpt:
        zeros = ckpt.network().zero_state(3)
    same(load_state(target), zeros)
    with np.load(target) as arrays:
        expected = to_arrays(LAYOUTS[layout], zeros)
        assert {name: arrays[name].shape for name in expected} == {
            name: array.shape for name, array in expected.items()
        }


def test_the_initial_state_in_the_graph(shell: Shell, tmp_path: Path) -> None:
    ckpt = SAMPLES / "peephole_flat"  # its initial state is a variable of 4 rows
    shell("state", ckpt, "--initial", "-o", tmp_path / "s.npz", code=0)
    with open_checkpoint(ckpt) as opened:
        same(load_state(tmp_path / "s.npz"), opened.network().initial_state())
    assert load_state(tmp_path / "s.npz").flat().any()
    done = shell("state", ckpt, "--initial", "--batch", "8", "-o", tmp_path / "t.npz", code=3)
    assert "the initial state in the graph has 4 rows, and the batch 8; pass that" in error(done)
    assert error(done).endswith(": --batch 4")
    assert not (tmp_path / "t.npz").exists()


def test_a_run_takes_the_state(shell: Shell, tmp_path: Path) -> None:
    x = tmp_path / "x.npy"
    np.save(x, np.random.default_rng(0).normal(size=(2, 5, 1)).astype(np.float32))
    shell("state", SUNSPOTS, "--zeros", "--batch", "2", "-o", tmp_path / "s.pt", code=0)
    options = ("--assume-defaults", "-q")
    shell("run", SUNSPOTS, x, "--zero-state", "-o", tmp_path / "a.npz", *options, code=0)
    started = ("--state", tmp_path / "s.pt")
    shell("run", SUNSPOTS, x, *started, "-o", tmp_path / "b.npz", *options, code=0)
    assert shell("diff", "--exact", tmp_path / "a.npz", tmp_path / "b.npz").code == 0


def test_the_document(shell: Shell, tmp_path: Path) -> None:
    document = shell.json("state", SUNSPOTS, "--zeros", "-o", tmp_path / "s.npz")
    (state,) = document["states"]
    assert [(cell["c"], cell["m"]) for cell in state["cells"]] == [(24, 24), (12, 12)]
    assert (state["lead"], state["to"]) == ([1], "tuple")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("", "pass one of --zeros and --initial"),
        ("--zeros --initial", "pass one of --zeros and --initial"),
        ("--zeros --steps 3", "--steps is for --initial"),
        ("--zeros --batch 0", "'0' is not a whole number from 1 to"),
        ("--zeros --to pytorch", "it cannot be 'pytorch'; did you mean torch?"),
    ],
)
def test_contradictions_are_refused(shell: Shell, tmp_path: Path, words: str, problem: str) -> None:
    done = shell("state", SUNSPOTS, *words.split(), "-o", tmp_path / "s.npz", code=2)
    assert problem in error(done)


def test_what_the_layout_or_the_graph_does_not_have(shell: Shell, tmp_path: Path) -> None:
    done = shell("state", SUNSPOTS, "--zeros", "--to", "torch", "-o", tmp_path / "s.npz", code=3)
    assert "needs cells as wide as each other" in error(done)
    old = SAMPLES / "tf_0_12_names"
    done = shell("state", old, "--initial", "-o", tmp_path / "s.npz", code=3)
    assert "the initial state is unknown" in error(done)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "sample", ["sunspots", "peephole_flat", "tf_0_12_names", "bidirectional", "saved_model"]
)
def test_zeros_need_no_weights(shell: Shell, tmp_path: Path, sample: str) -> None:
    """Names and shapes are in the index: the data file may be elsewhere."""
    shutil.copytree(SAMPLES / sample, tmp_path / sample)
    (data,) = (tmp_path / sample).rglob("*.data-*")
    data.unlink()
    made = ("--zeros", "--batch", "8", "-o")
    shell("state", tmp_path / sample, *made, tmp_path / "s.npz", code=0)
    shell("state", SAMPLES / sample, *made, tmp_path / "t.npz", code=0)
    same(load_state(tmp_path / "s.npz"), load_state(tmp_path / "t.npz"))
    assert not load_state(tmp_path / "s.npz").flat().any()


def test_one_of_several_networks_is_chosen(shell: Shell, tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "m.ckpt", lstm_cell("enc/lstm_cell") | lstm_cell("dec/lstm_cell"))
    done = shell("state", path, "--zeros", "-o", tmp_path / "s.npz", code=3)
    assert "choose one: --cell dec/lstm_cell, --cell enc/lstm_cell" in error(done)
    shell("state", path, "--zeros", "--cell", "enc", "-o", tmp_path / "s.npz", code=0)


def test_a_state_that_no_memory_holds_is_refused(shell: Shell, tmp_path: Path) -> None:
    made = ("--zeros", "--batch", str(10**12), "-o", tmp_path / "s.npz")
    done = shell("state", SUNSPOTS, *made, code=3)
    assert "a state of 288,000,000,000,000 bytes" in error(done)
    assert "pass fewer rows: --batch" in error(done)


@pytest.mark.parametrize("proj", [4, 6])
def test_torch_has_no_projection_to_as_many_units(shell: Shell, tmp_path: Path, proj: int) -> None:
    """The widths of a state do not show it, and the weights do."""
    values = {"kernel": (3 + proj, 16), "bias": (16,), "projection/kernel": (4, proj)}
    weights = {f"rnn/lstm_cell/{leaf}": numbers(*shape) for leaf, shape in values.items()}
    path = checkpoint(tmp_path / "m.ckpt", weights | {"saved_state": numbers(2, 4 + proj)})
    out = ("--to", "torch", "-o", tmp_path / "s.npz")
    for words in (("state", path, "--zeros"), ("convert", path)):
        done = shell(*words, *out, code=3)
        assert "to fewer units than it has" in error(done)
        assert "to tuple or flat" in error(done)
    assert shell("convert", path, "--to", "keras", "-o", tmp_path / "s.npz").code == 0


def test_torch_has_no_stack_of_each_direction(shell: Shell, tmp_path: Path) -> None:
    """Its layers read both directions of the one before: two MultiRNNCells are two states."""
    around = "bidirectional_rnn"
    cells = [f"{side}/multi_rnn_cell/cell_{layer}" for side in ("fw", "bw") for layer in (0, 1)]
    weights = {}
    for cell in cells:
        inputs = 3 if cell.endswith("0") else 4
        weights |= lstm_cell(f"{around}/{cell}/lstm_cell", inputs=inputs)
    path = checkpoint(tmp_path / "m.ckpt", weights)
    out = ("--to", "torch", "-o", tmp_path / "s.npz")
    done = shell("state", path, "--zeros", *out, code=3)
    assert "convert each direction by itself, or into another layout" in error(done)
    shell("state", path, "--zeros", "--stack", f"{around}/fw/multi_rnn_cell", *out, code=0)
