"""What `lstmstate run` tells of a run: the document, and the tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lstmstate.cells.cell import UNKNOWN, Cell, Option
from lstmstate.cli.report import text
from lstmstate.engines.options import RUN_OPTIONS
from lstmstate.errors import printable
from lstmstate.value_stats import ValueStats, stats_of

if TYPE_CHECKING:
    from lstmstate.cli.report.console import Sheet
    from lstmstate.model.loaded_network import Loaded
    from lstmstate.operations.run import Input, RunResult

Json = dict[str, Any]


def run_document(loaded: Loaded, prefix: str, path: str, given: Input, done: RunResult) -> Json:
    """Return the document of one input; the figures of outputs are null where none were taken."""
    sequences = given.sequences
    steps = done.steps if given.lengths is None else int(given.lengths.sum())
    return {
        "kind": "run",
        "checkpoint": prefix,
        "network": loaded.route.name,
        "engine": loaded.engine,
        "confirmed": loaded.confirmed,
        "cells": [_cell(one.cell, one.options) for one in loaded.settled]
        or [_cell(cell, dict.fromkeys(RUN_OPTIONS, UNKNOWN)) for cell in loaded.route.cells],
        "input": path,
        "batch": sequences.batch,
        "steps": sequences.steps,
        "valid_steps": steps if given.lengths is not None else steps * sequences.batch,
        "outputs": {
            "shape": list(given.shape(loaded.network.output_shape)),
            "dtype": str(loaded.network.dtype),
            **_stats(done.outputs or ValueStats()),
        },
        "state": [
            {
                "cell": cell.cell,
                **{half: _half(values) for half, values in zip("cm", cell, strict=True)},
            }
            for cell in done.state.cells
        ],
        "seconds": round(done.seconds, 6),
        "steps_per_second": round(sequences.steps / done.seconds, 1) if done.seconds else None,
    }


def _cell(cell: Cell, options: Mapping[str, Option]) -> Json:
    return {
        "name": cell.name,
        "family": cell.family,
        "input_size": cell.input_size,
        "num_units": cell.num_units,
        "num_proj": cell.num_proj,
        "direction": cell.direction,
        **{name: option._asdict() for name, option in options.items()},
    }


def _half(values: Any) -> Json:
    return {"shape": list(values.shape), **_stats(stats_of(values))}


def _stats(found: ValueStats) -> Json:
    return {**found.moments(), "not_finite": found.not_finite}


def run_table(sheet: Sheet, document: Json) -> None:
    """Print how a run went: the outputs' figures, and the final state."""
    cells, outputs = document["cells"], document["outputs"]
    sheet.title(printable(document["input"]))
    batch, steps, valid = (document[name] for name in ("batch", "steps", "valid_steps"))
    padded = f", {valid:,} of them valid," if valid < batch * steps else ""
    sheet.line(
        f"{text.count(batch, 'sequence')} of {text.count(steps, 'step')}{padded} through "
        f"{text.count(len(cells), 'cell')} of {printable(document['checkpoint'])}"
    )
    sheet.heading("Cells")
    columns = [("#", "lead"), ("cell", "name"), ("family", "left"), ("forget_bias", "right")]
    columns += [("cell_clip", "right"), ("proj_clip", "right"), ("activation", "left")]
    sheet.table(columns, [_row(number, cell) for number, cell in enumerate(cells, 1)])
    if any(_is_assumed(cell) for cell in cells):
        sheet.line("  * the default: the files do not record it")
    sheet.heading("Outputs, and the state after the last step")
    shown = [("", "outputs", outputs)]
    for number, cell in enumerate(document["state"], 1):
        shown += [(str(number), half, cell[half]) for half in "cm"]
    figures = [("", "lead"), ("of", "name"), ("shape", "left")]
    figures += [(name, "right") for name in _FIGURES]
    if any(told["not_finite"] for *_, told in shown):
        figures.append(("NaN or Inf", "right"))
    rows = []
    for lead, of, told in shown:
        row = [lead, of, text.shape(tuple(told["shape"])), *_figures(told)]
        rows.append([*row, f"{told['not_finite']:,}"][: len(figures)])
    sheet.table(figures, rows)


_FIGURES = ("min", "max", "mean", "std")
_SHOWN = ("forget_bias", "cell_clip", "proj_clip", "activation")


def _row(number: int, cell: Json) -> list[str]:
    told = [_option(cell[name]) for name in _SHOWN]
    if cell["recurrent_activation"]["value"] != "sigmoid":
        told[-1] += f", gates {_option(cell['recurrent_activation'])}"
    return [str(number), text.name(cell["name"]), cell["family"], *told]


def _option(told: Json) -> str:
    mark = "*" if told["source"] == "default" else ""
    return text.option(Option(**told)) + mark


def _is_assumed(cell: Json) -> bool:
    return any(cell[name]["source"] == "default" for name in (*_SHOWN, "recurrent_activation"))


def _figures(told: Json) -> list[str]:
    return [text.number(told[name]) for name in _FIGURES]
