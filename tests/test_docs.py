"""Documents: pages, examples, docstrings, and the words of the project."""

from __future__ import annotations

import doctest
import importlib
import inspect
import os
import pkgutil
import re
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import click
import numpy as np
import pytest
import yaml
from commands import (
    FIRST,
    LSTMSTATE,
    PROJECT,
    SAMPLES,
    SUNSPOTS,
    Shell,
    archive,
    checkpoint,
    lstm_cell,
    numbers,
)

import lstmstate
from lstmstate.cli.click_adapter import cli

DOCS = PROJECT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
PICTURES = sorted((DOCS / "images").glob("*.svg"))
EXAMPLES = PROJECT / "examples"
SVG = "{http://www.w3.org/2000/svg}"


def read(path: Path) -> str:
    """Return the text of a file."""
    return path.read_text(encoding="utf-8")


def prose(text: str) -> str:
    """Return a page without its code blocks."""
    return re.sub(r"^```.*?^```$|^ {4}.*?$|`[^`\n]*`", "", text, flags=re.DOTALL | re.MULTILINE)


# Unclear words, and words with a plain replacement.
UNPLAIN = (
    r"\b(?:tells?|told|stands?|lies?|lives?|beside|of\s+which|ends?\s+with\s+\d|whoever|evil)\b"
)


@pytest.mark.parametrize("page", [PROJECT / "README.md", *PAGES], ids=lambda page: page.name)
def test_pages_are_in_plain_english(page: Path) -> None:
    assert re.findall(UNPLAIN, prose(read(page)), re.IGNORECASE) == []


def test_every_public_name_is_in_the_api_reference() -> None:
    documented = re.findall(r"^\.\. auto\w+:: (\w+)$", read(DOCS / "api.md"), re.MULTILINE)
    assert sorted(documented) == sorted(lstmstate.__all__)


def commands() -> Iterator[tuple[str, click.Command]]:
    """Yield every command by name."""
    context = click.Context(cli)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        yield name, command


def test_every_command_has_a_page() -> None:
    titles = " ".join(read(page).partition("\n")[0] for page in PAGES)
    assert {name for name, _ in commands() if name not in re.findall(r"\w+", titles)} == set()


def test_options_in_the_documentation_exist() -> None:
    known = {"--help", "--version"}
    for _, command in commands():
        for option in command.params:
            known |= {*option.opts, *option.secondary_opts}
    for page in [PROJECT / "README.md", *PAGES]:
        named = re.findall(r"`(?:lstmstate [a-z]+ )?(--[a-z][a-z-]*)", read(page))
        assert set(named) <= known, page.name


# ---- the fields of the JSON documents


def keys(value: Any) -> Iterator[str]:
    """Yield the names of all fields in a document."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield name
            yield from () if name in ("documented", "variables") else keys(part)
    elif isinstance(value, list):
        for part in value:
            yield from keys(part)


def test_every_field_of_the_json_is_described(shell: Shell, tmp_path: Path) -> None:
    state, flat, x = (str(tmp_path / name) for name in ("state.npz", "flat.npy", "x.npz"))
    archive(Path(x), x=numbers(4, 10, 3))
    halves = [str(tmp_path / "c.npy"), str(tmp_path / "m.npy")]
    peephole = str(SAMPLES / "peephole_flat")
    documents = [
        shell.json("inspect", peephole, "--verify", "--stats"),
        shell.json("inspect", SUNSPOTS, SAMPLES / "saved_model", tmp_path, code=4),
        shell.json("convert", peephole, "--to-tuple", "-o", state),
        shell.json("split", state, "-o", *halves),
        shell.json("concat", *halves, "-o", flat),
        shell.json("inspect", state),
        shell.json("run", peephole, x),
        shell.json("verify", peephole, "--against", "graph"),
        shell.json("diff", state, flat),
        shell.json("check", state, "--finite"),
        shell.json("inspect", f"{peephole}/model.ckpt:rnn/lstm_cell/bias", "--slice", "0"),
        shell.json("export", peephole, "--to", "gates", "-o", tmp_path / "gates.npz"),
        shell.json("export", peephole, "--to", "arrays", "-o", tmp_path / "arrays.npz"),
        shell.json("export", "--list"),
        shell.json("doctor"),
    ]
    found = {name for document in documents for name in keys(document)}
    found |= {variable for document in documents[:1] for variable in document["variables"][0]}
    text = read(DOCS / "json.md")
    described = set(re.findall(r"`([a-z_]+)`", text))
    assert found - described == set()
    rows = re.findall(r"^\| (`.*?`) \|", text, re.MULTILINE)
    rare = {"error", "operation", "by", "on", "node", "schema"}  # which these files do not have
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} - found - rare == set()
    for document in documents:
        assert document["schema"] in text


# ---- pictures and terms


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.name)
def test_pictures_have_a_title_a_description_and_dark_colours(picture: Path) -> None:
    root = ElementTree.parse(picture).getroot()
    for part in ("title", "desc"):
        element = root.find(f"{SVG}{part}")
        assert element is not None
        assert element.text
        assert element.get("id") in (root.get("aria-labelledby") or "").split()
    style = root.find(f"{SVG}style")
    assert style is not None
    assert "prefers-color-scheme: dark" in (style.text or "")
    shown = re.compile(rf"!\[[^\]]{{20,}}\]\(images/{picture.name}\)")
    assert any(shown.search(read(page)) for page in PAGES)


def test_the_glossary_explains_its_terms_in_a_sentence_or_two() -> None:
    text = read(DOCS / "glossary.md")
    terms = re.findall(r"^([\w ]+)\n((?:  .+\n)+)", text, re.MULTILINE)
    assert len(terms) >= 30
    for term, words in terms:
        assert 1 <= len(re.findall(r"\.(?:\s|$)", words)) <= 3, term


# ---- the examples for CI


def in_shell(command: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command line; `lstmstate` is the program under test."""
    home = folder / "bin"
    home.mkdir(exist_ok=True)
    program = home / "lstmstate"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(LSTMSTATE)} "$@"\n')
    program.chmod(0o755)
    path = os.pathsep.join([str(home), os.environ["PATH"]])
    modules = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH", "")]))
    return subprocess.run(
        ["sh", "-e", "-c", command],
        cwd=folder,
        env=os.environ | {"PATH": path, "PYTHONPATH": modules} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="sh is needed")
def test_the_steps_of_the_workflow_run(tmp_path: Path) -> None:
    workflow = yaml.safe_load(read(EXAMPLES / "github-workflow.yml"))
    assert set(workflow) == {"name", True, "permissions", "jobs"}  # YAML 1.1 reads `on` as true
    (job,) = workflow["jobs"].values()
    steps = [step["run"] for step in job["steps"] if "run" in step]
    assert steps.pop(0) == "python -m pip install ./third_party/lstmstate"
    for step in steps:
        done = in_shell(step, tmp_path, CHECKPOINT=SUNSPOTS)
        assert done.returncode == 0, done.stderr
    (upload,) = (step for step in job["steps"] if "upload" in step.get("uses", ""))
    assert (tmp_path / upload["with"]["path"]).is_file()


@pytest.mark.skipif(sys.platform == "win32", reason="sh is needed")
def test_the_hooks_check_the_files_that_they_name(tmp_path: Path) -> None:
    (local,) = yaml.safe_load(read(EXAMPLES / "pre-commit-config.yaml"))["repos"]
    hooks = {hook["id"]: hook for hook in local["hooks"]}
    good = archive(tmp_path / "good.npz", c=numbers(2, 4), m=numbers(2, 4))
    bad = archive(tmp_path / "bad.npz", c=numbers(2, 4), m=numbers(2, 4) * float("nan"))
    indexes = [f"{SUNSPOTS}/model.ckpt-360.index", f"{SAMPLES}/peephole_flat/model.ckpt.index"]
    for name, files, code in (
        ("lstm-checkpoints", indexes, 0),
        ("lstm-states", [good], 0),
        ("lstm-states", [good, bad], 1),
    ):
        command = shlex.join([*shlex.split(hooks[name]["entry"]), *map(str, files)])
        done = in_shell(command, tmp_path)
        assert done.returncode == code, done.stderr
    assert re.search(hooks["lstm-checkpoints"]["files"], "models/model.ckpt-360.index")
    assert re.search(hooks["lstm-states"]["files"], "models/states/last.npz")


# ---- the scripts in examples/, run by the shell that they are written for


SCRIPT = PROJECT / "examples" / "ci_states.sh"


def job(
    folder: Path, *arguments: str | Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the job in a folder, with its temporary files below it."""
    (folder / "tmp").mkdir(exist_ok=True)
    where = {"LSTMSTATE": " ".join(LSTMSTATE), "TMPDIR": str(folder / "tmp")}
    paths = [str(PROJECT), os.environ.get("PYTHONPATH", "")]
    where["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    done = subprocess.run(
        ["sh", str(SCRIPT), *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | where | environment,
        check=False,
    )
    assert os.listdir(folder / "tmp") == [], "something was left behind"
    return done


def test_a_good_checkpoint(tmp_path: Path) -> None:
    done = job(tmp_path, SUNSPOTS)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "state.npz"
    assert "4 arrays, 4 the same (to the bit)" in done.stdout
    with np.load(tmp_path / "state.npz") as found:
        assert found[f"{FIRST}/c"].shape == (1, 24)
    assert sorted(os.listdir(tmp_path)) == ["state.npz", "tmp"]
    done = job(tmp_path, SUNSPOTS, "new.npz", LAST_STATE="state.npz")
    assert (done.returncode, "has not changed" in done.stderr) == (0, True)


def test_a_state_that_has_changed_and_names_with_blanks(tmp_path: Path) -> None:
    there = tmp_path / "the run; of * today"
    shutil.copytree(SAMPLES / "peephole_flat", there)
    archive(tmp_path / "last state.npz", c=numbers(4, 8), m=numbers(4, 5))
    options = {"LAST_STATE": "last state.npz", "EXPECT": "--layout flat --units 8"}
    done = job(tmp_path, there, "my state.npz", **options)
    assert (done.returncode, "has changed since" in done.stderr) == (0, True), done.stderr
    assert (tmp_path / "my state.npz").is_file()
    done = job(tmp_path, there, "new.npz", LAST_STATE="gone.npz")
    assert (done.returncode, "cannot be compared: gone.npz" in done.stderr) == (3, True)


def test_a_failed_assertion_exits_with_1(tmp_path: Path) -> None:
    done = job(tmp_path, SUNSPOTS, EXPECT="--cells 3")
    assert done.returncode == 1
    assert "--cells 3: it has 2 cells (24,12), not 3" in done.stdout
    assert "failed with exit code 1: " in done.stderr
    assert not (tmp_path / "state.npz").exists()


def test_values_that_are_not_finite_exit_with_1(tmp_path: Path) -> None:
    state = numbers(2, 8)
    state[0, 0] = np.nan
    path = checkpoint(tmp_path / "x.ckpt", lstm_cell() | {"saved_state": state})
    done = job(tmp_path, path)
    assert done.returncode == 1
    assert "saved_state holds NaN" in done.stdout
    assert not (tmp_path / "state.npz").exists()


@pytest.mark.parametrize("broken", ["gone", "cut", "damaged", "stateless", "exists", "no room"])
def test_a_file_that_cannot_be_used(tmp_path: Path, broken: str) -> None:
    source, options = tmp_path / "run", {}
    shutil.copytree(SUNSPOTS, source)
    data = source / "model.ckpt-360.data-00000-of-00001"
    index = source / "model.ckpt-360.index"
    if broken == "gone":
        shutil.rmtree(source)
    elif broken == "cut":
        index.write_bytes(index.read_bytes()[:-10])
    elif broken == "damaged":
        data.write_bytes(data.read_bytes()[:-1] + b"\xff")
    elif broken == "stateless":
        source, options = SAMPLES / "bidirectional", {"EXPECT": "--finite"}
    elif broken == "exists":
        (tmp_path / "state.npz").write_bytes(b"old")
    else:
        options = {"TMPDIR": "/nowhere"}
    done = job(tmp_path, source, **options)
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    if broken == "exists":
        assert (tmp_path / "state.npz").read_bytes() == b"old"
    else:
        assert not (tmp_path / "state.npz").exists()


@pytest.mark.parametrize("arguments", [[], ["a", "b", "c"]])
def test_a_wrong_call(tmp_path: Path, arguments: list[str]) -> None:
    done = job(tmp_path, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "usage: sh ci_states.sh CHECKPOINT [STATE]\n"


@pytest.mark.skipif(not shutil.which("dash"), reason="there is no dash")
def test_the_script_is_portable_sh() -> None:
    """Dash knows only POSIX syntax; `-n` parses the whole script."""
    subprocess.run(["dash", "-n", str(SCRIPT)], check=True)
    text = SCRIPT.read_text(encoding="utf-8")
    assert text.startswith("#!/bin/sh\n")
    for bashism in ("[[", "function ", "local ", "$'", "<(", "pipefail", "&>"):
        assert bashism not in text
    assert SCRIPT.stat().st_mode & stat.S_IXUSR


def test_the_sunspot_forecast_matches_its_readme() -> None:
    """Errors on training data, on unseen data and with the last value, and the next forecast."""
    done = subprocess.run(
        [sys.executable, str(PROJECT / "examples" / "sunspots.py")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    figures = [re.findall(r"\d+\.\d", line) for line in done.stdout.splitlines()]
    assert figures[:3] == [["10.4", "22.5"], ["13.5", "30.3"], ["23.1"]]
    assert "the saved one: " in done.stdout
    readme = (SAMPLES / "README.md").read_text(encoding="utf-8")
    for number in ("10.4 | 22.5 |", "13.5 | 30.3 |", "23.1 sunspots"):
        assert number in readme


# ---- docstrings: their examples run and print the shown output; every public object has one


MODULES = [
    "lstmstate",
    *(
        module.name
        for module in pkgutil.walk_packages(lstmstate.__path__, "lstmstate.")
        if not module.name.endswith("__main__")
    ),
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).resolve().parent.parent)  # they open the samples
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize("name", MODULES)
def test_public_things_are_documented(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__
    for label, thing in vars(module).items():
        own = getattr(thing, "__module__", None) == name
        if (
            own
            and not label.startswith("_")
            and (inspect.isclass(thing) or inspect.isroutine(thing))
        ):
            assert thing.__doc__, label


def test_there_are_examples_to_run() -> None:
    finder = doctest.DocTestFinder()
    found = [finder.find(importlib.import_module(name)) for name in MODULES]
    assert sum(bool(test.examples) for tests in found for test in tests) > 15
