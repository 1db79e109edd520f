"""The JSON documents of `inspect` for checkpoints, of `check`, and of commands that write states.

That of `inspect` for a state file is in `state_report`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

from lstmstate.cli.command import Json
from lstmstate.cli.report.flags import with_flags
from lstmstate.type_names import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lstmstate.cells import Cell, Stack
    from lstmstate.cells.weight_stats import GateStats
    from lstmstate.errors import LstmstateError
    from lstmstate.model.checkpoint import LSTMCheckpoint
    from lstmstate.model.confirm import Confirmation
    from lstmstate.operations.check import Finding
    from lstmstate.state.state_stream import StateStream


_MANY = 1000  # documents that are made one by one


def documents_of(items: Collection[Any], make: Callable[[Any], Json]) -> list[Json]:
    """Return the document of each item; many are made while they are written.

    A few are made at once: the items, and what they belong to, are not kept until then.
    """
    return Documents(items, make) if len(items) > _MANY else list(map(make, items))


class Documents(list[Json]):
    """The documents of many items, each made while it is written: they take much memory.

    They have a length and can be walked through, as the encoder of JSON does, and nothing else.
    """

    def __init__(self, items: Collection[Any], make: Callable[[Any], Json]) -> None:
        super().__init__()
        self._items = items
        self._make = make

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Json]:
        return map(self._make, self._items)


def checkpoint_document(
    path: str,
    ckpt: LSTMCheckpoint,
    cells: Iterable[Cell],
    stats: dict[str, list[GateStats]] | None,
    damaged: Iterable[LstmstateError] | None,
    confirmed: Mapping[str, Confirmation] | None,
    unrecognised: tuple[Sequence[Cell], Sequence[str]] | None,
) -> Json:
    """Return the document of a checkpoint, of all its cells or of some.

    Args:
        damaged: an error for each value that cannot be read; None if no value was read.
        confirmed: whether the graph confirms each cell; None if this was not asked for.
        unrecognised: the cells of no known family, and why other recurrences cannot be run; None
            if the graph was not evaluated.
    """
    shown = list(cells)
    document: Json = {
        "schema": "lstmstate.inspect/1",
        "kind": "checkpoint",
        "path": path,
        "prefix": ckpt.prefix,
        "format": ckpt.format,
        "object_based": ckpt.files.object_based,
        "tensorflow_version": ckpt.tensorflow_version,
        "era": ckpt.era,
        "meta": ckpt.files.location.graph,
        "graph_damage": ckpt.graph_damage,
        "data_files": ckpt.files.data_files,
        "cells": [_cell(cell, (confirmed or {}).get(cell.name)) for cell in shown],
        "stacks": [
            _stack(stack.info)
            for stack in ckpt.stacks.values()
            if all(cell in shown for layer in stack.layers for cell in layer)
        ],
        "states": [
            _fields(state, "variable layout shape cell stack source") | {"initial": state.is_start}
            for state in ckpt.states.values()
        ],
        "candidates": ckpt.candidates,
        "recurrences": None if ckpt.recurrences is None else list(ckpt.recurrences),
        "unrecognised": None
        if unrecognised is None
        else {
            "cells": [{"name": cell.name, **_state(cell)} for cell in unrecognised[0]],
            "refused": [with_flags(reason) for reason in unrecognised[1]],
        },
        "variables": documents_of(ckpt.variables, lambda name: _variable(ckpt, name)),
        "damaged": None
        if damaged is None
        else [{"variable": error.tensor, "error": str(error)} for error in damaged],
        "notes": list(ckpt.notes),
    }
    if stats is not None:
        for cell in document["cells"]:
            cell["stats"] = [_stats(one) for one in stats[cell["name"]]]
    return document


def _stats(part: GateStats) -> Json:
    found = part.values
    counts = _fields(found, "zeros nan inf")
    return {**_fields(part, "role gate"), "size": found.size, **found.moments(), **counts}


def _fields(record: object, names: str) -> Json:
    return {name: getattr(record, name) for name in names.split()}


def _cell(cell: Cell, confirmation: Confirmation | None) -> Json:
    widths = "era input_size num_units num_proj dtype gate_order peepholes layer_norm"
    return {
        **_fields(cell, f"name family alternatives {widths}"),
        **{name: option._asdict() for name, option in cell.options.items()},
        "documented": {name: one._asdict() for name, one in cell.documented.items()},
        **_fields(cell, "layer direction parameters"),
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
        "confirmed_reason": None
        if confirmation is None
        else confirmation.reason and with_flags(confirmation.reason),
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


def assertion(finding: Finding) -> str:
    """Return an assertion as a flag: "--units 128"."""
    from lstmstate.operations.check import words_of

    flag = f"--{finding.name.replace('_', '-')}"
    return flag if finding.value is True else f"{flag} {words_of(finding.value)}"


def problems(finding: Finding) -> list[str]:
    """Return why an assertion fails, a line each; one on a name begins with the name."""
    start = "" if finding.name == "has" else f"{assertion(finding)}: "
    return [f"{start}{with_flags(problem)}" for problem in finding.problems]


def check_document(path: str, findings: Sequence[Finding]) -> Json:
    """Return the document of one path."""
    return {
        "schema": "lstmstate.check/1",
        "kind": "checked",
        "path": path,
        "holds": all(one.holds for one in findings),
        "assertions": [
            {
                "assertion": assertion(one),
                "holds": one.holds,
                "problems": problems(one),
                "note": one.note,
            }
            for one in findings
        ],
    }


def converted_document(
    path: str | list[str], target: str | list[str], done: Sequence[StateStream]
) -> Json:
    """Return the document of one source."""
    return {
        "kind": "converted",
        "source": path,
        "output": target,
        "states": [
            {
                "from": one.state.layout.name,
                "to": one.layout.name,
                "variable": one.state.file.name or None,
                "variables": list(one.variables),
                "cells": [
                    {"name": cell.name, "c": cell.widths.c, "m": cell.widths.m}
                    for cell in one.structure.cells
                ],
                "stack": one.structure.is_stack,
                "lead": list(one.structure.lead),
                "dtype": str(one.structure.dtype),
                "arrays": [
                    {"name": plan.name, "shape": list(plan.shape), "dtype": str(plan.dtype)}
                    for plan in one.plans
                ],
                "notes": one.notes,
            }
            for one in done
        ],
    }
