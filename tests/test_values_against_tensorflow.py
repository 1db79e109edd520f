"""Values and states that TensorFlow saves, read and written."""

from __future__ import annotations

import json
import pickle
import shutil
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from conftest import SAMPLES, SHARED
from hypothesis import given, settings
from hypothesis import strategies as st
from test_bundle import GOLDEN_DATA, GOLDEN_INDEX
from test_v1 import GOLDEN_KEY, GOLDEN_LIST, GOLDEN_VALUES
from writers import RNNCell, TensorFlow, as_in_1_x, new_session, set_variables, tensorflow

from lstmstate import LSTMState, StackState, load_state, save_state
from lstmstate.checkpoint import Checkpoint
from lstmstate.checkpoint.slices import Extent, encode_slice_key
from lstmstate.checkpoint.sstable import Table
from lstmstate.cli import execute as run
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
    with tf1.Graph().as_default(), new_session(tf1) as session:
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


# ---- states returned by TensorFlow's own cells, converted between tuple and flat to the bit
# The same weights step once with `state_is_tuple=False` and once with `state_is_tuple=True`. The
# converted state of one equals the state of the other; fed to the other, the outputs are equal.


Captured = pytest.CaptureFixture[str]
Structure = Any  # a flat array, an LSTMStateTuple, or a tuple of these

INPUTS, BATCH, STEPS = 3, 2, 4
DTYPES = ("float16", "float32", "float64")

_BASIC = ("BasicLSTMCell", {"num_units": 5})
_WIDE = ("BasicLSTMCell", {"num_units": 5, "forget_bias": 0.0})
_PEEPHOLES = ("LSTMCell", {"num_units": 3, "use_peepholes": True, "cell_clip": 0.4})
_PROJECTED = (
    "LSTMCell",
    {"num_units": 6, "num_proj": 4, "use_peepholes": True, "proj_clip": 0.3},
)


class Model(NamedTuple):
    """Cells, and their widths in the form of `--cells`."""

    cells: Sequence[tuple[str, dict[str, Any]]]
    flags: str
    is_stack: bool = True

    @property
    def widths(self) -> list[tuple[int, int]]:
        """c and m of each cell, in the form of `load_state`."""
        pairs = [cell.split(":") for cell in self.flags.split(",")]
        return [(int(pair[0]), int(pair[-1])) for pair in pairs]


MODELS = {
    "basic": Model([_BASIC], "5", is_stack=False),
    "projected": Model([_PROJECTED], "6:4", is_stack=False),
    "stack of unlike cells": Model([_PROJECTED, _BASIC, _PEEPHOLES], "6:4,5,3"),
    "stack of like cells": Model([_BASIC, _WIDE], "5,5"),
}


# ---- TensorFlow's side


def one_step(tf: TensorFlow, cell: RNNCell, x: Any, state: Any) -> tuple[Any, Any]:
    """Call a cell once, for the first step of a sequence."""
    with tf.variable_scope("rnn"):
        return cell(x[:, 0], state)


def dynamic(tf: TensorFlow, cell: RNNCell, x: Any, state: Any) -> tuple[Any, Any]:
    """Step a cell over a sequence in a loop."""
    return tf.nn.dynamic_rnn(cell, x, initial_state=state)


def every_state(tf: TensorFlow, cell: RNNCell, x: Any, state: Any) -> tuple[Any, Any]:
    """Step a cell over a sequence and keep the state after every step, `[time, batch, …]`."""
    outputs, states = [], []
    with tf.variable_scope("rnn", reuse=tf.AUTO_REUSE):
        for step in tf.unstack(x, axis=1):
            output, state = cell(step, state)
            outputs.append(output)
            states.append(state)
    return tf.stack(outputs, 1), tf.nest.map_structure(lambda *some: tf.stack(some), *states)


Loop = Callable[[TensorFlow, RNNCell, Any, Any], tuple[Any, Any]]
RUNS = [*[(dynamic, dtype) for dtype in DTYPES], (one_step, "float64"), (every_state, "float32")]
# The model with all features, and the others with one each.
LARGEST = "stack of unlike cells"
OTHERS = [name for name in MODELS if name != LARGEST]


def made(tf: TensorFlow, model: Model, dtype: str, *, is_tuple: bool) -> RNNCell:
    """Return the cells of a model, all with the same `state_is_tuple`."""
    cells = [
        getattr(tf.nn.rnn_cell, kind)(**options, state_is_tuple=is_tuple, dtype=tf.as_dtype(dtype))
        for kind, options in model.cells
    ]
    return tf.nn.rnn_cell.MultiRNNCell(cells, is_tuple) if model.is_stack else cells[0]


def noise(name: str, shape: Sequence[int], dtype: str) -> Array:
    """Return numbers that depend only on a name."""
    return np.random.default_rng(zlib.crc32(name.encode())).normal(size=shape).astype(dtype)


def stepped(
    model: Model,
    dtype: str,
    loop: Loop,
    *,
    is_tuple: bool,
    start: Structure | None = None,
    x: Array | None = None,
) -> tuple[Array, Structure]:
    """Return (outputs, state) of a model in a session, from a fed state, or from zeros."""
    tf = tensorflow()
    x = noise("x", (BATCH, STEPS, INPUTS), dtype) if x is None else x
    with as_in_1_x(tf), new_session(tf) as session:
        cell = made(tf, model, dtype, is_tuple=is_tuple)
        fed = tf.placeholder(tf.as_dtype(dtype), x.shape)
        first = cell.zero_state(BATCH, tf.as_dtype(dtype))
        found = loop(tf, cell, fed, first)
        shapes = {variable: variable.shape.as_list() for variable in tf.global_variables()}
        set_variables(
            session, {one: noise(one.op.name, shape, dtype) for one, shape in shapes.items()}
        )
        feed = {fed: x}
        if start is not None:
            places, values = tf.nest.flatten(first), tf.nest.flatten(start)
            assert [p.shape.as_list() for p in places] == [list(v.shape) for v in values]
            feed |= dict(zip(places, values, strict=True))
        return session.run(found, feed)


def halves(state: Structure) -> list[Array]:
    """Return c and m of every cell, in order, of a state that is a tuple."""
    return tensorflow().nest.flatten(state)


# ---- ours


def converted(source: Path, target: Path, *arguments: str) -> Path:
    """Run `lstmstate convert`, and return the path of the output."""
    assert run(["convert", str(source), *arguments, "-o", str(target)]) == 0
    return target


def assert_equal(ours: Sequence[Array], theirs: Sequence[Array]) -> None:
    """Compare arrays to the bit."""
    for one, other in zip(ours, theirs, strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert one.tobytes() == other.tobytes()


def in_npz(path: Path, model: Model) -> list[Array]:
    """Return c and m of every cell in a file, by their names."""
    scopes = [f"cell_{k}/" for k in range(len(model.cells))] if model.is_stack else [""]
    with np.load(path) as found:
        return [found[f"{scope}{half}"] for scope in scopes for half in "cm"]


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> Model:
    return MODELS[request.param]


# ---- flat and tuple


@pytest.mark.parametrize(
    ("name", "loop", "dtype"),
    [*[(LARGEST, *how) for how in RUNS], *[(name, dynamic, "float32") for name in OTHERS]],
)
def test_a_converted_flat_state_equals_the_state_of_tuple_cells(
    tmp_path: Path, name: str, loop: Loop, dtype: str
) -> None:
    model = MODELS[name]
    outputs, flat = stepped(model, dtype, loop, is_tuple=False)
    same_outputs, state = stepped(model, dtype, loop, is_tuple=True)
    assert_equal([outputs], [same_outputs])
    assert flat.any() and len({half.tobytes() for half in halves(state)}) == len(halves(state))
    np.save(tmp_path / "flat.npy", flat)
    path = converted(
        tmp_path / "flat.npy", tmp_path / "tuple.npz", "--to-tuple", "--cells", model.flags
    )
    assert_equal(in_npz(path, model), halves(state))
    back = converted(path, tmp_path / "back.npy", "--to-flat")
    assert_equal([np.load(back)], [flat])


@pytest.mark.parametrize(
    ("name", "dtype"),
    [(LARGEST, "float16"), (LARGEST, "float64"), *[(name, "float32") for name in OTHERS]],
)
def test_flat_cells_continue_from_a_converted_tuple(tmp_path: Path, name: str, dtype: str) -> None:
    """With it they compute the outputs that tuple cells compute with the tuple."""
    model = MODELS[name]
    _, state = stepped(model, dtype, dynamic, is_tuple=True)
    names = ("c", "m") if not model.is_stack else [f"{k}/{h}" for k in range(9) for h in "cm"]
    np.savez(tmp_path / "tuple.npz", **dict(zip(names, halves(state), strict=False)))
    path = converted(tmp_path / "tuple.npz", tmp_path / "flat.npy", "--to-flat")
    x = noise("more", (BATCH, STEPS, INPUTS), dtype)
    outputs, flat = stepped(model, dtype, dynamic, is_tuple=False, start=np.load(path), x=x)
    expected, last = stepped(model, dtype, dynamic, is_tuple=True, start=state, x=x)
    from_zeros, _ = stepped(model, dtype, dynamic, is_tuple=True, x=x)
    assert_equal([outputs], [expected])
    assert outputs.tobytes() != from_zeros.tobytes()
    found = load_state(converted(path, tmp_path / "again.h5", "--to-tuple"))
    assert_equal([found.flat()], [np.load(path)])
    np.save(tmp_path / "last.npy", flat)
    loaded = load_state(tmp_path / "last.npy", layout="flat", cells=model.widths)
    assert_equal(halves_of(loaded), halves(last))


def halves_of(state: LSTMState | StackState) -> list[Array]:
    """Return c and m of every cell of one of our states."""
    return [half for cell in getattr(state, "cells", (state,)) for half in cell]


@pytest.mark.parametrize(
    ("name", "is_tuple"),
    [(LARGEST, False), (LARGEST, True), ("basic", False), ("projected", True)],
)
def test_a_state_saved_in_a_file_continues_exactly(
    tmp_path: Path, name: str, is_tuple: bool
) -> None:
    """Half a sequence in one layout, the other half in the other, and all of it in one run."""
    tf, model = tensorflow(), MODELS[name]
    x = noise("x", (BATCH, 2 * STEPS, INPUTS), "float32")
    whole, end = stepped(model, "float32", dynamic, is_tuple=not is_tuple, x=x)
    _, middle = stepped(model, "float32", dynamic, is_tuple=is_tuple, x=x[:, :STEPS])
    if is_tuple:
        pairs = zip(halves(middle)[::2], halves(middle)[1::2], strict=True)
        cells = [LSTMState(c, m) for c, m in pairs]
        state = StackState(cells) if model.is_stack else cells[0]
        save_state(state, tmp_path / "flat.npy", layout="flat")
        start = np.load(tmp_path / "flat.npy")
    else:
        np.save(tmp_path / "flat.npy", middle)
        loaded = load_state(tmp_path / "flat.npy", cells=model.widths)
        save_state(loaded, tmp_path / "tuple.h5")
        cells = getattr(load_state(tmp_path / "tuple.h5"), "cells", None) or (loaded,)
        pairs = tuple(tf.nn.rnn_cell.LSTMStateTuple(cell.c, cell.m) for cell in cells)
        start = pairs if model.is_stack else pairs[0]
    outputs, state = stepped(
        model, "float32", dynamic, is_tuple=not is_tuple, start=start, x=x[:, STEPS:]
    )
    assert_equal([outputs, *halves(state)], [whole[:, STEPS:], *halves(end)])


def test_c_and_m_of_unequal_width_are_split_at_their_widths(
    tmp_path: Path, capsys: Captured
) -> None:
    """10 columns are 5 and 5 as well as 6 and 4: a flat state alone is halved, with a note."""
    _, flat = stepped(MODELS["projected"], "float32", dynamic, is_tuple=False)
    _, (c, m) = stepped(MODELS["projected"], "float32", dynamic, is_tuple=True)
    np.save(tmp_path / "flat.npy", flat)
    source, flags = tmp_path / "flat.npy", ["--units", "6", "--proj", "4"]
    right = load_state(converted(source, tmp_path / "right.npz", "--to-tuple", *flags))
    assert capsys.readouterr().err == ""
    halved = load_state(converted(source, tmp_path / "halved.npz", "--to-tuple"))
    assert "it is cut in half, c 5 and m 5" in capsys.readouterr().err
    assert_equal([*right], [c, m])
    assert halved.c.shape == halved.m.shape != c.shape


# ---- files that people save from a session


def test_saved_tuples_of_a_stack_are_read_as_layers(tmp_path: Path) -> None:
    """`numpy.save` of the nested tuples that a session returns makes `[L, 2, batch, units]`."""
    model = MODELS["stack of like cells"]
    _, state = stepped(model, "float32", dynamic, is_tuple=True)
    _, flat = stepped(model, "float32", dynamic, is_tuple=False)
    np.save(tmp_path / "state.npy", state)
    layered = ["--from", "layered"]
    path = converted(tmp_path / "state.npy", tmp_path / "flat.npy", "--to-flat", *layered)
    assert_equal([np.load(path)], [flat])


def test_a_pickled_state_of_a_session_is_read(tmp_path: Path, model: Model) -> None:
    _, state = stepped(model, "float32", dynamic, is_tuple=True)
    _, flat = stepped(model, "float32", dynamic, is_tuple=False)
    (tmp_path / "state.pkl").write_bytes(pickle.dumps(state))
    path = converted(tmp_path / "state.pkl", tmp_path / "flat.npy", "--to-flat")
    assert_equal([np.load(path)], [flat])


# ---- widths from the cells of a checkpoint

_FW_200 = "utterance_encoder/bidirectional_rnn/fw/lstm_cell"
_CRNN = "shadow_net/sequence_rnn_module/stack_bidirectional_rnn"
_FORWARD = "layer_with_weights-0/forward_layer/cell"

# Flags, the widths (c, m) of each cell, and their names if only one owner fits.
OWNERS: list[tuple[str, list[str], list[tuple[int, int]], list[str]]] = [
    ("peephole_tuple", [], [(8, 5)], ["rnn/lstm_cell"]),
    ("peephole_flat", [], [(8, 5)], ["rnn/lstm_cell"]),
    ("partitioned", [], [(8, 5)], ["rnn/lstm_cell"]),
    ("block_cell", [], [(8, 8)], ["rnn/lstm_cell"]),
    ("v1_format", [], [(8, 8)], ["rnn/basic_lstm_cell"]),
    ("v1_format/model.ckpt", [], [(8, 8)], ["rnn/basic_lstm_cell"]),
    ("saved_model", [], [(8, 8)], ["rnn/basic_lstm_cell"]),
    ("bidirectional", ["--cell", "fw"], [(8, 8)], ["bidirectional_rnn/fw/lstm_cell"]),
    ("bidirectional", [], [(6, 6)], ["bidirectional_rnn/bw/lstm_cell"]),
    ("sunspots", [], [(24, 24), (12, 12)], ["cell_0/basic_lstm_cell", "cell_1/basic_lstm_cell"]),
    ("sunspots/model.ckpt-360.meta", ["--cell", "cell_1"], [(12, 12)], ["cell_1/basic_lstm_cell"]),
    ("tf_0_12_names", [], [(8, 5), (6, 6)], ["Cell0/LSTMCell", "Cell1/LSTMCell"]),
    ("tf_0_12_names", ["--cell", "Cell0"], [(8, 5)], ["Cell0/LSTMCell"]),
    ("tf_1_0_names", ["--stack", "rnn"], [(8, 5), (6, 6)], ["_0/lstm_cell", "_1/lstm_cell"]),
]  # fmt: skip
REAL: list[tuple[str, list[str], list[tuple[int, int]], list[str]]] = [
    ("anime-tf11", [], [(128, 128)], ["audio_lstm/lstm_cell"]),
    ("anime-tf11", ["--cell", "anime_lstm"], [(50, 50)], ["anime_lstm/lstm_cell"]),
    ("har-imu-nometa", [], [(32, 32)] * 2, ["cell_0/lstm_cell", "cell_1/lstm_cell"]),
    ("io-bilstmcrf", ["--cell", _FW_200], [(200, 200)], [_FW_200]),
    ("io-crnn-savedmodel", ["--stack", _CRNN], [(256, 256)] * 4, []),
    ("io-dirprefix-ner", ["--cell", _FORWARD], [(128, 128)], [_FORWARD]),
    ("io-lstmcell-W_0", [], [(400, 400)] * 3, [f"Cell{k}/LSTMCell" for k in range(3)]),
    ("nailpen-tf12", ["--stack", "multi_rnn_cell"], [(36, 36)], ["cell_0/basic_lstm_cell"]),
    ("sm-waterlevel", [], [(50, 50)], ["lstm/lstm_cell"]),
    ("tf1obj-mdlstm", [], [(64, 64)], ["layer_with_weights-1/cell"]),
    ("timeseries-5unit", [], [(5, 5)], ["rnn/basic_lstm_cell"]),
    ("v1-assoc-lstm", [], [(50, 50)], ["send_to_rnn/BasicLSTMCell"]),
    ("v1-har-4unit", [], [(4, 4)] * 2, ["Cell0/BasicLSTMCell", "Cell1/BasicLSTMCell"]),
]


def assert_widths_come_from(
    ckpt: Path, flags: list[str], cells: list[tuple[int, int]], names: list[str], folder: Path
) -> None:
    """Convert a flat state and back, with widths that only a checkpoint shows."""
    parts = [noise(f"{k}", (BATCH, width), "f4") for k, width in enumerate(sum(cells, ()))]
    flat = np.concatenate(parts, -1)
    np.save(folder / "flat.npy", flat)
    arguments = ["--to-tuple", "--checkpoint", str(ckpt), *flags]
    path = converted(folder / "flat.npy", folder / "tuple.h5", *arguments)
    found = load_state(path)
    assert_equal(halves_of(found), parts)
    called = [cell.cell for cell in getattr(found, "cells", (found,))]
    assert all(name.endswith(end) for name, end in zip(called, names, strict=False))
    assert_equal([np.load(converted(path, folder / "back.npy", "--to-flat"))], [flat])


@pytest.mark.parametrize("owner", OWNERS, ids=lambda owner: " ".join([owner[0], *owner[1]]))
def test_widths_come_from_the_cells_of_a_checkpoint(tmp_path: Path, owner: Any) -> None:
    name, flags, cells, names = owner
    assert_widths_come_from(SAMPLES / name, flags, cells, names, tmp_path)


@pytest.mark.parametrize("owner", REAL, ids=lambda owner: " ".join([owner[0], *owner[1]]))
def test_widths_come_from_published_checkpoints(tmp_path: Path, owner: Any) -> None:
    name, flags, cells, names = owner
    truth = SHARED / "real" / name / "truth.json"
    if not truth.is_file():
        pytest.skip("the real checkpoints are not available")
    prefix = json.loads(truth.read_text())["prefix"]
    ckpt = truth.parent / ("." if prefix.startswith("variables/") else prefix)
    assert_widths_come_from(ckpt, flags, cells, names, tmp_path)


@pytest.mark.parametrize(
    ("name", "flags", "width", "words"),
    [
        ("peephole_tuple", [], 16, "it is 16 wide, and c 8 + m 5 are 13"),
        ("sunspots", [], 36, "fits none of the cells (24,12; 24; 12)"),
        ("sunspots", ["--cell", "cell_0"], 24, "it is 24 wide, and c 24 + m 24 are 48"),
        ("bidirectional", ["--cell", "lstm_cell"], 16, "the cells are: bidirectional_rnn/fw"),
        ("sunspots", ["--stack", "rnn_1"], 72, "there are: rnn/multi_rnn_cell"),
    ],
)
def test_a_state_that_fits_no_cell_is_refused(
    tmp_path: Path, capsys: Captured, name: str, flags: list[str], width: int, words: str
) -> None:
    np.save(tmp_path / "flat.npy", np.zeros((BATCH, width), np.float32))
    target, ckpt = tmp_path / "out.npz", str(SAMPLES / name)
    arguments = ["--to-tuple", "--checkpoint", ckpt, *flags, "-o", str(target)]
    assert run(["convert", str(tmp_path / "flat.npy"), *arguments]) == 3
    assert words in capsys.readouterr().err
    assert not target.exists()
