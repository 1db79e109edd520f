"""Docstrings: their examples run and print the shown output; every public object has one."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

import lstmstate

MODULES = [
    "lstmstate",
    *(
        module.name
        for module in pkgutil.walk_packages(lstmstate.__path__, "lstmstate.")
        if not module.name.endswith("__main__")
    ),
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).resolve().parent.parent)  # they open the samples
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize("name", MODULES)
def test_public_things_are_documented(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__
    for label, thing in vars(module).items():
        own = getattr(thing, "__module__", None) == name
        if (
            own
            and not label.startswith("_")
            and (inspect.isclass(thing) or inspect.isroutine(thing))
        ):
            assert thing.__doc__, label


def test_there_are_examples_to_run() -> None:
    finder = doctest.DocTestFinder()
    found = [finder.find(importlib.import_module(name)) for name in MODULES]
    assert sum(bool(test.examples) for tests in found for test in tests) > 15
