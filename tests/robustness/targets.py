"""The readers under attack: a row for each, with valid inputs that code makes.

A reader gets any bytes and an empty folder. It may return, or raise an LstmstateError; anything
else is a find.
"""

from __future__ import annotations

import io
import json
import pickle
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

import h5py  # noqa: E402
import numpy as np  # noqa: E402
from builders import (  # noqa: E402
    BundleBuilder,
    V1Builder,
    block,
    sealed,
    snappy_literals,
    table,
    text,
    v1_list,
    varint,
)
from mutations import parse_fields  # noqa: E402

import lstmstate  # noqa: E402
from lstmstate import LSTMState, save_state  # noqa: E402
from lstmstate.checkpoint import Checkpoint  # noqa: E402
from lstmstate.checkpoint.graph import (  # noqa: E402
    Graph,
    read_graph_def,
    read_meta,
    read_saved_model,
)
from lstmstate.checkpoint.locate import newest  # noqa: E402
from lstmstate.checkpoint.object_graph import full_names  # noqa: E402
from lstmstate.errors import LstmstateError  # noqa: E402
from lstmstate.operations.sequences import open_sequences  # noqa: E402
from lstmstate.state.metadata import parse  # noqa: E402

SAMPLES = TESTS.parent / "sample_checkpoints"
STATE = np.linspace(-1, 1, 16, dtype="f4").reshape(2, 8)
METADATA = json.dumps(
    {"layout": "flat", "cells": [{"name": "lstm", "c": 4, "m": 4}], "stack": False}
)


class Target(NamedTuple):
    """A reader.

    Attributes:
        seeds: makes valid inputs.
        read: reads the bytes of an input; the folder is empty, and its own.
    """

    seeds: Callable[[], list[bytes]]
    read: Callable[[bytes, Path], object]


# ---- checkpoints


def read_values(path: Path, *, checksums: bool = True) -> None:
    """Read all values of a checkpoint; a value that is refused does not hide the next."""
    problem = None
    for variable in Checkpoint(str(path), checksums=checksums).variables.values():
        try:
            variable.read()
        except LstmstateError as error:
            problem = error
    if problem is not None:
        raise problem


def records(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield keys and values: a byte and two bytes of length before each pair."""
    while len(data) > 3:
        key, value = data[0], int.from_bytes(data[1:3], "little")
        yield data[3 : 3 + key], data[3 + key : 3 + key + value]
        data = data[3 + key + value :]


def as_records(pairs: dict[bytes, bytes]) -> bytes:
    """Return what `records` takes apart."""
    return b"".join(
        bytes([len(key)]) + len(value).to_bytes(2, "little") + key + value
        for key, value in sorted(pairs.items())
        if len(key) < 256 and len(value) < 1 << 16
    )


def bundle() -> BundleBuilder:
    """A small V2 checkpoint: a cell, strings and a partitioned variable."""
    made = BundleBuilder()
    made.add("rnn/lstm_cell/kernel", np.linspace(-1, 1, 112, dtype="f4").reshape(7, 16))
    made.add("rnn/lstm_cell/bias", np.ones(16, "f4"))
    made.add("names", np.array([b"a", b"", b"long"], object))
    made.add_slices(
        "parts", np.arange(8, dtype="i4").reshape(4, 2), [[(0, 3), (0, 2)], [(3, 1), (0, 2)]]
    )
    return made


def v1() -> V1Builder:
    """A small V1 checkpoint: a cell and a partitioned variable."""
    made = V1Builder()
    made.add("rnn/lstm_cell/kernel", np.linspace(-1, 1, 112, dtype="f4").reshape(7, 16))
    made.add("rnn/lstm_cell/bias", np.ones(16, "f4"))
    made.add_slices("parts", np.arange(8, dtype="i4").reshape(4, 2), [[(0, 4), (0, 2)]])
    return made


def _bundle_entries(data: bytes, folder: Path) -> None:
    made = bundle()
    made.write(folder / "m", index=table(sorted(dict(records(data)).items())))
    read_values(folder / "m")


def _bundle_index(data: bytes, folder: Path) -> None:
    bundle().write(folder / "m", index=data)
    read_values(folder / "m", checksums=False)


def _bundle_values(data: bytes, folder: Path) -> None:
    made = bundle()
    cut = len(made.index())
    made.data[0][:] = data[cut:]
    made.write(folder / "m", index=data[:cut])
    read_values(folder / "m", checksums=False)


def v1_entries() -> dict[bytes, bytes]:
    """The entries of a V1 checkpoint by key."""
    made = v1()
    return {b"": v1_list(made.listed), **made.entries}


def v1_file() -> bytes:
    """A V1 checkpoint of one block."""
    return table(sorted(v1_entries().items()))


def _v1_entries(data: bytes, folder: Path) -> None:
    (folder / "m").write_bytes(table(sorted(dict(records(data)).items())))
    read_values(folder / "m")


def _file(name: str, read: Callable[[Path], object]) -> Callable[[bytes, Path], object]:
    """Return a reader of one file of a name."""

    def of_bytes(data: bytes, folder: Path) -> object:
        (folder / name).write_bytes(data)
        return read(folder / name)

    return of_bytes


def _without_sums(path: Path) -> None:
    read_values(path, checksums=False)


def _snappy_block(data: bytes, folder: Path) -> None:
    """Read a table whose first block has these bytes as its compressed content."""
    magic = table([])[-8:]
    packed = sealed(data, 1)
    index = sealed(block([(b"z", varint(0) + varint(len(data)))], 1))
    empty = sealed(block([]))
    handles = b"".join(
        varint(number)
        for number in (len(packed), len(empty) - 5, len(packed) + len(empty), len(index) - 5)
    )
    (folder / "m").write_bytes(packed + empty + index + handles.ljust(40, b"\0") + magic)
    read_values(folder / "m")


# ---- graphs


def visit(graph: Graph) -> None:
    """Call the readers of every node."""
    list(graph.saved_names())
    for node in graph.nodes.values():
        for ask in (node.shape, node.constant, node.constant_shape, node.strings):
            with suppress(LstmstateError):
                ask()
        for ask_of in (node.number, node.real, node.string):
            with suppress(LstmstateError):
                ask_of("T")


def _inspect(data: bytes, folder: Path) -> object:
    bundle().write(folder / "m")
    (folder / "m.meta").write_bytes(data)
    with lstmstate.open_checkpoint(folder / "m") as ckpt:
        return [ckpt.cells, ckpt.stacks, ckpt.states, repr(ckpt)]


def _load(data: bytes, folder: Path) -> object:
    for file in (SAMPLES / "peephole_tuple").glob("model.ckpt.*"):
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "model.ckpt.meta").write_bytes(data)
    with lstmstate.open_checkpoint(folder / "model.ckpt") as ckpt:
        return ckpt.network().load()


def _sample(name: str, ending: str) -> Callable[[], list[bytes]]:
    return lambda: [next((SAMPLES / name).glob(f"*{ending}")).read_bytes()]


def graph_def(meta: bytes) -> bytes:
    """Return the GraphDef of a MetaGraphDef."""
    return next(value for number, _, value in parse_fields(meta) or () if number == 2)  # type: ignore[misc]


# Two objects: the first has the second as its child "cell", and that has a variable.
OBJECTS = text(1, text(1, b"\x08\x01" + text(2, "cell"))) + text(
    1, text(2, text(1, "VARIABLE_VALUE") + text(2, "v") + text(3, "cell/v/.ATTRIBUTES/VALUE"))
)
PBTXT = b"""
meta_info_def { tensorflow_version: "1.15.5" }
graph_def { node { name: "x" op: "Placeholder" attr { key: "dtype" value { type: DT_FLOAT } } }
  node { name: "w" op: "Const" attr { key: "value" value { tensor { dtype: DT_FLOAT tensor_shape {
  dim { size: 2 } } tensor_content: "\\000\\000\\200?\\x00\\x00\\x00@" } } } } }
"""


# ---- states and sequences


def _state(path: Path) -> object:
    return lstmstate.load_state(path, cells=[(4, 4)])


def _sequence(path: Path) -> object:
    found = open_sequences(str(path), width=None, dtype=np.dtype("f4"), expected="x")
    return [found.chunk(at, min(at + 100, found.steps)) for at in range(0, found.steps, 100)]


def _npy() -> list[bytes]:
    found = []
    for array in (STATE, np.asfortranarray(STATE.astype(">f8")), STATE.astype("f2")):
        file = io.BytesIO()
        np.save(file, array)
        found.append(file.getvalue())
    return found


def _npz() -> list[bytes]:
    found = []
    for save in (np.savez, np.savez_compressed):
        file = io.BytesIO()
        save(file, state=STATE, lstmstate=np.array(METADATA))
        found.append(file.getvalue())
    return found


def _h5() -> list[bytes]:
    file = io.BytesIO()
    with h5py.File(file, "w") as made:
        made.attrs["lstmstate"] = METADATA
        made.create_dataset("state", data=STATE, chunks=(1, 8), compression="gzip")
    return [file.getvalue()]


def _tensors(ending: str) -> list[bytes]:
    """Return a state of two layouts, written as tensors by name."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for layout in ("flat", "torch"):
            path = Path(folder) / f"{layout}.{ending}"
            save_state(LSTMState(STATE[:, :4], STATE[:, 4:]), path, layout=layout)
            found.append(path.read_bytes())
    return found


def _pkl() -> list[bytes]:
    return [pickle.dumps((STATE,), protocol) for protocol in range(5)]


def _csv() -> list[bytes]:
    rows = ["c0,c1,c2,c3,m0,m1,m2,m3", "1,2,.5,-.5,1e-3,2,3,4", "0,1e38,0,1,-1,1,0,.1"]
    return ["\n".join(rows).encode(), b"1\t2\t3\t4\t5\t6\t7\t8\n"]


GRAPH = _sample("block_cell", ".meta")
TARGETS = {
    "bundle-entries": Target(
        lambda: [as_records({b"": bundle().header, **bundle().entries})], _bundle_entries
    ),
    "bundle-index": Target(lambda: [bundle().index()], _bundle_index),
    "bundle-values": Target(lambda: [bundle().index() + bytes(bundle().data[0])], _bundle_values),
    "v1-entries": Target(lambda: [as_records(v1_entries())], _v1_entries),
    "v1-table": Target(lambda: [v1_file()], _file("m", _without_sums)),
    "snappy-block": Target(
        lambda: [snappy_literals(block(sorted(v1_entries().items())))], _snappy_block
    ),
    "object-graph": Target(lambda: [OBJECTS], lambda data, _: full_names(data)),
    "checkpoint-file": Target(
        lambda: [b'model_checkpoint_path: "m-1"\n'], lambda data, _: newest(data, "checkpoint")
    ),
    "generator-bundle": Target(
        lambda: [text(1, text(1, "a")) + text(2, v1_file()) + text(3, one) for one in GRAPH()],
        _file("m.mag", read_values),
    ),
    "graph": Target(lambda: [*GRAPH(), PBTXT], _file("m.meta", lambda p: visit(read_meta(str(p))))),
    "saved-model": Target(
        _sample("saved_model", ".pb"),
        _file("saved_model.pb", lambda path: visit(read_saved_model(str(path)))),
    ),
    "frozen-graph": Target(
        lambda: [graph_def(one) for one in GRAPH()],
        _file("m.pb", lambda path: visit(read_graph_def(str(path)))),
    ),
    "inspected-graph": Target(_sample("sunspots", ".meta"), _inspect),
    "evaluated-graph": Target(_sample("peephole_tuple", ".meta"), _load),
    "npy": Target(_npy, _file("s.npy", _state)),
    "npz": Target(_npz, _file("s.npz", _state)),
    "h5": Target(_h5, _file("s.h5", _state)),
    "pkl": Target(_pkl, _file("s.pkl", _state)),
    "safetensors": Target(lambda: _tensors("safetensors"), _file("s.safetensors", _state)),
    "pt": Target(lambda: _tensors("pt"), _file("s.pt", _state)),
    "csv-state": Target(_csv, _file("s.csv", _state)),
    "npy-sequence": Target(_npy, _file("x.npy", _sequence)),
    "csv-sequence": Target(_csv, _file("x.csv", _sequence)),
    "metadata": Target(
        lambda: [METADATA.encode()],
        lambda data, _: parse(data.decode("utf-8", "surrogateescape")),
    ),
}
