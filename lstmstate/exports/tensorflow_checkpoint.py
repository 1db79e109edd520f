"""The variables of TensorFlow 1's LSTMCell, under the names of each era.

Kernels have the rows of the input first, and the gates in the order i, j, f, o. The class adds its
forget_bias at run time, so that the bias is that of the cell.
Sources: python/ops/rnn.py, python/ops/rnn_cell*.py and contrib/rnn (0.12, 1.0, 1.15).
"""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import indent

import numpy as np

from lstmstate.cells.activations import BY_NAME
from lstmstate.cells.families import MIDDLE, NEW, OLD, PLAIN
from lstmstate.engines.canonical_network import Array, CanonicalCell, Network
from lstmstate.errors import UnsupportedError
from lstmstate.exports.cell_calls import state_scopes
from lstmstate.exports.gate_weights import gate_weights, join_gates
from lstmstate.named_tuple import NamedTuple

# Those that TensorFlow has no function for, or not one of the same values in every release.
_FORMULAS = {
    "hard_sigmoid": "lambda z: tf.clip_by_value(0.2 * z + 0.5, 0, 1)",
    "keras3_hard_sigmoid": "lambda z: tf.nn.relu6(z + 3) / 6",
}
_PROGRAM = """\
import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"  # TensorFlow 2 has the cells in tf_keras
import tensorflow.compat.v1 as tf  # before 1.13: import tensorflow as tf

LSTMCell, LSTMStateTuple = tf.nn.rnn_cell.LSTMCell, tf.nn.rnn_cell.LSTMStateTuple
after = {{}}


def run(loop, cells, scopes, y, reverse=False):
    is_stack = len(cells) > 1
    cell = tf.nn.rnn_cell.MultiRNNCell(cells) if is_stack else cells[0]
    last = tuple(LSTMStateTuple(state[scope + "c"], state[scope + "m"]) for scope in scopes)
    last = last if is_stack else last[0]
    y = tf.reverse(y, [1]) if reverse else y
    y, last = tf.nn.dynamic_rnn(cell, y, initial_state=last, scope=loop)
    for scope, (c, m) in zip(scopes, last if is_stack else [last]):
        after[scope + "c"], after[scope + "m"] = c, m
    return tf.reverse(y, [1]) if reverse else y


with tf.Graph().as_default(), tf.Session() as session:
{calls}\
{restore}\
    outputs, state = session.run([outputs, after])
"""
_MAPPED = """\
    # In a release with the names of the file, Saver() alone restores it.
    variables = {{variable.op.name: variable for variable in tf.global_variables()}}
    names = {{  # the name in the file: the name here
{names}\
    }}
    saver = tf.train.Saver({{name: variables[here] for name, here in names.items()}})
    saver.restore(session, {prefix!r})
"""
_RESTORED = """\
    tf.train.Saver().restore(session, {prefix!r})
"""


class Era(NamedTuple):
    """The names of variables in some releases.

    Attributes:
        key: that of the variables of a cell in `cells.families`.
        cell, loop, layer, forward, backward, stack: scopes.
    """

    key: str
    cell: str
    loop: str
    layer: str
    forward: str
    backward: str
    stack: str

    def arrays(self, network: Network) -> Mapping[str, Array]:
        """Return the variables by name: `rnn/lstm_cell/kernel` `[I + R, 4H]`, …"""
        values = (array for cell in network.cells for array in _values(cell).values())
        return dict(zip(self._names(network), values, strict=True))

    def _names(self, network: Network) -> list[str]:
        """Return the names of the variables."""
        leaves = PLAIN.leaves[self.key]
        return [
            f"{scope}/{leaves[role].format(k=0)}"
            for scope, cell in zip(self.cell_names(network), network.cells, strict=True)
            for role in _roles(cell)
        ]

    def source(self, network: Network, path: str) -> str:
        """Return the program that runs them, in the names of 1.2 and later."""
        prefix = path.removesuffix(".index")
        pairs = zip(self._names(network), TENSORFLOW_1_2._names(network), strict=True)
        lines = "".join(f"        {name!r}: {new!r},\n" for name, new in pairs)
        restore = _RESTORED if self.key == NEW else _MAPPED
        return _PROGRAM.format(
            calls=indent(_calls(network), "    "),
            restore=restore.format(names=lines, prefix=prefix),
        )

    def loops(self, network: Network) -> list[list[str]]:
        """Return the scope of each chain's loop.

        Raises:
            UnsupportedError: the names of no network of TensorFlow have such an order.
        """
        stages = network.stages
        if all(len(stage) == 1 for stage in stages):
            return [[self.loop]]
        if any(len(stage) == 1 for stage in stages):
            raise UnsupportedError(
                "TensorFlow has no names for layers of one direction after those of two",
                tensor=network.first.name,
                advice="export its stacks or its cells one by one: `stack='NAME'`, `cell='NAME'`",
            )
        sides = (self.forward, self.backward)
        if len(stages) == 1:
            return [list(sides)]
        outer = map(self.stack.format, range(len(stages)))
        return [[f"{scope}/{side}" for side in sides] for scope in outer]

    def cell_names(self, network: Network) -> list[str]:
        """Return the scope of each cell."""
        found = []
        for loops, stage in zip(self.loops(network), joined_stages(network), strict=True):
            for loop, chain in zip(loops, stage, strict=True):
                for number in range(len(chain)):
                    layer = f"{self.layer.format(number)}/" if len(chain) > 1 else ""
                    found.append(f"{loop}/{layer}{self.cell}")
        return found


def _roles(cell: CanonicalCell) -> list[str]:
    """Return the variables of a cell, ordered as the class makes them."""
    peepholes = ["w_f_diag", "w_i_diag", "w_o_diag"] if cell.peepholes else []
    return ["kernel", "bias", *peepholes, *["projection"] * (cell.projection is not None)]


def _values(cell: CanonicalCell) -> dict[str, Array]:
    """Return the values of these variables."""
    joined, gates = join_gates(cell, "ijfo", cell.forget_bias), gate_weights(cell)
    values = {"kernel": np.concatenate([joined.kernel, joined.recurrent]), "bias": joined.bias}
    zeros = np.zeros(cell.widths.c, cell.dtype)
    for gate in "fio":
        own = gates[gate].peephole
        values[f"w_{gate}_diag"] = zeros if own is None else own
    values["projection"] = zeros if cell.projection is None else cell.projection
    return {role: values[role] for role in _roles(cell)}


def joined_stages(network: Network) -> list[list[list[CanonicalCell]]]:
    """Return the stages with one chain for all cells if they run in one direction."""
    if network.is_bidirectional:
        return [[list(chain) for chain in stage] for stage in network.stages]
    return [[list(network.cells)]]


def function(name: str) -> str:
    """Return the function of an activation in a program that has TensorFlow as `tf`."""
    return _FORMULAS.get(name, BY_NAME[name].tensorflow)


def _calls(network: Network) -> str:
    """Return the lines that make `outputs` of `x`, with one call of `run` for each chain."""
    scopes = iter(state_scopes(network))
    lines, before = [], "x"
    for loops, stage in zip(TENSORFLOW_1_2.loops(network), joined_stages(network), strict=True):
        called = []
        for loop, chain, end in zip(loops, stage, ("", ", reverse=True"), strict=False):
            cells = ", ".join(map(_made, chain))
            of_chain = [next(scopes) for _ in chain]
            called.append(f"run({loop!r}, [{cells}], {of_chain}, {before}{end})")
        joined = called[0] if len(called) == 1 else f"tf.concat([{', '.join(called)}], -1)"
        lines.append(f"outputs = {joined}")
        before = "outputs"
    return "".join(f"{line}\n" for line in lines)


def _made(cell: CanonicalCell) -> str:
    """Return the expression that makes a cell."""
    options = [str(cell.widths.c), f"forget_bias={float(cell.forget_bias)!r}"]
    options += ["use_peepholes=True"] * bool(cell.peepholes)
    if cell.cell_clip is not None:
        options.append(f"cell_clip={float(cell.cell_clip)!r}")
    if cell.projection is not None:
        options.append(f"num_proj={cell.widths.m}")
        if cell.proj_clip is not None:
            options.append(f"proj_clip={float(cell.proj_clip)!r}")
    if cell.activation != "tanh":
        options.append(f"activation={function(cell.activation)}")
    if cell.dtype != np.float32:
        options.append(f"dtype=tf.{cell.dtype}")
    return f"LSTMCell({', '.join(options)})"


TENSORFLOW_1_2 = Era(
    NEW,
    "lstm_cell",
    "rnn",
    "multi_rnn_cell/cell_{}",
    "bidirectional_rnn/fw",
    "bidirectional_rnn/bw",
    "stack_bidirectional_rnn/cell_{}",
)
TENSORFLOW_1_0 = TENSORFLOW_1_2._replace(key=MIDDLE)
TENSORFLOW_0_12 = Era(
    OLD, "LSTMCell", "RNN", "MultiRNNCell/Cell{}", "BiRNN/FW", "BiRNN/BW", "StackRNN/Layer{}"
)
