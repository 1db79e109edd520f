"""Activations in NumPy, in place if possible, with TensorFlow's rounding of float16.

Sources: TensorFlow's kernels (core/kernels/relu_op.h, softplus_op.h, softsign_op.h), tf_keras'
hard_sigmoid (0.2 x + 0.5 within 0 and 1) and that of Keras 3 (relu6(x + 3) / 6). In float16
those kernels round after every operation: on all its numbers the results are TensorFlow's to the
bit (measured with 2.21 on a CPU), except for five.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from lstmstate.cells.activations import SELU_ALPHA, SELU_SCALE
from lstmstate.engines.canonical_network import Array

# Takes the values, and the array for the results, which may be the same.
Function = Callable[[Any, Any], object]

LEAK = 0.20000000298023224  # tf.nn.leaky_relu's 0.2, which its operation keeps in float32


def function(name: str, is_half: bool = False) -> Function:
    """Return the function of an activation; is_half: for float16, rounded as TensorFlow does.

    >>> import numpy as np
    >>> x = np.array([-3.0, 0.0, 3.0])
    >>> function("hard_sigmoid")(x, x)
    >>> x
    array([0. , 0.5, 1. ])
    """
    return _HALF.get(name, FUNCTIONS[name]) if is_half else FUNCTIONS[name]


def _sigmoid(x: Array, out: Array) -> None:
    """1 / (1 + exp(-x)); where exp overflows the result is the right one, zero."""
    np.negative(x, out)
    np.exp(out, out)
    np.add(out, 1, out)
    np.reciprocal(out, out)


def _hard_sigmoid(slope: float, shift: float) -> Function:
    def hard_sigmoid(x: Array, out: Array) -> None:
        np.multiply(x, slope, out)
        np.add(out, shift, out)
        np.clip(out, 0, 1, out)

    return hard_sigmoid


def _exponential(alpha: float, scale: float) -> Function:
    def exponential(x: Array, out: Array) -> None:
        below = np.expm1(np.minimum(x, 0)) * x.dtype.type(alpha * scale)
        np.maximum(x, 0, out=out)
        np.multiply(out, x.dtype.type(scale), out)
        np.add(out, below, out)

    return exponential


def _leaky_relu(x: Array, out: Array) -> None:
    np.maximum(x, np.multiply(x, x.dtype.type(LEAK)), out=out)


def _erf(x: Array, out: Array) -> None:
    out[...] = np.vectorize(math.erf, otypes=[float])(x)


# ---- float16


def _half_exp(x: Array) -> Array:
    return np.exp(x.astype(np.float32)).astype(np.float16)


def _half_sigmoid(x: Array, out: Array) -> None:
    """exp(x) / (1 + exp(x)); 1 where exp overflows."""
    exp = _half_exp(x)
    out[...] = np.where(np.isinf(exp), np.float16(1), exp / (exp + np.float16(1)))


def _half_exponential(alpha: float, scale: float) -> Function:
    def exponential(x: Array, out: Array) -> None:
        below = (_half_exp(x) - np.float16(1)) * np.float16(alpha * scale)
        out[...] = np.where(x < 0, below, x * np.float16(scale))

    return exponential


# Beyond it softplus is x, and exp(x) below its negative: 2 + log of Eigen's epsilon, 2 ** -13.
_HALF_FAR = 7.01


def _half_softplus(x: Array, out: Array) -> None:
    exp = _half_exp(x)
    near = np.log1p(exp.astype(np.float32)).astype(np.float16)
    out[...] = np.where(x > _HALF_FAR, x, np.where(x < -_HALF_FAR, exp, near))


# By the names of `cells.activations`.
FUNCTIONS: dict[str, Function] = {
    "tanh": np.tanh,
    "sigmoid": _sigmoid,
    "hard_sigmoid": _hard_sigmoid(0.2, 0.5),
    "keras3_hard_sigmoid": _hard_sigmoid(1 / 6, 0.5),
    "identity": lambda x, out: np.copyto(out, x),
    "relu": lambda x, out: np.maximum(x, 0, out=out),
    "relu6": lambda x, out: np.clip(x, 0, 6, out),
    "leaky_relu": _leaky_relu,
    "elu": _exponential(1.0, 1.0),
    "selu": _exponential(SELU_ALPHA, SELU_SCALE),
    "softplus": lambda x, out: np.logaddexp(x, 0, out),
    "softsign": lambda x, out: np.divide(x, np.abs(x) + 1, out),
    "sin": np.sin,
    "erf": _erf,
}
_HALF: dict[str, Function] = {
    "sigmoid": _half_sigmoid,
    "elu": _half_exponential(1.0, 1.0),
    "selu": _half_exponential(SELU_ALPHA, SELU_SCALE),
    "softplus": _half_softplus,
}
