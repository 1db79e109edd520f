"""Cells combined into stacks and networks: layers in order, directions in pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from writers import (
    INPUTS,
    Shape,
    TensorFlow,
    below,
    cells,
    dense,
    dynamic,
    inputs,
    lstm,
    opened,
    shown,
    static,
)

from lstmstate import AmbiguousError, LstmstateError, NotFoundError, UnsupportedError
from lstmstate.cells import Stack
from lstmstate.cells.stacks import Route, of_cell, of_stack, routes, stacks
from lstmstate.cli.report.flags import with_flags
from lstmstate.errors import MissingFileError

NEW, MIDDLE = ("kernel", "bias"), ("weights", "biases")
BASIC, CORE = ("Linear/Matrix", "Linear/Bias"), ("W_0", "B")
BIRNN = "bidirectional_rnn"


def stacked(*shapes: dict[str, Shape]) -> dict[str, Stack]:
    """Return the stacks of some variables' cells, by name."""
    together = {name: shape for some in shapes for name, shape in some.items()}
    found = stacks(reversed(cells(together).values()), together)
    assert len({stack.name for stack in found}) == len(found)
    return {stack.name: stack for stack in found}


def units(stack: Stack) -> list[list[int | None]]:
    """Return the widths of the cells in each layer; they differ within a test."""
    return [[cell.num_units for cell in layer] for layer in stack.layers]


def numbered(pattern: str, count: int, leaves: tuple[str, str] = NEW) -> list[dict[str, Shape]]:
    """Return one cell for each number, of 4, 5, 6, … units, each fed by the one before."""
    return [
        dense(pattern.format(number), number + 3 + number + 4, 4 * (number + 4), leaves)
        for number in range(count)
    ]


# ---- layers


@pytest.mark.parametrize(
    ("name", "cell", "leaves"),
    [
        ("rnn/multi_rnn_cell", "cell_{}/lstm_cell", NEW),
        ("rnn/multi_rnn_cell", "cell_{}/basic_lstm_cell", MIDDLE),
        ("RNN/MultiRNNCell", "Cell{}/BasicLSTMCell", BASIC),
        ("RNN/MultiRNNCell", "Cell{}/LSTMCell", CORE),
        ("cudnn_lstm/rnn/multi_rnn_cell", "cell_{}/cudnn_compatible_lstm_cell", NEW),
        ("multi_rnn_cell", "cell_{}", NEW),
        ("decoder/attention_wrapper/multi_rnn_cell", "cell_{}/lstm_cell", NEW),
    ],
)
def test_twelve_layers_are_in_order(name: str, cell: str, leaves: tuple[str, str]) -> None:
    found = stacked(*reversed(numbered(f"{name}/{cell}", 12, leaves)))
    assert list(found) == [name]
    assert units(found[name]) == [[4 + layer] for layer in range(12)]
    assert [layer[0].layer for layer in found[name].layers] == list(range(12))
    assert found[name].flat == 2 * sum(range(4, 16))
    assert (found[name].direction, found[name].paired_with) == (None, None)


MULTI = "rnn/multi_rnn_cell/cell_{}/lstm_cell"
GRID = below("rnn/multi_rnn_cell/cell_1/grid_lstm_cell", {"W_f_0_0": (40, 12), "B_f_0": (12,)})
ATTENTION = dense("rnn/multi_rnn_cell/cell_1/attention_cell_wrapper", 9, 4) | lstm(
    "rnn/multi_rnn_cell/cell_1/attention_cell_wrapper/lstm_cell", 4, 5
)


@pytest.mark.parametrize(
    ("cells", "widths", "flat"),
    [
        ([lstm(MULTI.format(0), units=5)], [[5]], 10),
        # The flat state takes the projected width of m.
        ([lstm(MULTI.format(0), 3, 8, 2), lstm(MULTI.format(1), 2, 4)], [[8], [4]], 10 + 8),
        ([lstm(MULTI.format(0)), GRID], [[4], [None]], None),  # a layer of unknown width
        ([lstm(MULTI.format(0)), ATTENTION], [[4], [5]], None),  # which has a state, too
    ],
)
def test_the_flat_state_is_as_wide_as_all_its_layers(
    cells: list[dict[str, Shape]], widths: Any, flat: int | None
) -> None:
    (stack,) = stacked(*cells).values()
    assert (stack.name, units(stack), stack.flat) == ("rnn/multi_rnn_cell", widths, flat)


def test_cells_without_a_numbered_scope_or_a_direction_are_not_a_stack() -> None:
    assert stacked(lstm("rnn/lstm_cell"), lstm("rnn/lstm_cell_1"), lstm("decoder/lstm_cell")) == {}
    assert stacked(lstm("bidirectional_rnn/fw/lstm_cell")) == {}


def test_each_cell_has_its_columns_of_the_flat_state() -> None:
    """c before m, and one cell after the other."""
    (stack,) = stacked(
        lstm("rnn/multi_rnn_cell/cell_0/lstm_cell", 3, 8, proj=2),
        lstm("rnn/multi_rnn_cell/cell_1/lstm_cell", 2, 4),
    ).values()
    first, second = (layer[0] for layer in stack.layers)
    assert stack.columns() == [(first, (0, 8), (8, 10)), (second, (10, 14), (14, 18))]


def test_without_a_flat_state_no_columns_are_listed() -> None:
    (pair,) = stacked(
        lstm("bidirectional_rnn/fw/lstm_cell"), lstm("bidirectional_rnn/bw/x")
    ).values()
    assert (pair.flat, pair.columns()) == (None, [])


def test_the_encoder_and_the_decoder_are_two_stacks() -> None:
    found = stacked(
        *numbered("encoder/rnn/multi_rnn_cell/cell_{}/lstm_cell", 2),
        *numbered("decoder/multi_rnn_cell/cell_{}/lstm_cell", 3),
    )
    assert {name: len(stack.layers) for name, stack in found.items()} == {
        "decoder/multi_rnn_cell": 3,
        "encoder/rnn/multi_rnn_cell": 2,
    }


@pytest.mark.parametrize(("inner", "outer"), [(0, 1), (1, 0)])
@pytest.mark.parametrize("called", ["multi_rnn_cell", "lower", "cell_1"])
def test_a_stack_in_a_stack_is_part_of_it(inner: int, outer: int, called: str) -> None:
    """Its flat state is that of all its cells, one after the other, at any depth."""
    around = "rnn/multi_rnn_cell"
    found = stacked(
        *numbered(f"{around}/cell_{inner}/{called}/cell_{{}}/lstm_cell", 2),
        lstm(f"{around}/cell_{outer}/lstm_cell", 5, 7),
    )
    assert list(found) == [around]
    order = [[4], [5]]
    order.insert(0 if outer == 0 else 2, [7])
    assert units(found[around]) == order
    assert [layer[0].layer for layer in found[around].layers] == [0, 1, 2]
    assert found[around].flat == 2 * (4 + 5 + 7)


def test_a_stack_next_to_another_kind_of_cell_is_separate() -> None:
    around = "rnn/multi_rnn_cell"
    gru = below(f"{around}/cell_1/gru_cell", {"gates/kernel": (9, 8), "gates/bias": (8,)})
    found = stacked(*numbered(f"{around}/cell_0/multi_rnn_cell/cell_{{}}/lstm_cell", 2), gru)
    assert {name: units(stack) for name, stack in found.items()} == {
        f"{around}/cell_0/multi_rnn_cell": [[4], [5]]
    }


@pytest.mark.parametrize(
    ("scopes", "name"),
    [
        (["multi_rnn_cell/cell_0/cell_1", "multi_rnn_cell/cell_1/cell_2"], "multi_rnn_cell"),
        (["multi_rnn_cell/cell_0/cell_1", "multi_rnn_cell/cell_1/cell_0"], "multi_rnn_cell"),
        (["multi_rnn_cell/cell_0/cell_0", "multi_rnn_cell/cell_1/cell_0"], "multi_rnn_cell"),
        (["cell_1/cell_0/lstm_cell", "cell_1/cell_1/lstm_cell"], "cell_1"),  # the stack's own name
        (["cell_1/cell_0", "cell_1/cell_1"], "cell_1"),
    ],
)
def test_a_cell_that_a_user_named_cell_keeps_its_place(scopes: list[str], name: str) -> None:
    shapes = [lstm(f"rnn/{scope}", 3 + k, 4 + k) for k, scope in enumerate(scopes)]
    found = stacked(*shapes)
    assert {one: units(stack) for one, stack in found.items()} == {f"rnn/{name}": [[4], [5]]}
    (stack,) = found.values()
    assert (stack.is_whole, stack.flat) == (True, 18)
    assert [layer[0].layer for layer in stack.layers] == [0, 1]


def test_a_scope_of_a_user_that_is_called_cell_makes_no_stack_around() -> None:
    inner = "cell_3/rnn/multi_rnn_cell"
    assert list(stacked(*numbered(f"{inner}/cell_{{}}/lstm_cell", 2))) == [inner]
    inner = "cell_0/multi_rnn_cell"
    assert list(stacked(*numbered(f"{inner}/cell_{{}}/lstm_cell", 2))) == [inner]


def test_the_stack_of_cells_that_were_named_is_run_as_one() -> None:
    def build(tf: TensorFlow) -> None:
        make = tf.nn.rnn_cell
        inner = make.MultiRNNCell([make.LSTMCell(4, name=f"cell_{k}") for k in (1, 0)])
        dynamic(tf, make.MultiRNNCell([inner, make.LSTMCell(5, name="cell_7")]))

    ckpt = opened(build)
    assert [[layer[0].num_units for layer in s.layers] for s in ckpt.stacks.values()] == [[4, 4, 5]]
    assert [cell.name for cell in ckpt.network().route.cells] == list(ckpt.cells)


@pytest.mark.parametrize("other", [0, 1, 2])
def test_a_layer_of_another_kind_leaves_the_flat_width_unknown(other: int) -> None:
    def build(tf: TensorFlow) -> None:
        make = tf.nn.rnn_cell
        layers = [make.GRUCell(6) if k == other else make.LSTMCell(4 + k) for k in range(3)]
        static(tf, make.MultiRNNCell(layers))

    (stack,) = opened(build).stacks.values()
    assert units(stack) == [[4 + layer] for layer in range(3) if layer != other]
    assert stack.flat is None


# ---- directions


def two_ways(forward: str, backward: str, leaves: tuple[str, str] = NEW) -> Stack:
    """Return the only stack of a forward cell of 4 units and a backward one of 5."""
    shapes = dense(backward, 8, 20, leaves) | dense(forward, 7, 16, leaves)
    (stack,) = stacked(shapes).values()
    assert units(stack) == [[4, 5]]
    assert [cell.direction for cell in stack.layers[0]] == ["forward", "backward"]
    assert stack.flat is None  # TensorFlow never has two directions in one flat state
    return stack


@pytest.mark.parametrize(
    ("forward", "backward", "name", "leaves"),
    [
        (
            "bidirectional_rnn/fw/lstm_cell",
            "bidirectional_rnn/bw/lstm_cell",
            "bidirectional_rnn",
            NEW,
        ),
        (
            "e/bidirectional_rnn/fw/x",
            "e/bidirectional_rnn/bw/x",
            "e/bidirectional_rnn",
            MIDDLE,
        ),
        ("BiRNN/FW/LSTMCell", "BiRNN/BW/LSTMCell", "BiRNN", CORE),
        ("BiRNN_FW/BasicLSTMCell", "BiRNN_BW/BasicLSTMCell", "BiRNN", BASIC),
        ("BiRNN_FW/RNN/LSTMCell", "BiRNN_BW/RNN/LSTMCell", "BiRNN", CORE),
        ("lstm_fw/lstm_cell", "lstm_bw/lstm_cell", "lstm", NEW),
        ("rnn/fw/encoder_fw_LSTM", "rnn/bw/encoder_bw_LSTM", "rnn", NEW),
        ("rnn/fw/lstm_cell", "rnn/bw/basic_lstm_cell", "rnn", NEW),
    ],
)
def test_two_directions_are_one_layer_of_two_cells(
    forward: str, backward: str, name: str, leaves: tuple[str, str]
) -> None:
    stack = two_ways(forward, backward, leaves)
    assert (stack.name, stack.direction, stack.paired_with) == (name, None, None)
    assert [cell.name for cell in stack.layers[0]] == [forward, backward]


def test_the_directions_of_a_keras_layer_are_a_pair() -> None:
    kernels = {"kernel": (3, 16), "recurrent_kernel": (4, 16), "bias": (16,)}
    found = stacked(
        below("bidirectional/backward_lstm", kernels), below("bidirectional/forward_lstm", kernels)
    )
    assert [cell.direction for cell in found["bidirectional"].layers[0]] == ["forward", "backward"]


def test_two_pairs_are_two_stacks() -> None:
    sides = [f"{way}/bidirectional_rnn/{side}/lstm_cell" for way in "ab" for side in ("fw", "bw")]
    found = stacked(*[lstm(scope) for scope in sides])
    assert {name: len(stack.layers[0]) for name, stack in found.items()} == {
        "a/bidirectional_rnn": 2,
        "b/bidirectional_rnn": 2,
    }


@pytest.mark.parametrize(
    ("name", "cell", "leaves"),
    [
        ("stack_bidirectional_rnn", "cell_{}/bidirectional_rnn/{}/lstm_cell", NEW),
        ("stack_bidirectional_rnn", "cell_{}/{}/lstm_cell", NEW),
        ("StackRNN", "Layer{}/BiRNN/{}/LSTMCell", CORE),
        ("BDLSTM_rnn", "cell_{}/bidirectional_rnn/{}/lstm_cell", NEW),
    ],
)
def test_directions_inside_numbered_scopes_make_layers_of_two_cells(
    name: str, cell: str, leaves: tuple[str, str]
) -> None:
    """Here each layer reads both directions of the one before."""
    shapes: dict[str, Shape] = {}
    for layer in range(12):
        rows = 3 if layer == 0 else 2 * 4
        for side in ("BW", "FW") if leaves == CORE else ("bw", "fw"):
            shapes |= dense(f"{name}/{cell.format(layer, side)}", rows + 4, 16, leaves)
    (stack,) = stacked(shapes).values()
    assert stack.name == name
    assert [[cell.direction for cell in layer] for layer in stack.layers] == [
        ["forward", "backward"]
    ] * 12
    assert [layer[0].layer for layer in stack.layers] == list(range(12))
    assert stack.flat is None


@pytest.mark.parametrize(
    ("forward", "backward", "cell", "leaves"),
    [
        (
            "bidirectional_rnn/fw/multi_rnn_cell",
            "bidirectional_rnn/bw/multi_rnn_cell",
            "cell_{}/lstm_cell",
            NEW,
        ),
        ("BiRNN/FW/MultiRNNCell", "BiRNN/BW/MultiRNNCell", "Cell{}/LSTMCell", CORE),
        ("BiRNN_FW/RNN/MultiRNNCell", "BiRNN_BW/RNN/MultiRNNCell", "Cell{}/BasicLSTMCell", BASIC),
    ],
)
def test_directions_around_numbered_scopes_make_two_separate_stacks(
    forward: str, backward: str, cell: str, leaves: tuple[str, str]
) -> None:
    found = stacked(
        *numbered(f"{forward}/{cell}", 2, leaves), *numbered(f"{backward}/{cell}", 3, leaves)
    )
    assert units(found[forward]) == [[4], [5]]
    assert units(found[backward]) == [[4], [5], [6]]
    assert (found[forward].direction, found[backward].direction) == ("forward", "backward")
    assert found[forward].paired_with == backward
    assert found[backward].paired_with == forward
    assert found[forward].flat == 2 * (4 + 5)


def test_a_stack_in_one_direction_only_has_no_other() -> None:
    (stack,) = stacked(*numbered("bidirectional_rnn/fw/multi_rnn_cell/cell_{}/x", 2)).values()
    assert (stack.direction, stack.paired_with) == ("forward", None)


# ---- current names of TensorFlow


def test_the_layers_of_a_graph() -> None:
    def build(tf: TensorFlow) -> None:
        make = tf.nn.rnn_cell
        dynamic(tf, make.MultiRNNCell([make.LSTMCell(4 + k) for k in range(3)]))

    (stack,) = opened(build).stacks.values()
    assert (stack.name, units(stack), stack.flat) == ("rnn/multi_rnn_cell", [[4], [5], [6]], 30)


def test_the_stacks_of_two_directions_in_a_graph() -> None:
    def build(tf: TensorFlow) -> None:
        make = tf.nn.rnn_cell
        ways = [make.MultiRNNCell([make.LSTMCell(4), make.BasicLSTMCell(k)]) for k in (5, 6)]
        tf.nn.bidirectional_dynamic_rnn(*ways, inputs(tf), dtype=tf.float32)

    forward, backward = opened(build).stacks.values()
    assert (forward.direction, backward.direction) == ("forward", "backward")
    assert (units(forward), units(backward)) == ([[4], [5]], [[4], [6]])
    assert (forward.paired_with, backward.paired_with) == (backward.name, forward.name)


@pytest.mark.parametrize("loop", [dynamic, static])
def test_the_layers_of_a_stack_keep_their_own_options(loop: Any) -> None:
    def build(tf: TensorFlow) -> None:
        make = tf.nn.rnn_cell
        layers = [
            make.LSTMCell(4, forget_bias=0.3, cell_clip=0.5, use_peepholes=True),
            make.BasicLSTMCell(6, forget_bias=2.5, activation=tf.nn.relu),
            make.LSTMCell(5, num_proj=2, proj_clip=0.2, forget_bias=0.0),
        ]
        loop(tf, make.MultiRNNCell(layers))

    found = list(opened(build).cells.values())
    assert [one.family for one in found] == ["LSTMCell", "BasicLSTMCell", "LSTMCell"]
    assert [one.input_size for one in found] == [3, 4, 6]
    names = ("forget_bias", "cell_clip", "proj_clip", "activation")
    assert [list(shown(one, *names).values()) for one in found] == [
        [0.3, 0.5, None, "tanh"],
        [2.5, None, None, "relu"],
        [0.0, None, 0.2, "tanh"],
    ]


def test_the_directions_of_a_pair_keep_their_own_options() -> None:
    def build(tf: TensorFlow) -> None:
        ways = [tf.nn.rnn_cell.LSTMCell(4, forget_bias=bias) for bias in (0.3, 2.5)]
        tf.nn.bidirectional_dynamic_rnn(*ways, inputs(tf), dtype=tf.float32)

    found = opened(build).cells.values()
    assert {one.direction: one.forget_bias.value for one in found} == {
        "forward": 0.3,
        "backward": 2.5,
    }
    assert [shown(one, "time_major") for one in found] == [{"time_major": False}] * 2


# ---- networks that the cells of a checkpoint form, and combinations that cannot be run


BOTH = "bidirectional_rnn"


def found(*parts: Mapping[str, Shape]) -> list[Route]:
    """Return the networks formed by the cells of some variables."""
    together = {name: shape for some in parts for name, shape in some.items()}
    known = cells(together).values()
    return routes(known, stacks(known, together))


def chain_units(route: Route) -> list[list[list[int | None]]]:
    """Return the widths of the cells in each chain of each stage; they differ within a test."""
    return [[[cell.num_units for cell in chain] for chain in stage] for stage in route.stages]


def listed(*parts: Mapping[str, Shape]) -> dict[str, list[list[list[int | None]]]]:
    """Return the flags that choose the networks, and the widths of their cells."""
    return {with_flags(route.choice): chain_units(route) for route in found(*parts)}


# ---- cells and stacks


@pytest.mark.parametrize(
    ("parts", "networks"),
    [
        ([lstm("rnn/lstm_cell")], {"--cell rnn/lstm_cell": [[[4]]]}),
        (
            [lstm("encoder/lstm_cell", units=4), lstm("decoder/lstm_cell", units=5)],
            {"--cell encoder/lstm_cell": [[[4]]], "--cell decoder/lstm_cell": [[[5]]]},
        ),
        ([lstm("", proj=2), {"out/weights_out": (2, 9)}], {"--cell /": [[[4]]]}),  # the root scope
        (
            [lstm(MULTI.format(k), 3 + k if k else 3, 4 + k) for k in reversed(range(12))],
            {"--stack rnn/multi_rnn_cell": [[[4 + k for k in range(12)]]]},
        ),
        # The next layer takes the projected m.
        (
            [lstm(MULTI.format(0), 3, 8, proj=2), lstm(MULTI.format(1), 2, 5)],
            {"--stack rnn/multi_rnn_cell": [[[8, 5]]]},
        ),
        (
            [
                *(lstm(MULTI.format(k), 3 + k, 4 + k) for k in (0, 1)),
                lstm("decoder/lstm_cell", 5, 6),
            ],
            {"--stack rnn/multi_rnn_cell": [[[4, 5]]], "--cell decoder/lstm_cell": [[[6]]]},
        ),
        (
            [lstm(f"{BOTH}/bw/lstm_cell", 3, 5), lstm(f"{BOTH}/fw/lstm_cell", 3, 4)],
            {f"--stack {BOTH}": [[[4], [5]]]},
        ),
        ([lstm(f"{BOTH}/fw/lstm_cell")], {f"--cell {BOTH}/fw/lstm_cell": [[[4]]]}),
    ],
)
def test_cells_and_stacks_are_networks(parts: list[dict[str, Shape]], networks: object) -> None:
    assert listed(*parts) == networks


# ---- both directions


def test_stacks_of_both_directions_run_separately_and_are_joined_at_the_end() -> None:
    """bidirectional_dynamic_rnn of two MultiRNNCells: neither direction feeds the other."""
    layers = [
        lstm(f"{BOTH}/{side}/multi_rnn_cell/cell_{k}/lstm_cell", (3, 4 + add)[k], 4 + add + k)
        for side, add in (("fw", 0), ("bw", 10))
        for k in (0, 1)
    ]
    assert listed(*layers) == {f"--stack {BOTH}": [[[4, 5], [14, 15]]]}


def test_the_next_stage_takes_the_joined_outputs_of_both_directions() -> None:
    """stack_bidirectional_dynamic_rnn: each layer reads both directions of the one before."""
    scope = f"stack_bidirectional_rnn/cell_{{}}/{BOTH}/{{}}/lstm_cell"
    widths = {"fw": (4, 6), "bw": (5, 7)}
    layers = [
        lstm(scope.format(k, side), 3 if k == 0 else 4 + 5, widths[side][k])
        for k in (0, 1)
        for side in ("fw", "bw")
    ]
    (route,) = found(*layers)
    assert chain_units(route) == [[[4], [5]], [[6], [7]]]
    assert [cell.direction for cell in route.cells] == ["forward", "backward"] * 2
    narrow = lstm(scope.format(1, "fw"), 4, 6)
    assert [flag[:6] for flag in listed(*layers[:2], narrow, layers[3])] == ["--cell"] * 4


def test_directions_over_different_inputs_are_not_a_pair() -> None:
    pair = lstm(f"{BOTH}/fw/lstm_cell", 3, 4) | lstm(f"{BOTH}/bw/lstm_cell", 2, 5)
    assert listed(pair) == {
        f"--cell {BOTH}/fw/lstm_cell": [[[4]]],
        f"--cell {BOTH}/bw/lstm_cell": [[[5]]],
    }
    known = cells(pair).values()
    with pytest.raises(UnsupportedError, match="take inputs of 3 and of 2 columns"):
        of_stack(stacks(known)[0])


def test_stacks_that_are_not_a_pair_are_listed_separately() -> None:
    layers = [
        lstm(f"{BOTH}/{side}/multi_rnn_cell/cell_{k}/lstm_cell", inputs if k == 0 else 4, 4)
        for side, inputs in (("fw", 3), ("bw", 2))
        for k in (0, 1)
    ]
    assert list(listed(*layers)) == [
        f"--stack {BOTH}/fw/multi_rnn_cell",
        f"--stack {BOTH}/bw/multi_rnn_cell",
    ]


# ---- cells that do not form a network


def test_cells_whose_widths_do_not_fit_are_not_a_stack() -> None:
    layers = lstm(MULTI.format(0), 3, 4) | lstm(MULTI.format(1), 9, 5)
    assert listed(layers) == {
        f"--cell {MULTI.format(0)}": [[[4]]],
        f"--cell {MULTI.format(1)}": [[[5]]],
    }
    known = cells(layers).values()
    with pytest.raises(UnsupportedError) as caught:
        of_stack(stacks(known)[0])
    assert str(caught.value) == (
        f"{MULTI.format(1)}: expected 4 inputs, as {MULTI.format(0)} outputs, and it takes 9: "
        "a layer between them is missing; run the cells one by one: `cell='NAME'`"
    )


def test_a_layer_of_another_kind_prevents_a_stack() -> None:
    layers = lstm(MULTI.format(0), 3, 4) | lstm(MULTI.format(2), 4, 5)
    gru = {"rnn/multi_rnn_cell/cell_1/gru_cell/gates/kernel": (8, 8)}
    assert [flag[:6] for flag in listed(layers, gru)] == ["--cell", "--cell"]
    known = cells(layers).values()
    with pytest.raises(UnsupportedError, match="a layer of this stack is not an LSTM cell"):
        of_stack(stacks(known, [*layers, *gru])[0])


def test_cells_of_unknown_input_width_may_follow_any() -> None:
    (first, second) = cells(lstm(MULTI.format(0), 3, 4) | lstm(MULTI.format(1), 9, 5)).values()
    (stack,) = stacks([first, second._replace(input_size=None)])
    assert chain_units(of_stack(stack)) == [[[4, 5]]]
    assert chain_units(of_cell(second)) == [[[5]]]


# ---- choosing a network


def of_two(tf: TensorFlow) -> None:
    """A stack of both directions in the encoder, and a cell in the decoder."""
    with tf.variable_scope("encoder"):
        lstms = [tf.nn.rnn_cell.LSTMCell(width) for width in (4, 5)]
        tf.nn.bidirectional_dynamic_rnn(*lstms, inputs(tf), dtype=tf.float32)
    with tf.variable_scope("decoder"):
        dynamic(tf, tf.nn.rnn_cell.LSTMCell(6), tf.placeholder(tf.float32, [None, None, 9]))


PAIR, LONE = f"encoder/{BOTH}", "decoder/rnn/lstm_cell"


@pytest.mark.parametrize("name", [LONE, "decoder", "rnn/lstm_cell", "/decoder/", "decoder/rnn"])
def test_a_unique_part_of_its_name_selects_a_cell(name: str) -> None:
    assert opened(of_two).network(cell=name).route.name == LONE


@pytest.mark.parametrize("name", [PAIR, BOTH, "encoder"])
def test_a_part_of_its_name_selects_a_stack(name: str) -> None:
    route = opened(of_two).network(stack=name).route
    assert (route.name, route.is_stack, chain_units(route)) == (PAIR, True, [[[4], [5]]])


def test_an_ambiguous_choice_lists_the_networks() -> None:
    with pytest.raises(AmbiguousError) as caught:
        opened(of_two).network()
    assert caught.value.problem == "2 cells or stacks can be run"
    assert caught.value.advice == f"choose one: `stack='{PAIR}'`, `cell='{LONE}'`"


@pytest.mark.parametrize(
    ("given", "problem", "advice"),
    [
        ({"cell": "lstm_cell"}, "several cells have this in their names", "the cells are: "),
        ({"cell": "nope"}, "there is no cell of this name", "the cells are: "),
        ({"stack": "decoder"}, "there is no such stack", f"there are: {PAIR}"),
        ({"cell": LONE, "stack": PAIR}, "give one of `name`, `cell` and `stack`", ""),
    ],
)
def test_an_unknown_name_lists_the_names(given: dict[str, str], problem: str, advice: str) -> None:
    with pytest.raises(LstmstateError, match=problem) as caught:
        opened(of_two).network(**given)
    assert (caught.value.advice or "").startswith(advice)


def test_one_stack_of_a_pair_runs_if_named_in_full() -> None:
    def build(tf: TensorFlow) -> None:
        sides = [
            tf.nn.rnn_cell.MultiRNNCell([tf.nn.rnn_cell.LSTMCell(width) for width in widths])
            for widths in ((4, 5), (6, 7))
        ]
        tf.nn.bidirectional_dynamic_rnn(*sides, inputs(tf), dtype=tf.float32)

    ckpt = opened(build)
    assert chain_units(ckpt.network().route) == [[[4, 5], [6, 7]]]
    half = f"{BOTH}/bw/multi_rnn_cell"
    assert chain_units(ckpt.network(stack=half).route) == [[[6, 7]]]
    assert chain_units(ckpt.network(stack="multi_rnn_cell").route) == [[[4, 5], [6, 7]]]


def test_without_a_cell_there_is_nothing_to_run() -> None:
    ckpt = opened(lambda tf: tf.get_variable("kernel", [3, 5]))
    with pytest.raises(NotFoundError, match="there is no LSTM cell in it"):
        ckpt.network()


def test_a_long_list_of_networks_is_shortened() -> None:
    def build(tf: TensorFlow) -> None:
        for number in range(40):
            tf.get_variable(f"part_{number}x/lstm_cell/kernel", [7, 16])
            tf.get_variable(f"part_{number}x/lstm_cell/bias", [16])

    with pytest.raises(AmbiguousError, match="40 cells or stacks") as caught:
        opened(build, graph=False).network()
    assert str(caught.value).count("`cell=") == 30
    assert str(caught.value).endswith(" and 10 more, which `lstmstate inspect` lists")


# ---- operations between the layers, which only the graph shows


def _layers(tf: TensorFlow, *wrap: bool, keep: float = 1.0) -> None:
    """Run a stack whose layers have residual connections or not."""
    cells = tf.nn.rnn_cell
    made = [cells.LSTMCell(INPUTS + 1, num_proj=INPUTS) for _ in wrap]
    made = [cells.ResidualWrapper(c) if w else c for c, w in zip(made, wrap, strict=True)]
    if keep < 1:
        made = [cells.DropoutWrapper(cell, 1.0, keep) for cell in made]
    dynamic(tf, cells.MultiRNNCell(made))


def test_layers_with_a_residual_connection_are_a_network_of_the_graph_alone() -> None:
    ckpt = opened(lambda tf: _layers(tf, True, False))
    assert [route.is_stack for route in ckpt.routes] == [False, False]
    network = ckpt.network(stack="multi_rnn_cell")
    assert len(network.graph_networks()) == 1
    with pytest.raises(MissingFileError, match="the data file is missing"):
        network.load()


def test_a_residual_connection_over_the_last_layer_is_noted() -> None:
    ckpt = opened(lambda tf: _layers(tf, False, True))
    first, last = ckpt.cells.values()
    assert not any("residual" in note for note in first.notes)
    assert any("residual" in note for note in last.notes)


@pytest.mark.parametrize("keep", [1.0, 0.5])
def test_layers_with_projection_and_dropout_between_them_are_a_stack(keep: float) -> None:
    ckpt = opened(lambda tf: _layers(tf, False, False, keep=keep))
    (route,) = ckpt.routes
    assert route.is_stack
    assert not any(cell.extra.get("takes_sum") or cell.notes for cell in route.cells)
