"""Cells in layers and directions, for engines that run one cell at a time.

Rules for sequences of unequal lengths: TensorFlow 1.15.0, python/ops/rnn.py, `_rnn_step` (past its
end a sequence has outputs of zero and keeps its state) and `bidirectional_dynamic_rnn`
(`reverse_sequence`, which turns over what is valid and leaves the padding where it is).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import TYPE_CHECKING, Protocol

from lstmstate.engines.network import GATES, Arithmetic, Network, Pair, Ran

if TYPE_CHECKING:
    from lstmstate.engines.network import Array, Lengths


class RunnableCell(Protocol):
    """A cell that an engine is ready to run over sequences of one length."""

    @property
    def cell(self) -> Arithmetic:
        """What it computes."""

    def run(
        self, x: Array, c: Array, m: Array, outputs: Array, kept: Mapping[str, Array]
    ) -> tuple[Array, Array]:
        """Run over `[steps, batch, input_size]`, fill `outputs` and `kept`; return c and m."""

    def in_float64(self) -> RunnableCell:
        """Return the same cell, computing in float64."""


class LayeredRunner:
    """A network whose cells are run one after another, each over all of the steps.

    Args:
        prepare: makes a cell ready.
    """

    def __init__(self, network: Network, prepare: Callable[[Arithmetic], RunnableCell]) -> None:
        self._stages = [[[prepare(cell) for cell in chain] for chain in s] for s in network.stages]

    def in_float64(self) -> LayeredRunner:
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
                y = turned(x, lengths) if backward else x
                for cell in chain:
                    y, state, steps = run_padded(cell, y, *next(before), lengths, keep)
                    after.append(state)
                    kept.append(
                        {k: turned(v, lengths) if backward else v for k, v in steps.items()}
                    )
                joined.append(turned(y, lengths) if backward else y)
            x = joined[0] if len(joined) == 1 else np.concatenate(joined, axis=-1)
        return Ran(x, after, kept)


def run_padded(
    cell: RunnableCell, x: Array, c: Array, m: Array, lengths: Lengths | None, keep: str
) -> tuple[Array, Pair, dict[str, Array]]:
    """Run a cell over sequences of unequal lengths.

    The longest come first, and from length to length fewer go on: what is run has no padding.

    Returns:
        The outputs, (c, m) after the last valid step of each, and what was kept.
    """
    import numpy as np

    x = x[..., : cell.cell.input_size]  # some cells ignore what is wider
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


def turned(x: Array, lengths: Lengths | None) -> Array:
    """Return sequences `[steps, batch, ...]` from their last valid step to their first.

    >>> import numpy as np
    >>> turned(np.array([[1, 1], [2, 2], [3, 0]]), np.array([3, 2])).T
    array([[3, 2, 1],
           [2, 1, 0]])
    """
    import numpy as np

    if lengths is None:
        return x[::-1]
    steps = np.arange(len(x))[:, None]
    return x[np.where(steps < lengths, lengths - 1 - steps, steps), np.arange(x.shape[1])]
