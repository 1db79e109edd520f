"""The options that a cell is run with: what the graph tells, what a user gives, what is assumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from lstmstate.cells.model import Cell, Option, Value
from lstmstate.errors import printable

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


def notes_of(settled: Sequence[Settled]) -> list[str]:
    """Return what a user should know of the options: what is assumed, what is contradicted."""
    by_words: dict[str, list[str]] = {}
    for one in settled:
        name = printable(one.cell.name) or "the cell"
        for option, told in one.contradicted.items():
            flag = f"--{option.replace('_', '-')}"
            words = (
                f"{flag} {_word(one.options[option].value)} is used, and the {told.source} "
                f"says {_word(told.value)}"
            )
            by_words.setdefault(words, []).append(name)
        if one.assumed:
            used = ", ".join(f"{option} {_word(value)}" for option, value in one.assumed.items())
            words = f"nothing tells all of its options, and defaults are used: {used}"
            by_words.setdefault(words, []).append(name)
    return [f"{', '.join(names)}: {words}" for words, names in by_words.items()]


def _word(value: Value) -> str:
    """Return a value as its flag takes it."""
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value).lower()
