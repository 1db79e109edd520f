"""Pickled states: LSTMStateTuples, tuples, lists and arrays, read with care."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lstmstate import limits
from lstmstate.errors import UnsupportedError
from lstmstate.files.reader import ByteSource
from lstmstate.state.formats.chunked import Held, StateFile
from lstmstate.state.formats.pickle_reader import LSTMStateTuple, read_pickle


def open_file(source: ByteSource) -> StateFile:
    """Return the arrays of a pickled state, in their order."""
    if source.size > limits.MAX_PICKLE_BYTES:
        raise UnsupportedError("a pickle of this size is not read", path=source.path)
    value = read_pickle(source.read(0, source.size, "the pickle"))
    return StateFile(source.path, list(_unpacked("", value)), None)


def _unpacked(name: str, value: Any) -> Iterator[Held]:
    """Yield the arrays in nested tuples and lists; an LSTMStateTuple names its two."""
    if not isinstance(value, tuple | list):
        yield Held(name, value)
        return
    if isinstance(value, LSTMStateTuple):
        keys = list(value._fields)
    elif any(isinstance(item, LSTMStateTuple) for item in value):
        keys = [f"cell_{number}" for number in range(len(value))]
    else:
        keys = [str(number) for number in range(len(value))]
    for key, item in zip(keys, value, strict=True):
        yield from _unpacked(f"{name}/{key}".lstrip("/"), item)
