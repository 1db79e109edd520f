"""Cells and stacks of an open checkpoint that can be run: the Python API of `run`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from lstmstate.cells.model import Cell, Stack, Value
from lstmstate.cells.routes import Route, of_cell, of_stack
from lstmstate.errors import LstmstateError, UnsupportedError, located, printable
from lstmstate.state.model import LSTMState, StackState, State

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from lstmstate.engines.model import Array, Network, Pair, Runner
    from lstmstate.engines.options import Settled

Read = Callable[[str], "NDArray[np.generic]"]


class Loaded(NamedTuple):
    """A network with its weights, ready to run.

    Attributes:
        settled: the options of each cell, and where they come from.
    """

    route: Route
    network: Network
    runner: Runner
    settled: tuple[Settled, ...]

    @property
    def not_finite(self) -> list[str]:
        """A line for each cell with NaN or Inf in its weights, which go into all that it gives."""
        import numpy as np

        found = []
        for cell in self.network.cells:
            extra = [*cell.peepholes.values(), *(part for n in cell.norms.values() for part in n)]
            parts = [cell.kernel, cell.recurrent, cell.bias, cell.projection, *extra]
            if not all(part is None or np.isfinite(part).all() for part in parts):
                found.append(f"{printable(cell.name) or 'the cell'} has NaN or Inf in its weights")
        return found

    def zero_state(self, batch: int) -> State:
        """Return the state of zeros."""
        return self.state(self.states_of(None, batch))

    def states_of(self, state: State | None, batch: int) -> list[Pair]:
        """Return (c, m) of each cell for a batch; a batch of one, or none, stands for all.

        Raises:
            LstmstateError: the state is not that of these cells, or of another batch.
        """
        import numpy as np

        from lstmstate.engines.model import no_states

        if state is None:
            return no_states(self.network, batch)
        dtype = self.network.dtype
        pairs = []
        for cell, own in zip(self.network.cells, self._in_order(state), strict=True):
            if own.dtype.kind not in "fiub":
                problem = f"the state is {own.dtype}, and the cell takes real numbers"
                raise LstmstateError(problem, tensor=cell.name)
            if own.widths != cell.widths:
                raise LstmstateError(
                    f"the state is c {own.widths.c} and m {own.widths.m} wide, and the cell's "
                    f"c {cell.widths.c} and m {cell.widths.m}",
                    tensor=cell.name,
                )
            if len(own.lead) > 1:
                raise LstmstateError(
                    f"the state has the leading axes {list(own.lead)}, and a run takes one, the "
                    "batch",
                    tensor=cell.name,
                )
            if own.lead and own.lead[0] not in (1, batch):
                raise LstmstateError(
                    f"the state is that of a batch of {own.lead[0]}, and the input has a batch "
                    f"of {batch}",
                    tensor=cell.name,
                    advice="give a state of this batch, or of one for all of it",
                )
            with np.errstate(over="ignore"):  # what is beyond the range becomes Inf
                halves = [np.asarray(half).astype(dtype, copy=False) for half in own]
            whole = [np.broadcast_to(half, (batch, half.shape[-1])) for half in halves]
            pairs.append((whole[0], whole[1]))
        return pairs

    def _in_order(self, state: State) -> Sequence[LSTMState]:
        """Return the states of the cells in the order of the network."""
        if not isinstance(state, State):
            raise LstmstateError(
                f"a state is an LSTMState(c, m), or a StackState of several, and this is a "
                f"{type(state).__name__}"
            )
        cells: Sequence[LSTMState] = state.cells if isinstance(state, StackState) else (state,)
        expected = [cell.name for cell in self.network.cells]
        if len(cells) != len(expected):
            raise LstmstateError(
                f"the state is that of {len(cells)} cells, and here run {len(expected)}"
            )
        by_name = {cell.cell: cell for cell in cells}
        return [by_name[name] for name in expected] if set(by_name) == set(expected) else cells

    def state(self, pairs: Sequence[Pair]) -> State:
        """Return (c, m) of each cell as a state, with the names of the cells."""
        cells = [
            LSTMState(c, m, cell.name)
            for (c, m), cell in zip(pairs, self.network.cells, strict=True)
        ]
        return StackState(cells) if len(cells) > 1 else cells[0]


class LSTMNetwork:
    """A cell, a stack, or a pair of stacks, with what is needed to run it.

    Args:
        route: the cells in order.
        read: returns the value of a variable.
        path: where the variables are, for messages.

    Example:
        >>> import numpy as np, lstmstate
        >>> network = lstmstate.open_checkpoint("sample_checkpoints/sunspots").network()
        >>> outputs, state = network.run(np.ones((8, 5, 1)))   # [batch, time, input]
        >>> outputs.shape, [cell.c.shape for cell in state]
        ((8, 5, 12), [(8, 24), (8, 12)])
    """

    def __init__(self, route: Route, read: Read, path: str) -> None:
        self.route = route
        self._read = read
        self._path = path
        self._loaded: dict[tuple[object, ...], Loaded] = {}

    def __repr__(self) -> str:
        return f"<LSTMNetwork {self.route.name!r} of {len(self.route.cells)} cells>"

    def load(self, engine: str = "numpy", options: Mapping[str, Value] | None = None) -> Loaded:
        """Read the weights and make them ready to run; the same again costs nothing.

        Args:
            engine: "numpy", "tensorflow" or "onnxruntime".
            options: forget_bias, cell_clip, proj_clip, activation, recurrent_activation or
                peepholes, for all cells, in the place of what the files tell.

        Raises:
            LstmstateError: a cell cannot be run, or a variable not be read.
        """
        from lstmstate import engines
        from lstmstate.engines.arithmetic import arithmetic
        from lstmstate.engines.model import Network
        from lstmstate.engines.options import settle

        given = options or {}
        _refuse_options(given)
        key = (engine, *sorted(given.items()))
        if key not in self._loaded:
            settled = {cell.name: settle(cell, given) for cell in self.route.cells}
            with located(self._path):
                stages = tuple(
                    tuple(
                        tuple(
                            arithmetic(cell, self._read, settled[cell.name].values)
                            for cell in chain
                        )
                        for chain in stage
                    )
                    for stage in self.route.stages
                )
                network = Network(stages)
                if len({cell.dtype for cell in network.cells}) > 1:
                    raise UnsupportedError(
                        "its cells are of several dtypes, which do not run together",
                        tensor=self.route.name,
                    )
                runner = engines.load(engine, network)
            self._loaded[key] = Loaded(self.route, network, runner, tuple(settled.values()))
        return self._loaded[key]

    def zero_state(self, batch: int = 1) -> State:
        """Return the state of zeros: c `[batch, num_units]` and m of each cell."""
        return self.load().zero_state(batch)

    def run(
        self,
        inputs: ArrayLike,
        state: State | None = None,
        *,
        lengths: ArrayLike | None = None,
        time_major: bool = False,
        engine: str = "numpy",
        **options: Any,
    ) -> tuple[Array, State]:
        """Step over sequences.

        Args:
            inputs: `[batch, time, input_size]`, or `[time, input_size]` for one sequence.
            state: the state before them, zeros unless given; a batch of one stands for all.
            lengths: `[batch]`, how many steps of each sequence are valid; the outputs of others
                are zero, and leave the state as it is.
            time_major: whether inputs and outputs are `[time, batch, …]`.
            engine, options: see `load`.

        Returns:
            The outputs, m of every step: `[batch, time, width of m]`, both directions side by
            side, or `[time, width of m]` for one sequence; and the state after them.

        Raises:
            LstmstateError: inputs, state and cells do not fit one another.
        """
        import numpy as np

        loaded = self.load(engine, options)
        x = _checked(loaded, inputs)
        is_single = x.ndim == 2
        by_step = x[:, None] if is_single else x if time_major else x.swapaxes(0, 1)
        valid = None if lengths is None else _lengths(lengths, by_step.shape)
        pairs = loaded.states_of(state, by_step.shape[1])
        ran = loaded.runner.run(by_step, pairs, valid)
        outputs = ran.outputs[:, 0] if is_single else ran.outputs
        if not is_single and not time_major:
            outputs = np.ascontiguousarray(outputs.swapaxes(0, 1))
        return outputs, loaded.state(ran.states)

    def run_chunks(
        self,
        chunks: Iterable[ArrayLike],
        state: State | None = None,
        *,
        engine: str = "numpy",
        **options: Any,
    ) -> Iterator[tuple[Array, State]]:
        """Step over a long sequence in parts; yield the outputs of each and the state after it.

        Args:
            chunks: parts along time, each as `run` takes them.

        Raises:
            LstmstateError: as for `run`; or a cell runs backward, and needs the end first.
        """
        if self.load(engine, options).network.is_bidirectional:
            raise UnsupportedError(
                "a backward cell begins at the end of a sequence: it is not run in parts",
                path=self._path,
                tensor=self.route.name,
            )
        for chunk in chunks:
            outputs, state = self.run(chunk, state, engine=engine, **options)
            yield outputs, state

    def step(
        self, x: ArrayLike, state: State | None = None, *, engine: str = "numpy", **options: Any
    ) -> tuple[Array, State]:
        """Take one step: x `[batch, input_size]`; return m `[batch, width of m]` and the state."""
        import numpy as np

        row = np.asarray(x)
        if row.ndim != 2:
            raise LstmstateError(f"a step takes [batch, input_size], and this is {list(row.shape)}")
        outputs, state = self.run(row[:, None], state, engine=engine, **options)
        return outputs[:, 0], state


def _refuse_options(given: Mapping[str, Value]) -> None:
    """Refuse options that there are not, or of values that they cannot have."""
    from lstmstate.engines.activations import ACTIVATIONS
    from lstmstate.engines.options import RUN_OPTIONS

    for name, value in given.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if name not in RUN_OPTIONS:
            fits, advice = False, f"there are: {', '.join(RUN_OPTIONS)}"
        elif name.endswith("activation"):
            fits, advice = value in ACTIVATIONS, f"say {', '.join(ACTIVATIONS)}"
        elif name == "peepholes":
            fits, advice = isinstance(value, bool), "say True or False"
        elif name == "forget_bias":
            fits, advice = is_number and math.isfinite(cast("float", value)), "say a number"
        else:
            fits = value is None or (is_number and cast("float", value) >= 0)
            advice = "say None, or a bound"
        if not fits:
            raise LstmstateError(f"there is no option {name}={value!r}", advice=advice)


def _checked(loaded: Loaded, inputs: ArrayLike) -> Array:
    """Return inputs in the network's dtype, of a shape that it takes."""
    import numpy as np

    x = np.asarray(inputs)
    first = loaded.network.first
    fits = x.ndim in (2, 3) and (
        x.shape[-1] >= first.input_size if first.takes_wider else x.shape[-1] == first.input_size
    )
    if not fits or not x.size or x.dtype.kind not in "fiub":
        raise LstmstateError(
            f"the input is {x.dtype} {list(x.shape)}, and the cell takes numbers, "
            f"[batch, time, {first.input_size}] or [time, {first.input_size}]",
            tensor=first.name,
        )
    return cast("Array", x[..., : first.input_size].astype(loaded.network.dtype, copy=False))


def _lengths(lengths: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.int64]:
    import numpy as np

    found = np.asarray(lengths)
    steps, batch = shape[:2]
    whole = found.dtype.kind in "iu" and found.shape == (batch,)
    if not whole or found.min() < 0 or found.max() > steps:
        raise LstmstateError(
            f"lengths are {batch} whole numbers from 0 to {steps} here, one for each sequence"
        )
    return found.astype(np.int64)


class _Runs:
    """What can be run by itself: its methods are those of its network."""

    _parts: tuple[Read, str]

    def _route(self) -> Route:
        raise NotImplementedError

    @cached_property
    def network(self) -> LSTMNetwork:
        """What there is to run.

        Raises:
            UnsupportedError: a layer of a stack is no LSTM cell.
        """
        return LSTMNetwork(self._route(), *self._parts)

    def run(self, inputs: ArrayLike, state: State | None = None, **how: Any) -> tuple[Array, State]:
        """Step over `[batch, time, input_size]`; see `LSTMNetwork.run`."""
        return self.network.run(inputs, state, **how)

    def run_chunks(
        self, chunks: Iterable[ArrayLike], state: State | None = None, **how: Any
    ) -> Iterator[tuple[Array, State]]:
        """Step over a long sequence in parts; see `LSTMNetwork.run_chunks`."""
        return self.network.run_chunks(chunks, state, **how)

    def step(self, x: ArrayLike, state: State | None = None, **how: Any) -> tuple[Array, State]:
        """Take one step over `[batch, input_size]`; see `LSTMNetwork.step`."""
        return self.network.step(x, state, **how)

    def zero_state(self, batch: int = 1) -> State:
        """Return the state of zeros; see `LSTMNetwork.zero_state`."""
        return self.network.zero_state(batch)


class LSTMCell(_Runs, Cell):
    """A cell of an open checkpoint: what is known of it, and how to run it.

    Example:
        >>> import numpy as np, lstmstate
        >>> ckpt = lstmstate.open_checkpoint("sample_checkpoints/peephole_flat")
        >>> cell = ckpt.cells["rnn/lstm_cell"]
        >>> outputs, state = cell.run(np.ones((8, 20, 3)), cell.zero_state(batch=8))
        >>> outputs.shape, state.c.shape, state.m.shape, state.flat().shape
        ((8, 20, 5), (8, 8), (8, 5), (8, 13))
    """

    @classmethod
    def of(cls, cell: Cell, read: Read, path: str) -> LSTMCell:
        """Return a cell that can be run."""
        found = cls(*cell)
        found._parts = (read, path)
        return found

    def _route(self) -> Route:
        return of_cell(self)


class LSTMStack(_Runs, Stack):
    """A stack of an open checkpoint: what is known of it, and how to run it.

    Of two stacks that run in the two directions each runs by itself here;
    `LSTMCheckpoint.network` runs both.

    Example:
        >>> import numpy as np, lstmstate
        >>> (stack,) = lstmstate.open_checkpoint("sample_checkpoints/sunspots").stacks
        >>> stack.run(np.ones((309, 1)))[0].shape
        (309, 12)
    """

    @classmethod
    def of(cls, stack: Stack, read: Read, path: str) -> LSTMStack:
        """Return a stack that can be run."""
        found = cls(*stack)
        found._parts = (read, path)
        return found

    def _route(self) -> Route:
        return of_stack(self)
