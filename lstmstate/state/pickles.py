"""Pickled states: LSTMStateTuples, tuples, lists and arrays, read with care."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from lstmstate import limits
from lstmstate.checkpoint.source import ByteSource
from lstmstate.errors import UnsupportedError
from lstmstate.output import Outputs
from lstmstate.state.metadata import Metadata, parse
from lstmstate.state.pickle_writer import write_pickle
from lstmstate.state.pickled import LSTMStateTuple, read_pickle
from lstmstate.state.stored import Held, StateFile

if TYPE_CHECKING:
    from lstmstate.state.flow import Flow


def open_file(source: ByteSource) -> StateFile:
    """Return the arrays of a pickled state, in their order.

    Raises:
        LstmstateError: it is damaged, or asks for anything but arrays in tuples and lists.
    """
    if source.size > limits.MAX_PICKLE_BYTES:
        raise UnsupportedError("a pickle of this size is not read", path=source.path)
    found = read_pickle(source.read(0, source.size, "the pickle"))
    metadata = parse(found.metadata) if found.metadata else None
    return StateFile(source.path, list(_unpacked("", found.value)), metadata)


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


def write(
    outputs: Outputs, target: str, flow: Flow, metadata: Metadata, *, compress: bool = False
) -> None:
    """Write a state as the Python objects that its layout is made of; it is held in memory."""
    import numpy as np

    axis_of = {number: plan.axis for number, plan in enumerate(flow.plans)}
    pieces = [arrays for _, _, arrays in flow.together()]
    arrays = [
        np.concatenate([part[number] for part in pieces], axis=axis)
        if len(pieces) > 1
        else pieces[0][number]
        for number, axis in axis_of.items()
    ]
    with outputs.open(target) as file:
        write_pickle(_packed(arrays, flow), metadata.line(), file)


def _packed(arrays: list[Any], flow: Flow) -> Any:
    """Return LSTMStateTuples, [h, c] lists, (h_n, c_n), or the one array of the other layouts."""
    layout, is_stack = flow.layout, flow.structure.is_stack
    if not layout.per_cell:
        return tuple(arrays) if len(arrays) > 1 else arrays[0]
    pack = {"tuple": LSTMStateTuple, "keras": lambda h, c: [h, c]}.get(
        layout.name, lambda array: array
    )
    size = len(layout.names)
    cells = [pack(*arrays[at : at + size]) for at in range(0, len(arrays), size)]
    return (cells if layout.name == "keras" else tuple(cells)) if is_stack else cells[0]
