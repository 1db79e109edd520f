#!/usr/bin/env bash
# Tools that scan pickles cannot read a state that Python 2 saved; pickle itself loads it.
#
# Python 2 pickled in protocol 0 unless asked, in which the bytes of a NumPy array are an escaped text.
# `pickle.load(encoding="latin1")` reads it. `pickletools`, which lists the instructions of a pickle
# without running them, decodes such a text as ASCII and raises an error at the first byte above 127,
# which nearly every array of floats has; so does fickling, which is built on it. Who scans old states
# before loading them has to decode that instruction alone.
#
# Seen with fickling 0.1.12 and NumPy 2.2.6 on Python 3.11, for the float32 array [[0.5, -2.0]]:
#
#     pickle: [[0.5, -2.0]]
#     pickletools: UnicodeDecodeError
#     fickling: PickleDecodeError
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet fickling==0.1.12 numpy==2.2.6 typing_extensions==4.15.0
cat > "$folder/show.py" <<'PYTHON'
import pickle
import pickletools
import warnings

from fickling.fickle import Pickled

STATE = (
    b"cnumpy.core.multiarray\n_reconstruct\np0\n(cnumpy\nndarray\np1\n(I0\ntp2\nS'b'\np3\ntp4\nRp5\n"
    b"(I1\n(I1\nI2\ntp6\ncnumpy\ndtype\np7\n(S'f4'\np8\nI0\nI1\ntp9\nRp10\n"
    b"(I3\nS'<'\np11\nNNNI-1\nI-1\nI0\ntp12\nbI00\n"
    b"S'\\x00\\x00\\x00?\\x00\\x00\\x00\\xc0'\np13\ntp14\nb."
)
warnings.simplefilter("ignore")
for name, read in (
    ("pickle", lambda: pickle.loads(STATE, encoding="latin1").tolist()),
    ("pickletools", lambda: len(list(pickletools.genops(STATE)))),
    ("fickling", lambda: Pickled.load(STATE).ast and "read"),
):
    try:
        found = read()
    except Exception as error:
        found = type(error).__name__
    print(f"{name}: {found}")
PYTHON
found=$("$folder/venv/bin/python" "$folder/show.py" 2> /dev/null)
echo "$found"
[ "$found" = "pickle: [[0.5, -2.0]]
pickletools: UnicodeDecodeError
fickling: PickleDecodeError" ] || { echo "this has changed"; exit 1; }
