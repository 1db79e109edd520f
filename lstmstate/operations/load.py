"""States from files, and from the variables of checkpoints."""

from __future__ import annotations

from collections.abc import Sequence

from lstmstate.checkpoint.locate import NotACheckpointError
from lstmstate.errors import (
    AmbiguousError,
    ArgumentError,
    LstmstateError,
    UnsupportedError,
    first_of,
    located,
)
from lstmstate.files import STDIN
from lstmstate.model.checkpoint import LSTMCheckpoint
from lstmstate.named_tuple import NamedTuple
from lstmstate.state.formats.input_path import InputPath
from lstmstate.type_names import TYPE_CHECKING

if TYPE_CHECKING:
    from lstmstate.state.candidates import Wanted
    from lstmstate.state.formats.stored_array import StateFile
    from lstmstate.state.infer_layout import StoredState
    from lstmstate.state.state import Array

Slices = tuple[int | slice, ...]  # a part of an array, along its first axes


class Opened(NamedTuple):
    """An open path: the arrays of a state file, or a checkpoint, which a `with` block closes.

    Attributes:
        file: None for a checkpoint with more in it than a state.
        place: the name after a colon in the path: of arrays of the file, or of a variable.
        is_model: whether the path names such a checkpoint as a whole.
    """

    path: str
    file: StateFile | None
    ckpt: LSTMCheckpoint | None = None
    place: str | None = None
    is_model: bool = False

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        if self.ckpt is not None:
            self.ckpt.close()

    @property
    def notes(self) -> Sequence[str]:
        """The choices that were made in opening a checkpoint."""
        return self.ckpt.notes if self.ckpt is not None else ()

    @property
    def nbytes(self) -> int:
        """The bytes of all variables of its checkpoint."""
        variables = self.ckpt.variables.values() if self.ckpt is not None else ()
        return sum(variable.nbytes or 0 for variable in variables)


def open_path(
    path: str | InputPath, *, checksums: bool = True, header: bool | None = None
) -> Opened:
    """Open a state file or a checkpoint; `FILE:NAME` picks an array, a group or a variable.

    Args:
        header: whether the first row of a table names its columns, None if unknown.
    """
    path = InputPath.of(path)
    if path.path == STDIN or path.kind is not None:
        return Opened(path.text, path.state_file(header=header), place=path.place)
    try:
        ckpt = LSTMCheckpoint(path.location, checksums=checksums)
    except NotACheckpointError as error:
        raise UnsupportedError(
            f"expected a state or a TensorFlow checkpoint, got {error.kind.words}",
            path=path.path,
            advice=error.advice,
        ) from None
    texts = {name for name, variable in ckpt.variables.items() if variable.dtype == "string"}
    if path.place is None and texts:
        from lstmstate.state.metadata import KEY

        if KEY in texts and not ckpt.cells:  # nothing but a state, such as convert writes
            from lstmstate.state.formats.checkpoint_arrays import tensors

            return Opened(path.text, tensors(ckpt.prefix, ckpt.variables.values()), ckpt)
    return Opened(path.text, None, ckpt, path.place, path.place is None)


def states_in(
    opened: Opened,
    wanted: Wanted,
    variables: Sequence[str] | None = None,
    *,
    every: bool = False,
    layout: str = "layout",
) -> list[StoredState]:
    """Return the state in a file, or the requested ones of a checkpoint.

    Args:
        variables, every: see `saved_states.states_of`.
        layout: the parameter of the caller for the layout of the source, for messages.
    """
    try:
        return _states_in(opened, wanted, variables, every=every)
    except LstmstateError as error:
        error.problem = error.problem.replace("`layout=", f"`{layout}=")
        error.advice = error.advice and error.advice.replace("`layout=", f"`{layout}=")
        raise


def _states_in(
    opened: Opened, wanted: Wanted, variables: Sequence[str] | None, *, every: bool
) -> list[StoredState]:
    if opened.file is None:
        from lstmstate.model.saved_states import states_of

        assert opened.ckpt is not None
        return states_of(opened.ckpt, wanted, opened.place, variables, every=every)
    if variables:
        raise ArgumentError(
            "`variable=...` is for checkpoints",
            path=opened.path,
            advice="pick an array: FILE:NAME",
        )
    from lstmstate.state.infer_layout import read_state

    return [read_state(opened.file, wanted)]


def arrays_of(opened: Opened) -> tuple[StateFile, Wanted]:
    """Return the arrays of an open path, and the cells that they may belong to."""
    from lstmstate.state.candidates import Wanted

    if opened.file is not None:
        return opened.file, Wanted()
    assert opened.ckpt is not None
    assert opened.place is not None, "a checkpoint as a whole is not an array"
    from lstmstate.model.saved_states import arrays_called

    return arrays_called(opened.ckpt, opened.place)


def only_array(opened: Opened) -> StateFile:
    """Return a file with the one array that a path names."""
    file = opened.file
    if file is None:
        from lstmstate.model.saved_states import variables_as_arrays

        assert opened.ckpt is not None
        file = variables_as_arrays(opened.ckpt, opened.place)
        file = file._replace(notes=(*opened.ckpt.notes, *file.notes))
    if file.foreign is not None:
        with located(opened.path):
            raise file.foreign.error()
    refuse_several(file)
    return file


def refuse_several(file: StateFile) -> None:
    """Raise an AmbiguousError if a file has more than one array, or none."""
    if len(file.arrays) != 1:
        names = first_of([array.name for array in file.arrays], 6)
        raise AmbiguousError(
            f"expected one array, got {len(file.arrays)}",
            path=file.path,
            advice=f"pick one, FILE:NAME: {names}",
        )


def values_of(opened: Opened, slices: Slices) -> Array:
    """Return a part of the only array that a path names, of a pair in a checkpoint that one."""
    file = opened.file
    if file is None:
        from lstmstate.model.saved_states import variables_as_arrays

        assert opened.ckpt is not None
        file = variables_as_arrays(opened.ckpt, opened.place)
    refuse_several(file)
    array = file.arrays[0]
    try:
        found: Array = array.whole()[slices]
    except IndexError:
        problem = f"this part is not in an array {list(array.shape)}"
        raise ArgumentError(problem, path=file.path, tensor=array.name) from None
    return found
