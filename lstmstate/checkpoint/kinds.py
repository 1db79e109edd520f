"""What a file is, from its first and last bytes: one table of signatures."""

from __future__ import annotations

from lstmstate.checkpoint import protobuf as wire
from lstmstate.checkpoint.sstable import MAGIC
from lstmstate.errors import CorruptError
from lstmstate.files.reader import LFS_POINTER, ByteSource
from lstmstate.records import NamedTuple

LOOK = 4096  # bytes of a file's start that are looked at
_FIELD_2 = b"\x12"  # the key of bytes in field 2 of a message


class Kind(NamedTuple):
    """A kind of file: a key for programs, words for people, and what to do with it."""

    key: str
    words: str
    advice: str | None = None


TABLE = Kind("table", "a TensorFlow checkpoint table")
CHECKPOINT_STATE = Kind("checkpoint_state", "a `checkpoint` text file")
NPY = Kind("npy", "a NumPy array")
NPZ = Kind("npz", "an archive of NumPy arrays")
HDF5 = Kind("hdf5", "an HDF5 file")
PICKLE = Kind("pickle", "a Python pickle")
SAVED_MODEL = Kind("saved_model", "a SavedModel")
META = Kind("meta", "the graph of a checkpoint (a MetaGraphDef)")
GENERATOR = Kind("generator_bundle", "a bundle of a music generator (Magenta)")
FROZEN = Kind("frozen_graph", "a frozen graph (a GraphDef)")
PBTXT = Kind("pbtxt", "a graph as text", "give the checkpoint next to it")
LFS = Kind("lfs_pointer", "a Git LFS pointer", "run 'git lfs pull' in the repository it came from")
EMPTY = Kind("empty", "an empty file", "copy it again from where it came from")
TEXT = Kind("text", "a text file")
UNKNOWN = Kind("unknown", "nothing that is known here")

_KERAS_ADVICE = "save it as a checkpoint: tf.train.Checkpoint(model=model).save(PREFIX)"

# (offset, the bytes that stand there, what the file is)
_SIGNATURES: tuple[tuple[int, bytes, Kind], ...] = (
    (0, b"\x93NUMPY", NPY),
    (0, b"\x89HDF\r\n\x1a\n", HDF5),
    (0, LFS_POINTER, LFS),
    (4, b"TFL3", Kind("tflite", "a TensorFlow Lite model")),
    (0, b"\x1f\x8b", Kind("gzip", "a gzip archive", "unpack it first")),
    (0, b"BZh", Kind("bzip2", "a bzip2 archive", "unpack it first")),
    (0, b"\xfd7zXZ\0", Kind("xz", "an xz archive", "unpack it first")),
    (257, b"ustar", Kind("tar", "a tar archive", "unpack it first")),
    (0, b"Rar!", Kind("rar", "a RAR archive", "unpack it first")),
    (0, b"7z\xbc\xaf", Kind("7z", "a 7-Zip archive", "unpack it first")),
    (0, b"%PDF", Kind("pdf", "a PDF document")),
    *((0, bytes([0x80, protocol]), PICKLE) for protocol in range(2, 6)),
)


def identify(source: ByteSource) -> Kind:
    """Return what an open file is; the name of the file plays no part in it."""
    start = source.read(0, min(source.size, LOOK), "the start of the file")
    end = source.read(max(source.size - 8, 0), min(source.size, 8), "the end of the file")
    if not start:
        return EMPTY
    if end == MAGIC:
        return TABLE
    for offset, signature, kind in _SIGNATURES:
        if start[offset : offset + len(signature)] == signature:
            return kind
    if start[:4] == b"PK\x03\x04":
        return _zip(start)
    return _text(start) or _protobuf(start, source.size) or UNKNOWN


def _zip(start: bytes) -> Kind:
    """Tell the archives that are made of zip by the name of their first member."""
    name = start[30 : 30 + int.from_bytes(start[26:28], "little")]
    if name.endswith(b".npy"):
        return NPZ
    if name.endswith((b"data.pkl", b"/version", b".data/serialization_id")):
        return Kind("pytorch", "a PyTorch checkpoint (a zip with a pickle)")
    if name in (b"metadata.json", b"config.json", b"model.weights.h5"):
        return Kind("keras", "a Keras 3 model (a zip with HDF5)", _KERAS_ADVICE)
    return Kind("zip", "a zip archive", "unpack it first")


def is_text(start: bytes) -> bool:
    """Whether the first `LOOK` bytes of a file, or all of a shorter one, are a text."""
    try:
        # The last characters may be cut through.
        text = start.decode("utf-8") if len(start) < LOOK else start[:-4].decode("utf-8", "ignore")
    except UnicodeDecodeError:
        return False
    return all(ord(character) >= 32 or character in "\t\n\r\f" for character in text)


def _text(start: bytes) -> Kind | None:
    """Return the kind of a text, None for bytes that are not one."""
    if not is_text(start):
        return None
    text = start.lstrip()
    if text.startswith((b"model_checkpoint_path:", b"all_model_checkpoint_paths:")):
        return CHECKPOINT_STATE
    if text[:1] in (b"{", b"["):
        return Kind("json", "a JSON text")
    from lstmstate.checkpoint import text_format

    return TEXT if text_format.message_of(start) is None else PBTXT


def _protobuf(start: bytes, size: int) -> Kind | None:
    """Tell the messages of TensorFlow and ONNX by their first fields, None for others.

    A MetaGraphDef begins with meta_info_def (1) that holds a stripped_op_list (2) or a version;
    a GraphDef with a node (1) that holds a name (1) and an op (2); a SavedModel with its schema
    version (1, a number) and a MetaGraphDef (2); a GeneratorBundle with generator_details (1) and
    a table (2).
    """
    try:
        number, value, rest = _first_field(start, size) or (0, None, b"")
        if _has_table(start) or (number == 1 and _has_table(rest)):
            return GENERATOR
        if number == 1 and value is None and rest[:1] == _FIELD_2:
            return SAVED_MODEL
        inner = _first_field(value, size) if number == 1 and value is not None else None
        if inner is not None:
            is_node = inner[0] == 1 and inner[1] is not None and inner[2][:1] == _FIELD_2
            return FROZEN if is_node else META
    except CorruptError:
        return None
    return None


def _has_table(data: bytes) -> bool:
    """Whether field 2 begins here, and a V1 checkpoint in it: no message begins with its zeros."""
    return data[:1] == _FIELD_2 and data[wire.varint(data, 1)[1] :][:2] == b"\0\0"


def _first_field(data: bytes, size: int) -> tuple[int, bytes | None, bytes] | None:
    """Return (number, the start of its bytes or None for a number, what follows it)."""
    key, at = wire.varint(data, 0)
    if key & 7 == wire.VARINT:
        _, at = wire.varint(data, at)
        return key >> 3, None, data[at:]
    if key & 7 != wire.LENGTH_DELIMITED or key >> 3 == 0:
        return None
    length, at = wire.varint(data, at)
    if length > size:
        return None
    return key >> 3, data[at : at + length], data[at + length :]
