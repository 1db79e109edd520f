"""csv files, for people: a row a row of the batch, a column an element, named in the first line.

    # lstmstate {"layout": "tuple", …}
    c.0,c.1,m.0,m.1
    0.25,-1.5,0.1,0.2

Numbers are written in the fewest digits that give them back. The payload of a NaN is lost, and
arrays of more or fewer than two axes have no place in it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lstmstate import limits
from lstmstate.cells.state_names import role_of
from lstmstate.errors import CorruptError, LstmstateError
from lstmstate.files.atomic import Outputs
from lstmstate.files.reader import ByteSource
from lstmstate.state.formats.number_table import TextTable
from lstmstate.state.formats.stored_array import ArrayInMemory, StateFile
from lstmstate.state.metadata import KEY, parse

if TYPE_CHECKING:
    from lstmstate.state.state import Array
    from lstmstate.state.state_stream import StateStream

_MARK = f"# {KEY} "
_COLUMN = re.compile(r"(?P<name>.*?[^\d._])[._]?(?P<number>\d{1,9})")
_SEPARATING = re.compile(r"[,\t\r\n#\"]")
_TYPES = (
    "float16 float32 float64 complex64 complex128 int8 int16 int32 int64 uint8 uint16 uint32 uint64"
).split()


def open_file(
    source: ByteSource, *, columns: str | None = None, header: bool | None = None
) -> StateFile:
    """Return the arrays of a csv or tsv file; without a word of the dtype they are float64.

    Args:
        columns: the name of an array, or those of some columns, as `places` takes them; None
            for all but an index.
        header: whether the first row names the columns, None if unknown.
    """
    table = TextTable(source, header=header, most=limits.MAX_CSV_BYTES)
    lines = [line[len(_MARK) :] for line in table.comments if line.startswith(_MARK)]
    metadata = parse(lines[0]) if lines else None
    dtype = metadata.dtype if metadata and metadata.dtype in _TYPES else "float64"
    asked = None if columns in _columns(table.names) else columns
    names, values, notes = table.columns(asked, dtype)
    arrays = [ArrayInMemory(asked, values)] if asked else _arrays(names, values)
    return StateFile(source.path, arrays, metadata, notes=notes)


def _columns(names: Sequence[str]) -> dict[str, dict[int, int]]:
    """Return the columns of each array by their numbers in it; {} if no name is that of a state."""
    columns: dict[str, dict[int, int]] = {}
    for at, name in enumerate(names):
        match = _COLUMN.fullmatch(name)
        of_name = columns.setdefault(match["name"] if match else name, {})
        of_name[int(match["number"]) if match else 0] = at
    return columns if any(role_of(name) for name in columns) else {}


def _arrays(names: Sequence[str], table: Array) -> list[ArrayInMemory]:
    """Cut the columns into arrays by their names, in any order."""
    columns = _columns(names)
    if not columns:
        return [ArrayInMemory("", table)]
    found = []
    for name, numbered in columns.items():
        numbers = sorted(numbered)
        first = numbers[0]
        if first not in (0, 1) or numbers != list(range(first, first + len(numbers))):
            raise CorruptError("its columns make no arrays: some are missing", tensor=name)
        found.append(ArrayInMemory(name, table[:, [numbered[number] for number in numbers]]))
    if sum(array.shape[1] for array in found) != len(names):
        raise CorruptError("two of its columns have the same name")
    return found


def write(outputs: Outputs, target: str, stream: StateStream) -> None:
    """Write each planned array as columns, side by side."""
    import numpy as np

    plans = stream.plans
    if any(len(plan.shape) != 2 for plan in plans):
        raise LstmstateError(
            "a csv file holds rows and columns, and this state has more axes, or no batch",
            path=target,
            advice="write an .npz or .h5",
        )
    for plan in plans:
        if plan.dtype.name not in _TYPES:
            raise LstmstateError(f"a csv file has no place for {plan.dtype}", path=target)
        if _SEPARATING.search(plan.name):
            raise LstmstateError(
                "its name cannot be written into a csv file", path=target, tensor=plan.name
            )
    names = [f"{plan.name}.{k}" for plan in plans for k in range(plan.shape[-1])]
    metadata = stream.metadata._replace(dtype=plans[0].dtype.name)
    with outputs.open(target) as file:
        file.write(f"{_MARK}{metadata.line()}\n{','.join(names)}\n".encode())
        for _, arrays in stream.together():
            rows = np.concatenate(arrays, axis=-1)
            file.write("".join(",".join(map(str, row)) + "\n" for row in rows).encode())
