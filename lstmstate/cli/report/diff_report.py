"""The table and the JSON of `lstmstate diff`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lstmstate.cli.command import Json
from lstmstate.cli.report import text
from lstmstate.cli.report.documents import documents_of

if TYPE_CHECKING:
    from lstmstate.cli.report.console import Sheet
    from lstmstate.operations.compare import Difference, Tolerance


def diff_document(a: str, b: str, kind: str, found: list[Difference], tolerance: Tolerance) -> Json:
    """Return the document of a comparison; infinite values are the text "inf"."""
    return {
        "kind": kind,
        "a": a,
        "b": b,
        "same": all(one.verdict == "same" for one in found),
        "tolerance": tolerance._asdict(),
        "tensors": documents_of(found, _difference),
    }


def _difference(one: Difference) -> Json:
    return {
        **one._asdict(),
        "shape": list(one.shape),
        "at": None if one.at is None else list(one.at),
        "max_abs": finite(one.max_abs),
        "max_rel": finite(one.max_rel),
    }


def finite(value: float | None) -> float | str | None:
    """Return a number for JSON, which has no infinity."""
    return value if value is None or math.isfinite(value) else "inf"


def diff_table(
    sheet: Sheet, a: str, b: str, kind: str, found: list[Difference], tolerance: Tolerance
) -> None:
    """Print the number of tensors that are the same, and a row for each that differs."""
    sheet.title(f"{text.name(a)}  against  {text.name(b)}")
    bound = "to the bit" if tolerance.exact else f"rtol {tolerance.rtol:g}, atol {tolerance.atol:g}"
    noun = "tensor" if kind == "checkpoints" else "array"
    alike = sum(one.verdict == "same" for one in found)
    sheet.line(f"{text.count(len(found), noun)}, {alike:,} the same ({bound})")
    differing = [one for one in found if one.verdict != "same"]
    if differing:
        sheet.line()
        columns = [("tensor", "name"), ("shape", "left"), ("what differs", "words")]
        if any(one.verdict == "values" for one in differing):
            columns += [("elements", "right"), ("max abs", "right"), ("max rel", "right")]
            columns += [("at", "left")]
        text.table(sheet, columns, [_row(one)[: len(columns)] for one in differing])


def _row(one: Difference) -> list[str]:
    valued = one.verdict == "values"
    words = f"shape: {one.words}" if one.verdict == "shape" else one.words or one.verdict
    return [
        text.name(one.name),
        text.shape(one.shape),
        words if one.verdict != "dtype" else f"dtype: {one.words}",
        f"{one.differing:,}" if valued else "",
        text.number(one.max_abs) if valued else "",
        text.number(one.max_rel) if valued else "",
        text.shape(one.at) if one.at is not None else "",
    ]
