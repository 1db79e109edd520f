"""The options that a cell is run with: what the graph tells, what a user gives, what is assumed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, cast

from lstmstate.cells.model import Cell, Option, Value
from lstmstate.engines.activations import ACTIVATIONS
from lstmstate.errors import LstmstateError, printable

# What is assumed where nothing tells: the defaults of TensorFlow's classes.
_ASSUMED: dict[str, Value] = {
    "forget_bias": 1.0,
    "cell_clip": None,
    "proj_clip": None,
    "activation": "tanh",
    "recurrent_activation": "sigmoid",
    "peepholes": False,
}
RUN_OPTIONS = tuple(_ASSUMED)


def _is_number(value: Value) -> bool:
    is_one = isinstance(value, int | float) and not isinstance(value, bool)
    return is_one and math.isfinite(cast("float", value))


def _is_bound(value: Value) -> bool:
    return value is None or (_is_number(value) and cast("float", value) >= 0)


def _is_activation(value: Value) -> bool:
    return value in ACTIVATIONS


# What a user may give, and how to say it.
_GIVEN: dict[str, tuple[Callable[[Value], bool], str]] = {
    "forget_bias": (_is_number, "a number"),
    **dict.fromkeys(("cell_clip", "proj_clip"), (_is_bound, "None, or a bound")),
    **dict.fromkeys(
        ("activation", "recurrent_activation"), (_is_activation, " or ".join(ACTIVATIONS))
    ),
    "peepholes": (lambda value: isinstance(value, bool), "True or False"),
}


def refuse_others(given: Mapping[str, Value]) -> None:
    """Refuse options that there are not, or of values that they cannot have.

    Raises:
        LstmstateError: there are such.
    """
    for name, value in given.items():
        fits, words = _GIVEN.get(name, (None, ""))
        if fits is None or not fits(value):
            advice = f"say {words}" if fits else f"there are: {', '.join(_GIVEN)}"
            raise LstmstateError(f"there is no option {name}={value!r}", advice=advice)


class Settled(NamedTuple):
    """The options of a cell.

    Attributes:
        options: by name; the source is "graph", "family", "option" for what a user gave, or
            "default" for what nothing tells.
        contradicted: the options that a user gave and the files tell otherwise.
    """

    cell: Cell
    options: dict[str, Option]
    contradicted: dict[str, Option]

    @property
    def values(self) -> dict[str, Value]:
        """The options without their sources."""
        return {name: option.value for name, option in self.options.items()}

    @property
    def assumed(self) -> dict[str, Value]:
        """The options that nothing tells."""
        return {
            name: option.value
            for name, option in self.options.items()
            if option.source == "default"
        }


def settle(cell: Cell, given: Mapping[str, Value]) -> Settled:
    """Return the options to run a cell with.

    >>> from lstmstate import open_checkpoint
    >>> cell = open_checkpoint("sample_checkpoints/peephole_flat").cells["rnn/lstm_cell"]
    >>> settle(cell, {"cell_clip": None}).options["cell_clip"]
    Option(value=None, source='option')
    """
    options: dict[str, Option] = {}
    contradicted = {}
    for name, default in _ASSUMED.items():
        told = _told(cell, name)
        is_told = told.source in ("graph", "family")
        if name in given:
            options[name] = Option(given[name], "option")
            if is_told and told.value != given[name]:
                contradicted[name] = told
        elif is_told:
            options[name] = told
        else:
            options[name] = Option(default if told.value is None else told.value, "default")
    return Settled(cell, options, contradicted)


def _told(cell: Cell, name: str) -> Option:
    """Return what is known of an option; what has no effect counts as told."""
    if name == "peepholes":
        return Option() if cell.peepholes is None else Option(cell.peepholes, "family")
    if name == "proj_clip" and cell.num_proj is None:
        return Option(None, "family")
    told = cell.options.get(name, Option())
    # Two uses of a cell that differ leave an activation that is none.
    is_blank = told.value is None and name.endswith(("activation", "forget_bias"))
    return Option() if is_blank else told


def assumptions(settled: Sequence[Settled]) -> list[str]:
    """Return what is assumed of the cells, as lines to tell a user."""
    return _lines(
        (
            one.cell,
            "nothing tells all of its options, and defaults are used: "
            + ", ".join(f"{option} {_word(value)}" for option, value in one.assumed.items()),
        )
        for one in settled
        if one.assumed
    )


def remarks(settled: Sequence[Settled]) -> list[str]:
    """Return what else a user should know: flags that contradict the files, odd graphs."""
    return _lines(
        (one.cell, words) for one in settled for words in [*one.cell.notes, *_contradictions(one)]
    )


def _contradictions(one: Settled) -> Iterator[str]:
    for option, told in one.contradicted.items():
        used = f"--{option.replace('_', '-')} {_word(one.options[option].value)}"
        yield f"{used} is used, and the {told.source} says {_word(told.value)}"


def _lines(told: Iterable[tuple[Cell, str]]) -> list[str]:
    """Return a line for each thing that is told, with the names of all cells that it holds for."""
    names: dict[str, list[str]] = {}
    for cell, words in told:
        names.setdefault(words, []).append(printable(cell.name) or "the cell")
    return [f"{', '.join(cells)}: {words}" for words, cells in names.items()]


def _word(value: Value) -> str:
    """Return a value as its flag takes it."""
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value).lower()
