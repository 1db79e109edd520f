"""Our arithmetic beside TensorFlow's own cell, over the same data: what `lstmstate verify` does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from lstmstate.compare import Difference, Gauge, Tolerance
from lstmstate.engines.model import Pair
from lstmstate.errors import MissingExtraError, UnsupportedError
from lstmstate.loaded import Loaded
from lstmstate.runnable import LSTMNetwork
from lstmstate.running.job import Input, chunks_of

if TYPE_CHECKING:
    from lstmstate.cells.model import Value
    from lstmstate.engines.model import Array

JUDGE = "tensorflow"
FEW, MANY = 4, 200  # steps over random data
BATCH = 3
# Two ways to round the sums of one step differ by some units in the last place; a wrong equation
# is off by a thousand times as much.
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
    if ours.not_finite:
        raise UnsupportedError(f"{ours.not_finite[0]}: there is nothing to compare")
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
            yield _step_by_step(both, steps, seed)


def _step_by_step(both: Judged, steps: int, seed: int) -> Trial:
    """Return the trial over random data, each step of ours from TensorFlow's state before it.

    Left to themselves two that round differently drift apart where a network is sharp, and no
    bound would tell that from a wrong equation.
    """
    import numpy as np

    ours, judge, tolerance = both
    network = ours.cells
    x, states = _random(ours, steps, seed)
    theirs = judge.runner.run(x, states, keep="cm")
    backward = [bool(k) for stage in network.stages for k, chain in enumerate(stage) for _ in chain]
    before = [
        (_before(kept["c"], c, back), _before(kept["m"], m, back))
        for kept, (c, m), back in zip(theirs.kept, states, backward, strict=True)
    ]
    one_step = ours.runner.run(x.reshape(1, -1, x.shape[2]), before)
    gauges = _gauges(both, steps, BATCH, of_steps=True)
    halves = [one_step.outputs, *(half for pair in one_step.states for half in pair)]
    others = [theirs.outputs, *(kept[letter] for kept in theirs.kept for letter in "cm")]
    for gauge, half, other in zip(gauges, halves, others, strict=True):
        gauge.add(np.reshape(half, other.shape), other, (0, 0, 0))
    results = tuple(gauge.result() for gauge in gauges)
    return Trial(ours.route.name, "random", steps, results, None, tolerance.atol)


def _before(kept: Array, first: Array, backward: bool) -> Array:
    """Return c or m before every step, `[steps * batch, width]`, from those after every step."""
    import numpy as np

    parts = [kept[1:], first[None]] if backward else [first[None], kept[:-1]]
    return np.concatenate(parts).reshape(-1, first.shape[-1])


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
    last = [loaded.states_of(None, sequences.batch) for loaded in both[:2]]
    for start, x, valid in chunks_of(both.ours, given):  # read once for both
        ran = [
            loaded.runner.run(x, states, valid)
            for loaded, states in zip(both[:2], last, strict=True)
        ]
        gauges[0].add(ran[0].outputs, ran[1].outputs, (start, 0, 0))
        last = [one.states for one in ran]
        told(len(x) * sequences.batch * sequences.width * 4)
    _add_states(gauges[1:], *last)
    results = tuple(gauge.result() for gauge in gauges)
    name, bound = both.ours.route.name, both.tolerance.atol
    return Trial(name, sequences.path, sequences.steps, results, None, bound)


def _gauges(both: Judged, steps: int, batch: int, *, of_steps: bool = False) -> list[Gauge]:
    """Return what takes outputs, and c and m of each cell after the last step, or every one."""
    network = both.ours.network
    lead = (steps, batch) if of_steps else (batch,)
    shapes: dict[str, tuple[int, ...]] = {"outputs": (steps, batch, network.output_size)}
    for cell in network.cells:
        prefix = f"{cell.name}: " if len(network.cells) > 1 else ""
        shapes |= {f"{prefix}c": (*lead, cell.widths.c), f"{prefix}m": (*lead, cell.widths.m)}
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
