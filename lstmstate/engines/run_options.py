"""The options that a cell is run with: of a user, of the files, or assumed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from lstmstate.arguments import BOOL, BOUND, NUMBER, Rule, one_of
from lstmstate.cells import variable_names as names
from lstmstate.cells.activations import ACTIVATIONS
from lstmstate.cells.cell import (
    MIXED,
    STRANGE,
    UNKNOWN,
    Cell,
    Documented,
    Option,
    Value,
    unexplained_words,
)
from lstmstate.cells.families import row_of
from lstmstate.cells.family import COMMON
from lstmstate.cells.options_from_files import take_strongest
from lstmstate.cells.shapes import PEEPHOLES
from lstmstate.errors import UnknownOptionError, printable
from lstmstate.named_tuple import NamedTuple

# The defaults of TensorFlow's classes, the same in all of them. recurrent_activation has no such
# default: see `Cell.documented`.
_ASSUMED: dict[str, Value] = {
    "forget_bias": COMMON["forget_bias"].value,
    "cell_clip": None,
    "proj_clip": None,
    "activation": "tanh",
    "peepholes": False,
}
RUN_OPTIONS = (
    "forget_bias",
    "cell_clip",
    "proj_clip",
    "activation",
    "recurrent_activation",
    "peepholes",
)
# Options with these sources do not show that the files record how a cell is used.
_UNRECORDED = ("default", "family", "unknown", "checkpoint")
# Not an option of cells: whether to take a default if there is more than one.
ASSUME_DEFAULTS = "assume_defaults"


# The values that a user may pass.
RULES: dict[str, Rule] = {
    "forget_bias": NUMBER,
    **dict.fromkeys(("cell_clip", "proj_clip"), BOUND),
    **dict.fromkeys(("activation", "recurrent_activation"), one_of(ACTIVATIONS)),
    **dict.fromkeys(("peepholes", ASSUME_DEFAULTS), BOOL),
}


class Settled(NamedTuple):
    """The options of a cell.

    Attributes:
        options: by name; the source is "graph", "checkpoint", "family", "option" if a user passed
            it, "default" if the files do not record it, or "unknown" if it has no single default
            either.
        contradicted: the options in the files that a user passed with another value.
        idle: the options that a user passed and that have no effect on the cell.
        accepted: the defaults that were chosen from several, because the user accepts them.
        unknown: the options, and "family", that the user has to settle, each with the reason.
    """

    cell: Cell
    options: dict[str, Option]
    contradicted: dict[str, Option]
    idle: tuple[str, ...] = ()
    accepted: dict[str, Documented] = {}  # noqa: RUF012 - never changed
    unknown: dict[str, str] = {}  # noqa: RUF012 - never changed

    @property
    def values(self) -> dict[str, Value]:
        """The options without their sources."""
        return {name: option.value for name, option in self.options.items()}

    @property
    def assumed(self) -> dict[str, Value]:
        """The options that the files do not record."""
        return {
            name: option.value
            for name, option in self.options.items()
            if option.source == "default"
        }


def settle_run_options(
    cell: Cell, given: Mapping[str, Value], *, is_upper: bool = False
) -> Settled:
    """Return the options to run a cell with.

    Args:
        given: values by the names of RUN_OPTIONS; with `assume_defaults` true, an option
            without a single default gets the one that is documented for the cell.
        is_upper: whether the cell is above another one in its stack: residuals are usual there.

    >>> from lstmstate import open_checkpoint
    >>> cell = open_checkpoint("sample_checkpoints/peephole_flat").cells["rnn/lstm_cell"]
    >>> settle_run_options(cell, {"cell_clip": None}).options["cell_clip"]
    Option(value=None, source='option')
    """
    if row_of(cell.family).is_block and given.get("cell_clip") == 0:
        given = {**given, "cell_clip": None}  # contrib/rnn/kernels/lstm_ops.h
    idle = tuple(name for name in RUN_OPTIONS if given.get(name) and _is_idle(cell, name))
    passed = {
        name: Option(given[name], "option")
        for name in RUN_OPTIONS
        if name in given and name not in idle
    }
    found = {name: _in_files(cell, name) for name in RUN_OPTIONS}
    open_ones = {name: one for name, one in cell.documented.items() if name not in passed}
    accepted = open_ones if given.get(ASSUME_DEFAULTS) else {}
    options = {
        name: take_strongest(
            passed.get(name),
            found[name],
            Option(accepted[name].value, "default") if name in accepted else None,
            Option(_ASSUMED[name], "default") if name in _ASSUMED else None,
        )
        for name in RUN_OPTIONS
    }
    contradicted = {
        name: known
        for name, option in passed.items()
        if (known := found[name]) and known.source != "default" and known.value != option.value
    }
    unknown = {name: "" for name, option in options.items() if option == UNKNOWN}
    if not given.get(ASSUME_DEFAULTS):
        unknown |= {name: one.words for name, one in open_ones.items()}
        if is_upper and _may_be_residual(cell):
            unknown["residual"] = "a ResidualWrapper leaves no variable, and its input fits"
    return Settled(cell, options, contradicted, idle, accepted, unknown)


def _is_idle(cell: Cell, name: str) -> bool:
    """Whether an option has no effect: peepholes or a projection's clip of a cell without."""
    if name == "peepholes":
        return not any(role in cell.variables for role in PEEPHOLES)
    return name == "proj_clip" and cell.num_proj is None


def _in_files(cell: Cell, name: str) -> Option | None:
    """Return an option as the files record it, or its one default; None if there is neither."""
    if name == "peepholes":
        return None if cell.peepholes is None else Option(cell.peepholes, "family")
    if name == "proj_clip" and cell.num_proj is None:
        return Option(None, "family")  # without effect
    option = cell.options.get(name, UNKNOWN)
    # Two uses of a cell that differ have None for their activation.
    is_blank = option.value is None and name.endswith(("activation", "forget_bias"))
    if is_blank or option.source == "unknown":
        return None
    return option


def refuse_unknown(settled: Iterable[Settled]) -> None:
    """Refuse a cell with an option that the files do not record and that has no single default."""
    for one in settled:
        if one.unknown:
            raise UnknownOptionError(
                _unknown_words(one),
                (name for name in one.unknown if name in RUN_OPTIONS),
                assumable=all(one.unknown.values()),
                tensor=one.cell.name,
            )


def _unknown_words(one: Settled) -> str:
    odd = unexplained_words(one.cell.unexplained)
    if odd is not None:
        return f"{odd}; its {' and its '.join(one.unknown)} cannot be read"
    lines = (f"{name}{f' ({words})' if words else ''}" for name, words in one.unknown.items())
    return f"the files do not record its {' or its '.join(lines)}"


def assumptions(settled: Sequence[Settled]) -> list[str]:
    """Return the assumptions about some cells, as lines for a user."""
    is_stack = len({one.cell.layer for one in settled}) > 1
    return _lines(
        (one.cell, words) for one in settled for words in _assumed(one, is_in_stack=is_stack)
    )


def _assumed(one: Settled, *, is_in_stack: bool) -> Iterator[str]:
    single = {name: value for name, value in one.assumed.items() if name not in one.accepted}
    if single:
        used = ", ".join(f"{option} {_word(value)}" for option, value in single.items())
        yield f"the files do not record all of its options, and defaults are used: {used}"
    for name, (value, words) in one.accepted.items():
        yield f"the files do not record its {name}, and {_word(value)} is assumed ({words})"
    around = " or ".join(_around(one.cell, is_in_stack=is_in_stack))
    if around:
        yield f"the files do not record whether {around} goes around it, and none is assumed"
    for note in one.cell.notes:
        if note == MIXED:
            yield f"the cell is run alone, and {MIXED}"
        elif note.startswith(STRANGE):
            yield f"{note}: it is run without them"


def _around(cell: Cell, *, is_in_stack: bool) -> Iterator[str]:
    """Yield the parts around a cell that leave no variable, if there is no graph."""
    if is_in_stack and _is_unrecorded(cell):
        yield "an activation"
    if _may_be_residual(cell):
        yield "a residual"


def _may_be_residual(cell: Cell) -> bool:
    return cell.state is not None and cell.input_size == cell.state.m and _is_unrecorded(cell)


def _is_unrecorded(cell: Cell) -> bool:
    """Whether no file shows how a cell is used, and its class has wrappers."""
    is_recorded = any(one.source not in _UNRECORDED for one in cell.options.values())
    is_recorded |= cell.extra.get("residual") is False
    return not is_recorded and not row_of(cell.family).is_layer


def remarks(settled: Sequence[Settled]) -> list[str]:
    """Return other notes for a user: flags that contradict the files, odd graphs."""
    return _lines((one.cell, words) for one in settled for words in _remarks(one))


def _remarks(one: Settled) -> Iterator[str]:
    if one.cell.dtype == "bfloat16":
        yield "it is bfloat16, which is run as float32: TensorFlow rounds every step"
    yield from (note for note in one.cell.notes if not note.startswith((MIXED, STRANGE)))
    wrapper = names.wrapper(one.cell.name)
    if wrapper is not None:
        yield f"only the cell is run, without {printable(wrapper)} around it"
    for option, known in one.contradicted.items():
        value = one.options[option].value
        used = f"{value:g}" if isinstance(value, float) else repr(value)
        yield f"`{option}={used}` is used, and the {known.source} has {_word(known.value)}"
    for option in one.idle:
        yield f"`{option}=...` has no effect: there is nothing for it to act on"


def _lines(notes: Iterable[tuple[Cell, str]]) -> list[str]:
    """Return a line for each different note, with the names of all its cells."""
    cells: dict[str, list[str]] = {}
    for cell, words in notes:
        cells.setdefault(words, []).append(printable(cell.name) or "the cell")
    return [f"{', '.join(called)}: {words}" for words, called in cells.items()]


def _word(value: Value) -> str:
    """Return a value as a user writes it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
