"""The public names, from open_checkpoint on, and records."""

from __future__ import annotations

import gc
import inspect
import os
import pickle
import pydoc
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from typing import NamedTuple as Typed

import numpy as np
import pytest
from builders import V1Builder
from commands import SAMPLES, SUNSPOTS, Shell, archive, checkpoint, lstm_cell, numbers, saved

import lstmstate
from lstmstate import LSTMState, LstmstateError, StackState, UnsupportedError, named_tuple
from lstmstate.engines.run_options import RUN_OPTIONS
from lstmstate.model.network_loader import RECORDED

PEEPHOLES = SAMPLES / "peephole_flat"
V1 = SAMPLES / "v1_format"
CELL = "rnn/lstm_cell"


@pytest.fixture
def peepholes() -> Iterator[lstmstate.LSTMCheckpoint]:
    """Return an open sample."""
    with lstmstate.open_checkpoint(PEEPHOLES) as ckpt:
        yield ckpt


def open_files() -> set[str]:
    """Return the paths of the files that this process has open."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add(os.readlink(f"/proc/self/fd/{name}"))
        except OSError:  # that of the listing itself
            continue
    return found


# ---- files that close

needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="Linux is needed")


@needs_proc
def test_with_closes_the_files_even_after_an_error() -> None:
    def ours() -> set[str]:
        return {path for path in open_files() if path.startswith(str(V1))}

    gc.collect()  # the checkpoints of commands in other tests
    with lstmstate.open_checkpoint(V1) as ckpt:
        assert ours()
    assert not ours()
    with pytest.raises(ZeroDivisionError), lstmstate.open_checkpoint(V1) as ckpt:
        ckpt.network().run([[1 / 0]])
    assert not ours()


@pytest.mark.parametrize("sample", ["v1_format", "peephole_flat"])
def test_a_value_of_a_closed_checkpoint_is_an_error(sample: str) -> None:
    with lstmstate.open_checkpoint(SAMPLES / sample) as ckpt:
        (cell,) = ckpt.cells.values()
        x = numbers(2, cell.input_size or 0)
        outputs, _ = cell.run(x)
    variable = next(iter(ckpt.variables.values()))
    with pytest.raises(LstmstateError, match="the checkpoint is closed; open it again") as caught:
        variable.read()
    assert isinstance(caught.value, ValueError)
    assert variable.shape and ckpt.cells  # what is known of it stays
    assert np.array_equal(cell.run(x)[0], outputs)  # and so do loaded weights
    ckpt.close()  # twice is once


def test_a_cell_of_a_closed_checkpoint_that_never_ran_is_no_damage() -> None:
    with lstmstate.open_checkpoint(PEEPHOLES) as ckpt:
        cell = ckpt.cells[CELL]
    with pytest.raises(LstmstateError, match="the checkpoint is closed") as caught:
        cell.run(numbers(2, 3))
    assert "do not fit" not in str(caught.value)
    assert cell.zero_state(2).flat().shape == (2, 13)  # its widths are known


@needs_proc
def test_damaged_checkpoints_are_not_left_open(tmp_path: Path) -> None:
    path = tmp_path / "broken.ckpt"
    source = next(path for path in V1.iterdir() if path.name.startswith("model"))
    path.write_bytes(source.read_bytes()[:-1])
    with pytest.raises(LstmstateError) as caught:
        lstmstate.open_checkpoint(path)
    assert caught.value.path and str(path) not in open_files()


@needs_proc
@pytest.mark.parametrize(
    "call",
    [
        lambda v1, flat, new: lstmstate.load_state(v1),
        lambda v1, flat, new: lstmstate.load_state(flat, checkpoint=v1),
        lambda v1, flat, new: lstmstate.convert(v1, new, layout="flat"),
        lambda v1, flat, new: lstmstate.split(flat, ["c.npy", new], checkpoint=v1),
        lambda v1, flat, new: lstmstate.concat([f"{v1}:a/c", f"{v1}:a/m"], new),
        lambda v1, flat, new: lstmstate.compare(v1, v1),
        lambda v1, flat, new: lstmstate.check(v1, finite=True),
        lambda v1, flat, new: lstmstate.verify(v1, against="graph"),
        lambda v1, flat, new: lstmstate.run(
            v1, saved(Path("x.npy"), numbers(4, 5, 3)), output=new, assume_defaults=True
        ),
    ],
    ids=lambda call: call.__code__.co_names[1],
)
def test_functions_close_the_checkpoints_that_they_open(
    call: Callable[..., object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A V1 checkpoint is one file, open as long as the checkpoint is."""
    monkeypatch.chdir(tmp_path)
    builder = V1Builder()
    for name, value in lstm_cell().items():
        builder.add(name, value)
    for half in "cm":
        builder.add(f"a/{half}", numbers(2, 4))
    v1, flat = builder.write(tmp_path / "old"), saved(tmp_path / "flat.npy", numbers(2, 8))
    gc.disable()
    try:
        with warnings.catch_warnings(), suppress(UnsupportedError):  # no graph to verify with
            warnings.simplefilter("ignore")
            call(v1, flat, str(tmp_path / "new.npy"))
        assert v1 not in open_files()
    finally:
        gc.enable()


# ---- mappings by name


def test_cells_stacks_states_and_variables_are_mappings_by_name() -> None:
    ckpt = lstmstate.open_checkpoint(SUNSPOTS)
    assert list(ckpt.stacks) == ["rnn/multi_rnn_cell"]
    assert list(ckpt.states) == ["saved_state"] and ckpt.states["saved_state"].layout == "flat"
    for found in (ckpt.cells, ckpt.stacks, ckpt.states, ckpt.variables):
        assert isinstance(found, dict)
        name, value = next(iter(found.items()))
        assert found[name] is value and found.get("missing") is None and "missing" not in found


def test_a_name_that_is_missing_is_answered_with_the_nearest() -> None:
    ckpt = lstmstate.open_checkpoint(SUNSPOTS)
    for found, name, nearest in (
        (ckpt.stacks, "rnn/multi_rnn_cel", "rnn/multi_rnn_cell"),
        (ckpt.states, "saved_stat", "saved_state"),
        (ckpt.variables, "readout/bia", "readout/bias"),
    ):
        with pytest.raises(KeyError) as caught:
            found[name]
        assert isinstance(caught.value, lstmstate.NotFoundError)
        assert f"{name}: there is no " in str(caught.value)
        assert f"did you mean {nearest}" in str(caught.value)


def test_a_network_is_chosen_by_the_name_of_a_cell_or_a_stack() -> None:
    ckpt = lstmstate.open_checkpoint(SUNSPOTS)
    (stack,), (first, second) = ckpt.stacks.values(), ckpt.cells.values()
    x = numbers(3, 1)
    expected = stack.run(x)[0]
    for name in (None, "rnn/multi_rnn_cell", "multi_rnn_cell"):
        assert np.array_equal(ckpt.network(name).run(x)[0], expected)
    for name in (first.name, "cell_0"):
        assert np.array_equal(ckpt.network(name).run(x)[0], first.run(x)[0])
    assert ckpt.network("cell_1").route.cells == (second.info,)
    with pytest.raises(lstmstate.NotFoundError, match="there is no cell of this name"):
        ckpt.network("nothing")
    with pytest.raises(ValueError, match="give one of `name`, `cell` and `stack`"):
        ckpt.network("cell_0", stack="multi_rnn_cell")


def test_parts_of_a_name_that_a_cell_and_a_stack_share_choose_neither(tmp_path: Path) -> None:
    layers = [f"enc/multi_rnn_cell/cell_{k}/lstm_cell" for k in (0, 1)]
    variables = lstm_cell(layers[0]) | lstm_cell(layers[1], inputs=4)
    ckpt = lstmstate.open_checkpoint(checkpoint(tmp_path / "one.ckpt", variables))
    assert ckpt.network("enc").route.name == "enc/multi_rnn_cell"
    both = variables | lstm_cell("enc/lstm_cell")
    ckpt = lstmstate.open_checkpoint(checkpoint(tmp_path / "two.ckpt", both))
    with pytest.raises(lstmstate.AmbiguousError, match="enc: a cell and a stack have this in"):
        ckpt.network("enc")
    assert ckpt.network("enc/lstm_cell").route.name == "enc/lstm_cell"
    assert ckpt.network("enc/multi_rnn_cell").route.is_stack


def test_notes_do_not_change_by_looking(tmp_path: Path) -> None:
    prefix = checkpoint(tmp_path / "x.ckpt", lstm_cell())
    Path(f"{prefix}.meta").write_bytes(b"\xff" * 40)
    ckpt = lstmstate.open_checkpoint(prefix)
    before = ckpt.notes
    assert before and ckpt.cells and ckpt.graph is None and not ckpt.states
    assert ckpt.notes == before == lstmstate.open_checkpoint(prefix).notes


# ---- cells and stacks


def test_a_cell_is_an_object_with_a_short_repr(peepholes: lstmstate.LSTMCheckpoint) -> None:
    cell = peepholes.cells[CELL]
    assert repr(cell) == "<LSTMCell 'rnn/lstm_cell' LSTMCell 3 -> 8:5 peepholes>"
    assert not isinstance(cell, tuple) and hash(cell) and cell == peepholes.cell(CELL)
    assert isinstance(cell.info, lstmstate.Cell)
    assert cell.info.input_size == cell.input_size == 3
    assert {"num_units", "forget_bias", "run", "info"} <= {*dir(cell)}
    with pytest.raises(AttributeError, match="widths"):
        _ = cell.widths  # type: ignore[attr-defined]


def test_a_stack_has_the_widths_of_its_layers_in_its_repr() -> None:
    (stack,) = lstmstate.open_checkpoint(SUNSPOTS).stacks.values()
    assert repr(stack) == "<LSTMStack 'rnn/multi_rnn_cell' 1 -> 24, 12>"
    assert stack.flat == stack.info.flat == 72
    both = lstmstate.open_checkpoint(SAMPLES / "bidirectional")
    assert [cell.direction in repr(cell) for cell in both.cells.values()] == [True, True]


def test_a_notebook_shows_cells_with_their_names_escaped(tmp_path: Path) -> None:
    ckpt = lstmstate.open_checkpoint(checkpoint(tmp_path / "x", lstm_cell("a<b/lstm_cell")))
    html = ckpt._repr_html_()
    assert "<code>a&lt;b/lstm_cell</code>" in html and "<b/" not in html
    assert ckpt.cells["a<b/lstm_cell"]._repr_html_() in html


@pytest.mark.parametrize("shown", [lstmstate.LSTMCell, lstmstate.LSTMStack])
def test_the_fields_for_type_checkers_are_those_of_the_info(shown: Any) -> None:
    listed = dict(shown.__annotations__)
    info = getattr(lstmstate, listed.pop("info"))
    assert listed
    for name, kind in listed.items():
        assert hasattr(info, name), name
        assert info.__annotations__.get(name, kind) == kind, name


# ---- parameters


METHODS = [
    getattr(kind, name)
    for kind in (lstmstate.LSTMCell, lstmstate.LSTMStack, lstmstate.LSTMNetwork)
    for name in ("run", "run_chunks", "step")
]
FUNCTIONS = [
    getattr(lstmstate, name)
    for name in lstmstate.__all__
    if inspect.isfunction(getattr(lstmstate, name))
]


@pytest.mark.parametrize("function", METHODS + FUNCTIONS, ids=lambda f: f.__qualname__)
def test_every_parameter_is_in_the_signature(function: Any) -> None:
    parameters = inspect.signature(function).parameters
    kinds = {one.kind for one in parameters.values()}
    assert not kinds & {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}
    if function in METHODS:
        assert {"engine", "feeds", "outputs"} <= parameters.keys()
    name = list(parameters)[-1]
    with pytest.raises(TypeError, match=f"has no parameter '{name}s'; did you mean {name}"):
        function(**{f"{name}s": 1})


@pytest.mark.parametrize(
    "function",
    [*METHODS, lstmstate.run, lstmstate.verify, lstmstate.export],
    ids=lambda f: f.__qualname__,
)
def test_the_options_of_cells_are_the_same_everywhere(function: Any) -> None:
    listed = inspect.signature(function).parameters
    given = {name: one.annotation for name, one in listed.items() if one.default is RECORDED}
    assert list(given) == list(RUN_OPTIONS)
    same = inspect.signature(lstmstate.LSTMNetwork.run).parameters
    assert given == {name: same[name].annotation for name in RUN_OPTIONS}
    assert listed["assume_defaults"].default is False


def test_a_misspelt_option_is_a_type_error_with_the_nearest_name(
    peepholes: lstmstate.LSTMCheckpoint,
) -> None:
    cell = peepholes.cells[CELL]
    with pytest.raises(TypeError) as caught:
        cell.run(numbers(2, 3), lenghts=[2])  # type: ignore[call-arg]
    assert str(caught.value) == "run() has no parameter 'lenghts'; did you mean lengths?"


def test_none_switches_a_recorded_clip_off_and_the_default_keeps_it(
    peepholes: lstmstate.LSTMCheckpoint,
) -> None:
    cell = peepholes.cells[CELL]
    x = numbers(40, 3) * 5
    assert abs(cell.run(x)[1].cells[0].c).max() <= 0.75
    assert abs(cell.run(x, cell_clip=None)[1].cells[0].c).max() > 0.75
    assert "cell_clip: 'float | Recorded | None' = RECORDED" in str(inspect.signature(cell.run))


# ---- states


def test_states_take_lists() -> None:
    state = LSTMState([[1.0, 2.0]], [[3.0]])
    assert (state.c.shape, state.m.shape, state.batch_shape) == ((1, 2), (1, 1), (1,))
    assert LSTMState.from_flat([[1.0, 2.0, 3.0]], 2, 1).allclose(state)
    assert StackState([state, state]).batch_shape == (1,)


UNEVEN: Any = [[1.0], [2.0, 3.0]]


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda cell: LSTMState(UNEVEN, [[1.0]]), "c"),
        (lambda cell: LSTMState.from_flat(UNEVEN, 1), "flat"),
        (lambda cell: cell.run(UNEVEN), "inputs"),
        (lambda cell: cell.step(UNEVEN), "x"),
        (lambda cell: cell.run(numbers(2, 5, 3), lengths=UNEVEN), "lengths"),
        (lambda cell: cell.run(numbers(2, 5, 3), (UNEVEN, [[1.0]])), "c"),
        (lambda cell: cell.run(numbers(2, 5, 3), feeds={"keep": UNEVEN}), "feeds['keep']"),
    ],
)
def test_lists_of_unequal_lengths_are_refused_by_name(
    peepholes: lstmstate.LSTMCheckpoint, call: Callable[[Any], object], name: str
) -> None:
    with pytest.raises(LstmstateError) as caught:
        call(peepholes.cells[CELL])
    assert caught.value.problem == f"expected an array as `{name}`, got lists of unequal lengths"


def test_allclose_compares_values_and_equality_identity() -> None:
    state = LSTMState([[1.0, np.nan]], [[3.0]])
    same = LSTMState([[1.0 + 1e-7, np.nan]], [[3.0]])
    assert state.allclose(same) and state != same
    assert not state.allclose(LSTMState([[2.0, np.nan]], [[3.0]]))
    assert not state.allclose(LSTMState([[1.0]], [[3.0]]))
    assert not state.allclose(LSTMState([[1.0, np.nan]] * 2, [[3.0]] * 2))
    stack = StackState([state, state])
    assert stack.allclose(StackState([same, same])) and not stack.allclose(state)
    assert not state.allclose(same, rtol=0, atol=1e-9)


# ---- variables


def test_a_variable_reads_as_an_array(peepholes: lstmstate.LSTMCheckpoint) -> None:
    variable = peepholes.variables[f"{CELL}/kernel"]
    value = variable.read()
    assert (variable.ndim, np.dtype(variable.dtype)) == (2, np.float32)
    assert np.array_equal(np.asarray(variable), value)
    assert np.asarray(variable, "float64").dtype == np.float64
    assert np.array_equal(variable[...], value)
    assert np.array_equal(variable[2:5, 0], value[2:5, 0])
    assert np.array_equal(np.stack(list(variable)), value)
    copied = np.array(variable)
    copied[:] = 0  # is its own
    assert variable[0, 0] == value[0, 0]


# ---- functions for the commands


def test_compare_returns_the_differences(tmp_path: Path) -> None:
    c, m = numbers(2, 4), numbers(2, 4, seed=1)
    a = archive(tmp_path / "a.npz", c=c, m=m)
    saved(tmp_path / "b.npy", np.concatenate([c, m + 1], axis=1))
    found = lstmstate.compare(a, tmp_path / "b.npy")
    assert (found.kind, found.is_same) == ("states", False)
    assert [one.verdict for one in found.differences] == ["same", "values"]
    assert lstmstate.compare(a, tmp_path / "b.npy", atol=2).is_same
    assert lstmstate.compare(SUNSPOTS, SUNSPOTS, exact=True).kind == "checkpoints"


def test_compare_notes_a_graph_that_cannot_be_read(tmp_path: Path) -> None:
    prefix = checkpoint(tmp_path / "x.ckpt", lstm_cell())
    Path(f"{prefix}.meta").write_bytes(b"\xff" * 40)
    with lstmstate.open_checkpoint(prefix) as ckpt:
        notes = ckpt.notes
    assert notes and lstmstate.compare(prefix, SUNSPOTS).notes == notes


def test_check_returns_a_finding_for_each_expectation(tmp_path: Path) -> None:
    found = lstmstate.check(SUNSPOTS, cells=2, units=24, finite=True, has=["readout/bias", "gone"])
    assert {one.name: one.holds for one in found[:3]} == {
        "units": False,
        "cells": True,
        "finite": True,
    }
    assert [one.holds for one in found[3:]] == [True, False]
    assert lstmstate.check(SUNSPOTS, cells=[(24, 24), (12, 12)])[0].holds
    flat = saved(tmp_path / "flat.npy", numbers(2, 13))
    assert lstmstate.check(flat, units=8, proj=5)
    assert not lstmstate.check(flat, units=8, proj=4)
    with pytest.raises(ValueError, match="there is nothing to check"):
        lstmstate.check(flat)
    with pytest.raises(LstmstateError, match="`cell=...` is for checkpoints"):
        lstmstate.check(flat, units=8, proj=5, cell="x")


def test_errors_in_a_state_name_the_parameters_of_the_function(tmp_path: Path) -> None:
    state = archive(tmp_path / "s.npz", a=numbers(1, 8), b=numbers(1, 5))
    x, target = saved(tmp_path / "x.npy", numbers(4, 3)), tmp_path / "y.npz"
    calls: dict[str, Callable[[], object]] = {
        "layout": lambda: lstmstate.load_state(state),
        "from_layout": lambda: lstmstate.run(PEEPHOLES, x, output=target, state=state),
    }
    for name, call in calls.items():
        with pytest.raises(LstmstateError, match=f"`{name}='tuple'` "):
            call()
    with pytest.raises(LstmstateError, match="cannot be written to stdout; pass the path"):
        lstmstate.convert(PEEPHOLES, "-", layout="tuple", kind="h5")


def test_convert_split_and_concat_go_there_and_back(tmp_path: Path) -> None:
    tuple_, flat, again, c, m = (
        tmp_path / name for name in ("t.npz", "f.npy", "g.npy", "c.npy", "m.npy")
    )
    lstmstate.convert(PEEPHOLES, tuple_, layout="tuple")
    lstmstate.convert(tuple_, flat, layout="flat")
    lstmstate.split(flat, [c, m])
    lstmstate.concat([c, m], again)
    expected = lstmstate.load_state(PEEPHOLES)
    for path in (tuple_, flat, again):
        assert np.array_equal(lstmstate.load_state(path).flat(), expected.flat())
    assert (np.load(c).shape, np.load(m).shape) == ((4, 8), (4, 5))
    with pytest.raises(LstmstateError, match="exists already"):
        lstmstate.convert(tuple_, flat, layout="flat")
    lstmstate.convert(tuple_, flat, layout="flat", dtype="float64", force=True)
    assert np.load(flat).dtype == np.float64
    with pytest.raises(LstmstateError, match="expected c, got m"):
        lstmstate.concat([m, c], tmp_path / "wrong.npy")
    with pytest.raises(ValueError, match="expected pairs of files, c and m, got 1 file"):
        lstmstate.concat([c], tmp_path / "wrong.npy")
    with pytest.raises(LstmstateError, match="never written over"):
        lstmstate.convert(tuple_, tuple_, layout="flat", force=True)


def test_convert_writes_the_kind_of_file_that_the_command_would_write(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    """To stdout an .npy for a layout of one array; `kind` for a name without an ending."""
    for layout, start in (("flat", b"\x93NUMPY"), ("tuple", b"PK")):
        lstmstate.convert(PEEPHOLES, "-", layout=layout)
        assert capsysbinary.readouterr().out.startswith(start)
    c, m = (saved(tmp_path / f"{name}.npy", numbers(2, 4)) for name in "cm")
    bare = tmp_path / "bare"
    lstmstate.convert(PEEPHOLES, bare, layout="flat", kind="npy")
    assert np.load(bare).shape == (4, 13)
    lstmstate.concat([c, m], bare, kind="npz", force=True)
    assert np.load(bare)["state"].shape == (2, 8)


def test_convert_writes_the_states_of_a_checkpoint_into_a_copy_of_it(tmp_path: Path) -> None:
    target = tmp_path / "new.ckpt"
    with pytest.warns(UserWarning) as caught:
        lstmstate.convert(PEEPHOLES, target, layout="tuple")
    assert "the state has other names now" in str(caught[0].message)
    with lstmstate.open_checkpoint(PEEPHOLES) as old, lstmstate.open_checkpoint(target) as new:
        assert {*new.cells} == {*old.cells}
        assert np.array_equal(new.variables[f"{CELL}/kernel"], old.variables[f"{CELL}/kernel"])
        assert {state.layout for state in new.states.values()} == {"c", "m"}


def test_choices_in_a_conversion_are_warnings_at_the_call(tmp_path: Path) -> None:
    path = saved(tmp_path / "flat.npy", numbers(2, 8))
    with pytest.warns(UserWarning, match="flat") as caught:
        lstmstate.convert(path, tmp_path / "t.npz", layout="tuple")
    assert {os.path.basename(one.filename) for one in caught} == {os.path.basename(__file__)}


def test_each_note_of_a_conversion_is_one_warning_with_its_file(tmp_path: Path) -> None:
    """m beyond 1 in a flat state without widths: one warning for the cut, one for the halves."""
    halves = [numbers(2, 4) / 100, np.full((2, 4), 40, "float32")]
    path = saved(tmp_path / "flat.npy", np.hstack(halves))
    with pytest.warns(UserWarning) as caught:
        lstmstate.convert(path, tmp_path / "t.npz", layout="tuple")
    lines = [str(one.message) for one in caught]
    assert all(line.startswith(f"{path}: ") for line in lines)
    assert ["cut in half" in line for line in lines] == [True, False]
    assert ["look swapped" in line for line in lines] == [False, True]


def test_verify_returns_trials_and_refuses_to_verify_nothing(tmp_path: Path) -> None:
    trials = lstmstate.verify(PEEPHOLES, against="graph")
    assert [(one.steps, one.agrees) for one in trials] == [(4, True), (200, True)]
    x = saved(tmp_path / "x.npy", numbers(4, 5, 3))
    (trial,) = lstmstate.verify(PEEPHOLES, x, against="graph")
    assert trial.agrees and trial.steps == 5
    assert not lstmstate.verify(PEEPHOLES, x, against="graph", forget_bias=3.0)
    prefix = checkpoint(tmp_path / "x.ckpt", lstm_cell())
    with pytest.raises(lstmstate.UnsupportedError, match="the graph cannot be evaluated"):
        lstmstate.verify(prefix, against="graph", assume_defaults=True)
    steps = saved(tmp_path / "steps.npy", numbers(4, 1, 3))
    with pytest.warns(UserWarning, match="4 sequences of one step each") as caught:
        lstmstate.verify(PEEPHOLES, steps, against="graph")
    assert [str(one.message).startswith(f"{steps}: ") for one in caught] == [True]
    with pytest.raises(ValueError, match="`against` cannot be 'jax'"):
        lstmstate.verify(PEEPHOLES, against="jax")


# ---- runs over files


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        ({}, ""),
        ({"all_states": True, "forget_bias": 2.0}, "--all-states --forget-bias 2"),
        ({"trace": True, "compress": True}, "--trace --compress"),
        ({"time_major": True, "zero_state": True}, "--time-major --zero-state"),
        ({"state_layout": "flat", "lengths": "n.npy"}, "--state-layout flat --lengths n.npy"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.filterwarnings("ignore")
def test_run_writes_the_files_of_its_command(
    shell: Shell,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    flags: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    saved(tmp_path / "x.npy", numbers(4, 4, 3))
    saved(tmp_path / "n.npy", np.array([4, 3, 0, 1]))
    given = {"state": PEEPHOLES} if "zero_state" not in options else {}
    words = ["--state", PEEPHOLES] if given else []
    outputs = ["-o", "a.npz", "--state-out", "b.npz"]
    assert shell("run", PEEPHOLES, "x.npy", *words, *outputs, *flags.split()).code == 0
    files: dict[str, Any] = {"output": "c.npz", "state_out": "d.npz"}
    state = lstmstate.run(PEEPHOLES, "x.npy", **files, **given, **options)
    assert Path("a.npz").read_bytes() == Path("c.npz").read_bytes()
    assert Path("b.npz").read_bytes() == Path("d.npz").read_bytes()
    assert lstmstate.load_state("d.npz").allclose(state)


def test_run_warns_and_never_writes_over_its_input(tmp_path: Path) -> None:
    x = saved(tmp_path / "x.npy", numbers(4, 4, 3))
    with pytest.warns(UserWarning, match="the graph starts from a state of its own"):
        lstmstate.run(PEEPHOLES, x, output=tmp_path / "y.npz")
    again = {"state_out": x, "state_layout": "flat"}
    for options in ({"output": x}, {"output": tmp_path / "z.npz", **again}):
        with pytest.raises(LstmstateError, match="this is the input"):
            lstmstate.run(PEEPHOLES, x, zero_state=True, force=True, **options)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"state": x, "zero_state": True}, "contradict one another"),
        ({"state_layout": "flat"}, "layout of `state_out`"),
        ({"from_layout": "flat"}, "layout of `state`"),
        ({"state_out": x, "state_layout": "round"}, "no layout 'round'"),
    ]
    for options, words in wrong:
        with pytest.raises(ValueError, match=words):
            lstmstate.run(PEEPHOLES, x, output=tmp_path / "z.npz", **options)
    assert sorted(os.listdir(tmp_path)) == ["x.npy", "y.npz"]


REFUSED: list[tuple[str, str, dict[str, Any]]] = [
    *(("check", "max_abs_m", {"max_abs_m": value}) for value in (float("nan"), -1, "3", True)),
    *(("check", "units", {"units": value}) for value in (0, -8, 8.5, "8", True)),
    *(("check", "proj", {"proj": value}) for value in (-1, "5")),
    *(("check", "cells", {"cells": value}) for value in (-1, "2", [8], [(0, 8)], [(8.0, 5.0)])),
    *(("check", name, {name: "nope"}) for name in ("layout", "finite", "era", "forget_bias")),
    *(("compare", name, {name: n}) for name in ("rtol", "atol") for n in (-1, float("nan"), "1")),
    ("compare", "cells", {"cells": [8]}),
    *(("verify", "tolerance", {"tolerance": value}) for value in (-1, float("nan"))),
    *(("verify", "seed", {"seed": value}) for value in (-1, 1.5)),
    ("verify", "lengths", {"lengths": "x.npy"}),
    ("verify", "time_major", {"time_major": True}),
    ("verify", "seed", {"seed": 1, "inputs": "x.npy"}),
    *(("convert", "dtype", {"dtype": value}) for value in ("int8", bool, "U3", "c8", "nope")),
    *((name, "kind", {"kind": kind}) for name in ("convert", "concat") for kind in ("nope", "")),
    ("convert", "compress", {"compress": True}),
    ("concat", "compress", {"compress": True}),
    *(
        ("load_state", "cells", {"cells": cells})
        for cells in ([], [(1 << 41, 8)], [(1, 1)] * 10001)
    ),
    ("load_state", "checkpoint", {"cells": [(8, 5)], "checkpoint": PEEPHOLES}),
    ("split", "targets", {"targets": "c.npy"}),
    ("concat", "halves", {"halves": "c.npy"}),
]


@pytest.mark.parametrize(("name", "parameter", "given"), REFUSED)
def test_values_that_a_parameter_cannot_have_are_refused(
    tmp_path: Path, name: str, parameter: str, given: dict[str, Any]
) -> None:
    half, target = saved(tmp_path / "half.npy", numbers(2, 4)), tmp_path / "out.npy"
    first: dict[str, dict[str, Any]] = {
        "check": {"path": PEEPHOLES},
        "compare": {"a": half, "b": half},
        "verify": {"checkpoint": PEEPHOLES, "against": "graph"},
        "convert": {"source": PEEPHOLES, "target": target, "layout": "flat"},
        "split": {"source": PEEPHOLES},
        "concat": {"halves": [half, half], "target": target},
        "load_state": {"path": PEEPHOLES},
    }
    with pytest.raises(ValueError, match=parameter.replace("compress", "only .npz")) as caught:
        getattr(lstmstate, name)(**first[name] | given)
    assert isinstance(caught.value, LstmstateError) and "\n" not in str(caught.value)
    assert not target.exists()


@pytest.mark.parametrize(
    ("call", "parameter"),
    [
        (lambda path, other: lstmstate.load_state(path), "layout"),
        (lambda path, other: lstmstate.convert(path, other, layout="tuple"), "from_layout"),
        (lambda path, other: lstmstate.split(path, [other] * 2), "from_layout"),
        (lambda path, other: lstmstate.check(path, finite=True), "from_layout"),
    ],
)
def test_errors_name_the_parameter_of_their_function(
    call: Callable[[Path, Path], object], parameter: str, tmp_path: Path
) -> None:
    path = saved(tmp_path / "odd.npy", numbers(2, 4, 4))
    with pytest.raises(lstmstate.AmbiguousError, match=f"pass `{parameter}='layered'`"):
        call(path, tmp_path / "new.npz")


def test_split_into_no_files_is_refused() -> None:
    with pytest.raises(LstmstateError, match="the state has 1 cell and there are 0 files"):
        lstmstate.split(PEEPHOLES, [])


@pytest.mark.parametrize("c", [[[1, 2]], [[1.0, 2]], ((1, 2),), np.array([[1.0, 2.0]])])
def test_lists_of_numbers_have_one_dtype(c: Any) -> None:
    state = LSTMState(c, [[0.5, 0]])
    assert (state.dtype, state.flat().tolist()) == (np.float64, [[1, 2, 0.5, 0]])
    assert LSTMState.from_flat([1, 2, 3, 4], 2).dtype == np.float64
    assert LSTMState(np.ones((1, 2), int), np.ones((1, 2), int)).dtype == int


def test_states_are_numbers_of_positive_widths(tmp_path: Path) -> None:
    state: Any = LSTMState([[1.0]], [[2.0]])
    for call in (
        lambda: LSTMState([["a"]], [["b"]]),
        lambda: LSTMState.from_flat([[1.0, 2.0, 3.0, 4.0]], 5, -1),
        lambda: StackState([state, ([[1.0]], [[2.0]])]),
        lambda: state.allclose([[1.0], [2.0]]),
        lambda: lstmstate.save_state([[1.0], [2.0]], tmp_path / "x.npz"),  # type: ignore[list-item]
    ):
        with pytest.raises(ValueError) as caught:
            call()
        assert isinstance(caught.value, LstmstateError)


# ---- errors


def test_errors_are_built_in_ones_too(tmp_path: Path) -> None:
    ckpt = lstmstate.open_checkpoint(PEEPHOLES)
    cell = ckpt.cells[CELL]
    state, there = LSTMState([[1.0]], [[1.0]]), tmp_path / "there.npy"
    there.touch()
    (tmp_path / "new.ckpt.meta").touch()
    for kind, call in (
        (FileNotFoundError, lambda: lstmstate.open_checkpoint(tmp_path / "gone")),
        (FileNotFoundError, lambda: lstmstate.save_state(state, tmp_path / "no" / "x.npz")),
        (FileExistsError, lambda: lstmstate.save_state(state, there, layout="flat")),
        (FileExistsError, lambda: lstmstate.convert(PEEPHOLES, there, layout="flat")),
        (FileExistsError, lambda: lstmstate.save_state(state, tmp_path / "new.ckpt")),
        (FileNotFoundError, lambda: lstmstate.load_state(tmp_path / "gone.npz")),
        (LookupError, lambda: ckpt.cell("gone")),
        (LookupError, lambda: ckpt.network(stack="gone")),
        (ValueError, lambda: cell.run(numbers(2, 2))),
        (ValueError, lambda: cell.run(numbers(2, 3), lengths=[9, 9])),
        (ValueError, lambda: cell.run(numbers(2, 3), LSTMState([[1.0]], [[1.0]]))),
        (ValueError, lambda: cell.run(numbers(2, 3), activation="gelu")),
        (ValueError, lambda: cell.run(numbers(2, 3), engine="jax")),
        (ValueError, lambda: cell.run(numbers(2, 3), outputs="n")),
        (ValueError, lambda: LSTMState([1.0], [[1.0]])),
        (ValueError, lambda: lstmstate.load_state(PEEPHOLES, layout="tupel")),
    ):
        with pytest.raises(kind) as caught:
            call()
        assert isinstance(caught.value, LstmstateError)
        assert str(caught.value).count("\n") == 0
    with pytest.raises(FileNotFoundError) as missing:
        lstmstate.open_checkpoint(tmp_path / "gone")
    assert missing.value.filename == str(tmp_path / "gone")


def test_an_unknown_option_is_an_exported_error() -> None:
    error = lstmstate.UnknownOptionError("unknown", ["a"], assumable=True, tensor="t")
    assert isinstance(error, lstmstate.AmbiguousError)
    assert str(error) == "t: unknown; give `a=...`, or `assume_defaults=True`"


# ---- help


def test_the_help_of_the_package_is_short_and_shows_the_parameters() -> None:
    text = pydoc.plain(pydoc.render_doc(lstmstate))
    assert len(text.splitlines()) < 600
    for word in ("forget_bias: 'float | Recorded' = RECORDED", "run_chunks(", "__getnewargs__"):
        assert (word in text) == (word[0] != "_")


def test_a_warning_names_the_line_of_the_caller(peepholes: lstmstate.LSTMCheckpoint) -> None:
    cell = peepholes.cells[CELL]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cell.run(numbers(4, 3))
        lstmstate.open_checkpoint(PEEPHOLES).network().step(numbers(2, 3))
        list(lstmstate.open_checkpoint(PEEPHOLES).network().run_chunks([numbers(2, 3)]))
    assert len(caught) == 3
    assert {one.filename for one in caught} == {__file__}


# ---- named tuples whose annotations are not compiled, otherwise like those of `typing`


class Pair(named_tuple.NamedTuple):
    """Two numbers."""

    first: int
    second: int | None = 7

    @property
    def total(self) -> int:
        """Their sum."""
        return self.first + (self.second or 0)

    @classmethod
    def of(cls, number: int) -> Pair:
        """Return a number twice."""
        return cls(number, number)


class TypedPair(Typed):
    """Two numbers."""

    first: int
    second: int | None = 7


def test_records_have_fields_defaults_and_methods() -> None:
    pair = Pair(3)
    assert pair == (3, 7) and (pair.first, pair.second, pair.total) == (3, 7, 10)
    assert Pair.of(2) == Pair(first=2, second=2)
    assert repr(pair._replace(second=None)) == "Pair(first=3, second=None)"
    assert Pair.__doc__ == "Two numbers."


def test_records_have_the_description_of_named_tuples() -> None:
    for name in ("_fields", "_field_defaults", "__module__", "__bases__"):
        assert getattr(Pair, name) == getattr(TypedPair, name), name
    assert list(Pair.__annotations__) == list(TypedPair.__annotations__)
    assert type(Pair) is type(TypedPair) is type
    assert Pair.__match_args__ == TypedPair.__match_args__


def test_records_can_be_inherited_from() -> None:
    class Triple(Pair):
        """A pair with another sum."""

        @property
        def total(self) -> int:
            return super().total + 1

    assert Triple(1, 2).total == 4 and isinstance(Triple(1, 2)._replace(first=2), Triple)


def test_a_record_needs_every_field() -> None:
    with pytest.raises(TypeError, match="first"):
        Pair()  # type: ignore[call-arg]


def test_annotations_of_records_are_not_compiled() -> None:
    compiled: list[str] = []
    is_on = True

    def note(event: str, arguments: tuple[object, ...]) -> None:
        if is_on and event == "compile" and arguments[0]:
            source = arguments[0]
            compiled.append(source.decode() if isinstance(source, bytes) else str(source))

    sys.addaudithook(note)
    body = (
        "def make(kind):\n    class One(kind):\n        field: 'list[int] | None'\n    return One"
    )
    names: dict[str, object] = {"__name__": "made"}
    exec(compile(body, "made", "exec"), names)
    make = names["make"]
    assert callable(make)
    compiled.clear()
    make(named_tuple.NamedTuple)
    own = [text for text in compiled if "list[int]" in text]
    compiled.clear()
    make(Typed)
    is_on = False
    assert not own and [text for text in compiled if "list[int]" in text]


def test_a_brief_record_lists_its_own_methods_and_stays_a_tuple() -> None:
    brief = named_tuple.brief(Pair)
    assert dir(brief) == ["of"]
    pair = brief(3)
    assert pair == (3, 7) == pickle.loads(pickle.dumps(Pair(3)))
    assert pair._replace(second=1).total == 4 and "second" in dir(pair)
    assert brief.__doc__ == Pair.__doc__ and brief.__bases__ == (tuple,)


def test_one_array_is_not_taken_for_chunks_of_it() -> None:
    ckpt = lstmstate.open_checkpoint(SUNSPOTS)
    with pytest.raises(ValueError, match="expected `chunks` to be several arrays, got one"):
        ckpt.network().run_chunks(np.ones((3, 5, 1)))


@pytest.mark.parametrize("batch", [-1, 0, 2.5, True])
def test_a_zero_state_is_that_of_a_batch(batch: Any) -> None:
    ckpt = lstmstate.open_checkpoint(SUNSPOTS)
    with pytest.raises(ValueError, match="expected `batch` to be a whole number above 0"):
        ckpt.network().zero_state(batch)


def test_names_of_commands_lead_to_functions() -> None:
    with pytest.raises(AttributeError, match="no attribute 'diff'; it is called compare"):
        _ = lstmstate.diff
