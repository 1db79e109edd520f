"""A check of every error that a test makes a public function raise: its advice can be followed.

The parameters that a message names, as `layout='torch'`, have to be those of the function.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import wraps
from inspect import signature
from typing import Any

from lstmstate import arguments
from lstmstate.errors import LstmstateError

__name__ = "lstmstate.advice"  # its frames are skipped, as those of the package: see `errors.warn`
_name_nearest = arguments.name_nearest


def check_advice(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a public function that fails a test if an error names a parameter it does not have."""
    public = _name_nearest(function)
    known = signature(function).parameters.keys()

    @wraps(function)
    def call(*args: Any, **named: Any) -> Any:
        try:
            return public(*args, **named)
        except LstmstateError as error:
            unknown = {*re.findall(r"`(\w+)=", str(error))} - known
            assert not unknown, f"{function.__qualname__} has no {unknown}: {error}"
            raise

    return call


arguments.name_nearest = check_advice  # before any function is decorated
