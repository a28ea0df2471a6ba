"""What every runtime's adapter does: `peers.py` serves them, `engines.py` has the less common ones."""
import ctypes as C
import importlib.util
import json
import os
import time

import numpy as np

P = C.c_void_p


def package(name):
    return list(importlib.util.find_spec(name).submodule_search_locations)[0]


class Peer:
    """`load` reads the model and binds inputs and outputs; `loop` runs it n times."""

    def __init__(self, folder):
        self.folder = folder
        self.model = folder + "/model.onnx"
        self.inputs = {k: np.ascontiguousarray(v) for k, v in np.load(folder + "/inputs.npz").items()}
        self.outputs = [(o["name"], o["dtype"], o["shape"]) for o in json.load(open(folder + "/outputs.json"))]
        self.timer = C.CDLL(os.environ["BENCH_TIMER"])
        self.timer.bench_loop.restype = C.c_ssize_t

    def prepare(self):
        pass

    def buffers(self):
        self.results = [np.zeros(shape, dtype) for _, dtype, shape in self.outputs]
        return self.results

    def call_c(self, function, arguments, n):
        wall = (C.c_uint64 * n)()
        words = [a if isinstance(a, int) or a is None else C.cast(a, P).value for a in arguments]
        status = self.timer.bench_loop(C.cast(function, P), (P * 8)(*words, *[None] * (8 - len(words))), C.c_long(n), wall)
        if status:
            raise RuntimeError(f"an inference returned {status}")
        return list(wall)

    def call_python(self, function, n):
        wall, clock = [0] * n, time.perf_counter_ns
        for i in range(n):
            start = clock()
            function()
            wall[i] = clock() - start
        return wall
