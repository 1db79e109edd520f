"""The bounds that protect a reader of files from strangers: one place, a reason beside each.

They are far above anything that TensorFlow wrote, and far below what would hurt.
"""

from __future__ import annotations

MIB = 1 << 20

# A V2 index holds some 60 bytes a variable; the largest published ones stay below 10 MiB.
MAX_INDEX_BYTES = 512 * MIB

# One variable is one entry; the largest published checkpoints have some 100,000.
MAX_ENTRIES = 2_000_000

# TensorShape::MaxDimensions() of TensorFlow (core/framework/tensor_shape.h) is 254.
MAX_RANK = 254

# TensorFlow keeps sizes and offsets in int64 and refuses what does not fit.
MAX_INT64 = (1 << 63) - 1

# Names become keys, and keys are held in memory while a table is walked.
MAX_NAME_BYTES = 64 << 10

# num_parts of a partitioned variable is a number of machines or devices.
MAX_SLICES = 100_000

# Snappy's densest element is a 3-byte copy of 64 bytes (format description, section 2.2.2):
# a block that declares more than that is lying.
SNAPPY_MAX_RATIO = 64 // 3 + 1

# protobuf itself refuses messages of 2 GiB; graphs with constants of model size come close.
MAX_GRAPH_BYTES = (1 << 31) - 1

# The `checkpoint` text file names a handful of paths.
MAX_STATE_FILE_BYTES = 4 * MIB

# A walk along the edges of a graph stops after so many nodes (a cell has some 30, an unrolled
# network of 1,000 steps some 100,000 in all, but a walk never leaves one step).
MAX_WALK = 2_000

# Members of an archive that claim to be larger than this, and than so many times what they
# store, are bombs.
BOMB_BYTES = 4 << 30
NPZ_BOMB_RATIO = 100
HDF5_BOMB_RATIO = 1000

# Arrays and groups of an HDF5 or npz file that are listed.
MAX_MEMBERS = 100_000
