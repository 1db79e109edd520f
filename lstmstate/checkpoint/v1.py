"""V1 checkpoints: one table that holds the list of variables and, behind it, their values.

The key "" holds a SavedTensorSlices with the list; every slice has a key of its own whose
SavedTensorSlices holds the values in a TensorProto. Source: TensorFlow
core/util/{saved_tensor_slice.proto,saved_tensor_slice_util.h,tensor_slice_writer.cc} (v1.15.0).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from lstmstate import limits
from lstmstate.checkpoint import dtypes
from lstmstate.checkpoint import protobuf as wire
from lstmstate.checkpoint.slice_keys import Extents, encode_slice_key
from lstmstate.checkpoint.sstable import Table
from lstmstate.checkpoint.tensor_proto import listed_values
from lstmstate.checkpoint.variables import Spec, parse_extents, parse_shape, region
from lstmstate.errors import CorruptError, LstmstateError, located
from lstmstate.files.budget import Budget
from lstmstate.files.reader import ByteSource

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class V1Checkpoint:
    """A V1 checkpoint of one file or many, listed from the first entry of each.

    Args:
        files: the shard files, in order.
        checksums: whether the CRC32C of each block must hold.
        sources: those of the files that are part of another one.
    """

    def __init__(
        self,
        files: tuple[str, ...],
        *,
        checksums: bool = True,
        sources: Mapping[str, ByteSource] = {},
    ) -> None:
        self.data_files = files
        self._sources = dict(sources)
        self._checksums = checksums
        self._tables: dict[str, Table] = {}
        self._homes: dict[tuple[str, Extents], str] = {}
        found: dict[str, tuple[Spec, list[Extents]]] = {}
        try:
            for path in files:
                with located(path):
                    meta = self._table(path).get(b"")
                    if meta is None:
                        raise CorruptError("it has no list of variables")
                    for spec in _list(meta, self._sources[path].budget):
                        self._add(spec, path, found)
        except LstmstateError:
            self.close()
            raise
        self.specs = {
            name: found[name][0]._replace(slices=tuple(found[name][1])) for name in sorted(found)
        }

    def _add(self, spec: Spec, path: str, found: dict[str, tuple[Spec, list[Extents]]]) -> None:
        """Add what one file lists of a variable to what others list."""
        known, slices = found.setdefault(spec.name, (spec, []))
        with located(tensor=spec.name):
            if (known.dtype, known.shape) != (spec.dtype, spec.shape):
                raise CorruptError("its shards do not agree")
            for extents in spec.slices:
                if (spec.name, extents) in self._homes:
                    raise CorruptError("a slice of it is there twice")
                if len(slices) >= limits.MAX_SLICES:
                    raise CorruptError(f"it is cut into more than {limits.MAX_SLICES} slices")
                self._homes[spec.name, extents] = path
                slices.append(extents)

    def _table(self, path: str) -> Table:
        """Return the table of a file, which stays open as long as this reader is in use."""
        if path not in self._tables:
            if path not in self._sources:
                self._sources[path] = ByteSource(path)
            self._tables[path] = Table(self._sources[path], checksums=self._checksums)
        return self._tables[path]

    def close(self) -> None:
        """Close the files."""
        for source in self._sources.values():
            source.close()

    def read(self, spec: Spec, extents: Extents | None) -> NDArray[np.generic]:
        """Return one slice of a value; see `variables.Reader`."""
        assert extents is not None, "V1 files store every value as slices"
        shape = tuple(extent.length for extent in region(spec.shape, extents))
        path = self._homes[spec.name, extents]
        with located(path, spec.name):
            name = spec.name.encode("utf-8", "surrogateescape")
            stored = self._table(path).get(encode_slice_key(name, extents))
            if stored is None:
                raise CorruptError("it is listed, but its values are not there")
            # SavedTensorSlices.data (2) is a SavedSlice, whose data (3) is a TensorProto.
            slice_ = wire.message(wire.merge(wire.message(stored).get(2)))
            proto = wire.message(wire.merge(slice_.get(3)))
            value = listed_values(proto, spec.dtype)
            if value.size != math.prod(shape):
                raise CorruptError(f"{value.size} values are stored for the shape {list(shape)}")
            return value.reshape(shape)


def _list(stored: bytes, budget: Budget) -> list[Spec]:
    """Read SavedTensorSlices.meta (1): 1 repeated tensor {1 name, 2 shape, 3 type, 4 slice}."""
    meta = wire.message(wire.merge(wire.message(stored, budget).get(1)), budget)
    tensors = wire.all_bytes(meta.get(1))
    budget.spend(limits.ENTRIES, len(tensors))
    specs = []
    if sum(map(len, tensors)) > limits.MAX_NAMES_BYTES:
        raise CorruptError("its list of variables is too large to be one")
    for data in tensors:
        found = wire.message(data, budget)
        name = wire.text(wire.last_bytes(found.get(1)))
        with located(tensor=name):
            shape = parse_shape(wire.merge(found.get(2)))
            stored_slices = wire.all_bytes(found.get(4))
            if not 0 < len(stored_slices) <= limits.MAX_SLICES:
                raise CorruptError(f"it is cut into {len(stored_slices)} slices")
            slices = tuple(map(parse_extents, stored_slices))
            for extents in slices:
                region(shape, extents)
            dtype = dtypes.by_number(wire.last_int32(found.get(3)))
            specs.append(Spec(name, dtype, shape, slices))
    return specs
