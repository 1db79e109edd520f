"""safetensors files: read and written to the bit, and nothing believed of their headers."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Shell
from states import state_of
from work import little_memory

from lstmstate import convert, load_state, save_state
from lstmstate.errors import CorruptError, LstmstateError, UnsupportedError

pytestmark = pytest.mark.memory(20)

ENTRY = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
PAIR = {"c": ENTRY, "h": {**ENTRY, "data_offsets": [24, 48]}}


def put(path: Path, header: Any, data: bytes = bytes(48), *, length: int | None = None) -> Path:
    """Write a file with a header of any kind; its length is right unless given."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def test_states_are_read_by_the_names_of_their_tensors(tmp_path: Path) -> None:
    values = np.arange(12, dtype="<f4").reshape(2, 2, 3)
    found = load_state(put(tmp_path / "a.safetensors", PAIR, values.tobytes()))
    assert [half.tolist() for half in found.cells[0]] == values.tolist()


@pytest.mark.filterwarnings("ignore:.*holds NaN:UserWarning")
def test_bfloat16_is_read_as_float32_and_written_as_it_was(tmp_path: Path) -> None:
    entry = {"dtype": "BF16", "shape": [1, 2]}
    header = {
        "c": {**entry, "data_offsets": [0, 4]},
        "h": {**entry, "data_offsets": [4, 8]},
    }
    values = struct.pack("<4H", 0x3F80, 0xBF81, 0x7F81, 0x8000)  # 1, -1.0078125, a NaN, -0
    source = put(tmp_path / "a.safetensors", header, values)
    c, m = load_state(source).cells[0]
    assert (c.dtype, c.tolist()) == (np.float32, [[1, -1.0078125]])
    assert m.view(np.uint32).tolist() == [[0x7F810000, 0x80000000]]
    for number, kind in enumerate(("safetensors", "pt", "npz", "ckpt", "safetensors")):
        target = tmp_path / f"{number}.{kind}"
        convert(source, target, layout="tuple")
        source = target
    written = source.read_bytes()
    assert written.endswith(values)
    assert b'"BF16"' in written


@pytest.mark.parametrize("length", [0x280, 0x380, 0x580, 0x8B1F, 0x4B50])
def test_a_length_that_begins_like_another_kind_is_a_length(tmp_path: Path, length: int) -> None:
    """The first bytes are those of a pickle, a gzip file or a zip archive."""
    header = json.dumps(PAIR).encode().ljust(length)
    values = np.arange(12, dtype="<f4")
    found = load_state(put(tmp_path / "a.safetensors", header, values.tobytes()))
    assert found.flat().size == 12


def test_files_are_aligned_and_have_the_record_of_the_state(tmp_path: Path) -> None:
    state = state_of([(3, 2), (2, 2)], names=lambda number: f"rnn/cell_{number}")
    path = tmp_path / "a.safetensors"
    save_state(state, path)
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    assert length % 8 == 0
    assert json.loads(header.pop("__metadata__")["lstmstate"])["layout"] == "tuple"
    assert header["rnn/cell_0/m"] == {"dtype": "F32", "shape": [2, 2], "data_offsets": [24, 40]}
    again = load_state(path)
    assert [cell.cell for cell in again.cells] == ["rnn/cell_0", "rnn/cell_1"]
    save_state(again, tmp_path / "b.safetensors")
    assert (tmp_path / "b.safetensors").read_bytes() == data


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64", "uint8", "complex64"])
def test_the_library_reads_and_writes_the_same(tmp_path: Path, dtype: str) -> None:
    library = pytest.importorskip("safetensors.numpy")
    state = state_of([(3, 2), (2, 2)], (4,), dtype, names=lambda number: f"{number}")
    save_state(state, tmp_path / "ours.safetensors")
    arrays = library.load_file(tmp_path / "ours.safetensors")
    for cell in state.cells:
        for half, values in zip("cm", cell, strict=True):
            assert arrays[f"{cell.cell}/{half}"].tobytes() == values.tobytes()
    library.save_file(arrays, tmp_path / "theirs.safetensors")
    again = load_state(tmp_path / "theirs.safetensors")
    for one, other in zip(again.cells, state.cells, strict=True):
        assert [half.tobytes() for half in one] == [half.tobytes() for half in other]


def test_dtypes_that_it_does_not_have_are_refused(tmp_path: Path) -> None:
    state = state_of([(2, 2)], dtype="complex128")
    with pytest.raises(UnsupportedError, match="safetensors has no dtype complex128"):
        save_state(state, tmp_path / "a.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_weights_are_not_a_state(tmp_path: Path) -> None:
    header = {
        "lstm.weight_ih_l0": {"dtype": "F32", "shape": [4, 1], "data_offsets": [0, 16]},
        "lstm.weight_hh_l0": {"dtype": "F32", "shape": [4, 1], "data_offsets": [16, 32]},
        "norm.running_mean": {"dtype": "F32", "shape": [4, 1], "data_offsets": [32, 48]},
    }
    path = put(tmp_path / "model.safetensors", header)
    with pytest.raises(UnsupportedError, match="these are the weights of a PyTorch layer"):
        load_state(path)


def entry(**changes: Any) -> dict[str, Any]:
    return {"c": {**ENTRY, **changes}, "h": PAIR["h"]}


MAX = (1 << 64) - 1
FALSE: dict[str, tuple[Any, str]] = {
    "no JSON": (b"{" * 200, "not JSON"),
    "deep JSON": (b'{"c":' + b"[" * 100_000, "not JSON"),
    "not UTF-8": (b'{"\xff": 1}', "not JSON"),
    "half a character": (b'{"\\ud800": 1}', "object of names"),
    "a name twice": (b'{"c": {}, "c": {}}', "name twice"),
    "a key of an entry twice": (b'{"c": {"dtype": "F32", "dtype": "F32"}}', "name twice"),
    "an entry of nothing": ({"c": {}}, "no dtype, shape and two"),
    "an entry of more": (entry(more=1), "more than a dtype"),
    "an unknown dtype": (entry(dtype="F4"), "dtype F4 is not read"),
    "a dtype of a list": (entry(dtype=["F32"]), "no dtype"),
    "one offset": (entry(data_offsets=[0]), "two data_offsets"),
    "sizes that are floats": (entry(shape=[2.0, 3]), "not whole numbers"),
    "sizes that are true": (entry(shape=[True, 6]), "not whole numbers"),
    "sizes below zero": (entry(shape=[-2, -3]), "not whole numbers"),
    "sizes whose product wraps to 6": (entry(shape=[(1 << 63) + 3, 2]), "no array has"),
    "huge sizes of nothing": (entry(shape=[0, 1 << 62]), "no array has"),
    "a size of many digits": (b'{"c": {"shape": [%s]}}' % (b"9" * 10_000), "not JSON|no dtype"),
    "a hundred axes": (entry(shape=[1] * 100), "100 axes"),
    "a shape of fewer bytes": (entry(shape=[2, 2]), "declares 16 bytes"),
    "offsets the wrong way": (entry(shape=[0], data_offsets=[24, 0]), "declares 0 bytes"),
    "an end past the file": (entry(shape=[1 << 40], data_offsets=[0, 1 << 42]), "declares"),
    "a start past 2^64": (entry(data_offsets=[MAX, MAX + 24]), "declares"),
    "an overlap": (entry(data_offsets=[8, 32]), "overlap|hole"),
    "a hole": (entry(shape=[2, 2], data_offsets=[8, 24]), "leave a hole at byte 0"),
    "bytes at the end": ({"c": ENTRY}, "leave a hole at byte 24"),
    "metadata of numbers": ({**PAIR, "__metadata__": {"a": 1}}, "not texts by name"),
    "metadata of a list": ({**PAIR, "__metadata__": []}, "not texts by name"),
    "a record of ours that is none": ({**PAIR, "__metadata__": {"lstmstate": "{}"}}, "metadata"),
}


@pytest.mark.parametrize("case", FALSE)
def test_a_false_header(tmp_path: Path, case: str) -> None:
    header, words = FALSE[case]
    path = put(tmp_path / "a.safetensors", header)
    with pytest.raises((CorruptError, UnsupportedError), match=words) as raised:
        load_state(path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("length", [0, 1, 1 << 30, 1 << 63, MAX])
def test_a_false_length_of_the_header(tmp_path: Path, length: int) -> None:
    with pytest.raises(LstmstateError):
        load_state(put(tmp_path / "a.safetensors", PAIR, length=length))


@pytest.mark.memory(250)
def test_a_long_header_of_brackets_is_bounded(tmp_path: Path) -> None:
    brackets = b'{"c":[' + b"[]," * 500_000 + b"[]]}"
    with pytest.raises(CorruptError, match="no dtype"):
        load_state(put(tmp_path / "a.safetensors", brackets))
    with pytest.raises(UnsupportedError, match="more parts"):
        load_state(put(tmp_path / "b.safetensors", brackets.replace(b"]}", b"]," * 700_000)))
    with pytest.raises(UnsupportedError, match="too long"):
        load_state(put(tmp_path / "c.safetensors", b"{" + b" " * (17 << 20)))


def test_a_long_header_of_names_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    """Each takes 250 bytes of memory."""
    names = b"{%b}" % b",".join(b'"%d":1' % number for number in range(600_001))
    path = put(tmp_path / "a.safetensors", names)
    with little_memory(120), pytest.raises(UnsupportedError, match="more names"):
        load_state(path)


def test_files_cut_short_at_every_byte_are_refused(tmp_path: Path) -> None:
    whole = put(tmp_path / "a.safetensors", PAIR).read_bytes()
    for size in range(len(whole)):
        (tmp_path / "b.safetensors").write_bytes(whole[:size])
        with pytest.raises(LstmstateError):
            load_state(tmp_path / "b.safetensors")


def test_results_of_a_run_go_into_it_and_feed_another(shell: Shell, tmp_path: Path) -> None:
    ckpt = Path(__file__).parent.parent / "sample_checkpoints" / "v1_format"
    x = tmp_path / "x.npy"
    np.save(x, np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32))
    for kind in ("npz", "safetensors", "pt"):
        done = shell("run", ckpt, x, "-o", tmp_path / f"y.{kind}", "-q", "--assume-defaults")
        assert done.code == 0, done.err
        assert shell("diff", "--exact", tmp_path / "y.npz", tmp_path / f"y.{kind}").code == 0
        state = tmp_path / f"y.{kind}"
        again = shell("run", ckpt, f"{tmp_path}/y.{kind}:outputs", "--state", state, "-q")
        assert "[batch, time, 3]" in again.err  # the outputs are read, and are 8 wide
