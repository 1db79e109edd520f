"""Names of parameters in library messages, and the flags that replace them on the command line."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest
from commands import PROJECT, SAMPLES, Shell, archive, checkpoint, error, lstm_cell, numbers, saved

import lstmstate
from lstmstate.cli import COMMANDS, load
from lstmstate.cli.group import click_command
from lstmstate.cli.report.flags import with_flags

LIBRARY = PROJECT / "lstmstate"
# Modules whose texts are for the command line.
OF_COMMANDS = ("cli", "report")


def flags() -> set[str]:
    """Return the flags of all commands."""
    commands = [click_command(load(name), name) for name in COMMANDS]
    options = [one for command in commands for one in command.params]
    named = [one for one in options if isinstance(one, click.Option)]
    return {f for one in named for f in (*one.opts, *one.secondary_opts)}


def texts(*, docstrings: bool = True) -> Iterator[tuple[Path, int, str]]:
    """Yield every text in the source of the library: its file, its line and the text."""
    for path in sorted(LIBRARY.rglob("*.py")):
        if path.relative_to(LIBRARY).parts[0] in OF_COMMANDS:
            continue
        nodes = list(ast.walk(ast.parse(path.read_text())))
        skipped = {
            id(node.value) for node in nodes if isinstance(node, ast.Expr) and not docstrings
        }
        for node in nodes:
            is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
            if is_text and id(node) not in skipped:
                yield path, node.lineno, node.value


def named_flags(text: str) -> list[str]:
    """Return the flags that a text names, and "--" if it builds one."""
    words = re.findall(r"(?<![\w-])(?:--?[a-z][a-z-]*|--(?:$|(?=\{)))", text)
    return [word for word in words if word == "--" or word in flags()]


def test_no_library_message_names_a_flag() -> None:
    found = [
        f"{path.relative_to(PROJECT)}:{line}: {named_flags(text)}"
        for path, line, text in texts()
        if named_flags(text)
    ]
    assert found == []


@pytest.mark.parametrize(
    "text", ["say --force", "give -o FILE", "run --cell NAME or --stack", "--", "(--from)"]
)
def test_the_search_sees_a_flag(text: str) -> None:
    assert named_flags(text)
    assert not named_flags("pip install --force-reinstall; a - b -- c; `force=True`")


def test_every_parameter_in_a_message_is_a_flag_of_a_command() -> None:
    known = flags()
    parameters = {
        match[0]
        for _, _, text in texts(docstrings=False)
        for match in re.finditer(r"`\w+=[^`]*`?", text)
    }
    assert len(parameters) > 10
    for parameter in parameters:
        whole = parameter if parameter.endswith("`") else f"{parameter}x`"
        assert set(named_flags(with_flags(whole))) & known, parameter


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("say `force=True`", "say --force"),
        ("leave `layout=...` out", "leave --from out"),
        ("`layout='torch'` or `layout='keras'`", "--from torch or --from keras"),
        ("pass the widths: `cells=...`", "pass the widths: --units and --proj, --cells"),
        ("say `cells=WIDTHS`", "say --cells WIDTHS"),
        ("pass a file: `target=...`", "pass a file: -o FILE"),
        ("two files for each cell: `targets=...`", "two files for each cell: -o C M"),
        ("`cell='a/b c'`, `cell='/'`", "--cell a/b c, --cell /"),
        ("`peepholes=False`, `proj_clip=None`", "--no-peepholes, --proj-clip none"),
        ("`forget_bias=0.5` is used", "--forget-bias 0.5 is used"),
        ("force=True/model.ckpt", "force=True/model.ckpt"),
        ("a `checkpoint` file", "a `checkpoint` file"),
    ],
)
def test_a_parameter_becomes_its_flag(message: str, shown: str) -> None:
    assert with_flags(message) == shown


def test_python_names_parameters_and_the_command_line_flags(shell: Shell, tmp_path: Path) -> None:
    target = saved(tmp_path / "flat.npy", numbers(1, 8))
    state = lstmstate.LSTMState(np.zeros((1, 4)), np.zeros((1, 4)))
    with pytest.raises(lstmstate.LstmstateError) as caught:
        lstmstate.save_state(state, target, layout="flat")
    assert (
        str(caught.value) == f"{target}: this file exists already; pass `force=True` to replace it"
    )
    source = archive(tmp_path / "a.npz", c=numbers(1, 4), m=numbers(1, 4))
    done = shell("convert", source, "--to-flat", "-o", target)
    assert error(done) == f"{target}: this file exists already; pass --force to replace it"


def test_documents_of_several_paths_name_flags(shell: Shell, tmp_path: Path) -> None:
    states = {"a/state": numbers(2, 8), "b/state": numbers(2, 8)}
    model = checkpoint(tmp_path / "model.ckpt", lstm_cell() | states)
    found = shell.json(
        *("convert", model, SAMPLES / "peephole_flat", "--to-tuple", "--out-dir", tmp_path / "out"),
        code=4,
    )
    assert found["failed"][0]["error"].endswith(
        "2 states are saved in it; choose: --variable a/state, --variable b/state"
    )


def test_assertions_are_printed_as_passed(shell: Shell, tmp_path: Path) -> None:
    flat = saved(tmp_path / "flat.npy", numbers(2, 8))
    arguments = ("check", flat, "--units", "5", "--max-abs-m", "2", "--finite", "--has", "x")
    found = {
        one["assertion"]: one["problems"] for one in shell.json(*arguments, code=1)["assertions"]
    }
    assert list(found) == ["--units 5", "--max-abs-m 2", "--finite", "--has x"]
    assert found["--finite"] == []
    assert found["--units 5"][0].startswith("--units 5: ")
    assert f"{flat}: --units 5: " in shell(*arguments).out


def test_reasons_in_json_name_flags(shell: Shell, tmp_path: Path) -> None:
    """A Keras layer without a graph: two activations of its gates are possible."""
    variables = {"kernel": numbers(3, 16), "recurrent_kernel": numbers(4, 16), "bias": numbers(16)}
    named = {f"lstm/{name}": value for name, value in variables.items()}
    prefix = checkpoint(tmp_path / "x.ckpt", named)
    (cell,) = shell.json("inspect", prefix, "--verify")["cells"]
    assert cell["confirmed"] is None
    assert "--recurrent-activation" in cell["confirmed_reason"]
    assert "`" not in cell["confirmed_reason"]
