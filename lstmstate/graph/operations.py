"""TensorFlow operations in NumPy: one row per operation that a recurrent step is made of.

A row makes a function from a node's attributes once, when a plan is compiled; the function takes
arrays and returns an array, or a tuple of several outputs. No row reads a file, runs code from the
graph, or allocates more than `limits.MAX_EVALUATED_BYTES`: results that can be larger than the
operands are measured before they are computed.

Sources: TensorFlow v1.15.0, core/ops/{math,array,nn,rnn,data_flow,list}_ops.cc and their kernels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from lstmstate import limits
from lstmstate.checkpoint import dtypes
from lstmstate.checkpoint import protobuf as wire
from lstmstate.checkpoint.fused_ops import (
    BLOCK_C,
    BLOCK_M,
    BLOCK_STEPS,
    CUDNN_OPS,
    BlockOptions,
    block_options,
)
from lstmstate.checkpoint.graph_node import Node, partial_shape
from lstmstate.checkpoint.tensor_proto import tensor_value
from lstmstate.errors import CorruptError, UnsupportedError
from lstmstate.named_tuple import NamedTuple

Array = Any  # its type is that of the graph's computation
Function = Callable[..., Any]

_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805


class Precision(NamedTuple):
    """The arithmetic of an evaluation.

    Attributes:
        exact: whether every floating-point value is a float64. A cast to a narrower type still
            rounds the values to it, so that half precision in a graph shows.
        second: whether float16 is rounded as TensorFlow 2.x does, which sums products in float32,
            and not as 1.x does, which rounds every sum (measured: 1.15.5 and 2.21, CPU).
        draw: the value in (0, 1) that every random operation returns. A result that differs
            between two draws is random.
    """

    exact: bool = False
    second: bool = False
    draw: float = 0.5

    def dtype(self, dtype: Any) -> np.dtype[Any]:
        """Return the type used to evaluate values of a type."""
        found = np.dtype(dtype)
        return np.dtype(np.float64) if self.exact and found.kind == "f" else found

    def cast(self, value: Array, dtype: Any) -> Array:
        """Return a value rounded to a type, in the type of this evaluation."""
        rounded = np.asarray(value).astype(dtype)
        return rounded.astype(self.dtype(dtype), copy=False)


Maker = Callable[[Node, Precision], Function]


def bounded(shape: Sequence[int] | Array, itemsize: int = 8) -> tuple[int, ...]:
    """Return a shape if an array of it is small enough to compute.

    Raises:
        UnsupportedError: it is too large, or not a valid shape.
    """
    sizes = tuple(int(size) for size in np.ravel(shape))
    if any(size < 0 for size in sizes) or len(sizes) > limits.NUMPY_RANK:
        raise UnsupportedError(f"the graph makes an array of shape {list(sizes)}")
    if math.prod(sizes) * itemsize > limits.MAX_EVALUATED_BYTES:
        raise UnsupportedError(
            f"the graph makes an array of {list(sizes)}: more than "
            f"{limits.MAX_EVALUATED_BYTES:,} bytes"
        )
    return sizes


# ---- tables of one kind


def _as_it_is(function: Function) -> Maker:
    return lambda node, precision: function


def _binary(function: Function) -> Maker:
    """A broadcasting function of two operands."""

    def apply(a: Array, b: Array) -> Any:
        if np.shape(a) != np.shape(b):
            bounded(np.broadcast_shapes(np.shape(a), np.shape(b)))
        return function(a, b)

    return _as_it_is(apply)


def _sigmoid(x: Array, *, second: bool = False) -> Array:
    """The kernel of 2.x computes exp(x) / (1 + exp(x)), which shows in float16 alone."""
    if second and x.dtype == np.float16:
        exp = np.exp(x)
        return np.asarray(exp / (exp + np.float16(1)))
    one = x.dtype.type(1)
    return np.asarray(one / (one + np.exp(-x)))


def _selu(x: Array) -> Array:
    scale, alpha = x.dtype.type(_SELU_SCALE), x.dtype.type(_SELU_SCALE * _SELU_ALPHA)
    return np.where(x < 0, alpha * np.expm1(np.minimum(x, 0)), scale * x)


def _leaky_relu(node: Node, precision: Precision) -> Function:
    slope = node.real("alpha")
    leak = 0.2 if slope is None else slope
    return lambda x: np.where(x < 0, x * x.dtype.type(leak), x)


def _truncated_divide(a: Array, b: Array) -> Array:
    if np.asarray(a).dtype.kind == "f":
        return np.asarray(np.divide(a, b))
    return np.asarray(np.trunc(np.divide(a, b))).astype(np.asarray(a).dtype)


def _divide_no_nan(a: Array, b: Array) -> Array:
    return np.where(b == 0, np.zeros((), np.asarray(a).dtype), np.divide(a, np.where(b == 0, 1, b)))


_UNARY: dict[str, Function] = {
    "Neg": np.negative,
    "Abs": np.abs,
    "Sign": np.sign,
    "Exp": np.exp,
    "Expm1": np.expm1,
    "Log": np.log,
    "Log1p": np.log1p,
    "Sqrt": np.sqrt,
    "Rsqrt": lambda x: np.asarray(1 / np.sqrt(x)),
    "Square": np.square,
    "Reciprocal": np.reciprocal,
    "Inv": np.reciprocal,
    "Tanh": np.tanh,
    "Relu": lambda x: np.maximum(x, x.dtype.type(0)),
    "Relu6": lambda x: np.clip(x, x.dtype.type(0), x.dtype.type(6)),
    "Elu": lambda x: np.where(x < 0, np.expm1(np.minimum(x, 0)), x),
    "Selu": _selu,
    "Softplus": lambda x: np.logaddexp(x, x.dtype.type(0)),
    "Softsign": lambda x: x / (np.abs(x) + x.dtype.type(1)),
    "Sin": np.sin,
    "Cos": np.cos,
    "Tan": np.tan,
    "Atan": np.arctan,
    "Sinh": np.sinh,
    "Cosh": np.cosh,
    "Erf": lambda x: np.asarray(np.vectorize(math.erf, otypes=[x.dtype])(x)),
    "Erfc": lambda x: np.asarray(np.vectorize(math.erfc, otypes=[x.dtype])(x)),
    "Round": np.rint,
    "Rint": np.rint,
    "Floor": np.floor,
    "Ceil": np.ceil,
    "LogicalNot": np.logical_not,
    "IsNan": np.isnan,
    "IsInf": np.isinf,
    "IsFinite": np.isfinite,
    "ZerosLike": np.zeros_like,
    "OnesLike": np.ones_like,
    "InvertPermutation": np.argsort,
}

_BINARY: dict[str, Function] = {
    "Add": np.add,
    "AddV2": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "RealDiv": np.divide,
    "Div": _truncated_divide,
    "TruncateDiv": _truncated_divide,
    "FloorDiv": np.floor_divide,
    "FloorMod": np.mod,
    "Mod": np.fmod,
    "TruncateMod": np.fmod,
    "Pow": np.power,
    "Maximum": np.maximum,
    "Minimum": np.minimum,
    "Atan2": np.arctan2,
    "SquaredDifference": lambda a, b: np.square(a - b),
    "DivNoNan": _divide_no_nan,
    "MulNoNan": lambda a, b: np.where(b == 0, np.zeros((), np.asarray(b).dtype), a * b),
    "Less": np.less,
    "LessEqual": np.less_equal,
    "Greater": np.greater,
    "GreaterEqual": np.greater_equal,
    "Equal": np.equal,
    "NotEqual": np.not_equal,
    "LogicalAnd": np.logical_and,
    "LogicalOr": np.logical_or,
}
ELEMENTWISE = frozenset((*_UNARY, *_BINARY))

# Operations that pass on their first input.
_IDENTITIES = """
    Identity RefIdentity Snapshot StopGradient PreventGradient CheckNumerics EnsureShape DeepCopy
    PlaceholderWithDefault ReadVariableOp Print PrintV2 Enter RefEnter LoopCond PlaceholderV2
    NextIteration RefNextIteration Exit RefExit
""".split()


# ---- products


def _product(a: Array, b: Array, *, second: bool = False) -> Array:
    if a.ndim < 2 or b.ndim < 2 or a.shape[-1] != b.shape[-2]:
        raise UnsupportedError(
            f"the graph multiplies a matrix of {list(a.shape)} by one of {list(b.shape)}"
        )
    bounded((*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1]))
    if a.dtype == np.float16 and second:
        return np.asarray((a.astype(np.float32) @ b.astype(np.float32)).astype(np.float16))
    if a.dtype == np.float16:
        lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        total = np.zeros((*lead, a.shape[-2], b.shape[-1]), np.float16)
        for at in range(a.shape[-1]):
            total += a[..., :, at, None] * b[..., at, None, :]
        return total
    return np.asarray(a @ b)


def _matmul(node: Node, precision: Precision) -> Function:
    names = ("adj_x", "adj_y") if node.op.startswith("Batch") else ("transpose_a", "transpose_b")
    turn_a, turn_b = (bool(node.number(name)) for name in names)

    def multiply(a: Array, b: Array) -> Array:
        a, b = a.swapaxes(-1, -2) if turn_a else a, b.swapaxes(-1, -2) if turn_b else b
        return _product(a, b, second=precision.second)

    return multiply


def _einsum(node: Node, precision: Precision) -> Function:
    equation = node.string("equation") or ""

    def multiply(*operands: Array) -> Array:
        _, _, after = equation.partition("->")
        given = equation.partition("->")[0].split(",")
        sizes: dict[str, int] = {}
        for letters, operand in zip(given, operands, strict=True):
            if "." in letters or len(letters) != operand.ndim:
                raise UnsupportedError(f"the graph has an Einsum of {equation!r:.60}")
            sizes.update(zip(letters, operand.shape, strict=True))
        bounded([sizes[letter] for letter in after])
        return np.asarray(np.einsum(equation, *operands, optimize=len(operands) > 2))

    return multiply


def _bias_add(node: Node, precision: Precision) -> Function:
    channels_first = node.string("data_format") == "NCHW"

    def add(value: Array, bias: Array) -> Array:
        if channels_first and value.ndim > 2:
            return np.asarray(value + bias.reshape((-1,) + (1,) * (value.ndim - 2)))
        if bias.ndim != 1 or value.shape[-1:] != bias.shape:
            raise UnsupportedError(
                f"the graph adds a bias of {list(bias.shape)} to {list(value.shape)}"
            )
        return np.asarray(value + bias)

    return add


def _add_n(node: Node, precision: Precision) -> Function:
    def add(first: Array, *others: Array) -> Array:
        total = first
        for other in others:
            total = total + other
        return total

    return add


def _convolution(node: Node, precision: Precision) -> Function:
    """A convolution, channels last: one product for each point of its kernel."""

    def convolve(x: Array, kernel: Array) -> Array:
        if x.ndim != kernel.ndim or x.shape[-1] != kernel.shape[-2]:
            raise UnsupportedError(f"the graph convolves {list(x.shape)} with {list(kernel.shape)}")
        return np.sum(
            [part @ kernel[point] for point, part in _windows(node, x, kernel.shape[:-2], 0)], 0
        )

    return convolve


def _pool(node: Node, precision: Precision) -> Function:
    """The largest or the mean of each window, without its padding."""
    widths = (node.numbers("ksize") or [])[1:-1]

    def pool(x: Array) -> Array:
        if node.op.startswith("Max"):
            return np.max([part for _, part in _windows(node, x, widths, -np.inf)], 0)
        counts = np.sum([part for _, part in _windows(node, np.ones_like(x), widths, 0)], 0)
        return np.sum([part for _, part in _windows(node, x, widths, 0)], 0) / counts

    return pool


def _windows(
    node: Node, x: Array, widths: Sequence[int], fill: float
) -> Iterator[tuple[tuple[int, ...], Array]]:
    """Yield each point of a window, with the elements under it at every place of the window."""
    axes = len(widths)
    strides = node.numbers("strides") or [1] * (axes + 2)
    dilations = node.numbers("dilations") or [1] * (axes + 2)
    padding = node.string("padding")
    if (node.string("data_format") or "N").startswith("NC") or padding not in ("SAME", "VALID"):
        raise UnsupportedError("the graph has a window with the channels first, or its own padding")
    if x.ndim != axes + 2:
        raise UnsupportedError(f"the graph has a window of {axes} axes over {list(x.shape)}")
    pads, sizes = [(0, 0)], []
    for width, size, step, apart in zip(
        widths, x.shape[1:-1], strides[1:-1], dilations[1:-1], strict=True
    ):
        reach = (width - 1) * apart + 1
        is_same = padding == "SAME"
        count = -(-size // step) if is_same else max(-(-(size - reach + 1) // step), 0)
        missing = max((count - 1) * step + reach - size, 0) if is_same else 0
        pads.append((missing // 2, missing - missing // 2))
        sizes.append(count)
    bounded([n + sum(pad) for n, pad in zip(x.shape, [*pads, (0, 0)], strict=True)])
    bounded((x.shape[0], *sizes, x.shape[-1], *widths))
    padded = np.pad(x, [*pads, (0, 0)], constant_values=fill)
    for point in np.ndindex(*widths):
        places = tuple(
            slice(at * apart, at * apart + (count - 1) * step + 1, step)
            for at, count, step, apart in zip(
                point, sizes, strides[1:-1], dilations[1:-1], strict=True
            )
        )
        yield point, padded[(slice(None), *places)]


def _batch_norm(node: Node, precision: Precision) -> Function:
    epsilon = node.real("epsilon")
    training = node.number("is_training")
    if node.string("data_format") == "NCHW":
        raise UnsupportedError("the graph has a FusedBatchNorm with the channels first")

    def normalise(
        x: Array, scale: Array, offset: Array, mean: Array, variance: Array
    ) -> tuple[Array, ...]:
        if training is None or training:
            axes = tuple(range(x.ndim - 1))
            mean, variance = x.mean(axes), x.var(axes)
        small = x.dtype.type(1e-4 if epsilon is None else epsilon)
        y = (x - mean) / np.sqrt(variance + small) * scale + offset
        return y.astype(x.dtype, copy=False), mean, variance, mean, variance

    return normalise


# ---- shapes


def _axis(value: Array, rank: int) -> int:
    axis = int(np.asarray(value).reshape(-1)[0]) if np.size(value) == 1 else rank
    if not -rank <= axis < rank:
        raise UnsupportedError(f"the graph names axis {axis} of an array with {rank}")
    return axis % rank if rank else 0


def _concatenate(axis: Array, values: Sequence[Array]) -> Array:
    at = _axis(axis, values[0].ndim)
    bounded([sum(value.shape[at] for value in values), *values[0].shape])
    return np.concatenate(values, at)


def _pack(node: Node, precision: Precision) -> Function:
    axis = node.number("axis") or 0
    return lambda *values: np.stack(values, axis)


def _unpack(node: Node, precision: Precision) -> Function:
    axis, count = node.number("axis") or 0, node.number("num") or 0

    def unpack(value: Array) -> tuple[Array, ...]:
        parts = np.moveaxis(value, axis, 0)
        if len(parts) != count:
            raise UnsupportedError(f"the graph unpacks {count} parts of {list(value.shape)}")
        return tuple(parts)

    return unpack


def _split(node: Node, precision: Precision) -> Function:
    count = node.number("num_split") or 1

    def split(axis: Array, value: Array) -> tuple[Array, ...]:
        at = _axis(axis, value.ndim)
        if count < 1 or value.shape[at] % count:
            raise UnsupportedError(f"the graph splits {list(value.shape)} into {count} parts")
        return tuple(np.split(value, count, at))

    return split


def _split_sizes(value: Array, sizes: Array, axis: Array) -> tuple[Array, ...]:
    at, whole = _axis(axis, value.ndim), [int(size) for size in np.asarray(sizes).reshape(-1)]
    rest = value.shape[at] - sum(size for size in whole if size >= 0)
    whole = [rest if size < 0 else size for size in whole]
    if rest < 0 or sum(whole) != value.shape[at]:
        raise UnsupportedError(f"the graph splits {list(value.shape)} into parts of {whole}")
    return tuple(np.split(value, np.cumsum(whole)[:-1], at))


def _slice(value: Array, begin: Array, size: Array) -> Array:
    cuts = []
    for start, length, whole in zip(begin, size, value.shape, strict=True):
        stop = whole if length < 0 else int(start) + int(length)
        if not 0 <= start <= stop <= whole:
            raise UnsupportedError(f"the graph slices {list(value.shape)} beyond its end")
        cuts.append(slice(int(start), stop))
    return value[tuple(cuts)]


def _strided_slice(node: Node, precision: Precision) -> Function:
    masks = {
        name: node.number(f"{name}_mask") or 0
        for name in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
    }

    def cut(value: Array, begin: Array, end: Array, strides: Array) -> Array:
        index: list[Any] = []
        for at, (start, stop, step) in enumerate(zip(begin, end, strides, strict=True)):
            bit = 1 << at
            if masks["ellipsis"] & bit:
                index.append(Ellipsis)
            elif masks["new_axis"] & bit:
                index.append(None)
            elif masks["shrink_axis"] & bit:
                index.append(int(start))
            else:
                first = None if masks["begin"] & bit else int(start)
                last = None if masks["end"] & bit else int(stop)
                index.append(slice(first, last, int(step)))
        try:
            return value[tuple(index)]
        except (IndexError, ValueError) as error:
            raise UnsupportedError(
                f"the graph slices an array of {list(value.shape)} beyond its end"
            ) from error

    return cut


def _reshape(value: Array, shape: Array) -> Array:
    sizes = [int(size) for size in np.asarray(shape).reshape(-1)]
    try:
        return value.reshape(sizes)
    except ValueError as error:
        raise UnsupportedError(
            f"the graph reshapes an array of {list(value.shape)} to {sizes}"
        ) from error


def _squeeze(node: Node, precision: Precision) -> Function:
    axes = node.numbers("squeeze_dims") or node.numbers("axis") or []
    return lambda value: np.squeeze(value, tuple(axes) if axes else None)


def _tile(value: Array, multiples: Array) -> Array:
    bounded([size * int(times) for size, times in zip(value.shape, multiples, strict=True)])
    return np.tile(value, [int(times) for times in multiples])


def _gather(node: Node, precision: Precision) -> Function:
    if node.number("batch_dims"):
        raise UnsupportedError("the graph gathers with batch_dims")

    def gather(values: Array, indices: Array, axis: Array | None = None) -> Array:
        at = 0 if axis is None else _axis(axis, values.ndim)
        bounded((*np.shape(indices), *values.shape[:at], *values.shape[at + 1 :]))
        if np.size(indices) and not (np.min(indices) >= 0 and np.max(indices) < values.shape[at]):
            raise UnsupportedError("the graph gathers beyond the end of an array")
        return np.take(values, indices, at)

    return gather


def _gather_nd(values: Array, indices: Array) -> Array:
    index = np.moveaxis(np.asarray(indices), -1, 0)
    bounded((*np.shape(indices)[:-1], *values.shape[len(index) :]))
    for at, size in zip(index, values.shape, strict=False):
        if at.size and not (at.min() >= 0 and at.max() < size):
            raise UnsupportedError("the graph gathers beyond the end of an array")
    return np.asarray(values[tuple(index)])


def _cast(node: Node, precision: Precision) -> Function:
    target = numpy_dtype(node, "DstT")
    return lambda value: precision.cast(value, target)


def _integers(node: Node) -> np.dtype[Any]:
    number = node.number_of_type("out_type")
    return np.dtype(np.int32 if number is None else dtypes.by_number(number).storage or "i4")


def _shape(node: Node, precision: Precision) -> Function:
    kind = _integers(node)
    return lambda value: np.array(np.shape(value), kind)


def _shape_n(node: Node, precision: Precision) -> Function:
    kind = _integers(node)
    return lambda *values: tuple(np.array(np.shape(value), kind) for value in values)


def _range(start: Array, limit: Array, delta: Array) -> Array:
    if not delta:
        raise UnsupportedError("the graph has a Range with a step of 0")
    bounded([max(math.ceil((limit - start) / delta), 0)])
    return np.arange(start, limit, delta, dtype=np.result_type(start, limit, delta))


def _pad(value: Array, pads: Array, constant: Array | float = 0) -> Array:
    widths = [(int(before), int(after)) for before, after in np.asarray(pads)]
    bounded([size + sum(pad) for size, pad in zip(value.shape, widths, strict=True)])
    return np.pad(value, widths, constant_values=np.asarray(constant, value.dtype))


def _reverse(value: Array, axes: Array) -> Array:
    flags = np.asarray(axes).reshape(-1)
    found = np.flatnonzero(flags) if flags.dtype == bool else flags
    return np.flip(value, tuple(_axis(axis, value.ndim) for axis in found))


def _reverse_sequence(node: Node, precision: Precision) -> Function:
    time, batch = node.number("seq_dim") or 0, node.number("batch_dim") or 0

    def reverse(value: Array, lengths: Array) -> Array:
        moved = np.moveaxis(value, (batch, time), (0, 1)).copy()
        for row, length in zip(moved, np.asarray(lengths).reshape(-1), strict=True):
            if not 0 <= length <= len(row):
                raise UnsupportedError("the graph reverses more steps than a sequence has")
            row[:length] = row[:length][::-1].copy()
        return np.moveaxis(moved, (0, 1), (batch, time))

    return reverse


def _one_hot(node: Node, precision: Precision) -> Function:
    axis = node.number("axis")
    at = -1 if axis is None else axis

    def encode(indices: Array, depth: Array, on: Array, off: Array) -> Array:
        bounded((*np.shape(indices), int(depth)))
        found: Array = np.where(np.asarray(indices)[..., None] == np.arange(int(depth)), on, off)
        return np.moveaxis(found, -1, at)

    return encode


def _select(condition: Array, yes: Array, no: Array) -> Array:
    """Select takes a row for each element of a condition with one axis; SelectV2 broadcasts."""
    condition = np.asarray(condition)
    if condition.ndim == 1 and np.ndim(yes) > 1:
        condition = condition.reshape((-1,) + (1,) * (np.ndim(yes) - 1))
    bounded(np.broadcast_shapes(condition.shape, np.shape(yes), np.shape(no)))
    return np.where(condition, yes, no)


def _select_v2(condition: Array, yes: Array, no: Array) -> Array:
    bounded(np.broadcast_shapes(np.shape(condition), np.shape(yes), np.shape(no)))
    return np.where(condition, yes, no)


def _cumulate(node: Node, precision: Precision) -> Function:
    if node.number("exclusive") or node.number("reverse"):
        raise UnsupportedError("the graph has a Cumsum that is exclusive or reversed")
    function = np.cumsum if node.op == "Cumsum" else np.cumprod
    return lambda value, axis: function(value, _axis(axis, value.ndim), dtype=value.dtype)


# ---- reductions


def _reduction(function: Function) -> Maker:
    def make(node: Node, precision: Precision) -> Function:
        keep = bool(node.number("keep_dims") or node.number("keepdims"))

        def reduce(value: Array, axes: Array) -> Array:
            along = tuple({_axis(axis, value.ndim) for axis in np.asarray(axes).reshape(-1)})
            return np.asarray(function(value, axis=along, keepdims=keep)).astype(
                value.dtype, copy=False
            )

        return reduce

    return make


def _arg(function: Function) -> Maker:
    def make(node: Node, precision: Precision) -> Function:
        number = node.number_of_type("output_type")
        kind = np.int64 if number is None else dtypes.by_number(number).storage
        return lambda value, axis: np.asarray(function(value, _axis(axis, value.ndim))).astype(kind)

    return make


def _softmax(value: Array) -> Array:
    exp = np.exp(value - value.max(-1, keepdims=True))
    return np.asarray(exp / exp.sum(-1, keepdims=True))


def _log_softmax(value: Array) -> Array:
    shifted = value - value.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))


# ---- cells that are one operation


def _block_cell(node: Node, precision: Precision) -> Function:
    """LSTMBlockCell: (x, c, m, kernel, w_i, w_f, w_o, bias) to i, c, f, o, j, act(c), m."""
    options = block_options(node)
    return lambda x, c, m, kernel, *rest: _block_step(options, x, c, m, kernel, *rest)


def _block_sequence(node: Node, precision: Precision) -> Function:
    """BlockLSTM: the number of steps, x `[time, batch, input]`, then as LSTMBlockCell."""
    options = block_options(node)

    def run(steps: Array, x: Array, c: Array, m: Array, kernel: Array, *rest: Array) -> Any:
        found = []
        valid = min(int(steps), len(x))
        for row in x[:valid]:
            one = _block_step(options, row, c, m, kernel, *rest)
            found.append(one)
            c, m = one[BLOCK_C], one[BLOCK_M]
        blank = np.zeros((len(x) - valid, *c.shape), c.dtype)
        return tuple(
            np.concatenate([np.stack(parts), blank]) if found else blank
            for parts in (zip(*found, strict=True) if found else ((),) * 7)
        )

    return run


def _block_step(
    options: BlockOptions,
    x: Array,
    c: Array,
    m: Array,
    kernel: Array,
    w_i: Array,
    w_f: Array,
    w_o: Array,
    bias: Array,
) -> tuple[Array, ...]:
    columns = _product(np.concatenate([x, m], 1), kernel) + bias
    gates = dict(zip(options.gate_order, np.split(columns, 4, 1), strict=True))
    i, j = gates["i"], np.tanh(gates["j"])
    f, o = gates["f"] + x.dtype.type(options.forget_bias), gates["o"]
    if options.peepholes:
        i, f = i + c * w_i, f + c * w_f
    i, f = _sigmoid(i), _sigmoid(f)
    c = f * c + i * j
    if options.clip > 0:
        c = np.clip(c, x.dtype.type(-options.clip), x.dtype.type(options.clip))
    o = _sigmoid(o + c * w_o if options.peepholes else o)
    squashed = np.tanh(c)
    return i, c, f, o, j, squashed, o * squashed


_CUDNN_KIND = {
    "rnn_mode": "lstm",
    "input_mode": "linear_input",
    "direction": "unidirectional",
}


def _cudnn_rnn(node: Node, precision: Precision) -> Function:
    """CudnnRNN of one LSTM layer: x `[time, batch, input]`, m and c `[1, batch, H]`, weights.

    The weights are one vector: for each gate i, f, c, o a matrix `[H, input]`, then one `[H, H]`,
    then two biases. V3 takes the lengths of the sequences too. It returns every m, the last m and
    c, two buffers, and every c, which TensorFlow's does not. Source: cuDNN's
    cudnnGetRNNWeightParams, and core/ops/cudnn_rnn_ops.cc.
    """
    for name, kind in _CUDNN_KIND.items():
        if (found := node.string(name) or kind) != kind:
            raise UnsupportedError(f"{node.op} with {name} {found} is not evaluated")
    if node.number("num_proj") or node.number("time_major") == 0:
        raise UnsupportedError(f"{node.op} with a projection, or batch first, is not evaluated")

    def run(x: Array, m: Array, c: Array, weights: Array, lengths: Array | None = None) -> Any:
        inputs, units = x.shape[-1], c.shape[-1]
        sizes = [4 * units * inputs, 4 * units * units, 4 * units, 4 * units]
        if len(c) != 1 or weights.shape != (sum(sizes),):
            raise UnsupportedError(f"{node.op} of more than one layer is not evaluated")
        if lengths is not None and np.any(lengths != len(x)):
            raise UnsupportedError(f"{node.op} over sequences of unequal lengths is not evaluated")
        kernel, recurrent, *biases = np.split(weights, np.cumsum(sizes)[:-1])
        by_input, by_m = kernel.reshape(-1, inputs).T, recurrent.reshape(-1, units).T
        m, c = m[0], c[0]
        steps = []
        for row in x:
            columns = _product(row, by_input) + _product(m, by_m) + biases[0] + biases[1]
            i, f, j, o = np.split(columns, 4, 1)
            c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(j)
            m = _sigmoid(o) * np.tanh(c)
            steps.append((m, c))
        blank = np.zeros(0, x.dtype)
        every_m, every_c = (np.stack(parts) for parts in zip(*steps, strict=True))
        return every_m, m[None], c[None], blank, blank, every_c

    return run


# ---- rounding for quantised training


def _fake_quantise(value: Array, low: Array, high: Array, bits: int, narrow: bool) -> Array:
    """FakeQuantWithMinMax: core/kernels/fake_quant_ops_functor.h, with its nudged range."""
    least, most = (1 if narrow else 0), (1 << bits) - 1
    scale = (high - low) / (most - least)
    with np.errstate(divide="ignore", invalid="ignore"):
        zero = least - low / scale
    nudged = np.where(zero < least, least, np.where(zero > most, most, np.floor(zero + 0.5)))
    bottom, top = (least - nudged) * scale, (most - nudged) * scale
    clipped = np.clip(value, bottom, top)
    found = np.floor((clipped - bottom) / scale + 0.5) * scale + bottom
    return np.asarray(found).astype(value.dtype, copy=False)


def _fake_quant(node: Node, precision: Precision) -> Function:
    bits, narrow = node.number("num_bits") or 8, bool(node.number("narrow_range"))
    low, high = node.real("min"), node.real("max")
    if not node.op.endswith("Args"):
        return lambda value, least, most: _fake_quantise(value, least, most, bits, narrow)
    least, most = -6.0 if low is None else low, 6.0 if high is None else high
    return lambda value: _fake_quantise(
        value, value.dtype.type(least), value.dtype.type(most), bits, narrow
    )


# ---- arrays of steps


def element(values: Sequence[Array | None], at: int) -> Array:
    """Return an element of an array that a loop writes; zeros if it was not written.

    A loop may end with its longest sequence, before the end of the array.
    """
    found = values[at] if 0 <= at < len(values) else None
    if found is None and 0 <= at < len(values):
        written = next((value for value in values if value is not None), None)
        found = None if written is None else np.zeros_like(written)
    if found is None:
        raise UnsupportedError(f"the graph reads step {at}, which was not written")
    return found


class TensorArray:
    """The elements of a TensorArray; its flow is the object itself.

    Elements that were not written are zeros if another element shows their shape: a loop that ends
    with the longest sequence of a batch does not write all.

    Attributes:
        is_input: whether a tensor was scattered into it, which has to have every element.
    """

    def __init__(self, size: int, *, grows: bool = False) -> None:
        bounded([size])
        self.elements: list[Array | None] = [None] * size
        self.grows = grows
        self.is_input = False

    def write(self, index: Array, value: Array) -> TensorArray:
        """Set an element."""
        at = int(index)
        if self.grows and at >= len(self.elements):
            bounded([at])
            self.elements += [None] * (at + 1 - len(self.elements))
        if not 0 <= at < len(self.elements):
            raise UnsupportedError(
                f"the graph writes step {at} of an array of {len(self.elements)} steps"
            )
        self.elements[at] = value
        return self

    def read(self, index: Array) -> Array:
        """Return an element."""
        at = int(index)
        if self.is_input and 0 <= at < len(self.elements) and self.elements[at] is None:
            raise UnsupportedError(f"the graph reads step {at} of a shorter sequence")
        return element(self.elements, at)

    def stack(self, indices: Array | None = None) -> Array:
        """Return the elements at some indices, or all, as one array."""
        every = range(len(self.elements)) if indices is None else np.asarray(indices)
        written = next((one for one in self.elements if one is not None), None)
        parts = [
            np.zeros_like(written)
            if written is not None and 0 <= at < len(self.elements) and self.elements[at] is None
            else self.read(at)
            for at in every
        ]
        if not parts:
            raise UnsupportedError("the graph gathers an array without steps")
        return np.stack(parts)


def _tensor_array(node: Node, precision: Precision) -> Function:
    grows = bool(node.number("dynamic_size"))

    def make(size: Array) -> tuple[TensorArray, TensorArray]:
        found = TensorArray(int(size), grows=grows)
        return found, found

    return make


def _scatter(handle: TensorArray, indices: Array, value: Array, flow: TensorArray) -> TensorArray:
    flow.is_input = True
    for at, item in zip(np.asarray(indices), value, strict=True):
        flow.write(at, item)
    return flow


def _concatenate_array(handle: TensorArray, flow: TensorArray) -> tuple[Array, Array]:
    parts = [flow.read(np.asarray(at)) for at in range(len(flow.elements))]
    return np.concatenate(parts), np.array([len(part) for part in parts], np.int64)


def _list_reserve(shape: Array, count: Array) -> list[Array | None]:
    bounded([int(count)])
    return [None] * int(count)


def _list_set(values: list[Array | None], index: Array, item: Array) -> list[Array | None]:
    at = int(index)
    if not 0 <= at < len(values):
        raise UnsupportedError(f"the graph writes element {at} of a list of {len(values)}")
    return [*values[:at], item, *values[at + 1 :]]


def stack_list(values: list[Array | None]) -> Array:
    """Return the elements of a TensorList as one array, zeros if they were not written."""
    written = next((part for part in values if part is not None), None)
    if written is None:
        raise UnsupportedError("the graph stacks a list without a written element")
    return np.stack([np.zeros_like(written) if part is None else part for part in values])


# ---- random numbers: a result that depends on them is refused by the caller


def _random(node: Node, precision: Precision) -> Function:
    kind = precision.dtype(numpy_dtype(node, "dtype"))
    return lambda shape, *rest: np.full(bounded(shape), precision.draw, kind)


def numpy_dtype(node: Node, name: str) -> np.dtype[Any]:
    """Return the NumPy type that an attribute of a node names.

    Raises:
        UnsupportedError: NumPy has no such type.
    """
    found = dtypes.by_number(node.number_of_type(name) or 1)
    if found.storage is None or found.name == "bfloat16":
        raise UnsupportedError(f"the graph computes in {found.name}", tensor=node.name)
    return np.dtype(found.storage)


OPERATIONS: dict[str, Maker] = {
    **{name: _as_it_is(function) for name, function in _UNARY.items()},
    **{name: _binary(function) for name, function in _BINARY.items()},
    **dict.fromkeys(_IDENTITIES, _as_it_is(lambda value, *rest: value)),
    "IdentityN": _as_it_is(lambda *values: values),
    # An Assign returns the value that it assigns; the variable keeps its stored value.
    "Assign": _as_it_is(lambda variable, value: value),
    "LeakyRelu": _leaky_relu,
    "Sigmoid": lambda node, precision: partial(_sigmoid, second=precision.second),
    "ClipByValue": _as_it_is(lambda value, low, high: np.minimum(np.maximum(value, low), high)),
    "AddN": _add_n,
    "BiasAdd": _bias_add,
    "BiasAddV1": _bias_add,
    "MatMul": _matmul,
    "BatchMatMul": _matmul,
    "BatchMatMulV2": _matmul,
    "Einsum": _einsum,
    **dict.fromkeys(("Conv2D", "Conv3D"), _convolution),
    **dict.fromkeys(("MaxPool", "AvgPool", "MaxPool3D", "AvgPool3D"), _pool),
    "FusedBatchNorm": _batch_norm,
    "FusedBatchNormV2": _batch_norm,
    "FusedBatchNormV3": _batch_norm,
    "Concat": _as_it_is(lambda axis, *values: _concatenate(axis, values)),
    "ConcatV2": _as_it_is(lambda *given: _concatenate(given[-1], given[:-1])),
    "Pack": _pack,
    "Unpack": _unpack,
    "Split": _split,
    "SplitV": _as_it_is(_split_sizes),
    "Slice": _as_it_is(_slice),
    "StridedSlice": _strided_slice,
    "Reshape": _as_it_is(_reshape),
    "Squeeze": _squeeze,
    "ExpandDims": _as_it_is(lambda value, axis: np.expand_dims(value, int(np.ravel(axis)[0]))),
    "Transpose": _as_it_is(lambda value, axes: np.transpose(value, [int(axis) for axis in axes])),
    "Tile": _as_it_is(_tile),
    "Gather": _gather,
    "GatherV2": _gather,
    "ResourceGather": _gather,
    "GatherNd": _as_it_is(_gather_nd),
    "Cast": _cast,
    "Fill": _as_it_is(lambda dims, value: np.full(bounded(dims), value)),
    "Shape": _shape,
    "ShapeN": _shape_n,
    "Size": _as_it_is(lambda value: np.array(np.size(value), np.int32)),
    "Rank": _as_it_is(lambda value: np.array(np.ndim(value), np.int32)),
    "Range": _as_it_is(_range),
    "Pad": _as_it_is(_pad),
    "PadV2": _as_it_is(_pad),
    "Reverse": _as_it_is(_reverse),
    "ReverseV2": _as_it_is(_reverse),
    "ReverseSequence": _reverse_sequence,
    "Roll": _as_it_is(
        lambda value, shift, axis: np.roll(
            value, tuple(np.ravel(shift).tolist()), tuple(np.ravel(axis).tolist())
        )
    ),
    "OneHot": _one_hot,
    "Select": _as_it_is(_select),
    "SelectV2": _as_it_is(_select_v2),
    "Where": _as_it_is(np.argwhere),
    "BroadcastTo": _as_it_is(lambda value, shape: np.broadcast_to(value, bounded(shape))),
    "Cumsum": _cumulate,
    "Cumprod": _cumulate,
    "Mean": _reduction(np.mean),
    "Sum": _reduction(np.sum),
    "Prod": _reduction(np.prod),
    "Max": _reduction(np.max),
    "Min": _reduction(np.min),
    "All": _reduction(np.all),
    "Any": _reduction(np.any),
    "ArgMax": _arg(np.argmax),
    "ArgMin": _arg(np.argmin),
    "Softmax": _as_it_is(_softmax),
    "LogSoftmax": _as_it_is(_log_softmax),
    "L2Loss": _as_it_is(lambda value: np.asarray(np.square(value).sum() / 2, value.dtype)),
    **dict.fromkeys(BLOCK_STEPS, _block_cell),
    **dict.fromkeys(("BlockLSTM", "BlockLSTMV2"), _block_sequence),
    **dict.fromkeys(CUDNN_OPS, _cudnn_rnn),
    "FakeQuantWithMinMaxArgs": _fake_quant,
    "FakeQuantWithMinMaxVars": _fake_quant,
    "FakeQuantWithMinMaxVarsPerChannel": _fake_quant,
    **{
        f"{name}{version}": maker
        for version in ("", "V2", "V3")
        for name, maker in {
            "TensorArray": _tensor_array,
            "TensorArrayScatter": _as_it_is(_scatter),
            "TensorArrayUnpack": _as_it_is(
                lambda handle, value, flow: _scatter(handle, range(len(value)), value, flow)
            ),
            "TensorArrayRead": _as_it_is(lambda handle, index, flow: flow.read(index)),
            "TensorArrayWrite": _as_it_is(lambda _, index, value, flow: flow.write(index, value)),
            "TensorArrayGather": _as_it_is(lambda handle, indices, flow: flow.stack(indices)),
            "TensorArrayPack": _as_it_is(lambda handle, flow: flow.stack()),
            "TensorArrayConcat": _as_it_is(_concatenate_array),
            "TensorArraySize": _as_it_is(
                lambda handle, flow: np.array(len(flow.elements), np.int32)
            ),
        }.items()
    },
    "TensorListFromTensor": _as_it_is(lambda value, *shape: list(value)),
    "TensorListReserve": _as_it_is(_list_reserve),
    "EmptyTensorList": _as_it_is(lambda *shape: []),
    "TensorListGetItem": _as_it_is(lambda values, index, *shape: element(values, int(index))),
    "TensorListSetItem": _as_it_is(_list_set),
    "TensorListPushBack": _as_it_is(lambda values, item: [*values, item]),
    "TensorListStack": _as_it_is(lambda values, *shape: stack_list(values)),
    "TensorListLength": _as_it_is(lambda values: np.array(len(values), np.int32)),
    **dict.fromkeys(
        ("RandomUniform", "RandomStandardNormal", "TruncatedNormal", "StatelessRandomUniform"),
        _random,
    ),
}


def constant_array(node: Node) -> Any:
    """Return the value of a Const; strings become an array of one blank object.

    Raises:
        CorruptError: the bytes do not make an array of its shape.
        UnsupportedError: NumPy has no such type, or the array is too large.
    """
    found = node.tensor()
    if found is None:
        raise CorruptError("a constant of the graph has no value", tensor=node.name)
    dtype = dtypes.by_number(wire.last_int32(found.get(1)))
    sizes = partial_shape(wire.merge(found.get(2)))
    if dtype.name == "string":
        return np.array([b""], object)
    if dtype.storage is None or sizes is None or None in sizes:
        raise UnsupportedError(f"a constant of the graph is {dtype.name}", tensor=node.name)
    return tensor_value(found, dtype, bounded([size or 0 for size in sizes], dtype.itemsize))
