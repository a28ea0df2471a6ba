"""Copies of the peers that see a processor without AVX-512, for --isa avx2.

The runtimes choose their code by CPUID and some have no switch for it. In the copies, each CPUID
instruction is a breakpoint, which hide.c answers. Their own dispatch then picks its AVX2 code.
"""
import os
import re
import shutil
import struct
import subprocess
import sys

PACKAGES = ["onnxruntime", "openvino", "ai_edge_litert"]


def segments(image):
    """(virtual address, file offset, size) of the loaded parts of an ELF file."""
    start, = struct.unpack_from("<Q", image, 32)
    size, count = struct.unpack_from("<HH", image, 54)
    for i in range(count):
        kind, _, offset, address, _, length = struct.unpack_from("<IIQQQQ", image, start + i * size)
        if kind == 1:
            yield address, offset, length


def patch(path):
    image = bytearray(open(path, "rb").read())
    if image[:4] != b"\x7fELF" or b"\x0f\xa2" not in image:
        return 0
    listing = subprocess.run(["objdump", "-d", "--no-show-raw-insn", path], capture_output=True, text=True, check=True).stdout
    parts = list(segments(image))
    found = 0
    for match in re.finditer(r"^\s*([0-9a-f]+):\s+cpuid\s*$", listing, re.M):
        address = int(match[1], 16)
        at = next(address - a + o for a, o, n in parts if a <= address < a + n)
        if image[at:at + 2] == b"\x0f\xa2":
            image[at:at + 2] = b"\xcc\x90"
            found += 1
    if found:
        open(path, "wb").write(image)
    return found


def main(source, target):
    """Copies the packages from one site-packages to another folder, patched."""
    shutil.rmtree(target, ignore_errors=True)
    for package in PACKAGES:
        shutil.copytree(f"{source}/{package}", f"{target}/{package}")
        found = 0
        for folder, _, files in os.walk(f"{target}/{package}"):
            found += sum(patch(f"{folder}/{f}") for f in files if ".so" in f)
        print(f"{package}: {found} CPUID instructions replaced", file=sys.stderr)
        if not found:
            raise SystemExit(f"{package} has no CPUID instruction: how does it choose its code?")
    open(target + "/done", "w")


if __name__ == "__main__":
    main(*sys.argv[1:])
