"""The figures of values that go by in parts: range, mean and deviation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from lstmstate.engines.model import Array, Lengths


class Figures(NamedTuple):
    """What some values are like; None where there are none, or some are no numbers."""

    min: float | None = None
    max: float | None = None
    mean: float | None = None
    std: float | None = None


class Tally:
    """Counts values as they go by.

    >>> import numpy as np
    >>> tally = Tally()
    >>> tally.add(np.array([1.0, 2.0]))
    >>> tally.add(np.array([3.0]))
    >>> tally.figures().mean, tally.figures().max
    (2.0, 3.0)
    """

    def __init__(self) -> None:
        self._count = 0
        self._low, self._high = math.inf, -math.inf
        self._mean = self._squares = 0.0  # the sum of squared distances from the mean

    def add(self, values: Array, lengths: Lengths | None = None) -> None:
        """Count values; of `[steps, batch, …]` with lengths only those of valid steps."""
        import numpy as np

        if lengths is not None:
            values = values[np.arange(len(values))[:, None] < lengths]
        if not values.size:
            return
        count = self._count + values.size
        mean = float(values.mean(dtype=np.float64))
        squares = float(values.var(dtype=np.float64)) * values.size
        # Chan, Golub and LeVeque, Updating Formulae and a Pairwise Algorithm (1979).
        apart = mean - self._mean
        self._squares += squares + apart * apart * self._count * values.size / count
        self._mean += apart * values.size / count
        self._low = min(self._low, float(values.min()))
        self._high = max(self._high, float(values.max()))
        self._count = count

    def figures(self) -> Figures:
        """Return the figures of all values so far."""
        if not self._count or not math.isfinite(self._mean):
            return Figures()
        deviation = math.sqrt(self._squares / self._count)
        return Figures(self._low, self._high, self._mean, deviation)


def figures_of(values: Array) -> Figures:
    """Return the figures of some values."""
    tally = Tally()
    tally.add(values)
    return tally.figures()
