"""The command line: dispatch, errors on one line, exit codes.

A command is a module, imported when it is called, and imports heavy modules when it needs them. The
help of the program and its version need no import at all.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from importlib import import_module

from lstmstate.cli import standard_streams
from lstmstate.type_names import TYPE_CHECKING

if TYPE_CHECKING:
    from lstmstate.cli.command import Command

COMMANDS = {
    "inspect": "list cells, state widths, saved states and variables",
    "convert": "convert a state to another layout or kind of file",
    "split": "split a flat state into the two files c and m",
    "concat": "join c and m of one cell or more into one flat state",
    "state": "write the zero state or the initial state of a network",
    "run": "run the cells over data, from a state to a state",
    "export": "weights of cells for torch, Keras, ONNX and other programs",
    "verify": "compare lstmstate with TensorFlow's own cell, or the graph's own step",
    "diff": "compare two states or two checkpoints, within a tolerance",
    "check": "assertions for CI: widths, layout, finite values, names",
    "doctor": "the versions and the compiled steps in use, and the packages found",
}
DONE, NO, USAGE, UNUSABLE, SOME_FAILED, INTERRUPTED = 0, 1, 2, 3, 4, 130
EXIT_CODES = f"""\
Exit codes: {DONE} done, {NO} the answer is "no", {USAGE} wrong command line,
{UNUSABLE} a file could not be used, {SOME_FAILED} some of several could not, \
{INTERRUPTED} interrupted."""
HELP = f"""Usage: lstmstate COMMAND [OPTIONS] [ARGS]...
       lstmstate PATH                     the same as lstmstate inspect PATH

  Reads TensorFlow 1.x checkpoints without TensorFlow: lists the LSTM cells in a
  checkpoint, converts their states, and runs them over data.

Commands:
{"".join(f"  {name:8} {words}{chr(10)}" for name, words in COMMANDS.items())}
Options:
  -V, --version  Print the version.
  -h, --help     Print this text; lstmstate COMMAND --help is about a command.

Examples:
  lstmstate inspect model.ckpt-7              the cells and their state widths
  lstmstate convert flat.npy --to-tuple       c and m by name: flat.tuple.npz
  lstmstate run model.ckpt-7 x.npy -o y.npz   the outputs, and the last state
  lstmstate check model.ckpt-7 --units 128 && ./deploy

{EXIT_CODES}"""
_LISTS = {"LAYOUT": "convert --list", "TARGET": "export --list"}  # the tables of these values
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def main() -> int:
    """Run the command line of this process; return its exit code."""
    standard_streams.replace_standard()
    code = execute(sys.argv[1:])
    failure = standard_streams.failure_of_stdout()
    if failure is None:
        return code
    report_line(f"error: stdout: it cannot be written ({failure.strerror})")
    return UNUSABLE


def execute(arguments: list[str]) -> int:
    """Run the command line; return the exit code. Errors are one line on stderr."""
    if arguments and _is_path(arguments[0]):
        arguments = ["inspect", *arguments]
    try:
        return _run(arguments)
    except KeyboardInterrupt:  # of a calling program; `main` has no such signals
        return INTERRUPTED
    except Exception as error:
        return _report(error, arguments)


def _run_command(name: str, words: list[str]) -> int:
    """Run a command without the warnings of NumPy, which NaN and Inf in a file would cause."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _call_command(name, words)


def _call_command(name: str, words: list[str]) -> int:
    """Parse the words after a command, with Click if they are unusual, and call its function."""
    from lstmstate.files.inputs import gather

    command = load(name)
    values = command.parse(words)
    with gather():
        if values is not None:
            return command.call(**values) or DONE
        from lstmstate.cli.click_adapter import click_command

        called = f"lstmstate {name}"
        parsed = click_command(command, called)
        return parsed.main(words, prog_name=called, standalone_mode=False) or DONE


def _is_path(argument: str) -> bool:
    """Return whether the first argument is a path, not a command."""
    if argument in COMMANDS or argument.startswith("-"):
        return argument == "-"
    looks_so = any(mark in argument for mark in "/\\.:~")
    return looks_so or os.path.exists(argument) or os.path.exists(f"{argument}.index")


def _run(arguments: list[str]) -> int:
    """Run a command."""
    name = arguments[0] if arguments else ""
    if "_LSTMSTATE_COMPLETE" in os.environ:  # a shell asks for completions
        from lstmstate.cli.click_adapter import cli

        with suppress(SystemExit):
            cli.main(arguments, prog_name="lstmstate", standalone_mode=False)
    elif name in COMMANDS:
        return _run_command(name, arguments[1:])
    elif name in ("-h", "--help"):
        print(HELP)
    elif name in ("-V", "--version"):
        from lstmstate.version import __version__

        print(f"lstmstate {__version__}")
    elif not name:
        print(HELP, file=sys.stderr)
        return USAGE
    else:
        return _refuse(name)
    return DONE


def load(name: str) -> Command:
    """Import a command."""
    command: Command = import_module(f"lstmstate.cli.{name}").command
    return command


def _refuse(name: str) -> int:
    """Print that there is no such command or option, and the nearest one."""
    from lstmstate.errors import nearest

    options = ["--help", "--version"]
    kind, known = "command", [*COMMANDS, "or a path"]
    if name.startswith("-"):
        kind, known = "option", options
    near = nearest(name, [*COMMANDS, *options], limit=1, cutoff=0.6)
    if not near and kind == "command":
        kind = "command or file"
    report_line(f"error: no {kind} {name!r}; {near or 'expected ' + ', '.join(known)}")
    return USAGE


def _report(error: Exception, arguments: list[str]) -> int:
    """Print an error in one line; return the exit code."""
    click = sys.modules.get("click")
    from lstmstate.errors import LstmstateError, each, nearest

    if click is not None and isinstance(error, click.ClickException):
        name = arguments[0]
        problem = error.format_message().rstrip(".")
        if isinstance(error, click.NoSuchOption):
            near = nearest(error.option_name, error.possibilities or (), limit=1, cutoff=0.75)
            problem = f"no option {error.option_name!r}" + (f" ({near})" if near else "")
            if not error.option_name.startswith("--"):
                problem += "; pass -- before a path that begins with a dash"
        problem += _form(error, name)
        if not problem.endswith("?"):
            metavar = str(getattr(getattr(error, "param", None), "metavar", ""))
            problem += f"; see lstmstate {_LISTS.get(metavar, f'{name} --help')}"
        report_line(f"error: {problem}")
        return USAGE
    if click is not None and isinstance(error, click.Abort):
        return INTERRUPTED
    if "--debug" in arguments:
        import traceback

        traceback.print_exc()
    if isinstance(error, OSError) and not isinstance(error, LstmstateError):
        report_line(f"error: the output could not be written ({error.strerror or error})")
    elif isinstance(error, MemoryError):
        report_line("error: there is not enough memory for this")
    elif isinstance(error, LstmstateError):
        for one in each(error):
            report_line(f"error: {one}")
    else:
        problem = f"internal error ({type(error).__name__}: {error})"
        report_line(f"error: {problem}; run it with --debug and report it")
    return UNUSABLE


def _form(error: Exception, name: str) -> str:
    """Return the form of the option that is missing or has too few values; "" for others."""
    import click

    param = error.param if isinstance(error, click.MissingParameter) else None
    named = error.option_name if isinstance(error, click.BadOptionUsage) else None
    for field, option in load(name).options().items():
        is_it = named in option.flags or (param is not None and param.name == field)
        if is_it and option.metavar:
            return f": pass {option.flags[0]} {option.metavar}"
    return ""


def report_line(line: str) -> None:
    """Print one line on stderr, without characters from a file that would steer the terminal."""
    from lstmstate.cli.report.flags import with_flags
    from lstmstate.errors import printable

    sys.stdout.flush()  # both may go to one file
    print(f"lstmstate: {printable(with_flags(line))}", file=sys.stderr, flush=True)


def print_path(path: str) -> None:
    """Print the path of an output as soon as it is there."""
    from lstmstate.errors import printable

    print(printable(path) if sys.stdout.isatty() else path, flush=True)
