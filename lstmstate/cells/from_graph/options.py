"""The options of a cell, and its initial state, from the operations around its new c."""

from __future__ import annotations

from lstmstate.cells.cell import UNKNOWN, Option
from lstmstate.cells.from_graph.activations import (
    Value,
    find_activation,
    input_values,
    operand,
    skip_identity,
)
from lstmstate.cells.from_graph.graph_cell import GraphCell, GraphStep
from lstmstate.cells.from_graph.initial_state_source import (
    StateSource,
    batch_size,
    find_source,
    state_is_tuple,
)
from lstmstate.cells.from_graph.loop_states import FED, frame, is_state
from lstmstate.cells.from_graph.residual import is_mixed
from lstmstate.checkpoint import graph_walk as walk
from lstmstate.checkpoint.graph import VARIABLE_OPS, Graph
from lstmstate.checkpoint.graph_node import Node
from lstmstate.checkpoint.op_sets import ADDING, CLIPS, JOINING, PASSING, SUMMING
from lstmstate.named_tuple import NamedTuple

PRODUCTS = frozenset({"MatMul", "Conv2D", "Conv3D"})
MULTIPLYING = frozenset({"Mul"})
# Operations that add a bias, and those that change no number.
_BIASING = frozenset({"BiasAdd", "BiasAddV1"})
_UNCHANGED = PASSING | {"Reshape", "Squeeze", "ExpandDims"}
NORM_OPS = frozenset(
    """
    Mul Add AddV2 Sub Rsqrt Mean SquaredDifference Reshape RealDiv Cast BiasAdd Identity Sqrt
    StopGradient Neg Div FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 Select SelectV2
    """.split()
)


class GateStep(NamedTuple):
    """One step of a cell, with its gates.

    Attributes:
        c_new: the sum f * c + i * j.
        c_old: the c that f is multiplied with.
        forget: the forget gate before its activation.
        outputs: candidates for the output gate, after their activation.
        product: one with the kernel.
        products: all of them, if the input and the old m have products of their own.
        recurrent_activation: the function on i, f and o.
    """

    c_new: Node
    c_old: Node
    forget: Node | None
    outputs: list[Node]
    product: Node
    recurrent_activation: str | None
    products: tuple[Node, ...] = ()


def read_options(graph: Graph, wired: GraphCell, step: GateStep) -> None:
    """Read the options around the new c, and the source of the old state."""
    c_old = _find_old_c(graph, step)
    wired.c_new = step.c_new.name
    wired.options["recurrent_activation"] = _from_graph(step.recurrent_activation)
    wired.options["forget_bias"] = _read_forget_bias(graph, step.forget)
    wired.options["state_is_tuple"] = state_is_tuple(graph, c_old)
    wired.options["batch_size"] = batch_size(graph, c_old)
    wired.frame = frame(graph, step.product)
    x, m_old, wired.m_first = _find_joined(graph, step.product)
    wired.inputs += [x] if x is not None else []
    wired.firsts.append((c_old, m_old or _find_old_m_of_product(graph, step, c_old)))
    wired.lasts[step.c_new.name, 0] = "c"
    wired.is_mixed = is_mixed(graph, step.c_new, step.c_old)
    out = _find_output(graph, step.outputs, step.c_new)
    # Simple and quasi-recurrent units have such a c, but no m goes into their product.
    m_node, m_new = m_old[0] if m_old else None, out[0] if out else None
    wired.steps.append(GraphStep(step.c_new, step.c_old, m_node, x, m_new))
    wired.complete = out is not None and (m_old is not None or len(wired.kernels) > 1)
    if out is not None:
        m, activated, between = out
        projected = projections(graph, m)
        wired.outputs += [node.name for node in (m, *projected)]
        wired.lasts |= {(node.name, 0): "m" for node in (m, *projected)}
        wired.options["activation"] = _read_activation(graph, activated, step.c_new)
        wired.options["cell_clip"] = _read_clip(graph, between)
        wired.options["proj_clip"] = _read_proj_clip(graph, m)


def _from_graph(function: str | None) -> Option:
    return UNKNOWN if function is None else Option(function, "graph")


def _find_old_c(graph: Graph, step: GateStep) -> Value:
    """Return the old c, as a node and its output."""
    for term in walk.operands(graph, step.c_new):
        product, _ = skip_identity(graph, (term, 0))
        for value in input_values(graph, product):
            if value[0] is step.c_old:
                return value
    return step.c_old, 0


def _find_old_m_of_product(graph: Graph, step: GateStep, c_old: Value) -> Value | None:
    """Return the old m if it has a product of its own: the value from the same source as c."""
    found = dict.fromkeys(operand(graph, product, 0) for product in step.products)
    taken = [value for value in found if value is not None]
    old = [value for value in taken if is_state(graph, value[0])]
    if not old:
        c_start = find_source(graph, c_old)
        begun = [(value, find_source(graph, value)) for value in taken]
        alike = [(v, one) for v, one in begun if one and c_start and _are_alike(one, c_start)]
        # Each gate may have the old m under a mask of its own.
        is_one = len({one.made.name for _, one in alike if one}) == 1
        old = [value for value, _ in alike[:1]] if is_one else []
    return old[0] if len(old) == 1 else None


def _are_alike(one: StateSource, other: StateSource) -> bool:
    return one.made is other.made or {one.made.op, other.made.op} <= VARIABLE_OPS


def _find_joined(graph: Graph, product: Node) -> tuple[Node | None, Value | None, bool]:
    """Return the input and the old m, joined in the product; and whether m is the first.

    All classes of TensorFlow put the input first; the old m is carried from step
    to step, or starts from zeros or a variable.
    """
    joined = walk.operand(graph, product, 0)
    inputs = walk.data_inputs(joined) if joined and joined.op in JOINING else []
    if joined is None or len(inputs) != 3:
        return None, None, False
    ports = (1, 2) if joined.op == "Concat" else (0, 1)
    first, second = (operand(graph, joined, at) for at in ports)
    if first is None or second is None:
        return None, None, False
    m_first = [is_state(graph, node) for node, _ in (first, second)] == [True, False]
    return (second[0], first, True) if m_first else (first[0], second, False)


def _read_forget_bias(graph: Graph, forget: Node | None) -> Option:
    """Return the sum of the constants that are added to the forget gate before its activation.

    One that is added to the bias itself is among them.
    """
    total = 0.0
    queue = [(forget, False)] if forget is not None else []  # (a term, is it one of the bias?)
    seen: set[str] = set()
    while queue:
        term, is_bias = queue.pop()
        graph.spend()
        node = walk.through(graph, term, _UNCHANGED)
        value = walk.scalar(graph, node)
        if node is None or node.name in seen:
            return UNKNOWN  # added to itself: no class does that
        seen.add(node.name)
        if node.op in ADDING:
            first, *others = walk.operands(graph, node)
            queue += [(first, is_bias), *((one, is_bias or node.op in _BIASING) for one in others)]
        elif value is not None:
            total += value
        elif node.op in FED | {"Const"} or (node.op in VARIABLE_OPS and not is_bias):
            return UNKNOWN  # fed, learnt, or not one number
    return Option(total, "graph")


def matrices(graph: Graph, product: Node) -> list[Node]:
    """Return the matrices among the variables of a weight: its norms and bounds have fewer axes."""
    weight = walk.operand(graph, product, 1)
    found = walk.variables(graph, weight) if weight is not None else []
    return [node for node in found if (shape := node.shape()) is None or len(shape) > 1]


def other(graph: Graph, node: Node, known: Node) -> Node | None:
    """Return the operand of a sum or product that is not the known one."""
    return next((node for node in walk.operands(graph, node) if node is not known), None)


def normalises(graph: Graph, product: Node, value: Node) -> bool:
    """Whether a product scales a value by its own deviation, as layer norm does."""
    return any(
        node.op == "Rsqrt"
        for factor in walk.operands(graph, product)
        if factor is not value
        for node in walk.backward(graph, [factor], lambda node: node.op == "Mul", 6)
    )


def _find_output(
    graph: Graph, outputs: list[Node], c_new: Node
) -> tuple[Node, Node, list[Node]] | None:
    """Return m = o * act(c'), the node of act(c'), and the nodes between it and c'."""
    for gate in outputs:
        for product in walk.consumers(graph, gate, MULTIPLYING):
            activated = other(graph, product, gate)
            if activated is None:
                continue
            function = find_activation(graph, (activated, 0))
            between = _find_path(graph, function.inner[0] if function else activated, c_new)
            if between is not None:
                return product, activated, between
    return None


def _find_path(graph: Graph, start: Node | None, end: Node) -> list[Node] | None:
    """Return the nodes from `start` back to `end`, if only clips and norms are between them."""
    found: list[Node] = []
    for node in walk.backward(
        graph,
        [start] if start else [],
        lambda node: node is not end and node.op in CLIPS | NORM_OPS,
        40,
    ):
        if node is end:
            return found
        found.append(node)
    return None


def _read_clip(graph: Graph, nodes: list[Node]) -> Option:
    """Return the bound of a clip among some nodes, None from the graph if there is no clip.

    A cell clips to ± its bound; no cell of TensorFlow clips otherwise.
    """
    bounds = {node.op: _read_bounds(graph, node) for node in nodes if node.op in CLIPS}
    if not bounds:
        return Option(None, "graph")
    pair = [*bounds.get("Maximum", [None]), *bounds.get("Minimum", [None])]
    lower, upper = bounds.get("ClipByValue", pair)[:2]
    if lower is None or upper is None or lower != -upper or upper < 0:
        return UNKNOWN
    return Option(upper, "graph")


def _read_bounds(graph: Graph, clip: Node) -> list[float | None]:
    """Return the constants of a clip: one, or two of ClipByValue."""
    values = [walk.scalar(graph, bound) for bound in walk.operands(graph, clip)]
    if clip.op == "ClipByValue":
        return [*values[1:], None, None]
    return [next((value for value in values if value is not None), None)]


def projections(graph: Graph, m: Node) -> list[Node]:
    """Return the products of m with weights, without those of a gradient, which transpose m."""
    products = walk.consumers(graph, m, PRODUCTS)
    return [product for product in products if not product.number("transpose_a")]


def _read_proj_clip(graph: Graph, product: Node) -> Option:
    """Return the clip that follows the projection of m, if m is projected and clipped."""
    for projected in projections(graph, product):
        clips = walk.consumers(graph, projected, CLIPS)
        if clips:
            return _read_clip(graph, [*clips[:1], *walk.consumers(graph, clips[0], CLIPS)[:1]])
    return Option(None, "graph")


def _read_activation(graph: Graph, activated: Node, c_new: Node) -> Option:
    """Return the function on c; the identity if c, clipped or normed, is used directly."""
    function = find_activation(graph, (activated, 0))
    if function is not None:
        return _from_graph(function.function)
    made = walk.through(graph, activated, frozenset({"Identity"}))
    if made is None:
        return UNKNOWN
    normed = made.op in SUMMING and any(
        normalises(graph, product, factor)
        for product in walk.operands(graph, made)
        if product.op == "Mul"
        for factor in walk.operands(graph, product)
    )
    return Option("identity", "graph") if normed or made is c_new or made.op in CLIPS else UNKNOWN
