"""The group of commands for Click: completion, and the reference in the documentation."""

from __future__ import annotations

import click

from lstmstate.cli import COMMANDS, CONTEXT, HELP, load


class _Commands(click.Group):
    """The commands by name, imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        return load(cmd_name) if cmd_name in COMMANDS else None

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        formatter.write(HELP)


@click.group(cls=_Commands, context_settings=CONTEXT)
@click.version_option(None, "-V", "--version", package_name="lstmstate")
def cli() -> None:
    """Reads TensorFlow 1.x checkpoints without TensorFlow: lists the LSTM cells in a checkpoint,
    converts their states, and runs them over data.

    Exit codes: 0 done, 1 the answer is "no", 2 wrong command line, 3 a file could not be
    used, 4 some of several files could not be used, 130 interrupted.
    """
