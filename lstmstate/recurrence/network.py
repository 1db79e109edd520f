"""The networks of a graph: its recurrences, joined as the graph joins them."""

from __future__ import annotations

from collections import ChainMap, Counter, defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import combinations, product
from typing import Any

import numpy as np

from lstmstate.cells.model import StateWidths
from lstmstate.cells.names import common_scope
from lstmstate.cells.wired import Wired
from lstmstate.checkpoint.graph import VARIABLE_OPS
from lstmstate.checkpoint.node import Node
from lstmstate.errors import LstmstateError, UnsupportedError, count, printable
from lstmstate.graph.loops import Tensor, data_inputs
from lstmstate.graph.plan import Scope
from lstmstate.records import NamedTuple
from lstmstate.recurrence.chain import Chain, chains
from lstmstate.recurrence.front import Front, by_place, front_of, origins, tail_of
from lstmstate.recurrence.joined import Values, joined, joins
from lstmstate.recurrence.loop import (
    LoopRecurrence,
    SequenceInput,
    loop_recurrences,
    past_selection,
    skip,
)
from lstmstate.recurrence.probe import OPEN, Probe
from lstmstate.recurrence.sliced import sliced_inputs
from lstmstate.recurrence.states import JUMPS, PRODUCTS, Pair, Part, Path, Step, take
from lstmstate.recurrence.unrolled import are_same, unrolled, with_batch

_GATHERS = ("TensorArrayGather", "TensorArrayPack", "TensorListStack")


class _SequenceOp(NamedTuple):
    """An operation that is a whole recurrence: numbers of its inputs and outputs.

    Attributes:
        inputs: how many it has: x, c and m among them, and the weights from one of them on.
        sized: an input, and how many times the units its last axis is wide.
        entry: where in c and m the state is.
        last: the outputs with the last c and m.
        exit: where in them it is.
        steps: the outputs with every c and m.
    """

    inputs: int
    x: int
    c: int
    m: int
    weights: int
    sized: tuple[int, int]
    entry: Path
    last: tuple[int, int]
    exit: Path
    steps: tuple[int, int]


_BLOCK = _SequenceOp(9, 1, 2, 3, 4, (4, 4), (), (1, 6), ((0, -1),), (1, 6))
# The state has an axis of layers, of which there is one; output 5 is ours: see `operations`.
_CUDNN = _SequenceOp(4, 0, 2, 1, 3, (2, 1), ((0, 0),), (2, 1), ((0, 0),), (5, 0))
_SEQUENCE_OPS = {
    **dict.fromkeys(("BlockLSTM", "BlockLSTMV2", "FusedLSTM"), _BLOCK),
    **dict.fromkeys(("CudnnRNN", "CudnnRNNV2"), _CUDNN),
    "CudnnRNNV3": _CUDNN._replace(inputs=5),
}
_TRIED = 4  # sizes of a batch
# What lays a state out anew, and what a state of zeros is made of.
_LAYING = frozenset(
    """
    Split SplitV Slice StridedSlice Unpack Pack Concat ConcatV2 Identity Reshape Squeeze ExpandDims
    Cast Transpose Fill Tile ZerosLike Enter RefEnter Range Sub Add AddV2 Rank GatherV2 Gather
    """.split()
)
# What cuts a step out of a sequence: which of its inputs that is.
_CUTS = {
    **dict.fromkeys(("Unpack", "SplitV", "StridedSlice", "Slice", "Squeeze", "Reshape"), 0),
    **dict.fromkeys(("Identity", "ExpandDims", "Transpose"), 0),
    "Split": 1,
}
_NEAR = 60  # nodes between the m of a step and where the steps are packed


class Port(NamedTuple):
    """Where c or m of a cell goes into a graph and comes out of it.

    Attributes:
        initial: the tensor to feed with the state before the first step.
        entry: where in it the state is.
        source: the tensor that the graph itself begins with.
        final: the tensor that has the state after the last step.
        exit: where in it the state is.
        steps: the tensors that have it after every step.
        place: where in each step it is.
        width: of its last axis.
        dtype: its NumPy type.
        spatial: the sizes of the axes between the batch and the last.
        is_apart: whether there is a tensor for each step, and not one for all.
        entries: where the first step reads it, which is fed in the place of `initial`.
    """

    initial: Tensor
    entry: Path
    source: Tensor
    final: Tensor
    exit: Path
    steps: tuple[Tensor, ...]
    place: Path
    width: int
    dtype: str
    spatial: tuple[int, ...] = ()
    is_apart: bool = False
    entries: tuple[Tensor, ...] = ()

    @property
    def fed(self) -> tuple[Tensor, ...]:
        """The tensors to feed with the state before the first step."""
        return self.entries or (self.initial,)


class Cell(NamedTuple):
    """A cell of a network.

    Attributes:
        name: that of the cell that has its variables, or their scope.
        scope: where its products are in the graph.
        is_known: whether it is a cell that its names or its structure showed to be an LSTM.
    """

    name: str
    c: Port
    m: Port
    scope: str
    is_known: bool

    @property
    def widths(self) -> StateWidths:
        """The widths of c and m."""
        return StateWidths(self.c.width, self.m.width)

    @property
    def spatial(self) -> tuple[int, ...]:
        """The axes of c and m between the batch and the width."""
        return self.c.spatial


class Output(NamedTuple):
    """What a recurrence gives at each step.

    Attributes:
        tensors: what to fetch: all steps at once, or one tensor for each.
        place: where in each step it is.
        time_axis: where time is in a tensor of all steps.
        is_m: whether it is the m of the last cell.
        is_own: whether the cell itself makes it, though it is not its m.
        is_apart: whether there is a tensor for each step, and not one for all.
        array: the array that the loop itself writes, where the graph may reverse it behind.
    """

    tensors: tuple[Tensor, ...]
    place: Path
    time_axis: int
    is_m: bool
    is_own: bool
    is_apart: bool = False
    array: Tensor | None = None

    @property
    def of_loop(self) -> Output:
        """The same, in the order of the loop's steps."""
        if self.array is None:
            return self
        return self._replace(tensors=(self.array,), time_axis=0)


class Recurrence(NamedTuple):
    """Steps of cells over a sequence.

    Attributes:
        fronts: where the sequences come from that go into the products of its first cell.
        before: the numbers of the recurrences that it reads.
        steps: how many there are, None where the sequence decides.
        batch: the size of the batch, where a constant of the step asks for one.
        causes: what else decides its states than x and the states before, None where nothing does.
        extra: how many values it carries besides c and m of its cells.
        reads: what its steps read, where each has a tensor of its own.
        between: an operation between the recurrences that it reads and itself that may treat steps
            by their place.
    """

    name: str
    cells: tuple[Cell, ...]
    fronts: tuple[Front, ...]
    before: frozenset[int]
    output: Output
    steps: int | None
    batch: int | None
    causes: str | None
    extra: int
    reads: tuple[Tensor, ...]
    between: str | None

    @property
    def is_reversed(self) -> bool:
        """Whether it begins at the end of the sequence."""
        return any(front.reversed for front in self.fronts)


class Input(NamedTuple):
    """The tensor that takes x.

    Attributes:
        time_axis: 0 where it is `[time, batch, *spatial, width]`, 1 where it is `[batch, time,
            *spatial, width]`.
        sizes: its static shape, None for what is open.
        width: of its last axis.
        dtype: the NumPy type of its values.
        causes: an operation between it and the loop that may treat steps by their place.
        later: what the steps after the first read, where each has a tensor of its own,
            `[batch, width]`.
        is_apart: whether each has.
    """

    tensor: Tensor
    time_axis: int
    sizes: tuple[int | None, ...]
    width: int
    dtype: str
    causes: str | None = None
    later: tuple[Tensor, ...] = ()
    is_apart: bool = False

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All tensors that take x."""
        return (self.tensor, *self.later)

    def fed(self, x: Any) -> dict[Tensor, Any]:
        """Return what to feed for x, `[steps, batch, *spatial, width]`."""
        if self.is_apart:
            return dict(zip(self.tensors, x, strict=True))
        return {self.tensor: x.swapaxes(0, 1) if self.time_axis else x}

    @property
    def spatial(self) -> tuple[int, ...]:
        """The axes between those of batch and time and the last: of images, none of vectors."""
        return tuple(size or 0 for size in self.sizes[2:-1])


class GraphNetwork(NamedTuple):
    """Recurrences that read one another, from x to the outputs.

    Attributes:
        recurrences: in the order of data; of two directions the forward one first.
        outputs: what it gives, side by side.
        m_outputs: the m of its last cells, side by side.
        notes: what a user should know of its input.
        backward_from: the first recurrence of the second of two directions that never meet, None
            where they do, or there is one.
    """

    scope: Scope
    recurrences: tuple[Recurrence, ...]
    outputs: tuple[Output, ...]
    m_outputs: tuple[Output, ...]
    input: Input
    notes: tuple[str, ...]
    backward_from: int | None = None

    @property
    def cells(self) -> tuple[Cell, ...]:
        """All cells, stage by stage."""
        return tuple(cell for one in self.recurrences for cell in one.cells)

    @property
    def steps(self) -> int | None:
        """How many steps it takes, None where the sequence decides."""
        return next((one.steps for one in self.recurrences if one.steps is not None), None)

    @property
    def causes(self) -> str | None:
        """What else decides its states than x and the states before, None where nothing does."""
        own = (causes for one in self.recurrences for causes in (one.causes, one.between))
        every = (*own, self.input.causes)
        return next((causes for causes in every if causes is not None), None)

    @property
    def is_reversed(self) -> bool:
        """Whether some of it begins at the end of the sequence."""
        return any(one.is_reversed for one in self.recurrences)


class Recurrences(NamedTuple):
    """The recurrences of a graph.

    Attributes:
        found: those with cells.
        others: a line for each loop in which none was found, with the reason.
    """

    probe: Probe
    found: tuple[Recurrence, ...]
    others: tuple[str, ...]


class _Draft(NamedTuple):
    """A recurrence before it is known which others it reads.

    Attributes:
        values: the tensors of the sequences that its first cell reads.
        fronts: where they come from.
        others: the other sequences.
        ends: the nodes that give what it makes.
    """

    name: str
    cells: tuple[Cell, ...]
    values: tuple[Tensor, ...]
    fronts: tuple[Front, ...]
    others: tuple[Tensor, ...]
    ends: tuple[str, ...]
    output: Output
    steps: int | None = None
    batch: int | None = None
    causes: str | None = None
    extra: int = 0
    is_chain: bool = False


def find_recurrences(
    scope: Scope,
    variable: Callable[[Node], Any],
    names: Mapping[str, str],
    wired: Collection[Wired] = (),
    widths: Collection[int] = (),
) -> Recurrences:
    """Return the recurrences of a graph.

    Args:
        variable: returns the value of a variable's node.
        names: the cell that each variable's node belongs to, where it is known.
        wired: the cells that are known by their structure, for steps without a loop.
        widths: those of the inputs of known cells, for placeholders whose shape the graph leaves
            out.
    """
    is_open = any(
        node.op == "Placeholder" and node.shape() is None for node in scope.nodes.values()
    )
    candidates: list[int | None] = []
    if is_open:
        candidates += [*widths][:_TRIED]
    tried = [
        _recurrences(Probe(scope, variable, width=width), names, wired)
        for width in candidates or [None]
    ]
    return max(tried, key=lambda one: len(one.found))


def _recurrences(probe: Probe, names: Mapping[str, str], wired: Collection[Wired]) -> Recurrences:
    scope = probe.scope
    others: list[str] = []
    drafts = [
        *_loops(probe, names, others),
        *_sequence_ops(probe, names, others),
        *_chains(probe, names, wired, others),
    ]
    ends = {name: at for at, draft in enumerate(drafts) for name in draft.ends}
    found = []
    sides: list[tuple[Front, ...]] = []
    for draft in drafts:
        if not draft.is_chain:
            sides.append(draft.fronts)
            continue
        try:
            sides.append(_chain_front(probe, draft, ends))
        except LstmstateError:
            sides.append(())  # its steps can still be fed one by one
    for at, draft in enumerate(drafts):
        before = origins(scope.nodes, [*draft.values, *draft.others], ends, at).recurrences
        changing = by_place(scope.nodes, draft.values, ends, at) if before else None
        found.append(
            Recurrence(
                draft.name,
                draft.cells,
                sides[at],
                before,
                draft.output,
                draft.steps,
                draft.batch,
                draft.causes,
                draft.extra,
                draft.values if draft.is_chain and len(draft.values) == draft.steps else (),
                changing and _before_the_loop(changing),
            )
        )
    return Recurrences(probe, tuple(found), tuple(others))


# ---- loops


def _loops(probe: Probe, names: Mapping[str, str], others: list[str]) -> Iterator[_Draft]:
    """Yield the loops with cells in them."""
    for loop in loop_recurrences(probe.scope):
        name = printable(loop.loop.name)
        try:
            one = loop._replace(inputs=(*loop.inputs, *sliced_inputs(loop, probe)))
            step, steps, batch = _step(one, probe)
            pairs = step.pairs()
            if not pairs:
                others.append(f"{name}: it carries no c and m of an LSTM")
                continue
            cells = tuple(_cell(one, step, pair, names) for pair in pairs)
            into = step.elements_into(pairs[0])
            used = [item for item in one.inputs if item.element in step.used]
            first = [item for item in used if item.element in into]
            yield _Draft(
                one.loop.name,
                cells,
                tuple(item.value for item in first),
                tuple(_front_of_loop(probe, item) for item in first),
                tuple(item.value for item in used if item.element not in into),
                tuple(one.loop.exits) or (one.loop.name,),
                _output(probe.scope, one, cells[-1], pairs[-1]),
                steps,
                batch,
                step.other_causes(pairs),
                len(step.parts) - 2 * len(cells),
            )
        except LstmstateError as error:
            others.append(f"{name}: {error}")


def _front_of_loop(probe: Probe, given: SequenceInput) -> Front:
    is_turned, is_backward = given.axis == 1, given.is_backward
    return front_of(probe.scope.nodes, given.value, turned=is_turned, backward=is_backward)


def _distinct(cells: Iterable[Cell]) -> tuple[Cell, ...]:
    """Return cells with names of their own: one that is used again has another state."""
    found: list[Cell] = []
    count: dict[str, int] = {}
    for cell in cells:
        count[cell.name] = count.get(cell.name, 0) + 1
        number = count[cell.name]
        found.append(cell if number == 1 else cell._replace(name=f"{cell.name}#{number}"))
    return tuple(found)


def _step(one: LoopRecurrence, probe: Probe) -> tuple[Step, int | None, int | None]:
    """Return a loop's step, and the steps and the batch where the graph is built for so many.

    Sizes that placeholders leave open are tried: two, and those that operations ask for.
    """
    try:
        return Step(one, probe), None, None
    except UnsupportedError as error:
        first = error
    for steps in probe.unpacked[:_TRIED]:
        try:
            return Step(one, probe.with_open(steps)), steps, None
        except UnsupportedError:
            continue
    nodes = probe.scope.nodes
    given = [*map(Tensor, one.loop.constants), *(each.source for each in one.loop.variables)]
    outside = [nodes.get(skip(nodes, tensor).node) for tensor in given]
    shapes = [node.constant_shape() or () for node in outside if node is not None]
    rows = [shape[0] for axes in (1, 2) for shape in shapes if len(shape) == axes]
    rows += _rows_of_variables(one, nodes)
    sizes = dict.fromkeys([*rows, *one.inside.constant_rows])
    for size in list(sizes)[:_TRIED]:
        try:
            return Step(one, probe.with_open(size or 1)), None, size
        except UnsupportedError:
            continue
    raise first


def _rows_of_variables(one: LoopRecurrence, nodes: Mapping[str, Node]) -> list[int | None]:
    """Return how many rows the variables have with which a loop begins."""
    found: list[int | None] = []
    for number in one.carried:
        node = nodes.get(skip(nodes, one.loop.variables[number].source).node)
        if node is not None and node.op == "ReadVariableOp":
            node = nodes.get(skip(nodes, data_inputs(node)[0]).node)
        if node is not None and node.op in VARIABLE_OPS:
            found += (node.shape() or ())[:1]
    return found


def _cell(one: LoopRecurrence, step: Step, pair: Pair, names: Mapping[str, str]) -> Cell:
    scope = pair.products[0].rpartition("/")[0] if pair.products else ""
    name, is_known = _name(step.variables(pair), names)
    return Cell(name, _port(one, step, pair.c), _port(one, step, pair.m), scope, is_known)


def _port(one: LoopRecurrence, step: Step, part: Part) -> Port:
    loop = one.loop
    final, history = loop.final(part.number), loop.history(part.number)
    return Port(
        loop.initial(part.number),
        part.path,
        loop.variables[part.number].source,
        final or history,  # a graph that was cut to its outputs has no last state
        part.path if final is not None else ((0, -1), *part.path),
        (history,),
        part.path,
        step.width(part),
        step.dtype(part),
        step.spatial(part),
    )


def _name(variables: Sequence[str], names: Mapping[str, str]) -> tuple[str, bool]:
    """Return the name of the cell with some variables, and whether it is a known one."""
    known = list(dict.fromkeys(names[name] for name in variables if name in names))
    if len(known) == 1:
        return known[0], True
    return common_scope(variables) or (variables[0] if variables else ""), False


def _output(scope: Scope, one: LoopRecurrence, top: Cell, pair: Pair) -> Output:
    """Return what a loop writes at each step, or m where it writes nothing else."""
    nodes, loop, m = one.inside.nodes, one.loop, pair.m
    read = loop.variables[m.number].read

    def made(tensor: Tensor) -> Tensor:
        return past_selection(one.inside, skip(nodes, tensor), read)

    whole, alone = made(loop.variables[m.number].next), made(m.next)
    written = [(output.number, made(output.element)) for output in one.outputs]
    for number, element in written:
        if element == alone:
            return _fetched(scope, one, number, (), is_m=True, is_own=False)
        if element == whole and m.path:
            return _fetched(scope, one, number, m.path, is_m=True, is_own=False)
    if len(written) == 1:
        ((number, element),) = written
        within = f"{element.node.rpartition('/')[0]}/".startswith(f"{top.scope}/")
        is_own = within and not _leads_to(nodes, element, m.next)
        return _fetched(scope, one, number, (), is_m=False, is_own=is_own)
    return Output(top.m.steps, top.m.place, 0, is_m=True, is_own=False)


def _leads_to(nodes: Mapping[str, Node], start: Tensor, end: Tensor) -> bool:
    """Whether a value is made of another, with no product between them."""
    queue, seen = [end], {end}
    while queue and len(seen) < _NEAR:
        tensor = queue.pop(0)
        if tensor == start:
            return True
        node = nodes.get(tensor.node)
        if node is not None and node.op not in PRODUCTS:
            given = [one for one in data_inputs(node) if one not in seen]
            seen.update(given)
            queue += given
    return False


def _fetched(
    scope: Scope, one: LoopRecurrence, number: int, place: Path, *, is_m: bool, is_own: bool
) -> Output:
    """Return the output in an array of steps, in the order in which the graph leaves it."""
    array = one.loop.final(number)
    if array is None:
        raise UnsupportedError("the graph does not read its outputs", tensor=one.loop.name)
    queue = [array]
    while queue:
        handed = queue.pop()
        for user, _ in scope.users.get(handed.node, ()):
            if handed not in data_inputs(user):
                continue
            if user.op == "Identity" and not scope.is_inner(user.name):
                queue.append(Tensor(user.name))
            elif user.op.startswith(_GATHERS):
                tail = tail_of(scope, Tensor(user.name))
                if tail.reversed:
                    out = (tail.tensor,)
                    turned = int(tail.turned)
                    return Output(out, place, turned, is_m=is_m, is_own=is_own, array=array)
    return Output((array,), place, 0, is_m=is_m, is_own=is_own, array=array)


# ---- operations that are a whole recurrence


def _sequence_ops(probe: Probe, names: Mapping[str, str], others: list[str]) -> Iterator[_Draft]:
    """Yield the operations that step a cell over a whole sequence."""
    scope = probe.scope
    for node in scope.nodes.values():
        places = _SEQUENCE_OPS.get(node.op)
        if places is None or scope.is_inner(node.name):
            continue
        given = data_inputs(node)
        if len(given) != places.inputs:
            continue
        sized, times = places.sized
        if places is _BLOCK and not _takes_every_step(probe, given[0], given[places.x]):
            others.append(f"{printable(node.name)}: its sequences have lengths of their own")
            continue
        try:
            values = probe.values([given[places.x], given[sized]])
        except LstmstateError as error:
            others.append(f"{printable(node.name)}: {error}")
            continue
        ports = [
            Port(
                Tensor(node.name, at, "input"),
                places.entry,
                given[at],
                Tensor(node.name, last),
                places.exit,
                (Tensor(node.name, steps),),
                (),
                values[1].shape[-1] // times,
                str(values[0].dtype),
            )
            for at, last, steps in zip((places.c, places.m), places.last, places.steps, strict=True)
        ]
        weights = origins(scope.nodes, given[places.weights :], {}).variables
        name, is_known = _name(weights, names)
        cell = Cell(name, ports[0], ports[1], node.name.rpartition("/")[0], is_known)
        every_m = Tensor(node.name, places.steps[1])
        tail = tail_of(scope, every_m)
        out = tail if tail.reversed else Front(every_m, False, False)
        output = Output((out.tensor,), (), int(out.turned), is_m=True, is_own=False)
        x = given[places.x]
        fronts = (front_of(scope.nodes, x),)
        yield _Draft(node.name, (cell,), (x,), fronts, (), (node.name,), output)


def _takes_every_step(probe: Probe, steps: Tensor, x: Tensor) -> bool:
    """Whether a number of steps is that of a sequence, and not the largest of some lengths."""
    nodes = probe.scope.nodes
    for _ in range(_NEAR):
        node = nodes.get(steps.node)
        if node is None or node.op not in ("Cast", "Identity", "StridedSlice", "Squeeze"):
            break
        steps = data_inputs(node)[0]
    if node is None or node.op == "Shape":
        return node is not None
    constant = node.constant()
    return constant is not None and constant.values[:1] == probe.describe(x)[0][:1]


# ---- steps without a loop


def _chains(
    probe: Probe, names: Mapping[str, str], wired: Iterable[Wired], others: list[str]
) -> Iterator[_Draft]:
    """Yield the chains of steps that a graph repeats."""
    known = chains(probe.scope, wired)
    more = unrolled(probe)
    # Of layers whose states are one tensor, the structure shows which is fed by which.
    reading = Counter(chain.x for chain in more)
    doubled = {chain.x for chain in more if any(_is_one(one, chain) for one in known)}
    more = [
        chain for chain in more if chain.x not in doubled or (chain.x and reading[chain.x] == 1)
    ]
    known = [chain for chain in known if not any(_is_one(chain, other) for other in more)]
    every = [*known, *more]
    begun = Counter(tensor for chain in every for tensor in (chain.c[0], chain.m[0]))
    continued = _continued(probe, every)
    for at, (chain, some) in enumerate(zip(every, joins(probe.scope, every), strict=True)):
        try:
            if at in continued:
                raise UnsupportedError("the graph begins it anew within one sequence")
            is_shared = max(begun[chain.c[0]], begun[chain.m[0]]) > 1
            output = _packed(probe.scope, chain, some)
            if is_shared and (
                not all(chain.entries) or {chain.c[0], chain.m[0]} & {*output.tensors}
            ):
                raise UnsupportedError("several states begin as one tensor, and are not fed apart")
            shapes, batch = with_batch(
                probe, chain.steps, (chain.c[0], chain.m[0]), partial(_first_states, chain)
            )
        except LstmstateError as error:
            others.append(f"{printable(chain.scope)}: {error}")
            continue
        ports = [
            Port(
                states[0],
                place,
                states[0],
                states[-1],
                place,
                states[1:],
                place,
                take(value, place).shape[-1],
                str(value.dtype),
                is_apart=True,
                entries=entries if is_shared else (*entries, states[0]),
            )
            for states, value, place, entries in zip(
                (chain.c, chain.m), shapes, chain.places, chain.entries, strict=True
            )
        ]
        name, is_known = _name(chain.kernels, names)
        cell = Cell(name, ports[0], ports[1], chain.scope, is_known)
        made = tuple(tensor.node for states in (chain.c, chain.m) for tensor in states[1:])
        fronts = tuple(front_of(probe.scope.nodes, x) for x in chain.x)
        yield _Draft(
            chain.scope,
            (cell,),
            chain.x,
            fronts,
            (),
            made,
            output,
            chain.steps,
            batch,
            _jumps(probe, chain, output),
            is_chain=True,
        )


def _jumps(probe: Probe, chain: Chain, output: Output) -> str | None:
    """Return how the steps of a chain compare or round values, None where they do not."""
    read = [tensor for entries in chain.entries for tensor in entries]
    made = [*chain.c[1:], *chain.m[1:], *output.tensors]
    plan = probe.compile(made, [*chain.x, *read, chain.c[0], chain.m[0]])
    jumps = sorted(plan.operations & JUMPS)
    return f"its steps compare or round values ({jumps[0]})" if jumps else None


def _first_states(chain: Chain, probe: Probe) -> list[Any]:
    return probe.values([chain.c[1], chain.m[1]])


def _continued(probe: Probe, every: Sequence[Chain]) -> set[int]:
    """Return the chains of which another one, of the same cell, reads the rest of the sequence."""
    nodes = probe.scope.nodes
    sources = [{node.name for node in origins(nodes, one.x, {}).sources} for one in every]
    of_kernel: dict[str, list[int]] = {}
    for at, chain in enumerate(every):
        for kernel in chain.kernels if chain.x else ():
            of_kernel.setdefault(kernel, []).append(at)
    found: set[int] = set()
    for group in of_kernel.values():
        for one, other in combinations(group, 2):
            if not sources[one].isdisjoint(sources[other]) and not any(
                are_same(nodes, *pair) for pair in product(every[one].x, every[other].x)
            ):
                found |= {one, other}
    return found


def _is_one(chain: Chain, other: Chain) -> bool:
    """Whether two chains are the steps of one cell over the same sequence."""
    if not {*chain.c[1:], *chain.m[1:]}.isdisjoint((*other.c[1:], *other.m[1:])):
        return True
    same_weights = not set(chain.kernels).isdisjoint(other.kernels)
    return same_weights and not set(chain.x).isdisjoint(other.x)


def _packed(scope: Scope, chain: Chain, some: Iterable[Values]) -> Output:
    """Return what the graph joins of the steps of a chain: m where it does not join another.

    Args:
        some: what may be it.
    """
    found = joined(scope, chain, some)
    if not found:
        return Output(chain.m[1:], (), 0, is_m=True, is_own=False, is_apart=True)
    values, is_m = found[0]
    within = f"{values[0].node.rpartition('/')[0]}/".startswith(f"{chain.scope}/")
    is_own = within and not _leads_to(scope.nodes, values[0], chain.m[1])
    is_own = not is_m and (is_own or len(found) > 1)
    return Output(values, (), 0, is_m=is_m, is_own=is_own, is_apart=True)


def _chain_front(probe: Probe, draft: _Draft, ends: dict[str, int]) -> tuple[Front, ...]:
    """Return where the sequence comes from that a chain reads step by step."""
    initial = {port.initial.node: -1 for cell in draft.cells for port in (cell.c, cell.m)}
    cut = ChainMap(initial, ends)
    way = origins(probe.scope.nodes, draft.values, cut)
    fed = [Tensor(node.name) for node in way.sources if probe.is_fed(Tensor(node.name))]
    if len(fed) != 1:
        return tuple(Front(tensor, False, False) for tensor in fed)
    is_turned = _is_batch_major(probe, draft, fed[0])
    is_reversed = _is_backward(probe, draft, fed[0], axis=int(is_turned))
    return (Front(fed[0], turned=is_turned, reversed=is_reversed),)


def _is_backward(probe: Probe, draft: _Draft, x: Tensor, axis: int) -> bool:
    """Whether the first step of a chain reads the end of its input, and not the beginning."""
    steps = draft.steps or 1
    static, _ = probe.describe(x)
    open_axes = (at for at, size in enumerate(static) if size is None)
    fed = probe.fed_value(x, [steps if at == axis else OPEN for at in open_axes])
    if fed.ndim < 2 or steps == 1:
        return False
    plan = probe.compile(draft.values[:1])
    with suppress(UnsupportedError):
        usual = probe.run(plan, {x: fed})
        changed = []
        for end in (0, -1):
            other = np.moveaxis(fed.copy(), axis, 0)
            other[end] += 1
            moved = probe.run(plan, {x: np.moveaxis(other, 0, axis)})
            changed.append(not np.array_equal(usual[0], moved[0]))
        return changed == [False, True]
    return False


def _is_batch_major(probe: Probe, draft: _Draft, x: Tensor) -> bool:
    """Whether the steps of a chain are cut out of the second axis of its input."""
    steps = draft.steps or 1
    batch = OPEN if steps != OPEN else OPEN + 1
    first = draft.values[0]
    for tensor in (first, _reader(probe, first, x)):
        if tensor is None or len(probe.fed_value(x, ()).shape) < 2:
            continue
        for axis, sizes in ((1, (batch, steps)), (0, (steps, batch))):
            fed = probe.fed_value(x, sizes)
            with suppress(UnsupportedError):
                (value,) = probe.run(probe.compile([tensor]), {x: fed})
                time, rows = fed.shape[axis], fed.shape[1 - axis]
                if time == steps != rows and np.shape(value)[:1] == (rows,):
                    return axis == 1
        read = _axis_read(probe, tensor, x, steps)
        if read is not None:
            return read == 1
    raise UnsupportedError("the graph does not show which axis is time", tensor=x.node)


def _reader(probe: Probe, first: Tensor, x: Tensor) -> Tensor | None:
    """Return what reads x, on the way to what the first step reads."""
    queue, seen = [first], {first}
    while queue and len(seen) < _NEAR:
        tensor = queue.pop(0)
        node = probe.scope.nodes.get(tensor.node)
        given = data_inputs(node) if node is not None else []
        if x in given:
            return tensor
        queue += [one for one in given if one not in seen]
        seen.update(given)
    return None


# Where a step is cut out of an axis, by whether it changes with the corners [0, 0], [0, -1] and
# [-1, 0] of its sequence: the first or the last row, the first or the last column.
_AXES = {
    (True, True, False): 0,
    (False, False, True): 0,
    (True, False, True): 1,
    (False, True, False): 1,
}


def _axis_read(probe: Probe, step: Tensor, x: Tensor, steps: int) -> int | None:
    """Return the axis of a sequence that a step is cut out of, where both are equally long."""
    fed = probe.fed_value(x, (steps, steps))
    if steps == 1 or fed.shape[:2] != (steps, steps):
        return None
    plan = probe.compile([step])
    changed = []
    try:
        (usual,) = probe.run(plan, {x: fed})
        for corner in ((0, 0), (0, -1), (-1, 0)):
            other = fed.copy()
            other[corner] += 1
            (value,) = probe.run(plan, {x: other})
            changed.append(not np.array_equal(usual, value))
    except UnsupportedError:
        return None
    return _AXES.get((changed[0], changed[1], changed[2]))


# ---- networks


def last_ones(every: Sequence[Recurrence]) -> list[tuple[int, ...]]:
    """Return the recurrences that no other reads, those of two directions as one."""
    read = {number for one in every for number in one.before}
    groups: list[tuple[int, ...]] = []
    waiting: defaultdict[Collection[Any], deque[int]] = defaultdict(deque)
    for at, one in enumerate(every):
        if at in read:
            continue
        origin, is_backward = _origin(every, at)
        # Of two directions both read the same recurrences, or come from the same input.
        ways: list[tuple[Collection[Any], bool]] = [(origin, is_backward)]
        ways += [(one.before, one.is_reversed)] if one.before else []
        found = []
        for key, is_reversed in ways:
            places = waiting[key]
            while places and len(groups[places[0]]) > 1:
                places.popleft()
            found += [places[0]] if is_reversed and places else []
        if found:
            groups[min(found)] += (at,)
            continue
        for key, is_reversed in ways:
            if not is_reversed:
                waiting[key].append(len(groups))
        groups.append((at,))
    return groups


def _origin(every: Sequence[Recurrence], at: int) -> tuple[frozenset[Tensor], bool]:
    """Return the tensors from which data comes to a recurrence, and whether it is reversed."""
    fronts: set[Tensor] = set()
    backward = False
    seen: set[int] = set()
    queue = [at]
    while queue:
        one = queue.pop()
        if one in seen:
            continue
        seen.add(one)
        backward |= every[one].is_reversed
        if every[one].before:
            queue += every[one].before
        else:
            fronts |= {front.tensor for front in every[one].fronts}
    return frozenset(fronts), backward


def network_of(
    recurrences: Recurrences, last: Sequence[int], *, alone: bool = False
) -> GraphNetwork:
    """Return the network that ends in some recurrences.

    Args:
        alone: whether it is of these only, with what the others give them as its x.

    Raises:
        UnsupportedError: it has more than one input, or one that is no sequence of vectors.
    """
    every = recurrences.found
    is_inner = alone and any(every[at].before for at in last)
    if alone:
        every = tuple(
            one._replace(
                before=frozenset(),
                between=None,
                output=one.output if one.is_reversed else one.output.of_loop,
            )
            for one in every
        )
    ways = [_levels(every, [at]) for at in last]
    if len(ways) == 2 and ways[0].keys().isdisjoint(ways[1]):  # each direction is a way of its own
        ways.sort(key=lambda way: any(every[at].is_reversed for at in way))
    else:
        ways = [_levels(every, last)]
    order = [
        at
        for levels in ways
        for at in sorted(levels, key=lambda at: (-levels[at], every[at].is_reversed, at))
    ]
    members = _with_names([every[at] for at in order])
    outputs = tuple(dict.fromkeys(every[at].output for at in last))
    for one in members:
        for cell in one.cells:
            _refuse_changed(recurrences.probe, cell)
    tops = [every[at].cells[-1].m for at in last]
    ms = tuple(
        Output(top.steps, top.place, 0, is_m=True, is_own=False, is_apart=top.is_apart)
        for top in tops
    )
    given, notes = _input(recurrences, members, is_inner=is_inner)
    extra = sum(one.extra for one in members)
    if extra:
        notes += (
            f"the graph carries {count(extra, 'more value')} from step to step: they begin as in "
            "the graph, and the state does not have them",
        )
    backward_from = len(ways[0]) if len(ways) > 1 else None
    return GraphNetwork(recurrences.probe.scope, members, outputs, ms, given, notes, backward_from)


def _with_names(members: Sequence[Recurrence]) -> tuple[Recurrence, ...]:
    """Return recurrences whose cells have names of their own."""
    cells = iter(_distinct(cell for one in members for cell in one.cells))
    return tuple(one._replace(cells=tuple(next(cells) for _ in one.cells)) for one in members)


def _levels(every: Sequence[Recurrence], last: Iterable[int]) -> dict[int, int]:
    """Return how far each recurrence is from the last ones: the longest way counts.

    Raises:
        UnsupportedError: there is no longest way.
    """
    readers: dict[int, int] = {}
    queue = list(last)
    seen = set(queue)
    while queue:
        for one in every[queue.pop()].before:
            readers[one] = readers.get(one, 0) + 1
            if one not in seen:
                seen.add(one)
                queue.append(one)
    levels = dict.fromkeys(seen, 0)
    queue = [at for at in seen if at not in readers]
    done = 0
    while queue:
        at = queue.pop()
        done += 1
        for one in every[at].before:
            levels[one] = max(levels[one], levels[at] + 1)
            readers[one] -= 1
            if not readers[one]:
                queue.append(one)
    if done < len(seen):
        raise UnsupportedError("the graph's recurrences go in a circle")
    return levels


def _refuse_changed(probe: Probe, cell: Cell) -> None:
    """Refuse a state that is fed and that the graph changes before the first step.

    Raises:
        UnsupportedError: it does.
    """
    for port in (cell.c, cell.m):
        way = origins(probe.scope.nodes, [port.source], {})
        changing = [node.op for node in way.operations if node.op not in _LAYING]
        fed = [node for node in way.sources if len(node.shape() or ()) in (2, 3)]
        sizes = [(node.shape() or ())[-1] for node in fed]
        widths = {cell.c.width, cell.m.width, cell.c.width + cell.m.width}
        if changing and len(fed) == len(way.sources) == 1 and sizes[0] in widths:
            raise UnsupportedError(
                f"the graph changes the state that it is fed at {printable(fed[0].name)} before "
                f"the first step ({', '.join(dict.fromkeys(changing[:4]))})",
                tensor=cell.name,
            )


def _input(
    recurrences: Recurrences, members: Sequence[Recurrence], *, is_inner: bool
) -> tuple[Input, tuple[str, ...]]:
    """Return where x goes in, and notes on it.

    Args:
        is_inner: whether other recurrences give it.

    Raises:
        UnsupportedError: it is no sequence, or there are several.
    """
    try:
        return _input_of_all(recurrences, members, is_inner=is_inner)
    except UnsupportedError:
        first = [one for one in members if not one.before]
        (reads, *others) = {one.reads for one in first}
        if not reads or others:
            raise
        value = _first_read(recurrences.probe, reads)
        if np.ndim(value) != 2 or value.dtype.kind != "f":
            raise
        if not _reads_each_once(recurrences.probe, reads):
            raise UnsupportedError(
                "its steps do not read one sequence from end to end, each element once",
                tensor=reads[0].node,
            ) from None
        width, kind = value.shape[-1], value.dtype.str[1:]
        given = Input(
            reads[0], 0, (len(reads), first[0].batch, width), width, kind, None, reads[1:], True
        )
        return given, (f"x is what each step reads, from {printable(reads[0].node)} on",)


def _first_read(probe: Probe, reads: Sequence[Tensor]) -> Any:
    """Return a value of what the first step reads."""
    with suppress(UnsupportedError):
        return probe.values(reads[:1])[0]
    return probe.with_open(len(reads)).values(reads[:1])[0]


def _reads_each_once(probe: Probe, reads: Sequence[Tensor]) -> bool:
    """Whether steps read a sequence from its first element to the last, or each its own source.

    A chain that begins anew in the middle of a sequence, leaves some of it out, or reads an
    element twice, is no run over it.
    """
    nodes = probe.scope.nodes
    ways = [_cut_out_of(nodes, one) for one in reads]
    shared = set(ways[0]).intersection(*ways)
    if not shared:
        own = [origins(nodes, [one], {}).sources for one in reads]
        names = {node.name for sources in own for node in sources}
        return len(names) == len(reads) and all(len(sources) == 1 for sources in own)
    whole = next(tensor for tensor in ways[0][::-1] if tensor in shared)
    for one in (probe, probe.with_open(len(reads))):
        with suppress(UnsupportedError):
            return _cuts_each_once(one, whole, reads)
    return False


def _cuts_each_once(probe: Probe, whole: Tensor, reads: Sequence[Tensor]) -> bool:
    """Whether steps cut every element out of a sequence once, in order or from the end.

    Raises:
        UnsupportedError: the sequence has another number of steps.
    """
    (value,) = probe.values([whole])
    plan = probe.compile(reads, [whole])
    if len(reads) == 1:
        return bool(np.ndim(value) == np.ndim(probe.run(plan, {whole: value})[0]))
    return any(
        _is_in_order(probe.run(plan, {whole: _numbered(value, axis)}), value.shape[axis])
        for axis in range(np.ndim(value))
    )


def _numbered(value: Any, axis: int) -> Any:
    """Return an array whose elements are their numbers along an axis."""
    return np.indices(value.shape)[axis].astype(value.dtype)


def _is_in_order(parts: Sequence[Any], size: int) -> bool:
    """Whether parts have all numbers up to a size, each once, from the first part or the last."""
    found = [sorted(set(np.asarray(part).ravel().tolist())) for part in parts]
    ways = (found, found[::-1])
    return any([*range(size)] == [number for part in way for number in part] for way in ways)


def _cut_out_of(nodes: Mapping[str, Node], tensor: Tensor) -> list[Tensor]:
    """Return a tensor, and those that it is cut out of, or laid out anew from."""
    found = [tensor]
    for _ in range(_NEAR):
        node = nodes.get(tensor.node)
        if node is None or node.op not in _CUTS:
            break
        tensor = data_inputs(node)[_CUTS[node.op]]
        found.append(tensor)
    return found


def _input_of_all(
    recurrences: Recurrences, members: Sequence[Recurrence], *, is_inner: bool
) -> tuple[Input, tuple[str, ...]]:
    """Return the tensor that takes x: a placeholder, or what the graph computes for its loops."""
    probe, nodes = recurrences.probe, recurrences.probe.scope.nodes
    fronts = {front.tensor: front for one in members if not one.before for front in one.fronts}
    if len(fronts) != 1:
        names = ", ".join(printable(tensor.node) for tensor in fronts) or "none"
        raise UnsupportedError(f"the network reads {count(len(fronts), 'input')} ({names})")
    ((tensor, front),) = fronts.items()
    sizes, kind = probe.describe(tensor)
    notes: tuple[str, ...] = ()
    causes = None
    if not probe.is_fed(tensor):
        way = origins(nodes, [tensor], {})
        fed = [Tensor(node.name) for node in way.sources if probe.is_fed(Tensor(node.name))]
        first = probe.describe(fed[0])[0] if len(fed) == 1 and not is_inner else ()
        if len(first) == len(sizes) > 2 and first[2:] == sizes[2:]:
            kinds = ", ".join(dict.fromkeys(node.op for node in way.operations[:6]))
            notes = (f"x is fed at {printable(fed[0].node)}, before {kinds}",)
            changing = by_place(nodes, [tensor], {})
            causes = changing and _before_the_loop(changing)
            front = front._replace(turned=probe.is_turned(fed[0], tensor) ^ front.turned)
            tensor, (sizes, kind) = fed[0], probe.describe(fed[0])
        elif way.sources:
            sources = ", ".join(printable(node.name) for node in way.sources[:3])
            notes = (f"x is the loop's input {printable(tensor.node)}, computed from {sources}",)
    width = sizes[-1] if sizes else None
    if len(sizes) < 3 or None in sizes[2:] or width is None:
        shape = ["any" if size is None else size for size in sizes]
        raise UnsupportedError(
            f"the network's input is {shape}, and sequences of vectors or images are run",
            tensor=tensor.node,
        )
    batch = next((one.batch for one in members if one.batch is not None), None)
    if batch is not None:
        sizes = (batch, *sizes[1:]) if front.turned else (sizes[0], batch, *sizes[2:])
    return Input(tensor, int(front.turned), sizes, width, kind, causes), notes


def _before_the_loop(operation: str) -> str:
    return f"{operation}, before the loop, may treat steps by their place"
