"""Our arithmetic against TensorFlow's own cell, or the graph's own step, over the same data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from lstmstate.engines.network import Pair, Ran, Runner
from lstmstate.errors import MissingExtraError, UnsupportedError
from lstmstate.model.confirm import in_float64
from lstmstate.model.loaded_network import Loaded
from lstmstate.model.network import LSTMNetwork
from lstmstate.operations.compare import Difference, Gauge, Tolerance
from lstmstate.operations.run import Input, chunks_of
from lstmstate.records import NamedTuple

if TYPE_CHECKING:
    from lstmstate.cells.cell import Value
    from lstmstate.engines.graph_engine import GraphRunner
    from lstmstate.engines.network import Array, Lengths

FEW, MANY = 4, 200  # steps over random data
BATCH = 3
# Both sides compute in float64, so that weights of any size leave no more than this between them;
# an engine that has float32 alone is compared in float32, within what its rounding explains.
TOLERANCE = 1e-9
BLOCK_TOLERANCE = 1e-5  # of cells that TensorFlow computes in float32 alone
JUDGES = ("tensorflow", "graph")


def default_judge() -> str:
    """Return TensorFlow where it is installed, else the graph."""
    found = find_spec("tensorflow") is not None and find_spec("tf_keras") is not None
    return "tensorflow" if found else "graph"


class Trial(NamedTuple):
    """A network over some data, by an engine of ours and by TensorFlow.

    Attributes:
        data: what the data was, for people.
        differences: outputs, then c and m of each cell; the names say which. None where
            TensorFlow has no such cell.
        refused: why there are none.
        tolerance: N in |a - b| <= N + N * |b|.
        contradiction: what the graph does otherwise, whatever the judge.
    """

    network: str
    data: str
    steps: int
    differences: tuple[Difference, ...] | None
    refused: str | None = None
    tolerance: float | None = None
    contradiction: str | None = None

    @property
    def agrees(self) -> bool:
        """Whether all differences are within the tolerance, and the graph contradicts nothing."""
        return self.contradiction is None and all(
            one.verdict == "same" for one in self.differences or ()
        )


class Judged(NamedTuple):
    """A network, made ready by an engine of ours and by its judge.

    Attributes:
        contradiction: what the graph does otherwise, whatever the judge.
    """

    ours: Loaded
    judge: Loaded
    tolerance: Tolerance
    contradiction: str | None


class _InOrder:
    """A graph's network with its cells in the order of another."""

    def __init__(self, runner: GraphRunner, names: Sequence[str]) -> None:
        own = [cell.name for cell in runner.network.cells]
        self.network = runner.network
        self._runner = runner
        self._there = [list(names).index(name) for name in own]
        self._here = [own.index(name) for name in names]

    def run(
        self, x: Array, states: Sequence[Pair], lengths: Lengths | None = None, keep: str = ""
    ) -> Ran:
        """Run over some steps; see `Runner`."""
        ran = self._runner.run(x, [states[at] for at in self._there], lengths, keep)
        return ran._replace(
            states=[ran.states[at] for at in self._here], kept=[ran.kept[at] for at in self._here]
        )


def judged(
    network: LSTMNetwork,
    engine: str,
    options: dict[str, Value],
    tolerance: float | None,
    against: str,
) -> Judged:
    """Make a network ready twice.

    Raises:
        MissingExtraError: TensorFlow is not installed.
        UnsupportedError: the judge has no such cell, or the engine does not run it.
    """
    from lstmstate import engines

    ours = network.recognised("numpy" if engine == "auto" else engine, options)
    if ours.not_finite:
        raise UnsupportedError(f"{ours.not_finite[0]}: there is nothing to compare")
    exact = in_float64(ours.cells)
    bound = TOLERANCE if tolerance is None else tolerance
    wide = ours._replace(network=exact, runner=engines.load("numpy", exact))
    if ours.engine != "numpy":
        bound = max(bound, _rounding(wide, ours)) if tolerance is None else bound
        wide = ours
    contradiction = None
    confirmation = network.confirmation(ours, options)
    if confirmation is not None and confirmation.agrees is False:
        contradiction = confirmation.reason
    if against == "tensorflow":
        try:
            runner: Runner = engines.load("tensorflow", exact)
        except UnsupportedError:  # its block cells have no float64
            runner = engines.load("tensorflow", ours.cells)
            bound = max(bound, BLOCK_TOLERANCE) if tolerance is None else bound
            wide, exact = ours, ours.cells
    else:
        model, found = network.model, network.graph_networks()
        if model is None or not found:
            refused = model.refused[:2] if model is not None else ("there is none that is whole",)
            why = "; ".join(refused) or "it does not step these cells"
            raise UnsupportedError(
                f"the graph cannot be evaluated: {why}",
                advice="`against='tensorflow'` compares with TensorFlow's own cell (pip install "
                "'lstmstate[tensorflow]')",
            )
        names = [cell.name for cell in exact.cells]
        runner = _InOrder(model.runner(found[0], exact=True), names)
    judge = wide._replace(network=exact, runner=runner)
    return Judged(wide, judge, Tolerance(bound, bound), contradiction)


def _rounding(exact: Loaded, ours: Loaded) -> float:
    """Return how far an engine's rounding takes it from float64, with some room, on random data."""
    import numpy as np

    x, states = _random(exact, FEW, 1)
    first = exact.runner.run(x, states)
    kind = ours.cells.dtype
    second = ours.runner.run(x.astype(kind), [(c.astype(kind), m.astype(kind)) for c, m in states])
    return 8 * float(np.abs(first.outputs - second.outputs).max())


def over_random_data(
    networks: Sequence[LSTMNetwork],
    engine: str,
    options: dict[str, Value],
    tolerance: float | None,
    seed: int,
    against: str,
) -> Iterator[Trial]:
    """Yield two trials for each network, over a few steps and over many.

    Raises:
        MissingExtraError: TensorFlow is not installed.
    """
    for network in networks:
        try:
            both = judged(network, engine, options, tolerance, against)
        except MissingExtraError:
            raise
        except UnsupportedError as error:
            yield Trial(network.route.name, "random", 0, None, str(error))
            continue
        for steps in sizes_of(network, against):
            try:
                yield _step_by_step(both, steps, seed)
            except UnsupportedError as error:
                yield Trial(network.route.name, "random", steps, None, str(error))


def sizes_of(network: LSTMNetwork, against: str) -> tuple[int, ...]:
    """Return how many steps to take: few and many, or as many as the graph is built for."""
    found = network.graph_networks() if against == "graph" else []
    fixed = [one.input.sizes[one.input.time_axis] or one.steps for one in found[:1]]
    return (fixed[0],) if fixed and fixed[0] else (FEW, MANY)


def _batch(runner: Runner) -> int:
    """Return the batch that a judge takes."""
    given = runner.network.input if isinstance(runner, _InOrder) else None
    return (given.sizes[1 - given.time_axis] if given is not None else None) or BATCH


def _step_by_step(both: Judged, steps: int, seed: int) -> Trial:
    """Return the trial over random data, each step of ours from TensorFlow's state before it.

    Left to themselves two that round differently drift apart where a network is sharp, and no
    bound would tell that from a wrong equation.
    """
    import numpy as np

    ours, judge, tolerance, contradiction = both
    network = ours.cells
    batch = _batch(judge.runner)
    x, states = _random(ours, steps, seed, batch)
    theirs = judge.runner.run(x, states, keep="cm")
    backward = [bool(k) for stage in network.stages for k, chain in enumerate(stage) for _ in chain]
    before = [
        (_before(kept["c"], c, back), _before(kept["m"], m, back))
        for kept, (c, m), back in zip(theirs.kept, states, backward, strict=True)
    ]
    one_step = ours.runner.run(x.reshape(1, -1, x.shape[2]), before)
    gauges = _gauges(both, steps, batch, of_steps=True)
    halves = [one_step.outputs, *(half for pair in one_step.states for half in pair)]
    others = [theirs.outputs, *(kept[letter] for kept in theirs.kept for letter in "cm")]
    for gauge, half, other in zip(gauges, halves, others, strict=True):
        gauge.add(np.reshape(half, other.shape), other, (0, 0, 0))
    results = tuple(gauge.result() for gauge in gauges)
    name = ours.route.name
    return Trial(name, "random", steps, results, None, tolerance.atol, contradiction)


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
    return Trial(name, sequences.path, sequences.steps, results, None, bound, both.contradiction)


def _gauges(both: Judged, steps: int, batch: int, *, of_steps: bool = False) -> list[Gauge]:
    """Return what takes outputs, and c and m of each cell after the last step, or every one."""
    network = both.ours.network
    lead = (steps, batch) if of_steps else (batch,)
    shapes: dict[str, tuple[int, ...]] = {"outputs": (steps, batch, *network.output_shape)}
    for cell in network.cells:
        prefix = f"{cell.name}: " if len(network.cells) > 1 else ""
        shapes |= {f"{prefix}c": (*lead, cell.widths.c), f"{prefix}m": (*lead, cell.widths.m)}
    return [Gauge(name, shape, both.tolerance) for name, shape in shapes.items()]


def _add_states(gauges: Sequence[Gauge], ours: Sequence[Pair], theirs: Sequence[Pair]) -> None:
    halves = [half for pair in ours for half in pair]
    others = [half for pair in theirs for half in pair]
    for gauge, half, other in zip(gauges, halves, others, strict=True):
        gauge.add(half, other, (0, 0))


def _random(loaded: Loaded, steps: int, seed: int, batch: int = BATCH) -> tuple[Array, list[Pair]]:
    """Return inputs and a state: normal, but for m, which lies within [-1, 1]."""
    import numpy as np

    network = loaded.network
    random = np.random.default_rng(seed)
    x = random.standard_normal((steps, batch, network.first.input_size)).astype(network.dtype)
    states = [
        (
            random.standard_normal((batch, cell.widths.c)).astype(network.dtype),
            random.uniform(-1, 1, (batch, cell.widths.m)).astype(network.dtype),
        )
        for cell in network.cells
    ]
    return x, states
