"""Rows."""

from __future__ import annotations

from lstmstate.cells.family import Family

LIBRARIES: tuple[Family, ...] = ()
