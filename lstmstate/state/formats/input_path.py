"""Paths that a user passes, each resolved once."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable, Iterator
from functools import cached_property

from lstmstate.checkpoint import kinds
from lstmstate.checkpoint.locate import Location, locate
from lstmstate.errors import LstmstateError, UnsupportedError
from lstmstate.files.reader import ByteSource
from lstmstate.state.formats.registry import StateKind, kind_of, open_arrays, select
from lstmstate.type_names import TYPE_CHECKING

if TYPE_CHECKING:
    from lstmstate.state.formats.chunked import StateFile

STDIN = "-"


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
        kind = kind_of(source)
        if kind is not None or self.path == STDIN:
            self._source = source
        return kind

    @cached_property
    def location(self) -> Location:
        """The checkpoint that the path names."""
        return locate(self.path)

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
                advice=content.advice or "pass a state in .npy, .npz, .h5, .pkl or .csv",
            )
        if self.path == STDIN and not kind.piped:
            raise UnsupportedError(
                f"{kind.words} cannot be read from stdin", path=self.path, advice="pass its path"
            )
        is_table = kind.key == "csv"
        options = {"columns": self.place, "header": header} if is_table else {}
        file = open_arrays(source, kind, options)
        return select(file, self.place) if self.place else file

    @property
    def read_files(self) -> list[str]:
        """Every file that reading the path may read."""
        if self.path == STDIN:
            return ["/dev/stdin"]
        try:
            return self.location.read_files
        except LstmstateError:  # a state file, or one that cannot be read: reading reports that
            return [self.path]


class InputFiles:
    """The files that a command reads, which no output may replace; listed when one exists."""

    def __init__(self, paths: Iterable[str | InputPath | Location]) -> None:
        self._paths = [path if isinstance(path, Location) else InputPath.of(path) for path in paths]

    def __iter__(self) -> Iterator[str]:
        return (file for path in self._paths for file in path.read_files)


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
