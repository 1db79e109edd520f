"""States from files and into files, from Python: three lines for what `convert` does."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from lstmstate.errors import ArgumentError, count, name_nearest, warn
from lstmstate.files.atomic import Outputs
from lstmstate.model.saved_states import wanted_from
from lstmstate.operations.convert import DTYPES, write_state, write_states
from lstmstate.operations.load import Opened, open_path, states_in
from lstmstate.operations.split import read_halves, write_halves
from lstmstate.state.candidates import Wanted
from lstmstate.state.formats.chunked import Held, StateFile
from lstmstate.state.formats.input_path import InputFiles, InputPath
from lstmstate.state.formats.registry import kind_to_write
from lstmstate.state.infer_layout import StoredState
from lstmstate.state.layouts import LAYOUTS, Structure, to_arrays
from lstmstate.state.state import CellShape, StackState, State, require_state
from lstmstate.state.stream import Stream

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
) -> State:
    """Return the state in a file, or in a variable of a checkpoint.

    Args:
        path: a state in .npy, .npz, .h5, .pkl or .csv (`FILE:NAME` for an array inside), or a
            checkpoint.
        layout: "tuple", "flat", "stacked", "layered", "keras" or "torch", if it is not recorded.
        cells: the widths (c, m) of each cell, if the file does not record them.
        checkpoint: a checkpoint with such cells, in place of their widths.
        variable: a state in a checkpoint with several: a variable, or those of c and m.
        header: whether the first row of a .csv has the names of its columns.

    Returns:
        An `LSTMState`, or the `StackState` of several cells.

    Warns:
        UserWarning: it is read by its shape alone, such as a flat state cut in half.

    Example:
        >>> import lstmstate
        >>> lstmstate.load_state("sample_checkpoints/peephole_flat")
        <LSTMState 'rnn/lstm_cell' c [4, 8] m [4, 5] float32>
    """
    wanted = wanted_from(layout, cells, checkpoint)
    opened, (found, *_) = _open(path, wanted, variable, header)
    state = found.whole()
    warn([*opened.notes, *(f"{found.file.path}: {line}" for line in found.notes)])
    return state


def _open(
    path: str | os.PathLike[str],
    wanted: Wanted,
    variable: str | Sequence[str] | None,
    header: bool | None,
    *,
    checksums: bool = True,
    every: bool = False,
) -> tuple[Opened, list[StoredState]]:
    """Open the states in a path; see `load_state` and `states_in`."""
    names = (variable,) if isinstance(variable, str) else variable or ()
    opened = open_path(os.fspath(path), checksums=checksums, header=header)
    return opened, states_in(opened, wanted, names, every=every)


def _warn(opened: Opened, streams: Iterable[Stream]) -> None:
    """Warn the caller of a public function of the choices in reading and writing states."""
    lines = (f"{one.state.file.path}: {line}" for one in streams for line in one.notes)
    warn([*opened.notes, *lines])


@name_nearest
def save_state(
    state: State, path: str | os.PathLike[str], *, layout: str = "tuple", force: bool = False
) -> None:
    """Write a state into a file, whole or not at all.

    Args:
        path: the file to write: .npz, .h5, .csv, .ckpt, or .npy for layouts of one array.
        layout: as for `load_state`; the file records it.
        force: whether to replace a file that exists.
    """
    wanted_from(layout)
    require_state(state)
    target = os.fspath(path)
    stream = Stream(in_memory(state), LAYOUTS[layout])
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
    compress: bool = False,
    force: bool = False,
    header: bool | None = None,
    checksums: bool = True,
) -> None:
    """Convert a saved state between layouts and kinds of files, part by part, exact to the bit.

    Args:
        source: as `path` of `load_state`; `cells`, …, `header` are parameters of it, too.
        target: the file to write: .npz, .h5, .npy, .csv or .ckpt; a checkpoint from a checkpoint
            has all its other tensors, too.
        layout: the layout of the target.
        from_layout: the layout of the source, if it is not recorded.
        dtype: the dtype of the target, that of the source by default.
        compress: whether to compress an .npz or .h5.
        force: whether to replace a file that exists.
        checksums: whether to verify checksums.
    """
    import numpy as np

    wanted_from(layout)
    if dtype is not None and _name_of(dtype) not in DTYPES:
        raise ArgumentError(f"dtype cannot be {dtype!r:.40}", advice=f"pass {' or '.join(DTYPES)}")
    wanted = wanted_from(from_layout, cells, checkpoint, checksums=checksums)
    path, name = os.fspath(source), os.fspath(target)
    kind = kind_to_write(name)
    every = kind.key == "ckpt"
    opened, states = _open(path, wanted, variable, header, checksums=checksums, every=every)
    target_dtype = None if dtype is None else np.dtype(dtype)
    with Outputs(_files([path], checkpoint), force=force) as outputs:
        streams = [Stream(state, LAYOUTS[layout], target_dtype) for state in states]
        write_states(streams, outputs, name, kind, compress=compress, ckpt=opened.ckpt)
    _warn(opened, streams)


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
    wanted = wanted_from(from_layout, cells, checkpoint, checksums=checksums)
    opened, (found, *_) = _open(path, wanted, variable, header, checksums=checksums)
    with Outputs(_files([path], checkpoint), force=force) as outputs:
        stream = write_halves(found, outputs, names)
    _warn(opened, [stream])


@name_nearest
def concat(
    halves: Sequence[str | os.PathLike[str]],
    target: str | os.PathLike[str],
    *,
    cells: Sequence[tuple[int, int]] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    compress: bool = False,
    force: bool = False,
    header: bool | None = None,
    checksums: bool = True,
) -> None:
    """Join c, m, c, m, … of one cell or more into one flat state, `[..., c0 | m0 | c1 | m1 …]`.

    The other parameters are those of `convert`.
    """
    paths = [InputPath(half) for half in _listed("halves", halves)]
    if not paths or len(paths) % 2:
        raise ArgumentError(f"expected pairs of files, c and m, got {count(len(paths), 'file')}")
    wanted = wanted_from(None, cells, checkpoint, checksums=checksums)
    state = read_halves(paths, wanted, checksums=checksums, header=header)
    stream, name = Stream(state, LAYOUTS["flat"]), os.fspath(target)
    with Outputs(_files(paths, checkpoint), force=force) as outputs:
        write_state(stream, outputs, name, kind_to_write(name, None, "npy"), compress=compress)
    warn(stream.notes)


def _name_of(dtype: DTypeLike) -> str | None:
    import numpy as np

    with suppress(TypeError):
        return np.dtype(dtype).name
    return None


def _listed(name: str, paths: Sequence[str | os.PathLike[str]]) -> list[str]:
    if isinstance(paths, str | os.PathLike):  # a string is a sequence, too, of its characters
        raise ArgumentError(f"{name} cannot be {paths!r:.40}", advice="pass a list of paths")
    return [os.fspath(path) for path in paths]


def _files(
    paths: Sequence[str | InputPath], checkpoint: str | os.PathLike[str] | None
) -> InputFiles:
    """Return the files that are read, which no output may replace."""
    return InputFiles([*paths, *([os.fspath(checkpoint)] if checkpoint is not None else [])])


def in_memory(state: State) -> StoredState:
    """Return a state in memory as one that is read in parts."""
    is_stack = isinstance(state, StackState)
    shapes = tuple(CellShape(cell.cell, cell.widths) for cell in state.cells)
    structure = Structure(shapes, is_stack, state.batch_shape, state.dtype)
    layout = LAYOUTS["tuple"]
    arrays = tuple(Held(name, array) for name, array in to_arrays(layout, state).items())
    return StoredState(StateFile("", arrays), layout, structure, arrays)
