"""V1 checkpoints: one table that holds the list of variables and, behind it, their values.

The key "" holds a SavedTensorSlices with the list; every slice has a key of its own whose
SavedTensorSlices holds the values in a TensorProto. Source: TensorFlow
core/util/{saved_tensor_slice.proto,saved_tensor_slice_util.h,tensor_slice_writer.cc} (v1.15.0).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from lstmstate import limits
from lstmstate.checkpoint import dtypes
from lstmstate.checkpoint import protobuf as wire
from lstmstate.checkpoint.slices import Extents, encode_slice_key, parse_extents, region
from lstmstate.checkpoint.sstable import Table
from lstmstate.checkpoint.tensor_proto import listed_values
from lstmstate.checkpoint.variables import Spec, parse_shape
from lstmstate.errors import CorruptError, LstmstateError, located
from lstmstate.files.budget import Budget
from lstmstate.files.reader import ByteSource

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_NAME = 1 << 3 | wire.LENGTH_DELIMITED  # the key of the field of a name, which comes first
_LONG = 0x80  # bytes of a name: its length takes more than one byte


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
        # The file of a variable in one slice, or of each slice of another.
        self._homes: dict[str | tuple[str, Extents], str] = {}
        self.specs: dict[str, Spec] = {}
        try:
            for path in files:
                with located(path):
                    meta = self._table(path).get(b"")
                    if meta is None:
                        raise CorruptError("it has no list of variables")
                    for name, spec in _list(meta, self._sources[path].budget):
                        if name in self.specs or len(spec.slices) > 1:
                            self._add(name, spec, path)
                        else:
                            self.specs[name], self._homes[name] = spec, path
        except LstmstateError:
            self.close()
            raise
        self.specs = {name: self.specs[name] for name in sorted(self.specs)}

    def _add(self, name: str, spec: Spec, path: str) -> None:
        """Add what one file lists of a variable to what others list."""
        known = self.specs.get(name)
        slices = () if known is None else known.slices
        with located(tensor=name):
            if known is not None and (known.dtype, known.shape) != (spec.dtype, spec.shape):
                raise CorruptError("its shards do not agree")
            if len(slices) + len(spec.slices) > limits.MAX_SLICES:
                raise CorruptError(f"it is cut into more than {limits.MAX_SLICES} slices")
            for extents in spec.slices:
                if self._home(name, extents, slices) is not None:
                    raise CorruptError("a slice of it is there twice")
                self._homes[name, extents] = path
        self.specs[name] = spec._replace(slices=(*slices, *spec.slices))

    def _home(self, name: str, extents: Extents, slices: tuple[Extents, ...]) -> str | None:
        """Return the file of one of the slices of a variable, None if it is none of them."""
        alone = self._homes.get(name) if (extents,) == slices[:1] else None
        return alone or self._homes.get((name, extents))

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

    def read(self, name: str, spec: Spec, extents: Extents | None) -> NDArray[np.generic]:
        """Return one slice of a value; see `variables.Reader`."""
        assert extents is not None, "V1 files store every value as slices"
        shape = tuple(extent.length for extent in region(spec.shape, extents))
        path = self._home(name, extents, spec.slices)
        assert path is not None
        with located(path, name):
            key = encode_slice_key(wire.encode_text(name), extents)
            stored = self._table(path).get(key)
            if stored is None:
                raise CorruptError("it is listed, but its values are not there")
            # SavedTensorSlices.data (2) is a SavedSlice, whose data (3) is a TensorProto.
            slice_ = wire.message(wire.merge(wire.message(stored).get(2)))
            proto = wire.message(wire.merge(slice_.get(3)))
            value = listed_values(proto, spec.dtype)
            if value.size != math.prod(shape):
                raise CorruptError(f"{value.size} values are stored for the shape {list(shape)}")
            return value.reshape(shape)


def _list(stored: bytes, budget: Budget) -> Iterator[tuple[str, Spec]]:
    """Read SavedTensorSlices.meta (1): 1 repeated tensor {1 name, 2 shape, 3 type, 4 slice}."""
    meta = wire.message(wire.merge(wire.message(stored, budget).get(1)), budget)
    tensors = wire.all_bytes(meta.get(1))
    budget.spend(limits.LISTED, len(tensors))
    if sum(map(len, tensors)) > limits.MAX_NAMES_BYTES:
        raise CorruptError("its list of variables is too large to be one")
    kinds: dict[bytes, Spec] = {}  # by all that follows a name: there are few
    for data in tensors:
        behind = 2 + data[1] if len(data) > 1 and data[0] == _NAME and data[1] < _LONG else 0
        kind = kinds.get(data[behind:]) if behind else None
        if kind is not None:
            yield wire.text(data[2:behind]), kind
            continue
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
        spec = Spec(dtype, shape, slices)
        if behind and len(found.get(1, ())) == 1:
            kinds[data[behind:]] = spec
        yield name, spec
