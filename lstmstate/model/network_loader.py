"""The way of a network into an engine: its options, its weights, the confirmation by the graph."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property

from lstmstate.cells.cell import OTHER_STEP, UNRECOGNISED, Cell, Stack, Value, unexplained_words
from lstmstate.cells.families import RUNNABLE
from lstmstate.cells.stacks import Route, of_cell, of_stack
from lstmstate.errors import (
    ArgumentError,
    LstmstateError,
    UnknownOptionError,
    UnsupportedError,
    first_of,
    located,
)
from lstmstate.named_tuple import NamedTuple
from lstmstate.type_names import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lstmstate.engines.canonical_network import NetworkShape
    from lstmstate.engines.graph_engine import GraphRunner
    from lstmstate.model.confirm import Confirmation
    from lstmstate.model.graph_model import GraphModel
    from lstmstate.model.loaded_network import Loaded
    from lstmstate.recurrence.fed_order import FedOrder
    from lstmstate.recurrence.graph_network import GraphNetwork
    from lstmstate.recurrence.initial_state_values import InitialStates

Read = Callable[[str], "NDArray[np.generic]"]

_SHOWN = 4  # variables in a note
_KEPT = 2  # ways of running a network, each with all of its weights


class Origin(NamedTuple):
    """The checkpoint of a network.

    Attributes:
        read: returns the value of a variable, which is kept until `forget` is called.
        path: the checkpoint, for messages.
        model: returns the graph's own networks, None without a graph.
        forget: drops the values that were read.
        stored: returns the variables with the initial states of some cells, by name.
    """

    read: Read
    path: str
    model: Callable[[], GraphModel | None]
    forget: Callable[[], None]
    stored: Callable[[Collection[str]], list[str]]


class Recorded:
    """The default of an option: the value that the checkpoint records."""

    def __repr__(self) -> str:
        return "RECORDED"


RECORDED = Recorded()


class OwnStart(NamedTuple):
    """The initial state in the graph, if it is not surely zeros.

    Attributes:
        variables: names of its variables.
        problem: why it is unknown.
        is_stored: whether it is the value of these variables.
        is_of_sizes: whether it may differ, and be zeros, for x of another size.
    """

    variables: tuple[str, ...]
    problem: str | None
    is_stored: bool
    is_of_sizes: bool

    @property
    def line(self) -> str:
        """The note for a run without a state."""
        names = first_of(self.variables, _SHOWN)
        own = f"a state of its own ({names})" if names else "a state of its own"
        found = f"the graph starts from {own}, and this run from zeros"
        is_unknown = self.problem and not self.is_stored
        return f"{found}; that state is unknown: {self.problem}" if is_unknown else found


class RunOptions(NamedTuple):
    """The options of a run.

    Attributes:
        engine: "numpy", "graph", "tensorflow" or "auto", which is NumPy if the graph confirms
            the cells, or there is no graph, and the graph's own step otherwise.
        given: by the names of `RUN_OPTIONS`, for all cells, in place of the recorded ones;
            assume_defaults: whether an option without a single default gets the documented one.
        feeds: values for placeholders of the graph other than x and the state.
        outputs: "m" for the m of the last cell, "graph" for the graph's own output. By default it
            is the output of a wrapper around the cell; a cell whose output is not its m is refused.
        width: the width of x, if the graph takes x in several places: before layers of the graph,
            and as the input of the cell itself.
        has_lengths: whether sequences have lengths of their own: then "auto" runs the graph's own
            step, too, if the graph ends them in another way.
    """

    engine: str = "auto"
    given: Mapping[str, Value] = {}
    feeds: Mapping[str, Any] = {}
    outputs: str | None = None
    width: int | None = None
    has_lengths: bool = False

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> RunOptions:
        """Return the options among the arguments of a function, but for those as recorded."""
        from lstmstate.engines.run_options import ASSUME_DEFAULTS, RUN_OPTIONS

        given = {n: arguments[n] for n in RUN_OPTIONS if arguments[n] is not RECORDED}
        if arguments[ASSUME_DEFAULTS] is not False:
            given[ASSUME_DEFAULTS] = arguments[ASSUME_DEFAULTS]
        feeds, outputs = arguments.get("feeds"), arguments.get("outputs")
        return cls(arguments["engine"], given, feeds or {}, outputs)

    @property
    def key(self) -> tuple[object, ...]:
        """The same for equal options, with the contents of arrays that are fed."""
        given, feeds = sorted(self.given.items()), _contents(self.feeds)
        return (self.engine, self.outputs, self.width, self.has_lengths, *given, *feeds)

    def refuse_others(self) -> None:
        """Refuse options that do not exist, and values that they cannot have."""
        from lstmstate.arguments import refuse_others
        from lstmstate.engines.run_options import RULES

        for name in self.given:
            if name not in RULES:
                problem = f"there is no option {name}"
                raise ArgumentError(problem, advice=f"there are: {', '.join(RULES)}")
        refuse_others(self.given, RULES)
        if self.outputs not in (None, "m", "graph"):
            problem = f"`outputs` cannot be {self.outputs!r}"
            raise ArgumentError(problem, advice="give 'm' or 'graph'")


class NetworkLoader:
    """A network whose weights are read, and compared with the graph, before it runs.

    Args:
        parts: the cells in order, or one cell, or a stack.
        origin: their checkpoint.
        graph: the network in the graph with these cells, if it is known already.
    """

    def __init__(
        self, parts: Route | Cell | Stack, origin: Origin, graph: GraphNetwork | None = None
    ) -> None:
        self._parts = parts
        self._origin = origin
        self._path = origin.path
        self._graph = graph
        self._loaded: dict[tuple[object, ...], Loaded] = {}
        self._own: dict[tuple[object, ...], OwnStart | None] = {}
        self._seen: set[str] = set()

    @cached_property
    def route(self) -> Route:
        """The cells in the order of execution.

        Raises:
            UnsupportedError: a layer of the stack is not an LSTM cell.
        """
        parts = self._parts
        if isinstance(parts, Cell):
            return of_cell(parts)
        return of_stack(parts) if isinstance(parts, Stack) else parts

    @property
    def model(self) -> GraphModel | None:
        """The graph's own networks; None without a graph."""
        return self._origin.model()

    @property
    def _names(self) -> list[str]:
        return [cell.name for cell in self.route.cells]

    def load(self, chosen: RunOptions | None = None) -> Loaded:
        """Read the weights and prepare a run; the same call again costs nothing.

        A cell with a graph runs only if the graph's own step gives the same numbers.

        Raises:
            UnknownOptionError: an option is in no file, and has no single default.
            LstmstateError: a cell cannot be run, the graph contradicts it, or a variable cannot be
                read.
        """
        chosen = chosen or RunOptions()
        chosen.refuse_others()
        chosen = chosen._replace(width=self._other_width(chosen))
        key = chosen.key
        if key not in self._loaded:
            try:
                with located(self._path):
                    loaded = self._load(chosen)
                    networks = self.graph_networks()
                    handed = dict.fromkeys(line for one in networks for line in one.handed.values())
                    model = self.model if chosen.outputs != "m" else None
                    beyond = model.beyond(networks) if model is not None else ()
                    loaded = loaded._replace(handed=tuple(handed), beyond=beyond)
            finally:
                self._origin.forget()
            if len(self._loaded) == _KEPT:
                self._loaded.pop(next(iter(self._loaded)))
            self._loaded[key] = loaded
        return self._loaded[key]

    def _load(self, chosen: RunOptions) -> Loaded:
        from lstmstate.model.loaded_network import OWN_ENDS

        engine, is_auto = chosen.engine, chosen.engine == "auto"
        networks = self._taking(chosen)
        if engine == "graph":
            return self._of_graph(chosen, networks, None)
        try:
            loaded = self.load_recognised("numpy" if is_auto else engine, chosen.given)
        except LstmstateError as error:
            if not is_auto or not networks:
                raise
            return self._of_graph(chosen, networks, str(error))
        found = self.confirmation(loaded, chosen)
        if found is None:
            return loaded
        if not found.agrees and self._unexplained not in (None, found.reason):
            found = found._replace(reason=f"{found.reason}; {self._unexplained}")
        if chosen.has_lengths and found.lengths_differ and is_auto:
            found = found._replace(agrees=None, reason=OWN_ENDS)
        if is_auto and networks and not (found.agrees or found.differs):
            return self._of_graph(chosen, networks, found.reason)
        return self._judge(loaded, found, engine, is_stepped=bool(networks))

    @property
    def _unexplained(self) -> str | None:
        """The operations of its steps that no family explains, as a line."""
        return unexplained_words(one for cell in self.route.cells for one in cell.unexplained)

    def confirm(self) -> Confirmation:
        """Return whether the graph confirms the cells, with the options that the files record."""
        from lstmstate.model.confirm import Confirmation

        try:
            found = self.confirmation(self.load_recognised("numpy", {}), RunOptions())
            return found or Confirmation(None, "there is no graph next to the checkpoint")
        except LstmstateError as error:
            return Confirmation(None, str(error))
        finally:
            self._origin.forget()

    def confirmation(self, loaded: Loaded, chosen: RunOptions) -> Confirmation | None:
        """Return whether the graph gives the numbers of recognised cells.

        Returns:
            None without a graph, or if it differs because of the given options alone.
        """
        from lstmstate.model.confirm import confirm

        model, given = self.model, chosen.given
        if model is None:
            return None
        networks = self._taking(chosen)
        if not networks:
            return self._confirm_part(model, loaded, given)
        found = confirm(model, loaded.recognised_network, networks, chosen.feeds, loaded.runner)
        is_own = any(output.is_own for one in networks for output in one.outputs)
        if found.agrees and (self._unexplained is not None or is_own):
            # It may differ where it was not tried.
            reason = self._unexplained or "its outputs are not m itself"
            return found._replace(agrees=None, reason=reason)
        if found.agrees is False and given:
            with suppress(UnknownOptionError):
                usual = self.load_recognised("numpy", {})
                cells = usual.recognised_network
                if confirm(model, cells, networks, chosen.feeds, usual.runner).agrees:
                    return None
        return found

    def _confirm_part(
        self, model: GraphModel, loaded: Loaded, given: Mapping[str, Value]
    ) -> Confirmation:
        """Return whether the graph confirms cells that are part of one of its networks."""
        from lstmstate.model.confirm import confirm, confirm_part

        names = self._names
        backward = model.parts_of(names, is_reversed=True)
        if backward:
            return confirm(model, loaded.recognised_network, backward, is_turned=True)
        for around in model.networks_around(names):
            try:
                whole = NetworkLoader(model.route(around), self._origin, around)
                cells = whole.load_recognised("numpy", given).recognised_network
            except LstmstateError:
                continue
            return confirm_part(model, cells, around, names)
        return confirm(model, loaded.recognised_network, [])

    def _judge(
        self, loaded: Loaded, found: Confirmation, engine: str, *, is_stepped: bool
    ) -> Loaded:
        """Return cells with the judgement of the graph.

        Raises:
            UnsupportedError: it contradicts them, or cannot judge cells with unexplained
                operations, or cells that no option chose.
        """
        if found.agrees:
            return loaded._replace(
                confirmed=True, notes=found.notes, lengths_differ=found.lengths_differ
            )
        verb, advice = "does not confirm", self._as_recognised
        graph_runs = "`engine='graph'` runs the graph's own step"
        if found.agrees is False:
            alone = "save the graph with the one that is to be run alone"
            verb, advice = "contradicts", alone if found.differs else graph_runs
        elif self._unexplained is not None:
            advice = graph_runs if is_stepped else None
        elif engine != "auto" or self.model is None or not self.model.uses(self.route.cells):
            return loaded._replace(notes=(f"not confirmed by the graph: {found.reason}",))
        problem = f"the graph {verb} this cell: {found.reason}"
        raise UnsupportedError(problem, tensor=self.route.name, advice=advice)

    @property
    def _as_recognised(self) -> str | None:
        """Advice to run the recognised cells; None where the graph shows that they are others."""
        is_other = any(OTHER_STEP in cell.notes for cell in self.route.cells)
        return None if is_other else "`engine='numpy'` runs it as it was recognised"

    def graph_networks(self, outputs: str | None = None) -> list[GraphNetwork]:
        """Return the graph's networks that have these cells; see `RunOptions` for the outputs."""
        model = self.model
        if model is None:
            return []
        found = [self._graph] if self._graph is not None else []
        found = found or model.networks_of(self._names) or model.parts_of(self._names)
        return [one._replace(outputs=one.m_outputs) if outputs == "m" else one for one in found]

    def _taking(self, chosen: RunOptions) -> list[GraphNetwork]:
        """Return the graph's networks of these cells, with the input for an x of a width."""
        found = self.graph_networks(chosen.outputs)
        return [one.taking(chosen.width, chosen.feeds) for one in found]

    def _other_width(self, chosen: RunOptions) -> int | None:
        """Return the width of x if it chooses an input; None for the usual one."""
        if chosen.width is None:
            return None
        usual, found = self.graph_networks(), self._taking(chosen._replace(outputs=None))
        is_other = any(one is not other for one, other in zip(usual, found, strict=True))
        return chosen.width if is_other else None

    def load_recognised(self, engine: str, given: Mapping[str, Value]) -> Loaded:
        """Return the recognised cells ready to run, without a look at the graph.

        Raises:
            LstmstateError: a cell cannot be run, or a variable cannot be read.
        """
        from lstmstate import engines
        from lstmstate.engines.canonical_network import Network
        from lstmstate.engines.canonical_weights import canonical_cell
        from lstmstate.engines.run_options import refuse_unknown, settle_run_options
        from lstmstate.model.loaded_network import Loaded

        settled = {
            cell.name: settle_run_options(cell, given, is_upper=at > 0)
            for stage in self.route.stages
            for chain in stage
            for at, cell in enumerate(chain)
        }
        refuse_unknown(one for one in settled.values() if one.cell.family in RUNNABLE)
        stages = tuple(
            tuple(
                tuple(
                    canonical_cell(cell, self._origin.read, settled[cell.name].values)
                    for cell in chain
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
        self, chosen: RunOptions, networks: Sequence[GraphNetwork], reason: str | None
    ) -> Loaded:
        """Return the graph's own network, ready to run."""
        from lstmstate.engines.run_options import ASSUME_DEFAULTS
        from lstmstate.model.confirm import refuse_unlike
        from lstmstate.model.loaded_network import Loaded

        model, feeds = self.model, chosen.feeds
        if model is None:
            raise UnsupportedError("there is no graph next to the checkpoint")
        if not networks:
            why = model.not_stepped(self._names)
            raise UnsupportedError(f"the graph's own step cannot be run: {why}")
        unused = [f"`{name}=...`" for name in chosen.given if name != ASSUME_DEFAULTS]
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
                advice=self._as_recognised,
            )
        refuse_unlike(model, network, (one for one in networks if one is not network), feeds)
        gives_m = self.route.cells[-1].family in (*RUNNABLE, UNRECOGNISED)
        if chosen.outputs is None and gives_m and any(output.is_own for output in network.outputs):
            raise UnsupportedError(
                "the output of the cell is not its m",
                tensor=self.route.name,
                advice="choose one: `outputs='m'` or `outputs='graph'`",
            )
        notes = [*network.notes, *runner.notes]
        if reason is not None:
            notes.insert(0, f"the graph's own step is run, which is exact and slower: {reason}")
        return Loaded(self.route, shape, runner, (), "graph", notes=tuple(notes))

    def unseen(self, lines: Iterable[str]) -> list[str]:
        """Return the lines that no call returned before: a user reads each once."""
        new = [line for line in dict.fromkeys(lines) if line not in self._seen]
        self._seen.update(new)
        return new

    def _initial_states(
        self, feeds: Mapping[str, Any] | None, batch: int | None = None, steps: int | None = None
    ) -> list[InitialStates]:
        """Return the initial states of the cells, in each network of the graph that has them."""
        if self.model is None:
            return []
        try:
            networks = self.graph_networks()
            return self.model.initial_states(self._names, networks, feeds, batch, steps)
        finally:
            self._origin.forget()

    def own_start(
        self,
        feeds: Mapping[str, Any] | None = None,
        batch: int | None = None,
        steps: int | None = None,
    ) -> OwnStart | None:
        """Return the initial state in the graph; None for zeros, and if it is fed.

        Args:
            batch, steps: the sizes of x, if they are known.
        """
        own = None
        for sizes in ((None, None), (batch, steps)):
            key = (*sizes, *_contents(feeds))
            if key not in self._own:
                self._own[key] = self._own_start(feeds, *sizes)
            own = self._own[key]
            if own is None or not own.is_of_sizes:
                break
        return own

    def _own_start(
        self, feeds: Mapping[str, Any] | None, batch: int | None, steps: int | None
    ) -> OwnStart | None:
        model, starts = self.model, self._initial_states(feeds, batch, steps)
        own = [one for one in starts if not one.is_zero]
        stored = self._origin.stored(self._names) if own or not starts else []
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
        """Return the ways of the graph to take its state out of an array of a shape.

        Args:
            stored: the name of the variable with the array as its value, if there is one.

        Raises:
            LstmstateError: the graph cannot be evaluated up to there.
        """
        model = self.model
        if model is None:
            return []
        from lstmstate.engines.graph_engine import fed_values
        from lstmstate.recurrence.fed_order import find_fed_order

        names = set(self._names)
        networks = self.graph_networks() or model.networks_around(names)
        if not networks:
            raise UnsupportedError(model.not_stepped(names))
        nodes, variables = model.graph.nodes, model.variables

        def is_taker(name: str) -> bool:
            return stored is None or variables.key(nodes[name]) == stored

        try:
            found = (
                find_fed_order(one, names, variables, fed_values(one.scope, feeds), shape, is_taker)
                for one in networks
            )
            return [one for one in found if one is not None]
        finally:
            self._origin.forget()


def _contents(feeds: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Return fed values as a key: the same array may have other values in another call."""
    if not feeds:
        return []
    from hashlib import sha256

    from lstmstate.arguments import as_array

    arrays = {name: as_array(feeds[name], f"feeds[{name!r}]") for name in sorted(feeds)}
    return [
        (name, f"{one.dtype}{one.shape}{sha256(_bytes(one)).hexdigest()}")
        for name, one in arrays.items()
    ]


def _bytes(array: NDArray[Any]) -> bytes:
    return repr(array.tolist()).encode() if array.dtype.hasobject else array.tobytes()


def _first_that_runs(
    model: GraphModel, networks: Sequence[GraphNetwork], feeds: Mapping[str, Any]
) -> tuple[GraphNetwork, GraphRunner, NetworkShape]:
    """Return a network that is ready to run, if possible with batch and time open.

    A cell in several places may need other values fed in each: those that are fed choose.
    """
    first: UnsupportedError | None = None
    for one in sorted(networks, key=lambda one: sum(n is not None for n in one.input.sizes)):
        runner = model.runner(one, feeds)
        try:
            return one, runner, runner.shape()
        except UnsupportedError as error:
            first = first or error
    raise first or UnsupportedError("there is nothing to run")
