"""Numbers, sizes, names and legends in reports."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lstmstate import errors
from lstmstate.cells.cell import Option, Value
from lstmstate.errors import printable
from lstmstate.type_names import TYPE_CHECKING

if TYPE_CHECKING:
    from lstmstate.cli.report.console import Column, Sheet

count = errors.count
DEFAULT, RECORDED, UNKNOWN, NOTHING = "*", "^", "?", "-"
_LEGENDS = {
    DEFAULT: "not in the files; the documented default",
    RECORDED: "recorded in the checkpoint, in lstmstate/options",
    UNKNOWN: "unknown: not in the files",
    NOTHING: "none, or not used",
}


def legend(rows: Iterable[Sequence[str]]) -> list[str]:
    """Return a line for each mark in some rows of tables.

    >>> legend([["1*", "a-b"], ["?", "2"]])
    ['  * not in the files; the documented default', '  ? unknown: not in the files']
    """
    cells = {cell for row in rows for cell in row}
    shown = {mark for mark in (UNKNOWN, NOTHING) if mark in cells}
    ends = {cell[-1:] for cell in cells}
    shown |= {mark for mark in (DEFAULT, RECORDED) if mark in ends}
    return [f"  {mark} {words}" for mark, words in _LEGENDS.items() if mark in shown]


def table(
    sheet: Sheet,
    columns: Iterable[Column],
    rows: Iterable[Sequence[str]],
    before: Iterable[Sequence[str]] = (),
) -> None:
    """Print a table, and the legend of its marks and of those in the rows `before` it."""
    rows = list(rows)
    sheet.table(columns, rows)
    for line in legend([*before, *rows]):
        sheet.line(line)


def size(nbytes: int | None) -> str:
    """Return a number of bytes in the unit that fits.

    >>> size(348160), size(12), size(None)
    ('348.2 kB', '12 B', '?')
    """
    if nbytes is None:
        return UNKNOWN
    if nbytes < 1000:
        return f"{nbytes} B"
    amount = float(nbytes)
    for unit in ("kB", "MB", "GB", "TB"):
        amount /= 1000
        if amount < 999.95 or unit == "TB":
            break
    return f"{amount:,.1f} {unit}"


def shape(sizes: tuple[int, ...]) -> str:
    """Return a shape as TensorFlow writes it: [169, 512]."""
    return f"[{', '.join(map(str, sizes))}]"


def number(value: float | None) -> str:
    """Return a figure in four significant digits."""
    return NOTHING if value is None else f"{value:.4g}"


def mark(source: str, value: Value) -> str:
    """Return the mark behind the value of an option; "none" has its own."""
    if source == "default":
        return DEFAULT
    return RECORDED if source == "checkpoint" and value is not None else ""


def option(found: Option) -> str:
    """Return an option's value, marked if it is a default or unknown."""
    if found.source == "unknown":
        return UNKNOWN
    if found.value is None:
        return NOTHING
    if isinstance(found.value, bool):
        return "yes" if found.value else "no"
    if isinstance(found.value, float):
        return f"{found.value:g}"
    return str(found.value)


def name(text: str) -> str:
    """Return a name from a file, fit for a screen; the root scope has none."""
    return printable(text) or "(root scope)"
