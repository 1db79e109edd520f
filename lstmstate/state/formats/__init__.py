"""Kinds of state files: one row for each in the registry, and a module that reads it."""
