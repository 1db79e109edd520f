"""Slices of partitioned variables: the keys under which they are stored, and the whole value.

A key is num(0), string(name), num(rank), then signed(start), signed(length) for each axis, in an
encoding that sorts as it reads.
Source: TensorFlow core/lib/strings/ordered_code.cc and core/util/saved_tensor_slice_util.cc
(v1.15.0).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from lstmstate import limits
from lstmstate.checkpoint import protobuf as wire
from lstmstate.errors import CorruptError
from lstmstate.named_tuple import NamedTuple
from lstmstate.type_names import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

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


def parse_extents(data: bytes) -> Extents:
    """Read a TensorSliceProto: 1 repeated extent {1 start, 2 length; no length: whole axis}."""
    extents = []
    parts = wire.all_bytes(wire.message(data).get(1))
    if len(parts) > limits.MAX_RANK:
        raise CorruptError(f"expected slices of at most {limits.MAX_RANK} axes, got {len(parts)}")
    for part in parts:
        found = wire.message(part)
        length = wire.signed(wire.last_int(found.get(2))) if 2 in found else WHOLE_AXIS
        extents.append(Extent(wire.signed(wire.last_int(found.get(1))), length))
        if length < WHOLE_AXIS:
            raise CorruptError("a slice has a length below zero")
    return tuple(extents)


def join_slices(
    shape: tuple[int, ...],
    slices: tuple[Extents, ...],
    read: Callable[[Extents], NDArray[np.generic]],
) -> NDArray[np.generic]:
    """Return the full value of a partitioned variable.

    Args:
        read: returns the value of a slice.

    Raises:
        CorruptError: the slices overlap, leave a gap or exceed the shape.
    """
    import numpy as np

    regions = [region(shape, extents) for extents in slices]
    stored = sum(math.prod(extent.length for extent in part) for part in regions)
    if stored != math.prod(shape):
        raise CorruptError(f"its slices hold {stored} elements of {math.prod(shape)}")
    if len(regions) == 1:
        return read(slices[0])
    # All parts are read before there is room for the whole: what only declares them takes none.
    pieces = [read(extents) for extents in slices]
    value = np.empty(shape, pieces[0].dtype)
    filled = np.zeros(shape, np.bool_)
    for piece, part in zip(pieces, regions, strict=True):
        where = tuple(slice(start, start + length) for start, length in part)
        if filled[where].any():
            raise CorruptError("its slices overlap")
        value[where], filled[where] = piece, True
    return value


def region(shape: tuple[int, ...], extents: Extents) -> Extents:
    """Return the extents with every length a number, checked against the shape."""
    if len(extents) != len(shape):
        raise CorruptError(f"a slice has {len(extents)} axes, the variable {len(shape)}")
    part = tuple(
        Extent(start, size - start if length == WHOLE_AXIS else length)
        for (start, length), size in zip(extents, shape, strict=True)
    )
    for (start, length), size in zip(part, shape, strict=True):
        if start < 0 or length < 0 or start + length > size:
            raise CorruptError(f"a slice reaches from {start} to {start + length} of {size}")
    return part
