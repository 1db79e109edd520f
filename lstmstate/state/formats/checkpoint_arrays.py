"""Tensors of a checkpoint as the arrays of a state file, and states into checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from lstmstate.checkpoint import Variable, dtypes
from lstmstate.errors import UnsupportedError, located
from lstmstate.state.formats.stored_array import Lazy, StateFile, StoredArray
from lstmstate.state.metadata import KEY, parse

if TYPE_CHECKING:
    from lstmstate.cells.cell import SavedState
    from lstmstate.checkpoint.tensor_bundle_writer import BundleWriter
    from lstmstate.files.atomic import Outputs
    from lstmstate.state.state import Array
    from lstmstate.state.state_stream import StateStream


def _tensor(variable: Variable, shape: tuple[int, ...]) -> StoredArray:
    """Return a variable as an array of a shape, which is that of the variable as a rule."""
    import numpy as np

    found = variable.spec.dtype
    dtype = np.dtype(found.numpy or "O")
    array = Lazy(variable.name, shape, dtype, lambda: variable.read().reshape(shape))
    array.wider_than = found.name if found.numpy != found.storage else None
    return array


def tensors(
    path: str, variables: Iterable[Variable], states: Iterable[SavedState] = ()
) -> StateFile:
    """Return variables as the arrays of a state file, with the metadata among them.

    Args:
        states: those of the checkpoint; the graph lays some out in rows.
    """
    shapes = {state.variable: state.row_shape for state in states}
    metadata = None
    arrays = []
    for variable in variables:
        if variable.name == KEY and variable.dtype == "string" and not variable.shape:
            metadata = parse(variable.read().item().decode("utf-8", "replace"))
        else:
            arrays.append(_tensor(variable, shapes.get(variable.name, variable.shape)))
    return StateFile(path, arrays, metadata, ordered=False, kind="ckpt")


def add_state(
    writer: BundleWriter,
    stream: StateStream,
    number: int,
    name: str,
    shape: tuple[int, ...] | None = None,
    *,
    big_endian: bool = False,
) -> None:
    """Add one planned array of a state to a checkpoint in the making.

    Args:
        shape: that of the tensor; that of the plan unless given.
    """
    plan = stream.plans[number]
    found = dtypes.to_store(plan.dtype.name, stream.metadata.dtype)
    if found is None:
        raise UnsupportedError(f"TensorFlow has no dtype {plan.dtype}", tensor=name)
    pieces = stream.in_order(number)
    with located(tensor=name):
        writer.add(
            name,
            found,
            plan.shape if shape is None else shape,
            (dtypes.to_bytes(piece, found, big_endian=big_endian) for piece in pieces),
        )


def add_text(writer: BundleWriter, name: str, text: str) -> None:
    """Add a text as a string tensor to a checkpoint in the making."""
    import numpy as np

    writer.add_strings(name, np.array(text.encode(), object))


def write(outputs: Outputs, target: str, stream: StateStream) -> None:
    """Write a state alone as a checkpoint, what travels with it as a string tensor."""
    from lstmstate.checkpoint.checkpoint_writer import new_checkpoint

    numbers: dict[str, int] = {plan.name: number for number, plan in enumerate(stream.plans)}
    with new_checkpoint(outputs, target) as writer:
        for name in sorted([*numbers, KEY]):
            if name == KEY:
                add_text(writer, KEY, stream.metadata.line())
            else:
                add_state(writer, stream, numbers[name], name)


def write_arrays(
    outputs: Outputs, target: str, arrays: Mapping[str, Array], texts: Mapping[str, str]
) -> None:
    """Write arrays of floats, and texts, as the tensors of a checkpoint."""
    from lstmstate.checkpoint.checkpoint_writer import new_checkpoint
    from lstmstate.state.formats.array_writer import parts_of

    with new_checkpoint(outputs, target) as writer:
        for name in sorted([*arrays, *texts]):
            if name in texts:
                add_text(writer, name, texts[name])
                continue
            array, dtype = arrays[name], dtypes.BY_NAME[arrays[name].dtype.name]
            parts = (dtypes.to_bytes(part, dtype) for _, part in parts_of(array))
            writer.add(name, dtype, array.shape, parts)
