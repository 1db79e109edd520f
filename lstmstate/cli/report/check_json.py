"""The JSON of `lstmstate check`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from lstmstate.cli.report.flags import with_flags
from lstmstate.operations.check import words_of

if TYPE_CHECKING:
    from lstmstate.operations.check import Finding

SCHEMA = "lstmstate.check/1"


def assertion(finding: Finding) -> str:
    """Return an assertion as it was given: "--units 128"."""
    flag = f"--{finding.name.replace('_', '-')}"
    return flag if finding.value is True else f"{flag} {words_of(finding.value)}"


def problems(finding: Finding) -> list[str]:
    """Return why an assertion does not hold, a line each; one on a name begins with the name."""
    start = "" if finding.name == "has" else f"{assertion(finding)}: "
    return [f"{start}{with_flags(problem)}" for problem in finding.problems]


def print_document(
    results: Sequence[tuple[str, Sequence[Finding]]],
    failed: Sequence[tuple[str, str]],
    *,
    single: bool,
) -> None:
    """Print the document of the one path, or of all."""
    documents = [_document(path, findings) for path, findings in results]
    batch = {
        "schema": SCHEMA,
        "kind": "batch",
        "holds": not failed and all(document["holds"] for document in documents),
        "results": documents,
        "failed": [{"path": path, "error": with_flags(error)} for path, error in failed],
    }
    document = documents[0] if single else batch
    click.echo(json.dumps(document, indent=2, allow_nan=False))


def _document(path: str, findings: Sequence[Finding]) -> dict[str, Any]:
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
