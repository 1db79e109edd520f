"""Tensors into files of torch.save, written without torch; `weights_only=True` loads them.

The state of torch.nn.LSTM is the tuple (h_n, c_n), all else a dict of tensors by name.
"""

from __future__ import annotations

import zipfile
from typing import IO

from lstmstate import limits
from lstmstate.errors import UnsupportedError
from lstmstate.state.formats.array_writer import Destination, NpzWriter, PlannedArray, refuse_more
from lstmstate.state.formats.stored_tensor import TensorWriter
from lstmstate.state.formats.torch_reader import BYTE_ORDER, DATA, PICKLE, STORAGES
from lstmstate.state.formats.zip_archive import EPOCH
from lstmstate.state.metadata import KEY

_FOLDER = "archive/"  # that of torch.save where a file has no name
_ALIGNED = 64  # as torch.save aligns the values, that they can be mapped
_LOCAL = 30  # bytes of the header of a member, before its name
_LARGE = 1 << 31  # bytes of a member whose size is in another place
_ZIP64 = 20  # bytes of that place
_EXTRA = b"FB"  # the key of the padding, as torch.save writes it
_OF_DTYPE = {dtype: storage for storage, dtype in STORAGES.items()}


class TorchWriter(TensorWriter, NpzWriter):
    """An archive of a pickle and the values of each tensor, aligned and not packed."""

    program = "torch"
    names = frozenset(_OF_DTYPE)

    def __init__(self, to: Destination) -> None:
        super().__init__(to)
        is_pair = to.metadata is not None and to.metadata.layout == "torch"
        program = self._pickle(as_tuple=is_pair)
        refuse_more(limits.TORCH_PICKLE, len(program))
        self._add(PICKLE, program)
        self._add(BYTE_ORDER, b"little")

    def _refuse_names(self) -> None:
        """All names are in the pickle, and those of members are numbers."""

    def _pickle(self, *, as_tuple: bool) -> bytes:
        """Return the program that makes the tensors."""
        tensors = [
            (plan.name, _tensor(number, plan, _OF_DTYPE[found.name]))
            for number, (plan, found) in enumerate(zip(self.plans, self.types, strict=True))
        ]
        if as_tuple:
            made = _tuple(*(tensor for _, tensor in tensors))
        else:
            made = b"}(%bu" % b"".join(_text(name) + tensor for name, tensor in tensors)
        return b"\x80\x02%b." % made

    def _add(self, name: str, data: bytes) -> None:
        self._archive.writestr(zipfile.ZipInfo(f"{_FOLDER}{name}", EPOCH), data)

    def _new_member(self, plan: PlannedArray) -> IO[bytes]:
        """Return the member of a tensor; its values begin at a multiple of 64 bytes."""
        info = zipfile.ZipInfo(f"{_FOLDER}{DATA}{self._numbers[plan.name]}", EPOCH)
        is_large = plan.nbytes >= _LARGE
        start = self._archive.start_dir + _LOCAL + len(info.filename) + _ZIP64 * is_large
        padding = -(start + 4) % _ALIGNED
        info.extra = _EXTRA + padding.to_bytes(2, "little") + b"Z" * padding
        return self._archive.open(info, "w", force_zip64=is_large)

    def _end(self) -> None:
        if self._to.metadata is not None:
            self._add(KEY, self._to.metadata.line().encode())
        self._add("version", b"3\n")


def _tensor(number: int, plan: PlannedArray, storage: str) -> bytes:
    """Return the instructions for a tensor: a call that refers to its storage."""
    strides = [1]
    for size in plan.shape[:0:-1]:
        strides.append(strides[-1] * max(size, 1))
    count = plan.nbytes // plan.dtype.itemsize
    place = _tuple(
        _text("storage"), _name("torch", storage), _text(str(number)), _text("cpu"), _number(count)
    )
    return b"%b%bR" % (
        _name("torch._utils", "_rebuild_tensor_v2"),
        _tuple(
            place + b"Q",
            _number(0),
            _tuple(*map(_number, plan.shape)),
            _tuple(*map(_number, strides[::-1] if plan.shape else [])),
            b"\x89",  # False: it takes no gradient
            b"%b)R" % _name("collections", "OrderedDict"),  # no hooks
        ),
    )


def _name(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def _tuple(*items: bytes) -> bytes:
    return b"(%bt" % b"".join(items)


def _text(text: str) -> bytes:
    try:
        data = text.encode()
    except UnicodeEncodeError:
        raise UnsupportedError("its name is not a text", tensor=text) from None
    return b"X%b%b" % (len(data).to_bytes(4, "little"), data)


def _number(value: int) -> bytes:
    """Return an integer below 2^63, in four bytes if it fits."""
    if value < 1 << 31:
        return b"J%b" % value.to_bytes(4, "little")
    return b"\x8a\x08%b" % value.to_bytes(8, "little")
