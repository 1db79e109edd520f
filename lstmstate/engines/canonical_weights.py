"""Canonical weights of every family, from the variables of each class.

Sources: the cell classes of TensorFlow 0.5.0 to 1.15.0 (python/ops/rnn_cell*.py, contrib/rnn,
contrib/model_pruning, lite/experimental/examples/lstm, keras/layers/recurrent.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from lstmstate import limits
from lstmstate.cells.cell import UNRECOGNISED, Cell, Value
from lstmstate.cells.families import row_of
from lstmstate.cells.shapes import PEEPHOLES
from lstmstate.cells.weight_stats import weight
from lstmstate.checkpoint.dtypes import NUMPY_FLOATS
from lstmstate.engines.canonical_network import Array, CanonicalCell, Norm, split_gates
from lstmstate.errors import CorruptError, LstmstateError, UnsupportedError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Read = Callable[[str], "NDArray[np.generic]"]

# Scopes of the norms: python/ops/rnn_cell.py of contrib, `_norm(…, "transform")` and so on.
_NORM_SCOPES = {"i": "input", "j": "transform", "f": "forget", "o": "output", "c": "state"}
# contrib/layers/python/layers/layers.py, layer_norm: 1e-3 for float16 (1.15), else 1e-12.
_NORM_EPSILON = {"float16": 1e-3}


class _Stored:
    """The variables of a cell by role, whole."""

    def __init__(self, cell: Cell, read: Read) -> None:
        self.cell = cell
        self._read = read

    def __contains__(self, role: str) -> bool:
        return role in self.cell.variables

    def __getitem__(self, role: str) -> Array:
        return _real(role, weight(self.cell, role, self._read))

    def shards(self, role: str) -> list[Array]:
        """Return the variables of a role, one by one."""
        return [_real(role, self._read(name)) for name in self.cell.variables[role]]


def _real(role: str, value: NDArray[np.generic]) -> Array:
    if value.dtype.kind != "f":
        raise ValueError(f"its {role} is {value.dtype}")
    return cast("Array", value)


def canonical_cell(cell: Cell, read: Read, settled: Mapping[str, Value]) -> CanonicalCell:
    """Return the canonical weights and options of a cell.

    Args:
        read: returns the value of a variable.
        settled: forget_bias, cell_clip, proj_clip, activation, recurrent_activation and
            peepholes, from `run_options.settle_run_options`.

    Raises:
        UnsupportedError: the cell is of a family, or of a dtype, that is not run.
        LstmstateError: a variable cannot be read.
    """
    row = row_of(cell.family)
    if cell.family == UNRECOGNISED:
        raise UnsupportedError("no known family has its step", tensor=cell.name)
    if row.form is None:
        raise UnsupportedError(f"a {cell.family} is not run: {row.refusal}", tensor=cell.name)
    if row.clip_refusal is not None and settled["cell_clip"] is not None:
        raise UnsupportedError(
            f"a {cell.family} is not run with a cell_clip: {row.clip_refusal}", tensor=cell.name
        )
    dtype = "float32" if cell.dtype == "bfloat16" else cell.dtype
    if dtype not in NUMPY_FLOATS or cell.num_units is None:
        problem = f"it is {cell.dtype}" if cell.num_units is not None else "its widths are unknown"
        raise UnsupportedError(
            f"it is not run: {problem}, and {', '.join(NUMPY_FLOATS)} of known widths are",
            tensor=cell.name,
        )
    stored = _Stored(cell, read)
    _refuse_missing(cell, peepholes=bool(settled["peepholes"]))
    try:
        with np.errstate(all="ignore"):  # an overflow becomes Inf or NaN in the weights
            found = CanonicalCell(**(_common(stored, settled) | FORMS[row.form](stored)))
    except LstmstateError:  # a value that cannot be read
        raise
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise CorruptError(
            f"its variables do not fit one another as those of a {cell.family} ({error})",
            tensor=cell.name,
        ) from None
    return _check_shapes(found)


def _refuse_missing(cell: Cell, *, peepholes: bool) -> None:
    """Refuse a cell that has only some of the variables that go together."""
    gates = _canonical(cell)
    sets = [{f"{_NORM_SCOPES[gate]}/{part}" for gate in f"{gates}c" for part in ("gamma", "beta")}]
    sets += [{f"w_{gate}_diag" for gate in gates if gate != "j"}] if peepholes else []
    for together in sets:
        missing = sorted(together - cell.variables.keys())
        if 0 < len(missing) < len(together):
            raise CorruptError(f"it has no {missing[0]}", tensor=cell.name)


def _check_shapes(found: CanonicalCell) -> CanonicalCell:
    """Return a cell with all parts in the dtype of its kernel, of the shapes that it needs.

    Raises:
        CorruptError: a part has another shape, or holds no real numbers.
        UnsupportedError: the forget_bias is beyond the range of the dtype.
    """
    dtype, (units, width) = found.dtype, found.widths
    columns = len(found.gates) * units

    def part(name: str, values: Array, *shapes: tuple[int, ...]) -> Array:
        if values.dtype.kind != "f" or values.shape not in shapes:
            raise CorruptError(
                f"its {name} is {values.dtype} {list(values.shape)}, and would be {dtype} "
                f"{list(shapes[0])}",
                tensor=found.name,
            )
        return values.astype(dtype, copy=False)

    if abs(found.forget_bias) > float(np.finfo(dtype).max):
        raise UnsupportedError(
            f"its forget_bias {found.forget_bias:g} is beyond the range of {dtype}",
            tensor=found.name,
        )
    projection = found.projection
    return found._replace(
        kernel=part("kernel", found.kernel, (found.input_size, columns)),
        recurrent=part("recurrent kernel", found.recurrent, (width, columns), (columns,)),
        bias=part("bias", found.bias, (columns,)),
        peepholes={g: part(f"peephole of {g}", w, (units,)) for g, w in found.peepholes.items()},
        norms={
            gate: Norm(part("gamma", gamma, (units,)), part("beta", beta, (units,)))
            for gate, (gamma, beta) in found.norms.items()
        },
        projection=None if projection is None else part("projection", projection, (units, width)),
    )


def _common(stored: _Stored, settled: Mapping[str, Value]) -> dict[str, Any]:
    """Return the parts that are the same for all families, unless their form replaces them."""
    cell = stored.cell
    activation = settled["activation"]
    return {
        "name": cell.name,
        "family": cell.family,
        "gates": _canonical(cell),
        "peepholes": {
            role[2]: stored[role] for role in PEEPHOLES if role in stored and settled["peepholes"]
        },
        "norms": {
            gate: Norm(stored[f"{scope}/gamma"], stored[f"{scope}/beta"])
            for gate, scope in _NORM_SCOPES.items()
            if f"{scope}/gamma" in stored
        },
        "norm_epsilon": _NORM_EPSILON.get(cell.dtype, 1e-12),
        "projection": stored["projection"] if "projection" in stored else None,  # noqa: SIM401
        "forget_bias": settled["forget_bias"],
        "cell_clip": settled["cell_clip"],
        "proj_clip": settled["proj_clip"],
        "activation": activation,
        "candidate": activation,
        "recurrent_activation": settled["recurrent_activation"],
    }


def _canonical(cell: Cell) -> str:
    return "jfo" if "i" not in cell.gate_order else "ijfo"


def _reorder(cell: Cell, columns: Array) -> Array:
    """Return gates in TensorFlow's order, from the stored order."""
    if cell.gate_order == _canonical(cell):
        return columns
    gates = split_gates(columns, cell.gate_order)
    return np.concatenate([gates[gate] for gate in _canonical(cell)], axis=-1)


def _bias(stored: _Stored, columns: int) -> Array:
    """Return the bias, zeros if there is none; a cell with layer norm does not add its own."""
    cell = stored.cell
    if "bias" not in stored or cell.layer_norm:
        return np.zeros(columns, stored.shards(next(iter(cell.variables)))[0].dtype)
    # cuDNN has a bias for the input and one for the recurrent part: they are added.
    sets = stored["bias"].reshape(-1, columns)
    return _reorder(cell, sets.sum(axis=0, dtype=sets.dtype))


def _of_kernel(cell: Cell, kernel: Array) -> dict[str, Any]:
    """Cut one kernel `[I + R, G·H]` into the rows of the input and those of m."""
    width = cell.state.m if cell.state else 0
    rows = len(kernel) - width
    kernel = _reorder(cell, kernel)
    if cell.extra.get("m_first"):
        return {"recurrent": kernel[:width], "kernel": kernel[width:]}
    return {"kernel": kernel[:rows], "recurrent": kernel[rows:]}


def _fused(stored: _Stored) -> dict[str, Any]:
    kernel = stored["kernel"]
    return {**_of_kernel(stored.cell, kernel), "bias": _bias(stored, kernel.shape[1])}


def _masked(stored: _Stored) -> dict[str, Any]:
    """A pruned kernel: multiplied with its mask."""
    kernel, mask = stored["kernel"], stored["mask"]
    if mask.shape != kernel.shape:
        raise ValueError(f"its mask is {list(mask.shape)}")
    return {**_of_kernel(stored.cell, kernel * mask), "bias": _bias(stored, kernel.shape[1])}


def _weight_norm(stored: _Stored) -> dict[str, Any]:
    """Each column of the input rows, and of those of m, scaled to the length in its norm."""
    found = _fused(stored)
    gains = {"kernel": "norm_0", "recurrent": "norm_1"}
    for part, role in gains.items():
        if role in stored:
            found[part] = _scale_columns(found[part], _reorder(stored.cell, stored[role]))
    if "projection_norm_0" in stored:
        found["projection"] = _scale_columns(stored["projection"], stored["projection_norm_0"])
    return found


def _scale_columns(columns: Array, gain: Array) -> Array:
    """Return columns of length `gain`: nn_impl.l2_normalize, whose epsilon is 1e-12."""
    squares = np.square(columns).sum(axis=0, dtype=columns.dtype)
    normed: Array = columns * (gain / np.sqrt(np.maximum(squares, columns.dtype.type(1e-12))))
    return normed


def _two_kernels(stored: _Stored) -> dict[str, Any]:
    cell = stored.cell
    kernel = stored["kernel"]
    return {
        "kernel": _reorder(cell, kernel),
        "recurrent": _reorder(cell, stored["recurrent_kernel"]),
        "bias": _bias(stored, kernel.shape[1]),
    }


def _cudnn(stored: _Stored) -> dict[str, Any]:
    """Kernels as cuDNN takes them: the block of each gate transposed, both in memory.

    A block of the stored shape `[I, H]` has the memory order of `[H, I]`. Source: tf_keras,
    saving/legacy/hdf5_format.py, _convert_rnn_weights (CuDNNLSTM to LSTM).
    """

    def transpose_blocks(role: str) -> Array:
        blocks = np.split(stored[role], 4, axis=1)
        return np.concatenate([block.reshape(block.shape[::-1]).T for block in blocks], axis=1)

    kernel, recurrent = transpose_blocks("kernel"), transpose_blocks("recurrent_kernel")
    return {
        "kernel": _reorder(stored.cell, kernel),
        "recurrent": _reorder(stored.cell, recurrent),
        "bias": _bias(stored, kernel.shape[1]),
    }


def _lingvo(stored: _Stored) -> dict[str, Any]:
    """A kernel that may be pruned; j goes through tanh, with or without an activation of m."""
    return (_masked if "mask" in stored else _fused)(stored) | {"candidate": "tanh"}


def _by_graph(stored: _Stored) -> dict[str, Any]:
    """A cell that a user wrote: the graph shows its order of gates, and one kernel or two."""
    return (_two_kernels if "recurrent_kernel" in stored else _fused)(stored)


def _indy(stored: _Stored) -> dict[str, Any]:
    """Recurrent weights `[1, 4H]`: each unit sees its own m alone."""
    found = _two_kernels(stored)
    return found | {"recurrent": found["recurrent"].reshape(-1)}


def _tflite(stored: _Stored) -> dict[str, Any]:
    """A matrix `[H, I]`, one `[H, R]` and a bias for each gate; projection `[P, H]`."""
    order = ("input", "cell", "forget", "output")  # i, j, f, o
    found = {
        part: np.concatenate([stored[name.format(gate)] for gate in order]).T
        for part, name in (
            ("kernel", "input_to_{}_w"),
            ("recurrent", "cell_to_{}_w"),
            ("bias", "{}_bias"),
        )
    }
    return found | ({"projection": stored["projection"].T} if "projection" in stored else {})


def _grouped(stored: _Stored) -> dict[str, Any]:
    """A kernel for each group of units, or one for all: blocks in kernels of zeros.

    In 1.2 to 1.6 group k reads columns [k·R/G, (k + 1)·R/G) of the input, and columns beyond R have
    no effect. The new input goes through tanh with every activation.
    """
    cell = stored.cell
    assert cell.state is not None
    units, width = cell.state
    groups = int(cell.extra["number_of_groups"] or 1)
    shards = stored.shards("kernel")
    blocks = shards if len(shards) == groups else shards * groups
    rows = len(blocks[0]) - width // groups
    dense = (rows * groups + width) * 4 * units * blocks[0].itemsize
    if dense > limits.MAX_GROUPED_BYTES:
        raise UnsupportedError(
            f"its {groups} groups are run as one matrix, which would take {dense:,} bytes",
            tensor=cell.name,
        )
    kernel = np.zeros((rows * groups, 4, units), blocks[0].dtype)
    recurrent = np.zeros((width, 4, units), blocks[0].dtype)
    of_m, of_units = width // groups, units // groups
    for k, block in enumerate(blocks):
        gates = block.reshape(len(block), 4, of_units)
        columns = slice(k * of_units, (k + 1) * of_units)
        kernel[k * rows : (k + 1) * rows, :, columns] = gates[:rows]
        recurrent[k * of_m : (k + 1) * of_m, :, columns] = gates[rows:]
    return {
        "kernel": kernel.reshape(len(kernel), -1),
        "recurrent": recurrent.reshape(len(recurrent), -1),
        "bias": np.concatenate([stored[f"bias_{gate}"] for gate in "ijfo"]),
        "candidate": "tanh",
        "takes_wider": rows * groups == width,
    }


Form = Callable[[_Stored], dict[str, Any]]

# By the names in the rows of the families.
FORMS: dict[str, Form] = {
    "fused": _fused,
    "two_kernels": _two_kernels,
    "by_graph": _by_graph,
    "masked": _masked,
    "weight_norm": _weight_norm,
    "grouped": _grouped,
    "indy": _indy,
    "tflite": _tflite,
    "cudnn": _cudnn,
    "lingvo": _lingvo,
}
