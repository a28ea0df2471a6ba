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
    held = any(t.data_type == half for t in graph.initializer)
    return cast or held or any(v.type.tensor_type.elem_type == half for v in graph.input)


def tolerance(folder):
    """What `lmc verify` allows where there are half floats: as much of the largest element as the suite does."""
    data = os.path.join(folder, "test_data_set_0")
    largest = 0.0
    for name in os.listdir(data):
        if name.startswith("output_"):
            values = numpy_helper.to_array(onnx.load_tensor(os.path.join(data, name))).astype(numpy.float64)
            finite = numpy.abs(values[numpy.isfinite(values)])
            largest = max(largest, finite.max(initial=0.0))
    return ["--rtol", "0.01", "--atol", str(max(0.004, 0.004 * largest))]


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


def is_a_step(report):
    """Whether all that `lmc verify` found wrong is a single element, by 1."""
    wrong = [line for line in report.splitlines() if "WRONG" in line]
    return bool(wrong) and all("max abs 1.000e0 " in line and "WRONG: 1 of" in line for line in wrong)


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
            # No cosine is enough where the outputs are those of ONNX Runtime.
            command += ["--data", os.path.join(folder, "test_data_set_0"), "--min-cosine", "2"]
            command += tolerance(folder) if has_halves(folder) else []
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                counts["equal"] += 1
                continue
            with open(os.path.join(folder, "operators"), encoding="utf-8") as file:
                operators = file.read()
            if "QLinear" in operators and is_a_step(done.stdout):
                # Both round a sum that is scaled, but scale it in another order.
                counts["a step apart"] += 1
                continue
            counts["different"] += 1
            print(seed, place, operators, (done.stdout + done.stderr).strip(), sep="\n", flush=True)
    print(dict(counts))


if __name__ == "__main__":
    main()
