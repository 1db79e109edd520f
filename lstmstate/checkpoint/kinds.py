"""Kinds of files, by their first and last bytes."""

from __future__ import annotations

import re

from lstmstate.checkpoint import protobuf as wire
from lstmstate.checkpoint.sstable import MAGIC, masked_crc
from lstmstate.errors import CorruptError
from lstmstate.files.reader import LFS_POINTER, ByteSource
from lstmstate.named_tuple import NamedTuple

LOOK = 4096  # bytes of a file's start that are read
_FIELD_2 = b"\x12"  # the key of bytes in field 2 of a message
_MAX_HEADER = 100_000_000  # bytes of JSON in a safetensors file, by its specification
_ONNX_FIELDS = (2, 3, 4, 5, 6, 7, 8, 14, 20, 25)  # of a ModelProto, which may follow its version


class FileKind(NamedTuple):
    """A kind of file: a key for programs, a noun for messages, and advice to the user."""

    key: str
    words: str
    advice: str | None = None


_AGAIN = "copy it again from where it came from"
_UNPACK = "unpack it first"
_ORIGINAL = "pass the TensorFlow checkpoint that it was made from"
_SAVE = "save its values with numpy.save"
_SAVE_NPZ = "save the state with numpy.savez(FILE, c=..., m=...)"
_WEIGHTS = "its weights are not run; a state in it is read by inspect, convert and run"
_SAVE_KERAS = "save it as a checkpoint: tf.train.Checkpoint(model=model).save(PREFIX)"
_SAVE_JAX = f"weights of JAX are not read; {_SAVE_NPZ}"

TABLE = FileKind("table", "a TensorFlow checkpoint table")
CHECKPOINT_STATE = FileKind("checkpoint_state", "a `checkpoint` text file")
NPY = FileKind("npy", "a NumPy array")
NPZ = FileKind("npz", "an archive of NumPy arrays")
HDF5 = FileKind("hdf5", "an HDF5 file")
PICKLE = FileKind("pickle", "a Python pickle")
SAVED_MODEL = FileKind(
    "saved_model", "the graph of a SavedModel", "pass its folder, with variables/"
)
META = FileKind(
    "meta", "the graph of a checkpoint (a MetaGraphDef)", "pass the checkpoint next to it"
)
GENERATOR = FileKind("generator_bundle", "a bundle of a music generator (Magenta)")
FROZEN = FileKind("frozen_graph", "a frozen graph (a GraphDef)")
PBTXT = FileKind("pbtxt", "a graph as text", "pass the checkpoint next to it")
LFS = FileKind(
    "lfs_pointer", "a Git LFS pointer", "run 'git lfs pull' in the repository it came from"
)
EMPTY = FileKind("empty", "an empty file", _AGAIN)
TEXT = FileKind("text", "a text file")
UNKNOWN = FileKind("unknown", "a file of unknown kind")

PYTORCH = FileKind("pytorch", "a PyTorch file (torch.save)", _WEIGHTS)
_PYTORCH_LEGACY = FileKind(
    "pytorch_legacy",
    "a PyTorch file of the format before PyTorch 1.6",
    "save it again: torch.save(torch.load(FILE), NEW)",
)
_KERAS = FileKind("keras", "a Keras 3 model (a zip with HDF5)", _SAVE_KERAS)
_ONNX = FileKind("onnx", "an ONNX model", _ORIGINAL)
SAFETENSORS = FileKind(
    "safetensors",
    "a safetensors file",
    _WEIGHTS,
)
_MSGPACK = FileKind("msgpack", "a MessagePack file (Flax)", _SAVE_JAX)
_EVENTS = FileKind("tfevents", "an event file of TensorBoard", "pass the checkpoint next to it")
_TFRECORD = FileKind("tfrecord", "a TFRecord file", _SAVE)
_ORBAX = FileKind("orbax", "an Orbax checkpoint of JAX", _SAVE_JAX)
_ZARR = FileKind("zarr", "a Zarr array", _SAVE)
_GGUF = FileKind("gguf", "a GGUF model", "its weights are not read")
_ZIP = FileKind("zip", "a zip archive", _UNPACK)

# (offset, the bytes there, the kind); the first row that fits counts
_SIGNATURES: tuple[tuple[int, bytes, FileKind], ...] = (
    (0, b"\x93NUMPY", NPY),
    (0, b"\x89HDF\r\n\x1a\n", HDF5),
    (0, LFS_POINTER, LFS),
    (
        0,
        b"/annex/objects/",
        FileKind("annex_pointer", "a git-annex pointer", "run 'git annex get'"),
    ),
    (0, b"outs:\n- md5:", FileKind("dvc_pointer", "a DVC pointer", "run 'dvc pull'")),
    (4, b"TFL3", FileKind("tflite", "a TensorFlow Lite model", _ORIGINAL)),
    *((0, b"GGUF%c\0\0\0" % version, _GGUF) for version in range(1, 4)),
    (21, b"\x1a\x0dbrain.Event:", _EVENTS),
    # the pickle of torch.serialization.MAGIC_NUMBER
    (0, b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", _PYTORCH_LEGACY),
    (0, b"\x12\x01\0\0\0\0\0\0", FileKind("mxnet", "an MXNet file", "its weights are not read")),
    (10, b" MAT-file", FileKind("matlab", "a MATLAB file", f"load it with scipy.io and {_SAVE}")),
    (0, b"PAR1\x15", FileKind("parquet", "a Parquet table", "save it as .csv or .npy")),
    (0, b"ARROW1\0\0", FileKind("arrow", "an Arrow table", "save it as .csv or .npy")),
    (0, b"SQLite format 3\0", FileKind("sqlite", "an SQLite database", "save its rows as .csv")),
    (0, b"\x1f\x8b", FileKind("gzip", "a gzip archive", _UNPACK)),
    (0, b"BZh", FileKind("bzip2", "a bzip2 archive", _UNPACK)),
    (0, b"\xfd7zXZ\0", FileKind("xz", "an xz archive", _UNPACK)),
    (0, b"\x28\xb5\x2f\xfd", FileKind("zstd", "a Zstandard archive", _UNPACK)),
    (0, b"\x04\x22\x4d\x18", FileKind("lz4", "an LZ4 archive", _UNPACK)),
    (
        0,
        b"x\x9c",
        FileKind("zlib", "zlib data (joblib?)", f"load it and {_SAVE}"),
    ),
    (257, b"ustar", FileKind("tar", "a tar archive", _UNPACK)),
    (0, b"Rar!\x1a", FileKind("rar", "a RAR archive", _UNPACK)),
    (0, b"7z\xbc\xaf", FileKind("7z", "a 7-Zip archive", _UNPACK)),
    (0, b"%PDF", FileKind("pdf", "a PDF document")),
    (0, b"\x89PNG", FileKind("image", "an image")),
    (0, b"\xff\xd8\xff", FileKind("image", "an image")),
    *((0, bytes([0x80, protocol]), PICKLE) for protocol in range(2, 6)),
)

# (pattern of the name of a zip's first member, the kind)
_ZIPS: tuple[tuple[bytes, FileKind], ...] = (
    (rb".*\.npy", NPZ),
    (rb".*data\.pkl|.*/(version|byteorder|\.format_version|\.data/.*)", PYTORCH),
    (rb"metadata\.json|config\.json|model\.weights\.h5", _KERAS),
    (
        rb"\[Content_Types\]\.xml|mimetype",
        FileKind("office", "an Office document", "save its table as .csv"),
    ),
)

# (pattern at the start of a text, the kind)
_TEXTS: tuple[tuple[bytes, FileKind], ...] = (
    (rb"model_checkpoint_path:|all_model_checkpoint_paths:", CHECKPOINT_STATE),
    (
        rb"(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?<(!doctype )?html\b",
        FileKind("html", "a web page", "download the file itself: its raw or download link"),
    ),
    (rb"<\?xml", FileKind("xml", "an XML text", "open it: a server may have sent an error")),
    (
        rb'[{\[].*"(modelTopology|weightsManifest)"',
        FileKind("tfjs", "a TensorFlow.js model", _ORIGINAL),
    ),
    (
        rb'{.*"class_name".*"config"|{.*"config".*"class_name"',
        FileKind("keras_json", "the architecture of a Keras model", "pass the file of its weights"),
    ),
    (rb"[{\[]", FileKind("json", "a JSON text")),
)

# (a name in a folder, the kind of the folder)
_FOLDERS: tuple[tuple[str, FileKind], ...] = (
    ("_CHECKPOINT_METADATA", _ORBAX),
    ("manifest.ocdbt", _ORBAX),
    ("_METADATA", _ORBAX),
    (".zarray", _ZARR),
    (".zgroup", _ZARR),
    ("zarr.json", _ZARR),
    ("model.safetensors", SAFETENSORS),
    ("pytorch_model.bin", PYTORCH),
)


def identify(source: ByteSource) -> FileKind:
    """Return the kind of an open file, by its content alone."""
    start = source.read(0, min(source.size, LOOK), "the start of the file")
    end = source.read(max(source.size - 8, 0), min(source.size, 8), "the end of the file")
    if not start:
        return EMPTY
    if end == MAGIC:
        return TABLE
    if _is_safetensors(start, source.size):  # its length may begin like another kind
        return SAFETENSORS
    for offset, signature, kind in _SIGNATURES:
        if start[offset : offset + len(signature)] == signature:
            return kind
    if start[:4] == b"PK\x03\x04":
        length = int.from_bytes(start[26:28], "little")
        name = source.read(30, min(length, source.size - 30), "the name of a member")
        return next((kind for pattern, kind in _ZIPS if re.fullmatch(pattern, name)), _ZIP)
    return _text(start) or _binary(start, source.size) or _protobuf(start, source.size) or UNKNOWN


def of_folder(names: list[str]) -> FileKind | None:
    """Return the kind of a folder with these names in it, None for any other."""
    return next((kind for name, kind in _FOLDERS if name in names), None)


def is_text(start: bytes) -> bool:
    """Whether the first `LOOK` bytes of a file, or all of a shorter one, are a text."""
    try:
        # The last characters may be cut through.
        text = start.decode("utf-8") if len(start) < LOOK else start[:-4].decode("utf-8", "ignore")
    except UnicodeDecodeError:
        return False
    return re.search("[\0-\b\v\x0e-\x1f]", text) is None  # control characters, but for \t \n \f \r


def _text(start: bytes) -> FileKind | None:
    """Return the kind of a text, None for other bytes; a web page may be in any encoding."""
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    flags = re.IGNORECASE | re.DOTALL
    kind = next((kind for pattern, kind in _TEXTS if re.match(pattern, text, flags)), None)
    if not is_text(start):
        return kind if kind is not None and kind.key == "html" else None
    from lstmstate.checkpoint import text_format

    return kind or (TEXT if text_format.message_of(start) is None else PBTXT)


def _is_safetensors(start: bytes, size: int) -> bool:
    """Whether the length of a JSON header is in the first bytes: the README of safetensors."""
    length = int.from_bytes(start[:8], "little")
    return start[8:9] == b"{" and 2 <= length <= min(size - 8, _MAX_HEADER)


def _binary(start: bytes, size: int) -> FileKind | None:
    """Return the kind of a file with the size of a record in its first bytes, or of a map.

    Sources: io/record_writer.h of TensorFlow 1.15; the specification of MessagePack, whose fixmap
    and map 16 begin with a short text as the first key.
    """
    length = int.from_bytes(start[:8], "little")
    if length <= size - 16 and masked_crc(start[:8]) == int.from_bytes(start[8:12], "little"):
        return _TFRECORD
    key = re.match(rb"(?:[\x81-\x8f]|\xde..)([\xa1-\xbf])(\w*)", start, re.DOTALL)
    return _MSGPACK if key and len(key[2]) >= key[1][0] & 0x1F else None


def _protobuf(start: bytes, size: int) -> FileKind | None:
    """Return the kind of a message of TensorFlow or ONNX by its first fields, None for others.

    A MetaGraphDef begins with meta_info_def (1) that holds a stripped_op_list (2) or a version;
    a GraphDef with a node (1) that holds a name (1) and an op (2); a SavedModel with its schema
    version (1, always 1) and a MetaGraphDef (2); a ModelProto of ONNX with its version (1, from 2
    on); a GeneratorBundle with generator_details (1) and a table (2).
    """
    try:
        number, value, rest = _first_field(start, size) or (0, None, b"")
        if _has_table(start) or (number == 1 and _has_table(rest)):
            return GENERATOR
        if number == 1 and value is None and rest:
            is_onnx = start[1] != 1 and rest[0] >> 3 in _ONNX_FIELDS
            return _ONNX if is_onnx else SAVED_MODEL if rest[:1] == _FIELD_2 else None
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
