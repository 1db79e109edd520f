"""Zip archives of arrays: their directory, and members that are stored as they are."""

from __future__ import annotations

import zlib
from struct import unpack_from
from typing import TYPE_CHECKING

from lstmstate import limits
from lstmstate.errors import CorruptError, UnsupportedError
from lstmstate.files.reader import ByteSource

if TYPE_CHECKING:
    import zipfile

EPOCH = (1980, 1, 1, 0, 0, 0)  # the same input makes the same bytes, whenever
# The end record of an archive (APPNOTE.TXT 4.3.16): 22 bytes and a comment of 64 KiB at most.
# The offsets of the number of entries in it, of their bytes, and of the length of the comment.
_TOTAL, _SIZE, _COMMENT = 10, 12, 20
_IN_ZIP64 = 0xFFFF  # the number is in another record
# Before it, where it is there: the end record of ZIP64, and the place of that (4.3.14, 4.3.15).
_ZIP64_BYTES, _LOCATOR_BYTES, _ZIP64_SIZE = 76, 20, 40
_END_BYTES = _ZIP64_BYTES + 22 + 0xFFFF
_ENTRY = 46  # bytes of an entry of the directory, before its name (4.3.12)
_LENGTHS = 28  # the offset of the lengths of its name, extra fields and comment
_LOCAL = 30  # bytes of the header of a member, before its name (4.3.7)
_PIECE = 1 << 20  # bytes that are verified at a time


def damage(error: Exception) -> CorruptError:
    """Return the error for what zipfile and what unpacks for it raise of damage."""
    return CorruptError(f"the archive is damaged ({error})")


def open_archive(source: ByteSource) -> zipfile.ZipFile:
    """Open an archive; refuse one with a name twice, or with fewer entries than it declares."""
    import zipfile

    size = min(source.size, _END_BYTES)
    end = source.read(source.size - size, size, "the end of the archive")
    at = end.rfind(b"PK\5\6")
    _refuse_other_ends(end, at, source.size)
    _refuse_long_extras(source, end, at)
    archive = zipfile.ZipFile(source.file())
    source.budget.spend(limits.MEMBERS, len(archive.infolist()))
    names = [member.filename for member in archive.infolist()]
    if len(set(names)) < len(names):
        raise CorruptError("two of its members have the same name")
    total = int.from_bytes(end[at + _TOTAL :][:2], "little")
    if total not in (len(names), _IN_ZIP64):
        raise CorruptError("the directory of the archive is damaged: members are missing")
    return archive


def _refuse_other_ends(end: bytes, at: int, size: int) -> None:
    """Refuse an archive with another directory for zipfile than the one read here."""
    comment = int.from_bytes(end[at + _COMMENT :][:2], "little")
    is_sound = at < 0 or at + _COMMENT + 2 + comment == len(end)
    locator = end[max(at - _LOCATOR_BYTES, 0) : max(at, 0)]
    if locator.startswith(b"PK\6\7"):
        record = at - _ZIP64_BYTES
        place = int.from_bytes(locator[8:16], "little")
        is_sound &= end.startswith(b"PK\6\6", max(record, 0))
        is_sound &= place == size - len(end) + record
    if not is_sound:
        raise CorruptError("the end of the archive is damaged")


def _refuse_long_extras(source: ByteSource, end: bytes, at: int) -> None:
    """Refuse members with long extra fields: zipfile takes the square of their length."""
    size, last = int.from_bytes(end[at + _SIZE :][:4], "little"), at
    if end[max(at - _LOCATOR_BYTES, 0) :].startswith(b"PK\6\7"):
        last = at - _ZIP64_BYTES
        size = int.from_bytes(end[last + _ZIP64_SIZE :][:8], "little")
    last += source.size - len(end)
    if at < 0 or size > last:
        return  # zipfile refuses it
    directory, place = source.read(last - size, size, "the directory of the archive"), 0
    while directory.startswith(b"PK\1\2", place) and place + _ENTRY <= size:
        lengths = unpack_from("<3H", directory, place + _LENGTHS)
        if lengths[1] > limits.MAX_EXTRA_BYTES:
            most = limits.MAX_EXTRA_BYTES
            raise UnsupportedError(
                f"expected extra fields of at most {most} bytes in a member, got {lengths[1]:,}",
                advice="pack it again",
            )
        place += _ENTRY + sum(lengths)


class StoredMember:
    """A member that is stored as it is, read by position.

    Its checksum is verified once. A checksum of 0 is none: torch.save can leave them out.

    Attributes:
        start: the byte of the file at which it begins.
        size: its bytes.
    """

    def __init__(self, source: ByteSource, member: zipfile.ZipInfo) -> None:
        import zipfile

        self.size = member.file_size
        is_plain = member.compress_type == zipfile.ZIP_STORED and not member.flag_bits & 1
        if not is_plain or member.compress_size != self.size:
            raise UnsupportedError("it is compressed or encrypted, which torch.save never does")
        head = source.read(member.header_offset, _LOCAL, "the header of a member")
        lengths = (int.from_bytes(head[at : at + 2], "little") for at in (26, 28))
        self.start = member.header_offset + _LOCAL + sum(lengths)
        if head[:4] != b"PK\3\4" or self.start + self.size > source.size:
            raise CorruptError("it is cut short")
        self._source = source
        self._unverified = member.CRC or None

    def verify(self) -> None:
        """Raise an error if the checksum does not match."""
        if self._unverified is not None:
            found = 0
            for at in range(0, self.size, _PIECE):
                length = min(_PIECE, self.size - at)
                found = zlib.crc32(self._source.read(self.start + at, length, "a member"), found)
            if found != self._unverified:
                raise CorruptError("its checksum does not match: the archive is damaged")
            self._unverified = None

    def read(self) -> bytes:
        """Return all of it."""
        self.verify()
        return self._source.read(self.start, self.size, "a member")
