"""LSTMs of other libraries, recognised by the names of their variables without a graph.

Each is compared with its library's equations, restated here step by step in float64 with gates
in the order of the library: dm-sonnet 1.36 and 2.0.2, stable-baselines 2.10.2, lingvo 0.6.6,
returnn 1.20201223.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from itertools import permutations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import writers
from commands import Array, Shell, checkpoint, error, notes, numbers
from conftest import SHARED
from writers import Shape

from lstmstate import LSTMCell, open_checkpoint
from lstmstate.cells import Option
from lstmstate.state.state import LSTMState

I, U, P, B, T = 3, 5, 2, 2, 6  # noqa: E741 - inputs, units, projection, batch, steps
Values = Mapping[str, Array]
Step = Callable[[Values, Array, Array, Array], tuple[Array, Array]]


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


# ---- a step of each library: variables, x, c and m to the new c and m


def sonnet_1(v: Values, x: Array, c: Array, m: Array) -> tuple[Array, Array]:
    """gated_rnn.py, LSTM._build, with the forget_bias 1 of its default."""
    i, j, f, o = np.split(np.concatenate([x, m], 1) @ v["w_gates"] + v["b_gates"], 4, 1)
    c = sigmoid(f + 1) * c + sigmoid(i) * np.tanh(j)
    m = np.tanh(c) * sigmoid(o)
    return c, m @ v["w_h_projection"] if "w_h_projection" in v else m


def sonnet_2(v: Values, x: Array, c: Array, m: Array) -> tuple[Array, Array]:
    """recurrent.py, _lstm_fn."""
    i, f, g, o = np.split(x @ v["_w_i"] + m @ v["_w_h"] + v["b"], 4, 1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    m = sigmoid(o) * np.tanh(c)
    return c, m @ v["projection"] if "projection" in v else m


def baselines(v: Values, x: Array, c: Array, m: Array) -> tuple[Array, Array]:
    """tf_layers.py, lstm, where all masks are 1."""
    i, f, o, u = np.split(x @ v["wx"] + m @ v["wh"] + v["b"], 4, 1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(u)
    return c, sigmoid(o) * np.tanh(c)


def lingvo(v: Values, x: Array, c: Array, m: Array) -> tuple[Array, Array]:
    """rnn_cell.py, LSTMCellSimple, with the cell_value_cap 10 of its default."""
    kernel = v["wm/var"] * v.get("mask/var", 1)
    z = np.concatenate([x, m], 1) @ kernel + v["b/var"]
    if z.shape[1] == 4 * c.shape[1]:
        j, i, f, o = np.split(z, 4, 1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(j)
    else:  # coupled
        j, f, o = np.split(z, 3, 1)
        c = sigmoid(f) * c + np.tanh(j) - np.tanh(j) * sigmoid(f)
    c = np.clip(c, -10, 10)
    m = sigmoid(o) * np.tanh(c)
    return c, m @ v["w_proj/var"] if "w_proj/var" in v else m


def returnn(v: Values, x: Array, c: Array, m: Array) -> tuple[Array, Array]:
    """rec.py, _get_output_native_rec_op, and NativeLstm2."""
    j, i, f, o = np.split(x @ v["W"] + m @ v["W_re"] + v["b"], 4, 1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(j)
    return c, sigmoid(o) * np.tanh(c)


class Case(NamedTuple):
    """A cell: its family, its step, and the shapes of its variables below a scope."""

    family: str
    step: Step
    scope: str
    shapes: dict[str, Shape]
    width: int = U
    given: dict[str, Any] = {}  # noqa: RUF012 - what has to be accepted


def apart(kernel: str, recurrent: str, bias: str, width: int = U) -> dict[str, Shape]:
    return {kernel: (I, 4 * U), recurrent: (width, 4 * U), bias: (4 * U,)}


def joined(kernel: str, bias: str, width: int = U, gates: int = 4) -> dict[str, Shape]:
    return {kernel: (I + width, gates * U), bias: (gates * U,)}


ACCEPTED = {"assume_defaults": True}
SONNET_1, SONNET_2 = joined("w_gates", "b_gates"), apart("_w_i", "_w_h", "b")
LINGVO = joined("wm/var", "b/var")
COUPLED = {"wm/var": (I + U, 3 * U), "b/var": (3 * U,)}
SIMPLE = ("lingvo LSTMCellSimple", lingvo)
CASES = {
    "sonnet 1": Case("Sonnet 1 LSTM", sonnet_1, "net/lstm", SONNET_1),
    "sonnet 1 named": Case("Sonnet 1 LSTM", sonnet_1, "my_core", SONNET_1),
    "sonnet 1 projected": Case(
        "Sonnet 1 LSTM",
        sonnet_1,
        "lstm",
        joined("w_gates", "b_gates", P) | {"w_h_projection": (U, P)},
        P,
    ),
    "sonnet 2": Case("Sonnet 2 LSTM", sonnet_2, "core", SONNET_2),
    "sonnet 2 in a stack": Case("Sonnet 2 LSTM", sonnet_2, "net/_layers/0", SONNET_2),
    "sonnet 2 projected": Case(
        "Sonnet 2 LSTM",
        sonnet_2,
        "core",
        apart("_w_i", "_w_h", "b", P) | {"projection": (U, P)},
        P,
    ),
    "baselines": Case(
        "baselines LSTM", baselines, "model/lstm1", apart("wx", "wh", "b"), given=ACCEPTED
    ),
    "lingvo": Case(*SIMPLE, "enc/rnn", LINGVO, given=ACCEPTED),
    "lingvo pruned": Case(
        *SIMPLE, "enc/rnn", LINGVO | {"mask/var": LINGVO["wm/var"]}, given=ACCEPTED
    ),
    "lingvo coupled": Case(*SIMPLE, "enc/rnn", COUPLED, given=ACCEPTED),
    "lingvo projected": Case(
        *SIMPLE,
        "enc/rnn",
        joined("wm/var", "b/var", P) | {"w_proj/var": (U, P)},
        P,
        ACCEPTED,
    ),
    "returnn": Case("RETURNN NativeLstm2", returnn, "lstm0/rec", apart("W", "W_re", "b")),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def values_of(case: Case) -> dict[str, Array]:
    """Return the variables by leaf: large enough that c goes beyond a cap of 10."""
    found = {
        leaf: numbers(*shape, seed=seed) for seed, (leaf, shape) in enumerate(case.shapes.items())
    }
    return found | ({"mask/var": (found["mask/var"] > 0) * 1.0} if "mask/var" in found else {})


def saved(folder: Path, case: Case) -> str:
    """Write the variables, those of Sonnet 2 as objects, and return the checkpoint."""
    end = "/.ATTRIBUTES/VARIABLE_VALUE" if "_w_i" in case.shapes else ""
    values = values_of(case)
    named = {f"{case.scope}/{leaf}{end}": v.astype("f4") for leaf, v in values.items()}
    return checkpoint(folder / "x.ckpt", named)


def start(case: Case) -> tuple[Array, Array, Array]:
    """Return x `[batch, time, inputs]`, and c and m."""
    return (
        numbers(B, T, I, seed=20),
        40 * numbers(B, U, seed=21),
        numbers(B, case.width, seed=22),
    )


def expected(case: Case) -> tuple[Array, Array, Array]:
    """Return the outputs, and the last c and m, as the library computes them."""
    values = {leaf: v.astype("f4").astype("f8") for leaf, v in values_of(case).items()}
    x, c, m = (array.astype("f8") for array in start(case))
    outputs = []
    for row in x.swapaxes(0, 1):
        c, m = case.step(values, row, c, m)
        outputs.append(m)
    return np.stack(outputs, 1), c, m


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_it_computes_the_values_of_its_library(case: Case, tmp_path: Path) -> None:
    x, c, m = start(case)
    network = open_checkpoint(saved(tmp_path, case)).network()
    outputs, state = network.run(x, LSTMState(c, m), **case.given)
    for ours, theirs in zip((outputs, *state), expected(case), strict=True):
        assert np.abs(ours - theirs).max() <= 3e-6


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_no_other_order_of_gates_fits(case: Case, tmp_path: Path) -> None:
    x, c, m = start(case)
    (cell,) = open_checkpoint(saved(tmp_path, case)).cells.values()
    fitting = []
    for letters in permutations(cell.gate_order):
        other = LSTMCell(cell.info._replace(gate_order="".join(letters)), cell._origin)
        outputs, _ = other.run(x, LSTMState(c, m), **case.given)
        far = np.abs(outputs - expected(case)[0]).max()
        assert far <= 3e-6 or far > 1e-2
        fitting += [other.gate_order] if far <= 3e-6 else []
    assert fitting == [cell.gate_order]


def test_it_is_recognised_by_its_names(case: Case, tmp_path: Path) -> None:
    (cell,) = open_checkpoint(saved(tmp_path, case)).cells.values()
    assert (cell.name, cell.family, cell.era) == (case.scope, case.family, None)
    assert (cell.input_size, cell.num_units) == (I, U)
    assert cell.num_proj == (case.width if case.width != U else None)
    assert ("family" in cell.documented) == bool(case.given)


OPTIONS = {
    "sonnet 1": {"forget_bias": (1.0, "default"), "cell_clip": (None, "default")},
    "sonnet 2": {"forget_bias": (0.0, "family"), "cell_clip": (None, "family")},
    "baselines": {"forget_bias": (0.0, "family"), "cell_clip": (None, "family")},
    "lingvo": {"forget_bias": (0.0, "default"), "cell_clip": (10.0, "default")},
    "returnn": {"forget_bias": (0.0, "family"), "cell_clip": (None, "family")},
}
LAYOUTS = {"sonnet 1": "keras", "sonnet 2": "keras", "baselines": "flat"}


@pytest.mark.parametrize("name", OPTIONS)
def test_its_options_are_the_defaults_of_its_library(name: str) -> None:
    case = CASES[name]
    (cell,) = writers.cells(writers.below(case.scope, case.shapes)).values()
    for option, expected in OPTIONS[name].items():
        assert cell.options[option] == Option(*expected)
    assert cell.options["recurrent_activation"] == Option("sigmoid", "family")
    assert cell.native_layout == LAYOUTS.get(name, "tuple")


def test_stacks_of_sonnet_2_have_their_layers(tmp_path: Path) -> None:
    shapes = {
        f"net/_layers/{at}/{leaf}": shape
        for at, inputs in enumerate((I, U))
        for leaf, shape in (SONNET_2 | {"_w_i": (inputs, 4 * U)}).items()
    }
    assert [cell.input_size for cell in writers.cells(shapes).values()] == [I, U]


# ---- cells that are not run


NORM = {"layer_norm/gamma": (4 * U,), "layer_norm/beta": (4 * U,)}
NORMS = dict.fromkeys(("gx", "bx", "gh", "bh"), (4 * U,)) | {"gc": (U,), "bc": (U,)}
DIAGONALS = {f"w_{gate}_diag": (U,) for gate in "ifo"}
BATCH_NORM = {"w_gates_X": (I, 4 * U), "w_gates_H": (U, 4 * U), "b_gates": (4 * U,)}
REFUSED: list[tuple[str, dict[str, Shape], str]] = [
    ("lstm", SONNET_1 | DIAGONALS, "a Sonnet 1 LSTM (peepholes) is not run: its output gate"),
    ("lstm", SONNET_1 | NORM, "a Sonnet 1 LSTM (layer norm) is not run: its layer norm"),
    ("lstm", BATCH_NORM | {"gamma_h": (4 * U,)}, "a Sonnet 1 BatchNormLSTM is not run"),
    ("lstm1", apart("wx", "wh", "b") | NORMS, "a baselines lnlstm is not run: its layer norms"),
    ("rnn", LINGVO | {"b/var": (8 * U,)}, "a lingvo LayerNormalizedLSTMCell is not run"),
]


@pytest.mark.parametrize(("scope", "shapes", "problem"), REFUSED)
def test_cells_with_other_equations_are_recognised_and_refused(
    scope: str, shapes: dict[str, Shape], problem: str, shell: Shell, tmp_path: Path
) -> None:
    values = {name: numbers(*shape) for name, shape in writers.below(scope, shapes).items()}
    path = checkpoint(tmp_path / "x.ckpt", values)
    np.save(tmp_path / "x.npy", numbers(T, I))
    for flags in ([], ["--assume-defaults"], ["--no-peepholes"]):
        done = shell("run", path, tmp_path / "x.npy", *flags, code=3)
        assert f"{scope}: {problem}" in error(done)


def test_sonnet_has_no_cell_clip(shell: Shell, tmp_path: Path) -> None:
    path = saved(tmp_path, CASES["sonnet 1"])
    np.save(tmp_path / "x.npy", numbers(T, I))
    done = shell("run", path, tmp_path / "x.npy", "--cell-clip", "3", code=3)
    assert "it clips the old c, and not the new one" in error(done)
    assert shell("run", path, tmp_path / "x.npy", "--cell-clip", "none").code == 0


@pytest.mark.parametrize("name", ["baselines", "lingvo"])
def test_ambiguous_names_are_run_if_defaults_are_accepted(
    name: str, shell: Shell, tmp_path: Path
) -> None:
    case = CASES[name]
    path = saved(tmp_path, case)
    np.save(tmp_path / "x.npy", numbers(T, I))
    words = "the files do not record its family"
    done = shell("run", path, tmp_path / "x.npy", code=3)
    assert done.out == ""
    assert error(done).startswith(f"{path}: {case.scope}: {words} (")
    assert error(done).endswith("; give --assume-defaults")
    done = shell("run", path, tmp_path / "x.npy", "--assume-defaults", code=0)
    assert any(note.startswith(f"{case.scope}: {words}, and ") for note in notes(done))
    done = shell("inspect", path)
    assert f"{case.family}*" in done.out
    assert f"family of 1: {case.family}*" in done.out
    (cell,) = json.loads(shell("inspect", "--json", path).out)["cells"]
    assert list(cell["documented"]) == ["family"]
    assert shell("check", "-q", path, "--family", case.family).code == 1
    assert shell("check", "-q", path, "--family", case.family, "--assume-defaults").code == 0


def test_library_defaults_are_distinguished_from_tensorflows(shell: Shell, tmp_path: Path) -> None:
    path = saved(tmp_path, CASES["sonnet 1"])
    done = shell("check", "-q", path, "--forget-bias", "1", code=1)
    assert "unknown: Sonnet's default would be 1" in done.out
    done = shell("check", "-q", saved(tmp_path, CASES["lingvo"]), "--forget-bias", "0", code=1)
    assert "unknown: lingvo's default would be 0" in done.out
    path = saved(tmp_path, CASES["sonnet 2"])
    assert shell("check", "-q", path, "--forget-bias", "0").code == 0


# ---- similar cells


SIMILAR: list[dict[str, Shape]] = [
    {"gru/_w_i": (I, 3 * U), "gru/_w_h": (U, 3 * U), "gru/b": (3 * U,)},  # Sonnet 2's GRU
    {"rnn/wm/var": (U, 4 * U), "rnn/b/var": (4 * U,)},  # lingvo's SRUCell
    {"rnn/wm/var": (I + U, 4 * U)},  # lingvo's QuantizedLSTMCell
    {f"rnn/{leaf}": s for leaf, s in (LINGVO | {"ln_scale/var": (4 * U,)}).items()},
    {f"mlstm/{leaf}": s for leaf, s in (apart("wx", "wh", "b") | {"wmx": (I, U)}).items()},
    writers.below("pi", apart("wx", "wh", "b")),  # no scope of baselines
    writers.below("pi", apart("W", "W_re", "b")),  # nor of RETURNN
    {"rec/W": (I, 5 * U), "rec/W_re": (U, 5 * U), "rec/b": (5 * U,)},
]


@pytest.mark.parametrize("shapes", SIMILAR)
def test_other_cells_are_not_mistaken_for_them(shapes: dict[str, Shape]) -> None:
    assert writers.cells(shapes) == {}


@pytest.mark.parametrize(
    ("leaf", "shape", "is_odd"),
    [
        ("gain", (U,), True),
        ("gains", (4 * U,), True),
        ("other", (4 * U + 1,), False),
        ("bias/Adam", (4 * U,), False),
    ],
)
def test_an_unused_gate_vector_without_a_graph_is_noted(
    leaf: str, shape: Shape, is_odd: bool
) -> None:
    shapes = writers.lstm("rnn/my_lstm", I, U) | {f"rnn/my_lstm/{leaf}": shape}
    (cell,) = writers.cells(shapes).values()
    assert [note.endswith(f": {leaf}") for note in cell.notes] == [True] * is_odd


def test_lingvo_kernels_of_three_or_four_gates_have_unknown_widths(tmp_path: Path) -> None:
    """[20, 48] is 12 units with 8 inputs, or 16 units with 4."""
    shapes = {"rnn/wm/var": (20, 48), "rnn/b/var": (48,)}
    (cell,) = writers.cells(shapes).values()
    assert (cell.family, cell.num_units, cell.input_size) == (SIMPLE[0], None, None)
    path = checkpoint(tmp_path / "x.ckpt", {name: numbers(*s) for name, s in shapes.items()})
    with pytest.raises(Exception, match="its widths are unknown"):
        open_checkpoint(path).network().run(numbers(T, 8), assume_defaults=True)


# ---- files saved by the libraries


@pytest.mark.skipif(not (SHARED / "ecosystem").is_dir(), reason="the cases are not available")
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("folder", "given"),
    [
        ("sonnet1-lstm-nometa", {}),
        ("sonnet2-lstm", {}),
        ("lingvo-simple-nometa", ACCEPTED),
        ("sb-mlplstm", ACCEPTED),
        ("returnn-nativelstm2", {}),
    ],
)
def test_a_file_saved_by_a_library(folder: str, given: dict[str, Any], tmp_path: Path) -> None:
    source = SHARED / "ecosystem" / folder
    for path in source.glob("*.*"):
        if path.suffix != ".meta":
            shutil.copy(path, tmp_path)
    (index,) = tmp_path.glob("*.index")
    network = open_checkpoint(index).network()
    state = None
    if (tmp_path / "state.npz").exists():
        with np.load(tmp_path / "state.npz") as found:
            state = LSTMState(found["c"], found["m"])
    elif (tmp_path / "state.npy").exists():
        state = LSTMState(*np.split(np.load(tmp_path / "state.npy"), 2, axis=1))  # c first
    outputs, last = network.run(np.load(tmp_path / "x.npy"), state, **given)
    ours = {"outputs": outputs, "c": last.c, "m": last.m}  # type: ignore[union-attr]
    with np.load(tmp_path / "expected.npz") as theirs:
        assert "outputs" in theirs.files
        for name in set(theirs.files) & set(ours):
            assert np.abs(ours[name] - theirs[name]).max() <= 3e-6
