"""The cases of a covering set combine every value with every other, as all cases do."""

from __future__ import annotations

from itertools import combinations, product

import pytest
from covering import covering

CASES = [*product("abc", [1, 2], [None, [4]], "xyz")]


def combined(cases: list[tuple[object, ...]], ways: int) -> set[str]:
    return {
        str(some) for case in cases for some in combinations(list(enumerate(map(repr, case))), ways)
    }


@pytest.mark.parametrize(("ways", "most"), [(1, 3), (2, 10), (3, 24), (4, 36)])
def test_few_cases_combine_all_values(ways: int, most: int) -> None:
    found = covering(CASES, ways)
    assert found == sorted(set(found))
    assert len(found) <= most
    assert combined([CASES[at] for at in found], ways) == combined(CASES, ways)


def test_combinations_that_no_case_has_are_not_needed() -> None:
    assert covering([("a", 1), ("b", 2)], 2) == [0, 1]
    assert covering([], 2) == []
