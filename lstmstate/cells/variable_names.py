"""Names of variables: scopes and leaves, slots, layers, directions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

from lstmstate.cells.cell import Direction
from lstmstate.named_tuple import NamedTuple
from lstmstate.type_names import Protocol

# Suffixes that optimizers and averages add to the names of variables.
# Source: python/training/{slot_creator,moving_averages}.py and the optimizers (v1.15.0).
_SLOTS = frozenset(
    """
    Adam Adamax AdaMax AdamW Nadam LazyAdam Momentum RMSProp Adagrad AdagradDA Adadelta Ftrl
    FtrlProximal ExponentialMovingAverage ProximalAdagrad LARS AddSign PowerSign YellowFin
    biased local_step moving_avg gradient_accumulator
    """.split()
)
_OF_GRADIENTS = r"(avg|mean|max|min)_?(grad|norm)\w*"

AVERAGE = "/ExponentialMovingAverage"

_SNAKE = (re.compile(r"(.)([A-Z][a-z0-9]+)"), re.compile(r"([a-z0-9])([A-Z])"))
_COUNTER = re.compile(r"_\d+$")

_DEEPEST = 16  # scopes around a training operation, and stacks in stacks
_LAYER = re.compile(r"(?:cell[_-]?|Cell|Layer)(\d{1,6})")
_NUMBERED = re.compile(r"(?:^|/)(?:cell[_-]?|Cell|Layer)?\d+(?:/|$)")
# "fw" and "bw" are words of their own; whole words also name forward models and passes.
_SIDE = (
    r"(?i)(?<![a-z])(?:(?P<fw>fwd?)|(?P<bw>bwd?))(?![a-z])"
    r"|(?:(?<=/)|^)(?:(?P<forward>forward)|(?P<backward>backward))"
    r"(?=(?:_\d+)?(?:/|$)|_(?:lstm|rnn|layer|cell|gru|encoder))"
    r"|(?<=lstm_|cell_)(?:(?P<ahead>forward)|(?P<back>backward))(?=(?:_\d+)?(?:/|$))"
)
_HAS_SIDE = ("fw", "bw", "forward", "backward")  # one of these is in what matches
_NUMBER = re.compile(r"[0-9]{1,9}")
_BACK = ("bw", "backward", "back")
_GAP = "\0"  # the place of a direction in a pattern; no name can hold it
_RECURRENT = r"(^|_)(bi|b|bd|multi_?)?rnn(_|\d|$)"
_LSTM = r"(.*_)?(bi|b|bd|c)?_?lstms?(_?(cell|layer|fw|bw|forward|backward|encoder|decoder|\d+))*"


class HasShape(Protocol):
    """A variable, as far as `is_slot` needs it."""

    @property
    def shape(self) -> tuple[int, ...]: ...


def is_slot(path: str, others: Mapping[str, HasShape]) -> bool:
    """Whether a variable belongs to an optimizer or is an average of another.

    Its name shows it, or it is "below" another variable and has its shape
    (or is one number): scopes hold variables, variables only hold slots.

    Args:
        others: all variables by path; the variable itself is among them, or there are none.
    """
    scope, _, leaf = path.rpartition("/")
    if scope and _is_leaf_of_slot(leaf):
        return True
    above = others.get(scope)
    return above is not None and others[path].shape in (above.shape, ())


def _is_leaf_of_slot(leaf: str) -> bool:
    has_counter = leaf[-1:].isdecimal()
    plain = _COUNTER.sub("", leaf) if has_counter else leaf
    is_of_gradients = leaf[:1] in ("a", "m") and re.fullmatch(_OF_GRADIENTS, leaf) is not None
    return plain in _SLOTS or is_of_gradients


def inner_paths(path: str) -> list[str]:
    """Return a path and its ends without its first parts.

    >>> inner_paths("train_op/rnn/kernel")
    ['train_op/rnn/kernel', 'rnn/kernel', 'kernel']
    """
    parts = path.split("/")
    return ["/".join(parts[start:]) for start in range(min(len(parts), _DEEPEST))]


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


class NumberedPlace(NamedTuple):
    """A numbered place around a scope.

    Attributes:
        stack: the scope that numbers its places.
        below: how many parts of the scope are below the place.
    """

    stack: str
    number: int
    below: int


def places(scope: str) -> list[NumberedPlace]:
    """Return the numbered places around a scope, the innermost last.

    >>> places("rnn/multi_rnn_cell/cell_1/lstm_cell")
    [NumberedPlace(stack='rnn/multi_rnn_cell', number=1, below=1)]
    """
    if _NUMBERED.search(scope) is None:
        return []  # nearly all
    parts = scope.split("/")
    found: list[NumberedPlace] = []
    for at, part in enumerate(parts):
        if len(found) == _DEEPEST:
            break
        if not part[-1:].isdecimal():
            continue
        numbered, rest = _LAYER.fullmatch(part), len(parts) - at - 1
        # The dimensions of a grid are numbered too.
        if numbered and not (at and word(parts[at - 1]) in ("recurrent", "non_recurrent")):
            found.append(NumberedPlace("/".join(parts[:at]), int(numbered[1]), rest))
        elif at and _NUMBER.fullmatch(part) and _is_list_of_cells(parts, at - 1):
            found.append(NumberedPlace("/".join(parts[: at - 1]), int(part), rest))
    return found


def _is_list_of_cells(parts: list[str], at: int) -> bool:
    """Whether a part of a scope is a stack's list of cells.

    Keras has cell/cells/0. The DeepRNN of Sonnet 2 has _layers/0, with the variables just below;
    a model of Keras may have layers in a list of that name, each with a cell.
    """
    is_near = len(parts) - at <= 3 and parts[-1] != "cell"
    return parts[at] == "cells" or (parts[at] == "_layers" and is_near)


def layers(scope: str) -> list[tuple[str, int]]:
    """Return the stacks around a scope and its places there, the innermost last.

    >>> layers("rnn/multi_rnn_cell/cell_1/lstm_cell")
    [('rnn/multi_rnn_cell', 1)]
    """
    return [place[:2] for place in places(scope)]


def layer(scope: str) -> tuple[str, int] | None:
    """Return the innermost stack around a cell, and its place there."""
    found = layers(scope)
    return found[-1] if found else None


def direction(scope: str) -> tuple[str, Direction] | None:
    """Return a pattern of a scope, the same for both directions, and its innermost direction.

    >>> direction("bidirectional_rnn/fw/lstm_cell")[1]
    'forward'
    """
    found = _sides(scope)
    if not found:
        return None
    back = any(found[-1][name] for name in _BACK)
    return re.sub(_SIDE, _GAP, scope), "backward" if back else "forward"


def _sides(scope: str) -> list[re.Match[str]]:
    """Return the words for directions in a scope; the pattern is only made for one with any."""
    lower = scope.lower()
    return list(re.finditer(_SIDE, scope)) if any(word in lower for word in _HAS_SIDE) else []


def remove_direction(scope: str) -> str:
    """Return a scope without the words for directions.

    >>> remove_direction("BiRNN_FW/LSTMCell"), remove_direction("birnn/bw/lstm_cell")
    ('BiRNN_/LSTMCell', 'birnn//lstm_cell')
    """
    return re.sub(_SIDE, "", scope) if _sides(scope) else scope


def pair(scope: str) -> tuple[str, str] | None:
    """Return a key that a cell shares with its other direction, and a name to show.

    >>> pair("bidirectional_rnn/fw/lstm_cell")[1], pair("BiRNN_BW/LSTMCell")[1]
    ('bidirectional_rnn', 'BiRNN')
    """
    side = direction(scope)
    if side is None:
        return None
    parts = side[0].split("/")
    at = next(number for number, part in enumerate(parts) if _GAP in part)
    rest = parts[at].replace(_GAP, "").strip("_")
    # "forward_layer" leaves no name; "fw1" leaves the number, "BiRNN_FW" the name.
    shown = (
        parts[:at] if parts[at].startswith(_GAP) and not rest.isdecimal() else [*parts[:at], rest]
    )
    return "/".join(parts[: at + 1]), "/".join(part for part in shown if part)


def use_of(name: str, use: int) -> str:
    """Return the name of a use of a cell as a layer: NAME, NAME#2, …"""
    return name if use == 0 else f"{name}#{use + 1}"


def order(scope: str) -> list[tuple[int, str]]:
    """Return a key that sorts cell_2 before cell_10, and forward before backward.

    The outer part counts first: fw/cell_0, fw/cell_1, bw/cell_0; and cell_0/fw, cell_0/bw,
    cell_1/fw.
    """
    key: list[tuple[int, str]] = []
    at = 0
    for side in _sides(scope):
        key += _split_numbers(scope[at : side.start()])
        key.append((int(any(side[name] for name in _BACK)), ""))
        at = side.end()
    return key + _split_numbers(scope[at:])


def _split_numbers(text: str) -> list[tuple[int, str]]:
    parts = re.split(r"(\d+)", text)
    return [(int(part), "") if _NUMBER.fullmatch(part) else (-1, part) for part in parts]


def is_cell_scope(part: str) -> bool:
    """Whether a part of a scope can be that of a cell: it names no loop and no direction."""
    return word(part) != "rnn" and not _sides(part)


def is_attention(part: str) -> bool:
    """Whether a part of a scope is the wrapper with a further state of its own."""
    return word(part) == "attention_cell_wrapper"


# Variables that only cells have, besides kernel and bias.
_PART = (
    r"norm_[01]|mask|w_[ifo]_diag|W_[IFO]_diag|wc[ifo]|projection/.+|group\d+/kernel"
    r"|(?:input|transform|forget|output|state)/(?:gamma|beta)"
)


def is_part(leaf: str) -> bool:
    """Whether a name below a scope is one that variables of cells have, and no others.

    >>> is_part("forget/gamma"), is_part("dense/kernel")
    (True, False)
    """
    return bool(re.fullmatch(_PART, leaf))


_WRAPPERS = frozenset(
    """
    attention_cell_wrapper attention_wrapper input_projection_wrapper output_projection_wrapper
    embedding_wrapper highway_wrapper
    """.split()
)


def common_scope(names: Sequence[str]) -> str:
    """Return the scope that some names share.

    >>> common_scope(["rnn/cell_0/kernel", "rnn/cell_1/kernel"])
    'rnn'
    """
    common: list[str] = []
    for level in zip(*(name.split("/")[:-1] for name in names), strict=False):
        if len(set(level)) != 1:
            break
        common.append(level[0])
    return "/".join(common)


def wrapper(scope: str) -> str | None:
    """Return the part of a scope that is a wrapper with operations around the cell in it.

    >>> wrapper("rnn/output_projection_wrapper/lstm_cell"), wrapper("rnn/lstm_cell")
    ('output_projection_wrapper', None)
    """
    return next((part for part in scope.split("/") if word(part) in _WRAPPERS), None)


def is_lstm_word(part: str) -> bool:
    """Whether a part of a scope is a name for an LSTM.

    >>> is_lstm_word("decoder_LSTM_1"), is_lstm_word("lstm_to_tags")
    (True, False)
    """
    return bool(re.fullmatch(_LSTM, word(part)))


def is_recurrent_place(scope: str) -> bool:
    """Whether a scope is in a usual place of cells: `rnn`, `cell_0`, `fw`, …"""
    around = parent(scope)
    return bool(
        re.search(_RECURRENT, word(last(around)))
        or _LAYER.fullmatch(last(around))
        or _sides(last(around))
    )
