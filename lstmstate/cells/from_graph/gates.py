"""Steps of cells whose gates are one Split: the gates by their factors.

The mark of a cell is a product with a kernel, cut into gates: one goes through a sigmoid and is
multiplied with the old c, one is multiplied with the new input. Names of nodes play no part:
they differ between releases, and with every unrolled step.
"""

from __future__ import annotations

from collections.abc import Iterator

from lstmstate.cells.activations import ACTIVATION_OPS
from lstmstate.cells.from_graph.activations import find_activation
from lstmstate.cells.from_graph.graph_cell import GraphCell
from lstmstate.cells.from_graph.loop_states import SPLITS
from lstmstate.cells.from_graph.options import (
    MULTIPLYING,
    NORM_OPS,
    PRODUCTS,
    GateStep,
    matrices,
    normalises,
    other,
    read_options,
)
from lstmstate.checkpoint import graph_walk as walk
from lstmstate.checkpoint.graph import VARIABLE_OPS, Graph
from lstmstate.checkpoint.graph_node import Node
from lstmstate.checkpoint.op_sets import (
    ADDING,
    CLIPS,
    ENTERS,
    IDENTITIES,
    JOINING,
    PASSING,
    SUMMING,
)
from lstmstate.named_tuple import NamedTuple

_RESHAPING = frozenset({"Squeeze", "ExpandDims", "Reshape"})
_BEFORE_GATES = ADDING | PASSING | JOINING | _RESHAPING
_BEFORE_ACTIVATION = NORM_OPS | ADDING | JOINING | PASSING | ACTIVATION_OPS.keys()
_PASSES_WEIGHTS = ENTERS | IDENTITIES | {"ReadVariableOp"}
_CUTTING = frozenset({"Split", "SplitV", "Slice", "StridedSlice", "Reshape", "Transpose"})
WITH_CUTS = _PASSES_WEIGHTS | _CUTTING  # between a weight, or a part of it, and a product


def read_split_step(graph: Graph, split: Node) -> GraphCell | None:
    """Return the step whose gates this node splits, None if it is not a cell's."""
    gates = split.number("num_split") or 0
    value = walk.operand(graph, split, SPLITS[split.op])
    if gates not in (3, 4) or value is None:
        return None
    products, biases = _find_products(graph, value)
    if not products:
        return None
    kernels = (tuple(matrices(graph, product)) for product in products)
    wired = GraphCell(tuple(shards for shards in kernels if shards), biases)
    _read_gates(graph, split, gates, wired, products)
    return wired if wired.gate_order else None


def is_plain_product(graph: Graph, variable: Node) -> bool:
    """Whether a matrix has products that are not split: a dense layer."""
    products = list(products_with(graph, variable))
    summed = [
        user for product in products for user in [product, *walk.consumers(graph, product, ADDING)]
    ]
    return bool(products) and not any(
        walk.consumers(graph, value, _CUTTING) or walk.consumers(graph, value, JOINING)
        for value in summed
    )


def is_multiplied(graph: Graph, variable: Node) -> bool:
    """Whether a matrix, or a part cut out of it, has a product."""
    return any(products_with(graph, variable, WITH_CUTS))


def products_with(
    graph: Graph, variable: Node, passing: frozenset[str] = _PASSES_WEIGHTS
) -> Iterator[Node]:
    """Yield the products with a weight; those of a gradient transpose the weight."""
    queue, seen = [variable], {variable.name}
    for _ in range(60):
        if not queue:
            break
        for edge in graph.edges(queue.pop().name, passing | {"MatMul"}):
            if edge.node.op in passing:
                if edge.node.name not in seen:
                    seen.add(edge.node.name)
                    queue.append(edge.node)
            elif edge.position == 1 and not edge.node.number("transpose_b"):
                yield edge.node


def _find_products(graph: Graph, value: Node) -> tuple[list[Node], tuple[Node, ...]]:
    """Go back from the gates over sums and joins to the products; return the biases too."""
    products: list[Node] = []
    biases: list[Node] = []
    for node in walk.backward(
        graph,
        [value],
        lambda node: node.op in _BEFORE_GATES,
        60,
    ):
        if node.op in PRODUCTS:
            products.append(node)
        elif node.op in VARIABLE_OPS:
            biases.append(node)
    return products, tuple(biases)


class _Sum(NamedTuple):
    """c' = f * c + i * j in a graph; i is None if it is 1 - f."""

    c_new: Node
    c_old: Node
    forget: Node
    f: int
    i: int | None
    j: int


def _read_gates(
    graph: Graph, split: Node, gates: int, wired: GraphCell, products: list[Node]
) -> None:
    """Find the role of each gate, and read the options around them."""
    ends = {port: _find_activations(graph, split, port) for port in range(gates)}
    for found in _find_sums(graph, ends):
        rest = [port for port in range(gates) if port not in (found.i, found.j, found.f)]
        if len(rest) != 1:
            continue
        letters = {found.f: "f", found.j: "j", rest[0]: "o"}
        if found.i is not None:
            letters[found.i] = "i"
        wired.gate_order = "".join(letters[port] for port in range(gates))
        step = GateStep(
            c_new=found.c_new,
            c_old=found.c_old,
            forget=walk.operand(graph, found.forget, 0),
            outputs=ends[rest[0]],
            product=products[0],
            products=tuple(products),
            recurrent_activation="sigmoid",
        )
        read_options(graph, wired, step)
        return


def _find_sums(graph: Graph, ends: dict[int, list[Node]]) -> Iterator[_Sum]:
    """Yield the sums that could be the new c.

    f is multiplied with the old c, the only factor that is not a gate, and the product
    is added to that of i and j; with coupled gates, to that of 1 - f and j.
    """
    ports = {node.name: port for port, found in ends.items() for node in found}
    for f, found in ends.items():
        for forget in (node for node in found if node.op == "Sigmoid"):
            for product in walk.consumers(graph, forget, MULTIPLYING):
                c_old = other(graph, product, forget)
                if c_old is None or c_old.name in ports:
                    continue
                for c_new in walk.consumers(graph, product, SUMMING):
                    pair = _match_new_input(graph, other(graph, c_new, product), ports, f, forget)
                    if pair is not None:
                        yield _Sum(c_new, c_old, forget, f, *pair)


def _find_activations(graph: Graph, split: Node, port: int) -> list[Node]:
    """Return the activations of an output of the split, or else itself.

    On the way there are sums (bias, forget bias, peepholes), joins of groups and layer norm.
    """
    found: list[Node] = []
    seen: set[str] = set()
    queue = [(split, port)]
    while queue and len(seen) < 200:
        node, wanted = queue.pop(0)
        for edge in graph.edges(node.name, _BEFORE_ACTIVATION):
            user = edge.node
            if (wanted >= 0 and edge.port != wanted) or user.name in seen:
                continue
            if user.op in ACTIVATION_OPS:
                seen.add(user.name)
                found.append(user)
            elif user.op != "Mul" or normalises(graph, user, node):
                seen.add(user.name)
                queue.append((user, -1))
    return found or [split]


def _match_new_input(
    graph: Graph, product: Node | None, ports: dict[str, int], f: int, forget: Node
) -> tuple[int | None, int] | None:
    """Return the ports of i and j if this is their product; i is None if it is 1 - f."""
    factors = walk.operands(graph, product) if product and product.op == "Mul" else []
    if len(factors) != 2:
        return None
    for coupled, candidate in (factors, factors[::-1]):
        if coupled.op == "Sub" and walk.operand(graph, coupled, 1) is forget:
            j = _find_port(graph, candidate, ports)
            return None if j is None else (None, j)
    is_sigmoid = [factor.op == "Sigmoid" for factor in factors]
    first, second = (_find_port(graph, factor, ports) for factor in factors)
    if first is None or second is None or first == second or f in (first, second):
        return None
    if not any(is_sigmoid):
        return None
    # i goes through a sigmoid; if j does too, the order of TensorFlow's classes decides.
    if all(is_sigmoid):
        return min(first, second), max(first, second)
    return (first, second) if is_sigmoid[0] else (second, first)


def _find_port(graph: Graph, factor: Node, names: dict[str, int]) -> int | None:
    """Return the gate of a factor, directly, or before dropout or a function.

    `_find_activations` ends at functions of one operation; one of several ends in a clip.
    """
    start: Node | None = factor
    for _ in range(2):
        before = walk.backward(graph, [start] if start else [], lambda n: n.op in NORM_OPS, 40)
        start = None
        for node in before:
            if node.name in names:
                return names[node.name]
            function = find_activation(graph, (node, 0)) if node.op in CLIPS else None
            if function is not None:
                start = function.inner[0]
                break
    return None
