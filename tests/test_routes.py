"""Networks that the cells of a checkpoint form, and combinations that cannot be run."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from writers import INPUTS, Shape, TensorFlow, cells, dynamic, inputs, lstm, opened

from lstmstate import AmbiguousError, LstmstateError, NotFoundError, UnsupportedError
from lstmstate.cells.stacks import Route, of_cell, of_stack, routes, stacks
from lstmstate.cli.report.flags import with_flags
from lstmstate.errors import MissingFileError

MULTI = "rnn/multi_rnn_cell/cell_{}/lstm_cell"
BOTH = "bidirectional_rnn"


def found(*parts: Mapping[str, Shape]) -> list[Route]:
    """Return the networks formed by the cells of some variables."""
    together = {name: shape for some in parts for name, shape in some.items()}
    known = cells(together).values()
    return routes(known, stacks(known, together))


def units(route: Route) -> list[list[list[int | None]]]:
    """Return the widths of the cells in each chain of each stage; they differ within a test."""
    return [[[cell.num_units for cell in chain] for chain in stage] for stage in route.stages]


def listed(*parts: Mapping[str, Shape]) -> dict[str, list[list[list[int | None]]]]:
    """Return the flags that choose the networks, and the widths of their cells."""
    return {with_flags(route.choice): units(route) for route in found(*parts)}


# ---- cells and stacks


def test_a_cell_alone_is_run_alone() -> None:
    assert listed(lstm("rnn/lstm_cell", units=4)) == {"--cell rnn/lstm_cell": [[[4]]]}
    assert listed(lstm("encoder/lstm_cell", units=4), lstm("decoder/lstm_cell", units=5)) == {
        "--cell encoder/lstm_cell": [[[4]]],
        "--cell decoder/lstm_cell": [[[5]]],
    }


def test_the_root_scope_has_a_flag_too() -> None:
    assert list(listed(lstm("", proj=2) | {"out/weights_out": (2, 9)})) == ["--cell /"]


def test_layers_feed_one_another_in_one_chain() -> None:
    layers = [lstm(MULTI.format(k), 3 if k == 0 else 3 + k, 4 + k) for k in range(12)]
    assert listed(*reversed(layers)) == {
        "--stack rnn/multi_rnn_cell": [[[4 + k for k in range(12)]]]
    }


def test_the_next_layer_takes_the_projected_m() -> None:
    layers = lstm(MULTI.format(0), 3, 8, proj=2) | lstm(MULTI.format(1), 2, 5)
    assert listed(layers) == {"--stack rnn/multi_rnn_cell": [[[8, 5]]]}


def test_a_stack_and_a_cell_next_to_it_are_two_networks() -> None:
    layers = lstm(MULTI.format(0), 3, 4) | lstm(MULTI.format(1), 4, 5)
    assert listed(layers, lstm("decoder/lstm_cell", 5, 6)) == {
        "--stack rnn/multi_rnn_cell": [[[4, 5]]],
        "--cell decoder/lstm_cell": [[[6]]],
    }


# ---- both directions


def test_a_pair_is_one_stage_of_two_chains() -> None:
    pair = lstm(f"{BOTH}/bw/lstm_cell", 3, 5) | lstm(f"{BOTH}/fw/lstm_cell", 3, 4)
    assert listed(pair) == {f"--stack {BOTH}": [[[4], [5]]]}


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
    assert units(route) == [[[4], [5]], [[6], [7]]]
    assert [cell.direction for cell in route.cells] == ["forward", "backward"] * 2
    narrow = lstm(scope.format(1, "fw"), 4, 6)
    assert [flag[:6] for flag in listed(*layers[:2], narrow, layers[3])] == ["--cell"] * 4


def test_one_direction_alone_is_a_cell() -> None:
    assert listed(lstm(f"{BOTH}/fw/lstm_cell")) == {f"--cell {BOTH}/fw/lstm_cell": [[[4]]]}


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
    assert units(of_stack(stack)) == [[[4, 5]]]
    assert units(of_cell(second)) == [[[5]]]


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
    assert (route.name, route.is_stack, units(route)) == (PAIR, True, [[[4], [5]]])


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
    assert units(ckpt.network().route) == [[[4, 5], [6, 7]]]
    half = f"{BOTH}/bw/multi_rnn_cell"
    assert units(ckpt.network(stack=half).route) == [[[6, 7]]]
    assert units(ckpt.network(stack="multi_rnn_cell").route) == [[[4, 5], [6, 7]]]


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
