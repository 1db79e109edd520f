"""Time for the graph to confirm a cell, loaded and warm, within one process.

    python benchmarks/confirm_speed.py            # needs the extra `tensorflow`

The cell is TensorFlow's own LSTMCell under dynamic_rnn; timed is everything that `run` does to
confirm it with the graph, once the cell is ready to run. On a machine with other work compare
processor time; on an idle one the two are equal.
"""

from __future__ import annotations

import statistics
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from run_models import save_checkpoint  # in this folder

from lstmstate.model.checkpoint import open_checkpoint

RUNS = 15
SIZES = ((20, 20), (128, 128), (512, 512), (1024, 1024))  # input size, units


def measure(folder: Path, width: int, units: int) -> tuple[list[float], list[float]]:
    """Return the milliseconds of each run: wall time and processor time."""
    import tensorflow.compat.v1 as tf

    tf.reset_default_graph()
    path = str(folder / f"model-{units}")
    save_checkpoint(path, np.zeros((1, 1, width), np.float32), units)
    network = open_checkpoint(path).network()
    loaded = network.load_recognised("numpy", {})
    wall, processor = [], []
    for _ in range(RUNS + 1):
        clock, spent = time.perf_counter(), time.process_time()
        found = network.confirmation(loaded, {})
        processor.append((time.process_time() - spent) * 1e3)
        wall.append((time.perf_counter() - clock) * 1e3)
        if found is None or not found.agrees:
            raise SystemExit(f"{units} units are not confirmed: {found}")
    return wall[1:], processor[1:]


def main() -> None:
    """Measure and print."""
    warnings.simplefilter("ignore")
    print(f"{'input, units':>14} {'wall ms':>8} {'least':>7} {'processor ms':>13} {'least':>7}")
    with tempfile.TemporaryDirectory() as scratch:
        for width, units in SIZES:
            wall, spent = measure(Path(scratch), width, units)
            print(
                f"{f'{width}, {units}':>14} {statistics.median(wall):8.1f} {min(wall):7.1f}"
                f" {statistics.median(spent):13.1f} {min(spent):7.1f}"
            )


if __name__ == "__main__":
    main()
