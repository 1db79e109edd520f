"""What `lstmstate verify` shows: how far our arithmetic is from TensorFlow's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lstmstate.errors import printable
from lstmstate.report import text
from lstmstate.report.diff_report import finite

if TYPE_CHECKING:
    from lstmstate.report.console import Sheet
    from lstmstate.running.verify import Trial

SCHEMA = "lstmstate.verify/1"


def verify_document(prefix: str, engine: str, trials: Sequence[Trial]) -> dict[str, Any]:
    """Return the document of what was tried."""
    return {
        "schema": SCHEMA,
        "checkpoint": prefix,
        "engine": engine,
        "agrees": all(trial.agrees for trial in trials),
        "trials": [
            {
                "network": trial.network,
                "data": trial.data,
                "steps": trial.steps,
                "agrees": trial.agrees if trial.differences is not None else None,
                "refused": trial.refused,
                "differences": [
                    {
                        "of": one.name,
                        "agrees": one.verdict == "same",
                        "max_abs": finite(one.max_abs),
                        "max_rel": finite(one.max_rel),
                    }
                    for one in trial.differences or ()
                ],
            }
            for trial in trials
        ],
    }


def verify_table(sheet: Sheet, prefix: str, trials: Sequence[Trial]) -> None:
    """Print the largest differences of outputs, c and m."""
    shown = [trial for trial in trials if trial.differences is not None]
    agreeing = sum(trial.agrees for trial in shown)
    sheet.title(text.name(prefix))
    sheet.line(f"{text.count(len(shown), 'run')} beside TensorFlow, {agreeing} within tolerance")
    columns = [("cell", "name"), ("data", "left"), ("steps", "right"), ("of", "left")]
    columns += [("max abs", "right"), ("max rel", "right"), ("", "left")]
    rows = []
    for trial in shown:
        first = [text.name(trial.network), printable(trial.data), f"{trial.steps:,}"]
        for number, one in enumerate(trial.differences or ()):
            lead = first if number == 0 else ["", "", ""]
            verdict = "" if one.verdict == "same" else "beyond tolerance"
            figures = [text.number(one.max_abs), text.number(one.max_rel)]
            rows.append([*lead, printable(one.name), *figures, verdict])
    sheet.line()
    sheet.table(columns, rows)
