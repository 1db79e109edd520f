"""`lstmstate diff`: two states, two checkpoints, or the arrays of two files."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click

from lstmstate.cli import CONTEXT, DONE, NO, decided, options

if TYPE_CHECKING:
    from lstmstate.operations.compare import Difference, Tolerance

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
    from lstmstate.operations.compare import pair_up
    from lstmstate.operations.load import open_path
    from lstmstate.state.candidates import Wanted

    verify = options.verify(flags["no_checksums"], quiet=quiet)
    opened = [open_path(path, checksums=verify, header=flags["header"]) for path in (a, b)]
    for path, ckpt in ((one.path, one.ckpt) for one in opened):
        options.resolved(path, ckpt, quiet=quiet)
    are_models = all(one.is_model for one in opened)
    wanted = Wanted() if are_models else options.wanted(flags, quiet=quiet)
    pair = pair_up(opened[0], opened[1], wanted, tolerance)
    options.note(pair.notes, quiet=quiet)
    with Meter("comparing", pair.nbytes, quiet=quiet) as meter:
        return pair.kind, list(pair.differences(meter.add))
