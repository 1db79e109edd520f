"""`lstmstate verify`: our arithmetic against TensorFlow's own cell, or the graph's own step."""

from __future__ import annotations

import gc
import math
from typing import TYPE_CHECKING, Any

import click

from lstmstate.cli import CONTEXT, DONE, NO, SOME_FAILED, decided, options, tell
from lstmstate.errors import LstmstateError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lstmstate.model.checkpoint import LSTMCheckpoint
    from lstmstate.operations.verify import Trial

_EPILOG = """\b
Examples:
  lstmstate verify model.ckpt-7                      every cell, over random data
  lstmstate verify model.ckpt-7 x.npy                the stack, over your own
  lstmstate verify model.ckpt-7 --json && echo same
"""


@click.command("verify", context_settings=CONTEXT, epilog=_EPILOG)
@click.argument("ckpt_path", metavar="CKPT", type=click.Path())
@click.argument("inputs", metavar="[INPUT...]", nargs=-1, type=click.Path(allow_dash=True))
@click.option("--cell", metavar="NAME", help="Which cell; all of them unless given.")
@click.option("--stack", metavar="NAME", help="Which stack, or pair of directions.")
@options.engine
@click.option(
    "--against",
    type=click.Choice(["tensorflow", "graph"]),
    help="TensorFlow's own cell, or the graph's own step.  [default: tensorflow if installed]",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    metavar="N",
    help="How far apart: |a - b| <= N + N * |b|.  [default: 1e-9, in float64]",
)
@click.option(
    "--seed", type=click.IntRange(min=0), metavar="N", help="Of the random data.  [default: 0]"
)
@options.header
@click.option("--time-major", is_flag=True, help="Batches are [time, batch, width].")
@click.option("--lengths", metavar="FILE|KEY", help="How many steps each sequence has.")
@options.arithmetic
@click.option(
    "--strict", is_flag=True, help="End with 3 where an option is assumed, or a cell not verified."
)
@options.assume_defaults
@options.checksums
@options.as_json
@options.common
def command(
    ckpt_path: str, inputs: tuple[str, ...], quiet: bool, as_json: bool, **flags: Any
) -> int:
    """Run the same data through lstmstate and its judge; exit with 0 if the results agree.

    The judge is TensorFlow's own cell (pip install 'lstmstate[tensorflow]'), or the graph's own
    step, evaluated without TensorFlow. Without INPUT each cell steps over random data, and every
    step starts from the judge's state before it; with INPUT the network runs by itself, from zeros.
    Both compute in float64 from the same weights. Cells that the judge cannot run are named and
    left out.
    """
    gc.enable()  # TensorFlow makes cycles
    from lstmstate.cli.report.verify_report import verify_document, verify_table
    from lstmstate.model.checkpoint import open_checkpoint
    from lstmstate.operations.verify import JUDGES, default_judge

    if flags["tolerance"] is not None and not math.isfinite(flags["tolerance"]):
        raise click.UsageError("--tolerance is a number")
    if flags["engine"] in JUDGES:
        raise click.UsageError(f"--engine {flags['engine']} is a judge; see --against")
    options.refuse_both(flags)
    if flags["cell"] is not None and flags["stack"] is not None:
        raise click.UsageError("give --cell or --stack, not both")
    if not inputs and (flags["lengths"] or flags["time_major"]):
        raise click.UsageError("--lengths and --time-major are of an INPUT")
    if inputs and flags["seed"] is not None:
        raise click.UsageError("--seed is that of random data, without an INPUT")
    flags["against"] = flags["against"] or default_judge()
    ckpt = open_checkpoint(ckpt_path, checksums=options.verify(flags["no_checksums"], quiet=quiet))
    options.resolved(ckpt_path, ckpt, quiet=quiet)
    failed: list[tuple[str, str]] = []
    trials = list(_trials(ckpt, inputs, flags, failed, quiet=quiet))
    refused = [trial.refused for trial in trials if trial.refused]
    if refused and (flags["strict"] or len(refused) == len(trials)):
        raise UnsupportedError(refused[0])
    options.note(refused, quiet=quiet)
    agrees = all(trial.agrees for trial in trials)
    code = decided(SOME_FAILED if failed else DONE if agrees else NO)
    if as_json:
        import json

        document = verify_document(ckpt.prefix, flags["engine"], flags["against"], trials, failed)
        click.echo(json.dumps(document, indent=2, allow_nan=False))
    else:
        from lstmstate.cli.report.console import sheet

        verify_table(sheet(), ckpt.prefix, flags["against"], trials)
    return code


def _trials(
    ckpt: LSTMCheckpoint,
    inputs: tuple[str, ...],
    flags: dict[str, Any],
    failed: list[tuple[str, str]],
    *,
    quiet: bool,
) -> Iterable[Trial]:
    """Yield what was tried: each input, or each cell over random data; note the failed ones."""
    from lstmstate.cells.families import RUNNABLE
    from lstmstate.cli.report.console import Meter
    from lstmstate.engines.options import settle
    from lstmstate.operations.run import open_input
    from lstmstate.operations.verify import load_pair, networks_of, over_input, over_random_data

    engine, tolerance, given = flags["engine"], flags["tolerance"], options.given(flags)
    if not inputs:
        networks = networks_of(ckpt, flags["cell"], flags["stack"], flags["against"])
        cells = [cell for network in networks for cell in network.route.cells]
        settled = [settle(cell, given) for cell in cells if cell.family in RUNNABLE]
        options.say_settled(settled, strict=flags["strict"], quiet=quiet)
        seed, against = flags["seed"] or 0, flags["against"]
        yield from over_random_data(networks, engine, given, tolerance, seed, against)
        return
    network = ckpt.network(cell=flags["cell"], stack=flags["stack"])
    both = load_pair(network, engine, given, tolerance, flags["against"])
    options.say_settled(both.ours.settled, strict=flags["strict"], quiet=quiet)
    for path in inputs:
        how = {name: flags[name] for name in ("lengths", "time_major", "header")}
        try:
            one = open_input(both.ours, path, **how)
            options.note(one.sequences.notes, quiet=quiet)
            with Meter("verifying", one.nbytes, quiet=quiet) as meter:
                yield over_input(both, one, meter.add)
        except LstmstateError as error:
            if len(inputs) == 1:
                raise
            failed.append((path, str(error)))
            tell(f"error: {error}")
