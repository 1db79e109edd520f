"""Compiler and executor for the part of a graph between fed and fetched tensors.

A plan is a list of steps in the order of their data, so that no graph, however deep, needs
recursion, and one that is run again and again costs one call for each operation. A loop becomes
one step with plans of its own. A branch that is not taken is dead, as in TensorFlow's executor.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from lstmstate import limits
from lstmstate.checkpoint.graph import VARIABLE_OPS, Graph, split_port, uses
from lstmstate.checkpoint.graph_node import Node
from lstmstate.checkpoint.inlining import INLINED, FunctionBody, read_functions
from lstmstate.checkpoint.op_sets import BRANCHES, CALLS, EXITS, MERGES, RANDOM, SWITCHES, WHILES
from lstmstate.errors import LstmstateError, UnsupportedError, printable
from lstmstate.graph.dropout import before_dropout
from lstmstate.graph.loops import Loop, frames, is_unchanged, while_loop
from lstmstate.graph.operations import OPERATIONS, Precision, constant_array
from lstmstate.graph.tensors import Tensor, data_inputs, input_at, node_at
from lstmstate.named_tuple import NamedTuple

Array = Any
# Operations at which data enters a graph: placeholders, queues, iterators.
_SOURCES = ("Placeholder", "IteratorGetNext", "OneShotIterator", "QueueDequeue", "FIFOQueue")
# Operations whose outputs are modified in place: each run evaluates them again.
_FRESH = ("TensorArray", "EmptyTensorList", "TensorListReserve")
_DEAD = object()
# A name in the operations of a plan for dropout that was left out.
DROPOUT = "dropout"


class UnfedError(UnsupportedError):
    """A plan needs a placeholder, or a variable of a loop, that is not fed.

    Attributes:
        unfed: the tensor to feed.
    """

    def __init__(self, node: Node, unfed: Tensor) -> None:
        super().__init__(f"the graph needs a value for this {node.op}", tensor=node.name)
        self.unfed = unfed


def is_branch(nodes: Mapping[str, Node], node: Node) -> bool:
    """Whether a node passes a value into a branch, and not into a loop."""
    return node.op in SWITCHES and input_at(nodes, node, 1).op not in ("", "LoopCond")


def is_source(node: Node) -> bool:
    """Whether data enters the graph at a node."""
    return node.op.startswith(_SOURCES) and not node.op.startswith("PlaceholderWithDefault")


class Scope:
    """The nodes of a graph, or of one of its functions.

    Attributes:
        unchosen: the other value, for each node that passes on one of two values.
    """

    unchosen: Mapping[str, Tensor] = {}

    def __init__(
        self,
        nodes: Mapping[str, Node],
        functions: Mapping[str, FunctionBody],
        version: str | None = None,
        graph: Graph | None = None,
    ) -> None:
        self._graph = graph
        self.nodes = nodes
        self.functions = functions
        self.is_of_2 = (version or "").startswith("2.")

    @classmethod
    def of(cls, graph: Graph) -> Scope:
        """Return the scope of a graph's own nodes."""
        functions = read_functions(graph.library)
        nodes = _replace_calls(graph)
        whole = graph if nodes is graph.nodes else None
        return cls(nodes, functions, graph.tensorflow_version, whole)

    def of_nodes(self, nodes: Mapping[str, Node], unchosen: Mapping[str, Tensor]) -> Scope:
        """Return the same graph with other nodes."""
        other = Scope(nodes, self.functions, "2." if self.is_of_2 else None)
        other.unchosen = unchosen
        return other

    @cached_property
    def frames(self) -> list[Loop]:
        """The loops of frames."""
        return frames(self.nodes)

    @cached_property
    def exits(self) -> dict[str, Loop]:
        """The loops of frames by the names of their Exits."""
        return {name: loop for loop in self.frames for name in loop.exits}

    @cached_property
    def constant_rows(self) -> list[int | None]:
        """The numbers of rows of the constant matrices, each once."""
        shapes = (node.constant_shape() for node in self.nodes.values() if node.op == "Const")
        return list(dict.fromkeys(shape[0] for shape in shapes if shape and len(shape) == 2))

    @cached_property
    def _called(self) -> set[str]:
        """The name prefixes of nodes from functions that are called, each once."""
        callers = {
            node.name.partition("/")[0]: caller
            for node in self.nodes.values()
            if node.op == "Enter"
            and node.name.startswith(INLINED)
            and (caller := self.nodes.get(node.frame or "")) is not None
        }
        found: set[str] = set()
        for scope, caller in callers.items():  # a function is inlined after its caller
            above = caller.name.partition("/")[0]
            if caller.op in CALLS and (not caller.name.startswith(INLINED) or above in found):
                found.add(scope)
        return found

    def is_inner(self, name: str) -> bool:
        """Whether a node is in the body of a loop or a branch that is a function."""
        return name.startswith(INLINED) and name.partition("/")[0] not in self._called

    def is_frame(self, name: str | None) -> bool:
        """Whether a frame is a loop, and not the call of a function."""
        caller = self.nodes.get(name) if name is not None else None
        is_call = caller is not None and caller.op in CALLS
        return name is not None and not (is_call and not self.is_inner(name))

    @cached_property
    def users(self) -> dict[str, list[tuple[Node, int]]]:
        """For each node the nodes that read its outputs, with the number of their input."""
        return uses(self.nodes) if self._graph is None else self._graph.uses

    def readers(self, tensor: Tensor) -> Iterator[tuple[Node, int]]:
        """Yield the nodes that read this output of a node, with the number of their input."""
        for user, position in self.users.get(tensor.node, ()):
            if data_inputs(user)[position : position + 1] == [tensor]:
                yield user, position

    def within(self, function: FunctionBody) -> Scope:
        """Return the scope of a function."""
        return Scope(function.nodes, self.functions)

    def loop(self, name: str) -> Loop | None:
        """Return the loop of a frame or a While of this name."""
        node = self.nodes.get(name)
        if node is not None and node.op in WHILES:
            return while_loop(node, self.functions)
        return self._by_name.get(name)

    @cached_property
    def _by_name(self) -> dict[str, Loop]:
        return {loop.name: loop for loop in self.frames}


def _replace_calls(graph: Graph) -> Mapping[str, Node]:
    """Return the nodes of a graph, with the results of functions in place of their calls."""
    calls = {
        name: returned[0]
        for name, returned in graph.returns.items()
        if graph.nodes[name].op in CALLS and returned
    }

    def result(tensor: str) -> str:
        name, port = split_port(tensor)
        while name in calls and port < len(calls[name]):
            tensor = calls[name][port]
            name, port = split_port(tensor)
        return tensor

    found = dict(graph.nodes)
    for node in graph.nodes.values() if calls else ():
        inputs = [one if one.startswith("^") else result(one) for one in node.inputs]
        if inputs != node.inputs:
            found[node.name] = Node(node.name, node.op, inputs, node.attributes, node.frame)
    return found if calls else graph.nodes


class Environment(NamedTuple):
    """The variables and the arithmetic of an evaluation.

    Attributes:
        variable: returns the value of a variable's node.
        precision: the arithmetic.
        depth: the number of plans that enclose this one.
    """

    variable: Callable[[Node], Array]
    precision: Precision = Precision()
    depth: int = 0

    @property
    def inner(self) -> Environment:
        """The environment of a plan within this one.

        Raises:
            UnsupportedError: there are too many levels.
        """
        if self.depth >= limits.MAX_GRAPH_DEPTH:
            raise UnsupportedError("the graph has too many loops or functions within others")
        return self._replace(depth=self.depth + 1)


class _Step:
    """A call of a function that reads some slots and writes others; `name` is its node's name."""

    __slots__ = ("function", "inputs", "name", "op", "outputs")

    def __init__(
        self, function: Callable[..., Any], inputs: tuple[int, ...], name: str, op: str
    ) -> None:
        self.function = function
        self.inputs = inputs
        self.outputs: list[int] = []
        self.name = name
        self.op = op


class Plan:
    """Steps from feeds to fetches, in the order of their data.

    Attributes:
        feeds: the slot of each tensor that has to be fed.
        operations: the types of the operations, also within loops.
    """

    def __init__(
        self,
        steps: Sequence[_Step],
        size: int,
        feeds: Mapping[Tensor, int],
        fetches: Sequence[int],
        operations: frozenset[str],
    ) -> None:
        self.feeds = dict(feeds)
        self.operations = operations
        self._steps = steps
        self._size = size
        self._fetches = fetches
        self._branches = any(step.op in SWITCHES for step in steps)

    @property
    def is_random(self) -> bool:
        """Whether it draws random numbers, which may still have no effect."""
        return any(op.startswith(RANDOM) for op in self.operations)

    @property
    def names(self) -> list[str]:
        """The names of the nodes that it computes, in the order of their data."""
        return [step.name for step in self._steps]

    def run(self, feeds: Mapping[Tensor, Any]) -> list[Any]:
        """Return the fetches of a single run, without warnings of NumPy; see `BoundPlan.run`."""
        with np.errstate(all="ignore"):
            return self.bind().run(feeds)

    def bind(self, fixed: Mapping[Tensor, Any] | None = None) -> BoundPlan:
        """Compute the values that depend only on constants, variables and fixed feeds."""
        given = fixed or {}
        varying = {slot for tensor, slot in self.feeds.items() if tensor not in given}
        slots: list[Any] = [None] * self._size
        for tensor, value in given.items():
            if tensor in self.feeds:
                slots[self.feeds[tensor]] = value
        early: list[_Step] = []
        late: list[_Step] = []
        for step in self._steps:
            if step.op.startswith(_FRESH) or not varying.isdisjoint(step.inputs):
                varying.update(step.outputs)
                late.append(step)
            else:
                early.append(step)
        _execute(early, slots, branches=self._branches)
        rest = [(tensor, slot) for tensor, slot in self.feeds.items() if tensor not in given]
        return BoundPlan(slots, late, dict(rest), self._fetches, branches=self._branches)


class BoundPlan:
    """A plan whose constant values have been computed."""

    def __init__(
        self,
        slots: list[Any],
        steps: Sequence[_Step],
        feeds: Mapping[Tensor, int],
        fetches: Sequence[int],
        *,
        branches: bool,
    ) -> None:
        self._slots = slots
        self._steps = steps
        self._feeds = feeds
        self._fetches = fetches
        self._branches = branches

    def run(self, feeds: Mapping[Tensor, Any]) -> list[Any]:
        """Return the fetches.

        Args:
            feeds: the values of the plan's feeds, and perhaps of other tensors.

        Raises:
            UnsupportedError: an operation rejects its inputs.
        """
        slots = self._slots.copy()
        for tensor, slot in self._feeds.items():
            slots[slot] = feeds[tensor]
        _execute(self._steps, slots, branches=self._branches)
        found = [slots[slot] for slot in self._fetches]
        if self._branches and any(value is _DEAD for value in found):
            raise UnsupportedError("the graph has no value here: another branch is taken")
        return found


def _execute(steps: Sequence[_Step], slots: list[Any], *, branches: bool) -> None:
    """Execute steps; nothing is computed in a branch that is not taken."""
    step = None
    try:
        for step in steps:
            arguments = [slots[slot] for slot in step.inputs]
            if branches and step.op not in MERGES and any(one is _DEAD for one in arguments):
                for slot in step.outputs:
                    slots[slot] = _DEAD
                continue
            found = step.function(*arguments)
            if type(found) is tuple:
                for slot, value in zip(step.outputs, found, strict=False):
                    slots[slot] = value
            else:
                slots[step.outputs[0]] = found
    except LstmstateError as error:
        error.tensor = error.tensor or (step.name if step else None)
        raise
    except (ValueError, TypeError, IndexError, AttributeError, ArithmeticError) as error:
        assert step is not None
        raise UnsupportedError(
            f"the graph's {step.op} rejects its inputs ({error})", tensor=step.name
        ) from error


def compile_plan(
    scope: Scope,
    fetches: Iterable[Tensor],
    feeds: Collection[Tensor],
    environment: Environment,
) -> Plan:
    """Compile the operations between the feeds and the fetches.

    Args:
        feeds: the tensors that may be fed; the plan's own `feeds` has those that it needs.

    Raises:
        UnfedError: a placeholder is needed.
        UnsupportedError: an operation is not in the table of operations.
    """
    return _Compiler(scope, feeds, environment).compile(fetches)


def compile_step(
    scope: Scope,
    loop: Loop,
    fetches: Iterable[Tensor],
    feeds: Collection[Tensor],
    environment: Environment,
) -> Plan:
    """Compile one step of a loop.

    Args:
        scope: the scope of the loop's body.
        feeds: the tensors that may be fed besides the loop variables that the step reads, and the
            Enters for values from outside; the plan's own `feeds` has those that it needs.

    Raises:
        UnsupportedError: an operation is not in the table of operations.
    """
    reads = {one.read: at for at, one in enumerate(loop.variables)}
    return _Compiler(scope, feeds, environment, loop, reads).compile(fetches)


class _Made(NamedTuple):
    """How a node is computed: a function, and the tensors that it takes."""

    function: Callable[..., Any]
    inputs: Sequence[Tensor]


class _Compiler:
    """Compiler of a plan, back from the fetches; for a loop, within its body or its condition.

    Attributes:
        reads: the numbers of the loop variables that are needed.
        captures: the Enters for values from outside that are needed.
    """

    def __init__(
        self,
        scope: Scope,
        feeds: Collection[Tensor],
        environment: Environment,
        loop: Loop | None = None,
        variables: Mapping[Tensor, int] | None = None,
    ) -> None:
        self._scope = scope
        self._allowed = feeds
        self._environment = environment
        self._loop = loop
        self._variables = variables or {}
        self.reads: set[int] = set()
        self.captures: set[str] = set()
        self._slots: dict[Tensor, int] = {}
        self._feeds: dict[Tensor, int] = {}
        self._steps: list[_Step] = []
        self._of_node: dict[str, _Step] = {}
        self._size = 0
        self._needed: dict[str, set[Tensor]] = {}
        self._operations: set[str] = set()

    def compile(self, fetches: Iterable[Tensor]) -> Plan:
        """Return the plan."""
        wanted = list(fetches)
        self._find_needed(wanted)
        for tensor in wanted:
            self._visit(tensor)
        slots = [self._slots[tensor] for tensor in wanted]
        operations = frozenset(self._operations)
        return Plan(self._steps, self._size, self._feeds, slots, operations)

    def _find_needed(self, wanted: Iterable[Tensor]) -> None:
        """Note which outputs of loops are needed, before a loop is compiled for all of them."""
        queue, seen = list(wanted), set(wanted)
        while queue:
            tensor = queue.pop()
            if self._is_given(tensor):
                continue
            node = node_at(self._scope.nodes, tensor)
            loop = self._loop_of(tensor, node)
            if loop is not None:
                self._needed.setdefault(loop.name, set()).add(tensor)
                before = [one.source for one in loop.variables]
                before += [
                    one
                    for name in loop.constants
                    for one in data_inputs(self._scope.nodes[name])[:1]
                ]
            else:
                before = data_inputs(node) + self._find_pivots(node)
            for one in before:
                if one not in seen:
                    seen.add(one)
                    queue.append(one)

    def _loop_of(self, tensor: Tensor, node: Node) -> Loop | None:
        """Return the loop with a tensor as its result."""
        if tensor.part:
            return self._scope.loop(tensor.node)
        if node.op in EXITS:
            return self._scope.exits.get(node.name)
        if node.op in WHILES:
            return while_loop(node, self._scope.functions)
        return None

    def _is_given(self, tensor: Tensor) -> bool:
        """Whether a tensor is fed, read by a step of the loop, or brought into it."""
        return (
            tensor in self._allowed
            or tensor in self._variables
            or (self._loop is not None and tensor.node in self._loop.constants)
        )

    def _slot(self, tensor: Tensor) -> int:
        if tensor not in self._slots:
            self._slots[tensor] = self._size
            self._size += 1
        return self._slots[tensor]

    def _visit(self, first: Tensor) -> None:
        """Add the steps that lead to a tensor."""
        stack: list[tuple[Tensor, _Made | None]] = [(first, None)]
        entered: set[str] = set()
        while stack:
            tensor, made = stack.pop()
            if tensor in self._slots:
                continue
            if made is not None:
                self._add(tensor, made)
                entered.discard(tensor.node)
                continue
            if self._is_given(tensor):
                self._feeds[tensor] = self._slot(tensor)
                if tensor in self._variables and tensor not in self._allowed:
                    self.reads.add(self._variables[tensor])
                elif self._loop is not None and tensor.node in self._loop.constants:
                    self.captures.add(tensor.node)
                continue
            if tensor.node in self._of_node and not tensor.part:
                self._add_output(tensor)
                continue
            if tensor.node in entered:
                raise UnsupportedError("the graph has a cycle", tensor=tensor.node)
            entered.add(tensor.node)
            made = self._make(tensor)
            stack.append((tensor, made))
            stack += [(one, None) for one in made.inputs if one not in self._slots]

    def _add(self, tensor: Tensor, made: _Made) -> None:
        node = node_at(self._scope.nodes, tensor)
        inputs = tuple(self._slots[one] for one in made.inputs)
        step = _Step(made.function, inputs, tensor.node, node.op or "While")
        self._steps.append(step)
        loop = self._loop_of(tensor, node)
        if loop is not None:  # one step for all needed outputs of a loop
            for one in sorted(self._needed[loop.name]):
                step.outputs.append(self._slot(one))
            return
        self._of_node[tensor.node] = step
        self._add_output(tensor)

    def _add_output(self, tensor: Tensor) -> None:
        step = self._of_node[tensor.node]
        while len(step.outputs) <= tensor.port:
            step.outputs.append(self._slot(Tensor(tensor.node, len(step.outputs))))

    def _make(self, tensor: Tensor) -> _Made:
        """Return how the node of a tensor is computed."""
        node = node_at(self._scope.nodes, tensor)
        loop = self._loop_of(tensor, node)
        if loop is not None:
            return self._make_loop(loop)
        if not node.op:
            raise UnsupportedError(f"the graph has no node {printable(tensor.node)}")
        self._operations.add(node.op)
        if is_source(node):
            raise UnfedError(node, tensor)
        if node.op in CALLS | BRANCHES:
            return self._make_call(node)
        kept = before_dropout(self._scope.nodes, node)
        if kept is not None:
            self._operations.add(DROPOUT)
            return _Made(lambda value: value, [kept])
        inputs = data_inputs(node)
        if node.op == "Const":
            value = constant_array(node)
            kind = self._environment.precision.dtype(value.dtype)
            value = value.astype(kind, copy=False)
            return _Made(lambda *_: value, self._find_pivots(node))
        if node.op in VARIABLE_OPS:
            return _Made(lambda: self._environment.variable(node), ())
        given = [Tensor(node.name, at, "input") for at in range(len(inputs))]
        inputs = [
            one if one in self._allowed else tensor
            for one, tensor in zip(given, inputs, strict=True)
        ]
        return _Made(self._function(node, inputs), inputs)

    def _function(self, node: Node, inputs: Sequence[Tensor]) -> Callable[..., Any]:
        """Return the function that computes a node, with its inputs."""
        if node.op in SWITCHES:
            self._refuse_loop(node, inputs)
            return _switch
        if node.op in MERGES:
            self._refuse_loop(node, [Tensor(node.name)])
            return _merge
        maker = OPERATIONS.get(node.op)
        if maker is None:
            raise UnsupportedError(
                f"the graph's operation {printable(node.op)} is not evaluated", tensor=node.name
            )
        return maker(node, self._environment.precision)

    def _refuse_loop(self, node: Node, inputs: Sequence[Tensor]) -> None:
        """Refuse to read a variable of a loop from outside of it."""
        before = node_at(self._scope.nodes, inputs[0]) if inputs else node
        ops = {node_at(self._scope.nodes, one).op for one in data_inputs(before)}
        if before.op in MERGES and "NextIteration" in ops:
            raise UnfedError(node, Tensor(node.name))

    def _find_pivots(self, node: Node) -> list[Tensor]:
        """Return the pivots of the branches around a constant: it is dead if one is not taken."""
        nodes = self._scope.nodes
        controls = [one.removeprefix("^") for one in node.inputs] if node.op == "Const" else []
        return [
            Tensor(pivot.name)
            for pivot in (node_at(nodes, Tensor(name)) for name in controls)
            if pivot.op == "Identity" and is_branch(nodes, input_at(nodes, pivot, 0))
        ]

    def _make_call(self, node: Node) -> _Made:
        """Return a call of a function, or of one of two branches."""
        names = ("then_branch", "else_branch") if node.op in BRANCHES else ("f",)
        bodies = [self._scope.functions.get(node.function(name) or "") for name in names]
        plans = []
        for body in bodies:
            if body is None:
                raise UnsupportedError("the graph calls a function it lacks", tensor=node.name)
            arguments = [Tensor(name) for name in body.arguments]
            compiler = _Compiler(
                self._scope.within(body), frozenset(arguments), self._environment.inner
            )
            plans.append((compiler.compile(map(Tensor.of, body.returns)), arguments))
            self._operations |= compiler._operations

        def call(*given: Any) -> tuple[Any, ...]:
            chosen = 0
            if len(plans) == 2:
                chosen, given = 0 if np.all(given[0]) else 1, given[1:]
            plan, arguments = plans[chosen]
            return tuple(plan.run(dict(zip(arguments, given, strict=False))))

        return _Made(call, data_inputs(node))

    def _make_loop(self, loop: Loop) -> _Made:
        """Return a loop, compiled for the loop variables that its needed outputs depend on."""
        outputs = sorted(self._needed[loop.name])
        wanted = {self._number(loop, tensor) for tensor in outputs}
        inside = self._scope if loop.body is None else self._scope.within(loop.body)
        outside = self._scope if loop.test is None else self._scope.within(loop.test)
        read = {one.read: at for at, one in enumerate(loop.variables)}
        tested = {one.tested: at for at, one in enumerate(loop.variables)}
        while True:
            numbers = sorted(wanted)
            body = _Compiler(inside, (), self._environment.inner, loop, read)
            steps = body.compile([loop.variables[at].next for at in numbers])
            test = _Compiler(outside, (), self._environment.inner, loop, tested)
            condition = test.compile([loop.condition])
            if body.reads | test.reads <= wanted:
                break
            wanted |= body.reads | test.reads
        self._operations |= body._operations | test._operations
        captures = sorted(body.captures | test.captures)
        run = _LoopRun(
            body=steps,
            test=condition,
            reads=[loop.variables[at].read for at in numbers],
            tested=[loop.variables[at].tested for at in numbers],
            constants=[
                place for place, at in enumerate(numbers) if is_unchanged(loop, at, inside.nodes)
            ],
            captures=[Tensor(name) for name in captures],
            outputs=[
                (numbers.index(self._number(loop, one)), one.part == "history") for one in outputs
            ],
        )
        given = []
        for at in numbers:
            initial = loop.initial(at)
            given.append(initial if initial in self._allowed else loop.variables[at].source)
        given += [data_inputs(self._scope.nodes[name])[0] for name in captures]
        return _Made(run.steps, given)

    def _number(self, loop: Loop, tensor: Tensor) -> int:
        if tensor.part or loop.body is not None:
            if not 0 <= tensor.port < len(loop.variables):
                raise UnsupportedError("the graph's loop has no such output", tensor=tensor.node)
            return tensor.port
        return loop.exits[tensor.node]


class _LoopRun(NamedTuple):
    """A compiled loop, called with the initial values and then the values from outside.

    Attributes:
        constants: the places of the loop variables that no step changes.
        outputs: for each output the place of its variable, and whether its history is fetched.
    """

    body: Plan
    test: Plan
    reads: Sequence[Tensor]
    tested: Sequence[Tensor]
    constants: Sequence[int]
    captures: Sequence[Tensor]
    outputs: Sequence[tuple[int, bool]]

    def steps(self, *given: Any) -> tuple[Any, ...]:
        """Run all steps; return the outputs."""
        values = list(given[: len(self.reads)])
        outside = dict(zip(self.captures, given[len(self.reads) :], strict=True))
        body = self.body.bind(outside | {self.reads[at]: values[at] for at in self.constants})
        test = self.test.bind(outside | {self.tested[at]: values[at] for at in self.constants})
        histories: dict[int, list[Any]] = {at: [] for at, whole in self.outputs if whole}
        for _ in range(limits.MAX_LOOP_STEPS):
            if not np.all(test.run(dict(zip(self.tested, values, strict=True)))[0]):
                break
            values = body.run(dict(zip(self.reads, values, strict=True)))
            for at, history in histories.items():
                history.append(values[at])
        else:
            raise UnsupportedError("the graph has a loop that does not end")
        return tuple(
            np.stack(histories[at]) if whole and histories[at] else values[at]
            for at, whole in self.outputs
        )


def _switch(value: Any, condition: Array) -> tuple[Any, Any]:
    return (_DEAD, value) if np.all(condition) else (value, _DEAD)


def _merge(*values: Any) -> tuple[Any, Any]:
    for at, value in enumerate(values):
        if value is not _DEAD:
            return value, np.array(at, np.int32)
    return _DEAD, _DEAD
