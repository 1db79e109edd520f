"""Regular files read by position, within their size, and never mapped.

A mapped file that shrinks kills the process; a short read is an error like others. A file that
another process changes meanwhile is an error, too: its bytes would be a mixture of old and new.
"""

from __future__ import annotations

import io
import os
import stat
from _thread import allocate_lock  # of `threading`, whose import takes longer than a read
from contextlib import suppress

from lstmstate.errors import (
    CorruptError,
    LstmstateError,
    MissingFileError,
    NoPermissionError,
    UnsupportedError,
    nearest,
)
from lstmstate.files import inputs
from lstmstate.files.budget import Budget

# A FIFO would block the open for ever; without O_BINARY Windows would translate line ends.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


LFS_POINTER = b"version https://git-lfs"
_LOOKED_AT = 2000  # names of a folder that are compared with one that is not there
_PIECE = 1 << 18  # bytes that are read at once where they have to be copied into a buffer
_POSITION = allocate_lock()  # where a system has no pread, all reads share the file's position


class ByteSource:
    """An open regular file of known size.

    Args:
        path: where it is, or what to call it in errors.
        descriptor: the file, where it is open already.
        is_input: whether it is read for an answer, and not for its kind only; see `files.inputs`.

    Attributes:
        size: its bytes.
        budget: the work that reading it may cost; its parts have one together.
    """

    def __init__(self, path: str, descriptor: int | None = None, *, is_input: bool = True) -> None:
        self.path = path
        try:
            self._file = os.open(path, _FLAGS) if descriptor is None else os.dup(descriptor)
        except OSError as error:
            raise unreadable(path, error) from None
        status = os.fstat(self._file)
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            raise UnsupportedError(f"this is {kind}", path=path, advice="pass the path of a file")
        self.size = status.st_size
        self.budget = Budget(self.size)
        self._version = inputs.version_of(status)
        if is_input and descriptor is None:
            inputs.note_opened(path, self._version)
        self._start = 0  # where it begins in the file

    def close(self) -> None:
        """Close the file; its parts stay open."""
        with suppress(AttributeError, OSError):  # never opened, or closed already
            os.close(self._file)
            del self._file

    __del__ = close

    def __enter__(self) -> ByteSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def part(self, offset: int, size: int) -> ByteSource:
        """Return some bytes of it as a file of their own; they must be inside it."""
        assert 0 <= offset <= offset + size <= self.size
        found = ByteSource(self.path, self._file)
        found._start, found.size, found.budget = self._start + offset, size, self.budget
        found._version = self._version
        return found

    def refuse_changed(self) -> None:
        """Raise an error if the file is not as it was when it was opened."""
        now = inputs.version_of(os.fstat(self._file))
        inputs.refuse_changed(self.path, self._version, now)

    def read(self, offset: int, length: int, what: str) -> bytes:
        """Return exactly `length` bytes from `offset`."""
        if offset < 0 or length < 0 or offset + length > self.size:
            raise CorruptError(
                f"the file is cut short: {what} would be bytes {offset} to {offset + length}, "
                f"and it has {self.size}",
                path=self.path,
                advice="copy it again from where it came from",
            )
        parts = []
        while length:
            try:
                part = _read_at(self._file, min(length, 1 << 30), self._start + offset)
            except OSError as error:
                raise unreadable(self.path, error) from None
            if not part:
                raise CorruptError(f"the file shrank while {what} was read", path=self.path)
            parts.append(part)
            offset += len(part)
            length -= len(part)
        self.refuse_changed()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def read_into(self, target: memoryview, offset: int) -> None:
        """Fill a buffer with the bytes from `offset` on."""
        done = 0
        try:
            while done < len(target):
                count = _read_into(self._file, target[done:], self._start + offset + done)
                if not count:
                    raise CorruptError("the file shrank while it was read", path=self.path)
                done += count
        except OSError as error:
            raise unreadable(self.path, error) from None
        self.refuse_changed()

    def file(self) -> io.RawIOBase:
        """Return it as a file object, for libraries that want one."""
        return _SourceFile(self)

    def refuse_pointer(self, what: str = "this") -> None:
        """Raise an error if this is the text that Git LFS leaves in the place of a file."""
        if self.read(0, min(self.size, len(LFS_POINTER)), "the start") == LFS_POINTER:
            raise LstmstateError(
                f"{what} is a Git LFS pointer: the file itself was never downloaded",
                path=self.path,
                advice="run 'git lfs pull' in the repository it came from",
            )


class _SourceFile(io.RawIOBase):
    """A ByteSource in the shape of a file; it is closed with its source."""

    def __init__(self, source: ByteSource) -> None:
        super().__init__()
        self._source = source
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._source.size}[whence]
        if start + offset < 0:
            raise OSError("a position before the start of a file")
        self._at = start + offset
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        count = max(min(len(buffer), self._source.size - self._at), 0)
        self._source.read_into(memoryview(buffer)[:count], self._at)
        self._at += count
        return count


def _read_at(descriptor: int, length: int, offset: int) -> bytes:
    """Read from a position; other threads may read from the same descriptor meanwhile."""
    if hasattr(os, "pread"):
        return os.pread(descriptor, length, offset)
    with _POSITION:
        os.lseek(descriptor, offset, os.SEEK_SET)
        return os.read(descriptor, length)


def _read_into(descriptor: int, target: memoryview, offset: int) -> int:
    """Fill the start of a buffer as `_read_at` reads; return how many bytes of it."""
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [target], offset)
    part = _read_at(descriptor, min(len(target), _PIECE), offset)
    target[: len(part)] = part
    return len(part)


def unreadable(path: str, error: OSError) -> LstmstateError:
    """Return the error to raise for a file that the system would not open or read."""
    if isinstance(error, FileNotFoundError):
        return MissingFileError("there is no such file", path=path, advice=near(path))
    if isinstance(error, PermissionError):
        return NoPermissionError("no permission to read it", path=path)
    return LstmstateError(f"it cannot be read ({error.strerror or error})", path=path)


def near(path: str) -> str:
    """Return what to do about a path where there is nothing: the names that are most like it."""
    folder, name = os.path.split(path.rstrip("/"))
    try:
        names = sorted(os.listdir(folder or "."))[:_LOOKED_AT]
    except OSError:
        return "check the path"
    found = nearest(name, names, cutoff=0.75, folder=os.path.join(folder, ""))
    return found or "check the path"


def read_whole(path: str, limit: int, what: str) -> bytes:
    """Return the content of a file that must not be larger than `limit` bytes."""
    with ByteSource(path) as source:
        if source.size > limit:
            raise UnsupportedError(
                f"{what} of {source.size} bytes is larger than the {limit} that are read",
                path=path,
            )
        return source.read(0, source.size, what)
