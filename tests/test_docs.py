"""The documentation: names, options, fields, pictures and examples match the program."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import click
import pytest
import yaml
from commands import LSTMSTATE, PROJECT, SAMPLES, SUNSPOTS, Shell, archive, numbers

import lstmstate
from lstmstate.cli import cli

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
