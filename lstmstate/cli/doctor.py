"""`lstmstate doctor`: the parts of an installation that are in use, and why."""

from __future__ import annotations

from lstmstate.cli.batch import print_document
from lstmstate.cli.command import define
from lstmstate.cli.options import Basics

_EPILOG = """\b
Examples:
  lstmstate doctor
  lstmstate doctor --json
"""


@define(_EPILOG, Basics)
def command(basics: Basics) -> None:
    """Show the versions, the steps that run takes, compiled or of NumPy, and optional packages.

    No package is imported to find its version. Include the output in a report of a problem.
    """
    from lstmstate.cli.report.doctor_report import doctor_document, doctor_table
    from lstmstate.operations.doctor import examine

    found = examine()
    if basics.as_json:
        print_document("lstmstate.doctor/1", doctor_document(found))
        return
    from lstmstate.cli.report.console import sheet

    doctor_table(sheet(), found)
