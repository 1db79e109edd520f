"""Protocol buffers' text format, translated to the wire format: graphs that were written as text.

The messages and fields that a graph is read for are in one table; the rest of a file is parsed
and left out. Any text is read once from start to end. Source: the specification
of the text format (protobuf.dev); TensorFlow core/protobuf/{meta_graph,saved_model}.proto,
core/framework/{graph,node_def,attr_value,tensor,tensor_shape,function,op_def,versions}.proto.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

from lstmstate import limits
from lstmstate.checkpoint import protobuf as wire
from lstmstate.checkpoint.dtypes import BY_NUMBER
from lstmstate.errors import CorruptError
from lstmstate.type_names import NoReturn

# Message → field → (its number, its kind: a scalar of `_SCALARS`, or a message).
_Fields = dict[str, tuple[int, str]]
_LISTED = {
    "s": (2, "string"),
    "i": (3, "int"),
    "f": (4, "float"),
    "b": (5, "bool"),
    "type": (6, "DataType"),
    "shape": (7, "TensorShapeProto"),
    "tensor": (8, "TensorProto"),
}
_MESSAGES: dict[str, _Fields] = {
    "SavedModel": {"saved_model_schema_version": (1, "int"), "meta_graphs": (2, "MetaGraphDef")},
    "MetaGraphDef": {
        "meta_info_def": (1, "MetaInfoDef"),
        "graph_def": (2, "GraphDef"),
        "collection_def": (4, "CollectionEntry"),
    },
    "MetaInfoDef": {"tensorflow_version": (5, "string")},
    "CollectionEntry": {"key": (1, "string"), "value": (2, "CollectionDef")},
    "CollectionDef": {"bytes_list": (2, "BytesList")},
    "BytesList": {"value": (1, "string")},
    "GraphDef": {
        "node": (1, "NodeDef"),
        "library": (2, "FunctionDefLibrary"),
        "version": (3, "int"),
        "versions": (4, "VersionDef"),
    },
    "VersionDef": {"producer": (1, "int")},
    "NodeDef": {
        "name": (1, "string"),
        "op": (2, "string"),
        "input": (3, "string"),
        "attr": (5, "AttrEntry"),
    },
    "AttrEntry": {"key": (1, "string"), "value": (2, "AttrValue")},
    "AttrValue": {**_LISTED, "list": (1, "ListValue"), "func": (10, "NameAttrList")},
    "ListValue": {**_LISTED, "func": (9, "NameAttrList")},
    "NameAttrList": {"name": (1, "string"), "attr": (2, "AttrEntry")},
    "TensorShapeProto": {"dim": (2, "Dim"), "unknown_rank": (3, "bool")},
    "Dim": {"size": (1, "int")},
    "TensorProto": {
        "dtype": (1, "DataType"),
        "tensor_shape": (2, "TensorShapeProto"),
        "tensor_content": (4, "string"),
        "float_val": (5, "float"),
        "double_val": (6, "double"),
        "int_val": (7, "int"),
        "string_val": (8, "string"),
        "scomplex_val": (9, "float"),
        "int64_val": (10, "int"),
        "bool_val": (11, "bool"),
        "dcomplex_val": (12, "double"),
        "half_val": (13, "int"),
        "uint32_val": (16, "int"),
        "uint64_val": (17, "int"),
    },
    "FunctionDefLibrary": {"function": (1, "FunctionDef")},
    "FunctionDef": {
        "signature": (1, "OpDef"),
        "node_def": (3, "NodeDef"),
        "ret": (4, "RetEntry"),
    },
    "RetEntry": {"key": (1, "string"), "value": (2, "string")},
    "OpDef": {
        "name": (1, "string"),
        "input_arg": (2, "ArgDef"),
        "output_arg": (3, "ArgDef"),
    },
    "ArgDef": {"name": (1, "string"), "type": (3, "DataType")},
}
_WHOLE_FILES = ("GraphDef", "MetaGraphDef", "SavedModel")  # no two of them share a field
_UNKNOWN = (0, "")  # a field that is parsed and left out

_PROTOBUF_NAMES = {"float32": "FLOAT", "float64": "DOUBLE", "float16": "HALF"}
_DATA_TYPES = {
    f"DT_{_PROTOBUF_NAMES.get(dtype.name, dtype.name.upper())}{suffix}": number + shift
    for number, dtype in BY_NUMBER.items()
    for suffix, shift in (("", 0), ("_REF", 100))
}
_TRUE, _FALSE = (b"true", b"True", b"t", b"1"), (b"false", b"False", b"f", b"0")
_NOT_FINITE = (b"inf", b"infinity", b"nan")

_FIRST_FIELD = re.compile(rb"(?:\s|#[^\n]*\n)*([a-z_]+)\s*[:{<]")
# Each alternative begins with another byte, and none repeats a repetition: no text is slow.
_TOKEN = re.compile(
    rb"""\s*(?:
      (?P<name>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<mark>[{}<>\[\]:;,])
    | "(?P<double>[^"\\\n]*)"
    | '(?P<single>[^'\\\n]*)'
    | (?P<number>(?:-\s*)?\.?[0-9][0-9A-Za-z.]*(?:(?<=[eE])[+-][0-9A-Za-z]*)?|-\s*[A-Za-z]+)
    | (?P<quote>["'])
    | (?P<comment>\#[^\n]*)
    | (?P<end>\Z)
    )""",
    re.VERBOSE,
)
# A whole field of one plain value, or the start or end of a message: most of a printed graph.
_PLAIN = re.compile(
    rb"""\s*(?:
      (?P<field>[A-Za-z_][A-Za-z0-9_]*)\s*(?:
          :\s*(?:
            "(?P<string>[^"\\\n]*)"(?!\s*["'\#])
          | (?P<name>[A-Za-z_][A-Za-z0-9_]*)(?=[\s}>,;])
          | (?P<number>-?[0-9.][0-9A-Za-z.]*)(?=[\s}>,;])
          )
        | (?::\s*)?(?P<open>[{<])
      )
    | (?P<close>[}>])
    )""",
    re.VERBOSE,
)
_EXTENSION = re.compile(rb"[A-Za-z0-9_./\s-]*\]")
_CLOSING = {"{": "}", "<": ">"}

_ESCAPE = re.compile(
    rb"\\(?:([0-7]{1,3})|[xX]([0-9a-fA-F]{1,2})|u([0-9a-fA-F]{4})|U(00[01][0-9a-fA-F]{5})|(.))",
    re.DOTALL,
)
_LETTERS = dict(zip(b"abfnrtv", b"\a\b\f\n\r\t\v", strict=True))


def message_of(start: bytes) -> str | None:
    """Return which message of a graph a text holds, by the name of its first field.

    >>> message_of(b"# a graph\\nnode {"), message_of(b"meta_info_def <"), message_of(b"loss: 3")
    ('GraphDef', 'MetaGraphDef', None)
    """
    first = _FIRST_FIELD.match(start)
    field = first[1].decode("ascii") if first else ""
    return next((message for message in _WHOLE_FILES if field in _MESSAGES[message]), None)


def to_wire(text: bytes, message: str) -> bytes:
    """Return a message in text form in the wire format.

    Args:
        message: a row of the table of messages, such as "GraphDef".

    >>> to_wire(b'name: "a" input: ["b", "c"]', "NodeDef")
    b'\\n\\x01a\\x1a\\x01b\\x1a\\x01c'
    """
    return _Parser(text).message(_MESSAGES[message], "end", 0)


def unescape(written: bytes) -> bytes:
    """Return the bytes of the inside of a quoted string.

    >>> unescape(b"caf\\\\303\\\\251 \\\\x41\\\\n").decode()
    'café A\\n'
    """
    return _ESCAPE.sub(_byte, written)


def _byte(found: re.Match[bytes]) -> bytes:
    octal, short, code, long_code, letter = found.groups()
    if octal or short:
        return bytes([(int(octal, 8) if octal else int(short, 16)) & 0xFF])
    if code or long_code:
        number = int(code or long_code, 16)
        return chr(min(number, 0x10FFFF)).encode("utf-8", "surrogatepass")
    return bytes([_LETTERS.get(letter[0], letter[0])])


class _Parser:
    """A text, read token by token.

    The kind of a token is "name", "number", "string", "end", or the mark that it is.
    """

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._at = 0

    def message(self, fields: _Fields, end: str, depth: int) -> bytes:
        """Return the fields up to a token of the kind `end`, in the wire format."""
        if depth > limits.MAX_TEXT_DEPTH:
            self._refuse(f"it has more than {limits.MAX_TEXT_DEPTH} messages inside one another")
        out = bytearray()
        while True:
            plain = _PLAIN.match(self._text, self._at)
            if plain is not None:
                kind, self._at = str(plain.lastgroup), plain.end()
                token = plain[kind]
                kind = token.decode("ascii") if kind in ("open", "close") else kind
                if plain["field"] is not None:
                    field = fields.get(plain["field"].decode("ascii"), _UNKNOWN)
                    out += self._value(kind, token, field, depth)
                    continue
            else:
                kind, token = self._next()
            if kind == end:
                return bytes(out)
            if kind == "name":
                self._field(fields.get(token.decode("ascii"), _UNKNOWN), out, depth)
            elif kind == "[":
                self._skip_extension()
                self._field(_UNKNOWN, out, depth)
            elif kind not in (",", ";"):  # which may follow a field
                self._refuse_token(kind, token, "the name of a field")

    def _field(self, field: tuple[int, str], out: bytearray, depth: int) -> None:
        """Add one field, whose name has been read: one value, or a list of them."""
        kind, token = self._next()
        if kind == ":":
            kind, token = self._next()
        elif kind not in ("{", "<", "["):
            self._refuse_token(kind, token, "a colon")
        if kind != "[":
            out += self._value(kind, token, field, depth)
            return
        kind, token = self._next()
        while kind != "]":
            out += self._value(kind, token, field, depth)
            kind, token = self._next()
            if kind == ",":
                kind, token = self._next()
            elif kind != "]":
                self._refuse_token(kind, token, "a comma or ]")

    def _value(self, kind: str, token: bytes, field: tuple[int, str], depth: int) -> bytes:
        """Return one field in the wire format, b"" for one that is left out."""
        number, of = field
        if kind in _CLOSING and of not in _SCALARS:
            content = self.message(_MESSAGES.get(of, {}), _CLOSING[kind], depth + 1)
            if of == "AttrEntry" and content[:1] != b"\n":  # what `Node` finds an attribute by
                self._refuse("an attribute does not begin with its key")
            return wire.bytes_field(number, content) if number else b""
        if kind not in ("name", "number", "string") or of in _MESSAGES:
            self._refuse_token(kind, token, "a message" if of in _MESSAGES else "a value")
        if kind != "string" and len(token) > limits.MAX_NUMBER_CHARACTERS:
            self._refuse(f"a number has {len(token)} characters")
        if not number:
            return b""
        value = _SCALARS[of](number, kind, token)
        return self._refuse_token(kind, token, _WORDS[of]) if value is None else value

    def _skip_extension(self) -> None:
        """Pass over the rest of the name of an extension: `[type.googleapis.com/a.B]`."""
        found = _EXTENSION.match(self._text, self._at)
        if found is None:
            self._refuse("the name of an extension does not end")
        self._at = found.end()

    def _next(self) -> tuple[str, bytes]:
        """Return the kind of the next token and itself; strings side by side are one."""
        strings: list[bytes] = []
        while True:
            found = _TOKEN.match(self._text, self._at)
            if found is None:
                self._refuse("a character outside the format")
            kind = str(found.lastgroup)
            if kind in ("double", "single", "quote", "comment"):
                self._at = found.end()
                if kind == "quote":
                    strings.append(unescape(self._quoted(found[kind])))
                elif kind != "comment":
                    strings.append(found[kind])
                continue
            if strings:  # what follows them is read again, as a token of its own
                return "string", b"".join(strings)
            self._at = found.end()
            return found[kind].decode("ascii") if kind == "mark" else kind, found[kind]

    def _quoted(self, quote: bytes) -> bytes:
        """Return the text up to the quote that ends a string with escapes in it."""
        start = at = self._at
        while True:
            end = self._text.find(quote, at)
            if end < 0 or self._text.find(b"\n", at, end) >= 0:
                self._refuse("a string does not end")
            part = self._text[at:end]
            at = end + 1
            if (len(part) - len(part.rstrip(b"\\"))) % 2 == 0:  # the quote is not escaped
                self._at = at
                return self._text[start:end]

    def _refuse(self, problem: str) -> NoReturn:
        line = self._text.count(b"\n", 0, self._at) + 1
        raise CorruptError(f"line {line}: {problem}")

    def _refuse_token(self, kind: str, token: bytes, wanted: str) -> NoReturn:
        if kind == "end":
            self._refuse(f"the text ends where {wanted} was expected: it is cut short")
        shown = f"a string of {len(token)} bytes" if kind == "string" else wire.text(token[:40])
        self._refuse(f"expected {wanted}, got {shown}")


def _string(number: int, kind: str, token: bytes) -> bytes | None:
    return wire.bytes_field(number, token) if kind == "string" else None


def _integer(kind: str, token: bytes) -> int | None:
    """Return a decimal, octal or hexadecimal number of 64 bits, None for anything else."""
    if kind != "number":
        return None
    digits = token.lstrip(b"- \t\n\r\f\v")
    base = 16 if digits[:2] in (b"0x", b"0X") else 8 if digits[:1] == b"0" else 10
    try:
        value = int(digits, base)
    except ValueError:
        return None
    value = -value if token[:1] == b"-" else value
    return value if -(1 << 63) <= value < 1 << 64 else None


def _int(number: int, kind: str, token: bytes) -> bytes | None:
    value = _integer(kind, token)
    return None if value is None else wire.int_field(number, value % (1 << 64), always=True)


def _bool(number: int, kind: str, token: bytes) -> bytes | None:
    if kind == "string" or token not in _TRUE + _FALSE:
        return None
    return wire.int_field(number, int(token in _TRUE), always=True)


def _data_type(number: int, kind: str, token: bytes) -> bytes | None:
    """A type that is newer than this table becomes DT_INVALID, which has no values."""
    if kind != "name":
        return _int(number, kind, token)
    known = _DATA_TYPES.get(token.decode("ascii"), 0)
    return wire.int_field(number, known, always=True) if token[:3] == b"DT_" else None


def _real(kind: str, token: bytes) -> float | None:
    """Return a number that is written in decimal digits, or inf or nan."""
    sign = -1.0 if token[:1] == b"-" else 1.0
    digits = token.lstrip(b"- \t\n\r\f\v").lower()
    if kind == "string" or (digits not in _NOT_FINITE and digits[:1] not in b".0123456789"):
        return None
    if digits[:1] == b"0" and digits[1:2].isalnum() and digits[1:2] not in (b"e", b"f"):
        return None  # octal or hexadecimal, which readers of real numbers do not agree on
    try:
        return sign * float(digits.removesuffix(b"f") if digits not in _NOT_FINITE else digits)
    except ValueError:
        return None


def _float(number: int, kind: str, token: bytes) -> bytes | None:
    value = _real(kind, token)
    if value is None:
        return None
    try:
        stored = struct.pack("<f", value)
    except OverflowError:  # as protobuf has it: beyond the range is infinite
        stored = struct.pack("<f", value * float("inf"))
    return wire.encode_varint(number << 3 | wire.FIXED32) + stored


def _double(number: int, kind: str, token: bytes) -> bytes | None:
    value = _real(kind, token)
    if value is None:
        return None
    return wire.encode_varint(number << 3 | wire.FIXED64) + struct.pack("<d", value)


# Each returns a field in the wire format, None for a token of another type.
_SCALARS: dict[str, Callable[[int, str, bytes], bytes | None]] = {
    "string": _string,
    "int": _int,
    "bool": _bool,
    "DataType": _data_type,
    "float": _float,
    "double": _double,
}
_WORDS = {
    "string": "a quoted string",
    "int": "a whole number of 64 bits",
    "bool": "true or false",
    "DataType": "a type, DT_…",
    "float": "a number",
    "double": "a number",
}
