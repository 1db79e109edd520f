"""onnxruntime: MODEL INPUT OUT."""

import sys

import numpy as np
import onnxruntime

x = np.load(sys.argv[2]).swapaxes(0, 1)
session = onnxruntime.InferenceSession(sys.argv[1])
y, h, c = session.run(None, {"X": x})
np.save(sys.argv[3], np.ascontiguousarray(y[:, 0].swapaxes(0, 1)))
