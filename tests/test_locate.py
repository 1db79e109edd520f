"""Paths that lead to a checkpoint: any of its files, its folder, and near misses."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

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


def test_the_folder_and_the_checkpoint_file(tmp_path: Path) -> None:
    prefix = put(tmp_path, "model.ckpt-7")
    put(tmp_path, "model.ckpt-8")
    say_newest(tmp_path, "model.ckpt-7")
    assert locate(str(tmp_path)).prefix == prefix
    assert locate(os.path.join(tmp_path, "checkpoint")).prefix == prefix


def test_a_relative_path_without_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "model.ckpt-7")
    monkeypatch.chdir(tmp_path)
    assert locate("model.ckpt-7").files == ("model.ckpt-7.index",)
    assert locate(".").prefix == os.path.join(".", "model.ckpt-7")


@pytest.mark.parametrize(
    "written",
    [
        "/home/someone/runs/model.ckpt-7",
        "D:\\\\runs\\\\today\\\\model.ckpt-7",
        "../elsewhere/model.ckpt-7",
        "sub/../model.ckpt-7",
        "\\\\\\\\server\\\\share\\\\model.ckpt-7",
    ],
)
def test_paths_from_another_machine_are_looked_up_next_to_the_file(
    tmp_path: Path, written: str
) -> None:
    prefix = put(tmp_path, "model.ckpt-7")
    put(tmp_path, "model.ckpt-8")
    say_newest(tmp_path, written)
    assert locate(str(tmp_path)).prefix == prefix


def test_octal_escapes_in_the_checkpoint_file(tmp_path: Path) -> None:
    prefix = put(tmp_path, "café-7")
    put(tmp_path, "other")
    say_newest(tmp_path, "caf\\303\\251-7")
    assert locate(str(tmp_path)).prefix == prefix


def test_a_checkpoint_file_never_leads_out_of_its_folder(tmp_path: Path) -> None:
    outside = put(tmp_path / "outside", "secret")
    inside = tmp_path / "inside"
    inside.mkdir()
    for written in (outside, "../outside/secret"):
        say_newest(inside, written)
        with pytest.raises(NotFoundError, match="no checkpoint in this folder"):
            locate(str(inside))


def test_a_sub_folder_named_by_the_checkpoint_file(tmp_path: Path) -> None:
    prefix = put(tmp_path / "best", "model")
    put(tmp_path, "model")
    say_newest(tmp_path, "best/model")
    assert locate(str(tmp_path)).prefix == prefix


def test_several_checkpoints_without_a_newest_one(tmp_path: Path) -> None:
    for step in (9, 10, 200):
        put(tmp_path, f"model.ckpt-{step}")
    with pytest.raises(AmbiguousError) as caught:
        locate(str(tmp_path))
    assert "3 checkpoints" in str(caught.value)
    assert "model.ckpt-9, model.ckpt-10, model.ckpt-200" in str(caught.value)
    assert caught.value.exit_code == 3


def test_a_missing_newest_checkpoint_is_reported(tmp_path: Path) -> None:
    put(tmp_path, "model.ckpt-1")
    put(tmp_path, "model.ckpt-2")
    say_newest(tmp_path, "/gone/model.ckpt-3")
    with pytest.raises(AmbiguousError, match="names /gone/model.ckpt-3, which is not here"):
        locate(str(tmp_path))


def test_a_prefix_that_begins_another(tmp_path: Path) -> None:
    short, long = put(tmp_path, "model.ckpt-1"), put(tmp_path, "model.ckpt-10")
    assert locate(short).prefix == short
    assert locate(long).prefix == long


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


@pytest.mark.parametrize("name", ["", "-6600", " ", "a b", "…"])
def test_odd_basenames(tmp_path: Path, name: str) -> None:
    prefix = put(tmp_path, name)
    assert locate(prefix).prefix == prefix
    assert locate(prefix + ".index").prefix == prefix
    assert locate(str(tmp_path)).prefix == prefix


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


def kinds(folder: Path) -> dict[str, tuple[Path, str]]:
    """Make a file of each kind that is not a checkpoint: name → (path, its kind)."""
    h5py = pytest.importorskip("h5py")
    np.save(folder / "state.npy", np.zeros(3))
    np.savez(folder / "state.npz", c=np.zeros(3))
    with h5py.File(folder / "state.h5", "w") as file:
        file["c"] = np.zeros(3)
    (folder / "notes.txt").write_text("loss went down", encoding="utf-8")
    (folder / "empty").write_bytes(b"")
    (folder / "noise").write_bytes(bytes(range(128, 256)) * 4)
    (folder / "conf.json").write_text("{}", encoding="utf-8")
    (folder / "lfs").write_text("version https://git-lfs.github.com/spec/v1\n", encoding="utf-8")
    (folder / "pickle").write_bytes(b"\x80\x04]\x94.")
    (folder / "archive.gz").write_bytes(b"\x1f\x8b" + bytes(20))
    shutil.make_archive(str(folder / "plain"), "zip", folder, "notes.txt")
    import zipfile

    with zipfile.ZipFile(folder / "model.pt", "w") as archive:
        archive.writestr("archive/data.pkl", b"")
    return {
        path.name: (path, kind)
        for path, kind in {
            folder / "state.npy": "npy",
            folder / "state.npz": "npz",
            folder / "state.h5": "hdf5",
            folder / "notes.txt": "text",
            folder / "empty": "empty",
            folder / "noise": "unknown",
            folder / "conf.json": "json",
            folder / "lfs": "lfs_pointer",
            folder / "pickle": "pickle",
            folder / "archive.gz": "gzip",
            folder / "plain.zip": "zip",
            folder / "model.pt": "pytorch",
        }.items()
    }


def test_other_files_are_identified(tmp_path: Path) -> None:
    for path, kind in kinds(tmp_path).values():
        with pytest.raises(NotACheckpointError) as caught:
            locate(str(path))
        assert caught.value.kind.key == kind, path.name
        assert "not a" in str(caught.value)


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
