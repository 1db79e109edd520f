"""NaN, Inf, denormal and huge numbers, and text that is none: no warning, no fault."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import SAMPLES, Shell, archive, checkpoint, error, lstm_cell, numbers, saved

from lstmstate import LSTMState, load_state, open_checkpoint
from lstmstate.errors import CorruptError, LstmstateError, raised_as
from lstmstate.value_stats import stats_of

CELL = "rnn/basic_lstm_cell"


def metadata_member(path: Path, code: int) -> Path:
    """A state whose metadata has one element that is no character."""
    np.savez(path, c=np.ones((1, 2)), m=np.ones((1, 2)), lstmstate=np.array("{}" + " " * 30))
    data = path.read_bytes()
    text = "{}".encode("utf-32-le")
    assert data.count(text) == 1
    path.write_bytes(data.replace(text, code.to_bytes(4, "little") + text[4:]))
    import zipfile
    import zlib

    with zipfile.ZipFile(path) as archive_:  # its checksum is made anew
        infos = {info.filename: info for info in archive_.infolist()}
        old = infos["lstmstate.npy"]
    changed = path.read_bytes()
    start = old.header_offset + 30 + len("lstmstate.npy")
    start += int.from_bytes(changed[old.header_offset + 28 : old.header_offset + 30], "little")
    crc = zlib.crc32(changed[start : start + old.file_size]).to_bytes(4, "little")
    path.write_bytes(changed.replace(old.CRC.to_bytes(4, "little"), crc))
    return path


@pytest.mark.parametrize("code", [0x110000, 0xFFFFFFFF, 0xD800], ids=hex)
def test_text_that_is_none_in_an_npz_is_damage(tmp_path: Path, shell: Shell, code: int) -> None:
    path = metadata_member(tmp_path / "a.npz", code)
    with pytest.raises(CorruptError, match="its metadata cannot be read") as raised:
        load_state(path)
    assert isinstance(raised.value.__cause__, UnicodeDecodeError)
    done = shell("inspect", path)
    assert done.code == 3
    assert "internal error" not in error(done)


def test_a_lack_of_memory_is_no_damage() -> None:
    with pytest.raises(MemoryError), raised_as(lambda error: CorruptError(f"damaged ({error})")):
        raise MemoryError


@pytest.mark.parametrize("setting", [(), ("-W", "error")], ids=["plain", "error"])
def test_values_that_are_not_finite_cause_no_warnings(
    tmp_path: Path, setting: tuple[str, ...]
) -> None:
    odd = np.array([[np.nan + 1j, np.inf, complex(np.inf, np.nan), 1e308 + 1e308j]])
    state = archive(tmp_path / "s.npz", c=odd, m=odd)
    values = lstm_cell(CELL, 2, 3)
    kernel = values[f"{CELL}/kernel"].copy()
    kernel.view(np.uint32)[0, 0] = 0x7F800001  # a NaN that signals
    kernel[1, 1] = np.inf
    path = checkpoint(tmp_path / "m", values | {f"{CELL}/kernel": kernel})
    start = [sys.executable, *setting, "-m", "lstmstate"]
    for words in (["inspect", str(state)], ["inspect", "--stats", path]):
        done = subprocess.run([*start, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "Warning" not in done.stderr


def test_statistics_of_complex_values_cause_no_warnings() -> None:
    odd = np.array([complex(np.nan, np.inf), complex(np.nan, 0), 1e308 + 1e308j])
    assert stats_of(odd).not_finite == 2


@pytest.mark.parametrize(
    "fill", [1e-41, 1e30, np.inf, -np.inf, np.nan], ids=["denormal", "large", "inf", "-inf", "nan"]
)
@pytest.mark.filterwarnings("ignore:.*defaults are used.*:UserWarning")
def test_odd_weights_make_the_values_of_the_plain_equations(tmp_path: Path, fill: float) -> None:
    """TensorFlow 1.15 has the same NaN and Inf with these weights."""
    values = lstm_cell(CELL, 2, 3)
    kernel = values[f"{CELL}/kernel"]
    units = kernel.shape[1] // 4
    kernel[0, :: units - 1] = fill
    x = numbers(2, 5, len(kernel) - units)
    network = open_checkpoint(checkpoint(tmp_path / "m", values)).network()
    outputs = network.run(x, engine="numpy", assume_defaults=True)[0]
    with np.errstate(all="ignore"):
        c = m = np.zeros((2, units))
        for step in range(5):
            gates = np.concatenate([x[:, step], m], 1) @ kernel.astype(float)
            i, j, f, o = np.split(gates + values[f"{CELL}/bias"], 4, 1)
            c = c / (1 + np.exp(-f - 1)) + np.tanh(j) / (1 + np.exp(-i))
            m = np.tanh(c) / (1 + np.exp(-o))
            assert np.allclose(outputs[:, step], m, atol=1e-5, equal_nan=True)


@pytest.mark.covering(1)
@pytest.mark.parametrize("leaf", ["kernel", "bias"])
@pytest.mark.parametrize("fill", [0, 1e-40, 1e38, np.inf, np.nan])
def test_odd_weights_do_not_hide_the_cells_from_the_graph_engine(
    tmp_path: Path, fill: float, leaf: str
) -> None:
    with open_checkpoint(SAMPLES / "bidirectional") as sample:
        values = {name: variable.read() for name, variable in sample.variables.items()}
    for name, value in values.items():
        if name.endswith(f"lstm_cell/{leaf}"):
            values[name] = np.full_like(value, fill)
    path = checkpoint(tmp_path / "m", values)
    shutil.copy(SAMPLES / "bidirectional" / "model.ckpt.meta", f"{path}.meta")
    network, x = open_checkpoint(path).network(), numbers(2, 4, 3)
    outputs = network.run(x, engine="graph")[0]
    if (leaf, fill) == ("kernel", 1e38):  # which the NumPy engine refuses
        assert outputs.max() <= 1
    else:
        expected = network.run(x, engine="numpy")[0]
        assert np.allclose(outputs, expected, rtol=1e-6, atol=1e-6, equal_nan=True)


@pytest.mark.filterwarnings("ignore:.*defaults are used.*:UserWarning")
def test_denormal_numbers_are_as_good_as_zero(tmp_path: Path) -> None:
    """TensorFlow takes them for zero, in weights, inputs and states alike."""
    values, x, runs = lstm_cell(CELL, 2, 3), numbers(2, 4, 3), []
    for number, fill in enumerate((0, 1e-40)):
        values[f"{CELL}/kernel"][0] = x[0] = fill
        network = open_checkpoint(checkpoint(tmp_path / f"m{number}", values)).network()
        state = LSTMState(*np.full((2, 2, 2), fill, "f4"))
        runs.append(network.run(x, state, assume_defaults=True)[0])
    assert np.allclose(*runs, rtol=0, atol=1e-37)


@pytest.mark.parametrize("fill", [1e38, -3.4e38])
def test_weights_whose_sums_overflow_are_refused(tmp_path: Path, fill: float) -> None:
    values = lstm_cell(CELL, 2, 3)
    values[f"{CELL}/kernel"][0, 0] = fill
    values[f"{CELL}/kernel"][0, 1] = np.nan
    network = open_checkpoint(checkpoint(tmp_path / "m", values)).network()
    width = len(values[f"{CELL}/kernel"]) - values[f"{CELL}/kernel"].shape[1] // 4
    with pytest.raises(LstmstateError, match="sums with it overflow; use `engine='graph'`"):
        network.run(numbers(1, 2, width), assume_defaults=True)


def test_a_table_with_nan_is_refused_in_one_line(tmp_path: Path, shell: Shell) -> None:
    path = checkpoint(tmp_path / "m", lstm_cell(CELL, 2, 3))
    x = numbers(1, 3, 2)
    x[0, 1] = np.nan
    done = shell("run", path, saved(tmp_path / "x.npy", x), "-o", tmp_path / "y.npy")
    assert done.code == 3
    assert error(done)
