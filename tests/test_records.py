"""Named tuples whose annotations are not compiled, otherwise like those of `typing`."""

from __future__ import annotations

import pickle
import sys
from typing import NamedTuple as Typed

import pytest

from lstmstate import records


class Pair(records.NamedTuple):
    """Two numbers."""

    first: int
    second: int | None = 7

    @property
    def total(self) -> int:
        """Their sum."""
        return self.first + (self.second or 0)

    @classmethod
    def of(cls, number: int) -> Pair:
        """Return a number twice."""
        return cls(number, number)


class TypedPair(Typed):
    """Two numbers."""

    first: int
    second: int | None = 7


def test_records_have_fields_defaults_and_methods() -> None:
    pair = Pair(3)
    assert pair == (3, 7) and (pair.first, pair.second, pair.total) == (3, 7, 10)
    assert Pair.of(2) == Pair(first=2, second=2)
    assert repr(pair._replace(second=None)) == "Pair(first=3, second=None)"
    assert Pair.__doc__ == "Two numbers."


def test_records_have_the_description_of_named_tuples() -> None:
    for name in ("_fields", "_field_defaults", "__module__", "__bases__"):
        assert getattr(Pair, name) == getattr(TypedPair, name), name
    assert list(Pair.__annotations__) == list(TypedPair.__annotations__)
    assert type(Pair) is type(TypedPair) is type
    assert Pair.__match_args__ == TypedPair.__match_args__


def test_records_can_be_inherited_from() -> None:
    class Triple(Pair):
        """A pair with another sum."""

        @property
        def total(self) -> int:
            return super().total + 1

    assert Triple(1, 2).total == 4 and isinstance(Triple(1, 2)._replace(first=2), Triple)


def test_a_record_needs_every_field() -> None:
    with pytest.raises(TypeError, match="first"):
        Pair()  # type: ignore[call-arg]


def test_annotations_of_records_are_not_compiled() -> None:
    compiled: list[str] = []
    is_on = True

    def note(event: str, arguments: tuple[object, ...]) -> None:
        if is_on and event == "compile" and arguments[0]:
            source = arguments[0]
            compiled.append(source.decode() if isinstance(source, bytes) else str(source))

    sys.addaudithook(note)
    body = (
        "def make(kind):\n    class One(kind):\n        field: 'list[int] | None'\n    return One"
    )
    names: dict[str, object] = {"__name__": "made"}
    exec(compile(body, "made", "exec"), names)
    make = names["make"]
    assert callable(make)
    compiled.clear()
    make(records.NamedTuple)
    own = [text for text in compiled if "list[int]" in text]
    compiled.clear()
    make(Typed)
    is_on = False
    assert not own and [text for text in compiled if "list[int]" in text]


def test_a_brief_record_lists_its_own_methods_and_stays_a_tuple() -> None:
    brief = records.brief(Pair)
    assert dir(brief) == ["of", "total"]
    pair = brief(3)
    assert pair == (3, 7) == pickle.loads(pickle.dumps(Pair(3)))
    assert pair._replace(second=1).total == 4 and "second" in dir(pair)
    assert brief.__doc__ == Pair.__doc__ and brief.__bases__ == (tuple,)
