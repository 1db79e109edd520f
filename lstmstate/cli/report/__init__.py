"""Reports of the commands: JSON for programs, tables for people."""

from __future__ import annotations
