"""`lstmstate split`: one flat state into two files for each cell."""

from __future__ import annotations

from lstmstate.cli import options, print_path
from lstmstate.cli.batch import print_document
from lstmstate.cli.command import Options, define, option
from lstmstate.cli.options import Common, Widths

_EPILOG = """\b
Examples:
  lstmstate split flat.npy -o c.npy m.npy                     halves
  lstmstate split flat.npy --units 128 --proj 64 -o c.npy m.npy
  lstmstate split flat.npy --cells 24,12 -o c0.npy m0.npy -o c1.npy m1.npy
"""


class SplitOptions(Options):
    """The state to cut, and the files to write."""

    outputs: tuple[tuple[str, str], ...] = option(
        "The two files of a cell, in .npy; once for each cell.",
        metavar="C M",
        flags="-o --output",
        nargs=2,
        required=True,
    )
    from_layout: str | None = options.FROM
    variables: tuple[str, ...] = options.VARIABLES
    strict: bool = options.SWAPPED
    force: bool = options.FORCE


@define(_EPILOG, SplitOptions, Widths, Common, flat="FLAT")
def command(flat: str, split_options: SplitOptions, widths: Widths, common: Common) -> None:
    """Cut a flat state [..., c | m] along its last axis into the files C and M.

    FLAT is any file that convert reads, or - for stdin. Each of the two files records which half it
    is, so that concat can refuse them in the wrong order.
    """
    from lstmstate.cli.report.documents import converted_document
    from lstmstate.operations.split import split_opened
    from lstmstate.state.formats.input_path import InputPath

    wanted, path = widths.wanted(split_options.from_layout, common), InputPath(flat)
    targets = [target for pair in split_options.outputs for target in pair]
    conversion = split_opened(common.open(path), wanted, targets, split_options.variables)
    common.write(conversion, "splitting", force=split_options.force, strict=split_options.strict)
    if common.as_json:
        document = converted_document(flat, targets, conversion.streams)
        print_document("lstmstate.split/1", document)
    else:
        for target in targets:
            print_path(target)
