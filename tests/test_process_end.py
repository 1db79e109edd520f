"""How the process of a command ends: at once, with all that it printed, and its exit code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SAMPLE = Path(__file__).resolve().parent.parent / "sample_checkpoints" / "peephole_tuple"
SCRIPT = """
import sys
from lstmstate.__main__ import main
import atexit

class Left:
    def __del__(self):
        print("taken apart")

left = Left()
atexit.register(print, "called at the end")
main()
"""


def ended(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own."""
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


def test_a_process_ends_without_taking_apart_what_was_loaded() -> None:
    """What other modules registered to be called at the end is called."""
    done = ended("x")
    assert done.stdout == "called at the end\n"
