"""The one place that knows what stdout is: a terminal, or a pipe.

On a terminal there are colours and rules, and names are folded at their slashes to fit. In a
pipe there is plain text, a line a row, nothing folded, so that grep and awk find whole names;
Rich is not even imported.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import IO, TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import Console

# A column is (its heading, how it is set): "left", "right", or "name" for what may be folded.
Column = tuple[str, str]
Row = Sequence[str]

_INDENT = 2
_GAP = 2


class Sheet(Protocol):
    """A report: titles, lines of words and tables."""

    def title(self, text: str) -> None:
        """Print the name of what is told."""

    def heading(self, text: str) -> None:
        """Print the heading of a part, with a blank line before it."""

    def line(self, text: str = "") -> None:
        """Print a line of words."""

    def table(self, columns: Iterable[Column], rows: Iterable[Row]) -> None:
        """Print a table."""


def sheet(out: IO[str] | None = None) -> Sheet:
    """Return the sheet for an open text file, by default stdout."""
    file = out or sys.stdout
    return TerminalSheet(file) if file.isatty() else PlainSheet(file)


class PlainSheet:
    """A report for a pipe or a file."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def title(self, text: str) -> None:
        """Print the name of what is told."""
        self.line(text)

    def heading(self, text: str) -> None:
        """Print the heading of a part, with a blank line before it."""
        self.line()
        self.line(text)

    def line(self, text: str = "") -> None:
        """Print a line of words."""
        self._file.write(f"{text}\n")

    def table(self, columns: Iterable[Column], rows: Iterable[Row]) -> None:
        """Print a table, every row one line."""
        columns = list(columns)
        lines = [[heading for heading, _ in columns], *map(list, rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for line in lines:
            set_ = (
                cell.rjust(width) if kind == "right" else cell.ljust(width)
                for cell, width, (_, kind) in zip(line, widths, columns, strict=True)
            )
            self.line((" " * _INDENT + (" " * _GAP).join(set_)).rstrip())


class TerminalSheet:
    """A report for a terminal, as wide as it is."""

    def __init__(self, file: IO[str]) -> None:
        from rich.console import Console

        self._console: Console = Console(
            file=file,
            highlight=False,
            markup=False,
            emoji=False,
            no_color=True if os.environ.get("NO_COLOR") else None,
        )

    def title(self, text: str) -> None:
        """Print the name of what is told."""
        self._print(text, "bold")

    def heading(self, text: str) -> None:
        """Print the heading of a part, with a blank line before it."""
        self.line()
        self._print(text, "bold cyan")

    def line(self, text: str = "") -> None:
        """Print a line of words, folded where it is longer than the terminal is wide."""
        self._print(text, "")

    def table(self, columns: Iterable[Column], rows: Iterable[Row]) -> None:
        """Print a table; the columns of names take what room the others leave."""
        from rich import box
        from rich.padding import Padding
        from rich.table import Table
        from rich.text import Text

        columns, cells = list(columns), [list(row) for row in rows]
        room = self._room(columns, cells)
        table = Table(
            box=box.SIMPLE_HEAD,
            show_edge=False,
            pad_edge=False,
            padding=(0, 1 if self._console.width < 100 else _GAP),
            header_style="dim",
            border_style="dim",
        )
        for heading, kind in columns:
            table.add_column(
                heading,
                justify="right" if kind == "right" else "left",
                overflow="fold",
                no_wrap=kind != "name",
            )
        for row in cells:
            table.add_row(
                *(
                    Text(fold(cell, room) if kind == "name" else cell)
                    for cell, (_, kind) in zip(row, columns, strict=True)
                )
            )
        self._console.print(Padding(table, (0, 0, 0, _INDENT), expand=False))

    def _room(self, columns: list[Column], cells: list[list[str]]) -> int:
        """Return the width that each column of names may take."""
        widths = [max(map(len, column), default=0) for column in zip(*cells, strict=True)]
        gap = 2 if self._console.width < 100 else 2 * _GAP
        fixed = sum(
            max(width, len(heading)) + gap
            for width, (heading, kind) in zip(widths, columns, strict=True)
            if kind != "name"
        )
        names = sum(kind == "name" for _, kind in columns)
        return max((self._console.width - fixed - _INDENT) // max(names, 1) - gap, 16)

    def _print(self, text: str, style: str) -> None:
        from rich.text import Text

        self._console.print(Text(text, style=style, overflow="fold"))


def fold(name: str, room: int) -> str:
    """Break a long name behind its slashes and blanks, so that its lines fit `room`.

    >>> print(fold("rnn/multi_rnn_cell/cell_0/lstm_cell", 20))
    rnn/multi_rnn_cell/
    cell_0/lstm_cell
    """
    pieces = name.replace("/", "/\0").replace(" ", " \0").split("\0")
    lines = [""]
    for piece in pieces:
        if lines[-1] and len(lines[-1]) + len(piece.rstrip()) > room:
            lines.append("")
        lines[-1] += piece
    return "\n".join(line.rstrip(" ") for line in lines)
