"""What all tests share: where data lies, and TensorFlow made quiet before it is imported."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from commands import Shell

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

PROJECT = Path(__file__).resolve().parent.parent
SAMPLES = PROJECT / "sample_checkpoints"
SHARED = PROJECT.parent / "shared"


@pytest.fixture
def samples() -> Path:
    """The folder of sample checkpoints."""
    return SAMPLES


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    """The commands, run in this process."""
    return Shell(capsys)
