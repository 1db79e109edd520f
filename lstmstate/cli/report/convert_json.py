"""The JSON of `lstmstate convert`, `split` and `concat`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lstmstate.operations.convert import Converted


def converted_document(
    path: str | list[str], target: str | list[str], done: Sequence[Converted]
) -> dict[str, Any]:
    """Return the document of one source."""
    return {
        "kind": "converted",
        "source": path,
        "output": target,
        "states": [
            {
                "from": one.source.reading.layout.name,
                "to": one.flow.layout.name,
                "variable": one.source.group.name if one.source.group else None,
                "variables": list(one.variables),
                "cells": [
                    {"name": name, "c": widths.c, "m": widths.m}
                    for name, widths in one.watch.structure.cells
                ],
                "stack": one.watch.structure.is_stack,
                "lead": list(one.watch.structure.lead),
                "dtype": str(one.watch.structure.dtype),
                "arrays": [
                    {"name": plan.name, "shape": list(plan.shape), "dtype": str(plan.dtype)}
                    for plan in one.flow.plans
                ],
                "notes": [
                    *one.source.reading.notes,
                    *one.notes,
                    *one.watch.swapped(),
                    *one.watch.notes(),
                    *one.graph_notes,
                ],
            }
            for one in done
        ],
    }
