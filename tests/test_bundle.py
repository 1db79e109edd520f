"""V2 checkpoints and bundles of generators: exact bytes, values, slices and data files."""

from __future__ import annotations

import math
from pathlib import Path
from random import Random

import numpy as np
import pytest
from builders import (
    BFLOAT16,
    FLOAT,
    NUMBERS,
    BundleBuilder,
    V1Builder,
    bundle_entry,
    bundle_header,
    masked,
    meta_graph,
    node,
    number,
    shape_proto,
    slice_key,
    split,
    table,
    text,
)
from commands import Shell, error, lstm_cell, notes, numbers, saved
from hypothesis import given
from hypothesis import strategies as st

from lstmstate import limits
from lstmstate.checkpoint import Checkpoint, tensor_bundle
from lstmstate.checkpoint import protobuf as wire
from lstmstate.checkpoint.tensor_bundle import Bundle
from lstmstate.checkpoint.variables import parse_shape
from lstmstate.errors import CorruptError, LstmstateError, NotFoundError, UnsupportedError
from lstmstate.files.reader import ByteSource

INT64 = 9

# The variable "v" with the float32 values 1 and -2, as TensorFlow writes it.
GOLDEN_DATA = bytes.fromhex("00 00 80 3f  00 00 00 c0")
GOLDEN_INDEX = bytes.fromhex(
    "00 00 06  08 01  1a 02 08 01"  # key "": one shard, (little-endian,) producer 1
    "00 01 0f  76  08 01  12 04 12 02 08 02  28 08  35 45 3f 16 88"  # float32, [2], 8 bytes, CRC
    "00 00 00 00  01 00 00 00  00  b1 43 7e 23"
    "00 00 00 00  01 00 00 00  00  c0 f2 a1 b0"
    "00 01 02  77  00 24  00 00 00 00  01 00 00 00  00  94 60 b2 cd"  # up to "w": the block
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


def test_the_test_builder_writes_the_exact_bytes() -> None:
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


# ---- values


@pytest.mark.parametrize("dtype", [dtype for dtype in NUMBERS if dtype != "object"])
def test_values_of_every_dtype_are_read_to_the_bit(tmp_path: Path, dtype: str) -> None:
    random = np.random.default_rng(5)
    value = random.integers(0, 2 if dtype == "bool" else 256, 96, np.uint8).view(dtype)
    bundle = BundleBuilder()
    bundle.add("before", np.arange(3, dtype=np.int8))  # so that no value is aligned
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


def test_a_big_endian_bundle_is_read(tmp_path: Path) -> None:
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


def test_a_value_with_a_checksum_mismatch_is_refused(tmp_path: Path) -> None:
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


# ---- slices and data files


@pytest.mark.parametrize(
    "cuts",
    [
        [[(0, 3), (0, 4)], [(3, 2), (0, 4)], [(5, 2), (0, 4)]],
        [[(0, 7), (0, 1)], [(0, 7), (1, 3)]],
        [[(0, 3), (0, 2)], [(3, 4), (0, 2)], [(0, 7), (2, 2)]],
        [[(5, 2), (0, 4)], [(0, 5), (0, 4)]],  # not in order
    ],
)
def test_slices_are_joined(tmp_path: Path, cuts: list[list[tuple[int, int]]]) -> None:
    value = np.arange(28, dtype=np.float32).reshape(7, 4)
    bundle = BundleBuilder()
    bundle.add_slices("x", value, cuts)
    path = bundle.write(tmp_path / "m")
    assert list(Checkpoint(path).variables) == ["x"]
    np.testing.assert_array_equal(read(path), value, strict=True)


def test_a_slice_may_leave_an_axis_whole(tmp_path: Path) -> None:
    bundle = BundleBuilder()
    value = np.arange(6, dtype=np.int32).reshape(3, 2)
    cuts = [[(0, 2), (0, -1)], [(2, 1), (0, -1)]]
    bundle.entries[b"x"] = bundle_entry(3, (3, 2), slices=cuts)
    bundle.add(slice_key("x", cuts[0]), value[:2])
    bundle.add(slice_key("x", cuts[1]), value[2:])
    np.testing.assert_array_equal(read(bundle.write(tmp_path / "m")), value)


def test_values_are_read_from_their_data_file(tmp_path: Path) -> None:
    bundle = BundleBuilder(shards=3)
    bundle.add("a", np.array([1, 2], np.int16), shard=0)
    bundle.add("b", np.array([3, 4], np.int16), shard=2)
    path = bundle.write(tmp_path / "m")
    assert read(path, "a").tolist() == [1, 2]
    assert read(path, "b").tolist() == [3, 4]
    assert Checkpoint(path).data_files == (
        f"{path}.data-00000-of-00003",
        f"{path}.data-00002-of-00003",
    )


def test_empty_data_files_may_be_missing(tmp_path: Path) -> None:
    bundle = BundleBuilder(shards=3)
    bundle.add("x", np.array([7]), shard=1)
    path = bundle.write(tmp_path / "m")
    Path(f"{path}.data-00000-of-00003").unlink()
    Path(f"{path}.data-00002-of-00003").unlink()
    assert read(path).tolist() == [7]


# ---- listing needs the index alone


Reads = list[tuple[str, int]]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    """The file name and the number of bytes of every read, in order."""
    found: Reads = []
    plain = ByteSource.read

    def recording(self: ByteSource, offset: int, length: int, what: str) -> bytes:
        found.append((Path(self.path).name, length))
        return plain(self, offset, length, what)

    monkeypatch.setattr(ByteSource, "read", recording)
    return found


def test_listing_reads_the_index_alone(tmp_path: Path, reads: Reads) -> None:
    bundle = BundleBuilder(shards=2)
    bundle.add("a", np.arange(3), shard=0)
    bundle.add("x", np.arange(3), shard=1)
    checkpoint = Checkpoint(bundle.write(tmp_path / "m"))
    variables = [(v.name, v.shape, v.dtype, v.nbytes) for v in checkpoint.variables.values()]
    assert variables == [("a", (3,), "int64", 24), ("x", (3,), "int64", 24)]
    assert {name for name, _ in reads} == {"m.index"}
    checkpoint.variables["x"].read()
    assert {name for name, _ in reads} == {"m.index", "m.data-00001-of-00002"}


def test_only_the_bytes_of_the_value_are_read(tmp_path: Path, reads: Reads) -> None:
    bundle = BundleBuilder()
    bundle.add("a", np.zeros(1 << 14, np.uint8))
    bundle.add("x", np.arange(3))
    variable = Checkpoint(bundle.write(tmp_path / "m")).variables["x"]
    reads.clear()
    variable.read()
    assert sum(length for _, length in reads) < 100


@given(
    sizes=st.lists(st.integers(0, 60), min_size=1, max_size=30),
    large=st.sets(st.integers(0, 29)),
    order=st.randoms(use_true_random=False),
)
def test_values_are_the_same_in_any_order_of_reading(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], large: set[int], order: Random
) -> None:
    """Values that are read one after another are read together, a page at a time."""
    builder = BundleBuilder(shards=2)
    counts = [size * 1000 if number in large else size for number, size in enumerate(sizes)]
    values = {f"{n:02}": np.arange(count, dtype="f4") + n for n, count in enumerate(counts)}
    for place, (name, value) in enumerate(values.items()):
        builder.add(name, value, shard=place % 5 // 4)
    variables = Checkpoint(builder.write(tmp_path_factory.mktemp("m") / "model")).variables
    names = [*values, *order.choices([*values], k=20), *values]
    for name in names:
        assert np.array_equal(variables[name].read(), values[name]), name


def test_small_values_that_follow_one_another_are_read_together(
    tmp_path: Path, reads: Reads
) -> None:
    builder = BundleBuilder()
    for place in range(1000):
        builder.add(f"{place:04}", np.full(100, place, "f4"))
    path = builder.write(tmp_path / "model")
    variables = Checkpoint(path).variables.values()
    reads.clear()
    assert [variable.read()[0] for variable in variables] == [*range(1000)]
    data = [read for read in reads if "data" in read[0]]
    assert len(data) < 20


def test_damage_in_values_that_are_read_together_is_that_of_one(tmp_path: Path) -> None:
    builder = BundleBuilder()
    for place in range(100):
        builder.add(f"{place:02}", np.full(100, place, "f4"))
    path = builder.write(tmp_path / "model")
    data = Path(f"{path}.data-00000-of-00001")
    content = bytearray(data.read_bytes())
    content[400 * 50] ^= 1
    data.write_bytes(content)
    damage = {name: v.damage() for name, v in Checkpoint(path).variables.items()}
    assert [name for name, error in damage.items() if error] == ["50"]


def test_the_index_has_the_number_of_data_files(tmp_path: Path) -> None:
    """Stale ones of another number are ignored, and named if those of the index are missing."""
    bundle = BundleBuilder()
    bundle.add("x", np.arange(3))
    path = bundle.write(tmp_path / "m")
    stale = [f"m.data-0000{number}-of-00002" for number in range(2)]
    for name in stale:
        (tmp_path / name).write_bytes(bytes(24))
    checkpoint = Checkpoint(path)
    assert (checkpoint.variables["x"].read() == np.arange(3)).all()
    assert checkpoint.notes == []
    Path(f"{path}.data-00000-of-00001").unlink()
    checkpoint = Checkpoint(path)
    missing = f"the data file is missing (not of this index: {', '.join(stale)})"
    assert checkpoint.notes == [f"{path}.data-00000-of-00001: {missing}: values cannot be read"]
    with pytest.raises(NotFoundError) as caught:
        checkpoint.variables["x"].read()
    assert caught.value.problem.startswith(f"{missing}: only names")


@pytest.mark.parametrize("sliced", [False, True], ids=["whole", "sliced"])
@pytest.mark.parametrize(
    ("content", "kind", "words", "advice"),
    [
        (None, NotFoundError, "data file is missing", "put m.data-00000-of-00001 next to"),
        (b"", CorruptError, "cut short", "copy it again"),
        (bytes(23), CorruptError, "cut short", "copy it again"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 24\n",
            LstmstateError,
            "the data file is a Git LFS pointer",
            "run 'git lfs pull'",
        ),
    ],
    ids=["missing", "empty", "cut", "lfs pointer"],
)
def test_listing_works_without_the_data_and_reading_reports_the_missing_file(
    tmp_path: Path,
    content: bytes | None,
    kind: type[LstmstateError],
    words: str,
    advice: str,
    sliced: bool,
) -> None:
    bundle = BundleBuilder()
    if sliced:
        bundle.add_slices("x", np.arange(300), [[(0, 200)], [(200, 100)]])
    else:
        bundle.add("x", np.arange(300))
    path = bundle.write(tmp_path / "m")
    data = Path(f"{path}.data-00000-of-00001")
    data.unlink()
    if content is not None:
        data.write_bytes(content)
    checkpoint = Checkpoint(path)
    assert words in checkpoint.notes[0]
    variable = checkpoint.variables["x"]
    assert (variable.shape, variable.dtype) == ((300,), "int64")
    with pytest.raises(kind) as caught:
        variable.read()
    assert words in caught.value.problem
    assert advice in (caught.value.advice or "")
    assert (caught.value.path, caught.value.tensor) == (str(data), "x")


def test_an_index_that_is_a_git_lfs_pointer_is_reported(tmp_path: Path) -> None:
    (tmp_path / "m.index").write_bytes(b"version https://git-lfs.github.com/spec/v1\nsize 24\n")
    with pytest.raises(LstmstateError, match="Git LFS pointer"):
        Checkpoint(str(tmp_path / "m"))


# ---- valid but rare files


def test_5000_variables_over_many_blocks_are_listed(tmp_path: Path) -> None:
    names = sorted(f"layer_{k}/kernel" for k in range(5000))
    bundle = BundleBuilder()
    for name in names:
        bundle.entry(name, dtype=1, shape=(2, 3), size=24)
    entries = [(b"", bundle.header), *sorted(bundle.entries.items())]
    path = bundle.write(tmp_path / "m", table(*split(entries, 2048)))
    assert list(Checkpoint(path).variables) == names


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (bundle_entry(FLOAT, [2], offset=8, size=12), "12 bytes are stored for a value of 8"),
        (bundle_entry(FLOAT, [2], offset=8), "0 bytes are stored for a value of 8"),
        (bundle_entry(FLOAT, [2], offset=(1 << 63) - 8, size=8), "declared at byte"),
        (bundle_entry(FLOAT, [2], offset=1 << 63, size=8), "declared at byte"),
        (bundle_entry(FLOAT, [2], shard=1, offset=8, size=8), "declared in data file 1 of 1"),
        (bundle_entry(FLOAT, [2], offset=8, size=8)[:-1], "does not end"),
        (bundle_entry(FLOAT, [2], offset=8, size=8) + b"\x35abc", "runs over the end"),
        (bundle_entry(FLOAT, [2], offset=8, size=8) + number(1, INT64), "stored for a value of 16"),
    ],
)
def test_an_entry_is_checked_in_full_after_another_of_its_kind(
    tmp_path: Path, entry: bytes, words: str
) -> None:
    entries = [(b"a", bundle_entry(FLOAT, [2], size=8)), (b"b", entry)]
    (tmp_path / "m.index").write_bytes(table([(b"", bundle_header()), *entries]))
    with pytest.raises(CorruptError, match=words) as caught:
        Checkpoint(str(tmp_path / "m"))
    assert caught.value.tensor == "b"


def test_an_unusual_entry_makes_no_kind_of_its_first_fields(tmp_path: Path) -> None:
    """The dtype that counts is the last one."""
    odd = bundle_entry(FLOAT, [2], size=16) + number(1, INT64)
    entries = [(b"a", odd), (b"b", bundle_entry(FLOAT, [2], offset=16, size=8))]
    (tmp_path / "m.index").write_bytes(table([(b"", bundle_header()), *entries]))
    variables = Checkpoint(str(tmp_path / "m")).variables
    assert [variable.dtype for variable in variables.values()] == ["int64", "float32"]


@pytest.mark.parametrize(
    "name",
    [
        "état/ячейка/细胞",
        "with space",
        "tab\tand\x1b[31mred\nline",
        "x" * 60_000,
        "\udcff\udcfe",
        "a:0",
        "\x7f",
    ],
    ids=["unicode", "space", "control", "long", "not utf-8", "colon", "delete"],
)
def test_every_name_is_kept(tmp_path: Path, name: str) -> None:
    bundle = BundleBuilder()
    bundle.add(name, np.array([1]))
    bundle.add_slices("sliced", np.array([1, 2]), [[(0, 1)], [(1, 1)]])
    variables = Checkpoint(bundle.write(tmp_path / "m")).variables
    assert set(variables) == {name, "sliced"}
    assert variables[name].read().tolist() == [1]


def test_unknown_fields_and_gaps_between_values_are_ignored(tmp_path: Path) -> None:
    bundle = BundleBuilder()
    bundle.header += text(99, b"later") + number(98, 7)
    bundle.data[0] += bytes(64 - 1)  # data_alignment leaves such gaps
    bundle.add("x", np.array([1]))
    bundle.entries[b"x"] += text(99, b"later")
    assert read(bundle.write(tmp_path / "m")).tolist() == [1]


def test_a_bundle_without_variables_is_empty(tmp_path: Path) -> None:
    assert Checkpoint(BundleBuilder().write(tmp_path / "m")).variables == {}


@pytest.mark.parametrize("dtype", [20, 21, 24, 999])
def test_entries_of_unsupported_dtypes_are_listed_but_not_read(tmp_path: Path, dtype: int) -> None:
    bundle = BundleBuilder()
    bundle.entry("x", dtype=dtype, shape=(2,), size=40)
    bundle.add("y", np.array([1]))
    variables = Checkpoint(bundle.write(tmp_path / "m")).variables
    named = {20: "resource", 21: "variant"}.get(dtype, f"dtype {dtype}")
    assert (variables["x"].dtype, variables["x"].shape) == (named, (2,))
    assert variables["y"].read().tolist() == [1]
    with pytest.raises(UnsupportedError, match=f"values of dtype {named} cannot be read"):
        variables["x"].read()


# ---- bundles of Magenta (`.mag`): a V1 checkpoint and its graph in one file


CELL = lstm_cell(units=2)
GRAPH = meta_graph(
    *(node(name, "VariableV2", shape=text(7, shape_proto(CELL[name].shape))) for name in CELL),
    producer=24,
    info=text(5, "1.2.0"),
)
SHORT, LONG = text(1, "attention_rnn"), text(1, "attention_rnn") + text(2, "Attention RNN")


def v1(path: Path) -> bytes:
    """Return the bytes of a V1 checkpoint of a cell, and write it."""
    builder = V1Builder()
    for name, value in CELL.items():
        builder.add(name, value)
    return Path(builder.write(path)).read_bytes()


@pytest.fixture
def magenta_table(tmp_path: Path) -> bytes:
    """A V1 checkpoint."""
    return v1(tmp_path / "v1.ckpt")


def bundle(path: Path, *checkpoints: bytes, details: bytes = LONG, graph: bytes = GRAPH) -> str:
    """Write a bundle."""
    start = text(1, details) if details else b""
    files = b"".join(text(2, content) for content in checkpoints)
    path.write_bytes(start + files + (text(3, graph) if graph else b"") + text(4, text(1, "x")))
    return str(path)


@pytest.mark.parametrize("details", [LONG, SHORT, b""], ids=["long", "short", "none"])
def test_the_values_and_the_graph_of_a_bundle(
    tmp_path: Path, magenta_table: bytes, details: bytes
) -> None:
    found = Checkpoint(bundle(tmp_path / "a.mag", magenta_table, details=details))
    assert found.format == "generator_bundle"
    assert found.variables.keys() == CELL.keys()
    for name, value in CELL.items():
        assert np.array_equal(found.variables[name].read(), value)
    assert found.graph is not None
    assert (found.graph.tensorflow_version, set(found.graph.nodes)) == ("1.2.0", set(CELL))
    assert found.meta_graph() == GRAPH
    assert found.notes == []


def test_a_bundle_runs_like_its_checkpoint(
    shell: Shell, tmp_path: Path, magenta_table: bytes
) -> None:
    path = bundle(tmp_path / "a.mag", magenta_table)
    assert "Magenta bundle of a TensorFlow V1 checkpoint" in shell("inspect", path).out
    x = saved(tmp_path / "x.npy", numbers(2, 4, 3))
    (tmp_path / "v1.ckpt.meta").write_bytes(GRAPH)
    results = []
    for source in (path, tmp_path / "v1.ckpt"):
        target = tmp_path / "y.npy"
        shell("run", source, x, "-o", target, "--force", "--engine", "numpy", code=0)
        results.append(np.load(target))
    assert np.array_equal(*results)


def test_a_bundle_without_a_graph_or_with_a_damaged_one(
    tmp_path: Path, magenta_table: bytes
) -> None:
    for graph in (b"", GRAPH[:-20]):
        found = Checkpoint(bundle(tmp_path / "a.mag", magenta_table, graph=graph))
        assert found.graph is None
        assert np.array_equal(*(v["rnn/lstm_cell/bias"] for v in (_read(found), CELL)))
        assert found.notes[0].endswith("going on without the graph")


def _read(found: Checkpoint) -> dict[str, np.ndarray]:
    return {name: variable.read() for name, variable in found.variables.items()}


def test_a_graph_that_is_too_large_is_ignored(
    tmp_path: Path, magenta_table: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_GRAPH_BYTES", len(GRAPH) - 1)
    found = Checkpoint(bundle(tmp_path / "a.mag", magenta_table))
    assert found.graph is None
    assert f"a graph of {len(GRAPH)} bytes is larger than" in found.notes[0]


def test_a_bundle_of_two_checkpoints_is_refused(tmp_path: Path, magenta_table: bytes) -> None:
    with pytest.raises(UnsupportedError, match="this bundle has 2 checkpoint files, and not 1"):
        Checkpoint(bundle(tmp_path / "a.mag", magenta_table, magenta_table))


def test_a_bundle_that_is_cut_short(shell: Shell, tmp_path: Path, magenta_table: bytes) -> None:
    whole = Path(bundle(tmp_path / "a.mag", magenta_table)).read_bytes()
    path = tmp_path / "cut.mag"
    path.write_bytes(whole[:-100])
    done = shell("inspect", path, code=3)
    assert error(done) == (
        f"{path}: the bundle is cut short: {100 - 5} bytes are missing; "
        "copy it again from where it came from"
    )
    assert notes(done) == []
    of_details = len(text(4, text(1, "x")))  # without which a bundle is complete
    for size in range(0, len(whole) - of_details, 7):
        path.write_bytes(whole[:size])
        with pytest.raises(LstmstateError):
            Checkpoint(str(path))


def test_a_bundle_that_is_damaged(tmp_path: Path, magenta_table: bytes) -> None:
    whole = bytearray(Path(bundle(tmp_path / "a.mag", magenta_table)).read_bytes())
    at = bytes(whole).index(magenta_table)
    path = tmp_path / "b.mag"
    found = 0
    for place in range(at, at + len(magenta_table), 5):
        damaged = bytearray(whole)
        damaged[place] ^= 4
        path.write_bytes(damaged)
        try:
            values = _read(Checkpoint(str(path)))
        except LstmstateError:
            found += 1
        else:  # a byte that is never read
            assert all(np.array_equal(values[name], CELL[name]) for name in CELL)
    assert found > len(magenta_table) // 5 * 0.8
    path.write_bytes(bytes(whole) + number(5, 3))
    with pytest.raises(CorruptError, match="this is a damaged bundle"):
        Checkpoint(str(path))


@given(
    heads=st.lists(
        st.sampled_from(
            [
                b"\x08\x01",  # a scalar without a shape
                b"\x08\x01\x12\x00",
                number(1, 1) + text(2, shape_proto([3])),
                number(1, 1) + text(2, shape_proto([1] * 30)),  # of 120 bytes
                number(1, 1) + text(2, shape_proto([1] * 33)),  # of two bytes of length
                number(1, 1) + text(2, shape_proto([24] * 2 + [1] * 33)),
                number(1, 2) + text(2, shape_proto([2])),
            ]
        ),
        min_size=1,
        max_size=12,
    ),
    place=st.integers(0, 1 << 20),
)
def test_entries_are_the_same_after_any_others(
    tmp_path_factory: pytest.TempPathFactory, heads: list[bytes], place: int
) -> None:
    """Most are read as those before them of the same dtype and shape, without being parsed."""
    entries, wanted = [(b"", bundle_header())], {}
    for position, head in enumerate(heads):
        found = wire.message(head)
        shape = parse_shape(wire.last_bytes(found.get(2)))
        size = math.prod(shape) * (4 if head[1] == 1 else 8)
        entries.append((b"%03d" % position, head + number(4, place + position) + number(5, size)))
        wanted[f"{position:03}"] = shape, place + position, size
    path = tmp_path_factory.mktemp("m") / "m"
    Path(f"{path}.index").write_bytes(table(*split(entries, 1 << 10)))
    bundle = Bundle(str(path))
    for name, expected in wanted.items():
        entry = bundle.entry(name)
        assert (entry.shape, entry.offset, entry.size) == expected
        assert bundle.specs[name].shape == expected[0]


def test_an_entry_that_ends_like_the_start_of_a_shape(tmp_path: Path) -> None:
    """Its dtype is a number of two bytes, the second of them that of a field."""
    entries = [(b"", bundle_header()), (b"w", b"\x08\xbb\x12")]
    (tmp_path / "m.index").write_bytes(table(*split(entries, 1 << 10)))
    (variable,) = Checkpoint(tmp_path / "m").variables.values()
    assert variable.dtype == "dtype 2363"
    with pytest.raises(LstmstateError):
        variable.read()


@given(rows=st.integers(1, 40), width=st.integers(1, 40), chunk=st.sampled_from([8, 64, 100]))
def test_a_value_is_read_in_parts_of_whole_rows(
    tmp_path_factory: pytest.TempPathFactory, rows: int, width: int, chunk: int
) -> None:
    value = np.arange(rows * width, dtype="f4").reshape(rows, width)
    bundle = BundleBuilder()
    bundle.add("other", np.zeros(3))
    bundle.add("w", value)
    files = Checkpoint(bundle.write(tmp_path_factory.mktemp("m") / "m"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tensor_bundle, "CHUNK_BYTES", chunk)
        parts = [*files.read_parts("w")]
    assert np.array_equal(np.concatenate(parts), value)
    assert all(part.nbytes <= max(chunk, part[0].nbytes * (chunk // part[0].nbytes + 1))
               for part in parts)  # fmt: skip
    assert len(parts) >= min(rows, -(-value.nbytes // (chunk + 4 * width)))
