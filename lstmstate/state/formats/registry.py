"""Kinds of state files: one table, and a module for each.

Each module has `open_file(source) -> StateFile` and `write(outputs, target, flow, metadata,
compress=…)`; it is imported when a file of its kind is met.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from importlib import import_module

from lstmstate.checkpoint import kinds
from lstmstate.checkpoint.kinds import Kind
from lstmstate.errors import (
    CorruptError,
    LstmstateError,
    NotFoundError,
    UnsupportedError,
    first_of,
    located,
    raised_as,
)
from lstmstate.files.reader import ByteSource
from lstmstate.records import NamedTuple
from lstmstate.type_names import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lstmstate.state.formats.chunked import StateFile

STDOUT = "-"  # and stdin

_LOOK = 4096  # bytes of a file's start that are looked at


class StateKind(NamedTuple):
    """A kind of state file.

    Attributes:
        key: its short name, such as "npz".
        words: a noun for messages.
        endings: patterns of the ends of their names.
        content: the kind of their bytes; None for checkpoints, which are many files.
        module: the module that reads and writes them.
        suffix: for default names.
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

    def code(self) -> Any:
        """Return the module that reads and writes such files."""
        return import_module(f"lstmstate.state.formats.{self.module}")


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


def kind_of_name(path: str) -> StateKind | None:
    """Return the kind of the files with such a name, None if there is none."""
    return next((kind for kind in KINDS if kind.is_named(path)), None)


def kind_to_write(
    target: str,
    key: str | None,
    default: str = "npz",
    *,
    endings: str = ".npy, .npz, .h5, .csv or .ckpt",
) -> StateKind:
    """Return the kind of an output: by its key, by its name, or for stdout the default.

    Args:
        endings: of the kinds that can be written, for messages.
    """
    is_stdout = target == STDOUT
    key = key or (default if is_stdout else None)
    kind = BY_KEY[key] if key is not None else kind_of_name(target)
    advice = f"end the name in {endings}"
    if kind is None:
        raise LstmstateError(
            "expected a name with the ending of a kind of file", path=target, advice=advice
        )
    if not kind.is_written:
        raise UnsupportedError(f"{kind.words} is read, but not written", path=target, advice=advice)
    if is_stdout and not kind.piped:
        raise UnsupportedError(
            f"{kind.words} cannot be written to stdout", advice="pass a file: `target=...`"
        )
    return kind


def kind_of(source: ByteSource) -> StateKind | None:
    """Return the kind of an open file, None if it is not a state file.

    The bytes decide, and the name for tables in text and the oldest pickles.
    """
    content = kinds.identify(source)
    if content not in (kinds.TEXT, kinds.UNKNOWN):
        return next((kind for kind in KINDS if kind.content is content), None)
    by_name = kind_of_name(source.path)
    if by_name in (BY_KEY["csv"], BY_KEY["pkl"]):
        return by_name
    from lstmstate.state.formats.pickle_reader import looks_like_pickle

    start = source.read(0, min(source.size, _LOOK), "the start of the file")
    return BY_KEY["pkl"] if looks_like_pickle(start) else None


def open_arrays(source: ByteSource, kind: StateKind, options: Mapping[str, Any] = {}) -> StateFile:
    """Return the arrays of an open file; every error of a parser becomes a CorruptError.

    Args:
        options: keyword arguments of the module that reads the kind.
    """
    from lstmstate.state import other_contents

    def damage(error: Exception) -> CorruptError:
        return CorruptError(
            f"this is not {kind.words} that can be read ({type(error).__name__})",
            advice="copy it again from where it came from",
        )

    with located(source.path), raised_as(damage), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file: StateFile = kind.code().open_file(source, **options)
        return file._replace(kind=kind.key, foreign=other_contents.of_file(file))


def select(file: StateFile, place: str) -> StateFile:
    """Return the array at a place in a file, or those below it."""
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
                advice="pass the file alone",
            )
        known = first_of([array.name for array in file.arrays], 6) or "none"
        raise LstmstateError(
            "there is no such array", path=file.path, tensor=place, advice=f"there are: {known}"
        )
    found = exact or below
    metadata, other = other_contents.of_some(file, found)
    return file._replace(arrays=found, metadata=metadata, foreign=other)
