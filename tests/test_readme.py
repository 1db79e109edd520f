"""Commands in the README and in docs, and the output shown there.

`python tests/test_readme.py` writes the current output into them.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from lstmstate.cli import execute

PROJECT = Path(__file__).resolve().parent.parent
README = PROJECT / "README.md"
TEXTS = [README, *sorted((PROJECT / "docs").glob("*.md"))]
BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)
PYTHON_BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


def current(text: str) -> str:
    """Run the commands of a text one after another in one folder; return it with their output."""

    def shown(block: re.Match[str]) -> str:
        commands = [line[2:] for line in block[1].splitlines() if line.startswith("$ ")]
        output = "".join(f"$ {command}\n{run(command, folder)}" for command in commands)
        return f"```console\n{output}```"

    with tempfile.TemporaryDirectory() as folder:
        for name in ("sample_checkpoints", "examples"):
            shutil.copytree(PROJECT / name, Path(folder, name))
        return BLOCK.sub(shown, text)


def run(command: str, folder: str) -> str:
    """Run a command; return its output on both streams."""
    name, *arguments = shlex.split(command)
    if name == "lstmstate" and not {"|", "||", "&&", ">"} & set(arguments):
        return run_here(arguments, folder)
    scripts = str(Path(sys.executable).parent)
    path = os.pathsep.join([scripts, os.environ["PATH"]])
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=folder,
        env={**os.environ, "PATH": path, "PYTHONIOENCODING": "utf-8"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        check=False,
    )
    return done.stdout


def run_here(arguments: list[str], folder: str) -> str:
    """Run a command that needs no shell in this process, where all modules are loaded already."""
    both, home = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True), Path.cwd()
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(both), contextlib.redirect_stderr(both):
            execute(arguments)
    finally:
        os.chdir(home)
    return both.buffer.getvalue().decode()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "text",
    [text for text in TEXTS if BLOCK.search(text.read_text("utf-8"))],
    ids=lambda text: text.name,
)
def test_commands_print_the_output_in_the_texts(text: Path) -> None:
    shown = text.read_text("utf-8")
    assert current(shown) == shown


@pytest.mark.parametrize(
    "text",
    [text for text in TEXTS if PYTHON_BLOCK.search(text.read_text("utf-8"))],
    ids=lambda text: text.name,
)
def test_python_prints_the_values_in_its_comments(
    text: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Python blocks of a text are run one after another, as one script."""
    code = "\n".join(PYTHON_BLOCK.findall(text.read_text("utf-8")))
    shutil.copytree(PROJECT / "sample_checkpoints", tmp_path / "sample_checkpoints")
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {}
    exec(compile(code, text.name, "exec"), scope)
    expected = re.findall(r"print\(.*?\)\s+# (.*)", code)
    assert expected
    assert capsys.readouterr().out.splitlines() == expected


def main() -> None:
    """Write the current output of the commands into the texts."""
    for path in TEXTS:
        path.write_text(current(path.read_text(encoding="utf-8")), encoding="utf-8")


def test_every_link_has_a_target() -> None:
    for path in TEXTS:
        for link in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
            assert (path.parent / link).exists() or "://" in link, f"{path.name}: {link}"


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) < 200


if __name__ == "__main__":
    main()
