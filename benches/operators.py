"""One operator at a time against ONNX Runtime, at sizes as models have them.

    benches/run operators [FIRST:LAST | PART_OF_A_NAME ...]

Each row is a model of one node: the time of `lmc bench` beside onnxruntime's, one thread, the
smaller of two rounds each. What onnxruntime refuses is left out.
"""

import json
import os
import subprocess
import sys
import tempfile
import time

import numpy
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

F, I64, U8, I8 = TensorProto.FLOAT, TensorProto.INT64, TensorProto.UINT8, TensorProto.INT8
IMAGE = [1, 64, 56, 56]
SMALL = [1, 64, 28, 28]
TEXT = [1, 128, 384]
rng = numpy.random.default_rng(1)


def f(*shape):
    return rng.standard_normal(shape).astype(numpy.float32)


def ints(values, dtype=numpy.int64):
    return numpy.array(values, dtype)


def node(op, shapes, constants=(), opset=20, types=None, outputs=1, **attrs):
    """Inputs by shape, then constants; `None` among the constants is an omitted input."""
    return op, shapes, constants, opset, types, outputs, attrs


def of_four_bits(rows, level):
    """Rows by a matrix of 1024 x 2816 weights of four bits, in blocks of 32; 4: the rows may become bytes."""
    blocks = 1024 // 32
    constants = [rng.integers(0, 256, (2816, blocks, 16), numpy.uint8), abs(f(2816 * blocks)) / 50]
    return node("MatMulNBits", [[rows, 1024]], constants, K=1024, N=2816, bits=4, block_size=32,
                accuracy_level=level, domain="com.microsoft")


def of_bytes(op, shape, weights, **attrs):
    """Bytes by bytes; the result's scale keeps it within its range."""
    scale, zero = numpy.float32(0.02), numpy.uint8(128)
    narrow = rng.integers(-60, 60, weights, numpy.int8)
    result = numpy.float32(0.02 * numpy.prod(weights[1:] if op == "QLinearConv" else weights[:1]) ** 0.5)
    constants = [scale, zero, narrow, scale, numpy.int8(0), result, zero]
    return node(op, [shape], constants, types=[U8], **attrs)


def recurrent(op, gates, **attrs):
    return node(op, [[50, 1, 128]], [f(1, gates * 128, 128), f(1, gates * 128, 128), f(1, gates * 256)],
                hidden_size=128, outputs=2, **attrs)


def reductions():
    for op in ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceL2", "ReduceProd", "ReduceLogSumExp"]:
        for axes in [[1], [2], [3], [2, 3], [0, 1, 2, 3]]:
            if op in ["ReduceSum", "ReduceMax", "ReduceLogSumExp"] or axes in [[1], [2, 3]]:
                yield f"{op} {axes}", node(op, [IMAGE], [ints(axes)])


def cases():
    yield from reductions()
    for axis in [1, 2, 3]:
        for op in ["Softmax", "LogSoftmax", "ArgMax", "Hardmax"]:
            yield f"{op} axis {axis}", node(op, [SMALL], axis=axis)
        yield f"CumSum axis {axis}", node("CumSum", [SMALL], [ints(axis)])
    yield "Softmax scores", node("Softmax", [[1, 12, 128, 128]], axis=-1)
    yield "TopK 1 of 1000", node("TopK", [[1, 1000]], [ints([1])], outputs=2)
    yield "TopK 5 of 1000", node("TopK", [[1, 1000]], [ints([5])], outputs=2)
    yield "TopK 100 of 8400", node("TopK", [[1, 8400]], [ints([100])], outputs=2)
    yield "TopK 10 rows", node("TopK", [[128, 128]], [ints([10])], outputs=2)
    for perm in [[0, 2, 3, 1], [0, 3, 1, 2], [0, 1, 3, 2], [0, 2, 1, 3]]:
        yield f"Transpose {perm}", node("Transpose", [IMAGE], perm=perm)
    yield "Transpose heads", node("Transpose", [[1, 128, 12, 32]], perm=[0, 2, 1, 3])
    yield "Gather rows", node("Gather", [[128]], types=[I64], constants=[f(1000, 384)])
    yield "Gather axis 1", node("Gather", [IMAGE], [ints(range(63, -1, -2))], axis=1)
    yield "GatherElements", node("GatherElements", [[128, 256]], [rng.integers(0, 256, (128, 64))], axis=1)
    yield "GatherND", node("GatherND", [[1000, 64]], [rng.integers(0, 1000, (300, 1))])
    yield "ScatterND", node("ScatterND", [[1000, 64]], [ints([[i * 7] for i in range(128)]), f(128, 64)])
    yield "ScatterElements", node("ScatterElements", [[128, 256]],
                                  [rng.integers(0, 256, (128, 64)), f(128, 64)], axis=1)
    yield "Concat channels", node("Concat", [SMALL, SMALL], axis=1)
    yield "Concat last", node("Concat", [SMALL, SMALL], axis=3)
    yield "Split last", node("Split", [[1, 128, 1152]], [ints([384, 384, 384])], axis=-1, outputs=3)
    yield "Slice step 2", node("Slice", [IMAGE], [ints([0, 0]), ints([56, 56]), ints([2, 3]), ints([2, 2])])
    yield "Slice channels", node("Slice", [IMAGE], [ints([16]), ints([48]), ints([1])])
    yield "Pad constant", node("Pad", [IMAGE], [ints([0, 0, 1, 1, 0, 0, 1, 1])])
    yield "Pad reflect", node("Pad", [IMAGE], [ints([0, 0, 2, 2, 0, 0, 2, 2])], mode="reflect")
    yield "Pad edge", node("Pad", [IMAGE], [ints([0, 0, 2, 2, 0, 0, 2, 2])], mode="edge")
    yield "Tile", node("Tile", [[1, 64, 1, 28]], [ints([1, 1, 28, 1])])
    yield "Expand", node("Expand", [[1, 64, 1, 1]], [ints([1, 64, 56, 56])])
    yield "DepthToSpace DCR", node("DepthToSpace", [IMAGE], blocksize=2)
    yield "DepthToSpace CRD", node("DepthToSpace", [IMAGE], blocksize=2, mode="CRD")
    yield "SpaceToDepth", node("SpaceToDepth", [IMAGE], blocksize=2)
    yield "Where", node("Where", [IMAGE, IMAGE, IMAGE], types=[TensorProto.BOOL, F, F])
    yield "OneHot", node("OneHot", [[128]], types=[I64], constants=[ints(1000), f(2)])
    yield "Trilu", node("Trilu", [[12, 128, 128]])
    yield "NonZero", node("NonZero", [[128, 128]], types=[TensorProto.BOOL])
    yield "ReverseSequence", node("ReverseSequence", [[50, 1, 128]], [ints([40])])
    for op in ["Relu", "Sigmoid", "Tanh", "Exp", "Erf", "Gelu", "Softplus", "HardSwish", "HardSigmoid", "Elu",
               "LeakyRelu", "Sqrt", "Sin", "Cos", "Abs", "Floor", "Round", "Sign", "Neg", "Mish", "Selu",
               "Softsign", "Reciprocal", "Log", "Atan", "Acos", "Tan", "IsNaN", "Celu"]:
        yield op, node(op, [IMAGE])
    for op in ["Add", "Mul", "Div", "Pow", "Max", "Mod"]:
        yield op, node(op, [IMAGE, IMAGE], **({"fmod": 1} if op == "Mod" else {}))
    yield "Add channel", node("Add", [IMAGE, [1, 64, 1, 1]])
    yield "Add last", node("Add", [TEXT, [384]])
    yield "Greater", node("Greater", [IMAGE, IMAGE])
    yield "PRelu", node("PRelu", [IMAGE], [f(64, 1, 1)])
    yield "Clip", node("Clip", [IMAGE], [f(1)[0] * 0, f(1)[0] * 0 + 6])
    for to in ["FLOAT16", "INT32", "UINT8", "INT64", "BOOL", "DOUBLE"]:
        yield f"Cast {to}", node("Cast", [IMAGE], to=getattr(TensorProto, to))
    yield "Cast from u8", node("Cast", [IMAGE], types=[U8], to=F)
    for mode in ["nearest", "linear", "cubic"]:
        attrs = {"mode": mode}
        yield f"Resize {mode} up", node("Resize", [SMALL], [None, ints([1, 1, 2, 2], numpy.float32)], **attrs)
        yield f"Resize {mode} 1.5", node("Resize", [SMALL], [None, ints([1, 1, 1.5, 1.5], numpy.float32)], **attrs)
        yield f"Resize {mode} down", node("Resize", [IMAGE], [None, ints([1, 1, 0.5, 0.5], numpy.float32)], **attrs)
    for mode in ["linear", "nearest", "cubic"]:
        grid = numpy.clip(f(1, 28, 28, 2), -1, 1)
        yield f"GridSample {mode}", node("GridSample", [SMALL], [grid], mode=mode)
    window = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
    yield "MaxPool", node("MaxPool", [IMAGE], **window)
    yield "MaxPool indices", node("MaxPool", [IMAGE], outputs=2, **window)
    yield "MaxPool 2", node("MaxPool", [IMAGE], kernel_shape=[2, 2], strides=[2, 2])
    yield "MaxPool 5 of stride 1", node("MaxPool", [[1, 128, 14, 14]], kernel_shape=[5, 5], pads=[2, 2, 2, 2])
    yield "AveragePool", node("AveragePool", [IMAGE], **window)
    yield "AveragePool 7", node("AveragePool", [[1, 256, 7, 7]], kernel_shape=[7, 7])
    yield "LpPool", node("LpPool", [IMAGE], **window)
    yield "GlobalAveragePool", node("GlobalAveragePool", [IMAGE])
    yield "GlobalMaxPool", node("GlobalMaxPool", [IMAGE])
    yield "BatchNormalization", node("BatchNormalization", [IMAGE], [f(64), f(64), f(64), abs(f(64)) + 1])
    yield "InstanceNormalization", node("InstanceNormalization", [IMAGE], [f(64), f(64)])
    yield "GroupNormalization", node("GroupNormalization", [IMAGE], [f(64), f(64)], num_groups=8, opset=21)
    yield "LayerNormalization", node("LayerNormalization", [TEXT], [f(384), f(384)])
    yield "LpNormalization", node("LpNormalization", [TEXT], axis=-1)
    yield "LRN", node("LRN", [SMALL], size=5)
    yield "MeanVarianceNormalization", node("MeanVarianceNormalization", [IMAGE])
    yield "Conv 3x3", node("Conv", [SMALL], [f(64, 64, 3, 3)], pads=[1, 1, 1, 1])
    yield "Conv 1x1", node("Conv", [SMALL], [f(64, 64, 1, 1)])
    yield "Conv 1x1 to 128 channels", node("Conv", [[1, 64, 64, 64]], [f(128, 64, 1, 1)])
    yield "Conv depthwise", node("Conv", [IMAGE], [f(64, 1, 3, 3)], pads=[1, 1, 1, 1], group=64)
    yield "Conv depthwise 7", node("Conv", [IMAGE], [f(64, 1, 7, 7)], pads=[3, 3, 3, 3], group=64)
    yield "Conv groups", node("Conv", [SMALL], [f(64, 16, 3, 3)], pads=[1, 1, 1, 1], group=4)
    yield "Conv dilated", node("Conv", [SMALL], [f(64, 64, 3, 3)], pads=[2, 2, 2, 2], dilations=[2, 2])
    yield "Conv 7x7 of stride 2", node("Conv", [[1, 3, 112, 112]], [f(64, 3, 7, 7)], pads=[3, 3, 3, 3], strides=[2, 2])
    yield "Conv 1d", node("Conv", [[1, 64, 400]], [f(64, 64, 5)], pads=[2, 2])
    yield "Conv 3d", node("Conv", [[1, 16, 8, 14, 14]], [f(16, 16, 3, 3, 3)], pads=[1] * 6)
    yield "ConvTranspose 2x2", node("ConvTranspose", [SMALL], [f(64, 32, 2, 2)], strides=[2, 2])
    yield "ConvTranspose 4x4", node("ConvTranspose", [SMALL], [f(64, 32, 4, 4)], strides=[2, 2], pads=[1, 1, 1, 1])
    yield "ConvTranspose 3x3 of stride 1", node("ConvTranspose", [SMALL], [f(64, 32, 3, 3)], pads=[1, 1, 1, 1])
    yield "ConvTranspose depthwise", node("ConvTranspose", [SMALL], [f(64, 1, 4, 4)], strides=[2, 2], group=64)
    yield "MatMul 128", node("MatMul", [[128, 384]], [f(384, 384)])
    yield "MatMul vector", node("MatMul", [[1, 384]], [f(384, 1000)])
    yield "MatMul of inputs", node("MatMul", [[12, 128, 32], [12, 32, 128]])
    yield "Gemm", node("Gemm", [[1, 512]], [f(256, 512), f(256)], transB=1)
    yield "Einsum products", node("Einsum", [[1, 128, 12, 32], [1, 128, 12, 32]], equation="bihd,bjhd->bhij")
    yield "Einsum outer", node("Einsum", [[128], [256]], equation="i,j->ij")
    yield "Det", node("Det", [[16, 8, 8]])
    yield "DFT 400", node("DFT", [[1, 98, 400, 1]], [None, ints(2)], onesided=1)
    yield "DFT 512", node("DFT", [[1, 98, 512, 1]], [None, ints(2)], onesided=1)
    yield "STFT 400", node("STFT", [[1, 16000, 1]], [ints(160), f(400), ints(400)], opset=17)
    yield "LSTM", recurrent("LSTM", 4)
    yield "GRU", recurrent("GRU", 3)
    yield "GRU linear_before_reset", recurrent("GRU", 3, linear_before_reset=1)
    yield "RNN", recurrent("RNN", 1)
    boxes = abs(f(1, 1000, 4)) * 50
    yield "NonMaxSuppression", node("NonMaxSuppression", [[1, 1000, 4], [1, 1, 1000]],
                                    [ints(100), numpy.float32(0.5), numpy.float32(0.3)])
    yield "RoiAlign", node("RoiAlign", [[1, 64, 28, 28]], [boxes[0, :32], ints([0] * 32)], output_height=7,
                           output_width=7, sampling_ratio=2, opset=16)
    scale, zero = numpy.float32(0.02), numpy.uint8(128)
    yield "QuantizeLinear", node("QuantizeLinear", [IMAGE], [scale, zero])
    yield "DequantizeLinear", node("DequantizeLinear", [IMAGE], [scale, zero], types=[U8])
    yield "DynamicQuantizeLinear", node("DynamicQuantizeLinear", [TEXT], outputs=3)
    yield "MatMulInteger", node("MatMulInteger", [[128, 384]], [rng.integers(-9, 9, (384, 384), numpy.int8)], types=[U8])
    yield "QLinearConv 1x1", of_bytes("QLinearConv", SMALL, (64, 64, 1, 1))
    yield "QLinearConv 3x3", of_bytes("QLinearConv", SMALL, (64, 64, 3, 3), pads=[1, 1, 1, 1])
    yield "QLinearConv depthwise", of_bytes("QLinearConv", IMAGE, (64, 1, 3, 3), pads=[1, 1, 1, 1], group=64)
    yield "QLinearMatMul", of_bytes("QLinearMatMul", [128, 384], (384, 384))
    for rows in [1, 16, 128]:
        for level in [0, 4]:
            yield f"MatMulNBits {rows} rows, level {level}", of_four_bits(rows, level)
    yield "Unique", node("Unique", [[1000]], outputs=1, types=[I64])
    yield "Compress", node("Compress", [[1000, 64], [1000]], types=[F, TensorProto.BOOL], axis=0)
    yield "EyeLike", node("EyeLike", [[128, 128]])
    yield "Col2Im", node("Col2Im", [[1, 576, 784]], [ints([28, 28]), ints([3, 3])], pads=[1, 1, 1, 1])
    yield "MaxUnpool", node("MaxUnpool", [[1, 64, 14, 14]], [ints(range(0, 64 * 28 * 28, 4)).reshape(1, 64, 14, 14)],
                            kernel_shape=[2, 2], strides=[2, 2])


def model(case):
    op, shapes, constants, opset, types, outputs, attrs = case
    types = types or [F] * len(shapes)
    names = [f"x{i}" for i in range(len(shapes))]
    given = [helper.make_tensor_value_info(n, t, s) for n, t, s in zip(names, types, shapes)]
    tensors = [numpy_helper.from_array(numpy.asarray(c), f"c{i}") for i, c in enumerate(constants) if c is not None]
    called = [f"c{i}" if c is not None else "" for i, c in enumerate(constants)]
    inputs = called + names if op in ["Gather"] and types[0] == I64 else names + called
    results = [f"y{i}" for i in range(outputs)]
    graph = helper.make_graph([helper.make_node(op, inputs, results, **attrs)], "m", given,
                              [helper.make_empty_tensor_value_info(r) for r in results], tensors)
    versions = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=versions, ir_version=9)


def data(case):
    types = case[4] or [F] * len(case[1])
    kinds = {F: numpy.float32, I64: numpy.int64, U8: numpy.uint8, I8: numpy.int8, TensorProto.BOOL: numpy.bool_}
    made = []
    for shape, kind in zip(case[1], types):
        values = f(*shape) if kind == F else rng.integers(0, 2 if kind == TensorProto.BOOL else 100, shape)
        made.append(values.astype(kinds[kind]))
    return made


def peer(path, feeds, seconds):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    for declared, value in zip(session.get_inputs(), feeds):
        binding.bind_cpu_input(declared.name, value)
    for declared in session.get_outputs():
        binding.bind_output(declared.name, "cpu")
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 3:
        start = time.perf_counter()
        session.run_with_iobinding(binding)
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2] * 1e6


def ours(path, folder, seconds):
    command = [os.environ.get("LMC", "target/debug/lmc"), "bench", path, "--cpu", "native", "--data", folder]
    command += ["--seconds", str(seconds), "--message-format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return (done.stdout + done.stderr).strip().splitlines()[-1]
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return min(row["median_ns"] for row in found if row["reason"] == "bench") / 1e3


def main():
    wanted = sys.argv[1:]
    rows = slice(*map(int, wanted.pop(0).split(":"))) if wanted and ":" in wanted[0] else slice(None)
    seconds = float(os.environ.get("SECONDS_EACH", "0.1"))
    print("| operator | lmc us | onnxruntime us | onnxruntime / lmc |\n|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as root:
        for name, case in list(cases())[rows]:
            if wanted and not any(w in name for w in wanted):
                continue
            path = os.path.join(root, "model.onnx")
            onnx.save(model(case), path)
            feeds = data(case)
            for number, value in enumerate(feeds):
                with open(os.path.join(root, f"input_{number}.pb"), "wb") as file:
                    file.write(numpy_helper.from_array(value).SerializeToString())
            try:
                theirs = min(peer(path, feeds, seconds) for _ in range(2))
            except Exception as error:  # noqa: BLE001: whatever it refuses
                print(f"| {name} | - | {str(error).splitlines()[0][:60]} | |", flush=True)
                continue
            mine = ours(path, root, seconds)
            if isinstance(mine, str):
                print(f"| {name} | {mine[:90]} | {theirs:.1f} | |", flush=True)
                continue
            mine = min(mine, ours(path, root, seconds))
            print(f"| {name} | {mine:.1f} | {theirs:.1f} | {theirs / mine:.2f} |", flush=True)


if __name__ == "__main__":
    main()
