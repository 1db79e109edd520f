"""The LSTM cells of a checkpoint, with their stacks, saved states and networks."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property

from lstmstate.cells.cell import Cell, SavedState, Stack
from lstmstate.cells.detect import Recognition
from lstmstate.cells.stacks import (
    Route,
    find_by_name,
    in_order,
    name_of,
    pair_directions,
    routes,
)
from lstmstate.checkpoint import Checkpoint, Variable
from lstmstate.checkpoint.graph import Graph
from lstmstate.checkpoint.locate import Location
from lstmstate.checkpoint.object_graph import object_path
from lstmstate.errors import (
    AmbiguousError,
    LstmstateError,
    UnknownNameError,
    UnsupportedError,
    count,
    first_of,
    located,
    nearest,
    printable,
)
from lstmstate.model import recorded_options
from lstmstate.model.lstm_network import LSTMCell, LSTMNetwork, LSTMStack
from lstmstate.model.network_loader import Origin
from lstmstate.model.recorded_options import Recorded
from lstmstate.type_names import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lstmstate.model.confirm import Confirmation
    from lstmstate.model.graph_model import GraphModel
    from lstmstate.recurrence.graph_network import GraphNetwork


_LISTED = 30  # names in an error; a stack of both directions and twelve layers has 24

_T = TypeVar("_T")


class NamedMapping(dict[str, _T]):
    """A mapping by name that names the nearest keys if it lacks one.

    Args:
        kind: the kind of its values, for messages.
        path: the checkpoint.
        items: the values by name.
    """

    def __init__(self, kind: str, path: str, items: Mapping[str, _T]) -> None:
        super().__init__(items)
        self._kind = kind
        self._path = path

    def __missing__(self, name: str) -> _T:
        raise UnknownNameError(
            f"there is no {self._kind} of this name",
            path=self._path,
            tensor=str(name),
            advice=nearest(str(name), self) or f"there are: {listed([*map(printable, self)])}"
            if self
            else f"it has no {self._kind}",
        )


class RecognisedCheckpoint:
    """The files of a checkpoint, with the cells, stacks, states and networks found in them.

    Args:
        path, checksums: see `LSTMCheckpoint`.
    """

    def __init__(self, path: str | os.PathLike[str] | Location, *, checksums: bool = True) -> None:
        where = path if isinstance(path, Location) else os.fspath(path)
        self.files = Checkpoint(where, checksums=checksums)
        self.prefix = self.files.prefix
        self.format = self.files.format
        self._values: dict[str, NDArray[np.generic]] = {}
        self._networks: dict[str, LSTMNetwork] = {}
        self.variables: dict[str, Variable] = NamedMapping(
            "variable", self.prefix, self.files.variables
        )
        self.files.variables = self.variables

    @property
    def graph(self) -> Graph | None:
        """The graph next to the checkpoint; None without one."""
        return self.files.graph

    @property
    def graph_damage(self) -> str | None:
        """The damage in the file of the graph; None if it is whole, or there is none."""
        return self.files.graph_damage

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """The choices that were made in reading it; the graph is read for them."""
        _ = self.states  # which can add some, as can the detection of cells before
        return tuple(filter(None, (self.files.location.choice, *self.files.notes)))

    @property
    def tensorflow_version(self) -> str | None:
        """The release that wrote the graph; None if it is not recorded."""
        return self.graph.tensorflow_version if self.graph else None

    @cached_property
    def _found(self) -> Recognition:
        if self.graph is not None:
            try:
                return Recognition(self.variables, self.graph, self._recorded)
            except LstmstateError as error:
                graph = self.files.location.graph
                self.files.notes.append(f"{graph}: {error}; going on without the graph")
        with located(self.files.prefix):
            return Recognition(self.variables, None, self._recorded)

    @cached_property
    def _recorded(self) -> Recorded:
        """The options that it records, for a graph that does not show them."""
        if recorded_options.NAME not in self.variables:
            return {}
        try:
            return recorded_options.read(self.variables, self.prefix)
        except LstmstateError as error:
            self.files.notes.append(f"{error}; going on without these options")
            return {}

    @cached_property
    def _cells(self) -> dict[str, Cell]:
        stacks = self._found.stacks
        known = {cell.name: cell for cell in self._found.cells}
        known |= {cell.name: cell for one in stacks for layer in one.layers for cell in layer}
        return {cell.name: cell for cell in in_order(known.values(), stacks)}

    @cached_property
    def cells(self) -> dict[str, LSTMCell]:
        """The LSTM cells by the scope of their variables; those of a network in its order."""
        found = {name: LSTMCell(cell, self._origin) for name, cell in self._cells.items()}
        return NamedMapping("cell", self.prefix, found)

    @cached_property
    def stacks(self) -> dict[str, LSTMStack]:
        """The stacks and the pairs of directions, by name."""
        found = {stack.name: LSTMStack(stack, self._origin) for stack in self._found.stacks}
        return NamedMapping("stack", self.prefix, found)

    @cached_property
    def routes(self) -> list[Route]:
        """The networks that can be run: stacks, pairs of stacks as one, and cells in none."""
        return routes(self._cells.values(), self._found.stacks)

    def confirmations(self, cells: Iterable[Cell]) -> dict[str, Confirmation]:
        """Return whether the graph confirms some cells, each by its name."""
        wanted = {cell.name for cell in cells}
        found: dict[str, Confirmation] = {}
        for route in self.routes:
            names = [cell.name for cell in route.cells if cell.name in wanted]
            if len(names) == len(route.cells):
                whole = self._network(route).confirm()
                if whole.agrees or len(names) == 1:
                    found |= dict.fromkeys(names, whole)
                    continue
            found |= {name: self.cells[name].confirm() for name in names}
        return found

    def _read(self, variable: str) -> NDArray[np.generic]:
        if variable not in self._values:
            self._values[variable] = self.variables[variable].read()
        return self._values[variable]

    @cached_property
    def _origin(self) -> Origin:
        return Origin(
            self._read, self.prefix, lambda: self.model, self._values.clear, self._stored_starts
        )

    def _stored_starts(self, cells: Collection[str]) -> list[str]:
        """Return the variables with the initial states of some cells."""
        stacks = {
            stack.name
            for stack in self._found.stacks
            if any(cell.name in cells for layer in stack.layers for cell in layer)
        }
        return [
            state.variable
            for state in self.states.values()
            if state.is_start and (state.cell in cells or state.stack in stacks)
        ]

    @cached_property
    def model(self) -> GraphModel | None:
        """The networks of the graph, from its own operations; None without a graph."""
        from lstmstate.model.graph_model import GraphModel

        if self.graph is None or self._found.graph is None:
            return None
        return GraphModel(self.graph, self.variables, self._found, self._cells, self._read)

    @cached_property
    def states(self) -> dict[str, SavedState]:
        """The states in variables, by the name of the variable."""
        from lstmstate.cells.find_saved_states import find_saved_states

        recognised = self._found  # whose own errors end here
        try:
            found = find_saved_states(recognised, recognised.graph)
        except UnsupportedError as error:
            graph = self.files.location.graph
            self.files.notes.append(f"{graph}: {error}; states are found by name alone")
            found = find_saved_states(recognised, None)
        return NamedMapping("saved state", self.prefix, {state.variable: state for state in found})

    @property
    def candidates(self) -> list[str]:
        """Scopes with the shapes of a cell that may or may not be one."""
        return self._found.candidates

    @cached_property
    def recurrences(self) -> tuple[str, ...] | None:
        """The recurrences of the graph without any of the cells.

        None if the graph cannot be followed.
        """
        view = self._found.graph
        if view is None:
            return ()
        known = (name for name, (_, cell) in self._found.roles.items() if cell is not None)
        try:
            return view.unrecognised(known)
        except UnsupportedError:
            return None

    def unrecognised(self) -> tuple[list[Cell], tuple[str, ...]]:
        """Return the cells of no known family that the graph can run, and reasons for the others.

        The graph is evaluated for that.
        """
        model = self.model if self.recurrences else None
        if model is None:
            return [], ()
        try:
            cells = {c.name: c for one in self.graph_networks() for c in one.route.cells}
            return [cell for name, cell in cells.items() if name not in self._cells], model.refused
        except LstmstateError as error:
            return [], (str(error),)

    @property
    def has_no_cell(self) -> bool:
        """Whether there is surely no LSTM cell: a graph shows none, or there are no weights."""
        has_graph = self._found.graph is not None
        is_shown = has_graph and self.recurrences == () and not self.candidates
        return is_shown or not any(
            variable.shape and variable.is_inexact for variable in self.variables.values()
        )

    @property
    def no_cells(self) -> str:
        """The words for a checkpoint without a recognised cell; "no cell" only if it is certain."""
        if self.has_no_cell:
            return "there is no LSTM cell in it"
        return self.unrecognised_words or "no graph, and no known variable names"

    @property
    def unrecognised_words(self) -> str | None:
        """The number of recurrences without a known cell, in words; None without any."""
        if self.recurrences is None:
            return "the graph is too tangled to be searched for recurrences"
        number = len(self.recurrences)
        kind = "an LSTM" if number == 1 else "LSTMs"
        return f"{count(number, 'recurrence')} not recognised as {kind}" if number else None

    @property
    def era(self) -> str | None:
        """The age of the cells' names: "0.5-0.12", "1.0-1.1" or "1.2+"."""
        eras = Counter(cell.era for cell in self._cells.values() if cell.era)
        return max(eras, key=lambda era: eras[era], default=None)

    def role(self, variable: str) -> tuple[str, str | None]:
        """Return the role of a variable ("kernel", "slot", "state", "other", …) and its cell."""
        if variable in self._found.roles:
            return self._found.roles[variable]
        if variable in self._found.slots:
            return "slot", None
        if variable == recorded_options.NAME and self._recorded:
            return "options", None
        state = self.states.get(variable)
        return ("state", state.cell) if state else ("other", None)

    def _matches(self, name: str) -> list[str]:
        return [full for full in self._cells if f"/{name.strip('/')}/" in f"/{full}/"]

    def variable(self, name: str) -> str:
        """Return the key of a variable by its key, or by any name that inspect prints for it.

        Raises:
            NotFoundError: there is none of this name, or more than one.
        """
        if name in self.variables:
            return name
        found = [
            key
            for key, variable in self.variables.items()
            if name in (variable.path, object_path(key), variable.full_name)
        ]
        if len(found) == 1:
            return found[0]
        known = [variable.path for variable in self.variables.values()]
        raise UnknownNameError(
            "several variables have this name" if found else "there is no such variable",
            path=self.prefix,
            tensor=name,
            advice=f"they are: {listed([*map(printable, found)])}"
            if found
            else nearest(name, known) or "`lstmstate inspect` lists them",
        )

    def _graph_networks(self, found: Sequence[Route]) -> list[tuple[Route, GraphNetwork | None]]:
        """Return the networks of the graph, each once, if they have all recognised cells."""
        if self.model is None:
            return []
        same: dict[tuple[str, ...], Route] = {}
        for route in found:
            same.setdefault(tuple(sorted(cell.name for cell in route.cells)), route)
        ways: dict[tuple[str, ...], tuple[Route, GraphNetwork | None]] = {}
        for network in self.model.networks:
            names = tuple(sorted(cell.name for cell in network.cells))
            if names in ways:
                ways[names] = (ways[names][0], None)  # the graph uses the cells more than once
            else:
                ways[names] = (same.get(names) or self.model.route(network), network)
        left = {cell.name for route in found for cell in route.cells}
        left -= {name for names in ways for name in names}
        return [] if left else list(ways.values())

    def graph_networks(self) -> list[LSTMNetwork]:
        """Return every network of the graph."""
        model = self.model
        if model is None:
            return []
        return [LSTMNetwork(model.route(one), self._origin, one) for one in model.networks]

    def _of_graph(self, cells: Sequence[str]) -> LSTMNetwork | None:
        """Return the graph's own network of some cells."""
        model = self.model
        found = model.networks_of(cells) if model is not None else []
        if model is None or not found:
            return None
        return self._network(model.route(found[0]), found[0] if len(found) == 1 else None)

    def _network(self, route: Route, graph: GraphNetwork | None = None) -> LSTMNetwork:
        """Return the network of a route, the same each time: it keeps its weights."""
        if route.choice not in self._networks:
            self._networks[route.choice] = LSTMNetwork(route, self._origin, graph)
        return self._networks[route.choice]

    def find_stacks(self, name: str) -> tuple[Stack, ...]:
        """Return one stack by its name, or by any parts of it that no other stack has.

        Two stacks that run in the two directions are one here; see `cells.stacks.find_by_name`.

        Raises:
            NotFoundError: there is no such stack.
            AmbiguousError: there is more than one.
        """
        found = find_by_name(name, self._found.stacks)
        if len(found) == 1:
            return found[0]
        if found:
            raise AmbiguousError(
                "several stacks have this in their names",
                path=self.prefix,
                tensor=name,
                advice=f"give one whole name: {_names(found)}",
            )
        every = [*pair_directions(self._found.stacks), *((stack,) for stack in self._found.stacks)]
        raise UnknownNameError(
            "there is no such stack of LSTM cells",
            path=self.prefix,
            tensor=name,
            advice=f"there are: {_names(every)}" if every else "leave `stack=...` out: it has none",
        )


def _names(stacks: Iterable[Sequence[Stack]]) -> str:
    return listed(list(dict.fromkeys(printable(name_of(group)) for group in stacks)))


def listed(words: list[str]) -> str:
    """Return some words for a message, the first of very many."""
    where = ", which `lstmstate inspect` lists" if len(words) > _LISTED else ""
    return first_of(words, _LISTED) + where
