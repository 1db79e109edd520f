"""Confirmation of recognised cells by the networks of the graph.

A recognised network is confirmed if the graph's own operations give the same numbers, in float64,
on inputs and states of every size: a clip, a scale or a sum that the recognition missed shows in
one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from lstmstate.engines.canonical_network import Array, Lengths, Network, Pair, Runner, RunOutputs
from lstmstate.errors import LstmstateError, UnsupportedError, printable
from lstmstate.named_tuple import NamedTuple

if TYPE_CHECKING:
    from lstmstate.engines.graph_engine import GraphRunner
    from lstmstate.model.graph_model import GraphModel
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


class Confirmation(NamedTuple):
    """Whether the graph confirms a recognised network.

    Attributes:
        agrees: None if the graph cannot answer.
        reason: why it does not agree, or cannot answer.
        differs: whether the graph uses the cells in several places, and not alike.
        notes: steps in every use of the cells that a run leaves out.
        lengths_differ: whether the graph ends sequences of unlike lengths in another way.
    """

    agrees: bool | None
    reason: str | None
    differs: bool = False
    notes: tuple[str, ...] = ()
    lengths_differ: bool = False


def confirm(
    model: GraphModel,
    network: Network,
    found: Sequence[GraphNetwork],
    feeds: Mapping[str, Any] | None = None,
    runner: Runner | None = None,
    *,
    is_turned: bool = False,
) -> Confirmation:
    """Return whether the graph gives the numbers of a recognised network.

    Args:
        found: the graph's networks that have its cells: all of them have to agree.
        runner: the recognised network, if it is ready to run already.
        is_turned: whether the graph begins at the end of the sequence, and the network does
            not.
    """
    handed = [line for one in found for line in one.handed.values()]
    if not found or handed:
        reason = handed[0] if handed else model.not_stepped(one.name for one in network.cells)
        return Confirmation(None, reason)
    problems = []
    left_out = []
    lengths_differ = False
    ours = load_exact(network, runner)
    for one in found:
        try:
            theirs = model.runner(one, feeds, exact=True)
            compare = partial(find_differences, network, ours, theirs, is_turned=is_turned)
            problem = _differ(compare(), compare) or one.causes
            if not problem:
                lengths_differ |= have_unlike_lengths(network, ours, theirs)
        except LstmstateError as error:
            return Confirmation(None, str(error))
        left_out.append(theirs.notes)
        if problem and one.doubt is not None:
            return Confirmation(None, one.doubt)
        if problem:
            problems.append(problem)
    are_alike = len(problems) in (0, len(found)) and (
        len(found) == 1 or not problems or _are_alike(model, found, feeds)
    )
    if not are_alike:
        reason = f"the graph uses the cell {len(found)} times, and not alike: {problems[0]}"
        return Confirmation(False, reason, differs=True)
    if problems:
        return Confirmation(False, problems[0])
    notes = min(left_out, key=len)
    return Confirmation(True, None, notes=notes, lengths_differ=lengths_differ)


def confirm_part(
    model: GraphModel, network: Network, around: GraphNetwork, names: Iterable[str]
) -> Confirmation:
    """Return whether the graph confirms some cells of a network, each with its own c and m.

    Args:
        network: all cells of the graph's network, as they were recognised.
    """
    try:
        theirs = model.runner(around, exact=True)
        compare = partial(find_differences, network, load_exact(network), theirs)
        own = [f"{half} of {printable(name) or 'the cell'}" for name in names for half in "cm"]
        wrong = [label for label in compare() if label in own or "widths" in label]
        reason = _differ(wrong[:1], compare) or around.causes
    except LstmstateError as error:
        return Confirmation(None, str(error))
    if reason:
        return Confirmation(False, reason)
    return Confirmation(True, None)


def _differ(labels: Sequence[str], compare: Callable[..., list[str]]) -> str | None:
    """Return how the graph's own step differs, from the labels and another comparison."""
    if not labels:
        return None
    only = "" if compare(pads=False) else ", only where the input is zeros, as padding is"
    return f"its own step differs in {' and '.join(labels[:2])}{only}"


def _are_alike(
    model: GraphModel, found: Sequence[GraphNetwork], feeds: Mapping[str, Any] | None
) -> bool | None:
    """Whether networks of the same cells give the same; None where one refuses the input."""
    runners = [model.runner(one, feeds, exact=True) for one in found]
    for x, states in make_trials(found[0]):
        try:
            first, *others = (runner.run(x, states).arrays for runner in runners)
        except LstmstateError:
            return None
        if not all(all(map(are_close, first, other)) for other in others):
            return False
    return True


def refuse_unlike(
    model: GraphModel,
    chosen: GraphNetwork,
    others: Iterable[GraphNetwork],
    feeds: Mapping[str, Any],
) -> None:
    """Refuse a network where the graph uses its cells elsewhere too, and not alike.

    Those that do not take the same input are not compared: copies for another batch.
    """
    for other in others:
        orders = ([chosen, other], [other, chosen])
        if all(_are_alike(model, both, feeds) is not False for both in orders):
            continue
        places = " and ".join(printable(one.input.tensor.node) for one in (chosen, other))
        raise UnsupportedError(
            f"the graph uses the cell more than once (from {places}), and not alike",
            tensor=chosen.cells[0].name,
            advice="save the graph with the one that is to be run alone",
        )


# ---- trials


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
    ) -> RunOutputs:
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
    width, first = graph.input.width, network.first
    if width != first.input_size and not (first.takes_wider and width > first.input_size):
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
