"""Cells of every family, with random widths and options, compared with plain implementations.

The variables have the names and shapes of the class, and go through recognition,
`settle_run_options` and `canonical_cell`; plain_cells.py takes the same numbers and shares no code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import plain_cells as plain
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from writers import Shape, below, cells

from lstmstate.cells import Cell
from lstmstate.engines import load
from lstmstate.engines.canonical_network import Network
from lstmstate.engines.canonical_weights import canonical_cell
from lstmstate.engines.reference_step import step
from lstmstate.engines.run_options import settle_run_options

Draw = Callable[..., Any]

TOLERANCE = {"float64": 1e-12, "float32": 2e-6}
# A norm over a few units enlarges rounding, here up to five times.
NORMED_TOLERANCE = {"float64": 1e-12, "float32": 5e-6}
steady = settings(derandomize=True, deadline=None, max_examples=20)

SIZES = st.integers(1, 5)
CLIPS = st.sampled_from([None, 0.1, 0.4])
BIASES = st.sampled_from([1.0, 0.0, -0.7, 2.5])
ACTIVATIONS = st.sampled_from([*sorted(plain.ACTIVATIONS), *["tanh"] * 6])
# Gates without bounds make states grow until rounding looks like an error.
GATES = st.sampled_from(["sigmoid", "hard_sigmoid", "keras3_hard_sigmoid", "tanh", "softsign"])


class Drawn(NamedTuple):
    """A cell of a class: shapes of variables below its scope, options by the names of their flags.

    shown: options that only the graph shows; plainly: the same for plain_cells.
    """

    family: str
    scope: str
    shapes: dict[str, Shape]
    step: plain.Step
    inputs: int
    units: int
    width: int
    given: dict[str, Any] = {}  # noqa: RUF012 - never changed
    shown: dict[str, Any] = {}  # noqa: RUF012
    plainly: dict[str, Any] = {}  # noqa: RUF012


class Sizes(NamedTuple):
    """I, H and P of a cell."""

    inputs: int
    units: int
    proj: int | None = None

    @property
    def width(self) -> int:
        return self.proj or self.units

    @property
    def rows(self) -> int:
        return self.inputs + self.width


def sizes(draw: Draw, projects: bool = False) -> Sizes:
    proj = draw(st.none() | SIZES) if projects else None
    return Sizes(draw(SIZES), draw(SIZES), proj)


def options(draw: Draw, *names: str) -> dict[str, Any]:
    kinds = {"forget_bias": BIASES, "activation": ACTIVATIONS, "recurrent_activation": GATES}
    return {name: draw(kinds.get(name, CLIPS)) for name in names}


def diagonals(draw: Draw, units: int, *names: str) -> dict[str, Shape]:
    return dict.fromkeys(names, (units,)) if draw(st.booleans()) else {}


def norms(draw: Draw, units: int, *names: str) -> dict[str, Shape]:
    if not draw(st.booleans()):
        return {}
    return {f"{name}/{part}": (units,) for name in names for part in ("gamma", "beta")}


def parts(draw: Draw, leaf: str, shape: tuple[int, int], axis: int) -> dict[str, Shape]:
    """Split a matrix into variables as `_get_sharded_variable` did: longer ones first."""
    count = draw(st.integers(1, min(3, shape[axis])))
    lengths = [shape[axis] // count + (k < shape[axis] % count) for k in range(count)]
    return {
        f"{leaf}_{k}": (length, shape[1]) if axis == 0 else (shape[0], length)
        for k, length in enumerate(lengths)
    }


DIAGONALS = ("w_i_diag", "w_f_diag", "w_o_diag")
OLD_DIAGONALS = ("W_I_diag", "W_F_diag", "W_O_diag")
CORE = ("forget_bias", "cell_clip", "proj_clip", "activation")


def fused_shapes(size: Sizes) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {"kernel": (size.rows, 4 * size.units), "bias": (4 * size.units,)}
    return shapes | ({"projection/kernel": (size.units, size.proj)} if size.proj else {})


def basic(draw: Draw) -> Drawn:
    size = sizes(draw)
    given = options(draw, "forget_bias", "activation")
    scope = "rnn/basic_lstm_cell"
    return Drawn(
        "BasicLSTMCell", scope, fused_shapes(size), plain.fused, *size[:2], size.width, given
    )


def lstm_cell(draw: Draw) -> Drawn:
    size = sizes(draw, projects=True)
    shapes = fused_shapes(size) | diagonals(draw, size.units, *DIAGONALS)
    given = options(draw, *CORE, "recurrent_activation")
    return Drawn("LSTMCell", "rnn/lstm_cell", shapes, plain.fused, *size[:2], size.width, given)


def user_written(draw: Draw) -> Drawn:
    """An order of gates, and of rows, that only a graph shows."""
    size = sizes(draw)
    order, m_first = "".join(draw(st.permutations("ijfo"))), draw(st.booleans())
    shapes, given = fused_shapes(size), options(draw, "forget_bias", "cell_clip", "activation")
    shown = {"gate_order": order, "extra": {"m_first": m_first}, "family": "LSTM"}
    return Drawn(
        "LSTM", "rnn/lstm_cell", shapes, plain.fused, *size[:2], size.width, given, shown,
        {"order": order, "m_first": m_first},
    )  # fmt: skip


def user_written_in_two(draw: Draw) -> Drawn:
    """A kernel for the input and one for m, without the names of Keras."""
    found = keras(draw)
    order = "".join(draw(st.permutations("ijfo")))
    return found._replace(
        family="LSTM",
        step=plain.two_kernels,
        given=options(draw, "forget_bias", "activation", "recurrent_activation"),
        shown={"family": "LSTM", "gate_order": order},
        plainly={"order": order},
    )


def old_lstm_cell(axis: int, step: plain.Step) -> Callable[[Draw], Drawn]:
    def drawn(draw: Draw) -> Drawn:
        size = sizes(draw, projects=True)
        shapes = parts(draw, "W", (size.rows, 4 * size.units), axis) | {"B": (4 * size.units,)}
        if size.proj:
            shapes |= parts(draw, "W_P", (size.units, size.proj), axis)
        shapes |= diagonals(draw, size.units, *OLD_DIAGONALS)
        given = options(draw, *CORE)
        return Drawn("LSTMCell", "RNN/LSTMCell", shapes, step, *size[:2], size.width, given)

    return drawn


def old_block(draw: Draw) -> Drawn:
    """Its peepholes exist even if they are not used."""
    size = sizes(draw)
    shapes: dict[str, Shape] = {"W": (size.rows, 4 * size.units), "b": (4 * size.units,)}
    shapes |= dict.fromkeys(("wci", "wcf", "wco"), (size.units,))
    given = options(draw, "forget_bias", "cell_clip") | {"peepholes": draw(st.booleans())}
    scope = "RNN/LSTMBlockCell"
    return Drawn("LSTMBlockCell", scope, shapes, plain.old_block, *size[:2], size.width, given)


def block_v2(draw: Draw) -> Drawn:
    found = user_written(draw)
    return found._replace(
        family="BlockLSTMV2",
        step=plain.no_forget_bias,
        given=options(draw, "cell_clip") | {"forget_bias": 0.0},
        shown={"family": "BlockLSTMV2", "gate_order": "ifjo"},
        plainly={"order": "ifjo"},
    )


def cudnn_compatible(draw: Draw) -> Drawn:
    size = sizes(draw)
    scope = "cudnn_lstm/rnn/multi_rnn_cell/cell_0/cudnn_compatible_lstm_cell"
    shapes = fused_shapes(size)
    step = plain.no_forget_bias
    return Drawn("CudnnCompatibleLSTMCell", scope, shapes, step, *size[:2], size.width)


def coupled(draw: Draw) -> Drawn:
    size = sizes(draw, projects=True)
    shapes = parts(draw, "W", (size.rows, 3 * size.units), 0) | {"B": (3 * size.units,)}
    if size.proj:
        shapes |= parts(draw, "W_P", (size.units, size.proj), 0)
    shapes |= diagonals(draw, size.units, "W_F_diag", "W_O_diag")
    shapes |= norms(draw, size.units, "transform", "forget", "output", "state")
    given = options(draw, "forget_bias", "proj_clip", "activation")
    scope = "rnn/coupled_input_forget_gate_lstm_cell"
    family = "CoupledInputForgetGateLSTMCell"
    return Drawn(family, scope, shapes, plain.coupled, *size[:2], size.width, given)


NORMS = ("input", "transform", "forget", "output", "state")


def layer_norm_basic(draw: Draw) -> Drawn:
    size = sizes(draw)
    shapes = fused_shapes(size) | norms(draw, size.units, *NORMS)
    if "input/gamma" in shapes:
        del shapes["bias"]
    given = options(draw, "forget_bias", "activation")
    scope, family = "rnn/layer_norm_basic_lstm_cell", "LayerNormBasicLSTMCell"
    return Drawn(family, scope, shapes, plain.layer_normed, *size[:2], size.width, given)


def layer_norm_lstm(draw: Draw) -> Drawn:
    size = sizes(draw, projects=True)
    shapes = fused_shapes(size) | norms(draw, size.units, *NORMS)
    shapes |= diagonals(draw, size.units, *DIAGONALS)
    given = options(draw, *CORE)
    scope, family = "rnn/layer_norm_lstm_cell", "LayerNormLSTMCell"
    return Drawn(family, scope, shapes, plain.layer_normed, *size[:2], size.width, given)


def weight_norm(draw: Draw) -> Drawn:
    size = sizes(draw, projects=True)
    shapes = fused_shapes(size) | diagonals(draw, size.units, *DIAGONALS)
    if draw(st.booleans()):
        shapes |= dict.fromkeys(("norm_0", "norm_1"), (4 * size.units,))
        shapes |= {"projection/norm_0": (size.proj,)} if size.proj else {}
    given = options(draw, *CORE)
    scope, family = "rnn/wn_lstm_cell/wn_lstm_cell", "WeightNormLSTMCell"
    return Drawn(family, scope, shapes, plain.weight_normed, *size[:2], size.width, given)


def masked(draw: Draw) -> Drawn:
    size = sizes(draw)
    shapes = fused_shapes(size) | diagonals(draw, size.units, *DIAGONALS)
    shapes |= {"mask": shapes["kernel"], "threshold": ()}
    given = options(draw, "forget_bias", "cell_clip", "activation")
    scope = "rnn/masked_lstm_cell"
    return Drawn("MaskedLSTMCell", scope, shapes, plain.fused, *size[:2], size.width, given)


def masked_basic(draw: Draw) -> Drawn:
    size = sizes(draw)
    shapes = fused_shapes(size)
    shapes |= {"mask": shapes["kernel"], "threshold": ()}
    given = options(draw, "forget_bias", "activation")
    scope = "rnn/masked_basic_lstm_cell"
    return Drawn("MaskedBasicLSTMCell", scope, shapes, plain.fused, *size[:2], size.width, given)


def grouped(draw: Draw) -> Drawn:
    """1.2 to 1.6 read as many input columns as m has, and ignored further ones."""
    groups = draw(st.integers(1, 3))
    inputs, units, proj = (groups * n for n in draw(st.tuples(*[st.integers(1, 2)] * 3)))
    size = Sizes(inputs, units, proj if draw(st.booleans()) else None)
    is_old, is_shared = draw(st.booleans()), draw(st.booleans())
    read = size.width if is_old else size.inputs
    kernel = ((read + size.width) // groups, 4 * units // groups)
    count = 1 if is_old and is_shared else groups
    shapes: dict[str, Shape] = {f"group{k}/kernel": kernel for k in range(count)}
    shapes |= {f"bias_{gate}": (units,) for gate in "ijfo"}
    shapes |= {"projection/kernel": (units, size.proj)} if size.proj else {}
    inputs = read + (draw(st.integers(0, 2)) if read == size.width else 0)
    given = options(draw, "forget_bias", "activation")
    return Drawn(
        "GLSTMCell", "rnn/glstm_cell", shapes, plain.grouped, inputs, units, size.width, given
    )


def indy(draw: Draw) -> Drawn:
    size = sizes(draw)
    columns = 4 * size.units
    shapes: dict[str, Shape] = {"kernel_w": (size.inputs, columns), "kernel_u": (1, columns)}
    shapes["bias"] = (columns,)
    given = options(draw, "forget_bias", "activation")
    scope = "rnn/indy_lstm_cell"
    return Drawn("IndyLSTMCell", scope, shapes, plain.indy, *size[:2], size.width, given)


def tflite(draw: Draw) -> Drawn:
    size = sizes(draw, projects=True)
    shapes: dict[str, Shape] = {}
    for gate in ("input", "forget", "cell", "output"):
        shapes[f"input_to_{gate}_w"] = (size.units, size.inputs)
        shapes[f"cell_to_{gate}_w"] = (size.units, size.width)
        shapes[f"{gate}_bias"] = (size.units,)
    shapes |= diagonals(draw, size.units, *DIAGONALS)
    shapes |= {"projection/kernel": (size.proj, size.units)} if size.proj else {}
    given = options(draw, "cell_clip", "proj_clip", "activation")
    scope = "rnn/tf_lite_lstm_cell"
    return Drawn("TFLiteLSTMCell", scope, shapes, plain.tflite, *size[:2], size.width, given)


def keras(draw: Draw) -> Drawn:
    size = sizes(draw)
    columns = 4 * size.units
    shapes: dict[str, Shape] = {"kernel": (size.inputs, columns)}
    shapes["recurrent_kernel"] = (size.units, columns)
    shapes |= {"bias": (columns,)} if draw(st.booleans()) else {}
    given = options(draw, "activation", "recurrent_activation")
    return Drawn("Keras LSTM", "lstm", shapes, plain.keras, *size[:2], size.width, given)


def keras_peepholes(draw: Draw) -> Drawn:
    found = keras(draw)
    gates = ("input", "forget", "output")
    shapes = found.shapes | {f"{gate}_gate_peephole_weights": (found.units,) for gate in gates}
    scope = "rnn/peephole_lstm_cell"
    return found._replace(family="PeepholeLSTMCell", scope=scope, shapes=shapes)


DRAWN = {
    "basic": basic,
    "lstm cell": lstm_cell,
    "lstm cell in shards of rows": old_lstm_cell(0, plain.row_shards),
    "lstm cell in shards of columns": old_lstm_cell(1, plain.column_shards),
    "block cell of 0.11": old_block,
    "block operation of order ifjo": block_v2,
    "cudnn compatible": cudnn_compatible,
    "coupled": coupled,
    "layer norm basic": layer_norm_basic,
    "layer norm": layer_norm_lstm,
    "weight norm": weight_norm,
    "masked": masked,
    "masked basic": masked_basic,
    "groups": grouped,
    "indy": indy,
    "tflite": tflite,
    "keras": keras,
    "keras with peepholes": keras_peepholes,
    "written by a user": user_written,
    "written by a user in two kernels": user_written_in_two,
}


def filled(drawn: Drawn, rng: np.random.Generator, dtype: str) -> dict[str, Any]:
    """Return values of the variables; a mask has zeros and ones."""
    return {
        leaf: rng.integers(0, 2, shape).astype(dtype)
        if leaf == "mask"
        else rng.uniform(-0.8, 0.8, shape).astype(dtype)
        for leaf, shape in drawn.shapes.items()
    }


def recognised(drawn: Drawn, dtype: str) -> Cell:
    """Return the cell that is found among the variables, with the options from a graph."""
    cell = cells(below(drawn.scope, drawn.shapes), dtype)[drawn.scope]._replace(**drawn.shown)
    assert cell.family == drawn.family
    return cell


@pytest.mark.parametrize("kind", DRAWN)
@pytest.mark.parametrize("dtype", TOLERANCE)
@steady
@given(st.data())
def test_a_cell_computes_the_values_of_its_class(kind: str, dtype: str, data: Any) -> None:
    drawn: Drawn = DRAWN[kind](data.draw)
    steps, batch = data.draw(SIZES), data.draw(st.integers(1, 3))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    values = filled(drawn, rng, dtype)
    x = rng.uniform(-2, 2, (steps, batch, drawn.inputs)).astype(dtype)
    c = rng.uniform(-1, 1, (batch, drawn.units)).astype(dtype)
    m = rng.uniform(-1, 1, (batch, drawn.width)).astype(dtype)
    kept_apart = {name: v for name, v in drawn.given.items() if name != "peepholes"}
    plainly = plain.Options(**kept_apart | drawn.plainly)
    variables = {leaf: value.tolist() for leaf, value in values.items()}
    if drawn.given.get("peepholes") is False:
        variables = {leaf: v for leaf, v in variables.items() if not leaf.startswith("wc")}
    try:
        expected = plain.run(drawn.step, variables, plainly, x.tolist(), c.tolist(), m.tolist())
    except plain.IllConditionedError:
        reject()

    cell = recognised(drawn, dtype)
    named = {f"{drawn.scope}/{leaf}": value for leaf, value in values.items()}
    cell_of_engine = canonical_cell(
        cell, named.__getitem__, settle_run_options(cell, drawn.given).values
    )
    assert not (cell.layer_norm and cell_of_engine.bias.any())
    runner = load("numpy", Network((((cell_of_engine,),),)))
    x = np.ascontiguousarray(x[..., : cell_of_engine.input_size])
    ran = runner.run(x, [(c, m)])
    tolerance = (NORMED_TOLERANCE if cell.layer_norm else TOLERANCE)[dtype]
    for ours, theirs in zip((ran.outputs, *ran.states[0]), expected, strict=True):
        assert ours.dtype == dtype
        assert np.abs(ours - np.array(theirs)).max() <= tolerance
    outputs = []
    for row in x.astype("f8"):
        c, m = step(cell_of_engine.in_float64(), row, c, m)
        outputs.append(m)
    for ours, theirs in zip((np.stack(outputs), c, m), expected, strict=True):
        assert np.abs(ours - np.array(theirs)).max() <= tolerance
