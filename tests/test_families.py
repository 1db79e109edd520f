"""Classes of cells in every era and library, recognised by the names and shapes of variables.

A row has the variables that a class makes, by their roles in the cell. Unless a row has other
values, a cell takes 3 inputs, has 4 units, and projects to 2.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import writers
from commands import Array, Shell, checkpoint, error, notes, numbers
from conftest import SHARED
from writers import Shape

from lstmstate import LSTMCell, open_checkpoint
from lstmstate.cells import Cell, Option, StateWidths
from lstmstate.cells.families import BY_OPERATION, FAMILIES
from lstmstate.cells.family import Family
from lstmstate.checkpoint.fused_ops import BLOCK_OPS
from lstmstate.engines.canonical_weights import FORMS
from lstmstate.engines.tensorflow_cells import CLASSES
from lstmstate.state.state import LSTMState

OLD, MIDDLE, NEW = "0.5-0.12", "1.0-1.1", "1.2+"
GATES = ("input", "forget", "cell", "output")

Leaves = dict[str, Shape]  # leaf → shape; several leaves are shards, in their order


@dataclass
class Row:
    """The variables of a cell, role → leaves, and the properties that they show."""

    family: str
    era: str | None
    scope: str
    roles: dict[str, Leaves]
    order: str = "ijfo"
    inputs: int | None = 3
    units: int | None = 4
    proj: int | None = None
    peepholes: bool | None = False
    layer_norm: bool = False
    shard_axis: int | None = None
    forget_bias: Option = field(default_factory=lambda: Option(1.0, "default"))
    state_is_tuple: bool | None = None
    alternatives: tuple[str, ...] = ()

    @property
    def shapes(self) -> dict[str, Shape]:
        leaves = {leaf: shape for some in self.roles.values() for leaf, shape in some.items()}
        return writers.below(self.scope, leaves)


def fused(kernel: str, bias: str | None, rows: int = 7, gates: int = 4) -> dict[str, Leaves]:
    biased = {"bias": {bias: (gates * 4,)}} if bias else {}
    return {"kernel": {kernel: (rows, gates * 4)}, **biased}


def shards(role: str, leaf: str, *shapes: Shape) -> dict[str, Leaves]:
    return {role: {leaf.format(k): shape for k, shape in enumerate(shapes)}}


def diagonals(pattern: str, gates: str) -> dict[str, Leaves]:
    return {f"w_{gate.lower()}_diag": {pattern.format(gate): (4,)} for gate in gates}


def norms(*gates: str) -> dict[str, Leaves]:
    parts = [f"{gate}/{part}" for gate in gates for part in ("gamma", "beta")]
    return {part: {part: (4,)} for part in parts}


def separate(kernel: Leaves, recurrent: Leaves, **others: Leaves) -> dict[str, Leaves]:
    return {"kernel": kernel, "recurrent_kernel": recurrent, **others}


STORED, ABSENT = Option(0.0, "family"), Option(None, "family")
ALL_NORMS = norms("input", "transform", "forget", "output", "state")
NEW_DIAGONALS, OLD_DIAGONALS = diagonals("w_{}_diag", "ifo"), diagonals("W_{}_diag", "IFO")
NEW_PROJECTION = {"projection": {"projection/kernel": (4, 2)}}


def core_cells() -> Iterator[Row]:
    for era, scope, kernel, bias_leaf in (
        (OLD, "RNN/BasicLSTMCell", "Linear/Matrix", "Linear/Bias"),
        (MIDDLE, "rnn/basic_lstm_cell", "weights", "biases"),
        (NEW, "rnn/basic_lstm_cell_1", "kernel", "bias"),
        (NEW, "SeqLstm/rnn/basic_lstm_cell", "kernel", "bias"),
    ):
        yield Row("BasicLSTMCell", era, scope, fused(kernel, bias_leaf))

    both = {"alternatives": ("LSTMBlockCell",)}
    full = {"proj": 2, "peepholes": True, **both}
    old, bias = "RNN/LSTMCell", {"bias": {"B": (16,)}}
    yield Row("LSTMCell", OLD, old, fused("W_0", "B"), **both)
    yield Row("LSTMCell", OLD, old, fused("W_0", "B") | OLD_DIAGONALS, peepholes=True, **both)
    by_columns = shards("kernel", "W_{}", (5, 6), (5, 6), (5, 4)) | bias | OLD_DIAGONALS
    projected = by_columns | shards("projection", "W_P_{}", (4, 1), (4, 1))
    yield Row("LSTMCell", OLD, old, projected, shard_axis=1, **full)
    by_rows = shards("kernel", "W_{}", (2, 16), (2, 16), (1, 16)) | bias | OLD_DIAGONALS
    projected = by_rows | shards("projection", "W_P_{}", (2, 2), (2, 2))
    yield Row("LSTMCell", OLD, old, projected, shard_axis=0, **full)
    twelve = shards("kernel", "W_{}", (2, 16), *[(1, 16)] * 11) | bias  # W_10 comes after W_9
    yield Row("LSTMCell", OLD, old, twelve, inputs=9, shard_axis=0, **both)
    projection = {"projection": {"projection/weights": (4, 2)}}
    middle = fused("weights", "biases", 5) | NEW_DIAGONALS | projection
    yield Row("LSTMCell", MIDDLE, "rnn/lstm_cell", middle, **full)
    yield Row("LSTMCell", MIDDLE, "rnn/lstm_cell", fused("weights", "biases"), **both)
    new = fused("kernel", "bias", 5) | NEW_DIAGONALS | NEW_PROJECTION
    yield Row("LSTMCell", NEW, "rnn/lstm_cell", new, **full)
    yield Row("LSTMCell", NEW, "rnn/lstm_cell_2", fused("kernel", "bias"), **both)
    yield Row("LSTMCell", NEW, "lstm_cell", fused("kernel", "bias"), **both)
    # LSTMCell(name="basic_lstm_cell") was the documented way to load files of the other class.
    yield Row("LSTMCell", NEW, "rnn/basic_lstm_cell", new, **full)


def block_cells() -> Iterator[Row]:
    pair = {"state_is_tuple": True}
    tiny = diagonals("wc{}", "ifo")
    # 0.10 and 0.11 made the peepholes even if they were not used.
    for scope in ("RNN/LSTMFusedCell", "RNN/LSTMBlockCell"):
        yield Row("LSTMBlockCell", OLD, scope, fused("W", "b") | tiny, peepholes=None, **pair)
    yield Row("LSTMBlockCell", OLD, "RNN/LSTMBlockCell", fused("W", "b"), **pair)

    old = fused("W_0", "B") | OLD_DIAGONALS
    yield Row("LSTMBlockFusedCell", OLD, "LSTMBlockFusedCell", old, peepholes=True, **pair)
    middle = fused("weights", "biases") | NEW_DIAGONALS
    yield Row("LSTMBlockFusedCell", MIDDLE, "lstm_block_wrapper", middle, peepholes=True, **pair)
    for scope in ("lstm_block_wrapper", "lstm_fused_cell", "lstm_fused_cell_1"):
        yield Row("LSTMBlockFusedCell", NEW, scope, fused("kernel", "bias"), **pair)


def contrib_cells() -> Iterator[Row]:
    name = "CoupledInputForgetGateLSTMCell"
    old, new = f"RNN/{name}", "rnn/coupled_input_forget_gate_lstm_cell"
    bias, two = {"bias": {"B": (12,)}}, diagonals("W_{}_diag", "FO")
    yield Row(name, OLD, old, fused("W_0", "B", gates=3), order="jfo")
    yield Row(name, None, new, fused("W_0", "B", gates=3) | two, order="jfo", peepholes=True)
    cut = shards("kernel", "W_{}", (3, 12), (2, 12)) | bias
    cut |= shards("projection", "W_P_{}", (2, 2), (2, 2))
    yield Row(name, None, new, cut, order="jfo", proj=2, shard_axis=0)
    normed = fused("W_0", "B", gates=3) | norms("transform", "forget", "output", "state")
    yield Row(name, None, new, normed, order="jfo", layer_norm=True)

    name, flat = "TimeFreqLSTMCell", {"state_is_tuple": False}
    yield Row(name, OLD, f"RNN/{name}", fused("W_0", "B", 11), **flat)
    cut = shards("kernel", "W_{}", (6, 16), (5, 16)) | {"bias": {"B": (16,)}} | OLD_DIAGONALS
    yield Row(name, None, "rnn/time_freq_lstm_cell", cut, peepholes=True, shard_axis=0, **flat)

    name, pair = "LayerNormBasicLSTMCell", {"state_is_tuple": True}
    new = "rnn/layer_norm_basic_lstm_cell"
    for era, scope, kernel, bias_leaf in (
        (OLD, f"RNN/{name}", "linear/weights", "linear/b"),
        (MIDDLE, new, "weights", "biases"),
        (NEW, new, "kernel", "bias"),
    ):
        yield Row(name, era, scope, fused(kernel, None) | ALL_NORMS, layer_norm=True, **pair)
        yield Row(name, era, scope, fused(kernel, bias_leaf), **pair)

    name, new = "LayerNormLSTMCell", "rnn/layer_norm_lstm_cell"
    yield Row(name, NEW, new, fused("kernel", "bias") | ALL_NORMS, layer_norm=True, **pair)
    full = fused("kernel", "bias", 5) | NEW_DIAGONALS | NEW_PROJECTION
    yield Row(name, NEW, new, full, proj=2, peepholes=True, **pair)

    name, doubled = "WeightNormLSTMCell", "rnn/wn_lstm_cell/wn_lstm_cell"
    gains = {"norm_0": {"norm_0": (16,)}, "norm_1": {"norm_1": (16,)}}
    yield Row(name, NEW, doubled, fused("kernel", "bias") | gains, **pair)
    yield Row(name, NEW, doubled, fused("kernel", "bias"), **pair)
    last = {"projection_norm_0": {"projection/norm_0": (2,)}}
    yield Row(name, NEW, doubled, full | gains | last, proj=2, peepholes=True, **pair)

    for scope, kernel, recurrent, era in (
        ("rnn/nas_rnn", "weights", "recurrent_weights", MIDDLE),
        ("rnn/nas_cell", "kernel", "recurrent_kernel", NEW),
        ("rnn/nas_cell_1", "kernel", "recurrent_kernel", NEW),
    ):
        blocks = {"order": "8 blocks", "forget_bias": ABSENT, **pair}
        plain = separate({kernel: (3, 32)}, {recurrent: (4, 32)})
        yield Row("NASCell", era, scope, plain, **blocks)
        narrow = separate({kernel: (3, 32)}, {recurrent: (2, 32)}, bias={"bias": (32,)})
        narrow |= {"projection": {"projection_weights": (4, 2)}}
        yield Row("NASCell", era, scope, narrow, proj=2, **blocks)

    indy = separate({"kernel_w": (3, 16)}, {"kernel_u": (1, 16)}, bias={"bias": (16,)})
    yield Row("IndyLSTMCell", NEW, "rnn/indy_lstm_cell", indy, **pair)

    for masked in ("masked_lstm_cell", "masked_basic_lstm_cell"):
        name = "MaskedLSTMCell" if "basic" not in masked else "MaskedBasicLSTMCell"
        roles = fused("kernel", "bias") | {
            "mask": {"mask": (7, 16)},
            "threshold": {"threshold": ()},
        }
        yield Row(name, NEW, f"rnn/{masked}", roles)


def cells_of_several_matrices() -> Iterator[Row]:
    pair = {"state_is_tuple": True}
    biases = {f"bias_{gate}": {f"bias_{gate}": (4,)} for gate in "ijfo"}
    for inputs, kernels in ((6, [(5, 8)] * 2), (3, [(7, 16)]), (None, [(4, 8)])):
        roles = shards("kernel", "group{}/kernel", *kernels) | biases
        yield Row("GLSTMCell", None, "rnn/glstm_cell", roles, inputs=inputs, **pair)
    projected = shards("kernel", "group{}/kernel", (4, 8), (4, 8)) | biases | NEW_PROJECTION
    yield Row("GLSTMCell", None, "rnn/glstm_cell", projected, inputs=6, proj=2, **pair)

    for era, kernel, bias in ((MIDDLE, "weights", "biases"), (NEW, "kernel", "bias")):
        for rows, peepholes in ((7, False), (11, True)):
            sizes = {"mask_gates": (rows, 8), "new_input": (7, 4), "output_gate": (rows, 4)}
            roles = {gate: {f"{gate}/{kernel}": shape} for gate, shape in sizes.items()}
            roles |= {f"{gate}_bias": {f"{gate}/{bias}": sizes[gate][1:]} for gate in sizes}
            roles |= {part: {part: (4,)} for part in ("period", "phase", "ratio_on")}
            phased = {"order": "if,j,o", "forget_bias": ABSENT, "peepholes": peepholes, **pair}
            yield Row("PhasedLSTMCell", era, "rnn/phased_lstm_cell", roles, **phased)

    for proj in (None, 2):
        leaves = {f"input_to_{gate}_w": (4, 3) for gate in GATES}
        leaves |= {f"cell_to_{gate}_w": (4, proj or 4) for gate in GATES}
        leaves |= {"input_bias": (4,), "forget_bias": (4,), "cell_bias": (4,), "output_bias": (4,)}
        roles = {leaf: {leaf: shape} for leaf, shape in leaves.items()}
        if proj:
            roles |= NEW_DIAGONALS | {"projection": {"projection/kernel": (2, 4)}}
        tflite = {"forget_bias": STORED, "proj": proj, "peepholes": bool(proj)}
        yield Row("TFLiteLSTMCell", None, "rnn/tf_lite_lstm_cell", roles, **tflite)

    for words in ("conv_lstm_cell", "conv_1d_lstm_cell", "conv_2d_lstm_cell", "conv_3d_lstm_cell"):
        for bias in ({"bias": {"biases": (16,)}}, {}):
            kernel = {"kernel": {"kernel": (3, 3, 7, 16)}}
            yield Row("ConvLSTMCell", NEW, f"rnn/{words}", kernel | bias, **pair)


def cudnn_cells() -> Iterator[Row]:
    zero = {"forget_bias": STORED, "state_is_tuple": True}
    name, last = "CudnnCompatibleLSTMCell", "cudnn_compatible_lstm_cell"
    for scope in (
        f"rnn/{last}",
        f"cudnn_lstm/rnn/multi_rnn_cell/cell_0/{last}",
        f"cudnn_lstm/stack_bidirectional_rnn/cell_1/bidirectional_rnn/bw/{last}",
    ):
        yield Row(name, NEW, scope, fused("kernel", "bias"), **zero)
    halves = {f"bias_cudnn_{k}": {f"bias_cudnn_{k}": (16,)} for k in (0, 1)}
    saved_by_1_3 = f"multi_rnn_cell/cell_0/{last}"
    yield Row(name, NEW, saved_by_1_3, fused("kernel", "bias") | halves, **zero)
    buffer = {"opaque_kernel": {"opaque_kernel": (144,)}}
    nothing = {"order": "ifjo", "inputs": None, "units": None, **zero}
    for scope in ("cudnn_lstm", "my_own_name"):
        yield Row("CudnnLSTM (opaque)", None, scope, buffer, **nothing)


def keras_cells() -> Iterator[Row]:
    keras = {"order": "ifjo", "forget_bias": STORED, "state_is_tuple": True}
    kernels = separate({"kernel": (3, 16)}, {"recurrent_kernel": (4, 16)})
    whole = kernels | {"bias": {"bias": (16,)}}
    for scope in (
        "lstm",
        "lstm_1",
        "lstm/lstm_cell",
        "lstm_1/lstm_cell_1",
        "rnn",
        "bidirectional/forward_lstm",
        "bidirectional/backward_lstm/lstm_cell",
        "bidirectional/lstm_1",
        "rnn/stacked_rnn_cells/lstm_cell_1",
    ):
        yield Row("Keras LSTM", None, scope, whole, **keras)
    yield Row("Keras LSTM", None, "lstm", kernels, **keras)  # use_bias=False
    for scope in ("cu_dnnlstm", "lstm"):
        yield Row("CuDNNLSTM", None, scope, kernels | {"bias": {"bias": (32,)}}, **keras)
    for scope in ("rnn", "rnn/peephole_lstm_cell"):
        gates = {"w_i_diag": "input", "w_f_diag": "forget", "w_o_diag": "output"}
        peepholes = {role: {f"{gate}_gate_peephole_weights": (4,)} for role, gate in gates.items()}
        yield Row("PeepholeLSTMCell", None, scope, whole | peepholes, peepholes=True, **keras)
    for scope in ("conv_lstm2d", "conv_lst_m2d", "conv_lst_m2d_1"):
        windows = separate({"kernel": (3, 3, 3, 16)}, {"recurrent_kernel": (3, 3, 4, 16)})
        yield Row("Keras ConvLSTM", None, scope, windows | {"bias": {"bias": (16,)}}, **keras)


def grid_cells() -> Iterator[Row]:
    for era, scope, block in ((OLD, "RNN/GridLSTMCell", ""), (None, "rnn/grid_lstm_cell", "_0")):
        kernel = {f"W_f{block}_0": (11, 16)}
        shared = {"kernel": kernel, "bias": {f"B_f{block}": (16,)}}
        yield Row("GridLSTMCell", era, scope, shared, inputs=None)
        apart = {"kernel_time": {f"W_t{block}_0": (11, 16)}, "bias_time": {f"B_t{block}": (16,)}}
        yield Row("GridLSTMCell", era, scope, shared | apart, inputs=None)
        cut = shards("kernel", f"W_f{block}_{{}}", (6, 16), (5, 16))
        yield Row("GridLSTMCell", era, scope, shared | cut, shard_axis=0, inputs=None)
    # Coupled gates: 3H columns, in the order i, j, o.
    coupled = {"kernel": {"W_f_0_0": (13, 15)}, "bias": {"B_f_0": (15,)}}
    yield Row(
        "GridLSTMCell", None, "rnn/grid_lstm_cell", coupled, order="ijo", inputs=None, units=5
    )
    for side in ("fwd", "bwd"):
        scope = f"rnn/bidirectional_grid_lstm_cell/{side}"
        yield Row("BidirectionalGridLSTMCell", None, scope, shared, inputs=None)


MATRICES = (core_cells, block_cells, contrib_cells, cells_of_several_matrices)
ROWS = [row for rows in (*MATRICES, cudnn_cells, keras_cells, grid_cells) for row in rows()]


@pytest.fixture(params=ROWS, ids=lambda row: f"{row.family} {row.scope} {'+'.join(row.roles)}")
def row(request: pytest.FixtureRequest) -> Row:
    return request.param  # type: ignore[no-any-return]


def cell_of(row: Row) -> Cell:
    found = writers.cells(row.shapes)
    assert set(found) == {row.scope}
    return found[row.scope]


def test_its_class_widths_and_equations(row: Row) -> None:
    cell = cell_of(row)
    assert (cell.family, cell.era) == (row.family, row.era)
    assert cell.alternatives == row.alternatives
    assert (cell.input_size, cell.num_units, cell.num_proj) == (row.inputs, row.units, row.proj)
    # The state of a convolution has spatial axes too, and a grid has a pair for each frequency.
    pair = row.units and not any(word in row.family for word in ("Conv", "GridLSTM"))
    assert cell.state == (StateWidths(row.units, row.proj or row.units) if pair else None)
    assert cell.gate_order == row.order
    assert (cell.peepholes, cell.layer_norm) == (row.peepholes, row.layer_norm)


def test_the_roles_of_its_variables(row: Row) -> None:
    names = {role: tuple(writers.below(row.scope, leaves)) for role, leaves in row.roles.items()}
    cell = cell_of(row)
    assert cell.variables == names
    assert cell.shard_axis == row.shard_axis
    assert cell.parameters == sum(variable.size for variable in writers.variables(row.shapes))
    assert cell.nbytes == 4 * cell.parameters


def test_properties_shared_by_all_cells_of_a_class(row: Row) -> None:
    cell = cell_of(row)
    assert cell.forget_bias == row.forget_bias
    pair = cell.options["state_is_tuple"]
    source = "unknown" if row.state_is_tuple is None else "family"
    assert (pair.value, pair.source) == (row.state_is_tuple, source)
    if row.family in ("BasicLSTMCell", "CudnnCompatibleLSTMCell", "Keras LSTM", "CuDNNLSTM"):
        assert cell.options["cell_clip"] == Option(None, "family")


def test_its_shapes_must_fit(row: Row) -> None:
    """Names alone do not make a cell: a kernel with other columns is something else."""
    wrong = {
        name: (*shape[:-1], *(size + 2 for size in shape[-1:]))
        for name, shape in row.shapes.items()
    }
    # cuDNN's buffer may be of any length.
    assert writers.cells(wrong) == {} or "opaque" in row.family


# ---- grids


KINDS = ("freqf", "freqt", "timef", "timet")
PEEPHOLES = {f"W_{gate}_diag_{kind}_0": (4,) for gate in "IFO" for kind in KINDS}


@pytest.mark.parametrize(
    ("leaves", "peepholes"),
    [
        (
            {"W_f_0_0": (11, 16), "B_f_0": (16,), "W_t_0_0": (11, 16), "B_t_0": (16,)} | PEEPHOLES,
            True,
        ),
        (  # of three blocks
            {f"W_f_{block}_0": (11, 16) for block in range(3)}
            | {f"B_f_{block}": (16,) for block in range(3)},
            False,
        ),
    ],
)
def test_a_grid_has_all_its_kernels_and_peepholes(leaves: Leaves, peepholes: bool) -> None:
    shapes = writers.below("rnn/grid_lstm_cell", leaves)
    found = writers.recognised(shapes)
    (cell,) = found.cells
    assert (cell.family, cell.num_units, cell.peepholes) == ("GridLSTMCell", 4, peepholes)
    assert set(found.roles) == set(shapes)


@pytest.mark.parametrize(
    ("scope", "leaves"),
    [
        ("recurrent/cell_{}/LSTMCell", ("W_0", "B")),
        ("recurrent/cell_{}/lstm_cell", ("weights", "biases")),
        ("recurrent/cell_{}/lstm_cell", ("kernel", "bias")),
        ("non_recurrent/cell_{}/lstm_cell", ("kernel", "bias")),
    ],
)
@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_each_dimension_of_a_grid_is_a_cell(
    dimensions: int, scope: str, leaves: tuple[str, str]
) -> None:
    """Its kernel has a row for each m of the grid; the input enters separately."""
    name, (kernel, bias) = f"Grid{dimensions}LSTMCell", leaves
    scopes = [f"rnn/{name}/{scope.format(number)}" for number in range(dimensions)]
    shapes = {f"rnn/{name}/project_m_0": (3, 4)}
    for inner in scopes:
        shapes |= writers.below(inner, {kernel: (4 * dimensions, 16), bias: (16,)})
    found = writers.cells(shapes)
    assert set(found) == set(scopes)
    for cell in found.values():
        assert (cell.family, cell.num_units, cell.layer) == (name, 4, None)


def test_the_dimensions_of_a_grid_may_share_one_cell() -> None:
    found = writers.cells(writers.lstm("Grid2LSTMCell/recurrent/lstm_cell", inputs=4))
    assert [(cell.family, cell.num_units) for cell in found.values()] == [("Grid2LSTMCell", 4)]


# ---- the table


def test_each_family_has_a_form_or_the_reason_why_it_has_none() -> None:
    unknown = Family("", (), {}).refusal
    for family in FAMILIES:
        assert (family.form in FORMS) == (family.refusal == unknown), family.name
        assert family.tensorflow is None or family.tensorflow in CLASSES, family.name
    assert {family.form for family in FAMILIES} == {*FORMS, None}
    assert {family.tensorflow for family in FAMILIES} == {*CLASSES, None}


def test_each_operation_of_graphs_is_one_family() -> None:
    assert set(BY_OPERATION) == set(BLOCK_OPS)
    for operation, block in BLOCK_OPS.items():
        family = BY_OPERATION[operation]
        assert family.is_block
        assert family.gate_order == block.gate_order


def test_rows_of_one_family_differ_in_names_and_options_alone() -> None:
    by_name: dict[str, Family] = {}
    own = ("words", "leaves", "widths", "required", "by_leaves", "options")
    for family in FAMILIES:
        same = family._replace(**{name: getattr(Family("", (), {}), name) for name in own})
        assert by_name.setdefault(family.name, same) == same


# ---- LSTMs of other libraries, recognised by the names of their variables without a graph
# Each is compared with its library's equations, restated here step by step in float64 with gates
# in the order of the library: dm-sonnet 1.36 and 2.0.2, stable-baselines 2.10.2, lingvo 0.6.6,
# returnn 1.20201223.


I, U, P, B, T = 3, 5, 2, 2, 6  # noqa: E741 - inputs, units, projection, batch, steps
Values = Mapping[str, Array]
Step = Callable[[Values, Array, Array, Array], tuple[Array, Array]]


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


# ---- a step of each library: variables, x, c and m to the new c and m


def sonnet_1(v: Values, x: Array, c: Array, m: Array) -> tuple[Array, Array]:
    """gated_rnn.py, LSTM._build, with the forget_bias 1 of its default."""
    i, j, f, o = np.split(np.concatenate([x, m], 1) @ v["w_gates"] + v["b_gates"], 4, 1)
    c = sigmoid(f + 1) * c + sigmoid(i) * np.tanh(j)
    m = np.tanh(c) * sigmoid(o)
    return c, m @ v["w_h_projection"] if "w_h_projection" in v else m


def sonnet_2(v: Values, x: Array, c: Array, m: Array) -> tuple[Array, Array]:
    """recurrent.py, _lstm_fn."""
    i, f, g, o = np.split(x @ v["_w_i"] + m @ v["_w_h"] + v["b"], 4, 1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    m = sigmoid(o) * np.tanh(c)
    return c, m @ v["projection"] if "projection" in v else m


def baselines(v: Values, x: Array, c: Array, m: Array) -> tuple[Array, Array]:
    """tf_layers.py, lstm, where all masks are 1."""
    i, f, o, u = np.split(x @ v["wx"] + m @ v["wh"] + v["b"], 4, 1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(u)
    return c, sigmoid(o) * np.tanh(c)


def lingvo(v: Values, x: Array, c: Array, m: Array) -> tuple[Array, Array]:
    """rnn_cell.py, LSTMCellSimple, with the cell_value_cap 10 of its default."""
    kernel = v["wm/var"] * v.get("mask/var", 1)
    z = np.concatenate([x, m], 1) @ kernel + v["b/var"]
    if z.shape[1] == 4 * c.shape[1]:
        j, i, f, o = np.split(z, 4, 1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(j)
    else:  # coupled
        j, f, o = np.split(z, 3, 1)
        c = sigmoid(f) * c + np.tanh(j) - np.tanh(j) * sigmoid(f)
    c = np.clip(c, -10, 10)
    m = sigmoid(o) * np.tanh(c)
    return c, m @ v["w_proj/var"] if "w_proj/var" in v else m


def returnn(v: Values, x: Array, c: Array, m: Array) -> tuple[Array, Array]:
    """rec.py, _get_output_native_rec_op, and NativeLstm2."""
    j, i, f, o = np.split(x @ v["W"] + m @ v["W_re"] + v["b"], 4, 1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(j)
    return c, sigmoid(o) * np.tanh(c)


class Case(NamedTuple):
    """A cell: its family, its step, and the shapes of its variables below a scope."""

    family: str
    step: Step
    scope: str
    shapes: dict[str, Shape]
    width: int = U
    given: dict[str, Any] = {}  # noqa: RUF012 - what has to be accepted


def apart(kernel: str, recurrent: str, bias: str, width: int = U) -> dict[str, Shape]:
    return {kernel: (I, 4 * U), recurrent: (width, 4 * U), bias: (4 * U,)}


def joined(kernel: str, bias: str, width: int = U, gates: int = 4) -> dict[str, Shape]:
    return {kernel: (I + width, gates * U), bias: (gates * U,)}


ACCEPTED = {"assume_defaults": True}
SONNET_1, SONNET_2 = joined("w_gates", "b_gates"), apart("_w_i", "_w_h", "b")
LINGVO = joined("wm/var", "b/var")
COUPLED = {"wm/var": (I + U, 3 * U), "b/var": (3 * U,)}
SIMPLE = ("lingvo LSTMCellSimple", lingvo)
CASES = {
    "sonnet 1": Case("Sonnet 1 LSTM", sonnet_1, "net/lstm", SONNET_1),
    "sonnet 1 named": Case("Sonnet 1 LSTM", sonnet_1, "my_core", SONNET_1),
    "sonnet 1 projected": Case(
        "Sonnet 1 LSTM",
        sonnet_1,
        "lstm",
        joined("w_gates", "b_gates", P) | {"w_h_projection": (U, P)},
        P,
    ),
    "sonnet 2": Case("Sonnet 2 LSTM", sonnet_2, "core", SONNET_2),
    "sonnet 2 in a stack": Case("Sonnet 2 LSTM", sonnet_2, "net/_layers/0", SONNET_2),
    "sonnet 2 projected": Case(
        "Sonnet 2 LSTM",
        sonnet_2,
        "core",
        apart("_w_i", "_w_h", "b", P) | {"projection": (U, P)},
        P,
    ),
    "baselines": Case(
        "baselines LSTM", baselines, "model/lstm1", apart("wx", "wh", "b"), given=ACCEPTED
    ),
    "lingvo": Case(*SIMPLE, "enc/rnn", LINGVO, given=ACCEPTED),
    "lingvo pruned": Case(
        *SIMPLE, "enc/rnn", LINGVO | {"mask/var": LINGVO["wm/var"]}, given=ACCEPTED
    ),
    "lingvo coupled": Case(*SIMPLE, "enc/rnn", COUPLED, given=ACCEPTED),
    "lingvo projected": Case(
        *SIMPLE,
        "enc/rnn",
        joined("wm/var", "b/var", P) | {"w_proj/var": (U, P)},
        P,
        ACCEPTED,
    ),
    "returnn": Case("RETURNN NativeLstm2", returnn, "lstm0/rec", apart("W", "W_re", "b")),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def values_of(case: Case) -> dict[str, Array]:
    """Return the variables by leaf: large enough that c goes beyond a cap of 10."""
    found = {
        leaf: numbers(*shape, seed=seed) for seed, (leaf, shape) in enumerate(case.shapes.items())
    }
    return found | ({"mask/var": (found["mask/var"] > 0) * 1.0} if "mask/var" in found else {})


def saved(folder: Path, case: Case) -> str:
    """Write the variables, those of Sonnet 2 as objects, and return the checkpoint."""
    end = "/.ATTRIBUTES/VARIABLE_VALUE" if "_w_i" in case.shapes else ""
    values = values_of(case)
    named = {f"{case.scope}/{leaf}{end}": v.astype("f4") for leaf, v in values.items()}
    return checkpoint(folder / "x.ckpt", named)


def start(case: Case) -> tuple[Array, Array, Array]:
    """Return x `[batch, time, inputs]`, and c and m."""
    return (
        numbers(B, T, I, seed=20),
        40 * numbers(B, U, seed=21),
        numbers(B, case.width, seed=22),
    )


def expected(case: Case) -> tuple[Array, Array, Array]:
    """Return the outputs, and the last c and m, as the library computes them."""
    values = {leaf: v.astype("f4").astype("f8") for leaf, v in values_of(case).items()}
    x, c, m = (array.astype("f8") for array in start(case))
    outputs = []
    for row in x.swapaxes(0, 1):
        c, m = case.step(values, row, c, m)
        outputs.append(m)
    return np.stack(outputs, 1), c, m


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_it_computes_the_values_of_its_library(case: Case, tmp_path: Path) -> None:
    x, c, m = start(case)
    network = open_checkpoint(saved(tmp_path, case)).network()
    outputs, state = network.run(x, LSTMState(c, m), **case.given)
    for ours, theirs in zip((outputs, *state), expected(case), strict=True):
        assert np.abs(ours - theirs).max() <= 3e-6


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_no_other_order_of_gates_fits(case: Case, tmp_path: Path) -> None:
    x, c, m = start(case)
    (cell,) = open_checkpoint(saved(tmp_path, case)).cells.values()
    fitting = []
    for letters in permutations(cell.gate_order):
        other = LSTMCell(cell.info._replace(gate_order="".join(letters)), cell._origin)
        outputs, _ = other.run(x, LSTMState(c, m), **case.given)
        far = np.abs(outputs - expected(case)[0]).max()
        assert far <= 3e-6 or far > 1e-2
        fitting += [other.gate_order] if far <= 3e-6 else []
    assert fitting == [cell.gate_order]


def test_it_is_recognised_by_its_names(case: Case, tmp_path: Path) -> None:
    (cell,) = open_checkpoint(saved(tmp_path, case)).cells.values()
    assert (cell.name, cell.family, cell.era) == (case.scope, case.family, None)
    assert (cell.input_size, cell.num_units) == (I, U)
    assert cell.num_proj == (case.width if case.width != U else None)
    assert ("family" in cell.documented) == bool(case.given)


OPTIONS = {
    "sonnet 1": {"forget_bias": (1.0, "default"), "cell_clip": (None, "default")},
    "sonnet 2": {"forget_bias": (0.0, "family"), "cell_clip": (None, "family")},
    "baselines": {"forget_bias": (0.0, "family"), "cell_clip": (None, "family")},
    "lingvo": {"forget_bias": (0.0, "default"), "cell_clip": (10.0, "default")},
    "returnn": {"forget_bias": (0.0, "family"), "cell_clip": (None, "family")},
}
LAYOUTS = {"sonnet 1": "keras", "sonnet 2": "keras", "baselines": "flat"}


@pytest.mark.parametrize("name", OPTIONS)
def test_its_options_are_the_defaults_of_its_library(name: str) -> None:
    case = CASES[name]
    (cell,) = writers.cells(writers.below(case.scope, case.shapes)).values()
    for option, expected in OPTIONS[name].items():
        assert cell.options[option] == Option(*expected)
    assert cell.options["recurrent_activation"] == Option("sigmoid", "family")
    assert cell.native_layout == LAYOUTS.get(name, "tuple")


def test_stacks_of_sonnet_2_have_their_layers(tmp_path: Path) -> None:
    shapes = {
        f"net/_layers/{at}/{leaf}": shape
        for at, inputs in enumerate((I, U))
        for leaf, shape in (SONNET_2 | {"_w_i": (inputs, 4 * U)}).items()
    }
    assert [cell.input_size for cell in writers.cells(shapes).values()] == [I, U]


# ---- cells that are not run


NORM = {"layer_norm/gamma": (4 * U,), "layer_norm/beta": (4 * U,)}
NORMS = dict.fromkeys(("gx", "bx", "gh", "bh"), (4 * U,)) | {"gc": (U,), "bc": (U,)}
DIAGONALS = {f"w_{gate}_diag": (U,) for gate in "ifo"}
BATCH_NORM = {"w_gates_X": (I, 4 * U), "w_gates_H": (U, 4 * U), "b_gates": (4 * U,)}
REFUSED: list[tuple[str, dict[str, Shape], str]] = [
    ("lstm", SONNET_1 | DIAGONALS, "a Sonnet 1 LSTM (peepholes) is not run: its output gate"),
    ("lstm", SONNET_1 | NORM, "a Sonnet 1 LSTM (layer norm) is not run: its layer norm"),
    ("lstm", BATCH_NORM | {"gamma_h": (4 * U,)}, "a Sonnet 1 BatchNormLSTM is not run"),
    ("lstm1", apart("wx", "wh", "b") | NORMS, "a baselines lnlstm is not run: its layer norms"),
    ("rnn", LINGVO | {"b/var": (8 * U,)}, "a lingvo LayerNormalizedLSTMCell is not run"),
]


@pytest.mark.parametrize(("scope", "shapes", "problem"), REFUSED)
def test_cells_with_other_equations_are_recognised_and_refused(
    scope: str, shapes: dict[str, Shape], problem: str, shell: Shell, tmp_path: Path
) -> None:
    values = {name: numbers(*shape) for name, shape in writers.below(scope, shapes).items()}
    path = checkpoint(tmp_path / "x.ckpt", values)
    np.save(tmp_path / "x.npy", numbers(T, I))
    for flags in ([], ["--assume-defaults"], ["--no-peepholes"]):
        done = shell("run", path, tmp_path / "x.npy", *flags, code=3)
        assert f"{scope}: {problem}" in error(done)


def test_sonnet_has_no_cell_clip(shell: Shell, tmp_path: Path) -> None:
    path = saved(tmp_path, CASES["sonnet 1"])
    np.save(tmp_path / "x.npy", numbers(T, I))
    done = shell("run", path, tmp_path / "x.npy", "--cell-clip", "3", code=3)
    assert "it clips the old c, and not the new one" in error(done)
    assert shell("run", path, tmp_path / "x.npy", "--cell-clip", "none").code == 0


@pytest.mark.parametrize("name", ["baselines", "lingvo"])
def test_ambiguous_names_are_run_if_defaults_are_accepted(
    name: str, shell: Shell, tmp_path: Path
) -> None:
    case = CASES[name]
    path = saved(tmp_path, case)
    np.save(tmp_path / "x.npy", numbers(T, I))
    words = "the files do not record its family"
    done = shell("run", path, tmp_path / "x.npy", code=3)
    assert done.out == ""
    assert error(done).startswith(f"{path}: {case.scope}: {words} (")
    assert error(done).endswith("; give --assume-defaults")
    done = shell("run", path, tmp_path / "x.npy", "--assume-defaults", code=0)
    assert any(note.startswith(f"{case.scope}: {words}, and ") for note in notes(done))
    done = shell("inspect", path)
    assert f"{case.family}*" in done.out
    assert f"family of 1: {case.family}*" in done.out
    (cell,) = json.loads(shell("inspect", "--json", path).out)["cells"]
    assert list(cell["documented"]) == ["family"]
    assert shell("check", "-q", path, "--family", case.family).code == 1
    assert shell("check", "-q", path, "--family", case.family, "--assume-defaults").code == 0


def test_library_defaults_are_distinguished_from_tensorflows(shell: Shell, tmp_path: Path) -> None:
    path = saved(tmp_path, CASES["sonnet 1"])
    done = shell("check", "-q", path, "--forget-bias", "1", code=1)
    assert "unknown: Sonnet's default would be 1" in done.out
    done = shell("check", "-q", saved(tmp_path, CASES["lingvo"]), "--forget-bias", "0", code=1)
    assert "unknown: lingvo's default would be 0" in done.out
    path = saved(tmp_path, CASES["sonnet 2"])
    assert shell("check", "-q", path, "--forget-bias", "0").code == 0


# ---- similar cells


SIMILAR: list[dict[str, Shape]] = [
    {"gru/_w_i": (I, 3 * U), "gru/_w_h": (U, 3 * U), "gru/b": (3 * U,)},  # Sonnet 2's GRU
    {"rnn/wm/var": (U, 4 * U), "rnn/b/var": (4 * U,)},  # lingvo's SRUCell
    {"rnn/wm/var": (I + U, 4 * U)},  # lingvo's QuantizedLSTMCell
    {f"rnn/{leaf}": s for leaf, s in (LINGVO | {"ln_scale/var": (4 * U,)}).items()},
    {f"mlstm/{leaf}": s for leaf, s in (apart("wx", "wh", "b") | {"wmx": (I, U)}).items()},
    writers.below("pi", apart("wx", "wh", "b")),  # no scope of baselines
    writers.below("pi", apart("W", "W_re", "b")),  # nor of RETURNN
    {"rec/W": (I, 5 * U), "rec/W_re": (U, 5 * U), "rec/b": (5 * U,)},
]


@pytest.mark.parametrize("shapes", SIMILAR)
def test_other_cells_are_not_mistaken_for_them(shapes: dict[str, Shape]) -> None:
    assert writers.cells(shapes) == {}


@pytest.mark.parametrize(
    ("leaf", "shape", "is_odd"),
    [
        ("gain", (U,), True),
        ("gains", (4 * U,), True),
        ("other", (4 * U + 1,), False),
        ("bias/Adam", (4 * U,), False),
    ],
)
def test_an_unused_gate_vector_without_a_graph_is_noted(
    leaf: str, shape: Shape, is_odd: bool
) -> None:
    shapes = writers.lstm("rnn/my_lstm", I, U) | {f"rnn/my_lstm/{leaf}": shape}
    (cell,) = writers.cells(shapes).values()
    assert [note.endswith(f": {leaf}") for note in cell.notes] == [True] * is_odd


def test_lingvo_kernels_of_three_or_four_gates_have_unknown_widths(tmp_path: Path) -> None:
    """[20, 48] is 12 units with 8 inputs, or 16 units with 4."""
    shapes = {"rnn/wm/var": (20, 48), "rnn/b/var": (48,)}
    (cell,) = writers.cells(shapes).values()
    assert (cell.family, cell.num_units, cell.input_size) == (SIMPLE[0], None, None)
    path = checkpoint(tmp_path / "x.ckpt", {name: numbers(*s) for name, s in shapes.items()})
    with pytest.raises(Exception, match="its widths are unknown"):
        open_checkpoint(path).network().run(numbers(T, 8), assume_defaults=True)


# ---- files saved by the libraries


@pytest.mark.skipif(not (SHARED / "ecosystem").is_dir(), reason="the cases are not available")
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("folder", "given"),
    [
        ("sonnet1-lstm-nometa", {}),
        ("sonnet2-lstm", {}),
        ("lingvo-simple-nometa", ACCEPTED),
        ("sb-mlplstm", ACCEPTED),
        ("returnn-nativelstm2", {}),
    ],
)
def test_a_file_saved_by_a_library(folder: str, given: dict[str, Any], tmp_path: Path) -> None:
    source = SHARED / "ecosystem" / folder
    for path in source.glob("*.*"):
        if path.suffix != ".meta":
            shutil.copy(path, tmp_path)
    (index,) = tmp_path.glob("*.index")
    network = open_checkpoint(index).network()
    state = None
    if (tmp_path / "state.npz").exists():
        with np.load(tmp_path / "state.npz") as found:
            state = LSTMState(found["c"], found["m"])
    elif (tmp_path / "state.npy").exists():
        state = LSTMState(*np.split(np.load(tmp_path / "state.npy"), 2, axis=1))  # c first
    outputs, last = network.run(np.load(tmp_path / "x.npy"), state, **given)
    ours = {"outputs": outputs, "c": last.c, "m": last.m}  # type: ignore[union-attr]
    with np.load(tmp_path / "expected.npz") as theirs:
        assert "outputs" in theirs.files
        for name in set(theirs.files) & set(ours):
            assert np.abs(ours[name] - theirs[name]).max() <= 3e-6
