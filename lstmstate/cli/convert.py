"""`lstmstate convert`: a state from one layout or file into another."""

from __future__ import annotations

import os
from functools import cache

from lstmstate.cli import DONE, options, print_path
from lstmstate.cli.batch import Batch, print_document
from lstmstate.cli.command import Json, Options, define, option, refuse
from lstmstate.cli.options import Common, Widths
from lstmstate.errors import LstmstateError

_EPILOG = """\b
Examples:
  lstmstate convert flat.npy --to-tuple                    flat.tuple.npz: c and m by name
  lstmstate convert flat.npy --to-tuple --cells 128:64,128 a stack; the first cell projects
  lstmstate convert flat.npy --to-tuple --checkpoint model.ckpt-7
  lstmstate convert flat.tuple.npz --to-flat               and back: the file has its widths
  lstmstate convert state.npz --to torch -o state.h5
  lstmstate convert model.ckpt-7 --to-tuple -o new.ckpt    the states saved in its variables
  lstmstate convert --to-tuple - -o - < flat.npy > tuple.npz
  lstmstate convert --list                                 the layouts
"""


class Target(Options):
    """The states to take, and the layout, the path and the format of the output."""

    to_tuple: bool = option("Into c and m: state_is_tuple=True.")
    to_flat: bool = option("Into [batch, c | m]: state_is_tuple=False.")
    to: tuple[str, ...] = option("Into any layout; see --list.", options.LAYOUT_NAMES, "LAYOUT")
    output: str | None = option(
        "The file to write; its name shows the kind of file.", metavar="OUT", flags="-o --output"
    )
    out_dir: str | None = option("The folder to write into, a file per source.", metavar="DIR")
    dtype: str | None = option(
        "Write the values in another precision.", ("float16", "float32", "float64")
    )
    kind: str | None = options.KIND
    compress: bool = options.COMPRESS
    strict: bool = options.SWAPPED
    force: bool = options.FORCE
    from_layout: str | None = options.FROM
    variables: tuple[str, ...] = options.VARIABLES
    show_layouts: bool = option("Print the table of layouts.", flags="--list")

    @property
    def layouts(self) -> list[str]:
        """The layouts asked for."""
        return [*["tuple"] * self.to_tuple, *["flat"] * self.to_flat, *self.to]

    def check(self) -> None:
        """Raise a UsageError if there is not one layout."""
        if self.show_layouts:
            return
        asked = f"{len(self.layouts)} layouts are" if self.layouts else "no layout is"
        one = "pass one of --to-tuple, --to-flat and --to LAYOUT"
        refuse((len(self.layouts) != 1, f"{asked} asked for: {one}"))


@define(_EPILOG, Target, Widths, Common, sources="[SRC...]")
def command(sources: tuple[str, ...], target: Target, widths: Widths, common: Common) -> int:
    """Convert a saved state between its layouts, exact to the bit.

    SRC is a state (.npy, .npz, .h5, .safetensors, .pt, .pkl, .csv; FILE:NAME picks an array
    inside), a checkpoint with a state in its variables, or - for stdin. Without -o the output is
    written next to the source, and its path is printed. The widths come from the flags, from a
    file that lstmstate wrote, or from a checkpoint; a flat state of even width without any of
    these is cut in half. A new checkpoint, -o NAME.ckpt, takes all states of the old one.

    \b
    tuple    c and m of each cell          LSTMStateTuple, state_is_tuple=True
    flat     [..., c0 | m0 | c1 | m1]      state_is_tuple=False
    stacked  [..., 2, units]               tf.stack([c, m], axis=1)
    layered  [L, 2, batch, units]          numpy.save of LSTMStateTuples
    keras    h and c of each cell          return_state of Keras: h is m
    torch    h_n and c_n [L, batch, ...]   torch.nn.LSTM: h is m

    convert --list prints the layouts of other libraries, too.
    """
    if target.show_layouts:
        _print_layouts(as_json=common.as_json)
        return DONE
    refuse(
        (not sources, "pass the state: SRC"),
        (
            target.output is not None and (target.out_dir is not None or len(sources) > 1),
            "-o is for one source; pass --out-dir for several, and use split for the files C and M",
        ),
        (common.as_json and target.output == "-", "-o - and --json both use stdout"),
        ("-" in sources and target.output is None, "stdin needs -o FILE, or -o - for stdout"),
    )
    job = _Job(sources, target, widths, common)
    batch = Batch(sources)
    documents = batch.run(job.convert)
    code = batch.exit_code()
    if common.as_json:
        batch.print_documents("lstmstate.convert/1", documents)
    return code


def _print_layouts(*, as_json: bool) -> None:
    """Print the table of layouts."""
    from lstmstate.cli.report.layouts_report import layouts_document, layouts_table

    if as_json:
        print_document("lstmstate.convert/1", layouts_document())
        return
    from lstmstate.cli.report.console import sheet

    layouts_table(sheet())


class _Job:
    """The options of one call, the same for each source."""

    def __init__(
        self,
        sources: tuple[str, ...],
        target: Target,
        widths: Widths,
        common: Common,
    ) -> None:
        from lstmstate.files.atomic import report_errors
        from lstmstate.operations.convert import ConvertRequest, stem_of
        from lstmstate.state.formats.input_path import InputPath

        stems = [stem_of(os.path.basename(source)) for source in sources]
        if target.out_dir is not None:
            several = len(set(stems)) < len(stems)
            refuse((several, "two sources have the same name, and so one output"))
            with report_errors(target.out_dir):
                os.makedirs(target.out_dir, exist_ok=True)
        self._target = target
        self._common = common
        self._paths = {source: InputPath(source) for source in sources}
        self._wanted = cache(lambda: widths.wanted(target.from_layout, common))
        self._request = ConvertRequest(
            target.layouts[0],
            target.output,
            target.out_dir,
            target.kind,
            target.variables,
            target.dtype,
            target.compress,
        )
        self._written: set[str] = set()

    def convert(self, path: str) -> Json:
        """Convert one source, and print the path of its output; return the document."""
        from lstmstate.cli.report.documents import converted_document
        from lstmstate.operations.convert import convert_opened

        common, wanted = self._common, self._wanted()
        conversion = convert_opened(common.open(self._paths[path]), wanted, self._request)
        (target,) = conversion.targets
        if os.path.realpath(target) in self._written:
            raise LstmstateError("another source was written there just now", path=target)
        common.write(conversion, "converting", force=self._target.force, strict=self._target.strict)
        self._written.add(os.path.realpath(target))
        if not common.as_json and target != "-":
            print_path(target)
        return converted_document(path, target, conversion.streams)
