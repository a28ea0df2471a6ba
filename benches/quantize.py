"""lmc quantize against onnxruntime.quantization: both quantize the same models with the same data, and
onnxruntime runs both results, without optimizations; then lmc compiles its own for x86_64 and aarch64.

Started by `benches/run quantize`, which installs what it needs. A cosine is the least over all samples
and outputs, with the outputs of the float model. Ends with 1 where ours is lower at the same size.
"""
import argparse
import contextlib
import glob
import io
import json
import logging
import os
import subprocess

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

import models

CACHE = models.ROOT + "/target/bench/quantize"
MODELS = ["mobilenetv2", "ic_resnet8", "kws_dscnn", "minilm_l3"]


class Reader(CalibrationDataReader):
    def __init__(self, samples):
        self.rest = iter(samples)

    def get_next(self):
        return next(self.rest, None)


def samples(folder):
    """The inputs of all test data sets."""
    found = []
    for data in sorted(glob.glob(folder + "/test_data_set_*")):
        tensors = [onnx.TensorProto.FromString(open(f, "rb").read()) for f in sorted(glob.glob(data + "/input_*.pb"))]
        found.append({t.name: numpy_helper.to_array(t) for t in tensors})
    return found


def run(model, data):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return [session.run(None, sample) for sample in data]


def least(found, wanted):
    return min(models.cosine(f, w) for a, b in zip(found, wanted) for f, w in zip(a, b))


def theirs(source, name, data, wanted):
    """onnxruntime's best of one scale a tensor and one a channel: cosine, bytes, which."""
    prepared = f"{CACHE}/{name}.prepared.onnx"
    quant_pre_process(source, prepared, skip_symbolic_shape=True)
    best = None
    for per_channel in (False, True):
        made = f"{CACHE}/{name}.ort.onnx"
        with contextlib.redirect_stdout(io.StringIO()):
            quantize_static(prepared, made, Reader(data), per_channel=per_channel, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)
        try:
            found = run(made, data)
        except ort.capi.onnxruntime_pybind11_state.InvalidGraph:
            continue  # A scale per channel in an opset that has none.
        result = least(found, wanted), os.path.getsize(made), "channel" if per_channel else "tensor"
        best = max(best or result, result)
    return best


def ours(source, folder, name, options):
    made = f"{CACHE}/{name}.lmc.onnx"
    command = [models.LMC, "quantize", source, "--data", folder, "-o", made, "--message-format", "json", *options]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{name}: {done.stdout}{done.stderr}")
    onnx.checker.check_model(made)
    return made


def compiled(made, folder, target, wanted):
    """The least cosine of the object's outputs, and how many products it computes in float."""
    cosines, float_nodes = [], 0
    for i, data in enumerate(sorted(glob.glob(folder + "/test_data_set_*"))):
        out = f"{CACHE}/out"
        command = [models.LMC, "run", made, "--data", data, "-o", out, "--target", target, "--message-format", "json"]
        done = subprocess.run(command, capture_output=True, text=True)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        if done.returncode:
            raise SystemExit(f"{made}: {done.stdout}{done.stderr}")
        float_nodes = sum("computed in float" in line.get("message", "") for line in lines)
        files = [o["file"] for o in lines[-1]["outputs"]]
        cosines += [models.cosine(np.load(f), w) for f, w in zip(files, wanted[i])]
    return min(cosines), float_nodes


def main():
    parser = argparse.ArgumentParser(prog="benches/run quantize", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help=f"names; {', '.join(MODELS)} otherwise")
    parser.add_argument("--options", default="", help="further options of lmc quantize, as in '--calibration mse'")
    options = parser.parse_args()
    os.makedirs(CACHE, exist_ok=True)
    logging.disable(logging.WARNING)
    ort.set_default_logger_severity(3)
    print(f"{'model':16}{'float bytes':>13}{'onnxruntime':>13}{'cosine':>10}  per    {'lmc':>11}{'cosine':>10}{'x86_64':>10}{'aarch64':>10}  products in float")
    lower = []
    for folder, entry in models.find(options.models or MODELS):
        name, source, data = entry["name"], folder + "/model.onnx", samples(folder)
        wanted = run(source, data)
        cosine, size, per = theirs(source, name, data, wanted)
        made = ours(source, folder, name, options.options.split())
        found = least(run(made, data), wanted)
        here, there = (compiled(made, folder, target, wanted) for target in ("x86_64", "aarch64"))
        line = f"{name:16}{os.path.getsize(source):13,}{size:13,}{cosine:10.6f}  {per:7}{os.path.getsize(made):11,}{found:10.6f}"
        print(line + f"{here[0]:10.6f}{there[0]:10.6f}  {here[1]} / {there[1]}", flush=True)
        lower += [name] if found < cosine else []
    if lower:
        raise SystemExit(f"lower than onnxruntime's: {', '.join(lower)}")


if __name__ == "__main__":
    main()
