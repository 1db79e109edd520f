"""The JSON of `lstmstate convert`, `split` and `concat`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from lstmstate.cli.report.flags import with_flags

if TYPE_CHECKING:
    from lstmstate.operations.convert import Converted
    from lstmstate.state.state import Structure

Json = dict[str, Any]


def converted_document(
    path: str | list[str], target: str | list[str], done: Sequence[Converted]
) -> Json:
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
                **structure_of(one.watch.structure),
                "arrays": [
                    {"name": plan.name, "shape": list(plan.shape), "dtype": str(plan.dtype)}
                    for plan in one.flow.plans
                ],
                "notes": one.notes,
            }
            for one in done
        ],
    }


def structure_of(structure: Structure) -> Json:
    """Return what a state consists of."""
    return {
        "cells": [{"name": name, "c": widths.c, "m": widths.m} for name, widths in structure.cells],
        "stack": structure.is_stack,
        "lead": list(structure.lead),
        "dtype": str(structure.dtype),
    }


def print_document(
    command: str,
    documents: Sequence[Json],
    failed: Sequence[tuple[str, str]],
    *,
    single: bool = True,
) -> None:
    """Print the document of the one source, or of all."""
    batch = {
        "kind": "batch",
        "results": list(documents),
        "failed": [{"path": path, "error": with_flags(error)} for path, error in failed],
    }
    document = {"schema": f"lstmstate.{command}/1", **(documents[0] if single else batch)}
    click.echo(json.dumps(document, indent=2, allow_nan=False))
