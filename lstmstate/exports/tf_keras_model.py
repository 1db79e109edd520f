"""tf_keras: an `.h5` file of the whole model.

It keeps the model's config in an attribute, and the weights of each layer under their names, which
attributes list in order. The class is Model and all text bytes: TensorFlow 1 loads that, too.
Source: tf_keras/src/saving/legacy/hdf5_format.py (2.21).
"""

from __future__ import annotations

import json
from typing import Any

from lstmstate.engines.canonical_network import Array, Network
from lstmstate.exports.keras_layers import (
    Layer,
    LayerTensor,
    hdf5_bytes,
    layers_of,
    model_config,
    state_names,
    weights_of,
)
from lstmstate.exports.layers import refuse_two_stacks

_PROGRAM = "tf_keras"
_VERSION = {"keras_version": b"2.21.0", "backend": b"tensorflow"}  # whose files these are
_SIDES = {1: ("",), 2: ("forward_lstm/", "backward_lstm/")}


def model(network: Network, path: str) -> bytes:  # noqa: ARG001
    """Return the model as the bytes of a file.

    Raises:
        UnsupportedError: tf_keras has no such network.
    """
    layers = layers_of(network, _PROGRAM)
    refuse_two_stacks([layer.stage for layer in layers], _PROGRAM)
    arrays: dict[str, Array] = {}
    groups: dict[str, dict[str, object]] = {}
    for layer in layers:
        found = {
            f"{layer.name}/{side}lstm_cell/{name}:0": values
            for side, (cell,) in zip(_SIDES[len(layer.stage)], layer.stage, strict=True)
            for name, values in weights_of(cell).items()
        }
        group = f"model_weights/{layer.name}"
        arrays |= {f"{group}/{name}": values for name, values in found.items()}
        groups[group] = {"weight_names": [name.encode() for name in found]}
    config = {
        "class_name": "Model",
        "config": model_config(layers, "batch_input_shape", _node),
    }
    names = [layer.name.encode() for layer in layers]
    attributes: dict[str, dict[str, object]] = {
        "/": {"model_config": json.dumps(config).encode(), **_VERSION},
        "model_weights": {"layer_names": names, **_VERSION},
        **groups,
    }
    return hdf5_bytes(arrays, attributes)


def source(network: Network, path: str) -> str:
    """Return the program that runs it."""
    return f"""\
import tf_keras

model = tf_keras.models.load_model({path!r})
# The state's arrays, in the order of the model's inputs and outputs:
names = {state_names(network)}
outputs, *ends = model([x, *(state[name] for name in names)])
state = dict(zip(names, ends))
"""


def _node(layer: Layer, x: LayerTensor, states: list[list[LayerTensor]]) -> list[list[Any]]:  # noqa: ARG001
    """Return the call of a layer."""
    halves = [half for pair in states for half in pair]
    return [[*tensor.place, {}] for tensor in (x, *halves)]
