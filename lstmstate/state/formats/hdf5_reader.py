"""HDF5 files: datasets in groups. Only hard links are followed, and only storage in the file.

The library gives the offsets of values, and they are read and unpacked here: its own filters read
beyond the end of damaged chunks, and loop for ever over damaged heaps, its storage for texts of any
length. Filters: HDF5 specification, "Filter Pipeline Message".
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from itertools import product
from typing import TYPE_CHECKING

from lstmstate import limits
from lstmstate.errors import CorruptError, UnsupportedError, raised_as
from lstmstate.files.reader import ByteSource
from lstmstate.state.formats.stored_array import StateFile, StoredArray, read_rows, rows_of
from lstmstate.state.metadata import KEY, parse
from lstmstate.state.other_contents import KERAS_ATTRIBUTES, weights

if TYPE_CHECKING:
    import h5py

    from lstmstate.state.state import Array

_GZIP, _SHUFFLE = 1, 2  # what h5py's compression="gzip" and shuffle=True put on a dataset
_PACKINGS: tuple[list[int], ...] = ([], [_GZIP], [_SHUFFLE], [_SHUFFLE, _GZIP])
_NUMBERS = "fciub"


class Hdf5Array(StoredArray):
    """A dataset; its values are read by position, whole chunks at a time where it has any.

    It is open only while it is read: the library takes 20 kB for each that is open.
    """

    def __init__(
        self,
        place: bytes,
        found: h5py.h5d.DatasetID,
        address: int,
        file: h5py.File,
        source: ByteSource,
    ) -> None:
        name = place.decode("utf-8", "surrogateescape")
        super().__init__(name, tuple(found.shape or ()), found.dtype)
        self._place = place
        self._address = address
        self._file = file
        self._source = source
        self._kept: dict[tuple[int, ...], Array] = {}  # chunks of the last rows

    def read(self, axis: int, start: int, stop: int) -> Array:
        """Return the rows."""
        import h5py
        import numpy as np

        with raised_as(_damage, self.name):
            found = h5py.h5d.open(self._file.id, self._place)
            if h5py.h5o.get_info(found).addr != self._address:
                raise CorruptError("its name leads to two datasets")
            plan = found.get_create_plist()
            self._refuse_foreign(found, plan)
            if plan.get_layout() == h5py.h5d.CHUNKED:
                return self._from_chunks(found, plan, axis, start, stop)
            if plan.get_layout() == h5py.h5d.CONTIGUOUS and found.get_storage_size():
                offset = found.get_offset()
                return read_rows(self._source, offset, self.shape, self.dtype, axis, start, stop)
            # A few values in the header of the dataset, or none that were ever written.
            rows = rows_of(axis, start, stop) if self.shape else ()
            part: Array = np.asarray(h5py.Dataset(found)[rows])
            self._source.refuse_changed()
        return part if self.shape else part.reshape(1)

    def _refuse_foreign(self, found: h5py.h5d.DatasetID, plan: h5py.h5p.PropDCID) -> None:
        """Refuse elements that are not as NumPy has them, and packings that are not known."""
        import h5py

        if self.dtype.kind not in _NUMBERS:
            raise UnsupportedError(f"it holds {self.dtype}, not numbers")
        if found.get_type() != h5py.h5t.py_create(self.dtype, logical=True):
            raise UnsupportedError("its numbers are of a kind that NumPy does not have")
        if [plan.get_filter(k)[0] for k in range(plan.get_nfilters())] not in _PACKINGS:
            raise UnsupportedError(
                "its values are packed in a way that is not read",
                advice="save it with no compression, or with gzip",
            )

    def _from_chunks(
        self,
        found: h5py.h5d.DatasetID,
        plan: h5py.h5p.PropDCID,
        axis: int,
        start: int,
        stop: int,
    ) -> Array:
        """Put the rows together from their chunks."""
        import numpy as np

        chunk = tuple(plan.get_chunk())
        size = math.prod(chunk) * self.dtype.itemsize
        if size > max(limits.MAX_CHUNK_BYTES, 2 * math.prod(self.shape) * self.dtype.itemsize):
            raise UnsupportedError(f"its chunks of {size} bytes are larger than all of it")
        ranges = [range(0, extent, step) for extent, step in zip(self.shape, chunk, strict=True)]
        first = start - start % chunk[axis]
        ranges[axis] = range(first, stop, chunk[axis])
        shape = list(self.shape)
        shape[axis] = stop - start
        part: Array = np.zeros(shape, self.dtype)
        before = self._kept  # looked at once: another thread may replace it at any moment
        kept: dict[tuple[int, ...], Array] = {}
        for corner in product(*ranges) if part.size else ():
            values = before.get(corner)
            kept[corner] = self._chunk(found, plan, corner, chunk) if values is None else values
            here, there = [], []
            for number, (at, step, extent) in enumerate(
                zip(corner, chunk, self.shape, strict=True)
            ):
                low, high = (start, stop) if number == axis else (0, extent)
                begin, end = max(at, low), min(at + step, high)
                here.append(slice(begin - low, end - low))
                there.append(slice(begin - at, end - at))
            part[tuple(here)] = kept[corner][tuple(there)]
        self._kept = kept
        return part

    def _chunk(
        self,
        found: h5py.h5d.DatasetID,
        plan: h5py.h5p.PropDCID,
        corner: tuple[int, ...],
        shape: tuple[int, ...],
    ) -> Array:
        """Return one chunk, unpacked; one that was never written holds the fill value."""
        import h5py
        import numpy as np

        size = math.prod(shape) * self.dtype.itemsize
        info = found.get_chunk_info_by_coord(corner)
        if info.byte_offset is None:
            return np.full(shape, h5py.Dataset(found).fillvalue, self.dtype)
        if info.filter_mask:
            raise UnsupportedError("some of its chunks are packed in another way than others")
        data = self._source.read(info.byte_offset, info.size, "a chunk of it")
        packing = [plan.get_filter(k)[0] for k in range(plan.get_nfilters())]
        if _GZIP in packing:
            data = zlib.decompressobj().decompress(data, size + 1)
        if len(data) != size:
            raise CorruptError(f"a chunk of it has {len(data)} bytes, and not {size}")
        flat = np.frombuffer(data, np.uint8)
        if _SHUFFLE in packing:  # all first bytes of the elements, then all second ones, …
            flat = np.ascontiguousarray(flat.reshape(self.dtype.itemsize, -1).T).reshape(-1)
        unpacked: Array = flat.view(self.dtype).reshape(shape)
        return unpacked


def _damage(error: Exception) -> CorruptError:
    """Return the error for any failure of the library."""
    return CorruptError(
        f"the HDF5 file cannot be read ({type(error).__name__})",
        advice="copy it again from where it came from",
    )


def open_file(source: ByteSource) -> StateFile:
    """Return the datasets of an HDF5 file."""
    import h5py

    with raised_as(_damage):
        file = h5py.File(source.path, "r")
        line = _metadata_line(file)
        is_keras = any(h5py.h5a.exists(file.id, name.encode()) for name in KERAS_ATTRIBUTES)
        arrays = sorted(_walk(file, source), key=lambda array: array.name)
        source.refuse_changed()
    metadata = parse(line) if line is not None else None
    foreign = weights("a Keras model") if is_keras else None
    return StateFile(source.path, arrays, metadata, ordered=False, foreign=foreign)


def _metadata_line(file: h5py.File) -> str | None:
    """Return the text that travels with a state: one of fixed length, outside of any heap."""
    import h5py

    if not h5py.h5a.exists(file.id, KEY.encode()):
        return None
    kind = h5py.h5a.open(file.id, KEY.encode()).get_type()
    if not isinstance(kind, h5py.h5t.TypeStringID) or kind.is_variable_str():
        return None  # somebody else's
    if kind.get_size() > limits.MAX_METADATA_BYTES:
        raise UnsupportedError(f"expected a text of a few bytes, got {kind.get_size()}", tensor=KEY)
    return bytes(file.attrs[KEY]).decode("ascii", "replace")


def _walk(file: h5py.File, source: ByteSource) -> Iterator[Hdf5Array]:
    """Walk the groups of a file by hard links alone, each object once."""
    import h5py

    # Groups on the way to the current one alone are open: each takes 7 kB.
    way: list[tuple[bytes, h5py.h5g.GroupID, Iterator[bytes]]] = [(b"", file.id, iter(file.id))]
    names = 0
    seen = set()
    while way:
        prefix, group, keys = way[-1]
        for key in keys:
            if b"/" in key:  # the library would take it for a way, on which links are followed
                raise CorruptError("a name in it has a slash")
            place = prefix + key
            names += len(place)
            if names > limits.MAX_NAMES_BYTES:
                raise UnsupportedError("its names are too long to be names of arrays")
            source.budget.spend(limits.LINKS)
            link = group.links.get_info(key)
            if link.type != h5py.h5l.TYPE_HARD:
                continue  # a soft or external link leads elsewhere
            address = link.u  # of an object in the file: its identity
            if address in seen:
                continue
            seen.add(address)
            source.budget.spend(limits.OBJECTS_OF_HDF5)
            found = h5py.h5o.open(group, key)  # takes longer than all before
            if isinstance(found, h5py.h5g.GroupID):
                if len(way) > limits.MAX_GROUPS:
                    raise UnsupportedError(
                        f"it has more than {limits.MAX_GROUPS:,} groups in one another"
                    )
                way.append((place + b"/", found, iter(found)))
                break
            elif isinstance(found, h5py.h5d.DatasetID):
                array = Hdf5Array(place, found, address, file, source)
                source.budget.spend(limits.ARRAYS, 1 + array.nbytes // 1024)
                source.budget.spend(limits.CHUNKS, _count_chunks(array, found))
                if array.part_bytes > limits.BOMB_BYTES:
                    array.refuse_bomb(array.part_bytes, found.get_storage_size())
                yield array
        else:
            way.pop()


def _count_chunks(array: Hdf5Array, found: h5py.h5d.DatasetID) -> int:
    """Return the number of chunks of an array, stored or not; one in other files is refused."""
    import h5py

    if found.get_offset() is not None:  # nearly all have a place in the file; the plan takes longer
        return 0
    plan = found.get_create_plist()
    if plan.get_layout() == h5py.h5d.VIRTUAL or plan.get_external_count():
        problem = "its values are in another file, which is not read"
        raise UnsupportedError(problem, tensor=array.name)
    if plan.get_layout() != h5py.h5d.CHUNKED:
        return 0
    counts = (-(-size // step) for size, step in zip(array.shape, plan.get_chunk(), strict=True))
    return math.prod(counts)
