"""V2 checkpoints: exact bytes, values of every kind, slices, data files that are not there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from builders import (
    BFLOAT16,
    NUMBERS,
    BundleBuilder,
    bundle_entry,
    masked,
    number,
    ordered_signed,
    slice_key,
    split,
    table,
    text,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmstate.checkpoint import Checkpoint
from lstmstate.checkpoint.ordered_code import Extent, decode_slice_key, encode_slice_key
from lstmstate.checkpoint.source import ByteSource
from lstmstate.errors import CorruptError, LstmstateError, NotFoundError, UnsupportedError

steady = settings(derandomize=True, deadline=None, max_examples=100)

# The variable "v" with the float32 values 1 and -2, as TensorFlow writes it.
GOLDEN_DATA = bytes.fromhex("00 00 80 3f  00 00 00 c0")
GOLDEN_INDEX = bytes.fromhex(
    "00 00 06  08 01  1a 02 08 01"  # key "": one shard, (little-endian,) producer 1
    "00 01 0f  76  08 01  12 04 12 02 08 02  28 08  35 94 2b f2 f4"  # float32, [2], 8 bytes, CRC
    "00 00 00 00  01 00 00 00  00  ff ff ff ff"
    "00 00 00 00  01 00 00 00  00  c0 f2 a1 b0"
    "00 01 02  77  00 24  00 00 00 00  01 00 00 00  00  ff ff ff ff"  # up to "w": the block
    "29 08  36 0e"
    "00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00"
    "00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00"
    "57 fb 80 8b 24 75 47 db"
)


def read(path: str, name: str = "x") -> np.ndarray:
    """Return the value of one variable."""
    return Checkpoint(path).variables[name].read()


# ---- exact bytes


def test_the_exact_bytes_of_a_checkpoint_are_read(tmp_path: Path) -> None:
    (tmp_path / "model.index").write_bytes(GOLDEN_INDEX)
    (tmp_path / "model.data-00000-of-00001").write_bytes(GOLDEN_DATA)
    checkpoint = Checkpoint(str(tmp_path / "model"))
    variable = checkpoint.variables["v"]
    assert (checkpoint.format, variable.shape, variable.dtype) == ("v2", (2,), "float32")
    np.testing.assert_array_equal(variable.read(), np.array([1, -2], np.float32), strict=True)


def test_the_builder_of_these_tests_writes_the_exact_bytes() -> None:
    bundle = BundleBuilder()
    bundle.add("v", np.array([1, -2], np.float32))
    entries = [(b"", bundle.header), *bundle.entries.items()]
    assert table(entries, separators=[b"w"]) == GOLDEN_INDEX
    assert bundle.data == [GOLDEN_DATA]


def test_the_exact_bytes_of_strings_are_read(tmp_path: Path) -> None:
    lengths, counted = "02 00 03", "02 00 00 00  00 00 00 00  03 00 00 00"
    checksum = masked(bytes.fromhex(counted)).to_bytes(4, "little")
    bundle = BundleBuilder()
    bundle.data[0] += bytes.fromhex(lengths) + checksum + b"abxyz"
    crc = masked(bytes.fromhex(counted) + checksum + b"abxyz")
    bundle.entry("x", dtype=7, shape=[3], size=3 + 4 + 5, crc=crc)
    assert read(bundle.write(tmp_path / "m")).tolist() == [b"ab", b"", b"xyz"]


# ---- keys of slices


@pytest.mark.parametrize(
    ("name", "extents", "stored"),
    [
        (b"p/kernel", [(0, 3), (0, 4)], "00 70 2f 6b 65 72 6e 65 6c 00 01  01 02  80 83 80 84"),
        (b"p/kernel", [(3, 2), (0, 4)], "00 70 2f 6b 65 72 6e 65 6c 00 01  01 02  83 82 80 84"),
        (b"v", [(0, -1)], "00 76 00 01  01 01  80 7f"),  # a whole vector
        (b"v", [], "00 76 00 01  00"),  # a scalar
        (b"v", [(64, 1000)], "00 76 00 01  01 01  c0 40 c3 e8"),
        (b"v", [(10_000, 63)], "00 76 00 01  01 01  e0 27 10 bf"),
        (b"\x00a\xff", [], "00  00 ff 61 ff 00  00 01  00"),
    ],
)
def test_the_exact_bytes_of_a_slice_key(
    name: bytes, extents: Sequence[tuple[int, int]], stored: str
) -> None:
    key = bytes.fromhex(stored)
    parts = tuple(Extent(*extent) for extent in extents)
    assert encode_slice_key(name, parts) == key == slice_key(name, extents)
    assert decode_slice_key(key) == (name, parts)


extents = st.lists(
    st.tuples(st.integers(0, (1 << 48) - 1), st.integers(-1, (1 << 48) - 1)), max_size=5
).map(lambda pairs: tuple(Extent(*pair) for pair in pairs))


@steady
@given(st.binary(max_size=20), extents)
def test_slice_keys_go_there_and_back(name: bytes, parts: tuple[Extent, ...]) -> None:
    key = encode_slice_key(name, parts)
    assert key == slice_key(name, parts)
    assert decode_slice_key(key) == (name, parts)


@steady
@given(st.binary(max_size=8), st.binary(max_size=8), extents, extents)
def test_slice_keys_sort_as_what_they_stand_for(
    one: bytes, other: bytes, first: tuple[Extent, ...], second: tuple[Extent, ...]
) -> None:
    keys = encode_slice_key(one, first), encode_slice_key(other, second)
    meant = (one, len(first), first), (other, len(second), second)
    assert (keys[0] < keys[1]) == (meant[0] < meant[1])


@steady
@given(st.integers(-(1 << 48), 1 << 48), st.integers(-(1 << 48), 1 << 48))
def test_signed_numbers_of_the_builder_sort_as_numbers(one: int, other: int) -> None:
    assert (ordered_signed(one) < ordered_signed(other)) == (one < other)


def test_a_slice_key_that_is_cut_is_refused() -> None:
    key = slice_key("p/kernel", [(3, 1000), (0, 1 << 40)])
    for length in range(len(key)):
        with pytest.raises(CorruptError, match="key of a slice is damaged"):
            decode_slice_key(key[:length])


def test_a_slice_key_with_more_behind_it_is_refused() -> None:
    with pytest.raises(CorruptError, match="key of a slice is damaged"):
        decode_slice_key(slice_key("p", [(0, 1)]) + b"\x80")


@steady
@given(st.one_of(st.binary(max_size=24), st.binary(max_size=16).map(b"\0p\0\1".__add__)))
def test_two_keys_never_stand_for_the_same_slice(key: bytes) -> None:
    try:
        name, parts = decode_slice_key(key)
    except LstmstateError:
        return
    assert encode_slice_key(name, parts) == key


@pytest.mark.parametrize("stored", ["01 01  c0 03 80", "02 00 01  83 80", "01 01  83 3f ff"])
def test_a_number_in_more_bytes_than_it_needs_is_refused(stored: str) -> None:
    with pytest.raises(CorruptError):
        decode_slice_key(b"\0p\0\1" + bytes.fromhex(stored))


# ---- values


@pytest.mark.parametrize("dtype", [dtype for dtype in NUMBERS if dtype != "object"])
def test_values_of_every_dtype_are_read_to_the_bit(tmp_path: Path, dtype: str) -> None:
    random = np.random.default_rng(5)
    value = random.integers(0, 2 if dtype == "bool" else 256, 96, np.uint8).view(dtype)
    bundle = BundleBuilder()
    bundle.add("before", np.arange(3, dtype=np.int8))  # so that nothing is aligned
    bundle.add("x", value.reshape(3, -1))
    found = read(bundle.write(tmp_path / "m"))
    assert (found.dtype, found.shape) == (value.dtype, (3, value.size // 3))
    assert found.tobytes() == value.tobytes()


def test_bfloat16_becomes_the_same_numbers_as_float32(tmp_path: Path) -> None:
    bundle = BundleBuilder()
    patterns = np.array([0x3F80, 0xC000, 0x7F80, 0x8000, 0x0001, 0x7FC1], np.uint16)
    bundle.add("x", patterns, dtype=BFLOAT16)
    path = bundle.write(tmp_path / "m")
    found = read(path)
    assert Checkpoint(path).variables["x"].dtype == "bfloat16"
    assert found.dtype == np.float32
    assert found.view(np.uint32).tolist() == [int(bits) << 16 for bits in patterns]
    assert found[:3].tolist() == [1, -2, np.inf]


@pytest.mark.parametrize("shape", [(), (1,), (0,), (3, 0, 2), (1, 1, 1, 1), (2, 3, 2, 1, 2)])
def test_every_shape_is_read(tmp_path: Path, shape: tuple[int, ...]) -> None:
    bundle = BundleBuilder()
    value = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    bundle.add("x", value)
    np.testing.assert_array_equal(read(bundle.write(tmp_path / "m")), value, strict=True)


@pytest.mark.parametrize(
    "elements", [[], [b""], [b"a", b"", b"\0\xff\0", b"tail\0"], [b"x" * 300, b"y" * 20_000]]
)
def test_strings_are_read_as_bytes(tmp_path: Path, elements: list[bytes]) -> None:
    bundle = BundleBuilder()
    value = np.empty(len(elements), object)
    value[:] = elements
    bundle.add("x", value)
    bundle.add("scalar", np.array(b"one", object))
    path = bundle.write(tmp_path / "m")
    assert read(path).tolist() == elements
    assert (read(path, "scalar").shape, read(path, "scalar").item()) == ((), b"one")


def test_a_bundle_of_a_big_endian_machine_is_read_right(tmp_path: Path) -> None:
    bundle = BundleBuilder(big_endian=True)
    values = {
        "double": np.array([1.5, -2.25]),
        "half": np.array([0.5], np.float16),
        "int": np.array([[1, -2], [300, 4]], np.int32),
        "text": np.array([b"ab", b""], object),
    }
    for name, value in values.items():
        bundle.add(name, value)
    bundle.add("bf", np.array([0x3F80], np.uint16), dtype=BFLOAT16)
    path = bundle.write(tmp_path / "m")
    assert bytes(bundle.data[0][:8]) == bytes.fromhex("3f f8 00 00 00 00 00 00")
    for name, value in values.items():
        np.testing.assert_array_equal(read(path, name), value, strict=True)
    assert read(path, "bf").tolist() == [1.0]


def test_a_value_whose_checksum_does_not_hold_is_refused(tmp_path: Path) -> None:
    bundle = BundleBuilder()
    bundle.add("x", np.arange(4, dtype=np.int8))
    bundle.add("s", np.array([b"ab"], object))
    bundle.data[0][1] ^= 1
    bundle.data[0][-1] ^= 1
    path = bundle.write(tmp_path / "m")
    for name in ("x", "s"):
        with pytest.raises(CorruptError, match="checksum") as caught:
            read(path, name)
        assert (caught.value.path, caught.value.tensor) == (f"{path}.data-00000-of-00001", name)
    rescue = Checkpoint(path, checksums=False).variables
    assert rescue["x"].read().tolist() == [0, 0, 2, 3]
    assert rescue["s"].read().tolist() == [b"ac"]
