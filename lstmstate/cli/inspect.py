"""`lstmstate inspect`: what is inside a checkpoint or a state file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from lstmstate.cli import CONTEXT, DONE, SOME_FAILED, UNUSABLE, options, tell
from lstmstate.errors import LstmstateError, each

if TYPE_CHECKING:
    from lstmstate.cells import Cell
    from lstmstate.cells.gate_stats import Stats
    from lstmstate.cli.report.console import Sheet
    from lstmstate.model.checkpoint import LSTMCheckpoint
    from lstmstate.operations.load import Opened

_EPILOG = """\b
Examples:
  lstmstate inspect model.ckpt-1000            a prefix, or any of its files
  lstmstate inspect runs/ --variables          a folder: what its `checkpoint` file names
  lstmstate inspect runs/ --cell cell_0/lstm_cell --stats
  lstmstate inspect model.ckpt-1000 --json | jq '.cells[].state'
  lstmstate inspect -- -6600                   a name that begins with a dash
"""


@click.command("inspect", context_settings=CONTEXT, epilog=_EPILOG)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path())
@click.option(
    "--cell",
    "cell_names",
    metavar="NAME",
    multiple=True,
    help="Only this cell: its name, or the end of it. May be given more than once.",
)
@click.option("--variables", is_flag=True, help="List all variables too; slots are folded away.")
@click.option(
    "--stats",
    is_flag=True,
    help="Read the cells' tensors: min, max, mean, std, zeros, NaN, Inf of each gate.",
)
@click.option(
    "--verify",
    is_flag=True,
    help="Read every value and its checksum; name each damaged tensor, and end with 3. Let the "
    "graph confirm each cell.",
)
@options.header
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of tables.")
@click.option(
    "--no-checksums",
    is_flag=True,
    help="Go on where a checksum does not hold, to rescue what can be read.",
)
@click.option("-q", "--quiet", is_flag=True, help="No notes on stderr.")
@click.option("--debug", is_flag=True, help="Show where in the program an error arose.")
def command(
    paths: tuple[str, ...],
    cell_names: tuple[str, ...],
    variables: bool,
    stats: bool,
    verify: bool,
    header: bool | None,
    as_json: bool,
    no_checksums: bool,
    quiet: bool,
    debug: bool,  # noqa: ARG001 - read by the caller, which knows of errors in every command
) -> int:
    """Tell the LSTM cells in a checkpoint, the state that they take, and the states saved in it.

    PATH is whatever is at hand: a prefix, any file of a checkpoint (.index, .data-..., .meta), the
    `checkpoint` text file, a folder, a SavedModel, a V1 file, a frozen graph; or a state in .npy,
    .npz, .h5, .pkl or .csv (FILE:NAME picks an array inside, CKPT:NAME a saved state), or - for
    stdin. Nothing is imported or run, and the values of a checkpoint are not read, except for
    --stats and --verify.
    """
    if verify and no_checksums:
        raise click.UsageError("give --verify or --no-checksums, not both")
    if no_checksums and not quiet:
        tell("note: checksums are not verified; values may be wrong")
    teller = _Teller(cell_names, variables, stats, verify, header, as_json, not no_checksums, quiet)
    for path in paths:
        try:
            teller.tell(path)
        except LstmstateError as error:
            if len(paths) == 1:
                raise
            teller.fail(path, each(error))
    if as_json:
        teller.write_json(single=len(paths) == 1)
    if not teller.failed:
        return DONE
    return SOME_FAILED if len(paths) > 1 else UNUSABLE


class _Teller:
    """What was asked for, and what is gathered for the JSON of several paths."""

    def __init__(
        self,
        cell_names: tuple[str, ...],
        variables: bool,
        stats: bool,
        verify: bool,
        header: bool | None,
        as_json: bool,
        checksums: bool,
        quiet: bool,
    ) -> None:
        self._cell_names = cell_names
        self._variables = variables
        self._stats = stats
        self._verify = verify
        self._header = header
        self._as_json = as_json
        self._checksums = checksums
        self._quiet = quiet
        self._sheet: Sheet | None = None
        self._documents: list[dict[str, Any]] = []
        self.failed: list[tuple[str, str]] = []

    def tell(self, path: str) -> None:
        """Print, or gather, what is in one path."""
        from lstmstate.operations.load import open_path

        opened = open_path(path, checksums=self._checksums, header=self._header)
        options.resolved(path, opened.ckpt, quiet=self._quiet)
        if opened.is_model and opened.ckpt is not None:
            self._tell_checkpoint(path, opened.ckpt)
        else:
            self._tell_state(path, opened)

    def fail(self, path: str, errors: Iterable[LstmstateError]) -> None:
        """Say what cannot be used of one path, and remember it for the exit code and the JSON."""
        for error in errors:
            self.failed.append((path, str(error)))
            tell(f"error: {error}")

    def write_json(self, *, single: bool) -> None:
        """Print the document of the one path, or of all."""
        import json

        from lstmstate.cli.report.inspect_json import batch_document

        document = self._documents[0] if single else batch_document(self._documents, self.failed)
        click.echo(json.dumps(document, indent=2, allow_nan=False))

    def _tell_checkpoint(self, path: str, ckpt: LSTMCheckpoint) -> None:
        chosen = [ckpt.cell(name) for name in self._cell_names] or ckpt.cells.values()
        cells = [cell.info for cell in chosen]
        damaged = self._damaged(ckpt) if self._verify else None
        confirmed = ckpt.confirmations(cells) if self._verify else None
        is_open = ckpt.recurrences and (self._verify or not ckpt.cells)
        unrecognised = ckpt.unrecognised() if is_open else None
        figures = self._figures(ckpt, cells) if self._stats and not damaged else None
        if self._as_json:
            from lstmstate.cli.report.inspect_json import checkpoint_document

            self._documents.append(
                checkpoint_document(path, ckpt, cells, figures, damaged, confirmed, unrecognised)
            )
            self.fail(path, damaged or [])
            return
        from lstmstate.cli.report.inspect_table import (
            checkpoint_tables,
            stats_tables,
            verified_line,
        )

        sheet = self._next_sheet()
        narrowed = bool(self._cell_names)
        checkpoint_tables(
            sheet,
            ckpt,
            cells,
            confirmed,
            unrecognised,
            variables=self._variables,
            narrowed=narrowed,
        )
        if figures is not None:
            stats_tables(sheet, cells, figures)
        if damaged is not None:
            verified_line(sheet, len(ckpt.variables), damaged)
            self.fail(path, damaged)

    def _tell_state(self, path: str, opened: Opened) -> None:
        from lstmstate.cli.report.state_report import state_document, state_tables
        from lstmstate.operations.load import arrays_of
        from lstmstate.state.describe import contents
        from lstmstate.state.formats.registry import BY_KEY

        file, wanted = arrays_of(opened)
        found = contents(file, wanted, values=self._stats or self._verify)
        if self._as_json:
            storage = file.kind if opened.ckpt is None else opened.ckpt.format
            self._documents.append(state_document(path, storage, found))
        else:
            state_tables(self._next_sheet(), path, BY_KEY[file.kind], found)

    def _damaged(self, ckpt: LSTMCheckpoint) -> list[LstmstateError]:
        """Return an error for each value that cannot be read."""
        from lstmstate.cli.report.console import tracked

        every = list(ckpt.variables.values())
        read = every if self._quiet else tracked(every, "reading the values")
        return [error for variable in read if (error := variable.damage()) is not None]

    def _figures(self, ckpt: LSTMCheckpoint, cells: Sequence[Cell]) -> dict[str, list[Stats]]:
        from lstmstate.cells.gate_stats import cell_stats
        from lstmstate.cli.report.console import tracked

        return {
            cell.name: list(cell_stats(cell, lambda name: ckpt.variables[name].read()))
            for cell in (cells if self._quiet else tracked(cells, "reading the cells"))
        }

    def _next_sheet(self) -> Sheet:
        """Return the sheet of stdout; a blank line stands between two reports."""
        from lstmstate.cli.report.console import sheet

        if self._sheet is None:
            self._sheet = sheet()
        else:
            self._sheet.line()
        return self._sheet
