"""Assertions on a checkpoint or a state, for CI: one function each, in one table."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any

from lstmstate import limits
from lstmstate.arguments import (
    BOOL,
    NUMBER,
    POSITIVE,
    TOLERANCE,
    WHOLE,
    Rule,
    is_whole,
    name_nearest,
    one_of,
    refuse_others,
)
from lstmstate.cells.aliases import find_counterparts
from lstmstate.cells.cell import UNKNOWN, Cell, CellShape, StateWidths
from lstmstate.cells.families import MIDDLE, NEW, OLD, row_of
from lstmstate.errors import (
    AmbiguousError,
    ArgumentError,
    CorruptError,
    LstmstateError,
    UnsupportedError,
    count,
    first_of,
    printable,
    raise_all,
    warn,
)
from lstmstate.model.saved_states import all_states, refuse_layout
from lstmstate.named_tuple import NamedTuple
from lstmstate.operations.load import Opened, open_path, states_in
from lstmstate.state.candidates import Cells, Wanted
from lstmstate.state.infer_layout import StoredState
from lstmstate.state.layouts import LAYOUTS
from lstmstate.state.state_stream import Advance, StateStream, ignore
from lstmstate.value_stats import ValueStats, stats_of

_SHOWN = 3  # counterparts of a missing name
_LISTED = 30  # widths of cells in a line


class Finding(NamedTuple):
    """The result of an assertion.

    Attributes:
        name, value: the assertion: "units", 128.
        problems: reasons why it fails, a line each; empty if it is true.
        note: an assumption behind the answer.
    """

    name: str
    value: Any
    problems: tuple[str, ...]
    note: str | None = None

    @property
    def holds(self) -> bool:
        """Whether the assertion is true."""
        return not self.problems


class Findings(tuple[Finding, ...]):
    """The results of assertions; true if all of them are.

    >>> bool(Findings([Finding("units", 128, ())])), bool(Findings([Finding("units", 9, ("8",))]))
    (True, False)
    """

    def __bool__(self) -> bool:
        return all(one.holds for one in self)


class Subject:
    """The subject of assertions: the cells and saved states of a checkpoint, or one state.

    Args:
        opened: the checkpoint, or what the state is in.
        cell: the only cell of the checkpoint to check.
        state: the state; None for a checkpoint as a whole.
        advance: is called with the bytes of each part that has been read.
        assume_defaults: whether an unrecorded option counts as its documented default.

    Attributes:
        ckpt: the checkpoint; None for a state.
        cells: those of its cells to check.
    """

    def __init__(
        self,
        opened: Opened,
        *,
        cell: str | None = None,
        state: StoredState | None = None,
        advance: Advance,
        assume_defaults: bool = False,
    ) -> None:
        self.ckpt = opened.ckpt if state is None else None
        self.cells: list[Cell] = []
        if self.ckpt is not None:
            chosen = self.ckpt.cells.values() if cell is None else [self.ckpt.cell(cell)]
            self.cells = [one.info for one in chosen]
        self._opened = opened
        self._narrowed = cell is not None
        self._given = [] if state is None else [state]
        self._advance = advance
        self.assume_defaults = assume_defaults

    @cached_property
    def states(self) -> list[StoredState]:
        """The states in it, opened when they are first asked for."""
        return self._given if self.ckpt is None else all_states(self.ckpt)

    @cached_property
    def _streams(self) -> list[StateStream]:
        """The statistics of the states, which are read once."""
        found = [StateStream(state) for state in self.states]
        for stream in found:
            stream.read_all()
        return found

    def widths(self) -> list[tuple[str, int | None, int | None]]:
        """Return (name, width of c, width of m if it is projected) of each cell."""
        if self.ckpt is not None:
            return [(cell.name, cell.num_units, cell.num_proj) for cell in self.cells]
        return [
            (cell.name, cell.widths.c, cell.widths.m if cell.widths.m != cell.widths.c else None)
            for state in self.states
            for cell in state.structure.cells
        ]

    def in_layers(self) -> list[StateWidths | None]:
        """Return the widths of its cells, layer by layer if they are those of one stack."""
        if self.ckpt is None:
            return [cell.widths for state in self.states for cell in state.structure.cells]
        names = {cell.name for cell in self.cells}
        stacks = ([c for layer in s.layers for c in layer] for s in self.ckpt.stacks.values())
        whole = (cells for cells in stacks if {cell.name for cell in cells} == names)
        return [cell.state for cell in next(whole, self.cells)]

    @property
    def unrecognised(self) -> str | None:
        """Further candidates for a cell in a checkpoint, in words; None if one cell was chosen."""
        return None if self.ckpt is None or self._narrowed else self.ckpt.unrecognised_words

    def ranges(self) -> Iterator[tuple[str, ValueStats]]:
        """Yield the name and the range of every tensor, or of c and m of every cell.

        One error for all that cannot be read is raised after the others.
        """
        if self.ckpt is None:
            try:
                yield from self.state_ranges()
            except LstmstateError:
                # Those of a checkpoint with nothing but a state.
                variables = self._opened.ckpt.variables.values() if self._opened.ckpt else ()
                raise_all([error for v in variables if (error := v.damage()) is not None])
                raise
            (state,) = self.states
            for array in state.other_arrays:
                if array.dtype.kind in "fc" and array.shape:
                    yield array.name, stats_of(array.whole(), moments=False)
            return
        errors = []
        for variable in self.ckpt.variables.values():
            if variable.is_inexact:
                try:
                    value = variable.read()
                except LstmstateError as error:
                    errors.append(error)
                    continue
                yield variable.name, stats_of(value, moments=False)
            elif (damage := variable.damage()) is not None:
                errors.append(damage)
                self._advance(variable.nbytes or 0)
        raise_all(errors)

    def state_ranges(self, halves: str = "cm") -> Iterator[tuple[str, ValueStats]]:
        """Yield the name and the range of c and m of every cell of the states."""
        for stream in self._streams:
            for cell, ranges in zip(stream.structure.cells, stream.ranges, strict=True):
                for half, found in zip("cm", ranges, strict=True):
                    if half in halves:
                        yield f"{cell.name}/{half}".lstrip("/"), found


def _check_units(subject: Subject, wanted: int) -> Iterator[str]:
    for name, c, _ in subject.widths():
        if c != wanted:
            yield f"{_of(name)}units is {_known(c)}, not {wanted}"


def _check_proj(subject: Subject, wanted: int) -> Iterator[str]:
    for name, units, proj in subject.widths():
        # In a state, a projection to as many units looks like none.
        fits = wanted == (proj or 0) or (subject.ckpt is None and wanted == (proj or units))
        if not fits:
            yield f"{_of(name)}the projection is {proj or 'none'}, not {wanted or 'none'}"


def _check_input_size(subject: Subject, wanted: int) -> Iterator[str]:
    for cell in subject.cells:
        if cell.input_size != wanted:
            yield f"{_of(cell.name)}input size is {_known(cell.input_size)}, not {wanted}"


def _check_family(subject: Subject, wanted: str) -> Iterator[str]:
    for cell in subject.cells:
        several = cell.documented.get("family")
        if several and not subject.assume_defaults:
            yield f"{_of(cell.name)}family is unknown: {several.words}"
        elif wanted not in (cell.family, *cell.alternatives):
            actual = " or ".join((cell.family, *cell.alternatives))
            yield f"{_of(cell.name)}family is {actual}, not {wanted}"


def _check_forget_bias(subject: Subject, wanted: float) -> Iterator[str]:
    for cell in subject.cells:
        value, source = cell.forget_bias
        if source == "default" and not subject.assume_defaults:
            library = row_of(cell.family).library
            yield f"{_of(cell.name)}forget_bias is unknown: {library}'s default would be {value:g}"
        elif value is None or float(value) != wanted:
            actual = "unknown" if value is None else f"{value:g} ({source})"
            yield f"{_of(cell.name)}forget_bias is {actual}, not {wanted:g}"


def _check_era(subject: Subject, wanted: str) -> Iterator[str]:
    for cell in subject.cells:
        if cell.era != wanted:
            yield f"{_of(cell.name)}its names are of {cell.era or 'any era'}, not {wanted}"


def _check_layout(subject: Subject, wanted: str) -> Iterator[str]:
    for state in subject.states:
        if state.layout.name != wanted:
            yield f"{_of(state.file.name)}the layout is {state.layout.name}, not {wanted}"
    if subject.ckpt is not None and not subject.states:
        for cell in subject.cells:
            if cell.native_layout != wanted:
                actual = cell.native_layout or "unknown"
                yield f"{_of(cell.name)}the layout that it takes is {actual}, not {wanted}"


def _check_cells(subject: Subject, wanted: int | Cells) -> Iterator[str]:
    found = subject.in_layers()
    if isinstance(wanted, int):
        fits = len(found) == wanted
    else:
        fits = found == [cell.widths for cell in wanted.shapes]
    if not fits:
        actual = f" ({_widths(found)})" if found else ""
        yield f"it has {count(len(found), 'cell')}{actual}, not {words_of(wanted)}"
    elif (more := subject.unrecognised) is not None:
        yield f"how many cells it has is unknown: {more}"


def _check_finite(subject: Subject, wanted: bool) -> Iterator[str]:  # noqa: ARG001
    for name, found in subject.ranges():
        if found.words:
            yield f"{printable(name)} holds {' and '.join(found.words)}"


def _check_max_abs_m(subject: Subject, wanted: float) -> Iterator[str]:
    if not subject.states:
        yield "there is no state in it"
    for name, found in subject.state_ranges("m"):
        reach = max((abs(x) for x in (found.low, found.high) if x is not None), default=0.0)
        if reach > wanted or found.words:
            actual = f"{' and '.join(found.words)}" if found.words else f"{reach:.6g}"
            yield f"{printable(name)} reaches {actual}, more than {wanted:g}"


def _check_has(subject: Subject, wanted: str) -> Iterator[str]:
    missing = f"{printable(wanted)} is not there"
    if subject.ckpt is None:
        names = [array.name for state in subject.states for array in state.file.arrays]
        if wanted not in names:
            yield f"{missing}; this file has {first_of(names, _SHOWN)}"
    elif wanted not in subject.ckpt.variables:
        cells = (cell.info for cell in subject.ckpt.cells.values())
        found = find_counterparts(wanted, subject.ckpt.variables, cells)
        eras = [[f"TensorFlow {one.era} naming"] if one.era else [] for one in found]
        known = [
            ", ".join([*map(printable, one.names), *era])
            for one, era in zip(found[:_SHOWN], eras, strict=False)
        ]
        more = f"; this file has {' or '.join(known)}" if known else ", nor anything like it"
        yield f"{missing}{more}"


class Assertion(NamedTuple):
    """An assertion that can be made.

    Attributes:
        check: yields the reasons why it fails for a value.
        rule: the values that it may have.
        of_cells: whether it fails if there are no cells.
        unseen: what it is about, if a state does not show that.
    """

    check: Callable[[Subject, Any], Iterator[str]]
    rule: Rule
    of_cells: bool = True
    unseen: str | None = None


_TEXT = lambda value: isinstance(value, str)  # noqa: E731
_NUMBER_OF_CELLS = lambda value: isinstance(value, Cells) or is_whole(value)  # noqa: E731
# By the name of their parameter.
ASSERTIONS: dict[str, Assertion] = {
    "has": Assertion(_check_has, (_TEXT, "the name of a variable"), of_cells=False),
    "cells": Assertion(_check_cells, (_NUMBER_OF_CELLS, WHOLE[1]), of_cells=False),
    "finite": Assertion(_check_finite, BOOL, of_cells=False),
    "max_abs_m": Assertion(_check_max_abs_m, TOLERANCE, of_cells=False),
    "layout": Assertion(_check_layout, one_of(LAYOUTS)),
    "units": Assertion(_check_units, POSITIVE),
    "proj": Assertion(_check_proj, WHOLE),
    "input_size": Assertion(_check_input_size, POSITIVE, unseen="input size of its cell"),
    "family": Assertion(_check_family, (_TEXT, "the name of a class"), unseen="family of its cell"),
    "forget_bias": Assertion(_check_forget_bias, NUMBER, unseen="forget_bias of its cell"),
    "era": Assertion(_check_era, one_of((OLD, MIDDLE, NEW)), unseen="era of its names"),
}


@name_nearest
def check(
    path: str | os.PathLike[str],
    *,
    units: int | None = None,
    proj: int | None = None,
    input_size: int | None = None,
    cells: int | Sequence[tuple[int, int]] | None = None,
    layout: str | None = None,
    finite: bool = False,
    max_abs_m: float | None = None,
    has: str | Sequence[str] = (),
    family: str | None = None,
    forget_bias: float | None = None,
    era: str | None = None,
    cell: str | None = None,
    assume_defaults: bool = False,
    from_layout: str | None = None,
    header: bool | None = None,
    checksums: bool = True,
) -> Findings:
    """Compare a checkpoint or a state with expectations; the `Findings` are true if all agree.

    Args:
        path: a checkpoint, or a state file.
        units, proj, input_size, family, forget_bias, era: of every cell; `proj=0` for none.
        cells: the number of cells, or the widths (c, m) of each.
        layout, max_abs_m: the layout of the state, and the largest absolute m.
        finite: whether NaN and Inf in any value are a problem.
        has: a variable, or several.
        cell: the only cell of a checkpoint to check.
        assume_defaults: whether an unrecorded option counts as its documented default.
        from_layout, header: `layout` and `header` of `load_state`.

    Example:
        >>> import lstmstate
        >>> found = lstmstate.check("sample_checkpoints/sunspots", cells=2, proj=4)
        >>> bool(found), [one.name for one in found if not one.holds]
        (False, ['proj'])
    """
    widths = cells if cells is None or isinstance(cells, int) else Cells.of_pairs(cells)
    given = {
        "units": units,
        "proj": proj,
        "input_size": input_size,
        "cells": widths,
        "layout": layout,
        "finite": None if finite is False else finite,
        "max_abs_m": max_abs_m,
        "family": family,
        "forget_bias": forget_bias,
        "era": era,
    }
    asserted = [(name, value) for name, value in given.items() if value is not None]
    refuse_others(dict(asserted), {name: one.rule for name, one in ASSERTIONS.items()})
    refuse_layout(from_layout)
    asserted += [("has", name) for name in ([has] if isinstance(has, str) else has)]
    if not asserted:
        raise ArgumentError("there is nothing to check", advice="give `units=...`, `finite=...`, …")
    with open_path(os.fspath(path), checksums=checksums, header=header) as opened:
        found, notes = check_opened(
            opened, asserted, cell=cell, from_layout=from_layout, assume_defaults=assume_defaults
        )
    warn([*opened.notes, *notes])
    return Findings(found)


def check_opened(
    opened: Opened,
    asserted: Sequence[tuple[str, Any]],
    *,
    cell: str | None = None,
    from_layout: str | None = None,
    assume_defaults: bool = False,
    advance: Advance = ignore,
) -> tuple[list[Finding], list[str]]:
    """Return the findings on a checkpoint or a state, and notes on how it was read.

    Args:
        asserted: names and values of assertions.
        cell: the only cell of a checkpoint to check.
        advance: is called with the bytes of each part that has been read.
    """
    if opened.is_model:
        subject = Subject(opened, cell=cell, advance=advance, assume_defaults=assume_defaults)
        return [_finding(subject, *one) for one in asserted], []
    if cell is not None:
        raise LstmstateError(
            "`cell=...` is for checkpoints", path=opened.path, advice="leave it out"
        )
    state = _state_in(opened, from_layout, dict(asserted))
    if isinstance(state, LstmstateError):  # then all about the state is unknown
        why = f"{state.problem}; {state.advice}" if state.advice else state.problem
        return [Finding(name, value, (why,)) for name, value in asserted], []
    notes = [f"{opened.path}: {note}" for note in state.notes]
    subject = Subject(opened, state=state, advance=advance)
    return [_finding(subject, *one) for one in asserted], notes


def _state_in(
    opened: Opened, layout: str | None, asserted: Mapping[str, Any]
) -> StoredState | LstmstateError:
    """Return a state, with the asserted widths if the file records none.

    Widths that do not fit are a returned error.
    """
    plain = Wanted(layout)
    units, proj, cells = (asserted.get(name) for name in ("units", "proj", "cells"))
    if not isinstance(cells, Cells):
        if units is None:
            return states_in(opened, plain, layout="from_layout")[0]
        each = StateWidths(units, proj or units)
        cells = Cells.of_widths([each] * min(cells or 1, limits.MAX_CELLS))
    found: StoredState | None = None
    with suppress(LstmstateError):
        found = states_in(opened, plain, layout="from_layout")[0]
    if found is not None and not found.is_halved:
        return found
    try:
        asked = plain._replace(cells=(cells,), source="the assertions")
        return states_in(opened, asked, layout="from_layout")[0]
    except (AmbiguousError, CorruptError, UnsupportedError):
        raise
    except LstmstateError as error:
        return found or error


def _finding(subject: Subject, name: str, value: object) -> Finding:
    """Return the result of an assertion; one on cells fails if there are none."""
    assertion, note = ASSERTIONS[name], None
    if assertion.of_cells and not subject.widths():
        problems = [subject.ckpt.no_cells if subject.ckpt else "there is no LSTM cell in it"]
    elif assertion.unseen and subject.ckpt is None:
        problems = [f"a state does not show the {assertion.unseen}"]
    else:
        problems = list(assertion.check(subject, value))
        note = _assumed(subject, name)
    return Finding(name, value, tuple(problems), note)


def _assumed(subject: Subject, name: str) -> str | None:
    """Return a note if an answer is an unrecorded default."""
    assumed = subject.assume_defaults and any(
        name in cell.documented or cell.options.get(name, UNKNOWN).source == "default"
        for cell in subject.cells
    )
    return f"{name} is the documented default: the files do not record it" if assumed else None


def words_of(value: object) -> str:
    """Return an asserted value as on the command line."""
    if isinstance(value, Cells):
        return _widths([cell.widths for cell in value.shapes])
    return str(value).removesuffix(".0")


def _widths(found: Sequence[StateWidths | None]) -> str:
    """Return widths as the assertion on cells takes them: 24,12, and 24:24 for one cell."""
    shown = [str(CellShape("", widths)) if widths else "?" for widths in found[:_LISTED]]
    if len(found) == 1 and found[0]:
        shown = [f"{found[0].c}:{found[0].m}"]
    return ",".join([*shown, "…"] if len(found) > _LISTED else shown)


def _known(value: int | None) -> str:
    return "unknown" if value is None else str(value)


def _of(name: str) -> str:
    return f"{printable(name)}: " if name else ""
