"""Operations that compute an LSTM cell: one step of it, or a whole sequence.

Sources: contrib/rnn/ops/lstm_ops.cc (0.10 to 1.14), core/ops/rnn_ops.cc (1.15).
"""

from __future__ import annotations

from lstmstate.checkpoint.graph_node import Node
from lstmstate.named_tuple import NamedTuple

CUDNN_OPS = frozenset({"CudnnRNN", "CudnnRNNV2", "CudnnRNNV3"})


class BlockOp(NamedTuple):
    """An operation with one matrix for all gates.

    Attributes:
        inputs: the number of inputs; three for peepholes and the bias are last.
        c, m, kernel: the inputs for the old c, the old m and the matrix; x is before c.
        is_sequence: whether it runs over a whole sequence, time-major.
        gate_order: the gates in the columns of the matrix.
        clip: the default of cell_clip.
        has_forget_bias: whether it has the attribute forget_bias.
    """

    inputs: int
    c: int
    m: int
    kernel: int
    is_sequence: bool = False
    gate_order: str = "ijfo"
    clip: float = 3.0
    has_forget_bias: bool = True


_STEP, _SEQUENCE = BlockOp(8, 1, 2, 3), BlockOp(9, 2, 3, 4, is_sequence=True)
BLOCK_OPS = {
    "LSTMBlockCell": _STEP,
    "LSTMFusedCell": _STEP,
    "BlockLSTM": _SEQUENCE,
    "BlockLSTMV2": _SEQUENCE._replace(gate_order="ifjo", clip=0.0, has_forget_bias=False),
    "FusedLSTM": _SEQUENCE,
}
BLOCK_STEPS = {name: block for name, block in BLOCK_OPS.items() if not block.is_sequence}
BLOCK_SEQUENCES = {name: block for name, block in BLOCK_OPS.items() if block.is_sequence}
BLOCK_OUTPUTS = ("i", "cs", "f", "o", "ci", "co", "h")
BLOCK_C, BLOCK_M = BLOCK_OUTPUTS.index("cs"), BLOCK_OUTPUTS.index("h")


class BlockOptions(NamedTuple):
    """The attributes of a block operation; those that are not set have the defaults of 1.x."""

    gate_order: str
    forget_bias: float
    clip: float
    peepholes: bool


def block_options(node: Node) -> BlockOptions:
    """Return the options of a block operation."""
    block = BLOCK_OPS[node.op]
    bias, clip = node.real("forget_bias"), node.real("cell_clip")
    return BlockOptions(
        block.gate_order,
        (1.0 if bias is None else bias) if block.has_forget_bias else 0.0,
        block.clip if clip is None else clip,
        bool(node.number("use_peephole")),
    )
