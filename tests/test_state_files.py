"""State files in every format: round trips, and damage."""

from __future__ import annotations

import os
import pickle
import random
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pytest
from builders import BFLOAT16, BundleBuilder
from hypothesis import given, settings
from hypothesis import strategies as st
from states import (
    DTYPES,
    LEADS,
    Array,
    cells_of,
    converted,
    fits,
    reading,
    same,
    same_values,
    state_of,
    states,
    structure,
)
from work import little_memory

from lstmstate import LSTMState, LstmstateError, UnsupportedError, load_state, save_state
from lstmstate.errors import CorruptError
from lstmstate.state import state_stream
from lstmstate.state.formats import registry
from lstmstate.state.layouts import LAYOUTS, to_arrays
from lstmstate.state.state import State

pytestmark = pytest.mark.filterwarnings("ignore:.*(cut in half|is read as layered):UserWarning")

steady = settings(derandomize=True, deadline=None, max_examples=40)


class Kind(NamedTuple):
    suffix: str
    compress: bool = False


KINDS = {
    "npy": Kind(".npy"),
    "npz": Kind(".npz"),
    "npz, compressed": Kind(".npz", True),
    "h5": Kind(".h5"),
    "h5, compressed": Kind(".h5", True),
    "csv": Kind(".csv"),
    "ckpt": Kind(".ckpt"),
    "safetensors": Kind(".safetensors"),
    "pt": Kind(".pt"),
}
MISSING = {
    "safetensors": ["complex128"],
    "pt": ["uint16", "uint32", "uint64"],
}


def has_room(kind: str, layout: str, state: State) -> bool:
    """Whether a file of a kind can contain a state in a layout."""
    if not fits(layout, state) or state.dtype in MISSING.get(kind, ()):
        return False
    arrays = to_arrays(LAYOUTS[layout], state).values()
    if kind == "npy":
        return len(arrays) == 1
    return kind != "csv" or all(array.ndim <= 2 and array.ndim > 0 for array in arrays)


def write(state: State, folder: str, kind: str, layout: str) -> Path:
    suffix, compress = KINDS[kind]
    target = Path(folder) / f"state{suffix}"
    if not compress:
        save_state(state, target, layout=layout)
        return target
    save_state(state, Path(folder) / "plain.h5")
    return converted(Path(folder) / "plain.h5", target, layout, compress=True)


def there_and_back(state: State, kind: str, layout: str, part_bytes: int) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(state_stream, "PART_BYTES", part_bytes)
        if not has_room(kind, layout, state):
            with pytest.raises(LstmstateError):
                write(state, folder, kind, layout)
            assert not {*os.listdir(folder)} - {"plain.h5"}
            return
        file = write(state, folder, kind, layout)
        same(load_state(file), state)
        found = reading(file)
        assert (found.structure, found.layout.name, found.notes) == (structure(state), layout, ())


PARTS = st.sampled_from([1, 64, 1 << 20])


def test_every_kind_of_file_is_tried_here() -> None:
    suffixes = {kind.suffix for kind in KINDS.values()}
    assert suffixes == {f".{row.key}" for row in registry.KINDS if row.writer}


@pytest.mark.parametrize("cells", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_round_trips_in_every_kind_of_file(layout: str, kind: str, cells: int) -> None:
    """Random states may miss a row that few of them fit, such as one without a batch."""
    lead = () if layout == "thinc" else (3,)
    state = state_of([(4, 4)] * cells, lead, stack=cells > 1, finite=True)
    assert fits(layout, state)
    assert has_room(kind, layout, state) or kind in ("npy", "csv")
    there_and_back(state, kind, layout, 64)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "csv"])
def test_a_state_is_read_back_to_the_bit_without_flags(kind: str) -> None:
    @steady
    @given(states(), st.sampled_from([*LAYOUTS]), PARTS)
    def check(state: State, layout: str, part_bytes: int) -> None:
        there_and_back(state, kind, layout, part_bytes)

    check()


@steady
@given(
    states(finite=True, leads=[lead for lead in LEADS if lead]), st.sampled_from([*LAYOUTS]), PARTS
)
def test_numbers_in_a_csv_are_read_back_to_the_bit(
    state: State, layout: str, part_bytes: int
) -> None:
    there_and_back(state, "csv", layout, part_bytes)


@pytest.mark.parametrize("layout", ["tuple", "flat", "keras"])
@pytest.mark.parametrize("stack", [False, True])
def test_a_state_without_a_batch_cannot_be_a_csv(layout: str, stack: bool, tmp_path: Path) -> None:
    state = state_of([(3, 2)], (), stack=stack, finite=True)
    with pytest.raises(LstmstateError, match="rows and columns"):
        save_state(state, tmp_path / "state.csv", layout=layout)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["tuple", "flat", "keras"])
def test_every_dtype_in_a_csv_is_read_back(dtype: str, layout: str) -> None:
    state = state_of([(5, 3), (4, 4)], (6,), dtype, finite=True)
    there_and_back(state, "csv", layout, 1 << 20)


def test_infinities_and_nan_in_a_csv_are_read_back() -> None:
    held = np.array([[np.inf, -np.inf, np.nan, -0.0]])
    with tempfile.TemporaryDirectory() as folder:
        save_state(LSTMState(held, held), f"{folder}/state.csv")
        found = load_state(f"{folder}/state.csv")
    assert str(cells_of(found)[0].c.tolist()) == "[[inf, -inf, nan, -0.0]]"


STRANGE = ["a,b", "a\tb", "a\nb", '"', "#a", " a ", "a//b", "/a", "a/", ".", "a/./b", "a/../b"]
STRANGE += ["a.b.1", "1", "ü", "a\0b", "\udcff", "x" * 300, "lstmstate", "c/c", "a\\b", "a:0", "m"]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not KINDS[kind].compress])
@pytest.mark.parametrize("name", STRANGE, ids=ascii)
def test_a_strange_name_of_a_cell_is_kept_or_refused(kind: str, name: str, tmp_path: Path) -> None:
    """If a file type changes a name, h must not be read as c afterwards."""
    state = state_of([(2, 2), (2, 2)], names=[name, "another"].__getitem__, finite=True)
    for layout in ("tuple", "keras", "flat"):
        file = tmp_path / layout / f"state{KINDS[kind].suffix}"
        file.parent.mkdir()
        try:
            save_state(state, file, layout=layout)
        except LstmstateError:
            assert os.listdir(file.parent) == []
        else:
            same(load_state(file), state)


@pytest.mark.parametrize("layout", ["tuple", "stacked", "keras"])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if not KINDS[kind].compress])
def test_a_cell_may_be_called_like_the_scope_of_another(
    kind: str, layout: str, tmp_path: Path
) -> None:
    """Unless a file has one array or table, or would need "a/c" as a group and as a dataset."""
    state = state_of([(2, 2)] * 2, names=["a", "a/c"].__getitem__, finite=True)
    file = tmp_path / f"state{KINDS[kind].suffix}"
    if kind == "npy" or (kind, layout) in (("csv", "stacked"), ("h5", "tuple"), ("h5", "keras")):
        with pytest.raises(LstmstateError):
            save_state(state, file, layout=layout)
        assert os.listdir(tmp_path) == []
    else:
        save_state(state, file, layout=layout)
        same(load_state(file), state)


def test_names_that_do_not_fit_the_header_of_an_npy_are_refused(tmp_path: Path) -> None:
    """NumPy reads headers of 10,000 characters."""
    name = "rnn/multi_rnn_cell/cell_{}/basic_lstm_cell".format
    state = state_of([(1, 1)] * 80, names=name)
    save_state(state, tmp_path / "state.npy", layout="flat")
    same(load_state(tmp_path / "state.npy"), state)
    with pytest.raises(UnsupportedError):
        save_state(state_of([(1, 1)] * 150, names=name), tmp_path / "other.npy", layout="flat")
    assert os.listdir(tmp_path) == ["state.npy"]


def test_an_npz_may_describe_thousands_of_cells(tmp_path: Path) -> None:
    name = "rnn/multi_rnn_cell/cell_{}/basic_lstm_cell".format
    state = state_of([(1, 1)] * 4000, (1,), names=name)
    save_state(state, tmp_path / "state.npz", layout="flat")
    same(load_state(tmp_path / "state.npz"), state)


# ---- other readers


STATE = state_of([(4, 4)] * 2, (3,), names="rnn/cell_{}".format, seed=4)
FLAT = to_arrays(LAYOUTS["flat"], STATE)["state"]


def equal(found: Any, expected: Array) -> None:
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    assert np.asarray(found).tobytes() == expected.tobytes()


@pytest.mark.parametrize("mapped", ["r", None])
def test_numpy_loads_an_npy(tmp_path: Path, mapped: Any) -> None:
    save_state(STATE, tmp_path / "a.npy", layout="flat")
    found = np.load(tmp_path / "a.npy", mmap_mode=mapped)
    assert isinstance(found, np.memmap) == bool(mapped)
    equal(found, FLAT)


@contextmanager
def other_reader(path: Path) -> Iterator[tuple[set[str], Callable[[str], Any]]]:
    """Open a file with NumPy, h5py or TensorFlow; yield its names, and a reader of an array."""
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as found:
            yield {*found}, found.__getitem__
    elif path.suffix == ".h5":
        with h5py.File(path) as file:
            yield {*file}, lambda name: file[name][...]
    else:
        import tensorflow as tf

        reader = tf.train.load_checkpoint(str(path))
        yield {*reader.get_variable_to_shape_map()}, reader.get_tensor
        assert tf.train.latest_checkpoint(str(path.parent)) == str(path)


@pytest.mark.parametrize("kind", ["npz", "npz, compressed", "h5", "h5, compressed", "ckpt"])
@pytest.mark.parametrize("layout", [name for name in LAYOUTS if fits(name, STATE)])
def test_other_libraries_read_every_array(tmp_path: Path, kind: str, layout: str) -> None:
    arrays = to_arrays(LAYOUTS[layout], STATE)
    with other_reader(write(STATE, str(tmp_path), kind, layout)) as (names, read):
        for name, array in arrays.items():
            equal(read(name), array)
        assert names == {*arrays, "lstmstate"} or "h5" in kind


def test_an_npz_is_compressed_when_asked(tmp_path: Path) -> None:
    for kind, method in (("npz", zipfile.ZIP_STORED), ("npz, compressed", zipfile.ZIP_DEFLATED)):
        folder = tmp_path / kind
        folder.mkdir()
        with zipfile.ZipFile(write(STATE, str(folder), kind, "tuple")) as archive:
            assert {member.compress_type for member in archive.infolist()} == {method}


@pytest.mark.parametrize("kind", ["h5", "h5, compressed"])
def test_an_h5_is_compressed_when_asked(tmp_path: Path, kind: str) -> None:
    with h5py.File(write(STATE, str(tmp_path), kind, "flat")) as found:
        assert found["state"].compression == ("gzip" if KINDS[kind].compress else None)


def test_a_pickle_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="a Python pickle is read, but not written; end the"):
        save_state(STATE, tmp_path / "state.pkl")
    assert not [*tmp_path.iterdir()]


# ---- the same bytes


def test_the_same_state_makes_the_same_bytes_at_another_time(tmp_path: Path) -> None:
    written: list[dict[str, bytes]] = []
    for _ in range(2):
        files = {}
        for kind in KINDS:
            folder = tmp_path / f"{kind} {len(written)}"
            folder.mkdir()
            write(state_of([(3, 3)], finite=True), str(folder), kind, "flat")
            files |= {f"{kind} {file.name}": file.read_bytes() for file in folder.iterdir()}
        if not written:
            time.sleep(1.1)  # HDF5 keeps times in seconds
        written.append(files)
    assert len(written[0]) == len(KINDS) + 4  # two plain.h5, three files of the checkpoint
    assert written[0] == written[1]


def test_members_of_an_npz_have_no_time(tmp_path: Path) -> None:
    with zipfile.ZipFile(write(STATE, str(tmp_path), "npz", "tuple")) as archive:
        times = {member.date_time for member in archive.infolist()}
    assert times == {(1980, 1, 1, 0, 0, 0)}


# ---- conversions between files


@steady
@given(
    states(dtypes=DTYPES[:4]),
    st.permutations(["npz", "h5", "ckpt", "safetensors", "pt"]),
    PARTS,
    st.data(),
)
def test_conversions_through_many_files_lose_nothing(
    state: State, kinds: list[str], part_bytes: int, data: st.DataObject
) -> None:
    layouts = st.sampled_from([name for name in LAYOUTS if fits(name, state)])
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(state_stream, "PART_BYTES", part_bytes)
        at = Path(folder) / "start.npz"
        save_state(state, at, layout=data.draw(layouts))
        for kind in kinds:
            at = converted(at, Path(folder) / f"{kind}{KINDS[kind].suffix}", data.draw(layouts))
        same(load_state(at), state)


@pytest.mark.parametrize("kind", ["npz", "npy", "h5", "safetensors", "pt"])
@pytest.mark.parametrize("layout", ["flat", "layered"])
def test_bfloat16_of_a_checkpoint_round_trips(tmp_path: Path, kind: str, layout: str) -> None:
    """Every bit pattern; NumPy has no such dtype, and files store it as float32."""
    import tensorflow as tf

    patterns = np.arange(1 << 16, dtype=np.uint16)
    bundle = BundleBuilder()
    bundle.add("state", patterns.reshape(64, 1024), dtype=BFLOAT16)
    wider = converted(bundle.write(tmp_path / "a.ckpt"), tmp_path / f"b.{kind}", layout)
    half = load_state(wider)
    assert half.dtype == np.float32
    expected = (patterns.astype(np.uint32) << 16).reshape(64, 1024)
    assert to_arrays(LAYOUTS["flat"], half)["state"].tobytes() == expected.tobytes()
    back = tf.train.load_checkpoint(str(converted(wider, tmp_path / "c.ckpt", "flat")))
    assert back.get_variable_to_dtype_map()["state"] == tf.bfloat16
    equal(back.get_tensor("state").view(np.uint16), patterns.reshape(64, 1024))


# ---- arrays written by others


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", ">c16", ">i2"])
@pytest.mark.parametrize("part_bytes", [1, 1 << 20])
@pytest.mark.parametrize("kind", ["npy", "npz", "h5"])
def test_axis_and_byte_orders_do_not_matter(
    tmp_path: Path, order: Any, dtype: str, part_bytes: int, kind: str, monkeypatch: Any
) -> None:
    monkeypatch.setattr(state_stream, "PART_BYTES", part_bytes)
    flat = (np.arange(90) - 40).astype(dtype).reshape(3, 5, 6).copy(order)
    file = tmp_path / f"a.{kind}"
    if kind == "npy":
        np.save(file, flat)
    elif kind == "npz":
        np.savez(file, state=flat)
    else:
        with h5py.File(file, "w") as made:
            made["state"] = flat
    found = load_state(file)
    assert isinstance(found, LSTMState)
    assert (found.c.tolist(), found.m.tolist()) == (flat[..., :3].tolist(), flat[..., 3:].tolist())
    for target, layout in (("b.npz", "keras"), ("c.h5", "torch"), ("d.npy", "layered")):
        there = load_state(converted(file, tmp_path / target, layout))
        assert to_arrays(LAYOUTS["flat"], there)["state"].tolist() == flat.tolist()


@pytest.mark.parametrize("kind", ["npz", "h5"])
@pytest.mark.parametrize("slash", ["", "/"])
def test_a_name_after_the_path_selects_one_state(tmp_path: Path, kind: str, slash: str) -> None:
    encoder, decoder = (state_of([(4, 2)], stack=False, seed=seed) for seed in (1, 2))
    arrays = {}
    for name, state in (("encoder", encoder), ("decoder/rnn", decoder)):
        arrays |= {f"{name}/c": cells_of(state)[0].c, f"{name}/m": cells_of(state)[0].m}
    flat = np.arange(8.0).reshape(2, 4)
    file = str(tmp_path / f"a.{kind}")
    if kind == "npz":
        np.savez(file, flat=flat, **arrays)
    else:
        with h5py.File(file, "w") as made:
            for name, array in {"flat": flat, **arrays}.items():
                made[name] = array
    same_values(load_state(f"{file}:{slash}encoder"), encoder)
    same_values(load_state(f"{file}:{slash}decoder"), decoder)
    same_values(load_state(f"{file}:{slash}decoder/rnn"), decoder)
    assert cells_of(load_state(f"{file}:{slash}flat"))[0].m.tolist() == [[2, 3], [6, 7]]
    with pytest.raises(LstmstateError, match="there is no such array; there are: "):
        load_state(f"{file}:{slash}code")


def test_an_unknown_layout_names_the_nearest_or_all(tmp_path: Path) -> None:
    np.save(tmp_path / "s.npy", np.zeros((2, 8)))
    with pytest.raises(LstmstateError, match=r"there is no layout 'tupel'; did you mean tuple\?"):
        load_state(tmp_path / "s.npy", layout="tupel")
    with pytest.raises(LstmstateError, match="there is no layout 'zzz'; pass one of tuple, flat, "):
        load_state(tmp_path / "s.npy", layout="zzz")


# ---- damaged state files: an error or the right answer, no other exception, and little memory


MEGABYTES = 20  # for files of less than 10 KB
FLIPS = 150  # of each file
CHECKED = ("npz", "ckpt")  # every value has a checksum

DAMAGED_STATE = state_of([(3, 3), (3, 3)], names="rnn/cell_{}".format, finite=True, seed=3)


def bits(state: State) -> list[Any]:
    return [(half.dtype, half.shape, half.tobytes()) for cell in cells_of(state) for half in cell]


class Specimen:
    """A valid state file: the path to open, and the files that can be damaged."""

    def __init__(self, folder: Path, kind: str, layout: str) -> None:
        self.kind = kind
        self.path = folder / f"state.{kind}"
        self.layout = layout if kind == "pkl" else None  # which plain tuples do not record
        if kind == "pkl":
            self.path.write_bytes(
                pickle.dumps([(cell.c, cell.m) for cell in cells_of(DAMAGED_STATE)])
            )
        else:
            save_state(DAMAGED_STATE, self.path, layout=layout)
        found = sorted(folder.iterdir())
        self.files = [file for file in found if file.name != "checkpoint"]

    def outcome(self) -> str:
        """Return "right", "wrong" or "refused"; any other exception fails the test."""
        try:
            found = load_state(self.path, layout=self.layout)
        except LstmstateError as error:
            assert str(error)
            return "refused"
        return "right" if bits(found) == bits(DAMAGED_STATE) else "wrong"


SPECIMENS = [
    *[("npy", "flat"), ("npy", "layered"), ("npz", "tuple"), ("npz", "flat"), ("h5", "tuple")],
    *[("pkl", "tuple"), ("csv", "flat"), ("ckpt", "flat")],
]


@pytest.fixture
def specimen(tmp_path: Path, request: pytest.FixtureRequest) -> Specimen:
    return Specimen(tmp_path, *request.param)


everything = pytest.mark.parametrize("specimen", SPECIMENS, indirect=True, ids=" ".join)


@everything
def test_an_undamaged_file_is_read(specimen: Specimen) -> None:
    assert specimen.outcome() == "right"


def cut(whole: bytes, chance: random.Random, kind: str) -> Iterator[bytes]:
    step = 11 if kind == "h5" else 1  # mostly zeros, and slow to open
    return (whole[:size] for size in range(0, len(whole), step))


def flipped(whole: bytes, chance: random.Random, kind: str) -> Iterator[bytes]:
    for _ in range(FLIPS):
        damaged = bytearray(whole)
        damaged[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        yield bytes(damaged)


def lost(whole: bytes, chance: random.Random, kind: str) -> Iterator[bytes]:
    """As when a copy omits a block of a disk, or a tool changes line endings."""
    for _ in range(FLIPS // 6):
        start = chance.randrange(len(whole))
        yield whole[:start] + whole[start + chance.randrange(1, 64) :]


@everything
@pytest.mark.parametrize("damage", [cut, flipped, lost])
def test_damage_anywhere_is_an_error_or_changes_nothing(specimen: Specimen, damage: Any) -> None:
    """Unless a file has no checksums: then a value may be wrong."""
    chance = random.Random(f"{specimen.path.name}")
    found = set()
    with little_memory(MEGABYTES):
        for file in specimen.files:
            whole = file.read_bytes()
            for damaged in damage(whole, chance, specimen.kind):
                file.write_bytes(damaged)
                found.add(specimen.outcome())
            file.write_bytes(whole)
    assert damage is lost or "refused" in found
    assert "wrong" not in found or specimen.kind not in CHECKED
    if damage is cut:
        assert "wrong" not in found or specimen.kind in ("csv", "pkl")
        assert found == {"refused"} or specimen.kind in ("csv", "pkl", "h5")


@pytest.mark.parametrize("specimen", [("npz", "flat")], indirect=True, ids=" ".join)
def test_a_bit_flipped_in_the_directory_of_an_archive(specimen: Specimen) -> None:
    """No checksum covers it; the lost member may be the one with the widths."""
    whole = specimen.path.read_bytes()
    found = set()
    for at in range(whole.index(b"PK\x01\x02"), len(whole)):
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[at] ^= 1 << bit
            specimen.path.write_bytes(damaged)
            found.add(specimen.outcome())
    assert found == {"right", "refused"}


METHODS = {
    "stored": zipfile.ZIP_STORED,
    "deflated": zipfile.ZIP_DEFLATED,
}


@pytest.mark.parametrize("method", METHODS)
def test_damage_far_behind_the_header_of_a_member(tmp_path: Path, method: str) -> None:
    """Members of more than one block in any method, so that they can be opened."""
    values = np.random.default_rng(0).random((40_000, 4))
    path = tmp_path / "state.npz"
    with zipfile.ZipFile(path, "w", METHODS[method]) as archive:
        for name in "cm":
            with archive.open(f"{name}.npy", "w") as member:
                np.save(member, values)
    assert load_state(path).batch_shape == (40_000,)
    whole = path.read_bytes()
    for part in (0.3, 0.45, 0.9):
        start = int(len(whole) * part)
        path.write_bytes(whole[:start] + bytes(500) + whole[start + 500 :])
        with pytest.raises(CorruptError):
            load_state(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_members_that_numpy_never_writes_are_not_unpacked(tmp_path: Path, method: int) -> None:
    path = tmp_path / "state.npz"
    with zipfile.ZipFile(path, "w", method) as archive, archive.open("c.npy", "w") as member:
        np.save(member, np.ones((2, 3)))
    with pytest.raises(LstmstateError, match="packed in a way that NumPy does not write"):
        load_state(path)


@pytest.mark.parametrize("rows", [2, 2000])
def test_damaged_values_are_reported_with_file_and_array(tmp_path: Path, rows: int) -> None:
    """Whether it is found when the file is opened, or when the values are read."""
    path = tmp_path / "state.npz"
    np.savez(path, c=np.ones((rows, 3)), m=np.ones((rows, 3)))
    data = bytearray(path.read_bytes())
    data[data.index(b"m.npy") - 40] ^= 1  # among the last values of c
    path.write_bytes(data)
    with pytest.raises(CorruptError) as raised:
        load_state(path)
    assert str(raised.value).startswith(f"{path}: c: ")


def test_a_member_declared_longer_than_the_file(tmp_path: Path) -> None:
    """Three gigabytes, both stored and declared: less than a zip bomb."""
    path = tmp_path / "state.npz"
    np.savez(path, state=np.zeros((2, 8), "f4"))
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\x01\x02")
    huge = (3 << 30).to_bytes(4, "little")
    data[at + 20 : at + 28] = huge * 2
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (100000000, 8), }"
    start = data.index(b"{'descr'")
    data[start : start + len(header)] = header
    path.write_bytes(data)
    with little_memory(MEGABYTES), pytest.raises(LstmstateError):
        load_state(path)
