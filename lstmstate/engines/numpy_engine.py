"""The default engine: every family with canonical weights, in NumPy.

Rules for sequences of unequal lengths: TensorFlow 1.15.0, python/ops/rnn.py, `_rnn_step` (past its
end a sequence has outputs of zero and keeps its state) and `bidirectional_dynamic_rnn`.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import TYPE_CHECKING

from lstmstate.engines.network import GATES, Network, Pair, Ran, Runner, reverse_sequences
from lstmstate.engines.numpy_cell import NumpyCell

if TYPE_CHECKING:
    from lstmstate.engines.network import Array, Lengths


def check(network: Network) -> None:
    """Refuse nothing: this engine runs every network."""


def load(network: Network) -> Runner:
    """Return a network that is ready to run."""
    return NumpyRunner(network)


class NumpyRunner:
    """A network whose cells are run one after another, each over all of the steps."""

    def __init__(self, network: Network) -> None:
        self._stages = [
            [[NumpyCell(cell) for cell in chain] for chain in stage] for stage in network.stages
        ]

    def in_float64(self) -> NumpyRunner:
        """Return the same network, computing in float64."""
        other = copy(self)
        other._stages = [
            [[cell.in_float64() for cell in chain] for chain in s] for s in self._stages
        ]
        return other

    def run(
        self, x: Array, states: Sequence[Pair], lengths: Lengths | None = None, keep: str = ""
    ) -> Ran:
        """Run over some steps; see `Runner`."""
        import numpy as np

        before = iter(states)
        after: list[Pair] = []
        kept: list[dict[str, Array]] = []
        for stage in self._stages:
            joined = []
            for backward, chain in enumerate(stage):
                y = reverse_sequences(x, lengths) if backward else x
                for cell in chain:
                    y, state, steps = run_padded(cell, y, *next(before), lengths, keep)
                    after.append(state)
                    kept.append(
                        {
                            k: reverse_sequences(v, lengths) if backward else v
                            for k, v in steps.items()
                        }
                    )
                joined.append(reverse_sequences(y, lengths) if backward else y)
            x = joined[0] if len(joined) == 1 else np.concatenate(joined, axis=-1)
        return Ran(x, after, kept)


def run_padded(
    cell: NumpyCell, x: Array, c: Array, m: Array, lengths: Lengths | None, keep: str
) -> tuple[Array, Pair, dict[str, Array]]:
    """Run a cell over sequences of unequal lengths.

    The longest come first, and from length to length fewer go on, so that no padding is run.

    Returns:
        The outputs, (c, m) after the last valid step of each, and the kept values of each step.
    """
    import numpy as np

    x = x[..., : cell.cell.input_size]  # some cells ignore further columns
    steps, batch, _ = x.shape
    widths = cell.cell.widths
    wide = {"c": widths.c, "m": widths.m, **dict.fromkeys(GATES, widths.c)}
    make = np.empty if lengths is None else np.zeros
    outputs = make((steps, batch, widths.m), x.dtype)
    kept = {letter: make((steps, batch, wide[letter]), x.dtype) for letter in keep}
    if lengths is None:
        return outputs, cell.run(x, c, m, outputs, kept), kept
    c, m = c.copy(), m.copy()
    order = np.argsort(-lengths, kind="stable")
    start = 0
    for stop in np.unique(lengths[lengths > 0]):
        rows = order[: np.count_nonzero(lengths >= stop)]
        shape = (int(stop) - start, len(rows))
        made = np.empty((*shape, widths.m), x.dtype)
        kept_of = {letter: np.empty((*shape, wide[letter]), x.dtype) for letter in keep}
        c[rows], m[rows] = cell.run(x[start:stop, rows], c[rows], m[rows], made, kept_of)
        outputs[start:stop, rows] = made
        for letter, values in kept_of.items():
            kept[letter][start:stop, rows] = values
        start = int(stop)
    for letter, last in (("c", c), ("m", m)):  # past its end a sequence keeps its state
        if letter in kept:
            past = np.arange(steps)[:, None] >= lengths
            kept[letter][past] = np.broadcast_to(last, kept[letter].shape)[past]
    return outputs, (c, m), kept
