"""Range, mean and deviation of values, accumulated over chunks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lstmstate.records import NamedTuple

if TYPE_CHECKING:
    from lstmstate.engines.network import Array, Lengths


class Figures(NamedTuple):
    """Statistics of the finite ones of some values; None if there are none.

    Attributes:
        not_finite: the number of NaN and Inf.
    """

    min: float | None = None
    max: float | None = None
    mean: float | None = None
    std: float | None = None
    not_finite: int = 0


class Tally:
    """Statistics of values that are added chunk by chunk.

    >>> import numpy as np
    >>> tally = Tally()
    >>> tally.add(np.array([1.0, 2.0]))
    >>> tally.add(np.array([3.0]))
    >>> tally.figures().mean, tally.figures().max
    (2.0, 3.0)
    """

    def __init__(self) -> None:
        self._count = self._not_finite = 0
        self._low, self._high = math.inf, -math.inf
        self._mean = self._squares = 0.0  # the sum of squared distances from the mean

    def add(self, values: Array, lengths: Lengths | None = None) -> None:
        """Add values; of `[steps, batch, …]` with lengths only those of valid steps."""
        import numpy as np

        if lengths is not None:
            values = values[np.arange(len(values))[:, None] < lengths]
        with np.errstate(all="ignore"):  # the squares of the largest float64 are infinite
            if values.size and not math.isfinite(float(values.sum(dtype=np.float64))):
                finite = values[np.isfinite(values)]
                self._not_finite += values.size - finite.size
                values = finite
            if not values.size:
                return
            mean = float(values.mean(dtype=np.float64))
            squares = float(values.var(dtype=np.float64)) * values.size
        count = self._count + values.size
        # Chan, Golub and LeVeque, Updating Formulae and a Pairwise Algorithm (1979).
        apart = mean - self._mean
        self._squares += squares + apart * apart * self._count * values.size / count
        self._mean += apart * values.size / count
        self._low = min(self._low, float(values.min()))
        self._high = max(self._high, float(values.max()))
        self._count = count

    def figures(self) -> Figures:
        """Return the figures of all values so far; sums beyond the range of a float are None."""
        if not self._count:
            return Figures(not_finite=self._not_finite)
        mean, variance = self._mean, self._squares / self._count
        return Figures(
            self._low,
            self._high,
            mean if math.isfinite(mean) else None,
            math.sqrt(variance) if math.isfinite(variance) else None,
            self._not_finite,
        )


def figures_of(values: Array) -> Figures:
    """Return the figures of some values."""
    tally = Tally()
    tally.add(values)
    return tally.figures()
