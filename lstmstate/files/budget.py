"""The work that one opened path may cost, counted where it is done.

A file of a few bytes can declare, repeat or pack any amount of work. `limits` has a rate for each
kind of it, far above that of any real file.
"""

from __future__ import annotations

from lstmstate.errors import UnsupportedError
from lstmstate.limits import Rate


class Budget:
    """What reading a path may cost.

    Args:
        size: the bytes that are stored: the more there are, the more work is expected.

    Example:
        >>> from lstmstate.limits import Rate
        >>> budget = Budget(100)
        >>> budget.spend(Rate("links", most=2, for_bytes=50), 4)
        >>> budget.spend(Rate("links", most=2, for_bytes=50))
        Traceback (most recent call last):
        lstmstate.errors.UnsupportedError: expected at most 4 links in 100 bytes, got more
    """

    def __init__(self, size: int = 0) -> None:
        self._size = size
        self._spent: dict[str, int] = {}

    def spend(self, rate: Rate, amount: int = 1) -> None:
        """Count work of a kind.

        Raises:
            UnsupportedError: it is more than a file of this size is worth.
        """
        spent = self._spent[rate.unit] = self._spent.get(rate.unit, 0) + amount
        most = rate.of(self._size)
        if spent > most:
            of = f" in {self._size:,} bytes" if rate.for_bytes else ""
            raise UnsupportedError(f"expected at most {most:,} {rate.unit}{of}, got more")
