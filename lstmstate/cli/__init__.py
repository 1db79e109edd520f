"""The command line: one module a command, loaded when it is called.

Heavy modules are imported by the command that needs them, so that `--help` and a mistyped
option answer in the time that Click takes.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
from importlib import import_module
from types import FrameType

import click

from lstmstate.errors import LstmstateError, each, printable

_COMMANDS = {
    "inspect": "what is inside: cells, state widths, saved states, variables",
    "convert": "a saved state from one layout or file into another: --to-tuple, --to-flat",
    "split": "one flat state into two files, c and m",
    "concat": "c and m of one cell or more into one flat state",
    "run": "step the cells over data, from a state to a state",
    "verify": "our results against TensorFlow's own cell, or the graph's own step",
    "diff": "two states or two checkpoints, within a tolerance",
    "check": "assertions for CI: widths, layout, finite values, names",
}

DONE, NO, USAGE, UNUSABLE, SOME_FAILED, INTERRUPTED = 0, 1, 2, 3, 4, 130
# What ends a process and can be caught: a CI job's end, a closed terminal.
ENDINGS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
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

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in _COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"there is no command {args[0]!r}; give {', '.join(_COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_Commands, context_settings=CONTEXT, epilog="lstmstate COMMAND --help tells more.")
@click.version_option(None, "--version", package_name="lstmstate", message="%(prog)s %(version)s")
def cli() -> None:
    """Reads TensorFlow 1.x checkpoints without TensorFlow: tells the LSTM cells in them, converts
    their states, and runs them over data.

    Exit codes: 0 done, 1 done and the answer is no, 2 wrong command line, 3 a file could not be
    used, 4 some files of several could not, 130 interrupted.
    """


class _Terminated(BaseException):
    """The process was asked to end; what it has begun is taken back on the way out."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number  # as shells tell it


def _terminate(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    raise _Terminated(number)


_decided = [DONE]


def decided(code: int) -> int:
    """Keep the answer of a command before it is printed: whoever reads may not wait for it all."""
    _decided[0] = code
    return code


def main() -> int:
    """Run the command line of this process; return its exit code."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in ENDINGS:
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup has it ignored
            signal.signal(number, _terminate)
    return execute(sys.argv[1:])


def execute(arguments: list[str]) -> int:
    """Run the command line; return the exit code. Errors are one line on stderr."""
    # Names from files may have characters that a terminal's encoding has not.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    _decided[0] = DONE
    try:
        return _answer(arguments)
    except click.ClickException as error:
        _refuse_usage(error, arguments)
        return USAGE
    except (KeyboardInterrupt, click.Abort):
        _remove_left()
        return INTERRUPTED
    except _Terminated as end:
        _remove_left()
        return end.exit_code
    except (BrokenPipeError, SystemExit):  # Click makes the one into the other
        _give_up_stdout()
        return _decided[0]  # whoever read has had enough
    except Exception as error:
        return _told(error, debug="--debug" in arguments)


def _refuse_usage(error: click.ClickException, arguments: list[str]) -> None:
    """Print in one line why a command line is wrong; a call without arguments gets the help."""
    problem = error.format_message()
    if "\n" in problem:
        error.show()
        return
    name = arguments[0] if arguments and arguments[0] in _COMMANDS else ""
    form = _form(error, name) if name else ""
    tell(f"error: {problem.rstrip('.')}{form}; see {f'lstmstate {name}'.strip()} --help")


def _form(error: click.ClickException, name: str) -> str:
    """Return how the option is given that is missing, or has too few values; "" for others."""
    missing = getattr(error, "param", None) if isinstance(error, click.MissingParameter) else None
    called = error.option_name if isinstance(error, click.BadOptionUsage) else None
    for option in import_module(f"lstmstate.cli.{name}").command.params:
        if isinstance(option, click.Option) and (option is missing or called in option.opts):
            return f": give {option.opts[0]} {option.metavar}" if option.metavar else ""
    return ""


def _remove_left() -> None:
    """Remove what a signal at a bad moment kept outputs from removing, if there were any."""
    output = sys.modules.get("lstmstate.files.atomic")
    if output is not None:
        output.remove_left()


def _told(error: Exception, *, debug: bool) -> int:
    """Say what went wrong in one line; return the exit code."""
    if debug:
        import traceback

        traceback.print_exc()
    if isinstance(error, OSError) and not isinstance(error, LstmstateError):
        _give_up_stdout()
        tell(f"error: the output could not be written ({error.strerror or error})")
    elif isinstance(error, MemoryError):
        tell("error: there is not enough memory for this")
    elif isinstance(error, LstmstateError):
        try:
            sys.stdout.flush()
        except (OSError, ValueError):  # it was stdout that could not be written
            _give_up_stdout()
        for one in each(error):
            tell(f"error: {one}")
    else:
        name = type(error).__name__
        tell(f"error: a fault of this program ({name}: {error}); --debug shows where: report it")
    return getattr(error, "exit_code", UNUSABLE)


def _answer(arguments: list[str]) -> int:
    """Run a command, and see that its answer has gone out."""
    if sys.stdout is None:
        raise OSError("stdout is closed")
    code = cli.main(arguments, prog_name="lstmstate", standalone_mode=False) or DONE
    sys.stdout.flush()
    return int(code)


def _give_up_stdout() -> None:
    """Let what is still to be written go nowhere: Python would complain at the end."""
    with contextlib.suppress(OSError, AttributeError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def tell(line: str) -> None:
    """Say one line on stderr, in which nothing from a file can steer the terminal."""
    from lstmstate.cli.report.flags import with_flags

    with contextlib.suppress(OSError):
        click.echo(f"lstmstate: {printable(with_flags(line))}", err=True)
