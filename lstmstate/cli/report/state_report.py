"""The tables and the JSON of `lstmstate inspect` for a state file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lstmstate.cli.command import Json
from lstmstate.cli.report import text
from lstmstate.cli.report.flags import with_flags
from lstmstate.errors import printable

if TYPE_CHECKING:
    from lstmstate.cli.report.console import Sheet
    from lstmstate.state.describe import Contents
    from lstmstate.state.formats.registry import StateKind
    from lstmstate.state.formats.stored_array import StoredArray
    from lstmstate.state.state import Array
    from lstmstate.value_stats import ValueStats

_MOST_VALUES = 2000  # of more, NumPy prints the first and the last
SCHEMA = "lstmstate.inspect/1"
_KNOWN_BY = {
    "file": "recorded in the file",
    "checkpoint": "from the cells of its checkpoint",
    "names": "from the names of its arrays",
    "shape": "guessed from its shape",
}


def state_document(path: str, storage: str, found: Contents, values: Array | None) -> Json:
    """Return the document of a state file.

    Args:
        storage: the key of its format.
        values: the numbers to show of its only array.
    """
    document: Json = {
        "schema": SCHEMA,
        "kind": found.file.foreign.kind if found.file.foreign else "state",
        "path": path,
        "format": {"h5": "hdf5"}.get(storage, storage),
        "arrays": [
            {
                "name": array.name,
                "shape": list(array.shape),
                "dtype": str(array.dtype),
                "bytes": array.nbytes,
                "readings": list(readings),
            }
            for array, readings in zip(found.file.arrays, found.readings, strict=True)
        ],
        "state": None,
        "problem": found.problem and with_flags(found.problem),
    }
    state = found.state
    if state is not None:
        structure = state.structure
        ranges = found.stream.ranges if found.stream else [None] * len(structure.cells)
        document["state"] = {
            "layout": state.layout.name,
            "layout_source": found.layout_source,
            "stack": structure.is_stack,
            "lead": list(structure.lead),
            "dtype": str(structure.dtype),
            "cells": [
                {
                    "name": cell.name,
                    "c": cell.widths.c,
                    "m": cell.widths.m,
                    "range": None
                    if both is None
                    else {half: _ends(one) for half, one in zip("cm", both, strict=True)},
                }
                for cell, both in zip(structure.cells, ranges, strict=True)
            ],
            "notes": [*state.notes, *(found.stream.swapped if found.stream else [])],
        }
    if values is not None:
        document["values"] = _json_values(values.tolist())
    return document


def _json_values(values: Any) -> Any:
    """Return nested lists of numbers for JSON, and anything else as text."""
    if isinstance(values, list):
        return [_json_values(value) for value in values]
    if isinstance(values, float) and not math.isfinite(values):
        return str(values)
    return values if isinstance(values, (int, float)) else printable(str(values))


def state_tables(
    sheet: Sheet, path: str, kind: StateKind, found: Contents, values: Array | None
) -> None:
    """Print the arrays of a state file, the state in them, and values of its only array."""
    _state_tables(sheet, path, kind, found)
    if values is not None:
        import numpy as np

        sheet.heading(f"Values {text.shape(values.shape)}" if values.ndim else "Value")
        shown = np.array2string(values, threshold=_MOST_VALUES, max_line_width=sheet.width - 2)
        for line in shown.splitlines():
            sheet.line(f"  {printable(line)}")


def _state_tables(sheet: Sheet, path: str, kind: StateKind, found: Contents) -> None:
    sheet.title(text.name(path))
    words, arrays, foreign = kind.words, found.file.arrays, found.file.foreign
    sheet.line(f"{words[0].upper()}{words[1:]}: {text.count(len(arrays), 'array')}")
    if arrays:
        sheet.line()
        columns = [("array", "name"), ("shape", "left"), ("dtype", "left"), ("bytes", "right")]
        guessed = found.layout_source in ("names", "shape", None) and foreign is None
        columns += [("could be", "words")] if guessed else []
        rows = map(_array, arrays, found.readings)
        text.table(sheet, columns, [row[: len(columns)] for row in rows])
    if found.state is None:
        sheet.line()
        problem = with_flags(found.problem or "")
        if problem != found.problem:  # it names flags, and inspect has none of them
            problem += " (options of convert)"
        whole = f"{problem[0].upper()}{problem[1:]}"
        sheet.line(f"State unknown: {problem}" if foreign is None else whole)
        return
    _state(sheet, found)


def _array(array: StoredArray, readings: Sequence[str]) -> list[str]:
    return [
        printable(array.name) or "(the array)",
        text.shape(array.shape),
        str(array.dtype),
        text.size(array.nbytes),
        "; or ".join(readings) or text.UNKNOWN,
    ]


def _state(sheet: Sheet, found: Contents) -> None:
    """Print the layout, and for each cell the widths and ranges of c and m."""
    state = found.state
    assert state is not None
    sheet.heading(f"State: {state.layout.name} ({_KNOWN_BY[found.layout_source or 'shape']})")
    lead = ", ".join(map(str, state.structure.lead))
    columns = [("#", "lead"), ("cell", "name"), ("c", "left"), ("m", "left")]
    columns += [("range of c", "left"), ("range of m", "left")] if found.stream else []
    rows = []
    for number, cell in enumerate(state.structure.cells, 1):
        shapes = [f"[{lead}{', ' if lead else ''}{width}]" for width in cell.widths]
        row = [str(number), printable(cell.name) or text.NOTHING, *shapes]
        if found.stream:
            row += [_range(one) for one in found.stream.ranges[number - 1]]
        rows.append(row)
    text.table(sheet, columns, rows)
    if found.stream is None:
        sheet.line("  the values were not read; --stats reads them")
    for line in (*state.notes, *(found.stream.swapped if found.stream else ())):
        sheet.line(f"  {line}")


def _ends(found: ValueStats) -> Json:
    return {
        "low": found.low,
        "high": found.high,
        "nan": bool(found.nan),
        "inf": bool(found.inf),
    }


def _range(found: ValueStats) -> str:
    words = " and ".join(found.words)
    if found.low is None:
        return words or text.NOTHING
    ends = f"{text.number(found.low)} to {text.number(found.high)}"
    return f"{ends}, {words}" if words else ends
