"""The JSON of `lstmstate check`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lstmstate.cli.report.flags import with_flags
from lstmstate.operations.check import words_of

if TYPE_CHECKING:
    from lstmstate.operations.check import Finding

SCHEMA = "lstmstate.check/1"


def assertion(finding: Finding) -> str:
    """Return an assertion as a flag: "--units 128"."""
    flag = f"--{finding.name.replace('_', '-')}"
    return flag if finding.value is True else f"{flag} {words_of(finding.value)}"


def problems(finding: Finding) -> list[str]:
    """Return why an assertion fails, a line each; one on a name begins with the name."""
    start = "" if finding.name == "has" else f"{assertion(finding)}: "
    return [f"{start}{with_flags(problem)}" for problem in finding.problems]


def check_document(path: str, findings: Sequence[Finding]) -> dict[str, Any]:
    """Return the document of one path."""
    return {
        "schema": SCHEMA,
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
