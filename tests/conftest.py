"""Shared fixtures, and settings of the libraries that the tests use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import advice  # noqa: F401 - before the modules that it checks
import numpy as np
import pytest
from commands import Shell
from covering import covering
from hypothesis import HealthCheck, settings
from work import little_memory

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
# oneDNN sums float16 products with the instructions of the CPU: two machines give two results.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # hundreds of processes would compile the package

# The same examples in every run, and no time limit: a busy machine is not an error.
for profile, examples in (("steady", 40), ("full", 100)):
    settings.register_profile(
        profile,
        derandomize=True,
        deadline=None,
        max_examples=examples,
        suppress_health_check=[HealthCheck.too_slow],
    )

PROJECT = Path(__file__).resolve().parent.parent
SAMPLES = PROJECT / "sample_checkpoints"
SHARED = PROJECT.parent / "shared"


@pytest.fixture
def samples() -> Path:
    """The folder of sample checkpoints."""
    return SAMPLES


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator of the same random numbers in every test."""
    return np.random.default_rng(0)


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    """The commands, run in this process."""
    return Shell(capsys)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add an option for the cases that a quick run leaves out."""
    help_ = "test all combinations of parameters, more examples, and every change of a graph"
    parser.addoption("--full", action="store_true", help=help_)


def pytest_configure(config: pytest.Config) -> None:
    """Choose the examples, and declare the markers."""
    settings.load_profile("full" if config.getoption("full") else "steady")
    for line in (
        "memory(megabytes): the most memory that a test allocates",
        "covering(ways): without --full, only cases with all combinations of so many parameters",
    ):
        config.addinivalue_line("markers", line)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the cases that a covering set does without."""
    groups: dict[tuple[object, int], list[pytest.Item]] = {}
    for item in [] if config.getoption("full") else items:
        marker = item.get_closest_marker("covering")
        if marker:
            key = (item.path, item.function), *marker.args  # type: ignore[attr-defined]
            groups.setdefault(key, []).append(item)
    left: set[pytest.Item] = set()
    for (_, ways), group in groups.items():
        cases = [tuple(item.callspec.params.values()) for item in group]  # type: ignore[attr-defined]
        left |= {*group} - {group[at] for at in covering(cases, ways)}
    items[:] = [item for item in items if item not in left]
    config.hook.pytest_deselected(items=list(left))


@pytest.fixture(autouse=True)
def bounded_memory(request: pytest.FixtureRequest) -> Iterator[None]:
    """Limit the memory of a test with the marker `memory`."""
    marker = request.node.get_closest_marker("memory")
    with little_memory(*marker.args) if marker else nullcontext():
        yield
