"""What the names of arrays in a file tell: which is c, which is m, and of which cell."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from lstmstate.cells import names
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
_NUMBERED = re.compile(r"(?P<leaf>.*?)_?(?P<number>\d*)")


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
    match = _NUMBERED.fullmatch(leaf)
    role = _ROLE_OF.get(match["leaf"]) if match else None
    if match is None or role is None:
        return None
    return f"{scope}/{match['number']}".strip("/"), role


def named(arrays: Iterable[StoredArray]) -> list[Named]:
    """Return the arrays whose names say what they are."""
    return [Named(*role, array) for array in arrays if (role := role_of(array.name))]


def pairs(found: Sequence[Named], *, ordered: bool) -> dict[str, dict[str, StoredArray]]:
    """Return c and m by scope, in the order of the file, or of the numbers in the scopes."""
    scopes: dict[str, dict[str, StoredArray]] = {}
    for scope, role, array in found:
        if role in ("c", "m"):
            scopes.setdefault(scope, {}).setdefault(role, array)
    order = scopes if ordered else sorted(scopes, key=names.order)
    return {scope: scopes[scope] for scope in order}
