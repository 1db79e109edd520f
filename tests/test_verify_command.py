"""`lstmstate verify` on the command line."""

from __future__ import annotations

import builtins
import importlib.util
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import (
    FIRST,
    SAMPLES,
    SECOND,
    SUNSPOTS,
    Shell,
    archive,
    checkpoint,
    error,
    lstm_cell,
    notes,
    numbers,
    saved,
)
from graphs import evaluated

from lstmstate import engines
from lstmstate.model.checkpoint import LSTMCheckpoint, open_checkpoint
from lstmstate.operations import verify
from lstmstate.operations.verify import Trial, over_random_data

PEEPHOLE, BOTH = SAMPLES / "peephole_tuple", SAMPLES / "bidirectional"
SAMPLE_NAMES = sorted(path.name for path in SAMPLES.iterdir() if path.is_dir())


def of(trial: dict[str, Any]) -> list[str]:
    """Return the `of` field of each difference."""
    return [one["of"] for one in trial["differences"]]


# ---- without inputs


@pytest.mark.parametrize("name", SAMPLE_NAMES)
def test_every_cell_of_the_samples_agrees_with_tensorflow(shell: Shell, name: str) -> None:
    document = shell.json("verify", "-q", SAMPLES / name)
    assert document["agrees"]
    assert {trial["steps"] for trial in document["trials"]} == {4, 200}
    for trial in document["trials"]:
        assert of(trial) == ["outputs", "c", "m"]
        assert all(one["max_abs"] <= 1e-5 for one in trial["differences"])


def test_the_document_lists_a_short_and_a_long_run_of_each_cell(shell: Shell) -> None:
    document = shell.json("verify", SUNSPOTS)
    assert (document["schema"], document["engine"]) == ("lstmstate.verify/1", "auto")
    trials = document["trials"]
    assert [(one["network"], one["steps"]) for one in trials] == [
        (FIRST, 4),
        (FIRST, 200),
        (SECOND, 4),
        (SECOND, 200),
    ]
    assert {(one["data"], one["tolerance"], one["refused"]) for one in trials} == {
        ("random", 1e-9, None)
    }
    assert any(one["max_rel"] > 0 for trial in trials for one in trial["differences"])
    assert document["failed"] == []


def test_the_seed_selects_the_random_data(shell: Shell) -> None:
    first_values = [
        shell.json("verify", PEEPHOLE, *seed)["trials"]
        for seed in ([], ["--seed", "0"], ["--seed", "7"])
    ]
    assert first_values[0] == first_values[1] != first_values[2]


def test_a_cell_or_a_stack_can_be_chosen(shell: Shell) -> None:
    document = shell.json("verify", SUNSPOTS, "--cell", "cell_1")
    assert {trial["network"] for trial in document["trials"]} == {SECOND}
    document = shell.json("verify", BOTH, "--stack", "bidirectional_rnn")
    scopes = [f"bidirectional_rnn/{side}/lstm_cell" for side in ("fw", "bw")]
    assert of(document["trials"][0]) == [
        "outputs",
        *(f"{s}: {half}" for s in scopes for half in "cm"),
    ]
    assert shell("verify", BOTH, "--cell", "nope").code == 3


# ---- with inputs


def test_inputs_run_from_zeros_through_the_stack(shell: Shell, tmp_path: Path) -> None:
    x, lengths = numbers(3, 30, 3), np.array([30, 0, 11])
    batch = archive(tmp_path / "x.npz", x=x, len=lengths)
    turned = saved(tmp_path / "t.npy", np.ascontiguousarray(x.swapaxes(0, 1)))
    document = shell.json("verify", BOTH, f"{batch}:x", "--lengths", "len")
    (trial,) = document["trials"]
    assert (trial["data"], trial["steps"], trial["agrees"]) == (f"{batch}:x", 30, True)
    assert shell.json("verify", BOTH, turned, "--time-major")["trials"][0]["agrees"]


def test_a_failing_input_is_named_and_the_others_continue(shell: Shell, tmp_path: Path) -> None:
    good, bad = saved(tmp_path / "a.npy", numbers(5, 3)), saved(tmp_path / "b.npy", numbers(5, 2))
    document = shell.json("verify", "-q", PEEPHOLE, bad, good, code=4)
    assert [trial["data"] for trial in document["trials"]] == [str(good)]
    assert [one["path"] for one in document["failed"]] == [str(bad)]
    assert document["agrees"] is False
    done = shell("verify", "-q", PEEPHOLE, bad, code=3)
    assert done.out == ""
    assert error(done).startswith(f"{bad}: its shape is [5, 2], and rnn/lstm_cell takes ")


def test_options_apply_to_both_engines(shell: Shell, tmp_path: Path) -> None:
    x = saved(tmp_path / "x.npy", 3 * numbers(30, 3))
    done = shell("verify", PEEPHOLE, x, "--cell-clip", "none", "--forget-bias", "2", code=0)
    assert len(notes(done)) == 2
    assert "rnn/lstm_cell: --forget-bias 2 is used, and the graph has 0.5" in notes(done)


# ---- the result


def test_differences_beyond_the_tolerance_exit_with_1(shell: Shell) -> None:
    document = shell.json("verify", SUNSPOTS, "--tolerance", "0", code=1)
    assert document["agrees"] is False
    assert document["trials"][0]["tolerance"] == 0
    assert "beyond tolerance" in shell("verify", SUNSPOTS, "--tolerance", "0", code=1).out
    assert shell("verify", SUNSPOTS, "--tolerance", "0.1").code == 0


def test_a_wrong_equation_is_detected(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Omits the forget bias in our engine."""
    real = engines.load

    def forgetful(name: str, network: Any) -> Any:
        if name == "numpy":
            (((cell,),),) = network.stages
            network = network._replace(stages=(((cell._replace(forget_bias=0.0),),),))
        return real(name, network)

    monkeypatch.setattr(engines, "load", forgetful)
    document = shell.json("verify", PEEPHOLE, code=1)
    assert not any(trial["agrees"] for trial in document["trials"])


def test_the_table_has_a_part_for_each_cell(shell: Shell) -> None:
    done = shell("verify", "-q", SUNSPOTS, code=0)
    assert done.err == ""
    lines = done.out.splitlines()
    assert lines[:2] == [f"{SUNSPOTS}/model.ckpt-360", "4 runs against TensorFlow, 4 within 1e-09"]
    assert (lines[3], lines[12]) == (FIRST, SECOND)
    assert [line.split()[:3] for line in lines[5:7]] == [
        ["random", "4", "outputs"],
        ["c", *lines[6].split()[1:3]],
    ]


def test_cells_that_cannot_be_run_are_reported_and_left_out(shell: Shell, tmp_path: Path) -> None:
    convolution = {
        "conv_lstm_cell/kernel": numbers(3, 3, 7, 16),
        "conv_lstm_cell/biases": numbers(16),
    }
    ckpt = checkpoint(tmp_path / "x.ckpt", lstm_cell() | convolution)
    document = shell.json("verify", ckpt)
    refused, *others = document["trials"]
    assert (refused["network"], len(others)) == ("conv_lstm_cell", 2)
    assert (refused["agrees"], refused["differences"]) == (None, [])
    flags = ("--forget-bias", "1", "--cell-clip", "none", "--activation", "tanh")
    done = shell("verify", ckpt, *flags, code=0)
    assert notes(done) == [refused["refused"]]
    assert "2 runs against TensorFlow, 2 within" in done.out
    done = shell("verify", ckpt, "--strict")
    assert (done.code, done.out) == (3, "") and "defaults are used" in error(done)
    done = shell("verify", ckpt, "--strict", *flags)
    assert (done.code, done.out) == (3, "")
    assert error(done) == f"{ckpt}: {refused['refused']}"
    done = shell("verify", checkpoint(tmp_path / "y.ckpt", convolution), code=3)
    assert "its kernels are convolutions" in error(done)


# ---- cells that cannot be verified


@pytest.mark.parametrize("inputs", [False, True])
def test_without_tensorflow_the_error_names_the_package(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inputs: bool
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        engines, "find_spec", lambda name: None if name == "tensorflow" else real(name)
    )
    x = [saved(tmp_path / "x.npy", numbers(4, 3))] if inputs else []
    done = shell("verify", "-q", PEEPHOLE, *x, code=3)
    assert done.out == ""
    assert error(done).endswith(
        "the engine tensorflow needs tensorflow, not installed here; "
        "pip install 'lstmstate[tensorflow]'"
    )


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (
            ["--engine", "tensorflow"],
            "is a reference; pass --against",
        ),
        (["--tolerance", "nan"], "--tolerance"),
        (["--tolerance", "-1"], "--tolerance"),
        (["--tolerance", "inf"], "'inf' is not a number of 0 or more"),
        (["--lengths", "x.npy"], "--lengths and --time-major are for an INPUT"),
        (["--time-major"], "--lengths and --time-major are for an INPUT"),
        (["--seed", "1", "x.npy"], "--seed is for random data, without an INPUT"),
        (["--cell", "a", "--stack", "b"], "pass --cell or --stack, not both"),
    ],
)
def test_conflicting_flags(shell: Shell, flags: Sequence[str], problem: str) -> None:
    done = shell("verify", PEEPHOLE, *flags, code=2)
    assert done.out == ""
    assert problem in done.err


def test_a_checkpoint_without_cells(shell: Shell, tmp_path: Path) -> None:
    ckpt = checkpoint(tmp_path / "x.ckpt", {"w": numbers(3, 4)})
    assert error(shell("verify", ckpt, code=3)) == f"{ckpt}: no graph, and no known variable names"


def test_tensorflow_is_not_imported_if_nothing_is_verified(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def refuse(name: str, *arguments: Any, **how: Any) -> Any:
        assert name.split(".", maxsplit=1)[0] not in ("tensorflow", "tf_keras"), name
        return real(name, *arguments, **how)

    monkeypatch.setattr(builtins, "__import__", refuse)
    assert shell("verify", SAMPLES / "nothing").code == 3
    assert shell("verify", "--help").code == 0


def test_cells_with_a_layer_between_them_are_compared_one_by_one(
    shell: Shell, tmp_path: Path
) -> None:
    def build(tf: Any) -> Any:
        x = tf.placeholder(tf.float32, [None, None, 3], "x")
        low, _ = tf.nn.dynamic_rnn(tf.nn.rnn_cell.LSTMCell(4), x, dtype=tf.float32, scope="low")
        between = tf.tensordot(low, tf.get_variable("w", [4, 2]), 1)
        cell = tf.nn.rnn_cell.LSTMCell(5)
        outputs, _ = tf.nn.dynamic_rnn(cell, between, dtype=tf.float32, scope="high")
        return [outputs], {x: np.ones((1, 2, 3))}

    prefix, _ = evaluated(tmp_path, build)
    trials = shell.json("verify", prefix, "--against", "graph")["trials"]
    assert [(trial["network"], trial["agrees"]) for trial in trials] == [
        (f"{name}/lstm_cell", True) for name in ("low", "low", "high", "high")
    ]


@pytest.mark.parametrize("inputs", [False, True])
def test_without_a_graph_the_error_names_the_file_and_another_reference(
    shell: Shell, tmp_path: Path, inputs: bool
) -> None:
    folder = SAMPLES / "tf_1_0_names"
    x = [saved(tmp_path / "x.npy", numbers(4, 3))] if inputs else []
    done = shell("verify", "-q", folder, *x, "--against", "graph", code=3)
    assert error(done) == (
        f"{folder}/model.ckpt: the graph cannot be evaluated: the checkpoint has no complete one; "
        "--against tensorflow compares with TensorFlow's own cell (pip install "
        "'lstmstate[tensorflow]')"
    )


# ---- bounds in verify on the difference of two evaluations from float64, for weights of any size


JUDGES = [
    "graph",
    pytest.param(
        "tensorflow",
        marks=pytest.mark.skipif(not find_spec("tensorflow"), reason="TensorFlow is missing"),
    ),
]


def scaled(factor: float, monkeypatch: pytest.MonkeyPatch) -> LSTMCheckpoint:
    """Return a sample whose weights are scaled by a factor."""
    ckpt = open_checkpoint("sample_checkpoints/sunspots")
    read = ckpt._read
    monkeypatch.setattr(ckpt, "_read", lambda name: read(name) * np.float32(factor))
    return ckpt


def trials(ckpt: LSTMCheckpoint, reference: str) -> Iterator[Trial]:
    return over_random_data([ckpt.network()], "auto", {}, None, 0, reference)


@pytest.mark.parametrize("reference", JUDGES)
@pytest.mark.parametrize("factor", [1, 30, 1000])
def test_healthy_weights_of_any_size_agree(
    factor: float, reference: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for trial in trials(scaled(factor, monkeypatch), reference):
        assert trial.refused is None
        assert trial.agrees, trial.differences


@pytest.mark.parametrize("factor", [1, 30])
def test_a_differing_weight_of_any_size_is_found(
    factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = verify.in_float64

    def spoiled(network: object) -> object:
        found = exact(network)  # type: ignore[arg-type]
        found.first.kernel[0, 0] *= 1.0001
        return found

    monkeypatch.setattr(verify, "in_float64", spoiled)
    assert not all(trial.agrees for trial in trials(scaled(factor, monkeypatch), "graph"))
