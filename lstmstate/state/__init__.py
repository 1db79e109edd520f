"""c and m: their widths, their layouts, and their files."""

from __future__ import annotations
