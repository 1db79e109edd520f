"""The table of `lstmstate convert --list`."""

from __future__ import annotations

from lstmstate.cli.command import Json
from lstmstate.state.layouts import LAYOUTS, Layout
from lstmstate.type_names import TYPE_CHECKING

if TYPE_CHECKING:
    from lstmstate.cli.report.console import Sheet


def layouts_document() -> Json:
    """Return the layouts as a document."""
    return {
        "kind": "layouts",
        "layouts": [
            {
                "name": row.name,
                "words": row.words,
                "program": row.program,
                "arrays": list(row.names),
                "h_first": row.h_first,
            }
            for row in LAYOUTS.values()
        ],
    }


def layouts_table(sheet: Sheet) -> None:
    """Print the layouts, and the programs that have them."""
    columns = [("layout", "name"), ("first", "left"), ("form", "text"), ("program", "text")]
    sheet.table(columns, map(_row, LAYOUTS.values()))


def _row(row: Layout) -> list[str]:
    first = "h" if row.h_first else "c"
    return [row.name, first, row.words.replace(f", {first} first", ""), row.program]
