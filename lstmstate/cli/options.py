"""Options that several commands share, and what they mean."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import reduce
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lstmstate.cli import tell
from lstmstate.errors import LstmstateError

if TYPE_CHECKING:
    from lstmstate.checkpoint.locate import Location
    from lstmstate.engines.options import Settled
    from lstmstate.model.checkpoint import LSTMCheckpoint
    from lstmstate.operations.convert import Converted
    from lstmstate.state.candidates import Wanted
    from lstmstate.state.formats.input_path import InputFiles, InputPath

_Function = TypeVar("_Function", bound=Callable[..., Any])

# `state.layouts.LAYOUTS` has the same names; `--help` must not import it (a test compares them).
MAX_WIDTH = 1 << 40
MAX_CELLS = 10_000
LAYOUT_NAMES = ("tuple", "flat", "stacked", "layered", "keras", "torch")
KIND_NAMES = ("npy", "npz", "h5", "csv", "ckpt")


def _all(*options: Callable[[Any], Any]) -> Callable[[_Function], _Function]:
    """Return a decorator that adds some options, in their order in the help."""

    def add(function: _Function) -> _Function:
        """Add the options to a command."""
        return reduce(lambda found, option: option(found), reversed(options), function)

    return add


class CellWidths(click.ParamType[Any] if TYPE_CHECKING else click.ParamType):  # type: ignore[misc]
    """The widths of the cells of a stack: `128:64,128`."""

    name = "WIDTHS"
    expected = (
        "a list of widths: say 128 for a cell of 128 units, 128:64 for one with a projection to "
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
    """How many cells there are, `2`, or the widths of each, `128:64,128`."""

    name = "N|WIDTHS"
    expected = (
        "a number of cells, such as 2, nor a list of the widths of each: 24,12 for two cells, "
        "128:64,128 where the first has a projection to 64, 24:24 for one cell of 24 units"
    )

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number, or (c, m) for each cell."""
        if value.isascii() and value.isdecimal():
            return int(value)
        return super().convert(value, param, ctx)


_WIDTH = click.IntRange(min=1, max=MAX_WIDTH)
_widths = (
    click.option(
        "--units", type=click.IntRange(min=1), metavar="N", help="num_units: the width of c."
    ),
    click.option(
        "--proj",
        type=click.IntRange(min=1),
        metavar="N",
        help="num_proj: the width of m, if projected.",
    ),
    click.option(
        "--cells",
        type=CellWidths(),
        metavar="WIDTHS",
        help="The cells of a stack, units or units:proj of each: 128:64,128.",
    ),
    click.option(
        "--checkpoint", metavar="CKPT", help="Take the widths from the cells of this checkpoint."
    ),
    click.option("--cell", metavar="NAME", help="Which of its cells."),
    click.option("--stack", metavar="NAME", help="Which of its stacks."),
)
widths = _all(*_widths)
variables = click.option(
    "--variable",
    "variables",
    metavar="NAME",
    multiple=True,
    help="Which state of a checkpoint that has several, by the names that inspect prints: NAME, or "
    "--variable C --variable M. A new checkpoint takes all.",
)
from_layout = click.option(
    "--from",
    "from_layout",
    type=click.Choice(LAYOUT_NAMES),
    help="The layout that the source is in, where nothing tells.",
)
header = click.option(
    "--header/--no-header",
    default=None,
    help="Whether the first row of a table (.csv, .tsv) names its columns, if it may be data.",
)
checksums = click.option(
    "--no-checksums", is_flag=True, help="Go on where a checkpoint's checksum does not hold."
)
force = click.option("--force", is_flag=True, help="Replace outputs that exist.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
compress = click.option("--compress", is_flag=True, help="Compress an .npz or .h5.")
kind = click.option(
    "--format",
    "kind",
    type=click.Choice(KIND_NAMES),
    help="What to write, where the name does not say.",
)
dtype = click.option(
    "--dtype",
    type=click.Choice(["float16", "float32", "float64"]),
    help="Give the values another precision.",
)
# `engines.ENGINES` and `cells.activations.ACTIVATIONS` have the same names (a test compares).
ENGINE_NAMES = ("auto", "numpy", "graph", "tensorflow", "onnxruntime")
ACTIVATION_NAMES = (
    "tanh sigmoid hard_sigmoid keras3_hard_sigmoid identity relu relu6 leaky_relu elu selu "
    "softplus softsign sin erf"
).split()
engine = click.option(
    "--engine",
    type=click.Choice(ENGINE_NAMES),
    default="auto",
    show_default=True,
    help="What computes: numpy where the graph confirms the cells, else the graph's own step; "
    "tensorflow and onnxruntime are extras.",
)


class _Feed(click.ParamType[Any] if TYPE_CHECKING else click.ParamType):  # type: ignore[misc]
    """A value for a placeholder: NAME=NUMBER, NAME=true or NAME=FILE.npy."""

    name = "NAME=VALUE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the name, and the number or the path."""
        name, found, text = str(value).partition("=")
        if not found or not name or not text:
            return self.fail(f"expected NAME=VALUE, got {value!r}", param, ctx)
        if text.lower() in ("true", "false"):
            return name, text.lower() == "true"
        with suppress(ValueError):
            return name, int(text)
        with suppress(ValueError):
            return name, float(text)
        return name, text


feed = _all(
    click.option(
        "--feed",
        "feeds",
        type=_Feed(),
        multiple=True,
        help="A value for a placeholder of the graph: a number, true, or an .npy file.",
    ),
    click.option(
        "--outputs",
        type=click.Choice(["m", "graph"]),
        help="The m of the last cell, or what the graph makes of it at each step.",
    ),
)


def fed(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of placeholders that a user gave; files are read."""
    return {
        name: _array(value) if isinstance(value, str) else value for name, value in flags["feeds"]
    }


def _array(path: str) -> Any:
    import numpy as np

    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise LstmstateError(f"expected an .npy file ({error})", path=path) from error


class _Bound(click.ParamType[Any] if TYPE_CHECKING else click.ParamType):  # type: ignore[misc]
    """The bound of a clip: a number, or none."""

    name = "BOUND"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return a number, or the word that stands for no bound."""
        if str(value).lower() == NO_BOUND:
            return NO_BOUND
        with suppress(ValueError):
            if 0 <= float(value) < math.inf:
                return float(value)
        return self.fail(f"{value!r} is not a bound: say a number, or none", param, ctx)


class _Number(click.ParamType[Any] if TYPE_CHECKING else click.ParamType):  # type: ignore[misc]
    """A number that is one: Click's FLOAT takes nan and inf too."""

    name = "N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number."""
        with suppress(ValueError):
            if math.isfinite(float(value)):
                return float(value)
        return self.fail(f"{value!r} is not a number", param, ctx)


NO_BOUND = "none"
arithmetic = _all(
    click.option("--forget-bias", type=_Number(), help="What is added to the forget gate."),
    click.option("--cell-clip", type=_Bound(), help="The bound of c, or none."),
    click.option("--proj-clip", type=_Bound(), help="The bound of a projected m, or none."),
    click.option(
        "--activation", type=click.Choice(ACTIVATION_NAMES), metavar="NAME", help="Of c and j."
    ),
    click.option(
        "--recurrent-activation",
        type=click.Choice(ACTIVATION_NAMES),
        metavar="NAME",
        help="Of the gates i, f and o; other than sigmoid in Keras alone.",
    ),
    click.option(
        "--peepholes/--no-peepholes", default=None, help="Whether stored peepholes are used."
    ),
)
strict = click.option("--strict", is_flag=True, help="End with 3 where c and m look swapped.")
assume_defaults = click.option(
    "--assume-defaults",
    is_flag=True,
    help="Take the documented default of what the files do not record.",
)
common = _all(
    click.option("-q", "--quiet", is_flag=True, help="No notes on stderr."),
    click.option(
        "--debug",
        is_flag=True,
        expose_value=False,  # read by the caller, which knows of errors in every command
        help="Show where in the program an error arose.",
    ),
)


def wanted(flags: Mapping[str, Any], *, quiet: bool) -> Wanted:
    """Return what the flags of a command say of a state.

    Raises:
        click.UsageError: they contradict one another.
        LstmstateError: the checkpoint that they name cannot be used.
    """
    from lstmstate.cells.cell import StateWidths
    from lstmstate.state.candidates import Cells, Wanted

    layout, units, proj, cells = (flags.get(k) for k in ("from_layout", "units", "proj", "cells"))
    checkpoint, cell, stack = (flags.get(name) for name in ("checkpoint", "cell", "stack"))
    if proj and not units:
        raise click.UsageError("--proj needs --units: the width of c cannot be told from that of m")
    if (units is not None) + (cells is not None) + (checkpoint is not None) > 1:
        raise click.UsageError("give one of --units, --cells and --checkpoint")
    if (cell is not None or stack is not None) and checkpoint is None:
        raise click.UsageError("--cell and --stack name what is in a --checkpoint")
    if cell is not None and stack is not None:
        raise click.UsageError("give --cell or --stack, not both")
    if units is not None:
        return Wanted(layout, StateWidths(units, proj or units))
    if cells is not None:
        return Wanted(
            layout, None, (Cells.of_widths([StateWidths(*pair) for pair in cells]),), "--cells"
        )
    if checkpoint is not None:
        from lstmstate.model.checkpoint import open_checkpoint
        from lstmstate.model.saved_states import wanted_by

        ckpt = open_checkpoint(checkpoint, checksums=not flags.get("no_checksums"))
        resolved(checkpoint, ckpt, quiet=quiet)
        return wanted_by(ckpt, layout, cell, stack)
    return Wanted(layout)


def inputs_of(paths: Iterable[str | InputPath | Location], flags: Mapping[str, Any]) -> InputFiles:
    """Return the files that a command reads, which its outputs must not replace."""
    from lstmstate.state.formats.input_path import InputFiles

    return InputFiles([*paths, *([flags["checkpoint"]] if flags.get("checkpoint") else [])])


def refuse_unnamed(target: str, kind: str | None, endings: str) -> None:
    """Refuse an output of which nothing says what kind of file it is to be."""
    from lstmstate.state.formats.registry import kind_of_name

    if kind is None and target != "-" and kind_of_name(target) is None:
        raise LstmstateError(
            "its name does not say what to write",
            path=target,
            advice=f"end it in {endings}, or say --format",
        )


def given(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of cells that the flags of `arithmetic` give."""
    from lstmstate.engines.options import RUN_OPTIONS

    found = {name: flags[name] for name in RUN_OPTIONS if flags[name] is not None}
    found = {name: None if value == NO_BOUND else value for name, value in found.items()}
    return found | ({"assume_defaults": True} if flags["assume_defaults"] else {})


def refuse_both(flags: Mapping[str, Any]) -> None:
    """Refuse to take every default and none."""
    if flags["strict"] and flags["assume_defaults"]:
        raise click.UsageError("give --strict or --assume-defaults, not both")


def say_settled(settled: Sequence[Settled], *, strict: bool, quiet: bool) -> None:
    """Say which options of cells are assumed, and which go against the files.

    Raises:
        LstmstateError: some are assumed, and that was to be an error.
    """
    from lstmstate.engines.options import assumptions, remarks

    assumed = assumptions(settled)
    if strict and assumed:
        flags = "give the options with flags, or " if any(one.assumed for one in settled) else ""
        raise LstmstateError(assumed[0], advice=f"{flags}leave --strict out")
    note([*assumed, *remarks(settled)], quiet=quiet)


def verify(no_checksums: bool, *, quiet: bool) -> bool:
    """Return whether checksums must hold, and say so where they need not."""
    if no_checksums:
        note(["checksums are not verified; values may be wrong"], quiet=quiet)
    return not no_checksums


def note(lines: Iterable[str], *, quiet: bool) -> None:
    """Say some notes on stderr."""
    if not quiet:
        for line in lines:
            tell(f"note: {line}")


def resolved(path: str, ckpt: LSTMCheckpoint | None, *, quiet: bool) -> None:
    """Name the checkpoint that was chosen of several, and how it was read."""
    if ckpt is not None and not quiet:
        from lstmstate.checkpoint.locate import checkpoints_in

        is_named = path.startswith(ckpt.prefix)
        others = [] if is_named else checkpoints_in(os.path.dirname(ckpt.prefix))
        chosen = f"{path} is the checkpoint {ckpt.prefix}, one of {len(others)} in its folder"
        note([*([chosen] if len(others) > 1 else []), *ckpt.notes], quiet=quiet)


def say(done: Iterable[Converted], *, strict: bool, quiet: bool) -> None:
    """Say what was seen of converted states.

    Raises:
        LstmstateError: c and m look swapped, and that was to be an error.
    """
    for one in done:
        swapped = one.watch.swapped()
        if swapped and strict:
            raise LstmstateError(swapped[0], path=one.source.reading.file.path)
        note(one.notes, quiet=quiet)
