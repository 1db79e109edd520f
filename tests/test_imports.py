"""Imports: never TensorFlow, and no heavy module before it is needed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SAMPLES = Path(__file__).resolve().parent.parent / "sample_checkpoints"
HEAVY = ("tensorflow", "tf_keras", "keras", "google.protobuf")


def imported_by(script: str, *arguments: str) -> set[str]:
    """Run a script in its own process; return the modules that it imported."""
    report = "\nimport sys\nprint('\\n'.join(sys.modules), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", script + report, *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stderr.splitlines())


def inspecting(*arguments: str) -> set[str]:
    """Return the modules that one `lstmstate inspect` imports."""
    return imported_by(
        "import sys; from lstmstate.cli import execute as run; run(sys.argv[1:])", *arguments
    )


def test_inspect_imports_no_tensorflow() -> None:
    """For every checkpoint: one process inspects all samples."""
    samples = [str(path) for path in SAMPLES.iterdir() if path.is_dir()]
    script = "import sys; from lstmstate.cli import execute as run\n" + "".join(
        f"assert run(['inspect', '-q', {path!r}, '--stats', '--variables']) == 0\n"
        for path in samples
    )
    modules = imported_by(script)
    assert "lstmstate.cli.report.inspect_table" in modules
    assert not modules & set(HEAVY)


@pytest.fixture
def sequence(tmp_path: Path) -> Path:
    """A sequence for the cells of the samples, [time, width]."""
    np.save(tmp_path / "x.npy", np.ones((5, 3), "f4"))
    return tmp_path / "x.npy"


FOREIGN = {*HEAVY, "torch", "onnx", "onnxruntime", "jax"}


def test_run_imports_no_deep_learning_library(sequence: Path) -> None:
    """And only those of its own modules that an npz or a document needs; one process runs all."""
    script = "import sys; from lstmstate.cli import execute as run\n"
    for sample in ("peephole_tuple", "bidirectional", "saved_model"):
        command = ["run", "-q", str(SAMPLES / sample), str(sequence)]
        target = str(sequence.with_name(f"{sample}.npz"))
        script += (
            f"assert run({[*command, '-o', target]!r}) == run({[*command, '--json']!r}) == 0\n"
        )
    modules = imported_by(script)
    assert len(list(sequence.parent.glob("*.npz"))) == 3
    assert not modules & {*FOREIGN, "rich", "h5py", "lstmstate.operations.verify"}


def test_tables_and_hdf5_import_only_their_libraries(sequence: Path) -> None:
    modules = inspecting("run", "-q", str(SAMPLES / "block_cell"), str(sequence))
    assert not modules & {*FOREIGN, "rich", "h5py"}  # stdout is not a terminal
    target = str(sequence.with_name("y.h5"))
    modules = inspecting("run", "-q", str(SAMPLES / "block_cell"), str(sequence), "-o", target)
    assert "h5py" in modules
    assert not modules & {*FOREIGN, "rich"}


def test_python_runs_cells_with_numpy_alone(sequence: Path) -> None:
    script = (
        "import sys, lstmstate; ckpt = lstmstate.open_checkpoint(sys.argv[1]);"
        "ckpt.network().run([[1.0, 2.0, 3.0]])"
    )
    modules = imported_by(script, str(SAMPLES / "peephole_flat"))
    assert "lstmstate.engines.numpy_engine" in modules
    assert not modules & {*FOREIGN, "rich", "h5py", "click"}


def test_this_check_can_fail() -> None:
    """A script that does import one of the heavy modules is detected in the same way."""
    assert "google.protobuf" in imported_by("import google.protobuf")


def test_json_needs_neither_numpy_nor_rich() -> None:
    modules = inspecting("inspect", "-q", "--json", str(SAMPLES / "sunspots"))
    assert not modules & {"numpy", "rich", "h5py", "cramjam"}


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_inspect_needs_no_typing(options: list[str]) -> None:
    assert "typing" not in inspecting("inspect", *options, str(SAMPLES / "sunspots"))


def test_help_imports_nothing_but_click() -> None:
    modules = inspecting("--help")
    assert not modules & {
        "numpy",
        "rich",
        "h5py",
        "lstmstate.model.checkpoint",
        "lstmstate.checkpoint",
    }


def test_importing_the_package_imports_no_part_of_it() -> None:
    modules = imported_by("import lstmstate")
    assert {name for name in modules if name.startswith("lstmstate.")} == set()


def test_lower_packages_never_import_upper_ones() -> None:
    """Files → checkpoints → cells → states → engines → models → operations → commands."""
    rooms = [
        ("errors", "arguments", "limits", "named_tuple", "type_names", "value_stats"),
        ("files",),
        ("checkpoint",),
        ("graph", "cells"),
        ("recurrence",),
        ("state", "engines"),
        ("model",),
        ("operations",),
        ("cli",),
    ]
    package = SAMPLES.parent / "lstmstate"
    for floor, here in enumerate(rooms):
        above = [room for upper in rooms[floor + 1 :] for room in upper]
        above += [
            room
            for room in here
            if room not in ("errors", "arguments", "named_tuple", "type_names", "value_stats")
        ]
        for room in here:
            home = package / room
            files = list(home.rglob("*.py")) if home.is_dir() else [home.with_suffix(".py")]
            assert files
            for file in files:
                text = file.read_text(encoding="utf-8")
                for upper in above:
                    imports = re.search(rf"(from|import) lstmstate\.{upper}\b", text)
                    assert upper == room or imports is None, f"{file.name} imports {upper}"
