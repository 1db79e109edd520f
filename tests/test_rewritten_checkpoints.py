"""Checkpoints with a converted state: TensorFlow restores them, with all else unchanged."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_bundle_writer import assert_restored_alike
from test_values_against_tensorflow import (
    BATCH,
    BFLOAT16,
    INPUTS,
    MODELS,
    STEPS,
    Array,
    Model,
    Named,
    assert_equal,
    made,
    names,
    noise,
    numbers,
    of_bytes,
    save_v1,
    save_v2,
    strings,
)
from writers import (
    TensorFlow,
    as_in_1_x,
    dynamic,
    inputs,
    lstm,
    new_session,
    set_variables,
    tensorflow,
)

from lstmstate import load_state
from lstmstate.cli import execute as run

Captured = pytest.CaptureFixture[str]

STACK = "rnn/multi_rnn_cell"


def converted(source: object, target: Path, *arguments: str) -> str:
    """Run `lstmstate convert`, and return the prefix that it wrote."""
    target.parent.mkdir(exist_ok=True)
    assert run(["convert", str(source), *arguments, "-o", str(target)]) == 0
    return str(target)


def refused(capsys: Captured, source: object, target: Path, *arguments: str) -> str:
    """Run `lstmstate convert`, which must refuse; return the error."""
    capsys.readouterr()
    assert run(["convert", str(source), *arguments, "-o", str(target)]) == 3
    assert not list(target.parent.glob(f"{target.name}*"))
    return capsys.readouterr().err


def values_of(prefix: str, some: Iterable[str]) -> Named:
    """Return tensors of a checkpoint, as TensorFlow reads them."""
    reader = tensorflow().train.load_checkpoint(prefix)
    return {name: np.asarray(reader.get_tensor(name)) for name in some}


def value(prefix: str, name: str) -> Array:
    """Return a tensor of a checkpoint, as TensorFlow reads it."""
    return values_of(prefix, [name])[name]


def listed(prefix: str) -> set[str]:
    """Return the names of a checkpoint, as TensorFlow reads them."""
    return {name for name, _ in tensorflow().train.list_variables(prefix)}


def state_variables(scopes: Iterable[str]) -> list[str]:
    """Return the names of the c and m of some cells in a checkpoint."""
    return [f"{'/'.join(filter(None, ['saved_state', s]))}/{half}" for s in scopes for half in "cm"]


def cut(flat: Array, widths: Iterable[tuple[int, int]]) -> list[Array]:
    """Return c and m of every cell in a flat state."""
    ends = np.cumsum(sum(widths, ()))
    assert ends[-1] == flat.shape[-1]
    return np.split(flat, ends[:-1], -1)


# ---- restored by TensorFlow's Saver


class Run(NamedTuple):
    """A graph's operations, its variables by name, and the outputs of its cells."""

    variables: Named
    outputs: Array


def network(tf: TensorFlow, model: Model, states: Sequence[str], parts: int | None) -> Any:
    """Build a graph that trains, whose cells start from a state in variables; return the outputs.

    states: the names of the variables of the state: one for a flat state.
    """
    is_tuple = len(states) > 1
    widths = sum(model.widths, ())
    widths = widths if is_tuple else (sum(widths),)
    x = tf.placeholder(tf.float32, [BATCH, STEPS, INPUTS], name="x")
    cell = made(tf, model, "float32", is_tuple=is_tuple)
    kept = [
        tf.identity(tf.get_variable(name, [BATCH, width], trainable=False))
        for name, width in zip(states, widths, strict=True)
    ]
    first = tf.nest.pack_sequence_as(cell.state_size, kept)
    cut_up = tf.fixed_size_partitioner(parts) if parts else None
    with tf.variable_scope(tf.get_variable_scope(), partitioner=cut_up):
        outputs, _ = tf.nn.dynamic_rnn(cell, x, initial_state=first)
    step = tf.train.get_or_create_global_step()
    with tf.device("/cpu:1"):
        tf.train.AdamOptimizer().minimize(tf.reduce_sum(outputs**2), step)
        text = np.array([[b"seq", b""], [b"\xff\x00", b"long" * 90]], object)
        tf.get_variable("words", initializer=text)
        tf.get_variable("a/flag", initializer=np.array([True, False, True]))
        tf.get_variable("wave", initializer=np.array([1 - 2j, np.nan], np.complex64))
        tf.get_variable("z/empty", [0, 3], tf.float64)
    return outputs


class Program:
    """A graph in a session; its variables have other values until it restores a checkpoint."""

    def __init__(
        self, tf: TensorFlow, session: Any, model: Model, states: Sequence[str], parts: int | None,
        options: Mapping[str, Any],
    ) -> None:  # fmt: skip
        self._session = session
        self._outputs = network(tf, model, states, parts)
        variables = tf.global_variables()
        if options.get("write_version") != tf.train.SaverDef.V1:  # which cannot contain it
            variables.append(tf.get_variable("narrow", initializer=tf.ones([3], tf.bfloat16)))
        self._saver = tf.train.Saver(variables, **options)
        self._variables = {variable.op.name: variable for variable in variables}
        self._initializer = tf.global_variables_initializer()

    def save(self, path: Path) -> Run:
        """Give the variables new values, run, and save them."""
        values = {
            variable: noise(name, variable.shape.as_list(), "f4")
            for name, variable in self._variables.items()
            if variable.dtype.base_dtype == np.float32 and variable.shape.rank
        }
        set_variables(self._session, values)
        self._saver.save(self._session, str(path), global_step=7)
        return self._run()

    def restore(self, prefix: str) -> Run:
        """Run with the values of a checkpoint, and nothing from before."""
        self._session.run(self._initializer)
        self._saver.restore(self._session, prefix)
        return self._run()

    def _run(self) -> Run:
        fed = {"x:0": noise("x", (BATCH, STEPS, INPUTS), "f4")}
        return Run(self._session.run(self._variables), self._session.run(self._outputs, fed))


@contextmanager
def program(
    model: Model, states: Sequence[str], *, parts: int | None = None, **options: Any
) -> Iterator[Program]:
    """Build the graph of a network, temporarily."""
    tf = tensorflow()
    with as_in_1_x(tf), new_session(tf, cpus=2) as session:
        yield Program(tf, session, model, states, parts, options)


def assert_same_values(ours: Named, theirs: Named) -> None:
    """Compare values of variables to the bit."""
    assert set(ours) == set(theirs)
    for name, one in ours.items():
        both = np.asarray(one), np.asarray(theirs[name])
        assert repr(both[0].tolist()) == repr(both[1].tolist()), name
        if both[0].dtype != object:
            assert_equal([both[0]], [both[1]])


V1 = {"write_version": 1}
KINDS: dict[str, dict[str, Any]] = {
    "v2": {},
    "v1": V1,
    "partitioned": {"parts": 2},
    "v1 partitioned": V1 | {"parts": 2},
    "sharded": {"sharded": True, "parts": 3},
    "v1 sharded": V1 | {"sharded": True},
}
SCOPES = {
    "basic": [""],
    "projected": [""],
    "stack of unlike cells": [
        f"{STACK}/cell_0/lstm_cell", f"{STACK}/cell_1/basic_lstm_cell", f"{STACK}/cell_2/lstm_cell",
    ],
    "stack of like cells": [f"{STACK}/cell_{k}/basic_lstm_cell" for k in range(2)],
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("v2", "stack of unlike cells"),
        ("v1", "basic"),
        ("partitioned", "stack of like cells"),
        ("v1 partitioned", "projected"),
        ("sharded", "projected"),
        ("v1 sharded", "basic"),
    ],
)
def test_a_saver_restores_a_converted_checkpoint(tmp_path: Path, kind: str, name: str) -> None:
    """A graph of tuple cells restores it and gives the outputs of the flat cells; and back."""
    model, options, halves = MODELS[name], KINDS[kind], state_variables(SCOPES[name])
    (tmp_path / "old").mkdir()
    old = tmp_path / "old/model.ckpt"
    with program(model, ["saved_state"], **options) as flat_cells:
        before = flat_cells.save(old)
        converted(f"{old}-7", tmp_path / "new/model.ckpt-7", "--to-tuple")
        latest = tensorflow().train.latest_checkpoint(str(tmp_path / "new"))
        with program(model, halves, **options) as tuple_cells:
            after = tuple_cells.restore(latest)
        back = converted(latest, tmp_path / "back/model.ckpt-7", "--to-flat")
        again = flat_cells.restore(back)
    flat = before.variables["saved_state"]
    expected = {k: v for k, v in before.variables.items() if k != "saved_state"}
    expected |= dict(zip(halves, cut(flat, model.widths), strict=True))
    assert_same_values(after.variables, expected)
    assert_equal([after.outputs], [before.outputs])
    assert len({half.tobytes() for half in cut(flat, model.widths)}) == len(halves)
    # A partitioned variable, and its slots, are one tensor each in a checkpoint.
    called = {re.sub(r"/part_\d+", "", name) for name in expected}
    assert listed(latest) == called and any(name.endswith("/kernel/Adam_1") for name in called)
    assert_same_values(again.variables, before.variables)
    assert_equal([again.outputs], [before.outputs])
    if kind in ("v2", "partitioned"):
        assert_restored_alike(back, f"{old}-7")
        files = ["index", "data-00000-of-00001"]
        assert [Path(f"{back}.{end}").read_bytes() for end in files] == [
            Path(f"{old}-7.{end}").read_bytes() for end in files
        ]


def test_a_checkpoint_with_several_index_blocks(tmp_path: Path) -> None:
    """TensorFlow splits its index at 256 KiB; the state is found among thousands of variables."""
    random = np.random.default_rng(5)
    values: Named = {f"{random.bytes(70).hex()}/{k}": np.int32(k) for k in range(3500)}
    values |= cell_values("rnn/lstm_cell", 6, 4) | {"saved_state": noise("s", (BATCH, 10), "f4")}
    old = save_v2(tmp_path / "old", values)
    assert Path(f"{old}.index").stat().st_size > 2 << 18
    new = converted(old, tmp_path / "new.ckpt", "--to-tuple")
    assert listed(new) == (set(values) - {"saved_state"}) | {"saved_state/c", "saved_state/m"}
    assert_equal([value(new, f"saved_state/{half}") for half in "cm"], cut_of(values, [(6, 4)]))
    assert_restored_alike(converted(new, tmp_path / "back.ckpt", "--to-flat"), old)


def cell_values(scope: str, units: int, proj: int | None = None) -> Named:
    """Return the variables of a cell, with values."""
    shapes = lstm(scope, INPUTS, units, proj)
    return {name: noise(name, shape, "f4") for name, shape in shapes.items()}


def cut_of(values: Named, widths: Iterable[tuple[int, int]]) -> list[Array]:
    """Return c and m of every cell in the flat state among some variables."""
    return cut(values["saved_state"], widths)


# ---- places of the state


@pytest.mark.parametrize("kind", ["v1", "v2"])
def test_a_state_that_was_saved_in_slices(tmp_path: Path, kind: str) -> None:
    tf, flat = tensorflow(), noise("s", (5, 10), "f4")
    values = cell_values("rnn/lstm_cell", 6, 4)
    tensors = [*values.values(), flat[:2], flat[2:]]
    slices = [*[""] * len(values), "5 10 0,2:0,10", "5 10 2,3:0,10"]
    called = [*values, "saved_state", "saved_state"]
    old = str(tmp_path / "old")
    with as_in_1_x(tf), new_session(tf) as session:
        data = [tf.constant(tensor) for tensor in tensors]
        session.run(
            tf.raw_ops.SaveSlices(
                filename=old, tensor_names=called, shapes_and_slices=slices, data=data
            )
            if kind == "v1"
            else tf.raw_ops.SaveV2(
                prefix=old, tensor_names=called, shape_and_slices=slices, tensors=data
            )
        )
    new = converted(old, tmp_path / "new.ckpt", "--to-tuple")
    assert_equal([value(new, f"saved_state/{half}") for half in "cm"], cut(flat, [(6, 4)]))
    back = converted(new, tmp_path / "back.ckpt", "--to-flat")
    assert_equal([value(back, "saved_state")], [flat])


def test_a_state_in_a_saved_model(tmp_path: Path) -> None:
    tf = tensorflow()
    with as_in_1_x(tf), new_session(tf) as session:
        kept = tf.get_variable("saved_state", [BATCH, 10], trainable=False)
        cell = tf.nn.rnn_cell.LSTMCell(6, num_proj=4, state_is_tuple=False)
        x = inputs(tf, batch=BATCH)
        outputs, _ = dynamic(tf, cell, x, initial_state=kept)
        session.run(tf.global_variables_initializer())
        flat = session.run(kept)
        tf.saved_model.simple_save(session, str(tmp_path / "export"), {"x": x}, {"y": outputs})
    new = converted(tmp_path / "export", tmp_path / "new.ckpt", "--to-tuple")
    assert_equal([value(new, f"saved_state/{half}") for half in "cm"], cut(flat, [(6, 4)]))


def test_the_state_of_an_object_based_checkpoint_is_read_but_not_rewritten(
    tmp_path: Path, capsys: Captured
) -> None:
    tf, values = tensorflow(), cell_values("cell", 6, 4)
    flat = noise("s", (BATCH, 10), "f4")
    with as_in_1_x(tf), new_session(tf) as session:
        cell = tf.train.Checkpoint()
        cell.kernel, cell.bias, projection = (tf.Variable(one) for one in values.values())
        cell.projection = tf.train.Checkpoint(kernel=projection)
        root = tf.train.Checkpoint(cell=cell, saved_state=tf.Variable(flat))
        session.run(tf.global_variables_initializer())
        old = root.save(str(tmp_path / "old"), session=session)
    words = refused(capsys, old, tmp_path / "new.ckpt", "--to-tuple")
    assert "object graph" in words and ".npz" in words
    found = load_state(converted(old, tmp_path / "state.npz", "--to-tuple"))
    assert_equal([*found], cut(flat, [(6, 4)]))


# ---- other content of a checkpoint

steady = settings(derandomize=True, deadline=None, max_examples=40)
# Wider than all of `numbers`, so that none of them fits the cell.
widths = st.tuples(st.integers(5, 8), st.one_of(st.none(), st.integers(5, 8)))
STATE_DTYPES = [np.dtype(name) for name in ("f2", "f4", "f8", "c8", "c16", BFLOAT16)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One folder for all examples of a property."""
    path = tmp_path_factory.mktemp("checkpoints")
    yield path
    shutil.rmtree(path)


@steady
@given(
    st.dictionaries(names, st.one_of(numbers, strings()), max_size=5),
    widths,
    st.sampled_from(STATE_DTYPES),
    st.lists(st.integers(0, 3), min_size=1, max_size=2),
    st.binary(max_size=40),
)
def test_everything_but_the_state_is_unchanged(
    folder: Path,
    others: Named,
    width: tuple[int, int | None],
    dtype: np.dtype[Any],
    lead: list[int],
    data: bytes,
) -> None:
    """Random variables next to a cell and its flat state of any bytes, read by TensorFlow."""
    c, m = width[0], width[1] or width[0]
    flat = of_bytes(dtype, (*lead, c + m), data)
    values = others | cell_values("rnn/lstm_cell", *width) | {"saved_state": flat}
    old = save_v2(folder / "old", values)
    force = ["--to-tuple", "--force"]
    new = converted(old, folder / "new.ckpt", *force)
    assert listed(new) == (set(values) - {"saved_state"}) | {"saved_state/c", "saved_state/m"}
    assert_equal([value(new, f"saved_state/{half}") for half in "cm"], cut(flat, [(c, m)]))
    del values["saved_state"]
    kept = values_of(new, values)
    assert_same_values(kept, values_of(old, values))
    assert_same_values({name: one.astype(values[name].dtype) for name, one in kept.items()}, values)
    assert_restored_alike(converted(new, folder / "back.ckpt", "--to-flat", "--force"), old)


def test_a_v1_file_becomes_a_v2_checkpoint_of_the_same_values(tmp_path: Path) -> None:
    values = cell_values("rnn/lstm_cell", 6, 4) | {"saved_state": noise("s", (BATCH, 10), "f4")}
    values |= {"words": np.array([b"a", b"", b"bc"], object), "n": np.arange(3), "t": np.True_}
    old = save_v1(tmp_path / "old", values)
    back = converted(
        converted(old, tmp_path / "new.ckpt", "--to-tuple"), tmp_path / "back.ckpt", "--to-flat"
    )
    assert Path(f"{back}.index").is_file()
    assert_same_values(values_of(back, values), values)


# ---- options of the cells, wherever the graph is

OPTIONS: dict[str, Any] = {"state_is_tuple": False, "activation": "relu", "forget_bias": 0.0}
CLIPS: dict[str, Any] = {"use_peepholes": True, "cell_clip": 0.5, "num_proj": 3, "proj_clip": 0.4}


def options_of(tf: TensorFlow, **more: Any) -> dict[str, Any]:
    """Return options of a cell, with a function for its activation."""
    return OPTIONS | {"activation": tf.nn.relu} | more


NETWORKS: dict[str, Any] = {
    "basic": lambda tf, rnn: rnn.BasicLSTMCell(3, **options_of(tf)),
    "every option": lambda tf, rnn: rnn.LSTMCell(5, **options_of(tf, **CLIPS)),
    "residual": lambda tf, rnn: rnn.ResidualWrapper(rnn.LSTMCell(3, **options_of(tf))),
    "stack": lambda tf, rnn: rnn.MultiRNNCell(
        [
            rnn.LSTMCell(4, **options_of(tf, num_proj=3, proj_clip=0.3)),
            rnn.ResidualWrapper(rnn.LSTMCell(3, **options_of(tf, forget_bias=-1.0))),
            rnn.BasicLSTMCell(2, **options_of(tf, activation=tf.nn.softsign)),
        ],
        state_is_tuple=False,
    ),
}


def stepping(folder: Path, kind: str, name: str) -> Path:
    """Save a network with its state in a variable; return its checkpoint, or its frozen graph."""
    tf = tensorflow()
    folder.mkdir()
    with as_in_1_x(tf), new_session(tf) as session:
        cell = NETWORKS[name](tf, tf.nn.rnn_cell)
        start = tf.get_variable("saved_state", [BATCH, cell.state_size], trainable=False)
        x = inputs(tf, 3, batch=BATCH)
        outputs, _ = dynamic(tf, cell, x, initial_state=tf.identity(start))
        shapes = {variable: variable.shape.as_list() for variable in tf.global_variables()}
        set_variables(
            session, {one: noise(one.op.name, shape, "f4") for one, shape in shapes.items()}
        )
        version = tf.train.SaverDef.V1 if kind == "v1" else tf.train.SaverDef.V2
        prefix = tf.train.Saver(write_version=version).save(
            session, str(folder / "model.ckpt"), write_meta_graph=kind in ("v1", "v2")
        )
        graph = session.graph_def
        if kind == "text":
            tf.train.write_graph(graph, str(folder), "graph.pbtxt")
        if kind == "frozen":
            kept = [outputs.op.name]
            graph = tf.graph_util.convert_variables_to_constants(session, graph, kept)
            (folder / "frozen.pb").write_bytes(graph.SerializeToString())
            return folder / "frozen.pb"
    return Path(prefix)


@pytest.mark.covering(1)
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("kind", ["v2", "v1", "text", "frozen"])
def test_a_run_of_the_new_checkpoint_gives_the_same_numbers(
    tmp_path: Path, kind: str, name: str
) -> None:
    """Also from the converted state, and also if it is converted back."""
    old = stepping(tmp_path / "old", kind, name)
    there = converted(old, tmp_path / "there/model.ckpt", "--to-tuple")
    back = converted(there, tmp_path / "back/model.ckpt", "--to-flat")
    np.save(tmp_path / "x.npy", 2 * noise("x", (BATCH, 6, 3), "f4"))
    for flags in (["--zero-state"], ["--state"]):
        found = []
        for path in map(str, (old, there, back)):
            state = [path] if flags == ["--state"] else []
            run_it = ["run", path, str(tmp_path / "x.npy"), "--strict", *flags, *state]
            assert run([*run_it, "-o", str(tmp_path / "y.npz"), "--force"]) == 0
            with np.load(tmp_path / "y.npz") as arrays:
                found.append({key: arrays[key].tobytes() for key in arrays if key != "lstmstate"})
        assert found[0] == found[1] == found[2]
