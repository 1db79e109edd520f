"""Paths that lead to a checkpoint: any of its files, its folder, and near misses."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import (
    SUNSPOTS,
    Array,
    Shell,
    archive,
    checkpoint,
    error,
    lstm_cell,
    numbers,
    piped,
    saved,
)

import lstmstate
from lstmstate.checkpoint.locate import NotACheckpointError, checkpoints_in, locate, newest
from lstmstate.errors import AmbiguousError, NotFoundError, UnsupportedError

SAMPLES = Path(__file__).resolve().parent.parent / "sample_checkpoints"


def put(
    folder: Path, prefix: str, sample: str = "bidirectional", source: str = "model.ckpt"
) -> str:
    """Copy a V2 sample into a folder under a prefix; return the prefix."""
    folder.mkdir(parents=True, exist_ok=True)
    for end in (".index", ".data-00000-of-00001", ".meta"):
        file = SAMPLES / sample / f"{source}{end}"
        if file.exists():
            shutil.copy(file, folder / f"{prefix}{end}")
    return os.path.join(folder, prefix)


def put_v1(folder: Path, name: str) -> str:
    """Copy the V1 sample into a folder under a name."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(SAMPLES / "v1_format" / "model.ckpt", folder / name)
    return os.path.join(folder, name)


def say_newest(folder: Path, path: str) -> None:
    """Write a `checkpoint` file."""
    (folder / "checkpoint").write_text(f'model_checkpoint_path: "{path}"\n', encoding="utf-8")


@pytest.mark.parametrize("end", ["", ".index", ".meta", ".data-00000-of-00001"])
def test_the_prefix_and_any_file_of_it(tmp_path: Path, end: str) -> None:
    prefix = put(tmp_path, "model.ckpt-7")
    assert locate(prefix + end).prefix == prefix


def test_a_relative_path_without_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "model.ckpt-7")
    monkeypatch.chdir(tmp_path)
    assert locate("model.ckpt-7").files == ("model.ckpt-7.index",)
    assert locate(".").prefix == os.path.join(".", "model.ckpt-7")


@pytest.mark.parametrize(
    ("written", "newest"),
    [
        ("model.ckpt-7", "model.ckpt-7"),
        ("/home/someone/runs/model.ckpt-7", "model.ckpt-7"),  # of another machine
        ("D:\\\\runs\\\\today\\\\model.ckpt-7", "model.ckpt-7"),
        ("../elsewhere/model.ckpt-7", "model.ckpt-7"),
        ("sub/../model.ckpt-7", "model.ckpt-7"),
        ("\\\\\\\\server\\\\share\\\\model.ckpt-7", "model.ckpt-7"),
        ("caf\\303\\251-7", "café-7"),
        ("best/model", "best/model"),
    ],
)
def test_the_checkpoint_file_names_the_newest(tmp_path: Path, written: str, newest: str) -> None:
    folder, name = os.path.split(newest)
    prefix = put(tmp_path / folder, name)
    put(tmp_path, "model.ckpt-8")
    put(tmp_path, "model")
    say_newest(tmp_path, written)
    assert locate(str(tmp_path)).prefix == prefix
    assert locate(os.path.join(tmp_path, "checkpoint")).prefix == prefix


def test_a_checkpoint_file_never_leads_out_of_its_folder(tmp_path: Path) -> None:
    outside = put(tmp_path / "outside", "secret")
    inside = tmp_path / "inside"
    inside.mkdir()
    for written in (outside, "../outside/secret"):
        say_newest(inside, written)
        with pytest.raises(NotFoundError, match="no checkpoint in this folder"):
            locate(str(inside))


def test_several_checkpoints_without_a_newest_one(tmp_path: Path) -> None:
    for step in (9, 10, 200):
        put(tmp_path, f"model.ckpt-{step}")
    with pytest.raises(AmbiguousError) as caught:
        locate(str(tmp_path))
    assert "3 checkpoints" in str(caught.value)
    assert "model.ckpt-9, model.ckpt-10, model.ckpt-200" in str(caught.value)


def test_a_missing_newest_checkpoint_is_reported(tmp_path: Path) -> None:
    put(tmp_path, "model.ckpt-1")
    put(tmp_path, "model.ckpt-2")
    say_newest(tmp_path, "/gone/model.ckpt-3")
    with pytest.raises(AmbiguousError, match="names /gone/model.ckpt-3, which is not here"):
        locate(str(tmp_path))


@pytest.mark.parametrize("name", ["", "-6600", " ", "a b", "…", "model.ckpt-1"])
def test_odd_basenames(tmp_path: Path, name: str) -> None:
    """One prefix may be the start of another."""
    prefix = put(tmp_path, name)
    assert locate(str(tmp_path)).prefix == prefix
    other = put(tmp_path, f"{name}0")
    for one in (prefix, other):
        assert locate(one).prefix == one
        assert locate(one + ".index").prefix == one


def test_a_prefix_that_is_also_a_folder(tmp_path: Path) -> None:
    prefix = put(tmp_path, "ner.ckpt")
    shutil.copytree(SAMPLES / "saved_model", tmp_path / "ner.ckpt")
    assert locate(prefix).prefix == prefix
    assert locate(prefix + "/").saved_model


def test_a_stale_shard_of_another_count(tmp_path: Path) -> None:
    prefix = put(tmp_path, "model")
    (tmp_path / "model.data-00000-of-00002").write_bytes(b"stale")
    ckpt = lstmstate.open_checkpoint(prefix)
    assert ckpt.files.data_files == (f"{prefix}.data-00000-of-00001",)
    assert locate(prefix + ".data-00000-of-00002").prefix == prefix


def test_links_to_files_elsewhere_are_followed(tmp_path: Path) -> None:
    """A cache of downloads has the files in one folder, and links in others."""
    prefix = put(tmp_path / "files", "model")
    (tmp_path / "links").mkdir()
    for file in (tmp_path / "files").iterdir():
        (tmp_path / "links" / file.name).symlink_to(file)
    found = lstmstate.open_checkpoint(tmp_path / "links" / "model")
    with lstmstate.open_checkpoint(prefix) as ckpt:
        for name, variable in ckpt.variables.items():
            assert (found.variables[name].read() == variable.read()).all()


def test_leftovers_of_an_interrupted_save_are_ignored(tmp_path: Path) -> None:
    prefix = put(tmp_path, "model")
    for leftover in (
        "model.index.tempstate123",
        "model.data-00000-of-00001.tempstate456",
        "model.meta.tmp0123456789abcdef",
        "checkpoint.tmp0123456789abcdef",
    ):
        (tmp_path / leftover).write_bytes(b"half")
    put(tmp_path / "model_temp_0123456789abcdef", "part-00000-of-00001")
    assert locate(str(tmp_path)).prefix == prefix


def test_v1_files_of_any_name(tmp_path: Path) -> None:
    path = put_v1(tmp_path, "save-60000")
    assert locate(path).format == "v1"
    assert locate(str(tmp_path)).prefix == path
    say_newest(tmp_path, "/train/save-60000")
    assert locate(str(tmp_path)).prefix == path


def test_shards_of_v1(tmp_path: Path) -> None:
    for number in range(2):
        put_v1(tmp_path, f"model-0000{number}-of-00002")
    put_v1(tmp_path, "model-00000-of-00003")  # stale and incomplete
    prefix = os.path.join(tmp_path, "model")
    expected = tuple(f"{prefix}-0000{number}-of-00002" for number in range(2))
    assert locate(prefix).files == expected
    assert locate(expected[1]).files == expected


def test_saved_models_by_any_of_their_parts(tmp_path: Path) -> None:
    folder = str(shutil.copytree(SAMPLES / "saved_model", tmp_path / "export"))
    for path in ("", "/saved_model.pb", "/variables", "/variables/variables"):
        found = locate(folder + path)
        assert found.saved_model
        assert found.graph == os.path.join(folder, "saved_model.pb")


def test_a_near_miss_lists_the_candidates(tmp_path: Path) -> None:
    put(tmp_path, "model.ckpt-1000")
    with pytest.raises(NotFoundError, match="this folder has model.ckpt-1000"):
        locate(os.path.join(tmp_path, "model.ckpt"))
    with pytest.raises(NotFoundError, match="no such folder"):
        locate(os.path.join(tmp_path, "gone", "model.ckpt"))


def test_parts_without_the_rest(tmp_path: Path) -> None:
    prefix = put(tmp_path, "model")
    os.remove(f"{prefix}.index")
    with pytest.raises(NotFoundError, match="index of this data file is missing"):
        locate(f"{prefix}.data-00000-of-00001")
    with pytest.raises(NotFoundError, match="only the graph is here"):
        locate(f"{prefix}.meta")
    with pytest.raises(NotFoundError, match="model: the index of this checkpoint is missing"):
        locate(str(tmp_path))


def written(write: Callable[..., object], **arrays: Any) -> bytes:
    """Return what a function writes into a file."""
    file = io.BytesIO()
    write(file, **arrays)
    return file.getvalue()


def hdf5(file: io.BytesIO) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(file, "w") as made:
        made["c"] = np.zeros(3)


def zipped(name: str) -> bytes:
    """Return a zip whose first member has this name."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, b"")
        archive.writestr("other", b"")
    return file.getvalue()


def tarred() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("model.ckpt.index"))
    return file.getvalue()


# Files of every program's kind: name of the kind → contents.
OTHER = {
    "npy": lambda: written(np.save, arr=np.zeros(3)),
    "npz": lambda: written(np.savez, c=np.zeros(3)),
    "hdf5": lambda: written(hdf5),
    "text": lambda: b"loss went down",
    "empty": lambda: b"",
    "unknown": lambda: bytes(range(128, 256)) * 4,
    "json": lambda: b"{}",
    "lfs_pointer": lambda: b"version https://git-lfs.github.com/spec/v1\n",
    "pickle": lambda: b"\x80\x04]\x94.",
    "gzip": lambda: b"\x1f\x8b" + bytes(20),
    "zip": lambda: zipped("notes.txt"),
}


@pytest.mark.parametrize("key", OTHER)
def test_other_files_are_identified(tmp_path: Path, key: str) -> None:
    (tmp_path / "file").write_bytes(OTHER[key]())
    with pytest.raises(NotACheckpointError) as caught:
        locate(str(tmp_path / "file"))
    assert caught.value.kind.key == key
    assert "expected a TensorFlow checkpoint, got a" in str(caught.value)


HEADER = b'{"c":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'  # of a safetensors file
FOREIGN = {
    "pytorch": [
        zipped("archive/data.pkl"),
        zipped("model/version"),
    ],
    # torch.serialization wrote this number first, and the objects after it
    "pytorch_legacy": [pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2)],
    "keras": [zipped("metadata.json"), zipped("model.weights.h5")],
    "office": [zipped("[Content_Types].xml")],
    "zip": [zipped("variables/variables.index")],
    "tar": [tarred()],
    "gzip": [gzip.compress(b"")],
    "bzip2": [bz2.compress(b"")],
    "xz": [lzma.compress(b"")],
    "zlib": [zlib.compress(b"a pickle by joblib")],
    # ModelProto: 1 ir_version, 2 producer_name, 7 graph
    "onnx": [b"\x08\x08\x12\x07pytorch\x3a\x02\x0a\x00", b"\x08\x03\x3a\x02\x0a\x00"],
    # SavedModel: 1 schema version, 2 meta_graphs
    "saved_model": [b"\x08\x01\x12\x04\x0a\x02\x0a\x00"],
    "safetensors": [struct.pack("<Q", len(HEADER)) + HEADER + bytes(4)],
    "gguf": [b"GGUF" + struct.pack("<IQQ", 3, 0, 0)],
    "tflite": [b"\x1c\0\0\0TFL3" + bytes(20)],
    # {"params": {"lstm": {}}}
    "msgpack": [b"\x81\xa6params\x81\xa4lstm\x80"],
    "mxnet": [struct.pack("<QQ", 0x112, 0)],
    "matlab": [b"MATLAB 5.0 MAT-file, Platform: GLNXA64".ljust(128)],
    "annex_pointer": [b"/annex/objects/SHA256E-s1--0.npy\n"],
    "dvc_pointer": [b"outs:\n- md5: 0123\n  path: model.ckpt\n"],
    "html": [
        b"<!DOCTYPE html>\n<html lang=en>",
        b"\n<HTML><head><title>Sign in \xb7 GitHub</title>",
        b'<?xml version="1.0"?>\n<!DOCTYPE html PUBLIC "-">',
    ],
    "xml": [b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>'],
    "tfjs": [b'{"format": "layers-model", "modelTopology": {}}'],
    "keras_json": [b'{"class_name": "Sequential", "config": {"layers": []}}'],
    "text": [b"<DATE>,<OPEN>\n1,2\n", b"PAR1,GGUF\n1,2\n", b"MATLAB 5.0,x\n1,2\n"],
}


@pytest.mark.parametrize("key", FOREIGN)
def test_files_of_other_programs_are_named(tmp_path: Path, key: str) -> None:
    path = tmp_path / "file"
    for content in FOREIGN[key]:
        path.write_bytes(content)
        with pytest.raises(NotACheckpointError) as caught:
            locate(str(path))
        assert caught.value.kind.key == key
        assert caught.value.advice
        assert "not a checkpoint" not in str(caught.value)


def test_files_of_records_are_named(tmp_path: Path) -> None:
    tf = pytest.importorskip("tensorflow")
    event = tf.compat.v1.Event(wall_time=1.5, file_version="brain.Event:2")
    for key, record in (("tfrecord", b"an example"), ("tfevents", event.SerializeToString())):
        path = str(tmp_path / key)
        with tf.io.TFRecordWriter(path) as writer:
            writer.write(record)
        with pytest.raises(NotACheckpointError) as caught:
            locate(path)
        assert caught.value.kind.key == key


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("manifest.ocdbt", "orbax"),
        ("_METADATA", "orbax"),
        (".zarray", "zarr"),
        ("model.safetensors", "safetensors"),
    ],
)
def test_folders_of_other_programs_are_named(tmp_path: Path, name: str, key: str) -> None:
    (tmp_path / name).write_bytes(b"{}")
    with pytest.raises(NotACheckpointError) as caught:
        locate(str(tmp_path))
    assert caught.value.kind.key == key
    put(tmp_path, "model")  # a checkpoint next to it is found all the same
    assert locate(str(tmp_path)).format == "v2"


def test_a_binary_graph_is_a_frozen_one(tmp_path: Path) -> None:
    """It starts with a node {name, op}; the graph of a checkpoint starts with its versions."""
    path = tmp_path / "frozen.pb"
    path.write_bytes(b"\x0a\x0c\x0a\x01x\x12\x07Const__")
    found = locate(str(path))
    assert (found.format, found.prefix, found.graph) == ("frozen_graph", str(path), str(path))
    path.write_bytes(b"\x0a\x0d\x0a\x00\x2a\x091.15.0-rc0")
    with pytest.raises(NotACheckpointError, match="the graph of a checkpoint"):
        locate(str(path))


def test_folders_fifos_and_files_without_permission(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no checkpoint in this folder"):
        locate(str(tmp_path))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UnsupportedError, match="not a regular file"):
        locate(os.path.join(tmp_path, "pipe"))


def test_checkpoints_of_a_folder_are_listed_by_number(tmp_path: Path) -> None:
    for step in (100, 9, 20):
        put(tmp_path, f"m-{step}")
    put_v1(tmp_path, "old")
    (tmp_path / "notes.txt").write_text("x", encoding="utf-8")
    assert checkpoints_in(str(tmp_path)) == ["m-9", "m-20", "m-100", "old"]


def test_an_invalid_checkpoint_file_names_no_checkpoint() -> None:
    assert newest(b"", "x") is None
    assert newest(b"all_model_checkpoint_paths: 'a'", "x") is None
    assert newest(b"model_checkpoint_path: 'single quotes'", "x") == "single quotes"


# ---- paths with the same meaning in every command: a file, an array in it, a checkpoint, stdin


CELL = "rnn/lstm_cell"


@pytest.fixture
def flat() -> Array:
    """A flat state of a cell of 4 units."""
    return numbers(2, 8, seed=5)


@pytest.fixture
def model(tmp_path: Path, flat: Array) -> str:
    """A cell of 4 units, two saved states, and a variable that is not its state."""
    states = {"train/state": flat, "valid/state": numbers(2, 8, seed=6)}
    others = {"dense/kernel": numbers(3, 5)}
    return checkpoint(tmp_path / "model.ckpt", lstm_cell(CELL) | states | others)


def widths(document: Any) -> list[tuple[int, int]]:
    """Return the widths of c and m that inspect prints for the cells of a state."""
    return [(cell["c"], cell["m"]) for cell in document["state"]["cells"]]


@pytest.mark.parametrize("kind", ["npy", "npz", "npz:state", "ckpt:train/state", "own.ckpt"])
def test_inspect_and_check_accept_the_same_paths(
    shell: Shell, tmp_path: Path, model: str, flat: Array, kind: str
) -> None:
    npz = archive(tmp_path / "a.npz", state=flat)
    own = tmp_path / "own.ckpt"
    shell(
        "convert", saved(tmp_path / "b.npy", flat), "--to-tuple", "--units", "4", "-o", own, code=0
    )
    path = {
        "npy": str(saved(tmp_path / "a.npy", flat)),
        "npz": str(npz),
        "npz:state": f"{npz}:state",
        "ckpt:train/state": f"{model}:train/state",
        "own.ckpt": str(own),
    }[kind]
    assert shell("check", path, "--units", "4", "--cells", "1", "--finite").code == 0
    assert shell("diff", path, tmp_path / "b.npy", "--units", "4").code == 0
    found = shell.json("inspect", path)
    assert found["kind"] == "state"
    assert widths(found) == [(4, 4)]
    (cell,) = found["state"]["cells"]
    assert cell["range"]["c"]["low"] == pytest.approx(float(flat[:, :4].min()))
    assert "[2, 4]" in shell("inspect", path).out


def test_inspect_names_the_cell_of_a_state_in_a_checkpoint(shell: Shell, model: str) -> None:
    found = shell.json("inspect", f"{model}:train/state")
    assert (found["format"], found["path"]) == ("v2", f"{model}:train/state")
    assert found["state"]["layout_source"] == "checkpoint"
    assert [cell["name"] for cell in found["state"]["cells"]] == [CELL]
    assert [array["name"] for array in found["arrays"]] == ["train/state"]
    assert "(from the cells of its checkpoint)" in shell("inspect", f"{model}:train/state").out


def test_inspect_of_another_variable_shows_its_shape(shell: Shell, model: str) -> None:
    found = shell.json("inspect", f"{model}:dense/kernel")
    assert found["state"] is None
    assert "it is 5 wide, and c 4 + m 4 are 8" in found["problem"]
    assert [array["shape"] for array in found["arrays"]] == [[3, 5]]


@pytest.mark.parametrize("command", [["inspect"], ["check", "--finite"], ["convert", "--to-flat"]])
def test_a_missing_variable_is_refused_by_every_command(
    shell: Shell, model: str, command: list[str]
) -> None:
    done = shell(*command, f"{model}:nope", "-q", code=3)
    assert (
        error(done) == f"{model}: nope: there is no such variable; `lstmstate inspect` lists them"
    )


def test_inspect_of_a_checkpoint_lists_cells_and_states(shell: Shell, model: str) -> None:
    found = shell.json("inspect", model)
    assert (found["kind"], [cell["name"] for cell in found["cells"]]) == ("checkpoint", [CELL])
    assert [state["variable"] for state in found["states"]] == ["train/state", "valid/state"]


@pytest.mark.parametrize("by", ["pipe", "file"])
def test_inspect_reads_stdin(tmp_path: Path, flat: Array, by: str) -> None:
    source = archive(tmp_path / "a.npz", c=flat[:, :4], m=flat[:, 4:])
    stdin = source if by == "file" else source.read_bytes()
    done = piped("inspect", "-", "--json", stdin=stdin)
    assert (done.returncode, done.stderr) == (0, b"")
    found = json.loads(done.stdout)
    assert (found["path"], found["format"], found["kind"]) == ("-", "npz", "state")
    assert widths(found) == [(4, 4)]
    assert np.isclose(found["state"]["cells"][0]["range"]["m"]["high"], flat[:, 4:].max())


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("run {ckpt} {x} -o {out} --state", 3),
        ("run {ckpt} {x} --zero-state --state", 2),
        ("run {ckpt} {x} --state-out", 3),
        ("run {ckpt} {x} -o", 3),
        ("run {ckpt} {x} {x} -o", 2),
        ("run {ckpt} {x} -o {out} --lengths", 3),
        ("convert {flat} --to-tuple -o", 3),
        ("convert {flat} --to-tuple -o {out} --checkpoint", 3),
        ("concat {flat} {flat} -o", 3),
        ("verify {ckpt} --against graph --lengths", 2),
        ("diff {flat} {flat} --checkpoint", 3),
    ],
)
def test_an_empty_path_is_not_one_that_was_left_out(
    shell: Shell, tmp_path: Path, line: str, code: int
) -> None:
    x, flat = (
        saved(tmp_path / name, numbers(4, 8)[:, :n]) for name, n in (("x.npy", 1), ("f.npy", 8))
    )
    places = {"ckpt": SUNSPOTS, "x": x, "flat": flat, "out": tmp_path / "out.npz"}
    assert shell(*line.format(**places).split(), "", code=code).out == ""
    assert sorted(os.listdir(tmp_path)) == ["f.npy", "x.npy"]
