"""Options of cells in a tensor of a checkpoint without a graph, which TensorFlow ignores.

The tensor is a string, a line of JSON, as untrusted as all of the file:

    {"version": 1, "cells": {"rnn/lstm_cell": {"forget_bias": 0.0, "cell_clip": null}}}
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lstmstate import limits
from lstmstate.cells.cell import Cell, Option, Value
from lstmstate.checkpoint import Variable
from lstmstate.errors import ArgumentError, CorruptError, UnsupportedError, located
from lstmstate.type_names import TYPE_CHECKING

if TYPE_CHECKING:
    from lstmstate.arguments import Rule

NAME = "lstmstate/options"
_VERSION = 1
Recorded = Mapping[str, Mapping[str, Option]]  # by the name of the cell, by that of the option


def line(cells: Mapping[str, Mapping[str, Value]]) -> str:
    """Return options as the line to store, in ASCII.

    >>> line({"rnn": {"forget_bias": 0.0}})
    '{"version": 1, "cells": {"rnn": {"forget_bias": 0.0}}}'
    """
    import json

    return json.dumps({"version": _VERSION, "cells": cells})


def _rules() -> dict[str, Rule]:
    """Return the values that each option may have: a residual connection is not run."""
    from lstmstate.engines.run_options import RULES, RUN_OPTIONS

    rules = {name: RULES[name] for name in RUN_OPTIONS}
    return {**rules, "residual": (lambda value: value is False, "False")}


def parse(text: bytes) -> Recorded:
    """Read such a line.

    Raises:
        CorruptError: it is not one, or has values that no cell can have.
        UnsupportedError: it is one of a newer release.
    """
    import json

    from lstmstate.arguments import refuse_others

    rules = _rules()
    try:
        fields = json.loads(text)
        version, cells = fields["version"], fields["cells"]
        if version is True or version != _VERSION:
            raise UnsupportedError(
                f"its options are of version {version!r:.40}, and {_VERSION} is read",
                advice="update lstmstate",
            )
        for options in cells.values():
            refuse_others(options, rules)
        return {
            name: {key: Option(_plain(value), "checkpoint") for key, value in options.items()}
            for name, options in cells.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptError("its options cannot be read") from error
    except ArgumentError as error:
        raise CorruptError(f"its options cannot be read: {error.problem}") from error


def _plain(value: Value) -> Value:
    """Return a number as a float, as the options in a graph are."""
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def read(variables: Mapping[str, Variable], path: str) -> Recorded:
    """Return the options that a checkpoint records; none if it has no such tensor.

    Raises:
        LstmstateError: the tensor cannot be read.
    """
    variable = variables.get(NAME)
    if variable is None or variable.dtype != "string" or variable.shape:
        return {}
    with located(path, NAME):
        _refuse_long(variable.nbytes or 0)
        text: bytes = variable.read().item()
        _refuse_long(len(text))  # V1 files do not declare it
        return parse(text)


def _refuse_long(nbytes: int) -> None:
    if nbytes > limits.MAX_OPTIONS_BYTES:
        most = limits.MAX_OPTIONS_BYTES
        raise UnsupportedError(f"options of {nbytes} bytes, and {most} are read")


def known(cells: Iterable[Cell]) -> dict[str, dict[str, Value]]:
    """Return the options of cells that their files show, to record them."""
    rules = _rules()
    return {
        cell.name: {
            name: option.value
            for name, option in cell.options.items()
            if option.source in ("graph", "checkpoint")
            and name in rules
            and rules[name][0](option.value)
        }
        for cell in cells
    }
