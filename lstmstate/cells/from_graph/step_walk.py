"""The walk through a cell's step, which reports operations that its recognition does not explain.

A cell's options are read at a few places of its step. The walk goes through the whole step, from
the new state back to the old one, to the input and to the variables. Each operation on the way has
to be one that the cell has at that place. All others are reported, and the options that are read at
their places become unknown.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from lstmstate.cells import variable_names as names
from lstmstate.cells.cell import Cell
from lstmstate.cells.families import row_of
from lstmstate.cells.from_graph.activations import find_activation
from lstmstate.cells.from_graph.graph_cell import GraphCell, GraphStep
from lstmstate.cells.from_graph.loop_states import FED, SPLITS, next_of
from lstmstate.cells.from_graph.options import PRODUCTS, normalises, projections
from lstmstate.cells.from_graph.step_walk_marks import BETWEEN, WORDS, Memory, StepPlace
from lstmstate.cells.from_graph.value_sources import ELEMENTS, SHAPES, Sources
from lstmstate.cells.shapes import PEEPHOLES
from lstmstate.checkpoint import graph_walk as walk
from lstmstate.checkpoint.graph import VARIABLE_OPS, Graph
from lstmstate.checkpoint.graph_node import Node
from lstmstate.checkpoint.inlining import INLINED
from lstmstate.checkpoint.op_sets import (
    ADDING,
    CLIPS,
    IDENTITIES,
    JOINING,
    MERGES,
    PASSING,
    RANDOM,
    SELECTS,
    SUMMING,
)

CUTS = frozenset({*SPLITS, "Slice", "StridedSlice", "Unpack"})
_ROUNDING = frozenset(name for name in PASSING if name.startswith("FakeQuant"))
PASSES_VALUES = PASSING - _ROUNDING | {"Reshape", "Squeeze", "ExpandDims", "Cast"}
_HALVES = frozenset({14, 19})
FAR = 100  # nodes from a flat state back to the new c or m
_NEAR = 12  # nodes from a mask to its random number, and from act(c) to c
_SCALING = frozenset({"Mul", "RealDiv", "Div"})
_TERMS = PRODUCTS | ADDING | CUTS  # in the sum before an activation
_BY_NUMBER = ADDING | _SCALING | CLIPS | {"Sub", "Pow"}


_C = StepPlace("state", "c", ("cell_clip",))
_M = StepPlace("state", "m", ("proj_clip",))
_X = StepPlace("x", "x")
_INPUT = StepPlace("input", "x and m")
_WEIGHT = StepPlace("weight", "a weight")
_BIAS = StepPlace("weight", "a weight", ("forget_bias",))  # one that is added to the forget gate
_PEEPHOLE = StepPlace("peephole", "c")
_OUT = StepPlace("out", "the output", ("activation", "cell_clip"))
# The state that is read at a place; elsewhere only a reported operation leads to a state.
_READ = {_C: _C, _M: _M, _INPUT: _M, _PEEPHOLE: _C}
_GATES = {
    "i": StepPlace("gate", "the input gate", ("recurrent_activation",)),
    "f": StepPlace("gate", "the forget gate", ("recurrent_activation",)),
    "o": StepPlace("gate", "the output gate", ("recurrent_activation",)),
    "j": StepPlace("gate", "the new input", ("activation",)),
}
_ACTIVATED = StepPlace("out", "c", _OUT.options)
# Before their activations, and all joined before they are cut apart.
_SUMS = {
    place.words: StepPlace("sum", place.words, ("forget_bias",) if gate == "f" else ())
    for gate, place in _GATES.items()
}
_FORGET, _OUTPUT = (_SUMS[_GATES[letter].words] for letter in "fo")
_ALL = StepPlace("sum", "the gates", ("forget_bias",))


_Way = tuple[StepPlace, Node]  # the next node, and its place


def _is_rounded(node: Node) -> bool:
    """Whether a cast leaves fewer digits: half precision, of a value that had more."""
    if node.op != "Cast":
        return False
    given, made = (node.number_of_type(name) for name in ("SrcT", "DstT"))
    return made in _HALVES and given not in _HALVES


def number_in(graph: Graph, node: Node, given: Iterable[Node]) -> str | None:
    """Return the constant number that an operation takes next to its value."""
    numbers = (walk.scalar(graph, one) for one in given)
    number = next((one for one in numbers if one is not None), None)
    return f"{number:g}" if number is not None and node.op in _BY_NUMBER else None


Words = tuple[str, str | None, str]  # an operation, by what, and on what


class StepWalk:
    """A walk through the steps of one cell."""

    def __init__(
        self,
        graph: Graph,
        sources: Sources,
        cell: Cell,
        wired: GraphCell,
        roles: Callable[[Node], str | None],
    ) -> None:
        self.found: dict[Words, tuple[str, tuple[str, ...]]] = {}
        self.peepholes: set[str] = set()  # the roles of those that were met
        self._graph = graph
        self._sources = sources
        self._cell = cell
        self._wired = wired
        self._roles = roles
        self._queue: deque[tuple[StepPlace, Node]] = deque()
        self._memory = Memory()
        self._c_new = ""  # of the step
        self._of_family = row_of(cell.family).step_operations
        self._is_coupled = "i" not in (wired.gate_order or "i")
        self._halves: dict[str, str] = {}  # node → the new "c", "m", or both
        for (name, _), half in wired.lasts.items():
            self._halves[name] = self._halves.get(name, "") + half
        self._taken = {  # inputs of products → their places
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

    # ---- first nodes

    def through(self, step: GraphStep) -> None:
        """Walk through a step that is made of small operations."""
        self._memory.begin()
        self._c_old = walk.through(self._graph, step.c_old, IDENTITIES)
        self._c_new = step.c_new.name
        if step.m is not None:
            out, gate = self._split_output(step.m)
            self._queue.append(out)
            self._run()  # the clips of c are known from here on
            self._queue.append(gate)
        for term in self._operands(step.c_new):
            product = walk.through(self._graph, term, IDENTITIES)
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
        """Walk around the operations that are whole steps, or all steps."""
        for values in self._wired.firsts:
            for place, value in zip((_C, _M), values, strict=True):
                if value is not None:
                    self._go(place, value[0])
        for name in self._halves:
            for node in self._operands(self._graph.nodes[name]):
                if self._sources.of(node) == Sources.WEIGHT:
                    self._go(_WEIGHT, node)
        self._run()

    def _split_output(self, m: Node) -> tuple[_Way, _Way]:
        """Return the factors of a product, the new c and the output gate, with their places."""
        out, gate = self._operands(m)[:2]
        if self._is_nearer(gate, out):
            out, gate = gate, out
        return (_OUT, out), (_GATES["o"], gate)

    def _letters(self, gates: list[Node]) -> str:
        """Return which of two gates is the input gate, and which the new input."""
        gate_function = self._cell.options["recurrent_activation"].value
        first, second = (self._function(node) for node in gates[:2])
        # If both have the same activation, it makes no difference.
        return "ji" if first != gate_function and second == gate_function else "ij"

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

    def _go(self, place: StepPlace, node: Node) -> None:
        if self._memory.is_first(place, node.name):
            self._queue.append((place, node))

    def _run(self) -> None:
        while self._queue:
            place, node = self._queue.popleft()
            self._graph.spend()
            for following, before in self._read(place, node):
                self._go(following, before)

    def _read(self, place: StepPlace, node: Node) -> Iterable[_Way]:
        """Return the next nodes after an operation; report one that its place does not have."""
        made, given = self._sources.of(node), self._operands(node)
        if not made or self._is_end(place, node, given):
            return ()
        after = next_of(self._graph, node)
        if after is not None:
            return [(_READ[place], after)] if place in _READ else ()
        if made == Sources.WEIGHT and place.kind != "weight" and node.op not in _TERMS:
            return [(_BIAS if "forget_bias" in place.options else _WEIGHT, node)]
        passed = self._skip(node, given)
        if passed is not None:
            return [(place, before) for before in passed]
        found = self._read_at[place.kind](place, node)
        if found is None and self._is_of_family(place, node):
            found = [(place, before) for before in given]
        return self._report(place, node) if found is None else found

    def _is_of_family(self, place: StepPlace, node: Node) -> bool:
        return node.op in self._of_family.get(place.kind, ())

    def _is_end(self, place: StepPlace, node: Node, given: list[Node]) -> bool:
        """Whether the operations before a value are outside of the step, or are walked anyway."""
        if node.op.startswith(ELEMENTS):
            return True
        if place.kind == "state":
            if self._memory.get(BETWEEN, node.name):
                return True
            half = "c" if place is _C else "m"
            # The first step begins with a value that no step has made.
            return half in self._halves.get(node.name, "") or not (
                self._is_carried(node, given) or next_of(self._graph, node) is not None
            )
        if place.kind in ("x", "input"):
            return self._is_outside(node, given)
        return place.kind in ("gate", "sum") and self._sources.is_made(node)

    def _skip(self, node: Node, given: list[Node]) -> list[Node] | None:
        """Return the inputs that an operation, or dropout, passes on; None if it does more."""
        if node.op in PASSES_VALUES and not _is_rounded(node):
            return given[: None if node.op in MERGES else 1]
        if node.op == "Mul" and any(walk.scalar(self._graph, one) == 1 for one in given):
            return given
        kept = self._before_dropout(node)
        return None if kept is None else [kept]

    def _is_outside(self, node: Node, given: list[Node]) -> bool:
        """Whether an input comes from outside: a step without a loop begins with its inputs."""
        if self._wired.frame is None:
            return not self._is_carried(node, given)
        return self._sources.of(node) == Sources.WEIGHT

    def _is_carried(self, node: Node, given: list[Node]) -> bool:
        if node.op in SHAPES:
            return False  # zeros like a state are not carried
        made = (self._sources.of(before) for before in given)
        return self._sources.is_made(node) or any(one & Sources.STATE for one in made)

    def _at_state(self, place: StepPlace, node: Node) -> list[_Way] | None:
        """A state: the result of a step, selected, clipped, projected, or cut out of a flat one."""
        if node.name in self._halves:
            return self._report(place, node, ends=True)
        if place is _M and node.op == "Mul" and "m" not in self._halves.values():
            return list(self._split_output(node))  # there is an operation between it and the new c
        given = self._operands(node)
        if node.op in JOINING:
            return [way for before in given for way in self._own_half(before)]
        if node.op in SELECTS and not self._sources.of(given[0]):
            given = given[1:]  # the condition is not in the step: the end of a sequence
        elif not (node.op in CUTS or (node.op in CLIPS and self._is_projected(given))):
            return None
        return [(place, before) for before in given]

    def _own_half(self, joined: Node) -> list[_Way]:
        """Return the place of a part of a flat state, nothing if it is another cell's."""
        for node in walk.backward(
            self._graph, [joined], lambda node: not self._sources.is_made(node), FAR
        ):
            if self._sources.is_made(node):
                half = self._halves.get(node.name)
                return [(_C if half == "c" else _M, joined)] if half else []
        return []

    def _is_of_others(self, node: Node) -> bool:
        """Whether a value is the axis of a join, or the state of another cell."""
        if not self._sources.of(node):
            return True
        made = walk.through(self._graph, node, IDENTITIES | CLIPS)
        return made is not None and self._sources.is_made(made) and made.name not in self._halves

    def _is_projected(self, given: list[Node]) -> bool:
        """Whether a clip is that of a projection, of this cell or of another."""
        made = walk.through(self._graph, given[0], IDENTITIES | CLIPS)
        return made is not None and made.op in PRODUCTS and self._sources.is_made(made)

    def _at_x(self, place: StepPlace, node: Node) -> list[_Way] | None:
        """An input: an element of a sequence, or the output of another cell."""
        if self._sources.is_made(node):
            return []
        given = self._operands(node)
        if node.op in CLIPS and self._is_projected(given):
            return [(place, before) for before in given]
        if node.op in JOINING and all(self._is_of_others(one) for one in given):
            return []
        # There are notes on sums and on wrappers.
        has_note = node.op in ADDING and self._wired.takes_sum
        return [] if has_note or names.wrapper(self._cell.name) else None

    def _at_input(self, _place: StepPlace, node: Node) -> list[_Way] | None:
        """The factor of a kernel: the input and the old m, joined or alone."""
        if node.op in JOINING | CUTS:
            return [self._into(before) for before in self._operands(node)]
        if self._sources.is_made(node):
            return [(_M if self._halves.get(node.name) else _X, node)]
        return None

    def _into(self, node: Node) -> _Way:
        """Return the place of an input of a product, with the input."""
        return self._taken.get(node.name, _INPUT), node

    def _at_weight(self, place: StepPlace, node: Node) -> list[_Way] | None:
        """A value made of variables alone: its parts, joined or cut."""
        if node.op in VARIABLE_OPS:
            return []
        if node.op in JOINING | CUTS:
            return [(place, before) for before in self._operands(node)]
        return None

    def _at_peephole(self, _place: StepPlace, node: Node) -> list[_Way] | None:
        """The c that a peephole sees: the old one, or the new one behind its clip."""
        if self._halves.get(node.name) == "c":
            return []
        return [] if self._memory.get(BETWEEN, node.name) else [(_C, node)]

    def _at_out(self, place: StepPlace, node: Node) -> list[_Way] | None:
        """The factor of the output gate: the new c, clipped, normed and after its activation."""
        if self._halves.get(node.name) == "c":
            return []
        normed = self._before_norm(node)
        if normed is not None:
            self._memory.leave(BETWEEN, node.name)
            return [(place, normed)]
        function = find_activation(self._graph, (node, 0))
        if function is not None and place is _OUT:
            if not self._is_expected("activation", function.function):
                self._report(place, node, ends=True)
            return [(_ACTIVATED, function.inner[0])]
        if node.op in CLIPS and self._cell.options["cell_clip"].value is not None:
            self._memory.leave(BETWEEN, node.name)
            return [(place, before) for before in self._operands(node)]
        return None

    def _at_gate(self, place: StepPlace, node: Node) -> list[_Way] | None:
        """A gate: the activation of a sum."""
        if place is _GATES["i"] and self._is_rest(node):
            return [(_GATES["f"], before) for before in self._operands(node)]
        function = find_activation(self._graph, (node, 0))
        (option,) = place.options
        if function is not None:
            is_known = self._is_expected(option, function.function)
            if not is_known and not self._is_of_family(place, node):
                self._report(place, node, ends=True)
            return [(_SUMS[place.words], function.inner[0])]
        if node.op in CUTS:
            return [(place, before) for before in self._operands(node)]
        is_sum = node.op in PRODUCTS | ADDING
        if is_sum and self._is_expected(option, "identity"):
            return [(_SUMS[place.words], node)]
        return None

    def _is_expected(self, option: str, function: str | None) -> bool:
        """Whether a function is the value of an option, or else the first that was met."""
        known = self._cell.options[option].value or self._functions.setdefault(option, function)
        return function is not None and function == known

    def _is_rest(self, node: Node) -> bool:
        """Whether a node is the 1 - f of a cell whose gates are coupled."""
        return (
            self._is_coupled
            and node.op == "Sub"
            and walk.scalar(self._graph, walk.operand(self._graph, node, 0)) == 1
        )

    def _at_sum(self, place: StepPlace, node: Node) -> list[_Way] | None:
        """The sum before an activation: of products, biases and peepholes, normed or not."""
        given = self._operands(node)
        normed = self._before_norm(node)
        if normed is not None:
            return [(place, normed)]
        if node.op in PRODUCTS and self._is_own(given[1]):
            return [self._into(given[0]), (_WEIGHT, given[1])]
        if node.op in ADDING and all(self._is_term(place, term) for term in given):
            return [(place, term) for term in given]
        if node.op in JOINING | CUTS:
            return [(_ALL if node.op in SPLITS else place, before) for before in given]
        return self._at_scaled(place, given) if node.op == "Mul" else None

    def _at_scaled(self, place: StepPlace, given: list[Node]) -> list[_Way] | None:
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
        """Whether a c is the new one of the step, and not the old one."""
        made = walk.through(self._graph, c, IDENTITIES)
        if made is None or made is self._c_old:
            return False
        return made.name == self._c_new or (BETWEEN, made.name) in self._memory.left

    def _is_term(self, place: StepPlace, term: Node) -> bool:
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
        terms = walk.backward(self._graph, [term], lambda node: node.op in ADDING, _NEAR)
        return all(
            node.op in ADDING or walk.scalar(self._graph, node) is not None for node in terms
        )

    def _role(self, weight: Node) -> str | None:
        """Return the role of a weight in the cell, None if it has none."""
        if self._sources.of(weight) != Sources.WEIGHT:
            return None
        roles = [self._roles(node) for node in walk.variables(self._graph, weight)]
        return next((role for role in roles if role is not None), None)

    def _is_own(self, weight: Node) -> bool:
        return self._role(weight) is not None

    def _before_norm(self, node: Node) -> Node | None:
        """Return the value before a layer norm, None if there is no layer norm."""
        if not self._cell.layer_norm:
            return None
        given = self._operands(node)
        if node.op == "FusedBatchNormV3" or node.op.startswith("FusedBatchNorm"):
            return given[0]
        if node.op in ("Mul", "Add", "AddV2"):
            for weight, other in (given[:2], given[1::-1]):
                if (self._role(weight) or "").endswith(("/gamma", "/beta")):
                    return other
        for product in given if node.op in SUMMING else ():
            for factor in self._operands(product) if product.op == "Mul" else ():
                if normalises(self._graph, product, factor):
                    return factor
        return None

    def _before_dropout(self, node: Node) -> Node | None:
        """Return the value before dropout, None if a node is not dropout."""
        given = self._operands(node)
        if node.op == "Mul":
            pairs = [(given[0], given[1]), (given[1], given[0])] if len(given) == 2 else []
        else:
            pairs = [(given[1], given[0])] if node.op == "SelectV2" else []
        for value, mask in pairs:
            if not self._sources.of(mask) & ~Sources.WEIGHT and self._is_random(mask):
                scaled = walk.through(self._graph, value, IDENTITIES)
                inside = self._operands(scaled) if scaled is not None else []
                of = [one for one in inside if self._sources.of(one) & ~Sources.WEIGHT]
                is_scaled = scaled is not None and scaled.op in _SCALING and len(of) == 1
                return of[0] if is_scaled else value
        return None

    def _is_random(self, mask: Node) -> bool:
        near = walk.backward(self._graph, [mask], lambda node: node.op not in SHAPES, 4 * _NEAR)
        return any(node.op.startswith(RANDOM) for node in near)

    def _operands(self, node: Node) -> list[Node]:
        return self._sources.operands(node)

    # ---- reports

    def _report(self, place: StepPlace, node: Node, *, ends: bool = False) -> list[_Way]:
        """Note an operation that a place does not have, and go on behind it."""
        given = self._operands(node)
        main = [one for one in given if self._sources.of(one) & ~Sources.WEIGHT]
        weights = [one for one in given if self._sources.of(one) == Sources.WEIGHT]
        fixed = (one for one in given if not self._sources.of(one))
        fed = (walk.through(self._graph, one) for one in fixed)
        by = number_in(self._graph, node, given)
        by = by or (self._name(weights[0]) if main and weights else None)
        by = by or next((one.name for one in fed if one is not None and one.op in FED), None)
        on = place.words if main or not weights else self._name(weights[0]) or place.words
        before = self._memory.get(WORDS, node.name)
        words = before if isinstance(before, tuple) else (node.op, by, on)
        self._memory.leave(WORDS, node.name, words)
        known, options = self.found.setdefault(words, (plain_name(node.name), ()))
        # Only a clip is an option of a state; rounding a bias keeps the forget bias.
        is_rounded = place is _BIAS and _is_rounded(node)
        is_read = node.op in CLIPS if place.kind == "state" else not is_rounded
        touched = place.options if is_read else ()
        self.found[words] = known, tuple(dict.fromkeys(options + touched))
        return [] if ends else [(place, one) for one in main or weights]

    def _name(self, weight: Node) -> str | None:
        """Return the name of a variable."""
        return next((plain_name(node.name) for node in walk.variables(self._graph, weight)), None)


def plain_name(name: str) -> str:
    """Return the name of a node without the number of the function that it is in."""
    return name.partition("/")[2] if name.startswith(INLINED) else name
