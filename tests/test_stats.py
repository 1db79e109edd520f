"""Statistics of a cell's tensors, gate by gate, compared with NumPy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import writers
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from lstmstate.cells.weights import Stats, cell_stats
from lstmstate.model.checkpoint import open_checkpoint

Values = Mapping[str, NDArray[Any]]
FEW = settings(derandomize=True, deadline=None, max_examples=60)


def noise(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def figures(values: Values) -> dict[tuple[str, str | None], Stats]:
    """Return the statistics of the only cell among some variables, by role and gate."""
    (cell,) = writers.cells({name: value.shape for name, value in values.items()}).values()
    found = list(cell_stats(cell, lambda name: values[name]))
    assert len({(one.role, one.gate) for one in found}) == len(found)
    return {(one.role, one.gate): one for one in found}


def by_numpy(role: str, gate: str | None, part: NDArray[Any]) -> Stats:
    """Return the statistics of a part's finite values, from NumPy."""
    wide = part.astype(np.float64)
    finite = wide[np.isfinite(wide)]
    least = (
        (finite.min(), finite.max(), finite.mean(), finite.std()) if finite.size else (None,) * 4
    )
    broken = int(np.isnan(wide).sum()), int(np.isinf(wide).sum())
    return Stats(role, gate, part.size, *least, int((wide == 0).sum()), *broken)


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
    found = list(cell_stats(cell, lambda name: ckpt.variables[name].read()))
    assert found[0] == Stats("kernel", "i", 28, 1.0, 1.0, 1.0, 0.0, 0, 0, 0)
    assert found[4] == Stats("bias", "i", 4, 0.0, 0.0, 0.0, 0.0, 4, 0, 0)
    assert [one.gate for one in found] == list("ijfo") * 2
