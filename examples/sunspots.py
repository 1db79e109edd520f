"""The sunspot network run over its own data, with the errors of its forecasts.

    python examples/sunspots.py

The network reads one year a step; `m1 @ readout/kernel + readout/bias` is its forecast of the next
year, in hundreds of sunspots. The checkpoint and its numbers: sample_checkpoints/README.md.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

import lstmstate

SAMPLE = Path(__file__).resolve().parent.parent / "sample_checkpoints" / "sunspots"
SCALE = 100  # sunspots in a unit of the network
LAST_TRAINED = 1958


def main() -> None:
    """Step over 1700 to 2008 from the zero state, forecast, and compare."""
    with open(SAMPLE / "sunspots.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    years = np.array([int(row["year"]) for row in rows])
    sunspots = np.array([float(row["input"]) for row in rows])

    ckpt = lstmstate.open_checkpoint(SAMPLE)
    network = ckpt.network()  # the only stack
    # From zeros, as in training; the graph itself would continue from its stored state.
    outputs, state = network.run(sunspots[:, None], network.zero_state())  # [time, 1] → [time, 12]

    kernel, bias = (ckpt.variables[f"readout/{name}"].read() for name in ("kernel", "bias"))
    forecast = (outputs @ kernel + bias)[:, 0]
    errors = (forecast[:-1] - sunspots[1:]) * SCALE
    as_last_year = (sunspots[:-1] - sunspots[1:]) * SCALE
    for words, chosen in (
        (f"{years[1]}-{LAST_TRAINED}, trained on", years[1:] <= LAST_TRAINED),
        (f"{LAST_TRAINED + 1}-{years[-1]}, never seen", years[1:] > LAST_TRAINED),
    ):
        own, other = (np.sqrt(np.mean(e[chosen] ** 2)) for e in (errors, as_last_year))
        print(f"{words}: off by {own:.1f} sunspots (root mean square), as last year by {other:.1f}")
    print(f"{years[-1] + 1}: {forecast[-1] * SCALE:.1f} sunspots")

    # The checkpoint keeps the state after the last year; running there gives the same.
    saved = lstmstate.load_state(SAMPLE)
    print(f"the state, and the saved one: {np.abs(state.flat() - saved.flat()).max():.0e} apart")


if __name__ == "__main__":
    main()
