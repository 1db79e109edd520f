"""Cells and stacks run from Python: whole, in parts, step by step, padded, from any state."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from commands import (
    FIRST,
    SAMPLES,
    SECOND,
    SUNSPOTS,
    Array,
    checkpoint,
    lstm_cell,
    numbers,
)

import lstmstate
from lstmstate import LSTMNetwork, LSTMState, LstmstateError, StackState, UnsupportedError
from lstmstate.model.network_loader import RunOptions

LENGTHS = np.array([6, 1, 0, 4])
NAMES = ("peephole_tuple", "sunspots", "bidirectional", "block_cell", "partitioned")


def network(name: str = "peephole_tuple") -> LSTMNetwork:
    """Return what can be run in a sample."""
    return lstmstate.open_checkpoint(SAMPLES / name).network()


def data(found: LSTMNetwork, *lead: int, seed: int = 0) -> Array:
    """Return inputs of a network with these axes before the width."""
    return numbers(*lead, found.load().network.first.input_size, seed=seed)


def same(found: Any, expected: Any, atol: float = 1e-6) -> bool:
    """Whether two results of outputs and state are equal, up to rounding."""
    (y, state), (other, other_state) = found, expected
    assert y.shape == other.shape
    return bool(
        np.allclose(y, other, rtol=0, atol=atol)
        and np.allclose(state.flat(), other_state.flat(), rtol=0, atol=atol)
    )


# ---- equal results in every form of call


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_equals_its_sequences_one_by_one(name: str) -> None:
    found = network(name)
    x = data(found, 3, 5)
    outputs, state = found.run(x)
    assert outputs.shape == (3, 5, *found.load().network.output_shape)
    assert (state.batch_shape, state.dtype, outputs.dtype) == ((3,), np.float32, np.float32)
    for row in range(3):
        y, after = found.run(x[row])
        assert after.batch_shape == (1,)
        assert np.allclose(y, outputs[row], rtol=0, atol=1e-6)
        assert np.allclose(after.flat()[0], state.flat()[row], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_time_major_only_swaps_the_axes(name: str) -> None:
    found = network(name)
    x = data(found, 3, 5)
    outputs, state = found.run(x, lengths=[5, 2, 0])
    y, after = found.run(x.swapaxes(0, 1), lengths=[5, 2, 0], time_major=True)
    assert same((y.swapaxes(0, 1), after), (outputs, state), 0)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "bidirectional"])
def test_parts_and_single_steps_equal_one_run(name: str) -> None:
    found = network(name)
    x = data(found, 2, 7)
    whole = found.run(x)
    parts = list(found.run_chunks([x[:, :3], x[:, 3:4], x[:, 4:]]))
    assert same((np.concatenate([y for y, _ in parts], axis=1), parts[-1][1]), whole)
    state, outputs = found.zero_state(2), []
    for step in range(7):
        m, state = found.step(x[:, step], state)
        assert m.shape == (2, *found.load().network.output_shape)
        outputs.append(m)
    assert same((np.stack(outputs, axis=1), state), whole)


@pytest.mark.parametrize("name", NAMES)
def test_past_its_end_a_sequence_outputs_zero_and_keeps_its_state(name: str) -> None:
    found = network(name)
    x = data(found, 4, 6)
    outputs, state = found.run(x, lengths=LENGTHS)
    for row, length in enumerate(LENGTHS):
        assert not outputs[row, length:].any()
        if length:
            y, after = found.run(x[row, :length])
            assert np.allclose(y, outputs[row, :length], rtol=0, atol=1e-6)
            assert np.allclose(after.flat()[0], state.flat()[row], rtol=0, atol=1e-6)
        else:
            assert not state.flat()[row].any()
    x[np.arange(6) >= LENGTHS[:, None]] = np.nan  # values after the end have no effect
    assert same(found.run(x, lengths=LENGTHS), (outputs, state), 0)


def test_outputs_of_both_directions_are_concatenated() -> None:
    ckpt = lstmstate.open_checkpoint(SAMPLES / "bidirectional")
    forward, backward = ckpt.cells.values()
    x = data(ckpt.network(), 2, 6)
    outputs, state = ckpt.network().run(x)
    fw, after_fw = forward.run(x)
    bw, after_bw = backward.run(x[:, ::-1])
    expected = np.concatenate([fw, bw[:, ::-1]], axis=-1)
    assert same((outputs, state), (expected, StackState([after_fw, after_bw])))


def test_a_backward_cell_is_not_run_in_parts() -> None:
    found = network("bidirectional")
    with pytest.raises(UnsupportedError, match="begins at the end of a sequence"):
        next(found.run_chunks([data(found, 2, 6)]))


# ---- cells, stacks, and their members


def test_a_cell_a_stack_and_a_checkpoint_run_the_same() -> None:
    ckpt = lstmstate.open_checkpoint(SUNSPOTS)
    (stack,) = ckpt.stacks.values()
    first, second = (ckpt.cell(name) for name in (FIRST, SECOND))
    x = numbers(2, 9, 1)
    y, after_first = first.run(x)
    y, after_second = second.run(y)
    expected = y, StackState([after_first, after_second])
    assert same(stack.run(x), expected)
    assert same(ckpt.network().run(x), expected)
    assert same(ckpt.network(stack=stack.name).run(x), expected)
    assert [cell.cell for cell in stack.run(x)[1]] == [FIRST, SECOND]
    assert stack.zero_state(5).flat().shape == (5, 72)
    assert first.step(x[:, 0], first.zero_state(2))[0].shape == (2, 24)
    assert next(first.run_chunks([x]))[0].shape == (2, 9, 24)
    assert same(next(stack.run_chunks([x])), expected)
    assert same(
        (stack.step(x[:, 0])[0][:, None], stack.step(x[:, 0])[1]), stack.run(x[:, :1]), 1e-6
    )


class StateTuple(NamedTuple):
    """As LSTMStateTuple of TensorFlow."""

    c: Array
    h: Array


@pytest.mark.parametrize("pair", [tuple, StateTuple._make])
def test_pairs_of_arrays_are_states(pair: Callable[[Iterable[Any]], Any]) -> None:
    ckpt = lstmstate.open_checkpoint(SUNSPOTS)
    network, cell = ckpt.network(), ckpt.cell(FIRST)
    x = numbers(2, 4, 1)
    whole = network.run(x)[1]
    pairs = [pair(one) for one in whole]
    for given, state, found in ((pairs[0], whole[0], cell), (tuple(pairs), whole, network)):
        assert same(found.run(x, given), found.run(x, state), 0)
        assert same(found.step(x[:, 0], given), found.step(x[:, 0], state), 0)
        assert same(next(found.run_chunks([x], given)), next(found.run_chunks([x], state)), 0)
    assert same(network.run(x, [*pairs]), network.run(x, whole), 0)


@pytest.mark.parametrize(
    "state", [[[1.0], [1.0]], ([[1.0]],), "ab", {"c": [1.0], "m": [1.0]}, np.ones((2, 1, 24))]
)
def test_other_objects_are_not_states(state: Any) -> None:
    cell = lstmstate.open_checkpoint(SUNSPOTS).cell(FIRST)
    with pytest.raises(ValueError, match=r"expected an LSTMState or a tuple \(c, m\), .*, got "):
        cell.run(numbers(1, 2, 1), state)


def test_the_weights_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[str] = []
    ckpt = lstmstate.open_checkpoint(SUNSPOTS)
    cell = ckpt.cell(FIRST)
    real = lstmstate.Variable.read
    monkeypatch.setattr(
        lstmstate.Variable, "read", lambda self: (reads.append(self.name), real(self))[1]
    )
    for _ in range(3):
        cell.run(numbers(2, 1))
    weights = [name for name in reads if name != "saved_state"]
    assert len(weights) == len(set(weights))
    assert {f"{FIRST}/bias", f"{FIRST}/kernel"} <= set(reads)


def test_opening_and_describing_reads_no_weights(tmp_path: Path) -> None:
    prefix = checkpoint(tmp_path / "x.ckpt", lstm_cell())
    ckpt = lstmstate.open_checkpoint(prefix)
    found = ckpt.network()
    (tmp_path / "x.ckpt.data-00000-of-00001").unlink()
    assert "rnn/lstm_cell" in repr(found)
    with pytest.raises(LstmstateError, match=r"x\.ckpt"):
        found.load()


# ---- states


def test_a_state_of_one_row_is_used_for_the_whole_batch() -> None:
    found = network()
    x, one = data(found, 4, 5), found.run(data(found, 3, seed=1))[1]
    assert one.batch_shape == (1,)
    outputs = found.run(x, one)
    bare = LSTMState(one.c[0], one.m[0])  # [units], no batch
    all_ = LSTMState(np.repeat(one.c, 4, axis=0), np.repeat(one.m, 4, axis=0))
    assert same(found.run(x, bare), outputs, 0)
    assert same(found.run(x, all_), outputs, 0)
    assert not same(found.run(x), outputs, 1e-3)


@pytest.mark.parametrize("dtype", ["float16", "float64", "int32", "bool"])
def test_a_state_is_cast_and_not_changed(dtype: str) -> None:
    found = network()
    halves = [np.ones((2, 8), dtype), np.zeros((2, 5), dtype)]
    state = LSTMState(*halves)
    x = data(found, 2, 3)
    before = x.copy()
    expected = found.run(x, LSTMState(*(half.astype("f4") for half in halves)))
    assert same(found.run(x, state), expected, 0)
    assert (state.c == 1).all() and (x == before).all()
    assert expected[1].dtype == np.float32


def test_states_of_a_stack_are_bound_by_cell_name() -> None:
    found = network("bidirectional")
    x = data(found, 2, 5)
    state = found.run(x)[1]
    assert isinstance(state, StackState)
    assert same(found.run(x, StackState(state.cells[::-1])), found.run(x, state), 0)
    nameless = StackState([LSTMState(cell.c, cell.m) for cell in state])
    assert same(found.run(x, nameless), found.run(x, state), 0)


def pair(*shapes: int) -> Any:
    """Return a state of zeros with these widths of c and m."""
    *lead, c, m = shapes
    return LSTMState(np.zeros((*lead, c)), np.zeros((*lead, m)))


@pytest.mark.parametrize(
    ("state", "problem"),
    [
        (pair(2, 5, 8), "the state is c 5 and m 8 wide, and the cell's c 8 and m 5"),
        (pair(3, 8, 5), "that of a batch of 3, and the input has a batch of 2"),
        (pair(2, 2, 8, 5), r"the state has the leading axes \[2, 2\], and a run takes one"),
        (StackState([pair(2, 8, 5)] * 2), "expected the state of 1 cell, got that of 2"),
        (LSTMState(np.zeros((2, 8), complex), np.zeros((2, 5), complex)), "complex128"),
        ((np.zeros((2, 5)), np.zeros((2, 8))), "the state is c 5 and m 8 wide"),
        ([(np.zeros((2, 8)), np.zeros((2, 5)))] * 2, "expected the state of 1 cell, got that of 2"),
        (np.zeros((2, 13)), r"an LSTMState or a tuple \(c, m\)"),
    ],
)
def test_a_state_that_does_not_fit_is_reported(state: Any, problem: str) -> None:
    found = network()
    with warnings.catch_warnings(), pytest.raises(LstmstateError, match=problem):
        warnings.simplefilter("error")
        found.run(data(found, 2, 4), state)


# ---- inputs


@pytest.mark.parametrize("dtype", ["float64", "float16", "int8", "uint8", "bool"])
def test_inputs_are_cast(dtype: str) -> None:
    found = network()
    x = np.arange(12).reshape(1, 4, 3).astype(dtype)
    assert same(found.run(x), found.run(x.astype("f4")), 0)
    assert same(found.run(x.tolist()), found.run(x.astype("f4")), 0)


@pytest.mark.parametrize(
    "x",
    [
        np.zeros((2, 4, 4)),
        np.zeros((2, 4, 2)),
        np.zeros(3),
        np.zeros((1, 2, 4, 3)),
        np.zeros((2, 0, 3)),
        np.zeros((0, 4, 3)),
        np.zeros((2, 4, 3), complex),
        np.full((2, 4, 3), "1"),
        np.full((2, 4, 3), None),
    ],
)
def test_inputs_that_do_not_fit_get_the_expected_shapes(x: Array) -> None:
    with pytest.raises(LstmstateError) as caught:
        network().run(x)
    assert str(caught.value) == (
        f"rnn/lstm_cell: expected {'x' if x.dtype.kind == 'f' else 'numbers'} [batch, time, 3] or "
        f"[time, 3], got {x.dtype} {list(x.shape)}"
    )


@pytest.mark.parametrize("shape", [(3,), (2, 4, 3)])
def test_a_step_takes_a_batch_of_rows(shape: tuple[int, ...]) -> None:
    with pytest.raises(LstmstateError, match=r"expected x \[batch, input_size\], got"):
        network().step(np.zeros(shape))


@pytest.mark.parametrize(
    "lengths", [[4], [4, 4, 4], [4, 5], [-1, 2], [1.5, 2.0], [[4, 4]], 4, ["4", "4"]]
)
def test_lengths_are_one_whole_number_for_each_sequence(lengths: Any) -> None:
    found = network()
    with pytest.raises(LstmstateError, match="2 whole numbers from 0 to 4"):
        found.run(data(found, 2, 4), lengths=lengths)


# ---- options


def test_an_option_overrides_the_files() -> None:
    found = network()
    x = data(found, 2, 20)
    plain, wide = found.run(x), found.run(x, cell_clip=None, proj_clip=None)
    assert np.abs(plain[1].c).max() == 0.75  # the graph's clips take effect
    assert np.abs(wide[1].c).max() > 0.75
    assert same(found.run(x, cell_clip=0.75, proj_clip=0.25, forget_bias=0.5), plain, 0)
    assert not same(found.run(x, activation="relu"), plain, 1e-3)
    (settled,) = found.load(RunOptions(given={"cell_clip": None})).settled
    assert settled.options["cell_clip"].source == "option"
    assert settled.contradicted["cell_clip"].value == 0.75


@pytest.mark.parametrize(
    "option",
    [
        {"forget_bias": None},
        {"forget_bias": "1"},
        {"forget_bias": float("nan")},
        {"cell_clip": -1.0},
        {"cell_clip": True},
        {"proj_clip": float("nan")},
        {"activation": "gelu"},
        {"activation": None},
        {"recurrent_activation": "tan"},
        {"peepholes": 1},
    ],
)
def test_unknown_options_are_refused(option: dict[str, Any]) -> None:
    found = network()
    ((name, value),) = option.items()
    for run in (found.run, found.step, lambda x, **how: next(found.run_chunks([x], **how))):
        with pytest.raises(LstmstateError) as caught:
            run(data(found, 2), **option)
        assert isinstance(caught.value, ValueError)
        assert str(caught.value).startswith(f"{name} cannot be {value!r}; ")


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(
        LstmstateError, match="there is no engine 'jax'; pass one of auto, graph, numpy"
    ):
        network().run(numbers(2, 3), engine="jax")


def test_nan_weights_are_noted(tmp_path: Path) -> None:
    variables = lstm_cell()
    variables["rnn/lstm_cell/bias"][3] = np.nan
    ckpt = lstmstate.open_checkpoint(checkpoint(tmp_path / "x.ckpt", variables))
    assert ckpt.network().load().not_finite == ["rnn/lstm_cell has NaN or Inf in its weights"]
    for name in NAMES:
        assert network(name).load().not_finite == []


def test_cells_of_several_dtypes_do_not_run_together(tmp_path: Path) -> None:
    second = {name: values.astype("f8") for name, values in lstm_cell(SECOND, 2, 4).items()}
    ckpt = lstmstate.open_checkpoint(
        checkpoint(tmp_path / "x.ckpt", lstm_cell(FIRST, 4, 3) | second)
    )
    with pytest.raises(UnsupportedError, match="columns of float64, and gets 4 of float32"):
        ckpt.network().load()
    with pytest.warns(UserWarning, match="defaults are used: forget_bias 1, activation tanh"):
        outputs, _ = ckpt.cell(SECOND).run(numbers(2, 4))
    assert outputs.dtype == np.float64
    ckpt.cell(SECOND).run(numbers(2, 4))  # it is printed once
