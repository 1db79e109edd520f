"""`lstmstate check`: assertions for CI."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from lstmstate.cli import CONTEXT, DONE, NO, SOME_FAILED, decided, options, tell
from lstmstate.errors import (
    AmbiguousError,
    CorruptError,
    LstmstateError,
    UnsupportedError,
    each,
    printable,
)

if TYPE_CHECKING:
    from lstmstate.model.saved_states import Source
    from lstmstate.operations.check import Finding
    from lstmstate.operations.load import Opened

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
    checker = _Checker(
        cell,
        from_layout,
        header,
        asserted,
        assume_defaults=assume_defaults,
        verify=verify,
        quiet=quiet,
    )
    results: list[tuple[str, list[Finding]]] = []
    failed = []
    for path in paths:
        try:
            results.append((path, checker.check(path, wanted)))
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


class _Checker:
    """What was asserted, the same for each path."""

    def __init__(
        self,
        cell: str | None,
        from_layout: str | None,
        header: bool | None,
        asserted: dict[str, Any],
        *,
        assume_defaults: bool,
        verify: bool,
        quiet: bool,
    ) -> None:
        self._assume_defaults = assume_defaults
        self._cell = cell
        self._from_layout = from_layout
        self._header = header
        self._asserted = asserted
        self._verify = verify
        self._quiet = quiet

    def check(self, path: str, wanted: list[tuple[str, Any]]) -> list[Finding]:
        """Return what comes of the assertions for one path."""
        from lstmstate.cli.report.console import Meter
        from lstmstate.model.saved_states import all_states
        from lstmstate.operations.check import Finding, Target, check
        from lstmstate.operations.load import open_path

        opened = open_path(path, checksums=self._verify, header=self._header)
        options.resolved(path, opened.ckpt, quiet=self._quiet)
        with Meter("checking", None, quiet=self._quiet) as meter:
            ckpt = opened.ckpt
            if opened.is_model and ckpt is not None:
                cells = list(ckpt.cells.values()) if self._cell is None else [ckpt.cell(self._cell)]
                target = Target(
                    ckpt,
                    cells,
                    lambda: all_states(ckpt),
                    meter.add,
                    assume_defaults=self._assume_defaults,
                    narrowed=self._cell is not None,
                )
                return list(check(target, wanted))
            if self._cell is not None:
                raise LstmstateError("--cell is for checkpoints", path=path, advice="leave it out")
            state = self._state(opened)
            if isinstance(state, LstmstateError):
                # What the state consists of is not known, so that nothing can be said of it.
                why = f"{state.problem}; {state.advice}" if state.advice else state.problem
                return [Finding(name, value, (why,)) for name, value in wanted]
            options.note([f"{path}: {note}" for note in state.reading.notes], quiet=self._quiet)
            return list(check(Target(None, [], lambda: [state], meter.add), wanted))

    def _state(self, opened: Opened) -> Source | LstmstateError:
        """Return a state; the widths that are asserted tell what the file does not.

        Returns an error, and raises none, where they do not fit it.
        """
        from lstmstate.cells.cell import StateWidths
        from lstmstate.operations.load import states_in
        from lstmstate.state.candidates import Cells, Wanted

        plain = Wanted(self._from_layout)
        units, proj, asserted = (self._asserted[name] for name in ("units", "proj", "cells"))
        lists_widths = isinstance(asserted, Cells)
        if units is None and not lists_widths:
            return states_in(opened, plain)[0]
        found: Source | None = None
        with suppress(LstmstateError):
            found = states_in(opened, plain)[0]
        if found is not None and not found.reading.is_halved:
            return found
        cells = asserted
        if not lists_widths:
            count = min(asserted or 1, options.MAX_CELLS)
            cells = Cells.of_widths([StateWidths(units, proj or units)] * count)
        try:
            told = plain._replace(cells=(cells,), source="the assertions")
            return states_in(opened, told)[0]
        except (AmbiguousError, CorruptError, UnsupportedError):
            raise
        except LstmstateError as error:
            return found or error
