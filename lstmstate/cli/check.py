"""`lstmstate check`: assertions for CI."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click

from lstmstate.cli import CONTEXT, DONE, NO, SOME_FAILED, decided, options, tell
from lstmstate.errors import LstmstateError, each, printable

if TYPE_CHECKING:
    from lstmstate.operations.check import Finding

_EPILOG = """\b
Examples:
  lstmstate check model.ckpt-7 --units 128 --cells 2 --finite
  lstmstate check model.ckpt-7 --cells 24,12           two cells, and how wide each is
  lstmstate check model.ckpt-7 --has rnn/basic_lstm_cell/kernel
  lstmstate check state.npz --layout tuple --max-abs-m 1 && ./deploy
  lstmstate check flat.npy --units 128 --proj 64
"""
_ERAS = ("0.5-0.12", "1.0-1.1", "1.2+")
_WIDTH = click.IntRange(min=1)


@click.command("check", context_settings=CONTEXT, epilog=_EPILOG)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path())
@click.option("--units", type=_WIDTH, metavar="N", help="num_units of every cell.")
@click.option(
    "--proj", type=click.IntRange(min=0), metavar="N", help="num_proj of every cell; 0: none."
)
@click.option("--input-size", type=_WIDTH, metavar="N", help="The width of every cell's input.")
@click.option(
    "--cells",
    type=options.CellAssertion(),
    metavar="N|WIDTHS",
    help="How many cells there are, 2, or units or units:proj of each, in order: 128:64,128.",
)
@click.option("--layout", type=click.Choice(options.LAYOUT_NAMES), help="The layout of the state.")
@click.option("--finite", is_flag=True, default=None, help="No NaN and no Inf in any value.")
@click.option("--max-abs-m", type=click.FloatRange(min=0), metavar="X", help="|m| is X at most.")
@click.option("--has", multiple=True, metavar="NAME", help="There is a variable of this name.")
@click.option("--family", metavar="NAME", help="The class of every cell, such as BasicLSTMCell.")
@click.option("--forget-bias", type=float, metavar="X", help="The forget_bias of every cell.")
@click.option("--era", type=click.Choice(_ERAS), help="The age of the cells' names.")
@click.option("--cell", "cell", metavar="NAME", help="Assert of this cell of a checkpoint only.")
@options.assume_defaults
@options.from_layout
@options.header
@options.checksums
@options.as_json
@options.common
def command(
    paths: tuple[str, ...],
    cell: str | None,
    assume_defaults: bool,
    from_layout: str | None,
    header: bool | None,
    no_checksums: bool,
    quiet: bool,
    as_json: bool,
    **asserted: Any,
) -> int:
    """Hold a checkpoint or a state against what it should be; exit with 1 where it is not.

    Each assertion that fails is one line. Of a checkpoint, the assertions on cells are held
    against all of them, and those on the state against the states saved in it. For a name that is
    not there, the line tells what the same tensor is called in this file. What the files do not
    record is unknown, and what is asserted of it fails, unless defaults are assumed.

    A plain number after --cells counts cells. With a comma or a colon it lists their widths, as in
    the other commands: 24,12 is two cells, 24:24 one cell of 24 units, 128:64 one with a
    projection. The order is that of the layers, or of the cells in inspect.
    """
    from lstmstate.cli.report.console import Meter
    from lstmstate.operations.check import check_opened
    from lstmstate.operations.load import open_path

    if isinstance(asserted["cells"], list):
        from lstmstate.cells.cell import StateWidths
        from lstmstate.state.candidates import Cells

        asserted["cells"] = Cells.of_widths([StateWidths(*pair) for pair in asserted["cells"]])
    wanted = [
        (name, value)
        for name, given in asserted.items()
        for value in (given if name == "has" else (given,))
        if value is not None
    ]
    if not wanted:
        raise click.UsageError("nothing is asserted: say --units, --finite, --has, …")
    for name in ("max_abs_m", "forget_bias"):
        if asserted[name] is not None and math.isnan(asserted[name]):
            raise click.UsageError(f"--{name.replace('_', '-')} is not a number")
    verify = options.verify(no_checksums, quiet=quiet)
    results: list[tuple[str, list[Finding]]] = []
    failed = []
    for path in paths:
        try:
            opened = open_path(path, checksums=verify, header=header)
            options.resolved(path, opened.ckpt, quiet=quiet)
            with Meter("checking", None, quiet=quiet) as meter:
                found, notes = check_opened(
                    opened,
                    wanted,
                    cell=cell,
                    from_layout=from_layout,
                    assume_defaults=assume_defaults,
                    advance=meter.add,
                )
            options.note(notes, quiet=quiet)
            results.append((path, found))
        except LstmstateError as error:
            if len(paths) == 1:
                raise
            for one in each(error):
                failed.append((path, str(one)))
                tell(f"error: {one}")
    holds = all(one.holds for _, findings in results for one in findings)
    code = decided(SOME_FAILED if failed else DONE if holds else NO)
    _tell(results, failed, as_json=as_json, quiet=quiet, single=len(paths) == 1)
    return code


def _tell(
    results: list[tuple[str, list[Finding]]],
    failed: list[tuple[str, str]],
    *,
    as_json: bool,
    quiet: bool,
    single: bool,
) -> None:
    from lstmstate.cli.report.check_json import print_document, problems

    if as_json:
        print_document(results, failed, single=single)
        return
    for path, findings in results:
        for finding in findings:
            for problem in problems(finding):
                click.echo(f"{printable(path)}: {problem}")
            if finding.note:
                options.note([f"{path}: {finding.note}"], quiet=quiet)
        if all(one.holds for one in findings):
            options.note([f"{path}: {len(findings)} of {len(findings)} hold"], quiet=quiet)
