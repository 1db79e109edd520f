"""Cells stepped and saved by TensorFlow, and comparisons of the engine with them.

    with_cases(folder, [build, …])      each build(tf, place) makes one Case in its own scope

All cases of a call share one graph, one session and one checkpoint, which is opened as a user
opens it; options that are not in the files are not passed.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from writers import (
    Tensor,
    TensorFlow,
    as_in_1_x,
    edit_graph,
    new_session,
    set_variables,
    tensorflow,
)

from lstmstate.cells import Cell
from lstmstate.engines import load
from lstmstate.engines.canonical_network import Network, no_states
from lstmstate.engines.canonical_weights import canonical_cell
from lstmstate.engines.run_options import settle_run_options
from lstmstate.model.checkpoint import LSTMCheckpoint, open_checkpoint

Array = Any
Scopes = Sequence[Sequence[Sequence[str]]]  # stage, chain, cell

TOLERANCE = {"float64": 1e-13, "float32": 2e-6, "float16": 2e-3}
STEPS, BATCH, INPUTS = 50, 3, 3


@dataclass
class Case:
    """Cells that TensorFlow has stepped over a sequence.

    Attributes:
        place: the scope of all its variables and operations.
        x: the data, `[batch, steps, inputs]`.
        outputs: a tensor of that form.
        last: c and m of every cell after the last step.
        start: c and m of every cell before the first step, zero if None.
        lengths: of the sequences, if they are not all full.
        stages: the ends of the cells' names; one cell if empty.
        words: names to save under: parts of current names → their replacements.
        scale: the size of the weights.
        assumed: the options that are not recorded anywhere.
    """

    place: str
    x: Array
    outputs: Tensor
    last: list[tuple[Tensor, Tensor]]
    start: list[tuple[Array, Array]] | None = None
    lengths: Array | None = None
    stages: Scopes = ()
    words: Mapping[str, str] = field(default_factory=dict)
    scale: float = 0.5
    assumed: Sequence[str] = ()


Build = Callable[[TensorFlow, str], Case]


def noise(name: str, shape: Sequence[int], dtype: str, width: float = 1.0) -> Array:
    """Return numbers in [-width, width] that depend only on a name."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    return rng.uniform(-width, width, shape).astype(dtype)


def differences(folder: Path, builds: Sequence[Build], *, v1: bool = False) -> dict[str, float]:
    """Return by place how far the engine is from TensorFlow, as a fraction of the tolerance.

    Also checks that the data is a fair test: states change and stay near a size of one.
    """
    tf = tensorflow()
    prefix = str(folder / "model.ckpt")
    with as_in_1_x(tf):
        cases = []
        for number, build in enumerate(builds):
            place = f"case{number}"
            with tf.variable_scope(place):
                cases.append(build(tf, place))
        names = _names(tf, cases)
        saver = tf.train.Saver(
            names, write_version=tf.train.SaverDef.V1 if v1 else tf.train.SaverDef.V2
        )
        with new_session(tf) as session:
            set_variables(session, {v: _values(v, cases) for v in tf.global_variables()})
            theirs = session.run([(case.outputs, case.last) for case in cases])
            saver.save(session, prefix, write_meta_graph=False)
        saver.export_meta_graph(f"{prefix}.meta")
    if any(case.words for case in cases):
        edit_graph(prefix, lambda meta: _rename(meta, cases))
    ckpt = open_checkpoint(prefix)
    assert ckpt.graph is not None and ckpt.format == ("v1" if v1 else "v2")
    return {
        case.place: _difference(ckpt, case, outputs, last)
        for case, (outputs, last) in zip(cases, theirs, strict=True)
    }


def assert_alike(folder: Path, builds: Sequence[Build], **arguments: bool) -> None:
    """Check that every case is within the tolerance of its dtype."""
    found = differences(folder, builds, **arguments)
    assert {place: ratio for place, ratio in found.items() if not ratio <= 1} == {}


def _values(variable: Any, cases: Sequence[Case]) -> Array:
    name, dtype = variable.op.name, variable.dtype.base_dtype.as_numpy_dtype
    case = next(case for case in cases if name.startswith(f"{case.place}/"))
    return noise(name, variable.shape.as_list(), dtype, case.scale)


def _names(tf: TensorFlow, cases: Sequence[Case]) -> dict[str, Any]:
    """Return the variables by the names to save them under; parts of one variable are a list.

    Before 1.0 parts were separate variables.
    """
    found: dict[str, Any] = {}
    for variable in tf.global_variables():
        words = _words_of(variable.op.name, cases)
        name = renamed(variable.op.name, words)
        if "/part_" in name:
            full = renamed(variable._save_slice_info.full_name, words)
            found.setdefault(full, []).append(variable)
        else:
            found[name] = variable
    return found


def _words_of(name: str, cases: Sequence[Case]) -> Mapping[str, str]:
    return next((case.words for case in cases if name.startswith(f"{case.place}/")), {})


def renamed(name: str, words: Mapping[str, str]) -> str:
    """Return a name as in another release."""
    for new, old in words.items():
        name = name.replace(new, old)
    return name


def _rename(meta: Any, cases: Sequence[Case]) -> None:
    """Rename the nodes of some cases as in an older release."""
    meta.collection_def.clear()
    for node in meta.graph_def.node:
        node.name = renamed(node.name, _words_of(node.name, cases))
        for at, tensor in enumerate(node.input):
            words = _words_of(tensor.removeprefix("^"), cases)
            node.input[at] = renamed(tensor, words)


def _difference(ckpt: LSTMCheckpoint, case: Case, outputs: Array, last: Any) -> float:
    network = network_of(ckpt, case)
    start = case.start or no_states(network, len(case.x))
    x = np.ascontiguousarray(case.x.swapaxes(0, 1))
    ran = load("numpy", network).run(x, start, case.lengths)
    ours = [ran.outputs.swapaxes(0, 1), *(half for state in ran.states for half in state)]
    theirs = [outputs, *(half for state in last for half in state)]
    assert 0.02 < np.abs(outputs).max() < 8, "this data could not reveal an error"
    worst = 0.0
    for one, other in zip(ours, theirs, strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        difference = np.abs(one.astype(np.float64) - other.astype(np.float64)).max()
        worst = max(worst, float(difference))
    return worst / TOLERANCE[str(outputs.dtype)]


def network_of(ckpt: LSTMCheckpoint, case: Case) -> Network:
    """Return the cells of a case as found, with the options from the files."""
    own = [cell for name, cell in ckpt.cells.items() if name.startswith(f"{case.place}/")]
    if not case.stages:
        assert len(own) == 1, [cell.name for cell in own]

    def found(end: str) -> Cell:
        (cell,) = (cell for cell in own if cell.name.endswith(end))
        return cell

    def computed(end: str) -> Any:
        cell = found(end)
        settled = settle_run_options(cell, {})
        assert sorted(settled.assumed) == sorted(case.assumed), cell.name
        return canonical_cell(cell, lambda name: ckpt.variables[name].read(), settled.values)

    stages = case.stages or [[[own[0].name]]]
    return Network(
        tuple(tuple(tuple(computed(end) for end in chain) for chain in stage) for stage in stages)
    )
