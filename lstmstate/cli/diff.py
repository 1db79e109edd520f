"""`lstmstate diff`: two states, or two checkpoints."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from lstmstate.cli import CONTEXT, DONE, NO, options
from lstmstate.errors import LstmstateError

if TYPE_CHECKING:
    from lstmstate.compare import Difference, Tolerance
    from lstmstate.sources import Source
    from lstmstate.state.reading import Wanted

_EPILOG = """\b
Examples:
  lstmstate diff flat.npy state.npz --units 128     two states, whatever their layouts
  lstmstate diff a/model.ckpt-7 b/model.ckpt-7      two checkpoints, tensor by tensor
  lstmstate diff state.npz model.ckpt-7             a state, and the one saved in a checkpoint
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
@options.widths
@options.checksums
@options.as_json
@options.common
def command(
    a: str, b: str, rtol: float, atol: float, exact: bool, quiet: bool, as_json: bool, **flags: Any
) -> int:
    """Compare two states or two checkpoints; exit with 0 if they are the same, 1 if not.

    Values a and b are the same where |a - b| <= atol + rtol * |b|; NaN is the same as NaN.
    Flags for layout and widths hold for whichever file does not tell them itself.
    """
    from lstmstate.compare import Tolerance, same
    from lstmstate.report.diff_report import diff_document, diff_table

    tolerance = Tolerance(rtol, atol, exact)
    kind, found = _compared(a, b, tolerance, flags, quiet=quiet)
    if as_json:
        import json

        document = diff_document(a, b, kind, found, tolerance)
        click.echo(json.dumps(document, indent=2, allow_nan=False))
    else:
        from lstmstate.report.console import sheet

        diff_table(sheet(), a, b, kind, found, tolerance)
    return DONE if same(found) else NO


def _compared(
    a: str, b: str, tolerance: Tolerance, flags: dict[str, Any], *, quiet: bool
) -> tuple[str, list[Difference]]:
    """Return what was compared, "states" or "checkpoints", and how."""
    from lstmstate.compare import compare_checkpoints, compare_states
    from lstmstate.report.console import Meter
    from lstmstate.sources import is_checkpoint

    verify = not flags["no_checksums"]
    if is_checkpoint(a) and is_checkpoint(b):
        from lstmstate.opened import open_checkpoint

        first, second = (open_checkpoint(path, checksums=verify) for path in (a, b))
        for path, ckpt in ((a, first), (b, second)):
            options.resolved(path, ckpt.prefix, ckpt.notes, quiet=quiet)
        total = sum(variable.nbytes or 0 for variable in first.variables.values())
        with Meter("comparing", total, quiet=quiet) as meter:
            return "checkpoints", list(compare_checkpoints(first, second, tolerance, meter.add))
    one, other = _sources(a, b, flags, verify=verify)
    for source in (one, other):
        options.note(source.reading.notes, quiet=quiet)
    with Meter("comparing", one.nbytes, quiet=quiet) as meter:
        return "states", list(compare_states(one, other, tolerance, meter.add))


def _sources(a: str, b: str, flags: dict[str, Any], *, verify: bool) -> tuple[Source, Source]:
    """Open the two states; what one does not tell of its widths, the other may."""
    from lstmstate.sources import open_source
    from lstmstate.state.reading import Cells, Wanted

    wanted = options.wanted(flags)
    opened: list[Source | LstmstateError] = []
    for path in (a, b):
        try:
            opened.append(_opened(path, wanted, verify=verify))
        except LstmstateError as error:
            opened.append(error)
    for number, path in enumerate((a, b)):
        one, other = opened[number], opened[1 - number]
        if isinstance(other, LstmstateError) or other.reading.is_halved:
            continue
        if isinstance(one, LstmstateError) or one.reading.is_halved:
            structure = other.reading.structure
            cells = (Cells(structure.cells, structure.is_stack),)
            from_other = Wanted(wanted.layout, None, cells, source=other.reading.file.path)
            with suppress(LstmstateError):
                opened[number] = open_source(path, from_other, checksums=verify)[0]
    first, second = opened
    for one in (first, second):
        if isinstance(one, LstmstateError):
            raise one
    assert not isinstance(first, LstmstateError)
    assert not isinstance(second, LstmstateError)
    return first, second


def _opened(path: str, wanted: Wanted, *, verify: bool) -> Source:
    """Open one of the two states; a layout may be that of the other one only."""
    from lstmstate.sources import open_source

    try:
        return open_source(path, wanted, checksums=verify)[0]
    except LstmstateError:
        if wanted.layout is None:
            raise
        return open_source(path, wanted._replace(layout=None), checksums=verify)[0]
