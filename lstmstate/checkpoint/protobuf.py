"""Protocol buffers' wire format, read and written without a protobuf runtime.

A message is a run of fields; a field is a varint key (number << 3 | type) and a value.
Nothing that reads recurses: a caller that needs an inner message asks for it by number, so
the depth of a hostile message is bounded by the code that reads it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from lstmstate import limits
from lstmstate.errors import CorruptError
from lstmstate.files.budget import Budget

VARINT, FIXED64, LENGTH_DELIMITED, FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BYTES = 10  # 64 bits in groups of seven
_PAID_AT_ONCE = 4096  # fields; smaller messages are paid for as entries and nodes

Value = int | bytes


class CutShortError(CorruptError):
    """A message ends within a field.

    Attributes:
        number: of that field; 0 if it ends before its value.
        start: where the value begins.
        missing: the bytes of the value that are missing; 0 if that is not known.
    """

    def __init__(self, problem: str, number: int = 0, start: int = 0, missing: int = 0) -> None:
        super().__init__(problem)
        self.number = number
        self.start = start
        self.missing = missing


def varint(data: bytes, at: int) -> tuple[int, int]:
    """Read a varint of at most 64 bits.

    Returns:
        The value, and the position behind it.

    >>> varint(bytes([0xAC, 0x02]), 0)
    (300, 2)
    """
    if at + 1 < len(data):  # nearly all have one byte or two
        first, second = data[at], data[at + 1]
        if first < 0x80:
            return first, at + 1
        if second < 0x80:
            return first & 0x7F | second << 7, at + 2
    result = shift = 0
    for position in range(at, min(at + _MAX_VARINT_BYTES, len(data))):
        byte = data[position]
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            if result >> 64:
                raise CorruptError("a varint is larger than 64 bits")
            return result, position + 1
        shift += 7
    problem = "a varint does not end"
    raise CorruptError(problem) if len(data) - at >= _MAX_VARINT_BYTES else CutShortError(problem)


def signed(value: int) -> int:
    """Return the int64 whose two's complement is the 64-bit `value`."""
    return value - (1 << 64) if value >> 63 else value


def fields(data: bytes, budget: Budget | None = None) -> Iterator[tuple[int, int, Value]]:
    """Yield (field number, wire type, value) for each field of a message, in order.

    A value is an int for varints and fixed-width fields (as unsigned), bytes for
    length-delimited ones.

    Args:
        budget: pays for the fields of a message that may be large.

    >>> list(fields(bytes([0x08, 0x01, 0x1A, 0x02, 0x08, 0x01])))
    [(1, 0, 1), (3, 2, b'\\x08\\x01')]
    """
    at, end = 0, len(data)
    unpaid = 0
    while at < end:
        unpaid += 1
        if unpaid == _PAID_AT_ONCE:
            unpaid = 0
            if budget is not None:
                budget.spend(limits.FIELDS, _PAID_AT_ONCE)
        key = data[at]
        at += 1
        if key >= 0x80:
            key, at = varint(data, at - 1)
        number, wire_type = key >> 3, key & 7
        if number == 0:
            raise CorruptError("a field has number 0")
        value: Value
        if wire_type == LENGTH_DELIMITED:
            length, at = varint(data, at)
            if length > end - at:
                missing = length - end + at
                problem = f"field {number} runs {missing} bytes over the end"
                raise CutShortError(problem, number, at, missing)
            value = data[at : at + length]
            at += length
        elif wire_type == VARINT:
            value, at = varint(data, at)
        elif wire_type in (FIXED32, FIXED64):
            width = 4 if wire_type == FIXED32 else 8
            if width > end - at:
                raise CutShortError(f"field {number} runs over the end")
            value = int.from_bytes(data[at : at + width], "little")
            at += width
        else:
            raise CorruptError(f"field {number} has wire type {wire_type}, which does not exist")
        yield number, wire_type, value


def message(data: bytes, budget: Budget | None = None) -> dict[int, list[Value]]:
    """Return a whole message as {field number: its values in order}.

    Args:
        budget: see `fields`.
    """
    result: dict[int, list[Value]] = {}
    for number, _, value in fields(data, budget):
        if number in result:
            result[number].append(value)
        elif len(result) < limits.MAX_FIELD_NUMBERS:
            result[number] = [value]
        else:
            raise CorruptError(f"a message has fields of over {limits.MAX_FIELD_NUMBERS} numbers")
    return result


def last_int(values: list[Value] | None, default: int = 0) -> int:
    """Return the value of an optional integer field: the last one given, as protobuf rules."""
    if not values:
        return default
    value = values[-1]
    if isinstance(value, bytes):
        raise CorruptError("a number was expected where there is text")
    return value


def last_int32(values: list[Value] | None, default: int = 0) -> int:
    """Return the value of an optional int32 or enum field: the low 32 bits, as protobuf rules.

    >>> last_int32([(1 << 32) + 5]), last_int32([(1 << 64) - 1])
    (5, -1)
    """
    low = last_int(values, default) & 0xFFFFFFFF
    return low - (1 << 32) if low >> 31 else low


def merge(values: list[Value] | None) -> bytes:
    """Return the bytes of an optional message field: all that are given are one message.

    >>> message(merge([bytes([0x08, 0x01]), bytes([0x10, 0x02])]))
    {1: [1], 2: [2]}
    """
    return last_bytes(values) if not values or len(values) == 1 else b"".join(all_bytes(values))


def last_bytes(values: list[Value] | None, default: bytes = b"") -> bytes:
    """Return the value of an optional bytes or string field: the last one given.

    For messages see `merge`.
    """
    if not values:
        return default
    value = values[-1]
    if isinstance(value, int):
        raise CorruptError("text was expected where there is a number")
    return value


def all_bytes(values: list[Value] | None) -> list[bytes]:
    """Return the values of a repeated bytes, string or message field."""
    found = [value for value in values or [] if isinstance(value, bytes)]
    if len(found) < len(values or []):
        raise CorruptError("text was expected where there is a number")
    return found


def text(value: bytes) -> str:
    """Decode a name; bytes that are not UTF-8 are kept, as surrogates."""
    return value.decode("utf-8", "surrogateescape")


def float32(bits: int) -> float:
    """Return the float whose IEEE 754 single-precision pattern is `bits`."""
    if bits >> 32:
        raise CorruptError("a float has more than 32 bits")
    result: float = struct.unpack("<f", bits.to_bytes(4, "little"))[0]
    return result


def encode_varint(value: int) -> bytes:
    """Return the shortest varint of a number that is not below zero.

    >>> encode_varint(300).hex(" ")
    'ac 02'
    """
    groups = bytearray()
    while value >= 0x80:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)


def int_field(number: int, value: int, *, always: bool = False) -> bytes:
    """Return a varint field of a number that is not below zero.

    A zero is left out, as proto3 writes it, unless `always`: so for a member of a oneof.

    >>> int_field(1, 0), int_field(1, 0, always=True), int_field(1, 3)
    (b'', b'\\x08\\x00', b'\\x08\\x03')
    """
    if not value and not always:
        return b""
    return encode_varint(number << 3 | VARINT) + encode_varint(value)


def bytes_field(number: int, value: bytes) -> bytes:
    """Return a message field, or an element of a repeated field: written even if it is empty."""
    return encode_varint(number << 3 | LENGTH_DELIMITED) + encode_varint(len(value)) + value


def fixed32_field(number: int, value: int) -> bytes:
    """Return a field of four bytes; a zero is left out."""
    return encode_varint(number << 3 | FIXED32) + value.to_bytes(4, "little") if value else b""


def encode_text(name: str) -> bytes:
    """Undo `text`."""
    return name.encode("utf-8", "surrogateescape")
