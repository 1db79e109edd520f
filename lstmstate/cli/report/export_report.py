"""The table and the JSON of `lstmstate export --list`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lstmstate.cells.activations import ACTIVATIONS
from lstmstate.cli.command import Json
from lstmstate.exports.targets import ARRAYS, TARGETS, VARIABLES, ExportTarget

if TYPE_CHECKING:
    from lstmstate.cli.report.console import Column, Sheet


def targets_document() -> Json:
    """Return the document of the programs that weights are exported for."""
    return {
        "kind": "targets",
        "targets": [
            {
                "name": row.key,
                "program": row.program,
                "files": list(row.kinds),
                "state": row.state,
                "names": row.names,
                "takes": "; ".join(_takes(row)),
                "adds_to_f": row.adds_to_f,
            }
            for row in TARGETS
        ],
    }


def targets_table(sheet: Sheet) -> None:
    """Print the programs that weights are exported for."""
    rows = [
        [row.key, row.program, _files(row), row.state, ", ".join(_takes(row))] for row in TARGETS
    ]
    columns: list[Column] = [(name, "left") for name in ("program", "files", "state")]
    sheet.table([("target", "lead"), *columns, ("takes", "list")], rows)
    kinds = ", ".join(f".{kind}" for kind in ARRAYS)
    sheet.line(f"  arrays: {kinds}; state: a layout of convert --list")


def _files(row: ExportTarget) -> str:
    if not set(ARRAYS) <= set(row.kinds):
        return " ".join(f".{kind}" for kind in row.kinds)
    return " ".join(["arrays", *(f".{kind}" for kind in row.kinds if kind not in ARRAYS)])


def _takes(row: ExportTarget) -> list[str]:
    """Return what its cells may have beyond the plain step."""
    if row is VARIABLES:
        return ["any variable"]
    has, kinds = row.has, len(row.has.activations)
    projection = "projection" if has.wide_projection else "projection < units"
    parts = {
        "peepholes": has.peepholes,
        projection: has.narrow_projection,
        "clips": has.clips,
        "layer norm": has.layer_norm,
        "any activation" if kinds == len(ACTIVATIONS) else f"{kinds} activations": kinds > 1,
    }
    return [part for part, is_there in parts.items() if is_there] or ["plain cells"]
