"""Values of mutated V2 checkpoints, compared with those that TensorFlow reads.

    python tests/robustness/differential.py --runs 1000

The mutants are those of `mutate.py bundle`. TensorFlow reads them in its own process, as it may
abort. Where both read a tensor its values have to be equal, to the bit.
"""

from __future__ import annotations

import argparse
import pickle
import random
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

from mutate import KINDS

# Reads prefixes from stdin, each in a copy of the process, which may abort. Writes the length of
# a pickle and the pickle: the tensors by name, None for a refusal. A length of 0 is an abort.
_READER = """
import os, pickle, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import tensorflow as tf

def read(prefix):
    try:
        reader = tf.train.load_checkpoint(prefix)
        names = reader.get_variable_to_shape_map()
    except Exception:
        return None
    found = {}
    for name in names:
        try:
            found[name] = reader.get_tensor(name)
        except Exception:
            found[name] = None
    return found

while line := sys.stdin.readline():
    there, here = os.pipe()
    if not (child := os.fork()):
        with os.fdopen(here, "wb") as pipe:
            pipe.write(pickle.dumps(read(line.rstrip("\\n"))))
        os._exit(0)
    os.close(here)
    with os.fdopen(there, "rb") as pipe:
        content = pipe.read()
    os.waitpid(child, 0)
    sys.stdout.buffer.write(b"%d\\n" % len(content) + content)
    sys.stdout.buffer.flush()
"""
ABORTED = "aborted"


class TensorFlowReader:
    """TensorFlow's reader, in a process of its own."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _READER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def read(self, prefix: str) -> Any:
        """Return the tensors by name, None for a refusal, `ABORTED` if TensorFlow aborts."""
        pipes = self._process.stdin, self._process.stdout
        assert pipes[0] is not None
        assert pipes[1] is not None
        pipes[0].write(f"{prefix}\n".encode())
        pipes[0].flush()
        size = int(pipes[1].readline())
        return pickle.loads(pipes[1].read(size)) if size else ABORTED


def read_ours(prefix: str) -> dict[str, Any] | None:
    """Return the tensors by name, None for one that is refused; None if none can be read."""
    from lstmstate.checkpoint import Checkpoint
    from lstmstate.errors import LstmstateError

    try:
        variables = Checkpoint(prefix).variables
    except LstmstateError:
        return None
    found: dict[str, Any] = {}
    for name, variable in variables.items():
        try:
            found[name] = variable.read()
        except LstmstateError:
            found[name] = None
    return found


def compare(ours: dict[str, Any] | None, theirs: Any, counts: Counter[str]) -> list[str]:
    """Count what both read; return the names with other values."""
    if theirs == ABORTED or ours is None or theirs is None:
        ends = ["read" if isinstance(one, dict) else one or "refused" for one in (ours, theirs)]
        counts[f"{ends[0]} by us, {ends[1]} by TensorFlow"] += 1
        return []
    other = []
    for name in ours.keys() & theirs.keys():
        one, two = ours[name], theirs[name]
        if one is None or two is None:
            counts["a tensor that one refuses"] += one is not two
        elif (one.dtype, one.shape, one.tobytes()) == (two.dtype, two.shape, two.tobytes()) or (
            one.dtype == object and one.tolist() == two.tolist()
        ):
            counts["tensors equal"] += 1
        else:
            other.append(name)
    return other


def main() -> int:
    """Compare the mutants of the command line and print their figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--first", type=int, default=0, help="number of the first mutant")
    parser.add_argument("--runs", type=int, default=1000)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    reader, counts, finds = TensorFlowReader(), Counter[str](), []
    for number in range(given.first, given.first + given.runs):
        with tempfile.TemporaryDirectory() as folder:
            path = KINDS["bundle"](Path(folder), random.Random(f"bundle {number}"))
            other = compare(read_ours(path), reader.read(path), counts)
            finds += [f"bundle {number}: {name}: other values" for name in other]
    for words, times in counts.items():
        print(f"{words:40} {times:8,}")
    print(f"{given.runs:,} mutants, {len(finds)} finds", *finds, sep="\n")
    return 1 if finds else 0


if __name__ == "__main__":
    sys.exit(main())
