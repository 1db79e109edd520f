"""Our arithmetic beside TensorFlow's own cell, over the same data: what `lstmstate verify` does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from lstmstate.compare import Difference, Gauge, Tolerance
from lstmstate.engines.model import Pair
from lstmstate.errors import MissingExtraError, UnsupportedError
from lstmstate.loaded import Loaded
from lstmstate.runnable import LSTMNetwork
from lstmstate.running.job import Input, parts_of

if TYPE_CHECKING:
    from lstmstate.cells.model import Value
    from lstmstate.engines.model import Array

JUDGE = "tensorflow"
FEW, MANY = 4, 200  # steps over random data: rounding alone, and what it grows into
BATCH = 3
# Two ways to round the same sums differ by some units in the last place, and recurrence carries
# them on; a wrong equation is off by a thousand times as much.
TOLERANCES = {"float16": 5e-3, "float32": 1e-5, "float64": 1e-12}


class Trial(NamedTuple):
    """A network over some data, by an engine of ours and by TensorFlow.

    Attributes:
        data: what the data was, for people.
        differences: outputs, then c and m of each cell; the names say which. None where
            TensorFlow has no such cell.
        refused: why there are none.
        tolerance: N in |a - b| <= N + N * |b|.
    """

    network: str
    data: str
    steps: int
    differences: tuple[Difference, ...] | None
    refused: str | None = None
    tolerance: float | None = None

    @property
    def agrees(self) -> bool:
        """Whether all differences are within the tolerance."""
        return all(one.verdict == "same" for one in self.differences or ())


class Judged(NamedTuple):
    """A network, made ready by an engine of ours and by TensorFlow."""

    ours: Loaded
    judge: Loaded
    tolerance: Tolerance


def judged(
    network: LSTMNetwork, engine: str, options: dict[str, Value], tolerance: float | None
) -> Judged:
    """Make a network ready twice.

    Raises:
        MissingExtraError: TensorFlow is not installed.
        UnsupportedError: TensorFlow 2 has no such cell, or the engine does not run it.
    """
    ours = network.load(engine, options)
    bound = TOLERANCES[ours.network.dtype.name] if tolerance is None else tolerance
    return Judged(ours, network.load(JUDGE, options), Tolerance(bound, bound))


def over_random_data(
    networks: Sequence[LSTMNetwork],
    engine: str,
    options: dict[str, Value],
    tolerance: float | None,
    seed: int,
) -> Iterator[Trial]:
    """Yield two trials for each network, over a few steps and over many.

    Raises:
        MissingExtraError: TensorFlow is not installed.
    """
    for network in networks:
        try:
            both = judged(network, engine, options, tolerance)
        except MissingExtraError:
            raise
        except UnsupportedError as error:
            yield Trial(network.route.name, "random", 0, None, str(error))
            continue
        for steps in (FEW, MANY):
            x, states = _random(both.ours, steps, seed)
            gauges = _gauges(both, steps, BATCH)
            ran = [loaded.runner.run(x, states) for loaded in both[:2]]
            gauges[0].add(ran[0].outputs, ran[1].outputs, (0, 0, 0))
            _add_states(gauges[1:], ran[0].states, ran[1].states)
            results = tuple(gauge.result() for gauge in gauges)
            yield Trial(network.route.name, "random", steps, results, None, both.tolerance.atol)


def over_input(
    both: Judged,
    given: Input,
    told: Callable[[int], object] = lambda nbytes: None,  # noqa: ARG005
) -> Trial:
    """Return the trial over a file of sequences, from the zero state, part by part.

    Raises:
        LstmstateError: the input is damaged.
    """
    sequences = given.sequences
    gauges = _gauges(both, sequences.steps, sequences.batch)
    runs = [parts_of(loaded, given, loaded.states_of(None, sequences.batch)) for loaded in both[:2]]
    for (start, ours, _), (_, theirs, _) in zip(*runs, strict=True):
        gauges[0].add(ours.outputs, theirs.outputs, (start, 0, 0))
        last = ours.states, theirs.states
        told(len(ours.outputs) * sequences.batch * sequences.width * 4)
    _add_states(gauges[1:], *last)
    results = tuple(gauge.result() for gauge in gauges)
    name, bound = both.ours.route.name, both.tolerance.atol
    return Trial(name, sequences.path, sequences.steps, results, None, bound)


def _gauges(both: Judged, steps: int, batch: int) -> list[Gauge]:
    network = both.ours.network
    shapes: dict[str, tuple[int, ...]] = {"outputs": (steps, batch, network.output_size)}
    for cell in network.cells:
        prefix = f"{cell.name}: " if len(network.cells) > 1 else ""
        shapes |= {f"{prefix}c": (batch, cell.widths.c), f"{prefix}m": (batch, cell.widths.m)}
    return [Gauge(name, shape, both.tolerance) for name, shape in shapes.items()]


def _add_states(gauges: Sequence[Gauge], ours: Sequence[Pair], theirs: Sequence[Pair]) -> None:
    halves = [half for pair in ours for half in pair]
    others = [half for pair in theirs for half in pair]
    for gauge, half, other in zip(gauges, halves, others, strict=True):
        gauge.add(half, other, (0, 0))


def _random(loaded: Loaded, steps: int, seed: int) -> tuple[Array, list[Pair]]:
    """Return inputs and a state: normal, but for m, which lies within [-1, 1]."""
    import numpy as np

    network = loaded.network
    random = np.random.default_rng(seed)
    x = random.standard_normal((steps, BATCH, network.first.input_size)).astype(network.dtype)
    states = [
        (
            random.standard_normal((BATCH, cell.widths.c)).astype(network.dtype),
            random.uniform(-1, 1, (BATCH, cell.widths.m)).astype(network.dtype),
        )
        for cell in network.cells
    ]
    return x, states
