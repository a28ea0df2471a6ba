"""Compilers and engines beside the three usual runtimes: IREE, ncnn and MNN. Their loops are Python's,
which adds 1 us (MNN) to 10 us (IREE, ncnn).
"""
import os
import shutil
import subprocess
import sys

import numpy as np

from peer import Peer, package


def tool(command, **options):
    result = subprocess.run(command, timeout=1800, capture_output=True, text=True, **options)
    if result.returncode:
        raise SystemExit(f"{os.path.basename(command[0])}: {(result.stderr or result.stdout).strip()[-180:]}")


def beside_python(name):
    return os.path.dirname(sys.executable) + "/" + name


class Iree(Peer):
    """Ahead of time at -O3, with convolutions moved to channels last: the fastest of its settings."""

    def prepare(self):
        made = self.folder + "/iree.vmfb"
        if os.path.exists(made):
            return
        text = self.folder + "/iree.mlir"
        tool([beside_python("iree-import-onnx"), self.model, "-o", text])
        channels_last = "builtin.module(util.func(iree-preprocessing-convert-conv-to-channels-last))"
        options = ["--iree-hal-target-device=local", "--iree-hal-local-target-device-backends=llvm-cpu"]
        options += ["--iree-llvmcpu-target-triple=x86_64-unknown-linux-gnu", "--iree-llvmcpu-target-cpu=host"]
        options += ["--iree-opt-level=O3", "--iree-opt-data-tiling=true", f"--iree-preprocessing-pass-pipeline={channels_last}"]
        options += ["--iree-llvmcpu-stack-allocation-limit=262144"]
        tool([beside_python("iree-compile"), text, *options, "-o", made])
        os.remove(text)

    def load(self):
        import iree.runtime as rt
        config = rt.Config("local-sync")
        module = rt.VmModule.mmap(config.vm_instance, self.folder + "/iree.vmfb")
        context = rt.SystemContext(config=config, vm_modules=None)
        context.add_vm_module(module)
        names = [n for n in module.function_names if not n.startswith("__") and not n.endswith("$async")]
        function = module.lookup_function(names[0])
        self.arrays = [rt.asdevicearray(config.device, a) for a in self.inputs.values()]
        inputs = rt.VmVariantList(len(self.arrays))
        for array in self.arrays:
            inputs.push_ref(array._buffer_view)
        self.rt, self.config, self.context = rt, config, context

        def run():
            self.results = rt.VmVariantList(1)
            context.vm_context.invoke(function, inputs, self.results)

        self.run = run

    def loop(self, n):
        return self.call_python(self.run, n)

    def first(self):
        self.run()
        view = self.results.get_as_object(0, self.rt.HalBufferView)
        array = self.rt.DeviceArray(self.config.device, view, implicit_host_transfer=True)
        return np.array(array.to_host()).reshape(self.outputs[0][2])


class Ncnn(Peer):
    """As pnnx converts it; floats of 32 bits."""

    def prepare(self):
        if os.path.exists(self.folder + "/ncnn/m.ncnn.bin"):
            return
        short = {"float32": "f32", "int64": "i64", "int32": "i32"}
        shapes = ",".join(f"[{','.join(map(str, a.shape))}]{short[str(a.dtype)]}" for a in self.inputs.values())
        work = self.folder + "/ncnn"
        shutil.rmtree(work, ignore_errors=True)
        os.makedirs(work)
        shutil.copy(self.model, work + "/m.onnx")
        env = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
        tool([package("pnnx") + "/pnnx", work + "/m.onnx", "inputshape=" + shapes, "fp16=0"], cwd=work, env=env)
        if not os.path.exists(work + "/m.ncnn.bin"):
            raise SystemExit("pnnx wrote no model")

    def load(self):
        import ncnn
        net = ncnn.Net()
        net.opt.use_vulkan_compute, net.opt.num_threads = False, 1
        for option in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
            setattr(net.opt, "use_" + option, False)
        if net.load_param(self.folder + "/ncnn/m.ncnn.param") or net.load_model(self.folder + "/ncnn/m.ncnn.bin"):
            raise RuntimeError("ncnn cannot load the model")
        narrow = lambda a: a.astype(np.int32) if a.dtype == np.int64 else a
        inputs = [(f"in{i}", ncnn.Mat(np.ascontiguousarray(narrow(a)[0] if a.ndim > 1 else narrow(a))).clone()) for i, a in enumerate(self.inputs.values())]
        self.net = net

        def run():
            extractor = net.create_extractor()
            for name, value in inputs:
                extractor.input(name, value)
            status, self.result = extractor.extract("out0")
            if status:
                raise RuntimeError(f"ncnn returned {status}")

        self.run = run

    def loop(self, n):
        return self.call_python(self.run, n)

    def first(self):
        self.run()
        return np.array(self.result).reshape(self.outputs[0][2])


class Mnn(Peer):
    def prepare(self):
        made = self.folder + "/model.mnn"
        if not os.path.exists(made):
            tool([beside_python("mnnconvert"), "-f", "ONNX", "--modelFile", self.model, "--MNNModel", made, "--bizCode", "b"])

    def load(self):
        import MNN
        self.mnn, self.net = MNN, MNN.Interpreter(self.folder + "/model.mnn")
        self.session = self.net.createSession({"backend": "CPU", "numThread": 1, "precision": "high"})
        types = {"float32": MNN.Halide_Type_Float, "int32": MNN.Halide_Type_Int}
        for name, array in self.inputs.items():
            array = array.astype(np.int32) if array.dtype == np.int64 else array
            tensor = MNN.Tensor(array.shape, types[str(array.dtype)], array, MNN.Tensor_DimensionType_Caffe)
            self.net.getSessionInput(self.session, name).copyFrom(tensor)

    def loop(self, n):
        return self.call_python(lambda: self.net.runSession(self.session), n)

    def first(self):
        self.net.runSession(self.session)
        name, _, shape = self.outputs[0]
        host = self.mnn.Tensor(tuple(shape), self.mnn.Halide_Type_Float, np.zeros(shape, np.float32), self.mnn.Tensor_DimensionType_Caffe)
        self.net.getSessionOutput(self.session, name).copyToHostTensor(host)
        return np.array(host.getNumpyData()).reshape(shape).copy()


PEERS = {"iree": Iree, "ncnn": Ncnn, "mnn": Mnn}
