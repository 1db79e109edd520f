"""Malicious checkpoints: one test for each attack, all in bounded memory."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from builders import (
    FLOAT,
    STRING,
    UINT8,
    BundleBuilder,
    Extents,
    Pairs,
    V1Builder,
    block,
    bundle_entry,
    bundle_header,
    masked,
    number,
    slice_key,
    string_bytes,
    table,
    tensor_values,
    text,
    varint,
)

from lstmstate import limits
from lstmstate.checkpoint import Checkpoint
from lstmstate.errors import CorruptError, LstmstateError, NotFoundError, UnsupportedError
from lstmstate.files.reader import ByteSource

BIG = 1 << 44  # more bytes than any machine has
TOP = 1 << 63


pytestmark = pytest.mark.memory(32)


def read(path: str, name: str = "x") -> np.ndarray:
    """Return the value of one variable."""
    return Checkpoint(path).variables[name].read()


def open_index(folder: Path, index: bytes) -> Checkpoint:
    """Open a bundle with this index."""
    return Checkpoint(BundleBuilder().write(folder / "m", index))


# ---- tables

HEADER = (b"", bundle_header())
ENTRY = bundle_entry(FLOAT, [], size=4)


def test_a_block_listed_many_times_is_not_read_as_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count, empty = 200, struct.pack("<5001I", *[0] * 5000, 5000)  # no entries, 5,000 restarts
    keys = [b"%03d" % position for position in range(count + 1)]
    blocks: list[Pairs | bytes] = [[HEADER], empty, *[b""] * (count - 1)]
    handles = dict.fromkeys(range(2, count + 1), (len(block([HEADER])) + 5, len(empty)))
    index = table(*blocks, separators=keys, handles=handles)
    requested = []
    plain = ByteSource.read

    def counting(self: ByteSource, offset: int, length: int, what: str) -> bytes:
        requested.append(length)
        return plain(self, offset, length, what)

    monkeypatch.setattr(ByteSource, "read", counting)
    with pytest.raises(LstmstateError):
        open_index(tmp_path, index)
    assert sum(requested) < 4 * len(index)


def test_a_bundle_whose_first_key_is_not_the_header_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorruptError, match="no header"):
        open_index(tmp_path, table([(b"x", ENTRY)]))


# ---- numbers of an entry


def test_an_index_of_142_bytes_does_not_ask_for_terabytes(tmp_path: Path) -> None:
    """The published index that crashes TensorFlow 2.21: many strings, and no data file."""
    entry = bundle_entry(STRING, [1 << 40], size=5, crc=1)
    path = tmp_path / "m.index"
    path.write_bytes(table([HEADER, (b"x", entry)]))
    with pytest.raises(CorruptError, match="5 bytes cannot hold 1099511627776 strings") as caught:
        Checkpoint(str(tmp_path / "m"))
    assert caught.value.tensor == "x"
    path.write_bytes(table([HEADER, (b"x", bundle_entry(STRING, [1 << 40], size=1 << 41))]))
    variable = Checkpoint(str(tmp_path / "m")).variables["x"]
    with pytest.raises(NotFoundError, match="data file is missing"):
        variable.read()
    (tmp_path / "m.data-00000-of-00001").write_bytes(bytes(100))
    with pytest.raises(CorruptError, match="cut short"):
        variable.read()


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (bundle_entry(UINT8, [16], offset=TOP - 16, size=16), "is declared at byte"),
        (bundle_entry(UINT8, [16], offset=-1, size=16), "is declared at byte -1"),
        (bundle_entry(UINT8, [16], offset=TOP, size=16), "is declared at byte -"),
        (bundle_entry(UINT8, [16], size=-16), "-16 bytes long"),
        (bundle_entry(FLOAT, [1 << 32, 1 << 32], size=0), "more elements than 64 bits"),
        (bundle_entry(FLOAT, [1 << 31, 1 << 31], size=0), "0 bytes are stored"),
        (bundle_entry(FLOAT, [(1 << 62) + 1], size=4), "4 bytes are stored"),  # wraps to 4
        (bundle_entry(FLOAT, [3], size=8), "8 bytes are stored for a value of 12"),
        (bundle_entry(FLOAT, [-1], size=4), "below zero"),
        (bundle_entry(FLOAT, [-1, -1], size=4), "below zero"),
        (bundle_entry(FLOAT, [1] * 255, size=4), "at most 254 axes"),
        (number(1, 1) + text(2, number(3, 1)) + number(5, 4), "rank is unknown"),
        (bundle_entry(FLOAT, [], size=4, shard=1), "data file 1 of 1"),
        (bundle_entry(FLOAT, [], size=4, shard=-1), "data file"),
        (number(2, 1), "text was expected"),
        (text(1, "float"), "number was expected"),
        (b"\x0a", "varint"),
    ],
)
def test_an_entry_with_invalid_numbers_is_refused(tmp_path: Path, entry: bytes, words: str) -> None:
    with pytest.raises(CorruptError, match=words) as caught:
        open_index(tmp_path, table([HEADER, (b"x", entry)]))
    assert (caught.value.path, caught.value.tensor) == (str(tmp_path / "m.index"), "x")


@pytest.mark.parametrize("shards", [(1 << 31) - 1, 1 << 31, 2**64 - 1])
def test_a_header_with_two_billion_shards_allocates_nothing(tmp_path: Path, shards: int) -> None:
    index = table([(b"", bundle_header(shards)), (b"x", ENTRY)])
    with pytest.raises(LstmstateError):
        open_index(tmp_path, index).variables["x"].read()


def test_many_missing_data_files_give_few_notes(tmp_path: Path) -> None:
    entries = [(f"{k:04d}".encode(), bundle_entry(FLOAT, [], size=4, shard=k)) for k in range(1000)]
    checkpoint = open_index(tmp_path, table([(b"", bundle_header((1 << 31) - 1)), *entries]))
    assert len(checkpoint.variables) == 1000
    assert len(checkpoint.notes) < 50


def test_a_header_that_asks_for_a_newer_reader_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="newer than all releases"):
        open_index(tmp_path, table([(b"", bundle_header(min_consumer=2))]))


@pytest.mark.parametrize(
    "stored",
    [
        varint(TOP) + bytes(4),
        varint(2**64 - 1) + varint(3) + bytes(4),
        varint(1) + bytes(4) + b"ab",
        varint(5) + bytes(4) + b"ab",
        varint(2) + b"ab",
        b"\xff" * 11 + bytes(4),
        b"\xff",
    ],
)
def test_strings_with_invalid_lengths_are_refused(tmp_path: Path, stored: bytes) -> None:
    bundle = BundleBuilder()
    bundle.data[0] += stored
    bundle.entry("x", dtype=STRING, shape=[1], size=len(stored), crc=masked(stored))
    path = bundle.write(tmp_path / "m")
    for checksums in (True, False):
        with pytest.raises(CorruptError):
            Checkpoint(path, checksums=checksums).variables["x"].read()


@pytest.mark.parametrize(("dtype", "stored"), [(FLOAT, bytes(4)), (STRING, None)])
@pytest.mark.parametrize("rank", [32, 65, 254])
def test_a_rank_beyond_numpy_is_refused(
    tmp_path: Path, rank: int, dtype: int, stored: bytes | None
) -> None:
    data, crc = (stored, masked(stored)) if stored else string_bytes([b"a"])
    bundle = BundleBuilder()
    bundle.data[0] += data
    bundle.entry("x", dtype=dtype, shape=[1] * rank, size=len(data), crc=crc)
    variable = Checkpoint(bundle.write(tmp_path / "m")).variables["x"]
    assert variable.shape == (1,) * rank
    if rank <= 32:
        assert variable.read().shape == (1,) * rank
    else:
        with pytest.raises(UnsupportedError, match="axes"):
            variable.read()


def test_an_empty_value_with_a_huge_shape_is_refused(tmp_path: Path) -> None:
    bundle = BundleBuilder()
    shape = [0, 1 << 62, 1 << 62]
    bundle.entry("x", dtype=FLOAT, shape=shape, crc=masked(b""))
    variable = Checkpoint(bundle.write(tmp_path / "m")).variables["x"]
    assert (variable.shape, variable.size) == (tuple(shape), 0)
    with pytest.raises(CorruptError) as caught:
        variable.read()
    assert caught.value.tensor == "x"


@pytest.mark.parametrize(
    ("limit", "value", "error"),
    [("MAX_INDEX_BYTES", 64, UnsupportedError),
     ("MAX_NAME_BYTES", 3, CorruptError), ("MAX_SLICES", 1, CorruptError)],
)  # fmt: skip
def test_every_limit_is_enforced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, error: type[Exception]
) -> None:
    bundle = BundleBuilder()
    bundle.add("long name", np.array([1]))
    bundle.add_slices("x", np.arange(4), [[(0, 2)], [(2, 2)]])
    path = bundle.write(tmp_path / "m")
    Checkpoint(path)
    monkeypatch.setattr(limits, limit, value)
    with pytest.raises(error):
        Checkpoint(path)


# ---- slices

SELF = bundle_entry(UINT8, [8], crc=masked(b""), slices=[[(0, 8)]])  # a slice divided into itself


def sliced(total: int, cuts: list[Extents], parts: dict[int, bytes]) -> BundleBuilder:
    """A bundle of uint8 slices; `parts` are entries that replace those for the cuts."""
    bundle = BundleBuilder()
    bundle.data[0] += bytes(64)
    bundle.entries[b"x"] = bundle_entry(UINT8, [total], slices=cuts)
    offset = 0
    for place, cut in enumerate(cuts):
        size = cut[0][1]
        crc = masked(bytes(size)) if size <= 64 else 0
        plain = bundle_entry(UINT8, [size], offset=offset, size=size, crc=crc)
        bundle.entries[slice_key("x", cut)] = parts.get(place, plain)
        offset += size
    return bundle


@pytest.mark.parametrize(
    ("total", "cuts", "parts", "words"),
    [
        (8, [[(0, 5)], [(3, 5)]], {}, "hold 10 elements of 8"),
        (8, [[(0, 4)], [(2, 4)]], {}, "overlap"),
        (8, [[(0, 3)], [(4, 4)]], {}, "hold 7 elements of 8"),
        (9, [[(0, 3)], [(0, 3)], [(6, 3)]], {}, "overlap|share|twice"),
        (8, [[(0, 4)], [(5, 4)]], {}, "reaches from 5 to 9 of 8"),
        (8, [[(0, 4)], [(1 << 47, 4)]], {}, "reaches from"),
        (8, [[(0, 4)], [(-4, 4)]], {}, "reaches from -4"),
        (8, [[(0, 8), (0, 1)]], {}, "a slice has 2 axes"),
        (8, [[(0, 8)]], {0: bundle_entry(UINT8, [7], size=7)}, "does not fit"),
        (8, [[(0, 8)]], {0: bundle_entry(FLOAT, [8], size=32)}, "does not fit"),
        (8, [[(0, 8)]], {0: SELF}, "bytes|slice"),
    ],
)
def test_slices_that_do_not_cover_the_tensor_are_refused(
    tmp_path: Path, total: int, cuts: list[Extents], parts: dict[int, bytes], words: str
) -> None:
    with pytest.raises(CorruptError, match=words) as caught:
        read(sliced(total, cuts, parts).write(tmp_path / "m"))
    assert caught.value.tensor == "x"


def test_a_missing_slice_is_refused(tmp_path: Path) -> None:
    bundle = sliced(8, [[(0, 4)], [(4, 4)]], {})
    del bundle.entries[slice_key("x", [(4, 4)])]
    with pytest.raises(CorruptError, match="a slice of it is missing"):
        Checkpoint(bundle.write(tmp_path / "m"))


def test_a_slice_larger_than_the_data_file_takes_no_memory(tmp_path: Path) -> None:
    path = sliced(BIG, [[(0, 1)], [(1, BIG - 1)]], {}).write(tmp_path / "m")
    with pytest.raises(CorruptError, match=r"cut short|bytes|cannot lie"):
        read(path)


def test_slices_that_share_bytes_allocate_no_more_than_the_file(tmp_path: Path) -> None:
    size, count = 1 << 17, 300
    crc = masked(bytes(size))
    bundle = sliced(size * count, cuts := [[(k * size, size)] for k in range(count)], {})
    for cut in cuts:
        entry = bundle_entry(UINT8, [size], size=size, crc=crc)
        bundle.entries[slice_key("x", cut)] = entry
    bundle.data[0] += bytes(size)
    with pytest.raises(LstmstateError):
        read(bundle.write(tmp_path / "m"))


@pytest.mark.parametrize(
    ("total", "cuts", "words"),
    [
        (8, [[(0, 5)], [(3, 5)]], "hold 10 elements of 8"),
        (8, [[(0, 4)], [(2, 4)]], "overlap"),
        (8, [[(0, 4)], [(5, 4)]], "reaches from 5 to 9 of 8"),
        (8, [], "cut into 0 slices"),
        (BIG, [[(0, 1)], [(1, BIG - 1)]], "stored for|cannot lie"),
    ],
)
def test_v1_slices_that_do_not_cover_the_tensor_are_refused(
    tmp_path: Path, total: int, cuts: list[Extents], words: str
) -> None:
    builder = V1Builder()
    builder.list("x", UINT8, [total], cuts)
    for cut in cuts:
        builder.values("x", cut, tensor_values(np.zeros(min(cut[0][1], 64), np.uint8)))
    with pytest.raises(CorruptError, match=words) as caught:
        read(builder.write(tmp_path / "v1"))
    assert caught.value.tensor == "x"


def test_v1_slices_allocate_no_more_than_they_contain(tmp_path: Path) -> None:
    builder = V1Builder()
    builder.list("room", UINT8, [1 << 20])
    builder.values("room", [(0, -1)], text(7, bytes(1 << 20)))
    total = 1 << 27
    builder.list("x", UINT8, [total], [[(0, 1)], [(1, total - 1)]])
    builder.values("x", [(0, 1)], tensor_values(np.zeros(1, np.uint8)))
    with pytest.raises(CorruptError):
        read(builder.write(tmp_path / "v1"))


def test_a_variable_listed_many_times_is_bounded_in_slices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_SLICES", 4)
    builder = V1Builder()
    for position in range(5):
        builder.list("x", UINT8, [5], [[(position, 1)]])
    with pytest.raises(CorruptError, match="slices") as caught:
        Checkpoint(builder.write(tmp_path / "v1"))
    assert caught.value.tensor == "x"


# ---- object graphs


@pytest.mark.parametrize(
    "value",
    [
        np.array([b"", b""], object),
        np.zeros(0, np.float32),
        np.array(1.5),
        np.array([1, 2]),
        np.array(text(1, b"")[:-1] + b"\xff", object),
        np.array(text(1, text(2, text(2, "full name") + number(3, 1))), object),
    ],
    ids=["two strings", "nothing", "number", "numbers", "cut", "number for text"],
)
def test_an_invalid_object_graph_is_reported_in_a_note(tmp_path: Path, value: np.ndarray) -> None:
    bundle = BundleBuilder()
    bundle.add("_CHECKPOINTABLE_OBJECT_GRAPH", value)
    bundle.add("x", np.array([1]))
    checkpoint = Checkpoint(bundle.write(tmp_path / "m"))
    assert checkpoint.variables["x"].read().tolist() == [1]
    assert any("the names of objects in the graph are not known" in n for n in checkpoint.notes)
