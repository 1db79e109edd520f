"""`lstmstate diff`: two states, two checkpoints, or the arrays of two files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from lstmstate.cli import CONTEXT, DONE, NO, decided, options
from lstmstate.errors import CorruptError, LstmstateError, printable

if TYPE_CHECKING:
    from lstmstate.model.saved_states import Source
    from lstmstate.operations.compare import Difference, Tolerance
    from lstmstate.operations.load import Opened
    from lstmstate.state.candidates import Wanted
    from lstmstate.state.formats.chunked import StoredArray

_EPILOG = """\b
Examples:
  lstmstate diff flat.npy state.npz --units 128     two states, whatever their layouts
  lstmstate diff a/model.ckpt-7 b/model.ckpt-7      two checkpoints, tensor by tensor
  lstmstate diff state.npz model.ckpt-7             a state, and the one saved in a checkpoint
  lstmstate diff run_a.npz run_b.npz                the results of two runs, outputs and states
  lstmstate diff --exact before.npz after.npz && echo same
"""


@click.command("diff", context_settings=CONTEXT, epilog=_EPILOG)
@click.argument("a", metavar="A", type=click.Path())
@click.argument("b", metavar="B", type=click.Path())
@click.option(
    "--rtol", type=click.FloatRange(min=0), default=1e-5, show_default=True, help="Relative."
)
@click.option(
    "--atol", type=click.FloatRange(min=0), default=1e-8, show_default=True, help="Absolute."
)
@click.option("--exact", is_flag=True, help="Every bit: dtypes, signs of zeros and NaNs too.")
@options.from_layout
@options.header
@options.widths
@options.checksums
@options.as_json
@options.common
def command(
    a: str, b: str, rtol: float, atol: float, exact: bool, quiet: bool, as_json: bool, **flags: Any
) -> int:
    """Compare two states or two checkpoints; exit with 0 if they are the same, 1 if not.

    Arrays of one name in both files that belong to no state, such as the outputs of two runs, are
    compared too. Two files without a state are compared array by array.

    Values a and b are the same where |a - b| <= atol + rtol * |b|; NaN is the same as NaN.
    Flags for layout and widths hold for whichever file does not tell them itself.
    """
    from lstmstate.cli.report.diff_report import diff_document, diff_table
    from lstmstate.operations.compare import Tolerance, same

    if not math.isfinite(rtol) or not math.isfinite(atol):
        raise click.UsageError("--rtol and --atol are numbers")
    tolerance = Tolerance(rtol, atol, exact)
    kind, found = _compared(a, b, tolerance, flags, quiet=quiet)
    code = decided(DONE if same(found) else NO)
    if as_json:
        import json

        document = diff_document(a, b, kind, found, tolerance)
        click.echo(json.dumps(document, indent=2, allow_nan=False))
    else:
        from lstmstate.cli.report.console import sheet

        diff_table(sheet(), a, b, kind, found, tolerance)
    return code


def _compared(
    a: str, b: str, tolerance: Tolerance, flags: dict[str, Any], *, quiet: bool
) -> tuple[str, list[Difference]]:
    """Return what was compared, "states", "arrays" or "checkpoints", and how."""
    from lstmstate.cli.report.console import Meter
    from lstmstate.operations.compare import compare_arrays, compare_checkpoints, compare_states
    from lstmstate.operations.load import open_path

    verify = options.verify(flags["no_checksums"], quiet=quiet)
    opened = [open_path(path, checksums=verify, header=flags["header"]) for path in (a, b)]
    for path, ckpt in ((one.path, one.ckpt) for one in opened):
        options.resolved(path, ckpt, quiet=quiet)
    first, second = (one.ckpt for one in opened)
    if all(one.is_model for one in opened) and first is not None and second is not None:
        total = sum(variable.nbytes or 0 for variable in first.variables.values())
        with Meter("comparing", total, quiet=quiet) as meter:
            return "checkpoints", list(compare_checkpoints(first, second, tolerance, meter.add))
    wanted = options.wanted(flags, quiet=quiet)
    found = _sources(opened, wanted)
    first_file, second_file = (one.file for one in opened)
    if isinstance(found, LstmstateError):
        if wanted.layout or wanted.knows_widths or first_file is None or second_file is None:
            raise found
        line = f"neither has a state that can be read ({found.problem}): the arrays are compared"
        options.note([line], quiet=quiet)
        mine, theirs = first_file.arrays, second_file.arrays
        with Meter("comparing", sum(map(_nbytes, mine)), quiet=quiet) as meter:
            return "arrays", list(compare_arrays(mine, theirs, tolerance, meter.add))
    rests = [_rest(source) for source in found]
    for source, rest, other in zip(found, rests, rests[::-1], strict=True):
        options.note(
            [*source.reading.notes, *_left_out(source, [*rest.keys() - other])], quiet=quiet
        )
    mine, theirs = ([rest[name] for name in rests[0] if name in rests[1]] for rest in rests)
    with Meter("comparing", found[0].nbytes, quiet=quiet) as meter:
        states = list(compare_states(*found, tolerance, meter.add))
        return "states", states + list(compare_arrays(mine, theirs, tolerance, meter.add))


def _nbytes(array: StoredArray) -> int:
    return math.prod(array.shape) * array.dtype.itemsize


def _rest(source: Source) -> dict[str, StoredArray]:
    """Return the arrays of a file that are no part of its state, such as the outputs of a run."""
    reading = source.reading
    is_own = source.ckpt is None and any(one in reading.arrays for one in reading.file.arrays)
    arrays = reading.file.arrays if is_own else ()
    return {array.name: array for array in arrays if array not in reading.arrays}


def _left_out(source: Source, rest: Sequence[str]) -> list[str]:
    """Say which arrays of a file are not compared."""
    if not rest:
        return []
    more = f" and {len(rest) - 3} more" if len(rest) > 3 else ""
    names = ", ".join(map(printable, sorted(rest)[:3]))
    return [f"{source.reading.file.path}: only the state is compared, and not {names}{more}"]


def _sources(opened: Sequence[Opened], wanted: Wanted) -> tuple[Source, Source] | LstmstateError:
    """Read the two states; what one does not tell of its widths, the other may.

    Returns:
        An error where neither is one.

    Raises:
        LstmstateError: one of them is none, or damaged.
    """
    from lstmstate.operations.load import states_in
    from lstmstate.state.candidates import Cells

    found = [_state(one, wanted) for one in opened]
    for number, one in enumerate(opened):
        mine, other = found[number], found[1 - number]
        if isinstance(other, LstmstateError) or other.reading.is_halved:
            continue
        if isinstance(mine, LstmstateError) or mine.reading.is_halved:
            structure = other.reading.structure
            cells = (Cells(structure.cells, structure.is_stack),)
            with suppress(LstmstateError):
                from_other = wanted._replace(each=None, cells=cells, source=other.reading.file.path)
                found[number] = states_in(one, from_other)[0]
    first, second = found
    errors = [one for one in found if isinstance(one, LstmstateError)]
    if len(errors) == 2 and not any(isinstance(error, CorruptError) for error in errors):
        return errors[0]
    if isinstance(first, LstmstateError):
        raise first
    if isinstance(second, LstmstateError):
        raise second
    return first, second


def _state(opened: Opened, wanted: Wanted) -> Source | LstmstateError:
    """Read one of the two states; a layout may be that of the other one only."""
    from lstmstate.operations.load import states_in

    error = None
    for layout in dict.fromkeys((wanted.layout, None)):
        try:
            return states_in(opened, wanted._replace(layout=layout))[0]
        except LstmstateError as problem:
            error = error or problem
    assert error is not None
    return error
