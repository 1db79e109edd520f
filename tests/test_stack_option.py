"""`--stack NAME`: one meaning in every command, for a whole name or whole parts of one."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import Array, Shell, checkpoint, error, numbers, saved

from lstmstate import AmbiguousError, NotFoundError, open_checkpoint

PLAIN, OTHER, BOTH = "multi_rnn_cell", "enc/multi_rnn_cell", "bidirectional_rnn"
HALF = f"{BOTH}/bw/multi_rnn_cell"
INPUTS = 3
# The units of both cells of each stack: a state of another stack does not fit.
UNITS = {PLAIN: (4, 5), OTHER: (6, 7), f"{BOTH}/fw/multi_rnn_cell": (8, 9), HALF: (10, 11)}
# The requested name, and the units of the matching cells, in their order.
MEANT = [
    (PLAIN, (4, 5)),
    (OTHER, (6, 7)),
    ("enc", (6, 7)),
    ("bw", (10, 11)),
    (HALF, (10, 11)),
    (BOTH, (8, 9, 10, 11)),
]


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A checkpoint with a stack, another whose name ends in its name, and a pair of stacks."""
    variables: dict[str, Array] = {}
    for stack, units in UNITS.items():
        widths = zip((INPUTS, units[0]), units, strict=True)
        for number, (inputs, own) in enumerate(widths):
            scope = f"{stack}/cell_{number}/lstm_cell"
            variables[f"{scope}/kernel"] = numbers(inputs + own, 4 * own)
            variables[f"{scope}/bias"] = numbers(4 * own)
    return checkpoint(tmp_path / "model.ckpt", variables)


@pytest.mark.parametrize(("name", "units"), MEANT)
def test_run_and_convert_mean_the_same_stack(
    shell: Shell, tmp_path: Path, model: str, name: str, units: tuple[int, ...]
) -> None:
    x = saved(tmp_path / "x.npy", numbers(2, INPUTS))
    out = tmp_path / "out.npz"
    ran = shell.json("run", model, x, "--stack", name, "--forget-bias", "1", "-o", out)
    flat = saved(tmp_path / "flat.npy", numbers(1, 2 * sum(units)))
    widths = ["--checkpoint", model, "--stack", name]
    done = shell.json("convert", flat, "--to-tuple", *widths, "-o", tmp_path / "t.npz")["states"][0]
    assert tuple(cell["c"] for cell in done["cells"]) == units
    assert [cell["name"] for cell in done["cells"]] == [cell["name"] for cell in ran["cells"]]


def test_a_name_that_matches_several_stacks_lists_them(
    shell: Shell, tmp_path: Path, model: str
) -> None:
    flat = saved(tmp_path / "flat.npy", numbers(1, 18))
    x = saved(tmp_path / "x.npy", numbers(2, INPUTS))
    name = "multi_rnn_cell/"
    wanted = (
        f"{model}: {name}: several stacks have this in their names; "
        f"give one whole name: {BOTH}, {OTHER}, {PLAIN}"
    )
    ran = shell("run", model, x, "--stack", name)
    converted = shell(
        "convert", flat, "--to-tuple", "--checkpoint", model, "--stack", name, "-o", tmp_path / "o"
    )
    assert (ran.code, converted.code) == (3, 3)
    assert error(ran) == error(converted) == wanted


def test_python_refuses_ambiguous_names(model: str) -> None:
    ckpt = open_checkpoint(model)
    assert [stack.name for stack in ckpt.find_stacks("enc")] == [OTHER]
    with pytest.raises(AmbiguousError, match="several stacks"):
        ckpt.find_stacks("/multi_rnn_cell")
    with pytest.raises(NotFoundError, match="there is no such stack of LSTM cells"):
        ckpt.network(stack="decoder")
