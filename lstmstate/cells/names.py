"""What the names of variables tell: scopes and leaves, slots, layers, directions."""

from __future__ import annotations

import re
from functools import lru_cache

from lstmstate.cells.model import Direction

# What optimizers and averages put behind the name of the variable that they follow.
# Source: python/training/{slot_creator,moving_averages}.py and the optimizers (v1.15.0).
_SLOT = re.compile(
    r".+/(Adam|Adamax|AdaMax|AdamW|Nadam|LazyAdam|Momentum|RMSProp|Adagrad|AdagradDA|Adadelta|Ftrl|"
    r"FtrlProximal|ExponentialMovingAverage|ProximalAdagrad|LARS|AddSign|PowerSign|YellowFin|"
    r"(avg|mean|max|min)_?(grad|norm)\w*|biased|local_step|moving_avg|gradient_accumulator)(_\d+)?"
)

AVERAGE = "/ExponentialMovingAverage"

_SNAKE = (re.compile(r"(.)([A-Z][a-z0-9]+)"), re.compile(r"([a-z0-9])([A-Z])"))
_COUNTER = re.compile(r"_\d+$")

_LAYER = re.compile(r"(?:cell[_-]?|Cell|Layer)(\d+)")
_SIDE = re.compile(
    r"(?<![a-z])(?<!feed_)(?:(fwd?|forward)|(bwd?|backward))(?![a-z])", re.IGNORECASE
)
_RECURRENT = re.compile(r"(^|_)(bi|b|bd|multi_?)?(rnn|lstm)s?(_|\d|$)")


def is_slot(path: str, paths: frozenset[str]) -> bool:
    """Whether a variable belongs to an optimizer or is an average of another.

    It is where its name says so, or where it lies "below" another variable: scopes hold
    variables, variables hold nothing but slots.
    """
    return bool(_SLOT.fullmatch(path)) or (path.rpartition("/")[0] in paths)


def inner_paths(path: str) -> list[str]:
    """Return a path and what is left of it without its first parts.

    >>> inner_paths("train_op/rnn/kernel")
    ['train_op/rnn/kernel', 'rnn/kernel', 'kernel']
    """
    parts = path.split("/")
    return ["/".join(parts[start:]) for start in range(len(parts))]


def last(scope: str) -> str:
    """Return the last part of a scope."""
    return scope.rpartition("/")[2]


def parent(scope: str) -> str:
    """Return the scope around a scope."""
    return scope.rpartition("/")[0]


@lru_cache(maxsize=4096)
def word(part: str) -> str:
    """Return a part of a scope in snake case, without the counter of its kind.

    >>> word("BasicLSTMCell"), word("lstm_cell_1"), word("TFLiteLSTMCell")
    ('basic_lstm_cell', 'lstm_cell', 'tf_lite_lstm_cell')
    """
    part = _COUNTER.sub("", part)
    for pattern in _SNAKE:
        part = pattern.sub(r"\1_\2", part)
    return part.lower()


def layer(scope: str) -> tuple[str, int] | None:
    """Return the stack that a cell stands in and its place there, from the innermost number.

    >>> layer("rnn/multi_rnn_cell/cell_1/lstm_cell")
    ('rnn/multi_rnn_cell', 1)
    """
    parts = scope.split("/")
    for at in range(len(parts) - 1, -1, -1):
        found = _LAYER.fullmatch(parts[at])
        if found and not (at and word(parts[at - 1]) in ("recurrent", "non_recurrent")):
            return "/".join(parts[:at]), int(found[1])
        # Keras keeps the cells of a stack in a list: cell/cells/0.
        if parts[at].isdecimal() and at and parts[at - 1] == "cells":
            return "/".join(parts[: at - 1]), int(parts[at])
    return None


def direction(scope: str) -> tuple[str, Direction] | None:
    """Return a scope with "{}" for its directions, and which direction it is (the innermost).

    >>> direction("bidirectional_rnn/fw/encoder_fw_LSTM")
    ('bidirectional_rnn/{}/encoder_{}_LSTM', 'forward')
    """
    found = list(_SIDE.finditer(scope))
    if not found:
        return None
    return _SIDE.sub("{}", scope), "forward" if found[-1][1] else "backward"


def order(scope: str) -> list[tuple[int, str]]:
    """Return a key that sorts cell_2 before cell_10, and forward before backward."""
    told = direction(scope)
    parts = re.split(r"(\d+)", told[0] if told else scope)
    key = [(int(part), "") if part.isascii() and part.isdecimal() else (-1, part) for part in parts]
    return [*key, (1 if told and told[1] == "backward" else 0, "")]


def looks_recurrent(scope: str) -> bool:
    """Whether a scope speaks of a recurrent network, or of a place in one."""
    parts = scope.split("/")
    return (
        any(_RECURRENT.search(word(part)) for part in parts)
        or layer(scope) is not None
        or direction(scope) is not None
    )
