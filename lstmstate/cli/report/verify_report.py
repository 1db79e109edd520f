"""The table and the JSON of `lstmstate verify`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from lstmstate.cli.command import Json
from lstmstate.cli.report import text
from lstmstate.cli.report.diff_report import finite
from lstmstate.cli.report.flags import with_flags
from lstmstate.errors import printable

if TYPE_CHECKING:
    from lstmstate.cli.report.console import Sheet
    from lstmstate.operations.verify import Trial


def verify_document(
    prefix: str,
    engine: str,
    against: str,
    trials: Sequence[Trial],
    failed: Sequence[Json],
) -> Json:
    """Return the document of the trials and of the inputs that could not be used."""
    return {
        "checkpoint": prefix,
        "engine": engine,
        "against": against,
        "agrees": not failed and all(trial.agrees for trial in trials),
        "trials": [
            {
                "network": trial.network,
                "data": trial.data,
                "steps": trial.steps,
                "agrees": trial.agrees if trial.differences is not None else None,
                "tolerance": trial.tolerance,
                "refused": trial.refused and with_flags(trial.refused),
                "contradiction": trial.contradiction,
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
        "failed": failed,
    }


def verify_table(sheet: Sheet, prefix: str, against: str, trials: Sequence[Trial]) -> None:
    """Print the largest differences of outputs, c and m."""
    shown = [trial for trial in trials if trial.differences is not None]
    agreeing = sum(trial.is_within for trial in shown)
    sheet.title(text.name(prefix))
    bounds = sorted({trial.tolerance for trial in shown if trial.tolerance is not None})
    within = " and ".join(f"{bound:g}" for bound in bounds)
    judge = "TensorFlow" if against == "tensorflow" else "the graph"
    sheet.line(f"{text.count(len(shown), 'run')} against {judge}, {agreeing} within {within}")
    for network, of_network in groupby(shown, key=lambda trial: trial.network):
        sheet.heading(text.name(network))
        trials = list(of_network)
        if trials[0].contradiction:
            sheet.line(f"  The graph contradicts this cell: {trials[0].contradiction}")
        _table(sheet, trials)


def _table(sheet: Sheet, trials: Sequence[Trial]) -> None:
    columns = [("data", "name"), ("steps", "right"), ("values", "name")]
    columns += [("max abs", "right"), ("max rel", "right")]
    if not all(trial.is_within for trial in trials):
        columns.append(("", "left"))
    rows = []
    for trial in trials:
        lead = [printable(trial.data), f"{trial.steps:,}"]
        for one in trial.differences or ():
            figures = [text.number(one.max_abs), text.number(one.max_rel)]
            verdict = "" if one.verdict == "same" else "beyond tolerance"
            name = printable(one.name.removeprefix(f"{trial.network}/"))
            rows.append([*lead, name, *figures, verdict][: len(columns)])
            lead = ["", ""]
    text.table(sheet, columns, rows)
