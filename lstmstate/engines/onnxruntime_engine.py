"""The engine that runs a network as one ONNX graph in onnxruntime: float32, and no clips.

Cases that onnxruntime (1.32, core/providers/cpu/rnn) computes otherwise than TensorFlow never reach
it: the state of a sequence without steps, which it would set to zero, and infinities and NaN, which
its activations turn into finite numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from lstmstate.engines import onnx_graph
from lstmstate.engines.canonical_network import Array, Lengths, Network, Pair, Runner, RunOutputs
from lstmstate.engines.onnx_graph import build_model
from lstmstate.errors import UnsupportedError
from lstmstate.named_tuple import NamedTuple

_INSTEAD = "use `engine='numpy'`"
# onnxruntime copies its outputs out of memory of its own, which is in the processor's caches. More
# bytes of outputs than these are written to their place at once.
_SMALL_OUTPUTS = 1 << 20


def check(network: Network) -> None:
    """Raise UnsupportedError if ONNX's LSTM cannot express a cell. Needs no package."""
    try:
        onnx_graph.check(network)
    except UnsupportedError as error:
        error.advice = _INSTEAD
        raise


def load(network: Network) -> Runner:
    """Return a network that is ready to run.

    Raises:
        UnsupportedError: onnxruntime cannot be trusted with its weights.
    """
    for cell in network.cells:
        weights = (cell.kernel, cell.recurrent, cell.bias, *cell.peepholes.values())
        _check_finite("a weight", weights, cell.name)
    return _OnnxRunner(network)


class _Way(NamedTuple):
    """A way to run, with a session of its own."""

    lengths: bool
    keeps_m: bool


class _OnnxRunner:
    """A network in onnxruntime, with a session for each way that it is run in."""

    def __init__(self, network: Network) -> None:
        self._network = network
        # The last of one chain needs no joining: its outputs come as its operator makes them.
        self._ends = "y" if len(network.stages[-1]) > 1 else f"m_{len(network.cells) - 1}"
        self._sessions: dict[_Way, tuple[Any, dict[str, list[Any]]]] = {}

    def run(
        self, x: Array, states: Sequence[Pair], lengths: Lengths | None = None, keep: str = ""
    ) -> RunOutputs:
        """Run over some steps; see `Runner`."""
        beyond = "".join(letter for letter in keep if letter != "m")
        if beyond:
            raise UnsupportedError(
                f"onnxruntime does not return {' and '.join(beyond)} of every step", advice=_INSTEAD
            )
        _check_finite("the input", [x], lengths=lengths)
        _check_finite("a state", [array for pair in states for array in pair])
        if lengths is None or (lengths == len(x)).all():
            return self._run(x, states, None, bool(keep))
        return self._run_unequal(x, states, lengths, bool(keep))

    def _run_unequal(
        self, x: Array, states: Sequence[Pair], lengths: Lengths, keeps_m: bool
    ) -> RunOutputs:
        """Run over the sequences that have steps at all, as far as the longest goes."""
        steps, batch, _ = x.shape
        rows, longest = np.flatnonzero(lengths), int(lengths.max())
        after = [(c.copy(), m.copy()) for c, m in states]
        outputs = np.zeros((steps, batch, self._network.output_shape[-1]), x.dtype)
        kept = [
            {"m": np.zeros((steps, batch, m.shape[1]), x.dtype)} if keeps_m else {}
            for _, m in states
        ]
        if len(rows):
            before = [(c[rows], m[rows]) for c, m in states]
            ran = self._run(x[:longest, rows], before, lengths[rows], keeps_m)
            outputs[:longest, rows] = ran.outputs
            for pair, made in zip(after, ran.states, strict=True):
                for array, values in zip(pair, made, strict=True):
                    array[rows] = values
            for of_cell, values_of in zip(kept, ran.kept, strict=True):
                for letter, values in values_of.items():
                    of_cell[letter][:longest, rows] = values
        past = np.arange(steps)[:, None] >= lengths  # a state stays as it is past the end
        for of_cell, (_, m) in zip(kept, after, strict=True):
            for values in of_cell.values():
                values[past] = np.broadcast_to(m, values.shape)[past]
        return RunOutputs(outputs, after, kept)

    def _run(
        self, x: Array, states: Sequence[Pair], lengths: Lengths | None, keeps_m: bool
    ) -> RunOutputs:
        """Run over sequences that all have steps."""
        session, outputs = self._session(_Way(lengths is not None, keeps_m))
        feeds: dict[str, Any] = {"x": x}
        if lengths is not None:
            feeds["lengths"] = lengths.astype(np.int32)
        for number, (c, m) in enumerate(states):
            feeds[f"h0_{number}"], feeds[f"c0_{number}"] = m[None], c[None]
        sizes = {"steps": x.shape[0], "batch": x.shape[1]}
        made = _outputs(session, outputs, feeds, sizes)
        cells = range(len(states))
        kept = [{"m": made[f"m_{k}"][:, 0]} if keeps_m else {} for k in cells]
        after = [(made[f"c_{k}"][0], made[f"h_{k}"][0]) for k in cells]
        return RunOutputs(made[self._ends].reshape(*x.shape[:2], -1), after, kept)

    def _session(self, way: _Way) -> tuple[Any, dict[str, list[Any]]]:
        """Return the session for a way to run, made when it is first needed, and its outputs."""
        import onnxruntime

        if way not in self._sessions:
            steps = dict.fromkeys([self._ends])
            if way.keeps_m:
                steps |= dict.fromkeys(f"m_{k}" for k in range(len(self._network.cells)))
            model = build_model(self._network, lengths=way.lengths, steps=tuple(steps))
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 3  # errors: warnings are not for our users
            session = onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
            outputs = {output.name: output.shape for output in session.get_outputs()}
            self._sessions[way] = session, outputs
        return self._sessions[way]


def _check_finite(
    what: str, arrays: Iterable[Array], tensor: str | None = None, lengths: Lengths | None = None
) -> None:
    """Raise UnsupportedError if values are not finite; past the end they may be anything."""
    for array in arrays:
        # One pass, which is almost always enough; unlike a sum it never warns.
        if math.isfinite(np.vdot(array, array)):
            continue
        odd = ~np.isfinite(array)
        if lengths is not None:
            odd &= (np.arange(len(array))[:, None] < lengths)[:, :, None]
        if odd.any():
            raise UnsupportedError(
                f"{what} has NaN or Inf, which onnxruntime turns into finite numbers",
                tensor=tensor,
                advice=_INSTEAD,
            )


def _outputs(
    session: Any,
    outputs: Mapping[str, list[Any]],
    feeds: Mapping[str, Any],
    sizes: Mapping[str, int],
) -> dict[str, Array]:
    """Run a session and return its outputs by name.

    Args:
        outputs: the shape of each in the model.
        sizes: of the axes that have a name there.
    """
    shapes = {name: [sizes.get(size, size) for size in shape] for name, shape in outputs.items()}
    if sum(math.prod(shape) for shape in shapes.values()) * 4 <= _SMALL_OUTPUTS:
        return dict(zip(shapes, session.run(list(shapes), feeds), strict=True))
    binding = session.io_binding()
    for name, values in feeds.items():
        binding.bind_cpu_input(name, values)
    made = {name: np.empty(shape, np.float32) for name, shape in shapes.items()}
    for name, array in made.items():
        binding.bind_output(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
    session.run_with_iobinding(binding)
    return made
