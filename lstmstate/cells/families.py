"""The table of LSTM families: which class wrote which variables, under which words, in which era.

A row is found by the last word of a scope, by leaves that no other class has, or both; its
shapes then have to fit. A new family is a new row. Sources: the cell classes of TensorFlow
0.5.0 to 1.15.0 (python/ops/rnn_cell*.py, contrib/rnn, contrib/cudnn_rnn, contrib/grid_rnn,
contrib/model_pruning, lite/experimental, keras/layers).
"""

from __future__ import annotations

from lstmstate.cells import shapes
from lstmstate.cells.cell import Documented
from lstmstate.cells.family import TENSORFLOW, Family, Leaves, always
from lstmstate.cells.library_families import LIBRARIES

OLD, MIDDLE, NEW = "0.5-0.12", "1.0-1.1", "1.2+"

_DIAGONALS = {role: role for role in shapes.PEEPHOLES}
_OLD_DIAGONALS = {"w_i_diag": "W_I_diag", "w_f_diag": "W_F_diag", "w_o_diag": "W_O_diag"}
_KERNEL: Leaves = {"kernel": "kernel", "bias": "bias"}
_NORMS: Leaves = {
    f"{gate}/{part}": f"{gate}/{part}"
    for gate in ("input", "transform", "forget", "output", "state")
    for part in ("gamma", "beta")
}
_SHARDED: Leaves = {"kernel": "W_{k}", "bias": "B", "projection": "W_P_{k}", **_OLD_DIAGONALS}

NEW_CORE: Leaves = {**_KERNEL, **_DIAGONALS, "projection": "projection/kernel"}
MIDDLE_CORE: Leaves = {
    "kernel": "weights",
    "bias": "biases",
    "projection": "projection/weights",
    **_DIAGONALS,
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
_PAIR = always(state_is_tuple=True)
_BLOCK = {**_PAIR, **always(activation="tanh", proj_clip=None)}
_NO_FORGET_BIAS = always(forget_bias=None)
# The forget bias, if any, is in the stored bias, and none is added at run time.
_STORED = always(forget_bias=0.0)
_KERAS_OPTIONS = {**_STORED, **_PLAIN, **_PAIR}
# Nothing in names or shapes says which release it was.
_SQUASHES = (
    "hard_sigmoid in Keras up to 2.2 and tf.keras of TensorFlow 1.x, sigmoid in Keras 2.3 and "
    "tf.keras of TensorFlow 2"
)
_HARD = {"recurrent_activation": Documented("hard_sigmoid", _SQUASHES)}
_SOFT = {"recurrent_activation": Documented("sigmoid", _SQUASHES)}
_CONVOLUTIONS = "hard_sigmoid in Keras 2, sigmoid in Keras 3"
_EXPERIMENTAL = "hard_sigmoid in tf.keras.experimental, sigmoid in TensorFlow Addons"
_CUDNN = {**_STORED, **_PLAIN, **_PAIR, **always(activation="tanh")}

# Rows that need more evidence stand before rows that need less.
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
                **_DIAGONALS,
                "projection": "projection/kernel",
            }
        },
        shapes.tflite,
        required=("input_to_cell_w", "cell_to_cell_w", "cell_bias"),
        by_leaves=True,
        options=_STORED,
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
        options={**always(cell_clip=None, proj_clip=None), **_PAIR},
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
        options={**_NO_FORGET_BIAS, **_PLAIN, **_PAIR},
    ),
    Family(
        "IndyLSTMCell",
        ("indy_lstm_cell",),
        {NEW: {"kernel": "kernel_w", "recurrent_kernel": "kernel_u", "bias": "bias"}},
        shapes.indy,
        required=("kernel", "recurrent_kernel", "bias"),
        by_leaves=True,
        options={**_PLAIN, **_PAIR},
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
        options={**_NO_FORGET_BIAS, **_PLAIN, **_PAIR, **always(recurrent_activation=None)},
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
        options=_KERAS_OPTIONS,
        documented={"recurrent_activation": Documented("hard_sigmoid", _EXPERIMENTAL)},
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
        options=_KERAS_OPTIONS,
        documented={"recurrent_activation": Documented("hard_sigmoid", _CONVOLUTIONS)},
    ),
    # Known by its bias of 8H; its kernels lie as cuDNN takes them, its functions are cuDNN's own.
    Family(
        "CuDNNLSTM",
        ("cu_dnnlstm",),
        {None: _KERAS},
        shapes.keras_cudnn,
        required=("kernel", "recurrent_kernel", "bias"),
        gate_order="ifjo",
        by_leaves=True,
        options=_CUDNN,
    ),
    Family(
        "Keras LSTM",
        ("lstm", "lstm_cell"),
        {None: _KERAS},
        shapes.keras,
        required=("kernel", "recurrent_kernel"),
        gate_order="ifjo",
        by_leaves=True,
        options=_KERAS_OPTIONS,
        documented=_HARD,
        since_2=_SOFT,
    ),
    Family(
        "ConvLSTMCell",
        ("conv_lstm_cell", "conv_1d_lstm_cell", "conv_2d_lstm_cell", "conv_3d_lstm_cell"),
        {NEW: {"kernel": "kernel", "bias": "biases"}},
        shapes.convolution,
        required=("kernel",),
        has_pair=False,
        options={**_PLAIN, **_PAIR},
    ),
    Family(
        "WeightNormLSTMCell",
        ("wn_lstm_cell",),
        {
            NEW: {
                **NEW_CORE,
                "norm_0": "norm_0",
                "norm_1": "norm_1",
                "projection_norm_0": "projection/norm_0",
            }
        },
        shapes.weight_norm,
        required=("kernel", "bias", "norm_0", "norm_1"),
        by_leaves=True,
        options=_PAIR,
    ),
    Family("WeightNormLSTMCell", ("wn_lstm_cell",), {NEW: NEW_CORE}, options=_PAIR),
    Family(
        "MaskedLSTMCell",
        ("masked_lstm_cell",),
        {NEW: {**NEW_CORE, "mask": "mask", "threshold": "threshold"}},
        shapes.masked,
        required=("kernel", "bias", "mask"),
    ),
    Family(
        "MaskedBasicLSTMCell",
        ("masked_basic_lstm_cell",),
        {NEW: {**_KERNEL, "mask": "mask", "threshold": "threshold"}},
        shapes.masked,
        required=("kernel", "bias", "mask"),
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
        options={**_PLAIN, **_PAIR},
    ),
    Family(
        "LayerNormLSTMCell",
        ("layer_norm_lstm_cell",),
        {NEW: {**NEW_CORE, **_NORMS}},
        shapes.layer_norm,
        required=("kernel", "bias"),
        options=_PAIR,
    ),
    Family(
        "CoupledInputForgetGateLSTMCell",
        ("coupled_input_forget_gate_lstm_cell",),
        {None: {**_SHARDED, **_NORMS}},
        shapes.coupled,
        gate_order="jfo",
        options=always(cell_clip=None),
    ),
    Family(
        "TimeFreqLSTMCell",
        ("time_freq_lstm_cell",),
        {None: _SHARDED},
        shapes.time_freq,
        options=always(state_is_tuple=False, proj_clip=None),
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
    ),
    Family(
        "CudnnCompatibleLSTMCell",
        ("cudnn_compatible_lstm_cell",),
        {NEW: {**_KERNEL, "bias_cudnn_0": "bias_cudnn_0", "bias_cudnn_1": "bias_cudnn_1"}},
        options=_CUDNN,
    ),
    Family(
        "LSTMBlockFusedCell",
        ("lstm_fused_cell", "lstm_block_wrapper", "lstm_block_fused_cell"),
        _CORE,
        options=_BLOCK,
    ),
    # 0.10 to 0.12 could not pass a clip, and the operation's own default is 3.0.
    Family(
        "LSTMBlockCell",
        ("lstm_block_cell", "lstm_fused_cell"),
        {OLD: _OLD_BLOCK},
        options={**_BLOCK, **always(cell_clip=3.0)},
    ),
    Family(
        "LSTMBlockCell",
        ("lstm_block_cell",),
        {NEW: NEW_CORE, MIDDLE: MIDDLE_CORE},
        options=_BLOCK,
    ),
    # An operation of 1.15 that no class of 1.x used: only the graph tells it.
    Family("BlockLSTMV2", (), {NEW: NEW_CORE}, gate_order="ifjo", options={**_BLOCK, **_STORED}),
    Family(
        "BasicLSTMCell",
        ("basic_lstm_cell",),
        {NEW: NEW_CORE, MIDDLE: MIDDLE_CORE, OLD: _LINEAR},
        forbidden=(*shapes.PEEPHOLES, "projection"),
        options=_PLAIN,
    ),
    Family(
        "LSTMCell",
        # LSTMCell(name="basic_lstm_cell") was the documented way to load files of BasicLSTMCell.
        ("lstm_cell", "basic_lstm_cell"),
        _CORE,
        shares_names_with=("LSTMBlockCell",),
    ),
)

# A scope that says nothing is read as the plainest class: LSTMCell, in the leaves of its era.
PLAIN = FAMILIES[-1]
KERAS = tuple(family for family in FAMILIES if family.name in ("CuDNNLSTM", "Keras LSTM"))
# Only BasicLSTMCell had Linear below it.
PLAIN_LEAVES: tuple[tuple[str, Leaves, Family], ...] = (
    (NEW, NEW_CORE, PLAIN),
    (MIDDLE, MIDDLE_CORE, PLAIN),
    (OLD, _SHARDED, PLAIN),
    (OLD, _LINEAR, FAMILIES[-2]),
)


def library_of(family: str) -> str:
    """Return the library that a family is of: TensorFlow, where it has no row of its own.

    >>> library_of("LSTMCell"), library_of("LSTM")
    ('TensorFlow', 'TensorFlow')
    """
    return next((row.library for row in FAMILIES if row.name == family), TENSORFLOW)
