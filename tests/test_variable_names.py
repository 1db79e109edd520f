"""Names of variables and scopes: layers, directions, slots, and counterparts in other eras."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from conftest import SAMPLES, SHARED
from hypothesis import given, settings
from hypothesis import strategies as st
from writers import (
    BATCH,
    Shape,
    TensorFlow,
    below,
    cells,
    dense,
    lstm,
    recognised,
    saved_as_objects,
    variables,
)

from lstmstate.cells import variable_names as names
from lstmstate.cells.aliases import Counterpart, find_counterparts
from lstmstate.checkpoint import Variable
from lstmstate.errors import LstmstateError, NotFoundError
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


def by_path(shapes: Mapping[str, Shape]) -> dict[str, Variable]:
    """Return variables of these shapes by path."""
    return {variable.path: variable for variable in variables(shapes)}


@pytest.mark.parametrize(
    "slot",
    "Adam Adam_1 Adam_2 Momentum RMSProp RMSProp_1 Adagrad Adadelta Adadelta_1 Ftrl Ftrl_1 "
    "ExponentialMovingAverage".split(),
)
@pytest.mark.parametrize("around", ["", "OptimizeLoss/", "train_op/"])
def test_optimizer_variables_are_slots_in_any_scope(around: str, slot: str) -> None:
    path = f"{around}{KERNEL}/{slot}"
    assert names.is_slot(path, by_path({KERNEL: (3, 8), path: (3, 8)}))
    assert names.is_slot(path, by_path({path: (3, 8)}))  # the variable itself need not be saved


@pytest.mark.parametrize(("shape", "slot"), [((3, 8), True), ((), True), ((8,), False)])
def test_a_name_below_a_variable_with_its_shape_is_a_slot(shape: Shape, slot: bool) -> None:
    """Under any name; a variable with another shape is a variable with an odd name."""
    others = by_path({KERNEL: (3, 8), f"{KERNEL}/my_own_average": shape})
    assert names.is_slot(f"{KERNEL}/my_own_average", others) == slot
    assert not names.is_slot(KERNEL, others)


@pytest.mark.parametrize("path", ["Adam", "Adam/kernel", "rnn/Adam_cell/kernel", "Momentum/bias"])
def test_a_name_that_only_contains_an_optimizer_name_is_not_a_slot(path: str) -> None:
    assert not names.is_slot(path, by_path({path: (3, 8)}))


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


# ---- tensors found under the names of another era, class or scope


OLD, MIDDLE, NEW = "0.5-0.12", "1.0-1.1", "1.2+"
ERAS = (OLD, MIDDLE, NEW)
DIAGONALS = ("W_I_diag", "W_F_diag", "W_O_diag")
SMALL = [leaf.lower() for leaf in DIAGONALS]

# ---- names of every era, repeated here: role → leaf, and scopes by their content

LEAVES = {
    "BasicLSTMCell": {
        OLD: {"kernel": "Linear/Matrix", "bias": "Linear/Bias"},
        MIDDLE: {"kernel": "weights", "bias": "biases"},
        NEW: {"kernel": "kernel", "bias": "bias"},
    },
    "LSTMCell": {
        OLD: {"kernel": "W_0", "bias": "B", "projection": "W_P_0"}
        | dict(zip(SMALL, DIAGONALS, strict=True)),
        MIDDLE: {"kernel": "weights", "bias": "biases", "projection": "projection/weights"}
        | dict(zip(SMALL, SMALL, strict=True)),
        NEW: {"kernel": "kernel", "bias": "bias", "projection": "projection/kernel"}
        | dict(zip(SMALL, SMALL, strict=True)),
    },
}
SCOPES = {
    "rnn": "RNN",
    "multi_rnn_cell": "MultiRNNCell",
    "bidirectional_rnn": "BiRNN",
    "stack_bidirectional_rnn": "StackRNN",
    "fw": "FW",
    "bw": "BW",
    "basic_lstm_cell": "BasicLSTMCell",
    "lstm_cell": "LSTMCell",
    **{f"cell_{k}": f"Cell{k}" for k in range(4)},
}
SNAKE = {old: new for new, old in SCOPES.items()}


def scope_in(era: str, scope: str) -> str:
    """Return a scope as named in an era; the user's part is unchanged."""
    words = SCOPES if era == OLD else SNAKE
    return "/".join(words.get(part, part) for part in scope.split("/"))


def matches(name: str, shapes: Mapping[str, Shape]) -> list[tuple[str, ...]]:
    """Return the matches for a name among some variables."""
    return [found.names for found in find_counterparts(name, shapes, recognised(shapes).cells)]


def fused(scope: str, leaves: Iterable[str], rows: int = 7) -> dict[str, Shape]:
    """The kernel, bias, three peepholes and projection of a cell of 4 units, if in `names`."""
    shapes: tuple[Shape, ...] = ((rows, 16), (16,), (4,), (4,), (4,), (4, 2))
    return below(scope, dict(zip(leaves, shapes, strict=False)))


BASIC = {
    OLD: fused("RNN/BasicLSTMCell", ("Linear/Matrix", "Linear/Bias")),
    MIDDLE: fused("rnn/basic_lstm_cell", ("weights", "biases")),
    NEW: fused("rnn/basic_lstm_cell", ("kernel", "bias")),
}
FULL = {
    OLD: fused("RNN/LSTMCell", ("W_0", "B", *DIAGONALS, "W_P_0"), 5),
    MIDDLE: fused("rnn/lstm_cell", ("weights", "biases", *SMALL, "projection/weights"), 5),
    NEW: fused("rnn/lstm_cell", ("kernel", "bias", *SMALL, "projection/kernel"), 5),
}


@pytest.mark.parametrize("cell", [BASIC, FULL], ids=["basic", "full"])
@pytest.mark.parametrize("theirs", ERAS)
@pytest.mark.parametrize("ours", ERAS)
@pytest.mark.parametrize("end", ["", ":0"])
@pytest.mark.parametrize("around", ["", "model/", "a/b/"])
def test_every_role_is_found_in_every_era(
    cell: dict[str, dict[str, Shape]], theirs: str, ours: str, end: str, around: str
) -> None:
    here = {f"{around}{name}": shape for name, shape in cell[ours].items()}
    for name, expected in zip(cell[theirs], here, strict=True):
        for outer in {around, "", "model/"}:
            (found,) = find_counterparts(f"{outer}{name}{end}", here, recognised(here).cells)
            assert found == Counterpart((expected,), ours), (name, outer)


# ---- single cases: the requested name, the variables, the matches

W = [f"RNN/LSTMCell/W_{k}" for k in range(3)]
SHARDS = {W[0]: (3, 16), W[1]: (2, 16), W[2]: (2, 16), "RNN/LSTMCell/B": (16,)}
PARTS = {f"rnn/lstm_cell/kernel/part_{k}": (4 - k, 16) for k in (0, 1)} | {
    "rnn/lstm_cell/bias": (16,)
}
OLD_BLOCK = fused("RNN/LSTMBlockCell", ("W", "b", "wci", "wcf", "wco"))
TWO = dense("RNN/MultiRNNCell/Cell0/BasicLSTMCell", 7, 16, ("Linear/Matrix", "Linear/Bias"))
TWO |= dense("RNN/MultiRNNCell/Cell1/BasicLSTMCell", 8, 16, ("Linear/Matrix", "Linear/Bias"))
TWO_NAMES = [f"RNN/MultiRNNCell/Cell{k}/BasicLSTMCell/Linear/Matrix" for k in (0, 1)]
BOTH = lstm("bidirectional_rnn/fw/lstm_cell") | lstm("bidirectional_rnn/bw/lstm_cell")
NESTED = lstm("stack_bidirectional_rnn/cell_0/fw/multi_rnn_cell/cell_1/lstm_cell")
NESTED |= lstm("stack_bidirectional_rnn/cell_1/fw/multi_rnn_cell/cell_1/lstm_cell")
CODERS = lstm("train/encoder/rnn/lstm_cell") | lstm("train/decoder/rnn/lstm_cell")
SCOPES_LEFT_OUT = lstm("a/cell_0/bw/cell_1/lstm_cell") | lstm("b/cell_0/bw/cell_1/lstm_cell")
TWICE = lstm("rnn/lstm_cell") | lstm("rnn/lstm_cell_1") | lstm("rnn/lstm_cell_2")
USERS = lstm("anime_lstm/lstm_cell") | lstm("audio_lstm/lstm_cell")
MOMENTS = {f"{name}/Adam_1": shape for name, shape in BASIC[NEW].items()}
SCOPED = {f"train_op/{name}": shape for name, shape in MOMENTS.items()}
AVERAGES = {f"{name}/ExponentialMovingAverage": shape for name, shape in BASIC[NEW].items()}
VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
KERAS = {"kernel": (3, 16), "recurrent_kernel": (4, 16), "bias": (16,)}
OBJECT = {f"cell/{leaf}{VALUE}": shape for leaf, shape in
          (("kernel", (5, 16)), ("bias", (16,)), ("projection.Skernel", (4, 2)))}  # fmt: skip
MOMENT = {f"cell/projection.Skernel/.OPTIMIZER_SLOT/adam/m{VALUE}": (4, 2)}
NORMED = {"layer_norm_basic_lstm_cell/weights": (7, 16)} | {
    f"layer_norm_basic_lstm_cell/{gate}/{part}": (4,)
    for gate in ("input", "transform", "forget", "output", "state")
    for part in ("gamma", "beta")
}
LAYERS = dense("model/Dense_1", 4, 9) | dense("Variable_1", 4, 3) | {"model/global_step": ()}

ONE_BY_ONE: list[tuple[str, dict[str, Shape], list[Any]]] = [
    # other classes over the same weights
    ("rnn/lstm_cell/kernel", BASIC[MIDDLE], ["rnn/basic_lstm_cell/weights"]),
    ("rnn/basic_lstm_cell/kernel", FULL[OLD], ["RNN/LSTMCell/W_0"]),
    ("lstm_fused_cell/w_i_diag", FULL[OLD], ["RNN/LSTMCell/W_I_diag"]),
    ("rnn/lstm_block_cell/bias", BASIC[OLD], ["RNN/BasicLSTMCell/Linear/Bias"]),
    ("cudnn_lstm/rnn/multi_rnn_cell/cell_0/cudnn_compatible_lstm_cell/kernel",
     lstm("rnn/multi_rnn_cell/cell_0/lstm_cell"), ["rnn/multi_rnn_cell/cell_0/lstm_cell/kernel"]),
    ("rnn/lstm_cell/w_f_diag", OLD_BLOCK, ["RNN/LSTMBlockCell/wcf"]),
    ("RNN/LSTMBlockCell/wco", FULL[NEW], ["rnn/lstm_cell/w_o_diag"]),
    ("lstm_block_wrapper/weights", lstm("lstm_fused_cell"), ["lstm_fused_cell/kernel"]),
    ("LayerNormBasicLSTMCell/linear/weights", NORMED, ["layer_norm_basic_lstm_cell/weights"]),
    # shards and parts
    ("rnn/lstm_cell/kernel", SHARDS, [tuple(W)]),
    ("model/RNN/LSTMCell/W_1", SHARDS, [W[1]]),
    ("rnn/lstm_cell/weights/part_0", SHARDS, [tuple(W)]),
    ("rnn/lstm_cell/weights", PARTS, [tuple(PARTS)[:2]]),
    ("model/rnn/lstm_cell/weights/part_1", PARTS, ["rnn/lstm_cell/kernel/part_1"]),
    ("rnn/basic_lstm_cell/weights/part_0", BASIC[NEW], ["rnn/basic_lstm_cell/kernel"]),
    # layers
    ("rnn/multi_rnn_cell/cell_1/basic_lstm_cell/kernel", TWO, TWO_NAMES[1:]),
    ("a/rnn/multi_rnn_cell/cell_0/lstm_cell/weights", TWO, TWO_NAMES[:1]),
    ("rnn/basic_lstm_cell/kernel", TWO, TWO_NAMES),
    ("rnn/multi_rnn_cell/cell_2/basic_lstm_cell/kernel", TWO, []),
    ("RNN/MultiRNNCell/Cell0/LSTMCell/B", BASIC[NEW], ["rnn/basic_lstm_cell/bias"]),
    ("RNN/MultiRNNCell/Cell1/LSTMCell/B", BASIC[NEW], []),
    # directions
    ("BiRNN_BW/LSTMCell/W_0", BOTH, ["bidirectional_rnn/bw/lstm_cell/kernel"]),
    ("BiRNN/FW/LSTMCell/B", BOTH, ["bidirectional_rnn/fw/lstm_cell/bias"]),
    ("rnn/lstm_cell/weights", BOTH,
     ["bidirectional_rnn/fw/lstm_cell/kernel", "bidirectional_rnn/bw/lstm_cell/kernel"]),
    ("bidirectional_rnn/fw/lstm_cell/weights", BASIC[NEW], []),
    ("StackRNN/Layer0/BiRNN/FW/LSTMCell/W_0", lstm("stack_bidirectional_rnn/cell_0/fw/lstm_cell"),
     ["stack_bidirectional_rnn/cell_0/fw/lstm_cell/kernel"]),
    ("StackRNN/Layer1/BiRNN/FW/MultiRNNCell/Cell1/LSTMCell/B", NESTED,
     ["stack_bidirectional_rnn/cell_1/fw/multi_rnn_cell/cell_1/lstm_cell/bias"]),
    # scopes and numbers
    ("rnn_1/lstm_cell/weights", lstm("model/rnn/lstm_cell"), ["model/rnn/lstm_cell/kernel"]),
    ("infer/decoder/rnn/lstm_cell/weights", CODERS, ["train/decoder/rnn/lstm_cell/kernel"]),
    ("net/rnn/lstm_cell/weights", lstm("model/rnn/lstm_cell"), ["model/rnn/lstm_cell/kernel"]),
    ("encoder/rnn/lstm_cell/weights", lstm("decoder/rnn/lstm_cell"), []),
    ("net/rnn/lstm_cell/weights", CODERS, []),
    ("net/rnn/basic_lstm_cell/weights", lstm("model/rnn/lstm_cell"), []),
    ("rnn/lstm_cell/weights", USERS,
     ["anime_lstm/lstm_cell/kernel", "audio_lstm/lstm_cell/kernel"]),
    ("rnn/lstm_cell_1/weights", TWICE, ["rnn/lstm_cell_1/kernel"]),
    ("rnn/basic_lstm_cell/weights", TWICE, ["rnn/lstm_cell/kernel"]),
    ("rnn/lstm_cell_3/weights", TWICE, []),
    ("rnn_2/lstm_cell/weights", lstm("rnn_1/lstm_cell"), []),
    ("rnn/decoder_LSTM_1/weights", lstm("rnn/decoder_LSTM_1"), ["rnn/decoder_LSTM_1/kernel"]),
    ("rnn/decoder_LSTM_2/weights", lstm("rnn/decoder_LSTM_1"), []),
    ("Weights", lstm("rnn/lstm_cell"), []),
    ("rnn/basic_lstm_cell/weights", lstm("a/basic_lstm_cell") | lstm("b/lstm_cell"),
     ["a/basic_lstm_cell/kernel"]),
    ("RNN_1/MultiRNNCell/Cell0/LSTMCell/B",
     lstm("rnn/multi_rnn_cell/cell_0/lstm_cell") | lstm("rnn_1/multi_rnn_cell/cell_0/lstm_cell"),
     ["rnn_1/multi_rnn_cell/cell_0/lstm_cell/bias"]),
    ("bidirectional_rnn/fw/lstm_cell/kernel", lstm("lstm_cell"), []),
    ("embedding_wrapper/input_projection_wrapper/output_projection_wrapper/rnn/lstm_cell/kernel",
     USERS, ["anime_lstm/lstm_cell/kernel", "audio_lstm/lstm_cell/kernel"]),
    ("stack_bidirectional_rnn/cell_0/bw/multi_rnn_cell/cell_1/lstm_cell/biases", SCOPES_LEFT_OUT,
     ["a/cell_0/bw/cell_1/lstm_cell/bias", "b/cell_0/bw/cell_1/lstm_cell/bias"]),
    # slots and averages
    ("RNN/BasicLSTMCell/Linear/Matrix/Adam_1", BASIC[NEW] | MOMENTS,
     ["rnn/basic_lstm_cell/kernel/Adam_1"]),
    ("rnn/basic_lstm_cell/weights/Adam_1", BASIC[NEW] | SCOPED,
     ["train_op/rnn/basic_lstm_cell/kernel/Adam_1"]),
    ("train_op/rnn/basic_lstm_cell/weights/Adam_1", BASIC[NEW] | MOMENTS,
     ["rnn/basic_lstm_cell/kernel/Adam_1"]),
    ("rnn/lstm_cell/kernel/Momentum", SHARDS | {f"{w}/Momentum": SHARDS[w] for w in W},
     [tuple(f"{w}/Momentum" for w in W)]),
    ("rnn/basic_lstm_cell/weights/Adam", BASIC[NEW] | MOMENTS, []),
    ("rnn/basic_lstm_cell/weights", BASIC[NEW] | MOMENTS, ["rnn/basic_lstm_cell/kernel"]),
    ("rnn/basic_lstm_cell/biases/ExponentialMovingAverage", AVERAGES,
     ["rnn/basic_lstm_cell/bias/ExponentialMovingAverage"]),
    ("rnn/basic_lstm_cell/biases", AVERAGES, ["rnn/basic_lstm_cell/bias/ExponentialMovingAverage"]),
    ("rnn/basic_lstm_cell/weights/Adam_1",
     BASIC[NEW] | {f"a/{name}": shape for name, shape in (BASIC[NEW] | MOMENTS).items()}, []),
    ("dense/kernel/Adam", {"a/dense/kernel": (3, 4), "a/dense/kernel/Adam": (3, 4)},
     ["a/dense/kernel/Adam"]),
    # objects and Keras
    ("rnn/lstm_cell/projection/weights", OBJECT, [f"cell/projection.Skernel{VALUE}"]),
    (f"model/cell/projection/kernel/.OPTIMIZER_SLOT/adam/m{VALUE}", OBJECT | MOMENT,
     list(MOMENT)),
    (f"cell/kernel{VALUE}", BASIC[MIDDLE], ["rnn/basic_lstm_cell/weights"]),
    ("bidirectional/backward_lstm/lstm_cell/recurrent_kernel",
     {f"layer_with_weights-0/{way}_layer/cell/{leaf}{VALUE}": s
      for way in ("forward", "backward") for leaf, s in KERAS.items()},
     [f"layer_with_weights-0/backward_layer/cell/recurrent_kernel{VALUE}"]),
    ("lstm_1/kernel", below("lstm_1/lstm_cell", KERAS) | below("lstm/lstm_cell", KERAS),
     ["lstm_1/lstm_cell/kernel"]),
    ("rnn/lstm_cell/kernel", below("lstm/lstm_cell", KERAS), []),
    ("lstm/lstm_cell/recurrent_kernel", lstm("rnn/lstm_cell"), []),
    # names of other variables
    ("dense_1/kernel", LAYERS, ["model/Dense_1/kernel"]),
    ("train/model/dense_1/bias:0", LAYERS, ["model/Dense_1/bias"]),
    ("dense/kernel", LAYERS, []),
    ("other/dense_1/kernel", LAYERS, []),
    ("dense_1/weights", LAYERS, []),
    ("global_step", LAYERS, ["model/global_step"]),
    ("kernel", LAYERS, []),
    ("a/b/d/w", dict.fromkeys(("d/w", "b/d/w"), (3,)), ["b/d/w"]),
    ("D/kernel", dict.fromkeys(("d/kernel", "model/D/kernel"), (3,)), ["d/kernel"]),
    ("d/w", dict.fromkeys(("model/d/W", "model/d/w"), (3,)), ["model/d/w"]),
    ("rnn/gru_cell/gates/weights", dense("rnn/gru_cell/gates", 7, 8) | lstm("lstm_cell"), []),
    ("rnn/lstm_cell/projection/biases", FULL[NEW], []),
    ("rnn/basic_lstm_cell/w_f_diag", BASIC[NEW], []),
    ("", LAYERS | BASIC[NEW], []),
]  # fmt: skip


@pytest.mark.parametrize(("name", "here", "expected"), ONE_BY_ONE)
def test_names_and_their_matches(name: str, here: dict[str, Shape], expected: list[Any]) -> None:
    assert matches(name, here) == [(one,) if isinstance(one, str) else one for one in expected]


# ---- files that exist

FOLDERS = [path for root in (SAMPLES, SHARED / "real") for path in sorted(root.glob("*/"))]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
@pytest.mark.parametrize("era", ERAS)
def test_kernels_of_real_files_are_found_by_names_of_every_era(folder: Path, era: str) -> None:
    try:
        ckpt = open_checkpoint(folder)
    except LstmstateError:
        pytest.skip("the folder has several checkpoints and none is marked")
    if not any(cell.family in LEAVES for cell in ckpt.cells.values()):
        pytest.skip("the checkpoint has no cell of these families")
    for cell in ckpt.cells.values():
        if cell.family in LEAVES:
            name = f"{scope_in(era, cell.name)}/{LEAVES[cell.family][era]['kernel']}"
            found = find_counterparts(name, ckpt.variables, ckpt.cells.values())
            kernel = cell.variables["kernel"]
            # If it exists under that very name, it is only the requested shard.
            assert found == [Counterpart(kernel if name not in kernel else (name,), cell.era)]


# ---- stacks of any kind

OUTER = ["", "model/", "encoder/net/", "decoder/", "Model_1/", "net/lstm/"]


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_every_name_in_a_stack_finds_its_variable(data: Any) -> None:
    family = data.draw(st.sampled_from(sorted(LEAVES)))
    ours, theirs = data.draw(st.sampled_from(ERAS)), data.draw(st.sampled_from(ERAS))
    layers = data.draw(st.integers(1, 4))
    sides = data.draw(
        st.sampled_from([["rnn"], [f"bidirectional_rnn/{side}" for side in ("fw", "bw")]])
    )
    scopes = data.draw(st.lists(st.sampled_from(OUTER), min_size=1, max_size=3, unique=True))
    word = SNAKE[family]
    shapes = {"kernel": (7, 16), "bias": (16,)} | dict.fromkeys(SMALL, (4,))
    names: dict[str, str] = {}  # theirs → ours
    here: dict[str, Shape] = {}
    for place in (f"{outer}{side}" for outer in scopes for side in sides):
        for k in range(layers):
            scope = f"{place}/multi_rnn_cell/cell_{k}/{word}" if layers > 1 else f"{place}/{word}"
            for role in LEAVES[family][NEW].keys() & shapes.keys():
                name, other = (
                    f"{scope_in(era, scope)}/{LEAVES[family][era][role]}" for era in (ours, theirs)
                )
                names[other], here[name] = name, shapes[role]
    cells = recognised(here).cells
    assert len(cells) == layers * len(sides) * len(scopes)
    for name, expected in names.items():
        assert find_counterparts(name, here, cells) == [Counterpart((expected,), ours)]
