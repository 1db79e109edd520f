"""`lstmstate concat`: c and m of one cell or more into one flat state."""

from __future__ import annotations

from typing import Any

import click

from lstmstate.cli import CONTEXT, options
from lstmstate.errors import count

_EPILOG = """\b
Examples:
  lstmstate concat c.npy m.npy -o flat.npy
  lstmstate concat c0.npy m0.npy c1.npy m1.npy -o flat.npy    a stack, cell after cell
  lstmstate concat state.h5:/cell_0/c state.h5:/cell_0/m -o flat.npy
"""


@click.command("concat", context_settings=CONTEXT, epilog=_EPILOG)
@click.argument("halves", metavar="C M [C M]...", nargs=-1, required=True, type=click.Path())
@click.option("-o", "--output", metavar="FLAT", required=True, help="Where to; - is stdout.")
@options.header
@options.widths
@options.kind
@options.compress
@options.strict
@options.force
@options.as_json
@options.common
def command(halves: tuple[str, ...], output: str, quiet: bool, as_json: bool, **flags: Any) -> int:
    """Put c and m side by side along the last axis: [..., c0 | m0 | c1 | m1].

    C and M are files of one array each, or FILE:NAME. Files that split wrote know which half they
    are, and are refused in the wrong order.
    """
    if len(halves) % 2:
        given = count(len(halves), "file")
        raise click.UsageError(f"c and m come in pairs, C M, and here: {given}")
    from lstmstate.cli.report.console import Meter
    from lstmstate.cli.report.convert_json import converted_document, print_document
    from lstmstate.files.atomic import Outputs
    from lstmstate.operations.convert import How, write_state
    from lstmstate.operations.split import read_halves
    from lstmstate.state.formats.input_path import InputPath
    from lstmstate.state.formats.registry import kind_to_write
    from lstmstate.state.layouts import LAYOUTS

    if as_json and output == "-":
        raise click.UsageError("-o - and --json both want stdout")
    paths = [InputPath(half) for half in halves]
    source = read_halves(paths, options.wanted(flags, quiet=quiet), header=flags["header"])
    options.refuse_unnamed(output, flags["kind"], ".npy, .npz, .h5, .csv or .ckpt")
    kind = kind_to_write(output, flags["kind"], "npy")
    with (
        Outputs(options.inputs_of(paths, flags), force=flags["force"]) as files,
        Meter("joining", source.nbytes, quiet=quiet) as meter,
    ):
        how = How(LAYOUTS["flat"], compress=flags["compress"], on_part=meter.add)
        done = write_state(source, how, files, output, kind)
        options.say([done], strict=flags["strict"], quiet=quiet)
    if as_json:
        print_document("concat", [converted_document(list(halves), output, [done])], [])
    return 0
