"""The operations of a cell's step that its recognition does not explain.

A cell's options are read at a few places of its step. Here the whole step is walked, from the new
state back to the old one, to the input and to the variables. Each operation on the way has to be
one that the cell has at that place. What is none is named, and the options that are read at its
place are unknown.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

from lstmstate.cells import variable_names as names
from lstmstate.cells.cell import Cell, Unexplained
from lstmstate.cells.families import row_of
from lstmstate.cells.from_graph.activations import find_activation
from lstmstate.cells.from_graph.gates import products_with
from lstmstate.cells.from_graph.graph_cell import FEW, Wired, WiredStep
from lstmstate.cells.from_graph.options import CLIPS, PRODUCTS, normalises, projections
from lstmstate.cells.from_graph.state_origin import FED, LOOPS, MERGES, SPLITS, is_float, next_of
from lstmstate.cells.shapes import PEEPHOLES
from lstmstate.checkpoint import graph_walk as walk
from lstmstate.checkpoint.graph import VARIABLE_OPS, Graph
from lstmstate.checkpoint.graph_node import Node
from lstmstate.checkpoint.inlining import INLINED
from lstmstate.records import NamedTuple

_SELECTS = frozenset({"Select", "SelectV2"})
_CUTS = frozenset({*SPLITS, "Slice", "StridedSlice", "Unpack"})
_ROUNDING = frozenset(name for name in walk.PASSING if name.startswith("FakeQuant"))
_HANDING = walk.PASSING - _ROUNDING | {"Reshape", "Squeeze", "ExpandDims", "Cast"}
_ELEMENTS = ("TensorArrayRead", "TensorListGetItem")
# Of what these take only the shape matters, or nothing.
_SHAPES = frozenset({"Shape", "ShapeN", "Size", "Rank", "ZerosLike", "OnesLike"})
_EQUAL = frozenset({"Identity", "Cast"})
_ENDS = LOOPS | {"Exit", "RefExit"}  # results of other loops
_MADE_OF_NOTHING = _SHAPES | _ENDS
_RANDOM = ("Random", "Truncated", "StatelessRandom", "Multinomial")
_HALVES = frozenset({14, 19})
_FAR = 100  # nodes from a flat state back to what a step makes of it
_NEAR = 12  # nodes from a mask to its random number, and from act(c) to c
_SCALING = frozenset({"Mul", "RealDiv", "Div"})
_TERMS = PRODUCTS | walk.ADDING | _CUTS  # of a sum that is squashed
# What a plain cell and its loop are made of; a clip, another function or a cut is none of it.
_PLAIN = (
    _HANDING
    | walk.ADDING
    | walk.JOINING
    | PRODUCTS
    | SPLITS.keys()
    | _SELECTS
    | {"Sigmoid", "Tanh", "Mul", "TensorArrayReadV3", "TensorArrayReadV2", "TensorArrayRead"}
    | {"TensorListGetItem"}
)
_BY_NUMBER = walk.ADDING | _SCALING | CLIPS | {"Sub", "Pow"}


class _Place:
    """A place in a step.

    Attributes:
        kind: which operations it has: the method of `_Walk` that reads it.
        words: what it is for a user.
        options: those that are read there.
    """

    def __init__(self, kind: str, words: str, options: tuple[str, ...] = ()) -> None:
        self.kind = kind
        self.words = words
        self.options = options


_C = _Place("state", "c", ("cell_clip",))
_M = _Place("state", "m", ("proj_clip",))
_X = _Place("x", "x")
_INPUT = _Place("input", "x and m")
_WEIGHT = _Place("weight", "a weight")
_BIAS = _Place("weight", "a weight", ("forget_bias",))  # one that is added to the forget gate
_PEEPHOLE = _Place("peephole", "c")
_OUT = _Place("out", "the output", ("activation", "cell_clip"))
# Which state is read at a place; elsewhere one has come to it over what was reported.
_READ = {_C: _C, _M: _M, _INPUT: _M, _PEEPHOLE: _C}
_GATES = {
    "i": _Place("gate", "the input gate", ("recurrent_activation",)),
    "f": _Place("gate", "the forget gate", ("recurrent_activation",)),
    "o": _Place("gate", "the output gate", ("recurrent_activation",)),
    "j": _Place("gate", "the new input", ("activation",)),
}
_SQUASHED = _Place("out", "c", _OUT.options)
# Before they are squashed, and all side by side before they are cut apart.
_SUMS = {
    place.words: _Place("sum", place.words, ("forget_bias",) if gate == "f" else ())
    for gate, place in _GATES.items()
}
_FORGET, _OUTPUT = (_SUMS[_GATES[letter].words] for letter in "fo")
_ALL = _Place("sum", "the gates", ("forget_bias",))


_GRID = "Grid"  # in a family: its steps go through more than one dimension
_Way = tuple[_Place, Node]  # where to go on


class Sources:
    """What the values of a graph are made of: of an input, a state, a variable; each is seen once.

    Args:
        made: the nodes that give a new c or m.
        states, inputs: the nodes that give the old state, and the input, of steps without a loop.

    Attributes:
        given: what is known of these by their names.
    """

    X, STATE, WEIGHT = 1, 2, 4
    _MADE = 8

    def __init__(
        self, graph: Graph, made: Iterable[str], states: Iterable[str], inputs: Iterable[str]
    ) -> None:
        self._graph = graph
        self._operands: dict[str, list[Node]] = {}
        self._known: dict[str, int] = {}
        self._noted: dict[str, int] | None = None
        self._own: set[str] = set()  # what was found while that is noted
        self.given: Mapping[str, int] = {
            **dict.fromkeys(inputs, self.X),
            **dict.fromkeys(states, self.STATE),
            **dict.fromkeys(made, self.STATE | self._MADE),
        }

    @contextmanager
    def noted(self, graph: Graph) -> Iterator[dict[str, int]]:
        """Read from another view of the graph, and note what is asked for that was known before."""
        whole, noted = self._graph, dict[str, int]()
        self._graph, self._noted, self._own, self._operands = graph, noted, set(), {}
        yield noted
        self._graph, self._noted = whole, None

    def is_made(self, node: Node) -> bool:
        """Whether a node is a new c or m."""
        return self.given.get(node.name, 0) & self._MADE != 0

    def of(self, node: Node) -> int:
        """Return what a value is made of, as a sum of X, STATE and WEIGHT."""
        known = self._known
        stack: list[tuple[Node, bool]] = [(node, False)]
        while stack:
            at, is_done = stack.pop()
            if is_done:
                for before in self.operands(at):
                    known[at.name] |= known[before.name]
            elif at.name not in known:
                leaf = self._leaf(at)
                known[at.name] = leaf or 0
                if self._noted is not None:
                    self._own.add(at.name)
                if leaf is None:
                    stack.append((at, True))
                    stack += [(before, False) for before in self.operands(at)]
            elif self._noted is not None and at.name not in self._own:
                self._noted[at.name] = known[at.name]
        return known[node.name]

    def operands(self, node: Node) -> list[Node]:
        """Return the nodes that give the inputs, in order."""
        given = self._operands.get(node.name)
        if given is None:
            given = self._operands[node.name] = walk.operands(self._graph, node)
        return given

    def _leaf(self, node: Node) -> int | None:
        """Return what a node is where one need not go on, None elsewhere."""
        given = self.given.get(node.name)
        if given is not None:
            return given & ~self._MADE
        if node.op in VARIABLE_OPS:
            return self.WEIGHT
        if node.op.startswith(_ELEMENTS):
            return self.X
        if node.op in _MADE_OF_NOTHING or node.op.startswith(_RANDOM):
            return 0
        after = next_of(self._graph, node)
        return None if after is None else self.STATE if is_float(self._graph, after) else 0


def _is_rounded(node: Node) -> bool:
    """Whether a cast leaves fewer digits: half precision, of a value that had more."""
    if node.op != "Cast":
        return False
    given, made = (node.number_of_type(name) for name in ("SrcT", "DstT"))
    return made in _HALVES and given not in _HALVES


class Explanation(NamedTuple):
    """What is left of a cell's steps when all that its family has there is taken away.

    Attributes:
        unexplained: the operations, and the options that each of them touches.
        unused: the roles of peepholes that the steps do not use.
    """

    unexplained: dict[Unexplained, tuple[str, ...]]
    unused: tuple[str, ...]


def explain(
    graph: Graph, sources: Sources, cell: Cell, wired: Wired, roles: Callable[[Node], str | None]
) -> Explanation:
    """Walk through the steps of a cell.

    Args:
        cell: with the options that were read.
        roles: returns the role of a variable's node in the cell; "" for one that was not saved,
            None for one that the cell does not have.
    """
    if _GRID in cell.family:
        return Explanation({}, ())
    walk = _kind_of_walk(wired)(graph, sources, cell, wired, roles)
    for step in wired.steps:
        # Keras calls a cell once before its loop, to see what it gives.
        if wired.frame is None or sources.of(step.c_old) & Sources.STATE:
            walk.through(step)
    if wired.block:
        walk.block()
    found = {Unexplained(*words, node): options for words, (node, options) in walk.found.items()}
    peepholes = () if wired.block else (role for role in PEEPHOLES if role in cell.variables)
    return Explanation(found, tuple(role for role in peepholes if role not in walk.peepholes))


def _kind_of_walk(wired: Wired) -> type[Walk]:
    if len(wired.steps) < FEW:
        return Walk
    from lstmstate.cells.from_graph.explain_once import WalkOnce

    return WalkOnce


def find_unusual_operations(
    graph: Graph, sources: Sources, kernels: Iterable[Node]
) -> tuple[Unexplained, ...]:
    """Return the operations that no plain cell has, in the loop that multiplies with some weights.

    This is for a cell whose step has another form than any that is read.
    """
    reads = {
        read.name: after
        for kernel in kernels
        for product in products_with(graph, kernel)
        for read in walk.backward(
            graph,
            walk.operands(graph, product)[:1],
            lambda node: (
                node.op in _HANDING | walk.JOINING | _CUTS and next_of(graph, node) is None
            ),
            _FAR,
        )
        if (after := next_of(graph, read)) is not None and sources.of(read) & Sources.STATE
    }
    queue = deque(reads.values())
    found: dict[tuple[str, str | None], Unexplained] = {}
    seen: set[str] = set()
    while queue and len(seen) < 4 * _FAR:
        node = queue.popleft()
        made = sources.of(node)
        if node.name in seen or not made & ~Sources.WEIGHT or sources.is_made(node):
            continue
        seen.add(node.name)
        after = next_of(graph, node)
        if after is not None:
            queue.append(after)
            continue
        given = walk.operands(graph, node)
        by = _number(graph, node, given)
        if node.op not in _PLAIN or (by is not None and node.op == "Mul"):
            found.setdefault((node.op, by), Unexplained(node.op, by, "its step", _plain(node.name)))
        if not node.op.startswith(_ELEMENTS):
            queue.extend(given)
    return tuple(found.values())


def _number(graph: Graph, node: Node, given: Iterable[Node]) -> str | None:
    """Return the constant number that an operation takes next to its value."""
    numbers = (walk.scalar(graph, one) for one in given)
    number = next((one for one in numbers if one is not None), None)
    return f"{number:g}" if number is not None and node.op in _BY_NUMBER else None


Words = tuple[str, str | None, str]  # an operation, by what, and on what
Mark = tuple[_Place | str, str]  # the place at which a node was seen, or what was found of it
BETWEEN = "between"  # a clip or norm of a new c, before its function
WORDS = "words"  # those in which it was reported


class Memory:
    """What walks through steps leave at nodes, for themselves and for those through others.

    Attributes:
        asked: what a walk asked for, and what others had left there.
        left: what it leaves.
    """

    def __init__(self) -> None:
        self._all: dict[Mark, object] = {}
        self.asked: dict[Mark, object] = {}
        self.left: dict[Mark, object] = {}

    def begin(self) -> None:
        """Begin another walk."""
        self.asked, self.left = {}, {}

    def get(self, what: _Place | str, name: str) -> object:
        """Return what was left at a node, None if nothing was."""
        found = self._all.get((what, name))
        if (what, name) not in self.left:
            self.asked[what, name] = found
        return found

    def is_first(self, place: _Place, name: str) -> bool:
        """Return whether a node is seen at a place for the first time.

        Where it is, a walk that meets it elsewhere and is not the first finds less, nothing more.
        """
        if (place, name) in self._all:
            return self.get(place, name) is None
        self.leave(place, name)
        return True

    def leave(self, what: _Place | str, name: str, value: object = True) -> None:
        """Leave something at a node."""
        self._all[what, name] = self.left[what, name] = value

    def has(self, asked: Mapping[Mark, object], there: Mapping[str, Node]) -> bool:
        """Whether a walk elsewhere would find what another one found."""
        return all(
            self._all.get((what, there[name].name)) == value
            for (what, name), value in asked.items()
        )

    def leave_all(self, left: Mapping[Mark, object], there: Mapping[str, Node]) -> None:
        """Leave what a walk elsewhere would leave."""
        self._all.update(((what, there[name].name), value) for (what, name), value in left.items())


class Walk:
    """A walk through the steps of one cell."""

    def __init__(
        self,
        graph: Graph,
        sources: Sources,
        cell: Cell,
        wired: Wired,
        roles: Callable[[Node], str | None],
    ) -> None:
        self.found: dict[Words, tuple[str, tuple[str, ...]]] = {}
        self.peepholes: set[str] = set()  # the roles of those that were met
        self._graph = graph
        self._sources = sources
        self._cell = cell
        self._wired = wired
        self._roles = roles
        self._queue: deque[tuple[_Place, Node]] = deque()
        self._memory = Memory()
        self._c_new = ""  # of the step
        self._of_family = row_of(cell.family).step_operations
        self._is_coupled = "i" not in (wired.gate_order or "i")
        self._halves: dict[str, str] = {}  # what a node makes: "c", "m", or both
        for (name, _), half in wired.lasts.items():
            self._halves[name] = self._halves.get(name, "") + half
        self._taken = {  # what goes into products, as what it is
            **dict.fromkeys((node.name for node in wired.inputs), _X),
            **dict.fromkeys((step.m_old.name for step in wired.steps if step.m_old), _M),
        }
        self._functions: dict[str, str | None] = {}  # those of options that are unknown
        self._c_old: Node | None = None  # of the step that is walked through
        self._read_at = {
            "state": self._at_state,
            "x": self._at_x,
            "input": self._at_input,
            "weight": self._at_weight,
            "peephole": self._at_peephole,
            "out": self._at_out,
            "gate": self._at_gate,
            "sum": self._at_sum,
        }

    # ---- where to begin

    def through(self, step: WiredStep) -> None:
        """Walk through a step that is made of small operations."""
        self._memory.begin()
        self._c_old = walk.through(self._graph, step.c_old, _EQUAL)
        self._c_new = step.c_new.name
        if step.m is not None:
            out, gate = self._apart(step.m)
            self._queue.append(out)
            self._run()  # the clips of c are known from here on
            self._queue.append(gate)
        for term in self._operands(step.c_new):
            product = walk.through(self._graph, term, _EQUAL)
            factors = self._operands(product) if product is not None else []
            gates = [node for node in factors if node is not step.c_old]
            if len(gates) < len(factors):
                self._go(_C, step.c_old)
            letters = "f" if len(gates) < len(factors) else self._letters(gates)
            for letter, node in zip(letters, gates, strict=False):
                self._go(_GATES[letter], node)
        if step.m_old is not None:
            self._go(_M, step.m_old)
        for projected in projections(self._graph, step.m) if step.m else ():
            for weight in self._operands(projected)[1:]:
                if self._role(weight) == "projection":
                    self._go(_WEIGHT, weight)
        self._run()

    def block(self) -> None:
        """Walk around the operations of which each is a whole step, or all steps."""
        for values in self._wired.firsts:
            for place, value in zip((_C, _M), values, strict=True):
                if value is not None:
                    self._go(place, value[0])
        for name in self._halves:
            for node in self._operands(self._graph.nodes[name]):
                if self._sources.of(node) == Sources.WEIGHT:
                    self._go(_WEIGHT, node)
        self._run()

    def _apart(self, m: Node) -> tuple[_Way, _Way]:
        """Return what a product is of, the new c and the output gate."""
        out, gate = self._operands(m)[:2]
        if self._is_nearer(gate, out):
            out, gate = gate, out
        return (_OUT, out), (_GATES["o"], gate)

    def _letters(self, gates: list[Node]) -> str:
        """Return which of two gates is the input gate, and which the new input."""
        squashed = self._cell.options["recurrent_activation"].value
        first, second = (self._function(node) for node in gates[:2])
        # Where both go through the same function, it changes nothing.
        return "ji" if first != squashed and second == squashed else "ij"

    def _function(self, gate: Node) -> str | None:
        """Return the last function that a gate went through."""
        for node in walk.backward(self._graph, [gate], lambda node: node.op not in PRODUCTS, _NEAR):
            if self._is_rest(node):
                return "sigmoid"
            function = find_activation(self._graph, (node, 0))
            if function is not None:
                return function.function
        return None

    def _is_nearer(self, first: Node, second: Node) -> bool:
        """Whether a value is made of the new c over fewer nodes than another one."""
        levels, seen = [[first], [second]], {first.name, second.name}
        for _ in range(_NEAR):
            for at, level in enumerate(levels):
                if any(self._halves.get(node.name) == "c" for node in level):
                    return at == 0
                before = [node for one in level for node in self._operands(one)]
                levels[at] = [node for node in before if node.name not in seen]
                seen.update(node.name for node in levels[at])
        return False

    # ---- the walk

    def _go(self, place: _Place, node: Node) -> None:
        if self._memory.is_first(place, node.name):
            self._queue.append((place, node))

    def _run(self) -> None:
        while self._queue:
            place, node = self._queue.popleft()
            self._graph.spend()
            for following, before in self._read(place, node):
                self._go(following, before)

    def _read(self, place: _Place, node: Node) -> Iterable[_Way]:
        """Return where to go on from an operation; report one that its place does not have."""
        made, given = self._sources.of(node), self._operands(node)
        if not made or self._is_end(place, node, given):
            return ()
        after = next_of(self._graph, node)
        if after is not None:
            return [(_READ[place], after)] if place in _READ else ()
        if made == Sources.WEIGHT and place.kind != "weight" and node.op not in _TERMS:
            return [(_BIAS if "forget_bias" in place.options else _WEIGHT, node)]
        passed = self._passed(node, given)
        if passed is not None:
            return [(place, before) for before in passed]
        found = self._read_at[place.kind](place, node)
        if found is None and self._is_of_family(place, node):
            found = [(place, before) for before in given]
        return self._report(place, node) if found is None else found

    def _is_of_family(self, place: _Place, node: Node) -> bool:
        return node.op in self._of_family.get(place.kind, ())

    def _is_end(self, place: _Place, node: Node, given: list[Node]) -> bool:
        """Whether what lies behind a value is no part of the step, or is walked anyway."""
        if node.op.startswith(_ELEMENTS):
            return True
        if place.kind == "state":
            if self._memory.get(BETWEEN, node.name):
                return True
            half = "c" if place is _C else "m"
            # What no step has made is what the first one begins with.
            return half in self._halves.get(node.name, "") or not (
                self._is_carried(node, given) or next_of(self._graph, node) is not None
            )
        if place.kind in ("x", "input"):
            return self._is_outside(node, given)
        return place.kind in ("gate", "sum") and self._sources.is_made(node)

    def _passed(self, node: Node, given: list[Node]) -> list[Node] | None:
        """Return what an operation hands on, None where it does more; dropout does nothing."""
        if node.op in _HANDING and not _is_rounded(node):
            return given[: None if node.op in MERGES else 1]
        if node.op == "Mul" and any(walk.scalar(self._graph, one) == 1 for one in given):
            return given
        kept = self._undropped(node)
        return None if kept is None else [kept]

    def _is_outside(self, node: Node, given: list[Node]) -> bool:
        """Whether an input comes from outside: a step without a loop begins with its inputs."""
        if self._wired.frame is None:
            return not self._is_carried(node, given)
        return self._sources.of(node) == Sources.WEIGHT

    def _is_carried(self, node: Node, given: list[Node]) -> bool:
        if node.op in _SHAPES:
            return False  # zeros like a state are none that was carried
        made = (self._sources.of(before) for before in given)
        return self._sources.is_made(node) or any(one & Sources.STATE for one in made)

    def _at_state(self, place: _Place, node: Node) -> list[_Way] | None:
        """A state: what a step makes, selected, clipped, projected, or cut out of a flat one."""
        if node.name in self._halves:
            return self._report(place, node, ends=True)
        if place is _M and node.op == "Mul" and "m" not in self._halves.values():
            return list(self._apart(node))  # something lies between it and the new c
        given = self._operands(node)
        if node.op in walk.JOINING:
            return [way for before in given for way in self._own_half(before)]
        if node.op in _SELECTS and not self._sources.of(given[0]):
            given = given[1:]  # by what is no part of the step: the end of a sequence
        elif not (node.op in _CUTS or (node.op in CLIPS and self._is_projected(given))):
            return None
        return [(place, before) for before in given]

    def _own_half(self, joined: Node) -> list[_Way]:
        """Return a part of a flat state as what it is, nothing where it is another cell's."""
        for node in walk.backward(
            self._graph, [joined], lambda node: not self._sources.is_made(node), _FAR
        ):
            if self._sources.is_made(node):
                half = self._halves.get(node.name)
                return [(_C if half == "c" else _M, joined)] if half else []
        return []

    def _is_of_others(self, node: Node) -> bool:
        """Whether a value is the axis of a join, or what another cell makes."""
        if not self._sources.of(node):
            return True
        made = walk.through(self._graph, node, _EQUAL | CLIPS)
        return made is not None and self._sources.is_made(made) and made.name not in self._halves

    def _is_projected(self, given: list[Node]) -> bool:
        """Whether a clip is that of a projection, of this cell or of another."""
        made = walk.through(self._graph, given[0], _EQUAL | CLIPS)
        return made is not None and made.op in PRODUCTS and self._sources.is_made(made)

    def _at_x(self, place: _Place, node: Node) -> list[_Way] | None:
        """An input: an element of a sequence, or what another cell gives."""
        if self._sources.is_made(node):
            return []
        given = self._operands(node)
        if node.op in CLIPS and self._is_projected(given):
            return [(place, before) for before in given]
        if node.op in walk.JOINING and all(self._is_of_others(one) for one in given):
            return []
        # There are notes on sums and on wrappers.
        has_note = node.op in walk.ADDING and self._wired.takes_sum
        return [] if has_note or names.wrapper(self._cell.name) else None

    def _at_input(self, _place: _Place, node: Node) -> list[_Way] | None:
        """What is multiplied with a kernel: the input and the old m, side by side or alone."""
        if node.op in walk.JOINING | _CUTS:
            return [self._into(before) for before in self._operands(node)]
        if self._sources.is_made(node):
            return [(_M if self._halves.get(node.name) else _X, node)]
        return None

    def _into(self, node: Node) -> _Way:
        """Return what goes into a product as what it is, where that is known."""
        return self._taken.get(node.name, _INPUT), node

    def _at_weight(self, place: _Place, node: Node) -> list[_Way] | None:
        """What is made of variables alone: its parts, joined or cut."""
        if node.op in VARIABLE_OPS:
            return []
        if node.op in walk.JOINING | _CUTS:
            return [(place, before) for before in self._operands(node)]
        return None

    def _at_peephole(self, _place: _Place, node: Node) -> list[_Way] | None:
        """The c that a peephole sees: the old one, or the new one behind its clip."""
        if self._halves.get(node.name) == "c":
            return []
        return [] if self._memory.get(BETWEEN, node.name) else [(_C, node)]

    def _at_out(self, place: _Place, node: Node) -> list[_Way] | None:
        """What is multiplied with the output gate: the new c, clipped, normed and squashed."""
        if self._halves.get(node.name) == "c":
            return []
        normed = self._unnormed(node)
        if normed is not None:
            self._memory.leave(BETWEEN, node.name)
            return [(place, normed)]
        function = find_activation(self._graph, (node, 0))
        if function is not None and place is _OUT:
            if not self._is_expected("activation", function.function):
                self._report(place, node, ends=True)
            return [(_SQUASHED, function.inner[0])]
        if node.op in CLIPS and self._cell.options["cell_clip"].value is not None:
            self._memory.leave(BETWEEN, node.name)
            return [(place, before) for before in self._operands(node)]
        return None

    def _at_gate(self, place: _Place, node: Node) -> list[_Way] | None:
        """A gate: a sum, squashed."""
        if place is _GATES["i"] and self._is_rest(node):
            return [(_GATES["f"], before) for before in self._operands(node)]
        function = find_activation(self._graph, (node, 0))
        (option,) = place.options
        if function is not None:
            is_known = self._is_expected(option, function.function)
            if not is_known and not self._is_of_family(place, node):
                self._report(place, node, ends=True)
            return [(_SUMS[place.words], function.inner[0])]
        if node.op in _CUTS:
            return [(place, before) for before in self._operands(node)]
        is_sum = node.op in PRODUCTS | walk.ADDING
        if is_sum and self._is_expected(option, "identity"):
            return [(_SUMS[place.words], node)]
        return None

    def _is_expected(self, option: str, function: str | None) -> bool:
        """Whether a function is the one that the option names, or else that was met first."""
        known = self._cell.options[option].value or self._functions.setdefault(option, function)
        return function is not None and function == known

    def _is_rest(self, node: Node) -> bool:
        """Whether a node is the 1 - f of a cell whose gates are coupled."""
        return (
            self._is_coupled
            and node.op == "Sub"
            and walk.scalar(self._graph, walk.operand(self._graph, node, 0)) == 1
        )

    def _at_sum(self, place: _Place, node: Node) -> list[_Way] | None:
        """What is squashed: a sum of products, biases and peepholes, normed or not."""
        given = self._operands(node)
        normed = self._unnormed(node)
        if normed is not None:
            return [(place, normed)]
        if node.op in PRODUCTS and self._is_own(given[1]):
            return [self._into(given[0]), (_WEIGHT, given[1])]
        if node.op in walk.ADDING and all(self._is_term(place, term) for term in given):
            return [(place, term) for term in given]
        if node.op in walk.JOINING | _CUTS:
            return [(_ALL if node.op in SPLITS else place, before) for before in given]
        return self._at_scaled(place, given) if node.op == "Mul" else None

    def _at_scaled(self, place: _Place, given: list[Node]) -> list[_Way] | None:
        """A term before a gate that is a row of weights times a state: a peephole, or Indy's m."""
        for weight, other in (given[:2], given[1::-1]):
            role = self._role(weight)
            if role == "recurrent_kernel":
                return [self._into(other), (_WEIGHT, weight)]
            # The output gate sees the new c, the others the old one.
            if role in PEEPHOLES and self._is_new(other) == (place is _OUTPUT):
                self.peepholes.add(role)
                return [(_PEEPHOLE, other), (_WEIGHT, weight)]
        return None

    def _is_new(self, c: Node) -> bool:
        """Whether a c is the one that the step makes, and not the one that it is given."""
        made = walk.through(self._graph, c, _EQUAL)
        if made is None or made is self._c_old:
            return False
        return made.name == self._c_new or (BETWEEN, made.name) in self._memory.left

    def _is_term(self, place: _Place, term: Node) -> bool:
        """Whether a sum before a gate may have this term."""
        if self._sources.of(term) == Sources.WEIGHT:
            return self._is_own(term)
        if self._sources.of(term):
            return True
        if self._is_constant(term):
            return place is _FORGET or walk.scalar(self._graph, term) == 0
        # With two kernels, the input may be multiplied before the loop.
        return "recurrent_kernel" in self._cell.variables

    def _is_constant(self, term: Node) -> bool:
        """Whether a term is a number, or a sum of numbers."""
        terms = walk.backward(self._graph, [term], lambda node: node.op in walk.ADDING, _NEAR)
        return all(
            node.op in walk.ADDING or walk.scalar(self._graph, node) is not None for node in terms
        )

    def _role(self, weight: Node) -> str | None:
        """Return the role of a weight in the cell, None where it has none."""
        if self._sources.of(weight) != Sources.WEIGHT:
            return None
        roles = [self._roles(node) for node in walk.variables(self._graph, weight)]
        return next((role for role in roles if role is not None), None)

    def _is_own(self, weight: Node) -> bool:
        return self._role(weight) is not None

    def _unnormed(self, node: Node) -> Node | None:
        """Return what was normed to give a value, None where it is no layer norm."""
        if not self._cell.layer_norm:
            return None
        given = self._operands(node)
        if node.op == "FusedBatchNormV3" or node.op.startswith("FusedBatchNorm"):
            return given[0]
        if node.op in ("Mul", "Add", "AddV2"):
            for weight, other in (given[:2], given[1::-1]):
                if (self._role(weight) or "").endswith(("/gamma", "/beta")):
                    return other
        for product in given if node.op in ("Add", "AddV2") else ():
            for factor in self._operands(product) if product.op == "Mul" else ():
                if normalises(self._graph, product, factor):
                    return factor
        return None

    def _undropped(self, node: Node) -> Node | None:
        """Return what dropout is applied to, None where a node is none."""
        given = self._operands(node)
        if node.op == "Mul":
            pairs = [(given[0], given[1]), (given[1], given[0])] if len(given) == 2 else []
        else:
            pairs = [(given[1], given[0])] if node.op == "SelectV2" else []
        for value, mask in pairs:
            if not self._sources.of(mask) & ~Sources.WEIGHT and self._is_random(mask):
                scaled = walk.through(self._graph, value, _EQUAL)
                inside = self._operands(scaled) if scaled is not None else []
                of = [one for one in inside if self._sources.of(one) & ~Sources.WEIGHT]
                is_scaled = scaled is not None and scaled.op in _SCALING and len(of) == 1
                return of[0] if is_scaled else value
        return None

    def _is_random(self, mask: Node) -> bool:
        near = walk.backward(self._graph, [mask], lambda node: node.op not in _SHAPES, 4 * _NEAR)
        return any(node.op.startswith(_RANDOM) for node in near)

    def _operands(self, node: Node) -> list[Node]:
        return self._sources.operands(node)

    # ---- what is not explained

    def _report(self, place: _Place, node: Node, *, ends: bool = False) -> list[_Way]:
        """Note an operation that a place does not have, and go on behind it."""
        given = self._operands(node)
        main = [one for one in given if self._sources.of(one) & ~Sources.WEIGHT]
        weights = [one for one in given if self._sources.of(one) == Sources.WEIGHT]
        fixed = (one for one in given if not self._sources.of(one))
        fed = (walk.through(self._graph, one) for one in fixed)
        by = _number(self._graph, node, given)
        by = by or (self._name(weights[0]) if main and weights else None)
        by = by or next((one.name for one in fed if one is not None and one.op in FED), None)
        on = place.words if main or not weights else self._name(weights[0]) or place.words
        before = self._memory.get(WORDS, node.name)
        words = before if isinstance(before, tuple) else (node.op, by, on)
        self._memory.leave(WORDS, node.name, words)
        known, options = self.found.setdefault(words, (_plain(node.name), ()))
        # A clip is all that is read of a state; a bias with fewer digits is one all the same.
        is_rounded = place is _BIAS and _is_rounded(node)
        is_read = node.op in CLIPS if place.kind == "state" else not is_rounded
        touched = place.options if is_read else ()
        self.found[words] = known, tuple(dict.fromkeys(options + touched))
        return [] if ends else [(place, one) for one in main or weights]

    def _name(self, weight: Node) -> str | None:
        """Return the name of a variable."""
        return next((_plain(node.name) for node in walk.variables(self._graph, weight)), None)


def _plain(name: str) -> str:
    """Return the name of a node without the number of the function that it is in."""
    return name.partition("/")[2] if name.startswith(INLINED) else name
