"""An ONNX model of a network: batch first, with states and lengths as inputs.

    x [batch, time, I], lengths [batch], c_0 [batch, H], m_0 [batch, R], c_1, m_1, ...
        ->  outputs [batch, time, width], final_c_0, final_m_0, final_c_1, final_m_1, ...

Cells are numbered as in `network.cells`. One that the LSTM operator computes exactly is that
operator, every other one a Scan of standard operators. Source: onnx/docs/Operators.md.

Rules for sequences of unequal lengths: TensorFlow 1.15, python/ops/rnn.py. A Scan needs no reversal
of the valid part: a backward one meets the padding first, and keeps the initial state there. The
operator in onnxruntime (1.32) makes the state of a sequence without steps zero, which is put right.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from lstmstate.cells.activations import SELU_ALPHA, SELU_SCALE
from lstmstate.cells.cell import CellShape
from lstmstate.engines.canonical_network import Array, CanonicalCell, Network, Norm, Stage
from lstmstate.engines.numpy_functions import LEAK
from lstmstate.errors import MissingExtraError, UnsupportedError, printable
from lstmstate.exports.expressible import missing_parts
from lstmstate.exports.gate_weights import gate_weights
from lstmstate.exports.model_files import DataFile, ModelFiles
from lstmstate.exports.onnx_operator import DIRECTIONS, OPERATOR, lstm_node
from lstmstate.files.atomic import report_errors
from lstmstate.state.layouts import LAYOUTS

if TYPE_CHECKING:
    import onnx

_PRODUCER = "lstmstate"
_OPSET, _IR_VERSION = 22, 10  # of ONNX 1.17, which onnxruntime 1.21 and all later ones load
# A message of protobuf has less than 2 GiB, and takes several times its bytes while it is made.
_IN_MODEL_BYTES = 256 << 20
_DATA = ".data"  # the end of the name of the file next to it, with larger weights
_ALONE_BYTES = 1024  # weights of fewer bytes are in the model all the same
_ALIGNED = 4096  # onnx begins tensors of such a file at a page, so that they can be mapped
_LONGEST = (1 << 31) - 1  # a default for `lengths`: no sequence is longer


def model(network: Network, path: str) -> bytes | ModelFiles:
    """Return the model as the bytes of a file, large weights in a file next to it.

    Raises:
        UnsupportedError: ONNX or onnxruntime cannot be trusted with a cell.
        MissingExtraError: the package onnx is not installed.
    """
    try:
        from onnx import checker, helper
    except ImportError as error:
        raise MissingExtraError(
            "an ONNX model needs onnx, not installed here", advice="pip install 'lstmstate[onnx]'"
        ) from error
    nbytes = sum(_nbytes(cell) for cell in network.cells)
    is_large = nbytes > _IN_MODEL_BYTES
    if is_large:
        _refuse_name(path)
    weights = _Weights(f"{path}{_DATA}" if is_large else None)
    made = helper.make_model(
        _Model(network, weights).graph,
        producer_name=_PRODUCER,
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
    )
    written: bytes = made.SerializeToString()
    if weights.file is not None:
        _declare_outside(made.graph)
        checker.check_model(made, full_check=True)
        return ModelFiles(written, weights.file)
    checker.check_model(written, full_check=True)
    useless = _data_of(path)
    return ModelFiles(written, useless=useless) if useless else written


def _declare_outside(graph: onnx.GraphProto) -> None:
    """Make inputs of the weights in another file, so that the graph is checked without it."""
    from onnx import TensorProto, helper

    tensors = list(graph.initializer)
    del graph.initializer[:]
    for one in tensors:
        if one.data_location == TensorProto.EXTERNAL:
            graph.input.append(helper.make_tensor_value_info(one.name, one.data_type, one.dims))
        else:
            graph.initializer.append(one)


def _data_of(path: str) -> str | None:
    """Return the file with the weights of the model that is at a path, if an export wrote both."""
    import onnx
    from google.protobuf.message import DecodeError

    data = f"{path}{_DATA}"
    if not (os.path.isfile(path) and os.path.isfile(data)):
        return None
    try:
        with report_errors(path):
            found = onnx.load(path, load_external_data=False)
    except DecodeError:
        return None
    places = {
        entry.value
        for tensor in found.graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }
    is_ours = found.producer_name == _PRODUCER and os.path.basename(data) in places
    return data if is_ours else None


def _refuse_name(path: str) -> None:
    """Refuse a name that ONNX does not take for data: with `..`, a backslash, or not UTF-8."""
    name = os.path.basename(path)
    if ".." in name or "\\" in name or name != name.encode("utf-8", "replace").decode():
        raise UnsupportedError(
            "a model of this name cannot refer to its weights",
            path=path,
            advice="give the output another name",
        )


def source(network: Network, path: str) -> str:
    """Return the program that runs it."""
    cells = [CellShape(cell.name, cell.widths) for cell in network.cells]
    names = LAYOUTS["tuple"].array_names(cells, is_stack=len(cells) > 1)
    inputs = [f"{half}_{number}" for number in range(len(cells)) for half in "cm"]
    pairs = "".join(f"    {a!r}: {b!r},\n" for a, b in zip(inputs, names, strict=True))
    return f"""\
import onnxruntime

options = onnxruntime.SessionOptions()
options.log_severity_level = 3  # no warning that "lengths" has a default
session = onnxruntime.InferenceSession({path!r}, options)
names = {{  # of the model: of the state
{pairs}}}
feeds = {{name: state[own] for name, own in names.items()}}
# Sequences of unequal lengths: feed their "lengths", int64 [batch], too.
outputs, *after = session.run(None, {{"x": x, **feeds}})
state = dict(zip(names.values(), after))
"""


def _is_operator(cell: CanonicalCell) -> bool:
    """Whether the LSTM operator computes a cell exactly: onnxruntime's has no NaN and no Inf."""
    weights = (cell.kernel, cell.recurrent, cell.bias, *cell.peepholes.values())
    return not missing_parts(cell, OPERATOR) and all(np.isfinite(one).all() for one in weights)


def _nbytes(cell: CanonicalCell) -> int:
    """Return how many bytes its matrices have, at most: as an operator, none is diagonal."""
    units, width = cell.widths
    columns = 4 * (cell.input_size + width + 2) + (0 if cell.projection is None else width)
    return max(cell.dtype.itemsize, 4) * units * columns


class _Weights:
    """The constants of a model.

    Attributes:
        tensors: they, in the model.
        file: the values of those that are not; None if all are.
    """

    def __init__(self, path: str | None) -> None:
        self.tensors: list[onnx.TensorProto] = []
        self.file = None if path is None else DataFile(path)

    def add(self, name: str, shape: Sequence[int], parts: Sequence[Array]) -> None:
        """Add a constant whose values are in parts that follow on one another."""
        from onnx import TensorProto, numpy_helper

        nbytes = sum(part.nbytes for part in parts)
        if self.file is None or nbytes < _ALONE_BYTES:
            whole = parts[0] if len(parts) == 1 else np.concatenate(parts)
            self.tensors.append(numpy_helper.from_array(whole.reshape(shape), name))
            return
        tensor = TensorProto(name=name, dims=shape, data_type=_number_of(parts[0].dtype))
        tensor.data_location = TensorProto.EXTERNAL
        place = {
            "location": os.path.basename(self.file.path),
            "offset": self.file.add(parts, _ALIGNED),
            "length": nbytes,
        }
        for key, value in place.items():
            tensor.external_data.add(key=key, value=str(value))
        self.tensors.append(tensor)


class _Nodes:
    """Nodes of a graph, or of the body of a Scan; their values are numbered.

    Attributes:
        weights: constants of the whole model.
    """

    def __init__(
        self, dtype: np.dtype[Any], weights: _Weights, numbers: Iterator[int] | None = None
    ) -> None:
        self.dtype = dtype
        self.nodes: list[onnx.NodeProto] = []
        self.weights = weights
        self._numbers = numbers or count()

    def inner(self) -> _Nodes:
        """Return nodes for a body, which sees the values of these."""
        return _Nodes(self.dtype, self.weights, self._numbers)

    def name(self) -> str:
        """Return a name for a value."""
        return f"value_{next(self._numbers)}"

    def add(self, operator: str, *inputs: str, into: str = "", **attributes: Any) -> str:
        """Add a node with one output; return its name."""
        return self.add_all(operator, *inputs, into=[into or self.name()], **attributes)[0]

    def add_all(self, operator: str, *inputs: str, into: list[str], **attributes: Any) -> list[str]:
        """Add a node; return the names of its outputs."""
        from onnx import helper

        self.nodes.append(helper.make_node(operator, inputs, into, **attributes))
        return into

    def constant(self, values: Any, dtype: Any = np.int64) -> str:
        """Add a constant."""
        name, array = self.name(), np.asarray(values, dtype)
        self.weights.add(name, array.shape, [array])
        return name

    def number(self, value: float | Array) -> str:
        """Add a constant in the type of the network."""
        return self.constant(value, self.dtype)


# ---- activations


def _at_least(value: float) -> Callable[[_Nodes, str], str]:
    return lambda to, x: to.add("Max", x, to.number(value))


def _clip(low: float, high: float) -> Callable[[_Nodes, str], str]:
    return lambda to, x: to.add("Clip", x, to.number(low), to.number(high))


def _operator(name: str) -> Callable[[_Nodes, str], str]:
    return lambda to, x: to.add(name, x)


def _line(slope: float) -> Callable[[_Nodes, str], str]:
    def function(to: _Nodes, x: str) -> str:
        line = to.add("Add", to.add("Mul", x, to.number(slope)), to.number(0.5))
        return _clip(0, 1)(to, line)

    return function


def _exponential(alpha: float, scale: float) -> Callable[[_Nodes, str], str]:
    def function(to: _Nodes, x: str) -> str:
        exp = to.add("Exp", to.add("Min", x, to.number(0)))
        below = to.add("Mul", to.add("Sub", exp, to.number(1)), to.number(alpha * scale))
        return to.add("Add", below, to.add("Mul", _at_least(0)(to, x), to.number(scale)))

    return function


def _softplus(to: _Nodes, x: str) -> str:
    """max(x, 0) + log(1 + exp(-|x|)): nothing overflows."""
    exp = to.add("Exp", to.add("Neg", to.add("Abs", x)))
    return to.add("Add", _at_least(0)(to, x), to.add("Log", to.add("Add", exp, to.number(1))))


def _softsign(to: _Nodes, x: str) -> str:
    return to.add("Div", x, to.add("Add", to.add("Abs", x), to.number(1)))


def _leaky_relu(to: _Nodes, x: str) -> str:
    return to.add("Max", x, to.add("Mul", x, to.number(LEAK)))


# By the names of `cells.activations`; operators that onnxruntime has in float64, but for Erf.
FUNCTIONS: dict[str, Callable[[_Nodes, str], str]] = {
    "tanh": _operator("Tanh"),
    "sigmoid": _operator("Sigmoid"),
    "hard_sigmoid": _line(0.2),
    "keras3_hard_sigmoid": _line(1 / 6),
    "identity": lambda _, x: x,
    "relu": _at_least(0),
    "relu6": _clip(0, 6),
    "leaky_relu": _leaky_relu,
    "elu": _exponential(1.0, 1.0),
    "selu": _exponential(SELU_ALPHA, SELU_SCALE),
    "softplus": _softplus,
    "softsign": _softsign,
    "sin": _operator("Sin"),
    "erf": _operator("Erf"),
}


# ---- cells


def _step(body: _Nodes, cell: CanonicalCell, projected: str, c: str, m: str) -> tuple[str, str]:
    """Add a step of a cell; return its new c and m.

    Args:
        projected: x @ kernel, and the bias with it if there are no norms.
    """
    add, number, by_gate = body.add, body.number, gate_weights(cell)
    if cell.recurrent.ndim == 1:
        of_gates = add("Concat", *[m] * len(cell.gates), axis=1)
        own = add("Mul", of_gates, number(cell.recurrent))
    else:
        own = add("MatMul", m, number(cell.recurrent))
    names = [body.name() for _ in cell.gates]
    body.add_all("Split", add("Add", projected, own), into=names, axis=1, num_outputs=len(names))
    sums = dict(zip(cell.gates, names, strict=True))

    def activate(gate: str, c: str, function: str) -> str:
        value, weights = sums[gate], by_gate[gate]
        if weights.gamma is not None:
            value = _normalise(body, cell, value, Norm(weights.gamma, weights.bias))
        if weights.peephole is not None:
            value = add("Add", value, add("Mul", c, number(weights.peephole)))
        return FUNCTIONS[function](body, value)

    f = activate("f", c, cell.recurrent_activation)
    if "i" in cell.gates:
        i = activate("i", c, cell.recurrent_activation)
    else:
        i = add("Sub", number(1), f)
    j = activate("j", c, cell.candidate)
    c = add("Add", add("Mul", f, c), add("Mul", i, j))
    if "c" in cell.norms:
        c = _normalise(body, cell, c, cell.norms["c"])
    if cell.cell_clip is not None:
        c = _clip(-cell.cell_clip, cell.cell_clip)(body, c)
    o = activate("o", c, cell.recurrent_activation)
    m = add("Mul", o, FUNCTIONS[cell.activation](body, c))
    if cell.projection is not None:
        m = add("MatMul", m, number(cell.projection))
        if cell.proj_clip is not None:
            m = _clip(-cell.proj_clip, cell.proj_clip)(body, m)
    return c, m


def _normalise(body: _Nodes, cell: CanonicalCell, values: str, norm: Norm) -> str:
    """Layer norm over the units, in the order of operations of the NumPy engine."""
    add, axes = body.add, body.constant([1])
    centred = add("Sub", values, add("ReduceMean", values, axes))
    variance = add("ReduceMean", add("Mul", centred, centred), axes)
    deviation = add("Sqrt", add("Add", variance, body.number(cell.norm_epsilon)))
    scaled = add("Mul", centred, add("Div", body.number(norm.gamma), deviation))
    return add("Add", scaled, body.number(norm.beta))


class _Model:
    """The graph of a model: batch first outside, and time first inside.

    Attributes:
        graph: it.
    """

    def __init__(self, network: Network, weights: _Weights) -> None:
        from onnx import helper

        self._dtype = network.dtype
        # onnxruntime 1.32 has no float16 on a CPU: it adds casts, and crashes on some in a Scan.
        self._main = main = _Nodes(np.promote_types(network.dtype, np.float32), weights)
        # Columns beyond input_size are ignored by some cells, so that any number of them is taken.
        width: Any = "width" if network.first.takes_wider else network.first.input_size
        self._inputs = [_info("x", self._dtype, "batch", "time", width)]
        self._inputs.append(_info("lengths", np.int64, "batch"))
        self._outputs: list[onnx.ValueInfoProto] = []
        self._add_lengths()
        self._cells = count()
        x = main.add("Transpose", self._convert("x", main.dtype), perm=[1, 0, 2])
        for stage in network.stages:
            x = self._stage(x, stage)
        main.add("Transpose", self._convert(x, self._dtype), perm=[1, 0, 2], into="outputs")
        outputs = [_info("outputs", self._dtype, "batch", "time", *network.output_shape)]
        weights.add("lengths", (1,), [np.array([_LONGEST])])
        self.graph = helper.make_graph(
            main.nodes, "lstm", self._inputs, outputs + self._outputs, weights.tensors
        )

    def _convert(self, value: str, dtype: np.dtype[Any]) -> str:
        """Add a Cast of numbers outside to those inside or back, if they are not the same."""
        if self._dtype == self._main.dtype:
            return value
        return self._main.add("Cast", value, to=_number_of(dtype))

    def _add_lengths(self) -> None:
        """Add what all cells need to know of the lengths, and of the batch."""
        add, constant = self._main.add, self._main.constant
        zero, one, ends = constant(0), constant(1), constant([1])
        self._batch = add("Shape", "x", start=0, end=1)
        # An empty batch crashes onnxruntime's LSTM (1.32). It has no first sequence: an error.
        time = add("Shape", add("Gather", "x", zero, axis=0), start=0, end=1)
        within = add("Max", add("Min", "lengths", time), zero)
        lengths = add("Unsqueeze", add("Expand", within, self._batch), ends)  # [batch, 1]
        self._is_empty = add("Equal", lengths, zero)
        self._int_lengths = add("Cast", add("Squeeze", lengths, ends), to=_number_of(np.int32))
        steps = add("Unsqueeze", add("Range", zero, add("Squeeze", time), one), constant([1, 2]))
        self._is_valid = add("Less", steps, lengths)  # [time, batch, 1]

    def _stage(self, x: str, stage: Stage) -> str:
        """Add the chains of a stage; return the name of its outputs `[time, batch, width]`."""
        ends = []
        for direction, chain in enumerate(stage):
            y = x
            for cell in chain:
                y = self._cell(y, cell, direction)
            ends.append(y)
        return ends[0] if len(ends) == 1 else self._main.add("Concat", *ends, axis=2)

    def _cell(self, x: str, cell: CanonicalCell, direction: int) -> str:
        """Add a cell; return the name of its outputs `[time, batch, R]`."""
        main, number = self._main, next(self._cells)
        if cell.takes_wider:
            start, stop, axis = (main.constant([n]) for n in (0, cell.input_size, 2))
            x = main.add("Slice", x, start, stop, axis)
        halves = cell.widths._asdict()
        shapes = {half: ("batch", size) for half, size in halves.items()}
        self._inputs += [_info(f"{h}_{number}", self._dtype, *shapes[h]) for h in shapes]
        self._outputs += [_info(f"final_{h}_{number}", self._dtype, *shapes[h]) for h in shapes]
        # The batch of a state must be that of x; otherwise the Reshape fails.
        before = []
        for half, size in halves.items():
            shape = main.add("Concat", self._batch, main.constant([size]), axis=0)
            before.append(self._convert(main.add("Reshape", f"{half}_{number}", shape), main.dtype))
        add = self._add_lstm if _is_operator(cell) else self._add_scan
        *after, y = add(x, before, cell, number, direction)
        for half, values in zip(halves, after, strict=True):
            main.add("Identity", self._convert(values, self._dtype), into=f"final_{half}_{number}")
        return y

    def _add_lstm(
        self, x: str, before: list[str], cell: CanonicalCell, number: int, direction: int
    ) -> list[str]:
        """Add a cell as an LSTM operator; return its c and m after all steps, and its outputs."""
        main = self._main
        first, second = main.constant([0]), main.constant([1])
        c, m = (main.add("Unsqueeze", state, first) for state in before)
        y, h_n, c_n = (main.name() for _ in range(3))
        inputs = [x, self._int_lengths, m, c]
        node, weights = lstm_node(cell, number, DIRECTIONS[direction], inputs, [y, h_n, c_n])
        main.nodes.append(node)
        for name, parts in weights.items():
            rows = sum(map(len, parts))
            main.weights.add(name, (1, rows, *parts[0].shape[1:]), parts)
        after = [
            main.add("Where", self._is_empty, old, main.add("Squeeze", new, first))
            for old, new in zip(before, (c_n, h_n), strict=True)
        ]
        return [*after, main.add("Squeeze", y, second)]

    def _add_scan(
        self, x: str, before: list[str], cell: CanonicalCell, number: int, direction: int
    ) -> list[str]:
        """Add a cell as a Scan of standard operators; return the same."""
        from onnx import helper

        main, body = self._main, self._main.inner()
        projected = main.add("MatMul", x, main.number(cell.kernel))
        if not cell.norms:
            by_gate = gate_weights(cell)
            bias = np.concatenate([by_gate[gate].bias for gate in cell.gates])
            projected = main.add("Add", projected, main.number(bias))
        c, m, step, is_valid = (body.name() for _ in range(4))
        c_new, m_new = _step(body, cell, step, c, m)
        made = [
            body.add("Where", is_valid, c_new, c),
            body.add("Where", is_valid, m_new, m),
            body.add("Where", is_valid, m_new, body.number(0)),
        ]
        units, width = cell.widths
        graph = helper.make_graph(
            body.nodes,
            f"step_{number}",
            [
                _info(c, body.dtype, "batch", units),
                _info(m, body.dtype, "batch", width),
                _info(step, body.dtype, "batch", cell.kernel.shape[1]),
                _info(is_valid, np.bool_, "batch", 1),
            ],
            [
                _info(name, body.dtype, "batch", size)
                for name, size in zip(made, (units, width, width), strict=True)
            ],
        )
        return main.add_all(
            "Scan",
            *before,
            projected,
            self._is_valid,
            into=[main.name() for _ in made],
            name=f"scan_{number}",
            doc_string=printable(cell.name),
            body=graph,
            num_scan_inputs=2,
            scan_input_directions=[direction] * 2,
            scan_output_directions=[direction],
        )


def _info(name: str, dtype: Any, *shape: Any) -> onnx.ValueInfoProto:
    """Return the declaration of a value."""
    from onnx import helper

    return helper.make_tensor_value_info(name, _number_of(dtype), shape)


def _number_of(dtype: Any) -> int:
    """Return ONNX's number of a type."""
    from onnx import helper

    found: int = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return found
