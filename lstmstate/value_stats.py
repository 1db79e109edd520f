"""Statistics of values: range, mean, deviation, and counts of zeros, NaN and Inf."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lstmstate.named_tuple import NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class ValueStats(NamedTuple):
    """Statistics of values, of their magnitudes if they are complex.

    Attributes:
        size: the number of all values.
        low, high: the ends of the finite values; None if there are none.
        mean, variance: of the finite values; 0 if they were not asked for, and not finite beyond
            the range of a float.
    """

    size: int = 0
    low: float | None = None
    high: float | None = None
    mean: float = 0.0
    variance: float = 0.0
    zeros: int = 0
    nan: int = 0
    inf: int = 0

    @property
    def not_finite(self) -> int:
        """The number of values that are NaN or Inf."""
        return self.nan + self.inf

    @property
    def words(self) -> list[str]:
        """The names of the values that are not finite, for messages."""
        return [word for word, there in (("NaN", self.nan), ("Inf", self.inf)) if there]

    @property
    def within_one(self) -> bool:
        """Whether all finite values are in [-1, 1]."""
        return self.low is None or self.high is None or (self.low >= -1 and self.high <= 1)

    def moments(self) -> dict[str, float | None]:
        """Return min, max, mean and std; None for those that do not exist or are not finite."""
        if self.low is None:
            return dict.fromkeys(("min", "max", "mean", "std"))
        std = math.sqrt(self.variance)
        return {
            "min": self.low,
            "max": self.high,
            "mean": self.mean if math.isfinite(self.mean) else None,
            "std": std if math.isfinite(std) else None,
        }

    def joined(self, other: ValueStats) -> ValueStats:
        """Return the statistics of both.

        Source: Chan, Golub and LeVeque, Updating Formulae and a Pairwise Algorithm (1979).
        """
        if self.low is None or self.high is None or other.low is None or other.high is None:
            one, rest = (other, self) if self.low is None else (self, other)
            return one._replace(
                size=one.size + rest.size, nan=one.nan + rest.nan, inf=one.inf + rest.inf
            )
        mine, others = self.size - self.not_finite, other.size - other.not_finite
        share, apart = others / (mine + others), other.mean - self.mean
        return ValueStats(
            self.size + other.size,
            min(self.low, other.low),
            max(self.high, other.high),
            self.mean + apart * share,
            self.variance * (1 - share) + (other.variance + apart * apart * (1 - share)) * share,
            self.zeros + other.zeros,
            self.nan + other.nan,
            self.inf + other.inf,
        )


def stats_of(values: NDArray[np.generic], *, moments: bool = True) -> ValueStats:
    """Return the statistics of an array.

    Args:
        moments: whether mean, variance and zeros are counted too.

    >>> import numpy as np
    >>> found = stats_of(np.array([0.5, np.nan, -2.0]))
    >>> found.low, found.high, found.mean, found.nan
    (-2.0, 0.5, -0.75, 1)
    >>> stats_of(np.array([1.0, 2.0])).joined(stats_of(np.array([6.0]))).mean
    3.0
    """
    import numpy as np

    with np.errstate(all="ignore"):  # the squares of the largest float64 are infinite
        return _stats_of(values, moments=moments)


def _stats_of(values: NDArray[np.generic], *, moments: bool) -> ValueStats:
    import numpy as np

    real = np.abs(values) if values.dtype.kind == "c" else values
    size = values.size
    if not size:
        return ValueStats()
    nan = inf = 0
    low, high = float(real.min()), float(real.max())
    if not (math.isfinite(low) and math.isfinite(high)):  # a NaN would have spread to both
        nan, inf = int(np.count_nonzero(np.isnan(real))), int(np.count_nonzero(np.isinf(real)))
        real = real[np.isfinite(real)]
        if not real.size:
            return ValueStats(size, nan=nan, inf=inf)
        low, high = float(real.min()), float(real.max())
    if not moments:
        return ValueStats(size, low, high, nan=nan, inf=inf)
    mean = float(real.mean(dtype=np.float64))
    variance = float(real.var(dtype=np.float64))
    zeros = size - int(np.count_nonzero(values))
    return ValueStats(size, low, high, mean, variance, zeros, nan, inf)
