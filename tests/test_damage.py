"""Damaged checkpoints: cut at every byte, flipped bits, lost bytes. An error or the right answer.

With checksums only the right values may be returned; without them (when values are rescued, and
in graphs, which have none) an error or a wrong value at worst. Work and memory are bounded.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from builders import (
    FLOAT,
    Array,
    BundleBuilder,
    V1Builder,
    const,
    meta_graph,
    names_const,
    node,
    number,
    shape_proto,
    snappy_literals,
    tensor,
    text,
    varint,
)
from commands import SAMPLES, Shell, error
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from test_graph_file import visit
from work import few_lines

from lstmstate.checkpoint import Checkpoint
from lstmstate.checkpoint.graph import read_meta, read_saved_model
from lstmstate.errors import CorruptError, LstmstateError, UnsupportedError

MAX_LINES = 20_000  # executed for one file of less than 2 KB; five times the lines for whole files
DAMAGES = 150

steady = settings(
    derandomize=True,
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


pytestmark = pytest.mark.memory(100)


# ---- specimens


class Specimen(NamedTuple):
    """A valid checkpoint: the path to open, its values, and the files to damage."""

    path: str
    values: dict[str, Array]
    files: list[Path]


MATRIX = np.arange(6, dtype=np.float32).reshape(2, 3)
STRINGS = np.array([b"ab", b"", b"xyz"], object)
PARTS = np.arange(8, dtype=np.int32).reshape(4, 2)
CUTS = [[(0, 3), (0, 2)], [(3, 1), (0, 2)]]
VALUES = {"matrix": MATRIX, "parts": PARTS, "strings": STRINGS}


def v2(folder: Path) -> Specimen:
    """A bundle of two data files, with strings and slices."""
    bundle = BundleBuilder(shards=2)
    bundle.add("matrix", MATRIX, shard=1)
    bundle.add("strings", STRINGS)
    bundle.add_slices("parts", PARTS, CUTS)
    path = bundle.write(folder / "m")
    return Specimen(path, VALUES, sorted(folder.iterdir()))


def object_based(folder: Path) -> Specimen:
    """A bundle with an object graph."""
    key = "cell/kernel/.ATTRIBUTES/VARIABLE_VALUE"
    attribute = text(1, "VARIABLE_VALUE") + text(2, "lstm/kernel") + text(3, key)
    child = text(1, number(1, 1) + text(2, "cell"))
    graph = np.array(text(1, child) + text(1, text(2, attribute)), object)
    bundle = BundleBuilder()
    bundle.add("_CHECKPOINTABLE_OBJECT_GRAPH", graph)
    bundle.add(key, MATRIX)
    path = bundle.write(folder / "m")
    values = {"_CHECKPOINTABLE_OBJECT_GRAPH": graph, key: MATRIX}
    return Specimen(path, values, sorted(folder.iterdir()))


def v1_builder() -> V1Builder:
    builder = V1Builder()
    builder.add("matrix", MATRIX)
    builder.add("strings", STRINGS)
    builder.add_slices("parts", PARTS, CUTS)
    return builder


def v1(folder: Path) -> Specimen:
    """A file of one block."""
    path = v1_builder().write(folder / "m.ckpt")
    return Specimen(path, VALUES, [Path(path)])


def v1_snappy(folder: Path) -> Specimen:
    """A file of several packed blocks, as 0.5 to 0.7 wrote them."""
    path = v1_builder().write(folder / "m.ckpt", block_size=100, pack=snappy_literals)
    return Specimen(path, VALUES, [Path(path)])


def v1_sharded(folder: Path) -> Specimen:
    """Two files, with one slice in each."""
    for shard, cut in enumerate(CUTS):
        builder = V1Builder()
        builder.add_slices("parts", PARTS, [cut])
        builder.add(["matrix", "strings"][shard], [MATRIX, STRINGS][shard])
        builder.write(folder / f"m-0000{shard}-of-00002")
    return Specimen(str(folder / "m"), VALUES, sorted(folder.iterdir()))


SPECIMENS = [v2, object_based, v1, v1_snappy, v1_sharded]
every_specimen = pytest.mark.parametrize("make", SPECIMENS, ids=lambda make: make.__name__)
Make = Callable[[Path], Specimen]


# ---- kinds of damage


def cut(content: bytes) -> Iterator[bytes]:
    """All shorter files with the same start."""
    return (content[:length] for length in range(len(content)))


def turned(content: bytes, seed: str, count: int = DAMAGES) -> Iterator[bytes]:
    """Files with one flipped bit, several flipped bits, and bytes lost, doubled or set."""
    chance = random.Random(seed)
    for kind in range(count):
        data = bytearray(content)
        if kind % 3 < 2:
            for _ in range(chance.randint(2, 6) if kind % 3 else 1):
                data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        else:
            at, length = chance.randrange(len(data)), chance.randint(1, 9)
            part = data[at : at + length]
            data[at : at + length] = chance.choice(
                [b"", b"\0" * length, b"\xff" * length, part * 2]
            )
        yield bytes(data)


def read_all(specimen: Specimen, *, checksums: bool = True) -> None:
    """Open and read everything: errors and the right values pass, and nothing else."""
    with few_lines(MAX_LINES):
        try:
            variables = Checkpoint(specimen.path, checksums=checksums).variables
        except LstmstateError:
            variables = {}
        else:
            assert not checksums or list(variables) == list(specimen.values)
        for name, variable in variables.items():
            try:
                value = variable.read()
            except LstmstateError:
                continue
            if checksums:
                expected = specimen.values[name]
                assert (value.dtype, value.shape) == (expected.dtype, expected.shape)
                assert variable.shape == expected.shape
                assert repr(value.tolist()) == repr(expected.tolist())


@every_specimen
def test_the_specimens_are_read_whole(tmp_path: Path, make: Make) -> None:
    specimen = make(tmp_path)
    read = {name: v.read() for name, v in Checkpoint(specimen.path).variables.items()}
    assert {k: v.tolist() for k, v in read.items()} == {
        k: v.tolist() for k, v in specimen.values.items()
    }


@every_specimen
@pytest.mark.parametrize("how", ["cut", "turned", "rescued"])
def test_a_damaged_file_is_an_error_or_the_right_values(
    tmp_path: Path, make: Make, how: str
) -> None:
    """Without checksums the values may be wrong, too."""
    specimen = make(tmp_path)
    for file in specimen.files:
        content, count = file.read_bytes(), DAMAGES // len(specimen.files)
        seed = file.name if how == "turned" else "rescue"
        for damaged in cut(content) if how == "cut" else turned(content, seed, count):
            file.write_bytes(damaged)
            read_all(specimen, checksums=how != "rescued")
        file.write_bytes(content)


def test_a_file_that_ends_in_zeros_is_refused(tmp_path: Path) -> None:
    """A full disk or a crashed system leaves such files."""
    specimen = v1(tmp_path)
    content = specimen.files[0].read_bytes()
    for length in range(0, len(content), 16):
        specimen.files[0].write_bytes(content[:length].ljust(len(content), b"\0"))
        with pytest.raises(LstmstateError):
            Checkpoint(specimen.path)


# ---- files that are missing, special or changing


@pytest.fixture
def damaged_data(tmp_path: Path) -> tuple[Path, Callable[[], object]]:
    """The data file of a bundle, and a function that reads a value from it."""
    specimen = object_based(tmp_path)
    variable = list(Checkpoint(specimen.path).variables.values())[1]
    return specimen.files[0], variable.read


Damaged = tuple[Path, Callable[[], object]]


def test_a_folder_in_place_of_a_data_file_is_reported(damaged_data: Damaged) -> None:
    path, read = damaged_data
    path.unlink()
    path.mkdir()
    with pytest.raises(UnsupportedError, match="this is a folder"):
        read()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no FIFOs here")
def test_a_fifo_in_place_of_a_data_file_does_not_block(damaged_data: Damaged) -> None:
    path, read = damaged_data
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UnsupportedError, match="not a regular file"):
        read()


def test_an_unreadable_file_is_reported(
    damaged_data: Damaged, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("lstmstate.files.reader.os.open", refusing)
    with pytest.raises(LstmstateError, match="no permission to read it") as caught:
        damaged_data[1]()
    assert isinstance(caught.value, PermissionError)


def test_a_file_that_shrinks_while_it_is_read_is_reported(
    damaged_data: Damaged, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lstmstate.files.reader.os.pread", lambda *_: b"")
    with pytest.raises(CorruptError, match="the file shrank while"):
        damaged_data[1]()


def test_a_failing_disk_is_reported(damaged_data: Damaged, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("lstmstate.files.reader.os.pread", failing)
    with pytest.raises(LstmstateError, match="Input/output error"):
        damaged_data[1]()


# ---- graphs


def a_graph() -> bytes:
    """A MetaGraphDef with an example of everything that is read from one."""
    trainable = text(1, "trainable_variables") + text(2, text(2, text(1, text(1, "kernel:0"))))
    return meta_graph(
        names_const("names", "old/kernel"),
        node("kernel", "VariableV2", shape=text(7, shape_proto([4, 8])), dtype=number(6, 1)),
        node("save", "SaveV2", ["prefix", "names", "slices", "kernel", "^init"]),
        const("bias", tensor(FLOAT, [2], text(5, bytes(8)))),
        const("half", tensor(19, [2], text(13, varint(0x3C00) + varint(0)))),
        node("script", "PyFunc", ["bias"], token=text(2, "pyfunc_0")),
        node("cell", "LSTMBlockCell", ["kernel:0", "bias:1"], T=number(3, 1)),
        producer=24,
        info=text(5, "1.5.0"),
        rest=text(4, trainable),
    )


@pytest.mark.parametrize("kind", ["meta", "saved_model"])
@pytest.mark.parametrize("damage", [cut, lambda content: turned(content, "graph")])
def test_a_damaged_graph(
    tmp_path: Path, kind: str, damage: Callable[[bytes], Iterator[bytes]]
) -> None:
    path = tmp_path / "graph"
    read = read_meta if kind == "meta" else read_saved_model
    refused = 0
    content = a_graph() if kind == "meta" else number(1, 1) + text(2, a_graph())
    for damaged in damage(content):
        path.write_bytes(damaged)
        with few_lines(MAX_LINES):
            try:
                visit(read(str(path)))
            except LstmstateError as error:
                refused += 1
                assert str(error).isprintable()
    assert refused


# ---- any bytes


anything = st.one_of(
    st.binary(max_size=200),
    st.builds(
        lambda start, body, end: start + body + end,
        st.sampled_from([b"", b"\x93NUMPY", b"PK\x03\x04", b"\x08\x01\x12", b"\x0a\x20", b"model"]),
        st.binary(max_size=100),
        st.sampled_from([b"", bytes.fromhex("57fb808b247547db")]),
    ),
)


NAMES = "file m.index m.meta m.data-00000-of-00001 checkpoint saved_model.pb m-00000-of-00001 x.csv"
NEWEST = b'model_checkpoint_path: "'
checkpoint_states = st.one_of(
    st.builds(
        lambda start, body, end: start + body + end,
        st.sampled_from([b"", NEWEST, NEWEST.replace(b'"', b"'")]),
        st.binary(max_size=60),
        st.sampled_from([b"", b'"', b"'", b'\\"', b"\n"]),
    ),
    st.binary(max_size=24).map(
        lambda name: NEWEST + b"".join(b"\\%03o" % byte for byte in name) + b'"\n'
    ),
)


@settings(steady, max_examples=25)
@given(
    st.one_of(
        st.tuples(st.sampled_from(NAMES.split()), anything),
        st.tuples(st.just("checkpoint"), checkpoint_states),
        st.tuples(st.just("x.csv"), st.binary(max_size=200)),
    )
)
@example(("file", b"\x08\xff"))  # a message whose first number is cut short
@example(("checkpoint", NEWEST + b'a\\000b/c"\n'))  # no system allows NUL in a path
def test_any_bytes_under_any_name_are_read_or_an_error_of_one_line(
    shell: Shell, tmp_path: Path, file: tuple[str, bytes]
) -> None:
    (tmp_path / "in").mkdir(exist_ok=True)
    path, target = tmp_path / "in" / file[0], tmp_path / "y.npz"
    path.write_bytes(file[1])
    for command in (
        ("inspect", path),
        ("inspect", path.parent),
        ("convert", path, "--to-tuple", "-o", target),
        ("convert", path.parent, "--to-tuple", "-o", target),
        ("run", SAMPLES / "tf_0_12_names", path, "-o", target),
    ):
        done = shell(*command)
        assert done.code in (0, 3)
        assert "internal error" not in done.err and "Traceback" not in done.err
        if done.code:
            assert error(done).isprintable()
        assert target.exists() == (done.code == 0 and "-o" in command)
        target.unlink(missing_ok=True)
    path.unlink()


@steady
@given(st.one_of(st.binary(max_size=80), st.binary(max_size=60).map(lambda b: text(1, text(2, b)))))
def test_any_bytes_as_an_object_graph_leave_the_values_readable(
    tmp_path: Path, content: bytes
) -> None:
    bundle = BundleBuilder()
    bundle.add("_CHECKPOINTABLE_OBJECT_GRAPH", np.array(content, object))
    bundle.add("matrix", MATRIX)
    variables = Checkpoint(bundle.write(tmp_path / "m")).variables
    assert variables["matrix"].read().tolist() == MATRIX.tolist()
