"""Classes of cells in every era, recognised by the names and shapes of their variables alone.

A row has the variables that a class makes, by their roles in the cell. Unless a row has other
values, a cell takes 3 inputs, has 4 units, and projects to 2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import writers
from writers import Shape

from lstmstate.cells import Cell, Option, StateWidths
from lstmstate.cells.families import BY_OPERATION, FAMILIES
from lstmstate.cells.family import Family
from lstmstate.cells.from_graph.fused_ops import BLOCKS
from lstmstate.engines.tensorflow_cells import CLASSES
from lstmstate.engines.weights import FORMS

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
    assert set(BY_OPERATION) == set(BLOCKS)
    for operation, block in BLOCKS.items():
        family = BY_OPERATION[operation]
        assert family.is_block
        assert family.gate_order == block.gate_order


def test_rows_of_one_family_differ_in_names_and_options_alone() -> None:
    by_name: dict[str, Family] = {}
    own = ("words", "leaves", "widths", "required", "by_leaves", "options")
    for family in FAMILIES:
        same = family._replace(**{name: getattr(Family("", (), {}), name) for name in own})
        assert by_name.setdefault(family.name, same) == same
