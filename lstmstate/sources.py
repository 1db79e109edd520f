"""Where states come from: files of their own, and the variables of checkpoints."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from lstmstate.cells.model import Cell, SavedState, Stack
from lstmstate.checkpoint.locate import NotACheckpointError
from lstmstate.errors import AmbiguousError, LstmstateError, NotFoundError, printable
from lstmstate.opened import LSTMCheckpoint, open_checkpoint
from lstmstate.output import STDOUT
from lstmstate.state import naming
from lstmstate.state.files import open_state_file, picked, split_place, state_kind
from lstmstate.state.metadata import KEY, Metadata
from lstmstate.state.model import CellShape
from lstmstate.state.reading import Cells, Reading, Wanted, read_state
from lstmstate.state.stored import StoredArray
from lstmstate.state.tensors import tensors


class Group(NamedTuple):
    """Variables that hold one state together.

    Attributes:
        name: what to call the state, such as the name of the flat variable.
        layout: as in `layouts.LAYOUTS`; None where nothing tells.
        variables: their names, in the order of the layout.
        cells: the cells whose state it can be.
    """

    name: str
    layout: str | None
    variables: tuple[str, ...]
    cells: tuple[Cells, ...]


def cells_of(
    ckpt: LSTMCheckpoint, cell: str | None = None, stack: str | None = None
) -> tuple[Cells, ...]:
    """Return the cells and stacks of a checkpoint as owners of states, or the one that is named.

    Raises:
        NotFoundError: there is none of this name.
    """
    if cell is not None:
        found = _one(ckpt.cell(cell))
        if found is None:
            raise LstmstateError("its state has no known widths", path=ckpt.prefix, tensor=cell)
        return (found,)
    if stack is not None:
        named = [_all(s) for s in ckpt.stacks if f"/{stack.strip('/')}/" in f"/{s.name}/"]
        known = ", ".join(printable(s.name) for s in ckpt.stacks) or "none"
        if len(named) != 1 or named[0] is None:
            raise NotFoundError(
                "there is no such stack of LSTM cells, or several",
                path=ckpt.prefix,
                tensor=stack,
                advice=f"there are: {known}",
            )
        return (named[0],)
    every = [*map(_all, ckpt.stacks), *map(_one, ckpt.cells.values())]
    return tuple(cells for cells in every if cells is not None)


def _one(cell: Cell) -> Cells | None:
    return Cells((CellShape(cell.name, cell.state),), False) if cell.state else None


def _all(stack: Stack) -> Cells | None:
    cells = [_one(cell) for layer in stack.layers for cell in layer]
    shapes = tuple(cell.shapes[0] for cell in cells if cell is not None)
    return Cells(shapes, True) if len(shapes) == len(cells) else None


def groups(ckpt: LSTMCheckpoint) -> list[Group]:
    """Return the states that lie in the variables of a checkpoint."""
    every = cells_of(ckpt)
    found = []
    halves: dict[str, dict[str, SavedState]] = {}
    for state in ckpt.states:
        if state.layout in ("c", "m"):
            owner = state.cell if state.cell is not None else _scope(ckpt, state)
            halves.setdefault(owner, {}).setdefault(state.layout, state)
        else:
            layout = None if state.layout == "unknown" else state.layout
            found.append(
                Group(state.variable, layout, (state.variable,), _owners(ckpt, state, every))
            )
    pairs = {owner: (both["c"], both["m"]) for owner, both in halves.items() if len(both) == 2}
    for stack in ckpt.stacks:
        owners = [cell.name for layer in stack.layers for cell in layer]
        cells = _all(stack)
        if cells and all(owner in pairs for owner in owners):
            names = [half.variable for owner in owners for half in pairs.pop(owner)]
            found.append(Group(_common(names, owners), "tuple", tuple(names), (cells,)))
    for owner, (c, m) in pairs.items():
        one = _one(ckpt.cells[owner]) if owner in ckpt.cells else None
        names = [c.variable, m.variable]
        found.append(
            Group(_common(names, [owner]), "tuple", tuple(names), (one,) if one else every)
        )
    return found


def _scope(ckpt: LSTMCheckpoint, state: SavedState) -> str:
    told = naming.role_of(ckpt.variables[state.variable].path)
    return told[0] if told else state.variable


def _owners(ckpt: LSTMCheckpoint, state: SavedState, every: tuple[Cells, ...]) -> tuple[Cells, ...]:
    """Return the cells whose state a variable is, all where nothing tells."""
    if state.cell is not None:
        found = _one(ckpt.cells[state.cell])
    else:
        found = next((_all(s) for s in ckpt.stacks if s.name == state.stack), None)
    return (found,) if found else every


def _common(names: Sequence[str], owners: Sequence[str]) -> str:
    """Return the scope that some c and m share, without the names of their cells.

    >>> _common(["saved/rnn/cell/c", "saved/rnn/cell/m"], ["rnn/cell"]), _common(["c", "m"], [""])
    ('saved', 'state')
    """
    scopes = [name.rpartition("/")[0] for name in names]
    for owner in owners:
        scopes = [scope.removesuffix(owner).rstrip("/") for scope in scopes]
    parts = [scope.split("/") for scope in scopes]
    shared = [level[0] for level in zip(*parts, strict=False) if len(set(level)) == 1]
    return "/".join(shared) or "state"


def open_array(path: str) -> tuple[StoredArray, Metadata | None]:
    """Return the one array that a path stands for, and what its file says of it.

    Raises:
        LstmstateError: there are several, or none.
    """
    path, place = split_place(path)
    if path == STDOUT or state_kind(path):
        file = open_state_file(path)
    else:
        ckpt = open_checkpoint(path)
        file = tensors(ckpt.prefix, ckpt.variables.values())
    told = None if place else file.metadata
    if place:
        file = picked(file, place)
    if len(file.arrays) != 1:
        names = ", ".join(printable(array.name) for array in file.arrays[:6])
        raise AmbiguousError(
            f"it holds {len(file.arrays)} arrays", path=path, advice=f"pick one, FILE:NAME: {names}"
        )
    return file.arrays[0], told


class Source(NamedTuple):
    """A state that was asked for.

    Attributes:
        group: the variables that it lies in, where it does.
        ckpt: the checkpoint that they belong to.
        inputs: the files that it is read from.
    """

    reading: Reading
    group: Group | None = None
    ckpt: LSTMCheckpoint | None = None
    inputs: tuple[str, ...] = ()

    @property
    def nbytes(self) -> int:
        """The bytes of its values, or of all values of its checkpoint."""
        if self.ckpt is not None:
            return sum(variable.nbytes or 0 for variable in self.ckpt.variables.values())
        arrays = self.reading.arrays
        return sum(math.prod(array.shape) * array.dtype.itemsize for array in arrays)


def is_checkpoint(path: str) -> bool:
    """Whether a path is that of a checkpoint with other things than a state in it."""
    if path == STDOUT or split_place(path)[1] is not None or state_kind(path):
        return False
    return KEY not in open_checkpoint(path).variables


def open_source(
    path: str, wanted: Wanted, *, variables: Sequence[str] = (), checksums: bool = True
) -> list[Source]:
    """Return the states in a file, or those in a checkpoint that are asked for.

    Raises:
        LstmstateError: there is none, or it cannot be read, or which one is open.
    """
    path, place = split_place(path)
    if path == STDOUT or state_kind(path):
        if variables:
            raise LstmstateError(
                "--variable is for checkpoints", path=path, advice="pick an array: FILE:NAME"
            )
        file = open_state_file(path)
        reading = read_state(picked(file, place) if place else file, wanted)
        return [Source(reading, inputs=() if path == STDOUT else (path,))]
    try:
        ckpt = open_checkpoint(path, checksums=checksums)
    except NotACheckpointError as error:
        raise LstmstateError(
            f"this is {error.kind.words}: neither a state nor a checkpoint",
            path=path,
            advice=error.kind.advice,
        ) from None
    names = [*variables, *([place] if place else [])]
    return list(_saved(ckpt, names, wanted))


def _saved(ckpt: LSTMCheckpoint, names: Sequence[str], wanted: Wanted) -> Iterator[Source]:
    found = groups(ckpt)
    inputs = (*ckpt.files.location.files, *ckpt.files.data_files)
    if not names and not ckpt.cells:
        # A checkpoint of states alone, such as convert writes.
        file = tensors(ckpt.prefix, ckpt.variables.values())
        yield Source(read_state(file, wanted), None, ckpt, inputs)
        return
    if not names and len(found) != 1:
        if not found:
            raise NotFoundError(
                "no state is saved in its variables",
                path=ckpt.prefix,
                advice="name one with --variable, or convert a state file with --checkpoint",
            )
        raise AmbiguousError(
            f"{len(found)} states are saved in it",
            path=ckpt.prefix,
            advice="choose: " + ", ".join(f"--variable {printable(group.name)}" for group in found),
        )
    for group in [_group(ckpt, found, name) for name in names] or found:
        arrays = [ckpt.variables[name] for name in group.variables]
        known = wanted.cells or (() if wanted.each else group.cells)
        layout = wanted.layout or group.layout
        file = tensors(f"{ckpt.prefix}:{group.name}" if names else ckpt.prefix, arrays)
        file = file._replace(ordered=True)
        source = wanted.source if wanted.cells else ckpt.prefix
        wanted_here = wanted._replace(layout=layout, cells=known, source=source)
        yield Source(read_state(file, wanted_here), group, ckpt, inputs)


def all_states(ckpt: LSTMCheckpoint) -> list[Source]:
    """Return every state that is saved in a checkpoint."""
    names = [group.name for group in groups(ckpt)]
    return list(_saved(ckpt, names, Wanted())) if names else []


def _group(ckpt: LSTMCheckpoint, found: Sequence[Group], name: str) -> Group:
    """Return the state of this name, or in the variable of this name."""
    for group in found:
        if name == group.name or name in group.variables:
            return group
    if name not in ckpt.variables:
        raise NotFoundError("there is no such variable", path=ckpt.prefix, tensor=name)
    return Group(name, None, (name,), cells_of(ckpt))
