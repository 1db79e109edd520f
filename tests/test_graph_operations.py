"""Operations and loops of a graph, evaluated in NumPy and by TensorFlow."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from writers import new_session, tensorflow

from lstmstate import limits
from lstmstate.checkpoint.graph import Graph
from lstmstate.checkpoint.protobuf import bytes_field
from lstmstate.errors import UnsupportedError
from lstmstate.graph.evaluate import Environment, Scope, UnfedError, compile_plan
from lstmstate.graph.operations import OPERATIONS, Precision
from lstmstate.graph.tensors import Tensor

Array = Any
Build = Callable[[Any, Any, Any], Any]

X = np.linspace(-2, 2, 24, dtype=np.float32).reshape(2, 3, 4)
Y = np.cos(np.arange(24, dtype=np.float32)).reshape(2, 3, 4) + np.float32(1.5)


def no_variable(node: Any) -> Array:
    raise AssertionError(f"{node.name} was read")


def evaluate(
    graph_def: bytes, fetches: list[str], feeds: dict[str, Array], **how: Any
) -> list[Array]:
    """Return some tensors of a graph, as computed by the evaluator."""
    scope = Scope.of(Graph(bytes_field(2, graph_def)))
    given = {Tensor.of(name): value for name, value in feeds.items()}
    plan = compile_plan(
        scope,
        [Tensor.of(name) for name in fetches],
        given,
        Environment(no_variable, Precision(**how)),
    )
    return plan.bind().run({tensor: given[tensor] for tensor in plan.feeds})


def both(build: Build, *, v2: bool = False, **how: Any) -> tuple[list[Array], list[Array]]:
    """Return the results of TensorFlow and of the evaluator for a graph of x and y."""
    tf = tensorflow()
    with tf.Graph().as_default() as graph:
        if v2:
            graph._control_flow_context = None
        x = tf.placeholder(tf.float32, [None, 3, 4], "x")
        y = tf.placeholder(tf.float32, [None, 3, 4], "y")
        outputs = build(tf, x, y)
        outputs = list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
        with new_session(tf, graph) as session:
            expected = session.run(outputs, {x: X, y: Y})
        definition = graph.as_graph_def().SerializeToString()
        names = [output.name for output in outputs]
    return expected, evaluate(definition, names, {"x": X, "y": Y}, **how)


CASES: dict[str, Build] = {
    "arithmetic": lambda tf, x, y: x * y + x / y - y**2.0,
    "minimum and maximum": lambda tf, x, y: tf.minimum(x, tf.maximum(y, 0.3)),
    "clip_by_value": lambda tf, x, y: tf.clip_by_value(x, -0.5, 0.7),
    "sigmoid": lambda tf, x, y: tf.sigmoid(x),
    "tanh": lambda tf, x, y: tf.tanh(x),
    "relu6": lambda tf, x, y: tf.nn.relu6(x * 5),
    "elu and selu": lambda tf, x, y: tf.nn.elu(x) + tf.nn.selu(x),
    "softplus and softsign": lambda tf, x, y: tf.nn.softplus(x) * tf.nn.softsign(x),
    "leaky_relu": lambda tf, x, y: tf.nn.leaky_relu(x, 0.1),
    "exp, log and sqrt": lambda tf, x, y: tf.exp(x) + tf.log(y) * tf.sqrt(y) + tf.rsqrt(y),
    "square": lambda tf, x, y: tf.square(x) + tf.squared_difference(x, y) + tf.abs(x),
    "round and floor": lambda tf, x, y: tf.round(x * 3) + tf.floor(x) - tf.ceil(x),
    "erf and sin": lambda tf, x, y: tf.math.erf(x) + tf.math.erfc(y) + tf.sin(x) - tf.cos(y),
    "floormod": lambda tf, x, y: tf.math.floormod(x, 0.7) + tf.math.floordiv(y, 0.3),
    "concat": lambda tf, x, y: tf.concat([x, y, x], -1),
    "split": lambda tf, x, y: tf.split(x, 2, axis=2),
    "split by sizes": lambda tf, x, y: tf.split(x, [1, -1], axis=2),
    "slice": lambda tf, x, y: tf.slice(x, [0, 1, 1], [-1, 2, 2]),
    "strided slices": lambda tf, x, y: [
        x[:, 1],
        x[..., ::2],
        x[:, ::-1, 1:3],
        x[:, tf.newaxis, -1],
        x[1:, :, 0],
    ],
    "pack and unpack": lambda tf, x, y: tf.stack(tf.unstack(x, axis=1)[::-1], axis=2),
    "reshape and transpose": lambda tf, x, y: tf.transpose(tf.reshape(x, [-1, 4, 3]), [2, 0, 1]),
    "squeeze and expand": lambda tf, x, y: tf.squeeze(tf.expand_dims(x, 1), [1]),
    "tile and pad": lambda tf, x, y: tf.pad(tf.tile(x, [1, 2, 1]), [[0, 0], [1, 2], [0, 0]]),
    "gather": lambda tf, x, y: tf.gather(x, [2, 0], axis=1),
    "gather_nd": lambda tf, x, y: tf.gather_nd(x, [[0, 1], [1, 2]]),
    "reverse": lambda tf, x, y: tf.reverse(x, [1]),
    "reverse_sequence": lambda tf, x, y: tf.reverse_sequence(x, [2, 3], seq_axis=1, batch_axis=0),
    "one_hot": lambda tf, x, y: tf.one_hot(tf.argmax(x, -1), 4, axis=1),
    "casts": lambda tf, x, y: tf.cast(tf.cast(x * 3, tf.int32), tf.float32),
    "shapes": lambda tf, x, y: [tf.shape(x), tf.size(x), tf.rank(x), tf.range(1, 7, 2)],
    "fill": lambda tf, x, y: tf.fill(tf.shape(x)[:2], 0.5) + tf.zeros([2, 3]),
    "reductions": lambda tf, x, y: [
        tf.reduce_mean(x, 1),
        tf.reduce_sum(x, [0, 2], keepdims=True),
        tf.reduce_max(x, -1),
        tf.reduce_min(x, 1),
        tf.reduce_prod(y, 2),
    ],
    "softmax": lambda tf, x, y: tf.nn.softmax(x) + tf.nn.log_softmax(y),
    "where": lambda tf, x, y: tf.where(x > y, x, y),
    "rows where": lambda tf, x, y: tf.where(tf.constant([True, False]), x, y),
    "comparisons": lambda tf, x, y: tf.cast(
        tf.logical_and(x >= 0.0, tf.logical_not(tf.equal(x, y))), tf.float32
    ),
    "matmul": lambda tf, x, y: tf.matmul(x[0], y[1], transpose_b=True),
    "batch_matmul": lambda tf, x, y: tf.matmul(x, y, transpose_a=True),
    "einsum": lambda tf, x, y: tf.einsum("bij,bkj->bik", x, y),
    "bias_add": lambda tf, x, y: tf.nn.bias_add(x, [1.0, -1.0, 0.5, 2.0]),
    "add_n": lambda tf, x, y: tf.add_n([x, y, x]),
    "conv1d": lambda tf, x, y: [
        tf.nn.conv1d(x, tf.reshape(tf.range(24.0) / 10, [3, 4, 2]), 1, padding)
        for padding in ("SAME", "VALID")
    ],
    "conv2d with strides": lambda tf, x, y: tf.nn.conv2d(
        x[..., tf.newaxis], tf.reshape(tf.range(12.0) / 5, [2, 3, 1, 2]), [1, 2, 1, 1], "SAME"
    ),
    "pooling": lambda tf, x, y: [
        pool(x[..., tf.newaxis], [1, 2, 3, 1], [1, 1, 2, 1], padding)
        for pool in (tf.nn.max_pool, tf.nn.avg_pool)
        for padding in ("SAME", "VALID")
    ],
    "cumsum": lambda tf, x, y: tf.cumsum(x, axis=1),
    "roll": lambda tf, x, y: tf.roll(x, 1, 1),
    "fake quantisation": lambda tf, x, y: [
        tf.quantization.fake_quant_with_min_max_args(x, -1.0, 1.5),
        tf.quantization.fake_quant_with_min_max_vars(x, -1.3, 0.9),
    ],
    "a branch that is not taken": lambda tf, x, y: tf.cond(
        tf.reduce_sum(x) > 1e3, lambda: x * 2, lambda: y + tf.constant(1.0)
    ),
    "a branch of a constant": lambda tf, x, y: tf.cond(
        tf.reduce_sum(y) > 0.0, lambda: tf.constant(4.0), lambda: tf.reduce_sum(x)
    ),
    "a loop": lambda tf, x, y: tf.while_loop(
        lambda i, a: i < 5, lambda i, a: (i + 1, a * 0.5 + y), [0, x]
    ),
    "a loop in a loop": lambda tf, x, y: tf.while_loop(
        lambda i, a: i < 3,
        lambda i, a: (
            i + 1,
            tf.while_loop(lambda j, b: j < i, lambda j, b: (j + 1, tf.tanh(b + y)), [0, a])[1],
        ),
        [0, x],
    ),
    "a scan": lambda tf, x, y: tf.scan(
        lambda a, e: tf.tanh(a * 0.9 + e), tf.transpose(x, [1, 0, 2]), tf.zeros_like(x[:, 0])
    ),
    "map_fn": lambda tf, x, y: tf.map_fn(lambda e: tf.reduce_sum(e, 0) * 2.0, x),
}


@pytest.mark.parametrize("name", CASES)
def test_an_operation_gives_the_values_of_tensorflow(name: str) -> None:
    for expected, found in zip(*both(CASES[name]), strict=True):
        assert found.dtype == expected.dtype
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-6)


UNARY = "tanh sigmoid exp square abs softplus softsign sin relu elu selu negative".split()
BINARY = "add subtract multiply minimum maximum squared_difference".split()


@pytest.mark.parametrize("seed", range(12))
def test_random_steps_give_the_values_of_tensorflow(seed: int) -> None:
    """Any graph of the known operations, in any combination."""
    chosen = random.Random(seed)

    def build(tf: Any, x: Any, y: Any) -> Any:
        functions = {
            name: getattr(tf.nn, name, None) or getattr(tf, name) for name in UNARY + BINARY
        }
        values = [x, y, tf.constant(0.3), tf.reduce_mean(x, 1, keepdims=True)]
        for _ in range(25):
            kind = chosen.random()
            if kind < 0.4:
                values.append(
                    functions[chosen.choice(UNARY)](tf.clip_by_value(chosen.choice(values), -9, 9))
                )
            elif kind < 0.8:
                binary = functions[chosen.choice(BINARY)]
                values.append(binary(chosen.choice(values), chosen.choice(values)))
            else:
                wide = tf.clip_by_value(chosen.choice(values), -9, 9) + x
                first, second = tf.split(wide, 2, axis=-1)
                values.append(tf.concat([second, tf.tanh(first)], -1))
        return values[-6:]

    for expected, found in zip(*both(build), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_float64_shows_a_cast_to_half_precision() -> None:
    build: Build = lambda tf, x, y: tf.cast(tf.cast(x / 3.0, tf.float16), tf.float32)  # noqa: E731
    _, (exact,) = both(build, exact=True)
    assert exact.dtype == np.float64
    assert np.array_equal(exact, (X.astype(np.float64) / np.float64(3)).astype(np.float16))


def test_a_placeholder_that_is_not_fed_is_named() -> None:
    tf = tensorflow()
    with tf.Graph().as_default() as graph:
        tf.identity(tf.placeholder(tf.float32, [], "rate"), "end")
    with pytest.raises(UnfedError) as caught:
        evaluate(graph.as_graph_def().SerializeToString(), ["end"], {})
    assert caught.value.unfed == Tensor("rate")


@pytest.mark.parametrize(
    ("what", "build"),
    [
        ("fill", lambda tf, x: tf.fill([1 << 20, 1 << 20], 1.0)),
        ("tile", lambda tf, x: tf.tile(x, [1 << 20, 1 << 20])),
        ("range", lambda tf, x: tf.range(1 << 40)),
        ("outer sum", lambda tf, x: tf.zeros([1 << 16, 1]) + tf.zeros([1, 1 << 16])),
        ("padding", lambda tf, x: tf.pad(x, [[0, 1 << 30], [0, 0]])),
    ],
)
def test_an_array_that_is_too_large_is_refused_before_allocation(
    what: str, build: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tf = tensorflow()
    with tf.Graph().as_default() as graph:
        build(tf, tf.placeholder(tf.float32, [2, 2], "x"))
        last = graph.get_operations()[-1].name
    monkeypatch.setattr(limits, "MAX_EVALUATED_BYTES", 1 << 24)
    with pytest.raises(UnsupportedError, match="more than"):
        evaluate(graph.as_graph_def().SerializeToString(), [last], {"x": np.ones((2, 2), "f4")})


def test_a_loop_that_does_not_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    tf = tensorflow()
    monkeypatch.setattr(limits, "MAX_LOOP_STEPS", 100)
    with tf.Graph().as_default() as graph:
        end = tf.while_loop(lambda i: i >= 0, lambda i: i * 1, [0])
    with pytest.raises(UnsupportedError, match="does not end"):
        evaluate(graph.as_graph_def().SerializeToString(), [end.name], {})


def test_no_known_operation_reads_files_or_runs_code() -> None:
    for word in ("File", "PyFunc", "Restore", "Save", "Read", "Http", "Queue", "Dataset"):
        named = [name for name in OPERATIONS if word in name]
        assert all(name.startswith(("TensorArrayRead", "ReadVariableOp")) for name in named), named
