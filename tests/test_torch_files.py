"""Files of torch.save: read and written without torch, and nothing of them unpickled."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Shell
from states import state_of
from work import few_lines

from lstmstate import LSTMState, convert, limits, load_state, save_state
from lstmstate.errors import CorruptError, LstmstateError, UnsupportedError
from lstmstate.files.atomic import Outputs
from lstmstate.files.reader import ByteSource
from lstmstate.state.formats.array_writer import PlannedArray, open_writer
from lstmstate.state.formats.registry import IN_ROWS, kind_to_write
from lstmstate.state.formats.torch_reader import open_file

try:
    import torch
except ImportError:  # it is large, and is tested if installed
    torch = None

pytestmark = pytest.mark.memory(20)
needs_torch = pytest.mark.skipif(torch is None, reason="torch is not installed")

Instructions = bytes


def text(value: str) -> Instructions:
    return b"X" + len(value).to_bytes(4, "little") + value.encode()


def whole(value: int) -> Instructions:
    return b"\x8a\x0a" + value.to_bytes(10, "little", signed=True)


def row(*items: Instructions) -> Instructions:
    return b"(" + b"".join(items) + b"t"


def table(**items: Instructions) -> Instructions:
    return b"}(" + b"".join(text(key) + item for key, item in items.items()) + b"u"


def tensor(
    *shape: int,
    strides: tuple[int, ...] | None = None,
    key: str = "0",
    kind: str = "FloatStorage",
    count: int = 6,
    offset: int = 0,
) -> Instructions:
    steps = strides or tuple(int(np.prod(shape[at + 1 :])) for at in range(len(shape)))
    place = row(text("storage"), f"ctorch\n{kind}\n".encode(), text(key), text("cpu"), whole(count))
    sizes = [row(*map(whole, numbers)) for numbers in (shape, steps)]
    hooks = b"ccollections\nOrderedDict\n)R"
    arguments = row(place + b"Q", whole(offset), *sizes, b"\x89", hooks)
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"R"


VALUES = np.arange(6, dtype="<f4")


def put(
    path: Path,
    program: Instructions,
    data: bytes = VALUES.tobytes(),
    *,
    packed: bool = False,
    **others: bytes,
) -> Path:
    how = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", how) as archive:
        archive.writestr("a/data.pkl", b"\x80\x02" + program + b".")
        archive.writestr("a/data/0", data)
        for name, content in others.items():
            archive.writestr(f"a/{name}", content)
    return path


def halves(path: Path, **arguments: Any) -> list[list[float]]:
    return [half.tolist() for half in load_state(path, **arguments).cells[0]]


# ---- by hand, without torch


def test_tensors_are_views_of_storages(tmp_path: Path) -> None:
    one = tensor(1, 3, offset=3)
    path = put(tmp_path / "a.pt", table(h=tensor(1, 3), c=one, step=b"K\x07", lr=b"G" + bytes(8)))
    with pytest.warns(UserWarning, match="not tensors are left out: step, lr"):
        assert halves(path) == [[[3, 4, 5]], [[0, 1, 2]]]
    turned = tensor(3, 2, strides=(1, 3))
    with pytest.warns(UserWarning, match="look swapped|cut in half"):
        assert halves(put(tmp_path / "b.pt", turned)) == [[[0], [1], [2]], [[3], [4], [5]]]
    path = put(tmp_path / "c.pt", table(h=tensor(2, 3, strides=(0, 2)), c=tensor(2, 3)))
    assert halves(path) == [[[0, 1, 2], [3, 4, 5]], [[0, 2, 4], [0, 2, 4]]]


def test_the_byte_order_of_the_file_counts(tmp_path: Path) -> None:
    program = table(h=tensor(1, 3), c=tensor(1, 3, offset=3))
    path = put(tmp_path / "a.pt", program, VALUES.astype(">f4").tobytes(), byteorder=b"big")
    assert halves(path) == [[[3, 4, 5]], [[0, 1, 2]]]
    path = put(tmp_path / "b.pt", program, byteorder=b"middle")
    with pytest.raises(UnsupportedError, match="its byte order is b'middle'"):
        load_state(path)


def test_a_pair_is_h_and_c_by_its_axes(tmp_path: Path) -> None:
    pair = row(tensor(1, 1, 3), tensor(1, 1, 3, offset=3))
    path = put(tmp_path / "a.pt", pair)
    with pytest.warns(UserWarning, match=r"torch\.nn\.LSTM returns: h first"):
        assert halves(path) == [[[3, 4, 5]], [[0, 1, 2]]]
    assert halves(path, layout="tuple") == [[[[0, 1, 2]]], [[[3, 4, 5]]]]
    path = put(tmp_path / "b.pt", row(tensor(2, 1), tensor(2, 1, offset=2)))
    with pytest.raises(LstmstateError, match="may be of layers or of sequences"):
        load_state(path)
    assert halves(path, layout="keras") == [[[2], [3]], [[0], [1]]]


HOSTILE: dict[str, tuple[Instructions, str]] = {
    "a function": (b"cos\nsystem\n" + row(text("touch owned")) + b"R", "os.system, which is never"),
    "a function of torch": (
        b"ctorch\nload\n" + row(text("x")) + b"R",
        "torch.load, which is never",
    ),
    "code in a module": (b"c__torch__\nModel\n)\x81", "which is never called"),
    "a storage alone": (b"ctorch\nFloatStorage\n", "not a tensor"),
    "a call of a storage": (b"ctorch\nFloatStorage\nK\x05\x85R", "other arguments"),
    "a function that is not called": (b"ctorch._utils\n_rebuild_tensor_v2\n", "not a tensor"),
    "a state for a tensor": (tensor(2, 3) + b"}b", "other arguments"),
    "no storage": (tensor(2, 3, key="1"), "storage '1' is missing"),
    "a path for a storage": (tensor(2, 3, key="../data.pkl"), "is missing"),
    "more elements than are there": (tensor(2, 3, count=7), "7 elements has 24 bytes"),
    "fewer elements than are there": (tensor(2, 3, count=5), "5 elements has 24 bytes"),
    "wider elements": (tensor(2, 3, kind="DoubleStorage"), "6 elements has 24 bytes"),
    "quantized elements": (tensor(2, 3, kind="QInt8Storage"), "which is never called"),
    "a shape beyond the storage": (tensor(2, 4), "beyond the 6 elements"),
    "an offset beyond the storage": (tensor(1, 3, offset=4), "beyond the 6 elements"),
    "an offset below zero": (tensor(1, 3, offset=-1), "beyond the 6 elements"),
    "an offset past 2^64": (tensor(1, 3, offset=1 << 70), "beyond the 6 elements"),
    "an offset of nothing": (tensor(0, 3, offset=7), "beyond the 6 elements"),
    "strides beyond the storage": (tensor(2, 3, strides=(4, 1)), "beyond the 6 elements"),
    "strides that wrap": (tensor(2, 1, strides=(1 << 64, 1)), "beyond the 6 elements"),
    "strides below zero": (tensor(2, 3, strides=(-3, 1)), "none can have"),
    "fewer strides": (tensor(2, 3, strides=(1,)), "none can have"),
    "sizes below zero": (tensor(-2, -3, strides=(3, 1)), "none can have"),
    "sizes that are texts": (tensor(2, 3).replace(whole(3), text("3"), 1), "none can have"),
    "a petabyte of one element": (tensor(1 << 25, 1 << 25, strides=(0, 0)), "many more bytes"),
    "a shape that no array has": (tensor(1 << 40, 1 << 40, strides=(0, 0)), "none can have"),
    "the same of nothing": (tensor(0, 1 << 63, strides=(0, 0)), "none can have"),
    "a hundred axes": (tensor(*[1] * 100), "100 axes"),
    "a thing of a class": (b"(ios\nsystem\n", "an object of a class"),
    "a key that is a tuple": (b"}(" + row() + tensor(2, 3) + b"u", "not a text"),
    "items of a tuple": (row() + text("c") + tensor(2, 3) + b"s", "not a dict"),
    "an odd number of items": (b"}(" + text("c") + b"u", "not a dict"),
    "a name twice": (b"}(" + (text("c") + tensor(2, 3)) * 2 + b"u", "the same name"),
    "a name twice by its path": (
        table(**{"a/b": tensor(2, 3), "a": table(b=tensor(2, 3))}),
        "same",
    ),
    "a list in itself": (b"]q\0h\0a", "nested deeper"),
    "a dict in itself": (b"}q\0" + text("c") + b"h\0s", "nested deeper"),
    "an id of nothing": (b"Q", "takes more from the stack"),
    "an extension": (b"\x82\x01", "an extension code"),
    "bytes": (b"U\x01a", "not a tensor"),
    "nothing": (b"", "takes more"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_pickle(tmp_path: Path, case: str, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    program, words = HOSTILE[case]
    path = put(tmp_path / "a.pt", program)
    with few_lines(20_000), pytest.raises((CorruptError, UnsupportedError), match=words) as raised:
        load_state(path)
    assert str(path) in str(raised.value)
    assert not (tmp_path / "owned").exists()


def test_few_bytes_that_expand_to_many_are_refused(tmp_path: Path) -> None:
    laughs = b"]]q\0a" + b"".join(  # each dict ten times in the next
        b"}(" + b"".join(text(key) + b"h%c" % at for key in "0123456789") + b"uq%ca" % (at + 1)
        for at in range(12)
    )
    with few_lines(2_000_000), pytest.raises(UnsupportedError, match="at most 20,0.. parts"):
        load_state(put(tmp_path / "a.pt", laughs))
    long = text("n" * 100_000)
    shared = b"}" + long + tensor(2, 3) + b"sq\0" + b"]q\1(" + b"h\0" * 10_000 + b"e"
    with few_lines(2_000_000), pytest.raises(UnsupportedError, match="names are too long"):
        load_state(put(tmp_path / "b.pt", shared))


@pytest.mark.parametrize(("count", "shape"), [(1, (1 << 19, 33)), (50, (1 << 16, 6))])
def test_views_of_a_small_storage_share_the_bytes_that_they_may_declare(
    tmp_path: Path, count: int, shape: tuple[int, int]
) -> None:
    def views(count: int) -> Path:
        made = {f"v{k}": tensor(*shape, strides=(0, 0)) for k in range(count)}
        return put(tmp_path / "a.pt", table(**made))

    def read(path: Path) -> list[tuple[int, ...]]:
        source = ByteSource(str(path))
        return [array.shape for array in open_file(source).arrays]

    with few_lines(2_000_000), pytest.raises(UnsupportedError, match="many more bytes"):
        read(views(count))
    assert read(views(count // 2)) == [shape] * (count // 2)


def test_more_tensors_are_read_from_a_larger_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits.TORCH_PARTS, "most", 5)
    monkeypatch.setattr(limits.TORCH_OPCODES, "most", 10)
    arrays = {f"v{k}": np.zeros(1, np.float32) for k in range(200)}
    plans = [PlannedArray(name, (1,), np.dtype("f4")) for name in arrays]
    with (
        Outputs() as outputs,
        open_writer(
            outputs, str(tmp_path / "a.pt"), kind_to_write("a.pt", endings=IN_ROWS), plans, None
        ) as writer,
    ):
        for name, array in arrays.items():
            writer.write(name, 0, array)
    assert len(open_file(ByteSource(str(tmp_path / "a.pt"))).arrays) == 200


def test_half_of_the_instructions_can_number_values(tmp_path: Path) -> None:
    """The memo would take 100 bytes for each; a value is there before its number."""
    most = limits.TORCH_OPCODES.most // 2
    for number in (most, most + 200):
        with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
            archive.writestr("a/data.pkl", b"\x80\x02}r%b." % number.to_bytes(4, "little"))
        if number == most:
            open_file(ByteSource(str(tmp_path / "a.pt")))
            continue
        with pytest.raises(CorruptError, match="beyond their count"):
            open_file(ByteSource(str(tmp_path / "a.pt")))


def test_an_instruction_takes_few_steps(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02%bN." % (b"}" * 100_000))
    with few_lines(850_000):
        open_file(ByteSource(str(tmp_path / "a.pt")))


def damage_data(data: bytes) -> bytes:
    at = data.index(VALUES.tobytes())
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


DAMAGE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "values": (damage_data, "checksum does not match"),
    "the pickle": (lambda data: data.replace(b"_rebuild", b"_rebuilt", 1), "checksum"),
    "the end": (lambda data: data[:-30], ""),
    "a header": (lambda data: data[:4] + data[4:].replace(b"PK\3\4", b"PK\3\5"), "cut short"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_found(tmp_path: Path, case: str) -> None:
    path = put(tmp_path / "a.pt", table(h=tensor(1, 3), c=tensor(1, 3, offset=3)))
    change, words = DAMAGE[case]
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(LstmstateError) as raised:
        load_state(path)
    assert words in str(raised.value)


def test_a_packed_archive_is_refused(tmp_path: Path) -> None:
    path = put(tmp_path / "a.pt", tensor(2, 3), packed=True)
    with pytest.raises(UnsupportedError, match="compressed or encrypted"):
        load_state(path)


def test_a_long_pickle_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits.TORCH_PICKLE, "most", 1_000_000)
    long = b"0" * 1_000_001
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("a/data.pkl", long)
    del long
    with pytest.raises(UnsupportedError, match="too long"):
        load_state(tmp_path / "a.pt")


def test_written_files_are_the_same_each_time_and_aligned(tmp_path: Path) -> None:
    state = state_of([(3, 2), (2, 2)], names=lambda number: f"rnn/cell_{number}")
    save_state(state, tmp_path / "a.pt")
    again = load_state(tmp_path / "a.pt")
    assert [cell.cell for cell in again.cells] == ["rnn/cell_0", "rnn/cell_1"]
    save_state(again, tmp_path / "b.pt")
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()
    data = (tmp_path / "a.pt").read_bytes()
    for cell in state.cells:
        for half in cell:
            assert data.index(half.tobytes()) % 64 == 0


def test_members_of_more_than_two_gigabytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = state_of([(3, 2)], stack=False)
    monkeypatch.setattr("lstmstate.state.formats.torch_writer._LARGE", 0)
    save_state(state, tmp_path / "a.pt")
    data = (tmp_path / "a.pt").read_bytes()
    for half, found in zip(state.cells[0], load_state(tmp_path / "a.pt").cells[0], strict=True):
        assert found.tobytes() == half.tobytes()
        assert data.index(half.tobytes()) % 64 == 0
    if torch is not None:
        arrays = torch.load(tmp_path / "a.pt", weights_only=True)
        assert arrays["m"].numpy().tobytes() == state.cells[0].m.tobytes()


def test_weights_are_not_a_state(tmp_path: Path, shell: Shell) -> None:
    program = table(
        model=table(**{"lstm.weight_ih_l0": tensor(2, 3), "lstm.weight_hh_l0": tensor(2, 3)}),
        epoch=b"K\x07",
    )
    path = put(tmp_path / "model.pt", program)
    with pytest.raises(UnsupportedError, match="these are the weights of a PyTorch layer"):
        load_state(path)
    done = shell("run", path, "x.npy", code=3)
    assert "expected a TensorFlow checkpoint, got the weights of a PyTorch layer" in done.err


# ---- against torch


@needs_torch
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bfloat16", "int64", "bool"])
def test_torch_reads_and_writes_the_same(tmp_path: Path, dtype: str) -> None:
    bits = torch.randint(0, 2, (2, 3, 4), generator=torch.Generator().manual_seed(0))
    pair = tuple(bits.to(getattr(torch, dtype)))
    theirs, ours = tmp_path / "theirs.pt", tmp_path / "ours.pt"
    torch.save({"c": pair[0], "h": pair[1].T.contiguous().T}, theirs)
    convert(theirs, ours, layout="tuple")
    found = torch.load(ours, weights_only=True)
    assert list(found) == ["c", "m"]
    for one, other in zip(pair, found.values(), strict=True):
        assert other.dtype == one.dtype
        assert torch.equal(one, other)
    assert torch.equal(torch.load(ours, mmap=True)["c"], pair[0])


@needs_torch
def test_torch_takes_the_state_of_a_network(tmp_path: Path) -> None:
    network = torch.nn.LSTM(3, 4, 2, bidirectional=True)
    x = torch.randn(5, 2, 3)
    with torch.no_grad():
        _, state = network(x)
        torch.save(state, tmp_path / "a.pt")
        with pytest.warns(UserWarning, match="h first"):
            convert(tmp_path / "a.pt", tmp_path / "b.npz", layout="tuple")
        convert(tmp_path / "b.npz", tmp_path / "c.pt", layout="torch")
        pair = torch.load(tmp_path / "c.pt", weights_only=True)
        assert isinstance(pair, tuple)
        assert torch.equal(network(x, pair)[0], network(x, state)[0])


@needs_torch
def test_parameters_shared_storages_and_old_formats(tmp_path: Path) -> None:
    both = torch.arange(12.0).reshape(2, 2, 3)
    torch.save({"c": torch.nn.Parameter(both[0]), "h": both[1]}, tmp_path / "a.pt")
    assert halves(tmp_path / "a.pt") == both.tolist()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"c": both[0], "h": both[1]}, tmp_path / "b.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    assert halves(tmp_path / "b.pt") == both.tolist()
    torch.save(both, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(LstmstateError, match=r"before PyTorch 1\.6; save it again"):
        load_state(tmp_path / "old.pt")
    torch.save(torch.nn.LSTM(3, 4), tmp_path / "module.pt")
    with pytest.raises(UnsupportedError, match="of a module its state_dict"):
        load_state(tmp_path / "module.pt")


@needs_torch
def test_a_state_without_rows(tmp_path: Path) -> None:
    empty = np.zeros((0, 3), np.float32)
    save_state(LSTMState(empty, empty), tmp_path / "a.pt")
    assert torch.load(tmp_path / "a.pt", weights_only=True)["c"].shape == (0, 3)
    assert load_state(tmp_path / "a.pt").cells[0].c.shape == (0, 3)


@needs_torch
@pytest.mark.parametrize("of", ["conjugate", "negative"])
def test_lazy_tensors_are_refused(tmp_path: Path, of: str) -> None:
    """Their values are not those in the storage."""
    numbers = torch.complex(torch.ones(1, 4), torch.arange(4.0)[None] + 1).conj()
    tensor = numbers if of == "conjugate" else numbers.imag
    torch.save({"c": tensor, "m": tensor}, tmp_path / "a.pt")
    with pytest.raises(UnsupportedError, match=r"save it after \.resolve_conj\(\)"):
        load_state(tmp_path / "a.pt")
    torch.save(
        {"c": tensor.resolve_conj().resolve_neg().real, "m": torch.zeros(1, 4)}, tmp_path / "b.pt"
    )
    assert load_state(tmp_path / "b.pt").cells[0].c.shape == (1, 4)


@pytest.mark.parametrize(
    "name",
    [
        "{}/BYTEORDER",
        "other/data.pkl",
        "{}/DATA/0",
        "{}/Data.pkl",
        "other/data/0",
        "other",
        "{}x/y",
    ],
)
def test_members_that_torch_would_take_otherwise_are_refused(tmp_path: Path, name: str) -> None:
    """torch takes `DATA/0` for `data/0`, and refuses a second folder (2.13)."""
    path, half = tmp_path / "a.pt", np.zeros((1, 2), np.float32)
    save_state(LSTMState(half, half), path)
    assert load_state(path).flat().size == 4
    with zipfile.ZipFile(path, "a") as archive:
        folder = archive.namelist()[0].partition("/")[0]
        archive.writestr(name.format(folder), b"big")
    problem = "has another name|there are two|differ in case alone|outside of the folder"
    with pytest.raises(LstmstateError, match=problem):
        load_state(path)
