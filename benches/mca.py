"""Cycles as llvm-mca models them, of the blocks that roi.c dumped: the sum over basic blocks of
executions times cycles per execution. Blocks that make up 99 % of the instructions are modelled,
the rest is taken in proportion."""
import re
import shutil
import subprocess

CPUS = ["cortex-a55", "cortex-a72", "neoverse-n1"]


def tool(name):
    """llvm-mca skips instructions it has no model for since version 19."""
    found = [n for n in (f"{name}-{version}" for version in range(24, 18, -1)) if shutil.which(n)]
    if not found:
        raise SystemExit(f"{name} 19 or newer is missing: apt-get install llvm-19")
    return found[0]


def load(dump):
    """(weight, executions, instructions, bytes), heaviest first, as far as they matter."""
    rows = []
    for line in open(dump):
        _, instructions, executions, code = line.split()
        rows.append((int(instructions) * int(executions), int(executions), int(instructions), code))
    rows.sort(reverse=True)
    total, covered, kept = sum(r[0] for r in rows), 0, []
    for row in rows:
        if covered > 0.99 * total:
            break
        covered += row[0]
        kept.append(row)
    return kept, total / max(covered, 1)


def disassemble(blocks):
    lines = "".join(" ".join("0x" + b[i:i + 2] for i in range(0, len(b), 2)) + "\n" for b in blocks)
    command = [tool("llvm-mc"), "-disassemble", "-triple=aarch64", "-mattr=+all"]
    out = subprocess.run(command, input=lines, capture_output=True, text=True, check=True).stdout
    return [line.strip() for line in out.splitlines() if line.strip() and not line.strip().startswith(".text")]


def model(blocks, cpu, iterations=50):
    """Cycles of one execution of each block."""
    source = "".join(f"# LLVM-MCA-BEGIN b{i}\n" + "\n".join(b) + f"\n# LLVM-MCA-END b{i}\n" for i, b in enumerate(blocks))
    command = [tool("llvm-mca"), "-mtriple=aarch64", f"-mcpu={cpu}", "-mattr=+v8.2a,+fullfp16,+dotprod,+i8mm,+bf16"]
    command += [f"-iterations={iterations}", "-skip-unsupported-instructions=any", "-resource-pressure=0", "-instruction-info=0"]
    out = subprocess.run(command, input=source, capture_output=True, text=True, check=True).stdout
    found, region = {}, None
    for line in out.splitlines():
        if match := re.match(r"\[\d+\] Code Region - b(\d+)", line):
            region = int(match[1])
        if match := re.match(r"Total Cycles:\s+(\d+)", line):
            found[region] = int(match[1]) / iterations
    return found


def cycles(dump):
    """Modelled cycles of the whole run, one per processor of CPUS."""
    rows, scale = load(dump)
    lines = iter(disassemble([r[3] for r in rows]))
    blocks = [[next(lines) for _ in range(r[2])] for r in rows]
    totals = []
    for cpu in CPUS:
        each = model(blocks, cpu)
        totals.append(scale * sum(each.get(i, 0) * r[1] for i, r in enumerate(rows)))
    return totals
