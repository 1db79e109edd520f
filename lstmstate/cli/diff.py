"""`lstmstate diff`: two states, two checkpoints, or the arrays of two files."""

from __future__ import annotations

from lstmstate.cli import DONE, NO, options
from lstmstate.cli.batch import print_document
from lstmstate.cli.command import Options, define, option
from lstmstate.cli.options import Common, Widths

_EPILOG = """\b
Examples:
  lstmstate diff flat.npy state.npz --units 128     two states, in any layouts
  lstmstate diff a/model.ckpt-7 b/model.ckpt-7      two checkpoints, tensor by tensor
  lstmstate diff state.npz model.ckpt-7             a state, and the one saved in a checkpoint
  lstmstate diff run_a.npz run_b.npz                the results of two runs, outputs and states
  lstmstate diff --exact before.npz after.npz && echo same
"""


class DiffOptions(Options):
    """The tolerance, and the layout of a state."""

    rtol: float = option(
        "Relative tolerance.", options.tolerance, "N", default=1e-5, show_default=True
    )
    atol: float = option(
        "Absolute tolerance.", options.tolerance, "N", default=1e-8, show_default=True
    )
    exact: bool = option("Compare bits: dtypes, signs of zeros and NaNs too.")
    from_layout: str | None = options.FROM


@define(_EPILOG, DiffOptions, Widths, Common, a="A", b="B")
def command(a: str, b: str, diff_options: DiffOptions, widths: Widths, common: Common) -> int:
    """Compare two states or two checkpoints; exit with 0 if they are the same, 1 if not.

    Arrays with the same name in both files that belong to no state, such as the outputs of two
    runs, are compared too. Two files without a state are compared array by array.

    Values a and b are the same if |a - b| <= atol + rtol * |b|; NaN is the same as NaN. Options for
    the layout and the widths apply to a file that does not record its own.
    """
    from lstmstate.cli.report.diff_report import diff_document, diff_table
    from lstmstate.operations.compare import Tolerance, pair_up, same
    from lstmstate.state.candidates import Wanted

    tolerance = Tolerance(diff_options.rtol, diff_options.atol, diff_options.exact)
    first, second = common.open(a), common.open(b)
    are_models = first.is_model and second.is_model
    wanted = Wanted() if are_models else widths.wanted(diff_options.from_layout, common)
    pair = pair_up(first, second, wanted, tolerance)
    common.note(pair.notes)
    with common.meter("comparing", pair.nbytes) as meter:
        kind, found = pair.kind, list(pair.differences(meter.add))
    code = DONE if same(found) else NO
    if common.as_json:
        print_document("lstmstate.diff/1", diff_document(a, b, kind, found, tolerance))
    else:
        from lstmstate.cli.report.console import sheet

        diff_table(sheet(), a, b, kind, found, tolerance)
    return code
