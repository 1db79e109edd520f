"""`lstmstate state`: the zero state or the initial state of a network."""

from __future__ import annotations

from lstmstate.cli import options, print_path
from lstmstate.cli.batch import print_document
from lstmstate.cli.command import Options, define, option, refuse
from lstmstate.cli.options import General, Part, Placeholders

_EPILOG = """\b
Examples:
  lstmstate state model.ckpt-7 --zeros --batch 8 -o zeros.npz
  lstmstate state model.ckpt-7 --initial -o start.npz        the one that the graph starts from
  lstmstate state model.ckpt-7 --zeros --to torch -o h_c.pt
"""


class NewState(Options):
    """The state to make, and the file to write."""

    output: str = option(
        "The file to write; - is stdout.", metavar="OUT", flags="-o --output", required=True
    )
    zeros: bool = option("Write zeros.")
    initial: bool = option("Write the initial state in the graph.")
    batch: int | None = option("The number of rows.", options.width, "N")
    steps: int | None = option(
        "The number of steps of x, if the graph's initial state depends on it.",
        options.positive,
        "N",
    )
    to: str = option(
        "The layout: see convert --list.  [default: tuple]",
        options.LAYOUT_NAMES,
        "LAYOUT",
        default="tuple",
    )
    kind: str | None = options.KIND
    compress: bool = options.COMPRESS
    force: bool = options.FORCE

    def check(self) -> None:
        """Raise a UsageError if they contradict one another."""
        refuse(
            (self.zeros == self.initial, "pass one of --zeros and --initial"),
            (self.steps is not None and not self.initial, "--steps is for --initial"),
        )


@define(_EPILOG, NewState, Part, Placeholders, General, ckpt_path="CKPT")
def command(
    ckpt_path: str, new_state: NewState, part: Part, placeholders: Placeholders, general: General
) -> None:
    """Write a state for the cells of CKPT: zeros, or the initial state in the graph.

    The values have the dtype that the network computes in. The initial state has --batch rows, by
    default as many as in the graph, or one. It is zeros if the graph is fed with it, and unknown
    without a graph.
    """
    refuse((general.as_json and new_state.output == "-", "-o - and --json both use stdout"))
    from lstmstate.cli.report.documents import converted_document
    from lstmstate.operations.make_state import StateRequest, state_of_network

    ckpt = general.open_checkpoint(ckpt_path)
    request = StateRequest(
        new_state.output,
        new_state.to,
        new_state.batch,
        new_state.initial,
        new_state.steps,
        part.cell,
        part.stack,
        new_state.kind,
        new_state.compress,
        placeholders.fed,
    )
    conversion = state_of_network(ckpt, request)
    general.write(conversion, "writing", force=new_state.force, strict=False)
    if general.as_json:
        document = converted_document(ckpt.prefix, new_state.output, conversion.streams)
        print_document("lstmstate.state/1", document)
    elif new_state.output != "-":
        print_path(new_state.output)
