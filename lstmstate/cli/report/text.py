"""Small words that all reports share: numbers, sizes, names that are safe to show."""

from __future__ import annotations

from lstmstate.cells.cell import Option
from lstmstate.errors import count, printable

__all__ = ["NOTHING", "UNKNOWN", "count", "name", "number", "option", "shape", "size"]

NOTHING = "-"  # stands where there is none of a thing
UNKNOWN = "?"  # stands where nothing tells


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


def option(found: Option) -> str:
    """Return an option's value; what nothing tells is a question mark."""
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
