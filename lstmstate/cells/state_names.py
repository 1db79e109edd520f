"""Names of states and of their halves: one vocabulary for variables and for arrays in files."""

from __future__ import annotations

import re
from functools import lru_cache

from lstmstate.named_tuple import NamedTuple

# The words for c, for m, for those of torch.nn.LSTM, and for a state as a whole.
_WORDS = {
    "c": r"c|(?:c|cell)_?states?|(?<!lstm)(?<!rnn)(?<!lstm_)(?<!rnn_)cell",
    "m": r"m|h|hidden|(?:m|h|hidden)_?states?",
    "h_n": r"h_?n",
    "c_n": r"c_?n",
    "state": r"states?|flat(?:_?states?)?|carry",
}
HALVES = {"c": "c", "m": "m", "c_n": "c", "h_n": "m"}  # the roles that are half a state
# Words that may come before; with others ("weights_hidden", "cell_bias") it is not a state.
_BEFORE = (
    "lstm rnn init initial last final saved keep kept prev previous current zero states state"
).split()
_ROLE = "|".join(f"(?P<{role}>{words})" for role, words in _WORDS.items())
_PLAIN = rf"(?P<plain>(?:(?:{'|'.join(_BEFORE)})_?(?:\d+_)?)*)"
_NAME = rf"(?P<before>{_PLAIN}|(?:.*_)?)(?:{_ROLE})(?P<number>_?\d+)?"
_LONGEST = 64  # characters; names of states are short


class StateName(NamedTuple):
    """The parts of a name of a state, for a variable or an array.

    Attributes:
        scope: the path before its last part.
        role: "c", "m", "h_n", "c_n" or "state".
        number: the number of a layer, such as "1" of `h_1`; "" if there is none.
        stem: the name without the word for its role, equal for both halves of a state.
        is_plain: whether all words of the last part are those of a state.
    """

    scope: str
    role: str
    number: str
    stem: str
    is_plain: bool


@lru_cache(maxsize=4096)
def parse(path: str) -> StateName | None:
    """Return the parts of a name of a state, None for any other name.

    >>> parse("rnn/last_c_1")
    StateName(scope='rnn', role='c', number='1', stem='rnn/last__1', is_plain=True)
    >>> parse("decoder_h").is_plain, parse("kernel")
    (False, None)
    """
    scope, slash, leaf = path.removesuffix(":0").rpartition("/")
    if len(leaf) > _LONGEST:
        return None
    match = re.fullmatch(_NAME, leaf.lower())
    if match is None:
        return None
    numbers = re.findall(r"\d+", match["before"] + (match["number"] or ""))
    return StateName(
        scope,
        next(role for role in _WORDS if match[role]),
        numbers[0] if len(numbers) == 1 else "",
        f"{scope}{slash}{leaf[: match.end('before')]}{match['number'] or ''}",
        match["plain"] is not None and len(numbers) < 2,
    )


def role_of(name: str) -> tuple[str, str] | None:
    """Return (scope, role) by the name of an array, None if it is not that of a state.

    >>> role_of("rnn/cell_0/c"), role_of("h1"), role_of("outputs")
    (('rnn/cell_0', 'c'), ('1', 'm'), None)
    """
    found = parse(name)
    if found is None or not found.is_plain:
        return None
    return f"{found.scope}/{found.number}".strip("/"), found.role
