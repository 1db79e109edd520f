"""Options of all commands: their help texts, and names that match the tables."""

from __future__ import annotations

import click
import pytest
from commands import Shell, error

from lstmstate import engines
from lstmstate.cells.activations import ACTIVATIONS
from lstmstate.cells.cell import Option, Source
from lstmstate.cells.family import Family, settle_options
from lstmstate.cli import options
from lstmstate.cli.group import cli
from lstmstate.engines.numpy_functions import FUNCTIONS
from lstmstate.engines.options import RUN_OPTIONS
from lstmstate.state.formats.registry import KINDS
from lstmstate.state.layouts import LAYOUTS

CONTEXT = click.Context(cli)
COMMANDS = {name: cli.get_command(CONTEXT, name) for name in cli.list_commands(CONTEXT)}


def test_names_in_the_help_match_their_tables() -> None:
    assert set(options.ENGINE_NAMES) == {"auto", "graph", *engines.ENGINES}
    assert tuple(options.ACTIVATION_NAMES) == ACTIVATIONS == tuple(FUNCTIONS)
    assert tuple(options.LAYOUT_NAMES) == tuple(LAYOUTS)
    assert tuple(options.KIND_NAMES) == tuple(kind.key for kind in KINDS if kind.writer)


@pytest.mark.parametrize("name", ["run", "verify"])
def test_every_option_of_a_cell_has_a_flag(name: str) -> None:
    command = COMMANDS[name]
    assert command is not None
    assert set(RUN_OPTIONS) <= {parameter.name for parameter in command.params}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_help_and_every_command_an_example(shell: Shell, name: str) -> None:
    command = COMMANDS[name]
    assert command is not None
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, option.name
            assert option.help.endswith((".", "]")), option.help
    done = shell(name, "--help")
    assert (done.code, done.err) == (0, "")
    assert f"\n  lstmstate {name} " in done.out.split("Examples:")[1].replace("\n    ", "\n  ")
    assert max(map(len, done.out.splitlines())) <= 100


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("flag", ["--nope", "--engine=jax"])
def test_a_mistyped_option_is_reported(shell: Shell, name: str, flag: str) -> None:
    done = shell(name, flag)
    assert (done.code, done.out) == (2, "")
    assert error(done).endswith(f"; see lstmstate {name} --help")


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["--forget-bias", "x"], "'x' is not a number"),
        (["--forget-bias", "nan"], "'nan' is not a number"),
        (["--cell-clip", "-1"], "'-1' is not a bound: pass a number, or none"),
        (["--proj-clip", "inf"], "'inf' is not a bound"),
        (["--activation", "gelu"], "'gelu' is not one of 'tanh', 'sigmoid'"),
        (
            ["--engine", "torch"],
            "'torch' is not one of 'auto', 'numpy', 'graph', 'tensorflow'",
        ),
        (["--cell", "a", "--stack", "b"], "pass --cell or --stack, not both"),
        (["--state", "a", "--zero-state"], "pass --state or --zero-state, not both"),
        (["-o", "y.npz", "--out-dir", "y"], "-o is for one input"),
        (["b.npy", "-o", "y.npz"], "-o is for one input; pass --out-dir for several"),
        (["-o", "-", "--json"], "all use stdout"),
        (["-o", "-", "--state-out", "-"], "all use stdout"),
        (["--state-out", "-", "--json"], "all use stdout"),
        (["-", "-"], "stdin can be read once"),
        (["--lengths", "-", "--state", "-"], "stdin can be read once"),
        (["b.npy", "--state-out", "s.npz"], "--state-out with several inputs needs --carry-state"),
        (["--trace"], "pass -o or --out-dir"),
        (["--all-states"], "pass -o or --out-dir"),
        (["--compress"], "pass -o or --out-dir"),
        (["--format", "h5"], "pass -o or --out-dir"),
        (["--from", "flat"], "--from is the layout of --state"),
        (["--state-layout", "flat"], "--state-layout is the layout of --state-out"),
    ],
)
def test_conflicting_flags_of_run(shell: Shell, flags: list[str], problem: str) -> None:
    done = shell("run", "model.ckpt", "a.npy", *flags)
    assert (done.code, done.out) == (2, "")
    assert problem in done.err


@pytest.mark.parametrize(
    ("name", "row", "shown", "unread", "settled"),
    [
        ("forget_bias", "default", "graph", False, "graph"),
        ("forget_bias", "default", None, False, "default"),
        ("forget_bias", "default", "unknown", False, "unknown"),  # fed: no default replaces it
        ("forget_bias", "family", "graph", True, "unknown"),
        ("cell_clip", "family", "graph", False, "graph"),
        ("cell_clip", "family", "unknown", False, "family"),
        ("cell_clip", "family", None, True, "unknown"),
        ("recurrent_activation", "family", "graph", False, "graph"),
        ("recurrent_activation", "family", "unknown", False, "family"),
        ("recurrent_activation", "unknown", "graph", False, "graph"),
    ],
)
def test_the_strongest_evidence_settles_an_option(
    name: str, row: Source, shown: Source | None, unread: bool, settled: Source
) -> None:
    values: dict[Source, Option] = {
        source: Option(None if source == "unknown" else value, source)
        for source, value in (("default", 1.0), ("family", 2.0), ("graph", 3.0), ("unknown", None))
    }
    family = Family("", (), {}, options={name: values[row]})
    graph = {} if shown is None else {name: values[shown]}
    found = settle_options(family, graph, [name] if unread else [])
    assert found[name] == values[settled]
