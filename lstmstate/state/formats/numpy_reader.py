"""npy files, a header and the values of one array, and npz files, a zip archive of npy files.

The header is a Python dict in text. The metadata of a state follows it as a comment,
which NumPy's own reader passes over. Format: numpy.lib.format, versions 1.0 and 2.0.
"""

from __future__ import annotations

import io
import math
from functools import lru_cache
from typing import IO, TYPE_CHECKING

from lstmstate import limits
from lstmstate.errors import CorruptError, UnsupportedError, raised_as
from lstmstate.files.reader import ByteSource
from lstmstate.named_tuple import NamedTuple
from lstmstate.state.formats.stored_array import StateFile, StoredArray, read_rows, rows_of
from lstmstate.state.formats.zip_archive import damage, open_archive
from lstmstate.state.metadata import KEY, Metadata, parse

if TYPE_CHECKING:
    import zipfile

    from lstmstate.state.state import Array, DType

MARK = f"# {KEY} "
SUFFIX = ".npy"  # of the names in an archive
_WIDEST = 64  # bytes of an element: two numbers of quadruple precision have 32
_LONGEST = 2048  # characters of a header: NumPy takes long to read what Python 2 wrote


class NpyHeader(NamedTuple):
    """The header before the values: `start` is the byte at which they begin."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: DType
    start: int
    metadata: Metadata | None

    @property
    def nbytes(self) -> int:
        """The bytes of the values."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(file: IO[bytes]) -> NpyHeader:
    """Read the header of an array from an open file."""
    # Only the header is given to NumPy, which would read one of any length.
    start = file.read(8)
    size = file.read(2 if start[6:7] == b"\x01" else 4)
    length = int.from_bytes(size, "little")
    if length > limits.MAX_NPY_HEADER_BYTES:
        raise UnsupportedError("its header is too long to be one")
    text = file.read(length)
    if len(text.partition(MARK.encode())[0].strip()) > _LONGEST:
        raise UnsupportedError("its header is too long to be that of numbers")
    return _parse_header(start + size + text)


@lru_cache(maxsize=16)
def _parse_header(data: bytes) -> NpyHeader:
    """Parse a header; many members of an archive have the same."""
    from numpy.lib import format as npy

    header = io.BytesIO(data)
    version = npy.read_magic(header)
    reader = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
    if reader is None:
        raise UnsupportedError(f"its npy version is {version[0]}.{version[1]}")
    shape, fortran_order, dtype = reader(header)
    if dtype.hasobject:
        raise UnsupportedError("it holds a pickle, which is never read")
    is_text = dtype.kind in "US"  # such as what travels with a state in an npz
    if dtype.subdtype is not None or not (is_text or 0 < dtype.itemsize <= _WIDEST):
        raise UnsupportedError(f"elements of {dtype.itemsize} bytes are not numbers")
    if any(type(size) is not int or size < 0 for size in shape):
        raise CorruptError("expected whole numbers of 0 or more as its shape, got others")
    _, mark, line = data.decode("latin-1").rpartition(MARK)
    return NpyHeader(shape, fortran_order, dtype, len(data), parse(line) if mark else None)


class NpyArray(StoredArray):
    """The array of an npy file, read by position."""

    def __init__(self, source: ByteSource) -> None:
        start = source.read(0, min(source.size, limits.MAX_NPY_HEADER_BYTES), "the header")
        self.header = read_header(io.BytesIO(start))
        super().__init__("", self.header.shape, self.header.dtype)
        stored = source.size - self.header.start
        if self.header.nbytes > stored:
            raise CorruptError(
                f"the file is cut short: {stored} bytes of {self.header.nbytes}", path=source.path
            )
        self._source = source

    def read(self, axis: int, start: int, stop: int) -> Array:
        """Return the rows."""
        if not self.header.fortran_order:
            return read_rows(
                self._source, self.header.start, self.shape, self.dtype, axis, start, stop
            )
        # An array in Fortran's order is a transposed one in C's.
        shape, axis = self.shape[::-1], max(len(self.shape), 1) - 1 - axis
        part = read_rows(self._source, self.header.start, shape, self.dtype, axis, start, stop)
        return part.T


def open_npy(source: ByteSource) -> StateFile:
    """Return the one array of an open npy file."""
    array = NpyArray(source)
    return StateFile(source.path, [array], array.header.metadata)


class NpzArray(StoredArray):
    """An array of an archive, read from its start on; the archive's checksum is verified."""

    def __init__(
        self, archive: zipfile.ZipFile, member: zipfile.ZipInfo, header: NpyHeader
    ) -> None:
        super().__init__(member.filename[: -len(SUFFIX)], header.shape, header.dtype)
        self._archive = archive
        self._member = member
        self._header = header
        self._file: IO[bytes] | None = None
        self._at = 0  # bytes of the values that were read
        self._held: Array | None = None

    @property
    def part_bytes(self) -> int:
        """The same; an array in Fortran's order is read whole."""
        return self.nbytes if self._header.fortran_order else super().part_bytes

    def read(self, axis: int, start: int, stop: int) -> Array:
        """Return the rows; along the first axis in order, they are all that is held."""
        if self.rows and axis == 0 and not self._header.fortran_order:
            row = self.nbytes // self.rows
            return self._rows(start * row, stop * row).reshape(stop - start, *self.shape[1:])
        if self._held is None:
            self.refuse_bomb(self.nbytes, self._member.compress_size)
            flat = self._rows(0, self._header.nbytes)
            order = self.shape[::-1] if self._header.fortran_order else self.shape
            whole = flat.reshape(order)
            self._held = whole.T if self._header.fortran_order else whole
        return self._held.reshape(self.shape or 1)[rows_of(axis, start, stop)]

    def _rows(self, start: int, stop: int) -> Array:
        """Return the values in a range of bytes, going back to the start if they are behind."""
        import numpy as np

        with raised_as(damage, self.name):
            if self._file is None or start < self._at:
                self._file = self._archive.open(self._member)
                self._file.read(self._header.start)
                self._at = 0
            while self._at < start:
                self._at += len(self._take(min(start - self._at, 1 << 20)))
            data = self._take(stop - start)
            self._at = stop
            if stop == self._header.nbytes and self._file.read(1):
                raise CorruptError("it is longer than its shape allows")
        return np.frombuffer(data, self.dtype)

    def _take(self, size: int) -> bytes:
        assert self._file is not None
        data = self._file.read(size)
        if len(data) != size:
            raise CorruptError("it is cut short")
        return data


def open_npz(source: ByteSource) -> StateFile:
    """Return the arrays of an open npz file."""
    arrays = []
    metadata = None
    with raised_as(damage):
        archive = open_archive(source)
        for member in archive.infolist():
            if not member.filename.endswith(SUFFIX):
                archive.open(member).close()  # its name there and in the directory must agree
                continue
            with raised_as(damage, member.filename[: -len(SUFFIX)]):
                array = _array(archive, member, source)
                if array.name == KEY:
                    metadata = _metadata(array)
                else:
                    arrays.append(array)
    return StateFile(source.path, arrays, metadata)


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, source: ByteSource) -> NpzArray:
    """Read the header of a member; its size is checked against its values and the file."""
    import zipfile

    if member.header_offset + member.compress_size > source.size:
        raise CorruptError("it is cut short")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UnsupportedError("it is packed in a way that NumPy does not write")
    source.budget.spend(limits.ARRAYS, 1 + member.file_size // 1024)
    with archive.open(member) as file:
        header = read_header(file)
    if header.nbytes > member.file_size - header.start:
        raise CorruptError("it is cut short")
    array = NpzArray(archive, member, header)
    array.refuse_bomb(array.part_bytes, member.compress_size)
    return array


def _metadata(array: NpzArray) -> Metadata | None:
    """Return what travels with the state; a member of another kind is somebody else's."""
    if array.shape or array.dtype.kind != "U":
        return None
    size = array.dtype.itemsize
    if size > limits.MAX_METADATA_BYTES:
        most = limits.MAX_METADATA_BYTES
        raise UnsupportedError(f"expected metadata of at most {most:,} bytes, got {size:,}")
    # NumPy makes text of any numbers, also of those of no character.
    text = array._rows(0, size).astype(array.dtype.newbyteorder("<")).tobytes()
    try:
        return parse(text.decode("utf-32-le").rstrip("\0"))
    except UnicodeDecodeError as error:
        raise CorruptError("its metadata cannot be read") from error
