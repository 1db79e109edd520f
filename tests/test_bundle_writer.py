"""V2 checkpoints that are written, and copies of checkpoints."""

from __future__ import annotations

import io
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from builders import BundleBuilder, bundle_entry, masked, string_bytes
from hypothesis import given, settings
from hypothesis import strategies as st
from test_bundle import GOLDEN_DATA, GOLDEN_INDEX
from test_values_against_tensorflow import (
    NUMERIC,
    Array,
    Named,
    assert_read_as_tensorflow_does,
    assert_same,
    names,
    numbers,
    of_bytes,
    save_v2,
    strings,
)
from writers import new_session

from lstmstate.checkpoint import Checkpoint, dtypes
from lstmstate.checkpoint import protobuf as wire
from lstmstate.checkpoint.tensor_bundle import CHUNK_BYTES, Bundle
from lstmstate.checkpoint.tensor_bundle_writer import BundleWriter
from lstmstate.errors import CorruptError, LstmstateError, NotFoundError, UnsupportedError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import tensorflow as tf

steady = settings(derandomize=True, deadline=None, max_examples=40)

DTYPES = {dtype.name: dtype for dtype in dtypes.BY_NUMBER.values()}
FLOAT32 = DTYPES["float32"]
DATA = "{}.data-00000-of-00001"

any_names = (
    st.binary(min_size=1, max_size=8)
    | st.text("/\xfe\xff\1", min_size=1).map(lambda name: name.encode("latin-1"))
).filter(lambda name: name[0] != 0)
values_by_name = st.dictionaries(names, st.one_of(numbers, strings()), min_size=1, max_size=6)


@contextmanager
def writing(prefix: Path, *, big_endian: bool = False) -> Iterator[BundleWriter]:
    """Yield a writer; write the index after the block."""
    with Path(DATA.format(prefix)).open("wb") as data:
        writer = BundleWriter(data, big_endian=big_endian)
        yield writer
    with Path(f"{prefix}.index").open("wb") as index:
        writer.write_index(index)


def put(writer: BundleWriter, name: str, value: Array, cuts: list[int] | None = None) -> None:
    """Add a value, its bytes in parts that end at the cuts."""
    if value.dtype == object:
        writer.add_strings(name, value)
        return
    data = value.tobytes()
    ends = sorted({min(cut, len(data)) for cut in cuts or []} | {0, len(data)})
    parts = (data[start:end] for start, end in pairwise(ends))
    writer.add(name, DTYPES[value.dtype.name], value.shape, parts)


def write(prefix: Path, values: Named) -> str:
    """Write a bundle of whole tensors, in their order."""
    with writing(prefix) as writer:
        for name, value in values.items():
            put(writer, name, value)
    return str(prefix)


def copied(source: str, prefix: Path) -> str:
    """Copy all variables, in the order of their bytes in the data files."""
    bundle = Bundle(source)

    def place(name: str) -> tuple[int, ...]:
        slices = bundle.entry(name).slices or (None,)
        return min(bundle.entry(name, extents)[2:5] for extents in slices)

    with writing(prefix, big_endian=bundle.big_endian) as writer:
        for name in sorted(bundle.specs, key=place):
            writer.copy(bundle, name)
    return str(prefix)


def assert_files_equal(ours: str, theirs: str) -> None:
    """Compare the two files of two bundles."""
    for file in (DATA, "{}.index"):
        assert Path(file.format(ours)).read_bytes() == Path(file.format(theirs)).read_bytes()


def restored(prefix: str, names: list[bytes], types: list[tf.DType]) -> list[Array]:
    """Return values as TensorFlow's operation restores them."""
    found = tf.raw_ops.RestoreV2(
        prefix=prefix,
        tensor_names=tf.constant(np.array(names, object)),
        shape_and_slices=[""] * len(names),
        dtypes=types,
    )
    return [np.array(v, object) if isinstance(v, bytes) else v for v in (t.numpy() for t in found)]


def damaged(tmp_path: Path, change: Callable[[bytearray], object]) -> str:
    """A bundle of numbers "x", of strings "s" and of slices "p", its data file changed."""
    bundle = BundleBuilder()
    bundle.add("x", np.arange(300_000, dtype=np.int32))
    bundle.add("s", np.array([b"ab", b"", b"c" * 200, b"\0"], object))
    bundle.add_slices("p", np.arange(40, dtype=np.int16), [[(0, 30)], [(30, 10)]])
    change(bundle.data[0])
    return bundle.write(tmp_path / "m")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all examples of a property."""
    return tmp_path_factory.mktemp("bundles")


# ---- exact bytes


def test_the_exact_bytes_of_a_bundle() -> None:
    data = io.BytesIO()
    writer = BundleWriter(data)
    writer.add("v", FLOAT32, (2,), [np.array([1, -2], np.float32).data])
    assert (data.getvalue(), b"".join(writer.index())) == (GOLDEN_DATA, GOLDEN_INDEX)


def test_an_empty_bundle(tmp_path: Path) -> None:
    prefix = write(tmp_path / "ours", {})
    assert_files_equal(prefix, BundleBuilder().write(tmp_path / "theirs"))
    assert Checkpoint(prefix).variables == {}


VALUES: dict[str, Named] = {
    **{str(dtype): {"x": of_bytes(dtype, (2, 3), bytes(range(97, 200)))} for dtype in NUMERIC},
    "scalars": {"f": np.float64(2.5), "s": np.array(b"one", object), "b": np.bool_(True)},
    "empty": {"a": np.zeros((0, 3), np.int8), "s": np.array([], object), "z": np.zeros(0)},
    "strings": {"s": np.array([[b"ab", b"", b"\0\xff"], [b"x" * 300, b"y" * 70_000, b""]], object)},
    "not in order": {"z": np.arange(3), "a/b": np.arange(2.0), "a": np.int8(1), "Z": np.int8(2)},
    "long names": {"s/" * 9000 + end: np.int8(0) for end in ("kernel", "bias", "")},
    "many": {f"layer_{k % 7}/{k}/{'cell' * (k % 5)}": np.array(k) for k in range(6000)},
    "bytes of names": {"é": np.int8(1), "\U0010ffff\U0010fffe": np.int8(2), "a\1b": np.int8(3)},
}


@pytest.mark.parametrize("case", VALUES)
def test_the_bytes_match_tensorflow(tmp_path: Path, case: str) -> None:
    """SaveV2 writes the values in the order of its arguments, without gaps."""
    values = {name: np.asarray(value) for name, value in VALUES[case].items()}
    theirs = save_v2(tmp_path / "theirs", values)
    assert_files_equal(write(tmp_path / "ours", values), theirs)
    assert_files_equal(copied(theirs, tmp_path / "copy"), theirs)


@steady
@given(values_by_name)
def test_the_bytes_of_any_values_match_tensorflow(folder: Path, values: Named) -> None:
    assert_files_equal(write(folder / "ours", values), save_v2(folder / "theirs", values))


def test_savers_write_in_name_order_and_restore_our_files(tmp_path: Path) -> None:
    tf1 = tf.compat.v1
    values = {name: np.arange(k + 2, dtype=np.float32) for k, name in enumerate(["v/b", "w", "a"])}
    values["p"] = np.arange(20, dtype=np.float32).reshape(5, 4)
    with tf1.Graph().as_default(), new_session(tf1) as session:
        for name in ("v/b", "w", "a"):
            tf1.get_variable(name, initializer=np.zeros_like(values[name]))
        cut = tf1.fixed_size_partitioner(2)
        p = tf1.get_variable("p", (5, 4), partitioner=cut, initializer=tf1.zeros_initializer())
        saver = tf1.train.Saver()
        saver.restore(session, write(tmp_path / "ours", dict(sorted(values.items()))))
        for variable in tf1.global_variables():
            if variable.op.name in values:
                assert_same(session.run(variable), values[variable.op.name])
        assert_same(session.run(p.as_tensor()), values["p"])
        saver.save(session, str(tmp_path / "theirs"), write_meta_graph=False)
        theirs = str(tmp_path / "theirs")
        assert_files_equal(copied(theirs, tmp_path / "copy"), theirs)
        saver.restore(session, str(tmp_path / "copy"))
        assert_same(session.run(p.as_tensor()), values["p"])
    whole = {name: value for name, value in sorted(values.items()) if name != "p"}
    start = values["p"].nbytes + values["a"].nbytes
    assert Path(DATA.format(theirs)).read_bytes()[start:] == b"".join(
        value.tobytes() for name, value in whole.items() if name != "a"
    )


# ---- reading back


@steady
@given(values_by_name, st.lists(st.integers(0, 200)))
def test_written_bundles_are_read_back(folder: Path, values: Named, cuts: list[int]) -> None:
    with writing(folder / "written") as writer:
        for name, value in values.items():
            put(writer, name, value, cuts)
    prefix = str(folder / "written")
    assert_read_as_tensorflow_does(prefix)
    shapes = sorted((name, list(value.shape)) for name, value in values.items())
    assert sorted(tf.train.list_variables(prefix)) == shapes
    for name, variable in Checkpoint(prefix).variables.items():
        assert_same(variable.read(), values[name])


@steady
@given(st.sets(any_names, min_size=1, max_size=12))
def test_names_may_be_any_bytes(folder: Path, keys: set[bytes]) -> None:
    values = {wire.text(key): np.array(number) for number, key in enumerate(keys)}
    prefix = write(folder / "named", values)
    assert restored(prefix, list(keys), [tf.int64] * len(keys)) == list(values.values())
    assert {name: v.read() for name, v in Checkpoint(prefix).variables.items()} == values


# ---- refusals


@pytest.mark.parametrize("count", [0, 1, 7, 9, 16])
def test_bytes_that_do_not_add_up_are_refused(tmp_path: Path, count: int) -> None:
    with writing(tmp_path / "m") as writer:
        with pytest.raises(LstmstateError, match=f"{count} bytes .* has 8") as caught:
            writer.add("v", FLOAT32, (2,), [b"a"] * count)
        writer.add("v", FLOAT32, (2,), [GOLDEN_DATA])
    assert caught.value.tensor == "v"
    assert_read_as_tensorflow_does(str(tmp_path / "m"))


def test_names_are_unique(tmp_path: Path) -> None:
    source = Bundle(damaged(tmp_path, len))
    writer = BundleWriter(io.BytesIO())
    for name in ("x", "s", "p"):
        writer.copy(source, name)
    for name in ("x", "s", "p"):
        for again in (
            lambda: writer.copy(source, name),  # noqa: B023 — called at once
            lambda: writer.add(name, FLOAT32, (0,), []),  # noqa: B023
            lambda: writer.add_strings(name, np.array(b"", object)),  # noqa: B023
        ):
            with pytest.raises(LstmstateError, match="there already") as caught:
                again()
            assert caught.value.tensor == name


@pytest.mark.parametrize("name", ["", "\0a", "\ud800", "x" * 65_537])
def test_impossible_variable_names_are_refused(name: str) -> None:
    with pytest.raises(LstmstateError, match="name"):
        BundleWriter(io.BytesIO()).add(name, FLOAT32, (0,), [])


def test_invalid_values_are_refused(tmp_path: Path) -> None:
    writer = BundleWriter(io.BytesIO())
    with pytest.raises(NotFoundError, match="not in this checkpoint"):
        writer.copy(Bundle(damaged(tmp_path, len)), "y")
    with pytest.raises(LstmstateError, match="as bytes"):
        writer.add_strings("s", np.array(["text"], object))
    for dtype in (dtypes.STRING, DTYPES["variant"]):
        with pytest.raises(UnsupportedError, match="numeric"):
            writer.add("v", dtype, (), [])


# ---- copies of V2 checkpoints: every byte, all slices and data files, and no damage


with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import tensorflow as tf


# The dtypes whose slices TensorFlow's own reader joins.
JOINED = "bool int8 int16 int32 int64 uint8 float32 float64 complex64 complex128 bfloat16".split()
sliceable = st.builds(
    of_bytes,
    st.sampled_from([dtype for dtype in NUMERIC if dtype.name in JOINED]),
    st.lists(st.integers(1, 4), max_size=2).map(lambda shape: (4, *shape)),
    st.binary(max_size=16),
)


def assert_restored_alike(one: str, other: str) -> None:
    """Compare everything that TensorFlow finds in two checkpoints, to the bit."""
    readers = [tf.train.load_checkpoint(prefix) for prefix in (one, other)]
    types, other_types = (reader.get_variable_to_dtype_map() for reader in readers)
    assert types == other_types
    assert tf.train.list_variables(one) == tf.train.list_variables(other)
    keys = [name.encode() for name in types]
    both = [restored(prefix, keys, list(types.values())) for prefix in (one, other)]
    for ours, theirs in zip(*both, strict=True):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        assert repr(ours.tolist()) == repr(theirs.tolist())
        assert ours.dtype == object or ours.tobytes() == theirs.tobytes()


# ---- copies


@steady
@given(st.data(), st.lists(values_by_name, min_size=1, max_size=3))
def test_copies_are_equal(folder: Path, data: st.DataObject, shards: list[Named]) -> None:
    """A bundle of several data files, with slices of one variable in each."""
    value = data.draw(sliceable)
    rows = sorted(
        {0, len(value)} | data.draw(st.sets(st.integers(0, len(value)), min_size=len(shards) - 1))
    )
    shape, rest = " ".join(map(str, value.shape)), ":-" * (value.ndim - 1)
    parts = []
    for number, values in enumerate(shards):
        own = list(pairwise(rows))[number :: len(shards)]
        prefix = str(folder / f"part-{number}")
        tf.raw_ops.SaveV2(
            prefix=prefix,
            tensor_names=[f"{number}/{name}" for name in values] + ["sliced"] * len(own),
            shape_and_slices=[""] * len(values)
            + [f"{shape} {start},{end - start}{rest}" for start, end in own],
            tensors=[
                *map(tf.constant, values.values()),
                *(tf.constant(value[start:end]) for start, end in own),
            ],
        )
        parts.append(prefix)
    merged = str(folder / "merged")
    tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=parts, destination_prefix=merged)
    copy = copied(merged, folder / "copy")
    assert_restored_alike(copy, merged)
    assert_read_as_tensorflow_does(copy)
    if len(shards) == 1:
        assert_files_equal(copy, merged)


@pytest.mark.parametrize("dtype", [*map(str, NUMERIC), "string"])
def test_slices_of_every_dtype_are_copied(tmp_path: Path, dtype: str) -> None:
    value = tf.cast(tf.range(6), "bool" if dtype == "bool" else "int64")
    value = tf.strings.as_string(value) if dtype == "string" else tf.cast(value, dtype)
    theirs = str(tmp_path / "theirs")
    tf.raw_ops.SaveV2(
        prefix=theirs,
        tensor_names=["x"] * 3,
        shape_and_slices=["1 6 -:4,2", "1 6 -:0,1", "1 6 0,1:1,3"],
        tensors=[value[None, 4:], value[None, :1], value[None, 1:4]],
    )
    assert_files_equal(copied(theirs, tmp_path / "copy"), theirs)


UNREAD = {
    "variant": lambda: tf.raw_ops.TensorListFromTensor(tensor=tf.eye(2), element_shape=[2]),
    "float8_e5m2": lambda: tf.cast(tf.eye(2), "float8_e5m2"),
    "int4": lambda: tf.cast(tf.range(3), "int4"),
}


@pytest.mark.parametrize("dtype", UNREAD)
def test_values_that_cannot_be_read_are_copied(tmp_path: Path, dtype: str) -> None:
    theirs = str(tmp_path / "theirs")
    tf.raw_ops.SaveV2(
        prefix=theirs, tensor_names=["x"], shape_and_slices=[""], tensors=[UNREAD[dtype]()]
    )
    assert_files_equal(copied(theirs, tmp_path / "copy"), theirs)


def test_a_big_endian_bundle_is_copied_as_one(tmp_path: Path) -> None:
    bundle = BundleBuilder(big_endian=True)
    bundle.add("x", np.array([1.5, -2.25]))
    bundle.add("s", np.array([b"ab", b""], object))
    source = bundle.write(tmp_path / "m")
    copy = copied(source, tmp_path / "copy")
    with pytest.raises(LstmstateError, match="byte order"):
        BundleWriter(io.BytesIO()).copy(Bundle(source), "x")
    assert_read_as_tensorflow_does(copy)
    assert Path(DATA.format(copy)).read_bytes() == bundle.data[0]
    with writing(tmp_path / "new", big_endian=True) as writer:
        writer.add("x", DTYPES["float64"], (2,), [np.array([1.5, -2.25], ">f8").data])
        writer.add_strings("s", np.array([b"ab", b""], object))
    assert_files_equal(str(tmp_path / "new"), copy)


def test_empty_slices_are_copied(tmp_path: Path) -> None:
    bundle = BundleBuilder()
    bundle.add_slices("x", np.arange(3, dtype=np.int8), [[(0, 2)], [(2, 0)], [(2, 1)]])
    source = bundle.write(tmp_path / "m")
    copy = copied(source, tmp_path / "copy")
    assert Bundle(copy).entry("x") == Bundle(source).entry("x")
    assert Checkpoint(copy).variables["x"].read().tolist() == [0, 1, 2]


@pytest.mark.parametrize(("count", "length"), [(70_001, 0), (70_001, 127), (300_001, 128)])
def test_the_lengths_of_many_strings_are_read_in_parts(
    tmp_path: Path, count: int, length: int
) -> None:
    bundle = BundleBuilder()
    value = np.full(count, b"a" * length, object)
    value[0], value[-1] = b"", b"b" * (2 * CHUNK_BYTES)  # so that parts end within a length
    bundle.add("x", value)
    source = bundle.write(tmp_path / "m")
    chunks = list(Bundle(source).stored("x"))
    assert (b"".join(chunks), max(map(len, chunks))) == (bundle.data[0], CHUNK_BYTES)
    assert_restored_alike(copied(source, tmp_path / "copy"), source)


# ---- refusals


STRINGS = 300_000 * 4
SLICES = STRINGS + len(string_bytes([b"ab", b"", b"c" * 200, b"\0"])[0])


@pytest.mark.parametrize(
    ("at", "name"),
    [
        *((at, "x") for at in (0, CHUNK_BYTES, STRINGS - 1)),
        *((at, "s") for at in range(STRINGS, STRINGS + 12)),
        *((at, "s") for at in (SLICES - 2, SLICES - 1)),
        *((at, "p") for at in (SLICES, SLICES + 59, SLICES + 60, SLICES + 79)),
    ],
)
@pytest.mark.parametrize("bit", [1, 0x80])
def test_damage_is_refused_and_the_rest_copied(
    tmp_path: Path, at: int, name: str, bit: int
) -> None:
    source = damaged(tmp_path, lambda data: data.__setitem__(at, data[at] ^ bit))
    with writing(tmp_path / "copy") as writer:
        for each in ("x", "s", "p"):
            if each != name:
                writer.copy(Bundle(source), each)
                continue
            with pytest.raises(CorruptError) as caught:
                writer.copy(Bundle(source), each)
            assert (caught.value.path, caught.value.tensor) == (DATA.format(source), name)
    rest = {"x", "s", "p"} - {name}
    assert {found for found, _ in tf.train.list_variables(str(tmp_path / "copy"))} == rest
    assert_read_as_tensorflow_does(str(tmp_path / "copy"))


@pytest.mark.parametrize("name", ["x", "s", "p"])
def test_damage_is_copied_unchanged_without_verification(tmp_path: Path, name: str) -> None:
    at = {"x": 0, "s": SLICES - 1, "p": SLICES + 1}[name]
    source = damaged(tmp_path, lambda data: data.__setitem__(at, data[at] ^ 1))
    with writing(tmp_path / "copy") as writer:
        writer.copy(Bundle(source, checksums=False), name)
    with pytest.raises(CorruptError, match="checksum"):
        Checkpoint(str(tmp_path / "copy")).variables[name].read()
    with pytest.raises((tf.errors.DataLossError, tf.errors.OpError)):
        tf.train.load_checkpoint(str(tmp_path / "copy")).get_tensor(name)


@pytest.mark.parametrize("name", ["x", "s", "p"])
@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (lambda data: data.clear(), CorruptError, "cut short"),
        (None, NotFoundError, "data file is missing"),
        (
            lambda data: data.__setitem__(slice(None), b"version https://git-lfs.github.com"),
            LstmstateError,
            "Git LFS pointer",
        ),
    ],
    ids=["cut", "missing", "pointer"],
)
def test_missing_data_is_reported(
    tmp_path: Path, name: str, change: Callable[[bytearray], object] | None,
    kind: type[LstmstateError], words: str,
) -> None:  # fmt: skip
    source = damaged(tmp_path, change or bytearray.clear)
    if change is None:
        Path(DATA.format(source)).unlink()
    with pytest.raises(kind, match=words) as caught:
        BundleWriter(io.BytesIO()).copy(Bundle(source), name)
    assert (caught.value.path, caught.value.tensor) == (DATA.format(source), name)


@pytest.mark.parametrize(
    ("shape", "stored"),
    [
        ((2,), b"\x01\x01"),  # no room for a checksum
        ((2,), b"\x01\x01" + bytes(4) + b"a"),
        ((2,), b"\x01\x01" + bytes(4) + b"abc"),
        ((2,), b"\x80" * 30),
        ((0,), b""),
        ((70_000,), b"\1" * 65_536 + b"\x80" * 70_000),
    ],
)
@pytest.mark.parametrize("checksums", [True, False])
def test_strings_that_do_not_fill_their_bytes_are_refused(
    tmp_path: Path, shape: tuple[int, ...], stored: bytes, checksums: bool
) -> None:
    bundle = BundleBuilder()
    bundle.data[0] += stored
    bundle.entries[b"x"] = bundle_entry(7, shape, size=len(stored), crc=masked(b""))
    with pytest.raises(CorruptError):
        list(Bundle(bundle.write(tmp_path / "m"), checksums=checksums).stored("x"))


def test_the_checksum_of_the_string_lengths_is_verified(tmp_path: Path) -> None:
    bundle = BundleBuilder()
    bundle.data[0] += b"\1" + bytes(4) + b"a"
    bundle.entry("x", dtype=7, shape=[1], size=6, crc=masked(b"\1" + bytes(7) + b"a"))
    with pytest.raises(CorruptError, match="checksum"):
        list(Bundle(bundle.write(tmp_path / "m")).stored("x"))


# ---- memory

COPYING = """
import re, sys
from pathlib import Path
from lstmstate.checkpoint.tensor_bundle import Bundle
from lstmstate.checkpoint.tensor_bundle_writer import BundleWriter

def peak():  # of this process: ru_maxrss would begin with that of the one that started it
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) >> 10

source, before = Bundle(sys.argv[1]), peak()
with open(sys.argv[2], "wb") as data:
    writer = BundleWriter(data)
    for name in source.specs:
        writer.copy(source, name)
print(peak() - before)
source.read("x", source.specs["x"], None)
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_copying_takes_no_more_memory_than_a_few_chunks(tmp_path: Path) -> None:
    million = np.arange(1 << 18, dtype=np.int32).tobytes()
    with writing(tmp_path / "m") as writer:
        writer.add("x", DTYPES["int32"], (64, 1 << 18), (million for _ in range(64)))
        writer.add_strings("s", np.array([million * 32, *[b"a"] * 200_000], object))
    done = subprocess.run(
        [sys.executable, "-c", COPYING, str(tmp_path / "m"), str(tmp_path / "copy")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    copying, reading = map(int, done.stdout.split())
    assert Path(tmp_path / "copy").stat().st_size > 96 << 20
    for path in tmp_path.iterdir():
        path.unlink()
    assert copying <= 6
    assert reading >= 64  # this check can fail
