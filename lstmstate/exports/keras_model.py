"""Keras 3: a `.keras` file of the whole model, or a `.weights.h5` of the weights alone.

A `.keras` file is an archive of the model's config and such weights, without compression. Files of
weights name groups by the classes of layers. Source: keras/src/saving/saving_lib.py (3.15).
"""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

from lstmstate.engines.canonical_network import Array, Network
from lstmstate.exports.keras_layers import (
    Config,
    Layer,
    LayerTensor,
    hdf5_bytes,
    layers_of,
    model_config,
    numbered,
    state_names,
    weights_of,
)

_PROGRAM = "Keras 3"
_VERSION = "3.15.1"  # whose files these are
_WEIGHTS = ".weights.h5"
_SIDES = {1: ("",), 2: ("forward_layer/", "backward_layer/")}
_LINE = 80
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same input makes the same bytes, whenever


def model(network: Network, path: str) -> bytes:
    """Return the model as the bytes of a file.

    Raises:
        UnsupportedError: Keras has no such network.
    """
    layers = layers_of(network, _PROGRAM)
    weights = hdf5_bytes(_arrays(layers), {"vars": {}})  # Keras 3.5 and older need that group
    if path.endswith(_WEIGHTS):
        return weights
    config = {
        "module": "keras",
        "class_name": "Model",
        "config": model_config(layers, "batch_shape", _node),
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in (
            ("metadata.json", json.dumps({"keras_version": _VERSION})),
            ("config.json", json.dumps(config)),
            ("model.weights.h5", weights),
        ):
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), data)
    return buffer.getvalue()


def source(network: Network, path: str) -> str:
    """Return the program that runs it."""
    names = state_names(network)
    if path.endswith(_WEIGHTS):
        built = _building(layers_of(network, _PROGRAM), path)
    else:
        built = f"model = keras.saving.load_model({path!r})\n"
    return f"""\
import keras  # on TensorFlow, unless the environment has KERAS_BACKEND=torch, or jax

{built}
# The state's arrays, in the order of the model's inputs and outputs:
names = {names}
outputs, *ends = model([x, *(state[name] for name in names)])
outputs = keras.ops.convert_to_numpy(outputs)
state = {{name: keras.ops.convert_to_numpy(end) for name, end in zip(names, ends)}}
"""


def _building(layers: list[Layer], path: str) -> str:
    """Return the lines that build the model, for its weights."""
    first = layers[0].cells[0]
    dtype = f"dtype={first.dtype.name!r}"
    lines = [f"y = keras.Input((None, {first.input_size}), {dtype})", "inputs, ends = [y], []"]
    for layer in layers:
        units = f"units in {[cell.widths.c for cell in layer.cells]}"
        half = f"keras.Input((units,), {dtype})"
        states = f"[{half} for {units} for _ in 'hc']"
        if layer.is_nested:
            states = f"[[{half} for _ in 'hc'] for {units}]"
        lines += [
            f"layer = {_call(layer.config)}",
            f"states = {states}",
            "y, *after = layer(y, initial_state=states)",
            "inputs += keras.tree.flatten(states)" if layer.is_nested else "inputs += states",
            "ends += keras.tree.flatten(after)" if layer.is_nested else "ends += after",
        ]
    lines += ["model = keras.Model(inputs, [y, *ends])", f"model.load_weights({path!r})", ""]
    return "\n".join(lines)


def _call(value: Any, indent: str = "") -> str:
    """Return the Python that makes an object of a config, with a line for each option if long."""
    inner = indent + "    "
    if isinstance(value, dict):
        opening, closing = f"{value['module']}.{value['class_name']}(", ")"
        options = value["config"].items()
        parts = [f"{name}={_call(item, inner)}" for name, item in options if name != "name"]
    elif isinstance(value, list):
        opening, closing = "[", "]"
        parts = [_call(item, inner) for item in value]
    else:
        return repr(value)
    line = f"{opening}{', '.join(parts)}{closing}"
    if len(line) <= _LINE and "\n" not in line:
        return line
    return "\n".join([opening, *(f"{inner}{part}," for part in parts), f"{indent}{closing}"])


def _arrays(layers: list[Layer]) -> dict[str, Array]:
    """Return the weights by their names: `layers/lstm/cell/vars/0` is the kernel of a layer."""
    found: dict[str, Array] = {}
    for layer in layers:
        for side, chain in zip(_SIDES[len(layer.stage)], layer.stage, strict=True):
            places = ["cell"]
            if len(chain) > 1:
                places = [f"cell/cells/{numbered('lstm_cell', k)}" for k in range(len(chain))]
            for place, cell in zip(places, chain, strict=True):
                for number, values in enumerate(weights_of(cell).values()):
                    found[f"layers/{layer.name}/{side}{place}/vars/{number}"] = values
    return found


def _node(layer: Layer, x: LayerTensor, states: list[list[LayerTensor]]) -> Config:
    """Return the call of a layer."""

    def described(tensor: LayerTensor) -> Config:
        config = {
            "shape": [None, *tensor.shape],
            "dtype": layer.cells[0].dtype.name,
            "keras_history": tensor.place,
        }
        return {"class_name": "__keras_tensor__", "config": config}

    initial: list[Any] = [[described(half) for half in pair] for pair in states]
    if not layer.is_nested:
        initial = [half for pair in initial for half in pair]
    return {"args": [described(x)], "kwargs": {"initial_state": initial}}
