"""Records of options, and the options that several commands share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial

from lstmstate import limits
from lstmstate.cli import report_line
from lstmstate.cli.command import Options, option, refuse
from lstmstate.errors import LstmstateError
from lstmstate.type_names import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lstmstate.cli.report.console import Meter
    from lstmstate.engines.run_options import Settled
    from lstmstate.model.checkpoint import LSTMCheckpoint
    from lstmstate.operations.convert import Conversion
    from lstmstate.operations.load import Opened
    from lstmstate.state.candidates import Wanted
    from lstmstate.state.formats.input_path import InputPath

# `layouts.LAYOUTS`, `targets.TARGETS` and `registry.KINDS` have the same names; `--help` must not
# import them (a test compares).
LAYOUT_NAMES = (
    *("tuple", "flat", "stacked", "layered", "keras", "torch", "onnx", "flax", "haiku", "sonnet"),
    *("equinox", "mlx", "hc", "tensorforce", "tfjs", "dynet", "thinc", "baselines"),
)
TARGET_NAMES = (
    *("arrays", "gates", "numpy", "torch", "keras", "tf_keras", "torch-cell", "flax", "flax-nnx"),
    *("flax-nnx-optimized", "haiku", "equinox", "tensorflow", "tensorflow-1.0", "tensorflow-0.12"),
    *("tensorflow-keras", "onnx"),
)
KIND_NAMES = ("npy", "npz", "h5", "safetensors", "pt", "csv", "ckpt")
ROW_KIND_NAMES = KIND_NAMES[:5]  # of files of any arrays
# `engines.ENGINES` and `cells.activations.ACTIVATIONS` have the same names (a test compares).
ENGINE_NAMES = ("auto", "numpy", "graph", "tensorflow")
ACTIVATION_NAMES = (
    *("tanh", "sigmoid", "hard_sigmoid", "keras3_hard_sigmoid", "identity", "relu", "relu6"),
    *("leaky_relu", "elu", "selu", "softplus", "softsign", "sin", "erf"),
)
NO_BOUND = "none"


def widths_of(text: str) -> list[tuple[int, int]]:
    """Return (c, m) for each cell of `128:64,128`."""
    return _widths(
        text,
        "a list of widths: pass 128 for a cell of 128 units, 128:64 for one with a projection to "
        "64, and 128:64,128 for two cells",
    )


def number_or_widths(text: str) -> int | list[tuple[int, int]]:
    """Return the number of cells, or (c, m) for each."""
    if text.isascii() and text.isdecimal():
        return int(text)
    return _widths(
        text,
        "a number of cells, such as 2, nor a list of the widths of each: 24,12 for two cells, "
        "128:64,128 if the first has a projection to 64, 24:24 for one cell of 24 units",
    )


def _widths(text: str, expected: str) -> list[tuple[int, int]]:
    pairs: list[tuple[int, ...]] = []
    with suppress(ValueError):
        pairs = [tuple(map(int, cell.split(":"))) for cell in text.split(",")]
    fit = (len(p) in (1, 2) and 0 < min(p) <= max(p) <= limits.MAX_WIDTH for p in pairs)
    if 0 < len(pairs) <= limits.MAX_CELLS and all(fit):
        return [(pair[0], pair[-1]) for pair in pairs]
    raise ValueError(f"{text!r} is not {expected}")


def whole(text: str, least: int = 0, most: int | None = None) -> int:
    """Return a whole number."""
    with suppress(ValueError):
        if least <= int(text) and (most is None or int(text) <= most):
            return int(text)
    bounds = f"of {least} or more" if most is None else f"from {least} to {most}"
    raise ValueError(f"{text!r} is not a whole number {bounds}")


def slices(text: str) -> tuple[int | slice, ...]:
    """Return the part of an array: for each axis a number, or START:STOP:STEP."""
    found: list[int | slice] = []
    if text.strip() == ":":
        return ()  # all, also of a scalar
    for axis in text.split(","):
        parts = axis.split(":")
        try:
            numbers = [int(part) if part.strip() else None for part in parts]
        except ValueError:
            numbers = []
        if len(numbers) == 1 and numbers[0] is not None:
            found.append(numbers[0])
        elif 2 <= len(numbers) <= 3 and numbers[2:] != [0]:
            found.append(slice(*numbers))
        else:
            raise ValueError(f"{text!r} is not a part of an array, such as 0,:5")
    return tuple(found)


def feed(text: str) -> tuple[str, int | float | bool | str]:
    """Return the name of a placeholder, and its number or the path of its value."""
    name, found, value = text.partition("=")
    if not found or not name or not value:
        raise ValueError(f"expected NAME=VALUE, got {text!r}")
    if value.lower() in ("true", "false"):
        return name, value.lower() == "true"
    for kind in (int, float):
        with suppress(ValueError):
            return name, kind(value)
    return name, value


positive = partial(whole, least=1)
width = partial(whole, least=1, most=limits.MAX_WIDTH)


def number(text: str, least: float = -math.inf) -> float:
    """Return a finite number."""
    with suppress(ValueError):
        if math.isfinite(float(text)) and float(text) >= least:
            return float(text)
    bound = "" if least == -math.inf else f" of {least:g} or more"
    raise ValueError(f"{text!r} is not a number{bound}")


tolerance = partial(number, least=0)


def bound(text: str) -> float | str:
    """Return the bound of a clip, or the word for no bound."""
    if text.lower() == NO_BOUND:
        return NO_BOUND
    with suppress(ValueError):
        return number(text, 0)
    raise ValueError(f"{text!r} is not a bound: pass a number, or none")


FROM = option(
    "Layout of the input, if it cannot be determined: see convert --list.",
    LAYOUT_NAMES,
    "LAYOUT",
    flags="--from",
)
FORCE = option("Replace outputs that exist.")
COMPRESS = option("Compress an .npz or .h5.")
SWAPPED = option("Exit with 3 if c and m look swapped.")
KIND = option(
    "The kind of file to write, if its name does not show it.", KIND_NAMES, flags="--format"
)
VARIABLES = option(
    "The state to take from a checkpoint with several, by the names in inspect: NAME, or "
    "--variable C --variable M.",
    metavar="NAME",
    flags="--variable",
)
ENGINE = option(
    "auto: numpy if the graph confirms the cells, else graph, the graph's own step. tensorflow "
    "needs its extra.",
    ENGINE_NAMES,
    default="auto",
    show_default=True,
)
ASSUME_DEFAULTS = option("Use the documented default of an option that is not in the files.")


class Basics(Options):
    """The options of every command."""

    as_json: bool = option("Print one JSON document.", flags="--json")
    quiet: bool = option("Print no notes and no progress on stderr.", flags="-q --quiet")
    debug: bool = option("Print the Python traceback of an error.")  # `execute` looks for it


class General(Basics):
    """The options of every command that opens files."""

    no_checksums: bool = option("Continue even if a checksum does not match.")

    def check(self) -> None:
        """Note on stderr that checksums are not verified."""
        if self.no_checksums:
            self.note(["checksums are not verified; values may be wrong"])

    def note(self, lines: Iterable[str]) -> None:
        """Print notes on stderr."""
        if not self.quiet:
            for line in lines:
                report_line(f"note: {line}")

    def meter(self, title: str, total: int | None = None, unit: str = "bytes") -> Meter:
        """Return a meter of progress; see `Meter`."""
        from lstmstate.cli.report.console import Meter

        return Meter(title, total, unit, quiet=self.quiet)

    def open_checkpoint(self, path: str) -> LSTMCheckpoint:
        """Open a checkpoint, and print the notes on it."""
        from lstmstate.model.checkpoint import open_checkpoint

        ckpt = open_checkpoint(path, checksums=not self.no_checksums)
        if not self.quiet:
            self.note(ckpt.notes)
        return ckpt

    def note_options(self, settled: Sequence[Settled], *, strict: bool) -> None:
        """Print which options of cells are assumed, and which differ from the files."""
        from lstmstate.engines.run_options import assumptions, remarks

        assumed = assumptions(settled)
        if strict and assumed:
            flags = "pass the options, or " if any(one.assumed for one in settled) else ""
            raise LstmstateError(assumed[0], advice=f"{flags}leave --strict out")
        self.note([*assumed, *remarks(settled)])

    def write(self, conversion: Conversion, title: str, *, force: bool, strict: bool) -> None:
        """Write the files of a conversion, and print the notes on its states.

        Args:
            title: of the progress.
            force, strict: `FORCE` and `SWAPPED`.
        """
        from lstmstate.files.atomic import Outputs

        with Outputs(force=force) as outputs, self.meter(title, conversion.nbytes) as meter:
            conversion.write(outputs, meter.add)
            for one in conversion.streams:
                if one.swapped and strict:
                    raise LstmstateError(one.swapped[0], path=one.state.file.path)
                self.note(one.notes)


class Common(General):
    """The options of every command that reads states or data."""

    header: bool | None = option(
        "Whether the first row of a table (.csv, .tsv) has the names of the columns."
    )

    def open(self, path: str | InputPath) -> Opened:
        """Open a state file or a checkpoint, and print the notes on it; see `open_path`."""
        from lstmstate.operations.load import open_path

        opened = open_path(path, checksums=not self.no_checksums, header=self.header)
        if opened.ckpt is not None and not self.quiet:  # the graph is read for the notes
            self.note(opened.ckpt.notes)
        return opened


class Widths(Options):
    """The widths of the cells of a state, or the checkpoint with these cells."""

    units: int | None = option("num_units: the width of c.", width, "N")
    proj: int | None = option("num_proj: the width of m.", width, "N")
    cells: list[tuple[int, int]] | None = option(
        "The cells of a stack, units or units:proj of each: 128:64,128.", widths_of, "WIDTHS"
    )
    checkpoint: str | None = option(
        "Take the widths from the cells of this checkpoint.", metavar="CKPT"
    )
    cell: str | None = option("The cell of --checkpoint to take.", metavar="NAME")
    stack: str | None = option("The stack of --checkpoint to take.", metavar="NAME")

    def check(self) -> None:
        """Raise a UsageError if they contradict one another."""
        ways = (self.units, self.cells, self.checkpoint)
        refuse(
            (self.proj and not self.units, "--proj needs --units: the width of c is unknown"),
            (
                sum(one is not None for one in ways) > 1,
                "pass one of --units, --cells, --checkpoint",
            ),
            (
                (self.cell or self.stack) is not None and self.checkpoint is None,
                "--cell and --stack choose from a --checkpoint: pass it too",
            ),
            (None not in (self.cell, self.stack), "pass --cell or --stack, not both"),
        )

    def wanted(self, layout: str | None, common: Common) -> Wanted:
        """Return the constraints that they put on a state."""
        from lstmstate.model.saved_states import wanted_from

        each = None if self.units is None else (self.units, self.proj or self.units)
        ckpt = None if self.checkpoint is None else common.open_checkpoint(self.checkpoint)
        found = wanted_from(layout, self.cells, ckpt, each=each, cell=self.cell, stack=self.stack)
        found = found._replace(can_choose=True)
        return found if self.cells is None else found._replace(source="--cells")


class Arithmetic(Options):
    """Options of cells, by the names of `RUN_OPTIONS`, and the answer to unknown ones."""

    forget_bias: float | None = option("The number added to the forget gate.", number, "N")
    cell_clip: float | str | None = option("The bound of c, or none.", bound, "BOUND")
    proj_clip: float | str | None = option("The bound of a projected m, or none.", bound, "BOUND")
    activation: str | None = option(
        "Activation of c and j, such as tanh or relu.", ACTIVATION_NAMES, "NAME"
    )
    recurrent_activation: str | None = option(
        "Activation of the gates i, f and o: sigmoid, except in Keras.", ACTIVATION_NAMES, "NAME"
    )
    peepholes: bool | None = option("Whether the step uses the peepholes in the checkpoint.")
    strict: bool = option("Exit with 3 if an option or a state is unknown and would be assumed.")
    assume_defaults: bool = ASSUME_DEFAULTS

    def check(self) -> None:
        """Raise a UsageError if they contradict one another."""
        both = self.strict and self.assume_defaults
        refuse((both, "pass --strict or --assume-defaults, not both"))

    @property
    def given(self) -> dict[str, Any]:
        """The options to pass to the library; None means no bound."""
        values = {k: v for k, v in vars(self).items() if v is not None and k != "strict"}
        if not self.assume_defaults:
            del values["assume_defaults"]
        return {name: None if value == NO_BOUND else value for name, value in values.items()}


class Part(Options):
    """The part of a checkpoint to run."""

    cell: str | None = option("The cell: its name, or whole parts of it.", metavar="NAME")
    stack: str | None = option("The stack, or pair of directions.", metavar="NAME")

    def check(self) -> None:
        """Raise a UsageError if both are given."""
        refuse((None not in (self.cell, self.stack), "pass --cell or --stack, not both"))


class Shape(Options):
    """The axes and the valid steps of the inputs."""

    time_major: bool = option("Batches are [time, batch, width].")
    lengths: str | None = option(
        "The number of steps of each sequence: a file, or the name of an array in INPUT.",
        metavar="FILE|KEY",
    )


class Placeholders(Options):
    """The values of placeholders of the graph."""

    feeds: tuple[tuple[str, Any], ...] = option(
        "A value for a placeholder of the graph: a number, true, or an .npy file.",
        feed,
        "NAME=VALUE",
        flags="--feed",
    )

    @property
    def fed(self) -> dict[str, Any]:
        """The values of placeholders; files are read."""
        return {
            name: _array(value) if isinstance(value, str) else value for name, value in self.feeds
        }


def _array(path: str) -> Any:
    import numpy as np

    from lstmstate.files.reader import ByteSource

    try:
        with ByteSource(path) as source:
            return np.load(source.file(), allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise LstmstateError(f"expected an .npy file ({error})", path=path) from error
