"""Cells that are one operation: LSTMBlockCell, BlockLSTM and their former names."""

from __future__ import annotations

import math

from lstmstate.cells.cell import UNKNOWN, Option
from lstmstate.cells.from_graph.activations import operand
from lstmstate.cells.from_graph.graph_cell import GraphCell
from lstmstate.cells.from_graph.initial_state_source import batch_size
from lstmstate.checkpoint import graph_walk as walk
from lstmstate.checkpoint.fused_ops import BLOCK_C, BLOCK_M, BLOCK_OPS, block_options
from lstmstate.checkpoint.graph import Graph
from lstmstate.checkpoint.graph_node import Node
from lstmstate.checkpoint.op_sets import ENTERS


def read_block_step(graph: Graph, node: Node) -> GraphCell | None:
    """Read a block cell's operation."""
    block, options = BLOCK_OPS[node.op], block_options(node)
    inputs = walk.data_inputs(node)
    # In 0.10 and 0.11 x was a list of max_len tensors, which come before the state.
    shift = len(inputs) - block.inputs
    weight = walk.operand(graph, node, block.kernel + shift)
    bias = walk.operand(graph, node, len(inputs) - 1)
    if shift < 0 or weight is None or bias is None:
        return None
    bias_added, clip = options.forget_bias, options.clip
    wired = GraphCell(
        (tuple(walk.variables(graph, weight)),),
        tuple(walk.variables(graph, bias)),
        gate_order=options.gate_order,
        block=node.op,
        options={
            "forget_bias": Option(bias_added, "graph") if math.isfinite(bias_added) else UNKNOWN,
            # The kernel clips only if the bound is above zero.
            "cell_clip": Option(clip if 0 < clip < math.inf else None, "graph"),
            "activation": Option("tanh", "graph"),
        },
        peephole_attribute=options.peepholes,
        frame=weight.frame if weight.op in ENTERS else None,
    )
    c_old, m_old = (operand(graph, node, at + shift) for at in (block.c, block.m))
    wired.firsts.append((c_old, m_old))
    if not block.is_sequence:
        wired.lasts = {(node.name, BLOCK_C): "c", (node.name, BLOCK_M): "m"}
    wired.options["batch_size"] = batch_size(graph, c_old)
    if block.is_sequence:
        wired.options["time_major"] = Option(True, "family")
    return wired if wired.kernels[0] else None
