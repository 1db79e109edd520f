"""Steady state of our engine and peers, each in its own process; used by `run_speed.py`."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from run_shared import HERE, Shape, compared, mark, print_table

ROUNDS_AT_ONCE = 2
PAUSE = 0.05  # seconds for the threads of one peer to finish before the next one runs
WORKERS = {
    "numpy engine": "numpy_engine",
    "onnxruntime": "onnxruntime",
    "torch": "torch",
    "dynamic_rnn": "dynamic_rnn",
    "product alone": "recurrent_product",
}


class Worker:
    """A process of run_steps.py."""

    def __init__(self, peer: str, folders: Sequence[Path]) -> None:
        command = [sys.executable, str(HERE / "run_steps.py"), peer, *map(str, folders)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True,
        )  # fmt: skip
        self._peer = peer

    def ready(self) -> bool:
        """Wait until it can run; return whether it can."""
        return self._process.stdout.readline() == "ready\n"

    def ask(self, *words: object) -> str:
        """Return the answer to a line."""
        print(*words, file=self._process.stdin, flush=True)
        answer: str = self._process.stdout.readline()
        if not answer:
            raise SystemExit(f"{self._peer} has ended")
        return answer

    def end(self) -> None:
        """End it."""
        self._process.stdin.close()
        self._process.wait()


def steps(folders: Mapping[Shape, Path], rounds: int) -> list[dict[str, Any]]:
    """Measure the steady state."""
    workers = {name: Worker(peer, list(folders.values())) for name, peer in WORKERS.items()}
    for name in [name for name, worker in workers.items() if not worker.ready()]:
        print(f"{name} cannot run here", file=sys.stderr)
        workers.pop(name).end()
    results = [_steps(shape, folder, workers, rounds) for shape, folder in folders.items()]
    for worker in workers.values():
        worker.end()
    return results


def _steps(
    shape: Shape, folder: Path, workers: Mapping[str, Worker], rounds: int
) -> dict[str, Any]:
    names = [name for name in workers if name != "product alone"]
    paths = [folder / f"steps-{number}.npy" for number, _ in enumerate(names)]
    for name, path in zip(names, paths, strict=True):
        workers[name].ask(folder, "save", path)
    apart = compared(names, paths)
    taken: dict[str, list[float]] = {name: [] for name in workers}
    print(f"steps: {shape}", file=sys.stderr)
    for _ in range(rounds):
        for name, worker in workers.items():
            taken[name] += json.loads(worker.ask(folder, ROUNDS_AT_ONCE))
            time.sleep(PAUSE)
    micros = {n: statistics.median(t) / shape.steps * 1e6 for n, t in taken.items()}
    least = {n: min(t) / shape.steps * 1e6 for n, t in taken.items()}
    return {
        "shape": shape, "microseconds": micros, "least": least, "differences": apart,
        **_judged(shape, micros),
    }  # fmt: skip


def _judged(shape: Shape, micros: Mapping[str, float]) -> dict[str, Any]:
    """Return the ratios, ours to others', and whether each is small enough."""
    own = micros["numpy engine"]
    ratios = {
        "numpy / dynamic_rnn": own / micros["dynamic_rnn"],
        "numpy / best of torch, onnxruntime": own / min(micros["torch"], micros["onnxruntime"]),
        "numpy / product alone": own / micros["product alone"],
    }
    most = {"numpy / dynamic_rnn": 1.0}
    if shape.batch >= 16 or shape.units >= 128:
        most["numpy / best of torch, onnxruntime"] = 1.6 if shape.batch >= 16 else 2.5
    return {"ratios": ratios, "met": {name: ratios[name] <= limit for name, limit in most.items()}}


def print_steps(results: Sequence[Mapping[str, Any]]) -> None:
    """Print the microseconds of a step, and the ratios."""
    print("Steady state, microseconds a step, median (least):\n")
    names = list(results[0]["microseconds"])
    rows = [
        [str(r["shape"]), *(f"{r['microseconds'][n]:.1f} ({r['least'][n]:.1f})" for n in names)]
        for r in results
    ]
    print_table(["batch, steps, input, units", *names], rows)
    print("Ratios (! where more than demanded):\n")
    ratios = list(results[0]["ratios"])
    rows = [
        [
            str(r["shape"]),
            *(f"{r['ratios'][n]:.2f}{mark(is_met=r['met'].get(n, True))}" for n in ratios),
        ]
        for r in results
    ]
    print_table(["batch, steps, input, units", *ratios], rows)
