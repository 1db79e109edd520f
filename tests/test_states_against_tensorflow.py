"""States returned by TensorFlow's own cells, converted between tuple and flat to the bit.

The same weights step once with `state_is_tuple=False` and once with `state_is_tuple=True`. The
converted state of one equals the state of the other; fed to the other, the outputs are equal.
"""

from __future__ import annotations

import json
import pickle
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from conftest import SAMPLES, SHARED
from writers import RNNCell, TensorFlow, as_in_1_x, tensorflow

from lstmstate import LSTMState, StackState, load_state, save_state
from lstmstate.cli import execute as run

Array = Any
Captured = pytest.CaptureFixture[str]
Structure = Any  # a flat array, an LSTMStateTuple, or a tuple of these

INPUTS, BATCH, STEPS = 3, 2, 4
DTYPES = ("float16", "float32", "float64")

_BASIC = ("BasicLSTMCell", {"num_units": 5})
_WIDE = ("BasicLSTMCell", {"num_units": 5, "forget_bias": 0.0})
_PEEPHOLES = ("LSTMCell", {"num_units": 3, "use_peepholes": True, "cell_clip": 0.4})
_PROJECTED = (
    "LSTMCell",
    {"num_units": 6, "num_proj": 4, "use_peepholes": True, "proj_clip": 0.3},
)


class Model(NamedTuple):
    """Cells, and their widths in the form of `--cells`."""

    cells: Sequence[tuple[str, dict[str, Any]]]
    flags: str
    is_stack: bool = True

    @property
    def widths(self) -> list[tuple[int, int]]:
        """c and m of each cell, in the form of `load_state`."""
        pairs = [cell.split(":") for cell in self.flags.split(",")]
        return [(int(pair[0]), int(pair[-1])) for pair in pairs]


MODELS = {
    "basic": Model([_BASIC], "5", is_stack=False),
    "projected": Model([_PROJECTED], "6:4", is_stack=False),
    "stack of unlike cells": Model([_PROJECTED, _BASIC, _PEEPHOLES], "6:4,5,3"),
    "stack of like cells": Model([_BASIC, _WIDE], "5,5"),
}


# ---- TensorFlow's side


def one_step(tf: TensorFlow, cell: RNNCell, x: Any, state: Any) -> tuple[Any, Any]:
    """Call a cell once, for the first step of a sequence."""
    with tf.variable_scope("rnn"):
        return cell(x[:, 0], state)


def dynamic(tf: TensorFlow, cell: RNNCell, x: Any, state: Any) -> tuple[Any, Any]:
    """Step a cell over a sequence in a loop."""
    return tf.nn.dynamic_rnn(cell, x, initial_state=state)


def every_state(tf: TensorFlow, cell: RNNCell, x: Any, state: Any) -> tuple[Any, Any]:
    """Step a cell over a sequence and keep the state after every step, `[time, batch, …]`."""
    outputs, states = [], []
    with tf.variable_scope("rnn", reuse=tf.AUTO_REUSE):
        for step in tf.unstack(x, axis=1):
            output, state = cell(step, state)
            outputs.append(output)
            states.append(state)
    return tf.stack(outputs, 1), tf.nest.map_structure(lambda *some: tf.stack(some), *states)


Loop = Callable[[TensorFlow, RNNCell, Any, Any], tuple[Any, Any]]
RUNS = [*[(dynamic, dtype) for dtype in DTYPES], (one_step, "float64"), (every_state, "float32")]
# The model with all features, and the others with one each.
LARGEST = "stack of unlike cells"
OTHERS = [name for name in MODELS if name != LARGEST]


def made(tf: TensorFlow, model: Model, dtype: str, *, is_tuple: bool) -> RNNCell:
    """Return the cells of a model, all with the same `state_is_tuple`."""
    cells = [
        getattr(tf.nn.rnn_cell, kind)(**options, state_is_tuple=is_tuple, dtype=tf.as_dtype(dtype))
        for kind, options in model.cells
    ]
    return tf.nn.rnn_cell.MultiRNNCell(cells, is_tuple) if model.is_stack else cells[0]


def noise(name: str, shape: Sequence[int], dtype: str) -> Array:
    """Return numbers that depend only on a name."""
    return np.random.default_rng(zlib.crc32(name.encode())).normal(size=shape).astype(dtype)


def stepped(
    model: Model,
    dtype: str,
    loop: Loop,
    *,
    is_tuple: bool,
    start: Structure | None = None,
    x: Array | None = None,
) -> tuple[Array, Structure]:
    """Return (outputs, state) of a model in a session, from a fed state, or from zeros."""
    tf = tensorflow()
    x = noise("x", (BATCH, STEPS, INPUTS), dtype) if x is None else x
    with as_in_1_x(tf), tf.Session(config=as_written(tf)) as session:
        cell = made(tf, model, dtype, is_tuple=is_tuple)
        fed = tf.placeholder(tf.as_dtype(dtype), x.shape)
        first = cell.zero_state(BATCH, tf.as_dtype(dtype))
        found = loop(tf, cell, fed, first)
        session.run(tf.global_variables_initializer())
        for variable in tf.global_variables():
            variable.load(noise(variable.op.name, variable.shape.as_list(), dtype), session)
        feed = {fed: x}
        if start is not None:
            places, values = tf.nest.flatten(first), tf.nest.flatten(start)
            assert [p.shape.as_list() for p in places] == [list(v.shape) for v in values]
            feed |= dict(zip(places, values, strict=True))
        return session.run(found, feed)


def as_written(tf: TensorFlow) -> Any:
    """Return the configuration of a session that computes a graph as written.

    The optimizer fuses and moves operations differently in graphs of flat states than in those of
    tuples, and then the last bits of their results differ within TensorFlow itself.
    """
    config = tf.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    return config


def halves(state: Structure) -> list[Array]:
    """Return c and m of every cell, in order, of a state that is a tuple."""
    return tensorflow().nest.flatten(state)


# ---- ours


def converted(source: Path, target: Path, *arguments: str) -> Path:
    """Run `lstmstate convert`, and return the path of the output."""
    assert run(["convert", str(source), *arguments, "-o", str(target)]) == 0
    return target


def assert_equal(ours: Sequence[Array], theirs: Sequence[Array]) -> None:
    """Compare arrays to the bit."""
    for one, other in zip(ours, theirs, strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert one.tobytes() == other.tobytes()


def in_npz(path: Path, model: Model) -> list[Array]:
    """Return c and m of every cell in a file, by their names."""
    scopes = [f"cell_{k}/" for k in range(len(model.cells))] if model.is_stack else [""]
    with np.load(path) as found:
        return [found[f"{scope}{half}"] for scope in scopes for half in "cm"]


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> Model:
    return MODELS[request.param]


# ---- flat and tuple


@pytest.mark.parametrize(
    ("name", "loop", "dtype"),
    [*[(LARGEST, *how) for how in RUNS], *[(name, dynamic, "float32") for name in OTHERS]],
)
def test_a_converted_flat_state_equals_the_state_of_tuple_cells(
    tmp_path: Path, name: str, loop: Loop, dtype: str
) -> None:
    model = MODELS[name]
    outputs, flat = stepped(model, dtype, loop, is_tuple=False)
    same_outputs, state = stepped(model, dtype, loop, is_tuple=True)
    assert_equal([outputs], [same_outputs])
    assert flat.any() and len({half.tobytes() for half in halves(state)}) == len(halves(state))
    np.save(tmp_path / "flat.npy", flat)
    path = converted(
        tmp_path / "flat.npy", tmp_path / "tuple.npz", "--to-tuple", "--cells", model.flags
    )
    assert_equal(in_npz(path, model), halves(state))
    back = converted(path, tmp_path / "back.npy", "--to-flat")
    assert_equal([np.load(back)], [flat])


@pytest.mark.parametrize(
    ("name", "dtype"),
    [(LARGEST, "float16"), (LARGEST, "float64"), *[(name, "float32") for name in OTHERS]],
)
def test_flat_cells_continue_from_a_converted_tuple(tmp_path: Path, name: str, dtype: str) -> None:
    """With it they compute the outputs that tuple cells compute with the tuple."""
    model = MODELS[name]
    _, state = stepped(model, dtype, dynamic, is_tuple=True)
    names = ("c", "m") if not model.is_stack else [f"{k}/{h}" for k in range(9) for h in "cm"]
    np.savez(tmp_path / "tuple.npz", **dict(zip(names, halves(state), strict=False)))
    path = converted(tmp_path / "tuple.npz", tmp_path / "flat.npy", "--to-flat")
    x = noise("more", (BATCH, STEPS, INPUTS), dtype)
    outputs, flat = stepped(model, dtype, dynamic, is_tuple=False, start=np.load(path), x=x)
    expected, last = stepped(model, dtype, dynamic, is_tuple=True, start=state, x=x)
    from_zeros, _ = stepped(model, dtype, dynamic, is_tuple=True, x=x)
    assert_equal([outputs], [expected])
    assert outputs.tobytes() != from_zeros.tobytes()
    found = load_state(converted(path, tmp_path / "again.h5", "--to-tuple"))
    assert_equal([found.flat()], [np.load(path)])
    np.save(tmp_path / "last.npy", flat)
    loaded = load_state(tmp_path / "last.npy", layout="flat", cells=model.widths)
    assert_equal(halves_of(loaded), halves(last))


def halves_of(state: LSTMState | StackState) -> list[Array]:
    """Return c and m of every cell of one of our states."""
    return [half for cell in getattr(state, "cells", (state,)) for half in cell]


@pytest.mark.parametrize(
    ("name", "is_tuple"),
    [(LARGEST, False), (LARGEST, True), ("basic", False), ("projected", True)],
)
def test_a_state_saved_in_a_file_continues_exactly(
    tmp_path: Path, name: str, is_tuple: bool
) -> None:
    """Half a sequence in one layout, the other half in the other, and all of it in one run."""
    tf, model = tensorflow(), MODELS[name]
    x = noise("x", (BATCH, 2 * STEPS, INPUTS), "float32")
    whole, end = stepped(model, "float32", dynamic, is_tuple=not is_tuple, x=x)
    _, middle = stepped(model, "float32", dynamic, is_tuple=is_tuple, x=x[:, :STEPS])
    if is_tuple:
        pairs = zip(halves(middle)[::2], halves(middle)[1::2], strict=True)
        cells = [LSTMState(c, m) for c, m in pairs]
        state = StackState(cells) if model.is_stack else cells[0]
        save_state(state, tmp_path / "flat.npy", layout="flat")
        start = np.load(tmp_path / "flat.npy")
    else:
        np.save(tmp_path / "flat.npy", middle)
        loaded = load_state(tmp_path / "flat.npy", cells=model.widths)
        save_state(loaded, tmp_path / "tuple.h5")
        cells = getattr(load_state(tmp_path / "tuple.h5"), "cells", None) or (loaded,)
        pairs = tuple(tf.nn.rnn_cell.LSTMStateTuple(cell.c, cell.m) for cell in cells)
        start = pairs if model.is_stack else pairs[0]
    outputs, state = stepped(
        model, "float32", dynamic, is_tuple=not is_tuple, start=start, x=x[:, STEPS:]
    )
    assert_equal([outputs, *halves(state)], [whole[:, STEPS:], *halves(end)])


def test_c_and_m_of_unequal_width_are_split_at_their_widths(
    tmp_path: Path, capsys: Captured
) -> None:
    """10 columns are 5 and 5 as well as 6 and 4: a flat state alone is halved, with a note."""
    _, flat = stepped(MODELS["projected"], "float32", dynamic, is_tuple=False)
    _, (c, m) = stepped(MODELS["projected"], "float32", dynamic, is_tuple=True)
    np.save(tmp_path / "flat.npy", flat)
    source, flags = tmp_path / "flat.npy", ["--units", "6", "--proj", "4"]
    right = load_state(converted(source, tmp_path / "right.npz", "--to-tuple", *flags))
    assert capsys.readouterr().err == ""
    halved = load_state(converted(source, tmp_path / "halved.npz", "--to-tuple"))
    assert "it is cut in half, c 5 and m 5" in capsys.readouterr().err
    assert_equal([*right], [c, m])
    assert halved.c.shape == halved.m.shape != c.shape


# ---- files that people save from a session


def test_saved_tuples_of_a_stack_are_read_as_layers(tmp_path: Path) -> None:
    """`numpy.save` of the nested tuples that a session returns makes `[L, 2, batch, units]`."""
    model = MODELS["stack of like cells"]
    _, state = stepped(model, "float32", dynamic, is_tuple=True)
    _, flat = stepped(model, "float32", dynamic, is_tuple=False)
    np.save(tmp_path / "state.npy", state)
    layered = ["--from", "layered"]
    path = converted(tmp_path / "state.npy", tmp_path / "flat.npy", "--to-flat", *layered)
    assert_equal([np.load(path)], [flat])


def test_a_pickled_state_of_a_session_is_read(tmp_path: Path, model: Model) -> None:
    _, state = stepped(model, "float32", dynamic, is_tuple=True)
    _, flat = stepped(model, "float32", dynamic, is_tuple=False)
    (tmp_path / "state.pkl").write_bytes(pickle.dumps(state))
    path = converted(tmp_path / "state.pkl", tmp_path / "flat.npy", "--to-flat")
    assert_equal([np.load(path)], [flat])


# ---- widths from the cells of a checkpoint

_FW_200 = "utterance_encoder/bidirectional_rnn/fw/lstm_cell"
_CRNN = "shadow_net/sequence_rnn_module/stack_bidirectional_rnn"
_FORWARD = "layer_with_weights-0/forward_layer/cell"

# Flags, the widths (c, m) of each cell, and their names if only one owner fits.
OWNERS: list[tuple[str, list[str], list[tuple[int, int]], list[str]]] = [
    ("peephole_tuple", [], [(8, 5)], ["rnn/lstm_cell"]),
    ("peephole_flat", [], [(8, 5)], ["rnn/lstm_cell"]),
    ("partitioned", [], [(8, 5)], ["rnn/lstm_cell"]),
    ("block_cell", [], [(8, 8)], ["rnn/lstm_cell"]),
    ("v1_format", [], [(8, 8)], ["rnn/basic_lstm_cell"]),
    ("v1_format/model.ckpt", [], [(8, 8)], ["rnn/basic_lstm_cell"]),
    ("saved_model", [], [(8, 8)], ["rnn/basic_lstm_cell"]),
    ("bidirectional", ["--cell", "fw"], [(8, 8)], ["bidirectional_rnn/fw/lstm_cell"]),
    ("bidirectional", [], [(6, 6)], ["bidirectional_rnn/bw/lstm_cell"]),
    ("sunspots", [], [(24, 24), (12, 12)], ["cell_0/basic_lstm_cell", "cell_1/basic_lstm_cell"]),
    ("sunspots/model.ckpt-360.meta", ["--cell", "cell_1"], [(12, 12)], ["cell_1/basic_lstm_cell"]),
    ("tf_0_12_names", [], [(8, 5), (6, 6)], ["Cell0/LSTMCell", "Cell1/LSTMCell"]),
    ("tf_0_12_names", ["--cell", "Cell0"], [(8, 5)], ["Cell0/LSTMCell"]),
    ("tf_1_0_names", ["--stack", "rnn"], [(8, 5), (6, 6)], ["_0/lstm_cell", "_1/lstm_cell"]),
]  # fmt: skip
REAL: list[tuple[str, list[str], list[tuple[int, int]], list[str]]] = [
    ("anime-tf11", [], [(128, 128)], ["audio_lstm/lstm_cell"]),
    ("anime-tf11", ["--cell", "anime_lstm"], [(50, 50)], ["anime_lstm/lstm_cell"]),
    ("har-imu-nometa", [], [(32, 32)] * 2, ["cell_0/lstm_cell", "cell_1/lstm_cell"]),
    ("io-bilstmcrf", ["--cell", _FW_200], [(200, 200)], [_FW_200]),
    ("io-crnn-savedmodel", ["--stack", _CRNN], [(256, 256)] * 4, []),
    ("io-dirprefix-ner", ["--cell", _FORWARD], [(128, 128)], [_FORWARD]),
    ("io-lstmcell-W_0", [], [(400, 400)] * 3, [f"Cell{k}/LSTMCell" for k in range(3)]),
    ("nailpen-tf12", ["--stack", "multi_rnn_cell"], [(36, 36)], ["cell_0/basic_lstm_cell"]),
    ("sm-waterlevel", [], [(50, 50)], ["lstm/lstm_cell"]),
    ("tf1obj-mdlstm", [], [(64, 64)], ["layer_with_weights-1/cell"]),
    ("timeseries-5unit", [], [(5, 5)], ["rnn/basic_lstm_cell"]),
    ("v1-assoc-lstm", [], [(50, 50)], ["send_to_rnn/BasicLSTMCell"]),
    ("v1-har-4unit", [], [(4, 4)] * 2, ["Cell0/BasicLSTMCell", "Cell1/BasicLSTMCell"]),
]


def assert_widths_come_from(
    ckpt: Path, flags: list[str], cells: list[tuple[int, int]], names: list[str], folder: Path
) -> None:
    """Convert a flat state and back, with widths that only a checkpoint shows."""
    parts = [noise(f"{k}", (BATCH, width), "f4") for k, width in enumerate(sum(cells, ()))]
    flat = np.concatenate(parts, -1)
    np.save(folder / "flat.npy", flat)
    arguments = ["--to-tuple", "--checkpoint", str(ckpt), *flags]
    path = converted(folder / "flat.npy", folder / "tuple.h5", *arguments)
    found = load_state(path)
    assert_equal(halves_of(found), parts)
    called = [cell.cell for cell in getattr(found, "cells", (found,))]
    assert all(name.endswith(end) for name, end in zip(called, names, strict=False))
    assert_equal([np.load(converted(path, folder / "back.npy", "--to-flat"))], [flat])


@pytest.mark.parametrize("owner", OWNERS, ids=lambda owner: " ".join([owner[0], *owner[1]]))
def test_widths_come_from_the_cells_of_a_checkpoint(tmp_path: Path, owner: Any) -> None:
    name, flags, cells, names = owner
    assert_widths_come_from(SAMPLES / name, flags, cells, names, tmp_path)


@pytest.mark.parametrize("owner", REAL, ids=lambda owner: " ".join([owner[0], *owner[1]]))
def test_widths_come_from_published_checkpoints(tmp_path: Path, owner: Any) -> None:
    name, flags, cells, names = owner
    truth = SHARED / "real" / name / "truth.json"
    if not truth.is_file():
        pytest.skip("the real checkpoints are not available")
    prefix = json.loads(truth.read_text())["prefix"]
    ckpt = truth.parent / ("." if prefix.startswith("variables/") else prefix)
    assert_widths_come_from(ckpt, flags, cells, names, tmp_path)


@pytest.mark.parametrize(
    ("name", "flags", "width", "words"),
    [
        ("peephole_tuple", [], 16, "it is 16 wide, and c 8 + m 5 are 13"),
        ("sunspots", [], 36, "fits none of the cells (24,12; 24; 12)"),
        ("sunspots", ["--cell", "cell_0"], 24, "it is 24 wide, and c 24 + m 24 are 48"),
        ("bidirectional", ["--cell", "lstm_cell"], 16, "the cells are: bidirectional_rnn/fw"),
        ("sunspots", ["--stack", "rnn_1"], 72, "there are: rnn/multi_rnn_cell"),
    ],
)
def test_a_state_that_fits_no_cell_is_refused(
    tmp_path: Path, capsys: Captured, name: str, flags: list[str], width: int, words: str
) -> None:
    np.save(tmp_path / "flat.npy", np.zeros((BATCH, width), np.float32))
    target, ckpt = tmp_path / "out.npz", str(SAMPLES / name)
    arguments = ["--to-tuple", "--checkpoint", ckpt, *flags, "-o", str(target)]
    assert run(["convert", str(tmp_path / "flat.npy"), *arguments]) == 3
    assert words in capsys.readouterr().err
    assert not target.exists()
