"""Cells, stacks and networks of an open checkpoint, with the Python API of `run`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from lstmstate.cells.cell import Cell, Direction, Option, Stack, StateWidths, Unexplained, Value
from lstmstate.cells.execution_order import Route, of_cell, of_stack
from lstmstate.errors import (
    AmbiguousError,
    ArgumentError,
    Brief,
    UnsupportedError,
    located,
    name_nearest,
    printable,
    warn,
)
from lstmstate.model.network_loader import NetworkLoader, Origin
from lstmstate.records import NamedTuple

if TYPE_CHECKING:
    from typing import Self

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from lstmstate.engines.network import Array
    from lstmstate.model.loaded_network import Loaded
    from lstmstate.state.state import State, StateLike


class Recorded(Enum):
    """The default of an option: the value that the checkpoint records."""

    RECORDED = "recorded"

    def __repr__(self) -> str:
        return "RECORDED"


RECORDED: Final = Recorded.RECORDED


class RunOptions(NamedTuple):
    """The options of a run; see `NetworkLoader.load`."""

    engine: str
    outputs: str | None
    feeds: Mapping[str, Any] | None
    options: dict[str, Value]


def run_options(
    *,
    engine: str,
    outputs: str | None = None,
    feeds: Mapping[str, Any] | None = None,
    assume_defaults: bool,
    **options: Value | Recorded,
) -> RunOptions:
    """Return options without those that are as recorded."""
    given = {name: value for name, value in options.items() if value is not RECORDED}
    if assume_defaults is not False:
        given["assume_defaults"] = assume_defaults
    return RunOptions(engine, outputs, feeds, given)


class NetworkRunner(NetworkLoader):
    """A network that steps over data, with options that are given as `RunOptions`."""

    @property
    def network(self) -> Self:
        """The network itself: a cell and a stack are networks, too."""
        return self

    def ready(
        self, chosen: RunOptions, inputs: ArrayLike | None = None, *, has_lengths: bool = False
    ) -> Loaded:
        """Load for an input; warn once of each assumption and of each run of the graph itself."""
        import numpy as np

        from lstmstate.engines.options import assumptions

        shape = np.shape(inputs) if inputs is not None else ()
        width = shape[-1] if shape else None
        engine, outputs, feeds, options = chosen
        loaded = self.load(engine, options, feeds, outputs, width, has_lengths=has_lengths)
        self._warn([*assumptions(loaded.settled), *loaded.notes, *loaded.beyond])
        return loaded

    def _first_states(
        self, chosen: RunOptions, state: StateLike | None, loaded: Loaded, x: Array
    ) -> Any:
        """Return the states to start from; warn if they are zeros and the graph has others."""
        if state is None:
            own = self.own_start(chosen.feeds, x.shape[1], len(x))
            if own is not None:
                self._warn([own.line + ("" if own.problem else "; `initial_state` returns it")])
        return loaded.states_of(state, x.shape[1])

    def _warn(self, lines: Iterable[str]) -> None:
        new = [line for line in dict.fromkeys(lines) if line not in self._warned]
        self._warned.update(new)
        warn(f"{self._path}: {line}" for line in new)

    def run_with(
        self,
        chosen: RunOptions,
        inputs: ArrayLike,
        state: StateLike | None,
        lengths: ArrayLike | None = None,
        *,
        time_major: bool,
    ) -> tuple[Array, State]:
        """Step over sequences; see `run`."""
        import numpy as np

        loaded = self.ready(chosen, _to_array(inputs), has_lengths=lengths is not None)
        x = _check_input(loaded, inputs)
        is_single = x.ndim == 2 + len(loaded.network.first.spatial)
        by_step = x[:, None] if is_single else x if time_major else x.swapaxes(0, 1)
        valid = None if lengths is None else _check_lengths(lengths, by_step.shape)
        if valid is not None:
            with located(self._path):
                loaded.refuse_lengths()
        ran = loaded.runner.run(by_step, self._first_states(chosen, state, loaded, by_step), valid)
        outputs = ran.outputs[:, 0] if is_single else ran.outputs
        if not is_single and not time_major:
            outputs = np.ascontiguousarray(outputs.swapaxes(0, 1))
        return outputs, loaded.state(ran.states)

    def chunks_with(
        self,
        chosen: RunOptions,
        chunks: Iterable[ArrayLike],
        state: StateLike | None,
        *,
        time_major: bool,
    ) -> Iterator[tuple[Array, State]]:
        """Step over chunks; see `run_chunks`."""
        for chunk in chunks:
            with located(self._path):
                self.ready(chosen, _to_array(chunk)).refuse_parts()
            outputs, state = self.run_with(chosen, chunk, state, time_major=time_major)
            yield outputs, state

    def step_with(
        self, chosen: RunOptions, x: ArrayLike, state: StateLike | None
    ) -> tuple[Array, State]:
        """Take one step; see `step`."""
        row = _to_array(x)
        loaded = self.ready(chosen, row)
        if not loaded.network.is_bidirectional:
            with located(self._path):
                loaded.refuse_parts()
        if row.ndim != 2 + len(loaded.network.first.spatial):
            raise ArgumentError(f"expected x [batch, input_size], got {list(row.shape)}")
        by_step = _check_input(loaded, row[None])
        ran = loaded.runner.run(by_step, self._first_states(chosen, state, loaded, by_step))
        return ran.outputs[0], loaded.state(ran.states)

    def graph_state(self, batch: int, feeds: Mapping[str, Any] | None, steps: int | None) -> State:
        """Return the initial state in the graph; see `initial_state`."""
        import numpy as np

        from lstmstate.state.state import LSTMState, StackState

        names, starts = self._starts(feeds, batch, steps)
        if any(one.is_of_sizes for one in starts):
            raise UnsupportedError(
                "the graph computes its initial state from the size of x",
                path=self._path,
                advice="give the number of `steps`, too",
            )
        known = [one.pairs for one in starts if not one.is_zero] or [one.pairs for one in starts]
        problems = [str(one.problem) for one in starts if one.problem is not None]
        if problems or not known:
            reason = problems[0] if problems else "the graph does not show it"
            problem = f"the initial state in the graph is unknown: {reason}"
            raise UnsupportedError(problem, path=self._path)
        first, *others = ([half for name in names for half in (one or {})[name]] for one in known)
        pairs = (both for one in others for both in zip(first, one, strict=True))
        if not all(np.array_equal(*both) for both in pairs):
            problem = "the graph starts these cells from several states"
            raise AmbiguousError(problem, path=self._path)
        spread = [half if len(half) != 1 else half.repeat(batch, 0) for half in first]
        cells = [
            LSTMState(c, m, name)
            for name, c, m in zip(names, spread[::2], spread[1::2], strict=True)
        ]
        return StackState(cells) if len(cells) > 1 else cells[0]


class LSTMNetwork(NetworkRunner, metaclass=Brief):
    """A cell, a stack, or a forward and a backward stack, ready to run.

    Attributes:
        route: the cells in the order of execution.

    Example:
        >>> import numpy as np, lstmstate
        >>> network = lstmstate.open_checkpoint("sample_checkpoints/sunspots").network()
        >>> outputs, state = network.run(np.ones((8, 5, 1)))   # [batch, time, input]
        >>> outputs.shape, [cell.c.shape for cell in state]
        ((8, 5, 12), [(8, 24), (8, 12)])
    """

    def __repr__(self) -> str:
        return f"<LSTMNetwork {self.route.name!r} of {len(self.route.cells)} cells>"

    @name_nearest
    def run(
        self,
        inputs: ArrayLike,
        state: StateLike | None = None,
        *,
        lengths: ArrayLike | None = None,
        time_major: bool = False,
        engine: str = "auto",
        outputs: str | None = None,
        feeds: Mapping[str, Any] | None = None,
        forget_bias: float | Recorded = RECORDED,
        cell_clip: float | Recorded | None = RECORDED,
        proj_clip: float | Recorded | None = RECORDED,
        activation: str | Recorded = RECORDED,
        recurrent_activation: str | Recorded = RECORDED,
        peepholes: bool | Recorded = RECORDED,
        assume_defaults: bool = False,
    ) -> tuple[Array, State]:
        """Step over sequences; return the outputs `[batch, time, width of m]` and the last state.

        Args:
            inputs: `[batch, time, input_size]`, or `[time, input_size]` for one sequence.
            state: the state before the first step, zeros by default; a batch of one is repeated. A
                tuple (c, m) of arrays will do, and for a stack a list of these.
            lengths: `[batch]`, the valid steps of each sequence; the outputs after them are zero.
            time_major: whether inputs and outputs are `[time, batch, …]`.
            engine: "auto", "numpy", "graph", "tensorflow" or "onnxruntime".
            outputs: "m" for the m of the last cell, "graph" for the graph's own output.
            feeds: values for placeholders of the graph other than x and the state.
            forget_bias, …, peepholes: in place of the recorded ones; None for no clip.
            assume_defaults: whether an option with several defaults takes the documented one.
        """
        chosen = run_options(
            engine=engine,
            outputs=outputs,
            feeds=feeds,
            forget_bias=forget_bias,
            cell_clip=cell_clip,
            proj_clip=proj_clip,
            activation=activation,
            recurrent_activation=recurrent_activation,
            peepholes=peepholes,
            assume_defaults=assume_defaults,
        )
        return self.run_with(chosen, inputs, state, lengths, time_major=time_major)

    @name_nearest
    def run_chunks(
        self,
        chunks: Iterable[ArrayLike],
        state: StateLike | None = None,
        *,
        time_major: bool = False,
        engine: str = "auto",
        outputs: str | None = None,
        feeds: Mapping[str, Any] | None = None,
        forget_bias: float | Recorded = RECORDED,
        cell_clip: float | Recorded | None = RECORDED,
        proj_clip: float | Recorded | None = RECORDED,
        activation: str | Recorded = RECORDED,
        recurrent_activation: str | Recorded = RECORDED,
        peepholes: bool | Recorded = RECORDED,
        assume_defaults: bool = False,
    ) -> Iterator[tuple[Array, State]]:
        """Step over chunks of long sequences; yield the results of `run` for each."""
        chosen = run_options(
            engine=engine,
            outputs=outputs,
            feeds=feeds,
            forget_bias=forget_bias,
            cell_clip=cell_clip,
            proj_clip=proj_clip,
            activation=activation,
            recurrent_activation=recurrent_activation,
            peepholes=peepholes,
            assume_defaults=assume_defaults,
        )
        self.ready(chosen).refuse_parts()
        return self.chunks_with(chosen, chunks, state, time_major=time_major)

    @name_nearest
    def step(
        self,
        x: ArrayLike,
        state: StateLike | None = None,
        *,
        engine: str = "auto",
        outputs: str | None = None,
        feeds: Mapping[str, Any] | None = None,
        forget_bias: float | Recorded = RECORDED,
        cell_clip: float | Recorded | None = RECORDED,
        proj_clip: float | Recorded | None = RECORDED,
        activation: str | Recorded = RECORDED,
        recurrent_activation: str | Recorded = RECORDED,
        peepholes: bool | Recorded = RECORDED,
        assume_defaults: bool = False,
    ) -> tuple[Array, State]:
        """Take one step over x `[batch, input_size]`; see `run`."""
        chosen = run_options(
            engine=engine,
            outputs=outputs,
            feeds=feeds,
            forget_bias=forget_bias,
            cell_clip=cell_clip,
            proj_clip=proj_clip,
            activation=activation,
            recurrent_activation=recurrent_activation,
            peepholes=peepholes,
            assume_defaults=assume_defaults,
        )
        return self.step_with(chosen, x, state)

    def zero_state(self, batch: int = 1) -> State:
        """Return the state of zeros: c `[batch, num_units]` and m of each cell."""
        return self.load().zero_state(batch)

    def initial_state(
        self, batch: int = 1, feeds: Mapping[str, Any] | None = None, steps: int | None = None
    ) -> State:
        """Return the initial state in the graph, for x of some size; zeros if it is fed."""
        return self.graph_state(batch, feeds, steps)


def _to_array(inputs: ArrayLike) -> NDArray[Any]:
    import numpy as np

    try:
        return np.asarray(inputs)
    except ValueError as error:  # such as lists of unequal lengths
        raise ArgumentError(f"expected an array, got lists that make none ({error})") from None


def _check_input(loaded: Loaded, inputs: ArrayLike) -> Array:
    """Return inputs in the network's dtype, of a shape that it takes."""
    from lstmstate.engines.network import as_input

    x = _to_array(inputs)
    first = loaded.network.first
    axes = len(first.spatial)
    width = x.shape[-1] if x.ndim else 0
    fits = (
        x.ndim - axes in (2, 3)
        and x.shape[-1 - axes : -1] == first.spatial
        and (width >= first.input_size if first.takes_wider else width == first.input_size)
    )
    is_numeric = x.dtype.kind in "fiub"
    if not fits or not x.size or not is_numeric:
        item = ", ".join(map(str, (*first.spatial, first.input_size)))
        raise ArgumentError(
            f"expected {'x' if is_numeric else 'numbers'} [batch, time, {item}] or "
            f"[time, {item}], got {x.dtype} {list(x.shape)}",
            tensor=first.name,
        )
    with located(tensor=first.name):
        return as_input(x[..., : first.input_size], first.dtype)


def _check_lengths(lengths: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.int64]:
    import numpy as np

    found = np.asarray(lengths)
    steps, batch = shape[:2]
    is_whole = found.dtype.kind in "iu" and found.shape == (batch,)
    if not is_whole or found.min() < 0 or found.max() > steps:
        raise ArgumentError(
            f"expected `lengths` as {batch} whole numbers from 0 to {steps}, one for each "
            f"sequence, got {found.dtype} {list(found.shape)}"
        )
    return found.astype(np.int64)


class _Described(LSTMNetwork):
    """A network with a record, `info`, whose fields are attributes of the network, too."""

    info: Cell | Stack

    def __getattr__(self, name: str) -> Any:
        if name == "info" or name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.info, name)

    def __dir__(self) -> list[str]:
        return [*object.__dir__(self), *self.info._fields, *dir(type(self.info))]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.info.name!r} {self._words()}>"

    def _repr_html_(self) -> str:
        from html import escape

        return f"<code>{escape(printable(self.info.name) or '/')}</code> {escape(self._words())}"

    def _words(self) -> str:
        raise NotImplementedError


class LSTMCell(_Described):
    """A cell of an open checkpoint: an `LSTMNetwork` of one cell.

    Attributes:
        info: all that is known of the cell; its fields are attributes of the cell, too.
        name: the scope of the variables, "" for the root scope.
        family: the class that made it; with several candidates, the plainest.
        input_size, num_units, num_proj: widths of x, c and a projected m; None if unknown, or
            without a projection.
        state: the widths (c, m) of the state.
        gate_order: the gates in the order of the kernel's columns.
        peepholes, layer_norm: whether it has them; None if their use is unknown.
        forget_bias: an `Option`; `options` has all of them by name.
        variables: names of variables by role; several for the shards of one.

    Example:
        >>> import numpy as np, lstmstate
        >>> ckpt = lstmstate.open_checkpoint("sample_checkpoints/peephole_flat")
        >>> cell = ckpt.cells["rnn/lstm_cell"]
        >>> outputs, state = cell.run(np.ones((8, 20, 3)), cell.zero_state(batch=8))
        >>> cell, outputs.shape, state.c.shape, state.m.shape
        (<LSTMCell 'rnn/lstm_cell' LSTMCell 3 -> 8:5 peepholes>, (8, 20, 5), (8, 8), (8, 5))
    """

    info: Cell

    # The fields of `info`, for type checkers.
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
    alternatives: tuple[str, ...]
    layer: int | None
    direction: Direction | None
    notes: tuple[str, ...]
    unexplained: tuple[Unexplained, ...]
    state: StateWidths | None
    native_layout: str | None
    forget_bias: Option

    def __init__(self, info: Cell, origin: Origin) -> None:
        super().__init__(of_cell(info), origin)
        self.info = info

    def _words(self) -> str:
        info = self.info
        extra = [info.direction or "", "peepholes" if info.peepholes else ""]
        extra += ["layer norm" if info.layer_norm else ""]
        sizes = f"{_size(info.input_size)} -> {_widths(info)}"
        return " ".join([info.family, sizes, *filter(None, extra)])


class LSTMStack(_Described):
    """A stack of an open checkpoint: an `LSTMNetwork` of its cells.

    Two stacks that run in the two directions run together as `LSTMCheckpoint.network`.

    Attributes:
        info: all that is known of the stack; its fields are attributes of the stack, too.
        name: the scope of the stack.
        layers: for each layer its cell, or its forward and its backward cell.
        flat: the width of the flat state of all cells; None if there is none.
    """

    info: Stack

    # The fields of `info`, for type checkers.
    name: str
    layers: tuple[tuple[Cell, ...], ...]
    flat: int | None
    direction: Direction | None
    paired_with: str | None
    is_whole: bool
    between: tuple[str, ...]

    def __init__(self, info: Stack, origin: Origin) -> None:
        super().__init__(None, origin)
        self.info = info

    @cached_property
    def route(self) -> Route:  # type: ignore[override]
        """The cells in the order of execution.

        Raises:
            UnsupportedError: a layer is not an LSTM cell.
        """
        return of_stack(self.info)

    def _words(self) -> str:
        layers = self.info.layers
        widths = ", ".join(" + ".join(map(_widths, layer)) for layer in layers)
        first = layers[0][0].input_size if layers and layers[0] else None
        return f"{_size(first)} -> {widths}" + (f" {self.direction}" if self.direction else "")


def _size(size: int | None) -> str:
    return "?" if size is None else str(size)


def _widths(cell: Cell) -> str:
    return _size(cell.num_units) + (f":{cell.num_proj}" if cell.num_proj is not None else "")
