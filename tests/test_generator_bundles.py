"""Bundles of Magenta (`.mag`): a V1 checkpoint and its graph in one file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from builders import V1Builder, meta_graph, node, number, shape_proto, text
from commands import Shell, error, lstm_cell, notes, numbers, saved

from lstmstate import limits
from lstmstate.checkpoint import Checkpoint
from lstmstate.errors import CorruptError, LstmstateError, UnsupportedError

CELL = lstm_cell(units=2)
GRAPH = meta_graph(
    *(node(name, "VariableV2", shape=text(7, shape_proto(CELL[name].shape))) for name in CELL),
    producer=24,
    info=text(5, "1.2.0"),
)
SHORT, LONG = text(1, "attention_rnn"), text(1, "attention_rnn") + text(2, "Attention RNN")


def v1(path: Path) -> bytes:
    """Return the bytes of a V1 checkpoint of a cell, and write it."""
    builder = V1Builder()
    for name, value in CELL.items():
        builder.add(name, value)
    return Path(builder.write(path)).read_bytes()


@pytest.fixture
def table(tmp_path: Path) -> bytes:
    """A V1 checkpoint."""
    return v1(tmp_path / "v1.ckpt")


def bundle(path: Path, *checkpoints: bytes, details: bytes = LONG, graph: bytes = GRAPH) -> str:
    """Write a bundle."""
    start = text(1, details) if details else b""
    files = b"".join(text(2, content) for content in checkpoints)
    path.write_bytes(start + files + (text(3, graph) if graph else b"") + text(4, text(1, "x")))
    return str(path)


@pytest.mark.parametrize("details", [LONG, SHORT, b""], ids=["long", "short", "none"])
def test_the_values_and_the_graph_of_a_bundle(tmp_path: Path, table: bytes, details: bytes) -> None:
    found = Checkpoint(bundle(tmp_path / "a.mag", table, details=details))
    assert found.format == "generator_bundle"
    assert found.variables.keys() == CELL.keys()
    for name, value in CELL.items():
        assert np.array_equal(found.variables[name].read(), value)
    assert found.graph is not None
    assert (found.graph.tensorflow_version, set(found.graph.nodes)) == ("1.2.0", set(CELL))
    assert found.meta_graph() == GRAPH
    assert found.notes == []


def test_a_bundle_runs_like_its_checkpoint(shell: Shell, tmp_path: Path, table: bytes) -> None:
    path = bundle(tmp_path / "a.mag", table)
    assert "Magenta bundle of a TensorFlow V1 checkpoint" in shell("inspect", path).out
    x = saved(tmp_path / "x.npy", numbers(2, 4, 3))
    (tmp_path / "v1.ckpt.meta").write_bytes(GRAPH)
    results = []
    for source in (path, tmp_path / "v1.ckpt"):
        target = tmp_path / "y.npy"
        shell("run", source, x, "-o", target, "--force", "--engine", "numpy", code=0)
        results.append(np.load(target))
    assert np.array_equal(*results)


def test_a_bundle_without_a_graph_or_with_a_damaged_one(tmp_path: Path, table: bytes) -> None:
    for graph in (b"", GRAPH[:-20]):
        found = Checkpoint(bundle(tmp_path / "a.mag", table, graph=graph))
        assert found.graph is None
        assert np.array_equal(*(v["rnn/lstm_cell/bias"] for v in (_read(found), CELL)))
        assert found.notes[0].endswith("going on without the graph")


def _read(found: Checkpoint) -> dict[str, np.ndarray]:
    return {name: variable.read() for name, variable in found.variables.items()}


def test_a_graph_that_is_too_large_is_ignored(
    tmp_path: Path, table: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_GRAPH_BYTES", len(GRAPH) - 1)
    found = Checkpoint(bundle(tmp_path / "a.mag", table))
    assert found.graph is None
    assert f"a graph of {len(GRAPH)} bytes is larger than" in found.notes[0]


def test_a_bundle_of_two_checkpoints_is_refused(tmp_path: Path, table: bytes) -> None:
    with pytest.raises(UnsupportedError, match="this bundle has 2 checkpoint files, and not 1"):
        Checkpoint(bundle(tmp_path / "a.mag", table, table))


def test_a_bundle_that_is_cut_short(shell: Shell, tmp_path: Path, table: bytes) -> None:
    whole = Path(bundle(tmp_path / "a.mag", table)).read_bytes()
    path = tmp_path / "cut.mag"
    path.write_bytes(whole[:-100])
    done = shell("inspect", path, code=3)
    assert error(done) == (
        f"{path}: the bundle is cut short: {100 - 5} bytes are missing; "
        "copy it again from where it came from"
    )
    assert notes(done) == []
    of_details = len(text(4, text(1, "x")))  # without which a bundle is complete
    for size in range(0, len(whole) - of_details, 7):
        path.write_bytes(whole[:size])
        with pytest.raises(LstmstateError):
            Checkpoint(str(path))


def test_a_bundle_that_is_damaged(tmp_path: Path, table: bytes) -> None:
    whole = bytearray(Path(bundle(tmp_path / "a.mag", table)).read_bytes())
    at = bytes(whole).index(table)
    path = tmp_path / "b.mag"
    found = 0
    for place in range(at, at + len(table), 5):
        damaged = bytearray(whole)
        damaged[place] ^= 4
        path.write_bytes(damaged)
        try:
            values = _read(Checkpoint(str(path)))
        except LstmstateError:
            found += 1
        else:  # a byte that is never read
            assert all(np.array_equal(values[name], CELL[name]) for name in CELL)
    assert found > len(table) // 5 * 0.8
    path.write_bytes(bytes(whole) + number(5, 3))
    with pytest.raises(CorruptError, match="this is a damaged bundle"):
        Checkpoint(str(path))
