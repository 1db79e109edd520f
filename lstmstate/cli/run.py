"""`lstmstate run`: the cells of a checkpoint over data, from a state to a state."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lstmstate.cli import options, print_path
from lstmstate.cli.batch import Batch
from lstmstate.cli.command import Json, Options, define, option, refuse
from lstmstate.cli.options import Arithmetic, Common, Part, Placeholders, Shape
from lstmstate.errors import printable
from lstmstate.named_tuple import NamedTuple

if TYPE_CHECKING:
    from lstmstate.operations.run import FileRun

_EPILOG = """\b
Examples:
  lstmstate run model.ckpt-7 x.npy -o y.npz                the outputs and the state after them
  lstmstate run model.ckpt-7 x.npy --state y.npz           continue from there; tables, no file
  lstmstate run model.ckpt-7 data.csv:temp,wind -o y.npz   two columns of a table, a row per step
  lstmstate run model.ckpt-7 batch.npz:x --lengths len.npy -o y.h5
  lstmstate run model.ckpt-7 a.npy b.npy --out-dir out     a file each, each from the same state
  lstmstate run model.ckpt-7 - -o - < x.npy > y.npz
"""


class Results(Options):
    """The files to write, and their contents."""

    output: str | None = option(
        "The file to write: .npz, .h5, .npy, .safetensors or .pt; - for stdout.",
        metavar="OUT",
        flags="-o --output",
    )
    out_dir: str | None = option("The folder to write into, a file per input.", metavar="DIR")
    kind: str | None = option(
        "The kind of file to write, if its name does not show it.",
        options.ROW_KIND_NAMES,
        flags="--format",
    )
    state_out: str | None = option("Write the state after the last step here.", metavar="FILE")
    state_layout: str | None = option(
        "The layout of --state-out: see convert --list.  [default: tuple]",
        options.LAYOUT_NAMES,
        "LAYOUT",
    )
    all_states: bool = option("Write c and m of every step too.")
    trace: bool = option("Write c, m and the gates i, j, f, o of every step.")
    compress: bool = options.COMPRESS
    force: bool = options.FORCE


class Start(Options):
    """The state to begin with."""

    state_path: str | None = option("The state to begin with.", metavar="FILE", flags="--state")
    zero_state: bool = option("Begin with zeros, as without --state.")
    carry_state: bool = option("Begin each input with the last one's state.")
    from_layout: str | None = option(
        "Layout of --state, if it cannot be determined.",
        options.LAYOUT_NAMES,
        "LAYOUT",
        flags="--from",
    )
    allow_nan: bool = option("Accept inputs and states with NaN or Inf.")


class Computation(Options):
    """The engine, and the outputs to compute."""

    engine: str = options.ENGINE
    outputs: str | None = option(
        "The m of the last cell, or the vector that the graph computes from it in each step.",
        ("m", "graph"),
    )


_RECORDS = (Results, Part, Start, Shape, Computation, Placeholders, Arithmetic, Common)


@define(_EPILOG, *_RECORDS, ckpt_path="CKPT", inputs="INPUT...")
def command(ckpt_path: str, inputs: tuple[str, ...], **records: Any) -> int:
    """Run LSTM cells of CKPT over each INPUT.

    INPUT is .npy, .npz (FILE:KEY), .h5 (FILE:/PATH), .safetensors, .pt, .csv or .tsv
    (FILE:COLUMN,COLUMN), or - for stdin: one sequence [time, width], or a batch [batch, time,
    width]. OUT has the outputs, the m of every step, and the state after the last: c and m, or
    CELL/c and CELL/m in a stack. --state takes OUT, and every file and layout that convert reads.
    Without -o, tables are printed.

    A stack is run as a whole, and a forward and a backward cell in both directions, with their
    outputs joined. Options that are in the graph of CKPT (forget_bias, clips, activations) need no
    flag. An option that is in no file gets its default, with a note, or is refused if there are
    several defaults.
    """
    call = _Call(ckpt_path, inputs, **records)
    call.refuse_contradictions()
    job = _Job(call)
    batch = Batch(inputs)
    documents = batch.run(job.run)
    code = batch.exit_code()
    if call.common.as_json:
        batch.print_documents("lstmstate.run/1", documents)
    return code


class _Call(NamedTuple):
    """The arguments and options of one call."""

    ckpt_path: str
    inputs: tuple[str, ...]
    results: Results
    part: Part
    start: Start
    shape: Shape
    computation: Computation
    placeholders: Placeholders
    arithmetic: Arithmetic
    common: Common

    def refuse_contradictions(self) -> None:
        """Raise a UsageError if options contradict one another."""
        results, start, several = self.results, self.start, len(self.inputs) > 1
        stdout = [results.output, results.state_out, "-" if self.common.as_json else None]
        stdin = [*self.inputs, start.state_path, self.shape.lengths]
        has_file, has_folder = results.output is not None, results.out_dir is not None
        has_state, has_state_out = start.state_path is not None, results.state_out is not None
        of_files = results.all_states or results.trace or results.kind or results.compress
        refuse(
            (has_state and start.zero_state, "pass --state or --zero-state, not both"),
            (
                has_file and (several or has_folder),
                "-o is for one input; pass --out-dir for several",
            ),
            (stdout.count("-") > 1, "-o -, --state-out - and --json all use stdout"),
            (stdin.count("-") > 1, "stdin can be read once"),
            (
                several and has_state_out and not start.carry_state,
                "--state-out with several inputs needs --carry-state, or a run for each",
            ),
            (
                of_files and not (has_file or has_folder),
                "--all-states, --trace, --format and --compress are for files: "
                "pass -o or --out-dir",
            ),
            (start.from_layout and not has_state, "--from is the layout of --state"),
            (
                results.state_layout and not has_state_out,
                "--state-layout is the layout of --state-out",
            ),
        )

    def open(self) -> tuple[str, FileRun]:
        """Return the checkpoint and the run; note the assumptions."""
        common, strict = self.common, self.arithmetic.strict
        ckpt = common.open_checkpoint(self.ckpt_path)
        network = ckpt.network(cell=self.part.cell, stack=self.part.stack)
        from lstmstate.model.network_loader import RunOptions
        from lstmstate.operations.run import FileOptions, FileRun

        results, start = self.results, self.start
        chosen = RunOptions(
            self.computation.engine,
            self.arithmetic.given,
            self.placeholders.fed,
            self.computation.outputs,
        )
        files = FileOptions(
            state=start.state_path,
            from_layout=start.from_layout,
            zero_state=start.zero_state,
            carry_state=start.carry_state,
            allow_nan=start.allow_nan,
            lengths=self.shape.lengths,
            time_major=self.shape.time_major,
            header=common.header,
            checksums=not common.no_checksums,
            all_states=results.all_states,
            trace=results.trace,
            kind=results.kind,
            state_out=results.state_out,
            state_layout=results.state_layout,
            compress=results.compress,
            force=results.force,
            strict=strict,
        )
        run = FileRun(network, ckpt.prefix, chosen, files, common.note)
        common.note_options(run.loaded.settled, strict=strict)
        return ckpt.prefix, run


class _Job:
    """The run of one call, and the files that it writes."""

    def __init__(self, call: _Call) -> None:
        from lstmstate.engines import blas_threads
        from lstmstate.state.formats.input_path import InputPath

        blas_threads.begin_with_one_thread()
        self._call = call
        self._prefix, self._run = call.open()
        self._paths = [InputPath(path) for path in call.inputs]
        self._run.open_first_state()
        self._targets = self._names()
        self._run.rehearse_state_out(self._targets)
        self._tried = 0

    def _names(self) -> Sequence[str | None]:
        """Return the path of the results of each input."""
        inputs, results = self._call.inputs, self._call.results
        folder = results.out_dir
        if folder is None:
            return [results.output] * len(inputs)
        from lstmstate.files.atomic import report_errors
        from lstmstate.operations.run import result_name

        names: list[str] = []
        for path in self._paths:
            name = result_name(path, folder, results.kind)
            if name in names:
                both = f"{printable(inputs[names.index(name)])} and {printable(path.text)}"
                words = f"would have one output, {printable(name)}: run them one by one, with -o"
                refuse((True, f"{both} {words}"))
            names.append(name)
        with report_errors(folder):
            os.makedirs(folder, exist_ok=True)
        return names

    def run(self, path: str) -> Json:
        """Run over one input, and print its outputs or their path; return the document."""
        from lstmstate.cli.report.run_report import run_document

        call, number = self._call, self._tried
        self._tried += 1
        one, target = self._run.open(self._paths[number]), self._targets[number]
        is_last = self._tried == len(call.inputs)
        with call.common.meter("running", one.sequences.steps, "steps") as meter:
            done = self._run.run_one(
                one,
                target,
                is_last=is_last,
                figures=target is None or call.common.as_json,
                advance=meter.add,
            )
        state_out = call.results.state_out
        document = run_document(
            one.loaded,
            self._prefix,
            path,
            one.sequences,
            done,
            initial_state=(one.source, call.start.state_path if one.source == "file" else None),
            written=(target, state_out if is_last else None),
        )
        call.common.note(f"{path}: {line}" for line in done.notes)
        if len(call.inputs) > 1:
            counted = f"{number + 1} of {len(call.inputs)}: {path}: {document['steps']:,} steps"
            call.common.note([counted])
        if not call.common.as_json and "-" not in (target, state_out):
            _print(document, is_first=number == 0)
        return document


def _print(document: Json, *, is_first: bool) -> None:
    """Print the path of the output, or tables if there is none."""
    if document["output"] is not None:
        print_path(document["output"])
        return
    from lstmstate.cli.report.console import sheet
    from lstmstate.cli.report.run_report import run_table

    if not is_first:
        print()
    run_table(sheet(), document)
