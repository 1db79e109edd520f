"""The table of LSTM families: one row for each class of cells.

A row is found by the last word of a scope, by leaves that no other class has, or both; its
shapes then have to fit. A new family is a new row. Sources: the cell classes of TensorFlow
0.5.0 to 1.15.0 (python/ops/rnn_cell*.py, contrib/rnn, contrib/cudnn_rnn, contrib/grid_rnn,
contrib/model_pruning, lite/experimental, keras/layers).
"""

from __future__ import annotations

from lstmstate.cells import shapes
from lstmstate.cells.cell import Documented
from lstmstate.cells.family import DIAGONALS, PAIR, STORED, Family, Leaves, always
from lstmstate.cells.library_families import LIBRARIES

OLD, MIDDLE, NEW = "0.5-0.12", "1.0-1.1", "1.2+"

_OLD_DIAGONALS = {"w_i_diag": "W_I_diag", "w_f_diag": "W_F_diag", "w_o_diag": "W_O_diag"}
_KERNEL: Leaves = {"kernel": "kernel", "bias": "bias"}
_NORMS: Leaves = {
    f"{gate}/{part}": f"{gate}/{part}"
    for gate in ("input", "transform", "forget", "output", "state")
    for part in ("gamma", "beta")
}
_SHARDED: Leaves = {"kernel": "W_{k}", "bias": "B", "projection": "W_P_{k}", **_OLD_DIAGONALS}

NEW_CORE: Leaves = {**_KERNEL, **DIAGONALS, "projection": "projection/kernel"}
MIDDLE_CORE: Leaves = {
    "kernel": "weights",
    "bias": "biases",
    "projection": "projection/weights",
    **DIAGONALS,
}
_OLD_BLOCK: Leaves = {
    "kernel": "W",
    "bias": "b",
    "w_i_diag": "wci",
    "w_f_diag": "wcf",
    "w_o_diag": "wco",
}
_LINEAR: Leaves = {"kernel": "Linear/Matrix", "bias": "Linear/Bias"}
_CORE: dict[str | None, Leaves] = {NEW: NEW_CORE, MIDDLE: MIDDLE_CORE, OLD: _SHARDED}
_KERAS: Leaves = {**_KERNEL, "recurrent_kernel": "recurrent_kernel"}


# No peepholes, clips or projection in any version.
_PLAIN = always(cell_clip=None, proj_clip=None)
_BLOCK = {**PAIR, **always(activation="tanh", proj_clip=None)}
_NO_FORGET_BIAS = always(forget_bias=None)
_KERAS_OPTIONS = {**STORED, **_PLAIN, **PAIR}
# Names and shapes do not show the release.
_SQUASHES = (
    "hard_sigmoid in Keras up to 2.2 and tf.keras of TensorFlow 1.x, sigmoid in Keras 2.3 and "
    "tf.keras of TensorFlow 2"
)
_HARD = {"recurrent_activation": Documented("hard_sigmoid", _SQUASHES)}
_SOFT = {"recurrent_activation": Documented("sigmoid", _SQUASHES)}
_CONVOLUTIONS = "hard_sigmoid in Keras 2, sigmoid in Keras 3"
_EXPERIMENTAL = "hard_sigmoid in tf.keras.experimental, sigmoid in TensorFlow Addons"
_CUDNN = {**STORED, **_PLAIN, **PAIR, **always(activation="tanh")}

_CONVOLUTIONAL = "its kernels are convolutions"
_BY_FREQUENCY = "it runs over frequencies within each step"
_WEIGHT_NORM = Family(
    "WeightNormLSTMCell",
    ("wn_lstm_cell",),
    {NEW: NEW_CORE},
    options=PAIR,
    form="weight_norm",
    step_operations={"weight": frozenset({"Mul", "Square", "Sum", "Maximum", "Rsqrt"})},
)
_MASKED = Family(
    "MaskedLSTMCell",
    ("masked_lstm_cell",),
    {NEW: {**NEW_CORE, "mask": "mask", "threshold": "threshold"}},
    shapes.masked,
    required=("kernel", "bias", "mask"),
    form="masked",
    step_operations={"weight": frozenset({"Mul"})},
)
_BLOCK_CELL = Family(
    "LSTMBlockCell",
    ("lstm_block_cell",),
    {NEW: NEW_CORE, MIDDLE: MIDDLE_CORE},
    options=_BLOCK,
    is_interchangeable=True,
    form="fused",
    is_block=True,
    operations=("LSTMBlockCell", "LSTMFusedCell"),
    tensorflow="LSTMBlockCell",
)
# The cell of a convolution, and of coupled gates, in the graph under any scope.
CONVOLUTION = Family(
    "ConvLSTMCell",
    ("conv_lstm_cell", "conv_1d_lstm_cell", "conv_2d_lstm_cell", "conv_3d_lstm_cell"),
    {NEW: {"kernel": "kernel", "bias": "biases"}},
    shapes.convolution,
    required=("kernel",),
    has_pair=False,
    options={**_PLAIN, **PAIR},
    refusal=_CONVOLUTIONAL,
)
COUPLED = Family(
    "CoupledInputForgetGateLSTMCell",
    ("coupled_input_forget_gate_lstm_cell",),
    {None: {**_SHARDED, **_NORMS}},
    shapes.coupled,
    gate_order="jfo",
    options=always(cell_clip=None),
    form="fused",
)
BASIC = Family(
    "BasicLSTMCell",
    ("basic_lstm_cell",),
    {NEW: NEW_CORE, MIDDLE: MIDDLE_CORE, OLD: _LINEAR},
    forbidden=(*shapes.PEEPHOLES, "projection"),
    options=_PLAIN,
    is_interchangeable=True,
    form="fused",
    tensorflow="BasicLSTMCell",
)
# A scope of any other name is read as the plainest class, in the leaves of its era.
PLAIN = Family(
    "LSTMCell",
    # LSTMCell(name="basic_lstm_cell") was the documented way to load files of BasicLSTMCell.
    ("lstm_cell", "basic_lstm_cell"),
    _CORE,
    shares_names_with=(_BLOCK_CELL.name,),
    is_interchangeable=True,
    form="fused",
    tensorflow="LSTMCell",
)
# A cell that a user wrote: only the graph shows it, with its order of gates.
USER = Family("LSTM", (), {}, form="by_graph")

# Rows that need more evidence come before rows that need less.
FAMILIES: tuple[Family, ...] = (
    *LIBRARIES,
    Family(
        "TFLiteLSTMCell",
        ("tf_lite_lstm_cell",),
        {
            None: {
                **{
                    f"{side}_to_{gate}_w": f"{side}_to_{gate}_w"
                    for side in ("input", "cell")
                    for gate in ("input", "forget", "cell", "output")
                },
                **{
                    f"{gate}_bias": f"{gate}_bias" for gate in ("input", "forget", "cell", "output")
                },
                **DIAGONALS,
                "projection": "projection/kernel",
            }
        },
        shapes.tflite,
        required=("input_to_cell_w", "cell_to_cell_w", "cell_bias"),
        by_leaves=True,
        options=STORED,
        form="tflite",
        step_operations={"weight": frozenset({"Transpose"})},
    ),
    Family(
        "GLSTMCell",
        ("glstm_cell",),
        {
            None: {
                "kernel": "group{k}/kernel",
                **{f"bias_{gate}": f"bias_{gate}" for gate in "ijfo"},
                "projection": "projection/kernel",
            }
        },
        shapes.grouped,
        required=("kernel", "bias_i", "bias_j", "bias_f", "bias_o"),
        by_leaves=True,
        options={**always(cell_clip=None, proj_clip=None), **PAIR},
        form="grouped",
        step_operations={"x": frozenset({"Slice"}), "gate": frozenset({"Tanh"})},
    ),
    Family(
        "PhasedLSTMCell",
        ("phased_lstm_cell",),
        {
            era: {
                **{
                    role: f"{gate}/{leaf}"
                    for gate in ("mask_gates", "new_input", "output_gate")
                    for role, leaf in ((gate, kernel), (f"{gate}_bias", bias))
                },
                **{part: part for part in ("period", "phase", "ratio_on")},
            }
            for era, kernel, bias in ((NEW, "kernel", "bias"), (MIDDLE, "weights", "biases"))
        },
        shapes.phased,
        required=("mask_gates", "new_input", "output_gate", "period", "phase"),
        gate_order="if,j,o",
        by_leaves=True,
        options={**_NO_FORGET_BIAS, **_PLAIN, **PAIR},
        refusal="it takes the time of each step next to the input, and leaks",
    ),
    Family(
        "IndyLSTMCell",
        ("indy_lstm_cell",),
        {NEW: {"kernel": "kernel_w", "recurrent_kernel": "kernel_u", "bias": "bias"}},
        shapes.indy,
        required=("kernel", "recurrent_kernel", "bias"),
        by_leaves=True,
        options={**_PLAIN, **PAIR},
        form="indy",
        step_operations={"input": frozenset({"Tile"})},
    ),
    Family(
        "NASCell",
        ("nas_cell", "nas_rnn"),
        {
            NEW: {
                **_KERAS,
                "projection": "projection_weights",
            },
            MIDDLE: {
                "kernel": "weights",
                "recurrent_kernel": "recurrent_weights",
                "bias": "bias",
                "projection": "projection_weights",
            },
        },
        shapes.nas,
        required=("kernel", "recurrent_kernel"),
        gate_order="8 blocks",
        options={**_NO_FORGET_BIAS, **_PLAIN, **PAIR, **always(recurrent_activation=None)},
        refusal="its eight blocks are not the gates of an LSTM",
    ),
    Family(
        "PeepholeLSTMCell",
        ("peephole_lstm_cell",),
        {
            None: {
                **_KERAS,
                "w_i_diag": "input_gate_peephole_weights",
                "w_f_diag": "forget_gate_peephole_weights",
                "w_o_diag": "output_gate_peephole_weights",
            }
        },
        shapes.keras,
        required=("kernel", "recurrent_kernel", "w_i_diag", "w_f_diag", "w_o_diag"),
        gate_order="ifjo",
        by_leaves=True,
        h_first=True,
        options=_KERAS_OPTIONS,
        documented={"recurrent_activation": Documented("hard_sigmoid", _EXPERIMENTAL)},
        form="two_kernels",
    ),
    Family(
        "Keras ConvLSTM",
        ("conv_lstm1d", "conv_lstm2d", "conv_lstm3d", "conv_lst_m2d"),
        {None: _KERAS},
        shapes.keras_convolution,
        required=("kernel", "recurrent_kernel"),
        gate_order="ifjo",
        by_leaves=True,
        has_pair=False,
        h_first=True,
        options=_KERAS_OPTIONS,
        documented={"recurrent_activation": Documented("hard_sigmoid", _CONVOLUTIONS)},
        refusal=_CONVOLUTIONAL,
    ),
    # Known by its bias of 8H; kernels are in cuDNN's layout, its functions are cuDNN's own.
    Family(
        "CuDNNLSTM",
        ("cu_dnnlstm",),
        {None: _KERAS},
        shapes.keras_cudnn,
        required=("kernel", "recurrent_kernel", "bias"),
        gate_order="ifjo",
        by_leaves=True,
        h_first=True,
        options=_CUDNN,
        is_layer=True,
        form="cudnn",
        tensorflow="Keras LSTM",  # which runs on a CPU, too
    ),
    Family(
        "Keras LSTM",
        ("lstm", "lstm_cell"),
        {None: _KERAS},
        shapes.keras,
        required=("kernel", "recurrent_kernel"),
        gate_order="ifjo",
        by_leaves=True,
        h_first=True,
        options=_KERAS_OPTIONS,
        documented=_HARD,
        since_2=_SOFT,
        is_layer=True,
        form="two_kernels",
        tensorflow="Keras LSTM",
    ),
    CONVOLUTION,
    _WEIGHT_NORM._replace(
        leaves={
            NEW: {
                **NEW_CORE,
                "norm_0": "norm_0",
                "norm_1": "norm_1",
                "projection_norm_0": "projection/norm_0",
            }
        },
        widths=shapes.weight_norm,
        required=("kernel", "bias", "norm_0", "norm_1"),
        by_leaves=True,
    ),
    _WEIGHT_NORM,
    _MASKED,
    _MASKED._replace(
        name="MaskedBasicLSTMCell",
        words=("masked_basic_lstm_cell",),
        leaves={NEW: {**_KERNEL, "mask": "mask", "threshold": "threshold"}},
        options=_PLAIN,
    ),
    Family(
        "LayerNormBasicLSTMCell",
        ("layer_norm_basic_lstm_cell",),
        {
            NEW: {**_KERNEL, **_NORMS},
            MIDDLE: {"kernel": "weights", "bias": "biases", **_NORMS},
            OLD: {"kernel": "linear/weights", "bias": "linear/b", **_NORMS},
        },
        shapes.layer_norm,
        required=("kernel",),
        options={**_PLAIN, **PAIR},
        form="fused",
    ),
    Family(
        "LayerNormLSTMCell",
        ("layer_norm_lstm_cell",),
        {NEW: {**NEW_CORE, **_NORMS}},
        shapes.layer_norm,
        required=("kernel", "bias"),
        options=PAIR,
        form="fused",
    ),
    COUPLED,
    Family(
        "TimeFreqLSTMCell",
        ("time_freq_lstm_cell",),
        {None: _SHARDED},
        shapes.time_freq,
        options=always(state_is_tuple=False, proj_clip=None),
        refusal=_BY_FREQUENCY,
    ),
    *(
        Family(
            name,
            words,
            {
                None: {
                    "kernel": "W_f" + block + "_{k}",
                    "bias": "B_f" + block,
                    "kernel_time": "W_t" + block + "_{k}",
                    "bias_time": "B_t" + block,
                    **{f"w_{gate.lower()}_diag": f"W_{gate}_diag_freqf" + block for gate in "IFO"},
                }
            },
            shapes.grid,
            owns_scope=True,
            has_pair=False,
            refusal=_BY_FREQUENCY,
        )
        for name, words in (
            ("GridLSTMCell", ("grid_lstm_cell",)),
            ("BidirectionalGridLSTMCell", ("fwd", "bwd")),
        )
        for block in ("_0", "")
    ),
    Family(
        "CudnnLSTM (opaque)",
        ("cudnn_lstm",),
        {None: {"opaque_kernel": "opaque_kernel"}},
        shapes.opaque,
        required=("opaque_kernel",),
        gate_order="ifjo",
        by_leaves=True,
        options=_CUDNN,
        refusal="the order of cuDNN's buffer is unknown",
    ),
    Family(
        "CudnnCompatibleLSTMCell",
        ("cudnn_compatible_lstm_cell",),
        {NEW: {**_KERNEL, "bias_cudnn_0": "bias_cudnn_0", "bias_cudnn_1": "bias_cudnn_1"}},
        options=_CUDNN,
        is_interchangeable=True,
        form="fused",
        is_block=True,
        step_operations={"weight": frozenset({"Add", "AddV2"})},
        tensorflow="LSTMBlockCell",
    ),
    Family(
        "LSTMBlockFusedCell",
        ("lstm_fused_cell", "lstm_block_wrapper", "lstm_block_fused_cell"),
        _CORE,
        options=_BLOCK,
        is_interchangeable=True,
        form="fused",
        is_block=True,
        operations=("BlockLSTM", "FusedLSTM"),
        tensorflow="BlockLSTM",
    ),
    # 0.10 to 0.12 could not pass a clip, and the operation's own default is 3.0.
    _BLOCK_CELL._replace(
        words=("lstm_block_cell", "lstm_fused_cell"),
        leaves={OLD: _OLD_BLOCK},
        options={**_BLOCK, **always(cell_clip=3.0)},
    ),
    _BLOCK_CELL,
    # An operation of 1.15 that no class of 1.x used: only the graph shows it.
    Family(
        "BlockLSTMV2",
        (),
        {NEW: NEW_CORE},
        gate_order="ifjo",
        options={**_BLOCK, **STORED},
        form="fused",
        is_block=True,
        operations=("BlockLSTMV2",),
        tensorflow="BlockLSTMV2",
    ),
    BASIC,
    PLAIN,
    USER,
)

# By name; classes with a row for each of their eras have all other facts in common.
BY_NAME = {family.name: family for family in FAMILIES}
BY_OPERATION = {name: family for family in FAMILIES for name in family.operations}
RUNNABLE = frozenset(family.name for family in FAMILIES if family.form is not None)
KERAS = tuple(family for family in FAMILIES if family.is_layer)
# Only BasicLSTMCell had Linear below it.
PLAIN_LEAVES: tuple[tuple[str, Leaves, Family], ...] = (
    (NEW, NEW_CORE, PLAIN),
    (MIDDLE, MIDDLE_CORE, PLAIN),
    (OLD, _SHARDED, PLAIN),
    (OLD, _LINEAR, BASIC),
)


def row_of(family: str) -> Family:
    """Return the row of a family, one of an unknown class if it has none.

    >>> row_of("Sonnet 1 LSTM").library, row_of("Grid2LSTMCell").form
    ('Sonnet', None)
    """
    return BY_NAME.get(family) or Family(family, (), {})
