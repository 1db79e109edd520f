"""Scopes and names of variables: layers, directions, slots, cells."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from writers import BATCH, Shape, TensorFlow, below, cells, lstm, recognised, saved_as_objects

from lstmstate.cells import variable_names as names
from lstmstate.errors import NotFoundError
from lstmstate.model.checkpoint import open_checkpoint


@pytest.mark.parametrize(
    ("part", "word"),
    [
        ("lstm_cell", "lstm_cell"),
        ("lstm_cell_1", "lstm_cell"),
        ("lstm_cell_12", "lstm_cell"),
        ("LSTMCell", "lstm_cell"),
        ("BasicLSTMCell", "basic_lstm_cell"),
        ("BasicLSTMCell_3", "basic_lstm_cell"),
        ("TFLiteLSTMCell", "tf_lite_lstm_cell"),
        ("GLSTMCell", "glstm_cell"),
        ("CoupledInputForgetGateLSTMCell", "coupled_input_forget_gate_lstm_cell"),
        ("LayerNormBasicLSTMCell", "layer_norm_basic_lstm_cell"),
        ("LSTMBlockFusedCell", "lstm_block_fused_cell"),
        ("MultiRNNCell", "multi_rnn_cell"),
        ("GRUCell", "gru_cell"),
        ("hidden2", "hidden2"),
        ("", ""),
    ],
)
def test_class_names_and_scopes_are_normalised(part: str, word: str) -> None:
    assert names.word(part) == word


@pytest.mark.parametrize(
    ("scope", "parent", "last"),
    [("a/b/c", "a/b", "c"), ("a", "", "a"), ("", "", "")],
)
def test_a_scope_has_a_last_part_and_a_parent(scope: str, parent: str, last: str) -> None:
    assert (names.parent(scope), names.last(scope)) == (parent, last)


@pytest.mark.parametrize(
    ("scope", "place"),
    [
        ("rnn/multi_rnn_cell/cell_0/lstm_cell", ("rnn/multi_rnn_cell", 0)),
        ("rnn/multi_rnn_cell/cell_11/lstm_cell", ("rnn/multi_rnn_cell", 11)),
        ("RNN/MultiRNNCell/Cell2/LSTMCell", ("RNN/MultiRNNCell", 2)),
        ("StackRNN/Layer1/BiRNN/FW/LSTMCell", ("StackRNN", 1)),
        (
            "stack_bidirectional_rnn/cell_1/bidirectional_rnn/fw/lstm_cell",
            ("stack_bidirectional_rnn", 1),
        ),
        ("multi_rnn_cell/cell_3", ("multi_rnn_cell", 3)),
        ("cell_3", ("", 3)),
        # A stack in a stack: the cell is in the inner one.
        (
            "rnn/multi_rnn_cell/cell_1/multi_rnn_cell/cell_0/lstm_cell",
            ("rnn/multi_rnn_cell/cell_1/multi_rnn_cell", 0),
        ),
        ("cell/cells/1", ("cell", 1)),  # Keras, object-based
        ("rnn/lstm_cell", None),
        ("rnn/lstm_cell_1", None),  # a counter of its kind, not a position in a stack
        ("Grid2LSTMCell/recurrent/cell_0/lstm_cell", None),  # a dimension, not a layer
        ("", None),
    ],
)
def test_a_numbered_scope_is_a_layer(scope: str, place: tuple[str, int] | None) -> None:
    assert names.layer(scope) == place


@pytest.mark.parametrize(
    ("scope", "direction"),
    [
        ("bidirectional_rnn/fw/lstm_cell", ("bidirectional_rnn/{}/lstm_cell", "forward")),
        ("bidirectional_rnn/bw/lstm_cell", ("bidirectional_rnn/{}/lstm_cell", "backward")),
        ("BiRNN/FW/LSTMCell", ("BiRNN/{}/LSTMCell", "forward")),
        ("BiRNN_BW/LSTMCell", ("BiRNN_{}/LSTMCell", "backward")),
        ("bidirectional/forward_lstm", ("bidirectional/{}_lstm", "forward")),
        ("bidirectional/backward_lstm", ("bidirectional/{}_lstm", "backward")),
        (
            "bidirectional_grid_lstm_cell/fwd",
            ("bidirectional_grid_lstm_cell/{}", "forward"),
        ),
        ("rnn/fw/encoder_fw_LSTM", ("rnn/{}/encoder_{}_LSTM", "forward")),
        ("fw_net/birnn/bw/lstm_cell", ("{}_net/birnn/{}/lstm_cell", "backward")),  # the innermost
        ("rnn/lstm_cell", None),
        ("feed_forward/lstm_cell", None),  # a kind of layer
        ("forward_model/lstm_cell", None),
        ("looking_backward/lstm_cell", None),
        ("software/lstm_cell", None),
        ("wfwd/lstm_cell", None),
    ],
)
def test_a_direction_is_a_part_of_the_scope(scope: str, direction: tuple[str, str] | None) -> None:
    # The direction in the pattern is replaced by a character that no name can contain.
    expected = direction and (direction[0].replace("{}", "\0"), direction[1])
    assert names.direction(scope) == expected


def test_both_directions_of_a_pair_have_one_scope_in_common() -> None:
    ways = (f"a/bidirectional_rnn/{way}/multi_rnn_cell/cell_0/lstm_cell" for way in ("fw", "bw"))
    forward, backward = map(names.direction, ways)
    assert forward and backward and forward[0] == backward[0]


def test_scopes_are_sorted_numerically() -> None:
    sorted_scopes = [
        *(f"rnn/cell_{k}/bidirectional_rnn/{side}" for k in range(12) for side in ("fw", "bw")),
        *(f"z/lstm_cell_{k}" for k in range(1, 12)),
    ]
    shuffled = random.Random(1).sample(sorted_scopes, len(sorted_scopes))
    assert sorted(shuffled, key=names.order) == sorted_scopes


@pytest.mark.parametrize("digits", ["²", "٣", "①"])
def test_digits_outside_ascii_are_accepted(digits: str) -> None:
    assert sorted([f"b{digits}", "a1"], key=names.order) == ["a1", f"b{digits}"]
    assert names.layer(f"a{digits}/lstm") is None


KERNEL = "rnn/lstm_cell/kernel"


@pytest.mark.parametrize(
    "slot",
    "Adam Adam_1 Adam_2 Momentum RMSProp RMSProp_1 Adagrad Adadelta Adadelta_1 Ftrl Ftrl_1 "
    "ExponentialMovingAverage".split(),
)
@pytest.mark.parametrize("around", ["", "OptimizeLoss/", "train_op/"])
def test_optimizer_variables_are_slots_in_any_scope(around: str, slot: str) -> None:
    path = f"{around}{KERNEL}/{slot}"
    assert names.is_slot(path, {KERNEL: (3, 8), path: (3, 8)})
    assert names.is_slot(path, {path: (3, 8)})  # the variable itself need not be saved


@pytest.mark.parametrize(("shape", "slot"), [((3, 8), True), ((), True), ((8,), False)])
def test_a_name_below_a_variable_with_its_shape_is_a_slot(shape: Shape, slot: bool) -> None:
    """Under any name; a variable with another shape is a variable with an odd name."""
    shapes = {KERNEL: (3, 8), f"{KERNEL}/my_own_average": shape}
    assert names.is_slot(f"{KERNEL}/my_own_average", shapes) == slot
    assert not names.is_slot(KERNEL, shapes)


@pytest.mark.parametrize("path", ["Adam", "Adam/kernel", "rnn/Adam_cell/kernel", "Momentum/bias"])
def test_a_name_that_only_contains_an_optimizer_name_is_not_a_slot(path: str) -> None:
    assert not names.is_slot(path, {path: (3, 8)})


@pytest.mark.parametrize(
    ("scope", "recurrent"),
    [
        ("rnn/x", True),
        ("my_rnn_1/x", True),
        ("BiRNN_FW/x", True),
        ("multi_rnn_cell/cell_0/x", True),
        ("bidirectional_rnn/fw/a", True),
        ("hidden2", False),
        ("journey/modern", False),
        ("rnn/dense/x", False),  # a layer after the network is in that scope too
        ("", False),
    ],
)
def test_scopes_that_contain_cells(scope: str, recurrent: bool) -> None:
    assert names.is_recurrent_place(scope) == recurrent


@pytest.mark.parametrize(
    ("part", "lstm"),
    [
        ("lstm", True),
        ("LSTM_2", True),
        ("decoder_LSTM_1", True),
        ("encoder_fw_LSTM", True),
        ("lstm_fw", True),
        ("BiLSTM", True),
        ("output_lstm", True),
        ("lstm_to_tags", False),
        ("lstm2hidden_dense", False),
        ("hidden2", False),
    ],
)
def test_scopes_named_after_an_lstm(part: str, lstm: bool) -> None:
    assert names.is_lstm_word(part) == lstm


# ---- names in an open checkpoint


def test_a_cell_is_found_by_its_name_or_the_end_of_it(samples: Path) -> None:
    ckpt = open_checkpoint(samples / "sunspots")
    first, second = ckpt.cells
    assert ckpt.cell(second).name == second
    assert ckpt.cell("cell_1/basic_lstm_cell").name == second
    assert ckpt.cell("multi_rnn_cell/cell_0/basic_lstm_cell").name == first


@pytest.mark.parametrize("name", ["basic_lstm_cell", "cell_2/basic_lstm_cell", "lstm_cell", ""])
def test_an_unknown_or_ambiguous_name_lists_the_cells(samples: Path, name: str) -> None:
    ckpt = open_checkpoint(samples / "sunspots")
    with pytest.raises(NotFoundError) as refused:
        ckpt.cell(name)
    assert all(cell in str(refused.value) for cell in ckpt.cells)
    assert ("several" in str(refused.value)) == (name == "basic_lstm_cell")


@pytest.mark.parametrize(
    ("folder", "era"),
    [("tf_0_12_names", "0.5-0.12"), ("tf_1_0_names", "1.0-1.1"), ("bidirectional", "1.2+")],
)
def test_the_era_of_a_checkpoint_is_that_of_its_cell_names(
    samples: Path, folder: str, era: str
) -> None:
    ckpt = open_checkpoint(samples / folder)
    assert ckpt.era == era
    assert {cell.era for cell in ckpt.cells.values()} == {era}


def test_every_variable_has_a_role(samples: Path) -> None:
    ckpt = open_checkpoint(samples / "peephole_flat")
    scope = "rnn/lstm_cell"
    assert {name: ckpt.role(name) for name in ckpt.variables} == {
        f"{scope}/kernel": ("kernel", scope),
        f"{scope}/bias": ("bias", scope),
        f"{scope}/projection/kernel": ("projection", scope),
        f"{scope}/w_i_diag": ("w_i_diag", scope),
        f"{scope}/w_f_diag": ("w_f_diag", scope),
        f"{scope}/w_o_diag": ("w_o_diag", scope),
        "saved_state": ("state", scope),
    }
    assert ckpt.role("nothing of this name") == ("other", None)


def test_a_cudnn_buffer_next_to_its_own_cells_is_not_a_cell() -> None:
    cell = "cudnn_lstm/rnn/multi_rnn_cell/cell_0/cudnn_compatible_lstm_cell"
    found = recognised(lstm(cell) | {"cudnn_lstm/opaque_kernel": (144,)})
    assert [one.name for one in found.cells] == [cell]
    assert found.roles["cudnn_lstm/opaque_kernel"] == ("opaque_kernel", None)
    alone = recognised({"cudnn_lstm/opaque_kernel": (144,)})
    assert [one.name for one in alone.cells] == ["cudnn_lstm"]


def test_a_variable_saved_under_two_names_belongs_to_one_cell() -> None:
    twice = lstm("rnn/lstm_cell") | {f"{name}:0": s for name, s in lstm("rnn/lstm_cell").items()}
    (cell,) = recognised(twice).cells
    assert cell.parameters == 7 * 16 + 16


@pytest.mark.parametrize(
    ("scope", "shapes", "layout"),
    [
        ("rnn/layer_norm_basic_lstm_cell", {"kernel": (7, 16), "bias": (16,)}, "tuple"),
        ("rnn/time_freq_lstm_cell", {"W_0": (11, 16), "B": (16,)}, "flat"),
        ("rnn/lstm_cell", {"kernel": (7, 16), "bias": (16,)}, None),
        ("lstm", {"kernel": (3, 16), "recurrent_kernel": (4, 16), "bias": (16,)}, "keras"),
    ],
)
def test_a_class_may_fix_state_is_tuple(
    scope: str, shapes: dict[str, Shape], layout: str | None
) -> None:
    (cell,) = recognised(below(scope, shapes)).cells
    assert cell.native_layout == layout


def test_cells_in_an_object_based_checkpoint() -> None:
    """Its keys are paths of objects with any names; it also has the graph's names."""

    def build(tf: TensorFlow) -> dict[str, Any]:
        make = tf.nn.rnn_cell
        one = make.LSTMCell(4, num_proj=2, use_peepholes=True)
        stack = make.MultiRNNCell([make.BasicLSTMCell(4), make.LSTMCell(5)])
        for cell in (one, stack):
            cell(tf.zeros([BATCH, 3]), cell.zero_state(BATCH, tf.float32))
        return {"encoder": one, "decoder": stack}

    ckpt = saved_as_objects(build)
    widths = {name: (cell.num_units, cell.num_proj) for name, cell in ckpt.cells.items()}
    assert widths == {"encoder": (4, 2), "decoder/cell-0": (4, None), "decoder/cell-1": (5, None)}
    assert [cell.peepholes for cell in ckpt.cells.values()] == [False, False, True]
    assert ckpt.cells["decoder/cell-0"].family == "BasicLSTMCell"
    assert [stack.name for stack in ckpt.stacks.values()] == ["decoder"]


@pytest.mark.parametrize(("kernel", "bias"), [("kernel", "bias"), ("weights", "biases")])
def test_shards_saved_separately_are_below_the_names_of_a_cell(kernel: str, bias: str) -> None:
    """Those of a projection are three parts below the scope."""
    parts = {f"{kernel}/part_0": (4, 16), f"{kernel}/part_1": (3, 16), bias: (16,)}
    parts |= {f"projection/{kernel}/part_{k}": (2, 1) for k in (0, 1)}
    (cell,) = cells(below("rnn/lstm_cell", parts)).values()
    assert (cell.input_size, cell.num_units, cell.num_proj) == (6, 4, 1)
    assert len(cell.variables["projection"]) == 2
