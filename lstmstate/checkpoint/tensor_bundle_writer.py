"""V2 checkpoints, written: the bytes that TensorFlow itself writes for the same tensors.

    with open(f"{prefix}.data-00000-of-00001", "wb") as data:
        writer = BundleWriter(data)
        writer.copy(Bundle(source), "rnn/basic_lstm_cell/bias")
        writer.add("state", dtypes.by_number(1), (2, 8), [array.data])
    with open(f"{prefix}.index", "wb") as index:
        writer.write_index(index)

Values follow one another in the data file as they are added, without gaps; TensorFlow's
SaveV2 has them in the order of its `tensor_names`, and `tf.train.Saver` sorts those by name.
Source: TensorFlow core/util/tensor_bundle/tensor_bundle.cc (BundleWriter),
core/protobuf/tensor_bundle.proto and core/framework/{tensor_shape,tensor_slice}.proto
(v1.15.0; as in 2.21).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import IO, TYPE_CHECKING, Literal

import google_crc32c

from lstmstate import limits
from lstmstate.checkpoint import dtypes
from lstmstate.checkpoint.dtypes import DType
from lstmstate.checkpoint.protobuf import (
    bytes_field,
    encode_text,
    encode_varint,
    fixed32_field,
    int_field,
)
from lstmstate.checkpoint.slices import WHOLE_AXIS, Extent, Extents, encode_slice_key
from lstmstate.checkpoint.sstable import masked
from lstmstate.checkpoint.sstable_writer import write_table
from lstmstate.checkpoint.tensor_bundle import Bundle, Entry, pack_lengths
from lstmstate.checkpoint.variables import Shape
from lstmstate.errors import LstmstateError, UnsupportedError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from typing_extensions import Buffer

_PRODUCER = 1  # kTensorBundleVersion
_NUMBERS = {dtype: number for number, dtype in dtypes.BY_NUMBER.items()}


class BundleWriter:
    """A V2 checkpoint of one data file, in the making.

    What fails to be added leaves at most unused bytes in the data file: the writer can go on.

    Args:
        data: the data file, open for writing, empty and buffered; nothing is read or sought.
        big_endian: whether the bytes that are added are in the order of a big-endian machine.
    """

    def __init__(self, data: IO[bytes], *, big_endian: bool = False) -> None:
        self._data = data
        self._size = 0
        self._big_endian = big_endian
        self._order: Literal["big", "little"] = "big" if big_endian else "little"
        self._entries: dict[bytes, bytes] = {}

    def add(self, name: str, dtype: DType, shape: Shape, parts: Iterable[Buffer]) -> None:
        """Append a numeric tensor.

        Args:
            name: its key.
            dtype: its element type; bfloat16 as the 16-bit patterns that are stored.
            shape: its full shape.
            parts: its bytes in C order, in the byte order of the file; one part after another
                is held in memory.
        """
        key = self._new_key(name)
        if not dtype.itemsize:
            raise UnsupportedError(f"{dtype.name} is not a numeric dtype", tensor=name)
        offset, crc = self._size, 0
        for part in parts:
            # The checksum takes nothing but bytes; memoryview lets no number pass for a size.
            data = memoryview(part).tobytes()
            crc = google_crc32c.extend(crc, data)
            self._write(data)
        size, expected = self._size - offset, math.prod(shape) * dtype.itemsize
        if size != expected:
            raise LstmstateError(
                f"{size} bytes were given for {dtype.name} {list(shape)}, which has {expected}",
                tensor=name,
            )
        self._enter(key, Entry(dtype, shape, 0, offset, size, masked(crc), ()))

    def add_strings(self, name: str, value: NDArray[np.object_]) -> None:
        """Append a string tensor.

        Args:
            name: its key.
            value: an array of `bytes`, of any shape.
        """
        key = self._new_key(name)
        elements = value.ravel().tolist()
        if not all(isinstance(element, bytes) for element in elements):
            raise LstmstateError("strings are stored as bytes", tensor=name)
        lengths = [len(element) for element in elements]
        crc = google_crc32c.value(pack_lengths(lengths, big_endian=self._big_endian))
        checksum = masked(crc).to_bytes(4, self._order)
        offset = self._size
        self._write(b"".join(map(encode_varint, lengths)))
        for data in (checksum, *elements):
            crc = google_crc32c.extend(crc, data)
            self._write(data)
        size = self._size - offset
        self._enter(key, Entry(dtypes.STRING, value.shape, 0, offset, size, masked(crc), ()))

    def copy(self, source: Bundle, name: str) -> None:
        """Append a variable of another checkpoint byte for byte, with all its slices.

        Its checksums are kept; where `source` verifies checksums, they are verified. No more
        than 1 MiB of the value is in memory at a time.
        """
        if source.big_endian != self._big_endian:
            raise LstmstateError("it is stored in the other byte order", tensor=name)
        entry = source.entry(name)
        key = self._new_key(name)
        if not entry.slices:
            self._enter(key, self._copied(source, name, None))
            return
        parts = {
            encode_slice_key(key, extents): self._copied(source, name, extents)
            for extents in entry.slices
        }
        for slice_key, part in parts.items():  # none of them before all are whole
            self._enter(slice_key, part)
        self._enter(key, entry._replace(shard=0, offset=0, size=0, crc=0))

    def index(self) -> Iterator[bytes]:
        """Yield the bytes of the index file, for all that has been added."""
        header = int_field(1, 1) + int_field(2, self._big_endian)  # num_shards, endianness
        header += bytes_field(3, int_field(1, _PRODUCER))
        return write_table([(b"", header), *sorted(self._entries.items())])

    def write_index(self, file: IO[bytes]) -> None:
        """Write the index file, which belongs next to the data file once that is complete."""
        file.writelines(self.index())

    def _copied(self, source: Bundle, name: str, extents: Extents | None) -> Entry:
        """Append the bytes of an entry; return the entry for their new place."""
        offset = self._size
        for chunk in source.stored(name, extents):
            self._write(chunk)
        return source.entry(name, extents)._replace(shard=0, offset=offset)

    def _write(self, data: bytes) -> None:
        self._data.write(data)
        self._size += len(data)

    def _enter(self, key: bytes, entry: Entry) -> None:
        self._entries[key] = _encode_entry(entry)

    def _new_key(self, name: str) -> bytes:
        """Return the key of a variable; the empty one and those from zero have other uses."""
        try:
            key = encode_text(name)
        except UnicodeEncodeError:
            raise LstmstateError("its name has no UTF-8 form", tensor=name) from None
        if not 0 < len(key) <= limits.MAX_NAME_BYTES or key[0] == 0:
            raise LstmstateError("a variable cannot have such a name", tensor=name)
        if key in self._entries:
            raise LstmstateError("it is there already: names must be unique", tensor=name)
        return key


def _encode_entry(entry: Entry) -> bytes:
    """Return a BundleEntryProto, its fields in order, its shape there even if it is a scalar's."""
    number = _NUMBERS.get(entry.dtype) or int(entry.dtype.name.removeprefix("dtype "))
    return b"".join(
        [
            int_field(1, number),
            bytes_field(2, b"".join(bytes_field(2, int_field(1, size)) for size in entry.shape)),
            int_field(3, entry.shard),
            int_field(4, entry.offset),
            int_field(5, entry.size),
            fixed32_field(6, entry.crc),
            *(bytes_field(7, b"".join(map(_encode_extent, extents))) for extents in entry.slices),
        ]
    )


def _encode_extent(extent: Extent) -> bytes:
    """Return one axis of a TensorSliceProto; one that is whole has neither start nor length."""
    if extent.length == WHOLE_AXIS:
        return bytes_field(1, b"")
    return bytes_field(1, int_field(1, extent.start) + int_field(2, extent.length, always=True))
