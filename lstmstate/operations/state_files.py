"""`load_state` and `save_state`: the conversions of `convert` for Python."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence

from lstmstate.cells.cell import StateWidths
from lstmstate.errors import LstmstateError
from lstmstate.files.atomic import Outputs
from lstmstate.model.checkpoint import open_checkpoint
from lstmstate.model.saved_states import Source, wanted_by
from lstmstate.operations.convert import How, write_state
from lstmstate.operations.load import open_source
from lstmstate.state.candidates import Cells, Wanted
from lstmstate.state.formats.chunked import Held, StateFile
from lstmstate.state.formats.registry import kind_to_write
from lstmstate.state.infer_layout import Reading
from lstmstate.state.layouts import LAYOUTS, to_arrays
from lstmstate.state.state import CellShape, StackState, State, Structure


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
        layout: its layout, if the file does not show it: "tuple", "flat", "stacked",
            "layered", "keras" or "torch".
        cells: the widths (c, m) of each cell, if the file does not record them.
        checkpoint: a checkpoint with these cells, if neither the file nor `cells` has the widths.
        variable: which state of a checkpoint that has several: a variable, or those of c and m.
        header: whether the first row of a .csv names its columns, where it may be data.

    Returns:
        An `LSTMState` with c `[..., num_units]` and m `[..., num_proj or num_units]`, or the
        `StackState` of several cells.

    Raises:
        LstmstateError: there is no state, or more than one way to read it.

    Warns:
        UserWarning: it is read by its shape alone, such as a flat state cut in half.

    Example:
        >>> import lstmstate
        >>> state = lstmstate.load_state("sample_checkpoints/peephole_flat")
        >>> state.c.shape, state.m.shape, state.flat().shape
        ((4, 8), (4, 5), (4, 13))
    """
    if layout is not None:
        _refuse_other(layout)
    wanted = Wanted(layout)
    if cells is not None:
        widths = [StateWidths(*pair) for pair in cells]
        wanted = wanted._replace(cells=(Cells.of_widths(widths),))
    elif checkpoint is not None:
        wanted = wanted_by(open_checkpoint(checkpoint), layout)
    variables = (variable,) if isinstance(variable, str) else variable or ()
    (source, *_) = open_source(os.fspath(path), wanted, variables=variables, header=header)
    state = source.reading.whole()
    for note in source.ckpt.notes if source.ckpt else ():
        warnings.warn(note, stacklevel=2)
    for note in source.reading.notes:
        warnings.warn(f"{source.reading.file.path}: {note}", stacklevel=2)
    return state


def save_state(
    state: State, path: str | os.PathLike[str], *, layout: str = "tuple", force: bool = False
) -> None:
    """Write a state into a file, whole or not at all.

    Args:
        path: its ending sets the kind: .npz, .h5, .csv, .ckpt, and .npy for layouts of one
            array.
        layout: as for `load_state`, which does not need it to read the file again.
        force: whether a file that exists may be replaced.

    Raises:
        LstmstateError: the file or the layout cannot hold it, or it exists.

    Example:
        >>> import os, tempfile, numpy, lstmstate
        >>> state = lstmstate.LSTMState(c=numpy.zeros((4, 8)), m=numpy.ones((4, 5)))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = os.path.join(folder, "flat.npy")
        ...     lstmstate.save_state(state, file, layout="flat")
        ...     numpy.load(file).shape, lstmstate.load_state(file).widths
        ((4, 13), StateWidths(c=8, m=5))
    """
    _refuse_other(layout)
    target = os.fspath(path)
    kind = kind_to_write(target, None)
    with Outputs(force=force) as outputs:
        write_state(as_source(state), How(LAYOUTS[layout]), outputs, target, kind)


def _refuse_other(layout: str) -> None:
    if layout not in LAYOUTS:
        raise LstmstateError(f"there is no layout {layout!r}", advice=f"pass {', '.join(LAYOUTS)}")


def as_source(state: State) -> Source:
    """Return a state in memory as a source of parts."""
    is_stack = isinstance(state, StackState)
    shapes = tuple(CellShape(cell.cell, cell.widths) for cell in state.cells)
    structure = Structure(shapes, is_stack, state.lead, state.dtype)
    layout = LAYOUTS["tuple"]
    arrays = tuple(Held(name, array) for name, array in to_arrays(layout, state).items())
    return Source(Reading(StateFile("", arrays), layout, structure, arrays))
