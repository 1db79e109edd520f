"""A file that is written by a thread of its own, while the next part is being made.

Reading, cutting and checksumming take one core, writing another: together they take the time of
the longer, not of both.
"""

from __future__ import annotations

import io
import os
from queue import Queue
from threading import Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer

_WAITING = 4  # parts that may wait to be written: memory is bounded
_LARGE = 1 << 18  # what is worth handing to a thread


class WriteBehind(io.RawIOBase):
    """A new file; what is written to it must not be changed afterwards.

    An error of the system is raised by a later call, `close` at the latest.

    Args:
        path: the file, which is emptied.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with WriteBehind(os.path.join(folder, "a")) as file:
        ...         _ = file.write(b"first, "), file.write(b"second")
        ...     os.path.getsize(file.path)
        13
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        self._file = io.FileIO(path, "w")
        self._parts: Queue[Buffer | None] = Queue(_WAITING)
        self._thread: Thread | None = None
        self._error: OSError | None = None
        self._at = 0

    def writable(self) -> bool:
        """Whether it can be written: always."""
        return True

    def seekable(self) -> bool:
        """Whether the place of writing can be changed: always."""
        return True

    def tell(self) -> int:
        """Return the place at which the next bytes will stand."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place, once all before is written."""
        self.flush()
        self._at = self._file.seek(offset, whence)
        return self._at

    def write(self, data: Buffer) -> int:
        """Take bytes to be written; all of them will be."""
        size = memoryview(data).nbytes
        if self._thread is None and size >= _LARGE:
            self._thread = Thread(target=self._run, daemon=True)
            self._thread.start()
        if self._thread is None:
            self._put(data)
        else:
            self._raise()
            self._parts.put(data)
        self._at += size
        return size

    def flush(self) -> None:
        """Wait until all is written."""
        if self._thread is not None:
            self._parts.join()
        self._raise()

    def close(self) -> None:
        """Write what is left, and close the file."""
        if self.closed:
            return
        try:
            if self._thread is not None:
                self._parts.put(None)
                self._thread.join()
            self._raise()
        finally:
            self._thread = None
            self._file.close()
            super().close()

    def _run(self) -> None:
        while (data := self._parts.get()) is not None:
            if self._error is None:
                try:
                    self._put(data)
                except OSError as error:
                    self._error = error
            self._parts.task_done()

    def _put(self, data: Buffer) -> None:
        """Write all of some bytes; the system may take less at a time."""
        view = memoryview(data).cast("B")
        while view:
            view = view[self._file.write(view) :]

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error
