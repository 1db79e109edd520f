"""TensorFlow 1.x LSTM checkpoints without TensorFlow: what is in them, and what their state is.

    >>> import lstmstate
    >>> ckpt = lstmstate.open_checkpoint("sample_checkpoints/peephole_flat")
    >>> cell = ckpt.cells["rnn/lstm_cell"]
    >>> cell.state.c, cell.state.m, cell.state.flat
    (8, 5, 13)

Names are imported when they are first used, so that `import lstmstate` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = [
    "AmbiguousError",
    "Cell",
    "CorruptError",
    "LSTMCell",
    "LSTMCheckpoint",
    "LSTMNetwork",
    "LSTMStack",
    "LSTMState",
    "LstmstateError",
    "MissingExtraError",
    "NotFoundError",
    "Option",
    "SavedState",
    "Stack",
    "StackState",
    "StateWidths",
    "UnsupportedError",
    "Variable",
    "load_state",
    "open_checkpoint",
    "save_state",
]

if TYPE_CHECKING:
    from lstmstate.cells import Cell, Option, SavedState, Stack, StateWidths
    from lstmstate.checkpoint import Variable
    from lstmstate.errors import (
        AmbiguousError,
        CorruptError,
        LstmstateError,
        MissingExtraError,
        NotFoundError,
        UnsupportedError,
    )
    from lstmstate.model.checkpoint import LSTMCheckpoint, open_checkpoint
    from lstmstate.model.network import LSTMCell, LSTMNetwork, LSTMStack
    from lstmstate.operations.state_files import load_state, save_state
    from lstmstate.state.state import LSTMState, StackState

_ROOMS = {
    "lstmstate.cells": ("Cell", "Option", "SavedState", "Stack", "StateWidths"),
    "lstmstate.checkpoint": ("Variable",),
    "lstmstate.model.checkpoint": ("LSTMCheckpoint", "open_checkpoint"),
    "lstmstate.model.network": ("LSTMCell", "LSTMNetwork", "LSTMStack"),
    "lstmstate.state.state": ("LSTMState", "StackState"),
    "lstmstate.operations.state_files": ("load_state", "save_state"),
}


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name not in __all__:
        raise AttributeError(f"module 'lstmstate' has no attribute {name!r}")
    rooms = (room for room, names in _ROOMS.items() if name in names)
    return getattr(import_module(next(rooms, "lstmstate.errors")), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
