"""What a network of a graph is made of: recurrences with cells, the input, the outputs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from lstmstate.cells.cell import StateWidths
from lstmstate.cells.variable_names import common_scope, use_of
from lstmstate.graph.evaluate import Scope
from lstmstate.graph.loops import Tensor
from lstmstate.records import NamedTuple
from lstmstate.recurrence.data_path import READS_SIZES, Front
from lstmstate.recurrence.probe import Probe
from lstmstate.recurrence.states import Causes, Path


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
        is_state: whether it is the state after each step, in the order of the steps.
        by_step: whether it is in the order of the steps: the graph does not put them together.
        is_backward: whether these begin at the end of the sequence.
    """

    tensors: tuple[Tensor, ...]
    place: Path
    time_axis: int
    is_m: bool
    is_own: bool
    is_apart: bool = False
    array: Tensor | None = None
    is_state: bool = False
    by_step: bool = False
    is_backward: bool = False

    @property
    def of_loop(self) -> Output:
        """The same, in the order of the loop's steps."""
        if self.array is None:
            return self
        return self._replace(tensors=(self.array,), time_axis=0)

    @classmethod
    def of_m(cls, m: Port, *, is_backward: bool) -> Output:
        """Return the m of every step, where the graph does not put the steps together."""
        given = cls(m.steps, m.place, 0, is_m=True, is_own=False, is_apart=m.is_apart)
        return given._replace(is_state=True, by_step=True, is_backward=is_backward)


class Recurrence(NamedTuple):
    """Steps of cells over a sequence.

    Attributes:
        fronts: where the sequences come from that go into the products of its first cell.
        before: the numbers of the recurrences that it reads.
        steps: how many there are, None where the sequence decides.
        batch: the size of the batch, where a constant of the step asks for one.
        causes: what else decides its states than x and the states before.
        extra: how many values it carries besides c and m of its cells.
        reads: what its steps read, where each has a tensor of its own.
        between: an operation between the recurrences that it reads and itself that may treat steps
            by their place.
        masks: where the sequences come from that leave its states as they are where they are false.
        doubt: why its new state is certain only where its cell is known to make it.
        counts: what takes the number of steps in the place of the largest of some lengths:
            sequences of one length are run together.
        joined: the numbers of the recurrences whose steps the graph puts together in its output.
    """

    name: str
    cells: tuple[Cell, ...]
    fronts: tuple[Front, ...]
    before: frozenset[int]
    output: Output
    steps: int | None
    batch: int | None
    causes: Causes
    extra: int
    reads: tuple[Tensor, ...]
    between: str | None
    masks: tuple[Front, ...] = ()
    doubt: str | None = None
    counts: tuple[Tensor, ...] = ()
    joined: frozenset[int] = frozenset()

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
        note: what a user should know of it.
    """

    tensor: Tensor
    time_axis: int
    sizes: tuple[int | None, ...]
    width: int
    dtype: str
    causes: str | None = None
    later: tuple[Tensor, ...] = ()
    is_apart: bool = False
    note: str = ""

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
        remarks: what a user should know of it, its input aside.
        backward_from: the first recurrence of the second of two directions that never meet, None
            where they do, or there is one.
        lengths: the tensors that are lengths of sequences, or may be fed as such, and their types.
        masks: those that mask steps, or may be fed as such: where time is, and how many axes.
        others: where x may go in instead, for an x of another width.
        flags: what has to be fed because it changes a state before the first step, and how it does.
        handed: the cells that begin with what another of them ends with, and a line for each.
        halves: a line for each cell of which the graph takes c or m alone from a state that is fed.
    """

    scope: Scope
    recurrences: tuple[Recurrence, ...]
    outputs: tuple[Output, ...]
    m_outputs: tuple[Output, ...]
    input: Input
    remarks: tuple[str, ...]
    backward_from: int | None = None
    lengths: Mapping[Tensor, str] = {}
    masks: Mapping[Tensor, tuple[int, int]] = {}
    others: tuple[Input, ...] = ()
    flags: Mapping[Tensor, str] = {}
    handed: Mapping[str, str] = {}
    halves: tuple[str, ...] = ()

    def taking(self, width: int | None, fed: Collection[str] = ()) -> GraphNetwork:
        """Return the network with the input that takes an x of some width, where there is one.

        Args:
            fed: the names of what has a value already.
        """
        tensors = {Tensor.of(name) for name in fed}
        found = [one for one in self.others if one.width == width and one.tensor not in tensors]
        is_other = width != self.input.width and len(found) == 1
        return self._replace(input=found[0]) if is_other else self

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of it."""
        return (self.input.note, *self.remarks) if self.input.note else self.remarks

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
        jumps = (one.causes.jumps for one in self.recurrences)
        return self.place or next((one for one in jumps if one is not None), None)

    @property
    def _places(self) -> list[str]:
        own = (causes for one in self.recurrences for causes in (one.causes.place, one.between))
        return [causes for causes in (*own, self.input.causes) if causes is not None]

    @property
    def place(self) -> str | None:
        """How its steps know their place, or what went before them; None if they do not."""
        return next(iter([*self.handed.values(), *self._places]), None)

    @property
    def reads_sizes(self) -> bool:
        """Whether it computes with the number of steps, or the size of the batch."""
        return READS_SIZES in self._places

    @property
    def doubt(self) -> str | None:
        """Why its states are certain only where its cells are known to make them."""
        return next((one.doubt for one in self.recurrences if one.doubt is not None), None)

    @property
    def counts(self) -> tuple[Tensor, ...]:
        """What takes the number of steps."""
        return tuple(tensor for one in self.recurrences for tensor in one.counts)

    @property
    def takes_one_step(self) -> bool:
        """Whether the graph is built for sequences of a single step."""
        return 1 in (self.input.sizes[self.input.time_axis], self.steps)

    @property
    def is_reversed(self) -> bool:
        """Whether some of it begins at the end of the sequence."""
        return any(one.is_reversed for one in self.recurrences)


class Recurrences(NamedTuple):
    """The recurrences of a graph.

    Attributes:
        found: those with cells.
        others: a line for each loop in which none was found, with the reason.
        ends: the nodes at which one of them ends, with its number.
    """

    probe: Probe
    found: tuple[Recurrence, ...]
    others: tuple[str, ...]
    ends: Mapping[str, int]


class Draft(NamedTuple):
    """A recurrence before it is known which others it reads.

    Attributes:
        values: the tensors of the sequences that its first cell reads.
        fronts: where they come from.
        others: the other sequences.
        ends: the nodes that give what it makes.
        output: None for the m of its last cell.
    """

    name: str
    cells: tuple[Cell, ...]
    values: tuple[Tensor, ...]
    fronts: tuple[Front, ...]
    others: tuple[Tensor, ...]
    ends: tuple[str, ...]
    output: Output | None
    steps: int | None = None
    batch: int | None = None
    causes: Causes = Causes()
    extra: int = 0
    is_chain: bool = False
    masks: tuple[Front, ...] = ()
    doubt: str | None = None
    counts: tuple[Tensor, ...] = ()


def name_of(variables: Sequence[str], names: Mapping[str, str]) -> tuple[str, bool]:
    """Return the name of the cell with some variables, and whether it is a known one."""
    known = list(dict.fromkeys(names[name] for name in variables if name in names))
    if len(known) == 1:
        return known[0], True
    return common_scope(variables) or (variables[0] if variables else ""), False


def with_own_names(cells: Iterable[Cell]) -> tuple[Cell, ...]:
    """Return cells with names of their own: one that is used again has another state."""
    found: list[Cell] = []
    count: dict[str, int] = {}
    for cell in cells:
        use = count.get(cell.name, 0)
        count[cell.name] = use + 1
        found.append(cell._replace(name=use_of(cell.name, use)))
    return tuple(found)


def before_the_loop(operation: str) -> str:
    """Return why a loop behind an operation is not confirmed."""
    return f"{operation}, before the loop, may treat steps by their place"
