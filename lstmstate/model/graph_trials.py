"""Numeric comparison of a recognised network with the graph's own step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from lstmstate.errors import printable

if TYPE_CHECKING:
    from lstmstate.engines.graph_engine import GraphRunner
    from lstmstate.engines.network import Array, Network, Pair, Runner
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


def find_differences(
    network: Network,
    ours: Runner,
    graph: GraphNetwork,
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
    import numpy as np

    from lstmstate.engines import blas_threads

    by_name = {cell.name: at for at, cell in enumerate(graph.cells)}
    order = [by_name[cell.name] for cell in network.cells]
    if [graph.cells[at].widths for at in order] != [cell.widths for cell in network.cells]:
        return ["the widths"]
    if graph.input.width != network.first.input_size:
        return ["the widths of the input"]
    names = [printable(cell.name) or "the cell" for cell in network.cells]
    labels = [f"{half} of {name}" for name in names for half in "cm"] + ["the outputs"]
    compare = _step_by_step
    if is_turned or graph.is_reversed:
        compare = partial(_from_end_to_end, way=-1 if is_turned else 1)
    found: dict[str, None] = {}
    for x, states in make_trials(graph, pads=pads):
        with np.errstate(all="ignore"), blas_threads.one_thread():  # the products are of a few rows
            pairs = compare(ours, runner, x, states, order)
        found |= {
            label: None
            for label, (one, other) in zip(labels, pairs, strict=True)
            if not are_close(one, other)
        }
    return [label for label in labels if label in found]


def have_unlike_lengths(
    network: Network, ours: Runner, graph: GraphNetwork, runner: GraphRunner
) -> bool:
    """Return whether sequences of unlike lengths differ between the graph and a network."""
    import numpy as np

    x, states = next(make_trials(graph))
    if not runner.takes_lengths or len(x) == 1:
        return False
    by_name = {cell.name: at for at, cell in enumerate(graph.cells)}
    order = [by_name[cell.name] for cell in network.cells]
    lengths = np.arange(x.shape[1]) % len(x) + 1
    theirs = runner.run(x, states, lengths)
    ran = ours.run(x, [states[at] for at in order], lengths)
    pairs = [(ran.outputs, theirs.outputs)]
    for at, pair in zip(order, ran.states, strict=True):
        pairs += zip(pair, theirs.states[at], strict=True)
    return not all(are_close(one, other) for one, other in pairs)


def _from_end_to_end(
    ours: Runner,
    runner: GraphRunner,
    x: Array,
    states: list[Pair],
    order: Sequence[int],
    *,
    way: int,
) -> list[tuple[Array, Array]]:
    """Return the last states and the outputs of both, each from its own states.

    Args:
        way: -1 if ours begins at the other end.
    """
    theirs = runner.run(x, states)
    ran = ours.run(x[::way], [states[at] for at in order])
    halves = [half for pair in ran.states for half in pair]
    others = [half for at in order for half in theirs.states[at]]
    return [*zip(halves, others, strict=True), (ran.outputs[::way], theirs.outputs)]


def _step_by_step(
    ours: Runner, runner: GraphRunner, x: Array, states: list[Pair], order: Sequence[int]
) -> list[tuple[Array, Array]]:
    """Return the states and outputs of every step, ours from the graph's state before it.

    From their own states the two would drift apart if a cell amplifies rounding.
    """
    import numpy as np

    theirs = runner.run(x, states, keep="cm")

    def before(at: int, half: int) -> Array:
        kept = theirs.kept[at]["cm"[half]]
        return np.concatenate([states[at][half][None], kept[:-1]]).reshape(-1, kept.shape[-1])

    ran = ours.run(x.reshape(1, -1, x.shape[2]), [(before(at, 0), before(at, 1)) for at in order])
    halves = [half for pair in ran.states for half in pair]
    others = [theirs.kept[at][letter] for at in order for letter in "cm"]
    found = [
        (half, other.reshape(-1, other.shape[-1]))
        for half, other in zip(halves, others, strict=True)
    ]
    return [*found, (ran.outputs[0], theirs.outputs.reshape(-1, theirs.outputs.shape[-1]))]


def are_close(one: Array, other: Array) -> bool:
    """Return whether arrays are the same except for rounding; NaN and Inf equal themselves."""
    import numpy as np

    return one.shape == other.shape and np.allclose(
        one, other, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True
    )


def make_trials(graph: GraphNetwork, *, pads: bool = True) -> Iterator[tuple[Array, list[Pair]]]:
    """Yield inputs and states of all scales, in batches that the graph takes."""
    import numpy as np

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
