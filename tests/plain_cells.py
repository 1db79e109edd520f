"""Plain reference implementations of all LSTM families: loops over numbers, `math` in float64.

Nothing here uses the code under test. A step takes the variables as the class stored them (by
their names below its scope), the options, and x, c and m of one sequence; it returns the new c
and m. The equations and shapes are those of the cell classes of TensorFlow 0.5.0 to 1.15.0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

Row = list[float]
Matrix = list[Row]
Variables = Mapping[str, Any]  # by leaf: a Row, or a Matrix


class Options(NamedTuple):
    """The arguments of a class that are not stored in a variable."""

    forget_bias: float = 1.0
    cell_clip: float | None = None
    proj_clip: float | None = None
    activation: str = "tanh"
    recurrent_activation: str = "sigmoid"
    order: str = "ijfo"
    m_first: bool = False


Step = Callable[[Variables, Options, Row, Row, Row], tuple[Row, Row]]


class IllConditionedError(Exception):
    """A layer norm over nearly equal values enlarges rounding: not a fair case."""


# ---- numbers


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def selu(x: float) -> float:
    scale, alpha = 1.0507009873554805, 1.6732632423543772
    return scale * x if x > 0 else scale * alpha * (math.exp(x) - 1)


ACTIVATIONS: dict[str, Callable[[float], float]] = {
    "tanh": math.tanh,
    "sigmoid": sigmoid,
    "identity": lambda x: x,
    "relu": lambda x: x if x > 0 else 0.0,
    "relu6": lambda x: min(max(x, 0.0), 6.0),
    "leaky_relu": lambda x: x if x > 0 else 0.20000000298023224 * x,  # 0.2 in float32
    "elu": lambda x: x if x > 0 else math.exp(x) - 1,
    "selu": selu,
    "softplus": lambda x: math.log(1 + math.exp(x)),
    "softsign": lambda x: x / (1 + abs(x)),
    "hard_sigmoid": lambda x: min(max(0.2 * x + 0.5, 0.0), 1.0),
    "keras3_hard_sigmoid": lambda x: min(max(x + 3, 0.0), 6.0) / 6,
    "sin": math.sin,
    "erf": math.erf,
}


def times(row: Row, matrix: Matrix) -> Row:
    """A row times a matrix."""
    columns = range(len(matrix[0]))
    return [math.fsum(a * line[k] for a, line in zip(row, matrix, strict=True)) for k in columns]


def plus(one: Row, other: Row) -> Row:
    return [a + b for a, b in zip(one, other, strict=True)]


def clipped(row: Row, bound: float | None) -> Row:
    return row if bound is None else [min(max(value, -bound), bound) for value in row]


def cut(row: Row, parts: int) -> list[Row]:
    width = len(row) // parts
    return [row[k * width : (k + 1) * width] for k in range(parts)]


def layer_norm(v: Variables, name: str, row: Row) -> Row:
    """gamma * (x - mean) / sqrt(variance + 1e-12) + beta, if there is such a norm."""
    if f"{name}/gamma" not in v:
        return row
    mean = math.fsum(row) / len(row)
    variance = math.fsum((value - mean) ** 2 for value in row) / len(row)
    if len(row) > 1 and variance < 0.2**2:
        raise IllConditionedError
    deviation = math.sqrt(variance + 1e-12)
    return [
        gamma * (value - mean) / deviation + beta
        for value, gamma, beta in zip(row, v[f"{name}/gamma"], v[f"{name}/beta"], strict=True)
    ]


def shards(v: Variables, leaf: str) -> list[Matrix]:
    """The variables `leaf_0`, `leaf_1`, … in the order of their numbers."""
    found = []
    while f"{leaf}_{len(found)}" in v:
        found.append(v[f"{leaf}_{len(found)}"])
    return found


def joined_rows(some: Sequence[Matrix]) -> Matrix:
    return [row for matrix in some for row in matrix]


def joined_columns(some: Sequence[Matrix]) -> Matrix:
    return [[value for row in rows for value in row] for rows in zip(*some, strict=True)]


# ---- parts shared by all families but the coupled one


def finished(
    v: Variables,
    o: Options,
    gates: Mapping[str, Row],
    c: Row,
    *,
    projection: Matrix | None = None,
    candidate: str | None = None,
    diagonals: str = "w_{}_diag",
) -> tuple[Row, Row]:
    """The new c and m from the sums of the gates before their activation."""
    squash, act = ACTIVATIONS[o.recurrent_activation], ACTIVATIONS[o.activation]
    act_j = ACTIVATIONS[candidate or o.activation]

    def peephole(gate: str, unit: int) -> float:
        return float(v.get(diagonals.format(gate), [0.0] * len(c))[unit])

    new = []
    for k in range(len(c)):
        f = squash(gates["f"][k] + o.forget_bias + peephole("f", k) * c[k])
        i = squash(gates["i"][k] + peephole("i", k) * c[k])
        new.append(f * c[k] + i * act_j(gates["j"][k]))
    new = clipped(layer_norm(v, "state", new), o.cell_clip)
    m = [squash(gates["o"][k] + peephole("o", k) * new[k]) * act(new[k]) for k in range(len(c))]
    return new, m if projection is None else clipped(times(m, projection), o.proj_clip)


def fused(v: Variables, o: Options, x: Row, c: Row, m: Row) -> tuple[Row, Row]:
    """Core, block and masked cells of 1.2 and later: one kernel, the rows of the input first."""
    kernel = v["kernel"]
    if "mask" in v:
        kernel = [
            [a * b for a, b in zip(*rows, strict=True)]
            for rows in zip(kernel, v["mask"], strict=True)
        ]
    z = plus(times(m + x if o.m_first else x + m, kernel), v["bias"])
    gates = dict(zip(o.order, cut(z, 4), strict=True))
    return finished(v, o, gates, c, projection=v.get("projection/kernel"))


def no_forget_bias(v: Variables, o: Options, x: Row, c: Row, m: Row) -> tuple[Row, Row]:
    """CudnnCompatibleLSTMCell, and with another order BlockLSTMV2."""
    return fused(v, o._replace(forget_bias=0.0), x, c, m)


def old_block(v: Variables, o: Options, x: Row, c: Row, m: Row) -> tuple[Row, Row]:
    """LSTMFusedCell and LSTMBlockCell of 0.10 to 0.12: W, b, wci, wcf, wco."""
    z = plus(times(x + m, v["W"]), v["b"])
    return finished(v, o, dict(zip("ijfo", cut(z, 4), strict=True)), c, diagonals="wc{}")


def row_shards(v: Variables, o: Options, x: Row, c: Row, m: Row) -> tuple[Row, Row]:
    """LSTMCell of 0.7 to 0.12: W_k and W_P_k hold rows."""
    return _sharded(v, o, x, c, m, joined_rows)


def column_shards(v: Variables, o: Options, x: Row, c: Row, m: Row) -> tuple[Row, Row]:
    """LSTMCell of 0.5 and 0.6: W_k and W_P_k hold columns."""
    return _sharded(v, o, x, c, m, joined_columns)


def _sharded(
    v: Variables, o: Options, x: Row, c: Row, m: Row, join: Callable[[Sequence[Matrix]], Matrix]
) -> tuple[Row, Row]:
    z = plus(times(x + m, join(shards(v, "W"))), v["B"])
    gates = dict(zip("ijfo", cut(z, 4), strict=True))
    v = v | {f"w_{g}_diag": v[f"W_{g.upper()}_diag"] for g in "ifo" if f"W_{g.upper()}_diag" in v}
    projection = shards(v, "W_P")
    return finished(v, o, gates, c, projection=join(projection) if projection else None)


def layer_normed(v: Variables, o: Options, x: Row, c: Row, m: Row) -> tuple[Row, Row]:
    """LayerNormBasicLSTMCell, LayerNormLSTMCell: with norms the bias, if any, is not added."""
    z = times(x + m, v["kernel"])
    if "input/gamma" not in v:
        z = plus(z, v["bias"])
    i, j, f, out = cut(z, 4)
    gates = {
        "i": layer_norm(v, "input", i),
        "j": layer_norm(v, "transform", j),
        "f": layer_norm(v, "forget", f),
        "o": layer_norm(v, "output", out),
    }
    return finished(v, o, gates, c, projection=v.get("projection/kernel"))


def weight_normed(v: Variables, o: Options, x: Row, c: Row, m: Row) -> tuple[Row, Row]:
    """WeightNormLSTMCell: columns of each block of rows are scaled to the length of its norm."""
    of_x, of_m = v["kernel"][: len(x)], v["kernel"][len(x) :]
    projection = v.get("projection/kernel")
    if "norm_0" in v:
        of_x, of_m = _lengthened(of_x, v["norm_0"]), _lengthened(of_m, v["norm_1"])
        if projection is not None:
            projection = _lengthened(projection, v["projection/norm_0"])
    z = plus(plus(times(x, of_x), times(m, of_m)), v["bias"])
    return finished(v, o, dict(zip("ijfo", cut(z, 4), strict=True)), c, projection=projection)


def _lengthened(matrix: Matrix, lengths: Row) -> Matrix:
    columns = [
        math.sqrt(max(math.fsum(row[k] ** 2 for row in matrix), 1e-12)) for k in range(len(lengths))
    ]
    return [
        [
            value / column * length
            for value, column, length in zip(row, columns, lengths, strict=True)
        ]
        for row in matrix
    ]


def grouped(v: Variables, o: Options, x: Row, c: Row, m: Row) -> tuple[Row, Row]:
    """GLSTMCell: groups of units that read a part of the input and a part of m."""
    kernels = []
    while f"group{len(kernels)}/kernel" in v:
        kernels.append(v[f"group{len(kernels)}/kernel"])
    groups = 4 * len(c) // len(kernels[0][0])
    of_m = len(m) // groups
    of_x = len(kernels[0]) - of_m
    gates: dict[str, Row] = {gate: [] for gate in "ijfo"}
    for k in range(groups):
        seen = x[k * of_x : (k + 1) * of_x] + m[k * of_m : (k + 1) * of_m]
        kernel = kernels[k] if len(kernels) == groups else kernels[0]
        for gate, part in zip("ijfo", cut(times(seen, kernel), 4), strict=True):
            gates[gate] += part
    gates = {gate: plus(row, v[f"bias_{gate}"]) for gate, row in gates.items()}
    return finished(v, o, gates, c, projection=v.get("projection/kernel"), candidate="tanh")


def indy(v: Variables, o: Options, x: Row, c: Row, m: Row) -> tuple[Row, Row]:
    """IndyLSTMCell: a unit reads only its own m."""
    z = plus(times(x, v["kernel_w"]), v["bias"])
    (weights,) = v["kernel_u"]
    z = [z[k] + weights[k] * m[k % len(m)] for k in range(len(z))]
    return finished(v, o, dict(zip("ijfo", cut(z, 4), strict=True)), c)


def tflite(v: Variables, o: Options, x: Row, c: Row, m: Row) -> tuple[Row, Row]:
    """TFLiteLSTMCell: matrices have a row for each unit; the forget bias is a variable."""

    def gate(name: str) -> Row:
        rows = zip(v[f"input_to_{name}_w"], v[f"cell_to_{name}_w"], v[f"{name}_bias"], strict=True)
        return [
            math.fsum(w * a for w, a in zip(of_x + of_m, x + m, strict=True)) + bias
            for of_x, of_m, bias in rows
        ]

    gates = {"i": gate("input"), "j": gate("cell"), "f": gate("forget"), "o": gate("output")}
    by_output = v.get("projection/kernel")  # [P, H]
    projection = (
        None if by_output is None else [list(column) for column in zip(*by_output, strict=True)]
    )
    return finished(v, o._replace(forget_bias=0.0), gates, c, projection=projection)


def keras(v: Variables, o: Options, x: Row, c: Row, m: Row) -> tuple[Row, Row]:
    """Keras LSTM, PeepholeLSTMCell: order i, f, c, o; nothing added to forget gates."""
    names = {"i": "input", "f": "forget", "o": "output"}
    v = v | {
        f"w_{gate}_diag": v[f"{name}_gate_peephole_weights"]
        for gate, name in names.items()
        if f"{name}_gate_peephole_weights" in v
    }
    return two_kernels(v, o._replace(forget_bias=0.0, order="ifjo"), x, c, m)


def two_kernels(v: Variables, o: Options, x: Row, c: Row, m: Row) -> tuple[Row, Row]:
    """A kernel for x and one for m, and no bias or one."""
    z = plus(times(x, v["kernel"]), times(m, v["recurrent_kernel"]))
    z = plus(z, v["bias"]) if "bias" in v else z
    return finished(v, o, dict(zip(o.order, cut(z, 4), strict=True)), c)


# ---- the coupled family


def coupled(v: Variables, o: Options, x: Row, c: Row, m: Row) -> tuple[Row, Row]:
    """CoupledInputForgetGateLSTMCell: three gates j, f, o; the input gate is 1 - f."""
    act = ACTIVATIONS[o.activation]
    z = times(x + m, joined_rows(shards(v, "W")))
    if "transform/gamma" not in v:
        z = plus(z, v["B"])
    j, f, out = cut(z, 3)
    j, f, out = (
        layer_norm(v, name, gate)
        for name, gate in (("transform", j), ("forget", f), ("output", out))
    )
    zeros = [0.0] * len(c)
    w_f, w_o = v.get("W_F_diag", zeros), v.get("W_O_diag", zeros)
    new = []
    for k in range(len(c)):
        keep = sigmoid(f[k] + o.forget_bias + w_f[k] * c[k])
        new.append(keep * c[k] + (1 - keep) * act(j[k]))
    new = layer_norm(v, "state", new)
    m = [sigmoid(out[k] + w_o[k] * new[k]) * act(new[k]) for k in range(len(c))]
    projection = shards(v, "W_P")
    return new, clipped(times(m, joined_rows(projection)), o.proj_clip) if projection else m


# ---- sequences


def run(
    step: Step, v: Variables, o: Options, x: Sequence[Matrix], c: Matrix, m: Matrix
) -> tuple[list[Matrix], Matrix, Matrix]:
    """Run over x `[steps][batch][inputs]`; return the outputs and the last c and m."""
    outputs = []
    for rows in x:
        pairs = [step(v, o, *row) for row in zip(rows, c, m, strict=True)]
        c, m = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        outputs.append(m)
    return outputs, c, m
