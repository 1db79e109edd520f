"""Cost of inputs that are made to be slow: processor time, peak memory and exit code of each.

    python benchmarks/hostile_inputs.py            # all of them: about 10 minutes
    python benchmarks/hostile_inputs.py npz h5     # those whose names begin so
    python benchmarks/hostile_inputs.py --list

Inputs are made in a temporary folder, none larger than some 20 MB. They are well formed as far as
their libraries read them, and declare or repeat more than any real file does; nothing in them is
meant for other software. The last ones, `legal …`, are large and have to be read.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

MB = 1_000_000
LIMIT_SECONDS, LIMIT_BYTES = 120, 6 << 30  # beyond them a command is ended
GOAL_SECONDS, GOAL_MIB = 5, 300

Make = Callable[[Path], object]
MAKERS: dict[str, tuple[Make, tuple[str, ...]]] = {}  # name: how it is made, and commands


NPZ, H5 = (
    (
        f"inspect {{}}/s.{kind}",
        f"convert --to-flat {{0}}/s.{kind} -o {{0}}/out.npz",
        f"check --finite {{}}/s.{kind}",
    )
    for kind in ("npz", "h5")
)


class Cost(NamedTuple):
    """The cost of one command."""

    seconds: float
    mib: float
    exit_code: int
    error: str


def hostile(name: str, *commands: str) -> Callable[[Make], Make]:
    """Register the maker of an input and the commands that read it: {} is its folder."""

    def register(make: Make) -> Make:
        MAKERS[name] = make, commands
        return make

    return register


# ---- bytes of the formats


def varint(value: int) -> bytes:
    """A number in groups of seven bits."""
    groups = [value >> shift & 0x7F for shift in range(0, max(value.bit_length(), 1), 7)]
    return bytes([*(group | 0x80 for group in groups[:-1]), groups[-1]])


def number(field: int, value: int) -> bytes:
    """An integer field."""
    return varint(field << 3) + varint(value)


def text(field: int, value: bytes) -> bytes:
    """A string, bytes or message field."""
    return varint(field << 3 | 2) + varint(len(value)) + value


def table(entries: list[tuple[bytes, bytes]], *, snappy: bool = False) -> bytes:
    """A sorted table in blocks as TensorFlow makes them, or in one that Snappy packs."""
    from lstmstate.checkpoint.sstable_writer import write_table

    if not snappy:
        return b"".join(write_table(iter(entries)))
    import struct

    import cramjam

    from lstmstate.checkpoint.sstable import MAGIC, masked_crc

    def block(entries: list[tuple[bytes, bytes]], kind: int) -> bytes:
        content = b"".join(
            varint(0) + varint(len(key)) + varint(len(value)) + key + value
            for key, value in entries
        ) + struct.pack("<2I", 0, 1)
        content = bytes(cramjam.snappy.compress_raw(content)) if kind else content
        return content + bytes([kind]) + struct.pack("<I", masked_crc(content + bytes([kind])))

    data, empty = block(entries, 1), block([], 0)
    index = block([(entries[-1][0], varint(0) + varint(len(data) - 5))], 0)
    places = [(len(data), len(empty) - 5), (len(data) + len(empty), len(index) - 5)]
    footer = b"".join(varint(at) + varint(size) for at, size in places)
    return data + empty + index + footer.ljust(40, b"\0") + MAGIC


HEADER = number(1, 1) + text(3, number(1, 1))


def entry(shape: tuple[int, ...], offset: int = 0, *, tail: bytes = b"") -> bytes:
    """The entry of a float32 variable."""
    count = 4
    for size in shape:
        count *= size
    sizes = b"".join(text(2, number(1, size)) for size in shape)
    return number(1, 1) + text(2, sizes) + number(4, offset) + number(5, count) + tail


def bundle(prefix: Path, entries: list[tuple[bytes, bytes]], data_bytes: int = 0) -> None:
    """Write an index, and a data file of zeros that takes no room."""
    Path(f"{prefix}.index").write_bytes(table([(b"", HEADER), *entries]))
    with Path(f"{prefix}.data-00000-of-00001").open("wb") as file:
        file.truncate(data_bytes)


def cells(count: int, scope: str = "layer_%06d/basic_lstm_cell") -> list[tuple[bytes, bytes]]:
    """The entries of some cells of two units, in the order of their names."""
    found = []
    for place in range(count):
        name = (scope % place).encode()
        found += [(name + b"/bias", zeros((8,))), (name + b"/kernel", zeros((5, 8)))]
    return found


def zeros(shape: tuple[int, int] | tuple[int], offset: int = 0) -> bytes:
    """The entry of a float32 variable of zeros."""
    from lstmstate.checkpoint.sstable import masked_crc

    crc = masked_crc(bytes(4 * shape[0] * (shape[1] if len(shape) > 1 else 1)))
    return entry(shape, offset, tail=b"\x35" + crc.to_bytes(4, "little"))


def checkpoint_with_graph(folder: Path, graph: bytes) -> None:
    """Write a checkpoint of one cell with a graph."""
    bundle(folder / "m", cells(1), 160)
    (folder / "m.meta").write_bytes(graph)


# ---- names and tables


@hostile("shards in a name", "inspect {}/m", "inspect {}")
def shards_in_a_name(folder: Path) -> None:
    (folder / "m-00000-of-60000000").touch()


@hostile("huge number of shards in a name", "inspect {}/m")
def huge_shards_in_a_name(folder: Path) -> None:
    (folder / "m-00000-of-99999999999999999999999999").touch()


@hostile("snappy index, 8e6 fields", "inspect {}/m", "check --units 2 {}/m", "diff {0}/m {0}/m")
def snappy_index(folder: Path) -> None:
    (folder / "m.index").write_bytes(
        table([(b"", HEADER), (b"w", entry((2,), tail=b"\x08\x01" * (8 * MB)))], snappy=True)
    )


@hostile("snappy index, 2e6 entries", "inspect {}/m")
def snappy_index_of_entries(folder: Path) -> None:
    entries = [(b"", HEADER)]
    entries += [(b"%07d" % place, b"\x08\x01" * 20 + number(5, 4)) for place in range(2_000_000)]
    (folder / "m.index").write_bytes(table(entries, snappy=True))


@hostile("snappy v1, 8e6 variables", "inspect {}/m")
def snappy_v1(folder: Path) -> None:
    (folder / "m").write_bytes(table([(b"", text(1, b"\x0a\x00" * (8 * MB)))], snappy=True))


@hostile("v1 of 20 MB, variables of 14 bytes", "inspect {}/m")
def v1_of_variables(folder: Path) -> None:
    listed = b"".join(
        text(1, text(1, b"%06x" % place) + number(3, 1) + text(4, b""))
        for place in range(1_250_000)
    )
    (folder / "m").write_bytes(table([(b"", text(1, listed))]))


@hostile("index, an entry of 10e6 fields", "inspect {}/m", "convert {}/m -o {}/out.npz")
def index_of_fields(folder: Path) -> None:
    bundle(folder / "m", [(b"w", entry((2,), tail=b"\x08\x01" * (10 * MB)))], 8)


@hostile("index, smallest entries", "inspect {}/m", "inspect --json {}/m", "check --units 2 {}/m")
def index_of_small_entries(folder: Path) -> None:
    smallest = number(1, 1) + number(5, 4)
    bundle(folder / "m", [(b"%07d" % place, smallest) for place in range(2_000_000)], 8)


@hostile("index, 2e6 slices", "inspect {}/m")
def index_of_slices(folder: Path) -> None:
    extents = text(7, text(1, number(1, 0) + number(2, 1))) * 2_000_000
    bundle(folder / "m", [(b"w", number(1, 1) + text(2, text(2, number(1, 9))) + extents)], 8)


@hostile("index, shape of many axes", "inspect {}/m")
def index_of_axes(folder: Path) -> None:
    shape = text(2, (text(2, number(1, 1)) * 5_000_000)[: 20 * MB])
    bundle(folder / "m", [(b"w", number(1, 1) + shape + number(5, 4))], 8)


@hostile("index, 60,000 cells", "inspect {}/m", "inspect --json {}/m", "check --units 2 {}/m")
def index_of_cells(folder: Path) -> None:
    bundle(folder / "m", cells(60_000), 160)


@hostile("index, 400,000 cells", "inspect {}/m", "diff {0}/m {0}/m")
def index_of_many_cells(folder: Path) -> None:
    bundle(folder / "m", cells(400_000), 160)


@hostile("index, cells in deep scopes", "inspect {}/m")
def index_of_deep_scopes(folder: Path) -> None:
    scopes = [(f"{'a/' * 31_000}{place:03d}/lstm_cell") for place in range(300)]
    entries = []
    for scope in scopes:
        entries += [(f"{scope}/bias".encode(), entry((8,)))]
        entries += [(f"{scope}/kernel".encode(), entry((5, 8)))]
    bundle(folder / "m", entries, 160)


@hostile("index, long names", "inspect {}/m", "inspect --json {}/m")
def index_of_long_names(folder: Path) -> None:
    bundle(
        folder / "m", [(b"%04d" % place + b"x" * 60_000, entry((2,))) for place in range(330)], 8
    )


# ---- graphs


@hostile("meta, 20 MB of empty nodes", "inspect {}/m")
def meta_of_empty_nodes(folder: Path) -> None:
    checkpoint_with_graph(folder, text(2, b"\x0a\x00" * (10 * MB)))


@hostile("meta, 20 MB of unknown fields", "inspect {}/m")
def meta_of_unknown_fields(folder: Path) -> None:
    checkpoint_with_graph(folder, text(2, b"\x38\x01" * (10 * MB)))


@hostile("meta, unknown fields outside", "inspect {}/m")
def meta_of_outer_fields(folder: Path) -> None:
    checkpoint_with_graph(folder, b"\x7a\x00" * (10 * MB))


@hostile("meta, 10^6 small nodes", "inspect {}/m")
def meta_of_small_nodes(folder: Path) -> None:
    nodes = b"".join(text(1, text(1, b"%06x" % n) + text(2, b"NoOp")) for n in range(1_250_000))
    checkpoint_with_graph(folder, text(2, nodes))


@hostile("meta, 20 MB of field numbers", "inspect {}/m")
def meta_of_field_numbers(folder: Path) -> None:
    kinds = b"".join(varint(n << 3) + b"\0" for n in range(2048, 4_000_000))
    checkpoint_with_graph(folder, text(1, kinds) + text(2, b""))


@hostile("meta, inputs of one node", "inspect {}/m")
def meta_of_inputs(folder: Path) -> None:
    one = text(1, b"a") + text(2, b"NoOp") + text(3, b"a") * 6_600_000
    checkpoint_with_graph(folder, text(2, text(1, one)))


@hostile("meta, attributes of one node", "inspect {}/m")
def meta_of_attributes(folder: Path) -> None:
    one = text(1, b"a") + text(2, b"Const") + text(5, b"") * (10 * MB)
    checkpoint_with_graph(folder, text(2, text(1, one)))


@hostile("meta, trainable variables", "inspect {}/m")
def meta_of_trainable_variables(folder: Path) -> None:
    listed = text(2, text(2, text(1, b"") * (9 * MB)))
    graph = text(1, text(1, b"a") + text(2, b"NoOp"))
    checkpoint_with_graph(
        folder, text(2, graph) + text(4, text(1, b"trainable_variables") + listed)
    )


@hostile("meta, functions in functions", "inspect {}/m")
def meta_of_functions(folder: Path) -> None:
    def called(name: bytes, place: int) -> bytes:
        attribute = text(5, text(1, b"f") + text(2, text(10, text(1, name))))
        return text(1, b"c%d" % place) + text(2, b"PartitionedCall") + attribute

    library = b""
    for level in range(14):
        body = b"".join(text(3, called(b"f%d" % (level + 1), place)) for place in range(12))
        library += text(1, text(1, text(1, b"f%d" % level)) + body)
    checkpoint_with_graph(folder, text(2, text(1, called(b"f0", 0)) + text(2, library)))


@hostile("object graph, 20 MB of nodes", "inspect {}/m")
def object_graph_of_nodes(folder: Path) -> None:
    object_graph(folder, text(1, b"") * (10 * MB))


@hostile("object graph, attributes", "inspect {}/m")
def object_graph_of_attributes(folder: Path) -> None:
    attributes = b"".join(
        text(2, text(2, b"%06x" % n) + text(3, b"%06x" % n)) for n in range(1_000_000)
    )
    object_graph(folder, text(1, attributes))


@hostile("object graph, sparse file of 6 GB", "inspect {}/m")
def object_graph_in_a_sparse_file(folder: Path) -> None:
    object_graph(folder, None, 6_000_000_000)


def object_graph(folder: Path, graph: bytes | None, size: int = 0) -> None:
    """Write a checkpoint whose object graph is these bytes, or zeros up to a size."""
    from lstmstate.checkpoint.sstable import masked_crc

    size = size if graph is None else len(graph)
    data = varint(size)
    data += masked_crc(size.to_bytes(4 if size < 1 << 32 else 8, "little")).to_bytes(4, "little")
    crc = b"" if graph is None else masked_crc(size.to_bytes(4, "little"), data[-4:], graph)
    tail = number(5, len(data) + size)
    tail += b"" if graph is None else b"\x35" + int(crc).to_bytes(4, "little")
    key = b"_CHECKPOINTABLE_OBJECT_GRAPH"
    bundle(folder / "m", [(key, number(1, 7) + text(2, b"") + tail)], 0)
    with (folder / "m.data-00000-of-00001").open("wb") as file:
        file.write(data + (graph or b""))
        file.truncate(len(data) + size)


@hostile("pbtxt of 20 MB", "inspect {}/m")
def graph_as_text(folder: Path) -> None:
    bundle(folder / "m", cells(1), 160)
    (folder / "graph.pbtxt").write_bytes(b"node { }\n" * 2_200_000 + b"versions { producer: 27 }\n")


@hostile("checkpoint file of 1 MB", "inspect {}")
def state_file(folder: Path) -> None:
    (folder / "checkpoint").write_bytes(b"model_checkpoint_path:" + b" " * 1_000_000)


# ---- states


@hostile("csv, a number a line", "inspect {}/s.csv", "convert --to-flat {0}/s.csv -o {0}/out.npz")
def csv_of_lines(folder: Path) -> None:
    (folder / "s.csv").write_bytes(b"1\n" * (8 << 20))


@hostile("csv, one line of empty fields", "inspect {}/s.csv")
def csv_of_empty_fields(folder: Path) -> None:
    (folder / "s.csv").write_bytes(b"," * ((16 << 20) - 1) + b"\n")


@hostile("csv, one line of names", "inspect {}/s.csv")
def csv_of_names(folder: Path) -> None:
    names = b",".join(b"c.%d" % place for place in range(1_700_000))
    (folder / "s.csv").write_bytes(names + b"\n")


@hostile(
    "csv, one line of numbers", "inspect {}/s.csv", "convert --to-flat {0}/s.csv -o {0}/out.npz"
)
def csv_of_numbers(folder: Path) -> None:
    (folder / "s.csv").write_bytes(b",".join([b"1"] * (8 << 20)))


@hostile("csv, comments", "inspect {}/s.csv")
def csv_of_comments(folder: Path) -> None:
    (folder / "s.csv").write_bytes(b"#\n" * ((8 << 20) - 2) + b"1\n")


@hostile("csv, metadata of 16 MB", "inspect {}/s.csv")
def csv_of_metadata(folder: Path) -> None:
    (folder / "s.csv").write_bytes(b"# lstmstate " + b"[1," * 5_500_000 + b"\n1\n")


def zip_of(path: Path, members: Iterator[tuple[str, bytes]] | list[tuple[str, bytes]]) -> None:
    """Write an archive."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)


def npy(descr: str, shape: tuple[int, ...]) -> bytes:
    """The header of an npy file."""
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header


def huge_member(path: Path, name: str, header: bytes, fill: bytes, size: int) -> None:
    """Write an archive of one member that repeats a few bytes."""
    piece = fill * ((1 << 20) // len(fill))
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open(name, "w", force_zip64=True) as file,
    ):
        file.write(header)
        for _ in range(size >> 20):
            file.write(piece)


@hostile("npz, metadata of 256 MiB", "inspect {}/s.npz")
def npz_of_metadata(folder: Path) -> None:
    size = 256 << 20
    header = npy(f"<U{size // 4}", ())
    huge_member(folder / "s.npz", "lstmstate.npy", header, b" \0\0\0", size)


@hostile("npz, [1, n] just under 4 GiB", *NPZ)
def npz_of_one_row(folder: Path) -> None:
    size = 4095 << 20
    huge_member(folder / "s.npz", "s.npy", npy("<f4", (1, size // 4)), b"\0", size)


@hostile("npz, [2, n] of 400 MB in 0.4", *NPZ)
def npz_of_two_rows(folder: Path) -> None:
    size = 400 << 20
    huge_member(folder / "s.npz", "s.npy", npy("<f4", (2, size // 8)), b"\0", size)


@hostile("npz, 99,000 members", "inspect {}/s.npz")
def npz_of_members(folder: Path) -> None:
    one = npy("<f4", (1, 2)) + bytes(8)
    zip_of(folder / "s.npz", ((f"{place}.npy", one) for place in range(99_000)))


@hostile("npz, 99,000 other members", "inspect {}/s.npz")
def npz_of_other_members(folder: Path) -> None:
    zip_of(folder / "s.npz", [("c.npy", npy("<f4", (1, 2)) + bytes(8)),
                              *((f"{place}", b"") for place in range(99_000))])  # fmt: skip


@hostile("npz, 400,000 members", "inspect {}/s.npz")
def npz_of_too_many(folder: Path) -> None:
    with zipfile.ZipFile(folder / "s.npz", "w") as archive:
        archive.writestr("c.npy", npy("<f4", (1, 2)) + bytes(8))
        info = archive.infolist()[0]
        for place in range(150_000):  # entries of the directory alone
            more = zipfile.ZipInfo(f"{place:x}.npy")
            more.header_offset, more.file_size = info.header_offset, info.file_size
            more.compress_size, more.CRC = info.compress_size, info.CRC
            archive.filelist.append(more)


@hostile("npz, extra fields of 64 kB", "inspect {}/s.npz")
def npz_of_extra_fields(folder: Path) -> None:
    one = npy("<f4", (1, 2)) + bytes(8)
    with zipfile.ZipFile(folder / "s.npz", "w") as archive:
        for place in range(300):
            archive.writestr(f"{place}.npy", one)
            archive.infolist()[-1].extra = b"FB\0\0" * 16_000  # of the directory alone


def torch_file(path: Path, program: bytes) -> None:
    """Write the archive of a pickle and one storage of a single number."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02" + program + b".")
        archive.writestr("a/data/0", bytes(4))


def view(*shape: int) -> bytes:
    """The instructions for a tensor whose elements are all the one number."""
    sizes = b"".join(b"J" + size.to_bytes(4, "little") for size in shape)
    name = b"(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\x000X\3\0\0\0cpuK\1tQ"
    hooks = b"\x89ccollections\nOrderedDict\n)R"
    steps = b"(" + b"K\0" * len(shape) + b"t"
    function = b"ctorch._utils\n_rebuild_tensor_v2\n("
    return function + name + b"K\0(" + sizes + b"t" + steps + hooks + b"tR"


@hostile("pt, views of one number", "inspect {}/s.pt")
def pt_of_views(folder: Path) -> None:
    torch_file(folder / "s.pt", b"(" + view(1 << 11, 1 << 10) * 60_000 + b"t")


@hostile("pt, references to one part", "inspect {}/s.pt")
def pt_of_references(folder: Path) -> None:
    torch_file(folder / "s.pt", view(2, 2) + b"q\0(" + b"h\0" * (9 * MB) + b"t")


@hostile("pt, instructions", "inspect {}/s.pt")
def pt_of_instructions(folder: Path) -> None:
    torch_file(folder / "s.pt", b"N0" * (9 * MB) + b"N")


@hostile("safetensors, header of lists", "inspect {}/s.safetensors")
def safetensors_of_lists(folder: Path) -> None:
    header = b'{"c":[' + b"[]," * 5_000_000 + b"[]]}"
    (folder / "s.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)


@hostile("h5, 4 GB that are not stored", *H5)
def h5_that_declares(folder: Path) -> None:
    import h5py

    with h5py.File(folder / "s.h5", "w") as file:
        file.create_dataset("s", (2, 480_000_000), "f4")


@hostile("h5, chunks that are not stored", "convert --to-flat {0}/s.h5 -o {0}/out.npz",
         "check --finite {}/s.h5")  # fmt: skip
def h5_of_chunks(folder: Path) -> None:
    import h5py

    with h5py.File(folder / "s.h5", "w") as file:
        file.create_dataset("s", (2, 480_000_000), "f4", chunks=(2, 16))


@hostile("h5, 262,000 chunks of one number", "inspect {}/s.h5", "check --finite {}/s.h5")
def h5_of_small_chunks(folder: Path) -> None:
    import h5py

    with h5py.File(folder / "s.h5", "w") as file:
        file.create_dataset("s", (1 << 16, 4), "f4", chunks=(1, 1))


@hostile("h5, [1, n] of 1.6 GB in 19 MB", *H5)
def h5_of_one_row(folder: Path) -> None:
    import h5py
    import numpy as np

    with h5py.File(folder / "s.h5", "w") as file:
        chunk = (1, 1 << 18)
        row = file.create_dataset("s", (1, 400_000_000), "f4", chunks=chunk, compression="gzip")
        row[:, : 5 * MB] = np.random.default_rng(0).random(5 * MB, np.float32)


@hostile("h5, 50,000 datasets", "inspect {}/s.h5", "convert --to-flat {0}/s.h5 -o {0}/out.npz")
def h5_of_datasets(folder: Path) -> None:
    import h5py

    with h5py.File(folder / "s.h5", "w", libver="latest") as file:
        for place in range(50_000):
            file.create_dataset(f"{place}", data=[1.0])


@hostile("h5, 99,000 groups", "inspect {}/s.h5")
def h5_of_groups(folder: Path) -> None:
    import h5py

    with h5py.File(folder / "s.h5", "w", libver="latest") as file:
        for place in range(99_000):
            file.create_group(f"{place}")


@hostile("h5, 400,000 soft links", "inspect {}/s.h5")
def h5_of_soft_links(folder: Path) -> None:
    import h5py

    with h5py.File(folder / "s.h5", "w", libver="latest") as file:
        for place in range(400_000):
            file[f"{place}"] = h5py.SoftLink("/a")


@hostile("h5, 400,000 hard links to one", "inspect {}/s.h5")
def h5_of_hard_links(folder: Path) -> None:
    import h5py

    with h5py.File(folder / "s.h5", "w", libver="latest") as file:
        one = file.create_group("a")
        for place in range(400_000):
            file[f"{place}"] = one


@hostile("h5, metadata of 60 kB", "inspect {}/s.h5")
def h5_of_metadata(folder: Path) -> None:
    import h5py
    import numpy as np

    with h5py.File(folder / "s.h5", "w") as file:
        file["c"] = [1.0]
        file.attrs["lstmstate"] = np.bytes_(b"[" * 60_000)


@hostile("pkl, second pickle of 20 MB", "inspect {}/s.pkl")
def pkl_of_metadata(folder: Path) -> None:
    import pickle

    import numpy as np

    first = pickle.dumps(np.zeros((2, 4), np.float32), 4)
    (folder / "s.pkl").write_bytes(first + pickle.dumps("[1," * 6_600_000, 4))


@hostile("pkl of 20 MB, instructions", "inspect {}/s.pkl")
def pkl_of_instructions(folder: Path) -> None:
    (folder / "s.pkl").write_bytes(b"\x80\x04" + b"N0" * (10 * MB) + b"N.")


@hostile("pkl of 20 MB, a text", "inspect {}/s.pkl")
def pkl_of_text(folder: Path) -> None:
    import pickle

    (folder / "s.pkl").write_bytes(pickle.dumps({"a" * (20 * MB): 1}, 4))


@hostile("npy, header of 60 kB", "inspect {}/s.npy")
def npy_of_header(folder: Path) -> None:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (" + b"1," * 30_000 + b")}\n"
    (folder / "s.npy").write_bytes(b"\x93NUMPY\2\0" + len(header).to_bytes(4, "little") + header)


@hostile("table for run, one line of words", "run --assume-defaults {0}/m {0}/x.csv -o {0}/y.npy")
def table_of_words(folder: Path) -> None:
    bundle(folder / "m", cells(1), 160)
    (folder / "x.csv").write_bytes(b"\t a" * (6 * MB) + b"\n")


@hostile("table for run, a number a line", "run --assume-defaults {0}/m {0}/x.csv -o {0}/y.npy")
def table_of_lines(folder: Path) -> None:
    bundle(folder / "m", cells(1), 160)
    (folder / "x.csv").write_bytes(b"1\n" * (10 * MB))


# ---- large, and to be read


@hostile("index, 10^6 scalars", "inspect {}/m")
def index_of_scalars(folder: Path) -> None:
    scalars = (entry((), 4 * place, tail=b"\x35abcd") for place in range(1_000_000))
    names = (b"%07d" % place for place in range(1_000_000))
    bundle(folder / "m", list(zip(names, scalars, strict=True)), 4 * MB)


@hostile("index, 267,000 dense layers", "inspect {}/m", "check --units 2 {}/m")
def index_of_dense_layers(folder: Path) -> None:
    bundle(folder / "m", cells(267_000, "layer_%06d/dense"), 160)


@hostile("v1 of 20 MB, 545,000 variables", "inspect {}/m", "check --units 2 {}/m")
def v1_of_many_variables(folder: Path) -> None:
    shape_and_slice = text(2, text(2, number(1, 20))) + number(3, 1) + text(4, b"\x0a\x00")
    listed = b"".join(
        text(1, text(1, b"layer_%06d/w_123" % place) + shape_and_slice) for place in range(545_000)
    )
    (folder / "m").write_bytes(table([(b"", text(1, listed))]))


@hostile(
    "legal index, 740,000 variables",
    "inspect {}/m",
    "inspect --json {}/m",
    "check --units 2 {}/m",
    "check --finite {}/m",
    "diff {0}/m {0}/m",
    "diff --json {0}/m {0}/m",
    "convert --to-flat {0}/m -o {0}/out.npz",
    "run --assume-defaults {0}/m {0}/x.csv -o {0}/y.npy",
)
def legal_index(folder: Path) -> None:
    many = [(b"layer_%06d/w" % place, zeros((1,), 4 * place)) for place in range(740_000)]
    bundle(folder / "m", many, 4 * 740_000)
    (folder / "x.csv").write_bytes(b"1,2\n")


@hostile(
    "legal checkpoint, 60,000 variables",
    *(
        command
        for kind in ("npz", "h5", "pt", "safetensors")
        for command in (
            f"export --to arrays {{0}}/m -o {{0}}/out.{kind}",
            f"inspect {{0}}/out.{kind}",
        )
    ),
)
def legal_checkpoint(folder: Path) -> None:
    many = [(b"layer_%06d/w" % place, zeros((20, 5), 400 * place)) for place in range(60_000)]
    bundle(folder / "m", many, 400 * 60_000)


@hostile("legal meta, 500,000 nodes", "inspect {}/m")
def legal_meta(folder: Path) -> None:
    kind = text(5, text(1, b"T") + text(2, number(6, 1)))
    nodes = bytearray(text(1, text(1, b"layer/add_0") + text(2, b"Placeholder")))
    for n in range(1, 500_000):
        name, before = (text(field, b"layer/add_%d" % at) for field, at in ((1, n), (3, n - 1)))
        nodes += text(1, name + text(2, b"Add") + before + before + kind)
    checkpoint_with_graph(folder, text(2, nodes + text(4, number(1, 27))))


@hostile("legal h5, 100,000 datasets", "inspect {}/s.h5")
def legal_h5(folder: Path) -> None:
    import h5py

    with h5py.File(folder / "s.h5", "w", libver="latest") as file:
        for place in range(99_000):
            file.create_dataset(f"{place}", data=[1.0])


# ---- measuring


def apart(make: Callable[[], object]) -> None:
    """Call a function in a process of its own: its memory would count as that of the commands."""
    child = os.fork()
    if not child:
        code = 1
        try:
            make()
            code = 0
        finally:
            os._exit(code)
    if os.waitpid(child, 0)[1]:
        raise SystemExit("an input could not be made")


def limit() -> None:
    """Bound a command that would take too long."""
    resource.setrlimit(resource.RLIMIT_CPU, (LIMIT_SECONDS, LIMIT_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES, LIMIT_BYTES))


def cost_of(words: list[str]) -> Cost:
    """Run a command once."""
    command = [sys.executable, "-m", "lstmstate", *words]
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            preexec_fn=limit,  # noqa: PLW1509 - there are no threads
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        shown = errors.read().decode("utf-8", "replace").strip().splitlines()
    mib = usage.ru_maxrss / (1 << (20 if sys.platform == "darwin" else 10))
    seconds = usage.ru_utime + usage.ru_stime
    return Cost(seconds, mib, process.returncode, shown[-1] if shown else "")


def main() -> None:
    """Make, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--errors", action="store_true", help="print the errors, too")
    given = parser.parse_args()
    chosen = [name for name in MAKERS if name.startswith(tuple(given.names) or "")]
    if given.list:
        print("\n".join(chosen))
        return
    print(f"{'input':35} {'MB':>5}  {'command':25} {'CPU s':>7} {'MiB':>6} {'exit':>4}")
    for name in chosen:
        make, commands = MAKERS[name]
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            apart(lambda make=make, folder=folder: make(folder))  # type: ignore[misc]
            size = sum(file.stat().st_blocks * 512 for file in folder.iterdir()) / MB
            for words in commands:
                found = cost_of([word.format(folder) for word in words.split()])
                over = found.seconds > GOAL_SECONDS or found.mib > GOAL_MIB
                shown = words.replace("{0}/", "").replace("{}/", "").replace("{}", ".")
                print(
                    f"{name:35} {size:5.1f}  {shown:25} {found.seconds:7.2f} {found.mib:6.0f}"
                    f" {found.exit_code:4}{'  over' if over else ''}",
                    flush=True,
                )
                if given.errors and found.error:
                    print(f"    {found.error.replace(scratch, '')[:300]}", flush=True)


if __name__ == "__main__":
    main()
