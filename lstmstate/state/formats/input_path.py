"""Paths that a user passes, each resolved once, and the arrays of the files that they name."""

from __future__ import annotations

import os
import stat
import sys
import warnings
from functools import cached_property

from lstmstate.checkpoint import kinds
from lstmstate.checkpoint.kinds import FileKind
from lstmstate.checkpoint.locate import Location, locate
from lstmstate.errors import (
    CorruptError,
    LstmstateError,
    NotFoundError,
    UnsupportedError,
    first_of,
    located,
    raised_as,
)
from lstmstate.files import STDIN
from lstmstate.files.inputs import note_named
from lstmstate.files.reader import ByteSource
from lstmstate.state.formats.registry import (
    BY_KEY,
    KINDS,
    READ,
    StateKind,
    code,
    kind_of_name,
)
from lstmstate.type_names import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lstmstate.state.formats.stored_array import StateFile

_LOOK = 4096  # bytes of a file's start that are looked at


class InputPath:
    """A path, and the state file or checkpoint that it names.

    Nothing is opened until it is asked for; a file is opened, and its kind read, once.

    Args:
        text: FILE, FILE:NAME for an array, columns or a variable inside, or "-" for stdin.

    Attributes:
        text: the path as passed.
        path: the file, the folder or the prefix of a checkpoint.
        place: the name after the colon, None without one.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.path, self.place = _split_place(text)
        self._source: ByteSource | None = None  # opened to read the kind, and not used yet
        note_named(lambda: self.read_files)

    @classmethod
    def of(cls, path: str | InputPath) -> InputPath:
        """Return a resolved path as it is, and resolve any other."""
        return path if isinstance(path, InputPath) else cls(path)

    def open(self) -> ByteSource:
        """Open the file."""
        source, self._source = self._source, None
        if source is None:
            source = _stdin() if self.path == STDIN else ByteSource(self.path)
        return source

    @cached_property
    def kind(self) -> StateKind | None:
        """The kind of a state file; None for a checkpoint, another file, or nothing."""
        if self.path != STDIN and not _is_one_file(self.path):
            return None
        source = self.open()
        kind = _kind_of(source, kinds.identify(source))
        if kind is not None or self.path == STDIN:
            self._source = source
        return kind

    @cached_property
    def location(self) -> Location:
        """The checkpoint that the path names."""
        return locate(self.path)

    def refuse_pipe(self, kind: StateKind) -> None:
        """Refuse a kind of file that cannot be stdin."""
        if self.path == STDIN and not kind.piped:
            raise UnsupportedError(
                f"{kind.words} cannot be read from stdin", path="stdin", advice="pass its path"
            )

    def state_file(self, *, header: bool | None = None) -> StateFile:
        """Return the arrays of a state file, those at the place if there is one.

        Args:
            header: whether the first row of a table names its columns, None if unknown.
        """
        kind, source = self.kind, self.open()
        if kind is None:
            content = kinds.identify(source)
            raise UnsupportedError(
                f"expected a state, got {content.words}",
                path=self.path,
                advice=content.advice or f"pass a state in {READ}",
            )
        self.refuse_pipe(kind)
        options = {"columns": self.place, "header": header} if kind.key == "csv" else {}
        file = open_arrays(source, kind, **options)
        return select(file, self.place) if self.place else file

    @property
    def read_files(self) -> list[str]:
        """Every file that reading the path may read."""
        if self.path == STDIN:
            return ["/dev/stdin"]
        if self.__dict__.get("kind") is not None:  # it was looked at, and is a state file
            return [self.path]
        try:
            return self.location.read_files
        except LstmstateError:  # a state file, or one that cannot be read: reading reports that
            return [self.path]


def _is_one_file(path: str) -> bool:
    """Whether a path is a regular file, and not the prefix of a checkpoint too."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode) and not os.path.isfile(f"{path}.index")
    except (OSError, ValueError):
        return False


def _split_place(text: str) -> tuple[str, str | None]:
    """Split FILE:NAME at the first colon after something that exists.

    A path that exists as a whole has no place.
    """
    if text == STDIN or os.path.lexists(text):
        return text, None
    at = text.find(":")
    while at != -1:
        before = text[:at]
        if before and (os.path.lexists(before) or os.path.lexists(f"{before}.index")):
            return before, text[at + 1 :] or None
        at = text.find(":", at + 1)
    return text, None


def _stdin() -> ByteSource:
    """Return stdin as a file that can be read by position; a pipe is copied into a nameless one."""
    if sys.stdin is None or sys.stdin.isatty():
        raise LstmstateError("there is nothing on stdin", advice="pass a path, or < FILE")
    descriptor = sys.stdin.fileno()
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return ByteSource("stdin", descriptor)
    import tempfile

    with tempfile.TemporaryFile() as spool:
        while data := os.read(descriptor, 1 << 20):
            spool.write(data)
        spool.flush()
        return ByteSource("stdin", spool.fileno())


def _kind_of(source: ByteSource, content: FileKind) -> StateKind | None:
    """Return the kind of an open file, None if it is not a state file.

    The bytes decide, and the name for tables in text and the oldest pickles.
    """
    if content not in (kinds.TEXT, kinds.UNKNOWN):
        return next((kind for kind in KINDS if kind.content is content), None)
    by_name = kind_of_name(source.path)
    if by_name in (BY_KEY["csv"], BY_KEY["pkl"]):
        return by_name
    from lstmstate.state.formats.pickle_reader import looks_like_pickle

    start = source.read(0, min(source.size, _LOOK), "the start of the file")
    return BY_KEY["pkl"] if looks_like_pickle(start) else None


def open_arrays(source: ByteSource, kind: StateKind, **options: Any) -> StateFile:
    """Return the arrays of an open file; every error of a parser becomes a CorruptError.

    Args:
        options: keyword arguments of the function that reads the kind.
    """
    from lstmstate.state import other_contents

    def damage(error: Exception) -> CorruptError:
        return CorruptError(
            f"this is not {kind.words} that can be read ({type(error).__name__})",
            advice="copy it again from where it came from",
        )

    with located(source.path), raised_as(damage), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file: StateFile = code(kind.reader)(source, **options)._replace(kind=kind.key)
        return file._replace(foreign=other_contents.of_file(file))


def select(file: StateFile, place: str) -> StateFile:
    """Return the array at a place in a file, or those below it."""
    from lstmstate.state import other_contents

    place = place.strip("/")
    found = [array for array in file.arrays if array.name == place] or [
        array for array in file.arrays if array.name.startswith(f"{place}/")
    ]
    if not found:
        if [array.name for array in file.arrays] == [""]:
            problem, advice = "its one array has no name", "pass the file alone"
            raise NotFoundError(problem, path=file.path, tensor=place, advice=advice)
        known = first_of([array.name for array in file.arrays], 6) or "none"
        raise LstmstateError(
            "there is no such array", path=file.path, tensor=place, advice=f"there are: {known}"
        )
    metadata, other = other_contents.of_some(file, found)
    return file._replace(arrays=found, metadata=metadata, foreign=other)
