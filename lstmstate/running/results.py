"""What a run writes: arrays that grow along time, and arrays that come whole.

Rows of time come in order, those of one span for each array in turn. What cannot be written
where it belongs yet goes to a nameless file meanwhile, so that memory does not grow with time.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING

from lstmstate.errors import UnsupportedError
from lstmstate.output import STDOUT, Outputs, told
from lstmstate.records import NamedTuple
from lstmstate.state.files import StateKind
from lstmstate.state.metadata import Metadata

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.generic]

# What writes each kind of file, by the key of the kind.
_WRITERS = {
    "npy": ("numpy_results", "NpyResults"),
    "npz": ("numpy_results", "NpzResults"),
    "h5": ("hdf5_results", "Hdf5Results"),
}


class PlannedResult(NamedTuple):
    """An array that is to be written.

    Attributes:
        time_axis: the axis that its rows come along; None where it comes whole.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    time_axis: int | None = None

    @property
    def rows(self) -> int:
        """How many rows are to come; an array that comes whole is one."""
        return 1 if self.time_axis is None else self.shape[self.time_axis]

    @property
    def lead(self) -> int:
        """In how many places rows lie that follow on one another in time."""
        return math.prod(self.shape[: self.time_axis or 0])


class Destination(NamedTuple):
    """A file that is to be written.

    Attributes:
        path: where it is written meanwhile.
        target: what it will be called; "-" for stdout.
        plans: its arrays, in their order.
        metadata: what travels with them.
    """

    path: str
    target: str
    plans: Sequence[PlannedResult]
    metadata: Metadata | None
    compress: bool


class Results(ABC):
    """The arrays of a run on their way into a file.

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
        """Write the rows [start, start + n) of an array that grows: n on its axis of time.

        Raises:
            LstmstateError: the system does not let them be written.
        """
        number = self._numbers[name]
        plan = self.plans[number]
        axis = plan.time_axis
        assert axis is not None, f"{name} comes whole"
        count = array.shape[axis]
        assert start == self._done[number], f"rows of {name} are missing"
        assert array.shape == (*plan.shape[:axis], count, *plan.shape[axis + 1 :]), name
        self._add(number, start, count, array)

    def whole(self, name: str, array: Array) -> None:
        """Write an array that comes whole.

        Raises:
            LstmstateError: the system does not let it be written.
        """
        number = self._numbers[name]
        assert self.plans[number].time_axis is None, f"{name} comes in rows"
        assert array.shape == self.plans[number].shape, name
        self._add(number, 0, 1, array)

    def finish(self) -> None:
        """Write what is left; all arrays must have come.

        Raises:
            LstmstateError: the system does not let it be written.
        """
        missing = [p.name for p, done in zip(self.plans, self._done, strict=True) if done != p.rows]
        assert not missing, f"these are not all there: {missing}"
        with told(self._target):
            self._finish()

    @abstractmethod
    def abandon(self) -> None:
        """Close the file, which nobody will see; nothing is raised."""

    def _add(self, number: int, start: int, count: int, array: Array) -> None:
        assert array.dtype == self.plans[number].dtype, self.plans[number].name
        self._done[number] += count
        assert self._done[number] <= self.plans[number].rows, self.plans[number].name
        with told(self._target):
            self._put(number, start, array)

    def _is_complete(self, number: int) -> bool:
        return self._done[number] == self.plans[number].rows

    @abstractmethod
    def _put(self, number: int, start: int, array: Array) -> None:
        """Take rows, or an array that comes whole."""

    @abstractmethod
    def _finish(self) -> None:
        """Write what is left and close the file."""


@contextmanager
def open_results(
    outputs: Outputs,
    target: str,
    kind: StateKind,
    plans: Sequence[PlannedResult],
    metadata: Metadata | None,
    *,
    compress: bool = False,
) -> Iterator[Results]:
    """Open a file for the arrays of a run; it is there when the outputs are, and then whole.

    Args:
        target: the file; "-" for stdout.
        kind: npz, h5, or npy for one array alone.
        plans: the arrays to come, in the order in which the file has them.
        metadata: what travels with the state among them, or with the outputs of an npy.
        compress: whether an npz or h5 is compressed.

    Raises:
        LstmstateError: the target cannot be written, or its kind does not hold these arrays.
    """
    if kind.key not in _WRITERS:
        raise UnsupportedError(
            f"{kind.words} has no place for the arrays of a run",
            path="stdout" if target == STDOUT else target,
            advice="write an .npz, .h5 or .npy",
        )
    with told(target):
        module, name = _WRITERS[kind.key]
        writer = getattr(import_module(f"lstmstate.running.{module}"), name)
        results: Results = writer(
            Destination(outputs.new(target), target, plans, metadata, compress)
        )
    try:
        yield results
        results.finish()
    except BaseException:
        results.abandon()
        raise
