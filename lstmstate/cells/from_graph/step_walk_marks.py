"""The places in a step, and the marks that walks through steps leave at nodes."""

from __future__ import annotations

from collections.abc import Mapping

from lstmstate.checkpoint.graph_node import Node


class StepPlace:
    """A place in a step.

    Attributes:
        kind: the operations it has: the method of `StepWalk` that reads it.
        words: its name for users.
        options: those that are read there.
    """

    def __init__(self, kind: str, words: str, options: tuple[str, ...] = ()) -> None:
        self.kind = kind
        self.words = words
        self.options = options


Mark = tuple[StepPlace | str, str]  # the place of a node, or the kind of finding
BETWEEN = "between"  # a clip or norm of a new c, before its function
WORDS = "words"  # of its report


class Memory:
    """The marks that walks through steps leave at nodes, for themselves and for later walks.

    Attributes:
        asked: the marks that a walk asked for, with their values.
        left: the marks that it leaves.
    """

    def __init__(self) -> None:
        self._all: dict[Mark, object] = {}
        self.asked: dict[Mark, object] = {}
        self.left: dict[Mark, object] = {}

    def begin(self) -> None:
        """Begin another walk."""
        self.asked, self.left = {}, {}

    def get(self, what: StepPlace | str, name: str) -> object:
        """Return the mark at a node, None if there is none."""
        found = self._all.get((what, name))
        if (what, name) not in self.left:
            self.asked[what, name] = found
        return found

    def is_first(self, place: StepPlace, name: str) -> bool:
        """Return whether a node is seen at a place for the first time.

        A later walk that meets it again finds less, never more.
        """
        if (place, name) in self._all:
            return self.get(place, name) is None
        self.leave(place, name)
        return True

    def leave(self, what: StepPlace | str, name: str, value: object = True) -> None:
        """Leave a mark at a node."""
        self._all[what, name] = self.left[what, name] = value

    def has(self, asked: Mapping[Mark, object], there: Mapping[str, Node]) -> bool:
        """Whether a walk elsewhere would find what another one found."""
        return all(
            self._all.get((what, there[name].name)) == value
            for (what, name), value in asked.items()
        )

    def leave_all(self, left: Mapping[Mark, object], there: Mapping[str, Node]) -> None:
        """Leave the marks that a walk elsewhere would leave."""
        self._all.update(((what, there[name].name), value) for (what, name), value in left.items())
