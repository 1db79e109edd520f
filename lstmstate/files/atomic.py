"""Files that are written whole or not at all.

Everything is written into temporary files next to the targets. At the end they are flushed to
the disk and renamed, so that at every moment a target is either the old file or the new one. Of
several, such as the data and the index of a checkpoint, the old ones are renamed first: a process
that is killed in between never leaves an old one together with a new one.
"""

from __future__ import annotations

import os
import signal
import stat
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType, TracebackType
from typing import IO

from lstmstate.errors import (
    ExistingFileError,
    LstmstateError,
    MissingFileError,
    NoPermissionError,
    printable,
)
from lstmstate.files import STDOUT
from lstmstate.files.inputs import gather

_INTERRUPTIONS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]
_LEFT: set[str] = set()  # temporary files that may still be there
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)


class Outputs:
    """The files that one command writes: all of them appear at its end, or none.

    No file that is read in its context is replaced; see `files.inputs`.

    Args:
        force: whether files that exist may be replaced.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> target = os.path.join(folder.name, "a.txt")
        >>> with Outputs() as outputs:
        ...     with open(outputs.new(target), "w") as file:
        ...         _ = file.write("whole")
        ...     os.path.exists(target)
        False
        >>> os.listdir(folder.name)
        ['a.txt']
        >>> folder.cleanup()
    """

    def __init__(self, *, force: bool = False) -> None:
        self._force = force
        self._context = ExitStack()
        self._temporary: dict[str, str] = {}  # target → where it is written meanwhile
        self._optional: set[str] = set()
        self._useless: list[str] = []

    def __enter__(self) -> Outputs:
        self._inputs = self._context.enter_context(gather())
        return self

    def new(self, target: str) -> str:
        """Return the path to write in the place of `target`; "-" is stdout."""
        if target == STDOUT:
            return self._for_stdout()
        real = os.path.realpath(target)
        if not os.path.basename(target):
            raise LstmstateError("expected the name of a file", path=target)
        self.refuse(target)
        if real in self._temporary:
            raise LstmstateError("two outputs have the same name", path=target)
        temporary = _new_name(os.path.dirname(real))
        self._temporary[real] = temporary  # before it is made: an interruption finds it
        _LEFT.add(temporary)
        with report_errors(target):
            os.close(os.open(temporary, _NEW_FILE, 0o666))
            with suppress(FileNotFoundError):
                os.chmod(temporary, stat.S_IMODE(os.stat(real).st_mode))
        return temporary

    @contextmanager
    def open(self, target: str, *, optional: bool = False) -> Iterator[IO[bytes]]:
        """Open a target for writing bytes; errors of the system name it.

        Args:
            optional: whether a file that is there already is left as it is.
        """
        path = self.new(target)
        if optional:
            self._optional.add(os.path.realpath(target))
        with report_errors(target), open(path, "wb") as file:
            yield file

    def remove(self, path: str) -> None:
        """Have a file disappear together with an output that is replaced, and that needed it."""
        self._inputs.refuse(path)
        self._useless.append(os.path.abspath(path))

    def refuse(self, target: str) -> None:
        """Raise an error if `target` must not be written."""
        if not os.path.lexists(target):
            return
        self._inputs.refuse(target)
        if os.path.exists(target) and not os.path.isfile(target):
            kind = "a folder" if os.path.isdir(target) else "not a regular file"
            raise LstmstateError(
                f"this is {kind}: no output can be written there",
                path=target,
                advice="pass the path of a file",
            )
        if not self._force:
            raise ExistingFileError(
                "this file exists already", path=target, advice="pass `force=True` to replace it"
            )

    def _rename_new(self, temporary: str, target: str) -> None:
        """Rename a file to a free name; a file that another process created there is kept."""
        try:
            os.link(temporary, target)
        except FileExistsError:
            if target not in self._optional:
                raise ExistingFileError(
                    "another process created this file",
                    path=target,
                    advice="pass `force=True` to replace it",
                ) from None
        except OSError:  # a file system without links
            os.replace(temporary, target)

    def _for_stdout(self) -> str:
        if sys.stdout.isatty():
            raise LstmstateError(
                "binary data is not written to a terminal",
                advice="redirect stdout, or pass the path of a file",
            )
        temporary = _new_name(tempfile.gettempdir())
        self._temporary[STDOUT] = temporary
        _LEFT.add(temporary)
        with report_errors(temporary):
            os.close(os.open(temporary, _NEW_FILE, 0o600))
        return temporary

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._publish()
        finally:
            self._context.close()
            with defer_signals():
                for temporary in self._temporary.values():
                    with suppress(OSError):
                        os.unlink(temporary)
                    _LEFT.discard(temporary)

    def _publish(self) -> None:
        """Flush everything to the disk, and only then rename; stdout, whose reader may go, last."""
        files = {name: path for name, path in self._temporary.items() if name != STDOUT}
        for target, temporary in files.items():
            with report_errors(target):
                self._inputs.refuse(target)
                flush(temporary)
        with defer_signals():
            self._rename(files)
        for folder in {os.path.dirname(target) for target in files}:
            with suppress(OSError):  # some systems cannot open folders
                flush(folder)
        if STDOUT in self._temporary:
            with report_errors(STDOUT), open(self._temporary[STDOUT], "rb") as file:
                with suppress(OSError):  # some systems do not remove an open file
                    os.unlink(file.name)
                while data := file.read(1 << 20):
                    write_all(sys.stdout.buffer, data)
                sys.stdout.flush()

    def _rename(self, files: dict[str, str]) -> None:
        """Rename all files; after a failure none is new, and the old ones are there again."""
        old: dict[str, str] = {}
        new: list[str] = []
        try:
            some = [*reversed(files), *self._useless]  # a model before its weights
            for target in some if self._force and len(some) > 1 else ():
                if target not in self._optional and os.path.lexists(target):
                    name = _new_name(os.path.dirname(target))
                    with report_errors(target):
                        os.replace(target, name)
                    old[target] = name
            for target, temporary in files.items():
                with report_errors(target):
                    if self._force and target not in self._optional:
                        os.replace(temporary, target)
                    else:
                        self._rename_new(temporary, target)
                    new.append(target)
        except BaseException as error:
            for target in new:
                with suppress(OSError):
                    os.unlink(target)
            for target, name in reversed(old.items()):  # the index of a checkpoint last
                try:
                    os.replace(name, target)
                except OSError:
                    advice = f"rename the old file to its name again, it is {printable(name)}"
                    problem = "it can be neither replaced nor put back"
                    raise LstmstateError(problem, path=target, advice=advice) from error
            raise
        for name in old.values():
            with suppress(OSError):
                os.unlink(name)


def _new_name(folder: str) -> str:
    return os.path.join(folder, f".lstmstate-{os.urandom(8).hex()}.tmp")


def write_all(file: IO[bytes], data: bytes) -> None:
    """Write all bytes: a file without a buffer may take a part (stdout with PYTHONUNBUFFERED)."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) or 0 :]


def remove_left() -> None:
    """Remove the temporary files of outputs that an interruption kept from doing so themselves."""
    while _LEFT:
        with suppress(OSError):
            os.unlink(_LEFT.pop())


def flush(path: str) -> None:
    """Have the system write a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def report_errors(target: str) -> Iterator[None]:
    """Turn errors of the system into LstmstateErrors that name the file."""
    name = "stdout" if target == STDOUT else target
    try:
        yield
    except LstmstateError as error:
        error.path = error.path or name
        raise
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        folder = os.path.dirname(target)
        is_missing = isinstance(error, FileNotFoundError) and not os.path.isdir(folder)
        kind = NoPermissionError if isinstance(error, PermissionError) else LstmstateError
        raise (MissingFileError if is_missing else kind)(
            f"it cannot be written ({error.strerror or error})",
            path=name,
            advice=f"make its folder first, {folder}" if is_missing else None,
        ) from None


@contextmanager
def defer_signals() -> Iterator[None]:
    """Defer SIGINT, SIGTERM and SIGHUP until the block ends."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[tuple[int, FrameType | None]] = []
    before = {}
    for number in _INTERRUPTIONS:
        handler = signal.getsignal(number)
        if callable(handler):  # others are not Python's to hold back
            before[number] = handler
            signal.signal(number, lambda number, frame: waiting.append((number, frame)))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for number, frame in waiting[:1]:
        before[number](number, frame)
