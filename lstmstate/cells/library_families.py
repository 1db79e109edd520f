"""The LSTMs of other libraries on TensorFlow 1.x: rows of the table of families.

Sources: dm-sonnet 1.11 to 1.36 (python/modules/gated_rnn.py) and 2.0.2 (src/recurrent.py), lingvo
0.6.6 (core/rnn_cell.py), stable-baselines 2.10.2 (common/tf_layers.py; baselines 0.1.5 has the
same), returnn 1.20201223 (tf/native_op.py, tf/layers/rec.py).
"""

from __future__ import annotations

from lstmstate.cells import shapes
from lstmstate.cells.cell import Documented, Option
from lstmstate.cells.family import Family, Leaves, always

_DIAGONALS = {role: role for role in shapes.PEEPHOLES}
_TANH = always(activation="tanh", proj_clip=None)
_PLAIN = {**_TANH, **always(cell_clip=None)}
# The forget bias, if any, is in the stored bias, and none is added at run time.
_STORED = always(forget_bias=0.0)
_PAIR = always(state_is_tuple=True)


# ---- Sonnet: the state is (hidden, cell)

_SONNET_1: Leaves = {"kernel": "w_gates", "bias": "b_gates", "projection": "w_h_projection"}
_NORM = {part: f"layer_norm/{part}" for part in ("gamma", "beta")}
# Its clips are of the state that it is given, not of the new one.
_SONNET_1_OPTIONS = {**_TANH, **_PAIR, "cell_clip": Option(None, "default")}
_SONNET = (
    # Its o sees no c; h is tanh(c * (1 + w_o_diag)) * sigmoid(o).
    Family(
        "Sonnet 1 LSTM (peepholes)",
        (),
        {None: {**_SONNET_1, **_DIAGONALS}},
        required=("kernel", "bias", *shapes.PEEPHOLES),
        by_leaves=True,
        options=_SONNET_1_OPTIONS,
        library="Sonnet",
    ),
    # One norm over all gates together.
    Family(
        "Sonnet 1 LSTM (layer norm)",
        (),
        {None: {**_SONNET_1, **_NORM}},
        required=("kernel", "bias", *_NORM),
        by_leaves=True,
        options=_SONNET_1_OPTIONS,
        library="Sonnet",
    ),
    Family(
        "Sonnet 1 LSTM",
        (),
        {None: {**_SONNET_1, **_DIAGONALS, **_NORM, "gamma_c": "gamma_c"}},
        forbidden=(*shapes.PEEPHOLES, *_NORM, "gamma_c"),  # gamma_c: of batch norm
        by_leaves=True,
        options=_SONNET_1_OPTIONS,
        library="Sonnet",
    ),
    Family(
        "Sonnet 1 BatchNormLSTM",
        (),
        {None: {"kernel": "w_gates_X", "recurrent_kernel": "w_gates_H", "bias": "b_gates"}},
        shapes.keras,
        required=("kernel", "recurrent_kernel", "bias"),
        by_leaves=True,
        options=_SONNET_1_OPTIONS,
        library="Sonnet",
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
        options={**_STORED, **_PLAIN, **_PAIR},
        library="Sonnet",
    ),
)


# ---- baselines: the state is one array, c first

_BASELINES: Leaves = {"kernel": "wx", "recurrent_kernel": "wh", "bias": "b"}
_BASELINES_NORMS = {name: name for name in ("gx", "bx", "gh", "bh", "gc", "bc")}
_BASELINES_OPTIONS = {**_STORED, **_PLAIN, **always(state_is_tuple=False)}
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
        options={**_PAIR, **_TANH, "forget_bias": Option(0.0, "default")},
        library="lingvo",
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
            **_PAIR,
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
        options={**_STORED, **_PLAIN, **_PAIR},
        library="RETURNN",
    ),
)

LIBRARIES: tuple[Family, ...] = (*_SONNET, *_BASELINES_ROWS, *_LINGVO_ROWS, *_RETURNN_ROWS)
