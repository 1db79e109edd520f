"""The command line: one module a command, loaded when it is called.

Heavy modules are imported by the command that needs them, so that `--help` and a mistyped
option answer in the time that Click takes.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module

import click

from lstmstate import __version__

_COMMANDS = {"inspect": "what is inside: cells, state widths, saved states, variables"}

DONE, USAGE, UNUSABLE, SOME_FAILED, INTERRUPTED = 0, 2, 3, 4, 130
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class _Commands(click.Group):
    """The commands by name; `--help` lists them without importing any."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = import_module(f"lstmstate.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_Commands, context_settings=CONTEXT, epilog="lstmstate COMMAND --help tells more.")
@click.version_option(__version__, "--version", message="%(prog)s %(version)s")
def cli() -> None:
    """Reads TensorFlow 1.x checkpoints without TensorFlow, and tells the LSTM cells in them.

    Exit codes: 0 done, 1 done and the answer is no, 2 wrong command line, 3 a file could not be
    used, 4 some files of several could not, 130 interrupted.
    """


def main() -> None:
    """Run the command line and end the process with its exit code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run the command line; return the exit code. Errors are one line on stderr."""
    try:
        return cli.main(arguments, prog_name="lstmstate", standalone_mode=False) or DONE
    except click.ClickException as error:
        error.show()
        return USAGE
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read has had enough; Python would complain when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except Exception as error:
        from lstmstate.errors import LstmstateError

        if not isinstance(error, LstmstateError) or "--debug" in arguments:
            raise
        tell(f"error: {error}")
        return error.exit_code


def tell(line: str) -> None:
    """Say one line on stderr."""
    click.echo(f"lstmstate: {line}", err=True)
