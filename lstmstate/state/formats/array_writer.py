"""Arrays on their way into a file: in rows along one axis each, or whole.

Rows come in order, those of one span for each array in turn. Rows that cannot be written where
they belong yet go to a nameless file meanwhile, so that memory does not grow with their number.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from lstmstate.errors import UnsupportedError
from lstmstate.files.atomic import STDOUT, Outputs, report_errors
from lstmstate.records import NamedTuple
from lstmstate.state.formats.registry import StateKind, code
from lstmstate.state.metadata import Metadata

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.generic]


class PlannedArray(NamedTuple):
    """An array that is to be written.

    Attributes:
        axis: the axis along which its rows come; None if it comes whole.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    axis: int | None = None

    @property
    def rows(self) -> int:
        """How many rows are to come; an array that comes whole is one."""
        return 1 if self.axis is None else self.shape[self.axis]

    @property
    def lead(self) -> int:
        """The number of places with rows that follow on one another."""
        return math.prod(self.shape[: self.axis or 0])

    @property
    def nbytes(self) -> int:
        """The bytes of its values."""
        return math.prod(self.shape) * self.dtype.itemsize


class Destination(NamedTuple):
    """A file that is to be written.

    Attributes:
        path: where it is written meanwhile.
        target: its name; "-" for stdout.
        plans: its arrays, in their order.
        metadata: what travels with them.
    """

    path: str
    target: str
    plans: Sequence[PlannedArray]
    metadata: Metadata | None
    compress: bool = False


class ArrayWriter(ABC):
    """The arrays of a file, written part by part.

    Attributes:
        plans: the arrays.
    """

    def __init__(self, to: Destination) -> None:
        self.plans = list(to.plans)
        self._path = to.path
        self._target = to.target
        self._numbers = {plan.name: number for number, plan in enumerate(self.plans)}
        self._done = [0] * len(self.plans)  # rows that have come

    def write(self, name: str, start: int, array: Array) -> None:
        """Write the rows [start, start + n) of an array along its axis; a whole one at once."""
        number = self._numbers[name]
        plan = self.plans[number]
        count = 1 if plan.axis is None else array.shape[plan.axis]
        shape = list(plan.shape)
        if plan.axis is not None:
            shape[plan.axis] = count
        assert start == self._done[number], f"rows of {name} are missing"
        assert array.shape == tuple(shape), name
        assert array.dtype == plan.dtype, name
        self._done[number] += count
        assert self._done[number] <= plan.rows, name
        with report_errors(self._target):
            self._put(number, start, array)

    def finish(self) -> None:
        """Write the rest; all arrays must have come."""
        missing = [p.name for p, done in zip(self.plans, self._done, strict=True) if done != p.rows]
        assert not missing, f"these are not all there: {missing}"
        with report_errors(self._target):
            self._finish()

    @abstractmethod
    def abandon(self) -> None:
        """Close the file, which nobody will see; nothing is raised."""

    def _is_complete(self, number: int) -> bool:
        return self._done[number] == self.plans[number].rows

    @abstractmethod
    def _put(self, number: int, start: int, array: Array) -> None:
        """Take rows, or an array that comes whole."""

    @abstractmethod
    def _finish(self) -> None:
        """Write the rest and close the file."""


@contextmanager
def open_writer(
    outputs: Outputs,
    target: str,
    kind: StateKind,
    plans: Sequence[PlannedArray],
    metadata: Metadata | None,
    *,
    compress: bool = False,
) -> Iterator[ArrayWriter]:
    """Open a file for arrays; it is there when the outputs are, and then whole.

    Args:
        target: the file; "-" for stdout.
        kind: npz, h5, or npy for one array alone.
        plans: the arrays to come, in the order of the file.
        metadata: the record of a state among them, or of the outputs of an npy.
        compress: whether an npz or h5 is compressed.
    """
    if not kind.in_rows:
        raise UnsupportedError(
            f"{kind.words} has no place for the arrays of a run",
            path="stdout" if target == STDOUT else target,
            advice="write an .npz, .h5 or .npy",
        )
    with report_errors(target):
        to = Destination(outputs.new(target), target, plans, metadata, compress)
        results: ArrayWriter = code(kind.writer)(to)
    try:
        yield results
        results.finish()
    except BaseException:
        results.abandon()
        raise


def put_rows(file: IO[bytes], origin: int, plan: PlannedArray, start: int, array: Array) -> None:
    """Write rows where they belong in an array in C order that begins at `origin`."""
    import numpy as np

    if not array.size:
        return
    data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    size = len(data) // plan.lead
    row = size // array.shape[plan.axis] if plan.axis is not None else size
    for place in range(plan.lead):
        file.seek(origin + (place * plan.rows + start) * row)
        file.write(data[place * size : (place + 1) * size])
