"""Names and shapes into LSTM cells; nothing here knows of files."""

from __future__ import annotations

from lstmstate.cells.cell import Cell, Option, SavedState, Stack, StateWidths

__all__ = ["Cell", "Option", "SavedState", "Stack", "StateWidths"]
