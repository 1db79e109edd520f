"""States in loops: carried from step to step, and cut out of wider tensors."""

from __future__ import annotations

from lstmstate.cells.cell import Option
from lstmstate.checkpoint import graph_walk as walk
from lstmstate.checkpoint.dtypes import FLOATS
from lstmstate.checkpoint.graph import VARIABLE_OPS, Graph
from lstmstate.checkpoint.graph_node import Node
from lstmstate.checkpoint.op_sets import (
    ENTERS,
    IDENTITIES,
    MERGES,
    NEXTS,
    PASSING,
    REVERSES,
    UNSTACKS,
    WHILES,
)

SPLITS = {"Split": 1, "SplitV": 0}  # op → the input that is cut
CUT_INPUT = {**SPLITS, "Slice": 0, "StridedSlice": 0}
FED = frozenset({"Placeholder", "PlaceholderV2", "PlaceholderWithDefault"})


def is_carried(graph: Graph, node: Node | None) -> bool:
    """Whether a loop carries a value from step to step: it comes out of the Merge of a loop."""
    for _ in range(8):
        if node is None:
            return False
        if node.op in MERGES and any(one.op in NEXTS for one in walk.operands(graph, node)):
            return True
        if node.op not in PASSING and not is_column_cut(graph, node):
            return False
        node = walk.operand(graph, node, CUT_INPUT.get(node.op, 0))
    return False


def is_state(graph: Graph, node: Node) -> bool:
    """Whether a value is carried by a loop, or starts from zeros or a variable."""
    made = _skip_cuts(graph, node)
    return is_carried(graph, node) or (
        made is not None and made.op in VARIABLE_OPS | {"Fill", "Const"}
    )


def next_of(graph: Graph, node: Node) -> Node | None:
    """Return the value for the next step of one that a loop carries; None for other nodes."""
    if node.op in MERGES:
        for before in walk.operands(graph, node):
            if before.op in NEXTS:
                return walk.operand(graph, before, 0)
    elif node.name in graph.arguments:
        caller, at = graph.arguments[node.name]
        returned = graph.returns.get(caller, [])
        if graph.nodes[caller].op in WHILES and returned and at < len(returned[0]):
            after = graph.source(returned[0][at])[0]
            is_same = after is node or walk.through(graph, after, IDENTITIES) is node
            return None if is_same else after
    return None


def is_float(graph: Graph, node: Node) -> bool:
    """Whether a value is a floating-point number, as far as its operation shows the type."""
    made = walk.through(graph, node, IDENTITIES)
    kinds = [made.number_of_type(name) for name in ("T", "DstT", "dtype")] if made else []
    known = [kind for kind in kinds if kind is not None]
    return not known or known[0] in FLOATS


def _skip_cuts(graph: Graph, state: Node) -> Node | None:
    """Return the source of a state before it was cut out of a wider one."""
    node = walk.through(graph, state)
    for _ in range(4):  # a flat state of a stack is cut twice
        if node is None or not (is_column_cut(graph, node) or _is_part(node)):
            break
        node = walk.through(graph, walk.operand(graph, node, CUT_INPUT.get(node.op, 0)))
    return node


def _is_part(node: Node) -> bool:
    """Whether a user cut a part out of a tensor, and did not take one of a stack of them."""
    return node.op in SPLITS or (
        node.op in ("Slice", "StridedSlice") and not node.number("shrink_axis_mask")
    )


def is_column_cut(graph: Graph, state: Node) -> bool:
    """Whether c is cut out of the columns of a wider tensor, as a flat state is.

    LSTMCell takes Slice(state, [0, …], [-1, …]), BasicLSTMCell half of a Split on axis 1; a state
    that users unstack (StridedSlice, Unpack) is a tuple that was one array.
    """
    if state.op == "Slice":
        size = walk.operand(graph, state, 2)
        constant = size.constant() if size is not None else None
        return constant is not None and len(constant.values) == 2 and constant.values[0] < 0
    if state.op in SPLITS and state.number("num_split") == 2:
        axis = walk.scalar(graph, walk.operand(graph, state, 0 if state.op == "Split" else 2))
        return axis in (1, -1)
    return False


def frame(graph: Graph, product: Node) -> str | None:
    """Return the name of the loop around a product: that of the weight's Enter."""
    weight = walk.operand(graph, product, 1)
    if weight is None:
        return None
    for node in walk.backward(graph, [weight], lambda node: node.op not in ENTERS, 60):
        if node.op in ENTERS:
            return node.frame
    return None


def _skip_reversal(graph: Graph, node: Node | None) -> Node | None:
    """Return the source of a sequence before a reversal, which transposes no axes."""
    value = walk.through(graph, node)
    while value is not None and value.op in REVERSES:
        value = walk.through(graph, walk.operand(graph, value, 0))
    return value


def time_major(graph: Graph) -> dict[str, Option]:
    """Return, for each loop over a sequence, whether its arrays have time before batch.

    dynamic_rnn over batch-major data transposes the values of its arrays before and after the
    loop; over time-major data it does neither.
    """
    turned: dict[str, list[bool]] = {}
    for node in graph.of(UNSTACKS):
        value = _skip_reversal(graph, walk.operand(graph, node, UNSTACKS[node.op]))
        for enter in walk.consumers(graph, node, frozenset({"Enter"})):
            frame = enter.frame
            if frame and value is not None:
                turned.setdefault(frame, []).append(value.op == "Transpose")
    return {frame: Option(not all(found), "graph") for frame, found in turned.items()}
