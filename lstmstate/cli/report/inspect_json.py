"""The JSON of `lstmstate inspect`: the schema `lstmstate.inspect/1`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lstmstate.cli.report.flags import with_flags

if TYPE_CHECKING:
    from lstmstate.cells import Cell, Option, Stack
    from lstmstate.cells.gate_stats import Stats
    from lstmstate.errors import LstmstateError
    from lstmstate.model.checkpoint import LSTMCheckpoint
    from lstmstate.model.confirm import Confirmation

SCHEMA = "lstmstate.inspect/1"
Json = dict[str, Any]


def checkpoint_document(
    path: str,
    ckpt: LSTMCheckpoint,
    cells: Iterable[Cell],
    stats: dict[str, list[Stats]] | None,
    damaged: Iterable[LstmstateError] | None,
    confirmed: Mapping[str, Confirmation] | None,
    unrecognised: tuple[Sequence[Cell], Sequence[str]] | None,
) -> Json:
    """Return the document of a checkpoint, of all its cells or of some.

    Args:
        damaged: an error for each value that cannot be read; None where none was tried.
        confirmed: whether the graph confirms each cell; None where it was not asked.
        unrecognised: the cells of no known family, and why other recurrences cannot be run; None
            where the graph was not evaluated.
    """
    shown = list(cells)
    document: Json = {
        "schema": SCHEMA,
        "kind": "checkpoint",
        "path": path,
        "prefix": ckpt.prefix,
        "format": ckpt.format,
        "object_based": ckpt.files.object_based,
        "tensorflow_version": ckpt.tensorflow_version,
        "era": ckpt.era,
        "meta": ckpt.files.location.graph,
        "graph_damage": ckpt.graph_damage,
        "data_files": list(ckpt.files.data_files),
        "cells": [_cell(cell, (confirmed or {}).get(cell.name)) for cell in shown],
        "stacks": [
            _stack(stack.info)
            for stack in ckpt.stacks.values()
            if all(cell in shown for layer in stack.layers for cell in layer)
        ],
        "states": [
            {
                "variable": state.variable,
                "layout": state.layout,
                "shape": list(state.shape),
                "cell": state.cell,
                "stack": state.stack,
                "source": state.source,
                "initial": state.is_start,
            }
            for state in ckpt.states.values()
        ],
        "candidates": ckpt.candidates,
        "recurrences": None if ckpt.recurrences is None else list(ckpt.recurrences),
        "unrecognised": None
        if unrecognised is None
        else {
            "cells": [{"name": cell.name, **_state(cell)} for cell in unrecognised[0]],
            "refused": list(unrecognised[1]),
        },
        "variables": [_variable(ckpt, name) for name in ckpt.variables],
        "damaged": None
        if damaged is None
        else [{"variable": error.tensor, "error": str(error)} for error in damaged],
        "notes": list(ckpt.notes),
    }
    if stats is not None:
        for cell in document["cells"]:
            cell["stats"] = [figures._asdict() for figures in stats[cell["name"]]]
    return document


def batch_document(documents: list[Json], failed: list[tuple[str, str]]) -> Json:
    """Return the document of several paths, in their order, and what failed."""
    return {
        "schema": SCHEMA,
        "kind": "batch",
        "results": documents,
        "failed": [{"path": path, "error": with_flags(error)} for path, error in failed],
    }


def _option(option: Option) -> Json:
    return {"value": option.value, "source": option.source}


def _cell(cell: Cell, confirmation: Confirmation | None) -> Json:
    return {
        "name": cell.name,
        "family": cell.family,
        "alternatives": list(cell.alternatives),
        "era": cell.era,
        "input_size": cell.input_size,
        "num_units": cell.num_units,
        "num_proj": cell.num_proj,
        "dtype": cell.dtype,
        "gate_order": cell.gate_order,
        "peepholes": cell.peepholes,
        "layer_norm": cell.layer_norm,
        **{name: _option(option) for name, option in cell.options.items()},
        "documented": {name: one._asdict() for name, one in cell.documented.items()},
        "layer": cell.layer,
        "direction": cell.direction,
        "parameters": cell.parameters,
        "bytes": cell.nbytes,
        "native_layout": cell.native_layout,
        **_state(cell),
        "variables": {
            role: stored[0] if len(stored) == 1 else list(stored)
            for role, stored in cell.variables.items()
        },
        "shard_axis": cell.shard_axis,
        "number_of_groups": cell.extra.get("number_of_groups"),
        "notes": list(cell.notes),
        "unexplained": [one._asdict() for one in cell.unexplained],
        "confirmed": None if confirmation is None else confirmation.agrees,
        "confirmed_reason": None if confirmation is None else confirmation.reason,
    }


def _state(cell: Cell) -> Json:
    state = cell.state
    return {
        "state": None if state is None else {"c": state.c, "m": state.m, "flat": state.flat},
        "flat_columns": None if state is None else _columns(*state.columns()),
    }


def _columns(c: tuple[int, int], m: tuple[int, int]) -> Json:
    return {"c": list(c), "m": list(m)}


def _stack(stack: Stack) -> Json:
    return {
        "name": stack.name,
        "cells": [[cell.name for cell in layer] for layer in stack.layers],
        "flat": stack.flat,
        "flat_columns": [{"cell": cell.name, **_columns(c, m)} for cell, c, m in stack.columns()],
        "direction": stack.direction,
        "paired_with": stack.paired_with,
    }


def _variable(ckpt: LSTMCheckpoint, name: str) -> Json:
    variable = ckpt.variables[name]
    role, cell = ckpt.role(name)
    found: Json = {
        "name": name,
        "shape": list(variable.shape),
        "dtype": variable.dtype,
        "bytes": variable.nbytes,
        "role": role,
        "cell": cell,
    }
    if variable.full_name:
        found["full_name"] = variable.full_name
    return found
