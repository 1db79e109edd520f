"""The writer of V2 checkpoints: TensorFlow's own bytes, read back by TensorFlow."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from builders import BundleBuilder
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

from lstmstate.checkpoint import Checkpoint, dtypes
from lstmstate.checkpoint import protobuf as wire
from lstmstate.checkpoint.tensor_bundle import Bundle
from lstmstate.checkpoint.tensor_bundle_writer import BundleWriter
from lstmstate.errors import LstmstateError, NotFoundError, UnsupportedError

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
    with tf1.Graph().as_default(), tf1.Session() as session:
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
