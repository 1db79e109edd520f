"""Location of a checkpoint by its prefix, any of its files, its folder, or a SavedModel.

No other folder is ever searched: paths in a `checkpoint` file are those of the machine that
trained, and are looked up next to it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress

from lstmstate import limits
from lstmstate.checkpoint import kinds
from lstmstate.checkpoint import protobuf as wire
from lstmstate.checkpoint.kinds import FileKind
from lstmstate.checkpoint.sstable import Table
from lstmstate.errors import (
    AmbiguousError,
    CorruptError,
    LstmstateError,
    MissingFileError,
    UnsupportedError,
    first_of,
    printable,
)
from lstmstate.files.reader import ByteSource, near, read_whole, unreadable
from lstmstate.named_tuple import NamedTuple

V1, V2, FROZEN, GENERATOR = "v1", "v2", "frozen_graph", "generator_bundle"
STATE_FILE = "checkpoint"
_FOLDER_GRAPH = "graph.pbtxt"  # of Estimators, and in the examples of tf.train.write_graph
_SAVED_MODEL_FILES = ("saved_model.pb", "saved_model.pbtxt")
_LOOKED_INTO = 200  # folders in a folder, to name those with checkpoints
_SHOWN = 20  # checkpoints of a folder that an error lists

# The files of one prefix. What follows them (".tempstate…", ".tmp…") was never finished.
_PART = re.compile(r"(?P<prefix>.*)(\.index|\.meta|\.data-\d{5,}-of-\d{5,})", re.DOTALL)
_NEWEST = re.compile(
    rb"""model_checkpoint_path\s*:\s*(?:"([^"\\\n]*(?:\\.[^"\\\n]*)*)"|'([^'\\\n]*(?:\\.[^'\\\n]*)*)')"""
)
_V1_SHARD = r"(?s)(?P<prefix>.*)-(?P<number>\d{5,})-of-(?P<count>\d{5,})"


class Location(NamedTuple):
    """The files of a checkpoint.

    Attributes:
        format: "v1", "v2", "frozen_graph" or "generator_bundle".
        prefix: what TensorFlow's Saver calls the checkpoint, or the one file that it is.
        files: the index of a V2 checkpoint, the tables of a V1 checkpoint, the one file.
        graph: its `.meta` or `saved_model.pb`, or else the graph of its folder; None
            if there is none.
        saved_model: whether it is the variables of a SavedModel.
        note: a line for the user on how it was found.
        asked: the path that was located.
    """

    format: str
    prefix: str
    files: tuple[str, ...]
    graph: str | None
    saved_model: bool = False
    note: str | None = None
    asked: str = ""

    @property
    def read_files(self) -> list[str]:
        """Every file of it that may be read."""
        import glob

        data = glob.glob(f"{glob.escape(self.prefix)}.data-*")
        return [self.asked, *self.files, *data, *([self.graph] if self.graph else [])]

    @property
    def choice(self) -> str | None:
        """A line for the user if it was chosen from several; None for the only one, or a name."""
        if self.asked.startswith(self.prefix):
            return None
        number = len(checkpoints_in(os.path.dirname(self.prefix)))
        line = f"{self.asked} is the checkpoint {self.prefix}, one of {number} in its folder"
        return line if number > 1 else None

    @property
    def has_own_graph(self) -> bool:
        """Whether the graph is the one that was saved with the checkpoint."""
        return self.saved_model or self.graph in (f"{self.prefix}.meta", self.prefix)


class NotACheckpointError(UnsupportedError):
    """A file or a folder of another kind."""

    def __init__(self, path: str, kind: FileKind) -> None:
        super().__init__(
            f"expected a TensorFlow checkpoint, got {kind.words}",
            path=path,
            advice=kind.advice or "pass a TensorFlow checkpoint, or a state in .npy, .npz or .h5",
        )
        self.kind = kind


def locate(path: str) -> Location:
    """Return the checkpoint that `path` names."""
    found = _at_prefix(path)
    if found is None:
        if not os.path.lexists(path):
            raise _nothing_at(path)
        found = _in_folder(path) if os.path.isdir(path) else _of_file(path)
    return found._replace(asked=path)


def _at_prefix(prefix: str) -> Location | None:
    """Return the checkpoint of exactly this prefix, as Saver.restore understands it."""
    if os.path.isfile(f"{prefix}.index"):
        return _v2(prefix)
    folder, name = os.path.split(prefix)
    shards: dict[int, dict[int, str]] = {}
    for entry in _names(folder):
        if not entry.startswith(name) or _PART.fullmatch(entry):  # a folder may have many
            continue
        part = re.fullmatch(_V1_SHARD, entry)
        if part and part["prefix"] == name:
            shard = shards.setdefault(int(part["count"]), {})
            shard[int(part["number"])] = os.path.join(folder, entry)
    whole = [files for count, files in shards.items() if len(files) == count > max(files)]
    if not whole:
        return None
    if len(whole) > 1:
        counts = " and ".join(str(len(files)) for files in whole)
        raise AmbiguousError(
            f"there are shards of two checkpoints, of {counts} files",
            path=prefix,
            advice="remove the stale ones",
        )
    files = tuple(whole[0][number] for number in sorted(whole[0]))
    return _v1(prefix, files)


def _v2(prefix: str) -> Location:
    folder, name = os.path.split(prefix)
    parent = os.path.dirname(os.path.abspath(prefix)) if folder in ("", ".") else folder
    if name == "variables" and os.path.basename(parent) == "variables":
        for graph in _SAVED_MODEL_FILES:
            beside = os.path.join(os.path.dirname(parent), graph)
            if os.path.isfile(beside):
                return Location(V2, prefix, (f"{prefix}.index",), beside, saved_model=True)
    return Location(V2, prefix, (f"{prefix}.index",), _graph(prefix))


def _v1(prefix: str, files: tuple[str, ...]) -> Location:
    return Location(V1, prefix, files, _graph(prefix))


def _graph(prefix: str) -> str | None:
    """Return the graph that was saved with a checkpoint, or else that of its folder."""
    of_folder = os.path.join(os.path.dirname(prefix), _FOLDER_GRAPH)
    return next(filter(os.path.isfile, (f"{prefix}.meta", of_folder)), None)


def _of_file(path: str, *, named: bool = False) -> Location:
    """Return the checkpoint that an existing file belongs to; `named` by a `checkpoint` file."""
    folder, name = os.path.split(path)
    if name in _SAVED_MODEL_FILES:
        return _in_folder(folder)
    part = _PART.fullmatch(name) or re.fullmatch(_V1_SHARD, name)
    if part:
        prefix = os.path.join(folder, part["prefix"])
        found = _at_prefix(prefix) or (
            _of_file(prefix, named=named)
            if os.path.isfile(prefix) and name.endswith(".meta")
            else None
        )
        if found:
            return found
    with ByteSource(path) as source:
        kind = kinds.identify(source)
        if kind is kinds.TABLE:
            # Only its kind is needed: reading it verifies it.
            first = next(iter(Table(source, checksums=False)), (b"", b""))[1]
            # The header of an index begins with a number, the list of a V1 file with a message.
            if first[:1] == b"\x0a":
                return _v1(path, (path,))
            raise UnsupportedError(
                "this is the index of a V2 checkpoint under another name",
                path=path,
                advice="name it PREFIX.index again",
            )
    if kind is kinds.CHECKPOINT_STATE and not named:
        return _by_state_file(path)
    if kind is kinds.PBTXT and not part and len(checkpoints_in(folder)) == 1:
        found = _only_one(folder, None)
        return found if found.has_own_graph else found._replace(graph=path)
    if part and name.endswith(".meta"):
        raise MissingFileError(
            "only the graph is here; the values are in files that are missing",
            path=path,
            advice=f"put {part['prefix']}.index and {part['prefix']}.data-… next to it",
        )
    if part and ".data-" in name:
        raise MissingFileError(
            "the index of this data file is missing, and nothing can be read without it",
            path=path,
            advice=f"put {part['prefix']}.index next to it",
        )
    if kind in (kinds.FROZEN, kinds.GENERATOR):
        return Location(kind.key, path, (path,), path)
    raise NotACheckpointError(path, kind)


def _in_folder(folder: str) -> Location:
    """Return the SavedModel in a folder, or the newest checkpoint, or the only one."""
    names = _names(folder)
    if any(name in names for name in _SAVED_MODEL_FILES):
        found = _at_prefix(os.path.join(folder, "variables", "variables"))
        if found:
            return found
        raise MissingFileError(
            "this SavedModel has no variables/variables.index",
            path=folder,
            advice="its values were frozen into the graph, or the folder was not copied whole",
        )
    if STATE_FILE in names and not os.path.isdir(os.path.join(folder, STATE_FILE)):
        return _by_state_file(os.path.join(folder, STATE_FILE))
    return _only_one(folder, None)


def _by_state_file(path: str) -> Location:
    """Return the checkpoint that a `checkpoint` file calls the newest."""
    folder = os.path.dirname(path)
    named = newest(read_whole(path, limits.MAX_STATE_FILE_BYTES, "a `checkpoint` file"), path)
    if named is None:
        return _only_one(folder, "the `checkpoint` file names no checkpoint")
    # The path as it was written there only counts if it leads into this folder.
    named = named.replace("\0", "")  # which no path can hold
    inside = not os.path.isabs(named) and ".." not in re.split(r"[/\\]", named)
    last = re.split(r"[/\\]", named)[-1]
    for candidate in (named, last) if inside else (last,):
        prefix = os.path.join(folder, candidate)
        found = _at_prefix(prefix)
        if found:
            return found
        if os.path.isfile(prefix):
            return _of_file(prefix, named=True)
    return _only_one(folder, f"the `checkpoint` file names {printable(named)}, which is not here")


def newest(content: bytes, path: str) -> str | None:
    """Return model_checkpoint_path of a CheckpointState in text form.

    >>> newest(b'model_checkpoint_path: "D:\\\\\\\\runs\\\\\\\\caf\\\\303\\\\251-7"', "checkpoint")
    'D:\\\\runs\\\\café-7'
    """
    found = _NEWEST.search(content)
    if not found:
        return None
    if content[: found.start()].rpartition(b"\n")[2].strip():
        raise CorruptError("this is not a `checkpoint` file", path=path)
    written = found[1] if found[1] is not None else found[2]
    return wire.text(re.sub(rb"\\([0-7]{1,3}|x[0-9a-fA-F]{1,2}|.)", _unescape, written))


def _unescape(found: re.Match[bytes]) -> bytes:
    """Return the byte of an escape in protobuf's text format."""
    code = found[1]
    if code[:1].isdigit() and code[:1] not in b"89":
        return bytes([int(code, 8) & 0xFF])
    if code[:1] == b"x" and len(code) > 1:
        return bytes([int(code[1:], 16)])
    return {b"n": b"\n", b"t": b"\t", b"r": b"\r"}.get(code, code)


def _only_one(folder: str, why: str | None) -> Location:
    """Return the one checkpoint of a folder; refuse several."""
    prefixes = checkpoints_in(folder) or list(_in_one_file(folder))
    reason = f"{why}, and " if why else ""
    if not prefixes:
        kind = kinds.of_folder(_names(folder))
        if kind is not None:
            raise NotACheckpointError(folder or ".", kind)
        for part in filter(None, map(_PART.fullmatch, _names(folder))):
            raise _nothing_at(os.path.join(folder, part["prefix"]))
        below = [name for name in _names(folder)[:_LOOKED_INTO] if _has_some(folder, name)]
        raise MissingFileError(
            f"{reason}there is no checkpoint in this folder",
            path=folder or ".",
            advice="there are in " + first_of(below, _SHOWN)
            if below
            else "pass the folder with PREFIX.index and PREFIX.data-…, or with a frozen graph",
        )
    if len(prefixes) > 1:
        shown = first_of([name or '""' for name in prefixes], _SHOWN)
        raise AmbiguousError(
            f"{reason}there are {len(prefixes)} checkpoints in this folder: {shown}",
            path=folder or ".",
            advice="pass the path of one",
        )
    prefix = os.path.join(folder, prefixes[0])
    found = _at_prefix(prefix) or _of_file(prefix)
    return found._replace(note=f"{why}; this is the only one there" if why else None)


def _in_one_file(folder: str) -> Iterator[str]:
    """Yield the files of a folder that are a graph and its values in one."""
    for name in _names(folder)[:_LOOKED_INTO]:
        path = os.path.join(folder, name)
        with suppress(LstmstateError):
            if os.path.isfile(path):
                with ByteSource(path, is_input=False) as source:
                    if kinds.identify(source) in (kinds.FROZEN, kinds.GENERATOR):
                        yield name


def _has_some(folder: str, name: str) -> bool:
    """Whether a folder in a folder looks as if a checkpoint were in it."""
    inner = os.path.join(folder, name)
    ends = (".index", *_SAVED_MODEL_FILES, STATE_FILE)
    return os.path.isdir(inner) and any(entry.endswith(ends) for entry in _names(inner))


def checkpoints_in(folder: str, starting: str = "") -> list[str]:
    """Return the prefixes of the checkpoints in a folder that start so, by name and number."""
    found = set()
    for name in _names(folder):
        if not name.startswith(starting):
            continue
        part = _PART.fullmatch(name)
        if part:
            if name.endswith(".index"):
                found.add(part["prefix"])
            continue
        path = os.path.join(folder, name)
        if os.path.isfile(path) and _is_v1(path):
            shard = re.fullmatch(_V1_SHARD, name)
            found.add(shard["prefix"] if shard else name)
    return sorted(found, key=_natural)


def _is_v1(path: str) -> bool:
    """Whether a file of any name ends as a table does."""
    try:
        with ByteSource(path, is_input=False) as source:
            return kinds.identify(source) is kinds.TABLE
    except LstmstateError:
        return False


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort model-9 before model-10."""
    return [
        (int(part), "") if part.isascii() and part.isdecimal() else (-1, part)
        for part in re.split(r"(\d+)", name)
    ]


def _nothing_at(path: str) -> LstmstateError:
    """Return the error for a missing path, with names that are near it."""
    folder, name = os.path.split(path)
    if re.match(r"[a-z0-9+]+://", path):
        return UnsupportedError("this is an address", path=path, advice="download the files first")
    if folder and not os.path.isdir(folder):
        return MissingFileError("there is no such folder", path=folder, advice=near(folder))
    parts = [entry for entry in _names(folder) if _PART.fullmatch(entry) and name]
    if any(entry.startswith((f"{name}.data-", f"{name}.meta")) for entry in parts):
        return MissingFileError(
            "the index of this checkpoint is missing, and nothing can be read without it",
            path=path,
            advice=f"put {name}.index next to its other files",
        )
    known = checkpoints_in(folder, name) or checkpoints_in(folder, name[:3]) if name else []
    return MissingFileError(
        "there is no checkpoint or file of this name",
        path=path or "''",
        advice="this folder has " + first_of(known, _SHOWN) if known else near(path),
    )


def _names(folder: str) -> list[str]:
    """Return the names in a folder, sorted."""
    try:
        return sorted(os.listdir(folder or "."))
    except FileNotFoundError:
        return []
    except NotADirectoryError:
        return []
    except OSError as error:
        raise unreadable(folder, error) from None
