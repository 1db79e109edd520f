"""The command line as a whole: commands, flags, messages, and the end of the process."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from textwrap import indent

import click
import numpy as np
import pytest
from commands import (
    PROJECT,
    SAMPLES,
    SUNSPOTS,
    Shell,
    archive,
    checkpoint,
    error,
    lstm_cell,
    notes,
    numbers,
    saved,
)

import lstmstate
from lstmstate.cli import COMMANDS, HELP, load
from lstmstate.cli.click_adapter import cli, click_command
from lstmstate.cli.report.flags import with_flags


@pytest.mark.parametrize(
    "path",
    [
        SUNSPOTS,
        f"{SUNSPOTS}/model.ckpt-360",
        f"{SUNSPOTS}/model.ckpt-360.index",
        f"{SUNSPOTS}:saved_state",
    ],
)
def test_a_path_without_a_command_is_inspected(shell: Shell, path: str) -> None:
    assert shell(path) == shell("inspect", path)
    assert shell(path, "--json").out == shell("inspect", path, "--json").out


def test_several_paths_without_a_command_are_inspected(shell: Shell) -> None:
    paths = (SUNSPOTS, str(SAMPLES / "peephole_flat"), "-q")
    assert shell(*paths) == shell("inspect", *paths)


@pytest.mark.parametrize("name", ["folder", "model-7", "model"])
def test_an_existing_name_without_a_slash_or_dot_is_a_path(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    source = Path(SUNSPOTS) / "model.ckpt-360.index"
    (tmp_path / "model-7.index").write_bytes(source.read_bytes())
    saved(tmp_path / "state.npy", numbers(2, 8)).rename(tmp_path / "model")
    assert shell(name) == shell("inspect", name)


@pytest.mark.parametrize("path", ["no/such", "missing.npy", "~/x", "a:b"])
def test_a_path_that_does_not_exist_is_an_error_of_inspect(shell: Shell, path: str) -> None:
    done = shell(path)
    assert done == shell("inspect", path)
    assert done.code == 3


def test_a_command_goes_before_a_file_of_its_name(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    assert "Missing argument" in error(shell("run"))


@pytest.mark.parametrize(
    ("typed", "problem"),
    [
        ("inspekt", "no command 'inspekt'; did you mean inspect?"),
        ("Convert", "no command 'Convert'; did you mean convert?"),
        ("dif", "no command 'dif'; did you mean diff?"),
        ("--versoin", "no option '--versoin'; did you mean --version?"),
        ("xyzzy", f"no command or file 'xyzzy'; expected {', '.join(COMMANDS)}, or a path"),
        ("help", "no command 'help'; did you mean --help?"),
        ("--xyzzy", "no option '--xyzzy'; expected --help, --version"),
        ("in\nspect", r"no command 'in\nspect'; did you mean inspect?"),
    ],
)
def test_a_mistyped_command_is_answered_with_the_nearest_in_one_line(
    shell: Shell, typed: str, problem: str
) -> None:
    done = shell(typed, "x")
    assert (done.code, done.out, error(done)) == (2, "", problem)


@pytest.mark.parametrize("flag", ["-V", "--version"])
def test_the_version(shell: Shell, flag: str) -> None:
    assert shell(flag) == (0, f"lstmstate {lstmstate.__version__}\n", "")


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_the_help_names_every_command_and_has_examples(shell: Shell, flag: str) -> None:
    done = shell(flag)
    assert (done.code, done.out, done.err) == (0, f"{HELP}\n", "")
    assert re.findall(r"^  ([a-z]+) ", HELP.split("Commands:")[1].split("Options:")[0], re.M) == [
        *COMMANDS
    ]
    for example in re.findall(r"^  lstmstate (\w+)", HELP.split("Examples:")[1], re.MULTILINE):
        assert example in COMMANDS
    assert max(map(len, HELP.splitlines())) <= 80
    assert click.Context(cli).get_help() == HELP


def test_a_call_without_arguments_gets_the_help_as_an_error(shell: Shell) -> None:
    assert shell() == (2, "", f"{HELP}\n")


def test_the_help_and_the_version_import_no_library() -> None:
    for flag in ("--help", "--version"):
        script = "import sys; from lstmstate.cli import execute as run; run(sys.argv[1:])"
        script += "\nprint(*sys.modules, sep='\\n', file=sys.stderr)"
        done = subprocess.run(
            [sys.executable, "-c", script, flag], capture_output=True, text=True, check=True
        )
        found = set(done.stderr.splitlines())
        assert not found & {"click", "json", "numpy", "rich", "lstmstate.errors"}


# ---- wrong command lines


def wrong_lines() -> list[list[str]]:
    """Return wrong command lines for every option of every command."""
    lines = []
    for name in COMMANDS:
        command = click_command(load(name), name)
        lines += [[name, "--nope"], [name, "--hel"]]
        lines.append([name] if load(name).arguments else [name, "a"])
        for option in command.params:
            if not isinstance(option, click.Option):
                continue
            flag = option.opts[0]
            if option.is_flag:
                lines.append([name, f"{flag}=1"])
            else:
                lines.append([name, flag])
                if not isinstance(option.type, click.types.StringParamType | click.Tuple):
                    lines.append([name, "a", "b", flag, "\n?"])
    return lines


@pytest.mark.parametrize("line", wrong_lines(), ids=" ".join)
def test_every_wrong_command_line_is_one_line(shell: Shell, line: list[str]) -> None:
    done = shell(*line, code=2)
    assert done.out == ""
    tables = ("see lstmstate convert --list", "see lstmstate export --list")
    assert error(done).endswith((f"see lstmstate {line[0]} --help", *tables))


def test_a_mistyped_option_is_answered_with_the_nearest(shell: Shell) -> None:
    done = shell("convert", "a", "--to-tupel")
    assert error(done) == (
        "no option '--to-tupel' (did you mean --to-tuple?); see lstmstate convert --help"
    )
    done = shell("run", "a", "b", "--units", "5")
    assert error(done) == "no option '--units'; see lstmstate run --help"


@pytest.mark.parametrize("words", [["inspect", "-6600"], ["convert", "-6.npy", "--to-flat"]])
def test_a_path_that_begins_with_a_dash_needs_two(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("-6.npy", np.zeros((2, 8)))
    assert error(shell(*words)) == (
        "no option '-6'; pass -- before a path that begins with a dash; "
        f"see lstmstate {words[0]} --help"
    )
    assert shell("convert", "--to-flat", "-o", "x.npy", "--", "-6.npy").code == 0


# ---- plain command lines are parsed without Click

PLAIN = [
    "inspect a b --cell x --cell y --stats --verify -q",
    "inspect --json a --header",
    "inspect a --no-header --cell=x=y",
    "check a --units 3 --has x --finite --has y --max-abs-m 1e-3 --cells 24,12 --proj 0",
    "check --cells 2 a b --era 1.2+",
    "check a --forget-bias=-0.5 --layout flat",
    "convert a b --to torch --out-dir d --cells 128:64,128 --force",
    "convert a --to-tuple -o - --dtype float16 --checkpoint c --cell d --variable C --variable M",
    "concat c m -o flat.npy --units 3 --proj 2 --compress",
    "run c x.npy y.npy --out-dir d --forget-bias 0 --cell-clip none --proj-clip 3 --no-peepholes",
    "run c - -o - --state s --feed a=1 --feed b=true --feed c=x.npy --engine numpy --peepholes",
    "verify c --tolerance 1e-9 --seed 3 --against graph --debug",
    "verify c x --lengths l --time-major --strict",
    "diff a b --exact --rtol 0 --units 4",
]
UNUSUAL = """inspect; inspect a --nope; inspect a --cell; inspect -qq a; inspect -- -6600; diff a
inspect a --variables=1; inspect --help; inspect a --cell --json; diff a b c; diff a b --rtol x
diff a b --rtol -1; check a --era 1; concat a b; split a -o b c; run c x -oy; run c x -o=y; run c
run c x --engine; run c x --feed a; check a --forget-bias -0.5"""


def parsed_by_click(name: str, words: list[str]) -> dict[str, object]:
    """Return the values that Click passes."""
    context = click_command(load(name), name).make_context(name, words)
    return dict(context.params)


@pytest.mark.parametrize("line", PLAIN)
def test_a_plain_line_has_the_values_that_click_would_pass(line: str) -> None:
    name, *words = line.split()
    found = load(name).parse(words)
    assert found is not None
    by_click = parsed_by_click(name, words)
    assert found == by_click
    given = [field for field in found if field in {w.lstrip("-").replace("-", "_") for w in words}]
    assert given == [field for field in by_click if field in given]  # in the user's order


@pytest.mark.parametrize("line", re.split(r"; |\n", UNUSUAL))
def test_an_unusual_line_is_left_to_click(line: str) -> None:
    name, *words = line.split()
    assert load(name).parse(words) is None


def test_only_commands_that_read_tables_have_an_option_for_their_headers() -> None:
    without = [name for name in COMMANDS if "header" not in load(name).options()]
    assert without == ["state", "export", "doctor"]


@pytest.mark.parametrize("name", COMMANDS)
def test_click_parses_random_plain_lines_the_same(name: str) -> None:
    random = Random(name)
    command = load(name)
    flags = {flag: one for one in command.options().values() for flag in one.values()}
    texts = ["a", "", "-", "3", "0.5", "none", "24,12", "128:64", "a=1", "é", "--json", "flat"]
    plain = 0
    for _ in range(500):
        words = random.choices(["a", "b", "c", ""], [3, 3, 3, 1], k=random.randint(0, 3))
        for flag in random.choices(list(flags), k=random.randint(0, 4)):
            kind = flags[flag].kind
            text = random.choice(kind if isinstance(kind, tuple) else texts)
            ways = [[flag]] if flags[flag].is_flag else [[flag, text], [f"{flag}={text}"]]
            words[:0] = random.choice(ways)
        found = command.parse(words)
        if found is not None:
            plain += 1
            assert found == parsed_by_click(name, words), words
    assert plain > (10 if name != "split" else -1)  # its -o has two values, always for Click


@pytest.mark.parametrize("words", [["--quiet"], ["--quiet", "--"]], ids=["plain", "by Click"])
def test_opening_a_file_decides_whether_it_can_be_read(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    path = saved(tmp_path / "x.npy", numbers(2, 4))
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert shell("inspect", *words, path).code == 0


@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_of_the_help_can_be_parsed(name: str) -> None:
    examples = re.findall(rf"^  lstmstate {name} (.*)$", load(name).epilog, re.MULTILINE)
    assert examples
    for example in examples:
        words = re.split(r" [|<>&]|   +", example)[0].split()
        assert parsed_by_click(name, words)


def test_inspect_does_not_import_click() -> None:
    script = "import sys; from lstmstate.cli import execute as run; run(sys.argv[1:])"
    script += "\nprint(*sys.modules, sep='\\n', file=sys.stderr)"
    for more in ([], ["--json"]):
        done = subprocess.run(
            [sys.executable, "-c", script, "inspect", "-q", SUNSPOTS, *more],
            capture_output=True,
            text=True,
            check=True,
        )
        assert not set(done.stderr.splitlines()) & {"click", "rich", "numpy", "h5py"}


# ---- several paths


@pytest.mark.parametrize(
    "line",
    [
        ["inspect", "{}", "{}"],
        ["check", "{}", "{}", "--finite"],
        ["convert", "{}", "{}", "--to-tuple", "--out-dir", "out"],
        ["run", SUNSPOTS, "{}", "{}"],
        ["verify", SUNSPOTS, "{}", "{}", "--against", "graph"],
    ],
    ids=lambda line: line[0],
)
def test_every_command_goes_on_after_a_path_that_fails(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("good.npy", np.zeros((5, 1) if line[0] in ("run", "verify") else (2, 8), np.float32))
    names = iter(["missing.npy", "good.npy"])
    words = [next(names) if word == "{}" else word for word in line]
    assert error(shell(*words, "-q", code=4)).startswith("missing.npy: ")
    found = shell.json(*words, "-q", "--force" if line[0] == "convert" else "--debug", code=4)
    assert [one["path"] for one in found["failed"]] == ["missing.npy"]
    assert len(found.get("results", found.get("trials"))) == 1


def test_memory_that_is_not_there_for_one_path_fails_that_path_alone(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, large = (saved(tmp_path / name, numbers(2, 8)) for name in ("good.npy", "large.npy"))
    from lstmstate.operations import load as module

    real = module.open_path

    def open_path(path: str, **how: object) -> object:
        if "large" in path:
            raise MemoryError
        return real(path, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "open_path", open_path)
    done = shell("check", large, good, "--finite", "-q", code=4)
    assert error(done) == f"{large}: there is not enough memory for this"


# ---- legends


def test_every_mark_in_a_table_has_a_legend(shell: Shell, tmp_path: Path) -> None:
    marks = {"*": "the documented default", "?": "unknown", "-": "none"}
    x = saved(tmp_path / "x.npy", numbers(2, 4, 5))
    nan = saved(tmp_path / "nan.npy", np.full((2, 8), np.nan, np.float32))
    seen = set()
    for line in (
        ["inspect", SAMPLES / "tf_1_0_names"],
        ["inspect", SUNSPOTS],
        ["inspect", SAMPLES / "saved_model", "--stats"],
        ["inspect", nan],
        ["run", SAMPLES / "tf_1_0_names", x, "-q"],
        ["run", SUNSPOTS, saved(tmp_path / "y.npy", numbers(4, 1)), "-q"],
    ):
        out = shell(*line).out
        for block in out.split("\n\n"):
            rows = [row for row in block.splitlines() if row.startswith("  ")]
            legend = {row[2]: row for row in rows if re.match(r"  [*?-] \S", row)}
            cells = {
                cell for row in rows if row[2:3] not in legend for cell in re.split(r"  +", row)
            }
            used = {mark for mark in "?-" if mark in cells}
            used |= {"*"} if any(cell.endswith("*") for cell in cells) else set()
            if used - set(legend):  # the cells share the legend of their options, which follows
                assert "LSTM cell" in block.splitlines()[0], block
            for mark, row in legend.items():
                assert marks[mark] in row
            seen |= used
    assert seen == {"*", "?", "-"}


def test_checksums_that_are_not_verified_are_noted_once(shell: Shell) -> None:
    done = shell("inspect", SUNSPOTS, SAMPLES / "peephole_flat", "--no-checksums")
    assert notes(done).count("checksums are not verified; values may be wrong") == 1


def test_completion_still_works() -> None:
    environment = os.environ | {
        "_LSTMSTATE_COMPLETE": "bash_complete",
        "COMP_WORDS": "lstmstate run --state-",
        "COMP_CWORD": "2",
    }
    done = subprocess.run(
        [sys.executable, "-m", "lstmstate"],
        env=environment,
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["plain,--state-out", "plain,--state-layout"]


# ---- names of parameters in library messages, and the flags that replace them on the command line


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


# ---- the end of a command's process: quick, with all its output, and with its exit code


SAMPLE = Path(__file__).resolve().parent.parent / "sample_checkpoints" / "peephole_tuple"
SCRIPT = """
import atexit
atexit.register(print, "called at the end")
from lstmstate.__main__ import main

class Left:
    def __init__(self):
        self.own = self

    def __del__(self):
        print("collected")

left = Left()
main()
"""


def ended(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command in its own process."""
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(("inspect", "-q", str(SAMPLE)), 0), (("inspect", "nothing-of-this-name"), 3), (("x",), 2)],
)
def test_a_process_ends_with_its_output_and_exit_code(
    arguments: tuple[str, ...], code: int
) -> None:
    done = ended(*arguments)
    assert done.returncode == code
    assert bool(done.stderr) == (code != 0)
    assert ("peephole" in done.stdout) == (code == 0)


def test_a_process_ends_without_looking_for_garbage() -> None:
    """Handlers registered before it for the end of the process are called."""
    done = ended("x")
    assert done.stdout == "called at the end\n"


@pytest.mark.parametrize(
    ("after", "code"), [("sys.exit(7)", 7), ("raise ValueError", 1), ("pass", 0)]
)
def test_a_calling_program_keeps_its_exit_code(after: str, code: int) -> None:
    script = f"import sys\ntry:\n{indent(SCRIPT, '    ')}\nexcept SystemExit:\n    {after}"
    command = [sys.executable, "-c", script, "inspect", "nothing-of-this-name"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (code, "called at the end\n")


@pytest.mark.parametrize("first", ["", "import atexit; atexit.register(print, 'first')\n"])
def test_handlers_registered_before_it_are_called(first: str) -> None:
    """Also if the process is the command itself, which ends sooner without such handlers."""
    script = f"{first}import sys, runpy\nsys.argv[:] = ['lstmstate', 'x']\n"
    script += "runpy.run_module('lstmstate', run_name='__main__', alter_sys=False)"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "first\n" if first else "")
    assert "no command or file 'x'" in done.stderr


def test_a_calling_program_continues() -> None:
    script = "import sys\nfrom lstmstate.__main__ import main\n"
    script += "try:\n    main()\nexcept SystemExit:\n    sys.exit(7)"
    command = [sys.executable, "-c", script, "inspect", "nothing-of-this-name"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 7


def test_no_module_of_the_current_folder_is_loaded(tmp_path: Path) -> None:
    """There may be anything where a stranger's checkpoint is, but for modules of `runpy` itself."""
    for name in ("click", "rich", "numpy", "h5py", "google_crc32c", "gc", "json"):
        (tmp_path / f"{name}.py").write_text(f"open('{name}.loaded', 'w').close()\nraise Exception")
    path = [str(SAMPLE.parent.parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    for arguments in (["inspect", "-q", str(SAMPLE), "--json"], ["check", "--help"]):
        done = subprocess.run(
            [sys.executable, "-m", "lstmstate", *arguments],
            capture_output=True,
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path))},
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, b"")
    assert not list(tmp_path.glob("*.loaded"))


def test_a_profile_of_it_is_printed() -> None:
    command = [sys.executable, "-m", "cProfile", "-m", "lstmstate", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "function calls" in done.stdout
