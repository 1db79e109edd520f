"""`lstmstate run`: step the cells of a checkpoint over data, from a state to a state."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any

import click

from lstmstate.cli import CONTEXT, DONE, SOME_FAILED, decided, options, tell
from lstmstate.errors import LstmstateError, UnsupportedError, WidthError, located, printable

if TYPE_CHECKING:
    from lstmstate.files.atomic import Outputs
    from lstmstate.model.loaded_network import Loaded
    from lstmstate.model.network_loader import OwnStart
    from lstmstate.operations.run import Input
    from lstmstate.operations.sequences import Sequences
    from lstmstate.state.formats.input_path import InputPath
    from lstmstate.state.formats.registry import StateKind
    from lstmstate.state.state import State

_EPILOG = """\b
Examples:
  lstmstate run model.ckpt-7 x.npy -o y.npz                the outputs and the state after them
  lstmstate run model.ckpt-7 x.npy --state y.npz           go on from there; tables, no file
  lstmstate run model.ckpt-7 data.csv:temp,wind -o y.npz   two columns of a table, a row a step
  lstmstate run model.ckpt-7 batch.npz:x --lengths len.npy -o y.h5
  lstmstate run model.ckpt-7 a.npy b.npy --out-dir out     a file each, each from the same state
  lstmstate run model.ckpt-7 - -o - < x.npy > y.npz
"""
_KINDS = ("npy", "npz", "h5")


@click.command("run", context_settings=CONTEXT, epilog=_EPILOG)
@click.argument("ckpt_path", metavar="CKPT", type=click.Path())
@click.argument(
    "inputs", metavar="INPUT...", nargs=-1, required=True, type=click.Path(allow_dash=True)
)
@click.option("-o", "--output", metavar="OUT", help="Where to: .npz, .h5, or .npy; - for stdout.")
@click.option("--out-dir", metavar="DIR", help="Where to, for several inputs: a file each.")
@click.option(
    "--format", "kind", type=click.Choice(_KINDS), help="What to write, where no name says it."
)
@click.option("--cell", metavar="NAME", help="Which cell: its name, or whole parts of it.")
@click.option("--stack", metavar="NAME", help="Which stack, or pair of directions.")
@options.engine
@options.feed
@click.option("--state", "state_path", metavar="FILE", help="The state to begin with.")
@click.option("--zero-state", is_flag=True, help="Begin with zeros, as without --state.")
@click.option("--carry-state", is_flag=True, help="Begin each input where the last one ended.")
@options.from_layout
@options.header
@click.option("--time-major", is_flag=True, help="Batches are [time, batch, width].")
@click.option("--lengths", metavar="FILE|KEY", help="How many steps each sequence of a batch has.")
@click.option("--allow-nan", is_flag=True, help="Take inputs and states with NaN or Inf.")
@click.option("--state-out", metavar="FILE", help="Write the state after the last step here.")
@click.option(
    "--state-layout",
    type=click.Choice(options.LAYOUT_NAMES),
    help="The layout of --state-out.  [default: tuple]",
)
@click.option("--all-states", is_flag=True, help="Write c and m of every step too.")
@click.option("--trace", is_flag=True, help="Write c, m and the gates i, j, f, o of every step.")
@options.arithmetic
@options.compress
@click.option("--strict", is_flag=True, help="End with 3 where an option, or a state, is assumed.")
@options.assume_defaults
@options.force
@options.checksums
@options.as_json
@options.common
def command(ckpt_path: str, inputs: tuple[str, ...], quiet: bool, **flags: Any) -> int:
    """Run LSTM cells of CKPT over each INPUT.

    INPUT is .npy, .npz (FILE:KEY), .h5 (FILE:/PATH), .csv or .tsv (FILE:COLUMN,COLUMN), or - for
    stdin: one sequence [time, width], or a batch [batch, time, width]. OUT holds outputs, the m of
    every step, and the state after the last: c and m, or CELL/c and CELL/m in a stack. --state
    takes it, and every file and layout that convert reads. Without -o there are tables.

    A stack is run as a whole; a forward and a backward cell both ways, outputs side by side. What
    the graph beside CKPT tells (forget_bias, clips, activations) needs no flag; the default of what
    no file records is used with a note, or refused where there is no single one.
    """
    _refuse_contradictions(inputs, flags)
    job = _Job(ckpt_path, inputs, flags, quiet=quiet)
    failed: list[tuple[str, str]] = []
    documents: list[dict[str, Any]] = []
    for number, path in enumerate(inputs):
        if number:
            gc.enable()  # this is no short process
        try:
            documents.append(job.run(number, path))
        except (LstmstateError, MemoryError) as error:
            if len(inputs) == 1:
                raise
            told = error if isinstance(error, LstmstateError) else _too_large(path)
            failed.append((path, str(told)))
            tell(f"error: {told}")
    code = decided(SOME_FAILED if failed else DONE)
    if flags["as_json"]:
        from lstmstate.cli.report.convert_json import print_document

        print_document("run", documents, failed, single=len(inputs) == 1)
    return code


def _too_large(path: str) -> LstmstateError:
    return LstmstateError("there is not enough memory for this", path=path)


def _refuse_contradictions(inputs: Sequence[str], flags: dict[str, Any]) -> None:
    """Refuse flags that do not go together."""
    options.refuse_both(flags)
    several = len(inputs) > 1
    problems = {
        "give --cell or --stack, not both": flags["cell"] is not None
        and flags["stack"] is not None,
        "give --state or --zero-state, not both": flags["state_path"] and flags["zero_state"],
        "-o is for one input; give --out-dir for several": flags["output"]
        and (several or flags["out_dir"]),
        "-o -, --state-out - and --json all want stdout": [
            flags["output"],
            flags["state_out"],
            "-" if flags["as_json"] else None,
        ].count("-")
        > 1,
        "stdin can be read once": [*inputs, flags["state_path"], flags["lengths"]].count("-") > 1,
        "--state-out with several inputs needs --carry-state, or a run for each": several
        and flags["state_out"]
        and not flags["carry_state"],
        "--all-states, --trace, --format and --compress are for files: give -o or --out-dir": any(
            flags[name] for name in ("all_states", "trace", "kind", "compress")
        )
        and not (flags["output"] or flags["out_dir"]),
        "--from tells the layout of a --state": flags["from_layout"] and not flags["state_path"],
        "--state-layout tells that of a --state-out": flags["state_layout"]
        and not flags["state_out"],
    }
    for problem, there in problems.items():
        if there:
            raise click.UsageError(problem)


class _Rehearsed(Exception):  # noqa: N818 - nothing went wrong
    """What was written was written to see whether it can be, and is to be forgotten."""


class _Job:
    """What was asked for; the model is read once, before any input."""

    def __init__(
        self, ckpt_path: str, inputs: tuple[str, ...], flags: dict[str, Any], *, quiet: bool
    ) -> None:
        from lstmstate.engines import blas_threads
        from lstmstate.model.checkpoint import open_checkpoint
        from lstmstate.state.formats.input_path import InputPath

        blas_threads.begin_with_one_thread()
        self._flags = flags
        self._quiet = quiet
        self._count = len(inputs)
        self._done = 0
        self._said: list[OwnStart] = []
        verify = options.verify(flags["no_checksums"], quiet=quiet)
        ckpt = open_checkpoint(ckpt_path, checksums=verify)
        network = ckpt.network(cell=flags["cell"], stack=flags["stack"])
        self._network, self._feeds = network, options.fed(flags)
        self._loaded = self._load()
        self._prefix = ckpt.prefix
        options.resolved(ckpt_path, ckpt, quiet=quiet)
        if flags["carry_state"] and self._loaded.network.is_bidirectional:
            raise LstmstateError(
                "a backward cell begins at the end of a sequence: no state of it is carried on",
                path=ckpt.prefix,
                advice="leave --carry-state out",
            )
        if flags["carry_state"]:
            with located(ckpt.prefix):
                self._loaded.refuse_parts()
        options.say_settled(self._loaded.settled, strict=flags["strict"], quiet=quiet)
        if flags["strict"] and self._loaded.beyond:
            raise UnsupportedError(self._loaded.beyond[0], path=ckpt.prefix)
        loaded = self._loaded
        options.note([*loaded.notes, *loaded.beyond, *loaded.not_finite], quiet=quiet)
        self._keep = "cmijfo" if flags["trace"] else "cm" if flags["all_states"] else ""
        self._paths = [InputPath(path) for path in inputs]
        self._state_path = InputPath(flags["state_path"]) if flags["state_path"] else None
        others = filter(None, (self._state_path, flags["lengths"]))
        self._inputs = options.inputs_of([ckpt.files.location, *self._paths, *others], flags)
        self._is_own = self._is_of_graph()
        self._state = None if self._is_own else self._first_state()
        self._targets = self._names(inputs)
        self._refuse_state_out()

    def _load(self, width: int | None = None) -> Loaded:
        flags = self._flags
        return self._network.load(
            flags["engine"],
            options.given(flags),
            self._feeds,
            flags["outputs"],
            width,
            has_lengths=flags["lengths"] is not None,
        )

    def _open(self, path: InputPath) -> tuple[Loaded, Input]:
        """Return the sequences of an input, and the network that takes vectors of their width."""
        from lstmstate.operations.run import open_input

        flags = self._flags
        loaded = self._loaded
        how = {name: flags[name] for name in ("lengths", "time_major", "allow_nan", "header")}
        try:
            return loaded, open_input(loaded, path, **how)
        except WidthError as error:
            if path.text == "-":  # stdin can be read once
                raise
            loaded = self._load(error.width)
            if loaded.network.first.input_size != error.width:
                raise
        own = [line for line in loaded.notes if line not in self._loaded.notes]
        options.note(own, quiet=self._quiet)
        if flags["carry_state"]:
            with located(self._prefix):
                loaded.refuse_parts()
        return loaded, open_input(loaded, path, **how)

    def _say_zeros(self, sequences: Sequences) -> None:
        """Say that the graph begins with something else than zeros, where it does.

        Raises:
            UnsupportedError: it does, and that was to be an error.
        """
        own = self._network.own_start(self._feeds, sequences.batch, sequences.steps)
        if own is None or own in self._said:
            return
        self._said.append(own)
        whence = f"give --state {printable(self._prefix)} to start from it"
        if own.problem and not own.is_stored:
            whence = "give --state FILE to start from another"
        if self._flags["strict"]:
            advice = f"{whence}, or say --zero-state"
            raise UnsupportedError(own.line, path=self._prefix, advice=advice)
        options.note([f"{own.line}; {whence}"], quiet=self._quiet)

    def _is_of_graph(self) -> bool:
        """Whether the state to begin with is what the graph itself begins with: CKPT's own."""
        path = self._state_path
        if path is None or path.text == "-" or path.place or self._flags["from_layout"]:
            return False
        with suppress(LstmstateError):  # reading the state in it shows what is wrong
            if path.kind is None and path.location.prefix == self._prefix:
                own = self._network.own_start(self._feeds)
                return own is not None and own.problem is None
        return False

    def _first_state(self) -> State | None:
        from lstmstate.operations.run import open_state

        flags = self._flags
        if self._state_path is None:
            return None
        state, notes = open_state(
            self._loaded,
            self._state_path,
            flags["from_layout"],
            self._prefix,
            allow_nan=flags["allow_nan"],
            header=flags["header"],
            orders=lambda shape: self._network.fed_orders(shape, self._feeds),
        )
        options.note(notes, quiet=self._quiet)
        return state

    def _refuse_state_out(self) -> None:
        """Refuse a --state-out that could not be written: a run may take hours until then."""
        from lstmstate.files.atomic import Outputs
        from lstmstate.state.formats.registry import kind_to_write

        target = self._flags["state_out"]
        if target is None:
            return
        others = {os.path.realpath(name) for name in self._targets if name not in (None, "-")}
        if os.path.realpath(target) in others:
            raise LstmstateError("two outputs have the same name", path=target)
        if kind_to_write(target, None).key == "npy" and self._flags["state_layout"] is None:
            raise LstmstateError(
                "an .npy holds one array, and c and m are two",
                path=target,
                advice="say --state-layout flat, or write an .npz or .h5",
            )
        with suppress(_Rehearsed), Outputs(self._inputs, force=self._flags["force"]) as outputs:
            with located(target):
                self._write_state(outputs, target, self._loaded.zero_state(1))
            raise _Rehearsed

    def _names(self, inputs: Sequence[str]) -> list[str | None]:
        """Return where the results of each input go."""
        folder = self._flags["out_dir"]
        if folder is None:
            return [self._flags["output"]] * len(inputs)
        from lstmstate.files.atomic import report_errors
        from lstmstate.operations.convert import stem_of

        ending = self._flags["kind"] or "npz"
        names = []
        for one in self._paths:
            stem = os.path.basename(stem_of(one.path)) if one.path != "-" else "stdin"
            inner = f".{'_'.join(one.place.replace('/', ' ').split())}" if one.place else ""
            names.append(os.path.join(folder, f"{stem}{inner}.{ending}"))
        for number, name in enumerate(names):
            first = names.index(name)
            if first < number:
                raise click.UsageError(
                    f"{printable(inputs[first])} and {printable(inputs[number])} would have one "
                    f"output, {printable(name)}: run them one by one, with -o"
                )
        with report_errors(folder):
            os.makedirs(folder, exist_ok=True)
        return list(names)

    def run(self, number: int, path: str) -> dict[str, Any]:
        """Run over one input; return the document of what was done."""
        from lstmstate.cli.report.console import Meter
        from lstmstate.cli.report.run_report import run_document
        from lstmstate.files.atomic import Outputs
        from lstmstate.operations.run import run_input

        flags = self._flags
        if flags["carry_state"] and self._done < number:
            raise LstmstateError("not run: the input before it, where it begins, failed", path=path)
        loaded, given = self._open(self._paths[number])
        options.note(given.sequences.notes, quiet=self._quiet)
        state, begins = self._state, "zero"
        if flags["state_path"] is None and not flags["zero_state"] and state is None:
            self._say_zeros(given.sequences)
        if self._is_own and state is None:
            sizes = given.sequences
            state = self._network.graph_state(sizes.batch, self._feeds, sizes.steps)
            begins = "file"
        elif state is not None:
            begins = "carried" if number and flags["carry_state"] else "file"
        target = self._targets[number]
        is_last = number == self._count - 1
        state_target = flags["state_out"] if is_last else None
        with (
            Outputs(self._inputs, force=flags["force"]) as outputs,
            Meter("running", given.nbytes, quiet=self._quiet) as meter,
        ):
            with self._results(outputs, target, given, loaded) as results:
                done = run_input(
                    loaded,
                    given,
                    state,
                    keep=self._keep,
                    results=results,
                    figures=target is None or flags["as_json"],
                    advance=meter.add,
                )
            if state_target is not None:
                self._write_state(outputs, state_target, done.state)
        if flags["carry_state"]:
            self._state = done.state
        document = run_document(loaded, self._prefix, path, given, done)
        document["initial_state"] = {
            "source": begins,
            "path": flags["state_path"] if begins == "file" else None,
        }
        options.note([f"{path}: {line}" for line in done.notes], quiet=self._quiet)
        self._tell(number, path, target, document)
        self._done += 1
        return document | {"output": target, "state_output": state_target}

    def _results(self, outputs: Outputs, target: str | None, given: Input, loaded: Loaded) -> Any:
        """Return the open file of the results, or nothing where they go into none."""
        if target is None:
            return nullcontext()
        from lstmstate.operations import run
        from lstmstate.state.formats.array_writer import open_writer
        from lstmstate.state.formats.registry import kind_to_write

        options.refuse_unnamed(target, self._flags["kind"], ".npz, .h5 or .npy")
        kind: StateKind = kind_to_write(target, self._flags["kind"])
        alone = kind.key == "npy"
        if alone and self._keep:
            raise LstmstateError(
                "an .npy holds the outputs alone", path=target, advice="write an .npz or .h5"
            )
        if alone and self._flags["state_out"] is None:
            name = "an .npy" if target == "-" else target
            line = f"{name} holds the outputs alone; --state-out keeps the state"
            options.note([line], quiet=self._quiet)
        if self._flags["compress"] and alone:
            raise LstmstateError("only .npz and .h5 are compressed", path=target)
        return open_writer(
            outputs,
            target,
            kind,
            run.plans(loaded, given, self._keep, alone=alone),
            run.metadata(loaded, os.path.basename(self._prefix), alone=alone),
            compress=self._flags["compress"],
        )

    def _write_state(self, outputs: Outputs, target: str, state: State) -> None:
        from lstmstate.operations.convert import How, write_state
        from lstmstate.operations.state_files import in_memory
        from lstmstate.state.formats.registry import kind_to_write
        from lstmstate.state.layouts import LAYOUTS

        how = How(LAYOUTS[self._flags["state_layout"] or "tuple"])
        write_state(in_memory(state), how, outputs, target, kind_to_write(target, None))

    def _tell(self, number: int, path: str, target: str | None, document: dict[str, Any]) -> None:
        """Say what was done: a line of progress, the path of the output, or tables."""
        if self._count > 1:
            line = f"{number + 1} of {self._count}: {path}: {document['steps']:,} steps"
            options.note([line], quiet=self._quiet)
        if self._flags["as_json"] or "-" in (target, self._flags["state_out"]):
            return  # stdout is taken
        if target is not None:
            with suppress(BrokenPipeError):  # nobody reads the names; the files are wanted still
                click.echo(printable(target) if sys.stdout.isatty() else target)
            return
        from lstmstate.cli.report.console import sheet
        from lstmstate.cli.report.run_report import run_table

        if number:
            click.echo()
        run_table(sheet(), document)
