"""Graphs of TensorFlow 1.x with random weights, and TensorFlow's results for their data."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from writers import as_in_1_x, new_session, set_variables, tensorflow

import lstmstate
from lstmstate.state.state import State

Array = Any
# Builds a graph; returns the tensors to fetch, and the values to feed.
Build = Callable[[Any], tuple[Sequence[Any], Mapping[Any, Any]]]


def drawn(*shape: int, seed: int = 0) -> Array:
    """Return random numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype("f4")


def evaluated(folder: Path, build: Build, *, functional: bool = False) -> tuple[str, list[Array]]:
    """Save a graph with random weights; return its prefix and TensorFlow's values."""
    tf = tensorflow()
    with as_in_1_x(tf, functional=functional):
        fetches, feeds = build(tf)
        with new_session(tf) as session:
            every = enumerate(tf.global_variables())
            set_variables(session, {one: drawn(*one.shape, seed=at) * 0.5 for at, one in every})
            found = session.run(list(fetches), dict(feeds))
            return tf.train.Saver().save(session, str(folder / "model.ckpt")), found


def ran(prefix: str, x: Array, state: State | None = None, **how: Any) -> list[Array]:
    """Return the outputs, and c and m of each cell, of a run without warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outputs, last = lstmstate.open_checkpoint(prefix).network().run(x, state, **how)
    cells = last if isinstance(last, lstmstate.StackState) else [last]
    return [outputs, *(half for cell in cells for half in cell)]


def assert_same(found: Sequence[Array], expected: Sequence[Array]) -> None:
    """Compare arrays one by one."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-6, atol=2e-6)
