"""Tensors as safetensors and torch keep them: read and written by position.

NumPy has no bfloat16: such values are read as float32, and written as they were.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from lstmstate.checkpoint import dtypes
from lstmstate.errors import UnsupportedError, located
from lstmstate.files.reader import ByteSource
from lstmstate.state.formats.array_writer import ArrayWriter, Destination, PlannedArray
from lstmstate.state.formats.stored_array import StoredArray, read_rows

if TYPE_CHECKING:
    from lstmstate.state.state import Array


class StoredTensor(StoredArray):
    """A tensor in C order, read by position.

    Args:
        dtype: that of the stored numbers.
        start: the byte at which it begins.
        verify: is called before it is read.
    """

    def __init__(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: dtypes.DType,
        source: ByteSource,
        start: int,
        *,
        big_endian: bool = False,
        verify: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(name, shape, np.dtype(dtype.numpy))
        self.wider_than = dtype.name if dtype.numpy != dtype.storage else None
        self._kind = dtype
        self._stored = dtypes.stored_type(dtype, big_endian=big_endian)
        self._source = source
        self._start = start
        self._verify = verify

    def read(self, axis: int, start: int, stop: int) -> Array:
        """Return the rows."""
        if self._verify is not None:
            with located(self._source.path, self.name or None):
                self._verify()
        place = self._source, self._start, self.shape, self._stored
        return dtypes.from_storage(read_rows(*place, axis, start, stop), self._kind)


class TensorWriter(ArrayWriter):
    """Arrays that are written as tensors: little endian, and as bfloat16 where they were that.

    Attributes:
        program: a name for messages.
        names: those of the dtypes that it has.
        types: the dtype of each tensor.
    """

    program: str
    names: frozenset[str]

    def __init__(self, to: Destination) -> None:
        was = to.metadata.dtype if to.metadata is not None else None
        self.types = [self.type_of(plan, was) for plan in to.plans]
        plans = [
            plan._replace(dtype=dtypes.stored_type(found))
            for plan, found in zip(to.plans, self.types, strict=True)
        ]
        super().__init__(to._replace(plans=plans))

    def type_of(self, plan: PlannedArray, was: str | None) -> dtypes.DType:
        """Return the dtype to store for an array, whose values may have been bfloat16."""
        found = dtypes.to_store(plan.dtype.name, plan.wider_than or was)
        if found is None or found.name not in self.names:
            raise UnsupportedError(
                f"{self.program} has no dtype {plan.dtype}",
                tensor=plan.name,
                advice="write an .npz or .h5",
            )
        return found

    def write(self, name: str, start: int, array: Array) -> None:
        """Write rows of an array; see `ArrayWriter`."""
        with located(tensor=name):
            stored = dtypes.to_storage(array, self.types[self._numbers[name]])
        super().write(name, start, stored)
