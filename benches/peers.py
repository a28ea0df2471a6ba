"""One runtime in one process: started by table.py.

    peers.py serve PEER FOLDER     loads FOLDER's model, writes output 0 to FOLDER/PEER.npy, prints
                                   "ready", then for each line N on stdin runs N inferences and
                                   prints their nanoseconds as a JSON list
    peers.py prepare PEER FOLDER   converts the model for the runtime, where it needs that

FOLDER holds model.onnx (static shapes), inputs.npz and outputs.json, and keeps what is converted.
"""
import ctypes as C
import glob
import json
import os
import shutil
import subprocess
import sys

import numpy as np

import engines
from peer import P, Peer, package


class Ours(Peer):
    def load(self):
        self.library = C.CDLL(self.folder + "/ours.so")
        pointers = [a.ctypes.data for a in self.inputs.values()], [a.ctypes.data for a in self.buffers()]
        self.arguments = [(P * max(1, len(p)))(*p) for p in pointers]

    def loop(self, n):
        return self.call_c(self.library.bench_run, self.arguments, n)

    def first(self):
        self.loop(1)
        return self.results[0]


class OnnxRuntime(Peer):
    """Through its C interface; the numbers are the positions of functions in OrtApi."""

    def load(self):
        library = C.CDLL(sorted(glob.glob(package("onnxruntime") + "/capi/libonnxruntime.so.*"))[0])

        class Base(C.Structure):
            _fields_ = [("get", C.CFUNCTYPE(P, C.c_uint32)), ("version", P)]

        library.OrtGetApiBase.restype = C.POINTER(Base)
        api = C.cast(library.OrtGetApiBase().contents.get(17), C.POINTER(P))

        def call(index, *arguments):
            types = [C.c_int if isinstance(a, int) else P for a in arguments]
            status = C.CFUNCTYPE(P, *types)(api[index])(*arguments)
            if status:
                raise RuntimeError(C.CFUNCTYPE(C.c_char_p, P)(api[2])(status).decode())

        env, options, session, memory = P(), P(), P(), P()
        call(3, 3, C.cast(C.c_char_p(b"bench"), P), C.byref(env))
        call(10, C.byref(options))
        call(24, options, 1)   # threads within an operator
        call(25, options, 1)   # threads between operators
        call(23, options, 99)  # all graph optimizations
        call(7, env, C.cast(C.c_char_p(self.model.encode()), P), options, C.byref(session))
        call(69, 0, 0, C.byref(memory))
        types = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6, "int64": 7, "bool": 9, "float16": 10, "float64": 11}
        make = C.CFUNCTYPE(P, P, P, C.c_size_t, P, C.c_size_t, C.c_int, P)(api[49])

        def value(array):
            made, shape = P(), (C.c_int64 * array.ndim)(*array.shape)
            if make(memory, array.ctypes.data, array.nbytes, shape, array.ndim, types[str(array.dtype)], C.byref(made)):
                raise RuntimeError("a tensor was refused")
            return made.value

        ins, outs = [value(a) for a in self.inputs.values()], [value(a) for a in self.buffers()]
        names = [(C.c_char_p * len(n))(*[t.encode() for t in n]) for n in (list(self.inputs), [o[0] for o in self.outputs])]
        self.arguments = [session.value, None, names[0], (P * len(ins))(*ins), len(ins), names[1], len(outs), (P * len(outs))(*outs)]
        self.run = P(api[9])

    def loop(self, n):
        return self.call_c(self.run, self.arguments, n)

    def first(self):
        self.loop(1)
        return self.results[0]


class OpenVino(Peer):
    def load(self):
        folder = package("openvino") + "/libs/"
        C.CDLL(sorted(glob.glob(folder + "libopenvino.so*"))[0], mode=C.RTLD_GLOBAL)
        self.library = C.CDLL(sorted(glob.glob(folder + "libopenvino_c.so*"))[0])

        def check(status):
            if status:
                raise RuntimeError(f"openvino status {status}")

        core, model, compiled, self.request = P(), P(), P(), P()
        check(self.library.ov_core_create(C.byref(core)))
        check(self.library.ov_core_read_model(core, self.model.encode(), None, C.byref(model)))
        wanted = {"INFERENCE_NUM_THREADS": "1", "NUM_STREAMS": "1", "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        words = [C.c_char_p(w.encode()) for pair in wanted.items() for w in pair]
        check(self.library.ov_core_compile_model(core, model, b"CPU", C.c_size_t(len(words)), C.byref(compiled), *words))
        check(self.library.ov_compiled_model_create_infer_request(compiled, C.byref(self.request)))

        class Shape(C.Structure):
            _fields_ = [("rank", C.c_int64), ("dims", C.POINTER(C.c_int64))]

        self.keep = []
        for i, array in enumerate(self.inputs.values()):
            default, element, shape, tensor = P(), C.c_int(), Shape(), P()
            check(self.library.ov_infer_request_get_input_tensor_by_index(self.request, C.c_size_t(i), C.byref(default)))
            check(self.library.ov_tensor_get_element_type(default, C.byref(element)))
            check(self.library.ov_shape_create(C.c_int64(array.ndim), (C.c_int64 * array.ndim)(*array.shape), C.byref(shape)))
            check(self.library.ov_tensor_create_from_host_ptr(element, shape, C.c_void_p(array.ctypes.data), C.byref(tensor)))
            check(self.library.ov_infer_request_set_input_tensor_by_index(self.request, C.c_size_t(i), tensor))
            self.keep += [array, tensor, default]

    def loop(self, n):
        return self.call_c(self.library.ov_infer_request_infer, [self.request], n)

    def first(self):
        self.loop(1)
        tensor, data = P(), P()
        self.library.ov_infer_request_get_output_tensor_by_index(self.request, C.c_size_t(0), C.byref(tensor))
        self.library.ov_tensor_data(tensor, C.byref(data))
        _, dtype, shape = self.outputs[0]
        count = int(np.prod(shape))
        raw = C.string_at(data, count * np.dtype(dtype).itemsize)
        return np.frombuffer(raw, dtype).reshape(shape)


class LiteRt(Peer):
    """LiteRT with XNNPACK, on the model as onnx2tf converts it. The loop is Python's: about 1 us."""
    file = "litert.tflite"
    converted = "model_float32.tflite"

    def options(self, work):
        """Of the conversion to the form that is measured."""
        return []

    def prepare(self):
        made = f"{self.folder}/{self.file}"
        if os.path.exists(made):
            return
        work = self.folder + "/convert"
        shutil.rmtree(work, ignore_errors=True)
        os.makedirs(work)
        # Without this file onnx2tf fetches one from the network.
        np.save(work + "/calibration_image_sample_data_20x128x128x3_float32.npy", np.zeros((20, 128, 128, 3), np.float32))
        keep = [k for k, v in self.inputs.items() if v.ndim != 4]
        command = [os.environ["BENCH_CONVERT"] + "/bin/onnx2tf", "-i", self.model, "-o", work, "-n", "-nuo", "-dsm", "-v", "error"]
        command += (["-kat", *keep] if keep else []) + self.options(work)
        env = dict(os.environ, CUDA_VISIBLE_DEVICES="", TF_CPP_MIN_LOG_LEVEL="3")
        if subprocess.run(command, cwd=work, env=env, timeout=1800).returncode:
            sys.exit("onnx2tf cannot convert it")
        if not os.path.exists(f"{work}/{self.converted}"):
            sys.exit("TensorFlow's converter cannot quantize it")
        os.rename(f"{work}/{self.converted}", made)
        shutil.rmtree(work)

    def load(self):
        from ai_edge_litert.interpreter import Interpreter
        self.interpreter = Interpreter(f"{self.folder}/{self.file}", num_threads=1)
        self.interpreter.allocate_tensors()
        for i, wanted in enumerate(self.interpreter.get_input_details()):
            named = [v for k, v in self.inputs.items() if k.replace(":", "_") in wanted["name"]]
            array = named[0] if named else list(self.inputs.values())[i]
            if array.shape != tuple(wanted["shape"]):
                turned = array.transpose(0, 2, 3, 1) if array.ndim == 4 else array
                array = turned if turned.shape == tuple(wanted["shape"]) else array.reshape(wanted["shape"])
            self.interpreter.set_tensor(wanted["index"], array.astype(wanted["dtype"]))
        self.run = self.interpreter._interpreter.Invoke

    def loop(self, n):
        return self.call_python(self.run, n)

    def first(self):
        self.run()
        _, _, shape = self.outputs[0]
        result = self.interpreter.get_tensor(self.interpreter.get_output_details()[0]["index"])
        if result.shape != tuple(shape) and result.ndim == 4:
            result = result.transpose(0, 3, 1, 2)
        return result.reshape(shape)


class LiteRtInt8(LiteRt):
    """The same, quantized by TensorFlow's converter: i8 with a scale per channel between inputs and outputs in
    float, ranges from the inputs that are measured."""
    file = "litert_int8.tflite"
    converted = "model_integer_quant.tflite"

    def options(self, work):
        options = ["-oiqt"]
        for i, (name, array) in enumerate(self.inputs.items()):
            np.save(f"{work}/samples_{i}.npy", array.transpose(0, 2, 3, 1) if array.ndim == 4 else array)
            options += ["-cind", name, f"{work}/samples_{i}.npy", "0", "1"]
        return options


PEERS = {"ours": Ours, "onnxruntime": OnnxRuntime, "openvino": OpenVino, "litert": LiteRt, "litert_int8": LiteRtInt8, **engines.PEERS}


def main():
    verb, name, folder = sys.argv[1:]
    peer = PEERS[name](folder)
    if verb == "prepare":
        peer.prepare()
        return
    # What runtimes print must not mix with our protocol.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    peer.load()
    np.save(f"{folder}/{name}.npy", np.asarray(peer.first()))
    print("ready", file=answers)
    mark = C.CDLL(None).prctl if "BENCH_COUNT" in os.environ else lambda *_: None  # for roi.c
    for line in sys.stdin:
        mark(0x524F4931, 1, 0, 0, 0)
        nanoseconds = peer.loop(int(line))
        mark(0x524F4931, 2, 0, 0, 0)
        print(json.dumps(nanoseconds), file=answers)
    answers.flush()
    os._exit(0)  # some runtimes do not end cleanly


if __name__ == "__main__":
    main()
