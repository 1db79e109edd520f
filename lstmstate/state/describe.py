"""Contents of a state file for `inspect`: arrays, candidate layouts, and ranges."""

from __future__ import annotations

from collections.abc import Sequence

from lstmstate import limits
from lstmstate.cells.state_names import role_of
from lstmstate.errors import LstmstateError
from lstmstate.named_tuple import NamedTuple
from lstmstate.state.candidates import Wanted
from lstmstate.state.formats.stored_array import StateFile
from lstmstate.state.infer_layout import StoredState, read_state
from lstmstate.state.other_contents import names_in
from lstmstate.state.state_stream import StateStream


class Contents(NamedTuple):
    """The contents of a state file.

    Attributes:
        readings: for each of its arrays the layouts that it could be, likeliest first.
        state: the state that they make, None if it is unknown.
        layout_source: of the layout: metadata in the "file", the cells of its "checkpoint", the
            "names" of its arrays, or the "shape" alone.
        problem: why there is no state.
        stream: the ranges of c and m; None if the values were not read.
    """

    file: StateFile
    readings: Sequence[Sequence[str]]
    state: StoredState | None = None
    layout_source: str | None = None
    problem: str | None = None
    stream: StateStream | None = None


def contents(
    file: StateFile,
    wanted: Wanted = Wanted(),  # noqa: B008 - a constant
    *,
    values: bool = False,
) -> Contents:
    """Return the contents of a state file; values are read if they are few, or requested.

    Args:
        wanted: the cells of the checkpoint that the arrays belong to.
    """
    others = names_in(file)
    readings = [() if a.name in others else readings_of(a.name, a.shape) for a in file.arrays]
    if file.foreign is not None:
        return Contents(file, readings, problem=str(file.foreign.error()))
    try:
        state = read_state(file, wanted)
    except LstmstateError as error:
        advice = f"; {error.advice}" if error.advice else ""
        return Contents(file, readings, problem=f"{error.problem}{advice}")
    named = any(role_of(array.name) for array in state.arrays)
    by_names = "names" if named and not state.is_halved else "shape"
    layout_source = "file" if file.metadata else "checkpoint" if wanted.cells else by_names
    stream = None
    if values or sum(array.nbytes for array in file.arrays) <= limits.LOOKED_AT_BYTES:
        stream = StateStream(state)
        stream.read_all()
    return Contents(file, readings, state, layout_source, None, stream)


def readings_of(name: str, shape: tuple[int, ...]) -> tuple[str, ...]:
    """Return the layouts that an array of this name and shape could be.

    >>> readings_of("", (8, 256))
    ('flat (c 128 | m 128, without a projection)', 'c or m')
    >>> readings_of("", (2, 2, 8, 128))
    ('layered [L, 2, batch, units]', 'c or m')
    """
    role = role_of(name)
    if role is not None and role[1] in _READINGS:
        return (_READINGS[role[1]],)
    if len(shape) < 2 or shape[-1] < 2:
        return ("c or m",) if shape else ()
    found = []
    if len(shape) == 4 and shape[1] == 2:
        found.append("layered [L, 2, batch, units]")
    if len(shape) == 3 and shape[0] == 2:
        # What Keras and PyTorch write has the same shape the other way round.
        found.append("layered [2, batch, units], c first")
        found.append("[h, c] of Keras or PyTorch, h first")
    if len(shape) >= 3 and shape[-2] == 2:
        found.append("stacked [batch, 2, units]")
    half = shape[-1] // 2
    even = f"flat (c {half} | m {half}, without a projection)"
    found += [] if found else [even if shape[-1] % 2 == 0 else "flat (with a projection)"]
    return (*found, "c or m")


_READINGS = {"c": "c", "m": "m", "h_n": "torch h_n (m)", "c_n": "torch c_n (c)"}
