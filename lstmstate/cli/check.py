"""`lstmstate check`: assertions for CI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lstmstate.cli import options
from lstmstate.cli.batch import Batch
from lstmstate.cli.command import Options, define, option, refuse
from lstmstate.cli.options import Common
from lstmstate.errors import printable

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


class Assertions(Options):
    """The assertions of one call, by the names of `operations.check.ASSERTIONS`."""

    units: int | None = option("num_units of every cell.", options.positive, "N")
    proj: int | None = option("num_proj of every cell; 0: none.", options.whole, "N")
    input_size: int | None = option("The input width of every cell.", options.positive, "N")
    cells: int | list[tuple[int, int]] | None = option(
        "The number of cells, 2, or units or units:proj of each, in order: 128:64,128.",
        options.number_or_widths,
        "N|WIDTHS",
    )
    layout: str | None = option(
        "The layout of the state: see convert --list.", options.LAYOUT_NAMES, "LAYOUT"
    )
    finite: bool | None = option("No value is NaN or Inf.", flags="--finite")
    max_abs_m: float | None = option("No |m| is larger than X.", options.tolerance, "X")
    has: tuple[str, ...] = option("There is a variable with this name.", metavar="NAME")
    family: str | None = option("The class of every cell, such as BasicLSTMCell.", metavar="NAME")
    forget_bias: float | None = option("The forget_bias of every cell.", options.number, "X")
    era: str | None = option(
        "The TensorFlow versions that name the variables in this way.",
        ("0.5-0.12", "1.0-1.1", "1.2+"),
    )

    @property
    def each(self) -> list[tuple[str, Any]]:
        """(name, value) of each assertion, in the order of the flags."""
        return [
            (name, value)
            for name, given in vars(self).items()
            for value in (given if name == "has" else (given,))
            if value is not None
        ]

    def check(self) -> None:
        """Raise a UsageError if there is none."""
        refuse((not self.each, "nothing to check: pass --units, --finite, --has, …"))


class CheckOptions(Options):
    """The cell to check, and what to assume."""

    cell: str | None = option("Check this cell of a checkpoint only.", metavar="NAME")
    assume_defaults: bool = options.ASSUME_DEFAULTS
    from_layout: str | None = options.FROM


@define(_EPILOG, Assertions, CheckOptions, Common, paths="PATH...")
def command(
    paths: tuple[str, ...], assertions: Assertions, check_options: CheckOptions, common: Common
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
    from lstmstate.operations.check import check_opened

    wanted = assertions.each
    if isinstance(assertions.cells, list):
        from lstmstate.state.candidates import Cells

        cells = Cells.of_pairs(assertions.cells)
        wanted = [(name, cells if name == "cells" else value) for name, value in wanted]

    def check(path: str) -> tuple[str, list[Finding]]:
        opened = common.open(path)
        with common.meter("checking") as meter:
            found, notes = check_opened(opened, wanted, advance=meter.add, **vars(check_options))
        common.note(notes)
        return path, found

    batch = Batch(paths)
    results = batch.run(check)
    holds = all(one.holds for _, findings in results for one in findings)
    code = batch.exit_code(answer=holds)
    from lstmstate.cli.report.documents import check_document, problems

    if common.as_json:
        documents = [check_document(path, findings) for path, findings in results]
        batch.print_documents("lstmstate.check/1", documents, holds=holds and not batch.failed)
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
