"""The state of one cell, c and m, and that of a stack of cells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from lstmstate.arguments import POSITIVE, as_array, refuse_others
from lstmstate.cells.cell import StateWidths
from lstmstate.errors import ArgumentError, Brief

if TYPE_CHECKING:
    from typing import TypeGuard

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.generic]
    DType = np.dtype[np.generic]


class LSTMState(metaclass=Brief):
    """The state of one cell, `c, m = state`; `==` compares identity, `allclose` values.

    Args:
        c: the cell state, `[..., num_units]`: an array, or nested lists.
        m: the output that is fed back, `[..., num_proj or num_units]`, with the leading axes and
            the dtype of c. Numbers in lists are float64.
        cell: the name of the cell, "" if it has none.

    Attributes:
        batch_shape: the axes before the width: (), (batch,), (time, batch), …
        cells: this state alone, as a stack lists the states of its cells.
        dtype, widths: the element type of both, and their widths.

    Example:
        >>> import numpy as np
        >>> state = LSTMState(np.zeros((4, 8)), np.ones((4, 5)))
        >>> state.widths, state.batch_shape, state.flat().shape
        (StateWidths(c=8, m=5), (4,), (4, 13))
    """

    __slots__ = ("c", "cell", "m")

    def __init__(self, c: ArrayLike, m: ArrayLike, cell: str = "") -> None:
        c, m = _array(c, "c"), _array(m, "m")
        if not c.ndim or not m.ndim or c.shape[:-1] != m.shape[:-1]:
            raise ArgumentError(
                f"c has the shape {list(c.shape)} and m {list(m.shape)}: all axes but the last "
                "must be the same",
                tensor=cell or None,
            )
        if c.dtype != m.dtype:
            raise ArgumentError(
                f"c is {c.dtype} and m is {m.dtype}; they must be the same", tensor=cell or None
            )
        if c.dtype.kind in "OSUmM":
            raise ArgumentError(f"c and m are {c.dtype}, not numbers", tensor=cell or None)
        self.c = c
        self.m = m
        self.cell = cell

    def __iter__(self) -> Iterator[Array]:
        return iter((self.c, self.m))

    def __repr__(self) -> str:
        name = f"{self.cell!r} " if self.cell else ""
        return f"<LSTMState {name}c {list(self.c.shape)} m {list(self.m.shape)} {self.dtype}>"

    @property
    def cells(self) -> tuple[LSTMState, ...]:
        """This state alone, as a stack lists the states of its cells."""
        return (self,)

    @property
    def widths(self) -> StateWidths:
        """The widths of c and of m."""
        return StateWidths(self.c.shape[-1], self.m.shape[-1])

    @property
    def dtype(self) -> DType:
        """The element type of both."""
        return self.c.dtype

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """The axes before the width: (), (batch,), (time, batch), …"""
        return self.c.shape[:-1]

    def allclose(self, other: StateLike, rtol: float = 1e-5, atol: float = 1e-8) -> bool:
        """Return whether another state has the same widths and nearly the same values."""
        return _allclose(self, other, rtol, atol)

    def flat(self) -> Array:
        """Return `[..., c | m]`, the state for `state_is_tuple=False`."""
        import numpy as np

        return np.concatenate([self.c, self.m], axis=-1)

    @classmethod
    def from_flat(
        cls, flat: ArrayLike, num_units: int, num_proj: int | None = None, cell: str = ""
    ) -> LSTMState:
        """Return the state in an array `[..., num_units + (num_proj or num_units)]`, as views."""
        flat = _array(flat, "flat")
        widths = StateWidths(num_units, num_proj or num_units)
        given = {"num_units": widths.c, "num_proj": widths.m}
        refuse_others(given, dict.fromkeys(given, POSITIVE))
        if not flat.ndim or flat.shape[-1] != widths.flat:
            raise ArgumentError(
                f"a flat state of the shape {list(flat.shape)} is not {widths.flat} wide: "
                f"c {widths.c} and m {widths.m}"
            )
        return cls(flat[..., : widths.c], flat[..., widths.c :], cell)


class StackState(metaclass=Brief):
    """The states of the cells of a stack, in the order of the layers.

    It is a sequence of `LSTMState`; `==` compares identity, `allclose` values.

    Attributes:
        cells: the states.
        batch_shape, dtype: as for each of them.
    """

    __slots__ = ("cells",)

    def __init__(self, cells: Sequence[LSTMState]) -> None:
        self.cells = tuple(cells)
        if not self.cells:
            raise ArgumentError("a stack has at least one cell")
        for cell in self.cells:
            if not isinstance(cell, LSTMState):
                raise ArgumentError(f"expected an LSTMState, got a {type(cell).__name__}")
            if (cell.batch_shape, cell.dtype) != (self.batch_shape, self.dtype):
                raise ArgumentError(
                    f"the states of a stack must have the same leading axes and dtype: "
                    f"{list(self.batch_shape)} {self.dtype} and {list(cell.batch_shape)} "
                    f"{cell.dtype}",
                    tensor=cell.cell or None,
                )

    def __iter__(self) -> Iterator[LSTMState]:
        return iter(self.cells)

    def __len__(self) -> int:
        return len(self.cells)

    def __getitem__(self, number: int) -> LSTMState:
        return self.cells[number]

    def __repr__(self) -> str:
        widths = ", ".join(f"{cell.widths.c}:{cell.widths.m}" for cell in self.cells)
        return f"<StackState {widths} {list(self.batch_shape)} {self.dtype}>"

    @property
    def dtype(self) -> DType:
        """The element type of all."""
        return self.cells[0].dtype

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """The axes before the widths: (), (batch,), (time, batch), …"""
        return self.cells[0].batch_shape

    def allclose(self, other: StateLike, rtol: float = 1e-5, atol: float = 1e-8) -> bool:
        """Return whether another state has the same widths and nearly the same values."""
        return _allclose(self, other, rtol, atol)

    def flat(self) -> Array:
        """Return `[..., c0 | m0 | c1 | m1 …]`: cell after cell, not all c and then all m."""
        import numpy as np

        return np.concatenate([half for cell in self.cells for half in cell], axis=-1)


State = LSTMState | StackState
Pair = tuple["ArrayLike", "ArrayLike"]
StateLike = State | Pair | Sequence[LSTMState | Pair]


def to_state(state: StateLike) -> State:
    """Return a state; a tuple (c, m) is that of a cell, and a sequence of these that of a stack.

    Raises:
        ArgumentError: it is neither, or its parts do not fit together.

    Example:
        >>> to_state(([[1.0, 2.0]], [[3.0]])), to_state([([[1.0]], [[2.0]]), ([[3.0]], [[4.0]])])
        (<LSTMState c [1, 2] m [1, 1] float64>, <StackState 1:1, 1:1 [1] float64>)
    """
    if isinstance(state, State):
        return state
    if _is_pair(state):
        return LSTMState(*state)
    if isinstance(state, list | tuple):
        cells = [LSTMState(*one) if _is_pair(one) else one for one in state]
        if all(isinstance(one, LSTMState) for one in cells):
            return StackState(cells)
    raise ArgumentError(
        "expected an LSTMState or a tuple (c, m), or for a stack a StackState or a list of these, "
        f"got {type(state).__name__}"
    )


def _is_pair(state: object) -> TypeGuard[Pair]:
    if not isinstance(state, tuple) or len(state) != 2:
        return False
    return not any(isinstance(half, tuple | LSTMState) for half in state)


def _array(values: ArrayLike, name: str) -> Array:
    """Return an array; numbers in lists are floats, if written with a point or without."""
    import numpy as np

    found = as_array(values, name)
    is_whole = isinstance(values, list | tuple) and found.dtype.kind in "iu"
    return found.astype(np.float64) if is_whole else found


def _allclose(one: State, like: StateLike, rtol: float, atol: float) -> bool:
    import numpy as np

    other = to_state(like)
    if [cell.widths for cell in one.cells] != [cell.widths for cell in other.cells]:
        return False
    return one.batch_shape == other.batch_shape and all(
        np.allclose(*halves, rtol, atol, equal_nan=True)
        for cells in zip(one.cells, other.cells, strict=True)
        for halves in zip(*cells, strict=True)
    )
