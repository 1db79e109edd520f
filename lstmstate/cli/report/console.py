"""Output for a terminal or a pipe: sheets on stdout, progress on stderr.

A terminal gets colours and rules, and names are folded at their slashes to fit. A pipe gets plain
text, one line per row and nothing folded, so that grep and awk find whole names; Rich is not even
imported.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence

from lstmstate.cli.standard_streams import open_text
from lstmstate.type_names import IO, TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from threading import Timer

    from rich.progress import Progress

_Item = TypeVar("_Item")
_SHOWN: list[int] = []  # the terminal that shows progress now

# A column is (heading, kind): "left" and "right" for its alignment, "lead" for the number of a row,
# "name" for its name, "words", "list" and "text" for text that may be folded, after semicolons,
# commas or spaces.
Column = tuple[str, str]
Row = Sequence[str]

_INDENT = 2
_GAP = 2
_WIDEST_PADDED = 200  # one long name must not make every row as long
# Columns that may be folded: the text to fold after, and the least width.
_FOLDS = {"name": ("/", 32), "words": ("; ", 20), "list": (", ", 20), "text": (" ", 26)}


def sheet(out: IO[str] | None = None) -> Sheet:
    """Return the sheet for an open text file, by default stdout."""
    file = out or sys.stdout
    return TerminalSheet(file) if file.isatty() else Sheet(file)


class Sheet:
    """A report for a pipe or a file: titles, lines of text and tables.

    Attributes:
        width: the characters of a line, where numbers are to be broken into lines.
    """

    width = 98

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def title(self, text: str) -> None:
        """Print the name of the file."""
        self._print(text, "bold")

    def heading(self, text: str) -> None:
        """Print the heading of a part, with a blank line before it."""
        self.line()
        self._print(text, "bold cyan")

    def line(self, text: str = "") -> None:
        """Print a line of text; a terminal folds it."""
        self._print(text, "")

    def _print(self, text: str, style: str) -> None:  # noqa: ARG002
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


class TerminalSheet(Sheet):
    """A report for a terminal, as wide as it is."""

    def __init__(self, file: IO[str]) -> None:
        from rich.console import Console

        plain = True if os.environ.get("NO_COLOR") else None
        self._console = Console(file=file, no_color=plain, highlight=False, markup=False)
        self.width = self._console.width

    def table(self, columns: Iterable[Column], rows: Iterable[Row]) -> None:
        """Print a table, or each row as a few lines if the terminal is too narrow."""
        columns, cells = list(columns), [list(row) for row in rows]
        widths = [
            max(len(heading), *(len(row[at]) for row in cells))
            for at, (heading, _) in enumerate(columns)
        ]
        room = self.width - _INDENT
        folded = [list(row) for row in cells]
        excess = sum(widths) + _GAP * (len(widths) - 1) - room
        for at, (_, kind) in enumerate(columns):
            mark, least = _FOLDS.get(kind, ("", 0))
            if excess > 0 and mark and widths[at] > least:
                for row in folded:
                    row[at] = fold(row[at], max(widths[at] - excess, least), mark)
                widest = max(len(line) for row in folded for line in row[at].split("\n"))
                excess -= widths[at] - widest
        if excess > 0:
            self._paragraphs(columns, cells, room)
        else:
            self._table(columns, folded)

    def _table(self, columns: list[Column], cells: list[list[str]]) -> None:
        from rich import box
        from rich.padding import Padding
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, header_style="dim", border_style="dim")
        table.show_edge = table.pad_edge = False
        table.padding = (0, _GAP - 1, 0, 0)
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
            rest = fold("; ".join(parts["rest"]), room - _GAP - 1, "; ").split("\n")
            rest = [fold(line, room - _GAP - 1, " ") for line in rest]
            first, *others = "\n".join([lead, *rest]).strip("\n").split("\n")
            for line in (first, *(f"{'':{_GAP + 1}}{other}" for other in others)):
                self._print(f"{'':{_INDENT}}{line}", "")

    def _print(self, text: str, style: str) -> None:
        from rich.text import Text

        self._console.print(Text(text, style=style, overflow="fold"))


def clear_progress() -> None:
    """Clear the line with the progress, and show the cursor again, where the process ends."""
    import select

    for descriptor in select.select((), _SHOWN, (), 0)[1]:  # not those of a terminal that waits
        os.write(descriptor, b"\r\x1b[2K\x1b[?25h")


def fold(text: str, room: int, behind: str = "/") -> str:
    """Break a text after a mark, into lines that fit into `room` if they can.

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
    """Progress on a terminal's stderr, for work of more than a moment.

    Args:
        title: the work, such as "converting".
        total: the number of units, None if it is not known.
        unit: "bytes", "steps" or others, in the plural.
        quiet: whether to print nothing.
    """

    PATIENCE = 0.3  # seconds before anything is printed

    def __init__(
        self, title: str, total: int | None = None, unit: str = "bytes", *, quiet: bool
    ) -> None:
        self._title = title
        self._total = total
        self._unit = unit
        self._silent = quiet or sys.stderr is None or not sys.stderr.isatty()
        self._done = 0
        self._timer: Timer | None = None
        self._file: IO[str] | None = None
        self._progress: Progress | None = None

    def __enter__(self) -> Meter:
        if not self._silent:
            from threading import Timer

            # A descriptor of our own: that of stderr is replaced while TensorFlow is loaded.
            own = os.dup(sys.stderr.fileno())
            self._file = open_text(own, sys.stderr.encoding, by_line=False, closes=True)
            # A timer, since the first part of the work may take long.
            self._timer = Timer(self.PATIENCE, self._show)
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()
        if self._progress is not None:
            self._progress.stop()
            _SHOWN.clear()
        if self._file is not None:
            self._file.close()

    def add(self, amount: int) -> None:
        """Count some units that are done."""
        self._done += amount
        if self._progress is not None:
            self._progress.update(self._progress.task_ids[0], completed=self._done)

    def over(self, items: Iterable[_Item]) -> Iterator[_Item]:
        """Yield the items, and count each when it is done."""
        for item in items:
            yield item
            self.add(1)

    def _show(self) -> None:
        from rich import progress
        from rich.console import Console

        count: progress.ProgressColumn = progress.DownloadColumn()
        if self._unit != "bytes":
            of = "" if self._total is None else "/{task.total:,}"
            count = progress.TextColumn(f"{{task.completed:,}}{of} {self._unit}")
        shown = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            count,
            progress.TimeElapsedColumn()
            if self._total is None
            else progress.TimeRemainingColumn(compact=True),
            console=Console(file=self._file),
            transient=True,
            redirect_stdout=False,
        )
        assert self._file is not None
        _SHOWN.append(self._file.fileno())
        shown.add_task(self._title, total=self._total, completed=self._done)
        shown.start()
        self._progress = shown
