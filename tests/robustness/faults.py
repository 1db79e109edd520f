"""Failing system calls, kills and signals while outputs are written.

    python tests/robustness/faults.py                    every way of writing, every call
    python tests/robustness/faults.py --every 5          each fifth of these faults
    python tests/robustness/faults.py --in-turn          half of the time: see --help
    python tests/robustness/faults.py --moments 20       SIGKILL at 20 moments of each way, too
    python tests/robustness/faults.py --only "--to onnx" these ways of writing

Each call on a file of the output's folder fails in turn (once with ENOSPC, or from there on with
EIO), is short, or is where the process gets SIGKILL, SIGTERM or SIGINT. stdout is a file in that
folder, and temporary files are made there. The finds are:

torn         an output that is neither what it was before nor what a run without faults writes
lost         an output that was there before, and neither it nor its successor is in any file
mixed        an old output with a new one of the same command, unless it is a batch
left         a temporary file, except after SIGKILL, EIO from there on, and an unlink that failed
wrong code   other than 3 for a failure (4 in a batch), that of the signal, and 0 with all outputs
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from pkgutil import walk_packages
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
NEVER = 1 << 60
KILLED = -signal.SIGKILL
PROBLEMS = ("torn", "lost", "mixed", "left", "wrong code")


class Fault(NamedTuple):
    """A kind of fault: `how` and `number` as in faults.c."""

    name: str
    how: int
    number: int
    codes: tuple[int, ...]  # exit codes that may follow, or minus a signal


FAULTS = [
    Fault("ENOSPC once", 0, errno.ENOSPC, (0, 3, 4)),
    Fault("EIO from there on", 1, errno.EIO, (0, 3, 4)),
    Fault("short write", 3, 0, (0,)),
    Fault("SIGKILL", 2, signal.SIGKILL, (KILLED,)),
    Fault("SIGTERM", 2, signal.SIGTERM, (0, 143)),
    Fault("SIGINT", 2, signal.SIGINT, (0, 130)),
]
EXPORTS = [
    ("numpy", "w.py"),
    ("tensorflow", "w.ckpt"),
    ("keras", "w.keras"),
    ("keras", "w.weights.h5"),
]
AT_A_MOMENT = Fault("SIGKILL at a moment", 2, signal.SIGKILL, (0, KILLED))


def ways(sources: Path, out: Path) -> Iterator[list[str]]:
    """Yield command lines that write into a folder; `-c` is a call from Python."""
    flat, halves, x = (str(sources / name) for name in ("flat.npz", "halves.npz", "x.npy"))
    ckpt, saved = (str(sources / name / "model.ckpt") for name in ("ckpt", "saved"))
    convert, run = ["convert", flat], ["run", ckpt, x]
    for ending in ("npz", "h5", "npy", "csv", "tsv", "ckpt"):
        layout = "--to-flat" if ending in ("npy", "csv", "tsv") else "--to-tuple"
        yield [*convert, layout, "-o", f"{out}/s.{ending}"]
    for ending in ("npz", "h5"):
        yield ["convert", halves, "--to-flat", "--compress", "-o", f"{out}/s.{ending}"]
        yield [*run, "-o", f"{out}/y.{ending}", "--state-out", f"{out}/s.{ending}"]
        yield [*run, "--trace", "-o", f"{out}/y.{ending}"]
        yield [*run, "--all-states", "--compress", "-o", f"{out}/y.{ending}"]
        yield [*run, f"{sources}/z.npy", "--out-dir", str(out), "--format", ending]
    yield ["convert", flat, halves, "--to-flat", "--out-dir", str(out)]
    yield ["convert", halves, "--to-flat", "--dtype", "float64", "-o", f"{out}/s.npy"]
    yield ["convert", saved, "--to-tuple", "-o", f"{out}/s.ckpt"]
    yield ["convert", saved, "--to-flat", "-o", f"{out}/s.npz"]
    yield ["convert", saved, "--to-tuple", "-o", f"{out}/s.ckpt", "--json"]
    yield [*run, "-o", f"{out}/y.npy", "--state-out", f"{out}/s.ckpt"]
    export = ["export", f"{sources}/net", "--to"]
    for target, name in EXPORTS:
        yield [*export, target, "-o", f"{out}/{name}"]
    if find_spec("onnx"):
        for name in ("net", "shrunk", "other"):
            yield ["export", f"{sources}/{name}", "--to", "onnx", "-o", f"{out}/w.onnx"]
    yield [*run, "-o", "-", "--state-out", f"{out}/s.npz"]
    yield [*run, "-o", f"{out}/y.npz", "--state-out", "-"]
    carried = ["--carry-state", "--state-out", f"{out}/s.npy", "--state-layout", "flat"]
    yield [*run, f"{sources}/z.npy", *carried, "--out-dir", str(out)]
    yield [*convert, "--to-flat", "-o", "-"]
    pairs = [["-o", f"{out}/c{cell}.npy", f"{out}/m{cell}.npy"] for cell in (0, 1)]
    yield ["split", flat, *pairs[0]]
    yield ["split", flat, "--cells", "60:40,60:40", *pairs[0], *pairs[1]]
    for ending in ("npy", "npz", "h5"):
        yield ["concat", f"{sources}/c.npy", f"{sources}/m.npy", "-o", f"{out}/s.{ending}"]
    yield ["inspect", ckpt, "--json"]
    for ending in ("npz", "csv", "ckpt"):
        yield ["-c", f"save_state(load_state({flat!r}), '{out}/s.{ending}', force=force)"]
    yield ["-c", f"convert({saved!r}, '{out}/s.ckpt', layout='tuple', force=force)"]
    yield ["-c", f"convert({flat!r}, '{out}/s.h5', layout='tuple', compress=True, force=force)"]
    yield ["-c", f"split({flat!r}, ['{out}/c.npy', '{out}/m.npy'], force=force)"]
    outputs = f"output='{out}/y.npz', state_out='{out}/s.h5'"
    yield ["-c", f"run({ckpt!r}, {x!r}, {outputs}, trace=True, force=force)"]


def make_sources(folder: Path, scale: float) -> None:
    """Write the inputs of the commands; the outputs of two scales differ in every file."""
    import numpy as np

    folder.mkdir()
    state = scale * np.linspace(-1, 1, 2000, dtype="f4").reshape(10, 200)
    np.savez(folder / "flat.npz", state=state)
    np.savez(folder / "halves.npz", c=state[:, :100], m=state[:, 100:])
    for name, half in zip("cm", np.split(state, 2, axis=1), strict=True):
        np.save(folder / f"{name}.npy", half)
    for name, steps in (("x", 50), ("z", 40)):
        np.save(folder / f"{name}.npy", np.full((steps, 3), scale, "f4"))
    samples = HERE.parent.parent / "sample_checkpoints"
    shutil.copytree(samples / "peephole_tuple", folder / "ckpt")
    shutil.copytree(samples / f"peephole_{'flat' if scale == 1 else 'tuple'}", folder / "saved")
    # The weights of saved_model are in its ONNX model, and those of the others next to theirs.
    small, large = "saved_model", "sunspots"
    nets = (large, small, "bidirectional") if scale == 1 else (small, large, large)
    for name, sample in zip(("net", "shrunk", "other"), nets, strict=True):
        shutil.copytree(samples / sample, folder / name)


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
        import h5py  # noqa: F401 - loaded once, as all modules of the package
        import numpy as np  # noqa: F401

        import lstmstate

        for module in walk_packages(lstmstate.__path__, "lstmstate."):
            if module.name != "lstmstate.__main__":
                import_module(module.name)
        if find_spec("onnx"):
            import onnx.checker  # noqa: F401

            from lstmstate.exports import onnx_model

            onnx_model._IN_MODEL_BYTES = 2000

    def run(
        self, words: list[str], folder: Path, at: int, fault: Fault, killed_after: float = 0
    ) -> Result:
        """Run a command whose call number `at` in a folder fails, or kill it after some seconds."""
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            for number, name in ((0, os.devnull), (1, folder / "stdout"), (2, os.devnull)):
                os.dup2(os.open(name, os.O_RDWR | os.O_CREAT), number)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            tempfile.tempdir = str(folder)
            self._shim.arm(os.fsencode(f"{folder}/"), at, fault.how, fault.number)
            code = _call(words)
            made = f"{self._shim.calls()} {self._shim.first_failed().decode()}"
            self._shim.arm(b"", -1, 0, 0)
            os.write(writer, made.encode())
            os._exit(code)
        os.close(writer)
        if killed_after:
            time.sleep(killed_after)
            os.kill(child, signal.SIGKILL)
        with os.fdopen(reader) as pipe:
            made, _, failed = pipe.read().partition(" ")
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return Result(status, int(made or 0), failed)


def _call(words: list[str]) -> int:
    """Run a command in this process, or a call from Python; return its exit code."""
    from lstmstate.__main__ import main
    from lstmstate.errors import LstmstateError

    sys.argv = ["lstmstate", *words]
    try:
        if words[0] != "-c":
            main()
        exec(f"from lstmstate import *; {words[1]}", {"force": "--force" in words})
    except SystemExit as end:
        return int(end.code or 0)
    except LstmstateError:
        return 3
    except KeyboardInterrupt:
        return 130
    except BaseException:
        return 1
    return 0


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder, and any folder in it as a temporary file."""
    found = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    return found | {f"{path.name}.tmp": b"" for path in folder.iterdir() if path.is_dir()}


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
            del self.before["stdout"]
            self.begin()
        start = time.monotonic()
        ended = runner.run(self.words, out, NEVER, FAULTS[0])
        self.seconds = time.monotonic() - start
        assert ended.code == 0, words
        self.calls = ended.calls
        self.after = contents(out)

    def begin(self) -> None:
        """Put the folder back to what it was before the command."""
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir()
        for name, content in self.before.items():
            (self.out / name).write_bytes(content)

    def judge(self, result: Result, fault: Fault) -> list[str]:
        """Return the finds after a fault, those of `PROBLEMS`."""
        before, after, files = self.before, self.after, contents(self.out)
        outputs = {name: files[name] for name in files if not name.endswith(".tmp")}
        printed = outputs.pop("stdout", b"")  # a kill may come before it
        is_whole = outputs | {"stdout": printed} == after
        is_old = all(before.get(name) == outputs[name] for name in outputs)
        is_new = all(after.get(name) == outputs[name] for name in outputs)
        ages = [(before.get(name), after.get(name)) for name in outputs]
        known = [content in both for content, both in zip(outputs.values(), ages, strict=True)]
        may_leave = KILLED in fault.codes or fault.how == 1 or "unlink" in result.failed
        is_killed, is_batch = result.code == KILLED, "--out-dir" in self.words
        is_printed = is_batch or after["stdout"].startswith(printed)
        found = {
            "torn": not all(known) or not is_printed,
            "lost": any(
                not {before[name], after.get(name)}.intersection(files.values())
                for name in before
                if name in after or not is_new
            ),
            "mixed": not (is_old or is_new or is_batch),
            "left": any(name.endswith(".tmp") for name in files) and not may_leave,
            "wrong code": result.code not in fault.codes or (not result.code and not is_whole),
        }
        if not (is_killed or is_batch or fault.how == 1):
            found["lost"] |= outputs not in (before, {n: after[n] for n in after if n != "stdout"})
        return [problem for problem in PROBLEMS if found[problem]]


def inject(
    runner: Runner, case: Case, moments: int, every: int, number: Iterator[int]
) -> Iterator[tuple[Fault, list[str]]]:
    """Yield faults at calls and at random moments of a command, and the finds after each."""
    is_python = case.words[0] == "-c"
    for fault in FAULTS:
        if is_python and fault.number == signal.SIGTERM:
            continue  # it ends Python as SIGKILL does
        for at in range(case.calls):
            if next(number) % every:
                continue
            case.begin()
            result = runner.run(case.words, case.out, at, fault)
            if fault.how != 3 or "write" in result.failed:
                yield fault, case.judge(result, fault)
    for _ in range(moments):
        case.begin()
        after = random.uniform(0, case.seconds)
        result = runner.run(case.words, case.out, NEVER, AT_A_MOMENT, after)
        if result.code == KILLED:
            yield AT_A_MOMENT, case.judge(result, AT_A_MOMENT)


def main() -> int:
    """Inject the faults and print their figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--every", type=int, default=1, help="inject each N-th fault only")
    parser.add_argument("--moments", type=int, default=0, help="kill each way at N moments, too")
    parser.add_argument("--only", default="", help="only ways with this in their command line")
    parser.add_argument(
        "--in-turn", action="store_true", help="write anew and over old outputs in turn, not both"
    )
    given = parser.parse_args()
    if "faults.so" not in os.environ.get("LD_PRELOAD", ""):
        return _preloaded()
    runner, number = Runner(), count()
    injected, finds = Counter[str](), Counter[tuple[str, str]]()
    with tempfile.TemporaryDirectory() as name:
        out, old, new = (Path(name, part) for part in ("out", "old", "new"))
        make_sources(old, 0.5)
        make_sources(new, 1)
        pairs = zip(ways(old, out), ways(new, out), strict=True)
        chosen = [pair for pair in pairs if given.only in " ".join(pair[1])]
        for at, (earlier, words) in enumerate(chosen):
            starts = (None, earlier) if str(out) in " ".join(words) else (None,)
            for before in starts[at % len(starts) :][:1] if given.in_turn else starts:
                case = Case(runner, words, before, out)
                for fault, problems in inject(runner, case, given.moments, given.every, number):
                    injected[fault.name] += 1
                    for problem in problems:
                        finds[fault.name, problem] += 1
                        print(f"{problem}: {fault.name}: {' '.join(case.words)}", flush=True)
    print(f"{'':20}{'injected':>12}", *(f"{problem:>12}" for problem in PROBLEMS), sep="")
    for kind, times in injected.items():
        print(f"{kind:20}{times:12,}", *(f"{finds[kind, one]:12,}" for one in PROBLEMS), sep="")
    print(f"{injected.total():,} injected, {finds.total()} finds")
    return 1 if finds else 0


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
