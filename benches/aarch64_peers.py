"""Peers on an emulated aarch64: a Python of that architecture with their packages, in the versions of
requirements.txt, whose instructions are counted as lmc's are.

Started by `benches/run aarch64 --peers`. Packages of Debian 12 and of the peers are unpacked below
target/bench/aarch64; nothing is installed. The peers read the processor's number from /proc and /sys,
which the emulator does not answer for: it looks into the unpacked tree first, and finds what is written
there.
"""
import glob
import os
import re
import subprocess
import sys

import models
import table

HERE = os.path.dirname(os.path.abspath(__file__))
PLACE = models.ROOT + "/target/bench/aarch64"
ROOT, SITE = PLACE + "/root", PLACE + "/site"
PEERS = ["onnxruntime", "openvino", "litert"]
PYTHON = "3.11"
DEBIAN = [f"python{PYTHON}-minimal", f"libpython{PYTHON}-minimal", f"libpython{PYTHON}-stdlib"]
DEBIAN += ["libc6", "libstdc++6", "libgcc-s1", "libexpat1", "zlib1g", "libffi8", "libbz2-1.0", "liblzma5", "libssl3"]
PACKAGES = ["numpy", "onnxruntime", "openvino", "ai-edge-litert", "backports.strenum", "flatbuffers", "tqdm", "typing_extensions"]
GLIBC = range(17, 37)
# By emulated processor: the part's number as MIDR_EL1 has it, all of Arm's.
PARTS = {"cortex-a53": 0xD03, "cortex-a72": 0xD08, "neoverse-n1": 0xD0C, "max": 0xD49}


def run(command, **options):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **options)


def install():
    """Unpacks Python and the peers, once."""
    wanted = open(HERE + "/requirements.txt").read()
    if os.path.exists(PLACE + "/done") and open(PLACE + "/done").read() == wanted:
        return
    lists, cache, packages = PLACE + "/lists", PLACE + "/cache", PLACE + "/packages"
    for folder in (lists + "/partial", cache + "/archives/partial", packages, ROOT, SITE):
        os.makedirs(folder, exist_ok=True)
    options = ["-q", "-o", "APT::Architectures::=amd64", "-o", "APT::Architectures::=arm64"]
    options += ["-o", f"Dir::State::lists={lists}", "-o", f"Dir::Cache={cache}"]
    run(["apt-get", *options, "update"])
    run(["apt-get", *options, "download", *(f"{name}:arm64" for name in DEBIAN)], cwd=packages)
    for package in glob.glob(packages + "/*.deb"):
        run(["dpkg", "-x", package, ROOT])
    pinned = [line for line in wanted.split() if line.split("==")[0] in PACKAGES]
    platforms = [word for minor in GLIBC for word in ("--platform", f"manylinux_2_{minor}_aarch64")]
    command = [sys.executable, "-m", "pip", "install", "-q", "--retries", "10", "--no-deps", "--only-binary=:all:"]
    command += ["--platform", "manylinux2014_aarch64", *platforms, "--python-version", PYTHON]
    run([*command, "--upgrade", "--target", SITE, *pinned])
    run(["aarch64-linux-gnu-gcc", "-O2", "-shared", "-fPIC", "-o", PLACE + "/timer.so", HERE + "/timer.c"])
    open(PLACE + "/done", "w").write(wanted)


def introduce(emulated):
    """Writes what the peers read of the processor: one core, with this part's number."""
    part = PARTS[emulated.split(",")[0]]
    lines = ["processor\t: 0", "Features\t: fp asimd", "CPU implementer\t: 0x41", "CPU architecture: 8"]
    lines += ["CPU variant\t: 0x0", f"CPU part\t: {part:#x}", "CPU revision\t: 0", "", ""]
    described = {"proc/cpuinfo": "\n".join(lines)}
    cpus = "sys/devices/system/cpu"
    described |= {f"{cpus}/{name}": "0\n" for name in ("possible", "present", "online")}
    described[f"{cpus}/cpu0/regs/identification/midr_el1"] = f"{0x410F0000 | part << 4:#018x}\n"
    for path, text in described.items():
        os.makedirs(os.path.dirname(f"{ROOT}/{path}"), exist_ok=True)
        open(f"{ROOT}/{path}", "w").write(text)


def count(name, folder, emulated, plugin):
    """Instructions of one inference. Three and one are counted: the difference is without what calls them."""
    table.prepare(name, folder, os.environ)
    out = f"{folder}/{name}.aarch64-{emulated.split(',')[0]}"
    os.makedirs(out, exist_ok=True)
    for path in glob.glob(folder + "/*.*"):
        link = f"{out}/{os.path.basename(path)}"
        if os.path.isfile(path) and not os.path.exists(link):
            os.symlink(path, link)
    result = f"{out}/{name}.npy"
    if os.path.lexists(result):
        os.remove(result)
    variables = {"PYTHONPATH": SITE, "BENCH_TIMER": PLACE + "/timer.so", "BENCH_COUNT": "1"}
    command = ["qemu-aarch64", "-cpu", emulated, "-L", ROOT, "-plugin", plugin]
    command += [word for pair in variables.items() for word in ("-E", "=".join(pair))]
    command += [f"{ROOT}/usr/bin/python{PYTHON}", HERE + "/peers.py", "serve", name, out]
    done = subprocess.run(command, input="1\n1\n3\n", capture_output=True, text=True)
    counts = [int(n) for n in re.findall(r"roi instructions=(\d+)", done.stderr)]
    if len(counts) != 3:
        lines = done.stderr.strip().splitlines()
        raise RuntimeError(f"ended with {done.returncode}: {lines[-1][-200:] if lines else ''}")
    table.check(out, name)
    return (counts[2] - counts[1]) / 2


def counts(entry, staged, emulated, plugin):
    """Instructions of one inference by peer, and why others have none."""
    introduce(emulated)
    counted, failed = {}, {}
    for name, folder in table.places(entry, staged, PEERS):
        peer = name.removesuffix("_int8")
        try:
            if folder is None:
                raise RuntimeError("there is no float model that it could quantize")
            counted[peer] = count(name, folder, emulated, plugin)
        except RuntimeError as error:
            failed[peer] = str(error)
    return counted, failed
