"""Records of options, and the options that several commands share."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lstmstate.cli import report_line
from lstmstate.errors import LstmstateError

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


def option(
    words: str, kind: Any = None, metavar: str | None = None, *, flags: str = "", **how: Any
) -> Any:
    """Return an option for a field of `Options`: its help, its type, and what Click takes.

    The flag has the name of the field unless `flags` are given.
    """
    return flags.split(), {"help": words, "type": kind, "metavar": metavar, **how}


class Options:
    """A record of options, a field for each, made with `option`.

    A field `bool` is a flag, `bool | None` a flag with its opposite; a `tuple` may be repeated.
    """

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)  # in the user's order

    def check(self) -> None:
        """Raise a UsageError if the options contradict one another."""


def add(*records: type[Options]) -> Callable[[_Function], _Function]:
    """Return a decorator that adds options to a command, and passes them as records.

    The parameters of the command have the names of the records, in lower case.
    """

    def decorate(function: _Function) -> _Function:
        @wraps(function)
        def call(**values: Any) -> Any:
            made = {}
            for record in records:
                own = [name for name in values if name in record.__annotations__]
                made[record.__name__.lower()] = record(**{name: values.pop(name) for name in own})
            for one in made.values():
                one.check()
            return function(**values, **made)

        for record in reversed(records):
            for name, kind in reversed(record.__annotations__.items()):
                _click_option(name, kind, *getattr(record, name))(call)
        return call  # type: ignore[return-value]

    return decorate


def _click_option(name: str, kind: str, flags: list[str], how: dict[str, Any]) -> Any:
    word = name.replace("_", "-")
    if kind == "bool | None" and not flags:
        flags, how = [f"--{word}/--no-{word}"], {"default": None, **how}
    elif kind.startswith("bool"):
        how = {"is_flag": True, **how}
    how = {"multiple": kind.startswith("tuple"), **how}
    return click.option(*(flags or [f"--{word}"]), name, **how)


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


LAYOUT = click.Choice(LAYOUT_NAMES)
FROM = option("Layout of the input, if it cannot be determined.", LAYOUT, flags="--from")
FORCE = option("Replace outputs that exist.")
COMPRESS = option("Compress an .npz or .h5.")
SWAPPED = option("Exit with 3 if c and m look swapped.")
KIND = option(
    "The kind of file to write, if its name does not show it.",
    click.Choice(KIND_NAMES),
    flags="--format",
)
VARIABLES = option(
    "The state to take from a checkpoint with several, by the names in inspect: NAME, or "
    "--variable C --variable M. A new checkpoint takes all.",
    metavar="NAME",
    flags="--variable",
)
ENGINE = option(
    "auto: numpy if the graph confirms the cells, else graph, the graph's own step. tensorflow "
    "and onnxruntime need their extras.",
    click.Choice(ENGINE_NAMES),
    default="auto",
    show_default=True,
)
ASSUME_DEFAULTS = option("Use the documented default of an option that is not in the files.")


class Common(Options):
    """The options of every command."""

    header: bool | None = option(
        "Whether the first row of a table (.csv, .tsv) has the names of the columns."
    )
    no_checksums: bool = option("Continue even if a checksum does not match.")
    as_json: bool = option("Print one JSON document.", flags="--json")
    quiet: bool = option("Print no notes and no progress on stderr.", flags="-q --quiet")
    # `execute` looks for it.
    debug: bool = option("Print the Python traceback of an error.", expose_value=False)

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


class Widths(Options):
    """The widths of the cells of a state, or the checkpoint with these cells."""

    units: int | None = option("num_units: the width of c.", POSITIVE, "N")
    proj: int | None = option("num_proj: the width of m.", POSITIVE, "N")
    cells: list[tuple[int, int]] | None = option(
        "The cells of a stack, units or units:proj of each: 128:64,128.", CellWidths(), "WIDTHS"
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


class Arithmetic(Options):
    """Options of cells, by the names of `RUN_OPTIONS`, and the answer to unknown ones."""

    forget_bias: float | None = option("The number added to the forget gate.", NUMBER)
    cell_clip: float | str | None = option("The bound of c, or none.", _Bound())
    proj_clip: float | str | None = option("The bound of a projected m, or none.", _Bound())
    activation: str | None = option(
        "Activation of c and j, such as tanh or relu.", click.Choice(ACTIVATION_NAMES), "NAME"
    )
    recurrent_activation: str | None = option(
        "Activation of the gates i, f and o: sigmoid, except in Keras.",
        click.Choice(ACTIVATION_NAMES),
        "NAME",
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
