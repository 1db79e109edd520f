"""`lstmstate concat`: c and m of one cell or more into one flat state."""

from __future__ import annotations

from lstmstate.cli import options, print_path
from lstmstate.cli.batch import print_document
from lstmstate.cli.command import Options, define, option, refuse
from lstmstate.cli.options import Common, Widths
from lstmstate.errors import count

_EPILOG = """\b
Examples:
  lstmstate concat c.npy m.npy -o flat.npy
  lstmstate concat c0.npy m0.npy c1.npy m1.npy -o flat.npy    a stack, cell after cell
  lstmstate concat state.h5:/cell_0/c state.h5:/cell_0/m -o flat.npy
"""


class ConcatOptions(Options):
    """The file to write."""

    output: str = option(
        "The file to write; - is stdout.", metavar="FLAT", flags="-o --output", required=True
    )
    kind: str | None = options.KIND
    compress: bool = options.COMPRESS
    strict: bool = options.SWAPPED
    force: bool = options.FORCE


@define(_EPILOG, ConcatOptions, Widths, Common, halves="C M [C M]...")
def command(
    halves: tuple[str, ...], concat_options: ConcatOptions, widths: Widths, common: Common
) -> None:
    """Join c and m along the last axis: [..., c0 | m0 | c1 | m1].

    C and M are files with one array each, or FILE:NAME. Files that split wrote record which half
    they are, and are refused in the wrong order.
    """
    output = concat_options.output
    refuse(
        (len(halves) % 2, f"expected pairs of files, C M, got {count(len(halves), 'file')}"),
        (common.as_json and output == "-", "-o - and --json both use stdout"),
    )
    from lstmstate.cli.report.documents import converted_document
    from lstmstate.operations.load import open_path
    from lstmstate.operations.split import concat_opened
    from lstmstate.state.formats.input_path import InputPath

    paths = [InputPath(half) for half in halves]
    wanted, checksums = widths.wanted(None, common), not common.no_checksums
    opened = [open_path(path, checksums=checksums, header=common.header) for path in paths]
    conversion = concat_opened(
        opened, wanted, output, kind=concat_options.kind, compress=concat_options.compress
    )
    common.write(conversion, "joining", force=concat_options.force, strict=concat_options.strict)
    if common.as_json:
        document = converted_document(list(halves), output, conversion.streams)
        print_document("lstmstate.concat/1", document)
    elif output != "-":
        print_path(output)
