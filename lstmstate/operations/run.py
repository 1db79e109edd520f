"""Runs of a network over files of sequences, in chunks along time, from a state to a state."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from lstmstate.arguments import name_nearest
from lstmstate.cells.cell import CellShape, StateWidths
from lstmstate.engines.canonical_network import Array, Lengths, Pair, spans
from lstmstate.engines.run_options import assumptions, remarks
from lstmstate.errors import (
    ArgumentError,
    LstmstateError,
    UnsupportedError,
    WidthError,
    located,
    printable,
    warn,
)
from lstmstate.files import STDIN, STDOUT
from lstmstate.files.atomic import Outputs
from lstmstate.files.inputs import gather
from lstmstate.model.checkpoint import open_checkpoint
from lstmstate.model.loaded_network import Loaded
from lstmstate.model.lstm_network import LSTMNetwork
from lstmstate.model.network_loader import RECORDED, OwnStart, Recorded, RunOptions
from lstmstate.model.saved_states import refuse_layout
from lstmstate.named_tuple import NamedTuple
from lstmstate.operations.sequences import Sequences, open_lengths, open_sequences
from lstmstate.state.formats.input_path import InputPath
from lstmstate.state.layouts import LAYOUTS, scopes_of
from lstmstate.state.metadata import OUTPUTS, Metadata
from lstmstate.state.state import State
from lstmstate.state.state_stream import Advance, StateStream, ignore
from lstmstate.value_stats import ValueStats, stats_of

if TYPE_CHECKING:
    from lstmstate.recurrence.fed_order import FedOrder
    from lstmstate.state.formats.array_writer import ArrayWriter, PlannedArray

# Bytes of inputs and results that are stepped over at once: enough to make the calls around them
# cheap, and little compared with the memory of Python itself.
_AT_ONCE_BYTES = 16 << 20
_AT_ONCE_STEPS = 1 << 14  # so that progress is shown every second or so


class FileOptions(NamedTuple):
    """The files of a run other than inputs and outputs, and the ways to read and write all files.

    Attributes:
        state: the file with the state to begin with; None for zeros.
        from_layout: its layout, if it is not recorded.
        zero_state: whether to begin with zeros even if the graph begins with another state.
        carry_state: whether each input begins with the state after the last one.
        allow_nan: whether inputs and the state may have NaN or Inf.
        lengths, time_major, header: see `open_input`.
        checksums: whether to verify the checksums of a checkpoint with a state.
        all_states: whether to write c and m of every step, too.
        trace: whether to write the gates i, j, f and o of every step, too.
        kind: the kind of file to write, if its name does not show it.
        state_out: the file for the state after the last step.
        state_layout: its layout, "tuple" by default.
        compress: whether to compress the results, and the state if its file can be compressed.
        force: whether to replace files that exist.
        strict: whether to refuse a graph with operations after the outputs, or with a state of its
            own in place of zeros; otherwise these are noted.
    """

    state: str | None = None
    from_layout: str | None = None
    zero_state: bool = False
    carry_state: bool = False
    allow_nan: bool = False
    lengths: str | None = None
    time_major: bool = False
    header: bool | None = None
    checksums: bool = True
    all_states: bool = False
    trace: bool = False
    kind: str | None = None
    state_out: str | None = None
    state_layout: str | None = None
    compress: bool = False
    force: bool = False
    strict: bool = False

    @property
    def keep(self) -> str:
        """The arrays to write of every step, letters of "cmijfo"."""
        return "cmijfo" if self.trace else "cm" if self.all_states else ""


class OpenInput(NamedTuple):
    """An input that is open, and what to run over it.

    Attributes:
        loaded: the network for vectors of its width.
        state: the state to begin with; None for zeros.
        source: where that is from: "zero", "file" or "carried".
    """

    sequences: Sequences
    loaded: Loaded
    state: State | None
    source: str


class RunResult(NamedTuple):
    """The result of a run over an input.

    Attributes:
        outputs: the figures of the outputs of valid steps; None if they were not asked for.
        seconds: the time for it, reading and writing included.
    """

    state: State
    outputs: ValueStats | None
    steps: int
    seconds: float

    @property
    def notes(self) -> list[str]:
        """A line for each part of the state with NaN or Inf."""
        return [
            f"{printable(cell.cell) or 'the cell'}: {half} holds {' and '.join(words)} after the "
            "last step"
            for cell in self.state.cells
            for half, values in zip("cm", cell, strict=True)
            if (words := stats_of(values, moments=False).words)
        ]


@name_nearest
def run(
    checkpoint: str | os.PathLike[str],
    inputs: str | os.PathLike[str],
    *,
    output: str | os.PathLike[str],
    cell: str | None = None,
    stack: str | None = None,
    state: str | os.PathLike[str] | None = None,
    from_layout: str | None = None,
    zero_state: bool = False,
    state_out: str | os.PathLike[str] | None = None,
    state_layout: str | None = None,
    all_states: bool = False,
    trace: bool = False,
    compress: bool = False,
    force: bool = False,
    lengths: str | None = None,
    time_major: bool = False,
    allow_nan: bool = False,
    header: bool | None = None,
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
    checksums: bool = True,
) -> State:
    """Run over a file of sequences, in parts; write a file, and return the last state.

    Args:
        inputs, output, state, state_out: files as for `lstmstate run`.
        from_layout, …, header: as the flags of that command.
        engine, …, assume_defaults: as for `LSTMNetwork.run`.
    """
    chosen = RunOptions.of(locals())
    for layout, name, file in (
        (from_layout, "state", state),
        (state_layout, "state_out", state_out),
    ):
        refuse_layout(layout)
        if layout is not None and file is None:
            raise ArgumentError(f"there is a layout of `{name}`, and no file", advice="pass both")
    if zero_state and state is not None:
        raise ArgumentError("`state` and `zero_state` contradict one another", advice="pass one")
    files = FileOptions(
        state=None if state is None else os.fspath(state),
        from_layout=from_layout,
        zero_state=zero_state,
        allow_nan=allow_nan,
        lengths=lengths,
        time_major=time_major,
        header=header,
        checksums=checksums,
        all_states=all_states,
        trace=trace,
        state_out=None if state_out is None else os.fspath(state_out),
        state_layout=state_layout,
        compress=compress,
        force=force,
    )
    path, target = os.fspath(inputs), os.fspath(output)
    notes: list[str] = []
    with gather(), open_checkpoint(checkpoint, checksums=checksums) as ckpt:
        network = ckpt.network(cell=cell, stack=stack)
        job = FileRun(network, ckpt.prefix, chosen, files, notes.extend)
        opened = InputPath(path)
        job.open_first_state()
        job.rehearse_state_out([target])
        done = job.run_one(job.open(opened), target)
        settled = job.loaded.settled
    options = [f"{ckpt.prefix}: {line}" for line in (*assumptions(settled), *remarks(settled))]
    warn([*ckpt.notes, *options, *notes, *(f"{path}: {line}" for line in done.notes)])
    return done.state


class FileRun:
    """A run over files, each by itself, or from the state after the one before it.

    Args:
        network: the cells to run.
        path: their checkpoint.
        chosen: the options of the network.
        files: the state to begin with, and the ways to read and write.
        note: is called with lines for the user.

    Attributes:
        loaded: the network, for inputs of the usual width.

    Raises:
        LstmstateError: the network cannot be run, or not continue from its state.
    """

    def __init__(
        self,
        network: LSTMNetwork,
        path: str,
        chosen: RunOptions,
        files: FileOptions,
        note: Callable[[Iterable[str]], None],
    ) -> None:
        self._network = network
        self._path = path
        self._chosen = chosen._replace(has_lengths=files.lengths is not None)
        self._files = files
        self._note = note
        self._state: State | None = None
        self._is_own = False  # whether it is the one that the graph evaluates
        self._opened = self._done = 0
        self.loaded = network.load(self._chosen)
        if files.carry_state and self.loaded.network.is_bidirectional:
            raise LstmstateError(
                "`carry_state=True` is not for backward cells: they begin at the end of a sequence",
                path=path,
                advice="leave `carry_state=True` out",
            )
        self._refuse_parts(self.loaded)

    def _refuse_parts(self, loaded: Loaded) -> None:
        """Refuse to carry the state of a network that cannot continue from it."""
        if self._files.carry_state:
            with located(self._path):
                loaded.refuse_parts()

    def open_first_state(self) -> None:
        """Note the remarks on the network, and open the state to begin with."""
        loaded, files = self.loaded, self._files
        if files.strict and loaded.beyond:
            raise UnsupportedError(loaded.beyond[0], path=self._path)
        lines = [*loaded.notes, *loaded.beyond, *loaded.not_finite]
        self._note(self._network.unseen(lines))
        if files.lengths is not None:
            InputPath(files.lengths)  # counts as an input before it is opened
        if files.state is None:
            return
        path = InputPath(files.state)
        self._is_own = self._is_of_graph(path)
        if self._is_own:
            return
        self._state, notes = open_state(
            loaded,
            path,
            files.from_layout,
            self._path,
            allow_nan=files.allow_nan,
            checksums=files.checksums,
            header=files.header,
            orders=lambda shape: self._network.fed_orders(shape, self._chosen.feeds),
        )
        self._note(notes)

    def _is_of_graph(self, path: InputPath) -> bool:
        """Return whether a path is that of the network, and its graph evaluates its own state."""
        if path.text == STDIN or path.place or self._files.from_layout:
            return False
        with suppress(LstmstateError):  # reading the state in it shows the problem
            if path.kind is None and path.location.prefix == self._path:
                own = self._network.own_start(self._chosen.feeds)
                return own is not None and own.problem is None
        return False

    def rehearse_state_out(self, targets: Iterable[str | None]) -> None:
        """Refuse a state file that cannot be written: a run may take hours until then.

        Args:
            targets: the files for the outputs.
        """
        from lstmstate.state.formats.registry import kind_to_write

        target, layout = self._files.state_out, self._files.state_layout
        if target is None:
            return
        others = {os.path.realpath(name) for name in targets if name not in (None, STDOUT)}
        if os.path.realpath(target) in others:
            raise LstmstateError("two outputs have the same name", path=target)
        if kind_to_write(target, None).key == "npy" and layout is None:
            raise LstmstateError(
                "c and m are two arrays, and an .npy has one",
                path=target,
                advice="pass `state_layout='flat'`, or write an .npz or .h5",
            )
        with suppress(_Rehearsed), Outputs(force=self._files.force) as outputs:
            with located(target):
                self._write_state(outputs, target, self.loaded.zero_state(1))
            raise _Rehearsed

    def open(self, path: InputPath) -> OpenInput:
        """Open an input, the network for its width, and the state that it begins with."""
        files, number = self._files, self._opened
        self._opened += 1
        if files.carry_state and self._done < number:
            raise LstmstateError("not run: the input before it failed", path=path.text)
        loaded, sequences = self._open_input(path)
        self._note(sequences.notes)
        state, source = self._state, "zero"
        if state is not None:
            source = "carried" if number and files.carry_state else "file"
        elif self._is_own:
            sizes = sequences.batch, self._chosen.feeds, sequences.steps
            state, source = self._network.initial_state(*sizes), "file"
        elif not files.zero_state:
            own = self._network.own_start(self._chosen.feeds, sequences.batch, sequences.steps)
            if own is not None:
                self._note_zeros(own)
        return OpenInput(sequences, loaded, state, source)

    def _open_input(self, path: InputPath) -> tuple[Loaded, Sequences]:
        """Return the network for vectors of an input's width, and the sequences."""
        files, loaded = self._files, self.loaded
        how: dict[str, Any] = {
            "lengths": files.lengths,
            "time_major": files.time_major,
            "allow_nan": files.allow_nan,
            "header": files.header,
        }
        try:
            return loaded, open_input(loaded, path, **how)
        except WidthError as error:
            if path.text == STDIN:  # it can be read once
                raise
            loaded = self._network.load(self._chosen._replace(width=error.width))
            if loaded.network.first.input_size != error.width:
                raise
        self._note(self._network.unseen(loaded.notes))
        self._refuse_parts(loaded)
        return loaded, open_input(loaded, path, **how)

    def _note_zeros(self, own: OwnStart) -> None:
        """Note that the graph begins with a state of its own, and this run with zeros."""
        advice = f"pass `state='{printable(self._path)}'` to start from it"
        if own.problem and not own.is_stored:
            advice = "pass `state=FILE` to start from another"
        if self._files.strict:
            advice = f"{advice}, or pass `zero_state=True`"
            raise UnsupportedError(own.line, path=self._path, advice=advice)
        self._note(self._network.unseen([f"{own.line}; {advice}"]))

    def run_one(
        self,
        one: OpenInput,
        target: str | None,
        *,
        is_last: bool = True,
        figures: bool = False,
        advance: Advance = ignore,
    ) -> RunResult:
        """Run over an input, and write the outputs and, after the last input, the state.

        Args:
            target: the file for the outputs, if any.
            figures, advance: see `run_input`.
        """
        files = self._files
        with Outputs(force=files.force) as outputs:
            with self._open_writer(outputs, target, one) as writer:
                done = run_input(
                    one.loaded,
                    one.sequences,
                    one.state,
                    keep=files.keep,
                    results=writer,
                    figures=figures,
                    advance=advance,
                )
            if files.state_out is not None and is_last:
                self._write_state(outputs, files.state_out, done.state)
        if files.carry_state:
            self._state = done.state
        self._done += 1
        return done

    def _open_writer(
        self, outputs: Outputs, target: str | None, one: OpenInput
    ) -> AbstractContextManager[ArrayWriter | None]:
        """Open the file of the results, if there is one."""
        if target is None:
            return nullcontext()
        from lstmstate.state.formats.array_writer import open_writer
        from lstmstate.state.formats.registry import IN_ROWS, kind_to_write

        files = self._files
        kind = kind_to_write(target, files.kind, endings=IN_ROWS, compress=files.compress)
        alone = kind.key == "npy"
        if alone and files.keep:
            raise LstmstateError(
                "an .npy has the outputs only", path=target, advice="write an .npz or .h5"
            )
        if alone and files.state_out is None:
            name = "an .npy" if target == STDOUT else target
            self._note([f"{name} has the outputs only; `state_out=...` writes the state"])
        return open_writer(
            outputs,
            target,
            kind,
            plans(one.loaded, one.sequences, files.keep, alone=alone),
            metadata(one.loaded, os.path.basename(self._path), alone=alone),
            compress=files.compress,
        )

    def _write_state(self, outputs: Outputs, target: str, state: State) -> None:
        from lstmstate.operations.convert import write_state
        from lstmstate.operations.state_files import in_memory
        from lstmstate.state.formats.registry import kind_to_write

        stream = StateStream(in_memory(state), LAYOUTS[self._files.state_layout or "tuple"])
        kind = kind_to_write(target)
        compress = self._files.compress and kind.packed
        write_state(stream, outputs, target, kind, compress=compress)


class _Rehearsed(Exception):  # noqa: N818 - no error
    """Undoes a trial output."""


def result_name(path: InputPath, folder: str, kind: str | None) -> str:
    """Return the file in a folder for the results of an input: `x.npz`, and `x.KEY.npz`."""
    from lstmstate.operations.convert import stem_of

    stem = os.path.basename(stem_of(path.path)) if path.path != STDIN else "stdin"
    inner = f".{'_'.join(path.place.replace('/', ' ').split())}" if path.place else ""
    return os.path.join(folder, f"{stem}{inner}.{kind or 'npz'}")


def open_input(
    loaded: Loaded,
    path: str | InputPath,
    *,
    lengths: str | None = None,
    time_major: bool = False,
    allow_nan: bool = False,
    header: bool | None = None,
) -> Sequences:
    """Open the sequences in a file for a network; see `sequences.open_sequences`."""
    first = loaded.network.first
    item = ", ".join(map(str, (*first.spatial, first.input_size)))
    more = " or wider" if first.takes_wider else ""
    path = InputPath.of(path)
    sequences = open_sequences(
        path,
        width=first.input_size,
        spatial=first.spatial,
        at_least=first.takes_wider,
        dtype=first.dtype,
        time_major=time_major,
        allow_nan=allow_nan,
        header=header,
        expected=f"{first.name or 'the cell'} takes [batch, time, {item}]{more}",
    )
    if lengths is not None:
        loaded.refuse_lengths()
        sequences.lengths = open_lengths(lengths, path, sequences.batch, sequences.steps)
    return sequences


def open_state(
    loaded: Loaded,
    path: str | InputPath,
    layout: str | None,
    source: str,
    *,
    allow_nan: bool = False,
    checksums: bool = True,
    header: bool | None = None,
    orders: Callable[[tuple[int, ...]], Sequence[FedOrder]] | None = None,
) -> tuple[State, list[str]]:
    """Return the state in a file, for the cells of a network, and notes on it.

    Args:
        layout: its layout, if it is not recorded.
        source: the checkpoint, for messages.
        allow_nan: whether values may be NaN or Inf, or beyond the range of the network's dtype.
        checksums: whether to verify the checksums of a checkpoint.
        header: whether the first row of a table names its columns, None if unknown.
        orders: see `Wanted`.

    Raises:
        LstmstateError: there is none, or it is not that of these cells.
    """
    from lstmstate.operations.load import open_path, states_in
    from lstmstate.state.candidates import Cells, Wanted

    cells = tuple(CellShape(cell.name, cell.widths) for cell in loaded.network.cells)
    fitting = (Cells(cells, len(cells) > 1),)
    wanted = Wanted(layout, None, fitting, source, orders=orders, can_choose=True)
    opened = open_path(path, checksums=checksums, header=header)
    path = opened.path
    (found, *_) = states_in(opened, wanted, layout="from_layout")
    if [array.name for array in found.arrays] == [""] and not found.file.metadata:
        _refuse_unordered(loaded, path, found.arrays[0].shape, orders)
    stream, lead = StateStream(found), found.structure.lead
    state = stream.whole()
    with located(path):
        spatial = len(loaded.network.cells[0].spatial)
        pairs = loaded.states_of(state, math.prod(lead[: len(lead) - spatial]))
        if not allow_nan:
            _refuse_no_numbers(loaded, pairs)
    own_cells = [cell.name for cell in found.structure.cells]
    is_other = opened.ckpt is not None and opened.ckpt.prefix != source
    notes = [*(opened.notes if is_other else ()), *found.notes, *stream.swapped]
    if all(own_cells) and sorted(own_cells) != sorted(cell.name for cell in cells):
        own = ", ".join(map(printable, own_cells[:4]))
        here = ", ".join(printable(cell.name) for cell in cells[:4])
        notes.append(f"{path}: the state is that of {own}, and is used for {here}")
    return state, notes


def _refuse_unordered(
    loaded: Loaded,
    path: str,
    shape: tuple[int, ...],
    orders: Callable[[tuple[int, ...]], Sequence[FedOrder]] | None,
) -> None:
    """Refuse one array without names for a cell whose state is not that of its class.

    Such a state has no order of its own, and a graph that takes its parts apart shows none.
    """
    for known, cell in zip(loaded.route.cells, loaded.shapes, strict=True):
        is_odd = known.state is not None and known.state != cell.widths
        if is_odd and not (orders is not None and orders(shape)):
            name = printable(cell.name)
            raise LstmstateError(
                f"the order of c and m of {name} in one array is unknown",
                path=path,
                advice=f"give the state as arrays by name, such as {name}/c, in an .npz",
            )


def _refuse_no_numbers(loaded: Loaded, pairs: Sequence[Pair]) -> None:
    """Refuse a state with NaN or Inf in it."""
    for cell, pair in zip(loaded.shapes, pairs, strict=True):
        for half, values in zip("cm", pair, strict=True):
            words = stats_of(values, moments=False).words
            if words:
                raise LstmstateError(
                    f"{half} holds {' and '.join(words)}, in {values.dtype}",
                    tensor=cell.name,
                    advice="correct the state, or pass `allow_nan=True`",
                )


def _filed(loaded: Loaded) -> tuple[CellShape, ...]:
    """Return the cells as a file of results names them.

    A stack in the scope of the outputs has no names there: an HDF5 file has nothing below an array.
    """
    cells = loaded.network.cells
    has_names = not any(f"{cell.name}/".startswith(f"{OUTPUTS}/") for cell in cells)
    return tuple(CellShape(cell.name if has_names else "", cell.widths) for cell in cells)


def metadata(loaded: Loaded, source: str, *, alone: bool = False) -> Metadata:
    """Return the metadata of a file of results: those of the state in it, or of outputs alone."""
    if alone:
        return Metadata(OUTPUTS, (), is_stack=False, source=source, is_run=True)
    cells = _filed(loaded)
    return Metadata("tuple", cells, len(cells) > 1, source=source, is_run=True)


def plans(
    loaded: Loaded, sequences: Sequences, keep: str, *, alone: bool = False
) -> list[PlannedArray]:
    """Return the arrays to write for an input: outputs, c, m and gates of every step, the state.

    Args:
        keep: letters of "cmijfo".
        alone: whether the file has room for the outputs only.
    """
    from lstmstate.state.formats.array_writer import PlannedArray

    shapes, dtype = loaded.shapes, loaded.network.dtype

    def of_steps(name: str, item: tuple[int, ...]) -> PlannedArray:
        return PlannedArray(name, sequences.shape(item), dtype, sequences.time_axis)

    found = [of_steps(OUTPUTS, loaded.network.output_shape)]
    if alone:
        return found
    for cell, names in zip(shapes, _kept_names(loaded, keep), strict=True):
        found += [
            of_steps(name, (*cell.spatial, _width(cell.widths, letter)))
            for letter, name in names.items()
        ]
    items = [(*cell.spatial, width) for cell in shapes for width in cell.widths]
    found += [
        PlannedArray(name, (sequences.batch, *item), dtype)
        for name, item in zip(_state_names(loaded), items, strict=True)
    ]
    return found


def _width(widths: StateWidths, letter: str) -> int:
    return widths.m if letter == "m" else widths.c


def _kept_names(loaded: Loaded, keep: str) -> list[dict[str, str]]:
    """Return for each cell the names of arrays of every step: c_steps, in its scope in a stack."""
    cells = _filed(loaded)
    scopes = [f"{scope}/" for scope in scopes_of([cell.name for cell in cells])]
    if len(cells) == 1:
        scopes = [""]
    return [{letter: f"{scope}{letter}_steps" for letter in keep} for scope in scopes]


def _state_names(loaded: Loaded) -> list[str]:
    cells = _filed(loaded)
    return LAYOUTS["tuple"].array_names(cells, is_stack=len(cells) > 1)


def run_input(
    loaded: Loaded,
    sequences: Sequences,
    state: State | None,
    *,
    keep: str = "",
    results: ArrayWriter | None = None,
    figures: bool = False,
    advance: Advance = ignore,
) -> RunResult:
    """Run a network over sequences, from a state, and write the results.

    Args:
        results: the writer, with the arrays of `plans`.
        figures: whether to measure the outputs.
        advance: is called with the number of steps of each chunk of input.

    Raises:
        LstmstateError: the state does not fit, the input is damaged, or a write failed.
    """
    started = time.perf_counter()
    with located(sequences.path):
        states = loaded.states_of(state, sequences.batch)
    outputs = ValueStats()
    planned = {plan.name for plan in results.plans} if results else set()
    names = _kept_names(loaded, keep)
    for start, x, valid in chunks_of(loaded, sequences, keep):
        with located(sequences.path):
            ran = loaded.runner.run(x, states, valid, keep)
        states = ran.states
        if figures:
            outputs = outputs.joined(_stats(ran.outputs, valid))
        if results is not None:
            results.write(OUTPUTS, start, sequences.with_own_axes(ran.outputs))
            for arrays, called in zip(ran.kept, names, strict=True):
                for letter, array in arrays.items():
                    if called[letter] in planned:
                        results.write(called[letter], start, sequences.with_own_axes(array))
        advance(len(ran.outputs))
    if results is not None:
        for name, half in zip(
            _state_names(loaded), (half for pair in states for half in pair), strict=True
        ):
            if name in planned:
                results.write(name, 0, half)
    return RunResult(
        loaded.state(states),
        outputs if figures else None,
        sequences.steps,
        time.perf_counter() - started,
    )


def _stats(outputs: Array, lengths: Lengths | None) -> ValueStats:
    """Return the statistics of outputs `[steps, batch, …]`, those of valid steps if known."""
    if lengths is not None:
        outputs = outputs[np.arange(len(outputs))[:, None] < lengths]
    return stats_of(outputs)


def chunks_of(
    loaded: Loaded, sequences: Sequences, keep: str = ""
) -> Iterator[tuple[int, Array, Lengths | None]]:
    """Yield (first step, `[steps, batch, *item]`, valid steps) of each chunk of an input."""
    lengths = sequences.lengths
    for start, stop in spans(sequences.steps, _at_once(loaded, sequences, keep)):
        x = sequences.chunk(start, stop, lengths)
        valid = None if lengths is None else np.clip(lengths - start, 0, stop - start)
        if valid is not None and not loaded.network.at_once and (valid == stop - start).all():
            valid = None
        yield start, x, valid


def _at_once(loaded: Loaded, sequences: Sequences, keep: str) -> int:
    """Return the number of steps in a chunk; a backward cell needs all of them."""
    network = loaded.network
    if network.at_once:
        return sequences.steps
    kept = sum(_width(cell.widths, letter) for cell in network.cells for letter in keep)
    widest = max(cell.widths.m for cell in network.cells)
    row = math.prod(sequences.item) + 2 * widest + math.prod(network.output_shape) + kept
    fitting = _AT_ONCE_BYTES // (row * sequences.batch * network.dtype.itemsize)
    return max(min(fitting, _AT_ONCE_STEPS), 1)
