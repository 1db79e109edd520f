"""Published checkpoints of other people, and their known properties."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from conftest import SHARED

from lstmstate.cells import Cell
from lstmstate.model.checkpoint import LSTMCheckpoint, open_checkpoint

FOLDERS = sorted((SHARED / "real").glob("*/truth.json"))
pytestmark = pytest.mark.skipif(not FOLDERS, reason="the real checkpoints are not available")

DIRECTIONS = {"fw": "forward", "bw": "backward", None: None}
FORMATS = {
    "V1": "v1",
    "V2": "v2",
    "SavedModel (TF1)": "saved_model",
    "object-based SavedModel": "saved_model",
    "object-based (V2 bundle)": "object_based",
}

Truth = dict[str, Any]


@cache
def read(path: Path) -> tuple[Truth, LSTMCheckpoint]:
    """Return the known properties of a checkpoint, and the checkpoint."""
    truth = json.loads(path.read_text())
    # A SavedModel is passed as its folder: the graph is next to the folder of its variables.
    prefix = "." if truth["prefix"] == "variables/variables" else truth["prefix"]
    return truth, open_checkpoint(path.parent / prefix)


def cells() -> list[Any]:
    """Return (folder, number) for every known cell, as parameters of tests."""
    return [
        pytest.param((path, number), id=f"{path.parent.name}-{cell['name']}")
        for path in FOLDERS
        for number, cell in enumerate(json.loads(path.read_text())["cells"])
    ]


@pytest.fixture(params=FOLDERS, ids=lambda path: path.parent.name)
def known(request: pytest.FixtureRequest) -> tuple[Truth, LSTMCheckpoint]:
    return read(request.param)


@pytest.fixture(params=cells())
def pair(request: pytest.FixtureRequest) -> tuple[Truth, Cell, LSTMCheckpoint]:
    """The known properties of a cell, and the cell with the same kernel."""
    path, number = request.param
    truth, ckpt = read(path)
    cell = truth["cells"][number]
    role, name = ckpt.role(cell["kernel"])
    assert role == "kernel"
    assert name is not None
    return cell, ckpt.cells[name], ckpt


def test_its_variables_its_format_and_its_release(known: tuple[Truth, LSTMCheckpoint]) -> None:
    truth, ckpt = known
    found = {name: (list(v.shape), v.dtype) for name, v in ckpt.variables.items()}
    expected = {name: (v["shape"], v["dtype"]) for name, v in truth["variables"].items()}
    assert found == expected
    assert len(found) == truth["variables_count"]
    assert ckpt.format == FORMATS[truth["format"]]
    if truth["tensorflow_version"]:
        assert ckpt.tensorflow_version == truth["tensorflow_version"]
    if truth["graph_producer"]:
        assert ckpt.graph is not None
        assert ckpt.graph.producer == truth["graph_producer"]


def test_exactly_the_expected_cells_slots_and_states_are_found(
    known: tuple[Truth, LSTMCheckpoint],
) -> None:
    truth, ckpt = known
    kernels = {cell.variables["kernel"][0] for cell in ckpt.cells.values()}
    assert kernels == {cell["kernel"] for cell in truth["cells"]}
    assert ckpt.graph is None or ckpt.candidates == []  # a graph shows everything
    slots = [name for name in ckpt.variables if ckpt.role(name)[0] == "slot"]
    assert len(slots) >= truth["optimizer_slots"]
    assert not {cell[role] for cell in truth["cells"] for role in ("kernel", "bias")} & {*slots}
    assert [state.variable for state in ckpt.states.values()] == truth["saved_state_variables"]


def test_its_name_class_widths_and_variables(pair: tuple[Truth, Cell, LSTMCheckpoint]) -> None:
    truth, cell, ckpt = pair
    assert cell.name == truth["name"]
    assert cell.family == truth["kind"].partition(" inside ")[0]
    for width in ("input_size", "num_units", "num_proj", "peepholes", "dtype"):
        assert getattr(cell, width) == truth[width], width
    assert cell.state is not None
    assert cell.state.flat == truth["num_units"] + (truth["num_proj"] or truth["num_units"])
    for role in ("kernel", "recurrent_kernel", "bias"):
        if role in truth:
            assert cell.variables[role] == (truth[role],)
            assert ckpt.role(truth[role]) == (role, cell.name)
    order = truth.get("gate_order", "i,j,f,o").replace(",", "").replace("c", "j")
    assert cell.gate_order == order


def test_its_place_in_a_stack(pair: tuple[Truth, Cell, LSTMCheckpoint]) -> None:
    truth, cell, _ = pair
    assert cell.direction == DIRECTIONS[truth["direction"]]
    # The expected places omit the layers of stack_bidirectional_dynamic_rnn, which are numbered.
    if truth.get("layer") is not None or "stack_bidirectional_rnn" not in cell.name:
        assert cell.layer == truth.get("layer")
    else:
        assert f"/cell_{cell.layer}/" in cell.name


def test_its_options_and_their_sources(pair: tuple[Truth, Cell, LSTMCheckpoint]) -> None:
    truth, cell, ckpt = pair
    if isinstance(truth.get("forget_bias"), str):  # stored in the bias, and not added again
        assert cell.forget_bias.value == 0.0
        assert cell.forget_bias.source in ("family", "graph")
    elif ckpt.graph is not None:
        for name in ("forget_bias", "state_is_tuple", "cell_clip"):
            option = cell.options[name]
            assert option.value == truth[name], name
            assert option.source in ("graph", "family"), name
        assert cell.forget_bias.source == "graph"
    if ckpt.graph is None and cell.family in ("LSTMCell", "BasicLSTMCell", "LSTMBlockFusedCell"):
        assert (cell.forget_bias.value, cell.forget_bias.source) == (1.0, "default")
    if ckpt.graph is None and cell.family == "LSTMCell":
        assert cell.options["cell_clip"].source == "unknown"
        assert cell.alternatives == ("LSTMBlockCell",)  # its variables are the same


def test_a_cell_missing_from_the_checkpoint_is_not_listed() -> None:
    """A Saver may save a part of the graph's variables: only stored ones are listed."""
    _, ckpt = read(SHARED / "real" / "l2l-optimizer" / "truth.json")
    assert ckpt.graph is not None
    assert any(name.startswith("sx/rnn1/basic_lstm_cell") for name in ckpt.graph.nodes)
    assert set(ckpt.cells) == {"sd/rnn1/basic_lstm_cell", "sd/rnn2/basic_lstm_cell"}


def test_a_bidirectional_stack_of_two_layers() -> None:
    _, ckpt = read(SHARED / "real" / "io-crnn-savedmodel" / "truth.json")
    (stack,) = ckpt.stacks.values()
    assert stack.name == "shadow_net/sequence_rnn_module/stack_bidirectional_rnn"
    assert [[cell.direction for cell in layer] for layer in stack.layers] == [
        ["forward", "backward"]
    ] * 2
    assert [[cell.layer for cell in layer] for layer in stack.layers] == [[0, 0], [1, 1]]
    assert stack.flat is None  # TensorFlow never has two directions in one flat state


def test_a_stack_of_three_layers_of_0_12() -> None:
    _, ckpt = read(SHARED / "real" / "io-lstmcell-W_0" / "truth.json")
    (stack,) = ckpt.stacks.values()
    assert stack.name == "RNN/MultiRNNCell"
    assert [layer[0].layer for layer in stack.layers] == [0, 1, 2]
    assert stack.flat == 3 * 2 * 400
    assert ckpt.era == "0.5-0.12"
