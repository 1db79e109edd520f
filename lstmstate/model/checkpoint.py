"""An open checkpoint with its LSTM cells: where the files and the cells come together."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING

from lstmstate.cells.cell import Cell, SavedState, Stack
from lstmstate.cells.detect import Recognition
from lstmstate.cells.execution_order import Route, in_order, of_stack, routes
from lstmstate.cells.stacks import called, name_of, pair_directions, stacks
from lstmstate.checkpoint import Checkpoint, Variable
from lstmstate.checkpoint.graph import Graph
from lstmstate.checkpoint.locate import Location, NotACheckpointError
from lstmstate.checkpoint.object_graph import object_path
from lstmstate.errors import (
    AmbiguousError,
    LstmstateError,
    NotFoundError,
    UnsupportedError,
    count,
    located,
    printable,
)
from lstmstate.model.network import LSTMCell, LSTMNetwork, LSTMStack, Origin

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lstmstate.model.confirm import Confirmation, GraphModel
    from lstmstate.recurrence.graph_network import GraphNetwork

_WHAT_IS_ONE = "give the checkpoint: its prefix, any file of it, or its folder"
_LISTED = 30  # names in an error; a stack of both directions and twelve layers has 24


class LSTMCheckpoint:
    """A checkpoint, its variables, and the LSTM cells among them.

    Args:
        path: a prefix, any file of a checkpoint, a `checkpoint` file, or a folder.
        checksums: whether the CRC32C of everything that is read must hold.

    Attributes:
        files: the checkpoint below the cells.
        prefix: what the path was resolved to.
        variables: every variable, by name; values are read on demand.

    Raises:
        LstmstateError: there is no checkpoint, or it cannot be read.

    Example:
        >>> import lstmstate
        >>> ckpt = lstmstate.open_checkpoint("sample_checkpoints/sunspots")
        >>> [cell.num_units for cell in ckpt.cells.values()]
        [24, 12]
        >>> ckpt.states[0].variable, ckpt.states[0].layout
        ('saved_state', 'flat')
    """

    def __init__(self, path: str | os.PathLike[str] | Location, *, checksums: bool = True) -> None:
        where = path if isinstance(path, Location) else os.fspath(path)
        self.files = Checkpoint(where, checksums=checksums)
        self.prefix = self.files.prefix
        self._values: dict[str, NDArray[np.generic]] = {}
        self._networks: dict[str, LSTMNetwork] = {}
        self.variables: dict[str, Variable] = self.files.variables

    def __repr__(self) -> str:
        return f"<LSTMCheckpoint {self.prefix!r} {self.format}, {len(self.variables)} variables>"

    @property
    def format(self) -> str:
        """ "v1", "v2", "saved_model", "object_based", "frozen_graph" or "generator_bundle"."""
        return self.files.format

    @property
    def graph(self) -> Graph | None:
        """The graph beside the checkpoint, None where there is none."""
        return self.files.graph

    @property
    def graph_damage(self) -> str | None:
        """What is wrong with the file of the graph; None where it is whole, or there is none."""
        return self.files.graph_damage

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of how it was read; the graph is read for that."""
        _ = self._found  # reading the graph, and looking for cells in it, can add some
        return tuple(self.files.notes)

    @property
    def tensorflow_version(self) -> str | None:
        """The release that wrote the graph, None where nothing tells."""
        return self.graph.tensorflow_version if self.graph else None

    @cached_property
    def _found(self) -> Recognition:
        try:
            return Recognition(self.variables.values(), self.graph)
        except LstmstateError as error:
            graph = self.files.location.graph
            self.files.notes.append(f"{graph}: {error}; going on without the graph")
            return Recognition(self.variables.values(), None)

    @cached_property
    def cells(self) -> dict[str, LSTMCell]:
        """The LSTM cells, by the scope of their variables; those of a network in its order."""
        known = {cell.name: cell for cell in self._found.cells}
        known |= {c.name: c for stack in self._stacks for layer in stack.layers for c in layer}
        found = in_order(known.values(), self._stacks)
        return {cell.name: LSTMCell.of(cell, self._origin) for cell in found}

    @cached_property
    def stacks(self) -> list[LSTMStack]:
        """The stacks and pairs of directions that the cells form."""
        return [LSTMStack.of(stack, self._origin) for stack in self._stacks]

    @cached_property
    def _stacks(self) -> list[Stack]:
        known = self._found.roles.keys() | self._found.slots
        variables = self.variables.values()
        return stacks(
            self._found.cells,
            (variable.path for variable in variables),
            (variable.path for variable in variables if variable.name not in known),
            self._feeders,
        )

    def _feeders(self, cells: Mapping[str, Cell]) -> dict[str, str]:
        """Return which of some cells the graph feeds with what another one gives."""
        if self._found.graph is None:
            return {}
        from lstmstate.cells.from_graph.layers import feeders

        return feeders(self._found.graph, cells)

    @cached_property
    def routes(self) -> list[Route]:
        """The networks that can be run: stacks, pairs of stacks as one, and cells in none."""
        return routes(self.cells.values(), self.stacks)

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
            found |= {name: self.cells[name].network.confirm() for name in names}
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
        """Return the variables from which the graph is seen to start some cells."""
        stacks = {
            stack.name
            for stack in self._stacks
            if any(cell.name in cells for layer in stack.layers for cell in layer)
        }
        return [
            state.variable
            for state in self.states
            if state.is_start and (state.cell in cells or state.stack in stacks)
        ]

    @cached_property
    def model(self) -> GraphModel | None:
        """The networks of the graph, from its own operations; None where there is no graph."""
        from lstmstate.model.confirm import GraphModel

        if self.graph is None or self._found.graph is None:
            return None
        return GraphModel(self.graph, self.variables, self._found, self._read)

    @cached_property
    def states(self) -> list[SavedState]:
        """The states that were saved in variables."""
        from lstmstate.cells.saved_states import saved_states

        variables = self.variables.values()
        try:
            return saved_states(self._found, self._found.graph, self._stacks, variables)
        except UnsupportedError as error:
            graph = self.files.location.graph
            self.files.notes.append(f"{graph}: {error}; states are found by name alone")
            return saved_states(self._found, None, self._stacks, variables)

    @cached_property
    def _state_of(self) -> dict[str, SavedState]:
        return {state.variable: state for state in self.states}

    @property
    def candidates(self) -> list[str]:
        """Scopes with the shapes of a cell of which nothing says whether they are one."""
        return self._found.candidates

    @cached_property
    def recurrences(self) -> tuple[str, ...] | None:
        """What carries a state in the graph from step to step, and has none of the cells.

        None where the graph cannot be followed.
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
        """Return the cells of no known family that the graph can run, and why others cannot.

        The graph is evaluated for that.
        """
        model = self.model if self.recurrences else None
        if model is None:
            return [], ()
        try:
            cells = {c.name: c for one in self.graph_networks() for c in one.route.cells}
            return [cell for name, cell in cells.items() if name not in self.cells], model.refused
        except LstmstateError as error:
            return [], (str(error),)

    @property
    def has_no_cell(self) -> bool:
        """Whether there is surely no LSTM cell: a graph shows none, or there are no weights."""
        has_graph = self._found.graph is not None
        is_shown = has_graph and self.recurrences == () and not self.candidates
        return is_shown or not any(
            variable.shape and variable.dtype.startswith(("float", "bfloat", "complex"))
            for variable in self.variables.values()
        )

    @property
    def no_cells(self) -> str:
        """What is known where no cell was found; that there is none only where it is certain."""
        if self.has_no_cell:
            return "there is no LSTM cell in it"
        return self.unrecognised_words or "no graph, and no known variable names"

    @property
    def unrecognised_words(self) -> str | None:
        """How many recurrences have no cell that is known; None where there are none."""
        if self.recurrences is None:
            return "the graph is too tangled to be searched for recurrences"
        number = len(self.recurrences)
        kind = "an LSTM" if number == 1 else "LSTMs"
        return f"{count(number, 'recurrence')} not recognised as {kind}" if number else None

    @property
    def era(self) -> str | None:
        """The age of the cells' names: "0.5-0.12", "1.0-1.1" or "1.2+"."""
        eras = Counter(cell.era for cell in self.cells.values() if cell.era)
        return max(eras, key=lambda era: eras[era], default=None)

    def role(self, variable: str) -> tuple[str, str | None]:
        """Return what a variable is ("kernel", "slot", "state", "other", …) and of which cell."""
        if variable in self._found.roles:
            return self._found.roles[variable]
        if variable in self._found.slots:
            return "slot", None
        state = self._state_of.get(variable)
        return ("state", state.cell) if state else ("other", None)

    def cell(self, name: str) -> LSTMCell:
        """Return one cell by its name, or by any parts of it that no other cell has.

        Raises:
            NotFoundError: there is no such cell, or more than one.
        """
        if name in self.cells:
            return self.cells[name]
        matches = [full for full in self.cells if f"/{name.strip('/')}/" in f"/{full}/"]
        if len(matches) == 1:
            return self.cells[matches[0]]
        known = _listed([printable(full) or "/" for full in matches or self.cells])
        raise NotFoundError(
            "several cells have this in their names"
            if matches
            else "there is no cell of this name",
            path=self.prefix,
            tensor=name,
            advice=f"the cells are: {known}" if known else self.no_cells,
        )

    def variable(self, name: str) -> str:
        """Return the key of a variable: its own, or any name that inspect prints of it.

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
        raise NotFoundError(
            "several variables have this name" if found else "there is no such variable",
            path=self.prefix,
            tensor=name,
            advice=f"they are: {_listed([*map(printable, found)])}" if found else self._like(name),
        )

    def _like(self, name: str) -> str:
        """Return what to do about a variable that is not there."""
        from difflib import get_close_matches

        known = [variable.path for variable in self.variables.values()]
        found = get_close_matches(name, known, n=3, cutoff=0.5)
        likely = " or ".join(map(printable, found))
        return f"did you mean {likely}?" if likely else "`lstmstate inspect` lists them"

    def network(self, *, cell: str | None = None, stack: str | None = None) -> LSTMNetwork:
        """Return what can be run: a cell, a stack or a pair of stacks, or the only one there is.

        Raises:
            NotFoundError: there is no such cell or stack, or none at all.
            AmbiguousError: there is more than one.
            UnsupportedError: a layer of the stack is no LSTM cell.
        """
        if cell is not None and stack is not None:
            raise LstmstateError("give a cell or a stack, not both", path=self.prefix)
        if cell is not None:
            return self._cell_network(cell)
        if stack is not None:
            return self._stack_network(stack)
        found = self.routes
        graph = self._graph_networks(found)
        if len(graph) == 1:
            return self._network(*graph[0])
        if not found:
            raise NotFoundError(self.no_cells, path=self.prefix)
        if len(found) > 1:
            raise AmbiguousError(
                f"{len(found)} cells or stacks can be run",
                path=self.prefix,
                advice="say which: " + _listed([route.choice for route in found]),
            )
        return self._network(found[0])

    def _graph_networks(self, found: Sequence[Route]) -> list[tuple[Route, GraphNetwork | None]]:
        """Return what the graph runs, each once, where no recognised cell is left out."""
        if self.model is None:
            return []
        from lstmstate.model.confirm import route_of

        same: dict[tuple[str, ...], Route] = {}
        for route in found:
            same.setdefault(tuple(sorted(cell.name for cell in route.cells)), route)
        ways: dict[tuple[str, ...], tuple[Route, GraphNetwork | None]] = {}
        for network in self.model.networks:
            names = tuple(sorted(cell.name for cell in network.cells))
            if names in ways:
                ways[names] = (ways[names][0], None)  # the graph uses the cells more than once
            else:
                ways[names] = (same.get(names) or route_of(network, self.cells), network)
        left = {cell.name for route in found for cell in route.cells}
        left -= {name for names in ways for name in names}
        return [] if left else list(ways.values())

    def graph_networks(self) -> list[LSTMNetwork]:
        """Return every network of the graph."""
        from lstmstate.model.confirm import route_of

        found = self.model.networks if self.model is not None else ()
        return [LSTMNetwork(route_of(one, self.cells), self._origin, one) for one in found]

    def _cell_network(self, name: str) -> LSTMNetwork:
        try:
            return self.cell(name).network
        except NotFoundError:
            found = self._of_graph([name])
            if found is None:
                raise
            return found

    def _of_graph(self, cells: Sequence[str]) -> LSTMNetwork | None:
        """Return the graph's own network of some cells."""
        found = self.model.networks_of(cells) if self.model is not None else []
        if not found:
            return None
        from lstmstate.model.confirm import route_of

        return self._network(route_of(found[0], self.cells), found[0] if len(found) == 1 else None)

    def _stack_network(self, name: str) -> LSTMNetwork:
        stacks = self.stacks_called(name)
        try:
            with located(self.prefix):
                return self._network(of_stack(*stacks))
        except UnsupportedError:
            cells = [c.name for one in stacks for layer in one.layers for c in layer]
            found = self._of_graph(cells)
            if found is None:
                raise
            return found

    def _network(self, route: Route, graph: GraphNetwork | None = None) -> LSTMNetwork:
        """Return the network of a route, the same each time: it keeps what it has read."""
        if route.choice not in self._networks:
            self._networks[route.choice] = LSTMNetwork(route, self._origin, graph)
        return self._networks[route.choice]

    def stacks_called(self, name: str) -> tuple[Stack, ...]:
        """Return one stack by its name, or by any parts of it that no other stack has.

        Two stacks that run in the two directions are one here; see `cells.stacks.called`.

        Raises:
            NotFoundError: there is no such stack.
            AmbiguousError: there is more than one.
        """
        found = called(name, self.stacks)
        if len(found) == 1:
            return found[0]
        if found:
            raise AmbiguousError(
                "several stacks have this in their names",
                path=self.prefix,
                tensor=name,
                advice=f"give one whole name: {_names(found)}",
            )
        every = [*pair_directions(self.stacks), *((stack,) for stack in self.stacks)]
        raise NotFoundError(
            "there is no such stack of LSTM cells",
            path=self.prefix,
            tensor=name,
            advice=f"there are: {_names(every)}" if every else "leave `stack=...` out: it has none",
        )


def _names(stacks: Iterable[Sequence[Stack]]) -> str:
    return _listed(list(dict.fromkeys(printable(name_of(group)) for group in stacks)))


def _listed(words: list[str]) -> str:
    """Return some words for a message, the first of very many."""
    more = [f"and {len(words) - _LISTED:,} more, which inspect tells"]
    return ", ".join(words if len(words) <= _LISTED else words[:_LISTED] + more)


def open_checkpoint(path: str | os.PathLike[str], *, checksums: bool = True) -> LSTMCheckpoint:
    """Open a TensorFlow checkpoint; see `LSTMCheckpoint`."""
    try:
        return LSTMCheckpoint(path, checksums=checksums)
    except NotACheckpointError as error:
        _refuse_arrays(os.fspath(path))
        raise error from None


def _refuse_arrays(path: str) -> None:
    """Raise an error that says what is in a file, if it is one of states, weights or data."""
    from lstmstate.state import other_contents
    from lstmstate.state.formats.input_path import InputPath

    named = InputPath(path)
    kind = named.kind
    if kind is None:
        return
    found, advice = kind.words, _WHAT_IS_ONE
    with suppress(LstmstateError):  # it is damaged, or a table that can be read in two ways
        file = named.state_file()
        what = count(len(file.arrays), "array")
        if file.foreign is not None:
            what = file.foreign.words
            advice = other_contents.TO_RUN if file.foreign.kind == "weights" else advice
        elif file.metadata is not None:
            what = "a state"
        elif len(file.arrays) == 1:
            what = f"an array {list(file.arrays[0].shape)}"
        found = f"{what} ({kind.words})"
    raise UnsupportedError(
        f"expected a TensorFlow checkpoint, got {found}", path=path, advice=advice
    )
