"""Sorted tables, the format of V1 checkpoints and V2 indexes (LevelDB's, nearly).

    file    data block ... | meta block (empty) | index block | footer
    block   entry ... | restart position, uint32 ... | their number, uint32 | trailer
    entry   shared, unshared, value length, varints | unshared bytes of the key | value
    trailer compression, 1 byte | masked CRC32C, 4 bytes; not counted in a block's size
    handle  offset, varint | size, varint: the place of a block
    footer  handle of the meta block | handle of the index block | zeros up to 40 | magic, 8 bytes

A key begins with `shared` bytes of the key before it. An entry of the index block has a key that is
not below those of a data block, and the handle of that block as its value. It is read from the end.
Format and constants: TensorFlow core/lib/io/format.cc, table_builder.cc, block_builder.cc
(v1.15.0); checksums: core/lib/hash/crc32c.h.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator

import google_crc32c

from lstmstate import limits
from lstmstate.checkpoint.protobuf import encode_varint, varint
from lstmstate.errors import CorruptError, MissingExtraError, located
from lstmstate.files.reader import ByteSource
from lstmstate.named_tuple import NamedTuple

MAGIC = bytes.fromhex("57fb808b247547db")  # kTableMagicNumber, little endian
FOOTER_BYTES = 48
_TRAILER_BYTES = 5  # one byte of compression type, four of masked CRC32C
_UNCOMPRESSED, _SNAPPY = 0, 1
_PAID_AT_ONCE = 1024  # entries


class BlockHandle(NamedTuple):
    """The place of a block; its trailer follows it and is not counted."""

    offset: int
    size: int

    @classmethod
    def decode(cls, data: bytes, at: int) -> tuple[BlockHandle, int]:
        """Return the handle that begins at a byte, and the byte after it."""
        offset, at = varint(data, at)
        size, at = varint(data, at)
        return cls(offset, size), at

    def encode(self) -> bytes:
        """Return the bytes that `decode` reads."""
        return encode_varint(self.offset) + encode_varint(self.size)


class Footer(NamedTuple):
    """The end of a table: the places of its block of metadata and of its index."""

    meta_block: BlockHandle
    index_block: BlockHandle

    @classmethod
    def decode(cls, data: bytes) -> Footer:
        """Return the footer in the last `FOOTER_BYTES` of a table."""
        meta_block, at = BlockHandle.decode(data, 0)
        return cls(meta_block, BlockHandle.decode(data, at)[0])

    def encode(self) -> bytes:
        """Return the bytes that `decode` reads."""
        handles = self.meta_block.encode() + self.index_block.encode()
        return handles.ljust(FOOTER_BYTES - len(MAGIC), b"\0") + MAGIC


def masked_crc(*parts: bytes) -> int:
    """Return the CRC32C of `parts` as TensorFlow stores it: rotated, and a constant added.

    >>> hex(masked_crc(b"1234", b"56789"))
    '0xc78ab0e5'
    """
    crc = 0
    for part in parts:
        crc = google_crc32c.extend(crc, part)
    return masked(crc)


def masked(crc: int) -> int:
    """Return a CRC32C as TensorFlow stores it; see `masked_crc`."""
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


class Table:
    """A sorted table over an open file; blocks are read when they are asked for.

    Args:
        source: the file.
        checksums: whether the CRC32C of each block must hold.
    """

    def __init__(self, source: ByteSource, *, checksums: bool = True) -> None:
        self._source = source
        self._checksums = checksums
        at = source.size - FOOTER_BYTES
        footer = source.read(max(at, 0), min(FOOTER_BYTES, source.size), "the footer of the table")
        if len(footer) < FOOTER_BYTES or footer[-8:] != MAGIC:
            source.refuse_pointer()
            raise CorruptError(
                "it does not end as a checkpoint does: not one, or cut short",
                path=source.path,
                advice="copy it again from where it came from",
            )
        with located(source.path):
            index = Footer.decode(footer).index_block
        self._last_keys: list[bytes] = []
        self._blocks: list[BlockHandle] = []
        self._kept: tuple[int, dict[bytes, bytes]] = (-1, {})  # the block last read by `get`
        self._unpacked: set[int] = set()  # the packed blocks that were read, by their places
        for key, value in self._entries(index, None):
            with located(source.path):
                if not (len(self._blocks) + 1) % _PAID_AT_ONCE:
                    self._pay()
                self._last_keys.append(key)
                self._blocks.append(BlockHandle.decode(value, 0)[0])

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield every (key, value), keys strictly increasing."""
        last: bytes | None = None
        count = 0
        for limit, block in zip(self._last_keys, self._blocks, strict=True):
            before = count
            for entry in self._entries(block, last):
                last = entry[0]
                count += 1
                if not count % _PAID_AT_ONCE:
                    self._pay()
                yield entry
            if last is None or last > limit or count == before:
                raise self._corrupt("its index of blocks does not fit the blocks")

    def get(self, key: bytes) -> bytes | None:
        """Return the value of `key`, reading one block, or None if there is none."""
        number = bisect.bisect_left(self._last_keys, key)
        if number == len(self._blocks):
            return None
        kept, entries = self._kept  # looked at once: another thread may replace it at any moment
        if kept != number:
            block = self._blocks[number]
            entries = dict(self._entries(block, None))
            # A block with a large value is read for it alone, and any other for more values.
            is_small = len(entries.get(key, b"")) <= limits.KEPT_VALUE_BYTES
            if is_small and block.size <= limits.KEPT_BLOCK_BYTES:
                self._kept = number, entries
        return entries.get(key)

    def _pay(self) -> None:
        """Pay for many entries."""
        with located(self._source.path):
            self._source.budget.spend(limits.ENTRIES, _PAID_AT_ONCE)

    def _entries(self, handle: BlockHandle, last: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        """Yield the entries of one block; `last` is the key that must come before (None: any).

        Restart positions at the block's end only serve binary search.
        """
        data = self._block(handle)
        restarts = int.from_bytes(data[-4:], "little")
        end = len(data) - 4 - 4 * restarts
        if len(data) < 4 or end < 0:
            raise self._corrupt("a block's restart array is longer than the block")
        at, key = 0, b""
        with located(self._source.path):
            while at < end:
                shared, unshared, length = data[at : at + 3]
                if shared | unshared | length < 0x80:
                    at += 3
                else:
                    shared, at = varint(data, at)
                    unshared, at = varint(data, at)
                    length, at = varint(data, at)
                if shared > len(key) or unshared + length > end - at:
                    raise CorruptError("an entry of a block runs over its end")
                key = key[:shared] + data[at : at + unshared]
                if last is not None and key <= last:
                    raise CorruptError("its keys are not in order, or one is there twice")
                last = key
                at += unshared
                yield key, data[at : at + length]
                at += length

    def _block(self, handle: BlockHandle) -> bytes:
        """Read, check and unpack one block."""
        stored = self._source.read(
            handle.offset, handle.size + _TRAILER_BYTES, "a block of the table"
        )
        checked, crc = stored[:-4], int.from_bytes(stored[-4:], "little")
        if self._checksums and masked_crc(checked) != crc:
            raise self._corrupt(
                f"the checksum of the block at byte {handle.offset} does not match: "
                "the file is damaged"
            )
        content, compression = checked[:-1], checked[-1]
        if compression == _UNCOMPRESSED:
            return content
        if compression == _SNAPPY:
            return self._unsnap(content, handle.offset)
        raise self._corrupt(f"a block has compression type {compression}, which does not exist")

    def _unsnap(self, content: bytes, at: int) -> bytes:
        """Unpack a Snappy block: 0.5 to 0.7 wrote them into V1 files (table_options.h)."""
        with located(self._source.path):
            size, _ = varint(content, 0)
            if size > limits.SNAPPY_MAX_RATIO * len(content):
                raise CorruptError(f"a Snappy block of {len(content)} bytes declares {size}")
            if at not in self._unpacked:
                self._source.budget.spend(limits.UNSNAPPED, size)
                self._unpacked.add(at)
        try:
            import cramjam
        except ImportError:
            raise MissingExtraError(
                "its blocks are compressed with Snappy, as TensorFlow 0.5 to 0.7 wrote them",
                path=self._source.path,
                advice="install the extra that reads them: pip install 'lstmstate[snappy]'",
            ) from None
        try:
            unpacked = bytes(cramjam.snappy.decompress_raw(content))
        except cramjam.DecompressionError as error:
            raise self._corrupt(f"a Snappy block is damaged ({error})") from error
        if len(unpacked) != size:
            raise self._corrupt("a Snappy block has another size than it declares")
        return unpacked

    def _corrupt(self, problem: str) -> CorruptError:
        return CorruptError(problem, path=self._source.path)
