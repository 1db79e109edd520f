"""An open checkpoint, in the Python API."""

from __future__ import annotations

import os
from contextlib import suppress

from lstmstate.arguments import name_nearest
from lstmstate.cells.stacks import find_by_name, name_of, of_stack
from lstmstate.checkpoint.locate import NotACheckpointError
from lstmstate.errors import (
    AmbiguousError,
    ArgumentError,
    Brief,
    LstmstateError,
    NotFoundError,
    UnknownNameError,
    UnsupportedError,
    count,
    located,
    printable,
)
from lstmstate.model.lstm_network import LSTMCell, LSTMNetwork
from lstmstate.model.recognised_checkpoint import RecognisedCheckpoint, listed

_ADVICE = "give the checkpoint: its prefix, any file of it, or its folder"


class LSTMCheckpoint(RecognisedCheckpoint, metaclass=Brief):
    """An open checkpoint: its variables, and the LSTM cells among them.

    `close`, or the end of a `with` block, closes its files: a value that was not read by then is
    an error.

    Args:
        path: a prefix, any file of a checkpoint, a `checkpoint` file, or a folder.
        checksums: whether to verify the CRC32C of all that is read.

    Attributes:
        prefix: the path of the checkpoint.
        format: "v1", "v2", "saved_model", "object_based", "frozen_graph" or "generator_bundle".
        variables: every `Variable`, by name.
        cells: every `LSTMCell`, by the scope of its variables; those of a network in its order.
        stacks: every `LSTMStack`, by name: stacks, and pairs of directions.
        states: every `SavedState`, by the name of its variable.
        era: the age of the cells' names, "0.5-0.12", "1.0-1.1" or "1.2+".
        tensorflow_version: the release that wrote the graph.
        notes: the choices that were made in reading it.
    """

    def __repr__(self) -> str:
        return f"<LSTMCheckpoint {self.prefix!r} {self.format}, {len(self.variables)} variables>"

    def _repr_html_(self) -> str:
        from html import escape

        parts = [*self.stacks.values(), *self.cells.values()]
        items = "".join(f"<li>{part._repr_html_()}</li>" for part in parts)
        return f"{escape(printable(repr(self)))}<ul>{items}</ul>"

    def __enter__(self) -> LSTMCheckpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close its files; cells that have run already still run."""
        self.files.close()

    def cell(self, name: str) -> LSTMCell:
        """Return one cell by its name, or by any parts of it that no other cell has.

        Raises:
            NotFoundError: there is no such cell, or more than one.
        """
        if name in self.cells:
            return self.cells[name]
        matches = self._matches(name)
        if len(matches) == 1:
            return self.cells[matches[0]]
        known = listed([printable(full) or "/" for full in matches or self.cells])
        raise UnknownNameError(
            "several cells have this in their names"
            if matches
            else "there is no cell of this name",
            path=self.prefix,
            tensor=name,
            advice=f"the cells are: {known}" if known else self.no_cells,
        )

    @name_nearest
    def network(
        self, name: str | None = None, *, cell: str | None = None, stack: str | None = None
    ) -> LSTMNetwork:
        """Return the network of a cell, a stack or a pair of stacks; the only one by default.

        Args:
            name: a cell or a stack, by its name or by parts of it that no other one has; `cell`
                and `stack` choose one of that kind.

        Raises:
            NotFoundError: there is no such cell or stack, or none at all.
            AmbiguousError: there is more than one.
            UnsupportedError: a layer of the stack is not an LSTM cell.
        """
        if [name, cell, stack].count(None) < 2:
            raise ArgumentError("give one of `name`, `cell` and `stack`", path=self.prefix)
        if name is not None:
            cell, stack = self._kind_of(name)
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
                advice="choose one: " + listed([route.choice for route in found]),
            )
        return self._network(found[0])

    def _kind_of(self, name: str) -> tuple[str, None] | tuple[None, str]:
        """Return a name as that of a cell, or as that of a stack."""
        if name in self._cells:
            return name, None
        stacks = find_by_name(name, self._found.stacks)
        is_whole = any(name_of(group) == name for group in stacks)
        if stacks and (is_whole or not self._matches(name)):
            return None, name
        if stacks and not set(self._matches(name)) <= {
            cell.name for group in stacks for s in group for layer in s.layers for cell in layer
        }:
            raise AmbiguousError(
                "a cell and a stack have this in their names",
                path=self.prefix,
                tensor=name,
                advice="give the whole name",
            )
        return (None, name) if stacks else (name, None)

    def _cell_network(self, name: str) -> LSTMNetwork:
        try:
            return self.cell(name)
        except NotFoundError:
            found = self._of_graph([name])
            if found is None:
                raise
            return found

    def _stack_network(self, name: str) -> LSTMNetwork:
        stacks = self.find_stacks(name)
        try:
            with located(self.prefix):
                return self._network(of_stack(*stacks))
        except UnsupportedError:
            cells = [c.name for one in stacks for layer in one.layers for c in layer]
            found = self._of_graph(cells)
            if found is None:
                raise
            return found


@name_nearest
def open_checkpoint(path: str | os.PathLike[str], *, checksums: bool = True) -> LSTMCheckpoint:
    """Open a TensorFlow checkpoint; see `LSTMCheckpoint`.

    Raises:
        NotFoundError: there is no checkpoint at this path.
        UnsupportedError: it is another file, such as a state.
    """
    try:
        return LSTMCheckpoint(path, checksums=checksums)
    except NotACheckpointError as error:
        _refuse_arrays(os.fspath(path))
        raise error from None


def _refuse_arrays(path: str) -> None:
    """Raise an error with the contents of a file, if it is one of states, weights or data."""
    from lstmstate.state import other_contents
    from lstmstate.state.formats.input_path import InputPath

    named = InputPath(path)
    kind = named.kind
    if kind is None:
        return
    found, advice = kind.words, _ADVICE
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
