"""Comparison with TensorFlow's own cell, or with the graph's own step, over the same data."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

from lstmstate import arguments
from lstmstate.arguments import name_nearest
from lstmstate.cells.families import RUNNABLE
from lstmstate.cells.stacks import refuse_gaps
from lstmstate.engines.canonical_network import Array, Pair, Runner
from lstmstate.engines.run_options import assumptions, settle_run_options
from lstmstate.errors import (
    ArgumentError,
    LstmstateError,
    MissingExtraError,
    UnsupportedError,
    located,
    warn,
)
from lstmstate.model.checkpoint import LSTMCheckpoint, open_checkpoint
from lstmstate.model.confirm import InOrder, in_float64, step_by_step
from lstmstate.model.loaded_network import Loaded
from lstmstate.model.lstm_network import LSTMNetwork
from lstmstate.model.network_loader import RECORDED, Recorded, RunOptions
from lstmstate.named_tuple import NamedTuple
from lstmstate.operations.compare import Difference, Gauge, Tolerance
from lstmstate.operations.run import chunks_of, open_input
from lstmstate.operations.sequences import Sequences
from lstmstate.state.state_stream import Advance, ignore

if TYPE_CHECKING:
    from lstmstate.cells.cell import Value
    from lstmstate.engines.run_options import Settled

FEW, MANY = 4, 200  # steps over random data
BATCH = 3
# Both sides compute in float64, so that weights of any size leave no more than this between them.
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
        data: the data, in words.
        differences: outputs, then c and m of each cell, by name; None if there is nothing to
            compare with.
        refused: the reason for that.
        tolerance: N in |a - b| <= N + N * |b|.
        contradiction: a difference of the graph, for any judge.
    """

    network: str
    data: str
    steps: int
    differences: tuple[Difference, ...] | None
    refused: str | None = None
    tolerance: float | None = None
    contradiction: str | None = None

    @property
    def is_within(self) -> bool:
        """Whether all differences are within the tolerance."""
        return all(one.verdict == "same" for one in self.differences or ())

    @property
    def agrees(self) -> bool:
        """Whether all differences are within the tolerance, and the graph contradicts nothing."""
        return self.contradiction is None and self.is_within


class Trials(tuple[Trial, ...]):
    """The results of a verification; true if all of them agree."""

    def __bool__(self) -> bool:
        return all(one.agrees for one in self)


class VerifyRequest(NamedTuple):
    """The network to verify, and the two sides.

    Attributes:
        cell, stack: the name of the network; every cell by itself without one.
        engine: ours.
        against: "tensorflow" or "graph", None for TensorFlow where it is installed.
        tolerance: N in |a - b| <= N + N * |b|, None for the smallest that rounding allows.
        seed: of random data.
        options: of the cells, by the names of `RUN_OPTIONS`.
        lengths, time_major, header: of inputs; see `sequences.open_sequences`.
    """

    cell: str | None = None
    stack: str | None = None
    engine: str = "auto"
    against: str | None = None
    tolerance: float | None = None
    seed: int | None = None
    options: Mapping[str, Value] = {}
    lengths: str | None = None
    time_major: bool = False
    header: bool | None = None


class EnginePair(NamedTuple):
    """A network, made ready by an engine of ours and by its judge.

    Attributes:
        contradiction: a difference of the graph, for any judge.
    """

    ours: Loaded
    judge: Loaded
    tolerance: Tolerance
    contradiction: str | None


_NUMBERS = {"tolerance": arguments.TOLERANCE, "seed": arguments.WHOLE}


@name_nearest
def verify(
    checkpoint: str | os.PathLike[str],
    inputs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
    *,
    cell: str | None = None,
    stack: str | None = None,
    engine: str = "auto",
    against: str | None = None,
    tolerance: float | None = None,
    seed: int | None = None,
    lengths: str | None = None,
    time_major: bool = False,
    header: bool | None = None,
    forget_bias: float | Recorded = RECORDED,
    cell_clip: float | Recorded | None = RECORDED,
    proj_clip: float | Recorded | None = RECORDED,
    activation: str | Recorded = RECORDED,
    recurrent_activation: str | Recorded = RECORDED,
    peepholes: bool | Recorded = RECORDED,
    assume_defaults: bool = False,
    checksums: bool = True,
) -> Trials:
    """Run data here and in TensorFlow, or in the graph; the `Trials` are true if all agree.

    Args:
        checkpoint: the path of a checkpoint.
        inputs: files of sequences; random data by default, from `seed`, 0 unless given.
        cell, stack: the network to verify; every cell by itself for random data.
        against: "tensorflow" or "graph"; TensorFlow by default if it is installed.
        tolerance: N in `|a - b| <= N + N * |b|`, 1e-9 in float64 by default.
        lengths, time_major, header: as for `lstmstate verify`.
        engine, forget_bias, …, assume_defaults: as for `LSTMNetwork.run`.

    Raises:
        UnsupportedError: no cell can be verified; a warning if others can.
    """
    chosen = RunOptions.of(locals())
    chosen.refuse_others()
    given = chosen.given
    if against not in (None, *JUDGES) or engine in JUDGES:
        name, value = ("engine", engine) if engine in JUDGES else ("against", against)
        raise ArgumentError(
            f"`{name}` cannot be {value!r}", advice=f"`against` is {' or '.join(JUDGES)}"
        )
    numbers = {"tolerance": tolerance, "seed": seed}
    arguments.refuse_others({name: n for name, n in numbers.items() if n is not None}, _NUMBERS)
    paths = [inputs] if isinstance(inputs, str | os.PathLike) else inputs
    if paths and seed is not None:
        raise ArgumentError("`seed` is for random data", advice="leave it or `inputs` out")
    if not paths and (lengths is not None or time_major):
        raise ArgumentError("`lengths` and `time_major` are for `inputs`", advice="pass them too")
    request = VerifyRequest(
        *(cell, stack, engine, against, tolerance, seed, given, lengths, time_major, header)
    )
    of_inputs: list[str] = []
    with open_checkpoint(checkpoint, checksums=checksums) as ckpt:
        verification = Verification(ckpt, request, has_inputs=bool(paths))
        trials = [] if paths else verification.over_random_data()
        for path in paths:
            sequences = verification.open(os.fspath(path))
            of_inputs += sequences.notes
            trials.append(verification.over_input(sequences))
        notes = [*assumptions(verification.settled), *verification.left_out(trials)]
    warn([*ckpt.notes, *(f"{ckpt.prefix}: {note}" for note in notes), *of_inputs])
    return Trials(trials)


class Verification:
    """A checkpoint that is verified, over inputs or over random data.

    Attributes:
        judge: the side to compare with, "tensorflow" or "graph".
        settled: the options of its cells.
        steps: those over random data.

    Raises:
        MissingExtraError: TensorFlow is not installed.
        UnsupportedError: the network cannot be run over inputs by one of the two sides.
    """

    def __init__(self, ckpt: LSTMCheckpoint, request: VerifyRequest, *, has_inputs: bool) -> None:
        self.judge = request.against or default_judge()
        self._ckpt, self._request = ckpt, request
        self._networks: list[LSTMNetwork] = []
        if has_inputs:
            network = ckpt.network(cell=request.cell, stack=request.stack)
            with located(ckpt.prefix):
                self._pair = load_pair(
                    network, request.engine, request.options, request.tolerance, self.judge
                )
            self.settled: Sequence[Settled] = self._pair.ours.settled
        else:
            self._networks = networks_of(ckpt, request.cell, request.stack, self.judge)
            cells = [cell for network in self._networks for cell in network.route.cells]
            self.settled = [
                settle_run_options(one, request.options) for one in cells if one.family in RUNNABLE
            ]
        self.steps = sum(sum(sizes_of(network, self.judge)) for network in self._networks)

    def over_random_data(self, advance: Advance = ignore) -> list[Trial]:
        """Return the trials of each network; `advance` is called with the steps of each."""
        request, trials = self._request, []
        how = (request.engine, request.options, request.tolerance, request.seed or 0, self.judge)
        for trial in over_random_data(self._networks, *how):
            trials.append(trial)
            advance(trial.steps)
        return trials

    def open(self, path: str) -> Sequences:
        """Open an input."""
        request = self._request
        return open_input(
            self._pair.ours,
            path,
            lengths=request.lengths,
            time_major=request.time_major,
            header=request.header,
        )

    def over_input(self, sequences: Sequences, advance: Advance = ignore) -> Trial:
        """Return the trial over an input; `advance` is called with the steps of each part."""
        return over_input(self._pair, sequences, advance)

    def left_out(self, trials: Sequence[Trial], *, strict: bool = False) -> list[str]:
        """Return why cells were left out.

        Raises:
            UnsupportedError: all were; with `strict`, any was.
        """
        refused = [trial.refused for trial in trials if trial.refused]
        if refused and (strict or len(refused) == len(trials)):
            raise UnsupportedError(refused[0], path=self._ckpt.prefix)
        return refused


def networks_of(
    ckpt: LSTMCheckpoint, cell: str | None, stack: str | None, against: str
) -> list[LSTMNetwork]:
    """Return the network to verify, or every cell by itself."""
    if cell is not None or stack is not None:
        return [ckpt.network(cell=cell, stack=stack)]
    if against == "graph" and ckpt.model is not None and ckpt.model.networks:
        return [part for network in ckpt.graph_networks() for part in _chained(ckpt, network)]
    if not ckpt.cells:
        raise LstmstateError(ckpt.no_cells, path=ckpt.prefix)
    return [*ckpt.cells.values()]


def _chained(ckpt: LSTMCheckpoint, network: LSTMNetwork) -> list[LSTMNetwork]:
    """Return a network, or each of its cells if layers of the graph are between them."""
    names = [cell.name for cell in network.route.cells]
    try:
        refuse_gaps(network.route)
    except UnsupportedError:
        if set(names) <= set(ckpt.cells):
            return [ckpt.cells[name] for name in names]
    return [network]


def load_pair(
    network: LSTMNetwork,
    engine: str,
    options: Mapping[str, Value],
    tolerance: float | None,
    against: str,
) -> EnginePair:
    """Make a network ready twice.

    Raises:
        MissingExtraError: TensorFlow is not installed.
        UnsupportedError: the judge has no such cell, or the engine does not run it.
    """
    from lstmstate import engines

    ours = network.load_recognised("numpy" if engine == "auto" else engine, options)
    if ours.not_finite:
        raise UnsupportedError(f"{ours.not_finite[0]}: there is nothing to compare")
    exact = in_float64(ours.recognised_network)
    bound = TOLERANCE if tolerance is None else tolerance
    wide = ours._replace(network=exact, runner=engines.load("numpy", exact))
    contradiction = None
    confirmation = network.confirmation(ours, RunOptions(given=options))
    if confirmation is not None and confirmation.agrees is False:
        contradiction = confirmation.reason
    if against == "tensorflow":
        try:
            runner: Runner = engines.load("tensorflow", exact)
        except UnsupportedError:  # its block cells have no float64
            runner = engines.load("tensorflow", ours.recognised_network)
            bound = max(bound, BLOCK_TOLERANCE) if tolerance is None else bound
            wide, exact = ours, ours.recognised_network
    else:
        model, found = network.model, network.graph_networks()
        if model is None or not found:
            refused = (
                model.refused[:2] if model is not None else ("the checkpoint has no complete one",)
            )
            why = "; ".join(refused) or "it does not step these cells"
            raise UnsupportedError(
                f"the graph cannot be evaluated: {why}",
                advice="`against='tensorflow'` compares with TensorFlow's own cell (pip install "
                "'lstmstate[tensorflow]')",
            )
        runner = InOrder(model.runner(found[0], exact=True), exact)
    judge = wide._replace(network=exact, runner=runner)
    return EnginePair(wide, judge, Tolerance(bound, bound), contradiction)


def over_random_data(
    networks: Sequence[LSTMNetwork],
    engine: str,
    options: Mapping[str, Value],
    tolerance: float | None,
    seed: int,
    against: str,
) -> Iterator[Trial]:
    """Yield two trials for each network, of a few steps and of many."""
    for network in networks:
        try:
            both = load_pair(network, engine, options, tolerance, against)
        except MissingExtraError:
            raise
        except UnsupportedError as error:
            yield Trial(network.route.name, "random", 0, None, str(error))
            continue
        for steps in sizes_of(network, against):
            try:
                yield _over_steps(both, steps, seed)
            except UnsupportedError as error:
                yield Trial(network.route.name, "random", steps, None, str(error))


def sizes_of(network: LSTMNetwork, against: str) -> tuple[int, ...]:
    """Return the numbers of steps: few and many, or the one that the graph is built for."""
    found = network.graph_networks() if against == "graph" else []
    fixed = [one.input.sizes[one.input.time_axis] or one.steps for one in found[:1]]
    return (fixed[0],) if fixed and fixed[0] else (FEW, MANY)


def _find_batch(runner: Runner) -> int:
    """Return the batch that a judge takes."""
    given = runner.network.input if isinstance(runner, InOrder) else None
    return (given.sizes[1 - given.time_axis] if given is not None else None) or BATCH


def _over_steps(both: EnginePair, steps: int, seed: int) -> Trial:
    """Return the trial over random data, each step of ours from the judge's state before it."""
    ours, judge = both.ours, both.judge
    batch = _find_batch(judge.runner)
    x, states = _make_random_data(ours, steps, seed, batch)
    stages = ours.recognised_network.stages
    backward = [bool(k) for stage in stages for k, chain in enumerate(stage) for _ in chain]
    gauges = _make_gauges(both, steps, batch, of_steps=True)
    pairs = step_by_step(ours.runner, judge.runner, x, states, backward)
    for gauge, pair in zip(gauges, pairs, strict=True):
        gauge.add(*pair, (0, 0, 0))
    return _make_trial(both, "random", steps, gauges)


def _make_trial(both: EnginePair, data: str, steps: int, gauges: Sequence[Gauge]) -> Trial:
    results = tuple(gauge.result() for gauge in gauges)
    name, bound = both.ours.route.name, both.tolerance.atol
    return Trial(name, data, steps, results, None, bound, both.contradiction)


def over_input(both: EnginePair, sequences: Sequences, advance: Advance = ignore) -> Trial:
    """Return the trial over a file of sequences, from the zero state, part by part."""
    outputs, *states = _make_gauges(both, sequences.steps, sequences.batch)
    sides = both.ours, both.judge
    last = [loaded.states_of(None, sequences.batch) for loaded in sides]
    for start, x, valid in chunks_of(both.ours, sequences):  # read once for both
        with located(sequences.path):
            ran = [
                loaded.runner.run(x, before, valid)
                for loaded, before in zip(sides, last, strict=True)
            ]
        outputs.add(ran[0].outputs, ran[1].outputs, (start, 0, 0))
        last = [one.states for one in ran]
        advance(len(x))
    for gauge, half, other in zip(states, ran[0].arrays[1:], ran[1].arrays[1:], strict=True):
        gauge.add(half, other, (0, 0))
    return _make_trial(both, sequences.path, sequences.steps, [outputs, *states])


def _make_gauges(
    both: EnginePair, steps: int, batch: int, *, of_steps: bool = False
) -> list[Gauge]:
    """Return what takes outputs, and c and m of each cell after the last step, or every one."""
    network = both.ours.network
    lead = (steps, batch) if of_steps else (batch,)
    shapes: dict[str, tuple[int, ...]] = {"outputs": (steps, batch, *network.output_shape)}
    for cell in network.cells:
        prefix = f"{cell.name}: " if len(network.cells) > 1 else ""
        shapes |= {f"{prefix}c": (*lead, cell.widths.c), f"{prefix}m": (*lead, cell.widths.m)}
    return [Gauge(name, shape, both.tolerance) for name, shape in shapes.items()]


def _make_random_data(
    loaded: Loaded, steps: int, seed: int, batch: int = BATCH
) -> tuple[Array, list[Pair]]:
    """Return inputs and a state: normal, except for m, which is within [-1, 1]."""
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
