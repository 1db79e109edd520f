"""V1 checkpoints, and the keys of slices, which V2 bundles also use."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Sequence
from pathlib import Path

import cramjam
import numpy as np
import pytest
from builders import (
    NUMBERS,
    V1Builder,
    number,
    slice_key,
    snappy_literals,
    split,
    table,
    tensor_values,
    text,
    v1_list,
    v1_listed,
    varint,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmstate.checkpoint import Checkpoint
from lstmstate.checkpoint.slices import Extent, decode_slice_key, encode_slice_key
from lstmstate.errors import CorruptError, LstmstateError, UnsupportedError

steady = settings(derandomize=True, deadline=None, max_examples=100)

# The first two entries of a file with the float32 vector "v" of 1 and -2, as TensorFlow writes it.
GOLDEN_LIST = bytes.fromhex(
    "0a 15"  # SavedTensorSlices.meta
    "0a 0f  0a 01 76  12 04 12 02 08 02  18 01  22 02 0a 00"  # "v", [2], float32, one whole slice
    "12 02 08 01"  # versions: producer 1
)
GOLDEN_KEY = bytes.fromhex("00 76 00 01  01 01  80 7f")
GOLDEN_VALUES = bytes.fromhex(
    "12 13"  # SavedTensorSlices.data
    "0a 01 76  12 02 0a 00  1a 0a"  # "v", the whole slice, a TensorProto
    "2a 08  00 00 80 3f  00 00 00 c0"  # float_val, packed
)


def read(path: str, name: str = "x") -> np.ndarray:
    """Return the value of one variable."""
    return Checkpoint(path).variables[name].read()


# ---- exact bytes


def test_the_exact_bytes_of_a_file_are_read(tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    path.write_bytes(table([(b"", GOLDEN_LIST), (GOLDEN_KEY, GOLDEN_VALUES)]))
    checkpoint = Checkpoint(str(path))
    variable = checkpoint.variables["v"]
    assert (checkpoint.format, variable.shape, variable.dtype) == ("v1", (2,), "float32")
    np.testing.assert_array_equal(variable.read(), np.array([1, -2], np.float32), strict=True)


def test_the_test_builder_writes_the_exact_bytes() -> None:
    builder = V1Builder()
    builder.add("v", np.array([1, -2], np.float32))
    assert v1_list(builder.listed) == GOLDEN_LIST
    assert builder.entries == {GOLDEN_KEY: GOLDEN_VALUES}


@pytest.mark.parametrize(
    ("dtype", "field", "stored", "value"),
    [
        (3, 7, "01 ff ff ff ff ff ff ff ff ff 01", np.array([1, -1], np.int32)),
        (6, 7, "80 ff ff ff ff ff ff ff ff 01 7f", np.array([-128, 127], np.int8)),
        (5, 7, "80 80 fe ff ff ff ff ff ff 01 ac 02", np.array([-32768, 300], np.int16)),
        (4, 7, "ff 01 00", np.array([255, 0], np.uint8)),
        (17, 7, "ff ff 03 00", np.array([65535, 0], np.uint16)),
        (
            9,
            10,
            "80 80 80 80 80 80 80 80 80 01 ff ff ff ff ff ff ff ff 7f",
            np.array([-(1 << 63), (1 << 63) - 1]),
        ),
        (10, 11, "01 00", np.array([True, False])),
        (19, 13, "80 78 00", np.array([0x3C00, 0], np.uint16).view(np.float16)),
        (14, 13, "80 7f 80 80 03", np.array([1, -2], np.float32)),  # bfloat16 3f80, c000
        (2, 6, "00 00 00 00 00 00 f8 3f 00 00 00 00 00 00 00 80", np.array([1.5, -0.0])),
        (8, 9, "00 00 80 3f 00 00 00 c0 00 00 00 00 00 00 00 00", np.array([1 - 2j, 0], "c8")),
        (22, 16, "ff ff ff ff 0f 00", np.array([0xFFFFFFFF, 0], np.uint32)),
        (23, 17, "ff ff ff ff ff ff ff ff ff 01 00", np.array([(1 << 64) - 1, 0], np.uint64)),
    ],
)
def test_the_exact_bytes_of_values(
    tmp_path: Path, dtype: int, field: int, stored: str, value: np.ndarray
) -> None:
    builder = V1Builder()
    builder.list("x", dtype, value.shape)
    builder.values("x", [(0, -1)], text(field, bytes.fromhex(stored)))
    found = read(builder.write(tmp_path / "v1"))
    assert found.dtype == value.dtype
    assert found.tobytes() == value.tobytes()


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
def test_slice_keys_round_trip(name: bytes, parts: tuple[Extent, ...]) -> None:
    key = encode_slice_key(name, parts)
    assert key == slice_key(name, parts)
    assert decode_slice_key(key) == (name, parts)


@steady
@given(st.binary(max_size=8), st.binary(max_size=8), extents, extents)
def test_slice_keys_sort_like_their_slices(
    one: bytes, other: bytes, first: tuple[Extent, ...], second: tuple[Extent, ...]
) -> None:
    keys = encode_slice_key(one, first), encode_slice_key(other, second)
    meant = (one, len(first), first), (other, len(second), second)
    assert (keys[0] < keys[1]) == (meant[0] < meant[1])


def test_a_slice_key_that_is_cut_is_refused() -> None:
    key = slice_key("p/kernel", [(3, 1000), (0, 1 << 40)])
    for damaged in [*(key[:length] for length in range(len(key))), key + b"\x80"]:
        with pytest.raises(CorruptError, match="key of a slice is damaged"):
            decode_slice_key(damaged)


@steady
@given(st.binary(max_size=8), extents, st.integers(0, 40), st.integers(0, 7))
def test_two_keys_never_mean_the_same_slice(
    name: bytes, parts: tuple[Extent, ...], at: int, bit: int
) -> None:
    key = bytearray(encode_slice_key(name, parts))
    key[at % len(key)] ^= 1 << bit
    with contextlib.suppress(LstmstateError):
        found = decode_slice_key(bytes(key))
        assert found != (name, parts)
        assert encode_slice_key(*found) == key


@steady
@given(st.one_of(st.binary(max_size=24), st.binary(max_size=16).map(b"\0p\0\1".__add__)))
def test_any_bytes_are_a_slice_key_or_refused(key: bytes) -> None:
    with contextlib.suppress(LstmstateError):
        assert encode_slice_key(*decode_slice_key(key)) == key


@pytest.mark.parametrize("stored", ["01 01  c0 03 80", "02 00 01  83 80", "01 01  83 3f ff"])
def test_a_number_in_more_bytes_than_it_needs_is_refused(stored: str) -> None:
    with pytest.raises(CorruptError):
        decode_slice_key(b"\0p\0\1" + bytes.fromhex(stored))


# ---- values


@pytest.mark.parametrize(
    "value",
    [
        np.array(2.5, np.float32),
        np.zeros((0,), np.int64),
        np.zeros((3, 0, 2), np.float64),
        np.arange(-60, 60, dtype=np.int8).reshape(2, 3, 20),
        np.array([b"tail\0", b"", b"\xff"], object),
        np.array([[b"a"]], object),
        np.array(b"scalar", object),
        np.arange(5) % 2 == 0,
    ],
    ids=lambda value: f"{value.dtype}{list(value.shape)}",
)
def test_values_of_every_shape_are_read(tmp_path: Path, value: np.ndarray) -> None:
    builder = V1Builder()
    builder.add("x", value)
    found = read(builder.write(tmp_path / "v1"))
    assert repr(found.tolist()) == repr(value.tolist())
    assert (found.dtype, found.shape) == (value.dtype, value.shape)


@steady
@given(st.lists(st.integers(-(1 << 63), (1 << 63) - 1), max_size=40))
def test_every_int64_is_read(tmp_path_factory: pytest.TempPathFactory, values: list[int]) -> None:
    builder = V1Builder()
    builder.add("x", np.array(values, np.int64))
    assert read(builder.write(tmp_path_factory.getbasetemp() / "v1")).tolist() == values


@pytest.mark.parametrize(
    "cuts",
    [
        [[(0, 3), (0, 4)], [(3, 2), (0, 4)], [(5, 2), (0, 4)]],
        [[(0, 7), (0, 1)], [(0, 7), (1, 3)]],
    ],
)
def test_slices_are_joined(tmp_path: Path, cuts: list[list[tuple[int, int]]]) -> None:
    value = np.arange(28, dtype=np.int16).reshape(7, 4)
    builder = V1Builder()
    builder.add_slices("x", value, cuts)
    np.testing.assert_array_equal(read(builder.write(tmp_path / "v1")), value, strict=True)


def test_slices_are_joined_from_all_shard_files(tmp_path: Path) -> None:
    value = np.arange(12, dtype=np.float64).reshape(6, 2)
    cuts = [[(0, 4), (0, 2)], [(4, 2), (0, 2)]]
    for number_, cut in enumerate(cuts):
        builder = V1Builder()
        builder.add_slices("x", value, [cut])
        builder.add(f"only_{number_}", np.array([number_]))
        builder.write(tmp_path / f"m-0000{number_}-of-00002")
    variables = Checkpoint(str(tmp_path / "m")).variables
    assert list(variables) == ["only_0", "only_1", "x"]
    np.testing.assert_array_equal(variables["x"].read(), value, strict=True)
    assert variables["only_1"].read().tolist() == [1]


@pytest.mark.parametrize(
    "pack", [snappy_literals, lambda data: bytes(cramjam.snappy.compress_raw(data))]
)
def test_files_of_0_5_to_0_7_with_snappy_blocks_are_read(tmp_path: Path, pack: object) -> None:
    builder = V1Builder()
    values = {f"v{k}": np.full((40,), k, np.float32) for k in range(30)}
    for name, value in values.items():
        builder.add(name, value)
    path = builder.write(tmp_path / "v1", block_size=512, pack=pack)  # type: ignore[arg-type]
    for name, value in values.items():
        np.testing.assert_array_equal(read(path, name), value, strict=True)


def test_a_list_without_versions_is_from_0_5_or_0_6(tmp_path: Path) -> None:
    builder = V1Builder()
    builder.add("x", np.array([1, 2]))
    listed = text(1, b"".join(text(1, variable) for variable in builder.listed))
    path = tmp_path / "v1"
    path.write_bytes(table([(b"", listed), *builder.entries.items()]))
    assert read(str(path)).tolist() == [1, 2]


def test_one_value_is_read_without_the_blocks_of_others(tmp_path: Path) -> None:
    builder = V1Builder()
    for name in ("a", "x", "z"):
        builder.add(name, np.full((100,), 7, np.float32))
    path = Path(builder.write(tmp_path / "v1", block_size=1))
    damaged = bytearray(path.read_bytes())
    damaged[damaged.index(slice_key("a", [(0, -1)]))] ^= 1
    path.write_bytes(damaged)
    assert read(str(path)).tolist() == [7] * 100
    with pytest.raises(CorruptError, match="checksum"):
        read(str(path), "a")


@pytest.mark.parametrize("name", ["état/细胞", "with space", "tab\tline\n", "x" * 60_000, "\udcff"])
def test_every_name_is_kept(tmp_path: Path, name: str) -> None:
    builder = V1Builder()
    builder.add(name, np.array([1, 2]))
    assert read(builder.write(tmp_path / "v1"), name).tolist() == [1, 2]


# ---- invalid files


def test_a_variable_without_values_is_listed_but_not_read(tmp_path: Path) -> None:
    builder = V1Builder()
    builder.list("x", 1, (2,))
    builder.add("y", np.array([1]))
    path = builder.write(tmp_path / "v1")
    assert list(Checkpoint(path).variables) == ["x", "y"]
    assert read(path, "y").tolist() == [1]
    with pytest.raises(CorruptError, match="listed, but its values are not there") as caught:
        read(path)
    assert (caught.value.path, caught.value.tensor) == (path, "x")


@pytest.mark.parametrize("stored", [0, 1, 3, 1000])
@pytest.mark.parametrize("dtype", ["float32", "int64", "bool", "object", "float16", "complex64"])
def test_values_of_another_length_are_refused(tmp_path: Path, dtype: str, stored: int) -> None:
    value = np.zeros(stored, dtype)
    if dtype == "object":
        value[:] = b"text"
    builder = V1Builder()
    builder.add("x", value)
    builder.listed = [v1_listed("x", (2,), NUMBERS[dtype], [[(0, -1)]])]
    with pytest.raises(CorruptError, match="are stored for"):
        read(builder.write(tmp_path / "v1"))


@pytest.mark.parametrize(
    ("proto", "words"),
    [
        (b"", "stored for"),  # no field of values
        (text(7, varint(1)), "stored for"),  # values in a field of another dtype
        (text(10, b"\x01\x80"), "its last number does not end"),
        (text(10, b"\x80" * 11 + b"\x01"), "longer than 64 bits"),
        (text(10, b"\x80"), "does not end"),
        (text(10, b"\x01")[:-1], "over the end"),
        (number(8, 3), "text was expected"),  # a number in place of strings
    ],
)
def test_damaged_values_are_refused(tmp_path: Path, proto: bytes, words: str) -> None:
    builder = V1Builder()
    builder.list("x", 7 if "text" in words else 9, (2,))
    builder.values("x", [(0, -1)], proto)
    with pytest.raises(CorruptError, match=words):
        read(builder.write(tmp_path / "v1"))


@pytest.mark.parametrize("dtype", [20, 21, 24])
def test_other_dtypes_are_listed_but_not_read(tmp_path: Path, dtype: int) -> None:
    builder = V1Builder()
    builder.list("x", dtype, (1,))
    builder.values("x", [(0, -1)], b"")
    path = builder.write(tmp_path / "v1")
    assert Checkpoint(path).variables["x"].shape == (1,)
    with pytest.raises(UnsupportedError, match="cannot be read"):
        read(path)


@pytest.mark.parametrize(("shape", "dtype"), [((3,), 1), ((2,), 2)])
def test_shards_that_do_not_agree_are_refused(
    tmp_path: Path, shape: tuple[int, ...], dtype: int
) -> None:
    for shard, (shape_, dtype_) in enumerate([((2,), 1), (shape, dtype)]):
        builder = V1Builder()
        builder.list("x", dtype_, shape_, [[(shard, 1)]])
        builder.write(tmp_path / f"m-0000{shard}-of-00002")
    with pytest.raises(CorruptError, match="shards do not agree") as caught:
        Checkpoint(str(tmp_path / "m"))
    assert caught.value.tensor == "x"


def test_a_table_without_a_list_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m-00000-of-00001"
    path.write_bytes(table(*split([(GOLDEN_KEY, GOLDEN_VALUES)], 100)))
    with pytest.raises(CorruptError, match="no list of variables"):
        Checkpoint(str(tmp_path / "m"))


def test_files_are_closed_with_their_checkpoint(tmp_path: Path) -> None:
    builder = V1Builder()
    builder.add("x", np.array([1]))
    path = builder.write(tmp_path / "v1")
    (tmp_path / "none").write_bytes(table([(GOLDEN_KEY, GOLDEN_VALUES)]))

    def next_number() -> int:
        with Path(path).open("rb") as file:
            return file.fileno()

    gc.collect()  # of earlier tests, whose files would be closed meanwhile
    before = next_number()
    for _ in range(5):
        read(path)
        with contextlib.suppress(LstmstateError):
            Checkpoint(str(tmp_path / "none"))
    assert next_number() == before


def test_reading_without_checksums_ignores_any_block_checksum(tmp_path: Path) -> None:
    builder = V1Builder()
    builder.add("x", np.array([1.0, 2.0]))
    path = Path(builder.write(tmp_path / "v1"))
    damaged = bytearray(path.read_bytes())
    damaged[damaged.index(tensor_values(np.array([1.0, 2.0]))) + 2] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(CorruptError, match="checksum"):
        Checkpoint(str(path))
    rescued = Checkpoint(str(path), checksums=False).variables["x"].read()
    assert rescued.tolist() == [np.nextafter(1, 2), 2]
