"""`lstmstate run`: the cells of a checkpoint over data, from a state to a state."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any

from lstmstate.cli import options, print_path
from lstmstate.cli.batch import Batch
from lstmstate.cli.command import Json, Options, define, option, refuse
from lstmstate.cli.options import Arithmetic, Common, Part, Shape
from lstmstate.errors import LstmstateError, UnsupportedError, WidthError, located, printable
from lstmstate.named_tuple import NamedTuple

if TYPE_CHECKING:
    from lstmstate.files.atomic import Outputs
    from lstmstate.model.loaded_network import Loaded
    from lstmstate.model.network_loader import OwnStart
    from lstmstate.operations.sequences import Sequences
    from lstmstate.state.formats.input_path import InputPath
    from lstmstate.state.state import State

_EPILOG = """\b
Examples:
  lstmstate run model.ckpt-7 x.npy -o y.npz                the outputs and the state after them
  lstmstate run model.ckpt-7 x.npy --state y.npz           continue from there; tables, no file
  lstmstate run model.ckpt-7 data.csv:temp,wind -o y.npz   two columns of a table, a row per step
  lstmstate run model.ckpt-7 batch.npz:x --lengths len.npy -o y.h5
  lstmstate run model.ckpt-7 a.npy b.npy --out-dir out     a file each, each from the same state
  lstmstate run model.ckpt-7 - -o - < x.npy > y.npz
"""


def _feed(text: str) -> tuple[str, int | float | bool | str]:
    """Return the name of a placeholder, and its number or the path of its value."""
    name, found, value = text.partition("=")
    if not found or not name or not value:
        raise ValueError(f"expected NAME=VALUE, got {text!r}")
    if value.lower() in ("true", "false"):
        return name, value.lower() == "true"
    for number in (int, float):
        with suppress(ValueError):
            return name, number(value)
    return name, value


class Results(Options):
    """The files to write, and their contents."""

    output: str | None = option(
        "The file to write: .npz, .h5 or .npy; - for stdout.", metavar="OUT", flags="-o --output"
    )
    out_dir: str | None = option("The folder to write into, a file per input.", metavar="DIR")
    kind: str | None = option(
        "The kind of file to write, if its name does not show it.",
        ("npy", "npz", "h5"),
        flags="--format",
    )
    state_out: str | None = option("Write the state after the last step here.", metavar="FILE")
    state_layout: str | None = option(
        "The layout of --state-out.  [default: tuple]", options.LAYOUT_NAMES
    )
    all_states: bool = option("Write c and m of every step too.")
    trace: bool = option("Write c, m and the gates i, j, f, o of every step.")
    compress: bool = options.COMPRESS
    force: bool = options.FORCE


class StartOptions(Options):
    """The state to begin with."""

    state_path: str | None = option("The state to begin with.", metavar="FILE", flags="--state")
    zero_state: bool = option("Begin with zeros, as without --state.")
    carry_state: bool = option("Begin each input with the last one's state.")
    from_layout: str | None = options.FROM
    allow_nan: bool = option("Accept inputs and states with NaN or Inf.")


class Computation(Options):
    """The engine, the values of placeholders, and the outputs to compute."""

    engine: str = options.ENGINE
    feeds: tuple[tuple[str, Any], ...] = option(
        "A value for a placeholder of the graph: a number, true, or an .npy file.",
        _feed,
        "NAME=VALUE",
        flags="--feed",
    )
    outputs: str | None = option(
        "The m of the last cell, or the vector that the graph computes from it in each step.",
        ("m", "graph"),
    )

    @property
    def fed(self) -> dict[str, Any]:
        """The values of placeholders; files are read."""
        return {
            name: _array(value) if isinstance(value, str) else value for name, value in self.feeds
        }


def _array(path: str) -> Any:
    import numpy as np

    from lstmstate.files.reader import ByteSource

    try:
        with ByteSource(path) as source:
            return np.load(source.file(), allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise LstmstateError(f"expected an .npy file ({error})", path=path) from error


_RECORDS = (Results, Part, StartOptions, Shape, Computation, Arithmetic, Common)


@define(_EPILOG, *_RECORDS, ckpt_path="CKPT", inputs="INPUT...")
def command(ckpt_path: str, inputs: tuple[str, ...], **records: Any) -> int:
    """Run LSTM cells of CKPT over each INPUT.

    INPUT is .npy, .npz (FILE:KEY), .h5 (FILE:/PATH), .csv or .tsv (FILE:COLUMN,COLUMN), or - for
    stdin: one sequence [time, width], or a batch [batch, time, width]. OUT has the outputs, the m
    of every step, and the state after the last: c and m, or CELL/c and CELL/m in a stack. --state
    takes OUT, and every file and layout that convert reads. Without -o, tables are printed.

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
    start: StartOptions
    shape: Shape
    computation: Computation
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


class _Rehearsed(Exception):  # noqa: N818 - no error
    """Undoes a trial output."""


class _Job:
    """The network and the options of one call, the same for each input."""

    def __init__(self, call: _Call) -> None:
        from lstmstate.engines import blas_threads
        from lstmstate.model.network_loader import RunOptions
        from lstmstate.state.formats.input_path import InputPath

        blas_threads.begin_with_one_thread()
        self._call = call
        self._tried = self._done = 0
        self._noted: list[OwnStart] = []
        ckpt = call.common.open_checkpoint(call.ckpt_path)
        self._network = ckpt.network(cell=call.part.cell, stack=call.part.stack)
        self._feeds = call.computation.fed
        self._chosen = RunOptions(
            call.computation.engine,
            call.arithmetic.given,
            self._feeds,
            call.computation.outputs,
            has_lengths=call.shape.lengths is not None,
        )
        self._loaded = self._load()
        self._prefix = ckpt.prefix
        call.common.note_choice(call.ckpt_path, ckpt)
        if call.start.carry_state and self._loaded.network.is_bidirectional:
            raise LstmstateError(
                "--carry-state is not for backward cells: they begin at the end of a sequence",
                path=ckpt.prefix,
                advice="leave --carry-state out",
            )
        self._refuse_parts(self._loaded)
        strict = call.arithmetic.strict
        call.common.note_options(self._loaded.settled, strict=strict)
        if strict and self._loaded.beyond:
            raise UnsupportedError(self._loaded.beyond[0], path=ckpt.prefix)
        loaded = self._loaded
        call.common.note([*loaded.notes, *loaded.beyond, *loaded.not_finite])
        self._keep = "cmijfo" if call.results.trace else "cm" if call.results.all_states else ""
        self._paths = {path: InputPath(path) for path in call.inputs}
        state = call.start.state_path
        self._state_path = None if state is None else InputPath(state)
        if call.shape.lengths is not None:
            InputPath(call.shape.lengths)  # counts as an input before it is opened
        self._is_own = self._is_of_graph()
        self._state = None if self._is_own else self._first_state()
        self._targets = self._names(call.inputs)
        self._refuse_state_out()

    def _load(self, width: int | None = None) -> Loaded:
        return self._network.load(self._chosen._replace(width=width))

    def _refuse_parts(self, loaded: Loaded) -> None:
        """Refuse --carry-state for a network that cannot continue from its state."""
        if self._call.start.carry_state:
            with located(self._prefix):
                loaded.refuse_parts()

    def _open(self, path: InputPath) -> tuple[Loaded, Sequences]:
        """Return the sequences of an input, and the network for vectors of their width."""
        from lstmstate.operations.run import open_input

        call, loaded = self._call, self._loaded

        def open_for(loaded: Loaded) -> Sequences:
            start, header = call.start, call.common.header
            how = vars(call.shape)
            return open_input(loaded, path, allow_nan=start.allow_nan, header=header, **how)

        try:
            return loaded, open_for(loaded)
        except WidthError as error:
            if path.text == "-":  # stdin can be read once
                raise
            loaded = self._load(error.width)
            if loaded.network.first.input_size != error.width:
                raise
        call.common.note(line for line in loaded.notes if line not in self._loaded.notes)
        self._refuse_parts(loaded)
        return loaded, open_for(loaded)

    def _note_zeros(self, sequences: Sequences) -> None:
        """Print a note if the graph begins with another state than zeros."""
        own = self._network.own_start(self._feeds, sequences.batch, sequences.steps)
        if own is None or own in self._noted:
            return
        self._noted.append(own)
        advice = f"pass --state {printable(self._prefix)} to start from it"
        if own.problem and not own.is_stored:
            advice = "pass --state FILE to start from another"
        if self._call.arithmetic.strict:
            advice = f"{advice}, or pass --zero-state"
            raise UnsupportedError(own.line, path=self._prefix, advice=advice)
        self._call.common.note([f"{own.line}; {advice}"])

    def _is_of_graph(self) -> bool:
        """Return whether --state is CKPT, and the graph evaluates its own initial state."""
        path = self._state_path
        if path is None or path.text == "-" or path.place or self._call.start.from_layout:
            return False
        with suppress(LstmstateError):  # reading the state in it shows the problem
            if path.kind is None and path.location.prefix == self._prefix:
                own = self._network.own_start(self._feeds)
                return own is not None and own.problem is None
        return False

    def _first_state(self) -> State | None:
        from lstmstate.operations.run import open_state

        start = self._call.start
        if self._state_path is None:
            return None
        state, notes = open_state(
            self._loaded,
            self._state_path,
            start.from_layout,
            self._prefix,
            allow_nan=start.allow_nan,
            checksums=not self._call.common.no_checksums,
            header=self._call.common.header,
            orders=lambda shape: self._network.fed_orders(shape, self._feeds),
        )
        self._call.common.note(notes)
        return state

    def _refuse_state_out(self) -> None:
        """Refuse a --state-out that cannot be written: a run may take hours until then."""
        from lstmstate.files.atomic import Outputs
        from lstmstate.state.formats.registry import kind_to_write

        results = self._call.results
        target = results.state_out
        if target is None:
            return
        others = {os.path.realpath(name) for name in self._targets if name not in (None, "-")}
        if os.path.realpath(target) in others:
            raise LstmstateError("two outputs have the same name", path=target)
        if kind_to_write(target, None).key == "npy" and results.state_layout is None:
            raise LstmstateError(
                "c and m are two arrays, and an .npy has one",
                path=target,
                advice="pass --state-layout flat, or write an .npz or .h5",
            )
        with suppress(_Rehearsed), Outputs(force=results.force) as outputs:
            with located(target):
                self._write_state(outputs, target, self._loaded.zero_state(1))
            raise _Rehearsed

    def _names(self, inputs: Sequence[str]) -> list[str | None]:
        """Return the path of the results of each input."""
        folder = self._call.results.out_dir
        if folder is None:
            return [self._call.results.output] * len(inputs)
        from lstmstate.files.atomic import report_errors
        from lstmstate.operations.convert import stem_of

        ending = self._call.results.kind or "npz"
        names: list[str | None] = []
        for path in inputs:
            one = self._paths[path]
            stem = os.path.basename(stem_of(one.path)) if one.path != "-" else "stdin"
            inner = f".{'_'.join(one.place.replace('/', ' ').split())}" if one.place else ""
            name = os.path.join(folder, f"{stem}{inner}.{ending}")
            if name in names:
                both = f"{printable(inputs[names.index(name)])} and {printable(path)}"
                words = f"would have one output, {printable(name)}: run them one by one, with -o"
                refuse((True, f"{both} {words}"))
            names.append(name)
        with report_errors(folder):
            os.makedirs(folder, exist_ok=True)
        return names

    def run(self, path: str) -> Json:
        """Run over one input, and print its outputs or their path; return the document."""
        from lstmstate.cli.report.run_report import run_document
        from lstmstate.files.atomic import Outputs
        from lstmstate.operations.run import run_input

        call, results = self._call, self._call.results
        number, self._tried = self._tried, self._tried + 1
        if call.start.carry_state and self._done < number:
            raise LstmstateError("not run: the input before it failed", path=path)
        loaded, given = self._open(self._paths[path])
        call.common.note(given.notes)
        state, source = self._state, "zero"
        if call.start.state_path is None and not call.start.zero_state and state is None:
            self._note_zeros(given)
        if self._is_own and state is None:
            state, source = (
                self._network.initial_state(given.batch, self._feeds, given.steps),
                "file",
            )
        elif state is not None:
            source = "carried" if number and call.start.carry_state else "file"
        target = self._targets[number]
        state_target = results.state_out if self._tried == len(call.inputs) else None
        with (
            Outputs(force=results.force) as outputs,
            call.common.meter("running", given.steps, "steps") as meter,
        ):
            with self._writer(outputs, target, given, loaded) as writer:
                done = run_input(
                    loaded,
                    given,
                    state,
                    keep=self._keep,
                    results=writer,
                    figures=target is None or call.common.as_json,
                    advance=meter.add,
                )
            if state_target is not None:
                self._write_state(outputs, state_target, done.state)
        if call.start.carry_state:
            self._state = done.state
        document = run_document(
            loaded,
            self._prefix,
            path,
            given,
            done,
            initial_state=(source, call.start.state_path if source == "file" else None),
            written=(target, state_target),
        )
        call.common.note(f"{path}: {line}" for line in done.notes)
        self._done += 1
        if len(call.inputs) > 1:
            counted = f"{number + 1} of {len(call.inputs)}: {path}: {document['steps']:,} steps"
            call.common.note([counted])
        if not call.common.as_json and "-" not in (target, results.state_out):
            _print(document, is_first=number == 0)
        return document

    def _writer(
        self, outputs: Outputs, target: str | None, given: Sequences, loaded: Loaded
    ) -> Any:
        """Return the open file of the results, or a context without one."""
        if target is None:
            return nullcontext()
        from lstmstate.operations import run
        from lstmstate.state.formats.array_writer import open_writer
        from lstmstate.state.formats.registry import kind_to_write

        results = self._call.results
        kind = kind_to_write(target, results.kind, endings=".npz, .h5 or .npy")
        alone = kind.key == "npy"
        if alone and self._keep:
            raise LstmstateError(
                "an .npy has the outputs only", path=target, advice="write an .npz or .h5"
            )
        if alone and results.state_out is None:
            name = "an .npy" if target == "-" else target
            self._call.common.note([f"{name} has the outputs only; --state-out writes the state"])
        if results.compress and alone:
            raise LstmstateError("only .npz and .h5 are compressed", path=target)
        return open_writer(
            outputs,
            target,
            kind,
            run.plans(loaded, given, self._keep, alone=alone),
            run.metadata(loaded, os.path.basename(self._prefix), alone=alone),
            compress=results.compress,
        )

    def _write_state(self, outputs: Outputs, target: str, state: State) -> None:
        from lstmstate.operations.convert import write_state
        from lstmstate.operations.state_files import in_memory
        from lstmstate.state.formats.registry import kind_to_write
        from lstmstate.state.layouts import LAYOUTS
        from lstmstate.state.stream import Stream

        stream = Stream(in_memory(state), LAYOUTS[self._call.results.state_layout or "tuple"])
        write_state(stream, outputs, target, kind_to_write(target))


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
