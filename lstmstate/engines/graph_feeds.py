"""Values that a user feeds to a graph, in the shapes that its placeholders take."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from lstmstate.errors import UnsupportedError
from lstmstate.graph.loops import Tensor

if TYPE_CHECKING:
    from lstmstate.engines.network import Array

Static = tuple[int | None, ...]


def fit_to_placeholder(
    value: Array, static: Static | None, steps: int, batch: int, *, by_step: bool = False
) -> list[Array]:
    """Return a value in the shapes that a placeholder may take, the likeliest first.

    A single number is used for every element; numbers for each step, `[steps]`, are used for every
    sequence; numbers for each step of each sequence, `[batch, steps]`, may be flattened.

    Args:
        static: the shape of the placeholder.
        by_step: whether the first step of all sequences comes first in a flattened array.
    """
    if static is None:
        return [value]
    sizes = dict.fromkeys((batch, steps, batch * steps))
    ways = product(*((size,) if size is not None else tuple(sizes) for size in static))
    shapes = sorted(ways, key=lambda way: len(way) - len(set(way)))
    if value.ndim == 0:
        return [np.broadcast_to(value, shape) for shape in shapes]
    found = [value] if value.shape in shapes else []
    found += [value.reshape(shape) for shape in shapes if _is_longer(shape, value.shape)]
    if len(static) == 1 and (batch * steps,) in shapes:
        each = np.broadcast_to(value, (batch, steps)) if value.shape == (steps,) else value
        if each.shape == (batch, steps):
            found.append((each.T if by_step else each).reshape(-1))
    return found or [value]


def _is_longer(shape: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether a shape is another one followed by axes of size one."""
    return len(shape) > len(other) > 0 and shape == other + (1,) * (len(shape) - len(other))


def is_flat(value: Array, static: Static | None, steps: int, batch: int) -> bool:
    """Whether a placeholder takes a flattened array whose order, by step or not, matters."""
    ways = [
        fit_to_placeholder(value, static, steps, batch, by_step=way)[-1] for way in (False, True)
    ]
    return not np.array_equal(ways[0], ways[1])


def take_step(
    tensor: Tensor, value: Array, static: Static | None, at: int, sizes: tuple[int, int]
) -> Array:
    """Return the part of a value for one step of a graph that is built for a single step.

    Numbers for each step, `[steps]` or `[batch, steps]`, are cut along time; values without a time
    axis are the same at every step.

    Args:
        at: the number of the step.
        sizes: the numbers of steps and sequences.

    Raises:
        UnsupportedError: the numbers may be for the steps or for the sequences.
    """
    steps, batch = sizes
    if static is None:
        return value
    pairs = zip(static, value.shape, strict=False)
    is_whole = len(static) == value.ndim and all(size in (None, own) for size, own in pairs)
    if static and not is_whole and value.shape[:2] == (batch, steps):
        return value[:, at]
    per_step = value.shape == (steps,) and (len(static) != 1 or static[0] in (None, batch))
    if per_step and len(static) == 1 and steps == batch:
        raise UnsupportedError(
            f"{steps} values may be for the steps or for the sequences",
            tensor=tensor.node,
            advice="feed [batch, steps]",
        )
    return value[at] if per_step else value
