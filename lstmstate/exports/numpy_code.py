"""Functions that run the weights of each gate in NumPy alone, as Python code for people to read."""

from __future__ import annotations

import math
from textwrap import indent

from lstmstate.engines.canonical_network import CanonicalCell, Network
from lstmstate.exports.cell_calls import calls, named_scopes
from lstmstate.exports.gate_weights import gate_weights

# By the names of `cells.activations`: the function, or the value of one for z.
_NAMED = {"tanh": "np.tanh", "sin": "np.sin"}
_FORMULAS = {
    "sigmoid": "(np.tanh(z / 2) + 1) / 2",
    "hard_sigmoid": "np.clip(0.2 * z + 0.5, 0, 1)",
    "keras3_hard_sigmoid": "np.clip(z / 6 + 0.5, 0, 1)",
    "identity": "z",
    "relu": "np.maximum(z, 0)",
    "relu6": "np.clip(z, 0, 6)",
    "leaky_relu": "np.maximum(z, 0.2 * z)",
    "elu": "np.where(z > 0, z, np.expm1(np.minimum(z, 0)))",
    "selu": (
        "1.0507009873554805 * np.where(z > 0, z, 1.6732632423543772 * np.expm1(np.minimum(z, 0)))"
    ),
    "softplus": "np.logaddexp(z, 0)",
    "softsign": "z / (1 + abs(z))",
    "erf": "np.vectorize(math.erf, otypes=[z.dtype])(z)",
}
_NORM = """\
def norm(w, gate, z, epsilon):
    z = z - z.mean(-1, keepdims=True)
    scale = w[f"{gate}/gamma"] / np.sqrt((z**2).mean(-1, keepdims=True) + epsilon)
    return z * scale + w[f"{gate}/bias"]


"""
_STEP = '''\
def {name}(w, x, c, m):
    """Return the new cell state c and output m, for the input x of one step and the last c, m."""
{lines}\
    return c, m


'''
_RUN = '''\
def run(x, state=None, lengths=None):
    """Return the outputs [batch, time, {outputs}], and c and m of each cell after them.

    x [batch, time, {inputs}]; state: c and m, zeros by default; lengths [batch]: steps of each.
    """
    x, after = np.asarray(x, np.{dtype}), {{}}
    if x.ndim != 3 or x.shape[2] {differs} {inputs}:
        raise ValueError(f"expected x [batch, time, {inputs}], got {{x.shape}}")
    batch, steps, _ = x.shape
    ends = np.full((batch, 1), steps) if lengths is None else np.reshape(lengths, (batch, 1))
{backward}\

    def run_cell({step}scope, x{reverse}):
        w = {{n[len(scope) :]: array for n, array in weights.items() if n.startswith(scope)}}
        m, c = (np.zeros((batch, size), x.dtype) for size in w["f/recurrent"].shape)
        if state is not None:
            c, m = state[{c}], state[{m}]
{before}\
        y = np.zeros((batch, steps, m.shape[-1]), x.dtype)
        for t in range(steps):
            new_c, new_m = step(w, x[:, t], c, m)
            c, m = np.where(t < ends, new_c, c), np.where(t < ends, new_m, m)
            y[:, t] = np.where(t < ends, m, 0)  # past its end a sequence keeps its state
        after[{c}], after[{m}] = c, m
        return {result}

{calls}\
    return outputs, after
'''
# The last valid step first; the others keep their place.
_BACKWARD = """\
    t = np.arange(steps)
    backward = np.where(t < ends, ends - 1 - t, t)[:, :, None]  # the last valid step first
"""
_REVERSE = """\
        x = np.take_along_axis(x, backward, 1) if reverse else x
"""
_NARROW = """\
        x = x[..., : len(w["f/kernel"])]  # these cells ignore further columns
"""


def imports(text: str) -> str:
    """Return the lines that import what functions need beyond NumPy."""
    return "import math\n" if "math." in text else ""


def functions(network: Network) -> str:
    """Return the code of the functions: the step of each kind of cell, and `run`."""
    steps: dict[str, str] = {}  # the lines of a step, and its name
    of_cells = []
    for cell in network.cells:
        lines = _lines(cell)
        of_cells.append(steps.setdefault(lines, f"step_{len(steps)}" if steps else "step"))
    names = sorted({n for cell in network.cells for n in _activations(cell)} & set(_FORMULAS))
    has_norm = any(cell.norms for cell in network.cells)
    return "".join(
        [
            *(f"def {name}(z):\n    return {_FORMULAS[name]}\n\n\n" for name in names),
            _NORM if has_norm else "",
            *(_STEP.format(name=name, lines=lines) for lines, name in steps.items()),
            _run(network, of_cells if len(steps) > 1 else None),
        ]
    )


def _run(network: Network, steps: list[str] | None) -> str:
    """Return the function `run`, which is given the step of each cell if there are several."""
    scopes = map(repr, named_scopes(network))
    arguments = list(scopes) if steps is None else list(map("{}, {}".format, steps, scopes))
    state = 'scope + "{}"' if len(network.cells) > 1 else '"{}"'
    both, takes_wider = network.is_bidirectional, any(c.takes_wider for c in network.cells)
    return _RUN.format(
        inputs=network.first.input_size,
        outputs=network.output_shape[0],
        dtype=network.dtype,
        c=state.format("c"),
        m=state.format("m"),
        differs="<" if network.first.takes_wider else "!=",
        backward=_BACKWARD if both else "",
        step="" if steps is None else "step, ",
        reverse=", reverse=False" if both else "",
        before=(_NARROW if takes_wider else "") + (_REVERSE if both else ""),
        result="np.take_along_axis(y, backward, 1) if reverse else y" if both else "y",
        calls=indent(calls(network, arguments, function="run_cell"), "    "),
    )


def _activations(cell: CanonicalCell) -> set[str]:
    return {cell.candidate, cell.activation, cell.recurrent_activation}


def _lines(cell: CanonicalCell) -> str:
    """Return the lines of a cell's step: c' = f * c + i * j, m' = o * activation(c')."""
    weights = gate_weights(cell)

    def gate(name: str) -> str:
        z = f'x @ w["{name}/kernel"] + m @ w["{name}/recurrent"]'
        has_norm = weights[name].gamma is not None
        z = norm(name, z) if has_norm else f'{z} + w["{name}/bias"]'
        return z if weights[name].peephole is None else f'{z} + w["{name}/peephole"] * c'

    def norm(name: str, z: str) -> str:
        return f'norm(w, "{name}", {z}, {float(cell.norm_epsilon)!r})'

    def clip(values: str, bound: float | None) -> str:
        if bound is None or math.isinf(bound):
            return values
        return f"np.clip({values}, {-float(bound)!r}, {float(bound)!r})"

    def call(name: str, z: str) -> str:
        return f"{_NAMED.get(name, name)}({z})"

    new_c = norm("c", "i * j + f * c") if "c" in cell.norms else "i * j + f * c"
    lines = [
        f"i = {call(cell.recurrent_activation, gate('i'))}",
        f"j = {call(cell.candidate, gate('j'))}",
        f"f = {call(cell.recurrent_activation, gate('f'))}",
        f"c = {clip(new_c, cell.cell_clip)}",
        f"o = {call(cell.recurrent_activation, gate('o'))}",
        f"m = o * {call(cell.activation, 'c')}",
    ]
    if cell.projection is not None:
        lines.append("m = " + clip('m @ w["projection"]', cell.proj_clip))
    return "".join(f"    {line}\n" for line in lines)
