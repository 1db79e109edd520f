"""V2 checkpoints, "tensor bundles": an index table, and data files of raw bytes.

Source: TensorFlow core/protobuf/tensor_bundle.proto and
core/util/tensor_bundle/{tensor_bundle,naming}.cc (v1.15.0).
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator
from itertools import pairwise

import google_crc32c

from lstmstate import limits
from lstmstate.checkpoint import dtypes
from lstmstate.checkpoint import protobuf as wire
from lstmstate.checkpoint.dtypes import DType
from lstmstate.checkpoint.protobuf import encode_varint
from lstmstate.checkpoint.slices import Extents, decode_slice_key, parse_extents, region
from lstmstate.checkpoint.sstable import Table, masked, masked_crc
from lstmstate.checkpoint.variables import Shape, Spec, parse_shape
from lstmstate.errors import (
    CorruptError,
    LstmstateError,
    MissingFileError,
    NotFoundError,
    UnsupportedError,
    first_of,
    located,
)
from lstmstate.files.reader import ByteSource
from lstmstate.named_tuple import NamedTuple
from lstmstate.type_names import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BUNDLE_VERSION = 1  # kTensorBundleVersion: the newest layout there is
_LITTLE, _BIG = 0, 1
CHUNK_BYTES = limits.MIB // 2  # while one chunk is used the next is read: 1 MiB together
_PAGE_BYTES = 1 << 16  # of values that are read together
_LENGTHS_BYTES = 1 << 13  # of the lengths of strings, which take much more room as numbers
_CONTINUED = bytes(range(0x80, 0x100))  # the bytes of a varint that do not end it
_LISTED = 3  # damaged data files that are named
_DAMAGED = "its checksum does not match: the data file is damaged, or of another checkpoint"


class Entry(NamedTuple):
    """A BundleEntryProto: the place of the bytes of a tensor, or of a slice."""

    dtype: DType
    shape: Shape
    shard: int
    offset: int
    size: int
    crc: int
    slices: tuple[Extents, ...]


class _Kind(NamedTuple):
    """A dtype and shape, as entries begin with them: one for all variables that are alike.

    Attributes:
        size: `nbytes` as an entry has it.
    """

    spec: Spec
    nbytes: int
    size: bytes | None


# An entry as TensorFlow writes it: dtype and shape; then data file, offset, size and checksum.
_HEAD = re.compile(rb"\x08[\x00-\x7f](?:\x12[\x00-\x7f]|(?!\x12))", re.DOTALL)
_SHAPE_TAG = 0x12  # a shape of up to 127 bytes has one byte of length behind it
_PLACE = re.compile(
    rb"(?:\x18([\x00-\x7f]))?(?:\x20([\x80-\xff]{0,8}[\x00-\x7f]))?"
    rb"(?:\x28([\x80-\xff]{0,8}[\x00-\x7f]))?(?:\x35(.{4}))?",
    re.DOTALL,
)


class _Page(NamedTuple):
    """Bytes of a data file that were read together: those of some small values, one after another.

    Attributes:
        end: where the next page begins, if the values behind it are read next.
    """

    shard: int = -1
    start: int = 0
    data: bytes = b""

    @property
    def end(self) -> int:
        return self.start + len(self.data)


class Bundle:
    """A V2 checkpoint, listed from its index alone.

    Args:
        prefix: the path without `.index`.
        checksums: whether the CRC32C of blocks and values must hold.
    """

    def __init__(self, prefix: str, *, checksums: bool = True) -> None:
        self._prefix = prefix
        self._checksums = checksums
        self._entries: dict[str, bytes] = {}  # decoded when they are asked for: there can be many
        self._slices: dict[tuple[str, Extents], Entry] = {}
        self._kinds: dict[bytes, _Kind] = {}  # a checkpoint has few, and many variables of each
        self._ends: dict[int, int] = {}  # data file → the end of its last value
        self._not_pointers: set[str] = set()  # data files whose start was looked at
        self._page = _Page()
        self.specs: dict[str, Spec] = {}
        self.stored_bytes = 0
        index = f"{prefix}.index"
        with ByteSource(index) as source, located(index):
            if source.size > limits.MAX_INDEX_BYTES:
                raise UnsupportedError(f"an index of {source.size} bytes is too large to be one")
            self._budget = source.budget
            self._parse(Table(source, checksums=checksums))

    @property
    def data_files(self) -> tuple[str, ...]:
        """The data files of the index, including missing ones."""
        return tuple(map(self._data_file, sorted(self._ends)))

    @property
    def big_endian(self) -> bool:
        """Whether the values are stored in the byte order of a big-endian machine."""
        return self._big_endian

    def _parse(self, table: Table) -> None:
        """Read the header, which is the first key, and check all entries: slices come first."""
        entries = iter(table)
        key, value = next(entries, (None, b""))
        if key != b"":
            raise CorruptError("the index has no header")
        header = wire.message(value, self._budget)
        self._shards = wire.last_int32(header.get(1))
        self._big_endian = wire.last_int32(header.get(2), _LITTLE) == _BIG
        version = wire.message(wire.merge(header.get(3)), self._budget)
        if wire.last_int32(version.get(2)) > _BUNDLE_VERSION:
            raise UnsupportedError("its format is newer than all releases of TensorFlow 1")
        names = 0
        for key, value in entries:
            assert key is not None
            names += len(key)
            if len(key) > limits.MAX_NAME_BYTES or names > limits.MAX_NAMES_BYTES:
                raise CorruptError("its names are too long to be names of variables")
            if key[0] == 0:
                stored, extents = decode_slice_key(key)
                name = wire.text(stored)
                self._slices[name, extents] = self._checked_entry(name, value)
            else:
                name = key.decode("utf-8", "surrogateescape")
                self._entries[name] = value
                plain = self._plain_entry(value)
                if plain:
                    kind, shard, offset, _ = plain
                    self._note_place(shard, offset + kind.nbytes, kind.nbytes)
                self.specs[name] = kind.spec if plain else self._spec(name, value)

    def _plain_entry(self, data: bytes) -> tuple[_Kind, int, int, int] | None:
        """Return the kind, data file, offset and checksum of an entry of a known kind.

        None for one that is not written as TensorFlow does, which may be damaged; `_parse_entry`
        reads any, and takes longer.
        """
        start = _end_of_head(data)
        kind = self._kinds.get(data[:start])
        place = _PLACE.fullmatch(data, start) if kind is not None else None
        if kind is None or place is None or place[3] != kind.size:
            return None
        shard = place[1][0] if place[1] else 0
        offset = 0
        for number, byte in enumerate(place[2] or b""):
            offset += (byte & 0x7F) << 7 * number
        if offset + kind.nbytes > limits.MAX_INT64 or shard >= self._shards:
            return None
        crc = int.from_bytes(place[4] or b"", "little")
        return kind, shard, offset, crc

    def _note_place(self, shard: int, end: int, size: int) -> None:
        if end > self._ends.get(shard, -1):
            self._ends[shard] = end
        self.stored_bytes += size

    def _spec(self, name: str, data: bytes) -> Spec:
        """Return the spec of any entry; check that all slices of it are there."""
        entry = self._checked_entry(name, data)
        parts = []
        for extents in entry.slices:
            part = self._slices.get((name, extents))
            with located(tensor=name):
                lengths = tuple(extent.length for extent in region(entry.shape, extents))
                if part is None or part.dtype != entry.dtype or part.shape != lengths:
                    raise CorruptError("a slice of it is missing or does not fit")
            parts.append(part)
        _refuse_overlap(name, parts)
        stored = sum(part.size for part in parts) if parts else entry.size
        spec = Spec(entry.dtype, entry.shape, entry.slices, stored)
        start = _end_of_head(data)
        is_plain = _HEAD.match(data) and _PLACE.fullmatch(data, start)
        if is_plain and entry.dtype.itemsize and not parts:
            size = encode_varint(stored) if stored else None
            self._kinds[data[:start]] = _Kind(spec, stored, size)
        return spec

    def _checked_entry(self, name: str, data: bytes) -> Entry:
        """Read the entry of a variable or of a slice of it, and pay for its fields."""
        try:
            entry = self._parse_entry(data, pays=True)
        except LstmstateError as error:  # `located` takes longer, and there are many
            error.tensor = name
            raise
        self._note_place(entry.shard, entry.offset + entry.size, entry.size)
        return entry

    def _parse_entry(self, data: bytes, *, pays: bool = False) -> Entry:
        """Read a BundleEntryProto and hold its numbers against one another."""
        found = wire.message(data, self._budget if pays else None)
        if pays:
            self._budget.spend(limits.FIELDS, len(found))
        slices = found.get(7, ())
        if len(slices) > limits.MAX_SLICES:
            raise CorruptError(f"it is cut into {len(slices)} slices")
        entry = Entry(
            dtype=dtypes.by_number(wire.last_int32(found.get(1))),
            shape=parse_shape(wire.merge(found.get(2))),
            shard=wire.last_int32(found.get(3)),
            offset=wire.signed(wire.last_int(found.get(4))),
            size=wire.signed(wire.last_int(found.get(5))),
            crc=wire.last_int(found.get(6)),
            slices=tuple(map(parse_extents, wire.all_bytes(found.get(7)))) if slices else (),
        )
        if entry.offset < 0 or entry.size < 0 or entry.offset + entry.size > limits.MAX_INT64:
            raise CorruptError(f"it is declared at byte {entry.offset}, {entry.size} bytes long")
        if not 0 <= entry.shard < self._shards:
            raise CorruptError(f"it is declared in data file {entry.shard} of {self._shards}")
        elements = math.prod(entry.shape)
        length = elements * entry.dtype.itemsize
        if entry.dtype.itemsize and not entry.slices and entry.size != length:
            raise CorruptError(f"{entry.size} bytes are stored for a value of {length}")
        if entry.dtype is dtypes.STRING and not entry.slices and entry.size < elements:
            raise CorruptError(f"{entry.size} bytes cannot hold {elements} strings")
        return entry

    def _data_file(self, shard: int) -> str:
        return f"{self._prefix}.data-{shard:05d}-of-{self._shards:05d}"

    def _missing(self) -> str:
        """Return the problem of a missing data file; those of another number of files are named.

        The index has the number, as for TensorFlow: no other file is read in its place.
        """
        import glob

        found = sorted(glob.glob(f"{glob.escape(self._prefix)}.data-*-of-*"))
        names = [os.path.basename(path) for path in found]
        others = [name for name in names if not name.endswith(f"-of-{self._shards:05d}")]
        known = f" (not of this index: {first_of(others, _LISTED)})" if others else ""
        return f"the data file is missing{known}"

    def data_problems(self) -> list[str]:
        """Return the problems of the data files that their sizes show."""
        problems = []
        for shard, size in self._ends.items():
            path = self._data_file(shard)
            try:
                with ByteSource(path) as source:
                    if source.size < size:
                        source.refuse_pointer("the data file")
                        problems.append(f"{path}: it is cut short: {source.size} of {size} bytes")
            except NotFoundError:
                problems.append(f"{path}: {self._missing()}: values cannot be read")
            except LstmstateError as error:
                problems.append(str(error))
            if len(problems) == _LISTED and len(self._ends) > _LISTED:
                many = f"there are {len(self._ends)} data files; others may be wrong too"
                return [*problems, many]
        return problems

    def read(self, name: str, spec: Spec, extents: Extents | None) -> NDArray[np.generic]:  # noqa: ARG002
        """Return a whole value, or one slice of it; see `variables.Reader`."""
        entry = self.entry(name, extents)
        path = self._data_file(entry.shard)
        if entry.dtype is not dtypes.STRING and not entry.dtype.itemsize:
            raise UnsupportedError(f"values of dtype {entry.dtype.name} cannot be read")
        with located(path, name):
            data = self._fetch(path, entry)
            if entry.dtype is dtypes.STRING:
                return self._strings(data, entry)
            if self._checksums and masked_crc(data) != entry.crc:
                raise CorruptError(_DAMAGED)
            return dtypes.from_bytes(data, entry.dtype, entry.shape, big_endian=self._big_endian)

    def entry(self, name: str, extents: Extents | None = None) -> Entry:
        """Return the entry of a variable, or of one of its slices.

        The entry of a partitioned variable has slices, and no bytes of its own.
        """
        if extents is None and name in self._entries:
            data = self._entries[name]
            plain = self._plain_entry(data)
            if plain:
                kind, shard, offset, crc = plain
                return Entry(kind.spec.dtype, kind.spec.shape, shard, offset, kind.nbytes, crc, ())
            return self._parse_entry(data)
        found = self._slices.get((name, extents)) if extents is not None else None
        if found is None:
            raise NotFoundError("it is not in this checkpoint", path=self._prefix, tensor=name)
        return found

    def stored(self, name: str, extents: Extents | None = None, *, row: int = 1) -> Iterator[bytes]:
        """Yield the bytes of an entry as they are stored, at most `CHUNK_BYTES` at a time.

        They come in whole rows, of `row` bytes, if as many fit.

        The checksum is verified on the way, so that damage may raise only after the last
        chunk: a caller must be ready to discard the chunks before. For dtypes whose values this
        program cannot read, the rule of the checksum is unknown; they are not verified.
        """
        entry = self.entry(name, extents)
        path = self._data_file(entry.shard)
        strings = entry.dtype is dtypes.STRING
        with located(path, name), self._open(path) as source:
            # Strings have a rule of their own up to `start`; all that follows counts as it is.
            start, crc = self._lengths(source, entry) if strings else (entry.offset, 0)
            end = entry.offset + entry.size
            step = CHUNK_BYTES // row * row or CHUNK_BYTES
            for at in range(entry.offset, end, step):
                chunk = source.read(at, min(step, end - at), "this value")
                crc = google_crc32c.extend(crc, chunk[max(start - at, 0) :])
                yield chunk
            known = self._checksums and (strings or entry.dtype.itemsize)
            if known and masked(crc) != entry.crc:
                raise CorruptError(_DAMAGED)

    def _lengths(self, source: ByteSource, entry: Entry) -> tuple[int, int]:
        """Verify the lengths of strings; return where they end, and their CRC. See `_strings`."""
        at, end = entry.offset, entry.offset + entry.size
        left, crc, total = math.prod(entry.shape), 0, 0
        while left:
            data = source.read(at, min(_LENGTHS_BYTES, end - at), "the lengths of its strings")
            whole = len(data.rstrip(_CONTINUED))  # the last varint may go on behind the data
            lengths: list[int] = []
            position = 0
            while position < whole and len(lengths) < left:
                length, position = wire.varint(data, position)
                lengths.append(length)
            if not lengths:
                raise CorruptError("the lengths of its strings do not end")
            at += position
            left -= len(lengths)
            total += sum(lengths)
            crc = google_crc32c.extend(crc, pack_lengths(lengths, big_endian=self._big_endian))
        if at + 4 + total != end:
            raise CorruptError("its strings do not fill the bytes that are stored for it")
        if self._checksums:
            order: Literal["big", "little"] = "big" if self._big_endian else "little"
            if masked(crc) != int.from_bytes(source.read(at, 4, "a checksum"), order):
                raise CorruptError(_DAMAGED)
        return at, crc

    def read_bytes(self, name: str) -> bytes:
        """Return the one element of a string scalar, such as the object graph."""
        entry = self.entry(name)
        if entry.dtype is not dtypes.STRING or entry.shape or entry.slices:
            raise CorruptError("it is not one string", tensor=name)
        if entry.size > limits.MAX_GRAPH_BYTES:
            raise UnsupportedError(f"a graph of {entry.size} bytes is too large to be one")
        element: bytes = self.read(name, self.specs[name], None).item()
        return element

    def _fetch(self, path: str, entry: Entry) -> bytes:
        """Read all of an entry's bytes; with those behind them, if values are read in their order.

        A file is opened once for a page of values: to open it takes longer than to read one.
        """
        page = self._page  # looked at once: another thread may replace it at any moment
        start = entry.offset - page.start
        if page.shard == entry.shard and start >= 0 and start + entry.size <= len(page.data):
            return page.data[start : start + entry.size]
        with self._open(path) as source:
            follows = page.shard == entry.shard and page.start <= entry.offset <= page.end
            ahead = min(_PAGE_BYTES, source.size - entry.offset) if follows else 0
            data = source.read(entry.offset, max(entry.size, ahead), "this value")
        if len(data) <= _PAGE_BYTES:
            self._page = _Page(entry.shard, entry.offset, data)
        return data if len(data) == entry.size else data[: entry.size]

    def _open(self, path: str) -> ByteSource:
        """Open a data file; a missing one has an error of its own."""
        try:
            source = ByteSource(path)
        except NotFoundError:
            raise MissingFileError(
                f"{self._missing()}: only names, shapes and dtypes are known",
                path=path,
                advice=f"put {os.path.basename(path)} next to the index",
            ) from None
        if path not in self._not_pointers:
            source.refuse_pointer("the data file")
            self._not_pointers.add(path)
        return source

    def _strings(self, data: bytes, entry: Entry) -> NDArray[np.generic]:
        """Unpack strings: varint lengths, a masked CRC of the lengths, then all the bytes.

        The entry's CRC runs over the lengths as uint32 (uint64 where larger), the four bytes
        of the first CRC, and the bytes.
        """
        import numpy as np

        lengths = []
        at = 0
        for _ in range(math.prod(entry.shape)):
            length, at = wire.varint(data, at)
            lengths.append(length)
        if at + 4 + sum(lengths) != len(data):
            raise CorruptError("its strings do not fill the bytes that are stored for it")
        if self._checksums:
            order: Literal["big", "little"] = "big" if self._big_endian else "little"
            numbers = pack_lengths(lengths, big_endian=self._big_endian)
            stored = int.from_bytes(data[at : at + 4], order)
            if masked_crc(numbers) != stored or masked_crc(numbers, data[at:]) != entry.crc:
                raise CorruptError(_DAMAGED)
        at += 4
        value = np.empty(len(lengths), object)
        for number, length in enumerate(lengths):
            value[number] = data[at : at + length]
            at += length
        return value.reshape(entry.shape)


def _end_of_head(data: bytes) -> int:
    """Return where the dtype and the shape of an entry end that begins with them."""
    has_shape = len(data) > 3 and data[2] == _SHAPE_TAG
    return data[3] + 4 if has_shape else 2


def _refuse_overlap(name: str, parts: list[Entry]) -> None:
    """Refuse slices that share bytes: a small file could declare any amount of memory."""
    ranges = sorted((part.shard, part.offset, part.size) for part in parts)
    for (shard, offset, size), (next_shard, next_offset, _) in pairwise(ranges):
        if shard == next_shard and offset + size > next_offset:
            raise CorruptError("two slices of it share bytes of the data file", tensor=name)


def pack_lengths(lengths: Iterable[int], *, big_endian: bool) -> bytes:
    """Return the lengths of strings as a checksum takes them: uint32, uint64 where larger."""
    order: Literal["big", "little"] = "big" if big_endian else "little"
    return b"".join(n.to_bytes(4 if n < 1 << 32 else 8, order) for n in lengths)
