"""`lstmstate convert`: a state from one layout or file into another."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from lstmstate.cli import CONTEXT, SOME_FAILED, options, tell
from lstmstate.errors import LstmstateError, printable

if TYPE_CHECKING:
    from lstmstate.state.candidates import Wanted
    from lstmstate.state.formats.input_path import InputPath

_EPILOG = """\b
Examples:
  lstmstate convert flat.npy --to-tuple                    flat.tuple.npz: c and m by name
  lstmstate convert flat.npy --to-tuple --cells 128:64,128 a stack; the first cell projects
  lstmstate convert flat.npy --to-tuple --checkpoint model.ckpt-7
  lstmstate convert flat.tuple.npz --to-flat               and back: the file knows its widths
  lstmstate convert state.npz --to torch -o state.h5
  lstmstate convert model.ckpt-7 --to-tuple -o new.ckpt    the states saved in its variables
  lstmstate convert --to-tuple - -o - < flat.npy > tuple.npz
"""


@click.command("convert", context_settings=CONTEXT, epilog=_EPILOG)
@click.argument(
    "sources", metavar="SRC...", nargs=-1, required=True, type=click.Path(allow_dash=True)
)
@click.option("--to-tuple", is_flag=True, help="Into c and m: state_is_tuple=True.")
@click.option("--to-flat", is_flag=True, help="Into [batch, c | m]: state_is_tuple=False.")
@click.option(
    "--to", multiple=True, type=click.Choice(options.LAYOUT_NAMES), help="Into any layout."
)
@options.from_layout
@options.header
@click.option("-o", "--output", metavar="OUT", help="Where to; its name says what kind of file.")
@click.option("--out-dir", metavar="DIR", help="Where to, for several sources.")
@options.widths
@options.variables
@options.dtype
@options.kind
@options.compress
@options.strict
@options.force
@options.checksums
@options.as_json
@options.common
def command(
    sources: tuple[str, ...],
    to_tuple: bool,
    to_flat: bool,
    to: tuple[str, ...],
    output: str | None,
    out_dir: str | None,
    quiet: bool,
    as_json: bool,
    **flags: Any,
) -> int:
    """Convert a saved state between its layouts, exact to the bit.

    SRC is a state (.npy, .npz, .h5, .pkl, .csv; FILE:NAME picks an array inside), a checkpoint
    with a state in its variables, or - for stdin. Without -o the output lies beside the source,
    and its path is printed. Widths come from the flags, from what a file of ours says of itself,
    or from a checkpoint; one flat state of even width, of which nothing is known, is halved.

    \b
    tuple    c and m of each cell          LSTMStateTuple, state_is_tuple=True
    flat     [..., c0 | m0 | c1 | m1]      state_is_tuple=False
    stacked  [..., 2, units]               tf.stack([c, m], axis=1)
    layered  [L, 2, batch, units]          numpy.save of LSTMStateTuples
    keras    h and c of each cell          return_state of Keras: h is m
    torch    h_n and c_n [L, batch, ...]   torch.nn.LSTM: h is m
    """
    layouts = [*["tuple"] * to_tuple, *["flat"] * to_flat, *to]
    if len(layouts) != 1:
        problem = f"{len(layouts)} layouts are asked for" if layouts else "no layout is asked for"
        raise click.UsageError(f"{problem}: give one of --to-tuple, --to-flat and --to LAYOUT")
    if output is not None and (out_dir is not None or len(sources) > 1):
        raise click.UsageError(
            "-o is for one source; give --out-dir for several, and use split for the files C and M"
        )
    if as_json and output == "-":
        raise click.UsageError("-o - and --json both want stdout")
    job = _Job(layouts[0], sources, output, out_dir, flags, quiet=quiet)
    failed = []
    documents = []
    for source in job.sources:
        try:
            documents.append(job.convert(source))
        except LstmstateError as error:
            if len(sources) == 1:
                raise
            failed.append((source.text, str(error)))
            tell(f"error: {error}")
            continue
        if not as_json and documents[-1]["output"] != "-":
            path = documents[-1]["output"]
            with suppress(BrokenPipeError):  # nobody reads the names; the files are wanted still
                click.echo(printable(path) if sys.stdout.isatty() else path)
    if as_json:
        from lstmstate.cli.report.convert_json import print_document

        print_document("convert", documents, failed, single=len(sources) == 1)
    return SOME_FAILED if failed else 0


class _Job:
    """What was asked for, the same for each of the sources."""

    def __init__(
        self,
        to: str,
        sources: tuple[str, ...],
        output: str | None,
        out_dir: str | None,
        flags: dict[str, Any],
        *,
        quiet: bool,
    ) -> None:
        from lstmstate.files.atomic import report_errors
        from lstmstate.operations.convert import stem_of
        from lstmstate.state.formats.input_path import InputPath
        from lstmstate.state.layouts import LAYOUTS

        if "-" in sources and output is None:
            raise click.UsageError("give -o for what comes from stdin, - for stdout")
        stems = [stem_of(os.path.basename(source)) for source in sources]
        if out_dir is not None:
            if len(set(stems)) < len(stems):
                raise click.UsageError("two sources of one name would have one output in --out-dir")
            with report_errors(out_dir):
                os.makedirs(out_dir, exist_ok=True)
        self._layout = LAYOUTS[to]
        self._output = output
        self._out_dir = out_dir
        self._flags = flags
        self._quiet = quiet
        self.sources = [InputPath(source) for source in sources]
        self._inputs = options.inputs_of(self.sources, flags)
        self._verify = options.verify(flags["no_checksums"], quiet=quiet)
        self._wanted: Wanted | None = None
        self._written: set[str] = set()

    def convert(self, source: InputPath) -> dict[str, Any]:
        """Convert one source; return the document of what was done."""
        from lstmstate.cli.report.console import Meter
        from lstmstate.cli.report.convert_json import converted_document
        from lstmstate.files.atomic import Outputs
        from lstmstate.operations.convert import How, output_name, write_states
        from lstmstate.operations.load import open_path, states_in
        from lstmstate.state.formats.registry import BY_KEY, kind_to_write

        flags = self._flags
        if self._wanted is None:
            self._wanted = options.wanted(flags, quiet=self._quiet)
        opened = open_path(source, checksums=self._verify, header=flags["header"])
        options.resolved(source.text, opened.ckpt, quiet=self._quiet)
        named = flags["kind"] or (self._output and kind_to_write(self._output, None, "npz").key)
        sources = states_in(opened, self._wanted, flags["variables"], every=named == "ckpt")
        first = sources[0]
        structure = first.reading.structure
        names = self._layout.array_names(structure.cells, is_stack=structure.is_stack)
        default = BY_KEY[flags["kind"] or ("npy" if len(names) == 1 else "npz")]
        path, place = source.path, source.place
        if first.ckpt is not None:
            is_one = first.group is not None and (flags["variables"] or place)
            path, place = first.ckpt.prefix, first.group.name if first.group and is_one else None
        target = self._output
        if target is None:
            target = output_name(path, place, self._layout, default, folder=self._out_dir)
        options.refuse_unnamed(target, flags["kind"], ".npy, .npz, .h5, .csv or .ckpt")
        kind = kind_to_write(target, flags["kind"], default.key)
        if flags["compress"] and kind.key not in ("npz", "h5"):
            raise LstmstateError("only .npz and .h5 are compressed", path=target)
        if os.path.realpath(target) in self._written:
            raise LstmstateError("another source was written there just now", path=target)
        with (
            Outputs(self._inputs, force=flags["force"]) as outputs,
            Meter("converting", first.nbytes, quiet=self._quiet) as meter,
        ):
            how = How(self._layout, self._dtype(), flags["compress"], meter.add)
            done = write_states(sources, how, outputs, target, kind)
            options.say(done, strict=flags["strict"], quiet=self._quiet)
        self._written.add(os.path.realpath(target))
        return converted_document(source.text, target, done)

    def _dtype(self) -> Any:
        if self._flags["dtype"] is None:
            return None
        import numpy as np

        return np.dtype(self._flags["dtype"])
