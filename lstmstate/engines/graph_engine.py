"""An engine that evaluates a graph's own operations: slow, and exact for all graphs.

It runs a network whose c and m are known, with cells of any family. All operations between the
input and the loop, between loops, within a step and around the state are run as the graph has
them; dropout is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import islice, product
from typing import TYPE_CHECKING, Any

import numpy as np

from lstmstate.cells.cell import CellShape
from lstmstate.checkpoint.graph_node import Node
from lstmstate.checkpoint.op_sets import ENTERS
from lstmstate.engines.canonical_network import (
    InputShape,
    NetworkShape,
    Pair,
    RunOutputs,
    no_states,
    reverse_sequences,
)
from lstmstate.engines.graph_feeds import (
    change_initial_state,
    fit_to_placeholder,
    is_flat,
    take_step,
)
from lstmstate.errors import LstmstateError, UnsupportedError, first_of, printable
from lstmstate.graph.evaluate import (
    DROPOUT,
    BoundPlan,
    Environment,
    Plan,
    Scope,
    UnfedError,
    compile_plan,
)
from lstmstate.graph.operations import Precision, TensorArray, numpy_dtype, stack_list
from lstmstate.graph.tensors import Tensor, ahead, data_inputs, node_at
from lstmstate.recurrence.data_path import READS_SIZES, comes_from, origins
from lstmstate.recurrence.find_states import Path, take
from lstmstate.recurrence.graph_network import GraphNetwork, Output, Port
from lstmstate.recurrence.probe import Fed, fed_tensors

if TYPE_CHECKING:
    from lstmstate.engines.canonical_network import Array, Lengths

_OF_SHAPE = frozenset({"Shape", "Size", "Rank"})
DROPOUT_NOTE = "dropout is left out"
_TRIED = 32  # combinations of shapes for fed values
_WITH_DEFAULT = frozenset({"PlaceholderWithDefault"})


class GraphRunner:
    """A network of a graph, ready to run; see `engines.canonical_network.Runner`.

    Args:
        variable: returns the value of a variable's node.
        feeds: values for placeholders other than x and the state, by name.
        exact: whether everything is computed in float64.

    """

    def __init__(
        self,
        network: GraphNetwork,
        variable: Callable[[Node], Any],
        feeds: Mapping[str, Any] | None = None,
        *,
        exact: bool = False,
    ) -> None:
        self.network = network
        self._variable = variable
        self._feeds = fed_values(network.scope, feeds)
        self._exact = exact
        self._plans: dict[tuple[str, float, bool], tuple[Plan, BoundPlan]] = {}
        self._sources = fed_tensors(network.scope)
        self._lengths: set[Tensor] = set()  # inputs for sequence lengths, or masks
        self._unknown: dict[Tensor, None] = {}  # inputs for lengths that are not fed
        self._shapes: set[Tensor] = set()  # placeholders read for their shape alone
        self._is_turned = network.input.time_axis == 1  # whether the batch comes first in them
        self._chosen: dict[Tensor, int] = {}  # the number of the shape for a fed value
        self._by_step: dict[Tensor, bool] = {}  # whether the first step comes first in a flat value

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the user about the run."""
        plans = self._plans.values() or [self._plan("", 0.5)]
        found = [DROPOUT_NOTE] if any(DROPOUT in plan.operations for plan, _ in plans) else []
        found += self.network.halves
        if self._unknown:
            names = ", ".join(printable(tensor.node) for tensor in self._unknown)
            found.append(
                f"the graph computes the sequence lengths from {names}, which is not fed: "
                "all steps are run unless lengths are passed"
            )
        return tuple(found)

    def shape(self) -> NetworkShape:
        """Return the shapes of inputs, states and outputs; that of the outputs is found by a run.

        Raises:
            LstmstateError: the network cannot be run.
        """
        given, shape = self.network.input, self._shape
        steps, batch = given.steps or self.network.steps or 2, given.batch or 3
        x = self._make_up_x(steps, batch)
        sizes = (batch, steps) if given.time_axis else (steps, batch)
        made_up = {tensor: self._make_like(tensor, sizes) for tensor in self._feeds}
        with self._feed(self._feeds | {one: v for one, v in made_up.items() if v is not None}):
            ran = self._run_any(x, no_states(shape, batch))
        return shape._replace(output_shape=ran.outputs.shape[2:])

    @property
    def _shape(self) -> NetworkShape:
        """The shapes without that of the outputs."""
        given = self.network.input
        cells = tuple(
            CellShape(cell.name, cell.widths, cell.spatial) for cell in self.network.cells
        )
        first = InputShape(cells[0].name, given.width, self._kind_of_x, spatial=given.spatial)
        return NetworkShape(cells, first, (), self.dtype, self.network.is_reversed)

    def _make_up_x(self, steps: int, batch: int) -> Array:
        """Return random values for x: zeros may be taken for the end of a sequence."""
        given = self.network.input
        shape = (steps, batch, *given.spatial, given.width)
        return self._random(np.random.default_rng(0), shape)

    def _run_any(self, x: Array, states: Sequence[Pair]) -> RunOutputs:
        """Run over some data, without the graph's default lengths if they do not fit the batch."""
        try:
            return self.run(x, states)
        except UnsupportedError:
            if not self._defaults:
                raise
            return self.run(x, states, np.full(x.shape[1], len(x)))

    def _make_like(self, tensor: Tensor, sizes: tuple[int, int]) -> Any:
        """Return a made-up value for a fed placeholder, with other sizes of its axes."""
        static, value = self._static(tensor), self._feeds[tensor]
        if static is None or not value.ndim:
            return None
        return Fed(tensor, None, static).value(sizes).astype(value.dtype)

    @contextmanager
    def _feed(self, feeds: dict[Tensor, Any]) -> Iterator[None]:
        """Feed other values within a block."""
        own, self._feeds = self._feeds, feeds
        try:
            yield
        finally:
            self._feeds = own

    def _static(self, tensor: Tensor) -> tuple[int | None, ...] | None:
        """Return the static shape of a fed tensor."""
        fed = self._sources.get(tensor)
        return self.network.scope.nodes[tensor.node].shape() if fed is None else fed.sizes

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the states and outputs."""
        return np.dtype(np.float64 if self._exact else self.network.cells[0].c.dtype)

    @property
    def _kind_of_x(self) -> np.dtype[Any]:
        """The type of x; float64 in an exact run, also if the graph casts x to floats itself."""
        return np.dtype(np.float64 if self._exact else self.network.input.dtype)

    def _random(self, random: np.random.Generator, shape: tuple[int, ...]) -> Array:
        """Return random values in the type of x."""
        with np.errstate(invalid="ignore"):  # negative values for unsigned types
            values: Array = random.standard_normal(shape).astype(self._kind_of_x)
        return values

    @cached_property
    def parts_problem(self) -> str | None:
        """The reason why a sequence cannot be run in parts that pass on c and m, None if it can."""
        given = self.network.input
        batch = given.batch or 2
        if self.network.takes_one_step:
            return self.network.place
        if given.steps or self.network.steps:
            return None  # a run over another number of steps is refused
        if self.network.place:
            return self.network.place
        x, states = self._make_up_x(4, batch), no_states(self._shape, batch)
        whole = self.run(x, states)
        first = self.run(x[:2], states)
        second = self.run(x[2:], first.states)
        pairs = [(whole.outputs, np.concatenate([first.outputs, second.outputs]))]
        for one, other in zip(whole.states, second.states, strict=True):
            pairs += zip(one, other, strict=True)
        is_same = all(np.allclose(*pair, rtol=1e-5, atol=1e-5, equal_nan=True) for pair in pairs)
        return None if is_same else "the graph reads more than x, c and m of a step"

    def run(
        self, x: Array, states: Sequence[Pair], lengths: Lengths | None = None, keep: str = ""
    ) -> RunOutputs:
        """Run over some steps; see `Runner.run`.

        Raises:
            LstmstateError: the graph rejects the batch or the number of steps, or gates are to be
                kept.
        """
        if set(keep) - set("cm"):
            raise UnsupportedError("the graph engine can keep c and m of every step, but no gates")
        if len(x) > 1 and self.network.takes_one_step:
            return self._run_steps(x, states, lengths, keep)
        if lengths is None:
            return self._run_rows(x, states, keep)
        if self.takes_lengths and not self.network.counts:
            return self._run_rows(x, states, keep, lengths=lengths)
        if (lengths == len(x)).all():
            return self._run_rows(x, states, keep)
        return self._run_lengths(x, states, lengths, keep)

    @property
    def takes_lengths(self) -> bool:
        """Whether the graph has an input for sequence lengths."""
        plan, _ = next(iter(self._plans.values())) if self._plans else self._plan("", 0.5)
        fed = {*map(Tensor, plan.names), *plan.feeds}
        return bool(self._lengths) or not self._defaults.isdisjoint(fed)

    @property
    def _ends_in_x(self) -> bool:
        """Whether the graph computes the sequence lengths from x."""
        return any(map(self._find_lengths, self.network.input.tensors))

    @property
    def _defaults(self) -> set[Tensor]:
        """The inputs for sequence lengths with a default in the graph."""
        nodes = self.network.scope.nodes
        given = {one for one in self.network.lengths if nodes[one.node].op in _WITH_DEFAULT}
        return given - self._feeds.keys()

    def _run_steps(
        self, x: Array, states: Sequence[Pair], lengths: Lengths | None, keep: str
    ) -> RunOutputs:
        """Run a graph of a single step once for each step, from the states after the step before.

        Raises:
            UnsupportedError: the graph carries more than c and m from step to step.
        """
        place = self.network.place if self.network.place != READS_SIZES else None
        if self.network.is_reversed:
            place = "a backward cell begins at the end of a sequence"
        if place is not None:
            problem = f"the graph is built for 1 step and cannot be run over more: {place}"
            raise UnsupportedError(problem)
        steps, batch = x.shape[:2]
        found: list[RunOutputs] = []
        for at in range(steps):
            feeds = {
                tensor: take_step(tensor, value, self._static(tensor), at, (steps, batch))
                for tensor, value in self._feeds.items()
            }
            with self._feed(feeds):
                ran = self._run_rows(x[at : at + 1], states, keep)
            if lengths is not None:
                ended = (at >= lengths)[:, None]
                after = [
                    tuple(np.where(ended, old, new) for old, new in zip(*both, strict=True))
                    for both in zip(states, ran.states, strict=True)
                ]
                outputs = np.where(ended, ran.outputs.dtype.type(0), ran.outputs)
                own = [{"c": c[None], "m": m[None]} for c, m in after]
                ran = RunOutputs(outputs, [(c, m) for c, m in after], own)
            states = ran.states
            found.append(ran)
        kept = [
            {letter: np.concatenate([ran.kept[at][letter] for ran in found]) for letter in keep}
            for at in range(len(self.network.cells))
        ]
        return RunOutputs(np.concatenate([ran.outputs for ran in found]), found[-1].states, kept)

    def _run_lengths(
        self, x: Array, states: Sequence[Pair], lengths: Lengths, keep: str
    ) -> RunOutputs:
        """Run the sequences of each length together, without steps after their end.

        Raises:
            UnsupportedError: the results depend on the number of steps or the size of the batch.
        """
        if self.network.reads_sizes:
            raise UnsupportedError(
                f"{READS_SIZES}, so that it cannot be run with lengths",
                advice="run the sequences of each length separately",
            )
        given = self.network.input
        built_for = given.steps
        if built_for is not None and not {*lengths.tolist()} <= {0, built_for}:
            own = "finds the ends of sequences in x" if self._ends_in_x else "has no input for them"
            raise UnsupportedError(
                f"the graph is built for {built_for} steps and takes no lengths: it {own}",
                tensor=given.tensor.node,
                advice="leave the lengths out",
            )
        after = [(c.copy(), m.copy()) for c, m in states]
        outputs: Array | None = None
        kept = [
            {one: np.repeat(pair["cm".index(one)][None], len(x), 0) for one in keep}
            for pair in states
        ]
        for length in np.unique(lengths[lengths > 0]):
            rows = np.flatnonzero(lengths == length)
            ran = self._run_rows(
                x[:length, rows], [(c[rows], m[rows]) for c, m in states], keep, rows
            )
            if outputs is None:
                outputs = np.zeros((*x.shape[:2], *ran.outputs.shape[2:]), ran.outputs.dtype)
            outputs[:length, rows] = ran.outputs
            for at, state in enumerate(ran.states):
                after[at][0][rows], after[at][1][rows] = state
                for letter, values in ran.kept[at].items():
                    kept[at][letter][:length, rows] = values
                    kept[at][letter][length:, rows] = state["cm".index(letter)]  # it stays so
        if outputs is None:
            raise UnsupportedError("no sequence has a step")
        return RunOutputs(outputs, after, kept)

    def _run_rows(
        self,
        x: Array,
        states: Sequence[Pair],
        keep: str,
        rows: Any = None,
        lengths: Lengths | None = None,
    ) -> RunOutputs:
        plan, _ = self._plan(keep, 0.5, has_lengths=lengths is not None)
        self._refuse_own_ends(plan, keep)
        self._find_orders(x, states)
        values = self._evaluate_first_fit(x, states, keep, rows, lengths)
        ran = self._collect(values, len(x), keep, lengths)
        if plan.is_random:
            values = self._evaluate(x, states, keep, 0.25, rows, lengths)
            again = self._collect(values, len(x), keep, lengths)
            both = [
                [one.outputs, *(half for pair in one.states for half in pair)]
                for one in (ran, again)
            ]
            if not all(
                np.array_equal(one, other, equal_nan=True) for one, other in zip(*both, strict=True)
            ):
                raise UnsupportedError(
                    "the graph's step is random",
                    advice="feed the placeholder that turns it off: `feeds=...`",
                )
        return ran

    def _refuse_own_ends(self, plan: Plan, keep: str) -> None:
        """Refuse the outputs of a backward cell if the graph computes the sequence lengths.

        Raises:
            UnsupportedError: the order of the steps depends on lengths that are not passed.
        """
        is_turned = any(output.is_backward for output in self.network.outputs) or (
            bool(keep) and self.network.is_reversed
        )
        own = {*map(Tensor, plan.names), *self._feeds} if is_turned else set()
        found = [tensor.node for tensor in self.network.lengths if tensor in own]
        if found:
            raise UnsupportedError(
                "the steps of a backward cell cannot be ordered: the graph computes the lengths",
                tensor=found[0],
            )

    # ---- feeds and fetches

    def _find_orders(self, x: Array, states: Sequence[Pair]) -> None:
        """Find the order of flattened values, with a number for each step of each sequence.

        Raises:
            UnsupportedError: the results do not show the order.
        """
        steps, batch = x.shape[:2]
        for tensor, value in self._feeds.items():
            static = self._static(tensor)
            if tensor in self._by_step or not is_flat(value, static, steps, batch):
                continue
            outputs: list[Array] = []
            random = np.random.default_rng(0)
            some = self._random(random, x.shape)
            begun = [
                (random.standard_normal(c.shape).astype(c.dtype), np.ones_like(m) / 2)
                for c, m in states
            ]
            for second in (0, 1):
                flat = np.zeros(steps * batch, value.dtype)
                flat[1] = second
                with self._feed(self._feeds | {tensor: flat}):
                    values = self._evaluate_first_fit(some, begun, "", None, None)
                outputs.append(self._collect(values, steps, "", None).outputs)
            same: Any = np.isclose(outputs[0], outputs[1])
            differs = ~same.reshape(steps, batch, -1).all(-1)
            rows, first = np.flatnonzero(differs.any(0)), differs[0].any()
            if rows.tolist() != [1 if first else 0]:
                raise UnsupportedError(
                    "the results do not show whether batch or steps come first in this input",
                    tensor=tensor.node,
                    advice="feed a number, or the array in the shape of the input",
                )
            self._by_step[tensor] = bool(first)

    def _evaluate_first_fit(
        self, x: Array, states: Sequence[Pair], keep: str, rows: Any, lengths: Lengths | None
    ) -> list[Any]:
        """Return the fetched values, with feeds in the first shapes that fit."""
        steps, batch = x.shape[:2]
        ways = {tensor: self._fit_value(tensor, steps, batch) for tensor in self._feeds}
        several = [tensor for tensor, found in ways.items() if len(found) > 1]
        choices = product(*(range(len(ways[tensor])) for tensor in several))
        turns = (self._is_turned, not self._is_turned) if self._shapes else (self._is_turned,)
        before = dict(self._chosen), self._is_turned
        first: UnsupportedError | None = None
        for is_turned, choice in islice(product(turns, [None, *choices]), _TRIED):
            self._is_turned = is_turned
            self._chosen |= dict(zip(several, choice or (), strict=False))
            try:
                return self._evaluate(x, states, keep, 0.5, rows, lengths)
            except UnsupportedError as error:
                first = first or error
        self._chosen, self._is_turned = before
        raise first or UnsupportedError("nothing is fed")

    def _fit_value(self, tensor: Tensor, steps: int, batch: int) -> list[Array]:
        """Return a fed value in the shapes that its placeholder may take."""
        by_step = self._by_step.get(tensor, False)
        return fit_to_placeholder(
            self._feeds[tensor], self._static(tensor), steps, batch, by_step=by_step
        )

    def _evaluate(
        self,
        x: Array,
        states: Sequence[Pair],
        keep: str,
        draw: float,
        rows: Any,
        lengths: Lengths | None,
    ) -> list[Any]:
        """Return the fetched values."""
        given = self.network.input
        steps, batch = x.shape[:2]
        fixed = [("steps", given.steps, steps), ("batch", given.batch, batch)]
        for axis, static, size in fixed[:: -1 if given.time_axis else 1]:
            if static is not None and static != size:
                problem = f"expected {axis} {static}, which the graph is built for, got {size}"
                raise UnsupportedError(problem, tensor=given.tensor.node)
        plan, bound = self._plan(keep, draw, has_lengths=lengths is not None)
        feeds: dict[Tensor, Any] = {
            tensor: value.astype(self._kind_of_x) for tensor, value in given.fed(x).items()
        }
        for tensor in self._feeds:
            found = self._fit_value(tensor, steps, batch)
            value = found[min(self._chosen.get(tensor, 0), len(found) - 1)]
            fits = rows is not None and np.ndim(value) > 1 and len(value) != len(rows)
            feeds[tensor] = value[rows] if fits else value
        valid = np.full(batch, steps) if lengths is None else lengths
        for tensor in self._lengths | self._defaults:
            if tensor in self.network.masks:
                time_axis, axes = self.network.masks[tensor]
                mask = np.arange(steps)[:, None] < valid
                mask = mask.T if time_axis else mask
                feeds[tensor] = mask.reshape(*mask.shape, *[1] * (axes - 2))
            else:
                feeds[tensor] = valid.astype(self.network.lengths[tensor])
        feeds |= dict.fromkeys(self.network.counts, np.int64(steps))
        for tensor in self._shapes:
            feeds[tensor] = self._sources[tensor].value(
                (batch, steps) if self._is_turned else (steps, batch)
            )
        feeds |= _assemble_initial(self._change_states(states, feeds), exact=self._exact)
        missing = [tensor for tensor in plan.feeds if tensor not in feeds]
        if missing:
            raise UnsupportedError("the graph needs a value for this", tensor=missing[0].node)
        with np.errstate(all="ignore"):
            return bound.run(feeds)

    def _change_states(
        self, states: Sequence[Pair], feeds: Mapping[Tensor, Any]
    ) -> list[tuple[Port, Array]]:
        """Return the states at the first step, after changes by fed values."""
        fed = {tensor: feeds[tensor] for tensor in self._feeds}
        for tensor, problem in self.network.flags.items():
            if tensor not in fed:
                advice = f"pass a value for {printable(tensor.node)}: `feeds=...`"
                raise UnsupportedError(problem, advice=advice)
        scope = self.network.scope
        environment = Environment(self._read, Precision(self._exact, scope.is_of_2))

        def change(port: Port, half: Array) -> Array:
            return change_initial_state(scope, port, half, fed, self._sources, environment)

        return [
            (port, change(port, half))
            for cell, pair in zip(self.network.cells, states, strict=True)
            if cell.name not in self.network.handed
            for port, half in zip(cell.ports, pair, strict=True)
        ]

    def _list_fetches(self, keep: str) -> list[tuple[Tensor, ...]]:
        """Return the tensors to fetch: outputs, the last states, and the states of every step."""
        ports = [port for cell in self.network.cells for port in cell.ports]
        found = [output.tensors for output in self.network.outputs]
        found += [(port.final,) for port in ports]
        if keep:
            found += [port.steps for port in ports]
        return found

    def _collect(
        self, found: list[Any], steps: int, keep: str, lengths: Lengths | None
    ) -> RunOutputs:
        """Return outputs and states from the fetched values."""
        values = iter(found)
        fetched = [[next(values) for _ in tensors] for tensors in self._list_fetches(keep)]
        outputs = [
            _order_output(output, fetched.pop(0), steps, lengths) for output in self.network.outputs
        ]
        ports = [port for cell in self.network.cells for port in cell.ports]
        kind = self.dtype
        last = [
            take(values[0], port.exit).astype(kind, copy=False)
            for port, values in zip(ports, fetched, strict=False)
        ]
        turns = [one.is_reversed for one in self.network.recurrences for _ in one.cells]
        every = [
            _extend(take(_stack(values, is_apart=port.is_apart), port.place, lead=1), steps)
            for port, values in zip(ports, fetched[len(ports) :], strict=False)
        ]
        every = [
            (reverse_sequences(states, lengths) if turns[at // 2] else states).astype(
                kind, copy=False
            )
            for at, states in enumerate(every)
        ]
        kept = [
            {letter: pair["cm".index(letter)] for letter in keep}
            for pair in zip(every[::2], every[1::2], strict=True)
        ] or [{} for _ in self.network.cells]
        joined = outputs[0] if len(outputs) == 1 else np.concatenate(outputs, -1)
        taken = [len(joined), *(len(values) for values in every)]
        if set(taken) != {steps}:
            raise UnsupportedError(
                f"expected {steps} steps from the graph, got {min(taken)}",
                advice="pass sequences of the length that it is built for",
            )
        states = list(zip(last[::2], last[1::2], strict=True))
        return RunOutputs(joined.astype(kind, copy=False), states, kept)

    def _plan(self, keep: str, draw: float, *, has_lengths: bool = False) -> tuple[Plan, BoundPlan]:
        """Return the plan that fetches the values to keep; find the inputs for lengths.

        Args:
            has_lengths: whether lengths are passed, for inputs with a default in the graph.
        """
        key = (keep, draw, has_lengths)
        if key not in self._plans:
            environment = Environment(
                self._read, Precision(self._exact, self.network.scope.is_of_2, draw)
            )
            allowed = {*self.network.input.tensors, *self._feeds, *self._lengths, *self._shapes}
            allowed |= {*self.network.counts}
            for cell in self.network.cells:
                if cell.name in self.network.handed:
                    continue
                allowed |= {*cell.c.fed, *cell.m.fed}
                allowed |= {
                    port.source
                    for port in cell.ports
                    if node_at(self.network.scope.nodes, port.source).op.startswith("Placeholder")
                }
            allowed |= self._defaults if has_lengths else set()
            fetches = [tensor for tensors in self._list_fetches(keep) for tensor in tensors]
            while True:
                try:
                    plan = compile_plan(self.network.scope, fetches, allowed, environment)
                    break
                except UnfedError as error:
                    lengths = self._find_lengths(error.unfed) - allowed
                    if not lengths and (error.unfed in allowed or not self._static(error.unfed)):
                        raise _make_unfed_error(
                            self.network.scope, self._sources.get(error.unfed), error.unfed
                        ) from error
                    self._lengths |= lengths
                    sources = {
                        node.name for node in origins(self.network.scope.nodes, lengths, {}).sources
                    }
                    if error.unfed not in lengths and error.unfed.node in sources:
                        self._unknown[error.unfed] = None
                    self._shapes |= set() if lengths else {error.unfed}
                    allowed |= lengths or {error.unfed}
            for tensor in self._shapes:
                if not _is_shape_alone(self.network.scope, plan, tensor):
                    self._shapes.clear()
                    raise _make_unfed_error(self.network.scope, self._sources.get(tensor), tensor)
            with np.errstate(all="ignore"):
                self._plans[key] = plan, plan.bind()
        return self._plans[key]

    def _find_lengths(self, tensor: Tensor) -> set[Tensor]:
        """Return the sequence lengths and masks that are a tensor, or are computed from it."""
        nodes, every = self.network.scope.nodes, [*self.network.lengths, *self.network.masks]
        if tensor in every:
            return {tensor}
        return {one for one in every if comes_from(nodes, one, tensor)}

    def _read(self, node: Node) -> Any:
        value = self._variable(node)
        kind = np.dtype(np.float64) if self._exact and value.dtype.kind == "f" else value.dtype
        return value.astype(kind, copy=False)


def _assemble_initial(states: Sequence[tuple[Port, Array]], *, exact: bool) -> dict[Tensor, Any]:
    """Return the initial states of the cells, by the tensors that take them."""
    parts: dict[Tensor, list[tuple[Path, Array]]] = {}
    sources: dict[Tensor, Tensor] = {}
    for port, value in states:
        kind = np.dtype(np.float64 if exact else port.dtype)
        for tensor in port.fed:
            parts.setdefault(tensor, []).append((port.entry, value.astype(kind)))
            sources[tensor] = port.source
    found = {tensor: _assemble(own, 0) for tensor, own in parts.items()}
    return {sources[tensor]: value for tensor, value in found.items()} | found


def _assemble(parts: list[tuple[Path, Array]], depth: int) -> Array:
    """Return a value joined from its parts."""
    first, value = parts[0]
    if len(first) == depth:
        return value
    groups: dict[tuple[int, ...], list[tuple[Path, Array]]] = {}
    for path, own in parts:
        groups.setdefault(path[depth], []).append((path, own))
    places = sorted(groups)
    pieces = [_assemble(groups[place], depth + 1) for place in places]
    axis = places[0][0]
    if len(places[0]) == 2:
        return np.stack(pieces, axis)
    return np.concatenate(pieces, axis)


def _stack(values: Sequence[Any], *, is_apart: bool) -> Any:
    """Return the fetched values of all steps as one array, time first."""
    if is_apart:
        return np.stack(values)
    first = values[0]
    if isinstance(first, TensorArray):
        return first.stack()
    return stack_list(first) if isinstance(first, list) else first


def _extend(states: Array, steps: int) -> Array:
    """Return the states of all steps; if the loop ended earlier, the last one is repeated."""
    return np.concatenate([states, np.repeat(states[-1:], max(steps - len(states), 0), 0)])


def _order_output(
    output: Output, values: Sequence[Any], steps: int, lengths: Lengths | None
) -> Any:
    """Return an output, time first; states after the end of a sequence become zero."""
    found = _stack(values, is_apart=output.is_apart)
    found = take(found.swapaxes(0, 1) if output.time_axis else found, output.place, lead=1)
    found = _extend(found, steps) if output.is_state else found
    found = reverse_sequences(found, lengths) if output.is_backward else found
    if output.is_state and lengths is not None:
        found = found.copy()
        found[np.arange(steps)[:, None] >= lengths] = 0
    return found


def fed_values(scope: Scope, feeds: Mapping[str, Any] | None) -> dict[Tensor, Any]:
    """Return the values that a user feeds, in the types of their placeholders.

    Raises:
        LstmstateError: the graph has no such placeholder.
    """
    return {Tensor.of(name): _cast_fed(scope, name, value) for name, value in (feeds or {}).items()}


def _cast_fed(scope: Scope, name: str, value: Any) -> Any:
    """Return a value in the type of the placeholder that takes it.

    Raises:
        LstmstateError: the graph has no such placeholder.
    """
    tensor = Tensor.of(name)
    node, fed = node_at(scope.nodes, tensor), fed_tensors(scope).get(tensor)
    if not (fed or node.op.startswith("Placeholder")):
        known = ", ".join(
            printable(one.name)
            for one in scope.nodes.values()
            if one.op.startswith("Placeholder") and not one.name.startswith(("\0", "save/"))
        )
        raise LstmstateError(
            "the graph has no such placeholder",
            tensor=name,
            advice=f"there are: {known[:300] or 'none'}",
        )
    return np.asarray(value).astype(fed.dtype if fed else numpy_dtype(node, "dtype"))


def _make_unfed_error(scope: Scope, fed: Fed | None, tensor: Tensor) -> UnsupportedError:
    """Return an error with what reads a tensor that is not fed."""
    kind = ""
    if fed is not None:
        sizes = "any shape"
        if fed.sizes is not None:
            sizes = f"[{', '.join('?' if size is None else str(size) for size in fed.sizes)}]"
        kind = f" ({np.dtype(fed.dtype).name}, {sizes})"
    readers = first_of([f"{user.name} ({user.op})" for user in _find_readers(scope, tensor)], 2)
    return UnsupportedError(
        f"the graph needs a value for {printable(tensor.node)}{kind}"
        + (f", which is read by {readers}" if readers else ""),
        advice="pass it: `feeds=...`",
    )


def _find_readers(scope: Scope, tensor: Tensor) -> list[Node]:
    """Return the operations that compute with a tensor, without loops and calls as a whole.

    Those of gradients are left out, unless there are no others.
    """
    passing = ENTERS | {"Identity"}
    users = {user.name: user for user, _ in ahead(scope.users, tensor.node, passing)}
    wholes = (*ENTERS, "Identity", "While", "If", "PartitionedCall")
    found = [user for user in users.values() if not user.op.endswith(wholes)]
    forward = [user for user in found if "gradients" not in user.name.split("/")]
    return forward or found


def _is_shape_alone(scope: Scope, plan: Plan, tensor: Tensor) -> bool:
    """Whether a plan reads only the shape of a placeholder."""
    names = set(plan.names)
    return all(
        user.op in _OF_SHAPE or (user.name not in names and user.op not in ENTERS)
        for user, position in scope.users.get(tensor.node, ())
        if data_inputs(user)[position] == tensor
    )
