"""`lstmstate convert` of checkpoints: states read from variables, and rewritten checkpoints."""

from __future__ import annotations

import os
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from builders import number, text
from commands import (
    FIRST,
    SAMPLES,
    SECOND,
    SUNSPOTS,
    Shell,
    archive,
    checkpoint,
    error,
    flip,
    lstm_cell,
    notes,
    numbers,
    saved,
)

import lstmstate
from lstmstate import limits


@pytest.fixture
def two_states(tmp_path: Path) -> str:
    """A checkpoint of a cell of 4 units, with a flat state of training and one of validation."""
    states = {"train/state": numbers(2, 8, seed=7), "valid/state": numbers(2, 8, seed=8)}
    (tmp_path / "in").mkdir()
    return checkpoint(tmp_path / "in" / "model.ckpt", lstm_cell() | states)


def stored(prefix: str) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Return the dtype, shape and bytes of every tensor, as TensorFlow reads them."""
    import tensorflow as tf

    reader = tf.train.load_checkpoint(prefix)
    return {
        name: (str(dtype), tuple(shape), np.asarray(reader.get_tensor(name)).tobytes())
        for name, shape in reader.get_variable_to_shape_map().items()
        for dtype in [reader.get_variable_to_dtype_map()[name]]
    }


# ---- states from a checkpoint


def test_the_state_of_a_stack_is_named_after_its_cells(shell: Shell, tmp_path: Path) -> None:
    done = shell("convert", SUNSPOTS, "--to-tuple", "-o", tmp_path / "state.npz", code=0)
    assert done.out == f"{tmp_path / 'state.npz'}\n"
    assert notes(done) == []
    flat = lstmstate.open_checkpoint(SUNSPOTS).variables["saved_state"].read()
    with np.load(tmp_path / "state.npz") as found:
        assert {name: found[name].shape for name in found if name != "lstmstate"} == {
            f"{FIRST}/c": (1, 24),
            f"{FIRST}/m": (1, 24),
            f"{SECOND}/c": (1, 12),
            f"{SECOND}/m": (1, 12),
        }
        np.testing.assert_array_equal(found[f"{SECOND}/c"], flat[:, 48:60])


@pytest.mark.parametrize("sample", ["peephole_flat", "peephole_tuple"])
def test_a_projection_makes_c_and_m_differ_in_width(
    shell: Shell, tmp_path: Path, sample: str
) -> None:
    """The two samples have the same state, once flat and once as c and m."""
    shell("convert", "-q", SAMPLES / sample, "--to-tuple", "-o", tmp_path / "state.npz", code=0)
    expected = lstmstate.open_checkpoint(SAMPLES / "peephole_tuple").variables
    with np.load(tmp_path / "state.npz") as found:
        np.testing.assert_array_equal(found["c"], expected["c_state"].read())
        np.testing.assert_array_equal(found["m"], expected["m_state"].read())


def test_an_old_checkpoint_gives_its_state(shell: Shell, tmp_path: Path) -> None:
    shell("convert", SAMPLES / "v1_format", "--to-flat", "-o", tmp_path / "flat.npy", code=0)
    assert np.load(tmp_path / "flat.npy").shape == (4, 16)


def test_one_of_several_states_is_chosen(shell: Shell, two_states: str, tmp_path: Path) -> None:
    done = shell("convert", two_states, "--to-tuple", "-o", tmp_path / "x.npz", code=3)
    assert done.out == ""
    assert "2 states are saved in it" in error(done)
    assert "--variable train/state, --variable valid/state" in error(done)
    for name in ("train/state", "valid/state"):
        target = tmp_path / f"{name[:5]}.npy"
        for source in ([two_states, "--variable", name], [f"{two_states}:{name}"]):
            assert shell("convert", *source, "--to-flat", "--force", "-o", target).code == 0
            expected = lstmstate.open_checkpoint(two_states).variables[name].read()
            np.testing.assert_array_equal(np.load(target), expected)
    both = ["--variable", "train/state", "--variable", "valid/state"]
    done = shell("convert", two_states, *both, "--to-tuple", "-o", tmp_path / "x.npz", code=3)
    assert error(done).endswith("several states do not go into one file; give one --variable")


def test_a_missing_variable(shell: Shell, two_states: str) -> None:
    done = shell("convert", two_states, "--variable", "test_state", "--to-tuple", code=3)
    assert error(done) == (
        f"{two_states}: test_state: there is no such variable; did you mean train/state?"
    )


def test_a_checkpoint_supplies_the_widths_of_a_state_file(shell: Shell, tmp_path: Path) -> None:
    flat = saved(tmp_path / "flat.npy", numbers(2, 72))
    done = shell("convert", flat, "--to-tuple", "--checkpoint", SUNSPOTS, code=0)
    assert notes(done) == []
    with np.load(done.out[:-1]) as found:
        assert found[f"{SECOND}/m"].shape == (2, 12)
    done = shell(
        *("convert", flat, "--to-tuple", "--force", "--checkpoint", SUNSPOTS),
        *("--cell", "cell_0/basic_lstm_cell"),
        code=3,
    )
    assert "it is 72 wide, and c 24 + m 24 are 48" in error(done)


def test_a_damaged_value_is_refused_unless_checksums_are_left_out(
    shell: Shell, tmp_path: Path
) -> None:
    shutil.copytree(SAMPLES / "peephole_flat", tmp_path / "run")
    flip(tmp_path / "run" / "model.ckpt", -1)  # of the last variable by name, saved_state
    done = shell("convert", "-q", tmp_path / "run", "--to-flat", "-o", tmp_path / "x.npy", code=3)
    assert not os.path.exists(tmp_path / "x.npy")
    assert "saved_state" in error(done)
    assert "checksum" in error(done)
    done = shell(
        "convert", tmp_path / "run", "--no-checksums", "--to-flat", "-o", tmp_path / "x.npy", code=0
    )
    assert any("not verified" in note for note in notes(done))


# ---- checkpoints from a checkpoint


def test_other_tensors_are_unchanged(shell: Shell, tmp_path: Path) -> None:
    done = shell("convert", "-q", SUNSPOTS, "--to-tuple", "-o", tmp_path / "new.ckpt")
    assert done == (0, f"{tmp_path / 'new.ckpt'}\n", "")
    before, after = stored(f"{SUNSPOTS}/model.ckpt-360"), stored(str(tmp_path / "new.ckpt"))
    flat = np.frombuffer(before.pop("saved_state")[2], "f4").reshape(1, 72)
    cuts = {f"{FIRST}/c": 0, f"{FIRST}/m": 24, f"{SECOND}/c": 48, f"{SECOND}/m": 60}
    for name, start in cuts.items():
        units = 24 if name.startswith(FIRST) else 12
        _, shape, values = after.pop(f"saved_state/{name}")
        assert (shape, values) == ((1, units), flat[:, start : start + units].tobytes())
    assert after == before


def test_a_round_trip_gives_the_same_checkpoint(shell: Shell, tmp_path: Path) -> None:
    there, back, again = (tmp_path / name for name in ("a.ckpt", "b.ckpt", "c.ckpt"))
    assert shell("convert", SUNSPOTS, "--to-tuple", "-o", there).code == 0
    assert shell("convert", there, "--to-flat", "-o", back).code == 0
    assert shell("diff", "--exact", SUNSPOTS, back).code == 0
    assert shell("convert", SUNSPOTS, "--to-tuple", "-o", again).code == 0
    for ending in (".index", ".data-00000-of-00001"):
        assert Path(f"{there}{ending}").read_bytes() == Path(f"{again}{ending}").read_bytes()


@pytest.mark.parametrize("scope", ["a\xa0b", "a\x1b[31m", "a\u202eb", "\udcff"], ids=ascii)
def test_a_stack_of_oddly_named_cells_has_a_way_back(
    shell: Shell, tmp_path: Path, scope: str
) -> None:
    """Its names cannot be shown, and are those of its states all the same."""
    first, second = (f"{scope}/multi_rnn_cell/cell_{number}/lstm_cell" for number in (0, 1))
    cells = lstm_cell(first, 4, 3) | lstm_cell(second, 2, 4)
    ckpt = checkpoint(tmp_path / "m.ckpt", cells | {f"{scope}/state": numbers(3, 12)})
    ways = ["a.ckpt", "b.npz", "c.ckpt", "d.h5", "e.ckpt"]
    for source, target in pairwise([ckpt, *(str(tmp_path / name) for name in ways)]):
        assert shell("convert", "-q", source, "--to-tuple", "-o", target).code == 0
        assert shell("convert", "-q", target, "--to-flat", "-o", f"{target}.npy").code == 0
        assert np.array_equal(np.load(f"{target}.npy"), numbers(3, 12))


@pytest.mark.parametrize("name", ["new.ckpt", "new.ckpt-7", "new.ckpt.index"])
def test_the_name_of_the_new_checkpoint(shell: Shell, tmp_path: Path, name: str) -> None:
    """The output may be a prefix or its index; a file `checkpoint` names it."""
    (tmp_path / "out").mkdir()
    assert shell("convert", SUNSPOTS, "--to-tuple", "-o", tmp_path / "out" / name).code == 0
    prefix = name.removesuffix(".index")
    assert sorted(os.listdir(tmp_path / "out")) == sorted(
        ["checkpoint", *(f"{prefix}.{end}" for end in ("index", "meta", "data-00000-of-00001"))]
    )
    assert (tmp_path / "out" / "checkpoint").read_text() == (
        f'model_checkpoint_path: "{prefix}"\nall_model_checkpoint_paths: "{prefix}"\n'
    )
    assert lstmstate.open_checkpoint(tmp_path / "out").prefix == str(tmp_path / "out" / prefix)


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_an_existing_checkpoint_file_is_not_changed(
    shell: Shell, tmp_path: Path, force: list[str]
) -> None:
    text = 'model_checkpoint_path: "best.ckpt"\n'
    (tmp_path / "checkpoint").write_text(text)
    shell("convert", SUNSPOTS, "--to-tuple", "-o", tmp_path / "new.ckpt", *force, code=0)
    assert (tmp_path / "checkpoint").read_text() == text


def test_only_the_chosen_state_is_rewritten(shell: Shell, two_states: str, tmp_path: Path) -> None:
    new = tmp_path / "new.ckpt"
    assert shell("convert", two_states, "--to-tuple", "-o", new).code == 3
    assert sorted(os.listdir(tmp_path)) == ["in"]
    chosen = shell.json("convert", two_states, "--variable", "valid/state", "--to-tuple", "-o", new)
    assert [state["variable"] for state in chosen["states"]] == ["valid/state"]
    before = lstmstate.open_checkpoint(two_states).variables
    after = lstmstate.open_checkpoint(new).variables
    assert set(after) == (set(before) - {"valid/state"}) | {"valid/state/c", "valid/state/m"}
    assert after["train/state"].read().tobytes() == before["train/state"].read().tobytes()
    np.testing.assert_array_equal(
        np.hstack([after["valid/state/c"].read(), after["valid/state/m"].read()]),
        before["valid/state"].read(),
    )


def test_several_states_are_rewritten_at_once(
    shell: Shell, two_states: str, tmp_path: Path
) -> None:
    new = tmp_path / "new.ckpt"
    both = ["--variable", "train/state", "--variable", "valid/state"]
    found = shell.json("convert", two_states, *both, "--to-tuple", "-o", new)
    assert [state["variable"] for state in found["states"]] == ["train/state", "valid/state"]
    names = set(lstmstate.open_checkpoint(new).variables)
    assert {n for n in names if "state" in n} == {
        f"{part}/state/{half}" for part in ("train", "valid") for half in "cm"
    }


def test_another_precision_applies_to_the_state_only(shell: Shell, tmp_path: Path) -> None:
    new = tmp_path / "new.ckpt"
    done = shell("convert", SUNSPOTS, "--to-tuple", "--dtype", "float16", "-o", new, code=0)
    assert any(note.endswith("values are not the same in float16") for note in notes(done))
    variables = lstmstate.open_checkpoint(new).variables
    assert variables[f"saved_state/{FIRST}/c"].dtype == "float16"
    assert variables[f"{FIRST}/kernel"].dtype == "float32"


def test_a_checkpoint_made_from_a_state_records_its_widths(shell: Shell, tmp_path: Path) -> None:
    pair = archive(tmp_path / "pair.npz", c=numbers(2, 8), m=numbers(2, 5, seed=1))
    assert shell("convert", pair, "--to-flat", "-o", tmp_path / "state.ckpt").code == 0
    assert lstmstate.open_checkpoint(tmp_path / "state.ckpt").variables["state"].shape == (2, 13)
    done = shell("convert", tmp_path / "state.ckpt", "--to-tuple", code=0)
    assert done.out == f"{tmp_path / 'state.ckpt.tuple.npz'}\n"
    assert shell("diff", "--exact", pair, done.out[:-1]).code == 0
    assert shell("diff", "--exact", pair, tmp_path / "state.ckpt").code == 0


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_a_checkpoint_is_never_overwritten_by_its_own_conversion(
    shell: Shell, two_states: str, force: list[str]
) -> None:
    folder = Path(two_states).parent
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    done = shell(
        "convert",
        two_states,
        "--variable",
        "train/state",
        "--to-tuple",
        "-o",
        two_states,
        *force,
        code=3,
    )
    assert "this is the input, which is never written over" in error(done)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_an_existing_checkpoint_is_replaced_only_with_force(shell: Shell, tmp_path: Path) -> None:
    new = tmp_path / "new.ckpt"
    assert shell("convert", SUNSPOTS, "--to-tuple", "-o", new).code == 0
    done = shell("convert", SAMPLES / "peephole_flat", "--to-tuple", "-q", "-o", new, code=3)
    assert error(done).endswith("this file exists already; pass --force to replace it")
    assert f"{FIRST}/kernel" in lstmstate.open_checkpoint(new).variables
    shell("convert", SAMPLES / "peephole_flat", "--to-tuple", "-o", new, "--force", code=0)
    assert "rnn/lstm_cell/kernel" in lstmstate.open_checkpoint(new).variables


# ---- the graph of a new checkpoint


@pytest.mark.parametrize(
    ("sample", "layout", "width"),
    [
        ("peephole_flat", "tuple", 3),  # forget_bias 0.5, and both clips
        ("peephole_flat", "flat", 3),
        ("block_cell", "flat", 3),
        ("partitioned", "keras", 6),
        ("v1_format", "flat", 3),
        ("sunspots", "tuple", 1),
    ],
)
def test_a_rewritten_checkpoint_runs_like_its_source(
    shell: Shell, tmp_path: Path, sample: str, layout: str, width: int
) -> None:
    source, target = SAMPLES / sample, tmp_path / "new.ckpt"
    assert shell("convert", "-q", source, "--to", layout, "-o", target).code == 0
    (meta,) = source.glob("*.meta")
    assert Path(f"{target}.meta").read_bytes() == meta.read_bytes()
    old, new = lstmstate.open_checkpoint(source), lstmstate.open_checkpoint(target)
    assert {n: cell.options for n, cell in new.cells.items()} == {
        n: cell.options for n, cell in old.cells.items()
    }
    x = saved(tmp_path / "x.npy", 3 * numbers(2, 9, width))
    for path, ckpt in ((tmp_path / "a.npz", source), (tmp_path / "b.npz", target)):
        assert shell("run", "-q", ckpt, x, "-o", path).code == 0
    with np.load(tmp_path / "a.npz") as a, np.load(tmp_path / "b.npz") as b:
        assert all((a[name] == b[name]).all() for name in a if name != "lstmstate")
        assert np.abs(a["outputs"]).max() > 0.1


def test_a_note_names_the_variables_that_the_graph_restores(shell: Shell, tmp_path: Path) -> None:
    there, back = tmp_path / "there.ckpt", tmp_path / "back.ckpt"
    done = shell("convert", SAMPLES / "peephole_flat", "--to-tuple", "-o", there)
    assert notes(done)[-1] == (
        f"{there}.meta is the graph of {SAMPLES}/peephole_flat/model.ckpt: the cells keep their "
        "options, but its Saver restores saved_state"
    )
    # Named as the Saver names them.
    note = "the state has other names now: saved_state (was saved_state/c, saved_state/m)"
    assert notes(shell("convert", there, "--to-flat", "-o", back)) == [note]


def test_the_graph_of_a_saved_model_is_copied(shell: Shell, tmp_path: Path) -> None:
    sample = SAMPLES / "peephole_flat"
    graph = (sample / "model.ckpt.meta").read_bytes()
    inner = tmp_path / "model" / "variables"
    inner.mkdir(parents=True)
    for part in ("index", "data-00000-of-00001"):
        shutil.copy(sample / f"model.ckpt.{part}", inner / f"variables.{part}")
    (tmp_path / "model" / "saved_model.pb").write_bytes(number(1, 1) + text(2, graph))
    target = tmp_path / "new.ckpt"
    assert shell("convert", "-q", tmp_path / "model", "--to-tuple", "-o", target).code == 0
    assert Path(f"{target}.meta").read_bytes() == graph
    (cell,) = lstmstate.open_checkpoint(target).cells.values()
    assert cell.forget_bias == (0.5, "graph")


def test_the_graph_of_a_saved_model_as_text_is_copied(shell: Shell, tmp_path: Path) -> None:
    sample = SAMPLES / "peephole_flat"
    inner = tmp_path / "model" / "variables"
    inner.mkdir(parents=True)
    for part in ("index", "data-00000-of-00001"):
        shutil.copy(sample / f"model.ckpt.{part}", inner / f"variables.{part}")
    from google.protobuf import text_format
    from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    graph = MetaGraphDef.FromString((sample / "model.ckpt.meta").read_bytes())
    words = text_format.MessageToString(
        SavedModel(saved_model_schema_version=1, meta_graphs=[graph])
    )
    (tmp_path / "model" / "saved_model.pbtxt").write_text(words, encoding="utf-8")
    target = tmp_path / "new.ckpt"
    assert shell("convert", "-q", tmp_path / "model", "--to-tuple", "-o", target).code == 0
    found = MetaGraphDef.FromString(Path(f"{target}.meta").read_bytes())
    assert [(node.name, node.op, node.input) for node in found.graph_def.node] == [
        (node.name, node.op, node.input) for node in graph.graph_def.node
    ]
    (cell,) = lstmstate.open_checkpoint(target).cells.values()
    assert cell.forget_bias == (0.5, "graph")


def test_options_lost_with_the_graph_are_reported(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = checkpoint(tmp_path / "model.ckpt", lstm_cell() | {"state": numbers(2, 8)})
    note = "the state has other names now: state/c, state/m (was state)"
    assert notes(shell("convert", source, "--to-tuple", "-o", tmp_path / "a.ckpt")) == [note]
    Path(f"{source}.meta").write_bytes(b"12345")
    monkeypatch.setattr(limits, "MAX_GRAPH_BYTES", 4)
    done = shell("convert", source, "--to-tuple", "-o", tmp_path / "b.ckpt", code=0)
    assert notes(done)[-1] == (
        f"{source}.meta: a graph of 5 bytes is larger than the 4 that are read; "
        "the graph is not copied, and the options of the cells are lost"
    )
    assert not (tmp_path / "b.ckpt.meta").exists()


def test_a_new_checkpoint_does_not_use_another_checkpoints_graph(
    shell: Shell, tmp_path: Path
) -> None:
    stale = tmp_path / "new.ckpt.meta"
    shutil.copy(SAMPLES / "peephole_flat" / "model.ckpt.meta", stale)
    source = checkpoint(tmp_path / "model.ckpt", lstm_cell() | {"state": numbers(2, 8)})
    state = archive(tmp_path / "state.npz", c=numbers(2, 4), m=numbers(2, 4))
    for path in (source, state):
        done = shell("convert", path, "--to-tuple", "-o", tmp_path / "new.ckpt", "--force", code=3)
        assert error(done).startswith(f"{stale}: this graph exists already")
        assert not (tmp_path / "new.ckpt.index").exists()
    sample = SAMPLES / "block_cell"
    assert shell("convert", sample, "--to-flat", "-o", tmp_path / "new.ckpt").code == 3
    assert shell("convert", sample, "--to-flat", "-o", tmp_path / "new.ckpt", "--force").code == 0
    assert stale.read_bytes() == (sample / "model.ckpt.meta").read_bytes()


@pytest.mark.parametrize("engine", ["auto", "graph"])
def test_a_graph_with_missing_weights_is_not_run(shell: Shell, tmp_path: Path, engine: str) -> None:
    """The state that a conversion renames may be missing, and no other variable."""
    found = lstmstate.open_checkpoint(SUNSPOTS).variables.items()
    values = {name: v.read() for name, v in found if not name.startswith(f"{SECOND}/kernel")}
    path = checkpoint(tmp_path / "model.ckpt", values)
    shutil.copy(Path(SUNSPOTS) / "model.ckpt-360.meta", f"{path}.meta")
    x = saved(tmp_path / "x.npy", numbers(9, 1))
    done = shell("run", "-q", path, x, "--engine", engine, code=3)
    assert done.out == ""
    assert f"{SECOND}/kernel: the graph reads this variable, and the checkpoint has" in error(done)
