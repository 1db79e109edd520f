"""Arrays on their way into a file, an npy or an npz: in rows along one axis each, or whole.

Rows come in order, those of one span for each array in turn. Rows that cannot be written where
they belong yet go to a nameless file meanwhile, so that memory does not grow with their number.
"""

from __future__ import annotations

import io
import math
import os
import tempfile
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import accumulate
from typing import IO, TYPE_CHECKING

from lstmstate import limits
from lstmstate.errors import LstmstateError, UnsupportedError, printable
from lstmstate.files import STDOUT
from lstmstate.files.atomic import Outputs, report_errors
from lstmstate.limits import Rate
from lstmstate.named_tuple import NamedTuple
from lstmstate.state.formats.numpy_reader import MARK, SUFFIX
from lstmstate.state.formats.registry import IN_ROWS, StateKind, code
from lstmstate.state.formats.zip_archive import EPOCH
from lstmstate.state.metadata import KEY, Metadata

if TYPE_CHECKING:
    from lstmstate.state.state import Array, DType


_ALIGNED = 64  # NumPy pads headers so that the values can be mapped
_READABLE = 9_000  # NumPy refuses headers of more than 10,000 characters
_OTHER_MEMBERS = 4  # of an archive: the metadata; those of torch
_LONGEST_NAME = 0xFFFF  # bytes: a member of an archive counts them in 16 bits
_COPIED = 1 << 20  # bytes at a time
_LINE = 64  # columns of a transposed array, which fill whole lines of the caches


class PlannedArray(NamedTuple):
    """An array that is to be written.

    Attributes:
        axis: the axis along which its rows come; None if it comes whole.
        wider_than: the name of the dtype that they had before they were made wider.
    """

    name: str
    shape: tuple[int, ...]
    dtype: DType
    axis: int | None = None
    wider_than: str | None = None

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


def refuse_more(rate: Rate, amount: int) -> None:
    """Refuse to write what would not be read again: more of a kind than any file may have."""
    if amount > rate.most:
        raise UnsupportedError(
            f"expected at most {rate.most:,} {rate.unit} in such a file, got {amount:,}",
            advice="write fewer arrays into each of several files",
        )


class ArrayWriter(ABC):
    """The arrays of a file, written part by part.

    Attributes:
        plans: the arrays.
    """

    def __init__(self, to: Destination) -> None:
        self.plans = list(to.plans)
        self._to = to
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
        with report_errors(self._to.target):
            self._put(number, start, array)

    def finish(self) -> None:
        """Write the rest; all arrays must have come."""
        missing = [p.name for p, done in zip(self.plans, self._done, strict=True) if done != p.rows]
        assert not missing, f"these are not all there: {missing}"
        with report_errors(self._to.target):
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
            advice=f"end the name in {IN_ROWS}",
        )
    for plan in plans:
        if "\0" in plan.name:
            raise UnsupportedError("no file of arrays can have this name", tensor=plan.name)
    with report_errors(target):
        to = Destination(outputs.new(target), target, plans, metadata, compress)
        results: ArrayWriter = code(kind.writer)(to)
    try:
        yield results
        results.finish()
    except BaseException:
        results.abandon()
        raise


class NpyWriter(ArrayWriter):
    """One array; every row goes where it belongs."""

    def __init__(self, to: Destination) -> None:
        super().__init__(to)
        if len(self.plans) != 1:
            raise LstmstateError(
                f"an .npy file holds one array, and these are {len(self.plans)}",
                advice="write an .npz or .h5",
            )
        header = header_bytes(self.plans[0].shape, self.plans[0].dtype, to.metadata)
        self._start = len(header)
        self._file = open(to.path, "wb")  # noqa: SIM115 - closed by finish and abandon
        self._file.write(header)

    def abandon(self) -> None:
        with suppress(OSError):
            self._file.close()

    def _put(self, number: int, start: int, array: Array) -> None:
        put_rows(self._file, self._start, self.plans[number], start, array)

    def _finish(self) -> None:
        self._file.close()


class NpzWriter(ArrayWriter):
    """An archive, which is written from its first member to its last.

    The rows of the member whose turn it is go straight into it, where they follow on one
    another. Others wait: in memory if they are all of their array, else in one nameless file.
    """

    def __init__(self, to: Destination) -> None:
        import zipfile

        super().__init__(to)
        refuse_more(limits.MEMBERS, len(self.plans) + _OTHER_MEMBERS)
        self._refuse_names()
        self._turn = 0
        self._member: IO[bytes] | None = None  # the one whose turn it is, once it is begun
        self._held: dict[int, Array] = {}
        self._spool = Spool(self.plans, to.target)
        self._archive = zipfile.ZipFile(to.path, "w")

    def _refuse_names(self) -> None:
        """Refuse the names that no archive has, or NumPy would not find in it."""
        for plan in self.plans:
            other, problem = f"{plan.name}{SUFFIX}", ""
            if other in self._numbers:
                problem = f"NumPy cannot distinguish this array and {printable(other)} in an .npz"
            elif len(other.encode("utf-8", "surrogateescape")) > _LONGEST_NAME:
                problem = "its name is too long for an .npz"
            if problem:
                advice = "write an .h5 or .safetensors"
                raise UnsupportedError(problem, tensor=plan.name, advice=advice)

    def abandon(self) -> None:
        for file in (self._member, self._archive):
            if file is not None:
                with suppress(OSError, ValueError):
                    file.close()

    def _put(self, number: int, start: int, array: Array) -> None:
        plan = self.plans[number]
        is_next = number == self._turn and number not in self._spool.waiting
        if is_next and (plan.lead <= 1 or self._is_all(number, start)):
            self._begun().write(values(array))
        elif self._is_all(number, start):
            self._held[number] = array.copy()
        else:
            self._spool.put(number, start, array)
        while self._turn < len(self.plans) and self._is_complete(self._turn):
            self._end_member()

    def _is_all(self, number: int, start: int) -> bool:
        """Whether rows that have just come are all that there are."""
        return start == 0 and self._is_complete(number)

    def _begun(self) -> IO[bytes]:
        """Return the member whose turn it is, behind its header."""
        if self._member is None:
            self._member = self._new_member(self.plans[self._turn])
        return self._member

    def _new_member(self, plan: PlannedArray) -> IO[bytes]:
        """Return a new array of the archive, behind its header; it is of no time."""
        import zipfile

        info = zipfile.ZipInfo(f"{plan.name}{SUFFIX}", EPOCH)
        info.compress_type = zipfile.ZIP_DEFLATED if self._to.compress else zipfile.ZIP_STORED
        member = self._archive.open(info, "w", force_zip64=True)
        member.write(header_bytes(plan.shape, plan.dtype, None))
        return member

    def _end_member(self) -> None:
        """Write what has waited of the member whose turn it is; the next one is on."""
        member = self._begun()
        if self._turn in self._held:
            member.write(values(self._held.pop(self._turn)))
        if self._turn in self._spool.waiting:
            for piece in self._spool.pieces(self._turn):
                member.write(piece)
        member.close()
        self._member = None
        self._turn += 1

    def _finish(self) -> None:
        while self._turn < len(self.plans):  # those without rows, which never came
            self._end_member()
        self._end()
        self._archive.close()

    def _end(self) -> None:
        """Write what follows the arrays."""
        import numpy as np

        if self._to.metadata is not None:
            line = np.array(self._to.metadata.line())
            with self._new_member(PlannedArray(KEY, (), line.dtype)) as member:
                member.write(values(line))


class Spool:
    """Arrays that wait for their turn, one after another in a nameless file, in C order.

    Args:
        target: the file to come; they wait next to it.
        in_memory: bytes of all arrays that are kept in memory instead.

    Attributes:
        waiting: the numbers of the arrays that have rows in it.
    """

    def __init__(self, plans: Sequence[PlannedArray], target: str, in_memory: int = 0) -> None:
        self._plans = plans
        self._target = target
        self._in_memory = in_memory
        self._origins = [0, *accumulate(plan.nbytes for plan in plans)]
        self._file: IO[bytes] | None = None
        self.waiting: set[int] = set()

    def put(self, number: int, start: int, array: Array) -> None:
        """Add rows of an array."""
        if self._file is None:
            self._file = io.BytesIO()
            if self._origins[-1] > self._in_memory:
                is_stdout = self._target == STDOUT
                folder = None if is_stdout else os.path.dirname(os.path.realpath(self._target))
                self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
            weakref.finalize(self, self._file.close)
        self.waiting.add(number)
        put_rows(self._file, self._origins[number], self._plans[number], start, array)

    def pieces(self, number: int) -> Iterator[bytes]:
        """Yield the bytes of an array whose rows have all come."""
        end = self._origins[number + 1]
        for at in range(self._origins[number], end, _COPIED):
            assert self._file is not None
            self._file.seek(at)
            yield self._file.read(min(_COPIED, end - at))


def plan_whole(name: str, array: Array) -> PlannedArray:
    """Return the plan of an array that comes in the parts of `parts_of`."""
    return PlannedArray(name, array.shape, array.dtype, 0 if array.size and array.ndim else None)


def parts_of(array: Array) -> Iterator[tuple[int, Array]]:
    """Yield an array in parts of few rows, each with its first row; one without rows whole.

    Those of a transposed one are copied some columns at a time, which is several times faster.
    """
    import numpy as np

    if not (array.size and array.ndim):
        yield 0, array
        return
    rows = max(_COPIED * len(array) // array.nbytes, 1)
    for start in range(0, len(array), rows):
        part = array[start : start + rows]
        if array.ndim == 2 and 0 <= array.strides[0] < array.strides[-1]:
            turned, part = part, np.empty(part.shape, part.dtype)
            for at in range(0, turned.shape[-1], _LINE):
                part[:, at : at + _LINE] = turned[:, at : at + _LINE]
        yield start, part


def put_rows(file: IO[bytes], origin: int, plan: PlannedArray, start: int, array: Array) -> None:
    """Write rows where they belong in an array in C order that begins at `origin`."""
    if not array.size:
        return
    data = values(array)
    size = len(data) // plan.lead
    row = size // array.shape[plan.axis] if plan.axis is not None else size
    for place in range(plan.lead):
        file.seek(origin + (place * plan.rows + start) * row)
        file.write(data[place * size : (place + 1) * size])


def header_bytes(shape: tuple[int, ...], dtype: DType, metadata: Metadata | None) -> bytes:
    """Return the header of an array in C order, with what travels with it."""
    from numpy.lib import format as npy

    text = (
        f"{{'descr': {npy.dtype_to_descr(dtype)!r}, 'fortran_order': False, 'shape': {shape!r}, }}"
    )
    line = metadata.line() if metadata else ""
    if len(text) + len(line) > _READABLE:
        raise UnsupportedError(
            "the header of an .npy has no room for the names and widths of so many cells",
            advice="write an .npz or .h5",
        )
    text += f" {MARK}{line}" if line else ""
    start = len(npy.magic(1, 0)) + 2
    text += " " * (-(start + len(text) + 1) % _ALIGNED) + "\n"
    return npy.magic(1, 0) + len(text).to_bytes(2, "little") + text.encode("latin-1")


def values(array: Array) -> memoryview:
    """Return the bytes of an array in C order."""
    import numpy as np

    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
