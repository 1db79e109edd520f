"""stdout and stderr of the process, which take everything and never raise.

Those of Python may write a part and return how much (with PYTHONUNBUFFERED), raise in the middle of
an answer, and change the exit code when they are flushed at the end.
"""

from __future__ import annotations

import io
import os
import sys

from lstmstate.type_names import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO

    from typing_extensions import Buffer


class _Descriptor(io.FileIO):
    """A descriptor that writes all that it gets; after a failure the rest goes nowhere.

    Attributes:
        failure: the first failure; that nobody reads a pipe any more is none.
    """

    failure: OSError | None = None
    _is_open = True

    def write(self, data: Buffer) -> int:
        """Write all of it, also in parts."""
        left = memoryview(data)
        while left and self._is_open:
            try:
                left = left[os.write(self.fileno(), left) :]
            except BlockingIOError:  # a pipe that is full, and set not to wait
                import select

                select.select((), (self,), ())
            except OSError as error:
                self._is_open = False
                self.failure = None if isinstance(error, BrokenPipeError) else error
        return len(memoryview(data))


def open_text(descriptor: int, encoding: str, *, by_line: bool, closes: bool = False) -> TextIO:
    """Return a text file over a `_Descriptor`; characters that it cannot encode become escapes."""
    return io.TextIOWrapper(
        io.BufferedWriter(_Descriptor(descriptor, "w", closefd=closes)),
        encoding,
        errors="backslashreplace",
        line_buffering=by_line,
    )


def replace_standard() -> None:
    """Replace `sys.stdout` and `sys.stderr`, unless a calling program has done so.

    A descriptor that is closed is opened, for reading: an output would get its number otherwise,
    and with it what libraries print.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDONLY)
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        old = getattr(sys, f"__{name}__")
        is_console = os.name == "nt" and old is not None and old.isatty()  # which takes UTF-16
        if getattr(sys, name) is old and not is_console:
            by_line = name == "stderr" or os.isatty(descriptor)
            new = open_text(descriptor, old.encoding if old else "utf-8", by_line=by_line)
            setattr(sys, name, new)


def failure_of_stdout() -> OSError | None:
    """Write what stdout still has; return its first failure, None without one."""
    sys.stdout.flush()
    stream = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return stream.failure if isinstance(stream, _Descriptor) else None
