"""Mutations of valid files: of any byte, or of one field at any depth with the rest made anew."""

from __future__ import annotations

import io
import random
import struct
import zipfile
from collections.abc import Iterator

_NUMBERS = (0, 1, 2, 7, 127, 128, 255, 1 << 15, 1 << 31, 1 << 32, (1 << 63) - 1, 1 << 63)
_WORDS = (b"", b"\0", b"\xff" * 4, b"a" * 300, b"../x", b"\x1b[2J", "\u202e".encode())
_SIZES = {1: 8, 5: 4}  # wire types of a fixed size
_DEEP = 12

Field = tuple[int, int | bytes]  # number and value, of bytes if it is no varint
Wire = tuple[int, int, int | bytes]  # with its wire type


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 70:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
    raise ValueError


def _read_fields(data: bytes) -> Iterator[Wire]:
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        kind = key & 7
        if kind == 0:
            number, at = _read_varint(data, at)
            yield key >> 3, kind, number
            continue
        size = _SIZES.get(kind)
        if size is None:
            if kind != 2:
                raise ValueError
            size, at = _read_varint(data, at)
        if at + size > len(data) or not key >> 3:
            raise ValueError
        yield key >> 3, kind, data[at : at + size]
        at += size


def _varint(value: int) -> bytes:
    value %= 1 << 64
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def _written(fields: list[Wire]) -> bytes:
    found = bytearray()
    for number, kind, value in fields:
        found += _varint(number << 3 | kind)
        if isinstance(value, int):
            found += _varint(value)
        else:
            found += _varint(len(value)) + value if kind == 2 else value
    return bytes(found)


def parse_fields(data: bytes) -> list[Wire] | None:
    """Return the fields of a message; None if the bytes are no message."""
    try:
        return list(_read_fields(data)) or None
    except ValueError:
        return None


def mutate_message(data: bytes, chance: random.Random, depth: int = 0) -> bytes:
    """Change one field, at any depth: its value, its number, lost, doubled or moved."""
    fields = parse_fields(data)
    if fields is None or depth > _DEEP:
        return mutate_bytes(data, chance)
    at = chance.randrange(len(fields))
    number, kind, value = fields[at]
    if kind == 2 and chance.random() < 0.75:
        fields[at] = number, kind, mutate_message(value, chance, depth + 1)  # type: ignore[arg-type]
        return _written(fields)
    way = chance.randrange(5)
    if way == 0:
        del fields[at]
    elif way == 1:
        fields.insert(chance.randrange(len(fields) + 1), fields[at])
    elif way == 2:
        fields[at] = chance.randrange(1, 20), kind, value
    elif isinstance(value, int):
        fields[at] = number, 0, chance.choice((*_NUMBERS, value + 1, value - 1, value << 3))
    else:
        fields[at] = number, kind, mutate_bytes(value, chance)
    return _written(fields)


def mutate_bytes(data: bytes, chance: random.Random) -> bytes:
    """Flip bits, or lose, double, set or insert some bytes."""
    found = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 5))):
        at, length = chance.randrange(len(found) + 1), chance.randint(1, 9)
        way = chance.randrange(5)
        if way == 0 and at < len(found):
            found[at] ^= 1 << chance.randrange(8)
        elif way == 1:
            del found[at : at + length]
        elif way == 2:
            found[at:at] = found[at : at + length]
        elif way == 3:
            found[at:at] = chance.choice(_WORDS)
        else:
            number = chance.choice(_NUMBERS)
            form = chance.choice("<B <H <I <Q >I".split())
            packed = struct.pack(form, number % (1 << 8 * struct.calcsize(form)))
            found[at : at + len(packed)] = packed
    return bytes(found)


def mutate_entries(entries: dict[bytes, bytes], chance: random.Random) -> dict[bytes, bytes]:
    """Change one entry of a table: its key, a field of its value, lost or doubled."""
    found = dict(entries)
    key = chance.choice(sorted(found))
    way = chance.randrange(8)
    if way == 0:
        del found[key]
    elif way == 1:
        found[mutate_bytes(key, chance)] = found[key]
    else:
        found[key] = mutate_message(found[key], chance)
    return found


def mutate_zip(data: bytes, chance: random.Random) -> bytes:
    """Change a member of an archive, and write it anew with the right sums."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(made, "w") as target:
        names = source.namelist()
        changed = chance.choice(names)
        for name in names:
            content = source.read(name)
            if name == changed:
                content = mutate_bytes(content, chance)
            renamed = name == changed and chance.random() < 0.1
            others = ("x.npy", "../a.npy", name[:-4])
            target.writestr(chance.choice(others) if renamed else name, content)
    return made.getvalue()
