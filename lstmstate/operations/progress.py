"""Progress of an operation, in bytes."""

from __future__ import annotations

from collections.abc import Callable

Advance = Callable[[int], object]  # is called with the bytes of each part that has been read


def ignore(nbytes: int) -> None:
    """Take no notice of progress."""
