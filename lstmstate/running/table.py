"""Tables of numbers as text: a row a step, a column a feature, with a header or without.

    # comments at the start are passed over
    time,x,y
    0.0,0.25,-1.5

NumPy's own parser of text reads them; nothing in a field is ever evaluated.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, cast

from lstmstate import limits
from lstmstate.checkpoint.source import ByteSource
from lstmstate.errors import (
    CorruptError,
    LstmstateError,
    UnsupportedError,
    is_fault,
    printable,
)
from lstmstate.records import NamedTuple
from lstmstate.state.table_header import header_of, places, without_index

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MARKS = "\t,;"
_SHOWN = 30  # characters of a field that an error shows
_LOOKED_AT_CHARACTERS = 4 << 20  # of the rows below a header


class Table(NamedTuple):
    """A table that was read.

    Attributes:
        names: those of all its columns but an index, also of those that were not asked for; ()
            where it has no header.
        values: the columns that were asked for, float64 `[rows, columns]`.
        notes: what a user should know of its header and its index.
    """

    names: tuple[str, ...]
    values: NDArray[np.float64]
    notes: tuple[str, ...] = ()


class _Shape(NamedTuple):
    """How lines are cut: `mark` separates fields, None for white space; names by the header."""

    mark: str | None
    names: tuple[str, ...]
    width: int

    def fields(self, line: str) -> list[str]:
        """Cut a line."""
        if self.mark is None:
            return line.split()
        try:
            return next(csv.reader([line], delimiter=self.mark), [""])
        except csv.Error as error:
            raise CorruptError(f"a line of it cannot be cut into fields ({error})") from None


def read_table(
    source: ByteSource, columns: str | None = None, *, header: bool | None = None
) -> Table:
    """Read a table.

    Args:
        columns: the names of some, with commas between them, or their numbers from 0 where they
            have no names; None for all but an index.
        header: whether the first row names the columns, None where that is open.

    Raises:
        LstmstateError: it is no table of numbers, or there are no such columns, or its first row
            may be a header or data.
    """
    if source.size > limits.MAX_TABLE_BYTES:
        raise UnsupportedError(
            f"a table of {source.size:,} bytes is not read as text", advice="save it as an .npy"
        )
    lines = _lines(source)
    number, first = next(lines, (0, ""))
    if "\0" in first:
        raise CorruptError("this is no text in UTF-8", advice="save it as UTF-8, or as an .npy")
    shape = _shape(first, is_csv=source.path.lower().endswith((".csv", ".tsv")))
    notes: tuple[str, ...] = ()
    if number:
        fields = [name.strip() for name in shape.fields(first)]
        names, notes = header_of(fields, _below(source, shape, number), _is_number, given=header)
        shape = shape._replace(names=names)
    wanted = places(shape.names, shape.width, columns) if columns is not None else None
    if shape.names or not number:
        number, first = next(lines, (0, ""))
    values = _values(source, shape, wanted, chain([(number, first)], lines))
    if wanted is not None:
        return Table(shape.names, values, notes)
    names, values, of_index = without_index(shape.names, values)
    return Table(names, values, notes + of_index)


def _below(source: ByteSource, shape: _Shape, first: int) -> Iterator[list[str]]:
    """Yield the fields of rows below the first one, a few megabytes of them at most."""
    left = _LOOKED_AT_CHARACTERS
    for number, line in _lines(source):
        if number > first:
            left -= len(line)
            if left < 0:
                return
            yield shape.fields(line)


def _lines(source: ByteSource) -> Iterator[tuple[int, str]]:
    """Yield lines and their numbers, without comments at the start and empty lines at the end.

    An empty line in between may be a value that is missing: to pass over it would shift the
    steps behind it.
    """
    raw = cast("io.RawIOBase", source.file())
    empty = 0
    has_begun = False
    text = io.TextIOWrapper(io.BufferedReader(raw, 1 << 20), "utf-8-sig", "replace")
    for number, line in enumerate(text, 1):
        if not line.strip():
            empty = empty or (number if has_begun else 0)
            continue
        if not has_begun and line.lstrip().startswith("#"):
            continue
        if empty:
            raise CorruptError(f"line {empty} is empty", advice="remove it, or put numbers there")
        has_begun = True
        yield number, line


def _shape(first: str, *, is_csv: bool) -> _Shape:
    """Return how lines are cut, by the first one."""
    mark = next((mark for mark in _MARKS if mark in first), None)
    if mark is None and is_csv and not any(map(_is_number, first.split())):
        mark = ","  # the heading of a single column may have spaces
    shape = _Shape(mark, (), 0)
    return shape._replace(width=len(shape.fields(first)))


def _is_number(text: str) -> bool:
    """Whether NumPy reads a field as a number; Python itself reads more."""
    try:
        float(text)
    except ValueError:
        return False
    return text.isascii() and "_" not in text


def _values(
    source: ByteSource,
    shape: _Shape,
    wanted: Sequence[int] | None,
    lines: Iterator[tuple[int, str]],
) -> NDArray[np.float64]:
    """Return the numbers in the rows; what is wrong with one is told with its number."""
    import numpy as np

    first = next(lines)
    if not first[0]:
        return np.empty((0, shape.width if wanted is None else len(wanted)))
    rows = (line for _, line in chain([first], lines))
    try:
        values = np.loadtxt(
            rows if wanted is None else _whole(rows, shape),
            delimiter=shape.mark,
            comments=None,  # those at the start are gone, and others are damage
            quotechar='"',
            usecols=wanted,
            ndmin=2,
            encoding="utf-8",
        )
    except LstmstateError:
        raise
    except Exception as error:  # a ValueError as a rule; whatever else damage leads it to
        if is_fault(error):
            raise
        raise _fault(source, shape, wanted, first[0]) or CorruptError(
            f"this is no table of numbers ({error})"
        ) from error
    if wanted is None and values.shape[1] != shape.width:
        raise _fault(source, shape, wanted, first[0]) or CorruptError("its rows cannot be told")
    return values


def _whole(rows: Iterator[str], shape: _Shape) -> Iterator[str]:
    """Give rows on as long as they have all of their fields, of which NumPy sees only some."""
    for row in rows:
        if shape.mark is None or '"' in row:
            found = len(shape.fields(row))
        else:
            found = row.count(shape.mark) + 1
        if found != shape.width:
            raise ValueError
        yield row


def _fault(
    source: ByteSource, shape: _Shape, wanted: Sequence[int] | None, start: int
) -> CorruptError | None:
    """Return what is wrong with the first row that is no row of numbers.

    Args:
        start: the line that is the first row.
    """
    rows = (numbered for numbered in _lines(source) if numbered[0] >= start)
    for row, (number, line) in enumerate(rows, 1):
        fields = shape.fields(line)
        where = f"row {row} (line {number} of the file)"
        if len(fields) != shape.width:
            return CorruptError(
                f"{where} has {len(fields)} fields, and the first line {shape.width}"
            )
        for column in range(shape.width) if wanted is None else wanted:
            if _is_number(fields[column]):
                continue
            text = printable(fields[column].strip()[:_SHOWN])
            held = f"holds {text!r}, which is no number" if text else "has an empty field"
            name = printable(shape.names[column][:_SHOWN]) if shape.names else ""
            called = f" ({name})" if name else ""
            picks = text and wanted is None and shape.width > 1
            return CorruptError(
                f"{where} {held}, in column {column + 1}{called}",
                advice="pick the columns of numbers: FILE:a,b" if picks else None,
            )
    return None
