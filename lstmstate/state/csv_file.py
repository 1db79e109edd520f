"""csv files, for people: a row a row of the batch, a column an element, named in the first line.

    # lstmstate {"layout": "tuple", …}
    c.0,c.1,m.0,m.1
    0.25,-1.5,0.1,0.2

Numbers are written in the fewest digits that give them back. The payload of a NaN is lost, and
arrays of more than two axes have no place in it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lstmstate import limits
from lstmstate.checkpoint.source import ByteSource
from lstmstate.errors import CorruptError, LstmstateError, UnsupportedError
from lstmstate.output import Outputs
from lstmstate.state.metadata import KEY, Metadata, parse
from lstmstate.state.stored import Held, StateFile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lstmstate.state.flow import Flow

    Array = NDArray[np.generic]

_MARK = f"# {KEY} "
_COLUMN = re.compile(r"(?P<name>.+)\.(?P<number>\d+)")
_TYPES = (
    "float16 float32 float64 complex64 complex128 int8 int16 int32 int64 uint8 uint16 uint32 uint64"
)


def open_file(source: ByteSource) -> StateFile:
    """Return the arrays of a csv or tsv file; without a word of the dtype they are float64.

    Raises:
        LstmstateError: it is not a table of numbers.
    """
    if source.size > limits.MAX_CSV_BYTES:
        raise UnsupportedError("a csv file of this size is not read", path=source.path)
    text = source.read(0, source.size, "the text").decode("utf-8-sig", "replace")
    lines = [line for line in text.splitlines() if line.strip()]
    metadata = None
    while lines and lines[0].startswith("#"):
        line = lines.pop(0)
        if line.startswith(_MARK):
            metadata = parse(line[len(_MARK) :])
    rows = [re.split(r"\t" if "\t" in lines[0] else ",", line) for line in lines]
    names = rows.pop(0) if rows and not all(map(_is_number, rows[0])) else []
    table = _table(rows, metadata, len(names))
    return StateFile(source.path, _arrays(names, table), metadata)


def _is_number(text: str) -> bool:
    try:
        complex(text)
    except ValueError:
        return False
    return True


def _table(rows: list[list[str]], metadata: Metadata | None, width: int) -> Array:
    """Return the numbers, all rows as long as one another."""
    import numpy as np

    told = metadata.dtype if metadata and metadata.dtype in _TYPES.split() else "float64"
    dtype = np.dtype(told)
    read = {"c": complex, "f": float}.get(dtype.kind, int)
    width = width or (len(rows[0]) if rows else 0)
    table = np.empty((len(rows), width), dtype)
    for number, row in enumerate(rows):
        if len(row) != width:
            raise CorruptError(f"row {number + 1} has {len(row)} numbers, and others {width}")
        try:
            table[number] = [read(text) for text in row]
        except (ValueError, OverflowError):
            raise CorruptError(f"row {number + 1} holds what is no number of {told}") from None
    return table


def _arrays(names: list[str], table: Array) -> list[Held]:
    """Cut the columns into arrays, where their names tell which belong together."""
    found = [_COLUMN.fullmatch(name.strip()) for name in names]
    starts: dict[str, int] = {}
    for at, match in enumerate(found):
        if match is None:
            return [Held("", table)]
        at_first = starts.setdefault(match["name"], at)
        if int(match["number"]) != at - at_first:
            return [Held("", table)]
    ends = [*list(starts.values())[1:], len(names)]
    cut = zip(starts.items(), ends, strict=True)
    return [Held(name, table[:, start:end]) for (name, start), end in cut] or [Held("", table)]


def write(
    outputs: Outputs, target: str, flow: Flow, metadata: Metadata, *, compress: bool = False
) -> None:
    """Write each planned array as columns, side by side.

    Raises:
        LstmstateError: an array has more than two axes.
    """
    import numpy as np

    rank = len(flow.structure.lead)
    if rank > 1 or any(len(plan.shape) != rank + 1 for plan in flow.plans):
        raise LstmstateError(
            "a csv file holds rows and columns, and this state has more axes",
            advice="write an .npz or .h5",
        )
    names = [f"{plan.name}.{k}" for plan in flow.plans for k in range(plan.shape[-1])]
    told = metadata._replace(dtype=flow.plans[0].dtype.name)
    with outputs.open(target) as file:
        file.write(f"{_MARK}{told.line()}\n{','.join(names)}\n".encode())
        for _, _, arrays in flow.together():
            for row in np.concatenate([np.atleast_2d(array) for array in arrays], axis=-1):
                file.write((",".join(map(str, row)) + "\n").encode())
