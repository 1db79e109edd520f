"""Times of `split` and `convert`, compared with copying the file and with a TensorFlow script.

    python benchmarks/convert_speed.py [FOLDER]     # needs 16 GB there, and the extra tensorflow

A flat state of 1 GB is split into two files and converted into an archive, in turn with `cp` and
`sync` of the same file; a small one is converted, in turn with a script that imports TensorFlow
to `tf.split` it; 4 GB are converted between npy, npz and h5 to measure the peak memory.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from measured import Figure, medians  # in this folder

RUNS = 5
WIDTH = 512  # c 256 | m 256, float32
GB = 1_000_000_000
WRITE = """
import sys, numpy as np
path, rows, width = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
part = np.random.default_rng(0).uniform(-1, 1, (1 << 13, width)).astype(np.float32)
with open(path, "wb") as file:
    header = {"descr": "<f4", "fortran_order": False, "shape": (rows, width)}
    np.lib.format.write_array_header_1_0(file, header)
    for at in range(0, rows, len(part)):
        file.write(part[: rows - at].data)
"""
SCRIPT = """
import sys, numpy as np, tensorflow as tf
c, m = tf.split(np.load(sys.argv[1]), 2, axis=1)
np.savez(sys.argv[2], c=c.numpy(), m=m.numpy())
"""


def write_flat(path: Path, nbytes: int) -> None:
    """Write a flat state of random numbers within [-1, 1], in another process.

    The system's peak memory of a process includes that of the process that started it.
    """
    command = [sys.executable, "-c", WRITE, str(path), str(nbytes // (4 * WIDTH)), str(WIDTH)]
    subprocess.run(command, check=True)


def show(figures: dict[str, Figure]) -> None:
    """Print the figures."""
    for name, figure in figures.items():
        print(f"{name:44} {figure.seconds:8.3f} s {figure.peak:9.1f} MiB")


def main() -> None:
    """Measure and print."""
    command = [sys.executable, "-m", "lstmstate"]
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as scratch:
        folder = Path(scratch)
        flat, small = folder / "flat.npy", folder / "small.npy"
        outs = {name: folder / name for name in ("copy", "c.npy", "m.npy", "o.npz", "s.npz")}

        def clean() -> None:
            for path in outs.values():
                path.unlink(missing_ok=True)
            os.sync()

        write_flat(flat, GB)
        write_flat(small, 64 * 4 * WIDTH)
        copy = f"cp {flat} {outs['copy']} && sync {outs['copy']}"
        convert = [*command, "convert", "-q", "--to-tuple", str(flat), "-o"]
        large = medians(
            {
                "cp and sync, 1 GB": ["sh", "-c", copy],
                "split into two .npy, 1 GB": [
                    *command, "split", "-q", str(flat), "-o", str(outs["c.npy"]), str(outs["m.npy"])
                ],
                "convert --to-tuple into .npz, 1 GB": [*convert, str(outs["o.npz"])],
            },
            RUNS,
            clean,
        )  # fmt: skip
        show(large)
        copied = large["cp and sync, 1 GB"].seconds
        for name, figure in list(large.items())[1:]:
            print(f"  throughput of {name}, of that of cp and sync: {copied / figure.seconds:.2f}")
        tiny = medians(
            {
                "convert --to-tuple, 131 kB": [
                    *command, "convert", "-q", "--to-tuple", str(small), "-o", str(outs["s.npz"])
                ],
                "a script with tf.split, 131 kB": [
                    sys.executable, "-c", SCRIPT, str(small), str(outs["s.npz"])
                ],
            },
            RUNS,
            clean,
        )  # fmt: skip
        show(tiny)
        first, second = (figure.seconds for figure in tiny.values())
        print(f"  the script takes {second / first:.1f} times as long")
        flat.unlink()
        write_flat(flat, 4 * GB)
        source = flat
        for name, target, layout in (
            ("npy into npz", "big.npz", "tuple"),
            ("npz into h5", "big.h5", "keras"),
            ("h5 into npy", "big.npy", "flat"),
        ):
            run = [
                *command,
                "convert",
                "-q",
                str(source),
                "--to",
                layout,
                "-o",
                str(folder / target),
            ]
            show(medians({f"{name}, 4 GB": [*run, "--force"]}, 1))
            source.unlink()
            source = folder / target


if __name__ == "__main__":
    main()
