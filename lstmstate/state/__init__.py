"""c and m in files: which arrays a state file holds, and what layouts they could be."""

from __future__ import annotations
