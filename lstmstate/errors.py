"""What can go wrong: one base, few kinds, each with the file, the tensor and what to do.

Every error that a user can meet is an `LstmstateError`; its text is one line,

    FILE: TENSOR: what is wrong; what to do about it

and its `exit_code` is the one that the command line ends with.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager


class LstmstateError(Exception):
    """An input, an output or a request that cannot be used.

    Args:
        problem: what is wrong, in a few words.
        path: the file it is about.
        tensor: the variable or key in that file.
        advice: what the user can do.
    """

    exit_code = 3

    def __init__(
        self,
        problem: str,
        *,
        path: str | os.PathLike[str] | None = None,
        tensor: str | None = None,
        advice: str | None = None,
    ) -> None:
        self.problem = problem
        self.path = None if path is None else os.fspath(path)
        self.tensor = tensor
        self.advice = advice
        super().__init__(problem)

    def __str__(self) -> str:
        places = [printable(place) for place in (self.path, self.tensor) if place is not None]
        line = ": ".join([*places, self.problem])
        return f"{line}; {self.advice}" if self.advice else line


class NotFoundError(LstmstateError):
    """A file, a variable or a cell that was asked for is not there."""


class CorruptError(LstmstateError):
    """The bytes are not what the format says they must be."""


class UnsupportedError(LstmstateError):
    """The file is well formed, but not something that this program reads."""


class AmbiguousError(LstmstateError):
    """There is more than one answer, and the user has to choose."""


class GatheredError(LstmstateError):
    """Several parts of an input cannot be used.

    Args:
        errors: one for each of them; the command line shows each on a line of its own.
    """

    def __init__(self, errors: Sequence[LstmstateError]) -> None:
        self.errors = tuple(errors)
        names = ", ".join(printable(error.tensor or "?") for error in errors)
        super().__init__(f"{len(errors)} values cannot be read: {names}", path=errors[0].path)


class WidthError(LstmstateError):
    """An input has vectors of another width than those that a cell takes.

    Args:
        width: theirs.
    """

    def __init__(self, problem: str, width: int, *, advice: str) -> None:
        super().__init__(problem, advice=advice)
        self.width = width


class UnknownOptionError(AmbiguousError):
    """An option of a cell is in no file, and has no single default.

    Args:
        problem: what is not known.
        names: what would settle it: names of options, all of them needed.
        assumable: whether `assume_defaults` would settle it too.
        tensor: the cell.
    """

    def __init__(
        self, problem: str, names: Iterable[str], *, assumable: bool, tensor: str | None
    ) -> None:
        super().__init__(problem, tensor=tensor)
        self.names = tuple(names)
        self.assumable = assumable
        ways = [" and ".join(f"`{name}=...`" for name in self.names)] if self.names else []
        ways += ["`assume_defaults=True`"] if assumable else []
        self.advice = f"give {', or '.join(ways)}"


class MissingExtraError(LstmstateError):
    """A package that is not installed by default is needed."""


@contextmanager
def located(
    path: str | os.PathLike[str] | None = None, tensor: str | None = None
) -> Iterator[None]:
    """Name the file and the tensor in an error that is raised where neither is known."""
    try:
        yield
    except LstmstateError as error:
        error.path = error.path or (None if path is None else os.fspath(path))
        error.tensor = error.tensor or tensor
        raise


def raise_all(errors: Sequence[LstmstateError]) -> None:
    """Raise an error for some that were gathered, none where there are none."""
    if errors:
        raise errors[0] if len(errors) == 1 else GatheredError(errors)


def each(error: LstmstateError) -> tuple[LstmstateError, ...]:
    """Return the errors that were gathered in one, or else the one."""
    return error.errors if isinstance(error, GatheredError) else (error,)


# What code raises for a mistake in itself. Libraries below may raise them for damaged data, too.
_FAULTS = (AssertionError, AttributeError, NameError, TypeError)


def is_fault(error: BaseException) -> bool:
    """Return whether an exception is a fault of this program, and no word on the data it reads."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next  # down to where it was raised
    module = "" if trace is None else trace.tb_frame.f_globals.get("__name__", "")
    return isinstance(error, _FAULTS) and module.partition(".")[0] == __name__.partition(".")[0]


@contextmanager
def raised_as(
    make: Callable[[Exception], LstmstateError], tensor: str | None = None
) -> Iterator[None]:
    """Raise an error of ours in the place of whatever damage leads a library to.

    A fault of this program comes out as it is.
    """
    try:
        with located(tensor=tensor):
            yield
    except LstmstateError:
        raise
    except Exception as error:
        if is_fault(error):
            raise
        with located(tensor=tensor):
            raise make(error) from error


_OF_FUNCTION = re.compile(r"^\0\d+/")  # see checkpoint.functions


def printable(text: str) -> str:
    """Return `text` with every character that could steer a terminal written as an escape.

    Names come from files of strangers: control characters, line separators and the
    characters that turn the direction of writing must not reach a screen as they are.
    A node of a function is shown without the number that its name begins with.

    >>> printable("a\\x1b[31mb"), printable("\\0007/lstm/MatMul")
    ('a\\\\x1b[31mb', 'lstm/MatMul')
    """
    if text[:1] == "\0":
        text = _OF_FUNCTION.sub("", text)
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character
        if character.isprintable()
        else character.encode("unicode_escape", "backslashreplace").decode("ascii")
        for character in text
    )


def count(number: int, word: str) -> str:
    """Return a number with its word, in the plural where it is not one.

    >>> count(1, "cell"), count(19432, "variable")
    ('1 cell', '19,432 variables')
    """
    return f"{number:,} {word}{'' if number == 1 else 's'}"
