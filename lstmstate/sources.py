"""Where states come from: files of their own, and the variables of checkpoints."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from lstmstate.checkpoint.locate import NotACheckpointError
from lstmstate.errors import (
    AmbiguousError,
    LstmstateError,
    NotFoundError,
    located,
    printable,
)
from lstmstate.opened import LSTMCheckpoint, open_checkpoint
from lstmstate.state.files import STDOUT, open_state_file, picked, split_place, state_kind
from lstmstate.state.metadata import KEY
from lstmstate.state.stored import StateFile

if TYPE_CHECKING:
    from lstmstate.saved_states import Group
    from lstmstate.state.foreign import Foreign
    from lstmstate.state.guesses import Wanted
    from lstmstate.state.reading import Reading

STDIN = STDOUT  # the same dash


class Opened(NamedTuple):
    """What a path stands for: the arrays of a state file, or a checkpoint.

    Attributes:
        file: None for a checkpoint with more in it than a state.
        place: what follows the path behind a colon: a variable of the checkpoint.
    """

    path: str
    file: StateFile | None
    ckpt: LSTMCheckpoint | None = None
    place: str | None = None

    @property
    def is_model(self) -> bool:
        """Whether the path stands for a checkpoint as a whole."""
        return self.file is None and self.place is None


class Source(NamedTuple):
    """A state that was asked for.

    Attributes:
        group: the variables that it lies in, where it does.
        ckpt: the checkpoint that they belong to.
    """

    reading: Reading
    group: Group | None = None
    ckpt: LSTMCheckpoint | None = None

    @property
    def nbytes(self) -> int:
        """The bytes of its values, or of all values of its checkpoint."""
        if self.group is not None and self.ckpt is not None:
            return sum(variable.nbytes or 0 for variable in self.ckpt.variables.values())
        arrays = self.reading.arrays
        return sum(math.prod(array.shape) * array.dtype.itemsize for array in arrays)


def open_path(path: str, *, checksums: bool = True, header: bool | None = None) -> Opened:
    """Open a state file or a checkpoint; `FILE:NAME` picks an array, a group or a variable.

    Args:
        header: whether the first row of a table names its columns, None where nobody says.

    Raises:
        LstmstateError: it is neither, or damaged.
    """
    base, place = split_place(path)
    place = place or None
    if base == STDIN or state_kind(base):
        file = open_state_file(base, header=header)
        return Opened(path, picked(file, place) if place else file)
    try:
        ckpt = open_checkpoint(base, checksums=checksums)
    except NotACheckpointError as error:
        raise LstmstateError(
            f"this is {error.kind.words}: neither a state nor a checkpoint",
            path=base,
            advice=error.kind.advice,
        ) from None
    told = ckpt.variables.get(KEY)
    if place is None and told is not None and told.dtype == "string" and not ckpt.cells:
        from lstmstate.state.tensors import tensors

        # A checkpoint of one state alone, such as convert writes.
        return Opened(path, tensors(ckpt.prefix, ckpt.variables.values()), ckpt)
    return Opened(path, None, ckpt, place)


def open_source(
    path: str,
    wanted: Wanted,
    *,
    variables: Sequence[str] = (),
    checksums: bool = True,
    header: bool | None = None,
) -> list[Source]:
    """Return the states in a file, or those in a checkpoint that are asked for.

    Raises:
        LstmstateError: there is none, or it cannot be read, or which one is open.
    """
    return states_in(open_path(path, checksums=checksums, header=header), wanted, variables)


def states_in(opened: Opened, wanted: Wanted, variables: Sequence[str] = ()) -> list[Source]:
    """Return the states in what is open; see `open_source`."""
    from lstmstate.state.reading import read_state

    if opened.file is not None:
        if variables:
            raise LstmstateError(
                "`variable=...` is for checkpoints",
                path=opened.path,
                advice="pick an array: FILE:NAME",
            )
        return [Source(read_state(opened.file, wanted), ckpt=opened.ckpt)]
    assert opened.ckpt is not None
    names = [*variables, *([opened.place] if opened.place else [])]
    return list(_saved(opened.ckpt, names, wanted))


def arrays_of(opened: Opened) -> tuple[StateFile, Wanted]:
    """Return the arrays that a path stands for, with what its checkpoint tells of their cells.

    Raises:
        LstmstateError: there is no state or variable of this name.
    """
    from lstmstate.saved_states import groups
    from lstmstate.state.guesses import Wanted

    if opened.file is not None:
        return opened.file, Wanted()
    assert opened.ckpt is not None
    assert opened.place is not None, "a checkpoint as a whole is no array"
    group = _group(opened.ckpt, groups(opened.ckpt), opened.place)
    return _arrays(opened.ckpt, group, Wanted())


def all_states(ckpt: LSTMCheckpoint) -> list[Source]:
    """Return every state that is saved in a checkpoint."""
    from lstmstate.saved_states import groups
    from lstmstate.state.guesses import Wanted

    names = [group.name for group in groups(ckpt)]
    return list(_saved(ckpt, names, Wanted())) if names else []


def open_array(path: str, *, header: bool | None = None) -> StateFile:
    """Return the file of the one array that a path stands for.

    Raises:
        LstmstateError: there are several, or none.
    """
    opened = open_path(path, header=header)
    file = opened.file
    if file is None:
        from lstmstate.state.tensors import tensors

        assert opened.ckpt is not None
        file = tensors(opened.ckpt.prefix, opened.ckpt.variables.values())
        if opened.place:
            file = picked(file, opened.place)
            file = file._replace(foreign=_foreign(opened.ckpt, file.arrays[0].name))
    if file.foreign is not None:
        with located(path):
            raise file.foreign.error()
    if len(file.arrays) != 1:
        names = ", ".join(printable(array.name) for array in file.arrays[:6])
        raise AmbiguousError(
            f"it holds {len(file.arrays)} arrays", path=path, advice=f"pick one, FILE:NAME: {names}"
        )
    return file


def _saved(ckpt: LSTMCheckpoint, names: Sequence[str], wanted: Wanted) -> Iterator[Source]:
    from lstmstate.saved_states import groups
    from lstmstate.state.reading import read_state

    found = groups(ckpt)
    if not names and len(found) != 1:
        if not found:
            raise NotFoundError(
                "no state is saved in its variables",
                path=ckpt.prefix,
                advice="name one with `variable=...`, or convert a state file with "
                "`checkpoint=...`",
            )
        raise AmbiguousError(
            f"{len(found)} states are saved in it",
            path=ckpt.prefix,
            advice="choose: "
            + ", ".join(f"`variable='{printable(group.name)}'`" for group in found),
        )
    for group in [_group(ckpt, found, name) for name in names] or found:
        file, here = _arrays(ckpt, group, wanted)
        file = file if names else file._replace(path=ckpt.prefix)
        yield Source(read_state(file, here), group, ckpt)


def _arrays(ckpt: LSTMCheckpoint, group: Group, wanted: Wanted) -> tuple[StateFile, Wanted]:
    """Return the variables of a saved state, with what is known of it."""
    from lstmstate.state.tensors import tensors

    variables = [ckpt.variables[name] for name in group.variables]
    here = wanted._replace(
        layout=wanted.layout or group.layout,
        cells=wanted.cells or (() if wanted.each else group.cells),
        source=wanted.source if wanted.cells else ckpt.prefix,
        is_ordered=group.layout is not None and len(group.variables) > 1,
    )
    file = tensors(f"{ckpt.prefix}:{group.name}", variables)
    return file._replace(foreign=_foreign(ckpt, group.variables[0])), here


def _foreign(ckpt: LSTMCheckpoint, variable: str) -> Foreign | None:
    """Return what a variable is if a cell or an optimizer has it as no state."""
    from lstmstate.state import foreign

    role, cell = ckpt.role(variable)
    if role in ("state", "other"):
        return None
    if role == "slot":
        return foreign.SLOTS
    return foreign.weights(printable(cell) if cell else "a cell")


def _group(ckpt: LSTMCheckpoint, found: Sequence[Group], name: str) -> Group:
    """Return the state of this name, or in the variable of this name."""
    from lstmstate.saved_states import Group, cells_of

    for group in found:
        if name == group.name or name in group.variables:
            return group
    if name not in ckpt.variables:
        raise NotFoundError("there is no such variable", path=ckpt.prefix, tensor=name)
    return Group(name, None, (name,), cells_of(ckpt))
