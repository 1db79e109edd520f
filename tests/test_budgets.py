"""Files that declare, repeat or pack more work than their bytes are worth."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import cramjam
import h5py
import numpy as np
import pytest
from builders import (
    FLOAT,
    STRING,
    BundleBuilder,
    V1Builder,
    block,
    bundle_entry,
    bundle_header,
    node,
    number,
    sealed,
    split,
    string_bytes,
    table,
    tensor_values,
    text,
)
from commands import Shell, checkpoint, error, lstm_cell
from work import few_lines, little_memory

import lstmstate
from lstmstate import limits, load_state, open_checkpoint
from lstmstate.cells.detect import Recognition
from lstmstate.checkpoint import Checkpoint, object_graph
from lstmstate.checkpoint import protobuf as wire
from lstmstate.checkpoint.graph import Graph
from lstmstate.checkpoint.sstable import Table
from lstmstate.errors import LstmstateError, UnsupportedError
from lstmstate.files.reader import ByteSource

HEADER = (b"", bundle_header())


def snappy(content: bytes) -> bytes:
    return bytes(cramjam.snappy.compress_raw(content))


@pytest.fixture
def low_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let small files be enough to go beyond the rates."""
    for name in ("FIELDS", "NODES"):
        rate = getattr(limits, name)
        smaller = limits.Rate(rate.unit, rate.most // 20, rate.for_bytes)
        monkeypatch.setattr(limits, name, smaller)


# ---- names of files


@pytest.mark.parametrize("count", ["60000000", "9" * 26])
def test_a_number_of_shards_in_a_name_makes_no_list(
    tmp_path: Path, shell: Shell, count: str
) -> None:
    (tmp_path / f"m-00000-of-{count}").touch()
    with little_memory(2):
        done = shell("inspect", tmp_path / "m")
    assert done.code == 3
    assert "there is no checkpoint or file of this name" in error(done)


# ---- tables and messages


@pytest.mark.usefixtures("low_rates")
def test_a_message_of_many_fields_is_refused_before_they_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "m.index"
    path.write_bytes(table([HEADER, (b"w", b"\x08\x01" * 100_000)], pack=snappy))
    with little_memory(2), pytest.raises(UnsupportedError, match=r"w: .*protobuf fields in"):
        Checkpoint(str(tmp_path / "m"))


@pytest.mark.usefixtures("low_rates")
def test_a_list_of_v1_of_many_variables_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(table([(b"", text(1, b"\x0a\x00" * 100_000))], pack=snappy))
    with little_memory(3), pytest.raises(UnsupportedError, match="protobuf fields in"):
        Checkpoint(str(tmp_path / "m"))


def test_numbers_of_fields_are_few(tmp_path: Path) -> None:
    data = b"".join(number(field, 1) for field in range(1, 50_000))
    with little_memory(2), pytest.raises(LstmstateError, match="over 1000 numbers"):
        wire.message(data)


def test_an_index_of_more_variables_than_its_bytes_are_worth_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ENTRIES", limits.Rate("variables", 1000, 24))
    tiny = number(1, FLOAT) + number(5, 4)
    entries = [(b"%05x" % place, tiny) for place in range(20_000)]
    (tmp_path / "m.index").write_bytes(table([HEADER, *entries]))
    with pytest.raises(
        UnsupportedError, match=r"at most [\d,]+ variables in [\d,]+ bytes, got more"
    ):
        Checkpoint(str(tmp_path / "m"))


def test_variables_as_tensorflow_writes_them_are_within_the_rate() -> None:
    """The smallest entries are those of scalars, one behind the other, with short names."""
    entries = [
        (b"%07d" % place, bundle_entry(FLOAT, [], offset=4 * place, size=4, crc=1 << 31))
        for place in range(995_000, 1_000_000)
    ]
    assert len(block(entries)) / len(entries) > limits.ENTRIES.for_bytes


def test_a_list_of_v1_of_more_variables_than_its_bytes_are_worth_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LISTED", limits.Rate("variables", 100, limits.LISTED.for_bytes))
    builder = V1Builder()
    for place in range(1000):
        builder.list(f"v{place:04d}", FLOAT, [])
    with pytest.raises(UnsupportedError, match=r"at most [\d,]+ variables in [\d,]+ bytes"):
        Checkpoint(builder.write(tmp_path / "m"))
    for place in range(1000):  # the smallest values there are
        builder.values(f"v{place:04d}", [], tensor_values(np.float32([0])))
    assert len(Checkpoint(builder.write(tmp_path / "m")).variables) == 1000


def test_a_variable_takes_little_memory(tmp_path: Path) -> None:
    """A few hundred bytes of memory: an index of 20 MB can have 700,000."""
    entries = [
        (b"layer_%06d/w" % place, bundle_entry(FLOAT, [20, 5], offset=400 * place, size=400, crc=1))
        for place in range(20_000)
    ]
    (tmp_path / "m.index").write_bytes(table(*split([HEADER, *entries], 1 << 18)))
    with little_memory(20_000 * 420 / (1 << 20)):
        variables = open_checkpoint(tmp_path / "m").variables
    assert len(variables) == 20_000


def test_an_index_of_blocks_alone_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ENTRIES", limits.Rate("variables", 1000))
    first = sealed(block([HEADER]))
    index = sealed(block([(b"%05x" % place, b"\0\0") for place in range(5000)], 1))
    handles = wire.encode_varint(len(first)) + wire.encode_varint(len(index) - 5)
    footer = (b"\0\0" + handles).ljust(40, b"\0") + bytes.fromhex("57fb808b247547db")
    (tmp_path / "t").write_bytes(first + index + footer)
    with pytest.raises(UnsupportedError, match="at most 1,000 variables"):
        Table(ByteSource(str(tmp_path / "t")))


def test_snappy_unpacks_no_more_than_the_file_is_worth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "UNSNAPPED", limits.Rate("bytes packed by Snappy", 100_000, 1))
    builder = V1Builder()
    for place in range(10):
        builder.add(f"v{place}", np.zeros(10_000, np.float32))
    path = builder.write(tmp_path / "m", block_size=1000, pack=snappy)
    variables = Checkpoint(path).variables
    with pytest.raises(UnsupportedError, match="at most 1.* bytes packed by Snappy"):
        [variable.read() for variable in variables.values()]
    read = Checkpoint(path).variables["v0"]
    assert not any(read.read().any() for _ in range(20))  # the same block is paid for once


def test_values_in_one_large_block_are_not_parsed_for_each(tmp_path: Path) -> None:
    builder = V1Builder()
    for place in range(1000):
        builder.add(f"v{place:04d}", np.full(300, place, np.float32))
    path = builder.write(tmp_path / "m", block_size=1 << 30)
    variables = Checkpoint(path).variables
    with few_lines(500_000):
        assert [v.read()[0] for v in variables.values()] == [*range(1000)]


@pytest.mark.parametrize("field", [2, 7], ids=["axes", "slices"])
def test_axes_and_slices_are_counted_before_they_are_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: int
) -> None:
    many = text(2, number(1, 1)) if field == 2 else text(1, number(2, 1))
    monkeypatch.setattr(limits, "MAX_SLICES", 100)
    inner = text(field, many * 20_000) if field == 2 else text(field, many) * 5_000
    entry = number(1, FLOAT) + inner + number(5, 4)
    (tmp_path / "m.index").write_bytes(table([HEADER, (b"w", entry)]))
    with few_lines(150_000), pytest.raises(LstmstateError):
        Checkpoint(str(tmp_path / "m"))


def test_a_checkpoint_of_more_cells_than_any_model_has_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CELLS", limits.Rate("cells", 2))
    values = {}
    for place in range(3):
        values |= lstm_cell(f"rnn{place}/basic_lstm_cell", 2, 3)
    begun = []
    of_names = Recognition._by_family
    monkeypatch.setattr(Recognition, "_by_family", lambda one: (begun.append(one), of_names(one)))
    with pytest.raises(UnsupportedError, match="at most 2 cells"):
        open_checkpoint(checkpoint(tmp_path / "m", values)).notes  # noqa: B018 - it is read
    assert len(begun) == 1


def test_the_lines_for_each_variable_are_few(tmp_path: Path, shell: Shell) -> None:
    counts = []
    for many in (200, 400):
        builder = BundleBuilder()
        for place in range(many):
            builder.entry(f"layer_{place}/w", dtype=FLOAT, shape=[20, 5], size=400)
        path = builder.write(tmp_path / f"m{many}")
        with few_lines() as lines:
            assert shell("inspect", path).code == 0
        counts.append(lines.count)
    assert (counts[1] - counts[0]) / 200 < 100


def test_the_lines_for_each_variable_of_v1_are_few(tmp_path: Path, shell: Shell) -> None:
    counts = []
    for many in (200, 400):
        builder = V1Builder()
        for place in range(many):
            builder.list(f"layer_{place}/w", FLOAT, [20, 5])
        path = builder.write(tmp_path / f"m{many}")
        with few_lines() as lines:
            assert shell("inspect", path).code == 0
        counts.append(lines.count)
    assert (counts[1] - counts[0]) / 200 < 100


def test_the_lines_for_each_dense_layer_are_few(tmp_path: Path, shell: Shell) -> None:
    counts = []
    for many in (100, 200):
        builder = BundleBuilder()
        for place in range(many):
            builder.entry(f"layer_{place}/dense/kernel", dtype=FLOAT, shape=[5, 8], size=160)
            builder.entry(f"layer_{place}/dense/bias", dtype=FLOAT, shape=[8], size=32)
        path = builder.write(tmp_path / f"m{many}")
        with few_lines() as lines:
            assert shell("inspect", path).code == 0
        counts.append(lines.count)
    assert (counts[1] - counts[0]) / 100 < 450


def test_the_lines_for_each_cell_are_few(tmp_path: Path, shell: Shell) -> None:
    counts = []
    for many in (50, 100):
        values = {}
        for place in range(many):
            values |= lstm_cell(f"layer_{place}/basic_lstm_cell", 2, 3)
        path = checkpoint(tmp_path / f"m{many}", values)
        with few_lines() as lines:
            assert shell("inspect", path).code == 0
        counts.append(lines.count)
    assert (counts[1] - counts[0]) / 50 < 2400


# ---- graphs


@pytest.mark.usefixtures("low_rates")
@pytest.mark.parametrize(
    "graph",
    [
        text(2, b"\x38\x01" * 100_000),
        b"\x7a\x00" * 1_000_000,
        text(2, text(1, text(1, "a") + text(2, "NoOp") + text(3, "a") * 70_000)),
        text(2, text(1, text(1, "a") + text(2, "Const") + text(5, b"") * 100_000)),
        text(2, node("a", "NoOp"))
        + text(4, text(1, "trainable_variables") + text(2, text(2, text(1, b"") * 100_000))),
    ],
    ids=["unknown", "outer", "inputs", "attributes", "collection"],
)
def test_a_graph_of_more_fields_than_its_bytes_are_worth_is_refused(graph: bytes) -> None:
    with little_memory(6), pytest.raises(UnsupportedError, match="protobuf fields in"):
        Graph(graph)


@pytest.mark.usefixtures("low_rates")
def test_a_graph_of_more_nodes_than_its_bytes_are_worth_is_refused() -> None:
    nodes = b"".join(text(1, text(1, f"{place:x}") + text(2, "a")) for place in range(20_000))
    with little_memory(12), pytest.raises(UnsupportedError, match="nodes of a graph in"):
        Graph(text(2, nodes))


def object_based(path: Path, graph: bytes | None, size: int = 0) -> Checkpoint:
    """A checkpoint whose object graph has these bytes, or zeros of a size."""
    builder = BundleBuilder()
    stored, crc = string_bytes([graph or b""])
    size = len(stored) if graph is not None else size
    key = object_graph.OBJECT_GRAPH_KEY
    builder.entry(key, dtype=STRING, shape=[], size=size, crc=crc)
    builder.data[0] += stored
    return Checkpoint(builder.write(path))


def test_an_object_graph_larger_than_any_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "m.data-00000-of-00001").touch()
    builder = BundleBuilder()
    key = object_graph.OBJECT_GRAPH_KEY
    builder.entry(key, dtype=STRING, shape=[], size=1 << 31)
    path = builder.write(tmp_path / "m")
    with (tmp_path / "m.data-00000-of-00001").open("wb") as file:
        file.truncate(1 << 31)
    with little_memory(2):
        notes = Checkpoint(path).notes
    assert any("too large to be one" in note for note in notes)


@pytest.mark.parametrize("graph", [text(1, b"") * 400_000, text(1, text(2, b"") * 400_000)])
def test_an_object_graph_of_more_objects_than_it_is_worth_is_not_read(
    tmp_path: Path, graph: bytes
) -> None:
    notes = object_based(tmp_path / "m", graph).notes
    assert any(re.search("expected at most .* in .* bytes, got more", note) for note in notes)


# ---- states


def npz_member(path: Path, name: str, descr: str, shape: tuple[int, ...], data: bytes) -> None:
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    start = b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{name}.npy", start + data)


def test_metadata_of_an_npz_is_short(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    size = 12 << 20
    npz_member(path, "lstmstate", f"<U{size // 4}", (), b" \0\0\0" * (size // 4))
    with (
        little_memory(3),
        pytest.raises(UnsupportedError, match=r"metadata of at most [\d,]+ bytes"),
    ):
        load_state(path)


def test_a_row_that_is_packed_far_too_well_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    size = 66 << 20
    noise = np.random.default_rng(0).bytes(1 << 20)
    npz_member(path, "s", "<f4", (1, size // 4), noise + bytes(size - len(noise)))
    with little_memory(2), pytest.raises(UnsupportedError, match="at a time, and .* are stored"):
        load_state(path)


@pytest.mark.parametrize("shape", [(1, 17 << 20), (17 << 20,)], ids=["a row", "a vector"])
def test_a_part_of_hdf5_that_is_packed_far_too_well_is_refused(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        chunk = (*shape[:-1], 1 << 18)
        array = file.create_dataset("s", shape, "f4", chunks=chunk, compression="gzip")
        array[..., : 1 << 18] = np.random.default_rng(0).random(1 << 18, np.float32)
    with little_memory(2), pytest.raises(UnsupportedError, match="at a time, and .* are stored"):
        load_state(path)


def test_an_array_that_is_packed_far_too_well_is_not_read_whole(tmp_path: Path) -> None:
    """The batch of layers is the third axis, and an archive is read from its start."""
    path = tmp_path / "a.npz"
    np.savez_compressed(path, s=np.zeros((3, 2, 10 << 10, 512), np.float32))
    with little_memory(2), pytest.raises(UnsupportedError, match="at a time, and .* are stored"):
        load_state(path, layout="layered")


@pytest.mark.parametrize("name", ["b.npz", "b.h5"])
def test_a_large_state_of_zeros_is_read_again_after_it_was_compressed(
    tmp_path: Path, name: str
) -> None:
    zeros = np.zeros((17 << 10, 512), np.float32)
    np.savez(tmp_path / "a.npz", c=zeros, m=zeros)
    lstmstate.convert(tmp_path / "a.npz", tmp_path / name, layout="flat", compress=True)
    assert (tmp_path / name).stat().st_size < 1 << 20
    state = load_state(tmp_path / name)
    assert state.batch_shape == (17 << 10,)
    assert not state.c.any()


@pytest.mark.filterwarnings("ignore:.*the widths of this flat state are unknown:UserWarning")
def test_rows_that_are_packed_well_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    size = 66 << 20
    noise = np.random.default_rng(0).bytes(1 << 20)
    npz_member(path, "s", "<f4", (1 << 10, size >> 12), noise + bytes(size - len(noise)))
    assert load_state(path, layout="flat").batch_shape == (1 << 10,)


@pytest.mark.parametrize("count", [4, 5])
@pytest.mark.parametrize("name", ["a.npz", "a.h5"])
def test_all_arrays_of_a_file_are_counted_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, count: int
) -> None:
    """Each is small, and all may be the same stored bytes over and over."""
    monkeypatch.setattr(limits, "ARRAYS", limits.Rate("KiB of arrays", 4100))
    arrays = {f"x{place}": np.zeros((2, 1 << 17), "f4") for place in range(count)}
    if name == "a.npz":
        np.savez_compressed(tmp_path / name, **arrays)  # type: ignore[arg-type]
    else:
        with h5py.File(tmp_path / name, "w") as file:
            for key, array in arrays.items():
                file.create_dataset(key, data=array, chunks=(2, 1 << 15), compression="gzip")
    problem = "at most 4,100 KiB of arrays" if count == 5 else "got 4 arrays of other names"
    with pytest.raises(LstmstateError, match=problem):
        load_state(tmp_path / name)


@pytest.mark.parametrize("how", [{}, {"chunks": (2, 1024)}], ids=["whole", "chunks"])
def test_an_hdf5_dataset_that_stores_nothing_is_not_read(
    tmp_path: Path, how: dict[str, object]
) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("s", (2, 40_000_000), "f4", **how)
    with little_memory(8), pytest.raises(UnsupportedError, match="at a time, and 0 are stored"):
        load_state(tmp_path / "a.h5")


def test_links_of_hdf5_are_counted_also_if_they_are_soft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LINKS", limits.Rate("links", 10))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for place in range(11):
            file[f"{place}"] = h5py.SoftLink("/a")
    with pytest.raises(UnsupportedError, match="at most 10 links"):
        load_state(tmp_path / "a.h5")


def test_datasets_are_not_kept_open(tmp_path: Path, shell: Shell) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for place in range(50):
            file[f"{place}"] = [1.0]
    from lstmstate.state.formats.hdf5_reader import open_file

    kept = open_file(ByteSource(str(tmp_path / "a.h5")))
    assert len(kept.arrays) == 50
    assert h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_DATASET) == 0


def test_headers_of_many_members_are_parsed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from numpy.lib import format as npy

    parsed = []
    plain = npy.read_array_header_1_0
    monkeypatch.setattr(npy, "read_array_header_1_0", lambda file: parsed.append(1) or plain(file))
    np.savez(tmp_path / "a.npz", **{f"x{place}": np.ones((3, 11)) for place in range(20)})
    with pytest.raises(LstmstateError):
        load_state(tmp_path / "a.npz")
    assert len(parsed) == 1


@pytest.mark.parametrize(
    "table_text",
    [",,,,\n", "c.0,c.1,c.2,c.3,c.4\n", "1,1,1,1,1\n", "1,1\n1,1,1,1,1\n", "a\tb\tc\td\te\n",
     "1 1 1 1 1\n"],
)  # fmt: skip
def test_a_line_of_a_table_has_a_bounded_number_of_fields(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table_text: str
) -> None:
    monkeypatch.setattr(limits, "MAX_COLUMNS", 4)
    (tmp_path / "a.csv").write_text(table_text)
    with pytest.raises(UnsupportedError, match="at most 4 columns"):
        load_state(tmp_path / "a.csv")


def test_a_table_has_a_bounded_number_of_comments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "COMMENTS", limits.Rate("lines of comments", 3))
    path = tmp_path / "a.csv"
    path.write_text("# one\n# two\n# three\nc.0,m.0\n1,2\n3,4\n")
    assert load_state(path).cells[0].c.shape == (2, 1)
    path.write_text("# one\n# two\n#\n# four\nc.0,m.0\n1,2\n")
    with pytest.raises(UnsupportedError, match="at most 3 lines of comments"):
        load_state(path)
