"""States written by TensorFlow, Keras and PyTorch, compared by their next step."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from states import Array, cells_of, reading

from lstmstate import AmbiguousError, LSTMState, StackState, load_state, save_state
from lstmstate.state.layouts import LAYOUTS, to_arrays

pytestmark = pytest.mark.filterwarnings("ignore:.*(cut in half|is read as layered):UserWarning")

UNITS, INPUTS, BATCH, STEPS = 4, 3, 2, 5
_LEGACY = "tf_keras.src.layers.rnn.legacy_cells"


# ---- Keras


class KerasLayer:
    """An LSTM layer of tf_keras, its results for some steps, and one step more."""

    def __init__(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tf = pytest.importorskip("tensorflow")
            tf_keras = pytest.importorskip("tf_keras")

        rng = np.random.default_rng(5)
        self._tf = tf
        self._layer = tf_keras.layers.LSTM(UNITS, return_state=True)
        self._layer.build((BATCH, STEPS, INPUTS))
        shapes = [weight.shape for weight in self._layer.get_weights()]
        self._layer.set_weights([rng.normal(size=shape).astype("f4") for shape in shapes])
        x = rng.normal(size=(BATCH, STEPS, INPUTS)).astype("f4")
        self.output, self.h, self.c = (found.numpy() for found in self._layer(tf.constant(x)))
        self._next = rng.normal(size=(BATCH, 1, INPUTS)).astype("f4")
        self.next_output = self.step(self.h, self.c)

    def step(self, h: Array, c: Array) -> Array:
        """Return the output of the next step from a state, h first as in Keras."""
        first = [self._tf.constant(h), self._tf.constant(c)]
        found: Array = self._layer(self._tf.constant(self._next), initial_state=first)[0].numpy()
        return found


@pytest.fixture(scope="module")
def keras() -> KerasLayer:
    return KerasLayer()


@pytest.mark.parametrize("kind", ["npz", "npy", "pkl"])
def test_the_state_that_keras_returns(tmp_path: Path, keras: KerasLayer, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    if kind == "npz":
        np.savez(path, h=keras.h, c=keras.c)
    elif kind == "npy":
        np.save(path, [keras.h, keras.c])
    else:
        path.write_bytes(pickle.dumps([keras.h, keras.c]))
    if kind != "npz":  # nothing shows whether c or h is first
        with pytest.raises(AmbiguousError, match="layout=.keras."):
            load_state(path)
    state = load_state(path, layout=None if kind == "npz" else "keras")
    assert isinstance(state, LSTMState)
    assert (state.m == keras.output).all()
    assert (keras.step(state.m, state.c) == keras.next_output).all()
    assert not (keras.step(state.c, state.m) == keras.next_output).all()


def test_keras_accepts_our_keras_layout(tmp_path: Path, keras: KerasLayer) -> None:
    save_state(LSTMState(keras.c, keras.h), tmp_path / "a.npz", layout="keras")
    found = np.load(tmp_path / "a.npz")
    assert (keras.step(found["h"], found["c"]) == keras.next_output).all()


# ---- LSTMStateTuple


def test_a_pickled_state_tuple_of_tf_keras(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        state_tuple = pytest.importorskip(_LEGACY).LSTMStateTuple

    c, h = np.arange(8.0).reshape(2, 4), np.arange(6.0).reshape(2, 3) + 50
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        one, two = tmp_path / f"one{protocol}.pkl", tmp_path / f"two{protocol}.pkl"
        one.write_bytes(pickle.dumps(state_tuple(c, h), protocol))
        two.write_bytes(pickle.dumps((state_tuple(c, h), state_tuple(h, c)), protocol))
        state = load_state(one)
        assert isinstance(state, LSTMState)
        assert (state.c.tolist(), state.m.tolist()) == (c.tolist(), h.tolist())
        assert reading(one).notes == ()
        stack = load_state(two)
        assert isinstance(stack, StackState)
        found = [half.tolist() for cell in stack for half in cell]
        assert found == [half.tolist() for half in (c, h, h, c)]


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_arrays_that_numpy_makes_of_state_tuples(tmp_path: Path, layers: int) -> None:
    """The tutorial: np.save(path, session.run(final_state)) for a stack of one width."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        state_tuple = pytest.importorskip(_LEGACY).LSTMStateTuple

    rng = np.random.default_rng(layers)
    pairs = [state_tuple(*rng.normal(size=(2, BATCH + 1, UNITS))) for _ in range(layers)]
    np.save(tmp_path / "a.npy", tuple(pairs))
    stack = load_state(tmp_path / "a.npy")
    assert isinstance(stack, StackState)
    for cell, pair in zip(stack, pairs, strict=True):
        assert (cell.c.tolist(), cell.m.tolist()) == (pair.c.tolist(), pair.h.tolist())


# ---- PyTorch

torch_networks = pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_layers": 2},
        {"num_layers": 3},
        {"bidirectional": True},
        {"num_layers": 2, "bidirectional": True},
        {"proj_size": 2},
        {"num_layers": 2, "proj_size": 3, "bidirectional": True},
    ],
    ids=str,
)


class TorchNetwork:
    """A torch.nn.LSTM, the outputs of its last layer, and its last state."""

    def __init__(self, options: Any) -> None:
        torch = pytest.importorskip("torch")
        torch.manual_seed(5)
        self._torch = torch
        self._network = torch.nn.LSTM(INPUTS, UNITS, **options)
        self._next = torch.randn(STEPS, BATCH, INPUTS)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns that a projection is slower
            outputs, state = self._network(torch.randn(STEPS, BATCH, INPUTS))
        self.outputs = outputs.numpy()
        self.h_n, self.c_n = (half.numpy() for half in state)
        self.next_outputs = self.further(self.h_n, self.c_n)
        self.directions = 2 if options.get("bidirectional") else 1
        self.m = options.get("proj_size", UNITS)

    def further(self, h_n: Array, c_n: Array) -> Array:
        """Return the outputs of further steps from a state."""
        state = self._torch.tensor(h_n), self._torch.tensor(c_n)
        with self._torch.no_grad():
            found: Array = self._network(self._next, state)[0].numpy()
        return found

    def last_outputs(self) -> list[Array]:
        """The last output of each direction in the last layer: the backward one ends at step 0."""
        ends = [self.outputs[-1, :, : self.m], self.outputs[0, :, self.m :]]
        return ends[: self.directions]


@torch_networks
@pytest.mark.parametrize("kind", ["npz", "pkl"])
def test_the_state_that_torch_returns(tmp_path: Path, options: Any, kind: str) -> None:
    network = TorchNetwork(options)
    path = tmp_path / f"a.{kind}"
    if kind == "npz":
        np.savez(path, h_n=network.h_n, c_n=network.c_n)
        state = load_state(path)
    else:
        path.write_bytes(pickle.dumps((network.h_n, network.c_n)))
        state = load_state(path, layout="torch")
    cells = cells_of(state)
    assert len(cells) == len(network.h_n)
    assert {tuple(cell.widths) for cell in cells} == {(UNITS, network.m)}
    assert state.batch_shape == (BATCH,)
    for cell, output in zip(cells[-network.directions :], network.last_outputs(), strict=True):
        assert (cell.m == output).all()
    for layer, cell in enumerate(cells):
        assert (cell.c == network.c_n[layer]).all()


@torch_networks
@pytest.mark.parametrize("between", ["tuple", "flat", "keras"])
def test_a_state_continues_in_torch_after_conversions(
    tmp_path: Path, options: Any, between: str
) -> None:
    network = TorchNetwork(options)
    np.savez(tmp_path / "a.npz", h_n=network.h_n, c_n=network.c_n)
    save_state(load_state(tmp_path / "a.npz"), tmp_path / "b.h5", layout=between)
    arrays = to_arrays(LAYOUTS["torch"], load_state(tmp_path / "b.h5"))
    assert (network.further(arrays["h_n"], arrays["c_n"]) == network.next_outputs).all()
    other = network.further(arrays["h_n"] * 0, arrays["c_n"])
    assert not (other == network.next_outputs).all()


def test_a_torch_state_without_a_batch(tmp_path: Path) -> None:
    h_n, c_n = np.arange(8.0).reshape(2, 4), np.arange(10.0).reshape(2, 5)
    np.savez(tmp_path / "a.npz", h_n=h_n, c_n=c_n)
    state = load_state(tmp_path / "a.npz")
    assert isinstance(state, StackState)
    assert [cell.c.tolist() for cell in state] == c_n.tolist()
    assert [cell.m.tolist() for cell in state] == h_n.tolist()


def test_two_torch_layers_in_one_array_are_read_on_request(tmp_path: Path) -> None:
    """np.save of either gives [2, 2, batch, units]; in one h is first, in the other c."""
    network = TorchNetwork({"num_layers": 2})
    np.save(tmp_path / "a.npy", (network.h_n, network.c_n))
    state = load_state(tmp_path / "a.npy", layout="torch")
    assert (cells_of(state)[1].m == network.outputs[-1]).all()
    assert [cell.c.tolist() for cell in cells_of(state)] == network.c_n.tolist()


# ---- libraries of JAX, and ONNX: a step from (c, h) of the layout, against one in NumPy


def stepped(gates: Array, c: Array) -> tuple[Array, Array]:
    """Return c and h after a step with the sums of the gates i, f, g and o, one after another."""
    i, f, g, o = np.split(gates, 4, axis=-1)
    new = c / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
    return new, np.tanh(new) / (1 + np.exp(-o))


def through(layout: str, state: LSTMState, folder: Path) -> list[Array]:
    """Return the arrays of a file in a layout, in their order."""
    save_state(state, folder / "state.npz", layout=layout)
    with np.load(folder / "state.npz") as file:
        return [file[name] for name in to_arrays(LAYOUTS[layout], state)]


def agrees(found: tuple[Any, Any], expected: tuple[Array, Array]) -> None:
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(np.asarray(one), other, atol=2e-6)


@pytest.fixture
def numbers() -> dict[str, Array]:
    """Weights, an input and a state of 3 units and an input of 2."""
    rng = np.random.default_rng(3)
    shapes = {"w": (2, 12), "r": (3, 12), "b": (12,), "x": (4, 2), "c": (4, 3), "h": (4, 3)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def test_the_carry_of_flax(tmp_path: Path, numbers: dict[str, Array]) -> None:
    linen = pytest.importorskip("flax.linen")
    w, r, b, x, c, h = numbers.values()
    params: dict[str, Any] = {}
    for k, gate in enumerate("ifgo"):
        cut = slice(3 * k, 3 * k + 3)
        params[f"i{gate}"] = {"kernel": w[:, cut]}
        params[f"h{gate}"] = {"kernel": r[:, cut], "bias": b[cut]}
    carry = tuple(through("flax", LSTMState(c, h), tmp_path))
    found, _ = linen.LSTMCell(3).apply({"params": params}, carry, x)
    agrees(found, stepped(x @ w + h @ r + b, c))


def test_the_state_of_haiku(tmp_path: Path, numbers: dict[str, Array]) -> None:
    haiku = pytest.importorskip("haiku")
    w, r, b, x, c, h = numbers.values()
    order = np.r_[0:3, 6:9, 3:6, 9:12]  # i g f o, and 1 is added to f
    params = {"lstm/linear": {"w": np.concatenate([w, r])[:, order], "b": b[order]}}

    def step(*given: Any) -> Any:
        return haiku.LSTM(3)(*given)

    network = haiku.without_apply_rng(haiku.transform(step))
    state = haiku.LSTMState(*through("haiku", LSTMState(c, h), tmp_path))
    _, found = network.apply(params, x, state)
    plus = b + np.repeat(np.float32([0, 1, 0, 0]), 3)
    agrees((found.cell, found.hidden), stepped(x @ w + h @ r + plus, c))


def test_the_state_of_equinox(tmp_path: Path, numbers: dict[str, Array]) -> None:
    equinox = pytest.importorskip("equinox")
    jax = pytest.importorskip("jax")
    w, r, b, x, c, h = numbers.values()
    cell = equinox.nn.LSTMCell(2, 3, key=jax.random.PRNGKey(0))
    places = lambda one: (one.weight_ih, one.weight_hh, one.bias)  # noqa: E731
    cell = equinox.tree_at(places, cell, tuple(map(jax.numpy.asarray, (w.T, r.T, b))))
    new_h, new_c = jax.vmap(cell)(x, tuple(through("equinox", LSTMState(c, h), tmp_path)))
    agrees((new_c, new_h), stepped(x @ w + h @ r + b, c))


def test_the_inputs_of_onnx(tmp_path: Path, numbers: dict[str, Array]) -> None:
    onnx = pytest.importorskip("onnx")
    reference = pytest.importorskip("onnx.reference")
    w, r, b, x, c, h = numbers.values()
    order = np.r_[0:3, 9:12, 3:6, 6:9]  # i o f g
    values = {
        "X": x[None],
        "W": np.ascontiguousarray(w.T[None, order]),
        "R": np.ascontiguousarray(r.T[None, order]),
        "B": np.concatenate([b[order], 0 * b])[None],
    }
    state = through("onnx", LSTMState(c, h), tmp_path)
    values |= dict(zip(("initial_h", "initial_c"), state, strict=True))
    names = ["X", "W", "R", "B", "", "initial_h", "initial_c"]
    node = onnx.helper.make_node("LSTM", names, ["Y", "Y_h", "Y_c"], hidden_size=3)
    _, new_h, new_c = reference.ReferenceEvaluator(node).run(None, values)
    agrees((new_c[0], new_h[0]), stepped(x @ w + h @ r + b, c))
