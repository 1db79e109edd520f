"""States in one unnamed array, read in the order of the placeholder of the graph.

The graphs are those of the samples, with initial states sliced from a placeholder instead.
"""

from __future__ import annotations

import shutil
import struct
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import const, meta_graph, node, number, shape_proto, tensor, text
from commands import SAMPLES, Array, Shell, archive, error, notes, numbers, saved
from writers import dynamic, inputs, save

import lstmstate
from lstmstate import LstmstateError, load_state
from lstmstate.model.network_loader import RunOptions
from lstmstate.operations import run

FLOAT, INT = number(6, 1), number(6, 3)
BATCH = 4
OTHER_ORDER = "the graph's state_in takes m|c"
CELLS = [f"rnn/multi_rnn_cell/cell_{at}/basic_lstm_cell" for at in (0, 1)]


def ints(name: str, *values: int) -> bytes:
    shape = (len(values),) if len(values) > 1 else ()
    return const(name, tensor(3, shape, text(4, struct.pack(f"<{len(values)}i", *values))))


def cut(widths: Sequence[int]) -> tuple[bytes, ...]:
    """A placeholder, `state_in`, and its columns."""
    shape = text(7, shape_proto((-1, sum(widths))))
    return (
        node("state_in", "Placeholder", dtype=FLOAT, shape=shape),
        ints("cut/sizes", *widths),
        ints("cut/axis", 1),
        node(
            "cut",
            "SplitV",
            ("state_in", "cut/sizes", "cut/axis"),
            T=FLOAT,
            Tlen=INT,
            num_split=number(3, len(widths)),
        ),
    )


def changed(folder: Path, sample: str, *nodes: bytes) -> Path:
    shutil.copytree(SAMPLES / sample, folder / sample)
    (meta,) = (folder / sample).glob("*.meta")
    meta.write_bytes(meta.read_bytes() + meta_graph(*nodes))
    return folder / sample


def one_cell(folder: Path, order: str) -> Path:
    """A cell whose c of 8 and m of 5 units are slices of a placeholder."""
    return changed(
        folder,
        "peephole_tuple",
        *cut([{"c": 8, "m": 5}[half] for half in order]),
        *(node(f"{half}_state/read", "Identity", (f"cut:{order.index(half)}",)) for half in "cm"),
    )


def stack(folder: Path, order: Sequence[str]) -> Path:
    """Two cells, of 24 and 12 units, whose flat state is made from a placeholder."""
    flat = [f"cut:{order.index(half)}" for half in ("c_0", "m_0", "c_1", "m_1")]
    return changed(
        folder,
        "sunspots",
        *cut([24 if half.endswith("0") else 12 for half in order]),
        ints("joined/axis", 1),
        node("saved_state/read", "ConcatV2", (*flat, "joined/axis"), T=FLOAT, N=number(3, 4)),
    )


def sequence(folder: Path, width: int) -> Path:
    return saved(folder / "x.npy", numbers(BATCH, 3, width))


def halves(state: Array, order: Sequence[str], widths: Mapping[str, int]) -> dict[str, Array]:
    """Return the columns of an array in the order of its halves."""
    starts = np.cumsum([0, *(widths[half] for half in order)])
    return {
        half: state[..., start : start + widths[half]]
        for half, start in zip(order, starts, strict=False)
    }


def test_an_array_is_read_in_the_order_of_the_graph(shell: Shell, tmp_path: Path) -> None:
    ckpt, x = one_cell(tmp_path, "mc"), sequence(tmp_path, 3)
    state = numbers(BATCH, 13, seed=1)
    path = saved(tmp_path / "state_in.npy", state)
    named = archive(tmp_path / "named.npz", c=state[:, 5:], m=state[:, :5])
    for source, name in ((path, "y.npz"), (named, "z.npz")):
        done = shell("run", ckpt, x, "--state", source, "-o", tmp_path / name, code=0)
        assert (f"{OTHER_ORDER}, and it is read in that order" in notes(done)) == (source == path)
    with np.load(tmp_path / "y.npz") as one, np.load(tmp_path / "z.npz") as other:
        assert np.array_equal(one["outputs"], other["outputs"])


def test_every_command_reads_it_in_that_order(shell: Shell, tmp_path: Path) -> None:
    ckpt, state = one_cell(tmp_path, "mc"), numbers(BATCH, 13, seed=1)
    path = saved(tmp_path / "state_in.npy", state)
    by_ckpt = ("--checkpoint", ckpt)
    done = shell("convert", path, "--to-tuple", *by_ckpt, "-o", tmp_path / "y.npz")
    assert f"{OTHER_ORDER}, and it is read in that order" in notes(done)
    files = [tmp_path / f"{half}.npy" for half in "cm"]
    assert shell("split", path, *by_ckpt, "-o", *files).code == 0
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        loaded = load_state(path, checkpoint=ckpt)
    assert any(OTHER_ORDER in str(one.message) for one in warned)
    with np.load(tmp_path / "y.npz") as converted:
        for half, whole in (("c", state[:, 5:]), ("m", state[:, :5])):
            assert np.array_equal(converted[half], whole)
            assert np.array_equal(np.load(tmp_path / f"{half}.npy"), whole)
            assert np.array_equal(getattr(loaded, half), whole)
    named = archive(tmp_path / "named.npz", c=state[:, 5:], m=state[:, :5])
    assert shell("diff", "--exact", path, named, *by_ckpt).code == 0
    assert shell("diff", "--exact", path, named).code == 1


def test_axes_before_the_batch_pass_through(tmp_path: Path) -> None:
    ckpt, state = one_cell(tmp_path, "mc"), numbers(6, BATCH, 13, seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        c, m = load_state(saved(tmp_path / "s.npy", state), checkpoint=ckpt)
    assert np.array_equal(c, state[..., 5:]) and np.array_equal(m, state[..., :5])


def test_an_order_that_the_user_passes_is_used_with_a_note(shell: Shell, tmp_path: Path) -> None:
    ckpt, x = one_cell(tmp_path, "mc"), sequence(tmp_path, 3)
    state = numbers(BATCH, 13, seed=1)
    path = saved(tmp_path / "s.npy", state)
    note = f"{OTHER_ORDER}, and it is read as flat (c | m side by side, cell after cell)"
    done = shell(
        "run", ckpt, x, "--state", path, "--from", "flat", "-o", tmp_path / "y.npz", code=0
    )
    assert note in notes(done)
    flags = ("--checkpoint", ckpt, "--from", "flat", "-o", tmp_path / "z.npz")
    assert note in notes(shell("convert", path, "--to-tuple", *flags))
    with np.load(tmp_path / "z.npz") as found:
        assert np.array_equal(found["c"], state[:, :8])


@pytest.mark.parametrize("shape", [(BATCH, 13), (1, 13), (13,)])
@pytest.mark.parametrize("order", ["cm", "mc"])
def test_the_batch_may_be_one_or_missing(
    shell: Shell, tmp_path: Path, shape: tuple[int, ...], order: str
) -> None:
    ckpt, state = one_cell(tmp_path, order), numbers(*shape, seed=1)
    path = saved(tmp_path / "s.npy", state)
    done = shell(
        "convert", path, "--to-tuple", "--checkpoint", ckpt, "-o", tmp_path / "y.npz", code=0
    )
    assert any(OTHER_ORDER in note for note in notes(done)) == (order == "mc")
    expected = halves(state, order, {"c": 8, "m": 5})
    with np.load(tmp_path / "y.npz") as found:
        assert all(np.array_equal(found[half], expected[half]) for half in "cm")
    x = sequence(tmp_path, 3)
    assert shell("run", "-q", ckpt, x, "--state", path, "-o", tmp_path / "z.npz").code == 0


@pytest.mark.parametrize(
    "order",
    [
        ("c_0", "m_0", "c_1", "m_1"),
        ("c_0", "c_1", "m_0", "m_1"),
        ("c_1", "m_1", "c_0", "m_0"),
        ("m_0", "c_0", "m_1", "c_1"),
    ],
)
def test_the_order_of_a_stack(shell: Shell, tmp_path: Path, order: tuple[str, ...]) -> None:
    ckpt, x = stack(tmp_path, order), sequence(tmp_path, 1)
    state = numbers(BATCH, 72, seed=1)
    path = saved(tmp_path / "s.npy", state)
    done = shell("run", ckpt, x, "--state", path, "-o", tmp_path / "y.npz", code=0)
    note = f"the graph's state_in takes {'|'.join(order)}, and it is read in that order"
    assert (note in notes(done)) == (order != ("c_0", "m_0", "c_1", "m_1"))
    own = halves(state, order, {f"{half}_{at}": (24, 12)[at] for at in (0, 1) for half in "cm"})
    named = {f"{CELLS[at]}/{half}": own[f"{half}_{at}"] for at in (0, 1) for half in "cm"}
    path = archive(tmp_path / "named.npz", **named)
    assert shell("run", "-q", ckpt, x, "--state", path, "-o", tmp_path / "z.npz", code=0).err == ""
    with np.load(tmp_path / "y.npz") as one, np.load(tmp_path / "z.npz") as other:
        assert np.array_equal(one["outputs"], other["outputs"])


def of_a_variable(tf: Any) -> None:
    """A cell that starts from one variable, m before c."""
    kept = tf.get_variable("kept", [BATCH, 13], initializer=tf.random_normal_initializer())
    state = tf.nn.rnn_cell.LSTMStateTuple(kept[:, 5:], kept[:, :5])
    dynamic(tf, tf.nn.rnn_cell.LSTMCell(8, num_proj=5), initial_state=state)


def carried(tf: Any) -> None:
    """A loop that starts from zeros and carries m and c in one array, m first."""
    kernel, bias = (tf.get_variable(name, s) for name, s in (("w", [7, 16]), ("b", [16])))

    def step(state: Any, x: Any) -> Any:
        m, c = state[:, :4], state[:, 4:]
        i, j, f, o = tf.split(tf.matmul(tf.concat([x, m], 1), kernel) + bias, 4, 1)
        c = c * tf.sigmoid(f + 1.0) + tf.sigmoid(i) * tf.tanh(j)
        return tf.concat([tf.tanh(c) * tf.sigmoid(o), c], 1)

    tf.scan(step, inputs(tf), tf.zeros([BATCH, 8]))


@pytest.mark.parametrize(("build", "m"), [(of_a_variable, 5), (carried, 4)])
def test_the_order_of_a_stored_or_carried_state(tmp_path: Path, build: Any, m: int) -> None:
    ckpt = save(tmp_path, build)
    state = numbers(BATCH, {5: 13, 4: 8}[m], seed=1)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        loaded = load_state(saved(tmp_path / "s.npy", state), checkpoint=ckpt)
    assert any("takes m|c, and it is read in that order" in str(one.message) for one in warned)
    assert np.array_equal(loaded.c, state[:, m:]) and np.array_equal(loaded.m, state[:, :m])


def test_a_state_equal_in_both_orders_is_accepted(shell: Shell, tmp_path: Path) -> None:
    ckpt, x = one_cell(tmp_path, "mc"), sequence(tmp_path, 3)
    path = saved(tmp_path / "s.npy", np.zeros((BATCH, 13), "f4"))
    assert shell("run", "-q", ckpt, x, "--state", path, "-o", tmp_path / "y.npz", code=0).err == ""


def test_orders_that_differ_are_refused(shell: Shell, tmp_path: Path) -> None:
    def both(tf: Any) -> None:
        for order in ("cm", "mc"):
            with tf.variable_scope(order):
                fed = tf.split(tf.placeholder(tf.float32, [None, 8], name="state"), 2, 1)
                state = tf.nn.rnn_cell.LSTMStateTuple(*(fed[order.index(half)] for half in "cm"))
                dynamic(tf, tf.nn.rnn_cell.LSTMCell(4), initial_state=state)

    ckpt, state = save(tmp_path, both), numbers(BATCH, 8)
    path, target = saved(tmp_path / "s.npy", state), tmp_path / "y.npz"
    flags = ("--to-tuple", "--checkpoint", ckpt, "-o", target)
    done = shell("convert", path, *flags, code=3)
    assert "the graph's cm/state takes c|m, and the graph's mc/state takes m|c" in error(done)
    assert "pass --cell or --stack; or --from if that is its order" in error(done)
    for layout, name in (("`layout=...`", "load_state"), ("`from_layout=...`", "convert")):
        more = {"target": target, "layout": "tuple"} if name == "convert" else {}
        with pytest.raises(LstmstateError) as refused:
            getattr(lstmstate, name)(path, **more, checkpoint=ckpt)
        assert refused.value.advice == f"pass {layout} if that is its order"
    assert shell("convert", path, *flags, "--cell", "mc/rnn/lstm_cell").code == 0
    with np.load(target) as found:
        assert np.array_equal(found["m"], state[:, :4])


def test_an_unnamed_array_has_no_order_for_another_kind_of_state(tmp_path: Path) -> None:
    """For example the attention that a wrapper carries from step to step: it is not c and m."""
    loaded = lstmstate.open_checkpoint(SAMPLES / "tf_1_0_names").network().load(RunOptions("numpy"))
    flat = np.zeros((2, sum(cell.widths.flat for cell in loaded.network.cells)), np.float32)
    np.save(tmp_path / "flat.npy", flat)
    path = str(tmp_path / "flat.npy")
    assert run.open_state(loaded, path, None, "")[0]
    odd = [cell._replace(num_units=1) for cell in loaded.route.cells]
    stages = ((tuple(odd),),)
    with pytest.raises(LstmstateError, match="order of c and m of .* in one array is unknown"):
        run.open_state(loaded._replace(route=loaded.route._replace(stages=stages)), path, None, "")


@pytest.mark.parametrize("problem", ["damaged", "missing"])
def test_the_order_needs_no_values_of_the_weights(
    shell: Shell, tmp_path: Path, problem: str
) -> None:
    """The graph takes m before c, and shows that even if its weights cannot be read."""

    def build(tf: Any) -> None:
        m, c = tf.split(tf.placeholder(tf.float32, [None, 8], "state"), 2, 1)
        state = tf.nn.rnn_cell.LSTMStateTuple(c, m)
        dynamic(tf, tf.nn.rnn_cell.BasicLSTMCell(4), initial_state=state)

    ckpt = save(tmp_path, build)
    (data,) = tmp_path.rglob("*.data-*")
    content = data.read_bytes()
    data.unlink()
    if problem == "damaged":
        data.write_bytes(bytes(byte ^ 1 for byte in content))
    path, target = saved(tmp_path / "s.npy", numbers(2, 8)), tmp_path / "s.npz"
    shell("convert", path, "--to-tuple", "--checkpoint", ckpt, "-o", target, code=0)
    with np.load(target) as found:
        np.testing.assert_array_equal(found["m"], np.load(path)[:, :4])


def test_an_order_that_cannot_be_evaluated_is_noted(shell: Shell, tmp_path: Path) -> None:
    """The graph takes m before c, with an operation that is not evaluated on the way."""

    def build(tf: Any) -> None:
        fed = tf.decode_raw(tf.placeholder(tf.string, [None], "state"), tf.float32)
        m, c = tf.split(tf.reshape(fed, [-1, 8]), 2, 1)
        state = tf.nn.rnn_cell.LSTMStateTuple(c, m)
        dynamic(tf, tf.nn.rnn_cell.BasicLSTMCell(4), initial_state=state)

    ckpt, path = save(tmp_path, build), saved(tmp_path / "s.npy", numbers(2, 8))
    done = shell("convert", path, "--to-tuple", "--checkpoint", ckpt, "-o", tmp_path / "s.npz")
    assert done.code == 0
    (note,) = notes(done)
    assert "the order of the graph that takes it is unknown (" in note
    assert "DecodeRaw is not evaluated); it is read as flat (c | m " in note
    flags = ("--from", "flat", "--to-tuple", "--checkpoint", ckpt)
    assert notes(shell("convert", path, *flags, "-o", tmp_path / "t.npz")) == []
