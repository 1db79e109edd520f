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


def commands(block: str) -> list[str]:
    """The commands of a block, which are run one after another in the same folder."""
    return [line[2:] for line in block.splitlines() if line.startswith("$ ")]


def shown(block: str) -> str:
    """Run the commands of a block like a shell; return the output."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("sample_checkpoints", "examples"):
            shutil.copytree(PROJECT / name, Path(folder, name))
        return "".join(f"$ {command}\n{run(command, folder)}" for command in commands(block))


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
    "block",
    dict.fromkeys(block for text in TEXTS for block in BLOCK.findall(text.read_text("utf-8"))),
    ids=lambda block: commands(block)[0],
)
def test_commands_print_the_output_in_the_texts(block: str) -> None:
    assert shown(block) == block


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
        text = path.read_text(encoding="utf-8")
        text = BLOCK.sub(lambda block: f"```console\n{shown(block[1])}```", text)
        path.write_text(text, encoding="utf-8")


def test_every_link_has_a_target() -> None:
    for path in TEXTS:
        for link in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
            assert (path.parent / link).exists() or "://" in link, f"{path.name}: {link}"


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) < 200


if __name__ == "__main__":
    main()
