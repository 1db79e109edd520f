"""The reference engine: TensorFlow's own cells, stepped by its own dynamic_rnn.

The graph is built as TensorFlow 1.x built it, with MultiRNNCell for cells that feed one another
and bidirectional_dynamic_rnn for two directions, so that its rules for sequences of unequal
lengths are its own too. Grappler is off: it rewrites operations, and changes last bits.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from lstmstate.engines.canonical_network import (
    Array,
    Lengths,
    Network,
    Pair,
    Runner,
    RunOutputs,
    Stage,
)
from lstmstate.engines.tensorflow_cells import INSTEAD, Built, RNNCell, Tensor, TensorFlow, make
from lstmstate.engines.tensorflow_cells import check as check_cell
from lstmstate.errors import LstmstateError, UnsupportedError


def check(network: Network) -> None:
    """Raise UnsupportedError if TensorFlow 2 has no such cell. Imports no package."""
    for cell in network.cells:
        check_cell(cell)


def load(network: Network) -> Runner:
    """Return a network that is ready to run.

    Raises:
        LstmstateError: TensorFlow is installed, and cannot be imported.
    """
    return _TensorFlowRunner(network, _import_tensorflow())


class _TensorFlowRunner:
    """A network in TensorFlow, with a graph for each way that it is run in."""

    def __init__(self, network: Network, kit: TensorFlow) -> None:
        self._network, self._kit = network, kit
        self._programs = {(False, False): _Program(kit, network, lengths=False, keeps=False)}

    def run(
        self, x: Array, states: Sequence[Pair], lengths: Lengths | None = None, keep: str = ""
    ) -> RunOutputs:
        """Run over some steps; see `Runner`."""
        beyond = "".join(letter for letter in keep if letter not in "cm")
        if beyond:
            raise UnsupportedError(
                f"TensorFlow's cells do not return {' and '.join(beyond)} of every step",
                advice=INSTEAD,
            )
        way = (lengths is not None, bool(keep))
        if way not in self._programs:
            self._programs[way] = _Program(self._kit, self._network, lengths=way[0], keeps=way[1])
        return self._programs[way].run(x, states, lengths, keep)


class _Program:
    """A graph, and a session that has the weights in it."""

    def __init__(self, kit: TensorFlow, network: Network, *, lengths: bool, keeps: bool) -> None:
        self._kit = kit
        self._made: list[Built] = []
        v1 = kit.tf.compat.v1
        with _without_warnings(), kit.tf.Graph().as_default() as graph:
            self._x = v1.placeholder(network.dtype, [None, None, network.first.input_size])
            self._lengths = v1.placeholder(kit.tf.int64, [None]) if lengths else None
            self._before = [
                tuple(v1.placeholder(network.dtype, [None, width]) for width in cell.widths)
                for cell in network.cells
            ]
            self._after: list[Any] = []
            self._kept: list[tuple[Tensor, Tensor]] = []
            self._outputs = self._x
            for number, stage in enumerate(network.stages):
                with v1.variable_scope(f"stage_{number}"):
                    self._outputs = self._stage(self._outputs, stage, keeps)
            self._session = v1.Session(graph=graph, config=_config(v1))
            for made in self._made:
                for variable, value in zip(made.variables(), made.values, strict=True):
                    initial = variable.initializer.inputs[1]
                    self._session.run(variable.initializer, {initial: value})

    def run(
        self, x: Array, states: Sequence[Pair], lengths: Lengths | None, keep: str
    ) -> RunOutputs:
        """Run over some steps; see `Runner`."""
        feeds: dict[Tensor, Any] = {self._x: x}
        if self._lengths is not None:
            feeds[self._lengths] = lengths
        for places, pair in zip(self._before, states, strict=True):
            feeds.update(zip(places, pair, strict=True))
        outputs, after, steps = self._session.run(
            [self._outputs, [tuple(state) for state in self._after], self._kept], feeds
        )
        kept = []
        for of_cell, last_of_cell in zip(steps, after, strict=False):
            named = {}
            for letter, values, last in zip("cm", of_cell, last_of_cell, strict=True):
                if letter in keep and lengths is not None:  # past its end a state stays as it is
                    past = np.arange(len(x))[:, None, None] >= lengths[:, None]
                    named[letter] = np.where(past, last, values)
                elif letter in keep:
                    named[letter] = values
            kept.append(named)
        return RunOutputs(outputs, after, kept or [{} for _ in after])

    def _stage(self, x: Tensor, stage: Stage, keeps: bool) -> Tensor:
        """Add the cells of a stage; return its outputs."""
        nn, rnn_cell = self._kit.tf.compat.v1.nn, self._kit.rnn_cell
        options = {"sequence_length": self._lengths, "time_major": True}
        chains, initial = [], []
        for chain in stage:
            made = [make(self._kit, cell) for cell in chain]
            start = len(self._made)
            self._made += made
            states = [
                rnn_cell.LSTMStateTuple(*pair) for pair in self._before[start : start + len(chain)]
            ]
            cells = [one.cell for one in made]
            # One cell is not a stack of one: TensorFlow gets the network of the checkpoint.
            chains.append(cells[0] if len(cells) == 1 else rnn_cell.MultiRNNCell(cells))
            initial.append(states[0] if len(cells) == 1 else tuple(states))
        if keeps:
            chains = [_StateCell(self._kit, chain) for chain in chains]
        if len(chains) == 1:
            outputs, after = nn.dynamic_rnn(*chains, x, initial_state=initial[0], **options)
            made_of, after_of = [outputs], [after]
        else:
            made_of, after_of = nn.bidirectional_dynamic_rnn(
                *chains, x, initial_state_fw=initial[0], initial_state_bw=initial[1], **options
            )
        ends = []
        for chain, outputs, after in zip(stage, made_of, after_of, strict=True):
            self._after += [after] if len(chain) == 1 else list(after)
            end, *parts = self._split_outputs(outputs, chain) if keeps else [outputs]
            self._kept += zip(parts[::2], parts[1::2], strict=True)
            ends.append(end)
        return ends[0] if len(ends) == 1 else self._kit.tf.concat(ends, -1)

    def _split_outputs(self, outputs: Tensor, chain: Sequence[Any]) -> list[Tensor]:
        """Cut the outputs of a `_StateCell`: its own, then c and m of each cell."""
        widths = [width for cell in chain for width in cell.widths]
        found: list[Tensor] = self._kit.tf.split(outputs, [widths[-1], *widths], axis=-1)
        return found


class _StateCell:
    """A cell that returns c and m of all cells in it after its own outputs."""

    def __init__(self, kit: TensorFlow, cell: RNNCell) -> None:
        self._kit, self._cell = kit, cell
        self.state_size, self.zero_state = cell.state_size, cell.zero_state
        self.output_size = cell.output_size + sum(kit.tf.nest.flatten(cell.state_size))

    def __call__(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        outputs, after = self._cell(x, state)
        return self._kit.tf.concat([outputs, *self._kit.tf.nest.flatten(after)], -1), after


def _config(v1: Any) -> Any:
    """Return the configuration of a session: the processor, and no rewriting of the graph."""
    config = v1.ConfigProto(device_count={"GPU": 0})
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    return config


# ---- importing TensorFlow


def _import_tensorflow() -> TensorFlow:
    """Import TensorFlow, without its messages; if it is imported already, change no setting."""
    if "tensorflow" not in sys.modules:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        # Else it imports Keras 3 as well, for nothing.
        os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    try:
        with _without_warnings(), _without_stderr():
            import tensorflow as tf
            import tf_keras

            # TensorFlow itself finds them there, if it has to use tf_keras.
            from tf_keras.api._v1.keras.__internal__.legacy import rnn_cell
    except ImportError as error:
        raise LstmstateError(
            f"TensorFlow cannot be imported: {error}",
            advice="pip install --force-reinstall 'lstmstate[tensorflow]'",
        ) from error
    return TensorFlow(tf, tf_keras, rnn_cell)


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Suppress the warnings that its cells are legacy ones."""
    logger = logging.getLogger("tensorflow")
    level = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)


@contextmanager
def _without_stderr() -> Iterator[None]:
    """Discard the messages of its C++ to stderr during the import, which no setting stops."""
    try:
        kept = os.dup(2)
    except OSError:  # there is no stderr
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
