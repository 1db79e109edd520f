"""The default engine: cells one after another, with compiled steps or those of NumPy.

Rules for sequences of unequal lengths: TensorFlow 1.15.0, python/ops/rnn.py, `_rnn_step` (past its
end a sequence has outputs of zero and keeps its state) and `bidirectional_dynamic_rnn`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import copy
from functools import cached_property

import numpy as np

from lstmstate.engines import compiled_cell
from lstmstate.engines.canonical_network import (
    GATES,
    Array,
    CanonicalCell,
    Lengths,
    Network,
    Pair,
    Runner,
    RunOutputs,
    reverse_sequences,
    spans,
)
from lstmstate.engines.compiled_cell import CompiledCell
from lstmstate.engines.numpy_cell import NumpyCell
from lstmstate.errors import UnsupportedError

_TERMS = 100  # of a sum that overflows in one order of its terms, and not in another

ReadyCell = NumpyCell | CompiledCell


def check(network: Network) -> None:
    """Refuse weights so large that the order of a sum decides whether it overflows.

    TensorFlow's order is its own, and depends on the processor.
    """
    for cell in network.cells:
        for weights in (cell.kernel, cell.recurrent):
            if math.isfinite(np.vdot(weights, weights)):  # one pass, nearly always enough
                continue
            sizes = np.abs(weights[np.isfinite(weights)])
            most = np.finfo(weights.dtype).max / _TERMS
            if sizes.size and sizes.max() > most:
                raise UnsupportedError(
                    f"a weight is larger than {most:.0e}, and sums with it overflow",
                    tensor=cell.name,
                    advice="use `engine='graph'` or `engine='tensorflow'`",
                )


def load(network: Network) -> Runner:
    """Return a network that is ready to run."""
    return NumpyRunner(network)


class NumpyRunner:
    """A network whose cells are run one after another, each over all of the steps."""

    def __init__(self, network: Network) -> None:
        self._network = network

    @cached_property
    def _stages(self) -> list[list[list[ReadyCell]]]:
        """The cells, which are laid out for the first run: an export needs none."""
        return [
            [[prepare(cell) for cell in chain] for chain in stage] for stage in self._network.stages
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
    ) -> RunOutputs:
        """Run over some steps; see `Runner`."""
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
        return RunOutputs(x, after, kept)


def prepare(cell: CanonicalCell) -> ReadyCell:
    """Return a cell that is ready to run, with compiled steps where there are any."""
    return CompiledCell(cell) if compiled_cell.can_run(cell) else NumpyCell(cell)


def run_padded(
    cell: ReadyCell, x: Array, c: Array, m: Array, lengths: Lengths | None, keep: str
) -> tuple[Array, Pair, dict[str, Array]]:
    """Run a cell over sequences of unequal lengths.

    The longest come first, and from length to length fewer go on, so that no padding is run.

    Returns:
        The outputs, (c, m) after the last valid step of each, and the kept values of each step.
    """
    x = x[..., : cell.cell.input_size]  # some cells ignore further columns
    steps, batch, _ = x.shape
    widths = cell.cell.widths
    wide = {"c": widths.c, "m": widths.m, **dict.fromkeys(GATES, widths.c)}
    make, dtype = np.empty if lengths is None else np.zeros, cell.cell.dtype
    outputs = make((steps, batch, widths.m), dtype)
    kept = {letter: make((steps, batch, wide[letter]), dtype) for letter in keep}
    if lengths is None:
        return outputs, run_rows(cell, x, c, m, outputs, kept), kept
    c, m = c.copy(), m.copy()
    order = np.argsort(-lengths, kind="stable")
    start = 0
    for stop in np.unique(lengths[lengths > 0]):
        rows = order[: np.count_nonzero(lengths >= stop)]
        shape = (int(stop) - start, len(rows))
        made = np.empty((*shape, widths.m), dtype)
        kept_of = {letter: np.empty((*shape, wide[letter]), dtype) for letter in keep}
        c[rows], m[rows] = run_rows(cell, x[start:stop, rows], c[rows], m[rows], made, kept_of)
        outputs[start:stop, rows] = made
        for letter, values in kept_of.items():
            kept[letter][start:stop, rows] = values
        start = int(stop)
    for letter, last in (("c", c), ("m", m)):  # past its end a sequence keeps its state
        if letter in kept:
            past = np.arange(steps)[:, None] >= lengths
            kept[letter][past] = np.broadcast_to(last, kept[letter].shape)[past]
    return outputs, (c, m), kept


def run_rows(
    cell: ReadyCell, x: Array, c: Array, m: Array, outputs: Array, kept: Mapping[str, Array]
) -> Pair:
    """Run a cell over some steps, and over as many sequences of the batch at once as it takes."""
    batch = x.shape[1]
    if batch <= cell.most_rows:
        return cell.run(x, c, m, outputs, kept)
    states = []
    for start, stop in spans(batch, cell.most_rows):
        rows = slice(start, stop)
        made = {letter: np.empty_like(values[:, rows]) for letter, values in kept.items()}
        part = np.empty_like(outputs[:, rows])
        states.append(cell.run(x[:, rows], c[rows], m[rows], part, made))
        outputs[:, rows] = part
        for letter, values in made.items():
            kept[letter][:, rows] = values
    return np.concatenate([c for c, _ in states]), np.concatenate([m for _, m in states])
