"""`lstmstate inspect` on the command line: tables, JSON, statistics, errors and exit codes."""

from __future__ import annotations

import fcntl
import gc
import json
import math
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import writers
from commands import FIRST, LSTMSTATE, PROJECT, SAMPLES, SUNSPOTS, Shell, checkpoint, flip
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

import lstmstate
from lstmstate.cells.weight_stats import GateStats, cell_stats
from lstmstate.cli import execute as run
from lstmstate.cli.report.documents import checkpoint_document
from lstmstate.model.checkpoint import open_checkpoint


def on_terminal(columns: int, *arguments: str, command: str = "inspect", **environment: str) -> str:
    """Run a command on a terminal of some width; return its output with escapes."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    env = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR")}
    env |= {"TERM": "xterm-256color", **environment}
    process = subprocess.Popen(
        [*LSTMSTATE, command, *arguments], stdout=slave, stderr=subprocess.DEVNULL, env=env
    )
    os.close(slave)
    seen = b""
    while True:
        try:
            part = os.read(master, 1 << 16)
        except OSError:  # Linux reports the closed other end so
            break
        if not part:
            break
        seen += part
    os.close(master)
    assert process.wait() == 0
    return seen.decode().replace("\r", "")


def without_escapes(text: str) -> list[str]:
    return re.sub(r"\x1b\[[0-9;]*m", "", text).split("\n")


# ---- JSON


def test_json_is_the_contract(shell: Shell) -> None:
    found = shell.json("inspect", SUNSPOTS)
    assert found["schema"] == "lstmstate.inspect/1"
    assert (found["format"], found["era"]) == ("v2", "1.2+")
    assert found["meta"] == f"{SUNSPOTS}/model.ckpt-360.meta"
    first = found["cells"][0]
    expected = {
        "name": "rnn/multi_rnn_cell/cell_0/basic_lstm_cell",
        "family": "BasicLSTMCell",
        "input_size": 1,
        "num_units": 24,
        "num_proj": None,
        "dtype": "float32",
        "gate_order": "ijfo",
        "peepholes": False,
        "layer_norm": False,
        "forget_bias": {"value": 1.0, "source": "graph"},
        "state_is_tuple": {"value": False, "source": "graph"},
        "layer": 0,
        "direction": None,
        "parameters": 25 * 96 + 96,
        "bytes": 4 * (25 * 96 + 96),
        "state": {"c": 24, "m": 24, "flat": 48},
    }
    assert {name: first[name] for name in expected} == expected
    assert first["variables"] == {
        "kernel": "rnn/multi_rnn_cell/cell_0/basic_lstm_cell/kernel",
        "bias": "rnn/multi_rnn_cell/cell_0/basic_lstm_cell/bias",
    }
    assert found["stacks"][0]["flat"] == 72
    assert found["states"][0]["variable"] == "saved_state"
    roles = {v["name"]: v["role"] for v in found["variables"]}
    assert roles["saved_state"] == "state"
    assert roles["readout/kernel"] == "other"
    assert roles["readout/kernel/Adam"] == "slot"
    assert roles["rnn/multi_rnn_cell/cell_1/basic_lstm_cell/kernel"] == "kernel"


def test_json_of_several_paths_is_one_document(shell: Shell) -> None:
    code, out, err = shell("inspect", "--json", SUNSPOTS, "/gone", f"{SAMPLES}/v1_format")
    found = json.loads(out)
    assert code == 4
    assert [result["format"] for result in found["results"]] == ["v2", "v1"]
    assert [failed["path"] for failed in found["failed"]] == ["/gone"]
    assert "error: /gone" in err


def test_json_with_stats_gate_by_gate(shell: Shell) -> None:
    found = shell.json("inspect", SUNSPOTS, "--stats", "--cell", "cell_1/basic_lstm_cell")
    (cell,) = found["cells"]
    assert [(row["role"], row["gate"]) for row in cell["stats"]] == [
        (role, gate) for role in ("kernel", "bias") for gate in "ijfo"
    ]
    assert all(row["nan"] == row["inf"] == 0 for row in cell["stats"])


def test_json_is_valid_where_values_are_not_numbers(tmp_path: Path, shell: Shell) -> None:
    checkpoint(
        tmp_path / "x",
        {
            "rnn/lstm_cell/kernel": np.full((3, 8), np.nan, np.float32),
            "rnn/lstm_cell/bias": np.full(8, np.inf, np.float32),
        },
    )
    found = shell.json("inspect", str(tmp_path / "x"), "--stats")
    rows = found["cells"][0]["stats"]
    assert rows[0]["min"] is None
    assert (rows[0]["nan"], rows[4]["inf"]) == (6, 2)


# ---- text


def test_one_checkpoint_of_several_is_named_in_a_note(shell: Shell, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(SUNSPOTS, folder)
    assert shell("inspect", str(folder))[::2] == (0, "")
    for end in ("index", "data-00000-of-00001"):
        shutil.copy(folder / f"model.ckpt-360.{end}", folder / f"model.ckpt-180.{end}")
    code, out, err = shell("inspect", str(folder))
    assert code == 0
    chosen = f"{folder} is the checkpoint {folder}/model.ckpt-360, one of 2 in its folder"
    assert err == f"lstmstate: note: {chosen}\n"
    assert "note:" not in out
    assert shell("inspect", str(folder), "-q")[2] == ""
    assert json.loads(shell("inspect", str(folder), "--json")[1])["notes"] == [chosen]
    assert lstmstate.open_checkpoint(folder).notes == (chosen,)
    assert shell("inspect", f"{folder}/model.ckpt-180")[2] == ""


def test_the_state_is_described_in_both_layouts(shell: Shell) -> None:
    _, out, _ = shell("inspect", f"{SAMPLES}/peephole_flat")
    assert "c [B, 8], m [B, 5]" in out
    assert "[B, 13]" in out
    assert "c 0:8 m 8:13" in out


def test_a_cell_is_chosen_by_the_end_of_its_name(shell: Shell) -> None:
    _, out, _ = shell("inspect", SUNSPOTS, "--cell", "cell_1/basic_lstm_cell")
    assert "1 LSTM cell\n" in out
    assert "cell_0" not in out


def test_a_state_of_unknown_widths_names_the_command_that_takes_them(
    shell: Shell, tmp_path: Path
) -> None:
    np.save(tmp_path / "flat.npy", np.zeros((2, 7)))
    _, out, _ = shell("inspect", str(tmp_path / "flat.npy"))
    assert out.endswith("--units and --proj, --cells, or --checkpoint (options of convert)\n")


def test_an_unknown_cell_gets_the_list_of_cells(shell: Shell) -> None:
    code, out, err = shell("inspect", "-q", SUNSPOTS, "--cell", "nope")
    assert (code, out) == (3, "")
    assert err.count("\n") == 1
    assert "cell_0/basic_lstm_cell" in err


def test_variables_are_listed_and_slots_counted(shell: Shell) -> None:
    _, out, _ = shell("inspect", SUNSPOTS, "--variables")
    assert "10 variables, 12 slots of optimizers and averages left out" in out
    assert "Adam" not in out.split("left out")[1]


def test_a_pipe_gets_whole_names_and_one_line_per_row(shell: Shell) -> None:
    _, out, _ = shell("inspect", SUNSPOTS, "--variables")
    assert "rnn/multi_rnn_cell/cell_0/basic_lstm_cell/kernel  [25, 96]  float32" in out
    assert "\x1b" not in out


# ---- errors


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["/gone/model.ckpt"], 3),
        ([str(PROJECT / "README.md")], 3),
        ([str(SAMPLES)], 3),
        ([], 2),
        ([SUNSPOTS, "--nonsense"], 2),
        (["/gone", "/gone too"], 4),
    ],
)
def test_exit_codes_and_one_line_for_an_error(
    shell: Shell, arguments: list[str], code: int
) -> None:
    found, out, err = shell("inspect", *arguments)
    assert found == code
    assert out == ""
    assert "Traceback" not in err
    if code in (3, 4):
        assert err.count("\n") == len(arguments)


def test_debug_prints_the_traceback() -> None:
    done = subprocess.run(
        [*LSTMSTATE, "inspect", "/gone", "--debug"], capture_output=True, text=True, check=False
    )
    assert "Traceback" in done.stderr


def test_an_interrupt_exits_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lstmstate.operations.load.open_path", interrupt)
    assert run(["inspect", SUNSPOTS]) == 130


def test_a_closed_pipe_is_not_an_error() -> None:
    command = f"{' '.join(LSTMSTATE)} inspect -q {SUNSPOTS} --variables | head -n 1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout == f"{SUNSPOTS}/model.ckpt-360\n"


def test_sigint_leaves_no_traceback(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys, time, lstmstate.operations.load as load\n"
        "load.open_path = lambda *a, **k: (os.kill(os.getpid(), signal.SIGINT), time.sleep(9))\n"
        "from lstmstate.cli import execute as run\n"
        "sys.exit(run(['inspect', 'x']))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (128 + signal.SIGINT, b"")


def test_checksums_can_be_left_out_to_rescue_values(tmp_path: Path, shell: Shell) -> None:
    for file in (SAMPLES / "bidirectional").glob("model.ckpt*"):
        shutil.copy(file, tmp_path)
    path = tmp_path / "model.ckpt"
    flip(path, 100)
    code, _, err = shell("inspect", "-q", str(path), "--stats")
    assert code == 3
    assert "checksum" in err
    code, _, err = shell("inspect", str(path), "--stats", "--no-checksums")
    assert code == 0
    assert "not verified" in err


# ---- malicious names, many variables, terminals


def test_rows_of_values_are_whole_on_a_narrow_terminal() -> None:
    kernel = f"{SUNSPOTS}:{FIRST}/kernel"
    lines = without_escapes(on_terminal(80, kernel, "--slice", ":2,:20"))
    rows = lines[lines.index("Values [2, 20]") + 1 :]
    assert all(len(line) <= 80 and re.match(r"  [\[ ][\[ ] *-?\d", line) for line in rows if line)
    assert len(rows) < 12


@pytest.mark.parametrize("columns", [80, 120, 200])
def test_the_table_of_targets_fits_a_terminal(columns: int) -> None:
    lines = without_escapes(on_terminal(columns, "--list", command="export"))
    for line in lines:
        assert len(line) <= columns
        assert line.startswith("  ") or not line
    assert any("peepholes, projection, clips," in line for line in lines)


@pytest.mark.parametrize("columns", [80, 120, 200])
def test_the_table_of_layouts_fits_a_terminal(columns: int) -> None:
    lines = without_escapes(on_terminal(columns, "--list", command="convert"))
    heading = lines[0]
    starts = [heading.index(word) for word in ("layout", "first", "form", "program")]
    for line in lines:
        assert len(line) <= columns
        # Nothing reaches from one column into the next.
        assert "─" in line or all(line[at - 1 : at] in ("", " ") for at in starts), line
    onnx = next(line for line in lines if line.startswith("  onnx"))
    assert onnx[starts[1]] == "h" and "ONNX's LSTM" in onnx


def test_names_from_files_cannot_control_a_terminal(tmp_path: Path, shell: Shell) -> None:
    name = "\x1b[2J[bold]evil\u202e/lstm_cell"
    checkpoint(
        tmp_path / "x",
        {f"{name}/kernel": np.zeros((3, 8), "f4"), f"{name}/bias": np.zeros(8, "f4")},
    )
    path = str(tmp_path / "x")
    shown = shell("inspect", path, "--variables")[1] + on_terminal(100, path, "--variables")
    assert "\x1b[2J" not in shown
    assert "\u202e" not in shown
    assert r"\x1b[2J[bold]evil\u202e" in shown
    assert json.loads(shell("inspect", path, "--json")[1])["cells"][0]["name"] == name


@pytest.mark.covering(1)
@pytest.mark.parametrize("columns", [80, 120, 200])
@pytest.mark.parametrize("sample", ["sunspots", "tf_0_12_names", "bidirectional"])
def test_tables_fit_the_terminal_without_truncation(columns: int, sample: str) -> None:
    path = str(SAMPLES / sample)
    lines = without_escapes(on_terminal(columns, path, "--variables", "--stats"))
    assert max(map(len, lines)) <= columns
    text = re.sub(r"\s+", "", "".join(lines))
    for word in ("forget_bias", "cell_clip", "proj_clip", "time_major", "lstm_cell/", "kernel"):
        assert word in text.replace("LSTMCell/", "lstm_cell/")
    assert "…" not in text


def test_a_thousand_variables_stay_readable(tmp_path: Path) -> None:
    values = {f"tower_{k}/layer/weights": np.zeros(2, "f4") for k in range(1000)}
    checkpoint(tmp_path / "x", values)
    lines = without_escapes(on_terminal(80, str(tmp_path / "x"), "--variables"))
    assert max(map(len, lines)) <= 80
    assert len(lines) < 1015
    assert any("1,000 variables" in line for line in lines)


def test_colour_can_be_turned_off() -> None:
    assert "\x1b[1;36m" in on_terminal(100, SUNSPOTS)
    plain = on_terminal(100, SUNSPOTS, NO_COLOR="1")
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", plain)


# ---- state files


def test_arrays_of_a_state_file_and_their_possible_roles(tmp_path: Path, shell: Shell) -> None:
    h5py = pytest.importorskip("h5py")
    np.save(tmp_path / "flat.npy", np.zeros((4, 13), "f4"))
    np.savez(tmp_path / "pair.npz", c=np.zeros((4, 8), "f4"), m=np.zeros((4, 5), "f4"))
    with h5py.File(tmp_path / "deep.h5", "w") as file:
        file["a/layer_0/state"] = np.zeros((2, 3, 8))
    found = {
        name: {
            a["name"]: (a["shape"], a["readings"]) for a in shell.json("inspect", path)["arrays"]
        }
        for name in ("flat.npy", "pair.npz", "deep.h5")
        for path in [str(tmp_path / name)]
    }
    assert found["flat.npy"] == {"": ([4, 13], ["flat (with a projection)", "c or m"])}
    assert found["pair.npz"] == {"c": ([4, 8], ["c"]), "m": ([4, 5], ["m"])}
    assert found["deep.h5"] == {
        "a/layer_0/state": (
            [2, 3, 8],
            ["layered [2, batch, units], c first", "[h, c] of Keras or PyTorch, h first", "c or m"],
        )
    }
    code, out, _ = shell("inspect", str(tmp_path / "pair.npz"))
    assert code == 0
    assert "[4, 5]" in out


def test_state_files_that_must_not_be_read(tmp_path: Path, shell: Shell) -> None:
    h5py = pytest.importorskip("h5py")
    np.save(tmp_path / "pickle.npy", np.array([{}], object), allow_pickle=True)
    np.save(tmp_path / "whole.npy", np.zeros(100))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "whole.npy").read_bytes()[:-1])
    with h5py.File(tmp_path / "outside.h5", "w") as file:
        file.create_dataset("c", (10,), "f8", external=[(str(tmp_path / "whole.npy"), 0, 80)])
        file["soft"] = h5py.SoftLink("/c")
        file["external"] = h5py.ExternalLink("other.h5", "/c")
    for name, words in {
        "pickle.npy": "pickle",
        "cut.npy": "cut short",
        "outside.h5": "another file",
    }.items():
        code, _, err = shell("inspect", str(tmp_path / name))
        assert (code, err.count("\n")) == (3, 1), name
        assert words in err


def test_the_name_of_a_cell_is_refused_for_a_state_file(shell: Shell, tmp_path: Path) -> None:
    path = str(tmp_path / "a.npy")
    np.save(path, np.zeros((2, 8)))
    code, out, err = shell("inspect", path, "--cell", "lstm_cell")
    assert (code, out) == (3, "")
    assert err == f"lstmstate: error: {path}: --cell is for checkpoints; leave it out\n"


def test_the_halves_of_a_keras_state_have_the_names_of_keras(shell: Shell, tmp_path: Path) -> None:
    shapes = {"kernel": (3, 16), "recurrent_kernel": (4, 16), "bias": (16,)}
    values = {f"lstm/{name}": np.ones(shape, "f4") for name, shape in shapes.items()}
    saved = {f"lstm/{half}_state": np.ones((2, 4), "f4") for half in "ch"}
    _, out, _ = shell("inspect", checkpoint(tmp_path / "model", values | saved))
    rows = [line.split() for line in out.splitlines()]
    assert ["1", "h", "[B,", "4],", "c", "[B,", "4]", "-", "-"] in rows
    assert ["lstm/c_state", "c", "[2,", "4]", "lstm"] in rows
    assert ["lstm/h_state", "h", "[2,", "4]", "lstm"] in rows


# ---- statistics of a cell's tensors, gate by gate, compared with NumPy


Values = Mapping[str, NDArray[Any]]
FEW = settings(derandomize=True, deadline=None, max_examples=60)


def noise(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


class Figures(NamedTuple):
    """The statistics of a part of a tensor, as they are reported."""

    role: str
    gate: str | None
    size: int
    min: float | None
    max: float | None
    mean: float | None
    std: float | None
    zeros: int
    nan: int
    inf: int


def reported(one: GateStats) -> Figures:
    """Return statistics as they are reported."""
    size, _, _, _, _, *counts = one.values
    return Figures(one.role, one.gate, size, *one.values.moments().values(), *counts)


def figures(values: Values) -> dict[tuple[str, str | None], Figures]:
    """Return the statistics of the only cell among some variables, by role and gate."""
    (cell,) = writers.cells({name: value.shape for name, value in values.items()}).values()
    found = [reported(one) for one in cell_stats(cell, lambda name: values[name])]
    assert len({(one.role, one.gate) for one in found}) == len(found)
    return {(one.role, one.gate): one for one in found}


def by_numpy(role: str, gate: str | None, part: NDArray[Any]) -> Figures:
    """Return the statistics of a part's finite values, from NumPy."""
    wide = part.astype(np.float64)
    finite = wide[np.isfinite(wide)]
    least = (
        (finite.min(), finite.max(), finite.mean(), finite.std()) if finite.size else (None,) * 4
    )
    broken = int(np.isnan(wide).sum()), int(np.isinf(wide).sum())
    return Figures(role, gate, part.size, *least, int((wide == 0).sum()), *broken)


def lstm(kernel: NDArray[Any], bias: NDArray[Any], scope: str = "rnn/lstm_cell") -> Values:
    return {f"{scope}/kernel": kernel, f"{scope}/bias": bias}


# ---- gates


def test_each_gate_has_its_own_statistics() -> None:
    kernel, bias = noise(7, 16), noise(16, seed=1)
    found = figures(lstm(kernel, bias))
    assert list(found) == [(role, gate) for role in ("kernel", "bias") for gate in "ijfo"]
    for at, gate in enumerate("ijfo"):
        columns = slice(4 * at, 4 * at + 4)
        assert found["kernel", gate] == by_numpy("kernel", gate, kernel[:, columns])
        assert found["bias", gate] == by_numpy("bias", gate, bias[columns])


def test_the_gates_of_keras_come_in_another_order() -> None:
    values = {
        "lstm/kernel": noise(3, 16),
        "lstm/recurrent_kernel": noise(4, 16, seed=1),
        "lstm/bias": np.repeat([0, 1, 0, 0], 4).astype(np.float32),
    }
    found = figures(values)
    for role in ("kernel", "recurrent_kernel"):
        for at, gate in enumerate("ifjo"):
            part = values[f"lstm/{role}"][:, 4 * at : 4 * at + 4]
            assert found[role, gate] == by_numpy(role, gate, part)
    # Its forget bias is stored: the gate with the ones is f.
    assert {gate: found["bias", gate].mean for gate in "ijfo"} == {"i": 0, "j": 0, "f": 1, "o": 0}


def test_the_three_gates_of_a_coupled_cell() -> None:
    scope = "rnn/coupled_input_forget_gate_lstm_cell"
    values = {f"{scope}/W_0": noise(7, 12), f"{scope}/B": noise(12, seed=1)}
    found = figures(values)
    for at, gate in enumerate("jfo"):
        part = values[f"{scope}/W_0"][:, 4 * at : 4 * at + 4]
        assert found["kernel", gate] == by_numpy("kernel", gate, part)
    assert ("kernel", "i") not in found


def test_both_cudnn_bias_sets_belong_to_their_gates() -> None:
    """[8H]: the four biases of the input, then the four of m."""
    bias = noise(32)
    values = {"cu_dnnlstm/kernel": noise(3, 16), "cu_dnnlstm/recurrent_kernel": noise(4, 16)}
    found = figures(values | {"cu_dnnlstm/bias": bias})
    for at, gate in enumerate("ifjo"):
        both = np.concatenate([bias[4 * at : 4 * at + 4], bias[16 + 4 * at : 20 + 4 * at]])
        assert found["bias", gate] == by_numpy("bias", gate, both)


def test_the_gates_of_each_group() -> None:
    scope = "rnn/glstm_cell"
    kernels = [noise(5, 8, seed=seed) for seed in (0, 1)]
    values = {f"{scope}/group{k}/kernel": kernel for k, kernel in enumerate(kernels)}
    values |= {f"{scope}/bias_{gate}": noise(4) for gate in "ijfo"}
    found = figures(values)
    for at, gate in enumerate("ijfo"):
        parts = [kernel[:, 2 * at : 2 * at + 2] for kernel in kernels]
        assert found["kernel", gate] == by_numpy("kernel", gate, np.concatenate(parts))
    assert found["bias_f", None] == by_numpy("bias_f", None, values[f"{scope}/bias_f"])


def test_the_gates_of_a_convolution_are_channels() -> None:
    kernel = noise(3, 3, 7, 16)
    values = {"rnn/conv_lstm_cell/kernel": kernel, "rnn/conv_lstm_cell/biases": noise(16)}
    assert figures(values)["kernel", "f"] == by_numpy("kernel", "f", kernel[..., 8:12])


def test_tensors_without_gates_have_one_set_of_statistics() -> None:
    values = dict(lstm(noise(5, 16), noise(16)))
    values |= {f"rnn/lstm_cell/w_{gate}_diag": noise(4, seed=ord(gate)) for gate in "ifo"}
    values |= {"rnn/lstm_cell/projection/kernel": noise(4, 2)}
    found = figures(values)
    for role in ("w_i_diag", "w_f_diag", "w_o_diag"):
        assert found[role, None] == by_numpy(role, None, values[f"rnn/lstm_cell/{role}"])
    projection = values["rnn/lstm_cell/projection/kernel"]
    assert found["projection", None] == by_numpy("projection", None, projection)


@pytest.mark.parametrize(
    "values",
    [
        {"rnn/nas_cell/kernel": noise(3, 32), "rnn/nas_cell/recurrent_kernel": noise(4, 32)},
        {"cudnn_lstm/opaque_kernel": noise(144)},
    ],
)
def test_unknown_gates_are_not_split(values: Values) -> None:
    found = figures(values)
    assert {gate for _, gate in found} == {None}
    assert [one.size for one in found.values()] == [value.size for value in values.values()]


# ---- shards


@pytest.mark.parametrize("lengths", [(7,), (4, 3), (3, 2, 2), (1,) * 7])
def test_row_shards_are_joined_before_gates_are_split(lengths: tuple[int, ...]) -> None:
    kernel, bias = noise(7, 16), noise(16)
    shards = np.split(kernel, np.cumsum(lengths)[:-1], axis=0)
    values = {f"RNN/LSTMCell/W_{k}": shard for k, shard in enumerate(shards)}
    found = figures(values | {"RNN/LSTMCell/B": bias})
    assert found["kernel", "f"] == by_numpy("kernel", "f", kernel[:, 8:12])


@pytest.mark.parametrize("lengths", [(8, 8), (6, 6, 4), (1,) * 16])
def test_column_shards_are_joined_before_gates_are_split(lengths: tuple[int, ...]) -> None:
    """In 0.5 and 0.6 a shard may have parts of two gates."""
    kernel, bias = noise(7, 16), noise(16)
    shards = np.split(kernel, np.cumsum(lengths)[:-1], axis=1)
    values = {f"RNN/LSTMCell/W_{k}": shard for k, shard in enumerate(shards)}
    found = figures(values | {"RNN/LSTMCell/B": bias})
    for at, gate in enumerate("ijfo"):
        columns = slice(4 * at, 4 * at + 4)
        assert found["kernel", gate] == by_numpy("kernel", gate, kernel[:, columns])


@pytest.mark.parametrize("lengths", [(2, 1), (1, 1, 1), (3,)])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_sharded_projection_has_one_set_of_statistics(
    axis: int, lengths: tuple[int, ...]
) -> None:
    """Its shards are split like those of the kernel: by columns in 0.5 and 0.6, then by rows."""
    size = sum(lengths)
    units, proj = (size, 2) if axis == 0 else (4, size)
    whole, kernel = noise(units, proj), noise(3 + proj, 4 * units)
    values = {"RNN/LSTMCell/B": noise(4 * units)}
    values |= {
        f"RNN/LSTMCell/W_{k}": part for k, part in enumerate(np.split(kernel, 1 + axis, axis))
    }
    cut = np.split(whole, np.cumsum(lengths)[:-1], axis)
    values |= {f"RNN/LSTMCell/W_P_{k}": part for k, part in enumerate(cut)}
    found = figures(values)["projection", None]
    expected = by_numpy("projection", None, whole)
    assert found[:5] == expected[:5]  # role, gate, size, least and greatest
    assert found.mean == pytest.approx(expected.mean)
    assert found.std == pytest.approx(expected.std)


# ---- NaN and infinity


def test_non_finite_values_are_counted_and_left_out_of_the_statistics() -> None:
    kernel, bias = noise(7, 16), np.zeros(16, np.float32)
    kernel[0, :4] = [np.nan, np.inf, -np.inf, 0.0]
    kernel[:, 8:12] = np.nan
    found = figures(lstm(kernel, bias))
    assert (found["kernel", "i"].nan, found["kernel", "i"].inf) == (1, 2)
    assert found["kernel", "i"] == by_numpy("kernel", "i", kernel[:, :4])
    assert found["kernel", "i"].zeros == 1
    forget = found["kernel", "f"]
    assert (forget.min, forget.max, forget.mean, forget.std) == (None, None, None, None)
    assert (forget.nan, forget.size) == (28, 28)
    assert (found["kernel", "o"].nan, found["kernel", "o"].inf) == (0, 0)
    assert (found["bias", "j"].zeros, found["bias", "j"].std) == (4, 0.0)


def test_zero_and_minus_zero_are_both_zero() -> None:
    found = figures(lstm(noise(7, 16), np.tile(np.float32([0.0, -0.0]), 8)))
    assert [found["bias", gate].zeros for gate in "ijfo"] == [4, 4, 4, 4]


@FEW
@given(
    kernel=arrays.arrays(
        st.sampled_from([np.float16, np.float32, np.float64]),
        (3, 8),
        elements=st.floats(width=16, allow_nan=True, allow_infinity=True),
    )
)
def test_the_statistics_match_numpy(kernel: NDArray[Any]) -> None:
    found = figures(lstm(kernel, np.zeros(8, kernel.dtype)))
    for at, gate in enumerate("ijfo"):
        mine, theirs = (
            found["kernel", gate],
            by_numpy("kernel", gate, kernel[:, 2 * at : 2 * at + 2]),
        )
        for one, other in zip(mine, theirs, strict=True):
            assert one == other or math.isclose(one, other, rel_tol=1e-12, abs_tol=1e-12)


def test_large_numbers_of_a_narrow_dtype_do_not_overflow() -> None:
    kernel = np.full((3, 8), 60000, np.float16)
    assert figures(lstm(kernel, np.zeros(8, np.float16)))["kernel", "i"].mean == 60000
    assert figures(lstm(kernel, np.zeros(8, np.float16)))["kernel", "i"].std == 0


# ---- of a checkpoint


def test_the_statistics_of_a_cell_in_a_checkpoint(tmp_path: Any) -> None:
    def build(tf: writers.TensorFlow) -> None:
        cell = tf.nn.rnn_cell.LSTMCell(4, initializer=tf.ones_initializer())
        writers.static(tf, cell)

    ckpt = open_checkpoint(writers.save(tmp_path, build))
    cell = writers.only(ckpt)
    found = [reported(one) for one in cell_stats(cell, lambda name: ckpt.variables[name].read())]
    assert found[0] == Figures("kernel", "i", 28, 1.0, 1.0, 1.0, 0.0, 0, 0, 0)
    assert found[4] == Figures("bias", "i", 4, 0.0, 0.0, 0.0, 0.0, 4, 0, 0)
    assert [one.gate for one in found] == list("ijfo") * 2


def test_a_document_does_not_keep_its_checkpoint() -> None:
    """A batch has the documents of all its checkpoints until the last one is read."""
    ckpt = open_checkpoint(SAMPLES / "sunspots")
    cells = [cell.info for cell in ckpt.cells.values()]
    document = checkpoint_document("a", ckpt, cells, None, None, None, None)
    kept = weakref.ref(ckpt)
    del ckpt, cells
    gc.collect()
    assert kept() is None
    assert len(document["variables"]) == 22
