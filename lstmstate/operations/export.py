"""Export of weights for other programs, with a README of how to load them."""

from __future__ import annotations

import ast
import math
import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np

from lstmstate import limits
from lstmstate.arguments import name_nearest, one_of, refuse_others
from lstmstate.engines.canonical_network import Array, Network, no_states
from lstmstate.engines.expressible import refuse_missing_parts
from lstmstate.engines.run_options import assumptions, remarks
from lstmstate.errors import (
    ArgumentError,
    MissingExtraError,
    UnsupportedError,
    located,
    printable,
    warn,
)
from lstmstate.exports.targets import (
    CHECKPOINT,
    SCRIPT,
    VARIABLES,
    Content,
    ExportTarget,
    target_of,
)
from lstmstate.files.atomic import Outputs
from lstmstate.model.checkpoint import LSTMCheckpoint, open_checkpoint
from lstmstate.model.loaded_network import Loaded
from lstmstate.model.network_loader import RECORDED, Recorded, RunOptions
from lstmstate.named_tuple import NamedTuple
from lstmstate.operations.export_arrays import export_arrays
from lstmstate.state.formats.array_writer import PlannedArray, open_writer
from lstmstate.state.formats.checkpoint_arrays import write_arrays
from lstmstate.state.formats.registry import kind_to_write
from lstmstate.state.layouts import LAYOUTS, to_arrays

_TRIAL = (2, 7)  # batch and steps of a check
_TOLERANCE = 2e-6  # of a check
_WITHOUT = "export to 'gates', which takes every cell: `to='gates'`"


class Export(NamedTuple):
    """Weights of a network for a target, before they are written.

    Attributes:
        prefix: the checkpoint.
        loaded: the network.
        path: the file to write.
        content: the weights by name, or the bytes of the file.
    """

    target: ExportTarget
    prefix: str
    loaded: Loaded
    path: str
    content: Content

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
    def tolerance(self) -> float:
        """The difference to allow in `check`: float16 has 11 digits, and float32 24."""
        return max(_TOLERANCE, 4 * float(np.finfo(self.network.dtype).eps))

    @property
    def readme(self) -> str:
        """The path of the README to write next to it."""
        return f"{self.path.removesuffix('.index')}.README.md"

    def write(self, outputs: Outputs) -> None:
        """Write the weights, with their program if they have one, and their README."""
        if isinstance(self.content, bytes):
            if not self.path.endswith(tuple(f".{kind}" for kind in self.target.kinds)):
                raise UnsupportedError(
                    f"expected the name of a file for {self.target.program}",
                    path=self.path,
                    advice=f"end the name in .{self.target.kinds[0]}",
                )
            with outputs.open(self.path) as file:
                file.write(self.content)
        else:
            self._write_arrays(outputs, self.content)
        with outputs.open(self.readme) as file:
            file.write(self.describe().encode())

    def _write_arrays(self, outputs: Outputs, arrays: Mapping[str, Array]) -> None:
        path, kinds = self.path, self.target.kinds
        stem, ending = os.path.splitext(path)
        if ending == f".{SCRIPT}" and SCRIPT in kinds:
            with outputs.open(path) as file:
                file.write(self.target.script(self.network).encode())
            path, kinds = f"{stem}.npz", ("npz",)
        endings = " or ".join(f".{kind}" for kind in kinds)
        kind = kind_to_write(path, endings=endings)
        if kind.key not in kinds:
            raise UnsupportedError(
                f"{kind.words} has no place for the weights of {self.target.program}",
                path=path,
                advice=f"end the name in {endings}",
            )
        if kind.key == CHECKPOINT:
            write_arrays(outputs, path, arrays)
            return
        plans = [PlannedArray(n, a.shape, a.dtype) for n, a in arrays.items()]
        with open_writer(outputs, path, kind, plans, None) as writer:
            for name, array in arrays.items():
                writer.write(name, 0, array)

    def describe(self) -> str:
        """Return the text of the README."""
        from importlib.metadata import version

        cells, target = self.network.cells, self.target
        names = ", ".join(_code(cell.name or "/") for cell in cells)
        place = (
            "not in its weights: the class adds it"
            if target.adds_to_f is None
            else "in the bias of its forget gate"
        )
        folded = [
            f"- The forget_bias {cell.forget_bias:g} of {_code(cell.name or 'the cell')} is "
            f"{place}."
            for cell in cells
            if cell.forget_bias != target.adds_to_f
        ]
        return "\n".join(
            [
                f"# {names} for {target.program}",
                "",
                f"Exported by lstmstate {version('lstmstate')} from {_code(self.prefix)}.",
                "",
                *folded,
                *(f"- Assumed: {_code(line)}." for line in assumptions(self.loaded.settled)),
                *(f"- Note: {_code(line)}." for line in self.notes),
                f"- State: the layout `{target.state}`, as `lstmstate convert` writes it.",
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

        Raises:
            MissingExtraError: the program's packages are not installed.
        """
        batch, steps = _TRIAL
        network, rng = self.network, np.random.default_rng(seed)

        def numbers(*shape: int) -> Array:
            found: Array = rng.uniform(-1, 1, shape).astype(network.dtype)
            return found

        x = numbers(batch, steps, network.first.input_size)
        pairs = [(numbers(*c.shape), numbers(*m.shape)) for c, m in no_states(network, batch)]
        ran = self.loaded.runner.run(np.ascontiguousarray(x.swapaxes(0, 1)), pairs)
        layout = LAYOUTS[self.target.state]
        expected = to_arrays(layout, self.loaded.state(ran.states))
        names: dict[str, Any] = {
            "x": x,
            "state": to_arrays(layout, self.loaded.state(pairs)),
        }
        try:
            exec(self.target.source(network, self.path), names)
        except ImportError as error:
            raise MissingExtraError(
                f"the check runs {self.target.program}, and {error.name} is not installed here",
                advice=f"pip install {error.name}",
            ) from error
        found = {"outputs": names["outputs"], **names["state"]}
        wanted = {"outputs": ran.outputs.swapaxes(0, 1), **expected}
        return max(_difference(found[name], a) for name, a in wanted.items())

    def refuse_missing_packages(self) -> None:
        """Raise a MissingExtraError if the program imports a package that is missing."""
        tree = ast.walk(ast.parse(self.target.source(self.network, self.path)))
        names = [one.name for node in tree if isinstance(node, ast.Import) for one in node.names]
        missing = [name for name in names if find_spec(name.partition(".")[0]) is None]
        if missing:
            raise MissingExtraError(
                f"the check runs {self.target.program}, and {missing[0]} is not installed here",
                advice=f"pip install {missing[0]}",
            )


def _code(name: str) -> str:
    """Return a name as code in Markdown, where it cannot be markup."""
    return f"`{printable(name).replace('`', chr(39))}`"


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
    try:
        loaded = ckpt.network(cell=request.cell, stack=request.stack).load(options)
    except UnsupportedError as error:
        if "engine='graph'" in (error.advice or ""):
            error.advice = None  # the graph's own step has no weights to export
        raise
    with located(ckpt.prefix):
        if not isinstance(loaded.network, Network):
            raise UnsupportedError(
                f"only the graph has its step: {loaded.notes[0].partition(': ')[2]}",
                tensor=loaded.route.name,
                advice="run it here: `lstmstate run`",
            )
        if request.strict and loaded.beyond:
            raise UnsupportedError(loaded.beyond[0])
        return export_loaded(loaded, target, ckpt.prefix, request.output)


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
    refuse_missing_parts(network, target.has, target.program, _WITHOUT)
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
    force: bool = False,
    engine: str = "auto",
    forget_bias: float | Recorded = RECORDED,
    cell_clip: float | Recorded | None = RECORDED,
    proj_clip: float | Recorded | None = RECORDED,
    activation: str | Recorded = RECORDED,
    recurrent_activation: str | Recorded = RECORDED,
    peepholes: bool | Recorded = RECORDED,
    assume_defaults: bool = False,
    checksums: bool = True,
) -> None:
    """Write the weights of cells for another program, with a README of how to load them.

    Args:
        output: the file; the README is next to it.
        to: the program: 'torch', 'keras', 'onnx', …; 'arrays' for variables as they are.
        cell, stack: the part of the checkpoint; the only one by default.
        variable: of 'arrays', the names of some, with * and ? for any characters.
        force: whether to replace files that exist.
        engine: "numpy" for the cells as recognised, though the graph does not confirm them.
        forget_bias, …, assume_defaults: as for `LSTMNetwork.run`.
        checksums: whether to verify the checksums of the checkpoint.
    """
    refuse_others({"engine": engine}, {"engine": one_of(("auto", "numpy"))})
    options, names = RunOptions.of(locals()), [variable] if isinstance(variable, str) else variable
    if names and to != VARIABLES.key:
        raise ArgumentError("`variable` is for `to='arrays'`", advice="leave it out")
    request = ExportRequest(to, os.fspath(output), cell, stack, options)
    with Outputs(force=force) as outputs, open_checkpoint(checkpoint, checksums=checksums) as ckpt:
        if to == VARIABLES.key:
            variables = export_arrays(ckpt, request.output, names)
            variables.write(outputs)
            warn([*ckpt.notes, *variables.notes])
            return
        made = export_opened(ckpt, request)
        made.write(outputs)
        settled = made.loaded.settled
        lines = [f"{ckpt.prefix}: {line}" for line in (*assumptions(settled), *remarks(settled))]
        warn([*ckpt.notes, *lines, *(f"{ckpt.prefix}: {line}" for line in made.notes)])
