"""TensorFlow 1.x LSTM checkpoints without TensorFlow: cells, their states, runs and conversions.

>>> import lstmstate
>>> with lstmstate.open_checkpoint("sample_checkpoints/peephole_flat") as ckpt:
...     cell = ckpt.cells["rnn/lstm_cell"]
...     cell.state.c, cell.state.m, cell.state.flat
(8, 5, 13)
"""

from __future__ import annotations

__all__ = [
    "AmbiguousError",
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
    "StackState",
    "StateWidths",
    "UnknownOptionError",
    "UnsupportedError",
    "Variable",
    "check",
    "compare",
    "concat",
    "convert",
    "export",
    "load_state",
    "open_checkpoint",
    "run",
    "save_state",
    "split",
    "verify",
]

TYPE_CHECKING = False  # not that of `typing`, whose import takes long
if TYPE_CHECKING:
    from lstmstate.cells import Option, SavedState, StateWidths
    from lstmstate.cells.cell import Cell as Cell
    from lstmstate.cells.cell import Stack as Stack
    from lstmstate.checkpoint import Variable
    from lstmstate.errors import (
        AmbiguousError,
        CorruptError,
        LstmstateError,
        MissingExtraError,
        NotFoundError,
        UnknownOptionError,
        UnsupportedError,
    )
    from lstmstate.model.checkpoint import LSTMCheckpoint, open_checkpoint
    from lstmstate.model.lstm_network import LSTMCell, LSTMNetwork, LSTMStack
    from lstmstate.operations.check import check
    from lstmstate.operations.compare import compare
    from lstmstate.operations.export import export
    from lstmstate.operations.run import run
    from lstmstate.operations.state_files import concat, convert, load_state, save_state, split
    from lstmstate.operations.verify import verify
    from lstmstate.state.state import LSTMState, StackState
    from lstmstate.version import __version__ as __version__

# Names are imported when they are first used, so that `import lstmstate` costs nothing.
_MODULES = {
    "lstmstate.cells": ("Cell", "Option", "SavedState", "Stack", "StateWidths"),
    "lstmstate.checkpoint": ("Variable",),
    "lstmstate.model.checkpoint": ("LSTMCheckpoint", "open_checkpoint"),
    "lstmstate.model.lstm_network": ("LSTMCell", "LSTMNetwork", "LSTMStack"),
    "lstmstate.operations.check": ("check",),
    "lstmstate.operations.compare": ("compare",),
    "lstmstate.operations.export": ("export",),
    "lstmstate.operations.run": ("run",),
    "lstmstate.operations.state_files": ("concat", "convert", "load_state", "save_state", "split"),
    "lstmstate.operations.verify": ("verify",),
    "lstmstate.state.state": ("LSTMState", "StackState"),
    "lstmstate.version": ("__version__",),
}
# The commands with another name here.
_COMMANDS = {"diff": "compare", "inspect": "open_checkpoint"}


def __getattr__(name: str) -> object:
    from importlib import import_module

    modules = [module for module, names in _MODULES.items() if name in names]
    if not modules and name not in __all__:
        other = _COMMANDS.get(name)
        hint = f"; it is called {other}" if other else ""
        raise AttributeError(f"module 'lstmstate' has no attribute {name!r}{hint}")
    return getattr(import_module(modules[0] if modules else "lstmstate.errors"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
