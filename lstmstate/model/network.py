"""Cells and stacks of an open checkpoint that can be run: the Python API of `run`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from lstmstate.cells.cell import UNRECOGNISED, Cell, Stack, Value, unexplained_words
from lstmstate.cells.execution_order import Route, of_cell, of_stack
from lstmstate.cells.families import RUNNABLE
from lstmstate.errors import (
    AmbiguousError,
    LstmstateError,
    UnknownOptionError,
    UnsupportedError,
    located,
    printable,
)
from lstmstate.records import NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from lstmstate.engines.graph_engine import GraphRunner
    from lstmstate.engines.network import Array, NetworkShape
    from lstmstate.model.confirm import Confirmation, GraphModel
    from lstmstate.model.loaded_network import Loaded
    from lstmstate.recurrence.fed_state import FedOrder
    from lstmstate.recurrence.graph_network import GraphNetwork
    from lstmstate.recurrence.initial_state import Start
    from lstmstate.state.state import State

Read = Callable[[str], "NDArray[np.generic]"]

_SHOWN = 4  # variables in a note
_KEPT = 2  # ways of running a network, each with all of its weights


class Origin(NamedTuple):
    """Where a network comes from.

    Attributes:
        read: returns the value of a variable, which is kept until `forget` is called.
        path: where the variables are, for messages.
        model: returns the graph's own networks, None where there is no graph.
        forget: drops the values that were read.
        stored: returns the variables from which the graph is seen to start some cells, by name.
    """

    read: Read
    path: str
    model: Callable[[], GraphModel | None]
    forget: Callable[[], None]
    stored: Callable[[Collection[str]], list[str]]


class OwnStart(NamedTuple):
    """A state with which the graph itself begins, where that is not surely zeros.

    Attributes:
        variables: names of the variables that it comes from.
        problem: why it is unknown.
        is_stored: whether it is seen to lie in these variables.
        is_of_sizes: whether it may be another one, zeros among them, for x of another size.
    """

    variables: tuple[str, ...]
    problem: str | None
    is_stored: bool
    is_of_sizes: bool

    @property
    def line(self) -> str:
        """What a user should know of it who gives no state."""
        more = len(self.variables) - _SHOWN
        names = ", ".join(map(printable, self.variables[:_SHOWN]))
        names += f" and {more} more" if more > 0 else ""
        own = f"a state of its own ({names})" if names else "a state of its own"
        found = f"the graph starts from {own}, and this run from zeros"
        is_unknown = self.problem and not self.is_stored
        return f"{found}; that state is unknown: {self.problem}" if is_unknown else found


class LSTMNetwork:
    """A cell, a stack, or a pair of stacks, with what is needed to run it.

    Args:
        route: the cells in order.
        origin: where they come from.
        graph: the network of the graph that has these cells, where it is known already.

    Example:
        >>> import numpy as np, lstmstate
        >>> network = lstmstate.open_checkpoint("sample_checkpoints/sunspots").network()
        >>> outputs, state = network.run(np.ones((8, 5, 1)))   # [batch, time, input]
        >>> outputs.shape, [cell.c.shape for cell in state]
        ((8, 5, 12), [(8, 24), (8, 12)])
    """

    def __init__(self, route: Route, origin: Origin, graph: GraphNetwork | None = None) -> None:
        self.route = route
        self._origin = origin
        self._path = origin.path
        self._graph = graph
        self._loaded: dict[tuple[object, ...], Loaded] = {}
        self._warned: set[str] = set()
        self._own: dict[tuple[object, ...], OwnStart | None] = {}

    def __repr__(self) -> str:
        return f"<LSTMNetwork {self.route.name!r} of {len(self.route.cells)} cells>"

    @property
    def model(self) -> GraphModel | None:
        """The graph's own networks, None where there is no graph."""
        return self._origin.model()

    def load(
        self,
        engine: str = "auto",
        options: Mapping[str, Value] | None = None,
        feeds: Mapping[str, Any] | None = None,
        outputs: str | None = None,
        width: int | None = None,
        *,
        has_lengths: bool = False,
    ) -> Loaded:
        """Read the weights and make them ready to run; the same again costs nothing.

        A cell that has a graph is run only where the graph's own step gives the same numbers.

        Args:
            engine: "auto" for NumPy where the graph confirms the cells, or there is no graph, and
                for the graph's own step elsewhere; "numpy", "graph", "tensorflow" or
                "onnxruntime".
            options: forget_bias, cell_clip, proj_clip, activation, recurrent_activation or
                peepholes, for all cells, in the place of what the files tell; assume_defaults:
                whether an option that has no single default gets the documented one.
            feeds: values for placeholders of the graph other than x and the state.
            outputs: "m" for the m of the last cell, "graph" for what the graph makes of it at each
                step. Unless given it is what a wrapper around the cell gives; a cell that gives
                something else than its m is refused.
            width: that of the vectors of x, where it may be fed in several places of the graph:
                before layers of the graph, and as what the cell itself reads.
            has_lengths: whether sequences have lengths of their own: then "auto" runs the graph's
                own step, too, where the graph ends them in another way.

        Raises:
            UnknownOptionError: an option is in no file, and has no single default.
            LstmstateError: a cell cannot be run, the graph contradicts it, or a variable cannot be
                read.
        """
        from lstmstate.engines.options import refuse_others

        given = options or {}
        refuse_others(given)
        fed = {name: id(value) for name, value in (feeds or {}).items()}
        width = self._other_width(width, feeds or {})
        key = (engine, outputs, width, has_lengths, *sorted(given.items()), *sorted(fed.items()))
        if key not in self._loaded:
            if outputs not in (None, "m", "graph"):
                raise LstmstateError(f"outputs is {outputs!r}", advice="use 'm' or 'graph'")
            try:
                with located(self._path):
                    loaded = self._load(
                        engine, given, feeds or {}, outputs, width, has_lengths=has_lengths
                    )
                    networks = self.graph_networks()
                    handed = dict.fromkeys(line for one in networks for line in one.handed.values())
                    loaded = loaded._replace(handed=tuple(handed))
                    model = self.model if outputs != "m" else None
                    if model is not None:
                        loaded = loaded._replace(beyond=model.beyond(networks))
            finally:
                self._origin.forget()
            if len(self._loaded) == _KEPT:
                self._loaded.pop(next(iter(self._loaded)))
            self._loaded[key] = loaded
        return self._loaded[key]

    def _load(
        self,
        engine: str,
        given: Mapping[str, Value],
        feeds: Mapping[str, Any],
        outputs: str | None,
        width: int | None,
        *,
        has_lengths: bool,
    ) -> Loaded:
        from lstmstate.model.loaded_network import OWN_ENDS

        model = self._origin.model()
        networks = self._taking(width, feeds, outputs)
        if engine == "graph":
            return self._of_graph(model, networks, given, feeds, outputs, None)
        try:
            loaded = self.recognised("numpy" if engine == "auto" else engine, given)
        except LstmstateError as error:
            if engine != "auto" or not networks:
                raise
            return self._of_graph(model, networks, given, feeds, outputs, str(error))
        if model is None:
            return loaded
        confirmation = self.confirmation(loaded, given, feeds, outputs, width)
        if confirmation is None:
            return loaded
        if not confirmation.agrees and self._unexplained not in (None, confirmation.reason):
            reason = f"{confirmation.reason}; {self._unexplained}"
            confirmation = confirmation._replace(reason=reason)
        if has_lengths and confirmation.lengths_differ and engine == "auto":
            confirmation = confirmation._replace(agrees=None, reason=OWN_ENDS)
        is_judged = confirmation.agrees or confirmation.differs or not networks
        if engine == "auto" and not is_judged:
            return self._of_graph(model, networks, given, feeds, outputs, confirmation.reason)
        return self._judged(loaded, model, confirmation, engine, is_stepped=bool(networks))

    @property
    def _unexplained(self) -> str | None:
        """The operations of its steps that no family explains, as a line."""
        return unexplained_words(one for cell in self.route.cells for one in cell.unexplained)

    def confirm(self) -> Confirmation:
        """Return whether the graph confirms the cells, with the options that the files record."""
        from lstmstate.model.confirm import Confirmation

        try:
            found = self.confirmation(self.recognised("numpy", {}), {})
            return found or Confirmation(None, "there is no graph next to the checkpoint")
        except LstmstateError as error:
            return Confirmation(None, str(error))
        finally:
            self._origin.forget()

    def confirmation(
        self,
        loaded: Loaded,
        given: Mapping[str, Value],
        feeds: Mapping[str, Any] | None = None,
        outputs: str | None = None,
        width: int | None = None,
    ) -> Confirmation | None:
        """Return whether the graph gives what recognised cells compute; see `load`.

        Returns:
            None without a graph, or where it gives something else because of the options alone.
        """
        model = self._origin.model()
        if model is None:
            return None
        networks = self._taking(width, feeds or {}, outputs)
        if not networks:
            return self._confirm_part(model, loaded, given)
        found = model.confirm(loaded.cells, networks, feeds, loaded.runner)
        is_own = any(output.is_own for one in networks for output in one.outputs)
        if found.agrees and (self._unexplained is not None or is_own):
            # It may differ where it was not tried.
            reason = self._unexplained or "its outputs are not m itself"
            return found._replace(agrees=None, reason=reason)
        is_wanted = found.agrees is False and self._is_wanted(given, networks, feeds or {})
        return None if is_wanted else found

    def _confirm_part(
        self, model: GraphModel, loaded: Loaded, given: Mapping[str, Value]
    ) -> Confirmation:
        """Return whether the graph confirms cells that are part of one of its networks."""
        names = [cell.name for cell in self.route.cells]
        backward = model.parts_of(names, is_reversed=True)
        if backward:
            return model.confirm(loaded.cells, backward, is_turned=True)
        for around in model.networks_around(names):
            try:
                whole = LSTMNetwork(model.route(around), self._origin, around)
                cells = whole.recognised("numpy", given).cells
            except LstmstateError:
                continue
            return model.confirm_part(cells, around, names)
        return model.confirm(loaded.cells, [])

    def _is_wanted(
        self, given: Mapping[str, Value], networks: Sequence[GraphNetwork], feeds: Mapping[str, Any]
    ) -> bool:
        """Whether the graph confirms the cells but for the options that a user gave."""
        model = self._origin.model()
        if not given or model is None:
            return False
        try:
            usual = self.recognised("numpy", {})
        except UnknownOptionError:
            return False
        return bool(model.confirm(usual.cells, networks, feeds, usual.runner).agrees)

    def _judged(
        self,
        loaded: Loaded,
        model: GraphModel,
        confirmation: Confirmation,
        engine: str,
        *,
        is_stepped: bool,
    ) -> Loaded:
        """Return cells as the graph judges them.

        Raises:
            UnsupportedError: it contradicts them, or cannot judge cells that nobody asked for, or
                that have operations which nothing explains.
        """
        reason = confirmation.reason
        graph_runs = "`engine='graph'` runs the graph's own step"
        if confirmation.agrees:
            return loaded._replace(
                confirmed=True,
                notes=confirmation.notes,
                lengths_differ=confirmation.lengths_differ,
            )
        if confirmation.agrees is False:
            raise UnsupportedError(
                f"the graph contradicts this cell: {reason}",
                tensor=self.route.name,
                advice="save the graph with the one that is to be run alone"
                if confirmation.differs
                else graph_runs,
            )
        if self._unexplained is not None:
            raise UnsupportedError(
                f"the graph does not confirm this cell: {reason}",
                tensor=self.route.name,
                advice=graph_runs if is_stepped else None,
            )
        if engine == "auto" and model.uses(self.route.cells):
            raise UnsupportedError(
                f"the graph does not confirm this cell: {reason}",
                tensor=self.route.name,
                advice="`engine='numpy'` runs it as it was recognised",
            )
        return loaded._replace(notes=(f"not confirmed by the graph: {reason}",))

    def graph_networks(self, outputs: str | None = None) -> list[GraphNetwork]:
        """Return the graph's networks that have these cells; see `load` for the outputs."""
        model = self._origin.model()
        if model is None:
            return []
        found = [self._graph] if self._graph is not None else []
        names = [cell.name for cell in self.route.cells]
        found = found or model.networks_of(names) or model.parts_of(names)
        return [one._replace(outputs=one.m_outputs) if outputs == "m" else one for one in found]

    def _taking(
        self, width: int | None, feeds: Mapping[str, Any], outputs: str | None = None
    ) -> list[GraphNetwork]:
        """Return the graph's networks that have these cells, with the input for an x of a width."""
        return [one.taking(width, feeds) for one in self.graph_networks(outputs)]

    def _other_width(self, width: int | None, feeds: Mapping[str, Any]) -> int | None:
        """Return the width of x where that chooses an input; None for the usual one."""
        if width is None or self._origin.model() is None:
            return None
        usual = self.graph_networks()
        chosen = self._taking(width, feeds)
        is_other = any(one is not other for one, other in zip(usual, chosen, strict=True))
        return width if is_other else None

    def recognised(self, engine: str, given: Mapping[str, Value]) -> Loaded:
        """Return the cells as they were recognised, ready to run, whatever the graph shows.

        Raises:
            LstmstateError: a cell cannot be run, or a variable cannot be read.
        """
        from lstmstate import engines
        from lstmstate.engines.network import Network
        from lstmstate.engines.options import refuse_unknown, settle
        from lstmstate.engines.weights import arithmetic
        from lstmstate.model.loaded_network import Loaded

        settled = {
            cell.name: settle(cell, given, is_upper=at > 0)
            for stage in self.route.stages
            for chain in stage
            for at, cell in enumerate(chain)
        }
        refuse_unknown(one for one in settled.values() if one.cell.family in RUNNABLE)
        stages = tuple(
            tuple(
                tuple(
                    arithmetic(cell, self._origin.read, settled[cell.name].values) for cell in chain
                )
                for chain in stage
            )
            for stage in self.route.stages
        )
        network = Network(stages)
        network.refuse_gaps()
        runner = engines.load(engine, network)
        return Loaded(self.route, network, runner, tuple(settled.values()), engine)

    def _of_graph(
        self,
        model: GraphModel | None,
        networks: Sequence[GraphNetwork],
        given: Mapping[str, Value],
        feeds: Mapping[str, Any],
        outputs: str | None,
        reason: str | None,
    ) -> Loaded:
        """Return the graph's own network, ready to run."""
        from lstmstate.engines.options import ASSUME_DEFAULTS
        from lstmstate.model.loaded_network import Loaded

        if model is None:
            raise UnsupportedError("there is no graph next to the checkpoint")
        if not networks:
            why = model.not_stepped(cell.name for cell in self.route.cells)
            raise UnsupportedError(f"the graph's own step cannot be run: {why}")
        unused = [f"`{name}=...`" for name in given if name != ASSUME_DEFAULTS]
        if unused:
            because = f", and is what can be run: {reason}" if reason else ""
            raise UnsupportedError(
                f"the graph's own step takes no {' or '.join(unused)}{because}",
                tensor=self.route.name,
                advice="leave it out",
            )
        network, runner, shape = _first_that_runs(model, networks, feeds)
        if network.doubt is not None:
            raise UnsupportedError(
                f"the graph's own step cannot be run: {network.doubt}",
                tensor=self.route.name,
                advice="`engine='numpy'` runs it as it was recognised",
            )
        model.refuse_unlike(network, (one for one in networks if one is not network), feeds)
        gives_m = self.route.cells[-1].family in (*RUNNABLE, UNRECOGNISED)
        if outputs is None and gives_m and any(output.is_own for output in network.outputs):
            raise UnsupportedError(
                "the output of the cell is not its m",
                tensor=self.route.name,
                advice="choose one: `outputs='m'` or `outputs='graph'`",
            )
        notes = [*network.notes, *runner.notes]
        if reason is not None:
            notes.insert(0, f"the graph's own step is run, which is exact and slower: {reason}")
        return Loaded(self.route, shape, runner, (), "graph", notes=tuple(notes))

    def _starts(
        self, feeds: Mapping[str, Any] | None, batch: int | None = None, steps: int | None = None
    ) -> tuple[list[str], list[Start]]:
        """Return the names of the cells, and what the graph begins them with."""
        model = self._origin.model()
        names = [cell.name for cell in self.route.cells]
        if model is None:
            return names, []
        try:
            return names, model.starts(names, self.graph_networks(), feeds, batch, steps)
        finally:
            self._origin.forget()

    def own_start(
        self,
        feeds: Mapping[str, Any] | None = None,
        batch: int | None = None,
        steps: int | None = None,
    ) -> OwnStart | None:
        """Return what is known of the state with which the graph begins; None for zeros.

        A state that is fed is zeros.

        Args:
            feeds: see `load`.
            batch, steps: how many x has, where that is known.
        """
        fed = sorted((name, id(value)) for name, value in (feeds or {}).items())
        for sizes in ((None, None), (batch, steps)):
            key = (*sizes, *fed)
            if key not in self._own:
                self._own[key] = self._own_start(feeds, *sizes)
            own = self._own[key]
            if own is None or not own.is_of_sizes:
                break
        return own

    def _own_start(
        self, feeds: Mapping[str, Any] | None, batch: int | None, steps: int | None
    ) -> OwnStart | None:
        names, starts = self._starts(feeds, batch, steps)
        own = [one for one in starts if not one.is_zero]
        stored = self._origin.stored(names) if own or not starts else []
        model = self._origin.model()
        if model is None or not (own or stored):
            return None
        nodes, key = model.graph.nodes, model.variables.key
        made_of = {key(nodes[name]) or name for one in own for name in one.variables}
        problem = next((str(one.problem) for one in own if one.problem is not None), None)
        is_of_sizes = any(one.is_of_sizes for one in own)
        return OwnStart(tuple(stored or sorted(made_of)), problem, bool(stored), is_of_sizes)

    def fed_orders(
        self,
        shape: tuple[int, ...],
        feeds: Mapping[str, Any] | None = None,
        *,
        stored: str | None = None,
    ) -> list[FedOrder]:
        """Return how the graph takes its state out of an array of a shape, where it does.

        Args:
            feeds: see `load`.
            stored: the name of the variable whose value the array is, where it is one's.
        """
        model = self._origin.model()
        if model is None:
            return []
        from lstmstate.engines.graph_engine import fed_values
        from lstmstate.recurrence.fed_state import fed_order

        names = {cell.name for cell in self.route.cells}
        networks = self.graph_networks() or model.networks_around(names)
        nodes, variables = model.graph.nodes, model.variables

        def is_taker(name: str) -> bool:
            return stored is None or variables.key(nodes[name]) == stored

        try:
            found = (
                fed_order(one, names, variables, fed_values(one.scope, feeds), shape, is_taker)
                for one in networks
            )
            return [one for one in found if one is not None]
        finally:
            self._origin.forget()

    def initial_state(
        self,
        batch: int = 1,
        feeds: Mapping[str, Any] | None = None,
        steps: int | None = None,
    ) -> State:
        """Return the state with which the graph itself begins; zeros where it is fed.

        Args:
            feeds: see `load`.
            steps: how many x has; needed where the graph computes with the size of x.

        Raises:
            UnsupportedError: it is unknown: there is no graph, or it is computed from data.
            AmbiguousError: the graph begins the same cells in several ways.
        """
        import numpy as np

        from lstmstate.state.state import LSTMState, StackState

        names, starts = self._starts(feeds, batch, steps)
        if any(one.is_of_sizes for one in starts):
            raise UnsupportedError(
                "the graph computes the state with which it begins from the size of x",
                path=self._path,
                advice="give the number of steps, too",
            )
        known = [one.pairs for one in starts if not one.is_zero] or [one.pairs for one in starts]
        problems = [str(one.problem) for one in starts if one.problem is not None]
        if problems or not known:
            reason = problems[0] if problems else "the graph does not show it"
            problem = f"the state with which the graph begins is unknown: {reason}"
            raise UnsupportedError(problem, path=self._path)
        first, *others = ([half for name in names for half in (one or {})[name]] for one in known)
        pairs = (both for one in others for both in zip(first, one, strict=True))
        if not all(np.array_equal(*both) for both in pairs):
            raise AmbiguousError("the graph begins these cells in several ways", path=self._path)
        spread = [half if len(half) != 1 else half.repeat(batch, 0) for half in first]
        cells = [
            LSTMState(c, m, name)
            for name, c, m in zip(names, spread[::2], spread[1::2], strict=True)
        ]
        return StackState(cells) if len(cells) > 1 else cells[0]

    def _ready(
        self,
        engine: str,
        options: Mapping[str, Any],
        *,
        inputs: ArrayLike | None = None,
        has_lengths: bool = False,
    ) -> Loaded:
        """Load; what is assumed, or run from the graph itself, is a warning the first time.

        Args:
            inputs: what will be run.
            has_lengths: see `load`.
        """
        import numpy as np

        from lstmstate.engines.options import assumptions

        given = dict(options)
        feeds, outputs = given.pop("feeds", None), given.pop("outputs", None)
        shape = np.shape(inputs) if inputs is not None else ()
        width = shape[-1] if shape else None
        loaded = self.load(engine, given, feeds, outputs, width, has_lengths=has_lengths)
        self._warn([*assumptions(loaded.settled), *loaded.notes, *loaded.beyond])
        return loaded

    def _warn_of_zeros(self, options: Mapping[str, Any], by_step: Array) -> None:
        """Warn that the graph begins with something else than zeros, where it does."""
        own = self.own_start(options.get("feeds"), by_step.shape[1], len(by_step))
        if own is not None:
            self._warn([own.line + ("" if own.problem else "; `initial_state` returns it")])

    def _warn(self, lines: Iterable[str]) -> None:
        for line in lines:
            if line not in self._warned:
                self._warned.add(line)
                warnings.warn(f"{self._path}: {line}", stacklevel=5)

    def zero_state(self, batch: int = 1) -> State:
        """Return the state of zeros: c `[batch, num_units]` and m of each cell."""
        return self.load().zero_state(batch)

    def run(
        self,
        inputs: ArrayLike,
        state: State | None = None,
        *,
        lengths: ArrayLike | None = None,
        time_major: bool = False,
        engine: str = "auto",
        **options: Any,
    ) -> tuple[Array, State]:
        """Step over sequences.

        Args:
            inputs: `[batch, time, input_size]`, or `[time, input_size]` for one sequence; a
                convolution's input has its spatial axes before the last.
            state: the state before them, zeros unless given; a batch of one stands for all.
            lengths: `[batch]`, how many steps of each sequence are valid; the outputs of others
                are zero, and leave the state as it is.
            time_major: whether inputs and outputs are `[time, batch, …]`.
            engine, options: see `load`; feeds and outputs are given in the same way.

        Returns:
            The outputs, m of every step: `[batch, time, width of m]`, both directions side by
            side, or `[time, width of m]` for one sequence; and the state after them.

        Raises:
            LstmstateError: inputs, state and cells do not fit one another.

        Warns:
            UserWarning: the files do not record an option, and its default is used.
        """
        import numpy as np

        loaded = self._ready(
            engine,
            options,
            inputs=_array(inputs),
            has_lengths=lengths is not None,
        )
        x = _checked(loaded, inputs)
        is_single = x.ndim == 2 + len(loaded.network.first.spatial)
        by_step = x[:, None] if is_single else x if time_major else x.swapaxes(0, 1)
        valid = None if lengths is None else _lengths(lengths, by_step.shape)
        if valid is not None:
            with located(self._path):
                loaded.refuse_lengths()
        if state is None:
            self._warn_of_zeros(options, by_step)
        pairs = loaded.states_of(state, by_step.shape[1])
        ran = loaded.runner.run(by_step, pairs, valid)
        outputs = ran.outputs[:, 0] if is_single else ran.outputs
        if not is_single and not time_major:
            outputs = np.ascontiguousarray(outputs.swapaxes(0, 1))
        return outputs, loaded.state(ran.states)

    def run_chunks(
        self,
        chunks: Iterable[ArrayLike],
        state: State | None = None,
        *,
        time_major: bool = False,
        engine: str = "auto",
        **options: Any,
    ) -> Iterator[tuple[Array, State]]:
        """Step over a long sequence in parts; yield the outputs of each and the state after it.

        Args:
            chunks: parts along time, each `[batch, time, input_size]` or `[time, input_size]`.
            time_major, engine, options: as for `run`.

        Raises:
            LstmstateError: as for `run`; or a cell runs backward, and needs the end first.
        """
        loaded = self._ready(engine, options)
        with located(self._path):
            loaded.refuse_parts()
        return self._parts(chunks, state, time_major, engine, options)

    def _parts(
        self,
        chunks: Iterable[ArrayLike],
        state: State | None,
        time_major: bool,
        engine: str,
        options: Mapping[str, Value],
    ) -> Iterator[tuple[Array, State]]:
        for chunk in chunks:
            with located(self._path):
                self._ready(engine, options, inputs=_array(chunk)).refuse_parts()
            outputs, state = self.run(chunk, state, time_major=time_major, engine=engine, **options)
            yield outputs, state

    def step(
        self, x: ArrayLike, state: State | None = None, *, engine: str = "auto", **options: Any
    ) -> tuple[Array, State]:
        """Take one step: x `[batch, input_size]`; return m `[batch, width of m]` and the state."""
        import numpy as np

        # Which knows no other keywords of `run`.
        loaded = self._ready(engine, options, inputs=_array(x))
        if not loaded.network.is_bidirectional:
            with located(self._path):
                loaded.refuse_parts()
        row = np.asarray(x)
        if row.ndim != 2 + len(loaded.network.first.spatial):
            raise LstmstateError(f"a step takes [batch, input_size], and this is {list(row.shape)}")
        by_step = _checked(loaded, row[None])
        if state is None:
            self._warn_of_zeros(options, by_step)
        ran = loaded.runner.run(by_step, loaded.states_of(state, len(row)))
        return ran.outputs[0], loaded.state(ran.states)


def _first_that_runs(
    model: GraphModel, networks: Sequence[GraphNetwork], feeds: Mapping[str, Any]
) -> tuple[GraphNetwork, GraphRunner, NetworkShape]:
    """Return a network that is ready to run, where batch and time are open rather than fixed.

    A cell that is used in several places may need other values fed in each: those that are fed
    choose.

    Raises:
        UnsupportedError: none can be run; the reason is that of the first one.
    """
    first: UnsupportedError | None = None
    for one in sorted(networks, key=lambda one: sum(n is not None for n in one.input.sizes)):
        runner = model.runner(one, feeds)
        try:
            return one, runner, runner.shape()
        except UnsupportedError as error:
            first = first or error
    raise first or UnsupportedError("there is nothing to run")


def _array(inputs: ArrayLike) -> NDArray[Any]:
    import numpy as np

    try:
        return np.asarray(inputs)
    except ValueError as error:  # such as lists of unequal lengths
        raise LstmstateError(f"the input is no array ({error})") from None


def _checked(loaded: Loaded, inputs: ArrayLike) -> Array:
    """Return inputs in the network's dtype, of a shape that it takes."""

    from lstmstate.engines.network import as_input

    x = _array(inputs)
    first = loaded.network.first
    axes = len(first.spatial)
    spatial = x.shape[-1 - axes : -1]
    fits = (
        x.ndim - axes in (2, 3)
        and spatial == first.spatial
        and (
            x.shape[-1] >= first.input_size
            if first.takes_wider
            else x.shape[-1] == first.input_size
        )
    )
    if not fits or not x.size or x.dtype.kind not in "fiub":
        item = ", ".join(map(str, (*first.spatial, first.input_size)))
        raise LstmstateError(
            f"the input is {x.dtype} {list(x.shape)}, and the cell takes numbers, "
            f"[batch, time, {item}] or [time, {item}]",
            tensor=first.name,
        )
    with located(tensor=first.name):
        return as_input(x[..., : first.input_size], first.dtype)


def _lengths(lengths: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.int64]:
    import numpy as np

    found = np.asarray(lengths)
    steps, batch = shape[:2]
    whole = found.dtype.kind in "iu" and found.shape == (batch,)
    if not whole or found.min() < 0 or found.max() > steps:
        raise LstmstateError(
            f"lengths are {batch} whole numbers from 0 to {steps} here, one for each sequence"
        )
    return found.astype(np.int64)


class _Runs:
    """What can be run by itself: its methods are those of its network."""

    _origin: Origin

    def _route(self) -> Route:
        raise NotImplementedError

    @cached_property
    def network(self) -> LSTMNetwork:
        """What there is to run.

        Raises:
            UnsupportedError: a layer of a stack is no LSTM cell.
        """
        return LSTMNetwork(self._route(), self._origin)

    def run(self, inputs: ArrayLike, state: State | None = None, **how: Any) -> tuple[Array, State]:
        """Step over `[batch, time, input_size]`; see `LSTMNetwork.run`."""
        return self.network.run(inputs, state, **how)

    def run_chunks(
        self, chunks: Iterable[ArrayLike], state: State | None = None, **how: Any
    ) -> Iterator[tuple[Array, State]]:
        """Step over a long sequence in parts; see `LSTMNetwork.run_chunks`."""
        return self.network.run_chunks(chunks, state, **how)

    def step(self, x: ArrayLike, state: State | None = None, **how: Any) -> tuple[Array, State]:
        """Take one step over `[batch, input_size]`; see `LSTMNetwork.step`."""
        return self.network.step(x, state, **how)

    def zero_state(self, batch: int = 1) -> State:
        """Return the state of zeros; see `LSTMNetwork.zero_state`."""
        return self.network.zero_state(batch)


class LSTMCell(_Runs, Cell):
    """A cell of an open checkpoint: what is known of it, and how to run it.

    Example:
        >>> import numpy as np, lstmstate
        >>> ckpt = lstmstate.open_checkpoint("sample_checkpoints/peephole_flat")
        >>> cell = ckpt.cells["rnn/lstm_cell"]
        >>> outputs, state = cell.run(np.ones((8, 20, 3)), cell.zero_state(batch=8))
        >>> outputs.shape, state.c.shape, state.m.shape, state.flat().shape
        ((8, 20, 5), (8, 8), (8, 5), (8, 13))
    """

    @classmethod
    def of(cls, cell: Cell, origin: Origin) -> LSTMCell:
        """Return a cell that can be run."""
        found = cls(*cell)
        found._origin = origin
        return found

    def _replace(self, **changes: Any) -> LSTMCell:
        return LSTMCell.of(Cell(*self)._replace(**changes), self._origin)

    def _route(self) -> Route:
        return of_cell(self)


class LSTMStack(_Runs, Stack):
    """A stack of an open checkpoint: what is known of it, and how to run it.

    Of two stacks that run in the two directions each runs by itself here;
    `LSTMCheckpoint.network` runs both.

    Example:
        >>> import numpy as np, lstmstate
        >>> (stack,) = lstmstate.open_checkpoint("sample_checkpoints/sunspots").stacks
        >>> stack.run(np.ones((309, 1)))[0].shape
        (309, 12)
    """

    @classmethod
    def of(cls, stack: Stack, origin: Origin) -> LSTMStack:
        """Return a stack that can be run."""
        found = cls(*stack)
        found._origin = origin
        return found

    def _route(self) -> Route:
        return of_stack(self)
