"""Widths of a cell from the shapes of its variables, and shapes that are not a cell."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmstate.cells import shapes
from lstmstate.cells.shapes import Shape, Shapes, Widths

FEW = settings(derandomize=True, deadline=None, max_examples=60)
sizes = st.integers(1, 40)


def one(**roles: Shape) -> Shapes:
    """Return the shapes of a cell whose variables are not sharded."""
    return {role: (shape,) for role, shape in roles.items()}


def cut(size: int, points: list[int]) -> list[int]:
    """Return the lengths of the parts of an axis cut at some points, none of them zero."""
    places = [0, *sorted({point % size for point in points} - {0}), size]
    return [after - before for before, after in pairwise(places)]


# ---- one matrix for all gates


@FEW
@given(inputs=sizes, units=sizes, proj=st.none() | sizes)
def test_a_kernel_shows_all_widths(inputs: int, units: int, proj: int | None) -> None:
    cell = one(kernel=(inputs + (proj or units), 4 * units), bias=(4 * units,))
    if proj:
        cell["projection"] = ((units, proj),)
    assert shapes.fused(cell) == Widths(inputs, units, proj)


@FEW
@given(inputs=sizes, units=sizes, points=st.lists(st.integers(1, 500), min_size=1, max_size=12))
def test_shards_are_joined_on_the_axis_that_gives_a_kernel(
    inputs: int, units: int, points: list[int]
) -> None:
    rows, columns = inputs + units, 4 * units
    bias = ((columns,),)
    by_rows = tuple((part, columns) for part in cut(rows, points))
    by_columns = tuple((rows, part) for part in cut(columns, points))
    for kernel, axis in ((by_rows, 0), (by_columns, 1)):
        found = shapes.fused({"kernel": kernel, "bias": bias})
        assert found == Widths(inputs, units, None, axis if len(kernel) > 1 else None)


@pytest.mark.parametrize(
    ("projection", "proj"),
    [
        (((4, 2),), 2),
        (((2, 2), (2, 2)), 2),  # rows, from 0.7 on
        (((4, 2), (4, 1)), 3),  # columns, 0.5 and 0.6
        (((2, 3), (1, 3), (1, 3)), 3),
    ],
)
def test_a_projection_may_be_in_shards_too(projection: tuple[Shape, ...], proj: int) -> None:
    cell = {"kernel": ((3 + proj, 16),), "bias": ((16,),), "projection": projection}
    assert shapes.fused(cell) == Widths(3, 4, proj)


@pytest.mark.parametrize(
    "cell",
    [
        one(kernel=(7, 18), bias=(18,)),  # four gates do not fit
        one(kernel=(7, 16), bias=(12,)),
        one(kernel=(7, 16), bias=(1, 16)),
        one(kernel=(7, 16), bias=()),
        one(kernel=(4, 16), bias=(16,)),  # no row is left for an input
        one(kernel=(3, 16), bias=(16,)),
        one(kernel=(7, 0), bias=(0,)),
        one(kernel=(0, 16), bias=(16,)),
        one(kernel=(16,), bias=(16,)),
        one(kernel=(7, 4, 4), bias=(16,)),
        one(kernel=(7, 16), bias=(16,), w_f_diag=(3,)),
        one(kernel=(7, 16), bias=(16,), w_f_diag=(4, 1)),
        one(kernel=(7, 16), bias=(16,), projection=(3, 2)),
        one(kernel=(7, 16), bias=(16,), projection=(4,)),
        one(kernel=(7, 16), bias=(16,), projection=(4, 7)),  # it would feed back all rows
        one(kernel=(7, 16), bias=(16,), projection=(4, 0)),
        {"kernel": ((4, 16), (3, 12)), "bias": ((16,),)},
        {"kernel": ((7, 8), (6, 8)), "bias": ((16,),)},
        {"kernel": ((7, 16), (7,)), "bias": ((16,),)},
        {"kernel": ((7, 16),), "bias": ((16,),), "projection": ((2, 2), (1, 2))},
    ],
)
def test_shapes_that_do_not_fit_are_not_a_cell(cell: Shapes) -> None:
    assert shapes.fused(cell) is None


FUSED, KERAS = one(kernel=(7, 16), bias=(16,)), one(kernel=(3, 16), recurrent_kernel=(4, 16))
NORMS, NAS = one(kernel=(7, 16)), one(kernel=(3, 32), recurrent_kernel=(4, 32))
NARROW = one(input_to_cell_w=(4, 3), cell_to_cell_w=(4, 2))
WIDE = one(kernel=(3, 32), recurrent_kernel=(2, 32), projection=(4, 2))


@pytest.mark.parametrize(
    ("family", "cell", "widths"),
    [
        (shapes.fused, one(kernel=(7, 16)), Widths(3, 4)),  # without a bias
        (shapes.coupled, one(kernel=(7, 12), bias=(12,)), Widths(3, 4)),  # three gates
        (shapes.coupled, FUSED, None),
        (shapes.time_freq, one(kernel=(11, 16), bias=(16,)), Widths(3, 4)),  # feeds two states back
        (shapes.time_freq, one(kernel=(8, 16), bias=(16,)), None),
        (shapes.layer_norm, NORMS | {"input/gamma": ((4,),)}, Widths(3, 4)),
        (shapes.layer_norm, NORMS | {"state/beta": ((16,),)}, None),
        (shapes.masked, FUSED | one(mask=(7, 16)), Widths(3, 4)),
        (shapes.masked, FUSED | one(mask=(16, 7)), None),
        (shapes.weight_norm, FUSED | one(norm_0=(16,), norm_1=(16,)), Widths(3, 4)),
        (shapes.weight_norm, FUSED | one(norm_0=(16,), norm_1=(4,)), None),
        (shapes.keras, KERAS, Widths(3, 4)),
        (shapes.keras, KERAS | one(bias=(16,)), Widths(3, 4)),
        (shapes.keras, KERAS | one(bias=(32,)), None),
        (shapes.keras_cudnn, KERAS | one(bias=(32,)), Widths(3, 4)),  # a bias for each kernel
        (shapes.keras_cudnn, KERAS | one(bias=(16,)), None),
        (shapes.nas, NAS, Widths(3, 4)),  # eight blocks
        (shapes.nas, WIDE, Widths(3, 4, 2)),
        (shapes.nas, NAS | one(bias=(16,)), None),
        (shapes.indy, FUSED | one(kernel=(3, 16), recurrent_kernel=(1, 16)), Widths(3, 4)),
        (shapes.indy, FUSED | one(kernel=(3, 16), recurrent_kernel=(4, 16)), None),
        (shapes.tflite, one(input_to_cell_w=(4, 3), cell_to_cell_w=(4, 4)), Widths(3, 4)),
        (shapes.tflite, NARROW, None),
        (shapes.tflite, NARROW | one(projection=(2, 4)), Widths(3, 4, 2)),
        (shapes.tflite, NARROW | one(projection=(4, 2)), None),
        (shapes.convolution, FUSED, None),
        (shapes.opaque, one(opaque_kernel=(160,)), Widths(None, None)),  # only its length
        (shapes.opaque, one(opaque_kernel=(16, 10)), None),
    ],
)
def test_each_family_has_its_own_shapes(family: Any, cell: Shapes, widths: Widths | None) -> None:
    assert family(cell) == widths


# ---- separate input and recurrent matrices


@pytest.mark.parametrize(
    "cell",
    [
        one(kernel=(3, 12), recurrent_kernel=(4, 12), bias=(12,)),  # a GRU's three gates
        one(kernel=(3, 4), recurrent_kernel=(4, 4), bias=(4,)),  # a SimpleRNN of four units
        one(kernel=(3, 16), recurrent_kernel=(4, 12)),
        one(kernel=(3, 16), recurrent_kernel=(3, 16)),
        one(kernel=(3, 16), recurrent_kernel=(4, 16), bias=(48,)),
        one(kernel=(3, 16, 1), recurrent_kernel=(4, 16)),
        one(kernel=(3, 0), recurrent_kernel=(0, 0)),
    ],
)
def test_two_kernels_of_other_layers_are_not_an_lstm(cell: Shapes) -> None:
    assert shapes.keras(cell) is None


@pytest.mark.parametrize(
    ("mask_gates", "peepholes"), [((7, 8), False), ((11, 8), True), ((9, 8), None)]
)
def test_a_phased_cell_appends_its_peepholes_to_its_kernel(
    mask_gates: Shape, peepholes: bool | None
) -> None:
    found = shapes.phased(one(new_input=(7, 4), period=(4,), mask_gates=mask_gates))
    assert found == (None if peepholes is None else Widths(3, 4, peepholes=peepholes))


# ---- several kernels


BIASES = one(bias_i=(4,), bias_j=(4,), bias_f=(4,), bias_o=(4,))


@pytest.mark.parametrize(
    ("kernels", "widths"),
    [
        (((5, 8), (5, 8)), Widths(6, 4, groups=2)),  # I = 6: (6 + 4) / 2 rows
        (((7, 16),), Widths(3, 4, groups=1)),
        (((2, 4),) * 4, Widths(4, 4, groups=4)),
        (((4, 8),), Widths(None, 4, groups=2)),  # one kernel for both groups, 1.4 to 1.6
        (((4, 8), (5, 8)), None),
        (((4, 8), (4, 8), (4, 8)), None),
        (((2, 8), (2, 8)), None),  # no row is left for an input
    ],
)
def test_groups_share_the_units(kernels: tuple[Shape, ...], widths: Widths | None) -> None:
    assert shapes.grouped({"kernel": kernels, **BIASES}) == widths


def test_groups_with_a_projection_feed_back_its_output() -> None:
    cell = {"kernel": ((3, 8), (3, 8)), "projection": ((4, 2),), **BIASES}
    assert shapes.grouped(cell) == Widths(4, 4, 2, groups=2)


@pytest.mark.parametrize(
    ("kernel", "units"),
    [
        ((13, 16), 4),  # four gates: 5 + 2*4 rows; three do not divide 16
        ((13, 15), 5),  # three gates: the coupled kind
        ((40, 12), None),  # four gates of 3, or three of 4
        ((7, 12), 3),  # three gates of 4 would leave no row
    ],
)
def test_a_grid_shows_its_units_if_one_number_of_gates_fits(
    kernel: Shape, units: int | None
) -> None:
    found = shapes.grid(one(kernel=kernel, bias=kernel[1:]))
    assert found is not None
    assert (found.input_size, found.num_units) == (None, units)


# ---- convolutions, and cuDNN's buffer


@pytest.mark.parametrize("window", [(3,), (3, 5), (2, 3, 5)])
def test_a_convolutional_cell_counts_channels(window: Shape) -> None:
    assert shapes.convolution(one(kernel=(*window, 7, 16), bias=(16,))) == Widths(3, 4)
    assert shapes.convolution(one(kernel=(*window, 7, 16))) == Widths(3, 4)
    assert shapes.convolution(one(kernel=(*window, 7, 16), bias=(4,))) is None
    assert shapes.convolution(one(kernel=(*window, 4, 16))) is None
    keras = one(kernel=(*window, 3, 16), recurrent_kernel=(*window, 4, 16))
    assert shapes.keras_convolution(keras) == Widths(3, 4)
    other = one(kernel=(*window, 3, 16), recurrent_kernel=(*window, 3, 16))
    assert shapes.keras_convolution(other) is None
