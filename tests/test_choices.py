"""A value that is none of a few names: the nearest is named, else the names, in one place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from commands import SUNSPOTS, Shell, error

import lstmstate

TARGET = "x.npz"
CALLS: dict[str, Callable[[], Any]] = {
    "layout cannot be 'tupel'; did you mean tuple?": lambda: lstmstate.check(
        SUNSPOTS, layout="tupel"
    ),
    "there is no layout 'tupel'; did you mean tuple?": lambda: lstmstate.load_state(
        SUNSPOTS, layout="tupel"
    ),
    "era cannot be '1.2'; did you mean 1.2+?": lambda: lstmstate.check(SUNSPOTS, era="1.2"),
    "era cannot be 'new'; pass one of 0.5-0.12, 1.0-1.1, 1.2+": lambda: lstmstate.check(
        SUNSPOTS, era="new"
    ),
    "activation cannot be 'tahn'; did you mean tanh?": lambda: lstmstate.export(
        SUNSPOTS, TARGET, to="gates", activation="tahn"
    ),
    "engine cannot be 'graph'; pass one of auto, numpy": lambda: lstmstate.export(
        SUNSPOTS, TARGET, to="gates", engine="graph"
    ),
    "kind cannot be 'npx'; did you mean npz or npy?": lambda: lstmstate.convert(
        SUNSPOTS, TARGET, layout="tuple", kind="npx"
    ),
}


@pytest.mark.parametrize("message", CALLS)
def test_the_nearest_name_is_in_the_error_of_a_call(message: str) -> None:
    with pytest.raises(lstmstate.LstmstateError) as raised:
        CALLS[message]()
    assert str(raised.value).endswith(message)


SHORT = "tuple, flat, stacked, layered, keras, torch, onnx, flax and 10 more"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("convert SRC --to tupel", "'--to': it cannot be 'tupel'; did you mean tuple?"),
        (
            "convert SRC --to torc",
            "'--to': it cannot be 'torc'; did you mean torch or tensorforce?",
        ),
        (
            "convert SRC --to zzz",
            f"'--to': it cannot be 'zzz'; pass one of {SHORT}; see lstmstate convert --list",
        ),
        (
            "check SRC --layout zzz",
            f"'--layout': it cannot be 'zzz'; pass one of {SHORT}; see lstmstate convert --list",
        ),
        ("export SRC --to torc", "'--to': it cannot be 'torc'; did you mean torch or torch-cell?"),
        (
            "export SRC --to zzz",
            "'--to': it cannot be 'zzz'; pass one of arrays, gates, numpy, torch, keras, tf_keras, "
            "torch-cell, flax and 9 more; see lstmstate export --list",
        ),
        (
            "run SRC x.npy --activation tahn",
            "'--activation': it cannot be 'tahn'; did you mean tanh?",
        ),
        (
            "run SRC x.npy --engine jax",
            "'--engine': it cannot be 'jax'; pass one of auto, numpy, graph, tensorflow; "
            "see lstmstate run --help",
        ),
    ],
)
def test_the_nearest_name_is_in_the_error_of_a_command(
    shell: Shell, words: str, message: str
) -> None:
    done = shell(*words.replace("SRC", str(SUNSPOTS)).split(), code=2)
    assert error(done) == f"Invalid value for {message}"
