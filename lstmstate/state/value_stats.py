"""What is seen of a state as it goes by: its ranges, NaN, swapped halves, bits that are lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lstmstate.errors import LstmstateError, printable
from lstmstate.records import NamedTuple
from lstmstate.state.state import LSTMState, StackState, State

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lstmstate.state.infer_layout import Reading

    Array = NDArray[np.generic]


class Range(NamedTuple):
    """The finite values of an array lie in [low, high]; None where there are none."""

    low: float | None = None
    high: float | None = None
    nan: bool = False
    inf: bool = False

    def joined(self, other: Range) -> Range:
        """Return the range of both."""
        lows = [x for x in (self.low, other.low) if x is not None]
        highs = [x for x in (self.high, other.high) if x is not None]
        low, high = min(lows, default=None), max(highs, default=None)
        return Range(low, high, self.nan or other.nan, self.inf or other.inf)

    @property
    def words(self) -> list[str]:
        """What it holds that is no number."""
        return [word for word, there in (("NaN", self.nan), ("Inf", self.inf)) if there]

    @property
    def within_one(self) -> bool:
        """Whether all finite values lie in [-1, 1]."""
        return self.low is None or self.high is None or (self.low >= -1 and self.high <= 1)


def range_of(array: Array) -> Range:
    """Return the range of an array, of its magnitudes where it is complex.

    >>> import numpy as np
    >>> range_of(np.array([0.5, np.nan, -2.0]))
    Range(low=-2.0, high=0.5, nan=True, inf=False)
    """
    import numpy as np

    if not array.size:
        return Range()
    real = np.abs(array) if array.dtype.kind == "c" else array
    ends = float(real.min()), float(real.max())
    if np.isfinite(ends).all():  # a NaN would have spread to both
        return Range(*ends)
    finite = real[np.isfinite(real)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (None, None)
    return Range(low, high, bool(np.isnan(real).any()), bool(np.isinf(real).any()))


class Watch:
    """Gives the parts of a state on, and keeps what is worth telling of them.

    Args:
        reading: the state.
        dtype: the dtype to give it, None for its own.

    Raises:
        LstmstateError: the new dtype cannot hold complex values.

    Attributes:
        ranges: the ranges of c and m of each cell, of all that has gone by.
        changed: how many values the new dtype does not hold exactly.
    """

    def __init__(self, reading: Reading, dtype: np.dtype[np.generic] | None = None) -> None:
        if dtype is not None and reading.structure.dtype.kind == "c" and dtype.kind != "c":
            raise LstmstateError(
                f"it is {reading.structure.dtype}, and {dtype} would keep the real part alone",
                path=reading.file.path,
                advice="leave `dtype=...` out",
            )
        self.reading = reading
        self.structure = reading.structure
        self._dtype = dtype if dtype is not None and dtype != self.structure.dtype else None
        if self._dtype is not None:
            self.structure = self.structure._replace(dtype=self._dtype)
        self.ranges = [(Range(), Range()) for _ in self.structure.cells]
        self.changed = 0
        self._seen = 0

    def parts(self, axis: int, start: int, stop: int) -> State:
        """Return some rows; those that were not seen before are looked at."""
        state = self.reading.parts(axis, start, stop)
        new = stop > self._seen
        self._seen = max(self._seen, stop)
        cells = [self._looked_at(number, cell, new=new) for number, cell in enumerate(state.cells)]
        return StackState(cells) if self.structure.is_stack else cells[0]

    def _looked_at(self, number: int, cell: LSTMState, *, new: bool) -> LSTMState:
        if new:
            c, m = self.ranges[number]
            self.ranges[number] = c.joined(range_of(cell.c)), m.joined(range_of(cell.m))
        if self._dtype is None:
            return cell
        halves = [self._cast(half, count=new) for half in cell]
        return LSTMState(halves[0], halves[1], cell.cell)

    def _cast(self, half: Array, *, count: bool) -> Array:
        import numpy as np

        with np.errstate(all="ignore"):
            cast: Array = half.astype(self._dtype)
            if count:
                back = cast.astype(half.dtype)
                same = (back == half) | (np.isnan(back) & np.isnan(half))
                self.changed += same.size - int(np.count_nonzero(same))
        return cast

    def swapped(self) -> list[str]:
        """Return a line for each cell whose halves look swapped.

        Without a projection m is sigmoid(o) * tanh(c), which never leaves [-1, 1].
        """
        return [
            f"{_called(cell.name)}c and m look swapped: m reaches from {m.low:.4g} to "
            f"{m.high:.4g}, and without a projection it stays within -1 and 1; c does"
            for cell, (c, m) in zip(self.structure.cells, self.ranges, strict=True)
            if cell.widths.c == cell.widths.m and c.within_one and not m.within_one
        ]

    def notes(self) -> list[str]:
        """Return what else a user should know of the values."""
        lines = [
            f"{_called(cell.name)}{half} holds {' and '.join(words)}"
            for cell, ranges in zip(self.structure.cells, self.ranges, strict=True)
            for half, found in zip("cm", ranges, strict=True)
            if (
                words := [word for word, there in (("NaN", found.nan), ("Inf", found.inf)) if there]
            )
        ]
        if self.changed:
            lines.append(f"{self.changed:,} values are not the same in {self._dtype}")
        return lines


def _called(name: str) -> str:
    return f"{printable(name)}: " if name else ""
