"""The README's commands, and their output as it is printed there.

`python tests/test_readme.py` writes the output of today into the README.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
README = PROJECT / "README.md"
BLOCK = re.compile(r"```console\n\$ (?P<command>[^\n]+)\n(?P<output>.*?)```", re.DOTALL)
PYTHON_BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


def run(command: str) -> str:
    """Run a command of the README as a shell would; return what a user sees."""
    folder = str(Path(sys.executable).parent)
    path = os.pathsep.join([folder, os.environ["PATH"]])
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=PROJECT,
        env={**os.environ, "PATH": path, "PYTHONIOENCODING": "utf-8"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        check=False,
    )
    return done.stdout


@pytest.mark.parametrize(
    "block", list(BLOCK.finditer(README.read_text(encoding="utf-8"))), ids=lambda m: m["command"]
)
def test_a_command_prints_what_the_readme_says(block: re.Match[str]) -> None:
    assert run(block["command"]) == block["output"]


def test_the_python_of_the_readme_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = PYTHON_BLOCK.findall(README.read_text(encoding="utf-8"))
    os.chdir(PROJECT)
    scope: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), scope)
    said = re.findall(r"print\(.*?\)\s+# (.*)", code)
    assert said
    assert capsys.readouterr().out.splitlines() == said


def main() -> None:
    """Write into the README what its commands print now."""
    text = README.read_text(encoding="utf-8")
    text = BLOCK.sub(
        lambda block: f"```console\n$ {block['command']}\n{run(block['command'])}```", text
    )
    README.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
