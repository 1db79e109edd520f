"""States that a graph keeps in variables, as first states or by assignments."""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterable, Iterator, Sequence

from lstmstate.cells.cell import Cell, SavedState, Stack, StateWidths
from lstmstate.cells.from_graph.activations import Value, operand
from lstmstate.cells.from_graph.axes import Element, TensorPart, part
from lstmstate.cells.from_graph.initial_state_source import find_source, find_sources, part_of
from lstmstate.cells.from_graph.match_variables import GraphView, VariableFacts
from lstmstate.checkpoint import graph_walk as walk
from lstmstate.checkpoint.graph import Graph
from lstmstate.checkpoint.graph_node import Node
from lstmstate.checkpoint.op_sets import (
    ASSIGNS,
    BRANCHES,
    CALLS,
    CLIPS,
    CONCATS,
    MERGES,
    NEXTS,
    PASSING,
    SELECTS,
    WHILES,
)
from lstmstate.named_tuple import NamedTuple

_AROUND = PASSING | CLIPS | SELECTS | {"Cast", "Exit"}
_NEAR = 60  # values between a variable and the step that it is assigned from


class Use(NamedTuple):
    """One half of a cell's state in a variable.

    Attributes:
        half: "c" or "m".
        part: its part of the variable.
        number: its place among the tensors that were joined to the assigned value.
    """

    half: str
    cell: Cell
    part: TensorPart
    number: int | None = None

    @property
    def width(self) -> int:
        """The width of the half."""
        state = self.cell.state or StateWidths(0, 0)
        return state.c if self.half == "c" else state.m

    @property
    def rows(self) -> int | None:
        """The number of its rows in a vector; None if the variable is not a vector of rows."""
        if len(self.part.axes) != 2 or self.part.picked:
            return None
        rows, last = self.part.axes
        is_vector = rows.of is None and last.of == 0 and rows.at == 0
        return rows.size if is_vector and (rows.size or 0) > 1 else None

    def in_rows(self) -> Use:
        """Return the same half of the matrix that has the rows."""
        rows, last = self.part.axes
        axes = (rows._replace(of=0), last._replace(of=1))
        return self._replace(part=self.part._replace(axes=axes))


def find_kept_states(
    view: GraphView, cells: Iterable[Cell], stacks: Sequence[Stack], weights: Container[str]
) -> dict[str, SavedState]:
    """Return the variables that the graph keeps states in, by name.

    First states of cells count before assignments.

    Args:
        weights: names of the variables that are parts of cells.
    """
    known = [cell for cell in cells if cell.state is not None]
    found: dict[str, SavedState] = {}
    by_start = (True, _first_states(view, known)), (False, _assignments(view, known, weights))
    for is_start, uses in by_start:
        of: dict[str, list[Use]] = {}
        stored: dict[str, VariableFacts] = {}
        for variable, use in uses:
            of.setdefault(variable.name, []).append(use)
            stored[variable.name] = variable
        for name, some in of.items():
            if name not in found:
                state = _state(stored[name], some, stacks)
                picks = any(axis.at is None for use in some for axis in use.part.axes[:-1])
                found[name] = state._replace(is_start=is_start, picks_rows=picks)
    return found


def _first_states(view: GraphView, cells: Iterable[Cell]) -> Iterator[tuple[VariableFacts, Use]]:
    for cell in cells:
        wired = view.cell_of(cell.variables)
        if wired is None:
            continue
        for first in wired.firsts:
            for half, value in zip("cm", first, strict=True):
                begun = None if wired.makes(value) else find_source(view.graph, value)
                variable = view.variable(begun.made) if begun else None
                if begun is not None and variable is not None:
                    left = part_of(view.graph, begun, variable.shape)
                    yield variable, Use(half, cell, left or TensorPart((), {}))


# ---- assignments


class _Holding(NamedTuple):
    """A variable that is assigned from a value, or from one of several that are joined."""

    variable: VariableFacts
    elements: tuple[Element, ...]


def _assignments(
    view: GraphView, cells: Iterable[Cell], weights: Container[str]
) -> Iterator[tuple[VariableFacts, Use]]:
    """Yield the halves of the last states of cells that variables are assigned from."""
    holdings = _holdings(view, weights)
    graph = view.graph
    carrying = {
        name for name, _ in holdings if graph.nodes[name].op in ("Merge", "RefMerge", "Enter")
    }
    for cell in cells if holdings else ():
        wired = view.cell_of(cell.variables)
        if wired is None:
            continue
        for (name, port), half in wired.lasts.items():
            for holding in holdings.get((name, port), ()):
                yield from _uses_of(graph, holding, Use(half, cell, TensorPart((), {})), ())
        for first in wired.firsts if carrying else ():
            for half, value in zip("cm", first, strict=True):
                for begun in find_sources(graph, value, carrying):
                    for holding in holdings.get((begun.made.name, 0), ()):
                        yield from _uses_of(
                            graph, holding, Use(half, cell, TensorPart((), {})), begun.path
                        )


def _uses_of(
    graph: Graph, holding: _Holding, use: Use, path: tuple[Value, ...]
) -> Iterator[tuple[VariableFacts, Use]]:
    left = part(graph, holding.variable.shape, (*holding.elements, *path))
    joined = [element.number for element in holding.elements if not element.is_stacked]
    if left is not None and len(joined) < 2:
        number = joined[0] if joined else None
        yield holding.variable, use._replace(part=left, number=number)


def _holdings(view: GraphView, weights: Container[str]) -> dict[tuple[str, int], list[_Holding]]:
    """Return for each value on the way to a variable, near the end, the variables behind it."""
    found: dict[tuple[str, int], list[_Holding]] = {}
    graph = view.graph
    arguments: dict[str, list[Node]] = {}
    for node in graph.of({"Enter"}):
        if not node.attributes:  # laid in: the argument of a function
            arguments.setdefault(node.frame or "", []).append(node)
    for node in graph.of(ASSIGNS):
        variable = view.variable(walk.through(graph, walk.operand(graph, node, 0)))
        value = operand(graph, node, 1)
        if variable is not None and variable.name not in weights and value is not None:
            for (name, port), elements in _values_behind(graph, value, arguments):
                found.setdefault((name, port), []).append(_Holding(variable, elements))
    return found


def _values_behind(
    graph: Graph, value: Value, arguments: dict[str, list[Node]]
) -> Iterator[tuple[tuple[str, int], tuple[Element, ...]]]:
    """Yield the values that one is made of, and their places in it."""
    queue: deque[tuple[Value, tuple[Element, ...]]] = deque([(value, ())])
    seen: set[tuple[str, int]] = set()
    while queue and len(seen) < _NEAR:
        (node, port), elements = queue.popleft()
        graph.spend()
        if (node.name, port) in seen:
            continue
        seen.add((node.name, port))
        yield (node.name, port), elements
        inputs = [operand(graph, node, at) for at in range(len(walk.data_inputs(node)))]
        given = [(one, elements) for one in inputs if one is not None]
        if node.op in WHILES:
            # The loop carries the argument of the body at this place.
            of_loop = arguments.get(node.name, [])[port : port + 1]
            given = [((argument, 0), elements) for argument in of_loop]
        elif node.op in CALLS | BRANCHES:
            results = [some[port] for some in graph.returns.get(node.name, ()) if port < len(some)]
            made = [graph.source(tensor) for tensor in results]
            given = [((one, at), elements) for one, at in made if one is not None]
        elif node.op == "Pack":
            axis = node.number("axis") or 0
            given = [
                (one, (*elements, Element(axis, number, True)))
                for number, (one, _) in enumerate(given)
            ]
        elif node.op in CONCATS:
            given = _find_joined(graph, node, given)
        elif node.op in MERGES and any(one[0].op in NEXTS for one, _ in given):
            given = []  # a loop carries it
        elif node.op in ("IdentityN",):
            given = given[port : port + 1]
        elif node.op in SELECTS:
            given = given[1:3]
        elif node.op not in _AROUND or node.op == "Enter":
            given = []
        elif node.op not in MERGES:
            given = given[:1]
        queue.extend(given)


_Given = list[tuple[Value, tuple[Element, ...]]]


def _find_joined(graph: Graph, node: Node, given: _Given) -> _Given:
    """Return the inputs that a Concat joins; its axis comes first in Concat, last in ConcatV2."""
    if not given:
        return []
    axis, items = (given[0][0], given[1:]) if node.op == "Concat" else (given[-1][0], given[:-1])
    place = walk.scalar(graph, axis[0])
    if place not in (1, -1):
        return []
    return [
        (one, (*elements, Element(-1, number, False)))
        for number, (one, elements) in enumerate(items)
    ]


# ---- layouts


def _state(variable: VariableFacts, uses: Sequence[Use], stacks: Sequence[Stack]) -> SavedState:
    """Return a variable as a state, with the layout of its halves."""
    unknown = SavedState(variable.name, "unknown", variable.shape, source="graph")
    rows = {use.rows for use in uses} if len(variable.shape) == 1 else {None}
    if rows != {None} and len(rows) == 1:
        unknown = unknown._replace(rows=rows.pop())
        uses = [use.in_rows() for use in uses]
    shape = unknown.row_shape
    owners = list(dict.fromkeys(use.cell.name for use in uses))
    cell = owners[0] if len(owners) == 1 else None
    unknown = unknown._replace(cell=cell)
    axes = {tuple(axis for axis in use.part.picked if shape[axis] != 1) for use in uses}
    if len(axes) != 1 or not shape:
        return unknown
    (picked,) = axes
    columns = _columns(uses, shape)
    if columns is None:
        return unknown
    if not picked:
        if all(found == (0, shape[-1]) for found in columns):
            halves = {use.half for use in uses}
            whole = all(use.width == shape[-1] for use in uses)
            return unknown._replace(layout=halves.pop()) if len(halves) == 1 and whole else unknown
        return _flat(unknown, uses, columns, stacks)
    if any(
        found != (0, shape[-1]) or use.width != shape[-1]
        for found, use in zip(columns, uses, strict=True)
    ):
        return unknown
    return _side_by_side(unknown, uses, picked, stacks)


def _columns(uses: Sequence[Use], shape: tuple[int, ...]) -> list[tuple[int, int]] | None:
    """Return the columns (first, count) of each half; None if they are unknown."""
    found = []
    widths = {use.number: use.width for use in uses if use.number is not None}
    for use in uses:
        last = use.part.axes[-1] if use.part.axes else None
        if use.number is not None and sorted(widths) == list(range(len(widths))):
            found.append((sum(widths[at] for at in range(use.number)), use.width))
        elif last is None or last.of != len(shape) - 1:
            return None
        elif last.at is not None and last.size is not None:
            groups = use.cell.extra.get("number_of_groups") or 1
            is_first_of_groups = use.half == "m" and last.size * groups == use.width
            found.append((last.at, use.width if is_first_of_groups else last.size))
        else:
            return None
    return found if all(at + size <= shape[-1] for at, size in found) else None


def _flat(
    unknown: SavedState,
    uses: Sequence[Use],
    columns: Sequence[tuple[int, int]],
    stacks: Sequence[Stack],
) -> SavedState:
    """Return a flat state whose columns are those of one cell, or of a whole stack."""
    width = unknown.row_shape[-1]
    owners = {use.cell.name for use in uses}
    state = uses[0].cell.state
    if len(owners) == 1 and state is not None and state.flat == width:
        expected = {
            (uses[0].cell.name, half): at
            for half, (at, _) in zip("cm", state.columns(), strict=True)
        }
        found = unknown._replace(layout="flat")
    else:
        fitting = [
            stack
            for stack in stacks
            if stack.flat == width
            and owners <= {cell.name for layer in stack.layers for cell in layer}
        ]
        if len(fitting) != 1:
            is_flat = _is_c_first(uses, columns)
            return unknown._replace(layout="flat", cell=None) if is_flat else unknown
        expected = {
            (cell.name, half): at
            for cell, *both in fitting[0].columns()
            for half, (at, _) in zip("cm", both, strict=True)
        }
        found = unknown._replace(layout="flat", cell=None, stack=fitting[0].name)
    fits = all(
        expected[use.cell.name, use.half] == at and use.width == size
        for use, (at, size) in zip(uses, columns, strict=True)
    )
    return found if fits else unknown


def _is_c_first(uses: Sequence[Use], columns: Sequence[tuple[int, int]]) -> bool:
    """Whether the m of each cell follows its c."""
    at = {(use.cell.name, use.half): start for use, (start, _) in zip(uses, columns, strict=True)}
    return all(
        at.get((use.cell.name, "m"), start + use.width) == start + use.width
        for use, (start, _) in zip(uses, columns, strict=True)
        if use.half == "c"
    )


def _side_by_side(
    unknown: SavedState, uses: Sequence[Use], picked: tuple[int, ...], stacks: Sequence[Stack]
) -> SavedState:
    """Return a state whose halves have an axis of two, and a stack's cells perhaps one before."""
    shape = unknown.row_shape
    axis = max(picked)
    places = {(use.cell.name, use.half): use.part.picked.get(axis) for use in uses}
    orders = {0 if half == "c" else 1 for (_, half), at in places.items() if at == 0}
    orders |= {1 if half == "c" else 0 for (_, half), at in places.items() if at == 1}
    if shape[axis] != 2 or len(orders) != 1 or not set(places.values()) <= {0, 1}:
        return unknown
    h_first = orders.pop() == 1
    before = "keras" if h_first else "layered"
    if len(picked) == 1 and len({use.cell.name for use in uses}) == 1:
        if axis == max(len(shape) - 3, 0):
            return unknown._replace(layout=before)
        if axis == len(shape) - 2 and not h_first:
            return unknown._replace(layout="stacked")
    if sorted(picked) == [0, 1] and len(shape) == 4:
        layers = {use.cell.name: use.part.picked.get(0) for use in uses}
        for stack in stacks:
            order = [cell.name for layer in stack.layers for cell in layer]
            if (
                layers == {name: number for number, name in enumerate(order)}
                and len(order) == shape[0]
            ):
                return unknown._replace(layout=before, cell=None, stack=stack.name)
    return unknown
