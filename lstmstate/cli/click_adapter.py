"""The commands for Click: help, errors, completion, and the reference in the documentation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from lstmstate.arguments import advise_names
from lstmstate.cli import COMMANDS, CONTEXT, EXIT_CODES, HELP, load

if TYPE_CHECKING:
    from lstmstate.cli.command import Command, CommandOption

_SHOWN = 8  # names in an error


class _Value(click.ParamType[Any] if TYPE_CHECKING else click.ParamType):  # type: ignore[misc]
    """A value that a function returns, or a ValueError with the problem."""

    def __init__(self, option: CommandOption) -> None:
        self.name = option.metavar or "VALUE"
        self._option = option

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the value."""
        try:
            return self._option.value(value) if isinstance(value, str) else value
        except ValueError as error:
            return self.fail(str(error), param, ctx)


class _Choice(click.Choice[Any] if TYPE_CHECKING else click.Choice):  # type: ignore[misc]
    """One of a few names; the nearest is in the error for another."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the name."""
        if value not in self.choices:
            advice = advise_names(value, self.choices, _SHOWN)
            self.fail(f"it cannot be {value!r:.40}; {advice}", param, ctx)
        return value


def click_command(command: Command, called: str) -> click.Command:
    """Return a command for Click."""
    parameters: list[click.Parameter] = [
        click.Argument(
            [name],
            metavar=metavar,
            nargs=-1 if "..." in metavar else 1,
            required=not metavar.startswith("["),
            type=click.Path(allow_dash=True, readable=False),  # opening it checks that
        )
        for name, metavar in command.arguments.items()
    ]
    for name, one in command.options().items():
        kind: Any = _Choice(one.kind) if isinstance(one.kind, tuple) else None
        parameters.append(
            click.Option(
                [*one.flags, name],
                help=one.words,
                type=kind if kind or one.kind is None else _Value(one),
                metavar=one.metavar,
                is_flag=one.is_flag or None,
                multiple=one.is_repeated,
                **one.how,
            )
        )
    return click.Command(
        called.rpartition(" ")[2],
        CONTEXT,
        command.call,
        parameters,
        help=command.function.__doc__,
        epilog=command.epilog,
    )


class _Commands(click.Group):
    """The commands by name, imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        return click_command(load(cmd_name), cmd_name) if cmd_name in COMMANDS else None

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        formatter.write(HELP)


_ABOUT = f"""\
Reads TensorFlow 1.x checkpoints without TensorFlow: lists the LSTM cells in a checkpoint, converts
their states, and runs them over data.

{EXIT_CODES}
"""


@click.group(cls=_Commands, context_settings=CONTEXT, help=_ABOUT)
@click.version_option(None, "-V", "--version", package_name="lstmstate")
def cli() -> None:
    """Group the commands: for completion and the documentation."""
