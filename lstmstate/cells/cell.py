"""What is known of an LSTM cell, of a stack of cells, and of a state saved in variables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from lstmstate.errors import count, printable
from lstmstate.records import NamedTuple

Source = Literal["graph", "family", "default", "option", "unknown"]
Value = float | int | bool | str | None
Direction = Literal["forward", "backward"]


class Option(NamedTuple):
    """A constructor argument of a cell, and how it is known.

    Attributes:
        value: what it is; None means "none" where the source is known.
        source: "graph" read from the graph; "family" the same for all cells of the family;
            "default" the documented default, assumed; "unknown" nothing tells.
    """

    value: Value = None
    source: Source = "unknown"


UNKNOWN = Option()


class Documented(NamedTuple):
    """The default of an option that has another default in other releases or classes.

    Attributes:
        value: the one that is taken where a user accepts it.
        words: which values there are, and where.
    """

    value: Value
    words: str


UNRECOGNISED = "unrecognised"  # the family of a cell that only its state shows
# Notes on cells whose steps are not all that there is to them.
MIXED = "the graph mixes its new state with the old one, as zoneout does"
OTHER_STEP = "the graph steps it in another way than its family does; its options are unknown"
STRANGE = "its scope has variables of a cell that are no part of it as it was read"


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
        by: the number, or the name of the variable, that it takes next to its value.
        on: what it is applied to: "c", "m", "x", "the forget gate", or the name of a variable.
        node: its name in the graph.
    """

    operation: str
    by: str | None
    on: str
    node: str

    @property
    def words(self) -> str:
        """What a user reads of it: "Mul by 0.9 on c"."""
        by = "" if self.by is None else f" by {self.by}"
        return f"{self.operation}{by} on {self.on}"


_LISTED = 8  # operations in a line; a network within the step has more


def unexplained_words(found: Iterable[Unexplained]) -> str | None:
    """Return the line that names some operations, None where there are none.

    >>> unexplained_words([Unexplained("Mul", "0.9", "c", "rnn/mul")])
    '1 operation not explained: Mul by 0.9 on c'
    """
    words = list(dict.fromkeys(one.words for one in found))
    if not words:
        return None
    more = [f"and {len(words) - _LISTED} more"] if len(words) > _LISTED else []
    return f"{count(len(words), 'operation')} not explained: " + ", ".join(
        [printable(one) for one in words[:_LISTED]] + more
    )


class StateWidths(NamedTuple):
    """How wide the two parts of one cell's state are.

    In the flat layout c lies in columns [0, c) and m in columns [c, c + m).
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


class Cell(NamedTuple):
    """An LSTM cell, as its variables and the graph tell it.

    Attributes:
        name: the scope of its variables ("" for the root scope).
        family: the class that made it; where several make the same variables, the plainest.
        alternatives: the other classes that would have made the same variables.
        era: the age of its variables' names: "0.5-0.12", "1.0-1.1" or "1.2+"; None where the
            names are the same in all.
        input_size: width of the input; None where the variables do not tell it.
        num_units: width of c.
        num_proj: width of m where it is projected, else None.
        gate_order: the gates in the order of the kernel's columns.
        peepholes: None where the variables are there but nothing tells whether they are used.
        options: forget_bias, cell_clip, proj_clip, activation, recurrent_activation,
            state_is_tuple, batch_size, time_major.
        variables: role → names, more than one where the cell stored it in shards.
        has_pair: whether its state is c and m of `[batch, units]`; a grid and a convolution
            have more axes.
        h_first: whether its class takes the state as (h, c).
        shard_axis: the axis on which shards are to be joined, None where there are none.
        documented: the options, and "family", that nothing in the files settles, and what they
            would be by default.
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
        """The widths of its state; None where num_units is not known, or it is no pair."""
        if self.num_units is None or not self.has_pair:
            return None
        return StateWidths(self.num_units, self.num_proj or self.num_units)

    @property
    def native_layout(self) -> str | None:
        """The layout in which the cell itself takes its state; None where nothing tells."""
        if self.h_first:
            return "keras"
        tuples = self.options["state_is_tuple"].value
        return None if tuples is None else "tuple" if tuples else "flat"

    @property
    def forget_bias(self) -> Option:
        """What is added to the forget gate at run time (never what is stored in the bias)."""
        return self.options["forget_bias"]


class Stack(NamedTuple):
    """Cells that feed one another, or a forward and a backward cell side by side.

    Attributes:
        layers: for each layer its cell, or its forward and its backward cell.
        direction: set where the whole stack runs in one direction of a pair.
        paired_with: the name of the stack that runs the other way.
        flat: width of the flat state of all cells, layer by layer; None where a layer is not
            an LSTM, its widths are not known, or there are two directions (which TensorFlow
            never puts into one flat state).
        is_whole: whether each of its layers is one of these cells, and has no other state.
        between: variables in its layers that no cell has, such as those of a wrapper.
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


class SavedState(NamedTuple):
    """A variable that holds a state.

    Attributes:
        layout: "flat", "c", "m", "h_n", "c_n", "layered", "stacked" or "unknown".
        cell: the cell that it belongs to, where that can be told.
        stack: likewise, for the flat state of a whole stack.
        source: "graph" where cells are seen to start from it, or to be assigned to it; "name"
            where its name and width speak for it.
        is_start: whether the graph starts cells from it.
        picks_rows: whether the graph takes rows of it by indices, in an order of their own.
        rows: how many rows the graph lays it out in, one after another; None where it has rows.
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
    def laid(self) -> tuple[int, ...]:
        """Its shape, in rows."""
        return self.shape if self.rows is None else (self.rows, self.shape[0] // self.rows)
