"""`lstmstate diff`: two states, two checkpoints, or the arrays of two files."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from lstmstate.cli import DONE, NO, decide, options
from lstmstate.cli.batch import print_document
from lstmstate.cli.command import Options, define, option
from lstmstate.cli.options import Common, Widths
from lstmstate.errors import CorruptError, LstmstateError, printable

if TYPE_CHECKING:
    from lstmstate.operations.compare import Difference, Tolerance

_EPILOG = """\b
Examples:
  lstmstate diff flat.npy state.npz --units 128     two states, in any layouts
  lstmstate diff a/model.ckpt-7 b/model.ckpt-7      two checkpoints, tensor by tensor
  lstmstate diff state.npz model.ckpt-7             a state, and the one saved in a checkpoint
  lstmstate diff run_a.npz run_b.npz                the results of two runs, outputs and states
  lstmstate diff --exact before.npz after.npz && echo same
"""


class Compared(Options):
    """The tolerance, and the layout of a state."""

    rtol: float = option(
        "Relative tolerance.", options.tolerance, "N", default=1e-5, show_default=True
    )
    atol: float = option(
        "Absolute tolerance.", options.tolerance, "N", default=1e-8, show_default=True
    )
    exact: bool = option("Compare bits: dtypes, signs of zeros and NaNs too.")
    from_layout: str | None = options.FROM


@define(_EPILOG, Compared, Widths, Common, a="A", b="B")
def command(a: str, b: str, compared: Compared, widths: Widths, common: Common) -> int:
    """Compare two states or two checkpoints; exit with 0 if they are the same, 1 if not.

    Arrays with the same name in both files that belong to no state, such as the outputs of two
    runs, are compared too. Two files without a state are compared array by array.

    Values a and b are the same if |a - b| <= atol + rtol * |b|; NaN is the same as NaN. Options for
    the layout and the widths apply to a file that does not record its own.
    """
    from lstmstate.cli.report.diff_report import diff_document, diff_table
    from lstmstate.operations.compare import Tolerance, same

    tolerance = Tolerance(compared.rtol, compared.atol, compared.exact)
    opened = common.open(a), common.open(b)
    want = partial(widths.wanted, compared.from_layout, common)
    kind, found = _compare(opened, tolerance, want, common)
    code = decide(DONE if same(found) else NO)
    if common.as_json:
        print_document("lstmstate.diff/1", diff_document(a, b, kind, found, tolerance))
    else:
        from lstmstate.cli.report.console import sheet

        diff_table(sheet(), a, b, kind, found, tolerance)
    return code


def _compare(
    opened: Sequence[Opened], tolerance: Tolerance, want: Callable[[], Wanted], common: Common
) -> tuple[str, list[Difference]]:
    """Return the kind of comparison, "states", "arrays" or "checkpoints", and its result."""
    from lstmstate.operations.compare import compare_arrays, compare_checkpoints, compare_states

    first, second = opened
    if first.is_model and second.is_model and first.ckpt is not None and second.ckpt is not None:
        total = sum(variable.nbytes or 0 for variable in first.ckpt.variables.values())
        with common.meter("comparing", total) as meter:
            found = compare_checkpoints(first.ckpt, second.ckpt, tolerance, meter.add)
            return "checkpoints", list(found)
    wanted = want()
    sources = _sources(opened, wanted)
    if isinstance(sources, LstmstateError):
        if wanted.layout or wanted.knows_widths or first.file is None or second.file is None:
            raise sources
        common.note([f"no state in either file ({sources.problem}): their arrays are compared"])
        mine, theirs = first.file.arrays, second.file.arrays
        with common.meter("comparing", sum(map(_nbytes, mine))) as meter:
            return "arrays", list(compare_arrays(mine, theirs, tolerance, meter.add))
    rests = [_rest(source) for source in sources]
    for source, rest, other in zip(sources, rests, rests[::-1], strict=True):
        common.note([*source.reading.notes, *_left_out(source, [*rest.keys() - other])])
    mine, theirs = ([rest[name] for name in rests[0] if name in rests[1]] for rest in rests)
    with common.meter("comparing", sources[0].nbytes) as meter:
        states = list(compare_states(*sources, tolerance, meter.add))
        return "states", states + list(compare_arrays(mine, theirs, tolerance, meter.add))


def _nbytes(array: StoredArray) -> int:
    return math.prod(array.shape) * array.dtype.itemsize


def _rest(source: Source) -> dict[str, StoredArray]:
    """Return the arrays of a file outside its state, such as the outputs of a run."""
    reading = source.reading
    is_own = source.ckpt is None and any(one in reading.arrays for one in reading.file.arrays)
    arrays = reading.file.arrays if is_own else ()
    return {array.name: array for array in arrays if array not in reading.arrays}


def _left_out(source: Source, rest: Sequence[str]) -> list[str]:
    """Return a note on the arrays that are not compared, if there are any."""
    if not rest:
        return []
    more = f" and {len(rest) - 3} more" if len(rest) > 3 else ""
    names = ", ".join(map(printable, sorted(rest)[:3]))
    return [f"{source.reading.file.path}: only the state is compared, and not {names}{more}"]


def _sources(opened: Sequence[Opened], wanted: Wanted) -> tuple[Source, Source] | LstmstateError:
    """Read the two states; one without widths gets the other's. Return an error if both fail."""
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
    """Read one of the two states; the layout asked for may be that of the other."""
    from lstmstate.operations.load import states_in

    error = None
    for layout in dict.fromkeys((wanted.layout, None)):
        try:
            return states_in(opened, wanted._replace(layout=layout))[0]
        except LstmstateError as problem:
            error = error or problem
    assert error is not None
    return error
