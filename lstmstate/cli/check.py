"""`lstmstate check`: assertions for CI."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from lstmstate.cli import CONTEXT, options
from lstmstate.cli.batch import Batch
from lstmstate.errors import (
    AmbiguousError,
    CorruptError,
    LstmstateError,
    UnsupportedError,
    printable,
)
from lstmstate.records import NamedTuple

if TYPE_CHECKING:
    from lstmstate.operations.check import Finding

_EPILOG = """\b
Examples:
  lstmstate check model.ckpt-7 --units 128 --cells 2 --finite
  lstmstate check model.ckpt-7 --cells 24,12           two cells, and the width of each
  lstmstate check model.ckpt-7 --has rnn/basic_lstm_cell/kernel
  lstmstate check state.npz --layout tuple --max-abs-m 1 && ./deploy
  lstmstate check flat.npy --units 128 --proj 64
"""


class Asserted:
    """The assertions of one call, by the names of `operations.check.ASSERTIONS`.

    Attributes:
        each: (name, value) of each, in the order of the flags.
    """

    _fields = tuple(
        "units proj input_size cells layout finite max_abs_m has family forget_bias era".split()
    )

    def __init__(self, **values: Any) -> None:
        self.units: int | None = values["units"]
        self.proj: int | None = values["proj"]
        self.cells: int | list[tuple[int, int]] | None = values["cells"]
        self.each: list[tuple[str, Any]] = [
            (name, value)
            for name, given in values.items()
            for value in (given if name == "has" else (given,))
            if value is not None
        ]

    def check(self) -> None:
        """Raise a UsageError if there is none."""
        options.refuse((not self.each, "nothing to check: pass --units, --finite, --has, …"))


@click.command("check", context_settings=CONTEXT, epilog=_EPILOG)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path())
@options.group(
    "asserted",
    Asserted,
    click.option("--units", type=options.POSITIVE, metavar="N", help="num_units of every cell."),
    click.option(
        "--proj", type=click.IntRange(min=0), metavar="N", help="num_proj of every cell; 0: none."
    ),
    click.option(
        "--input-size", type=options.POSITIVE, metavar="N", help="The input width of every cell."
    ),
    click.option(
        "--cells",
        type=options.CellAssertion(),
        metavar="N|WIDTHS",
        help="The number of cells, 2, or units or units:proj of each, in order: 128:64,128.",
    ),
    click.option(
        "--layout", type=click.Choice(options.LAYOUT_NAMES), help="The layout of the state."
    ),
    click.option("--finite", is_flag=True, default=None, help="No value is NaN or Inf."),
    click.option(
        "--max-abs-m", type=options.NON_NEGATIVE, metavar="X", help="No |m| is larger than X."
    ),
    click.option(
        "--has", multiple=True, metavar="NAME", help="There is a variable with this name."
    ),
    click.option(
        "--family", metavar="NAME", help="The class of every cell, such as BasicLSTMCell."
    ),
    click.option(
        "--forget-bias", type=options.NUMBER, metavar="X", help="The forget_bias of every cell."
    ),
    click.option(
        "--era",
        type=click.Choice(["0.5-0.12", "1.0-1.1", "1.2+"]),
        help="The TensorFlow versions that name the variables in this way.",
    ),
)
@click.option("--cell", metavar="NAME", help="Check this cell of a checkpoint only.")
@options.assume_defaults
@options.from_layout
@options.common
def command(
    paths: tuple[str, ...],
    asserted: Asserted,
    cell: str | None,
    assume_defaults: bool,
    from_layout: str | None,
    common: options.Common,
) -> int:
    """Check assertions on checkpoints and states; exit with 1 if one fails.

    Each assertion that fails is one line. In a checkpoint, assertions on cells are checked for all
    cells, and those on the state for each saved state. If a variable has another name in the file,
    the line shows it. An option that is not in the files is unknown, and an assertion on it fails
    unless you pass --assume-defaults.

    A plain number after --cells is the number of cells. With a comma or a colon it is a list of
    widths, as in the other commands: 24,12 is two cells, 24:24 one cell of 24 units, 128:64 one
    with a projection. The order is that of the layers, or of the cells in inspect.
    """
    checker = _Checker(asserted, cell, assume_defaults, from_layout, common)
    batch = Batch(paths)
    results = batch.run(checker.check)
    holds = all(one.holds for _, findings in results for one in findings)
    code = batch.exit_code(answer=holds)
    from lstmstate.cli.report.check_json import SCHEMA, check_document, problems

    if common.as_json:
        documents = [check_document(path, findings) for path, findings in results]
        batch.print_documents(SCHEMA, documents, holds=holds and not batch.failed)
        return code
    for path, findings in results:
        for finding in findings:
            for problem in problems(finding):
                print(f"{printable(path)}: {problem}")
            if finding.note:
                common.note([f"{path}: {finding.note}"])
        if all(one.holds for one in findings):
            common.note([f"{path}: {len(findings)} of {len(findings)} passed"])
    return code


class _Checker(NamedTuple):
    """The assertions and options of one call, the same for each path."""

    asserted: Asserted
    cell: str | None
    assume_defaults: bool
    from_layout: str | None
    common: options.Common

    def check(self, path: str) -> tuple[str, list[Finding]]:
        """Return the path and a finding for each assertion."""
        from lstmstate.operations.check import Finding, Target, check
        from lstmstate.operations.load import all_states

        wanted = self.asserted.each
        if isinstance(self.asserted.cells, list):
            cells = options.cells_of(self.asserted.cells)
            wanted = [(name, cells if name == "cells" else value) for name, value in wanted]
        opened = self.common.open(path)
        ckpt = opened.ckpt
        with self.common.meter("checking") as meter:
            if opened.is_model and ckpt is not None:
                target = Target(
                    ckpt,
                    list(ckpt.cells.values()) if self.cell is None else [ckpt.cell(self.cell)],
                    lambda: all_states(ckpt),
                    meter.add,
                    assume_defaults=self.assume_defaults,
                    narrowed=self.cell is not None,
                )
                return path, list(check(target, wanted))
            if self.cell is not None:
                raise LstmstateError("--cell is for checkpoints", path=path, advice="leave it out")
            state = self._state(opened)
            if isinstance(state, LstmstateError):  # nothing is known of its cells
                why = f"{state.problem}; {state.advice}" if state.advice else state.problem
                return path, [Finding(name, value, (why,)) for name, value in wanted]
            self.common.note(f"{path}: {note}" for note in state.reading.notes)
            return path, list(check(Target(None, [], lambda: [state], meter.add), wanted))

    def _state(self, opened: Opened) -> Source | LstmstateError:
        """Return a state, by the asserted widths if the file does not record its own.

        Returns an error if they do not fit it.
        """
        from lstmstate.operations.load import states_in
        from lstmstate.state.candidates import Wanted

        plain = Wanted(self.from_layout)
        units, proj, asserted = self.asserted.units, self.asserted.proj, self.asserted.cells
        if units is None and not isinstance(asserted, list):
            return states_in(opened, plain)[0]
        found: Source | None = None
        with suppress(LstmstateError):
            found = states_in(opened, plain)[0]
        if found is not None and not found.reading.is_halved:
            return found
        if not isinstance(asserted, list):
            assert units is not None
            asserted = [(units, proj or units)] * min(asserted or 1, options.MAX_CELLS)
        try:
            wanted = plain._replace(cells=(options.cells_of(asserted),), source="the assertions")
            return states_in(opened, wanted)[0]
        except (AmbiguousError, CorruptError, UnsupportedError):
            raise
        except LstmstateError as error:
            return found or error
