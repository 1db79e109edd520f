"""The walk through many steps: those that are alike are walked through once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property, partial

from lstmstate.cells.from_graph.alike_steps import Places, Reading, StepKind, StepKinds
from lstmstate.cells.from_graph.graph_cell import GraphStep
from lstmstate.cells.from_graph.step_walk import StepWalk
from lstmstate.cells.from_graph.step_walk_marks import WORDS, Mark
from lstmstate.checkpoint.graph_node import Node
from lstmstate.named_tuple import NamedTuple

_FAR = 300  # nodes that are met on a walk through a step that others may be like


class _Walked(NamedTuple):
    """A step that was walked through without a new finding.

    Attributes:
        known: the facts about each node that was met.
        noted: the sources of nodes that were known before the walk, by name.
        asked, left: see `Memory`.
        named: the names of nodes in reports.
    """

    step: GraphStep
    known: list[object]
    noted: Mapping[str, int]
    asked: Mapping[Mark, object]
    left: Mapping[Mark, object]
    named: set[str]


class StepWalkOnce(StepWalk):
    """A walk through the steps of one cell that leaves out steps like one before."""

    @cached_property
    def _kinds(self) -> StepKinds[_Walked]:
        """The kinds of steps that were walked through."""
        return StepKinds(self._graph)

    def through(self, step: GraphStep) -> None:
        """Walk through a step, unless a known one without new findings is like it."""
        known = self._kinds.find(step.m, partial(self._is_like, step)) if step.m else None
        if known is not None:
            like, there = known
            self._memory.leave_all(like.left, there)
            return
        whole, found = self._graph, dict(self.found)
        self._graph = reading = Reading(whole, step.m or step.c_new)
        with self._sources.note_reads(reading) as noted:
            super().through(step)
        self._graph, met = whole, reading.met
        asked, left = self._memory.asked, self._memory.left
        marks = asked | left
        names = {*noted, *(name for _, name in marks), *(node.name for node in step if node)}
        if step.m and found == self.found and names <= met.keys() and len(met) < _FAR:
            words = (value for (what, _), value in marks.items() if what == WORDS)
            named = {part for each in words if isinstance(each, tuple) for part in each}
            known_of = self._known(met.values())
            like = _Walked(step, known_of, noted, asked, left, named & met.keys())
            self._kinds.add(step.m, StepKind(reading, like))

    def _is_like(self, step: GraphStep, like: _Walked, there: Places) -> bool:
        """Whether a walk through a step would be like that through another one."""
        nodes = (node and there[node.name] for node in like.step)
        return (
            all(mine is theirs for mine, theirs in zip(step, nodes, strict=True))
            and self._known(there.values()) == like.known
            and all(self._sources.of(there[name]) == made for name, made in like.noted.items())
            and self._memory.has(like.asked, there)
            and all(there[name].name == name for name in like.named)
        )

    def _known(self, nodes: Iterable[Node]) -> list[object]:
        """Return the facts about nodes by their names."""
        given, halves, taken = self._sources.given.get, self._halves.get, self._taken.get
        return [(given(node.name), halves(node.name), taken(node.name)) for node in nodes]
