"""`lstmstate verify`: lstmstate's arithmetic against TensorFlow's own cell or the graph's step."""

from __future__ import annotations

import gc
from functools import cached_property
from typing import TYPE_CHECKING

from lstmstate.cli import options
from lstmstate.cli.batch import Batch, print_document
from lstmstate.cli.command import Options, define, option, refuse
from lstmstate.cli.options import Arithmetic, Common, Part, Shape
from lstmstate.errors import UnsupportedError

if TYPE_CHECKING:
    from lstmstate.operations.verify import Trial

_EPILOG = """\b
Examples:
  lstmstate verify model.ckpt-7                      every cell, over random data
  lstmstate verify model.ckpt-7 x.npy                the stack, over your data
  lstmstate verify model.ckpt-7 --json && echo same
"""


class How(Options):
    """The two sides of a comparison, its tolerance, and the seed of random data."""

    engine: str = options.ENGINE
    against: str | None = option(
        "TensorFlow's own cell, or the graph's own step.  [default: tensorflow if installed]",
        ("tensorflow", "graph"),
    )
    tolerance: float | None = option(
        "The largest difference: |a - b| <= N + N * |b|.  [default: 1e-9, in float64]",
        options.tolerance,
        "N",
    )
    seed: int | None = option("The seed of the random data.  [default: 0]", options.whole, "N")

    @cached_property
    def judge(self) -> str:
        """The side to compare with."""
        from lstmstate.operations.verify import default_judge

        return self.against or default_judge()

    def check(self) -> None:
        """Raise a UsageError if both sides are the same."""
        is_judge = self.engine in ("tensorflow", "graph")
        problem = f"--engine {self.engine} is a reference; pass --against {self.engine} instead"
        refuse((is_judge, problem))


@define(_EPILOG, Part, How, Shape, Arithmetic, Common, ckpt_path="CKPT", inputs="[INPUT...]")
def command(
    ckpt_path: str,
    inputs: tuple[str, ...],
    part: Part,
    how: How,
    shape: Shape,
    arithmetic: Arithmetic,
    common: Common,
) -> int:
    """Compare lstmstate with a reference, over the same data; exit with 0 if the results agree.

    The reference is TensorFlow's own cell (pip install 'lstmstate[tensorflow]'), or the graph's own
    step, evaluated without TensorFlow. Without INPUT each cell steps over random data, and every
    step starts from the reference's state before it; with INPUT the network runs by itself, from
    zeros. Both compute in float64 from the same weights. Cells that the reference cannot run are
    named and left out.
    """
    gc.enable()  # TensorFlow makes cycles
    refuse(
        (
            not inputs and (shape.lengths is not None or shape.time_major),
            "--lengths and --time-major are for an INPUT",
        ),
        (inputs and how.seed is not None, "--seed is for random data, without an INPUT"),
    )
    from lstmstate.cells.families import RUNNABLE
    from lstmstate.cli.report.verify_report import verify_document, verify_table
    from lstmstate.engines.run_options import settle
    from lstmstate.operations.run import open_input
    from lstmstate.operations.verify import (
        load_pair,
        networks_of,
        over_input,
        over_random_data,
        sizes_of,
    )

    ckpt = common.open_checkpoint(ckpt_path)
    common.note_choice(ckpt_path, ckpt)
    batch = Batch(inputs)
    trials: list[Trial] = []
    if inputs:
        network = ckpt.network(cell=part.cell, stack=part.stack)
        both = load_pair(network, how.engine, arithmetic.given, how.tolerance, how.judge)
        common.note_options(both.ours.settled, strict=arithmetic.strict)

        def over(path: str) -> Trial:
            one = open_input(both.ours, path, header=common.header, **vars(shape))
            common.note(one.notes)
            with common.meter("verifying", one.steps, "steps") as meter:
                return over_input(both, one, meter.add)

        trials = batch.run(over)
    else:
        networks, given = networks_of(ckpt, part.cell, part.stack, how.judge), arithmetic.given
        cells = [cell for network in networks for cell in network.route.cells]
        settled = [settle(cell, given) for cell in cells if cell.family in RUNNABLE]
        common.note_options(settled, strict=arithmetic.strict)
        steps = sum(sum(sizes_of(network, how.judge)) for network in networks)
        data = (how.tolerance, how.seed or 0, how.judge)
        with common.meter("verifying", steps, "steps") as meter:
            for trial in over_random_data(networks, how.engine, given, *data):
                trials.append(trial)
                meter.add(trial.steps)
    refused = [trial.refused for trial in trials if trial.refused]
    if refused and (arithmetic.strict or len(refused) == len(trials)):
        raise UnsupportedError(refused[0])
    common.note(refused)
    code = batch.exit_code(answer=all(trial.agrees for trial in trials))
    if common.as_json:
        document = verify_document(ckpt.prefix, how.engine, how.judge, trials, batch.failed)
        print_document("lstmstate.verify/1", document)
    else:
        from lstmstate.cli.report.console import sheet

        verify_table(sheet(), ckpt.prefix, how.judge, trials)
    return code
