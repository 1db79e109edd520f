"""Speed of `lstmstate run` and its engine, compared with TensorFlow, torch and onnxruntime.

    python benchmarks/run_speed.py [whole] [steps] [growth]      # needs the extra bench

whole   processes from checkpoint and input file to outputs on disk, and minimal scripts (peers/)
steps   the steady state inside a loaded and warm process, microseconds per step
growth  seconds and memory of `lstmstate run` over more and more steps

All run with the same weights and inputs, in turn, with the default threads of each; the figures
are medians. All outputs are compared first. README.md explains the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from measured import measure, medians  # in this folder
from run_shared import HERE, SHAPES, Shape, call, compared, mark, print_table
from run_steady import print_steps, steps

PEERS = HERE / "peers"
COMMAND = Path(sys.executable).parent / "lstmstate"  # installed for this Python
LSTMSTATE = [str(COMMAND)] if COMMAND.exists() else [sys.executable, "-m", "lstmstate"]
PARTS = ("whole", "steps", "growth")
LARGE = SHAPES[5:]
OWN = ("lstmstate run, npz", "lstmstate run, npy")
SCRIPTS = ("TensorFlow dynamic_rnn", "TensorFlow BlockLSTM", "torch.nn.LSTM", "onnxruntime")
# The least ratio of a script's time to ours, in all shapes but the large ones, and in those.
DEMANDED = dict(zip(SCRIPTS, ((10, 1), (10, 1), (4, 1), (1, 1 / 1.2)), strict=True))
LENGTHS = (10_000, 100_000, 1_000_000)
LONG = 10_000_000
MOST_MIB = 300
WRITE = """
import sys, numpy as np
path, rows, width = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
part = np.random.default_rng(0).uniform(-1, 1, (1 << 16, width)).astype(np.float32)
with open(path, "wb") as file:
    header = {"descr": "<f4", "fortran_order": False, "shape": (rows, width)}
    np.lib.format.write_array_header_1_0(file, header)
    for at in range(0, rows, len(part)):
        file.write(part[: rows - at].data)
"""


def whole(folder: Path, shape: Shape, runs: int) -> dict[str, Any]:
    """Measure whole processes."""
    outs = {name: folder / f"out-{number}.npy" for number, name in enumerate((*OWN, *SCRIPTS))}
    outs[OWN[0]] = folder / "out.npz"
    model, x = folder / "model", folder / "x.npy"
    units = shape.units
    starts: dict[str, Sequence[object]] = {
        **dict.fromkeys(OWN, (*LSTMSTATE, "run", model, x, "-q", "-o")),
        SCRIPTS[0]: (sys.executable, PEERS / "dynamic_rnn.py", model, x, units),
        SCRIPTS[1]: (sys.executable, PEERS / "block_lstm.py", model, x, units),
        SCRIPTS[2]: (sys.executable, PEERS / "torch_lstm.py", folder / "weights.pt", x, units),
        SCRIPTS[3]: (sys.executable, PEERS / "onnx_lstm.py", folder / "model.onnx", x),
    }
    commands = {name: [*map(str, start), str(outs[name])] for name, start in starts.items()}

    def clean() -> None:
        for path in outs.values():
            path.unlink(missing_ok=True)

    for command in commands.values():
        measure(command)
    names = [name for name in commands if name != OWN[0]]
    apart = compared(names, [outs[name] for name in names])
    figures = medians(commands, runs, clean, warm=False)
    own = max(figures[name].seconds for name in OWN)
    ratios = {name: figures[name].seconds / own for name in SCRIPTS}
    is_large = shape in LARGE
    met = {name: ratios[name] >= DEMANDED[name][is_large] for name in SCRIPTS}
    return {
        "shape": shape, "figures": {name: figure._asdict() for name, figure in figures.items()},
        "ratios": ratios, "met": met, "differences": apart,
    }  # fmt: skip


def print_whole(results: Sequence[Mapping[str, Any]]) -> None:
    """Print the seconds, the peak memory, and the ratios of other times to ours."""
    names = [*OWN, *SCRIPTS]
    print("Whole processes, seconds (peak MiB):\n")
    rows = [
        [str(r["shape"]), *(f"{f['seconds']:.3f} ({f['peak']:.0f})" for f in r["figures"].values())]
        for r in results
    ]
    print_table(["batch, steps, input, units", *names], rows)
    print("How many times as long as the slower of ours (! where less than demanded):\n")
    rows = [
        [str(r["shape"]), *(f"{r['ratios'][n]:.2f}{mark(is_met=r['met'][n])}" for n in SCRIPTS)]
        for r in results
    ]
    print_table(["batch, steps, input, units", *SCRIPTS], rows)


def growth(folder: Path, lengths: Sequence[int], runs: int) -> list[dict[str, Any]]:
    """Measure `lstmstate run` over more and more steps of one sequence."""
    results = []
    source = folder / "long.npy"
    for length in lengths:
        print(f"{length:,} steps", file=sys.stderr)
        call(sys.executable, "-c", WRITE, source, length, SHAPES[0].width)
        for kind in ("npz", "npy", "h5"):
            out = folder / f"long-out.{kind}"
            run = [*LSTMSTATE, "run", str(folder / "model"), str(source), "-q", "-o", str(out)]

            def clean(out: Path = out) -> None:
                out.unlink(missing_ok=True)

            times = runs if length <= LENGTHS[-1] else 1
            figure = medians({kind: run}, times, clean, warm=times > 1)[kind]
            clean()
            results.append({"steps": length, "kind": kind, **figure._asdict()})
    source.unlink()
    return results


def print_growth(results: Sequence[Mapping[str, Any]]) -> None:
    """Print seconds and peak memory."""
    print("lstmstate run, batch 1, input 8, units 20: npy into\n")
    rows = [
        [
            f"{r['kind']}, {r['steps']:,} steps", f"{r['seconds']:.2f}",
            f"{r['peak']:.0f}{mark(is_met=r['peak'] < MOST_MIB)}",
        ]
        for r in results
    ]  # fmt: skip
    print_table(["", "seconds", "peak MiB"], rows)


def asked() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", default=PARTS, metavar="PART", help=f"of {PARTS}")
    parser.add_argument("--runs", type=int, default=5, help="of whole processes")
    parser.add_argument("--rounds", type=int, default=8, help="of steps, each twice")
    parser.add_argument("--shapes", default="1234567", help="which of the seven: 135")
    parser.add_argument("--long", action="store_true", help=f"also {LONG:,} steps")
    parser.add_argument("--folder", help="where the files are meanwhile")
    parser.add_argument("--json", metavar="FILE", help="also write all figures here")
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    asked_for = asked()
    # Installed packages have their bytecode; ours has it too after its first run.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    found: dict[str, Any] = {"python": platform.python_version(), "processors": os.cpu_count()}
    with tempfile.TemporaryDirectory(dir=asked_for.folder) as scratch:
        folders = {}
        is_beside_others = bool({"whole", "steps"}.intersection(asked_for.parts))
        for number in map(int, asked_for.shapes if is_beside_others else ""):
            shape = SHAPES[number - 1]
            folders[shape] = Path(scratch) / str(number)
            folders[shape].mkdir()
            call(sys.executable, HERE / "run_models.py", folders[shape], *shape)
        if "whole" in asked_for.parts:
            found["whole"] = []
            for shape, folder in folders.items():
                print(f"whole processes: {shape}", file=sys.stderr)
                found["whole"].append(whole(folder, shape, asked_for.runs))
            print_whole(found["whole"])
        if "steps" in asked_for.parts:
            found["steps"] = steps(folders, asked_for.rounds)
            print_steps(found["steps"])
        if "growth" in asked_for.parts:
            folder = Path(scratch) / "growth"
            folder.mkdir()
            call(sys.executable, HERE / "run_models.py", folder, *SHAPES[0])
            lengths = (*LENGTHS, LONG) if asked_for.long else LENGTHS
            found["growth"] = growth(folder, lengths, min(asked_for.runs, 3))
            print_growth(found["growth"])
    if asked_for.json:
        Path(asked_for.json).write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
