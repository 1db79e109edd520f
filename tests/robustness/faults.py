"""Failing system calls, kills and signals while outputs are written.

    python tests/robustness/faults.py                    every way of writing, every call
    python tests/robustness/faults.py --every 5          each fifth call of each way

Each call on a file of the output's folder fails in turn (once with ENOSPC, or from there on with
EIO), is short, or is where the process gets SIGKILL, SIGTERM or SIGINT. Afterwards each output has
to be what it was before or what a run without faults writes, and all outputs of a command of one
age; a failure has to be exit code 3, a signal its own code. Only SIGKILL and an unlink that fails
may leave temporary files, or files of two ages, which must not pass for one checkpoint.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
NEVER = 1 << 60


class Fault(NamedTuple):
    """A kind of fault: `how` and `number` as in faults.c."""

    name: str
    how: int
    number: int
    codes: tuple[int, ...]  # exit codes that may follow, or minus a signal


FAULTS = [
    Fault("ENOSPC once", 0, errno.ENOSPC, (0, 3)),
    Fault("EIO from there on", 1, errno.EIO, (0, 3)),
    Fault("short write", 3, 0, (0,)),
    Fault("SIGKILL", 2, signal.SIGKILL, (-signal.SIGKILL,)),
    Fault("SIGTERM", 2, signal.SIGTERM, (0, 143)),
    Fault("SIGINT", 2, signal.SIGINT, (0, 130)),
]


def ways(sources: Path, out: Path) -> Iterator[list[str]]:
    """Yield command lines that write into a folder, one output or several."""
    flat, halves = str(sources / "flat.npz"), str(sources / "halves.npz")
    ckpt, x = str(sources / "ckpt" / "model.ckpt"), str(sources / "x.npy")
    for ending in ("npz", "npy", "h5", "csv"):
        layout = "--to-flat" if ending in ("npy", "csv") else "--to-tuple"
        yield ["convert", flat, layout, "-o", str(out / f"s.{ending}")]
    yield ["convert", halves, "--to-flat", "-o", str(out / "s.npz"), "--compress"]
    yield ["convert", halves, "--to-flat", "--format", "ckpt", "-o", str(out / "s.ckpt")]
    yield ["split", flat, "-o", str(out / "c.npy"), str(out / "m.npy")]
    yield ["run", ckpt, x, "-o", str(out / "y.npz")]
    yield ["run", ckpt, x, "-o", str(out / "y.h5"), "--state-out", str(out / "s.npz")]


def make_sources(folder: Path, scale: float) -> None:
    """Write the inputs of the commands."""
    import numpy as np

    folder.mkdir()
    state = scale * np.linspace(-1, 1, 2000, dtype="f4").reshape(10, 200)
    np.savez(folder / "flat.npz", state=state)
    np.savez(folder / "halves.npz", c=state[:, :100], m=state[:, 100:])
    np.save(folder / "x.npy", np.full((50, 3), scale, "f4"))
    shutil.copytree(HERE.parent.parent / "sample_checkpoints" / "peephole_tuple", folder / "ckpt")


class Result(NamedTuple):
    """The end of a command: its code, its calls in the folder, and the one that failed first."""

    code: int
    calls: int
    failed: str


class Runner:
    """Runs commands in copies of this process, with a fault armed."""

    def __init__(self) -> None:
        self._shim = ctypes.CDLL(None)
        self._shim.calls.restype = ctypes.c_long
        self._shim.first_failed.restype = ctypes.c_char_p
        self._shim.arm.argtypes = [ctypes.c_char_p, ctypes.c_long, ctypes.c_int, ctypes.c_int]
        import h5py  # noqa: F401 - loaded once
        import numpy as np  # noqa: F401

        import lstmstate.operations.run  # noqa: F401

    def run(self, words: list[str], folder: Path, at: int, fault: Fault) -> Result:
        """Run a command whose call number `at` in a folder fails."""
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, 1)
            os.dup2(null, 2)
            from lstmstate.__main__ import main

            sys.argv = ["lstmstate", *words]
            code = 1
            self._shim.arm(os.fsencode(f"{folder}/"), at, fault.how, fault.number)
            try:
                main()
            except SystemExit as end:
                code = int(end.code or 0)
            made = f"{self._shim.calls()} {self._shim.first_failed().decode()}"
            self._shim.arm(b"", -1, 0, 0)
            os.write(writer, made.encode())
            os._exit(code)
        os.close(writer)
        with os.fdopen(reader) as pipe:
            made, _, failed = pipe.read().partition(" ")
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return Result(status, int(made or NEVER), failed)


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class Case:
    """A command, its outputs before it, and after it without faults.

    Args:
        words: its command line.
        earlier: one that writes the same outputs with other values; None for a first run.
        out: the folder of the outputs.
    """

    def __init__(
        self, runner: Runner, words: list[str], earlier: list[str] | None, out: Path
    ) -> None:
        self.words = [*words, "--force"] if earlier else words
        self.out = out
        self.before: dict[str, bytes] = {}
        self.begin()
        if earlier:
            assert runner.run(earlier, out, NEVER, FAULTS[0]).code == 0, earlier
            self.before = contents(out)
        assert runner.run(self.words, out, NEVER, FAULTS[0]).code == 0, words
        self.after = contents(out)

    def begin(self) -> None:
        """Put the folder back to what it was before the command."""
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir()
        for name, content in self.before.items():
            (self.out / name).write_bytes(content)


def judge(result: Result, fault: Fault, case: Case) -> str | None:
    """Return how a run with a fault broke its promises, None if it kept them."""
    found, before, after = contents(case.out), case.before, case.after
    left = {name for name in found if name.endswith(".tmp")}
    outputs = {name: content for name, content in found.items() if name not in left}
    if result.code not in fault.codes:
        return f"exit code {result.code}"
    known = [(before.get(name), after.get(name)) for name in outputs]
    if any(content not in ages for content, ages in zip(outputs.values(), known, strict=True)):
        return f"torn: {sorted(outputs)}"
    if result.code == 0 and outputs != after:
        return "exit code 0 without its outputs"
    if outputs not in (before, after) and not _is_apart(fault, case.out):
        return f"of two ages: {sorted(outputs)}"
    if left and fault.how != 1 and result.code != -signal.SIGKILL and "unlink" not in result.failed:
        return f"left behind: {len(left)}"
    return None


def _is_apart(fault: Fault, folder: Path) -> bool:
    """Whether files of two ages do no harm: nothing can undo one, and no reader takes both."""
    from lstmstate.checkpoint import Checkpoint
    from lstmstate.errors import LstmstateError

    if fault.number != signal.SIGKILL and fault.how != 1:
        return False
    if not list(folder.glob("*.index")):
        return True
    try:
        found = Checkpoint(str(folder / "s.ckpt"))
        for variable in found.variables.values():
            variable.read()
    except LstmstateError:
        return True
    return False


def main() -> int:
    """Inject the faults and print their figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--every", type=int, default=1, help="inject at each N-th call only")
    given = parser.parse_args()
    if "faults.so" not in os.environ.get("LD_PRELOAD", ""):
        return _preloaded()
    runner, injected = Runner(), Counter[str]()
    finds: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        out, old, new = (Path(name, part) for part in ("out", "old", "new"))
        make_sources(old, 0.5)
        make_sources(new, 1)
        for number, pair in enumerate(zip(ways(old, out), ways(new, out), strict=True)):
            for earlier in (None, pair[0]):
                case = Case(runner, pair[1], earlier, out)
                for fault in FAULTS:
                    calls = range(number % given.every, NEVER, given.every)
                    ended = list(inject(runner, case, fault, calls))
                    injected[fault.name] += len(ended)
                    finds += filter(None, ended)
    for kind, times in injected.items():
        print(f"{kind:18} {times:6,}")
    print(f"{injected.total():,} injected, {len(finds)} finds", *finds, sep="\n")
    return 1 if finds else 0


def inject(runner: Runner, case: Case, fault: Fault, calls: range) -> Iterator[str | None]:
    """Yield the find of a fault at each of some calls, None if there is none."""
    for at in calls:
        case.begin()
        result = runner.run(case.words, case.out, at, fault)
        if result.calls <= at:
            return
        problem = judge(result, fault, case)
        yield problem and f"{' '.join(case.words)}: {fault.name} at call {at}: {problem}"


def _preloaded() -> int:
    """Build the shim, and run this program again with it."""
    with tempfile.TemporaryDirectory() as folder:
        shim = f"{folder}/faults.so"
        source = str(HERE / "faults.c")
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", shim, source, "-ldl"], check=True)
        environment = {**os.environ, "LD_PRELOAD": shim}
        return subprocess.run([sys.executable, *sys.argv], env=environment, check=False).returncode


if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parent.parent))
    sys.exit(main())
