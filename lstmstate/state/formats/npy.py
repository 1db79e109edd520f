"""npy files: a header, and the values of one array.

The header is a Python dict in text. The metadata of a state follows it as a comment,
which NumPy's own reader passes over. Format: numpy.lib.format, versions 1.0 and 2.0.
"""

from __future__ import annotations

import math
from typing import IO, TYPE_CHECKING

from lstmstate import limits
from lstmstate.errors import CorruptError, UnsupportedError
from lstmstate.files.reader import ByteSource
from lstmstate.records import NamedTuple
from lstmstate.state.formats.chunked import StateFile, StoredArray, read_rows
from lstmstate.state.metadata import KEY, Metadata, parse

if TYPE_CHECKING:
    import numpy as np

    from lstmstate.state.state import Array

_MARK = f"# {KEY} "
_ALIGNED = 64  # NumPy pads headers so that the values can be mapped
_WIDEST = 64  # bytes of an element: two numbers of quadruple precision have 32
_LONGEST = 2048  # characters of a header: NumPy takes long to read what Python 2 wrote
_READABLE = 9_000  # NumPy refuses headers of more than 10,000 characters


class Header(NamedTuple):
    """The header before the values: `start` is the byte at which they begin."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[np.generic]
    start: int
    metadata: Metadata | None

    @property
    def nbytes(self) -> int:
        """The bytes of the values."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(file: IO[bytes]) -> Header:
    """Read the header of an array from an open file."""
    import io

    from numpy.lib import format as npy

    # Only the header is given to NumPy, which would read one of any length.
    start = file.read(8)
    size = file.read(2 if start[6:7] == b"\x01" else 4)
    length = int.from_bytes(size, "little")
    if length > limits.MAX_NPY_HEADER_BYTES:
        raise UnsupportedError("its header is too long to be one")
    text = file.read(length)
    if len(text.partition(_MARK.encode())[0].strip()) > _LONGEST:
        raise UnsupportedError("its header is too long to be that of numbers")
    header = io.BytesIO(start + size + text)
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
        raise CorruptError("its shape has a size that is none")
    _, mark, told = text.decode("latin-1").rpartition(_MARK)
    return Header(
        shape, fortran_order, dtype, len(header.getvalue()), parse(told) if mark else None
    )


class NpyArray(StoredArray):
    """The array of an npy file, read by position."""

    def __init__(self, source: ByteSource) -> None:
        import io

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
        shape, axis = self.shape[::-1], len(self.shape) - 1 - axis
        part = read_rows(self._source, self.header.start, shape, self.dtype, axis, start, stop)
        return part.T


def open_file(source: ByteSource) -> StateFile:
    """Return the one array of an open npy file."""
    array = NpyArray(source)
    return StateFile(source.path, [array], array.header.metadata)


def header_bytes(
    shape: tuple[int, ...], dtype: np.dtype[np.generic], told: Metadata | None
) -> bytes:
    """Return the header of an array in C order, with what travels with it."""
    from numpy.lib import format as npy

    text = (
        f"{{'descr': {npy.dtype_to_descr(dtype)!r}, 'fortran_order': False, 'shape': {shape!r}, }}"
    )
    line = told.line() if told else ""
    if len(text) + len(line) > _READABLE:
        raise UnsupportedError(
            "the header of an .npy has no room for the names and widths of so many cells",
            advice="write an .npz or .h5",
        )
    text += f" {_MARK}{line}" if line else ""
    start = len(npy.magic(1, 0)) + 2
    text += " " * (-(start + len(text) + 1) % _ALIGNED) + "\n"
    return npy.magic(1, 0) + len(text).to_bytes(2, "little") + text.encode("latin-1")


def values(array: Array) -> memoryview:
    """Return the bytes of an array in C order."""
    import numpy as np

    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
