"""Canonical cells with their weights, networks of such cells, and the protocol of engines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from lstmstate.cells.cell import CellShape, StateWidths
from lstmstate.errors import UnsupportedError
from lstmstate.named_tuple import NamedTuple

# As numpy.typing has them, without its import.
Array = np.ndarray[tuple[Any, ...], np.dtype[np.floating[Any]]]
Lengths = np.ndarray[
    tuple[Any, ...], np.dtype[np.int64]
]  # [batch]: how many steps each sequence has

# The gates, which an engine may keep of every step after their activations.
GATES = "ijfo"

_ROWS_AT_ONCE = 256  # of the input, for one product
_MOST_AT_ONCE_BYTES = 8 << 20  # of the gates that it makes

Pair = tuple[Array, Array]  # c [batch, H] and m [batch, R] of one cell


def split_gates(columns: Array, gates: str) -> dict[str, Array]:
    """Return weights `[..., G·H]` gate by gate, `[..., H]` each.

    >>> import numpy as np
    >>> split_gates(np.arange(8), "ijfo")["f"]
    array([4, 5])
    """
    return dict(zip(gates, np.split(columns, len(gates), axis=-1), strict=True))


class Norm(NamedTuple):
    """A layer norm over the units: gamma and beta `[H]`."""

    gamma: Array
    beta: Array


class CanonicalCell(NamedTuple):
    """The weights and options of a cell, in one form for all families.

    I input_size, H num_units, R the width of m, G the number of gates:

        gates = x @ kernel + m @ recurrent + bias
        c' = f * c + i * j        m' = o * activation(c')

    Attributes:
        name: the cell's.
        family: its class.
        gates: in the order of the columns: "ijfo", or "jfo" if i is 1 - f.
        kernel: `[I, G·H]`.
        recurrent: `[R, G·H]`; `[G·H]` if each unit sees only its own m.
        bias: `[G·H]`, as it is stored: forget_bias is not in it.
        peepholes: for some of i, f and o the weights `[H]` of c.
        norms: for gates, and "c" for the new cell state; then there is no bias.
        norm_epsilon: added to the variance there.
        projection: `[H, R]`, None if m is not projected.
        activation: on the new c.
        candidate: on j.
        recurrent_activation: on i, f and o.
        takes_wider: whether columns of the input beyond I are ignored.
    """

    name: str
    family: str
    gates: str
    kernel: Array
    recurrent: Array
    bias: Array
    peepholes: Mapping[str, Array]
    norms: Mapping[str, Norm]
    norm_epsilon: float
    projection: Array | None
    forget_bias: float
    cell_clip: float | None
    proj_clip: float | None
    activation: str
    candidate: str
    recurrent_activation: str
    takes_wider: bool = False

    @property
    def dtype(self) -> np.dtype[np.floating[Any]]:
        """The type that it computes in."""
        return self.kernel.dtype

    @property
    def input_size(self) -> int:
        """The width of x."""
        return int(self.kernel.shape[0])

    @property
    def spatial(self) -> tuple[int, ...]:
        """The axes between batch and width: those of a convolution, none here."""
        return ()

    @property
    def widths(self) -> StateWidths:
        """The widths of c and m."""
        units = int(self.kernel.shape[1]) // len(self.gates)
        return StateWidths(units, units if self.projection is None else self.projection.shape[1])

    def with_input_size(self, size: int) -> CanonicalCell:
        """Return the same cell with weights of zero for the columns of x that it ignores."""
        rows = np.zeros((size - self.input_size, self.kernel.shape[1]), self.dtype)
        return self._replace(kernel=np.concatenate([self.kernel, rows])) if len(rows) else self

    def in_float64(self) -> CanonicalCell:
        """Return the same cell with weights in float64."""

        def wide(values: Array) -> Array:
            return values.astype(np.float64)

        return self._replace(
            kernel=wide(self.kernel),
            recurrent=wide(self.recurrent),
            bias=wide(self.bias),
            peepholes={gate: wide(weights) for gate, weights in self.peepholes.items()},
            norms={gate: Norm(wide(n.gamma), wide(n.beta)) for gate, n in self.norms.items()},
            projection=None if self.projection is None else wide(self.projection),
        )


# Cells that feed one another; one chain, or one that runs forward and one that runs backward
# over the same input, whose outputs are joined.
Chain = tuple[CanonicalCell, ...]
Stage = tuple[Chain, ...]


class Network(NamedTuple):
    """Cells in the order of the data through them.

    Attributes:
        stages: each takes the outputs of the one before.
    """

    stages: tuple[Stage, ...]

    @property
    def cells(self) -> tuple[CanonicalCell, ...]:
        """All cells: stage by stage, the forward chain before the backward one."""
        return tuple(cell for stage in self.stages for chain in stage for cell in chain)

    @property
    def is_bidirectional(self) -> bool:
        """Whether some of it needs the end of a sequence before its beginning."""
        return any(len(stage) > 1 for stage in self.stages)

    @property
    def at_once(self) -> bool:
        """Whether a sequence is run as a whole, and not in parts."""
        return self.is_bidirectional

    @property
    def first(self) -> CanonicalCell:
        """The cell that the input goes into."""
        return self.stages[0][0][0]

    @property
    def output_shape(self) -> tuple[int, ...]:
        """The shape of the outputs of one step of one sequence: their width."""
        return (sum(chain[-1].widths.m for chain in self.stages[-1]),)

    @property
    def dtype(self) -> np.dtype[np.floating[Any]]:
        """The type that it computes in."""
        return self.first.dtype

    def with_full_kernels(self) -> Network:
        """Return the same network, with weights of zero for the columns that a cell ignores.

        The first cell stays as it is: the width of x is unknown.
        """
        stages: list[Stage] = []
        width = self.first.input_size
        for stage in self.stages:
            chains = []
            for chain in stage:
                inside, cells = width, []
                for cell in chain:
                    cells.append(cell.with_input_size(inside))
                    inside = cell.widths.m
                chains.append(tuple(cells))
            stages.append(tuple(chains))
            width = sum(chain[-1].widths.m for chain in stage)
        return Network(tuple(stages))

    def refuse_gaps(self) -> None:
        """Refuse a cell that does not fit the outputs of the one before, or has another dtype."""
        given = self.first.input_size
        for stage in self.stages:
            for chain in stage:
                inside = given
                for cell in chain:
                    fits = cell.input_size == inside or (
                        cell.takes_wider and cell.input_size < inside
                    )
                    if not fits or cell.dtype != self.dtype:
                        raise UnsupportedError(
                            f"it takes {cell.input_size} columns of {cell.dtype}, and gets "
                            f"{inside} of {self.dtype}",
                            tensor=cell.name,
                            advice="run the cells one by one: `cell='NAME'`",
                        )
                    inside = cell.widths.m
            given = sum(chain[-1].widths.m for chain in stage)


class InputShape(NamedTuple):
    """The input of a network; as the first cell of a `Network`.

    Attributes:
        dtype: that of x, which the graph may cast to floats, such as uint8.
    """

    name: str
    input_size: int
    dtype: np.dtype[Any]
    takes_wider: bool = False
    spatial: tuple[int, ...] = ()


class NetworkShape(NamedTuple):
    """The shapes of a network that the graph itself runs; as a `Network` without weights.

    Attributes:
        is_bidirectional: whether some of it needs the end of a sequence before its beginning.
        at_once: whether a sequence is run as a whole.
    """

    cells: tuple[CellShape, ...]
    first: InputShape
    output_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_bidirectional: bool
    at_once: bool = True


Shaped = Network | NetworkShape  # seen from outside


def as_input(values: np.ndarray[Any, Any], dtype: np.dtype[Any]) -> Array:
    """Return values of x in the dtype that a network takes.

    Raises:
        UnsupportedError: it takes whole numbers, and some of these are others.
    """
    with np.errstate(all="ignore"):  # values beyond the range become Inf
        found: Array = values.astype(dtype, copy=False)
        if dtype.kind != "f" and not np.array_equal(found.astype(values.dtype), values):
            raise UnsupportedError(
                f"the graph takes x as {dtype}, and these values do not all fit in it",
                advice="pass x in the form that the graph takes, such as pixels from 0 to 255",
            )
    return found


class RunOutputs(NamedTuple):
    """The results of some steps.

    Attributes:
        outputs: `[steps, batch, *output_shape]`.
        states: (c, m) of each cell after them.
        kept: for each cell the values to keep of every step, `[steps, batch, width]` by name.
    """

    outputs: Array
    states: list[Pair]
    kept: list[dict[str, Array]]

    @property
    def arrays(self) -> list[Array]:
        """The outputs, then c and m of each cell."""
        return [self.outputs, *(half for pair in self.states for half in pair)]


class Runner(Protocol):
    """A network that an engine is ready to run."""

    def run(
        self, x: Array, states: Sequence[Pair], lengths: Lengths | None = None, keep: str = ""
    ) -> RunOutputs:
        """Run over some steps.

        Args:
            x: `[steps, batch, *spatial, input_size]`, at least one of each, in the network's dtype.
            states: (c, m) of each cell before them, `[batch, H]` and `[batch, R]`.
            lengths: how many of the steps each sequence has; the others have outputs of zero, and
                do not change the state.
            keep: the values to keep of every step: letters of "cmijfo".

        Raises:
            LstmstateError: the engine cannot keep that.
        """


def no_states(network: Shaped, batch: int) -> list[Pair]:
    """Return the zero state of every cell."""

    def zeros(*item: int) -> Array:
        return np.zeros((batch, *item), network.dtype)

    return [
        (zeros(*cell.spatial, cell.widths.c), zeros(*cell.spatial, cell.widths.m))
        for cell in network.cells
    ]


def spans(steps: int, at_once: int) -> Iterator[tuple[int, int]]:
    """Yield [start, stop) of the parts of a sequence.

    >>> list(spans(5, 2))
    [(0, 2), (2, 4), (4, 5)]
    """
    for start in range(0, steps, at_once):
        yield start, min(start + at_once, steps)


def steps_at_once(row: int, batch: int, cached: int) -> int:
    """Return the number of steps whose input is multiplied with the kernel at once.

    They are as many as the caches have room for, but enough rows to make a product worth it.

    Args:
        row: the bytes of the gates of one step.
        cached: the bytes that stay in the processor's caches.

    >>> steps_at_once(1 << 10, 1, 1 << 18), steps_at_once(1 << 17, 16, 1 << 18)
    (256, 16)
    >>> steps_at_once(1 << 26, 1, 1 << 18)
    1
    """
    enough = min(_ROWS_AT_ONCE // batch, _MOST_AT_ONCE_BYTES // row)
    return max(cached // row, enough, 1)


def reverse_sequences(x: Array, lengths: Lengths | None) -> Array:
    """Return sequences `[steps, batch, ...]` from their last valid step to their first.

    As TensorFlow's `reverse_sequence` does: padding stays in its place.

    >>> import numpy as np
    >>> reverse_sequences(np.array([[1, 1], [2, 2], [3, 0]]), np.array([3, 2])).T
    array([[3, 2, 1],
           [2, 1, 0]])
    """
    if lengths is None:
        return x[::-1]
    steps = np.arange(len(x))[:, None]
    return x[np.where(steps < lengths, lengths - 1 - steps, steps), np.arange(x.shape[1])]
