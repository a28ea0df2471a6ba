"""Compares random graphs with ONNX Runtime: thousands of them, on every processor named.

    LMC_RANDOM_DIR=DIR LMC_RANDOM_COUNT=2000 cargo test -p lmc --test suite random_graphs_are_written
    benches' python tests/tools/random_graphs.py DIR [TARGET:CPU ...]

Each graph that ONNX Runtime can run gets its results as test data, and `lmc verify` compares; graphs
that only one of the two refuses are listed with the reason.
"""

import os
import subprocess
import sys
from collections import Counter

import numpy
import onnx
import onnxruntime
from onnx import numpy_helper


def has_halves(folder):
    """Whether there are half floats: ONNX Runtime's kernels for them round in between, sums above all."""
    graph = onnx.load(os.path.join(folder, "model.onnx")).graph
    half = onnx.TensorProto.FLOAT16
    cast = any(a.name == "to" and a.i == half for n in graph.node for a in n.attribute)
    return cast or any(v.type.tensor_type.elem_type == half for v in graph.input)


def reference(folder):
    """Writes ONNX Runtime's results into the folder's test data; gives why it cannot."""
    model = onnx.load(os.path.join(folder, "model.onnx"))
    data = os.path.join(folder, "test_data_set_0")
    feeds = {}
    for number, declared in enumerate(model.graph.input):
        tensor = onnx.TensorProto()
        with open(os.path.join(data, f"input_{number}.pb"), "rb") as file:
            tensor.ParseFromString(file.read())
        feeds[declared.name] = numpy_helper.to_array(tensor)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        results = session.run(None, feeds)
    except Exception as error:  # noqa: BLE001: every refusal is only counted
        return str(error)
    for number, result in enumerate(results):
        with open(os.path.join(data, f"output_{number}.pb"), "wb") as file:
            file.write(numpy_helper.from_array(numpy.asarray(result)).SerializeToString())
    return None


def main():
    root, places = sys.argv[1], sys.argv[2:] or ["x86_64:native"]
    onnxruntime.set_default_logger_severity(4)
    lmc = os.environ.get("LMC", "target/debug/lmc")
    counts = Counter()
    for seed in sorted(os.listdir(root), key=int):
        folder = os.path.join(root, seed)
        if reference(folder):
            counts["refused by ONNX Runtime"] += 1
            continue
        for place in places:
            target, cpu = place.split(":")
            command = [lmc, "verify", os.path.join(folder, "model.onnx"), "--target", target, "--cpu", cpu]
            command += ["--data", os.path.join(folder, "test_data_set_0")]
            command += ["--rtol", "0.01", "--atol", "0.004"] if has_halves(folder) else []
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            counts["equal" if done.returncode == 0 else "different"] += 1
            if done.returncode:
                with open(os.path.join(folder, "operators"), encoding="utf-8") as file:
                    print(seed, place, file.read(), (done.stdout + done.stderr).strip(), sep="\n", flush=True)
    print(dict(counts))


if __name__ == "__main__":
    main()
