"""A state in one array without names, where the graph takes it through a placeholder of its own.

The graphs are those of the samples, with their first states cut out of a placeholder instead.
"""

from __future__ import annotations

import shutil
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from builders import const, meta_graph, node, number, shape_proto, tensor, text
from commands import SAMPLES, Shell, archive, error, notes, numbers, saved

FLOAT, INT = number(6, 1), number(6, 3)
BATCH = 4
OTHER_ORDER = (
    "the graph's state_in takes m|c, and it is read as flat (c | m side by side, cell after cell)"
)
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
    """A cell whose c of 8 and m of 5 units are cut out of a placeholder."""
    return changed(
        folder,
        "peephole_tuple",
        *cut([{"c": 8, "m": 5}[half] for half in order]),
        *(node(f"{half}_state/read", "Identity", (f"cut:{order.index(half)}",)) for half in "cm"),
    )


def stack(folder: Path, order: Sequence[str]) -> Path:
    """Two cells, of 24 and 12 units, whose flat state is put together out of a placeholder."""
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


def test_an_array_in_the_order_of_the_graph_is_not_taken_for_another(
    shell: Shell, tmp_path: Path
) -> None:
    ckpt, x = one_cell(tmp_path, "mc"), sequence(tmp_path, 3)
    state = numbers(BATCH, 13, seed=1)
    path = saved(tmp_path / "state_in.npy", state)
    done = shell("run", ckpt, x, "--state", path, "-o", tmp_path / "y.npz")
    assert done.code == 3
    assert OTHER_ORDER in error(done)
    named = archive(tmp_path / "named.npz", c=state[:, 5:], m=state[:, :5])
    assert shell("run", "-q", ckpt, x, "--state", named, "-o", tmp_path / "y.npz").code == 0
    told = tmp_path / "told.npy"
    assert shell("convert", named, "--to-flat", "-o", told).code == 0
    assert shell("run", "-q", ckpt, x, "--state", told, "-o", tmp_path / "z.npz").code == 0
    with np.load(tmp_path / "y.npz") as one, np.load(tmp_path / "z.npz") as other:
        assert np.array_equal(one["outputs"], other["outputs"])


def test_an_order_that_the_user_gives_is_taken_with_a_note(shell: Shell, tmp_path: Path) -> None:
    ckpt, x = one_cell(tmp_path, "mc"), sequence(tmp_path, 3)
    path = saved(tmp_path / "s.npy", numbers(BATCH, 13, seed=1))
    done = shell("run", ckpt, x, "--state", path, "--from", "flat", "-o", tmp_path / "y.npz")
    assert done.code == 0
    assert f"{path}: {OTHER_ORDER}" in notes(done)


@pytest.mark.parametrize("shape", [(BATCH, 13), (1, 13), (13,)])
def test_an_array_in_the_order_of_the_layout_is_taken(
    shell: Shell, tmp_path: Path, shape: tuple[int, ...]
) -> None:
    x, path = sequence(tmp_path, 3), saved(tmp_path / "s.npy", numbers(*shape, seed=1))
    for order, code in (("cm", 0), ("mc", 3)):
        ckpt = one_cell(tmp_path / order, order)
        done = shell("run", "-q", ckpt, x, "--state", path, "-o", tmp_path / f"{order}.npz")
        assert (done.code, bool(done.err)) == (code, bool(code))


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
    path = saved(tmp_path / "s.npy", numbers(BATCH, 72, seed=1))
    done = shell("run", ckpt, x, "--state", path, "-o", tmp_path / "y.npz")
    if order == ("c_0", "m_0", "c_1", "m_1"):
        assert done.code == 0
    else:
        assert done.code == 3
        assert f"the graph's state_in takes {'|'.join(order)}, and" in error(done)
    named = {f"{CELLS[at]}/{half}": numbers(BATCH, (24, 12)[at]) for at in (0, 1) for half in "cm"}
    path = archive(tmp_path / "named.npz", **named)
    done = shell("run", "-q", ckpt, x, "--state", path, "--force", "-o", tmp_path / "y.npz")
    assert (done.code, done.err) == (0, "")


def test_a_state_that_reads_the_same_in_both_orders_is_taken(shell: Shell, tmp_path: Path) -> None:
    ckpt, x = one_cell(tmp_path, "mc"), sequence(tmp_path, 3)
    path = saved(tmp_path / "s.npy", np.zeros((BATCH, 13), "f4"))
    done = shell("run", "-q", ckpt, x, "--state", path, "-o", tmp_path / "y.npz")
    assert (done.code, done.err) == (0, "")
