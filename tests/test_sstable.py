"""Sorted tables, read and written: exact bytes, prefixes, blocks, checksums and Snappy."""

from __future__ import annotations

import contextlib
import struct
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cramjam
import numpy as np
import pytest
from builders import (
    Pairs,
    block,
    fixed32,
    masked,
    number,
    sealed,
    snappy_literals,
    split,
    table,
    text,
    varint,
)
from conftest import SAMPLES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_bundle import GOLDEN_INDEX

from lstmstate.checkpoint import protobuf as wire
from lstmstate.checkpoint import sstable_writer
from lstmstate.checkpoint.sstable import Table, masked_crc
from lstmstate.checkpoint.sstable_writer import write_table
from lstmstate.errors import CorruptError, MissingExtraError
from lstmstate.files.reader import ByteSource

# One entry "a" → "1", one entry "ab" → "23", byte by byte.
GOLDEN = bytes.fromhex(
    "00 01 01  61  31"  # shares 0 bytes, 1 further byte, value of 1
    "01 01 02  62  32 33"  # shares "a" with the key before
    "00 00 00 00  01 00 00 00"  # one restart, at 0; the count of restarts
    "00  12 37 10 34"  # not compressed; masked CRC32C of all before
    "00 00 00 00  01 00 00 00"  # the block of metadata, at 24, is empty
    "00  c0 f2 a1 b0"
    "00 02 02  61 62  00 13"  # the index, at 37: up to "ab", the block at 0 of 19 bytes
    "00 00 00 00  01 00 00 00"
    "00  a5 77 e2 ae"
    "18 08  25 0f"  # footer: the positions and sizes of the two
    "00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00"
    "00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00"
    "57 fb 80 8b 24 75 47 db"
)


@contextmanager
def opened(folder: Path, content: bytes, *, checksums: bool = True) -> Iterator[Table]:
    """Open the content as a table."""
    path = folder / "table"
    path.write_bytes(content)
    with ByteSource(str(path)) as source:
        yield Table(source, checksums=checksums)


def entries(folder: Path, content: bytes, *, checksums: bool = True) -> list[tuple[bytes, bytes]]:
    """Return all entries of a table."""
    with opened(folder, content, checksums=checksums) as read:
        return list(read)


def numbered(count: int) -> list[tuple[bytes, bytes]]:
    """Entries in order, with long common prefixes."""
    return [(f"layer/{k:06d}/kernel".encode(), str(k).encode() * 3) for k in range(count)]


# ---- checksums


@pytest.mark.parametrize(
    ("data", "crc"),
    [  # RFC 3720, appendix B.4
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (b"123456789", 0xE3069283),
    ],
)
def test_checksums_are_masked_crc32c(data: bytes, crc: int) -> None:
    assert masked_crc(data) == ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF == masked(data)


@given(st.binary(max_size=50), st.integers(0, 50))
@settings(derandomize=True, deadline=None, max_examples=50)
def test_a_checksum_over_parts_equals_the_whole(data: bytes, cut: int) -> None:
    assert masked_crc(data[:cut], data[cut:]) == masked(data)


# ---- layout


def test_the_exact_bytes_of_a_table_are_read_and_written_by_the_builder(tmp_path: Path) -> None:
    expected = [(b"a", b"1"), (b"ab", b"23")]
    assert table(expected) == GOLDEN
    with opened(tmp_path, GOLDEN) as read:
        assert list(read) == expected
        assert [read.get(key) for key in (b"a", b"ab")] == [b"1", b"23"]
        assert [read.get(key) for key in (b"", b"A", b"aa", b"abc", b"b")] == [None] * 5


@pytest.mark.parametrize("every", [1, 2, 16, 1000])
def test_keys_share_prefixes_between_restarts(tmp_path: Path, every: int) -> None:
    expected = numbered(100)
    assert entries(tmp_path, table(block(expected, every), separators=[b"m"])) == expected


def test_index_keys_only_need_to_separate_the_blocks(tmp_path: Path) -> None:
    expected = [(b"\0a", b"1"), (b"kernel", b"2"), (b"str", b"3")]
    content = table(*([entry] for entry in expected), separators=[b"\x01", b"l", b"t"])
    with opened(tmp_path, content) as read:
        assert list(read) == expected
        assert [read.get(key) for key in (b"\0a", b"kernel", b"str")] == [b"1", b"2", b"3"]
        assert read.get(b"l") is None


def test_a_table_is_read_without_reading_other_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = table(*split(numbered(1000), 256))
    requested: list[int] = []
    plain = ByteSource.read

    def counting(self: ByteSource, offset: int, length: int, what: str) -> bytes:
        requested.append(length)
        return plain(self, offset, length, what)

    with opened(tmp_path, content) as read:
        monkeypatch.setattr(ByteSource, "read", counting)
        assert read.get(b"layer/000500/kernel") == b"500" * 3
    assert sum(requested) < 600


@settings(
    derandomize=True,
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.dictionaries(st.binary(max_size=12), st.binary(max_size=40), max_size=40),
    st.integers(1, 200),
    st.sampled_from([None, snappy_literals, lambda data: bytes(cramjam.snappy.compress_raw(data))]),
)
def test_every_table_round_trips(
    tmp_path: Path, expected: dict[bytes, bytes], size: int, pack: object
) -> None:
    blocks = split(sorted(expected.items()), size) if expected else []  # no empty one is written
    content = table(*blocks, pack=pack)  # type: ignore[arg-type]
    with opened(tmp_path, content) as read:
        assert list(read) == sorted(expected.items())
        assert all(read.get(key) == value for key, value in expected.items())
        assert read.get(b"longer than any") is None


def test_a_table_of_many_blocks_is_read(tmp_path: Path) -> None:
    blocks = split(numbered(500), 256)
    assert len(blocks) > 50
    assert entries(tmp_path, table(*blocks)) == numbered(500)


# ---- damage


@pytest.mark.parametrize(("at", "byte"), [(4, 0x33), (19, 1)], ids=["a value", "the compression"])
def test_a_block_with_a_checksum_mismatch_is_refused(tmp_path: Path, at: int, byte: int) -> None:
    damaged = GOLDEN[:at] + bytes([byte]) + GOLDEN[at + 1 :]
    with pytest.raises(CorruptError, match="checksum of the block at byte 0 does not match"):
        entries(tmp_path, damaged)
    if at == 4:
        read = entries(tmp_path, damaged, checksums=False)
        assert read == [(b"a", b"3"), (b"ab", b"23")]


@pytest.mark.parametrize("content", [b"", b"\0", GOLDEN[:-1], GOLDEN[:-8], GOLDEN + b"\0"])
def test_a_file_that_does_not_end_as_a_table_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(CorruptError, match="does not end as a checkpoint does"):
        entries(tmp_path, content)


def test_a_table_without_its_start_is_refused(tmp_path: Path) -> None:
    for cut in range(1, len(GOLDEN)):
        with pytest.raises(CorruptError):
            entries(tmp_path, GOLDEN[cut:])


# ---- invalid tables

FIRST = (b"", b"0")
TOP = 1 << 63


def raw_block(*entries: tuple[int, bytes, bytes]) -> bytes:
    """A block whose entries claim to share any number of bytes with the key before."""
    return b"".join(
        varint(shared) + varint(len(key)) + varint(len(value)) + key + value
        for shared, key, value in entries
    ) + struct.pack("<2I", 0, 1)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (block([FIRST])[:-4] + struct.pack("<I", 1000), "restart array is longer"),
        (block([FIRST])[:-4] + struct.pack("<I", (1 << 32) - 1), "restart array is longer"),
        (b"\0\0", "restart array is longer"),
        (b"", "restart array is longer"),
        (raw_block((0, *FIRST), (1, b"a", b"1")), "runs over its end"),
        (raw_block((0, *FIRST), (0, b"a", b"1"), (TOP, b"b", b"1")), "runs over its end"),
        (b"\0\0\x05" + block([]), "runs over its end"),
        (b"\0" + varint(TOP) + b"\0" + block([]), "runs over its end"),
        (b"\xff" * 10 + b"\x01" + block([]), "varint"),
        (block([FIRST, (b"b", b"1"), (b"a", b"1")]), "not in order"),
        (block([FIRST, (b"a", b"1"), (b"a", b"1")], 1), "one is there twice"),
    ],
)
def test_an_invalid_block_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(CorruptError, match=words) as caught:
        entries(tmp_path, table(content, separators=[b"z"]))
    assert caught.value.path == str(tmp_path / "table")


@pytest.mark.parametrize(
    "blocks",
    [
        [[FIRST, (b"b", b"1")], [(b"a", b"1"), (b"c", b"1")]],
        [[FIRST, (b"b", b"1")], [(b"b", b"1"), (b"c", b"1")]],
    ],
    ids=["out of order", "twice"],
)
def test_keys_must_increase_over_all_blocks(tmp_path: Path, blocks: list[Pairs]) -> None:
    with pytest.raises(CorruptError, match="not in order"):
        entries(tmp_path, table(*blocks))


def test_an_index_that_names_blocks_out_of_order_is_refused(tmp_path: Path) -> None:
    first, second = [FIRST, (b"a", b"1")], [(b"b", b"1")]
    with pytest.raises(CorruptError):
        entries(tmp_path, table(second, first, separators=[b"a", b"b"]))
    with pytest.raises(CorruptError, match="not in order"):
        entries(tmp_path, table(first, second, separators=[b"b", b"a"]))


def test_an_index_key_below_the_keys_of_its_block_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorruptError, match="does not fit the blocks"):
        entries(tmp_path, table([FIRST, (b"kernel", b"1")], separators=[b"a"]))


@pytest.mark.parametrize("handle", [(10_000, 8), (0, TOP), (TOP, TOP), (2**64 - 1, 2**64 - 1)])
def test_a_block_outside_the_file_is_refused(tmp_path: Path, handle: tuple[int, int]) -> None:
    with pytest.raises(CorruptError, match="cut short"):
        entries(tmp_path, table([FIRST], handles={0: handle}))


def test_an_index_that_names_itself_as_its_block_is_read_once_at_most(tmp_path: Path) -> None:
    footer = table([FIRST])[-48:]
    offset, at = wire.varint(footer, 2)
    size, _ = wire.varint(footer, at)
    content = table([FIRST], handles={0: (offset, size)})
    assert content[-48:] == footer
    with contextlib.suppress(CorruptError):
        assert len(entries(tmp_path, content)) == 1


def test_a_footer_of_endless_varints_is_refused(tmp_path: Path) -> None:
    plain = table([FIRST])
    with pytest.raises(CorruptError, match="varint"):
        entries(tmp_path, plain[:-48] + b"\xff" * 40 + plain[-8:])


@pytest.mark.parametrize("kind", [2, 3, 255])
def test_an_unknown_compression_type_is_refused(tmp_path: Path, kind: int) -> None:
    plain = bytearray(table([FIRST]))
    size = len(block([FIRST]))
    plain[size] = kind
    plain[size + 1 : size + 5] = struct.pack("<I", masked(bytes(plain[: size + 1])))
    with pytest.raises(CorruptError, match=f"compression type {kind}"):
        entries(tmp_path, bytes(plain))


# ---- Snappy


def test_the_exact_bytes_of_a_snappy_block_are_read(tmp_path: Path) -> None:
    plain = block([(b"k", b"v" * 70)])
    packed = bytes.fromhex(
        "52"  # 82 bytes
        "14  00 01 46 6b 76 76"  # a literal of 6: up to the first two of the 70 "v"
        "fe 01 00"  # a copy of 64 bytes from 1 back
        "0c 76 76 76 76"  # a literal of 4
        "1c 00 00 00 00 01 00 00 00"  # a literal of 8: the restarts
    )
    assert len(plain) == 82
    content = table(
        plain,
        separators=[b"k"],
        pack=lambda content: packed if content == plain else snappy_literals(content),
    )
    assert entries(tmp_path, content) == [(b"k", b"v" * 70)]


def test_snappy_blocks_as_dense_as_snappy_packs_are_read(tmp_path: Path) -> None:
    expected = [(b"k", bytes(200_000))]
    content = table(expected, pack=lambda data: bytes(cramjam.snappy.compress_raw(data)))
    assert len(content) < 200_000 / 20
    assert entries(tmp_path, content) == expected


def test_the_checksum_of_a_snappy_block_covers_its_packed_bytes(tmp_path: Path) -> None:
    content = bytearray(table([(b"k", b"v")], pack=snappy_literals))
    assert entries(tmp_path, bytes(content)) == [(b"k", b"v")]
    content[3] ^= 1
    with pytest.raises(CorruptError, match="checksum"):
        entries(tmp_path, bytes(content))


@pytest.mark.parametrize(
    ("pack", "words"),
    [
        (lambda data: varint(1 << 40) + snappy_literals(data)[1:], "declares 1099511627776"),
        (lambda data: varint(2**64 - 1) + data, "declares"),
        (lambda data: varint(len(data) + 1) + snappy_literals(data)[1:], "Snappy block"),
        (lambda data: varint(len(data) - 1) + snappy_literals(data)[1:], "Snappy block"),
        (lambda data: varint(64) + b"\0a\xfe\x05\x00", "Snappy block"),  # a copy from before
        (lambda data: varint(4) + b"\xf0", "Snappy block"),
        (lambda data: b"", "varint"),
    ],
)
def test_an_invalid_snappy_block_is_refused(
    tmp_path: Path, pack: Callable[[bytes], bytes], words: str
) -> None:
    with pytest.raises(CorruptError, match=words):
        entries(tmp_path, table([FIRST], pack=pack))


def test_without_cramjam_a_snappy_block_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = table([FIRST], pack=snappy_literals)
    monkeypatch.setitem(sys.modules, "cramjam", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'lstmstate\[snappy\]'"):
        entries(tmp_path, content)


# ---- the writer of sorted tables: TensorFlow's own bytes, read back by the reader


with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import tensorflow as tf

steady = settings(derandomize=True, deadline=None, max_examples=200)
slow = settings(steady, max_examples=15)

keys = st.binary(max_size=6) | st.text("ab\xff", max_size=6).map(lambda key: key.encode("latin-1"))
written_entries = st.dictionaries(keys, st.binary(max_size=40), max_size=50).map(
    lambda found: sorted(found.items())
)


def written(pairs: Pairs) -> bytes:
    """The whole file."""
    return b"".join(write_table(pairs))


def read(path: Path) -> list[tuple[bytes, bytes]]:
    """All entries of a table, with checksums verified."""
    with ByteSource(str(path)) as source:
        return list(Table(source))


def assert_written_alike(path: Path) -> None:
    """Read a file of TensorFlow's, and write its entries again."""
    assert written(read(path)) == path.read_bytes()


def save_index(prefix: Path, names: list[bytes]) -> Path:
    """Let TensorFlow write a bundle of scalars; return its index."""
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=[tf.constant(k) for k in range(len(names))],
    )
    return Path(f"{prefix}.index")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all examples of a property."""
    return tmp_path_factory.mktemp("tables")


# ---- exact bytes


def test_the_exact_bytes_of_an_index(tmp_path: Path) -> None:
    path = tmp_path / "index"
    path.write_bytes(GOLDEN_INDEX)
    assert written(read(path)) == GOLDEN_INDEX


def test_the_exact_bytes_of_a_table_without_entries() -> None:
    nothing = sealed(block([]))
    footer = varint(0) + varint(8) + varint(len(nothing)) + varint(8)
    assert written([]) == nothing * 2 + footer.ljust(40, b"\0") + table()[-8:]


def test_every_16th_key_is_stored_whole() -> None:
    pairs = [(f"layer/{k:03d}".encode(), b"") for k in range(40)]
    assert written(pairs) == table(pairs, separators=[b"m"])


@pytest.mark.parametrize(
    ("keys_of_blocks", "separators"),
    [
        ([b"the quick", b"the who"], [b"the r", b"u"]),
        ([b"abc", b"abd"], [b"abc", b"b"]),  # no key is between their bytes
        ([b"abc", b"abe"], [b"abd", b"b"]),
        ([b"ab", b"abc"], [b"ab", b"b"]),  # one is a prefix of the other
        ([b"", b"a"], [b"", b"b"]),
        ([b"a\xfe", b"a\xff"], [b"a\xfe", b"b"]),
        ([b"a\xfd\xff", b"a\xff"], [b"a\xfe", b"b"]),
        ([b"\xff\xffab"], [b"\xff\xffb"]),
        ([b"\xff\xff"], [b"\xff\xff"]),
        ([b""], [b""]),
    ],
)
def test_the_keys_of_the_index_block_are_short(
    monkeypatch: pytest.MonkeyPatch, keys_of_blocks: list[bytes], separators: list[bytes]
) -> None:
    monkeypatch.setattr(sstable_writer, "_BLOCK_BYTES", 1)
    pairs = [(key, b"value") for key in keys_of_blocks]
    assert written(pairs) == table(*([pair] for pair in pairs), separators=separators)


def test_keys_must_increase() -> None:
    for pairs in ([(b"b", b""), (b"a", b"")], [(b"a", b""), (b"a", b"")]):
        with pytest.raises(ValueError, match="comes behind"):
            written(pairs)


# ---- comparison with TensorFlow


@pytest.mark.parametrize(
    "path", sorted(SAMPLES.rglob("*.index")), ids=lambda path: path.parent.name
)
def test_the_indexes_of_the_samples(path: Path) -> None:
    assert_written_alike(path)


@pytest.mark.parametrize("count", [1, 15, 16, 17, 33, 4000, 20_000])
def test_indexes_of_many_entries(tmp_path: Path, count: int) -> None:
    names = [f"tower_{k % 7}/layer_{k}/{'kernel' * (k % 9)}".encode() for k in range(count)]
    path = save_index(tmp_path / "m", names)
    assert_written_alike(path)
    assert (path.stat().st_size > 3 * (1 << 18)) == (count == 20_000)  # of several blocks


@pytest.mark.parametrize("size", [1 << 18, 1 << 19], ids=["full", "overly large"])
@pytest.mark.parametrize("over", range(-80, 8))
def test_blocks_end_at_the_same_keys_as_tensorflows(tmp_path: Path, size: int, over: int) -> None:
    names = [b"a", b"b" * (size + over), b"c", b"d"]
    assert_written_alike(save_index(tmp_path / "m", names))


@slow
@given(st.sets(st.tuples(keys.filter(bool), st.sampled_from([b"\xff", b"x", b"\0"])), min_size=2))
def test_indexes_of_a_block_for_each_entry(folder: Path, starts: set[tuple[bytes, bytes]]) -> None:
    names = sorted({start + filler * (1 << 18) for start, filler in starts})[:12]
    assert_written_alike(save_index(folder / "m", names))


@pytest.mark.parametrize("size", [(1 << 18) - 200, (1 << 18) + 9, (1 << 19) - 40, 1 << 19, 1 << 20])
def test_very_large_entries_start_a_block(tmp_path: Path, size: int) -> None:
    """V1 files are tables with entries as large as the values."""
    lengths = [10, 10, size, 10, size + 1, size - 1, 10]
    path = tmp_path / "v1"
    tf.raw_ops.SaveSlices(
        filename=str(path),
        tensor_names=[f"v{k}" for k in range(len(lengths))],
        shapes_and_slices=[""] * len(lengths),
        data=[tf.constant(np.arange(length // 4, dtype=np.float32)) for length in lengths],
    )
    assert_written_alike(path)


# ---- reading back


@steady
@given(written_entries, st.integers(1, 200))
def test_written_tables_are_read_back(folder: Path, pairs: Pairs, block_bytes: int) -> None:
    path = folder / "table"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sstable_writer, "_BLOCK_BYTES", block_bytes)
        path.write_bytes(written(pairs))
    assert read(path) == list(pairs)
    with ByteSource(str(path)) as source:
        index = Table(source)
        assert [index.get(key) for key, _ in pairs] == [value for _, value in pairs]


# ---- protocol buffers


@steady
@given(st.integers(0, (1 << 64) - 1))
def test_varints_are_the_shortest_and_are_read_back(value: int) -> None:
    data = wire.encode_varint(value)
    assert (data, wire.varint(data, 0)) == (varint(value), (value, len(data)))


@steady
@given(
    st.integers(1, (1 << 29) - 1), st.integers(1, (1 << 64) - 1), st.binary(max_size=300),
    st.integers(1, (1 << 32) - 1),
)  # fmt: skip
def test_fields_are_those_of_the_format(field: int, value: int, data: bytes, bits: int) -> None:
    assert wire.int_field(field, value) == number(field, value)
    assert wire.bytes_field(field, data) == text(field, data)
    assert wire.fixed32_field(field, bits) == fixed32(field, bits)


def test_zeros_are_omitted_and_empty_messages_are_not() -> None:
    assert wire.int_field(3, 0) == wire.fixed32_field(3, 0) == b""
    assert wire.int_field(3, 0, always=True) == number(3, 0)
    assert wire.bytes_field(3, b"") == text(3, b"")


@steady
@given(st.binary(max_size=20))
def test_names_may_be_any_bytes(name: bytes) -> None:
    assert wire.encode_text(wire.text(name)) == name
