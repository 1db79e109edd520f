"""One flat state as two files, and back, for `split` and `concat`."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import ExitStack

from lstmstate.cells.state_names import role_of
from lstmstate.errors import LstmstateError, count, printable
from lstmstate.files.atomic import Outputs
from lstmstate.operations.load import open_array
from lstmstate.operations.progress import Advance, ignore
from lstmstate.records import NamedTuple
from lstmstate.state.candidates import Cells, Wanted
from lstmstate.state.formats.array_writer import open_writer
from lstmstate.state.formats.chunked import StateFile, StoredArray
from lstmstate.state.formats.input_path import InputPath
from lstmstate.state.formats.registry import BY_KEY, kind_to_write
from lstmstate.state.infer_layout import StoredState, read_state
from lstmstate.state.layouts import LAYOUTS, scopes_of
from lstmstate.state.metadata import Metadata
from lstmstate.state.state import CellShape
from lstmstate.state.stream import Stream

_HALVES = ("c", "m")
_NUMBERED = re.compile(r"cell_\d+")


def write_halves(
    state: StoredState,
    outputs: Outputs,
    targets: Sequence[str],
    on_part: Advance = ignore,
) -> Stream:
    """Write c and m of each cell into npy files of their own, reading the source once."""
    cells, path = state.structure.cells, state.file.path
    if len(targets) != 2 * len(cells):
        raise LstmstateError(
            f"the state has {count(len(cells), 'cell')} and there are {len(targets)} files",
            path=path,
            advice="pass two files for each cell: `outputs=...`",
        )
    for target in targets:
        if kind_to_write(target).key != "npy":
            raise LstmstateError(
                "split writes .npy files", path=target, advice="write other kinds with convert"
            )
    stream = Stream(state, LAYOUTS["tuple"], on_part=on_part)
    scopes = scopes_of([cell.name for cell in cells]) if len(cells) > 1 else [cells[0].name]
    named = [cell._replace(name=scope) for scope, cell in zip(scopes, cells, strict=True)]
    whole = Metadata("tuple", (), is_stack=False, source=os.path.basename(path))
    recorded = [whole._replace(cells=(cell,), part=half) for cell in named for half in _HALVES]
    with ExitStack() as stack:
        stream.write(
            [
                stack.enter_context(open_writer(outputs, target, BY_KEY["npy"], [plan], metadata))
                for target, plan, metadata in zip(targets, stream.plans, recorded, strict=True)
            ]
        )
    return stream


def read_halves(
    paths: Sequence[InputPath],
    wanted: Wanted,
    *,
    checksums: bool = True,
    header: bool | None = None,
) -> StoredState:
    """Return the state whose halves are in files: c, m, c, m, …

    Args:
        checksums: whether to verify the checksums of checkpoints.
        header: whether the first row of a table names its columns, None if unknown.
    """
    halves = [
        _half(path, _HALVES[number % 2], open_array(path, checksums=checksums, header=header))
        for number, path in enumerate(paths)
    ]
    known: list[CellShape] = []
    for number, (c, m) in enumerate(zip(halves[::2], halves[1::2], strict=True)):
        if c.cell is not None and m.cell is not None and c.cell != m.cell:
            raise LstmstateError(
                f"this is the m of {printable(str(m.cell.name or m.cell))!r}, and its c that of "
                f"{printable(str(c.cell.name or c.cell))!r}",
                path=paths[2 * number + 1].text,
                advice="put together the halves of one cell",
            )
        if (cell := c.cell or m.cell) is not None:
            known.append(cell)
    if len(known) == len(paths) // 2 and not wanted.knows_widths:
        named = known if len(known) == 1 else [_unnumbered(cell) for cell in known]
        cells = Cells(tuple(named), len(named) > 1)
        wanted = wanted._replace(cells=(cells,), source="the files")
    notes = tuple(note for half in halves for note in half.notes)
    file = StateFile(paths[0].text, [half.array for half in halves], notes=notes)
    return read_state(file, wanted._replace(layout="tuple", is_ordered=True))


class _Half(NamedTuple):
    """One array, and its cell by the metadata of its file."""

    array: StoredArray
    cell: CellShape | None
    notes: tuple[str, ...]


def _half(path: InputPath, half: str, file: StateFile) -> _Half:
    """Return the c or m in a file; refuse another half or a whole state by its metadata."""
    array, own = file.arrays[0], file.metadata
    role = role_of(array.name)
    is_other = role is not None and role[1] in _HALVES and role[1] != half
    if own is not None and own.part is None:
        raise LstmstateError(
            f"expected {half}, got a whole state ({own.layout})",
            path=path.text,
            advice="use convert, or pick an array: FILE:NAME",
        )
    if is_other or (own is not None and own.part != half):
        there = own.part if own is not None else role[1] if role else ""
        raise LstmstateError(
            f"expected {half}, got {there}",
            path=path.text,
            advice="the order is c, m, c, m, …",
        )
    notes = tuple(f"{path.text}: {note}" for note in file.notes)
    return _Half(array, own.cells[0] if own is not None else None, notes)


def _unnumbered(cell: CellShape) -> CellShape:
    """Return a cell without a name that is only a number."""
    return cell._replace(name="") if _NUMBERED.fullmatch(cell.name) else cell
