"""safetensors files: a header in JSON, and tensors one after another behind it.

Format: the README of huggingface/safetensors, version 0.8. The metadata of a state are a text
under `__metadata__`.
"""

from __future__ import annotations

import json
import math
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from lstmstate import limits
from lstmstate.checkpoint.dtypes import BY_NAME
from lstmstate.errors import CorruptError, UnsupportedError, located
from lstmstate.files.reader import ByteSource
from lstmstate.state.formats.array_writer import Destination, put_rows, refuse_more
from lstmstate.state.formats.stored_array import StateFile
from lstmstate.state.formats.stored_tensor import StoredTensor, TensorWriter
from lstmstate.state.metadata import KEY, parse

if TYPE_CHECKING:
    from lstmstate.state.state import Array

_METADATA = "__metadata__"
_LENGTH = 8  # bytes of the length of the header
_DTYPES = {
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
    "I8": "int8",
    "I16": "int16",
    "I32": "int32",
    "I64": "int64",
    "U8": "uint8",
    "U16": "uint16",
    "U32": "uint32",
    "U64": "uint64",
    "BOOL": "bool",
    "C64": "complex64",
}
_CODES = {name: code for code, name in _DTYPES.items()}


def open_file(source: ByteSource) -> StateFile:
    """Return the tensors of a safetensors file."""
    length = int.from_bytes(source.read(0, _LENGTH, "the length of the header"), "little")
    if length > limits.SAFETENSORS_HEADER.most:
        raise UnsupportedError(f"its header of {length} bytes is too long to be one of states")
    header = source.read(_LENGTH, length, "the header")
    if sum(map(header.count, (b"[", b"{", b","))) > limits.MAX_SAFETENSORS_PARTS:
        raise UnsupportedError("its header has more parts than that of any file of tensors")
    if header.count(b":") > limits.MAX_SAFETENSORS_NAMES:
        raise UnsupportedError("its header has more names than that of any file of tensors")
    entries = _parse(header)
    metadata = entries.pop(_METADATA, {})
    source.budget.spend(limits.MEMBERS, len(entries))
    start = _LENGTH + length
    tensors, ends = [], []
    for name, entry in entries.items():
        with located(tensor=name):
            tensor, span = _tensor(name, entry, source, start)
        tensors.append(tensor)
        ends.append(span)
    _refuse_gaps(ends, source.size - start)
    if not isinstance(metadata, dict) or not all(map(_is_text, metadata.values())):
        raise CorruptError(f"{_METADATA} of its header is not texts by name")
    own = metadata.get(KEY)
    return StateFile(source.path, tensors, parse(own) if own else None, ordered=False)


def _parse(header: bytes) -> dict[str, Any]:
    """Return the entries of the header by name."""
    try:
        entries = json.loads(header.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:  # also of numbers with too many digits
        raise CorruptError("its header is not JSON") from error
    if not isinstance(entries, dict) or not all(map(_is_text, entries)):
        raise CorruptError("its header is not a JSON object of names")
    return entries


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise CorruptError("its header has a name twice")
    return found


def _is_text(value: object) -> bool:
    """Whether a value is a text; JSON can write halves of characters, which are none."""
    with suppress(UnicodeEncodeError):
        return isinstance(value, str) and value.encode() is not None
    return False


def _tensor(
    name: str, entry: Any, source: ByteSource, start: int
) -> tuple[StoredTensor, tuple[int, int]]:
    """Return a tensor, and the bytes behind the header that it takes."""
    match entry:
        case {"dtype": str(code), "shape": list(shape), "data_offsets": [begin, end], **others}:
            pass
        case _:
            raise CorruptError("its entry has no dtype, shape and two data_offsets")
    if others:
        raise CorruptError("its entry has more than a dtype, a shape and data_offsets")
    if code not in _DTYPES:
        raise UnsupportedError(f"its dtype {code:.20} is not read", advice="save it as F32")
    if any(type(size) is not int or size < 0 for size in (*shape, begin, end)):
        raise CorruptError("its shape or data_offsets are not whole numbers")
    if len(shape) > limits.NUMPY_RANK:
        raise UnsupportedError(f"it has {len(shape)} axes")
    dtype = BY_NAME[_DTYPES[code]]
    if math.prod(size or 1 for size in shape) * dtype.itemsize > limits.MAX_INT64:
        raise CorruptError("its shape is one that no array has")
    declared = math.prod(shape) * dtype.itemsize
    if declared != end - begin or end > source.size - start:
        raise CorruptError(
            f"it declares {declared} bytes, the bytes {begin} to {end} of "
            f"{source.size - start} behind the header"
        )
    return StoredTensor(name, tuple(shape), dtype, source, start + begin), (begin, end)


def _refuse_gaps(spans: list[tuple[int, int]], size: int) -> None:
    """Refuse tensors that overlap, and bytes that belong to none."""
    at = 0
    for begin, end in [*sorted(spans), (size, size)]:
        if begin != at:
            how = "overlap" if begin < at else "leave a hole"
            raise CorruptError(f"its tensors {how} at byte {min(begin, at)} behind the header")
        at = end


class SafetensorsWriter(TensorWriter):
    """Tensors, whose rows go where they belong; the widest elements come first."""

    program = "safetensors"
    names = frozenset(_CODES)

    def __init__(self, to: Destination) -> None:
        super().__init__(to)
        refuse_more(limits.MEMBERS, len(self.plans))
        order = sorted(range(len(self.plans)), key=lambda k: (-self.types[k].itemsize, k))
        line = to.metadata.line() if to.metadata is not None else None
        entries: dict[str, Any] = {} if line is None else {_METADATA: {KEY: line}}
        self._starts: dict[int, int] = {}
        at = 0
        for number in order:
            plan, code = self.plans[number], _CODES[self.types[number].name]
            self._starts[number], end = at, at + plan.nbytes
            offsets = {"data_offsets": [at, end]}
            if plan.name == _METADATA:
                raise UnsupportedError(
                    "a safetensors file has no tensor of this name",
                    tensor=plan.name,
                    advice="write an .npz or .h5",
                )
            entries[plan.name] = {"dtype": code, "shape": list(plan.shape), **offsets}
            at = end
        text = json.dumps(entries, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        refuse_more(limits.SAFETENSORS_HEADER, len(text))
        self._start = _LENGTH + len(text)
        self._file = open(to.path, "wb")  # noqa: SIM115 - closed by finish and abandon
        self._file.write(len(text).to_bytes(_LENGTH, "little") + text)

    def abandon(self) -> None:
        with suppress(OSError):
            self._file.close()

    def _put(self, number: int, start: int, array: Array) -> None:
        put_rows(self._file, self._start + self._starts[number], self.plans[number], start, array)

    def _finish(self) -> None:
        self._file.close()
