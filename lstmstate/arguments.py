"""Rules for the names and values of parameters in the Python API."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from functools import wraps

from lstmstate.errors import ArgumentError, first_of, nearest
from lstmstate.type_names import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_P = ParamSpec("_P")
_R = TypeVar("_R")
# Whether a value fits, and a description of those that do, or their names.
Rule = tuple[Callable[[Any], bool], str | Collection[str]]


def is_number(value: object, least: float = -math.inf) -> bool:
    """Return whether a value is a finite number, and not a bool."""
    from numbers import Real

    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    with suppress(OverflowError):
        return math.isfinite(value) and float(value) >= least
    return False


def is_whole(value: object, least: int = 0) -> bool:
    """Return whether a value is an integer, and not a bool."""
    from numbers import Integral

    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def is_bool(value: object) -> bool:
    """Return whether a value is a bool."""
    return isinstance(value, bool)


def one_of(values: Collection[str]) -> Rule:
    """Return a rule for names."""
    return lambda value: isinstance(value, str) and value in values, values


NUMBER: Rule = is_number, "a number"
BOUND: Rule = lambda value: value is None or is_number(value, 0), "None, or a bound"
TOLERANCE: Rule = lambda value: is_number(value, 0), "a number of 0 or more"
WHOLE: Rule = is_whole, "a whole number of 0 or more"
POSITIVE: Rule = lambda value: is_whole(value, 1), "a whole number of 1 or more"
BOOL: Rule = is_bool, "True or False"


def refuse_others(given: Mapping[str, Any], rules: Mapping[str, Rule]) -> None:
    """Raise an ArgumentError for a value that its parameter cannot have."""
    for name, value in given.items():
        fits, known = rules[name]
        if not fits(value):
            advice = f"pass {known}" if isinstance(known, str) else advise_names(value, known)
            raise ArgumentError(f"{name} cannot be {value!r:.40}", advice=advice)


def advise_names(name: object, known: Collection[str], limit: int | None = None) -> str:
    """Return advice with the names nearest to one that is not known, else with `limit` of all."""
    every = first_of([*known], limit or len(known))
    return nearest(str(name), known) or f"pass one of {every}"


def refuse_unknown(kind: str, name: object, known: Collection[str]) -> None:
    """Raise an ArgumentError with the nearest names, or all of them, for a name that is not known.

    >>> refuse_unknown("color", "gren", ["red", "green"])
    Traceback (most recent call last):
    lstmstate.errors.ArgumentError: there is no color 'gren'; did you mean green or red?
    """
    if name not in known:
        raise ArgumentError(f"there is no {kind} {name!r:.40}", advice=advise_names(name, known))


def as_array(values: ArrayLike, name: str) -> NDArray[Any]:
    """Return the value of a parameter as an array.

    Raises:
        ArgumentError: it is a list of lists of unequal lengths.
    """
    import numpy as np

    try:
        return np.asarray(values)
    except ValueError as error:
        problem = f"expected an array as `{name}`, got lists of unequal lengths"
        raise ArgumentError(problem) from error


def name_nearest(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Raise a TypeError with the nearest name if a call has a parameter that does not exist."""
    code = function.__code__
    known = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]

    @wraps(function)
    def call(*args: _P.args, **named: _P.kwargs) -> _R:
        for name in named:
            if name not in known:
                problem = f"{function.__name__}() has no parameter {name!r}"
                raise TypeError(f"{problem}; {nearest(name, known, limit=1, cutoff=0)}")
        return function(*args, **named)

    return call
