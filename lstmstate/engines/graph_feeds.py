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

    A single number is that of every element; numbers for each step, `[steps]`, are those of every
    sequence; a placeholder may take those for each step of each sequence, `[batch, steps]`, flat.

    Args:
        static: the shape of the placeholder.
        by_step: whether a flat placeholder has the first step of all sequences first.
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
    """Whether a shape is another one, and axes of one element after it."""
    return len(shape) > len(other) > 0 and shape == other + (1,) * (len(shape) - len(other))


def is_flat(value: Array, static: Static | None, steps: int, batch: int) -> bool:
    """Whether a placeholder takes numbers for each step of each sequence flat, in either order."""
    ways = [
        fit_to_placeholder(value, static, steps, batch, by_step=way)[-1] for way in (False, True)
    ]
    return not np.array_equal(ways[0], ways[1])


def take_step(
    tensor: Tensor, value: Array, static: Static | None, at: int, sizes: tuple[int, int]
) -> Array:
    """Return the part of a value that a graph of a single step takes at one of many steps.

    Numbers for each step, `[steps]`, or for each step of each sequence, `[batch, steps]`, are
    taken one by one; values without an axis of time are the same at every step.

    Args:
        sizes: how many steps and sequences there are.

    Raises:
        UnsupportedError: a number for each step may be one for each sequence.
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
            f"{steps} values may be those of the steps or of the sequences",
            tensor=tensor.node,
            advice="feed [batch, steps]",
        )
    return value[at] if per_step else value
