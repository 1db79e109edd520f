"""The table and the JSON of `lstmstate export --list`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lstmstate.cli.command import Json
from lstmstate.exports.targets import TARGETS, VARIABLES, Target

if TYPE_CHECKING:
    from lstmstate.cli.report.console import Sheet


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
                "takes": _takes(row),
                "adds_to_f": row.adds_to_f,
            }
            for row in TARGETS
        ],
    }


def targets_table(sheet: Sheet) -> None:
    """Print the programs that weights are exported for."""
    rows = [
        [row.key, row.program, " ".join(f".{kind}" for kind in row.kinds), row.state, _takes(row)]
        for row in TARGETS
    ]
    sheet.table(
        [(name, "name") for name in ("target", "program", "files", "state")] + [("takes", "left")],
        rows,
    )


def _takes(row: Target) -> str:
    """Return what its cells may have beyond the plain step."""
    if row is VARIABLES:
        return "any variable"
    has = row.has
    projection = "projection" if has.wide_projection else "projection < units"
    parts = {
        "peepholes": has.peepholes,
        projection: has.narrow_projection,
        "clips": has.clips,
        "layer norm": has.layer_norm,
        "any activation": len(has.activations) > 10,
    }
    return ", ".join(part for part, is_there in parts.items() if is_there) or "plain cells"
