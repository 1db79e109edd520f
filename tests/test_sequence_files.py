"""The file and the array of an input, and choices between several."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from commands import PROJECT, SUNSPOTS
from sequences import (
    WRITERS,
    opened,
    random_steps,
    refused,
    whole,
    write_h5,
    write_npy,
)


@pytest.mark.parametrize("kind", ["npz", "h5"])
def test_one_of_several_arrays_must_be_chosen(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"x.{kind}"
    arrays = {"x": np.ones((4, 3)), "y": np.zeros((5, 2))}
    if kind == "npz":
        np.savez(path, **arrays)  # type: ignore[arg-type]
    else:
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                file[name] = array
    assert refused(path, "") == (
        f"{path}: it holds 2 arrays, and rnn/lstm_cell takes [batch, time, 3]; "
        "pick one, FILE:NAME: x [4, 3], y [5, 2]"
    )
    assert opened(f"{path}:x").steps == 4
    refused(f"{path}:y", "y: its shape is [5, 2]")
    refused(f"{path}:z", "z: there is no such array; there are: x, y")


def test_an_npy_has_no_names(tmp_path: Path) -> None:
    path = write_npy(tmp_path / "x.npy", np.ones((4, 3)))
    refused(f"{path}:x", "x: its one array has no name; pass the file alone")


def test_metadata_of_results_is_not_an_array(tmp_path: Path) -> None:
    metadata = '{"layout": "flat", "cells": [{"name": "", "c": 1, "m": 2}], "stack": false}'
    np.savez(tmp_path / "x.npz", x=np.ones((4, 3)), lstmstate=np.array(metadata))
    assert opened(tmp_path / "x.npz").steps == 4
    np.savez(tmp_path / "y.npz", lstmstate=np.array(metadata))
    refused(tmp_path / "y.npz", "")


@pytest.mark.parametrize("given_path", ["", "/checkpoint", "/model.ckpt-360.index"])
def test_a_checkpoint_is_reported_as_one(given_path: str) -> None:
    assert refused(f"{SUNSPOTS}{given_path}", "") == (
        f"{SUNSPOTS}{given_path}: expected sequences, got a TensorFlow checkpoint; "
        "rnn/lstm_cell takes [batch, time, 3], in an .npy, .npz, .h5 or .csv"
    )
    refused(f"{SUNSPOTS}/model.ckpt-360", "got a TensorFlow checkpoint")
    refused(f"{SUNSPOTS}/model.ckpt-360.data-00000-of-00001", "got a TensorFlow checkpoint")


def test_files_of_other_kinds_are_refused(tmp_path: Path) -> None:
    refused(tmp_path / "x.npy", "there is no such file")
    (tmp_path / "x.npy").mkdir()
    refused(tmp_path / "x.npy", "this is a folder")
    os.mkfifo(tmp_path / "y.npy")
    refused(tmp_path / "y.npy", "this is not a regular file")
    for content, words in {
        b"": "expected sequences, got an empty file",
        b"\x1f\x8b\x08": "expected sequences, got a gzip archive; unpack it first",
        b"\x07\x01\x02": "a file of unknown kind",
        b"version https://git-lfs.github.com/spec/v1\n": "git lfs pull",
        b'{"x": [1, 2]}': "a JSON text",
    }.items():
        (tmp_path / "z.npy").write_bytes(content)
        refused(tmp_path / "z.npy", words)


def test_sequences_are_read_from_stdin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = random_steps(5)[:, 0]
    for kind in ("npy", "npz", "csv"):
        name, write = WRITERS[kind]
        path = write(tmp_path / name, expected)
        read, written = os.pipe()
        os.write(written, Path(path).read_bytes())
        os.close(written)
        for source in (path, read):
            with open(source) as stdin, monkeypatch.context() as patch:
                patch.setattr(sys, "stdin", stdin)
                found = opened("-")
            assert found.path == "-"
            assert np.array_equal(whole(found, 2)[:, 0], expected)


def test_unusable_stdin_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def given_stdin(path: str, words: str) -> None:
        with Path(path).open() as stdin, monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", stdin)
            refused("-", words)

    given_stdin(write_h5(tmp_path / "x.h5", np.ones((4, 3))), "stdin: an HDF5 file cannot be read")
    given_stdin(write_npy(tmp_path / "x.npy", np.ones((4, 2))), "stdin: its shape is [4, 2]")
    np.savez(tmp_path / "x.npz", x=np.ones((4, 3)), y=np.ones(2))
    given_stdin(str(tmp_path / "x.npz"), "save one of them alone: x [4, 3], y [2]")


# ---- cost


def test_importing_the_module_imports_nothing_heavy() -> None:
    script = "import sys, lstmstate.operations.sequences; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=PROJECT, check=True
    )
    assert not {"numpy", "h5py", "zipfile", "csv"} & set(done.stdout.split())
