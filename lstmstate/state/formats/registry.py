"""The kinds of files that a state can live in: one table, and a module for each.

Each module has `open_file(source) -> StateFile` and `write(outputs, target, flow, metadata,
compress=…)`; it is imported when a file of its kind is met.
"""

from __future__ import annotations

import os
import re
import stat
import sys
import warnings
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

from lstmstate.checkpoint import kinds
from lstmstate.checkpoint.kinds import Kind
from lstmstate.errors import (
    CorruptError,
    LstmstateError,
    NotFoundError,
    UnsupportedError,
    located,
    printable,
    raised_as,
)
from lstmstate.files.reader import ByteSource
from lstmstate.records import NamedTuple

if TYPE_CHECKING:
    from lstmstate.state.formats.chunked import StateFile

STDOUT = "-"  # and stdin

_LOOK = 4096  # bytes of a file's start that are looked at


class StateKind(NamedTuple):
    """A kind of state file.

    Attributes:
        key: its short name, such as "npz".
        words: for people.
        endings: patterns of what the names of such files end with.
        content: what their bytes look like; None for checkpoints, which are many files.
        module: what reads and writes them.
        suffix: for names that are made up.
        piped: whether it can be stdin or stdout.
        is_written: whether states are written to such files, too.
    """

    key: str
    words: str
    endings: str
    content: Kind | None
    module: str
    suffix: str
    piped: bool = False
    is_written: bool = True

    def is_named(self, path: str) -> bool:
        """Whether a name is that of such a file."""
        return re.fullmatch(f".*(?:{self.endings})", path, re.IGNORECASE | re.DOTALL) is not None


KINDS = (
    StateKind("npy", "a NumPy array", r"\.npy", kinds.NPY, "npy", ".npy", True),
    StateKind("npz", "an archive of NumPy arrays", r"\.npz", kinds.NPZ, "npz", ".npz", True),
    StateKind("h5", "an HDF5 file", r"\.h5|\.hdf5?", kinds.HDF5, "hdf5", ".h5"),
    StateKind(
        "pkl",
        "a Python pickle",
        r"\.pkl|\.pickle",
        kinds.PICKLE,
        "pickle_file",
        ".pkl",
        is_written=False,
    ),
    StateKind("csv", "a table as text", r"\.csv|\.tsv", kinds.TEXT, "text_table", ".csv"),
    StateKind(
        "ckpt",
        "a TensorFlow checkpoint",
        r"\.ckpt(-\d+)?|\.index",
        None,
        "checkpoint_arrays",
        ".ckpt",
    ),
)
BY_KEY = {kind.key: kind for kind in KINDS}


def kind_by_name(path: str, key: str | None = None) -> StateKind:
    """Return the kind of a file to write, by its key or by its name.

    Raises:
        LstmstateError: no kind has such a name.
        UnsupportedError: files of this kind are only read.
    """
    if key is not None:
        return BY_KEY[key]
    kind = kind_of_name(path)
    where = "stdout" if path == STDOUT else path
    advice = "end the name in .npy, .npz, .h5, .csv or .ckpt"
    if kind is None:
        raise LstmstateError("its name does not say what to write", path=where, advice=advice)
    if not kind.is_written:
        raise UnsupportedError(f"{kind.words} is read, but not written", path=where, advice=advice)
    return kind


def kind_of_name(path: str) -> StateKind | None:
    """Return the kind of the files with such a name, None where there is none."""
    return next((kind for kind in KINDS if kind.is_named(path)), None)


def kind_to_write(target: str, key: str | None, default: str = "npz") -> StateKind:
    """Return the kind of an output: by its key, by its name, or for stdout the default."""
    kind = BY_KEY[key or default] if target == STDOUT else kind_by_name(target, key)
    if target == STDOUT and not kind.piped:
        raise UnsupportedError(
            f"{kind.words} cannot be written to stdout", advice="give a file: `output=...`"
        )
    return kind


def kind_of(source: ByteSource) -> StateKind | None:
    """Return the kind of an open file, None where it is no state file.

    Its bytes tell, but for tables in text and the oldest pickles: their names do, too.
    """
    content = kinds.identify(source)
    if content not in (kinds.TEXT, kinds.UNKNOWN):
        return next((kind for kind in KINDS if kind.content is content), None)
    by_name = next((kind for kind in KINDS if kind.is_named(source.path)), None)
    if by_name in (BY_KEY["csv"], BY_KEY["pkl"]):
        return by_name
    from lstmstate.state.formats.pickle_reader import looks_like_pickle

    start = source.read(0, min(source.size, _LOOK), "the start of the file")
    return BY_KEY["pkl"] if looks_like_pickle(start) else None


def state_kind(path: str) -> StateKind | None:
    """Return the kind of a state file, None for what is no file, or another one."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode) or os.path.isfile(f"{path}.index"):
            return None
    except (OSError, ValueError):
        return None
    with ByteSource(path) as source:
        return kind_of(source)


def split_place(path: str) -> tuple[str, str | None]:
    """Return a path and what follows it behind a colon: `FILE:place`.

    What exists as it is has no place; else the first colon behind something that exists cuts.
    """
    if path == STDOUT or os.path.lexists(path):
        return path, None
    at = path.find(":")
    while at != -1:
        before = path[:at]
        if before and (os.path.lexists(before) or os.path.lexists(f"{before}.index")):
            return before, path[at + 1 :]
        at = path.find(":", at + 1)
    return path, None


def input_files(path: str) -> list[str]:
    """Return the files that reading a path may read, which no output may replace."""
    path = split_place(path)[0]
    if path == STDOUT:
        return ["/dev/stdin"]
    import glob

    from lstmstate.checkpoint.locate import locate

    found = [path]
    with suppress(LstmstateError):  # what cannot be read is told when it is
        if state_kind(path) is None:
            location = locate(path)
            data = glob.glob(f"{glob.escape(location.prefix)}.data-*")
            found += [*location.files, *data, *([location.graph] if location.graph else [])]
    return found


def open_state_file(
    path: str, place: str | None = None, *, header: bool | None = None
) -> StateFile:
    """Open a state file.

    Args:
        path: the file; "-" for stdin.
        place: an array in it, those below a group, or columns of a table; None for all.
        header: whether the first row of a table names its columns, None where that is open.

    Raises:
        LstmstateError: there is no such file, or it is no state file, or damaged.
    """
    source = stdin_source() if path == STDOUT else ByteSource(path)
    kind = kind_of(source)
    if kind is None:
        content = kinds.identify(source)
        raise UnsupportedError(
            f"this is {content.words}, not a state",
            path=path,
            advice=content.advice or "give a state in .npy, .npz, .h5, .pkl or .csv",
        )
    if path == STDOUT and not kind.piped:
        raise UnsupportedError(f"{kind.words} cannot be read from stdin", advice="give its path")
    file = opened(source, kind, {"columns": place, "header": header} if kind.key == "csv" else {})
    return picked(file, place) if place else file


def opened(source: ByteSource, kind: StateKind, how: Mapping[str, Any] = {}) -> StateFile:
    """Return the arrays of an open file; whatever damage leads to is told as such.

    Args:
        how: what is said of how a table is read.
    """
    from lstmstate.state import other_contents

    def damage(error: Exception) -> CorruptError:
        return CorruptError(
            f"this is not {kind.words} that can be read ({type(error).__name__})",
            advice="copy it again from where it came from",
        )

    with located(source.path), raised_as(damage), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file: StateFile = _module(kind).open_file(source, **how)
        return file._replace(kind=kind.key, foreign=other_contents.of_file(file))


def picked(file: StateFile, place: str) -> StateFile:
    """Return the array at a place in a file, or those below it.

    Raises:
        LstmstateError: there is none.
    """
    from lstmstate.state import other_contents

    place = place.strip("/")
    exact = [array for array in file.arrays if array.name == place]
    below = [array for array in file.arrays if array.name.startswith(f"{place}/")]
    if not exact and not below:
        if [array.name for array in file.arrays] == [""]:
            raise NotFoundError(
                "its one array has no name",
                path=file.path,
                tensor=place,
                advice="give the file alone",
            )
        known = ", ".join(printable(array.name) for array in file.arrays[:6]) or "none"
        raise LstmstateError(
            "there is no such array", path=file.path, tensor=place, advice=f"there are: {known}"
        )
    found = exact or below
    metadata, other = other_contents.of_some(file, found)
    return file._replace(arrays=found, metadata=metadata, foreign=other)


def _module(kind: StateKind) -> Any:
    return import_module(f"lstmstate.state.formats.{kind.module}")


def stdin_source() -> ByteSource:
    """Return stdin as a file that can be read by position; a pipe goes through a nameless one.

    Raises:
        LstmstateError: it is a terminal, or closed.
    """
    if sys.stdin is None or sys.stdin.isatty():
        raise LstmstateError("there is nothing on stdin", advice="give a path, or < FILE")
    descriptor = sys.stdin.fileno()
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return ByteSource("stdin", descriptor)
    import tempfile

    with tempfile.TemporaryFile() as spool:
        while data := os.read(descriptor, 1 << 20):
            spool.write(data)
        spool.flush()
        return ByteSource("stdin", spool.fileno())
