"""`lstmstate verify`: lstmstate's arithmetic against TensorFlow's own cell or the graph's step."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

from lstmstate.cli import options
from lstmstate.cli.batch import Batch, print_document
from lstmstate.cli.command import Options, define, option, refuse
from lstmstate.cli.options import Arithmetic, Common, Part, Shape

if TYPE_CHECKING:
    from lstmstate.operations.verify import Trial

_EPILOG = """\b
Examples:
  lstmstate verify model.ckpt-7                      every cell, over random data
  lstmstate verify model.ckpt-7 x.npy                the stack, over your data
  lstmstate verify model.ckpt-7 --json && echo same
"""


class VerifyOptions(Options):
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

    def check(self) -> None:
        """Raise a UsageError if both sides are the same."""
        is_judge = self.engine in ("tensorflow", "graph")
        problem = f"--engine {self.engine} is a reference; pass --against {self.engine} instead"
        refuse((is_judge, problem))


@define(
    _EPILOG, Part, VerifyOptions, Shape, Arithmetic, Common, ckpt_path="CKPT", inputs="[INPUT...]"
)
def command(
    ckpt_path: str,
    inputs: tuple[str, ...],
    part: Part,
    verify_options: VerifyOptions,
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
        (inputs and verify_options.seed is not None, "--seed is for random data, without an INPUT"),
    )
    from lstmstate.cli.report.verify_report import verify_document, verify_table
    from lstmstate.operations.verify import Verification, VerifyRequest

    ckpt = common.open_checkpoint(ckpt_path)
    request = VerifyRequest(
        **vars(part),
        **vars(verify_options),
        **vars(shape),
        options=arithmetic.given,
        header=common.header,
    )
    verification = Verification(ckpt, request, has_inputs=bool(inputs))
    common.note_options(verification.settled, strict=arithmetic.strict)

    def over(path: str) -> Trial:
        one = verification.open(path)
        common.note(one.notes)
        with common.meter("verifying", one.steps, "steps") as meter:
            return verification.over_input(one, meter.add)

    batch = Batch(inputs)
    if inputs:
        trials = batch.run(over)
    else:
        with common.meter("verifying", verification.steps, "steps") as meter:
            trials = verification.over_random_data(meter.add)
    common.note(verification.left_out(trials, strict=arithmetic.strict))
    code = batch.exit_code(answer=all(trial.agrees for trial in trials))
    if common.as_json:
        document = verify_document(
            ckpt.prefix, verify_options.engine, verification.judge, trials, batch.failed
        )
        print_document("lstmstate.verify/1", document)
    else:
        from lstmstate.cli.report.console import sheet

        verify_table(sheet(), ckpt.prefix, verification.judge, trials)
    return code
