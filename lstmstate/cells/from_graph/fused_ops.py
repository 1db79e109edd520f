"""Cells that are one operation: LSTMBlockCell, BlockLSTM and their former names."""

from __future__ import annotations

import math

from lstmstate.cells.cell import UNKNOWN, Option
from lstmstate.cells.from_graph.activations import operand
from lstmstate.cells.from_graph.graph_cell import GraphCell
from lstmstate.cells.from_graph.initial_state import batch_size
from lstmstate.checkpoint import graph_walk as walk
from lstmstate.checkpoint.graph import Graph
from lstmstate.checkpoint.graph_node import Node
from lstmstate.checkpoint.op_sets import ENTERS
from lstmstate.named_tuple import NamedTuple


class Block(NamedTuple):
    """An operation that is a cell; the positions are those of its inputs.

    Attributes:
        inputs: how many there are.
        weight: the kernel.
        c: the old c; m follows it.
        clip: the default of cell_clip, in the op's registration.
        sequence: whether it runs over a whole sequence, time-major.
    """

    inputs: int
    weight: int
    c: int
    clip: float
    gate_order: str = "ijfo"
    sequence: bool = False


# Source: contrib/rnn/ops/lstm_ops.cc (0.10 to 1.14), core/ops/rnn_ops.cc (1.15).
BLOCKS = {
    "LSTMBlockCell": Block(8, 3, 1, 3.0),
    "LSTMFusedCell": Block(8, 3, 1, 3.0),
    "BlockLSTM": Block(9, 4, 2, 3.0, sequence=True),
    "BlockLSTMV2": Block(9, 4, 2, 0.0, "ifjo", sequence=True),
    "FusedLSTM": Block(9, 4, 2, 3.0, sequence=True),
}


_OUTPUTS = {"c": 1, "m": 6}  # cs and h among i, cs, f, o, ci, co, h


def read_block_step(graph: Graph, node: Node) -> GraphCell | None:
    """Read a block cell's operation; an attribute that is not set has the default of 1.x."""
    block = BLOCKS[node.op]
    inputs = walk.data_inputs(node)
    # In 0.10 and 0.11 x was a list of max_len tensors, which come before the state.
    shift = len(inputs) - block.inputs
    weight = walk.operand(graph, node, block.weight + shift)
    bias = walk.operand(graph, node, len(inputs) - 1)
    if shift < 0 or weight is None or bias is None:
        return None
    clip = _default(node.real("cell_clip"), block.clip)
    forget_bias = 0.0 if node.op == "BlockLSTMV2" else _default(node.real("forget_bias"), 1.0)
    wired = GraphCell(
        (tuple(walk.variables(graph, weight)),),
        tuple(walk.variables(graph, bias)),
        gate_order=block.gate_order,
        block=node.op,
        options={
            # BlockLSTMV2 has no forget_bias to set.
            "forget_bias": Option(forget_bias, "graph") if math.isfinite(forget_bias) else UNKNOWN,
            # The kernel clips only if the bound is above zero.
            "cell_clip": Option(clip if 0 < clip < math.inf else None, "graph"),
            "activation": Option("tanh", "graph"),
        },
        peephole_attribute=bool(node.number("use_peephole")),
        frame=weight.frame if weight.op in ENTERS else None,
    )
    c_old, m_old = (operand(graph, node, block.c + shift + at) for at in (0, 1))
    wired.firsts.append((c_old, m_old))
    if not block.sequence:
        wired.lasts = {(node.name, output): half for half, output in _OUTPUTS.items()}
    wired.options["batch_size"] = batch_size(graph, c_old)
    if block.sequence:
        wired.options["time_major"] = Option(True, "family")
    return wired if wired.kernels[0] else None


def _default(value: float | None, default: float) -> float:
    return default if value is None else value
