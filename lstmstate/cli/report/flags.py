"""Flags of the command line for the parameters in messages of the library.

The library writes a parameter as Python takes it, in backticks: `force=True`, `layout='torch'`, or
`variable=...` for any value. Here they become --force, --from torch, --variable.
"""

from __future__ import annotations

import re

_PARAMETER = r"`(\w+)=([^`]*)`"
# Flags with other names than their parameters, or several flags.
_FLAGS = {"layout": "--from", "from_layout": "--from"}
_ANY = {  # the same, for any value
    "cells": "--units and --proj, --cells",
    "feeds": "--feed NAME=VALUE",
    "targets": "-o C M",
}
_SWITCHES = {"True": "", "False": "no-"}


def with_flags(message: str) -> str:
    """Return a message of the library with flags in the place of parameters.

    >>> with_flags("this file exists already; pass `force=True` to replace it")
    'this file exists already; pass --force to replace it'
    >>> with_flags("run it alone: `cell='rnn/lstm_cell'`, or without `peepholes=False`")
    'run it alone: --cell rnn/lstm_cell, or without --no-peepholes'
    """
    return re.sub(_PARAMETER, _flag, message)


def _flag(parameter: re.Match[str]) -> str:
    name, value = parameter.groups()
    word = name.replace("_", "-")
    if value in _SWITCHES:
        return f"--{_SWITCHES[value]}{word}"
    if value == "...":
        return _ANY.get(name) or _FLAGS.get(name) or f"--{word}"
    value = "none" if value == "None" else value.strip("'\"")
    return f"{_FLAGS.get(name, f'--{word}')} {value}"
