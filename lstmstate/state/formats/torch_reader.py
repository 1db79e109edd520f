"""Tensors in files of torch.save, read without torch, and without unpickling.

The file is a zip archive: `data.pkl`, a pickle of protocol 2, and the bytes of each storage as
`data/KEY`. A tensor is a call of `_rebuild_tensor_v2` that refers to a storage by a persistent id,
several of them perhaps to the same. Sources: torch/serialization.py (`_save`, `persistent_id`) and
torch/_utils.py of PyTorch 2.13.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum, auto
from struct import unpack
from typing import TYPE_CHECKING, Any, ClassVar

from lstmstate import limits
from lstmstate.checkpoint import dtypes
from lstmstate.checkpoint.dtypes import DType
from lstmstate.errors import CorruptError, UnsupportedError, first_of, located, raised_as
from lstmstate.files.reader import ByteSource
from lstmstate.named_tuple import NamedTuple
from lstmstate.state.formats.pickle_opcodes import Call, Machine, damaged, shown
from lstmstate.state.formats.stored_array import StateFile, StoredArray, rows_of
from lstmstate.state.formats.stored_tensor import StoredTensor
from lstmstate.state.formats.zip_archive import StoredMember, damage, open_archive
from lstmstate.state.metadata import KEY, parse

if TYPE_CHECKING:
    from lstmstate.state.state import Array

ADVICE = (
    "only tensors in dicts, tuples and lists are read: torch.save({name: tensor}, FILE), of a "
    "module its state_dict()"
)
PICKLE, BYTE_ORDER, DATA = "data.pkl", "byteorder", "data/"
STORAGES = {
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "CharStorage": "int8",
    "ShortStorage": "int16",
    "IntStorage": "int32",
    "LongStorage": "int64",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
}


class _Name(Enum):
    """The functions that a file may name."""

    TENSOR = auto()  # makes a tensor of a storage
    PARAMETER = auto()  # makes a parameter of a tensor
    DICT = auto()  # OrderedDict


_NAMES: Mapping[tuple[str, str], object] = {
    ("torch._utils", "_rebuild_tensor_v2"): _Name.TENSOR,
    ("torch._utils", "_rebuild_parameter"): _Name.PARAMETER,
    ("collections", "OrderedDict"): _Name.DICT,
    **{("torch", name): dtypes.BY_NAME[dtype] for name, dtype in STORAGES.items()},
}


class _Items(list[tuple[object, object]]):
    """The items of a dict, in a list: comparing keys of a stranger can take long."""

    __slots__ = ()


class _Reference(NamedTuple):
    """A reference to a storage, by its persistent id."""

    id: object


class _Machine(Machine):
    """The machine for pickles that have dicts, floats and persistent ids."""

    def set(self, values: tuple[object, ...]) -> object:
        """Return a dict with more items."""
        target = self.pop()
        if not isinstance(target, _Items) or len(values) % 2:
            raise damaged("it sets items of a value that is not a dict")
        target.extend(zip(values[::2], values[1::2], strict=True))
        return target

    own: ClassVar[Mapping[bytes, Callable[[Any], object]]] = {
        b"}": lambda _: _Items(),
        b"s": lambda machine: machine.set(machine.last(2)),
        b"u": lambda machine: machine.set(machine.pop_to_mark()),
        b"G": lambda machine: unpack(">d", machine.take(8))[0],
        b"Q": lambda machine: _Reference(machine.pop()),
    }

    def call(self) -> object:
        """Return a new dict, or a placeholder for the result of another call."""
        made = super().call()
        if isinstance(made, Call) and made.name is _Name.DICT and not made.arguments:
            return _Items()
        return made

    def fill(self) -> None:
        """Pass over the attributes of a dict, such as `_metadata` of a state_dict."""
        if len(self.stack) > 1 and isinstance(self.stack[-2], _Items):
            self.pop()
        else:
            super().fill()


class StridedTensor(StoredArray):
    """A tensor whose elements are not one after another, such as a transposed one: read whole.

    Args:
        base: the stretch of the storage from its first element to its last.
        strides: elements from one to the next, for each axis.
    """

    def __init__(
        self, name: str, shape: tuple[int, ...], strides: tuple[int, ...], base: StoredTensor
    ) -> None:
        super().__init__(name, shape, base.dtype)
        self.wider_than = base.wider_than
        self._strides = strides
        self._base = base
        self._held: Array | None = None

    def read(self, axis: int, start: int, stop: int) -> Array:
        """Return a view of the rows."""
        from numpy.lib.stride_tricks import as_strided

        if self._held is None:
            strides = [stride * self.dtype.itemsize for stride in self._strides]
            self._held = as_strided(self._base.whole(), self.shape, strides, writeable=False)
        return self._held[rows_of(axis, start, stop)]


class _Builder:
    """Makes arrays of the result of the machine.

    It counts parts and bytes: a pickle of few bytes can refer to a part over and over.

    Attributes:
        others: the names of the values that are not tensors.
    """

    def __init__(
        self, source: ByteSource, storages: Mapping[str, StoredMember], *, big_endian: bool
    ) -> None:
        self.others: list[str] = []
        self._source = source
        self._storages = storages
        self._is_big_endian = big_endian
        self._dtypes: dict[str, DType] = {}  # of each storage
        self._name_bytes_left = limits.MAX_NAMES_BYTES
        self._bytes_left = limits.BOMB_BYTES + limits.BOMB_RATIO * source.size

    def arrays(self, found: object, name: str = "", depth: int = 0) -> Iterator[StoredArray]:
        """Yield the tensors in a part, by their names, so many levels deep."""
        self._source.budget.spend(limits.TORCH_PARTS)
        self._name_bytes_left -= len(name)
        if self._name_bytes_left < 0:
            raise UnsupportedError("its names are too long to be names of tensors")
        if depth > limits.MAX_PICKLE_DEPTH:
            raise UnsupportedError(f"it is nested deeper than {limits.MAX_PICKLE_DEPTH} levels")
        items: Sequence[tuple[object, object]] = ()
        match found:
            case _Items():
                items = found
                _refuse_odd_keys([part for part, _ in items])
            case tuple() | list() if type(found) in (tuple, list):
                items = [*enumerate(found)]
            case Call(_Name.PARAMETER, (tensor, bool(), _), None):
                yield from self.arrays(tensor, name, depth + 1)
            case Call(
                _Name.TENSOR,
                (
                    _Reference(("storage", DType() as dtype, str(key), str(), int(count))),
                    int(offset),
                    tuple(shape),
                    tuple(strides),
                    bool(),
                    _,
                    *flags,
                ),
                None,
            ):
                with located(tensor=name or None):
                    _refuse_lazy(flags)
                    yield self.tensor(name, dtype, key, count, offset, shape, strides)
            case Call():
                raise damaged("a call in it has other arguments than torch.save gives")
            case None | bool() | int() | float() | str():
                self.others.append(name or "the whole")
            case _:
                raise UnsupportedError("it holds a thing that is not a tensor", advice=ADVICE)
        for part, item in items:
            yield from self.arrays(item, f"{name}/{part}".removeprefix("/"), depth + 1)

    def tensor(
        self,
        name: str,
        dtype: DType,
        key: str,
        count: int,
        offset: int,
        shape: tuple[object, ...],
        strides: tuple[object, ...],
    ) -> StoredArray:
        """Return a tensor, once all of its elements are known to be in its storage."""
        import numpy as np

        sizes = [size for size in shape if type(size) is int and size >= 0]
        steps = [step for step in strides if type(step) is int and step >= 0]
        if self._dtypes.setdefault(key, dtype) is not dtype:
            raise damaged("a storage in it has two dtypes")
        if len(sizes) < len(shape) or len(steps) < len(strides) or len(sizes) != len(steps):
            raise damaged("a tensor in it has a shape or strides that none can have")
        if len(sizes) > limits.NUMPY_RANK:
            raise UnsupportedError(f"it has {len(sizes)} axes")
        if key not in self._storages:
            raise damaged(f"the storage {shown(key)!r} is missing")
        member = self._storages[key]
        if count * dtype.itemsize != member.size:
            raise damaged(f"a storage of {count} elements has {member.size} bytes")
        steps = [step if size > 1 else 0 for size, step in zip(sizes, steps, strict=True)]
        last = offset + sum((size - 1) * step for size, step in zip(sizes, steps, strict=True))
        is_empty = 0 in sizes
        if offset < 0 or offset > count or (not is_empty and last >= count):
            raise damaged(f"a tensor in it reaches beyond the {count} elements of its storage")
        width = np.dtype(dtype.numpy).itemsize  # once read
        nbytes = max(math.prod(size or 1 for size in sizes), last + 1 - offset) * width
        if nbytes > limits.MAX_INT64:
            raise damaged("a tensor in it has a shape that none can have")
        self._bytes_left -= 0 if is_empty else nbytes
        if self._bytes_left < 0:
            raise UnsupportedError(
                "its tensors declare many more bytes than it stores",
                advice="save them with .contiguous()",
            )
        start = member.start + offset * dtype.itemsize

        def stretch(shape: tuple[int, ...]) -> StoredTensor:
            return StoredTensor(
                *(name, shape, dtype, self._source, start),
                big_endian=self._is_big_endian,
                verify=member.verify,
            )

        if is_empty or _are_in_order(sizes, steps):
            return stretch(tuple(sizes))
        return StridedTensor(name, tuple(sizes), tuple(steps), stretch((last + 1 - offset,)))


def _refuse_odd_keys(keys: list[object]) -> None:
    """Refuse keys of a dict that are not names, or there twice: the last one counts then."""
    texts = [str(key) for key in keys if type(key) in (str, int)]
    if len(texts) < len(keys):
        raise UnsupportedError("a key of a dict in it is not a text", advice=ADVICE)
    if any(len(text) > limits.MAX_NAME_BYTES for text in texts):
        raise UnsupportedError("its names are too long to be names of tensors")
    if len(set(texts)) < len(texts):
        raise UnsupportedError("two of its tensors have the same name", advice=ADVICE)


def _refuse_lazy(flags: list[object]) -> None:
    """Refuse a tensor whose values are not those in its storage, by its last argument."""
    if any(flags):
        raise UnsupportedError(
            "it is a lazy conjugate or negative",
            advice="save it after .resolve_conj().resolve_neg()",
        )


def _are_in_order(sizes: list[int], steps: list[int]) -> bool:
    """Whether elements of these strides are one after another in C order."""
    expected = 1
    for size, step in zip(reversed(sizes), reversed(steps), strict=True):
        if size != 1 and step != expected:
            return False
        expected *= size
    return True


def open_file(source: ByteSource) -> StateFile:
    """Return the tensors of a file of torch.save."""
    with raised_as(damage):
        archive = open_archive(source)
        found = {member.filename: member for member in archive.infolist()}
        folder = next((n.removesuffix(PICKLE) for n in found if n.endswith(f"/{PICKLE}")), "")
        if f"{folder}{PICKLE}" not in found:
            raise CorruptError(f"its {PICKLE} is missing")
        # torch ignores the case of names, takes the last of them, and one folder alone.
        order_name = f"{folder}{BYTE_ORDER}"
        if any(name != order_name and name.lower() == order_name.lower() for name in found):
            raise CorruptError(f"its {BYTE_ORDER} has another name")
        if len({name.lower() for name in found}) < len(found):
            raise CorruptError("the names of two of its members differ in case alone")
        if sum(name.endswith(f"/{PICKLE}") for name in found) > 1:
            raise CorruptError(f"there are two {PICKLE} in it")
        if not all(name.startswith(folder) for name in found):
            raise CorruptError(f"it has members outside of the folder {folder}")
        members = {}
        for name, info in found.items():
            with located(tensor=name):
                members[name.removeprefix(folder)] = StoredMember(source, info)
        if sum(member.size for member in members.values()) > source.size:
            raise CorruptError("its members overlap")
        raw = _small(members, PICKLE, limits.TORCH_PICKLE.most)
        order = _small(members, BYTE_ORDER, 16) or b"little"
        line = _small(members, KEY, limits.MAX_METADATA_BYTES)
    if order not in (b"little", b"big"):
        raise UnsupportedError(f"its byte order is {order!r}")
    storages = {
        name.removeprefix(DATA): one for name, one in members.items() if name.startswith(DATA)
    }
    builder = _Builder(source, storages, big_endian=order == b"big")
    machine = _Machine(raw, _NAMES, ADVICE, limits.TORCH_OPCODES.of(source.size))
    arrays = list(builder.arrays(machine.run()))
    if len({array.name for array in arrays}) < len(arrays):
        raise UnsupportedError("two of its tensors have the same name", advice=ADVICE)
    notes: tuple[str, ...] = ()
    if builder.others:
        notes = (f"values that are not tensors are left out: {first_of(builder.others, 4)}",)
    return StateFile(source.path, arrays, parse(line.decode()) if line else None, notes=notes)


def _small(members: Mapping[str, StoredMember], name: str, most: int) -> bytes:
    """Return the bytes of a member of few bytes, none if it is missing."""
    if name not in members:
        return b""
    if members[name].size > most:
        raise UnsupportedError(f"its {name} of {members[name].size} bytes is too long to be one")
    return members[name].read()
