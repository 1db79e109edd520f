"""Errors: one base class and few kinds, each with a file, a tensor and advice.

Every error for a user is an `LstmstateError`; its text is one line,

    FILE: TENSOR: problem; advice
"""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType, FunctionType

_LISTED = 3  # values of a missing file that an error names
_PACKAGE = __name__.partition(".")[0]


class Brief(type):
    """The metaclass of public classes, whose `help()` lists its own methods only.

    It would list the methods of `tuple` and `Exception` else, at twice the length. Fields and
    properties are in the docstring.
    """

    def __dir__(cls) -> list[str]:
        kinds = (FunctionType, classmethod)
        return [n for n, value in vars(cls).items() if n[0] != "_" and isinstance(value, kinds)]


class LstmstateError(Exception, metaclass=Brief):
    """An input, an output or a request that cannot be used.

    Args:
        problem: the expectation that was not met, in a few words.
        path: the file with the problem.
        tensor: the variable or key in that file.
        advice: a way out for the user.
    """

    def __init__(
        self,
        problem: str,
        *,
        path: str | os.PathLike[str] | None = None,
        tensor: str | None = None,
        advice: str | None = None,
    ) -> None:
        super().__init__(problem)
        self.problem = problem
        self.path = None if path is None else os.fspath(path)
        self.tensor = tensor
        self.advice = advice

    def __str__(self) -> str:
        places = [printable(place) for place in (self.path, self.tensor) if place is not None]
        line = ": ".join([*places, self.problem])
        return f"{line}; {self.advice}" if self.advice else line


class NotFoundError(LstmstateError, LookupError):
    """No file, variable, cell or stack has the name; a LookupError, too."""


class UnknownNameError(NotFoundError, KeyError):
    """A mapping by name lacks a name; a KeyError, too."""


class _FileError(LstmstateError, OSError):
    """A path that the system refuses; an OSError, too."""

    number = 0

    def __init__(
        self,
        problem: str,
        *,
        path: str | os.PathLike[str] | None = None,
        tensor: str | None = None,
        advice: str | None = None,
    ) -> None:
        super().__init__(problem, path=path, tensor=tensor, advice=advice)
        self.errno, self.strerror, self.filename = self.number, problem, self.path


class MissingFileError(_FileError, NotFoundError, FileNotFoundError):
    """No file or folder has the path; a FileNotFoundError, too."""

    number = errno.ENOENT


class ExistingFileError(_FileError, FileExistsError):
    """A file that exists would be replaced; a FileExistsError, too."""

    number = errno.EEXIST


class NoPermissionError(_FileError, PermissionError):
    """The system permits no reading or no writing; a PermissionError, too."""

    number = errno.EACCES


class ArgumentError(LstmstateError, ValueError):
    """An argument with a shape or a value that cannot be used; a ValueError, too."""


class CorruptError(LstmstateError):
    """The bytes contradict their format."""


class UnsupportedError(LstmstateError):
    """The file is well formed, but this program does not read or run it."""


class AmbiguousError(LstmstateError):
    """There is more than one answer, and the user has to choose."""


class GatheredError(LstmstateError):
    """Several parts of an input cannot be used.

    Args:
        errors: one for each part; the command line shows each on its own line.
    """

    def __init__(self, errors: Sequence[LstmstateError]) -> None:
        self.errors = tuple(errors)
        names = ", ".join(printable(error.tensor or "?") for error in errors)
        super().__init__(f"{len(errors)} values cannot be read: {names}", path=errors[0].path)


class WidthError(ArgumentError):
    """An input with vectors of another width than a cell takes.

    Args:
        width: the width of these vectors.
    """

    def __init__(self, problem: str, width: int, *, advice: str) -> None:
        super().__init__(problem, advice=advice)
        self.width = width


class UnknownOptionError(AmbiguousError):
    """An option of a cell is in no file, and has no single default.

    Attributes:
        names: the parameters to give, all of them.
        assumable: whether `assume_defaults` would do instead.
    """

    def __init__(
        self, problem: str, names: Iterable[str], *, assumable: bool, tensor: str | None
    ) -> None:
        self.names = tuple(names)
        self.assumable = assumable
        ways = [" and ".join(f"`{name}=...`" for name in self.names)] if self.names else []
        ways += ["`assume_defaults=True`"] if assumable else []
        super().__init__(problem, tensor=tensor, advice=f"give {', or '.join(ways)}")


class MissingExtraError(LstmstateError, ImportError):
    """A package is needed that is not installed by default; an ImportError, too."""


class located:  # noqa: N801 - a context manager by the name of a function; a generator takes longer
    """Add the file and the tensor to an error that is raised without them."""

    def __init__(
        self, path: str | os.PathLike[str] | None = None, tensor: str | None = None
    ) -> None:
        self._path = path
        self._tensor = tensor

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, LstmstateError):
            error.path = error.path or (None if self._path is None else os.fspath(self._path))
            error.tensor = error.tensor or self._tensor


def warn(lines: Iterable[str]) -> None:
    """Warn of some lines, each at the line that called this package."""
    import warnings

    level, frame = 1, sys._getframe()
    while frame.f_back is not None and _is_ours(frame):
        level, frame = level + 1, frame.f_back
    for line in lines:
        warnings.warn(line, stacklevel=level)


def raise_all(errors: Sequence[LstmstateError]) -> None:
    """Raise one error for all that were gathered; none if the list is empty."""
    if errors:
        raise errors[0] if len(errors) == 1 else GatheredError(errors)


def each(*errors: LstmstateError) -> tuple[LstmstateError, ...]:
    """Return some errors, or those that they gather; one for all values of a missing file."""
    groups: dict[object, list[LstmstateError]] = {}
    for error in errors:
        for one in error.errors if isinstance(error, GatheredError) else (error,):
            key = (one.path, one.problem) if isinstance(one, MissingFileError) else id(one)
            groups.setdefault(key, []).append(one)
    return tuple(_of_all(group) if len(group) > 1 else group[0] for group in groups.values())


def _of_all(errors: Sequence[LstmstateError]) -> MissingFileError:
    """Return one error for several values of a missing file."""
    names = first_of([error.tensor or "?" for error in errors], _LISTED)
    values = f"{count(len(errors), 'value')} ({names})"
    first = errors[0]
    return MissingFileError(first.problem, path=first.path, tensor=values, advice=first.advice)


# What code raises for a mistake in itself. Libraries below may raise them for damaged data, too.
_FAULTS = (AssertionError, AttributeError, NameError, TypeError)


def is_fault(error: BaseException) -> bool:
    """Return whether an exception is a fault of this program rather than damage in its data."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next  # down to where it was raised
    return isinstance(error, _FAULTS) and trace is not None and _is_ours(trace.tb_frame)


def _is_ours(frame: FrameType) -> bool:
    name: str = frame.f_globals.get("__name__", "")
    return name.partition(".")[0] == _PACKAGE


@contextmanager
def raised_as(
    make: Callable[[Exception], LstmstateError], tensor: str | None = None
) -> Iterator[None]:
    """Raise an error of ours in place of one that damaged data causes in a library.

    A fault of this program is raised unchanged, and so is a lack of memory.
    """
    try:
        with located(tensor=tensor):
            yield
    except (LstmstateError, MemoryError):
        raise
    except Exception as error:
        if is_fault(error):
            raise
        with located(tensor=tensor):
            raise make(error) from error


_OF_FUNCTION = re.compile(r"^\0\d+/")  # see `checkpoint.inlining`


def printable(text: str) -> str:
    """Return `text` with every character that could steer a terminal written as an escape.

    Names come from untrusted files: control characters, line separators and the characters
    that change the direction of writing must not reach a screen unescaped.
    A node of a function is shown without the number at the start of its name.

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


def first_of(names: Sequence[str], limit: int) -> str:
    """Return the first of some names, fit for a screen, and the number of the others.

    >>> first_of(["a", "b", "c"], 3), first_of(["a", "b", "c"], 2)
    ('a, b, c', 'a, b and 1 more')
    """
    more = f" and {len(names) - limit:,} more" if len(names) > limit else ""
    return ", ".join(map(printable, names[:limit])) + more


def nearest(
    name: str, known: Iterable[str], *, limit: int = 3, cutoff: float = 0.5, folder: str = ""
) -> str | None:
    """Return advice with the known names, in a folder, that are most like one; None if none is.

    >>> nearest("kernal", ["bias", "kernel"])
    'did you mean kernel?'
    """
    from difflib import get_close_matches

    found = get_close_matches(name, list(known), limit, cutoff)
    names = " or ".join(printable(f"{folder}{one}") for one in found)
    return f"did you mean {names}?" if found else None


def count(number: int, word: str) -> str:
    """Return a number with its word, in the plural unless the number is one.

    >>> count(1, "cell"), count(19432, "variable")
    ('1 cell', '19,432 variables')
    """
    return f"{number:,} {word}{'' if number == 1 else 's'}"
