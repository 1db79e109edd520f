"""The table and the JSON of `lstmstate doctor`."""

from __future__ import annotations

from lstmstate.cli.command import Json
from lstmstate.errors import printable
from lstmstate.type_names import TYPE_CHECKING

if TYPE_CHECKING:
    from lstmstate.cli.report.console import Sheet
    from lstmstate.operations.doctor import Installation, Package


def doctor_document(found: Installation) -> Json:
    """Return the parts of an installation as a document."""
    vectors = found.vectors and [{"name": name, "bytes": size} for name, size in found.vectors]
    return {
        "kind": "installation",
        "version": found.version,
        "python": found.python,
        "platform": found.platform,
        "compiled": not found.reason,
        "reason": found.reason or None,
        "file": found.file,
        "vectors": vectors,
        "packages": [one._asdict() for one in found.packages],
    }


def doctor_table(sheet: Sheet, found: Installation) -> None:
    """Print the parts of an installation."""
    sheet.title(f"lstmstate {found.version}")
    sheet.line(f"{found.python} on {found.platform}")
    sheet.heading("Steps that run takes")
    if found.vectors:
        sheet.line(f"  compiled ({found.vectors[0][0]} vectors, abi3)")
        sheet.line(f"  file: {printable(found.file or '')}")
        kinds = ", ".join(f"{name} ({size} bytes)" for name, size in found.vectors)
        sheet.line(f"  vectors of this processor: {kinds}")
    else:
        sheet.line(f"  NumPy: {found.reason}")
    sheet.heading("Packages")
    columns = [("package", "name"), ("version", "left"), ("needed for", "text")]
    sheet.table(columns, map(_row, found.packages))


def _row(one: Package) -> list[str]:
    needs = {
        "required": "everything",
        "extra": f"the extra {one.extra}",
        "export check": "export --check",
    }
    version = one.version or ("unknown" if one.installed else "not installed")
    return [one.name, version, needs[one.need]]
