#!/usr/bin/env bash
# safetensors 0.8 saves a transposed NumPy array with its numbers in the wrong places, silently.
#
# Who converts an LSTM from TensorFlow to PyTorch transposes its kernel, and `kernel.T` is a view:
# the memory keeps the old order. `safetensors.numpy.save` up to 0.7 wrote what the view shows.
# Release 0.8 writes the bytes in memory order, under the shape of the view: the file is valid, loads
# without a word, has the right names, shapes and mean, and every gate is mixed up. The docstring,
# the same in both, asks for contiguous arrays, and nothing checks it. One would expect the same
# numbers as before, or the error that `safetensors.torch` raises for such a tensor. A copy by
# `numpy.ascontiguousarray` before saving avoids it.
#
# Seen with safetensors 0.7.0 and 0.8.0, NumPy 2.4.6, Python 3.11, for the transpose of
# [[0, 1, 2], [3, 4, 5]]:
#
#     safetensors 0.7.0: [[0, 3], [1, 4], [2, 5]]
#     safetensors 0.8.0: [[0, 1], [2, 3], [4, 5]]
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/show.py" <<'PYTHON'
import numpy as np
import safetensors
from safetensors.numpy import load, save

kernel = np.arange(6, dtype=np.int32).reshape(2, 3)
found = load(save({"kernel": kernel.T}))["kernel"]
print(f"safetensors {safetensors.__version__}: {found.tolist()}")
PYTHON
python3 -m venv "$folder/venv"
found=$(
  for version in 0.7.0 0.8.0; do
    "$folder/venv/bin/pip" install --quiet numpy==2.4.6 "safetensors==$version"
    "$folder/venv/bin/python" "$folder/show.py"
  done
)
echo "$found"
[ "$found" = "safetensors 0.7.0: [[0, 3], [1, 4], [2, 5]]
safetensors 0.8.0: [[0, 1], [2, 3], [4, 5]]" ] || { echo "this has changed"; exit 1; }
