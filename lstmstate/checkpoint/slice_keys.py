"""The keys under which slices of tensors are stored, in an encoding that sorts as it reads.

A key is num(0), string(name), num(rank), then signed(start), signed(length) for each axis.
Source: TensorFlow core/lib/strings/ordered_code.cc and core/util/saved_tensor_slice_util.cc
(v1.15.0).
"""

from __future__ import annotations

import re

from lstmstate import limits
from lstmstate.errors import CorruptError
from lstmstate.named_tuple import NamedTuple

WHOLE_AXIS = -1  # the length that means "to the end"


class Extent(NamedTuple):
    """The part of one axis that a slice holds."""

    start: int
    length: int


Extents = tuple[Extent, ...]

_ESCAPE = rb"\x00\xff|\xff\x00"
_STRING = rb"\x00((?:[^\x00\xff]|\x00\xff|\xff\x00)*)\x00\x01"


def encode_slice_key(name: bytes, extents: Extents) -> bytes:
    """Return the key of a slice.

    >>> encode_slice_key(b"p", (Extent(3, 2), Extent(0, -1))).hex(" ")
    '00 70 00 01 01 02 83 82 80 7f'
    """
    escaped = re.sub(rb"[\x00\xff]", lambda found: found[0] + bytes([found[0][0] ^ 0xFF]), name)
    numbers = b"".join(_signed(number) for extent in extents for number in extent)
    return b"\x00" + escaped + b"\x00\x01" + _num(len(extents)) + numbers


def decode_slice_key(key: bytes) -> tuple[bytes, Extents]:
    """Return the name and the extents of a slice's key.

    >>> decode_slice_key(encode_slice_key(b"p", (Extent(1000, 64),)))
    (b'p', (Extent(start=1000, length=64),))
    """
    string = re.match(_STRING, key, re.DOTALL)
    if not string:
        raise CorruptError("the key of a slice is damaged")
    name = re.sub(_ESCAPE, lambda found: found[0][:1], string[1])
    at = string.end()
    size = key[at] if at < len(key) else 9
    rank = int.from_bytes(key[at + 1 : at + 1 + size], "big")
    at += 1 + size
    if size > 8 or rank > limits.MAX_RANK:
        raise CorruptError("the key of a slice is damaged")
    numbers = []
    for _ in range(2 * rank):
        number, at = _decode_signed(key, at)
        numbers.append(number)
    extents = tuple(map(Extent, numbers[::2], numbers[1::2]))
    if at != len(key) or encode_slice_key(name, extents) != key:
        raise CorruptError("the key of a slice is damaged")  # or longer than it need be
    return name, extents


def _num(value: int) -> bytes:
    """One length byte, then the number big-endian without leading zeros."""
    size = (value.bit_length() + 7) // 8
    return bytes([size]) + value.to_bytes(size, "big")


def _signed(value: int) -> bytes:
    """The shortest of 1, 2, … bytes that hold the number, with their count as leading ones."""
    size = 1
    while not -(1 << (7 * size - 1)) <= value < 1 << (7 * size - 1):
        size += 1
    return (value % (1 << (8 * size)) ^ _header(size)).to_bytes(size, "big")


def _decode_signed(key: bytes, at: int) -> tuple[int, int]:
    """Undo `_signed`, for the sizes whose header fits the first byte (all that int56 needs)."""
    if at >= len(key):
        raise CorruptError("the key of a slice is damaged")
    first = key[at]
    leading = first if first >= 0x80 else first ^ 0xFF  # a negative number is all inverted
    size = 8 - (leading ^ 0xFF).bit_length()
    stored = key[at : at + size]
    if size > 7 or len(stored) < size:
        raise CorruptError("the key of a slice is damaged")
    value = int.from_bytes(stored, "big") ^ _header(size)
    if value >> (8 * size - 1):
        value -= 1 << (8 * size)
    return value, at + size


def _header(size: int) -> int:
    """The `size` topmost bits of `size` bytes."""
    return ((1 << size) - 1) << (7 * size)
