"""Tables of numbers as text, with a header or without.

    # comments at the start are passed over
    time,x,y
    0.0,0.25,-1.5

NumPy's own parser of text reads them; nothing in a field is ever evaluated.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING

from lstmstate import limits
from lstmstate.errors import CorruptError, LstmstateError, UnsupportedError, printable, raised_as
from lstmstate.files.reader import ByteSource
from lstmstate.state.formats.table_header import header_of, places, without_index

if TYPE_CHECKING:
    from lstmstate.state.state import Array

_MARKS = "\t,;"
_SHOWN = 30  # characters of a field that an error shows
_LOOKED_AT_CHARACTERS = 4 << 20  # of the rows below a header


class TextTable:
    """A table whose header is read, and its values when asked for.

    Args:
        header: whether the first row names the columns, None if unknown.
        most: how many bytes a table may have.

    Attributes:
        names: the names of its columns, () if it has no header.
        notes: lines for the user on how the header was found.
        comments: the lines before the table that begin with "#".
    """

    def __init__(self, source: ByteSource, *, header: bool | None, most: int) -> None:
        if source.size > most:
            raise UnsupportedError(
                f"a table of {source.size:,} bytes is not read as text", advice="save it as an .npy"
            )
        self._source = source
        self.names: tuple[str, ...] = ()
        self.notes: tuple[str, ...] = ()
        self.comments: list[str] = []
        number, first = next(self._lines(self.comments), (0, ""))
        if "\0" in first:
            raise CorruptError("expected a text in UTF-8", advice="save it as UTF-8, or as an .npy")
        # What separates fields; None for white space.
        self._mark = next((mark for mark in _MARKS if mark in first), None)
        is_csv = source.path.lower().endswith((".csv", ".tsv"))
        self._refuse_many(first)
        if self._mark is None and is_csv and not any(map(_is_number, first.split())):
            self._mark = ","  # the heading of a single column may have spaces
        fields = self._fields(first)
        self._width = len(fields)
        if number:
            fields = [name.strip() for name in fields]
            self.names, self.notes = header_of(
                fields, self._below(number), _is_number, given=header
            )
        self._first = number + 1 if self.names else number  # the line where the rows begin

    def columns(
        self, asked: str | None, dtype: str = "float64"
    ) -> tuple[tuple[str, ...], Array, tuple[str, ...]]:
        """Return names, the values of the requested columns, and notes.

        Args:
            asked: see `table_header.places`; None for all columns but an index, with their names.
        """
        if asked:
            wanted = places(self.names, self._width, asked)
            return self.names, self.read(wanted, dtype), self.notes
        names, values, of_index = without_index(self.names, self.read(None, dtype))
        return names, values, self.notes + of_index

    def read(self, wanted: Sequence[int] | None = None, dtype: str = "float64") -> Array:
        """Return the numbers `[rows, columns]` of some columns, all of them unless given.

        An error names the number of its row.
        """
        import numpy as np

        lines = (line for number, line in self._lines() if number >= self._first)
        first = next(lines, None)
        if first is None:
            return np.empty((0, self._width if wanted is None else len(wanted)), dtype)
        rows = self._cut_rows(chain([first], lines))
        kind = {"c": complex, "f": float}.get(np.dtype(dtype).kind, int)

        def damage(error: Exception) -> LstmstateError:
            return self._fault(wanted, kind) or CorruptError(
                f"this is not a table of numbers ({error})"
            )

        with raised_as(damage):  # a ValueError as a rule
            values: Array = np.loadtxt(
                rows if wanted is None else self._whole(rows),
                dtype=dtype,
                delimiter=self._mark,
                comments=None,  # those at the start are gone, and others are damage
                quotechar='"',
                usecols=wanted,
                ndmin=2,
                encoding="utf-8",
            )
        if wanted is None and values.shape[1] != self._width:
            fault = self._fault(wanted, kind)
            raise fault or CorruptError("its rows have unlike numbers of fields")
        return values

    def _lines(self, comments: list[str] | None = None) -> Iterator[tuple[int, str]]:
        """Yield lines and their numbers, without comments at the start and empty ones at the end.

        An empty line in between may be a value that is missing: to pass over it would shift the
        steps behind it.
        """
        raw = self._source.file()
        empty = 0
        has_begun = False
        text = io.TextIOWrapper(io.BufferedReader(raw, 1 << 20), "utf-8-sig", "replace")
        for number, line in enumerate(text, 1):
            if not line.strip():
                empty = empty or (number if has_begun else 0)
                continue
            if not has_begun and line.lstrip().startswith("#"):
                if comments is not None:
                    self._source.budget.spend(limits.COMMENTS)
                    comments.append(line.strip())
                continue
            if empty:
                advice = "remove it, or put numbers there"
                raise CorruptError(f"line {empty} is empty", advice=advice)
            has_begun = True
            yield number, line

    def _fields(self, line: str) -> list[str]:
        """Cut a line."""
        self._refuse_many(line)
        if self._mark is None:
            return line.split()
        try:
            return next(csv.reader([line], delimiter=self._mark), [""])
        except csv.Error as error:
            raise CorruptError(f"a line of it cannot be cut into fields ({error})") from error

    def _refuse_many(self, line: str) -> None:
        """Refuse a line of more fields than a table has, before it is cut."""
        if len(line) <= limits.MAX_COLUMNS:
            return
        most, mark = limits.MAX_COLUMNS, self._mark
        if (line.count(mark) if mark else len(line.split(None, most)) - 1) >= most:
            problem = f"expected at most {most:,} columns, got more"
            raise UnsupportedError(problem, advice="save it as an .npy")

    def _cut_rows(self, rows: Iterable[str]) -> Iterator[str]:
        """Yield rows; one that NumPy would cut into too many fields is refused."""
        for row in rows:
            if len(row) > limits.MAX_COLUMNS:
                self._refuse_many(row)
            yield row

    def _below(self, first: int) -> Iterator[list[str]]:
        """Yield the fields of rows below the first one, a few megabytes of them at most."""
        left = _LOOKED_AT_CHARACTERS
        for number, line in self._lines():
            if number > first:
                left -= len(line)
                if left < 0:
                    return
                yield self._fields(line)

    def _whole(self, rows: Iterable[str]) -> Iterator[str]:
        """Yield rows as long as they have all of their fields; NumPy reads only some of them."""
        for row in rows:
            if self._mark is None or '"' in row:
                found = len(self._fields(row))
            else:
                found = row.count(self._mark) + 1
            if found != self._width:
                raise ValueError
            yield row

    def _fault(self, wanted: Sequence[int] | None, kind: type) -> CorruptError | None:
        """Return an error for the first row that is not a row of numbers.

        Args:
            kind: the type of the numbers: complex, float or int.
        """
        rows = (numbered for numbered in self._lines() if numbered[0] >= self._first)
        for row, (number, line) in enumerate(rows, 1):
            fields = self._fields(line)
            where = f"row {row} (line {number} of the file)"
            if len(fields) != self._width:
                return CorruptError(
                    f"{where} has {len(fields)} fields, and the first line {self._width}"
                )
            for column in range(self._width) if wanted is None else wanted:
                if _is_number(fields[column], kind):
                    continue
                text = printable(fields[column].strip()[:_SHOWN])
                held = f"holds {text!r}, which is not a number" if text else "has an empty field"
                name = printable(self.names[column][:_SHOWN]) if self.names else ""
                called = f" ({name})" if name else ""
                picks = text and wanted is None and self._width > 1
                return CorruptError(
                    f"{where} {held}, in column {column + 1}{called}",
                    advice="pick the columns of numbers: FILE:a,b" if picks else None,
                )
        return None


def _is_number(text: str, kind: type = complex) -> bool:
    """Whether NumPy reads a field as a number; Python itself reads more."""
    try:
        kind(text)
    except ValueError:
        return False
    return text.isascii() and "_" not in text
