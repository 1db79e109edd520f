"""Input sequences in files, read in chunks along time."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

from lstmstate import limits
from lstmstate.checkpoint import kinds
from lstmstate.errors import (
    AmbiguousError,
    LstmstateError,
    NotFoundError,
    UnsupportedError,
    WidthError,
    count,
    first_of,
    located,
    printable,
)
from lstmstate.files import STDIN
from lstmstate.files.reader import ByteSource
from lstmstate.named_tuple import NamedTuple
from lstmstate.state.formats.input_path import InputPath, open_arrays, select
from lstmstate.state.formats.registry import BY_KEY, KINDS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lstmstate.state.formats.stored_array import StateFile, StoredArray
    from lstmstate.state.state import Array

_REAL = "fiub"
_LISTED = 6  # arrays that an error lists
_ARRAYS = [kind for kind in KINDS if kind.in_rows]  # kinds of files of any arrays
_FORMATS = f"in {', '.join(f'.{kind.key}' for kind in _ARRAYS)} or .csv"


class _Found(NamedTuple):
    """The array at a path.

    Attributes:
        path: the file, without the name of an array in it.
        columns: the names in the header of a table.
        notes: choices that were made in reading it.
        is_table: whether it is a table as text.
    """

    path: str
    array: StoredArray
    columns: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    is_table: bool = False


class Sequences:
    """The sequences in a file, all of the same number of steps.

    Attributes:
        path: FILE, FILE:NAME or "-", as in the request.
        batch: the number of sequences.
        steps: the number of steps of each.
        width: the columns of a chunk.
        item: the shape of one step of one sequence: `(*spatial, width)`.
        is_single: whether there is one sequence, without an axis for the batch.
        time_axis: 0, or 1 if the axis of the batch comes first.
        lengths: the number of steps of each sequence, `[batch]`; None if all have all.
        notes: choices that were made in reading it.
    """

    def __init__(
        self,
        path: str,
        found: _Found,
        width: int,
        dtype: np.dtype[np.floating],
        *,
        spatial: tuple[int, ...],
        time_major: bool,
        allow_nan: bool,
    ) -> None:
        shape = found.array.shape
        self.path = path
        self.width = width
        self.item = (*spatial, width)
        self.is_single = len(shape) < 3 + len(spatial)
        self.notes = tuple(f"{printable(path)}: {note}" for note in found.notes)
        self.time_axis = 0 if self.is_single or time_major else 1
        self.lengths: NDArray[np.int64] | None = None
        self.steps = shape[self.time_axis]
        self.batch = 1 if self.is_single else shape[1 - self.time_axis]
        if self.steps == 1 and self.batch > 1 and not time_major:
            self.notes += (
                f"{printable(path)}: {self.batch} sequences of one step each; if it is one "
                f"sequence of {self.batch} steps, pass `time_major=True`",
            )
        own = shape[-1] if len(shape) > 1 else 1
        if own > width:
            self.notes += (
                f"{printable(path)}: the last {own - width} of its {own} columns are left out: "
                "this class takes no notice of them",
            )
        self._found = found
        self._dtype = dtype
        self._allow_nan = allow_nan

    def shape(self, item: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of an array with an item for every step, with the axes of the file."""
        if self.is_single:
            return (self.steps, *item)
        lead = (self.batch, self.steps) if self.time_axis else (self.steps, self.batch)
        return (*lead, *item)

    def with_own_axes(self, by_step: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return an array `[steps, batch, *item]` with the axes of the file."""
        if self.is_single:
            return by_step[:, 0]
        return by_step.swapaxes(0, 1) if self.time_axis else by_step

    def chunk(
        self, start: int, stop: int, lengths: NDArray[np.int64] | None = None
    ) -> NDArray[np.floating]:
        """Return the steps [start, stop) of all sequences, `[stop - start, batch, *item]`.

        Args:
            lengths: `[batch]`, the number of steps of each sequence; those after them are returned
                unchecked.

        Raises:
            LstmstateError: the file is damaged, or a value is not finite in the dtype.
        """
        import numpy as np

        from lstmstate.engines.canonical_network import as_input

        array = self._found.array
        with located(self._found.path, array.name or None):
            raw = array.read(self.time_axis, start, stop)
            if self.is_single:
                raw = raw.reshape(stop - start, 1, *self.item[:-1], -1)
            elif self.time_axis == 1:
                raw = raw.swapaxes(0, 1)
            raw = raw[..., : self.width]
            part = as_input(raw, self._dtype)
            if not self._allow_nan and not np.isfinite(part).all():
                self._refuse_first(raw, part, start, lengths)
        return part

    def _refuse_first(
        self,
        raw: Array,
        part: NDArray[np.floating],
        start: int,
        lengths: NDArray[np.int64] | None,
    ) -> None:
        """Raise an error for the first value that is not finite, in the order of time."""
        import numpy as np

        bad = ~np.isfinite(part)
        if lengths is not None:
            steps = np.arange(start, start + len(part))
            bad[steps[:, None] >= lengths] = False
        if not bad.any():
            return
        step, row, *places, column = place = [
            int(at) for at in np.unravel_index(bad.argmax(), bad.shape)
        ]
        value = raw[tuple(place)]
        if np.isfinite(value):
            problem = f"{value} is beyond the range of {self._dtype}"
        else:
            problem = "there is NaN" if np.isnan(value) else "there is Inf"
        batch_row = "" if self.is_single else f", batch row {row}"
        if places:
            batch_row += f", place {places}"
        raise LstmstateError(
            f"{problem} at step {start + step}{batch_row}, column {column} (counted from 0)",
            advice="correct the data, or pass `allow_nan=True`",
        )


def open_sequences(
    path: str | InputPath,
    *,
    width: int | None,
    spatial: tuple[int, ...] = (),
    at_least: bool = False,
    dtype: np.dtype[np.floating],
    time_major: bool = False,
    allow_nan: bool = False,
    header: bool | None = None,
    expected: str,
) -> Sequences:
    """Open the sequences at a path; no value of a file of arrays is read.

    Args:
        path: a file of arrays or a table as text; FILE:NAME picks an array, or columns by their
            names, `a,b`; "-" is stdin. The array is `[time, width]`, one sequence, or
            `[batch, time, width]`; with a width of 1, or any, `[time]` is one sequence, too.
        width: the width of the cell's input; None for any width.
        spatial: the axes before the width, if the cell is a convolution.
        at_least: whether it may be wider: further columns are left out.
        dtype: the dtype of chunks.
        time_major: whether three axes are `[time, batch, width]`.
        allow_nan: whether values may be NaN or Inf, or beyond the range of the dtype.
        header: whether the first row of a table names its columns, None if that is unknown.
        expected: the input of the cell in messages: "rnn/lstm_cell takes [batch, time, 3]".

    Raises:
        LstmstateError: it is something else, or damaged.
    """
    path = InputPath.of(path)
    found = _find(path, expected, header)
    array = found.array
    with located(found.path, array.name or None):
        _refuse_no_numbers(array, expected)
        own = _width(found, width, spatial, at_least=at_least, expected=expected)
        sequences = Sequences(
            path.text,
            found,
            own,
            dtype,
            spatial=spatial,
            time_major=time_major,
            allow_nan=allow_nan,
        )
        for size, what in ((sequences.steps, "steps"), (sequences.batch, "sequences")):
            if not size:
                raise LstmstateError(
                    f"there are no {what} in it: its shape is {list(array.shape)}", advice=expected
                )
    return sequences


def open_lengths(
    spec: str, input_path: str | InputPath, batch: int, steps: int
) -> NDArray[np.int64]:
    """Return how many steps each sequence of a batch has, `[batch]`.

    Args:
        spec: the name of an array in the file of the input, or another file of arrays or table,
            FILE:NAME picks an array or a column.
        input_path: the path for `open_sequences`.
        batch: the number of sequences.
        steps: the largest number of steps.

    Raises:
        LstmstateError: there are no lengths, or not one whole number in [0, steps] for each.
    """
    import numpy as np

    found = _find_lengths(spec, InputPath.of(input_path))
    array = found.array
    with located(found.path, array.name or None):
        if array.dtype.kind not in "iuf":
            raise LstmstateError(f"it holds {array.dtype}, and lengths are whole numbers")
        if not array.shape or math.prod(array.shape) != batch:
            raise LstmstateError(
                f"its shape is {list(array.shape)}, and the input holds {count(batch, 'sequence')}",
                advice="give one length for each sequence",
            )
        given: NDArray[Any] = array.whole().reshape(-1)
        for row in np.flatnonzero(~((given >= 0) & (given <= steps) & (given == np.trunc(given)))):
            raise LstmstateError(
                f"the length of batch row {row} (counted from 0) is {given[row]}, and must be a "
                f"whole number from 0 to {steps}, the steps of the input"
            )
    return given.astype(np.int64)


def _find(path: InputPath, expected: str, header: bool | None) -> _Found:
    """Return the one array that a path names."""
    place = path.place
    try:
        source = path.open()
    except LstmstateError:
        _refuse_checkpoint(path, expected)
        raise
    content = kinds.identify(source)
    table = BY_KEY["csv"]
    if content is table.content or (
        content is kinds.UNKNOWN and table.is_named(path.path)  # not in UTF-8
    ):
        return _find_in_table(source, place, header)
    kind = next((kind for kind in _ARRAYS if kind.content is content), None)
    if kind is None:
        _refuse_checkpoint(path, expected)
        raise UnsupportedError(
            f"expected sequences, got {content.words}",
            path=source.path,
            advice=content.advice or f"{expected}, {_FORMATS}",
        )
    path.refuse_pipe(kind)
    return _Found(source.path, _only(open_arrays(source, kind), place, expected))


def _find_in_table(source: ByteSource, place: str | None, header: bool | None) -> _Found:
    """Return the table in a file, or the columns at a place in it."""
    from lstmstate.state.formats.number_table import TextTable
    from lstmstate.state.formats.stored_array import ArrayInMemory

    with located(source.path):
        table = TextTable(source, header=header, most=limits.MAX_TABLE_BYTES)
        names, values, notes = table.columns(place)
    return _Found(source.path, ArrayInMemory(place or "", values), names, notes, is_table=True)


def _only(file: StateFile, place: str | None, expected: str) -> StoredArray:
    """Return the one array of a file, or the one at a place in it."""
    arrays = (select(file, place) if place else file).arrays
    if len(arrays) == 1:
        return arrays[0]
    if not arrays:
        raise NotFoundError("there is no array in it", path=file.path, advice=expected)
    known = first_of([f"{array.name} {list(array.shape)}" for array in arrays], _LISTED)
    how = "save one of them alone" if file.path == "stdin" else "pick one, FILE:NAME"
    raise AmbiguousError(
        f"it holds {len(arrays)} arrays, and {expected}", path=file.path, advice=f"{how}: {known}"
    )


def _refuse_checkpoint(path: InputPath, expected: str) -> None:
    """Raise an error if a path names a checkpoint."""
    try:
        _ = path.location
    except LstmstateError:
        return
    raise UnsupportedError(
        "expected sequences, got a TensorFlow checkpoint",
        path=path.path,
        advice=f"{expected}, {_FORMATS}",
    )


def _refuse_no_numbers(array: StoredArray, expected: str) -> None:
    if array.dtype.kind not in _REAL:
        kinds = {"c": "complex numbers", "U": "text", "S": "text", "O": "text or objects"}
        held = kinds.get(array.dtype.kind, printable(str(array.dtype)))
        raise UnsupportedError(f"it holds {held}, not real numbers", advice=expected)


def _width(
    found: _Found, width: int | None, spatial: tuple[int, ...], *, at_least: bool, expected: str
) -> int:
    """Return the number of columns of the array that the cell takes.

    Raises:
        LstmstateError: it has other axes, or too few or too many columns.
    """
    shape = found.array.shape
    problem = f"its shape is {list(shape)}, and {expected}"
    own = shape[-1] if len(shape) > 1 else 1
    fits = width is None or own == width or (at_least and own > width)
    if spatial and (
        len(shape) - len(spatial) not in (2, 3) or shape[-len(spatial) - 1 : -1] != spatial
    ):
        raise LstmstateError(problem, advice="its last axes are those of one step")
    if not spatial and (not 1 <= len(shape) <= 3 or (len(shape) == 1 and not fits)):
        w = "width" if width is None else width
        raise LstmstateError(
            problem,
            advice=f"give [time, {w}], one sequence, or [batch, time, {w}], or pass "
            f"`time_major=True` with [time, batch, {w}]",
        )
    if not fits:
        few = "few" if own < (width or 0) else "many"
        advice = f"its last axis has too {few} columns: {own}, and not {width}"
        if width in shape[:-1]:
            advice += f"; axis {shape.index(width or 0)} has that size: transpose the array"
        elif found.columns:
            from lstmstate.state.formats.table_header import listed

            advice += f"; pick columns by their names, FILE:a,b: {listed(found.columns)}"
        elif found.is_table and few == "many":
            advice += "; pick columns by their numbers, FILE:0,2"
        else:
            advice += "; give those that the cell was trained on"
        raise WidthError(problem, own, advice=advice)
    if not own:
        raise LstmstateError(problem, advice="it has no columns")
    return own if width is None else width


def _find_lengths(spec: str, given: InputPath) -> _Found:
    """Return the array of lengths, from the file of the input if it has one of that name."""
    names: list[str] = []
    if given.path != STDIN:  # which cannot be read twice
        source = given.open()
        content = kinds.identify(source)
        kind = next((kind for kind in _ARRAYS if kind.content is content), None)
        if kind is not None and kind.key != "npy":
            file = open_arrays(source, kind)
            for array in file.arrays:
                if array.name == spec.strip("/"):
                    return _Found(given.path, array)
            names = [printable(array.name) for array in file.arrays[:_LISTED]]
    elif spec == STDIN:
        raise LstmstateError(
            "the input is read from stdin: the lengths cannot be, too", advice="give a file"
        )
    path = InputPath(spec)
    if path.path != STDIN and not os.path.lexists(path.path):
        raise NotFoundError(
            "there is no such file of lengths, and no such array next to the input",
            path=spec,
            advice=f"there are: {', '.join(names)}"
            if names
            else "give a file of one whole number for each sequence",
        )
    expected = "lengths are one whole number for each sequence"
    try:
        return _find(path, expected, None)
    except AmbiguousError:  # the number of sequences distinguishes a header from a length
        return _find(path, expected, header=False)
