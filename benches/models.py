"""The models that are measured: found, given static shapes, compiled by lmc."""
import json
import os
import subprocess

import numpy as np
import onnx
from onnx import numpy_helper

import dequantize

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LMC = ROOT + "/target/debug/lmc"


def known():
    """(folder, entry of models.json) of every known model, by name."""
    folders = [ROOT + "/tests/models", os.environ.get("LMC_MODELS", ROOT + "/../shared/models")]
    found = {}
    for folder in filter(os.path.isdir, folders):
        for entry in json.load(open(folder + "/models.json"))["models"]:
            found.setdefault(entry["name"], (f"{folder}/{entry['name']}", entry))
    for folder, entry in list(found.values()):
        parent = entry.get("fp32_parent", {}).get("name")
        if parent and parent not in found and entry["dtype"] == "int8 QDQ":
            found[parent] = dequantize.derived(parent, folder, entry, ROOT + "/target/bench/derived")
    return found


def find(names):
    """(folder, entry) of every known model, or of those named."""
    found = known()
    unknown = [n for n in names if n not in found]
    if unknown:
        raise SystemExit(f"unknown models: {', '.join(unknown)}; known: {', '.join(found)}")
    return [found[n] for n in names or found]


def quantized_from(entry):
    """(folder, entry) of the float model that a model of bytes was made from; None where it is not known."""
    name = entry.get("fp32_parent", {}).get("name") or entry["name"].split("_int8")[0]
    return known().get(name) if entry["dtype"].startswith("int8") else None


def tensors(folder, kind):
    """The tensors of test data set 0, by name."""
    found = {}
    while os.path.exists(path := f"{folder}/test_data_set_0/{kind}_{len(found)}.pb"):
        tensor = onnx.TensorProto.FromString(open(path, "rb").read())
        found[tensor.name] = numpy_helper.to_array(tensor)
    return found


def stage(folder, entry, cache):
    """Writes the model with the shapes of test set 0, inputs and reference into a folder; returns it."""
    made = f"{cache}/{entry['name']}-{entry['sha256'][:12]}"
    os.makedirs(made, exist_ok=True)
    if os.path.exists(made + "/outputs.json"):
        return made
    model = onnx.load(folder + "/model.onnx")
    inputs, outputs = tensors(folder, "input"), tensors(folder, "output")
    constant = {i.name for i in model.graph.initializer}
    order = [i for i in model.graph.input if i.name not in constant]
    for declared in order:
        declared.type.tensor_type.ClearField("shape")
        declared.type.tensor_type.shape.SetInParent()  # a number has a shape too: none at all is an unknown one
        for extent in inputs[declared.name].shape:
            declared.type.tensor_type.shape.dim.add().dim_value = extent
    for declared in model.graph.output:
        declared.type.tensor_type.ClearField("shape")
    del model.graph.value_info[:]
    onnx.save(onnx.shape_inference.infer_shapes(model), made + "/model.onnx")
    np.savez(made + "/inputs.npz", **{i.name: inputs[i.name] for i in order})
    np.save(made + "/reference.npy", outputs[model.graph.output[0].name])
    described = [dict(name=o.name, dtype=str(outputs[o.name].dtype), shape=outputs[o.name].shape) for o in model.graph.output]
    json.dump(described, open(made + "/outputs.json", "w"))
    return made


def compile(staged, target, cpu, out):
    """Compiles with lmc; returns the manifest. Raises RuntimeError with lmc's message."""
    os.makedirs(out, exist_ok=True)
    command = [LMC, "build", staged + "/model.onnx", "--target", target, "--cpu", cpu, "--name", "model", "-o", out]
    done = subprocess.run(command + ["--message-format", "json"], capture_output=True, text=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    if done.returncode:
        raise RuntimeError(next((line["message"] for line in lines if "message" in line), done.stderr.strip()))
    seconds = sum(stage["seconds"] for stage in lines[-1]["seconds"])
    return dict(lines[-1]["manifest"], seconds=seconds)


def cosine(a, b):
    a, b = np.float64(a).ravel(), np.float64(b).ravel()
    norm = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / norm) if norm else float(np.array_equal(a, b))
