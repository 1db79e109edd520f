"""Mutated files, read by lstmstate and by the library that the format comes from.

    python tests/robustness/differential.py --runs 1000              each kind of mutants
    python tests/robustness/differential.py graph --first 7 --runs 1   one of them again

The mutants are those of `mutate.py`. The library reads each in a copy of a process of its own,
which may abort. Where both read an array, or an operation of a graph, the two have to be equal, to
the bit.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import pickle
import random
import resource
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

Found = dict[str, Any]  # by name; None for what is refused alone
ABORTED = "aborted"
GIGABYTES = 12  # of addresses for the library; TensorFlow alone takes a few


# ---- the libraries: each returns what it reads by name, and raises for what it refuses


def read_tensorflow(path: str) -> Found:
    """Return the tensors of a checkpoint."""
    import tensorflow as tf

    reader = tf.train.load_checkpoint(path)
    found: Found = {}
    for name in reader.get_variable_to_shape_map():
        try:
            found[name] = reader.get_tensor(name)
        except Exception:
            found[name] = None
            break  # the reader cannot be asked again
    return found


def read_protobuf(path: str) -> Found:
    """Return the operations of a graph, each with its inputs and the values of its attributes."""
    from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef

    message = MetaGraphDef.FromString(Path(f"{path}.meta").read_bytes())
    return {
        node.name: (
            node.op,
            [*node.input],
            {key: node.attr[key].type for key in ("T", "dtype") if node.attr[key].type},
            {key: node.attr[key].i for key in ("N", "num_split") if node.attr[key].i},
        )
        for node in message.graph_def.node
    }


def read_numpy(path: str) -> Found:
    """Return the arrays of an npy or npz file."""
    import numpy as np

    found = np.load(path)
    if isinstance(found, np.ndarray):
        return {"": found}
    return {name: found[name] for name in found.files if name != "lstmstate"}


def read_h5py(path: str) -> Found:
    """Return the datasets of an HDF5 file."""
    import h5py

    found: Found = {}

    def visit(name: str, one: Any) -> None:
        if isinstance(one, h5py.Dataset):
            try:
                found[name] = one[()]
            except Exception:
                found[name] = None

    with h5py.File(path) as file:
        file.visititems(visit)
    return found


class ArrayUnpickler(pickle.Unpickler):
    """A Python unpickler that calls what makes NumPy's arrays, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what a pickle of arrays names."""
        makes = ("_reconstruct", "_frombuffer", "ndarray", "dtype")
        text = (("_codecs", "encode"), ("builtins", "bytes"), ("__builtin__", "bytes"))
        if (module.startswith("numpy") and name in makes) or (module, name) in text:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name}")


def read_pickle(path: str) -> Found:
    """Return the arrays of a pickle of nested tuples and lists."""

    def parts(value: Any, name: str) -> Iterator[tuple[str, Any]]:
        if not isinstance(value, tuple | list):
            yield name, value
            return
        for number, item in enumerate(value):
            yield from parts(item, f"{name}/{number}".lstrip("/"))

    with Path(path).open("rb") as file:
        return dict(parts(ArrayUnpickler(file).load(), ""))


def read_csv(path: str) -> Found:
    """Return the columns of a table, under their names or numbers."""
    import numpy as np

    text = Path(path).read_text("utf-8")
    rows = list(csv.reader(io.StringIO(text), delimiter="\t" if "\t" in text else ","))
    rows = [row for row in rows if row]
    try:
        values, names = np.array(rows, "f8"), [str(at) for at in range(len(rows[0]))]
    except ValueError:
        values, names = np.array(rows[1:], "f8"), [name.strip() for name in rows[0]]
    return dict(zip(names, values.T, strict=True)) if len({*names}) == len(names) else {}


# ---- lstmstate


def read_checkpoint(path: str) -> Found:
    """Return the tensors of a checkpoint."""
    from lstmstate.checkpoint import Checkpoint
    from lstmstate.errors import LstmstateError

    found: Found = {}
    for name, variable in Checkpoint(path).variables.items():
        try:
            found[name] = variable.read()
        except LstmstateError:
            found[name] = None
    return found


def read_graph(path: str) -> Found:
    """Return the operations of a graph, each with its inputs and the values of its attributes."""
    from lstmstate.checkpoint.graph import read_meta

    return {
        name: (
            node.op,
            node.inputs,
            {key: given for key in ("T", "dtype") if (given := node.number_of_type(key))},
            {key: given for key in ("N", "num_split") if (given := node.number(key))},
        )
        for name, node in read_meta(f"{path}.meta").nodes.items()
    }


def read_arrays(path: str) -> Found:
    """Return the arrays of a state file."""
    from lstmstate.errors import LstmstateError
    from lstmstate.state.formats.input_path import InputPath

    found: Found = {}
    for array in InputPath(path).state_file().arrays:
        try:
            found[array.name] = array.read(0, 0, (array.shape or (1,))[0]).reshape(array.shape)
        except LstmstateError:
            found[array.name] = None
    return found


def read_columns(path: str) -> Found:
    """Return the columns of a table, under their names or numbers."""
    from lstmstate import limits
    from lstmstate.files.reader import ByteSource
    from lstmstate.state.formats.number_table import TextTable

    names, values, _ = TextTable(ByteSource(path), header=None, most=limits.MAX_CSV_BYTES).columns(
        None
    )
    names = names or tuple(map(str, range(values.shape[1])))
    return dict(zip(names, values.T, strict=True))


class Pair(NamedTuple):
    """Two readers of one kind of mutants.

    Attributes:
        kind: of the mutants, in `mutate.KINDS`.
        ours: that of lstmstate.
        theirs: that of a library.
    """

    kind: str
    ours: Callable[[str], Found]
    theirs: Callable[[str], Found]


PAIRS = {
    pair.kind: pair
    for pair in (
        Pair("bundle", read_checkpoint, read_tensorflow),
        Pair("bundle-bytes", read_checkpoint, read_tensorflow),
        Pair("graph", read_graph, read_protobuf),
        Pair("npy", read_arrays, read_numpy),
        Pair("npz", read_arrays, read_numpy),
        Pair("npz-bytes", read_arrays, read_numpy),
        Pair("h5", read_arrays, read_h5py),
        Pair("pkl", read_arrays, read_pickle),
        Pair("csv", read_columns, read_csv),
    )
}


# ---- the process of a library


def serve(kind: str) -> None:
    """Read the paths of stdin, each in a copy of this process, with the library of a kind.

    Writes the length of a pickle and the pickle: what was read, None for a refusal. A length of 0
    is an abort.
    """
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    if PAIRS[kind].theirs in (read_tensorflow, read_protobuf):
        import tensorflow  # noqa: F401 - once, before the process is copied
    while line := sys.stdin.readline():
        there, here = os.pipe()
        if not (child := os.fork()):
            resource.setrlimit(resource.RLIMIT_AS, (GIGABYTES << 30, GIGABYTES << 30))
            warnings.simplefilter("ignore")
            with os.fdopen(here, "wb") as pipe:
                pipe.write(pickle.dumps(read(PAIRS[kind].theirs, line.rstrip("\n"), Exception)))
            os._exit(0)
        os.close(here)
        with os.fdopen(there, "rb") as pipe:
            content = pipe.read()
        os.waitpid(child, 0)
        sys.stdout.buffer.write(b"%d\n" % len(content) + content)
        sys.stdout.buffer.flush()


def read(reader: Callable[[str], Found], path: str, refusal: type[Exception]) -> Found | None:
    """Return what a reader finds, None for a refusal."""
    try:
        return reader(path)
    except refusal:
        return None


class Library:
    """The library of a kind, in a process of its own."""

    def __init__(self, kind: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--serve", kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def read(self, path: str) -> Any:
        """Return what it reads by name, None for a refusal, `ABORTED` if it aborts."""
        pipes = self._process.stdin, self._process.stdout
        assert pipes[0] is not None
        assert pipes[1] is not None
        pipes[0].write(f"{path}\n".encode())
        pipes[0].flush()
        size = int(pipes[1].readline())
        return pickle.loads(pipes[1].read(size)) if size else ABORTED


def compare(ours: Found | None, theirs: Any, counts: Counter[str]) -> list[str]:
    """Count what both read; return the names of what differs."""
    if theirs == ABORTED or ours is None or theirs is None:
        ends = ["read" if isinstance(one, dict) else one or "refused" for one in (ours, theirs)]
        counts[f"{ends[0]} by us, {ends[1]} by the library"] += 1
        return []
    other = []
    for name in ours.keys() & theirs.keys():
        one, two = ours[name], theirs[name]
        if one is None or two is None:
            counts["parts that one refuses"] += one is not two
        elif is_same(one, two):
            counts["parts equal"] += 1
        else:
            other.append(name)
    return other


def is_same(one: Any, two: Any) -> bool:
    """Whether two parts are equal, arrays to the bit."""
    if not hasattr(one, "dtype") or one.dtype == object:
        return bool(getattr(one, "tolist", lambda: one)() == getattr(two, "tolist", lambda: two)())
    swapped = two.astype(two.dtype.newbyteorder("="))
    return (one.dtype.newbyteorder("="), one.shape) == (swapped.dtype, swapped.shape) and (
        one.astype(swapped.dtype).tobytes() == swapped.tobytes()
    )


def main() -> int:
    """Compare the mutants of the command line and print their figures."""
    from mutate import KINDS

    from lstmstate.errors import LstmstateError

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("kinds", nargs="*", choices=[*PAIRS, []], metavar="KIND")
    parser.add_argument("--first", type=int, default=0, help="number of the first mutant")
    parser.add_argument("--runs", type=int, default=1000, help="mutants of each kind")
    parser.add_argument("--serve", choices=PAIRS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.serve)
        return 0
    warnings.simplefilter("ignore")
    found = []
    for kind in given.kinds or PAIRS:
        library, counts, finds = Library(kind), Counter[str](), []
        for number in range(given.first, given.first + given.runs):
            with tempfile.TemporaryDirectory() as folder:
                path = KINDS[kind](Path(folder), random.Random(f"{kind} {number}"))
                ours = read(PAIRS[kind].ours, path, LstmstateError)
                other = compare(ours, library.read(path), counts)
                finds += [f"{kind} {number}: {name}: other values" for name in other]
        print(f"{kind}: {given.runs:,} mutants, {len(finds)} finds", flush=True)
        for words, times in sorted(counts.items()):
            print(f"  {words:45} {times:8,}", flush=True)
        found += finds
    print(*found, sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
