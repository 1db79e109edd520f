"""Times of `lstmstate inspect` as a process, compared with TensorFlow's own reader.

    python benchmarks/inspect_speed.py            # needs the extra `tensorflow`

Commands are run in turn, several times, so that a change in the machine's speed affects all
of them; the figures are medians. Peak memory is reported by the operating system.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from grow_graph import grow  # in this folder
from measured import medians

RUNS = 7
SAMPLES = Path(__file__).resolve().parent.parent / "sample_checkpoints"
SAMPLE = str(SAMPLES / "sunspots" / "model.ckpt-360")
LARGE = "inspect --json, 500 variables"
LIST = "import tensorflow as tf; tf.train.list_variables({path!r})"


def write_bundle(prefix: Path, variables: int, nbytes: int) -> None:
    """Write a V2 checkpoint with TensorFlow, then stretch its data: `nbytes` in all."""
    script = (
        "import sys, numpy as np, tensorflow as tf\n"
        "prefix, count, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])\n"
        "each = size // count // 4\n"
        "names = [f'layer_{k:04d}/kernel' for k in range(count)]\n"
        "values = [np.zeros(each, np.float32)] * count\n"
        "tf.raw_ops.SaveV2(prefix=prefix, tensor_names=names, "
        "shape_and_slices=[''] * count, tensors=values)\n"
    )
    command = [sys.executable, "-c", script, str(prefix), str(variables), str(nbytes)]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)


def write_graph(folder: Path, nbytes: int) -> Path:
    """Copy the sample with a `.meta` of `nbytes`: its own nodes, many times."""
    for file in (SAMPLES / "sunspots").glob("model.ckpt-360.*"):
        (folder / file.name).write_bytes(file.read_bytes())
    meta = folder / "model.ckpt-360.meta"
    meta.write_bytes(grow(meta.read_bytes(), nbytes))
    return folder / "model.ckpt-360"


def main() -> None:
    """Measure and print."""
    lstmstate = [sys.executable, "-m", "lstmstate"]
    inspect = [*lstmstate, "inspect", "-q"]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_bundle(folder / "small", 500, 2_000_000)
        write_bundle(folder / "large", 500, 2_000_000_000)
        grown = write_graph(folder, 2_000_000)
        small = folder / "ungrown"
        small.mkdir()
        for file in (SAMPLES / "sunspots").glob("model.ckpt-360.*"):
            if file.suffix != ".meta":
                (small / file.name).write_bytes(file.read_bytes())
        figures = medians(
            {
                "python -c pass": [sys.executable, "-c", "pass"],
                "--help": [*lstmstate, "--help"],
                "inspect --json": [*inspect, "--json", SAMPLE],
                "inspect (table)": [*inspect, SAMPLE],
                f"{LARGE}, 2 MB": [*inspect, "--json", str(folder / "small")],
                f"{LARGE}, 2 GB": [*inspect, "--json", str(folder / "large")],
                "inspect --json, no graph": [*inspect, "--json", str(small / "model.ckpt-360")],
                "inspect --json, 2 MB graph": [*inspect, "--json", str(grown)],
                "tf.train.list_variables": [sys.executable, "-c", LIST.format(path=SAMPLE)],
            },
            RUNS,
        )
    print(f"{'whole process':40} {'seconds':>8} {'peak MiB':>9}")
    for name, (seconds, peak) in figures.items():
        print(f"{name:40} {seconds:8.3f} {peak:9.1f}")
    print()
    seconds = {name: figure[0] for name, figure in figures.items()}
    listing = seconds["tf.train.list_variables"]
    ratios = {
        "list_variables / inspect --json": listing / seconds["inspect --json"],
        "list_variables / inspect (table)": listing / seconds["inspect (table)"],
        "--help / python -c pass": seconds["--help"] / seconds["python -c pass"],
        "2 GB / 2 MB of data": seconds[f"{LARGE}, 2 GB"] / seconds[f"{LARGE}, 2 MB"],
    }
    for what, ratio in ratios.items():
        print(f"{what:40} {ratio:8.2f}")
    cost = seconds["inspect --json, 2 MB graph"] - seconds["inspect --json, no graph"]
    print(f"{'a graph of 2 MB costs (seconds)':40} {cost:8.3f}")


if __name__ == "__main__":
    main()
