"""The layers that Keras 3 and tf_keras build of a network, and the model of them.

Each cell of a chain is a layer LSTM. A forward and a backward cell are a Bidirectional of two LSTM,
and chains of several cells, one in each direction, a Bidirectional of two RNN over the cells. The
inputs of the model are x, then h and c of each cell, its outputs those of the last layer, then h
and c of each cell. Gates are in the order i, f, g (our j), o, matrices `[inputs, 4U]`, with one
bias. Source: keras/src/layers/rnn (3.15), tf_keras/src/layers/rnn (2.21).
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lstmstate.cells.cell import CellShape
from lstmstate.engines.canonical_network import Array, CanonicalCell, Chain, Network, Stage
from lstmstate.errors import UnsupportedError
from lstmstate.exports.gate_weights import gate_weights
from lstmstate.exports.layers import split_stages
from lstmstate.named_tuple import NamedTuple
from lstmstate.state.layouts import LAYOUTS

Config = dict[str, Any]  # an object as Keras describes it in JSON

_GATES = "ifjo"
_NAMES = {"identity": "linear", "keras3_hard_sigmoid": "hard_sigmoid"}
_ENDS = {"return_sequences": True, "return_state": True}


class Layer(NamedTuple):
    """A layer of a model.

    Attributes:
        name: its class, with a number from the second on: Keras's own numbering.
        stage: its chains: the forward one, and the backward one.
        config: its class and options.
    """

    name: str
    stage: Stage
    config: Config

    @property
    def cells(self) -> tuple[CanonicalCell, ...]:
        """Its cells in the order of its states."""
        return tuple(cell for chain in self.stage for cell in chain)

    @property
    def is_nested(self) -> bool:
        """Whether it takes and returns h and c in a list for each cell."""
        return any(len(chain) > 1 for chain in self.stage)


class LayerTensor(NamedTuple):
    """A tensor between layers.

    Attributes:
        layer: the name of the layer that it comes from.
        number: among the outputs of that layer.
        shape: without the batch; None is the time.
    """

    layer: str
    number: int
    shape: tuple[int | None, ...]

    @property
    def place(self) -> list[str | int]:
        """Its layer, the call of it and its number, as Keras writes them."""
        return [self.layer, 0, self.number]


def numbered(name: str, number: int) -> str:
    """Return a name as Keras numbers it.

    >>> numbered("lstm", 0), numbered("lstm", 1)
    ('lstm', 'lstm_1')
    """
    return f"{name}_{number}" if number else name


def describe(class_name: str, **config: Any) -> Config:
    """Return an object of `keras.layers` with its options."""
    return {"module": "keras.layers", "class_name": class_name, "config": config}


def layers_of(network: Network, program: str) -> list[Layer]:
    """Return the layers of a network.

    Raises:
        UnsupportedError: Bidirectional cannot join its directions.
    """
    found, numbers = [], Counter[str]()
    for stage in split_stages(network):
        forward, *backward = [[cell.widths.c for cell in chain] for chain in stage]
        if any(units != forward for units in backward):
            raise UnsupportedError(
                f"{program} joins two directions of the same widths, and these have "
                f"{forward} and {backward[0]}",
                tensor=stage[0][0].name,
                advice="export each direction by itself: `cell='NAME'` or `stack='NAME'`",
            )
        kind = "bidirectional" if backward else "lstm"
        name = numbered(kind, numbers[kind])
        numbers[kind] += 1
        found.append(Layer(name, stage, _layer_config(name, stage)))
    return found


def _layer_config(name: str, stage: Stage) -> Config:
    if len(stage) == 1:
        return _chain_config(name, stage[0])
    forward, backward = stage
    return describe(
        "Bidirectional",
        name=name,
        layer=_chain_config("forward_lstm", forward),
        backward_layer=_chain_config("backward_lstm", backward, go_backwards=True),
        dtype=forward[0].dtype.name,
    )


def _chain_config(name: str, chain: Chain, **options: Any) -> Config:
    """Return the layer of a chain; that of several cells is an RNN."""
    if len(chain) == 1:
        return describe("LSTM", name=name, **_cell_options(chain[0]), **_ENDS, **options)
    cells = [
        describe("LSTMCell", name=numbered("lstm_cell", number), **_cell_options(cell))
        for number, cell in enumerate(chain)
    ]
    stack = describe("StackedRNNCells", cells=cells)
    return describe("RNN", name=name, cell=stack, dtype=chain[0].dtype.name, **_ENDS, **options)


def _cell_options(cell: CanonicalCell) -> Config:
    return {
        "units": cell.widths.c,
        "activation": _NAMES.get(cell.activation, cell.activation),
        "recurrent_activation": _NAMES.get(cell.recurrent_activation, cell.recurrent_activation),
        "dtype": cell.dtype.name,
    }


def weights_of(cell: CanonicalCell) -> dict[str, Array]:
    """Return the weights of a cell in Keras's order."""
    gates = [gate_weights(cell)[gate] for gate in _GATES]
    return {
        "kernel": np.concatenate([gate.kernel for gate in gates], axis=1),
        "recurrent_kernel": np.concatenate([gate.recurrent for gate in gates], axis=1),
        "bias": np.concatenate([gate.bias for gate in gates]),
    }


def model_config(
    layers: list[Layer],
    shape: str,
    node: Callable[[Layer, LayerTensor, list[list[LayerTensor]]], Any],
) -> Config:
    """Return the config of the model of some layers, named "lstm".

    Args:
        shape: the option of InputLayer for its shape.
        node: returns the call of a layer on its input, and on h and c of each cell.
    """
    dtype = layers[0].cells[0].dtype.name
    x = LayerTensor("x", 0, (None, layers[0].cells[0].input_size))
    inputs, ends, calls, number = [x], [], [], 0
    for layer in layers:
        states = []
        for cell in layer.cells:
            states.append([LayerTensor(f"{half}_{number}", 0, (cell.widths.c,)) for half in "hc"])
            number += 1
        calls.append(
            {**layer.config, "name": layer.name, "inbound_nodes": [node(layer, x, states)]}
        )
        inputs += [half for pair in states for half in pair]
        ends += [LayerTensor(layer.name, 1 + k, ()) for k in range(2 * len(states))]
        x = LayerTensor(layer.name, 0, (None, sum(chain[-1].widths.m for chain in layer.stage)))
    starts = []
    for tensor in inputs:
        options = {shape: [None, *tensor.shape], "dtype": dtype, "name": tensor.layer}
        starts.append(
            {**describe("InputLayer", **options), "name": tensor.layer, "inbound_nodes": []}
        )
    return {
        "name": "lstm",
        "layers": starts + calls,
        "input_layers": [tensor.place for tensor in inputs],
        "output_layers": [tensor.place for tensor in (x, *ends)],
    }


def state_names(network: Network) -> list[str]:
    """Return the names of the state's arrays, in the order of the model's inputs and outputs."""
    cells = [CellShape(cell.name, cell.widths) for cell in network.cells]
    return LAYOUTS["keras"].array_names(cells, is_stack=len(cells) > 1)


def hdf5_bytes(
    arrays: Mapping[str, Array], attributes: Mapping[str, Mapping[str, object]]
) -> bytes:
    """Return an HDF5 file; the same contents make the same bytes.

    Args:
        attributes: by the names of groups.
    """
    import h5py

    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, track_times=False)
        for name, values in attributes.items():
            file.require_group(name).attrs.update(values)
    return buffer.getvalue()
