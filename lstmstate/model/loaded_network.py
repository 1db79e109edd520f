"""A network with its weights, ready to run, and the states before and after a run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lstmstate.cells.cell import CellShape
from lstmstate.cells.stacks import Route
from lstmstate.engines.canonical_network import Array, Network, Pair, Runner, Shaped, no_states
from lstmstate.errors import ArgumentError, UnsupportedError, count, located, printable
from lstmstate.named_tuple import NamedTuple
from lstmstate.state.bind_names import bind
from lstmstate.state.state import LSTMState, StackState, State, to_state

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lstmstate.engines.run_options import Settled
    from lstmstate.state.state import StateLike


OWN_ENDS = "the graph ends sequences of unlike lengths in its own way"


class Loaded(NamedTuple):
    """A network with its weights, ready to run.

    Attributes:
        settled: the options of each cell, with their sources; none if the graph's own operations
            are run.
        engine: the name of the engine.
        confirmed: whether the graph's own step gives the same; None without a graph.
        notes: reasons and remarks on that.
        beyond: later operations of the graph whose results a user might expect as outputs.
        lengths_differ: whether the graph ends sequences of unlike lengths in another way.
        handed: a line for each cell that starts from the last state of another one.
    """

    route: Route
    network: Shaped
    runner: Runner
    settled: tuple[Settled, ...]
    engine: str
    confirmed: bool | None = None
    notes: tuple[str, ...] = ()
    beyond: tuple[str, ...] = ()
    lengths_differ: bool = False
    handed: tuple[str, ...] = ()

    def refuse_lengths(self) -> None:
        """Refuse to run sequences of unlike lengths if the graph ends them in another way."""
        if self.lengths_differ:
            raise UnsupportedError(
                OWN_ENDS,
                tensor=self.route.name,
                advice="`engine='graph'` runs it",
            )

    @property
    def recognised_network(self) -> Network:
        """The network with its weights: of cells that were recognised.

        Raises:
            UnsupportedError: the graph's own operations are run.
        """
        if not isinstance(self.network, Network):
            raise UnsupportedError("the graph's own step has no weights of cells")
        return self.network

    def to_input(self, inputs: NDArray[Any]) -> Array:
        """Return inputs in the network's dtype, of a shape that it takes.

        Raises:
            ArgumentError: they have another shape, or text in them.
        """
        from lstmstate.engines.canonical_network import as_input

        first, shape = self.network.first, inputs.shape
        axes = len(first.spatial)
        width = shape[-1] if shape else 0
        fits = (
            inputs.ndim - axes in (2, 3)
            and shape[-1 - axes : -1] == first.spatial
            and (width >= first.input_size if first.takes_wider else width == first.input_size)
        )
        is_numeric = inputs.dtype.kind in "fiub"
        if not fits or not inputs.size or not is_numeric:
            item = ", ".join(map(str, (*first.spatial, first.input_size)))
            raise ArgumentError(
                f"expected {'x' if is_numeric else 'numbers'} [batch, time, {item}] or "
                f"[time, {item}], got {inputs.dtype} {list(shape)}",
                tensor=first.name,
            )
        with located(tensor=first.name):
            return as_input(inputs[..., : first.input_size], first.dtype)

    @property
    def shapes(self) -> list[CellShape]:
        """The name of each cell, and the shape of its state."""
        return [CellShape(one.name, one.widths, one.spatial) for one in self.network.cells]

    @property
    def not_finite(self) -> list[str]:
        """A line for each cell with NaN or Inf in its weights."""
        found = []
        network = self.network
        for cell in network.cells if isinstance(network, Network) else ():
            extra = [*cell.peepholes.values(), *(part for n in cell.norms.values() for part in n)]
            parts = [cell.kernel, cell.recurrent, cell.bias, cell.projection, *extra]
            if not all(part is None or np.isfinite(part).all() for part in parts):
                found.append(f"{printable(cell.name) or 'the cell'} has NaN or Inf in its weights")
        return found

    def refuse_parts(self) -> None:
        """Refuse to run a sequence in chunks.

        Raises:
            UnsupportedError: a cell runs backward, or the graph gives something else in chunks.
        """
        problem = None
        if self.network.is_bidirectional:
            problem = "a backward cell begins at the end of a sequence"
        elif self.engine == "graph":
            from lstmstate.engines.graph_engine import GraphRunner

            problem = self.runner.parts_problem if isinstance(self.runner, GraphRunner) else None
        if problem is not None:
            raise UnsupportedError(f"{problem}: it is not run in parts", tensor=self.route.name)

    def zero_state(self, batch: int) -> State:
        """Return the state of zeros."""
        return self.state(self.states_of(None, batch))

    def states_of(self, state: StateLike | None, batch: int) -> list[Pair]:
        """Return (c, m) of each cell for a batch; a batch of one, or none, is repeated.

        Raises:
            ArgumentError: the state is not that of these cells, or of another batch, or the graph
                takes none for one of them.
        """
        if state is None:
            return no_states(self.network, batch)
        if self.handed:
            raise UnsupportedError(
                f"{self.handed[0]}, and takes no state for it",
                advice="run each by itself, from its own state",
            )
        dtype = self.network.dtype
        pairs = []
        for cell, own in zip(self.shapes, self._in_order(to_state(state)), strict=True):
            if own.dtype.kind not in "fiub":
                problem = f"the state is {own.dtype}, and the cell takes real numbers"
                raise ArgumentError(problem, tensor=cell.name)
            if own.widths != cell.widths:
                raise ArgumentError(
                    f"the state is c {own.widths.c} and m {own.widths.m} wide, and the cell's "
                    f"c {cell.widths.c} and m {cell.widths.m}",
                    tensor=cell.name,
                    advice="give a state of this cell",
                )
            inner = len(own.batch_shape) - len(cell.spatial)
            lead, spatial = own.batch_shape[: max(inner, 0)], own.batch_shape[max(inner, 0) :]
            if spatial != cell.spatial:
                raise ArgumentError(
                    f"expected a state with the axes batch and {list(cell.spatial)} before its "
                    f"width, got {list(own.batch_shape)}",
                    tensor=cell.name,
                )
            if len(lead) > 1 and set(lead[:-1]) != {1}:
                raise ArgumentError(
                    f"the state has the leading axes {list(lead)}, and a run takes one, the batch",
                    tensor=cell.name,
                )
            if lead and lead[-1] not in (1, batch):
                raise ArgumentError(
                    f"the state is that of a batch of {lead[-1]}, and the input has a batch "
                    f"of {batch}",
                    tensor=cell.name,
                    advice="give a state of this batch, or of one for all of it",
                )
            with np.errstate(over="ignore"):  # values beyond the range become Inf
                halves = [np.asarray(half).astype(dtype, copy=False) for half in own]
            whole = [
                np.broadcast_to(half.reshape(half.shape[max(inner - 1, 0) :]), (batch, *item))
                for half in halves
                for item in [half.shape[max(inner, 0) :]]
            ]
            pairs.append((whole[0], whole[1]))
        return pairs

    def _in_order(self, state: State) -> Sequence[LSTMState]:
        """Return the states of the cells in the order of the network."""
        cells = state.cells
        expected = [cell.name for cell in self.network.cells]
        if len(cells) != len(expected):
            raise ArgumentError(
                f"expected the state of {count(len(expected), 'cell')}, got that of {len(cells)}"
            )
        order = bind([cell.cell for cell in cells], expected) if len(cells) > 1 else None
        return [cells[at] for at in order] if order is not None else cells

    def state(self, pairs: Sequence[Pair]) -> State:
        """Return (c, m) of each cell as a state, with the names of the cells."""
        return state_of((cell.name for cell in self.network.cells), pairs)


def state_of(names: Iterable[str], pairs: Iterable[Pair]) -> State:
    """Return (c, m) of each cell as a state, with the names of the cells."""
    cells = [LSTMState(c, m, name) for name, (c, m) in zip(names, pairs, strict=True)]
    return StackState(cells) if len(cells) > 1 else cells[0]
