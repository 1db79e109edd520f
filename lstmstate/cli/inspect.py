"""`lstmstate inspect`: the contents of a checkpoint or a state file."""

from __future__ import annotations

from collections.abc import Sequence

from lstmstate.cli import options
from lstmstate.cli.batch import Batch
from lstmstate.cli.command import Json, Options, define, option, refuse
from lstmstate.cli.options import Common
from lstmstate.errors import LstmstateError, each
from lstmstate.type_names import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lstmstate.cells import Cell
    from lstmstate.cells.weight_stats import GateStats
    from lstmstate.cli.report.console import Sheet
    from lstmstate.model.checkpoint import LSTMCheckpoint
    from lstmstate.operations.load import Opened

_EPILOG = """\b
Examples:
  lstmstate inspect model.ckpt-1000            a prefix, or any of its files
  lstmstate inspect runs/ --variables          a folder: the newest in its `checkpoint` file
  lstmstate inspect runs/ --cell cell_0/lstm_cell --stats
  lstmstate inspect model.ckpt-1000:rnn/lstm_cell/bias --slice :5
  lstmstate inspect model.ckpt-1000 --json | jq '.cells[].state'
  lstmstate inspect -- -6600                   a name that begins with a dash
"""


class Shown(Options):
    """The parts of a checkpoint to show."""

    cell_names: tuple[str, ...] = option(
        "Only this cell: its name, or the end of it. May be given more than once.",
        metavar="NAME",
        flags="--cell",
    )
    variables: bool = option("List all variables too, without slots.")
    stats: bool = option(
        "Read the cells' tensors: min, max, mean, std, zeros, NaN, Inf of each gate."
    )
    slices: Any = option(
        "Print the values of one array, PATH:NAME, in this part of it: 0,:5, or : for all.",
        options.slices,
        "SLICE",
        flags="--slice",
    )
    verify: bool = option(
        "Read every value and its checksum; name each damaged tensor, and exit with 3. Compare "
        "each cell with the graph."
    )


@define(_EPILOG, Shown, Common, paths="PATH...")
def command(paths: tuple[str, ...], shown: Shown, common: Common) -> int:
    """List the LSTM cells in a checkpoint, their state widths, and the states saved in it.

    PATH is a prefix, any file of a checkpoint (.index, .data-..., .meta), the `checkpoint` text
    file, a folder, a SavedModel, a V1 file, or a frozen graph; a state in .npy, .npz, .h5,
    .safetensors, .pt, .pkl or .csv (FILE:NAME picks an array inside, CKPT:NAME a saved state); or -
    for stdin. Nothing is imported or run, and the values of a checkpoint are read only for --stats
    and --verify.
    """
    both = shown.verify and common.no_checksums
    refuse((both, "pass --verify or --no-checksums, not both"))
    batch = Batch(paths)
    inspector = _Inspector(shown, common, batch)
    documents = [one for one in batch.run(inspector.inspect) if one is not None]
    code = batch.exit_code()
    if common.as_json:
        batch.print_documents("lstmstate.inspect/1", documents)
    return code


class _Inspector:
    """The options of one call, and the number of its reports."""

    def __init__(self, shown: Shown, common: Common, batch: Batch) -> None:
        self._shown = shown
        self._common = common
        self._batch = batch
        self._reports = 0

    def inspect(self, path: str) -> Json | None:
        """Print the contents of a path; return the document instead with --json."""
        opened = self._common.open(path)
        if opened.is_model and opened.ckpt is not None:
            if self._shown.slices is not None:
                advice = "name one of its variables, PATH:NAME"
                raise LstmstateError("--slice is for one array", path=path, advice=advice)
            return self._checkpoint(path, opened.ckpt)
        return self._state(path, opened)

    def _checkpoint(self, path: str, ckpt: LSTMCheckpoint) -> Json | None:
        shown = self._shown
        chosen = [ckpt.cell(name) for name in shown.cell_names] or ckpt.cells.values()
        cells = [cell.info for cell in chosen]
        damaged = self._damaged(ckpt) if shown.verify else None
        confirmed = ckpt.confirmations(cells) if shown.verify else None
        is_open = ckpt.recurrences and (shown.verify or not ckpt.cells)
        unrecognised = ckpt.unrecognised() if is_open else None
        stats = self._stats(ckpt, cells) if shown.stats and not damaged else None
        document = None
        if self._common.as_json:
            from lstmstate.cli.report.documents import checkpoint_document

            document = checkpoint_document(
                path, ckpt, cells, stats, damaged, confirmed, unrecognised
            )
        else:
            from lstmstate.cli.report import inspect_table

            sheet = self._next_sheet()
            inspect_table.checkpoint_tables(
                sheet,
                ckpt,
                cells,
                confirmed,
                unrecognised,
                variables=shown.variables,
                narrowed=bool(shown.cell_names),
            )
            if stats is not None:
                inspect_table.stats_tables(sheet, cells, stats)
            if damaged is not None:
                inspect_table.verified_line(sheet, len(ckpt.variables), damaged)
        if damaged:
            self._batch.fail(path, each(*damaged))
        return document

    def _state(self, path: str, opened: Opened) -> Json | None:
        from lstmstate.cli.report.state_report import state_document, state_tables
        from lstmstate.operations.load import arrays_of, values_of
        from lstmstate.state.describe import contents
        from lstmstate.state.formats.registry import BY_KEY

        if self._shown.cell_names:
            raise LstmstateError("--cell is for checkpoints", path=path, advice="leave it out")
        file, wanted = arrays_of(opened)
        found = contents(file, wanted, values=self._shown.stats or self._shown.verify)
        part = self._shown.slices
        values = None if part is None else values_of(opened, part)
        if self._common.as_json:
            storage = file.kind if opened.ckpt is None else opened.ckpt.format
            return state_document(path, storage, found, values)
        state_tables(self._next_sheet(), path, BY_KEY[file.kind], found, values)
        return None

    def _damaged(self, ckpt: LSTMCheckpoint) -> list[LstmstateError]:
        """Return an error for each value that cannot be read."""
        every = list(ckpt.variables.values())
        with self._common.meter("reading the values", len(every), "variables") as meter:
            return [one for each in meter.over(every) if (one := each.damage()) is not None]

    def _stats(self, ckpt: LSTMCheckpoint, cells: Sequence[Cell]) -> dict[str, list[GateStats]]:
        from lstmstate.cells.weight_stats import cell_stats

        with self._common.meter("reading the cells", len(cells), "cells") as meter:
            return {
                cell.name: list(cell_stats(cell, lambda name: ckpt.variables[name].read()))
                for cell in meter.over(cells)
            }

    def _next_sheet(self) -> Sheet:
        """Return a sheet on stdout, with a blank line after the report before."""
        from lstmstate.cli.report.console import sheet

        found = sheet()
        if self._reports:
            found.line()
        self._reports += 1
        return found
