"""Cells saved by the released classes of TensorFlow 0.5 to 1.15, and their known properties."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import writers
from conftest import SHARED

from lstmstate.cells import Cell, Option, StateWidths
from lstmstate.model.checkpoint import LSTMCheckpoint, open_checkpoint

CASES = sorted((SHARED / "golden").glob("*/case.json"))
pytestmark = pytest.mark.skipif(not CASES, reason="the golden answers are not available")

FAMILIES = {"KerasLSTM": "Keras LSTM", "Keras3LSTM": "Keras LSTM"}
ERAS = {"tf0": "0.5-0.12", "tf1p1": "1.0-1.1"}  # the variant names an old release
# The description of the order of gates in a case, up to its first remark.
ORDERS = {
    "i,j,f,o": "ijfo",
    "i,c,f,o": "ijfo",
    "i,f,c,o": "ifjo",
    "j,f,o": "jfo",
    "8": "8 blocks",
    "mask_gates:": "if,j,o",
    "separate": "ijfo",  # TFLiteLSTMCell: a matrix for each
}

Case = dict[str, Any]


@cache
def read(path: Path) -> tuple[Case, LSTMCheckpoint]:
    """Return the known properties of a case, and its checkpoint."""
    return json.loads(path.read_text()), open_checkpoint(path.parent / "model.ckpt")


@pytest.fixture(params=CASES, ids=lambda path: path.parent.name)
def case(request: pytest.FixtureRequest) -> tuple[Case, Cell, LSTMCheckpoint]:
    """The known properties of a cell, and the only cell of its checkpoint."""
    known, ckpt = read(request.param)
    (cell,) = ckpt.cells.values()
    return known, cell, ckpt


def is_known(cell: Cell, option: str) -> bool:
    """Whether an option is known at all."""
    return cell.options[option].source != "unknown"


def test_its_class_widths_and_variables(case: tuple[Case, Cell, LSTMCheckpoint]) -> None:
    known, cell, ckpt = case
    assert cell.family == FAMILIES.get(known["family"], known["family"])
    for release, era in ERAS.items():
        if known["variant"].startswith(release):
            assert cell.era == era
    assert (cell.num_units, cell.num_proj) == (known["num_units"], known["num_proj"])
    assert cell.state == StateWidths(known["num_units"], known["recurrent_width"])
    # A kernel shared by all groups has the same rows for any input.
    assert cell.input_size == (None if known.get("kernel_shared") else known["input_size"])
    names = [name for stored in cell.variables.values() for name in stored]
    assert sorted(names) == sorted(known["variables"])
    assert {ckpt.role(name)[1] for name in names} == {cell.name}
    assert {name: list(ckpt.variables[name].shape) for name in names} == known["variables"]
    assert ckpt.candidates == []


def test_its_shards_are_joined_on_the_right_axis(case: tuple[Case, Cell, LSTMCheckpoint]) -> None:
    known, cell, _ = case
    shards = cell.variables.get("kernel", ())
    # A GLSTMCell has a kernel for each group; these are not joined.
    cut = len(shards) > 1 and known["family"] != "GLSTMCell"
    assert cell.shard_axis == (known["shard_axis"] if cut else None)
    assert list(shards) == sorted(shards)


def test_its_equations_forget_bias_and_clips(case: tuple[Case, Cell, LSTMCheckpoint]) -> None:
    known, cell, _ = case
    assert cell.gate_order == ORDERS[known["gate_order"].split(" ")[0]]
    assert cell.peepholes == known["peepholes"]
    assert cell.layer_norm == any(name.endswith("/gamma") for name in known["variables"])
    added = known["forget_bias"]
    if isinstance(added, str):  # "stored in …", "none added at run time …"
        added = 0.0
    assert cell.forget_bias.value == added
    assert cell.forget_bias.source in ("graph", "family")
    for clip in ("cell_clip", "proj_clip"):
        assert is_known(cell, clip)
        assert cell.options[clip].value == known["options"].get(clip)


# Cells with other equations, and one that was saved without its operations.
WITHOUT_ACTIVATION = ("NASCell", "PhasedLSTMCell", "Keras3LSTM")


def test_its_activations(case: tuple[Case, Cell, LSTMCheckpoint]) -> None:
    known, cell, _ = case
    assert is_known(cell, "activation") == (known["family"] not in WITHOUT_ACTIVATION)
    if is_known(cell, "activation"):
        assert cell.options["activation"].value == known["activation"]
    found = cell.options["recurrent_activation"]
    if known["family"] == "NASCell":  # its gates have several activations
        assert found == Option(None, "family")
    elif known["family"] == "Keras3LSTM":
        assert found.source == "unknown"
    else:
        assert found.value == known["options"].get("recurrent_activation", "sigmoid")
        assert found.source in ("graph", "family")


def test_its_state_batch_size_and_time_axis(case: tuple[Case, Cell, LSTMCheckpoint]) -> None:
    known, cell, _ = case
    assert is_known(cell, "state_is_tuple")
    assert cell.options["state_is_tuple"].value == known["state_is_tuple"]
    if is_known(cell, "batch_size"):
        assert cell.options["batch_size"].value == known["batch"]
    if is_known(cell, "time_major"):
        whole_sequence = "time-major" in known["mode"]
        assert cell.options["time_major"].value == whole_sequence


def test_a_grouped_cell_has_the_activation_of_its_output(tmp_path: Path) -> None:
    """Its new input always goes through tanh: the option is the function of c."""
    for path in (SHARED / "golden" / "GLSTMCell__groups2").glob("model.ckpt.*"):
        shutil.copy(path, tmp_path)

    def relu(meta: writers.MetaGraph) -> None:
        _, output = (node for node in meta.graph_def.node if node.op == "Tanh")
        output.op = "Relu"

    prefix = str(tmp_path / "model.ckpt")
    writers.edit_graph(prefix, relu)
    (cell,) = open_checkpoint(prefix).cells.values()
    assert cell.options["activation"] == Option("relu", "graph")
