"""The tables and the JSON of `lstmstate run`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lstmstate.cells.cell import UNKNOWN, Cell, Option
from lstmstate.cli.command import Json
from lstmstate.cli.report import text
from lstmstate.engines.run_options import RUN_OPTIONS
from lstmstate.errors import printable
from lstmstate.value_stats import ValueStats, stats_of

if TYPE_CHECKING:
    from lstmstate.cli.report.console import Sheet
    from lstmstate.model.loaded_network import Loaded
    from lstmstate.operations.run import RunResult
    from lstmstate.operations.sequences import Sequences


def run_document(
    loaded: Loaded,
    prefix: str,
    path: str,
    sequences: Sequences,
    done: RunResult,
    *,
    initial_state: tuple[str, str | None],
    written: tuple[str | None, str | None],
) -> Json:
    """Return the document of one input; the figures of outputs are null if none were taken.

    Args:
        initial_state: its source, "zero", "file" or "carried", and its path.
        written: the paths of the outputs and of the state.
    """
    lengths = sequences.lengths
    steps = done.steps if lengths is None else int(lengths.sum())
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
        "valid_steps": steps if lengths is not None else steps * sequences.batch,
        "outputs": {
            "shape": list(sequences.shape(loaded.network.output_shape)),
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
        "initial_state": dict(zip(("source", "path"), initial_state, strict=True)),
        "output": written[0],
        "state_output": written[1],
    }


def _cell(cell: Cell, options: Mapping[str, Option]) -> Json:
    names = ("name", "family", "input_size", "num_units", "num_proj", "direction")
    found = {name: getattr(cell, name) for name in names}
    return found | {name: option._asdict() for name, option in options.items()}


def _half(values: Any) -> Json:
    return {"shape": list(values.shape), **_stats(stats_of(values))}


def _stats(found: ValueStats) -> Json:
    return {**found.moments(), "not_finite": found.not_finite}


def run_table(sheet: Sheet, document: Json) -> None:
    """Print the cells, and the figures of the outputs and of the final state."""
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
    text.table(sheet, columns, [_row(number, cell) for number, cell in enumerate(cells, 1)])
    sheet.heading("Outputs, and the state after the last step")
    shown = [("", "outputs", outputs)]
    for number, cell in enumerate(document["state"], 1):
        shown += [(str(number), half, cell[half]) for half in "cm"]
    figures = [("", "lead"), ("values", "name"), ("shape", "left")]
    figures += [(name, "right") for name in _FIGURES]
    if any(values["not_finite"] for *_, values in shown):
        figures.append(("NaN or Inf", "right"))
    rows = []
    for lead, of, values in shown:
        row = [lead, of, text.shape(tuple(values["shape"]))]
        row += [text.number(values[name]) for name in _FIGURES]
        rows.append([*row, f"{values['not_finite']:,}"][: len(figures)])
    text.table(sheet, figures, rows)


_FIGURES = ("min", "max", "mean", "std")
_SHOWN = ("forget_bias", "cell_clip", "proj_clip", "activation")


def _row(number: int, cell: Json) -> list[str]:
    options = [_option(cell[name]) for name in _SHOWN]
    if cell["recurrent_activation"]["value"] != "sigmoid":
        options[-1] += f", gates {_option(cell['recurrent_activation'])}"
    return [str(number), text.name(cell["name"]), cell["family"], *options]


def _option(option: Json) -> str:
    return text.option(Option(**option)) + text.mark(option["source"], option["value"])
