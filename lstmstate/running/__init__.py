"""Stepping a cell over files: what goes in, and what comes of it."""
