"""Options that several commands share; each group of them is passed as one record."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import reduce, wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lstmstate.cli import report_line
from lstmstate.errors import LstmstateError
from lstmstate.records import NamedTuple

if TYPE_CHECKING:
    from lstmstate.cli.report.console import Meter
    from lstmstate.engines.options import Settled
    from lstmstate.model.checkpoint import LSTMCheckpoint
    from lstmstate.operations.convert import Converted
    from lstmstate.operations.load import Opened
    from lstmstate.state.candidates import Wanted

_Function = TypeVar("_Function", bound=Callable[..., Any])

# `state.layouts.LAYOUTS` has the same names; `--help` must not import it (a test compares them).
MAX_WIDTH = 1 << 40
MAX_CELLS = 10_000
LAYOUT_NAMES = ("tuple", "flat", "stacked", "layered", "keras", "torch")
KIND_NAMES = ("npy", "npz", "h5", "csv", "ckpt")
# `engines.ENGINES` and `engines.activations.ACTIVATIONS` have the same names (a test compares).
ENGINE_NAMES = ("auto", "numpy", "graph", "tensorflow", "onnxruntime")
ACTIVATION_NAMES = (
    "tanh sigmoid hard_sigmoid keras3_hard_sigmoid identity relu relu6 leaky_relu elu selu "
    "softplus softsign sin erf"
).split()
NO_BOUND = "none"


def group(
    name: str, record: Callable[..., Any], *options: Callable[[Any], Any]
) -> Callable[[_Function], _Function]:
    """Return a decorator that adds options to a command and passes their values as one record.

    Args:
        name: the command's parameter for the record.
        record: its class; the fields are named as the options. A method `check` is called.
    """

    def add(function: _Function) -> _Function:
        """Add the options to a command, in their order in the help."""

        @wraps(function)
        def call(**values: Any) -> Any:
            fields = [name for name in values if name in record._fields]  # type: ignore[attr-defined]
            made = record(**{field: values.pop(field) for field in fields})  # in the user's order
            if hasattr(made, "check"):
                made.check()
            return function(**values, **{name: made})

        return reduce(lambda found, option: option(found), reversed(options), call)  # type: ignore[return-value]

    return add


def refuse(*problems: tuple[object, str]) -> None:
    """Raise a UsageError for the first condition that is true."""
    for is_there, problem in problems:
        if is_there:
            raise click.UsageError(problem)


class CellWidths(click.ParamType[Any] if TYPE_CHECKING else click.ParamType):  # type: ignore[misc]
    """The widths of the cells of a stack: `128:64,128`."""

    name = "WIDTHS"
    expected = (
        "a list of widths: pass 128 for a cell of 128 units, 128:64 for one with a projection to "
        "64, and 128:64,128 for two cells"
    )

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return (c, m) for each cell."""
        pairs: list[tuple[int, ...]] = []
        with suppress(ValueError):
            pairs = [tuple(map(int, cell.split(":"))) for cell in value.split(",", MAX_CELLS)]
        if pairs and all(len(p) in (1, 2) and 0 < min(p) <= max(p) <= MAX_WIDTH for p in pairs):
            return [(pair[0], pair[-1]) for pair in pairs]
        return self.fail(f"{value!r} is not {self.expected}", param, ctx)


class CellAssertion(CellWidths):
    """The number of cells, `2`, or the widths of each, `128:64,128`."""

    name = "N|WIDTHS"
    expected = (
        "a number of cells, such as 2, nor a list of the widths of each: 24,12 for two cells, "
        "128:64,128 if the first has a projection to 64, 24:24 for one cell of 24 units"
    )

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number, or (c, m) for each cell."""
        if value.isascii() and value.isdecimal():
            return int(value)
        return super().convert(value, param, ctx)


class Feed(click.ParamType[Any] if TYPE_CHECKING else click.ParamType):  # type: ignore[misc]
    """A value for a placeholder: NAME=NUMBER, NAME=true or NAME=FILE.npy."""

    name = "NAME=VALUE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the name, and the number or the path."""
        name, found, text = str(value).partition("=")
        if not found or not name or not text:
            return self.fail(f"expected NAME=VALUE, got {value!r}", param, ctx)
        if text.lower() in ("true", "false"):
            return name, text.lower() == "true"
        for number in (int, float):
            with suppress(ValueError):
                return name, number(text)
        return name, text


class _Number(click.ParamType[Any] if TYPE_CHECKING else click.ParamType):  # type: ignore[misc]
    """A finite number; Click's FLOAT takes nan and inf too."""

    name = "N"

    def __init__(self, least: float = -math.inf) -> None:
        self._least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number."""
        with suppress(ValueError):
            if math.isfinite(float(value)) and float(value) >= self._least:
                return float(value)
        bound = "" if self._least == -math.inf else f" of {self._least:g} or more"
        return self.fail(f"{value!r} is not a number{bound}", param, ctx)


class _Bound(_Number):
    """The bound of a clip: a number, or none."""

    name = "BOUND"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return a number, or the word for no bound."""
        if str(value).lower() == NO_BOUND:
            return NO_BOUND
        with suppress(ValueError):
            if 0 <= float(value) < math.inf:
                return float(value)
        return self.fail(f"{value!r} is not a bound: pass a number, or none", param, ctx)


NUMBER, POSITIVE = _Number(), click.IntRange(min=1)
NON_NEGATIVE = _Number(0)


class Common(NamedTuple):
    """The options of every command."""

    header: bool | None
    no_checksums: bool
    as_json: bool
    quiet: bool

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

    def open(self, path: str) -> Opened:
        """Open a state file or a checkpoint; see `open_path`."""
        from lstmstate.operations.load import open_path

        opened = open_path(path, checksums=not self.no_checksums, header=self.header)
        if opened.ckpt is not None:
            self.note_choice(path, opened.ckpt)
        return opened

    def open_checkpoint(self, path: str) -> LSTMCheckpoint:
        """Open a checkpoint."""
        from lstmstate.model.checkpoint import open_checkpoint

        return open_checkpoint(path, checksums=not self.no_checksums)

    def note_choice(self, path: str, ckpt: LSTMCheckpoint) -> None:
        """Name the checkpoint if it was chosen from several, and print the notes on its files."""
        if self.quiet:
            return
        from lstmstate.checkpoint.locate import checkpoints_in

        is_named = path.startswith(ckpt.prefix)
        others = [] if is_named else checkpoints_in(os.path.dirname(ckpt.prefix))
        chosen = f"{path} is the checkpoint {ckpt.prefix}, one of {len(others)} in its folder"
        self.note([*([chosen] if len(others) > 1 else []), *ckpt.notes])

    def note_options(self, settled: Sequence[Settled], *, strict: bool) -> None:
        """Print which options of cells are assumed, and which differ from the files.

        Raises:
            LstmstateError: `strict`, and some are assumed.
        """
        from lstmstate.engines.options import assumptions, remarks

        assumed = assumptions(settled)
        if strict and assumed:
            flags = "pass the options, or " if any(one.assumed for one in settled) else ""
            raise LstmstateError(assumed[0], advice=f"{flags}leave --strict out")
        self.note([*assumed, *remarks(settled)])

    def note_states(self, done: Iterable[Converted], *, strict: bool) -> None:
        """Print the notes on converted states.

        Raises:
            LstmstateError: `strict`, and c and m look swapped.
        """
        for one in done:
            reading = one.source.reading
            swapped = one.watch.swapped()
            if swapped and strict:
                raise LstmstateError(swapped[0], path=reading.file.path)
            notes = (reading.notes, one.notes, swapped, one.watch.notes(), one.graph_notes)
            self.note(line for lines in notes for line in lines)


common = group(
    "common",
    Common,
    click.option(
        "--header/--no-header",
        default=None,
        help="Whether the first row of a table (.csv, .tsv) has the names of the columns.",
    ),
    click.option(
        "--no-checksums", is_flag=True, help="Continue even if a checksum does not match."
    ),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON document."),
    click.option("-q", "--quiet", is_flag=True, help="Print no notes and no progress on stderr."),
    click.option(
        "--debug",
        is_flag=True,
        expose_value=False,  # `execute` looks for it
        help="Print the Python traceback of an error.",
    ),
)


class Widths(NamedTuple):
    """The widths of the cells of a state, or the checkpoint with these cells."""

    units: int | None
    proj: int | None
    cells: list[tuple[int, int]] | None
    checkpoint: str | None
    cell: str | None
    stack: str | None

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
        """Return the constraints that they put on a state.

        Raises:
            LstmstateError: the checkpoint cannot be used.
        """
        from lstmstate.cells.cell import StateWidths
        from lstmstate.state.candidates import Wanted

        if self.units is not None:
            return Wanted(layout, StateWidths(self.units, self.proj or self.units))
        if self.cells is not None:
            return Wanted(layout, None, (cells_of(self.cells),), "--cells")
        if self.checkpoint is not None:
            from lstmstate.model.saved_states import wanted_by

            ckpt = common.open_checkpoint(self.checkpoint)
            common.note_choice(self.checkpoint, ckpt)
            return wanted_by(ckpt, layout, self.cell, self.stack)
        return Wanted(layout)


widths = group(
    "widths",
    Widths,
    click.option("--units", type=POSITIVE, metavar="N", help="num_units: the width of c."),
    click.option("--proj", type=POSITIVE, metavar="N", help="num_proj: the width of m."),
    click.option(
        "--cells",
        type=CellWidths(),
        metavar="WIDTHS",
        help="The cells of a stack, units or units:proj of each: 128:64,128.",
    ),
    click.option(
        "--checkpoint", metavar="CKPT", help="Take the widths from the cells of this checkpoint."
    ),
    click.option("--cell", metavar="NAME", help="The cell of --checkpoint to take."),
    click.option("--stack", metavar="NAME", help="The stack of --checkpoint to take."),
)


class Arithmetic(NamedTuple):
    """Options of cells, by the names of `RUN_OPTIONS`, and what to do if one is unknown."""

    forget_bias: float | None
    cell_clip: float | str | None
    proj_clip: float | str | None
    activation: str | None
    recurrent_activation: str | None
    peepholes: bool | None
    strict: bool
    assume_defaults: bool

    def check(self) -> None:
        """Raise a UsageError if they contradict one another."""
        both = self.strict and self.assume_defaults
        refuse((both, "pass --strict or --assume-defaults, not both"))

    @property
    def given(self) -> dict[str, Any]:
        """The options to pass to the library; None means no bound."""
        values = {k: v for k, v in zip(self._fields, self[:-2], strict=False) if v is not None}
        values |= {"assume_defaults": True} if self.assume_defaults else {}
        return {name: None if value == NO_BOUND else value for name, value in values.items()}


assume_defaults = click.option(
    "--assume-defaults",
    is_flag=True,
    help="Use the documented default of an option that is not in the files.",
)
arithmetic = group(
    "arithmetic",
    Arithmetic,
    click.option("--forget-bias", type=NUMBER, help="The number added to the forget gate."),
    click.option("--cell-clip", type=_Bound(), help="The bound of c, or none."),
    click.option("--proj-clip", type=_Bound(), help="The bound of a projected m, or none."),
    click.option(
        "--activation",
        type=click.Choice(ACTIVATION_NAMES),
        metavar="NAME",
        help="Activation of c and j, such as tanh or relu.",
    ),
    click.option(
        "--recurrent-activation",
        type=click.Choice(ACTIVATION_NAMES),
        metavar="NAME",
        help="Activation of the gates i, f and o: sigmoid, except in Keras.",
    ),
    click.option(
        "--peepholes/--no-peepholes",
        default=None,
        help="Whether the step uses the peepholes in the checkpoint.",
    ),
    click.option(
        "--strict",
        is_flag=True,
        help="Exit with 3 if an option or a state is unknown and would be assumed.",
    ),
    assume_defaults,
)


class Part(NamedTuple):
    """The part of a checkpoint to run."""

    cell: str | None
    stack: str | None

    def check(self) -> None:
        """Raise a UsageError if both are given."""
        refuse((None not in self, "pass --cell or --stack, not both"))


part = group(
    "part",
    Part,
    click.option("--cell", metavar="NAME", help="The cell: its name, or whole parts of it."),
    click.option("--stack", metavar="NAME", help="The stack, or pair of directions."),
)


class Shape(NamedTuple):
    """The axes and the valid steps of the inputs."""

    time_major: bool
    lengths: str | None


shape = group(
    "shape",
    Shape,
    click.option("--time-major", is_flag=True, help="Batches are [time, batch, width]."),
    click.option(
        "--lengths",
        metavar="FILE|KEY",
        help="The number of steps of each sequence: a file, or the name of an array in INPUT.",
    ),
)
variables = click.option(
    "--variable",
    "variables",
    metavar="NAME",
    multiple=True,
    help="The state to take from a checkpoint with several, by the names in inspect: NAME, or "
    "--variable C --variable M. A new checkpoint takes all.",
)
from_layout = click.option(
    "--from",
    "from_layout",
    type=click.Choice(LAYOUT_NAMES),
    help="Layout of the input, if it cannot be determined.",
)
force = click.option("--force", is_flag=True, help="Replace outputs that exist.")
compress = click.option("--compress", is_flag=True, help="Compress an .npz or .h5.")
kind = click.option(
    "--format",
    "kind",
    type=click.Choice(KIND_NAMES),
    help="The kind of file to write, if its name does not show it.",
)
strict = click.option("--strict", is_flag=True, help="Exit with 3 if c and m look swapped.")
engine = click.option(
    "--engine",
    type=click.Choice(ENGINE_NAMES),
    default="auto",
    show_default=True,
    help="auto: numpy if the graph confirms the cells, else graph, the graph's own step. "
    "tensorflow and onnxruntime need their extras.",
)


def cells_of(pairs: Iterable[tuple[int, int]]) -> Any:
    """Return cells of some widths, (c, m) each."""
    from lstmstate.cells.cell import StateWidths
    from lstmstate.state.candidates import Cells

    return Cells.of_widths([StateWidths(*pair) for pair in pairs])


def input_files(paths: Iterable[str | None]) -> list[str]:
    """Return the files that a command reads, which its outputs must not replace."""
    from lstmstate.state.formats import registry

    return [file for path in paths if path is not None for file in registry.input_files(path)]


def require_kind(target: str, kind: str | None, endings: str) -> None:
    """Refuse an output if neither its name nor --format shows the kind of file."""
    from lstmstate.state.formats.registry import kind_of_name

    if kind is None and target != "-" and kind_of_name(target) is None:
        raise LstmstateError(
            "expected a name that shows the kind of file",
            path=target,
            advice=f"end it in {endings}, or pass --format",
        )
