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


class Joined(Options):
    """The file to write."""

    output: str = option(
        "The file to write; - is stdout.", metavar="FLAT", flags="-o --output", required=True
    )
    kind: str | None = options.KIND
    compress: bool = options.COMPRESS
    strict: bool = options.SWAPPED
    force: bool = options.FORCE


@define(_EPILOG, Joined, Widths, Common, halves="C M [C M]...")
def command(halves: tuple[str, ...], joined: Joined, widths: Widths, common: Common) -> None:
    """Join c and m along the last axis: [..., c0 | m0 | c1 | m1].

    C and M are files with one array each, or FILE:NAME. Files that split wrote record which half
    they are, and are refused in the wrong order.
    """
    output = joined.output
    refuse(
        (len(halves) % 2, f"expected pairs of files, C M, got {count(len(halves), 'file')}"),
        (common.as_json and output == "-", "-o - and --json both use stdout"),
    )
    from lstmstate.cli.report.documents import converted_document
    from lstmstate.files.atomic import Outputs
    from lstmstate.operations.convert import write_state
    from lstmstate.operations.load import open_path
    from lstmstate.operations.split import read_halves
    from lstmstate.state.formats.input_path import InputPath
    from lstmstate.state.formats.registry import kind_to_write
    from lstmstate.state.layouts import LAYOUTS
    from lstmstate.state.stream import Stream

    paths = [InputPath(half) for half in halves]
    wanted, checksums = widths.wanted(None, common), not common.no_checksums
    opened = [open_path(path, checksums=checksums, header=common.header) for path in paths]
    state = read_halves(opened, wanted)
    kind = kind_to_write(output, joined.kind, "npy")
    with (
        Outputs(force=joined.force) as files,
        common.meter("joining", state.structure.nbytes) as meter,
    ):
        stream = Stream(state, LAYOUTS["flat"], on_part=meter.add)
        write_state(stream, files, output, kind, compress=joined.compress)
        common.note_states([stream], strict=joined.strict)
    if common.as_json:
        document = converted_document(list(halves), output, [stream])
        print_document("lstmstate.concat/1", document)
    elif output != "-":
        print_path(output)
