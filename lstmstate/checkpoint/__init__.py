"""TensorFlow's checkpoint files into named, lazy arrays; nothing here knows of LSTMs."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from functools import cached_property

from lstmstate import limits
from lstmstate.checkpoint import object_graph
from lstmstate.checkpoint.dtypes import from_bytes, to_bytes
from lstmstate.checkpoint.graph import (
    VARIABLE_OPS,
    Graph,
    meta_of_text,
    parse_meta,
    read_graph_def,
    read_meta,
    read_saved_model,
    saved_meta_graph,
)
from lstmstate.checkpoint.locate import FROZEN, GENERATOR, V1, Location, locate
from lstmstate.checkpoint.tensor_bundle import Bundle
from lstmstate.checkpoint.variables import Variable
from lstmstate.errors import CorruptError, LstmstateError, located
from lstmstate.files.inputs import note_named
from lstmstate.files.reader import read_whole
from lstmstate.type_names import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lstmstate.checkpoint.frozen_graph import FrozenGraph
    from lstmstate.checkpoint.tensor_bundle_writer import BundleWriter
    from lstmstate.checkpoint.v1 import V1Checkpoint

__all__ = ["Checkpoint", "Graph", "Variable"]

_OF_FOLDER = "this is the graph of the folder, for the checkpoint has no .meta of its own"


class Checkpoint:
    """An open checkpoint: its variables by name, and its graph.

    Args:
        path: a prefix, any file of a checkpoint, a `checkpoint` file, or a folder; or a located
            checkpoint.
        checksums: whether the CRC32C of everything that is read must hold.

    Attributes:
        prefix: the name that Saver gave it.
        format: "v1", "v2", "saved_model", "object_based", "frozen_graph" or
            "generator_bundle".
        variables: every variable by the name that TensorFlow's own reader lists it under.
        notes: lines for the user on how it was read.

    Raises:
        LstmstateError: there is no checkpoint, or it cannot be read.
    """

    def __init__(self, path: str | Location, *, checksums: bool = True) -> None:
        self.location = location = path if isinstance(path, Location) else locate(path)
        note_named(lambda: location.read_files)
        self.prefix = self.location.prefix
        self.notes: list[str] = [self.location.note] if self.location.note else []
        self._graph_damage: str | None = None
        if self.location.graph and not self.location.has_own_graph:
            self.notes.append(f"{self.location.graph}: {_OF_FOLDER}")
        self._reader: Bundle | V1Checkpoint | FrozenGraph
        names: dict[str, str] = {}
        self._frozen: Graph | None = None
        self._packed_graph: Callable[[], bytes | None] | None = None
        self._close: Callable[[], None] = lambda: None  # most readers open a file for each value
        if self.location.format == V1:
            from lstmstate.checkpoint.v1 import V1Checkpoint

            self._reader = v1 = V1Checkpoint(self.location.files, checksums=checksums)
            self._close = v1.close
        elif self.location.format == FROZEN:
            from lstmstate.checkpoint.frozen_graph import FrozenGraph

            self._reader = found = FrozenGraph(self.prefix)
            self._frozen, self._packed_graph = found.graph, found.meta_graph
            self.notes += found.notes
        elif self.location.format == GENERATOR:
            from lstmstate.checkpoint.magenta_bundle import GeneratorBundle

            self._reader = bundle = GeneratorBundle(self.prefix, checksums=checksums)
            self._packed_graph, self._close = bundle.meta_graph, bundle.close
        else:
            self._reader = Bundle(self.prefix, checksums=checksums)
            self.notes += self._reader.data_problems()
            names = self._object_names(self._reader)
        self.object_based = object_graph.OBJECT_GRAPH_KEY in self._reader.specs
        specs, self._reader.specs = self._reader.specs, {}
        # Each is put in the place of its spec: there can be many, and a second dict takes memory.
        self.variables: dict[str, Variable] = specs  # type: ignore[assignment]
        for name, spec in specs.items():
            self.variables[name] = Variable(name, spec, self._reader, self.prefix, names.get(name))

    def close(self) -> None:
        """Close its files, after which no value can be read."""
        for variable in self.variables.values():
            variable.close()
        self._close()

    @property
    def format(self) -> str:
        """The name of the format, as reports give it."""
        if self.location.saved_model:
            return "saved_model"
        return "object_based" if self.object_based else self.location.format

    @property
    def data_files(self) -> tuple[str, ...]:
        """The files that hold the values."""
        return self._reader.data_files

    @property
    def big_endian(self) -> bool:
        """Whether its values are stored in the byte order of a big-endian machine."""
        return isinstance(self._reader, Bundle) and self._reader.big_endian

    def refuse_shared_bytes(self) -> None:
        """Refuse values that share bytes: a small file could declare any amount of them.

        Raises:
            CorruptError: the values take more bytes than their files have; it names a file that is
                missing or cut short.
        """
        if isinstance(self._reader, Bundle):
            sizes = [os.path.getsize(path) for path in self.data_files if os.path.isfile(path)]
            if self._reader.stored_bytes > sum(sizes):
                for problem in self._reader.data_problems():  # a missing file, for example
                    raise CorruptError(problem)
                raise CorruptError(
                    f"its values take {self._reader.stored_bytes} bytes, and its files have "
                    f"{sum(sizes)}",
                    path=self.prefix,
                )

    def copy(self, name: str, writer: BundleWriter) -> None:
        """Add a variable to a new V2 checkpoint: byte for byte out of another, or by value."""
        if isinstance(self._reader, Bundle):
            writer.copy(self._reader, name)
            return
        variable = self.variables[name]
        with located(self.prefix, name):
            value = variable.read()
            if variable.dtype == "string":
                writer.add_strings(name, value.astype(object))
            else:
                stored = to_bytes(value, variable.spec.dtype)
                writer.add(name, variable.spec.dtype, variable.shape, [stored])

    def read_parts(self, name: str) -> Iterator[NDArray[np.generic]]:
        """Yield the value of a variable along its first axis, some rows at a time.

        The checksum is verified on the way, so that damage may raise only after the last part. A
        scalar, and a value that is stored in slices or in other formats, comes whole.
        """
        variable = self.variables[name]
        spec = variable.spec
        is_plain = spec.dtype.itemsize and variable.shape and variable.size and not spec.slices
        if not isinstance(self._reader, Bundle) or not is_plain:
            yield variable.read()
            return
        row = math.prod(variable.shape[1:]) * spec.dtype.itemsize
        held: list[bytes] = []
        size = 0
        for chunk in self._reader.stored(name, row=row):
            held.append(chunk)
            size += len(chunk)
            if size >= row:
                data = b"".join(held)  # the same bytes, if it is one chunk
                end = size - size % row
                held, size = [data[end:]] * (end < size), size - end
                shape = (end // row, *variable.shape[1:])
                yield from_bytes(data[:end], spec.dtype, shape, big_endian=self.big_endian)

    @cached_property
    def graph(self) -> Graph | None:
        """The graph of the checkpoint, None if there is none to read."""
        path = self.location.graph
        if path is None:
            return None
        try:
            graph = self._read_graph(path)
        except LstmstateError as error:
            self._graph_damage = error.problem if isinstance(error, CorruptError) else None
            self.notes.append(f"{error}; going on without the graph")
            return None
        if graph.damage:
            self.notes.append(f"{path}: {graph.damage}; the graph in it is whole, and is read")
        return graph

    @property
    def graph_damage(self) -> str | None:
        """The damage of the graph file; None if it is whole, or missing."""
        return self._graph_damage if self.graph is None else self.graph.damage

    def _read_graph(self, path: str) -> Graph:
        """Read the graph; that of a folder only if it can be the graph of the checkpoint."""
        if self._frozen is not None:
            return self._frozen
        if self._packed_graph is not None:
            with located(path):
                return parse_meta(self._packed_graph() or b"")
        if self.location.saved_model:
            return read_saved_model(path)
        if self.location.has_own_graph:
            return read_meta(path)
        graph = read_graph_def(path)
        for variable in self.variables.values():
            node = graph.nodes.get(variable.path)
            made = node.shape() if node is not None and node.op in VARIABLE_OPS else None
            if made is not None and None not in made and made != variable.shape:
                raise LstmstateError(
                    f"{variable.path} is {list(made)} there, and {list(variable.shape)} in the "
                    "checkpoint: it is the graph of another model",
                    path=path,
                )
        return graph

    def meta_graph(self) -> bytes | None:
        """Return the graph as a MetaGraphDef, in bytes or as text; None for no graph.

        That of a folder is in it as it is, whether or not it is the graph of the checkpoint.

        Raises:
            LstmstateError: the file cannot be read, or is damaged.
        """
        path = self.location.graph
        if path is None:
            return None
        if self._packed_graph is not None:
            return self._packed_graph()
        if self.location.saved_model:
            return saved_meta_graph(path)
        data = read_whole(path, limits.MAX_GRAPH_BYTES, "a graph")
        return meta_of_text(data) if path.endswith(".pbtxt") else data

    def _object_names(self, bundle: Bundle) -> dict[str, str]:
        """Return the graph names of an object-based checkpoint, if they can be read."""
        if object_graph.OBJECT_GRAPH_KEY not in bundle.specs:
            return {}
        try:
            with located(self.prefix, object_graph.OBJECT_GRAPH_KEY):
                return object_graph.full_names(bundle.read_bytes(object_graph.OBJECT_GRAPH_KEY))
        except LstmstateError as error:
            if not bundle.data_problems():  # something else than a missing file
                self.notes.append(f"{error}; the names of objects in the graph are not known")
            return {}
