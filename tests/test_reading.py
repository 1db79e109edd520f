"""State files: the sources of their layout and widths, and ambiguous files."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from builders import BundleBuilder
from commands import saved
from conftest import SAMPLES
from states import Array, Shape, cells_of, reading, state_of

from lstmstate import (
    AmbiguousError,
    LSTMState,
    LstmstateError,
    StackState,
    convert,
    load_state,
    save_state,
)
from lstmstate.cells.cell import StateWidths
from lstmstate.errors import ArgumentError
from lstmstate.state.candidates import Cells
from lstmstate.state.layouts import LAYOUTS, to_arrays

pytestmark = pytest.mark.filterwarnings("ignore:.*(cut in half|is read as layered):UserWarning")

SUNSPOTS = str(SAMPLES / "sunspots")  # a stack of 24 and 12 units
PEEPHOLE = str(SAMPLES / "peephole_flat")  # a cell of 8 units, projected to 5


def numbered(*shape: int) -> Array:
    """Return an array whose values show their position."""
    return np.arange(np.prod(shape), dtype="f4").reshape(shape)


def cells(*widths: tuple[int, int], stack: bool | None = None) -> Cells:
    found = Cells.of_widths([StateWidths(*pair) for pair in widths])
    return found if stack is None else found._replace(is_stack=stack)


def widths_of(path: Path | str, **wanted: Any) -> list[tuple[int, int]]:
    return [tuple(cell.widths) for cell in reading(path, **wanted).structure.cells]


# ---- sources of widths


def test_a_flag_sets_the_widths(tmp_path: Path) -> None:
    flat = numbered(2, 13)
    path = saved(tmp_path / "a.npy", flat)
    state = load_state(path, cells=[(8, 5)])
    assert isinstance(state, LSTMState)
    assert (state.c.tolist(), state.m.tolist()) == (flat[:, :8].tolist(), flat[:, 8:].tolist())
    found = reading(path, each=(8, 5))
    assert (found.structure.cells[0].widths, found.notes) == ((8, 5), ())


def test_a_flag_sets_the_widths_of_a_stack(tmp_path: Path) -> None:
    flat = numbered(2, 14)
    state = load_state(saved(tmp_path / "a.npy", flat), cells=[(4, 3), (4, 3)])
    assert isinstance(state, StackState)
    halves = [half for cell in state for half in cell]
    starts = [(0, 4), (4, 7), (7, 11), (11, 14)]
    assert [h.tolist() for h in halves] == [flat[:, a:b].tolist() for a, b in starts]


def test_a_flag_overrides_equal_halves(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.npy", numbered(2, 12))
    assert widths_of(path) == [(6, 6)]
    assert widths_of(path, each=(8, 4)) == [(8, 4)]
    assert widths_of(path, cells=(cells((3, 3), (4, 2)),)) == [(3, 3), (4, 2)]


def test_metadata_overrides_equal_halves(tmp_path: Path) -> None:
    for widths in ([(8, 4)], [(3, 3), (3, 3)], [(6, 6)]):
        stack = len(widths) > 1
        state = state_of(widths, stack=stack)
        save_state(state, tmp_path / "a.npy", layout="flat", force=True)
        found = reading(tmp_path / "a.npy")
        assert widths_of(tmp_path / "a.npy") == widths
        assert (found.notes, found.is_halved) == ((), False)


def test_a_checkpoint_supplies_widths_and_names(tmp_path: Path) -> None:
    one = load_state(saved(tmp_path / "one.npy", numbered(2, 13)), checkpoint=PEEPHOLE)
    assert isinstance(one, LSTMState)
    assert (one.widths, one.cell) == ((8, 5), "rnn/lstm_cell")
    two = load_state(saved(tmp_path / "two.npy", numbered(2, 72)), checkpoint=SUNSPOTS)
    assert isinstance(two, StackState)
    names = [f"rnn/multi_rnn_cell/cell_{k}/basic_lstm_cell" for k in (0, 1)]
    assert [(cell.cell, cell.widths.c) for cell in two] == [(names[0], 24), (names[1], 12)]


def test_the_cell_of_a_checkpoint_that_fits_is_used(tmp_path: Path) -> None:
    state = load_state(saved(tmp_path / "a.npy", numbered(2, 24)), checkpoint=SUNSPOTS)
    assert isinstance(state, LSTMState)
    assert (state.widths, state.cell[-17:]) == ((12, 12), "1/basic_lstm_cell")


def test_widths_and_a_checkpoint_together_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.npy", numbered(2, 13))
    with pytest.raises(ArgumentError, match="both `cells` and `checkpoint` are given"):
        load_state(path, cells=[(7, 6)], checkpoint=PEEPHOLE)


def test_by_default_a_flat_state_is_halved_with_a_note(tmp_path: Path) -> None:
    found = reading(saved(tmp_path / "a.npy", numbered(2, 12)))
    assert found.is_halved
    assert found.notes == (
        "the widths of this flat state are unknown: it is cut in half, c 6 and m 6",
    )


def bundle(path: Path, *cells: tuple[str, int, int | None]) -> str:
    """Write a checkpoint of LSTMCells (name, units, projection) of 3 inputs."""
    made = BundleBuilder()
    for name, units, proj in cells:
        made.add(f"{name}/kernel", np.zeros((3 + (proj or units), 4 * units), "f4"))
        made.add(f"{name}/bias", np.zeros(4 * units, "f4"))
        if proj:
            made.add(f"{name}/projection/kernel", np.zeros((units, proj), "f4"))
    return made.write(path)


def test_cells_of_equal_widths_need_no_choice_and_give_no_name(tmp_path: Path) -> None:
    ckpt = bundle(tmp_path / "m", ("a/lstm_cell", 4, None), ("b/lstm_cell", 4, None))
    state = load_state(saved(tmp_path / "a.npy", numbered(2, 8)), checkpoint=ckpt)
    assert (cells_of(state)[0].widths, cells_of(state)[0].cell) == ((4, 4), "")


# ---- refusals and their remedies


def refused(path: Path | str, *words: str, **wanted: Any) -> LstmstateError:
    with pytest.raises(LstmstateError) as raised:
        reading(path, **wanted)
    for word in words:
        assert word in str(raised.value)
    assert str(path).partition(":")[0] in str(raised.value)
    return raised.value


FLAGS = ("`cells=...`", "`checkpoint=...`")


def test_an_odd_width_is_refused(tmp_path: Path) -> None:
    refused(saved(tmp_path / "a.npy", numbered(2, 13)), "13 wide", *FLAGS)


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"each": (8, 5)}, ("it is 12 wide, and c 8 + m 5 are 13",)),
        ({"each": (5, 5)}, ("it is 12 wide, and c 5 + m 5 are 10",)),
        ({"cells": (cells((6, 5)),)}, ("c 6 + m 5 are 11", "the argument cells")),
        (
            {"cells": (cells((3, 3), (4, 4)),)},
            ("c 3 + m 3 + c 4 + m 4 are 14", "the argument cells"),
        ),
    ],
)
def test_widths_that_the_data_contradict(
    tmp_path: Path, wanted: Any, words: tuple[str, ...]
) -> None:
    refused(saved(tmp_path / "a.npy", numbered(2, 12)), *words, **wanted)


def test_a_checkpoint_that_the_data_contradict(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.npy", numbered(2, 12))
    with pytest.raises(LstmstateError, match=r"it is 12 wide, and c 8 \+ m 5 are 13 \(by .*peep"):
        load_state(path, checkpoint=PEEPHOLE)
    with pytest.raises(LstmstateError, match=r"\[2, 12\] fits none of the cells \(24,12; 24; 12\)"):
        load_state(path, checkpoint=SUNSPOTS)


@pytest.mark.parametrize("layout", ["flat", "tuple", "keras"])
@pytest.mark.parametrize(
    "wanted",
    [
        {"each": (7, 6)},
        {"each": (13, 13)},
        {"cells": (cells((7, 6)),)},
        {"cells": (cells((8, 5), stack=True),)},
        {"cells": (cells((4, 2), (4, 3)),)},
    ],
)
def test_flags_that_the_file_itself_contradicts(tmp_path: Path, layout: str, wanted: Any) -> None:
    save_state(state_of([(8, 5)], stack=False), tmp_path / "a.npz", layout=layout)
    assert widths_of(tmp_path / "a.npz", each=(8, 5)) == [(8, 5)]
    if wanted == {"cells": (cells((8, 5), stack=True),)}:
        assert widths_of(tmp_path / "a.npz", **wanted) == [(8, 5)]  # a stack of this one cell
        return
    refused(tmp_path / "a.npz", **wanted)


def test_a_layout_that_the_file_itself_contradicts(tmp_path: Path) -> None:
    save_state(state_of([(4, 4)], stack=False), tmp_path / "a.npy", layout="stacked")
    refused(tmp_path / "a.npy", "'stacked'", "expected 'flat' by `layout=...`", layout="flat")


def test_a_checkpoint_of_which_several_cells_fit(tmp_path: Path) -> None:
    ckpt = bundle(tmp_path / "m", ("a/lstm_cell", 4, None), ("b/lstm_cell", 5, 3))
    path = saved(tmp_path / "a.npy", numbered(2, 8))
    with pytest.raises(AmbiguousError, match=r"several of the cells \(4; 5:3\)") as raised:
        load_state(path, checkpoint=ckpt)
    for flag in FLAGS:
        assert flag in str(raised.value)


@pytest.mark.parametrize(
    ("shape", "layouts"),
    [
        ((2, 3, 4), {"layered", "keras"}),  # c first, or h first as Keras and PyTorch have it
        ((2, 1, 4), {"layered", "keras"}),
        ((2, 2, 5), {"layered", "keras", "stacked"}),
        ((3, 2, 2, 4), {"layered", "stacked"}),  # [L, 2, batch, units] or [.., .., 2, units]
        ((2, 2, 2, 4), {"layered", "stacked"}),
    ],
)
def test_an_ambiguous_axis_of_two(tmp_path: Path, shape: Shape, layouts: set[str]) -> None:
    path = saved(tmp_path / "a.npy", numbered(*shape))
    error = refused(path, str(list(shape)), *(f"`layout='{layout}'`" for layout in layouts))
    assert isinstance(error, AmbiguousError)
    for layout in layouts:  # each of them decides
        known = {"cells": (cells((5, 5)),)} if shape == (2, 2, 5) else {}
        assert reading(path, layout=layout, **known).layout.name == layout


def test_two_pairs_may_be_one_cell_or_two_without_a_batch(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.npy", numbered(2, 2, 4))
    error = refused(path, "[2, 2, 4]", "`cells=WIDTHS`", layout="layered")
    assert isinstance(error, AmbiguousError)
    one = reading(path, layout="layered", cells=(cells((4, 4)),)).structure
    assert (one.is_stack, one.lead) == (False, (2,))
    two = reading(path, layout="layered", cells=(cells((4, 4), (4, 4)),)).structure
    assert (two.is_stack, two.lead) == (True, ())


@pytest.mark.parametrize("layout", ["layered", "keras", "tuple", "torch"])
def test_the_layout_decides_which_half_is_first(tmp_path: Path, layout: str) -> None:
    both = numbered(2, 3, 4)
    state = load_state(saved(tmp_path / "a.npy", both), layout=layout)
    halves = cells_of(state)
    c_at = {"layered": 0, "tuple": 0, "keras": 1, "torch": 1}[layout]
    if layout == "torch":  # h_n [3, 4] and c_n [3, 4]: three layers without a batch
        assert len(halves) == 3
        assert [cell.c.tolist() for cell in halves] == both[1].tolist()
        return
    assert halves[0].c.tolist() == both[c_at].tolist()
    assert halves[0].m.tolist() == both[1 - c_at].tolist()


def test_arrays_without_names(tmp_path: Path) -> None:
    one, other = numbered(2, 4), numbered(2, 4) + 50
    np.savez(tmp_path / "a.npz", one, other)
    words = ("got 2 arrays", "arr_0 [2, 4], arr_1 [2, 4]", "`layout='tuple'`", "keras", "torch")
    assert isinstance(refused(tmp_path / "a.npz", "FILE:NAME", *words), AmbiguousError)
    for layout, c in (("tuple", one), ("keras", other)):
        state = load_state(tmp_path / "a.npz", layout=layout)
        assert cells_of(state)[0].c.tolist() == c.tolist()


def test_a_flat_state_next_to_c_and_m(tmp_path: Path) -> None:
    c, flat = numbered(2, 4), numbered(2, 8) + 50
    np.savez(tmp_path / "a.npz", c=c, m=c, state=flat)
    path = tmp_path / "a.npz"
    assert isinstance(
        refused(path, "c and m and 'state'", "FILE:NAME", "`layout=...`"), AmbiguousError
    )
    assert load_state(path, layout="tuple").c.tolist() == c.tolist()
    assert load_state(path, layout="flat").flat().tolist() == flat.tolist()
    assert load_state(f"{path}:state").flat().tolist() == flat.tolist()


@pytest.mark.parametrize("kind", ["npz", "h5"])
@pytest.mark.parametrize(("there", "missing"), [("c", "m"), ("h", "c"), ("rnn/c_state", "m")])
def test_one_half_alone(tmp_path: Path, kind: str, there: str, missing: str) -> None:
    path = tmp_path / f"a.{kind}"
    if kind == "npz":
        np.savez(path, **{there: numbered(2, 4)})
    else:
        with h5py.File(path, "w") as file:
            file[there] = numbered(2, 4)
    refused(path, there, f"got {'c' if missing == 'm' else 'm'} alone", "lstmstate concat C M")


def test_a_file_without_a_state(tmp_path: Path) -> None:
    h5_of(tmp_path / "a.h5", {})
    refused(tmp_path / "a.h5", "there is no state in it; its arrays are: none")


@pytest.mark.parametrize("layout", ["flat", "stacked", "layered", "torch"])
def test_an_array_that_does_not_fit_the_requested_layout(tmp_path: Path, layout: str) -> None:
    path = saved(tmp_path / "a.npy", numbered(3, 5))
    refused(path, layout=layout)


# ---- names and shapes from other programs


@pytest.mark.parametrize("layout", ["tuple", "keras"])
def test_names_identify_the_halves_in_any_layout(tmp_path: Path, layout: str) -> None:
    c, m = numbered(2, 4), numbered(2, 4) + 50
    np.savez(tmp_path / "a.npz", c=c, h=m)
    state = load_state(tmp_path / "a.npz", layout=layout)
    assert isinstance(state, LSTMState)
    assert (state.c.tolist(), state.m.tolist()) == (c.tolist(), m.tolist())


def h5_of(path: Path, arrays: dict[str, Array]) -> None:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array


@pytest.mark.parametrize("kind", ["npz", "h5"])
@pytest.mark.parametrize("name", ["{half}{k}", "{half}_{k}", "layer_{k}/{half}", "cell_{k}/{half}"])
def test_numbers_set_the_order_of_cells(tmp_path: Path, kind: str, name: str) -> None:
    """Cell 10 follows cell 9, also in a file that sorts its names as text."""
    arrays = {}
    for k in range(12):
        for half in "cm":
            place = name.format(half=half, k=k)
            arrays[place] = np.full((2, 3), k + (0.5 if half == "m" else 0.0))
    path = tmp_path / f"a.{kind}"
    h5_of(path, arrays) if kind == "h5" else np.savez(path, **arrays)
    state = load_state(path)
    assert isinstance(state, StackState)
    assert [cell.c[0, 0] for cell in state] == [*range(12)]
    assert [cell.m[0, 0] for cell in state] == [k + 0.5 for k in range(12)]


def test_torch_names_identify_its_layers(tmp_path: Path) -> None:
    h, c = numbered(2, 3, 4), numbered(2, 3, 5) + 50
    np.savez(tmp_path / "a.npz", c_n=c, h_n=h)
    state = load_state(tmp_path / "a.npz")
    assert isinstance(state, StackState)
    assert [cell.c.tolist() for cell in state] == c.tolist()
    assert [cell.m.tolist() for cell in state] == h.tolist()


@pytest.mark.parametrize("layers", [1, 3])
def test_the_pattern_of_tutorials(tmp_path: Path, layers: int) -> None:
    """np.save of a state from session.run: a tuple of LSTMStateTuples of one width."""
    pairs = tuple((numbered(5, 4) + 100 * k, numbered(5, 4) + 100 * k + 50) for k in range(layers))
    path = saved(tmp_path / "a.npy", pairs)
    state = load_state(path)
    assert isinstance(state, StackState)
    for cell, (c, m) in zip(state, pairs, strict=True):
        assert (cell.c.tolist(), cell.m.tolist()) == (c.tolist(), m.tolist())
    note = f"[{layers}, 2, 5, 4] is read as layered: [L, 2, batch, units], c first"
    assert reading(path).notes == (note,)
    assert reading(path, layout="layered").notes == ()


def test_an_array_with_a_pair_after_the_batch_is_stacked_or_flat(tmp_path: Path) -> None:
    both = numbered(5, 2, 4)
    path = saved(tmp_path / "a.npy", both)
    assert isinstance(refused(path, "`layout='stacked'`", "`layout='flat'`"), AmbiguousError)
    assert reading(path, each=(2, 2)).layout.name == "flat"
    assert reading(path, each=(4, 4)).layout.name == "stacked"
    state = load_state(path, layout="stacked")
    assert isinstance(state, LSTMState)
    assert (state.c.tolist(), state.m.tolist()) == (both[:, 0].tolist(), both[:, 1].tolist())


def test_widths_distinguish_two_flat_steps_from_a_pair(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.npy", numbered(2, 5, 8))
    assert reading(path, each=(4, 4)).layout.name == "flat"
    assert reading(path, each=(5, 3)).layout.name == "flat"
    refused(path, "`layout='layered'`", "`layout='keras'`", each=(8, 8))


def test_an_order_that_no_value_shows_is_noted(tmp_path: Path) -> None:
    """m of a cell without a projection stays within 1, c does not have to."""
    pair = np.array([[[[0.5, 0.25]], [[-0.5, 1.0]]]], "f4")  # [1, 2, 1, 2]
    np.save(tmp_path / "a.npy", pair)
    for layout, other, c_at in (("layered", "hc", 0), ("hc", "layered", 1)):
        with pytest.warns(UserWarning, match=f"read as {layout} .*, and {other} is the other one"):
            convert(
                tmp_path / "a.npy", tmp_path / f"{layout}.npz", from_layout=layout, layout="tuple"
            )
        assert load_state(tmp_path / f"{layout}.npz").cells[0].c.tolist() == pair[0, c_at].tolist()
    pair[0, 1, 0, 0] = -2
    np.save(tmp_path / "b.npy", pair)
    convert(tmp_path / "b.npy", tmp_path / "b.npz", from_layout="hc", layout="tuple")
    with pytest.warns(UserWarning, match="c and m look swapped"):
        convert(tmp_path / "b.npy", tmp_path / "c.npz", from_layout="layered", layout="tuple")


@pytest.mark.parametrize("layout", [one.name for one in LAYOUTS.values() if one.in_halves])
def test_arrays_without_names_are_in_the_order_of_the_layout(tmp_path: Path, layout: str) -> None:
    state = state_of([(3, 3)] * 2, (2,))
    arrays = to_arrays(LAYOUTS[layout], state)
    np.savez(tmp_path / "a.npz", *arrays.values())
    found = load_state(tmp_path / "a.npz", layout=layout)
    assert found.flat().tobytes() == state.flat().tobytes()


@pytest.mark.parametrize(
    ("layout", "words"),
    [("keras", "Keras"), ("tfjs", "TensorFlow.js"), ("onnx", "ONNX's LSTM"), ("sonnet", None)],
)
def test_a_projection_that_the_program_does_not_have_is_noted(
    tmp_path: Path, layout: str, words: str | None
) -> None:
    save_state(state_of([(3, 2)], stack=False), tmp_path / "a.npz")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        convert(tmp_path / "a.npz", tmp_path / "b.npz", layout=layout)
    noted = [str(one.message) for one in caught if "without a projection" in str(one.message)]
    assert len(noted) == (words is not None)
    assert all(str(words) in line and "c 3 and h 2" in line for line in noted)
