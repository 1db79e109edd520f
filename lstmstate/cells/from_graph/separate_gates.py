"""Steps of cells by their sum c' = f * c + i * j, for gates that are not one Split.

tf.keras multiplies with four parts of a kernel, or cuts a product into four columns, and
TFLiteLSTMCell has four matrices. The way goes back from the sum, over the activations of the gates,
to the parts of products in each. The sum shows the role of each part, but not their order in a
kernel: only cells of a family with a known order are read like this.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations

from lstmstate.cells.activations import ACTIVATION_OPS
from lstmstate.cells.cell import UNKNOWN
from lstmstate.cells.from_graph.activations import (
    Value,
    find_activation,
    input_values,
    skip_identity,
)
from lstmstate.cells.from_graph.graph_cell import GraphCell
from lstmstate.cells.from_graph.loop_states import CUT_INPUT
from lstmstate.cells.from_graph.options import GateStep, matrices, other, read_options
from lstmstate.checkpoint import graph_walk as walk
from lstmstate.checkpoint.graph import Graph
from lstmstate.checkpoint.graph_node import Node
from lstmstate.checkpoint.op_sets import ADDING, CLIPS, IDENTITIES, SELECTS, SUMMING
from lstmstate.named_tuple import NamedTuple

# Between a product and its gate; never out of a loop: the last step has gates of its own.
_WITHIN = ADDING | frozenset(
    """
    Identity Cast StopGradient Reshape Squeeze ExpandDims FakeQuantWithMinMaxVars
    FakeQuantWithMinMaxArgs FakeQuantWithMinMaxVarsPerChannel
    """.split()
)
_NEAR = 40  # nodes between a gate and its products, and between c and m: patterns have ten
_BEFORE_M = frozenset(ACTIVATION_OPS) | CLIPS | SELECTS | IDENTITIES
_WITH_A_NUMBER = frozenset({"Mul", "Add", "AddV2", "RealDiv"})


class _Gate(NamedTuple):
    """A gate, or a candidate for one.

    Attributes:
        activated: the value after its activation.
        function: the activation.
        inner: the value before.
        pieces: the parts of products in its sum.
        products: those products.
        weights: the names of the matrices in them.
    """

    activated: Node
    function: str | None
    inner: Node
    pieces: frozenset[tuple[str, int]]
    products: tuple[Node, ...]
    weights: frozenset[str]


def read_sum_step(graph: Graph, c_new: Node) -> GraphCell | None:
    """Return the step with this sum as its new c, None if it is not a cell's."""
    terms = [skip_identity(graph, (node, 0))[0] for node in walk.operands(graph, c_new)]
    if len(terms) != 2 or any(term.op != "Mul" for term in terms):
        return None
    factors = [input_values(graph, term) for term in terms]
    if any(len(pair) != 2 for pair in factors):
        return None
    gates = {value: _read_gate(graph, value) for pair in factors for value in pair}
    for kept, added in permutations(factors):
        first, second = (gates[value] for value in added)
        for value, c_old in permutations(kept):
            forget = gates[value]
            if forget is not None and first is not None and second is not None:
                step = _read_step(graph, c_new, c_old[0], forget, first, second)
                if step is not None:
                    return step
    return None


def _read_step(
    graph: Graph, c_new: Node, c_old: Node, forget: _Gate, first: _Gate, second: _Gate
) -> GraphCell | None:
    """Return the step of three gates, if they are of one cell and there is an output gate.

    The input gate has the activation of the forget gate. If all three have it, it makes no
    difference which is the input gate and which the new input.
    """
    gates = [forget, first, second]
    if forget.function not in (first.function, second.function) or not _of_one_cell(graph, gates):
        return None
    for output in _find_outputs(graph, c_new, gates):
        weights = {}
        for product in (product for gate in (*gates, output) for product in gate.products):
            weights.update({node.name: node for node in matrices(graph, product)})
        wired = GraphCell(tuple((weights[name],) for name in sorted(weights)))
        step = GateStep(
            c_new=c_new,
            c_old=c_old,
            forget=forget.inner,
            outputs=[output.activated],
            product=forget.products[0],
            products=forget.products,
            recurrent_activation=forget.function,
        )
        read_options(graph, wired, step)
        # The other of the two is the new input, and goes through what c goes through.
        new = second if first.function == forget.function else first
        if wired.options["activation"].value != new.function:
            wired.options["activation"] = UNKNOWN
        # With a matrix for each gate, no rows of one kernel come first.
        wired.m_first = wired.m_first and len(weights) == 1
        return wired
    return None


def _find_outputs(graph: Graph, c_new: Node, gates: list[_Gate]) -> Iterator[_Gate]:
    """Yield the candidates for the output gate: factors next to a value made of the new c."""
    queue, seen = [c_new], {c_new.name}
    while queue and len(seen) <= _NEAR:
        made = queue.pop(0)
        for user in (edge.node for edge in graph.edges(made.name, _BEFORE_M | _WITH_A_NUMBER)):
            if user.name in seen:
                continue
            seen.add(user.name)
            factors = input_values(graph, user) if user.op in _WITH_A_NUMBER else []
            factor = next((value for value in factors if value[0] is not made), None)
            if user.op in _BEFORE_M or (
                factor is not None and walk.scalar(graph, factor[0]) is not None
            ):
                queue.append(user)
            elif user.op == "Mul" and factor is not None and not _is_kept(graph, user):
                output = _read_gate(graph, factor)
                if (
                    output is not None
                    and output.function == gates[0].function
                    and _of_one_cell(graph, [*gates, output])
                ):
                    yield output


def _is_kept(graph: Graph, product: Node) -> bool:
    """Whether a product is the f * c of the next step, copied behind this one: not an m."""
    for total in walk.consumers(graph, product, SUMMING):
        added = other(graph, total, product)
        factors = input_values(graph, added) if added is not None and added.op == "Mul" else []
        if factors and all(_read_gate(graph, value) for value in factors):
            return True
    return False


def _of_one_cell(graph: Graph, gates: list[_Gate]) -> bool:
    """Whether gates are different parts of the same products, or of products alike.

    A gradient multiplies with the same weights, transposed.
    """
    products = [product for gate in gates for product in gate.products]
    if len({bool(product.number("transpose_b")) for product in products}) != 1:
        return False
    if sum(len(gate.pieces) for gate in gates) != len({p for gate in gates for p in gate.pieces}):
        return False
    if len({gate.weights for gate in gates}) == 1:
        return True
    # A matrix for each gate, all multiplied with the same input.
    taken = {node.name for node in (walk.operand(graph, p, 0) for p in products) if node}
    apart = sum(len(gate.weights) for gate in gates) == len({w for g in gates for w in g.weights})
    return apart and len(taken) == 1


def _read_gate(graph: Graph, value: Value) -> _Gate | None:
    """Return a value as a gate: a sum of parts of products, with an activation or without."""
    function = find_activation(graph, value)
    name, inner = function or ("identity", skip_identity(graph, value))
    pieces: set[tuple[str, int]] = set()
    products: dict[str, Node] = {}
    weights: set[str] = set()
    queue, seen = [inner], {inner}
    while queue and len(seen) <= _NEAR:
        node, port = queue.pop(0)
        graph.spend()
        behind = _find_products(graph, node)
        if behind:
            pieces.add((node.name, port))
            for product in behind:
                products[product.name] = product
                weights.update(weight.name for weight in matrices(graph, product))
        elif node.op in _WITHIN:
            for before in input_values(graph, node):
                if before not in seen:
                    seen.add(before)
                    queue.append(before)
    if not weights:
        return None
    of = tuple(products.values())
    return _Gate(value[0], name, inner[0], frozenset(pieces), of, frozenset(weights))


def _find_products(graph: Graph, node: Node) -> list[Node]:
    """Return a product itself, or the products that a node is cut out of."""
    if node.op == "MatMul":
        return [node]
    if node.op not in CUT_INPUT:
        return []
    whole = walk.operand(graph, node, CUT_INPUT[node.op])
    before = walk.backward(
        graph, [whole] if whole is not None else [], lambda node: node.op in _WITHIN, _NEAR
    )
    return [node for node in before if node.op == "MatMul"]
