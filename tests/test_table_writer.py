"""The writer of sorted tables: TensorFlow's own bytes, read back by the reader."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from builders import Pairs, block, fixed32, number, sealed, table, text, varint
from conftest import SAMPLES
from hypothesis import given, settings
from hypothesis import strategies as st
from test_bundle import GOLDEN_INDEX

from lstmstate.checkpoint import protobuf as wire
from lstmstate.checkpoint import sstable_writer
from lstmstate.checkpoint.sstable import Table
from lstmstate.checkpoint.sstable_writer import write_table
from lstmstate.files.reader import ByteSource

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import tensorflow as tf

steady = settings(derandomize=True, deadline=None, max_examples=200)
slow = settings(steady, max_examples=15)

keys = st.binary(max_size=6) | st.text("ab\xff", max_size=6).map(lambda key: key.encode("latin-1"))
entries = st.dictionaries(keys, st.binary(max_size=40), max_size=50).map(
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
@given(entries, st.integers(1, 200))
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
