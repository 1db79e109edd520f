"""Records of LSTM cells, stacks of cells, and states saved in variables."""

from __future__ import annotations

from collections.abc import Iterable

from lstmstate.errors import count, first_of
from lstmstate.named_tuple import NamedTuple, brief
from lstmstate.type_names import Literal

Source = Literal["graph", "checkpoint", "family", "default", "option", "unknown"]
Value = float | int | bool | str | None
Direction = Literal["forward", "backward"]


@brief
class Option(NamedTuple):
    """A constructor argument of a cell, and its source.

    Attributes:
        value: None means "none", unless the source is "unknown".
        source: "graph" read from the graph; "checkpoint" recorded next to the weights; "family"
            the same for all cells of the family; "default" the documented default, assumed;
            "option" passed by a user; "unknown".
    """

    value: Value = None
    source: Source = "unknown"


UNKNOWN = Option()


class Documented(NamedTuple):
    """The default of an option that has another default in other releases or classes.

    Attributes:
        value: taken if a user accepts defaults.
        words: the values, and the releases or classes of each.
    """

    value: Value
    words: str


UNRECOGNISED = "unrecognised"  # the family of a cell that only its state shows
# Notes on cells whose steps have further parts.
MIXED = "the graph mixes its new state with the old one, as zoneout does"
OTHER_STEP = "the graph steps it in another way than its family does; its options are unknown"
STRANGE = "its scope has LSTM variables that were not recognised"


OPTIONS = (
    "forget_bias",
    "cell_clip",
    "proj_clip",
    "activation",
    "recurrent_activation",
    "state_is_tuple",
    "batch_size",
    "time_major",
)


class Unexplained(NamedTuple):
    """An operation of a cell's step in the graph that its family does not have there.

    Attributes:
        operation: its kind, such as "Mul".
        by: the number, or the name of the variable, next to that value.
        on: the value before: "c", "m", "x", "the forget gate", or the name of a variable.
        node: its name in the graph.
    """

    operation: str
    by: str | None
    on: str
    node: str

    @property
    def words(self) -> str:
        """Its description for users: "Mul by 0.9 on c"."""
        by = "" if self.by is None else f" by {self.by}"
        return f"{self.operation}{by} on {self.on}"


_LISTED = 8  # operations in a line; a network within the step has more


def unexplained_words(found: Iterable[Unexplained]) -> str | None:
    """Return the line that names some operations, None if there are none.

    >>> unexplained_words([Unexplained("Mul", "0.9", "c", "rnn/mul")])
    '1 operation not explained: Mul by 0.9 on c'
    """
    words = list(dict.fromkeys(one.words for one in found))
    if not words:
        return None
    return f"{count(len(words), 'operation')} not explained: {first_of(words, _LISTED)}"


@brief
class StateWidths(NamedTuple):
    """The widths of the two parts of one cell's state.

    In the flat layout, `flat` wide, c is in columns [0, c) and m in columns [c, c + m).
    """

    c: int
    m: int

    @property
    def flat(self) -> int:
        """The width of c and m side by side."""
        return self.c + self.m

    def columns(self, at: int = 0) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return the columns [start, end) of c and of m in a flat state that begins at `at`."""
        return (at, at + self.c), (at + self.c, at + self.flat)


class CellShape(NamedTuple):
    """The name of a cell and the shape of its state: `[batch, *spatial, width]`."""

    name: str
    widths: StateWidths
    spatial: tuple[int, ...] = ()

    def __str__(self) -> str:
        """As the command line takes it: 128, or 128:64 with a projection."""
        c, m = self.widths
        return str(c) if c == m else f"{c}:{m}"


@brief
class Cell(NamedTuple):
    """An LSTM cell, as read from its variables and the graph.

    Attributes:
        name: the scope of its variables ("" for the root scope).
        family: the class that made it; if several make the same variables, the plainest.
        alternatives: the other classes that make the same variables.
        era: the age of its variables' names: "0.5-0.12", "1.0-1.1" or "1.2+"; None if the
            names are the same in all.
        input_size: width of the input; None if the variables do not show it.
        num_units: width of c.
        num_proj: width of m if it is projected, else None.
        gate_order: the gates in the order of the kernel's columns.
        peepholes: None if there are variables for them, and it is unknown whether they are used.
        options: forget_bias, cell_clip, proj_clip, activation, recurrent_activation,
            state_is_tuple, batch_size, time_major.
        variables: role → names, more than one if the cell stored it in shards.
        has_pair: whether its state is c and m of `[batch, units]`; a grid and a convolution
            have more axes.
        h_first: whether its class takes the state as (h, c).
        shard_axis: the axis on which to join shards, None if there are none.
        documented: the options, and "family", that nothing in the files settles, with their
            defaults.
        unexplained: the operations of its step that its family does not have.
    """

    name: str
    family: str
    era: str | None
    input_size: int | None
    num_units: int | None
    num_proj: int | None
    dtype: str
    gate_order: str
    peepholes: bool | None
    layer_norm: bool
    options: dict[str, Option]
    variables: dict[str, tuple[str, ...]]
    parameters: int
    nbytes: int
    alternatives: tuple[str, ...] = ()
    shard_axis: int | None = None
    layer: int | None = None
    direction: Direction | None = None
    notes: tuple[str, ...] = ()
    has_pair: bool = True
    h_first: bool = False
    extra: dict[str, Value] = {}  # noqa: RUF012 - never changed
    documented: dict[str, Documented] = {}  # noqa: RUF012 - never changed
    unexplained: tuple[Unexplained, ...] = ()

    @property
    def state(self) -> StateWidths | None:
        """The widths of its state; None if num_units is unknown, or the state is not a pair."""
        if self.num_units is None or not self.has_pair:
            return None
        return StateWidths(self.num_units, self.num_proj or self.num_units)

    @property
    def native_layout(self) -> str | None:
        """The layout of the state as the cell itself takes it; None if unknown."""
        if self.h_first:
            return "keras"
        tuples = self.options["state_is_tuple"].value
        return None if tuples is None else "tuple" if tuples else "flat"

    @property
    def forget_bias(self) -> Option:
        """The number added to the forget gate at run time, without the stored bias."""
        return self.options["forget_bias"]


@brief
class Stack(NamedTuple):
    """Cells that feed one another, or a forward and a backward cell side by side.

    Attributes:
        layers: for each layer its cell, or its forward and its backward cell.
        direction: set if the whole stack runs in one direction of a pair.
        paired_with: the name of the stack that runs the other way.
        flat: width of the flat state of all cells, layer by layer; None if a layer is not
            an LSTM, its widths are unknown, or there are two directions (which TensorFlow
            never puts into one flat state).
        is_whole: whether each of its layers is one of these cells, and has no other state.
        between: variables in its layers outside the cells, such as those of a wrapper.
    """

    name: str
    layers: tuple[tuple[Cell, ...], ...]
    flat: int | None
    direction: Direction | None = None
    paired_with: str | None = None
    is_whole: bool = True
    between: tuple[str, ...] = ()

    def columns(self) -> list[tuple[Cell, tuple[int, int], tuple[int, int]]]:
        """Return for each cell the columns of its c and m in the flat state of the stack."""
        found: list[tuple[Cell, tuple[int, int], tuple[int, int]]] = []
        at = 0
        for cell in (cell for layer in self.layers for cell in layer):
            if self.flat is not None and cell.state is not None:
                found.append((cell, *cell.state.columns(at)))
                at += cell.state.flat
        return found


@brief
class SavedState(NamedTuple):
    """A variable that holds a state.

    Attributes:
        layout: "flat", "c", "m", "h_n", "c_n", "layered", "stacked" or "unknown".
        cell: the cell that it belongs to, if it is known.
        stack: likewise, for the flat state of a whole stack.
        source: "graph" if cells start from it there, or are assigned to it; "name" if it was
            recognised by its name and width.
        is_start: whether the graph starts cells from it.
        picks_rows: whether the graph takes rows of it by indices, in an order of their own.
        rows: the number of rows that the graph cuts a flat variable into; None if it has rows.
    """

    variable: str
    layout: str
    shape: tuple[int, ...]
    cell: str | None = None
    stack: str | None = None
    source: Literal["graph", "name"] = "name"
    is_start: bool = False
    picks_rows: bool = False
    rows: int | None = None

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Its shape with an axis for the rows, even if the variable is flat."""
        return self.shape if self.rows is None else (self.rows, self.shape[0] // self.rows)
