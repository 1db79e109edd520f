"""The end of a command's process: quick, with all its output, and with its exit code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from textwrap import indent

import pytest

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


def test_a_profile_of_it_is_printed() -> None:
    command = [sys.executable, "-m", "cProfile", "-m", "lstmstate", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "function calls" in done.stdout
