"""TensorFlow's dtypes: one table of their numbers, names, widths and homes in a TensorProto.

Numbers: core/framework/types.proto; TensorProto fields: core/framework/tensor.proto (v1.15.0).
"""

from __future__ import annotations

from lstmstate.errors import LstmstateError
from lstmstate.named_tuple import NamedTuple
from lstmstate.type_names import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class DType(NamedTuple):
    """One of TensorFlow's element types.

    Attributes:
        name: as `tf.DType.name` gives it.
        itemsize: bytes an element takes in a V2 data file; 0 if elements vary in length.
        storage: the NumPy type of the stored bytes, without byte order; None if there is none.
        proto_field: the field of a TensorProto with the values in V1 files; 0 for none.
    """

    name: str
    itemsize: int
    storage: str | None
    proto_field: int

    @property
    def is_float(self) -> bool:
        """Whether a cell can compute in it."""
        return self.name in ("float16", "bfloat16", "float32", "float64")

    @property
    def numpy(self) -> str | None:
        """The NumPy type of its values; bfloat16, which NumPy does not have, becomes float32."""
        return "f4" if self.name == BFLOAT16 else self.storage


BFLOAT16 = "bfloat16"
STRING = DType("string", 0, None, 8)

BY_NUMBER: dict[int, DType] = {
    1: DType("float32", 4, "f4", 5),
    2: DType("float64", 8, "f8", 6),
    3: DType("int32", 4, "i4", 7),
    4: DType("uint8", 1, "u1", 7),
    5: DType("int16", 2, "i2", 7),
    6: DType("int8", 1, "i1", 7),
    7: STRING,
    8: DType("complex64", 8, "c8", 9),
    9: DType("int64", 8, "i8", 10),
    10: DType("bool", 1, "?", 11),
    11: DType("qint8", 1, "i1", 7),
    12: DType("quint8", 1, "u1", 7),
    13: DType("qint32", 4, "i4", 7),
    14: DType("bfloat16", 2, "u2", 13),
    15: DType("qint16", 2, "i2", 7),
    16: DType("quint16", 2, "u2", 7),
    17: DType("uint16", 2, "u2", 7),
    18: DType("complex128", 16, "c16", 12),
    19: DType("float16", 2, "f2", 13),
    20: DType("resource", 0, None, 0),
    21: DType("variant", 0, None, 0),
    22: DType("uint32", 4, "u4", 16),
    23: DType("uint64", 8, "u8", 17),
}
BY_NAME = {dtype.name: dtype for dtype in BY_NUMBER.values() if dtype.itemsize}
NUMPY_FLOATS = ("float16", "float32", "float64")
FLOATS = frozenset(number for number, dtype in BY_NUMBER.items() if dtype.is_float)


def by_number(number: int) -> DType:
    """Return the dtype with this number; one newer than 1.15 is named by its number."""
    return BY_NUMBER.get(number) or DType(f"dtype {number}", 0, None, 0)


def to_store(name: str, was: str | None) -> DType | None:
    """Return the dtype to store for values of a NumPy dtype, None if there is none.

    Args:
        was: the dtype that they had before they were made wider.
    """
    return BY_NAME.get(BFLOAT16 if was == BFLOAT16 and name == "float32" else name)


def from_bytes(
    data: bytes, dtype: DType, shape: tuple[int, ...], *, big_endian: bool = False
) -> NDArray[np.generic]:
    """Return stored bytes as an array of `shape`, in the machine's byte order."""
    import numpy as np

    array = np.frombuffer(data, stored_type(dtype, big_endian=big_endian))
    return from_storage(array, dtype).reshape(shape)


def stored_type(dtype: DType, *, big_endian: bool = False) -> np.dtype[np.generic]:
    """Return the NumPy type of the stored bytes, with their order."""
    import numpy as np

    return np.dtype(dtype.storage).newbyteorder(">" if big_endian else "<")


def from_storage(array: NDArray[np.generic], dtype: DType) -> NDArray[np.generic]:
    """Return stored numbers as values, in the machine's byte order.

    Those of bfloat16 become float32: the same values, exactly, since a bfloat16 is the upper half
    of a float32.
    """
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return widen(array, dtype)


def widen(array: NDArray[np.generic], dtype: DType) -> NDArray[np.generic]:
    """Return bit patterns of bfloat16 as float32 values; other arrays unchanged."""
    if dtype.name != BFLOAT16:
        return array
    import numpy as np

    return (array.astype(np.uint32) << np.uint32(16)).view(np.float32)


def to_storage(
    array: NDArray[np.generic], dtype: DType, *, big_endian: bool = False
) -> NDArray[np.generic]:
    """Undo `from_storage`: return the numbers to store for an array of values, in C order."""
    import numpy as np

    value = np.ascontiguousarray(array).reshape(array.shape)
    if dtype.name == BFLOAT16:
        patterns = value.view(np.uint32)
        if (patterns & np.uint32(0xFFFF)).any():
            raise LstmstateError("its values do not fit bfloat16", advice="pass `dtype='float32'`")
        value = (patterns >> np.uint32(16)).astype(np.uint16)
    return value.astype(stored_type(dtype, big_endian=big_endian), copy=False)


def to_bytes(array: NDArray[np.generic], dtype: DType, *, big_endian: bool = False) -> memoryview:
    """Undo `from_bytes`: return the bytes to store for an array of values."""
    import numpy as np

    stored = to_storage(array, dtype, big_endian=big_endian)
    return stored.reshape(-1).view(np.uint8).data
