"""The LSTMs of other libraries on TensorFlow 1.x: rows of the table of families.

Sources: dm-sonnet 1.11 to 1.36 (python/modules/gated_rnn.py) and 2.0.2 (src/recurrent.py), lingvo
0.6.6 (core/rnn_cell.py), stable-baselines 2.10.2 (common/tf_layers.py; baselines 0.1.5 has the
same), returnn 1.20201223 (tf/native_op.py, tf/layers/rec.py).
"""

from __future__ import annotations

from lstmstate.cells import shapes
from lstmstate.cells.cell import Documented, Option
from lstmstate.cells.family import DIAGONALS, PAIR, STORED, Family, Leaves, always

_TANH = always(activation="tanh", proj_clip=None)
_PLAIN = {**_TANH, **always(cell_clip=None)}


# ---- Sonnet: the state is (hidden, cell)

_SONNET_1: Leaves = {"kernel": "w_gates", "bias": "b_gates", "projection": "w_h_projection"}
_NORM = {part: f"layer_norm/{part}" for part in ("gamma", "beta")}
_SONNET_1_ROW = Family(
    "Sonnet 1 LSTM",
    (),
    {None: {**_SONNET_1, **DIAGONALS, **_NORM, "gamma_c": "gamma_c"}},
    forbidden=(*shapes.PEEPHOLES, *_NORM, "gamma_c"),  # gamma_c: of batch norm
    by_leaves=True,
    h_first=True,
    options={**_TANH, **PAIR, "cell_clip": Option(None, "default")},
    library="Sonnet",
)
_SONNET = (
    # h is tanh(c * (1 + w_o_diag)) * sigmoid(o).
    _SONNET_1_ROW._replace(
        name="Sonnet 1 LSTM (peepholes)",
        leaves={None: {**_SONNET_1, **DIAGONALS}},
        required=("kernel", "bias", *shapes.PEEPHOLES),
        forbidden=(),
        refusal="its output gate sees no c, and scales the new one",
        step_operations={"out": frozenset({"Add", "AddV2", "Mul"})},
    ),
    _SONNET_1_ROW._replace(
        name="Sonnet 1 LSTM (layer norm)",
        leaves={None: {**_SONNET_1, **_NORM}},
        required=("kernel", "bias", *_NORM),
        forbidden=(),
        refusal="its layer norm is over all gates together",
    ),
    _SONNET_1_ROW._replace(
        form="fused",
        clip_refusal="it clips the old c, and not the new one",
        tensorflow="LSTMCell",
    ),
    _SONNET_1_ROW._replace(
        name="Sonnet 1 BatchNormLSTM",
        leaves={None: {"kernel": "w_gates_X", "recurrent_kernel": "w_gates_H", "bias": "b_gates"}},
        widths=shapes.keras,
        required=("kernel", "recurrent_kernel", "bias"),
        forbidden=(),
        refusal="its gates are normalised over batches",
    ),
    Family(
        "Sonnet 2 LSTM",
        (),
        {
            None: {
                "kernel": "_w_i",
                "recurrent_kernel": "_w_h",
                "bias": "b",
                "projection": "projection",
            }
        },
        shapes.keras,
        required=("kernel", "recurrent_kernel", "bias"),
        gate_order="ifjo",
        by_leaves=True,
        h_first=True,
        options={**STORED, **_PLAIN, **PAIR},
        library="Sonnet",
        form="two_kernels",
        tensorflow="LSTMCell",
    ),
)


# ---- baselines: the state is one array, c first

_BASELINES: Leaves = {"kernel": "wx", "recurrent_kernel": "wh", "bias": "b"}
_BASELINES_NORMS = {name: name for name in ("gx", "bx", "gh", "bh", "gc", "bc")}
_BASELINES_OPTIONS = {**STORED, **_PLAIN, **always(state_is_tuple=False)}
_BASELINES_WORDS = ("lnlstm", "lstm", *(f"lstm{number}" for number in range(10)))
_BASELINES_ROWS = (
    Family(
        "baselines lnlstm",
        _BASELINES_WORDS,
        {None: {**_BASELINES, **_BASELINES_NORMS}},
        shapes.keras,
        required=("kernel", "recurrent_kernel", "bias", *_BASELINES_NORMS),
        gate_order="ifoj",
        options=_BASELINES_OPTIONS,
        library="baselines",
        refusal="its layer norms are over the products of x and of m, all gates together",
    ),
    Family(
        "baselines LSTM",
        _BASELINES_WORDS,
        {None: {**_BASELINES, **{name: name for name in ("gx", "gh", "wmx", "wmh")}}},
        shapes.keras,
        required=("kernel", "recurrent_kernel", "bias"),
        forbidden=("gx", "gh", "wmx", "wmh"),  # of norms, and of multiplicative LSTMs
        gate_order="ifoj",
        options=_BASELINES_OPTIONS,
        documented={
            "family": Documented(
                "baselines LSTM", "others too call the variables of an LSTM wx, wh and b"
            )
        },
        library="baselines",
        form="two_kernels",
        tensorflow="LSTMCell",
    ),
)


# ---- lingvo: all variables end in "/var"

_LINGVO: Leaves = {
    role: f"{name}/var"
    for role, name in (
        ("kernel", "wm"),
        ("bias", "b"),
        ("projection", "w_proj"),
        ("mask", "mask"),
        *((name, name) for name in ("proj_mask", "ln_scale", "f_t_ln_scale", "f_t_vector_cell")),
    )
}
_LINGVO_ROWS = (
    Family(
        "lingvo LayerNormalizedLSTMCell",
        (),
        {None: _LINGVO},
        shapes.lingvo_norm,
        gate_order="jifo",
        by_leaves=True,
        options={**PAIR, **_TANH, "forget_bias": Option(0.0, "default")},
        library="lingvo",
        refusal="the scales of its norms are in its bias",
    ),
    Family(
        "lingvo LSTMCellSimple",
        (),
        {None: _LINGVO},
        shapes.lingvo,
        # The last two are of SRUCell.
        forbidden=("proj_mask", "ln_scale", "f_t_ln_scale", "f_t_vector_cell"),
        gate_order="jifo",
        by_leaves=True,
        options={
            **PAIR,
            **always(proj_clip=None),
            "forget_bias": Option(0.0, "default"),
            "cell_clip": Option(10.0, "default"),
            "activation": Option("tanh", "default"),
        },
        documented={
            "family": Documented(
                "LSTMCellSimple", "LSTMCellSimple and SRUCell of lingvo have the same variables"
            )
        },
        library="lingvo",
        form="lingvo",
        tensorflow="LSTMCell",
    ),
)


# ---- RETURNN: its layer "rec" with unit="lstm", "nativelstm" or "nativelstm2"

_RETURNN_ROWS = (
    Family(
        "RETURNN NativeLstm2",
        ("rec",),
        {None: {"kernel": "W", "recurrent_kernel": "W_re", "bias": "b"}},
        shapes.keras,
        required=("kernel", "recurrent_kernel", "bias"),
        gate_order="jifo",
        options={**STORED, **_PLAIN, **PAIR},
        library="RETURNN",
        form="two_kernels",
        tensorflow="LSTMCell",
    ),
)

LIBRARIES: tuple[Family, ...] = (*_SONNET, *_BASELINES_ROWS, *_LINGVO_ROWS, *_RETURNN_ROWS)
