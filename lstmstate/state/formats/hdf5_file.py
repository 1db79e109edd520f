"""A file that the HDF5 library writes into, and never hears of a failure.

Where a write fails, the library cannot close its file, and crashes the process when that ends.
So the first failure is kept here until the library has returned.
"""

from __future__ import annotations

import os
from collections.abc import Callable


class Sink:
    """A file object for h5py that keeps the first failure: HDF5 crashes if a write fails.

    Attributes:
        failure: the first one, or an interruption; nothing is written from then on.
    """

    def __init__(self, path: str) -> None:
        self._file = open(path, "r+b", buffering=0)  # noqa: SIM115 - closed with the results
        self._at = 0
        self.failure: BaseException | None = None

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move on."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at}
        self._at = offset + (start[whence] if whence in start else os.fstat(self.fileno()).st_size)
        return self._at

    def tell(self) -> int:
        """Return where it is."""
        return self._at

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._file.fileno()

    def readinto(self, buffer: memoryview) -> int:
        """Read up to the end; bytes after it are zeros."""

        def read() -> None:
            done = 0
            self._file.seek(self._at)
            while done < len(buffer) and (count := self._file.readinto(buffer[done:])):
                done += count
            buffer[done:] = bytes(len(buffer) - done)

        self._keep(read)
        return len(buffer)

    def read(self, size: int) -> bytes:
        """Read up to the end; bytes after it are zeros."""
        data = bytearray(size)
        self.readinto(memoryview(data))
        return bytes(data)

    def write(self, data: memoryview) -> int:
        """Write all of it, or keep the failure."""

        def write() -> None:
            done = 0
            self._file.seek(self._at)
            while done < len(data):
                done += self._file.write(data[done:])

        if self.failure is None:
            self._keep(write)
        return len(data)

    def truncate(self, size: int) -> int:
        """Give the file a size, or keep the failure."""
        if self.failure is None:
            self._keep(lambda: self._file.truncate(size))
        return size

    def flush(self) -> None:
        """Do nothing: there is no buffer."""

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def raise_failure(self) -> None:
        """Raise what failed, if anything did."""
        if self.failure is not None:
            raise self.failure

    def _keep(self, action: Callable[[], object]) -> None:
        try:
            action()
        except BaseException as error:  # Ctrl-C, too: the library would take it for a failure
            self.failure = self.failure or error
