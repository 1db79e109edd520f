"""The one place that knows what stdout is: a terminal, or a pipe.

On a terminal there are colours and rules, and names are folded at their slashes to fit. In a
pipe there is plain text, a line a row, nothing folded, so that grep and awk find whole names;
Rich is not even imported.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Sequence
from typing import IO, TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

_Item = TypeVar("_Item")

# A column is (its heading, how it is set): "left", "right", "lead" for the number of a row,
# "name" for its name, "words" for what may be folded behind its semicolons.
Column = tuple[str, str]
Row = Sequence[str]

_INDENT = 2
_GAP = 2
_WIDEST_PADDED = 200  # one long name must not make every row as long
# Columns that may be folded: behind what, and how wide they must stay to be worth it.
_FOLDS = {"name": ("/", 32), "words": ("; ", 20)}


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
        widths = [min(max(map(len, column)), _WIDEST_PADDED) for column in zip(*lines, strict=True)]
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
        """Print a table; where the terminal is too narrow for it, each row as a few lines."""
        columns, cells = list(columns), [list(row) for row in rows]
        widths = [
            max(len(heading), *(len(row[at]) for row in cells))
            for at, (heading, _) in enumerate(columns)
        ]
        room = self._console.width - _INDENT
        excess = sum(widths) + _GAP * (len(widths) - 1) - room
        for at, (_, kind) in enumerate(columns):
            mark, least = _FOLDS.get(kind, ("", 0))
            if excess > 0 and mark and widths[at] - excess >= least:
                folded = [fold(row[at], widths[at] - excess, mark) for row in cells]
                widest = max(len(line) for text in folded for line in text.split("\n"))
                if widest <= widths[at] - excess:
                    for row, text in zip(cells, folded, strict=True):
                        row[at] = text
                    excess = 0
        if excess > 0:
            self._paragraphs(columns, cells, room)
        else:
            self._table(columns, cells)

    def _table(self, columns: list[Column], cells: list[list[str]]) -> None:
        from rich import box
        from rich.padding import Padding
        from rich.table import Table
        from rich.text import Text

        table = Table(
            box=box.SIMPLE_HEAD,
            show_edge=False,
            pad_edge=False,
            padding=(0, _GAP - 1, 0, 0),
            header_style="dim",
            border_style="dim",
        )
        for heading, kind in columns:
            table.add_column(heading, justify="right" if kind == "right" else "left", no_wrap=True)
        for row in cells:
            table.add_row(*map(Text, row))
        self._console.print(Padding(table, (0, 0, 0, _INDENT), expand=False))

    def _paragraphs(self, columns: list[Column], cells: list[list[str]], room: int) -> None:
        """Print for each row its number and name, and below it the rest with its headings."""
        for row in cells:
            parts: dict[str, list[str]] = {"lead": [], "rest": []}
            for cell, (heading, kind) in zip(row, columns, strict=True):
                if kind in ("lead", "name"):
                    parts["lead"].append(cell)
                elif cell:
                    parts["rest"].append(f"{heading} {cell}")
            lead = fold("  ".join(parts["lead"]), room - _GAP - 1)
            rest = fold("; ".join(parts["rest"]), room - _GAP - 1, "; ")
            first, *others = f"{lead}\n{rest}".strip("\n").split("\n")
            for line in (first, *(f"{'':{_GAP + 1}}{other}" for other in others)):
                self._print(f"{'':{_INDENT}}{line}", "")

    def _print(self, text: str, style: str) -> None:
        from rich.text import Text

        self._console.print(Text(text, style=style, overflow="fold"))


def tracked(items: Sequence[_Item], what: str) -> Iterable[_Item]:
    """Return the items, with progress on stderr while they are gone through, on a terminal."""
    if sys.stderr is None or not sys.stderr.isatty():
        return items
    from rich.console import Console
    from rich.progress import track

    return track(items, what, console=Console(stderr=True), transient=True)


def fold(text: str, room: int, behind: str = "/") -> str:
    """Break a text behind some mark, so that its lines fit into `room` where they can.

    >>> print(fold("rnn/multi_rnn_cell/cell_0/lstm_cell", 20))
    rnn/multi_rnn_cell/
    cell_0/lstm_cell
    """
    lines = [""]
    pieces = text.split(behind)
    for number, piece in enumerate(pieces):
        end = behind if number < len(pieces) - 1 else ""
        if lines[-1] and len(lines[-1]) + len(f"{piece}{end}".rstrip()) > room:
            lines.append("")
        lines[-1] += piece + end
    return "\n".join(line.rstrip() for line in lines)


class Meter:
    """Progress in bytes on a terminal's stderr, of what lasts longer than a moment.

    Args:
        what: what is being done.
        total: how many bytes there will be, None where that is not known.
        quiet: whether to say nothing.
    """

    _PATIENCE = 0.5  # seconds before anything is said

    def __init__(self, what: str, total: int | None, *, quiet: bool) -> None:
        self._what = what
        self._total = total
        self._silent = quiet or sys.stderr is None or not sys.stderr.isatty()
        self._bytes = 0
        self._start = time.monotonic()
        self._progress: Progress | None = None

    def __enter__(self) -> Meter:
        return self

    def __exit__(self, *error: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def add(self, nbytes: int) -> None:
        """Count some bytes that have gone by."""
        self._bytes += nbytes
        if self._silent:
            return
        if self._progress is None and time.monotonic() - self._start > self._PATIENCE:
            self._progress = self._begun()
        if self._progress is not None:
            self._progress.update(self._progress.task_ids[0], completed=self._bytes)

    def _begun(self) -> Progress:
        from rich import progress
        from rich.console import Console

        shown = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.DownloadColumn(),
            progress.TransferSpeedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        shown.add_task(self._what, total=self._total)
        shown.start()
        return shown
