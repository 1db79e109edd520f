"""Where states come from: files of their own, and the variables of checkpoints."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from lstmstate.checkpoint.locate import NotACheckpointError
from lstmstate.errors import AmbiguousError, LstmstateError, NotFoundError, located, printable
from lstmstate.model.checkpoint import LSTMCheckpoint
from lstmstate.records import NamedTuple
from lstmstate.state.formats.input_path import STDIN, InputPath
from lstmstate.state.formats.registry import select

if TYPE_CHECKING:
    from lstmstate.model.saved_states import Group
    from lstmstate.state.candidates import Wanted
    from lstmstate.state.formats.chunked import Foreign, StateFile
    from lstmstate.state.infer_layout import Reading


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


def open_path(
    path: str | InputPath, *, checksums: bool = True, header: bool | None = None
) -> Opened:
    """Open a state file or a checkpoint; `FILE:NAME` picks an array, a group or a variable.

    Args:
        header: whether the first row of a table names its columns, None where that is open.

    Raises:
        LstmstateError: it is neither, or damaged.
    """
    path = InputPath.of(path)
    text = path.text
    if path.path == STDIN or path.kind is not None:
        return Opened(text, path.state_file(header=header))
    try:
        ckpt = LSTMCheckpoint(path.location, checksums=checksums)
    except NotACheckpointError as error:
        raise LstmstateError(
            f"this is {error.kind.words}: neither a state nor a checkpoint",
            path=path.path,
            advice=error.advice,
        ) from None
    if path.place is None and _is_a_state(ckpt):
        from lstmstate.state.formats.checkpoint_arrays import tensors

        return Opened(text, tensors(ckpt.prefix, ckpt.variables.values()), ckpt)
    return Opened(text, None, ckpt, path.place)


def _is_a_state(ckpt: LSTMCheckpoint) -> bool:
    """Whether a checkpoint is of one state alone, such as convert writes."""
    texts = {name for name, variable in ckpt.variables.items() if variable.dtype == "string"}
    if not texts:
        return False
    from lstmstate.state.metadata import KEY

    return KEY in texts and not ckpt.cells


def open_source(
    path: str,
    wanted: Wanted,
    *,
    variables: Sequence[str] | None = None,
    checksums: bool = True,
    header: bool | None = None,
) -> list[Source]:
    """Return the states in a file, or those in a checkpoint that are asked for.

    Raises:
        LstmstateError: there is none, or it cannot be read, or which one is open.
    """
    return states_in(open_path(path, checksums=checksums, header=header), wanted, variables)


def states_in(
    opened: Opened,
    wanted: Wanted,
    variables: Sequence[str] | None = None,
    *,
    every: bool = False,
) -> list[Source]:
    """Return the states in what is open; see `open_source`.

    The states of all cells of one network are one state.

    Args:
        variables: names of variables of a checkpoint; None where a user cannot give them.
        every: whether all states of a checkpoint are wanted where none is named, and each is
            known to be that of another cell or stack.

    Raises:
        LstmstateError: there is none, or it cannot be read, or which one is open.
    """
    from lstmstate.model.saved_states import groups, of_one_network
    from lstmstate.state.infer_layout import read_state

    if opened.file is not None:
        if variables:
            raise LstmstateError(
                "`variable=...` is for checkpoints",
                path=opened.path,
                advice="pick an array: FILE:NAME",
            )
        return [Source(read_state(opened.file, wanted), ckpt=opened.ckpt)]
    ckpt = opened.ckpt
    assert ckpt is not None
    names = [*(variables or ()), *([opened.place] if opened.place else [])]
    found = groups(ckpt)
    if names:
        return [_saved(ckpt, group, wanted) for group in _chosen(ckpt, found, names, wanted)]
    owners = {group.cells for group in found if len(group.cells) == 1}
    if every and found and len(owners) == len(found):
        return [_saved(ckpt, group, wanted) for group in found]
    parts = [] if every else of_one_network(ckpt, found, wanted.cells)
    if len(parts) > 1:
        alone = wanted._replace(cells=())
        return [_joined(ckpt, [_saved(ckpt, part, alone).reading for part in parts])]
    found = parts or found
    if len(found) != 1:
        raise _open(ckpt, found, can_name=variables is not None)
    return [_saved(ckpt, found[0], wanted, path=ckpt.prefix)]


def arrays_of(opened: Opened) -> tuple[StateFile, Wanted]:
    """Return the arrays that a path stands for, with what its checkpoint tells of their cells.

    Raises:
        LstmstateError: there is no state or variable of this name.
    """
    from lstmstate.model.saved_states import groups
    from lstmstate.state.candidates import Wanted

    if opened.file is not None:
        return opened.file, Wanted()
    assert opened.ckpt is not None
    assert opened.place is not None, "a checkpoint as a whole is no array"
    chosen = _chosen(opened.ckpt, groups(opened.ckpt), [opened.place], Wanted())
    return _arrays(opened.ckpt, chosen[0], Wanted())


def all_states(ckpt: LSTMCheckpoint) -> list[Source]:
    """Return every state that is saved in a checkpoint."""
    from lstmstate.model.saved_states import groups
    from lstmstate.state.candidates import Wanted

    return [_saved(ckpt, group, Wanted()) for group in groups(ckpt)]


def open_array(path: str | InputPath, *, header: bool | None = None) -> StateFile:
    """Return the file of the one array that a path stands for.

    Raises:
        LstmstateError: there are several, or none.
    """
    opened = open_path(path, header=header)
    file = opened.file
    if file is None:
        from lstmstate.state.formats.checkpoint_arrays import tensors

        assert opened.ckpt is not None
        ckpt = opened.ckpt
        file = tensors(ckpt.prefix, ckpt.variables.values(), ckpt.states)
        if opened.place:
            file = _one_of(ckpt, file, opened.place)
    if file.foreign is not None:
        with located(opened.path):
            raise file.foreign.error()
    if len(file.arrays) != 1:
        names = ", ".join(printable(array.name) for array in file.arrays[:6])
        raise AmbiguousError(
            f"it holds {len(file.arrays)} arrays",
            path=opened.path,
            advice=f"pick one, FILE:NAME: {names}",
        )
    return file


def _one_of(ckpt: LSTMCheckpoint, file: StateFile, place: str) -> StateFile:
    """Return the variable of a name, with what the checkpoint knows of it: which half it is."""
    from lstmstate.state.metadata import Metadata
    from lstmstate.state.state import CellShape

    with suppress(NotFoundError):
        place = ckpt.variable(place)
    found = select(file, place)
    found = found._replace(foreign=_foreign(ckpt, [array.name for array in found.arrays]))
    state = next((one for one in ckpt.states if one.variable == place), None)
    cell = ckpt.cells.get(state.cell or "") if state is not None else None
    if state is None or state.layout not in ("c", "m") or cell is None or cell.state is None:
        return found
    shape = CellShape(cell.name, cell.state)
    return found._replace(metadata=Metadata("tuple", (shape,), False, part=state.layout))


def _open(ckpt: LSTMCheckpoint, found: Sequence[Group], *, can_name: bool) -> LstmstateError:
    """Return the error of a checkpoint with no state, or with several, by the names of inspect."""
    if not found:
        pair = "`variable='C'` `variable='M'`"
        named = f"name one with `variable=...`, or its halves with {pair}; or "
        return NotFoundError(
            "no state is saved in its variables",
            path=ckpt.prefix,
            advice=f"{named if can_name else ''}convert a state file with `checkpoint=...`",
        )
    names = [[printable(variable) for variable in group.variables] for group in found]
    choices = [" ".join(f"`variable='{variable}'`" for variable in some) for some in names]
    return AmbiguousError(
        f"{len(found)} states are saved in it",
        path=ckpt.prefix,
        advice=f"choose: {', '.join(choices)}"
        if can_name
        else f"pick one, CKPT:NAME: {', '.join(some[0] for some in names)}",
    )


def _saved(ckpt: LSTMCheckpoint, group: Group, wanted: Wanted, path: str | None = None) -> Source:
    """Return a state in variables as a source.

    Args:
        path: what to call it; by its name unless given.
    """
    from lstmstate.model.saved_states import orders_of
    from lstmstate.state.infer_layout import read_state

    file, here = _arrays(ckpt, group, wanted)
    if group.problem is not None and wanted.layout is None:
        (variable,) = group.variables
        orders = orders_of(ckpt, file.arrays[0].shape, stored=variable)
        if not orders:
            raise LstmstateError(
                group.problem,
                path=ckpt.prefix,
                tensor=group.name,
                advice="say its layout: `layout=...`",
            )
        here = here._replace(orders=lambda shape: orders)  # noqa: ARG005
    return Source(read_state(file._replace(path=path or file.path), here), group, ckpt)


def _joined(ckpt: LSTMCheckpoint, readings: Sequence[Reading]) -> Source:
    """Return the states of single cells as that of a stack."""
    from lstmstate.state.candidates import Cells, Wanted
    from lstmstate.state.formats.chunked import StateFile
    from lstmstate.state.infer_layout import HalfOfCell, read_state

    cells = Cells(tuple(cell for one in readings for cell in one.structure.cells), True)
    halves = [HalfOfCell(one, half) for one in readings for half in (0, 1)]
    notes = tuple(dict.fromkeys(note for one in readings for note in one.notes))
    wanted = Wanted("tuple", None, (cells,), ckpt.prefix, is_ordered=True)
    return Source(read_state(StateFile(ckpt.prefix, halves, notes=notes), wanted), ckpt=ckpt)


def _arrays(ckpt: LSTMCheckpoint, group: Group, wanted: Wanted) -> tuple[StateFile, Wanted]:
    """Return the variables of a saved state, with what is known of it."""
    from lstmstate.state.formats.checkpoint_arrays import tensors

    variables = [ckpt.variables[name] for name in group.variables]
    here = wanted._replace(
        layout=wanted.layout or group.layout,
        cells=wanted.cells or (() if wanted.each else group.cells),
        source=wanted.source if wanted.cells else ckpt.prefix,
        is_ordered=group.layout is not None and len(group.variables) > 1,
        orders=None,
    )
    file = tensors(f"{ckpt.prefix}:{group.name}", variables, ckpt.states)
    notes = (*file.notes, group.note) if group.note else file.notes
    return file._replace(foreign=_foreign(ckpt, group.variables), notes=notes), here


def _foreign(ckpt: LSTMCheckpoint, variables: Iterable[str]) -> Foreign | None:
    """Return what the first variable is that a cell or an optimizer has as no state."""
    from lstmstate.state import other_contents

    for role, cell in map(ckpt.role, variables):
        if role == "slot":
            return other_contents.SLOTS
        if role not in ("state", "other"):
            return other_contents.weights(printable(cell) if cell else "a cell")
    return None


def _chosen(
    ckpt: LSTMCheckpoint, found: Sequence[Group], names: Sequence[str], wanted: Wanted
) -> list[Group]:
    """Return the states of these names, or in the variables of these names.

    Variables that are no states by themselves are c and m, c and m, … of one state.
    """
    from lstmstate.model.saved_states import halves

    by_name = {group.name: group for group in (*halves(ckpt), *found)}
    variables = [name if name in by_name else ckpt.variable(name) for name in names]
    inside = [
        by_name.get(name) or next((group for group in found if name in group.variables), None)
        for name in variables
    ]
    whole = list(dict.fromkeys(group for group in inside if group is not None))
    if len(variables) == 1:
        return whole or [_alone(ckpt, variables[0])]
    states = {state.variable: state for state in ckpt.states if state.variable not in by_name}
    known = [states[name].layout if name in states else None for name in variables]
    if len(whole) == len(variables) and not {"c", "m"} & {*known}:
        return whole
    owners = [states[name].cell if name in states else None for name in variables]
    for number, (name, there) in enumerate(zip(variables, known, strict=True)):
        half = "cm"[number % 2]
        if name in by_name or there in {"c", "m"} - {half}:
            raise LstmstateError(
                f"this is {there or 'a whole state'}, and is given where {half} belongs",
                path=ckpt.prefix,
                tensor=name,
                advice="the order is C M C M …, a variable each",
            )
    for c, m in zip(owners[::2], owners[1::2], strict=False):
        if c is not None and m is not None and c != m:
            raise LstmstateError(
                f"expected c and m of one cell, got c of {printable(c)} and m of {printable(m)}",
                path=ckpt.prefix,
                advice="the order is C M C M …, a variable each",
            )
    together = next((group for group in whole if group.variables == tuple(variables)), None)
    if together is not None:
        return [together]
    pair = _pair(ckpt, variables, owners)
    if {*known} <= {"c", "m"}:
        return [pair]
    alone = [_alone(ckpt, name) for name in variables]
    fits = [_fits(ckpt, group, wanted) for group in (pair, *alone)]
    if all(fits) and wanted.layout is None:
        raise AmbiguousError(
            "the variables can be c and m, or whole states",
            path=ckpt.prefix,
            advice="say `layout=...`",
        )
    return alone if all(fits[1:]) and not fits[0] else [pair]


def _alone(ckpt: LSTMCheckpoint, variable: str) -> Group:
    from lstmstate.model.saved_states import Group, cells_of

    return Group(variable, None, (variable,), cells_of(ckpt))


def _pair(ckpt: LSTMCheckpoint, variables: Sequence[str], owners: Sequence[str | None]) -> Group:
    """Return the state whose c and m lie in these variables, in this order."""
    from lstmstate.model.saved_states import Group, cells_called, cells_of

    named = cells_called(ckpt, owners[::2])
    scopes = {name.rpartition("/")[0] for name in variables}
    base = f"{scopes.pop()}/state".lstrip("/") if len(scopes) == 1 else "state"
    return Group(base, "tuple", tuple(variables), (named,) if named else cells_of(ckpt))


def _fits(ckpt: LSTMCheckpoint, group: Group, wanted: Wanted) -> bool:
    """Whether some variables can be a state of these cells, by their shapes."""
    from lstmstate.state.infer_layout import read_state

    try:
        read_state(*_arrays(ckpt, group, wanted))
    except AmbiguousError:
        return True
    except LstmstateError:
        return False
    return True
