"""The float model that a quantized one stands for, where its own float model is not at hand: weights are put
back into floats, QuantizeLinear and DequantizeLinear between layers are left out."""
import os
import shutil

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper


def weight(node, constants):
    """What a DequantizeLinear makes of a constant."""
    x, scale = (np.asarray(constants[name]) for name in node.input[:2])
    zero = constants[node.input[2]] if len(node.input) > 2 and node.input[2] else np.zeros_like(scale)
    if scale.size > 1:
        axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
        along = [-1 if i == axis % x.ndim else 1 for i in range(x.ndim)]
        scale, zero = scale.reshape(along), zero.reshape(along)
    return ((np.int64(x) - np.int64(zero)) * scale).astype(np.float32)


def floats(model):
    """The model without quantization."""
    graph = model.graph
    constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    kept, same, weights = [], {}, {}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in constants:
            weights[node.output[0]] = weight(node, constants)
        elif node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            same[node.output[0]] = same.get(node.input[0], node.input[0])
        else:
            kept.append(node)
    names = {same[o.name]: o.name for o in graph.output if o.name in same}
    for node in kept:
        for names_of in (node.input, node.output):
            names_of[:] = [names.get(same.get(n, n), same.get(n, n)) for n in names_of]
    read = {name for node in kept for name in node.input}
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(kept)
    held = {**constants, **weights}
    graph.initializer.extend(numpy_helper.from_array(np.ascontiguousarray(held[n]), n) for n in held if n in read)
    onnx.checker.check_model(model)
    return model


def derived(name, folder, entry, cache):
    """Writes the float model of a quantized one with its first data set; returns (folder, entry)."""
    made = f"{cache}/{name}-of-{entry['sha256'][:12]}"
    data = made + "/test_data_set_0"
    if not os.path.exists(data + "/output_0.pb"):
        shutil.copytree(folder + "/test_data_set_0", data, dirs_exist_ok=True)
        os.remove(data + "/output_0.pb")
        model = floats(onnx.load(folder + "/model.onnx"))
        onnx.save(model, made + "/model.onnx")
        inputs = [onnx.TensorProto.FromString(open(f"{data}/input_{i}.pb", "rb").read()) for i in range(len(model.graph.input))]
        session = ort.InferenceSession(made + "/model.onnx", providers=["CPUExecutionProvider"])
        results = session.run(None, {t.name: numpy_helper.to_array(t) for t in inputs})
        for i, (result, output) in reversed(list(enumerate(zip(results, model.graph.output)))):
            onnx.save_tensor(numpy_helper.from_array(result, output.name), f"{data}/output_{i}.pb")
    return made, dict(entry, name=name, dtype="fp32")
