"""Numeric comparison of a recognised network with the graph's own step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from lstmstate.engines.network import Array, Lengths, Network, Pair, Ran, Runner
from lstmstate.errors import printable

if TYPE_CHECKING:
    from lstmstate.engines.graph_engine import GraphRunner
    from lstmstate.recurrence.graph_network import GraphNetwork

TOLERANCE = 1e-6  # of float64 evaluations: constants are float32
_STEPS = 3
# Sizes of x, c and m: small and large, each alone, so that a bound on any of them is met.
_SCALES = (
    (1.0, 1.0, 0.5),
    (0.1, 0.1, 0.1),
    (3.0, 3.0, 1.0),
    (30.0, 1.0, 1.0),
    (1e3, 10.0, 1.0),
    (1.0, 1e2, 1.0),
    (1.0, 1e7, 1.0),
    (0.1, 0.1, 10.0),
    (0.1, 1.0, 1e3),
)


def load_exact(network: Network, runner: Runner | None = None) -> Runner:
    """Return a network ready to run in float64; weights that are laid out already are taken."""
    from lstmstate.engines.numpy_engine import NumpyRunner, load

    if isinstance(runner, NumpyRunner):
        return runner.in_float64()
    return load(in_float64(network))


class InOrder:
    """A graph's network with its cells in the order of another one, as a `Runner`."""

    def __init__(self, runner: GraphRunner, network: Network) -> None:
        names = [cell.name for cell in network.cells]
        own = [cell.name for cell in runner.network.cells]
        self.network = runner.network
        self.here = [own.index(name) for name in names]
        self._there = [names.index(name) for name in own]
        self._runner = runner

    def run(
        self, x: Array, states: Sequence[Pair], lengths: Lengths | None = None, keep: str = ""
    ) -> Ran:
        """Run over some steps; see `Runner`."""
        ran = self._runner.run(x, [states[at] for at in self._there], lengths, keep)
        return ran._replace(
            states=[ran.states[at] for at in self.here], kept=[ran.kept[at] for at in self.here]
        )


def find_differences(
    network: Network,
    ours: Runner,
    runner: GraphRunner,
    *,
    is_turned: bool = False,
    pads: bool = True,
) -> list[str]:
    """Return the names of states and outputs that differ from the graph's; see `confirm`.

    Args:
        ours: the network, ready to run in float64.
        pads: whether a sequence ends with zeros.
    """

    from lstmstate.engines import blas_threads

    graph, theirs = runner.network, InOrder(runner, network)
    if [graph.cells[at].widths for at in theirs.here] != [cell.widths for cell in network.cells]:
        return ["the widths"]
    if graph.input.width != network.first.input_size:
        return ["the widths of the input"]
    names = [printable(cell.name) or "the cell" for cell in network.cells]
    halves = [f"{half} of {name}" for name in names for half in "cm"]
    compare = step_by_step
    if is_turned or graph.is_reversed:
        compare = partial(_from_end_to_end, way=-1 if is_turned else 1)
    found: set[str] = set()
    for x, states in make_trials(graph, pads=pads):
        before = [states[at] for at in theirs.here]
        with np.errstate(all="ignore"), blas_threads.one_thread():  # the products are of a few rows
            pairs = compare(ours, theirs, x, before)
        labelled = zip(["the outputs", *halves], pairs, strict=True)
        found |= {label for label, both in labelled if not are_close(*both)}
    return [label for label in [*halves, "the outputs"] if label in found]


def have_unlike_lengths(network: Network, ours: Runner, runner: GraphRunner) -> bool:
    """Return whether sequences of unlike lengths differ between the graph and a network."""
    x, states = next(make_trials(runner.network))
    if not runner.takes_lengths or len(x) == 1:
        return False
    theirs = InOrder(runner, network)
    before, lengths = [states[at] for at in theirs.here], np.arange(x.shape[1]) % len(x) + 1
    first, second = (one.run(x, before, lengths).arrays for one in (theirs, ours))
    return not all(map(are_close, first, second))


def _from_end_to_end(
    ours: Runner, judge: Runner, x: Array, states: list[Pair], *, way: int
) -> list[tuple[Array, Array]]:
    """Return the outputs and the last states of both, each from its own states.

    Args:
        way: -1 if ours begins at the other end.
    """
    theirs, ran = judge.run(x, states), ours.run(x[::way], states)
    turned = ran._replace(outputs=ran.outputs[::way])
    return list(zip(turned.arrays, theirs.arrays, strict=True))


def step_by_step(
    ours: Runner, judge: Runner, x: Array, states: list[Pair], backward: Sequence[bool] = ()
) -> list[tuple[Array, Array]]:
    """Return the outputs, and c and m of each cell, after every step: ours and those of a judge.

    Each step of ours begins with the judge's state before it. From their own states the two would
    drift apart if a cell amplifies rounding, and no bound would distinguish that from a wrong
    equation.

    Args:
        backward: for each cell whether it runs backward; none does by default.
    """
    theirs = judge.run(x, states, keep="cm")
    before = [
        (_shift_by_one(kept["c"], c, back), _shift_by_one(kept["m"], m, back))
        for kept, (c, m), back in zip(
            theirs.kept, states, backward or [False] * len(states), strict=True
        )
    ]
    ran = ours.run(x.reshape(1, -1, x.shape[2]), before)
    others = [theirs.outputs, *(kept[letter] for kept in theirs.kept for letter in "cm")]
    steps = x.shape[:2]
    return [(one.reshape(*steps, -1), two) for one, two in zip(ran.arrays, others, strict=True)]


def _shift_by_one(kept: Array, first: Array, backward: bool) -> Array:
    """Return c or m before every step, `[steps * batch, width]`, from those after every step.

    They have the dtype of the first one: the judge's may be wider.
    """
    parts = [kept[1:], first[None]] if backward else [first[None], kept[:-1]]
    return np.concatenate(parts, dtype=first.dtype).reshape(-1, first.shape[-1])


def are_close(one: Array, other: Array) -> bool:
    """Return whether arrays are the same except for rounding; NaN and Inf equal themselves."""
    return one.shape == other.shape and np.allclose(
        one, other, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True
    )


def make_trials(graph: GraphNetwork, *, pads: bool = True) -> Iterator[tuple[Array, list[Pair]]]:
    """Yield inputs and states of all scales, in batches that the graph takes."""
    given = graph.input
    steps = given.sizes[given.time_axis] or graph.steps or _STEPS
    rows = given.sizes[1 - given.time_axis] or len(_SCALES)
    random = np.random.default_rng(0)
    for start in range(0, len(_SCALES), rows):
        scales = np.resize(np.roll(_SCALES, -start, axis=0), (rows, 3))
        x = random.standard_normal((steps, rows, given.width)) * scales[:, :1]
        if pads:  # a graph may take zeros for the end of a sequence
            x[1:, -1] = 0
        states: list[Any] = [
            (
                random.standard_normal((rows, c)) * scales[:, 1:2],
                random.standard_normal((rows, m)) * scales[:, 2:],
            )
            for c, m in (cell.widths for cell in graph.cells)
        ]
        yield x, states


def in_float64(network: Network) -> Network:
    """Return a network whose weights are float64."""
    return network._replace(
        stages=tuple(
            tuple(tuple(cell.in_float64() for cell in chain) for chain in stage)
            for stage in network.stages
        )
    )
