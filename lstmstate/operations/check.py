"""Assertions on a checkpoint or a state, for CI: one function each, in one table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

from lstmstate.cells.aliases import find_counterparts
from lstmstate.cells.cell import UNKNOWN, Cell, StateWidths
from lstmstate.cells.families import row_of
from lstmstate.errors import LstmstateError, count, printable, raise_all
from lstmstate.model.checkpoint import LSTMCheckpoint
from lstmstate.model.saved_states import Source
from lstmstate.records import NamedTuple
from lstmstate.state.candidates import Cells
from lstmstate.state.state import CellShape
from lstmstate.state.stream import Watch, spans_of
from lstmstate.value_stats import ValueStats, stats_of

_SHOWN = 3  # counterparts of a missing name
_LISTED = 30  # widths of cells in a line

Told = Callable[[int], object]


class Finding(NamedTuple):
    """What came of an assertion.

    Attributes:
        name, value: what was asserted: "units", 128.
        problems: why it does not hold, a line each; empty where it holds.
        note: what the answer rests on, where it is not in the files.
    """

    name: str
    value: Any
    problems: tuple[str, ...]
    note: str | None = None

    @property
    def holds(self) -> bool:
        """Whether the assertion is true."""
        return not self.problems


class Target:
    """What is asserted of: the cells of a checkpoint and its saved states, or one state.

    Args:
        ckpt: the checkpoint; None for a state file.
        cells: those of its cells that are asserted of.
        states: returns the states in it.
        told: is called with the bytes of what has been read.
        assume_defaults: whether a documented default stands for what the files do not record.
        narrowed: whether only some cells of the checkpoint are asserted of.
    """

    def __init__(
        self,
        ckpt: LSTMCheckpoint | None,
        cells: Sequence[Cell],
        states: Callable[[], list[Source]],
        told: Told,
        *,
        assume_defaults: bool = False,
        narrowed: bool = False,
    ) -> None:
        self.ckpt = ckpt
        self.cells = cells
        self._open_states = states
        self._told = told
        self.assume_defaults = assume_defaults
        self._narrowed = narrowed

    @cached_property
    def states(self) -> list[Source]:
        """The states in it, opened when they are first asked for."""
        return self._open_states()

    @cached_property
    def watches(self) -> list[Watch]:
        """What is seen of the values of the states, which are read once."""
        found = [Watch(source.reading) for source in self.states]
        for watch in found:
            axis, spans = spans_of(watch.structure)
            for start, stop in spans:
                watch.parts(axis, start, stop)
        return found

    def widths(self) -> list[tuple[str, int | None, int | None]]:
        """Return (name, width of c, width of m where it is projected) of each cell."""
        if self.ckpt is not None:
            return [(cell.name, cell.num_units, cell.num_proj) for cell in self.cells]
        return [
            (cell.name, cell.widths.c, cell.widths.m if cell.widths.m != cell.widths.c else None)
            for source in self.states
            for cell in source.reading.structure.cells
        ]

    def in_layers(self) -> list[StateWidths | None]:
        """Return the widths of its cells, layer by layer where they are those of one stack."""
        if self.ckpt is None:
            structures = (source.reading.structure for source in self.states)
            return [cell.widths for structure in structures for cell in structure.cells]
        names = {cell.name for cell in self.cells}
        stacks = ([c for layer in s.layers for c in layer] for s in self.ckpt.stacks)
        whole = (cells for cells in stacks if {cell.name for cell in cells} == names)
        return [cell.state for cell in next(whole, self.cells)]

    @property
    def unrecognised(self) -> str | None:
        """What else in a checkpoint may be a cell, in words; None where one cell was chosen."""
        return None if self.ckpt is None or self._narrowed else self.ckpt.unrecognised_words

    def ranges(self) -> Iterator[tuple[str, ValueStats]]:
        """Yield the name and the range of every tensor, or of c and m of every cell.

        Raises:
            LstmstateError: some cannot be read, all of which it names; the others came before.
        """
        if self.ckpt is None:
            try:
                yield from self.state_ranges()
            except LstmstateError:
                # Those of a checkpoint that holds nothing but a state.
                found = [
                    v
                    for source in self.states
                    if source.ckpt
                    for v in source.ckpt.variables.values()
                ]
                raise_all([error for v in found if (error := v.damage()) is not None])
                raise
            of_states = {id(a) for source in self.states for a in source.reading.arrays}
            for array in (a for source in self.states for a in source.reading.file.arrays):
                if id(array) not in of_states and array.dtype.kind in "fc" and array.shape:
                    yield array.name, stats_of(array.whole(), moments=False)
            return
        errors = []
        for variable in self.ckpt.variables.values():
            if variable.dtype.startswith(("float", "bfloat", "complex")):
                try:
                    value = variable.read()
                except LstmstateError as error:
                    errors.append(error)
                    continue
                yield variable.name, stats_of(value, moments=False)
            elif (damage := variable.damage()) is not None:
                errors.append(damage)
                self._told(variable.nbytes or 0)
        raise_all(errors)

    def state_ranges(self, halves: str = "cm") -> Iterator[tuple[str, ValueStats]]:
        """Yield the name and the range of c and m of every cell of the states."""
        for watch in self.watches:
            for cell, ranges in zip(watch.structure.cells, watch.ranges, strict=True):
                for half, found in zip("cm", ranges, strict=True):
                    if half in halves:
                        yield f"{cell.name}/{half}".lstrip("/"), found


def _units(target: Target, wanted: int) -> Iterator[str]:
    for name, c, _ in target.widths():
        if c != wanted:
            yield f"{_of(name)}units is {_known(c)}, not {wanted}"


def _proj(target: Target, wanted: int) -> Iterator[str]:
    for name, units, proj in target.widths():
        # A state does not tell a projection to as many units from none.
        fits = wanted == (proj or 0) or (target.ckpt is None and wanted == (proj or units))
        if not fits:
            yield f"{_of(name)}the projection is {proj or 'none'}, not {wanted or 'none'}"


def _input_size(target: Target, wanted: int) -> Iterator[str]:
    yield from _of_cells(target, "input_size", "input size", wanted)


def _family(target: Target, wanted: str) -> Iterator[str]:
    if target.ckpt is None:
        yield "a state does not tell the family of its cell"
    for cell in target.cells:
        several = cell.documented.get("family")
        if several and not target.assume_defaults:
            yield f"{_of(cell.name)}family is unknown: {several.words}"
        elif wanted not in (cell.family, *cell.alternatives):
            told = " or ".join((cell.family, *cell.alternatives))
            yield f"{_of(cell.name)}family is {told}, not {wanted}"


def _forget_bias(target: Target, wanted: float) -> Iterator[str]:
    if target.ckpt is None:
        yield "a state does not tell the forget_bias of its cell"
    for cell in target.cells:
        value, source = cell.forget_bias
        if source == "default" and not target.assume_defaults:
            library = row_of(cell.family).library
            yield f"{_of(cell.name)}forget_bias is unknown: {library}'s default would be {value:g}"
        elif value is None or float(value) != wanted:
            told = "not told by anything" if value is None else f"{value:g} ({source})"
            yield f"{_of(cell.name)}forget_bias is {told}, not {wanted:g}"


def _era(target: Target, wanted: str) -> Iterator[str]:
    if target.ckpt is None:
        yield "a state does not tell the era of its names"
    for cell in target.cells:
        if cell.era != wanted:
            yield f"{_of(cell.name)}its names are of {cell.era or 'any era'}, not {wanted}"


def _layout(target: Target, wanted: str) -> Iterator[str]:
    for source in target.states:
        layout = source.reading.layout.name
        if layout != wanted:
            name = source.group.name if source.group else ""
            yield f"{_of(name)}the layout is {layout}, not {wanted}"
    if target.ckpt is not None and not target.states:
        for cell in target.cells:
            if cell.native_layout != wanted:
                told = cell.native_layout or "not told by anything"
                yield f"{_of(cell.name)}the layout that it takes is {told}, not {wanted}"


def _cells(target: Target, wanted: int | Cells) -> Iterator[str]:
    found = target.in_layers()
    if isinstance(wanted, int):
        fits = len(found) == wanted
    else:
        fits = found == [cell.widths for cell in wanted.shapes]
    if not fits:
        told = f" ({_widths(found)})" if found else ""
        yield f"it has {count(len(found), 'cell')}{told}, not {words_of(wanted)}"
    elif (more := target.unrecognised) is not None:
        yield f"how many cells it has is unknown: {more}"


def _finite(target: Target, wanted: bool) -> Iterator[str]:  # noqa: ARG001
    for name, found in target.ranges():
        if found.words:
            yield f"{printable(name)} holds {' and '.join(found.words)}"


def _max_abs_m(target: Target, wanted: float) -> Iterator[str]:
    if not target.states:
        yield "there is no state in it"
    for name, found in target.state_ranges("m"):
        reach = max((abs(x) for x in (found.low, found.high) if x is not None), default=0.0)
        if reach > wanted or found.words:
            told = f"{' and '.join(found.words)}" if found.words else f"{reach:.6g}"
            yield f"{printable(name)} reaches {told}, more than {wanted:g}"


def _has(target: Target, wanted: str) -> Iterator[str]:
    if target.ckpt is None:
        names = [a.name for source in target.states for a in source.reading.file.arrays]
        if wanted not in names:
            known = ", ".join(map(printable, names[:_SHOWN]))
            yield f"{printable(wanted)} is not there; this file has {known}"
        return
    if wanted in target.ckpt.variables:
        return
    found = find_counterparts(wanted, target.ckpt.variables, target.ckpt.cells.values())
    told = [
        ", ".join(
            [*map(printable, one.names), *([f"TensorFlow {one.era} naming"] if one.era else [])]
        )
        for one in found[:_SHOWN]
    ]
    more = f"; this file has {' or '.join(told)}" if told else ", nor anything like it"
    yield f"{printable(wanted)} is not there{more}"


# What can be asserted, under the name of its flag.
_Assertion = Callable[[Target, Any], Iterator[str]]
ASSERTIONS: dict[str, _Assertion] = {
    "has": _has,
    "cells": _cells,
    "finite": _finite,
    "max_abs_m": _max_abs_m,
    "layout": _layout,
    "units": _units,
    "proj": _proj,
    "input_size": _input_size,
    "family": _family,
    "forget_bias": _forget_bias,
    "era": _era,
}
# What is asserted of cells, and does not hold where there are none.
_OF_CELLS = ("layout", "units", "proj", "input_size", "family", "forget_bias", "era")


def check(target: Target, asserted: Iterable[tuple[str, Any]]) -> Iterator[Finding]:
    """Yield what comes of each assertion, (name, value).

    An assertion on cells does not hold where there are none.

    Raises:
        LstmstateError: a value that it needs cannot be read.
    """
    for name, value in asserted:
        if name in _OF_CELLS and not target.widths():
            why = target.ckpt.no_cells if target.ckpt else "there is no LSTM cell in it"
            yield Finding(name, value, (why,))
            continue
        yield Finding(name, value, tuple(ASSERTIONS[name](target, value)), _assumed(target, name))


def _assumed(target: Target, name: str) -> str | None:
    """Return a note where an answer rests on a documented default that nothing tells."""
    assumed = target.assume_defaults and any(
        name in cell.documented or cell.options.get(name, UNKNOWN).source == "default"
        for cell in target.cells
    )
    return f"{name} is the documented default: the files do not record it" if assumed else None


def words_of(value: object) -> str:
    """Return an asserted value as the command line has it."""
    return _widths([c.widths for c in value.shapes]) if isinstance(value, Cells) else str(value)


def _widths(found: Sequence[StateWidths | None]) -> str:
    """Return widths as the assertion on cells takes them: 24,12, and 24:24 for one cell."""
    shown = [str(CellShape("", widths)) if widths else "?" for widths in found[:_LISTED]]
    if len(found) == 1 and found[0]:
        shown = [f"{found[0].c}:{found[0].m}"]
    return ",".join([*shown, "…"] if len(found) > _LISTED else shown)


def _of_cells(target: Target, attribute: str, words: str, wanted: int) -> Iterator[str]:
    if target.ckpt is None:
        yield f"a state does not tell the {words} of its cell"
    for cell in target.cells:
        found = getattr(cell, attribute)
        if found != wanted:
            yield f"{_of(cell.name)}{words} is {_known(found)}, not {wanted}"


def _known(value: int | None) -> str:
    return "not told by anything" if value is None else str(value)


def _of(name: str) -> str:
    return f"{printable(name)}: " if name else ""
