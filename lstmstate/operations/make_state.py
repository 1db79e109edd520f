"""Initial states of the networks of a checkpoint, as files: zeros, or those in the graph."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from lstmstate.named_tuple import NamedTuple
from lstmstate.operations.convert import Conversion, default_kind, refuse_projections, write_state
from lstmstate.operations.state_files import in_memory
from lstmstate.state.formats.registry import kind_to_write
from lstmstate.state.layouts import LAYOUTS
from lstmstate.state.state_stream import StateStream

if TYPE_CHECKING:
    from lstmstate.model.checkpoint import LSTMCheckpoint


class StateRequest(NamedTuple):
    """The state to make, and the file to write.

    Attributes:
        target: the file.
        layout: that of the target, as in `layouts.LAYOUTS`.
        batch: the rows; 1, or those of the graph's initial state, by default.
        is_initial: whether it is the initial state in the graph, and not zeros.
        steps: the steps of x, where the graph computes its initial state from them.
        cell, stack: the part of the checkpoint; the only one by default.
        kind, compress: as in a `ConvertRequest`.
        feeds: values for placeholders of the graph, as for a run.
    """

    target: str
    layout: str = "tuple"
    batch: int | None = None
    is_initial: bool = False
    steps: int | None = None
    cell: str | None = None
    stack: str | None = None
    kind: str | None = None
    compress: bool = False
    feeds: Mapping[str, Any] = {}


def state_of_network(ckpt: LSTMCheckpoint, request: StateRequest) -> Conversion:
    """Return the writing of a state of a network of a checkpoint.

    Raises:
        UnsupportedError: the graph does not show its initial state, or its cells have no widths.
    """
    network = ckpt.network(cell=request.cell, stack=request.stack)
    state = (
        network.initial_state(request.batch, request.feeds, request.steps)
        if request.is_initial
        else network.zero_state(request.batch or 1, request.feeds)
    )
    layout = LAYOUTS[request.layout]
    refuse_projections(ckpt, layout, (cell.cell for cell in state.cells))
    stream = StateStream(in_memory(state, ckpt.prefix), layout)
    default = default_kind(layout, stream.structure)
    kind = kind_to_write(request.target, request.kind, default, compress=request.compress)
    write = partial(
        write_state, stream, target=request.target, kind=kind, compress=request.compress
    )
    return Conversion([request.target], [stream], stream.structure.nbytes, write)
