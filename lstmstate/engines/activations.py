"""The functions that squash gates and states: one table, each in place where it can be.

Sources: TensorFlow's kernels (core/kernels/relu_op.h, softplus_op.h, softsign_op.h), tf_keras'
hard_sigmoid (0.2 x + 0.5 within 0 and 1) and that of Keras 3 (relu6(x + 3) / 6).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lstmstate.engines.model import Array

# Takes the values, and where to write the results, which may be the same.
Function = Callable[[Any, Any], object]

_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805
_LEAK = 0.2  # of tf.nn.leaky_relu


def function(name: str) -> Function:
    """Return the function of an activation.

    >>> import numpy as np
    >>> x = np.array([-3.0, 0.0, 3.0])
    >>> function("hard_sigmoid")(x, x)
    array([0. , 0.5, 1. ])
    """
    return _FUNCTIONS[name]


def _tanh(x: Array, out: Array) -> Array:
    import numpy as np

    return np.tanh(x, out)


def _sigmoid(x: Array, out: Array) -> Array:
    """1 / (1 + exp(-x)); where exp overflows the result is the right one, zero."""
    import numpy as np

    np.negative(x, out)
    np.exp(out, out)
    np.add(out, 1, out)
    return np.reciprocal(out, out)


def _identity(x: Array, out: Array) -> Array:
    out[...] = x
    return out


def _hard_sigmoid(slope: float, shift: float) -> Function:
    def hard_sigmoid(x: Array, out: Array) -> Array:
        import numpy as np

        np.multiply(x, slope, out)
        np.add(out, shift, out)
        return np.clip(out, 0, 1, out)

    return hard_sigmoid


def _relu(x: Array, out: Array) -> Array:
    import numpy as np

    return np.maximum(x, 0, out)


def _relu6(x: Array, out: Array) -> Array:
    import numpy as np

    return np.clip(x, 0, 6, out)


def _leaky_relu(x: Array, out: Array) -> Array:
    import numpy as np

    return np.maximum(x, np.multiply(x, x.dtype.type(_LEAK)), out)


def _exponential(alpha: float, scale: float) -> Function:
    def exponential(x: Array, out: Array) -> Array:
        import numpy as np

        below = np.expm1(np.minimum(x, 0)) * x.dtype.type(alpha * scale)
        np.maximum(x, 0, out)
        np.multiply(out, x.dtype.type(scale), out)
        return np.add(out, below, out)

    return exponential


def _softplus(x: Array, out: Array) -> Array:
    import numpy as np

    np.logaddexp(x, 0, out)
    return out


def _softsign(x: Array, out: Array) -> Array:
    import numpy as np

    np.divide(x, np.abs(x) + 1, out)
    return out


def _sin(x: Array, out: Array) -> Array:
    import numpy as np

    return np.sin(x, out)


def _erf(x: Array, out: Array) -> Array:
    import numpy as np

    out[...] = np.vectorize(math.erf, otypes=[float])(x)
    return out


_FUNCTIONS: dict[str, Function] = {
    "tanh": _tanh,
    "sigmoid": _sigmoid,
    "hard_sigmoid": _hard_sigmoid(0.2, 0.5),
    "keras3_hard_sigmoid": _hard_sigmoid(1 / 6, 0.5),
    "identity": _identity,
    "relu": _relu,
    "relu6": _relu6,
    "leaky_relu": _leaky_relu,
    "elu": _exponential(1.0, 1.0),
    "selu": _exponential(_SELU_ALPHA, _SELU_SCALE),
    "softplus": _softplus,
    "softsign": _softsign,
    "sin": _sin,
    "erf": _erf,
}
ACTIVATIONS = tuple(_FUNCTIONS)
