"""States bound to cells by name, and one order of cells in all lists and files."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Shell, checkpoint, error, lstm_cell, notes, numbers
from conftest import SHARED

from lstmstate import (
    LSTMState,
    LstmstateError,
    StackState,
    load_state,
    open_checkpoint,
    save_state,
)
from lstmstate.state.bind_names import bind

Array = Any

BOTH = "bidirectional_rnn"
APART = [
    f"{BOTH}/{side}/multi_rnn_cell/cell_{k}/lstm_cell" for side in ("fw", "bw") for k in (0, 1)
]
LAYERS = [
    f"stack_bidirectional_rnn/cell_{k}/{BOTH}/{side}/lstm_cell"
    for k in (0, 1)
    for side in ("fw", "bw")
]
UNITS = INPUTS = 4
KNOWN: dict[str, Any] = {"forget_bias": 1.0, "cell_clip": None, "activation": "tanh"}
BARE = {**KNOWN, "assume_defaults": True}  # of a stack without a graph


def saved(folder: Path, names: list[str], first: int = INPUTS) -> str:
    """Write a checkpoint of cells of equal widths; return its prefix."""
    values: dict[str, Array] = {}
    for number, name in enumerate(names):
        is_first = "cell_0" in name
        inputs = INPUTS if is_first else first
        values |= lstm_cell(name, UNITS, inputs, seed=10 * number)
    return checkpoint(folder / "model.ckpt", values)


def two_stacks(folder: Path) -> str:
    """Write the variables of a bidirectional_dynamic_rnn over two MultiRNNCells."""
    return saved(folder, APART)


def layers_of_both(folder: Path) -> str:
    """Write the variables of stack_bidirectional_dynamic_rnn: each layer reads both directions."""
    return saved(folder, LAYERS, 2 * UNITS)


def halves(names: list[str]) -> dict[str, Array]:
    """Return c and m of each cell, all different."""
    return {
        f"{name}/{half}": numbers(2, UNITS, seed=number)
        for number, (name, half) in enumerate((name, half) for name in names for half in "cm")
    }


def archive(path: Path, values: dict[str, Array]) -> Path:
    np.savez(path, **values)  # type: ignore[arg-type]
    return path


# ---- binding by name


@pytest.mark.parametrize("order", [*permutations(range(4))])
def test_cells_of_equal_widths_take_the_state_of_their_name(
    tmp_path: Path, shell: Shell, order: tuple[int, ...]
) -> None:
    """The run does not depend on the order of the arrays."""
    prefix, values = two_stacks(tmp_path), halves(APART)
    np.save(tmp_path / "x.npy", numbers(2, 3, INPUTS, seed=99))
    found = []
    for name, names in (("in_order", APART), ("other", [APART[k] for k in order])):
        here = {f"{cell}/{half}": values[f"{cell}/{half}"] for cell in names for half in "cm"}
        state = archive(tmp_path / f"{name}.npz", here)
        target = tmp_path / f"{name}.out.npz"
        shell(
            "run",
            prefix,
            "--assume-defaults",
            tmp_path / "x.npy",
            "--state",
            state,
            "-o",
            target,
            code=0,
        )
        found.append(dict(np.load(target)))
    assert all(np.array_equal(found[0][key], found[1][key]) for key in found[0])


def test_layers_that_may_be_residual_run_when_defaults_are_accepted(
    tmp_path: Path, shell: Shell
) -> None:
    """Without a graph no variable shows whether a ResidualWrapper surrounds a layer."""
    narrow = checkpoint(
        tmp_path / "narrow.ckpt",
        lstm_cell("rnn/multi_rnn_cell/cell_0/lstm_cell", UNITS + 1, INPUTS)
        | lstm_cell("rnn/multi_rnn_cell/cell_1/lstm_cell", UNITS, UNITS + 1),
    )
    np.save(tmp_path / "x.npy", numbers(2, 3, INPUTS, seed=99))
    assert shell("run", narrow, tmp_path / "x.npy", "-o", tmp_path / "y.npz").code == 0
    done = shell("run", two_stacks(tmp_path), tmp_path / "x.npy", code=3)
    assert "do not record its residual" in error(done)
    assert "--assume-defaults" in error(done)


def test_a_state_in_another_order_would_give_other_values(tmp_path: Path, shell: Shell) -> None:
    prefix, values = two_stacks(tmp_path), halves(APART)
    np.save(tmp_path / "x.npy", numbers(2, 3, INPUTS, seed=99))
    found = []
    for names in (APART, [APART[k] for k in (0, 2, 1, 3)]):
        here = dict(
            zip((f"{name}/{half}" for name in names for half in "cm"), values.values(), strict=True)
        )
        state = archive(tmp_path / "state.npz", here)
        shell(
            "run",
            prefix,
            "--assume-defaults",
            tmp_path / "x.npy",
            "--state",
            state,
            "-o",
            tmp_path / "y.npz",
            "--force",
            code=0,
        )
        found.append(np.load(tmp_path / "y.npz")["outputs"])
    assert not np.allclose(found[0], found[1], atol=1e-3)


@pytest.mark.parametrize("to", ["tuple", "flat", "keras"])
def test_a_conversion_binds_by_name_too(tmp_path: Path, shell: Shell, to: str) -> None:
    prefix, values = two_stacks(tmp_path), halves(APART)
    shuffled = {key: values[key] for key in sorted(values)}  # bw before fw
    state = archive(tmp_path / "state.npz", shuffled)
    target = tmp_path / "y.npz"
    shell("convert", state, "--to", to, "--checkpoint", prefix, "-o", target, code=0)
    cells = load_state(target)
    assert isinstance(cells, StackState)
    assert [cell.cell for cell in cells] == APART
    for cell in cells:
        assert np.array_equal(cell.c, values[f"{cell.cell}/c"])
        assert np.array_equal(cell.m, values[f"{cell.cell}/m"])


def test_whole_parts_of_names_match(tmp_path: Path, shell: Shell) -> None:
    prefix = saved(tmp_path, [f"{BOTH}/{side}/lstm_cell" for side in ("fw", "bw")])
    values = {
        f"{side}/{half}": numbers(2, UNITS, seed=k)
        for k, (side, half) in enumerate((s, h) for s in ("bw", "fw") for h in "cm")
    }
    np.save(tmp_path / "x.npy", numbers(2, 1, INPUTS))
    state = archive(tmp_path / "state.npz", values)
    target = tmp_path / "y.npz"
    shell("convert", state, "--to-tuple", "--checkpoint", prefix, "-o", target, code=0)
    found = np.load(target)
    assert np.array_equal(found[f"{BOTH}/fw/lstm_cell/c"], values["fw/c"])
    assert np.array_equal(found[f"{BOTH}/bw/lstm_cell/m"], values["bw/m"])


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([*APART[:3], "decoder/lstm_cell"], "they cannot be matched"),
        ([APART[0], APART[0].replace("lstm_cell", "LSTM"), *APART[2:]], "cannot be matched"),
        ([f"l{k}_{side}" for k in (0, 1) for side in ("fw", "bw")], "which runs forward"),
    ],
)
def test_ambiguous_names_of_cells_are_refused(
    tmp_path: Path, shell: Shell, names: list[str], words: str
) -> None:
    prefix = two_stacks(tmp_path)
    state = archive(tmp_path / "state.npz", halves(names))
    np.save(tmp_path / "x.npy", numbers(2, 1, INPUTS))
    done = shell("run", prefix, "--assume-defaults", tmp_path / "x.npy", "--state", state, code=3)
    assert words in error(done)


def test_unknown_names_keep_the_order_of_the_file(tmp_path: Path, shell: Shell) -> None:
    prefix = saved(tmp_path, [f"rnn/multi_rnn_cell/cell_{k}/lstm_cell" for k in (0, 1)])
    np.save(tmp_path / "x.npy", numbers(2, 1, INPUTS))
    state = archive(tmp_path / "state.npz", halves(["low", "high"]))
    done = shell("run", prefix, "--assume-defaults", tmp_path / "x.npy", "--state", state, code=0)
    assert any("taken in the order low, high" in line for line in notes(done))


@pytest.mark.filterwarnings("ignore:.*a residual goes around:UserWarning")
def test_a_state_in_memory_binds_by_name(tmp_path: Path) -> None:
    network = open_checkpoint(two_stacks(tmp_path)).network()
    x = numbers(2, 3, INPUTS)
    cells = [
        LSTMState(numbers(2, UNITS, seed=k), numbers(2, UNITS, seed=k + 9), name)
        for k, name in enumerate(APART)
    ]
    expected, _ = network.run(x, StackState(cells), **BARE)
    assert np.array_equal(network.run(x, StackState(cells[::-1]), **BARE)[0], expected)
    odd = [*cells[:3], LSTMState(cells[3].c, cells[3].m, "other")]
    with pytest.raises(LstmstateError, match="they cannot be matched"):
        network.run(x, StackState(odd), **BARE)


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (["b", "a"], None),
        (["", ""], None),
        (["cell_0", "cell_1"], None),
        (["rnn/cell_1", "rnn/cell_0"], [1, 0]),
        (["x/rnn/cell_1/lstm", "x/rnn/cell_0/lstm"], [1, 0]),
        (["cell_1/lstm", "cell_0/lstm"], [1, 0]),
    ],
)
def test_names_that_match_cells(names: list[str], order: list[int] | None) -> None:
    assert bind(names, ["rnn/cell_0/lstm", "rnn/cell_1/lstm"]) == order


# ---- one order


@pytest.mark.parametrize(("write", "names"), [(two_stacks, APART), (layers_of_both, LAYERS)])
def test_every_list_of_cells_has_one_order(
    tmp_path: Path, shell: Shell, write: Any, names: list[str]
) -> None:
    prefix = write(tmp_path)
    ckpt = open_checkpoint(prefix)
    assert list(ckpt.cells) == names
    assert [cell.name for cell in ckpt.network().route.cells] == names
    assert [cell["name"] for cell in shell.json("inspect", prefix)["cells"]] == names
    np.save(tmp_path / "x.npy", numbers(2, 3, INPUTS))
    target = tmp_path / "y.npz"
    shell("run", prefix, "--assume-defaults", tmp_path / "x.npy", "-o", target, code=0)
    assert [cell.cell for cell in load_state(target)] == names
    listed = shell.json("inspect", target)["state"]["cells"]
    assert [cell["name"] for cell in listed] == names
    # Without our metadata its names are in that order too.
    bare = archive(tmp_path / "bare.npz", halves(sorted(names)))
    listed = shell.json("inspect", bare)["state"]["cells"]
    assert [cell["name"] for cell in listed] == names


# ---- the layout of PyTorch


@pytest.mark.filterwarnings("ignore:.*goes around it, and none is assumed:UserWarning")
def test_layers_of_both_directions_have_the_order_of_torch(tmp_path: Path, shell: Shell) -> None:
    torch = pytest.importorskip("torch")
    prefix, values = layers_of_both(tmp_path), halves(LAYERS)
    state = archive(tmp_path / "state.npz", values)
    target = tmp_path / "torch.npz"
    shell("convert", state, "--to", "torch", "--checkpoint", prefix, "-o", target, code=0)
    found = np.load(target)
    h_n, c_n = found["h_n"], found["c_n"]
    x = numbers(3, 2, INPUTS, seed=77)
    lstm = torch.nn.LSTM(INPUTS, UNITS, num_layers=2, bidirectional=True)
    ckpt = open_checkpoint(prefix)
    with torch.no_grad():
        for k, name in enumerate(LAYERS):
            end = f"l{k // 2}" + ("_reverse" if k % 2 else "")
            for ours, theirs in _weights(ckpt, name).items():
                getattr(lstm, f"{ours}_{end}").copy_(torch.tensor(theirs))
        outputs, (h, c) = lstm(torch.tensor(x), (torch.tensor(h_n), torch.tensor(c_n)))
    first = load_state(state_of(tmp_path, values))
    ran, last = ckpt.network().run(x, first, time_major=True, **BARE)
    np.testing.assert_allclose(ran, outputs.numpy(), atol=2e-6)
    np.testing.assert_allclose(np.stack([cell.m for cell in last]), h.numpy(), atol=2e-6)
    np.testing.assert_allclose(np.stack([cell.c for cell in last]), c.numpy(), atol=2e-6)
    back = tmp_path / "back.npz"
    assert shell("convert", target, "--to-tuple", "-o", back).code == 0
    assert all(np.array_equal(np.load(back)[key], value) for key, value in values.items())


def state_of(folder: Path, values: dict[str, Array]) -> Path:
    cells = [LSTMState(values[f"{n}/c"], values[f"{n}/m"], n) for n in LAYERS]
    save_state(StackState(cells), folder / "kept.npz")
    return folder / "kept.npz"


def _weights(ckpt: Any, name: str) -> dict[str, Array]:
    """Return the weights of a cell in torch's order: i, f, g, o; forget_bias in the bias."""
    kernel, bias = (ckpt.variables[f"{name}/{leaf}"].read() for leaf in ("kernel", "bias"))
    i, j, f, o = (np.arange(UNITS) + k * UNITS for k in range(4))
    columns = np.concatenate([i, f, j, o])
    moved = bias[columns] + np.repeat([0, 1, 0, 0], UNITS).astype("f4")
    split = len(kernel) - UNITS
    return {
        "weight_ih": np.ascontiguousarray(kernel[:split, columns].T),
        "weight_hh": np.ascontiguousarray(kernel[split:, columns].T),
        "bias_ih": moved,
        "bias_hh": np.zeros_like(moved),
    }


def test_a_stack_of_each_direction_is_refused_in_the_layout_of_torch(
    tmp_path: Path, shell: Shell
) -> None:
    prefix, values = two_stacks(tmp_path), halves(APART)
    state = archive(tmp_path / "state.npz", values)
    to = ("--to", "torch", "--checkpoint", prefix, "-o", tmp_path / "y.npz")
    assert "these are a stack of each direction" in error(shell("convert", state, *to, code=3))
    # One of the two is a torch.nn.LSTM of one direction.
    one = archive(tmp_path / "one.npz", {key: v for key, v in values.items() if "/fw/" in key})
    assert shell("convert", one, *to).code == 0
    # And the reverse: the state saved by torch fits none of them.
    arrays = {"h_n": numbers(4, 2, UNITS), "c_n": numbers(4, 2, UNITS, seed=1)}
    np.save(tmp_path / "x.npy", numbers(2, 1, INPUTS))
    done = shell(
        "run",
        prefix,
        "--assume-defaults",
        tmp_path / "x.npy",
        "--state",
        archive(tmp_path / "t.npz", arrays),
        code=3,
    )
    assert "these are a stack of each direction" in error(done)


# ---- a published case


@pytest.mark.skipif(not SHARED.is_dir(), reason="the cases are not available")
@pytest.mark.parametrize(
    "case",
    ["bidir_multi_state_by_layer", "multi_user_named", "multi_user_named_swapped", "multi_nested"],
)
def test_stacks_of_1_15_from_states_by_name(tmp_path: Path, shell: Shell, case: str) -> None:
    folder = SHARED / "oddgraphs" / case
    target = tmp_path / "y.npz"
    state = ("--state", folder / "state.npz")
    shell("run", folder, folder / "x.npy", *state, "-o", target, code=0)
    found, expected = np.load(target), np.load(folder / "expected.npz")
    for key in expected.files:
        np.testing.assert_allclose(found[key], expected[key], atol=3e-6)
