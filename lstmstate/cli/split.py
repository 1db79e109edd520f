"""`lstmstate split`: one flat state into two files."""

from __future__ import annotations

from typing import Any

import click

from lstmstate.cli import CONTEXT, options

_EPILOG = """\b
Examples:
  lstmstate split flat.npy -o c.npy m.npy                     halves
  lstmstate split flat.npy --units 128 --proj 64 -o c.npy m.npy
  lstmstate split flat.npy --cells 24,12 -o c0.npy m0.npy -o c1.npy m1.npy
"""


@click.command("split", context_settings=CONTEXT, epilog=_EPILOG)
@click.argument("flat", metavar="FLAT", type=click.Path())
@click.option(
    "-o",
    "--output",
    "outputs",
    nargs=2,
    metavar="C M",
    multiple=True,
    required=True,
    help="The two files of a cell, in .npy; once for each cell.",
)
@options.from_layout
@options.header
@options.widths
@options.variables
@options.strict
@options.force
@options.checksums
@options.as_json
@options.common
def command(
    flat: str, outputs: tuple[tuple[str, str], ...], quiet: bool, as_json: bool, **flags: Any
) -> int:
    """Cut a flat state [..., c | m] along its last axis into the files C and M.

    FLAT is any file that convert reads, - for stdin. Each of the two files says in its header
    which half it is, so that concat can refuse them in the wrong order.
    """
    from lstmstate.cli.report.console import Meter
    from lstmstate.cli.report.convert_json import converted_document, print_document
    from lstmstate.files.atomic import Outputs
    from lstmstate.operations.convert import How
    from lstmstate.operations.load import open_path, states_in
    from lstmstate.operations.split import write_halves
    from lstmstate.state.formats.input_path import InputPath
    from lstmstate.state.layouts import LAYOUTS

    verify = options.verify(flags["no_checksums"], quiet=quiet)
    wanted = options.wanted(flags, quiet=quiet)
    source_path = InputPath(flat)
    opened = open_path(source_path, checksums=verify, header=flags["header"])
    options.resolved(flat, opened.ckpt, quiet=quiet)
    (source, *_) = states_in(opened, wanted, flags["variables"])
    targets = [path for pair in outputs for path in pair]
    with (
        Outputs(options.inputs_of([source_path], flags), force=flags["force"]) as files,
        Meter("splitting", source.nbytes, quiet=quiet) as meter,
    ):
        done = write_halves(source, How(LAYOUTS["tuple"], on_part=meter.add), files, targets)
        options.say([done], strict=flags["strict"], quiet=quiet)
    if as_json:
        print_document("split", [converted_document(flat, targets, [done])], [])
    return 0
