"""`lstmstate export`: weights of cells for other programs."""

from __future__ import annotations

from lstmstate.cli import options as shared
from lstmstate.cli import print_path
from lstmstate.cli.batch import print_document
from lstmstate.cli.command import Options, define, option, refuse
from lstmstate.cli.options import Arithmetic, Common, Part

_EPILOG = """\b
Examples:
  lstmstate export model.ckpt-7 --to torch -o lstm.npz      a state_dict of torch.nn.LSTM
  lstmstate export model.ckpt-7 --to torch -o lstm.npz --check
  lstmstate export model.ckpt-7 --cell rnn/lstm_cell --to gates -o gates.h5
  lstmstate export model.ckpt-7 --to numpy -o lstm.py       a program of its own
  lstmstate export old.ckpt --to tensorflow -o new.ckpt     in the names of TensorFlow 1.15
  lstmstate export --list                                   the programs, and what they can take
"""
_TOLERANCE = 2e-6  # of a check in float32, relative to the largest number


class ExportOptions(Options):
    """The program to export for, and the file to write."""

    to: str | None = option("The program that takes the weights; see --list.", metavar="TARGET")
    output: str | None = option("The file to write.", metavar="OUT", flags="-o --output")
    compare: bool = option(
        "Run the export in its program on random input; exit with 1 if it differs from ours.",
        flags="--check",
    )
    show_targets: bool = option("Print the table of targets.", flags="--list")
    force: bool = shared.FORCE


@define(_EPILOG, ExportOptions, Part, Arithmetic, Common, ckpt_path="[CKPT]")
def command(
    export_options: ExportOptions,
    part: Part,
    arithmetic: Arithmetic,
    common: Common,
    ckpt_path: str | None = None,
) -> int:
    """Write the weights of LSTM cells of CKPT for another program.

    A README next to OUT shows how to load it, the constants that are folded into the weights, and
    the layout of the state. Cells that the program cannot express are refused.
    """
    from lstmstate.cli import DONE, NO

    if export_options.show_targets:
        from lstmstate.cli.report.console import sheet
        from lstmstate.cli.report.export_report import targets_table

        targets_table(sheet())
        return DONE
    to, output = export_options.to, export_options.output
    refuse(
        (ckpt_path is None, "pass the checkpoint: CKPT"),
        (to is None, "pass the program: --to TARGET; --list shows them"),
        (output is None, "pass the file to write: -o OUT"),
    )
    assert ckpt_path is not None and to is not None and output is not None
    from lstmstate.files.atomic import Outputs
    from lstmstate.model.network_loader import RunOptions
    from lstmstate.operations.export import ExportRequest, export_opened

    ckpt = common.open_checkpoint(ckpt_path)
    common.note_choice(ckpt_path, ckpt)
    options = RunOptions(given=arithmetic.given)
    made = export_opened(ckpt, ExportRequest(to, output, part.cell, part.stack, options))
    common.note_options(made.loaded.settled, strict=arithmetic.strict)
    common.note(made.loaded.notes)
    with Outputs(force=export_options.force) as outputs:
        made.write(outputs)
    difference = made.check() if export_options.compare else None
    agrees = difference is None or difference <= _TOLERANCE
    if common.as_json:
        document = {
            "path": ckpt.prefix,
            "output": output,
            "readme": made.readme,
            "target": to,
            "cells": [cell.name for cell in made.network.cells],
            "largest_difference": difference,
        }
        print_document("lstmstate.export/1", document)
    else:
        print_path(output)
        print_path(made.readme)
        if difference is not None:
            print(f"largest difference {difference:.1e}: {'agrees' if agrees else 'DIFFERS'}")
    return DONE if agrees else NO
