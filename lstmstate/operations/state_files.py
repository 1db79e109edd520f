"""States from files and into files, from Python: three lines for what `convert` does."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from lstmstate.arguments import name_nearest
from lstmstate.cells.cell import CellShape
from lstmstate.checkpoint.dtypes import NUMPY_FLOATS
from lstmstate.errors import ArgumentError, warn
from lstmstate.files.atomic import Outputs
from lstmstate.model.saved_states import open_wanted, refuse_layout
from lstmstate.operations.convert import (
    Conversion,
    ConvertRequest,
    convert_opened,
    write_state,
)
from lstmstate.operations.load import Opened, open_path, states_in
from lstmstate.operations.split import concat_opened, split_opened
from lstmstate.state.formats.registry import kind_to_write
from lstmstate.state.formats.stored_array import ArrayInMemory, StateFile
from lstmstate.state.infer_layout import StoredState
from lstmstate.state.layouts import LAYOUTS, Structure, to_arrays
from lstmstate.state.state import StackState, State, StateLike, to_state
from lstmstate.state.state_stream import StateStream

if TYPE_CHECKING:
    from numpy.typing import DTypeLike


@name_nearest
def load_state(
    path: str | os.PathLike[str],
    *,
    layout: str | None = None,
    cells: Sequence[tuple[int, int]] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    variable: str | Sequence[str] | None = None,
    header: bool | None = None,
    checksums: bool = True,
) -> State:
    """Return the state in a file, or in a variable of a checkpoint.

    Args:
        path: a state in .npy, .npz, .h5, .safetensors, .pt, .pkl or .csv (`FILE:NAME` for an array
            inside), or a checkpoint.
        layout: "tuple", "flat", …, a name in `layouts.LAYOUTS`, if it is not recorded.
        cells: the widths (c, m) of each cell, if the file does not record them.
        checkpoint: a checkpoint with such cells, in place of their widths.
        variable: a state in a checkpoint with several: a variable, or those of c and m.
        header: whether the first row of a .csv has the names of its columns.
        checksums: whether to verify the checksums of checkpoints.

    Returns:
        An `LSTMState`, or the `StackState` of several cells.

    Warns:
        UserWarning: it is read by its shape alone, such as a flat state cut in half.

    Example:
        >>> import lstmstate
        >>> lstmstate.load_state("sample_checkpoints/peephole_flat")
        <LSTMState 'rnn/lstm_cell' c [4, 8] m [4, 5] float32>
    """
    with (
        open_wanted(layout, cells, checkpoint, checksums=checksums) as wanted,
        open_path(os.fspath(path), checksums=checksums, header=header) as opened,
    ):
        found, *_ = states_in(opened, wanted, _names(variable))
        state = found.whole()
    warn([*opened.notes, *(f"{found.file.path}: {line}" for line in found.notes)])
    return state


def _names(variable: str | Sequence[str] | None) -> Sequence[str]:
    return (variable,) if isinstance(variable, str) else variable or ()


def _warn(opened: Opened, conversion: Conversion) -> None:
    """Warn the caller of a public function of the choices in reading and writing states."""
    streams = conversion.streams
    lines = (f"{one.state.file.path}: {line}" for one in streams for line in one.notes)
    warn([*opened.notes, *lines])


@name_nearest
def save_state(
    state: StateLike, path: str | os.PathLike[str], *, layout: str = "tuple", force: bool = False
) -> None:
    """Write a state into a file, whole or not at all.

    Args:
        state: one of a cell or a stack, as `LSTMNetwork.run` takes it.
        path: the file to write: as in `convert`, .npy only for layouts of one array.
        layout: as for `load_state`; the file records it.
        force: whether to replace a file that exists.
    """
    refuse_layout(layout)
    target = os.fspath(path)
    stream = StateStream(in_memory(to_state(state)), LAYOUTS[layout])
    with Outputs(force=force) as outputs:
        write_state(stream, outputs, target, kind_to_write(target))


@name_nearest
def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    layout: str,
    from_layout: str | None = None,
    cells: Sequence[tuple[int, int]] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    variable: str | Sequence[str] | None = None,
    dtype: DTypeLike | None = None,
    kind: str | None = None,
    compress: bool = False,
    force: bool = False,
    header: bool | None = None,
    checksums: bool = True,
) -> None:
    """Convert a saved state between layouts and kinds of files, part by part, exact to the bit.

    Args:
        source: as `path` of `load_state`; `cells`, …, `checksums` are parameters of it, too.
        target: the file to write: .npz, .h5, .npy, .safetensors, .pt, .csv or .ckpt; a checkpoint
            from a checkpoint has all its other tensors, too.
        layout: the layout of the target.
        from_layout: the layout of the source, if it is not recorded.
        dtype: the dtype of the target, that of the source by default.
        kind: an ending, such as "npz", if the name of the target does not show it.
        compress: whether to compress an .npz or .h5.
        force: whether to replace a file that exists.
    """
    refuse_layout(layout)
    dtype_name = None if dtype is None else _name_of(dtype)
    if dtype is not None and dtype_name not in NUMPY_FLOATS:
        raise ArgumentError(
            f"dtype cannot be {dtype!r:.40}", advice=f"pass {' or '.join(NUMPY_FLOATS)}"
        )
    request = ConvertRequest(
        layout,
        os.fspath(target),
        kind=kind,
        variables=_names(variable),
        dtype=dtype_name,
        compress=compress,
    )
    with (
        Outputs(force=force) as outputs,
        open_wanted(from_layout, cells, checkpoint, checksums=checksums) as wanted,
        open_path(os.fspath(source), checksums=checksums, header=header) as opened,
    ):
        conversion = convert_opened(opened, wanted, request)
        conversion.write(outputs)
    _warn(opened, conversion)


@name_nearest
def split(
    source: str | os.PathLike[str],
    targets: Sequence[str | os.PathLike[str]],
    *,
    from_layout: str | None = None,
    cells: Sequence[tuple[int, int]] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    variable: str | Sequence[str] | None = None,
    force: bool = False,
    header: bool | None = None,
    checksums: bool = True,
) -> None:
    """Write c and m of each cell into .npy files: `targets` is c, m, c, m, …

    The other parameters are those of `convert`.
    """
    names, path = _listed("targets", targets), os.fspath(source)
    with (
        Outputs(force=force) as outputs,
        open_wanted(from_layout, cells, checkpoint, checksums=checksums) as wanted,
        open_path(path, checksums=checksums, header=header) as opened,
    ):
        conversion = split_opened(opened, wanted, names, _names(variable))
        conversion.write(outputs)
    _warn(opened, conversion)


@name_nearest
def concat(
    halves: Sequence[str | os.PathLike[str]],
    target: str | os.PathLike[str],
    *,
    cells: Sequence[tuple[int, int]] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    kind: str | None = None,
    compress: bool = False,
    force: bool = False,
    header: bool | None = None,
    checksums: bool = True,
) -> None:
    """Join c, m, c, m, … of one cell or more into one flat state, `[..., c0 | m0 | c1 | m1 …]`.

    The other parameters are those of `convert`.
    """
    paths, name = _listed("halves", halves), os.fspath(target)
    with (
        Outputs(force=force) as outputs,
        ExitStack() as stack,
        open_wanted(None, cells, checkpoint, checksums=checksums) as wanted,
    ):
        files = (open_path(path, checksums=checksums, header=header) for path in paths)
        opened = [stack.enter_context(one) for one in files]
        conversion = concat_opened(opened, wanted, name, kind=kind, compress=compress)
        conversion.write(outputs)
    warn(note for stream in conversion.streams for note in stream.notes)


def _name_of(dtype: DTypeLike) -> str | None:
    import numpy as np

    with suppress(TypeError):
        return np.dtype(dtype).name
    return None


def _listed(name: str, paths: Sequence[str | os.PathLike[str]]) -> list[str]:
    if isinstance(paths, str | os.PathLike):  # a string is a sequence, too, of its characters
        raise ArgumentError(f"{name} cannot be {paths!r:.40}", advice="pass a list of paths")
    return [os.fspath(path) for path in paths]


def in_memory(state: State, path: str = "") -> StoredState:
    """Return a state in memory as one that is read in parts.

    Args:
        path: the file that it comes from.
    """
    is_stack = isinstance(state, StackState)
    shapes = tuple(CellShape(cell.cell, cell.widths) for cell in state.cells)
    structure = Structure(shapes, is_stack, state.batch_shape, state.dtype)
    layout = LAYOUTS["tuple"]
    arrays = tuple(ArrayInMemory(name, array) for name, array in to_arrays(layout, state).items())
    return StoredState(StateFile(path, arrays), layout, structure, arrays)
