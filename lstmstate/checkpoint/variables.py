"""A variable of a checkpoint: its name, shape and dtype at once, its value when asked for."""

from __future__ import annotations

import math
from collections.abc import Iterator

from lstmstate import limits
from lstmstate.checkpoint import object_graph
from lstmstate.checkpoint import protobuf as wire
from lstmstate.checkpoint.dtypes import DType
from lstmstate.checkpoint.slices import Extents, join_slices
from lstmstate.errors import (
    ArgumentError,
    Brief,
    CorruptError,
    LstmstateError,
    UnsupportedError,
    located,
)
from lstmstate.named_tuple import NamedTuple
from lstmstate.type_names import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import DTypeLike, NDArray

Shape = tuple[int, ...]

# Exported checkpoints only number their variables.
NUMBERED = ("variables/", "_all_variables/")


class Reader(Protocol):
    """A file format: its variables, and the places of their bytes."""

    specs: dict[str, Spec]
    """The variables by name, in the order of the file, until a `Checkpoint` takes them."""

    @property
    def data_files(self) -> tuple[str, ...]:
        """The paths of the files that hold values."""

    def read(self, name: str, spec: Spec, extents: Extents | None) -> NDArray[np.generic]:
        """Return the value of a whole variable (`None`), or of one of its slices."""


class Spec(NamedTuple):
    """The kind of a variable, as a file's index has it: one for all variables that are alike.

    Attributes:
        slices: the places of the parts of a partitioned variable; empty for a whole one.
        stored_bytes: bytes in the data files; None if the index does not record them.
    """

    dtype: DType
    shape: Shape
    slices: tuple[Extents, ...] = ()
    stored_bytes: int | None = None

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int | None:
        """The bytes of a value; None for strings in V1 files."""
        return self.size * self.dtype.itemsize or self.stored_bytes


class Variable(metaclass=Brief):
    """A named array in a checkpoint; `variable[...]` and `np.asarray(variable)` read its value.

    Attributes:
        name: the key under which it is stored, as TensorFlow's own reader lists it.
        full_name: the variable's name in the graph, if an object-based checkpoint records it.
        path: its name in the model: that of the key, or of the object that it belongs to.
        shape: its full shape, even if it is stored in slices.
        dtype: its TensorFlow dtype, by name ("float32").
        ndim, size: the number of its axes, and of its elements.
        nbytes: the bytes of its value; None for strings in V1 files.
        is_inexact: whether its values are floating-point numbers, real or complex.
        is_slot: whether an optimizer keeps it next to another variable.
    """

    __slots__ = ("_path", "_reader", "full_name", "name", "path", "spec")  # there can be many

    def __init__(
        self, name: str, spec: Spec, reader: Reader, path: str, full_name: str | None = None
    ) -> None:
        self.name = name
        self.full_name = full_name
        self.path = _path(name, full_name)
        self.spec = spec
        self._reader = reader
        self._path = path

    def __repr__(self) -> str:
        return f"<Variable {self.name!r} {list(self.shape)} {self.dtype}>"

    def __getitem__(self, key: Any) -> Any:
        return self.read()[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.read())

    def __array__(
        self, dtype: DTypeLike | None = None, copy: bool | None = None
    ) -> NDArray[np.generic]:
        value = self.read()
        return value.astype(dtype or value.dtype, copy=bool(copy))

    @property
    def shape(self) -> Shape:
        """Its full shape, even if it is stored in slices."""
        return self.spec.shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def dtype(self) -> str:
        """The element type's name, as TensorFlow gives it."""
        return self.spec.dtype.name

    @property
    def is_inexact(self) -> bool:
        """Whether its values are floating-point numbers, real or complex."""
        return self.dtype.startswith(("float", "bfloat", "complex"))

    @property
    def size(self) -> int:
        """The number of elements."""
        return self.spec.size

    @property
    def nbytes(self) -> int | None:
        """The bytes of its value; None for strings in V1 files."""
        return self.spec.nbytes

    @property
    def is_slot(self) -> bool:
        """Whether an optimizer keeps it next to another variable."""
        return object_graph.is_slot(self.name)

    def read(self) -> NDArray[np.generic]:
        """Return the value: its checksum is verified, and its slices are joined.

        Strings are objects of bytes, bfloat16 is float32 (exact); the array may be read-only.

        Raises:
            LstmstateError: the data file is missing or damaged, or the dtype has no values.
        """
        with located(self._path, self.name):
            if len(self.shape) > limits.NUMPY_RANK:
                raise UnsupportedError(f"NumPy has no arrays of {len(self.shape)} axes")
            try:
                if self.spec.slices:
                    return join_slices(self.shape, self.spec.slices, self._read)
                return self._read(None)
            except LstmstateError:
                raise
            except ValueError as error:  # of NumPy, for sizes that no array can have
                raise CorruptError(f"its bytes make no array of its shape ({error})") from error

    def _read(self, extents: Extents | None) -> NDArray[np.generic]:
        return self._reader.read(self.name, self.spec, extents)

    def close(self) -> None:
        """Forget the files, after which the value cannot be read."""
        self._reader = _CLOSED

    def damage(self) -> LstmstateError | None:
        """Return the error of reading the value, None if it can be read or has no value."""
        try:
            self.read()
        except UnsupportedError:
            return None
        except LstmstateError as error:
            return error
        return None


def _path(name: str, full_name: str | None) -> str:
    """Return the name of a variable in the model.

    Exported object-based checkpoints only number their variables (`variables/0`, and
    `_all_variables/0` of Keras 3); the object graph then has the name.
    """
    path = object_graph.object_path(name)
    if path is None:
        return name.removesuffix(":0")
    return full_name if full_name and path.startswith(NUMBERED) else path


class _Closed:
    """The reader of a checkpoint that was closed."""

    data_files = ()

    def __init__(self) -> None:
        self.specs: dict[str, Spec] = {}

    def read(self, name: str, spec: Spec, extents: Extents | None) -> NDArray[np.generic]:  # noqa: ARG002
        raise ArgumentError("the checkpoint is closed", advice="open it again")


_CLOSED = _Closed()


def parse_shape(data: bytes) -> Shape:
    """Read a TensorShapeProto: 2 repeated dim {1 size}, 3 unknown_rank.

    Raises:
        CorruptError: a stored tensor cannot have such a shape.
    """
    shape = []
    for number, _, value in wire.fields(data):
        if number == 2 and isinstance(value, bytes):
            size = wire.signed(wire.last_int(wire.message(value).get(1)))
            if size < 0:
                raise CorruptError("its shape has a size below zero")
            shape.append(size)
            if len(shape) > limits.MAX_RANK:
                raise CorruptError(f"expected at most {limits.MAX_RANK} axes, got more")
        elif number == 3 and value:
            raise CorruptError("its rank is unknown")
    if math.prod(shape) > limits.MAX_INT64:
        raise CorruptError(f"its shape {shape} has more elements than 64 bits can count")
    return tuple(shape)
