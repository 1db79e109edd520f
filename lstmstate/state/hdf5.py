"""HDF5 files: datasets in groups. Only hard links are followed, and only storage in the file."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lstmstate import limits
from lstmstate.checkpoint.source import ByteSource
from lstmstate.errors import CorruptError, LstmstateError, UnsupportedError
from lstmstate.output import Outputs
from lstmstate.state.metadata import KEY, Metadata, parse
from lstmstate.state.stored import StateFile, StoredArray

if TYPE_CHECKING:
    import h5py
    import numpy as np
    from numpy.typing import NDArray

    from lstmstate.state.flow import Flow

    Array = NDArray[np.generic]


class Hdf5Array(StoredArray):
    """A dataset, read in parts."""

    def __init__(self, name: str, found: h5py.Dataset) -> None:
        super().__init__(name, tuple(found.shape or ()), found.dtype)
        self._found = found

    def read(self, axis: int, start: int, stop: int) -> Array:
        """Return the rows."""
        with damage_told(self.name):
            part: Array = self._found[(slice(None),) * axis + (slice(start, stop),)]
        return part


@contextmanager
def damage_told(name: str | None = None) -> Iterator[None]:
    """Turn whatever damage leads the library to into an error of ours."""
    try:
        yield
    except LstmstateError:
        raise
    except Exception as error:
        raise CorruptError(
            f"the HDF5 file cannot be read ({type(error).__name__})",
            tensor=name,
            advice="copy it again from where it came from",
        ) from None


def open_file(source: ByteSource) -> StateFile:
    """Return the datasets of an HDF5 file.

    Raises:
        LstmstateError: it is damaged, or its values lie elsewhere.
    """
    import h5py

    with damage_told():
        file = h5py.File(source.path, "r")
        told = file.attrs.get(KEY)
        arrays = sorted(_walk(file), key=lambda array: array.name)
    metadata = parse(told) if isinstance(told, str) else None
    return StateFile(source.path, arrays, metadata, ordered=False)


def _walk(file: h5py.File) -> Iterator[Hdf5Array]:
    """Walk the groups of a file by hard links alone, each object once."""
    import h5py

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


def _dataset(name: str, found: h5py.Dataset) -> Hdf5Array:
    """Return a dataset; its storage has to be in the file itself, and to be what it declares."""
    if found.external or found.is_virtual:
        raise UnsupportedError("its values lie in another file, which is not read", tensor=name)
    array = Hdf5Array(name, found)
    nbytes = math.prod(array.shape) * array.dtype.itemsize
    stored = found.id.get_storage_size()
    if nbytes > limits.BOMB_BYTES and nbytes > limits.HDF5_BOMB_RATIO * stored:
        raise UnsupportedError(f"it declares {nbytes} bytes and stores {stored}", tensor=name)
    return array


def write(
    outputs: Outputs, target: str, flow: Flow, metadata: Metadata, *, compress: bool = False
) -> None:
    """Write each planned array as a dataset, in one pass."""
    import h5py

    how = {"compression": "gzip", "chunks": True} if compress else {}
    path = outputs.new(target)
    try:
        with h5py.File(path, "w") as file:
            sets = [
                file.create_dataset(plan.name, plan.shape, plan.dtype, track_times=False, **how)
                for plan in flow.plans
            ]
            for start, stop, arrays in flow.together():
                for plan, found, array in zip(flow.plans, sets, arrays, strict=True):
                    rows = (slice(None),) * plan.axis + (slice(start, stop),)
                    found[rows if flow.structure.lead else ()] = array
            file.attrs[KEY] = metadata.line()
    except (OSError, RuntimeError, ValueError, TypeError) as error:  # of a full disk, of names
        raise LstmstateError(f"it cannot be written ({error})", path=target) from None
