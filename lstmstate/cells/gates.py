"""A cell made of small operations: its gates told apart by what they are multiplied with.

The mark of a cell is a product with a kernel, cut into gates, of which one is squashed and
multiplied with the old c and one with the new input. What nodes are called plays no part:
names of nodes differ between releases, and with every unrolled step.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from lstmstate.cells import trace
from lstmstate.cells.model import UNKNOWN, Option
from lstmstate.cells.origin import FED, SPLITS, batch_size, frame, is_column_cut, is_state
from lstmstate.cells.wired import Wired
from lstmstate.checkpoint.graph import VARIABLE_OPS, Edge, Graph
from lstmstate.checkpoint.node import Node

_PRODUCTS = frozenset({"MatMul", "Conv2D", "Conv3D"})
_RESHAPING = frozenset({"Squeeze", "ExpandDims", "Reshape"})
_BEFORE_GATES = trace.ADDING | trace.PASSING | trace.JOINING | _RESHAPING
_MULTIPLYING = frozenset({"Mul"})
_SUMMING = frozenset({"Add", "AddV2"})
_CLIPS = frozenset({"Minimum", "Maximum", "ClipByValue"})
_CUTS = frozenset({"Split", "SplitV", "Slice", "StridedSlice", "Reshape", "Transpose"})
_NORM_OPS = frozenset(
    """
    Mul Add AddV2 Sub Rsqrt Mean SquaredDifference Reshape RealDiv Cast BiasAdd Identity Sqrt
    StopGradient Neg Div FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 Select SelectV2
    """.split()
)


def split_step(graph: Graph, split: Node) -> Wired | None:
    """Return the step whose gates this node cuts apart, None where it is no cell's."""
    gates = split.number("num_split") or 0
    value = trace.operand(graph, split, SPLITS[split.op])
    if gates not in (3, 4) or value is None:
        return None
    products, biases = _product(graph, value)
    if not products:
        return None
    kernels = []
    for product in products:
        weight = trace.operand(graph, product, 1)
        # What scales a weight (norms, bounds of quantisation) has fewer axes than it.
        shards = tuple(
            variable
            for variable in (trace.variables(graph, weight) if weight else ())
            if len(variable.shape() or ()) != 1 and variable.shape() != ()
        )
        if shards:
            kernels.append(shards)
    wired = Wired(tuple(kernels), biases)
    _read_gates(graph, split, gates, wired, products)
    return wired if wired.gate_order else None


def is_plain_product(graph: Graph, variable: Node) -> bool:
    """Whether a matrix is multiplied with, and the product is not cut apart: a dense layer."""
    passing = frozenset({"Identity", "ReadVariableOp", "Enter", "RefEnter", "Cast"})
    queue = [variable]
    products = []
    for _ in range(60):
        if not queue:
            break
        for edge in graph.edges(queue.pop().name):
            graph.spend()
            if edge.node.op in passing:
                queue.append(edge.node)
            elif (
                edge.node.op == "MatMul"
                and edge.position == 1
                and not edge.node.number("transpose_b")
            ):
                products.append(edge.node)
    summed = [
        user
        for product in products
        for user in [product, *trace.consumers(graph, product, trace.ADDING)]
    ]
    return bool(products) and not any(
        trace.consumers(graph, value, _CUTS) or trace.consumers(graph, value, trace.JOINING)
        for value in summed
    )


def _multiplies_with(edge: Edge) -> bool:
    """Whether an edge brings the weight to a product; a gradient's turns the weight over."""
    return edge.node.op == "MatMul" and edge.position == 1 and not edge.node.number("transpose_b")


def _product(graph: Graph, value: Node) -> tuple[list[Node], tuple[Node, ...]]:
    """Go back from the gates over sums and joins to the products; return the biases too."""
    products: list[Node] = []
    biases: list[Node] = []
    for node in trace.backward(
        graph,
        [value],
        lambda node: node.op in _BEFORE_GATES,
        60,
    ):
        if node.op in _PRODUCTS:
            products.append(node)
        elif node.op in VARIABLE_OPS:
            biases.append(node)
    return products, tuple(biases)


class _Sum(NamedTuple):
    """c' = f * c + i * j, as it stands in a graph; i is None where it is 1 - f."""

    c_new: Node
    c_old: Node
    forget: Node
    f: int
    i: int | None
    j: int


def _read_gates(graph: Graph, split: Node, gates: int, wired: Wired, products: list[Node]) -> None:
    """Tell the gates apart, and read the options off what stands around them."""
    ends = {port: _squashed(graph, split, port) for port in range(gates)}
    for found in _sums(graph, ends):
        rest = [port for port in range(gates) if port not in (found.i, found.j, found.f)]
        if len(rest) != 1:
            continue
        letters = {found.f: "f", found.j: "j", rest[0]: "o"}
        if found.i is not None:
            letters[found.i] = "i"
        wired.gate_order = "".join(letters[port] for port in range(gates))
        _read_options(graph, wired, found, ends[rest[0]], products[0])
        return


def _sums(graph: Graph, ends: dict[int, list[Node]]) -> Iterator[_Sum]:
    """Yield the sums that could be the new c.

    Of the squashed gates f is multiplied with what is none of them, the old c, and the product
    is added to that of i and j; with coupled gates, to that of 1 - f and j.
    """
    ports = {node.name: port for port, found in ends.items() for node in found}
    for f, found in ends.items():
        for forget in (node for node in found if node.op == "Sigmoid"):
            for product in trace.consumers(graph, forget, _MULTIPLYING):
                c_old = _other(graph, product, forget)
                if c_old is None or c_old.name in ports:
                    continue
                for c_new in trace.consumers(graph, product, _SUMMING):
                    pair = _new_input(graph, _other(graph, c_new, product), ports, f, forget)
                    if pair is not None:
                        yield _Sum(c_new, c_old, forget, f, *pair)


def _other(graph: Graph, node: Node, known: Node) -> Node | None:
    """Return the operand of a sum or product that is not the known one."""
    return next((node for node in trace.operands(graph, node) if node is not known), None)


def _squashed(graph: Graph, split: Node, port: int) -> list[Node]:
    """Return the activations that an output of the split goes into, or else itself.

    On the way lie sums (bias, forget bias, peepholes), joins of groups and layer norm.
    """
    passing = trace.ADDING | _NORM_OPS | trace.JOINING | trace.PASSING
    found: list[Node] = []
    seen: set[str] = set()
    queue = [(split, port)]
    while queue and len(seen) < 200:
        node, wanted = queue.pop(0)
        for edge in graph.edges(node.name):
            graph.spend()
            if (wanted >= 0 and edge.port != wanted) or edge.node.name in seen:
                continue
            seen.add(edge.node.name)
            if edge.node.op in trace.ACTIVATIONS:
                found.append(edge.node)
            elif edge.node.op in passing and (
                edge.node.op != "Mul" or _normalises(graph, edge.node, node)
            ):
                queue.append((edge.node, -1))
    return found or [split]


def _normalises(graph: Graph, product: Node, value: Node) -> bool:
    """Whether a product scales a value by its own deviation, as layer norm does."""
    return any(
        node.op == "Rsqrt"
        for factor in trace.operands(graph, product)
        if factor is not value
        for node in trace.backward(graph, [factor], lambda node: node.op == "Mul", 6)
    )


def _new_input(
    graph: Graph, product: Node | None, ports: dict[str, int], f: int, forget: Node
) -> tuple[int | None, int] | None:
    """Return the ports of i and j if this is their product; i is None where it is 1 - f."""
    factors = trace.operands(graph, product) if product and product.op == "Mul" else []
    if len(factors) != 2:
        return None
    for coupled, candidate in (factors, factors[::-1]):
        if coupled.op == "Sub" and trace.operand(graph, coupled, 1) is forget:
            j = _port(graph, candidate, ports)
            return None if j is None else (None, j)
    squashed = [factor.op == "Sigmoid" for factor in factors]
    first, second = (_port(graph, factor, ports) for factor in factors)
    if first is None or second is None or first == second or f in (first, second):
        return None
    if not any(squashed):
        return None
    # i is squashed by a sigmoid; where j is too, the order of TensorFlow's classes decides.
    if all(squashed):
        return min(first, second), max(first, second)
    return (first, second) if squashed[0] else (second, first)


def _port(graph: Graph, factor: Node, names: dict[str, int]) -> int | None:
    """Return the gate that a factor comes from, directly or behind dropout."""
    for node in trace.backward(graph, [factor], lambda node: node.op in _NORM_OPS, 12):
        if node.name in names:
            return names[node.name]
    return None


def _read_options(
    graph: Graph, wired: Wired, found: _Sum, outputs: list[Node], product: Node
) -> None:
    """Read what stands around the new c, and where the old state comes from."""
    wired.options["forget_bias"] = _forget_bias(graph, found.forget)
    wired.options["state_is_tuple"] = Option(not is_column_cut(graph, found.c_old), "graph")
    wired.options["batch_size"] = batch_size(graph, found.c_old)
    wired.frame = frame(graph, product)
    m_old, wired.m_first = _m_old(graph, product)
    wired.firsts.append((found.c_old, m_old))
    out = _output(graph, outputs, found.c_new)
    # Simple and quasi-recurrent units have such a c, but no m goes into their product.
    wired.complete = out is not None and (m_old is not None or len(wired.kernels) > 1)
    if out is not None:
        m, squashed, between = out
        wired.options["activation"] = _activation(graph, squashed, found.c_new, between)
        wired.options["cell_clip"] = _clip(graph, between)
        wired.options["proj_clip"] = _proj_clip(graph, m)


def _m_old(graph: Graph, product: Node) -> tuple[Node | None, bool]:
    """Return the old m, which lies beside the input in the product, and whether it lies first.

    All classes of TensorFlow put the input first; one sees which of the two is carried from step
    to step, or starts from zeros or a variable.
    """
    joined = trace.operand(graph, product, 0)
    parts = trace.operands(graph, joined) if joined and joined.op in trace.JOINING else []
    if joined is None or len(parts) != 3:
        return None, False
    first, second = parts[1:] if joined.op == "Concat" else parts[:2]
    m_first = [is_state(graph, node) for node in (first, second)] == [True, False]
    return (first if m_first else second), m_first


def _forget_bias(graph: Graph, forget: Node) -> Option:
    """Return the sum of the constants that are added before the forget gate is squashed."""
    total = 0.0
    queue = trace.operands(graph, forget)[:1]
    seen: set[str] = set()
    while queue:
        node = queue.pop()
        graph.spend()
        made = trace.through(graph, node)
        value = trace.scalar(graph, node)
        if node.name in seen:
            return UNKNOWN  # added to itself: no class does that
        seen.add(node.name)
        if node.op in ("Add", "AddV2"):
            queue += trace.operands(graph, node)
        elif value is not None:
            total += value
        elif made is not None and (made.op == "Const" or _is_number(made)):
            return UNKNOWN  # fed, learnt, or not one number
    return Option(total, "graph")


def _is_number(node: Node) -> bool:
    return node.op in VARIABLE_OPS | FED and node.shape() in ((), None)


def _output(graph: Graph, outputs: list[Node], c_new: Node) -> tuple[Node, Node, list[Node]] | None:
    """Return m = o * act(c'), the activation (or what stands for it), and what is between."""
    for gate in outputs:
        for product in trace.consumers(graph, gate, _MULTIPLYING):
            squashed = _other(graph, product, gate)
            if squashed is None:
                continue
            inner = trace.operand(graph, squashed, 0)
            start = inner if squashed.op in trace.ACTIVATIONS else squashed
            between = _path_back(graph, start, c_new)
            if between is not None:
                return product, squashed, between
    return None


def _path_back(graph: Graph, start: Node | None, end: Node) -> list[Node] | None:
    """Return the nodes from `start` back to `end`, over clips and norms alone; None elsewhere."""
    found: list[Node] = []
    for node in trace.backward(
        graph,
        [start] if start else [],
        lambda node: node is not end and node.op in _CLIPS | _NORM_OPS,
        40,
    ):
        if node is end:
            return found
        found.append(node)
    return None


def _clip(graph: Graph, nodes: list[Node]) -> Option:
    """Return the upper bound of a clip among some nodes; no clip is an answer too."""
    for node in nodes:
        if node.op in ("Minimum", "ClipByValue"):
            # ClipByValue takes the value, the lower bound and the upper one.
            bounds = trace.operands(graph, node)[2 if node.op == "ClipByValue" else 0 :]
            values = [trace.scalar(graph, bound) for bound in bounds]
            known = [value for value in values if value is not None]
            return Option(known[0], "graph") if known else UNKNOWN
    return Option(None, "graph")


def _proj_clip(graph: Graph, product: Node) -> Option:
    """Return the clip that follows the projection of m, if m is projected and clipped."""
    for projected in trace.consumers(graph, product, _PRODUCTS):
        clips = trace.consumers(graph, projected, frozenset({"Minimum", "ClipByValue"}))
        if clips:
            return _clip(graph, clips[:1])
    return Option(None, "graph")


def _activation(graph: Graph, squashed: Node, c_new: Node, between: list[Node]) -> Option:
    """Return the function on c; none where c, clipped or normed, goes on as it is."""
    if squashed.op in trace.ACTIVATIONS:
        return Option(trace.ACTIVATIONS[squashed.op], "graph")
    normed = any(node.op == "Rsqrt" for node in between)
    made = trace.through(graph, squashed, frozenset({"Identity"}))
    as_it_is = normed or made is c_new or (made is not None and made.op in _CLIPS)
    return Option("identity", "graph") if as_it_is else UNKNOWN
