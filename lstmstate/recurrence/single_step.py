"""The input and the new state of a cell in a graph with a single step.

No second step shows which tensors are x and the old m, and which are the new c and m.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from lstmstate.cells.from_graph.graph_cell import GraphCell, GraphStep
from lstmstate.checkpoint.fused_ops import BLOCK_C, BLOCK_M
from lstmstate.checkpoint.graph import VARIABLE_OPS
from lstmstate.checkpoint.graph_node import Node
from lstmstate.checkpoint.op_sets import CLIPS
from lstmstate.graph.dropout import before_dropout
from lstmstate.graph.evaluate import Scope
from lstmstate.graph.tensors import Tensor, behind, between, data_inputs
from lstmstate.named_tuple import NamedTuple
from lstmstate.recurrence.data_path import origins
from lstmstate.recurrence.find_states import ELEMENTWISE, PRODUCTS

_PASSES_STATES = frozenset({"Identity", "StopGradient", "Snapshot"})
_CHANGES = (ELEMENTWISE | {"AddN"}) - _PASSES_STATES
_NEAR = 12  # nodes between a new state and an old one that is mixed with it
_FAR = 400  # nodes of a step


class StateAfterStep(NamedTuple):
    """The new state of a single step.

    Attributes:
        c, m: the new state.
        problem: the reason why it is unknown, None if nothing contradicts it.
        doubt: the reason why it is certain only for a cell known to compute it.
    """

    c: Tensor
    m: Tensor
    problem: str | None = None
    doubt: str | None = None


def new_state(
    scope: Scope, wired: GraphCell, step: GraphStep, old: Collection[Tensor]
) -> StateAfterStep:
    """Return the new state of a single step.

    It is the cell's result, unless the graph changes that into another value of the same shape:
    then either may be fed to the next step.

    Args:
        old: the state before the step.
    """
    m = Tensor(step.m.name if step.m is not None else "")
    way = between(scope.nodes, step.c_new.name, m, None, _FAR) or []
    c, doubt = _find_squashed(step.c_new, way[:-1])
    own = m.node.rpartition("/")[0]
    c = _follow_clips(scope, c, own)
    m = _follow_clips(scope, _follow_projection(scope, wired, m), own)
    whole = behind(scope.nodes, [m], lambda node: node.op not in VARIABLE_OPS, _FAR)
    inner = {tensor.node for tensor, _ in whole}
    problem = _describe_change(scope, c, old, inner) or _describe_change(scope, m, old, inner, own)
    return StateAfterStep(c, m, problem, doubt)


def of_block(scope: Scope, node: Node, old: Collection[Tensor]) -> StateAfterStep:
    """Return the new state of an operation that is a whole step."""
    c, m = Tensor(node.name, BLOCK_C), Tensor(node.name, BLOCK_M)
    inner, own = {node.name}, node.name.rpartition("/")[0]
    problem = _describe_change(scope, c, old, inner) or _describe_change(scope, m, old, inner, own)
    return StateAfterStep(c, m, problem)


def operands(
    scope: Scope, products: Sequence[Node], m: Node | None, c: Tensor | None
) -> tuple[Tensor | None, Tensor | None]:
    """Return the tensors of x and of the old m that a single step multiplies with its weights.

    The matrix for m has as many rows as the cell has units. If the matrix for x has, too, m is the
    tensor that comes from the same placeholder as c.

    Args:
        m: the node of the new m, before a projection.
        c: the old c.
    """
    columns: dict[Tensor, int] = {}
    rows: dict[Tensor, int | None] = {}
    for product in products:
        operand, weights = data_inputs(product)[:2]
        for shape in _find_shapes(scope, weights):
            if len(shape) == 2 and not product.number("transpose_b"):
                rows[operand] = shape[0]
                columns[operand] = columns.get(operand, 0) + (shape[1] or 0)
    if len(columns) != 2:
        return None, None
    found = [one for one in columns if 4 * (rows[one] or 0) == columns[one]]
    if len(found) == 2 and c is not None:
        of_c = {node.name for node in origins(scope.nodes, [c], {}).sources}
        ways = {one: origins(scope.nodes, [one], {}).sources for one in found}
        found = [one for one, way in ways.items() if of_c & {node.name for node in way}]
    if len(found) != 1:
        return None, None
    (x,) = (one for one in columns if one != found[0])
    widths = {
        shape[-1]
        for user in _find_users(scope, m.name if m else "")
        if user.op in PRODUCTS
        for shape in _find_shapes(scope, data_inputs(user)[1])
        if shape
    }
    if rows[x] in widths:
        return None, None  # m may be projected, and then either matrix may be that for x
    return x, found[0]


def _find_shapes(scope: Scope, weights: Tensor) -> Iterator[tuple[int | None, ...]]:
    for name in origins(scope.nodes, [weights], {}).variables:
        yield scope.nodes[name].shape() or ()


def _find_squashed(c_new: Node, nodes: Sequence[Node]) -> tuple[Tensor, str | None]:
    """Return the c that m is computed from: the sum, perhaps clipped; a doubt if more is done.

    Args:
        nodes: those between the sum and m.
    """
    squashes = [at for at, node in enumerate(nodes) if len(data_inputs(node)) == 1]
    before = nodes[: squashes[-1]] if squashes else nodes
    clips = CLIPS if squashes else frozenset()
    others = [node for node in before if node.op not in clips | _PASSES_STATES]
    c = Tensor(before[-1].name if before and squashes else c_new.name)
    if not others:
        return c, None
    kind = others[0].op
    return c, f"the graph takes 1 step, and the new c may be the value before or after {kind}"


def _follow_projection(scope: Scope, wired: GraphCell, m: Tensor) -> Tensor:
    """Return the projection of m by a matrix in the cell's own scope, m without one."""
    scopes = {node.name.rpartition("/")[0] for shards in wired.kernels for node in shards}
    found = [
        user.name
        for user, position in scope.users.get(m.node, ())
        if user.op in PRODUCTS and position == 0 and not _is_of_gradient(user)
        for name in origins(scope.nodes, data_inputs(user)[1:2], {}).variables
        if any(own and name.startswith(f"{own}/") for own in scopes)
    ]
    return Tensor(found[0]) if len(found) == 1 else m


def _follow_clips(scope: Scope, made: Tensor, own: str) -> Tensor:
    """Return a new state after the clips in the cell's own scope."""
    for _ in range(4):
        every = _find_users(scope, made.node)
        users = [user for user in every if user.op in CLIPS and _is_within(user, own)]
        if len(users) != 1:
            break
        made = Tensor(users[0].name)
    return made


def _is_within(node: Node, scope: str) -> bool:
    return not scope or node.name.startswith(f"{scope}/")


def _describe_change(
    scope: Scope,
    made: Tensor,
    old: Collection[Tensor],
    inner: Collection[str],
    own: str | None = None,
) -> str | None:
    """Return how a graph changes a new state into another value of the same shape.

    c is only a state. m is an output as well, so layers may follow the cell: it counts as changed
    only within the cell's own scope, or if it is mixed with an old state.

    Args:
        old: the state before the step.
        inner: the nodes that m is computed from.
        own: the scope of the cell if the state is m, else None.
    """
    half = "c" if own is None else "m"
    queue, seen = [made], {made}
    while queue and len(seen) < _NEAR:
        tensor = queue.pop()
        for user, _ in scope.readers(tensor):
            if user.name in inner or _is_of_gradient(user):
                continue
            if user.op in _PASSES_STATES:
                queue += [Tensor(user.name)]
            elif user.op in _CHANGES and not _is_dropout(scope, user, tensor):
                if own is None or _is_within(user, own) or _is_mixed(scope, user, old, inner):
                    return (
                        f"the graph takes 1 step and then changes its {half} ({user.op}): the new "
                        f"{half} may be the value before or after that"
                    )
                queue += [Tensor(user.name)]
            seen.add(Tensor(user.name))
    return None


def _is_of_gradient(node: Node) -> bool:
    """Whether a node computes a gradient, which changes no state."""
    return any(part.startswith("gradient") for part in node.name.split("/"))


def _is_dropout(scope: Scope, user: Node, kept: Tensor) -> bool:
    """Whether a node, or one that reads it, is dropout of a value, which is left out."""
    after = _find_users(scope, user.name)
    return any(before_dropout(scope.nodes, node) == kept for node in (user, *after))


def _find_users(scope: Scope, name: str) -> list[Node]:
    return [user for user, _ in scope.users.get(name, ())]


def _is_mixed(scope: Scope, node: Node, old: Collection[Tensor], inner: Collection[str]) -> bool:
    """Whether a node, or one that reads it, also reads an old state, not only the new one."""

    def is_changing(one: Node) -> bool:
        return one.name not in inner and one.op in _CHANGES | _PASSES_STATES

    starts = [Tensor(one.name) for one in (node, *_find_users(scope, node.name))]
    way = behind(scope.nodes, starts, is_changing, _NEAR + len(starts))
    return any(tensor in old for _, one in way if is_changing(one) for tensor in data_inputs(one))
