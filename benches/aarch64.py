"""Instructions per inference on aarch64, counted exactly under emulation, and modelled cycles.

Needs no board: each model is compiled with lmc, linked with compiler/src/run/driver.c, and run by
qemu-aarch64 with the plugin roi.c. The floor of a float model is one four-lane multiply-add per
four multiply-adds. Started by `benches/run aarch64`.
"""
import argparse
import json
import os
import re
import subprocess

import numpy as np

import aarch64_peers
import mca
import models

HERE = os.path.dirname(os.path.abspath(__file__))
CACHE = models.ROOT + "/target/bench/cache"
PLUGIN = models.ROOT + "/target/bench/roi.so"
EMULATED = {"generic": "cortex-a53", "neoverse-n1": "neoverse-n1", "neoverse-n2": "max,sme=off,sve-max-vq=1"}


def link(out):
    command = ["aarch64-linux-gnu-gcc", "-std=gnu99", "-O1", "-static", "-DLMC_MODEL=model_model"]
    stub = models.ROOT + "/runtime-stub"
    command += ["-I", stub + "/include", stub + "/src/lmc.c", models.ROOT + "/compiler/src/run/driver.c"]
    subprocess.run(command + [out + "/model.o", "-o", out + "/driver"], check=True)


def count(staged, out, emulated, dump):
    """The plugin's counts of one inference."""
    inputs = np.load(staged + "/inputs.npz")
    for i, name in enumerate(inputs):
        inputs[name].tofile(f"{out}/input_{i}.bin")
    plugin = PLUGIN + (f",dump={dump}" if dump else "")
    command = ["qemu-aarch64", "-cpu", emulated, "-plugin", plugin, out + "/driver", out, "1", "count"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode or not done.stdout.startswith("0\n"):
        raise RuntimeError(f"did not run: {done.stderr.strip() or done.stdout.strip()}")
    output = json.load(open(staged + "/outputs.json"))[0]
    got = np.fromfile(out + "/output_0.bin", output["dtype"]).reshape(output["shape"])
    agreement = models.cosine(got, np.load(staged + "/reference.npy"))
    if not agreement > 0.95:
        raise RuntimeError(f"its result is wrong (cosine {agreement:.4f})")
    return {name: int(n) for name, n in re.findall(r"(\w+)=(\d+)", done.stderr)}


def main():
    parser = argparse.ArgumentParser(prog="benches/run aarch64", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="names; all of tests/models and $LMC_MODELS otherwise")
    parser.add_argument("--cpu", default="generic", help="lmc's --cpu; generic runs on an emulated cortex-a53")
    parser.add_argument("--emulated", help="the emulator's processor")
    parser.add_argument("--dtype", help="only models whose dtype begins so")
    parser.add_argument("--cycles", action="store_true", help=f"model cycles with llvm-mca ({', '.join(mca.CPUS)})")
    parser.add_argument("--peers", action="store_true", help="count onnxruntime, openvino and litert as well (a minute or more a model)")
    options = parser.parse_args()
    emulated = options.emulated or EMULATED.get(options.cpu, options.cpu)
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", HERE + "/roi.c", "-o", PLUGIN], check=True)
    if options.peers:
        aarch64_peers.install()
    print(f"million instructions per inference, lmc for --cpu {options.cpu}, emulated {emulated}\n")
    columns = "".join(f"{cpu:>13}" for cpu in mca.CPUS) if options.cycles else ""
    columns += "".join(f"{peer:>13}" for peer in aarch64_peers.PEERS) + f"{'fewest / lmc':>14}" if options.peers else ""
    print(f"{'model':28}{'all':>10}{'fmla':>10}{'dot':>10}{'mmla':>10}{'load/store':>12}{'MACs/4':>10}{'x floor':>9}{'code KB':>9}{columns}")
    notes = []
    for source, entry in models.find(options.models):
        if options.dtype and not entry["dtype"].startswith(options.dtype):
            continue
        staged = models.stage(source, entry, CACHE)
        out = f"{staged}/aarch64-{options.cpu}"
        dump = out + "/blocks" if options.cycles else None
        try:
            manifest = models.compile(staged, "aarch64", options.cpu, out)
            link(out)
            counts = count(staged, out, emulated, dump)
        except RuntimeError as error:
            notes.append(f"{entry['name']}: {error}")
            continue
        floor = entry["macs"] / 4
        million = lambda n: f"{n / 1e6:10.3f}"
        line = f"{entry['name']:28}{million(counts['instructions'])}{million(counts['fmla'])}{million(counts['dot'])}{million(counts['mmla'])}"
        line += f"{counts['load_store'] / 1e6:12.3f}{million(floor)}{counts['instructions'] / max(floor, 1):9.2f}"
        line += f"{manifest['code_bytes'] / 1024:9.1f}"
        if dump:
            line += "".join(f"{c / 1e6:13.3f}" for c in mca.cycles(dump))
        if options.peers:
            counted, failed = aarch64_peers.counts(entry, staged, emulated, PLUGIN)
            line += "".join(f"{counted[p] / 1e6:13.3f}" if p in counted else f"{'-':>13}" for p in aarch64_peers.PEERS)
            line += f"{min(counted.values()) / counts['instructions']:14.2f}" if counted else f"{'-':>14}"
            notes += [f"{entry['name']}: no {peer}: {why}" for peer, why in failed.items()]
        print(line, flush=True)
    if options.cycles:
        print("\nlast columns: million cycles modelled by llvm-mca; no cache misses, no mispredictions: ranks, not times")
    for note in notes:
        print(note)


if __name__ == "__main__":
    main()
