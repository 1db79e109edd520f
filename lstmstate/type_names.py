"""Names of `typing` for annotations, without its import.

No annotation is evaluated when a program runs, and the import of `typing` takes a twentieth of the
time of `inspect`: modules on its way have these names from here. Type checkers see those of
`typing`.
"""

from __future__ import annotations

__all__ = [
    "IO",
    "TYPE_CHECKING",
    "Any",
    "Literal",
    "NoReturn",
    "ParamSpec",
    "Protocol",
    "TypeVar",
]

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import IO, Any, Literal, NoReturn, ParamSpec, Protocol, TypeVar
else:

    class _Name:
        """A name that may be called, have an index, or be a base, and has no other meaning."""

        def __call__(self, *_, **__):
            return self

        def __getitem__(self, _):
            return self

        def __mro_entries__(self, _):
            return ()

    IO = Any = Literal = NoReturn = ParamSpec = Protocol = TypeVar = _Name()
