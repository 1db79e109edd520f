"""One operation of a graph: its inputs, and its attributes when they are asked for.

Messages: TensorFlow core/framework/{node_def,attr_value,tensor}.proto (v1.15.0).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import islice

from lstmstate import limits
from lstmstate.checkpoint import dtypes
from lstmstate.checkpoint import protobuf as wire
from lstmstate.checkpoint.variables import Shape
from lstmstate.errors import CorruptError
from lstmstate.files.budget import Budget
from lstmstate.named_tuple import NamedTuple
from lstmstate.type_names import Any

_LARGEST = {"f": 3.4028234e38, "e": 65504.0}  # what struct packs without overflow
# How struct names a NumPy type; bfloat16, which has none, is read as patterns of 16 bits.
_CODES = {"f2": "e", "f4": "f", "f8": "d", "i4": "i", "i8": "q", "u1": "B", "?": "?", "bf2": "H"}
# How the fields of a NodeDef begin that come first, and an entry of its map of attributes.
_NAME, _OP, _INPUT, _ATTRIBUTE = (number << 3 | wire.LENGTH_DELIMITED for number in (1, 2, 3, 5))
_FIRST = (_INPUT, _NAME, _OP)
_LARGE = 64 << 10  # bytes of a node whose fields are counted first
_PAID_AT_ONCE = 4096
_SHORT = 1024  # bytes of attributes that many nodes may have alike, and that are kept once read
_LAST_MEMBER = 10  # of an AttrValue
_MAX_CONSTANT = 64  # numbers of a constant that are worth reading: hyper-parameters are few


class Constant(NamedTuple):
    """A small constant of a graph."""

    shape: Shape
    values: tuple[float, ...]

    @property
    def scalar(self) -> float | None:
        """Its value if it is one number."""
        return self.values[0] if len(self.values) == 1 else None


_UNREAD = Constant((), ())


class Attributes:
    """The attributes of a node, or of many that have the same; each is read when asked for.

    Args:
        entries: the entries of the map of attributes.
        data: fields of a NodeDef with the entries, in the place of `entries`.
    """

    __slots__ = ("_constant", "_data", "_entries", "_values")

    def __init__(self, entries: list[bytes] | None, data: bytes = b"") -> None:
        self._entries = entries
        self._data = data
        # Those that were asked for; long ones are read each time.
        self._values: dict[str, dict[int, list[wire.Value]] | None] = {}
        self._constant: Constant | None = _UNREAD

    @property
    def entries(self) -> list[bytes]:
        """The entries of the map of attributes."""
        if self._entries is None:
            self._entries = [value for key, value in _fields(self._data) if key == _ATTRIBUTE]
            self._data = b""
        return self._entries

    def value(self, name: str) -> dict[int, list[wire.Value]]:
        """Return an AttrValue: 2 s, 3 i, 4 f, 5 b, 6 type, 7 shape, 8 tensor; {} if not set."""
        kept = self._values.get(name)
        if kept is not None:
            return kept
        entry = self._entry(name)
        value = _one_of(wire.merge(wire.message(entry).get(2)))
        self._values[name] = value if len(entry) <= _SHORT else None
        return value

    def _entry(self, name: str) -> bytes:
        """Return the entry of a key, empty if it is not set; of one set twice the last counts."""
        start = _entry_start(name)
        return next((entry for entry in reversed(self.entries) if entry.startswith(start)), b"")

    @property
    def constant(self) -> Constant | None:
        """The small constant that a Const with them is."""
        if self._constant is _UNREAD:
            found = self.value("value").get(8)
            self._constant = None if found is None else _constant(wire.merge(found))
        return self._constant

    def are_like(self, others: Attributes) -> bool:
        """Whether others have the same values of all that were ever asked for of these."""
        return not self._values or all(
            self._entry(name) == others._entry(name) for name in self._values
        )


class Node:
    """An operation of the graph; its attributes are read when asked for.

    Args:
        attributes: the entries of the map of attributes, or what has read them.
        frame: the loop that it leads into, where no attribute gives it.

    Attributes:
        data: what `graph.tensors.data_inputs` made of its inputs, None before.
    """

    __slots__ = ("_attributes", "_frame", "data", "inputs", "name", "op")

    def __init__(
        self,
        name: str,
        op: str,
        inputs: list[str],
        attributes: list[bytes] | Attributes | None = None,
        frame: str | None = None,
    ) -> None:
        self.name = name
        self.op = op
        self.inputs = inputs
        self.data: list[Any] | None = None
        self._attributes = (
            attributes if isinstance(attributes, Attributes) else Attributes(attributes or [])
        )
        self._frame = frame

    @property
    def attributes(self) -> list[bytes]:
        """The entries of the map of attributes."""
        return self._attributes.entries

    def is_like(self, other: Node) -> bool:
        """Whether another node has the same of all that was ever asked for of this one.

        Their own names, and those of their inputs, do not count.
        """
        mine, theirs = self._attributes, other._attributes
        return (
            self.op == other.op
            and len(self.inputs) == len(other.inputs)
            and self._frame is other._frame is None
            and (mine is theirs or mine.are_like(theirs))
        )

    def __repr__(self) -> str:
        return f"<Node {self.name} {self.op}>"

    def _attribute(self, name: str) -> dict[int, list[wire.Value]]:
        """Return an AttrValue; {} if not set. See `Attributes.value`."""
        return self._attributes.value(name)

    def number(self, name: str) -> int | None:
        """An int or bool attribute, None if it is not set."""
        value = self._attribute(name)
        found = value.get(3) or value.get(5)
        return None if found is None else wire.signed(wire.last_int(found))

    def real(self, name: str) -> float | None:
        """A float attribute, None if it is not set."""
        found = self._attribute(name).get(4)
        return None if found is None else _shortest(wire.float32(wire.last_int(found)))

    def string(self, name: str) -> str | None:
        """A string attribute, None if it is not set."""
        found = self._attribute(name).get(2)
        return None if found is None else wire.text(wire.last_bytes(found))

    def number_of_type(self, name: str) -> int | None:
        """The number of the dtype in an attribute, None if it is not set."""
        found = self._attribute(name).get(6)
        return None if found is None else wire.last_int32(found)

    def numbers(self, name: str) -> list[int]:
        """A list of ints, empty if it is not set: AttrValue 1 list {3 repeated i}."""
        found = self._attribute(name).get(1)
        listed = wire.message(wire.merge(found)) if found else {}
        return list(islice(packed_ints(listed.get(3, [])), limits.MAX_RANK))

    def outputs(self) -> list[tuple[int, tuple[int | None, ...] | None]]:
        """The (dtype number, shape) of each output of a node that takes data from outside.

        The attributes are lists, output_types (component_types of a queue) and output_shapes:
        AttrValue 1 list {6 types, 7 shapes}.
        """
        kinds, of_queue, shapes = (
            wire.message(wire.merge(self._attribute(name).get(1)))
            for name in ("output_types", "component_types", "output_shapes")
        )
        kinds = kinds or of_queue
        numbers = list(islice(packed_ints(kinds.get(6, [])), limits.MAX_RANK))
        found = [partial_shape(shape) for shape in wire.all_bytes(shapes.get(7))]
        found += [None] * (len(numbers) - len(found))
        return list(zip(numbers, found, strict=False))

    def function(self, name: str) -> str | None:
        """The name of the function in an attribute, None if it is not set."""
        found = self._attribute(name).get(10)
        called = wire.message(wire.merge(found)) if found else {}
        return wire.text(wire.last_bytes(called.get(1))) if called else None

    @property
    def frame(self) -> str | None:
        """The loop that an Enter leads into."""
        return self._frame or self.string("frame_name")

    def without(self, name: str) -> Node:
        """Return the node without one of its attributes."""
        start = _entry_start(name)
        kept = [entry for entry in self.attributes if not entry.startswith(start)]
        return Node(self.name, self.op, self.inputs, kept, self._frame)

    def shape(self) -> tuple[int | None, ...] | None:
        """The attribute `shape` of a variable or placeholder; None in it: not fixed."""
        found = self._attribute("shape").get(7)
        return None if found is None else partial_shape(wire.merge(found))

    def tensor(self) -> dict[int, list[wire.Value]] | None:
        """The fields of the TensorProto of a Const, None for other nodes."""
        found = self._attribute("value").get(8) if self.op == "Const" else None
        return None if found is None else wire.message(wire.merge(found))

    def constant(self) -> Constant | None:
        """The value of a Const of at most 64 numbers; None for other nodes and larger ones."""
        return self._attributes.constant if self.op == "Const" else None

    def constant_shape(self) -> tuple[int | None, ...] | None:
        """The shape of a Const of any size."""
        tensor = self.tensor()
        return partial_shape(wire.merge(tensor.get(2))) if tensor else None

    def strings(self) -> list[str]:
        """The strings of a Const that holds names."""
        found = self._attribute("value").get(8)
        tensor = wire.message(wire.merge(found)) if found else {}
        return [wire.text(value) for value in wire.all_bytes(tensor.get(8))]


def _one_of(data: bytes) -> dict[int, list[wire.Value]]:
    """Return an AttrValue, of whose members only the last counts; one given twice is merged."""
    found: dict[int, list[wire.Value]] = {}
    for number, _, value in wire.fields(data):
        if number in found:
            found[number].append(value)
        elif number <= _LAST_MEMBER:
            found = {number: [value]}
    return found


def _entry_start(name: str) -> bytes:
    """Return how every entry of the map of attributes with this key begins."""
    key = name.encode()
    return bytes([0x0A, len(key)]) + key


class NodeReader:
    """Reads the nodes of a graph.

    A graph has thousands of nodes, and this is where the time goes. Most have attributes that
    others have too, to the byte: those are there once.

    Args:
        budget: pays for the fields of large nodes; None for those of functions.
    """

    def __init__(self, budget: Budget | None = None) -> None:
        self._ops: dict[bytes, str] = {}
        self._attributes: dict[bytes, Attributes] = {}
        self._budget = budget

    def node(self, data: bytes) -> Node:
        """Read a NodeDef: 1 name, 2 op, 3 repeated input, 4 device, 5 repeated attr.

        That is the order of TensorFlow; the loop of `wire.fields` is written out.
        """
        inputs: list[str] = []
        end = len(data)
        if end > _LARGE and self._budget is not None:
            for at, _ in enumerate(_fields(data), 1):
                if not at % _PAID_AT_ONCE:
                    self._budget.spend(limits.FIELDS, _PAID_AT_ONCE)
        try:
            length, at = data[1], 2
            if length >= 0x80:
                length, at = wire.varint(data, 1)
            stop = at + length
            name = data[at:stop].decode("utf-8", "surrogateescape")
            at = stop + 2 + data[stop + 1]
            op = data[stop + 2 : at]
            if data[0] != _NAME or data[stop] != _OP or at >= stop + 0x82:
                return _unordered(data)
            while at < end and data[at] == _INPUT:
                length, at = data[at + 1], at + 2
                if length >= 0x80:
                    length, at = wire.varint(data, at - 1)
                stop = at + length
                inputs.append(data[at:stop].decode("utf-8", "surrogateescape"))
                at = stop
        except IndexError:
            return _unordered(data)
        rest = data[at:]
        attributes = self._attributes.get(rest)
        if attributes is None or at > end:
            if at > end or not _has_attributes_alone(rest):
                return _unordered(data)
            attributes = Attributes(None, rest)
            if len(rest) <= _SHORT:
                self._attributes[rest] = attributes
        if op not in self._ops:
            self._ops[op] = wire.text(op)
        return Node(name, self._ops[op], inputs, attributes)


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the key and the value of each field of (the end of) a NodeDef."""
    at, end = 0, len(data)
    while at + 1 < end:
        key, length = data[at], data[at + 1]
        start = at + 2
        if length >= 0x80:
            length, start = wire.varint(data, at + 1)
        at = start + length
        if key & 0x87 != wire.LENGTH_DELIMITED:
            raise CorruptError("a node of the graph has a field that no node has")
        yield key, data[start:at]
    if at != end:
        raise CorruptError("a node of the graph runs over its end")


def _has_attributes_alone(data: bytes) -> bool:
    """Whether the end of a NodeDef is whole, and none of its fields is one that comes first."""
    at, end = 0, len(data)
    while at + 1 < end:
        key, length = data[at], data[at + 1]
        if key in _FIRST or key & 0x87 != wire.LENGTH_DELIMITED:
            return False
        at += 2
        if length >= 0x80:
            length, at = wire.varint(data, at - 1)
        at += length
    return at == end


def _unordered(data: bytes) -> Node:
    """Read a NodeDef whose fields are in another order than TensorFlow writes them."""
    found: dict[int, list[bytes]] = {}
    for key, value in _fields(data):
        found.setdefault(key, []).append(value)
    name, op = (found.get(key, [b""])[-1] for key in (_NAME, _OP))
    inputs = [wire.text(value) for value in found.get(_INPUT, [])]
    return Node(wire.text(name), wire.text(op), inputs, found.get(_ATTRIBUTE))


def partial_shape(data: bytes) -> tuple[int | None, ...] | None:
    """Read a TensorShapeProto with some sizes, or all of them, unknown (-1, 3: true)."""
    found = wire.message(data)
    if wire.last_int(found.get(3)):
        return None
    sizes = [
        wire.signed(wire.last_int(wire.message(axis).get(1)))
        for axis in wire.all_bytes(found.get(2))[: limits.MAX_RANK]
    ]
    return tuple(None if size < 0 else size for size in sizes)


def _constant(data: bytes) -> Constant | None:
    """Read a TensorProto: 1 dtype, 2 shape, 4 content as bytes, or a field of values."""
    found = wire.message(data)
    dtype = dtypes.by_number(wire.last_int32(found.get(1)))
    sizes = partial_shape(wire.merge(found.get(2)))
    if sizes is None or None in sizes or dtype.storage is None:
        return None
    shape = tuple(size for size in sizes if size is not None)
    count = 1
    for size in shape:
        count *= size
    code = _CODES.get("bf2" if dtype.name == "bfloat16" else dtype.storage)
    if not 0 < count <= _MAX_CONSTANT or code is None:
        return None
    content = wire.last_bytes(found.get(4))
    stored = found.get(dtype.proto_field, [])
    if not content and code in "fd":
        content = b"".join(
            value
            if isinstance(value, bytes)
            else (value % (1 << 8 * dtype.itemsize)).to_bytes(dtype.itemsize, "little")
            for value in stored
        )
    if content:
        if len(content) % dtype.itemsize or len(content) > count * dtype.itemsize:
            return None
        values = struct.unpack(f"<{len(content) // dtype.itemsize}{code}", content)
    else:
        values = tuple(islice(packed_ints(stored), count))
        if code in "eH":  # half_val has bit patterns
            patterns = [int(value) & 0xFFFF for value in values]
            values = struct.unpack(
                f"<{len(values)}{code}", struct.pack(f"<{len(values)}H", *patterns)
            )
    values = values or (0,)  # a TensorProto without values is one of zeros
    if code == "H":  # a bfloat16 is the upper half of a float32
        values = struct.unpack(
            f"<{len(values)}f", struct.pack(f"<{len(values)}I", *(int(v) << 16 for v in values))
        )
    if code in "fe":
        values = tuple(_shortest(value, code) for value in values)
    # A TensorProto may leave out repetitions of its last value.
    return Constant(shape, (*values, *[values[-1]] * (count - len(values)))[:count])


def _shortest(value: float, code: str = "f") -> float:
    """Return the shortest decimal that is the same float32: 0.8, not 0.800000011920929."""
    stored = struct.pack(code, value)
    for digits in range(1, 9):
        short = float(f"{value:.{digits}g}")
        if abs(short) < _LARGEST[code] and struct.pack(code, short) == stored:
            return short
    return value


def packed_ints(stored: list[wire.Value]) -> Iterator[int]:
    """Yield the numbers of a repeated integer field, packed or not."""
    for value in stored:
        if isinstance(value, int):
            yield wire.signed(value)
            continue
        at = 0
        while at < len(value):
            number, at = wire.varint(value, at)
            yield wire.signed(number)
