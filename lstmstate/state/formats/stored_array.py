"""Lazy arrays in files: a name, a shape and a dtype at once, values in parts when asked for."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from lstmstate import limits
from lstmstate.errors import UnsupportedError
from lstmstate.files.reader import ByteSource
from lstmstate.named_tuple import NamedTuple
from lstmstate.state.metadata import Metadata

if TYPE_CHECKING:
    from lstmstate.state.state import Array, DType


class StoredArray(ABC):
    """An array in a file.

    Attributes:
        name: its place in the file; "" if the file is one array.
        shape: its sizes.
        dtype: the type of its elements.
        wider_than: the name of the dtype that they had before they were made wider.
    """

    wider_than: str | None = None

    def __init__(self, name: str, shape: tuple[int, ...], dtype: DType) -> None:
        self.name = name
        self.shape = shape
        self.dtype = dtype

    @property
    def nbytes(self) -> int:
        """The bytes of its values."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def part_bytes(self) -> int:
        """The bytes that are in memory at once at least: a row, or all of it if it is a vector."""
        return self.nbytes // max(self.rows, 1) if len(self.shape) > 1 else self.nbytes

    def refuse_bomb(self, part: int, stored: int) -> None:
        """Refuse to read a part of many more bytes than are stored for the whole array."""
        if part > limits.BOMB_BYTES and part > limits.BOMB_RATIO * stored:
            raise UnsupportedError(
                f"it has to be read {part:,} bytes at a time, and {stored:,} are stored",
                tensor=self.name,
                advice="save it without compression",
            )

    @abstractmethod
    def read(self, axis: int, start: int, stop: int) -> Array:
        """Return the rows [start, stop) of one axis, with all of the other axes.

        An array without axes is read as one of a single row.
        """

    @property
    def rows(self) -> int:
        """The size of the first axis."""
        return self.shape[0] if self.shape else 1

    def whole(self) -> Array:
        """Return all of it."""
        return self.read(0, 0, self.rows).reshape(self.shape)


class Lazy(StoredArray):
    """An array that is read whole when it is first asked for.

    Args:
        load: returns it.
    """

    def __init__(
        self, name: str, shape: tuple[int, ...], dtype: DType, load: Callable[[], Array]
    ) -> None:
        super().__init__(name, shape, dtype)
        self._load = load
        self._held: Array | None = None

    def read(self, axis: int, start: int, stop: int) -> Array:
        """Return a view of the rows."""
        if self._held is None:
            self._held = self._load()
        return self._held.reshape(self.shape or 1)[rows_of(axis, start, stop)]


class ArrayInMemory(Lazy):
    """An array that is in memory already."""

    def __init__(self, name: str, array: Array) -> None:
        super().__init__(name, array.shape, array.dtype, lambda: array)


class Item(StoredArray):
    """One item of the first axis of a stored array, as an array of its own."""

    def __init__(self, name: str, of: StoredArray, number: int) -> None:
        super().__init__(name, of.shape[1:], of.dtype)
        self._of = of
        self._number = number

    def read(self, axis: int, start: int, stop: int) -> Array:
        """Return the rows of the item."""
        item: Array = self._of.read(axis + 1, start, stop)[self._number]
        return item


def rows_of(axis: int, start: int, stop: int) -> tuple[slice, ...]:
    """Return the index of the rows [start, stop) of one axis."""
    return (slice(None),) * axis + (slice(start, stop),)


class Foreign(NamedTuple):
    """A kind of arrays that are not a state.

    Attributes:
        kind: "outputs" or "weights".
        words: the same for messages.
        advice: where a state can be found.
    """

    kind: str
    words: str
    advice: str

    def error(self) -> UnsupportedError:
        """Return the error to raise where a state is expected."""
        return UnsupportedError(f"these are {self.words}, not a state", advice=self.advice)


class StateFile(NamedTuple):
    """The arrays of an open state file.

    Attributes:
        ordered: whether their order in the file is the order they were given in.
        notes: lines for the user on how it was read.
        kind: the key of its kind in `files.BY_KEY`; "" if it is not a file.
        foreign: the kind of the arrays, if they are not a state.
        name: the name of the state, if the arrays are variables of a checkpoint that were
            grouped as one; "" else.
        variables: the names of these variables, in the order of the layout.
    """

    path: str
    arrays: Sequence[StoredArray]
    metadata: Metadata | None = None
    ordered: bool = True
    notes: tuple[str, ...] = ()
    kind: str = ""
    foreign: Foreign | None = None
    name: str = ""
    variables: tuple[str, ...] = ()


def read_rows(
    source: ByteSource,
    offset: int,
    shape: tuple[int, ...],
    dtype: DType,
    axis: int,
    start: int,
    stop: int,
) -> Array:
    """Return the rows [start, stop) of one axis of an array stored in C order.

    There is one read for each index of the axes before.

    Args:
        offset: the byte at which the array begins.
    """
    import numpy as np

    shape = shape or (1,)
    row = math.prod(shape[axis + 1 :]) * dtype.itemsize
    part = np.empty((*shape[:axis], stop - start, *shape[axis + 1 :]), dtype)
    length = (stop - start) * row
    if part.size:
        target = part.reshape(-1).view(np.uint8).data
        for number in range(math.prod(shape[:axis])):
            at = offset + (number * shape[axis] + start) * row
            source.read_into(target[number * length : (number + 1) * length], at)
    return part
