"""Export of weights for other programs, with a README of how to load them."""

from __future__ import annotations

import ast
import math
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from lstmstate import limits
from lstmstate.arguments import BOOL, is_whole, name_nearest, one_of, refuse_others
from lstmstate.cells.cell import Cell, Value
from lstmstate.engines.canonical_network import Array, Network, Pair, no_states
from lstmstate.engines.run_options import assumptions, remarks
from lstmstate.errors import (
    ArgumentError,
    LstmstateError,
    MissingExtraError,
    UnsupportedError,
    located,
    printable,
    warn,
)
from lstmstate.exports.model_files import ModelFiles
from lstmstate.exports.targets import (
    CHECKPOINT,
    SCRIPT,
    VARIABLES,
    Content,
    ExportTarget,
    refuse_cells,
    target_of,
)
from lstmstate.files.atomic import Outputs
from lstmstate.model import recorded_options
from lstmstate.model.checkpoint import LSTMCheckpoint, open_checkpoint
from lstmstate.model.confirm import load_exact
from lstmstate.model.loaded_network import Loaded
from lstmstate.model.lstm_network import LSTMNetwork
from lstmstate.model.network_loader import RECORDED, Recorded, RunOptions
from lstmstate.named_tuple import NamedTuple
from lstmstate.operations.export_arrays import export_arrays
from lstmstate.operations.load import Slices
from lstmstate.state.formats.array_writer import open_writer, parts_of, plan_whole
from lstmstate.state.formats.checkpoint_arrays import write_arrays
from lstmstate.state.formats.registry import kind_to_write
from lstmstate.state.layouts import LAYOUTS, to_arrays
from lstmstate.version import __version__

_TRIAL = (2, 7)  # batch and steps of a check
_TOLERANCE = 2e-6  # of a check
_AMPLIFIED = 1e-4  # the most that is still rounding, in float32
_TRIED = 3  # cells of a network that cannot be exported as one


class Exported(NamedTuple):
    """The result of an export: true, unless a check found a difference.

    Attributes:
        paths: the files that were written, the README last.
        folded: a line for each constant in the weights, or left to the program.
        largest_difference: of a check: between the export, run by its program, and `run`, relative
            to numbers above 1; None without a check.
        agrees: whether that is within the tolerance; None without a check.
    """

    paths: tuple[str, ...]
    folded: tuple[str, ...] = ()
    largest_difference: float | None = None
    agrees: bool | None = None

    def __bool__(self) -> bool:
        return self.agrees is not False


class Export(NamedTuple):
    """Weights of a network for a target, before they are written.

    Attributes:
        prefix: the checkpoint.
        loaded: the network.
        path: the file to write.
        content: the weights by name, or a model.
        feeds: the values that placeholders of the graph had in the load of the network.
    """

    target: ExportTarget
    prefix: str
    loaded: Loaded
    path: str
    content: Content
    feeds: Mapping[str, Any] = {}

    @property
    def network(self) -> Network:
        """The network with its weights."""
        return self.loaded.recognised_network

    @property
    def notes(self) -> list[str]:
        """Remarks on the network, and so on its export."""
        loaded = self.loaded
        return [*loaded.notes, *loaded.beyond, *loaded.not_finite]

    @property
    def readme(self) -> str:
        """The path of the README to write next to it."""
        return f"{self.path.removesuffix('.index')}.README.md"

    def write(self, outputs: Outputs) -> list[str]:
        """Write the weights, with what belongs to them, and their README; return the paths."""
        content = self.content
        if isinstance(content, bytes | ModelFiles):
            paths = self._write_model(outputs, content)
        else:
            paths = self._write_arrays(outputs, content)
        with outputs.open(self.readme) as file:
            file.write(self.describe().encode())
        return [*paths, self.readme]

    @property
    def _endings(self) -> str:
        """The endings that the name of the file may have."""
        return " or ".join(f".{kind}" for kind in self.target.kinds)

    def _write_model(self, outputs: Outputs, content: bytes | ModelFiles) -> list[str]:
        path = self.path
        if not path.endswith(tuple(f".{kind}" for kind in self.target.kinds)):
            raise UnsupportedError(
                f"expected the name of a file for {self.target.program}",
                path=path,
                advice=f"end the name in {self._endings}",
            )
        if isinstance(content, bytes):
            content = ModelFiles(content)
        if content.data is not None:  # first: there is no model without its weights
            with outputs.open(content.data.path) as file:
                content.data.write(file)
        with outputs.open(path) as file:
            file.write(content.model)
        if content.useless is not None:
            outputs.remove(content.useless)
        return [path] if content.data is None else [path, content.data.path]

    def _write_arrays(self, outputs: Outputs, arrays: Mapping[str, Array]) -> list[str]:
        path, kinds, paths = self.path, self.target.kinds, [self.path]
        stem, ending = os.path.splitext(path)
        if ending == f".{SCRIPT}" and SCRIPT in kinds:
            with outputs.open(path) as file:
                file.write(self.target.script(self.network).encode())
            path, kinds = f"{stem}.npz", ("npz",)
            paths.append(path)
        kind = kind_to_write(path, endings=self._endings)
        if kind.key not in kinds:
            raise UnsupportedError(
                f"{kind.words} has no place for the weights of {self.target.program}",
                path=path,
                advice=f"end the name in {self._endings}",
            )
        if kind.key == CHECKPOINT:
            recorded = self.recorded
            texts = {recorded_options.NAME: recorded_options.line(recorded)} if recorded else {}
            write_arrays(outputs, path, arrays, texts)
            return paths
        plans = [plan_whole(name, array) for name, array in arrays.items()]
        with open_writer(outputs, path, kind, plans, None) as writer:
            for name, array in arrays.items():
                for start, part in parts_of(array):
                    writer.write(name, start, part)
        return paths

    @property
    def recorded(self) -> dict[str, dict[str, Value]]:
        """The options that the files show and a checkpoint would lose, by the names of its cells.

        Those that were assumed are left out.
        """
        if not self.target.options:
            return {}
        names, cells = self.target.cell_names(self.network), self.network.cells
        return {
            name: {
                option: bool(cell.peepholes) if option == "peepholes" else getattr(cell, option)
                for option in self.target.options
                if settled.options[option].source != "default"
            }
            | ({"residual": False} if self._is_whole(settled.cell) else {})
            for name, cell, settled in zip(names, cells, self.loaded.settled, strict=False)
        }

    def _is_whole(self, cell: Cell) -> bool:
        """Whether the files show that nothing goes around a cell."""
        return bool(self.loaded.confirmed) or cell.extra.get("residual") is False

    @property
    def folded(self) -> list[str]:
        """A line for each constant that the weights have taken up, or leave to the program."""
        target, lines = self.target, []
        for cell in self.network.cells:
            name, added, place = _code(cell.name or "the cell"), target.adds_to_f, ""
            if added is None or cell.forget_bias == added != 0:
                place = "not in its weights: the class adds it"
            elif cell.forget_bias != added:
                place = "in the bias of its forget gate"
                if added:
                    rest = f"{cell.forget_bias - added:g}"
                    place += f" as {rest}, since the class adds {added:g}"
            if place:
                lines.append(f"The forget_bias {cell.forget_bias:g} of {name} is {place}")
            if target.has.coupled_gates:
                continue
            if "i" not in cell.gates:
                lines.append(f"The gate i = 1 - f of {name} has the weights of f, negated")
            if cell.recurrent.ndim == 1:
                lines.append(f"The recurrent weights of {name} are a diagonal matrix")
        return lines

    def describe(self) -> str:
        """Return the text of the README."""
        cells, target, content = self.network.cells, self.target, self.content
        names = ", ".join(_code(cell.name or "/") for cell in cells)
        lines = [f"{line}." for line in self.folded]
        lines += [f"Assumed: {_code(line)}." for line in assumptions(self.loaded.settled)]
        lines += [f"Note: {_code(line)}." for line in self.notes]
        lines += [f"The graph was read with {_code(_fed(*one))}." for one in self.feeds.items()]
        if isinstance(content, ModelFiles) and content.data is not None:
            data = _code(os.path.basename(content.data.path))
            lines.append(f"The model reads its weights from {data} next to it, by this name.")
        return "\n".join(
            [
                f"# {names} for {target.program}",
                "",
                f"Exported by lstmstate {__version__} from {_code(self.prefix)}.",
                "",
                *(f"- {line}" for line in lines),
                f"- State: the layout `{target.state}`. To begin with a saved one, write it with "
                f"`lstmstate.convert('STATE', 'state.npz', layout='{target.state}')`, and put "
                "`state = dict(numpy.load('state.npz'))` in place of the zeros.",
                f"- `x` is [batch, time, {self.network.first.input_size}], and `state` has the "
                "arrays of that layout; here both are zeros, for a batch of 1. The program leaves "
                "`outputs` and the `state` after them.",
                "",
                "```python",
                *self._zeros(),
                "",
                self.target.source(self.network, os.path.basename(self.path)).rstrip("\n"),
                "```",
                "",
            ]
        )

    def _zeros(self) -> list[str]:
        """Return the lines of a program that make an input and a state of zeros."""
        dtype, first = self.network.dtype.name, self.network.first
        zeros = to_arrays(LAYOUTS[self.target.state], self.loaded.state(no_states(self.network, 1)))
        return [
            "import numpy",
            "",
            f"x = numpy.zeros((1, 10, {first.input_size}), {dtype!r})",
            "state = {",
            *(f"    {n!r}: numpy.zeros({a.shape}, {dtype!r})," for n, a in zeros.items()),
            "}",
        ]

    def check(self, seed: int = 0) -> float:
        """Return the largest difference between the written export, run by its program, and ours.

        `refuse_missing_packages` goes before.
        """
        names: dict[str, Any] = {}
        x, pairs = self._make_trial(seed)
        layout = LAYOUTS[self.target.state]
        names["x"] = np.ascontiguousarray(x.swapaxes(0, 1))
        names["state"] = to_arrays(layout, self.loaded.state(pairs))
        exec(self.target.source(self.network, self.path), names)
        ran = self.loaded.runner.run(x, pairs)
        wanted = to_arrays(layout, self.loaded.state(ran.states))
        wanted["outputs"] = ran.outputs.swapaxes(0, 1)
        found = {"outputs": names["outputs"], **names["state"]}
        return max(_difference(found[name], a) for name, a in wanted.items())

    def allows(self, difference: float, seed: int = 0) -> bool:
        """Whether a difference found by `check` is one of rounding, which cells may amplify.

        float16 has 11 digits, and float32 24. Our own result is compared with one in float64, if
        that can change the answer: its weights take twice the memory.
        """
        least = max(_TOLERANCE, 4 * float(np.finfo(self.network.dtype).eps))
        if not least < difference <= _AMPLIFIED:
            return difference <= least
        runner, (x, pairs) = self.loaded.runner, self._make_trial(seed)
        ran = runner.run(x, pairs)
        exact = load_exact(self.network, runner).run(
            x.astype(np.float64), [(c.astype(np.float64), m.astype(np.float64)) for c, m in pairs]
        )
        return difference <= 4 * max(map(_difference, ran.arrays, exact.arrays))

    def _make_trial(self, seed: int) -> tuple[Array, list[Pair]]:
        """Return random inputs `[steps, batch, I]`, and a random state."""
        batch, steps = _TRIAL
        network, rng = self.network, np.random.default_rng(seed)

        def numbers(*shape: int) -> Array:
            found: Array = rng.uniform(-1, 1, shape).astype(network.dtype)
            return found

        x = numbers(steps, batch, network.first.input_size)
        return x, [(numbers(*c.shape), numbers(*m.shape)) for c, m in no_states(network, batch)]

    def refuse_missing_packages(self) -> None:
        """Raise a MissingExtraError if the program cannot import what it needs."""
        lines = ast.parse(self.target.source(self.network, self.path)).body
        imports = [n for n, one in enumerate(lines) if isinstance(one, ast.Import | ast.ImportFrom)]
        head = ast.Module(lines[: imports[-1] + 1], [])
        try:
            exec(compile(head, "program", "exec"), {})
        except (ImportError, ValueError) as error:
            name = getattr(error, "name", None)
            problem = f"{name} is not installed here" if name else f"it cannot be imported: {error}"
            advice = self.target.advice or (f"pip install {name}" if name else None)
            raise MissingExtraError(
                f"the check runs {self.target.program}, and {problem}", advice=advice
            ) from error

    def done(self, paths: Sequence[str], *, compare: bool) -> Exported:
        """Return the result of the export that was written, compared with ours if requested."""
        difference = self.check() if compare else None
        agrees = None if difference is None else self.allows(difference)
        return Exported(tuple(paths), tuple(self.folded), difference, agrees)


def _code(name: str) -> str:
    """Return a name as code in Markdown, where it cannot be markup."""
    return f"`{printable(name).replace('`', chr(39))}`"


def _fed(name: str, value: Any) -> str:
    shape = np.shape(value)
    return f"{name} = {value}" if shape == () else f"{name}, an array {list(shape)}"


def _difference(values: Any, wanted: Any) -> float:
    """Return the largest difference, relative to numbers above 1.

    Infinite if the shapes differ, or a number is NaN.
    """
    found = np.asarray(values)
    if found.shape != wanted.shape:
        return math.inf
    relative = np.abs(found - wanted) / np.maximum(np.abs(wanted), 1)
    largest = float(relative.max(initial=0.0))
    return largest if math.isfinite(largest) else math.inf


class ExportRequest(NamedTuple):
    """The cells to export, and the file to write.

    Attributes:
        to: the key of a target.
        output: the file.
        cell, stack: the part of the checkpoint; the only one by default.
        options: of the cells, as for a run.
        strict: whether to refuse a graph with operations after the outputs.
    """

    to: str
    output: str
    cell: str | None = None
    stack: str | None = None
    options: RunOptions = RunOptions()
    strict: bool = False


def export_opened(ckpt: LSTMCheckpoint, request: ExportRequest) -> Export:
    """Return the export of cells of a checkpoint.

    Raises:
        UnsupportedError: the target cannot express them, or only the graph has their step.
    """
    target = target_of(request.to)
    # Cells whose graph ends sequences in another way are refused where lengths can be fed.
    options = request.options._replace(has_lengths=target.takes_lengths)
    network = ckpt.network(cell=request.cell, stack=request.stack)
    try:
        loaded = network.load(options)
    except UnsupportedError as error:
        advice = error.advice or ""
        if "engine='graph'" in advice:
            error.advice = None  # the graph's own step has no weights to export
        elif "feeds=" in advice and not _as_recognised(network, options):
            error.advice = _cells_alone(ckpt, network, options) or advice
        raise
    with located(ckpt.prefix):
        if not isinstance(loaded.network, Network):
            reason, way = loaded.notes[0].partition(": ")[2], _as_recognised(network, options)
            alone = None if way else _cells_alone(ckpt, network, options)
            raise UnsupportedError(
                f"only the graph has its step: {reason.partition('; ')[0] if alone else reason}",
                tensor=loaded.route.name,
                advice=alone or f"{way}run it here: `lstmstate run`",
            )
        if request.strict and loaded.beyond:
            raise UnsupportedError(loaded.beyond[0])
        made = export_loaded(loaded, target, ckpt.prefix, request.output)
        return made._replace(feeds=request.options.feeds)


def _as_recognised(network: LSTMNetwork, options: RunOptions) -> str:
    """Return advice to take cells that the graph cannot judge; none where it contradicts them."""
    with suppress(LstmstateError):
        network.load(options._replace(engine="numpy"))
        return "take the cells as they were recognised, `engine='numpy'`, or "
    return ""


def _cells_alone(ckpt: LSTMCheckpoint, network: LSTMNetwork, options: RunOptions) -> str | None:
    """Return advice to export one of several cells, those of the first that can be; else None."""
    found = []
    cells = network.route.cells
    for cell in cells[:_TRIED] if len(cells) > 1 else ():
        with suppress(LstmstateError):
            if isinstance(ckpt.network(cell=cell.name).load(options).network, Network):
                found.append(f"`cell={cell.name!r}`")
    return f"export one of its cells: {' or '.join(found)}" if found else None


def export_loaded(loaded: Loaded, target: ExportTarget, prefix: str, path: str) -> Export:
    """Return the export of recognised cells to a file.

    Raises:
        UnsupportedError: the target cannot express them.
    """
    network = loaded.recognised_network.with_full_kernels()
    diagonals = [cell for cell in network.cells if cell.recurrent.ndim == 1]
    nbytes = sum(len(cell.recurrent) * cell.widths.c * cell.dtype.itemsize for cell in diagonals)
    if nbytes > limits.MAX_DIAGONAL_BYTES:
        raise UnsupportedError(
            f"its recurrent weights, one for each unit, would be matrices of {nbytes:,} bytes",
            tensor=diagonals[0].name,
            advice="export its variables: `to='arrays'`",
        )
    refuse_cells(network, target)
    content = target.content(network, path)
    return Export(target, prefix, loaded._replace(network=network), path, content)


@name_nearest
def export(
    checkpoint: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    to: str,
    cell: str | None = None,
    stack: str | None = None,
    variable: str | Sequence[str] = (),
    slices: int | slice | Slices | None = None,
    check: bool = False,
    compress: bool = False,
    force: bool = False,
    engine: str = "auto",
    feeds: Mapping[str, Any] | None = None,
    forget_bias: float | Recorded = RECORDED,
    cell_clip: float | Recorded | None = RECORDED,
    proj_clip: float | Recorded | None = RECORDED,
    activation: str | Recorded = RECORDED,
    recurrent_activation: str | Recorded = RECORDED,
    peepholes: bool | Recorded = RECORDED,
    assume_defaults: bool = False,
    checksums: bool = True,
) -> Exported:
    """Write the weights of cells for another program, with a README of how to load them.

    Args:
        output: the file; the README is next to it.
        to: the program: 'torch', 'keras', 'onnx', …; 'arrays' for variables as they are.
        cell, stack: the part of the checkpoint; the only one by default.
        variable: of 'arrays', the names of some, or patterns as in a shell.
        slices: of 'arrays', this part of each, such as np.s_[0, :5].
        check: whether to run the export in its program, and to compare the results.
        compress: whether to compress the file of 'arrays'.
        force: whether to replace files that exist.
        engine: "numpy" for the cells as recognised, though the graph does not confirm them.
        feeds, …, assume_defaults: as for `LSTMNetwork.run`.
        checksums: whether to verify the checksums of the checkpoint.

    Returns:
        paths, the files that were written; folded, a line for each constant that the weights have
        taken up; of a check largest_difference, and agrees: whether that is within the tolerance.

    Raises:
        UnsupportedError: the program cannot express the cells.
        MissingExtraError: the program is not installed, and needed for the file or the check.
    """
    refuse_others({"engine": engine}, {"engine": one_of(("auto", "numpy"))})
    flags = {"check": check, "compress": compress, "force": force}
    refuse_others(flags, dict.fromkeys(flags, BOOL))
    options, names = RunOptions.of(locals()), [variable] if isinstance(variable, str) else variable
    are_variables = to == VARIABLES.key
    for name, is_given, is_for_variables in (
        ("variable", bool(names), True),
        ("slices", slices is not None, True),
        ("compress", compress, True),
        ("check", check, False),
        ("cell", cell is not None, False),
        ("stack", stack is not None, False),
        ("feeds", bool(feeds), False),
        *((name, True, False) for name in options.given),
    ):
        if is_given and are_variables != is_for_variables:
            words = "is for" if is_for_variables else "is not for"
            raise ArgumentError(f"`{name}` {words} `to='arrays'`", advice="leave it out")
    request = ExportRequest(to, os.fspath(output), cell, stack, options)
    part = slices if slices is None or isinstance(slices, tuple) else (slices,)
    if not all(isinstance(axis, slice) or is_whole(axis, -sys.maxsize) for axis in part or ()):
        raise ArgumentError(f"slices cannot be {slices!r:.40}", advice="pass np.s_[0, :5]")
    with Outputs(force=force) as outputs, open_checkpoint(checkpoint, checksums=checksums) as ckpt:
        if are_variables:
            variables = export_arrays(ckpt, request.output, names, part, compress=compress)
            variables.write(outputs)
            warn([*ckpt.notes, *variables.notes])
            return Exported((request.output,))
        made = export_opened(ckpt, request)
        if check:
            made.refuse_missing_packages()
        paths = made.write(outputs)
        settled = made.loaded.settled
        lines = [f"{ckpt.prefix}: {line}" for line in (*assumptions(settled), *remarks(settled))]
        warn([*ckpt.notes, *lines, *(f"{ckpt.prefix}: {line}" for line in made.notes)])
    return made.done(paths, compare=check)
