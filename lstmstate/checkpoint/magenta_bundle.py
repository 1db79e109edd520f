"""Bundles of Magenta's music generators (`.mag`): a V1 checkpoint and its graph in one file.

GeneratorBundle: 1 generator_details, 2 repeated checkpoint_file, 3 metagraph_file, 4
bundle_details. Source: magenta/protobuf/generator.proto.
"""

from __future__ import annotations

from lstmstate import limits
from lstmstate.checkpoint import protobuf as wire
from lstmstate.checkpoint.v1 import V1Checkpoint
from lstmstate.errors import CorruptError, UnsupportedError, located
from lstmstate.files.reader import ByteSource

_MAX_FIELDS = 100  # a bundle has four
_MAX_KEY_BYTES = 20  # a key and a length, ten bytes each at most


class GeneratorBundle(V1Checkpoint):
    """A bundle; its values are read from the file, at their offsets.

    Args:
        path: the file.
        checksums: whether the CRC32C of each block must hold.
    """

    def __init__(self, path: str, *, checksums: bool = True) -> None:
        self._path = path
        with located(path), ByteSource(path) as source:
            checkpoint, self._graph = _parts(source)
        super().__init__((path,), checksums=checksums, sources={path: checkpoint})

    def close(self) -> None:
        """Close the file."""
        super().close()
        if self._graph is not None:
            self._graph.close()

    def meta_graph(self) -> bytes | None:
        """Return the bytes of its MetaGraphDef, None if it has none."""
        if self._graph is None:
            return None
        if self._graph.size > limits.MAX_GRAPH_BYTES:
            raise UnsupportedError(
                f"a graph of {self._graph.size} bytes is larger than the "
                f"{limits.MAX_GRAPH_BYTES} that are read",
                path=self._path,
            )
        return self._graph.read(0, self._graph.size, "the graph")


def _parts(source: ByteSource) -> tuple[ByteSource, ByteSource | None]:
    """Return the checkpoint and the graph as parts of the file; only keys of fields are read."""
    found: dict[int, list[ByteSource]] = {2: [], 3: []}
    at = fields = 0
    while at < source.size:
        start = source.read(at, min(_MAX_KEY_BYTES, source.size - at), "a field")
        key, behind = wire.varint(start, 0)
        length, behind = wire.varint(start, behind)
        fields += 1
        if key & 7 != wire.LENGTH_DELIMITED or fields > _MAX_FIELDS:
            raise CorruptError("this is a damaged bundle of a music generator")
        at += behind
        if length > source.size - at:
            raise CorruptError(
                f"the bundle is cut short: {length - source.size + at} bytes are missing",
                advice="copy it again from where it came from",
            )
        found.setdefault(key >> 3, []).append(source.part(at, length))
        at += length
    if len(found[2]) != 1:
        raise UnsupportedError(f"this bundle has {len(found[2])} checkpoint files, and not 1")
    return found[2][0], found[3][-1] if found[3] else None
