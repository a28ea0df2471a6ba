"""Time per inference of lmc and its peers, in one run: every runtime in a process of its own, one
thread each, in interleaved rounds; medians, and how many times faster lmc is than the fastest peer.

Started by benches/run, which installs what it needs.
"""
import argparse
import json
import math
import os
import select
import statistics
import subprocess
import sys
import sysconfig
import time

import numpy as np

import engines
import hide
import models

HERE = os.path.dirname(os.path.abspath(__file__))
CACHE = models.ROOT + "/target/bench/cache"
PEERS = ["onnxruntime", "openvino", "litert"]
ENGINES = list(engines.PEERS)


class Served:
    """A runtime that is loaded and waits."""

    def __init__(self, name, folder, env):
        self.name, self.folder, self.rounds, self.log = name, folder, [], f"{folder}/{name}.log"
        command = [sys.executable, HERE + "/peers.py", "serve", name, folder]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=open(self.log, "w"), env=env, text=True, bufsize=1)
        self.answer(600)

    def answer(self, seconds):
        end = time.time() + seconds
        while time.time() < end:
            if select.select([self.process.stdout], [], [], 1)[0]:
                line = self.process.stdout.readline()
                if line:
                    return line
                raise RuntimeError(last_line(self.log) or f"ended with {self.process.wait()}")
        self.process.kill()
        raise RuntimeError(f"no answer in {seconds} s")

    def run(self, n):
        self.process.stdin.write(f"{n}\n")
        return json.loads(self.answer(600))

    def calibrate(self, milliseconds):
        fastest = min(self.run(2))
        fastest = min(self.run(max(1, min(200, int(30e6 / fastest)))))
        self.n = max(1, min(2000, int(milliseconds * 1e6 / fastest)))

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()


def last_line(log):
    lines = open(log, errors="replace").read().strip().splitlines()
    return lines[-1][-200:] if lines else ""


def build_ours(folder, cpu):
    manifest = models.compile(folder, "native", cpu, folder + "/ours")
    command = ["gcc", "-O2", "-shared", "-fPIC", "-DLMC_MODEL=model_model", "-I", models.ROOT + "/runtime-stub/include"]
    command += [HERE + "/wrapper.c", folder + "/ours/model.o", "-o", folder + "/ours.so"]
    subprocess.run(command, check=True)
    return manifest


def prepare(name, folder, env):
    """Converts a model for a peer, where it needs that, once; RuntimeError where it cannot."""
    verdict = f"{folder}/{name}.cannot"
    if os.path.exists(verdict):
        raise RuntimeError(open(verdict).read() + f" (remembered in {os.path.relpath(verdict, models.ROOT)})")
    command = [sys.executable, HERE + "/peers.py", "prepare", name, folder]
    log = f"{folder}/{name}.prepare.log"
    if subprocess.run(command, stdout=open(log, "w"), stderr=subprocess.STDOUT, env=env).returncode:
        open(verdict, "w").write(last_line(log))
        raise RuntimeError(last_line(log))


def check(folder, name):
    """RuntimeError where a runtime's first result is not the reference."""
    agreement = models.cosine(np.load(f"{folder}/{name}.npy"), np.load(folder + "/reference.npy"))
    if not agreement > 0.95:
        raise RuntimeError(f"its result is wrong (cosine {agreement:.4f})")


def start(name, folder, env, failed):
    """Prepares and loads a peer; None, and the reason in `failed`, where it cannot."""
    try:
        prepare(name, folder, env)
        return Served(name, folder, env)
    except RuntimeError as error:
        failed[name] = str(error)
        return None


def places(entry, folder, names):
    """Each runtime's name and the folder of what it loads. LiteRT reads no quantized ONNX: it has the float model
    as its own converter quantizes it."""
    for name in names:
        if name == "litert" and entry["dtype"].startswith("int8"):
            origin = models.quantized_from(entry)
            yield "litert_int8", origin and models.stage(*origin, CACHE)
        else:
            yield name, folder


def measure(runtimes, options, env):
    """Medians in nanoseconds by runtime, and why others have none."""
    failed, served = {}, []
    for name, folder in runtimes:
        if folder is None:
            failed[name] = "there is no float model that it could quantize"
        elif started := start(name, folder, env, failed):
            served.append(started)
    for s in list(served):
        try:
            check(s.folder, s.name)
            s.calibrate(options.round_ms)
        except RuntimeError as error:
            failed[s.name] = str(error)
            s.close()
            served.remove(s)
    for _ in range(options.rounds):
        for s in served:
            s.rounds.append(statistics.median(s.run(s.n)))
    for s in served:
        s.close()
    return {s.name.removesuffix("_int8"): statistics.median(s.rounds) for s in served}, failed


def without_avx512():
    """The environment in which peers see no AVX-512: copies of them, and what answers for CPUID."""
    copies, library = models.ROOT + "/target/bench/avx2", models.ROOT + "/target/bench/hide.so"
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", HERE + "/hide.c", "-o", library], check=True)
    if not os.path.exists(copies + "/done"):
        hide.main(sysconfig.get_path("platlib"), copies)
    return {"PYTHONPATH": copies, "LD_PRELOAD": library}


def peaks():
    program = models.ROOT + "/target/bench/peak"
    subprocess.run(["gcc", "-O2", "-o", program, HERE + "/peak.c"], check=True)
    lines = subprocess.run([program], capture_output=True, text=True, check=True).stdout.split("\n")
    return {int(bits): float(rate) for bits, rate in (line.split() for line in lines if line)}


def peak_of(cpu, rates):
    """The peak at the vector width that the processor name allows."""
    if "vector=" in cpu:
        return rates[int(cpu.split("vector=")[1])]
    if cpu == "x86-64-v3":
        return rates[256]
    if cpu in ("generic", "x86-64", "x86-64-v2"):
        return rates[128]
    return max(rates.values())


def share_of_peak(entry, ours, peak):
    return 200 * entry["macs"] / ours / peak if ours and entry["dtype"] == "fp32" else None


def table(title, entries, cpu, isa, options, rates):
    """Measures some models and prints a line each; the records of what was measured."""
    names = [p for p in options.peers.split(",") if p and not (isa == "avx2" and p in ENGINES)]
    env = dict(os.environ, OMP_NUM_THREADS="1", **(without_avx512() if isa == "avx2" else {}))
    peak = peak_of(cpu, rates)
    print(f"\n{title}, lmc for --cpu {cpu}: median microseconds per inference, {options.rounds} interleaved rounds\n")
    head = f"{'model':28}{'lmc':>10}" + "".join(f"{n:>13}" for n in names)
    print(head + f"{'x fastest':>11}{'% peak':>8}{'code KB':>9}{'weights KB':>12}{'arena KB':>10}{'compile s':>11}")
    records, notes = [], []
    for source, entry in entries:
        name = entry["name"]
        folder = models.stage(source, entry, CACHE)
        try:
            manifest = build_ours(folder, cpu)
        except RuntimeError as error:
            notes.append(f"{name}: not compiled: {error}")
            continue
        medians, failed = measure(places(entry, folder, ["ours", *names]), options, env)
        notes += [f"{name}: no {peer}: {why}" for peer, why in failed.items()]
        ours = medians.pop("ours", None)
        fastest = min(medians.values(), default=None)
        ratio = fastest / ours if ours and fastest else None
        cell = lambda value, width, digits=1: f"{value:{width}.{digits}f}" if value is not None else f"{'-':>{width}}"
        micro = lambda value: value / 1e3 if value is not None else None
        line = f"{name:28}{cell(micro(ours), 10)}" + "".join(cell(micro(medians.get(n)), 13) for n in names)
        line += cell(ratio, 11, 2) + cell(share_of_peak(entry, ours, peak), 8) + cell(manifest["code_bytes"] / 1024, 9)
        line += cell(manifest["constant_bytes"] / 1024, 12) + cell(manifest["arena_bytes"] / 1024, 10) + cell(manifest["seconds"], 11, 2)
        print(line, flush=True)
        kept = ("code_bytes", "constant_bytes", "arena_bytes", "stack_bytes", "macs", "seconds")
        record = dict(model=name, dtype=entry["dtype"], cpu=cpu, isa=isa, ours=ours, peers=medians, ratio=ratio, peak=peak, **{k: manifest[k] for k in kept})
        records.append(record)
        if options.json:
            print(json.dumps(record), file=open(options.json, "a"))
    ratios = [r["ratio"] for r in records if r["ratio"]]
    if ratios:
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        print(f"\ngeometric mean of {len(ratios)} ratios: {mean:.2f}; lowest {min(ratios):.2f}")
    for note in notes:
        print(note)
    return records


def beside(title, records, pairs):
    """Compares models with their variants: time, flash, arena."""
    known = {r["model"]: r for r in records if r["ours"]}
    rows = [(known[a], known[b]) for a, b in pairs if a in known and b in known]
    if rows:
        print(f"\n{title}\n\n{'model':28}{'x faster':>10}{'flash':>8}{'arena':>8}")
    flash = lambda r: r["code_bytes"] + r["constant_bytes"]
    for plain, other in rows:
        print(f"{other['model']:28}{plain['ours'] / other['ours']:10.2f}{flash(other) / flash(plain):8.2f}{other['arena_bytes'] / plain['arena_bytes']:8.2f}")


def variants(entries):
    """Models with the name of another and what was done to it: pruned, or quantized."""
    names = [entry["name"] for _, entry in entries]
    return [(a, b) for a in names for b in names if b.startswith((a + "_pruned", a + "_int8"))]


def main():
    parser = argparse.ArgumentParser(prog="benches/run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("models", nargs="*", help="names; all of tests/models and $LMC_MODELS otherwise")
    add("--cpu", default="native", help="lmc's --cpu; peers choose their own code")
    add("--isa", choices=["all", "native", "avx2"], default="all", help="avx2: hides AVX-512 and VNNI from the peers, and lmc compiles for x86-64-v3; all: a table of each")
    add("--dtype", help="only models whose dtype begins so: fp32, int8, fp16")
    add("--peers", default=",".join(PEERS), help=f"which peers, separated by commas; {', '.join(ENGINES)} too, but they are not held to AVX2")
    add("--rounds", type=int, default=15)
    add("--round-ms", type=float, default=50, help="time one runtime gets in a round")
    add("--json", help="also append one JSON object a model to this file")
    options = parser.parse_args()
    if "BENCH_TIMER" not in os.environ:
        sys.exit("table.py is started by benches/run, which builds and installs what it needs")
    entries = [e for e in models.find(options.models) if not options.dtype or e[1]["dtype"].startswith(options.dtype)]
    rates = peaks()
    print(f"peak of one core, GFLOP/s of f32 multiply-adds: {', '.join(f'{b} bits {r}' for b, r in rates.items())}")
    for isa in ["native", "avx2"] if options.isa == "all" else [options.isa]:
        cpu = "x86-64-v3" if isa == "avx2" else options.cpu
        records = []
        for title, wanted in [("fp32", lambda d: d == "fp32"), ("int8 and fp16", lambda d: d != "fp32")]:
            chosen = [e for e in entries if wanted(e[1]["dtype"])]
            if chosen:
                records += table(f"{title}, {'all held to AVX2' if isa == 'avx2' else 'as the machine is'}", chosen, cpu, isa, options, rates)
        beside("variants beside the fp32 model", records, variants(entries))


if __name__ == "__main__":
    main()
