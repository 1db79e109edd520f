"""Layouts of a state: their shapes, their limits, and exact round trips."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from states import Array, cells_of, fits, same, shapes_of, state_of, states, structure

from lstmstate import LSTMState, LstmstateError, StackState
from lstmstate.cells.cell import CellShape, StateWidths
from lstmstate.state import state_stream
from lstmstate.state.formats.array_writer import values
from lstmstate.state.formats.stored_array import ArrayInMemory, StateFile
from lstmstate.state.infer_layout import StoredState
from lstmstate.state.layouts import LAYOUTS, structure_of, to_arrays
from lstmstate.state.state import State
from lstmstate.state.state_stream import StateStream

steady = settings(derandomize=True, deadline=None)


def cell(c: object, m: object, name: str = "") -> LSTMState:
    return LSTMState(np.array(c), np.array(m), name)


def listed(arrays: dict[str, Array]) -> dict[str, Any]:
    return {name: array.tolist() for name, array in arrays.items()}


# ---- shapes and values

ONE = cell([[1, 2], [3, 4]], [[5, 6], [7, 8]])
TWO = StackState([ONE, cell([[11, 12], [13, 14]], [[15, 16], [17, 18]])])


@pytest.mark.parametrize(
    ("layout", "arrays"),
    [
        ("tuple", {"c": [[1, 2], [3, 4]], "m": [[5, 6], [7, 8]]}),
        ("flat", {"state": [[1, 2, 5, 6], [3, 4, 7, 8]]}),
        ("stacked", {"state": [[[1, 2], [5, 6]], [[3, 4], [7, 8]]]}),
        ("layered", {"state": [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]}),
        ("keras", {"h": [[5, 6], [7, 8]], "c": [[1, 2], [3, 4]]}),
        ("torch", {"h_n": [[[5, 6], [7, 8]]], "c_n": [[[1, 2], [3, 4]]]}),
        ("onnx", {"initial_h": [[[5, 6], [7, 8]]], "initial_c": [[[1, 2], [3, 4]]]}),
        ("flax", {"c": [[1, 2], [3, 4]], "h": [[5, 6], [7, 8]]}),
        *(
            (name, {"hidden": [[5, 6], [7, 8]], "cell": [[1, 2], [3, 4]]})
            for name in ("haiku", "sonnet", "mlx")
        ),
        ("equinox", {"h": [[5, 6], [7, 8]], "c": [[1, 2], [3, 4]]}),
        ("hc", {"state": [[[5, 6], [7, 8]], [[1, 2], [3, 4]]]}),
        ("tensorforce", {"state": [[[5, 6], [1, 2]], [[7, 8], [3, 4]]]}),
        ("tfjs", {"h": [[5, 6], [7, 8]], "c": [[1, 2], [3, 4]]}),
        ("dynet", {"c": [[1, 2], [3, 4]], "h": [[5, 6], [7, 8]]}),
        ("baselines", {"state": [[1, 2, 5, 6], [3, 4, 7, 8]]}),
    ],
)
def test_one_cell_of_two_rows(layout: str, arrays: dict[str, Any]) -> None:
    found = listed(to_arrays(LAYOUTS[layout], ONE))
    assert list(found.items()) == list(arrays.items())  # their order matters


@pytest.mark.parametrize(
    ("layout", "arrays"),
    [
        ("tuple", {"cell_0/c": [[1, 2], [3, 4]], "cell_0/m": [[5, 6], [7, 8]],
                   "cell_1/c": [[11, 12], [13, 14]], "cell_1/m": [[15, 16], [17, 18]]}),
        # Cell after cell: c0 m0 c1 m1, not all c and then all m.
        ("flat", {"state": [[1, 2, 5, 6, 11, 12, 15, 16], [3, 4, 7, 8, 13, 14, 17, 18]]}),
        ("stacked", {"cell_0/state": [[[1, 2], [5, 6]], [[3, 4], [7, 8]]],
                     "cell_1/state": [[[11, 12], [15, 16]], [[13, 14], [17, 18]]]}),
        ("layered", {"state": [[[[1, 2], [3, 4]], [[5, 6], [7, 8]]],
                               [[[11, 12], [13, 14]], [[15, 16], [17, 18]]]]}),
        ("keras", {"cell_0/h": [[5, 6], [7, 8]], "cell_0/c": [[1, 2], [3, 4]],
                   "cell_1/h": [[15, 16], [17, 18]], "cell_1/c": [[11, 12], [13, 14]]}),
        ("torch", {"h_n": [[[5, 6], [7, 8]], [[15, 16], [17, 18]]],
                   "c_n": [[[1, 2], [3, 4]], [[11, 12], [13, 14]]]}),
        ("onnx", {"layer_0/initial_h": [[[5, 6], [7, 8]]], "layer_0/initial_c": [[[1, 2], [3, 4]]],
                  "layer_1/initial_h": [[[15, 16], [17, 18]]],
                  "layer_1/initial_c": [[[11, 12], [13, 14]]]}),
        ("hc", {"state": [[[[5, 6], [7, 8]], [[1, 2], [3, 4]]],
                          [[[15, 16], [17, 18]], [[11, 12], [13, 14]]]]}),
        ("tensorforce", {"cell_0/state": [[[5, 6], [1, 2]], [[7, 8], [3, 4]]],
                         "cell_1/state": [[[15, 16], [11, 12]], [[17, 18], [13, 14]]]}),
        ("tfjs", {"cell_1/h": [[15, 16], [17, 18]], "cell_1/c": [[11, 12], [13, 14]],
                  "cell_0/h": [[5, 6], [7, 8]], "cell_0/c": [[1, 2], [3, 4]]}),
        ("dynet", {"cell_0/c": [[1, 2], [3, 4]], "cell_1/c": [[11, 12], [13, 14]],
                   "cell_0/h": [[5, 6], [7, 8]], "cell_1/h": [[15, 16], [17, 18]]}),
    ],
)  # fmt: skip
def test_a_stack_of_two_cells_of_two_rows(layout: str, arrays: dict[str, Any]) -> None:
    found = listed(to_arrays(LAYOUTS[layout], TWO))
    assert list(found.items()) == list(arrays.items())


def test_directions_are_rows_of_a_layer_in_onnx_and_thinc() -> None:
    names = [f"{layer}/{side}/lstm_cell" for layer in "ab" for side in ("fw", "bw")]
    both = StackState([cell([[k]], [[10 + k]], name) for k, name in enumerate(names)])
    assert listed(to_arrays(LAYOUTS["onnx"], both)) == {
        "layer_0/initial_h": [[[10]], [[11]]],
        "layer_0/initial_c": [[[0]], [[1]]],
        "layer_1/initial_h": [[[12]], [[13]]],
        "layer_1/initial_c": [[[2]], [[3]]],
    }
    one = StackState(both.cells[:2])
    assert listed(to_arrays(LAYOUTS["onnx"], one)) == {
        "initial_h": [[[10]], [[11]]],
        "initial_c": [[[0]], [[1]]],
    }
    rows = StackState([LSTMState(one.c[0], one.m[0], one.cell) for one in both])
    found = listed(to_arrays(LAYOUTS["thinc"], rows))
    assert found == {"HC0": [[[[0], [1]], [[2], [3]]], [[[10], [11]], [[12], [13]]]]}


@pytest.mark.parametrize("layout", ["torch", "thinc"])
def test_a_stack_of_each_direction_is_refused(layout: str) -> None:
    names = [f"{side}/{layer}/lstm_cell" for side in ("fw", "bw") for layer in "ab"]
    with pytest.raises(LstmstateError, match="a stack of each direction"):
        to_arrays(LAYOUTS[layout], StackState([cell([1], [2], name) for name in names]))


def test_a_projection_makes_m_narrower_in_the_flat_state() -> None:
    stack = StackState([cell([1, 2], [3]), cell([4, 5, 6], [7, 8, 9])])
    assert listed(to_arrays(LAYOUTS["flat"], stack)) == {"state": [1, 2, 3, 4, 5, 6, 7, 8, 9]}
    assert stack.flat().tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9]


def test_cells_are_stored_under_their_own_names() -> None:
    stack = StackState([cell([1], [2], "rnn/b"), cell([3], [4], "rnn/a")])
    arrays = listed(to_arrays(LAYOUTS["tuple"], stack))
    assert arrays == {"rnn/b/c": [1], "rnn/b/m": [2], "rnn/a/c": [3], "rnn/a/m": [4]}


@pytest.mark.parametrize("names", [("a", "a"), ("a", ""), ("", "")])
def test_cells_without_distinct_names_are_numbered(names: tuple[str, str]) -> None:
    stack = StackState([cell([1], [2], names[0]), cell([3], [4], names[1])])
    assert [*to_arrays(LAYOUTS["stacked"], stack)] == ["cell_0/state", "cell_1/state"]


@pytest.mark.parametrize(
    ("layout", "lead", "one", "stack"),
    [
        ("tuple", (7, 5), (7, 5, 3), (7, 5, 3)),
        ("flat", (7, 5), (7, 5, 6), (7, 5, 12)),
        ("stacked", (7, 5), (7, 5, 2, 3), (7, 5, 2, 3)),
        ("layered", (7, 5), (7, 2, 5, 3), (7, 2, 2, 5, 3)),
        ("keras", (7, 5), (7, 5, 3), (7, 5, 3)),
        ("torch", (7, 5), (7, 1, 5, 3), (7, 2, 5, 3)),
        ("flat", (), (6,), (12,)),
        ("stacked", (), (2, 3), (2, 3)),
        ("layered", (), (2, 3), (2, 2, 3)),
        ("torch", (), (1, 3), (2, 3)),
        ("onnx", (7, 5), (7, 1, 5, 3), (7, 1, 5, 3)),
        ("hc", (7, 5), (7, 2, 5, 3), (7, 2, 2, 5, 3)),
        ("tensorforce", (7, 5), (7, 5, 2, 3), (7, 5, 2, 3)),
        ("thinc", (), (2, 1, 1, 3), (2, 2, 1, 3)),
    ],
)
def test_more_or_fewer_axes_pass_through(
    layout: str, lead: tuple[int, ...], one: tuple[int, ...], stack: tuple[int, ...]
) -> None:
    """The axes of the pair and the layers come directly before the batch, or before the width."""
    for shape, is_stack in ((one, False), (stack, True)):
        state = state_of([(3, 3)] * (2 if is_stack else 1), lead, stack=is_stack)
        shapes = {array.shape for array in to_arrays(LAYOUTS[layout], state).values()}
        assert shapes == {shape}


# ---- views


@pytest.mark.parametrize("layout", ["tuple", "keras"])
def test_layouts_with_separate_c_and_m_copy_nothing(layout: str) -> None:
    for k, array in enumerate(to_arrays(LAYOUTS[layout], TWO).values()):
        assert any(np.shares_memory(array, half) for half in TWO[k // 2])


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if fits(name, ONE)])
@pytest.mark.parametrize("state", [ONE, TWO], ids=["cell", "stack"])
def test_c_and_m_are_views_of_the_arrays(layout: str, state: State) -> None:
    arrays = list(to_arrays(LAYOUTS[layout], state).values())
    widths = [shape.widths for shape in shapes_of(state)]
    for pair in LAYOUTS[layout].pairs(arrays, widths, isinstance(state, StackState)):
        for half in pair:
            assert sum(np.shares_memory(half, array) for array in arrays) == 1


def test_the_halves_of_a_flat_state_are_views_of_it() -> None:
    flat = np.arange(14).reshape(2, 7)
    state = LSTMState.from_flat(flat, 4, 3)
    assert (state.c.tolist(), state.m.tolist()) == (
        [[0, 1, 2, 3], [7, 8, 9, 10]],
        [[4, 5, 6], [11, 12, 13]],
    )
    assert np.shares_memory(state.c, flat)
    assert np.shares_memory(state.m, flat)


# ---- limits


@pytest.mark.parametrize(
    ("layout", "widths", "words"),
    [
        ("stacked", [(4, 3)], "c and m as wide as each other, and this state has c 4 m 3"),
        ("stacked", [(4, 4), (4, 3)], "c and m as wide as each other, and this state has c 4 m 3"),
        ("layered", [(4, 3)], "c and m as wide as each other, and this state has c 4 m 3"),
        ("layered", [(4, 3), (4, 3)], "c and m as wide as each other"),
        ("layered", [(4, 4), (3, 3)], "this state has c 4 m 4, c 3 m 3"),
        ("torch", [(4, 3), (4, 4)], "cells as wide as each other, and this state has c 4 m 3, c 4"),
        ("torch", [(4, 4), (3, 3)], "cells as wide as each other"),
        ("torch", [(4, 5)], "m no wider than c, as torch.nn.LSTM projects to fewer units"),
        ("hc", [(4, 3)], "c and m as wide as each other"),
        ("tensorforce", [(4, 3)], "c and m as wide as each other"),
        ("thinc", [(4, 3)], "c and m as wide as each other"),
    ],
)
def test_a_layout_that_wants_equal_widths_refuses_others(
    layout: str, widths: list[tuple[int, int]], words: str
) -> None:
    state = state_of(widths, stack=len(widths) > 1)
    with pytest.raises(LstmstateError) as raised:
        to_arrays(LAYOUTS[layout], state)
    assert f"the layout {layout!r} needs " in raised.value.problem
    assert words in raised.value.problem
    assert "tuple or flat" in str(raised.value)


def shaped(*shapes: tuple[int, ...]) -> list[Array]:
    return [np.zeros(shape) for shape in shapes]


@pytest.mark.parametrize(
    ("layout", "arrays", "is_stack", "words"),
    [
        ("tuple", shaped((2, 3)), False, "two arrays a cell, and here are 1"),
        ("keras", shaped((2, 3), (2, 3), (2, 3)), True, "two arrays a cell, and here are 3"),
        ("tuple", shaped((2, 3), (4, 3)), False, "all axes but the last must be the same"),
        ("tuple", shaped((2, 3), (2, 3), (4, 3), (4, 3)), True, "the same leading axes"),
        ("tuple", shaped((), ()), False, "all axes but the last must be the same"),
        ("flat", shaped((2, 6), (2, 6)), False, "is one array, and here are 2"),
        ("flat", shaped((2, 7)), False, "a flat state 7 wide has no two equal halves"),
        ("flat", shaped(()), False, "got a single number"),
        ("stacked", shaped((2, 3, 4)), False, "stacked means [..., 2, units]"),
        ("stacked", shaped((2,)), False, "stacked means [..., 2, units]"),
        ("layered", shaped((3, 2, 4)), False, "layered means [2, batch, units]"),
        ("layered", shaped((2, 3, 5, 4)), True, "layered means [L, 2, batch, units]"),
        ("layered", shaped((2, 4)), True, "layered means [L, 2, batch, units]"),
        ("torch", shaped((2, 3, 4)), True, "torch means h_n [L, batch, m] and c_n"),
        ("torch", shaped((4,), (4,)), True, "torch means h_n [L, batch, m] and c_n"),
        ("torch", shaped((2, 3, 4), (1, 3, 4)), True, "are not of the same layers"),
        ("torch", shaped((2, 3, 4), (3, 4)), True, "are not of the same layers"),
        ("torch", shaped((2, 3, 4), (2, 3, 4)), False, "are not of the same layers"),
        ("layered", shaped((0, 2, 3, 4)), True, "at least one cell"),
    ],
)
def test_arrays_that_are_not_in_a_layout_are_refused(
    layout: str, arrays: list[Array], is_stack: bool, words: str
) -> None:
    with pytest.raises(LstmstateError) as raised:
        structure_of(LAYOUTS[layout], arrays, None, is_stack=is_stack)
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("layout", "arrays", "widths", "words"),
    [
        ("flat", shaped((2, 7)), [(4, 4)], "it is 7 wide, and c 4 + m 4 are 8"),
        ("flat", shaped((2, 7)), [(4, 3), (1, 1)], "it is 7 wide, and c 4 + m 3 + c 1 + m 1 are 9"),
        ("tuple", shaped((2, 4), (2, 4)), [(4, 3)], "c is 4 wide and m 4, where 4 and 3"),
        ("tuple", shaped((2, 4), (2, 3)), [(3, 4)], "c is 4 wide and m 3, where 3 and 4"),
        ("torch", shaped((2, 1, 4), (2, 1, 4)), [(4, 4)], "here are 2 cells, where 1 were"),
    ],
)
def test_widths_that_the_arrays_do_not_have_are_refused(
    layout: str, arrays: list[Array], widths: list[tuple[int, int]], words: str
) -> None:
    cells = [CellShape("", StateWidths(*pair)) for pair in widths]
    with pytest.raises(LstmstateError) as raised:
        structure_of(LAYOUTS[layout], arrays, cells, is_stack=len(cells) > 1 or layout == "torch")
    assert words in raised.value.problem


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: cell([[1, 2]], [[1, 2], [3, 4]]), "c has the shape [1, 2] and m [2, 2]"),
        (lambda: cell([1, 2], [[1, 2]]), "c has the shape [2] and m [1, 2]"),
        (lambda: cell(1, 2), "c has the shape [] and m []"),
        (lambda: cell([1], [1.0]), "c is int64 and m is float64"),
        (lambda: StackState([]), "at least one cell"),
        (lambda: StackState([ONE, cell([[1]], [[2]])]), "the same leading axes and dtype"),
        (lambda: StackState([ONE, cell([[1.0]] * 2, [[1.0]] * 2)]), "[2] int64 and [2] float64"),
        (lambda: LSTMState.from_flat(np.zeros((2, 7)), 4), "[2, 7] is not 8 wide: c 4 and m 4"),
        (lambda: LSTMState.from_flat(np.zeros((2, 7)), 4, 2), "[2, 7] is not 6 wide: c 4 and m 2"),
        (lambda: LSTMState.from_flat(np.zeros(()), 4), "[] is not 8 wide"),
    ],
)
def test_halves_that_do_not_belong_together_are_refused(
    make: Callable[[], State], words: str
) -> None:
    with pytest.raises(LstmstateError) as raised:
        make()
    assert words in raised.value.problem


# ---- round trips


@steady
@given(states())
def test_every_layout_round_trips(state: State) -> None:
    whole = structure(state)
    for layout in LAYOUTS.values():
        if not fits(layout.name, state):
            with pytest.raises(LstmstateError, match="needs"):
                to_arrays(layout, state)
            continue
        arrays = list(to_arrays(layout, state).values())
        back = structure_of(layout, arrays, whole.cells, is_stack=whole.is_stack)
        assert back == whole
        widths = [shape.widths for shape in whole.cells]
        same(whole.state(layout.pairs(arrays, widths, whole.is_stack)), state)


def stored(state: State, layout: str) -> StoredState:
    """Return a state as if read from a file in a layout."""
    arrays = tuple(ArrayInMemory(name, a) for name, a in to_arrays(LAYOUTS[layout], state).items())
    return StoredState(StateFile("", arrays), LAYOUTS[layout], structure(state), arrays)


@steady
@given(states(), st.sampled_from([1, 20, 100, 1 << 20]), st.data())
def test_a_layout_becomes_every_other_in_parts(
    state: State, part_bytes: int, data: st.DataObject
) -> None:
    names = [name for name in LAYOUTS if fits(name, state)]
    source = data.draw(st.sampled_from(names))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state_stream, "PART_BYTES", part_bytes)
        for target in names:
            expected = to_arrays(LAYOUTS[target], state)
            going = StateStream(stored(state, source), LAYOUTS[target])
            assert [(p.name, p.shape, p.dtype) for p in going.plans] == [
                (name, array.shape, array.dtype) for name, array in expected.items()
            ]
            rows = [arrays for _, arrays in going.together()]
            for number, (plan, wanted) in enumerate(
                zip(going.plans, expected.values(), strict=True)
            ):
                whole = np.concatenate([part[number] for part in rows], plan.axis or 0)
                assert (whole.shape, whole.tobytes()) == (wanted.shape, wanted.tobytes())
                pieces = b"".join(values(piece) for piece in going.in_order(number))
                assert pieces == wanted.tobytes()


@pytest.mark.parametrize(
    ("lead", "part_bytes", "axis", "spans"),
    [
        ((6,), 48, 0, [(0, 2), (2, 4), (4, 6)]),  # a row takes 24 bytes
        ((5,), 50, 0, [(0, 2), (2, 4), (4, 5)]),
        ((5,), 1, 0, [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)]),
        ((2, 5), 1 << 10, 0, [(0, 2)]),
        ((2, 5), 96, 1, [(0, 2), (2, 4), (4, 5)]),  # a row of the first axis is too large
        ((2, 3), 1, 1, [(0, 1), (1, 2), (2, 3)]),  # both are: the axis with the smaller rows
        ((), 1, 0, [(0, 1)]),
        ((0,), 1, 0, [(0, 0)]),
    ],
)
def test_a_state_is_streamed_along_the_first_axis_with_small_rows(
    lead: tuple[int, ...],
    part_bytes: int,
    axis: int,
    spans: list[tuple[int, int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(state_stream, "PART_BYTES", part_bytes)
    assert state_stream.spans_of(structure(state_of([(3, 3)], lead))) == (axis, spans)


def test_an_empty_state_is_one_part_for_any_declared_length() -> None:
    """A header of 60 bytes declares (1 << 40, 0, 2); as many parts would fill the memory."""
    widths = CellShape("", StateWidths(1, 1))
    empty = structure(state_of([(1, 1)], stack=False))._replace(cells=(widths,), lead=(1 << 40, 0))
    assert len(state_stream.spans_of(empty)[1]) == 1


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "thinc"])  # no batch
def test_progress_is_reported_in_bytes(layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_stream, "PART_BYTES", 60)
    state = state_of([(3, 3)] * 2, (2, 5), "float64")
    size = sum(half.nbytes for cell in cells_of(state) for half in cell)
    for whole in (True, False):
        reported: list[int] = []
        going = StateStream(stored(state, "flat"), LAYOUTS[layout], on_part=reported.append)
        if whole:
            list(going.together())
        else:
            [list(going.in_order(number)) for number in range(len(going.plans))]
        assert len(reported) > 1
        assert sum(reported) == sum(plan.nbytes for plan in going.plans) == size
