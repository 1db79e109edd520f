"""What the names of arrays in a file tell: which is c, which is m, and of which cell."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from lstmstate.cells import state_names
from lstmstate.cells import variable_names as names
from lstmstate.errors import AmbiguousError, printable
from lstmstate.records import NamedTuple
from lstmstate.state.formats.chunked import StoredArray


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
    found = state_names.parse(name)
    if found is None or not found.is_plain:
        return None
    return f"{found.scope}/{found.number}".strip("/"), found.role


def named(arrays: Iterable[StoredArray]) -> list[Named]:
    """Return the arrays whose names say what they are."""
    return [Named(*role, array) for array in arrays if (role := role_of(array.name))]


def by_scope(found: Sequence[Named], roles: Collection[str]) -> dict[str, dict[str, StoredArray]]:
    """Return the arrays of some roles by scope, in the order of the scopes.

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
