"""Results of runs: files in every format, written as the sequence is run."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import google_crc32c
import h5py
import numpy as np
import pytest
from builders import FLOAT, BundleBuilder
from commands import PROJECT, lstm_cell, numbers
from hypothesis import given, settings
from hypothesis import strategies as st
from results import (
    KINDS,
    META,
    Arrays,
    fill,
    planned,
    random_array,
    read,
    results_of,
    same,
    steady,
    writing,
    written,
)
from states import Array
from work import little_memory

from lstmstate import LSTMState, LstmstateError, load_state
from lstmstate.files.atomic import Outputs
from lstmstate.state.formats.array_writer import PlannedArray, header_bytes, open_writer
from lstmstate.state.formats.registry import BY_KEY
from lstmstate.state.metadata import Metadata


@st.composite
def any_arrays(draw: st.DrawFn) -> dict[str, tuple[Array, int | None]]:
    """Draw arrays of some steps, along any axis, and complete arrays, in any order."""
    steps = draw(st.integers(1, 9))
    arrays: dict[str, tuple[Array, int | None]] = {}
    for number in range(draw(st.integers(1, 5))):
        sizes = draw(st.lists(st.integers(0, 3) | st.just(1), min_size=1, max_size=3))
        axis = draw(st.none() | st.integers(0, len(sizes) - 1))
        if axis is not None:
            sizes[axis] = steps
        dtype = draw(st.sampled_from(["float32", "float64", "float16"]))
        arrays[f"{'a/' * (number % 2)}{number}"] = random_array(*sizes, dtype=dtype), axis
    return arrays


@pytest.mark.parametrize("kind", KINDS)
def test_any_division_into_parts_gives_the_same_file(kind: str) -> None:
    @settings(steady, max_examples=60)
    @given(any_arrays(), st.integers(1, 9), st.booleans())
    def check(arrays: Arrays, parts: int, late: bool) -> None:
        with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
            patch.setattr("lstmstate.state.formats.hdf5_writer._CHUNK_BYTES", 64)
            suffix = kind.partition(",")[0]
            one = written(Path(folder) / f"a.{suffix}", kind, arrays, 9)
            other = written(Path(folder) / f"b.{suffix}", kind, arrays, parts, late=late)
            same(read(one), arrays)
            same(read(other), arrays)
            assert "npz" not in kind or one.read_bytes() == other.read_bytes()
            assert sorted(os.listdir(folder)) == [one.name, other.name]

    check()


@settings(steady, max_examples=60)
@given(
    st.lists(st.integers(0, 3) | st.just(1), max_size=2),
    st.lists(st.integers(0, 3), max_size=1),
    st.integers(1, 9),
    st.integers(1, 9),
)
def test_an_npy_grows_along_any_axis(
    lead: list[int], width: list[int], steps: int, parts: int
) -> None:
    array = random_array(*lead, steps, *width)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.npy"
        found = written(path, "npy", {"outputs": (array, len(lead))}, parts)
        same(read(found), {"outputs": (array, None)})
        header = found.stat().st_size - array.nbytes
        assert header % 64 == 0
        assert found.read_bytes()[header:] == array.tobytes()


@pytest.mark.parametrize("parts", [1, 4, 10])
@pytest.mark.parametrize("kind", ["h5", "npz"])
def test_the_bytes_do_not_depend_on_time_or_parts(tmp_path: Path, kind: str, parts: int) -> None:
    arrays = results_of(3, 10)
    one = written(tmp_path / f"a.{kind}", kind, arrays, 10).read_bytes()
    time.sleep(1.1 if parts == 1 else 0)  # HDF5 keeps times in seconds
    assert written(tmp_path / f"b.{kind}", kind, arrays, parts).read_bytes() == one


# ---- content of the file


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [None, 1, 3])
def test_the_state_is_read_back_with_its_names(
    tmp_path: Path, kind: str, batch: int | None
) -> None:
    arrays = results_of(batch, 7)
    path = written(tmp_path / f"a.{kind.partition(',')[0]}", kind, arrays)
    same(read(path), arrays)
    state = load_state(path)
    assert isinstance(state, LSTMState)
    assert (state.cell, state.c.shape) == ("rnn/lstm_cell", (batch or 1, 4))
    assert np.array_equal(state.m, arrays["m"][0])


@pytest.mark.parametrize("kind", KINDS[:2])
def test_members_of_an_npz_are_in_the_planned_order(tmp_path: Path, kind: str) -> None:
    arrays = dict(reversed(results_of(2, 7).items()))
    with zipfile.ZipFile(written(tmp_path / "a.npz", kind, arrays)) as archive:
        members = archive.infolist()
        assert archive.testzip() is None
    assert [member.filename for member in members] == [
        *["m.npy", "c.npy", "steps/c.npy", "outputs.npy", "lstmstate.npy"]
    ]
    assert {member.date_time for member in members} == {(1980, 1, 1, 0, 0, 0)}
    assert {member.compress_type == zipfile.ZIP_DEFLATED for member in members} == {"," in kind}


def test_metadata_of_a_state_may_be_left_out(tmp_path: Path) -> None:
    arrays = results_of(2, 4)
    for kind in ("npz", "h5"):
        target = str(tmp_path / f"a.{kind}")
        with Outputs() as outputs:
            opened = open_writer(outputs, target, BY_KEY[kind], planned(arrays), None)
            with opened as results:
                fill(results, arrays, 3)
        same(read(Path(target)), arrays)
    with np.load(tmp_path / "a.npz") as found:
        assert "lstmstate" not in found.files
    with h5py.File(tmp_path / "a.h5") as file:
        assert not file.attrs


def test_chunks_of_an_h5_have_few_steps_and_are_compressed_once(tmp_path: Path) -> None:
    arrays = {
        "long": (np.zeros((4, 20_000, 50), "f4"), 1),
        "wide": (np.zeros((700, 3, 1000), "f4"), 1),
    }
    with writing(tmp_path / "a.h5", "h5, compressed", arrays) as results:
        fill(results, {"long": arrays["long"]}, 777)
        fill(results, {"wide": arrays["wide"]}, 1)
    with h5py.File(tmp_path / "a.h5") as file:
        for name in arrays:
            chunks = file[name].chunks
            assert 1 << 18 < 4 * np.prod(chunks) <= 1 << 20
            assert file[name].compression == "gzip"
        assert file["long"].chunks == (4, 1310, 50)
        assert file["wide"].chunks[1] == 1
    assert (tmp_path / "a.h5").stat().st_size < 60_000  # no space is wasted by data written before


# ---- temporary data


@contextmanager
def no_spool() -> Iterator[None]:
    """Prevent unnamed temporary files."""

    def fail(**_: object) -> None:
        raise AssertionError("a nameless file was made")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "TemporaryFile", fail)
        yield


@pytest.mark.parametrize("kind", ["npz", "h5"])
@pytest.mark.parametrize("batch", [None, 1, 3])
def test_a_single_span_needs_no_temporary_file(
    tmp_path: Path, kind: str, batch: int | None
) -> None:
    with no_spool():
        written(tmp_path / f"a.{kind}", kind, results_of(batch, 7), 7)


@pytest.mark.parametrize("name", ["a.npz", "a.npy", "a.h5"])
@pytest.mark.parametrize("batch", [None, 1])
def test_outputs_of_one_sequence_need_no_temporary_file(
    tmp_path: Path, name: str, batch: int | None
) -> None:
    arrays = results_of(batch, 7)
    del arrays["steps/c"]
    if name == "a.npy":
        arrays = {"outputs": arrays["outputs"]}
    with no_spool():
        written(tmp_path / name, name[2:], arrays, 2)


def test_this_check_can_fail(tmp_path: Path) -> None:
    with no_spool(), pytest.raises(AssertionError, match="a nameless file was made"):
        written(tmp_path / "a.npz", "npz", results_of(3, 7), 2)


def test_temporary_data_is_next_to_the_target_and_unnamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []
    plain = tempfile.TemporaryFile

    def noted(**how: Any) -> Any:
        made.append(how["dir"])
        return plain(**how)

    monkeypatch.setattr(tempfile, "TemporaryFile", noted)
    arrays = results_of(3, 7)
    with writing(tmp_path / "a.npz", "npz", arrays) as results:
        results.write("outputs", 0, arrays["outputs"][0][:, :2])
        assert made == [str(tmp_path)]
        assert len(os.listdir(tmp_path)) == 1
        results.write("outputs", 2, arrays["outputs"][0][:, 2:])
        fill(results, {name: arrays[name] for name in ("steps/c", "c", "m")}, 7)
    assert os.listdir(tmp_path) == ["a.npz"]


@pytest.mark.covering(1)
@pytest.mark.parametrize("kind", [*KINDS, "npy"])
@pytest.mark.parametrize("axis", [0, 1])
def test_memory_does_not_grow_with_the_steps(tmp_path: Path, kind: str, axis: int) -> None:
    steps, width = 4_000, 250
    shape = (steps, 4, width) if axis == 0 else (4, steps, width)
    names = ["outputs"] if kind == "npy" else ["outputs", "c"]
    plans = [PlannedArray(name, shape, np.dtype("f4"), axis) for name in names]
    key, _, compressed = kind.partition(", ")
    part = random_array(*(100 if size == steps else size for size in shape))
    target = str(tmp_path / f"a.{key}")
    with Outputs() as outputs:
        opened = open_writer(outputs, target, BY_KEY[key], plans, None, compress=bool(compressed))
        with opened as results:
            with little_memory(8):
                for start in range(0, steps, 100):
                    for name in names:
                        results.write(name, start, part)
                results.finish()
            results.finish = lambda: None  # type: ignore[method-assign]
    assert len(names) * 16 * steps * width / 1.9 > 8 << 20


# ---- cost


def test_importing_the_module_imports_nothing_heavy() -> None:
    script = "import sys, lstmstate.state.formats.array_writer; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=PROJECT, check=True
    )
    assert not {"numpy", "h5py", "zipfile"} & set(done.stdout.split())


# ---- streaming of large states, in memory that does not grow with them


MIB = 1 << 20
LARGE = 208 * MIB  # twice the memory limit of a process
MOST = 100 * MIB
WIDTH = 512

# The peak of one process alone: the figure of wait4 for a child includes its parent's pages.
MEASURED = """
import sys
from lstmstate.cli import execute as run
code = run(sys.argv[1:])
status = open("/proc/self/status").read().split()
print(int(status[status.index("VmHWM:") + 1]) * 1024, file=sys.stderr)
sys.exit(code)
"""


def peak(*arguments: str | Path, code: int = 0) -> int:
    """Run a command in its own process; return its peak memory in bytes."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return int(done.stderr.splitlines()[-1])


def sparse(path: Path, shape: tuple[int, ...]) -> Path:
    """Write an npy of zeros that takes no disk space."""
    header = header_bytes(shape, np.dtype("f4"), None)
    path.write_bytes(header)
    os.truncate(path, len(header) + 4 * int(np.prod(shape)))
    return path


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A flat state of many rows."""
    return sparse(tmp_path / "flat.npy", (LARGE // 4 // WIDTH, WIDTH))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux reports the peak")
class TestMemory:
    """The peak memory of a process."""

    def test_the_measurement_detects_an_array_in_memory(self, large: Path) -> None:
        script = f"import numpy; numpy.load({str(large)!r}).sum()\n{MEASURED}"
        done = subprocess.run(
            [sys.executable, "-c", script, "--version"],
            capture_output=True,
            text=True,
            cwd=PROJECT,
            check=True,
        )
        assert int(done.stderr) > LARGE > MOST

    @pytest.mark.parametrize("name", ["out.npz", "out.h5", "out.ckpt"])
    def test_convert(self, large: Path, name: str) -> None:
        target = large.with_name(name)
        assert peak("convert", "-q", large, "--to-tuple", "-o", target) < MOST
        file = large.with_name("out.ckpt.data-00000-of-00001") if name == "out.ckpt" else target
        assert LARGE <= file.stat().st_size < LARGE + MIB
        large.unlink()
        file.unlink()

    def test_split_and_concat(self, large: Path) -> None:
        halves = large.with_name("c.npy"), large.with_name("m.npy")
        assert peak("split", "-q", large, "-o", *halves) < MOST
        large.unlink()
        assert peak("concat", *halves, "-o", large) < MOST
        assert large.stat().st_size > LARGE
        for file in (*halves, large):
            file.unlink()

    def test_another_precision_and_compression(self, large: Path) -> None:
        target = large.with_name("out.npz")
        options = ["--dtype", "float16", "--compress"]
        assert peak("convert", "-q", large, "--to", "torch", *options, "-o", target) < MOST
        assert target.stat().st_size < MIB

    def test_hdf5_input(self, tmp_path: Path) -> None:
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)  # the file has room for them, with holes
        plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        with h5py.File(tmp_path / "state.h5", "w") as file:
            for name in "cm":
                file.create_dataset(name, (LARGE // 4 // WIDTH, WIDTH // 2), "f4", dcpl=plan)
        target = tmp_path / "flat.npy"
        assert peak("convert", "-q", tmp_path / "state.h5", "--to-flat", "-o", target) < MOST
        assert target.stat().st_size > LARGE
        target.unlink()

    def test_along_the_axis_that_is_long(self, tmp_path: Path) -> None:
        """Two steps of a large batch: a single row of the first axis is half of the file."""
        source = sparse(tmp_path / "steps.npy", (2, LARGE // 8 // WIDTH, WIDTH))
        target = tmp_path / "out.h5"
        command = ["convert", "-q", source, "--from", "flat", "--to", "keras", "-o", target]
        assert peak(*command) < MOST
        assert target.stat().st_size > LARGE
        target.unlink()

    def test_diff(self, tmp_path: Path) -> None:
        """The two files together exceed the memory limit of a process."""
        a, b = (sparse(tmp_path / f"{k}.npy", (LARGE // 8 // WIDTH, WIDTH)) for k in "ab")
        with b.open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"\x40")
        assert peak("diff", "-q", a, b, code=1) < MOST

    def test_check(self, large: Path) -> None:
        assert peak("check", large, "--finite", "--max-abs-m", "1") < MOST

    def test_a_state_in_a_checkpoint_with_a_large_tensor(self, tmp_path: Path) -> None:
        """Tensors that are only copied are never loaded."""
        bundle = BundleBuilder()
        for name, value in (lstm_cell() | {"saved_state": numbers(2, 8)}).items():
            bundle.add(name, value)
        crc, zeros = 0, bytes(16 * MIB)
        for _ in range(LARGE // len(zeros)):
            crc = google_crc32c.extend(crc, zeros)
        offset = len(bundle.data[0])
        crc = ((crc >> 15 | crc << 17) + 0xA282EAD8) % (1 << 32)
        place = {"offset": offset, "size": LARGE, "crc": crc}
        bundle.entry("embedding", dtype=FLOAT, shape=(LARGE // 4 // WIDTH, WIDTH), **place)
        bundle.write(tmp_path / "in.ckpt")
        os.truncate(tmp_path / "in.ckpt.data-00000-of-00001", offset + LARGE)
        target = tmp_path / "out.ckpt"
        assert peak("convert", "-q", tmp_path / "in.ckpt", "--to-tuple", "-o", target) < MOST
        data = tmp_path / "out.ckpt.data-00000-of-00001"
        assert data.stat().st_size == offset + LARGE
        data.unlink()


# ---- results that are complete or absent after any interruption


class Stop(BaseException):
    """Not an Exception, like KeyboardInterrupt."""


@pytest.mark.parametrize("error", [Stop, LstmstateError, OSError, ValueError])
@pytest.mark.parametrize("kind", [*KINDS, "npy"])
@pytest.mark.parametrize("rows", [0, 1, 4])
def test_an_error_between_two_parts_leaves_no_file(
    tmp_path: Path, kind: str, error: type[BaseException], rows: int
) -> None:
    """It reaches the caller unchanged, since it is not a write error."""
    arrays = results_of(3, 7)
    if kind == "npy":
        arrays = {"outputs": arrays["outputs"]}
    with (
        pytest.raises(error, match="^of the cell$"),
        writing(tmp_path / "a", kind, arrays) as results,
    ):
        for name, (array, _) in arrays.items():
            if rows and name in ("outputs", "steps/c"):
                results.write(name, 0, array[:, :rows])
        raise error("of the cell")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("kind", KINDS)
def test_incomplete_results_do_not_appear(tmp_path: Path, kind: str) -> None:
    arrays = results_of(3, 7)
    with (
        pytest.raises(AssertionError, match=r"not all there: \['outputs', 'c', 'm'\]"),
        writing(tmp_path / "a", kind, arrays) as results,
    ):
        results.write("outputs", 0, arrays["outputs"][0][:, :6])
        fill(results, {"steps/c": arrays["steps/c"]}, 2)
    assert os.listdir(tmp_path) == []


def test_rows_out_of_order_or_of_another_shape_are_an_error(tmp_path: Path) -> None:
    arrays = results_of(3, 7)
    outputs = arrays["outputs"][0]
    for name, start, array in [
        ("outputs", 1, outputs[:, 1:]),
        ("outputs", 0, outputs[:2]),
        ("outputs", 0, np.concatenate([outputs, outputs], 1)),
        ("outputs", 0, outputs.astype("f8")),
        ("c", 0, arrays["c"][0]),
    ]:
        with pytest.raises(AssertionError), writing(tmp_path / "a", "npz", arrays) as results:
            results.write(name, start, array)
    assert os.listdir(tmp_path) == []


def test_files_that_cannot_contain_the_results_are_refused(tmp_path: Path) -> None:
    arrays = results_of(1, 3)
    with (
        pytest.raises(LstmstateError, match=r"a\.npy: an .npy file holds one array, and these"),
        writing(tmp_path / "a.npy", "npy", arrays),
    ):
        pass
    for kind in ("csv", "pkl", "ckpt"):
        with (
            pytest.raises(
                LstmstateError,
                match="has no place for the arrays of a run; end the",
            ),
            writing(tmp_path / "a", kind, arrays),
        ):
            pass
    many = Metadata("tuple", META.cells * 2000, True)
    with (
        pytest.raises(LstmstateError, match=r"a\.h5: an HDF5 file has no room for the names"),
        Outputs() as outputs,
        open_writer(outputs, str(tmp_path / "a.h5"), BY_KEY["h5"], planned(arrays), many),
    ):
        pass
    assert os.listdir(tmp_path) == []


TO_STDOUT = """
import sys
import numpy as np
from lstmstate.files.atomic import Outputs
from lstmstate.state.formats.array_writer import PlannedArray, open_writer
from lstmstate.state.formats.registry import BY_KEY
array = np.arange(24.0).reshape(2, 6, 2)
plans = [PlannedArray("outputs", array.shape, array.dtype, 1)]
with Outputs() as outputs:
    with open_writer(outputs, "-", BY_KEY[sys.argv[1]], plans, None) as found:
        for start in range(0, 6, 2):
            found.write("outputs", start, array[:, start : start + 2])
"""


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_results_are_written_to_stdout(tmp_path: Path, kind: str) -> None:
    with (tmp_path / f"a.{kind}").open("wb") as stdout:
        subprocess.run(
            [sys.executable, "-c", TO_STDOUT, kind],
            stdout=stdout,
            env=os.environ | {"TMPDIR": str(tmp_path)},
            cwd=PROJECT,
            check=True,
        )
    expected = np.arange(24.0).reshape(2, 6, 2)
    same(read(tmp_path / f"a.{kind}"), {"outputs": (expected, 1)})
    assert os.listdir(tmp_path) == [f"a.{kind}"]
