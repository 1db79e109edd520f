"""Metadata of a state in its file, so that the way back needs no flags.

It is one line of JSON: in the header of an npy file, a member of an npz, an attribute of an
HDF5 file, a tensor of a checkpoint, a second pickle, a comment in a csv.
"""

from __future__ import annotations

from lstmstate import limits
from lstmstate.cells.cell import CellShape, StateWidths
from lstmstate.errors import CorruptError
from lstmstate.named_tuple import NamedTuple

KEY = "lstmstate"  # the name of the member, attribute or tensor
OUTPUTS = "outputs"  # an array of a run, and the layout of a file that holds it and no state
HALVES = ("c", "m")


class Metadata(NamedTuple):
    """Metadata of a state.

    Attributes:
        layout: a name in `layouts.LAYOUTS`, or `OUTPUTS`.
        is_stack: whether the state is that of a stack, which may have one cell only.
        part: "c" or "m" if the file holds only one half of one cell.
        dtype: the dtype that the state had where the file cannot hold it ("bfloat16", kept as
            float32).
        source: the name of the file that it was made of.
        is_run: whether a run wrote the file: its arrays that are not of the state are results.

    >>> own = Metadata("flat", (CellShape("rnn", StateWidths(8, 5)),), False, source="a.npz")
    >>> parse(own.line()) == own
    True
    """

    layout: str
    cells: tuple[CellShape, ...]
    is_stack: bool
    part: str | None = None
    dtype: str | None = None
    source: str | None = None
    is_run: bool = False

    def line(self) -> str:
        """Return it as a line of JSON, in ASCII."""
        import json

        fields = {
            "layout": self.layout,
            "cells": [
                {"name": one.name, "c": one.widths.c, "m": one.widths.m} for one in self.cells
            ],
            "stack": self.is_stack,
            "part": self.part,
            "dtype": self.dtype,
            "source": self.source,
            "run": self.is_run or None,
        }
        return json.dumps({key: value for key, value in fields.items() if value is not None})


def parse(line: str) -> Metadata:
    """Read such a line, which is untrusted as all of the file."""
    import json

    try:
        fields = json.loads(line)
        cells = tuple(
            CellShape(str(cell["name"]), StateWidths(_width(cell["c"]), _width(cell["m"])))
            for cell in fields["cells"]
        )
        part, dtype, source = (
            None if fields.get(key) is None else str(fields[key])
            for key in ("part", "dtype", "source")
        )
        is_stack, is_run = bool(fields["stack"]), bool(fields.get("run"))
        found = Metadata(str(fields["layout"]), cells, is_stack, part, dtype, source, is_run)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorruptError("its metadata cannot be read") from error
    if found.layout == OUTPUTS:
        return found
    one = found.is_stack or len(cells) == 1
    if not cells or not one or len(cells) > limits.MAX_CELLS or found.part not in (None, *HALVES):
        raise CorruptError("its metadata does not describe a state")
    return found


def _width(value: object) -> int:
    if not isinstance(value, int) or not 0 <= value <= limits.MAX_INT64:
        raise ValueError
    return value
