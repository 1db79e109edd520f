"""Random states, to the bit, for the tests of layouts and files."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from lstmstate import LSTMState, StackState
from lstmstate.cells.cell import CellShape, StateWidths
from lstmstate.files.atomic import Outputs
from lstmstate.operations.convert import write_state
from lstmstate.operations.load import open_path, states_in
from lstmstate.state.candidates import Wanted
from lstmstate.state.formats.registry import kind_to_write
from lstmstate.state.infer_layout import StoredState
from lstmstate.state.layouts import LAYOUTS, Structure
from lstmstate.state.state import State
from lstmstate.state.state_stream import StateStream

Array = NDArray[Any]
Shape = tuple[int, ...]

DTYPES = (
    *("float16", "float32", "float64", "complex64", "complex128"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
)
LEADS: tuple[Shape, ...] = ((), (1,), (3,), (2, 3), (3, 2), (0,), (0, 2), (2, 0), (2, 1, 3))
NAMES = ("", "rnn/lstm_cell", "rnn/multi_rnn_cell/cell_{}/basic_lstm_cell", "déjà vu/{}", "{}")

# -0, infinity, and NaNs, quiet and signalling, with a payload: by the bytes of a float.
SPECIAL = {
    2: [0x8000, 0x7C00, 0x7E01, 0xFD55, 0x7C01],
    4: [1 << 31, 0x7F800000, 0x7FC00001, 0xFFABCDEF, 0x7F800001],
    8: [1 << 63, 0x7FF << 52, 0x7FF8000000000001, 0xFFF123456789ABCD, 0x7FF0000000000001],
}


def values(rng: np.random.Generator, shape: Shape, dtype: str, *, finite: bool = False) -> Array:
    """Return any bits at all, with those that are easily lost more often than by chance."""
    kind = np.dtype(dtype)
    found = np.frombuffer(rng.bytes(math.prod(shape) * kind.itemsize), kind).copy()
    if kind.kind in "fc":
        size = kind.itemsize // (2 if kind.kind == "c" else 1)
        floats = found.view(f"f{size}")
        bits = found.view(f"u{size}")
        chosen = rng.random(bits.size) < 0.4
        bits[chosen] = rng.choice(np.array(SPECIAL[size], f"u{size}"), np.count_nonzero(chosen))
        if finite:
            floats[~np.isfinite(floats)] = -0.0
    return found.reshape(shape)


def state_of(
    widths: Sequence[tuple[int, int]],
    lead: Shape = (2,),
    dtype: str = "float32",
    *,
    stack: bool = True,
    names: Callable[[int], str] = lambda number: "",
    seed: int = 0,
    finite: bool = False,
) -> State:
    """Return a random state of these widths (c, m)."""
    rng = np.random.default_rng(seed)
    cells = []
    for number, pair in enumerate(widths):
        c, m = (values(rng, (*lead, width), dtype, finite=finite) for width in pair)
        cells.append(LSTMState(c, m, names(number)))
    return StackState(cells) if stack else cells[0]


@st.composite
def states(
    draw: st.DrawFn,
    *,
    dtypes: Sequence[str] = DTYPES,
    leads: Sequence[Shape] = LEADS,
    finite: bool = False,
) -> State:
    """Draw the state of a cell, or of a stack of 1 to 4: equal or not, with projections or not."""
    count = draw(st.integers(0, 4))
    width = st.integers(1, 5)
    alike, projecting = draw(st.booleans()), draw(st.booleans())
    drawn = [(draw(width), draw(width)) for _ in range(1 if alike else max(count, 1))]
    widths = [(c, m if projecting else c) for c, m in drawn]
    name = draw(st.sampled_from(NAMES))
    return state_of(
        widths * max(count, 1) if alike else widths,
        draw(st.sampled_from(leads)),
        draw(st.sampled_from(dtypes)),
        stack=count > 0,
        names=name.format,
        seed=draw(st.integers(0, 1 << 32)),
        finite=finite,
    )


def cells_of(state: State) -> tuple[LSTMState, ...]:
    """Return the states of the cells, also for a single cell."""
    return state.cells if isinstance(state, StackState) else (state,)


def shapes_of(state: State) -> tuple[CellShape, ...]:
    """Return the names and widths of the cells."""
    return tuple(CellShape(cell.cell, cell.widths) for cell in cells_of(state))


def structure(state: State) -> Structure:
    """Return the structure of a state."""
    is_stack = isinstance(state, StackState)
    return Structure(shapes_of(state), is_stack, state.batch_shape, state.dtype)


def fits(layout: str, state: State) -> bool:
    """Whether the arrays of a layout are rectangular for these widths."""
    widths = {cell.widths for cell in cells_of(state)}
    halved = all(c == m for c, m in widths)
    alike = len(widths) == 1
    return {
        "stacked": halved,
        "tensorforce": halved,
        "layered": halved and alike,
        "hc": halved and alike,
        "thinc": halved and alike and not state.batch_shape,
        "torch": alike and all(m <= c for c, m in widths),
    }.get(layout, True)


def same(found: State, expected: State) -> None:
    """Check that two states are equal, cell by cell, to the bit."""
    assert type(found) is type(expected)
    assert [cell.cell for cell in cells_of(found)] == [cell.cell for cell in cells_of(expected)]
    same_values(found, expected)


def same_values(found: State, expected: State) -> None:
    """Check that two states have the same bits and shapes; names may differ."""
    assert type(found) is type(expected)
    for one, other in zip(cells_of(found), cells_of(expected), strict=True):
        for half, wanted in zip(one, other, strict=True):
            assert (half.shape, half.dtype) == (wanted.shape, wanted.dtype)
            assert half.tobytes() == wanted.tobytes()


def reading(source: Path | str, **wanted: Any) -> StoredState:
    """Return how the state in a file is read; `each` is the pair of --units and --proj."""
    if "each" in wanted:
        wanted["each"] = StateWidths(*wanted["each"])
    (found,) = states_in(open_path(str(source)), Wanted(**wanted))
    return found


def converted(source: Path | str, target: Path, layout: str, *, compress: bool = False) -> Path:
    """Convert a state as the command does, and return the path of the output."""
    stream = StateStream(reading(source), LAYOUTS[layout])
    with Outputs() as outputs:
        write_state(stream, outputs, str(target), kind_to_write(str(target)), compress=compress)
    return target


def npy(
    path: Path, header: Mapping[str, object] | str, body: bytes = b"", version: int = 1
) -> Path:
    """Write an npy file with any header: a dict, or the text itself."""
    fields = (
        {"descr": "<f4", "fortran_order": False} | dict(header)
        if header and not isinstance(header, str)
        else header
    )
    text = (fields if isinstance(fields, str) else repr(fields)).encode("latin-1")
    text += b" " * (-(11 + len(text)) % 64) + b"\n"
    size = len(text).to_bytes(2 if version == 1 else 4, "little")
    path.write_bytes(b"\x93NUMPY" + bytes([version, 0]) + size + text + body)
    return path
