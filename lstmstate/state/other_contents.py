"""Contents of a file other than a state: the outputs of a run, the weights of a network."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from lstmstate.cells.state_names import role_of
from lstmstate.state import metadata
from lstmstate.state.formats.stored_array import Foreign, StateFile, StoredArray
from lstmstate.state.layouts import LAYOUTS, scopes_of
from lstmstate.state.metadata import Metadata

OUTPUTS = Foreign("outputs", "outputs of a run", "lstmstate run writes the state to an .npz or .h5")
_STATE = "a state is the c and m of a cell, h and c in Keras"
# What to do with weights where a model is expected.
TO_RUN = (
    "`lstmstate inspect` lists them; only weights in a TensorFlow checkpoint are run: save a Keras "
    "model with tf.train.Checkpoint(model=model).save(PREFIX)"
)
SLOTS = Foreign("weights", "slots of an optimizer", _STATE)
OPTIONS = Foreign("weights", "the options of cells, which `lstmstate inspect` lists", _STATE)


def weights(owner: str) -> Foreign:
    """Return the weights of an owner as a kind of arrays."""
    return Foreign("weights", f"the weights of {owner}", _STATE)


# Attributes of the root of an HDF5 file by save and save_weights of Keras 1 and 2, and save of
# Keras 3; names that do not fit into one attribute are numbered. Source: keras 2.15
# src/saving/legacy/hdf5_format.py.
KERAS_ATTRIBUTES = ("keras_version", "model_config", "layer_names", "layer_names0")

# Last parts of names that one scope has, all of them, where it holds weights.
# Sources: saving/saving_lib.py of keras 2.12 to 3; layers of Keras; rnn_cell.py of tensorflow 0.12,
# whose names bilm-tf keeps in HDF5; common/models.py of openai/baselines; torch/nn/modules/rnn.py.
_RULES: dict[str, tuple[str, ...]] = {
    "a Keras model": (r"vars/\d+",),
    "a recurrent layer of Keras": (r"recurrent_kernel(_\d+)?",),
    "a layer of TensorFlow or Keras": (r"kernel(_\d+)?",),
    "a layer of TensorFlow": (r"weights", r"biases"),
    "an LSTMCell of TensorFlow 0.5 to 0.12, as biLM (ELMo) saves it": (r"W_\d+", r"B"),
    "a cell of TensorFlow 0.5 to 0.12": (r"Matrix", r"Bias"),
    "an LSTM of OpenAI baselines": (r"wx", r"wh", r"b"),
    "a PyTorch layer": (r"(.*\.)?weight_ih(_l\d+.*)?", r"(.*\.)?weight_hh(_l\d+.*)?"),
    "a PyTorch model": (r"(.*\.)?weight",),
}
# Last parts of other weights in such a scope.
_OTHERS = (
    r"bias(es)?(_\d+)?|W_P_\d+|[wW]_[ifoIFO]_diag|gamma|beta|moving_(mean|variance)"
    r"|(.*\.)?(weight|bias)(_(ih|hh|hr)(_l\d+.*)?)?"
)
# A scope without any of these has no weights: one look at each leaf, and there can be many.
_MARKS = re.compile("|".join(f"(?:{one})" for patterns in _RULES.values() for one in patterns))
_OF_MODELS = ("safetensors", "pt")  # kinds of files that are for whole models
_HAS_SLOTS = ("kernel", "recurrent_kernel", "bias", "biases")  # m and v of Adam are below them


def weights_among(names: Iterable[str]) -> tuple[Foreign | None, frozenset[str]]:
    """Return the kind of the weights among some arrays, and their names.

    >>> found, names = weights_among(["lstm/kernel:0", "lstm/bias:0", "lstm/kernel/m:0", "lstm/c"])
    >>> found.words, sorted(names)
    ('the weights of a layer of TensorFlow or Keras', ['lstm/bias:0', 'lstm/kernel/m:0', \
'lstm/kernel:0'])
    """
    scopes: dict[str, dict[str, str]] = {}  # scope → last part → name
    for name in names:
        scope, _, leaf = name.removesuffix(":0").rpartition("/")
        if scope == "vars" or scope.endswith("/vars"):
            scope, leaf = scope.removesuffix("vars"), f"vars/{leaf}"
        scopes.setdefault(scope, {})[leaf] = name
    owners: set[str] = set()
    found: set[str] = set()
    for scope, leaves in scopes.items():
        if not set(_HAS_SLOTS).isdisjoint(scope.split("/")):
            found.update(leaves.values())
            continue
        marks = [leaf for leaf in leaves if _MARKS.fullmatch(leaf)]
        for owner, patterns in _RULES.items() if marks else ():
            if all(any(re.fullmatch(pattern, leaf) for leaf in marks) for pattern in patterns):
                owners.add(owner)
                found.update(
                    name
                    for leaf, name in leaves.items()
                    if any(re.fullmatch(pattern, leaf) for pattern in (*patterns, _OTHERS))
                )
    first = next((weights(owner) for owner in _RULES if owner in owners), None)
    return first, frozenset(found)


def of_file(file: StateFile) -> Foreign | None:
    """Return the kind of arrays other than a state, by the metadata or their names."""
    if file.metadata is not None:
        return OUTPUTS if file.metadata.layout == metadata.OUTPUTS else None
    if file.foreign is not None:
        return file.foreign
    found, members = weights_among(array.name for array in file.arrays)
    rest = [
        array
        for array in file.arrays
        if array.name not in members and array.shape and array.dtype.kind in "fc"
    ]
    if file.kind in _OF_MODELS:  # next to weights there are statistics, and tables of constants
        rest = [array for array in rest if role_of(array.name)]
    return None if rest else found


def of_some(
    file: StateFile, arrays: Sequence[StoredArray]
) -> tuple[Metadata | None, Foreign | None]:
    """Return the metadata of some arrays of a file, and their kind if they are not a state."""
    recorded = file.metadata
    names = {array.name for array in arrays}
    if recorded is None:
        known, members = weights_among(array.name for array in file.arrays)
        return None, file.foreign or (known if members.issuperset(names) else None)
    if recorded.part is not None or names == set(_state_names(recorded)):
        return recorded, file.foreign
    if not recorded.is_run or names.intersection(_state_names(recorded)):
        return None, file.foreign
    scopes = scopes_of([cell.name for cell in recorded.cells]) if recorded.is_stack else [""]
    for scope, cell in zip(scopes, recorded.cells, strict=True):
        for half in "cm":
            if names == {f"{scope}/{half}_steps".lstrip("/")}:  # c or m of every step
                return Metadata("tuple", (cell,), is_stack=False, part=half), None
    return None, OUTPUTS


def names_in(file: StateFile) -> frozenset[str]:
    """Return the names of the arrays of a file that are not part of a state."""
    names = frozenset(array.name for array in file.arrays)
    if file.foreign is not None:
        return names
    if file.metadata is None:
        return weights_among(names)[1]
    return names.difference(_state_names(file.metadata)) if file.metadata.is_run else frozenset()


def _state_names(recorded: Metadata) -> list[str]:
    """Return the names that the arrays of a state have in an npz or HDF5 file."""
    layout = LAYOUTS.get(recorded.layout)
    return [] if layout is None else layout.array_names(recorded.cells, is_stack=recorded.is_stack)
