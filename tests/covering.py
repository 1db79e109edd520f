"""Covering sets: fewer combinations of parameters, with every combination of one or two values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import combinations


def covering(cases: Iterable[Sequence[object]], ways: int) -> list[int]:
    """Return the numbers of cases in which all combinations of values occur that occur in any.

    Args:
        cases: the values of the same parameters in each.
        ways: how many values are combined: 1 for every value, 2 for every pair of values.
    """
    sets = [
        set(combinations([(at, repr(value)) for at, value in enumerate(case)], ways))
        for case in cases
    ]
    left = set().union(*sets)
    used: Counter[object] = Counter()
    found = []
    while left:
        best = max(
            range(len(sets)),
            key=lambda at: (len(sets[at] & left), -sum(used[one] for one in sets[at])),
        )
        found.append(best)
        left -= sets[best]
        used.update(sets[best])
    return sorted(found)
