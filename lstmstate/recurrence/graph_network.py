"""Parts of a network of a graph: recurrences with their cells, the input, the outputs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from lstmstate.cells.cell import StateWidths
from lstmstate.cells.variable_names import common_scope, use_of
from lstmstate.graph.evaluate import Scope
from lstmstate.graph.tensors import Tensor
from lstmstate.named_tuple import NamedTuple
from lstmstate.recurrence.data_path import READS_SIZES, Front
from lstmstate.recurrence.find_states import Causes, Path
from lstmstate.recurrence.probe import Probe


class Port(NamedTuple):
    """The tensors for c or m of a cell: those to feed and those to fetch.

    Attributes:
        initial: the tensor to feed with the state before the first step.
        entry: the place of the state in `initial`.
        source: the tensor for the graph's own initial value.
        final: the tensor for the state after the last step.
        exit: the place of the state in `final`.
        steps: the tensors for the state after every step.
        place: the place of the state in each step.
        width: the size of the last axis.
        dtype: the NumPy type.
        spatial: the sizes of the axes between the batch and the last.
        is_apart: whether `steps` has a tensor for each step, and not one for all.
        entries: the inputs of the first step to feed instead of `initial`.
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


class RecurrentCell(NamedTuple):
    """A cell of a network.

    Attributes:
        name: the name of the known cell with its variables, or their name scope.
        scope: the name scope of its products.
        is_known: whether its names or its structure showed it to be an LSTM.
    """

    name: str
    c: Port
    m: Port
    scope: str
    is_known: bool

    @property
    def ports(self) -> tuple[Port, Port]:
        """Its c and m."""
        return self.c, self.m

    @property
    def widths(self) -> StateWidths:
        """The widths of c and m."""
        return StateWidths(self.c.width, self.m.width)

    @property
    def spatial(self) -> tuple[int, ...]:
        """The axes of c and m between the batch and the width."""
        return self.c.spatial


class Output(NamedTuple):
    """The output of a recurrence at each step.

    Attributes:
        tensors: the tensors to fetch: one for all steps, or one for each.
        place: the place of the output in each step.
        time_axis: the time axis in a tensor for all steps.
        is_m: whether it is the m of the last cell.
        is_own: whether the cell itself computes it, though it is not its m.
        is_apart: whether there is a tensor for each step, and not one for all.
        array: the TensorArray that the loop writes; the graph may reverse its steps afterwards.
        is_state: whether it is the state after each step, in the order of the steps.
        by_step: whether it is in the order of the steps, which the graph does not join.
        is_backward: whether the steps begin at the end of the sequence.
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
    def of_m(cls, m: Port, *, is_backward: bool = False) -> Output:
        """Return the m of every step as an output, for a graph that does not join the steps."""
        given = cls(m.steps, m.place, 0, is_m=True, is_own=False, is_apart=m.is_apart)
        return given._replace(is_state=True, by_step=True, is_backward=is_backward)


class Recurrence(NamedTuple):
    """Steps of cells over a sequence.

    Attributes:
        values: the sequences that its first cell multiplies with weights.
        fronts: their sources.
        others: the other sequences that it reads.
        ends: the nodes with its results.
        steps: the number of steps, None if the sequence length decides.
        batch: the size of the batch, if a constant fixes it.
        causes: the causes of its states besides x and the states before.
        extra: the number of loop variables besides c and m of its cells.
        is_chain: whether its steps are unrolled.
        masks: the sources of the masks that keep its states at steps where they are false.
        doubt: the reason why its new state is certain only for a cell known to compute it.
        counts: inputs to feed with the number of steps, in place of the largest sequence length:
            sequences of equal length are run together.
        before: the numbers of the recurrences that it reads.
        between: an operation between these and itself that may treat steps by their place.
        joined: the numbers of the recurrences whose steps the graph joins in its output.
    """

    name: str
    cells: tuple[RecurrentCell, ...]
    values: tuple[Tensor, ...]
    fronts: tuple[Front, ...]
    others: tuple[Tensor, ...]
    ends: tuple[str, ...]
    output: Output
    steps: int | None = None
    batch: int | None = None
    causes: Causes = Causes()
    extra: int = 0
    is_chain: bool = False
    masks: tuple[Front, ...] = ()
    doubt: str | None = None
    counts: tuple[Tensor, ...] = ()
    before: frozenset[int] = frozenset()
    between: str | None = None
    joined: frozenset[int] = frozenset()

    @property
    def reads(self) -> tuple[Tensor, ...]:
        """The inputs of its steps, if each step has a tensor of its own."""
        return self.values if self.is_chain and len(self.values) == self.steps else ()

    @property
    def is_reversed(self) -> bool:
        """Whether it begins at the end of the sequence."""
        return any(front.reversed for front in self.fronts)


class Input(NamedTuple):
    """The tensor that takes x.

    Attributes:
        time_axis: 0 for `[time, batch, *spatial, width]`, 1 for `[batch, time, *spatial, width]`.
        sizes: the static shape, None for an unknown size.
        width: the size of the last axis.
        dtype: the NumPy type.
        causes: an operation between it and the loop that may treat steps by their place.
        later: the tensors of the steps after the first, `[batch, width]`, if `is_apart`.
        is_apart: whether each step reads a tensor of its own.
        note: a note for the user.
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
    def steps(self) -> int | None:
        """The number of steps, None if it is not fixed."""
        return self.sizes[self.time_axis]

    @property
    def batch(self) -> int | None:
        """The number of sequences, None if it is not fixed."""
        return self.sizes[1 - self.time_axis]

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All tensors that take x."""
        return (self.tensor, *self.later)

    def fed(self, x: Any) -> dict[Tensor, Any]:
        """Return the feeds for x, `[steps, batch, *spatial, width]`."""
        if self.is_apart:
            return dict(zip(self.tensors, x, strict=True))
        return {self.tensor: x.swapaxes(0, 1) if self.time_axis else x}

    @property
    def spatial(self) -> tuple[int, ...]:
        """The sizes of the axes between batch and time and the last: images have some."""
        return tuple(size or 0 for size in self.sizes[2:-1])


class GraphNetwork(NamedTuple):
    """Recurrences that read one another, from x to the outputs.

    Attributes:
        recurrences: the recurrences in the order of data, the forward direction first.
        outputs: the outputs, joined along the last axis.
        m_outputs: the m of the last cells, joined along the last axis.
        remarks: notes for the user, besides that of the input.
        backward_from: the number of the first recurrence of the backward direction, None unless
            two directions never meet.
        lengths: the tensors for sequence lengths, with their types.
        masks: the tensors for masks of steps, with their time axis and number of axes.
        others: other inputs that may take x, if its width differs.
        flags: the inputs that change a state before the first step, with a line for each.
        handed: the cells whose initial state is another cell's final state, with a line for each.
        halves: a line for each cell if the graph takes only its c or only its m from an input.
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
        """Return the network with the input for an x of this width, if there is one.

        Args:
            fed: the names of inputs that have a value already.
        """
        tensors = {Tensor.of(name) for name in fed}
        found = [one for one in self.others if one.width == width and one.tensor not in tensors]
        is_other = width != self.input.width and len(found) == 1
        return self._replace(input=found[0]) if is_other else self

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the user."""
        return (self.input.note, *self.remarks) if self.input.note else self.remarks

    @property
    def cells(self) -> tuple[RecurrentCell, ...]:
        """All cells, stage by stage."""
        return tuple(cell for one in self.recurrences for cell in one.cells)

    @property
    def steps(self) -> int | None:
        """The number of steps, None if the sequence length decides."""
        return next((one.steps for one in self.recurrences if one.steps is not None), None)

    @property
    def causes(self) -> str | None:
        """The cause of its states besides x and the states before, None if there is none."""
        jumps = (one.causes.jumps for one in self.recurrences)
        return self.place or next((one for one in jumps if one is not None), None)

    @property
    def _places(self) -> list[str]:
        own = (causes for one in self.recurrences for causes in (one.causes.place, one.between))
        return [causes for causes in (*own, self.input.causes) if causes is not None]

    @property
    def place(self) -> str | None:
        """How a step depends on its place or on earlier steps, None if it does not."""
        return next(iter([*self.handed.values(), *self._places]), None)

    @property
    def reads_sizes(self) -> bool:
        """Whether it computes with the number of steps, or the size of the batch."""
        return READS_SIZES in self._places

    @property
    def doubt(self) -> str | None:
        """The reason why its states are certain only for cells known to compute them."""
        return next((one.doubt for one in self.recurrences if one.doubt is not None), None)

    @property
    def counts(self) -> tuple[Tensor, ...]:
        """The inputs to feed with the number of steps."""
        return tuple(tensor for one in self.recurrences for tensor in one.counts)

    @property
    def takes_one_step(self) -> bool:
        """Whether the graph is built for sequences of a single step."""
        return 1 in (self.input.steps, self.steps)

    @property
    def is_reversed(self) -> bool:
        """Whether any recurrence begins at the end of the sequence."""
        return any(one.is_reversed for one in self.recurrences)


class Recurrences(NamedTuple):
    """The recurrences of a graph.

    Attributes:
        found: the recurrences with cells.
        others: a line for each loop without cells, with the reason.
        ends: the number of the recurrence for each node with its results.
    """

    probe: Probe
    found: tuple[Recurrence, ...]
    others: tuple[str, ...]
    ends: Mapping[str, int]


def name_of(variables: Sequence[str], names: Mapping[str, str]) -> tuple[str, bool]:
    """Return the name of the cell with some variables, and whether the cell is known."""
    known = list(dict.fromkeys(names[name] for name in variables if name in names))
    if len(known) == 1:
        return known[0], True
    return common_scope(variables) or (variables[0] if variables else ""), False


def with_own_names(cells: Iterable[RecurrentCell]) -> tuple[RecurrentCell, ...]:
    """Return cells with unique names: each further use of a cell has another state."""
    found: list[RecurrentCell] = []
    count: dict[str, int] = {}
    for cell in cells:
        use = count.get(cell.name, 0)
        count[cell.name] = use + 1
        found.append(cell._replace(name=use_of(cell.name, use)))
    return tuple(found)


def before_the_loop(operation: str) -> str:
    """Return the reason why a loop after an operation is not confirmed."""
    return f"{operation}, before the loop, may treat steps by their place"
