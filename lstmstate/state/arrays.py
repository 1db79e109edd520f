"""The arrays of a state file (.npy, .npz, .h5), listed from its headers.

Nothing is unpickled, no link is followed, and what declares far more than it stores is refused.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING, NamedTuple

from lstmstate import limits
from lstmstate.checkpoint.identify import HDF5, NPY, NPZ, Kind
from lstmstate.errors import CorruptError, LstmstateError, UnsupportedError, located

if TYPE_CHECKING:
    import h5py


class ArrayInfo(NamedTuple):
    """An array of a state file.

    Attributes:
        name: its place in the file; "" where the file is one array.
        readings: the layouts that it could be, likeliest first.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    nbytes: int
    readings: tuple[str, ...]


def list_arrays(path: str, kind: Kind) -> list[ArrayInfo]:
    """Return the arrays of a state file.

    Raises:
        LstmstateError: it is damaged, or holds what must not be read.
    """
    with located(path):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                arrays = list(_LISTERS[kind.key](path))
        except LstmstateError:
            raise
        except Exception as error:  # the libraries below raise whatever damage leads them to
            raise CorruptError(
                f"this is not {kind.words} that can be read ({type(error).__name__})",
                advice="copy it again from where it came from",
            ) from None
    if len(arrays) > limits.MAX_MEMBERS:
        raise UnsupportedError(f"it holds more than {limits.MAX_MEMBERS} arrays", path=path)
    return arrays


def can_list(kind: Kind) -> bool:
    """Whether files of this kind are state files."""
    return kind.key in _LISTERS


def readings(name: str, shape: tuple[int, ...]) -> tuple[str, ...]:
    """Return the layouts that an array of this name and shape could be.

    >>> readings("", (8, 256))
    ('flat (c 128 | m 128, without a projection)', 'c or m')
    >>> readings("", (2, 2, 8, 128))
    ('layered [L, 2, batch, units]', 'c or m')
    """
    last = name.rpartition("/")[2].lower().rstrip("0123456789").rstrip("_")
    for known, words in _NAMED.items():
        if last in known:
            return (words,)
    if len(shape) < 2 or shape[-1] < 2:
        return ("c or m",) if shape else ()
    found = []
    if len(shape) == 4 and shape[1] == 2:
        found.append("layered [L, 2, batch, units]")
    if len(shape) == 3 and shape[0] == 2:
        # What Keras and PyTorch write has the same shape the other way round.
        found.append("layered [2, batch, units], c first")
        found.append("[h, c] of Keras or PyTorch, h first")
    if len(shape) >= 3 and shape[-2] == 2:
        found.append("stacked [batch, 2, units]")
    half = shape[-1] // 2
    even = f"flat (c {half} | m {half}, without a projection)"
    found += [] if found else [even if shape[-1] % 2 == 0 else "flat (with a projection)"]
    return (*found, "c or m")


_NAMED = {
    frozenset({"c", "c_state", "cell"}): "c",
    frozenset({"m", "m_state", "h", "hidden"}): "m",
    frozenset({"h_n"}): "torch h_n (m)",
    frozenset({"c_n"}): "torch c_n (c)",
}


def _npy(path: str) -> Iterator[ArrayInfo]:
    with open(path, "rb") as file:
        info = _header("", file)
        stored = file.seek(0, 2) - info[1]
    if info[0].nbytes > stored:
        raise CorruptError(f"the file is cut short: {stored} bytes of {info[0].nbytes}")
    yield info[0]


def _npz(path: str) -> Iterator[ArrayInfo]:
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            if len(archive.infolist()) > limits.MAX_MEMBERS:
                raise UnsupportedError(f"it holds more than {limits.MAX_MEMBERS} members")
            for member in archive.infolist():
                if not member.filename.endswith(".npy"):
                    continue
                too_dense = member.file_size > limits.NPZ_BOMB_RATIO * member.compress_size
                if member.file_size > limits.BOMB_BYTES and too_dense:
                    raise UnsupportedError(
                        f"it declares {member.file_size} bytes and stores {member.compress_size}",
                        tensor=member.filename,
                    )
                with archive.open(member) as file:
                    info, start = _header(member.filename[:-4], file)
                if info.nbytes > member.file_size - start:
                    raise CorruptError("it is cut short", tensor=info.name)
                yield info
    except zipfile.BadZipFile as error:
        raise CorruptError(f"the archive is damaged ({error})") from None


def _header(name: str, file: IO[bytes]) -> tuple[ArrayInfo, int]:
    """Read the header of an array; returns where its values begin, too."""
    import io

    from numpy.lib import format as npy

    # Only the header is given to NumPy, which would read one of any length.
    start = file.read(8)
    size = file.read(2 if start[6:7] == b"\x01" else 4)
    length = int.from_bytes(size, "little")
    if length > limits.MAX_NPY_HEADER_BYTES:
        raise UnsupportedError("its header is too long to be one", tensor=name or None)
    header = io.BytesIO(start + size + file.read(length))
    version = npy.read_magic(header)
    reader = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
    if reader is None:
        raise UnsupportedError(f"its npy version is {version[0]}.{version[1]}", tensor=name or None)
    shape, _, dtype = reader(header)
    if dtype.hasobject:
        raise UnsupportedError("it holds a pickle, which is never read", tensor=name or None)
    if any(size < 0 for size in shape):
        raise CorruptError("its shape has a size below zero", tensor=name or None)
    nbytes = math.prod(shape) * dtype.itemsize
    return ArrayInfo(name, shape, str(dtype), nbytes, readings(name, shape)), len(header.getvalue())


def _hdf5(path: str) -> Iterator[ArrayInfo]:
    """Walk the groups of a file by hard links alone, each object once."""
    import h5py

    with h5py.File(path, "r") as file:
        queue: list[tuple[str, h5py.Group]] = [("", file)]
        names = 0
        seen = set()
        while queue:
            prefix, group = queue.pop()
            for key in group:
                name = f"{prefix}{key}"
                names += len(name)
                if names > limits.MAX_NAMES_BYTES:
                    raise UnsupportedError("its names are too long to be names of arrays")
                if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                    continue  # a soft or external link leads elsewhere
                found = group[key]
                address = h5py.h5o.get_info(found.id).addr
                if address in seen:
                    continue
                seen.add(address)
                if len(seen) > limits.MAX_MEMBERS:
                    raise UnsupportedError(f"it holds more than {limits.MAX_MEMBERS} objects")
                if isinstance(found, h5py.Group):
                    queue.append((f"{name}/", found))
                elif isinstance(found, h5py.Dataset):
                    yield _dataset(name, found)


def _dataset(name: str, found: h5py.Dataset) -> ArrayInfo:
    """Return what an HDF5 dataset declares; its storage has to be in the file itself."""
    if found.external or found.is_virtual:
        raise UnsupportedError("its values lie in another file, which is not read", tensor=name)
    shape = tuple(found.shape or ())
    nbytes = math.prod(shape) * found.dtype.itemsize
    stored = found.id.get_storage_size()
    if nbytes > limits.BOMB_BYTES and nbytes > limits.HDF5_BOMB_RATIO * stored:
        raise UnsupportedError(f"it declares {nbytes} bytes and stores {stored}", tensor=name)
    return ArrayInfo(name, shape, str(found.dtype), nbytes, readings(name, shape))


_LISTERS: dict[str, Callable[[str], Iterator[ArrayInfo]]] = {
    NPY.key: _npy,
    NPZ.key: _npz,
    HDF5.key: _hdf5,
}
