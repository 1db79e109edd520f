"""npz files: a zip archive of npy files."""

from __future__ import annotations

import zipfile
from typing import IO, TYPE_CHECKING

from lstmstate import limits
from lstmstate.errors import CorruptError, UnsupportedError, raised_as
from lstmstate.files.reader import ByteSource
from lstmstate.state.formats.chunked import StateFile, StoredArray
from lstmstate.state.formats.npy import Header, header_bytes, read_header, values
from lstmstate.state.metadata import KEY, Metadata, parse

if TYPE_CHECKING:
    from lstmstate.state.state import Array

_SUFFIX = ".npy"
# The end record of an archive (APPNOTE.TXT 4.3.16): 22 bytes and a comment of 64 KiB at most.
_END_BYTES = 22 + 0xFFFF
_TOTAL = 10  # the offset of the number of entries in it
_IN_ZIP64 = 0xFFFF  # the number is in another record
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same input makes the same bytes, whenever


class NpzArray(StoredArray):
    """An array of an archive, read from its start on; the archive's checksum is verified."""

    def __init__(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo, header: Header) -> None:
        super().__init__(member.filename[: -len(_SUFFIX)], header.shape, header.dtype)
        self._archive = archive
        self._member = member
        self._header = header
        self._file: IO[bytes] | None = None
        self._at = 0  # bytes of the values that were read
        self._held: Array | None = None

    def read(self, axis: int, start: int, stop: int) -> Array:
        """Return the rows; along the first axis in order, they are all that is held."""
        if self.shape[0] and axis == 0 and not self._header.fortran_order:
            row = self._header.nbytes // self.shape[0]
            return self._rows(start * row, stop * row).reshape(stop - start, *self.shape[1:])
        if self._held is None:
            flat = self._rows(0, self._header.nbytes)
            order = self.shape[::-1] if self._header.fortran_order else self.shape
            whole = flat.reshape(order)
            self._held = whole.T if self._header.fortran_order else whole
        return self._held[(slice(None),) * axis + (slice(start, stop),)]

    def _rows(self, start: int, stop: int) -> Array:
        """Return the values in a range of bytes, going back to the start if they are behind."""
        import numpy as np

        with raised_as(_damage, self.name):
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


def _damage(error: Exception) -> CorruptError:
    """Return the error for what zipfile and what unpacks for it raise of damage."""
    return CorruptError(f"the archive is damaged ({error})")


def open_file(source: ByteSource) -> StateFile:
    """Return the arrays of an open npz file."""
    arrays = []
    metadata = None
    with raised_as(_damage):
        archive = zipfile.ZipFile(source.file())
        if len(archive.infolist()) > limits.MAX_MEMBERS:
            raise UnsupportedError(f"it holds more than {limits.MAX_MEMBERS} members")
        _refuse_lost_entries(archive, source)
        for member in archive.infolist():
            if not member.filename.endswith(_SUFFIX):
                archive.open(member).close()  # its name there and in the directory must agree
                continue
            with raised_as(_damage, member.filename[: -len(_SUFFIX)]):
                array = _array(archive, member, source.size)
                if array.name == KEY:
                    metadata = _metadata(array)
                else:
                    arrays.append(array)
    return StateFile(source.path, arrays, metadata)


def _refuse_lost_entries(archive: zipfile.ZipFile, source: ByteSource) -> None:
    """Refuse a directory with a name twice, or with fewer entries than it declares."""
    names = [member.filename for member in archive.infolist()]
    if len(set(names)) < len(names):
        raise CorruptError("two of its members have the same name")
    size = min(source.size, _END_BYTES)
    end = source.read(source.size - size, size, "the end of the archive")
    at = end.rfind(b"PK\5\6") + _TOTAL
    total = int.from_bytes(end[at : at + 2], "little")
    if total not in (len(names), _IN_ZIP64):
        raise CorruptError("the directory of the archive is damaged: members are missing")


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, size: int) -> NpzArray:
    """Read the header of a member; its size is checked against its values and the file."""
    if member.header_offset + member.compress_size > size:
        raise CorruptError("it is cut short")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UnsupportedError("it is packed in a way that NumPy does not write")
    too_dense = member.file_size > limits.NPZ_BOMB_RATIO * member.compress_size
    if member.file_size > limits.BOMB_BYTES and too_dense:
        raise UnsupportedError(
            f"it declares {member.file_size} bytes and stores {member.compress_size}"
        )
    with archive.open(member) as file:
        header = read_header(file)
    if header.nbytes > member.file_size - header.start:
        raise CorruptError("it is cut short")
    return NpzArray(archive, member, header)


def _metadata(array: NpzArray) -> Metadata | None:
    """Return what travels with the state; a member of another kind is somebody else's."""
    if array.shape or array.dtype.kind != "U":
        return None
    return parse(str(array._rows(0, array.dtype.itemsize)[0]))


def packing(*, compress: bool) -> int:
    """Return how members are stored, as zipfile calls it."""
    return zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED


def new_member(archive: zipfile.ZipFile, name: str, method: int) -> IO[bytes]:
    """Return a new array of an archive, to be written from its header on; it is of no time."""
    info = zipfile.ZipInfo(f"{name}{_SUFFIX}", _EPOCH)
    info.compress_type = method
    return archive.open(info, "w", force_zip64=True)


def write_metadata(archive: zipfile.ZipFile, metadata: Metadata, method: int) -> None:
    """Write what travels with a state as the last member."""
    import numpy as np

    told = np.array(metadata.line())
    with new_member(archive, KEY, method) as member:
        member.write(header_bytes((), told.dtype, None))
        member.write(values(told))
