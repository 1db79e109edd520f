"""The networks of a graph, from its own operations, with their cells, states and outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

from lstmstate.cells.cell import OPTIONS, UNKNOWN, UNRECOGNISED, Cell
from lstmstate.cells.detect import Recognition
from lstmstate.cells.stacks import Route
from lstmstate.cells.variable_names import AVERAGE, common_scope
from lstmstate.checkpoint.graph import VARIABLE_OPS, Graph
from lstmstate.checkpoint.variables import Variable
from lstmstate.errors import LstmstateError, first_of

if TYPE_CHECKING:
    from lstmstate.engines.graph_engine import GraphRunner
    from lstmstate.recurrence.graph_network import (
        GraphNetwork,
        Recurrence,
        Recurrences,
        RecurrentCell,
    )
    from lstmstate.recurrence.initial_state_values import InitialStates
    from lstmstate.recurrence.variable_values import GraphVariables

# Operations that pass a variable on, and those that only keep it: save, initialise, train or watch.
_PASSES_WEIGHTS = frozenset({"Identity", "ReadVariableOp", "Enter"})
_KEEPING = (
    "Save",
    "Assign",
    "IsVariableInitialized",
    "VarIsInitialized",
    "Apply",
    "ResourceApply",
    "ResourceSparseApply",
    "SparseApply",
    "L2Loss",
    "HistogramSummary",
    "Merge",
    "NoOp",
    "Shape",
)
_SHOWN = 4  # operations in a note


class GraphModel:
    """The networks of a graph.

    Args:
        recognition: the cells found in the checkpoint.
        cells: these by name, with their layers in stacks.
        read: returns the value of a variable.
    """

    def __init__(
        self,
        graph: Graph,
        variables: Mapping[str, Variable],
        recognition: Recognition,
        cells: Mapping[str, Cell],
        read: Callable[[str], Any],
    ) -> None:
        self.graph = graph
        self._read = read
        self._stored = variables
        self._recognition = recognition
        self._cells = cells

    @cached_property
    def variables(self) -> GraphVariables:
        """The values of the graph's variables."""
        from lstmstate.recurrence.variable_values import GraphVariables

        return GraphVariables(self.graph, self._stored, self._read)

    @cached_property
    def recurrences(self) -> Recurrences:
        """The recurrences of the graph."""
        from lstmstate.graph.evaluate import Scope
        from lstmstate.recurrence.find_networks import find_recurrences

        owners = {
            name: cell.name
            for cell in self._recognition.cells
            for stored in cell.variables.values()
            for name in stored
        }
        names = {}
        for node in self.graph.nodes.values():
            key = self.variables.key(node) if node.op in VARIABLE_OPS else None
            if key is not None:
                key = key if key in owners else key.removesuffix(AVERAGE)
                if key in owners:
                    names[node.name] = owners[key]
        view = self._recognition.graph
        wired = view.cells if view is not None else ()
        sizes = [cell.input_size for cell in self._recognition.cells]
        widths = dict.fromkeys(size for size in sizes if size is not None)
        return find_recurrences(Scope.of(self.graph), self.variables, names, wired, widths)

    @cached_property
    def _networks(self) -> tuple[tuple[GraphNetwork, ...], tuple[str, ...]]:
        from lstmstate.recurrence.data_path import origins
        from lstmstate.recurrence.find_networks import last_ones, network_of

        networks: list[GraphNetwork] = []
        refused = list(self.recurrences.others)
        for last in last_ones(self.recurrences.found):
            try:
                networks.append(network_of(self.recurrences, last))
            except LstmstateError as error:
                refused.append(str(error))
        probe = self.recurrences.probe
        fed = [
            one
            for one in networks
            if probe.is_fed(one.input.tensor)
            or (one.input.is_apart and origins(probe.scope.nodes, one.input.tensors, {}).sources)
        ]
        return tuple(fed or networks), tuple(refused)

    @property
    def networks(self) -> tuple[GraphNetwork, ...]:
        """The networks; those that no data reaches are left out where others are fed."""
        return self._networks[0]

    @property
    def refused(self) -> tuple[str, ...]:
        """A line for each recurrence that cannot be run, with the reason."""
        return self._networks[1]

    def networks_of(self, cells: Iterable[str]) -> list[GraphNetwork]:
        """Return the networks that have these cells and no other."""
        wanted = sorted(cells)
        return [one for one in self.networks if sorted(c.name for c in one.cells) == wanted]

    def parts_of(self, cells: Iterable[str], *, is_reversed: bool = False) -> list[GraphNetwork]:
        """Return the recurrences of these cells and no other, where they are part of a network.

        Args:
            is_reversed: whether those that begin at the end of a sequence are asked for: a cell
                by itself begins at its start.
        """
        from lstmstate.recurrence.find_networks import network_of

        wanted = sorted(cells)
        parts = []
        for at, one in enumerate(self.recurrences.found):
            if sorted(cell.name for cell in one.cells) == wanted:
                with suppress(LstmstateError):
                    parts.append(network_of(self.recurrences, [at], alone=True))
        return [part for part in parts if part.is_reversed == is_reversed]

    def not_stepped(self, cells: Iterable[str]) -> str:
        """Return why there is no network of some cells."""
        if self.parts_of(cells, is_reversed=True):
            return "the graph steps these cells from the end of a sequence, and only with others"
        return "; ".join(self.refused[:3]) or "the graph does not step these cells"

    def uses(self, cells: Iterable[Cell]) -> bool:
        """Whether the graph computes anything with the weights of some cells."""
        owned = {name for cell in cells for stored in cell.variables.values() for name in stored}
        queue = [
            node.name
            for node in self.graph.nodes.values()
            if node.op in VARIABLE_OPS and self.variables.key(node) in owned
        ]
        seen: set[str] = set()
        while queue:
            name = queue.pop()
            if name in seen:
                continue
            seen.add(name)
            for user, _ in self.graph.uses.get(name, ()):
                if user.op in _PASSES_WEIGHTS:
                    queue.append(user.name)
                elif not user.op.startswith(_KEEPING):
                    return True
        return False

    def runner(
        self, network: GraphNetwork, feeds: Mapping[str, Any] | None = None, *, exact: bool = False
    ) -> GraphRunner:
        """Return a network ready to run from the graph's own operations."""
        from lstmstate.engines.graph_engine import GraphRunner

        return GraphRunner(network, self.variables, feeds, exact=exact)

    def initial_states(
        self,
        cells: Iterable[str],
        networks: Sequence[GraphNetwork],
        feeds: Mapping[str, Any] | None = None,
        batch: int | None = None,
        steps: int | None = None,
    ) -> list[InitialStates]:
        """Return the initial states of some cells, in each network of the graph that has them.

        Args:
            batch, steps: the sizes of x; see `evaluate_initial_states`.
        """
        from lstmstate.engines.graph_engine import fed_values
        from lstmstate.recurrence.initial_state_values import evaluate_initial_states

        names = frozenset(cells)
        return [
            evaluate_initial_states(
                one, names, self.variables, fed_values(one.scope, feeds), batch, steps
            )
            for one in networks or self.networks_around(names)
        ]

    def beyond(self, networks: Iterable[GraphNetwork]) -> tuple[str, ...]:
        """Return a line if the graph computes something from the outputs that may pass for them.

        Networks that are a part of others are left out.
        """
        from lstmstate.recurrence.after_outputs import after

        whole = [one for one in networks if one in self.networks]
        found = dict.fromkeys(op for one in whole for op in after(one, self.recurrences))
        if not found:
            return ()
        operations = first_of([*found], _SHOWN)
        line = f"the graph goes on after the outputs, and that is not run: {operations}"
        return (f"{line}; `outputs='m'` asks for m itself",)

    def networks_around(self, cells: Iterable[str]) -> list[GraphNetwork]:
        """Return the networks that have these cells among others."""
        wanted = set(cells)
        return [one for one in self.networks if wanted < {cell.name for cell in one.cells}]

    def route(self, network: GraphNetwork) -> Route:
        """Return the cells of a network in the order of execution."""
        stages: list[tuple[tuple[Cell, ...], ...]] = []
        before: Recurrence | None = None
        chains = [
            tuple(_known(cell, self._cells) or _unrecognised(cell) for cell in one.cells)
            for one in network.recurrences
        ]
        if network.backward_from is not None:
            both = (chains[: network.backward_from], chains[network.backward_from :])
            stages.append(tuple(tuple(cell for chain in way for cell in chain) for way in both))
            chains = []
        for one, chain in zip(network.recurrences, chains, strict=False):
            if before is not None and one.is_reversed and before.before == one.before:
                stages[-1] = (*stages[-1], chain)
            else:
                stages.append((chain,))
            before = one
        names = [cell.name for cell in network.cells]
        is_stack = len(names) > 1
        shared = common_scope([f"{name}/" for name in names])
        return Route(shared or names[0] if is_stack else names[0], tuple(stages), is_stack)


def _known(cell: RecurrentCell, known: Mapping[str, Cell]) -> Cell | None:
    """Return the record of a cell by its name, or by that of its first use."""
    name, _, _ = cell.name.partition("#")
    found = known.get(cell.name) or known.get(name)
    return None if found is None else found._replace(name=cell.name)


def _unrecognised(cell: RecurrentCell) -> Cell:
    """Return the record of a cell that fits no family: its name and its state."""
    c, m = cell.widths
    return Cell(
        name=cell.name,
        family=UNRECOGNISED,
        era=None,
        input_size=None,
        num_units=c,
        num_proj=None if m == c else m,
        dtype=cell.c.dtype,
        gate_order="",
        peepholes=None,
        layer_norm=False,
        options=dict.fromkeys(OPTIONS, UNKNOWN),
        variables={},
        parameters=0,
        nbytes=0,
    )
