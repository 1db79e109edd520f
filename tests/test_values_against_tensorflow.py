"""Values in every format that TensorFlow writes, compared with its own reader to the bit."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_bundle import GOLDEN_DATA, GOLDEN_INDEX
from test_v1 import GOLDEN_KEY, GOLDEN_LIST, GOLDEN_VALUES

from lstmstate.checkpoint import Checkpoint
from lstmstate.checkpoint.slice_keys import Extent, encode_slice_key
from lstmstate.checkpoint.sstable import Table
from lstmstate.files.reader import ByteSource

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import tensorflow as tf

steady = settings(derandomize=True, deadline=None, max_examples=40)
Array = Any  # of any dtype, TensorFlow's bfloat16 among them
Named = dict[str, Array]

BFLOAT16 = tf.bfloat16.as_numpy_dtype
NUMERIC = {
    np.dtype(name): size
    for name, size in {
        "bool": 1, "int8": 1, "int16": 2, "int32": 4, "int64": 8, "uint8": 1, "uint16": 2,
        "uint32": 4, "uint64": 8, "float16": 2, "float32": 4, "float64": 8, "complex64": 8,
        "complex128": 16, BFLOAT16: 2,
    }.items()
}  # fmt: skip
V1_DTYPES = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "float16", "float32", "float64",
    "complex64", "complex128",
)  # fmt: skip


# ---- writing and comparing


def save_v2(prefix: Path, values: Named) -> str:
    """Write a V2 checkpoint of whole tensors."""
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=list(values),
        shape_and_slices=[""] * len(values),
        tensors=[tf.constant(value) for value in values.values()],
    )
    return str(prefix)


def save_v1(path: Path, values: Named) -> str:
    """Write a V1 file of whole tensors."""
    tf.raw_ops.SaveSlices(
        filename=str(path),
        tensor_names=list(values),
        shapes_and_slices=[""] * len(values),
        data=[tf.constant(value) for value in values.values()],
    )
    return str(path)


def assert_same(ours: Array, theirs: Array) -> None:
    """Compare two arrays to the bit; ours has float32 if theirs has bfloat16."""
    if theirs.dtype == BFLOAT16:
        theirs = (theirs.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
    if ours.dtype == object:
        # Not ==, which would accept an array in the array.
        assert repr(ours.tolist()) == repr(theirs.tolist())
    else:
        assert ours.tobytes() == theirs.tobytes()


def by_tensorflow(prefix: str, name: str) -> Array:
    """Return a value as TensorFlow reads it, a scalar string in an array as well."""
    reader = tf.train.load_checkpoint(prefix)
    try:
        value = reader.get_tensor(name)
    except tf.errors.UnimplementedError:
        # In V1 files the reader knows neither slices nor all dtypes; the operation does.
        dtype = reader.get_variable_to_dtype_map()[name]
        value = tf.raw_ops.Restore(file_pattern=prefix, tensor_name=name, dt=dtype).numpy()
    return np.array(value, object) if isinstance(value, bytes) else np.asarray(value)


def assert_read_as_tensorflow_does(path: str, pattern: str | None = None) -> None:
    """Compare the names, shapes, dtypes and values of a checkpoint.

    pattern: the argument of TensorFlow's reader for shards of a V1 checkpoint.
    """
    theirs = tf.train.load_checkpoint(pattern or path)
    ours = Checkpoint(path).variables
    assert {name: list(variable.shape) for name, variable in ours.items()} == (
        theirs.get_variable_to_shape_map()
    )
    for name, dtype in theirs.get_variable_to_dtype_map().items():
        assert ours[name].dtype == dtype.name
        assert_same(ours[name].read(), by_tensorflow(pattern or path, name))


def of_bytes(dtype: np.dtype[Any], shape: tuple[int, ...], data: bytes) -> Array:
    """Return an array with these bytes, so that NaNs have payloads and zeros have signs."""
    size = NUMERIC[dtype] * int(np.prod(shape))
    stored = np.frombuffer((data * (size + 1))[:size] if data else bytes(size), np.uint8)
    return ((stored & 1) if dtype.kind == "b" else stored).view(dtype).reshape(shape)


shapes = st.lists(st.integers(0, 4), max_size=3).map(tuple)
numbers = st.builds(of_bytes, st.sampled_from(list(NUMERIC)), shapes, st.binary(max_size=16))
v1_numbers = st.builds(
    of_bytes,
    st.sampled_from([np.dtype(name) for name in V1_DTYPES]),
    shapes,
    st.binary(max_size=16),
)


@st.composite
def strings(draw: st.DrawFn) -> Array:
    """An array of byte strings, some empty, some longer than a one-byte length can express."""
    shape = draw(shapes)
    value = np.empty(shape, object)
    for place in np.ndindex(shape):
        value[place] = draw(st.binary(max_size=6)) * draw(st.sampled_from([1, 1, 60]))
    return value


names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One folder for all examples of a property."""
    path = tmp_path_factory.mktemp("checkpoints")
    yield path
    shutil.rmtree(path)


# ---- exact bytes


def test_tensorflow_writes_the_golden_bytes_of_a_bundle(tmp_path: Path) -> None:
    prefix = save_v2(tmp_path / "m", {"v": np.array([1, -2], np.float32)})
    assert Path(f"{prefix}.index").read_bytes() == GOLDEN_INDEX
    assert Path(f"{prefix}.data-00000-of-00001").read_bytes() == GOLDEN_DATA


def test_tensorflow_writes_the_golden_bytes_of_a_v1_file(tmp_path: Path) -> None:
    path = save_v1(tmp_path / "m", {"v": np.array([1, -2], np.float32)})
    with ByteSource(path) as source:
        assert list(Table(source)) == [(b"", GOLDEN_LIST), (GOLDEN_KEY, GOLDEN_VALUES)]


def test_tensorflow_writes_our_slice_keys(tmp_path: Path) -> None:
    starts = [0, 63, 64, 8191, 8192, 10_000, 1 << 20]
    name = "p/\x01\xe9"
    prefix = str(tmp_path / "m")
    tf.raw_ops.SaveV2(
        prefix=prefix,
        tensor_names=[name] * len(starts),
        shape_and_slices=[f"{1 << 21} 2 {start},1:0,2" for start in starts],
        tensors=[tf.zeros([1, 2])] * len(starts),
    )
    with ByteSource(f"{prefix}.index") as source:
        written = [key for key, _ in Table(source) if key[:1] == b"\0"]
    assert written == [
        encode_slice_key(name.encode(), (Extent(start, 1), Extent(0, 2))) for start in starts
    ]


# ---- values of any kind


@steady
@given(st.dictionaries(names, st.one_of(numbers, strings()), min_size=1, max_size=6))
def test_every_value_of_a_v2_checkpoint(folder: Path, values: Named) -> None:
    assert_read_as_tensorflow_does(save_v2(folder / "v2", values))


@steady
@given(st.dictionaries(names, st.one_of(v1_numbers, strings()), min_size=1, max_size=6))
def test_every_value_of_a_v1_checkpoint(folder: Path, values: Named) -> None:
    path = save_v1(folder / "v1", values)
    assert_read_as_tensorflow_does(path)
    for name, value in values.items():
        assert_same(Checkpoint(path).variables[name].read(), value)


@pytest.mark.parametrize("dtype", list(NUMERIC), ids=str)
def test_every_dtype_of_a_v2_checkpoint(tmp_path: Path, dtype: np.dtype[Any]) -> None:
    value = of_bytes(dtype, (2, 3), bytes(range(97, 200)))
    assert_read_as_tensorflow_does(save_v2(tmp_path / "m", {"x": value}))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", BFLOAT16], ids=str)
def test_nans_keep_their_payload_and_zeros_their_sign(tmp_path: Path, dtype: Any) -> None:
    quiet, signalling = {2: (0x7FF7, 0x7F95), 4: (0x7FC12345, 0xFF812345)}.get(
        np.dtype(dtype).itemsize, (0x7FF8000000012345, 0xFFF0000000012345)
    )
    negative_zero = 1 << (8 * np.dtype(dtype).itemsize - 1)
    patterns = np.array([quiet, signalling, 0, negative_zero], f"u{np.dtype(dtype).itemsize}")
    values = {"x": patterns.view(dtype)}
    assert_read_as_tensorflow_does(save_v2(tmp_path / "v2", values))
    if dtype is not BFLOAT16:
        assert_same(Checkpoint(save_v1(tmp_path / "v1", values)).variables["x"].read(), values["x"])


def test_values_over_64_kib_and_empty_ones_between_them(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    values = {
        "large": random.normal(size=(150, 130)).astype(np.float32),
        "empty": np.zeros((0, 5), np.int64),
        "bytes": np.array([random.bytes(70_000), b"", random.bytes(300)], object),
        "scalar": np.array(2.5),
        "text": np.array(b"scalar", object),
        "ints": random.integers(-(1 << 62), 1 << 62, 9000),
    }
    assert_read_as_tensorflow_does(save_v2(tmp_path / "v2", values))
    assert_read_as_tensorflow_does(save_v1(tmp_path / "v1", values))


def test_an_index_of_several_blocks(tmp_path: Path) -> None:
    values = {f"{'scope/' * 300}{k:05d}": np.array(k) for k in range(400)}
    prefix = save_v2(tmp_path / "v2", values)
    assert_read_as_tensorflow_does(prefix)
    path = save_v1(
        tmp_path / "v1", {f"{k}": np.full((9000 + k,), k, np.float32) for k in range(20)}
    )
    assert_read_as_tensorflow_does(path)


# ---- slices, shards, objects


@steady
@given(st.data(), st.sampled_from(["v1", "v2"]), st.integers(0, 1))
def test_partitioned_variables(folder: Path, data: st.DataObject, kind: str, axis: int) -> None:
    shape = data.draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    dtype = data.draw(st.sampled_from(["float32", "int64", "bool"]))
    ends = sorted(data.draw(st.sets(st.integers(1, shape[axis]), max_size=4)) | {shape[axis]})
    value = of_bytes(np.dtype(dtype), shape, data.draw(st.binary(min_size=1, max_size=40)))
    specs, parts = [], []
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        extents = [f"0,{size}" for size in shape]
        extents[axis] = f"{start},{end - start}"
        specs.append(f"{shape[0]} {shape[1]} {':'.join(extents)}")
        parts.append(tf.constant(value[start:end] if axis == 0 else value[:, start:end]))
    specs, parts = [*specs, ""], [*parts, tf.constant(7.0)]
    named = ["p/kernel"] * len(ends) + ["whole"]
    path = str(folder / f"sliced_{kind}")
    if kind == "v1":
        tf.raw_ops.SaveSlices(
            filename=path, tensor_names=named, shapes_and_slices=specs, data=parts
        )
    else:
        tf.raw_ops.SaveV2(prefix=path, tensor_names=named, shape_and_slices=specs, tensors=parts)
    assert_read_as_tensorflow_does(path)
    assert_same(Checkpoint(path).variables["p/kernel"].read(), value)


def test_a_v2_checkpoint_of_several_data_files(tmp_path: Path) -> None:
    parts = [
        save_v2(tmp_path / f"part-{shard}", {f"v{shard}": np.arange(shard + 1), f"s{shard}": value})
        for shard, value in enumerate([np.array(b"a", object), np.array(1.5), np.zeros((0, 2))])
    ]
    merged = str(tmp_path / "merged")
    tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=parts, destination_prefix=merged)
    assert len(Checkpoint(merged).data_files) == 3
    assert_read_as_tensorflow_does(merged)


def test_a_partitioned_variable_over_several_data_files(tmp_path: Path) -> None:
    parts = []
    for shard, (start, rows) in enumerate([(0, 3), (3, 2)]):
        parts.append(str(tmp_path / f"part-{shard}"))
        tf.raw_ops.SaveV2(
            prefix=parts[-1],
            tensor_names=["p"],
            shape_and_slices=[f"5 2 {start},{rows}:0,2"],
            tensors=[tf.fill([rows, 2], float(shard))],
        )
    merged = str(tmp_path / "merged")
    tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=parts, destination_prefix=merged)
    assert_read_as_tensorflow_does(merged)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("sharded", [False, True])
def test_files_written_by_a_saver(tmp_path: Path, version: int, sharded: bool) -> None:
    tf1 = tf.compat.v1
    with tf1.Graph().as_default(), tf1.Session() as session:
        with tf1.variable_scope("scope", partitioner=tf1.fixed_size_partitioner(3)):
            tf1.get_variable("kernel", [7, 4], use_resource=False)
        tf1.get_variable("step", [], tf.int64, tf1.ones_initializer(), use_resource=True)
        session.run(tf1.global_variables_initializer())
        saver = tf1.train.Saver(write_version=version, sharded=sharded)
        prefix = saver.save(session, str(tmp_path / "m"), global_step=5)
    path = str(tmp_path / "m-5")
    assert prefix.startswith(path)
    checkpoint = Checkpoint(path)
    assert checkpoint.format == f"v{version}"
    assert list(checkpoint.variables) == ["scope/kernel", "step"]
    assert checkpoint.variables["scope/kernel"].shape == (7, 4)
    assert_read_as_tensorflow_does(path, prefix)


def test_an_object_based_checkpoint(tmp_path: Path) -> None:
    root = tf.train.Checkpoint(
        layer=tf.train.Checkpoint(kernel=tf.Variable([[1.0, 2.0]], name="lstm/kernel")),
        step=tf.Variable(3, name="step"),
    )
    path = root.write(str(tmp_path / "m"))
    assert_read_as_tensorflow_does(path)
    checkpoint = Checkpoint(path)
    assert checkpoint.format == "object_based"
    variable = checkpoint.variables["layer/kernel/.ATTRIBUTES/VARIABLE_VALUE"]
    assert (variable.path, variable.full_name) == ("layer/kernel", "lstm/kernel")
