"""Export of variables as they are, under their names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import translate

import numpy as np

from lstmstate.checkpoint import Variable
from lstmstate.checkpoint.dtypes import BFLOAT16
from lstmstate.errors import ArgumentError, NotFoundError, count
from lstmstate.files.atomic import Outputs
from lstmstate.model.checkpoint import LSTMCheckpoint
from lstmstate.named_tuple import NamedTuple
from lstmstate.operations.load import Slices
from lstmstate.state.formats.array_writer import PlannedArray, open_writer
from lstmstate.state.formats.registry import IN_ROWS, StateKind, kind_to_write
from lstmstate.state.state_stream import Advance, ignore


class ArraysExport(NamedTuple):
    """Variables of a checkpoint on their way into a file of arrays.

    Attributes:
        slices: the part of each to take; None for all of it.
        path: the file.
        left_out: variables of text.
    """

    ckpt: LSTMCheckpoint
    variables: Sequence[Variable]
    slices: Slices | None
    path: str
    compress: bool = False
    left_out: Sequence[str] = ()

    @property
    def nbytes(self) -> int:
        """The bytes to read."""
        return sum(variable.nbytes or 0 for variable in self.variables)

    @property
    def notes(self) -> list[str]:
        """The variables that are left out, as a line."""
        text = f"text is left out: {count(len(self.left_out), 'variable')}"
        wide = [one for one in self.variables if one.dtype == BFLOAT16]
        widened = f"bfloat16 is written as float32: {count(len(wide), 'variable')}"
        keeps = self._kind.key in ("safetensors", "pt")
        return [text] * bool(self.left_out) + [widened] * bool(wide and not keeps)

    @property
    def _kind(self) -> StateKind:
        return kind_to_write(self.path, endings=IN_ROWS, compress=self.compress)

    def write(self, outputs: Outputs, advance: Advance = ignore) -> None:
        """Write the file; `advance` is called with the bytes of each part that was read."""
        plans = [self._plan(variable) for variable in self.variables]
        with open_writer(
            outputs, self.path, self._kind, plans, None, compress=self.compress
        ) as writer:
            for variable, plan in zip(self.variables, plans, strict=True):
                if self.slices is not None:
                    writer.write(plan.name, 0, np.asarray(self._part(variable)))
                    advance(variable.nbytes or 0)
                    continue
                start = 0
                for part in self.ckpt.files.read_parts(variable.name):
                    writer.write(plan.name, start, part)
                    start += len(part) if plan.axis is not None else 0
                    advance(part.nbytes)

    def _plan(self, variable: Variable) -> PlannedArray:
        """Return the array to write for a variable; bfloat16 comes as float32."""
        dtype, shape, axis = np.dtype(variable.spec.dtype.numpy), variable.shape, None
        if self.slices is not None:
            shape = np.shape(self._part(variable))
        elif shape and variable.size:
            axis = 0
        was = BFLOAT16 if variable.dtype == BFLOAT16 else None
        return PlannedArray(variable.name, shape, dtype, axis, was)

    def _part(self, variable: Variable) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
        try:
            found: np.ndarray[tuple[int, ...], np.dtype[np.generic]] = variable[self.slices]
        except IndexError:
            raise ArgumentError(
                f"this part is not in an array {list(variable.shape)}", tensor=variable.name
            ) from None
        return found


def export_arrays(
    ckpt: LSTMCheckpoint,
    path: str,
    patterns: Sequence[str] = (),
    slices: Slices | None = None,
    *,
    compress: bool = False,
) -> ArraysExport:
    """Return the export of variables as they are.

    Args:
        patterns: names of variables, or patterns of them as in a shell: *, ? and []; all without
            any.
        slices: the part of each to take.

    Raises:
        NotFoundError: no variable has such a name.
    """
    chosen: dict[str, Variable] = {}
    for pattern in patterns or ["*"]:
        matches = re.compile(translate(pattern)).match
        found = {name: one for name, one in ckpt.variables.items() if matches(name)}
        if pattern in ckpt.variables:  # a name with [0] in it, too
            found = {pattern: ckpt.variables[pattern]}
        if not found and patterns:
            name = ckpt.variable(pattern)  # any name that inspect prints
            found = {name: ckpt.variables[name]}
        chosen |= found
    numbers = {name: one for name, one in chosen.items() if one.spec.dtype.storage}
    if not numbers:
        raise NotFoundError("there is no variable of numbers", path=ckpt.prefix)
    left_out = [name for name in chosen if name not in numbers]
    ckpt.files.refuse_shared_bytes()
    return ArraysExport(ckpt, list(numbers.values()), slices, path, compress, left_out)
