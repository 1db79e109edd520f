"""Mutated files through the commands, in this process: exit codes, messages, outputs.

    python tests/robustness/mutate.py --runs 10000               ten thousand mutants of each kind
    python tests/robustness/mutate.py npz v1 --first 812 --runs 1    one of them again
    python tests/robustness/mutate.py --runs 100000 --one-command    each through one command

A mutant is a valid file with one change: of bytes, or of a field with all checksums made anew. Its
number makes it, and chooses the one command, so a find can be made again. Each command has to end
with a documented exit code; all that stderr shows are notes, and errors if the code is 3; a failure
leaves no output.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from mutations import mutate_bytes, mutate_entries, mutate_message, mutate_zip

SECONDS = 5.0  # of CPU for one command
BATCH = 500  # mutants of one process
Make = Callable[[Path, random.Random], str]  # writes a mutant into a folder; returns its path


def _bundle(folder: Path, chance: random.Random) -> str:
    from targets import bundle, table

    made = bundle()
    entries = {b"": made.header, **made.entries}
    return made.write(folder / "m", index=table(sorted(mutate_entries(entries, chance).items())))


def _bundle_bytes(folder: Path, chance: random.Random) -> str:
    from targets import bundle

    path = bundle().write(folder / "m")
    file = chance.choice(sorted(folder.iterdir()))
    file.write_bytes(mutate_bytes(file.read_bytes(), chance))
    return path


def _v1(folder: Path, chance: random.Random) -> str:
    from targets import table, v1_entries

    entries = mutate_entries(v1_entries(), chance)
    (folder / "m.ckpt").write_bytes(table(sorted(entries.items())))
    return str(folder / "m.ckpt")


def _graph(folder: Path, chance: random.Random) -> str:
    from targets import SAMPLES

    for file in (SAMPLES / "block_cell").glob("model.ckpt.*"):
        content = file.read_bytes()
        if file.suffix == ".meta":
            content = mutate_message(content, chance)
        (folder / file.name).write_bytes(content)
    return str(folder / "model.ckpt")


@functools.cache
def _seeds(target: str) -> list[bytes]:
    from targets import TARGETS

    return TARGETS[target].seeds()


def _file(target: str, ending: str, change: Callable[[bytes, random.Random], bytes]) -> Make:
    """Return what writes a mutant of a seed of a target."""

    def make(folder: Path, chance: random.Random) -> str:
        path = folder / f"s{ending}"
        path.write_bytes(change(chance.choice(_seeds(target)), chance))
        return str(path)

    return make


KINDS: dict[str, Make] = {
    "bundle": _bundle,
    "bundle-bytes": _bundle_bytes,
    "v1": _v1,
    "v1-bytes": _file("v1-table", ".ckpt", mutate_bytes),
    "graph": _graph,
    "npz": _file("npz", ".npz", mutate_zip),
    "npz-bytes": _file("npz", ".npz", mutate_bytes),
    "npy": _file("npy", ".npy", mutate_bytes),
    "pkl": _file("pkl", ".pkl", mutate_bytes),
    "h5": _file("h5", ".h5", mutate_bytes),
    "safetensors": _file("safetensors", ".safetensors", mutate_bytes),
    "pt": _file("pt", ".pt", mutate_zip),
    "pt-bytes": _file("pt", ".pt", mutate_bytes),
    "csv": _file("csv-state", ".csv", mutate_bytes),
}


def commands(path: str, folder: Path) -> Iterator[list[str]]:
    """Yield the command lines for a mutant; outputs are in a folder."""
    out = folder / "out"
    yield ["inspect", path]
    yield ["inspect", "--json", "--stats", path]
    yield ["inspect", "--verify", path]
    yield ["convert", path, "--to-tuple", "-o", f"{out}.npz"]
    yield ["convert", path, "--to-flat", "--units", "4", "-o", f"{out}.h5"]
    yield ["diff", path, path]
    yield ["check", path, "--finite", "--units", "4"]
    yield ["run", path, str(folder / "x.npy"), "-o", f"{out}.npy", "--assume-defaults"]


def judge(arguments: list[str], folder: Path) -> str | None:
    """Run a command; return how it broke its promises, None if it kept them."""
    from lstmstate.cli import execute

    before = set(folder.iterdir())
    out, err, start = io.StringIO(), io.StringIO(), time.process_time()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = execute(arguments)
    seconds = time.process_time() - start
    made = set(folder.iterdir()) - before
    for file in made:
        file.unlink()
    lines = [line for line in err.getvalue().splitlines() if not _is_note(line)]
    if code not in (0, 1, 3):
        return f"exit code {code}: {err.getvalue()}"
    if "internal error" in err.getvalue() or "Traceback" in err.getvalue():
        return err.getvalue()
    if bool(lines) != (code == 3) or not all(map(_is_error, lines)):
        return f"exit code {code}: {err.getvalue()}"
    if made and code:
        return f"exit code {code}, and the output exists"
    if seconds > SECONDS:
        return f"{seconds:.1f} s"
    return None


def _is_error(line: str) -> bool:
    return line.startswith("lstmstate: error: ")


def _is_note(line: str) -> bool:
    return line.startswith(("lstmstate: note: ", "lstmstate: warning: "))


def try_mutant(kind: str, number: int, one_command: bool = False) -> list[str]:
    """Make one mutant and run every command over it, or one of them; return the finds."""
    import numpy as np

    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        folder = Path(name)
        np.save(folder / "x.npy", np.ones((2, 3), "f4"))
        chance = random.Random(f"{kind} {number}")
        path = KINDS[kind](folder, chance)
        tried = list(commands(path, folder))
        if one_command:
            tried = [chance.choice(tried)]
        found = [(words[0], judge(words, folder)) for words in tried]
        return [f"{kind} {number}: {name}: {problem}" for name, problem in found if problem]


def try_batch(kind: str, numbers: range, one_command: bool) -> list[str]:
    """Try some mutants in a process of their own, which may crash."""
    import warnings

    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        warnings.simplefilter("always")
        with os.fdopen(writer, "w", errors="backslashreplace") as pipe:
            for number in numbers:
                pipe.write(f"{number}\n")
                pipe.flush()
                for find in try_mutant(kind, number, one_command):
                    pipe.write(f"!{find!r}\n")
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        lines = pipe.read().splitlines()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    finds = [line for line in lines if line.startswith("!")]
    if status:
        last = next((line for line in reversed(lines) if not line.startswith("!")), "?")
        finds.append(f"!{kind} {last}: the process ended with {status}")
    return finds


def _processor_seconds() -> float:
    """Return the processor time of the processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> int:
    """Try the mutants of the command line and print their figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("kinds", nargs="*", choices=[*KINDS, []], metavar="KIND")
    parser.add_argument("--first", type=int, default=0, help="number of the first mutant")
    parser.add_argument("--runs", type=int, default=1000, help="mutants of each kind")
    parser.add_argument("--one-command", action="store_true", help="for each mutant, not all eight")
    given = parser.parse_args()
    import targets  # noqa: F401 - loaded once, before processes are forked

    found = []
    for kind in given.kinds or KINDS:
        start, finds = _processor_seconds(), []
        for first in range(given.first, given.first + given.runs, BATCH):
            stop = min(first + BATCH, given.first + given.runs)
            finds += try_batch(kind, range(first, stop), given.one_command)
        used = _processor_seconds() - start
        figures = f"{given.runs:9,} mutants {used:7.0f} processor seconds  {len(finds)} finds"
        print(f"{kind:14} {figures}", flush=True)
        found += finds
    print(*found, sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
