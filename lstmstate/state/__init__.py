"""c and m: their widths, their layouts, and the files that they live in."""

from __future__ import annotations
