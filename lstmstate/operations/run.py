"""Runs of a network over a file of sequences, in chunks along time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lstmstate.cells.cell import CellShape, StateWidths
from lstmstate.engines.network import Array, Lengths, Pair, spans
from lstmstate.errors import LstmstateError, located, printable
from lstmstate.model.loaded_network import Loaded
from lstmstate.named_tuple import NamedTuple
from lstmstate.operations.sequences import Sequences, open_lengths, open_sequences
from lstmstate.state.formats.input_path import InputPath
from lstmstate.state.layouts import LAYOUTS, scopes_of
from lstmstate.state.metadata import OUTPUTS, Metadata
from lstmstate.state.state import State
from lstmstate.state.stream import Advance, Stream, ignore
from lstmstate.value_stats import ValueStats, stats_of

if TYPE_CHECKING:
    from lstmstate.recurrence.initial_state import FedOrder
    from lstmstate.state.formats.array_writer import ArrayWriter, PlannedArray

# Bytes of inputs and results that are stepped over at once: enough to make the calls around them
# cheap, and little compared with the memory of Python itself.
_AT_ONCE_BYTES = 32 << 20
_AT_ONCE_STEPS = 1 << 14  # so that progress is shown every second or so


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
    wanted = Wanted(layout, None, (Cells(cells, len(cells) > 1),), source, orders=orders)
    opened = open_path(path, checksums=checksums, header=header)
    path = opened.path
    (found, *_) = states_in(opened, wanted)
    if [array.name for array in found.arrays] == [""] and not found.file.metadata:
        _refuse_unordered(loaded, path, found.arrays[0].shape, orders)
    stream, lead = Stream(found), found.structure.lead
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

    dtype = loaded.network.dtype

    def of_steps(name: str, item: tuple[int, ...]) -> PlannedArray:
        return PlannedArray(name, sequences.shape(item), dtype, sequences.time_axis)

    found = [of_steps(OUTPUTS, loaded.network.output_shape)]
    if alone:
        return found
    for cell, names in zip(loaded.shapes, _kept_names(loaded, keep), strict=True):
        found += [
            of_steps(name, (*cell.spatial, _width(cell.widths, letter)))
            for letter, name in names.items()
        ]
    items = [(*cell.spatial, width) for cell in loaded.shapes for width in cell.widths]
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
