#!/usr/bin/env bash
# Programs that run ONNX leave out parts of an LSTM that they do not know, and raise no error.
#
# The LSTM of ONNX has optional parts: lengths of sequences, peepholes, clip, input_forget, and a
# choice of activations. One would expect a program without one of them to refuse the model. The
# reference evaluator of the onnx package, which one would compare others with, computes the plain
# LSTM for four of the five, and OpenVINO for two. Outputs and states have the right shapes and
# plausible numbers. Only onnxruntime, of these three, computes all five.
#
# Seen with onnx 1.23.2, openvino 2026.4.1, onnxruntime 1.32.0, Python 3.11; "ignored" means the same
# outputs and states as without the part:
#
#     onnx 1.23.2, openvino 2026.4.1, onnxruntime 1.32.0
#     onnx.reference: peepholes used, sequence_lens ignored, clip ignored, input_forget ignored, activations ignored
#     openvino: peepholes ignored, sequence_lens used, clip used, input_forget ignored, activations used
#     onnxruntime: peepholes used, sequence_lens used, clip used, input_forget used, activations used
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0 openvino==2026.4.1
cat > "$folder/show.py" <<'PYTHON'
from importlib.metadata import version

import numpy as np
import onnxruntime
import openvino
from onnx import TensorProto, checker, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

STEPS, ROWS, INPUTS, UNITS = 4, 2, 3, 5
random = np.random.default_rng(0)
x = random.standard_normal((STEPS, ROWS, INPUTS)).astype(np.float32)
arrays = {
    "W": random.standard_normal((1, 4 * UNITS, INPUTS)).astype(np.float32),
    "R": random.standard_normal((1, 4 * UNITS, UNITS)).astype(np.float32),
    "P": random.standard_normal((1, 3 * UNITS)).astype(np.float32),
    "lengths": np.array([4, 2], np.int32),
}


def model(lengths="", peepholes="", **attributes):
    names = ["x", "W", "R", "", lengths, "", "", peepholes]
    shapes = {"Y": (STEPS, 1, ROWS, UNITS), "Y_h": (1, ROWS, UNITS), "Y_c": (1, ROWS, UNITS)}
    made = helper.make_model(
        helper.make_graph(
            [helper.make_node("LSTM", names, list(shapes), hidden_size=UNITS, **attributes)],
            "lstm",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()],
            [numpy_helper.from_array(a, name) for name, a in arrays.items() if name in names],
        ),
        opset_imports=[helper.make_opsetid("", 14)],
        ir_version=8,
    )
    checker.check_model(made)
    return made


def run_openvino(made):
    core = openvino.Core()
    options = {"INFERENCE_PRECISION_HINT": "f32"}
    result = core.compile_model(core.read_model(made.SerializeToString()), "CPU", options)({"x": x})
    return [result[index] for index in range(3)]


def run_onnxruntime(made):
    return onnxruntime.InferenceSession(made.SerializeToString()).run(None, {"x": x})


parts = {
    "peepholes": model(peepholes="P"),
    "sequence_lens": model(lengths="lengths"),
    "clip": model(clip=0.5),
    "input_forget": model(input_forget=1),
    "activations": model(activations=["Sigmoid", "Relu", "Relu"]),
}
programs = ("onnx", "openvino", "onnxruntime")
print(*(f"{name} {version(name)}" for name in programs), sep=", ")
for program, run in (
    ("onnx.reference", lambda made: ReferenceEvaluator(made).run(None, {"x": x})),
    ("openvino", run_openvino),
    ("onnxruntime", run_onnxruntime),
):
    plain = run(model())
    words = []
    for part, made in parts.items():
        try:
            same = all(np.allclose(a, b, atol=1e-6) for a, b in zip(run(made), plain, strict=True))
            words.append(f"{part} {'ignored' if same else 'used'}")
        except Exception:
            words.append(f"{part} refused")
    print(f"{program}: {', '.join(words)}")
PYTHON
found=$("$folder/venv/bin/python" "$folder/show.py" 2> /dev/null)
echo "$found"
[ "$found" = "onnx 1.23.2, openvino 2026.4.1, onnxruntime 1.32.0
onnx.reference: peepholes used, sequence_lens ignored, clip ignored, input_forget ignored, activations ignored
openvino: peepholes ignored, sequence_lens used, clip used, input_forget ignored, activations used
onnxruntime: peepholes used, sequence_lens used, clip used, input_forget used, activations used" ] || {
  echo "this has changed"
  exit 1
}
