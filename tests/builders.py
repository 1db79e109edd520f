"""Valid and invalid checkpoints, built byte by byte from the description of the format.

    bundle = BundleBuilder()
    bundle.add("w", np.ones((2, 3), np.float32))
    bundle.entry("bad", dtype=1, shape=(1 << 40,), size=1 << 42)      # any numbers
    checkpoint = Checkpoint(bundle.write(tmp_path / "model"))

Nothing here uses the code under test: ordered codes and messages are implemented again.
The layout is that of TensorFlow's core/lib/io/format.cc, core/util/tensor_bundle/tensor_bundle.cc
and core/util/saved_tensor_slice.proto (v1.15.0).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import google_crc32c
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]
Extents = Sequence[tuple[int, int]]  # (start, length) of each axis; length -1: the whole axis
Pairs = Sequence[tuple[bytes, bytes]]
Pack = Callable[[bytes], bytes]

MAGIC = bytes.fromhex("57fb808b247547db")
FLOAT, DOUBLE, INT32, UINT8, STRING, INT64, BOOL, BFLOAT16, HALF = 1, 2, 3, 4, 7, 9, 10, 14, 19
NUMBERS = {
    "float32": 1, "float64": 2, "int32": 3, "uint8": 4, "int16": 5, "int8": 6, "object": STRING,
    "complex64": 8, "int64": 9, "bool": 10, "uint16": 17, "complex128": 18, "float16": 19,
    "uint32": 22, "uint64": 23,
}  # fmt: skip

# ---- protocol buffers


@lru_cache(4096)  # most are small, and there are millions
def varint(value: int) -> bytes:
    """A number in groups of seven bits; one below zero as its 64-bit two's complement."""
    value %= 1 << 64
    groups = [value >> shift & 0x7F for shift in range(0, max(value.bit_length(), 1), 7)]
    return bytes([*(group | 0x80 for group in groups[:-1]), groups[-1]])


def number(field: int, value: int) -> bytes:
    """An integer field."""
    return varint(field << 3) + varint(value)


def text(field: int, value: bytes | str) -> bytes:
    """A string, bytes or message field."""
    data = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
    return varint(field << 3 | 2) + varint(len(data)) + data


def fixed32(field: int, bits: int) -> bytes:
    """A field of four bytes."""
    return varint(field << 3 | 5) + struct.pack("<I", bits)


def fixed64(field: int, bits: int) -> bytes:
    """A field of eight bytes."""
    return varint(field << 3 | 1) + struct.pack("<Q", bits)


def shape_proto(shape: Iterable[int]) -> bytes:
    """A TensorShapeProto."""
    return b"".join(text(2, number(1, size) if size else b"") for size in shape)


def slice_proto(extents: Extents) -> bytes:
    """A TensorSliceProto."""
    return b"".join(
        text(1, b"" if length == -1 else number(1, start) + number(2, length))
        for start, length in extents
    )


# ---- checksums and ordered code


def masked(data: bytes) -> int:
    """The checksum as stored: rotated right by 15 bits, plus a constant."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) % (1 << 32)


def ordered_signed(value: int) -> bytes:
    """As many leading ones as there are bytes, a zero, the number; all inverted below zero."""
    if value < 0:
        return bytes(byte ^ 0xFF for byte in ordered_signed(~value))
    size = value.bit_length() // 7 + 1
    return int("1" * size + "0" + f"{value:0{7 * size - 1}b}", 2).to_bytes(size, "big")


def slice_key(name: str | bytes, extents: Extents) -> bytes:
    """The key under which a slice is stored."""
    data = name.encode("utf-8", "surrogateescape") if isinstance(name, str) else name
    escaped = b"".join({0: b"\0\xff", 255: b"\xff\0"}.get(byte, bytes([byte])) for byte in data)
    rank = bytes([1, len(extents)]) if extents else b"\0"
    numbers = b"".join(ordered_signed(part) for extent in extents for part in extent)
    return b"\0" + escaped + b"\0\1" + rank + numbers


# ---- tables


def block(entries: Pairs, restart_every: int = 16) -> bytes:
    """The content of a block: entries with shared prefixes, restart positions and their count."""
    content, restarts, last = bytearray(), [], b""
    for position, (key, value) in enumerate(entries):
        shared = 0
        if position % restart_every == 0:
            restarts.append(len(content))
        else:
            shared = next((k for k, pair in enumerate(zip(last, key, strict=False))
                           if pair[0] != pair[1]), min(len(last), len(key)))  # fmt: skip
        content += varint(shared) + varint(len(key) - shared) + varint(len(value))
        content += key[shared:] + value
        last = key
    restarts = restarts or [0]
    return bytes(content) + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))


def sealed(content: bytes, compression: int = 0) -> bytes:
    """A block with its trailer: the compression type and the masked checksum of both."""
    content += bytes([compression])
    return content + struct.pack("<I", masked(content))


def table(
    *blocks: Pairs | bytes,
    separators: Sequence[bytes] = (),
    handles: Mapping[int, tuple[int, int]] | None = None,
    pack: Pack | None = None,
) -> bytes:
    """A table file.

    Args:
        blocks: the entries of each data block, or its content as bytes.
        separators: keys of the index block, in place of the last key of each block.
        handles: (offset, size) to write for some blocks, by number, instead of the true ones.
        pack: how to compress the blocks.
    """
    file, index = bytearray(), []

    def put(content: bytes) -> bytes:
        packed = pack(content) if pack else content
        handle = varint(len(file)) + varint(len(packed))
        file.extend(sealed(packed, 1 if pack else 0))
        return handle

    for place, entries in enumerate(blocks):
        handle = put(entries if isinstance(entries, bytes) else block(entries))
        if place in (handles or {}):
            handle = b"".join(map(varint, (handles or {})[place]))
        last = entries[-1][0] if entries and not isinstance(entries, bytes) else b""
        index.append((separators[place] if separators else last, handle))
    footer = put(block([])) + put(block(index, 1))
    return bytes(file) + footer.ljust(40, b"\0") + MAGIC


def split(entries: Pairs, block_size: int) -> list[list[tuple[bytes, bytes]]]:
    """Split entries into blocks that end when they reach a size, as the writer does."""
    blocks: list[list[tuple[bytes, bytes]]] = [[]]
    size = 0
    for key, value in entries:
        if size >= block_size:
            blocks.append([])
            size = 0
        blocks[-1].append((key, value))
        size += len(key) + len(value) + 3
    return blocks


def snappy_literals(content: bytes) -> bytes:
    """A Snappy block that copies nothing: the length, then runs of at most 60 bytes."""
    runs = (content[at : at + 60] for at in range(0, len(content), 60))
    return varint(len(content)) + b"".join(bytes([len(run) - 1 << 2]) + run for run in runs)


# ---- V2 bundles


def bundle_header(shards: int = 1, endianness: int = 0, min_consumer: int = 0) -> bytes:
    """A BundleHeaderProto; fields that are 0 are left out."""
    version = number(1, 1) + (number(2, min_consumer) if min_consumer else b"")
    order = number(2, endianness) if endianness else b""
    return number(1, shards) + order + text(3, version)


def bundle_entry(
    dtype: int,
    shape: Iterable[int],
    *,
    shard: int = 0,
    offset: int = 0,
    size: int = 0,
    crc: int = 0,
    slices: Sequence[Extents] = (),
) -> bytes:
    """A BundleEntryProto."""
    return (
        number(1, dtype)
        + text(2, shape_proto(shape))
        + b"".join(number(n, v) for n, v in ((3, shard), (4, offset), (5, size)) if v)
        + (fixed32(6, crc) if crc else b"")
        + b"".join(text(7, slice_proto(extents)) for extents in slices)
    )


def string_bytes(values: Iterable[bytes], *, big_endian: bool = False) -> tuple[bytes, int]:
    """The stored bytes of a string tensor and the checksum of its entry."""
    order = ">" if big_endian else "<"
    elements = list(values)
    counted = b"".join(struct.pack(f"{order}I", len(element)) for element in elements)
    tail = struct.pack(f"{order}I", masked(counted)) + b"".join(elements)
    return b"".join(varint(len(element)) for element in elements) + tail, masked(counted + tail)


class BundleBuilder:
    """A V2 checkpoint under construction: entries by key, and the bytes of its data files."""

    def __init__(self, *, shards: int = 1, big_endian: bool = False) -> None:
        self.entries: dict[bytes, bytes] = {}
        self.data = [bytearray() for _ in range(shards)]
        self.header = bundle_header(shards, int(big_endian))
        self._big_endian = big_endian

    def entry(self, key: str | bytes, *, dtype: int, shape: Iterable[int], **fields: int) -> None:
        """Add an entry with any numbers, valid or not."""
        name = key.encode("utf-8", "surrogateescape") if isinstance(key, str) else key
        self.entries[name] = bundle_entry(dtype, shape, **fields)  # type: ignore[arg-type]

    def add(
        self, key: str | bytes, value: Array, *, shard: int = 0, dtype: int | None = None
    ) -> None:
        """Add a tensor: its bytes at the end of a data file, and the entry for them."""
        if value.dtype == object:
            stored, crc = string_bytes(value.ravel(), big_endian=self._big_endian)
        else:
            order = ">" if self._big_endian else "<"
            stored = value.astype(value.dtype.newbyteorder(order)).tobytes()
            crc = masked(stored)
        where = {"shard": shard, "offset": len(self.data[shard]), "size": len(stored), "crc": crc}
        self.entry(key, dtype=dtype or NUMBERS[value.dtype.name], shape=value.shape, **where)
        self.data[shard] += stored

    def add_slices(self, name: str, value: Array, cuts: Sequence[Extents]) -> None:
        """Add a partitioned variable: the whole under its name, each part under a key."""
        shape, dtype = value.shape, NUMBERS[value.dtype.name]
        self.entries[name.encode()] = bundle_entry(dtype, shape, slices=cuts)
        for extents in cuts:
            part = tuple(slice(start, start + length) for start, length in extents)
            self.add(slice_key(name, extents), value[part])

    def index(self) -> bytes:
        """The index file, in one block."""
        return table([(b"", self.header), *sorted(self.entries.items())])

    def write(self, prefix: Path, index: bytes | None = None) -> str:
        """Write all files; `index` replaces the index made from the entries."""
        Path(f"{prefix}.index").write_bytes(self.index() if index is None else index)
        for shard, data in enumerate(self.data):
            Path(f"{prefix}.data-{shard:05d}-of-{len(self.data):05d}").write_bytes(data)
        return str(prefix)


# ---- V1 tables

_VALUE_FIELDS = {"float32": 5, "float64": 6, "complex64": 9, "int64": 10, "bool": 11,
                 "complex128": 12, "float16": 13, "uint32": 16, "uint64": 17}  # fmt: skip


def tensor_values(value: Array) -> bytes:
    """The TensorProto of a V1 file: a field of values, and neither dtype nor shape."""
    if value.dtype == object:
        return b"".join(text(8, element) for element in value.ravel())
    field = _VALUE_FIELDS.get(value.dtype.name, 7)
    if value.dtype.kind in "fc" and value.dtype != np.float16:
        return text(field, value.tobytes())
    numbers = value.view(np.uint16) if value.dtype == np.float16 else value
    return text(field, b"".join(varint(int(element)) for element in numbers.ravel()))


def v1_listed(name: str, shape: Iterable[int], dtype: int, slices: Iterable[Extents]) -> bytes:
    """A SavedSliceMeta: a variable as the list has it."""
    return (
        text(1, name)
        + text(2, shape_proto(shape))
        + number(3, dtype)
        + b"".join(text(4, slice_proto(extents)) for extents in slices)
    )


def v1_list(listed: Iterable[bytes]) -> bytes:
    """The value of the first key: SavedTensorSlices with the list."""
    versions = text(2, number(1, 1))
    return text(1, b"".join(text(1, variable) for variable in listed) + versions)


class V1Builder:
    """A V1 file under construction: the list of variables, and the values by key."""

    def __init__(self) -> None:
        self.listed: list[bytes] = []
        self.entries: dict[bytes, bytes] = {}

    def list(
        self, name: str, dtype: int, shape: Iterable[int], slices: Sequence[Extents] | None = None
    ) -> None:
        """List a variable without values, as one slice unless slices are passed."""
        shape = tuple(shape)
        whole = [[(0, -1)] * len(shape)]
        self.listed.append(v1_listed(name, shape, dtype, whole if slices is None else slices))

    def values(self, name: str, extents: Extents, proto: bytes) -> None:
        """Add the TensorProto of one slice."""
        slice_ = text(1, name) + text(2, slice_proto(extents)) + text(3, proto)
        self.entries[slice_key(name, extents)] = text(2, slice_)

    def add(self, name: str, value: Array) -> None:
        """Add a whole variable."""
        self.list(name, NUMBERS[value.dtype.name], value.shape)
        self.values(name, [(0, -1)] * value.ndim, tensor_values(value))

    def add_slices(self, name: str, value: Array, cuts: Sequence[Extents]) -> None:
        """Add some or all slices of a partitioned variable."""
        self.list(name, NUMBERS[value.dtype.name], value.shape, cuts)
        for extents in cuts:
            part = tuple(slice(start, start + length) for start, length in extents)
            self.values(name, extents, tensor_values(value[part]))

    def write(self, path: Path, *, block_size: int = 1 << 18, pack: Pack | None = None) -> str:
        """Write the file."""
        entries = [(b"", v1_list(self.listed)), *sorted(self.entries.items())]
        path.write_bytes(table(*split(entries, block_size), pack=pack))
        return str(path)


# ---- graphs


def node(name: str, op: str, inputs: Iterable[str] = (), **attributes: bytes) -> bytes:
    """A GraphDef.node (1); attributes are AttrValues."""
    data = text(1, name) + text(2, op) + b"".join(text(3, source) for source in inputs)
    return text(1, data + b"".join(text(5, text(1, k) + text(2, v)) for k, v in attributes.items()))


def tensor(dtype: int, shape: Iterable[int], values: bytes) -> bytes:
    """A TensorProto: 1 dtype, 2 shape, and a field of values."""
    return number(1, dtype) + text(2, shape_proto(shape)) + values


def const(name: str, proto: bytes) -> bytes:
    """A constant node."""
    return node(name, "Const", value=text(8, proto))


def names_const(name: str, *names: str) -> bytes:
    """A constant node of strings."""
    return const(name, tensor(STRING, [len(names)], b"".join(text(8, n) for n in names)))


def meta_graph(*nodes: bytes, producer: int = 0, info: bytes = b"", rest: bytes = b"") -> bytes:
    """A MetaGraphDef: 1 meta_info_def, 2 graph_def {1 node, 4 versions}, and any further fields."""
    versions = text(4, number(1, producer)) if producer else b""
    return text(1, info) + text(2, b"".join(nodes) + versions) + rest


def call(name: str, called: str, *inputs: str) -> bytes:
    """A node that calls a function."""
    return node(name, "PartitionedCall", inputs, f=text(10, text(1, called)))


def function(name: str, *body: bytes, arguments: Iterable[str] = ()) -> bytes:
    """A FunctionDef of a library: 1 signature {1 name, 2 input_arg {1 name}}, 3 node_def."""
    signature = text(1, name) + b"".join(text(2, text(1, given)) for given in arguments)
    # A node of a graph is its field 1, a node of a function its field 3.
    return text(1, text(1, signature) + b"".join(b"\x1a" + data[1:] for data in body))


def graph_with_functions(main: bytes, *functions: bytes) -> bytes:
    """A MetaGraphDef whose graph has a library."""
    return text(2, main + text(2, b"".join(functions)))
