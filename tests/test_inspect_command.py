"""`lstmstate inspect` on the command line: tables, JSON, notes, errors and exit codes."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import numpy as np
import pytest
from builders import BundleBuilder
from commands import checkpoint

from lstmstate.cli import execute as run

PROJECT = Path(__file__).resolve().parent.parent
SAMPLES = PROJECT / "sample_checkpoints"
SUNSPOTS = str(SAMPLES / "sunspots")
LSTMSTATE = [sys.executable, "-m", "lstmstate"]

Captured = pytest.CaptureFixture[str]


def inspect(capsys: Captured, *arguments: str) -> tuple[int, str, str]:
    """Run `lstmstate inspect`; return the exit code, stdout and stderr."""
    code = run(["inspect", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def document(capsys: Captured, *arguments: str) -> dict[str, object]:
    """Return the JSON that `lstmstate inspect --json` prints."""
    code, out, _ = inspect(capsys, "--json", *arguments)
    assert code == 0
    found: dict[str, object] = json.loads(out)
    return found


def on_terminal(columns: int, *arguments: str, **environment: str) -> str:
    """Run the command on a terminal of some width; return its output with escapes."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    env = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR")}
    env |= {"TERM": "xterm-256color", **environment}
    process = subprocess.Popen(
        [*LSTMSTATE, "inspect", *arguments], stdout=slave, stderr=subprocess.DEVNULL, env=env
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


def write_bundle(prefix: Path, values: dict[str, np.ndarray]) -> None:
    """Write a V2 checkpoint of some variables."""
    bundle = BundleBuilder()
    for name, value in values.items():
        bundle.add(name, np.asarray(value))
    bundle.write(prefix)


# ---- JSON


def test_json_is_the_contract(capsys: Captured) -> None:
    found = document(capsys, SUNSPOTS)
    assert found["schema"] == "lstmstate.inspect/1"
    assert (found["format"], found["era"]) == ("v2", "1.2+")
    assert found["meta"] == f"{SUNSPOTS}/model.ckpt-360.meta"
    first = found["cells"][0]  # type: ignore[index]
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
    assert found["stacks"][0]["flat"] == 72  # type: ignore[index]
    assert found["states"][0]["variable"] == "saved_state"  # type: ignore[index]
    roles = {v["name"]: v["role"] for v in found["variables"]}  # type: ignore[attr-defined]
    assert roles["saved_state"] == "state"
    assert roles["readout/kernel"] == "other"
    assert roles["readout/kernel/Adam"] == "slot"
    assert roles["rnn/multi_rnn_cell/cell_1/basic_lstm_cell/kernel"] == "kernel"


def test_json_of_several_paths_is_one_document(capsys: Captured) -> None:
    code, out, err = inspect(capsys, "--json", SUNSPOTS, "/gone", f"{SAMPLES}/v1_format")
    found = json.loads(out)
    assert code == 4
    assert [result["format"] for result in found["results"]] == ["v2", "v1"]
    assert [failed["path"] for failed in found["failed"]] == ["/gone"]
    assert "error: /gone" in err


def test_json_with_stats_gate_by_gate(capsys: Captured) -> None:
    found = document(capsys, SUNSPOTS, "--stats", "--cell", "cell_1/basic_lstm_cell")
    (cell,) = found["cells"]  # type: ignore[misc]
    assert [(row["role"], row["gate"]) for row in cell["stats"]] == [
        (role, gate) for role in ("kernel", "bias") for gate in "ijfo"
    ]
    assert all(row["nan"] == row["inf"] == 0 for row in cell["stats"])


def test_json_is_valid_where_values_are_not_numbers(tmp_path: Path, capsys: Captured) -> None:
    write_bundle(
        tmp_path / "x",
        {
            "rnn/lstm_cell/kernel": np.full((3, 8), np.nan, np.float32),
            "rnn/lstm_cell/bias": np.full(8, np.inf, np.float32),
        },
    )
    found = document(capsys, str(tmp_path / "x"), "--stats")
    rows = found["cells"][0]["stats"]  # type: ignore[index]
    assert rows[0]["min"] is None
    assert (rows[0]["nan"], rows[4]["inf"]) == (6, 2)


# ---- text


def test_one_checkpoint_of_several_is_named_in_a_note(capsys: Captured, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(SUNSPOTS, folder)
    assert inspect(capsys, str(folder))[::2] == (0, "")
    for end in ("index", "data-00000-of-00001"):
        shutil.copy(folder / f"model.ckpt-360.{end}", folder / f"model.ckpt-180.{end}")
    code, out, err = inspect(capsys, str(folder))
    assert code == 0
    chosen = f"{folder} is the checkpoint {folder}/model.ckpt-360, one of 2 in its folder"
    assert err == f"lstmstate: note: {chosen}\n"
    assert "note:" not in out
    assert inspect(capsys, str(folder), "-q")[2] == ""
    assert inspect(capsys, f"{folder}/model.ckpt-180")[2] == ""


def test_the_state_is_described_in_both_layouts(capsys: Captured) -> None:
    _, out, _ = inspect(capsys, f"{SAMPLES}/peephole_flat")
    assert "c [B, 8], m [B, 5]" in out
    assert "[B, 13]" in out
    assert "c 0:8 m 8:13" in out


def test_a_cell_is_chosen_by_the_end_of_its_name(capsys: Captured) -> None:
    _, out, _ = inspect(capsys, SUNSPOTS, "--cell", "cell_1/basic_lstm_cell")
    assert "1 LSTM cell\n" in out
    assert "cell_0" not in out


def test_a_state_of_unknown_widths_names_the_command_that_takes_them(
    capsys: Captured, tmp_path: Path
) -> None:
    np.save(tmp_path / "flat.npy", np.zeros((2, 7)))
    _, out, _ = inspect(capsys, str(tmp_path / "flat.npy"))
    assert out.endswith("--units and --proj, --cells, or --checkpoint (options of convert)\n")


def test_an_unknown_cell_gets_the_list_of_cells(capsys: Captured) -> None:
    code, out, err = inspect(capsys, "-q", SUNSPOTS, "--cell", "nope")
    assert (code, out) == (3, "")
    assert err.count("\n") == 1
    assert "cell_0/basic_lstm_cell" in err


def test_variables_are_listed_and_slots_counted(capsys: Captured) -> None:
    _, out, _ = inspect(capsys, SUNSPOTS, "--variables")
    assert "10 variables, 12 slots of optimizers and averages left out" in out
    assert "Adam" not in out.split("left out")[1]


def test_a_pipe_gets_whole_names_and_one_line_per_row(capsys: Captured) -> None:
    _, out, _ = inspect(capsys, SUNSPOTS, "--variables")
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
    capsys: Captured, arguments: list[str], code: int
) -> None:
    found, out, err = inspect(capsys, *arguments)
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


def test_checksums_can_be_left_out_to_rescue_values(tmp_path: Path, capsys: Captured) -> None:
    for file in (SAMPLES / "bidirectional").glob("model.ckpt*"):
        shutil.copy(file, tmp_path)
    path = tmp_path / "model.ckpt"
    data = Path(f"{path}.data-00000-of-00001")
    damaged = bytearray(data.read_bytes())
    damaged[100] ^= 1
    data.write_bytes(damaged)
    code, _, err = inspect(capsys, "-q", str(path), "--stats")
    assert code == 3
    assert "checksum" in err
    code, _, err = inspect(capsys, str(path), "--stats", "--no-checksums")
    assert code == 0
    assert "not verified" in err


# ---- malicious names, many variables, terminals


def test_names_from_files_cannot_control_a_terminal(tmp_path: Path, capsys: Captured) -> None:
    name = "\x1b[2J[bold]evil\u202e/lstm_cell"
    write_bundle(
        tmp_path / "x",
        {f"{name}/kernel": np.zeros((3, 8), "f4"), f"{name}/bias": np.zeros(8, "f4")},
    )
    path = str(tmp_path / "x")
    shown = inspect(capsys, path, "--variables")[1] + on_terminal(100, path, "--variables")
    assert "\x1b[2J" not in shown
    assert "\u202e" not in shown
    assert r"\x1b[2J[bold]evil\u202e" in shown
    assert json.loads(inspect(capsys, path, "--json")[1])["cells"][0]["name"] == name


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
    write_bundle(tmp_path / "x", values)
    lines = without_escapes(on_terminal(80, str(tmp_path / "x"), "--variables"))
    assert max(map(len, lines)) <= 80
    assert len(lines) < 1015
    assert any("1,000 variables" in line for line in lines)


def test_colour_can_be_turned_off() -> None:
    assert "\x1b[1;36m" in on_terminal(100, SUNSPOTS)
    plain = on_terminal(100, SUNSPOTS, NO_COLOR="1")
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", plain)


# ---- state files


def test_arrays_of_a_state_file_and_their_possible_roles(tmp_path: Path, capsys: Captured) -> None:
    h5py = pytest.importorskip("h5py")
    np.save(tmp_path / "flat.npy", np.zeros((4, 13), "f4"))
    np.savez(tmp_path / "pair.npz", c=np.zeros((4, 8), "f4"), m=np.zeros((4, 5), "f4"))
    with h5py.File(tmp_path / "deep.h5", "w") as file:
        file["a/layer_0/state"] = np.zeros((2, 3, 8))
    found = {
        name: {a["name"]: (a["shape"], a["readings"]) for a in document(capsys, path)["arrays"]}  # type: ignore[attr-defined]
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
    code, out, _ = inspect(capsys, str(tmp_path / "pair.npz"))
    assert code == 0
    assert "[4, 5]" in out


def test_state_files_that_must_not_be_read(tmp_path: Path, capsys: Captured) -> None:
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
        code, _, err = inspect(capsys, str(tmp_path / name))
        assert (code, err.count("\n")) == (3, 1), name
        assert words in err


def test_the_name_of_a_cell_is_refused_for_a_state_file(capsys: Captured, tmp_path: Path) -> None:
    path = str(tmp_path / "a.npy")
    np.save(path, np.zeros((2, 8)))
    code, out, err = inspect(capsys, path, "--cell", "lstm_cell")
    assert (code, out) == (3, "")
    assert err == f"lstmstate: error: {path}: --cell is for checkpoints; leave it out\n"


def test_the_halves_of_a_keras_state_have_the_names_of_keras(
    capsys: Captured, tmp_path: Path
) -> None:
    shapes = {"kernel": (3, 16), "recurrent_kernel": (4, 16), "bias": (16,)}
    values = {f"lstm/{name}": np.ones(shape, "f4") for name, shape in shapes.items()}
    saved = {f"lstm/{half}_state": np.ones((2, 4), "f4") for half in "ch"}
    _, out, _ = inspect(capsys, checkpoint(tmp_path / "model", values | saved))
    rows = [line.split() for line in out.splitlines()]
    assert ["1", "h", "[B,", "4],", "c", "[B,", "4]", "-", "-"] in rows
    assert ["lstm/c_state", "c", "[2,", "4]", "lstm"] in rows
    assert ["lstm/h_state", "h", "[2,", "4]", "lstm"] in rows
