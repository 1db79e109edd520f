"""`lstmstate export`: weights of cells for other programs."""

from __future__ import annotations

from lstmstate.cli import options as shared
from lstmstate.cli import print_path
from lstmstate.cli.batch import print_document
from lstmstate.cli.command import Json, Options, define, option, refuse
from lstmstate.cli.options import Arithmetic, General, Part, Placeholders
from lstmstate.type_names import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lstmstate.model.checkpoint import LSTMCheckpoint
    from lstmstate.operations.export import ExportRequest

_EPILOG = """\b
Examples:
  lstmstate export model.ckpt-7 --to torch -o lstm.npz      a state_dict of torch.nn.LSTM
  lstmstate export model.ckpt-7 --to torch -o lstm.npz --check
  lstmstate export model.ckpt-7 --cell rnn/lstm_cell --to gates -o gates.h5
  lstmstate export model.ckpt-7 --to numpy -o lstm.py       a program of its own
  lstmstate export old.ckpt --to tensorflow -o new.ckpt     in the names of TensorFlow 1.15
  lstmstate export model.ckpt-7 --to arrays --variable '*/kernel' -o kernels.npz
  lstmstate export --list                                   the programs, and what they can take
"""


class ExportOptions(Options):
    """The program to export for, and the file to write."""

    to: str | None = option(
        "The program that takes the weights; see --list.", shared.TARGET_NAMES, "TARGET"
    )
    output: str | None = option("The file to write.", metavar="OUT", flags="-o --output")
    patterns: tuple[str, ...] = option(
        "With --to arrays: only these variables; *, ? and [] as in a shell.",
        metavar="NAME",
        flags="--variable",
    )
    slices: Any = option(
        "With --to arrays: only this part of each, such as 0,:5.",
        shared.slices,
        "SLICE",
        flags="--slice",
    )
    engine: str = option(
        "numpy: take the cells as they were recognised, even if the graph does not confirm them.",
        ("auto", "numpy"),
        default="auto",
        show_default=True,
    )
    compare: bool = option(
        "Run the export in its program on random input; exit with 1 if the results differ from "
        "those of lstmstate run.",
        flags="--check",
    )
    show_targets: bool = option("Print the table of targets.", flags="--list")
    compress: bool = shared.COMPRESS
    force: bool = shared.FORCE


@define(_EPILOG, ExportOptions, Part, Placeholders, Arithmetic, General, ckpt_path="[CKPT]")
def command(
    export_options: ExportOptions,
    part: Part,
    placeholders: Placeholders,
    arithmetic: Arithmetic,
    general: General,
    ckpt_path: str | None = None,
) -> int:
    """Write the weights of LSTM cells of CKPT for another program.

    A README next to OUT shows how to load it, the constants that are folded into the weights, and
    the layout of the state. Cells that the program cannot express are refused. With
    --to arrays the variables are written as they are, and no cell has to be recognised.
    """
    if export_options.show_targets:
        from lstmstate.cli.report.console import sheet
        from lstmstate.cli.report.export_report import targets_document, targets_table

        if general.as_json:
            print_document("lstmstate.export/1", targets_document())
        else:
            targets_table(sheet())
        return 0
    is_arrays = export_options.to == "arrays"
    for_arrays = export_options.patterns or export_options.slices is not None
    refuse(
        (ckpt_path is None, "pass the checkpoint: CKPT"),
        (export_options.to is None, "pass the program: --to TARGET; --list shows them"),
        (export_options.output is None, "pass the file to write: -o OUT"),
        (for_arrays and not is_arrays, "--variable and --slice are for --to arrays"),
        (is_arrays and (part.cell or part.stack), "--to arrays takes variables: pass --variable"),
        (
            is_arrays and (arithmetic.given or placeholders.feeds),
            "--to arrays takes variables as they are: no option of a cell changes them",
        ),
        (is_arrays and export_options.compare, "--check is for the weights of cells"),
        (not is_arrays and export_options.compress, "--compress is for --to arrays"),
        (general.as_json and export_options.output == "-", "-o - and --json both use stdout"),
        (
            not is_arrays and export_options.output == "-",
            "pass a file: the README is written next to it",
        ),
    )
    ckpt = general.open_checkpoint(ckpt_path or "")
    if is_arrays:
        return _export_variables(ckpt, export_options, general)
    from lstmstate.model.network_loader import RunOptions
    from lstmstate.operations.export import ExportRequest

    options = RunOptions(export_options.engine, arithmetic.given, placeholders.fed)
    request = ExportRequest(
        str(export_options.to),
        str(export_options.output),
        part.cell,
        part.stack,
        options,
        arithmetic.strict,
    )
    return _export_cells(ckpt, request, export_options, general)


def _export_variables(ckpt: LSTMCheckpoint, export_options: ExportOptions, general: General) -> int:
    from lstmstate.files.atomic import Outputs
    from lstmstate.operations.export_arrays import export_arrays

    path = str(export_options.output)
    made = export_arrays(
        ckpt, path, export_options.patterns, export_options.slices, compress=export_options.compress
    )
    with (
        Outputs(force=export_options.force) as outputs,
        general.meter("exporting", made.nbytes) as meter,
    ):
        made.write(outputs, meter.add)
    general.note(made.notes)
    if general.as_json:
        names = [one.name for one in made.variables]
        document: Json = {"kind": "variables", "path": ckpt.prefix, "output": path}
        document |= {"target": "arrays", "variables": names}
        print_document("lstmstate.export/1", document)
    elif path != "-":
        print_path(path)
    return 0


def _export_cells(
    ckpt: LSTMCheckpoint, request: ExportRequest, export_options: ExportOptions, general: General
) -> int:
    from lstmstate.cli import DONE, NO
    from lstmstate.cli.report.diff_report import finite
    from lstmstate.files.atomic import Outputs
    from lstmstate.operations.export import export_opened

    made = export_opened(ckpt, request)
    general.note_options(made.loaded.settled, strict=request.strict)
    general.note(made.notes)
    if export_options.compare:
        made.refuse_missing_packages()
    with Outputs(force=export_options.force) as outputs:
        paths = made.write(outputs)
    done = made.done(paths, compare=export_options.compare)
    if general.as_json:
        document = {
            "kind": "cells",
            "path": ckpt.prefix,
            "output": request.output,
            "readme": made.readme,
            "files": paths,
            "target": request.to,
            "cells": [cell.name for cell in made.network.cells],
            "folded": done.folded,
            "largest_difference": finite(done.largest_difference),
            "agrees": done.agrees,
        }
        print_document("lstmstate.export/1", document)
    else:
        for path in paths:
            print_path(path)
        if done.largest_difference is not None:
            words = "agrees" if done else "DIFFERS"
            print(f"largest difference {done.largest_difference:.1e}: {words}")
    return DONE if done else NO
