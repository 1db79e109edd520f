"""Kinds of state files: one table. What reads or writes a kind is imported when it is needed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib import import_module

from lstmstate.arguments import one_of, refuse_others
from lstmstate.checkpoint import kinds
from lstmstate.checkpoint.kinds import FileKind
from lstmstate.errors import ArgumentError, UnsupportedError
from lstmstate.files import STDOUT
from lstmstate.named_tuple import NamedTuple
from lstmstate.type_names import Any


class StateKind(NamedTuple):
    """A kind of state file.

    Attributes:
        key: its short name, such as "npz", and its usual ending.
        words: a noun for messages.
        endings: patterns of the ends of their names.
        content: the kind of their bytes; None for checkpoints, which are many files.
        reader: the function that opens them, `(source, **options) -> StateFile`.
        writer: a subclass of `ArrayWriter`, or for kinds that are not written in rows a function,
            `(outputs, target, stream)`; "" if none are written.
        in_rows: whether any arrays can be written into them, part by part.
        piped: whether it can be stdin or stdout.
        packed: whether it can be compressed.
    """

    key: str
    words: str
    endings: str
    content: FileKind | None
    reader: str
    writer: str
    in_rows: bool = False
    piped: bool = False
    packed: bool = False

    def is_named(self, path: str) -> bool:
        """Whether a name is that of such a file."""
        return re.fullmatch(f".*(?:{self.endings})", path, re.IGNORECASE | re.DOTALL) is not None


KINDS = (
    StateKind(
        *("npy", "a NumPy array", r"\.npy", kinds.NPY),
        *("numpy_reader.open_npy", "array_writer.NpyWriter"),
        in_rows=True,
        piped=True,
    ),
    StateKind(
        *("npz", "an archive of NumPy arrays", r"\.npz", kinds.NPZ),
        *("numpy_reader.open_npz", "array_writer.NpzWriter"),
        in_rows=True,
        piped=True,
        packed=True,
    ),
    StateKind(
        *("h5", "an HDF5 file", r"\.h5|\.hdf5?", kinds.HDF5),
        *("hdf5_reader.open_file", "hdf5_writer.Hdf5Writer"),
        in_rows=True,
        packed=True,
    ),
    StateKind(
        *("safetensors", "a safetensors file", r"\.safetensors", kinds.SAFETENSORS),
        *("safetensors_format.open_file", "safetensors_format.SafetensorsWriter"),
        in_rows=True,
        piped=True,
    ),
    StateKind(
        *("pt", "a PyTorch file", r"\.pth?", kinds.PYTORCH),
        *("torch_reader.open_file", "torch_writer.TorchWriter"),
        in_rows=True,
        piped=True,
    ),
    StateKind(
        *("pkl", "a Python pickle", r"\.pkl|\.pickle", kinds.PICKLE),
        *("pickle_reader.open_file", ""),
    ),
    StateKind(
        *("csv", "a table as text", r"\.csv|\.tsv", kinds.TEXT),
        *("text_table.open_file", "text_table.write"),
    ),
    StateKind(
        *("ckpt", "a TensorFlow checkpoint", r"\.ckpt(-\d+)?|\.index", None),
        *("", "checkpoint_arrays.write"),
    ),
)
BY_KEY = {kind.key: kind for kind in KINDS}


def _endings(kinds: Iterable[StateKind]) -> str:
    """Return the usual endings of some kinds, for messages."""
    *rest, last = (f".{kind.key}" for kind in kinds)
    return f"{', '.join(rest)} or {last}"


READ = _endings(kind for kind in KINDS if kind.reader)
WRITTEN = _endings(kind for kind in KINDS if kind.writer)
IN_ROWS = _endings(kind for kind in KINDS if kind.in_rows)


def code(name: str) -> Any:
    """Return what a kind names as its reader or writer."""
    module, _, found = name.partition(".")
    return getattr(import_module(f"lstmstate.state.formats.{module}"), found)


def kind_of_name(path: str) -> StateKind | None:
    """Return the kind of the files with such a name, None if there is none."""
    return next((kind for kind in KINDS if kind.is_named(path)), None)


def kind_to_write(
    target: str,
    key: str | None = None,
    default: str = "npz",
    *,
    endings: str = WRITTEN,
    compress: bool = False,
) -> StateKind:
    """Return the kind of an output: by its key, by its name, or for stdout the default.

    Args:
        endings: of the kinds that can be written, for messages.
        compress: whether it is to be compressed.
    """
    is_stdout = target == STDOUT
    if key is None and is_stdout:
        key = default
    if key is not None:
        refuse_others({"kind": key}, {"kind": one_of([one.key for one in KINDS if one.writer])})
    kind = BY_KEY[key] if key is not None else kind_of_name(target)
    advice = f"end the name in {endings}"
    if kind is None:
        raise ArgumentError(
            "expected a name with the ending of a kind of file", path=target, advice=advice
        )
    if not kind.writer:
        raise UnsupportedError(f"{kind.words} is read, but not written", path=target, advice=advice)
    if is_stdout and not kind.piped:
        raise UnsupportedError(
            f"{kind.words} cannot be written to stdout", advice="pass the path of a file"
        )
    if compress and not kind.packed:
        raise ArgumentError("only .npz and .h5 are compressed", path=target)
    return kind
