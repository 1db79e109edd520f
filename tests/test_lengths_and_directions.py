"""Laws of layers and directions, over sequences of unequal lengths and in pieces of any size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmstate.engines import load
from lstmstate.engines.canonical_network import (
    CanonicalCell,
    Network,
    Pair,
    RunOutputs,
    no_states,
    reverse_sequences,
)

Array = Any

INPUTS, STEPS = 3, 7
steady = settings(derandomize=True, deadline=None, max_examples=20)
TOLERANCE = {"float64": 1e-13, "float32": 1e-6, "float16": 2e-3}
DTYPES = list(TOLERANCE)


def made(inputs: int, units: int, proj: int | None, dtype: str, seed: int) -> CanonicalCell:
    """Return a cell with peepholes, clips and a projection if there is one."""
    rng = np.random.default_rng([inputs, units, seed])

    def weights(*shape: int) -> Array:
        return rng.uniform(-0.6, 0.6, shape).astype(dtype)

    width = proj or units
    return CanonicalCell(
        name=f"cell {seed}",
        family="LSTMCell",
        gates="ijfo",
        kernel=weights(inputs, 4 * units),
        recurrent=weights(width, 4 * units),
        bias=weights(4 * units),
        peepholes={gate: weights(units) for gate in "ifo"} if proj else {},
        norms={},
        norm_epsilon=1e-12,
        projection=weights(units, proj) if proj else None,
        forget_bias=1.0,
        cell_clip=0.7 if proj else None,
        proj_clip=0.4 if proj else None,
        activation="tanh",
        candidate="tanh",
        recurrent_activation="sigmoid",
    )


def one_cell(dtype: str) -> Network:
    return Network((((made(INPUTS, 4, None, dtype, 0),),),))


def a_stack(dtype: str) -> Network:
    return Network(
        (((made(INPUTS, 5, 2, dtype, 1),),), ((made(2, 4, None, dtype, 2),),))
    )  # fmt: skip


def both_directions(dtype: str) -> Network:
    """Chains of two cells in each direction, and a cell in each direction over their outputs."""
    chains = tuple(
        (made(INPUTS, 5, 2, dtype, seed), made(2, units, None, dtype, seed))
        for seed, units in ((3, 4), (4, 3))
    )
    above = tuple((made(7, 2, None, dtype, seed),) for seed in (5, 6))
    return Network((chains, above))


NETWORKS = [one_cell, a_stack, both_directions]
networks = pytest.mark.parametrize("network_of", NETWORKS, ids=lambda f: f.__name__)


def data(network: Network, steps: int, batch: int, seed: int = 0) -> tuple[Array, list[Pair]]:
    """Return inputs, and states that are not zero."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(steps, batch, INPUTS)).astype(network.dtype)
    states = [
        tuple(rng.uniform(-0.3, 0.3, half.shape).astype(network.dtype) for half in pair)
        for pair in no_states(network, batch)
    ]
    return x, states  # type: ignore[return-value]


def alone(network: Network, x: Array, states: Sequence[Pair], row: int, length: int) -> RunOutputs:
    """Run one sequence of a batch, truncated to its length."""
    start = [(c[row : row + 1], m[row : row + 1]) for c, m in states]
    x = np.ascontiguousarray(x[:length, row : row + 1])
    return load("numpy", network).run(x, start, None, "cmijfo")


def assert_close(ours: Array, theirs: Array, dtype: str) -> None:
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype == dtype
    far = np.abs(ours.astype(np.float64) - theirs).max(initial=0)
    assert far <= TOLERANCE[dtype]


def assert_same(ours: Array, theirs: Array) -> None:
    assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
    assert ours.tobytes() == np.ascontiguousarray(theirs).tobytes()


LENGTHS = st.lists(st.integers(0, STEPS), min_size=1, max_size=6)


# ---- lengths


@networks
@pytest.mark.parametrize("dtype", DTYPES)
@steady
@given(lengths=LENGTHS, seed=st.integers(0, 99))
def test_a_sequence_in_a_batch_equals_the_sequence_alone(
    network_of: Any, dtype: str, lengths: list[int], seed: int
) -> None:
    network = network_of(dtype)
    x, states = data(network, STEPS, len(lengths), seed)
    ran = load("numpy", network).run(x, states, np.array(lengths), "cmijfo")
    for row, length in enumerate(lengths):
        if not length:
            continue
        expected = alone(network, x, states, row, length)
        assert_close(ran.outputs[:length, row : row + 1], expected.outputs, dtype)
        for pair, state in zip(ran.states, expected.states, strict=True):
            for half, other in zip(pair, state, strict=True):
                assert_close(half[row : row + 1], other, dtype)
        for kept, steps in zip(ran.kept, expected.kept, strict=True):
            for letter, values in steps.items():
                assert_close(kept[letter][:length, row : row + 1], values, dtype)


@networks
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", [1, 4, STEPS])
def test_a_sequence_with_a_length_equals_the_truncated_sequence(
    network_of: Any, dtype: str, length: int
) -> None:
    network = network_of(dtype)
    x, states = data(network, STEPS, 1)
    ran = load("numpy", network).run(x, states, np.array([length]))
    expected = alone(network, x, states, 0, length)
    assert_same(ran.outputs[:length], expected.outputs)
    for pair, state in zip(ran.states, expected.states, strict=True):
        assert_same(pair[0], state[0])
        assert_same(pair[1], state[1])


@networks
@pytest.mark.parametrize("dtype", DTYPES)
@steady
@given(lengths=LENGTHS)
def test_outputs_past_the_end_are_zero_for_any_padding(
    network_of: Any, dtype: str, lengths: list[int]
) -> None:
    network = network_of(dtype)
    x, states = data(network, STEPS, len(lengths))
    past = np.arange(STEPS)[:, None] >= np.array(lengths)
    ran = load("numpy", network).run(x, states, np.array(lengths), "cmijfo")
    assert not ran.outputs[past].any()
    x[past] = np.nan
    again = load("numpy", network).run(x, states, np.array(lengths))
    assert_same(again.outputs, ran.outputs)


@networks
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("lengths", [[0], [0, 0], [STEPS, 0, 3], [0, 1]])
def test_a_sequence_of_no_steps_keeps_its_state_to_the_bit(
    network_of: Any, dtype: str, lengths: list[int]
) -> None:
    network = network_of(dtype)
    x, states = data(network, STEPS, len(lengths))
    before = [tuple(half.copy() for half in pair) for pair in states]
    ran = load("numpy", network).run(x, states, np.array(lengths), "cm")
    for at, (pair, state) in enumerate(zip(ran.states, before, strict=True)):
        for letter, half, other in zip("cm", pair, state, strict=True):
            for row in np.flatnonzero(np.array(lengths) == 0):
                assert_same(half[row], other[row])
                assert_same(ran.kept[at][letter][:, row], np.tile(other[row], (STEPS, 1)))


@networks
def test_a_run_does_not_change_its_arguments(network_of: Any) -> None:
    network = network_of("float32")
    x, states = data(network, STEPS, 3)
    copies = [x.copy(), *(half.copy() for pair in states for half in pair)]
    runner = load("numpy", network)
    first = runner.run(x, states, np.array([2, 7, 0]))
    second = runner.run(x, states, np.array([2, 7, 0]))
    assert_same(first.outputs, second.outputs)
    for given_, copy in zip([x, *(half for pair in states for half in pair)], copies, strict=True):
        assert_same(given_, copy)


# ---- pieces


@pytest.mark.parametrize("network_of", NETWORKS[:2], ids=lambda f: f.__name__)
@pytest.mark.parametrize("dtype", DTYPES)
@steady
@given(pieces=st.lists(st.integers(1, 5), min_size=1, max_size=6), batch=st.integers(1, 4))
def test_pieces_of_any_size_equal_one_run(
    network_of: Any, dtype: str, pieces: list[int], batch: int
) -> None:
    network = network_of(dtype)
    x, states = data(network, sum(pieces), batch)
    runner = load("numpy", network)
    whole = runner.run(x, states, None, "cmijfo")
    outputs, kept, at = [], [], 0
    for size in pieces:
        part = runner.run(np.ascontiguousarray(x[at : at + size]), states, None, "cmijfo")
        states = part.states
        outputs.append(part.outputs)
        kept.append(part.kept)
        at += size
    assert_close(np.concatenate(outputs), whole.outputs, dtype)
    for pair, state in zip(states, whole.states, strict=True):
        assert_close(pair[0], state[0], dtype)
        assert_close(pair[1], state[1], dtype)
    for cell, of_whole in enumerate(whole.kept):
        for letter, values in of_whole.items():
            assert_close(np.concatenate([part[cell][letter] for part in kept]), values, dtype)


@pytest.mark.parametrize("batch", [1, 2, 33])
def test_several_projected_blocks_equal_one_run(batch: int) -> None:
    """The input's part of the gates is computed for many steps at once, but not for all."""
    network = Network((((made(INPUTS, 40, None, "float64", 8),),),))
    x, states = data(network, 1700, batch)
    runner = load("numpy", network)
    whole = runner.run(x, states)
    for step in range(1700):
        part = runner.run(x[step : step + 1], states)
        assert_close(part.outputs[0], whole.outputs[step], "float64")
        states = part.states
    assert_close(states[0][0], whole.states[0][0], "float64")


# ---- directions


@steady
@given(lengths=LENGTHS, width=st.integers(1, 3))
def test_reversing_twice_changes_nothing(lengths: list[int], width: int) -> None:
    x = np.random.default_rng(0).normal(size=(STEPS, len(lengths), width))
    assert_same(reverse_sequences(reverse_sequences(x, np.array(lengths)), np.array(lengths)), x)
    assert_same(reverse_sequences(reverse_sequences(x, None), None), x)
    whole = np.full(len(lengths), STEPS)
    assert_same(reverse_sequences(x, whole), np.ascontiguousarray(reverse_sequences(x, None)))
    for row, length in enumerate(lengths):
        once = reverse_sequences(x, np.array(lengths))
        assert_same(once[:length, row], x[:length, row][::-1])
        assert_same(once[length:, row], x[length:, row])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("lengths", [None, [STEPS, 3, 0, 5]])
def test_a_backward_cell_is_a_forward_cell_over_reversed_sequences(
    dtype: str, lengths: list[int] | None
) -> None:
    forward, backward = made(INPUTS, 4, 2, dtype, 1), made(INPUTS, 3, None, dtype, 2)
    both = Network((((forward,), (backward,)),))
    x, states = data(both, STEPS, 4)
    rows = None if lengths is None else np.array(lengths)
    ran = load("numpy", both).run(x, states, rows, "cmijfo")
    assert both.output_shape == ran.outputs.shape[2:] == (5,)
    one = load("numpy", Network((((forward,),),))).run(x, states[:1], rows)
    back = np.ascontiguousarray(reverse_sequences(x, rows))
    other = load("numpy", Network((((backward,),),))).run(back, states[1:], rows, "cmijfo")
    assert_same(ran.outputs[..., :2], one.outputs)
    assert_same(ran.outputs[..., 2:], reverse_sequences(other.outputs, rows))
    for pair, state in zip(ran.states, [*one.states, *other.states], strict=True):
        assert_same(pair[0], state[0])
        assert_same(pair[1], state[1])
    for letter, values in other.kept[0].items():
        assert_same(ran.kept[1][letter], reverse_sequences(values, rows))


# ---- kept arrays


@networks
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("lengths", [None, [STEPS, 2, 5]])
def test_kept_states_agree_with_outputs_and_last_states(
    network_of: Any, dtype: str, lengths: list[int] | None
) -> None:
    network = network_of(dtype)
    x, states = data(network, STEPS, 3)
    rows = None if lengths is None else np.array(lengths)
    ran = load("numpy", network).run(x, states, rows, "cmijfo")
    ends = np.full(3, STEPS) if rows is None else rows
    valid = np.arange(STEPS)[:, None] < ends
    last = ran.kept[-len(network.stages[-1]) :]
    made_m = np.concatenate([kept["m"] for kept in last], axis=-1)
    assert_same(ran.outputs[valid], made_m[valid])
    backward = {
        id(cell) for stage in network.stages for chain in stage[1:] for cell in chain
    }  # fmt: skip
    for cell, kept, pair in zip(network.cells, ran.kept, ran.states, strict=True):
        at = np.zeros(3, np.int64) if id(cell) in backward else ends - 1
        for letter, half in zip("cm", pair, strict=True):
            assert_same(kept[letter][at, np.arange(3)], half)
        units, width = cell.widths
        assert {letter: values.shape[2] for letter, values in kept.items()} == {
            "c": units, "m": width, "i": units, "j": units, "f": units, "o": units,
        }  # fmt: skip
        for gate in "ifo":
            assert (kept[gate][valid] > 0).all()
            assert (kept[gate][valid] < 1).all()
        assert (np.abs(kept["j"][valid]) <= 1).all()


@pytest.mark.parametrize("keep", ["", "c", "m", "jf", "cmijfo"])
def test_keeping_more_arrays_changes_nothing(keep: str) -> None:
    network = both_directions("float32")
    x, states = data(network, STEPS, 3)
    lengths = np.array([4, 0, 7])
    ran = load("numpy", network).run(x, states, lengths, keep)
    assert all(sorted(kept) == sorted(keep) for kept in ran.kept)
    assert_same(ran.outputs, load("numpy", network).run(x, states, lengths).outputs)
