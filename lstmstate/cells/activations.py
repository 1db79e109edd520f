"""The table of activations: one row for each function on gates and states.

`engines.numpy_functions` has each in NumPy, under the same name. Sources of the patterns: tf.keras'
backend (hard_sigmoid, elu and selu of 1.4 to 1.15), Keras 3 (backend/tensorflow/nn.py),
tf.nn.leaky_relu (1.4 to 1.10).
"""

from __future__ import annotations

from lstmstate.named_tuple import NamedTuple

SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805
LEAK = 0.2  # the alpha of LeakyRelu, in the op's registration and in tf.nn.leaky_relu


class Pattern(NamedTuple):
    """Operations of a graph; an argument is a pattern, a constant, or None for the value."""

    ops: frozenset[str]
    arguments: tuple[Argument, ...]


Argument = Pattern | float | None


class Activation(NamedTuple):
    """A function on gates and states.

    Attributes:
        name: as users write it.
        tensorflow: its place in `engines.tensorflow_cells.TensorFlow`.
        operation: the operation of graphs that computes it.
        patterns: its forms in graphs that are several operations.
        onnx: its name in ONNX's LSTM; None if onnxruntime does not compute it, or not exactly.
        onnx_numbers: alpha and beta there, if it takes them.
        is_symmetric: whether s(-z) is 1 - s(z).
    """

    name: str
    tensorflow: str
    operation: str | None = None
    patterns: tuple[Pattern, ...] = ()
    onnx: str | None = None
    onnx_numbers: tuple[float, ...] = ()
    is_symmetric: bool = False


def _pattern(ops: str, *arguments: Argument) -> Pattern:
    return Pattern(frozenset(ops.split()), arguments)


_ADD = "Add AddV2"
_LINE = _pattern(_ADD, _pattern("Mul", None, 0.2), 0.5)
_ABOVE_3 = _pattern("Relu6", _pattern(_ADD, None, 3.0))
_ELU = _pattern("Elu", None)
_SELU = _pattern(
    "Select SelectV2",
    _pattern("Greater", None, 0.0),
    _ELU,
    _pattern("Mul", _ELU, SELU_ALPHA),
)

ROWS = (
    Activation("tanh", "tf.tanh", "Tanh", onnx="Tanh"),
    Activation("sigmoid", "tf.sigmoid", "Sigmoid", onnx="Sigmoid", is_symmetric=True),
    Activation(
        "hard_sigmoid",
        "tf_keras.activations.hard_sigmoid",
        patterns=(  # tf.clip_by_value: two operations, or one from 1.8 on
            _pattern("Maximum", _pattern("Minimum", _LINE, 1.0), 0.0),
            _pattern("ClipByValue", _LINE, 0.0, 1.0),
        ),
        onnx="HardSigmoid",
        onnx_numbers=(0.2, 0.5),
        is_symmetric=True,
    ),
    Activation(
        "keras3_hard_sigmoid",
        "keras3_hard_sigmoid",
        patterns=(_pattern("RealDiv", _ABOVE_3, 6.0), _pattern("Mul", _ABOVE_3, 1 / 6)),
        onnx="HardSigmoid",
        onnx_numbers=(1 / 6, 0.5),
        is_symmetric=True,
    ),
    Activation("identity", "tf.identity", onnx="Affine", onnx_numbers=(1.0, 0.0)),
    Activation("relu", "tf.nn.relu", "Relu", onnx="Relu"),
    Activation("relu6", "tf.nn.relu6", "Relu6"),
    Activation(
        "leaky_relu",
        "tf.nn.leaky_relu",
        "LeakyRelu",
        (_pattern("Maximum", _pattern("Mul", None, LEAK), None),),
        "LeakyRelu",
        (0.2,),
    ),
    Activation("elu", "tf.nn.elu", "Elu", onnx="Elu", onnx_numbers=(1.0,)),
    Activation("selu", "tf.nn.selu", "Selu", (_pattern("Mul", _SELU, SELU_SCALE),)),
    # onnxruntime's log(1 + exp(x)) is infinite if x is 89 or more (1.32).
    Activation("softplus", "tf.nn.softplus", "Softplus"),
    Activation("softsign", "tf.nn.softsign", "Softsign", onnx="Softsign"),
    Activation("sin", "tf.sin", "Sin"),
    Activation("erf", "tf.math.erf", "Erf"),
)
BY_NAME = {row.name: row for row in ROWS}
ACTIVATIONS = tuple(BY_NAME)
ACTIVATION_OPS = {row.operation: row.name for row in ROWS if row.operation is not None}
