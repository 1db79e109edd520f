"""The sorted table, written: the bytes that TensorFlow itself writes for the same entries.

For the format see `sstable`. Source: TensorFlow core/lib/io/table_builder.cc,
block_builder.cc, format.cc and table_options.h (v1.15.0; as in 2.21).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from itertools import pairwise

from lstmstate.checkpoint.protobuf import encode_varint
from lstmstate.checkpoint.sstable import BlockHandle, Footer, masked_crc
from lstmstate.named_tuple import NamedTuple

_BLOCK_BYTES = 1 << 18  # table::Options::block_size: a block that has reached it is closed
_OVERLY_LARGE = 2 * _BLOCK_BYTES  # kOverlyLargeBlockRatio: such an entry begins a block
_RESTART_INTERVAL = 16  # entries with one whole key, that of the first
_UNCOMPRESSED = b"\0"


class _Closed(NamedTuple):
    """A data block that has been written: its first and last key, and its place."""

    first: bytes
    last: bytes
    handle: BlockHandle


class _Block:
    """A block in the making; for its layout see `sstable`."""

    def __init__(self, restart_interval: int) -> None:
        self._interval = restart_interval
        self._entries = bytearray()
        self._restarts = [0]  # TensorFlow counts one in an empty block, too
        self._count = 0
        self.first = self.last = b""

    @property
    def size(self) -> int:
        """Bytes that the block takes, without its trailer; restart positions take four each."""
        return len(self._entries) + 4 * len(self._restarts) + 4

    @property
    def empty(self) -> bool:
        return not self._count

    def add(self, key: bytes, value: bytes) -> None:
        """Append an entry, whose key must sort behind the last one."""
        if self.empty:
            self.first = key
        shared = 0
        if self._count % self._interval:
            shared = _shared(self.last, key)
        elif self._count:
            self._restarts.append(len(self._entries))
        for number in (shared, len(key) - shared, len(value)):
            self._entries += encode_varint(number)
        self._entries += key[shared:]
        self._entries += value
        self.last = key
        self._count += 1

    def sealed(self) -> bytes:
        """Return the whole block with its trailer: how it is compressed, and a checksum."""
        count = len(self._restarts)
        restarts = struct.pack(f"<{count + 1}I", *self._restarts, count)
        content = bytes(self._entries) + restarts + _UNCOMPRESSED
        return content + struct.pack("<I", masked_crc(content))


def write_table(entries: Iterable[tuple[bytes, bytes]]) -> Iterator[bytes]:
    """Yield the bytes of a table file, a block at a time.

    Args:
        entries: (key, value), keys strictly increasing.

    >>> len(b"".join(write_table([(b"a", b"1"), (b"ab", b"23")])))
    104
    """
    offset = 0
    written: list[_Closed] = []
    for block in _data_blocks(entries):
        data = block.sealed()
        yield data
        written.append(_Closed(block.first, block.last, BlockHandle(offset, block.size)))
        offset += len(data)
    meta, index = _Block(_RESTART_INTERVAL), _Block(1)
    for one, following in pairwise(written):
        index.add(_separator(one.last, following.first), one.handle.encode())
    if written:
        index.add(_successor(written[-1].last), written[-1].handle.encode())
    data = meta.sealed()
    footer = Footer(BlockHandle(offset, meta.size), BlockHandle(offset + len(data), index.size))
    yield data + index.sealed() + footer.encode()


def _data_blocks(entries: Iterable[tuple[bytes, bytes]]) -> Iterator[_Block]:
    """Cut the entries into blocks where TensorFlow does."""
    block = _Block(_RESTART_INTERVAL)
    last: bytes | None = None
    for key, value in entries:
        if last is not None and key <= last:
            raise ValueError(f"key {key!r} comes behind {last!r}")
        last = key
        if not block.empty and len(key) + len(value) >= _OVERLY_LARGE:
            yield block
            block = _Block(_RESTART_INTERVAL)
        block.add(key, value)
        if block.size >= _BLOCK_BYTES:
            yield block
            block = _Block(_RESTART_INTERVAL)
    if not block.empty:
        yield block


def _shared(key: bytes, following: bytes) -> int:
    """Return how many bytes two keys have in common at their start."""
    for at, (one, other) in enumerate(zip(key, following, strict=False)):
        if one != other:
            return at
    return min(len(key), len(following))


def _separator(key: bytes, following: bytes) -> bytes:
    """Return a key that is not below `key` but below `following`, shortened where that is easy."""
    shared = _shared(key, following)
    if shared < len(key) and key[shared] + 1 < following[shared]:
        return key[:shared] + bytes([key[shared] + 1])
    return key


def _successor(key: bytes) -> bytes:
    """Return a short key above `key`: its first byte that can be raised is, the rest is cut."""
    at = len(key) - len(key.lstrip(b"\xff"))
    return key[:at] + bytes([key[at] + 1]) if at < len(key) else key
