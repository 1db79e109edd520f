"""Arrays written into HDF5 files.

Where a write fails, the library cannot close its file, and crashes the process when that ends.
So the first failure is kept until the library has returned.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from lstmstate import limits
from lstmstate.errors import LstmstateError, UnsupportedError, is_fault, printable
from lstmstate.state.formats.array_writer import ArrayWriter, Destination, PlannedArray, refuse_more
from lstmstate.state.formats.stored_array import rows_of
from lstmstate.state.metadata import KEY

if TYPE_CHECKING:
    import h5py

    from lstmstate.state.state import Array

_LONGEST_ATTRIBUTE = 60_000  # an attribute has 64 KiB at most
_OTHER = "write an .npz or .safetensors"
_CHUNK_BYTES = 1 << 20  # of a compressed dataset: the size of the library's cache of chunks


def _refuse_paths(names: Sequence[str]) -> None:
    """Refuse names that lead to one place, as a//b and a/b do, or below a dataset; and too many."""
    root: dict[str, Any] = {}  # of each part of a path its group, or the name of its array
    groups = 0
    paths = {name: list(filter(None, name.split("/"))) for name in names}
    for name, path in sorted(paths.items(), key=lambda item: len(item[1])):
        place: Any = root
        problem = ""
        if name.endswith("/") or not path or "." in name.split("/"):
            problem = "an HDF5 file has no array of this name"
        elif len(path) - 1 > limits.MAX_GROUPS:
            problem = f"its name has more than {limits.MAX_GROUPS:,} groups in one another"
        for part in () if problem else path[:-1]:
            groups += part not in place
            place = place.setdefault(part, {})
            if isinstance(place, str):
                problem = f"an HDF5 file has no place below the array {printable(place)}"
                break
        if not problem and path[-1] in place:
            other = printable(place[path[-1]])
            problem = f"an HDF5 file has one place for this array and {other}"
        if problem:
            raise UnsupportedError(problem, tensor=name, advice=_OTHER)
        place[path[-1]] = name
        refuse_more(limits.OBJECTS_OF_HDF5, len(names) + groups)


class Hdf5Writer(ArrayWriter):
    """Datasets, whose rows go where they belong; of compressed ones, whole chunks at a time."""

    def __init__(self, to: Destination) -> None:
        import h5py

        super().__init__(to)
        self._line = to.metadata.line() if to.metadata is not None else None
        if self._line is not None and len(self._line) > _LONGEST_ATTRIBUTE:
            raise UnsupportedError(
                "an HDF5 file has no room for the names and widths of so many cells",
                advice="write an .npz",
            )
        self._sets: dict[int, h5py.Dataset] = {}  # those that are open: each takes 10 kB
        _refuse_paths([plan.name for plan in self.plans])
        self._waiting: dict[int, list[Array]] = {}
        self._sink = _Sink(to.path, "r+b")
        try:
            with self._calls():
                self._file = h5py.File(self._sink, "w")
                self._links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
                self._links.set_create_intermediate_group(True)
                self._links.set_char_encoding(h5py.h5t.CSET_UTF8)
                self._plain = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
                self._plain.set_obj_track_times(False)
        except BaseException:
            self.abandon()
            raise

    def _new_set(self, plan: PlannedArray) -> h5py.h5d.DatasetID:
        import h5py

        if self._to.compress and plan.shape and math.prod(plan.shape) > 0:
            chunks = _chunk_shape(plan) or True
            packing = {"compression": "gzip", "shuffle": True, "chunks": chunks}
            return self._file.create_dataset(
                plan.name, plan.shape, plan.dtype, track_times=False, **packing
            ).id
        # create_dataset takes five times as long, and there can be many.
        scalar = h5py.h5s.create(h5py.h5s.SCALAR)
        space = h5py.h5s.create_simple(plan.shape) if plan.shape else scalar
        kind = h5py.h5t.py_create(plan.dtype, logical=True)
        name = plan.name.encode("utf-8", "surrogateescape")
        return h5py.h5d.create(self._file.id, name, kind, space, self._plain, self._links)

    def abandon(self) -> None:
        with suppress(Exception):
            self._file.close()
        with suppress(OSError):
            self._sink.close()

    def _put(self, number: int, start: int, array: Array) -> None:
        import h5py
        import numpy as np

        plan = self.plans[number]
        if not plan.rows:
            return  # it is made at the end, also if no rows come
        with self._calls():
            if array.shape == plan.shape:
                place = h5py.h5s.ALL
                self._new_set(plan).write(place, place, np.asarray(array, order="C"))
                return
            if not start:
                self._sets[number] = h5py.Dataset(self._new_set(plan))
            if self._sets[number].chunks is None:
                self._set_rows(number, start, array)
            else:
                self._gather(number, start, array)
            if self._is_complete(number):
                del self._sets[number]

    def _set_rows(self, number: int, start: int, array: Array) -> None:
        axis = self.plans[number].axis or 0
        self._sets[number][rows_of(axis, start, start + array.shape[axis])] = array

    def _gather(self, number: int, start: int, array: Array) -> None:
        """Write rows up to the end of a chunk, each packed once; others wait."""
        import numpy as np

        axis = self.plans[number].axis or 0
        step: int = self._sets[number].chunks[axis]
        begin = start - start % step  # what waits are the rows from the start of a chunk on
        end = self._done[number]
        if not self._is_complete(number):
            end -= end % step
        rows = np.concatenate([*self._waiting.pop(number, []), array], axis)
        ready, rest = np.split(rows, [end - begin], axis)
        if ready.size:
            self._set_rows(number, begin, ready)
        self._waiting[number] = [rest.copy()]  # a copy, without the array that it is a view of

    def _finish(self) -> None:
        import numpy as np

        with self._calls():
            for plan in self.plans:
                if not plan.rows:
                    self._new_set(plan)
            if self._line is not None:
                self._file.attrs.create(KEY, np.bytes_(self._line))
            self._file.close()
        self._sink.close()

    @contextmanager
    def _calls(self) -> Iterator[None]:
        """Raise the first failure of a write, and errors of the library as LstmstateError."""
        try:
            yield
        except (OSError, RuntimeError, ValueError, TypeError) as error:
            if is_fault(error):
                raise
            if self._sink.failure is None:
                problem = printable(" ".join(str(error).split()))
                raise LstmstateError(f"it cannot be written ({problem})") from error
        if self._sink.failure is not None:
            raise self._sink.failure


def _chunk_shape(plan: PlannedArray) -> tuple[int, ...] | None:
    """Return the chunks of a compressed dataset: few rows, that they need not wait long.

    None for one that comes whole: the library chooses.
    """
    if plan.axis is None:
        return None
    chunk = list(plan.shape)
    chunk[plan.axis] = 1
    while (row := math.prod(chunk) * plan.dtype.itemsize) > _CHUNK_BYTES:
        longest = chunk.index(max(chunk))
        chunk[longest] = -(-chunk[longest] // 2)
    chunk[plan.axis] = min(max(_CHUNK_BYTES // row, 1), plan.rows)
    return tuple(chunk)


class _Sink(io.FileIO):
    """A file that fails in no call.

    Attributes:
        failure: the first one, or an interruption; nothing is written from then on.
    """

    failure: BaseException | None = None

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read up to the end; bytes after it are zeros."""
        done = 0
        with self._kept():
            while done < len(buffer) and (count := super().readinto(buffer[done:])):
                done += count
            buffer[done:] = bytes(len(buffer) - done)
        return len(buffer)

    def write(self, data: memoryview) -> int:  # type: ignore[override]
        """Write all of it, unless something failed."""
        done = 0
        try:  # and not `_kept`: there are many small ones
            while self.failure is None and done < len(data):
                done += super().write(data[done:])
        except BaseException as error:
            self.failure = error
        return len(data)

    def truncate(self, size: int) -> int:  # type: ignore[override]
        """Give the file a size, unless something failed."""
        with self._kept():
            if self.failure is None:
                super().truncate(size)
        return size

    @contextmanager
    def _kept(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:  # Ctrl-C, too: the library would take it for a failure
            self.failure = self.failure or error
