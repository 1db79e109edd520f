"""c and m as arrays: the state of one cell, and of a stack of cells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from lstmstate.cells.cell import StateWidths
from lstmstate.errors import LstmstateError
from lstmstate.records import NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.generic]


class LSTMState:
    """The state of one cell: c, its memory, and m, its last output.

    Args:
        c: the cell state, `[..., num_units]`.
        m: the output that is fed back, `[..., num_proj or num_units]`; leading axes (batch,
            time × batch, none) and dtype as those of c.
        cell: the name of the cell, "" if it has none.

    Raises:
        LstmstateError: the two are not halves of one state.

    Example:
        >>> import numpy as np
        >>> state = LSTMState(np.zeros((4, 8)), np.ones((4, 5)))
        >>> state.widths, state.flat().shape
        (StateWidths(c=8, m=5), (4, 13))
        >>> c, m = state
    """

    __slots__ = ("c", "cell", "m")

    def __init__(self, c: Array, m: Array, cell: str = "") -> None:
        if not c.ndim or not m.ndim or c.shape[:-1] != m.shape[:-1]:
            raise LstmstateError(
                f"c has the shape {list(c.shape)} and m {list(m.shape)}: all axes but the last "
                "must be the same",
                tensor=cell or None,
            )
        if c.dtype != m.dtype:
            raise LstmstateError(
                f"c is {c.dtype} and m is {m.dtype}; they must be the same", tensor=cell or None
            )
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
        """This state alone, as those of a stack are listed."""
        return (self,)

    @property
    def widths(self) -> StateWidths:
        """The widths of c and of m."""
        return StateWidths(self.c.shape[-1], self.m.shape[-1])

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """The element type of both."""
        return self.c.dtype

    @property
    def lead(self) -> tuple[int, ...]:
        """The axes before the width: (), (batch,), (time, batch), …"""
        return self.c.shape[:-1]

    def flat(self) -> Array:
        """Return `[..., c | m]`, what `state_is_tuple=False` takes and gives."""
        import numpy as np

        return np.concatenate([self.c, self.m], axis=-1)

    @classmethod
    def from_flat(
        cls, flat: Array, num_units: int, num_proj: int | None = None, cell: str = ""
    ) -> LSTMState:
        """Return the state whose flat form is given; c and m are views of it.

        Raises:
            LstmstateError: its last axis is not `num_units + (num_proj or num_units)` wide.
        """
        widths = StateWidths(num_units, num_proj or num_units)
        if not flat.ndim or flat.shape[-1] != widths.flat:
            raise LstmstateError(
                f"a flat state of the shape {list(flat.shape)} is not {widths.flat} wide: "
                f"c {widths.c} and m {widths.m}"
            )
        return cls(flat[..., : widths.c], flat[..., widths.c :], cell)


class StackState:
    """The states of the cells of a stack, in the order of the layers.

    Example:
        >>> import numpy as np
        >>> one = LSTMState(np.zeros((2, 3)), np.zeros((2, 3)))
        >>> StackState([one, one]).flat().shape
        (2, 12)
    """

    __slots__ = ("cells",)

    def __init__(self, cells: Sequence[LSTMState]) -> None:
        self.cells = tuple(cells)
        if not self.cells:
            raise LstmstateError("a stack has at least one cell")
        for cell in self.cells:
            if (cell.lead, cell.dtype) != (self.lead, self.dtype):
                raise LstmstateError(
                    f"the states of a stack must have the same leading axes and dtype: "
                    f"{list(self.lead)} {self.dtype} and {list(cell.lead)} {cell.dtype}",
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
        return f"<StackState {widths} {list(self.lead)} {self.dtype}>"

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """The element type of all."""
        return self.cells[0].dtype

    @property
    def lead(self) -> tuple[int, ...]:
        """The axes before the widths: (), (batch,), (time, batch), …"""
        return self.cells[0].lead

    def flat(self) -> Array:
        """Return `[..., c0 | m0 | c1 | m1 …]`: cell after cell, not all c and then all m."""
        import numpy as np

        return np.concatenate([half for cell in self.cells for half in cell], axis=-1)


State = LSTMState | StackState


class CellShape(NamedTuple):
    """The name of a cell and how wide its state is."""

    name: str
    widths: StateWidths

    def __str__(self) -> str:
        """As the command line takes it: 128, or 128:64 with a projection."""
        c, m = self.widths
        return str(c) if c == m else f"{c}:{m}"


class Structure(NamedTuple):
    """The structure of a state in any layout.

    Attributes:
        is_stack: whether it belongs to a stack, which may have one cell only.
        lead: the axes before the widths.
    """

    cells: tuple[CellShape, ...]
    is_stack: bool
    lead: tuple[int, ...]
    dtype: np.dtype[np.generic]

    @property
    def widths(self) -> list[StateWidths]:
        """The widths of all cells."""
        return [cell.widths for cell in self.cells]

    def state(self, pairs: Sequence[tuple[Array, Array]]) -> State:
        """Return the state that some (c, m) make, with the names of the cells."""
        cells = [LSTMState(c, m, cell.name) for (c, m), cell in zip(pairs, self.cells, strict=True)]
        return StackState(cells) if self.is_stack else cells[0]
