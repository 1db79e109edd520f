"""One flat state as two files, and back, for `split` and `concat`."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial

from lstmstate.cells.cell import CellShape
from lstmstate.cells.state_names import role_of
from lstmstate.errors import ArgumentError, LstmstateError, count, printable
from lstmstate.files.atomic import Outputs
from lstmstate.operations.convert import Conversion, write_state
from lstmstate.operations.load import Opened, only_array, states_in
from lstmstate.state.candidates import Cells, Wanted
from lstmstate.state.formats.array_writer import open_writer
from lstmstate.state.formats.registry import BY_KEY, kind_to_write
from lstmstate.state.formats.stored_array import StateFile, StoredArray
from lstmstate.state.infer_layout import StoredState, read_state
from lstmstate.state.layouts import LAYOUTS, scopes_of
from lstmstate.state.metadata import HALVES, Metadata
from lstmstate.state.state_stream import StateStream

_NUMBERED = re.compile(r"\Acell_\d+\Z")


def split_opened(
    opened: Opened, wanted: Wanted, targets: Sequence[str], variables: Sequence[str] = ()
) -> Conversion:
    """Return the conversion of a state into an npy file for c and for m of each cell.

    Args:
        targets: the files: c, m, c, m, …
        variables: see `saved_states.states_of`.
    """
    state, *_ = states_in(opened, wanted, variables, layout="from_layout")
    cells, path = state.structure.cells, state.file.path
    if len(targets) != 2 * len(cells):
        raise ArgumentError(
            f"the state has {count(len(cells), 'cell')} and there are {len(targets)} files",
            path=path,
            advice="pass two files for each cell: `targets=...`",
        )
    for target in targets:
        if kind_to_write(target, endings=".npy").key != "npy":
            raise LstmstateError(
                "split writes .npy files", path=target, advice="write other kinds with convert"
            )
    stream = StateStream(state, LAYOUTS["tuple"])
    return Conversion(
        targets, [stream], state.structure.nbytes, partial(_write_halves, stream, targets)
    )


def _write_halves(stream: StateStream, targets: Sequence[str], outputs: Outputs) -> None:
    """Write c and m of each cell, reading the source once."""
    cells = stream.structure.cells
    scopes = scopes_of([cell.name for cell in cells]) if len(cells) > 1 else [cells[0].name]
    named = [cell._replace(name=scope) for scope, cell in zip(scopes, cells, strict=True)]
    whole = Metadata("tuple", (), is_stack=False, source=os.path.basename(stream.state.file.path))
    recorded = [whole._replace(cells=(cell,), part=half) for cell in named for half in HALVES]
    with ExitStack() as stack:
        stream.write(
            [
                stack.enter_context(open_writer(outputs, target, BY_KEY["npy"], [plan], metadata))
                for target, plan, metadata in zip(targets, stream.plans, recorded, strict=True)
            ]
        )


def concat_opened(
    opened: Sequence[Opened],
    wanted: Wanted,
    target: str,
    *,
    kind: str | None = None,
    compress: bool = False,
) -> Conversion:
    """Return the conversion of halves in open files, c, m, c, m, …, into one flat state.

    Args:
        kind, compress: see `ConvertRequest`.
    """
    if not opened or len(opened) % 2:
        raise ArgumentError(f"expected pairs of files, c and m, got {count(len(opened), 'file')}")
    stream = StateStream(_read_halves(opened, wanted), LAYOUTS["flat"])
    to = kind_to_write(target, kind, "npy", compress=compress)
    write = partial(write_state, stream, target=target, kind=to, compress=compress)
    return Conversion([target], [stream], stream.structure.nbytes, write)


def _read_halves(opened: Sequence[Opened], wanted: Wanted) -> StoredState:
    """Return the state whose halves are in open files: c, m, c, m, …"""
    arrays: list[StoredArray] = []
    cells: list[CellShape | None] = []
    notes: list[str] = []
    for number, one in enumerate(opened):
        file = only_array(one)
        arrays += file.arrays
        cells.append(_cell_of(one.path, HALVES[number % 2], file))
        notes += [f"{one.path}: {note}" for note in file.notes]
    known: list[CellShape] = []
    for at_m, c, m in zip(opened[1::2], cells[::2], cells[1::2], strict=True):
        if c is not None and m is not None and c != m:
            of_c, of_m = (printable(str(cell.name or cell)) for cell in (c, m))
            raise LstmstateError(
                f"this is the m of {of_m!r}, and its c that of {of_c!r}",
                path=at_m.path,
                advice="put together the halves of one cell",
            )
        known += filter(None, [c or m])
    if len(known) == len(opened) // 2 and not wanted.knows_widths:
        if len(known) > 1:  # names that are only numbers are none
            known = [one._replace(name=_NUMBERED.sub("", one.name)) for one in known]
        wanted = wanted._replace(cells=(Cells(tuple(known), len(known) > 1),), source="the files")
    whole = StateFile(opened[0].path, arrays, notes=tuple(notes))
    return read_state(whole, wanted._replace(layout="tuple", is_ordered=True))


def _cell_of(path: str, half: str, file: StateFile) -> CellShape | None:
    """Return the cell of the c or m in a file; refuse another half or a whole state."""
    role, own = role_of(file.arrays[0].name), file.metadata
    if own is not None and own.part is None:
        raise LstmstateError(
            f"expected {half}, got a whole state ({own.layout})",
            path=path,
            advice="use convert, or pick an array: FILE:NAME",
        )
    named = role[1] if role is not None and role[1] in HALVES else half
    if named != half or (own is not None and own.part != half):
        raise LstmstateError(
            f"expected {half}, got {own.part if own is not None else named}",
            path=path,
            advice="the order is c, m, c, m, …",
        )
    return own.cells[0] if own is not None else None
