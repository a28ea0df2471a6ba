"""One layer between two products, as networks have them: lmc beside onnxruntime and openvino, in one run.

    benches/run layers [--isa avx2] [--int8] [--channels 64] [--side 28] [LAYER ...]

An operator by itself is measured with the order of memory that the application gives; between two convolutions of one
point (of images), or two products (of text), as the runtime would have it. Microseconds of the whole net; `without` and
`text` are the two products alone.
"""
import argparse
import json
import os
import statistics
import subprocess
import tempfile

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

import models
import table

LENGTH, WIDTH = 128, 256


class Net:
    """Nodes and constants of a model that is being made."""

    def __init__(self, channels, side):
        self.channels, self.side, self.nodes, self.tensors = channels, side, [], []
        self.rng = np.random.default_rng(0)

    def constant(self, values, dtype=None):
        self.tensors.append(numpy_helper.from_array(np.asarray(values, dtype), f"c{len(self.tensors)}"))
        return self.tensors[-1].name

    def random(self, *shape, inner=1):
        return self.constant(self.rng.standard_normal(shape) / inner**0.5, np.float32)

    def ints(self, *values):
        return self.constant(values, np.int64)

    def node(self, op, *inputs, outputs=1, **attributes):
        names = [f"n{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), names, **attributes))
        return names if outputs > 1 else names[0]

    def conv(self, x, inner=None, out=None, kernel=(1, 1), group=1, **attributes):
        inner, out, kernel = inner or self.channels, out or self.channels, tuple(kernel)
        spread = attributes.get("dilations", [1, 1])
        attributes.setdefault("pads", 2 * [s * (k - 1) // 2 for s, k in zip(spread, kernel)])
        weights = self.random(out, inner // group, *kernel, inner=inner // group * kernel[0] * kernel[1])
        return self.node("Conv", x, weights, self.random(out, inner=100), group=group, **attributes)

    def product(self, x, inner=WIDTH, out=WIDTH):
        return self.node("Add", self.node("MatMul", x, self.random(inner, out, inner=inner)), self.random(out, inner=100))

    def heads(self, x, count):
        split = self.node("Reshape", self.product(x), self.ints(1, LENGTH, count, WIDTH // count))
        return self.node("Transpose", split, perm=[0, 2, 1, 3])


def op(name, *constants, **attributes):
    return lambda net, x: net.node(name, x, *[make(net) for make in constants], **attributes)


def conv(*kernel, group=None, **attributes):
    """A group of "all" is a filter for each channel."""
    def layer(net, x):
        return net.conv(x, kernel=kernel, group=net.channels if group == "all" else group or 1, **attributes)
    return layer


def transposed(kernel, stride, group=1):
    def layer(net, x):
        each = net.channels // group
        weights = net.random(net.channels, each, kernel, kernel, inner=each * kernel * kernel)
        return net.node("ConvTranspose", x, weights, strides=[stride] * 2, pads=[(kernel - stride) // 2] * 4, group=group)
    return layer


def resized(mode, factor):
    scales = lambda net: net.constant([1, 1, factor, factor], np.float32)
    return lambda net, x: net.node("Resize", x, "", scales(net), mode=mode)


def pool(name, kernel, stride):
    return op(name, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[(kernel - 1) // 2] * 4)


def gated(net, x):
    pooled = net.conv(net.node("GlobalAveragePool", x), out=16)
    return net.node("Mul", x, net.node("Sigmoid", net.conv(net.node("Relu", pooled), inner=16)))


def shuffled(net, x):
    side, half = net.side, net.channels // 2
    parts = net.node("Reshape", x, net.ints(1, 2, half, side, side))
    return net.node("Reshape", net.node("Transpose", parts, perm=[0, 2, 1, 3, 4]), net.ints(1, 2 * half, side, side))


def by_groups(net, x):
    side = net.side
    rows = net.node("Reshape", x, net.ints(1, 8, -1))
    rows = net.node("InstanceNormalization", rows, net.random(8), net.random(8))
    whole = net.node("Reshape", rows, net.ints(1, net.channels, side, side))
    return net.node("Add", net.node("Mul", whole, net.random(net.channels, 1, 1)), net.random(net.channels, 1, 1))


def linear_attention(net, x):
    flat = lambda y: net.node("Reshape", y, net.ints(1, net.channels, net.side**2))
    query, key, value = [flat(net.conv(x)) for _ in range(3)]
    query, key = net.node("Softmax", query, axis=1), net.node("Softmax", key, axis=2)
    context = net.node("MatMul", key, net.node("Transpose", value, perm=[0, 2, 1]))
    attended = net.node("MatMul", net.node("Transpose", context, perm=[0, 2, 1]), query)
    return net.node("Reshape", attended, net.ints(1, net.channels, net.side, net.side))


def attention(count):
    def layer(net, x):
        query, key, value = [net.heads(x, count) for _ in range(3)]
        scores = net.node("MatMul", query, net.node("Transpose", key, perm=[0, 1, 3, 2]))
        scaled = net.node("Mul", scores, net.constant((WIDTH / count) ** -0.5, np.float32))
        attended = net.node("MatMul", net.node("Softmax", scaled, axis=-1), value)
        return net.node("Reshape", net.node("Transpose", attended, perm=[0, 2, 1, 3]), net.ints(1, LENGTH, WIDTH))
    return layer


def in_time(kernel, group=1, dilation=1):
    def layer(net, x):
        pads = [dilation * (kernel - 1) // 2] * 2
        weights = net.random(WIDTH, WIDTH // group, kernel, inner=WIDTH // group * kernel)
        rows = net.node("Transpose", x, perm=[0, 2, 1])
        rows = net.node("Conv", rows, weights, pads=pads, group=group, dilations=[dilation])
        return net.node("Transpose", rows, perm=[0, 2, 1])
    return layer


def recurrent(name, gates, **attributes):
    def layer(net, x):
        weights = [net.random(1, gates * WIDTH, WIDTH, inner=WIDTH) for _ in range(2)]
        rows = net.node("Transpose", x, perm=[1, 0, 2])
        states = net.node(name, rows, *weights, outputs=2, hidden_size=WIDTH, **attributes)[0]
        return net.node("Transpose", net.node("Squeeze", states, net.ints(1)), perm=[1, 0, 2])
    return layer


number = lambda value: lambda net: net.constant(value, np.float32)
of_channels = lambda net: net.random(net.channels)
of_width = lambda net: net.random(WIDTH)
IMAGES = {
    "without": lambda net, x: x,
    **{f"conv {k}x{k}": conv(k, k) for k in (3, 5, 7)}, "conv 1x3": conv(1, 3), "conv 7x1": conv(7, 1),
    "conv 3x3 of stride 2": conv(3, 3, strides=[2, 2]), "conv 1x1 of stride 2": conv(1, 1, strides=[2, 2]),
    "conv 3x3 dilated": conv(3, 3, dilations=[2, 2]),
    **{f"conv 3x3 of {g} groups": conv(3, 3, group=g) for g in (2, 4, 8)},
    **{f"depthwise {k}x{k}": conv(k, k, group="all") for k in (3, 5, 7, 9)},
    "depthwise 3x3 of stride 2": conv(3, 3, group="all", strides=[2, 2]),
    "transposed 2x2": transposed(2, 2), "transposed 4x4": transposed(4, 2),
    **{name.lower(): op(name) for name in ("Sigmoid", "Tanh", "HardSwish", "Elu", "LeakyRelu", "Softplus", "Mish", "Exp")},
    "relu6": op("Clip", number(0), number(6)), "swish": lambda net, x: net.node("Mul", x, net.node("Sigmoid", x)),
    "residual": lambda net, x: net.node("Add", x, net.node("Relu", net.conv(x))), "squeeze and excite": gated,
    "concat": lambda net, x: net.node("Concat", net.conv(x, out=net.channels // 2), net.conv(x, out=net.channels // 2), axis=1),
    "shuffle": shuffled, "max 2x2": pool("MaxPool", 2, 2), "max 3x3 of stride 2": pool("MaxPool", 3, 2),
    "max 5x5": pool("MaxPool", 5, 1), "average 3x3": pool("AveragePool", 3, 1), "nearest x2": resized("nearest", 2),
    "linear x2": resized("linear", 2), "linear x0.5": resized("linear", 0.5), "cubic x2": resized("cubic", 2),
    "softmax of channels": op("Softmax", axis=1), "instance norm": op("InstanceNormalization", of_channels, of_channels),
    "group norm": by_groups, "linear attention": linear_attention,
}
TEXT = {
    "text": lambda net, x: x, "layer norm": op("LayerNormalization", of_width, of_width, axis=-1), "softmax": op("Softmax", axis=-1),
    "gelu": op("Gelu"), "gelu by tanh": op("Gelu", approximate="tanh"), **{f"attention of {h} heads": attention(h) for h in (1, 4, 8)},
    **{f"{k} points in time": in_time(k) for k in (3, 5, 15)}, "3 points in time dilated": in_time(3, dilation=4),
    **{f"filters of {k} points in time": in_time(k, group=WIDTH) for k in (3, 9, 31)},
    "lstm": recurrent("LSTM", 4), "gru": recurrent("GRU", 3, linear_before_reset=1), "cumulative sum": op("CumSum", lambda net: net.constant(1, np.int64)),
}


def made(name, options):
    """The net of a layer."""
    net, image = Net(options.channels, options.side), name in IMAGES
    if image:
        shape = [1, net.channels, net.side, net.side]
        x = IMAGES[name](net, net.node("Relu", net.conv("x")))
        y = net.node("GlobalAveragePool", net.conv(x, out=net.channels))
    else:
        shape = [1, LENGTH, WIDTH]
        y = net.node("ReduceMean", net.product(TEXT[name](net, net.product("x"))), net.ints(1))
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    graph = helper.make_graph(net.nodes, "net", inputs, [helper.make_tensor_value_info(y, TensorProto.FLOAT, None)], net.tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    return onnx.shape_inference.infer_shapes(model, strict_mode=True), shape


def staged(name, options, folder):
    """Writes what the runtimes load: the model, its inputs, and onnxruntime's result as the reference."""
    model, shape = made(name, options)
    path = folder + "/model.onnx"
    onnx.save(model, path)
    data = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    np.savez(folder + "/inputs.npz", x=data)
    if options.int8:
        os.makedirs(folder + "/data")
        np.save(folder + "/data/x.npy", data)
        quantized = folder + "/quantized.onnx"
        command = [models.LMC, "quantize", path, "--data", folder + "/data", "-o", quantized]
        subprocess.run(command, check=True, capture_output=True)
        os.replace(quantized, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    result = session.run(None, {"x": data})[0]
    np.save(folder + "/reference.npy", result)
    outputs = [dict(name=session.get_outputs()[0].name, dtype=str(result.dtype), shape=result.shape)]
    json.dump(outputs, open(folder + "/outputs.json", "w"))


def measured(name, options, env):
    with tempfile.TemporaryDirectory() as folder:
        staged(name, options, folder)
        table.build_ours(folder, "x86-64-v3" if options.isa == "avx2" else "native")
        medians, failed = table.measure([(peer, folder) for peer in ["ours", *options.peers.split(",")]], options, env)
    return {peer: ns / 1e3 for peer, ns in medians.items()}, failed


def main():
    parser = argparse.ArgumentParser(prog="benches/run layers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("names", nargs="*", help="layers; all otherwise")
    add("--isa", choices=["native", "avx2"], default="native", help="avx2: hides AVX-512 and VNNI from the peers")
    add("--channels", type=int, default=64)
    add("--side", type=int, default=28, help="points of an image along each axis")
    add("--int8", action="store_true", help="quantized by lmc quantize")
    add("--peers", default="onnxruntime,openvino")
    add("--rounds", type=int, default=7)
    add("--round-ms", type=float, default=40)
    options = parser.parse_args()
    env = dict(os.environ, OMP_NUM_THREADS="1", **(table.without_avx512() if options.isa == "avx2" else {}))
    peers = options.peers.split(",")
    print("| layer | lmc | " + " | ".join(peers) + " | fastest peer / lmc |\n|---|---|" + "---|" * len(peers) + "---|", flush=True)
    for name in options.names or [*IMAGES, *TEXT]:
        medians, failed = measured(name, options, env)
        cell = lambda peer: f"{medians[peer]:.1f}" if peer in medians else "-"
        ratio = min((medians[p] for p in peers if p in medians), default=float("nan")) / medians["ours"]
        print(f"| {name} | " + " | ".join(map(cell, ["ours", *peers])) + f" | {ratio:.2f} |", flush=True)
        for peer, why in failed.items():
            print(f"{name}: no {peer}: {why}")


if __name__ == "__main__":
    main()
