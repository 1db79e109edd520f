"""Cells, stacks and networks of an open checkpoint, with the Python API of `run`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from lstmstate import limits
from lstmstate.arguments import as_array, is_whole, name_nearest
from lstmstate.cells.cell import Cell, Direction, Option, Stack, StateWidths, Unexplained
from lstmstate.cells.stacks import Route
from lstmstate.checkpoint.dtypes import NUMPY_FLOATS
from lstmstate.errors import (
    AmbiguousError,
    ArgumentError,
    Brief,
    UnsupportedError,
    count,
    located,
    printable,
    warn,
)
from lstmstate.model.network_loader import (
    RECORDED,
    NetworkLoader,
    Origin,
    Recorded,
    RunOptions,
)
from lstmstate.type_names import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from lstmstate.engines.canonical_network import Array
    from lstmstate.model.loaded_network import Loaded
    from lstmstate.recurrence.graph_network import GraphNetwork
    from lstmstate.state.state import State, StateLike


# Those that a cell computes in, by those of its weights.
_DTYPES = {**{name: name for name in NUMPY_FLOATS}, "bfloat16": "float32"}


class LSTMNetwork(NetworkLoader, metaclass=Brief):
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

    info: Cell | Stack | None  # all that is known of a cell, or of a stack

    def __init__(
        self, parts: Route | Cell | Stack, origin: Origin, graph: GraphNetwork | None = None
    ) -> None:
        super().__init__(parts, origin, graph)
        self.info = None if isinstance(parts, Route) else parts

    if not TYPE_CHECKING:  # the fields of `info` are attributes, too

        def __getattr__(self, name: str) -> Any:
            if name == "info" or name.startswith("_") or self.info is None:
                return object.__getattribute__(self, name)
            return getattr(self.info, name)

    def __dir__(self) -> list[str]:
        info = self.info
        fields = object.__dir__(info) if info is not None else []
        return [*object.__dir__(self), *fields]

    def __repr__(self) -> str:
        name, words = self._described()
        return f"<{type(self).__name__} {name!r} {words}>"

    def _repr_html_(self) -> str:
        from html import escape

        name, words = self._described()
        return f"<code>{escape(printable(name) or '/')}</code> {escape(words)}"

    def _described(self) -> tuple[str, str]:
        """Return its name, and a few words on it."""
        return self.route.name, f"of {count(len(self.route.cells), 'cell')}"

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
            engine: "auto", "numpy", "graph" or "tensorflow".
            outputs: "m" for the m of the last cell, "graph" for the graph's own output.
            feeds: values for placeholders of the graph other than x and the state.
            forget_bias, …, peepholes: in place of the recorded ones; None for no clip.
            assume_defaults: whether an option with several defaults takes the documented one.
        """
        chosen, x = RunOptions.of(locals()), as_array(inputs, "inputs")
        loaded = self._ready(chosen, x, has_lengths=lengths is not None)
        return self._run(loaded, chosen, x, state, lengths, time_major=time_major)

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
        """Step over arrays that follow one another in time; yield the results of `run` for each."""
        chosen = RunOptions.of(locals())
        if hasattr(chunks, "__array__"):
            raise ArgumentError(
                "expected `chunks` to be several arrays, got one",
                advice="pass a list or a generator of the parts in time",
            )
        self._ready(chosen).refuse_parts()
        return self._run_chunks(chosen, chunks, state, time_major=time_major)

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
        chosen, row = RunOptions.of(locals()), as_array(x, "x")
        loaded = self._ready(chosen, row)
        if not loaded.network.is_bidirectional:
            with located(self._path):
                loaded.refuse_parts()
        if row.ndim != 2 + len(loaded.network.first.spatial):
            raise ArgumentError(f"expected x [batch, input_size], got {list(row.shape)}")
        made, state = self._run(loaded, chosen, row[None], state, time_major=True)
        return made[0], state

    def zero_state(self, batch: int = 1, feeds: Mapping[str, Any] | None = None) -> State:
        """Return the state of zeros: c `[batch, num_units]` and m of each cell.

        Their widths are enough for it: neither weights nor options are read. Where only the graph
        shows the shape of a state it is followed, with the values of `feeds`.
        """
        if not is_whole(batch) or batch < 1:
            raise ArgumentError(f"expected `batch` to be a whole number above 0, got {batch!r:.40}")
        import numpy as np

        from lstmstate.model.loaded_network import state_of

        cells = self.route.cells
        widths = [cell.state for cell in cells if cell.state is not None]
        if len(widths) < len(cells) or cells[0].dtype not in _DTYPES:
            given = {"assume_defaults": True}  # no option changes widths
            return self.load(RunOptions(given=given, feeds=feeds or {})).zero_state(batch)
        dtype = np.dtype(_DTYPES[cells[0].dtype])
        nbytes = batch * sum(one.flat for one in widths) * dtype.itemsize
        if nbytes > limits.MAX_EVALUATED_BYTES:
            raise UnsupportedError(
                f"a state of {nbytes:,} bytes is larger than {limits.MAX_EVALUATED_BYTES:,}",
                path=self._path,
                advice="pass fewer rows: `batch=...`",
            )
        pairs = [(np.zeros((batch, c), dtype), np.zeros((batch, m), dtype)) for c, m in widths]
        return state_of(self._names, pairs)

    def initial_state(
        self,
        batch: int | None = None,
        feeds: Mapping[str, Any] | None = None,
        steps: int | None = None,
    ) -> State:
        """Return the initial state in the graph, for x of some size; zeros if it is fed.

        The batch is that of the graph by default, or 1.
        """
        import numpy as np

        from lstmstate.model.loaded_network import state_of

        if self.model is None:
            problem = "the initial state is unknown: there is no graph next to the checkpoint"
            raise UnsupportedError(problem, path=self._path)
        starts = self._initial_states(feeds, batch or 1, steps)
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
        names = self._names
        first, *others = ([half for name in names for half in (one or {})[name]] for one in known)
        pairs = (both for one in others for both in zip(first, one, strict=True))
        if not all(np.array_equal(*both) for both in pairs):
            problem = "the graph starts these cells from several states"
            raise AmbiguousError(problem, path=self._path)
        rows = {len(half) for half in first} - {1}
        batch = batch or max(rows, default=1)
        if rows - {batch}:
            raise UnsupportedError(
                f"the initial state in the graph has {max(rows)} rows, and the batch {batch}",
                path=self._path,
                advice=f"pass that of the graph: `batch={max(rows)}`",
            )
        spread = [half if len(half) == batch else half.repeat(batch, 0) for half in first]
        return state_of(names, zip(spread[::2], spread[1::2], strict=True))

    def _ready(
        self, chosen: RunOptions, x: NDArray[Any] | None = None, *, has_lengths: bool = False
    ) -> Loaded:
        """Load for an input; warn once of each assumption and of each run of the graph itself."""
        from lstmstate.engines.run_options import assumptions

        width = x.shape[-1] if x is not None and x.ndim else None
        loaded = self.load(chosen._replace(width=width, has_lengths=has_lengths))
        self._warn([*assumptions(loaded.settled), *loaded.notes, *loaded.beyond])
        return loaded

    def _warn(self, lines: Iterable[str]) -> None:
        warn(f"{self._path}: {line}" for line in self.unseen(lines))

    def _run(
        self,
        loaded: Loaded,
        chosen: RunOptions,
        inputs: NDArray[Any],
        state: StateLike | None,
        lengths: ArrayLike | None = None,
        *,
        time_major: bool,
    ) -> tuple[Array, State]:
        """Step over sequences; warn if it starts from zeros and the graph from another state."""
        import numpy as np

        x = loaded.to_input(inputs)
        is_single = x.ndim == 2 + len(loaded.network.first.spatial)
        by_step = x[:, None] if is_single else x if time_major else x.swapaxes(0, 1)
        steps, batch = by_step.shape[:2]
        valid = None if lengths is None else _check_lengths(lengths, steps, batch)
        if valid is not None:
            with located(self._path):
                loaded.refuse_lengths()
        own = self.own_start(chosen.feeds, batch, steps) if state is None else None
        if own is not None:
            self._warn([own.line + ("" if own.problem else "; `initial_state` returns it")])
        ran = loaded.runner.run(by_step, loaded.states_of(state, batch), valid)
        outputs = ran.outputs[:, 0] if is_single else ran.outputs
        if not is_single and not time_major:
            outputs = np.ascontiguousarray(outputs.swapaxes(0, 1))
        return outputs, loaded.state(ran.states)

    def _run_chunks(
        self,
        chosen: RunOptions,
        chunks: Iterable[ArrayLike],
        state: StateLike | None,
        *,
        time_major: bool,
    ) -> Iterator[tuple[Array, State]]:
        for chunk in chunks:
            x = as_array(chunk, "chunks")
            loaded = self._ready(chosen, x)
            with located(self._path):
                loaded.refuse_parts()
            outputs, state = self._run(loaded, chosen, x, state, time_major=time_major)
            yield outputs, state


def _check_lengths(lengths: ArrayLike, steps: int, batch: int) -> NDArray[np.int64]:
    import numpy as np

    found = as_array(lengths, "lengths")
    is_whole = found.dtype.kind in "iu" and found.shape == (batch,)
    if not is_whole or found.min() < 0 or found.max() > steps:
        raise ArgumentError(
            f"expected `lengths` as {batch} whole numbers from 0 to {steps}, one for each "
            f"sequence, got {found.dtype} {list(found.shape)}"
        )
    return found.astype(np.int64)


class LSTMCell(LSTMNetwork):
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

    def _described(self) -> tuple[str, str]:
        info = self.info
        extra = [info.direction or "", "peepholes" if info.peepholes else ""]
        extra += ["layer norm" if info.layer_norm else ""]
        sizes = f"{_size(info.input_size)} -> {_widths(info)}"
        return info.name, " ".join([info.family, sizes, *filter(None, extra)])


class LSTMStack(LSTMNetwork):
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

    def _described(self) -> tuple[str, str]:
        layers = self.info.layers
        widths = ", ".join(" + ".join(map(_widths, layer)) for layer in layers)
        first = layers[0][0].input_size if layers and layers[0] else None
        words = f"{_size(first)} -> {widths}" + (f" {self.direction}" if self.direction else "")
        return self.info.name, words


def _size(size: int | None) -> str:
    return "?" if size is None else str(size)


def _widths(cell: Cell) -> str:
    return _size(cell.num_units) + (f":{cell.num_proj}" if cell.num_proj is not None else "")
