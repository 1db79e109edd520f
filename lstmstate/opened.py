"""An open checkpoint with its LSTM cells: where the files and the cells come together."""

from __future__ import annotations

import os
from collections import Counter
from functools import cached_property

from lstmstate.cells.model import Cell, SavedState, Stack
from lstmstate.cells.recognise import Recognition
from lstmstate.cells.saved import saved_states
from lstmstate.cells.stacks import stacks
from lstmstate.checkpoint import Checkpoint, Variable
from lstmstate.checkpoint.graph import Graph
from lstmstate.errors import LstmstateError, NotFoundError, printable


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

    def __init__(self, path: str | os.PathLike[str], *, checksums: bool = True) -> None:
        self.files = Checkpoint(os.fspath(path), checksums=checksums)
        self.prefix = self.files.prefix
        self.variables: dict[str, Variable] = self.files.variables

    def __repr__(self) -> str:
        return f"<LSTMCheckpoint {self.prefix!r} {self.format}, {len(self.variables)} variables>"

    @property
    def format(self) -> str:
        """ "v1", "v2", "saved_model" or "object_based"."""
        return self.files.format

    @property
    def graph(self) -> Graph | None:
        """The graph beside the checkpoint, None where there is none."""
        return self.files.graph

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of how it was read."""
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
    def cells(self) -> dict[str, Cell]:
        """The LSTM cells, by the scope of their variables."""
        return {cell.name: cell for cell in self._found.cells}

    @cached_property
    def stacks(self) -> list[Stack]:
        """The stacks and pairs of directions that the cells form."""
        return stacks(self._found.cells, (v.path for v in self.variables.values()))

    @cached_property
    def states(self) -> list[SavedState]:
        """The states that were saved in variables."""
        return saved_states(self._found, self.stacks, self.variables.values())

    @cached_property
    def _state_of(self) -> dict[str, SavedState]:
        return {state.variable: state for state in self.states}

    @property
    def candidates(self) -> list[str]:
        """Scopes with the shapes of a cell of which nothing says whether they are one."""
        return self._found.candidates

    @property
    def era(self) -> str | None:
        """The age of the cells' names: "0.5-0.12", "1.0-1.1" or "1.2+"."""
        eras = Counter(cell.era for cell in self.cells.values() if cell.era)
        return eras.most_common(1)[0][0] if eras else None

    def role(self, variable: str) -> tuple[str, str | None]:
        """Return what a variable is ("kernel", "slot", "state", "other", …) and of which cell."""
        if variable in self._found.roles:
            return self._found.roles[variable]
        if variable in self._found.slots:
            return "slot", None
        state = self._state_of.get(variable)
        return ("state", state.cell) if state else ("other", None)

    def cell(self, name: str) -> Cell:
        """Return one cell by its name, or by any parts of it that no other cell has.

        Raises:
            NotFoundError: there is no such cell, or more than one.
        """
        if name in self.cells:
            return self.cells[name]
        matches = [full for full in self.cells if f"/{name.strip('/')}/" in f"/{full}/"]
        if len(matches) == 1:
            return self.cells[matches[0]]
        known = ", ".join(printable(full) or '""' for full in matches or self.cells)
        raise NotFoundError(
            "several cells have this in their names"
            if matches
            else "there is no cell of this name",
            path=self.prefix,
            tensor=name,
            advice=f"the cells are: {known}" if known else "there is no LSTM cell in it",
        )


def open_checkpoint(path: str | os.PathLike[str], *, checksums: bool = True) -> LSTMCheckpoint:
    """Open a TensorFlow checkpoint; see `LSTMCheckpoint`."""
    return LSTMCheckpoint(path, checksums=checksums)
