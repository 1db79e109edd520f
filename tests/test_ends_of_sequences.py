"""Ends of sequences: lengths that are fed, have a default or are computed, and masks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Shell
from graphs import assert_same, drawn, evaluated, ran

import lstmstate
from lstmstate import LSTMState, UnsupportedError

BATCH, STEPS, INPUTS, UNITS = 3, 5, 4, 6
LENGTHS = np.array([5, 2, 3], "i4")
Lengths = Callable[[Any, Any], Any]


def padded() -> Any:
    """Return sequences that are zero after their ends."""
    x = drawn(BATCH, STEPS, INPUTS)
    x[np.arange(STEPS) >= LENGTHS[:, None]] = 0
    return x


def cell(tf: Any) -> Any:
    return tf.nn.rnn_cell.LSTMCell(UNITS)


def state_of(tf: Any, x: Any) -> tuple[Any, dict[Any, Any]]:
    """Return a state that is fed, and its values."""
    halves = [tf.placeholder(tf.float32, [x.shape[0], UNITS], name) for name in ("c0", "m0")]
    values = {half: drawn(BATCH, UNITS, seed=at) / 2 for at, half in enumerate(halves, 7)}
    return tf.nn.rnn_cell.LSTMStateTuple(*halves), values


STATE = LSTMState(drawn(BATCH, UNITS, seed=7) / 2, drawn(BATCH, UNITS, seed=8) / 2)


FED = lambda tf, x: tf.placeholder(tf.int32, [None], "lengths")  # noqa: E731
OF_DEFAULT = lambda tf, x: tf.placeholder_with_default(  # noqa: E731
    tf.fill([tf.shape(x)[0]], STEPS), [None], "lengths"
)


def of_small_default(tf: Any, x: Any) -> Any:
    return tf.placeholder_with_default(np.full(BATCH, 3, "i4"), [None], "lengths")


def used(tf: Any, x: Any) -> Any:
    """Lengths of sequences that are padded with zeros."""
    return tf.cast(tf.reduce_sum(tf.sign(tf.reduce_max(tf.abs(x), 2)), 1), tf.int32)


def constant(tf: Any, x: Any) -> Any:
    return tf.constant(LENGTHS)


def in_loop(tf: Any, x: Any, lengths: Any, state: Any) -> tuple[Any, Any]:
    return tf.nn.dynamic_rnn(cell(tf), x, lengths, state)


def repeated(tf: Any, x: Any, lengths: Any, state: Any) -> tuple[Any, Any]:
    steps = tf.unstack(x, STEPS, axis=1)
    outputs, last = tf.nn.static_rnn(cell(tf), steps, state, sequence_length=lengths)
    return outputs, last


def by_outputs(outputs: Any) -> Any:
    """Return outputs of all steps, `[batch, time, width]`."""
    return np.stack(outputs, 1) if isinstance(outputs, list) else outputs


@pytest.mark.covering(1)
@pytest.mark.parametrize("steps", [in_loop, repeated])
@pytest.mark.parametrize(
    "case",  # the lengths of the graph, whether they are given, and those that it takes
    [
        *((FED, given, taken) for given, taken in ((True, LENGTHS), (False, [STEPS] * BATCH))),
        *((OF_DEFAULT, given, taken) for given, taken in ((True, LENGTHS), (False, None))),
        (of_small_default, True, LENGTHS),
        (of_small_default, False, None),
        (used, False, None),
        (constant, False, None),
        (
            lambda tf, x: tf.cast(
                tf.reduce_sum(tf.placeholder(tf.float32, [None, None], "mask"), 1), tf.int32
            ),
            True,
            LENGTHS,
        ),
    ],
)
def test_sequences_end_as_in_the_graph(
    steps: Any, case: tuple[Lengths, bool, Any], tmp_path: Path
) -> None:
    x, (lengths, given, taken) = padded(), case

    def build(tf: Any) -> Any:
        sequence = tf.placeholder(
            tf.float32, [BATCH if lengths is constant else None, STEPS, INPUTS], "x"
        )
        ends = lengths(tf, sequence)
        state, values = state_of(tf, sequence)
        outputs, last = steps(tf, sequence, ends, state)
        values |= {sequence: x} | ({} if taken is None else {ends: np.asarray(taken, "i4")})
        return [outputs, *last], values

    prefix, expected = evaluated(tmp_path, build)
    found = ran(prefix, x, STATE, lengths=LENGTHS if given else None)
    assert_same(found, [by_outputs(expected[0]), *expected[1:]])


def test_lengths_equal_to_the_number_of_steps_change_nothing(shell: Shell, tmp_path: Path) -> None:
    """The graph has other lengths if none are passed."""

    def build(tf: Any) -> Any:
        x = tf.placeholder(tf.float32, [None, None, INPUTS], "x")
        lengths = of_small_default(tf, x)
        outputs, last = tf.nn.dynamic_rnn(cell(tf), x, lengths, dtype=tf.float32)
        return [outputs, *last], {x: padded(), lengths: [STEPS] * BATCH}

    prefix, expected = evaluated(tmp_path, build)
    np.save(tmp_path / "x.npy", padded())
    np.save(tmp_path / "lengths.npy", np.full(BATCH, STEPS))
    out = tmp_path / "out.npz"
    shell(
        "run", prefix, tmp_path / "x.npy", "--lengths", tmp_path / "lengths.npy", "-o", out, code=0
    )
    found = np.load(out)
    assert_same([found[name] for name in ("outputs", "c", "m")], expected)


def test_a_note_names_padding_if_the_graph_differs_there_alone(
    shell: Shell, tmp_path: Path
) -> None:
    def build(tf: Any) -> Any:
        x = tf.placeholder(tf.float32, [None, STEPS, INPUTS], "x")
        outputs, last = tf.nn.dynamic_rnn(cell(tf), x, used(tf, x), dtype=tf.float32)
        return [outputs, *last], {x: padded()}

    prefix, _ = evaluated(tmp_path, build)
    np.save(tmp_path / "x.npy", padded())
    done = shell("run", prefix, tmp_path / "x.npy", code=0)
    assert ", only where the input is zeros, as padding is\n" in done.err


def test_lengths_computed_from_unfed_values_are_noted(shell: Shell, tmp_path: Path) -> None:
    """The graph counts the token ids; x is computed from them."""

    def build(tf: Any) -> Any:
        words = tf.placeholder(tf.int32, [None, None], "words")
        table = tf.get_variable("table", [9, INPUTS])
        x = tf.nn.embedding_lookup(table, words)
        lengths = tf.reduce_sum(tf.sign(words), 1)
        outputs, last = tf.nn.dynamic_rnn(cell(tf), x, lengths, dtype=tf.float32)
        return [outputs, *last], {x: padded(), words: np.arange(STEPS) < LENGTHS[:, None]}

    prefix, expected = evaluated(tmp_path, build)
    assert_same(ran(prefix, padded(), lengths=LENGTHS), expected)
    np.save(tmp_path / "x.npy", padded())
    done = shell("run", prefix, tmp_path / "x.npy", "-o", tmp_path / "out.npz", code=0)
    note = "the graph computes the sequence lengths from words, which is not fed: all steps are run"
    assert f"{note} unless lengths are passed" in done.err


def test_lengths_come_from_an_iterator(tmp_path: Path) -> None:
    x = padded()

    def build(tf: Any) -> Any:
        rows = tf.data.Dataset.from_tensors((x, LENGTHS)).repeat()
        sequence, lengths = tf.data.make_one_shot_iterator(rows).get_next()
        outputs, last = tf.nn.dynamic_rnn(cell(tf), sequence, lengths, dtype=tf.float32)
        return [outputs, *last], {}

    prefix, expected = evaluated(tmp_path, build)
    assert_same(ran(prefix, x, lengths=LENGTHS), expected)


@pytest.mark.parametrize("is_flat", [True, False])
def test_a_state_in_one_array_is_kept_after_the_end(is_flat: bool, tmp_path: Path) -> None:
    x = padded()

    def build(tf: Any) -> Any:
        sequence = tf.placeholder(tf.float32, [BATCH, STEPS, INPUTS], "x")
        lengths = tf.placeholder(tf.int32, [BATCH], "lengths")
        one = tf.nn.rnn_cell.BasicLSTMCell(UNITS, state_is_tuple=not is_flat)
        steps = tf.unstack(sequence, axis=1)
        outputs, last = tf.nn.static_rnn(one, steps, sequence_length=lengths, dtype=tf.float32)
        halves = tf.split(last, 2, 1) if is_flat else last
        return [tf.stack(outputs, 1), *halves], {sequence: x, lengths: LENGTHS}

    prefix, expected = evaluated(tmp_path, build)
    assert_same(ran(prefix, x, lengths=LENGTHS), expected)


@pytest.mark.parametrize("is_stacked", [True, False])
def test_both_directions_end_without_a_loop(is_stacked: bool, tmp_path: Path) -> None:
    """Their outputs are side by side for each step, or are concatenated as well."""
    x = padded()

    def build(tf: Any) -> Any:
        sequence = tf.placeholder(tf.float32, [None, STEPS, INPUTS], "x")
        lengths = tf.placeholder(tf.int32, [None], "lengths")
        steps = tf.unstack(sequence, axis=1)
        outputs, *last = tf.nn.static_bidirectional_rnn(
            cell(tf), cell(tf), steps, sequence_length=lengths, dtype=tf.float32
        )
        whole = tf.stack(outputs, 1) if is_stacked else outputs
        return [whole, *last[0], *last[1]], {sequence: x, lengths: LENGTHS}

    prefix, expected = evaluated(tmp_path, build)
    found = ran(prefix, x, lengths=LENGTHS)
    assert_same(found, [by_outputs(expected[0]), *expected[1:]])


def clipped(tf: Any) -> Any:
    """Return a cell of no known family, so that the graph's own step is run."""

    class Cell(tf.nn.rnn_cell.LSTMCell):  # type: ignore[misc, name-defined]
        def call(self, x: Any, state: Any) -> Any:
            _, (c, m) = super().call(x, state)
            return m, tf.nn.rnn_cell.LSTMStateTuple(0.9 * c, m)

    return Cell(UNITS, name="lstm_cell")


@pytest.mark.parametrize("outputs_of", [None, "m"])
@pytest.mark.parametrize("loop", [True, False])
def test_m_of_a_backward_cell_is_in_time_order(
    loop: bool, outputs_of: str | None, tmp_path: Path
) -> None:
    x = drawn(BATCH, STEPS, INPUTS)

    def build(tf: Any) -> Any:
        sequence = tf.placeholder(tf.float32, [None, STEPS, INPUTS], "x")
        cells = clipped(tf), clipped(tf)
        if loop:
            outputs, last = tf.nn.bidirectional_dynamic_rnn(*cells, sequence, dtype=tf.float32)
            return [tf.concat(outputs, 2), *last[0], *last[1]], {sequence: x}
        steps = tf.unstack(sequence, axis=1)
        outputs, *last = tf.nn.static_bidirectional_rnn(*cells, steps, dtype=tf.float32)
        return [outputs, *last[0], *last[1]], {sequence: x}

    prefix, expected = evaluated(tmp_path, build)
    found = ran(prefix, x, engine="graph", outputs=outputs_of)
    assert_same(found, [by_outputs(expected[0]), *expected[1:]])


@pytest.mark.parametrize("lengths", [LENGTHS, None])
def test_sums_of_backward_steps_are_in_time_order(lengths: Any, tmp_path: Path) -> None:
    x = padded()

    def build(tf: Any) -> Any:
        sequence = tf.placeholder(tf.float32, [None, STEPS, INPUTS], "x")
        ends = None if lengths is None else tf.placeholder(tf.int32, [None], "lengths")
        one = [tf.nn.rnn_cell.LSTMCell(INPUTS) for _ in range(2)]
        outputs, *last = tf.nn.static_bidirectional_rnn(
            *map(tf.nn.rnn_cell.ResidualWrapper, one),
            tf.unstack(sequence, axis=1),
            sequence_length=ends,
            dtype=tf.float32,
        )
        fed = {sequence: x} | ({} if ends is None else {ends: lengths})
        return [outputs, *last[0], *last[1]], fed

    prefix, expected = evaluated(tmp_path, build)
    found = ran(prefix, x, lengths=lengths, engine="graph")
    assert_same(found, [by_outputs(expected[0]), *expected[1:]])


def test_steps_of_a_backward_cell_are_refused_if_the_graph_sets_lengths(tmp_path: Path) -> None:
    def build(tf: Any) -> Any:
        x = tf.placeholder(tf.float32, [None, None, INPUTS], "x")
        outputs, _ = tf.nn.bidirectional_dynamic_rnn(
            cell(tf), cell(tf), x, used(tf, x), dtype=tf.float32
        )
        return outputs, {x: padded()}

    prefix, expected = evaluated(tmp_path, build)
    assert_same(ran(prefix, padded())[:1], [np.concatenate(expected, 2)])
    with pytest.raises(UnsupportedError, match="cannot be ordered: the graph computes the lengths"):
        ran(prefix, padded(), outputs="m", engine="graph")


def fused(tf: Any, x: Any, lengths: Any) -> tuple[Any, list[Any]]:
    """Step a cell like LSTMBlockFusedCell: one operation over the longest of the sequences."""
    kernel = tf.get_variable("kernel", [INPUTS + UNITS, 4 * UNITS])
    bias, none = tf.get_variable("bias", [4 * UNITS]), tf.zeros([UNITS])
    zeros = tf.zeros([tf.shape(x)[1], UNITS])
    made = tf.raw_ops.BlockLSTM(
        seq_len_max=tf.cast(tf.reduce_max(lengths), tf.int64),
        x=x,
        cs_prev=zeros,
        h_prev=tf.zeros([tf.shape(x)[1], UNITS]),
        w=kernel,
        wci=none,
        wcf=none,
        wco=none,
        b=bias,
    )
    mask = tf.transpose(tf.sequence_mask(lengths, tf.shape(x)[0], dtype=tf.float32))
    outputs = made.h * tf.tile(mask[..., None], [1, 1, UNITS])
    at = tf.stack([lengths - 1, tf.range(tf.shape(x)[1])], 1)
    return outputs, [tf.gather_nd(made.cs, at), tf.gather_nd(outputs, at)]


@pytest.mark.parametrize("lengths", [LENGTHS, None])
def test_one_operation_over_sequences_with_lengths(lengths: Any, tmp_path: Path) -> None:
    x = padded()

    def build(tf: Any) -> Any:
        sequence = tf.placeholder(tf.float32, [None, None, INPUTS], "x")
        ends = tf.placeholder(tf.int32, [None], "lengths")
        turned = tf.transpose(sequence, [1, 0, 2])
        with tf.variable_scope("forward/lstm_fused_cell"):
            outputs, last = fused(tf, turned, ends)
        with tf.variable_scope("backward/lstm_fused_cell"):
            back = tf.reverse_sequence(turned, ends, seq_axis=0, batch_axis=1)
            backward, last_backward = fused(tf, back, ends)
            backward = tf.reverse_sequence(backward, ends, seq_axis=0, batch_axis=1)
        both = tf.transpose(tf.concat([outputs, backward], 2), [1, 0, 2])
        given = np.full(BATCH, STEPS) if lengths is None else lengths
        return [both, *last, *last_backward], {sequence: x, ends: given}

    prefix, expected = evaluated(tmp_path, build)
    assert_same(ran(prefix, x, lengths=lengths), expected)


@pytest.mark.parametrize("lengths", [LENGTHS, None])
@pytest.mark.parametrize("is_kept", [True, False])
def test_a_loop_that_carries_its_next_input(is_kept: bool, lengths: Any, tmp_path: Path) -> None:
    """Like a decoder: the step before reads the input of a step, and old states are kept."""
    x = padded()

    def build(tf: Any) -> Any:
        sequence = tf.placeholder(tf.float32, [None, None, INPUTS], "x")
        ends = tf.placeholder(tf.int32, [None], "lengths")
        one, zero = cell(tf), tf.zeros([tf.shape(sequence)[0], INPUTS])
        given = tf.TensorArray(tf.float32, tf.shape(sequence)[1])
        given = given.unstack(tf.transpose(sequence, [1, 0, 2]))
        begun = one.zero_state(tf.shape(sequence)[0], tf.float32)

        def after(time: Any, output: Any, state: Any, loop_state: Any) -> Any:
            ended = time >= ends
            one = tf.cond(tf.reduce_all(ended), lambda: zero, lambda: given.read(time))
            one.set_shape([None, INPUTS])
            return ended, one, begun if state is None else state, output, None

        def body(time: Any, one_x: Any, ended: Any, c: Any, m: Any, made: Any) -> Any:
            output, (new_c, new_m) = one(one_x, tf.nn.rnn_cell.LSTMStateTuple(c, m))
            following, next_x, *_ = after(time + 1, output, (c, m), None)
            made = made.write(time, output)
            return time + 1, next_x, following | ended, new_c, new_m, made

        if is_kept:
            made, last, _ = tf.nn.raw_rnn(one, after)
        else:
            ended, first, *_ = after(0, None, None, None)
            made = tf.TensorArray(tf.float32, 0, dynamic_size=True)
            _, _, _, *last, made = tf.while_loop(
                lambda time, one_x, ended, *_: ~tf.reduce_all(ended),
                body,
                (0, first, ended, *begun, made),
            )
        outputs = tf.transpose(made.stack(), [1, 0, 2])
        taken = np.full(BATCH, STEPS) if lengths is None else lengths
        return [outputs, *last], {sequence: x, ends: taken}

    prefix, expected = evaluated(tmp_path, build)
    assert_same(ran(prefix, x, lengths=lengths), expected)


def keras(tf: Any, x: Any, **how: Any) -> list[Any]:
    import tf_keras

    layer = tf_keras.layers.LSTM(UNITS, return_sequences=True, return_state=True, **how)
    outputs, m, c = layer(x)
    return [outputs, c, m]


@pytest.mark.parametrize("how", [{}, {"unroll": True}, {"go_backwards": True}])
def test_a_masked_step_keeps_the_state(how: dict[str, Any], tmp_path: Path) -> None:
    import tf_keras

    x = padded()
    x[0, 2] = x[2, 0] = 0

    def build(tf: Any) -> Any:
        sequence = tf_keras.layers.Input([STEPS, INPUTS], name="x")
        return keras(tf, tf_keras.layers.Masking(0.0)(sequence), **how), {sequence: x}

    prefix, expected = evaluated(tmp_path, build)
    assert_same(ran(prefix, x), expected)


def test_a_mask_computed_from_token_ids_is_fed_with_the_lengths(tmp_path: Path) -> None:
    import tf_keras

    def build(tf: Any) -> Any:
        words = tf_keras.layers.Input([None], name="words")
        x = tf_keras.layers.Embedding(9, INPUTS, mask_zero=True)(words)
        ids = (np.arange(STEPS) < LENGTHS[:, None]).astype("f4")
        return keras(tf, x), {x: padded(), words: ids}

    prefix, expected = evaluated(tmp_path, build)
    assert_same(ran(prefix, padded(), lengths=LENGTHS), expected)
    assert lstmstate.open_checkpoint(prefix).network().load().engine == "graph"


def test_lengths_are_refused_if_the_graph_computes_them_from_a_fixed_size_x(tmp_path: Path) -> None:
    def build(tf: Any) -> Any:
        x = tf.placeholder(tf.float32, [None, STEPS, INPUTS], "x")
        used = tf.sign(tf.reduce_max(tf.abs(x), 2))
        lengths = tf.cast(tf.reduce_sum(used, 1), tf.int32)
        outputs, last = tf.nn.dynamic_rnn(cell(tf), x, lengths, dtype=tf.float32)
        return [outputs, *last], {x: padded()}

    prefix, expected = evaluated(tmp_path, build)
    assert_same(ran(prefix, padded(), engine="graph"), expected)
    with pytest.raises(UnsupportedError, match="finds the ends of sequences in x"):
        ran(prefix, drawn(BATCH, STEPS, INPUTS), lengths=LENGTHS, engine="graph")
