"""Sets of TensorFlow's operations, by what they do to a value."""

from __future__ import annotations

# A loop is a frame of the first five, or one operation with functions.
ENTERS = frozenset({"Enter", "RefEnter"})
EXITS = frozenset({"Exit", "RefExit"})
MERGES = frozenset({"Merge", "RefMerge"})
SWITCHES = frozenset({"Switch", "RefSwitch"})
NEXTS = frozenset({"NextIteration", "RefNextIteration"})
_OF_FRAMES = ENTERS | EXITS | MERGES | SWITCHES | NEXTS
WHILES = frozenset({"While", "StatelessWhile"})
LOOP_RESULTS = EXITS | WHILES
CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
BRANCHES = frozenset({"If", "StatelessIf"})

# Operations that hand on their first input unchanged (or rounded, to train for quantisation).
PASSING = _OF_FRAMES | frozenset(
    """
    Identity RefIdentity ReadVariableOp StopGradient PreventGradient CheckNumerics Snapshot
    PlaceholderWithDefault IdentityN EnsureShape FakeQuantWithMinMaxVars FakeQuantWithMinMaxArgs
    FakeQuantWithMinMaxVarsPerChannel
    """.split()
)
IDENTITIES = frozenset({"Identity", "Cast"})

SUMMING = frozenset({"Add", "AddV2"})
ADDING = SUMMING | {"BiasAdd", "BiasAddV1"}
CONCATS = frozenset({"Concat", "ConcatV2"})
JOINING = CONCATS | {"Pack"}
CLIPS = frozenset({"Minimum", "Maximum", "ClipByValue"})
SELECTS = frozenset({"Select", "SelectV2"})
REVERSES = frozenset({"Reverse", "ReverseV2", "ReverseSequence"})
ASSIGNS = frozenset({"Assign", "AssignVariableOp"})

# How many inputs an operation has at least, without those that only order it: TensorFlow reads no
# graph with fewer. For the operations whose inputs are taken by their number.
LEAST_INPUTS = {
    **dict.fromkeys(PASSING | {"Cast", "Squeeze"}, 1),
    **dict.fromkeys(ADDING | REVERSES | {"Mul", "Sub", "RealDiv", "Div", "Pow"}, 2),
    **dict.fromkeys(("MatMul", "BatchMatMul", "BatchMatMulV2", "Minimum", "Maximum"), 2),
    **dict.fromkeys(("Reshape", "ExpandDims", "Transpose"), 2),
    **dict.fromkeys(CONCATS | ASSIGNS | SWITCHES | {"Split", "Gather", "GatherV2"}, 2),
    **dict.fromkeys(SELECTS | {"ClipByValue", "Slice", "SplitV"}, 3),
    "StridedSlice": 4,
}

# Operations that put a sequence into an array of time steps → the input with the sequence.
UNSTACKS = {
    "TensorArrayScatterV3": 2,
    "TensorArrayScatterV2": 2,
    "TensorArrayScatter": 2,
    "TensorArrayUnpack": 1,
    "TensorListFromTensor": 0,
}

# How the names of some operations begin: of random numbers, and of those that only loops of
# gradients have, which take back stored values.
RANDOM = ("Random", "Truncated", "StatelessRandom", "Multinomial")
STACK_POPS = ("StackPop", "TensorListPopBack")
