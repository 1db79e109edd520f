"""Bounds for untrusted files, each with its reason.

They are far above anything that TensorFlow wrote, and far below what would hurt.
"""

from __future__ import annotations

MIB = 1 << 20


class Rate:
    """The most work of a kind that reading a path may cost; see `files.budget`.

    Attributes:
        unit: a noun in the plural for messages.
        most: for a file of any size.
        for_bytes: stored bytes that allow one more; 0 for none.
    """

    def __init__(self, unit: str, most: int, for_bytes: int = 0) -> None:
        self.unit = unit
        self.most = most
        self.for_bytes = for_bytes

    def of(self, size: int) -> int:
        """Return the most for a file of so many bytes."""
        return self.most + (size // self.for_bytes if self.for_bytes else 0)


# Messages of graphs have a field for 30 bytes. One of two bytes costs as much.
FIELDS = Rate("protobuf fields", 250_000, 10)

# A message of TensorFlow has up to 30 kinds of fields, and unknown ones of a newer one are few.
MAX_FIELD_NUMBERS = 1000

# The entry of a scalar in an index has 20 bytes at least, that of a vector 27.
ENTRIES = Rate("variables", 100_000, 19)

# A V1 file has the values of its variables, too: some 50 bytes for one of a single number.
LISTED = Rate("variables", 100_000, 40)

# A node of a graph has some 60 bytes, and takes 350 in memory.
NODES = Rate("nodes of a graph", 100_000, 40)

# An attribute has its name in the graph and its key: some 60 bytes, 100 with its object.
OBJECTS = Rate("objects and attributes of the object graph", 100_000, 40)

# Snappy makes numbers smaller by a tenth, and names by a half; weights that are zeros can be many.
UNSNAPPED = Rate("bytes packed by Snappy", 64 * MIB, 1)

# Lines above a table that begin with "#": notes of a program or a person.
COMMENTS = Rate("lines of comments", 100_000)

# Arrays of an npz, arrays and groups of an HDF5 file, where links name them.
MEMBERS = Rate("members", 100_000)
OBJECTS_OF_HDF5 = Rate("datasets and groups", 120_000)
LINKS = Rate("links", 250_000)

# Groups inside one another: each takes 7 kB while it is open. Scopes of variables are some 20 deep.
MAX_GROUPS = 1000

# Cells of a checkpoint: published ones have below a hundred.
CELLS = Rate("cells", 20_000)

# A V2 index holds some 60 bytes a variable; the largest published ones stay below 10 MiB.
MAX_INDEX_BYTES = 512 * MIB

# All names of a checkpoint together; the largest published ones have some 10 MB of them.
MAX_NAMES_BYTES = 64 * MIB

# A writer closes a block of a table at 256 KiB; only a large value makes a larger one, and a block
# of many values may be asked for each of them.
KEPT_VALUE_BYTES = 1 * MIB
KEPT_BLOCK_BYTES = 64 * MIB

# TensorShape::MaxDimensions() of TensorFlow (core/framework/tensor_shape.h) is 254.
MAX_RANK = 254

# NPY_MAXDIMS of NumPy 1; NumPy 2 has 64.
NUMPY_RANK = 32

# TensorFlow keeps sizes and offsets in int64 and refuses what does not fit.
MAX_INT64 = (1 << 63) - 1

# Names become keys, and keys are held in memory while a table is walked.
MAX_NAME_BYTES = 64 << 10

# num_parts of a partitioned variable is a number of machines or devices.
MAX_SLICES = 100_000

# Snappy's densest element is a 3-byte copy of 64 bytes (format description, section 2.2.2):
# a block that declares more than that is lying.
SNAPPY_MAX_RATIO = 64 // 3 + 1

# Parsing takes some four times the bytes of a graph; the largest published ones, with all their
# constants, stay below 300 MB. Beyond, one goes on without the graph.
MAX_GRAPH_BYTES = 512 * MIB

# A graph as text is some three times as long as its bytes: 6 MB for a `.meta` of 6,000 nodes. A
# text makes at most five times its bytes (lists of doubles): a graph below MAX_GRAPH_BYTES.
MAX_TEXT_GRAPH_BYTES = 64 * MIB

# Protobuf's own readers go no deeper (kDefaultRecursionLimit in io/coded_stream.h); a graph in a
# SavedModel has some 15 messages inside one another.
MAX_TEXT_DEPTH = 100

# The longest decimal form of a double has some 770 digits.
MAX_NUMBER_CHARACTERS = 1000

# The `checkpoint` text file names a handful of paths.
MAX_STATE_FILE_BYTES = 1 * MIB

# Steps along the edges of a graph, in all walks together: a step of a cell takes some 300, and
# has some 30 nodes. A graph that takes more is made to be slow.
WALK_STEPS = 100_000
WALK_STEPS_PER_NODE = 50

# A single walk back from a node: layer norm, the longest thing on the way, has some 15 nodes.
MAX_WALK = 200

# What has to be in memory at once, a row or a whole array, may be as large as this, or as so many
# times its stored bytes; states, packed, become smaller by a tenth.
BOMB_BYTES = 64 * MIB
BOMB_RATIO = 8

# All arrays of an npz or HDF5 file together: they may be zeros, or share their stored bytes. 100
# times the bytes of the file.
ARRAYS = Rate("KiB of arrays", 1 << 20, 10)

# Chunks of the arrays of an HDF5 file, which are read one by one. Those of h5py have 8 KiB or more;
# a packed row of 16 units and its place in the index take 100 bytes.
CHUNKS = Rate("chunks", 50_000, 128)

# The text that travels with a state in an npz, four bytes a character: names of 10,000 cells.
MAX_METADATA_BYTES = 8 * MIB

# Options of cells in a checkpoint, some 200 bytes each. Brackets in JSON take 30 times their bytes.
MAX_OPTIONS_BYTES = 2 * MIB

# The header of an array in an npy file: a shape and a dtype.
MAX_NPY_HEADER_BYTES = 64 << 10

# Cells of one stack: published ones have below ten, unrolled decoders some hundreds.
MAX_CELLS = 10_000

# A width that a user passes for a cell: those of MAX_CELLS cells fit into an int64 together.
MAX_WIDTH = 1 << 40

# Columns of a table: a row of a state that is flat has a few thousand.
MAX_COLUMNS = 500_000

# A csv is for people: larger states belong into an npy, npz or h5.
MAX_CSV_BYTES = 16 * MIB

# A constant of a graph may repeat one value up to its end, and so declare any size. Zeros and
# ones that training left alone do; a whole embedding or kernel of equal numbers does not.
MAX_REPEATED_BYTES = 256 * MIB

# The kernels of a GLSTMCell are run as one matrix, which a few bytes can declare to be huge; that
# of 1,024 units and an input as wide takes 32 MiB.
MAX_GROUPED_BYTES = 2 << 30

# The recurrent weights of IndyLSTMCells, exported as matrices: 2,048 units take 64 MiB.
MAX_DIAGONAL_BYTES = 256 * MIB

# A table of sequences is held whole, and parsed at some 50 MB a second: longer ones belong into an
# npy.
MAX_TABLE_BYTES = 256 * MIB

# Extra fields of a member in the directory of an archive: sizes beyond 4 GiB, dates, and padding
# to 64 bytes.
MAX_EXTRA_BYTES = 256

# Arrays, tuples and lists of a pickled state: a stack of a thousand cells has some 3,000. They
# are counted each time they are reached, because a few bytes can refer to a part over and over.
MAX_PICKLE_PARTS = 20_000

# An array takes some 40 instructions; the result of one takes up to 100 bytes.
MAX_PICKLE_OPCODES = 50 * MAX_PICKLE_PARTS

# Directions of layers of cells, each an LSTMStateTuple: four levels. Few enough for recursion.
MAX_PICKLE_DEPTH = 16

# A pickle is read whole; larger states belong into an npy, npz or h5.
MAX_PICKLE_BYTES = 1 << 30

# A tensor takes 320 bytes of a `.pt` at least: its values, two headers of a member, and 130 to 250
# bytes of the pickle with up to 45 instructions. Dicts, parameters and tuples are parts, too.
TORCH_PARTS = Rate("parts", MAX_PICKLE_PARTS, 100)
TORCH_OPCODES = Rate("instructions", MAX_PICKLE_OPCODES, 8)

# The pickle of a `.pt` has as many bytes for each of 100,000 tensors, and their names.
TORCH_PICKLE = Rate("bytes of the pickle", 64 * MIB)

# The header of a safetensors file: some 100 bytes a tensor and its name. Each part of it, which a
# bracket, a brace or a comma begins, takes some 130 bytes in memory; a tensor has up to ten.
SAFETENSORS_HEADER = Rate("bytes of the header", 16 * MIB)
MAX_SAFETENSORS_PARTS = 1_200_000

# Each name in it has a colon behind it, and perhaps one in it; it takes 250 bytes in memory, and a
# tensor has four. A file has up to 100,000 tensors, and the names of the cells of a state.
MAX_SAFETENSORS_NAMES = 600_000

# States of up to this size are read by `inspect` for their ranges without being asked.
LOOKED_AT_BYTES = 256 * MIB

# h5py makes chunks of up to 1 MiB; one is unpacked whole.
MAX_CHUNK_BYTES = 64 * MIB

# An array that the evaluation of a graph makes: a few bytes of a graph can declare any size, and
# the largest kernels of published cells take some 100 MiB, twice as much in float64.
MAX_EVALUATED_BYTES = 1 << 30

# Steps of a loop in a graph beyond those of the sequence: a loop of TensorFlow ends with it.
MAX_LOOP_STEPS = 10_000_000

# Loops within loops, functions that call functions: those of Keras have three levels.
MAX_GRAPH_DEPTH = 16
