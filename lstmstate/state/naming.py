"""What the names of arrays in a file tell: which is c, which is m, and of which cell."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from lstmstate.cells import names
from lstmstate.errors import AmbiguousError, printable
from lstmstate.state.stored import StoredArray

# What files call them; "h" and "hidden" are m's names elsewhere.
_ROLES = {
    "c": ("c", "c_state", "cell", "cell_state"),
    "m": ("m", "m_state", "h", "h_state", "hidden", "hidden_state"),
    "h_n": ("h_n", "hn"),
    "c_n": ("c_n", "cn"),
    "state": ("state", "flat", "flat_state", "saved_state", "initial_state", "final_state"),
}
_ROLE_OF = {name: role for role, called in _ROLES.items() for name in called}
_HALF = re.compile(
    r"(?P<before>(?:.*_)?)(?P<word>(?:c|m|h|cell|hidden)(?:_?states?)?)(?P<number>_?\d+)?"
)
_LONGEST = 64  # a name that says what an array is says it in a word or two


class Named(NamedTuple):
    """An array whose name says what it is.

    Attributes:
        scope: what stands before its role, the name of the cell where it is one's.
        role: "c", "m", "h_n", "c_n" or "state".
    """

    scope: str
    role: str
    array: StoredArray


def role_of(name: str) -> tuple[str, str] | None:
    """Return (scope, role) of the name of an array, None where it says nothing.

    >>> role_of("rnn/cell_0/c"), role_of("h1"), role_of("outputs")
    (('rnn/cell_0', 'c'), ('1', 'm'), None)
    """
    scope, _, leaf = name.rpartition("/")
    leaf = leaf.removesuffix(":0").lower()
    if leaf in _ROLE_OF:
        return scope, _ROLE_OF[leaf]
    word = leaf[:_LONGEST].rstrip("0123456789")
    role = _ROLE_OF.get(word.removesuffix("_")) if len(leaf) <= _LONGEST else None
    return (f"{scope}/{leaf[len(word) :]}".strip("/"), role) if role else None


def named(arrays: Iterable[StoredArray]) -> list[Named]:
    """Return the arrays whose names say what they are."""
    return [Named(*role, array) for array in arrays if (role := role_of(array.name))]


def by_scope(found: Sequence[Named], roles: tuple[str, str]) -> dict[str, dict[str, StoredArray]]:
    """Return the arrays of two roles by scope, in the order of the scopes.

    Raises:
        AmbiguousError: two arrays have the same role in a scope.
    """
    scopes: dict[str, dict[str, StoredArray]] = {}
    for scope, role, array in found:
        if role in roles:
            known = scopes.setdefault(scope, {}).setdefault(role, array)
            if known is not array:
                raise AmbiguousError(
                    f"both {printable(known.name)!r} and {printable(array.name)!r} are names of "
                    f"its {role}",
                    advice="pick one: FILE:NAME, with split and concat",
                )
    return {scope: scopes[scope] for scope in in_order(scopes)}


def in_order(scopes: Iterable[str]) -> list[str]:
    """Return scopes in the order of the numbers in them, where all have one; else as they are.

    >>> in_order(["cell_10", "cell_2"]), in_order(["encoder", "decoder"])
    (['cell_2', 'cell_10'], ['encoder', 'decoder'])
    """
    found = list(scopes)
    numbered = all(any(character.isdigit() for character in scope) for scope in found)
    return sorted(found, key=names.order) if numbered else found


def half_of(path: str) -> tuple[str, str] | None:
    """Return (what is left of a name without its role, "c" or "m"), None where it tells none.

    >>> half_of("rnn/saved_c_state"), half_of("rnn/saved_h_state"), half_of("rnn/kernel")
    (('rnn/saved_', 'c'), ('rnn/saved_', 'm'), None)
    """
    scope, slash, leaf = path.rpartition("/")
    match = _HALF.fullmatch(leaf.lower()) if len(leaf) <= _LONGEST else None
    if match is None:
        return None
    stem = f"{scope}{slash}{leaf[: match.end('before')]}{match['number'] or ''}"
    return stem, "c" if match["word"].startswith("c") else "m"
